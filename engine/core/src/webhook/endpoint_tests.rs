//! Tests of the endpoint's states on a virtual clock.

use super::*;
use crate::webhook::attempt::Report;
use crate::webhook::schedule::Wait;
use proptest::prelude::*;

const OK: Verdict = Verdict::Delivered;
const TIMEOUT: Verdict = Verdict::Retry { class: FailureClass::Timeout, wait: Wait::Step };
const ERROR: Verdict = Verdict::Retry { class: FailureClass::ServerError, wait: Wait::Step };
const GONE: Verdict = Verdict::Permanent { class: FailureClass::Gone };
const QUICK: Duration = Duration::from_millis(40);
const LIMIT: Duration = limits::WEBHOOK_TIMEOUT;

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn at(n: u64) -> Mono {
    Mono(0) + secs(n)
}

/// An active endpoint, at second 1,000.
fn active() -> (Endpoint, Mono) {
    let mut endpoint = Endpoint::new(at(1_000), 7, true);
    endpoint.verify(at(1_000));
    assert_eq!(endpoint.start_ping(at(1_000)), Some(Ping::Verification));
    assert_eq!(endpoint.on_ping(at(1_000), Ping::Verification, &OK, QUICK), [Some(Change::Verified), None]);
    assert_eq!(endpoint.state(), State::Active);
    (endpoint, at(1_000))
}

/// Answers pings from `from` until `until`: (when, which), with the changes they made.
fn run(
    endpoint: &mut Endpoint,
    until: Mono,
    mut answer: impl FnMut(Ping) -> (Verdict, Duration),
) -> (Vec<(Mono, Ping)>, Vec<Change>) {
    let (mut pings, mut changes) = (Vec::new(), Vec::new());
    while endpoint.deadline() < until {
        let now = endpoint.deadline();
        let ping = endpoint.start_ping(now).expect("a ping is due at the deadline");
        assert_eq!(endpoint.deadline(), Mono::NEVER, "one ping at a time");
        let (verdict, took) = answer(ping);
        pings.push((now, ping));
        changes.extend(endpoint.on_ping(now + took, ping, &verdict, took).into_iter().flatten());
    }
    (pings, changes)
}

/// An endpoint that has just been auto-disabled.
fn auto_disabled(self_healing: bool) -> (Endpoint, Mono) {
    let (mut endpoint, now) = active();
    endpoint.self_healing = self_healing;
    let (pings, changes) = run(&mut endpoint, now + secs(900), |_| (ERROR, QUICK));
    assert_eq!(changes, [Change::AutoDisabled]);
    assert_eq!(pings.len(), 3);
    (endpoint, pings[2].0 + QUICK)
}

#[test]
fn a_pending_endpoint_becomes_active_by_verification_alone() {
    let mut endpoint = Endpoint::new(at(5), 1, true);
    assert_eq!(endpoint.deadline(), Mono::NEVER);
    assert_eq!(endpoint.enable(at(5)), None);
    for verdict in [TIMEOUT, ERROR, GONE] {
        endpoint.verify(at(6));
        assert_eq!(endpoint.start_ping(at(6)), Some(Ping::Verification));
        assert_eq!(endpoint.on_ping(at(6), Ping::Verification, &verdict, QUICK), [None, None]);
        assert_eq!((endpoint.state(), endpoint.deadline()), (State::Pending, Mono::NEVER));
    }
    active();
}

#[test]
fn a_day_of_pings() {
    let (mut endpoint, now) = active();
    let (pings, changes) = run(&mut endpoint, now + secs(86_400), |_| (OK, QUICK));
    assert_eq!((pings.len(), changes.len()), (288, 0));
    assert!(pings.iter().all(|(_, ping)| *ping == Ping::Health));
    assert!(pings.windows(2).all(|pair| pair[1].0.since(pair[0].0) == secs(300)));
}

#[test]
fn pings_of_many_endpoints_spread_over_the_period() {
    let mut tenths = [0; 10];
    for key in 0..1_000 {
        let mut endpoint = Endpoint::new(at(0), key, true);
        endpoint.verify(at(0));
        endpoint.start_ping(at(0));
        endpoint.on_ping(at(0), Ping::Verification, &OK, QUICK);
        tenths[(endpoint.deadline().since(at(0)).as_secs() / 30) as usize] += 1;
    }
    assert!(tenths.iter().all(|count| (50..200).contains(count)), "{tenths:?}");
}

#[test]
fn three_failures_disable_at_most_one_a_window() {
    let (mut endpoint, now) = active();
    // A window begins with a ping.
    let start = endpoint.deadline();
    for n in 0..100 {
        assert_eq!(endpoint.on_attempt(start + secs(n), &ERROR, QUICK, true), [None, None]);
    }
    assert_eq!(endpoint.failures(), 1);
    assert_eq!(endpoint.on_attempt(start + secs(299), &ERROR, QUICK, true), [None, None]);
    assert_eq!(endpoint.on_attempt(start + secs(301), &ERROR, QUICK, false), [None, None]);
    assert_eq!(endpoint.failures(), 1, "an attempt that will be repeated is no failure");
    endpoint.on_attempt(start + secs(301), &ERROR, QUICK, true);
    assert_eq!(endpoint.failures(), 2);
    endpoint.on_attempt(start + secs(302), &OK, QUICK, false);
    assert_eq!(endpoint.failures(), 0, "any 2xx sets it to 0");
    for (n, expected) in [(600, None), (900, None), (1_200, Some(Change::AutoDisabled))] {
        assert_eq!(endpoint.on_attempt(start + secs(n), &ERROR, QUICK, true)[0], expected);
    }
    assert_eq!(endpoint.state(), State::Disabled(Disabled::Auto));
    assert_eq!(endpoint.on_attempt(start + secs(1_500), &ERROR, QUICK, true), [None, None]);
    assert!(start > now);
}

#[test]
fn failed_pings_alone_disable_after_three_periods_even_when_each_takes_longest() {
    for took in [Duration::ZERO, QUICK, LIMIT] {
        let (mut endpoint, now) = active();
        let (pings, changes) = run(&mut endpoint, now + secs(901), |_| (ERROR, took));
        assert_eq!((pings.len(), changes), (3, vec![Change::AutoDisabled]));
    }
}

#[test]
fn timeouts_suspend_and_a_quick_probe_resumes() {
    let (mut endpoint, mut now) = active();
    for n in 1..=5 {
        now = now + secs(1);
        let expected = (n == 5).then_some(Change::Suspended);
        assert_eq!(endpoint.on_attempt(now, &TIMEOUT, LIMIT, false)[0], expected, "timeout {n}");
    }
    let suspended = now;
    // Later results of what was in flight change nothing.
    assert_eq!(endpoint.on_attempt(now, &TIMEOUT, LIMIT, false), [None, None]);
    // 2xx, but too slow to be back; failures never add up to a disabling.
    let (pings, changes) = run(&mut endpoint, suspended + secs(1_410), |_| (OK, secs(5)));
    let times: Vec<u64> = pings.iter().map(|(at, _)| at.since(suspended).as_secs()).collect();
    assert_eq!(times, [30, 90, 210, 510, 810, 1_110]);
    assert!(pings.iter().all(|(_, ping)| *ping == Ping::Probe));
    assert_eq!(changes, []);
    let (pings, changes) =
        run(&mut endpoint, suspended + secs(1_411), |_| (OK, Duration::from_millis(4_999)));
    assert_eq!((pings.len(), changes), (1, vec![Change::Resumed]));
    assert_eq!(endpoint.state(), State::Active);
}

#[test]
fn the_timeouts_that_suspended_it_do_not_count_again() {
    let (mut endpoint, now) = active();
    for _ in 0..5 {
        endpoint.on_attempt(now, &TIMEOUT, LIMIT, false);
    }
    let (_, changes) = run(&mut endpoint, now + secs(31), |_| (OK, QUICK));
    assert_eq!(changes, [Change::Resumed]);
    // Half of ten attempts in ten minutes, were the old ones counted.
    for _ in 0..10 {
        assert_eq!(endpoint.on_attempt(now + secs(32), &OK, QUICK, false), [None, None]);
    }
}

#[test]
fn an_endpoint_that_stays_hung_is_disabled_with_mail() {
    let (mut endpoint, now) = active();
    for _ in 0..5 {
        endpoint.on_attempt(now, &TIMEOUT, LIMIT, false);
    }
    let (_, changes) = run(&mut endpoint, now + secs(1_200), |_| (TIMEOUT, LIMIT));
    assert_eq!(changes, [Change::AutoDisabled]);
    assert_eq!(changes[0].mail(), Some(Mail::AutoDisabled));
}

#[test]
fn an_auto_disabled_endpoint_is_probed_for_a_day() {
    let (mut endpoint, disabled) = auto_disabled(true);
    let (pings, changes) = run(&mut endpoint, disabled + secs(10 * 86_400), |_| (TIMEOUT, LIMIT));
    let minutes: Vec<u64> = pings.iter().map(|(at, _)| at.since(disabled).as_secs() / 60).collect();
    let hourly = (2..=24).map(|hour| hour * 60);
    assert_eq!(minutes, [5, 15, 60].into_iter().chain(hourly).collect::<Vec<_>>());
    assert_eq!(changes, []);
    assert_eq!(endpoint.deadline(), Mono::NEVER);
    assert_eq!(endpoint.enable(disabled), Some(Change::EnabledByUser));

    let (mut endpoint, disabled) = auto_disabled(true);
    let mut left = 3;
    let (pings, changes) = run(&mut endpoint, disabled + secs(3_601), |_| {
        left -= 1;
        if left == 0 { (OK, secs(9)) } else { (ERROR, QUICK) }
    });
    assert_eq!((pings.len(), changes), (3, vec![Change::Recovered]));
    assert_eq!((endpoint.state(), endpoint.failures()), (State::Active, 0));
}

#[test]
fn self_healing_can_be_switched_off() {
    let (mut endpoint, disabled) = auto_disabled(false);
    assert_eq!(endpoint.deadline(), Mono::NEVER);
    assert_eq!(endpoint.on_attempt(disabled, &OK, QUICK, false), [None, None]);
    assert_eq!(endpoint.state(), State::Disabled(Disabled::Auto));
}

#[test]
fn gone_takes_two() {
    // (answer to the confirming ping, state after it)
    let rows = [
        (GONE, State::Disabled(Disabled::Gone)),
        (OK, State::Active),
        (TIMEOUT, State::Active),
        (Verdict::of(&Report::status(404), false, WallUs(0)), State::Active),
    ];
    for (verdict, state) in rows {
        let (mut endpoint, now) = active();
        assert_eq!(endpoint.on_attempt(now, &GONE, QUICK, true), [None, None]);
        // Another event's 410 within the minute is no confirmation.
        assert_eq!(endpoint.on_attempt(now + secs(1), &GONE, QUICK, true), [None, None]);
        let (pings, changes) = run(&mut endpoint, now + secs(61), |ping| match ping {
            Ping::Confirm => (verdict, QUICK),
            _ => (OK, QUICK),
        });
        let confirms: Vec<Mono> = pings.iter().filter(|p| p.1 == Ping::Confirm).map(|p| p.0).collect();
        assert_eq!(confirms, [now + secs(60)]);
        assert_eq!(endpoint.state(), state);
        let gone = changes.iter().filter(|c| c.mail() == Some(Mail::Gone)).count();
        assert_eq!(gone, usize::from(verdict == GONE));
        assert!(pings.len() <= 2);
    }
}

#[test]
fn a_health_ping_answered_410_leads_to_the_same_confirmation() {
    let (mut endpoint, now) = active();
    let (pings, changes) = run(&mut endpoint, now + secs(900), |_| (GONE, QUICK));
    assert_eq!(pings.iter().map(|p| p.1).collect::<Vec<_>>(), [Ping::Health, Ping::Confirm]);
    assert_eq!(changes, [Change::Gone]);
    assert_eq!(endpoint.deadline(), Mono::NEVER);
    assert_eq!(endpoint.disable(now), None);
    assert_eq!(endpoint.enable(now), Some(Change::EnabledByUser));
}

#[test]
fn the_latency_warning_has_two_edges() {
    let (mut endpoint, now) = active();
    let mut changes = Vec::new();
    let mut attempts = |endpoint: &mut Endpoint, count: usize, millis: u64| {
        for _ in 0..count {
            let change = endpoint.on_attempt(now, &OK, Duration::from_millis(millis), false);
            changes.extend(change.into_iter().flatten());
        }
        core::mem::take(&mut changes)
    };
    assert_eq!(attempts(&mut endpoint, 19, 9_000), []);
    let p95 = secs(9);
    assert_eq!(attempts(&mut endpoint, 50, 9_000), [Change::Slow { p95 }]);
    // Between 4 and 5 s nothing changes, whichever way it came.
    assert_eq!(attempts(&mut endpoint, 200, 4_500), []);
    assert_eq!(endpoint.latency(), (true, Some(Duration::from_millis(4_500))));
    let p95 = Duration::from_millis(3_999);
    assert_eq!(attempts(&mut endpoint, 200, 3_999), [Change::NoLongerSlow { p95 }]);
    assert_eq!(attempts(&mut endpoint, 200, 4_500), []);
    assert_eq!(attempts(&mut endpoint, 200, 5_000), []);
    assert_eq!(attempts(&mut endpoint, 200, 5_001).len(), 1);
}

#[test]
fn the_customers_switch() {
    let (mut endpoint, now) = active();
    assert_eq!(endpoint.enable(now), None);
    assert_eq!(endpoint.disable(now), Some(Change::DisabledByUser));
    assert_eq!(endpoint.disable(now), None);
    assert_eq!(endpoint.deadline(), Mono::NEVER, "nothing is sent to it");
    assert_eq!(endpoint.enable(now), Some(Change::EnabledByUser));
    let (mut endpoint, now) = auto_disabled(true);
    assert_eq!(endpoint.disable(now), Some(Change::DisabledByUser));
    assert_eq!(endpoint.deadline(), Mono::NEVER);
}

#[test]
fn switching_off_and_on_is_no_way_around_verification() {
    let mut endpoint = Endpoint::new(at(0), 7, true);
    assert_eq!((endpoint.disable(at(1)), endpoint.enable(at(1))), (None, None));
    assert_eq!(endpoint.state(), State::Pending);
}

#[test]
fn health_outlives_the_process() {
    let (endpoint, disabled) = auto_disabled(true);
    let wall = WallUs::from_secs(1_700_000_000);
    // Saved 20 minutes after it was disabled; the next process starts an hour later, soon after boot.
    let saved = endpoint.saved(Now { mono: disabled + secs(1_200), wall });
    assert_eq!(saved.since, WallUs(wall.0 - 1_200_000_000));
    let boot = Now { mono: at(20), wall: WallUs(wall.0 + 3_600_000_000) };
    let mut restored = Endpoint::restored(boot, 7, true, &saved);
    assert_eq!(restored.failures(), 3);
    let (pings, _) = run(&mut restored, Mono::NEVER, |_| (ERROR, QUICK));
    // 80 minutes have passed: the probes of 2 to 24 hours are left.
    assert_eq!(pings.len(), 23);
    assert_eq!(pings[0].0, boot.mono + secs(40 * 60));
    // A clock set back does not disturb.
    let before = Now { mono: at(20), wall: WallUs(0) };
    assert_eq!(Endpoint::restored(before, 7, true, &saved).deadline(), at(20) + secs(300));
    assert_eq!(restored.saved(Now { mono: Mono::NEVER, wall: WallUs(i64::MIN) }).state, saved.state);
}

#[derive(Clone, Debug)]
enum Op {
    Pass(u64),
    Ping(u8),
    Attempt(u8, bool),
    Disable,
    Enable,
}

fn verdict(kind: u8) -> (Verdict, Duration) {
    match kind % 6 {
        0 => (OK, QUICK),
        1 => (OK, secs(6)),
        2 | 3 => (TIMEOUT, LIMIT),
        4 => (ERROR, QUICK),
        _ => (GONE, QUICK),
    }
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        3 => (1..400_u64).prop_map(Op::Pass),
        4 => any::<u8>().prop_map(Op::Ping),
        4 => (any::<u8>(), any::<bool>()).prop_map(|(v, c)| Op::Attempt(v, c)),
        1 => Just(Op::Disable),
        1 => Just(Op::Enable),
    ];
    prop::collection::vec(op, 1..300)
}

proptest! {
    /// Whatever happens: every change is told once and leads where it says, the counter rises at
    /// most once a window, and any 2xx sets it to 0.
    #[test]
    fn changes_are_told_exactly_once(ops in ops()) {
        let (mut endpoint, mut now) = active();
        let mut slow = false;
        let mut risen = None;
        for op in ops {
            let (before, failures) = (endpoint.state(), endpoint.failures());
            let mut answered = None;
            let changes = match op {
                Op::Pass(seconds) => {
                    now = now + secs(seconds);
                    [None, None]
                }
                Op::Ping(kind) => {
                    let Some(ping) = endpoint.start_ping(now) else { continue };
                    let (verdict, took) = verdict(kind);
                    answered = Some(verdict);
                    endpoint.on_ping(now, ping, &verdict, took)
                }
                Op::Attempt(kind, concluded) => {
                    let (verdict, took) = verdict(kind);
                    answered = Some(verdict);
                    let concluded = concluded && verdict != OK;
                    endpoint.on_attempt(now, &verdict, took, concluded)
                }
                Op::Disable => [endpoint.disable(now), None],
                Op::Enable => [endpoint.enable(now), None],
            };
            let after = endpoint.state();
            let expected = match changes[0] {
                None => before,
                Some(Change::Suspended) => State::Suspended,
                Some(Change::AutoDisabled) => State::Disabled(Disabled::Auto),
                Some(Change::Gone) => State::Disabled(Disabled::Gone),
                Some(Change::DisabledByUser) => State::Disabled(Disabled::User),
                Some(_) => State::Active,
            };
            prop_assert_eq!(after, expected);
            prop_assert_eq!(changes[0].is_some(), before != after);
            match changes[1] {
                Some(Change::Slow { .. }) => prop_assert!(!core::mem::replace(&mut slow, true)),
                Some(Change::NoLongerSlow { .. }) => prop_assert!(core::mem::replace(&mut slow, false)),
                other => prop_assert_eq!(other, None),
            }
            if answered == Some(OK) {
                prop_assert_eq!(endpoint.failures(), 0);
            }
            prop_assert!(endpoint.failures() <= limits::WEBHOOK_FAILURES);
            if endpoint.failures() > failures {
                let window = Some(endpoint.window(now));
                prop_assert_eq!(endpoint.failures(), failures + 1);
                prop_assert_ne!(window, risen);
                risen = window;
            }
            if after == State::Active && before != after {
                risen = None;
            }
            if matches!(after, State::Disabled(Disabled::User | Disabled::Gone)) {
                prop_assert_eq!(endpoint.deadline(), Mono::NEVER);
            }
        }
    }
}
