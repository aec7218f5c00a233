//! What a receiver's name leads to: asked for again, vetted again, and never carried over.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::Duration;

use tocsin_core::limits;
use tocsin_core::webhook::attempt::FailureClass;
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::outgoing::Outcome;
use tocsin_sim::{DnsAnswer, DnsStub, DnsType, ReceiverOptions};

use crate::Scene;
use crate::rig::Surroundings;

const NAME: &str = "hooks.acme.io";
const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// An answer whose records live so many seconds.
fn leads_to(addresses: &[IpAddr], ttl: u32) -> DnsAnswer {
    DnsAnswer::Ttl(ttl, Box::new(DnsAnswer::Addresses(addresses.to_vec())))
}

/// One receiver behind all of this machine's addresses, so that its TLS sessions hold for each.
fn scene(script: Vec<DnsAnswer>, allow: &[&str]) -> (Scene, DnsStub) {
    let stub = DnsStub::start([(NAME, script)]).unwrap();
    let options = ReceiverOptions {
        listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        hosts: vec![NAME.to_owned()],
        ..ReceiverOptions::default()
    };
    let around = Surroundings { resolvers: &[stub.address()], allow, ..Surroundings::default() };
    (Scene::with(options, &around), stub)
}

fn registered(script: Vec<DnsAnswer>) -> (Scene, DnsStub, EndpointId) {
    let (mut scene, stub) = scene(script, &["127.0.0.0/8"]);
    let id = scene.rig.register_active(&scene.receiver.url("/hook"));
    scene.rig.warm(id);
    let _ = scene.receiver.take();
    (scene, stub, id)
}

/// The name leads elsewhere from now on, and the answer known so far is stale.
fn moves(scene: &mut Scene, stub: &DnsStub, answer: DnsAnswer) {
    stub.script(NAME, vec![answer]);
    scene.rig.pass(limits::WEBHOOK_DNS_FRESH_AT_MOST + Duration::from_secs(1));
}

#[test]
fn an_address_the_name_has_left_is_left_and_no_session_goes_along() {
    let (mut scene, stub, id) = registered(vec![leads_to(&[ONE], 30)]);
    // At the same address its sessions are taken up again.
    scene.receiver.drop_connections();
    scene.rig.idle(id, 0);
    scene.rig.announce("SAME");
    let same = scene.deliveries(1).remove(0);
    assert_eq!((same.to.ip(), same.resumed), (ONE, true));
    scene.rig.warm(id);
    let closed = scene.closed();
    moves(&mut scene, &stub, leads_to(&[OTHER], 30));
    scene.closes(closed + 2);
    scene.rig.warm(id);
    for ticker in ["ELSEWHERE", "AGAIN"] {
        scene.rig.announce(ticker);
    }
    for received in scene.deliveries(2) {
        assert_eq!(received.to.ip(), OTHER);
        // The first of the two is new; the second may have been made with what the first was given.
        assert!(!received.resumed || received.connection > same.connection + 1);
    }
    let opened = scene.rig.stats.opened.load(Ordering::Relaxed);
    let resumed = scene.rig.stats.resumed.load(Ordering::Relaxed);
    assert!(resumed < opened, "{resumed} of {opened}");
}

/// With nothing warm, so that the very first connection to the other address is the one looked at.
#[test]
fn the_first_connection_to_another_address_is_a_full_handshake() {
    let (mut scene, stub, id) = registered(vec![leads_to(&[ONE], 30)]);
    stub.script(NAME, vec![leads_to(&[OTHER], 30)]);
    scene.receiver.drop_connections();
    scene.rig.idle(id, 0);
    scene.rig.pass(limits::WEBHOOK_DNS_FRESH_AT_MOST + Duration::from_secs(1));
    scene.rig.announce("ELSEWHERE");
    let first = scene.deliveries(1).remove(0);
    assert_eq!((first.to.ip(), first.resumed), (OTHER, false));
    // And back: what the old address gave is forgotten.
    stub.script(NAME, vec![leads_to(&[ONE], 30)]);
    scene.receiver.drop_connections();
    scene.rig.idle(id, 0);
    scene.rig.pass(limits::WEBHOOK_DNS_FRESH_AT_MOST + Duration::from_secs(1));
    scene.rig.announce("BACK");
    let back = scene.deliveries(1).remove(0);
    assert_eq!((back.to.ip(), back.resumed), (ONE, false));
}

#[test]
fn a_name_is_asked_for_again_as_its_records_say() {
    let (mut scene, stub, _) = registered(vec![leads_to(&[ONE], 1)]);
    assert_eq!(stub.asked(NAME, DnsType::A), 1, "the ping's answer serves the warm connections too");
    for more in 2..5 {
        scene.rig.pass(limits::WEBHOOK_DNS_FRESH_AT_LEAST + Duration::from_millis(100));
        scene.rig.until("another question", |_| stub.asked(NAME, DnsType::A) == more);
        // Its answer is fresh from when it comes.
        scene.rig.run_for(Duration::from_millis(30));
    }
    let (mut scene, stub, id) = registered(vec![leads_to(&[ONE], 3_600)]);
    scene.rig.pass(Duration::from_secs(58));
    // A connection made in between does not put off the next question.
    scene.receiver.drop_connections();
    scene.rig.idle(id, 0);
    scene.rig.run_for(Duration::from_millis(50));
    assert_eq!(stub.asked(NAME, DnsType::A), 1);
    scene.rig.pass(Duration::from_secs(3));
    scene.rig.until("another question", |_| stub.asked(NAME, DnsType::A) == 2);
}

#[test]
fn a_name_that_moves_to_a_forbidden_address_loses_its_connections() {
    let (mut scene, stub, id) = {
        let (mut scene, stub) = scene(vec![leads_to(&[ONE], 30)], &["127.0.0.1/32"]);
        let id = scene.rig.register_active(&scene.receiver.url("/hook"));
        scene.rig.warm(id);
        (scene, stub, id)
    };
    let before = scene.receiver.counters();
    moves(&mut scene, &stub, leads_to(&[ONE, OTHER], 30));
    scene.closes(2);
    assert_eq!(scene.rig.report(id).connections, 0);
    let _ = scene.receiver.take();
    scene.rig.announce("NOBODY");
    scene.outcomes(1);
    let line = scene.attempts().pop().unwrap();
    assert_eq!((line.class, line.address, line.status), (Some(FailureClass::Address), None, None));
    assert!(line.detail.as_deref().unwrap().contains("127.0.0.2"), "{line:?}");
    assert!(matches!(scene.rig.outcomes()[0].outcome, Outcome::Retry { attempt: 2, .. }));
    let after = scene.receiver.counters();
    assert_eq!((after.connections, after.requests), (before.connections, before.requests));
    // It is well again when its name is.
    moves(&mut scene, &stub, leads_to(&[ONE], 30));
    let retried = scene.deliveries(1).remove(0);
    assert_eq!(retried.attempt(), Some(2));
}

#[test]
fn a_name_that_fails_is_a_failure_of_dns_and_costs_no_warm_connection() {
    for (answer, detail) in [
        (DnsAnswer::NoName, "does not exist"),
        (DnsAnswer::ServerFailure, "could not answer"),
        (DnsAnswer::Addresses(Vec::new()), "has no address"),
    ] {
        let (mut scene, stub, id) = registered(vec![leads_to(&[ONE], 30)]);
        moves(&mut scene, &stub, answer.clone());
        scene.rig.until("another question", |_| stub.asked(NAME, DnsType::A) > 0);
        scene.rig.run_for(Duration::from_millis(50));
        assert_eq!(scene.rig.report(id).connections, 2, "{answer:?}");
        scene.rig.announce("WARM");
        assert_eq!(scene.deliveries(1).len(), 1);
        scene.outcomes(1);
        scene.rig.warm(id);
        scene.receiver.drop_connections();
        scene.rig.idle(id, 0);
        scene.rig.announce("COLD");
        scene.outcomes(2);
        let line = scene.attempts().pop().unwrap();
        assert_eq!((line.class, line.address), (Some(FailureClass::Dns), None), "{answer:?}");
        assert!(line.detail.as_deref().unwrap().contains(detail), "{line:?}");
        assert!(matches!(scene.rig.outcomes()[1].outcome, Outcome::Retry { attempt: 2, .. }));
    }
}

#[test]
fn an_answer_after_two_seconds_is_no_answer() {
    let slow = DnsAnswer::Slow(Duration::from_secs(3), Box::new(leads_to(&[ONE], 30)));
    let (mut scene, _stub) = scene(vec![slow], &["127.0.0.0/8"]);
    let (_, report) = scene.rig.register(&scene.receiver.url("/hook"));
    assert_eq!(report.attempt.class, Some(FailureClass::Dns));
    let dns = Duration::from_micros(u64::from(report.attempt.phases.dns_us.unwrap()));
    assert!(dns >= limits::WEBHOOK_DNS_TIMEOUT && dns < limits::WEBHOOK_TIMEOUT, "{dns:?}");
    assert_eq!(scene.receiver.counters().connections, 0);
}
