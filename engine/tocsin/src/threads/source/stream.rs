//! One push source on its thread: its sessions, one after another, and what they bring.
//!
//! Contract: as [`super::lane::Lane`]'s: [`StreamLane::on_event`] moves one session on,
//! [`StreamLane::on_time`] does what is due and says when something is due again, [`StreamLane::housekeep`]
//! reports. Nothing blocks. A turn without a message allocates nothing outside the TLS library; a message that
//! says nothing new, nothing once buffers have grown to its size. When to open, what to send and what is news are
//! decided in the core ([`Relay`], [`Conversation`], [`StreamDetector`]). Owner: a source thread. Every failure of a
//! server ends in a [`Failure`]: counted, and the next session rests.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use mio::Token;
use ring::rand::{SecureRandom as _, SystemRandom};
use tocsin_core::detect::Findings;
use tocsin_core::detect::stream::StreamDetector;
use tocsin_core::detect::told::Told;
use tocsin_core::limits;
use tocsin_core::source::backoff::{Failure, Health, jittered};
use tocsin_core::source::stream::credentials::Credentials;
use tocsin_core::source::stream::relay::{Order, PLACES, Relay};
use tocsin_core::source::stream::session::{Conversation, Step};
use tocsin_core::source::stream::{Ask, Fresh, Incoming, ParameterOrder, StreamSpec};
use tocsin_core::source::{ParseError, Scratch, SourceState, SourceStatus};
use tocsin_core::time::{Mono, Now, WallUs};
use tocsin_core::ws::client::{End, Heard};
use tocsin_core::ws::handshake::{NONCE_BYTES, UpgradeRequest, write_request};
use zeroize::Zeroizing;

use super::announce::Teller;
use super::lane::Context;
use super::stats::{Count, Local, SourceStats};
use super::{Random, SLOT_BITS};
use crate::net::dns::{Addresses, ResolverClient};
use crate::net::http::{Cause, Peer};
use crate::net::tls::ClientTls;
use crate::net::url::BaseUrl;
use crate::net::ws_connection::{Event, WsConnection};

/// What a push source needs to run.
pub struct StreamParts {
    /// The source.
    pub spec: &'static StreamSpec,
    /// Where to connect: the source's own address, or the configured one.
    pub url: BaseUrl,
    /// How to check it.
    pub tls: ClientTls,
    /// The operator's key, where one is needed.
    pub credentials: Option<Credentials>,
    /// The order in which parameters are signed.
    pub order: ParameterOrder,
    /// A session is replaced at this age.
    pub rotate_after: Option<Duration>,
    /// An edit heard after a silence longer than this may be old.
    pub fresh_for: Duration,
    /// Local addresses to leave from, in turn; empty leaves it to the kernel.
    pub bind: Vec<IpAddr>,
    /// With what the store remembers loaded.
    pub detector: StreamDetector,
    /// With what the store remembers loaded, under the exchange's own identifiers.
    pub told: Told,
    /// Where to publish counts.
    pub stats: Arc<SourceStats>,
}

/// A place for a session.
struct Seat {
    socket: WsConnection,
    /// From the upgrade on.
    conversation: Option<Conversation>,
    /// Nobody had listened for long before this session.
    gap: bool,
}

/// A running push source.
pub(super) struct StreamLane {
    spec: &'static StreamSpec,
    peer: Peer,
    credentials: Option<Credentials>,
    order: ParameterOrder,
    fresh_for: Duration,
    seats: [Seat; PLACES],
    relay: Relay,
    detector: StreamDetector,
    teller: Teller,
    findings: Findings,
    parser: Scratch,
    /// The message being read, and the text being written.
    message: Vec<u8>,
    text: String,
    random: SystemRandom,
    health: Health,
    local: Local,
    stats: Arc<SourceStats>,
    addresses: Addresses,
    ask_at: Mono,
    /// When a session was live last.
    live_at: Option<Mono>,
    reported: Option<SourceState>,
    report_at: Mono,
    due: Mono,
}

/// What is taken in while a socket is read.
struct Ears<'a> {
    spec: &'static StreamSpec,
    conversation: &'a mut Conversation,
    gap: bool,
    detector: &'a mut StreamDetector,
    findings: &'a mut Findings,
    parser: &'a mut Scratch,
    message: &'a mut Vec<u8>,
    local: &'a mut Local,
    now: Mono,
    clock: fn() -> Now,
    /// When what came last came.
    received: Option<WallUs>,
    failure: Option<Failure>,
}

impl Ears<'_> {
    fn hear(&mut self, heard: Heard<'_>) {
        self.conversation.on_bytes(self.now);
        let wall = (self.clock)().wall;
        self.received = Some(wall);
        let text = match heard {
            Heard::Pong(_) => return self.conversation.on_pong(self.now),
            Heard::Ping => return,
            Heard::Text(text) => text.as_bytes(),
            Heard::Binary(bytes) => bytes,
        };
        self.local.add(Count::Messages, 1);
        self.message.clear();
        self.message.extend_from_slice(text);
        let (detector, findings) = (&mut *self.detector, &mut *self.findings);
        let gap = self.gap && self.conversation.may_be_replay(self.now);
        let read = (self.spec.read)(self.parser, self.message, &mut |channel, item| {
            detector.on_item(channel, item, gap, wall, findings);
        });
        match read {
            Ok(incoming) => {
                if let Incoming::Items(parsed) = incoming {
                    self.local.add(Count::Parsed, 1);
                    self.local.add(Count::RowsSkipped, parsed.skipped as u64);
                }
                if let Incoming::Rejected(..) = incoming {
                    self.local.fail(Failure::Status);
                }
                self.failure = self.failure.or(self.conversation.on_message(&incoming, self.now));
            }
            // One message nobody understands is no reason to miss those that follow.
            Err(ParseError::Refused(_)) => self.failure = Some(Failure::Status),
            Err(_) => self.local.fail(Failure::Unusable),
        }
    }
}

impl StreamLane {
    /// What tells its news.
    pub(super) fn teller(&mut self) -> &mut Teller {
        &mut self.teller
    }

    pub(super) fn new(index: usize, parts: StreamParts, random: &mut Random) -> StreamLane {
        let spec = parts.spec;
        let seat = |place: usize| {
            let turn = place % parts.bind.len().max(1);
            let socket = WsConnection::new(Token(index << SLOT_BITS | place), parts.bind.get(turn).copied());
            Seat { socket, conversation: None, gap: true }
        };
        let life = parts.rotate_after.map(|life| life - jittered(life / 20, random.next()));
        let addresses: Addresses = parts.url.literal().into_iter().collect();
        let mut local = Local::default();
        local.last_item = parts.detector.newest();
        StreamLane {
            spec,
            seats: std::array::from_fn(seat),
            peer: Peer { url: parts.url, tls: parts.tls },
            credentials: parts.credentials,
            order: parts.order,
            fresh_for: parts.fresh_for,
            relay: Relay::new(spec, life),
            detector: parts.detector,
            teller: Teller::new(spec.name, spec.exchange, parts.told),
            findings: Findings::default(),
            parser: Scratch::default(),
            message: Vec::new(),
            text: String::with_capacity(limits::CREDENTIAL_BYTES),
            random: SystemRandom::new(),
            health: Health::new(limits::STALE_AFTER),
            local,
            stats: parts.stats,
            ask_at: if addresses.as_slice().is_empty() { Mono(0) } else { Mono::NEVER },
            addresses,
            live_at: None,
            reported: None,
            report_at: Mono(0),
            due: Mono(0),
        }
    }

    /// When [`StreamLane::on_time`] has something to do.
    pub(super) fn due(&self) -> Mono {
        self.due
    }

    /// Something happened on the connection in `place`.
    pub(super) fn on_event(&mut self, place: usize, cx: &mut Context<'_>) -> usize {
        self.due = Mono(0);
        self.drive(place, cx)
    }

    /// Does what is due.
    pub(super) fn on_time(&mut self, cx: &mut Context<'_>) -> usize {
        let now = cx.now.mono;
        let mut work = 0;
        self.due = Mono::NEVER;
        let mut due = loop {
            work += 1;
            match self.relay.next(now, !self.addresses.as_slice().is_empty()) {
                Order::Wait(until) => break until,
                Order::Open(place) => self.open(place, cx),
                Order::Leave(place) => {
                    self.local.add(Count::Rotated, 1);
                    if let Some(seat) = self.seats.get_mut(place) {
                        seat.socket.leave();
                    }
                }
                Order::Drop(place) => self.empty(place, cx),
            }
        };
        work -= 1;
        for place in 0..PLACES {
            if self.seats.get(place).is_some_and(|seat| seat.socket.deadline() <= now) {
                work += self.drive(place, cx);
            }
            due = due.min(self.converse(place, cx));
            if let Some(seat) = self.seats.get(place) {
                due = due.min(seat.socket.deadline());
            }
        }
        // Something may have failed meanwhile: then it is due at once.
        self.due = self.due.min(due);
        work
    }

    /// Sends what is to be sent now; says when there is more.
    fn converse(&mut self, place: usize, cx: &mut Context<'_>) -> Mono {
        let now = cx.now.mono;
        let mut wrote = false;
        let fresh = match self.seats.get(place).map(|seat| seat.conversation.is_some()) {
            Some(true) => self.fresh(cx.now.wall),
            _ => return Mono::NEVER,
        };
        let next = loop {
            let Some(seat) = self.seats.get_mut(place) else { return Mono::NEVER };
            let Some(conversation) = &mut seat.conversation else { return Mono::NEVER };
            match conversation.poll(now, fresh, seat.socket.owes(), &mut self.text) {
                Step::Wait(until) => break Ok(until),
                Step::Fail(failure) => break Err(failure),
                Step::Owed => seat.socket.write_owed(),
                Step::Text => seat.socket.write_text(&self.text),
                Step::Ping => seat.socket.write_ping(),
            }
            wrote = true;
        };
        if wrote {
            self.drive(place, cx);
        }
        match next {
            Ok(until) => until.min(self.after_talk(place, cx)),
            Err(failure) => {
                self.fail(place, failure, None, cx);
                Mono(0)
            }
        }
    }

    /// What a session's state brings about: it is live, its replay is over, it is over. When to look again.
    fn after_talk(&mut self, place: usize, cx: &mut Context<'_>) -> Mono {
        let now = cx.now.mono;
        let Some(seat) = self.seats.get(place) else { return Mono::NEVER };
        if seat.socket.is_over() {
            self.fail(place, Failure::Closed, None, cx);
            return Mono(0);
        }
        let Some(conversation) = &seat.conversation else { return Mono::NEVER };
        let Some(since) = conversation.live_since() else { return Mono::NEVER };
        let replayed = !conversation.may_be_replay(now);
        self.relay.live(place, since);
        self.live_at = Some(now);
        self.health.succeed(now);
        if !self.detector.wants_baseline() {
            return Mono::NEVER;
        }
        if !replayed {
            return since + self.spec.replay;
        }
        while let Some(channel) = self.detector.baseline(&mut self.findings) {
            let name = self.spec.channels.get(channel).copied().unwrap_or_default();
            self.teller.tell(name, cx.now.wall, &mut self.findings, &mut self.local, cx);
        }
        Mono::NEVER
    }

    fn fresh(&self, wall: WallUs) -> Fresh {
        let mut random = [0; 16];
        // Without a random source a nonce is refused, and that shows.
        let _ = self.random.fill(&mut random);
        Fresh { wall, random }
    }

    fn open(&mut self, place: usize, cx: &mut Context<'_>) {
        let fresh = self.fresh(cx.now.wall);
        let ask = Ask { credentials: self.credentials.as_ref(), order: self.order, fresh };
        let upgrade = (self.spec.upgrade)(&ask);
        let mut nonce = [0; NONCE_BYTES];
        let _ = self.random.fill(&mut nonce);
        let target = Zeroizing::new([self.peer.url.prefix.as_ref(), &upgrade.target].concat());
        let header = upgrade.header.as_ref().map(|(name, value)| (*name, value.as_str()));
        let headers = header.as_slice();
        let host = self.peer.url.host_header();
        let mut request = Zeroizing::new(Vec::with_capacity(limits::STREAM_REFUSAL_BYTES));
        let wanted = UpgradeRequest { host: &host, target: &target, nonce, headers };
        // Credentials and addresses were checked at the start: they fit a request line.
        let fits = write_request(&mut request, &wanted).is_ok();
        let Some(seat) = self.seats.get_mut(place) else { return };
        seat.conversation = None;
        seat.gap = self.live_at.is_none_or(|at| cx.now.mono.since(at) > self.fresh_for);
        if fits {
            self.local.add(Count::Polls, 1);
            let port = self.peer.url.port;
            seat.socket.open(self.addresses.as_slice(), port, (request, nonce), cx.registry, cx.now.mono);
        } else {
            self.fail(place, Failure::Protocol, None, cx);
        }
    }

    fn drive(&mut self, place: usize, cx: &mut Context<'_>) -> usize {
        let now = cx.now.mono;
        let Some(seat) = self.seats.get_mut(place) else { return 0 };
        let (mut received, mut failure) = (None, None);
        let event = match &mut seat.conversation {
            None => seat.socket.drive(&self.peer, cx.registry, now, cx.scratch, &mut |_| {}),
            Some(conversation) => {
                let mut ears = Ears {
                    spec: self.spec,
                    conversation,
                    gap: seat.gap,
                    detector: &mut self.detector,
                    findings: &mut self.findings,
                    parser: &mut self.parser,
                    message: &mut self.message,
                    local: &mut self.local,
                    now,
                    clock: cx.clock,
                    received,
                    failure,
                };
                let hear = &mut |heard: Heard<'_>| ears.hear(heard);
                let event = seat.socket.drive(&self.peer, cx.registry, now, cx.scratch, hear);
                (received, failure) = (ears.received, ears.failure);
                event
            }
        };
        self.local.last_poll = received.or(self.local.last_poll);
        if !self.findings.is_empty() {
            let received = received.unwrap_or(cx.now.wall);
            let channel = self.spec.channels.first().copied().unwrap_or_default();
            self.teller.tell(channel, received, &mut self.findings, &mut self.local, cx);
            self.local.last_item = self.detector.newest();
        }
        match event {
            Event::Upgraded => {
                let Some(seat) = self.seats.get_mut(place) else { return 1 };
                seat.conversation = Some(Conversation::new(self.spec, now));
                self.local.add(Count::Opened, 1);
                self.local.add(Count::Resumed, u64::from(seat.socket.resumed() == Some(true)));
                return 1 + self.drive(place, cx);
            }
            Event::Refused { status, retry_after } => {
                let body = self.seats.get(place).map_or(&[][..], |seat| seat.socket.refusal());
                let failure = (self.spec.refused)(status, body);
                self.fail(place, failure, retry_after, cx);
            }
            // What was said before the end says more than the end. A server that has closed is owed a close
            // frame first; then `after_talk` finds it over.
            Event::Quiet | Event::Ended(End::Closed(_)) => {
                if let Some(failure) = failure {
                    self.fail(place, failure, None, cx);
                }
            }
            Event::Ended(End::Violated(_)) => {
                self.fail(place, failure.unwrap_or(Failure::Protocol), None, cx);
            }
            Event::Failed(end) => self.fail(place, failure.unwrap_or(end), None, cx),
        }
        usize::from(event != Event::Quiet)
    }

    fn fail(&mut self, place: usize, failure: Failure, retry_after: Option<Duration>, cx: &mut Context<'_>) {
        let now = cx.now.mono;
        if self.relay.lost(place, now, failure, retry_after, cx.random.next()) {
            self.local.fail(failure);
            self.health.fail(failure);
            let cause = self.seats.get(place).and_then(|seat| seat.socket.cause());
            if let (Failure::Tls, Some(Cause::Tls(cause))) = (failure, cause) {
                self.local.fail_tls(cause);
            }
            if failure == Failure::Connect && self.ask_at != Mono::NEVER {
                // The address may have moved.
                self.ask_at = self.ask_at.min(now + limits::DNS_FRESH_FOR);
            }
        } else {
            self.local.add(Count::Lapsed, 1);
        }
        self.empty(place, cx);
    }

    fn empty(&mut self, place: usize, cx: &mut Context<'_>) {
        if let Some(seat) = self.seats.get_mut(place) {
            seat.socket.part();
            seat.socket.close(cx.registry);
            seat.conversation = None;
        }
        self.due = Mono(0);
    }

    /// Asks for the host's addresses when that is due.
    pub(super) fn resolve(&mut self, id: u32, resolver: &mut ResolverClient, cx: &mut Context<'_>) {
        let now = cx.now.mono;
        if self.ask_at <= now {
            resolver.ask(id, &self.peer.url.host);
            self.ask_at = now + limits::DNS_REFRESH + jittered(limits::DNS_REFRESH / 4, cx.random.next());
        }
    }

    /// The resolver's answer. A failed lookup leaves the addresses known before.
    pub(super) fn resolved(&mut self, addresses: Addresses, now: Mono) {
        if addresses.as_slice().is_empty() {
            self.local.fail(Failure::Connect);
            self.health.fail(Failure::Connect);
            self.ask_at = now + limits::DNS_FRESH_FOR;
        } else {
            self.addresses = addresses;
            self.due = Mono(0);
        }
    }

    /// Publishes counts, reports the state.
    pub(super) fn housekeep(&mut self, cx: &mut Context<'_>) {
        let now = cx.now.mono;
        self.local.connections = 0;
        for seat in &mut self.seats {
            self.local.add(Count::Bytes, seat.socket.take_bytes_read());
            self.local.connections += u64::from(seat.socket.is_open());
        }
        if self.relay.is_live() {
            // Silence is normal; a session that is dead is found out by its keepalive.
            self.live_at = Some(now);
            self.health.succeed(now);
        }
        let state = self.health.state(now, self.relay.is_refused(now));
        if self.reported != Some(state) || self.report_at <= now {
            let status = SourceStatus {
                source: self.spec.name,
                exchange: self.spec.exchange,
                state,
                last_poll: self.local.last_poll,
                last_item: self.local.last_item,
            };
            self.reported = cx.publisher.report(status).then_some(state);
            self.report_at = now + limits::STATUS_PERIOD;
        }
        self.stats.publish(&self.local, state);
    }
}
