//! One connection from accept to hand-over: PROXY header, TLS, request head, answer, end.
//!
//! Contract: [`Connection::advance`] moves as far as the socket allows and says what happened;
//! decisions are the thread's. Owner: the accept thread. Bounds: a request head, [`limits::EARLY_BYTES`]
//! and one answer. Allocates what arrives. Any failure is a [`Progress::Closed`].

use std::io;
use std::net::IpAddr;

use tocsin_core::feed::admission::refusal::Refusal;
use tocsin_core::http1::request::HeadReader;
use tocsin_core::limits;
use tocsin_core::time::Mono;

use super::proxy;
use crate::net::Stream;
use crate::net::tls::{ServerTls, TlsFailure, failure_of};

/// Where a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// A PROXY protocol header is due.
    Proxy,
    /// The TLS handshake is under way.
    Tls,
    /// The request head is arriving.
    Head,
    /// A refusal or answer is being written.
    Answer,
    /// The answer is out; the peer may close. Holds how many bytes are still read for that.
    Linger(usize),
}

/// Why a connection ends here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// It was answered.
    Answered,
    /// The peer left, or the socket failed.
    Gone,
    /// The TLS handshake failed.
    Tls(TlsFailure),
    /// A trusted proxy sent no PROXY header.
    NotProxied,
}

/// What [`Connection::advance`] came to.
#[derive(Debug)]
pub(super) enum Progress {
    /// Wait for the next event.
    Wait,
    /// The PROXY header is read: the connection is this client's, or the proxy's own.
    Proxied(Option<IpAddr>),
    /// TLS is done.
    Secured,
    /// The first so many bytes of [`Connection::received`] are a request head.
    Request(usize),
    /// No request can come of it.
    Refuse(Refusal),
    /// Drop it.
    Closed(Closed),
}

/// See the module head.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: Stream,
    pub(super) phase: Phase,
    /// Whose it is: the peer, or the client that a PROXY header names.
    pub(super) client: IpAddr,
    /// Where its handshake is counted.
    pub(super) share: IpAddr,
    pub(super) accepted_at: Mono,
    /// When it must have come to an end of its phase.
    pub(super) deadline: Mono,
    pub(super) received: Vec<u8>,
    /// Whether it waits for its turn of TLS work.
    pub(super) queued: bool,
    reader: HeadReader,
    answer: Vec<u8>,
    sent: usize,
}

impl Connection {
    pub(super) fn new(stream: Stream, phase: Phase, client: IpAddr, share: IpAddr, now: Mono) -> Connection {
        Connection {
            stream,
            phase,
            client,
            share,
            accepted_at: now,
            deadline: now + limits::HANDSHAKE_TIMEOUT,
            received: Vec::new(),
            queued: false,
            reader: HeadReader::new(),
            answer: Vec::new(),
            sent: 0,
        }
    }

    /// Writes this and closes. `fill` appends the whole response.
    pub(super) fn answer(&mut self, now: Mono, fill: impl FnOnce(&mut Vec<u8>)) {
        fill(&mut self.answer);
        self.phase = Phase::Answer;
        self.deadline = now + limits::ANSWER_TIMEOUT;
    }

    /// Moves one phase as far as the socket allows. `scratch` holds what a read brings.
    pub(super) fn advance(&mut self, tls: Option<&ServerTls>, scratch: &mut [u8], now: Mono) -> Progress {
        match self.phase {
            Phase::Proxy => self.read_proxy_header(scratch),
            Phase::Tls => self.shake(tls),
            Phase::Head => self.read_head(scratch),
            Phase::Answer => self.write_answer(now, scratch),
            Phase::Linger(left) => self.linger(left, scratch),
        }
    }

    /// Looks before it takes: what follows the header belongs to TLS.
    fn read_proxy_header(&mut self, scratch: &mut [u8]) -> Progress {
        let peeked = match self.stream.tcp().peek(scratch) {
            Ok(0) => return Progress::Closed(Closed::Gone),
            Ok(n) => scratch.get(..n).unwrap_or_default(),
            Err(e) => return ended(&e),
        };
        match proxy::parse_header(peeked) {
            Ok(None) => Progress::Wait,
            Ok(Some(header)) => {
                let mut left = header.bytes;
                while left > 0 {
                    let part = scratch.get_mut(..left).unwrap_or_default();
                    match self.stream.read(part) {
                        // The bytes were there a moment ago, so neither end nor wait is expected.
                        Ok(0) | Err(_) => return Progress::Closed(Closed::Gone),
                        Ok(n) => left = left.saturating_sub(n),
                    }
                }
                Progress::Proxied(header.client)
            }
            Err(proxy::NotProxied) => Progress::Closed(Closed::NotProxied),
        }
    }

    fn shake(&mut self, tls: Option<&ServerTls>) -> Progress {
        if let (false, Some(tls)) = (self.stream.is_tls(), tls)
            && self.stream.start_tls(tls).is_err()
        {
            return Progress::Closed(Closed::Tls(TlsFailure::Protocol));
        }
        match self.stream.handshake() {
            Ok(true) => Progress::Secured,
            Ok(false) => Progress::Wait,
            Err(e) => Progress::Closed(Closed::Tls(failure_of(&e))),
        }
    }

    fn read_head(&mut self, scratch: &mut [u8]) -> Progress {
        loop {
            match self.stream.read(scratch) {
                Ok(0) => return Progress::Closed(Closed::Gone),
                Ok(n) => self.received.extend_from_slice(scratch.get(..n).unwrap_or_default()),
                Err(e) => return ended(&e),
            }
            match self.reader.poll(&self.received) {
                Ok(None) => {}
                Ok(Some(head)) => {
                    self.read_early(head, scratch);
                    return Progress::Request(head);
                }
                Err(error) => return Progress::Refuse(Refusal::Head(error)),
            }
        }
    }

    /// Takes what the client sent without waiting for the answer, as far as the bound.
    fn read_early(&mut self, head: usize, scratch: &mut [u8]) {
        while self.received.len() - head < limits::EARLY_BYTES {
            match self.stream.read(scratch) {
                // An end or a failure shows again when the writer reads.
                Ok(0) | Err(_) => return,
                Ok(n) => self.received.extend_from_slice(scratch.get(..n).unwrap_or_default()),
            }
        }
    }

    fn write_answer(&mut self, now: Mono, scratch: &mut [u8]) -> Progress {
        loop {
            let rest = self.answer.get(self.sent..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            match self.stream.write(rest) {
                Ok(n) => self.sent += n,
                Err(e) => return ended(&e),
            }
        }
        match self.stream.shutdown() {
            Ok(true) => {
                self.deadline = now + limits::LINGER_TIMEOUT;
                self.phase = Phase::Linger(limits::LINGER_BYTES);
                // The peer's end may have been announced already.
                self.linger(limits::LINGER_BYTES, scratch)
            }
            Ok(false) => Progress::Wait,
            Err(_) => Progress::Closed(Closed::Answered),
        }
    }

    /// Closing with unread bytes would reset the connection and may destroy the answer on its way.
    fn linger(&mut self, mut left: usize, scratch: &mut [u8]) -> Progress {
        loop {
            match self.stream.read(scratch) {
                Ok(0) => return Progress::Closed(Closed::Answered),
                Ok(n) if n < left => left -= n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.phase = Phase::Linger(left);
                    return Progress::Wait;
                }
                _ => return Progress::Closed(Closed::Answered),
            }
        }
    }
}

fn ended(error: &io::Error) -> Progress {
    match error.kind() {
        io::ErrorKind::WouldBlock => Progress::Wait,
        _ => Progress::Closed(Closed::Gone),
    }
}
