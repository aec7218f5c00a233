//! The feed thread: moves bytes between rings, sockets and [`Writer`], which decides everything.
//!
//! Contract: each turn drains the source rings first and again between any two other pieces of work,
//! so that an announcement waits for one system call at most. Sessions, socket events and timers
//! follow in bounded slices. Owner: one pinned thread a writer; the same value is stepped by hand in
//! tests. Allocates per session (its slot, its buffers while its socket is full), never per
//! announcement and subscriber. Never blocks, takes no lock, logs nothing. Fails only at start.
//!
//! Sockets are registered once, edge-triggered, for reading and writing: a full socket then costs no
//! system call to be woken by, and an idle one none at all. The price is that every event must be
//! followed to `WouldBlock`; a socket that has more to read than its slice waits in `unread`.

mod connection;
pub(in crate::threads) mod stats;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};
use rtrb::{Consumer, Producer};
use tocsin_core::feed::counters::Distribution;
use tocsin_core::feed::history::History;
use tocsin_core::feed::writer::Writer;
use tocsin_core::time::{Mono, Now};

use self::connection::Connection;
pub use self::stats::{FeedStats, SharedDistribution};
use super::{Step, Turn};
use crate::os::alarm::{Alarm, sleep_on};
use crate::rings::{
    AcceptToFeed, LiveSession, MarketToFeed, Released, SourceToFeed, SubscriberPage, SubscriberRow,
};

/// Sessions taken over in one turn at most.
const JOINS_A_TURN: usize = 8;
/// Socket events handled in one turn at most; the kernel keeps the others.
const EVENTS_A_TURN: usize = 64;
/// Timers handled in one turn at most.
const TIMERS_A_TURN: usize = 16;
/// Messages beside announcements taken over in one turn at most.
const EXTRAS_A_TURN: usize = 8;
/// Reads from one socket in one turn at most.
const READS_A_SOCKET: usize = 4;
/// The buffer all reads of a thread share.
const READ_BUFFER_BYTES: usize = 16 * 1_024;
/// What wakes the thread is reported as this; slots are numbered in 32 bits.
const ALARM: Token = Token(usize::MAX);
/// How often counters are published.
const PUBLISH_PERIOD: Duration = Duration::from_millis(250);

/// The rings a feed thread sits between.
pub struct FeedRings {
    /// One from each source thread.
    pub sources: Vec<Consumer<SourceToFeed>>,
    /// From the market thread, where there is one.
    pub market: Option<Consumer<MarketToFeed>>,
    /// From the accept thread.
    pub accept: Consumer<AcceptToFeed>,
    /// Back to the accept thread.
    pub released: Producer<Released>,
    /// Pages of subscribers back to the control thread.
    pub looked: Producer<Box<SubscriberPage>>,
}

/// Reads both clocks. A parameter, so that tests can bring their own.
pub type Clock = Box<dyn FnMut() -> Now + Send>;

/// See the module head.
pub struct FeedThread {
    rings: FeedRings,
    clock: Clock,
    writer: Writer<Connection>,
    poll: Poll,
    alarm: Arc<Alarm>,
    /// `None` only while events are handled.
    events: Option<Events>,
    /// Sockets that have more to read than their slice.
    unread: VecDeque<u32>,
    /// Waits for room in the ring; empty when the ring is as deep as it should be.
    unreleased: VecDeque<Released>,
    /// The page that is being filled.
    look: Option<Box<SubscriberPage>>,
    /// A page that waits for room in its ring.
    unsent_look: Option<Box<SubscriberPage>>,
    buffer: Box<[u8]>,
    stats: Arc<FeedStats>,
    first_ns: Distribution,
    last_ns: Distribution,
    next_publish: Mono,
}

impl FeedThread {
    /// A writer with nobody connected. `history` is what the store loaded of earlier starts; `seed`
    /// any number.
    ///
    /// # Errors
    /// The kernel gives no epoll instance.
    pub fn new(
        rings: FeedRings,
        history: History,
        stats: Arc<FeedStats>,
        seed: u64,
        mut clock: Clock,
    ) -> io::Result<FeedThread> {
        let now = clock();
        let poll = Poll::new()?;
        let alarm = Arc::new(Alarm::new(&poll, ALARM)?);
        Ok(FeedThread {
            rings,
            clock,
            writer: Writer::new(now.mono, history, seed),
            poll,
            alarm,
            events: Some(Events::with_capacity(EVENTS_A_TURN)),
            unread: VecDeque::with_capacity(EVENTS_A_TURN),
            unreleased: VecDeque::new(),
            look: None,
            unsent_look: None,
            buffer: vec![0; READ_BUFFER_BYTES].into_boxed_slice(),
            stats,
            first_ns: Distribution::default(),
            last_ns: Distribution::default(),
            next_publish: now.mono,
        })
    }

    /// For the source threads, where this one may sleep.
    #[must_use]
    pub fn alarm(&self) -> Arc<Alarm> {
        Arc::clone(&self.alarm)
    }

    /// Everything the source rings hold, in order; what waits together leaves together, stamped as
    /// its fan-out starts.
    fn announcements(&mut self, now: Mono) -> usize {
        let mut work = 0;
        loop {
            work += self.drain_source_rings(now);
            let Some(announcement) = self.writer.next_in_order(now) else { return work };
            let start = (self.clock)();
            let (clock, first_ns) = (&mut self.clock, &mut self.first_ns);
            let sent = self.writer.broadcast(start, announcement, &mut |count| {
                let taken = clock().mono.0.saturating_sub(start.mono.0);
                (0..count).for_each(|_| first_ns.record(taken));
            });
            if sent.announcements > 0 {
                let taken = (self.clock)().mono.0.saturating_sub(start.mono.0);
                (0..sent.announcements).for_each(|_| self.last_ns.record(taken));
            }
        }
    }

    fn drain_source_rings(&mut self, now: Mono) -> usize {
        let mut taken = 0;
        for ring in &mut self.rings.sources {
            while self.writer.has_room() {
                match ring.pop() {
                    Ok(SourceToFeed::Announcement(announcement)) => self.writer.take(now, announcement),
                    Ok(SourceToFeed::Status(status)) => {
                        let now = (self.clock)();
                        self.writer.source_status(now, status);
                    }
                    Err(_) => break,
                }
                taken += 1;
            }
        }
        taken
    }

    fn joins(&mut self, now: Now) -> usize {
        let mut work = 0;
        while work < JOINS_A_TURN {
            match self.rings.accept.pop() {
                Ok(AcceptToFeed::Join(session)) => self.join(now, *session),
                Ok(AcceptToFeed::Revoke(key)) => self.writer.revoke(now, key),
                Ok(AcceptToFeed::Expiry(key, at)) => self.writer.set_expiry(now, key, at),
                Ok(AcceptToFeed::Drain(until)) => self.writer.drain(now.mono, until),
                // One is asked for at a time; whoever asks again has given the one before up.
                Ok(AcceptToFeed::Look(page)) => self.look = Some(page),
                Err(_) => break,
            }
            work += 1;
            work += self.announcements(now.mono);
        }
        work
    }

    fn join(&mut self, now: Now, session: LiveSession) {
        let LiveSession { mut stream, subscription, greeting, mut early_bytes, address, .. } = session;
        let token = Token(self.writer.next_slot() as usize);
        let interests = Interest::READABLE | Interest::WRITABLE;
        if self.poll.registry().register(&mut stream, token, interests).is_err() {
            // Nobody was told of it yet: as if the handshake had failed.
            self.unreleased.push_back(Released { address, key: subscription.key.id });
            return;
        }
        let connection = Connection::new(stream, address);
        let slot = self.writer.join(now, connection, subscription, &greeting, &mut early_bytes);
        // What arrived before the registration, and plaintext a TLS session holds, announces itself
        // by no event.
        self.unread.push_back(slot);
    }

    fn socket_events(&mut self, now: Now) -> usize {
        let Some(mut events) = self.events.take() else { return 0 };
        let mut work = 0;
        // An interrupted or failed wait is an empty one; the next turn waits again.
        if self.poll.poll(&mut events, Some(Duration::ZERO)).is_ok() {
            for event in events.iter().filter(|event| event.token() != ALARM) {
                // Slots are numbered in 32 bits, and only slots are registered.
                let slot = event.token().0 as u32;
                if event.is_writable() {
                    self.writer.writable(now, slot);
                }
                if event.is_readable() || event.is_read_closed() || event.is_error() {
                    self.read(now, slot);
                }
                work += 1;
                work += self.announcements(now.mono);
            }
        }
        self.events = Some(events);
        work
    }

    fn leftovers(&mut self, now: Now) -> usize {
        let waiting = self.unread.len().min(EVENTS_A_TURN);
        let mut work = 0;
        for _ in 0..waiting {
            let Some(slot) = self.unread.pop_front() else { break };
            self.read(now, slot);
            work += 1;
            work += self.announcements(now.mono);
        }
        work
    }

    /// Reads until the socket has no more or its slice is used up.
    fn read(&mut self, now: Now, slot: u32) {
        for _ in 0..READS_A_SOCKET {
            let Some(connection) = self.writer.socket_mut(slot) else { return };
            match connection.read(&mut self.buffer) {
                Ok(0) => return self.writer.end_of_stream(now, slot),
                Ok(count) => {
                    let bytes = self.buffer.get_mut(..count).unwrap_or_default();
                    self.writer.received(now, slot, bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return self.writer.failed(now, slot),
            }
        }
        // Rare, and short: only sockets that bring more than a slice at once are in it.
        if !self.unread.contains(&slot) {
            self.unread.push_back(slot);
        }
    }

    /// Drops ended connections and gives their limits back, exactly once each.
    fn release(&mut self) {
        while let Some(ended) = self.writer.pop_ended() {
            self.unreleased.push_back(Released { address: ended.socket.address(), key: ended.key });
        }
        while let Some(released) = self.unreleased.pop_front() {
            if let Err(rtrb::PushError::Full(released)) = self.rings.released.push(released) {
                self.unreleased.push_front(released);
                break;
            }
        }
    }

    /// Fills a slice of the page that was asked for; no memory is taken, its rows have room.
    fn look(&mut self) -> usize {
        let mut work = 0;
        if let Some(mut page) = self.look.take() {
            let SubscriberPage { next, rows, most, .. } = &mut *page;
            *next = next.and_then(|from| {
                self.writer.look(from, |row, connection| {
                    rows.push(SubscriberRow { row, address: connection.address() });
                    rows.len() < *most
                })
            });
            let finished = page.next.is_none() || page.rows.len() >= page.most;
            *if finished { &mut self.unsent_look } else { &mut self.look } = Some(page);
            work = 1;
        }
        if let Some(page) = self.unsent_look.take()
            && let Err(rtrb::PushError::Full(page)) = self.rings.looked.push(page)
        {
            self.unsent_look = Some(page);
        }
        work
    }

    /// Messages beside announcements, at the end of a turn and sent in the next one's housekeeping: what is
    /// taken here of an announcement was put into its ring after that announcement, which the next turn
    /// therefore finds before.
    fn extras(&mut self) -> usize {
        let Some(market) = &mut self.rings.market else { return 0 };
        let mut taken = 0;
        while taken < EXTRAS_A_TURN
            && let Ok(MarketToFeed(extra)) = market.pop()
        {
            self.writer.extra(extra);
            taken += 1;
        }
        taken
    }

    fn publish(&mut self, now: Mono) {
        if now >= self.next_publish {
            self.next_publish = now + PUBLISH_PERIOD;
            self.stats.publish(self.writer.counters(), &self.first_ns, &self.last_ns);
        }
    }
}

impl Step for FeedThread {
    fn step(&mut self, now: Now) -> Turn {
        let mut work = self.announcements(now.mono);
        work += self.joins(now);
        work += self.socket_events(now);
        work += self.leftovers(now);
        work += self.writer.housekeep(now, TIMERS_A_TURN);
        work += self.look();
        work += self.extras();
        self.release();
        self.publish(now.mono);
        let more = !self.unread.is_empty() || !self.unreleased.is_empty() || self.look.is_some();
        let deadline = if more { now.mono } else { self.writer.deadline() };
        Turn { work, deadline }
    }

    /// An announcement wakes it, and what a subscriber says. While nobody is there to hear it, an announcement
    /// waits for the end of the sleep: its source is spared a system call, and the thread that it wakes for
    /// webhooks need not wait for this one to leave a core.
    fn sleep(&mut self, longest: Duration) {
        let FeedThread { rings, poll, alarm, writer, .. } = self;
        if !writer.has_subscribers() {
            return sleep_on(poll, longest);
        }
        alarm.sleep(poll, longest, || rings.sources.iter().any(|ring| !ring.is_empty()));
    }

    fn finish(&mut self, now: Now) {
        self.release();
        self.next_publish = now.mono;
        self.publish(now.mono);
    }
}

#[cfg(test)]
mod tests;
