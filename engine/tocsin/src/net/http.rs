//! One warm HTTP/1.1 client connection: dial, TLS handshake, one request at a time, keep-alive.
//!
//! Contract: every call returns at once. The owner calls [`HttpConnection::drive`] at every event of the
//! token and at [`HttpConnection::deadline`], and acts on the [`Event`] that comes back; the connection
//! never decides to reopen or retry. Buffers (head, body, request) are reused: an answer as large as
//! the ones before allocates nothing outside the TLS library. Time limits: dialling
//! [`limits::DIAL_TIMEOUT`], TLS [`limits::TLS_TIMEOUT`], an answer [`limits::REQUEST_TIMEOUT`] in all and
//! [`limits::RESPONSE_STALL`] between two of its bytes. Owner: a source thread or the market
//! thread. Failure: a [`Failure`], and the connection is closed.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mio::{Registry, Token};
use tocsin_core::http1::response::{Method, Progress, ResponseError, ResponseLimits, ResponseParser};
use tocsin_core::http1::writer::RequestTemplate;
use tocsin_core::limits;
use tocsin_core::source::backoff::Failure;
use tocsin_core::time::Mono;

use super::Stream;
use super::dial::DialError;
use super::link::{Link, LinkFailure};
use super::tls::{ClientTls, TlsFailure};
use super::url::BaseUrl;

/// Whom a connection talks to.
pub struct Peer {
    /// The server.
    pub url: BaseUrl,
    /// How to check it; unused with `http`.
    pub tls: ClientTls,
}

/// What came of a [`HttpConnection::drive`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing the owner must act on.
    Quiet,
    /// Connected, handshake done: a request may be sent.
    Ready,
    /// A complete answer: see [`HttpConnection::parser`] and [`HttpConnection::body_mut`].
    Answer,
    /// The server closed an idle connection, or gave up a kept-alive one before answering: nobody's
    /// failure. `unanswered`: a request was outstanding and may be sent again.
    Lapsed {
        /// Whether a request was outstanding.
        unanswered: bool,
    },
    /// It failed and is closed.
    Failed(Failure),
}

/// Why the last failure was one, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Dialling.
    Dial(DialError),
    /// TLS, or the socket under it.
    Tls(TlsFailure),
    /// The socket.
    Socket(io::ErrorKind),
    /// The answer.
    Response(ResponseError),
    /// The answer to a WebSocket's upgrade is none.
    NoUpgrade,
    /// A time limit.
    TimedOut,
}

/// A connection. Its place in the owner's table, and so its token, stays the same over reconnects.
pub struct HttpConnection {
    link: Link,
    bind: Option<IpAddr>,
    /// A request is outstanding; only on an open link.
    busy: bool,
    parser: ResponseParser,
    body: Vec<u8>,
    request: Vec<u8>,
    sent: usize,
    deadline: Mono,
    last_byte: Mono,
    opened_at: Mono,
    used_at: Mono,
    /// Requests sent since it was opened.
    requests: u32,
    dials: usize,
    server_idle_limit: Option<Duration>,
    server_requests_left: Option<u64>,
    bytes_read: u64,
    cause: Option<Cause>,
}

impl HttpConnection {
    /// A closed connection that will leave from `bind`.
    #[must_use]
    pub fn new(token: Token, bind: Option<IpAddr>) -> HttpConnection {
        HttpConnection {
            link: Link::new(token),
            bind,
            busy: false,
            parser: ResponseParser::new(ResponseLimits::SOURCE),
            body: Vec::with_capacity(64 * 1_024),
            request: Vec::with_capacity(2 * 1_024),
            sent: 0,
            deadline: Mono::NEVER,
            last_byte: Mono(0),
            opened_at: Mono(0),
            used_at: Mono(0),
            requests: 0,
            dials: token.0,
            server_idle_limit: None,
            server_requests_left: None,
            bytes_read: 0,
            cause: None,
        }
    }

    /// As [`HttpConnection::new`], for answers within other bounds.
    #[must_use]
    pub fn with_limits(self, limits: ResponseLimits) -> HttpConnection {
        HttpConnection { parser: ResponseParser::new(limits), ..self }
    }

    /// Begins to connect to one of `addresses`; each time it prefers another. Closes what was open.
    /// Drive it at once.
    pub fn open(&mut self, addresses: &[IpAddr], port: u16, registry: &Registry, now: Mono) {
        self.close(registry);
        self.link.open(addresses, port, self.bind, self.dials, registry, now);
        self.dials = self.dials.wrapping_add(1);
    }

    /// Closes it without ceremony.
    pub fn close(&mut self, registry: &Registry) {
        self.link.close(registry);
        self.busy = false;
        self.deadline = Mono::NEVER;
        self.requests = 0;
        self.server_idle_limit = None;
        self.server_requests_left = None;
    }

    /// Sends a request on an idle connection; false when it is not idle. Drive it at once.
    pub fn send(&mut self, template: &RequestTemplate, etag: Option<&[u8]>, now: Mono) -> bool {
        if !self.is_idle() {
            return false;
        }
        self.request.clear();
        template.write(etag, &mut self.request);
        self.begin(Method::Get, limits::REQUEST_TIMEOUT, now);
        true
    }

    /// As [`HttpConnection::send`], of a request rendered whole, which has `patience` to be answered.
    pub fn send_whole(&mut self, request: &[u8], method: Method, patience: Duration, now: Mono) -> bool {
        if !self.is_idle() {
            return false;
        }
        self.request.clear();
        self.request.extend_from_slice(request);
        self.begin(method, patience, now);
        true
    }

    #[inline]
    fn begin(&mut self, method: Method, patience: Duration, now: Mono) {
        self.busy = true;
        self.sent = 0;
        self.body.clear();
        self.parser.start(method);
        self.requests = self.requests.saturating_add(1);
        self.used_at = now;
        self.last_byte = now;
        self.deadline = now + patience;
    }

    /// Moves it on as far as the socket allows. `scratch` is where bytes are read to first.
    pub fn drive(&mut self, peer: &Peer, registry: &Registry, now: Mono, scratch: &mut [u8]) -> Event {
        match self.step(peer, registry, now, scratch) {
            Ok(event) => {
                if matches!(event, Event::Lapsed { .. }) {
                    self.close(registry);
                }
                event
            }
            Err((failure, cause)) => {
                self.cause = Some(cause);
                self.close(registry);
                Event::Failed(failure)
            }
        }
    }

    /// When it must be driven at the latest.
    #[must_use]
    pub fn deadline(&self) -> Mono {
        if self.busy && self.parser.has_begun() {
            return self.deadline.min(self.last_byte + limits::RESPONSE_STALL);
        }
        self.deadline.min(self.link.deadline())
    }

    /// Whether a request may be sent.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        self.link.is_open() && !self.busy
    }

    /// Whether there is no connection and none being made.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.link.is_closed()
    }

    /// Whether a request is outstanding.
    #[must_use]
    pub const fn is_busy(&self) -> bool {
        self.busy
    }

    /// The head of the last answer.
    #[must_use]
    pub const fn parser(&self) -> &ResponseParser {
        &self.parser
    }

    /// The body of the last answer.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The same, for parsing, which may scramble it.
    pub fn body_mut(&mut self) -> &mut [u8] {
        &mut self.body
    }

    /// Whether it should be opened anew before its next request: it is older than `age`, has sent
    /// `requests`, or the server has said that its own limit of idle time or requests is near.
    #[must_use]
    pub fn wants_rotation(&self, age: Duration, requests: u32, now: Mono) -> bool {
        let idle = now.since(self.used_at.max(self.opened_at));
        self.is_idle()
            && (now.since(self.opened_at) >= age
                || self.requests >= requests
                || self.server_requests_left == Some(0)
                || self.server_idle_limit.is_some_and(|limit| idle + limits::IDLE_MARGIN >= limit))
    }

    /// The server's address, while connected.
    #[must_use]
    pub const fn peer_address(&self) -> Option<SocketAddr> {
        self.link.peer()
    }

    /// Whether the TLS session was resumed; `None` without TLS or connection.
    #[must_use]
    pub fn resumed(&self) -> Option<bool> {
        self.link.resumed()
    }

    /// Bytes of plaintext read since the last call.
    pub fn take_bytes_read(&mut self) -> u64 {
        std::mem::take(&mut self.bytes_read)
    }

    /// Why it failed last.
    #[must_use]
    pub const fn cause(&self) -> Option<Cause> {
        self.cause
    }

    fn step(
        &mut self,
        peer: &Peer,
        registry: &Registry,
        now: Mono,
        scratch: &mut [u8],
    ) -> Result<Event, (Failure, Cause)> {
        if !self.link.is_open() {
            let secure = |tcp, _| {
                if peer.url.tls {
                    Stream::connect_tls(tcp, &peer.tls, &peer.url.host)
                } else {
                    Ok(Stream::plain(tcp))
                }
            };
            let opened = self.link.drive(secure, limits::TLS_TIMEOUT, registry, now).map_err(link_failure)?;
            if !opened {
                return Ok(Event::Quiet);
            }
            self.opened_at = now;
            self.used_at = now;
            self.deadline = Mono::NEVER;
            return Ok(Event::Ready);
        }
        if self.busy { self.exchange(registry, now, scratch) } else { self.listen(scratch) }
    }

    /// An idle connection only hears that the server closes it (and takes TLS tickets).
    fn listen(&mut self, scratch: &mut [u8]) -> Result<Event, (Failure, Cause)> {
        self.deadline = Mono::NEVER;
        let Some(stream) = self.link.stream() else { return Ok(Event::Quiet) };
        let _ = stream.flush();
        match stream.read(scratch) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(Event::Quiet),
            // A server that closes before it was asked anything does not want us.
            Ok(0) | Err(_) if self.requests == 0 => {
                Err((Failure::Closed, Cause::Socket(io::ErrorKind::UnexpectedEof)))
            }
            Ok(0) | Err(_) => Ok(Event::Lapsed { unanswered: false }),
            Ok(_) => Err((Failure::Protocol, Cause::Response(ResponseError::Unsolicited))),
        }
    }

    fn exchange(
        &mut self,
        registry: &Registry,
        now: Mono,
        scratch: &mut [u8],
    ) -> Result<Event, (Failure, Cause)> {
        if let Err(kind) = self.write_request() {
            return self.broken(kind);
        }
        while let Some(stream) = self.link.stream() {
            match stream.read(scratch) {
                Ok(0) => match self.parser.end_of_stream() {
                    Ok(()) => {
                        self.close(registry);
                        return Ok(Event::Answer);
                    }
                    Err(_) if !self.parser.has_begun() => return self.broken(io::ErrorKind::UnexpectedEof),
                    Err(error) => return Err((Failure::Closed, Cause::Response(error))),
                },
                Ok(count) => {
                    self.last_byte = now;
                    self.bytes_read += count as u64;
                    let input = scratch.get(..count).unwrap_or_default();
                    match self.parser.feed(input, &mut self.body) {
                        Ok(Progress::NeedMore) => {}
                        Ok(Progress::Complete { consumed }) => {
                            self.answered(consumed == count, registry, now);
                            return Ok(Event::Answer);
                        }
                        Err(error) => return Err((Failure::Protocol, Cause::Response(error))),
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return self.broken(e.kind()),
            }
        }
        if now >= self.deadline() {
            return Err((Failure::Timeout, Cause::TimedOut));
        }
        Ok(Event::Quiet)
    }

    fn write_request(&mut self) -> Result<(), io::ErrorKind> {
        let Some(stream) = self.link.stream() else { return Err(io::ErrorKind::NotConnected) };
        while let Some(rest) = self.request.get(self.sent..).filter(|r| !r.is_empty()) {
            match stream.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero),
                Ok(count) => self.sent += count,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e.kind()),
            }
        }
        stream.flush().map(drop).map_err(|e| e.kind())
    }

    /// The connection broke with a request outstanding. If it had answered before and nothing of this
    /// answer has come, the server closed it while the request was on its way (RFC 9112 9.3.1).
    fn broken(&self, kind: io::ErrorKind) -> Result<Event, (Failure, Cause)> {
        if self.requests > 1 && !self.parser.has_begun() {
            return Ok(Event::Lapsed { unanswered: true });
        }
        Err((Failure::Closed, Cause::Socket(kind)))
    }

    fn answered(&mut self, nothing_left: bool, registry: &Registry, now: Mono) {
        self.used_at = now;
        let kept = self.parser.head().filter(|head| head.keep_alive);
        let Some(head) = kept.filter(|_| nothing_left && self.sent >= self.request.len()) else {
            return self.close(registry);
        };
        self.server_idle_limit = head.idle_timeout_secs.map(Duration::from_secs);
        self.server_requests_left = head.requests_left;
        self.busy = false;
        // Its end may have come in the same flight; no further event would announce it.
        self.deadline = now;
    }
}

pub(super) fn link_failure(failure: LinkFailure) -> (Failure, Cause) {
    match failure {
        LinkFailure::Dial(error) => (Failure::Connect, Cause::Dial(error)),
        LinkFailure::Tls(error) => tls_failure(&error),
        LinkFailure::TlsTimedOut => (Failure::Tls, Cause::TimedOut),
    }
}

/// A server that leaves in the middle of the handshake is as good as one that takes no connection: it
/// may be back at once. What it has said wrong it will say again.
fn tls_failure(error: &io::Error) -> (Failure, Cause) {
    let cause = super::tls::failure_of(error);
    let failure = if cause == TlsFailure::Gone { Failure::Closed } else { Failure::Tls };
    (failure, Cause::Tls(cause))
}
