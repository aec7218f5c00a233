//! A feed writer: all subscribers of one thread, what they share, and the order of its work.
//!
//! Contract: sans-I/O but for [`Socket::offer`] on the connections it is given. The thread around it
//! brings announcements, sessions and readiness, and takes back ended connections. Owner: one feed
//! thread. An announcement costs no allocation and, per subscriber whose socket has room, one offer.
//! Everything else is done in slices whose bound the caller gives, so that no announcement waits
//! behind a burst of it. Failures end subscribers, never the writer.

use std::collections::VecDeque;
use std::sync::Arc;

use super::burst::{Joined, Wanted};
use super::close::CloseReason;
use super::counters::Counters;
use super::extras::ExtraQueue;
use super::frame_log::{Class, ClassSet, FrameLog};
use super::history::History;
use super::key::KeyId;
use super::look::Row;
use super::order::SeqMerge;
use super::outlet::Mode;
use super::rotation::Rotation;
use super::slots::Slots;
use super::socket::Socket;
use super::subscriber::{Fate, Random, Shared, Subscriber};
use super::subscription::Subscription;
use super::timers::TimerWheel;
use crate::limits;
use crate::source::SourceStatus;
use crate::time::{Mono, Now, WallUs};
use crate::wire::EncodedAnnouncement;
use crate::wire::extra::Extra;

/// See the module head.
#[derive(Debug)]
pub struct Writer<S> {
    slots: Slots<Subscriber<S>>,
    shared: Shared,
    merge: SeqMerge<Arc<EncodedAnnouncement>>,
    wheel: TimerWheel,
    /// Subscribers per class: frames are made only for classes that have any.
    class_counts: [u32; Class::COUNT],
    /// In which order the next fan-out goes.
    rotation: Rotation,
    /// The oldest log index that a subscriber left behind by the last fan-out needs.
    oldest_needed: u64,
    sweeps: VecDeque<Sweep>,
    extras: ExtraQueue,
    drain: Option<Drain>,
    ended: VecDeque<Ended<S>>,
}

/// A connection to drop, and whose limits are free again.
#[derive(Debug)]
pub struct Ended<S> {
    /// The connection, its sending side ended.
    pub socket: S,
    /// Its key.
    pub key: KeyId,
    /// Why it ended.
    pub reason: CloseReason,
}

/// What a fan-out did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FanOut {
    /// How many announcements were for anyone.
    pub announcements: u16,
    /// How many subscribers each of them was for, all together.
    pub deliveries: usize,
}

/// Something every subscriber is to be looked at for, a slice a turn.
#[derive(Debug)]
struct Sweep {
    what: Change,
    next: u32,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Revoked(KeyId),
    Expiry(KeyId, Option<WallUs>),
    Source(SourceStatus),
}

/// Everyone is closed, in the order of their numbers, evenly until an instant.
#[derive(Clone, Copy, Debug)]
struct Drain {
    from: Mono,
    until: Mono,
    next: u32,
}

impl<S: Socket> Writer<S> {
    /// An empty writer. `seed` spreads phases and draws test announcements.
    #[must_use]
    pub fn new(now: Mono, history: History, seed: u64) -> Writer<S> {
        Writer {
            slots: Slots::default(),
            shared: Shared {
                log: FrameLog::new(limits::FRAME_LOG_BYTES, limits::FRAME_LOG_ENTRIES),
                history,
                sources: Vec::with_capacity(limits::SOURCES_REPORTED),
                counters: Counters::default(),
                random: Random::new(seed),
                joined: Joined::default(),
                frames: Vec::with_capacity(64 * 1_024),
                json: Vec::with_capacity(16 * 1_024),
            },
            merge: SeqMerge::new(1, limits::ORDER_BUFFER, limits::ORDER_PATIENCE),
            wheel: TimerWheel::new(now, 1_024),
            class_counts: [0; Class::COUNT],
            rotation: Rotation::default(),
            oldest_needed: u64::MAX,
            sweeps: VecDeque::with_capacity(limits::SWEEPS),
            extras: ExtraQueue::new(),
            drain: None,
            ended: VecDeque::new(),
        }
    }

    /// What happened so far.
    pub const fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Whether anybody is there, those that are being closed too.
    #[must_use]
    pub fn has_subscribers(&self) -> bool {
        !self.slots.is_empty()
    }

    // ---- Announcements -----------------------------------------------------------------------

    /// Whether another announcement may be taken off a ring before the next
    /// [`Writer::next_in_order`].
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.merge.has_room()
    }

    /// Takes an announcement off a source's ring.
    pub fn take(&mut self, now: Mono, announcement: Arc<EncodedAnnouncement>) {
        self.merge.push(now, announcement.announcement.position.seq, announcement);
    }

    /// The next announcement to fan out.
    pub fn next_in_order(&mut self, now: Mono) -> Option<Arc<EncodedAnnouncement>> {
        let next = self.merge.pop(now);
        self.shared.counters.out_of_order = self.merge.overtaken();
        next
    }

    /// Stamps an announcement with `now` and sends it to everyone whose filter it matches, in another
    /// order each time ([`super::rotation`]), in one pass and one write with those whose turn is next
    /// and that are here already ([`limits::BURST`]). A late one is only remembered. `on_first` is called
    /// with a count when so many announcements' first subscriber was offered their bytes.
    pub fn broadcast(
        &mut self,
        now: Now,
        announcement: Arc<EncodedAnnouncement>,
        on_first: &mut impl FnMut(u16),
    ) -> FanOut {
        let from = self.shared.log.next_index();
        let mut bytes = announcement.full.json.len();
        self.enter(now, announcement);
        while let Some(next) = self.next_of_burst(now.mono, from, bytes) {
            bytes += next.full.json.len();
            self.enter(now, next);
        }
        let mut done = FanOut::default();
        if from == self.shared.log.next_index() {
            return done;
        }
        self.oldest_needed = u64::MAX;
        let mut begun = Wanted::NONE;
        for slot in self.rotation.next_order(self.slots.end()) {
            let wanted = self.announce_to(now, slot, from);
            let first = wanted.without(begun);
            if !first.is_none() {
                begun = begun.with_all(first);
                done.announcements += first.count();
                on_first(first.count());
            }
            done.deliveries += usize::from(wanted.count());
        }
        done
    }

    /// The next announcement, if it fits into the burst that begins at the log index `from`.
    fn next_of_burst(&mut self, now: Mono, from: u64, bytes: usize) -> Option<Arc<EncodedAnnouncement>> {
        let classes = self.live_classes();
        let log = &self.shared.log;
        let next = self.merge.pop_if(now, |next| {
            log.next_index() - from < limits::BURST as u64
                && bytes + next.full.json.len() <= limits::GATHER_BYTES
                && log.make_room(next, classes) <= from
        })?;
        self.shared.counters.out_of_order = self.merge.overtaken();
        Some(next)
    }

    /// Remembers an announcement and, unless it is late, puts its frames into the log.
    fn enter(&mut self, now: Now, announcement: Arc<EncodedAnnouncement>) {
        if announcement.announcement.late {
            self.shared.counters.late += 1;
            self.shared.history.push(announcement, now.mono);
            return;
        }
        announcement.mark_dispatched(now.wall);
        self.shared.counters.announcements += 1;
        self.shared.history.push(Arc::clone(&announcement), now.mono);
        let classes = self.live_classes();
        self.make_room(now, &announcement, classes);
        if self.shared.log.push(announcement, classes, now.wall).is_err() {
            self.shared.counters.too_large += 1;
        }
    }

    /// The log's entries from `from` on to one subscriber. Returns which of them were for it.
    fn announce_to(&mut self, now: Now, slot: u32, from: u64) -> Wanted {
        let Some(subscriber) = self.slots.get_mut(slot) else { return Wanted::NONE };
        let outlet = subscriber.outlet();
        match outlet.mode() {
            Mode::Live => {}
            Mode::History => {
                // A delayed one that had nothing to wait for now has; a replaying one is busy, and a
                // blocked one is looked at soon, which this must not put off.
                if outlet.delay_ns() > 0 && !outlet.is_blocked() {
                    self.wheel.schedule(slot, subscriber.due(now, &self.shared));
                }
                return Wanted::NONE;
            }
            Mode::Closing => return Wanted::NONE,
        }
        match subscriber.announce(from, &mut self.shared) {
            Ok(wanted) => {
                if let Some(needed) = subscriber.outlet().needs() {
                    self.oldest_needed = self.oldest_needed.min(needed);
                }
                wanted
            }
            Err(reason) => {
                self.doom(now, slot, reason);
                Wanted::NONE
            }
        }
    }

    fn live_classes(&self) -> ClassSet {
        let live = Class::all().zip(&self.class_counts).filter(|(_, count)| **count > 0);
        live.fold(ClassSet::default(), |set, (class, _)| set.with(class))
    }

    /// Ends those that still need what the log is about to overwrite, while it is still there.
    fn make_room(&mut self, now: Now, announcement: &EncodedAnnouncement, classes: ClassSet) {
        let evicts = self.shared.log.make_room(announcement, classes);
        if evicts <= self.oldest_needed {
            return;
        }
        for slot in 0..self.slots.end() {
            let needs = self.slots.get_mut(slot).and_then(|subscriber| subscriber.outlet().needs());
            if needs.is_some_and(|index| index < evicts) {
                self.doom(now, slot, CloseReason::TooSlow);
            }
        }
    }

    /// Decides an end in passing: the close frame leaves in housekeeping.
    fn doom(&mut self, now: Now, slot: u32, reason: CloseReason) {
        let Some(subscriber) = self.slots.get_mut(slot) else { return };
        match subscriber.begin_close(now, reason, &self.shared) {
            // Zero: in the next slice, not at the next tick.
            Fate::Stays => self.wheel.schedule(slot, Mono(0)),
            Fate::Gone(reason) => self.remove(slot, reason),
        }
    }

    /// A source's state. Told to subscribers when it changed, a slice a turn.
    pub fn source_status(&mut self, now: Now, status: SourceStatus) {
        let sources = &mut self.shared.sources;
        let changed = if let Some(known) = sources.iter_mut().find(|known| known.source == status.source) {
            core::mem::replace(known, status).state != status.state
        } else if sources.len() < limits::SOURCES_REPORTED {
            sources.push(status);
            true
        } else {
            false
        };
        if changed {
            self.sweep(now, Change::Source(status));
        }
    }

    /// A message beside announcements, for those who asked for its kind: a slice a turn, and only while no
    /// announcement waits for its turn.
    pub fn extra(&mut self, extra: Arc<Extra>) {
        if self.extras.push(extra) {
            self.shared.counters.extras_dropped += 1;
        }
    }

    // ---- Sessions ----------------------------------------------------------------------------

    /// The number that the next session gets: what its socket is registered under.
    #[must_use]
    pub fn next_slot(&self) -> u32 {
        self.slots.next_free()
    }

    /// Takes a session into the set, then greets it, then hears what it said meanwhile: nothing
    /// falls between the welcome and membership. Returns its number.
    pub fn join(
        &mut self,
        now: Now,
        socket: S,
        subscription: Subscription,
        greeting: &[u8],
        early_bytes: &mut [u8],
    ) -> u32 {
        let resume = subscription.resume;
        let subscriber = Subscriber::new(now, socket, subscription, &mut self.shared);
        if let Some(count) = self.class_counts.get_mut(subscriber.outlet().class().index()) {
            *count += 1;
        }
        let slot = self.slots.insert(subscriber);
        self.shared.counters.joins += 1;
        self.shared.counters.connections += 1;
        self.with(now, slot, |subscriber, shared| subscriber.greet(now, greeting, resume, shared));
        if !early_bytes.is_empty() {
            self.received(now, slot, early_bytes);
        }
        if self.drain.is_some_and(|drain| slot < drain.next) {
            self.with(now, slot, |s, shared| s.close(now, CloseReason::Restart, shared));
        }
        slot
    }

    /// The connection of a session, to read from.
    pub fn socket_mut(&mut self, slot: u32) -> Option<&mut S> {
        self.slots.get_mut(slot).map(Subscriber::socket_mut)
    }

    /// Bytes read from a session's connection; they are unmasked in place.
    pub fn received(&mut self, now: Now, slot: u32, bytes: &mut [u8]) {
        self.with(now, slot, |subscriber, shared| subscriber.receive(now, bytes, shared));
    }

    /// The peer of a session sends nothing more.
    pub fn end_of_stream(&mut self, now: Now, slot: u32) {
        self.with(now, slot, |subscriber, _| subscriber.end_of_stream());
    }

    /// The connection of a session failed.
    pub fn failed(&mut self, now: Now, slot: u32) {
        self.with(now, slot, |subscriber, _| {
            Fate::Gone(subscriber.closing().unwrap_or(CloseReason::SocketError))
        });
    }

    /// There may be room in a session's socket.
    pub fn writable(&mut self, now: Now, slot: u32) {
        let blocked = self.slots.get_mut(slot).is_some_and(|s| s.outlet().is_blocked());
        if blocked {
            self.with(now, slot, |subscriber, shared| subscriber.writable(now, shared));
        }
    }

    /// "The administrator revokes the key. All active sessions are immediately disconnected with
    /// close code 1000 and reason key_revoked."
    pub fn revoke(&mut self, now: Now, key: KeyId) {
        self.sweep(now, Change::Revoked(key));
    }

    /// The key's end moved.
    pub fn set_expiry(&mut self, now: Now, key: KeyId, expires_at: Option<WallUs>) {
        self.sweep(now, Change::Expiry(key, expires_at));
    }

    /// Closes everyone with 1012 `restart`, evenly until `until`. Later calls change nothing.
    pub fn drain(&mut self, now: Mono, until: Mono) {
        self.drain.get_or_insert(Drain { from: now, until, next: 0 });
    }

    /// Shows the subscribers of at most [`limits::LOOK_SLOTS`] numbers from `from` on, as long as `see`
    /// wants more. Returns the number to go on from; `None` at the end.
    pub fn look(&mut self, from: u32, mut see: impl FnMut(Row, &S) -> bool) -> Option<u32> {
        let end = self.slots.end();
        let to = from.saturating_add(limits::LOOK_SLOTS).min(end);
        for slot in from..to {
            if let Some(subscriber) = self.slots.get_mut(slot)
                && !see(subscriber.look(slot, &self.shared), subscriber.socket())
            {
                return Some(slot + 1).filter(|next| *next < end);
            }
        }
        Some(to).filter(|next| *next < end)
    }

    /// A connection that ended, for its owner to drop.
    pub fn pop_ended(&mut self) -> Option<Ended<S>> {
        self.ended.pop_front()
    }

    // ---- Housekeeping ------------------------------------------------------------------------

    /// At most `budget` timers, and a slice of sweeps, of the drain and of messages beside announcements. Returns how much was done;
    /// 0 when nothing is due.
    pub fn housekeep(&mut self, now: Now, budget: usize) -> usize {
        let mut done = self.sweep_slice(now, budget) + self.drain_slice(now, budget);
        done += self.extra_slice(now, budget);
        for _ in 0..budget {
            let Some(slot) = self.wheel.pop_due(now.mono) else { break };
            self.with(now, slot, |subscriber, shared| subscriber.on_timer(now, shared));
            done += 1;
        }
        done
    }

    /// When [`Writer::housekeep`] or [`Writer::next_in_order`] next has work.
    #[must_use]
    pub fn deadline(&self) -> Mono {
        if !self.sweeps.is_empty() {
            return Mono(0);
        }
        // A drain goes on with the wheel's ticks.
        let announcement = self.merge.deadline();
        if announcement == Mono::NEVER && !self.extras.is_empty() {
            return Mono(0);
        }
        self.wheel.deadline().min(announcement)
    }

    fn sweep(&mut self, now: Now, what: Change) {
        if self.sweeps.len() >= limits::SWEEPS {
            let oldest = self.sweeps.len();
            while self.sweeps.len() == oldest {
                self.sweep_slice(now, limits::SWEEP_SLOTS);
            }
        }
        self.sweeps.push_back(Sweep { what, next: 0 });
    }

    /// Looks at a slice of the slots: a small one where each may cost a write.
    fn sweep_slice(&mut self, now: Now, budget: usize) -> usize {
        let Some(Sweep { what, next }) = self.sweeps.front() else { return 0 };
        let (what, from) = (*what, *next);
        let slots = if matches!(what, Change::Source(_)) { budget } else { limits::SWEEP_SLOTS };
        let end = self.slots.end();
        let to = from.saturating_add(u32::try_from(slots).unwrap_or(u32::MAX)).min(end);
        for slot in from..to {
            self.apply(now, slot, &what);
        }
        if to == end {
            self.sweeps.pop_front();
        } else if let Some(front) = self.sweeps.front_mut() {
            front.next = to;
        }
        1
    }

    fn apply(&mut self, now: Now, slot: u32, what: &Change) {
        let Some(subscriber) = self.slots.get_mut(slot) else { return };
        match what {
            Change::Revoked(key) if subscriber.key_id() == *key => {
                self.doom(now, slot, CloseReason::KeyRevoked);
            }
            Change::Expiry(key, expires_at) if subscriber.key_id() == *key => {
                self.with(now, slot, |s, _| {
                    s.set_expiry(now, *expires_at);
                    Fate::Stays
                });
            }
            Change::Source(status) => {
                self.with(now, slot, |s, shared| s.source_status(now, status, shared));
            }
            Change::Revoked(_) | Change::Expiry(..) => {}
        }
    }

    /// Sends the message whose turn it is to the next `budget` subscribers that it is for. Holding it back
    /// for an announcement keeps a context behind the announcement it is of.
    fn extra_slice(&mut self, now: Now, budget: usize) -> usize {
        if self.extras.is_empty() || self.merge.deadline() != Mono::NEVER {
            return 0;
        }
        // Out of the way while subscribers are visited; nothing is allocated for the one in its place.
        let mut extras = core::mem::take(&mut self.extras);
        if let Some((extra, mut slot)) = extras.turn(now.wall, &mut self.shared.json) {
            let end = self.slots.end();
            let to = slot.saturating_add(u32::try_from(limits::SWEEP_SLOTS).unwrap_or(u32::MAX)).min(end);
            let mut sent = 0;
            while slot < to && sent < budget {
                let wants = self.slots.get_mut(slot).filter(|subscriber| subscriber.wants_extra(&extra));
                if let Some(opcode) = wants.map(|subscriber| subscriber.outlet().class().opcode()) {
                    self.with(now, slot, |s, shared| s.extra(now, extras.frame(opcode), shared));
                    sent += 1;
                }
                slot += 1;
            }
            extras.advance(slot, end);
        }
        self.extras = extras;
        1
    }

    fn drain_slice(&mut self, now: Now, budget: usize) -> usize {
        let Some(Drain { from, until, next }) = self.drain else { return 0 };
        let end = self.slots.end();
        let window = until.since(from).as_nanos();
        let elapsed = now.mono.since(from).as_nanos();
        let target = if elapsed >= window {
            end
        } else {
            u32::try_from(u128::from(end) * elapsed / window.max(1)).unwrap_or(end)
        };
        let to = target.min(next.saturating_add(u32::try_from(budget).unwrap_or(u32::MAX))).max(next);
        for slot in next..to {
            self.with(now, slot, |s, shared| s.close(now, CloseReason::Restart, shared));
        }
        if let Some(drain) = &mut self.drain {
            drain.next = to;
        }
        (to - next) as usize
    }

    /// Runs one step of a session, then sets its timer or takes it out.
    fn with(&mut self, now: Now, slot: u32, step: impl FnOnce(&mut Subscriber<S>, &mut Shared) -> Fate) {
        let Some(subscriber) = self.slots.get_mut(slot) else { return };
        match step(subscriber, &mut self.shared) {
            Fate::Stays => self.wheel.schedule(slot, subscriber.due(now, &self.shared)),
            Fate::Gone(reason) => self.remove(slot, reason),
        }
    }

    fn remove(&mut self, slot: u32, reason: CloseReason) {
        self.wheel.cancel(slot);
        let Some(mut subscriber) = self.slots.remove(slot) else { return };
        if let Some(count) = self.class_counts.get_mut(subscriber.outlet().class().index()) {
            *count = count.saturating_sub(1);
        }
        let counters = &mut self.shared.counters;
        counters.connections = counters.connections.saturating_sub(1);
        if let Some(count) = counters.closes.get_mut(reason.index()) {
            *count += 1;
        }
        subscriber.socket_mut().finish();
        let key = subscriber.key_id();
        self.ended.push_back(Ended { socket: subscriber.into_socket(), key, reason });
    }
}

#[cfg(test)]
mod bursts;
#[cfg(test)]
mod delivery;
#[cfg(test)]
mod extras;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;
