//! `kill -9` at any moment, restart: no announcement that was published meanwhile is missing from
//! history, none is broadcast twice, every one reaches the webhook endpoints under one event id, keys and
//! revocations hold. That is the whole engine; what of webhooks may go wrong in more ways is in
//! `webhook_crash`.
//!
//! The real binary against simulated exchanges that publish all the time. `TOCSIN_CRASH_ROUNDS` sets
//! how often it is killed, `TOCSIN_CRASH_SEED` repeats the choices of a run; instants still vary.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../harness/mod.rs"]
mod harness;
mod hooks;
mod observer;
mod verdict;
mod world;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use harness::stall::Stall;
use harness::{Engine, Handshake, Mode, wait_for};
use hooks::Hooks;
use observer::{Habit, Observer, Whereabouts};
use world::{Random, World};

/// A life that takes longer stands still: more than anything in it waits for by itself.
const STALLED: Duration = Duration::from_secs(180);

const HABITS: [Habit; 3] = [Habit::Basic, Habit::Full, Habit::Resuming];

fn number_from(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

fn seed() -> u64 {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    number_from("TOCSIN_CRASH_SEED", u64::from(clock.subsec_nanos()))
}

/// When the engine is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// Some time after it was ready.
    Anytime,
    /// A little after an exchange published something.
    AfterPublishing,
    /// As soon as a subscriber was told something.
    AfterTelling,
    /// Before it was ready.
    StartingUp,
    /// While a key is made or revoked.
    ChangingKeys,
    /// Not at all: it is asked to stop.
    Asked,
}

const MOMENTS: [Moment; 6] = [
    Moment::Anytime,
    Moment::AfterPublishing,
    Moment::AfterTelling,
    Moment::StartingUp,
    Moment::ChangingKeys,
    Moment::Asked,
];

/// A key whose state is known for sure.
struct KnownKey {
    id: i64,
    text: String,
    revoked: bool,
}

struct Trial {
    engine: Engine,
    /// Configurations that take turns: what one leaves behind the next must find.
    configs: Vec<String>,
    turn: usize,
    world: World,
    /// Endpoints, in the trials that have some.
    hooks: Option<Hooks>,
    random: Random,
    at: Whereabouts,
    observers: Vec<Observer>,
    keys: Vec<KnownKey>,
    epoch: u64,
    start_up: Duration,
    recovered: u64,
    kills: [u64; MOMENTS.len()],
    checks: u8,
    stall: Stall,
    /// The longest life so far, and which it was.
    slowest: (Duration, String),
}

impl Trial {
    fn new(mode: Mode, seed: u64, topologies: &[&str], hooks: Option<Hooks>) -> Trial {
        let world = World::start(mode);
        let dir = tempfile::tempdir().unwrap();
        let sources = world.config(dir.path());
        let egress = hooks.as_ref().map_or("", Hooks::config);
        let config = |topology: &&str| {
            format!("{topology}\n[feed.limits]\nexempt = [\"127.0.0.0/8\"]\n{sources}{egress}")
        };
        let configs: Vec<String> = topologies.iter().map(config).collect();
        let engine = Engine::prepare(dir, mode, &configs[0]);
        Trial {
            stall: Stall::watch(engine.config(), STALLED),
            slowest: Default::default(),
            engine,
            configs,
            turn: 0,
            world,
            hooks,
            random: Random::new(seed),
            at: Arc::new(Mutex::new(None)),
            observers: Vec::new(),
            keys: Vec::new(),
            epoch: 0,
            start_up: Duration::from_millis(300),
            recovered: 0,
            kills: [0; MOMENTS.len()],
            checks: 0,
        }
    }

    /// Starts the engine, which must become ready, and lets the subscribers in.
    fn start(&mut self) {
        let from = Instant::now();
        self.engine.start_again();
        self.start_up = from.elapsed();
        assert!(self.engine.epoch > self.epoch, "epoch {} after {}", self.engine.epoch, self.epoch);
        self.epoch = self.engine.epoch;
        *self.at.lock().unwrap() = Some(self.engine.feed);
        for (kind, first_start) in verdict::first_starts(&verdict::open(&self.engine.data_dir())) {
            self.world.ledger.forgive(kind, first_start);
        }
        if self.observers.is_empty() {
            self.subscribe();
        }
        self.check_keys();
    }

    fn subscribe(&mut self) {
        for habit in HABITS {
            let (key, at) = (self.engine.key(), Arc::clone(&self.at));
            let ledger = Arc::clone(&self.world.ledger);
            self.observers.push(Observer::start(habit, key, self.engine.mode, at, ledger));
        }
    }

    /// The latest changes of keys hold.
    fn check_keys(&mut self) {
        let from = self.keys.len().saturating_sub(4);
        for key in &self.keys[from..] {
            // Refused attempts count by address.
            self.checks = self.checks % 250 + 1;
            let handshake = Handshake::new("").from(&format!("127.0.7.{}", self.checks));
            let status = match handshake.header("X-API-Key", &key.text).connect(&self.engine) {
                Ok(_) => 101,
                Err(refusal) => {
                    assert!(!key.revoked || refusal.json()["error"] == "key_revoked", "{refusal:?}");
                    refusal.status
                }
            };
            assert_eq!(status, if key.revoked { 403 } else { 101 }, "key {}", key.id);
        }
    }

    /// Kills the engine, which may be at any point.
    fn kill(&mut self) {
        *self.at.lock().unwrap() = None;
        self.engine.kill();
        self.note_recovered();
        self.hooks.iter_mut().for_each(Hooks::take);
    }

    /// Announcements the life that ended had found in shared memory.
    fn note_recovered(&mut self) {
        let log = self.engine.log();
        let taken_over = log.lines().filter(|line| line.contains("took over the shared-memory journal"));
        let numbers = taken_over.filter_map(|line| {
            line.split("announcements=")
                .nth(1)?
                .split(|c: char| !c.is_ascii_digit())
                .next()?
                .parse::<u64>()
                .ok()
        });
        self.recovered += numbers.sum::<u64>();
        assert!(!log.contains("panicked"), "{log}");
    }

    /// One life, which ends by `kill -9`.
    fn round(&mut self) {
        self.turn += 1;
        self.engine.configure(&self.configs[self.turn % self.configs.len()]);
        let moment = MOMENTS[usize::try_from(self.random.below(MOMENTS.len() as u64)).unwrap()];
        self.kills[moment as usize] += 1;
        let name = format!("round {}, {moment:?}", self.turn);
        self.stall.at(name.as_str());
        assert!(!self.observers.iter().any(Observer::has_failed), "a subscriber failed before {name}");
        let from = Instant::now();
        self.live(moment);
        self.slowest = std::mem::take(&mut self.slowest).max((from.elapsed(), name));
    }

    fn live(&mut self, moment: Moment) {
        if moment == Moment::StartingUp {
            self.engine.spawn();
            std::thread::sleep(self.random.up_to(self.start_up));
            return self.kill();
        }
        self.start();
        match moment {
            Moment::Asked => {
                std::thread::sleep(self.random.up_to(Duration::from_millis(200)));
                *self.at.lock().unwrap() = None;
                assert_eq!(self.engine.stop(), Some(0), "{}", self.engine.log());
                return self.note_recovered();
            }
            Moment::Anytime => std::thread::sleep(self.random.up_to(Duration::from_millis(300))),
            Moment::AfterPublishing => {
                // So that the lists have been read once in this life.
                std::thread::sleep(Duration::from_millis(60));
                self.world.ledger.wait_moved(Duration::from_secs(1));
                std::thread::sleep(self.random.up_to(Duration::from_millis(60)));
            }
            Moment::AfterTelling | Moment::StartingUp => {
                std::thread::sleep(Duration::from_millis(60));
                let before = self.world.ledger.unconfirmed().len();
                let give_up = Instant::now() + Duration::from_secs(1);
                while self.world.ledger.unconfirmed().len() >= before && Instant::now() < give_up {
                    self.world.ledger.wait_moved(Duration::from_millis(20));
                }
            }
            Moment::ChangingKeys => return self.change_keys_and_kill(),
        }
        self.kill();
    }

    /// A command that returned has changed something for good; one that did not may have, or not.
    fn change_keys_and_kill(&mut self) {
        let revoke = self.random.below(2) == 0;
        let oldest = self.keys.iter().position(|key| !key.revoked).filter(|_| revoke);
        // Even a command whose change is not known to hold says that the former state does not.
        let victim = oldest.map(|at| self.keys.remove(at));
        let pause = self.random.up_to(Duration::from_millis(60));
        let Trial { engine, at, .. } = self;
        let output = std::thread::scope(|scope| {
            let pid = engine.pid();
            let killer = scope.spawn(move || {
                std::thread::sleep(pause);
                *at.lock().unwrap() = None;
                signal_kill(pid);
            });
            let output = match &victim {
                Some(key) => engine.cli(&["keys", "revoke", &key.id.to_string(), "--json"]),
                None => engine.cli(&["keys", "create", "--tier", "premium", "--json"]),
            };
            killer.join().unwrap();
            output
        });
        self.kill();
        if !output.status.success() {
            return;
        }
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        self.keys.push(match victim {
            Some(key) => KnownKey { revoked: true, ..key },
            None => KnownKey {
                id: answer["id"].as_i64().unwrap(),
                text: answer["key"].as_str().unwrap().to_owned(),
                revoked: false,
            },
        });
    }

    /// What helps to find out why something is missing.
    fn diagnosis(&self) -> String {
        let database = verdict::open(&self.engine.data_dir());
        let published = self.world.ledger.published();
        let unconfirmed = self.world.ledger.unconfirmed();
        let origins: Vec<_> = unconfirmed.iter().map(|version| published.get(version)).collect();
        let known =
            verdict::history(&database).iter().filter(|row| unconfirmed.contains(&row.version)).count();
        format!("{origins:?}, {known} in history, first starts {:?}", verdict::first_starts(&database))
    }

    /// Lets everything arrive, stops properly and checks all promises.
    fn finish(mut self, source_threads: u64) -> String {
        self.stall.at("the end");
        self.world.fall_silent();
        self.start();
        let ledger = Arc::clone(&self.world.ledger);
        let from = Instant::now();
        while !ledger.unconfirmed().is_empty() {
            assert!(
                from.elapsed() < harness::LONGEST,
                "never told: {:?}\n{}",
                ledger.unconfirmed(),
                self.diagnosis()
            );
            ledger.wait_moved(Duration::from_millis(50));
        }
        let listed = self.engine.cli_json(&["keys", "list"]);
        for key in &self.keys {
            let shown = listed["keys"].as_array().unwrap().iter().find(|k| k["id"] == key.id).unwrap();
            assert_eq!(shown["state"], if key.revoked { "revoked" } else { "active" }, "{shown}");
        }
        if let Some(hooks) = &mut self.hooks {
            hooks.settle(&self.engine);
        }
        *self.at.lock().unwrap() = None;
        let notes: Vec<_> = self.observers.drain(..).map(|o| (o.habit, o.finish())).collect();
        assert_eq!(self.engine.stop(), Some(0), "{}", self.engine.log());
        self.note_recovered();
        let figures = verdict::check(&self.engine.data_dir(), &ledger, &notes, source_threads);
        let rows = verdict::history(&verdict::open(&self.engine.data_dir()));
        let hooks = self.hooks.as_ref().map(|hooks| hooks.check(&rows));
        let connections: u64 = notes.iter().map(|(_, notes)| notes.connections).sum();
        let kills: Vec<_> =
            MOMENTS.iter().zip(self.kills).map(|(moment, n)| format!("{moment:?} {n}")).collect();
        format!(
            "{figures:?}, webhooks: {hooks:?}, from shared memory {}, keys {}, reconnections {connections}, \
             kills: {}, slowest: {:?}",
            self.recovered,
            self.keys.len(),
            kills.join(", "),
            self.slowest
        )
    }
}

/// `kill -9` without reaping: [`Engine::kill`] does that.
fn signal_kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

fn crash(mode: Mode, rounds: u64, topologies: &[&str], source_threads: u64) {
    let seed = seed();
    println!("seed {seed}, {rounds} rounds, {mode:?}, {source_threads} source threads");
    let from = Instant::now();
    let mut trial = Trial::new(mode, seed, topologies, Some(Hooks::start()));
    // Endpoints are there before the first notice; then it dies for the first time.
    trial.start();
    trial.hooks.iter().for_each(|hooks| hooks.register(&trial.engine));
    trial.kill();
    trial.world.publish(seed ^ 0x5eed);
    for round in 1..=rounds {
        trial.round();
        if round % 50 == 0 {
            println!("{round} rounds in {:?}", from.elapsed());
        }
        let down = trial.random.up_to(Duration::from_millis(120));
        std::thread::sleep(down);
    }
    println!("{} in {:?}", trial.finish(source_threads), from.elapsed());
}

#[test]
fn killed_at_any_moment_nothing_is_lost_doubled_or_forgotten() {
    crash(Mode::Plain, number_from("TOCSIN_CRASH_ROUNDS", 25), &[""], 1);
}

/// Two source threads and two feed writers, on cores of their own where the machine has them, take
/// turns with one of each; over TLS.
#[test]
fn the_same_with_more_threads_over_tls() {
    let topology = "[feed]\nwriters = 2\n[topology]\nmode = \"pinned\"\nidle = \"block\"\n\
                    source_cores = [0, 1]\nfeed_cores = [2, 3]";
    crash(Mode::Tls, number_from("TOCSIN_CRASH_ROUNDS", 25) / 4, &[topology, ""], 2);
}

/// The watch of these tests ends what would wait for ever.
#[test]
fn a_life_that_stands_still_is_ended() {
    let mut engine = Engine::prepare(tempfile::tempdir().unwrap(), Mode::Plain, "");
    engine.spawn();
    let pid = rustix::process::Pid::from_raw(engine.pid().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let stall = Stall::watch(engine.config(), Duration::from_secs(1));
    stall.at("the start of an engine that was stopped on purpose");
    let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| engine.wait_ready()));
    assert!(waited.is_err(), "it was not stopped");
}

/// Killed in the first moments of a data directory: around the epoch, the baseline and its commit.
#[test]
fn a_fresh_data_directory_takes_its_baseline_once() {
    let seed = seed();
    let rounds = number_from("TOCSIN_CRASH_ROUNDS", 25) / 4;
    println!("seed {seed}, {rounds} fresh data directories");
    let mut random = Random::new(seed);
    for round in 0..rounds {
        let mut trial = Trial::new(Mode::Plain, seed ^ round, &[""], None);
        trial.world.publish(seed ^ round);
        for _ in 0..=random.below(3) {
            trial.engine.spawn();
            let longest = Duration::from_millis(if random.below(2) == 0 { 150 } else { 500 });
            std::thread::sleep(random.up_to(longest));
            trial.kill();
        }
        trial.start();
        wait_for("a few announcements", || {
            trial.world.ledger.wait_moved(Duration::from_millis(20));
            trial.world.count.load(std::sync::atomic::Ordering::Relaxed) > 12
        });
        trial.kill();
        println!("{}", trial.finish(1));
    }
}

/// An edge of the exchange still serves the page from before an edit when the engine comes back.
#[test]
fn a_page_from_before_an_edit_is_not_news_after_a_restart() {
    let world = World::start(Mode::Plain);
    let dir = tempfile::tempdir().unwrap();
    let config = world.config(dir.path());
    let mut engine = Engine::start_in(dir, Mode::Plain, &config);
    let key = engine.key();
    let mut client = engine.connect(&key, "fields=full");
    let sim = &world.sims[0];
    let (before, after) = ("Binance Will List Sample A (SMPA)", "Binance Will List Sample B (SMPB)");
    let notice = sim.publish(tocsin_sim::Draft::new(tocsin_sim::Category::Listing, before)).notice_id;
    assert_eq!(client.json_of("announcement")["title"], before);
    sim.same_id_new_title(&notice, after).unwrap();
    assert_eq!(client.json_of("announcement")["title"], after);

    sim.same_id_new_title(&notice, before).unwrap();
    engine.kill();
    engine.start_again();
    let mut client = engine.connect(&key, "fields=full");
    let last = "Binance Will List Sample C (SMPC)";
    sim.publish(tocsin_sim::Draft::new(tocsin_sim::Category::Listing, last));
    assert_eq!(client.json_of("announcement")["title"], last);
    wait_for("history to have it", || {
        let history = engine.cli_json(&["history"]);
        let titles: Vec<_> =
            history["announcements"].as_array().unwrap().iter().map(|a| &a["title"]).collect();
        assert!(titles.len() <= 3, "{titles:?}");
        titles == [before, after, last]
    });
}
