//! When to ask: a budget of requests for one local address, spent where publish times cluster.
//!
//! Contract: [`Pacer::poll`] says whether a request may leave now and for which list. One pacer
//! holds all connections of one address together, so their requests interleave evenly and a
//! missing connection changes nothing: the next free one takes the request. Between two requests
//! the rate, integrated over the monotonic clock, reaches one; the rate never passes the peak and
//! averages the budget over [`ACCOUNTING_PERIOD_SECS`], hence neither do the requests. Missed
//! requests are not made up for. Within a window requests lie so that one leaves just after the mark
//! ([`AFTER_MARK`]), on which many publications are due; the first of the window waits for that, at most
//! one spacing. Owner: the source thread. Pure; does not allocate after `new`.

use core::time::Duration;

use crate::time::{Mono, Now};

/// Any half-open stretch of this length holds at most the budget's requests (rounded up).
pub const ACCOUNTING_PERIOD_SECS: u32 = 600;

/// From a mark to the request that asks for what is due on it: more than clocks that are kept are off, and
/// something for the exchange to show it. Of several addresses the first; the others share out the spacing after it.
pub const AFTER_MARK: Duration = Duration::from_millis(20);

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

/// How far above its mean a server of the operator's own may be asked for a moment.
const OWN_SERVER_BURST: f64 = 5.0;

impl Budget {
    /// The same with another mean. Towards an exchange the peak stays and caps the mean. A server
    /// of the operator's own (`own_server`: a recording, a simulation, a proxy) is asked as often
    /// as he says: a mean above the peak lifts the peak with it.
    #[must_use]
    pub fn with_rate(self, requests_per_second: f64, own_server: bool) -> Budget {
        let lifted = own_server && requests_per_second > self.peak_per_second;
        let peak = if lifted { requests_per_second * OWN_SERVER_BURST } else { self.peak_per_second };
        Budget { requests_per_second, peak_per_second: peak, ..self }
    }
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
    /// No request before this: the first of a window waits for its place.
    hold: Mono,
    turns: Box<[Turn]>,
}

/// A window in microseconds of the wall clock.
#[derive(Clone, Copy, Debug)]
struct Window {
    every_us: i64,
    lead_us: i64,
    length_us: i64,
    /// From the opening to the request that follows the mark, in nanoseconds.
    follows_ns: u64,
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
        let phase = phase.clamp(0.0, 1.0);
        let turns = weights.iter().map(|w| Turn { weight: i64::from((*w).max(1)), balance: 0 });
        Pacer {
            cold: nano(cold),
            hot: nano(hot),
            window: marks.map(|m| Window {
                every_us: i64::from(m.every_secs) * 1_000_000,
                lead_us: i64::from(m.lead_secs) * 1_000_000,
                length_us: i64::from(m.length_secs) * 1_000_000,
                follows_ns: u64::from(m.lead_secs) * 1_000_000_000
                    + AFTER_MARK.as_nanos() as u64
                    + (phase * 1e9 / hot) as u64,
            }),
            credit: ((1.0 - phase) * 1e18) as u64,
            last: None,
            hot_start: None,
            hold: Mono(0),
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
        let opened_before = self.hot_start;
        let (rate, boundary) = self.rate(now);
        let (last_at, last_rate) = self.last.unwrap_or((now.mono, rate));
        let elapsed = u64::try_from(now.mono.since(last_at).as_nanos()).unwrap_or(u64::MAX);
        // Where the rate changed since the last call the lower one counts: never too many.
        let earned = elapsed.saturating_mul(rate.min(last_rate));
        self.credit = self.credit.saturating_add(earned).min(ONE_REQUEST);
        self.last = Some((now.mono, rate));
        if self.hot_start != opened_before {
            self.hold = self.first_of_window(now, rate);
        }
        if self.credit >= ONE_REQUEST && now.mono >= self.hold {
            self.credit = 0;
            return Pace::Send { list: self.next_list() };
        }
        let wait_ns = (ONE_REQUEST - self.credit).div_ceil(rate.max(1));
        Pace::Wait((now.mono + Duration::from_nanos(wait_ns)).max(self.hold).min(boundary))
    }

    /// Where the first request of a window that has just opened leaves: whole spacings before the one that
    /// follows the mark, as soon as it is earned. At once where the mark is too near for that, or has passed.
    fn first_of_window(&self, now: Now, rate: u64) -> Mono {
        let Some(window) = self.window else { return now.mono };
        let into_us = now.wall.0.saturating_add(window.lead_us).rem_euclid(window.every_us);
        let into_ns = u64::try_from(into_us).unwrap_or(0).saturating_mul(1_000);
        // Rates are at most 10^12, so that a spacing is never nothing.
        let (spacing_ns, rate) = (ONE_REQUEST / rate.max(1), rate.max(1));
        let earned_ns = (ONE_REQUEST - self.credit) / rate;
        match window.follows_ns.checked_sub(into_ns.saturating_add(earned_ns)) {
            Some(spare_ns) => now.mono + Duration::from_nanos(earned_ns + spare_ns % spacing_ns.max(1)),
            None => now.mono,
        }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::source::exchange;
    use crate::time::WallUs;

    /// A wall clock minute long past any mark, so that runs start between windows.
    const START: WallUs = WallUs(1_790_000_100_000_000);
    const SECOND: u64 = 1_000_000_000;
    const BUDGET: Budget = Budget {
        requests_per_second: 0.4,
        peak_per_second: 2.0,
        marks: Some(Marks { every_secs: 300, lead_secs: 2, length_secs: 35, share: 0.95 }),
    };

    fn at(mono: u64, wall_offset_us: i64) -> Now {
        let us = i64::try_from(mono / 1_000).unwrap();
        Now { mono: Mono(mono), wall: WallUs(START.0 + us + wall_offset_us) }
    }

    /// Instants at which requests leave when every wait is kept exactly.
    fn sends(pacer: &mut Pacer, secs: u64) -> Vec<u64> {
        let (mut mono, mut sent) = (0, Vec::new());
        while mono < secs * SECOND {
            match pacer.poll(at(mono, 0)) {
                Pace::Send { .. } => sent.push(mono),
                Pace::Wait(until) => {
                    assert!(until.0 > mono, "a wait always ends later");
                    mono = until.0;
                }
            }
        }
        sent
    }

    /// Both limits, on what was really sent.
    fn check_limits(sent: &[u64], budget: &Budget) {
        let least_gap = (1e9 / budget.peak_per_second) as u64 - 1;
        assert!(sent.windows(2).all(|w| w[1] - w[0] >= least_gap), "closer than the peak allows");
        let mean = budget.requests_per_second.min(budget.peak_per_second);
        let most = (mean * f64::from(ACCOUNTING_PERIOD_SECS)).ceil() as usize;
        let period = u64::from(ACCOUNTING_PERIOD_SECS) * SECOND;
        for (first, start) in sent.iter().enumerate() {
            let within = sent[first..].partition_point(|t| *t < start + period);
            assert!(within <= most, "{within} requests within the period, {most} allowed");
        }
    }

    fn mean_delay_secs(sent: &[u64], publications: &[u64]) -> f64 {
        let delays = publications.iter().filter_map(|published| {
            let next = sent.get(sent.partition_point(|t| t < published))?;
            Some((next - published) as f64 / 1e9)
        });
        let (count, sum) = delays.fold((0.0, 0.0), |(n, sum), d| (n + 1.0, sum + d));
        sum / count
    }

    /// Evenly distributed numbers, the same in every run.
    fn spread(count: u64, below: u64) -> impl Iterator<Item = u64> {
        (0..count)
            .map(move |i| ((u128::from(i * 0x9e37_79b9 % 0x1_0000_0000) * u128::from(below)) >> 32) as u64)
    }

    fn uniform(secs: u64) -> Vec<u64> {
        spread(20_000, secs * SECOND).collect()
    }

    /// Within 30 s after a five-minute mark, over many hours.
    fn clustered(secs: u64) -> Vec<u64> {
        let first_mark = 300 - START.secs().rem_euclid(300) as u64;
        let marks = (secs - 600) / 300;
        let after = spread(20_000, 30 * SECOND);
        after.zip(0..).map(|(after, i)| (first_mark + i % marks * 300) * SECOND + after).collect()
    }

    #[test]
    fn clustering_pays_where_times_cluster_and_flat_is_best_elsewhere() {
        let secs = 24 * 3_600;
        let delay = |mode, publications: &[u64]| {
            let sent = sends(&mut Pacer::new(BUDGET, mode, &[1], 0.0), secs);
            check_limits(&sent, &BUDGET);
            mean_delay_secs(&sent, publications)
        };
        let (even, dense) = (uniform(secs - 60), clustered(secs - 60));
        let best_flat = 0.5 / BUDGET.requests_per_second;
        let flat = (delay(Mode::Flat, &even), delay(Mode::Flat, &dense));
        let spent = (delay(Mode::Clustered, &even), delay(Mode::Clustered, &dense));
        println!(
            "mean delay in s, uniform / clustered times: flat {:.4} / {:.4}, clustered {:.4} / {:.4}; \
             clustered times {:.2} times better; flat on uniform times {:.4} of the best",
            flat.0,
            flat.1,
            spent.0,
            spent.1,
            flat.1 / spent.1,
            flat.0 / best_flat,
        );
        assert!(flat.0 <= 1.02 * best_flat, "{flat:?}");
        assert!(flat.1 >= 4.0 * spent.1, "{flat:?} {spent:?}");
    }

    #[test]
    fn every_source_keeps_its_limits_in_both_modes() {
        for spec in exchange::ALL {
            for mode in [Mode::Flat, Mode::Clustered] {
                let weights: Vec<u16> = spec.lists.iter().map(|l| l.weight).collect();
                let sent = sends(&mut Pacer::new(spec.pacing, mode, &weights, 0.0), 3 * 3_600);
                check_limits(&sent, &spec.pacing);
                let mean = sent.len() as f64 / (3.0 * 3_600.0);
                let budget = spec.pacing.requests_per_second;
                assert!(mean >= 0.97 * budget, "{}: {mean} of {budget} is used", spec.name);
            }
        }
    }

    #[test]
    fn spacing_is_even_within_and_between_windows() {
        let mut pacer = Pacer::new(BUDGET, Mode::Clustered, &[1], 0.0);
        let (cold, hot) = pacer.rates();
        assert!(hot >= 4.0 * BUDGET.requests_per_second && cold > 0.1, "{hot} {cold}");
        let sent = sends(&mut pacer, 3_600);
        let gap = |rate: f64| (1e9 / rate) as u64;
        let near = |a: u64, b: u64| a.abs_diff(b) < 1_000;
        let odd = sent.windows(2).map(|w| w[1] - w[0]);
        let odd = odd.filter(|g| !near(*g, gap(hot)) && !near(*g, gap(cold))).count();
        assert!(odd <= 2 * 12, "only at the edges of windows, but {odd}");
    }

    /// How long after each mark of a day requests of one address leave, once its first window is over.
    fn after_marks(mean: f64, phase: f64, begin: u64) -> Vec<u64> {
        let budget = Budget { requests_per_second: mean, ..BUDGET };
        let (mut pacer, mut mono, mut sent) =
            (Pacer::new(budget, Mode::Clustered, &[1], phase), begin, vec![]);
        while mono < 24 * 3_600 * SECOND {
            match pacer.poll(at(mono, 0)) {
                Pace::Send { .. } => sent.push(mono),
                Pace::Wait(until) => mono = until.0,
            }
        }
        check_limits(&sent, &budget);
        let first_mark = 300 - START.secs().rem_euclid(300) as u64;
        let marks = (first_mark + 600..23 * 3_600).step_by(300).map(|secs| secs * SECOND);
        marks.map(|mark| sent[sent.partition_point(|t| *t < mark)] - mark).collect()
    }

    /// Whatever the budget and whenever it began: where the request after a mark falls is no accident.
    #[test]
    fn a_request_follows_every_mark() {
        for (mean, begin) in [(0.2, 0), (0.3, 7), (0.4, 123), (0.4, 250), (1.0, 61), (0.05, 0)] {
            let first = after_marks(mean, 0.0, begin * SECOND);
            let aimed = AFTER_MARK.as_nanos() as u64;
            assert!(
                first.iter().all(|after| after.abs_diff(aimed) < 10_000),
                "{mean} from {begin}: {first:?}"
            );
        }
    }

    /// With two addresses the second asks between two requests of the first.
    #[test]
    fn addresses_share_out_the_spacing_after_a_mark() {
        let aimed = AFTER_MARK.as_nanos() as u64 + SECOND / 4;
        let second = after_marks(0.4, 0.5, 0);
        assert!(second.iter().all(|after| after.abs_diff(aimed) < 10_000), "{second:?}");
    }

    #[test]
    fn lists_share_by_weight_and_interleave() {
        let mut pacer = Pacer::new(BUDGET, Mode::Flat, &[2, 2, 1], 0.0);
        let mut lists = Vec::new();
        let mut mono = 0;
        while lists.len() < 10 {
            match pacer.poll(at(mono, 0)) {
                Pace::Send { list } => lists.push(list),
                Pace::Wait(until) => mono = until.0,
            }
        }
        assert_eq!(lists, [0, 1, 2, 0, 1, 0, 1, 2, 0, 1]);
    }

    #[test]
    fn addresses_start_in_turn() {
        let first = |phase| sends(&mut Pacer::new(BUDGET, Mode::Flat, &[1], phase), 10)[0];
        assert_eq!((first(0.0), first(0.5)), (0, 1_250_000_000));
        assert!(first(1.0).abs_diff(2_500_000_000) < 2);
    }

    #[test]
    fn a_thread_held_up_does_not_catch_up() {
        let mut pacer = Pacer::new(BUDGET, Mode::Flat, &[1], 0.0);
        assert_eq!(pacer.poll(at(0, 0)), Pace::Send { list: 0 });
        assert_eq!(pacer.poll(at(60 * SECOND, 0)), Pace::Send { list: 0 });
        assert_eq!(pacer.poll(at(60 * SECOND, 0)), Pace::Wait(Mono(62_500_000_000)));
    }

    #[test]
    fn the_peak_binds_towards_an_exchange() {
        let rates = |rate, own_server| {
            Pacer::new(BUDGET.with_rate(rate, own_server), Mode::Clustered, &[1], 0.0).rates()
        };
        assert_eq!(rates(20.0, false), (2.0, 2.0));
        assert_eq!(rates(2.0, true), (2.0, 2.0));
        let (cold, hot) = rates(20.0, true);
        assert!(hot > 80.0 && hot <= 100.0 && cold < 20.0, "{cold} {hot}");
    }

    #[test]
    fn nonsense_in_a_budget_is_no_panic_and_no_flood() {
        for bad in [f64::NAN, f64::INFINITY, -1.0, 0.0, 1e300] {
            let budget = Budget { requests_per_second: bad, peak_per_second: 2.0, ..BUDGET };
            assert!(sends(&mut Pacer::new(budget, Mode::Clustered, &[], bad), 60).len() <= 121);
            let budget = Budget { peak_per_second: bad, ..BUDGET };
            assert!(sends(&mut Pacer::new(budget, Mode::Clustered, &[1], 0.0), 60).len() <= 121);
        }
    }

    proptest! {
        /// Whatever the thread's lateness and however the wall clock is set, the limits hold.
        #[test]
        fn limits_hold_under_any_clock(
            steps in prop::collection::vec((0_u64..3_000_000_000, prop_oneof![
                8 => Just(0_i64),
                1 => -400_000_000_i64..400_000_000,
                1 => prop_oneof![Just(-35_000_000_i64), Just(300_000_000), Just(-10_000_000)],
            ]), 1..1_500),
            rate in 0.05_f64..3.0,
        ) {
            let budget = Budget { requests_per_second: rate, ..BUDGET };
            let mut pacer = Pacer::new(budget, Mode::Clustered, &[1], 0.0);
            let (mut mono, mut offset, mut sent) = (0, 0, Vec::new());
            for (late, jump) in steps {
                offset += jump;
                match pacer.poll(at(mono, offset)) {
                    Pace::Send { .. } => sent.push(mono),
                    Pace::Wait(until) => mono = until.0.min(mono + 300 * SECOND) + late,
                }
            }
            check_limits(&sent, &budget);
        }
    }
}
