//! A source thread and a feed thread joined by their rings, an exchange's socket on one side and
//! subscribers' sockets on the other.
//!
//! Contract: [`Rig::announcement`] makes the source ask, publishes at the simulated exchange, fetches the
//! answer the source is to get, lets the threads spin without work, writes the answer and steps until the
//! first subscriber's write has returned. The answer comes over plain HTTP: opening TLS records ends before
//! a body is complete. Owner: one thread; with [`Layout::TwoCores`] the feed thread runs in another until
//! the rig is dropped. Fails when a socket does or an announcement does not come.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tocsin::config::Idle;
use tocsin::net::Stream;
use tocsin::net::dns::{Addresses, Resolver};
use tocsin::net::tls::{ClientTls, ClientTrust, ServerTls};
use tocsin::net::url::BaseUrl;
use tocsin::os::sockopt::tune_subscriber;
use tocsin::os::{clock, cores};
use tocsin::rings::{AcceptToFeed, LiveSession, Released, SourceToJournal, ToSource};
use tocsin::store::shm::{Committer, Place};
use tocsin::threads::feed::{FeedRings, FeedStats, FeedThread};
use tocsin::threads::source::publish::{Losses, PublisherParts};
use tocsin::threads::source::stats::SourceStats;
use tocsin::threads::source::{LaneParts, SourceParts, SourceThread};
use tocsin::threads::{Pulse, Rehearsals, Step, run_loop};
use tocsin::topology;
use tocsin_core::detect::told::Told;
use tocsin_core::detect::{Detector, ListHistory};
use tocsin_core::feed::history::History;
use tocsin_core::limits;
use tocsin_core::model::ListingType;
use tocsin_core::source::SourceSpec;
use tocsin_core::source::exchange::by_config_name;
use tocsin_core::source::pacing::Mode;
use tocsin_core::wire::EncodedAnnouncement;
use tocsin_sim::{Kind, Options, SimExchange};

use super::stamps::{self, FeedStamps, StampedLog, Stamps, source_clock};
use crate::engine::Outcome;
use crate::lab::frames::subscription;

/// Anything that does not happen within this never will.
const PATIENCE: Duration = Duration::from_secs(10);
/// Kernel send buffer of a subscriber, the engine's default.
pub(super) const SEND_BUFFER_BYTES: u32 = 16 * 1_024;
/// Requests a second: often, and no bound of the source's.
const REQUESTS_PER_SECOND: f64 = 500.0;
/// Sessions one turn of a feed thread takes, well below its ring.
const JOINS_AT_ONCE: usize = 8;

/// Who runs where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Source and feed take turns in one thread.
    OneThread,
    /// Each spins on its core.
    TwoCores {
        /// Of the source.
        source: usize,
        /// Of the feed.
        feed: usize,
    },
}

impl Layout {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Layout::OneThread => "one thread",
            Layout::TwoCores { .. } => "two cores",
        }
    }
}

enum Feed {
    Here(Box<FeedThread>),
    There { stop: Arc<AtomicBool>, thread: Option<JoinHandle<()>> },
}

/// See the module head.
pub(super) struct Rig {
    kind: Kind,
    exchange: SimExchange,
    /// The exchange's socket, as the source sees it.
    listener: TcpListener,
    asked: Option<TcpStream>,
    /// Where answers are fetched.
    upstream: TcpStream,
    source: SourceThread,
    /// `None`: the source's thread does not rehearse.
    rehearsals: Option<Rehearsals>,
    feed: Feed,
    stamps: FeedStamps,
    subscribers: Vec<Stream>,
    journal: rtrb::Consumer<SourceToJournal>,
    history: rtrb::Consumer<Arc<EncodedAnnouncement>>,
    committer: Committer,
    place: Place,
    /// Lists of the source, and those whose first answer has been taken as known.
    lists: usize,
    known: BTreeSet<&'static str>,
    body_bytes: usize,
    _released: rtrb::Consumer<Released>,
    _commands: rtrb::Producer<ToSource>,
    _resolver: Resolver,
    _dir: TempDir,
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Feed::There { stop, thread } = &mut self.feed {
            stop.store(true, Ordering::Relaxed);
            // A panic of that thread has been told by itself.
            let _ = thread.take().map(JoinHandle::join);
        }
        self.place.clear();
    }
}

impl Rig {
    pub(super) fn new(kind: Kind, layout: Layout, tls: bool, subscribers: usize, seed: u64) -> Outcome<Rig> {
        let spec = by_config_name(kind.name()).ok_or("no such source")?;
        let exchange = SimExchange::start(kind, Options { seed, ..Options::plain() })?;
        let upstream = TcpStream::connect(exchange.addr())?;
        upstream.set_nodelay(true)?;
        upstream.set_read_timeout(Some(PATIENCE))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        if let Layout::TwoCores { source, .. } = layout {
            cores::pin(source)?;
        }
        let dir = tempfile::tempdir()?;
        let place = Place::new(dir.path())?;
        let (log, committer) = place.create(0)?;
        let (source_in, from_source) = rtrb::RingBuffer::new(topology::SOURCE_TO_FEED);
        let (accept, from_accept) = rtrb::RingBuffer::new(JOINS_AT_ONCE);
        let (to_accept, released) = rtrb::RingBuffer::new(subscribers + 1);
        let (journal_in, journal) = rtrb::RingBuffer::new(8_192);
        let (history_in, history) = rtrb::RingBuffer::new(topology::SOURCE_TO_ACCEPT);
        let (commands, from_commands) = rtrb::RingBuffer::new(1);
        let (resolver, mut clients) = Resolver::start_with(1, |_| Addresses::NONE)?;
        let publisher = PublisherParts {
            epoch: 1,
            next_seq: Arc::new(AtomicU64::new(1)),
            log: Box::new(StampedLog(log)),
            feeds: vec![source_in.into()],
            journal: journal_in,
            history: history_in,
            webhook: None,
            market: None,
            losses: Arc::new(Losses::default()),
        };
        let source = SourceThread::new(SourceParts {
            lanes: vec![lane(spec, &format!("http://{}", listener.local_addr()?))?],
            streams: Vec::new(),
            publisher,
            commands: from_commands,
            resolver: clients.pop().ok_or("no resolver")?,
            clock: source_clock,
            seed,
        })?;
        let (looked, _) = rtrb::RingBuffer::new(1);
        let sources = vec![from_source];
        let rings = FeedRings { sources, market: None, accept: from_accept, released: to_accept, looked };
        let stamps = FeedStamps::default();
        let known = History::new(1, limits::HISTORY_IN_MEMORY, [], true);
        let mut feed = FeedThread::new(rings, known, Arc::new(FeedStats::default()), seed, stamps.clock())?;
        let subscribers = join(&mut feed, accept, tls.then_some(dir.path()), subscribers)?;
        Ok(Rig {
            kind,
            exchange,
            listener,
            asked: None,
            upstream,
            source,
            rehearsals: Some(Rehearsals::default()),
            feed: start(feed, layout)?,
            stamps,
            subscribers,
            journal,
            history,
            committer,
            place,
            lists: spec.lists.len(),
            known: BTreeSet::new(),
            body_bytes: 0,
            _released: released,
            _commands: commands,
            _resolver: resolver,
            _dir: dir,
        })
    }

    /// Bytes of the last answer with news, its head included.
    pub(super) const fn body_bytes(&self) -> usize {
        self.body_bytes
    }

    /// The same with a source's thread that does not rehearse.
    pub(super) fn without_rehearsals(self) -> Rig {
        let mut rig = self;
        rig.rehearsals = None;
        rig
    }

    /// One announcement's way; `None` when other work mixed with it.
    pub(super) fn announcement(&mut self, idle: Duration) -> Outcome<Option<Stamps>> {
        loop {
            let request = self.request()?;
            let news = self.lists_news(&request) && self.baselined();
            if news {
                self.exchange.publish_invented(ListingType::SpotListing);
            }
            let answer = fetch(&mut self.upstream, &request)?;
            if !news {
                self.send(&answer)?;
                continue;
            }
            self.body_bytes = answer.len();
            let until = Instant::now() + idle;
            while Instant::now() < until {
                self.step();
            }
            stamps::reset(&self.stamps);
            self.send(&answer)?;
            let until = Instant::now() + PATIENCE;
            while !stamps::published() || !self.stamps.complete() {
                self.step();
                if Instant::now() > until {
                    return Err("an announcement was not found or not sent".into());
                }
            }
            let stamps = Stamps::take(&self.stamps);
            self.tidy()?;
            return Ok(stamps);
        }
    }

    /// One turn of what runs in this thread.
    fn step(&mut self) {
        let now = clock::now();
        let turn = self.source.step(now);
        if let Some(rehearsals) = &mut self.rehearsals {
            rehearsals.after(&mut self.source, turn, now);
        }
        if let Feed::Here(feed) = &mut self.feed {
            feed.step(clock::now());
        }
    }

    /// Steps until the source has asked; its request.
    fn request(&mut self) -> Outcome<Vec<u8>> {
        let (until, mut request, mut buffer) = (Instant::now() + PATIENCE, Vec::new(), [0; 4_096]);
        while !request.ends_with(b"\r\n\r\n") {
            if Instant::now() > until {
                return Err("the source does not ask".into());
            }
            self.step();
            match self.listener.accept() {
                Ok((socket, _)) => {
                    socket.set_nonblocking(true)?;
                    socket.set_nodelay(true)?;
                    self.asked = Some(socket);
                    request.clear();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
            let Some(asked) = &mut self.asked else { continue };
            match asked.read(&mut buffer) {
                Ok(0) => self.asked = None,
                Ok(count) => request.extend_from_slice(buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(request)
    }

    /// Whether a new listing would be in the answer.
    fn lists_news(&self, request: &[u8]) -> bool {
        self.kind != Kind::Binance || request.windows(12).any(|w| w == b"catalogId=48")
    }

    /// Whether every list's first answer has been taken as known.
    fn baselined(&mut self) -> bool {
        while let Ok(message) = self.journal.pop() {
            if let SourceToJournal::Baselined { list, .. } = message {
                self.known.insert(list);
            }
        }
        self.known.len() >= self.lists
    }

    /// Writes an answer to the source; it is small enough for the socket.
    fn send(&mut self, answer: &[u8]) -> Outcome<()> {
        let asked = self.asked.as_mut().ok_or("the source has left")?;
        Ok(asked.write_all(answer)?)
    }

    /// Takes what the announcement left in rings, journal and sockets.
    fn tidy(&mut self) -> Outcome<()> {
        self.step();
        while let Ok(message) = self.journal.pop() {
            if let SourceToJournal::Announcement { shm_position: Some(position), .. } = message {
                self.committer.release(position);
            }
        }
        while self.history.pop().is_ok() {}
        let mut buffer = [0; 4_096];
        for subscriber in &mut self.subscribers {
            loop {
                match subscriber.read(&mut buffer) {
                    Ok(0) => return Err("a subscriber was closed".into()),
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }
}

fn lane(spec: &'static SourceSpec, url: &str) -> Outcome<LaneParts> {
    let mut detector = Detector::new(spec, Duration::from_secs(60));
    for list in 0..spec.lists.len() {
        detector.load_list(list, ListHistory { first_start: clock::wall(), baselined: false });
    }
    Ok(LaneParts {
        spec,
        url: BaseUrl::parse(url).map_err(|e| e.to_string())?,
        tls: ClientTls::new(&ClientTrust::default())?,
        connections: 1,
        bind: Vec::new(),
        requests_per_second: REQUESTS_PER_SECOND,
        mode: Mode::Flat,
        detector,
        told: Told::new(),
        stats: Arc::new(SourceStats::new(spec.name)),
    })
}

fn start(mut feed: FeedThread, layout: Layout) -> Outcome<Feed> {
    let Layout::TwoCores { feed: core, .. } = layout else { return Ok(Feed::Here(Box::new(feed))) };
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let (told, pinned) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new().name("wire-feed".to_owned()).spawn(move || {
        // The one who waits for it goes on only when it was pinned.
        let _ = told.send(cores::pin(core));
        run_loop(&mut feed, Idle::Spin, &stopped, &Arc::new(Pulse::default()));
    })?;
    pinned.recv()??;
    Ok(Feed::There { stop, thread: Some(thread) })
}

/// Connects subscribers and has the feed thread take them; their far ends.
fn join(
    feed: &mut FeedThread,
    mut accept: rtrb::Producer<AcceptToFeed>,
    tls: Option<&std::path::Path>,
    count: usize,
) -> Outcome<Vec<Stream>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let trust = ClientTrust { ca_file: None, insecure: true };
    let tls = match tls {
        Some(dir) => Some((ServerTls::self_signed(dir, address)?, ClientTls::new(&trust)?)),
        None => None,
    };
    let mut far = Vec::with_capacity(count);
    for _ in 0..count {
        let client = TcpStream::connect(address)?;
        let (server, _) = listener.accept()?;
        for socket in [&client, &server] {
            socket.set_nonblocking(true)?;
        }
        tune_subscriber(&server, SEND_BUFFER_BYTES)?;
        let (client, server) = (mio::net::TcpStream::from_std(client), mio::net::TcpStream::from_std(server));
        let (client, stream) = match &tls {
            None => (Stream::plain(client), Stream::plain(server)),
            Some((of_server, of_client)) => shake_hands(
                Stream::connect_tls(client, of_client, "localhost")?,
                Stream::accept_tls(server, of_server)?,
            )?,
        };
        let session = LiveSession {
            stream,
            subscription: subscription(),
            greeting: Vec::new(),
            early_bytes: Vec::new(),
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            accepted_at: clock::mono(),
        };
        accept.push(AcceptToFeed::Join(Box::new(session))).map_err(|_| "the feed takes no session")?;
        feed.step(clock::now());
        far.push(client);
    }
    Ok(far)
}

fn shake_hands(mut client: Stream, mut server: Stream) -> Outcome<(Stream, Stream)> {
    let until = Instant::now() + PATIENCE;
    while !(client.handshake()? & server.handshake()?) {
        if Instant::now() > until {
            return Err("a handshake does not end".into());
        }
    }
    Ok((client, server))
}

/// What the simulated exchange answers to `request`, head and body as they come.
fn fetch(upstream: &mut TcpStream, request: &[u8]) -> Outcome<Vec<u8>> {
    upstream.write_all(request)?;
    let (mut answer, mut buffer) = (Vec::new(), [0; 16 * 1_024]);
    loop {
        let count = upstream.read(&mut buffer)?;
        answer.extend_from_slice(buffer.get(..count).unwrap_or_default());
        if count == 0 {
            return Err("the simulated exchange has left".into());
        }
        if whole_bytes(&answer).is_some_and(|whole| answer.len() >= whole) {
            return Ok(answer);
        }
    }
}

/// Length of head and body once the head is there; an answer without a length has no body.
fn whole_bytes(answer: &[u8]) -> Option<usize> {
    let head = answer.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(answer.get(..head)?).ok()?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    Some(head + length.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_with_its_body() {
        assert_eq!(whole_bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n"), None);
        assert_eq!(whole_bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"), Some(43));
        assert_eq!(whole_bytes(b"HTTP/1.1 304 Not Modified\r\n\r\n"), Some(29));
    }
}
