//! One symbol: what it traded slot by slot, what is usual for it, and how far it goes by itself.
//!
//! Contract: [`Series::close`], [`Series::compare`], [`Series::find_usual`] and [`Series::judge`] once a slot, in
//! this order. Owner, allocation, failure: as the module above.
//!
//! Exchanges tell the sum of the last 24 hours, so the change of it from one slot to the next is what was traded in
//! the slot less what was traded in the same slot a day before:
//! `traded(t) = sum(t) - sum(t - 1) + traded(t - 288)`. A ring of a day's slots supplies the last term. What a watcher finds at
//! its start is unknown slot by slot: in the first day what is left of it is taken as spread evenly. An error
//! made once comes back every day, for nothing in the sums tells of it. Three things bound it: an estimate goes no lower than
//! [`FLOOR`]; the ring is scaled when it drifts from the sum told; and what is judged counts of the slot that leaves
//! the window no more than [`LEAVING`] times the usual, so that a spike needs a rise of the sum itself.

use super::{SLOTS, SpikeRules, WINDOW_AT_MOST, at, median, set};

/// Share of the day's median below which no estimate goes: what is lower comes from a guess too small of
/// what left the window more often than from a quiet market.
const FLOOR: f32 = 0.5;
/// Parts of the sum by which the ring may drift from it before it is scaled.
const DRIFT: f64 = 0.02;
/// Times the usual that count of the slot that leaves the window.
const LEAVING: f32 = 2.0;
/// A sum that falls below this part of the last one is a gap in the data.
const COLLAPSE: f64 = 0.1;
/// After so many slots it is believed, and the symbol watched anew.
const COLLAPSE_SLOTS: u32 = 12;
/// What is usual is the middle of so many slots: three hours, so that it knows what kind of a day it is.
const RECENT: usize = 36;
/// Fewest of them to say what is usual.
const RECENT_AT_LEAST: usize = 12;
/// Shares of the day's median and of its mean below which no usual goes.
const QUIET: f32 = 0.25;
const QUIET_MEAN: f64 = 0.2;
/// So many times the usual is added before a logarithm is taken: nothing traded is no more than quiet.
const SOFT: f32 = 0.25;
/// Times the usual that a slot counts at most.
const CAP: f32 = 12.0;
/// Largest part of the windows that says how far a symbol goes by itself.
const OWN: f64 = 0.03;
/// Fewest windows that say it.
const OWN_AT_LEAST: u32 = 100;
/// When so many are counted the counters are halved: what was ten days ago counts half.
const OWN_AT_MOST: u32 = 2_880;
/// Bounds of how far that may be.
const OWN_BOUNDS: (f64, f64) = (0.1, 1.5);
/// Counters, each of a tenth of a logarithm from 0 on; the last takes what is beyond.
const BINS: usize = 26;
const BINS_IN_ONE: f64 = 10.0;

#[derive(Debug)]
pub(super) struct Series {
    pub(super) symbol: Box<str>,
    /// Estimates of what was traded, in quote units, by slot modulo [`SLOTS`].
    pub(super) ring: Box<[f32]>,
    /// Sum of the watched slots of `ring`, and what each of the others in the window is taken to be.
    total: f64,
    guess: f64,
    /// The sum told at the end of `closed`.
    pub(super) sum: f64,
    /// The last slot with a sum.
    pub(super) closed: u64,
    /// Slots watched.
    age: u32,
    /// Sums told in the current slot, the latest last, and how many there were.
    samples: [f64; 3],
    sampled: usize,
    /// What left the window in the last slot; 0 where that was a guess.
    left: f32,
    /// Whether the last slot was one by itself and not one of several that a sum was spread over.
    single: bool,
    /// Middle of [`RECENT`] slots, the common movement taken out; 0 before it is known.
    pub(super) usual: f32,
    /// Median of the day's.
    day: f32,
    /// Times the usual in the latest slots, the latest first.
    recent: [f32; WINDOW_AT_MOST],
    /// How far the windows went: how many there were and, of those above the usual, how far.
    windows: u32,
    bins: [u16; BINS],
    /// The slot it was last told in, and whether it has calmed down since.
    told: Option<u64>,
    calm: bool,
    collapsed: u32,
}

impl Series {
    pub(super) fn new(symbol: &str) -> Series {
        Series {
            symbol: symbol.into(),
            ring: vec![0.0; SLOTS].into(),
            total: 0.0,
            guess: 0.0,
            sum: 0.0,
            closed: 0,
            age: 0,
            samples: [0.0; 3],
            sampled: 0,
            left: 0.0,
            single: false,
            usual: 0.0,
            day: 0.0,
            recent: [1.0; WINDOW_AT_MOST],
            windows: 0,
            bins: [0; BINS],
            told: None,
            calm: true,
            collapsed: 0,
        }
    }

    /// Takes a sum of the current slot.
    pub(super) fn sample(&mut self, sum: f64) {
        let [_, b, c] = self.samples;
        self.samples = [b, c, sum];
        self.sampled += 1;
    }

    /// Watches from `slot` on, at the end of which the sum will be the first one known.
    pub(super) fn begin(&mut self, sum: f64, slot: u64, traded_before: bool) {
        self.sum = if traded_before { sum } else { 0.0 };
        self.guess = self.sum / SLOTS as f64;
        self.ring.fill(0.0);
        self.total = 0.0;
        self.closed = slot.saturating_sub(1);
        self.age = 0;
        self.usual = 0.0;
        self.day = 0.0;
        self.recent = [1.0; WINDOW_AT_MOST];
        self.windows = 0;
        self.bins = [0; BINS];
        self.samples = [sum; 3];
        self.sampled = 1;
        self.collapsed = 0;
    }

    /// The slot is over: estimates what was traded since the last one with a sum. True when it is
    /// watched anew instead.
    pub(super) fn close(&mut self, slot: u64) -> bool {
        let sampled = core::mem::take(&mut self.sampled);
        if sampled == 0 {
            return false;
        }
        // Single wild sums between two alike do not count.
        let [a, b, c] = self.samples;
        let sum = if sampled >= 3 { a.max(b).min(a.min(b).max(c)) } else { c };
        if sum < self.sum * COLLAPSE {
            self.collapsed += 1;
            if self.collapsed < COLLAPSE_SLOTS {
                return false;
            }
        }
        let slots = slot.saturating_sub(self.closed);
        if slots >= SLOTS as u64 || self.collapsed >= COLLAPSE_SLOTS {
            self.begin(sum, slot, true);
            self.sampled = 0;
            self.closed = slot;
            return true;
        }
        self.collapsed = 0;
        self.estimate(slot, slots, sum);
        // What was spread over a gap shows no spike.
        self.single = slots == 1;
        if slots > 1 {
            self.recent = [1.0; WINDOW_AT_MOST];
        }
        self.sum = sum;
        self.closed = slot;
        false
    }

    /// Fills the ring up to `slot`, the last of `slots` since the last sum.
    fn estimate(&mut self, slot: u64, slots: u64, sum: f64) {
        let over = self.closed + 1..=slot;
        // What is in the ring is what was watched; where nothing was yet, the guess leaves.
        let guessed = (SLOTS.saturating_sub(self.age as usize) as u64).min(slots);
        let known: f64 = over.clone().map(|slot| f64::from(at(&self.ring, slot))).sum();
        let left = known + self.guess * guessed as f64;
        self.left = known as f32;
        let traded = (sum - self.sum + left) / slots.max(1) as f64;
        let each = (traded as f32).max(self.day * FLOOR).max(0.0);
        for slot in over {
            set(&mut self.ring, slot, each);
        }
        self.total += f64::from(each) * slots as f64 - known;
        self.age = self.age.saturating_add(u32::try_from(slots).unwrap_or(u32::MAX));
        let unwatched = (SLOTS - self.watched()) as f64;
        if unwatched > 0.0 {
            self.guess = ((sum - self.total) / unwatched).max(0.0);
        }
        let all = self.total + self.guess * unwatched;
        if (all - sum).abs() > DRIFT * sum && all > 0.0 {
            let scale = sum / all;
            self.guess *= scale;
            self.ring.iter_mut().for_each(|traded| *traded *= scale as f32);
            self.total = self.ring.iter().map(|traded| f64::from(*traded)).sum();
        }
    }

    /// Notes how many times the usual the slot brought. `common` is the common movement in it, `day_before`
    /// the one in the slot that left the window, at least 1.
    pub(super) fn compare(&mut self, slot: u64, common: f32, day_before: f32) {
        let mut times = 1.0;
        if self.closed == slot && self.single && self.usual > 0.0 {
            let over = (self.left - LEAVING * self.usual * day_before).max(0.0);
            times = (at(&self.ring, slot) - over).max(0.0) / (self.usual * common);
        }
        self.recent.rotate_right(1);
        if let Some(latest) = self.recent.first_mut() {
            *latest = times;
        }
    }

    /// The mean of the slots from `slot` minus `window` back that are neither in the upper nor in the lower quarter.
    pub(super) fn find_usual(&mut self, slot: u64, window: usize, taken: &[f32]) {
        let count = self.watched().saturating_sub(window).min(RECENT);
        let mut recent = [0.0; RECENT];
        let Some(recent) = recent.get_mut(..count).filter(|_| count >= RECENT_AT_LEAST) else { return };
        for (back, place) in recent.iter_mut().enumerate() {
            let slot = slot.saturating_sub((window + back) as u64);
            *place = at(&self.ring, slot) / at(taken, slot);
        }
        recent.sort_unstable_by(f32::total_cmp);
        let middle = recent.get(count / 4..count - count / 4).unwrap_or_default();
        let mean = middle.iter().sum::<f32>() / middle.len().max(1) as f32;
        self.usual = mean.max(self.day * QUIET).max((QUIET_MEAN * self.sum / SLOTS as f64) as f32);
    }

    pub(super) fn find_day(&mut self, slot: u64, taken: &[f32], scratch: &mut Vec<f32>) {
        let slots = (0..self.watched() as u64).map(|back| slot.saturating_sub(back));
        scratch.clear();
        scratch.extend(slots.map(|slot| at(&self.ring, slot) / at(taken, slot)));
        self.day = median(scratch);
    }

    fn watched(&self) -> usize {
        (self.age as usize).min(SLOTS)
    }

    /// The mean ratio of the window that ends now, where it passes and the symbol may be told. `apart` is
    /// by how much, in the logarithm, the exchange's symbols are further apart than usual.
    pub(super) fn judge(&mut self, slot: u64, rules: &SpikeRules, apart: f64) -> Option<f64> {
        if self.closed != slot || self.usual <= 0.0 {
            return None;
        }
        let times = || self.recent.iter().take(rules.window);
        let logs = times().map(|times| f64::from(((times + SOFT) / (1.0 + SOFT)).min(CAP).ln()));
        let far = logs.sum::<f64>() / rules.window as f64;
        let mean = f64::from(times().sum::<f32>()) / rules.window as f64;
        let least = rules.ratio.max(1.0).ln();
        self.calm |= far < least / 2.0;
        let rested = self.told.is_none_or(|told| {
            u128::from(slot.saturating_sub(told)) * rules.slot.as_nanos() >= rules.cooldown.as_nanos()
        });
        let may = self.age >= rules.warm_up && self.calm && rested && far > least;
        let passes = may && self.own().is_some_and(|own| far > (least + rules.tail * own).hypot(apart));
        self.count(far);
        passes.then_some(mean)
    }

    /// Counts a window, but none of a spike that was told.
    fn count(&mut self, far: f64) {
        if !self.calm {
            return;
        }
        self.windows += 1;
        if far >= 0.0
            && let Some(bin) = self.bins.get_mut(((far * BINS_IN_ONE) as usize).min(BINS - 1))
        {
            *bin += 1;
        }
        if self.windows >= OWN_AT_MOST {
            self.windows /= 2;
            self.bins.iter_mut().for_each(|bin| *bin /= 2);
        }
    }

    /// How far, in the logarithm, the symbol goes in the largest [`OWN`] of its windows.
    fn own(&self) -> Option<f64> {
        if self.windows < OWN_AT_LEAST {
            return None;
        }
        let most = f64::from(self.windows) * OWN;
        let mut above = 0.0;
        let mut own = 0.0;
        for (bin, count) in self.bins.iter().enumerate().rev() {
            above += f64::from(*count);
            if above > most {
                own = (bin as f64 + (above - most) / f64::from(*count)) / BINS_IN_ONE;
                break;
            }
        }
        Some(own.clamp(OWN_BOUNDS.0, OWN_BOUNDS.1))
    }

    /// It was told.
    pub(super) fn tell(&mut self, slot: u64) {
        self.told = Some(slot);
        self.calm = false;
    }

    /// What was traded in the latest slots.
    pub(super) fn traded(&self, slot: u64, slots: usize) -> f64 {
        (0..slots as u64).map(|back| f64::from(at(&self.ring, slot.saturating_sub(back)))).sum()
    }
}
