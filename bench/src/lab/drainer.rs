//! The client ends: a process of its own that takes what subscribers are sent, as it comes.
//!
//! Contract: told on standard input, one line a request, answers on standard output, one line each:
//!
//! ```text
//! open GROUP KIND PORT COUNT   COUNT more connections of the group      opened GROUP
//! await GROUP NUMBER           says when each of them has this frame    waiting GROUP
//!                              ... at last                              got GROUP FIRST MEDIAN LAST
//! close GROUP                  ends them                                closed GROUP
//! cpu                          CPU time of this process in ns           cpu NS
//!                              anything went wrong                      failed SENTENCE
//! ```
//! KIND is `plain`, `tls` or `sealed`; times are monotonic nanoseconds, which all processes share.
//! Each connection must get the numbers 1, 2, 3 and so on, each once; pings are answered. One thread;
//! sleeps in epoll; reads each socket until it is empty. Ends with its standard input, or at the first
//! failure. Bounds: [`GROUPS`], [`CONNECTIONS`] a group, [`LINE_BYTES`], frames of a mebibyte.

use std::fmt::Display;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream as StdTcpStream};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::Duration;

use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::time::{ClockId, clock_gettime};
use tocsin::net::Stream;
use tocsin::net::tls::{ClientTls, ClientTrust};
use tocsin::os::{clock, cores, memory};
use tocsin_core::ws::frame::write_frame;
use tocsin_core::ws::session::Event;
use tocsin_core::ws::{Opcode, Role, Session, SessionLimits};

use super::frames::{RECORD_BYTES, Sealing, number_of};

/// What this program is started with to become the client ends.
pub const VERB: &str = "drain-clients";
/// Groups at most.
pub const GROUPS: usize = 8;
/// Connections of a group at most.
pub const CONNECTIONS: usize = 1 << 16;
/// Longest request.
pub const LINE_BYTES: usize = 256;

const INPUT: Token = Token(usize::MAX - 1);
const READ_BYTES: usize = 16 * 1_024;
/// How long a connection on loopback may take, and how often it is tried.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);
const CONNECT_TRIES: usize = 4;

/// How a connection carries its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As they are.
    Plain,
    /// In a TLS session.
    Tls,
    /// In records of [`Sealing`], without a handshake.
    Sealed,
}

impl Kind {
    /// As requests spell it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Plain => "plain",
            Kind::Tls => "tls",
            Kind::Sealed => "sealed",
        }
    }
}

/// Runs until standard input ends.
#[must_use]
pub fn run(core: Option<usize>) -> ExitCode {
    match Drainer::new(core).and_then(|mut drainer| drainer.serve()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = say(&format!("failed {error}"));
            ExitCode::FAILURE
        }
    }
}

enum Carrier {
    Stream(Stream),
    /// What came and is not a whole record yet, and how much of it there is.
    Sealed {
        tcp: TcpStream,
        opener: Box<Sealing>,
        bytes: Vec<u8>,
    },
}

struct Client {
    carrier: Carrier,
    session: Session,
    /// Newest number, 0 before the first.
    number: u64,
    ready: bool,
}

#[derive(Default)]
struct Group {
    clients: Vec<Client>,
    /// Connections whose handshake is not done.
    shaking: usize,
    /// Whether `opened` is owed.
    opening: bool,
    /// The number waited for, and how many do not have it.
    awaited: Option<(u64, usize)>,
    arrivals: Vec<u64>,
}

struct Drainer {
    poll: Poll,
    groups: Vec<Group>,
    tls: ClientTls,
    line: Vec<u8>,
    buffer: Box<[u8]>,
}

impl Drainer {
    fn new(core: Option<usize>) -> Result<Drainer, String> {
        if let Some(core) = core {
            cores::pin(core).map_err(text)?;
        }
        // What the limit then does not allow shows when sockets are opened.
        let _ = memory::raise_descriptor_limit();
        let poll = Poll::new().map_err(text)?;
        let input = io::stdin();
        let flags = fcntl_getfl(&input).map_err(text)?;
        fcntl_setfl(&input, flags | OFlags::NONBLOCK).map_err(text)?;
        poll.registry().register(&mut SourceFd(&0), INPUT, Interest::READABLE).map_err(text)?;
        let tls = ClientTls::new(&ClientTrust { ca_file: None, insecure: true }).map_err(text)?;
        let groups = (0..GROUPS).map(|_| Group::default()).collect();
        let buffer = vec![0; READ_BYTES].into_boxed_slice();
        Ok(Drainer { poll, groups, tls, line: Vec::new(), buffer })
    }

    fn serve(&mut self) -> Result<(), String> {
        let mut events = Events::with_capacity(1_024);
        loop {
            match self.poll.poll(&mut events, None) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                other => other.map_err(text)?,
            }
            let mut asked = false;
            for event in &events {
                match event.token() {
                    INPUT => asked = true,
                    Token(token) => self.client_event(token)?,
                }
            }
            if asked && !self.requests()? {
                return Ok(());
            }
        }
    }

    /// Reads requests until there are no more; false at their end.
    fn requests(&mut self) -> Result<bool, String> {
        loop {
            let mut bytes = [0; 512];
            match io::stdin().lock().read(&mut bytes) {
                Ok(0) => return Ok(false),
                Ok(count) => self.line.extend_from_slice(&bytes[..count]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(text(e)),
            }
            while let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.line.drain(..=end).collect();
                self.request(String::from_utf8_lossy(&line).trim())?;
            }
            if self.line.len() > LINE_BYTES {
                return Err("a request is too long".to_owned());
            }
        }
    }

    fn request(&mut self, line: &str) -> Result<(), String> {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |word: &str| word.parse::<u64>().map_err(|_| format!("{line:?}: not a number"));
        match words.as_slice() {
            ["open", group, kind, port, count] => {
                let kind = [Kind::Plain, Kind::Tls, Kind::Sealed].into_iter().find(|k| k.name() == *kind);
                let kind = kind.ok_or_else(|| format!("{line:?}: no such kind"))?;
                let port = u16::try_from(number(port)?).map_err(text)?;
                self.open(number(group)?, kind, port, number(count)?)
            }
            ["await", group, wanted] => {
                let (index, wanted) = (number(group)?, number(wanted)?);
                let group = self.group(index)?;
                let behind = group.clients.iter().filter(|client| client.number < wanted).count();
                if behind == 0 {
                    return Err(format!("{line:?}: nobody is without it"));
                }
                group.awaited = Some((wanted, behind));
                group.arrivals.clear();
                say(&format!("waiting {index}"))
            }
            ["close", group] => {
                let index = number(group)?;
                *self.group(index)? = Group::default();
                say(&format!("closed {index}"))
            }
            ["cpu"] => {
                let spent = clock_gettime(ClockId::ProcessCPUTime);
                let ns = i128::from(spent.tv_sec) * 1_000_000_000 + i128::from(spent.tv_nsec);
                say(&format!("cpu {ns}"))
            }
            _ => Err(format!("{line:?}: no such request")),
        }
    }

    fn group(&mut self, index: u64) -> Result<&mut Group, String> {
        let place = usize::try_from(index).map_err(text)?;
        self.groups.get_mut(place).ok_or_else(|| format!("no group {index}"))
    }

    fn open(&mut self, index: u64, kind: Kind, port: u16, count: u64) -> Result<(), String> {
        let mut shaking = 0;
        for _ in 0..count {
            let place = self.group(index)?.clients.len();
            if place >= CONNECTIONS {
                return Err("a group has no room".to_owned());
            }
            let connected = connect(port).map_err(text)?;
            connected.set_nodelay(true).and_then(|()| connected.set_nonblocking(true)).map_err(text)?;
            let own_port = connected.local_addr().map_err(text)?.port();
            let mut tcp = TcpStream::from_std(connected);
            let token = Token((index as usize) * CONNECTIONS + place);
            self.poll
                .registry()
                .register(&mut tcp, token, Interest::READABLE | Interest::WRITABLE)
                .map_err(text)?;
            let carrier = match kind {
                Kind::Plain => Carrier::Stream(Stream::plain(tcp)),
                Kind::Tls => Carrier::Stream(Stream::connect_tls(tcp, &self.tls, "localhost").map_err(text)?),
                Kind::Sealed => {
                    Carrier::Sealed { tcp, opener: Box::new(Sealing::new(own_port)?), bytes: Vec::new() }
                }
            };
            let ready = kind != Kind::Tls;
            shaking += usize::from(!ready);
            let session = Session::new(Role::Client, SessionLimits::same(1 << 20));
            self.group(index)?.clients.push(Client { carrier, session, number: 0, ready });
        }
        let group = self.group(index)?;
        group.shaking += shaking;
        group.opening = true;
        self.tell_opened(index)
    }

    fn tell_opened(&mut self, index: u64) -> Result<(), String> {
        let group = self.group(index)?;
        if group.opening && group.shaking == 0 {
            group.opening = false;
            say(&format!("opened {index}"))?;
        }
        Ok(())
    }

    fn client_event(&mut self, token: usize) -> Result<(), String> {
        let (index, place) = ((token / CONNECTIONS) as u64, token % CONNECTIONS);
        let mut buffer = std::mem::take(&mut self.buffer);
        let group = self.group(index)?;
        // A late event of a group that was closed.
        let Some(client) = group.clients.get_mut(place) else {
            self.buffer = buffer;
            return Ok(());
        };
        let was_ready = client.ready;
        let before = client.number;
        client.event(&mut buffer).map_err(|e| format!("group {index}, client {place}: {e}"))?;
        let (ready, after) = (client.ready, client.number);
        let mut complete = None;
        if let Some((wanted, behind)) = group.awaited.as_mut()
            && before < *wanted
            && after >= *wanted
        {
            group.arrivals.push(clock::mono().0);
            *behind = behind.saturating_sub(1);
            if *behind == 0 {
                group.awaited = None;
                complete = Some(spread(&mut group.arrivals));
            }
        }
        group.shaking -= usize::from(ready && !was_ready);
        self.buffer = buffer;
        if ready && !was_ready {
            self.tell_opened(index)?;
        }
        match complete {
            Some((first, median, last)) => say(&format!("got {index} {first} {median} {last}")),
            None => Ok(()),
        }
    }
}

impl Client {
    /// Handshakes, then reads until the socket is empty.
    fn event(&mut self, buffer: &mut [u8]) -> Result<(), String> {
        let Client { carrier, session, number, ready } = self;
        let mut answers = Vec::new();
        match carrier {
            Carrier::Stream(stream) => {
                if !*ready && !stream.handshake().map_err(text)? {
                    return Ok(());
                }
                *ready = true;
                while let Some(count) = read(|| stream.read(buffer))? {
                    let bytes = buffer.get_mut(..count).unwrap_or_default();
                    take(session, bytes, number, &mut answers)?;
                }
                if !answers.is_empty() {
                    // Less than a hundred bytes into an empty socket.
                    let written = stream.write(&answers).map_err(text)?;
                    if written != answers.len() {
                        return Err("no room for an answer".to_owned());
                    }
                }
                stream.flush().map_err(text)?;
            }
            Carrier::Sealed { tcp, opener, bytes } => {
                while let Some(count) = read(|| tcp.read(buffer))? {
                    bytes.extend_from_slice(buffer.get(..count).unwrap_or_default());
                    let mut used = 0;
                    while let Some((plaintext, length)) =
                        opener.open(bytes.get_mut(used..).unwrap_or_default())?
                    {
                        take(session, plaintext, number, &mut answers)?;
                        used += length;
                    }
                    bytes.drain(..used);
                    if bytes.len() > RECORD_BYTES {
                        return Err("an endless record".to_owned());
                    }
                }
            }
        }
        Ok(())
    }
}

/// A connection to a listener on this machine. A first packet that meets what is left of an older
/// connection between the same two ports may stay unanswered: then another port is tried.
fn connect(port: u16) -> io::Result<StdTcpStream> {
    let address = (Ipv4Addr::LOCALHOST, port).into();
    let mut tries = 1;
    loop {
        match StdTcpStream::connect_timeout(&address, CONNECT_PATIENCE) {
            Err(e) if e.kind() == io::ErrorKind::TimedOut && tries < CONNECT_TRIES => tries += 1,
            other => return other,
        }
    }
}

/// One read; `None` when there is nothing more.
fn read(mut once: impl FnMut() -> io::Result<usize>) -> Result<Option<usize>, String> {
    loop {
        match once() {
            Ok(0) => return Err("the server ended the connection".to_owned()),
            Ok(count) => return Ok(Some(count)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(text(e)),
        }
    }
}

/// Takes bytes of a session: counts announcements, answers pings.
fn take(
    session: &mut Session,
    bytes: &mut [u8],
    number: &mut u64,
    answers: &mut Vec<u8>,
) -> Result<(), String> {
    let flow = session.receive(bytes, &mut |event| {
        match event {
            Event::Binary(payload) => match number_of(payload) {
                Some(found) if found == *number + 1 => *number = found,
                Some(found) => return ControlFlow::Break(format!("frame {found} after {number}")),
                None => {}
            },
            Event::Ping(payload) => write_frame(answers, Opcode::Pong, payload, Some([1, 2, 3, 4])),
            Event::Close { code, reason } => return ControlFlow::Break(format!("closed: {code:?} {reason}")),
            Event::Text(_) | Event::Pong(_) => {}
        }
        ControlFlow::Continue(())
    });
    match flow {
        Ok(ControlFlow::Continue(())) => Ok(()),
        Ok(ControlFlow::Break(why)) => Err(why),
        Err(violation) => Err(format!("not a frame: {violation:?}")),
    }
}

/// First, median and last of some instants; zeros of none.
fn spread(instants: &mut [u64]) -> (u64, u64, u64) {
    instants.sort_unstable();
    let at = |index: usize| instants.get(index).copied().unwrap_or(0);
    (at(0), at(instants.len() / 2), at(instants.len().saturating_sub(1)))
}

fn say(line: &str) -> Result<(), String> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(text)
}

fn text(error: impl Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use tocsin_core::time::WallUs;

    use super::super::frames::frame;
    use super::*;

    fn taken(frames: &[u64]) -> Result<u64, String> {
        let mut bytes: Vec<u8> = Vec::new();
        for number in frames {
            bytes.extend(frame(*number, WallUs::from_secs(1_760_000_000)).unwrap());
        }
        let mut session = Session::new(Role::Client, SessionLimits::same(1 << 20));
        let (mut number, mut answers) = (0, Vec::new());
        // In pieces, as sockets give them.
        for piece in bytes.chunks_mut(100) {
            take(&mut session, piece, &mut number, &mut answers)?;
        }
        Ok(number)
    }

    #[test]
    fn every_frame_once_and_in_order() {
        assert_eq!(taken(&[1, 2, 3]), Ok(3));
        assert_eq!(taken(&[1, 1]), Err("frame 1 after 1".to_owned()));
        assert_eq!(taken(&[1, 3]), Err("frame 3 after 1".to_owned()));
        assert_eq!(taken(&[2]), Err("frame 2 after 0".to_owned()));
    }

    #[test]
    fn spread_of_instants() {
        assert_eq!(spread(&mut [3, 1, 2, 9]), (1, 3, 9));
        assert_eq!(spread(&mut []), (0, 0, 0));
    }
}
