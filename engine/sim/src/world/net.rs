//! Between subscribers and the engine: connections, what is on its way in both directions, who leaves how.

use std::net::IpAddr;

use core::time::Duration;

use tocsin_core::feed::admission::decide::Decision;
use tocsin_core::feed::admission::refusal::Refusal;
use tocsin_core::feed::close::CloseReason;
use tocsin_core::feed::reconnect::{Ending, Verdict};
use tocsin_core::http1::request::RequestHead;
use tocsin_core::model::FeedPosition;
use tocsin_core::ws::Opcode;
use tocsin_core::ws::handshake::{UpgradeRequest, write_request};

use super::boot::Engine;
use super::clients::{Manner, Session, close_frame, frame};
use super::faults::key_text;
use super::feeds::{self, Ready, ToWriter, Told};
use super::plant::Plant;
use super::{Event, Flow, Thing, World, broken};

impl World {
    /// Has a subscriber connect after a while, if it is neither connected nor about to.
    pub(super) fn come_back(&mut self, client: usize, after: Duration) {
        let jitter = self.dice.millis(0, 500);
        let Some(known) = self.clients.get_mut(client) else { return };
        if known.due || known.stopped || known.connection.is_some() || !self.feeding {
            return;
        }
        known.due = true;
        self.plan(after + jitter, Event::Connect(client));
    }

    pub(super) fn connect(&mut self, client: usize) -> Flow {
        let now = self.now();
        let Some(known) = self.clients.get_mut(client) else { return Ok(()) };
        known.due = false;
        let Some(engine) = self.engine.as_deref_mut().filter(|_| self.feeding) else {
            self.ended(client, Ending::Lost, Duration::ZERO);
            return Ok(());
        };
        let target = known.target();
        let mut head = Vec::new();
        let request = UpgradeRequest {
            host: "feed.example",
            target: &target,
            nonce: [3; 16],
            headers: &[("X-API-Key", &key_text(known.key))],
        };
        if write_request(&mut head, &request).is_err() {
            return broken("world", "a request that cannot be written");
        }
        let Ok(parsed) = RequestHead::parse(&head) else {
            return broken("requests are understood", format!("{target} is not parsed"));
        };
        let address = IpAddr::from(known.address);
        match engine.admission.decide(&parsed, address, now) {
            Decision::Admit(admitted) => {
                let connection = self.next_connection;
                self.next_connection += 1;
                let writer = self.dice.index(engine.feeds.len());
                let mut session =
                    Session::new(client, writer, known, admitted.subscription.filter.clone(), now.mono);
                session.redact = admitted.subscription.redact;
                session.delay = admitted.subscription.delay;
                session.key_ends = admitted.subscription.expires_at;
                known.connection = Some(connection);
                self.truth.admitted(&self.durable.store, (known.key, address, connection), now)?;
                let room =
                    if known.manner == Manner::Good { 64 * 1_024 } else { self.dice.index(4_000) + 300 };
                let (tls, plant) = (self.dice.coin(), self.plant);
                let pipe = feeds::pipe(connection, room, tls, &self.outbox, plant);
                if let Some(feed) = engine.feeds.get_mut(writer) {
                    feed.accept.push_back(ToWriter::Join { connection, admitted, pipe, early: Vec::new() });
                }
                let resume = session.resume;
                self.sessions.insert(connection, session);
                self.say(|| {
                    format!("{client} is connection {connection} of writer {writer}, resume {resume:?}")
                });
                let handshake = self.lag(100, 3_000);
                self.wake(Thing::Feed(writer), handshake);
                let first = self.dice.millis(500, 20_000);
                self.plan(first, Event::Act(client));
                Ok(())
            }
            Decision::Refuse(refusal) => self.refused(client, &refusal),
            Decision::History(..) => broken("world", "a feed request became a history query"),
        }
    }

    fn refused(&mut self, client: usize, refusal: &Refusal) -> Flow {
        let now = self.now();
        let Some(known) = self.clients.get(client) else { return Ok(()) };
        self.truth.refused(&self.durable.store, (known.key, IpAddr::from(known.address)), refusal, now)?;
        let status = match refusal {
            Refusal::Key(_) => 403,
            Refusal::Upgrade(_) | Refusal::Parameter(_) | Refusal::Head(_) | Refusal::NotFound => {
                return broken("requests are understood", format!("{refusal:?}"));
            }
            Refusal::MissingKey => 401,
            _ => 429,
        };
        self.say(|| format!("{client} is refused: {refusal:?}"));
        self.ended(client, Ending::Refused { status, retry_after: None }, Duration::ZERO);
        Ok(())
    }

    /// A connection or the attempt at one has ended: the subscriber does as the specification recommends.
    fn ended(&mut self, client: usize, ending: Ending<'_>, open_for: Duration) {
        let Some(known) = self.clients.get_mut(client) else { return };
        known.connection = None;
        match known.reconnect.after(ending, open_for) {
            Verdict::RetryAfter(after) => self.come_back(client, after),
            Verdict::Stop => {
                known.stopped = true;
                self.say(|| format!("{client} stops: {ending:?}"));
            }
        }
    }

    // ---- From the engine -----------------------------------------------------------------------

    /// What writers have offered goes onto the network.
    pub(super) fn flush_outbox(&mut self) {
        let mut connections = core::mem::take(&mut *self.outbox.borrow_mut());
        connections.sort_unstable();
        connections.dedup();
        for connection in connections {
            self.deliver_soon(connection);
        }
    }

    fn deliver_soon(&mut self, connection: u64) {
        self.note_full(connection);
        let latency = self.dice.micros(200, if self.faults.network { 80_000 } else { 5_000 });
        let at = self.now().mono + latency;
        let Some(session) = self.sessions.get_mut(&connection) else { return };
        if session.delivering || session.vanished || session.reset {
            return;
        }
        session.delivering = true;
        let at = at.max(session.clogged_until);
        self.plan_at(at, Event::Deliver(connection));
    }

    /// Whoever's buffer is full is held up at this instant.
    fn note_full(&mut self, connection: u64) {
        let now = self.now().mono;
        let Some(session) = self.sessions.get_mut(&connection) else { return };
        let feed = self.engine.as_deref_mut().and_then(|engine| engine.feeds.get_mut(session.writer));
        if feed.and_then(|feed| feed.pipe(connection)).is_some_and(|pipe| pipe.waits) {
            session.is_impaired(now);
        }
    }

    /// Bytes arrive at the subscriber, as many as it reads.
    pub(super) fn deliver(&mut self, connection: u64) -> Flow {
        let now = self.now();
        let lost_wakeup = self.plant == Some(Plant::LostWakeup) && self.dice.per_mille(500);
        let Some(session) = self.sessions.get_mut(&connection) else { return Ok(()) };
        session.delivering = false;
        if session.vanished || session.reset {
            return Ok(());
        }
        let most = match session.manner {
            Manner::Slow(bytes_per_second) => bytes_per_second / 10,
            _ => usize::MAX,
        };
        let writer = session.writer;
        let feed = self.engine.as_deref_mut().and_then(|engine| engine.feeds.get_mut(writer));
        let mut left = 0;
        let mut bytes = Vec::new();
        let mut over = false;
        if let Some(tail) = &mut session.tail {
            let count = tail.len().min(most);
            bytes = tail.drain(..count).collect();
            left = tail.len();
            over = left == 0;
        } else if let Some(feed) = feed {
            let mut writable = false;
            if let Some(pipe) = feed.pipe(connection) {
                let count = pipe.out.len().min(most);
                bytes = pipe.out.drain(..count).collect();
                pipe.room += count;
                left = pipe.out.len();
                if pipe.waits || left > 0 {
                    session.is_impaired(now.mono);
                }
                writable = core::mem::take(&mut pipe.waits);
                over = left == 0 && pipe.finished;
            }
            if writable && !lost_wakeup {
                feed.ready.push_back((connection, Ready::Write));
                self.wake_feed(writer);
            }
        }
        let Some(session) = self.sessions.get_mut(&connection) else { return Ok(()) };
        if left > 0 {
            session.delivering = true;
            self.plan(Duration::from_millis(100), Event::Deliver(connection));
        }
        self.received(connection, &bytes, now)?;
        if over {
            self.closed_by_server(connection);
        }
        Ok(())
    }

    fn received(&mut self, connection: u64, bytes: &[u8], now: tocsin_core::time::Now) -> Flow {
        let Some(session) = self.sessions.get_mut(&connection) else { return Ok(()) };
        if session.left {
            // Whoever has left reads no more.
            return Ok(());
        }
        let client = session.client;
        let text = self.clients.get(client).is_some_and(|client| client.text);
        let before = session.got.len();
        let uplink = session.receive(bytes, text, (now.mono, now.wall));
        if self.plant == Some(Plant::ForgottenGap) {
            session.gap = None;
        }
        let closes = session.close.is_some();
        if let Some(why) = session.garbled {
            return broken("every frame is whole and known", format!("connection {connection}: {why}"));
        }
        let fresh: Vec<_> = session.got.get(before..).unwrap_or_default().to_vec();
        let heartbeat = session.heartbeat.take();
        for got in &fresh {
            self.seen.received += 1;
            self.note_received(connection, got)?;
        }
        if let Some(position) = heartbeat {
            self.note_heartbeat(client, position);
        }
        let answered = !uplink.is_empty();
        for bytes in uplink {
            self.send(connection, &bytes);
        }
        if closes && answered {
            let after = self.dice.millis(1, 20);
            self.plan(after, Event::Leave { connection, reset: false });
        }
        Ok(())
    }

    /// The server has closed its side: the subscriber closes too.
    fn closed_by_server(&mut self, connection: u64) {
        let after = self.dice.millis(1, 20);
        let Some(session) = self.sessions.get_mut(&connection) else { return };
        let (client, left) = (session.client, session.left);
        let open_for = self.clock.now().mono.since(session.admitted_at);
        let close = session.close.clone();
        if !left {
            self.plan(after, Event::Leave { connection, reset: false });
        }
        let mine = self.clients.get(client).is_some_and(|client| client.connection == Some(connection));
        if mine {
            match close {
                Some((_, reason)) => self.ended(client, Ending::Closed { reason: &reason }, open_for),
                None => self.ended(client, Ending::Lost, open_for),
            }
        }
    }

    /// What a writer's turn has told.
    pub(super) fn take_told(&mut self, writer: usize, told: Told) -> Flow {
        let now = self.now();
        match told {
            Told::Joined { connection, sent } => {
                let Some(session) = self.sessions.get_mut(&connection) else { return Ok(()) };
                session.joined = Some((sent, now.mono));
                let client = session.client;
                let feed = self.engine.as_ref().and_then(|engine| engine.feeds.get(writer));
                let last = feed
                    .and_then(|f| f.remembered.get(..sent))
                    .into_iter()
                    .flatten()
                    .map(|s| s.position)
                    .max();
                let epoch = self.engine.as_ref().map_or(0, |engine| engine.epoch);
                let last = last.unwrap_or(FeedPosition { epoch, seq: 0 });
                let resumed = session.resume.is_some();
                if let Some(client) = self.clients.get_mut(client) {
                    // Who has nothing yet begins anew.
                    client.since = client.since.filter(|_| resumed).or(Some(last));
                }
                Ok(())
            }
            Told::Ended { connection, reason, key, pipe } => {
                self.say(|| format!("connection {connection} of writer {writer} ended: {reason:?}"));
                let Some(engine) = self.engine.as_deref_mut() else { return Ok(()) };
                release(engine, writer, connection, key, self.plant);
                self.truth.released(connection);
                let reset = pipe.broken;
                let Some(session) = self.sessions.get_mut(&connection) else { return Ok(()) };
                if pipe.waits {
                    session.is_impaired(now.mono);
                }
                session.ended = Some(reason);
                session.tail = Some(pipe.out);
                self.judge(connection, false)?;
                if !reset {
                    self.deliver_soon(connection);
                }
                Ok(())
            }
        }
    }

    // ---- From the subscriber -------------------------------------------------------------------

    /// Sends bytes behind what was sent before, in pieces.
    pub(super) fn send(&mut self, connection: u64, bytes: &[u8]) {
        let latency = self.dice.micros(200, if self.faults.network { 60_000 } else { 5_000 });
        let pieces = if self.faults.network { self.dice.between(1, 3) } else { 1 };
        let now = self.now().mono;
        let Some(session) = self.sessions.get_mut(&connection) else { return };
        if session.vanished || session.reset || session.left {
            return;
        }
        let at = (now + latency).max(session.uplink_at).max(session.clogged_until);
        session.uplink_at = at;
        let size = bytes.len().div_ceil(usize::try_from(pieces).unwrap_or(1)).max(1);
        for piece in bytes.chunks(size) {
            self.plan_at(at, Event::Uplink { connection, bytes: piece.to_vec() });
        }
    }

    pub(super) fn uplink(&mut self, connection: u64, bytes: &[u8]) -> Flow {
        let Some(session) = self.sessions.get(&connection) else { return Ok(()) };
        let writer = session.writer;
        let Some(feed) = self.engine.as_deref_mut().and_then(|engine| engine.feeds.get_mut(writer)) else {
            return Ok(());
        };
        if session.ended.is_some() {
            return Ok(());
        }
        feed.inboxes.entry(connection).or_default().bytes.extend(bytes);
        feed.ready.push_back((connection, Ready::Read));
        self.wake_feed(writer);
        Ok(())
    }

    /// The subscriber's side ends.
    pub(super) fn leave(&mut self, connection: u64, reset: bool) -> Flow {
        let Some(session) = self.sessions.get_mut(&connection) else { return Ok(()) };
        if session.left || session.reset {
            return Ok(());
        }
        let uplink_at = session.uplink_at;
        if uplink_at > self.clock.now().mono && !reset {
            self.plan_at(uplink_at, Event::Leave { connection, reset });
            return Ok(());
        }
        session.left = true;
        session.reset = reset;
        let (writer, client) = (session.writer, session.client);
        let open_for = self.clock.now().mono.since(session.admitted_at);
        let closed = session.close.clone();
        if session.ended.is_none()
            && let Some(feed) = self.engine.as_deref_mut().and_then(|engine| engine.feeds.get_mut(writer))
        {
            let inbox = feed.inboxes.entry(connection).or_default();
            inbox.end = true;
            inbox.reset = reset;
            if reset && let Some(pipe) = feed.pipe(connection) {
                pipe.broken = true;
            }
            feed.ready.push_back((connection, Ready::Read));
            self.wake_feed(writer);
        }
        let mine = self.clients.get(client).is_some_and(|client| client.connection == Some(connection));
        if mine {
            match closed {
                Some((_, reason)) => self.ended(client, Ending::Closed { reason: &reason }, open_for),
                None => self.ended(client, Ending::Lost, open_for),
            }
        }
        Ok(())
    }

    /// The process has died: every connection is lost.
    pub(super) fn lose_all_sessions(&mut self) {
        let open: Vec<u64> = self.sessions.keys().copied().collect();
        for connection in open {
            let Some(session) = self.sessions.remove(&connection) else { continue };
            let open_for = self.clock.now().mono.since(session.admitted_at);
            let client = session.client;
            let mine = self.clients.get(client).is_some_and(|client| client.connection == Some(connection));
            if mine {
                self.ended(client, Ending::Lost, open_for);
            }
        }
        self.truth.all_released();
    }

    /// What a subscriber does now and then, by its manner.
    pub(super) fn act(&mut self, client: usize) -> Flow {
        let Some(known) = self.clients.get(client) else { return Ok(()) };
        let (manner, Some(connection)) = (known.manner, known.connection) else { return Ok(()) };
        let now = self.now().mono;
        if manner == Manner::Good || !self.faults.subscribers && manner != Manner::Talks {
            return Ok(());
        }
        let Some(session) = self.sessions.get_mut(&connection) else { return Ok(()) };
        let mut frames = Vec::new();
        match manner {
            Manner::Good | Manner::Slow(_) | Manner::NoPong => {}
            Manner::Vanishes => {
                session.vanished = true;
                session.is_impaired(now);
            }
            Manner::Floods => {
                frames = vec![frame(Opcode::Text, b"{\"type\":\"test\"}"); 5];
                session.said.extend([now; 5]);
            }
            Manner::ControlFloods => {
                frames = vec![frame(Opcode::Ping, b"hello"); 40];
                session.controls += 40;
            }
            Manner::BigFrame => {
                frames.push(frame(Opcode::Binary, &[b'x'; 1_025]));
                session.broke_protocol = true;
            }
            Manner::BadText => {
                frames.push(frame(Opcode::Text, &[0xFF, 0xFE]));
                session.broke_protocol = true;
            }
            Manner::BreaksFraming => {
                frames.push(vec![0xF1, 0x80, 0, 0, 0, 0]);
                session.broke_protocol = true;
            }
            Manner::Restless => match self.dice.below(3) {
                0 => self.plan(Duration::ZERO, Event::Leave { connection, reset: true }),
                1 => self.plan(Duration::ZERO, Event::Leave { connection, reset: false }),
                _ => {
                    session.sent_close = true;
                    frames.push(close_frame(1_000));
                }
            },
            Manner::Talks => {
                let recent =
                    session.said.iter().filter(|at| now.since(**at) < Duration::from_secs(75)).count();
                if recent < 3 {
                    session.said.push(now);
                    let say: &[u8] = match self.dice.below(3) {
                        0 => b"{\"type\":\"test\"}",
                        1 => b"what is this",
                        _ => {
                            session.changes += 1;
                            if let Some(client) = self.clients.get_mut(client) {
                                client.changed = true;
                            }
                            b"{\"type\":\"subscribe\",\"types\":\"spot_listing\"}"
                        }
                    };
                    frames.push(frame(Opcode::Text, say));
                }
            }
        }
        for bytes in frames {
            self.send(connection, &bytes);
        }
        let next = self.dice.millis(2_000, 30_000);
        self.plan(next, Event::Act(client));
        Ok(())
    }

    /// The network is in the way of a connection for a while; mostly it breaks then.
    pub(super) fn clog(&mut self) {
        let open: Vec<u64> = self
            .sessions
            .iter()
            .filter(|(_, s)| s.ended.is_none())
            .map(|(connection, _)| *connection)
            .collect();
        let Some(connection) = open.get(self.dice.index(open.len())).copied() else { return };
        let until = self.now().mono + self.dice.millis(50, 45_000);
        let breaks = self.dice.per_mille(500);
        if let Some(session) = self.sessions.get_mut(&connection) {
            session.clogged_until = until;
            session.is_impaired(until);
        }
        self.say(|| {
            format!(
                "connection {connection} is clogged, and {} then",
                if breaks { "breaks" } else { "goes on" }
            )
        });
        if breaks {
            self.plan_at(until, Event::Leave { connection, reset: true });
        }
    }
}

/// An ended session gives its place back.
fn release(
    engine: &mut Engine,
    writer: usize,
    connection: u64,
    key: tocsin_core::feed::key::KeyId,
    plant: Option<Plant>,
) {
    let bucket = engine.feeds.get_mut(writer).and_then(|feed| feed.buckets.remove(&connection));
    if plant == Some(Plant::LimitsLeak) {
        return;
    }
    if let Some(bucket) = bucket {
        engine.admission.release(bucket, key);
    }
}

/// Reasons that the network or the peer gives and nobody is told.
pub(super) const fn is_of_the_network(reason: CloseReason) -> bool {
    matches!(reason, CloseReason::PeerGone | CloseReason::SocketError)
}
