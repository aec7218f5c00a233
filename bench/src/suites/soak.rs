//! Suite `soak`: the whole engine under load and faults for as long as one likes. Does it stay as it was?
//!
//! Contract: one engine, three simulated exchanges, subscribers over TLS and endpoints, all on loopback; a
//! notice a second and a burst once a cycle. In each cycle ([`Sizes::cycle`]) a share of the subscribers is
//! reset and comes back at once, resuming; one exchange answers 429 and another drops its connections;
//! endpoints fail, reset and hang up; readers that read nothing come and are closed. Every
//! [`Sizes::sample`] its memory, descriptors and latencies are looked at. The verdict is in the figures:
//! nothing lost, nothing twice, nothing dropped, and memory, descriptors and latencies at the end as after
//! the warm-up ([`judge`] states the bounds). Owner: the runner's thread, and one for each kind of
//! subscribers. Blocks and allocates; what it keeps does not grow with the time, but for the samples. Fails
//! when a part does not start or a subscriber is closed that reads.

mod deliveries;
mod judge;
mod stage;
mod subscribers;

use std::time::{Duration, Instant};

use serde_json::json;
use tocsin_core::limits;

use self::judge::Samples;
use self::stage::Stage;
use super::Context;
use crate::engine::Outcome;
use crate::result::{Figure, Series, SuiteResult, Target, Unit};

/// Between two looks at what is due.
const TICK: Duration = Duration::from_millis(20);
/// At the end everything published must be heard, and everything pending delivered: the first retry comes
/// half a minute after its failure.
const FINISH_PATIENCE: Duration = Duration::from_secs(150);
/// A run is this long unless told otherwise, in minutes.
const MINUTES: u32 = 30;

/// What is run.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// Subscribers that stay all the time.
    pub staying: usize,
    /// Subscribers that are reset and come back once a cycle.
    pub coming: usize,
    /// Readers that read nothing, new ones each cycle.
    pub deaf: usize,
    /// Webhook endpoints.
    pub endpoints: usize,
    /// Of them, how many fail in each cycle.
    pub failing: usize,
    /// How long all of it lasts.
    pub lasts: Duration,
    /// Length of a cycle of faults.
    pub cycle: Duration,
    /// Between two notices.
    pub interval: Duration,
    /// Notices on each exchange in a cycle's burst.
    pub burst: usize,
    /// Between two samples.
    pub sample: Duration,
    /// Announcements before the first.
    pub history: usize,
}

impl Sizes {
    /// As the command line asks.
    #[must_use]
    pub fn of(context: &Context) -> Sizes {
        let minutes = context.minutes.unwrap_or(if context.quick { 1 } else { MINUTES });
        let (staying, coming, endpoints) = if context.quick { (150, 50, 20) } else { (1_500, 500, 200) };
        Sizes {
            staying,
            coming,
            deaf: 20,
            endpoints,
            failing: endpoints / 10,
            lasts: Duration::from_secs(60) * minutes,
            cycle: Duration::from_secs(if context.quick { 20 } else { 60 }),
            interval: Duration::from_secs(1),
            burst: 6,
            sample: Duration::from_secs(if context.quick { 2 } else { 10 }),
            history: if context.quick { 0 } else { limits::HISTORY_IN_MEMORY },
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

/// A fault of a cycle, by when in it it comes, in hundredths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Subscribers are reset and come back.
    Resets,
    /// An exchange answers 429.
    Refusal,
    /// Endpoints fail.
    Receivers,
    /// Readers that read nothing.
    Deaf,
    /// Many notices at once.
    Burst,
    /// An exchange drops its connections.
    Dropped,
}

const CYCLE: [(u32, Fault); 6] = [
    (5, Fault::Resets),
    (20, Fault::Refusal),
    (35, Fault::Receivers),
    (50, Fault::Deaf),
    (65, Fault::Burst),
    (80, Fault::Dropped),
];

/// The faults in the order of time, for ever.
struct Timetable {
    cycle: Duration,
    next: usize,
}

impl Timetable {
    /// The next fault, if it is due so long after the beginning.
    fn due(&mut self, elapsed: Duration) -> Option<(u32, Fault)> {
        let (round, place) = (self.next / CYCLE.len(), self.next % CYCLE.len());
        let (hundredths, fault) = *CYCLE.get(place)?;
        let round = u32::try_from(round).unwrap_or(u32::MAX);
        let due = self.cycle.saturating_mul(round) + self.cycle * hundredths / 100;
        (elapsed >= due).then(|| {
            self.next += 1;
            (round, fault)
        })
    }
}

/// Measures with these sizes.
///
/// # Errors
/// See the module head.
pub fn measure(sizes: &Sizes, seed: u64) -> Outcome<SuiteResult> {
    tocsin::os::memory::raise_descriptor_limit()?;
    let mut stage = Stage::set(sizes, seed)?;
    let mut samples = Samples::new(sizes.lasts);
    let begin = Instant::now();
    let mut faults = Timetable { cycle: sizes.cycle, next: 0 };
    let (mut next_notice, mut next_sample) = (Duration::ZERO, sizes.sample);
    let mut injected = 0_u32;
    while begin.elapsed() < sizes.lasts {
        let elapsed = begin.elapsed();
        stage.look()?;
        if let Some((round, fault)) = faults.due(elapsed) {
            stage.inject(fault, round)?;
            injected += 1;
        }
        if elapsed >= next_notice {
            next_notice += sizes.interval;
            stage.publish(1);
        }
        if elapsed >= next_sample {
            next_sample += sizes.sample;
            samples.take(elapsed, &mut stage)?;
        }
        std::thread::sleep(TICK);
    }
    let end = Instant::now() + FINISH_PATIENCE;
    while Instant::now() < end && !stage.is_quiet()? {
        stage.look()?;
        std::thread::sleep(Duration::from_millis(200));
    }
    report(sizes, injected, stage, samples)
}

fn report(sizes: &Sizes, injected: u32, mut stage: Stage, samples: Samples) -> Outcome<SuiteResult> {
    let mut result = SuiteResult { name: "soak".to_owned(), ..SuiteResult::default() };
    let settings = [
        ("minutes", json!(sizes.lasts.as_secs_f64() / 60.0)),
        ("staying", json!(sizes.staying)),
        ("coming_and_going", json!(sizes.coming)),
        ("deaf_a_cycle", json!(sizes.deaf)),
        ("endpoints", json!(sizes.endpoints)),
        ("failing_a_cycle", json!(sizes.failing)),
        ("cycle_seconds", json!(sizes.cycle.as_secs_f64())),
        ("interval_ms", json!(sizes.interval.as_millis() as u64)),
        ("burst_on_each_exchange", json!(sizes.burst)),
        ("sample_seconds", json!(sizes.sample.as_secs_f64())),
        ("engine", json!("idle = block, TLS")),
    ];
    result.settings = settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let plain = |name: &str, value: f64, target: Option<Target>| Figure {
        name: name.to_owned(),
        unit: Unit::Plain,
        value,
        target,
    };
    let none = Some(Target::AtMost(0.0));
    result.figures.push(plain("faults injected", f64::from(injected), None));
    for (name, value, wanted) in stage.totals()? {
        result.figures.push(plain(name, value, if wanted { none } else { None }));
    }
    let (broken, latencies) = stage.end()?;
    result.figures.push(plain("promises broken", broken.len() as f64, none));
    result.notes.extend(broken.into_iter().take(20));
    for (name, histogram) in latencies {
        result.series.push(Series::new(name, Unit::Nanoseconds, &histogram));
    }
    samples.judge(&mut result);
    result.notes.push(
        "exchanges, subscribers and receivers share the cores of this machine with the engine: latencies \
         are for comparing the end of the run with its beginning"
            .to_owned(),
    );
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_come_in_their_order_in_every_cycle() {
        let mut faults = Timetable { cycle: Duration::from_secs(100), next: 0 };
        assert_eq!(faults.due(Duration::from_secs(4)), None);
        assert_eq!(faults.due(Duration::from_secs(5)), Some((0, Fault::Resets)));
        assert_eq!(faults.due(Duration::from_secs(6)), None);
        let late: Vec<_> = std::iter::from_fn(|| faults.due(Duration::from_secs(106))).collect();
        assert_eq!(late.first(), Some(&(0, Fault::Refusal)));
        assert_eq!(late.last(), Some(&(1, Fault::Resets)));
        assert_eq!(late.len(), CYCLE.len());
    }
}
