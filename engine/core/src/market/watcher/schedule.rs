//! When each request is asked: spread over its period, one at a time at each host, resting where refused.
//!
//! Contract: pure; time and jitter come in. A request's regular times are a grid of its period from a phase of
//! its own, so that the requests of one host never bunch; what was missed is not made up for. A failure is
//! asked again after a pause (see [`Backoff`]), a refusal never before its next regular time. A second refused request
//! of a host rests the host, a ban does at once ([`AddressGuard`]). Owner: the market thread. Allocates when
//! made, never fails.

use core::time::Duration;

use crate::limits;
use crate::market::{MarketRequest, MarketSpec};
use crate::source::SourceState;
use crate::source::backoff::{AddressGuard, Backoff, Failure, Health};
use crate::time::Mono;

/// Failure classes, in the order of [`Failure::ALL`].
pub const FAILURES: usize = Failure::ALL.len();

#[derive(Debug)]
struct Turn {
    host: usize,
    every: Duration,
    /// The next regular time.
    regular: Mono,
    /// When it is to be asked.
    due: Mono,
    backoff: Backoff,
    health: Health,
    answers: u64,
    failures: [u64; FAILURES],
}

#[derive(Debug)]
struct Host {
    base_url: &'static str,
    /// The request in flight.
    asking: Option<usize>,
    guard: AddressGuard,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Schedule {
    begun: bool,
    turns: Vec<Turn>,
    hosts: Vec<Host>,
}

impl Schedule {
    pub(super) fn new(
        requests: impl Iterator<Item = (&'static MarketSpec, &'static MarketRequest)>,
        speed: f64,
    ) -> Schedule {
        let speed = if speed.is_finite() { speed.clamp(0.001, 1_000.0) } else { 1.0 };
        let (mut turns, mut hosts) = (Vec::new(), Vec::<Host>::new());
        for (spec, request) in requests {
            let known = hosts.iter().position(|host| host.base_url == spec.base_url);
            let host = known.unwrap_or(hosts.len());
            if known.is_none() {
                let guard = AddressGuard::new();
                hosts.push(Host { base_url: spec.base_url, asking: None, guard });
            }
            let every = request.every.div_f64(speed);
            let patience = (every * limits::STALE_POLLS).clamp(limits::STALE_AFTER, limits::STALE_AT_MOST);
            turns.push(Turn {
                host,
                every,
                regular: Mono(0),
                due: Mono(0),
                backoff: Backoff::new(),
                health: Health::new(patience),
                answers: 0,
                failures: [0; FAILURES],
            });
        }
        Schedule { begun: false, turns, hosts }
    }

    /// Gives each request its phase: the requests of a host divide the shortest period among them, and hosts
    /// begin one after another.
    fn begin(&mut self, now: Mono) {
        self.begun = true;
        let hosts = u32::try_from(self.hosts.len()).unwrap_or(1).max(1);
        for (number, host) in (0_u32..).zip(0..self.hosts.len()) {
            let own = self.turns.iter().filter(|turn| turn.host == host);
            let shortest = own.clone().map(|turn| turn.every).min().unwrap_or_default();
            let count = u32::try_from(own.count()).unwrap_or(1).max(1);
            let step = shortest / count;
            let mut at = now + step * number / hosts;
            for turn in self.turns.iter_mut().filter(|turn| turn.host == host) {
                (turn.regular, turn.due) = (at, at);
                at = at + step;
            }
        }
    }

    /// The request that is to be asked now, which then is in flight until [`Schedule::answered`] or
    /// [`Schedule::failed`].
    pub(super) fn due(&mut self, now: Mono) -> Option<usize> {
        if !self.begun {
            self.begin(now);
        }
        let ready = self.turns.iter().enumerate().filter(|(_, turn)| self.ready_at(turn) <= now);
        let (at, turn) = ready.min_by_key(|(at, turn)| (turn.due, *at))?;
        self.hosts.get_mut(turn.host)?.asking = Some(at);
        Some(at)
    }

    /// When [`Schedule::due`] has something next, if nothing comes back before.
    pub(super) fn next_due(&self) -> Mono {
        self.turns.iter().map(|turn| self.ready_at(turn)).min().unwrap_or(Mono::NEVER)
    }

    fn ready_at(&self, turn: &Turn) -> Mono {
        match self.hosts.get(turn.host) {
            Some(host) if host.asking.is_none() => turn.due.max(host.guard.ready_at()),
            _ => Mono::NEVER,
        }
    }

    pub(super) fn answered(&mut self, at: usize, now: Mono) {
        let Some(turn) = self.turns.get_mut(at) else { return };
        turn.answers += 1;
        turn.backoff.succeed();
        turn.health.succeed(now);
        turn.follow(now);
        turn.due = turn.regular;
        self.came_back(at);
    }

    pub(super) fn failed(
        &mut self,
        at: usize,
        now: Mono,
        failure: Failure,
        retry_after: Option<Duration>,
        jitter: u32,
    ) {
        let Some(turn) = self.turns.get_mut(at) else { return };
        if let Some(count) = turn.failures.get_mut(failure.index()) {
            *count += 1;
        }
        let until = turn.backoff.fail(now, failure, retry_after, jitter);
        turn.health.fail(failure);
        // It notes that the only way to ask was refused.
        let _ = turn.health.state(now, turn.backoff.is_refused(now));
        turn.follow(now);
        turn.due = if failure == Failure::Unusable || failure.is_refusal() {
            until.max(turn.regular)
        } else {
            until
        };
        if let Some(host) = self.hosts.get_mut(turn.host) {
            host.guard.refused(at, failure, now, until);
        }
        self.came_back(at);
    }

    fn came_back(&mut self, at: usize) {
        if let Some(host) = self.hosts.iter_mut().find(|host| host.asking == Some(at)) {
            host.asking = None;
        }
    }

    /// How one request is doing.
    pub(super) fn state(&self, at: usize, now: Mono) -> SourceState {
        let Some(turn) = self.turns.get(at) else { return SourceState::Down };
        // A copy: the question must not change the answer.
        let mut health = turn.health;
        health.state(now, turn.backoff.is_refused(now))
    }

    /// Usable answers, and failures by class.
    pub(super) fn counts(&self, at: usize) -> (u64, [u64; FAILURES]) {
        self.turns.get(at).map_or((0, [0; FAILURES]), |turn| (turn.answers, turn.failures))
    }

    /// The host of a request, by number and address.
    pub(super) fn host(&self, at: usize) -> Option<(usize, &'static str)> {
        let number = self.turns.get(at)?.host;
        Some((number, self.hosts.get(number)?.base_url))
    }

    pub(super) fn hosts(&self) -> usize {
        self.hosts.len()
    }
}

impl Turn {
    /// The first regular time after `now`.
    fn follow(&mut self, now: Mono) {
        if self.regular > now {
            return;
        }
        let every = u64::try_from(self.every.as_nanos()).unwrap_or(u64::MAX).max(1);
        let missed = now.0.saturating_sub(self.regular.0) / every;
        let ahead = every.saturating_mul(missed.saturating_add(1));
        self.regular = Mono(self.regular.0.saturating_add(ahead));
    }
}

#[cfg(test)]
mod tests;
