//! The simulated accept and feed threads around the core's admission and feed writer.
//!
//! Contract: a turn does what the engine's feed thread does, in its order: announcements first and between any
//! two other pieces of work, sessions and revocations in the order of their ring, socket events in slices,
//! timers, releases. Beside that it notes what went out when, for the checkers. Owner: the world.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use core::time::Duration;

use tocsin_core::feed::admission::decide::Admitted;
use tocsin_core::feed::close::CloseReason;
use tocsin_core::feed::history::History;
use tocsin_core::feed::key::KeyId;
use tocsin_core::feed::writer::Writer;
use tocsin_core::model::FeedPosition;
use tocsin_core::time::{Mono, Now, WallUs};
use tocsin_core::wire::EncodedAnnouncement;

use super::pipe::{Outbox, Pipe};
use super::plant::Plant;

/// Sessions taken over in one turn at most.
const JOINS: usize = 8;
/// Socket events handled in one turn at most.
const EVENTS: usize = 64;
const TIMERS: usize = 16;
const READS: usize = 4;

/// From the accept thread to a feed writer.
pub(super) enum ToWriter {
    Join { connection: u64, admitted: Box<Admitted>, pipe: Pipe, early: Vec<u8> },
    Revoke(KeyId),
    Expiry(KeyId, Option<WallUs>),
    Drain(Mono),
}

/// What a socket announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ready {
    Read,
    Write,
}

/// What has arrived for a session and has not been read.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    pub(super) bytes: VecDeque<u8>,
    /// The peer sends nothing more.
    pub(super) end: bool,
    pub(super) reset: bool,
}

/// An announcement that went out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) position: FeedPosition,
    pub(super) at: Mono,
    pub(super) wall: WallUs,
    pub(super) late: bool,
}

/// What a turn tells the world.
#[derive(Debug)]
pub(super) enum Told {
    /// A session is in the set; so much had gone out before.
    Joined {
        connection: u64,
        sent: usize,
    },
    Ended {
        connection: u64,
        reason: CloseReason,
        key: KeyId,
        pipe: Pipe,
    },
}

/// See the module head.
pub(super) struct Feed {
    pub(super) writer: Writer<Pipe>,
    pub(super) from_sources: Vec<VecDeque<Arc<EncodedAnnouncement>>>,
    pub(super) accept: VecDeque<ToWriter>,
    pub(super) ready: VecDeque<(u64, Ready)>,
    pub(super) inboxes: BTreeMap<u64, Inbox>,
    slots: BTreeMap<u64, u32>,
    /// Taken off a ring and not sent.
    taken: BTreeMap<u64, Arc<EncodedAnnouncement>>,
    /// What history held at start, then what went out: all in the order of the writer's memory.
    pub(super) remembered: Vec<Sent>,
    pub(super) told: Vec<Told>,
    /// Planted: announcements wait until then.
    starved: Mono,
    epoch: u64,
    pub(super) buckets: BTreeMap<u64, IpAddr>,
}

impl Feed {
    pub(super) fn new(
        now: Now,
        (epoch, capacity): (u64, usize),
        history: &[Arc<EncodedAnnouncement>],
        sources: usize,
        seed: u64,
    ) -> Feed {
        let complete = history.len() < capacity;
        let newest = history.get(history.len().saturating_sub(capacity)..).unwrap_or_default();
        let loaded = newest.iter().map(|encoded| Sent {
            position: encoded.announcement.position,
            at: Mono(0),
            wall: WallUs(0),
            late: encoded.announcement.late,
        });
        Feed {
            writer: Writer::new(
                now.mono,
                History::new(epoch, capacity, newest.iter().cloned(), complete),
                seed,
            ),
            from_sources: (0..sources).map(|_| VecDeque::new()).collect(),
            accept: VecDeque::new(),
            ready: VecDeque::new(),
            inboxes: BTreeMap::new(),
            slots: BTreeMap::new(),
            taken: BTreeMap::new(),
            remembered: loaded.collect(),
            told: Vec::new(),
            starved: Mono(0),
            epoch,
            buckets: BTreeMap::new(),
        }
    }

    /// One turn; whether there is more to be done at once.
    pub(super) fn turn(&mut self, now: Now, plant: Option<Plant>) -> bool {
        if plant == Some(Plant::HeartbeatsFirst) {
            if self.writer.housekeep(now, TIMERS) > 0 {
                self.starved = now.mono + Duration::from_secs(2);
            }
            if now.mono < self.starved {
                return false;
            }
        }
        self.announcements(now);
        self.joins(now, plant);
        self.events(now);
        let done = self.writer.housekeep(now, TIMERS);
        self.release();
        done >= TIMERS || !self.accept.is_empty() || !self.ready.is_empty()
    }

    fn announcements(&mut self, now: Now) {
        loop {
            for ring in &mut self.from_sources {
                while self.writer.has_room() {
                    let Some(encoded) = ring.pop_front() else { break };
                    self.taken.insert(encoded.announcement.position.seq, Arc::clone(&encoded));
                    self.writer.take(now.mono, encoded);
                }
            }
            let Some(next) = self.writer.next_in_order(now.mono) else { return };
            let count = |feed: &Feed| feed.writer.counters().announcements + feed.writer.counters().late;
            let before = count(self);
            self.writer.broadcast(now, next, &mut |_| {});
            for _ in before..count(self) {
                let Some((_, encoded)) = self.taken.pop_first() else { break };
                let a = &encoded.announcement;
                self.remembered.push(Sent {
                    position: a.position,
                    at: now.mono,
                    wall: now.wall,
                    late: a.late,
                });
            }
        }
    }

    fn joins(&mut self, now: Now, plant: Option<Plant>) {
        for _ in 0..JOINS {
            match self.accept.pop_front() {
                None => return,
                Some(ToWriter::Join { connection, admitted, pipe, mut early }) => {
                    let sent = self.remembered.len();
                    let Admitted { mut subscription, mut greeting, bucket } = *admitted;
                    if plant == Some(Plant::ResumeOffByOne)
                        && let Some(position) = &mut subscription.resume
                    {
                        position.seq += 1;
                    }
                    let told = Told::Joined { connection, sent };
                    self.told.push(told);
                    self.buckets.insert(connection, bucket);
                    let slot = self.writer.join(now, pipe, subscription, &greeting, &mut early);
                    greeting.clear();
                    self.slots.insert(connection, slot);
                    self.inboxes.entry(connection).or_default();
                    // What arrived before the registration announces itself by no event.
                    self.ready.push_back((connection, Ready::Read));
                }
                Some(ToWriter::Revoke(key)) => self.writer.revoke(now, key),
                Some(ToWriter::Expiry(key, at)) => self.writer.set_expiry(now, key, at),
                Some(ToWriter::Drain(until)) => self.writer.drain(now.mono, until),
            }
            self.announcements(now);
        }
    }

    fn events(&mut self, now: Now) {
        for _ in 0..self.ready.len().min(EVENTS) {
            let Some((connection, ready)) = self.ready.pop_front() else { return };
            let Some(slot) = self.slot(connection) else { continue };
            match ready {
                Ready::Write => self.writer.writable(now, slot),
                Ready::Read => self.read(now, connection, slot),
            }
            self.announcements(now);
        }
    }

    fn read(&mut self, now: Now, connection: u64, slot: u32) {
        for _ in 0..READS {
            let Some(inbox) = self.inboxes.get_mut(&connection) else { return };
            if inbox.reset {
                return self.writer.failed(now, slot);
            }
            if inbox.bytes.is_empty() {
                if inbox.end {
                    self.writer.end_of_stream(now, slot);
                }
                return;
            }
            // Reads end where the network's pieces do, more or less.
            let count = inbox.bytes.len().min(512);
            let mut bytes: Vec<u8> = inbox.bytes.drain(..count).collect();
            self.writer.received(now, slot, &mut bytes);
            if self.slot(connection).is_none() {
                return;
            }
        }
        self.ready.push_back((connection, Ready::Read));
    }

    /// The slot of a connection, while it is a session's.
    fn slot(&mut self, connection: u64) -> Option<u32> {
        let slot = *self.slots.get(&connection)?;
        self.writer.socket_mut(slot).is_some_and(|pipe| pipe.connection == connection).then_some(slot)
    }

    /// The pipe of a live session.
    pub(super) fn pipe(&mut self, connection: u64) -> Option<&mut Pipe> {
        let slot = self.slot(connection)?;
        self.writer.socket_mut(slot)
    }

    fn release(&mut self) {
        while let Some(ended) = self.writer.pop_ended() {
            let connection = ended.socket.connection;
            self.slots.remove(&connection);
            self.inboxes.remove(&connection);
            self.told.push(Told::Ended {
                connection,
                reason: ended.reason,
                key: ended.key,
                pipe: ended.socket,
            });
        }
    }

    /// The position before the first of this life.
    pub(super) const fn writer_epoch(&self) -> FeedPosition {
        FeedPosition { epoch: self.epoch, seq: 0 }
    }

    /// Sessions in the set.
    pub(super) fn connections(&self) -> BTreeSet<u64> {
        self.slots.keys().copied().collect()
    }
}

/// A pipe for a new connection.
pub(super) fn pipe(connection: u64, room: usize, tls: bool, outbox: &Outbox, plant: Option<Plant>) -> Pipe {
    Pipe::new(connection, room, tls, outbox, plant == Some(Plant::ForgottenStamp))
}
