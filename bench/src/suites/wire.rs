//! Suite `wire`: from the last byte of an exchange's answer to the first byte on a subscriber's socket,
//! stage by stage, in nanoseconds.
//!
//! Contract: the engine's own source thread and feed thread are stepped here, in one thread (the sum of
//! the stages) and in two that spin on a core each (with the hand-over); the exchange's bodies are the
//! simulated exchange's, its socket is played by the source's thread in between, so that nothing else runs
//! while an answer is handled. Every combination has a rig of its own in every round, in turn. Instants
//! come through the clocks and the journal the threads are given anyway; see [`rig`]. In every round the floor has
//! its turns too: the hand-over and one write(2) after the same time without work ([`bare`]). Owner: a thread
//! of its own, so that pinning ends with it. Fails when a rig cannot be built; rounds in which other work
//! mixed with an announcement's are dropped and counted.

mod bare;
mod rig;
mod stamps;

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::json;
use tocsin::os::cores;
use tocsin_sim::Kind;

use self::bare::Bare;
use self::rig::{Layout, Rig};
use self::stamps::{STAGES, Stamps};
use super::Context;
use crate::engine::Outcome;
use crate::result::{Figure, Missing, Series, SuiteResult, Target, Unit, new_histogram};

/// Promised: body complete to the first write returned, everything inside.
const WHOLE_NS: f64 = 20_000.0;
/// Promised: from the ring to the first write returned.
const RING_TO_FIRST_NS: f64 = 30_000.0;

/// What is measured.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// Rigs of each combination.
    pub rounds: usize,
    /// Announcements a rig handles.
    pub announcements: usize,
    /// Subscribers connected, one after the other.
    pub subscribers: Vec<usize>,
    /// Turns without work before an answer, so that the threads are as they are when they wait.
    pub idle: Duration,
}

impl Sizes {
    /// As the command line asks.
    #[must_use]
    pub fn of(context: &Context) -> Sizes {
        match context.quick {
            true => {
                let idle = Duration::from_micros(500);
                Sizes { rounds: 2, announcements: 20, subscribers: vec![1], idle }
            }
            false => {
                let idle = Duration::from_millis(5);
                Sizes { rounds: 15, announcements: 40, subscribers: vec![1, 100], idle }
            }
        }
    }
}

/// The suite's entry.
///
/// # Errors
/// See the module head.
pub fn run(context: &Context) -> Result<SuiteResult, String> {
    measure(&Sizes::of(context), context.seed).map_err(|e| e.to_string())
}

/// Measures with these sizes.
///
/// # Errors
/// See the module head.
pub fn measure(sizes: &Sizes, seed: u64) -> Outcome<SuiteResult> {
    let sizes = sizes.clone();
    let worker = std::thread::Builder::new().name("wire".to_owned());
    worker.spawn(move || measure_here(&sizes, seed))?.join().map_err(|_| "the measuring thread panicked")?
}

/// One combination, and the distributions of its stages.
struct Cell {
    kind: Kind,
    layout: Layout,
    tls: bool,
    subscribers: usize,
    rehearses: bool,
    stages: Vec<Histogram<u64>>,
    ring_to_first: Histogram<u64>,
    whole: Histogram<u64>,
}

impl Cell {
    fn new(kind: Kind, layout: Layout, tls: bool, subscribers: usize, rehearses: bool) -> Cell {
        let stages = STAGES.iter().map(|_| new_histogram()).collect();
        let (ring_to_first, whole) = (new_histogram(), new_histogram());
        Cell { kind, layout, tls, subscribers, rehearses, stages, ring_to_first, whole }
    }

    fn name(&self) -> String {
        let tls = if self.tls { "tls" } else { "plain" };
        let rehearsed = if self.rehearses { "" } else { "/unrehearsed" };
        format!("{}/{}/{tls}/{}{rehearsed}", self.layout.name(), self.kind.name(), self.subscribers)
    }

    fn record(&mut self, stamps: &Stamps) {
        for (histogram, ns) in self.stages.iter_mut().zip(stamps.stages()) {
            histogram.saturating_record(ns);
        }
        self.ring_to_first.saturating_record(stamps.ring_to_first());
        self.whole.saturating_record(stamps.whole());
    }
}

/// The least that brings a frame from one of the threads to a socket.
struct Floor {
    layout: Layout,
    tls: bool,
    ring_to_first: Histogram<u64>,
}

impl Floor {
    fn new(layout: Layout, tls: bool) -> Floor {
        Floor { layout, tls, ring_to_first: new_histogram() }
    }

    fn report(&self, result: &mut SuiteResult) {
        let tls = if self.tls { "tls" } else { "plain" };
        let name = format!("{}/floor/{tls}/1/ring to first write", self.layout.name());
        result.series.push(Series::new(name.clone(), Unit::Nanoseconds, &self.ring_to_first));
        let value = self.ring_to_first.value_at_quantile(0.5) as f64;
        let name = format!("{name}/p50");
        result.figures.push(Figure { name, unit: Unit::Nanoseconds, value, target: None });
    }
}

fn measure_here(sizes: &Sizes, seed: u64) -> Outcome<SuiteResult> {
    let mut result = SuiteResult { name: "wire".to_owned(), ..SuiteResult::default() };
    let cores = cores::available();
    let mut layouts = vec![Layout::OneThread];
    match cores[..] {
        [source, feed, ..] => layouts.push(Layout::TwoCores { source, feed }),
        _ => result.missing.push(Missing {
            what: "source and feed thread on a core each".to_owned(),
            why: "this process may run on one core only".to_owned(),
        }),
    }
    let mut cells = cells(&layouts, &sizes.subscribers);
    let mut floors: Vec<Floor> =
        layouts.iter().flat_map(|l| [false, true].map(|tls| Floor::new(*l, tls))).collect();
    let (mut mixed, mut bodies) = (0, BTreeMap::new());
    for round in 0..sizes.rounds {
        for cell in &mut cells {
            let seed = seed.wrapping_add(round as u64);
            let mut rig = Rig::new(cell.kind, cell.layout, cell.tls, cell.subscribers, seed)?;
            if !cell.rehearses {
                rig = rig.without_rehearsals();
            }
            for _ in 0..sizes.announcements {
                match rig.announcement(sizes.idle)? {
                    Some(stamps) => cell.record(&stamps),
                    None => mixed += 1,
                }
            }
            bodies.insert(cell.kind.name(), json!(rig.body_bytes()));
        }
        for floor in &mut floors {
            let mut bare = Bare::new(floor.layout, floor.tls)?;
            for _ in 0..sizes.announcements {
                floor.ring_to_first.saturating_record(bare.shot(sizes.idle)?);
            }
        }
    }
    floors.iter().for_each(|floor| floor.report(&mut result));
    report(&cells, layouts.last().copied().unwrap_or(Layout::OneThread), &mut result);
    result.settings.insert("rounds".to_owned(), json!(sizes.rounds));
    result.settings.insert("announcements_a_round".to_owned(), json!(sizes.announcements));
    result.settings.insert("idle_us".to_owned(), json!(sizes.idle.as_micros() as u64));
    result.settings.insert("answer_bytes".to_owned(), json!(bodies));
    result.settings.insert("cores".to_owned(), json!(cores));
    result.settings.insert("dropped_rounds".to_owned(), json!(mixed));
    result.notes.push(
        "a stage ends where the next begins; each stamp costs the path one more clock reading, which is \
         inside; the write ends when the system call has returned, after the peer's socket has the bytes; in \
         one thread stage 5 holds the rest of the source's turn"
            .to_owned(),
    );
    Ok(result)
}

fn cells(layouts: &[Layout], subscribers: &[usize]) -> Vec<Cell> {
    let mut cells = Vec::new();
    for &layout in layouts {
        for kind in Kind::DEFAULT {
            // What rehearsals bring, once an exchange.
            cells.extend(subscribers.first().map(|&count| Cell::new(kind, layout, false, count, false)));
            for tls in [false, true] {
                for &subscribers in subscribers {
                    cells.push(Cell::new(kind, layout, tls, subscribers, true));
                }
            }
        }
    }
    cells
}

fn report(cells: &[Cell], best: Layout, result: &mut SuiteResult) {
    for cell in cells.iter().filter(|cell| !cell.whole.is_empty()) {
        let name = cell.name();
        let mut series = |of: &str, histogram| {
            result.series.push(Series::new(format!("{name}/{of}"), Unit::Nanoseconds, histogram));
        };
        for (stage, histogram) in STAGES.iter().zip(&cell.stages) {
            series(stage, histogram);
        }
        series("ring to first write", &cell.ring_to_first);
        series("body to first write", &cell.whole);
        // What is promised is of threads with a core each; one thread adds the rest of the source's turn.
        let promised = cell.subscribers == 1 && cell.layout == best && cell.rehearses;
        let sums = [
            ("ring to first write", &cell.ring_to_first, RING_TO_FIRST_NS),
            ("body to first write", &cell.whole, WHOLE_NS),
        ];
        for (of, histogram, bound) in sums {
            result.figures.push(Figure {
                name: format!("{name}/{of}/p50"),
                unit: Unit::Nanoseconds,
                value: histogram.value_at_quantile(0.5) as f64,
                target: promised.then_some(Target::AtMost(bound)),
            });
        }
    }
}
