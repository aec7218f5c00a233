//! The webhook thread stepped by hand against real TLS receivers on loopback.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]
#[path = "support/webhook.rs"]
mod rig;

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use rig::{Surroundings, WebhookRig, secret};
use tocsin::rings::{MarketToWebhook, ToWebhook, WebhookToJournal};
use tocsin::threads::{Pulse, Step as _};
use tocsin_core::limits;
use tocsin_core::market::{InstrumentKind, MarketEvent, MarketEventKind, VolumeTable};
use tocsin_core::model::Exchange;
use tocsin_core::webhook::attempt::FailureClass;
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::dispatcher::Refusal;
use tocsin_core::webhook::endpoint::{Disabled, State};
use tocsin_core::webhook::event::EventKind;
use tocsin_core::webhook::filter::EventFilter;
use tocsin_core::webhook::lane::Purpose;
use tocsin_core::webhook::outgoing::Outcome;
use tocsin_sim::receiver::{Behaviour, Greeting, Received, ReceiverOptions, SimReceiver};
use tokio::sync::oneshot;

struct Place {
    receiver: SimReceiver,
    rig: WebhookRig,
    _dir: tempfile::TempDir,
}

fn place() -> Place {
    place_with(ReceiverOptions::default())
}

fn place_with(options: ReceiverOptions) -> Place {
    let dir = tempfile::tempdir().unwrap();
    let ca_file = dir.path().join("ca.pem");
    let secrets = vec![secret().reveal().to_owned()];
    let options = ReceiverOptions { ca_file: Some(ca_file.clone()), secrets, ..options };
    let receiver = SimReceiver::start(options).unwrap();
    let rig = WebhookRig::new(&Surroundings { ca_file: Some(&ca_file), ..Surroundings::default() });
    Place { receiver, rig, _dir: dir }
}

fn events(received: &[Received]) -> Vec<&Received> {
    received.iter().filter(|r| r.event_type().as_deref() != Some("ping")).collect()
}

impl Place {
    /// Steps until this many requests that are no pings have come, and returns them.
    #[track_caller]
    fn deliveries(&mut self, count: usize) -> Vec<Received> {
        let Place { receiver, rig, .. } = self;
        let mut all = Vec::new();
        rig.until("deliveries", |_| {
            all.extend(receiver.take().into_iter().filter(|r| r.event_type().as_deref() != Some("ping")));
            all.len() >= count
        });
        all
    }

    /// Steps until two connections are warm.
    #[track_caller]
    fn warm(&mut self, id: EndpointId) {
        let want = usize::from(limits::WEBHOOK_WARM_CONNECTIONS);
        let mut asked: Option<oneshot::Receiver<_>> = None;
        self.rig.until("warm connections", |rig| {
            let Some(answer) = &mut asked else {
                let (reply, answer) = oneshot::channel();
                rig.commands.push(ToWebhook::Report(vec![id], reply)).unwrap();
                asked = Some(answer);
                return false;
            };
            match answer.try_recv() {
                Ok(reports) => {
                    let warm = reports[0].connections;
                    asked = None;
                    warm == want
                }
                Err(_) => false,
            }
        });
    }

    fn ask<T>(&mut self, command: impl FnOnce(oneshot::Sender<T>) -> ToWebhook) -> T {
        let (reply, mut answer) = oneshot::channel();
        self.rig.commands.push(command(reply)).unwrap();
        let mut got = None;
        self.rig.until("an answer", |_| {
            got = answer.try_recv().ok();
            got.is_some()
        });
        got.unwrap()
    }

    fn state(&mut self, id: EndpointId) -> State {
        self.ask(|reply| ToWebhook::Report(vec![id], reply))[0].health.state
    }
}

#[test]
fn an_announcement_reaches_a_verified_endpoint_signed_on_a_warm_connection() {
    let mut place = place();
    let id = place.rig.register_active(&place.receiver.url("/hook"));
    place.warm(id);
    let connections = place.receiver.counters().connections;
    let verification = place.receiver.take();
    assert_eq!(verification.len(), 1);
    assert_eq!(verification[0].event_type().as_deref(), Some("ping"));
    place.rig.announce("NEWT");
    let received = place.deliveries(1);
    let body = received[0].json().unwrap();
    assert_eq!(
        (
            body["type"].as_str(),
            body["symbol"].as_str(),
            body["exchange"].as_str(),
            body["latency_ms"].as_u64()
        ),
        (Some("new_listing"), Some("NEWTUSDT"), Some("Binance"), Some(250))
    );
    for received in verification.iter().chain(&received) {
        assert!(place.receiver.verdict(received).is_valid(), "{:?}", place.receiver.verdict(received));
        assert_eq!(received.attempt(), Some(1));
    }
    assert_eq!(place.receiver.counters().connections, connections, "it was warm");
    place.rig.until("its outcome", |rig| !rig.outcomes().is_empty());
    let outcomes = place.rig.outcomes();
    assert_eq!(outcomes.len(), 1);
    assert_eq!((outcomes[0].endpoint, outcomes[0].outcome), (id, Outcome::Delivered));
    assert_eq!(outcomes[0].event.as_str(), body["event_id"].as_str().unwrap());
    let attempt = place.rig.attempts().pop().unwrap();
    assert_eq!(
        (attempt.purpose, attempt.status, attempt.class),
        (Purpose::Event { attempt: 1 }, Some(200), None)
    );
    assert!(attempt.phases.first_byte_us.is_some() && attempt.phases.tls_us.is_none(), "{attempt:?}");
    let row = place.rig.rows.iter().find_map(|row| match row {
        WebhookToJournal::Event { recipients, .. } => Some(recipients.to_vec()),
        _ => None,
    });
    assert_eq!(row, Some(vec![id]));
}

#[test]
fn what_market_watchers_tell_is_sent_once_and_volumes_are_those_last_told() {
    let mut place = place();
    let id = place.rig.register_active(&place.receiver.url("/hook"));
    place.warm(id);
    let now = tocsin::os::clock::now().wall;
    let preview = MarketEvent {
        kind: MarketEventKind::ListingPreview,
        exchange: Exchange::Okx,
        source: "okx.instruments",
        symbol: "SOON-USDT".into(),
        base: "SOON".into(),
        quote: "USDT".into(),
        instrument: InstrumentKind::Spot,
        state: "preopen".into(),
        occurrence: 1,
        new_asset: true,
        noticed: false,
        effective_at: None,
        volume_24h: None,
        ratio: None,
        score: Some(81),
        since: Some(now),
        received: now,
        detected: now,
    };
    let further = MarketEvent { new_asset: false, symbol: "SOON-USDC".into(), ..preview.clone() };
    let events = [&preview, &preview, &further].map(|told| MarketToWebhook::Event(Arc::new(told.clone())));
    for event in events {
        place.rig.market.push(event).unwrap();
    }
    let received = place.deliveries(1);
    let body = received[0].json().unwrap();
    assert_eq!((body["type"].as_str(), body["symbol"].as_str()), (Some("listing_preview"), Some("SOONUSDT")));
    assert_eq!((body["ai_score"].as_u64(), body["exchange"].as_str()), (Some(81), Some("OKX")));
    for volume in [1.0, 12.5] {
        let table = Arc::new(VolumeTable::sum([("NEWT", volume)]));
        place.rig.market.push(MarketToWebhook::Volumes(table)).unwrap();
    }
    place.rig.run_for(Duration::from_millis(50));
    place.rig.announce("NEWT");
    let received = place.deliveries(1);
    assert_eq!(received.len(), 1, "the preview once, the further quote not at all");
    let body = received[0].json().unwrap();
    assert_eq!((body["symbol"].as_str(), body["volume_24h"].as_f64()), (Some("NEWTUSDT"), Some(12.5)));
}

#[test]
fn an_event_told_under_one_identity_is_not_told_again() {
    let mut place = place();
    let id = place.rig.register_active(&place.receiver.url("/hook"));
    place.warm(id);
    let announcement = place.rig.announcement("ONCE");
    for _ in 0..3 {
        place.rig.announcements.push(announcement.clone()).unwrap();
    }
    place.rig.announce("NEXT");
    let received = place.deliveries(2);
    // They travel on two connections: which arrives first is the network's matter.
    let mut symbols: Vec<String> =
        received.iter().map(|r| r.json().unwrap()["symbol"].as_str().unwrap().to_owned()).collect();
    symbols.sort_unstable();
    assert_eq!(symbols, ["NEXTUSDT", "ONCEUSDT"]);
}

#[test]
fn filters_hold_and_a_change_of_them_counts_at_once() {
    let mut place = place();
    let filter = EventFilter::parse("delisting", "*").unwrap();
    let url = place.receiver.url("/hook");
    let (id, mut answer) = place.rig.add(&url, filter);
    place.rig.until("verification", |_| answer.try_recv().is_ok());
    place.rig.announce("NOTME");
    place.rig.run_for(Duration::from_millis(50));
    let setup = tocsin::rings::EndpointSetup {
        id,
        url: tocsin_core::webhook::url::EndpointUrl::parse(&url, &place.rig.policy).unwrap(),
        secret: secret(),
        previous: None,
        filter: EventFilter::default(),
    };
    place.rig.commands.push(ToWebhook::Change(Box::new(setup))).unwrap();
    place.rig.run_for(Duration::from_millis(20));
    place.rig.announce("BUTME");
    let received = place.deliveries(1);
    assert_eq!(received[0].json().unwrap()["symbol"], "BUTMEUSDT");
}

#[test]
fn a_connection_closed_while_idle_is_resent_over_once_and_made_anew() {
    let mut place = place();
    let id = place.rig.register_active(&place.receiver.url("/hook"));
    place.warm(id);
    let _ = place.receiver.take();
    // Both warm connections die unread as the next request comes.
    place.receiver.behave("/hook", vec![Behaviour::reset(), Behaviour::ok()]);
    place.rig.announce("AGAIN");
    let received = place.deliveries(2);
    assert_eq!(received[0].body, received[1].body);
    assert_eq!((received[0].attempt(), received[1].attempt()), (Some(1), Some(1)), "one attempt");
    assert_eq!(place.rig.stats.resent.load(std::sync::atomic::Ordering::Relaxed), 1);
    place.rig.until("its outcome", |rig| !rig.outcomes().is_empty());
    assert_eq!(place.rig.outcomes()[0].outcome, Outcome::Delivered);
    place.rig.pass(Duration::from_secs(2));
    place.warm(id);
}

#[test]
fn a_second_reset_is_a_failure_that_is_retried_on_time() {
    let mut place = place();
    let id = place.rig.register_active(&place.receiver.url("/hook"));
    place.warm(id);
    let _ = place.receiver.take();
    place.receiver.behave("/hook", vec![Behaviour::reset(), Behaviour::reset(), Behaviour::ok()]);
    place.rig.announce("TWICE");
    place.rig.until("its outcome", |rig| !rig.outcomes().is_empty());
    let Outcome::Retry { attempt: 2, due } = place.rig.outcomes()[0].outcome else {
        panic!("{:?}", place.rig.outcomes())
    };
    let wait = due.micros_since(place.rig.now().wall);
    assert!((29_000_000..33_100_000).contains(&wait), "{wait}");
    place.rig.run_for(Duration::from_millis(20));
    assert_eq!(place.receiver.take().len(), 2);
    place.rig.pass(Duration::from_secs(34));
    let received = place.deliveries(1);
    assert_eq!(received[0].attempt(), Some(2));
}

#[test]
fn no_answer_in_ten_seconds_is_a_timeout_however_late_it_comes() {
    let mut place = place();
    let id = place.rig.register_active(&place.receiver.url("/hook"));
    place.warm(id);
    place.receiver.behave("/hook", vec![Behaviour::late(Duration::from_millis(400))]);
    place.rig.announce("LATE");
    place.deliveries(1);
    place.rig.pass(limits::WEBHOOK_TIMEOUT);
    place.rig.until("its outcome", |rig| !rig.outcomes().is_empty());
    assert!(matches!(place.rig.outcomes()[0].outcome, Outcome::Retry { attempt: 2, .. }));
    place.rig.run_for(Duration::from_millis(500));
    assert_eq!(place.rig.outcomes().len(), 1, "the late 200 changes nothing");
    let attempt = place.rig.attempts().pop().unwrap();
    assert_eq!(attempt.class, Some(FailureClass::Timeout));
}

#[test]
fn one_that_times_out_gets_no_connections_ahead_until_it_answers() {
    let mut place = place();
    let id = place.rig.register_active(&place.receiver.url("/hook"));
    place.warm(id);
    place.receiver.behave("/hook", vec![Behaviour::silent(), Behaviour::ok()]);
    place.rig.announce("HANG");
    place.deliveries(1);
    let connections = place.receiver.counters().connections;
    place.rig.pass(limits::WEBHOOK_TIMEOUT);
    place.rig.until("its outcome", |rig| !rig.outcomes().is_empty());
    // Longer than a connection that ended is normally missed.
    place.rig.pass(Duration::from_secs(5));
    place.rig.run_for(Duration::from_millis(300));
    assert_eq!(place.receiver.counters().connections, connections, "nothing is made ahead");
    place.rig.pass(Duration::from_secs(34));
    assert_eq!(place.deliveries(1)[0].attempt(), Some(2));
    place.rig.until("delivered", |rig| rig.outcomes().len() == 2);
    place.warm(id);
}

#[test]
fn what_hangs_holds_up_nobody() {
    let mut place = place();
    let hung: Vec<_> =
        (0..20).map(|n| place.rig.register_active(&place.receiver.url(&format!("/hung{n}")))).collect();
    let good: Vec<_> =
        (0..5).map(|n| place.rig.register_active(&place.receiver.url(&format!("/good{n}")))).collect();
    for n in 0..20 {
        place.receiver.behave(&format!("/hung{n}"), vec![Behaviour::silent()]);
    }
    place.warm(good[4]);
    let _ = place.receiver.take();
    for n in 0..30 {
        place.rig.announce(&format!("T{n}"));
    }
    let mut all = Vec::new();
    let Place { receiver, rig, .. } = &mut place;
    rig.until("all of the good ones'", |_| {
        all.extend(receiver.take().into_iter().filter(|r| r.path().starts_with("/good")));
        all.len() == 150
    });
    rig.until("their outcomes", |rig| {
        rig.outcomes().iter().filter(|outcome| good.contains(&outcome.endpoint)).count() == 150
    });
    assert!(rig.outcomes().iter().all(|o| !hung.contains(&o.endpoint)));
}

#[test]
fn tests_and_verifications_are_answered_and_states_obey() {
    let mut place = place();
    place.receiver.behave("/hook", vec![Behaviour::status(401), Behaviour::ok()]);
    let (id, report) = place.rig.register(&place.receiver.url("/hook"));
    assert_eq!((report.state, report.attempt.status), (State::Pending, Some(401)));
    assert_eq!(report.attempt.class, Some(FailureClass::Unauthorized));
    let refused = place.ask(|reply| ToWebhook::Test(id, EventKind::NewListing, reply));
    assert_eq!(refused.unwrap_err(), Refusal::NotVerified);
    let verified = place.ask(|reply| ToWebhook::Verify(id, reply)).unwrap();
    assert_eq!(verified.state, State::Active);
    assert!(verified.attempt.phases.tls_us.is_some() || verified.attempt.phases.first_byte_us.is_some());
    assert_eq!(place.ask(|r| ToWebhook::Verify(id, r)).unwrap_err(), Refusal::AlreadyVerified);
    let _ = place.receiver.take();
    let test = place.ask(|reply| ToWebhook::Test(id, EventKind::FuturesListing, reply)).unwrap();
    assert_eq!((test.attempt.status, test.attempt.purpose), (Some(200), Purpose::Test));
    let sent = place.deliveries(1);
    assert_eq!(sent[0].json().unwrap()["symbol"], "TESTUSDT");
    assert_eq!(place.ask(|reply| ToWebhook::Disable(id, reply)), Ok(State::Disabled(Disabled::User)));
    place.rig.announce("HELD");
    place.rig.run_for(Duration::from_millis(50));
    assert!(events(&place.receiver.take()).is_empty());
    assert_eq!(place.ask(|reply| ToWebhook::Enable(id, reply)), Ok(State::Active));
    assert_eq!(place.deliveries(1)[0].json().unwrap()["symbol"], "HELDUSDT");
    assert_eq!(place.ask(|reply| ToWebhook::Enable(EndpointId(9), reply)), Err(Refusal::UnknownEndpoint));
    place.rig.commands.push(ToWebhook::Remove(id)).unwrap();
    place.rig.run_for(Duration::from_millis(20));
    let _ = place.receiver.take();
    place.rig.announce("GONE");
    place.rig.run_for(Duration::from_millis(50));
    assert!(place.receiver.take().is_empty());
}

#[test]
fn what_is_under_way_to_a_removed_endpoint_counts_no_longer() {
    let mut place = place();
    place.receiver.behave("/hook", vec![Behaviour::ok(), Behaviour::silent()]);
    let id = place.rig.register_active(&place.receiver.url("/hook"));
    // In flight on connections of its own, and, with the name server silent, waiting for an address.
    for n in 0..6 {
        place.rig.announce(&format!("U{n}"));
    }
    let (named, _answer) = place.rig.add("https://hooks.tocsin-receiver.net/hook", EventFilter::default());
    place.deliveries(6);
    let in_flight = |rig: &WebhookRig| rig.stats.in_flight.load(std::sync::atomic::Ordering::Relaxed);
    place.rig.pass(Duration::from_millis(200));
    place.rig.until("counted", |rig| in_flight(rig) >= 6);
    for id in [id, named] {
        place.rig.commands.push(ToWebhook::Remove(id)).unwrap();
    }
    place.rig.run_for(Duration::from_millis(10));
    place.rig.pass(Duration::from_secs(1));
    place.rig.until("nothing in flight", |rig| in_flight(rig) == 0);
    assert!(place.rig.outcomes().is_empty());
}

#[test]
fn three_concluded_failures_switch_it_off_and_a_probe_on_again() {
    let mut place = place();
    let id = place.rig.register_active(&place.receiver.url("/hook"));
    place.warm(id);
    place.receiver.behave("/hook", vec![Behaviour::status(403)]);
    place.rig.announce("F");
    place.rig.until("its outcome", |rig| !rig.outcomes().is_empty());
    assert_eq!(place.rig.outcomes()[0].outcome, Outcome::Failed);
    // The pings of the next two windows fail too.
    for _ in 0..2 {
        place.rig.pass(Duration::from_secs(301));
        place.rig.run_for(Duration::from_millis(30));
    }
    let state = place.state(id);
    assert_eq!(state, State::Disabled(Disabled::Auto));
    let mails = place.rig.rows.iter().filter(|row| {
        matches!(
            row,
            WebhookToJournal::Health {
                mail: Some((tocsin_core::webhook::endpoint::Mail::AutoDisabled, _)),
                ..
            }
        )
    });
    assert_eq!(mails.count(), 1);
    place.receiver.behave("/hook", vec![Behaviour::ok()]);
    for _ in 0..4 {
        place.rig.pass(Duration::from_secs(310));
        place.rig.run_for(Duration::from_millis(60));
    }
    assert_eq!(place.state(id), State::Active);
}

#[test]
fn an_untrusted_certificate_and_a_closed_port_are_told_apart() {
    let mut place = place();
    let other = SimReceiver::start(ReceiverOptions::default()).unwrap();
    let (_, report) = place.rig.register(&other.url("/hook"));
    assert_eq!(report.attempt.class, Some(FailureClass::TlsUntrusted), "{report:?}");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (_, report) = place.rig.register(&format!("https://127.0.0.1:{port}/hook"));
    assert_eq!(report.attempt.class, Some(FailureClass::Connect), "{report:?}");
    place.receiver.greet(vec![Greeting::Reset]).unwrap();
    let (_, report) = place.rig.register(&place.receiver.url("/hook"));
    assert_eq!(report.attempt.class, Some(FailureClass::Reset), "{report:?}");
}

#[test]
fn at_a_stop_answers_on_their_way_are_waited_for() {
    let mut place = place();
    let id = place.rig.register_active(&place.receiver.url("/hook"));
    place.warm(id);
    place.receiver.behave("/hook", vec![Behaviour::late(Duration::from_millis(200))]);
    place.rig.announce("LAST");
    place.deliveries(1);
    let now = place.rig.now();
    place.rig.thread.finish(now);
    assert_eq!(place.rig.outcomes().len(), 1);
}

/// The answer whose coming shows the thread that it is to stop was dropped with the wait that it ended: the
/// stop took its whole patience, and the next process sent the event again.
#[test]
fn an_answer_that_ends_the_last_wait_before_a_stop_counts() {
    let mut place = place();
    let id = place.rig.register_active(&place.receiver.url("/hook"));
    place.receiver.behave("/hook", vec![Behaviour::late(Duration::from_millis(30))]);
    // Something else may end the last wait; seldom so often.
    for round in 1..=12 {
        place.warm(id);
        place.rig.announce(&format!("LAST{round}"));
        place.deliveries(1);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(10));
                stop.store(true, Ordering::Relaxed);
            });
            place.rig.thread.run(&stop, &Pulse::default());
        });
        assert_eq!(place.rig.outcomes().len(), round);
    }
}

/// Looks, at the instant an answer is given, whether a change of health is on its way to the journal.
struct AtAnswer {
    journal: Mutex<rtrb::Consumer<WebhookToJournal>>,
    changed: Mutex<Option<bool>>,
}

impl Wake for AtAnswer {
    fn wake(self: Arc<Self>) {
        let mut journal = self.journal.lock().unwrap();
        let mut rows = std::iter::from_fn(|| journal.pop().ok());
        let changed = rows.any(|row| matches!(row, WebhookToJournal::Health { .. }));
        *self.changed.lock().unwrap() = Some(changed);
    }
}

/// Who is answered asks the journal thread whether the change is on disk, and may be killed after that.
#[test]
fn a_change_is_on_its_way_to_the_journal_before_it_is_answered() {
    let mut place = place();
    let journal = std::mem::replace(&mut place.rig.journal, rtrb::RingBuffer::new(1).1);
    let seen = Arc::new(AtAnswer { journal: Mutex::new(journal), changed: Mutex::new(None) });
    let waker = Waker::from(Arc::clone(&seen));
    let (id, verified) = place.rig.add(&place.receiver.url("/hook"), EventFilter::default());
    let mut verified = pin!(verified);
    assert!(verified.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    place.rig.until("verification", |_| seen.changed.lock().unwrap().is_some());
    assert_eq!(seen.changed.lock().unwrap().take(), Some(true), "verified");
    let (reply, answer) = oneshot::channel();
    place.rig.commands.push(ToWebhook::Disable(id, reply)).unwrap();
    let mut answer = pin!(answer);
    assert!(answer.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    place.rig.until("the answer", |_| seen.changed.lock().unwrap().is_some());
    assert_eq!(seen.changed.lock().unwrap().take(), Some(true), "disabled");
}
