//! The accept thread: listener, handshakes, keys and limits, hand-over to the feed writers.
//!
//! Contract: it owns every connection until it is admitted, and never touches it again after. It is
//! the only owner of the key table and the address limits. Blocks only in `epoll_wait`
//! ([`AcceptThread::run`]), woken by events and by its waker; [`Step::step`] never blocks. Allocates per
//! connection. It fails no further than one connection: errors are counters ([`AcceptStats`]).
//!
//! Bounds: [`limits::HANDSHAKES_IN_PROGRESS`] connections, beyond it the kernel's backlog waits;
//! [`limits::HANDSHAKES_PER_ADDRESS`] of one address, fewer as places become few;
//! [`limits::HANDSHAKE_TIMEOUT`] for each. What waits for a full ring is kept in order; while it is
//! [`limits::HANDSHAKES_IN_PROGRESS`] deep nothing is accepted and no command is taken.
//!
//! One turn does at most [`ACCEPTS_PER_TURN`] accepts and [`TLS_PER_TURN`] steps of TLS handshakes (half
//! a millisecond of CPU each), so that in a storm of them those who are done still come through.

mod connection;
mod listener;
pub(crate) mod proxy;
mod stats;
mod writers;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ipnet::IpNet;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token, Waker};
use rtrb::Consumer;
use tocsin_core::feed::admission::address::{AddressLimits, AddressTable, EXEMPT};
use tocsin_core::feed::admission::decide::{Admission, Admitted, Decision};
use tocsin_core::feed::admission::history::History;
use tocsin_core::feed::admission::keys::KeyTable;
use tocsin_core::feed::admission::refusal::Refusal;
use tocsin_core::feed::key::{KeyId, KeyRecord};
use tocsin_core::http1::request::RequestHead;
use tocsin_core::limits;
use tocsin_core::time::{Mono, Now};
use tocsin_core::wire::EncodedAnnouncement;

pub use listener::listen;
pub use stats::{AcceptStats, Count};
pub use writers::WriterLink;

use super::{Pulse, Step, Turn};
use crate::config::Feed;
use crate::net::Stream;
use crate::net::tls::ServerTls;
use crate::os::{clock, sockopt};
use crate::rings::{AcceptReload, AcceptToFeed, LiveSession, ToAccept};
use connection::{Closed, Connection, Phase, Progress};
use listener::{Accepted, Listener};
use writers::Writers;

/// Connections accepted in one turn at most.
pub const ACCEPTS_PER_TURN: usize = 64;
/// Steps of TLS handshakes in one turn at most.
pub const TLS_PER_TURN: usize = 16;

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
const FIRST_CONNECTION: usize = 2;
/// Ended sessions and history arrive without a wake-up; this often they are looked for.
const IDLE_WAIT: Duration = Duration::from_millis(100);
/// Between two attempts at a full ring.
const RETRY_WAIT: Duration = Duration::from_millis(1);
const SCRATCH_BYTES: usize = 4 * 1_024;
const _: () = assert!(SCRATCH_BYTES >= limits::PROXY_HEADER_BYTES);

/// What of the configuration the accept thread needs.
#[derive(Clone, Debug)]
pub struct AcceptSettings {
    /// Send buffer of a subscriber.
    pub send_buffer_bytes: u32,
    /// Sessions at most, all together.
    pub max_connections: u32,
    /// Peers whose connections begin with a PROXY header.
    pub proxy_protocol_from: Vec<IpNet>,
    /// Peers whose `X-Forwarded-For` is believed.
    pub forwarded_for_from: Vec<IpNet>,
    /// Limits of one address.
    pub limits: AddressLimits,
}

impl From<&Feed> for AcceptSettings {
    fn from(feed: &Feed) -> Self {
        AcceptSettings {
            send_buffer_bytes: feed.send_buffer_bytes,
            max_connections: feed.max_connections,
            proxy_protocol_from: feed.proxy_protocol_from.clone(),
            forwarded_for_from: feed.forwarded_for_from.clone(),
            limits: AddressLimits {
                connections: feed.limits.ip_connections,
                connects_per_minute: feed.limits.ip_connects_per_minute,
                exempt: feed.limits.exempt.clone(),
            },
        }
    }
}

/// Everything the accept thread is made of.
pub struct AcceptParts {
    /// From [`listen`], or a socket handed over by systemd.
    pub listener: TcpListener,
    /// `None` serves plain `ws`.
    pub tls: Option<ServerTls>,
    /// From the configuration.
    pub settings: AcceptSettings,
    /// Every key the store knows, revoked ones too.
    pub keys: Vec<KeyRecord>,
    /// The newest [`limits::HISTORY_IN_MEMORY`] announcements the store knows, oldest first.
    pub history: Vec<Arc<EncodedAnnouncement>>,
    /// Key changes, new settings and drain.
    pub commands: Consumer<ToAccept>,
    /// Announcements for the history, from each source thread.
    pub announcements: Vec<Consumer<Arc<EncodedAnnouncement>>>,
    /// The feed writers, at least one.
    pub writers: Vec<WriterLink>,
    /// Where it counts.
    pub stats: Arc<AcceptStats>,
}

/// See the module head.
pub struct AcceptThread {
    poll: Poll,
    events: Events,
    /// Whether `events` holds what the last wait brought.
    waited: bool,
    waker: Arc<Waker>,
    /// `None` once draining.
    listener: Option<Listener>,
    /// Whether the listener may have connections pending.
    accept_ready: bool,
    tls: Option<ServerTls>,
    settings: AcceptSettings,
    admission: Admission,
    history: History,
    commands: Consumer<ToAccept>,
    announcements: Vec<Consumer<Arc<EncodedAnnouncement>>>,
    writers: Writers,
    stats: Arc<AcceptStats>,
    connections: Vec<Option<Box<Connection>>>,
    free: Vec<usize>,
    /// Handshakes in progress by address.
    shares: BTreeMap<IpAddr, u32>,
    /// Connections with TLS work to do, in the order it came up.
    tls_queue: VecDeque<usize>,
    ready: Vec<usize>,
    /// No deadline of a connection is earlier.
    next_deadline: Mono,
    scratch: Box<[u8; SCRATCH_BYTES]>,
}

impl AcceptThread {
    /// Takes its parts and registers the listener.
    ///
    /// # Errors
    /// The kernel gives no epoll instance or waker, or refuses the listener; or there is no writer.
    pub fn new(parts: AcceptParts) -> io::Result<AcceptThread> {
        if parts.writers.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no feed writer"));
        }
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let mut listener = Listener::new(parts.listener);
        poll.registry().register(listener.socket(), LISTENER, Interest::READABLE)?;
        let addresses = AddressTable::new(parts.settings.limits.clone(), limits::ADDRESSES_TRACKED);
        let keys = KeyTable::new(parts.keys);
        Ok(AcceptThread {
            poll,
            events: Events::with_capacity(1_024),
            waited: false,
            waker,
            listener: Some(listener),
            accept_ready: true,
            tls: parts.tls,
            admission: Admission::new(keys, addresses, parts.settings.max_connections),
            settings: parts.settings,
            history: History::new(parts.history, limits::HISTORY_IN_MEMORY),
            commands: parts.commands,
            announcements: parts.announcements,
            writers: Writers::new(parts.writers),
            stats: parts.stats,
            connections: (0..limits::HANDSHAKES_IN_PROGRESS).map(|_| None).collect(),
            free: (0..limits::HANDSHAKES_IN_PROGRESS).rev().collect(),
            shares: BTreeMap::new(),
            tls_queue: VecDeque::new(),
            ready: Vec::new(),
            next_deadline: Mono::NEVER,
            scratch: Box::new([0; SCRATCH_BYTES]),
        })
    }

    /// Ends a wait of [`AcceptThread::run`]; for whoever pushes a [`ToAccept`].
    #[must_use]
    pub fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Runs until `stop`, blocking in `epoll_wait` between turns.
    pub fn run(&mut self, stop: &AtomicBool, pulse: &Pulse) {
        let mut last = clock::mono();
        while !stop.load(Ordering::Relaxed) {
            let now = clock::now();
            pulse.beat(now.mono, now.mono.since(last).as_nanos().try_into().unwrap_or(u64::MAX));
            last = now.mono;
            let turn = self.step(now);
            if turn.work == 0 {
                self.wait(turn.deadline.since(clock::mono()));
            }
        }
        self.finish(clock::now());
    }

    /// Waits for events, which the next step takes. An interrupted wait is a short one.
    fn wait(&mut self, timeout: Duration) {
        // Rounded up to epoll's milliseconds by mio, so a deadline is never slept before.
        self.waited = self.poll.poll(&mut self.events, Some(timeout)).is_ok();
    }

    /// Moves the events into `ready`.
    fn take_events(&mut self) {
        if !self.waited && self.poll.poll(&mut self.events, Some(Duration::ZERO)).is_err() {
            return;
        }
        self.waited = false;
        for event in &self.events {
            match event.token() {
                LISTENER => self.accept_ready = true,
                WAKER => {}
                Token(token) => self.ready.extend(token.checked_sub(FIRST_CONNECTION)),
            }
        }
        self.events.clear();
    }

    /// Drives every connection that had an event; TLS work waits for its turn.
    fn take_ready(&mut self, now: Now) -> usize {
        let mut ready = std::mem::take(&mut self.ready);
        let work = ready.len();
        for slot in ready.drain(..) {
            // One that ended earlier in this turn leaves an empty slot.
            let Some(connection) = self.connections.get_mut(slot).and_then(Option::as_deref_mut) else {
                continue;
            };
            if connection.phase != Phase::Tls {
                self.drive(slot, now);
            } else if !connection.queued {
                connection.queued = true;
                self.tls_queue.push_back(slot);
            }
        }
        self.ready = ready;
        work
    }

    fn shake_some(&mut self, now: Now) -> usize {
        let mut work = 0;
        while work < TLS_PER_TURN {
            let Some(slot) = self.tls_queue.pop_front() else { break };
            work += 1;
            if let Some(connection) = self.connections.get_mut(slot).and_then(Option::as_deref_mut)
                && connection.queued
            {
                connection.queued = false;
                self.drive(slot, now);
            }
        }
        work
    }

    fn take_commands(&mut self, now: Now) -> usize {
        let mut work = 0;
        while self.writers.waiting() < limits::HANDSHAKES_IN_PROGRESS {
            let Ok(command) = self.commands.pop() else { break };
            work += 1;
            match command {
                ToAccept::UpsertKey(record) => self.upsert_key(*record),
                ToAccept::RevokeKey(id) => {
                    self.admission.keys.revoke(id, now.wall);
                    self.tell_writers(|| AcceptToFeed::Revoke(id));
                }
                ToAccept::Drain(until) => {
                    self.stop_listening();
                    self.tell_writers(|| AcceptToFeed::Drain(until));
                }
                ToAccept::Reload(reload) => self.take_settings(*reload),
                ToAccept::Look(writer, page) => self.writers.tell(writer, AcceptToFeed::Look(page)),
                ToAccept::Connections(keys, reply) => {
                    let count = |id: &KeyId| self.admission.keys.connections(*id);
                    // Who no longer waits has no use for it.
                    let _ = reply.send(keys.iter().map(count).collect());
                }
            }
        }
        work
    }

    /// What is open stays as it is; handshakes under way go on with the certificate they began with.
    fn take_settings(&mut self, reload: AcceptReload) {
        let AcceptReload { settings, tls } = reload;
        self.admission.addresses.set_limits(settings.limits.clone());
        let max_connections = self.settings.max_connections;
        self.settings = AcceptSettings { max_connections, ..settings };
        // Plain stays plain: connections wait in the phase that was theirs when they came.
        if self.tls.is_some() && tls.is_some() {
            self.tls = tls;
        }
    }

    /// Live sessions learn of a new end of their key, and of its revocation.
    fn upsert_key(&mut self, record: KeyRecord) {
        let (id, end, revoked) = (record.id, record.expires_at, record.revoked_at.is_some());
        let old_end = self.admission.keys.get(id).map(|known| known.record.expires_at);
        self.admission.keys.upsert(record);
        if revoked {
            self.tell_writers(|| AcceptToFeed::Revoke(id));
        } else if old_end.is_some_and(|old| old != end) {
            self.tell_writers(|| AcceptToFeed::Expiry(id, end));
        }
    }

    fn tell_writers(&mut self, message: impl Fn() -> AcceptToFeed) {
        self.writers.tell_all(message);
    }

    fn stop_listening(&mut self) {
        if let Some(mut listener) = self.listener.take() {
            let _ = self.poll.registry().deregister(listener.socket());
        }
        for slot in 0..self.connections.len() {
            self.close(slot);
        }
    }

    fn take_released(&mut self) -> usize {
        let admission = &mut self.admission;
        self.writers.take_released(|released| admission.release(released.address, released.key))
    }

    fn take_announcements(&mut self) -> usize {
        let mut work = 0;
        for ring in &mut self.announcements {
            while let Ok(announcement) = ring.pop() {
                self.history.push(announcement);
                work += 1;
            }
        }
        work
    }

    /// Whether a connection can be taken on now.
    fn may_accept(&self, now: Now) -> bool {
        self.accept_ready
            && !self.free.is_empty()
            && self.writers.waiting() < limits::HANDSHAKES_IN_PROGRESS
            && self.listener.as_ref().is_some_and(|l| l.paused_until() <= now.mono)
    }

    fn accept_some(&mut self, now: Now) -> usize {
        let mut work = 0;
        while work < ACCEPTS_PER_TURN && self.may_accept(now) {
            let Some(listener) = self.listener.as_mut() else { break };
            match listener.accept(now.mono) {
                Accepted::Connection(tcp, peer) => {
                    self.stats.accepted.add();
                    self.take_on(Stream::plain(tcp), peer, now);
                }
                Accepted::Nothing => {
                    self.accept_ready = false;
                    break;
                }
                Accepted::Failed => {}
                Accepted::Paused => self.stats.out_of_descriptors.add(),
            }
            work += 1;
        }
        work
    }

    /// Gives a new connection its slot. Dropping `stream` instead closes it.
    fn take_on(&mut self, mut stream: Stream, peer: SocketAddr, now: Now) {
        let client = peer.ip().to_canonical();
        let proxied = proxy::is_in(&self.settings.proxy_protocol_from, client);
        let share = if proxied { EXEMPT } else { self.share_of(client) };
        // A socket that died meanwhile refuses its options.
        if sockopt::tune_subscriber(&stream, self.settings.send_buffer_bytes).is_err() {
            self.stats.gone.add();
            return;
        }
        if !self.take_share(share) {
            return;
        }
        let Some(slot) = self.free.pop() else { return };
        let token = Token(slot + FIRST_CONNECTION);
        let both = Interest::READABLE | Interest::WRITABLE;
        if self.poll.registry().register(&mut stream, token, both).is_err() {
            self.give_back(slot, share);
            return;
        }
        let phase = if proxied { Phase::Proxy } else { self.first_phase() };
        let connection = Connection::new(stream, phase, client, share, now.mono);
        self.next_deadline = self.next_deadline.min(connection.deadline);
        if let Some(place) = self.connections.get_mut(slot) {
            *place = Some(Box::new(connection));
        }
    }

    const fn first_phase(&self) -> Phase {
        if self.tls.is_some() { Phase::Tls } else { Phase::Head }
    }

    /// Where handshakes of `client` are counted. A proxy that names clients in a header brings those of
    /// many, and which is known only when the head is there.
    fn share_of(&self, client: IpAddr) -> IpAddr {
        if proxy::is_in(&self.settings.forwarded_for_from, client) {
            return EXEMPT;
        }
        self.admission.addresses.bucket(client)
    }

    fn take_share(&mut self, share: IpAddr) -> bool {
        if share == EXEMPT {
            return true;
        }
        let part = u32::try_from(self.free.len() / limits::HANDSHAKE_PLACES_PER_SHARE).unwrap_or(u32::MAX);
        let most = part.clamp(limits::HANDSHAKES_PER_ADDRESS_AT_LEAST, limits::HANDSHAKES_PER_ADDRESS);
        if self.shares.get(&share).is_some_and(|count| *count >= most) {
            self.stats.over_share.add();
            return false;
        }
        let count = self.shares.entry(share).or_insert(0);
        *count += 1;
        true
    }

    fn give_back(&mut self, slot: usize, share: IpAddr) {
        self.free.push(slot);
        if let Some(count) = self.shares.get_mut(&share) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.shares.remove(&share);
            }
        }
    }

    /// Takes a connection out of its slot.
    fn take_out(&mut self, slot: usize) -> Option<Box<Connection>> {
        let connection = self.connections.get_mut(slot)?.take()?;
        self.give_back(slot, connection.share);
        Some(connection)
    }

    fn close(&mut self, slot: usize) {
        // Dropping closes the socket, which takes it out of epoll.
        drop(self.take_out(slot));
    }

    /// Moves a connection on until it has to wait or is gone.
    fn drive(&mut self, slot: usize, now: Now) {
        loop {
            let Some(connection) = self.connections.get_mut(slot).and_then(Option::as_deref_mut) else {
                return;
            };
            match connection.advance(self.tls.as_ref(), self.scratch.as_mut_slice(), now.mono) {
                Progress::Wait => {
                    self.next_deadline = self.next_deadline.min(connection.deadline);
                    return;
                }
                Progress::Proxied(client) => {
                    if !self.proxied(slot, client) {
                        return;
                    }
                }
                Progress::Secured => {
                    match connection.stream.resumed() {
                        Some(true) => self.stats.tls_resumed.add(),
                        _ => self.stats.tls_full.add(),
                    }
                    connection.phase = Phase::Head;
                }
                Progress::Request(head) => self.decide(slot, head, now),
                Progress::Refuse(refusal) => self.refuse(slot, &refusal, now),
                Progress::Closed(why) => {
                    self.count_closed(why);
                    return self.close(slot);
                }
            }
        }
    }

    /// The PROXY header is read; from here on the connection is its client's. False when it must wait
    /// for its turn of TLS work, or is gone.
    fn proxied(&mut self, slot: usize, client: Option<IpAddr>) -> bool {
        let phase = self.first_phase();
        let Some(connection) = self.connections.get_mut(slot).and_then(Option::as_deref_mut) else {
            return false;
        };
        connection.phase = phase;
        connection.queued = phase == Phase::Tls;
        let client = client.map_or(connection.client, |c| c.to_canonical());
        connection.client = client;
        let share = self.share_of(client);
        if !self.take_share(share) {
            self.close(slot);
            return false;
        }
        if let Some(connection) = self.connections.get_mut(slot).and_then(Option::as_deref_mut) {
            connection.share = share;
        }
        if phase == Phase::Tls {
            self.tls_queue.push_back(slot);
        }
        phase != Phase::Tls
    }

    fn decide(&mut self, slot: usize, head_bytes: usize, now: Now) {
        let Some(connection) = self.connections.get_mut(slot).and_then(Option::as_deref_mut) else { return };
        let head = connection.received.get(..head_bytes).unwrap_or_default();
        let decision = match RequestHead::parse(head) {
            Ok(head) => {
                let trusted = &self.settings.forwarded_for_from;
                let values = head.values("X-Forwarded-For");
                let client = proxy::forwarded_for(values, trusted, connection.client);
                self.admission.decide(&head, client, now)
            }
            Err(error) => Decision::Refuse(Refusal::Head(error)),
        };
        match decision {
            Decision::Admit(admitted) => self.hand_over(slot, head_bytes, *admitted),
            Decision::History(query, rights) => {
                let history = &self.history;
                connection.answer(now.mono, |out| history.answer(&query, &rights, now.wall, out));
                self.stats.history_answers.add();
            }
            Decision::Refuse(refusal) => self.refuse(slot, &refusal, now),
        }
    }

    fn refuse(&mut self, slot: usize, refusal: &Refusal, now: Now) {
        self.stats.add_refused(refusal.code());
        if let Some(connection) = self.connections.get_mut(slot).and_then(Option::as_deref_mut) {
            connection.answer(now.mono, |out| refusal.write(out));
        }
    }

    fn hand_over(&mut self, slot: usize, head_bytes: usize, admitted: Admitted) {
        let Admitted { subscription, greeting, bucket } = admitted;
        let Some(connection) = self.take_out(slot) else {
            return self.admission.release(bucket, subscription.key.id);
        };
        let Connection { mut stream, mut received, accepted_at, .. } = *connection;
        if self.poll.registry().deregister(&mut stream).is_err() {
            self.stats.gone.add();
            return self.admission.release(bucket, subscription.key.id);
        }
        received.drain(..head_bytes.min(received.len()));
        self.stats.admitted.add();
        self.writers.join(Box::new(LiveSession {
            stream,
            subscription,
            greeting,
            early_bytes: received,
            address: bucket,
            accepted_at,
        }));
    }

    fn count_closed(&self, why: Closed) {
        match why {
            Closed::Answered => {}
            Closed::Gone => self.stats.gone.add(),
            Closed::Tls(failure) => self.stats.add_tls_failed(failure),
            Closed::NotProxied => self.stats.not_proxied.add(),
        }
    }

    /// Ends connections whose time is over: with 408 where a head was due, else without a word.
    fn expire(&mut self, now: Now) -> usize {
        if now.mono < self.next_deadline {
            return 0;
        }
        self.next_deadline = Mono::NEVER;
        let mut work = 0;
        for slot in 0..self.connections.len() {
            let Some(connection) = self.connections.get(slot).and_then(Option::as_deref) else { continue };
            if connection.deadline > now.mono {
                self.next_deadline = self.next_deadline.min(connection.deadline);
                continue;
            }
            work += 1;
            match connection.phase {
                Phase::Head => {
                    self.stats.timeouts.add();
                    self.refuse(slot, &Refusal::Timeout, now);
                    self.drive(slot, now);
                }
                Phase::Proxy | Phase::Tls => {
                    self.stats.timeouts.add();
                    self.close(slot);
                }
                Phase::Answer | Phase::Linger(_) => self.close(slot),
            }
        }
        work
    }

    /// When the next turn is due if nothing happens before.
    fn due(&self, now: Now) -> Mono {
        if !self.tls_queue.is_empty() || self.may_accept(now) {
            return now.mono;
        }
        if self.writers.waiting() > 0 {
            return now.mono + RETRY_WAIT;
        }
        let paused = self.listener.as_ref().map_or(Mono::NEVER, |l| {
            if self.accept_ready && l.paused_until() > now.mono { l.paused_until() } else { Mono::NEVER }
        });
        self.next_deadline.min(paused).min(now.mono + IDLE_WAIT)
    }

    fn publish(&self) {
        let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        self.stats.in_progress.set(number(self.connections.len() - self.free.len()));
        self.stats.sessions.set(u64::from(self.admission.connections()));
        self.stats.invalid_keys_remembered.set(number(self.admission.keys.invalid_remembered()));
        self.stats.waiting_for_writers.set(number(self.writers.waiting()));
    }

    /// Sessions of a key, as counted here.
    #[must_use]
    pub fn connections_of(&self, key: KeyId) -> u32 {
        self.admission.keys.get(key).map_or(0, |entry| entry.connections)
    }
}

impl Step for AcceptThread {
    fn step(&mut self, now: Now) -> Turn {
        self.take_events();
        // What ended and what changed comes before any decision of this turn.
        let mut work = self.take_released();
        work += self.writers.flush();
        work += self.take_commands(now);
        work += self.take_announcements();
        work += self.take_ready(now);
        work += self.shake_some(now);
        work += self.accept_some(now);
        work += self.expire(now);
        self.publish();
        Turn { work, deadline: self.due(now) }
    }

    fn finish(&mut self, _now: Now) {
        self.stop_listening();
        self.publish();
    }
}
