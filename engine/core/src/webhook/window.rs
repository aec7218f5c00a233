//! What an endpoint's recent attempts say: how long they took, and how many timed out.
//!
//! Contract: constant memory, no allocation, constant time (the P95 sorts part of a hundred numbers).
//! Owner: the webhook thread, inside an endpoint. Nothing fails.

use core::time::Duration;

use crate::limits;
use crate::time::Mono;

/// Durations of the last [`limits::WEBHOOK_LATENCY_ATTEMPTS`] attempts.
#[derive(Clone, Debug)]
pub struct Latencies {
    /// Microseconds; a ring once full.
    took_us: [u32; limits::WEBHOOK_LATENCY_ATTEMPTS],
    /// Attempts ever recorded.
    count: u64,
}

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies { took_us: [0; limits::WEBHOOK_LATENCY_ATTEMPTS], count: 0 }
    }
}

impl Latencies {
    /// Adds an attempt; the oldest is forgotten.
    pub fn record(&mut self, took: Duration) {
        let size = self.took_us.len() as u64;
        // Below the size of the ring.
        let at = (self.count % size) as usize;
        if let Some(slot) = self.took_us.get_mut(at) {
            *slot = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        }
        self.count += 1;
    }

    /// The 95th percentile by nearest rank; `None` below [`limits::WEBHOOK_LATENCY_ATTEMPTS_LEAST`].
    #[must_use]
    pub fn p95(&self) -> Option<Duration> {
        let held = usize::try_from(self.count).unwrap_or(usize::MAX).min(self.took_us.len());
        if held < limits::WEBHOOK_LATENCY_ATTEMPTS_LEAST {
            return None;
        }
        let mut sorted = self.took_us;
        let known = sorted.get_mut(..held)?;
        let rank = (held * 95).div_ceil(100);
        let (_, p95, _) = known.select_nth_unstable(rank - 1);
        Some(Duration::from_micros(u64::from(*p95)))
    }
}

/// Width of a bucket of [`TimeoutShare`].
const BUCKET: Duration = Duration::from_secs(30);
/// Buckets of the window: with the one under way, 9.5 to 10 minutes.
const BUCKETS: usize = 20;

/// Attempts and timeouts of the last 10 minutes, and timeouts in a row.
#[derive(Clone, Debug, Default)]
pub struct TimeoutShare {
    /// (attempts, timeouts); bucket `n` is at `n % BUCKETS`.
    buckets: [(u32, u32); BUCKETS],
    /// Number of the newest bucket.
    newest: u64,
    in_a_row: u8,
}

impl TimeoutShare {
    /// Adds an attempt.
    pub fn record(&mut self, now: Mono, timed_out: bool) {
        self.advance(now);
        self.in_a_row = if timed_out { self.in_a_row.saturating_add(1) } else { 0 };
        // Below BUCKETS.
        let at = (self.newest % BUCKETS as u64) as usize;
        if let Some((attempts, timeouts)) = self.buckets.get_mut(at) {
            *attempts = attempts.saturating_add(1);
            *timeouts = timeouts.saturating_add(u32::from(timed_out));
        }
    }

    /// Whether timeouts are sustained: five in a row, or half of at least ten attempts in ten minutes.
    #[must_use]
    pub fn is_sustained(&self) -> bool {
        let (attempts, timeouts) = self.totals();
        let share = attempts >= u64::from(limits::WEBHOOK_TIMEOUT_SHARE_ATTEMPTS) && timeouts * 2 >= attempts;
        share || self.in_a_row >= limits::WEBHOOK_TIMEOUTS_IN_A_ROW
    }

    /// Whether the last attempt timed out.
    #[must_use]
    pub const fn is_timing_out(&self) -> bool {
        self.in_a_row > 0
    }

    fn totals(&self) -> (u64, u64) {
        self.buckets.iter().fold((0, 0), |(attempts, timeouts), bucket| {
            (attempts + u64::from(bucket.0), timeouts + u64::from(bucket.1))
        })
    }

    fn advance(&mut self, now: Mono) {
        let current = now.0 / BUCKET.as_nanos() as u64;
        let passed = current.saturating_sub(self.newest).min(BUCKETS as u64);
        for step in 1..=passed {
            // Where a jump passes the whole window, every bucket is cleared, whichever is first.
            let at = (self.newest.wrapping_add(step) % BUCKETS as u64) as usize;
            if let Some(bucket) = self.buckets.get_mut(at) {
                *bucket = (0, 0);
            }
        }
        self.newest = self.newest.max(current);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[test]
    fn p95_is_the_nearest_rank() {
        let rows: &[(usize, usize, Option<u64>)] = &[
            // (attempts of 1 s, then of 9 s, expected)
            (19, 0, None),
            (20, 0, Some(1)),
            (19, 1, Some(1)),
            (18, 2, Some(9)),
            (95, 5, Some(1)),
            (94, 6, Some(9)),
            (500, 5, Some(1)),
            (500, 6, Some(9)),
            (0, 500, Some(9)),
        ];
        for (fast, slow, expected) in rows {
            let mut latencies = Latencies::default();
            (0..*fast).for_each(|_| latencies.record(Duration::from_secs(1)));
            (0..*slow).for_each(|_| latencies.record(Duration::from_secs(9)));
            assert_eq!(latencies.p95().map(|p| p.as_secs()), *expected, "{fast} fast, {slow} slow");
        }
        let mut latencies = Latencies::default();
        (0..100).for_each(|_| latencies.record(Duration::MAX));
        assert!(latencies.p95() > Some(Duration::from_secs(4_000)));
    }

    #[test]
    fn sustained_timeouts() {
        let minute = Duration::from_secs(60);
        // (minutes between attempts, timeouts as a string of t and ., sustained)
        let rows = [
            (0, "tttt", false),
            (0, "ttttt", true),
            (0, "tttt.tttt", false),
            (0, ".t.t.t.t.", false),
            (0, ".t.t.t.t.t", true),
            (0, ".....tt.tt", false),
            (0, ".....ttt.tt", false),
            (0, ".....ttt.ttt", true),
            (2, ".t.t.t.t.t.t.t", false),
            (20, "ttttt", true),
        ];
        for (minutes, attempts, sustained) in rows {
            let mut share = TimeoutShare::default();
            let mut now = Mono(0);
            for attempt in attempts.chars() {
                now = now + minute * minutes;
                share.record(now, attempt == 't');
            }
            assert_eq!(share.is_sustained(), sustained, "{attempts}, {minutes} min apart");
        }
    }

    proptest! {
        /// Against a list of all attempts: nothing older than 10 minutes counts, all of the last
        /// 9.5 minutes does.
        #[test]
        fn the_window_is_ten_minutes(steps in prop::collection::vec((0..200_000_u64, any::<bool>()), 1..200)) {
            let mut share = TimeoutShare::default();
            let mut all = VecDeque::new();
            let mut now_ms = 0;
            for (step_ms, timed_out) in steps {
                now_ms += step_ms;
                share.record(Mono(now_ms * 1_000_000), timed_out);
                all.push_back(now_ms);
                let within = |ms| all.iter().filter(|at| now_ms - **at < ms).count() as u64;
                let (attempts, timeouts) = share.totals();
                prop_assert!(attempts <= within(600_000));
                prop_assert!(attempts >= within(570_000));
                prop_assert!(timeouts <= attempts);
            }
        }
    }
}
