//! The jitter probe: what the machine takes from a thread that does nothing but read the clock.
//!
//! Contract: one pinned thread a usable core, all at once, for a fixed time; each reads the monotonic
//! clock in a tight loop. Two readings further apart than [`GAP`] had something between them:
//! interrupt, other thread, hypervisor. Owner: the runner, before any suite. Keeps two histograms a
//! core; blocks for the probe's length; a core that cannot be pinned to is reported as missing.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::json;
use tocsin::os::{clock, cores};

use crate::report::format::nanoseconds;
use crate::result::{Figure, Missing, Series, SuiteResult, Unit, new_histogram};

/// Two readings of the clock this far apart are a gap, in nanoseconds. A reading costs some 25.
pub const GAP: u64 = 1_000;
/// What is stolen is also summed over windows of this length: about one fan-out.
const WINDOW: u64 = 1_000_000;
/// Length of a probe, and of a quick one.
const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_secs(1);

/// What one core showed.
struct Core {
    core: usize,
    /// Lengths of gaps.
    gaps: Histogram<u64>,
    /// Time taken by gaps in each window; windows without any count 1 ns.
    windows: Histogram<u64>,
    stolen: u64,
    length: u64,
}

/// Probes every usable core.
///
/// # Errors
/// No core could be probed.
pub fn probe(quick: bool) -> Result<SuiteResult, String> {
    let length = if quick { SHORT } else { LONG };
    let usable = cores::available();
    let barrier = Barrier::new(usable.len());
    let probed: Vec<(usize, Result<Core, String>)> = thread::scope(|scope| {
        let start = |core: usize| {
            let barrier = &barrier;
            (core, scope.spawn(move || one_core(core, length, barrier)))
        };
        let threads: Vec<_> = usable.into_iter().map(start).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, Result<Core, String>>| {
            thread.join().unwrap_or_else(|_| Err("the probing thread ended early".to_owned()))
        };
        threads.into_iter().map(|(core, thread)| (core, join(thread))).collect()
    });
    let mut result = SuiteResult { name: "jitter".to_owned(), ..SuiteResult::default() };
    result.settings.insert("seconds".to_owned(), json!(length.as_secs()));
    result.settings.insert("gap_ns".to_owned(), json!(GAP));
    result.settings.insert("window_ns".to_owned(), json!(WINDOW));
    let mut cores = Vec::new();
    for (core, found) in probed {
        match found {
            Ok(found) => cores.push(found),
            Err(why) => result.missing.push(Missing { what: format!("core {core}"), why }),
        }
    }
    if cores.is_empty() {
        return Err("jitter: no core could be probed".to_owned());
    }
    result.notes.push(verdict(&cores));
    for core in &cores {
        let name = |what: &str| format!("core/{}/{what}", core.core);
        result.series.push(Series::new(name("gap"), Unit::Nanoseconds, &core.gaps));
        result.series.push(Series::new(name("stolen-in-a-millisecond"), Unit::Nanoseconds, &core.windows));
        result.figures.push(Figure {
            name: name("stolen-percent"),
            unit: Unit::Plain,
            value: 100.0 * core.stolen as f64 / core.length.max(1) as f64,
            target: None,
        });
    }
    Ok(result)
}

fn one_core(core: usize, length: Duration, barrier: &Barrier) -> Result<Core, String> {
    let pinned = cores::pin(core);
    // All of them wait, also one that failed: the others count on it.
    barrier.wait();
    pinned.map_err(|e| e.to_string())?;
    let mut found = Core { core, gaps: new_histogram(), windows: new_histogram(), stolen: 0, length: 0 };
    let start = clock::mono().0;
    let end = start + u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
    let (mut last, mut window_end, mut in_window) = (start, start + WINDOW, 0);
    while last < end {
        let now = clock::mono().0;
        let gap = now.saturating_sub(last);
        last = now;
        if gap > GAP {
            found.gaps.saturating_record(gap);
            found.stolen += gap;
            in_window += gap;
        }
        if now >= window_end {
            // A gap longer than a window belongs to the one it ended in: one bad one, not many.
            found.windows.saturating_record(in_window.max(1));
            in_window = 0;
            window_end = now + WINDOW;
        }
    }
    found.length = last - start;
    Ok(found)
}

/// What this machine can show, in a sentence: from the worst core.
fn verdict(cores: &[Core]) -> String {
    let worst = |value: fn(&Core) -> u64| cores.iter().map(value).max().unwrap_or(0);
    let p99 = worst(|c| c.windows.value_at_quantile(0.99));
    let max = worst(|c| c.gaps.max());
    let stolen = cores.iter().map(|c| 100.0 * c.stolen as f64 / c.length.max(1) as f64).fold(0.0, f64::max);
    if max == 0 {
        return format!(
            "No core lost more than {} at once: the machine keeps still.",
            nanoseconds(GAP as f64)
        );
    }
    format!(
        "The worst core lost {stolen:.2} % of its time, {} at once at most. One millisecond of a hundred takes \
         {} longer, or more: differences below that at p99 are the machine's.",
        nanoseconds(max as f64),
        nanoseconds(p99 as f64),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_speaks_of_the_worst_core() {
        let core = |gap: u64| {
            let mut gaps = new_histogram();
            let mut windows = new_histogram();
            if gap > 0 {
                gaps.record(gap).unwrap();
            }
            windows.record(gap.max(1)).unwrap();
            Core { core: 0, gaps, windows, stolen: gap, length: 1_000_000 }
        };
        let said = verdict(&[core(2_000), core(50_000)]);
        assert!(said.contains("5.00 %") && said.contains("50.0 µs"), "{said}");
        assert!(verdict(&[core(0)]).contains("keeps still"));
    }

    #[test]
    fn a_core_is_probed_for_its_time() {
        let core = cores::available()[0];
        let found = one_core(core, Duration::from_millis(20), &Barrier::new(1)).unwrap();
        assert!(found.length >= 20_000_000);
        assert!(found.windows.len() <= 20 && !found.windows.is_empty());
        assert!(one_core(usize::MAX, Duration::ZERO, &Barrier::new(1)).is_err());
    }
}
