//! A scripted name server on loopback, over datagrams and TCP: the resolver's peer in tests.
//!
//! Contract: [`DnsStub::start`] opens one free port of 127.0.0.1 for both and answers each name as its
//! script says; a name without a script does not exist. A script is a list of answers, taken in turn:
//! the first question for a type gets the first, the next the second, and the last one repeats. A and
//! AAAA have turns of their own. A question sent again (the same message identifier, or over TCP after
//! a truncated answer) does not take another turn.
//!
//! Threads: one for datagrams, one for TCP, which serves its connections in turn; both end when the
//! handle is dropped. A test peer: it allocates, locks and blocks as it likes.
//!
//! How it fails: starting returns [`SimError`]; after that a message that is no question is dropped.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::error::SimError;

/// Time to live of records that do not say otherwise, in seconds.
const TTL: u32 = 30;
/// Longest answer over a datagram; a longer one is truncated, so that it is asked for over TCP.
const DATAGRAM_BYTES: usize = 1_232;
/// Aliases followed within one answer.
const ALIASES: usize = 16;
/// How often the threads look for what is due and whether to end.
const TICK: Duration = Duration::from_millis(2);
/// TCP connections served at once; one more is closed.
const CONNECTIONS: usize = 64;

/// The type of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DnsType {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Anything else, by its number.
    Other(u16),
}

impl DnsType {
    const fn of(number: u16) -> DnsType {
        match number {
            1 => DnsType::A,
            28 => DnsType::Aaaa,
            other => DnsType::Other(other),
        }
    }
}

/// What the stub says to one question.
#[derive(Clone, Debug)]
pub enum DnsAnswer {
    /// These addresses, as far as they are of the type asked for; the name exists all the same.
    Addresses(Vec<IpAddr>),
    /// The answer given, its records living for so many seconds.
    Ttl(u32, Box<DnsAnswer>),
    /// Another name for this one, and what that name's script says, in one answer.
    Alias(String),
    /// The same with the alias alone: who asks has to ask for the other name.
    AliasAlone(String),
    /// One answer to questions for A, another to those for AAAA and all else.
    ByType {
        /// To those for A.
        a: Box<DnsAnswer>,
        /// To the others.
        aaaa: Box<DnsAnswer>,
    },
    /// NXDOMAIN.
    NoName,
    /// SERVFAIL.
    ServerFailure,
    /// REFUSED.
    Refused,
    /// Nothing at all.
    Silence,
    /// The answer given, so much later.
    Slow(Duration, Box<DnsAnswer>),
    /// Over a datagram truncated, with the first record if there is one; over TCP whole.
    Truncated(Box<DnsAnswer>),
    /// The message identifier of the question, then these bytes.
    Garbage(Vec<u8>),
    /// First an answer with these addresses under another message identifier, then the one given: what
    /// someone sends who cannot see the question.
    Forged(Vec<IpAddr>, Box<DnsAnswer>),
}

impl DnsAnswer {
    /// The addresses written in `texts`.
    ///
    /// # Panics
    /// One of them is no address.
    #[must_use]
    pub fn addresses(texts: &[&str]) -> DnsAnswer {
        #[expect(clippy::expect_used, reason = "scripts are written by the test that runs them")]
        let parse = |text: &&str| text.parse().expect("an IP address");
        DnsAnswer::Addresses(texts.iter().map(parse).collect())
    }
}

#[derive(Default)]
struct Turn {
    /// Questions told apart so far.
    taken: usize,
    last_id: Option<u16>,
    /// The last answer was a truncated datagram, so that the question will come again over TCP.
    truncated: bool,
    /// Messages, those sent again included.
    messages: usize,
}

#[derive(Default)]
struct Book {
    scripts: HashMap<String, Vec<DnsAnswer>>,
    turns: HashMap<(String, DnsType), Turn>,
}

/// The running server.
pub struct DnsStub {
    address: SocketAddr,
    book: Arc<Mutex<Book>>,
    connections: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl DnsStub {
    /// Starts a server with scripts for these names, written without a dot at the end.
    ///
    /// # Errors
    /// No port could be opened or no thread started.
    pub fn start<N: Into<String>>(
        records: impl IntoIterator<Item = (N, Vec<DnsAnswer>)>,
    ) -> Result<DnsStub, SimError> {
        let (datagrams, listener) = open().map_err(SimError::Listen)?;
        let address = datagrams.local_addr().map_err(SimError::Listen)?;
        let book = Arc::new(Mutex::new(Book::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let connections = Arc::new(AtomicUsize::new(0));
        let mut stub = DnsStub { address, book, connections, stop, threads: Vec::new() };
        for (name, script) in records {
            stub.script(name, script);
        }
        let (book, stop) = (Arc::clone(&stub.book), Arc::clone(&stub.stop));
        stub.spawn("dns-udp", move || serve_datagrams(&datagrams, &book, &stop))?;
        let (book, stop) = (Arc::clone(&stub.book), Arc::clone(&stub.stop));
        let accepted = Arc::clone(&stub.connections);
        stub.spawn("dns-tcp", move || serve_connections(&listener, &book, &accepted, &stop))?;
        Ok(stub)
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), SimError> {
        self.threads.push(thread::Builder::new().name(name.into()).spawn(run).map_err(SimError::Thread)?);
        Ok(())
    }

    /// Where it answers, over datagrams and TCP.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Gives `name` another script, from its first answer on.
    pub fn script(&self, name: impl Into<String>, answers: Vec<DnsAnswer>) {
        let name = name.into().to_ascii_lowercase();
        let mut book = self.book.lock();
        book.turns.retain(|(known, _), _| *known != name);
        book.scripts.insert(name, answers);
    }

    /// Questions for `name` and this type since its script was set, those sent again counted once.
    #[must_use]
    pub fn asked(&self, name: &str, kind: DnsType) -> usize {
        self.book.lock().turns.get(&(name.to_owned(), kind)).map_or(0, |turn| turn.taken)
    }

    /// The same in messages received, those sent again counted each time.
    #[must_use]
    pub fn messages(&self, name: &str, kind: DnsType) -> usize {
        self.book.lock().turns.get(&(name.to_owned(), kind)).map_or(0, |turn| turn.messages)
    }

    /// TCP connections accepted so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Every name and type asked for, sorted by name.
    #[must_use]
    pub fn names_asked(&self) -> Vec<(String, DnsType)> {
        let mut all: Vec<_> = self.book.lock().turns.keys().cloned().collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }
}

impl Drop for DnsStub {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// One port free for both protocols.
fn open() -> io::Result<(UdpSocket, TcpListener)> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..32 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        match UdpSocket::bind(listener.local_addr()?) {
            Ok(datagrams) => {
                datagrams.set_read_timeout(Some(TICK))?;
                listener.set_nonblocking(true)?;
                return Ok((datagrams, listener));
            }
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// What is to be sent, and when.
struct Due {
    at: Instant,
    bytes: Vec<u8>,
}

fn serve_datagrams(socket: &UdpSocket, book: &Mutex<Book>, stop: &AtomicBool) {
    let mut buffer = [0; 4_096];
    let mut waiting: Vec<(Due, SocketAddr)> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        if let Ok((len, from)) = socket.recv_from(&mut buffer)
            && let Some(question) = buffer.get(..len).and_then(Question::read)
        {
            let replies = book.lock().replies(&question, Transport::Datagram);
            waiting.extend(replies.into_iter().map(|due| (due, from)));
        }
        let now = Instant::now();
        waiting.retain(|(due, to)| {
            if due.at <= now {
                let _ = socket.send_to(&due.bytes, to);
            }
            due.at > now
        });
    }
}

struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    waiting: Vec<Due>,
}

fn serve_connections(listener: &TcpListener, book: &Mutex<Book>, accepted: &AtomicUsize, stop: &AtomicBool) {
    let mut connections: Vec<Connection> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        while let Ok((stream, _)) = listener.accept() {
            accepted.fetch_add(1, Ordering::Relaxed);
            if connections.len() < CONNECTIONS && stream.set_nonblocking(true).is_ok() {
                connections.push(Connection { stream, received: Vec::new(), waiting: Vec::new() });
            }
        }
        connections.retain_mut(|connection| connection.turn(book).is_ok());
        thread::sleep(TICK);
    }
}

impl Connection {
    fn turn(&mut self, book: &Mutex<Book>) -> io::Result<()> {
        let mut buffer = [0; 4_096];
        match self.stream.read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(len) => self.received.extend(buffer.iter().take(len)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
        while let Some((head, rest)) = self.received.split_first_chunk::<2>()
            && let Some(message) = rest.get(..usize::from(u16::from_be_bytes(*head)))
        {
            let question = Question::read(message);
            let whole = 2 + message.len();
            self.received.drain(..whole);
            if let Some(question) = question {
                self.waiting.extend(book.lock().replies(&question, Transport::Tcp));
            }
        }
        let now = Instant::now();
        while let Some(at) = self.waiting.iter().position(|due| due.at <= now) {
            let Due { bytes, .. } = self.waiting.remove(at);
            let len = u16::try_from(bytes.len()).map_err(io::Error::other)?;
            self.stream.set_nonblocking(false)?;
            self.stream.write_all(&[&len.to_be_bytes()[..], &bytes].concat())?;
            self.stream.set_nonblocking(true)?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Transport {
    Datagram,
    Tcp,
}

struct Question {
    id: u16,
    name: String,
    kind: DnsType,
    /// The question section as it was asked.
    section: Vec<u8>,
}

impl Question {
    fn read(message: &[u8]) -> Option<Question> {
        let (head, body) = message.split_first_chunk::<12>()?;
        let [i0, i1, flags, _, 0, 1, ..] = *head else { return None };
        if flags & 0x80 != 0 {
            return None;
        }
        let (mut labels, mut rest) = (Vec::new(), body);
        loop {
            let (len, after) = rest.split_first()?;
            let (label, after) = after.split_at_checked(usize::from(*len))?;
            rest = after;
            if label.is_empty() {
                break;
            }
            labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        }
        let (tail, after) = rest.split_first_chunk::<4>()?;
        let section = body.get(..body.len() - after.len())?.to_vec();
        let kind = DnsType::of(u16::from_be_bytes([tail[0], tail[1]]));
        Some(Question { id: u16::from_be_bytes([i0, i1]), name: labels.join("."), kind, section })
    }
}

/// An answer being put together.
struct Draft {
    code: u8,
    records: Vec<u8>,
    count: u16,
    /// Where the first record ends.
    first: usize,
    ttl: u32,
    delay: Duration,
    truncated: bool,
    garbage: Option<Vec<u8>>,
    forged: Option<Vec<IpAddr>>,
    silent: bool,
}

impl Draft {
    fn new() -> Draft {
        Draft {
            code: 0,
            records: Vec::new(),
            count: 0,
            first: 0,
            ttl: TTL,
            delay: Duration::ZERO,
            truncated: false,
            garbage: None,
            forged: None,
            silent: false,
        }
    }

    fn record(&mut self, name: &str, kind: u16, data: &[u8]) {
        let len = u16::try_from(data.len()).unwrap_or(u16::MAX);
        self.records.extend(wire_name(name));
        self.records.extend(kind.to_be_bytes());
        self.records.extend([0, 1]);
        self.records.extend(self.ttl.to_be_bytes());
        self.records.extend(len.to_be_bytes());
        self.records.extend(data);
        self.count += 1;
        if self.count == 1 {
            self.first = self.records.len();
        }
    }

    fn addresses(&mut self, name: &str, kind: DnsType, addresses: &[IpAddr]) {
        for address in addresses {
            match (address, kind) {
                (IpAddr::V4(v4), DnsType::A) => self.record(name, 1, &v4.octets()),
                (IpAddr::V6(v6), DnsType::Aaaa) => self.record(name, 28, &v6.octets()),
                _ => {}
            }
        }
    }

    /// Whether it goes out truncated.
    fn is_short(&self, question: &Question, transport: Transport) -> bool {
        transport == Transport::Datagram
            && (self.truncated || self.records.len() + question.section.len() + 12 > DATAGRAM_BYTES)
    }

    fn message(&self, question: &Question, transport: Transport) -> Vec<u8> {
        if let Some(garbage) = &self.garbage {
            return [&question.id.to_be_bytes()[..], garbage].concat();
        }
        let short = self.is_short(question, transport);
        let (count, records) = match short {
            false => (self.count, self.records.len()),
            true => (self.count.min(1), self.first),
        };
        let mut bytes = question.id.to_be_bytes().to_vec();
        // A response to a recursive question by a recursive server.
        bytes.extend([0x81 | (u8::from(short) << 1), 0x80 | self.code, 0, 1]);
        bytes.extend(count.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(&question.section);
        bytes.extend(self.records.get(..records).unwrap_or_default());
        bytes
    }
}

fn wire_name(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

impl Book {
    fn replies(&mut self, question: &Question, transport: Transport) -> Vec<Due> {
        let mut draft = Draft::new();
        let answer = self.take(&question.name, question, transport);
        self.fill(&mut draft, &question.name, answer, question, transport, ALIASES);
        if draft.silent {
            return Vec::new();
        }
        if draft.is_short(question, transport) {
            // The whole chain of aliases comes again.
            let chain = self.turns.iter_mut().filter(|((_, kind), _)| *kind == question.kind);
            chain
                .filter(|(_, turn)| turn.last_id == Some(question.id))
                .for_each(|(_, turn)| turn.truncated = true);
        }
        let at = Instant::now() + draft.delay;
        let mut replies = Vec::new();
        if let Some(addresses) = &draft.forged {
            let mut forged = Draft::new();
            forged.addresses(&question.name, question.kind, addresses);
            let other = Question {
                id: !question.id,
                name: String::new(),
                section: question.section.clone(),
                ..*question
            };
            replies.push(Due { at, bytes: forged.message(&other, transport) });
        }
        replies.push(Due { at, bytes: draft.message(question, transport) });
        replies
    }

    /// The answer whose turn it is, for a name of the chain that `question` begins.
    fn take(&mut self, name: &str, question: &Question, transport: Transport) -> Option<DnsAnswer> {
        let turn = self.turns.entry((name.to_owned(), question.kind)).or_default();
        turn.messages += 1;
        let over_tcp = transport == Transport::Tcp && std::mem::take(&mut turn.truncated);
        let again = turn.last_id == Some(question.id) || over_tcp;
        if turn.taken == 0 || !again {
            turn.taken += 1;
        }
        turn.last_id = Some(question.id);
        let script = self.scripts.get(name)?;
        script.get(turn.taken - 1).or(script.last()).cloned()
    }

    fn fill(
        &mut self,
        draft: &mut Draft,
        name: &str,
        answer: Option<DnsAnswer>,
        question: &Question,
        transport: Transport,
        depth: usize,
    ) {
        match answer {
            None | Some(DnsAnswer::NoName) => draft.code = 3,
            Some(DnsAnswer::ServerFailure) => draft.code = 2,
            Some(DnsAnswer::Refused) => draft.code = 5,
            Some(DnsAnswer::Silence) => draft.silent = true,
            Some(DnsAnswer::Garbage(bytes)) => draft.garbage = Some(bytes),
            Some(DnsAnswer::Addresses(addresses)) => draft.addresses(name, question.kind, &addresses),
            Some(DnsAnswer::AliasAlone(other)) => draft.record(name, 5, &wire_name(&other)),
            Some(DnsAnswer::Alias(other)) => {
                draft.record(name, 5, &wire_name(&other));
                if depth > 0 {
                    let answer = self.take(&other, question, transport);
                    self.fill(draft, &other, answer, question, transport, depth - 1);
                }
            }
            Some(DnsAnswer::ByType { a, aaaa }) => {
                let inner = if question.kind == DnsType::A { a } else { aaaa };
                self.fill(draft, name, Some(*inner), question, transport, depth);
            }
            Some(DnsAnswer::Ttl(ttl, inner)) => {
                draft.ttl = ttl;
                self.fill(draft, name, Some(*inner), question, transport, depth);
            }
            Some(DnsAnswer::Slow(delay, inner)) => {
                draft.delay = delay;
                self.fill(draft, name, Some(*inner), question, transport, depth);
            }
            Some(DnsAnswer::Truncated(inner)) => {
                draft.truncated = true;
                self.fill(draft, name, Some(*inner), question, transport, depth);
            }
            Some(DnsAnswer::Forged(addresses, inner)) => {
                draft.forged = Some(addresses);
                self.fill(draft, name, Some(*inner), question, transport, depth);
            }
        }
    }
}
