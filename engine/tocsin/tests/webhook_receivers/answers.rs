//! What follows a 410, and how much of an answer is read once its verdict stands.

use std::time::Duration;

use tocsin::rings::WebhookToJournal;
use tocsin_core::limits;
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::endpoint::{Disabled, Mail, State};
use tocsin_core::webhook::outgoing::Outcome;
use tocsin_sim::receiver::Step;
use tocsin_sim::{Behaviour, Framing, Received, Reply};

use crate::{Scene, is_delivery};

/// From a 410 to the ping that confirms it.
const CONFIRM_AFTER: Duration = Duration::from_secs(60);

fn mails(scene: &Scene) -> Vec<Mail> {
    let mail = |row: &WebhookToJournal| match row {
        WebhookToJournal::Health { mail: Some((mail, _)), .. } => Some(*mail),
        _ => None,
    };
    scene.rig.rows.iter().filter_map(mail).collect()
}

/// A scene whose receiver has answered a delivery with 410.
fn gone() -> (Scene, EndpointId) {
    let mut scene = Scene::new();
    let id = scene.rig.register_active(&scene.receiver.url("/hook"));
    scene.rig.warm(id);
    scene.receiver.behave("/hook", vec![Behaviour::status(410)]);
    scene.rig.announce("GONE");
    scene.outcomes(1);
    assert_eq!(scene.rig.outcomes()[0].outcome, Outcome::Failed);
    let _ = scene.receiver.take();
    (scene, id)
}

#[test]
fn a_second_410_disables_with_a_mail() {
    let (mut scene, id) = gone();
    scene.rig.pass(CONFIRM_AFTER - Duration::from_secs(5));
    scene.rig.run_for(Duration::from_millis(50));
    assert!(scene.receiver.take().is_empty(), "the confirming ping is not early");
    assert_eq!(scene.rig.report(id).health.state, State::Active);
    scene.rig.pass(Duration::from_secs(6));
    let Scene { receiver, rig, .. } = &mut scene;
    let mut pings: Vec<Received> = Vec::new();
    rig.until("the confirming ping", |_| {
        pings.extend(receiver.take());
        !pings.is_empty()
    });
    while scene.rig.report(id).health.state == State::Active {}
    assert_eq!(scene.rig.report(id).health.state, State::Disabled(Disabled::Gone));
    assert_eq!((pings.len(), pings.iter().any(is_delivery)), (1, false));
    assert_eq!(mails(&scene), [Mail::Gone]);
    // It is the end: no probe, no event.
    scene.rig.announce("HELD");
    for _ in 0..5 {
        scene.rig.pass(Duration::from_secs(3_600));
        scene.rig.run_for(Duration::from_millis(20));
    }
    assert!(scene.receiver.take().is_empty());
    assert_eq!(mails(&scene), [Mail::Gone]);
}

#[test]
fn a_410_that_is_taken_back_changes_nothing() {
    let (mut scene, id) = gone();
    scene.receiver.behave("/hook", vec![Behaviour::ok()]);
    scene.rig.pass(CONFIRM_AFTER + Duration::from_secs(1));
    let Scene { receiver, rig, .. } = &mut scene;
    rig.until("the confirming ping", |_| !receiver.take().is_empty());
    scene.rig.announce("STILL");
    assert_eq!(scene.deliveries(1)[0].json().unwrap()["symbol"], "STILLUSDT");
    assert_eq!(scene.rig.report(id).health.state, State::Active);
    assert!(mails(&scene).is_empty());
}

/// A delivery meets `behaviour`; whether a later one comes on the same connection.
fn reused_after(behaviour: Behaviour, pause: Duration) -> (bool, Scene) {
    let mut scene = Scene::new();
    let id = scene.rig.register_active(&scene.receiver.url("/hook"));
    scene.rig.warm(id);
    scene.receiver.behave("/hook", vec![behaviour, Behaviour::ok()]);
    let closed = scene.closed();
    scene.rig.announce("FIRST");
    let first = scene.deliveries(1).remove(0);
    scene.outcomes(1);
    assert_eq!(scene.rig.outcomes()[0].outcome, Outcome::Delivered);
    scene.rig.pass(pause);
    // Either it is idle beside the other one, or its end has come.
    while scene.rig.report(id).connections < 2 && scene.closed() == closed {}
    scene.rig.announce("SECOND");
    let second = scene.deliveries(1).remove(0);
    (second.connection == first.connection, scene)
}

#[test]
fn a_body_is_read_up_to_its_bound_and_not_beyond() {
    let most = limits::WEBHOOK_DRAIN_BYTES;
    for (bytes, framing, reused) in [
        (most, Framing::ContentLength, true),
        (most + 1, Framing::ContentLength, false),
        (most, Framing::Chunked(8 * 1_024), true),
        (most + 1, Framing::Chunked(8 * 1_024), false),
        (100 * most, Framing::Chunked(16 * 1_024), false),
        (100, Framing::CloseDelimited, false),
    ] {
        let reply = Reply::new(200).body(&vec![b' '; bytes]).framed(framing);
        let (seen, _) = reused_after(Behaviour::reply(reply), Duration::ZERO);
        assert_eq!(seen, reused, "{bytes} bytes, {framing:?}");
    }
}

#[test]
fn an_endless_body_is_hung_up_on_whatever_its_coding_says() {
    let chunk = [b"4000\r\n".as_slice(), &[0x1f; 0x4000], b"\r\n"].concat();
    let head = Reply::new(200).with("Content-Encoding", "gzip").framed(Framing::Chunked(0));
    let endless = Behaviour::of("endless-gzip", vec![Step::Head(head), Step::Repeat(chunk.into())]);
    let (reused, scene) = reused_after(endless, Duration::ZERO);
    assert!(!reused);
    // What the sockets of both sides hold was sent and never read.
    let sent = scene.receiver.counters().bytes_out;
    assert!(sent < 32 * 1_024 * 1_024, "{sent} bytes");
}

#[test]
fn a_slow_body_is_waited_for_one_second() {
    let slow = |pause| {
        let body: &[u8] = b"{\"ok\":true}";
        let steps = vec![
            Step::Head(Reply::new(200).body(body)),
            Step::Send(body[..5].into()),
            Step::Wait(pause),
            Step::Send(body[5..].into()),
        ];
        Behaviour::of("halting", steps)
    };
    let (reused, _) = reused_after(slow(Duration::from_millis(50)), Duration::ZERO);
    assert!(reused);
    let (reused, _) = reused_after(slow(Duration::from_millis(500)), limits::WEBHOOK_DRAIN_TIME);
    assert!(!reused);
}

/// The whole of a record of TLS is one answer, and the next record another one that nobody asked for.
fn two_answers_in_two_records(after: Duration) -> Behaviour {
    const RECORD: usize = 16 * 1_024;
    let body = RECORD - "HTTP/1.1 200 OK\r\nContent-Length: 16343\r\n\r\n".len();
    let one = format!("HTTP/1.1 200 OK\r\nContent-Length: {body}\r\n\r\n{}", " ".repeat(body));
    assert_eq!(one.len(), RECORD);
    let both = one + "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
    Behaviour::of("twice-apart", vec![Step::Wait(after), Step::Send(both.into_bytes().into())])
}

/// The next deliveries wait already when the answers come, all of them at once, and are not given what is
/// behind those.
#[test]
fn an_answer_nobody_asked_for_is_nobodys() {
    const ENDPOINTS: u64 = 30;
    let each = 2 * usize::from(limits::WEBHOOK_IN_FLIGHT);
    let mut scene = Scene::new();
    scene.rig.quiet(ENDPOINTS);
    let answers = two_answers_in_two_records(Duration::from_millis(300));
    for n in 0..ENDPOINTS {
        let path = format!("/hook{n}");
        scene.rig.register_active(&scene.receiver.url(&path));
        scene.receiver.behave(&path, vec![answers.clone()]);
    }
    let _ = scene.receiver.take();
    for n in 0..each {
        scene.rig.announce(&format!("T{n}"));
    }
    // Nobody looks until all of both answers has come.
    let first = ENDPOINTS * (1 + u64::from(limits::WEBHOOK_IN_FLIGHT));
    let Scene { receiver, rig, .. } = &mut scene;
    rig.until("what fits in flight", |_| receiver.counters().requests >= first);
    std::thread::sleep(Duration::from_millis(800));
    let all = usize::try_from(ENDPOINTS).unwrap() * each;
    scene.outcomes(all);
    let delivered = scene.rig.outcomes().iter().filter(|o| o.outcome == Outcome::Delivered).count();
    assert_eq!(delivered, all);
    let deliveries = scene.receiver.take().into_iter().filter(is_delivery);
    let mut connections: Vec<u64> = deliveries.map(|received| received.connection).collect();
    connections.sort_unstable();
    connections.dedup();
    assert_eq!(connections.len(), all, "none carries a second delivery");
}
