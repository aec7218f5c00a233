//! The engine's pacing in simulated time: delays from publication to answer, exact and without noise.
//!
//! Contract: the core's own [`Pacer`] is asked at every instant it names, as a source thread with a free
//! connection asks it; a request reaches the exchange one way later and shows what was published before.
//! Pure: the same seed gives the same figures.

use std::time::Duration;

use hdrhistogram::Histogram;
use tocsin_core::source::pacing::{ACCOUNTING_PERIOD_SECS, Budget, Mode, Pace, Pacer};
use tocsin_core::time::{Mono, Now, WallUs};

use crate::random::Random;
use crate::result::new_histogram;

/// Between the engine and an exchange, in one direction.
pub(super) const ONE_WAY: Duration = Duration::from_millis(20);
/// Wall time that instants count from: a half hour.
const START: WallUs = WallUs(1_789_999_200_000_000);
const DAY_SECS: u64 = 86_400;
const SECOND: u64 = 1_000_000_000;

/// When an exchange publishes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Times {
    /// At any instant.
    Uniform,
    /// As Binance published delistings in 2026 (50 counted): all within 30 s after a five-minute mark, 18 of
    /// them exactly on it; 84 % after a full or half hour.
    Clustered,
}

/// Within 30 s after a mark, in seconds; 0 is exactly on it.
const ON_THE_MARK: f64 = 18.0 / 50.0;
const AFTER_MARK_SECS: f64 = 30.0;
const AFTER_HALF_HOUR: f64 = 0.84;

impl Times {
    /// Nanoseconds after the start, one of `secs` seconds.
    fn draw(self, secs: u64, random: &mut Random) -> u64 {
        let seconds = match self {
            Times::Uniform => random.part() * secs as f64,
            Times::Clustered => {
                let halves = (secs / 1_800).max(1);
                let half = (random.part() * halves as f64).floor() * 1_800.0;
                let mark = match random.part() < AFTER_HALF_HOUR {
                    true => 0.0,
                    // One of the five other marks.
                    false => (1.0 + (random.part() * 5.0).floor()) * 300.0,
                };
                let after = match random.part() < ON_THE_MARK {
                    true => 0.0,
                    false => random.part() * AFTER_MARK_SECS,
                };
                half + mark + after
            }
        };
        (seconds * 1e9) as u64
    }
}

/// Delays of `publications`, with their mean in nanoseconds. They are shared out over `starts` starts of
/// the schedule, a day each: where a start falls between two marks decides how its requests lie to all of
/// them, so one start alone would show that one chance.
pub(super) fn delays(
    budget: Budget,
    mode: Mode,
    times: Times,
    (starts, publications): (usize, usize),
    seed: u64,
) -> (Histogram<u64>, f64) {
    let mut random = Random::new(seed);
    let way = ONE_WAY.as_nanos() as u64;
    let (mut histogram, mut sum, mut count) = (new_histogram(), 0.0, 0.0);
    for _ in 0..starts {
        let begin = (random.part() * f64::from(ACCOUNTING_PERIOD_SECS) * 1e9) as u64;
        let sent = sends(budget, mode, begin, DAY_SECS * SECOND);
        for _ in 0..publications / starts {
            let published = times.draw(DAY_SECS, &mut random);
            let next = sent.partition_point(|at| at + way < published);
            // Before the start, and after the last request, nobody asks.
            let Some(asked) = sent.get(next).filter(|_| published >= begin + way) else { continue };
            let delay = asked + 2 * way - published;
            histogram.saturating_record(delay);
            sum += delay as f64;
            count += 1.0;
        }
    }
    (histogram, sum / count)
}

/// The least mean delay there is for publications at any instant: half the mean spacing, and one way.
pub(super) fn least_ns(budget: &Budget) -> f64 {
    let rate = budget.requests_per_second.min(budget.peak_per_second);
    0.5e9 / rate + ONE_WAY.as_nanos() as f64
}

/// Instants at which requests leave, in nanoseconds after [`START`], from `begin` to `end`.
fn sends(budget: Budget, mode: Mode, begin: u64, end: u64) -> Vec<u64> {
    let mut pacer = Pacer::new(budget, mode, &[1], 0.0);
    let (mut at, mut sent) = (begin, Vec::new());
    while at < end {
        let wall = WallUs(START.0 + i64::try_from(at / 1_000).unwrap_or(i64::MAX));
        match pacer.poll(Now { mono: Mono(at), wall }) {
            Pace::Send { .. } => sent.push(at),
            Pace::Wait(until) => at = until.0.max(at + 1),
        }
    }
    sent
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Budget = Budget { requests_per_second: 0.5, peak_per_second: 2.0, marks: None };

    #[test]
    fn a_flat_schedule_is_the_best_for_uniform_times() {
        let (histogram, mean) = delays(BUDGET, Mode::Flat, Times::Uniform, (8, 50_000), 1);
        let ratio = mean / least_ns(&BUDGET);
        assert!((0.98..1.02).contains(&ratio), "{ratio}");
        assert!(histogram.min() >= ONE_WAY.as_nanos() as u64 - 1_000_000);
    }

    #[test]
    fn clustered_times_are_where_they_were_counted() {
        let mut random = Random::new(3);
        let drawn: Vec<u64> = (0..10_000).map(|_| Times::Clustered.draw(86_400, &mut random)).collect();
        assert!(drawn.iter().all(|at| at % (300 * SECOND) < 30 * SECOND));
        let on = drawn.iter().filter(|at| **at % (300 * SECOND) == 0).count() as f64 / 1e4;
        assert!((on - ON_THE_MARK).abs() < 0.02, "{on}");
        let halves = drawn.iter().filter(|at| **at % (1_800 * SECOND) < 30 * SECOND).count() as f64 / 1e4;
        assert!((halves - AFTER_HALF_HOUR).abs() < 0.02, "{halves}");
    }
}
