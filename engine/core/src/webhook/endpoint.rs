//! The health of one endpoint: whether it gets events, when it is pinged, and what users are told.
//!
//! Contract: told what attempts and pings came to, [`Endpoint`] answers with the [`Change`]s that
//! follow, each told exactly once. It says when the next ping is due and of which kind; one ping is
//! under way at a time. States: `pending` -> `active` <-> `suspended`, and `disabled` by the counter
//! (`auto`), by the customer (`user`) or by 410 (`gone`). Owner: the webhook thread. Allocates
//! nothing, fails never.

use core::time::Duration;

use super::attempt::{FailureClass, Verdict};
use super::schedule::scatter;
use super::window::{Latencies, TimeoutShare};
use crate::limits;
use crate::time::{Mono, Now, WallUs};

/// Whether an endpoint gets events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Registered; its verification ping has not been answered with 2xx. Gets nothing.
    Pending,
    /// Gets events.
    Active,
    /// Times out; events are held, probes find out when it is back.
    Suspended,
    /// Events are held.
    Disabled(Disabled),
}

/// Why an endpoint is disabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disabled {
    /// "3 consecutive endpoint failures → auto-disable + email notification."
    Auto,
    /// The customer or the administrator asked for it.
    User,
    /// It answered 410 twice.
    Gone,
}

impl State {
    /// The name users see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Active => "active",
            State::Suspended => "suspended",
            State::Disabled(Disabled::Auto) => "disabled_auto",
            State::Disabled(Disabled::User) => "disabled_user",
            State::Disabled(Disabled::Gone) => "disabled_gone",
        }
    }

    /// Registered and verified: events are meant for it, even if they wait.
    #[must_use]
    pub const fn takes_events(self) -> bool {
        !matches!(self, State::Pending)
    }
}

/// What a ping is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ping {
    /// "CEXPing sends a verification ping to confirm it's reachable."
    Verification,
    /// "Every 5 min to confirm endpoint is alive."
    Health,
    /// Whether a suspended or auto-disabled endpoint is back.
    Probe,
    /// Whether an endpoint that answered 410 is gone.
    Confirm,
}

/// Something users are told about an endpoint, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The verification ping was answered with 2xx.
    Verified,
    /// "Sustained timeouts may auto-suspend your endpoint."
    Suspended,
    /// A probe was answered with 2xx in time: active again.
    Resumed,
    /// Three failures in a row.
    AutoDisabled,
    /// A probe of an auto-disabled endpoint was answered with 2xx: active again.
    Recovered,
    /// The second 410.
    Gone,
    /// The customer switched it off.
    DisabledByUser,
    /// The customer switched it on.
    EnabledByUser,
    /// "P95 latency >5s triggers a dashboard warning."
    Slow {
        /// The P95.
        p95: Duration,
    },
    /// The warning is over.
    NoLongerSlow {
        /// The P95.
        p95: Duration,
    },
}

/// An e-mail to the owner of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mail {
    /// See [`Change::AutoDisabled`].
    AutoDisabled,
    /// See [`Change::Recovered`].
    Recovered,
    /// See [`Change::Gone`].
    Gone,
    /// See [`Change::Slow`]; goes into a digest.
    Slow,
}

impl Change {
    /// The e-mail due for it, exactly one for each change.
    #[must_use]
    pub const fn mail(self) -> Option<Mail> {
        match self {
            Change::AutoDisabled => Some(Mail::AutoDisabled),
            Change::Recovered => Some(Mail::Recovered),
            Change::Gone => Some(Mail::Gone),
            Change::Slow { .. } => Some(Mail::Slow),
            _ => None,
        }
    }
}

/// At most a change of state and one of the latency warning.
pub type Changes = [Option<Change>; 2];

/// Between the probes of a suspended endpoint; the last repeats.
const SUSPENDED_PROBES: [Duration; 4] = [
    Duration::from_secs(30),
    Duration::from_secs(60),
    Duration::from_secs(2 * 60),
    Duration::from_secs(5 * 60),
];
const HOUR: Duration = Duration::from_secs(3_600);
/// Since an endpoint was auto-disabled; then every hour until [`DISABLED_PROBES_END`].
const DISABLED_PROBES: [Duration; 3] = [Duration::from_secs(5 * 60), Duration::from_secs(15 * 60), HOUR];
const DISABLED_PROBES_END: Duration = Duration::from_secs(24 * 3_600);
/// From a 410 to the ping that confirms it.
const CONFIRM_AFTER: Duration = Duration::from_secs(60);

/// What of an endpoint's health outlives the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedHealth {
    /// Its state.
    pub state: State,
    /// Since when.
    pub since: WallUs,
    /// Failures in a row.
    pub failures: u8,
    /// The latency warning is on.
    pub slow: bool,
}

/// See the module head.
#[derive(Clone, Debug)]
pub struct Endpoint {
    state: State,
    /// When this process put it, or found it, in this state.
    since: Mono,
    /// How long it had been in it before this process.
    before: Duration,
    /// Auto-disabled endpoints are probed.
    self_healing: bool,
    failures: u8,
    /// The 5-minute window in which the counter last rose.
    counted_window: Option<u64>,
    timeouts: TimeoutShare,
    latencies: Latencies,
    slow: bool,
    /// Place of its pings within the period.
    phase: Duration,
    /// The next ping but for a confirming one.
    next_ping: Mono,
    confirm_at: Option<Mono>,
    /// Probes sent in this state.
    probes: usize,
    ping_under_way: bool,
}

impl Endpoint {
    /// A new endpoint, pending. `key` is any number of its own: it spreads pings over the period.
    /// `self_healing` switches the probes of an auto-disabled endpoint.
    #[must_use]
    pub fn new(now: Mono, key: u64, self_healing: bool) -> Endpoint {
        let period_ns = limits::WEBHOOK_PING_PERIOD.as_nanos() as u64;
        Endpoint {
            state: State::Pending,
            since: now,
            before: Duration::ZERO,
            self_healing,
            failures: 0,
            counted_window: None,
            timeouts: TimeoutShare::default(),
            latencies: Latencies::default(),
            slow: false,
            phase: Duration::from_nanos(scatter(key) % period_ns),
            next_ping: Mono::NEVER,
            confirm_at: None,
            probes: 0,
            ping_under_way: false,
        }
    }

    /// An endpoint of an earlier process. What it knew of latencies and timeouts is learnt anew.
    #[must_use]
    pub fn restored(now: Now, key: u64, self_healing: bool, saved: &SavedHealth) -> Endpoint {
        let mut endpoint = Endpoint::new(now.mono, key, self_healing);
        endpoint.enter(now.mono, saved.state);
        endpoint.before =
            Duration::from_micros(u64::try_from(now.wall.micros_since(saved.since)).unwrap_or(0));
        endpoint.failures = saved.failures;
        endpoint.slow = saved.slow;
        if saved.state == State::Disabled(Disabled::Auto) {
            endpoint.probes = probes_until(endpoint.before);
            endpoint.schedule_ping(now.mono);
        }
        endpoint
    }

    /// What to keep for [`Endpoint::restored`].
    #[must_use]
    pub fn saved(&self, now: Now) -> SavedHealth {
        let in_state = self.in_state(now.mono);
        let micros = i64::try_from(in_state.as_micros()).unwrap_or(i64::MAX);
        SavedHealth {
            state: self.state,
            since: WallUs(now.wall.0.saturating_sub(micros)),
            failures: self.failures,
            slow: self.slow,
        }
    }

    /// Its state.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Failures in a row, 0 to 3.
    #[must_use]
    pub const fn failures(&self) -> u8 {
        self.failures
    }

    /// Whether the latency warning is on, and the P95 where there is one.
    #[must_use]
    pub fn latency(&self) -> (bool, Option<Duration>) {
        (self.slow, self.latencies.p95())
    }

    /// Whether its last attempt timed out: then others go first.
    #[must_use]
    pub const fn is_ailing(&self) -> bool {
        self.timeouts.is_timing_out()
    }

    // ---- What users ask for --------------------------------------------------------------------

    /// A verification ping is wanted now. Only a pending endpoint takes one.
    pub fn verify(&mut self, now: Mono) {
        if self.state == State::Pending {
            self.next_ping = now;
        }
    }

    /// Switches it off. A pending one stays pending: nothing is sent to it, and switched off and on it
    /// would have got around its verification.
    pub fn disable(&mut self, now: Mono) -> Option<Change> {
        match self.state {
            State::Pending | State::Disabled(Disabled::User | Disabled::Gone) => None,
            _ => Some(self.change(now, State::Disabled(Disabled::User), Change::DisabledByUser)),
        }
    }

    /// Switches it on, whyever it was off. Not a way around verification.
    pub fn enable(&mut self, now: Mono) -> Option<Change> {
        match self.state {
            State::Pending | State::Active => None,
            State::Suspended | State::Disabled(_) => {
                Some(self.change(now, State::Active, Change::EnabledByUser))
            }
        }
    }

    // ---- Pings ---------------------------------------------------------------------------------

    /// When [`Endpoint::start_ping`] next has one.
    #[must_use]
    pub fn deadline(&self) -> Mono {
        if self.ping_under_way {
            return Mono::NEVER;
        }
        self.next_ping.min(self.confirm_at.unwrap_or(Mono::NEVER))
    }

    /// The ping that is due, if any; it is under way until [`Endpoint::on_ping`].
    pub fn start_ping(&mut self, now: Mono) -> Option<Ping> {
        if self.deadline() > now {
            return None;
        }
        self.ping_under_way = true;
        if self.confirm_at.is_some_and(|at| at <= now) {
            self.confirm_at = None;
            return Some(Ping::Confirm);
        }
        self.probes += 1;
        self.schedule_ping(now);
        Some(match self.state {
            State::Pending => Ping::Verification,
            State::Active => Ping::Health,
            State::Suspended | State::Disabled(_) => Ping::Probe,
        })
    }

    /// What a ping came to, and how long it took.
    pub fn on_ping(&mut self, now: Mono, ping: Ping, verdict: &Verdict, took: Duration) -> Changes {
        self.ping_under_way = false;
        if ping == Ping::Verification {
            let verified = *verdict == Verdict::Delivered && self.state == State::Pending;
            return [verified.then(|| self.change(now, State::Active, Change::Verified)), None];
        }
        let warning = self.observe(now, verdict, took);
        let change = match verdict {
            Verdict::Delivered => self.on_ping_answered(now, ping, took),
            Verdict::Permanent { class: FailureClass::Gone } => self.on_gone(now, ping),
            _ if ping == Ping::Confirm => None,
            _ => self.count_failure(now),
        };
        [change.or_else(|| self.suspend_if_due(now)), warning]
    }

    fn on_ping_answered(&mut self, now: Mono, ping: Ping, took: Duration) -> Option<Change> {
        if ping == Ping::Health {
            return None;
        }
        match self.state {
            State::Suspended if took < limits::WEBHOOK_SLOW => {
                Some(self.change(now, State::Active, Change::Resumed))
            }
            State::Disabled(Disabled::Auto) if self.self_healing => {
                Some(self.change(now, State::Active, Change::Recovered))
            }
            _ => None,
        }
    }

    fn on_gone(&mut self, now: Mono, ping: Ping) -> Option<Change> {
        if !matches!(self.state, State::Active | State::Suspended | State::Disabled(Disabled::Auto)) {
            return None;
        }
        if ping == Ping::Confirm {
            return Some(self.change(now, State::Disabled(Disabled::Gone), Change::Gone));
        }
        self.confirm_at.get_or_insert(now + CONFIRM_AFTER);
        self.count_failure(now)
    }

    // ---- Attempts ------------------------------------------------------------------------------

    /// What an attempt at an event came to. `concluded` says that the delivery failed for good: the
    /// counter counts those, for counting attempts "would make the 30-minute to 6-hour steps
    /// unreachable".
    pub fn on_attempt(&mut self, now: Mono, verdict: &Verdict, took: Duration, concluded: bool) -> Changes {
        let warning = self.observe(now, verdict, took);
        if verdict.class() == Some(FailureClass::Gone) && self.state == State::Active {
            self.confirm_at.get_or_insert(now + CONFIRM_AFTER);
        }
        let counted = if concluded { self.count_failure(now) } else { None };
        [counted.or_else(|| self.suspend_if_due(now)), warning]
    }

    /// Books an attempt or ping; answers with the latency warning's change.
    fn observe(&mut self, now: Mono, verdict: &Verdict, took: Duration) -> Option<Change> {
        if *verdict == Verdict::Delivered {
            self.failures = 0;
        }
        self.timeouts.record(now, verdict.class() == Some(FailureClass::Timeout));
        if self.state != State::Active {
            // Probes measure the outage that users have been told of already.
            return None;
        }
        self.latencies.record(took);
        let p95 = self.latencies.p95()?;
        if !self.slow && p95 > limits::WEBHOOK_SLOW {
            self.slow = true;
            return Some(Change::Slow { p95 });
        }
        if self.slow && p95 < limits::WEBHOOK_NO_LONGER_SLOW {
            self.slow = false;
            return Some(Change::NoLongerSlow { p95 });
        }
        None
    }

    fn suspend_if_due(&mut self, now: Mono) -> Option<Change> {
        let due = self.state == State::Active && self.timeouts.is_sustained();
        due.then(|| self.change(now, State::Suspended, Change::Suspended))
    }

    /// A concluded failure: at most one a window counts, so that one bad minute of many events is
    /// one failure.
    fn count_failure(&mut self, now: Mono) -> Option<Change> {
        if !matches!(self.state, State::Active | State::Suspended) {
            return None;
        }
        let window = Some(self.window(now));
        if self.counted_window == window {
            return None;
        }
        self.counted_window = window;
        self.failures += 1;
        (self.failures >= limits::WEBHOOK_FAILURES)
            .then(|| self.change(now, State::Disabled(Disabled::Auto), Change::AutoDisabled))
    }

    /// Windows begin with the endpoint's health pings, so that each ping has a window of its own.
    fn window(&self, now: Mono) -> u64 {
        let period_ns = limits::WEBHOOK_PING_PERIOD.as_nanos() as u64;
        // One period on, so that times before the first phase have a window too.
        (now.0.saturating_add(period_ns) - self.phase_ns()) / period_ns
    }

    fn phase_ns(&self) -> u64 {
        // Below the period.
        self.phase.as_nanos() as u64
    }

    // ---- Transitions ---------------------------------------------------------------------------

    fn change(&mut self, now: Mono, state: State, change: Change) -> Change {
        self.enter(now, state);
        change
    }

    fn enter(&mut self, now: Mono, state: State) {
        self.state = state;
        self.since = now;
        self.before = Duration::ZERO;
        self.probes = 0;
        self.confirm_at = None;
        if state == State::Active {
            self.failures = 0;
            self.counted_window = None;
            self.timeouts = TimeoutShare::default();
        }
        self.schedule_ping(now);
    }

    fn in_state(&self, now: Mono) -> Duration {
        self.before.saturating_add(now.since(self.since))
    }

    /// Sets the next ping after `self.probes` of them in this state.
    fn schedule_ping(&mut self, now: Mono) {
        self.next_ping = match self.state {
            State::Active => {
                let period_ns = limits::WEBHOOK_PING_PERIOD.as_nanos() as u64;
                let begun = self.window(now).saturating_mul(period_ns);
                Mono(begun.saturating_add(self.phase_ns()))
            }
            State::Suspended => {
                let last = SUSPENDED_PROBES.len() - 1;
                let gap = SUSPENDED_PROBES.get(self.probes.min(last));
                gap.map_or(Mono::NEVER, |gap| now + *gap)
            }
            State::Disabled(Disabled::Auto) if self.self_healing => disabled_probe(self.probes)
                .map_or(Mono::NEVER, |at| now + at.saturating_sub(self.in_state(now))),
            State::Pending | State::Disabled(_) => Mono::NEVER,
        };
    }
}

/// When the probe of this number (from 0) is due, since the endpoint was auto-disabled.
fn disabled_probe(number: usize) -> Option<Duration> {
    let at = DISABLED_PROBES.get(number).copied().unwrap_or_else(|| {
        let hours = u32::try_from(number - DISABLED_PROBES.len()).unwrap_or(u32::MAX).saturating_add(2);
        HOUR.saturating_mul(hours)
    });
    (at <= DISABLED_PROBES_END).then_some(at)
}

/// How many of those lie before `elapsed`.
fn probes_until(elapsed: Duration) -> usize {
    (0..).take_while(|number| disabled_probe(*number).is_some_and(|at| at < elapsed)).count()
}

#[cfg(test)]
#[path = "endpoint_tests.rs"]
mod tests;
