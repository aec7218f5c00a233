//! One connection to a receiver: opened, then a request and its answer at a time.
//!
//! Contract: [`Connection::drive`] is called at every event of its token and at [`Connection::deadline`];
//! it moves bytes and says what happened. An attempt's verdict is final when the response head is
//! complete; what follows of the response decides only whether the connection is used again: it is
//! read for at most [`limits::WEBHOOK_DRAIN_BYTES`] and [`limits::WEBHOOK_DRAIN_TIME`], never
//! decompressed. Bytes nobody asked for end the connection and nothing else. Owner: the webhook
//! thread. Allocates with the TLS library only; buffers come from a pool. Failure: an [`Event`].

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use mio::net::TcpStream;
use mio::{Registry, Token};
use tocsin_core::http1::response::{
    Discard, Head, Method, Progress, ResponseError, ResponseLimits, ResponseParser,
};
use tocsin_core::limits;
use tocsin_core::time::{Mono, Now, WallUs};
use tocsin_core::webhook::attempt::{FailureClass, Report};
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::dispatcher::Ticket;
use tocsin_core::webhook::lane::{Purpose, QueuedEvent};
use tocsin_core::webhook::outgoing::{Outgoing, Phases};

use crate::net::Stream;
use crate::net::dial::DialError;
use crate::net::link::{Link, LinkFailure};
use crate::net::tls::{self, CertificateFault, TlsFailure};

/// An attempt under way.
#[derive(Debug)]
pub(super) struct Attempt {
    /// The dispatcher's name for it.
    pub(super) ticket: Ticket,
    /// At which endpoint.
    pub(super) endpoint: EndpointId,
    /// What for.
    pub(super) purpose: Purpose,
    /// What is sent.
    pub(super) event: Arc<QueuedEvent<Outgoing>>,
    /// When it started.
    pub(super) started: Now,
    /// By when the response head must be complete.
    pub(super) deadline: Mono,
    /// Where its time went so far.
    pub(super) phases: Phases,
    /// When its request had been handed to the socket.
    pub(super) written: Mono,
    /// It travels on a connection that stood before it.
    pub(super) kept: bool,
    /// Where it went.
    pub(super) address: Option<IpAddr>,
}

impl Attempt {
    /// The number in `X-…-Attempt`: pings and tests have one.
    pub(super) const fn number(&self) -> u8 {
        match self.purpose {
            Purpose::Event { attempt } => attempt,
            Purpose::Ping(_) | Purpose::Test => 1,
        }
    }

    pub(super) const fn wall(&self) -> WallUs {
        self.started.wall
    }
}

/// What an answer takes while it comes: used again by the next.
#[derive(Debug)]
pub(super) struct Exchange {
    parser: ResponseParser,
    /// The request, rendered.
    pub(super) request: Vec<u8>,
    sent: usize,
}

impl Exchange {
    pub(super) fn new() -> Exchange {
        let parser = ResponseParser::new(ResponseLimits::WEBHOOK);
        Exchange { parser, request: Vec::with_capacity(2_048), sent: 0 }
    }
}

/// What came of a [`Connection::drive`].
#[derive(Debug)]
pub(super) enum Event {
    /// Nothing the owner must act on.
    Quiet,
    /// It is open: send what it was opened for, or keep it.
    Opened,
    /// The answer is complete and the connection idle again.
    Idle,
    /// The attempt has its verdict; the connection may go on reading.
    Answered(Box<Attempt>, Answer),
    /// It is closed; so is the attempt it carried or was opened for.
    Failed(Option<Box<Attempt>>, Failure),
    /// It ended with nothing outstanding.
    Closed,
}

/// The head of a response, as an attempt is told of it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) report: Report,
    /// What is wrong with it, or where it wanted to send us.
    pub(super) detail: Option<Box<str>>,
    /// What follows for the connection.
    pub(super) then: Then,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// It is idle and can carry the next request.
    Reuse,
    /// The rest of the response is still read.
    Drain,
    /// It is closed.
    Close,
}

/// Why there was no answer.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) report: Report,
    pub(super) detail: Option<Box<str>>,
}

impl Failure {
    pub(super) fn new(class: FailureClass, detail: impl Into<Box<str>>) -> Failure {
        Failure { report: Report::failed(class), detail: Some(detail.into()) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Opening,
    Idle,
    Busy,
    Draining,
}

/// See the module head.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) endpoint: EndpointId,
    link: Link,
    phase: Phase,
    /// What it carries, or was opened for.
    attempt: Option<Box<Attempt>>,
    exchange: Option<Box<Exchange>>,
    /// Requests sent.
    requests: u32,
    /// While idle, when it is given up; while draining, when that is.
    until: Mono,
    drained: usize,
    /// Its entry in the owner's timers.
    pub(super) timer: Mono,
}

impl Connection {
    /// One that will be opened for `attempt`, or to be kept warm.
    pub(super) fn new(endpoint: EndpointId, token: Token, attempt: Option<Box<Attempt>>) -> Connection {
        Connection {
            endpoint,
            link: Link::new(token),
            phase: Phase::Opening,
            attempt,
            exchange: None,
            requests: 0,
            until: Mono::NEVER,
            drained: 0,
            timer: Mono::NEVER,
        }
    }

    /// Begins to connect.
    pub(super) fn open(
        &mut self,
        addresses: &[IpAddr],
        port: u16,
        turn: usize,
        registry: &Registry,
        now: Mono,
    ) {
        self.link.open(addresses, port, None, turn, registry, now);
    }

    /// Closes it; gives back what it carried.
    pub(super) fn close(&mut self, registry: &Registry) -> Option<Box<Attempt>> {
        self.link.close(registry);
        self.attempt.take()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.phase == Phase::Idle
    }

    pub(super) fn is_draining(&self) -> bool {
        self.phase == Phase::Draining
    }

    /// Whether an idle one is inside the receiver's limit still.
    pub(super) fn may_carry(&self, now: Mono) -> bool {
        now < self.until
    }

    /// Whether it stands or is being made with nothing to carry: what warmth is counted by.
    pub(super) fn is_spare(&self) -> bool {
        self.attempt.is_none()
    }

    pub(super) fn is_opening(&self) -> bool {
        self.phase == Phase::Opening
    }

    /// Whether the next request would be its first.
    pub(super) const fn is_unused(&self) -> bool {
        self.requests == 0
    }

    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.link.peer()
    }

    pub(super) fn resumed(&self) -> bool {
        self.link.resumed() == Some(true)
    }

    pub(super) fn since_opened(&self, now: Mono) -> std::time::Duration {
        now.since(self.link.times().opened)
    }

    /// The buffers of an answer that is over, for the pool.
    pub(super) fn take_exchange(&mut self) -> Option<Box<Exchange>> {
        self.exchange.take()
    }

    /// The attempt it was opened for, once it is open.
    pub(super) fn take_attempt(&mut self) -> Option<Box<Attempt>> {
        let times = self.link.times();
        let mut attempt = self.attempt.take()?;
        attempt.phases.tcp_us = Some(Phases::micros(times.connected.since(times.started)));
        attempt.phases.tls_us = Some(Phases::micros(times.opened.since(times.connected)));
        Some(attempt)
    }

    /// Sends a rendered request on an idle connection. What the socket does not take now it takes later.
    pub(super) fn send(&mut self, mut attempt: Box<Attempt>, mut exchange: Box<Exchange>, now: Mono) {
        attempt.address = self.link.peer().map(|peer| peer.ip());
        exchange.sent = 0;
        exchange.parser.start(Method::Post);
        self.requests = self.requests.saturating_add(1);
        self.phase = Phase::Busy;
        self.until = Mono::NEVER;
        self.drained = 0;
        self.attempt = Some(attempt);
        self.exchange = Some(exchange);
        // An error shows again when it is read, with whatever the peer had to say before.
        let _ = self.write(now);
    }

    /// When it must be driven at the latest.
    pub(super) fn deadline(&self) -> Mono {
        let attempt = self.attempt.as_ref().map_or(Mono::NEVER, |attempt| attempt.deadline);
        attempt.min(self.link.deadline()).min(self.until)
    }

    /// Moves it on. `secure` makes the TLS stream to an address; `scratch` is where bytes are read to.
    pub(super) fn drive(
        &mut self,
        secure: impl FnOnce(TcpStream, SocketAddr) -> io::Result<Stream>,
        registry: &Registry,
        now: Mono,
        scratch: &mut [u8],
    ) -> Event {
        let event = match self.phase {
            Phase::Opening => self.drive_opening(secure, registry, now),
            Phase::Idle => self.listen(now, scratch),
            Phase::Busy => self.exchange(now, scratch),
            Phase::Draining => self.drain(now, scratch),
        };
        if matches!(&event, Event::Closed | Event::Failed(..))
            || matches!(&event, Event::Answered(_, answer) if answer.then == Then::Close)
        {
            self.link.close(registry);
        }
        event
    }

    fn drive_opening(
        &mut self,
        secure: impl FnOnce(TcpStream, SocketAddr) -> io::Result<Stream>,
        registry: &Registry,
        now: Mono,
    ) -> Event {
        if self.attempt.as_ref().is_some_and(|attempt| now >= attempt.deadline) {
            let failure = Failure::new(FailureClass::Timeout, "no connection within the time of an attempt");
            return self.fail(failure);
        }
        match self.link.drive(secure, limits::WEBHOOK_TIMEOUT, registry, now) {
            Ok(false) => Event::Quiet,
            Ok(true) => {
                self.phase = Phase::Idle;
                Event::Opened
            }
            Err(failure) => self.fail(link_failure(&failure)),
        }
    }

    fn fail(&mut self, failure: Failure) -> Event {
        let mut attempt = self.attempt.take();
        if let Some(attempt) = &mut attempt {
            attempt.address = attempt.address.or(self.link.peer().map(|peer| peer.ip()));
        }
        Event::Failed(attempt, failure)
    }

    /// While idle only the end, or TLS housekeeping, may come.
    fn listen(&mut self, now: Mono, scratch: &mut [u8]) -> Event {
        let Some(stream) = self.link.stream() else { return Event::Closed };
        let _ = stream.flush();
        match stream.read(scratch) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && now < self.until => Event::Quiet,
            _ => Event::Closed,
        }
    }

    fn write(&mut self, now: Mono) -> io::Result<()> {
        let (Some(stream), Some(exchange)) = (self.link.stream(), self.exchange.as_deref_mut()) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        while let Some(rest) = exchange.request.get(exchange.sent..).filter(|rest| !rest.is_empty()) {
            match stream.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => exchange.sent += count,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            }
        }
        let flushed = stream.flush()?;
        if let Some(attempt) = self.attempt.as_mut().filter(|a| flushed && a.written == Mono::NEVER) {
            attempt.written = now;
        }
        Ok(())
    }

    fn exchange(&mut self, now: Mono, scratch: &mut [u8]) -> Event {
        if self.attempt.as_ref().is_none_or(|attempt| now >= attempt.deadline) {
            let begun = self.exchange.as_ref().is_some_and(|exchange| exchange.parser.has_begun());
            let detail =
                if begun { "the response head was not complete in 10 s" } else { "no response in 10 s" };
            return self.fail(Failure::new(FailureClass::Timeout, detail));
        }
        // A server may answer and close before it has read all: its answer counts, not our error.
        let written = self.write(now);
        loop {
            let Some(stream) = self.link.stream() else { return Event::Closed };
            match stream.read(scratch) {
                Ok(0) => return self.broken("the connection was closed"),
                Ok(count) => {
                    let input = scratch.get(..count).unwrap_or_default();
                    if let Some(event) = self.take(input, now) {
                        return self.unless_more_came(event, scratch);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => match written {
                    Ok(()) => return Event::Quiet,
                    Err(_) => return self.broken("the connection was closed while the request was written"),
                },
                Err(e) if e.get_ref().is_some() => return self.broken("the connection broke (TLS)"),
                Err(_) => return self.broken("the connection was reset"),
            }
        }
    }

    /// A connection is used again only if nothing follows the answer: what came in the same flight would
    /// be taken for the answer to the next request.
    fn unless_more_came(&mut self, event: Event, scratch: &mut [u8]) -> Event {
        match event {
            Event::Answered(attempt, answer) if answer.then == Then::Reuse && !self.is_quiet(scratch) => {
                Event::Answered(attempt, Answer { then: Then::Close, ..answer })
            }
            other => other,
        }
    }

    /// Whether there is nothing to read; the next byte, or the end, has an event of its own then.
    fn is_quiet(&mut self, scratch: &mut [u8]) -> bool {
        let Some(stream) = self.link.stream() else { return false };
        matches!(stream.read(scratch), Err(e) if e.kind() == io::ErrorKind::WouldBlock)
    }

    /// Bytes of the answer; an event once its head is complete or is none.
    fn take(&mut self, input: &[u8], now: Mono) -> Option<Event> {
        let exchange = self.exchange.as_deref_mut()?;
        if let Some(attempt) = self.attempt.as_mut().filter(|a| a.phases.first_byte_us.is_none()) {
            let written = if attempt.written == Mono::NEVER { now } else { attempt.written };
            attempt.phases.write_us = Some(Phases::micros(written.since(attempt.started.mono)));
            attempt.phases.first_byte_us = Some(Phases::micros(now.since(written)));
        }
        let progress = exchange.parser.feed(input, &mut Discard);
        let report = Report::of(&exchange.parser, progress.err())?;
        let whole = exchange.sent == exchange.request.len();
        let reusable = whole && exchange.parser.head().is_some_and(|head| head.keep_alive);
        let then = match progress {
            Ok(Progress::Complete { consumed }) if consumed == input.len() && reusable => Then::Reuse,
            Ok(Progress::NeedMore) if reusable => Then::Drain,
            _ => Then::Close,
        };
        let detail = detail_of(&exchange.parser, progress.err());
        let then = match then {
            Then::Reuse if !self.rest(now) => Then::Close,
            Then::Drain => {
                self.phase = Phase::Draining;
                self.until = now + limits::WEBHOOK_DRAIN_TIME;
                then
            }
            _ => then,
        };
        Some(match (report, self.attempt.take()) {
            (_, None) => Event::Closed,
            (report @ Report::Answered { .. }, Some(attempt)) => {
                Event::Answered(attempt, Answer { report, detail, then })
            }
            (report @ Report::Failed { .. }, Some(attempt)) => {
                Event::Failed(Some(attempt), Failure { report, detail })
            }
        })
    }

    /// The connection ended without a complete response head.
    fn broken(&mut self, detail: &str) -> Event {
        let begun = self.exchange.as_ref().is_some_and(|exchange| exchange.parser.has_begun());
        let kept = self.attempt.as_ref().is_some_and(|attempt| attempt.kept);
        let report = Report::Failed { class: FailureClass::Reset, stale_connection: kept && !begun };
        self.fail(Failure { report, detail: Some(detail.into()) })
    }

    fn drain(&mut self, now: Mono, scratch: &mut [u8]) -> Event {
        loop {
            let Some(stream) = self.link.stream() else { return Event::Closed };
            match stream.read(scratch) {
                Ok(0) => return Event::Closed,
                Ok(count) => {
                    self.drained += count;
                    let input = scratch.get(..count).unwrap_or_default();
                    let Some(exchange) = self.exchange.as_deref_mut() else { return Event::Closed };
                    match exchange.parser.feed(input, &mut Discard) {
                        Ok(Progress::Complete { consumed }) if consumed == count => {
                            let rests = self.is_quiet(scratch) && self.rest(now);
                            return if rests { Event::Idle } else { Event::Closed };
                        }
                        Ok(Progress::NeedMore) if self.drained <= limits::WEBHOOK_DRAIN_BYTES => {}
                        _ => return Event::Closed,
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && now < self.until => return Event::Quiet,
                Err(_) => return Event::Closed,
            }
        }
    }

    /// Idle again, for as long as the server says it keeps it; false if that is no time at all.
    fn rest(&mut self, now: Mono) -> bool {
        let head = self.exchange.as_ref().and_then(|exchange| exchange.parser.head());
        let limit = head.and_then(|head| head.idle_timeout_secs).map(std::time::Duration::from_secs);
        let until = match limit {
            _ if head.is_some_and(|head: &Head| head.requests_left == Some(0)) => now,
            Some(limit) => now + limit.saturating_sub(limits::IDLE_MARGIN),
            None => Mono::NEVER,
        };
        if now >= until {
            return false;
        }
        (self.phase, self.until) = (Phase::Idle, until);
        true
    }
}

/// What people are told about an answer beside its status.
fn detail_of(parser: &ResponseParser, error: Option<ResponseError>) -> Option<Box<str>> {
    if let Some(error) = error {
        return Some(format!("{error:?}").into());
    }
    let status = parser.status()?;
    if !(300..400).contains(&status) {
        return None;
    }
    let location = parser.header("location")?;
    Some(format!("Location: {} (redirects are not followed)", location.escape_ascii()).into())
}

fn link_failure(failure: &LinkFailure) -> Failure {
    match failure {
        // Of a connection that stood, if only until we looked: one that is refused says so.
        LinkFailure::Dial(DialError::Failed(io::ErrorKind::ConnectionReset)) => {
            Failure::new(FailureClass::Reset, "the connection was reset")
        }
        LinkFailure::Dial(DialError::Failed(kind)) => {
            Failure::new(FailureClass::Connect, format!("no connection: {kind}"))
        }
        LinkFailure::Dial(DialError::TimedOut) => {
            Failure::new(FailureClass::Connect, "no connection: no address answered in 3 s")
        }
        LinkFailure::Dial(DialError::NoAddress) => {
            Failure::new(FailureClass::Connect, "no address to connect to")
        }
        LinkFailure::TlsTimedOut => Failure::new(FailureClass::Timeout, "the TLS handshake took too long"),
        LinkFailure::Tls(error) => {
            let class = match (tls::certificate_fault(error), tls::failure_of(error)) {
                (Some(CertificateFault::Expired), _) => FailureClass::TlsExpired,
                (Some(CertificateFault::Name), _) => FailureClass::TlsName,
                (Some(CertificateFault::Untrusted), _) => FailureClass::TlsUntrusted,
                (None, TlsFailure::Gone) => FailureClass::Reset,
                (None, _) => FailureClass::Tls,
            };
            Failure::new(class, format!("TLS: {error}"))
        }
    }
}
