//! Thousands of subscribers in one thread: an epoll client for the scale test and for measuring.
//!
//! Contract: [`Crowd::connect`] adds subscribers and waits until each has its welcome; [`Crowd::listen`]
//! hands out every JSON message with the instant at which it was read. Pings are answered. What a
//! subscriber does wrong or suffers ends the call with an error that says so: a crowd is only good
//! whole. WebSocket frames are read by code of its own, sockets and TLS are the engine's. Owner: one
//! thread. Allocates as it likes.

#![allow(dead_code, unreachable_pub, reason = "each user takes a part")]

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Socket, Type};
use tocsin::net::Stream;
use tocsin::net::tls::{ClientTls, ClientTrust};
use tocsin::os::clock;
use tocsin_core::time::WallUs;

/// Handshakes of ours in progress at most: well below what a server takes at a time.
const HANDSHAKES: usize = 128;
/// One source address has ports for fewer connections than this.
const CONNECTIONS_PER_ADDRESS: usize = 20_000;
const EVENTS: usize = 1_024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// TCP and TLS.
    Connecting,
    /// The request is sent.
    Upgrading,
    /// 101 came, the welcome has not.
    Greeted,
    Open,
}

struct Member {
    stream: Stream,
    phase: Phase,
    query: String,
    /// What came of a head or frame that is not whole.
    rest: Vec<u8>,
}

/// A JSON message, as one subscriber got it.
pub struct Received<'a> {
    /// Number of the subscriber, from 0, in the order they were added.
    pub subscriber: usize,
    /// Opcode of its frame.
    pub opcode: u8,
    /// The message.
    pub json: &'a [u8],
    /// When it was read off the socket.
    pub at: WallUs,
}

/// See the module head.
pub struct Crowd {
    address: SocketAddr,
    key: String,
    tls: Option<ClientTls>,
    poll: Poll,
    events: Events,
    members: Vec<Member>,
    open: usize,
    receive_buffer: Option<usize>,
    scratch: Vec<u8>,
}

impl Crowd {
    /// Nobody yet. `tls` accepts any certificate.
    ///
    /// # Errors
    /// No epoll instance, or no TLS.
    pub fn new(address: SocketAddr, key: &str, tls: bool) -> io::Result<Crowd> {
        let trust = ClientTrust { ca_file: None, insecure: true };
        let tls = if tls { Some(ClientTls::new(&trust).map_err(io::Error::other)?) } else { None };
        Ok(Crowd {
            address,
            key: key.to_owned(),
            tls,
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS),
            members: Vec::new(),
            open: 0,
            receive_buffer: None,
            scratch: vec![0; 64 * 1_024],
        })
    }

    /// Receive buffer of those who are added from now on: a small one makes slow readers show early.
    pub fn set_receive_buffer(&mut self, bytes: usize) {
        self.receive_buffer = Some(bytes);
    }

    /// Everybody leaves at once, by a reset.
    ///
    /// # Errors
    /// A socket does not take the option that makes its close a reset.
    pub fn reset(self) -> io::Result<()> {
        for member in &self.members {
            socket2::SockRef::from(&member.stream).set_linger(Some(Duration::ZERO))?;
        }
        Ok(())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Adds `count` subscribers with `query` and waits for their welcomes.
    ///
    /// # Errors
    /// One was refused, or not all had their welcome within `patience`.
    pub fn connect(&mut self, count: usize, query: &str, patience: Duration) -> io::Result<()> {
        self.connect_hearing(count, query, patience, |_| {})
    }

    /// As [`Crowd::connect`]; what comes to those who are there already goes to `hear`.
    ///
    /// # Errors
    /// As [`Crowd::connect`].
    pub fn connect_hearing(
        &mut self,
        count: usize,
        query: &str,
        patience: Duration,
        mut hear: impl FnMut(Received<'_>),
    ) -> io::Result<()> {
        let (until, goal) = (Instant::now() + patience, self.members.len() + count);
        while self.open < goal {
            while self.members.len() < goal && self.members.len() - self.open < HANDSHAKES {
                self.start_one(query)?;
            }
            if Instant::now() > until {
                return Err(failed(format!("{} of {goal} subscribers after {patience:?}", self.open)));
            }
            self.turn(until, &mut hear)?;
        }
        Ok(())
    }

    /// Hands every JSON message to `hear` until it returns true (`Ok(true)`) or `until` has come.
    ///
    /// # Errors
    /// A subscriber was closed.
    pub fn listen(
        &mut self,
        until: Instant,
        mut hear: impl FnMut(Received<'_>),
        mut done: impl FnMut() -> bool,
    ) -> io::Result<bool> {
        loop {
            self.turn(until, &mut hear)?;
            if done() {
                return Ok(true);
            }
            if Instant::now() >= until {
                return Ok(false);
            }
        }
    }

    fn start_one(&mut self, query: &str) -> io::Result<()> {
        let number = self.members.len();
        let socket = Socket::new(Domain::for_address(self.address), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        if let IpAddr::V4(to) = self.address.ip()
            && to.is_loopback()
        {
            // Spread over loopback addresses, for their ports.
            let from = [127, 0, 1, 1 + (number / CONNECTIONS_PER_ADDRESS) as u8];
            socket.bind(&SocketAddr::from((from, 0)).into())?;
        }
        match socket.connect(&self.address.into()) {
            Err(e) if e.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
                return Err(e);
            }
            _ => {}
        }
        let tcp = mio::net::TcpStream::from_std(socket.into());
        let mut stream = match &self.tls {
            None => Stream::plain(tcp),
            Some(tls) => Stream::connect_tls(tcp, tls, "localhost")?,
        };
        self.poll.registry().register(&mut stream, Token(number), Interest::READABLE | Interest::WRITABLE)?;
        let (query, rest) = (query.to_owned(), Vec::new());
        self.members.push(Member { stream, phase: Phase::Connecting, query, rest });
        Ok(())
    }

    fn turn(&mut self, until: Instant, hear: &mut impl FnMut(Received<'_>)) -> io::Result<()> {
        let left = until.saturating_duration_since(Instant::now()).min(Duration::from_millis(50));
        match self.poll.poll(&mut self.events, Some(left)) {
            Err(e) if e.kind() == ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        for event in &self.events {
            let number = event.token().0;
            let Some(member) = self.members.get_mut(number) else { continue };
            let before = member.phase;
            member
                .drive(&self.key, number, &mut self.scratch, hear)
                .map_err(|e| failed(format!("subscriber {number}, {before:?}: {e}")))?;
            self.open += usize::from(before != Phase::Open && member.phase == Phase::Open);
        }
        Ok(())
    }
}

fn failed(what: String) -> io::Error {
    io::Error::other(what)
}

impl Member {
    fn drive(
        &mut self,
        key: &str,
        number: usize,
        scratch: &mut [u8],
        hear: &mut impl FnMut(Received<'_>),
    ) -> io::Result<()> {
        if self.phase == Phase::Connecting && !self.upgrade(key)? {
            return Ok(());
        }
        loop {
            match self.stream.read(scratch) {
                Ok(0) => return Err(failed("closed".to_owned())),
                Ok(count) => {
                    let at = clock::wall();
                    let bytes = scratch.get(..count).unwrap_or_default();
                    self.take(bytes, number, at, hear)?;
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            }
        }
    }

    /// Sends the request once TCP and TLS are there.
    fn upgrade(&mut self, key: &str) -> io::Result<bool> {
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        match self.stream.peer_addr() {
            Err(e) if e.kind() == ErrorKind::NotConnected => return Ok(false),
            other => other?,
        };
        if !self.stream.handshake()? {
            return Ok(false);
        }
        let target = if self.query.is_empty() { "/".to_owned() } else { format!("/?{}", self.query) };
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             X-API-Key: {key}\r\n\r\n"
        );
        self.phase = Phase::Upgrading;
        self.send(request.as_bytes())?;
        Ok(true)
    }

    /// What a client says is short: a socket that does not take it is broken.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let sent = self.stream.write(bytes)?;
        if sent == bytes.len() { Ok(()) } else { Err(ErrorKind::WriteZero.into()) }
    }

    fn take(
        &mut self,
        bytes: &[u8],
        number: usize,
        at: WallUs,
        hear: &mut impl FnMut(Received<'_>),
    ) -> io::Result<()> {
        let mut rest = std::mem::take(&mut self.rest);
        let joined = !rest.is_empty();
        rest.extend_from_slice(if joined { bytes } else { &[] });
        let mut left = if joined { rest.as_slice() } else { bytes };
        if self.phase == Phase::Upgrading {
            let Some(end) = left.windows(4).position(|w| w == b"\r\n\r\n") else {
                self.rest = left.to_vec();
                return Ok(());
            };
            let (head, after) = left.split_at_checked(end + 4).unwrap_or((left, &[]));
            if !head.starts_with(b"HTTP/1.1 101 ") {
                return Err(failed(String::from_utf8_lossy(left).into_owned()));
            }
            self.phase = Phase::Greeted;
            left = after;
        }
        while let Some((opcode, payload, after)) = split_frame(left) {
            left = after;
            match opcode {
                1 | 2 if self.phase == Phase::Greeted => {
                    if !payload.starts_with(b"{\"type\":\"welcome\"") {
                        return Err(failed(format!("no welcome: {}", String::from_utf8_lossy(payload))));
                    }
                    self.phase = Phase::Open;
                }
                1 | 2 => hear(Received { subscriber: number, opcode, json: payload, at }),
                9 => {
                    // A mask of zeros leaves the payload as it is.
                    let mut pong = vec![0x8a, 0x80 | payload.len() as u8, 0, 0, 0, 0];
                    pong.extend_from_slice(payload);
                    self.send(&pong)?;
                }
                8 => return Err(failed(format!("close {}", payload.escape_ascii()))),
                other => return Err(failed(format!("opcode {other}"))),
            }
        }
        if !left.is_empty() {
            self.rest = left.to_vec();
        }
        Ok(())
    }
}

/// Opcode, payload and what follows of a whole unmasked frame.
pub fn split_frame(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[first, length], rest) = bytes.split_first_chunk::<2>()?;
    let (length, rest) = match length {
        126 => rest.split_first_chunk::<2>().map(|(n, rest)| (usize::from(u16::from_be_bytes(*n)), rest))?,
        127 => return None,
        short => (usize::from(short), rest),
    };
    let (payload, rest) = rest.split_at_checked(length)?;
    Some((first & 0x0f, payload, rest))
}

/// The whole number after `"name":` in a JSON text.
pub fn number_of(json: &[u8], name: &str) -> Option<i64> {
    let label = format!("\"{name}\":");
    let at = json.windows(label.len()).position(|w| w == label.as_bytes())? + label.len();
    let digits = json.get(at..)?;
    let end = digits.iter().position(|b| !b.is_ascii_digit()).unwrap_or(digits.len());
    std::str::from_utf8(digits.get(..end)?).ok()?.parse().ok()
}

/// `VmRSS`, `VmHWM` and their like of a process, in bytes.
pub fn memory_of(pid: u32, field: &str) -> io::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':'));
    let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib * 1_024).ok_or_else(|| failed(format!("no {field} in /proc/{pid}/status")))
}
