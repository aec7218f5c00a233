//! Two feed writers: what a key and an address may do does not depend on which writer has them.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Client, Engine, Mode, wait_for};
use crate::{EXEMPT, LISTING};

both_modes!(
    one_key_is_one_key_on_every_writer,
    every_writer_announces_everything_in_order,
    resumes_and_drains_work_on_every_writer,
);

fn two_writers(mode: Mode) -> Engine {
    Engine::start(mode, &format!("{EXEMPT}[feed]\nwriters = 2\n"))
}

/// Specification: "shared across all connections using the same key"; "immediately disconnecting all
/// active sessions"; per-key connections.
fn one_key_is_one_key_on_every_writer(mode: Mode) {
    let engine = two_writers(mode);
    let (id, key) = engine.key_with(&["--tier", "basic", "--max-connections", "4"]);
    // Sessions are dealt out evenly: two on each.
    let mut sessions: Vec<Client> = (0..4).map(|_| engine.connect(&key, "")).collect();
    let refusal = engine.try_connect(&key, "").err().unwrap();
    assert_eq!(refusal.body, r#"{"error":"max_connections_reached","limit":4,"current":4}"#);
    sessions[0].send_text(r#"{"type":"test"}"#);
    assert_eq!(sessions[0].json()["type"], "test_announcement");
    for session in &mut sessions[1..] {
        session.nothing_of("test_announcement", Duration::from_millis(20));
        session.send_text(r#"{"type":"test"}"#);
        assert_eq!(session.json()["code"], "test_rate_limited");
    }
    engine.cli_json(&["keys", "set-expiry", &id.to_string(), "--expires-in", "1h"]);
    engine.cli_json(&["keys", "revoke", &id.to_string()]);
    for session in &mut sessions {
        assert_eq!(session.closed(), (Some(1000), "key_revoked".to_owned()));
    }
    let (id, key) = engine.key_with(&["--tier", "basic", "--max-connections", "4"]);
    let mut sessions: Vec<Client> = (0..4).map(|_| engine.connect(&key, "")).collect();
    engine.cli_json(&["keys", "set-expiry", &id.to_string(), "--expires-in", "1s"]);
    for session in &mut sessions {
        assert_eq!(session.closed(), (Some(1000), "key_expired".to_owned()));
    }
}

/// Specification, "broadcasts the announcement to all connected WebSocket subscribers".
fn every_writer_announces_everything_in_order(mode: Mode) {
    let engine = two_writers(mode);
    let key = engine.key();
    let mut clients: Vec<Client> =
        (0..8).map(|i| engine.connect(&key, ["fields=full", "fields=full&cex=binance"][i / 4])).collect();
    for i in 0..20 {
        let exchange = if i % 2 == 0 { "binance" } else { "upbit" };
        engine.inject(exchange, &format!("Announcement {i}"));
    }
    for (i, client) in clients.iter_mut().enumerate() {
        for seq in (1..=20).step_by(if i < 4 { 1 } else { 2 }) {
            let got = client.json();
            assert_eq!(
                (&got["seq"], &got["title"]),
                (&json!(seq), &json!(format!("Announcement {}", seq - 1)))
            );
        }
    }
    drop(clients);
    wait_for("every place", || engine.cli_json(&["status"])["feed"]["connections"] == 0);
}

/// FEED.md, "Added for users", 2; "Shutdown".
fn resumes_and_drains_work_on_every_writer(mode: Mode) {
    let mut engine = two_writers(mode);
    let key = engine.key();
    for _ in 0..3 {
        engine.inject("binance", LISTING);
    }
    let mut clients: Vec<Client> = (0..4).map(|_| engine.connect(&key, "fields=full&resume=1:1")).collect();
    engine.inject("binance", LISTING);
    for client in &mut clients {
        let got = [client.json(), client.json(), client.json()];
        assert_eq!(got.each_ref().map(|a| a["seq"].clone()), [2, 3, 4].map(|seq| json!(seq)));
        assert_eq!(got.map(|a| a.get("replayed").is_some()), [true, true, false]);
    }
    engine.signal("TERM");
    for client in &mut clients {
        assert_eq!(client.closed(), (Some(1012), "restart".to_owned()));
    }
    assert_eq!(engine.wait(), Some(0));
}
