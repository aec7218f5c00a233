//! A push source that misbehaves: counted, got over, nothing invented.

use serde_json::json;
use tocsin_sim::{StreamFault, StreamKind, StreamOptions};

use crate::harness::exchange::history;
use crate::harness::{Client, Engine, Mode, wait_for};
use crate::push::Push;

/// An engine for each of these faults at once, so that the rests they cause pass together.
#[test]
fn faults_in_a_session_cost_that_session() {
    let rows = [
        (StreamFault::ResetMidFrame, "closed"),
        (StreamFault::Oversized, "protocol"),
        (StreamFault::InvalidUtf8, "protocol"),
    ];
    let mut cases: Vec<(StreamFault, &str, Push, Engine, Client)> = Vec::new();
    for kind in StreamKind::ALL {
        for (fault, class) in rows.clone() {
            let push = Push::start(kind, StreamOptions::default());
            let engine = push.engine("");
            let client = engine.connect(&engine.key(), "fields=full");
            push.sim.set_fault(Some(fault.clone()));
            push.publish("LOSX");
            cases.push((fault, class, push, engine, client));
        }
    }
    for (fault, class, push, engine, mut client) in cases {
        wait_for(&format!("{fault:?} to be noticed"), || push.failures(&engine, class) == 1);
        push.live(&engine);
        // Gate sends the last one again; with the others it was lost, which the polled source makes good.
        let again = push.sim.kind() == StreamKind::Gate;
        if again {
            assert_eq!(client.json_of("announcement")["tickers"], json!(["LOSX"]), "{fault:?}");
        }
        push.told(&mut client, "NEXX");
        push.nothing_more(&mut client);
        history(&engine, 2 + usize::from(again));
        push.kept_the_rules();
    }
}

#[test]
fn messages_nobody_understands_are_counted_and_passed_over() {
    for kind in StreamKind::ALL {
        let push = Push::start(kind, StreamOptions::default());
        let engine = push.engine("");
        let mut client = engine.connect(&engine.key(), "fields=full");
        for text in ["", "{", "<html>", "[]", "\"x\"", "{\"type\":\"announcement\"}", "{\"channel\":\"x\"}"] {
            push.sim.send_text(text);
        }
        push.told(&mut client, "BELX");
        push.becomes(&engine, "what is unusable", |status| {
            status["failures"]["unusable"].as_u64() >= Some(3)
        });
        assert_eq!(push.status(&engine)["state"], "live");
        assert_eq!(push.sim.upgrades().len(), 1, "for one bad message no session is given up");
    }
}

#[test]
fn an_error_on_a_session_ends_it() {
    let push = Push::start(StreamKind::Upbit, StreamOptions::default());
    let engine = push.engine("");
    push.sim.send_text(r#"{"error":{"name":"INVALID_AUTH","message":"simulated"}}"#);
    wait_for("the refusal", || push.failures(&engine, "unauthorized") == 1);
    wait_for("the end", || push.sim.sessions() == 0);
    wait_for("the state", || push.status(&engine)["state"] == "blocked");
}

/// What is answered to the upgrade instead of 101.
#[test]
fn refused_upgrades_have_their_class_and_rest() {
    let refuse = |status, secs: Option<u32>| StreamFault::Refuse {
        status,
        times: secs.map(|_| 1),
        retry_after_secs: secs,
    };
    let rows = [
        (refuse(429, Some(4)), "too_many_requests", "blocked"),
        (refuse(403, Some(4)), "forbidden", "blocked"),
        (refuse(418, Some(4)), "banned", "blocked"),
        (refuse(503, None), "server_error", "stale"),
        (refuse(404, None), "status", "stale"),
        (StreamFault::GarbageUpgrade, "protocol", "down"),
    ];
    let cases = rows.map(|(fault, class, state)| {
        let push = Push::start(StreamKind::Gate, StreamOptions::default());
        push.sim.set_fault(Some(fault.clone()));
        let engine = Engine::start(Mode::Plain, &push.section(""));
        (fault, class, state, push, engine)
    });
    for (fault, class, state, push, engine) in cases {
        let logged = format!("state=\"{state}\"");
        let said = || push.failures(&engine, class) > 0 && engine.log().contains(&logged);
        wait_for(&format!("{fault:?}"), said);
        push.sim.set_fault(None);
        push.live(&engine);
        push.told(&mut engine.connect(&engine.key(), "fields=full"), "BELX");
        push.kept_the_rules();
    }
}

/// A server that takes the subscription and says nothing is no live source.
#[test]
fn a_silent_server_is_given_up() {
    let cases = [StreamKind::Upbit, StreamKind::Gate].map(|kind| {
        let push = Push::start(kind, StreamOptions::default());
        push.sim.set_fault(Some(StreamFault::Silence));
        let engine = Engine::start(Mode::Plain, &push.section(""));
        (push, engine)
    });
    for (push, engine) in cases {
        wait_for("the end of patience", || push.failures(&engine, "timeout") > 0);
        push.becomes(&engine, "the state", |status| status["state"] == "down");
        push.sim.set_fault(None);
        push.live(&engine);
    }
}

#[test]
fn a_certificate_of_another_authority_is_refused() {
    let push = Push::start(StreamKind::Gate, StreamOptions::default());
    let other = Push::start(StreamKind::Gate, StreamOptions::default());
    let section = push.section("").replace(&push.sim.base_url(), &other.sim.base_url());
    let engine = Engine::start(Mode::Plain, &section);
    wait_for("the refusal", || push.failures(&engine, "tls_certificate") > 0);
    push.becomes(&engine, "the state", |status| status["state"] == "down");
    assert_eq!(other.sim.upgrades().len(), 0);
}

/// More sessions than an account may have are refused, and that is all that happens.
#[test]
fn one_session_too_many_is_refused() {
    let push = Push::start(StreamKind::Upbit, StreamOptions { sessions: 1, ..StreamOptions::default() });
    let first = push.engine("");
    let second = Engine::start(Mode::Plain, &push.section(""));
    wait_for("the refusal", || push.failures(&second, "too_many_requests") > 0);
    push.told(&mut first.connect(&first.key(), "fields=full"), "BELX");
    assert!(push.sim.upgrades().len() < 5);
    push.kept_the_rules();
}
