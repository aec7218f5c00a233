//! When a connection may ask again after a failure, and what the failures say of the source.
//!
//! Contract: pure and allocation-free; time and jitter come in as arguments. [`Backoff`] is one
//! connection's, [`AddressGuard`] one local address's (exchanges count by client address), [`Health`]
//! one source's. A refusal rests what it concerns and nothing else: other connections go on until a
//! second one is refused too, other addresses go on always.

use core::time::Duration;

use super::SourceState;
use crate::http1::response::RetryAfter;
use crate::limits;
use crate::time::{Mono, WallUs};

/// What went wrong with one request or connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Failure {
    /// 429.
    TooManyRequests,
    /// 403 or 451: a firewall, or the wrong country.
    Forbidden,
    /// 418: Binance's word for a banned address.
    Banned,
    /// 5xx.
    ServerError,
    /// Another status that is no answer (a redirect, 400, 404).
    Status,
    /// No address could be resolved or connected.
    Connect,
    /// The TLS handshake failed over what one side said in it.
    Tls,
    /// No complete answer in time.
    Timeout,
    /// The answer is not HTTP/1.1, or not within bounds.
    Protocol,
    /// Closed or reset within an answer, or within the TLS handshake.
    Closed,
    /// Complete, but nothing in it could be understood.
    Unusable,
    /// 401, or credentials refused in another way: wrong, expired, or bound to another address.
    Unauthorized,
}

impl Failure {
    /// Every class, in the order of its discriminant.
    pub const ALL: [Failure; 12] = [
        Failure::TooManyRequests,
        Failure::Forbidden,
        Failure::Banned,
        Failure::ServerError,
        Failure::Status,
        Failure::Connect,
        Failure::Tls,
        Failure::Timeout,
        Failure::Protocol,
        Failure::Closed,
        Failure::Unusable,
        Failure::Unauthorized,
    ];

    /// Name as a metric's label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Failure::TooManyRequests => "too_many_requests",
            Failure::Forbidden => "forbidden",
            Failure::Banned => "banned",
            Failure::ServerError => "server_error",
            Failure::Status => "status",
            Failure::Connect => "connect",
            Failure::Tls => "tls",
            Failure::Timeout => "timeout",
            Failure::Protocol => "protocol",
            Failure::Closed => "closed",
            Failure::Unusable => "unusable",
            Failure::Unauthorized => "unauthorized",
        }
    }

    /// Position in [`Failure::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The class of a status; `None` for the two that are answers, 200 and 304.
    #[must_use]
    pub const fn of_status(status: u16) -> Option<Failure> {
        match status {
            200 | 304 => None,
            429 => Some(Failure::TooManyRequests),
            401 => Some(Failure::Unauthorized),
            403 | 451 => Some(Failure::Forbidden),
            418 => Some(Failure::Banned),
            500..=599 => Some(Failure::ServerError),
            _ => Some(Failure::Status),
        }
    }

    /// Whether the exchange refuses us, as opposed to being broken.
    #[must_use]
    pub const fn is_refusal(self) -> bool {
        matches!(
            self,
            Failure::TooManyRequests | Failure::Forbidden | Failure::Banned | Failure::Unauthorized
        )
    }

    /// The first pause and the longest, without `Retry-After`.
    const fn pauses(self) -> (Duration, Duration) {
        match self {
            Failure::TooManyRequests => (Duration::from_secs(2), Duration::from_secs(300)),
            Failure::Forbidden => (Duration::from_secs(30), Duration::from_secs(900)),
            // Nothing gets better before somebody changes the credentials.
            Failure::Unauthorized => (Duration::from_secs(60), Duration::from_secs(900)),
            Failure::Banned => (Duration::from_secs(120), Duration::from_secs(7_200)),
            Failure::ServerError | Failure::Timeout => (Duration::from_millis(250), Duration::from_secs(30)),
            Failure::Status | Failure::Tls | Failure::Protocol => {
                (Duration::from_secs(1), Duration::from_secs(60))
            }
            Failure::Connect | Failure::Closed => (Duration::from_millis(100), Duration::from_secs(10)),
            // The next poll is a fresh chance and costs no more than this one did.
            Failure::Unusable => (Duration::ZERO, Duration::ZERO),
        }
    }

    /// Longest `Retry-After` obeyed. A ban may last days; elsewhere a longer one is taken for a mistake,
    /// for obeying it would silence the source.
    const fn longest_retry_after(self) -> Duration {
        match self {
            Failure::Banned => limits::RETRY_AFTER_BANNED,
            _ => limits::RETRY_AFTER,
        }
    }
}

/// How long `retry_after` asks to wait. A date is told by the server's clock, so it is measured from
/// the `Date` of the same answer where there is one, else from `wall`.
#[must_use]
pub fn retry_delay(retry_after: RetryAfter, date: Option<WallUs>, wall: WallUs) -> Duration {
    match retry_after {
        RetryAfter::Seconds(seconds) => Duration::from_secs(seconds),
        RetryAfter::At(at) => {
            let micros = at.micros_since(date.unwrap_or(wall));
            Duration::from_micros(u64::try_from(micros).unwrap_or(0))
        }
    }
}

/// The rest of one connection.
///
/// Bans, other refusals and what is broken are counted each by itself: that a network was down for a
/// minute says nothing of how much an exchange has been asked, and must not turn the first 418, whose
/// own word may be a second, into hours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    until: Mono,
    banned: u16,
    refused: u16,
    broken: u16,
    last: Option<Failure>,
}

impl Backoff {
    /// Ready at once.
    #[must_use]
    pub const fn new() -> Backoff {
        Backoff { until: Mono(0), banned: 0, refused: 0, broken: 0, last: None }
    }

    /// A failure: returns when the connection may be used again. The pause doubles with every failure
    /// of its kind before the next success, is never shorter than `retry_after` (within its bound) and
    /// has up to a quarter of itself added by `jitter`, a random number, so that connections do not come
    /// back together.
    pub fn fail(&mut self, now: Mono, failure: Failure, retry_after: Option<Duration>, jitter: u32) -> Mono {
        let (first, longest) = failure.pauses();
        let count = match failure {
            Failure::Banned => &mut self.banned,
            refusal if refusal.is_refusal() => &mut self.refused,
            _ => &mut self.broken,
        };
        let before = *count;
        *count = count.saturating_add(1);
        let doubled = first.saturating_mul(1_u32 << before.min(20)).min(longest);
        let asked = retry_after.map_or(Duration::ZERO, |d| d.min(failure.longest_retry_after()));
        let pause = match retry_after {
            // What the server asks is enough the first time, even if it is less than our own guess.
            Some(_) if before == 0 => asked,
            _ => doubled.max(asked),
        };
        self.last = Some(failure);
        self.until = now + pause + jittered(pause / 4, jitter);
        self.until
    }

    /// A complete, usable answer.
    pub fn succeed(&mut self) {
        *self = Backoff::new();
    }

    /// The earliest instant of the next attempt.
    #[must_use]
    pub const fn ready_at(&self) -> Mono {
        self.until
    }

    /// Failures since the last success.
    #[must_use]
    pub fn in_a_row(&self) -> u32 {
        u32::from(self.banned) + u32::from(self.refused) + u32::from(self.broken)
    }

    /// The last failure, if none succeeded since.
    #[must_use]
    pub const fn last(&self) -> Option<Failure> {
        self.last
    }

    /// Whether it rests at `now` because the exchange refused.
    #[must_use]
    pub fn is_refused(&self, now: Mono) -> bool {
        now < self.until && self.last.is_some_and(Failure::is_refusal)
    }
}

/// `span * jitter / 2^32`.
#[must_use]
pub fn jittered(span: Duration, jitter: u32) -> Duration {
    let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(u64::try_from((u128::from(nanos) * u128::from(jitter)) >> 32).unwrap_or(nanos))
}

/// The rest of one local address: what its connections were told, taken together.
///
/// 418 concerns the address at once. 429 and 403 may be one edge's opinion: they rest the address
/// when a second of its connections is refused while the first still rests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressGuard {
    until: Mono,
    refused: Option<(usize, Mono)>,
}

impl AddressGuard {
    /// Ready at once.
    #[must_use]
    pub const fn new() -> AddressGuard {
        AddressGuard { until: Mono(0), refused: None }
    }

    /// Connection number `connection` of this address was refused and rests until `until`.
    pub fn refused(&mut self, connection: usize, failure: Failure, now: Mono, until: Mono) {
        if !failure.is_refusal() {
            return;
        }
        let another = self.refused.is_some_and(|(who, rests)| who != connection && now < rests);
        if failure == Failure::Banned || another {
            self.until = self.until.max(until);
        }
        self.refused = Some((connection, until));
    }

    /// The earliest instant any connection of this address may ask.
    #[must_use]
    pub const fn ready_at(&self) -> Mono {
        self.until
    }
}

/// What the answers and failures of a source say of its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    patience: Duration,
    usable: Option<Mono>,
    last_failure: Option<Failure>,
    /// Every connection was refused, and none has been answered or has failed otherwise since.
    blocked: bool,
}

impl Health {
    /// Down until the first usable answer. An answer keeps the source live for `patience`.
    #[must_use]
    pub const fn new(patience: Duration) -> Health {
        Health { patience, usable: None, last_failure: None, blocked: false }
    }

    /// A usable answer (304 and an unchanged body too).
    pub fn succeed(&mut self, now: Mono) {
        self.usable = Some(now);
        self.last_failure = None;
    }

    /// A failure of any connection.
    pub fn fail(&mut self, failure: Failure) {
        self.last_failure = Some(failure);
    }

    /// The state at `now`; `all_refused`: every connection rests because it was refused.
    ///
    /// That is blocked, and stays so when the rest is over until something else is heard. Otherwise
    /// live while the last usable answer is recent; then what failed last decides: refused is
    /// blocked, answered but useless (or silent) is stale, everything else is down.
    #[must_use]
    pub fn state(&mut self, now: Mono, all_refused: bool) -> SourceState {
        let refused_last = self.last_failure.is_some_and(Failure::is_refusal);
        self.blocked = all_refused || self.blocked && refused_last;
        if self.blocked {
            return SourceState::Blocked;
        }
        match (self.usable, self.last_failure) {
            (Some(at), _) if now.since(at) < self.patience => SourceState::Live,
            (_, Some(failure)) if failure.is_refusal() => SourceState::Blocked,
            (_, Some(Failure::ServerError | Failure::Status | Failure::Unusable)) => SourceState::Stale,
            (Some(_), None) => SourceState::Stale,
            _ => SourceState::Down,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const T0: Mono = Mono(1_000_000_000);

    fn pause(backoff: &mut Backoff, failure: Failure, retry_after: Option<u64>, jitter: u32) -> Duration {
        backoff.fail(T0, failure, retry_after.map(Duration::from_secs), jitter).since(T0)
    }

    #[test]
    fn pauses_double_to_their_bound_and_success_resets() {
        let mut b = Backoff::new();
        let seen: Vec<u64> =
            (0..9).map(|_| pause(&mut b, Failure::TooManyRequests, None, 0).as_secs()).collect();
        assert_eq!(seen, [2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert!(b.is_refused(T0));
        b.succeed();
        assert_eq!((b.ready_at(), b.last()), (Mono(0), None));
        assert_eq!(pause(&mut b, Failure::Connect, None, 0), Duration::from_millis(100));
        assert!(!b.is_refused(T0));
    }

    #[test]
    fn retry_after_is_obeyed_within_its_bound() {
        for (failure, asked, got) in [
            (Failure::TooManyRequests, 0, Duration::ZERO),
            (Failure::TooManyRequests, 7, Duration::from_secs(7)),
            (Failure::TooManyRequests, u64::MAX, limits::RETRY_AFTER),
            (Failure::ServerError, 9_000_000, limits::RETRY_AFTER),
            (Failure::Banned, 9_000_000, limits::RETRY_AFTER_BANNED),
        ] {
            assert_eq!(pause(&mut Backoff::new(), failure, Some(asked), 0), got, "{failure:?} {asked}");
        }
        // Told the same small number again and again, our own doubling takes over.
        let mut b = Backoff::new();
        let seen: Vec<u64> =
            (0..4).map(|_| pause(&mut b, Failure::TooManyRequests, Some(1), 0).as_secs()).collect();
        assert_eq!(seen, [1, 4, 8, 16]);
    }

    #[test]
    fn a_refusal_is_the_first_one_whatever_failed_before() {
        let before = [Failure::Closed, Failure::Timeout, Failure::Unusable, Failure::ServerError];
        for (failure, asked, secs) in [
            (Failure::Banned, None, 120),
            (Failure::Banned, Some(1), 1),
            (Failure::TooManyRequests, None, 2),
            (Failure::TooManyRequests, Some(7), 7),
            (Failure::Forbidden, None, 30),
        ] {
            let mut b = Backoff::new();
            for failed in before.into_iter().cycle().take(20) {
                pause(&mut b, failed, None, 0);
            }
            assert_eq!(pause(&mut b, failure, asked, 0).as_secs(), secs, "{failure:?} {asked:?}");
            assert_eq!(b.in_a_row(), 21);
        }
        // What is broken is asked again soon after a refusal, and a ban is not the refusals' next step.
        let mut b = Backoff::new();
        for secs in [2, 4, 8] {
            assert_eq!(pause(&mut b, Failure::TooManyRequests, None, 0).as_secs(), secs);
        }
        assert_eq!(pause(&mut b, Failure::Connect, None, 0), Duration::from_millis(100));
        assert_eq!(pause(&mut b, Failure::Banned, None, 0).as_secs(), 120);
        // Each goes on where it was until something is answered.
        assert_eq!(pause(&mut b, Failure::TooManyRequests, None, 0).as_secs(), 16);
        assert_eq!(pause(&mut b, Failure::Banned, Some(1), 0).as_secs(), 240);
        b.succeed();
        assert_eq!(pause(&mut b, Failure::Banned, None, 0).as_secs(), 120);
    }

    #[test]
    fn a_date_is_measured_by_the_servers_own_clock() {
        let at = RetryAfter::At(WallUs::from_secs(1_000));
        assert_eq!(retry_delay(at, Some(WallUs::from_secs(940)), WallUs(0)), Duration::from_secs(60));
        assert_eq!(retry_delay(at, None, WallUs::from_secs(990)), Duration::from_secs(10));
        assert_eq!(retry_delay(at, None, WallUs::from_secs(2_000)), Duration::ZERO);
        assert_eq!(retry_delay(RetryAfter::Seconds(3), None, WallUs(0)), Duration::from_secs(3));
    }

    #[test]
    fn one_refused_connection_leaves_the_address_two_rest_it() {
        let later = T0 + Duration::from_secs(10);
        let mut guard = AddressGuard::new();
        guard.refused(0, Failure::TooManyRequests, T0, later);
        guard.refused(0, Failure::TooManyRequests, T0, later);
        guard.refused(1, Failure::ServerError, T0, later);
        assert_eq!(guard.ready_at(), Mono(0));
        guard.refused(1, Failure::Forbidden, T0, later);
        assert_eq!(guard.ready_at(), later);

        let mut guard = AddressGuard::new();
        guard.refused(0, Failure::Forbidden, T0, later);
        guard.refused(1, Failure::Forbidden, later, later + Duration::from_secs(1));
        assert_eq!(guard.ready_at(), Mono(0), "the first had come back by then");
        guard.refused(1, Failure::Banned, T0, later);
        assert_eq!(guard.ready_at(), later);
    }

    #[test]
    fn state_follows_what_was_heard_last() {
        let patience = Duration::from_secs(10);
        let (soon, late) = (T0 + Duration::from_secs(9), T0 + Duration::from_secs(10));
        let mut h = Health::new(patience);
        assert_eq!(h.state(T0, false), SourceState::Down);
        h.fail(Failure::Forbidden);
        assert_eq!(h.state(T0, false), SourceState::Blocked);
        h.succeed(T0);
        for (failure, then) in [
            (None, SourceState::Stale),
            (Some(Failure::TooManyRequests), SourceState::Blocked),
            (Some(Failure::Unusable), SourceState::Stale),
            (Some(Failure::ServerError), SourceState::Stale),
            (Some(Failure::Connect), SourceState::Down),
            (Some(Failure::Timeout), SourceState::Down),
        ] {
            if let Some(failure) = failure {
                h.fail(failure);
            }
            assert_eq!(h.state(soon, false), SourceState::Live);
            assert_eq!(h.state(soon, true), SourceState::Blocked);
            assert_eq!(h.state(late, false), then, "{failure:?}");
        }
    }

    #[test]
    fn blocked_ends_with_something_else_and_not_with_the_rest() {
        let mut h = Health::new(Duration::from_secs(10));
        h.succeed(T0);
        h.fail(Failure::TooManyRequests);
        assert_eq!(h.state(T0, false), SourceState::Live, "another connection goes on");
        assert_eq!(h.state(T0, true), SourceState::Blocked);
        assert_eq!(h.state(T0, false), SourceState::Blocked, "nothing has been heard since");
        h.succeed(T0);
        assert_eq!(h.state(T0, false), SourceState::Live);
        h.fail(Failure::Banned);
        assert_eq!(h.state(T0, true), SourceState::Blocked);
        h.fail(Failure::ServerError);
        assert_eq!(h.state(T0, false), SourceState::Live);
    }

    #[test]
    fn statuses_have_classes() {
        for (status, class) in [
            (200, None),
            (304, None),
            (429, Some(Failure::TooManyRequests)),
            (403, Some(Failure::Forbidden)),
            (418, Some(Failure::Banned)),
            (401, Some(Failure::Unauthorized)),
            (503, Some(Failure::ServerError)),
            (302, Some(Failure::Status)),
            (404, Some(Failure::Status)),
            (999, Some(Failure::Status)),
        ] {
            assert_eq!(Failure::of_status(status), class, "{status}");
        }
        for (index, failure) in Failure::ALL.into_iter().enumerate() {
            assert_eq!(failure.index(), index);
        }
    }

    proptest! {
        #[test]
        fn a_pause_is_bounded_and_never_shorter_than_asked(
            failures in proptest::collection::vec((0..12_usize, proptest::option::of(any::<u64>()), any::<u32>()), 1..50)
        ) {
            let mut b = Backoff::new();
            for (which, asked, jitter) in failures {
                let failure = Failure::ALL[which];
                let got = pause(&mut b, failure, asked, jitter);
                let bound = failure.pauses().1.max(failure.longest_retry_after());
                prop_assert!(got <= bound + bound / 4);
                let asked = Duration::from_secs(asked.unwrap_or(0)).min(failure.longest_retry_after());
                prop_assert!(got >= asked);
            }
        }
    }
}
