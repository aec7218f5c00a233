//! Suite `control`: announcements to live subscribers while the control plane is flooded with requests, and
//! while its clients die in the middle of theirs.
//!
//! Contract: as `storm`: an engine whose hot threads have the first core and whose others are with the load on
//! the second (`apart`), then one that has everything on the first (`shared`); with one core for all it says
//! so. Rounds take turns, quiet and troubled; each gives a median and a 99th percentile, and the ratio
//! compares those of neighbouring rounds. A latency ends when a subscriber's bytes were read here and begins
//! at `detectedTimestampUs`: the admin API that brings the announcement in is what is flooded. Owner: a thread
//! of its own. Fails when the engine or the flood does not start.

mod flood;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, ExitCode, Stdio};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tocsin::os::cores;

use super::Context;
use crate::announcer::{Announcer, number_in_title};
use crate::crowd::{Crowd, number_of};
use crate::engine::{self, Engine, Outcome, Setup};
use crate::result::{Comparison, Figure, Series, SuiteResult, Target, Unit, new_histogram, ratio};

/// The hidden part of the flood.
pub const FLOOD: &str = "control-flood";
/// What troubles the control plane.
const TROUBLES: [&str; 2] = ["requests", "killed"];
/// Promised: the 99th percentile moves by less than a tenth.
const PROMISED: Target = Target::AtMost(1.1);
/// Between two rounds: what was under way ends.
const CALM: Duration = Duration::from_millis(500);
/// Subscribers that are not connected by then have failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Plays [`FLOOD`].
#[must_use]
pub fn play_flood() -> ExitCode {
    flood::play()
}

/// What is measured.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// Live subscribers.
    pub live: usize,
    /// Rounds of each kind of trouble, and as many quiet ones.
    pub rounds: usize,
    /// Length of one.
    pub round: Duration,
    /// Between two announcements.
    pub interval: Duration,
    /// Requests, or dying clients, a second.
    pub rate: u32,
}

impl Sizes {
    /// As the command line asks.
    #[must_use]
    pub fn of(context: &Context) -> Sizes {
        let (live, rounds, round) = match context.quick {
            true => (20, 3, Duration::from_secs(1)),
            false => (50, 15, Duration::from_secs(2)),
        };
        // Four hundred announcements a round: its 99th percentile is not its one worst.
        Sizes { live, rounds, round, interval: Duration::from_millis(5), rate: 1_000 }
    }
}

/// The suite's entry.
///
/// # Errors
/// See the module head.
pub fn run(context: &Context) -> Result<SuiteResult, String> {
    measure(&Sizes::of(context)).map_err(|e| e.to_string())
}

/// Measures with these sizes.
///
/// # Errors
/// See the module head.
pub fn measure(sizes: &Sizes) -> Outcome<SuiteResult> {
    let mut result = SuiteResult { name: "control".to_owned(), ..SuiteResult::default() };
    let (server, load) = match cores::available()[..] {
        [server, load, ..] => (Some(server), Some(load)),
        _ => (None, None),
    };
    if load.is_none() {
        result.notes.push("one core for engine and load: no figure here says much".to_owned());
    }
    let settings = [
        ("live", json!(sizes.live)),
        ("rounds_of_each_kind", json!(sizes.rounds)),
        ("round_ms", json!(sizes.round.as_millis() as u64)),
        ("interval_ms", json!(sizes.interval.as_millis() as u64)),
        ("rate", json!(sizes.rate)),
        ("server_core", json!(server)),
        ("load_core", json!(load)),
    ];
    result.settings = settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    // In a thread of its own, so that pinning ends with it.
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| both(sizes, server, load, &mut result));
        reader.join().map_err(|_| "the measuring thread panicked")?
    })?;
    Ok(result)
}

fn both(sizes: &Sizes, server: Option<usize>, load: Option<usize>, result: &mut SuiteResult) -> Outcome<()> {
    if let Some(core) = load {
        cores::pin(core)?;
        one(sizes, "apart", server, load, result)?;
    }
    one(sizes, "shared", server, load, result)
}

/// Medians and 99th percentiles of the rounds of one kind, and all of them together.
#[derive(Clone)]
struct Kind {
    p50: Vec<u64>,
    p99: Vec<u64>,
    whole: Histogram<u64>,
}

impl Kind {
    fn new() -> Kind {
        Kind { p50: Vec::new(), p99: Vec::new(), whole: new_histogram() }
    }

    fn round(&mut self, heard: &[u64]) -> Outcome<()> {
        if heard.is_empty() {
            return Err("a round in which nothing was heard".into());
        }
        let mut round = new_histogram();
        heard.iter().for_each(|ns| round.saturating_record(*ns));
        self.p50.push(round.value_at_quantile(0.5));
        self.p99.push(round.value_at_quantile(0.99));
        self.whole.add(&round)?;
        Ok(())
    }
}

fn one(
    sizes: &Sizes,
    layout: &str,
    server: Option<usize>,
    load: Option<usize>,
    result: &mut SuiteResult,
) -> Outcome<()> {
    let setup = Setup { tls: true, core: server, admin: true, ..Setup::default() };
    let engine = Engine::running(&setup)?;
    if let ("apart", Some(core)) = (layout, load) {
        let hot = |name: &str| name.starts_with("source-") || name.starts_with("feed-");
        engine::move_threads(engine.pid(), core, |name| !hot(name))?;
    }
    let mut live = Crowd::new(engine.feed(), &engine.key(sizes.live)?, true)?;
    live.connect(sizes.live, "", PATIENCE)?;
    let mut flood = Flood::start(&engine, load)?;
    let _first = engine::read_first(&mut result.notes);
    let announcer = Announcer::start(&engine, sizes.interval)?;
    listen(&mut live, CALM)?;
    let mut quiet: Vec<Kind> = TROUBLES.iter().map(|_| Kind::new()).collect();
    let mut troubled = quiet.clone();
    let mut came = Vec::new();
    for _ in 0..sizes.rounds {
        for ((trouble, quiet), troubled) in TROUBLES.iter().zip(&mut quiet).zip(&mut troubled) {
            quiet.round(&listen(&mut live, sizes.round)?)?;
            flood.say(&format!("{trouble} {}", sizes.rate))?;
            troubled.round(&listen(&mut live, sizes.round)?)?;
            came.push(json!({"trouble": trouble, "clients": flood.calm()?}));
            listen(&mut live, CALM)?;
        }
    }
    let (_, failed) = announcer.stop()?;
    if let Some(failed) = failed {
        result.notes.push(format!("{layout}: an announcement failed: {failed}"));
    }
    result.settings.insert(format!("flood_{layout}"), json!(came));
    for ((trouble, quiet), troubled) in TROUBLES.iter().zip(&quiet).zip(&troubled) {
        report(layout, trouble, quiet, troubled, result);
    }
    Ok(())
}

/// Nanoseconds from detection to here, of every announcement at every subscriber for so long.
fn listen(live: &mut Crowd, lasts: Duration) -> Outcome<Vec<u64>> {
    let mut heard = Vec::new();
    live.listen(
        Instant::now() + lasts,
        |message| {
            let ours = number_in_title(message.json).is_some();
            if let (true, Some(detected)) = (ours, number_of(message.json, "detectedTimestampUs")) {
                heard.push(u64::try_from(message.at.0 - detected).unwrap_or(0).saturating_mul(1_000));
            }
        },
        || false,
    )?;
    Ok(heard)
}

fn report(layout: &str, trouble: &str, quiet: &Kind, troubled: &Kind, result: &mut SuiteResult) {
    let name = |of: &str| format!("control/{layout}/{trouble}/{of}");
    for (of, kind) in [("quiet", quiet), ("troubled", troubled)] {
        result.series.push(Series::new(name(of), Unit::Nanoseconds, &kind.whole));
    }
    // Where the hot threads have a core of their own the promise holds; on a shared one it is told. It is the
    // whole run's: the 99th percentile of one round is that of its four worst announcements.
    let target = (layout == "apart").then_some(PROMISED);
    for (of, ours, other) in [("p50", &troubled.p50, &quiet.p50), ("p99", &troubled.p99, &quiet.p99)] {
        let rounds: Vec<_> = ours.iter().copied().zip(other.iter().copied()).collect();
        let Some((ratio, quartiles)) = ratio(&rounds) else { continue };
        result.comparisons.push(Comparison {
            name: format!("{layout}, {trouble}: {of} of a round, troubled against quiet"),
            ours: name("troubled"),
            other: name("quiet"),
            ratio,
            quartiles,
            rounds: rounds.len(),
            target: None,
        });
    }
    let whole = |kind: &Kind| kind.whole.value_at_quantile(0.99) as f64;
    result.figures.push(Figure {
        name: name("whole run/p99 ratio"),
        unit: Unit::Plain,
        value: whole(troubled) / whole(quiet).max(1.0),
        target,
    });
}

/// The flood's process.
struct Flood {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Drop for Flood {
    fn drop(&mut self) {
        // Whatever fails here, the process ends with this one's pipes.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Flood {
    fn start(engine: &Engine, core: Option<usize>) -> Outcome<Flood> {
        let address = engine.admin_address().ok_or("the engine has no admin listener")?;
        let mut command = engine::part(FLOOD)?;
        command.arg(address.to_string()).stdin(Stdio::piped());
        let mut child = engine::spawn_on(core, command)?;
        let input = child.stdin.take().ok_or("no pipe")?;
        let output = BufReader::new(child.stdout.take().ok_or("no pipe")?);
        Ok(Flood { child, input, output })
    }

    fn say(&mut self, line: &str) -> Outcome<()> {
        Ok(writeln!(self.input, "{line}")?)
    }

    /// Stops it; what it counted.
    fn calm(&mut self) -> Outcome<Value> {
        self.say("calm")?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(serde_json::from_str(&line).map_err(|e| format!("the flood has gone: {e}"))?)
    }
}
