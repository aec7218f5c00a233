//! The market thread: asks exchanges for their instruments and volumes, tells what follows from them.
//!
//! Contract: everything that is a decision is [`Watcher`]'s; the thread moves bytes. One connection a host, one
//! request in flight there; an answer is parsed on this thread. What the watcher tells goes to the feed's rings,
//! then to the webhook thread, then to the journal thread, and behind it what is then known. Of announcements it
//! takes copies that the source threads leave in rings; it looks every [`LOOK`], for what it has to say of one
//! is a second message, and a bell would cost the source thread a system call. It keeps no announcement waiting.
//!
//! Owner: itself, a housekeeping thread. It allocates for each answer and blocks in `epoll_wait` only. Bounds: of
//! answers [`tocsin_core::limits::MARKET_BODY_BYTES`], of what is known the watcher's; what waits for the journal's ring
//! (a disk that is behind) is what one turn told, for nothing is asked meanwhile. A feed or webhook ring that is full
//! loses the message, counted. A failure of an exchange ends in a [`Failure`]: counted, shown, logged when it
//! is another than before, and asked again when the watcher says so; the thread itself does not fail once it is built.

mod connection;
mod outlets;
mod stats;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mio::{Events, Poll};
use rtrb::Consumer;
use tocsin_core::http1::writer::RequestError;
use tocsin_core::market::MarketEvent;
use tocsin_core::market::message::encode_context;
use tocsin_core::market::record::{BookRecord, InstrumentRecord};
use tocsin_core::market::watcher::{RequestId, Told, Watcher};
use tocsin_core::model::{Announcement, Exchange};
use tocsin_core::source::backoff::{Failure, retry_delay};
use tocsin_core::source::{ParseError, Scratch};
use tocsin_core::time::{Mono, Now, WallUs};
use tocsin_core::webhook::schedule::scatter;
use tocsin_core::wire::EncodedAnnouncement;

pub use self::outlets::MarketOutlets;
pub use self::stats::{MarketStats, RequestReport};

use self::connection::{Asker, Came};
use self::outlets::Outlets;
use self::stats::Problems;
use super::source::stats::SourceStats;
use super::{Pulse, Step, Turn};
use crate::net::dns::ResolverClient;
use crate::net::tls::ClientTls;
use crate::net::url::BaseUrl;
use crate::os::clock;

/// How often it looks for announcements.
const LOOK: Duration = Duration::from_millis(20);
/// What waits for time is decided, and sources of notices are listened for, so often.
const SETTLE: Duration = Duration::from_secs(2);
/// The table of volumes is made anew so often.
const VOLUMES: Duration = Duration::from_secs(60);
/// None of these more often, however fast the exchanges are simulated.
const AT_LEAST: Duration = Duration::from_millis(50);
/// What others see of it is renewed so often.
const REPORT: Duration = Duration::from_millis(500);
/// Announcements taken from one ring in one turn.
const ANNOUNCEMENTS_A_TURN: usize = 64;
/// At a stop the journal's ring gets so long to take what is left.
const STOP_PATIENCE: Duration = Duration::from_secs(2);
const SCRATCH_BYTES: usize = 64 * 1_024;

/// Where the markets of an exchange are asked for.
#[derive(Clone)]
pub struct MarketPeer {
    /// Whose.
    pub exchange: Exchange,
    /// Stands for every host of it; `None`: each source's own address.
    pub url: Option<BaseUrl>,
    /// How to check it.
    pub tls: ClientTls,
}

/// What the store knows of one request.
#[derive(Debug)]
pub struct StoredBook {
    /// Name of its source.
    pub source: &'static str,
    /// Its name.
    pub request: &'static str,
    /// As a whole.
    pub book: BookRecord,
    /// By instrument.
    pub records: Vec<InstrumentRecord>,
}

/// What a market thread is made of.
pub struct MarketParts {
    /// Knows nothing yet.
    pub watcher: Watcher,
    /// Of each exchange it watches.
    pub peers: Vec<MarketPeer>,
    /// Listings and delistings that were announced before, as far back as they explain anything, oldest first.
    pub notices: Vec<Announcement>,
    /// What the store knows.
    pub books: Vec<StoredBook>,
    /// The newest events of earlier starts, oldest first: they are not told again.
    pub told: Vec<MarketEvent>,
    /// From each source thread.
    pub announcements: Vec<Consumer<Arc<EncodedAnnouncement>>>,
    /// Sources of notices, by whose counts it learns that notices are heard.
    pub hearing: Vec<(Exchange, Arc<SourceStats>)>,
    /// Where it tells.
    pub outlets: MarketOutlets,
    /// To the resolver thread.
    pub resolver: ResolverClient,
    /// Where it counts.
    pub stats: Arc<MarketStats>,
    /// How many times faster than by default it settles and sums.
    pub speed: f64,
    /// Reads both clocks.
    pub clock: fn() -> Now,
    /// For what is spread, never for what is secret.
    pub seed: u64,
}

/// Why a market thread cannot be built.
#[derive(Debug)]
pub enum MarketError {
    /// No epoll instance.
    Poll(io::Error),
    /// A request cannot be rendered: its source and why.
    Request(&'static str, RequestError),
    /// An address of a source that is none.
    Address(&'static str),
}

impl std::fmt::Display for MarketError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            MarketError::Poll(e) => write!(f, "cannot watch sockets: {e}"),
            MarketError::Request(source, e) => write!(f, "market source {source}: {e}"),
            MarketError::Address(source) => write!(f, "market source {source} has no usable address"),
        }
    }
}

impl std::error::Error for MarketError {}

/// See the module head.
pub struct MarketThread {
    poll: Poll,
    events: Events,
    watcher: Watcher,
    asker: Asker,
    announcements: Vec<Consumer<Arc<EncodedAnnouncement>>>,
    hearing: Vec<(Exchange, Arc<SourceStats>, Option<WallUs>)>,
    outlets: Outlets,
    resolver: ResolverClient,
    problems: Problems,
    stats: Arc<MarketStats>,
    clock: fn() -> Now,
    random: u64,
    told: Told,
    scratch: Scratch,
    buffer: Box<[u8]>,
    came: Vec<Came>,
    settle_every: Duration,
    volumes_every: Duration,
    settle_at: Mono,
    volumes_at: Mono,
    report_at: Mono,
}

impl MarketThread {
    /// Takes its parts; nothing is connected before the first turn.
    ///
    /// # Errors
    /// See [`MarketError`].
    pub fn new(parts: MarketParts, now: Now) -> Result<MarketThread, MarketError> {
        let mut watcher = parts.watcher;
        let mut told = Told::default();
        // Notices first: what waited for one is then decided in their light.
        for notice in &parts.notices {
            watcher.announcement(notice, now.wall, &mut told);
        }
        for StoredBook { source, request, book, records } in parts.books {
            watcher.load(source, request, book, records);
        }
        for event in &parts.told {
            watcher.told_before(event.exchange, &event.source_item());
        }
        let asker = Asker::new(&watcher, &parts.peers)?;
        let problems = Problems::new(watcher.requests().map(|(_, spec, request)| (spec.name, request.name)));
        let faster = |span: Duration| span.div_f64(parts.speed.max(f64::MIN_POSITIVE)).max(AT_LEAST);
        let (settle_every, volumes_every) = (faster(SETTLE), faster(VOLUMES));
        Ok(MarketThread {
            poll: Poll::new().map_err(MarketError::Poll)?,
            events: Events::with_capacity(64),
            watcher,
            asker,
            announcements: parts.announcements,
            hearing: parts.hearing.into_iter().map(|(exchange, stats)| (exchange, stats, None)).collect(),
            outlets: Outlets::new(parts.outlets, Arc::clone(&parts.stats)),
            resolver: parts.resolver,
            problems,
            stats: parts.stats,
            clock: parts.clock,
            random: parts.seed,
            told,
            scratch: Scratch::default(),
            buffer: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            came: Vec::new(),
            settle_every,
            volumes_every,
            settle_at: now.mono + settle_every,
            volumes_at: now.mono + volumes_every,
            report_at: now.mono,
        })
    }

    /// Runs until `stop`, blocking in `epoll_wait` between turns.
    pub fn run(&mut self, stop: &AtomicBool, pulse: &Pulse) {
        let mut last = clock::mono();
        while !stop.load(Ordering::Relaxed) {
            let now = (self.clock)();
            pulse.beat(now.mono, now.mono.since(last).as_nanos().try_into().unwrap_or(u64::MAX));
            last = now.mono;
            let turn = self.step(now);
            if turn.work == 0 {
                self.wait(turn.deadline.since(clock::mono()).min(LOOK));
            }
        }
        self.finish((self.clock)());
    }

    fn wait(&mut self, timeout: Duration) {
        // A failed poll (a signal) is a poll that found nothing.
        if self.poll.poll(&mut self.events, Some(timeout)).is_err() {
            self.events.clear();
        }
    }

    /// Takes announcements: what they explain is settled, and what is known of their assets is told.
    fn hear(&mut self, now: Now) -> usize {
        let mut heard = 0;
        for ring in 0..self.announcements.len() {
            for _ in 0..ANNOUNCEMENTS_A_TURN {
                let Some(Ok(encoded)) = self.announcements.get_mut(ring).map(Consumer::pop) else { break };
                heard += 1;
                let announcement = &encoded.announcement;
                // Before it is noted: then what it lists is not known as listed yet. Nobody was sent a late one.
                let context = self.watcher.context(announcement, now.wall).filter(|_| !announcement.late);
                if let Some(context) = context {
                    self.outlets.context(encode_context(announcement, &context));
                }
                self.watcher.announcement(announcement, now.wall, &mut self.told);
                self.outlets.tell(&mut self.told);
            }
        }
        heard
    }

    /// Moves every connection with an event or a deadline on, and does what came of it.
    fn drive(&mut self, now: Now) -> usize {
        let registry = self.poll.registry();
        for event in &self.events {
            self.came.extend(self.asker.drive(event.token().0, registry, now.mono, &mut self.buffer));
        }
        self.events.clear();
        for host in 0..self.asker.hosts() {
            if self.asker.deadline(host) <= now.mono {
                self.came.extend(self.asker.drive(host, registry, now.mono, &mut self.buffer));
            }
        }
        let came = std::mem::take(&mut self.came);
        let work = came.len();
        for came in &came {
            match *came {
                Came::Answer(host, id) => self.answer(host, id),
                Came::Failed(id, failure, ref problem) => self.fail(id, failure, None, problem, now),
            }
        }
        self.came = came;
        self.came.clear();
        work
    }

    /// A whole answer is there.
    fn answer(&mut self, host: usize, id: RequestId) {
        let received = (self.clock)();
        let Some(answer) = self.asker.answer(host) else { return };
        self.problems.received(id, answer.body.len());
        if let Some(failure) =
            Failure::of_status(answer.status).or(answer.encoded.then_some(Failure::Unusable))
        {
            let asked = answer.retry_after.map(|after| retry_delay(after, answer.date, received.wall));
            let problem = if answer.encoded {
                "the body is encoded".to_owned()
            } else {
                format!("status {}", answer.status)
            };
            return self.fail(id, failure, asked, &problem, received);
        }
        let taken = self.watcher.answer(
            id,
            &mut self.scratch,
            answer.body,
            received.wall,
            (self.clock)().wall,
            &mut self.told,
        );
        match taken {
            Ok(report) => {
                self.watcher.answered(id, received.mono);
                self.problems.answered(id, &report);
            }
            // In so many words or not, it says that it does not want us.
            Err(error @ ParseError::Refused(_)) => {
                self.fail(id, Failure::Forbidden, None, &error.to_string(), received);
            }
            Err(error) => self.fail(id, Failure::Unusable, None, &error.to_string(), received),
        }
        self.outlets.tell(&mut self.told);
    }

    fn fail(
        &mut self,
        id: RequestId,
        failure: Failure,
        retry_after: Option<Duration>,
        problem: &str,
        now: Now,
    ) {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        // The upper half is the better one; the shift leaves 32 bits.
        let jitter = (scatter(self.random) >> 32) as u32;
        self.watcher.failed(id, now.mono, failure, retry_after, jitter);
        self.problems.failed(id, failure, problem);
    }

    /// Sends what is due, unless the disk is behind.
    fn ask(&mut self, now: Now) -> usize {
        let mut asked = 0;
        while !self.outlets.is_behind()
            && let Some(id) = self.watcher.due(now.mono)
        {
            asked += 1;
            let Some((host, _)) = self.watcher.host(id) else { break };
            self.problems.asked(id);
            let (host, registry) = (host.index(), self.poll.registry());
            self.asker.ask(host, id, registry, &mut self.resolver, now.mono);
            // What was begun is to be driven at once; what came of it is done in the next turn.
            self.came.extend(self.asker.drive(host, registry, now.mono, &mut self.buffer));
        }
        asked
    }

    /// Names that were looked up.
    fn take_lookups(&mut self, now: Now) -> usize {
        let mut taken = 0;
        while let Some(answer) = self.resolver.poll() {
            taken += 1;
            let Ok(host) = usize::try_from(answer.id) else { continue };
            self.came.extend(self.asker.resolved(host, answer.addresses, self.poll.registry(), now.mono));
        }
        taken
    }

    /// What happens on the clock.
    fn keep_time(&mut self, now: Now) {
        if now.mono >= self.settle_at {
            self.settle_at = now.mono + self.settle_every;
            for (exchange, stats, told) in &mut self.hearing {
                let heard = stats.last_poll();
                if heard > *told
                    && let Some(at) = heard
                {
                    self.watcher.heard(*exchange, at);
                    *told = heard;
                }
            }
            self.watcher.settle(now.wall, &mut self.told);
            self.outlets.tell(&mut self.told);
        }
        if now.mono >= self.volumes_at {
            self.volumes_at = now.mono + self.volumes_every;
            self.outlets.volumes(self.watcher.volumes(now.wall));
        }
        if now.mono >= self.report_at {
            self.report_at = now.mono + REPORT;
            let stats = self.watcher.stats(now.mono);
            self.stats.publish(stats.filter_map(|stats| self.problems.report(stats)).collect());
        }
    }
}

impl Step for MarketThread {
    fn step(&mut self, now: Now) -> Turn {
        // What loading decided.
        self.outlets.tell(&mut self.told);
        let work =
            self.hear(now) + self.take_lookups(now) + self.drive(now) + self.outlets.retry() + self.ask(now);
        self.keep_time(now);
        let next = if self.outlets.is_behind() { now.mono + LOOK } else { self.watcher.next_due() };
        let hosts = (0..self.asker.hosts()).map(|host| self.asker.deadline(host));
        let due = hosts.min().unwrap_or(Mono::NEVER).min(next).min(self.settle_at).min(self.report_at);
        Turn { work, deadline: due.min(now.mono + LOOK) }
    }

    /// What was told and is then known is given to the journal thread, which ends later.
    fn finish(&mut self, now: Now) {
        self.outlets.tell(&mut self.told);
        let end = now.mono + STOP_PATIENCE;
        while self.outlets.is_behind() && (self.clock)().mono < end {
            self.outlets.retry();
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
