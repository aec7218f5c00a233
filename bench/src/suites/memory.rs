//! Suite `memory`: what an idle subscriber costs.
//!
//! Contract: growth of the engine's resident memory divided by the subscribers who made it grow, plain
//! and TLS, each in an engine of its own, in turn, several rounds. Owner: the runner's thread. Fails when
//! an engine does not start or a subscriber is refused; too few descriptors are `missing`.

use std::time::{Duration, Instant};

use serde_json::json;

use super::Context;
use crate::crowd::Crowd;
use crate::engine::{Engine, Outcome, Setup};
use crate::result::{Figure, Missing, SuiteResult, Target, Unit, quantile};

/// From the last welcome to reading the memory: allocators give back late.
const SETTLE: Duration = Duration::from_secs(3);
/// Descriptors beside the subscribers.
const OTHER_DESCRIPTORS: u64 = 256;

/// What is measured.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// Subscribers of each engine.
    pub counts: Vec<usize>,
    /// Engines of each kind.
    pub rounds: usize,
    /// From the last welcome to reading the memory.
    pub settle: Duration,
}

impl Sizes {
    /// As the command line asks.
    #[must_use]
    pub fn of(context: &Context) -> Sizes {
        match context.quick {
            true => Sizes { counts: vec![500], rounds: 1, settle: SETTLE },
            false => Sizes { counts: vec![1_000, 5_000], rounds: 3, settle: SETTLE },
        }
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
    let mut result = SuiteResult { name: "memory".to_owned(), ..SuiteResult::default() };
    let limit = tocsin::os::memory::raise_descriptor_limit()?;
    result.settings.insert("counts".to_owned(), json!(sizes.counts));
    result.settings.insert("rounds".to_owned(), json!(sizes.rounds));
    for &count in &sizes.counts {
        if limit < count as u64 + OTHER_DESCRIPTORS {
            let why = format!("{limit} descriptors are too few; raise `ulimit -n`");
            result.missing.push(Missing { what: format!("{count} subscribers"), why });
            continue;
        }
        let (mut plain, mut tls) = (Vec::new(), Vec::new());
        for _ in 0..sizes.rounds {
            plain.push(each(count, false, sizes.settle)?);
            tls.push(each(count, true, sizes.settle)?);
        }
        for (name, values, bound) in [("plain", plain, 1_024.0), ("tls", tls, 2_048.0)] {
            let value = quantile(values.into_iter(), 0.5).ok_or("no round")?;
            let name = format!("{name}/{count}/idle subscriber");
            // Below a few thousand the engine's own growth, shared out, is most of it.
            let target = (count >= 5_000).then_some(Target::AtMost(bound));
            result.figures.push(Figure { name, unit: Unit::Bytes, value, target });
        }
    }
    result.notes.push(
        "growth of VmRSS from before the first subscriber to a while after the last welcome, divided \
         by their number; kernel memory of the sockets is not in it"
            .to_owned(),
    );
    Ok(result)
}

fn each(count: usize, tls: bool, settle: Duration) -> Outcome<f64> {
    let max_connections = count.max(1_024);
    let engine = Engine::running(&Setup { tls, max_connections, ..Setup::default() })?;
    let mut crowd = Crowd::new(engine.feed(), &engine.key(count)?, tls)?;
    let before = engine.memory("VmRSS")?;
    crowd.connect(count, "", Duration::from_secs(300))?;
    crowd.listen(Instant::now() + settle, |_| {}, || false)?;
    let grown = engine.memory("VmRSS")?.saturating_sub(before);
    Ok(grown as f64 / count.max(1) as f64)
}
