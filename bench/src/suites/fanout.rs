//! Suite `fanout`: the engine's feed thread against the floor.
//!
//! Contract: see [`crate::lab`] for the bench. Each [`Part`] opens its sockets, plays its rounds and
//! closes them; a part that cannot be measured is reported as missing. Owner: one thread, pinned,
//! that ends with the suite. Fails when no part could be measured.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::json;
use tocsin::os::{cores, memory};

use crate::lab::clients::Clients;
use crate::lab::pair::{self, Pair};
use crate::lab::place::Cores;
use crate::lab::rounds::{BURST, Dice, Mode, SETTLE, Stand, Turn, WARM_UP, play};
use crate::lab::stand::{self, Single};
use crate::result::{Comparison, Figure, Missing, Series, SuiteResult, Target, Unit, new_histogram, ratio};
use crate::suites::Context;

/// The first subscriber's write returns within this time, in the median.
const FIRST_NS: f64 = 30_000.0;
/// Descriptors beside those of subscribers.
const DESCRIPTORS_BESIDE: usize = 128;

/// What a part compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// One announcement: engine and floor.
    Sides {
        /// Over TLS.
        tls: bool,
    },
    /// Several announcements at once.
    Burst {
        /// Over TLS.
        tls: bool,
    },
    /// Two writers beside one.
    Writers,
}

/// One part of the suite.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// What is compared.
    pub what: What,
    /// How many subscribers a side has.
    pub subscribers: usize,
    /// How many rounds are counted.
    pub rounds: usize,
}

const FULL: &[Part] = &[
    Part { what: What::Sides { tls: false }, subscribers: 1_000, rounds: 400 },
    Part { what: What::Sides { tls: true }, subscribers: 1_000, rounds: 400 },
    Part { what: What::Sides { tls: false }, subscribers: 5_000, rounds: 150 },
    Part { what: What::Sides { tls: true }, subscribers: 5_000, rounds: 150 },
    Part { what: What::Burst { tls: false }, subscribers: 1_000, rounds: 60 },
    Part { what: What::Burst { tls: true }, subscribers: 1_000, rounds: 60 },
    Part { what: What::Writers, subscribers: 1_000, rounds: 200 },
    Part { what: What::Writers, subscribers: 4_000, rounds: 80 },
];

const QUICK: &[Part] = &[
    Part { what: What::Sides { tls: false }, subscribers: 200, rounds: 40 },
    Part { what: What::Sides { tls: true }, subscribers: 200, rounds: 40 },
    Part { what: What::Burst { tls: false }, subscribers: 200, rounds: 20 },
    Part { what: What::Burst { tls: true }, subscribers: 200, rounds: 20 },
    Part { what: What::Writers, subscribers: 200, rounds: 20 },
];

/// The suite's entry.
///
/// # Errors
/// No part could be measured.
pub fn run(context: &Context) -> Result<SuiteResult, String> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    measure(&program, context.seed, if context.quick { QUICK } else { FULL })
}

/// Measures `parts`; `program` is this harness, which becomes the client ends.
///
/// # Errors
/// No part could be measured.
pub fn measure(program: &Path, seed: u64, parts: &[Part]) -> Result<SuiteResult, String> {
    let cores = Cores::choose();
    let bench = Bench { program: program.to_owned(), seed, cores };
    // A thread of its own, so that its pinning ends with it.
    let measured = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if let Some(core) = cores.writer {
                cores::pin(core).map_err(|e| format!("core {core}: {e}"))?;
            }
            Ok(bench.parts(parts))
        });
        thread.join().unwrap_or_else(|_| Err("the measuring thread ended early".to_owned()))
    });
    let result = measured?;
    if result.series.is_empty() {
        let reasons: Vec<String> = result.missing.iter().map(|m| format!("{}: {}", m.what, m.why)).collect();
        return Err(format!("nothing could be measured: {}", reasons.join("; ")));
    }
    Ok(result)
}

struct Bench {
    program: PathBuf,
    seed: u64,
    cores: Cores,
}

impl Bench {
    fn parts(&self, parts: &[Part]) -> SuiteResult {
        let settings = BTreeMap::from([
            ("burst".to_owned(), json!(BURST)),
            ("settle_ms".to_owned(), json!(SETTLE.as_millis())),
            ("warm_up_rounds".to_owned(), json!(WARM_UP)),
        ]);
        let mut result = SuiteResult { name: "fanout".to_owned(), settings, ..SuiteResult::default() };
        result.notes = self.cores.notes();
        result.notes.extend(NOTES.iter().map(|note| (*note).to_owned()));
        let limit = memory::raise_descriptor_limit().unwrap_or(0);
        for part in parts {
            let name = part.name();
            result.settings.insert(format!("{name}/rounds"), json!(part.rounds));
            eprintln!("  {name}: {} rounds", part.rounds);
            let needed = part.descriptors() as u64;
            let found = if needed > limit {
                Err(format!("{needed} descriptors needed, {limit} allowed (ulimit -n)"))
            } else {
                self.part(part, &mut result)
            };
            if let Err(why) = found {
                eprintln!("  {name}: {why}");
                result.missing.push(Missing { what: name, why });
            }
        }
        result
    }

    fn part(&self, part: &Part, result: &mut SuiteResult) -> Result<(), String> {
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        let mut clients = Clients::start(&self.program, self.cores.clients)?;
        let mut dice = Dice::new(self.seed);
        let modes = part.modes();
        let started = Instant::now();
        let turns = match part.what {
            What::Sides { tls } | What::Burst { tls } => {
                let mut stand = Single::open(&mut clients, tls, part.subscribers, self.seed, folder.path())?;
                let turns = self.played(&mut clients, &mut stand, part, result, &mut dice)?;
                stand.close(&mut clients)?;
                turns
            }
            What::Writers => {
                let core = self.cores.second.ok_or("two writers need two cores")?;
                let mut stand = Pair::open(&mut clients, part.subscribers, self.seed, core)?;
                let turns = self.played(&mut clients, &mut stand, part, result, &mut dice)?;
                stand.close(&mut clients)?;
                turns
            }
        };
        eprintln!("  {}: {:.1} s", part.name(), started.elapsed().as_secs_f64());
        for (mode, turns) in modes.iter().zip(&turns) {
            series(result, part, *mode, turns);
        }
        part.comparisons(modes, &turns, result);
        Ok(())
    }

    /// Plays a part's rounds and says how busy the clients were meanwhile.
    fn played(
        &self,
        clients: &mut Clients,
        stand: &mut dyn Stand,
        part: &Part,
        result: &mut SuiteResult,
        dice: &mut Dice,
    ) -> Result<Vec<Vec<Turn>>, String> {
        let (cpu, started) = (clients.cpu(&mut || stand.idle())?, Instant::now());
        let turns = play(clients, stand, part.modes(), part.rounds, dice)?;
        let spent = clients.cpu(&mut || stand.idle())?.saturating_sub(cpu);
        let share = 100.0 * spent as f64 / started.elapsed().as_nanos().max(1) as f64;
        let name = format!("{}/clients/cpu-percent", part.name());
        result.figures.push(Figure { name, unit: Unit::Plain, value: share, target: None });
        Ok(turns)
    }
}

/// What a reader should know before the figures.
const NOTES: &[&str] = &[
    "Times count from the frame being ready (engine: at the mouth of its ring; floor: bytes in hand). \
     `first` and `last`: the first and last subscriber's write has returned. `median` and `arrived`: the \
     middle and the last client have read it, on their own core, one after the other. `cpu`: CPU time of \
     the writing thread.",
    "Plain, both sides write to the same connections. With TLS, the floor seals each record with \
     AES-128-GCM and a key of its own for each connection, and writes to connections of its own; its \
     clients have less to do to open them, which `median` and `arrived` show.",
    "A burst's floor puts all frames of a subscriber into one write: what joining queued frames could \
     bring, not what the engine does.",
];

/// A name, and what it is of a turn.
type Measure = (&'static str, fn(&Turn) -> u64);

impl Part {
    /// As series and notes call it.
    #[must_use]
    pub fn name(&self) -> String {
        let what = match self.what {
            What::Sides { tls: false } => "plain",
            What::Sides { tls: true } => "tls",
            What::Burst { tls: false } => "burst-plain",
            What::Burst { tls: true } => "burst-tls",
            What::Writers => "writers",
        };
        format!("{what}/{}", self.subscribers)
    }

    /// Descriptors this process needs; the clients need no more than that.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        let each = match self.what {
            What::Sides { .. } | What::Burst { .. } => stand::DESCRIPTORS_EACH,
            What::Writers => pair::DESCRIPTORS_EACH,
        };
        each * self.subscribers + DESCRIPTORS_BESIDE
    }

    fn modes(&self) -> &'static [Mode] {
        match self.what {
            What::Sides { .. } => &[Mode::Engine, Mode::Floor],
            What::Burst { .. } => &[Mode::EngineAtOnce, Mode::EngineOneByOne, Mode::FloorOneWrite],
            What::Writers => &[Mode::Engine, Mode::EngineTwo, Mode::Floor, Mode::FloorTwo],
        }
    }

    /// Series of a measure of a mode.
    fn series_name(&self, mode: Mode, measure: &str) -> String {
        format!("{}/{}/{measure}", self.name(), mode.name())
    }

    fn comparisons(&self, modes: &[Mode], turns: &[Vec<Turn>], result: &mut SuiteResult) {
        let last: Measure = ("last", |turn| turn.last);
        let first: Measure = ("first", |turn| turn.first);
        let median: Measure = ("median", |turn| turn.median);
        let cpu: Measure = ("cpu", |turn| turn.cpu);
        let mut compare = |ours: Mode, other: Mode, (measure, of): Measure, target| {
            let side = |mode: Mode| modes.iter().position(|m| *m == mode).and_then(|at| turns.get(at));
            let (Some(a), Some(b)) = (side(ours), side(other)) else { return };
            let pairs: Vec<(u64, u64)> = a.iter().zip(b).map(|(a, b)| (of(a), of(b))).collect();
            let Some((ratio, quartiles)) = ratio(&pairs) else { return };
            result.comparisons.push(Comparison {
                name: format!("{} {measure}, {} against {}", self.name(), ours.name(), other.name()),
                ours: self.series_name(ours, measure),
                other: self.series_name(other, measure),
                ratio,
                quartiles,
                rounds: pairs.len(),
                target,
            });
        };
        match self.what {
            What::Sides { tls } => {
                let bound = if tls { 1.05 } else { 1.02 };
                compare(Mode::Engine, Mode::Floor, last, Some(Target::AtMost(bound)));
                for measure in [first, median, cpu] {
                    compare(Mode::Engine, Mode::Floor, measure, None);
                }
            }
            What::Burst { .. } => {
                for measure in [last, cpu] {
                    compare(Mode::EngineAtOnce, Mode::EngineOneByOne, measure, None);
                    compare(Mode::FloorOneWrite, Mode::EngineOneByOne, measure, None);
                }
            }
            What::Writers => {
                compare(Mode::EngineTwo, Mode::Engine, last, Some(Target::AtMost(0.60)));
                compare(Mode::FloorTwo, Mode::Floor, last, None);
                compare(Mode::EngineTwo, Mode::FloorTwo, last, None);
                compare(Mode::Engine, Mode::Floor, last, None);
            }
        }
    }
}

fn series(result: &mut SuiteResult, part: &Part, mode: Mode, turns: &[Turn]) {
    let measures: [Measure; 5] = [
        ("first", |turn| turn.first),
        ("median", |turn| turn.median),
        ("last", |turn| turn.last),
        ("arrived", |turn| turn.arrived),
        ("cpu", |turn| turn.cpu),
    ];
    for (measure, of) in measures {
        if measure == "cpu" && part.what == What::Writers {
            continue;
        }
        let mut histogram = new_histogram();
        turns.iter().for_each(|turn| histogram.saturating_record(of(turn).max(1)));
        if measure == "first" && mode == Mode::Engine && matches!(part.what, What::Sides { .. }) {
            result.figures.push(Figure {
                name: part.series_name(mode, "first-p50"),
                unit: Unit::Nanoseconds,
                value: histogram.value_at_quantile(0.5) as f64,
                target: Some(Target::AtMost(FIRST_NS)),
            });
        }
        result.series.push(Series::new(part.series_name(mode, measure), Unit::Nanoseconds, &histogram));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(last: u64) -> Turn {
        Turn { first: 10_000, median: last / 2, last, arrived: last + 5, cpu: last }
    }

    #[test]
    fn what_is_promised_is_judged_on_the_last_subscriber() {
        let part = Part { what: What::Sides { tls: false }, subscribers: 1_000, rounds: 2 };
        let mut result = SuiteResult::default();
        let turns = [vec![turn(101), turn(103)], vec![turn(100), turn(100)]];
        part.comparisons(part.modes(), &turns, &mut result);
        let last = &result.comparisons[0];
        assert_eq!(last.ours, "plain/1000/engine/last");
        assert!((last.ratio - 1.02).abs() < 1e-9 && last.target.unwrap().met(last.ratio));
        assert!(result.comparisons[1..].iter().all(|c| c.target.is_none()));
        series(&mut result, &part, Mode::Engine, &turns[0]);
        assert_eq!(result.series.len(), 5);
        assert_eq!(result.figures[0].target, Some(Target::AtMost(FIRST_NS)));
    }

    #[test]
    fn too_few_descriptors_are_missing_not_a_crash() {
        let part = Part { what: What::Writers, subscribers: 1_000_000_000, rounds: 1 };
        let error = measure(Path::new("/nowhere"), 1, &[part]).unwrap_err();
        assert!(error.contains("descriptors needed"), "{error}");
        let part = Part { what: What::Sides { tls: false }, subscribers: 1, rounds: 1 };
        let error = measure(Path::new("/nowhere"), 1, &[part]).unwrap_err();
        assert!(error.contains("/nowhere"), "{error}");
    }
}
