//! Fan-out beside the servers users would pick instead: plain, over TLS, and with two cores.
//!
//! Contract: as `suites` says. Contenders share one core, the load generator has the other; with two
//! cores each, on a machine of two, all share both, in two ways ([`Mode`]). Where descriptors do not reach for
//! all at once, the engine meets one peer after the other. Ends within [`LONGEST`] and a contest; what time or
//! descriptors did not allow, and every peer that is not installed, is in `missing`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::Context;
use crate::engine::ReadsFirst;
use crate::peers::contest::{Contest, Entrant, Pace, Turn};
use crate::peers::process::Cores;
use crate::peers::{Contender, Ground, Shape};
use crate::result::{
    Comparison, Figure, Missing, Series, SuiteResult, Target, Unit, new_histogram, quantile, ratio,
};

/// No contest starts after this.
const LONGEST: Duration = Duration::from_secs(330);
/// What is said of those.
const NO_TIME: &str = "no time was left";
/// Descriptors of the load generator beside its subscribers.
const OTHER_DESCRIPTORS: u64 = 128;
/// Resident bytes an idle subscriber may cost the engine, plain and over TLS.
const PLAIN_BYTES: f64 = 1_024.0;
const TLS_BYTES: f64 = 2_048.0;

const NOTES: &[&str] = &[
    "Contenders are processes on loopback, all connected all the time; one core for them, one for the load \
     generator. Each broadcasts the same text message; times count from the stamp in it to the read of \
     each subscriber.",
    "The stamp is taken just before the broadcast call (engine: when its writing thread starts). NATS and \
     nchan cannot stamp: theirs is taken just before the publishing request is sent, so their ingress \
     is in every figure. asked-last counts from the request for every contender: the engine's has its \
     admin API and its hand-over between threads in it.",
    "Over TLS the load generator decrypts on its own core; each server takes the cipher it prefers.",
    "The engine's process is stopped while others have their turn (its idle threads wake up often, on the \
     core that all share) and goes on a pause before its own.",
    "With two cores each on a machine of two the load generator shares them: two-cores gives it no precedence, \
     so that its wait for a core is counted as a contender's, in `first` most of all; in two-cores-read-first \
     it has a real-time class and takes the core of one of two writers, which makes `last` late.",
    "Receive times hold the load generator's turn: it reads one subscriber after the other. Its own work a \
     message is the figure handling-per-message.",
    "CPU time is that of all of a contender's threads and processes from the request on: the engine's holds \
     its admin API, its journal's commit and its idle threads' last spin, once a broadcast. \
     cpu-per-further-message, between two sizes, is without what comes once.",
    "Bytes of a connection are growth of resident memory, kernel memory left out, the first tenth of the \
     subscribers taken as the start.",
];

/// What a contest is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One core each, no TLS.
    Plain,
    /// One core each, TLS.
    Tls,
    /// Two cores and two writers or workers each, no TLS.
    TwoCores,
    /// The same where the load generator shares their cores, and reads before anybody else goes on.
    TwoCoresReadFirst,
}

impl Mode {
    const fn has_two_cores(self) -> bool {
        matches!(self, Mode::TwoCores | Mode::TwoCoresReadFirst)
    }

    const fn name(self) -> &'static str {
        match self {
            Mode::Plain => "plain",
            Mode::Tls => "tls",
            Mode::TwoCores => "two-cores",
            Mode::TwoCoresReadFirst => "two-cores-read-first",
        }
    }
}

/// One contest.
#[derive(Clone, Debug)]
pub struct Phase {
    /// What it is about.
    pub mode: Mode,
    /// The engine's opponents.
    pub peers: Vec<Contender>,
    /// And its pace.
    pub pace: Pace,
}

/// What is the same for all contests of a run.
pub struct Setting {
    /// The program with the hidden verbs.
    pub exe: PathBuf,
    /// Where peers are installed.
    pub cache: PathBuf,
    /// Of the order of turns.
    pub seed: u64,
    /// Set from outside to end early.
    pub stop: Arc<AtomicBool>,
}

/// The suite.
///
/// # Errors
/// No contest could be held, or the run was interrupted.
pub fn run(context: &Context) -> Result<SuiteResult, String> {
    let exe = std::env::current_exe().map_err(|e| e.to_string())?;
    let (stop, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    for signal in [SIGINT, SIGTERM] {
        // Once the suite is over, signals do again what they do by default.
        flag::register_conditional_default(signal, Arc::clone(&over)).map_err(|e| e.to_string())?;
        flag::register(signal, Arc::clone(&stop)).map_err(|e| e.to_string())?;
    }
    let setting = Setting { exe, cache: context.cache.clone(), seed: context.seed, stop: Arc::clone(&stop) };
    let result = measure(&setting, &phases(context.quick));
    over.store(true, Ordering::SeqCst);
    if stop.load(Ordering::SeqCst) {
        // Everything is cleaned up. What asked us to end has waited long enough.
        signal_hook::low_level::emulate_default_handler(SIGINT).map_err(|e| e.to_string())?;
    }
    result
}

fn phases(quick: bool) -> Vec<Phase> {
    let pace = |subscribers, rounds| Pace {
        subscribers,
        rounds,
        pause: Duration::from_millis(25),
        settle: Duration::from_secs(if quick { 1 } else { 3 }),
        spin: true,
    };
    let both = vec![Contender::TokioTungstenite, Contender::FastWebsockets];
    let phase = |mode: Mode, pace| {
        let peers = if mode.has_two_cores() { both.clone() } else { Contender::PEERS.to_vec() };
        Phase { mode, peers, pace }
    };
    let modes = [Mode::Plain, Mode::Tls, Mode::TwoCores, Mode::TwoCoresReadFirst];
    if quick {
        return modes.into_iter().map(|mode| phase(mode, pace(200, 5))).collect();
    }
    let at = |subscribers, rounds| modes.map(|mode| phase(mode, pace(subscribers, rounds)));
    at(1_000, 60).into_iter().chain(at(5_000, 20)).collect()
}

/// Holds the contests.
///
/// # Errors
/// None could be held, or the run was stopped.
pub fn measure(setting: &Setting, phases: &[Phase]) -> Result<SuiteResult, String> {
    let descriptors = tocsin::os::memory::raise_descriptor_limit().map_err(|e| e.to_string())?;
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let ground = Ground::new(setting.exe.clone(), dir.path().to_owned(), &setting.cache)?;
    let cores = tocsin::os::cores::available();
    let mut suite = Suite {
        setting,
        ground: &ground,
        descriptors,
        until: Instant::now() + LONGEST,
        started: 0,
        cpu: BTreeMap::new(),
        result: SuiteResult { name: "peers".to_owned(), ..SuiteResult::default() },
    };
    suite.result.notes = NOTES.iter().map(ToString::to_string).collect();
    if cores.len() < 2 {
        suite.result.notes.push("There is one core: contenders and load generator share it.".to_owned());
    }
    let load_core = cores.get(1).or(cores.first()).copied().unwrap_or(0);
    // This process, idle while a broadcast runs, keeps off the contenders' core.
    let _pinned = Cores::pin(load_core)?;
    for phase in phases {
        suite.contest(phase, &cores)?;
    }
    suite.report_slopes();
    let Suite { mut result, .. } = suite;
    result.settings = settings(setting, phases, descriptors);
    if result.comparisons.is_empty() {
        let missing: Vec<String> = result.missing.iter().map(|m| format!("{}: {}", m.what, m.why)).collect();
        return Err(format!("nothing could be compared: {}", missing.join("; ")));
    }
    Ok(result)
}

fn settings(setting: &Setting, phases: &[Phase], descriptors: u64) -> BTreeMap<String, Value> {
    let contests: Vec<Value> = phases
        .iter()
        .map(|Phase { mode, pace, .. }| {
            json!({
                "mode": mode.name(),
                "subscribers": pace.subscribers,
                "rounds": pace.rounds,
                "pause_ms": pace.pause.as_millis() as u64,
            })
        })
        .collect();
    let node: Value = serde_json::from_str(include_str!("../../peers/package.json")).unwrap_or_default();
    let python = include_str!("../../peers/requirements.txt").lines().filter(|line| !line.starts_with('#'));
    [
        ("contests", json!(contests)),
        ("descriptors", json!(descriptors)),
        ("seed", json!(setting.seed)),
        ("pinned_node_packages", node.get("dependencies").cloned().unwrap_or_default()),
        ("pinned_python_packages", json!(python.collect::<Vec<_>>())),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// A run under way.
struct Suite<'a> {
    setting: &'a Setting,
    ground: &'a Ground,
    descriptors: u64,
    until: Instant,
    /// Processes so far: numbers for their files.
    started: usize,
    /// Subscribers and CPU nanoseconds of a broadcast, of `MODE/CONTENDER`.
    cpu: BTreeMap<String, Vec<(usize, f64)>>,
    result: SuiteResult,
}

impl Suite<'_> {
    fn contest(&mut self, phase: &Phase, cores: &[usize]) -> Result<(), String> {
        let name = format!("{}/{}", phase.mode.name(), phase.pace.subscribers);
        if self.setting.stop.load(Ordering::Relaxed) {
            return Err("interrupted".to_owned());
        }
        if Instant::now() > self.until {
            self.missing(&name, NO_TIME);
            return Ok(());
        }
        let held =
            (self.descriptors.saturating_sub(OTHER_DESCRIPTORS)) / phase.pace.subscribers.max(1) as u64;
        if held < 2 {
            self.missing(&name, &format!("{} descriptors are too few; raise `ulimit -n`", self.descriptors));
            return Ok(());
        }
        let mut pace = phase.pace;
        let (contenders, load) = places(phase.mode, cores);
        let reads_first = phase.mode == Mode::TwoCoresReadFirst;
        if reads_first && contenders != load {
            // With a core of its own it need not: that contest has been held.
            return Ok(());
        }
        if reads_first && !ReadsFirst::begin().is_ok_and(|first| first.is_real_time()) {
            self.missing(&name, "the load generator may not have a real-time class (needs root and chrt)");
            return Ok(());
        }
        // On a shared core it would spin in the contenders' way.
        pace.spin &= contenders != load;
        let load = self.ground.load(self.next(), &load, reads_first)?;
        let mut contest = Contest::new(self.ground, load, pace, self.setting.seed, &self.setting.stop)?;
        let shape = Shape {
            tls: phase.mode == Mode::Tls,
            threads: if phase.mode.has_two_cores() { 2 } else { 1 },
            cores: contenders,
            subscribers: pace.subscribers,
        };
        let engine = contest.enter(Contender::Engine, &shape, self.next());
        let engine = engine.map_err(|e| format!("{name}: engine: {e}"))?;
        if phase.peers.len() < usize::try_from(held).unwrap_or(usize::MAX) {
            self.together(&name, phase, &mut contest, engine, &shape)
        } else {
            self.pairwise(&name, phase, &mut contest, engine, &shape)
        }
    }

    /// All at once.
    fn together(
        &mut self,
        name: &str,
        phase: &Phase,
        contest: &mut Contest<'_>,
        engine: Entrant,
        shape: &Shape,
    ) -> Result<(), String> {
        let mut entrants = vec![engine];
        for peer in &phase.peers {
            if let Some(entrant) = self.enter(name, contest, *peer, shape)? {
                entrants.push(entrant);
            }
        }
        contest.settle(&mut entrants);
        if entrants.len() > 1 {
            self.hold(name, contest, &mut entrants)?;
        }
        let Some((engine, peers)) = entrants.split_first() else { return Ok(()) };
        self.report_one(name, phase.mode, engine, &engine.turns);
        for peer in peers {
            self.report_one(name, phase.mode, peer, &peer.turns);
            self.compare(name, peer.contender, &engine.turns, &peer.turns);
        }
        self.report_load(name, &entrants);
        Ok(())
    }

    /// The engine stays connected; one peer after the other meets it.
    fn pairwise(
        &mut self,
        name: &str,
        phase: &Phase,
        contest: &mut Contest<'_>,
        engine: Entrant,
        shape: &Shape,
    ) -> Result<(), String> {
        let mut pair = vec![engine];
        let mut all_turns = Vec::new();
        for peer in &phase.peers {
            if let Some(entrant) = self.enter(name, contest, *peer, shape)? {
                pair.push(entrant);
                contest.settle(&mut pair);
                self.hold(name, contest, &mut pair)?;
            }
            if pair.len() > 1
                && let Some(peer) = pair.pop()
                && let Some(engine) = pair.first_mut()
            {
                let turns = std::mem::take(&mut engine.turns);
                self.report_one(name, phase.mode, &peer, &peer.turns);
                self.compare(name, peer.contender, &turns, &peer.turns);
                all_turns.extend(turns);
                contest.leave(peer)?;
            }
        }
        if let Some(engine) = pair.first_mut() {
            engine.turns = all_turns;
            self.report_one(name, phase.mode, engine, &engine.turns);
        }
        self.report_load(name, &pair);
        Ok(())
    }

    /// `None`: it cannot take part, which is said.
    fn enter(
        &mut self,
        name: &str,
        contest: &mut Contest<'_>,
        peer: Contender,
        shape: &Shape,
    ) -> Result<Option<Entrant>, String> {
        let what = format!("{name}/{}", peer.name());
        if Instant::now() > self.until {
            self.missing(&what, NO_TIME);
            return Ok(None);
        }
        match contest.enter(peer, shape, self.next()) {
            Ok(entrant) => return Ok(Some(entrant)),
            Err(_) if self.setting.stop.load(Ordering::Relaxed) => return Err("interrupted".to_owned()),
            Err(why) => self.missing(&what, &why),
        }
        Ok(None)
    }

    fn hold(
        &mut self,
        name: &str,
        contest: &mut Contest<'_>,
        entrants: &mut Vec<Entrant>,
    ) -> Result<(), String> {
        for (contender, why) in contest.rounds(entrants)? {
            if contender == Contender::Engine {
                return Err(format!("{name}: engine: {why}"));
            }
            self.missing(&format!("{name}/{}", contender.name()), &why);
        }
        Ok(())
    }

    fn report_one(&mut self, name: &str, mode: Mode, entrant: &Entrant, turns: &[Turn]) {
        let name = format!("{name}/{}", entrant.contender.name());
        let subscribers = entrant.subscribers.max(1) as u64;
        let measured = METRICS.into_iter().filter(|_| !turns.is_empty());
        for (metric, value) in measured {
            let mut histogram = new_histogram();
            turns.iter().for_each(|turn| histogram.saturating_record(value(turn, subscribers).max(1)));
            self.result.series.push(Series::new(format!("{name}/{metric}"), Unit::Nanoseconds, &histogram));
        }
        let broadcast_ns = quantile(turns.iter().map(|turn| turn.cpu_ns as f64), 0.5);
        if let Some(cpu_ns) = broadcast_ns {
            let key = format!("{}/{}", mode.name(), entrant.contender.name());
            self.cpu.entry(key).or_default().push((entrant.subscribers, cpu_ns));
        }
        let ours = entrant.contender == Contender::Engine;
        let bytes = if mode == Mode::Tls { TLS_BYTES } else { PLAIN_BYTES };
        let figures = [
            ("bytes-per-idle-connection", Unit::Bytes, entrant.bytes_per_connection, ours.then_some(bytes)),
            ("idle-cpu", Unit::Plain, entrant.idle_cpu, None),
            (
                "cpu-per-message",
                Unit::Nanoseconds,
                broadcast_ns.map(|cpu_ns| cpu_ns / subscribers as f64),
                None,
            ),
            ("message-bytes", Unit::Bytes, turns.first().map(|turn| turn.round.message_bytes as f64), None),
        ];
        for (figure, unit, value, target) in figures {
            if let Some(value) = value {
                let (name, target) = (format!("{name}/{figure}"), target.map(Target::AtMost));
                self.result.figures.push(Figure { name, unit, value, target });
            }
        }
    }

    /// What one subscriber more costs a broadcast, where two sizes were measured: without what a
    /// broadcast costs once.
    fn report_slopes(&mut self) {
        for (name, sizes) in &self.cpu {
            if let Some(value) = slope(sizes) {
                let name = format!("{name}/cpu-per-further-message");
                self.result.figures.push(Figure { name, unit: Unit::Nanoseconds, value, target: None });
            }
        }
    }

    fn report_load(&mut self, name: &str, entrants: &[Entrant]) {
        let each = entrants.iter().flat_map(|entrant| {
            let subscribers = entrant.subscribers.max(1) as f64;
            entrant.turns.iter().map(move |turn| turn.round.handling as f64 / subscribers)
        });
        if let Some(value) = quantile(each, 0.5) {
            let name = format!("{name}/load/handling-per-message");
            self.result.figures.push(Figure { name, unit: Unit::Nanoseconds, value, target: None });
        }
    }

    fn compare(&mut self, name: &str, peer: Contender, ours: &[Turn], other: &[Turn]) {
        for (metric, value) in METRICS {
            // Per broadcast, not per message: a ratio is the same.
            let rounds: Vec<(u64, u64)> =
                ours.iter().zip(other).map(|(a, b)| (value(a, 1), value(b, 1))).collect();
            let Some((ratio, quartiles)) = ratio(&rounds) else { continue };
            self.result.comparisons.push(Comparison {
                name: format!("{name} {metric}, engine against {}", peer.name()),
                ours: format!("{name}/engine/{metric}"),
                other: format!("{name}/{}/{metric}", peer.name()),
                ratio,
                quartiles,
                rounds: rounds.len(),
                target: PROMISED.contains(&metric).then_some(Target::AtMost(1.0)),
            });
        }
    }

    fn missing(&mut self, what: &str, why: &str) {
        eprintln!("peers: {what}: {why}");
        self.result.missing.push(Missing { what: what.to_owned(), why: why.to_owned() });
    }

    fn next(&mut self) -> usize {
        self.started += 1;
        self.started
    }
}

/// Cores of the contenders and of the load generator: one or two, and the next; all for both where that
/// many are not there.
fn places(mode: Mode, cores: &[usize]) -> (Vec<usize>, Vec<usize>) {
    match (mode, cores) {
        (Mode::Plain | Mode::Tls, [first, second, ..]) => (vec![*first], vec![*second]),
        (Mode::TwoCores | Mode::TwoCoresReadFirst, [first, second, third, ..]) => {
            (vec![*first, *second], vec![*third])
        }
        _ => (cores.to_vec(), cores.to_vec()),
    }
}

/// Growth between the smallest and the largest of `(size, value)`, by size.
fn slope(sizes: &[(usize, f64)]) -> Option<f64> {
    let (small, large) = (sizes.iter().min_by_key(|s| s.0)?, sizes.iter().max_by_key(|s| s.0)?);
    (large.0 > small.0).then(|| (large.1 - small.1) / (large.0 - small.0) as f64)
}

/// A value of a turn with so many subscribers.
type Metric = fn(&Turn, u64) -> u64;

/// Every series of a contender.
const METRICS: [(&str, Metric); 6] = [
    ("first", |turn, _| turn.round.first),
    ("median", |turn, _| turn.round.median),
    ("p99", |turn, _| turn.round.p99),
    ("last", |turn, _| turn.round.last),
    ("asked-last", |turn, _| turn.round.asked_last),
    ("cpu", |turn, subscribers| turn.cpu_ns / subscribers),
];
/// Those in which the engine is to be behind nobody.
const PROMISED: [&str; 4] = ["first", "median", "p99", "last"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_once_is_not_in_the_slope() {
        assert_eq!(slope(&[]), None);
        assert_eq!(slope(&[(1_000, 9.0), (1_000, 10.0)]), None);
        assert_eq!(slope(&[(5_000, 900.0 + 5_000.0 * 7.0), (1_000, 900.0 + 1_000.0 * 7.0)]), Some(7.0));
    }

    #[test]
    fn the_load_generator_has_a_core_of_its_own_where_contenders_have_one() {
        assert_eq!(places(Mode::Plain, &[2, 5, 7]), (vec![2], vec![5]));
        assert_eq!(places(Mode::Tls, &[2, 5]), (vec![2], vec![5]));
        assert_eq!(places(Mode::TwoCores, &[2, 5]), (vec![2, 5], vec![2, 5]));
        assert_eq!(places(Mode::TwoCores, &[2, 5, 7, 8]), (vec![2, 5], vec![7]));
        assert_eq!(places(Mode::Plain, &[2]), (vec![2], vec![2]));
    }

    #[test]
    fn every_contest_of_a_run_has_peers_and_rounds() {
        for quick in [true, false] {
            let phases = phases(quick);
            assert!(phases.iter().all(|phase| !phase.peers.is_empty() && phase.pace.rounds > 0));
            assert_eq!(phases.len(), if quick { 4 } else { 8 });
        }
    }
}
