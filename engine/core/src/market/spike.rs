//! Volume spikes: far more is traded of one symbol than usual, and not of the whole exchange.
//!
//! Contract: one [`SpikeDetector`] a request with volumes. Before the rows of an answer comes
//! [`SpikeDetector::advance`], which decides when a slot of [`SLOT`] is over, then each row
//! through [`SpikeDetector::sample`]. Owner: the market thread; a slot costs some microseconds a symbol, once
//! in five minutes, and nothing is allocated but a symbol's [`SLOTS`] numbers (some 1.3 KB). Bounded by
//! [`limits::MARKET_VOLUMES`]. Nothing is durable: after a restart a symbol is watched anew. Never fails.
//!
//! The estimator. Exchanges tell the sum of the last 24 hours, so the change of it from one slot to the next is
//! what was traded in the slot less what was traded in the same slot a day before:
//! `traded(t) = sum(t) - sum(t - 1) + traded(t - 288)`. A ring of a day's slots supplies the last term.
//! What a watcher finds at its start is unknown slot by slot and taken as spread evenly; what is
//! new on the list has traded nothing before. An estimate below [`FLOOR`] of the day's median is raised to it, for it comes from a
//! guess too small of what left the window; and whenever the ring's sum drifts from the sum told, the ring is
//! scaled to it, so that a wrong guess is gone when the day it was made of is.

use core::time::Duration;
use std::collections::BTreeMap;

use super::rules::micros;
use crate::limits;
use crate::time::WallUs;

/// What is traded is counted in slots of this length.
pub const SLOT: Duration = Duration::from_secs(300);
/// Slots in a day.
pub const SLOTS: usize = 288;
/// Share of the day's median below which no estimate goes.
pub const FLOOR: f32 = 0.25;
/// Share of the day's median below which no usual goes: what is quieter than that for hours is a wrong
/// estimate more often than a quiet market.
pub const QUIET: f32 = 0.5;

/// Parts of the sum by which the ring may drift from it before it is scaled.
const DRIFT: f64 = 0.02;
/// A sum that falls below this part of the last one is a gap in the data.
const COLLAPSE: f64 = 0.1;
/// After so many slots it is believed, and the symbol watched anew.
const COLLAPSE_SLOTS: u32 = 12;
/// What is usual is the median of so many slots: three hours, so that it knows what kind of a day it is.
const RECENT: usize = 36;
/// Fewest of them to say what is usual.
const RECENT_AT_LEAST: usize = 12;
/// The day's median is worked out again after so many slots, a part of the symbols at a time.
const DAY_EVERY: u64 = 6;
/// What makes a median of absolute deviations comparable to a standard deviation.
const DEVIATION: f32 = 1.4826;
/// The same for the 95th of a hundred.
const TAIL: f32 = 1.645;
/// Fewer symbols than this have no common movement.
const COMMON_AT_LEAST: usize = 20;

const _: () = assert!(SLOT.as_secs() as usize * SLOTS == 24 * 3_600);

/// Parameters of the rule; `docs/markets.md` says why and what they were measured with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpikeRules {
    /// Times the usual, after the common movement of the exchange is taken out.
    pub ratio: f64,
    /// And so many times the symbol's own ordinary deviation (median absolute deviation of the
    /// logarithm, made comparable to a standard deviation).
    pub deviations: f64,
    /// In each of so many slots in a row, at least 1 and at most [`HOLD_AT_MOST`].
    pub hold: usize,
    /// With at least this traded in them together, in US dollars.
    pub minimum_usd: f64,
    /// Not again of the same symbol for so long, nor before it fell below half of `ratio`.
    pub cooldown: Duration,
    /// Slots a symbol is watched before anything is told of it.
    pub warm_up: u32,
}

/// Most slots in a row that may be asked for.
pub const HOLD_AT_MOST: usize = 6;

impl Default for SpikeRules {
    fn default() -> Self {
        SpikeRules {
            ratio: 4.0,
            deviations: 3.0,
            hold: 2,
            minimum_usd: 20_000.0,
            cooldown: Duration::from_secs(6 * 3_600),
            warm_up: 144,
        }
    }
}

/// A spike that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Spike {
    /// The exchange's own name of the instrument.
    pub symbol: Box<str>,
    /// How many times the usual, the common movement taken out: the mean of the slots that count.
    pub ratio: f64,
    /// What was traded in them, in US dollars.
    pub window_usd: f64,
    /// What was traded within 24 hours, in US dollars.
    pub volume_24h: f64,
    /// When the answer after it had been read.
    pub received: WallUs,
}

impl Spike {
    /// The minute since 1970 it was found in: its [`super::MarketEvent::occurrence`].
    #[must_use]
    pub fn occurrence(&self) -> u32 {
        u32::try_from(self.received.secs().div_euclid(60)).unwrap_or(0)
    }
}

/// What a detector counts, from its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Samples of symbols beyond [`limits::MARKET_VOLUMES`], and such as are no volume.
    pub unwatched: u64,
    /// Spikes not told, because the quote has no price in dollars.
    pub unpriced: u64,
    /// Symbols watched anew after their sum collapsed or was not told for a day.
    pub restarted: u64,
}

#[derive(Debug)]
struct Series {
    symbol: Box<str>,
    /// Estimates of what was traded, in quote units, by slot modulo [`SLOTS`].
    ring: Box<[f32]>,
    /// Sum of `ring`.
    total: f64,
    /// The sum told at the end of `closed`.
    sum: f64,
    /// The last slot with a sum.
    closed: u64,
    /// Slots watched.
    age: u32,
    /// Sums told in the current slot, the latest last, and how many there were.
    samples: [f64; 3],
    sampled: usize,
    /// Median of [`RECENT`] slots, the common movement taken out; 0 before it is known.
    usual: f32,
    /// The same over the day.
    day: f32,
    /// Times the usual in the latest slots, the latest first.
    recent: [f32; HOLD_AT_MOST],
    /// The slot it was last told in, and whether it has calmed down since.
    told: Option<u64>,
    calm: bool,
    collapsed: u32,
}

/// See the module.
#[derive(Debug)]
pub struct SpikeDetector {
    rules: SpikeRules,
    /// The slot that samples go to, and the first one ever.
    slot: Option<u64>,
    first: u64,
    index: BTreeMap<Box<str>, usize>,
    series: Vec<Series>,
    /// The common movement by slot modulo [`SLOTS`], and how far symbols were apart in it.
    common: Box<[f32]>,
    apart: Box<[f32]>,
    counts: Counts,
    scratch: Vec<f32>,
    pairs: Vec<(f32, f32)>,
}

impl SpikeDetector {
    /// A detector that has seen nothing.
    #[must_use]
    pub fn new(rules: SpikeRules) -> SpikeDetector {
        SpikeDetector {
            rules: SpikeRules { hold: rules.hold.clamp(1, HOLD_AT_MOST), ..rules },
            slot: None,
            first: 0,
            index: BTreeMap::new(),
            series: Vec::new(),
            common: vec![1.0; SLOTS].into(),
            apart: vec![0.0; SLOTS].into(),
            counts: Counts::default(),
            scratch: Vec::with_capacity(SLOTS),
            pairs: Vec::new(),
        }
    }

    /// What it counted.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Symbols it watches.
    #[must_use]
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether it watches none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// The sum of 24 hours last taken for `symbol`, in quote units.
    #[must_use]
    pub fn volume(&self, symbol: &str) -> Option<f64> {
        self.index.get(symbol).and_then(|at| self.series.get(*at)).map(|series| series.sum)
    }

    /// Takes a row: what was traded of `symbol` within 24 hours, in quote units.
    pub fn sample(&mut self, symbol: &str, quote_24h: f64) {
        let Some(slot) = self.slot.filter(|_| quote_24h.is_finite() && quote_24h >= 0.0) else {
            self.counts.unwatched += 1;
            return;
        };
        if let Some(series) = self.index.get(symbol).and_then(|at| self.series.get_mut(*at)) {
            series.samples.rotate_left(1);
            if let Some(latest) = series.samples.last_mut() {
                *latest = quote_24h;
            }
            series.sampled += 1;
            return;
        }
        if self.series.len() >= limits::MARKET_VOLUMES || symbol.len() > limits::SYMBOL_BYTES {
            self.counts.unwatched += 1;
            return;
        }
        self.index.insert(symbol.into(), self.series.len());
        let mut series = Series::new(symbol);
        // Those of the first slot were traded before; what comes later is new.
        series.begin(quote_24h, slot, slot <= self.first);
        self.series.push(series);
    }

    /// Time has come to `received`: closes what slots are over, and gives each spike found in them to
    /// `found`. `dollars` says what one unit of a symbol's quote is worth.
    pub fn advance(
        &mut self,
        received: WallUs,
        dollars: &mut dyn FnMut(&str) -> Option<f64>,
        found: &mut dyn FnMut(Spike),
    ) {
        let slot = u64::try_from(received.0.div_euclid(micros(SLOT))).unwrap_or(0);
        let Some(closing) = self.slot else {
            self.slot = Some(slot);
            self.first = slot;
            return;
        };
        if slot <= closing {
            return;
        }
        self.slot = Some(slot);
        for series in &mut self.series {
            if series.close(closing) {
                self.counts.restarted += 1;
            }
        }
        self.find_common(closing);
        let common = at(&self.common, closing);
        let apart = self.more_apart(closing);
        for (number, series) in self.series.iter_mut().enumerate() {
            series.compare(closing, common);
            if series.day == 0.0 || (number as u64 + closing).is_multiple_of(DAY_EVERY) {
                series.day = series.find_day(closing, &self.common, &mut self.scratch);
            }
            series.usual = series.find_usual(closing, &self.common);
            let Some(ratio) = series.holds(closing, &self.rules) else { continue };
            let own = series.spread(closing, &self.common, &mut self.scratch);
            if series.least(self.rules.hold).ln() < self.rules.deviations * own.hypot(apart) {
                continue;
            }
            let Some(rate) = dollars(&series.symbol) else {
                self.counts.unpriced += 1;
                continue;
            };
            let window_usd = series.window(closing, self.rules.hold) * rate;
            if window_usd >= self.rules.minimum_usd {
                series.told = Some(closing);
                series.calm = false;
                let (symbol, volume_24h) = (series.symbol.clone(), series.sum * rate);
                found(Spike { symbol, ratio, window_usd, volume_24h, received });
            }
        }
    }

    /// The common movement of a slot: the median, over the more traded half, of what was traded to the usual.
    fn find_common(&mut self, slot: u64) {
        let pairs = &mut self.pairs;
        pairs.clear();
        let known = self.series.iter().filter(|s| s.closed == slot && s.usual > 0.0);
        pairs.extend(known.map(|s| (s.usual, at(&s.ring, slot) / s.usual)));
        let mut common = 1.0;
        if pairs.len() >= COMMON_AT_LEAST {
            let half = pairs.len() / 2;
            let (_, _, more_traded) = pairs.select_nth_unstable_by(half, |a, b| a.0.total_cmp(&b.0));
            self.scratch.clear();
            self.scratch.extend(more_traded.iter().map(|(_, ratio)| *ratio));
            common = median(&mut self.scratch).max(0.01);
            self.scratch.iter_mut().for_each(|ratio| *ratio = (ratio.max(0.001) / common).ln().abs());
            set(&mut self.apart, slot, DEVIATION * median(&mut self.scratch));
        } else {
            set(&mut self.apart, slot, 0.0);
        }
        set(&mut self.common, slot, common);
    }

    /// How much further apart symbols are in this slot than they usually are: in a burst of the whole
    /// market each goes its own length.
    fn more_apart(&mut self, slot: u64) -> f64 {
        self.scratch.clear();
        self.scratch.extend_from_slice(&self.apart);
        let usual = f64::from(median(&mut self.scratch));
        let now = f64::from(at(&self.apart, slot));
        (now * now - usual * usual).max(0.0).sqrt()
    }
}

impl Series {
    fn new(symbol: &str) -> Series {
        Series {
            symbol: symbol.into(),
            ring: vec![0.0; SLOTS].into(),
            total: 0.0,
            sum: 0.0,
            closed: 0,
            age: 0,
            samples: [0.0; 3],
            sampled: 0,
            usual: 0.0,
            day: 0.0,
            recent: [0.0; HOLD_AT_MOST],
            told: None,
            calm: true,
            collapsed: 0,
        }
    }

    /// Watches from `slot` on, at the end of which the sum will be the first one known.
    fn begin(&mut self, sum: f64, slot: u64, traded_before: bool) {
        let each = if traded_before { (sum / SLOTS as f64) as f32 } else { 0.0 };
        self.ring.fill(each);
        self.total = f64::from(each) * SLOTS as f64;
        self.sum = if traded_before { sum } else { 0.0 };
        self.closed = slot.saturating_sub(1);
        self.age = 0;
        self.usual = 0.0;
        self.day = 0.0;
        self.recent = [0.0; HOLD_AT_MOST];
        self.samples = [sum; 3];
        self.sampled = 1;
        self.collapsed = 0;
    }

    /// The slot is over: estimates what was traded since the last one with a sum. True when it is
    /// watched anew instead.
    fn close(&mut self, slot: u64) -> bool {
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
        let over = self.closed + 1..=slot;
        let left: f64 = over.clone().map(|slot| f64::from(at(&self.ring, slot))).sum();
        let traded = (sum - self.sum + left) / slots.max(1) as f64;
        let each = (traded as f32).max(self.day * FLOOR).max(0.0);
        for slot in over {
            set(&mut self.ring, slot, each);
        }
        self.total += f64::from(each) * slots as f64 - left;
        if (self.total - sum).abs() > DRIFT * sum && self.total > 0.0 {
            let scale = (sum / self.total) as f32;
            self.ring.iter_mut().for_each(|traded| *traded *= scale);
            self.total = self.ring.iter().map(|traded| f64::from(*traded)).sum();
        }
        // What was spread over a gap shows no spike.
        if slots > 1 {
            self.recent = [0.0; HOLD_AT_MOST];
        }
        self.sum = sum;
        self.closed = slot;
        self.age = self.age.saturating_add(u32::try_from(slots).unwrap_or(u32::MAX));
        false
    }

    /// Notes how many times the usual the slot brought.
    fn compare(&mut self, slot: u64, common: f32) {
        let fresh = self.closed == slot && self.usual > 0.0;
        let times = if fresh { at(&self.ring, slot) / (self.usual * common) } else { 0.0 };
        self.recent.rotate_right(1);
        if let Some(latest) = self.recent.first_mut() {
            *latest = times;
        }
    }

    /// Median of up to [`RECENT`] watched slots up to `last`, the common movement taken out; 0 of too few.
    fn usual_at(&self, last: u64, watched: usize, common: &[f32], recent: &mut [f32; RECENT]) -> f32 {
        let count = watched.min(RECENT);
        let Some(recent) = recent.get_mut(..count).filter(|_| count >= RECENT_AT_LEAST) else { return 0.0 };
        for (back, place) in recent.iter_mut().enumerate() {
            let slot = last.saturating_sub(back as u64);
            *place = at(&self.ring, slot) / at(common, slot);
        }
        median(recent).max(self.day * QUIET)
    }

    fn find_usual(&self, slot: u64, common: &[f32]) -> f32 {
        self.usual_at(slot, self.watched(), common, &mut [0.0; RECENT])
    }

    fn find_day(&self, slot: u64, common: &[f32], scratch: &mut Vec<f32>) -> f32 {
        let slots = (0..self.watched() as u64).map(|back| slot.saturating_sub(back));
        scratch.clear();
        scratch.extend(slots.map(|slot| at(&self.ring, slot) / at(common, slot)));
        median(scratch)
    }

    fn watched(&self) -> usize {
        (self.age as usize).min(SLOTS)
    }

    /// The ordinary deviation, over the day, of the logarithm of a slot to the usual before it, as a standard
    /// deviation. Worked out only when a symbol is about to be told: some ten thousand steps.
    fn spread(&self, slot: u64, common: &[f32], scratch: &mut Vec<f32>) -> f64 {
        scratch.clear();
        let mut recent = [0.0; RECENT];
        for back in 0..self.watched() {
            let slot = slot.saturating_sub(back as u64);
            let watched = self.watched().saturating_sub(back + 1);
            let usual = self.usual_at(slot.saturating_sub(1), watched, common, &mut recent);
            if usual > 0.0 {
                let times = at(&self.ring, slot) / (at(common, slot) * usual);
                scratch.push(times.max(0.05).ln());
            }
        }
        // Trades come in lumps: where the upper tail is longer than the middle says, it counts.
        let tail = scratch.len() * 95 / 100;
        let tail =
            if scratch.is_empty() { 0.0 } else { *scratch.select_nth_unstable_by(tail, f32::total_cmp).1 };
        scratch.iter_mut().for_each(|times| *times = times.abs());
        f64::from((DEVIATION * median(scratch)).max(tail / TAIL))
    }

    fn least(&self, hold: usize) -> f64 {
        let least = self.recent.iter().take(hold).fold(f32::INFINITY, |least, times| least.min(*times));
        f64::from(least)
    }

    /// The mean ratio of the slots that count, where each passes and the symbol may be told.
    fn holds(&mut self, slot: u64, rules: &SpikeRules) -> Option<f64> {
        let latest = f64::from(self.recent.first().copied().unwrap_or(0.0));
        self.calm |= self.closed == slot && latest < rules.ratio / 2.0;
        let rested = self.told.is_none_or(|told| {
            slot.saturating_sub(told).saturating_mul(SLOT.as_secs()) >= rules.cooldown.as_secs()
        });
        if self.age < rules.warm_up || !self.calm || !rested || self.least(rules.hold) < rules.ratio {
            return None;
        }
        let sum: f32 = self.recent.iter().take(rules.hold).sum();
        Some(f64::from(sum) / rules.hold as f64)
    }

    /// What was traded in the latest slots.
    fn window(&self, slot: u64, hold: usize) -> f64 {
        (0..hold as u64).map(|back| f64::from(at(&self.ring, slot.saturating_sub(back)))).sum()
    }
}

fn place(slot: u64) -> usize {
    // Below `SLOTS`.
    (slot % SLOTS as u64) as usize
}

fn at(ring: &[f32], slot: u64) -> f32 {
    ring.get(place(slot)).copied().unwrap_or(0.0)
}

fn set(ring: &mut [f32], slot: u64, value: f32) {
    if let Some(place) = ring.get_mut(place(slot)) {
        *place = value;
    }
}

/// The upper median; 0 of nothing.
fn median(values: &mut [f32]) -> f32 {
    let middle = values.len() / 2;
    if values.is_empty() {
        return 0.0;
    }
    *values.select_nth_unstable_by(middle, f32::total_cmp).1
}

#[cfg(test)]
mod tests;
