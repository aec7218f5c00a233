//! Samples over a run, and whether its end is like its beginning.
//!
//! Contract: pure but for [`Samples::take`], which reads the engine's process. The first quarter of an hour,
//! or tenth of a longer run, is its warm-up and not judged ([`SETTLING`]). Of the rest, medians of the last
//! third stand against those of the first ([`BOUNDS`]), and a straight line is laid through the memory by
//! least squares: what it gains over the run is at most [`GROWTH`] of the median.
//!
//! Memory is looked at three times. What is in use of the heap is what a leak makes grow: every table that
//! fills with the time is full before the first sample. What is allocated (`VmData`) grows besides by the
//! heap's free room, whenever more happened at once than ever before. What is resident (`VmRSS`) grows
//! besides while rings and logs that were allocated at the start are written for the first time: with its
//! memory locked, as with pinned threads, all of that is resident from the start, but here it is not.

use std::collections::BTreeMap;
use std::time::Duration;

use super::stage::Stage;
use crate::engine::Outcome;
use crate::report::plot::Points;
use crate::result::{Figure, SuiteResult, Target, Track, Unit, quantile};

/// What is judged by its thirds, and how much more the last may be than the first. Latencies are those of a
/// machine that subscribers and receivers share.
const BOUNDS: [(&str, f64); 6] = [
    ("memory/in use", 1.01),
    ("memory/allocated", 1.05),
    ("memory/resident", 1.05),
    ("descriptors/open", 1.05),
    ("feed latency/p50", 1.5),
    ("webhook latency/p50", 1.5),
];
/// Most growth of memory over the judged part, by the line through it, as a share of the median.
const GROWTH: [(&str, f64); 3] =
    [("memory/in use", 0.01), ("memory/allocated", 0.06), ("memory/resident", 0.06)];
/// As long as the heap takes to find its size: each of the first bursts and returns of hundreds of subscribers
/// finds it in pieces of other sizes and takes a little more. What leaks goes on after it.
const SETTLING: Duration = Duration::from_secs(15 * 60);
/// Samples that make a third worth judging.
const ENOUGH: usize = 3;

/// See the module head.
pub(super) struct Samples {
    warm_up: Duration,
    tracks: BTreeMap<&'static str, (Unit, Points)>,
}

impl Samples {
    pub(super) fn new(lasts: Duration) -> Samples {
        Samples { warm_up: (lasts / 10).max(SETTLING.min(lasts / 2)), tracks: BTreeMap::new() }
    }

    /// Looks at the engine and at what was heard since the last time.
    pub(super) fn take(&mut self, elapsed: Duration, stage: &mut Stage) -> Outcome<()> {
        for (name, unit, value) in stage.sample()? {
            self.note(name, unit, elapsed, value);
        }
        Ok(())
    }

    fn note(&mut self, name: &'static str, unit: Unit, elapsed: Duration, value: f64) {
        let (_, points) = self.tracks.entry(name).or_insert_with(|| (unit, Points::new()));
        points.push((elapsed.as_secs_f64(), value));
    }

    /// Puts tracks and verdicts into the result.
    pub(super) fn judge(self, result: &mut SuiteResult) {
        let from = self.warm_up.as_secs_f64();
        let judged = |name: &str| -> Points {
            let points = self.tracks.get(name).map_or(&[][..], |(_, points)| points);
            points.iter().copied().filter(|(at, _)| *at >= from).collect()
        };
        for (name, bound) in BOUNDS {
            let Some(ratio) = last_over_first(&judged(name)) else {
                result.notes.push(format!("{name}: too few samples to be judged"));
                continue;
            };
            result.figures.push(Figure {
                name: format!("{name}, last third over first"),
                unit: Unit::Plain,
                value: ratio,
                target: Some(Target::AtMost(bound)),
            });
        }
        for (name, bound) in GROWTH {
            let Some(value) = growth(&judged(name)) else { continue };
            result.figures.push(Figure {
                name: format!("{name}, growth by regression as a share of the median"),
                unit: Unit::Plain,
                value,
                target: Some(Target::AtMost(bound)),
            });
        }
        let tracks = self.tracks.into_iter();
        let track = |(name, (unit, points)): (&str, _)| Track { name: name.to_owned(), unit, points };
        result.tracks.extend(tracks.map(track));
    }
}

fn median(points: &[(f64, f64)]) -> Option<f64> {
    quantile(points.iter().map(|(_, value)| *value), 0.5)
}

/// Median of the last third over that of the first.
fn last_over_first(points: &[(f64, f64)]) -> Option<f64> {
    let third = points.len() / 3;
    if third < ENOUGH {
        return None;
    }
    let first = median(points.get(..third)?)?;
    let last = median(points.get(points.len() - third..)?)?;
    (first > 0.0).then_some(last / first)
}

/// What the least-squares line gains from the first point to the last, as a share of the median.
fn growth(points: &[(f64, f64)]) -> Option<f64> {
    if points.len() < 3 * ENOUGH {
        return None;
    }
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let over: f64 = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
    let under: f64 = points.iter().map(|p| (p.0 - x).powi(2)).sum();
    let span = points.last()?.0 - points.first()?.0;
    let middle = median(points)?;
    (under > 0.0 && middle > 0.0).then(|| over / under * span / middle)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run of so many samples, ten seconds apart.
    fn judged(count: u32, memory: impl Fn(f64) -> f64) -> SuiteResult {
        let mut samples = Samples::new(Duration::from_secs(10) * count);
        for n in 1..=count {
            let at = Duration::from_secs(10) * n;
            for name in ["memory/in use", "memory/allocated"] {
                samples.note(name, Unit::Bytes, at, memory(at.as_secs_f64()));
            }
            samples.note("memory/resident", Unit::Bytes, at, memory(at.as_secs_f64()));
            samples.note("descriptors/open", Unit::Plain, at, 100.0);
        }
        let mut result = SuiteResult::default();
        samples.judge(&mut result);
        result
    }

    fn met(result: &SuiteResult) -> Vec<bool> {
        result.figures.iter().map(|f| f.target.unwrap().met(f.value)).collect()
    }

    #[test]
    fn what_stays_passes_and_what_leaks_does_not() {
        // A sawtooth about a level, after a warm-up far below it.
        let saw = |at: f64| if at < 180.0 { 10e6 } else { 50e6 + 1e6 * ((at / 10.0) % 5.0) };
        let steady = judged(180, saw);
        assert_eq!(met(&steady), [true; 7], "{:?}", steady.figures);
        assert_eq!(steady.tracks.len(), 4);
        assert!(steady.notes.iter().any(|note| note.contains("feed latency/p50: too few")));
        // A fifth more within the run is found by all.
        let leak = judged(180, |at| saw(at) * (1.0 + 0.2 * at / 1_800.0));
        assert_eq!(met(&leak), [false, false, false, true, false, false, false], "{:?}", leak.figures);
    }

    #[test]
    fn a_run_too_short_is_not_judged() {
        let short = judged(6, |_| 1e6);
        assert!(short.figures.is_empty() && short.notes.len() == BOUNDS.len());
    }
}
