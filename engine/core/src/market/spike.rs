//! Volume spikes: far more is traded of one symbol than usual, and not of the whole exchange.
//!
//! Contract: one [`SpikeDetector`] a request with volumes. Before the rows of an answer comes
//! [`SpikeDetector::advance`], which decides when a slot is over, then each row
//! through [`SpikeDetector::sample`]. Owner: the market thread; a slot costs one or two microseconds a symbol, once
//! in five minutes, and nothing is allocated but a symbol's [`SLOTS`] numbers (some 1.4 KB in all). Bounded by
//! [`limits::MARKET_VOLUMES`]. Nothing is durable: after a restart a symbol is watched anew. Never fails.
//!
//! What was traded in a slot is estimated from the sums told (`series`). The rule judges [`SpikeRules::window`] slots together by the
//! mean of the logarithms of what each brought to the usual, so that a large trade in one of them does not make a
//! spike. How much is needed depends on what the symbol itself does in the largest 3 % of its windows, which a
//! histogram of a few dozen counters remembers for days.

mod series;

use core::time::Duration;
use std::collections::BTreeMap;

use self::series::Series;
use super::rules::micros;
use crate::limits;
use crate::time::WallUs;

/// What is traded is counted in slots of this length, unless [`SpikeRules::slot`] says otherwise.
pub const SLOT: Duration = Duration::from_secs(300);
/// Slots in a day, whatever their length.
pub const SLOTS: usize = 288;
/// Most slots that may be judged together.
pub const WINDOW_AT_MOST: usize = 12;

/// The day's median is worked out again after so many slots, a part of the symbols at a time.
const DAY_EVERY: u64 = 18;
/// What makes a median of absolute deviations comparable to a standard deviation.
const DEVIATION: f32 = 1.4826;
/// Fewer symbols than this have no common movement.
const COMMON_AT_LEAST: usize = 20;
/// Part of the common movement, as an exponent, that is taken out of what is usual. All of it would leave the
/// two without an anchor: an error in one would stay in the other for good.
const TAKEN: f32 = 0.9;
/// How many standard deviations of being further apart than usual count.
const APART: f64 = 2.0;

const _: () = assert!(SLOT.as_secs() as usize * SLOTS == 24 * 3_600);

/// Parameters of the rule; `docs/markets.md` says why and what they were measured with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpikeRules {
    /// Times the usual, after the common movement of the exchange is taken out, for a symbol that never moves.
    pub ratio: f64,
    /// And so many times further, in the logarithm, as the symbol itself goes in the largest 3 % of its windows.
    pub tail: f64,
    /// Slots judged together, at least 1 and at most [`WINDOW_AT_MOST`].
    pub window: usize,
    /// With at least this traded in them, in US dollars.
    pub minimum_usd: f64,
    /// Not again of the same symbol for so long, nor before it fell to the root of `ratio`.
    pub cooldown: Duration,
    /// Slots a symbol is watched before anything is told of it.
    pub warm_up: u32,
    /// Length of a slot, at least a microsecond: [`SLOTS`] of it are the time that sums are told of, [`SLOT`] on real exchanges.
    pub slot: Duration,
}

impl Default for SpikeRules {
    fn default() -> Self {
        SpikeRules {
            ratio: 3.3,
            tail: 0.7,
            window: 4,
            minimum_usd: 45_000.0,
            cooldown: Duration::from_secs(6 * 3_600),
            warm_up: 144,
            slot: SLOT,
        }
    }
}

/// A spike that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Spike {
    /// The exchange's own name of the instrument.
    pub symbol: Box<str>,
    /// How many times the usual, the common movement taken out: the mean of the slots judged together.
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

/// See the module.
#[derive(Debug)]
pub struct SpikeDetector {
    rules: SpikeRules,
    /// The slot that samples go to, and the first one ever.
    slot: Option<u64>,
    first: u64,
    /// The last slot that was closed.
    closed: u64,
    index: BTreeMap<Box<str>, usize>,
    series: Vec<Series>,
    /// The common movement by slot modulo [`SLOTS`], and how far symbols were apart in it.
    common: Box<[f32]>,
    /// The part of it that is taken out of what is usual.
    taken: Box<[f32]>,
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
            rules: SpikeRules { window: rules.window.clamp(1, WINDOW_AT_MOST), ..rules },
            slot: None,
            first: 0,
            closed: 0,
            index: BTreeMap::new(),
            series: Vec::new(),
            common: vec![1.0; SLOTS].into(),
            taken: vec![1.0; SLOTS].into(),
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
            series.sample(quote_24h);
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
        let slot = u64::try_from(received.0.div_euclid(micros(self.rules.slot).max(1))).unwrap_or(0);
        let Some(closing) = self.slot else {
            self.slot = Some(slot);
            self.first = slot;
            self.closed = slot.saturating_sub(1);
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
        let day_before = at(&self.common, closing).max(1.0);
        let common = self.find_common(closing);
        let apart = APART * self.more_apart(closing);
        for (number, series) in self.series.iter_mut().enumerate() {
            series.compare(closing, common, day_before);
            if (number as u64 + closing).is_multiple_of(DAY_EVERY) {
                series.find_day(closing, &self.taken, &mut self.scratch);
            }
            series.find_usual(closing, self.rules.window, &self.taken);
            let Some(ratio) = series.judge(closing, &self.rules, apart) else { continue };
            let Some(rate) = dollars(&series.symbol) else {
                self.counts.unpriced += 1;
                continue;
            };
            let window_usd = series.traded(closing, self.rules.window) * rate;
            if window_usd >= self.rules.minimum_usd {
                series.tell(closing);
                let (symbol, volume_24h) = (series.symbol.clone(), series.sum * rate);
                found(Spike { symbol, ratio, window_usd, volume_24h, received });
            }
        }
    }

    /// The common movement of a slot: the median, over the more traded half, of what was traded to the usual.
    fn find_common(&mut self, slot: u64) -> f32 {
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
        // Slots nothing was told in were spread evenly, and share what is common to them.
        for slot in self.closed.max(slot.saturating_sub(SLOTS as u64 - 1)) + 1..=slot {
            set(&mut self.common, slot, common);
            set(&mut self.taken, slot, common.powf(TAKEN));
        }
        self.closed = slot;
        common
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
