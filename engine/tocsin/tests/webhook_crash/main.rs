//! `kill -9` at any moment while webhooks flow, restart: nothing recorded is lost, no attempt whose
//! answer was recorded is repeated, what comes twice has the same id and body, and what the API
//! answered about endpoints holds.
//!
//! The real binary, real TLS receivers of every temper, and a test that looks into the dead engine's
//! database and shared memory before the next life does. `TOCSIN_CRASH_ROUNDS` sets how often it is
//! killed, `TOCSIN_CRASH_SEED` repeats the choices of a run; instants still vary.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod api;
mod book;
#[path = "../harness/mod.rs"]
mod harness;
mod news;
mod peek;
mod shop;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use api::{Api, Whereabouts};
use book::Book;
use harness::stall::Stall;
use harness::{Engine, Mode, wait_for};
use news::{News, Random};
use peek::Peek;
use shop::{Shop, now_us};
use tocsin::store::shm::Place;
use tocsin_core::webhook::outgoing::Outcome;
use tocsin_sim::receiver::{Behaviour, ReceiverOptions, SimReceiver};

fn number_from(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

fn seed() -> u64 {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    number_from("TOCSIN_CRASH_SEED", u64::from(clock.subsec_nanos()))
}

/// A life that takes longer stands still: more than anything in it waits for by itself.
const STALLED: Duration = Duration::from_secs(180);

/// When the engine is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// Some time after it was ready.
    Anytime,
    /// A little after an announcement was answered.
    AfterAnnouncing,
    /// As soon as a receiver got something.
    AfterSending,
    /// Before it was ready.
    StartingUp,
    /// While an endpoint is added, removed, switched, or given a new secret, or an event is asked for.
    ChangingEndpoints,
    /// Not at all: it is asked to stop.
    Asked,
}

const MOMENTS: [Moment; 6] = [
    Moment::Anytime,
    Moment::AfterAnnouncing,
    Moment::AfterSending,
    Moment::StartingUp,
    Moment::ChangingEndpoints,
    Moment::Asked,
];

struct Trial {
    engine: Engine,
    shop: Shop,
    book: Book,
    random: Random,
    at: Whereabouts,
    start_up: Duration,
    kills: [u64; MOMENTS.len()],
    stall: Stall,
}

impl Trial {
    fn new(seed: u64) -> Trial {
        let dir = tempfile::tempdir().unwrap();
        let ca_file = dir.path().join("ca.pem");
        let options = ReceiverOptions { ca_file: Some(ca_file.clone()), ..ReceiverOptions::default() };
        let receiver = SimReceiver::start(options).unwrap();
        let config = format!(
            "[egress]\nallow_nets = [\"127.0.0.0/8\"]\nca_file = {ca_file:?}\nresolvers = [\"127.0.0.1:9\"]\n"
        );
        let engine = Engine::prepare(dir, Mode::Plain, &config);
        Trial {
            stall: Stall::watch(engine.config(), STALLED),
            engine,
            shop: Shop::new(receiver),
            book: Book::default(),
            random: Random::new(seed),
            at: Arc::new(Mutex::new(None)),
            start_up: Duration::from_millis(300),
            kills: [0; MOMENTS.len()],
        }
    }

    /// Starts the engine, which must become ready; what was answered before must hold.
    fn start(&mut self) -> Api {
        let from = Instant::now();
        self.engine.start_again();
        self.start_up = from.elapsed();
        let token = std::fs::read_to_string(self.engine.data_dir().join("admin.token")).unwrap();
        let api = Api { address: self.engine.admin, token: token.trim().to_owned() };
        self.shop.reconcile(&api);
        *self.at.lock().unwrap() = Some(api.clone());
        api
    }

    fn down(&self) {
        *self.at.lock().unwrap() = None;
    }

    fn kill(&mut self) {
        self.down();
        self.engine.kill();
        self.autopsy();
    }

    /// SIGTERM; everything is on disk then.
    fn stop(&mut self) {
        self.down();
        assert_eq!(self.engine.stop(), Some(0), "{}", self.engine.log());
        let peek = self.autopsy();
        assert!(peek.outcomes.is_empty() && peek.announcements == 0, "{:?}", peek.outcomes);
    }

    /// The engine is dead: compares what it had recorded with what receivers got.
    fn autopsy(&mut self) -> Peek {
        let log = self.engine.log();
        assert!(!log.contains("panicked"), "{log}");
        self.book.now_dead(now_us());
        self.shop.took_effect(now_us());
        let got = self.shop.receiver.take();
        got.iter().for_each(|request| self.book.receive(request));
        let peek = Peek::into(&self.engine.data_dir());
        self.book.acknowledge(&peek, &self.shop.paths());
        let wrong: Vec<_> = got.iter().filter_map(|request| self.shop.check(request, &self.book)).collect();
        self.book.broken.extend(wrong);
        assert!(peek.rows as usize <= self.book.may_wait(), "{} rows of deliveries", peek.rows);
        assert_eq!(peek.mails, 0, "nothing here is worth a mail");
        peek
    }

    /// One life.
    fn round(&mut self, answered: &news::Answered, content: bool) {
        let moment = MOMENTS[usize::try_from(self.random.below(MOMENTS.len() as u64)).unwrap()];
        self.kills[moment as usize] += 1;
        self.stall.at(format!("life {}, {moment:?}", self.kills.iter().sum::<u64>()));
        self.shop.script(&mut self.random, content);
        if moment == Moment::StartingUp {
            self.engine.spawn();
            std::thread::sleep(self.random.up_to(self.start_up));
            return self.kill();
        }
        let api = self.start();
        if self.random.one_in(3) {
            self.shop.change(&api, &mut self.random, &mut self.book);
            self.shop.flush(&api);
        }
        match moment {
            Moment::Asked => {
                std::thread::sleep(self.random.up_to(Duration::from_millis(300)));
                self.stop();
                if self.random.one_in(3) {
                    self.shop.rest(&self.engine.data_dir());
                }
                return;
            }
            Moment::Anytime | Moment::StartingUp => {
                std::thread::sleep(self.random.up_to(Duration::from_millis(400)));
            }
            Moment::AfterAnnouncing => {
                answered.wait_moved(Duration::from_secs(1));
                std::thread::sleep(self.random.up_to(Duration::from_millis(10)));
            }
            Moment::AfterSending => {
                std::thread::sleep(self.random.up_to(Duration::from_millis(200)));
                let before = self.shop.receiver.total();
                let give_up = Instant::now() + Duration::from_secs(1);
                while self.shop.receiver.total() == before && Instant::now() < give_up {
                    // The engine needs the core more.
                    std::thread::sleep(Duration::from_micros(50));
                }
                std::thread::sleep(self.random.up_to(Duration::from_millis(2)));
            }
            Moment::ChangingEndpoints => {
                // A change takes a few milliseconds, a registration some more.
                let longest = if self.random.one_in(3) { 60 } else { 8 };
                let pause = self.random.up_to(Duration::from_millis(longest));
                let Trial { engine, at, shop, book, random, .. } = self;
                let pid = engine.pid();
                std::thread::scope(|scope| {
                    scope.spawn(move || {
                        std::thread::sleep(pause);
                        *at.lock().unwrap() = None;
                        signal_kill(pid);
                    });
                    shop.change(&api, random, book);
                });
            }
        }
        self.kill();
    }

    /// Lets everything arrive, stops properly and checks all promises.
    fn finish(mut self, news: &mut News) {
        self.stall.at("the end");
        news.fall_silent();
        self.shop.script(&mut self.random, true);
        let taken_before = self.shop.receiver.total();
        let api = self.start();
        self.shop.everything_on(&api);
        let status = self.wait_idle(&api);
        self.book.assert_sound("while it was killed");
        self.stop();
        let count = |name: &str| status["webhooks"][name].as_u64().unwrap();
        for lost in ["ring_dropped", "shared_memory_full", "journal_dropped", "expired", "given_up"] {
            assert_eq!(count(lost), 0, "{lost}: {status}");
        }
        // Nothing was killed in this life: it counted what receivers got.
        let got = self.shop.receiver.total() - taken_before;
        assert!(count("delivered") + count("resent") <= got, "{got} requests: {status}");
        let peek = Peek::into(&self.engine.data_dir());
        assert_eq!((peek.rows, self.book.open_pairs()), (0, 0), "something still waits");
        self.book.nothing_lost(&news.answered.all(), &peek, &self.shop.expecting());
        self.book.in_order(self.shop.paths().into_values().map(|(path, _)| path));
        self.book.assert_sound("at the end");
        let kills: Vec<_> =
            MOMENTS.iter().zip(self.kills).map(|(moment, n)| format!("{moment:?} {n}")).collect();
        println!(
            "{} announcements answered, {:?}, changes {:?}, kills: {}",
            news.answered.count(),
            self.book.figures(),
            self.shop.changes,
            kills.join(", ")
        );
    }

    /// Waits until nothing waits; the first retry comes 30 s after its failure.
    fn wait_idle(&self, api: &Api) -> serde_json::Value {
        let from = Instant::now();
        let mut quiet = 0;
        loop {
            std::thread::sleep(Duration::from_millis(300));
            let status = api.succeed("GET", "/admin/v1/status", None).unwrap();
            let webhooks = &status["webhooks"];
            let idle = webhooks["pending"] == 0 && webhooks["in_flight"] == 0;
            quiet = if idle { quiet + 1 } else { 0 };
            // Gauges are published now and then.
            if quiet >= 5 {
                return status;
            }
            assert!(from.elapsed() < Duration::from_secs(150), "still waiting: {webhooks}");
        }
    }
}

/// `kill -9` without reaping: [`Engine::kill`] does that.
fn signal_kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

#[test]
fn killed_at_any_moment_no_delivery_is_lost_and_none_that_was_answered_repeated() {
    let (seed, rounds) = (seed(), number_from("TOCSIN_CRASH_ROUNDS", 25));
    println!("seed {seed}, {rounds} rounds");
    let from = Instant::now();
    let mut trial = Trial::new(seed);
    let api = trial.start();
    trial.shop.open(&api);
    trial.kill();
    let mut news = News::start(Arc::clone(&trial.at), seed ^ 0x5eed);
    for round in 0..rounds {
        // What failed in the first half comes again before the end.
        trial.round(&news.answered, round > rounds / 2);
        trial.book.assert_sound(&format!("round {round} of seed {seed}"));
        std::thread::sleep(trial.random.up_to(Duration::from_millis(80)));
    }
    trial.finish(&mut news);
    println!("in {:?}", from.elapsed());
}

/// What of a dead engine's memory is lost before the next life, to see that the checks would notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    Nothing,
    Outcomes,
    Announcements,
}

/// Killed while the disk takes nothing: all the next life knows is in shared memory.
fn killed_with_a_stalled_disk(loss: Loss) -> Vec<String> {
    let mut trial = Trial::new(1);
    let api = trial.start();
    trial.shop.open(&api);
    trial.shop.receiver.behave("/fast", vec![Behaviour::ok()]);
    let mut random = Random::new(7);
    let mut answered = vec![news::announce(&api, 1, &mut random).unwrap()];
    let expected = |announced: &news::Announced| announced.tickers.len() * 7;
    wait_for("the first deliveries", || trial.shop.receiver.total() as usize >= expected(&answered[0]) + 8);
    trial.stop();
    let api = trial.start();

    let place = Place::new(&trial.engine.data_dir()).unwrap();
    let database = rusqlite::Connection::open(trial.engine.data_dir().join("tocsin.db")).unwrap();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    answered.push(news::announce(&api, 2, &mut random).unwrap());
    let delivered = || {
        let left = place.recover_outcomes();
        let outcomes = left.iter().flat_map(|left| &left.outcomes);
        outcomes.filter(|outcome| outcome.outcome == Outcome::Delivered).count()
    };
    wait_for("outcomes in shared memory", || delivered() >= expected(&answered[1]));
    trial.kill();
    drop(database);
    match loss {
        Loss::Nothing => {}
        Loss::Outcomes => place.clear_outcomes(),
        Loss::Announcements => place.clear(),
    }

    let api = trial.start();
    answered.push(news::announce(&api, 3, &mut random).unwrap());
    trial.wait_idle(&api);
    trial.stop();
    let peek = Peek::into(&trial.engine.data_dir());
    trial.book.nothing_lost(&answered, &peek, &trial.shop.expecting());
    if loss == Loss::Nothing {
        assert_eq!(trial.book.open_pairs(), 0);
        assert!(trial.book.figures().outcomes_in_memory >= expected(&answered[1]));
    }
    trial.book.broken
}

#[test]
fn what_only_shared_memory_had_is_made_good() {
    assert_eq!(killed_with_a_stalled_disk(Loss::Nothing), Vec::<String>::new());
}

/// The checks of this file notice what they are for.
#[test]
fn without_shared_memory_attempts_are_repeated_and_announcements_lost_and_it_is_noticed() {
    let broken = killed_with_a_stalled_disk(Loss::Outcomes);
    assert!(broken.iter().any(|what| what.contains("was concluded and is sent again")), "{broken:?}");
    let broken = killed_with_a_stalled_disk(Loss::Announcements);
    assert!(broken.iter().any(|what| what.contains("was answered and is lost")), "{broken:?}");
}
