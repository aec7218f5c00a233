//! The engine's own feed thread, stepped by the bench.
//!
//! Contract: [`Engine`] is the thread with its rings, unchanged; the clock it is given also notes what
//! it read, and that is how the bench knows the instants: the feed thread reads it as a fan-out
//! starts, after the first subscriber's write and after the last one's. Owner: whoever steps it; a
//! [`Pen`] (the ring's other end) may be elsewhere. Noting costs two relaxed stores, three times an
//! announcement.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rtrb::{Consumer, Producer, RingBuffer};
use tocsin::net::Stream;
use tocsin::rings::{AcceptToFeed, LiveSession, Released, SourceToFeed};
use tocsin::threads::Step;
use tocsin::threads::feed::{FeedRings, FeedStats, FeedThread};
use tocsin::topology::SOURCE_TO_FEED;
use tocsin_core::feed::history::History;
use tocsin_core::limits;
use tocsin_core::wire::EncodedAnnouncement;
use tocsin_core::ws::Opcode;
use tocsin_core::ws::frame::write_frame;

use tocsin::os::clock;

use super::frames::{EPOCH, announcement, subscription};

/// Readings remembered: those of the largest burst, and more.
const NOTED: usize = 256;

/// The clock's last readings.
#[derive(Debug)]
pub struct Stamps {
    count: AtomicU64,
    readings: [AtomicU64; NOTED],
}

impl Stamps {
    fn new() -> Stamps {
        Stamps { count: AtomicU64::new(0), readings: [const { AtomicU64::new(0) }; NOTED] }
    }

    fn note(&self, at: u64) {
        let count = self.count.load(Ordering::Relaxed);
        if let Some(reading) = self.readings.get((count % NOTED as u64) as usize) {
            reading.store(at, Ordering::Relaxed);
        }
        // One writer; whoever sees the count sees the reading.
        self.count.store(count + 1, Ordering::Release);
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    fn at(&self, index: u64) -> u64 {
        let reading = self.readings.get((index % NOTED as u64) as usize);
        reading.map_or(0, |reading| reading.load(Ordering::Relaxed))
    }

    /// After the first and after the last write of the announcements whose readings came after
    /// `before` of them.
    ///
    /// # Errors
    /// There were fewer than a fan-out takes: nobody was sent anything.
    pub fn since(&self, before: u64) -> Result<(u64, u64), String> {
        let count = self.count();
        if count < before + 3 {
            return Err("the engine sent nobody anything".to_owned());
        }
        Ok((self.at(before + 1), self.at(count - 1)))
    }
}

/// Writes into the engine's source ring.
pub struct Pen {
    source: Producer<SourceToFeed>,
    seq: u64,
}

impl Pen {
    /// The next announcement, serialized, with `number` in its title. Each must be pushed, in order.
    ///
    /// # Errors
    /// As [`announcement`].
    pub fn next(&mut self, number: u64) -> Result<Arc<EncodedAnnouncement>, String> {
        self.seq += 1;
        announcement(self.seq, number, clock::wall())
    }

    /// Into the ring.
    ///
    /// # Errors
    /// It is full.
    pub fn push(&mut self, announcement: Arc<EncodedAnnouncement>) -> Result<(), String> {
        let pushed = self.source.push(SourceToFeed::Announcement(announcement));
        pushed.map_err(|_| "the engine's source ring is full".to_owned())
    }
}

/// See the module head.
pub struct Engine {
    thread: FeedThread,
    accept: Producer<AcceptToFeed>,
    released: Consumer<Released>,
    stamps: Arc<Stamps>,
    gone: usize,
}

impl Engine {
    /// With nobody connected, and the pen that writes to it.
    ///
    /// # Errors
    /// The kernel gives no epoll instance.
    pub fn new(subscribers: usize, seed: u64) -> Result<(Engine, Pen), String> {
        let (source, from_source) = RingBuffer::new(SOURCE_TO_FEED);
        let (accept, from_accept) = RingBuffer::new(64);
        let (to_accept, released) = RingBuffer::new(subscribers.max(1));
        let rings = FeedRings {
            market: None,
            sources: vec![from_source],
            accept: from_accept,
            released: to_accept,
            looked: RingBuffer::new(2).0,
        };
        let stamps = Arc::new(Stamps::new());
        let noted = Arc::clone(&stamps);
        let read = move || {
            let now = clock::now();
            noted.note(now.mono.0);
            now
        };
        let history = History::new(EPOCH, limits::HISTORY_IN_MEMORY, [], true);
        let thread = FeedThread::new(rings, history, Arc::new(FeedStats::default()), seed, Box::new(read));
        let thread = thread.map_err(|e| e.to_string())?;
        Ok((Engine { thread, accept, released, stamps, gone: 0 }, Pen { source, seq: 0 }))
    }

    /// Hands over a session whose handshakes are done, as the accept thread does.
    ///
    /// # Errors
    /// The ring is full, which it never is: it is emptied here.
    pub fn join(&mut self, stream: Stream) -> Result<(), String> {
        let mut greeting = Vec::new();
        write_frame(&mut greeting, Opcode::Binary, br#"{"type":"welcome"}"#, None);
        let session = LiveSession {
            stream,
            subscription: subscription(),
            greeting,
            early_bytes: Vec::new(),
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            accepted_at: clock::mono(),
        };
        let joined = self.accept.push(AcceptToFeed::Join(Box::new(session)));
        joined.map_err(|_| "the engine's accept ring is full".to_owned())?;
        self.step();
        Ok(())
    }

    /// One turn, as in [`tocsin::threads::run_loop`].
    pub fn step(&mut self) {
        self.thread.step(clock::now());
    }

    /// What its clock read.
    #[must_use]
    pub fn stamps(&self) -> Arc<Stamps> {
        Arc::clone(&self.stamps)
    }

    /// Nobody must leave while measured.
    ///
    /// # Errors
    /// Somebody did.
    pub fn all_there(&mut self) -> Result<(), String> {
        while self.released.pop().is_ok() {
            self.gone += 1;
        }
        if self.gone == 0 { Ok(()) } else { Err(format!("the engine lost {} subscribers", self.gone)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_and_last_of_the_readings() {
        let stamps = Stamps::new();
        for at in 0..NOTED as u64 + 10 {
            stamps.note(at);
        }
        let before = stamps.count();
        assert!(stamps.since(before).is_err());
        for at in [500, 501, 502, 503, 504, 505] {
            stamps.note(at);
        }
        assert_eq!(stamps.since(before), Ok((501, 505)));
    }

    #[test]
    fn an_engine_without_subscribers_sends_nothing_and_says_so() {
        let (mut engine, mut pen) = Engine::new(1, 7).unwrap();
        let before = engine.stamps().count();
        let announcement = pen.next(1).unwrap();
        pen.push(announcement).unwrap();
        engine.step();
        assert!(engine.stamps().since(before).is_err());
        engine.all_there().unwrap();
    }
}
