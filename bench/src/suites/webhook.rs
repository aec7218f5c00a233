//! Suite `webhook`: from an event to its first requests, good endpoints beside hung ones, deliveries a
//! second, and starts with deliveries pending.
//!
//! Contract: engines of their own, simulated receivers in this process, real TLS on loopback. A latency is
//! the engine's own stamps, from `detectedTimestampUs` of the announcement to `X-CEXPing-Sent-At` of a
//! request, taken right before it is signed and written, plus what the event before it made this one wait
//! beyond its instant. Sizes take turns, event by event, and with them the floor: a thread that is woken and
//! does nothing ([`bare`]). Owner: the runner's thread. Fails when an engine does not start or a request
//! does not come.

mod bare;
pub(super) mod filled;
mod isolation;
mod store;

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::json;
use tocsin_core::webhook::endpoint::{Disabled, State};
use tocsin_sim::receiver::{ReceiverOptions, SimReceiver};

use self::bare::Bare;
use self::filled::Filled;
pub use self::isolation::Beside;
pub(crate) use self::isolation::{HANG, play_hang};
use super::Context;
use crate::engine::Outcome;
use crate::result::{Figure, Series, SuiteResult, Target, Unit, new_histogram};

/// Warm connections of an endpoint.
const CONNECTIONS_EACH: usize = 2;

/// What is measured.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// Endpoints of each engine of the latency part.
    pub latency: Vec<usize>,
    /// Events each of them gets.
    pub events: usize,
    /// Between two events of the part.
    pub interval: Duration,
    /// The isolation part.
    pub beside: Beside,
    /// Endpoints of the throughput part, and how long it lasts.
    pub throughput: (usize, Duration),
    /// Endpoints and pending deliveries of the recovery part.
    pub recovery: (usize, usize),
    /// Endpoints and events of the store's part.
    pub store: (u64, u64),
}

impl Sizes {
    /// As the command line asks.
    #[must_use]
    pub fn of(context: &Context) -> Sizes {
        match context.quick {
            true => Sizes {
                latency: vec![1, 100],
                events: 20,
                interval: Duration::from_millis(50),
                beside: Beside { good: 20, hung: 50, events: 50, interval: Duration::from_millis(20) },
                throughput: (50, Duration::from_secs(3)),
                recovery: (100, 10_000),
                store: (20, 20),
            },
            false => Sizes {
                latency: vec![1, 100, 1_000],
                events: 200,
                interval: Duration::from_millis(100),
                beside: Beside { good: 100, hung: 1_000, events: 400, interval: Duration::from_millis(60) },
                throughput: (100, Duration::from_secs(20)),
                recovery: (1_000, 1_000_000),
                store: (100, 100),
            },
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
    tocsin::os::memory::raise_descriptor_limit()?;
    let mut result = SuiteResult { name: "webhook".to_owned(), ..SuiteResult::default() };
    let settings = [
        ("latency_endpoints", json!(sizes.latency)),
        ("latency_events", json!(sizes.events)),
        ("latency_interval_ms", json!(sizes.interval.as_millis() as u64)),
        (
            "beside",
            json!({
                "good": sizes.beside.good, "hung": sizes.beside.hung, "events": sizes.beside.events,
                "interval_ms": sizes.beside.interval.as_millis() as u64,
            }),
        ),
        ("throughput", json!({"endpoints": sizes.throughput.0, "seconds": sizes.throughput.1.as_secs_f64()})),
        ("recovery", json!({"endpoints": sizes.recovery.0, "pending": sizes.recovery.1})),
        ("store", json!({"endpoints": sizes.store.0, "events": sizes.store.1})),
        ("engine", json!("idle = block")),
    ];
    result.settings = settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    latency(sizes, &mut result)?;
    isolation::measure(&sizes.beside, &mut result)?;
    throughput(sizes, &mut result)?;
    recovery(sizes, &mut result)?;
    store::measure(sizes.store, &mut result)?;
    result.notes.push(
        "receivers and engine share the cores of this machine; latencies are the engine's own stamps, in \
         whole microseconds, and end before the request is signed and written"
            .to_owned(),
    );
    Ok(result)
}

fn receiver() -> Outcome<SimReceiver> {
    Ok(SimReceiver::start(ReceiverOptions { connections: 32_768, ..ReceiverOptions::default() })?)
}

/// One engine of the latency part, with what its events showed.
struct Size {
    endpoints: usize,
    stem: String,
    target: Filled,
    first: Histogram<u64>,
    median: Histogram<u64>,
    last: Histogram<u64>,
}

fn latency(sizes: &Sizes, result: &mut SuiteResult) -> Outcome<()> {
    let receiver = receiver()?;
    let mut all = Vec::new();
    for &endpoints in &sizes.latency {
        let stem = format!("of{endpoints}x");
        let mut target = Filled::prepare(&receiver)?;
        target.fill(&filled::urls(&receiver, &stem, endpoints), State::Active)?;
        target.engine.start()?;
        target.warm(CONNECTIONS_EACH * endpoints)?;
        let (first, median, last) = (new_histogram(), new_histogram(), new_histogram());
        all.push(Size { endpoints, stem: format!("/{stem}"), target, first, median, last });
    }
    let (bare, mut wakes, mut stages) = (Bare::start()?, new_histogram(), new_histogram());
    let mut due = Instant::now();
    for number in 0..sizes.events {
        due += sizes.interval;
        wait_until(due);
        wakes.saturating_record(bare.wake()?.saturating_mul(1_000));
        due += sizes.interval;
        wait_until(due);
        stages.saturating_record(bare.stages(number as u64)?.saturating_mul(1_000));
        for size in &mut all {
            due += sizes.interval;
            wait_until(due);
            size.one_event(&receiver, number, due.elapsed())?;
        }
    }
    for (of, histogram) in [("wake", &wakes), ("stages", &stages)] {
        let name = format!("latency/floor/{of}");
        result.series.push(Series::new(name.clone(), Unit::Nanoseconds, histogram));
        let value = histogram.value_at_quantile(0.5) as f64;
        result.figures.push(Figure {
            name: format!("{name}/p50"),
            unit: Unit::Nanoseconds,
            value,
            target: None,
        });
    }
    for size in &all {
        let name = |of: &str| format!("latency/{}/{of}", size.endpoints);
        for (of, histogram) in [("first", &size.first), ("median", &size.median), ("last", &size.last)] {
            result.series.push(Series::new(name(of), Unit::Nanoseconds, histogram));
        }
        // One endpoint's first request, and a hundred's last, are what is promised.
        let bound = match size.endpoints {
            1 => Some(("first", &size.first, 100_000.0)),
            100 => Some(("last", &size.last, 5_000_000.0)),
            _ => None,
        };
        if let Some((of, histogram, bound)) = bound {
            result.figures.push(Figure {
                name: format!("{}/p50", name(of)),
                unit: Unit::Nanoseconds,
                value: histogram.value_at_quantile(0.5) as f64,
                target: Some(Target::AtMost(bound)),
            });
        }
    }
    Ok(())
}

/// A sleep ends up to a tenth of a millisecond late, which would count as the engine's: the last stretch
/// is spun.
fn wait_until(due: Instant) {
    const SPUN: Duration = Duration::from_micros(300);
    std::thread::sleep(due.saturating_duration_since(Instant::now()).saturating_sub(SPUN));
    while Instant::now() < due {
        std::hint::spin_loop();
    }
}

impl Size {
    /// Announces once, `held` after its instant, and records the delays of the requests.
    fn one_event(&mut self, receiver: &SimReceiver, number: usize, held: Duration) -> Outcome<()> {
        let delays = self.target.one_event(receiver, &self.stem, self.endpoints, number)?;
        let held_ns = u64::try_from(held.as_nanos()).unwrap_or(u64::MAX);
        let at = |index: usize| {
            let us = delays.get(index).copied().unwrap_or_default();
            u64::try_from(us).unwrap_or(0).saturating_mul(1_000).saturating_add(held_ns)
        };
        self.first.saturating_record(at(0));
        self.median.saturating_record(at((delays.len() - 1) / 2));
        self.last.saturating_record(at(delays.len() - 1));
        Ok(())
    }
}

fn throughput(sizes: &Sizes, result: &mut SuiteResult) -> Outcome<()> {
    let (endpoints, lasts) = sizes.throughput;
    let receiver = receiver()?;
    let mut target = Filled::prepare(&receiver)?;
    target.fill(&filled::urls(&receiver, "good", endpoints), State::Active)?;
    target.engine.start()?;
    target.warm(CONNECTIONS_EACH * endpoints)?;
    let (from, before) = (Instant::now(), target.count("delivered")?);
    let mut number = 0;
    while from.elapsed() < lasts {
        // Enough for everyone all the time, and never near a bound.
        if target.count("pending")? < 400 * endpoints as u64 {
            for _ in 0..5 {
                target.announce(number, 20)?;
                number += 1;
            }
        }
        let _ = receiver.take();
        std::thread::sleep(Duration::from_millis(5));
    }
    let (took, delivered) = (from.elapsed(), target.count("delivered")? - before);
    result.figures.push(Figure {
        name: format!("throughput/{endpoints}/deliveries"),
        unit: Unit::PerSecond,
        value: delivered as f64 / took.as_secs_f64(),
        target: None,
    });
    Ok(())
}

fn recovery(sizes: &Sizes, result: &mut SuiteResult) -> Outcome<()> {
    let (endpoints, pending) = sizes.recovery;
    let receiver = receiver()?;
    let mut target = Filled::prepare(&receiver)?;
    // Switched off, so that what is measured is the start and not the sending.
    let ids = target.fill(&filled::urls(&receiver, "good", endpoints), State::Disabled(Disabled::User))?;
    let filling = Instant::now();
    target.leave_pending(&ids, pending)?;
    let filled = filling.elapsed();
    let ready = target.engine.start()?;
    std::thread::sleep(Duration::from_millis(300));
    let pending = target.count("pending")?;
    let mut figure = |of: &str, unit, value| {
        result.figures.push(Figure { name: format!("recovery/{pending}/{of}"), unit, value, target: None });
    };
    figure("ready after", Unit::Nanoseconds, ready.as_nanos() as f64);
    figure("filling", Unit::Nanoseconds, filled.as_nanos() as f64);
    figure("resident", Unit::Bytes, target.engine.memory("VmRSS")? as f64);
    Ok(())
}
