//! What is traded of one instrument, as the sums over a day that exchanges tell.
//!
//! Contract: a day is [`TICKS`] ticks, however long they take; each brings an amount that varies around the
//! usual, and the oldest leaves the sum. Follows from its seed alone. Never fails.

use tocsin_core::market::spike::SLOTS;

use crate::invent::Rng;

/// Ticks in one of the slots in which spikes are counted: a reader that asks once a slot sees the sum move.
pub(super) const TICKS_A_SLOT: usize = 4;
/// Ticks in a day.
pub(super) const TICKS: usize = SLOTS * TICKS_A_SLOT;

/// An amount is the usual one plus or minus this share of it.
const UNEVEN: f64 = 0.3;
/// Steps of a made-up fraction.
const FRACTIONS: u64 = 1 << 20;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Tape {
    usual: f64,
    ring: Box<[f64]>,
    at: usize,
    sum: f64,
    /// So many times the usual, for so many ticks more.
    burst: (f64, usize),
    rng: Rng,
}

impl Tape {
    /// One that has been traded for a day, `a_day` in it.
    pub(super) fn traded(a_day: f64, seed: u64) -> Tape {
        let mut tape = Tape::fresh(a_day, seed);
        (0..TICKS).for_each(|_| tape.tick());
        tape
    }

    /// One that begins to be traded, `a_day` in a day.
    pub(super) fn fresh(a_day: f64, seed: u64) -> Tape {
        Tape {
            usual: a_day / TICKS as f64,
            ring: vec![0.0; TICKS].into(),
            at: 0,
            sum: 0.0,
            burst: (1.0, 0),
            rng: Rng::new(seed),
        }
    }

    /// The sum over the last day.
    pub(super) fn sum(&self) -> f64 {
        self.sum
    }

    /// So many times the usual is traded in the next ticks.
    pub(super) fn burst(&mut self, times: f64, ticks: usize) {
        self.burst = (times, ticks);
    }

    pub(super) fn tick(&mut self) {
        let fraction = self.rng.below(FRACTIONS) as f64 / FRACTIONS as f64;
        let mut amount = self.usual * (1.0 + UNEVEN * (2.0 * fraction - 1.0));
        if let (times, left @ 1..) = self.burst {
            amount *= times;
            self.burst.1 = left - 1;
        }
        if let Some(oldest) = self.ring.get_mut(self.at) {
            self.sum += amount - *oldest;
            *oldest = amount;
        }
        self.at = (self.at + 1) % TICKS;
        if self.at == 0 {
            // Differences leave their rounding behind.
            self.sum = self.ring.iter().sum();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_sums_up_and_a_burst_leaves_it_after_a_day() {
        let mut tape = Tape::traded(1_152_000.0, 7);
        assert!((tape.sum() / 1_152_000.0 - 1.0).abs() < 0.03, "{}", tape.sum());
        tape.burst(20.0, 8);
        (0..8).for_each(|_| tape.tick());
        // Eight ticks of twenty thousand in the place of eight of a thousand.
        assert!((tape.sum() - 1_152_000.0 - 152_000.0).abs() < 50_000.0, "{}", tape.sum());
        (0..TICKS).for_each(|_| tape.tick());
        assert!((tape.sum() / 1_152_000.0 - 1.0).abs() < 0.03, "{}", tape.sum());
        let mut fresh = Tape::fresh(1_152_000.0, 7);
        assert!(fresh.sum().abs() < f64::EPSILON);
        fresh.tick();
        assert!((700.0..1_300.0).contains(&fresh.sum()), "{}", fresh.sum());
    }
}
