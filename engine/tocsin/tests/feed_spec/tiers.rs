//! Redacted and delayed keys.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Engine, Handshake, Mode, wait_for};
use crate::{EXEMPT, LISTING};

both_modes!(
    redacted_keys_see_neither_title_nor_ticker,
    delayed_keys_get_it_later,
    redaction_and_delay_hold_in_resume_and_history,
    only_basic_keys_are_delayed,
    delayed_keys_are_closed_when_too_slow_as_well,
);

/// FEED.md, "Added for users", 5.
fn redacted_keys_see_neither_title_nor_ticker(mode: Mode) {
    let engine = Engine::start(mode, "");
    let flags = ["--tier", "basic", "--max-connections", "9", "--allowed-cex", "*", "--redact"];
    let (_, key) = engine.key_with(&flags);
    let (mut redacted, mut plain) = (engine.connect(&key, "fields=full"), engine.connect(&engine.key(), ""));
    engine.inject("binance", LISTING);
    let got = redacted.json();
    assert_eq!((got["title"].as_str(), got["ticker"].as_str()), (Some(""), Some("")));
    assert!(!got.to_string().contains("TKNX"), "{got}");
    assert_eq!(
        (got["publisher"].as_str(), got["listingType"].as_str()),
        (Some("binance"), Some("spot_listing"))
    );
    assert_eq!(plain.json()["title"], LISTING);
}

/// FEED.md, "Added for users", 5.
fn delayed_keys_get_it_later(mode: Mode) {
    let engine = Engine::start(mode, "");
    let flags = ["--tier", "basic", "--max-connections", "9", "--allowed-cex", "*", "--delay", "1500ms"];
    let (_, key) = engine.key_with(&flags);
    let (mut delayed, mut live) = (engine.connect(&key, ""), engine.connect(&engine.key(), ""));
    engine.inject("binance", LISTING);
    assert_eq!(live.json()["title"], LISTING);
    assert!(delayed.message_within(Duration::from_millis(1_000)).is_none(), "held back");
    assert_eq!(delayed.json()["title"], LISTING);
}

/// FEED.md, "Added for users", 2 and 5: what a key may not see live it may not see later either.
fn redaction_and_delay_hold_in_resume_and_history(mode: Mode) {
    let engine = Engine::start(mode, EXEMPT);
    let redacted = crate::basic_key(&engine, &["--redact"]);
    let delayed = crate::basic_key(&engine, &["--delay", "3s"]);
    let get = |key: &str| {
        let mut request = Handshake::new("").target("/v1/announcements").header("X-API-Key", key);
        request.headers.retain(|(n, _)| n == "Host" || n == "X-API-Key");
        request.refused(&engine).body
    };
    engine.inject("binance", LISTING);
    let mut client = engine.connect(&delayed, "fields=full&resume=1:0");
    assert!(client.message_within(Duration::from_millis(1)).is_none());
    assert_eq!(get(&delayed), r#"{"announcements":[],"next":null,"gap":null}"#, "not there yet");
    assert!(get(&engine.key()).contains("TKNX"));
    let text = get(&redacted);
    assert!(!text.contains("TKNX") && text.contains(r#""publisher":"binance""#), "{text}");
    for query in ["fields=full&resume=1:0", "resume=1:0"] {
        let payload = engine.connect(&redacted, query).payload();
        assert!(!payload.contains("TKNX") && payload.contains(r#""title":"","ticker":"","#), "{payload}");
        assert!(payload.ends_with(r#","replayed":true}"#));
    }
    // A ticker filter would tell what is withheld, so it filters nothing.
    let mut guessing = engine.connect(&redacted, "tickers=ZZZX");
    engine.inject("binance", LISTING);
    assert_eq!(guessing.json()["type"], "announcement");
    assert_eq!(client.json()["title"], LISTING, "its time has come");
    assert!(get(&delayed).contains("TKNX"));
}

/// FEED.md, "Added for users", 5: "Premium and enterprise are never delayed."
fn only_basic_keys_are_delayed(mode: Mode) {
    let engine = Engine::start(mode, "");
    for tier in ["premium", "enterprise"] {
        let refused = engine.cli(&["keys", "create", "--tier", tier, "--delay", "1s", "--json"]);
        assert!(!refused.status.success());
        assert!(String::from_utf8_lossy(&refused.stderr).contains("never delayed"), "{refused:?}");
        let body = json!({"tier": tier, "delay_ms": 1_000});
        let token = std::fs::read_to_string(engine.data_dir().join("admin.token")).unwrap();
        let header = format!("Authorization: Bearer {}\r\n", token.trim());
        assert_eq!(engine.admin_as("POST", "/admin/v1/keys", &header, Some(&body)).0, 400);
    }
}

/// Specification, "too_slow", for a subscriber that reads from history.
fn delayed_keys_are_closed_when_too_slow_as_well(mode: Mode) {
    let engine = Engine::start(mode, &format!("{EXEMPT}[feed]\nsend_buffer = \"4KiB\"\n"));
    let delayed = crate::basic_key(&engine, &["--delay", "10ms"]);
    let mut slow = Handshake::new("fields=full");
    slow.receive_buffer = Some(2_048);
    let _slow = slow.header("X-API-Key", &delayed).connect(&engine).ok().unwrap();
    let mut quick = engine.connect(&delayed, "fields=full");
    let title = format!("A long announcement {}", "about nothing in particular ".repeat(30));
    let mut sent = 0;
    wait_for("the slow reader's end", || {
        // Without a process for each, so that a busy machine is quick enough too.
        let alert = json!({"exchange": "binance", "title": title});
        engine.admin("POST", "/admin/v1/announcements", Some(&alert));
        sent += 1;
        assert_eq!(quick.json_of("announcement")["seq"], sent);
        engine.admin("GET", "/admin/v1/status", None)["feed"]["closed"]["too_slow"] == 1
    });
}
