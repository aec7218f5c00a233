//! The far side of the storm: thousands of TLS clients in a process of their own.
//!
//! Contract: reads commands from standard input, answers each with one line of JSON on standard output,
//! ends with its input. `come full|resumed`: drops whom it holds, connects all anew in one burst, upgrades
//! to WebSocket and holds them, answering pings in between. `churn full|resumed MS`: TLS handshakes one
//! after the other on each of [`AT_ONCE_CHURN`] places, each ended once the server's ticket has come. Only
//! TLS 1.3, AES-128-GCM and X25519 are offered, so that every server does the same work; certificates are
//! not checked, so that the client does less than the server. Connections end with a reset: no port waits.
//! Owner: the main thread of a process of its own; another reads the input.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustix::time::{ClockId, clock_gettime};
use rustls::ClientConnection;
use serde_json::{Value, json};

use super::tls::{Tickets, Trust};
use crate::engine::Outcome;

/// Handshakes in progress in a burst: as many as the engine takes.
const AT_ONCE_BURST: usize = tocsin_core::limits::HANDSHAKES_IN_PROGRESS;
/// Handshakes in progress while they are counted.
const AT_ONCE_CHURN: usize = 64;
/// Readers of announcements may share the clients' core: they go first.
const NICE: i32 = 10;
/// A burst that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often commands are looked for.
const GLANCE: Duration = Duration::from_millis(50);
/// The first failures are told, the others counted.
const TOLD: usize = 3;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Shaking,
    /// The handshake is done; the server's ticket is not there.
    Ticket,
    /// The request is sent, the welcome is not there.
    Upgrading,
    Open,
    Done,
}

struct Client {
    tcp: TcpStream,
    tls: ClientConnection,
    phase: Phase,
    /// Bytes of a head or frame that is not whole.
    rest: Vec<u8>,
}

/// What the clients share.
struct World {
    address: SocketAddr,
    request: Option<String>,
    count: usize,
    tickets: Arc<Tickets>,
    full: Trust,
    resumed: Trust,
    poll: Poll,
    clients: Vec<Option<Client>>,
    failures: Vec<String>,
    failed: usize,
    resumptions: usize,
    buffer: Vec<u8>,
}

/// See the module head: `storm-clients ADDRESS COUNT`; the first line of the input is the key.
pub(super) fn play() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("storm clients: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<()> {
    tocsin::os::memory::raise_descriptor_limit()?;
    rustix::process::nice(NICE)?;
    let mut args = std::env::args().skip(2);
    let mut next = || args.next().ok_or("too few arguments");
    let (address, count): (SocketAddr, usize) = (next()?.parse()?, next()?.parse()?);
    // The key comes first, never as an argument; an empty line where none is needed.
    let mut key = String::new();
    io::stdin().read_line(&mut key)?;
    let (told, commands) = channel();
    std::thread::Builder::new().name("commands".to_owned()).spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            if told.send(line).is_err() {
                return;
            }
        }
    })?;
    World::new(address, count, key.trim())?.serve(&commands)
}

impl World {
    fn new(address: SocketAddr, count: usize, key: &str) -> Outcome<World> {
        // Subscribers who want nothing of what is announced: the storm is of handshakes, not of fan-out.
        let request = format!(
            "GET /?cex=upbit HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             X-API-Key: {key}\r\n\r\n"
        );
        let tickets = Arc::new(Tickets::new(count + AT_ONCE_CHURN));
        let (full, resumed) = Trust::pair(&tickets)?;
        Ok(World {
            address,
            request: (!key.is_empty()).then_some(request),
            count,
            full,
            resumed,
            tickets,
            poll: Poll::new()?,
            clients: Vec::new(),
            failures: Vec::new(),
            failed: 0,
            resumptions: 0,
            buffer: vec![0; 32 * 1_024],
        })
    }

    fn serve(&mut self, commands: &Receiver<String>) -> Outcome<()> {
        let mut events = Events::with_capacity(1_024);
        loop {
            match commands.try_recv() {
                Ok(line) => {
                    let answer = self.command(&line, &mut events)?;
                    let mut out = io::stdout().lock();
                    writeln!(out, "{answer}")?;
                    out.flush()?;
                }
                Err(TryRecvError::Disconnected) => return Ok(()),
                Err(TryRecvError::Empty) => {
                    self.turn(&mut events, GLANCE)?;
                }
            }
        }
    }

    fn command(&mut self, line: &str, events: &mut Events) -> Outcome<Value> {
        let words: Vec<&str> = line.split(' ').collect();
        (self.failed, self.resumptions) = (0, 0);
        self.failures.clear();
        let (cpu, from) = (cpu(), Instant::now());
        let done = match words[..] {
            ["come", how] => self.come(how == "resumed", events)?,
            ["churn", how, ms] => self.churn(how == "resumed", Duration::from_millis(ms.parse()?), events)?,
            _ => return Err(format!("no such command: {line}").into()),
        };
        let cpu_ns = self::cpu().saturating_sub(cpu).as_nanos() as u64;
        Ok(json!({
            "done": done, "failed": self.failed, "failures": self.failures, "resumed": self.resumptions,
            "took_ns": from.elapsed().as_nanos() as u64, "cpu_ns": cpu_ns,
        }))
    }

    /// Everybody goes and comes back; how many are there.
    fn come(&mut self, resumed: bool, events: &mut Events) -> Outcome<usize> {
        self.clients.iter_mut().for_each(|client| drop(client.take()));
        self.clients.clear();
        let end = Instant::now() + PATIENCE;
        let (mut started, mut open) = (0, 0);
        while open + self.failed < self.count {
            while started < self.count && started - open - self.failed < AT_ONCE_BURST {
                self.clients.push(None);
                self.start(started, resumed)?;
                started += 1;
            }
            if Instant::now() > end {
                return Err(format!("{open} of {} came back", self.count).into());
            }
            open += self.turn(events, GLANCE)?;
        }
        Ok(open)
    }

    /// Handshakes until the time is over; how many.
    fn churn(&mut self, resumed: bool, lasts: Duration, events: &mut Events) -> Outcome<usize> {
        self.clients.iter_mut().for_each(|client| drop(client.take()));
        self.clients.clear();
        self.clients.resize_with(AT_ONCE_CHURN, || None);
        let end = Instant::now() + lasts;
        let mut done = 0;
        while Instant::now() < end {
            for place in 0..AT_ONCE_CHURN {
                if self.clients.get(place).is_some_and(Option::is_none) {
                    self.start(place, resumed)?;
                }
            }
            done += self.turn(events, GLANCE)?;
            // With a server that refuses everybody there is nothing to count.
            if self.failed > 10_000 {
                return Err(format!("refused: {:?}", self.failures).into());
            }
        }
        Ok(done)
    }

    fn start(&mut self, place: usize, resumed: bool) -> Outcome<()> {
        let trust = if resumed { &self.resumed } else { &self.full };
        let mut tcp = TcpStream::connect(self.address)?;
        tcp.set_nodelay(true)?;
        socket2::SockRef::from(&tcp).set_linger(Some(Duration::ZERO))?;
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut tcp, Token(place), both)?;
        let client = Client { tcp, tls: trust.connect()?, phase: Phase::Shaking, rest: Vec::new() };
        if let Some(free) = self.clients.get_mut(place) {
            *free = Some(client);
        }
        Ok(())
    }

    /// Handles one batch of events; how many clients got to where they were going.
    fn turn(&mut self, events: &mut Events, patience: Duration) -> Outcome<usize> {
        match self.poll.poll(events, Some(patience)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(0),
            other => other?,
        }
        let mut arrived = 0;
        for event in &*events {
            let Some(place) = self.clients.get_mut(event.token().0) else { continue };
            let Some(client) = place else { continue };
            let before = client.phase;
            match client.drive(self.request.as_deref(), &self.tickets, &mut self.buffer) {
                Err(error) => {
                    *place = None;
                    self.failed += 1;
                    if self.failures.len() < TOLD {
                        self.failures.push(error.to_string());
                    }
                }
                Ok(()) if client.phase == before => {}
                Ok(()) if matches!(client.phase, Phase::Open | Phase::Done) => {
                    arrived += 1;
                    let kind = client.tls.handshake_kind();
                    self.resumptions += usize::from(kind == Some(rustls::HandshakeKind::Resumed));
                    if client.phase == Phase::Done {
                        *place = None;
                    }
                }
                Ok(()) => {}
            }
        }
        Ok(arrived)
    }
}

impl Client {
    /// Moves as far as the socket allows.
    fn drive(&mut self, request: Option<&str>, tickets: &Tickets, buffer: &mut [u8]) -> io::Result<()> {
        loop {
            self.flush()?;
            let known = tickets.received();
            match self.tls.read_tls(&mut self.tcp) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => _ = self.tls.process_new_packets().map_err(io::Error::other)?,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
            if self.phase == Phase::Shaking && !self.tls.is_handshaking() {
                self.phase = Phase::Ticket;
                if let Some(request) = request {
                    self.tls.writer().write_all(request.as_bytes())?;
                    self.phase = Phase::Upgrading;
                }
            }
            if self.phase == Phase::Ticket && tickets.received() > known {
                self.phase = Phase::Done;
                return Ok(());
            }
            self.plaintext(buffer)?;
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.tcp) {
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn plaintext(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        loop {
            match self.tls.reader().read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.rest.extend_from_slice(buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return self.messages(),
                Err(error) => return Err(error),
            }
        }
    }

    fn messages(&mut self) -> io::Result<()> {
        let mut rest = std::mem::take(&mut self.rest);
        let mut left = rest.as_slice();
        if self.phase == Phase::Upgrading {
            let Some(end) = left.windows(4).position(|w| w == b"\r\n\r\n") else {
                self.rest = rest;
                return Ok(());
            };
            if !left.starts_with(b"HTTP/1.1 101 ") {
                return Err(io::Error::other(String::from_utf8_lossy(left).into_owned()));
            }
            // The welcome follows in the same write.
            self.phase = Phase::Open;
            left = left.get(end + 4..).unwrap_or_default();
        }
        while let Some((opcode, payload, after)) = crate::crowd::split_frame(left) {
            match opcode {
                9 => {
                    // A mask of zeros leaves the payload as it is.
                    let mut pong = vec![0x8a, 0x80 | payload.len() as u8, 0, 0, 0, 0];
                    pong.extend_from_slice(payload);
                    self.tls.writer().write_all(&pong)?;
                }
                8 => return Err(io::Error::other(format!("close {}", payload.escape_ascii()))),
                _ => {}
            }
            left = after;
        }
        let used = rest.len() - left.len();
        rest.drain(..used);
        self.rest = rest;
        self.flush()
    }
}

/// Processor time of this process.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
