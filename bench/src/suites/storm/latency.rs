//! Announcements to live subscribers, in quiet and while the storm's clients come back.
//!
//! Contract: two engines, one after the other: `apart` keeps the accept thread (with all but the source
//! and feed threads) on the storm's core, as a machine with cores for its hot threads does; `shared` has
//! everything on one core. A latency ends when a subscriber's bytes were read here, and begins at the
//! instant the announcement was due (`due`) or at `detectedTimestampUs` (`detected`), which leaves out the
//! admin API that brings it in. Readers run on the storm's core too, with precedence over its clients.
//! Owner: a thread of its own, which reads; one more announces.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::json;
use tocsin::os::clock;
use tocsin_core::time::WallUs;

use super::{Cores, Far, HOW, Sizes, number};
use crate::announcer::{Announcer, number_in_title};
use crate::crowd::{Crowd, number_of};
use crate::engine::{self, Engine, Outcome, Setup};
use crate::result::{Figure, Series, SuiteResult, Target, Unit, new_histogram};

/// After a storm, until what follows counts as quiet again.
const CALM: Duration = Duration::from_secs(1);
/// Allowed on top of twice the quiet 99th percentile.
const MARGIN_NS: f64 = 1_000_000.0;
/// A storm that lasts longer has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// What an announcement was sent in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Between the two, or before.
    Neither,
    Quiet,
    Storm(usize),
}

pub(super) fn measure(sizes: &Sizes, cores: Cores, result: &mut SuiteResult) -> Outcome<()> {
    // In a thread of its own, so that pinning ends with it.
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| both(sizes, cores, result));
        reader.join().map_err(|_| "the measuring thread panicked")?
    })
}

fn both(sizes: &Sizes, cores: Cores, result: &mut SuiteResult) -> Outcome<()> {
    if let Some(core) = cores.load {
        tocsin::os::cores::pin(core)?;
    }
    for apart in [true, false] {
        if apart && cores.load.is_none() {
            continue;
        }
        one(sizes, cores, apart, result)?;
    }
    Ok(())
}

fn one(sizes: &Sizes, cores: Cores, apart: bool, result: &mut SuiteResult) -> Outcome<()> {
    let max_connections = 2 * sizes.clients + sizes.live;
    let setup = Setup { tls: true, core: cores.server, max_connections, ..Setup::default() };
    let engine = Engine::running(&setup)?;
    if let (true, Some(core)) = (apart, cores.load) {
        let hot = |name: &str| name.starts_with("source-") || name.starts_with("feed-");
        engine::move_threads(engine.pid(), core, |name| !hot(name))?;
    }
    let mut live = Crowd::new(engine.feed(), &engine.key(sizes.live)?, true)?;
    live.connect(sizes.live, "", PATIENCE)?;
    let key = engine.key(2 * sizes.clients)?;
    let mut far = Far::start(engine.feed(), sizes.clients, &key, cores.load)?;
    // They have to have been there to come back; their tickets are those of the storm.
    far.say("come full")?;
    read_until(&mut live, &mut far, None, &mut Vec::new())?;

    let _first = engine::read_first(&mut result.notes);
    let announcer = Announcer::start(&engine, sizes.interval)?;
    let mut heard = Vec::new();
    // When each phase began, and which; the last one has no end.
    let mut phases = vec![(clock::wall(), Phase::Neither)];
    let mut came = Vec::new();
    for _ in 0..sizes.storms {
        for (how, name) in HOW.iter().enumerate() {
            phases.push((clock::wall(), Phase::Quiet));
            read_until(&mut live, &mut far, Some(Instant::now() + sizes.quiet), &mut heard)?;
            phases.push((clock::wall(), Phase::Storm(how)));
            far.say(&format!("come {name}"))?;
            came.push(read_until(&mut live, &mut far, None, &mut heard)?);
            phases.push((clock::wall(), Phase::Neither));
            read_until(&mut live, &mut far, Some(Instant::now() + CALM), &mut heard)?;
        }
    }
    let (start, failed) = announcer.stop()?;
    read_until(&mut live, &mut far, Some(Instant::now() + CALM), &mut heard)?;
    let layout = if apart { "apart" } else { "shared" };
    if let Some(failed) = failed {
        result.notes.push(format!("{layout}: an announcement failed: {failed}"));
    }
    report(layout, start, sizes, &phases, &heard, result);
    result.settings.insert(format!("storms_{layout}"), json!(came));
    Ok(())
}

/// One announcement at one subscriber.
struct Heard {
    number: i64,
    detected: i64,
    at: i64,
}

/// Reads until the clients answer (with `until`: until then); their answer.
fn read_until(
    live: &mut Crowd,
    far: &mut Far,
    until: Option<Instant>,
    heard: &mut Vec<Heard>,
) -> Outcome<Option<serde_json::Value>> {
    let end = until.unwrap_or_else(|| Instant::now() + PATIENCE);
    let mut answer = None;
    live.listen(
        end,
        |message| {
            let number = number_in_title(message.json);
            if let (Some(number), Some(detected)) = (number, number_of(message.json, "detectedTimestampUs")) {
                heard.push(Heard { number, detected, at: message.at.0 });
            }
        },
        || {
            if until.is_none() {
                answer = far.answers.try_recv().ok();
            }
            answer.is_some()
        },
    )?;
    match answer {
        None if until.is_none() => Err("the storm does not end".into()),
        None => Ok(None),
        Some(line) => {
            let answer: serde_json::Value = serde_json::from_str(&line)?;
            if number(&answer, "failed")? > 0 {
                return Err(format!("clients were refused: {answer}").into());
            }
            Ok(Some(answer))
        }
    }
}

fn report(
    layout: &str,
    start: WallUs,
    sizes: &Sizes,
    phases: &[(WallUs, Phase)],
    heard: &[Heard],
    result: &mut SuiteResult,
) {
    let interval_us = i64::try_from(sizes.interval.as_micros()).unwrap_or(i64::MAX);
    let due = |number: i64| WallUs(start.0 + number * interval_us);
    let phase_at = |at: WallUs| {
        phases.iter().rev().find(|(from, _)| *from <= at).map_or(Phase::Neither, |(_, phase)| *phase)
    };
    let nanoseconds = |us: i64| u64::try_from(us).unwrap_or(0).saturating_mul(1_000);
    let mut times: BTreeMap<i64, usize> = BTreeMap::new();
    heard.iter().for_each(|one| *times.entry(one.number).or_default() += 1);
    // From the first heard to the last: what came before or after was not listened for.
    let span = times.first_key_value().zip(times.last_key_value()).map(|(first, last)| *first.0..*last.0);
    let lost = span.into_iter().flatten().filter(|n| times.get(n).is_none_or(|count| *count < sizes.live));
    result.figures.push(Figure {
        name: format!("latency/{layout}/announcements not heard by all"),
        unit: Unit::Plain,
        value: lost.count() as f64,
        target: Some(Target::AtMost(0.0)),
    });
    let wanted =
        [("quiet", Phase::Quiet), ("storm full", Phase::Storm(0)), ("storm resumed", Phase::Storm(1))];
    for from in ["due", "detected"] {
        let mut all: Vec<Histogram<u64>> = Vec::new();
        for (name, phase) in wanted {
            let mut histogram = new_histogram();
            for one in heard.iter().filter(|one| phase_at(due(one.number)) == phase) {
                let begin = if from == "due" { due(one.number).0 } else { one.detected };
                histogram.saturating_record(nanoseconds(one.at - begin));
            }
            let name = format!("latency/{layout}/from {from}/{name}");
            result.series.push(Series::new(name, Unit::Nanoseconds, &histogram));
            all.push(histogram);
        }
        let [quiet, storms @ ..] = &all[..] else { continue };
        let bound = 2.0 * quiet.value_at_quantile(0.99) as f64 + MARGIN_NS;
        for (how, storm) in HOW.iter().zip(storms) {
            result.figures.push(Figure {
                name: format!("latency/{layout}/from {from}/storm {how}/max"),
                unit: Unit::Nanoseconds,
                value: storm.max() as f64,
                // What is promised is the engine's: from when it had the announcement.
                target: (from == "detected" && layout == "apart").then_some(Target::AtMost(bound)),
            });
        }
    }
}
