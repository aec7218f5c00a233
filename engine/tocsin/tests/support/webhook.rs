//! A webhook thread stepped by hand, with the far ends of its rings and a clock that can be moved on.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tocsin::net::egress::EgressResolver;
use tocsin::net::tls::{ClientTls, ClientTrust};
use tocsin::os::clock;
use tocsin::rings::{
    AttemptReport, EndpointReport, EndpointSetup, MarketToWebhook, ToWebhook, WebhookToJournal,
};
use tocsin::store::shm::OutcomeLog;
use tocsin::store::webhook::deliveries::{AttemptRecord, WebhookStart};
use tocsin::threads::Step;
use tocsin::threads::webhook::{Bell, WebhookParts, WebhookSettings, WebhookStats, WebhookThread};
use tocsin_core::limits;
use tocsin_core::model::{
    Action, Announcement, Classification, Exchange, FeedPosition, Lang, ListingType, Ticker,
};
use tocsin_core::time::{Mono, Now, WallUs};
use tocsin_core::webhook::address::AddressPolicy;
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::dispatcher::Refusal;
use tocsin_core::webhook::endpoint::{SavedHealth, State};
use tocsin_core::webhook::event::IdKey;
use tocsin_core::webhook::filter::EventFilter;
use tocsin_core::webhook::outgoing::RecordedOutcome;
use tocsin_core::webhook::schedule::scatter;
use tocsin_core::webhook::signature::{Brand, Secret};
use tocsin_core::webhook::url::EndpointUrl;
use tocsin_core::wire::{self, EncodedAnnouncement};
use tokio::sync::oneshot;

thread_local! {
    static AHEAD: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static MONO_AHEAD: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// The clocks of this machine, moved on by [`WebhookRig::pass`].
fn moved_clock() -> Now {
    let (now, ahead) = (clock::now(), AHEAD.get());
    let micros = i64::try_from(ahead.as_micros()).unwrap();
    Now { mono: now.mono + ahead + MONO_AHEAD.get(), wall: WallUs(now.wall.0 + micros) }
}

/// How far the monotonic clock must be moved so that the longest time without a health ping of the
/// first so many endpoints has just begun: else one would come into a test once in so many runs.
fn until_no_ping(endpoints: u64, now: Mono) -> Duration {
    let period = limits::WEBHOOK_PING_PERIOD.as_nanos() as u64;
    let mut pings: Vec<u64> = (1..=endpoints).map(|key| scatter(key) % period).collect();
    pings.sort_unstable();
    let next = |at: usize| pings.get(at + 1).copied().unwrap_or(pings[0] + period);
    let longest = (0..pings.len()).max_by_key(|at| next(*at) - pings[*at]).unwrap();
    Duration::from_nanos((pings[longest] + 1_000_000_000 + period - now.0 % period) % period)
}

/// Remembers what it is given.
#[derive(Clone, Default)]
struct Outcomes(Arc<Mutex<Vec<RecordedOutcome>>>);

impl OutcomeLog for Outcomes {
    fn append(&mut self, outcome: &RecordedOutcome) -> Option<u64> {
        let mut all = self.0.lock();
        all.push(*outcome);
        Some(all.len() as u64)
    }
}

/// Where names are resolved and whom to trust.
pub struct Surroundings<'a> {
    /// Name servers; a closed port where the test names none.
    pub resolvers: &'a [SocketAddr],
    /// Networks that are allowed.
    pub allow: &'a [&'a str],
    /// Addresses that are this machine's.
    pub own: &'a [IpAddr],
    /// Of the receivers' certificates.
    pub ca_file: Option<&'a Path>,
}

impl Default for Surroundings<'_> {
    fn default() -> Self {
        Surroundings { resolvers: &[], allow: &["127.0.0.0/8"], own: &[], ca_file: None }
    }
}

pub struct WebhookRig {
    pub thread: WebhookThread,
    pub announcements: rtrb::Producer<Arc<EncodedAnnouncement>>,
    pub market: rtrb::Producer<MarketToWebhook>,
    pub commands: rtrb::Producer<ToWebhook>,
    pub journal: rtrb::Consumer<WebhookToJournal>,
    pub stats: Arc<WebhookStats>,
    pub policy: Arc<AddressPolicy>,
    /// What the journal thread got.
    pub rows: Vec<WebhookToJournal>,
    outcomes: Outcomes,
    next_endpoint: u64,
    next_seq: u64,
    _resolver: EgressResolver,
}

/// The secret of every endpoint of a rig. Generated for tests.
pub fn secret() -> Secret {
    Secret::from_random([7; 32])
}

impl WebhookRig {
    pub fn new(around: &Surroundings<'_>) -> WebhookRig {
        AHEAD.set(Duration::ZERO);
        MONO_AHEAD.set(until_no_ping(1, clock::now().mono));
        let bell = Bell::new().unwrap();
        let nobody: SocketAddr = ([127, 0, 0, 1], 9).into();
        let servers = if around.resolvers.is_empty() { &[nobody][..] } else { around.resolvers };
        let (resolver, client) = EgressResolver::start(servers, bell.waker()).unwrap();
        let (announcements, hears) = rtrb::RingBuffer::new(1_024);
        let (market, hears_market) = rtrb::RingBuffer::new(64);
        let (commands, obeys) = rtrb::RingBuffer::new(4_096);
        let (tells, journal) = rtrb::RingBuffer::new(65_536);
        let allow = around.allow.iter().map(|net| net.parse().unwrap()).collect();
        let policy = Arc::new(AddressPolicy::new(allow, around.own.to_vec()));
        let ca_file = around.ca_file.map(Path::to_owned);
        let (outcomes, stats) = (Outcomes::default(), Arc::new(WebhookStats::default()));
        let parts = WebhookParts {
            bell,
            endpoints: Vec::new(),
            start: WebhookStart::default(),
            announcements: vec![hears],
            market: Some(hears_market),
            commands: obeys,
            journal: tells,
            log: Box::new(outcomes.clone()),
            resolver: client,
            tls: ClientTls::new(&ClientTrust { ca_file, insecure: false }).unwrap(),
            policy: Arc::clone(&policy),
            id_key: IdKey::new(&[5; 32]),
            settings: WebhookSettings { brand: Brand::default(), self_healing: true, max_in_flight: 4_096 },
            stats: Arc::clone(&stats),
            clock: moved_clock,
            seed: 11,
        };
        let thread = WebhookThread::new(parts, moved_clock());
        WebhookRig {
            thread,
            announcements,
            market,
            commands,
            journal,
            stats,
            policy,
            rows: Vec::new(),
            outcomes,
            next_endpoint: 1,
            next_seq: 1,
            _resolver: resolver,
        }
    }

    /// One turn; takes what the journal thread gets, and rests a moment when there was nothing to do.
    pub fn step(&mut self) {
        let turn = self.thread.step(moved_clock());
        self.rows.extend(std::iter::from_fn(|| self.journal.pop().ok()));
        if turn.work == 0 {
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Steps until `done`; fails after 20 s.
    #[track_caller]
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&mut WebhookRig) -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !done(self) {
            assert!(Instant::now() < end, "{what}: not within 20 s; {:?}", self.attempts());
            self.step();
        }
    }

    /// Steps for so long.
    pub fn run_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.step();
        }
    }

    /// Moves the clock on.
    pub fn pass(&mut self, time: Duration) {
        AHEAD.set(AHEAD.get() + time);
    }

    /// Moves the monotonic clock alone to where the first so many endpoints are not pinged for a while.
    /// For one endpoint, and nearly five minutes, that is done at the start.
    pub fn quiet(&mut self, endpoints: u64) {
        MONO_AHEAD.set(MONO_AHEAD.get() + until_no_ping(endpoints, moved_clock().mono));
    }

    pub fn now(&self) -> Now {
        moved_clock()
    }

    /// Adds an endpoint; its number and what will tell of its verification ping.
    pub fn add(
        &mut self,
        url: &str,
        filter: EventFilter,
    ) -> (EndpointId, oneshot::Receiver<Result<AttemptReport, Refusal>>) {
        let id = EndpointId(self.next_endpoint);
        self.next_endpoint += 1;
        let setup = EndpointSetup {
            id,
            url: EndpointUrl::parse(url, &self.policy).unwrap(),
            secret: secret(),
            previous: None,
            filter,
        };
        let (reply, answer) = oneshot::channel();
        self.commands.push(ToWebhook::Add(Box::new(setup), reply)).unwrap();
        (id, answer)
    }

    /// Adds an endpoint and steps until its verification has ended.
    #[track_caller]
    pub fn register(&mut self, url: &str) -> (EndpointId, AttemptReport) {
        let (id, mut answer) = self.add(url, EventFilter::default());
        let mut report = None;
        self.until("verification", |_| {
            report = answer.try_recv().ok();
            report.is_some()
        });
        (id, report.unwrap().unwrap())
    }

    /// As [`WebhookRig::register`], for one that must come out active.
    #[track_caller]
    pub fn register_active(&mut self, url: &str) -> EndpointId {
        let (id, report) = self.register(url);
        assert_eq!(report.state, State::Active, "{report:?}");
        id
    }

    /// Asks the thread something and steps until it answers.
    #[track_caller]
    pub fn ask<T>(&mut self, command: impl FnOnce(oneshot::Sender<T>) -> ToWebhook) -> T {
        let (reply, mut answer) = oneshot::channel();
        self.commands.push(command(reply)).unwrap();
        let mut got = None;
        self.until("an answer", |_| {
            got = answer.try_recv().ok();
            got.is_some()
        });
        got.unwrap()
    }

    /// What the thread says of an endpoint.
    #[track_caller]
    pub fn report(&mut self, id: EndpointId) -> EndpointReport {
        self.ask(|reply| ToWebhook::Report(vec![id], reply)).remove(0)
    }

    /// Steps until an endpoint has so many idle connections.
    #[track_caller]
    pub fn idle(&mut self, id: EndpointId, connections: usize) {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let idle = self.report(id).connections;
            if idle == connections {
                return;
            }
            assert!(Instant::now() < end, "{idle} connections are idle and not {connections}");
        }
    }

    /// Steps until it has as many as are kept warm.
    #[track_caller]
    pub fn warm(&mut self, id: EndpointId) {
        self.idle(id, usize::from(limits::WEBHOOK_WARM_CONNECTIONS));
    }

    /// An announcement of a spot listing goes to the thread.
    pub fn announce(&mut self, ticker: &str) {
        let encoded = self.announcement(ticker);
        self.announcements.push(encoded).unwrap();
    }

    pub fn announcement(&mut self, ticker: &str) -> Arc<EncodedAnnouncement> {
        let now = moved_clock().wall;
        let seq = self.next_seq;
        self.next_seq += 1;
        Arc::new(wire::encode(Announcement {
            id: format!("binance:{seq}"),
            position: FeedPosition { epoch: 1, seq },
            exchange: Exchange::Binance,
            title: format!("Binance Will List {ticker}"),
            classification: Classification {
                listing_type: ListingType::SpotListing,
                tickers: vec![Ticker::new(ticker).unwrap()],
                markets: Vec::new(),
                rule: "test",
                confidence: 100,
                lang: Lang::En,
            },
            action: Action::Created,
            late: false,
            url: String::new(),
            notice_id: seq.to_string(),
            source: "binance.web".into(),
            published: WallUs(now.0 - 250_000),
            received: now,
            detected: now,
            classified: now,
            effective_at: None,
        }))
    }

    /// What the thread put into shared memory.
    pub fn outcomes(&self) -> Vec<RecordedOutcome> {
        self.outcomes.0.lock().clone()
    }

    /// The lines of the delivery log so far.
    pub fn attempts(&self) -> Vec<AttemptRecord> {
        let line = |row: &WebhookToJournal| match row {
            WebhookToJournal::Attempt(record) => Some((**record).clone()),
            _ => None,
        };
        self.rows.iter().filter_map(line).collect()
    }

    /// The healths given to the journal thread, in order.
    pub fn healths(&self) -> Vec<(EndpointId, SavedHealth)> {
        let health = |row: &WebhookToJournal| match row {
            WebhookToJournal::Health { endpoint, health, .. } => Some((*endpoint, *health)),
            _ => None,
        };
        self.rows.iter().filter_map(health).collect()
    }

    pub fn mono(&self) -> Mono {
        moved_clock().mono
    }
}
