//! A source thread stepped by hand, with the far ends of its rings.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tocsin::net::dns::{Addresses, Resolver};
use tocsin::net::tls::{ClientTls, ClientTrust};
use tocsin::net::url::BaseUrl;
use tocsin::os::clock;
use tocsin::rings::{SourceToFeed, SourceToJournal, ToSource};
use tocsin::threads::source::publish::{AnnouncementLog, Losses, PublisherParts};
use tocsin::threads::source::stats::{Count, SourceStats};
use tocsin::threads::source::{LaneParts, SourceParts, SourceThread, StreamParts};
use tocsin::threads::{Step, Turn};
use tocsin_core::detect::stream::StreamDetector;
use tocsin_core::detect::told::Told;
use tocsin_core::detect::{Detector, ListHistory};
use tocsin_core::model::Announcement;
use tocsin_core::source::SourceSpec;
use tocsin_core::source::pacing::Mode;
use tocsin_core::source::stream::credentials::Credentials;
use tocsin_core::source::stream::{ParameterOrder, StreamSpec};
use tocsin_core::time::{Mono, WallUs};
use tocsin_core::wire::EncodedAnnouncement;

/// Counts what it is given and remembers nothing.
struct CountingLog(Arc<AtomicU64>);

impl AnnouncementLog for CountingLog {
    fn append(&mut self, _: &EncodedAnnouncement) -> Option<u64> {
        Some(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

pub struct Options {
    pub spec: &'static SourceSpec,
    pub url: String,
    pub ca_file: Option<PathBuf>,
    pub connections: usize,
    pub bind: Vec<IpAddr>,
    pub requests_per_second: f64,
}

impl Options {
    pub fn new(spec: &'static SourceSpec, url: &str) -> Options {
        Options {
            spec,
            url: url.to_owned(),
            ca_file: None,
            connections: 1,
            bind: Vec::new(),
            requests_per_second: 500.0,
        }
    }
}

pub struct Rig {
    pub thread: SourceThread,
    pub feed: rtrb::Consumer<SourceToFeed>,
    pub journal: rtrb::Consumer<SourceToJournal>,
    pub history: rtrb::Consumer<Arc<EncodedAnnouncement>>,
    pub commands: rtrb::Producer<ToSource>,
    pub stats: Vec<Arc<SourceStats>>,
    pub logged: Arc<AtomicU64>,
    pub losses: Arc<Losses>,
    /// States reported, each once in a row.
    pub states: Vec<(&'static str, &'static str)>,
    /// What the feed got.
    pub announced: Vec<Announcement>,
    /// When the turn ended that brought it.
    pub announced_at: Vec<Mono>,
    _resolver: Resolver,
}

impl Rig {
    pub fn new(lanes: Vec<Options>) -> Rig {
        Rig::with_resolver(lanes, |_| Addresses::NONE)
    }

    pub fn with_resolver(lanes: Vec<Options>, lookup: impl Fn(&str) -> Addresses + Send + 'static) -> Rig {
        Rig::start(lanes, None, lookup)
    }

    /// With one push source, at a plain address, and nothing else.
    pub fn with_stream(spec: &'static StreamSpec, url: &str, credentials: &str) -> Rig {
        let credentials = Credentials::parse(credentials).unwrap();
        Rig::start(Vec::new(), Some(stream(spec, url, credentials)), |_| Addresses::NONE)
    }

    fn start(
        lanes: Vec<Options>,
        stream: Option<StreamParts>,
        lookup: impl Fn(&str) -> Addresses + Send + 'static,
    ) -> Rig {
        let (feed_in, feed) = rtrb::RingBuffer::new(1_024);
        let (journal_in, journal) = rtrb::RingBuffer::new(8_192);
        let (history_in, history) = rtrb::RingBuffer::new(1_024);
        let (commands, commands_out) = rtrb::RingBuffer::new(8);
        let (resolver, mut clients) = Resolver::start_with(1, lookup).unwrap();
        let (logged, losses) = (Arc::new(AtomicU64::new(0)), Arc::new(Losses::default()));
        let mut stats: Vec<_> = lanes.iter().map(|l| Arc::new(SourceStats::new(l.spec.name))).collect();
        let lanes = lanes.into_iter().zip(&stats).map(|(options, stats)| lane(options, stats)).collect();
        stats.extend(stream.iter().map(|stream| Arc::clone(&stream.stats)));
        let thread = SourceThread::new(SourceParts {
            lanes,
            streams: stream.into_iter().collect(),
            publisher: PublisherParts {
                epoch: 3,
                next_seq: Arc::new(AtomicU64::new(1)),
                log: Box::new(CountingLog(Arc::clone(&logged))),
                feeds: vec![feed_in.into()],
                journal: journal_in,
                history: history_in,
                webhook: None,
                market: None,
                losses: Arc::clone(&losses),
            },
            commands: commands_out,
            resolver: clients.pop().unwrap(),
            clock: clock::now,
            seed: 7,
        })
        .unwrap();
        Rig {
            thread,
            feed,
            journal,
            history,
            commands,
            stats,
            logged,
            losses,
            states: Vec::new(),
            announced: Vec::new(),
            announced_at: Vec::new(),
            _resolver: resolver,
        }
    }

    /// One turn; takes what the feed got.
    pub fn step(&mut self) -> Turn {
        let turn = self.thread.step(clock::now());
        while let Ok(message) = self.feed.pop() {
            match message {
                SourceToFeed::Announcement(a) => {
                    self.announced.push(a.announcement.clone());
                    self.announced_at.push(clock::mono());
                }
                SourceToFeed::Status(s) => {
                    let last = self.states.iter().rev().find(|(source, _)| *source == s.source);
                    if last != Some(&(s.source, s.state.name())) {
                        self.states.push((s.source, s.state.name()));
                    }
                }
            }
        }
        turn
    }

    /// Turns until `done`. Gives up after half a minute: then the test has failed.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&mut Rig) -> bool) {
        let end: Mono = clock::mono() + Duration::from_secs(30);
        while !done(self) {
            assert!(clock::mono() < end, "never: {what}; states {:?}", self.states);
            if self.step().work == 0 {
                std::thread::yield_now();
            }
        }
    }

    /// Turns until the source has had `more` further usable answers and its counts are published.
    pub fn answers(&mut self, lane: usize, more: u64) {
        let target = self.usable(lane) + more;
        self.until("usable answers", |rig| rig.usable(lane) >= target);
    }

    pub fn usable(&self, lane: usize) -> u64 {
        [Count::NotModified, Count::Identical, Count::OnlyNoise, Count::Parsed]
            .into_iter()
            .map(|count| self.stats[lane].count(count))
            .sum()
    }

    pub fn titles(&self) -> Vec<&str> {
        self.announced.iter().map(|a| a.title.as_str()).collect()
    }

    /// What the journal got: announcements, seen items, baselines.
    pub fn journalled(&mut self) -> (usize, usize, usize) {
        let mut counts = (0, 0, 0);
        while let Ok(message) = self.journal.pop() {
            match message {
                SourceToJournal::Announcement { shm_position, .. } => {
                    assert!(shm_position.is_some());
                    counts.0 += 1;
                }
                SourceToJournal::Seen(_) | SourceToJournal::Confirmed { .. } => counts.1 += 1,
                SourceToJournal::Baselined { .. } => counts.2 += 1,
            }
        }
        counts
    }
}

fn lane(options: Options, stats: &Arc<SourceStats>) -> LaneParts {
    let mut detector = Detector::new(options.spec, Duration::from_secs(60));
    for list in 0..options.spec.lists.len() {
        detector.load_list(list, ListHistory { first_start: first_start(), baselined: false });
    }
    LaneParts {
        spec: options.spec,
        url: BaseUrl::parse(&options.url).unwrap(),
        tls: ClientTls::new(&ClientTrust { ca_file: options.ca_file, insecure: false }).unwrap(),
        connections: options.connections,
        bind: options.bind,
        requests_per_second: options.requests_per_second,
        mode: Mode::Flat,
        detector,
        told: Told::new(),
        stats: Arc::clone(stats),
    }
}

fn stream(spec: &'static StreamSpec, url: &str, credentials: Credentials) -> StreamParts {
    let fresh_for = Duration::from_secs(60);
    let mut detector = StreamDetector::new(spec, fresh_for);
    for channel in 0..spec.channels.len() {
        detector.load_channel(channel, ListHistory { first_start: first_start(), baselined: true });
    }
    StreamParts {
        spec,
        url: BaseUrl::parse(&url.replacen("ws", "http", 1)).unwrap(),
        tls: ClientTls::new(&ClientTrust { ca_file: None, insecure: false }).unwrap(),
        credentials: spec.needs_credentials.then_some(credentials),
        order: ParameterOrder::Alphabetical,
        rotate_after: None,
        fresh_for,
        bind: Vec::new(),
        detector,
        told: Told::new(),
        stats: Arc::new(SourceStats::new(spec.name)),
    }
}

fn first_start() -> WallUs {
    clock::wall()
}
