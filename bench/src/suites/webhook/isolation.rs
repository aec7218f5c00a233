//! Good endpoints beside hung ones: the same event, in turn, on an engine that has only good endpoints and
//! on one that has hung ones too.
//!
//! Contract: both engines on the first core, everything else on the others, where there are others. Receivers
//! that hang are a process of their own that gives way to everything else: they stand for machines
//! elsewhere, whose work costs this one nothing. Owner: the runner's thread. Fails as the suite does.

use std::io::{BufRead, BufReader};
use std::process::{Child, ExitCode, Stdio};
use std::time::Duration;

use hdrhistogram::Histogram;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::{Value, json};
use tocsin_core::webhook::endpoint::State;
use tocsin_sim::receiver::{Behaviour, Greeting, ReceiverOptions, SimReceiver};

use super::filled::{self, Filled};
use super::{CONNECTIONS_EACH, receiver};
use crate::engine::{self, Outcome};
use crate::result::{Comparison, Figure, Series, SuiteResult, Target, Unit, new_histogram, ratio};

/// The hidden part of this program that hangs.
pub(crate) const HANG: &str = "webhook-hang";
/// Events of one side that make one 99th percentile.
const BLOCK: usize = 25;
/// The good ones' p99 stays within a tenth.
const PROMISED: Target = Target::AtMost(1.1);

/// How receivers hang.
const WAYS: [(&str, Greeting); 2] = [
    // Takes connections and never reads.
    ("tcp", Greeting::NeverRead),
    // Reads requests and never answers.
    ("http", Greeting::Good),
];

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Beside {
    /// Endpoints that answer, of each engine.
    pub good: usize,
    /// Endpoints that do not, of one.
    pub hung: usize,
    /// Events of each engine, for each way to hang.
    pub events: usize,
    /// Between two events.
    pub interval: Duration,
}

/// Measures both ways to hang.
pub(super) fn measure(sizes: &Beside, result: &mut SuiteResult) -> Outcome<()> {
    for (how, _) in WAYS {
        one_way(sizes, how, result)?;
    }
    result.notes.push(format!(
        "`beside`: first byte, that is until the write of a request has returned: a pass writes one request \
         after the other, so it had when the next was stamped; the last of each pass is left out. Blocks of \
         {BLOCK} events make the p99s that are compared"
    ));
    Ok(())
}

fn one_way(sizes: &Beside, how: &str, result: &mut SuiteResult) -> Outcome<()> {
    let cores = Cores::of_this_thread()?;
    cores.keep_to_others()?;
    let measured = one_way_on(sizes, how, cores.first(), result);
    cores.restore()?;
    measured
}

fn one_way_on(sizes: &Beside, how: &str, core: Option<usize>, result: &mut SuiteResult) -> Outcome<()> {
    let receiver = receiver()?;
    let never = Hanging::start(how)?;
    let trusted = receiver.ca().pem().to_owned() + &never.ca;
    let hung = (0..sizes.hung).map(|n| format!("{}/hung{n}", never.url));
    let mut alone = Side::prepare(&receiver, &trusted, core, "alone", sizes.good, Vec::new())?;
    let mut beside = Side::prepare(&receiver, &trusted, core, "good", sizes.good, hung.collect())?;
    for number in 0..sizes.events {
        for side in [&mut alone, &mut beside] {
            side.one_event(&receiver, number)?;
            std::thread::sleep(sizes.interval);
        }
    }
    let name = |of: &str| format!("beside/{how}/{of}/first byte");
    for (of, side) in [("alone", &alone), ("hung", &beside)] {
        result.series.push(Series::new(name(of), Unit::Nanoseconds, &side.whole));
        let name = |which: &str| format!("beside/{how}/{of}/{which} of a pass");
        result.series.push(Series::new(name("first"), Unit::Nanoseconds, &side.first));
        result.series.push(Series::new(name("last"), Unit::Nanoseconds, &side.last));
    }
    let rounds: Vec<_> = beside.blocks.iter().copied().zip(alone.blocks.iter().copied()).collect();
    if let Some((ratio, quartiles)) = ratio(&rounds) {
        result.comparisons.push(Comparison {
            name: format!(
                "p99 of {} good endpoints beside {} hung ones ({how}), by block",
                sizes.good, sizes.hung
            ),
            ours: name("hung"),
            other: name("alone"),
            ratio,
            quartiles,
            rounds: rounds.len(),
            target: Some(PROMISED),
        });
    }
    let whole = |side: &Side, q| side.whole.value_at_quantile(q) as f64;
    for (of, q, target) in [("p50", 0.5, None), ("p90", 0.9, None), ("p99", 0.99, Some(PROMISED))] {
        result.figures.push(Figure {
            name: format!("beside/{how}/whole run/{of} ratio"),
            unit: Unit::Plain,
            value: whole(&beside, q) / whole(&alone, q).max(1.0),
            target,
        });
    }
    Ok(())
}

/// One of the two engines, and what its events showed.
struct Side {
    target: Filled,
    stem: String,
    good: usize,
    whole: Histogram<u64>,
    /// Of each pass, the first and the last request's stamp.
    first: Histogram<u64>,
    last: Histogram<u64>,
    block: Histogram<u64>,
    blocks: Vec<u64>,
    events: usize,
}

impl Side {
    fn prepare(
        receiver: &SimReceiver,
        trusted: &str,
        core: Option<usize>,
        stem: &str,
        good: usize,
        others: Vec<String>,
    ) -> Outcome<Side> {
        let mut target = Filled::trusting(trusted, core)?;
        let urls = [filled::urls(receiver, stem, good), others].concat();
        target.fill(&urls, State::Active)?;
        target.engine.start()?;
        target.warm(CONNECTIONS_EACH * urls.len())?;
        Ok(Side {
            target,
            stem: format!("/{stem}"),
            good,
            whole: new_histogram(),
            first: new_histogram(),
            last: new_histogram(),
            block: new_histogram(),
            blocks: Vec::new(),
            events: 0,
        })
    }

    fn one_event(&mut self, receiver: &SimReceiver, number: usize) -> Outcome<()> {
        let delays = self.target.one_event(receiver, &self.stem, self.good, number)?;
        let ns = |us: &i64| u64::try_from(*us).unwrap_or(0).saturating_mul(1_000);
        if let (Some(first), Some(last)) = (delays.first(), delays.last()) {
            self.first.saturating_record(ns(first));
            self.last.saturating_record(ns(last));
        }
        for ns in delays.iter().skip(1).map(ns) {
            self.whole.saturating_record(ns);
            self.block.saturating_record(ns);
        }
        self.events += 1;
        if self.events.is_multiple_of(BLOCK) {
            self.blocks.push(self.block.value_at_quantile(0.99));
            self.block.reset();
        }
        Ok(())
    }
}

/// The cores this thread may use, the first of them for engines.
struct Cores {
    all: CpuSet,
    numbers: Vec<usize>,
}

impl Cores {
    fn of_this_thread() -> Outcome<Cores> {
        let all = sched_getaffinity(None)?;
        Ok(Cores { numbers: (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core)).collect(), all })
    }

    /// `None` where there is but one.
    fn first(&self) -> Option<usize> {
        self.numbers.first().copied().filter(|_| self.numbers.len() > 1)
    }

    fn keep_to_others(&self) -> Outcome<()> {
        let Some(first) = self.first() else { return Ok(()) };
        let mut others = self.all;
        others.unset(first);
        Ok(sched_setaffinity(None, &others)?)
    }

    fn restore(&self) -> Outcome<()> {
        Ok(sched_setaffinity(None, &self.all)?)
    }
}

/// The process that hangs.
struct Hanging {
    child: Child,
    url: String,
    ca: String,
}

impl Drop for Hanging {
    fn drop(&mut self) {
        // Whatever fails here, the process ends with this one's pipes.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Hanging {
    fn start(how: &str) -> Outcome<Hanging> {
        let mut child = engine::part(HANG)?.arg(how).stdin(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take();
        let mut hanging = Hanging { child, url: String::new(), ca: String::new() };
        let mut line = String::new();
        BufReader::new(stdout.ok_or("no pipe")?).read_line(&mut line)?;
        let said: Value = serde_json::from_str(&line).map_err(|e| format!("nothing hangs: {e}"))?;
        let text = |name| said.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        (hanging.url, hanging.ca) = (text("url"), text("ca"));
        Ok(hanging)
    }
}

/// The other side of [`Hanging`]: until its standard input ends.
pub(crate) fn play_hang() -> ExitCode {
    match hang(&std::env::args().nth(2).unwrap_or_default()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{HANG}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn hang(how: &str) -> Outcome<()> {
    let way =
        WAYS.iter().find(|way| way.0 == how).ok_or_else(|| format!("no way to hang is called {how:?}"))?;
    tocsin::os::memory::raise_descriptor_limit()?;
    rustix::process::nice(19)?;
    let never = SimReceiver::start(ReceiverOptions {
        connections: 32_768,
        greetings: vec![way.1],
        otherwise: Behaviour::silent(),
        ..ReceiverOptions::default()
    })?;
    println!("{}", json!({"url": never.base_url(), "ca": never.ca().pem()}));
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}
