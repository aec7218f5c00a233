//! Chance and virtual time of a world: everything that is drawn, and what the two clocks read.
//!
//! Contract: the same seed draws the same. Time moves only by [`Clock::advance`]; the monotonic clock never
//! goes back, the wall clock drifts and is set as told. Nothing allocates, nothing fails.

use core::time::Duration;

use tocsin_core::time::{Mono, Now, WallUs};

use crate::invent::Rng;

/// A generator with the questions a world asks.
#[derive(Clone, Debug)]
pub(super) struct Dice(Rng);

impl Dice {
    /// `salt` keeps the streams of one seed apart.
    pub(super) const fn new(seed: u64, salt: u64) -> Dice {
        let mut rng = Rng::new(seed ^ salt.wrapping_mul(0xd6e8_feb8_6659_fd93));
        let mixed = rng.next();
        Dice(Rng::new(mixed))
    }

    pub(super) const fn next(&mut self) -> u64 {
        self.0.next()
    }

    /// Below `bound`; 0 for 0.
    pub(super) const fn below(&mut self, bound: u64) -> u64 {
        self.0.below(bound)
    }

    /// From `low` to `high`, both included.
    pub(super) const fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.0.below(high - low + 1)
    }

    pub(super) const fn coin(&mut self) -> bool {
        self.0.below(2) == 0
    }

    /// True in so many of a thousand.
    pub(super) const fn per_mille(&mut self, share: u64) -> bool {
        self.0.below(1_000) < share
    }

    pub(super) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.0.below(len as u64)).unwrap_or(0)
    }

    pub(super) fn pick<T: Copy>(&mut self, of: &[T], otherwise: T) -> T {
        let at = self.index(of.len());
        of.get(at).copied().unwrap_or(otherwise)
    }

    pub(super) const fn micros(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_micros(self.between(low, high))
    }

    pub(super) const fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_micros(self.between(low * 1_000, high * 1_000))
    }
}

/// Where worlds begin: some instant of 2026.
const EPOCH_US: i64 = 1_795_000_000_000_000;

/// Both clocks of the simulated machine.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    mono: Mono,
    /// The wall clock is this much ahead of the monotonic one.
    offset_us: i64,
    /// Nanoseconds the wall clock gains in a second.
    drift_ppb: i64,
    since: Mono,
    /// How often it was set.
    pub(super) steps: u32,
}

impl Clock {
    pub(super) const fn new(start_us: i64, drift_ppb: i64) -> Clock {
        let mono = Mono(1_000_000_000);
        Clock { mono, offset_us: EPOCH_US + start_us, drift_ppb, since: mono, steps: 0 }
    }

    pub(super) fn now(&self) -> Now {
        Now { mono: self.mono, wall: self.wall_at(self.mono) }
    }

    /// What the wall clock will read at a later instant, if nobody sets it.
    pub(super) fn wall_at(&self, at: Mono) -> WallUs {
        let us = i64::try_from(at.0 / 1_000).unwrap_or(i64::MAX);
        let run = i64::try_from(at.since(self.since).as_micros()).unwrap_or(0);
        WallUs(us + self.offset_us + run / 1_000 * self.drift_ppb / 1_000_000)
    }

    pub(super) fn advance(&mut self, to: Mono) {
        self.mono = self.mono.max(to);
    }

    /// Somebody sets the wall clock.
    pub(super) fn step(&mut self, by_us: i64) {
        let reads = self.wall_at(self.mono).0;
        let us = i64::try_from(self.mono.0 / 1_000).unwrap_or(i64::MAX);
        self.offset_us = reads - us + by_us;
        self.since = self.mono;
        self.steps += 1;
    }
}
