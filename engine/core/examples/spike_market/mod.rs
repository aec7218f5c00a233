//! A synthetic market with known volume spikes, minute by minute, for measuring the spike rule.
//!
//! What counts as a spike was written down before the rule was measured (`docs/markets.md`): **at least eight times what the
//! symbol would have traded anyway, for at least twenty minutes, with at least 50,000 dollars traded in the
//! first twenty**. Everything else that moves here is no spike, and an alarm on it is false:
//!
//! - Size: dollars a day are log-normal over symbols, 250 thousand in the middle, a factor of 8 for a standard deviation.
//! - Season: a daily wave of 50 %, its peak within two hours of the exchange's.
//! - Level: each symbol wanders, a standard deviation of 0.4 in the logarithm over a day.
//! - Noise: each symbol has swings of 45 minutes, a standard deviation of 0.15 to 0.4 in the logarithm.
//! - Trades: their number in a minute is random, their sizes have a Pareto tail (exponent 2.2), a
//!   minute's trades are drawn as at most 12, which makes large symbols rougher than life. Some minutes
//!   hold a block of up to two hours' worth.
//! - Bursts: about two a day take the whole market to 2 to 6 times, for 10 to 90 minutes, each symbol
//!   with its own exponent of 0.5 to 1.5.
//! - Outages: about one in three days, no answer for 10 to 90 minutes. As often the numbers stand still
//!   for 5 to 20 minutes. One answer in 100,000 says 0 for a symbol.
//! - Listings: three a day, thirty times their later level at first, falling within six hours.
//!
//! Answers come once a minute and tell the sum of the last 24 hours, as exchanges do. Everything follows from
//! the seed.

#![allow(dead_code, reason = "the example prints more than the test asks")]

use tocsin_core::market::spike::{Spike, SpikeDetector, SpikeRules};
use tocsin_core::time::WallUs;

const DAY: usize = 1_440;
/// A spike is found if it is told before it is over for so long.
const TAIL: usize = 15;

/// What to make.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub symbols: usize,
    /// Days measured; one more before them fills the window of 24 hours, and another is warm-up.
    pub days: usize,
    pub spikes_a_day: f64,
    pub seed: u64,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub spikes: usize,
    pub found: usize,
    /// Minutes from the beginning of each spike found to its alarm.
    pub delays: Vec<usize>,
    pub false_alarms: usize,
    /// Of these, on symbols listed less than two days before.
    pub false_on_new: usize,
    pub days: usize,
    /// FNV-1a of every alarm, to show that two runs are one.
    pub digest: u64,
}

impl Report {
    pub(crate) fn recall(&self) -> f64 {
        self.found as f64 / self.spikes.max(1) as f64
    }

    pub(crate) fn false_a_day(&self) -> f64 {
        self.false_alarms as f64 / self.days.max(1) as f64
    }

    pub(crate) fn delay(&self, part: f64) -> usize {
        let mut sorted = self.delays.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        sorted.get((last as f64 * part).round() as usize).copied().unwrap_or(0)
    }
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Above 0, at most 1.
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    fn within(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    fn log_within(&mut self, low: f64, high: f64) -> f64 {
        self.within(low.ln(), high.ln()).exp()
    }

    /// Sum of 12 uniform numbers: near enough to a normal one, and cheap.
    fn normal(&mut self) -> f64 {
        let a = self.next();
        let b = self.next();
        let parts = (0..4).map(|i| ((a >> (16 * i)) & 0xFFFF) + ((b >> (16 * i)) & 0xFFFF));
        // Eight uniform numbers of variance 1/12 each.
        let sum: u64 = parts.sum();
        (sum as f64 / 65_536.0 - 4.0) / (8.0_f64 / 12.0).sqrt()
    }

    fn count(&mut self, mean: f64) -> usize {
        if mean > 30.0 {
            return (mean + mean.sqrt() * self.normal()).max(0.0) as usize;
        }
        let (limit, mut product, mut count) = ((-mean).exp(), self.unit(), 0);
        while product > limit {
            product *= self.unit();
            count += 1;
        }
        count
    }
}

struct Symbol {
    name: String,
    /// Dollars a minute, and in one trade.
    level: f64,
    trade: f64,
    phase: f64,
    roughness: f64,
    exponent: f64,
    wander: f64,
    swing: f64,
    listed: usize,
    /// Dollars of each minute of the last day.
    minutes: Vec<f32>,
    sum: f64,
    shown: f64,
    spike: Option<Injected>,
}

#[derive(Clone, Copy)]
struct Injected {
    begin: usize,
    end: usize,
    times: f64,
    traded: f64,
    /// Large enough in its first twenty minutes.
    counts: bool,
    found: bool,
}

/// Minutes in which something holds for the whole market.
#[derive(Clone, Copy, Default)]
struct Stretch {
    until: usize,
    factor: f64,
}

impl Symbol {
    fn new(number: usize, listed: usize, dice: &mut Dice) -> Symbol {
        let a_day = 250_000.0 * (dice.normal() * 8.0_f64.ln()).exp();
        let level = a_day.clamp(100.0, 3e9) / DAY as f64;
        Symbol {
            name: format!("S{number}USDT"),
            level,
            trade: 60.0 * level.max(1.0).powf(0.4) * dice.log_within(0.5, 2.0),
            phase: dice.within(-2.0, 2.0),
            roughness: dice.within(0.15, 0.4),
            exponent: dice.within(0.5, 1.5),
            wander: 0.4 * dice.normal(),
            swing: 0.0,
            listed,
            minutes: vec![0.0; DAY],
            sum: 0.0,
            shown: 0.0,
            spike: None,
        }
    }

    /// Dollars of this minute.
    fn trade(&mut self, minute: usize, burst: f64, dice: &mut Dice) -> f64 {
        let keep = 1.0 - 1.0 / DAY as f64;
        self.wander = self.wander * keep + 0.4 * (1.0 - keep * keep).sqrt() * dice.normal();
        let keep = 1.0 - 1.0 / 45.0;
        self.swing = self.swing * keep + self.roughness * (1.0_f64 - keep * keep).sqrt() * dice.normal();
        let hour = minute as f64 / 60.0 + self.phase;
        let season = 1.0 + 0.5 * (hour * core::f64::consts::TAU / 24.0).sin();
        let mut level = self.level * season * (self.wander + self.swing).exp() * burst.powf(self.exponent);
        if self.listed > 0 {
            let age = (minute - self.listed) as f64;
            level *= 1.0 + 29.0 * (-age / 360.0).exp();
        }
        if let Some(spike) = &self.spike {
            level *= spike.factor(minute);
        }
        let count = dice.count(level / self.trade);
        let drawn = count.min(12);
        // Pareto of exponent 2.2 and mean 1.
        let sizes: f64 = (0..drawn).map(|_| (1.2 / 2.2) * dice.unit().powf(-1.0 / 2.2)).sum();
        let mut dollars = sizes * self.trade * count as f64 / drawn.max(1) as f64;
        if dice.next().is_multiple_of(20_000) {
            dollars += level * dice.log_within(10.0, 120.0);
        }
        dollars
    }

    fn note(&mut self, minute: usize, dollars: f64) {
        let place = &mut self.minutes[minute % DAY];
        self.sum = (self.sum + dollars - f64::from(*place)).max(0.0);
        *place = dollars as f32;
        // What was stored is what will leave.
        self.sum += f64::from(*place) - dollars;
        if let Some(spike) = &mut self.spike
            && (spike.begin..spike.begin + 20).contains(&minute)
        {
            spike.traded += dollars;
            spike.counts = spike.traded >= 50_000.0;
        }
    }
}

impl Injected {
    /// Up within a minute, level, and back over half an hour.
    fn factor(&self, minute: usize) -> f64 {
        if minute < self.begin {
            1.0
        } else if minute < self.end {
            self.times
        } else {
            1.0 + (self.times - 1.0) * (-((minute - self.end) as f64) / 10.0).exp()
        }
    }
}

/// Runs the rule over the market.
pub(crate) fn evaluate(options: Options, rules: SpikeRules) -> Report {
    let mut dice = Dice(options.seed);
    let mut symbols: Vec<Symbol> =
        (0..options.symbols).map(|number| Symbol::new(number, 0, &mut dice)).collect();
    let mut detector = SpikeDetector::new(rules);
    let mut report = Report { days: options.days, digest: 0xcbf2_9ce4_8422_2325, ..Report::default() };
    let (mut burst, mut outage, mut frozen) = (Stretch::default(), Stretch::default(), Stretch::default());
    let measured = 2 * DAY;
    let end = measured + options.days * DAY;
    let mut alarms: Vec<Spike> = Vec::new();
    for minute in 0..end {
        let mut begins = |stretch: &mut Stretch, a_day: f64, low: f64, high: f64, most: f64| {
            if minute >= stretch.until && dice.unit() < a_day / DAY as f64 {
                let length = dice.log_within(low, high);
                *stretch = Stretch { until: minute + length as usize, factor: dice.within(2.0, most) };
            }
        };
        begins(&mut burst, 2.0, 10.0, 90.0, 6.0);
        begins(&mut outage, 1.0 / 3.0, 10.0, 90.0, 3.0);
        begins(&mut frozen, 1.0 / 3.0, 5.0, 20.0, 3.0);
        let factor = if minute < burst.until { burst.factor } else { 1.0 };
        if minute > DAY && dice.unit() < 3.0 / DAY as f64 {
            symbols.push(Symbol::new(symbols.len(), minute, &mut dice));
        }
        inject(&mut symbols, minute, measured, end, &options, &mut dice, &mut report);
        for symbol in &mut symbols {
            let dollars = symbol.trade(minute, factor, &mut dice);
            symbol.note(minute, dollars);
        }
        // The first day only fills the window.
        if minute < DAY || minute < outage.until {
            continue;
        }
        let received = WallUs::from_secs(1_700_000_000 + minute as i64 * 60 + 3);
        detector.advance(received, &mut |_| Some(1.0), &mut |spike| alarms.push(spike));
        for symbol in &mut symbols {
            if minute >= frozen.until {
                symbol.shown = symbol.sum;
            }
            let shown = if dice.next().is_multiple_of(100_000) { 0.0 } else { symbol.shown };
            detector.sample(&symbol.name, shown);
        }
        for alarm in alarms.drain(..) {
            judge(&mut symbols, &alarm, minute, measured, &mut report);
        }
    }
    for symbol in &mut symbols {
        conclude(symbol, &mut report);
    }
    report
}

/// Begins a spike now and then, on a symbol large enough and not listed today.
fn inject(
    symbols: &mut [Symbol],
    minute: usize,
    measured: usize,
    end: usize,
    options: &Options,
    dice: &mut Dice,
    report: &mut Report,
) {
    if minute < measured || minute + 300 > end || dice.unit() >= options.spikes_a_day / DAY as f64 {
        return;
    }
    let times = dice.log_within(8.0, 40.0);
    let length = dice.log_within(20.0, 180.0) as usize;
    for _ in 0..1_000 {
        let picked = dice.next() as usize % symbols.len();
        let symbol = &mut symbols[picked];
        let large = symbol.level * times * 20.0 >= 50_000.0;
        let settled = symbol.listed == 0 || minute - symbol.listed > 2 * DAY;
        // One a day: a market's second rise within a day is no longer beside what it usually trades.
        let rested = symbol.spike.is_none_or(|spike| minute > spike.end + DAY);
        if large && settled && rested {
            conclude(symbol, report);
            let spike = Injected {
                begin: minute,
                end: minute + length,
                times,
                traded: 0.0,
                counts: false,
                found: false,
            };
            symbol.spike = Some(spike);
            return;
        }
    }
}

/// Counts a symbol's last spike, once it is over.
fn conclude(symbol: &mut Symbol, report: &mut Report) {
    if let Some(spike) = symbol.spike.take().filter(|spike| spike.counts) {
        report.spikes += 1;
        report.found += usize::from(spike.found);
    }
}

fn judge(symbols: &mut [Symbol], alarm: &Spike, minute: usize, measured: usize, report: &mut Report) {
    if minute < measured {
        return;
    }
    let bytes = alarm.symbol.bytes().chain(minute.to_le_bytes());
    report.digest =
        bytes.fold(report.digest, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let number: usize =
        alarm.symbol.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(usize::MAX);
    let Some(symbol) = symbols.get_mut(number) else { return };
    match &mut symbol.spike {
        Some(spike) if (spike.begin..=spike.end + TAIL).contains(&minute) => {
            // One too small to count is right to tell, and not counted as found.
            if !spike.found && spike.counts {
                report.delays.push(minute - spike.begin);
            }
            spike.found = true;
        }
        _ => {
            report.false_alarms += 1;
            report.false_on_new += usize::from(symbol.listed > 0 && minute - symbol.listed < 2 * DAY);
        }
    }
}
