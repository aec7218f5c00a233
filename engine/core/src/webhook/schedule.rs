//! When a delivery is tried again: the specification's "Retry Policy".
//!
//! Contract: pure functions of the attempt that failed, what its failure asks for, and a random
//! number. A wait is never shorter than its rule and at most a tenth, and at most
//! [`limits::WEBHOOK_JITTER`], longer. Allocates nothing, fails never.

use core::time::Duration;

use crate::limits;

/// What precedes each attempt: "0s, 30s, 5 min, 30 min, 2 hours, 6 hours".
const STEPS: [Duration; limits::WEBHOOK_ATTEMPTS as usize] = [
    Duration::ZERO,
    Duration::from_secs(30),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 3_600),
    Duration::from_secs(6 * 3_600),
];

/// The longest wait any rule gives, its jitter included.
pub const LONGEST_WAIT: Duration =
    Duration::from_secs(limits::WEBHOOK_RETRY_AFTER.as_secs() + limits::WEBHOOK_JITTER.as_secs());

/// From the first attempt to the last where each fails at its timeout with its longest jitter:
/// "Retries: 6 per event (~8.5h)".
pub const LADDER: Duration = {
    let mut total = 0;
    let mut at = 0;
    while at < STEPS.len() {
        let step = STEPS[at].as_secs();
        let jitter = if step / 10 < limits::WEBHOOK_JITTER.as_secs() {
            step / 10
        } else {
            limits::WEBHOOK_JITTER.as_secs()
        };
        total += step + jitter + limits::WEBHOOK_TIMEOUT.as_secs();
        at += 1;
    }
    Duration::from_secs(total)
};

/// What a failure asks of the wait after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The step of the schedule.
    Step,
    /// "Rate Limited — Retry with doubled backoff": twice the step, or longer if the receiver asked
    /// for longer, up to [`limits::WEBHOOK_RETRY_AFTER`]. The steps after it are not doubled.
    Doubled {
        /// `Retry-After`, zero where absent or meaningless.
        asked: Duration,
    },
    /// 503 with `Retry-After`: what was asked, held within the step and twice the step.
    Held {
        /// `Retry-After`.
        asked: Duration,
    },
}

/// The wait from the end of failed attempt `attempt` (from 1) to the start of the next; `None` after
/// the last: "After 6 failures → permanent fail." `random` is uniform over its range.
#[must_use]
pub fn wait_after(attempt: u8, wait: Wait, random: u64) -> Option<Duration> {
    // Steps are numbered from zero, so the failed attempt's number is the next one's step.
    let step = *STEPS.get(usize::from(attempt)).filter(|_| attempt > 0)?;
    let least = match wait {
        Wait::Step => step,
        Wait::Doubled { asked } => (step * 2).max(asked.min(limits::WEBHOOK_RETRY_AFTER)),
        Wait::Held { asked } => asked.clamp(step, step * 2),
    };
    Some(least + jitter(least, random))
}

/// 0 to a tenth of `wait`, at most [`limits::WEBHOOK_JITTER`].
fn jitter(wait: Duration, random: u64) -> Duration {
    let most_ns = (wait / 10).min(limits::WEBHOOK_JITTER).as_nanos();
    // The product of two 64-bit numbers fits, and its upper half is below `most_ns`.
    let ns = (u128::from(random) * most_ns) >> 64;
    Duration::from_nanos(u64::try_from(ns).unwrap_or(0))
}

/// A number that spreads what is keyed by small or neighbouring numbers: the finalizer of splitmix64.
#[must_use]
pub const fn scatter(key: u64) -> u64 {
    let mut mixed = key.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn the_table_of_the_specification() {
        let step = |attempt| wait_after(attempt, Wait::Step, 0).map(|w| w.as_secs());
        let steps = [1, 2, 3, 4, 5].map(step);
        assert_eq!(steps, [Some(30), Some(300), Some(1_800), Some(7_200), Some(21_600)]);
        for none in [0, 6, 7, 255] {
            assert_eq!(step(none), None, "after attempt {none}");
        }
        assert_eq!(steps.into_iter().flatten().sum::<u64>(), 30_930, "about 8.5 h in all");
        assert!(LADDER > secs(30_930) && LADDER < secs(30_930 + 5 * 60 + 6 * 10 + 1));
    }

    #[test]
    fn what_a_receiver_asks_for() {
        let doubled = |asked| Wait::Doubled { asked: secs(asked) };
        let held = |asked| Wait::Held { asked: secs(asked) };
        let rows = [
            (1, doubled(0), 60),
            (1, doubled(59), 60),
            (1, doubled(120), 120),
            (1, doubled(7_200), 7_200),
            (1, doubled(u64::MAX), 43_200),
            (2, doubled(0), 600),
            (5, doubled(0), 43_200),
            (5, doubled(43_201), 43_200),
            (1, held(0), 30),
            (1, held(45), 45),
            (1, held(61), 60),
            (2, held(u64::MAX), 600),
        ];
        for (attempt, wait, expected) in rows {
            let got = wait_after(attempt, wait, 0);
            assert_eq!(got, Some(secs(expected)), "attempt {attempt}, {wait:?}");
        }
    }

    fn waits() -> impl Strategy<Value = Wait> {
        prop_oneof![
            Just(Wait::Step),
            any::<u64>().prop_map(|s| Wait::Doubled { asked: secs(s) }),
            (0..100_000_u64).prop_map(|s| Wait::Doubled { asked: secs(s) }),
            any::<u64>().prop_map(|s| Wait::Held { asked: secs(s) }),
            (0..100_000_u64).prop_map(|s| Wait::Held { asked: secs(s) }),
        ]
    }

    proptest! {
        #[test]
        fn never_early_and_at_most_a_tenth_and_a_minute_late(
            attempt in 1..6_u8, wait in waits(), random in any::<u64>()
        ) {
            let least = wait_after(attempt, wait, 0).unwrap();
            let got = wait_after(attempt, wait, random).unwrap();
            prop_assert!(got >= least);
            prop_assert!(got <= least + least / 10);
            prop_assert!(got <= least + limits::WEBHOOK_JITTER);
            prop_assert!(got <= LONGEST_WAIT);
            prop_assert!(least >= STEPS[usize::from(attempt)]);
        }
    }

    #[test]
    fn jitter_uses_its_whole_range() {
        let most = wait_after(1, Wait::Step, u64::MAX).unwrap();
        assert!(most > secs(33) - Duration::from_nanos(2) && most < secs(33));
        assert!(wait_after(5, Wait::Step, u64::MAX).unwrap() > secs(21_659));
    }
}
