//! Killed at named points of a delivery: between every two steps from an announcement to an outcome on
//! disk. What the random moments of the crash test hit now and then is hit here each time.
//!
//! A child process (this test's own executable) lives one life of the webhook thread and the journal
//! thread, with the engine's own parts in the engine's own order, and kills itself at its point; the
//! receiver is the parent's. The next life must send what is missing and repeat nothing that was
//! recorded.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tocsin::net::egress::EgressResolver;
use tocsin::net::tls::{ClientTls, ClientTrust};
use tocsin::os::clock;
use tocsin::rings::{EndpointSetup, SourceToJournal};
use tocsin::store::Store;
use tocsin::store::shm::{OutcomeLog, OutcomeWriter, Place, Writer};
use tocsin::store::webhook::accounts::NewAccount;
use tocsin::store::webhook::deliveries::{DeliveryState, StoredEvent};
use tocsin::store::webhook::endpoints::NewEndpoint;
use tocsin::threads::Step as _;
use tocsin::threads::journal::{Inlet, Journal, WebhookInlet};
use tocsin::threads::webhook::{Bell, WebhookParts, WebhookSettings, WebhookStats, WebhookThread};
use tocsin_core::model::{
    Action, Announcement, Classification, Exchange, FeedPosition, Lang, ListingType, Ticker,
};
use tocsin_core::time::WallUs;
use tocsin_core::webhook::address::AddressPolicy;
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::endpoint::{Disabled, Mail, SavedHealth, State};
use tocsin_core::webhook::filter::EventFilter;
use tocsin_core::webhook::outgoing::RecordedOutcome;
use tocsin_core::webhook::signature::Brand;
use tocsin_core::webhook::url::EndpointUrl;
use tocsin_core::wire::{self, EncodedAnnouncement};
use tocsin_sim::receiver::{Behaviour, Received, ReceiverOptions, SimReceiver};

const CHILD: &str = "TOCSIN_TEST_WEBHOOK_CRASH_POINT";
const PATH: &str = "/hook";
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a life ends. `Nowhere` ends it properly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Point {
    /// The announcement is in shared memory, in no ring.
    Recorded,
    /// It is in the rings; nobody has heard it.
    Announced,
    /// The event is offered, nothing is written.
    Offered,
    /// The request is with the receiver, which does not answer.
    Written,
    /// The answer is read, its outcome in no memory.
    Answered,
    /// The outcome is in shared memory, in no ring.
    Remembered,
    /// It is in the journal thread's ring, not on disk.
    Told,
    /// It is on disk, and still in shared memory.
    Committed,
    /// It is on disk and released.
    Released,
    Nowhere,
}

const POINTS: [Point; 10] = [
    Point::Recorded,
    Point::Announced,
    Point::Offered,
    Point::Written,
    Point::Answered,
    Point::Remembered,
    Point::Told,
    Point::Committed,
    Point::Released,
    Point::Nowhere,
];

impl Point {
    /// Ends the life if this is its point.
    fn reached(self, here: Point) {
        if self == here {
            let own = rustix::process::getpid();
            rustix::process::kill_process(own, rustix::process::Signal::KILL).unwrap();
        }
    }

    fn comes_before(self, other: Point) -> bool {
        (self as u8) < (other as u8)
    }
}

// ---- The child ----------------------------------------------------------------------------------

/// The real journal of outcomes, which dies around the first record.
struct Log(OutcomeWriter, Point, Arc<AtomicBool>);

impl OutcomeLog for Log {
    fn append(&mut self, outcome: &RecordedOutcome) -> Option<u64> {
        self.1.reached(Point::Answered);
        let end = self.0.append(outcome);
        self.1.reached(Point::Remembered);
        self.2.store(true, Ordering::Relaxed);
        end
    }
}

fn announcement(epoch: u64, ticker: &str) -> Announcement {
    let now = clock::wall();
    Announcement {
        id: format!("binance:{ticker}"),
        position: FeedPosition { epoch, seq: 1 },
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
        notice_id: ticker.to_owned(),
        source: "binance.web".to_owned(),
        published: WallUs(now.0 - 250_000),
        received: now,
        detected: now,
        classified: now,
        effective_at: None,
    }
}

/// Both threads of one life, stepped by hand.
struct Life {
    webhook: WebhookThread,
    journal: Journal,
    stats: Arc<WebhookStats>,
    heard: rtrb::Producer<Arc<EncodedAnnouncement>>,
    to_journal: rtrb::Producer<SourceToJournal>,
    shm: Writer,
    recorded: Arc<AtomicBool>,
    epoch: u64,
    _resolver: EgressResolver,
    /// Keeps what is released in its stead.
    _other: tempfile::TempDir,
}

impl Life {
    fn start(data_dir: &Path, ca_file: &Path, point: Point) -> Life {
        let mut store = Store::open(data_dir).unwrap();
        let epoch = store.next_epoch().unwrap();
        let master = store.master_key().unwrap();
        let start = store.start_webhooks(&master.id_key()).unwrap();
        let policy = Arc::new(policy());
        let setups = store.load_endpoints().unwrap().into_iter().map(|record| {
            let setup = EndpointSetup {
                id: record.id,
                url: EndpointUrl::parse(&record.url, &policy).unwrap(),
                secret: master.open(record.id, &record.secret).unwrap(),
                previous: None,
                filter: record.filter,
            };
            (setup, record.health)
        });
        let bell = Bell::new().unwrap();
        let nobody = ([127, 0, 0, 1], 9).into();
        let (resolver, client) = EgressResolver::start(&[nobody], bell.waker()).unwrap();
        let (shm, committer) = store.place().create(0).unwrap();
        let (outcomes, outcomes_end) = store.place().create_outcomes().unwrap();
        // At `Committed` the release goes elsewhere.
        let other = tempfile::tempdir().unwrap();
        let (_, elsewhere) = Place::on(other.path(), data_dir).unwrap().create_outcomes().unwrap();
        let (heard, hears) = rtrb::RingBuffer::new(64);
        let (_, commands) = rtrb::RingBuffer::new(1);
        let (tells, told) = rtrb::RingBuffer::new(64);
        let (to_journal, ring) = rtrb::RingBuffer::new(64);
        let (recorded, stats) = (Arc::<AtomicBool>::default(), Arc::<WebhookStats>::default());
        let parts = WebhookParts {
            bell,
            endpoints: setups.collect(),
            start,
            announcements: vec![hears],
            market: None,
            commands,
            journal: tells,
            log: Box::new(Log(outcomes, point, Arc::clone(&recorded))),
            resolver: client,
            tls: ClientTls::new(&ClientTrust { ca_file: Some(ca_file.to_owned()), insecure: false }).unwrap(),
            policy,
            id_key: master.id_key(),
            settings: WebhookSettings { brand: Brand::default(), self_healing: true, max_in_flight: 64 },
            stats: Arc::clone(&stats),
            clock: clock::now,
            seed: 3,
        };
        let webhook = WebhookThread::new(parts, clock::now());
        let (_, requests) = crossbeam::channel::bounded(1);
        let inlets = vec![Inlet { ring, shm: committer }];
        let shm_end = if point == Point::Committed { elsewhere } else { outcomes_end };
        let journal =
            Journal::new(store, inlets, requests).with_webhook(WebhookInlet { ring: told, shm: shm_end });
        Life {
            webhook,
            journal,
            stats,
            heard,
            to_journal,
            shm,
            recorded,
            epoch,
            _resolver: resolver,
            _other: other,
        }
    }

    fn step(&mut self) {
        if self.webhook.step(clock::now()).work == 0 {
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Announces `ticker` and lives until the first outcome or the point.
    fn run(mut self, ticker: &str, point: Point, event_on_disk: bool) {
        let encoded = Arc::new(wire::encode(announcement(self.epoch, ticker)));
        let shm_position = self.shm.append(&encoded);
        point.reached(Point::Recorded);
        self.heard.push(Arc::clone(&encoded)).unwrap();
        self.to_journal.push(SourceToJournal::Announcement { announcement: encoded, shm_position }).unwrap();
        point.reached(Point::Announced);
        // No connection stands yet: in its first turn the attempt only begins to connect.
        self.webhook.step(clock::now());
        point.reached(Point::Offered);
        if event_on_disk {
            self.journal.step(clock::now());
        }
        let end = Instant::now() + PATIENCE;
        while !self.recorded.load(Ordering::Relaxed) && Instant::now() < end {
            self.step();
        }
        // A change of health follows its outcome.
        self.step();
        point.reached(Point::Told);
        if point == Point::Committed || point == Point::Released {
            self.journal.step(clock::now());
            point.reached(point);
        }
        self.webhook.finish(clock::now());
        self.journal.finish(clock::now());
    }

    /// Lives until nothing is under way and nothing waits for its first attempt, and ends properly.
    fn settle(mut self, ticker: &str) {
        let encoded = Arc::new(wire::encode(announcement(self.epoch, ticker)));
        let shm_position = self.shm.append(&encoded);
        self.heard.push(Arc::clone(&encoded)).unwrap();
        self.to_journal.push(SourceToJournal::Announcement { announcement: encoded, shm_position }).unwrap();
        let from = Instant::now();
        // Behind all that waited. An endpoint that is off gets nothing however long that takes.
        let done = |life: &Life| {
            let stats = &life.stats;
            let off = stats.delivered.load(Ordering::Relaxed) == 0 && from.elapsed() > Duration::from_secs(2);
            life.recorded.load(Ordering::Relaxed) || off
        };
        while !done(&self) && from.elapsed() < PATIENCE {
            self.step();
            self.journal.step(clock::now());
        }
        self.webhook.finish(clock::now());
        self.journal.finish(clock::now());
    }
}

fn policy() -> AddressPolicy {
    AddressPolicy::new(vec!["127.0.0.0/8".parse().unwrap()], Vec::new())
}

/// The child's whole life; does nothing when run as a test.
#[test]
fn child_process() {
    let Some(told) = std::env::var_os(CHILD) else { return };
    let told = told.into_string().unwrap();
    let [point, event_on_disk, ticker, data_dir, ca_file] =
        told.splitn(5, ' ').collect::<Vec<_>>().try_into().unwrap();
    let point = POINTS[point.parse::<usize>().unwrap()];
    let life = Life::start(Path::new(data_dir), Path::new(ca_file), point);
    match ticker {
        "LAST" => life.settle(ticker),
        _ => life.run(ticker, point, event_on_disk == "true"),
    }
}

// ---- The parent ---------------------------------------------------------------------------------

/// A data directory with one verified endpoint, and its receiver.
struct Case {
    dir: tempfile::TempDir,
    receiver: SimReceiver,
    endpoint: EndpointId,
}

impl Case {
    fn new(failures: u8) -> Case {
        let dir = tempfile::tempdir().unwrap();
        let ca_file = Some(dir.path().join("ca.pem"));
        let receiver = SimReceiver::start(ReceiverOptions { ca_file, ..ReceiverOptions::default() }).unwrap();
        let mut store = Store::open(&dir.path().join("data")).unwrap();
        let now = clock::wall();
        let (name, email, plan) = ("Desk".to_owned(), "desk@example.com".to_owned(), "phantom".to_owned());
        let (account, _token) = store.create_account(&NewAccount { name, email, plan }, now).unwrap();
        let url = EndpointUrl::parse(&receiver.url(PATH), &policy()).unwrap().to_string();
        let new =
            NewEndpoint { account: account.id, label: String::new(), url, filter: EventFilter::default() };
        let master = store.master_key().unwrap();
        let (record, _secret) = store.register_endpoint(&new, now, &master).unwrap();
        let health = SavedHealth { state: State::Active, since: now, failures, slow: false };
        store.save_health(record.id, &health, Some(now)).unwrap();
        Case { dir, receiver, endpoint: record.id }
    }

    fn data_dir(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }

    fn spawn(&self, ticker: &str, point: Point, event_on_disk: bool) -> Child {
        let ca_file = self.dir.path().join("ca.pem");
        let (data_dir, ca_file) = (self.data_dir().display().to_string(), ca_file.display().to_string());
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_process", "--nocapture", "--test-threads=1"])
            .env(CHILD, format!("{} {event_on_disk} {ticker} {data_dir} {ca_file}", point as usize))
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// A life that announces `ticker`, whose request is answered so, and ends at its point.
    fn live(&self, ticker: &str, point: Point, event_on_disk: bool, answer: Behaviour) {
        let got = self.receiver.total_on(PATH);
        let answer = if point == Point::Written { Behaviour::silent() } else { answer };
        self.receiver.behave(PATH, vec![answer]);
        let mut child = self.spawn(ticker, point, event_on_disk);
        if point == Point::Written {
            assert!(self.receiver.wait_for_on(PATH, got + 1, PATIENCE));
            child.kill().unwrap();
        }
        let status = child.wait().unwrap();
        let killed = std::os::unix::process::ExitStatusExt::signal(&status) == Some(9);
        assert_eq!(killed, point != Point::Nowhere, "{point:?}: {status}");
    }

    /// A life that sends what waits, and one event more.
    fn settle(&self) {
        self.receiver.behave(PATH, vec![Behaviour::ok()]);
        let status = self.spawn("LAST", Point::Nowhere, false).wait().unwrap();
        assert!(status.success(), "{status}");
    }

    /// What came of one ticker.
    fn copies(&self, ticker: &str) -> Vec<Received> {
        let symbol = format!("{ticker}USDT");
        let of_ticker = |r: &Received| r.json().unwrap()["symbol"] == symbol.as_str();
        self.receiver.records_on(PATH).into_iter().filter(of_ticker).collect()
    }

    fn store(&self) -> Store {
        Store::open(&self.data_dir()).unwrap()
    }

    /// The stored event of a ticker and how far it has come. The database must be sound.
    fn stored(&self, ticker: &str) -> (StoredEvent, Option<DeliveryState>) {
        let database = rusqlite::Connection::open(self.data_dir().join("tocsin.db")).unwrap();
        let sound: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(sound, "ok");
        let reader = self.store().reader().unwrap();
        let symbol = format!("\"{ticker}USDT\"");
        let of_ticker = |event: &StoredEvent| String::from_utf8_lossy(&event.outgoing.body).contains(&symbol);
        let mut all = reader.events(None, None, 100).unwrap();
        all.retain(of_ticker);
        assert_eq!(all.len(), 1, "{ticker} has one event: {all:?}");
        let event = all.remove(0);
        let delivery = reader.delivery(self.endpoint, event.number).unwrap();
        (event, delivery)
    }

    fn health(&self) -> SavedHealth {
        self.store().load_endpoints().unwrap()[0].health
    }

    fn mails(&self) -> Vec<Mail> {
        let far = WallUs(clock::wall().0 + 86_400_000_000);
        self.store().reader().unwrap().due_mail(far, 10).unwrap().iter().map(|mail| mail.mail).collect()
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        let place = Place::new(&self.data_dir()).unwrap();
        place.clear();
        place.clear_outcomes();
    }
}

/// Same id, same body, and the body is what is stored.
fn all_alike(copies: &[Received], event: &StoredEvent, case: &str) {
    for copy in copies {
        assert_eq!(copy.event_id().unwrap(), event.outgoing.id.to_string(), "{case}");
        assert_eq!(copy.body, event.outgoing.body, "{case}");
    }
}

#[test]
fn killed_at_any_point_of_a_delivery() {
    for point in POINTS {
        for event_on_disk in [false, true] {
            if event_on_disk && point.comes_before(Point::Written) {
                continue;
            }
            let case = format!("{point:?}, event on disk: {event_on_disk}");
            let world = Case::new(0);
            world.live("NEWC", point, event_on_disk, Behaviour::ok());
            let before = world.copies("NEWC").len();
            assert_eq!(before, usize::from(!point.comes_before(Point::Written)), "{case}: so far");
            world.settle();
            let copies = world.copies("NEWC");
            // Only what was under way and not recorded comes twice.
            let expected = if matches!(point, Point::Written | Point::Answered) { 2 } else { 1 };
            assert_eq!(copies.len(), expected, "{case}");
            assert!(copies.iter().all(|copy| copy.attempt() == Some(1)), "{case}");
            let (event, delivery) = world.stored("NEWC");
            all_alike(&copies, &event, &case);
            assert_eq!(delivery, Some(DeliveryState::Concluded), "{case}");
            let (last, delivery) = world.stored("LAST");
            assert_eq!((world.copies("LAST").len(), delivery), (1, Some(DeliveryState::Concluded)), "{case}");
            assert!(event.number < last.number, "{case}");
        }
    }
}

#[test]
fn killed_at_any_point_after_an_answer_that_is_no_success() {
    for (status, refused) in [(503, false), (404, true)] {
        for point in [Point::Answered, Point::Remembered, Point::Told, Point::Committed, Point::Released] {
            let case = format!("{status}, {point:?}");
            let world = Case::new(0);
            world.live("NEWC", point, false, Behaviour::status(status));
            world.settle();
            let copies = world.copies("NEWC");
            let (event, delivery) = world.stored("NEWC");
            all_alike(&copies, &event, &case);
            if point == Point::Answered {
                // Not recorded: the same attempt again.
                assert_eq!(copies.len(), 2, "{case}");
                assert!(copies.iter().all(|copy| copy.attempt() == Some(1)), "{case}");
                assert_eq!(delivery, Some(DeliveryState::Concluded), "{case}");
                continue;
            }
            assert_eq!(copies.len(), 1, "{case}");
            match delivery {
                Some(DeliveryState::Concluded) => assert!(refused, "{case}"),
                Some(DeliveryState::Retrying { attempt: 2, due }) => {
                    assert!(!refused, "{case}");
                    let after = due.micros_since(copies[0].at);
                    assert!(after >= 29_900_000, "{case}: its retry waits for {after} us");
                }
                other => panic!("{case}: {other:?}"),
            }
        }
    }
}

/// What is left between a commit and the removal of the file it was read from: both are there.
#[test]
fn a_start_killed_before_it_removed_what_it_had_committed() {
    for point in [Point::Remembered, Point::Told, Point::Committed] {
        let world = Case::new(0);
        world.live("NEWC", point, false, Behaviour::ok());
        let place = Place::new(&world.data_dir()).unwrap();
        let announcements = place.recover().into_iter().map(|left| left.path);
        let outcomes = place.recover_outcomes();
        assert_eq!(outcomes.iter().map(|left| left.outcomes.len()).sum::<usize>(), 1, "{point:?}");
        let files: Vec<_> = announcements
            .chain(outcomes.into_iter().map(|left| left.path))
            .map(|path| (std::fs::read(&path).unwrap(), path))
            .collect();
        assert_eq!(files.len(), 2, "{point:?}");
        for _ in 0..2 {
            let mut store = world.store();
            let key = store.master_key().unwrap().id_key();
            let start = store.start_webhooks(&key).unwrap();
            assert!(start.pending.is_empty() && start.asked.is_empty(), "{point:?}: {start:?}");
            drop(store);
            assert!(place.recover().is_empty() && place.recover_outcomes().is_empty());
            for (bytes, path) in &files {
                std::fs::write(path, bytes).unwrap();
            }
        }
        world.settle();
        assert_eq!(world.copies("NEWC").len(), 1, "{point:?}");
        assert_eq!(world.stored("NEWC").1, Some(DeliveryState::Concluded), "{point:?}");
    }
}

#[test]
fn killed_around_the_commit_of_a_change_of_health_and_its_mail() {
    let disabled = State::Disabled(Disabled::Auto);
    for point in [Point::Told, Point::Committed, Point::Released] {
        // The third failure in a row disables it.
        let world = Case::new(2);
        world.live("NEWC", point, false, Behaviour::status(404));
        assert_eq!(world.copies("NEWC").len(), 1);
        if point == Point::Told {
            // The failure is recorded, the change is not: neither half of it.
            assert_eq!((world.health().state, world.health().failures), (State::Active, 2));
            assert_eq!(world.mails(), []);
            // The next failure makes it.
            world.live("NEXT", Point::Nowhere, false, Behaviour::status(404));
            assert_eq!(world.copies("NEWC").len(), 1, "a recorded failure is not repeated");
            assert_eq!(world.stored("NEWC").1, Some(DeliveryState::Concluded));
        }
        assert_eq!(world.health().state, disabled, "{point:?}");
        assert_eq!(world.mails(), [Mail::AutoDisabled], "{point:?}");
        world.settle();
        assert_eq!(world.health().state, disabled, "{point:?}");
        assert_eq!(world.mails(), [Mail::AutoDisabled], "{point:?}: told once");
        // Held, not lost.
        assert_eq!(world.stored("LAST").1, Some(DeliveryState::Waiting), "{point:?}");
        assert!(world.copies("LAST").is_empty(), "{point:?}");
    }
}

/// An event that its owner asked for again waits in the store; the next life sends it.
#[test]
fn what_was_asked_for_is_sent_by_the_next_life() {
    let world = Case::new(0);
    world.live("NEWC", Point::Nowhere, false, Behaviour::ok());
    let (event, delivery) = world.stored("NEWC");
    assert_eq!(delivery, Some(DeliveryState::Concluded));
    assert_eq!(world.store().redeliver(world.endpoint, &[event.number]).unwrap(), 1);
    world.settle();
    let copies = world.copies("NEWC");
    all_alike(&copies, &event, "asked");
    assert_eq!(copies.len(), 2);
    assert_eq!(world.stored("NEWC").1, Some(DeliveryState::Concluded));
    world.live("MORE", Point::Nowhere, false, Behaviour::ok());
    assert_eq!(world.copies("NEWC").len(), 2, "and once");
}

/// Without what lies in shared memory an answered attempt is repeated and an announcement is lost: so
/// the tests above would see it if recovery did nothing.
#[test]
fn without_recovery_the_checks_fail() {
    let world = Case::new(0);
    world.live("NEWC", Point::Remembered, true, Behaviour::ok());
    Place::new(&world.data_dir()).unwrap().clear_outcomes();
    world.settle();
    assert_eq!(world.copies("NEWC").len(), 2, "repeated although it was answered");

    let world = Case::new(0);
    world.live("NEWC", Point::Recorded, false, Behaviour::ok());
    Place::new(&world.data_dir()).unwrap().clear();
    world.settle();
    assert!(world.copies("NEWC").is_empty(), "lost although it was recorded");
}
