//! One live session: its rules in both directions, its clocks, its end.
//!
//! Contract: every call takes the instant and what all subscribers of a writer share, and says
//! whether the session is over ([`Fate`]). Owner: a feed writer. Allocates only where [`super::outlet`]
//! and [`crate::ws::Session`] do, and a ticker list on `subscribe`. Failures are [`CloseReason`]s.
//!
//! An end has two steps. [`Subscriber::begin_close`] decides and queues the close frame, without
//! touching the socket, so that a fan-out can end a slow subscriber in passing;
//! the next look at the subscriber sends it. The connection is dropped when the peer has answered, or
//! after [`limits::CLOSE_TIMEOUT`].

use core::num::NonZeroI64;
use core::ops::ControlFlow;
use std::sync::Arc;

use super::burst::{Joined, Wanted};
use super::client_message::{self, ClientMessage};
use super::close::CloseReason;
use super::counters::Counters;
use super::frame_log::{Class, FrameLog};
use super::history::History;
use super::key::{KeyId, KeyShared};
use super::look::{Row, Standing};
use super::outlet::{self, Mode, NO_RTT, Outlet, Owed};
use super::socket::Socket;
use super::subscription::Subscription;
use crate::limits;
use crate::model::ExchangeSet;
use crate::source::SourceStatus;
use crate::time::{Mono, Now, WallUs};
use crate::wire::extra::{Extra, Extras};
use crate::wire::message::{self, Granted};
use crate::ws::frame::{write_close, write_frame};
use crate::ws::session::Event;
use crate::ws::{CloseCode, Opcode, Role, Session, SessionLimits, Violation};

/// What all subscribers of one writer share.
#[derive(Debug)]
pub struct Shared {
    /// Framed announcements.
    pub log: FrameLog,
    /// The last announcements.
    pub history: History,
    /// The last known state of each source.
    pub sources: Vec<SourceStatus>,
    /// What happened.
    pub counters: Counters,
    /// Where test announcements and phases get their randomness.
    pub random: Random,
    /// Frames that leave together.
    pub joined: Joined,
    /// Scratch for frames, reused.
    pub frames: Vec<u8>,
    /// Scratch for one JSON text, reused.
    pub json: Vec<u8>,
}

/// A xorshift generator: spreads phases and draws templates, decides nothing that matters.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed; zero is replaced, since it would stay zero.
    #[must_use]
    pub const fn new(seed: u64) -> Random {
        Random(if seed == 0 { 0x9E37_79B9_7F4A_7C15 } else { seed })
    }

    /// The next number.
    pub const fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

/// Whether a session goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Fate {
    /// It does.
    Stays,
    /// It is over, for this reason: drop the connection.
    Gone(CloseReason),
}

const SECOND_NS: u64 = 1_000_000_000;
/// How far apart the phases of sessions that joined at once are spread.
const PHASE_SPREAD_NS: u64 = 1_000_000_000;
/// How often a delayed subscriber whose socket is full is looked at.
const BLOCKED_LOOK: core::time::Duration = core::time::Duration::from_millis(50);
/// Instants before a key's end at which it is told.
const EXPIRY_NOTICES_SECS: [i64; 2] = [86_400, 3_600];

/// See the module head. The outlet comes first: it is what an announcement touches.
#[derive(Debug)]
#[repr(C)]
pub struct Subscriber<S> {
    live: Live<S>,
    /// Apart from the rest, so that its events can change the rest.
    session: Session,
}

#[derive(Debug)]
#[repr(C)]
struct Live<S> {
    outlet: Outlet<S>,
    key: Arc<KeyShared>,
    key_id: KeyId,
    /// As [`WallUs`]; zero stands for the microsecond after it, so that eight bytes hold it.
    expires_us: Option<NonZeroI64>,
    allowed: ExchangeSet,
    sources: bool,
    extras: Extras,
    /// How many of [`EXPIRY_NOTICES_SECS`] are behind.
    notices: u8,
    /// The peer's close frame arrived.
    peer_closed: bool,
    /// Nothing more is to be heard from the peer: end the sending side behind the close frame.
    deaf: bool,
    control_frames: u8,
    closing: Option<CloseReason>,
    /// When it joined, in whole seconds of the clock.
    joined_secs: u32,
    control_since: Mono,
    close_deadline: Mono,
    /// When the last messages came, oldest first; `NEVER` before there were so many.
    messages: [Mono; limits::CLIENT_MESSAGES_PER_MINUTE],
    next_heartbeat: Mono,
    next_ping: Mono,
    /// The earliest ping without a pong, `NEVER` if none.
    unanswered: Mono,
    last_ping: Mono,
}

const _: () = assert!(core::mem::offset_of!(Subscriber<u64>, live.outlet) == 0);
// With the tag of its slot in front and a connection of 64 bytes: six cache lines.
const _: () = assert!(8 + size_of::<Subscriber<[u64; 8]>>() <= 6 * 64);

fn expiry(at: Option<WallUs>) -> Option<NonZeroI64> {
    at.and_then(|at| NonZeroI64::new(at.0).or(NonZeroI64::new(1)))
}

impl<S: Socket> Subscriber<S> {
    /// A session whose handshake is done. Nothing is sent yet.
    pub fn new(now: Now, socket: S, subscription: Subscription, shared: &mut Shared) -> Subscriber<S> {
        let Subscription { key, allowed, expires_at, filter, frames, fields, .. } = subscription;
        let Subscription { sources, extras, redact, delay, resume, .. } = subscription;
        let class = Class::new(frames, fields, redact);
        let delay_ns = u64::try_from(delay.min(limits::KEY_DELAY).as_nanos()).unwrap_or(u64::MAX);
        let phase =
            |shared: &mut Shared| core::time::Duration::from_nanos(shared.random.draw() % PHASE_SPREAD_NS);
        let mut live = Live {
            outlet: Outlet::new(socket, filter, class, delay_ns),
            key_id: key.id,
            key,
            allowed,
            expires_us: expiry(expires_at),
            sources,
            extras,
            notices: 0,
            peer_closed: false,
            deaf: false,
            control_frames: 0,
            control_since: now.mono,
            closing: None,
            joined_secs: u32::try_from(now.mono.0 / SECOND_NS).unwrap_or(u32::MAX),
            close_deadline: Mono::NEVER,
            messages: [Mono::NEVER; limits::CLIENT_MESSAGES_PER_MINUTE],
            next_heartbeat: now.mono + limits::HEARTBEAT_PERIOD - phase(shared),
            next_ping: now.mono + limits::PING_PERIOD - phase(shared),
            unanswered: Mono::NEVER,
            last_ping: Mono::NEVER,
        };
        live.skip_past_notices(now.wall);
        if resume.is_some() || delay_ns > 0 {
            // What a delayed subscriber would still be owed had it been here all along is news to it.
            let news = unreleased_from(&shared.history, now.mono, delay_ns);
            let from = resume.map_or(news, |position| shared.history.after(position).index.min(news));
            live.outlet.follow_history(from, news, resume.unwrap_or_default());
        }
        let session = Session::new(Role::Server, SessionLimits::same(limits::CLIENT_FRAME_BYTES));
        Subscriber { session, live }
    }

    /// Sends the greeting, then, after a resume, what history holds of it.
    pub fn greet(
        &mut self,
        now: Now,
        greeting: &[u8],
        resume: Option<crate::model::FeedPosition>,
        shared: &mut Shared,
    ) -> Fate {
        let sent = self.live.outlet.send(greeting, &shared.log, &mut shared.counters);
        if let Err(reason) = sent {
            return self.live.end(now, reason, shared);
        }
        if let Some((from, to)) = resume.and_then(|position| shared.history.after(position).gap) {
            let told = self.live.tell(shared, |json| message::gap(json, from, to));
            if let Err(reason) = told {
                return self.live.end(now, reason, shared);
            }
        }
        self.live.flow(now, shared)
    }

    /// Bytes from the connection; they are unmasked in place.
    pub fn receive(&mut self, now: Now, bytes: &mut [u8], shared: &mut Shared) -> Fate {
        let Subscriber { session, live } = self;
        let flow = session.receive(bytes, &mut |event| match live.hear(now, event, shared) {
            Fate::Stays => ControlFlow::Continue(()),
            Fate::Gone(reason) => ControlFlow::Break(reason),
        });
        match flow {
            Ok(ControlFlow::Continue(())) => Fate::Stays,
            Ok(ControlFlow::Break(reason)) => Fate::Gone(reason),
            Err(violation) => live.violated(now, violation, shared),
        }
    }

    /// The peer sends nothing more.
    pub fn end_of_stream(&self) -> Fate {
        Fate::Gone(self.live.closing.unwrap_or(CloseReason::PeerGone))
    }

    /// There may be room in the socket.
    pub fn writable(&mut self, now: Now, shared: &mut Shared) -> Fate {
        if !self.live.outlet.is_blocked() {
            return Fate::Stays;
        }
        self.live.flow(now, shared)
    }

    /// Fan-out of the log's entries from `from` on. Returns which of them are for it. `Err`: close
    /// it, with [`Subscriber::begin_close`].
    ///
    /// # Errors
    /// Too slow, or the socket failed.
    pub fn announce(&mut self, from: u64, shared: &mut Shared) -> Result<Wanted, CloseReason> {
        let Shared { log, joined, counters, .. } = shared;
        self.live.outlet.announce(log, from, joined, counters)
    }

    /// Whether a message beside announcements is for it.
    pub fn wants_extra(&self, extra: &Extra) -> bool {
        let Live { extras, outlet, closing, .. } = &self.live;
        extras.contains(extra.kind)
            && closing.is_none()
            && outlet::matches_extra(&outlet.filter, outlet.class(), extra)
    }

    /// Sends it one, framed for its class. One that is behind or still gets a replay goes without: it would
    /// come before the announcements that wait.
    pub fn extra(&mut self, now: Now, frame: &[u8], shared: &mut Shared) -> Fate {
        let Live { outlet, .. } = &mut self.live;
        if outlet.is_blocked() || outlet.mode() != Mode::Live {
            shared.counters.extras_missed += 1;
            return Fate::Stays;
        }
        match outlet.send(frame, &shared.log, &mut shared.counters) {
            Ok(()) => {
                shared.counters.extras += 1;
                Fate::Stays
            }
            Err(reason) => self.live.end(now, reason, shared),
        }
    }

    /// What is due at `now`.
    pub fn on_timer(&mut self, now: Now, shared: &mut Shared) -> Fate {
        self.live.on_timer(now, shared)
    }

    /// Tells a source's new state to a subscriber that asked for it. One whose socket is full learns
    /// it from its next heartbeat.
    pub fn source_status(&mut self, now: Now, status: &SourceStatus, shared: &mut Shared) -> Fate {
        let live = &mut self.live;
        let concerns = live.sources && live.outlet.filter.exchanges.contains(status.exchange);
        if !concerns || live.closing.is_some() || live.outlet.is_blocked() {
            return Fate::Stays;
        }
        match live.tell(shared, |json| message::source_status(json, status)) {
            Ok(()) => Fate::Stays,
            Err(reason) => live.end(now, reason, shared),
        }
    }

    /// Decides the end and queues the close frame; sends nothing. [`Fate::Gone`] when no close frame
    /// can be sent.
    pub fn begin_close(&mut self, now: Now, reason: CloseReason, shared: &Shared) -> Fate {
        self.live.begin_close(now, reason, shared)
    }

    /// Both steps of an end at once.
    pub fn close(&mut self, now: Now, reason: CloseReason, shared: &mut Shared) -> Fate {
        self.live.end(now, reason, shared)
    }

    /// The key's end moved.
    pub fn set_expiry(&mut self, now: Now, expires_at: Option<WallUs>) {
        self.live.expires_us = expiry(expires_at);
        self.live.skip_past_notices(now.wall);
    }

    /// When [`Subscriber::on_timer`] is next to be called.
    pub fn due(&self, now: Now, shared: &Shared) -> Mono {
        self.live.due(now, shared)
    }

    /// A copy of what may be told of it.
    pub fn look(&self, slot: u32, shared: &Shared) -> Row {
        let Live { outlet, key_id, joined_secs, .. } = &self.live;
        let standing = match outlet.mode() {
            _ if self.live.closing.is_some() => Standing::Closing,
            Mode::Closing => Standing::Closing,
            _ if outlet.is_blocked() => Standing::Blocked,
            Mode::Live => Standing::Live,
            Mode::History => Standing::History,
        };
        Row {
            slot,
            key: *key_id,
            joined: Mono(u64::from(*joined_secs) * SECOND_NS),
            exchanges: outlet.filter.exchanges,
            types: outlet.filter.types,
            tickers: outlet.filter.tickers.as_ref().map(|tickers| tickers.len()),
            standing,
            lag: outlet.behind(&shared.history),
            waiting_bytes: outlet.waiting_bytes(),
            rtt_us: Some(outlet.rtt_us).filter(|rtt| *rtt != NO_RTT),
            delay_ns: outlet.delay_ns(),
        }
    }

    /// Its connection, to look at.
    pub const fn socket(&self) -> &S {
        &self.live.outlet.socket
    }

    /// Its key.
    pub const fn key_id(&self) -> KeyId {
        self.live.key_id
    }

    /// Its sending half.
    pub const fn outlet(&self) -> &Outlet<S> {
        &self.live.outlet
    }

    /// Its connection.
    pub const fn socket_mut(&mut self) -> &mut S {
        &mut self.live.outlet.socket
    }

    /// Why it is being closed, if it is.
    pub const fn closing(&self) -> Option<CloseReason> {
        self.live.closing
    }

    /// The connection, when it is over.
    pub fn into_socket(self) -> S {
        self.live.outlet.socket
    }
}

/// The oldest history entry that a subscriber delayed by `delay_ns` has still to come.
fn unreleased_from(history: &History, now: Mono, delay_ns: u64) -> u64 {
    let mut from = history.next_index();
    while let Some(held) = from.checked_sub(1).and_then(|before| history.get(before)) {
        if held.at.0 == 0 || held.at.0.saturating_add(delay_ns) <= now.0 {
            break;
        }
        from -= 1;
    }
    from
}

impl<S: Socket> Live<S> {
    fn expires_at(&self) -> Option<WallUs> {
        self.expires_us.map(|us| WallUs(us.get()))
    }

    /// Writes one message, frames it and sends or queues it.
    fn tell(&mut self, shared: &mut Shared, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), CloseReason> {
        shared.json.clear();
        write(&mut shared.json);
        shared.frames.clear();
        write_frame(&mut shared.frames, self.outlet.class().opcode(), &shared.json, None);
        self.outlet.send(&shared.frames, &shared.log, &mut shared.counters)
    }

    /// Moves everything that can move: backlog, history, owed messages, or the close.
    fn flow(&mut self, now: Now, shared: &mut Shared) -> Fate {
        if self.closing.is_some() {
            return self.pump_close(shared);
        }
        match self.try_flow(now, shared) {
            Ok(()) => Fate::Stays,
            Err(reason) => self.end(now, reason, shared),
        }
    }

    fn try_flow(&mut self, now: Now, shared: &mut Shared) -> Result<(), CloseReason> {
        let Shared { log, history, counters, frames, json, .. } = shared;
        self.outlet.pump(log, frames, counters)?;
        self.outlet.feed_history(now, history, log, frames, json, counters)?;
        if self.outlet.is_blocked() || self.outlet.owed().is_none() {
            return Ok(());
        }
        let owed = self.outlet.owed();
        self.outlet.settle_owed();
        self.send_periodic(now, owed, shared)
    }

    /// Heartbeat and ping, in one write when both are due.
    fn send_periodic(&mut self, now: Now, owed: Owed, shared: &mut Shared) -> Result<(), CloseReason> {
        let Shared { log, history, sources, counters, frames, json, .. } = shared;
        frames.clear();
        if owed.heartbeat {
            json.clear();
            let exchanges = self.outlet.filter.exchanges;
            let sources =
                self.sources.then(|| sources.iter().filter(move |s| exchanges.contains(s.exchange)));
            message::heartbeat(json, now.wall, self.outlet.last_position(history), sources);
            write_frame(frames, self.outlet.class().opcode(), json, None);
            counters.heartbeats += 1;
        }
        if owed.ping {
            write_frame(frames, Opcode::Ping, &now.mono.0.to_be_bytes(), None);
            self.last_ping = now.mono;
            // A ping that had to wait for room is late since it was due.
            self.unanswered = self.unanswered.min(now.mono);
        }
        self.outlet.send(frames, log, counters)
    }

    fn on_timer(&mut self, now: Now, shared: &mut Shared) -> Fate {
        if let Some(reason) = self.closing {
            if now.mono >= self.close_deadline {
                return Fate::Gone(reason);
            }
            return self.pump_close(shared);
        }
        if self.expires_at().is_some_and(|at| at <= now.wall) {
            return self.end(now, CloseReason::KeyExpired, shared);
        }
        if now.mono >= self.unanswered + limits::PONG_TIMEOUT {
            return self.end(now, CloseReason::PongTimeout, shared);
        }
        match self.do_due(now, shared) {
            Ok(()) => Fate::Stays,
            Err(reason) => self.end(now, reason, shared),
        }
    }

    fn do_due(&mut self, now: Now, shared: &mut Shared) -> Result<(), CloseReason> {
        self.outlet.check_history_lag(&shared.history, now.mono)?;
        self.tell_expiring(now, shared)?;
        let heartbeat = now.mono >= self.next_heartbeat;
        let ping = now.mono >= self.next_ping;
        if heartbeat {
            self.next_heartbeat = next_beat(self.next_heartbeat, limits::HEARTBEAT_PERIOD, now.mono);
        }
        if ping {
            self.next_ping = next_beat(self.next_ping, limits::PING_PERIOD, now.mono);
            self.unanswered = self.unanswered.min(now.mono);
        }
        self.outlet.owe(Owed { heartbeat, ping });
        if self.outlet.is_blocked() { Ok(()) } else { self.try_flow(now, shared) }
    }

    /// FEED.md, "Added for users", 6.
    fn tell_expiring(&mut self, now: Now, shared: &mut Shared) -> Result<(), CloseReason> {
        let (Some(at), true) = (self.next_notice(), self.outlet.class().is_full()) else { return Ok(()) };
        if at > now.wall {
            return Ok(());
        }
        self.skip_past_notices(now.wall);
        let left = self.expires_at().map_or(0, |end| end.micros_since(now.wall).max(0).unsigned_abs());
        self.tell(shared, |json| message::key_expiring(json, left.div_ceil(1_000_000)))
    }

    /// When the key's coming end is told next.
    fn next_notice(&self) -> Option<WallUs> {
        let before = EXPIRY_NOTICES_SECS.get(usize::from(self.notices))?;
        self.expires_at().map(|end| WallUs(end.0.saturating_sub(before * 1_000_000)))
    }

    /// Notices whose instant is behind are not told late.
    fn skip_past_notices(&mut self, now: WallUs) {
        self.notices = 0;
        while self.next_notice().is_some_and(|at| at <= now) {
            self.notices += 1;
        }
    }

    fn due(&self, now: Now, shared: &Shared) -> Mono {
        if self.closing.is_some() {
            return self.close_deadline;
        }
        let wall = |at: WallUs| {
            let ahead = u64::try_from(at.micros_since(now.wall)).unwrap_or(0);
            now.mono + core::time::Duration::from_micros(ahead)
        };
        let mut due = self.next_heartbeat.min(self.next_ping).min(self.unanswered + limits::PONG_TIMEOUT);
        due = due.min(self.expires_at().map_or(Mono::NEVER, wall));
        if self.outlet.class().is_full() {
            due = due.min(self.next_notice().map_or(Mono::NEVER, wall));
        }
        if self.outlet.is_blocked() && self.outlet.mode() == Mode::History && self.outlet.delay_ns() > 0 {
            return due.min(now.mono + BLOCKED_LOOK);
        }
        due.min(self.outlet.next_release(&shared.history))
    }

    fn hear(&mut self, now: Now, event: Event<'_>, shared: &mut Shared) -> Fate {
        if self.closing.is_some() && !matches!(event, Event::Close { .. }) {
            return Fate::Stays;
        }
        let heard = match event {
            Event::Text(text) => self.hear_message(now, text.as_bytes(), shared),
            Event::Binary(bytes) => self.hear_message(now, bytes, shared),
            Event::Ping(payload) => self.hear_ping(now, payload, shared),
            Event::Pong(payload) => self.hear_pong(now, payload, shared),
            Event::Close { code, .. } => return self.hear_close(now, code, shared),
        };
        match heard {
            Ok(()) => Fate::Stays,
            Err(reason) => self.end(now, reason, shared),
        }
    }

    /// "Exceeding the client message rate limit (3/min) will result in disconnection."
    fn hear_message(&mut self, now: Now, message: &[u8], shared: &mut Shared) -> Result<(), CloseReason> {
        shared.counters.client_messages += 1;
        let [oldest, ..] = self.messages;
        if oldest != Mono::NEVER && now.mono.since(oldest) < limits::CLIENT_MESSAGES_WINDOW {
            return Err(CloseReason::RateLimitExceeded);
        }
        self.messages.rotate_left(1);
        if let Some(newest) = self.messages.last_mut() {
            *newest = now.mono;
        }
        match client_message::parse(message) {
            ClientMessage::Test => match self.key.take_test(now.mono, limits::TEST_REQUEST_PERIOD) {
                Ok(()) => {
                    let random = shared.random.draw();
                    let allowed = self.allowed;
                    self.tell(shared, |json| message::test_announcement(json, allowed, now.wall, random))
                }
                Err(left) => self.tell(shared, |json| message::test_rate_limited(json, left)),
            },
            ClientMessage::Subscribe(change) => {
                let asked = change.extras(self.extras);
                let named = Extras { market: change.market.is_some(), context: change.context.is_some() };
                self.extras = if self.sees_all_at_once() { asked } else { Extras::default() };
                change.apply(&mut self.outlet.filter, self.allowed);
                self.outlet.recount(&shared.log);
                self.tell_subscribed(named, shared)
            }
            ClientMessage::Unsupported => self.tell(shared, message::unsupported_message),
        }
    }

    /// What a key must for messages beside announcements.
    fn sees_all_at_once(&self) -> bool {
        self.outlet.delay_ns() == 0 && !self.outlet.class().is_redacted()
    }

    /// Messages beside announcements are spoken of where they were `named` or come.
    fn tell_subscribed(&mut self, named: Extras, shared: &mut Shared) -> Result<(), CloseReason> {
        let Shared { log, counters, frames, json, .. } = shared;
        let filter = &self.outlet.filter;
        let extras = Granted::of(named, self.extras);
        json.clear();
        message::subscribed(json, filter.exchanges, filter.types, filter.tickers.as_deref(), extras);
        frames.clear();
        write_frame(frames, self.outlet.class().opcode(), json, None);
        self.outlet.send(frames, log, counters)
    }

    fn count_control_frame(&mut self, now: Mono) -> Result<(), CloseReason> {
        if now.since(self.control_since) >= limits::CONTROL_FRAMES_WINDOW {
            self.control_since = now;
            self.control_frames = 0;
        }
        self.control_frames = self.control_frames.saturating_add(1);
        if usize::from(self.control_frames) > limits::CONTROL_FRAMES {
            return Err(CloseReason::ControlFlood);
        }
        Ok(())
    }

    fn hear_ping(&mut self, now: Now, payload: &[u8], shared: &mut Shared) -> Result<(), CloseReason> {
        self.count_control_frame(now.mono)?;
        let Shared { log, counters, frames, .. } = shared;
        frames.clear();
        write_frame(frames, Opcode::Pong, payload, None);
        self.outlet.send(frames, log, counters)
    }

    /// A pong answers its ping and all before it; one that carries no ping of ours answers nothing.
    fn hear_pong(&mut self, now: Now, payload: &[u8], shared: &mut Shared) -> Result<(), CloseReason> {
        self.count_control_frame(now.mono)?;
        let Some((stamp, [])) = payload.split_first_chunk::<8>() else { return Ok(()) };
        let sent = Mono(u64::from_be_bytes(*stamp));
        if self.unanswered == Mono::NEVER || sent < self.unanswered || sent > self.last_ping {
            return Ok(());
        }
        self.unanswered = if sent < self.last_ping { self.last_ping } else { Mono::NEVER };
        let rtt = now.mono.since(sent).as_micros();
        shared.counters.rtt_us.record(u64::try_from(rtt).unwrap_or(u64::MAX));
        self.outlet.rtt_us = u32::try_from(rtt).unwrap_or(u32::MAX).min(NO_RTT - 1);
        Ok(())
    }

    /// RFC 6455 5.5.1: "If an endpoint receives a Close frame and did not previously send a Close
    /// frame, the endpoint MUST send a Close frame in response."
    fn hear_close(&mut self, now: Now, code: Option<CloseCode>, shared: &mut Shared) -> Fate {
        self.peer_closed = true;
        if let Some(reason) = self.closing {
            // Its answer to ours, or both crossed.
            return if self.outlet.is_blocked() { Fate::Stays } else { Fate::Gone(reason) };
        }
        let mut frame = Vec::with_capacity(4);
        write_close(&mut frame, code, "", None);
        match self.begin_close_with(now, CloseReason::PeerClosed, &frame, shared) {
            Fate::Stays => self.pump_close(shared),
            gone @ Fate::Gone(_) => gone,
        }
    }

    fn violated(&mut self, now: Now, violation: Violation, shared: &mut Shared) -> Fate {
        self.deaf = true;
        if self.closing.is_some() {
            return Fate::Stays;
        }
        let mut frame = Vec::with_capacity(64);
        write_close(&mut frame, Some(violation.code), violation.reason, None);
        match self.begin_close_with(now, violation.into(), &frame, shared) {
            Fate::Stays => self.pump_close(shared),
            gone @ Fate::Gone(_) => gone,
        }
    }

    fn end(&mut self, now: Now, reason: CloseReason, shared: &mut Shared) -> Fate {
        match self.begin_close(now, reason, shared) {
            Fate::Stays => self.pump_close(shared),
            gone @ Fate::Gone(_) => gone,
        }
    }

    fn begin_close(&mut self, now: Now, reason: CloseReason, shared: &Shared) -> Fate {
        match (self.closing, reason.frame()) {
            (Some(_), _) => Fate::Stays,
            (None, Some(frame)) => self.begin_close_with(now, reason, frame.as_bytes(), shared),
            (None, None) => Fate::Gone(reason),
        }
    }

    fn begin_close_with(&mut self, now: Now, reason: CloseReason, frame: &[u8], shared: &Shared) -> Fate {
        if self.outlet.begin_close(frame, &shared.log).is_err() {
            return Fate::Gone(reason);
        }
        self.closing = Some(reason);
        self.close_deadline = now.mono + limits::CLOSE_TIMEOUT;
        Fate::Stays
    }

    fn pump_close(&mut self, shared: &mut Shared) -> Fate {
        let reason = self.closing.unwrap_or(CloseReason::SocketError);
        match self.outlet.pump_close(&shared.log, &mut shared.frames, &mut shared.counters) {
            Err(failed) => Fate::Gone(self.closing.unwrap_or(failed)),
            Ok(false) => Fate::Stays,
            Ok(true) if self.peer_closed => Fate::Gone(reason),
            Ok(true) => {
                if self.deaf {
                    self.outlet.socket.finish();
                }
                Fate::Stays
            }
        }
    }
}

/// The next instant of a rhythm after `now`: beats missed are not made up for.
fn next_beat(last: Mono, period: core::time::Duration, now: Mono) -> Mono {
    let period_ns = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX).max(1);
    let missed = now.0.saturating_sub(last.0) / period_ns;
    Mono(last.0.saturating_add((missed + 1).saturating_mul(period_ns)))
}
