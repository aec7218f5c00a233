//! Sessions one after another: replaced before their end, ended, dropped.

use std::time::{Duration, Instant};

use tocsin_sim::{StreamKind, StreamOptions};

use crate::every_stream;
use crate::harness::exchange::history;
use crate::harness::wait_for;
use crate::push::Push;

every_stream!(a_session_is_replaced_by_one_that_is_live, a_session_that_ends_is_followed_by_another);

/// Announcements all the while: each arrives once, and there is never a moment without a session.
fn a_session_is_replaced_by_one_that_is_live(kind: StreamKind) {
    // The server ends a session after a time that the engine must not let come.
    let options = StreamOptions { session_life: Some(Duration::from_secs(14)), ..StreamOptions::default() };
    let push = Push::start(kind, options);
    let engine = push.engine("rotate_after = \"3s\"\n");
    let mut client = engine.connect(&engine.key(), "fields=full");
    let from = Instant::now();
    let (mut told, mut both) = (0, false);
    while from.elapsed() < Duration::from_secs(20) {
        push.told(&mut client, &format!("TKN{told}X"));
        told += 1;
        let sessions = push.sim.sessions();
        assert!(sessions > 0, "nobody listens after {:?}", from.elapsed());
        both |= sessions == 2;
        std::thread::sleep(Duration::from_millis(200));
    }
    push.nothing_more(&mut client);
    history(&engine, told + 1);
    assert!(both, "two sessions at once");
    push.becomes(&engine, "the rotations", |status| {
        status["connections_rotated"].as_u64() >= Some(2) && status["failures"] == serde_json::json!({})
    });
    push.kept_the_rules();
}

fn a_session_that_ends_is_followed_by_another(kind: StreamKind) {
    let push = Push::start(kind, StreamOptions::default());
    let engine = push.engine("");
    let mut client = engine.connect(&engine.key(), "fields=full&sources=1");
    let ends: [fn(&Push); 3] =
        [|p| p.sim.close_sessions(1001), |p| p.sim.drop_connections(), |p| p.sim.close_sessions(1000)];
    for (number, end) in ends.into_iter().enumerate() {
        let before = push.sim.upgrades().len();
        end(&push);
        wait_for("another session", || push.sim.upgrades().len() > before);
        push.live(&engine);
        push.told(&mut client, &format!("TKN{number}X"));
    }
    push.becomes(&engine, "the count", |status| status["failures"]["closed"] == 3);
    push.nothing_more(&mut client);
    push.kept_the_rules();
}
