//! Connections: kept inside the receiver's limit, never more than allowed, given up with their owner.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tocsin::rings::{EndpointSetup, ToWebhook};
use tocsin_core::limits;
use tocsin_core::time::WallUs;
use tocsin_core::webhook::attempt::FailureClass;
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::event::EventKind;
use tocsin_core::webhook::filter::EventFilter;
use tocsin_core::webhook::signature::Secret;
use tocsin_core::webhook::url::EndpointUrl;
use tocsin_sim::receiver::Step;
use tocsin_sim::{Behaviour, Received, Reply};

use crate::Scene;
use crate::rig::{WebhookRig, secret};

fn registered() -> (Scene, EndpointId) {
    let mut scene = Scene::new();
    let id = scene.rig.register_active(&scene.receiver.url("/hook"));
    scene.rig.warm(id);
    let _ = scene.receiver.take();
    (scene, id)
}

fn keeping(secs: u64) -> Behaviour {
    Behaviour::reply(Reply::new(200).with("Keep-Alive", &format!("timeout={secs}")))
}

fn connections(received: &[Received]) -> BTreeSet<u64> {
    received.iter().map(|received| received.connection).collect()
}

/// Announces `count` events at once.
fn flood(rig: &mut WebhookRig, tag: &str, count: usize) {
    for n in 0..count {
        rig.announce(&format!("{tag}{n}"));
    }
}

#[test]
fn a_connection_is_replaced_before_the_receivers_limit() {
    let (mut scene, id) = registered();
    scene.receiver.behave("/hook", vec![keeping(10)]);
    scene.rig.announce("FIRST");
    let first = scene.deliveries(1).remove(0).connection;
    scene.rig.warm(id);
    // Inside the limit less its margin it is used.
    scene.rig.pass(Duration::from_secs(7));
    scene.rig.announce("SECOND");
    assert_eq!(scene.deliveries(1)[0].connection, first);
    scene.rig.warm(id);
    let closed = scene.closed();
    scene.rig.pass(Duration::from_millis(8_100));
    scene.closes(closed + 1);
    scene.rig.pass(Duration::from_secs(2));
    scene.rig.warm(id);
    flood(&mut scene.rig, "T", 2);
    assert!(!connections(&scene.deliveries(2)).contains(&first));
}

#[test]
fn a_connection_past_its_limit_is_not_used_however_late_we_look() {
    let (mut scene, id) = registered();
    scene.receiver.behave("/hook", vec![keeping(10)]);
    scene.rig.announce("FIRST");
    let first = scene.deliveries(1).remove(0).connection;
    scene.rig.warm(id);
    // As after a pause of the whole machine: the event is there before the timers are looked at.
    scene.rig.pass(Duration::from_secs(30));
    scene.rig.announce("SECOND");
    assert_ne!(scene.deliveries(1)[0].connection, first);
}

#[test]
fn a_connection_that_is_kept_for_no_time_or_no_request_is_closed() {
    for header in ["timeout=1", "timeout=0", "timeout=60, max=0"] {
        let (mut scene, id) = registered();
        let reply = Reply::new(200).with("Keep-Alive", header);
        scene.receiver.behave("/hook", vec![Behaviour::reply(reply)]);
        flood(&mut scene.rig, "T", 40);
        scene.outcomes(40);
        let received = scene.receiver.take();
        assert_eq!((connections(&received).len(), received.len()), (40, 40), "{header}");
        let open = scene.rig.report(id).connections;
        assert!(open <= 2, "{open}");
    }
}

#[test]
fn eight_are_in_flight_and_two_kept() {
    let (mut scene, id) = registered();
    scene.receiver.behave("/hook", vec![Behaviour::late(Duration::from_millis(300))]);
    flood(&mut scene.rig, "T", 30);
    let most = usize::from(limits::WEBHOOK_IN_FLIGHT);
    let Scene { receiver, rig, .. } = &mut scene;
    let mut peak = 0;
    rig.until("all outcomes", |rig| {
        peak = peak.max(receiver.counters().open);
        rig.outcomes().len() == 30
    });
    // One that is being closed may still count as open beside the one that took its place.
    assert!((most as u64..=2 * most as u64).contains(&peak), "{peak}");
    scene.rig.warm(id);
    while scene.receiver.counters().open > 2 {
        scene.rig.step();
    }
}

#[test]
fn no_more_than_eight_requests_wait_for_an_answer() {
    let (mut scene, id) = registered();
    scene.receiver.behave("/hook", vec![Behaviour::silent()]);
    flood(&mut scene.rig, "T", 30);
    let most = usize::from(limits::WEBHOOK_IN_FLIGHT);
    assert_eq!(scene.deliveries(most).len(), most);
    scene.rig.run_for(Duration::from_millis(150));
    assert!(scene.receiver.take().is_empty());
    assert_eq!(scene.rig.report(id).pending, 30);
    // When they have timed out the next ones go.
    scene.receiver.behave("/hook", vec![Behaviour::ok()]);
    scene.rig.pass(limits::WEBHOOK_TIMEOUT);
    scene.rig.until("timeouts", |rig| rig.outcomes().len() >= most);
}

/// Answers whose bodies stay out hold their connections for a second: as many as may be in flight.
#[test]
fn connections_whose_body_is_awaited_are_bounded() {
    let (mut scene, _) = registered();
    let head = Reply::new(200).body(&[b' '; 100]);
    scene.receiver.behave("/hook", vec![Behaviour::of("bodiless", vec![Step::Head(head), Step::Hold])]);
    flood(&mut scene.rig, "T", 100);
    let most = u64::from(limits::WEBHOOK_IN_FLIGHT);
    let Scene { rig, .. } = &mut scene;
    let mut peak = 0;
    rig.until("all outcomes", |rig| {
        peak = peak.max(rig.stats.connections.load(Ordering::Relaxed));
        rig.outcomes().len() == 100
    });
    rig.pass(Duration::from_millis(100));
    rig.step();
    peak = peak.max(rig.stats.connections.load(Ordering::Relaxed));
    assert!(peak <= 2 * most + 2, "{peak} connections");
}

#[test]
fn first_attempts_go_before_retries_and_beside_them() {
    let (mut scene, id) = registered();
    scene.receiver.behave("/hook", vec![Behaviour::status(500)]);
    flood(&mut scene.rig, "OLD", 10);
    scene.outcomes(10);
    scene.rig.warm(id);
    let _ = scene.receiver.take();
    scene.receiver.behave("/hook", vec![Behaviour::silent()]);
    // Ten retries and one event are due at the same time.
    scene.rig.pass(Duration::from_secs(34));
    scene.rig.announce("NEWS");
    let retries = usize::from(limits::WEBHOOK_RETRIES_IN_FLIGHT);
    let mut received = scene.deliveries(retries + 1);
    received.sort_by_key(Received::sent_at);
    assert_eq!(received[0].json().unwrap()["symbol"], "NEWSUSDT");
    assert!(received[1..].iter().all(|received| received.attempt() == Some(2)));
    // Retries that hang leave room for what is new.
    scene.rig.announce("MORE");
    assert_eq!(scene.deliveries(1)[0].json().unwrap()["symbol"], "MOREUSDT");
    scene.rig.run_for(Duration::from_millis(100));
    assert!(scene.receiver.take().is_empty(), "no seventh retry");
}

#[test]
fn an_endpoint_removed_takes_what_is_in_flight_along() {
    let (mut scene, id) = registered();
    let other = scene.rig.register_active(&scene.receiver.url("/other"));
    scene.receiver.behave("/hook", vec![Behaviour::silent()]);
    flood(&mut scene.rig, "T", 20);
    let on_hook = |received: &Received| received.path() == "/hook";
    let Scene { receiver, rig, .. } = &mut scene;
    let mut seen = 0;
    rig.until("eight requests", |_| {
        seen += receiver.take().into_iter().filter(on_hook).count();
        seen == usize::from(limits::WEBHOOK_IN_FLIGHT)
    });
    let (reply, mut test) = tokio::sync::oneshot::channel();
    rig.commands.push(ToWebhook::Test(id, EventKind::NewListing, reply)).unwrap();
    rig.commands.push(ToWebhook::Remove(id)).unwrap();
    rig.until("the outcomes of the other", |rig| rig.outcomes().len() == 20);
    assert!(rig.outcomes().iter().all(|outcome| outcome.endpoint == other));
    rig.pass(Duration::from_millis(100));
    rig.run_for(Duration::from_millis(20));
    let gauges = (&rig.stats.in_flight, &rig.stats.pending);
    assert_eq!((gauges.0.load(Ordering::Relaxed), gauges.1.load(Ordering::Relaxed)), (0, 0));
    assert!(matches!(test.try_recv(), Err(tokio::sync::oneshot::error::TryRecvError::Closed)));
    while receiver.counters().open > 2 {
        rig.step();
    }
}

/// The customer's clock is ours: the old secret signs until the grace is over, the new one at once.
#[test]
fn a_rotated_secret_signs_beside_the_old_one_until_its_grace_is_over() {
    let (mut scene, id) = registered();
    let (old, new) = (secret(), Secret::from_random([9; 32]));
    let until = WallUs(scene.rig.now().wall.0 + 60_000_000);
    let setup = EndpointSetup {
        id,
        url: EndpointUrl::parse(&scene.receiver.url("/hook"), &scene.rig.policy).unwrap(),
        secret: Secret::from_random([9; 32]),
        previous: Some((secret(), until)),
        filter: EventFilter::default(),
    };
    scene.rig.commands.push(ToWebhook::Change(Box::new(setup))).unwrap();
    scene.rig.report(id);
    let valid = |scene: &Scene, received: &Received, secret: &Secret| {
        scene.receiver.know(&[secret.reveal()]).unwrap();
        scene.receiver.verdict(received).is_valid()
    };
    scene.rig.announce("GRACE");
    let received = scene.deliveries(1).remove(0);
    assert_eq!(received.header("webhook-signature").unwrap().split(' ').count(), 2);
    assert!(received.header("X-CEXPing-Signature-Next").is_some());
    assert!(valid(&scene, &received, &old));
    scene.outcomes(1);
    scene.rig.pass(Duration::from_secs(61));
    scene.rig.announce("OVER");
    let received = scene.deliveries(1).remove(0);
    assert_eq!(received.header("webhook-signature").unwrap().split(' ').count(), 1);
    assert_eq!(received.header("X-CEXPing-Signature-Next"), None);
    assert_eq!((valid(&scene, &received, &old), valid(&scene, &received, &new)), (false, true));
    scene.outcomes(2);
    // Neither rotation nor its end cost a connection.
    assert_eq!((received.nth, scene.receiver.counters().connections), (2, 2));
    assert_eq!(scene.attempts().iter().filter_map(|line| line.class).collect::<Vec<FailureClass>>(), []);
}
