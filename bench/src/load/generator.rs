//! The load generator's process: one thread, one epoll instance, every subscriber of every contender.
//!
//! Contract: see the module above for commands and replies. During a round it polls without sleeping
//! (where told so) and does for each message: one read, one look at the clock, two searches. Sockets are
//! edge-triggered; a plain one is read once an event unless the buffer was filled or the peer closed, a
//! TLS one until it would block. Between rounds it sleeps in epoll and answers pings. Allocates while
//! connecting; in rounds only for frames that come in parts. A contender that breaks is reported with
//! the command under way, or with the next one that names it.

use std::io::{self, BufRead, ErrorKind, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};
use rustix::time::{ClockId, clock_gettime};
use tocsin::net::Stream;
use tocsin::net::tls::{ClientTls, ClientTrust};

use super::member::{Member, Phase, failed};
use super::trigger::Asker;
use super::{Command, Reply, Round, SUBSCRIBERS, Target};
use crate::engine::ReadsFirst;
use crate::peers::message;

/// Handshakes in progress at most: below what any contender takes at a time.
const HANDSHAKES: usize = 64;
const EVENTS: usize = 1_024;
/// Contenders one process serves at most, those that are gone included.
const CONTENDERS: usize = 64;
/// A contender that has not taken all its subscribers by then is broken.
const CONNECT_PATIENCE: Duration = Duration::from_secs(120);
/// The same for a broadcast.
const ROUND_PATIENCE: Duration = Duration::from_secs(15);
/// Read buffer: many messages.
const SCRATCH: usize = 64 * 1_024;
const WAKER: Token = Token(usize::MAX - 1);

/// Nanoseconds since the UNIX epoch.
pub(super) fn wall_ns() -> u64 {
    let t = clock_gettime(ClockId::Realtime);
    let secs = u64::try_from(t.tv_sec).unwrap_or(0);
    secs.saturating_mul(1_000_000_000).saturating_add(u64::try_from(t.tv_nsec).unwrap_or(0))
}

/// Runs until standard input ends. `reads_first`: before all others on its cores, where it may; else as they.
pub fn run(reads_first: bool) -> ExitCode {
    let _first = reads_first.then(ReadsFirst::begin);
    match Generator::new().and_then(|mut generator| generator.serve()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load generator: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What the round under way has so far.
#[derive(Default)]
struct Tally {
    number: u32,
    /// Earliest stamp, in microseconds.
    stamp_us: u64,
    message_bytes: usize,
    arrivals_ns: Vec<u64>,
}

/// A contender's subscribers and the way to ask it for a broadcast.
struct Group {
    target: Target,
    tls: Option<ClientTls>,
    members: Vec<Member>,
    open: usize,
    asker: Asker,
    tally: Tally,
    broken: Option<String>,
}

struct Generator {
    poll: Poll,
    events: Events,
    groups: Vec<Option<Group>>,
    commands: Receiver<String>,
    scratch: Vec<u8>,
    /// Nanoseconds spent on events since the round began.
    handling_ns: u64,
}

impl Generator {
    fn new() -> io::Result<Generator> {
        tocsin::os::memory::raise_descriptor_limit()?;
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        // One command is under way at a time; a second would only wait.
        let (sender, commands) = sync_channel(1);
        std::thread::spawn(move || {
            for line in io::stdin().lock().lines().map_while(Result::ok) {
                if sender.send(line).is_err() || waker.wake().is_err() {
                    return;
                }
            }
            drop(sender);
            // The receiver sees the end when it wakes; if it cannot be woken it wakes by itself.
            let _ = waker.wake();
        });
        Ok(Generator {
            poll,
            events: Events::with_capacity(EVENTS),
            groups: Vec::new(),
            commands,
            scratch: vec![0; SCRATCH],
            handling_ns: 0,
        })
    }

    fn serve(&mut self) -> io::Result<()> {
        loop {
            let line = match self.commands.try_recv() {
                Ok(line) => line,
                Err(TryRecvError::Disconnected) => return Ok(()),
                Err(TryRecvError::Empty) => {
                    self.turn(Duration::from_millis(500))?;
                    continue;
                }
            };
            let reply = match serde_json::from_str(&line) {
                Ok(command) => self.obey(command).unwrap_or_else(|e| Reply::Failed(e.to_string())),
                Err(e) => Reply::Failed(format!("no command: {e}")),
            };
            let mut out = io::stdout().lock();
            writeln!(out, "{}", serde_json::to_string(&reply)?)?;
            out.flush()?;
        }
    }

    fn obey(&mut self, command: Command) -> io::Result<Reply> {
        match command {
            Command::Connect { id, target, count } => {
                self.connect(id, target, count).map(|()| Reply::Connected)
            }
            Command::Round { id, number, spin } => self.round(id, number, spin).map(Reply::Round),
            Command::Drop { id } => {
                if let Some(slot) = self.groups.get_mut(id) {
                    *slot = None;
                }
                Ok(Reply::Dropped)
            }
        }
    }

    /// Adds a contender, or more subscribers to one that is there, up to `count`.
    fn connect(&mut self, id: usize, target: Target, count: usize) -> io::Result<()> {
        if count >= SUBSCRIBERS || id >= CONTENDERS {
            return Err(failed("too many subscribers or contenders"));
        }
        if self.groups.len() <= id {
            self.groups.resize_with(id + 1, || None);
        }
        if let Some(slot @ None) = self.groups.get_mut(id) {
            *slot = Some(Group::new(target, token(id, SUBSCRIBERS), self.poll.registry())?);
        }
        let until = Instant::now() + CONNECT_PATIENCE;
        loop {
            let group = group_of(&mut self.groups, id)?;
            if group.open >= count {
                return Ok(());
            }
            while group.members.len() < count && group.members.len() - group.open < HANDSHAKES {
                group.start_one(token(id, group.members.len()), self.poll.registry())?;
            }
            if Instant::now() > until {
                return Err(failed(&format!(
                    "{} of {count} subscribers after {CONNECT_PATIENCE:?}",
                    group.open
                )));
            }
            self.turn(Duration::from_millis(50))?;
        }
    }

    fn round(&mut self, id: usize, number: u32, spin: bool) -> io::Result<Round> {
        let group = group_of(&mut self.groups, id)?;
        let goal = group.open;
        group.tally.arrivals_ns.clear();
        group.tally.arrivals_ns.reserve(goal);
        group.tally.number = number;
        group.tally.stamp_us = u64::MAX;
        self.handling_ns = 0;
        let until = Instant::now() + ROUND_PATIENCE;
        let asked_ns = group.asker.ask(number, self.poll.registry())?;
        loop {
            let group = group_of(&mut self.groups, id)?;
            let (had, answered) = (group.tally.arrivals_ns.len(), group.asker.answered()?);
            if had >= goal && answered {
                return Ok(group.tally.round(asked_ns, self.handling_ns));
            }
            if Instant::now() > until {
                let answer = if answered { "" } else { "; the request was not answered" };
                return Err(failed(&format!("broadcast {number} reached {had} of {goal}{answer}")));
            }
            let wait = if spin && had < goal { Duration::ZERO } else { Duration::from_millis(50) };
            self.turn(wait)?;
        }
    }

    /// Waits for events, at most so long, and handles them.
    fn turn(&mut self, wait: Duration) -> io::Result<()> {
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(e) if e.kind() == ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        if self.events.is_empty() {
            return Ok(());
        }
        let from = wall_ns();
        for event in &self.events {
            let (id, member) = (event.token().0 / (2 * SUBSCRIBERS), event.token().0 % (2 * SUBSCRIBERS));
            // The waker's and those of groups dropped since.
            let Some(group) = self.groups.get_mut(id).and_then(Option::as_mut) else { continue };
            if group.broken.is_none()
                && let Err(error) = group.handle(member, event, &mut self.scratch)
            {
                group.broken = Some(error.to_string());
            }
        }
        self.handling_ns += wall_ns().saturating_sub(from);
        Ok(())
    }
}

const fn token(id: usize, member: usize) -> Token {
    Token(id * 2 * SUBSCRIBERS + member)
}

fn group_of(groups: &mut [Option<Group>], id: usize) -> io::Result<&mut Group> {
    let group = groups.get_mut(id).and_then(Option::as_mut).ok_or_else(|| failed("no such contender"))?;
    match &group.broken {
        Some(why) => Err(failed(why)),
        None => Ok(group),
    }
}

impl Group {
    fn new(target: Target, asker: Token, registry: &mio::Registry) -> io::Result<Group> {
        let trust = ClientTrust { ca_file: None, insecure: true };
        let tls = if target.tls { Some(ClientTls::new(&trust).map_err(io::Error::other)?) } else { None };
        let asker = Asker::new(&target.trigger, asker, registry)?;
        let (members, tally) = (Vec::new(), Tally::default());
        Ok(Group { target, tls, members, open: 0, asker, tally, broken: None })
    }

    fn start_one(&mut self, token: Token, registry: &mio::Registry) -> io::Result<()> {
        let tcp = TcpStream::connect(self.target.feed)?;
        tcp.set_nodelay(true)?;
        let mut stream = match &self.tls {
            None => Stream::plain(tcp),
            Some(tls) => Stream::connect_tls(tcp, tls, "localhost")?,
        };
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        self.members.push(Member::new(stream));
        Ok(())
    }

    fn handle(&mut self, number: usize, event: &Event, scratch: &mut [u8]) -> io::Result<()> {
        if number == SUBSCRIBERS {
            return self.asker.drain(scratch);
        }
        let Some(member) = self.members.get_mut(number) else { return Ok(()) };
        let before = member.phase;
        let drained = drain(member, &self.target, &mut self.tally, event.is_read_closed(), scratch);
        drained.map_err(|e| failed(&format!("subscriber {number}, {before:?}: {e}")))?;
        self.open += usize::from(before != Phase::Open && member.phase == Phase::Open);
        Ok(())
    }
}

/// Reads what the event announced.
fn drain(
    member: &mut Member,
    target: &Target,
    tally: &mut Tally,
    closed: bool,
    scratch: &mut [u8],
) -> io::Result<()> {
    if !member.advance(target)? {
        return Ok(());
    }
    while let Some(count) = member.read(scratch)? {
        let at = wall_ns();
        let bytes = scratch.get(..count).unwrap_or_default();
        member.frames(bytes, target.greeting, &mut |seen, message| {
            tally.hear(seen, message.0, at);
            Ok(())
        })?;
        if !target.tls && !closed && count < scratch.len() {
            break;
        }
    }
    Ok(())
}

impl Tally {
    /// Heartbeats and late messages of earlier rounds count for nothing.
    fn hear(&mut self, seen: &mut u32, message: &[u8], at_ns: u64) {
        let Some((number, stamp_us)) = message::read(message) else { return };
        if number == self.number && *seen != number {
            *seen = number;
            self.stamp_us = self.stamp_us.min(stamp_us);
            self.message_bytes = message.len();
            self.arrivals_ns.push(at_ns);
        }
    }

    fn round(&mut self, asked_ns: u64, handling: u64) -> Round {
        self.arrivals_ns.sort_unstable();
        let count = self.arrivals_ns.len();
        let after = |start: u64, permille: usize| {
            let at = (count * permille).div_ceil(1_000).saturating_sub(1);
            self.arrivals_ns.get(at).map_or(0, |at| at.saturating_sub(start))
        };
        let start = self.stamp_us.saturating_mul(1_000);
        Round {
            first: after(start, 0),
            median: after(start, 500),
            p99: after(start, 990),
            last: after(start, 1_000),
            asked_last: after(asked_ns, 1_000),
            message_bytes: self.message_bytes,
            handling,
        }
    }
}

/// A blocking connection to loopback, made non-blocking.
pub(super) fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let tcp = std::net::TcpStream::connect(address)?;
    tcp.set_nodelay(true)?;
    tcp.set_nonblocking(true)?;
    Ok(TcpStream::from_std(tcp))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::message::Template;

    #[test]
    fn a_round_counts_each_subscriber_once_from_the_earliest_stamp() {
        let mut tally = Tally { number: 7, stamp_us: u64::MAX, ..Tally::default() };
        let template = Template::new();
        let mut seen = [0; 100];
        for (i, seen) in seen.iter_mut().enumerate() {
            let at_ns = 2_000_000 + 1_000 * (i as u64 + 1);
            tally.hear(seen, template.fill(6, 1).as_bytes(), at_ns);
            tally.hear(seen, template.fill(7, 2_000 + i as u64 % 2).as_bytes(), at_ns);
            tally.hear(seen, template.fill(7, 1).as_bytes(), at_ns);
            tally.hear(seen, b"{\"type\":\"heartbeat\"}", at_ns);
        }
        let round = tally.round(1_999_000, 5);
        assert_eq!((round.first, round.median, round.p99, round.last), (1_000, 50_000, 99_000, 100_000));
        assert_eq!((round.asked_last, round.handling), (101_000, 5));
        assert_eq!(round.message_bytes, template.fill(1, 1).len());
    }
}
