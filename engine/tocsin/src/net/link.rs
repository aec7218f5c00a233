//! A client connection up to the point where plaintext flows: dial, then TLS.
//!
//! Contract: every call returns at once. The owner calls [`Link::drive`] at every event of the token and
//! at [`Link::deadline`] until it is open, and from then on uses [`Link::stream`]. What TLS to speak is
//! decided when the winning address is known, by the owner. Owner: the thread that polls. Allocates
//! with the TLS library only. Failure: a [`LinkFailure`], and the link is closed.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Registry, Token};
use tocsin_core::time::Mono;

use super::Stream;
use super::dial::{Dial, DialError, Dialled};

/// Why a link did not come about.
#[derive(Debug)]
pub enum LinkFailure {
    /// No connection.
    Dial(DialError),
    /// TLS failed; [`super::tls::failure_of`] and [`super::tls::certificate_fault`] tell how.
    Tls(io::Error),
    /// The handshake took too long.
    TlsTimedOut,
}

/// When a link reached what, for those who measure.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkTimes {
    /// The dial began.
    pub started: Mono,
    /// A TCP connection stood.
    pub connected: Mono,
    /// The TLS handshake was done.
    pub opened: Mono,
}

#[derive(Debug)]
enum State {
    Closed,
    Dialling,
    Handshaking(Stream),
    Open(Stream),
}

/// See the module head. Its place in the owner's table, and so its token, stays the same over
/// reconnects.
#[derive(Debug)]
pub struct Link {
    token: Token,
    state: State,
    dial: Dial,
    deadline: Mono,
    times: LinkTimes,
    peer: Option<SocketAddr>,
}

impl Link {
    /// A closed link.
    #[must_use]
    pub fn new(token: Token) -> Link {
        Link {
            token,
            state: State::Closed,
            dial: Dial::new(),
            deadline: Mono::NEVER,
            times: LinkTimes::default(),
            peer: None,
        }
    }

    /// Begins to connect to one of `addresses` from the local address `bind`; `turn` rotates which is
    /// preferred. Closes what was open. Drive it at once.
    pub fn open(
        &mut self,
        addresses: &[IpAddr],
        port: u16,
        bind: Option<IpAddr>,
        turn: usize,
        registry: &Registry,
        now: Mono,
    ) {
        self.close(registry);
        self.dial.start(addresses, port, bind, turn, now);
        self.state = State::Dialling;
        self.deadline = now;
        self.times = LinkTimes { started: now, ..LinkTimes::default() };
    }

    /// Moves it on. `true` once it is open, told once. `secure` makes the stream of the TCP connection to
    /// the address that won; `tls_time` is how long its handshake may take.
    ///
    /// # Errors
    /// See [`LinkFailure`].
    pub fn drive(
        &mut self,
        secure: impl FnOnce(TcpStream, SocketAddr) -> io::Result<Stream>,
        tls_time: Duration,
        registry: &Registry,
        now: Mono,
    ) -> Result<bool, LinkFailure> {
        let result = self.step(secure, tls_time, registry, now);
        if result.is_err() {
            self.close(registry);
        }
        result
    }

    fn step(
        &mut self,
        secure: impl FnOnce(TcpStream, SocketAddr) -> io::Result<Stream>,
        tls_time: Duration,
        registry: &Registry,
        now: Mono,
    ) -> Result<bool, LinkFailure> {
        if let State::Dialling = self.state {
            match self.dial.poll(registry, self.token, now) {
                Dialled::Pending(deadline) => {
                    self.deadline = deadline;
                    return Ok(false);
                }
                Dialled::Failed(error) => return Err(LinkFailure::Dial(error)),
                Dialled::Connected(tcp, address) => {
                    self.peer = Some(address);
                    self.times.connected = now;
                    self.state = State::Handshaking(secure(tcp, address).map_err(LinkFailure::Tls)?);
                    self.deadline = now + tls_time;
                }
            }
        }
        let State::Handshaking(stream) = &mut self.state else { return Ok(false) };
        if !stream.handshake().map_err(LinkFailure::Tls)? {
            return if now >= self.deadline { Err(LinkFailure::TlsTimedOut) } else { Ok(false) };
        }
        if let State::Handshaking(stream) = std::mem::replace(&mut self.state, State::Closed) {
            self.state = State::Open(stream);
        }
        self.times.opened = now;
        self.deadline = Mono::NEVER;
        Ok(true)
    }

    /// When it must be driven at the latest; never once it is open or closed.
    #[must_use]
    pub const fn deadline(&self) -> Mono {
        self.deadline
    }

    /// The stream, once it is open.
    pub const fn stream(&mut self) -> Option<&mut Stream> {
        match &mut self.state {
            State::Open(stream) => Some(stream),
            _ => None,
        }
    }

    /// Whether the TLS session was resumed; `None` without TLS or when it is not open.
    #[must_use]
    pub fn resumed(&self) -> Option<bool> {
        match &self.state {
            State::Open(stream) => stream.resumed(),
            _ => None,
        }
    }

    /// Whether there is neither a connection nor one being made.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Whether plaintext may flow.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// When it reached what.
    #[must_use]
    pub const fn times(&self) -> LinkTimes {
        self.times
    }

    /// The address connected to last.
    #[must_use]
    pub const fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Closes it: with one try at a polite end where it was open, for a peer that sees resets may count
    /// them.
    pub fn close(&mut self, registry: &Registry) {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Closed => {}
            State::Dialling => self.dial.cancel(registry),
            State::Handshaking(mut stream) => {
                let _ = mio::event::Source::deregister(&mut stream, registry);
            }
            State::Open(mut stream) => {
                let _ = stream.shutdown();
                let _ = mio::event::Source::deregister(&mut stream, registry);
            }
        }
        self.deadline = Mono::NEVER;
    }
}
