//! Suite `detect`: from publication to detection, at a given budget of requests.
//!
//! Contract: in simulated time the engine's own pacing against the least mean delay there can be and
//! against an even schedule, for publish times that are uniform and for such as were counted; on real
//! sockets the whole engine beside plain clients that ask as often (see [`race`]). Owner: the runner's
//! thread. Fails when the engine does not start; clients that cannot be had are `missing`.

mod poller;
mod race;
mod schedule;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use tocsin_core::source::exchange;
use tocsin_core::source::pacing::{Budget, Mode};

pub use self::race::RaceSizes;
use self::schedule::Times;
use super::Context;
use crate::engine::Outcome;
use crate::result::{Figure, Series, SuiteResult, Target, Unit};

/// The hidden part of the plain client.
pub const POLLER: &str = "poll-client";
/// Promised: mean delay over the least there can be, uniform times.
const OVER_LEAST: f64 = 1.02;
/// Promised: an even schedule's mean delay over ours, clustered times.
const FLAT_OVER_OURS: f64 = 4.0;
/// Budgets of the clustered comparison, in requests a second: up to Binance's default.
const MEANS: [f64; 4] = [0.2, 0.3, 0.4, 1.0];
/// Of these, those far enough below the exchange's peak of 2 that such a gain is possible at all.
const FAR_BELOW_PEAK: f64 = 0.4;

/// Plays [`POLLER`].
#[must_use]
pub fn play_poller() -> ExitCode {
    poller::play()
}

/// What is measured.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// Starts of the schedule in simulated time, a day each.
    pub starts: usize,
    /// Publications drawn in all of them.
    pub publications: usize,
    /// Races on real sockets, one after the other.
    pub races: Vec<RaceSizes>,
}

impl Sizes {
    /// As the command line asks.
    #[must_use]
    pub fn of(context: &Context) -> Sizes {
        let stretch = Duration::from_millis(100);
        match context.quick {
            true => Sizes {
                starts: 30,
                publications: 20_000,
                races: vec![RaceSizes { rate: 50.0, publications: 80, stretch }],
            },
            false => Sizes {
                starts: 200,
                publications: 400_000,
                // Ten blocks of a Fibonacci number each: so many steps of the golden ratio lie almost evenly. The
                // slower race needs more of them, for there a spacing is long beside what sets contenders apart.
                races: vec![
                    RaceSizes { rate: 10.0, publications: 10 * 144, stretch },
                    RaceSizes { rate: 100.0, publications: 10 * 89, stretch },
                ],
            },
        }
    }
}

/// The suite's entry.
///
/// # Errors
/// See the module head.
pub fn run(context: &Context) -> Result<SuiteResult, String> {
    measure(&Sizes::of(context), &context.cache, context.seed).map_err(|e| e.to_string())
}

/// Measures with these sizes.
///
/// # Errors
/// See the module head.
pub fn measure(sizes: &Sizes, cache: &Path, seed: u64) -> Outcome<SuiteResult> {
    let mut result = SuiteResult { name: "detect".to_owned(), ..SuiteResult::default() };
    let races: Vec<_> = sizes
        .races
        .iter()
        .map(|r| json!({"rate": r.rate, "publications": r.publications, "stretch_ms": r.stretch.as_millis() as u64}))
        .collect();
    result.settings.insert("simulated_starts".to_owned(), json!(sizes.starts));
    result.settings.insert("simulated_publications".to_owned(), json!(sizes.publications));
    result.settings.insert("simulated_one_way_ms".to_owned(), json!(schedule::ONE_WAY.as_millis() as u64));
    result.settings.insert("races".to_owned(), json!(races));
    uniform(sizes, seed, &mut result);
    clustered(sizes, seed, &mut result);
    for race in &sizes.races {
        race::measure(race, cache, seed, &mut result)?;
    }
    Ok(result)
}

/// Every source's default budget, spent evenly, against the least there can be.
fn uniform(sizes: &Sizes, seed: u64, result: &mut SuiteResult) {
    for spec in exchange::ALL {
        let (histogram, mean) = schedule::delays(
            spec.pacing,
            Mode::Flat,
            Times::Uniform,
            (sizes.starts, sizes.publications),
            seed,
        );
        let name = format!("simulated/{}/uniform/flat", spec.config_name);
        result.series.push(Series::new(name.clone(), Unit::Nanoseconds, &histogram));
        result.figures.push(Figure {
            name: format!("{name}/mean over the least"),
            unit: Unit::Plain,
            value: mean / schedule::least_ns(&spec.pacing),
            target: Some(Target::AtMost(OVER_LEAST)),
        });
    }
}

/// Binance's schedule against an even one, where it publishes.
fn clustered(sizes: &Sizes, seed: u64, result: &mut SuiteResult) {
    for mean in MEANS {
        let budget = Budget { requests_per_second: mean, ..exchange::binance::CMS.pacing };
        let mut of = |mode, how: &str| {
            let counts = (sizes.starts, sizes.publications);
            let (histogram, mean_ns) = schedule::delays(budget, mode, Times::Clustered, counts, seed);
            let name = format!("simulated/binance/clustered/{mean}/{how}");
            result.series.push(Series::new(name, Unit::Nanoseconds, &histogram));
            mean_ns
        };
        let (flat, ours) = (of(Mode::Flat, "flat"), of(Mode::Clustered, "clustered"));
        result.figures.push(Figure {
            name: format!("simulated/binance/clustered/{mean}/flat over clustered"),
            unit: Unit::Plain,
            value: flat / ours,
            target: (mean <= FAR_BELOW_PEAK).then_some(Target::AtLeast(FLAT_OVER_OURS)),
        });
    }
    result.notes.push(
        "an exchange's peak bounds what a denser schedule can gain: at half of it, Binance's default of 1 \
         request a second with a peak of 2, its spacing is half of an even one's; 36 % of the publications \
         are taken to show exactly on a mark, and a request leaves 20 ms after each"
            .to_owned(),
    );
}
