//! A WebSocket echo server on the feed's own session code, for conformance suites and benchmarks.
//!
//! Contract: [`EchoServer::run`] answers every message with the same message and every ping with a
//! pong, on any path, until told to stop. Owner: the thread that calls `run`; it blocks there in
//! `poll`. Allocates per connection and message; a connection's output holds at most one message and
//! one read ([`READ_BYTES`]) because nothing is read while anything waits to be written. Failure of one
//! connection ends that connection; `run` fails only when `poll` or the listener does.

use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use tocsin_core::http1::request::{HeadReader, RequestHead};
use tocsin_core::limits;
use tocsin_core::time::Mono;
use tocsin_core::ws::frame::{write_close, write_frame};
use tocsin_core::ws::handshake::{check_upgrade, write_switching_protocols};
use tocsin_core::ws::{Event, Opcode, Role, Session, SessionLimits};

use super::Stream;
use crate::os::clock;

/// Most bytes taken off a connection in one read.
pub const READ_BYTES: usize = 64 * 1_024;
/// Connections at once; beyond it new ones are closed unanswered.
const CONNECTIONS: usize = 16_384;
/// Reads of one connection in one turn; the others come first then.
const READS_PER_TURN: usize = 16;
/// How often deadlines are looked at.
const SWEEP_PERIOD: Duration = Duration::from_millis(200);
/// An output buffer larger than this is given back once sent.
const OUTPUT_KEPT_BYTES: usize = 256 * 1_024;

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

/// The server, listening.
pub struct EchoServer {
    poll: Poll,
    listener: TcpListener,
    stop: EchoStop,
    limits: SessionLimits,
    connections: Vec<Option<Connection>>,
    vacant: Vec<usize>,
    /// Connections that used up their turn and may have more to read.
    unfinished: Vec<usize>,
    scratch: Vec<u8>,
}

/// Ends [`EchoServer::run`] from another thread.
#[derive(Clone, Debug)]
pub struct EchoStop {
    asked: Arc<AtomicBool>,
    waker: Arc<Waker>,
}

impl EchoStop {
    /// `run` returns soon; open connections are dropped.
    ///
    /// # Errors
    /// The thread could not be woken.
    pub fn stop(&self) -> io::Result<()> {
        self.asked.store(true, Ordering::Release);
        self.waker.wake()
    }
}

impl EchoServer {
    /// Listens on `address`.
    ///
    /// # Errors
    /// The address cannot be bound, or no epoll instance is to be had.
    pub fn bind(address: SocketAddr, limits: SessionLimits) -> io::Result<EchoServer> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind(address)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        Ok(EchoServer {
            poll,
            listener,
            stop: EchoStop { asked: Arc::new(AtomicBool::new(false)), waker },
            limits,
            connections: Vec::new(),
            vacant: Vec::new(),
            unfinished: Vec::new(),
            scratch: vec![0; READ_BYTES],
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The socket is gone.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// A handle that ends `run`.
    #[must_use]
    pub fn stopper(&self) -> EchoStop {
        self.stop.clone()
    }

    /// Serves until stopped.
    ///
    /// # Errors
    /// `poll` failed, or the listener did for another reason than a lack of descriptors.
    pub fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1_024);
        let mut last_sweep = clock::mono();
        while !self.stop.asked.load(Ordering::Acquire) {
            let wait = if self.unfinished.is_empty() { SWEEP_PERIOD } else { Duration::ZERO };
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            for index in std::mem::take(&mut self.unfinished) {
                self.turn(index);
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    WAKER => {}
                    Token(index) => self.turn(index),
                }
            }
            let now = clock::mono();
            if now.since(last_sweep) >= SWEEP_PERIOD {
                last_sweep = now;
                self.sweep(now);
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((tcp, _)) => self.admit(tcp),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // The peer left before it was accepted; descriptors may be free again at the next event.
                Err(error) if is_passing(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn admit(&mut self, tcp: TcpStream) {
        let _ = tcp.set_nodelay(true);
        let index = match self.vacant.pop() {
            Some(index) => index,
            None if self.connections.len() < CONNECTIONS => {
                self.connections.push(None);
                self.connections.len() - 1
            }
            None => return,
        };
        let mut connection = Connection::new(Stream::plain(tcp));
        let both = Interest::READABLE | Interest::WRITABLE;
        if self.poll.registry().register(&mut connection.stream, Token(index), both).is_err() {
            self.vacant.push(index);
            return;
        }
        if let Some(place) = self.connections.get_mut(index) {
            *place = Some(connection);
        }
    }

    /// Lets one connection do what it can. An event may be of a connection that is gone already.
    fn turn(&mut self, index: usize) {
        let Some(place) = self.connections.get_mut(index) else { return };
        let Some(connection) = place else { return };
        match connection.work(&mut self.scratch, self.limits) {
            Ok(Progress::Waits) => {}
            Ok(Progress::HasMore) => self.unfinished.push(index),
            Ok(Progress::Finished) | Err(_) => self.remove(index),
        }
    }

    fn remove(&mut self, index: usize) {
        if let Some(mut gone) = self.connections.get_mut(index).and_then(Option::take) {
            let _ = self.poll.registry().deregister(&mut gone.stream);
            self.vacant.push(index);
        }
    }

    fn sweep(&mut self, now: Mono) {
        for index in 0..self.connections.len() {
            let late = |c: &Connection| c.deadline.is_some_and(|deadline| now >= deadline);
            if self.connections.get(index).and_then(Option::as_ref).is_some_and(late) {
                self.remove(index);
            }
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
        || matches!(error.raw_os_error(), Some(23 | 24)) // ENFILE, EMFILE
}

enum Progress {
    /// Until the next event.
    Waits,
    /// Its turn is over, not its input.
    HasMore,
    /// Drop it.
    Finished,
}

enum Phase {
    /// Reading the request head.
    Handshake { head: Vec<u8>, reader: HeadReader },
    /// Frames.
    Open(Session),
    /// Our last bytes are in the output; what the peer still sends is thrown away until it closes,
    /// because closing over unread bytes would reset the connection and lose them.
    Ending,
}

struct Connection {
    stream: Stream,
    phase: Phase,
    output: Vec<u8>,
    sent: usize,
    deadline: Option<Mono>,
}

impl Connection {
    fn new(stream: Stream) -> Connection {
        Connection {
            stream,
            phase: Phase::Handshake { head: Vec::new(), reader: HeadReader::new() },
            output: Vec::new(),
            sent: 0,
            deadline: Some(clock::mono() + limits::HANDSHAKE_TIMEOUT),
        }
    }

    fn work(&mut self, scratch: &mut [u8], limits: SessionLimits) -> io::Result<Progress> {
        for _ in 0..READS_PER_TURN {
            if !self.flush()? {
                return Ok(Progress::Waits);
            }
            let count = match self.stream.read(scratch) {
                Ok(0) => return Ok(Progress::Finished),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Progress::Waits),
                Err(error) => return Err(error),
            };
            let Some(received) = scratch.get_mut(..count) else { return Ok(Progress::Finished) };
            match &mut self.phase {
                Phase::Handshake { .. } => self.handshake(received, limits),
                Phase::Open(_) => self.frames(received),
                Phase::Ending => {}
            }
        }
        Ok(Progress::HasMore)
    }

    /// Whether all output is with the socket.
    fn flush(&mut self) -> io::Result<bool> {
        while let Some(rest) = self.output.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.sent = 0;
        self.output.clear();
        if self.output.capacity() > OUTPUT_KEPT_BYTES {
            self.output = Vec::new();
        }
        if !self.stream.flush()? {
            return Ok(false);
        }
        if matches!(self.phase, Phase::Ending) { self.stream.shutdown() } else { Ok(true) }
    }

    fn handshake(&mut self, received: &[u8], limits: SessionLimits) {
        let Phase::Handshake { head, reader } = &mut self.phase else { return };
        head.extend_from_slice(received);
        let judged = match reader.poll(head) {
            Ok(None) => return,
            Ok(Some(length)) => {
                let (head, early) = head.split_at(length.min(head.len()));
                RequestHead::parse(head)
                    .map_err(|error| (error.status(), error.detail(), None))
                    .and_then(|head| {
                        check_upgrade(&head).map_err(|no| (no.status(), no.detail(), no.header()))
                    })
                    .map(|accept| (accept, early.to_vec()))
            }
            Err(error) => Err((error.status(), error.detail(), None)),
        };
        match judged {
            Ok((accept, mut early)) => {
                write_switching_protocols(&mut self.output, &accept);
                self.phase = Phase::Open(Session::new(Role::Server, limits));
                self.deadline = None;
                self.frames(&mut early);
            }
            Err((status, detail, header)) => {
                let header = header.map(|(name, value)| format!("{name}: {value}\r\n")).unwrap_or_default();
                let answer = format!(
                    "HTTP/1.1 {status} Refused\r\n{header}Content-Type: text/plain\r\nContent-Length: {}\r\n\
                     Connection: close\r\n\r\n{detail}\n",
                    detail.len() + 1
                );
                self.output.extend_from_slice(answer.as_bytes());
                self.end();
            }
        }
    }

    fn frames(&mut self, received: &mut [u8]) {
        let Phase::Open(session) = &mut self.phase else { return };
        if answer(session, received, &mut self.output) {
            self.end();
        }
    }

    fn end(&mut self) {
        self.phase = Phase::Ending;
        self.deadline = Some(clock::mono() + limits::CLOSE_TIMEOUT);
    }
}

/// Appends to `output` what an echo server answers to `received`. `true` when a close frame was the
/// last of it: the connection ends once that has been sent.
pub fn answer(session: &mut Session, received: &mut [u8], output: &mut Vec<u8>) -> bool {
    let flow = session.receive::<()>(received, &mut |event| {
        match event {
            Event::Text(text) => write_frame(output, Opcode::Text, text.as_bytes(), None),
            Event::Binary(bytes) => write_frame(output, Opcode::Binary, bytes, None),
            Event::Ping(payload) => write_frame(output, Opcode::Pong, payload, None),
            Event::Pong(_) => {}
            Event::Close { code, .. } => write_close(output, code, "", None),
        }
        ControlFlow::Continue(())
    });
    if let Err(violation) = flow {
        write_close(output, Some(violation.code), violation.reason, None);
    }
    session.has_ended()
}
