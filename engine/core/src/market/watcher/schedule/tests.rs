//! When requests leave, by a clock of the test's own.

use super::*;
use crate::market::exchange::{ALL, OFF_BY_DEFAULT, bitget, gate, kraken, okx};

const T0: Mono = Mono(5_000_000_000_000);
const SECOND: Duration = Duration::from_secs(1);

fn schedule(specs: &[&'static MarketSpec], speed: f64) -> Schedule {
    let each = specs.iter().flat_map(|spec| spec.requests.iter().map(move |request| (*spec, request)));
    Schedule::new(each, speed)
}

/// Everything that leaves until `end`, where each answer takes `takes`.
fn run(schedule: &mut Schedule, end: Mono, takes: Duration) -> Vec<(Mono, usize)> {
    let (mut now, mut asked, mut back) = (T0, Vec::new(), Vec::<(Mono, usize)>::new());
    while now < end {
        while let Some(at) = schedule.due(now) {
            assert!(
                back.iter().all(|(_, other)| schedule.host(*other) != schedule.host(at)),
                "two at a host"
            );
            asked.push((now, at));
            back.push((now + takes, at));
        }
        back.sort();
        let next = back.first().map_or(Mono::NEVER, |(at, _)| *at);
        now = next.min(schedule.next_due());
        if now == next {
            let (_, at) = back.remove(0);
            schedule.answered(at, now);
        }
    }
    asked
}

#[test]
fn every_request_is_asked_as_often_as_its_source_says() {
    let all: Vec<&'static MarketSpec> = ALL.into_iter().chain(OFF_BY_DEFAULT).collect();
    let mut schedule = schedule(&all, 1.0);
    let asked = run(&mut schedule, T0 + SECOND * 600, Duration::from_millis(200));
    let requests: Vec<&MarketRequest> = all.iter().flat_map(|spec| spec.requests).collect();
    for (at, request) in requests.iter().enumerate() {
        let times = asked.iter().filter(|(_, asked)| *asked == at).count() as u64;
        let meant = 600 / request.every.as_secs();
        assert!((meant..=meant + 1).contains(&times), "{}: {times} of {meant}", request.name);
    }
}

#[test]
fn the_requests_of_a_host_never_bunch() {
    let mut schedule = schedule(&[&okx::INSTRUMENTS], 1.0);
    let asked = run(&mut schedule, T0 + SECOND * 300, Duration::from_millis(100));
    let apart = asked.windows(2).map(|pair| pair[1].0.since(pair[0].0)).min().unwrap();
    assert!(apart >= Duration::from_millis(1_600), "{apart:?}");
    let first: Vec<usize> = asked.iter().take(6).map(|(_, at)| *at).collect();
    assert_eq!(first, [0, 1, 2, 3, 4, 5], "all are known within the shortest period");
}

#[test]
fn a_host_that_is_slow_takes_turns_and_makes_nothing_up() {
    let mut schedule = schedule(&[&bitget::SPOT, &bitget::MIX], 1.0);
    let asked = run(&mut schedule, T0 + SECOND * 600, SECOND * 7);
    assert!(asked.len() <= 600 / 7 + 1);
    for at in 0..6 {
        assert!(asked.iter().filter(|(_, asked)| *asked == at).count() >= 8, "{at} starves");
    }
}

#[test]
fn speed_divides_the_periods_and_nonsense_is_held_in_bounds() {
    for (speed, meant) in [(1.0, 20), (10.0, 200), (f64::NAN, 20)] {
        let mut schedule = schedule(&[&kraken::SPOT], speed);
        let asked = run(&mut schedule, T0 + SECOND * 600, Duration::from_millis(1));
        let times = asked.iter().filter(|(_, at)| *at == 0).count();
        assert!((meant..=meant + 1).contains(&times), "{speed}: {times}");
    }
    for speed in [0.0, -1.0, f64::INFINITY, f64::MIN_POSITIVE] {
        assert!(schedule(&[&kraken::SPOT], speed).due(T0).is_some());
    }
    assert_eq!(Schedule::new(core::iter::empty(), 1.0).next_due(), Mono::NEVER);
}

#[test]
fn what_failed_is_asked_again_soon_and_what_was_refused_is_not() {
    // (failure, what the exchange asks, the least and the most until it is asked again)
    let cases = [
        (Failure::Connect, None, 100, 125),
        (Failure::ServerError, None, 250, 313),
        (Failure::Unusable, None, 30_000, 30_000),
        (Failure::TooManyRequests, None, 30_000, 30_000),
        (Failure::TooManyRequests, Some(45), 45_000, 57_000),
        (Failure::Forbidden, None, 30_000, 38_000),
        (Failure::Banned, None, 120_000, 150_000),
    ];
    for (failure, asks, least, most) in cases {
        for jitter in [0, u32::MAX] {
            let mut schedule = schedule(&[&kraken::SPOT], 1.0);
            let at = schedule.due(T0).unwrap();
            schedule.failed(at, T0, failure, asks.map(Duration::from_secs), jitter);
            let due = schedule.turns[at].due.since(T0).as_millis();
            assert!((least..=most).contains(&due), "{failure:?} {asks:?}: {due} ms");
            assert_eq!(schedule.counts(at).1[failure.index()], 1);
        }
    }
}

#[test]
fn a_failure_again_and_again_waits_longer_and_an_answer_ends_it() {
    let mut schedule = schedule(&[&kraken::SPOT], 1.0);
    let (mut now, mut pauses) = (T0, Vec::new());
    for _ in 0..10 {
        loop {
            match schedule.due(now) {
                Some(0) => break,
                Some(at) => schedule.answered(at, now),
                None => now = schedule.next_due(),
            }
        }
        schedule.failed(0, now, Failure::ServerError, None, 0);
        pauses.push(schedule.turns[0].due.since(now).as_millis());
    }
    assert_eq!(pauses, [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
    now = schedule.turns[0].due;
    schedule.due(now);
    schedule.answered(0, now);
    assert!(schedule.turns[0].due.since(now) <= SECOND * 30);
    assert_eq!((schedule.turns[0].backoff.in_a_row(), schedule.counts(0).0), (0, 1));
}

#[test]
fn one_refusal_rests_its_request_a_second_one_the_host_and_no_other() {
    let mut schedule = schedule(&[&okx::INSTRUMENTS, &gate::SPOT], 1.0);
    let mut now = T0;
    let mut refuse = |schedule: &mut Schedule| loop {
        now = now.max(schedule.next_due());
        let at = schedule.due(now).unwrap();
        if at < 6 {
            schedule.failed(at, now, Failure::Forbidden, None, 0);
            return now;
        }
        schedule.answered(at, now);
    };
    let first = refuse(&mut schedule);
    assert!(schedule.next_due().since(first) < SECOND * 3, "the host's other requests go on");
    let second = refuse(&mut schedule);
    let rests = second + SECOND * 30;
    for at in 0..6 {
        assert!(schedule.ready_at(&schedule.turns[at]) >= rests, "{at}");
    }
    assert!(schedule.next_due() < second + SECOND * 10, "another host goes on");
    assert_eq!(schedule.state(0, second), SourceState::Blocked);
    assert_ne!(schedule.state(6, second), SourceState::Blocked);
}

#[test]
fn a_state_follows_answers_and_their_absence() {
    let mut schedule = schedule(&[&kraken::SPOT], 1.0);
    assert_eq!(schedule.state(0, T0), SourceState::Down);
    let at = schedule.due(T0).unwrap();
    schedule.answered(at, T0);
    assert_eq!(schedule.state(at, T0 + SECOND * 149), SourceState::Live, "five periods");
    assert_eq!(schedule.state(at, T0 + SECOND * 150), SourceState::Stale);
    let now = T0 + SECOND * 31;
    while schedule.due(now).is_some_and(|due| due != at) {
        schedule.answered(1, now);
    }
    schedule.failed(at, now, Failure::TooManyRequests, None, 0);
    assert_eq!(schedule.state(at, now), SourceState::Blocked);
    assert_eq!(schedule.state(at, now + SECOND * 20), SourceState::Blocked, "until something else is heard");
    schedule.answered(at, now + SECOND * 40);
    assert_eq!(schedule.state(at, now + SECOND * 40), SourceState::Live);
    assert_eq!(schedule.state(99, now), SourceState::Down);
}
