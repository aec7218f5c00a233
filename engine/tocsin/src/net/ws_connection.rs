//! One WebSocket connection to an exchange: dial, TLS, upgrade, frames.
//!
//! Contract: every call returns at once. The owner calls [`WsConnection::drive`] at every event of the token and
//! at [`WsConnection::deadline`], and acts on the [`Event`] that comes back; the connection never decides to
//! reopen, and sends no frame unasked: what it owes its server the owner has it write. Buffers are reused: a
//! turn without a message allocates nothing outside the TLS library. Bounds: an answer to the upgrade of
//! [`limits::RESPONSE_HEAD_BYTES`] and [`limits::STREAM_REFUSAL_BYTES`], a message of
//! [`limits::STREAM_MESSAGE_BYTES`], [`READS_PER_TURN`] reads a turn. The upgrade request, which may hold
//! credentials, is wiped when it has been sent. Owner: a source thread. Failure: a [`Failure`], and the
//! connection is closed.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use mio::{Registry, Token};
use ring::rand::{SecureRandom as _, SystemRandom};
use tocsin_core::limits;
use tocsin_core::source::backoff::Failure;
use tocsin_core::time::Mono;
use tocsin_core::ws::CloseCode;
use tocsin_core::ws::client::{Client, End, Heard};
use tocsin_core::ws::handshake::{NONCE_BYTES, Reply, read_reply};
use zeroize::Zeroizing;

use super::Stream;
use super::http::{Cause, Peer, link_failure};
use super::link::Link;

/// A server that sends without end does not keep its thread from the others.
const READS_PER_TURN: usize = 16;

/// What came of a [`WsConnection::drive`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing the owner must act on.
    Quiet,
    /// The upgrade was accepted. Drive it again at once: messages may be in already.
    Upgraded,
    /// The upgrade was answered with another status; see [`WsConnection::refusal`]. It is closed.
    Refused {
        /// The status.
        status: u16,
        /// `Retry-After`, when given in seconds.
        retry_after: Option<Duration>,
    },
    /// The server closed, or broke the protocol: a close frame is owed. The messages before have been heard.
    Ended(End),
    /// It failed and is closed.
    Failed(Failure),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Linking,
    Upgrading,
    Open,
    /// [`Event::Ended`] was told.
    Over,
}

/// A connection. Its place in the owner's table, and so its token, stays the same over reconnects.
pub struct WsConnection {
    link: Link,
    bind: Option<IpAddr>,
    stage: Stage,
    client: Client,
    nonce: [u8; NONCE_BYTES],
    request: Zeroizing<Vec<u8>>,
    /// What came in answer to the upgrade, and what followed it.
    reply: Vec<u8>,
    /// Where the body of a refusal begins in `reply`.
    body_at: usize,
    out: Vec<u8>,
    sent: usize,
    deadline: Mono,
    dials: usize,
    bytes_read: u64,
    cause: Option<Cause>,
    random: SystemRandom,
}

impl WsConnection {
    /// A closed connection that will leave from `bind`.
    #[must_use]
    pub fn new(token: Token, bind: Option<IpAddr>) -> WsConnection {
        WsConnection {
            link: Link::new(token),
            bind,
            stage: Stage::Linking,
            client: Client::new(limits::STREAM_MESSAGE_BYTES),
            nonce: [0; NONCE_BYTES],
            request: Zeroizing::default(),
            reply: Vec::with_capacity(limits::STREAM_REFUSAL_BYTES),
            body_at: 0,
            out: Vec::with_capacity(limits::STREAM_REFUSAL_BYTES),
            sent: 0,
            deadline: Mono::NEVER,
            dials: token.0,
            bytes_read: 0,
            cause: None,
            random: SystemRandom::new(),
        }
    }

    /// Begins to connect to one of `addresses`, to send `request` made with `nonce`. Closes what was open.
    /// Drive it at once.
    pub fn open(
        &mut self,
        addresses: &[IpAddr],
        port: u16,
        (request, nonce): (Zeroizing<Vec<u8>>, [u8; NONCE_BYTES]),
        registry: &Registry,
        now: Mono,
    ) {
        self.close(registry);
        self.link.open(addresses, port, self.bind, self.dials, registry, now);
        self.dials = self.dials.wrapping_add(1);
        self.request = request;
        self.nonce = nonce;
        self.stage = Stage::Linking;
        self.client = Client::new(limits::STREAM_MESSAGE_BYTES);
        self.reply.clear();
        self.body_at = 0;
    }

    /// Closes it without ceremony.
    pub fn close(&mut self, registry: &Registry) {
        self.link.close(registry);
        self.request = Zeroizing::default();
        self.out.clear();
        self.sent = 0;
        self.deadline = Mono::NEVER;
    }

    /// Moves it on as far as the socket allows; `hear` gets every message and pong. `scratch` is where bytes
    /// are read to.
    pub fn drive(
        &mut self,
        peer: &Peer,
        registry: &Registry,
        now: Mono,
        scratch: &mut [u8],
        hear: &mut impl FnMut(Heard<'_>),
    ) -> Event {
        match self.step(peer, registry, now, scratch, hear) {
            Ok(event) => {
                if matches!(event, Event::Refused { .. }) {
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
        self.deadline.min(self.link.deadline())
    }

    /// Whether there is no connection and none being made.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.link.is_closed()
    }

    /// Whether messages may flow.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.link.is_open() && self.stage == Stage::Open
    }

    /// The beginning of the body of the last refusal.
    #[must_use]
    pub fn refusal(&self) -> &[u8] {
        self.reply.get(self.body_at..).unwrap_or_default()
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

    /// Whether the server is owed a pong or a close frame.
    #[must_use]
    pub const fn owes(&self) -> bool {
        self.client.owed().is_some()
    }

    /// Whether both close frames have passed: there is nothing left to wait for.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.client.is_over() && self.sent >= self.out.len()
    }

    /// Has the frame that is owed sent. Drive it at once.
    pub fn write_owed(&mut self) {
        let mask = self.mask();
        self.client.write_owed(mask, &mut self.out);
    }

    /// Has a text sent. Drive it at once.
    pub fn write_text(&mut self, text: &str) {
        let mask = self.mask();
        self.client.write_text(text, mask, &mut self.out);
    }

    /// Has a ping without payload sent. Drive it at once.
    pub fn write_ping(&mut self) {
        let mask = self.mask();
        self.client.write_ping(b"", mask, &mut self.out);
    }

    /// Sends a close frame as far as the socket takes it now: for a connection that is about to be closed.
    pub fn part(&mut self) {
        if self.link.is_open() && matches!(self.stage, Stage::Open | Stage::Over) {
            self.leave();
            self.write_owed();
            // It is closed next, whatever comes of this.
            let _ = self.flush();
        }
    }

    /// Owes the server a close frame.
    pub fn leave(&mut self) {
        self.client.close(CloseCode::NORMAL, "");
    }

    /// Fresh bytes nobody can foresee (RFC 6455 5.3). Without a random source, zeros: TLS hides the frame
    /// from those a mask is meant to hinder.
    fn mask(&self) -> [u8; 4] {
        let mut mask = [0; 4];
        let _ = self.random.fill(&mut mask);
        mask
    }

    fn step(
        &mut self,
        peer: &Peer,
        registry: &Registry,
        now: Mono,
        scratch: &mut [u8],
        hear: &mut impl FnMut(Heard<'_>),
    ) -> Result<Event, (Failure, Cause)> {
        if self.link.is_closed() {
            return Ok(Event::Quiet);
        }
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
            self.stage = Stage::Upgrading;
            self.out.extend_from_slice(&self.request);
            self.deadline = now + limits::REQUEST_TIMEOUT;
        }
        self.flush()?;
        match self.stage {
            Stage::Upgrading => self.upgrade(now, scratch),
            _ => self.listen(now, scratch, hear),
        }
    }

    fn flush(&mut self) -> Result<(), (Failure, Cause)> {
        let gone = |kind| (Failure::Closed, Cause::Socket(kind));
        let Some(stream) = self.link.stream() else { return Ok(()) };
        while let Some(rest) = self.out.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match stream.write(rest) {
                Ok(0) => return Err(gone(io::ErrorKind::WriteZero)),
                Ok(count) => self.sent += count,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(gone(e.kind())),
            }
        }
        if !self.request.is_empty() && !self.out.is_empty() {
            zeroize::Zeroize::zeroize(self.out.as_mut_slice());
            self.request = Zeroizing::default();
        }
        self.out.clear();
        self.sent = 0;
        stream.flush().map(drop).map_err(|e| gone(e.kind()))
    }

    /// Reads the answer to the upgrade.
    fn upgrade(&mut self, now: Mono, scratch: &mut [u8]) -> Result<Event, (Failure, Cause)> {
        let mut ended = false;
        while let Some(stream) = self.link.stream().filter(|_| !ended) {
            match stream.read(scratch) {
                Ok(0) => ended = true,
                Ok(count) => {
                    self.bytes_read += count as u64;
                    self.reply.extend_from_slice(scratch.get(..count).unwrap_or_default());
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err((Failure::Closed, Cause::Socket(e.kind()))),
            }
            if self.reply.len() > limits::RESPONSE_HEAD_BYTES + limits::STREAM_REFUSAL_BYTES {
                break;
            }
        }
        let reply =
            read_reply(&self.reply, &self.nonce).map_err(|_| (Failure::Protocol, Cause::NoUpgrade))?;
        match reply {
            Some(Reply::Open { head_bytes }) => {
                self.reply.drain(..head_bytes.min(self.reply.len()));
                self.stage = Stage::Open;
                // What followed is in `reply`, and no further event may announce it.
                self.deadline = now;
                return Ok(Event::Upgraded);
            }
            Some(Reply::Refused { status, retry_after_secs, body_bytes, head_bytes }) => {
                self.body_at = head_bytes;
                let wanted = body_bytes.unwrap_or(usize::MAX).min(limits::STREAM_REFUSAL_BYTES);
                if ended || self.refusal().len() >= wanted || now >= self.deadline {
                    let retry_after = retry_after_secs.map(|secs| Duration::from_secs(u64::from(secs)));
                    return Ok(Event::Refused { status, retry_after });
                }
            }
            None if ended => {
                return Err((Failure::Closed, Cause::Socket(io::ErrorKind::UnexpectedEof)));
            }
            None => {}
        }
        if now >= self.deadline {
            return Err((Failure::Timeout, Cause::TimedOut));
        }
        Ok(Event::Quiet)
    }

    /// Reads frames.
    fn listen(
        &mut self,
        now: Mono,
        scratch: &mut [u8],
        hear: &mut impl FnMut(Heard<'_>),
    ) -> Result<Event, (Failure, Cause)> {
        self.deadline = Mono::NEVER;
        if !self.reply.is_empty() {
            self.client.receive(&mut self.reply, hear);
            self.reply.clear();
        }
        let mut reads = 0;
        while let Some(stream) = self.link.stream() {
            if let Some(end) = self.client.end() {
                let told = std::mem::replace(&mut self.stage, Stage::Over) == Stage::Over;
                return Ok(if told { Event::Quiet } else { Event::Ended(end) });
            }
            if reads >= READS_PER_TURN {
                self.deadline = now;
                break;
            }
            match stream.read(scratch) {
                Ok(0) => return Err((Failure::Closed, Cause::Socket(io::ErrorKind::UnexpectedEof))),
                Ok(count) => {
                    self.bytes_read += count as u64;
                    self.client.receive(scratch.get_mut(..count).unwrap_or_default(), hear);
                    reads += 1;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err((Failure::Closed, Cause::Socket(e.kind()))),
            }
        }
        Ok(Event::Quiet)
    }
}
