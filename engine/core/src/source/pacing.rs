//! When to ask: a budget of requests for one local address, spent where publish times cluster.
//!
//! Contract: [`Pacer::poll`] says whether a request may leave now and for which list. One pacer
//! holds all connections of one address together, so their requests interleave evenly and a
//! missing connection changes nothing: the next free one takes the request. Between two requests
//! the rate, integrated over the monotonic clock, reaches one; the rate never passes the peak and
//! averages the budget over [`ACCOUNTING_PERIOD_SECS`], hence neither do the requests. Missed
//! requests are not made up for. Owner: the source thread. Pure; does not allocate after `new`.

use core::time::Duration;

use crate::time::{Mono, Now};

/// Any half-open stretch of this length holds at most the budget's requests (rounded up).
pub const ACCOUNTING_PERIOD_SECS: u32 = 600;

/// Round instants of the wall clock around which an exchange tends to publish.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Marks {
    /// Distance between marks, counted from the UNIX epoch; divides [`ACCOUNTING_PERIOD_SECS`].
    pub every_secs: u32,
    /// The window opens this long before the mark.
    pub lead_secs: u32,
    /// Length of the window.
    pub length_secs: u32,
    /// Part of the publications that fall into windows, 0 to 1.
    pub share: f64,
}

/// What one local address may ask of an exchange.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// Mean over [`ACCOUNTING_PERIOD_SECS`].
    pub requests_per_second: f64,
    /// Hard limit of the momentary rate: two requests are never closer than its inverse.
    pub peak_per_second: f64,
    /// Where publications cluster; `None` when nothing is known.
    pub marks: Option<Marks>,
}

/// How a budget is spread over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Evenly: best when publish times are uniform.
    Flat,
    /// Denser around the marks, evenly within and between them.
    Clustered,
}

/// Answer of [`Pacer::poll`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Send a request for this list (index into the source's lists) now; it is counted as sent.
    Send {
        /// Index of the list.
        list: usize,
    },
    /// Nothing before this instant, unless the wall clock is set.
    Wait(Mono),
}

/// The schedule of one local address.
#[derive(Clone, Debug)]
pub struct Pacer {
    /// Requests a second times 10^9.
    cold: u64,
    hot: u64,
    window: Option<Window>,
    /// Requests earned since the last one, times 10^18; at most one.
    credit: u64,
    last: Option<(Mono, u64)>,
    /// Start of the last window in which the hot rate was used, in monotonic nanoseconds.
    hot_start: Option<i64>,
    turns: Box<[Turn]>,
}

/// A window in microseconds of the wall clock.
#[derive(Clone, Copy, Debug)]
struct Window {
    every_us: i64,
    lead_us: i64,
    length_us: i64,
}

/// State of one list in a smooth weighted round robin.
#[derive(Clone, Copy, Debug)]
struct Turn {
    weight: i64,
    balance: i64,
}

const ONE_REQUEST: u64 = 1_000_000_000_000_000_000;
/// Two windows count as a period apart when they differ by this much from it: a clock that is
/// slewed by 500 ppm drifts 0.3 s in the longest period. The budget is charged for it.
const SLEW_NS: i64 = 1_000_000_000;

impl Pacer {
    /// A schedule for lists of these weights. `phase`, from 0 to 1, delays the first request by
    /// that part of the spacing, so that several addresses interleave.
    #[must_use]
    pub fn new(budget: Budget, mode: Mode, weights: &[u16], phase: f64) -> Pacer {
        let peak = sane(budget.peak_per_second);
        let mean = sane(budget.requests_per_second).min(peak);
        let marks = budget.marks.filter(|m| mode == Mode::Clustered && fits(m));
        let (cold, hot) = marks.map_or((mean, mean), |m| split(mean, peak, &m));
        let turns = weights.iter().map(|w| Turn { weight: i64::from((*w).max(1)), balance: 0 });
        Pacer {
            cold: nano(cold),
            hot: nano(hot),
            window: marks.map(|m| Window {
                every_us: i64::from(m.every_secs) * 1_000_000,
                lead_us: i64::from(m.lead_secs) * 1_000_000,
                length_us: i64::from(m.length_secs) * 1_000_000,
            }),
            credit: ((1.0 - phase.clamp(0.0, 1.0)) * 1e18) as u64,
            last: None,
            hot_start: None,
            turns: turns.collect(),
        }
    }

    /// The rates in use, requests a second: between and within windows.
    #[must_use]
    pub fn rates(&self) -> (f64, f64) {
        (self.cold as f64 / 1e9, self.hot as f64 / 1e9)
    }

    /// Whether a request may leave at `now`. Call it only when a connection is free: what is not
    /// taken is not saved up.
    pub fn poll(&mut self, now: Now) -> Pace {
        let (rate, boundary) = self.rate(now);
        let (last_at, last_rate) = self.last.unwrap_or((now.mono, rate));
        let elapsed = u64::try_from(now.mono.since(last_at).as_nanos()).unwrap_or(u64::MAX);
        // Where the rate changed since the last call the lower one counts: never too many.
        let earned = elapsed.saturating_mul(rate.min(last_rate));
        self.credit = self.credit.saturating_add(earned).min(ONE_REQUEST);
        self.last = Some((now.mono, rate));
        if self.credit >= ONE_REQUEST {
            self.credit = 0;
            return Pace::Send { list: self.next_list() };
        }
        let wait_ns = (ONE_REQUEST - self.credit).div_ceil(rate.max(1));
        Pace::Wait((now.mono + Duration::from_nanos(wait_ns)).min(boundary))
    }

    /// The rate at `now` and the instant until which it holds.
    fn rate(&mut self, now: Now) -> (u64, Mono) {
        let Some(window) = self.window else { return (self.cold, Mono::NEVER) };
        let into = now.wall.0.saturating_add(window.lead_us).rem_euclid(window.every_us);
        let until = |us: i64| now.mono + Duration::from_micros(u64::try_from(us).unwrap_or(0));
        if into >= window.length_us {
            return (self.cold, until(window.every_us - into));
        }
        let boundary = until(window.length_us - into);
        // A wall clock set back would open a window twice; so each has to be a period after the
        // last on the monotonic clock, or be the same.
        let mono_ns = i64::try_from(now.mono.0).unwrap_or(i64::MAX);
        let start = mono_ns.saturating_sub(into * 1_000);
        let open = self.hot_start.is_none_or(|last| {
            let apart = start.saturating_sub(last);
            apart.abs() <= SLEW_NS || apart >= window.every_us * 1_000 - SLEW_NS
        });
        if !open {
            return (self.cold, boundary);
        }
        if self.hot_start.is_none_or(|last| start.saturating_sub(last) > SLEW_NS) {
            self.hot_start = Some(start);
        }
        (self.hot, boundary)
    }

    /// The list whose share is most in arrears.
    fn next_list(&mut self) -> usize {
        let total: i64 = self.turns.iter().map(|t| t.weight).sum();
        for turn in &mut self.turns {
            turn.balance += turn.weight;
        }
        let next = self.turns.iter().enumerate().max_by_key(|(i, t)| (t.balance, usize::MAX - i));
        let index = next.map_or(0, |(i, _)| i);
        if let Some(turn) = self.turns.get_mut(index) {
            turn.balance -= total;
        }
        index
    }
}

/// Rates between and within windows. For a mean delay as small as can be, rates go with the square
/// root of the density of publications (the delay of each is half the spacing it meets); what the
/// peak cuts off is spent between windows.
fn split(mean: f64, peak: f64, marks: &Marks) -> (f64, f64) {
    let period = f64::from(marks.every_secs);
    let inside = f64::from(marks.length_secs) + SLEW_NS as f64 / 1e9;
    let outside = period - inside;
    let share = marks.share.clamp(0.0, 0.99);
    let ratio = ((share / inside) / ((1.0 - share) / outside)).sqrt();
    if ratio.is_nan() || ratio <= 1.0 {
        return (mean, mean);
    }
    let cold = mean * period / (ratio * inside + outside);
    if cold * ratio <= peak {
        (cold, cold * ratio)
    } else {
        ((mean * period - peak * inside) / outside, peak)
    }
}

fn fits(marks: &Marks) -> bool {
    marks.every_secs > 0
        && ACCOUNTING_PERIOD_SECS.is_multiple_of(marks.every_secs)
        && marks.lead_secs <= marks.length_secs
        && marks.length_secs + 1 < marks.every_secs
}

/// One request an hour to a thousand a second; anything that is no number counts as the least.
fn sane(per_second: f64) -> f64 {
    const LEAST: f64 = 1.0 / 3_600.0;
    if per_second.is_nan() { LEAST } else { per_second.clamp(LEAST, 1_000.0) }
}

/// Requests a second as an integer, rounded down so that rounding never adds a request.
fn nano(per_second: f64) -> u64 {
    (per_second * 1e9) as u64
}
