//! What must be true of announcements, sessions and limits, and what the world knows of it.
//!
//! Contract: [`Truth`] is written where things happen, not where the engine says they did; the checks compare.
//! What a session must receive is worked out anew from what went out on its writer, what history held and what
//! the session asked for. Owner: the world. Fails with [`super::Stop::Broken`].

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use core::time::Duration;

use tocsin_core::feed::admission::address::AddressRefusal;
use tocsin_core::feed::admission::keys::KeyRefusal;
use tocsin_core::feed::admission::refusal::Refusal;
use tocsin_core::feed::close::CloseReason;
use tocsin_core::limits;
use tocsin_core::model::{Action, FeedPosition};
use tocsin_core::time::{Mono, Now, WallUs};
use tocsin_core::wire::EncodedAnnouncement;

use super::clients::{Got, Manner, Session, field};
use super::durable::Store;
use super::exchange::Exchange;
use super::feeds::{Feed, Sent};
use super::net::is_of_the_network;
use super::pipe::without_stamp;
use super::{Flow, World, broken};

/// An announcement that was made.
struct Made {
    encoded: Arc<EncodedAnnouncement>,
    at: Mono,
    /// It was sent after a later one on some writer.
    overtaken: bool,
}

/// What the world knows; see the module head.
#[derive(Default)]
pub(super) struct Truth {
    made: BTreeMap<FeedPosition, Made>,
    /// By text without stamp, and class.
    texts: HashMap<(Vec<u8>, bool, bool), Vec<FeedPosition>>,
    /// Announcements as new, by exchange and notice.
    created: BTreeMap<(usize, usize), Vec<FeedPosition>>,
    /// What a power cut has taken.
    lost: BTreeSet<FeedPosition>,
    /// Items that a source was shown on a page it could read.
    shown: BTreeMap<(&'static str, Box<str>), Shown>,
    asked: BTreeMap<usize, VecDeque<Mono>>,
    asked_in: u32,
    /// Connections that count, by number.
    live: BTreeMap<u64, (usize, IpAddr)>,
    admissions: VecDeque<(IpAddr, Mono)>,
    revoked: BTreeMap<usize, Mono>,
    expires: BTreeMap<usize, WallUs>,
    newest_wall: WallUs,
    pub(super) clock_set: bool,
    pub(super) draining: bool,
    pub(super) rest_from: Mono,
    sent: BTreeMap<usize, FeedPosition>,
}

/// When a source was first shown an item.
#[derive(Clone, Copy, Debug)]
struct Shown {
    at: Now,
    /// The list had been taken as known before.
    list_known: bool,
}

/// How far an exchange's clock may be ahead.
const CLOCK_SKEW_US: i64 = 60_000_000;
/// What is on its way when everything rests has come then.
const ON_ITS_WAY: Duration = Duration::from_secs(5);
/// An announcement waits for a thread that is off its core, for an earlier number, never longer.
const LONGEST_WAIT: Duration = Duration::from_millis(1_000);
/// From an answered revocation to the last announcement of its sessions.
const REVOCATION: Duration = Duration::from_secs(1);

impl Truth {
    // ---- Announcements -------------------------------------------------------------------------

    /// An announcement is about to be broadcast.
    pub(super) fn announced(
        &mut self,
        encoded: &Arc<EncodedAnnouncement>,
        now: Now,
        exchanges: &[Exchange],
        fresh_for: Duration,
    ) -> Flow {
        let a = &encoded.announcement;
        for (full, redacted) in [(false, false), (true, false), (false, true), (true, true)] {
            if let Some((_, text, _)) = without_stamp(&encoded.payload(full, redacted).json) {
                self.texts.entry((text, full, redacted)).or_default().push(a.position);
            }
        }
        let made = Made { encoded: Arc::clone(encoded), at: now.mono, overtaken: false };
        if self.made.insert(a.position, made).is_some() {
            return broken("positions are given once", a.position);
        }
        let Some((exchange, notice)) = notice_of(exchanges, &a.source, &a.notice_id) else {
            return broken("what is announced was published", format!("{} {}", a.id, a.title));
        };
        let old = exchanges.get(exchange).and_then(|e| e.notices.get(notice)).is_some_and(|n| n.old);
        if a.action != Action::Created {
            return Ok(());
        }
        if old {
            return broken(
                "what was there at the first start is known silently",
                format!("{} {}", a.id, a.title),
            );
        }
        if !a.late
            && a.detected.micros_since(a.published) > i64::try_from(fresh_for.as_micros()).unwrap_or(i64::MAX)
        {
            return broken("what is not fresh is late", format!("{} {}", a.id, a.title));
        }
        let lost = &self.lost;
        let created = self.created.entry((exchange, notice)).or_default();
        created.push(a.position);
        if created.iter().filter(|position| !lost.contains(position)).count() > 1 {
            return broken(
                "a notice is announced as new once",
                format!("{} at {created:?}: {}", a.id, a.title),
            );
        }
        Ok(())
    }

    /// What history must hold at every start: all that was made and not lost with the power.
    pub(super) fn must_be_stored(&self) -> impl Iterator<Item = &FeedPosition> {
        self.made.keys().filter(|position| !self.lost.contains(position))
    }

    /// The power was cut: what the disk does not have is gone.
    pub(super) fn power_cut(&mut self, store: &Store) {
        let gone = self.made.keys().filter(|position| !store.history.contains_key(position));
        self.lost.extend(gone.copied());
    }

    /// What a source was shown and did not remember before its life ended, it is to be shown again.
    pub(super) fn life_begins(&mut self, store: &Store) {
        let knows = |source: &&'static str, id: &str| {
            store.seen.get(source).is_some_and(|rows| rows.iter().any(|row| &*row.record.notice_id == id))
        };
        self.shown.retain(|(source, id), _| knows(source, id));
    }

    pub(super) fn sent(&mut self, writer: usize, position: FeedPosition, now: Mono) -> Flow {
        let Some(made) = self.made.get_mut(&position) else {
            return broken("what is sent was made", position);
        };
        let last = self.sent.entry(writer).or_default();
        made.overtaken |= *last > position;
        *last = (*last).max(position);
        let waited = now.since(made.at);
        if waited > LONGEST_WAIT {
            return broken(
                "no announcement waits behind housekeeping",
                format!("{position} waited {waited:?}"),
            );
        }
        Ok(())
    }

    // ---- Sources -------------------------------------------------------------------------------

    /// Requests stay within the budget of ten minutes.
    pub(super) fn asked(&mut self, source: usize, rate: f64, now: Mono, life: u32) -> Flow {
        if life != self.asked_in {
            self.asked.clear();
            self.asked_in = life;
        }
        let times = self.asked.entry(source).or_default();
        times.push_back(now);
        let window = Duration::from_secs(600);
        while times.front().is_some_and(|at| now.since(*at) >= window) {
            times.pop_front();
        }
        if times.len() as f64 > rate * 600.0 + 1.0 {
            return broken(
                "requests stay within their budget",
                format!("source {source}: {} in 600 s", times.len()),
            );
        }
        Ok(())
    }

    pub(super) fn shown<'r>(
        &mut self,
        source: &'static str,
        ids: impl Iterator<Item = &'r str>,
        at: Now,
        list_known: bool,
    ) {
        for id in ids {
            self.shown.entry((source, id.into())).or_insert(Shown { at, list_known });
        }
    }

    // ---- Keys and limits -----------------------------------------------------------------------

    /// `before`: what it read until then.
    pub(super) fn clock_was_set(&mut self, before: WallUs) {
        self.saw_wall(before);
        self.clock_set = true;
    }

    pub(super) fn revoked(&mut self, key: usize, now: Now) {
        self.revoked.entry(key).or_insert(now.mono);
    }

    pub(super) fn expires(&mut self, key: usize, at: WallUs) {
        self.expires.insert(key, at);
    }

    fn live_of(&self, key: usize) -> usize {
        self.live.values().filter(|(of, _)| *of == key).count()
    }

    fn live_at(&self, address: IpAddr) -> usize {
        self.live.values().filter(|(_, at)| *at == address).count()
    }

    fn admitted_lately(&mut self, address: IpAddr, now: Mono) -> usize {
        while self.admissions.front().is_some_and(|(_, at)| now.since(*at) >= Duration::from_secs(60)) {
            self.admissions.pop_front();
        }
        self.admissions.iter().filter(|(from, _)| *from == address).count()
    }

    pub(super) fn admitted(
        &mut self,
        store: &Store,
        (key, address, connection): (usize, IpAddr, u64),
        now: Now,
    ) -> Flow {
        self.newest_wall = self.newest_wall.max(now.wall);
        let Some(record) = store.keys.get(key) else { return broken("world", "a key that is not there") };
        if self.revoked.contains_key(&key) {
            return broken("a revoked key is refused", format!("key {key}, connection {connection}"));
        }
        if record.expires_at.is_some_and(|end| end <= now.wall) {
            return broken("an expired key is refused", format!("key {key}, connection {connection}"));
        }
        self.live.insert(connection, (key, address));
        let live = self.live_of(key);
        if live > record.max_connections as usize {
            return broken("a key has no more connections than it may", format!("key {key} has {live}"));
        }
        self.admissions.push_back((address, now.mono));
        let (open, lately) = (self.live_at(address), self.admitted_lately(address, now.mono));
        if open > limits::IP_CONNECTIONS as usize || lately > limits::IP_CONNECTS_PER_MINUTE as usize {
            return broken(
                "an address has no more than it may",
                format!("{address}: {open} open, {lately} in a minute"),
            );
        }
        Ok(())
    }

    /// Nobody is refused without the reason given.
    pub(super) fn refused(
        &mut self,
        store: &Store,
        (key, address): (usize, IpAddr),
        refusal: &Refusal,
        now: Now,
    ) -> Flow {
        let record = store.keys.get(key);
        let right = match refusal {
            Refusal::KeyConnections { limit, .. } => self.live_of(key) >= *limit as usize,
            Refusal::Address(AddressRefusal::Connections { limit, .. }) => {
                self.live_at(address) >= *limit as usize
            }
            Refusal::Address(AddressRefusal::RateLimited { limit, .. }) => {
                self.admitted_lately(address, now.mono) >= *limit as usize
            }
            Refusal::Key(KeyRefusal::Revoked) => record.is_some_and(|record| record.revoked_at.is_some()),
            Refusal::Key(KeyRefusal::Expired) => {
                record.and_then(|record| record.expires_at).is_some_and(|end| end <= now.wall)
            }
            // Refused keys are failed authentications.
            Refusal::AuthFailures { .. } => {
                record.is_some_and(|r| r.revoked_at.is_some() || r.expires_at.is_some())
            }
            _ => false,
        };
        if right {
            Ok(())
        } else {
            broken("who is refused has reached a limit", format!("key {key}: {refusal:?}"))
        }
    }

    pub(super) fn released(&mut self, connection: u64) {
        self.live.remove(&connection);
    }

    /// Tables of limits begin anew with a life.
    pub(super) fn all_released(&mut self) {
        self.live.clear();
        self.admissions.clear();
        self.sent.clear();
    }

    pub(super) fn saw_wall(&mut self, wall: WallUs) {
        self.newest_wall = self.newest_wall.max(wall);
    }
}

/// Which notice an item is.
fn notice_of(exchanges: &[Exchange], source: &str, id: &str) -> Option<(usize, usize)> {
    let stream = source.ends_with(".stream");
    exchanges.iter().enumerate().find_map(|(at, exchange)| {
        let ours = if stream {
            source.starts_with(exchange.spec.exchange.name())
        } else {
            exchange.spec.name == source
        };
        let known = |n: &&super::exchange::Notice| if stream { &*n.stream_id == id } else { &*n.id == id };
        let notice = exchange.notices.iter().position(|n| known(&n)).filter(|_| ours)?;
        Some((at, notice))
    })
}

/// An announcement that a session is to receive.
struct Expected {
    sent: Sent,
    replayed: bool,
    must: bool,
}

/// What a session must receive, in its order; see the module head.
fn expected(session: &Session, feed: &Feed, capacity: usize, truth: &Truth) -> Vec<Expected> {
    let Some((len, at)) = session.joined else { return Vec::new() };
    let memory = feed.remembered.get(..len).unwrap_or_default();
    let first = len.saturating_sub(capacity);
    let released = |sent: &Sent| sent.at == Mono(0) || sent.at + session.delay <= at;
    let unreleased =
        memory.get(first..).unwrap_or_default().iter().rev().take_while(|sent| !released(sent)).count();
    let news = len - unreleased;
    let wants = |position: FeedPosition| {
        let Some(made) = truth.made.get(&position) else { return false };
        let a = &made.encoded.announcement;
        session.filter.exchanges.contains(a.exchange)
            && session.filter.types.contains(a.classification.listing_type)
            && (session.full || a.action.is_news())
    };
    let must = session.changes == 0;
    let last = last_position(feed, memory);
    let mut all = Vec::new();
    if let Some(after) = session.resume.filter(|after| *after <= last) {
        for sent in memory.get(first..news).unwrap_or_default() {
            if sent.position > after && (wants(sent.position) || !must) {
                all.push(Expected { sent: *sent, replayed: true, must });
            }
        }
    }
    let from = if session.delay > Duration::ZERO { news } else { len };
    for sent in feed.remembered.get(from..).unwrap_or_default() {
        if !sent.late && (wants(sent.position) || !must) {
            all.push(Expected { sent: *sent, replayed: false, must });
        }
    }
    all
}

/// The newest position a writer has given out.
fn last_position(feed: &Feed, memory: &[Sent]) -> FeedPosition {
    let begun = feed.writer_epoch();
    memory.iter().map(|sent| sent.position).max().unwrap_or_default().max(begun)
}

impl World {
    // ---- While things happen -------------------------------------------------------------------

    /// An announcement has come to a subscriber.
    pub(super) fn note_received(&mut self, connection: u64, got: &Got) -> Flow {
        let Some(session) = self.sessions.get(&connection) else { return Ok(()) };
        let key = (got.text.clone(), session.full, session.redact);
        let Some(positions) = self.truth.texts.get(&key) else {
            let text = String::from_utf8_lossy(&got.text).into_owned();
            return broken("what is received was announced", format!("connection {connection}: {text}"));
        };
        let feed = self.engine.as_ref().and_then(|engine| engine.feeds.get(session.writer));
        let sent = feed.into_iter().flat_map(|feed| feed.remembered.iter().rev());
        let sent = sent.filter(|sent| positions.contains(&sent.position)).map(|sent| sent.at).min();
        let revoked = self.truth.revoked.get(&session.key);
        if let (Some(sent), Some(revoked)) = (sent, revoked)
            && sent > *revoked + REVOCATION
        {
            return broken(
                "a revoked key gets no announcement",
                format!("key {}, connection {connection}", session.key),
            );
        }
        let (full, client) = (session.full, session.client);
        let Some(client) = self.clients.get_mut(client).filter(|_| full) else { return Ok(()) };
        let position =
            FeedPosition { epoch: field(&got.text, "\"epoch\":"), seq: field(&got.text, "\"seq\":") };
        let had = client.had.entry(position).or_default();
        *had += 1;
        if *had > 1 && client.resumes {
            return broken(
                "a resume repeats nothing",
                format!("connection {connection} got {position} again"),
            );
        }
        client.last = client.last.max(Some(position));
        Ok(())
    }

    pub(super) fn note_heartbeat(&mut self, client: usize, position: FeedPosition) {
        if let Some(client) = self.clients.get_mut(client)
            && client.trusts_heartbeats
            && client.resumes
        {
            client.last = client.last.max(Some(position));
        }
    }

    /// Every open session, as far as it has come.
    pub(super) fn judge_all(&mut self) -> Flow {
        let open: Vec<u64> = self.sessions.keys().copied().collect();
        open.into_iter().try_for_each(|connection| self.judge(connection, false))
    }

    /// A session, as far as it has come; `complete`: nothing is on its way any more.
    pub(super) fn judge(&mut self, connection: u64, complete: bool) -> Flow {
        let now = self.now();
        self.truth.saw_wall(now.wall);
        let Some(session) = self.sessions.get(&connection) else { return Ok(()) };
        let Some(feed) = self.engine.as_ref().and_then(|engine| engine.feeds.get(session.writer)) else {
            return Ok(());
        };
        if session.joined.is_none() {
            return Ok(());
        }
        let name = format!("connection {connection} (client {})", session.client);
        judge_order(session, feed, self.drawn.history, &self.truth, complete, &name)?;
        if let Some(engine) = &self.engine {
            judge_gap(session, feed, (&engine.known, self.drawn.history), &self.truth, complete, &name)?;
        }
        if let Some(reason) = session.ended {
            // A memory that is shorter than a key's delay forgets what is still to be released. The engine's
            // holds 4,096, and a world's may hold 3. Late ones are nobody's news and wake nobody, so a delayed
            // session may stand before them until its next ping.
            let since = now.mono - session.delay - limits::PING_PERIOD - Duration::from_secs(1);
            let held_back = feed.remembered.iter().rev().take_while(|sent| sent.at >= since).count();
            let outlived = session.delay > Duration::ZERO && held_back >= self.drawn.history;
            if !(outlived && reason == CloseReason::TooSlow) {
                judge_end(session, reason, &self.truth, now.mono, &name)?;
            }
        }
        let (gap, client) = (session.gap, session.client);
        if let (Some(gap), Some(client)) = (gap, self.clients.get_mut(client))
            && client.gaps.last() != Some(&gap)
        {
            client.gaps.push(gap);
        }
        Ok(())
    }

    // ---- At rest -------------------------------------------------------------------------------

    pub(super) fn is_at_rest(&self) -> bool {
        self.now().mono.since(self.truth.rest_from) >= Duration::from_secs(40) && self.unrest().is_empty()
    }

    /// What is not at rest, in words.
    pub(super) fn unrest(&self) -> String {
        let Some(engine) = &self.engine else { return "the engine is down".to_owned() };
        let mut all = Vec::new();
        for (at, source) in engine.sources.iter().enumerate() {
            if !source.has_answered_since(self.truth.rest_from) {
                all.push(format!("source {at} has not answered"));
            }
        }
        for (at, client) in self.clients.iter().enumerate() {
            let session = client.connection.and_then(|connection| self.sessions.get(&connection));
            let joined = session.is_some_and(|s| s.joined.is_some() && s.welcomes > 0 && s.ended.is_none());
            if !client.stopped && !joined && !self.has_no_place(at) {
                all.push(format!("client {at} is not connected"));
            }
        }
        if engine.threads.iter().any(|thread| !thread.ops.is_empty()) {
            all.push("a source thread has work".to_owned());
        }
        if !engine.journal.is_idle() || !engine.webhook.journal.is_empty() {
            all.push("the journal has work".to_owned());
        }
        all.join(", ")
    }

    /// A key's connections may all be taken by others for good.
    fn has_no_place(&self, client: usize) -> bool {
        let Some(client) = self.clients.get(client) else { return true };
        let most = self.durable.store.keys.get(client.key).map_or(0, |key| key.max_connections as usize);
        self.truth.live_of(client.key) >= most
    }

    /// The end of the second part: everything has been announced, stored and received.
    pub(super) fn check_rest(&mut self) -> Flow {
        // A heartbeat may be on its way at whatever instant one looks.
        let patience = self.now().mono + ON_ITS_WAY;
        while !self.all_drained() && self.now().mono < patience {
            self.run_until(self.now().mono + Duration::from_millis(10))?;
        }
        self.check_sources()?;
        let open: Vec<u64> = self
            .sessions
            .iter()
            .filter(|(_, s)| s.ended.is_none())
            .map(|(connection, _)| *connection)
            .collect();
        for connection in open {
            let drained = self.is_drained(connection);
            self.judge(connection, drained)?;
            if !drained {
                return broken("what is sent arrives", format!("connection {connection} is still behind"));
            }
            self.check_heartbeat(connection)?;
            self.check_right_to_stay(connection)?;
        }
        self.check_resumed_clients()?;
        self.check_bounds()
    }

    fn all_drained(&mut self) -> bool {
        let open = self.sessions.iter().filter(|(_, session)| session.ended.is_none());
        let open: Vec<u64> = open.map(|(connection, _)| *connection).collect();
        open.into_iter().all(|connection| self.is_drained(connection))
    }

    fn is_drained(&mut self, connection: u64) -> bool {
        let Some(session) = self.sessions.get(&connection) else { return true };
        // What is held back by its key's delay is still to come.
        let (writer, delay) = (session.writer, session.delay);
        let now = self.now().mono;
        let Some(feed) = self.engine.as_deref_mut().and_then(|engine| engine.feeds.get_mut(writer)) else {
            return false;
        };
        let last = feed.remembered.last().map_or(Mono(0), |sent| sent.at);
        last + delay <= now && feed.pipe(connection).is_some_and(|pipe| pipe.out.is_empty() && !pipe.waits)
    }

    fn check_heartbeat(&self, connection: u64) -> Flow {
        let Some(session) = self.sessions.get(&connection) else { return Ok(()) };
        let since = session.heartbeat_at.max(session.admitted_at);
        let silent = self.now().mono.since(since);
        if silent > limits::HEARTBEAT_TIMEOUT {
            return broken(
                "a heartbeat comes every 30 s",
                format!("connection {connection}: none for {silent:?}"),
            );
        }
        Ok(())
    }

    /// Whoever is still connected may be: its key is good, and it has kept to the limits.
    fn check_right_to_stay(&self, connection: u64) -> Flow {
        let Some(session) = self.sessions.get(&connection) else { return Ok(()) };
        let now = self.now();
        let name = format!("connection {connection}, key {}", session.key);
        if self.truth.revoked.get(&session.key).is_some_and(|at| now.mono.since(*at) > REVOCATION) {
            return broken("a revoked key has no session", name);
        }
        let key = self.durable.store.keys.get(session.key);
        let over = key.and_then(|key| key.expires_at).map(|end| now.wall.micros_since(end));
        // A session looks at the clock when its ping is due at the latest.
        if over.is_some_and(|us| us > 16_000_000) {
            return broken("an expired key has no session", name);
        }
        if session.floods_within(Duration::from_secs(50)) && !session.impaired {
            return broken("four messages in a minute end a session", name);
        }
        Ok(())
    }

    /// What a source was shown is in the store; what was published since the first start was announced once.
    fn check_sources(&self) -> Flow {
        let store = &self.durable.store;
        for ((source, id), Shown { at, list_known }) in &self.truth.shown {
            let known =
                store.seen.get(source).is_some_and(|rows| rows.iter().any(|row| row.record.notice_id == *id));
            if !known {
                return broken(
                    "what a source was shown is remembered",
                    format!("{source} {id}, shown at {at:?}"),
                );
            }
            let Some((exchange, notice)) = notice_of(&self.exchanges, source, id) else { continue };
            let Some(known) = self.exchanges.get(exchange).and_then(|e| e.notices.get(notice)) else {
                continue;
            };
            let start =
                store.lists.iter().filter(|((of, _), _)| of == source).map(|(_, row)| row.first_start).max();
            let after = start.is_some_and(|start| known.published.micros_since(start) > 1_000_000);
            if known.old || !after || known.edits > 0 || known.pinned {
                continue;
            }
            // With its clock set back, a source met its list for the first time with something on it whose
            // time was still to come. Such a time does not prove that it was published after the first start:
            // exchanges write notices ahead. The core takes it as known, as all of that page.
            if !list_known && known.published.micros_since(at.wall) > CLOCK_SKEW_US {
                continue;
            }
            let announced = self.truth.created.get(&(exchange, notice)).into_iter().flatten();
            if announced.filter(|position| store.history.contains_key(position)).count() != 1 {
                return broken(
                    "what is published is announced once",
                    format!("{source} {id} {}", known.title),
                );
            }
        }
        Ok(())
    }

    /// A subscriber that resumes has everything, or was told what it has not.
    fn check_resumed_clients(&self) -> Flow {
        for (at, client) in self.clients.iter().enumerate() {
            let Some(session) = client.connection.and_then(|connection| self.sessions.get(&connection))
            else {
                continue;
            };
            let (Some(since), true) = (client.since, client.resumes) else { continue };
            for (position, made) in self.truth.made.range(since..).filter(|(position, _)| **position > since)
            {
                let a = &made.encoded.announcement;
                let told = client.had.contains_key(position)
                    || client.gaps.iter().any(|(from, to)| from <= position && position <= to);
                let spared = a.late || made.overtaken || self.truth.lost.contains(position) || client.changed;
                let wanted = session.filter.exchanges.contains(a.exchange)
                    && session.filter.types.contains(a.classification.listing_type);
                if wanted && !told && !spared {
                    return broken(
                        "who resumes misses nothing untold",
                        format!("client {at} has not got {position}"),
                    );
                }
            }
        }
        Ok(())
    }

    fn check_bounds(&mut self) -> Flow {
        let Some(engine) = self.engine.as_deref_mut() else { return Ok(()) };
        let mut most = 0;
        for feed in &mut engine.feeds {
            let mut from = Some(0);
            while let Some(next) = from {
                from = feed.writer.look(next, |row, _| {
                    most = most.max(row.waiting_bytes);
                    true
                });
            }
        }
        if most > limits::PRIVATE_QUEUE_BYTES + limits::GATHER_BYTES {
            return broken("what waits for a subscriber is bounded", format!("{most} bytes"));
        }
        Ok(())
    }

    /// The drain has closed everyone, with its reason.
    pub(super) fn check_drained(&mut self) -> Flow {
        let Some(engine) = &self.engine else { return Ok(()) };
        let left: Vec<u64> = engine.feeds.iter().flat_map(Feed::connections).collect();
        if left.is_empty() {
            Ok(())
        } else {
            broken("a drain closes everyone", format!("connections {left:?}"))
        }
    }
}

/// What was received is what was expected, in its order, stamped and marked as it should be.
fn judge_order(
    session: &Session,
    feed: &Feed,
    capacity: usize,
    truth: &Truth,
    complete: bool,
    name: &str,
) -> Flow {
    let expected = expected(session, feed, capacity, truth);
    let mut next = expected.iter();
    for got in &session.got {
        let key = (got.text.clone(), session.full, session.redact);
        let positions = truth.texts.get(&key).map_or(&[][..], Vec::as_slice);
        let found = loop {
            let Some(candidate) = next.next() else {
                return broken(
                    "nothing comes twice or unasked",
                    format!("{name} got {positions:?} beyond what is due"),
                );
            };
            if positions.contains(&candidate.sent.position) {
                break candidate;
            }
            if candidate.must {
                let lacks = candidate.sent.position;
                return broken(
                    "nothing is left out, in order",
                    format!("{name} got {positions:?}, not {lacks}"),
                );
            }
        };
        judge_stamp(session, got, found, truth, name)?;
    }
    if complete && let Some(lacks) = next.find(|expected| expected.must) {
        return broken("everything sent is received", format!("{name} lacks {}", lacks.sent.position));
    }
    if session.welcomes > 1 || complete && session.welcomes == 0 {
        return broken("one welcome", format!("{name} got {}", session.welcomes));
    }
    Ok(())
}

fn judge_stamp(session: &Session, got: &Got, due: &Expected, truth: &Truth, name: &str) -> Flow {
    let position = due.sent.position;
    if session.full && session.changes == 0 && got.replayed != due.replayed {
        return broken("a replay is marked, and nothing else", format!("{name}: {position}"));
    }
    let first = truth.made.get(&position).and_then(|made| made.encoded.dispatched());
    let delayed = session.delay > Duration::ZERO;
    let right = match (delayed, due.replayed) {
        (false, false) => got.stamp == due.sent.wall.0 || first.is_some_and(|first| got.stamp == first.0),
        (false, true) => first.is_none_or(|first| got.stamp == first.0),
        (true, _) => truth.clock_set || got.stamp >= due.sent.wall.0,
    };
    if !right {
        return broken("the stamp is the time of dispatch", format!("{name}: {position} has {}", got.stamp));
    }
    if delayed && !due.replayed && got.at < due.sent.at + session.delay {
        return broken("what is delayed comes no earlier", format!("{name}: {position}"));
    }
    Ok(())
}

/// What a resume could not replay was told.
fn judge_gap(
    session: &Session,
    feed: &Feed,
    (known, capacity): (&[FeedPosition], usize),
    truth: &Truth,
    complete: bool,
    name: &str,
) -> Flow {
    let (Some(after), Some((len, _))) = (session.resume, session.joined) else { return Ok(()) };
    if session.got.is_empty() && !complete {
        return Ok(());
    }
    let memory = feed.remembered.get(..len).unwrap_or_default();
    let last = last_position(feed, memory);
    let held = memory.get(len.saturating_sub(capacity)..).unwrap_or_default();
    let is_held = |position: FeedPosition| held.iter().any(|sent| sent.position == position);
    let all = known.iter().copied().chain(memory.iter().map(|sent| sent.position));
    let unknown = after > last;
    let lacks: Vec<FeedPosition> =
        all.filter(|position| {
            if unknown { position.epoch == last.epoch } else { *position > after && !is_held(*position) }
        })
        .filter(|position| truth.made.contains_key(position))
        .collect();
    let told =
        |position: &FeedPosition| session.gap.is_some_and(|(from, to)| from <= *position && *position <= to);
    match lacks.iter().find(|position| !told(position)) {
        Some(lacks) => {
            broken("a gap is told", format!("{name} resumed after {after} and was not told of {lacks}"))
        }
        None => Ok(()),
    }
}

/// Every end has a reason that is true, and the peer was told it.
fn judge_end(session: &Session, reason: CloseReason, truth: &Truth, now: Mono, name: &str) -> Flow {
    // On the way some may have come closer to one another.
    let flooded =
        session.floods_within(Duration::from_secs(70)) || session.impaired && session.said.len() > 3;
    // A full buffer that has room again is told within a turn; what is vanished stays in the way.
    let held_up = |within| session.vanished || session.left || session.was_impaired(now, within);
    let right = match reason {
        CloseReason::KeyExpired => {
            truth.expires.contains_key(&session.key)
                || session.key_ends.is_some_and(|end| end <= truth.newest_wall)
        }
        CloseReason::KeyRevoked => truth.revoked.contains_key(&session.key),
        CloseReason::TooSlow => held_up(Duration::from_secs(1)),
        CloseReason::RateLimitExceeded => flooded,
        CloseReason::ControlFlood => session.controls > 0,
        CloseReason::FrameTooLarge => session.broke_protocol && session.manner_was(Manner::BigFrame),
        CloseReason::ProtocolError => session.broke_protocol && session.manner_was(Manner::BreaksFraming),
        CloseReason::InvalidUtf8 => session.broke_protocol && session.manner_was(Manner::BadText),
        CloseReason::PongTimeout => {
            let within = limits::PONG_TIMEOUT + Duration::from_secs(1);
            held_up(within) || session.manner_was(Manner::NoPong) || session.manner_was(Manner::Vanishes)
        }
        CloseReason::Restart => truth.draining,
        CloseReason::PeerClosed => session.sent_close,
        CloseReason::PeerGone => session.left,
        CloseReason::SocketError => session.reset,
    };
    if !right {
        return broken("every end has a true reason", format!("{name}: {reason:?}"));
    }
    let Some((code, text)) = &session.close else { return Ok(()) };
    let (wanted, words) = match reason {
        CloseReason::KeyExpired => (1_000, "key_expired"),
        CloseReason::KeyRevoked => (1_000, "key_revoked"),
        CloseReason::TooSlow => (1_008, "too_slow"),
        CloseReason::RateLimitExceeded | CloseReason::ControlFlood => (1_008, "rate_limit_exceeded"),
        CloseReason::PongTimeout => (1_001, "pong_timeout"),
        CloseReason::Restart => (1_012, "restart"),
        CloseReason::FrameTooLarge => (1_009, text.as_str()),
        CloseReason::InvalidUtf8 => (1_007, text.as_str()),
        CloseReason::ProtocolError => (1_002, text.as_str()),
        CloseReason::PeerClosed => (1_000, ""),
        reason if is_of_the_network(reason) => (*code, text.as_str()),
        _ => (0, ""),
    };
    if (*code, text.as_str()) != (wanted, words) {
        return broken("a close frame says why", format!("{name}: {reason:?} as {code} {text:?}"));
    }
    Ok(())
}
