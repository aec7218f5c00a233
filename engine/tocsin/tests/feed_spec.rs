//! The feed specification, sentence by sentence, over real sockets against the real binary, plain
//! and TLS. `docs/testing.md` maps sentences to these tests.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod harness;

use std::time::Duration;

use harness::{Client, Engine, Handshake, Message, Mode, wait_for};
use serde_json::{Value, json};

/// Runs every test of this file once plain and once over TLS.
macro_rules! both_modes {
    ($($name:ident),* $(,)?) => {
        mod plain { $(#[test] fn $name() { super::$name(super::Mode::Plain); })* }
        mod tls { $(#[test] fn $name() { super::$name(super::Mode::Tls); })* }
    };
}

both_modes!(
    // Handshake
    refusals_come_in_order_with_their_bodies,
    malformed_upgrades_are_400,
    the_key_comes_by_header_or_query_and_the_header_wins,
    both_paths_are_served_and_no_other,
    invalid_keys_are_remembered_yet_a_created_key_works_at_once,
    ten_failed_keys_a_minute_lock_the_address_out,
    connections_of_a_key_are_limited,
    connections_of_an_address_are_limited,
    new_connections_of_an_address_are_limited_in_a_sliding_window,
    compression_is_never_negotiated,
    // Messages
    welcome_is_first_and_exact,
    announcement_is_exact_and_binary,
    several_tickers_are_comma_separated,
    text_frames_on_request,
    full_fields_on_request,
    heartbeats_come_every_30_seconds_whatever_the_filter,
    pings_come_every_15_seconds_and_silence_closes,
    pings_of_the_client_are_answered,
    test_announcement_is_to_the_asker_alone,
    test_requests_are_one_a_minute_and_key,
    unsupported_messages_get_an_error,
    // Filters
    effective_filter_table,
    unknown_exchanges_come_back_in_the_welcome,
    type_and_ticker_filters,
    filters_change_without_reconnecting,
    // Closing
    the_fourth_message_within_a_minute_closes,
    control_frames_do_not_count_but_a_flood_closes,
    frames_over_1_kb_close_from_the_header_on,
    protocol_errors_close_with_1002_and_1007,
    revocation_closes_every_session_of_the_key_at_once,
    expiry_closes_at_its_instant,
    a_close_is_echoed,
    a_slow_reader_is_closed_and_others_never_wait,
    shutdown_closes_with_1012,
    // Resume, history, redaction
    resume_replays_what_was_missed_then_goes_live,
    resume_reaches_over_a_restart,
    history_is_served_with_the_same_key,
    redacted_keys_see_neither_title_nor_ticker,
    delayed_keys_get_it_later,
);

const LISTING: &str = "Binance Will List Token Example (TKNX)";

fn announcement_keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

// ---- Handshake --------------------------------------------------------------------------------

/// FEED.md, "Order of checks" and "Refusal bodies"; specification, "HTTP errors".
fn refusals_come_in_order_with_their_bodies(mode: Mode) {
    let engine = Engine::start(mode, "");
    let broken = Handshake::new("").header("Sec-WebSocket-Key", "");
    let refusal = broken.refused(&engine);
    assert_eq!(
        (refusal.status, refusal.json()["error"].as_str()),
        (400, Some("bad_request")),
        "before the key"
    );
    assert!(refusal.json()["detail"].is_string());

    let version = Handshake::new("").header("Sec-WebSocket-Version", "8").refused(&engine);
    assert_eq!(version.status, 426);
    assert_eq!(version.response_header("Sec-WebSocket-Version"), Some("13"));
    assert_eq!(Handshake::new("").method("POST").refused(&engine).status, 405);

    let missing = Handshake::new("").refused(&engine);
    assert_eq!((missing.status, missing.body.as_str()), (401, r#"{"error":"missing_api_key"}"#));

    let (id, key) = engine.key_with(&["--tier", "basic", "--max-connections", "5", "--allowed-cex", "*"]);
    for invalid in ["dsk_", "x", &key[..67], &format!("{key}0"), &format!("dsk_{}", "0".repeat(64))] {
        let refusal = Handshake::new("").header("X-API-Key", invalid).refused(&engine);
        assert_eq!(
            (refusal.status, refusal.body.as_str()),
            (403, r#"{"error":"invalid_api_key"}"#),
            "{invalid}"
        );
    }
    for refusal in [&missing, &version] {
        assert_eq!(refusal.response_header("Content-Type"), Some("application/json"));
        assert_eq!(refusal.response_header("Connection"), Some("close"));
    }

    engine.cli_json(&["keys", "revoke", &id.to_string()]);
    let revoked = Handshake::new("").header("X-API-Key", &key).refused(&engine);
    assert_eq!((revoked.status, revoked.body.as_str()), (403, r#"{"error":"key_revoked"}"#));

    let (id, key) = engine.key_with(&["--tier", "basic", "--max-connections", "5", "--allowed-cex", "*"]);
    engine.cli_json(&["keys", "set-expiry", &id.to_string(), "--at", "2024-01-01T00:00:00Z"]);
    let expired = Handshake::new("").header("X-API-Key", &key).refused(&engine);
    assert_eq!((expired.status, expired.body.as_str()), (403, r#"{"error":"key_expired"}"#));
}

/// Specification, "400: Malformed WebSocket upgrade request".
fn malformed_upgrades_are_400(mode: Mode) {
    let engine = Engine::start(mode, "");
    let key = engine.key();
    let rows = [
        Handshake::new("").header("Upgrade", ""),
        Handshake::new("").header("Upgrade", "h2c"),
        Handshake::new("").header("Connection", "keep-alive"),
        Handshake::new("").header("Sec-WebSocket-Key", "short"),
        Handshake::new("").header("Sec-WebSocket-Key", "bm90IHNpeHRlZW4gYnl0ZXMgbG9uZw=="),
        Handshake::new("frames=json"),
        Handshake::new("fields=all"),
        Handshake::new("resume=yesterday"),
        Handshake::new("types=spot"),
    ];
    for row in rows {
        let shown = format!("{row:?}");
        let refusal = row.header("X-API-Key", &key).refused(&engine);
        assert_eq!(refusal.status, 400, "{shown}");
        assert_eq!(refusal.json()["error"], "bad_request", "{shown}");
    }
    // Token lists and letter case are the client's choice.
    let proper =
        Handshake::new("").header("Upgrade", "WebSocket").header("Connection", "keep-alive, upgrade");
    assert!(proper.header("X-API-Key", &key).connect(&engine).is_ok());
}

/// Specification, "Passing your API key"; FEED.md: "with both the header wins", "either case".
fn the_key_comes_by_header_or_query_and_the_header_wins(mode: Mode) {
    let engine = Engine::start(mode, "");
    let key = engine.key();
    assert!(key.starts_with("dsk_") && key.len() == 68);
    assert!(Handshake::new(&format!("api_key={key}")).connect(&engine).is_ok());
    let upper = format!("dsk_{}", key[4..].to_uppercase());
    assert!(engine.try_connect(&upper, "").is_ok());
    let wrong = format!("dsk_{}", "0".repeat(64));
    assert!(engine.try_connect(&key, &format!("api_key={wrong}")).is_ok());
    let refusal = engine.try_connect(&wrong, &format!("api_key={key}")).err().unwrap();
    assert_eq!(refusal.status, 403);
}

/// FEED.md, "Address".
fn both_paths_are_served_and_no_other(mode: Mode) {
    let engine = Engine::start(mode, "");
    let key = engine.key();
    for (target, status) in [("/", 101), ("/ws", 101), ("/ws?cex=upbit", 101), ("/feed", 404), ("/ws/", 404)]
    {
        let outcome = Handshake::new("").target(target).header("X-API-Key", &key).connect(&engine);
        assert_eq!(outcome.map_or_else(|h| h.status, |c| c.handshake.status), status, "{target}");
    }
}

/// Specification, "Invalid keys are cached server-side for 30 seconds".
fn invalid_keys_are_remembered_yet_a_created_key_works_at_once(mode: Mode) {
    let engine = Engine::start(mode, "");
    let wrong = format!("dsk_{}", "1".repeat(64));
    for _ in 0..3 {
        assert_eq!(engine.try_connect(&wrong, "").err().unwrap().status, 403);
    }
    let key = engine.key();
    assert!(engine.try_connect(&key, "").is_ok());
    let status = engine.cli_json(&["status"]);
    assert_eq!(status["accept"]["invalid_keys_remembered"], 1, "{status}");
}

/// FEED.md: "An address with 10 failed authentications a minute gets 429 for the rest of that minute."
fn ten_failed_keys_a_minute_lock_the_address_out(mode: Mode) {
    let engine = Engine::start(mode, "");
    let key = engine.key();
    let from =
        |key: &str, address: &str| Handshake::new("").from(address).header("X-API-Key", key).connect(&engine);
    for i in 0..10 {
        let wrong = format!("dsk_{i:064x}");
        assert_eq!(from(&wrong, "127.0.1.1").err().unwrap().status, 403, "attempt {i}");
    }
    let locked = from(&key, "127.0.1.1").err().unwrap();
    assert_eq!((locked.status, locked.json()["error"].as_str()), (429, Some("auth_failures")));
    let wait = locked.json()["retryAfterSecs"].as_u64().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(locked.response_header("Retry-After"), Some(wait.to_string().as_str()));
    assert!(from(&key, "127.0.1.2").is_ok(), "another address is not locked out");
}

/// Specification, "Per-key concurrent connections" and the example body.
fn connections_of_a_key_are_limited(mode: Mode) {
    let engine = Engine::start(mode, "");
    let (_, key) = engine.key_with(&["--tier", "basic", "--max-connections", "2", "--allowed-cex", "*"]);
    let first = engine.connect(&key, "");
    let _second = engine.connect(&key, "");
    let refusal = engine.try_connect(&key, "").err().unwrap();
    assert_eq!(refusal.status, 429);
    assert_eq!(refusal.body, r#"{"error":"max_connections_reached","limit":2,"current":2}"#);
    drop(first);
    wait_for("the closed connection's place", || engine.try_connect(&key, "").is_ok());
}

/// Specification, "Per-IP concurrent connections: 20".
fn connections_of_an_address_are_limited(mode: Mode) {
    let engine = Engine::start(mode, "[feed.limits]\nip_connects_per_minute = 1000\n");
    let key = engine.key();
    let from = |address: &str| Handshake::new("").from(address).header("X-API-Key", &key).connect(&engine);
    let mut open: Vec<Client> = (0..20).map(|_| from("127.0.2.1").unwrap()).collect();
    let refusal = from("127.0.2.1").err().unwrap();
    assert_eq!(refusal.status, 429);
    assert_eq!(refusal.body, r#"{"error":"ip_connections_reached","limit":20,"current":20}"#);
    assert!(from("127.0.2.2").is_ok());
    open.pop();
    wait_for("a place of the address", || from("127.0.2.1").is_ok());
}

/// Specification, "Per-IP connection rate: 10 / minute, sliding window"; FEED.md: refused attempts do
/// not prolong it.
fn new_connections_of_an_address_are_limited_in_a_sliding_window(mode: Mode) {
    let engine = Engine::start(mode, "[feed.limits]\nexempt = [\"127.0.3.2/32\"]\n");
    let key = engine.key();
    let from = |address: &str| Handshake::new("").from(address).header("X-API-Key", &key).connect(&engine);
    for i in 0..10 {
        assert!(from("127.0.3.1").is_ok(), "connection {i}");
    }
    for _ in 0..3 {
        let refusal = from("127.0.3.1").err().unwrap();
        assert_eq!((refusal.status, refusal.json()["error"].as_str()), (429, Some("ip_rate_limited")));
        assert_eq!(refusal.json()["limit"], 10);
        let wait = refusal.json()["retryAfterSecs"].as_u64().unwrap();
        assert!((1..=60).contains(&wait), "{wait}");
        assert_eq!(refusal.response_header("Retry-After"), Some(wait.to_string().as_str()));
    }
    for i in 0..30 {
        assert!(from("127.0.3.2").is_ok(), "exempt connection {i}");
    }
}

/// FEED.md, "No compression".
fn compression_is_never_negotiated(mode: Mode) {
    let engine = Engine::start(mode, "");
    let key = engine.key();
    let offer =
        Handshake::new("").header("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits");
    let client = offer.header("X-API-Key", &key).connect(&engine).unwrap();
    assert_eq!(client.handshake.response_header("Sec-WebSocket-Extensions"), None);
    let accept = client.handshake.response_header("Sec-WebSocket-Accept");
    assert_eq!(accept, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "the example of RFC 6455, 1.3");
}

// ---- Messages ---------------------------------------------------------------------------------

/// Specification, "Welcome".
fn welcome_is_first_and_exact(mode: Mode) {
    let engine = Engine::start(mode, "");
    let flags =
        ["--tier", "enterprise", "--max-connections", "7", "--allowed-cex", "*", "--expires-in", "1h"];
    let (_, key) = engine.key_with(&flags);
    let mut client = engine.try_connect(&key, "").ok().unwrap();
    let Message::Binary(welcome) = client.message() else { panic!("not a binary frame first") };
    let left = welcome["expiresInSecs"].as_u64().unwrap();
    assert!((3590..=3600).contains(&left), "{left}");
    let mut expected =
        json!({"type": "welcome", "tier": "enterprise", "maxConnections": 7, "allowedCex": "*"});
    expected["expiresInSecs"] = left.into();
    assert_eq!(welcome, expected);

    let (_, key) =
        engine.key_with(&["--tier", "basic", "--max-connections", "1", "--allowed-cex", "upbit,binance"]);
    let welcome = engine.try_connect(&key, "").ok().unwrap().json();
    assert_eq!(
        welcome,
        json!({"type": "welcome", "tier": "basic", "maxConnections": 1, "allowedCex": "upbit,binance",
               "expiresInSecs": null})
    );
}

/// Specification, "Announcement"; "binary WebSocket frames containing UTF-8 JSON".
fn announcement_is_exact_and_binary(mode: Mode) {
    let engine = Engine::start(mode, "");
    let key = engine.key();
    let mut clients: Vec<Client> = (0..3).map(|_| engine.connect(&key, "")).collect();
    let sent = engine.inject("binance", LISTING);
    for client in &mut clients {
        let Message::Binary(got) = client.message() else { panic!("not a binary frame") };
        let wanted = [
            "detectedTimestampUs",
            "dispatchTimestampUs",
            "listingType",
            "publishTimestampUs",
            "publisher",
            "ticker",
            "title",
            "type",
        ];
        assert_eq!(announcement_keys(&got), wanted);
        assert_eq!(got["type"], "announcement");
        assert_eq!(got["title"], LISTING);
        assert_eq!(got["ticker"], "TKNX");
        assert_eq!(got["publisher"], "binance");
        assert_eq!(got["listingType"], "spot_listing");
        for stamp in ["publishTimestampUs", "detectedTimestampUs", "dispatchTimestampUs"] {
            assert_eq!(got[stamp], sent[stamp], "{stamp}");
            assert_eq!(got[stamp].to_string().len(), 16, "{stamp} is microseconds");
        }
        assert!(got["detectedTimestampUs"].as_i64() <= got["dispatchTimestampUs"].as_i64());
    }
}

/// Specification, "Multiple tickers".
fn several_tickers_are_comma_separated(mode: Mode) {
    let engine = Engine::start(mode, "");
    let mut client = engine.connect(&engine.key(), "");
    engine.inject("binance", "Binance Will Delist ABCX, DEFX and GHIX on 2027-01-15");
    let got = client.json();
    assert_eq!(
        (got["ticker"].as_str(), got["listingType"].as_str()),
        (Some("ABCX,DEFX,GHIX"), Some("spot_delisting"))
    );
    engine.inject("upbit", "점검 안내");
    let got = client.json();
    assert_eq!((got["ticker"].as_str(), got["listingType"].as_str()), (Some(""), Some("not_listing")));
}

/// FEED.md, "`?frames=text` sends text frames".
fn text_frames_on_request(mode: Mode) {
    let engine = Engine::start(mode, "");
    let key = engine.key();
    let mut client = engine.try_connect(&key, "frames=text").ok().unwrap();
    assert!(matches!(client.message(), Message::Text(v) if v["type"] == "welcome"));
    engine.inject("upbit", "토큰예시(TKNX) 신규 거래지원 안내 (KRW, BTC, USDT 마켓)");
    let Message::Text(got) = client.message() else { panic!("not a text frame") };
    assert_eq!(got["title"], "토큰예시(TKNX) 신규 거래지원 안내 (KRW, BTC, USDT 마켓)");
    assert_eq!(got["ticker"], "TKNX");
}

/// FEED.md, "Added for users", 1.
fn full_fields_on_request(mode: Mode) {
    let engine = Engine::start(mode, "");
    let key = engine.key();
    let (mut full, mut basic) = (engine.connect(&key, "fields=full"), engine.connect(&key, "fields=basic"));
    engine.inject("upbit", "토큰예시(TKNX) 신규 거래지원 안내 (KRW, BTC, USDT 마켓)");
    let (full, basic) = (full.json(), basic.json());
    for key in announcement_keys(&basic) {
        assert_eq!(full[key], basic[key], "{key}");
    }
    assert_eq!(full["seq"], 1);
    assert_eq!(full["epoch"], 1);
    assert_eq!(full["tickers"], json!(["TKNX"]));
    assert_eq!(full["markets"][0], json!({"base": "TKNX", "quote": "KRW"}));
    assert_eq!((full["lang"].as_str(), full["action"].as_str()), (Some("ko"), Some("created")));
    assert!(full["confidence"].as_f64().is_some_and(|c| c > 0.5 && c <= 1.0), "{full}");
    for field in ["id", "url", "noticeId", "source", "rule"] {
        assert!(full[field].is_string(), "{field}: {full}");
    }
    for field in ["receivedTimestampUs", "classifiedTimestampUs", "schemaVersion"] {
        assert!(full[field].is_u64(), "{field}: {full}");
    }
    assert_eq!(full["effectiveAtUs"], Value::Null);
}

/// Specification, "Heartbeat" and "Heartbeats are always delivered".
fn heartbeats_come_every_30_seconds_whatever_the_filter(mode: Mode) {
    let engine = Engine::start(mode, "");
    let (_, key) =
        engine.key_with(&["--tier", "basic", "--max-connections", "9", "--allowed-cex", "binance"]);
    let mut unmatched = engine.connect(&key, "cex=upbit");
    assert!(unmatched.message_within(Duration::from_millis(300)).is_none());
    let from = std::time::Instant::now();
    let beat = loop {
        match unmatched.message_within(Duration::from_secs(35)) {
            Some(Message::Ping(payload)) => unmatched.send(10, &payload),
            Some(Message::Binary(value)) => break value,
            other => panic!("{other:?}"),
        }
    };
    assert!(from.elapsed() > Duration::from_secs(25), "came after {:?}", from.elapsed());
    assert_eq!(beat["type"], "heartbeat");
    let ns = beat["timestampNs"].as_i64().unwrap();
    assert_eq!(ns / 1_000, beat["timestampUs"].as_i64().unwrap());
    let utc: jiff::Timestamp = beat["timeUtc"].as_str().unwrap().parse().unwrap();
    assert_eq!(utc.as_microsecond(), ns / 1_000, "both tell the same instant");
    assert_eq!(beat["timeUtc"].as_str().unwrap().len(), "2024-03-13T10:30:30.000000Z".len());
    assert_eq!(beat["lastSeq"], 0);
}

/// Specification, "Ping/Pong".
fn pings_come_every_15_seconds_and_silence_closes(mode: Mode) {
    let engine = Engine::start(mode, "");
    let mut client = engine.connect(&engine.key(), "");
    let from = std::time::Instant::now();
    let first = client.message_within(Duration::from_secs(17));
    let Some(Message::Ping(payload)) = first else { panic!("{first:?}") };
    assert_eq!(payload.len(), 8);
    assert!(from.elapsed() > Duration::from_secs(10));
    // No PONG from here on: closed 30 s after the first unanswered ping.
    loop {
        match client.message_within(Duration::from_secs(35)) {
            Some(Message::Close(code, reason)) => {
                assert_eq!((code, reason.as_str()), (Some(1001), "pong_timeout"));
                break;
            }
            Some(Message::Ping(_) | Message::Binary(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    let took = from.elapsed();
    assert!(took > Duration::from_secs(38) && took < Duration::from_secs(50), "{took:?}");
}

/// RFC 6455, 5.5.3.
fn pings_of_the_client_are_answered(mode: Mode) {
    let engine = Engine::start(mode, "");
    let mut client = engine.connect(&engine.key(), "");
    client.send(9, b"are you there");
    assert_eq!(client.message(), Message::Pong(b"are you there".to_vec()));
}

/// Specification, "Test Announcement".
fn test_announcement_is_to_the_asker_alone(mode: Mode) {
    let engine = Engine::start(mode, "");
    let (_, key) = engine.key_with(&["--tier", "basic", "--max-connections", "9", "--allowed-cex", "upbit"]);
    let mut asker = engine.connect(&key, "cex=binance");
    let mut other = engine.connect(&key, "");
    asker.send_text(r#"{"type":"test"}"#);
    let got = asker.json();
    assert_eq!(got["type"], "test_announcement");
    assert_eq!(got["publisher"], "upbit", "drawn from the exchanges of the key, whatever the filter");
    let at = |field: &str| got[field].as_i64().unwrap();
    assert_eq!(at("dispatchTimestampUs") - at("publishTimestampUs"), 1_000_000);
    assert_eq!(at("dispatchTimestampUs") - at("detectedTimestampUs"), 200);
    assert_eq!(got.as_object().unwrap().len(), 8);
    other.nothing_of("test_announcement", Duration::from_millis(300));
}

/// Specification, "Test rate limit".
fn test_requests_are_one_a_minute_and_key(mode: Mode) {
    let engine = Engine::start(mode, "");
    let key = engine.key();
    let (mut a, mut b) = (engine.connect(&key, ""), engine.connect(&key, "frames=text"));
    a.send_text(r#"{"type":"test"}"#);
    assert_eq!(a.json()["type"], "test_announcement");
    b.send(2, br#" { "type" : "test" } "#);
    let limited = b.json();
    let wait = limited["retryAfterSecs"].as_u64().unwrap();
    assert!((1..=60).contains(&wait));
    assert_eq!(limited, json!({"type": "error", "code": "test_rate_limited", "retryAfterSecs": wait}));
    let mut other_key = engine.connect(&engine.key(), "");
    other_key.send_text(r#"{"type":"test"}"#);
    assert_eq!(other_key.json()["type"], "test_announcement");
}

/// FEED.md, "Client messages".
fn unsupported_messages_get_an_error(mode: Mode) {
    let engine = Engine::start(mode, "");
    let key = engine.key();
    for message in
        ["hello", "{}", r#"{"type":"nope"}"#, r#"{"type":"test""#, "[]", "", r#"{"type":["test"]}"#]
    {
        let mut client = engine.connect(&key, "");
        client.send_text(message);
        assert_eq!(client.json(), json!({"type": "error", "code": "unsupported_message"}), "{message}");
    }
}

// ---- Filters ----------------------------------------------------------------------------------

/// Specification, "Effective filter", the table.
fn effective_filter_table(mode: Mode) {
    let engine = Engine::start(mode, "[feed.limits]\nexempt = [\"127.0.0.0/8\"]\n");
    let rows = [
        ("*", "cex=binance", "binance", ["binance", "", ""]),
        ("*", "cex=Binance%2C%20upbit,binance", "binance,upbit", ["binance", "upbit", ""]),
        ("*", "", "*", ["binance", "upbit", "bithumb"]),
        ("*", "cex=", "*", ["binance", "upbit", "bithumb"]),
        ("*", "cex=*", "*", ["binance", "upbit", "bithumb"]),
        ("*", "cex=upbit&cex=bithumb", "upbit,bithumb", ["", "upbit", "bithumb"]),
        ("binance,upbit", "cex=binance", "binance", ["binance", "", ""]),
        ("binance,upbit", "cex=upbit", "upbit", ["", "upbit", ""]),
        ("binance,upbit", "", "binance,upbit", ["binance", "upbit", ""]),
        ("binance", "cex=upbit", "", ["", "", ""]),
    ];
    let mut clients: Vec<(Client, Vec<&str>)> = Vec::new();
    for (allows, query, effective, receives) in rows {
        let (_, key) =
            engine.key_with(&["--tier", "basic", "--max-connections", "9", "--allowed-cex", allows]);
        let mut client = engine.try_connect(&key, query).ok().unwrap();
        assert_eq!(client.json()["allowedCex"], effective, "{allows} and {query}");
        clients.push((client, receives.into_iter().filter(|r| !r.is_empty()).collect()));
    }
    for exchange in ["binance", "upbit", "bithumb"] {
        engine.inject(exchange, "An announcement");
    }
    for (client, receives) in &mut clients {
        for exchange in receives.iter() {
            assert_eq!(client.json()["publisher"], **exchange);
        }
        client.nothing_of("announcement", Duration::from_millis(50));
    }
}

/// FEED.md, "`cex`".
fn unknown_exchanges_come_back_in_the_welcome(mode: Mode) {
    let engine = Engine::start(mode, "");
    let mut client = engine.try_connect(&engine.key(), "cex=nope,upbit,alsonot").ok().unwrap();
    let welcome = client.json();
    assert_eq!(welcome["allowedCex"], "upbit");
    assert_eq!(welcome["ignoredCex"], "nope,alsonot");
    let welcome = engine.try_connect(&engine.key(), "cex=nope").ok().unwrap().json();
    assert_eq!(welcome["allowedCex"], "", "unknown names match nothing");
}

/// FEED.md, "Added for users", 3.
fn type_and_ticker_filters(mode: Mode) {
    let engine = Engine::start(mode, "");
    let key = engine.key();
    let mut spot = engine.connect(&key, "types=spot_listing,spot_delisting");
    let mut ticker = engine.connect(&key, "tickers=defx,%20ghix");
    engine.inject("binance", "System maintenance");
    engine.inject("binance", "Binance Will Delist ABCX, DEFX on 2027-01-15");
    engine.inject("binance", LISTING);
    assert_eq!(spot.json()["ticker"], "ABCX,DEFX");
    assert_eq!(spot.json()["ticker"], "TKNX");
    assert_eq!(ticker.json()["ticker"], "ABCX,DEFX");
    ticker.nothing_of("announcement", Duration::from_millis(100));
}

/// FEED.md, "Added for users", 3: `subscribe`.
fn filters_change_without_reconnecting(mode: Mode) {
    let engine = Engine::start(mode, "");
    let (_, key) =
        engine.key_with(&["--tier", "basic", "--max-connections", "9", "--allowed-cex", "binance,upbit"]);
    let mut client = engine.connect(&key, "cex=binance");
    client.send_text(r#"{"type":"subscribe","cex":"upbit,bithumb"}"#);
    let answer = client.json();
    assert_eq!((answer["type"].as_str(), answer["allowedCex"].as_str()), (Some("subscribed"), Some("upbit")));
    for exchange in ["binance", "bithumb", "upbit"] {
        engine.inject(exchange, "An announcement");
    }
    assert_eq!(client.json()["publisher"], "upbit");
}

// ---- Closing ----------------------------------------------------------------------------------

/// Specification, "Exceeding the client message rate limit (3/min) will result in disconnection."
fn the_fourth_message_within_a_minute_closes(mode: Mode) {
    let engine = Engine::start(mode, "");
    let mut client = engine.connect(&engine.key(), "");
    for _ in 0..3 {
        client.send_text("x");
        assert_eq!(client.json()["code"], "unsupported_message");
    }
    client.send_text("x");
    assert_eq!(client.closed(), (Some(1008), "rate_limit_exceeded".to_owned()));
}

/// FEED.md: "Control frames do not count, but more than 30 in 10 s also close 1008."
fn control_frames_do_not_count_but_a_flood_closes(mode: Mode) {
    let engine = Engine::start(mode, "");
    let mut client = engine.connect(&engine.key(), "");
    for _ in 0..30 {
        client.send(9, b"");
        assert_eq!(client.message(), Message::Pong(Vec::new()));
    }
    client.send(9, b"");
    assert_eq!(client.closed(), (Some(1008), "rate_limit_exceeded".to_owned()));
}

/// Specification, "Max frame size: 1 KB"; FEED.md: "decided from the header, before the payload arrives".
fn frames_over_1_kb_close_from_the_header_on(mode: Mode) {
    let engine = Engine::start(mode, "");
    let key = engine.key();
    let mut client = engine.connect(&key, "");
    client.send(1, &[b'x'; 1_024]);
    assert_eq!(client.json()["code"], "unsupported_message", "exactly 1,024 bytes are allowed");
    let header_only = &harness::client::client_frame(0x81, &[b'x'; 1_025])[..8];
    client.send_raw(header_only);
    assert_eq!(client.closed(), (Some(1009), "frame_too_large".to_owned()));

    let mut fragmented = engine.connect(&key, "");
    fragmented.send_raw(&harness::client::client_frame(0x01, &[b'x'; 1_000]));
    fragmented.send_raw(&harness::client::client_frame(0x80, &[b'x'; 25]));
    assert_eq!(fragmented.closed(), (Some(1009), "frame_too_large".to_owned()), "reassembled");
}

/// FEED.md, "Protocol errors".
fn protocol_errors_close_with_1002_and_1007(mode: Mode) {
    let engine = Engine::start(mode, "");
    let key = engine.key();
    let frame = harness::client::client_frame;
    let rows: [(&str, Vec<u8>, u16); 8] = [
        ("unmasked", vec![0x81, 0x01, b'x'], 1002),
        ("reserved bit", frame(0xc1, b"x"), 1002),
        ("reserved opcode", frame(0x83, b"x"), 1002),
        ("fragmented ping", frame(0x09, b"x"), 1002),
        ("ping over 125 bytes", frame(0x89, &[0; 126]), 1002),
        ("continuation of nothing", frame(0x80, b"x"), 1002),
        ("close with one byte", frame(0x88, b"x"), 1002),
        ("text that is no UTF-8", frame(0x81, b"\xff"), 1007),
    ];
    for (what, bytes, code) in rows {
        let mut client = engine.connect(&key, "");
        client.send_raw(&bytes);
        assert_eq!(client.closed().0, Some(code), "{what}");
    }
}

/// Specification, "Revoked": "All active sessions are immediately disconnected".
fn revocation_closes_every_session_of_the_key_at_once(mode: Mode) {
    let engine = Engine::start(mode, "");
    let (id, key) = engine.key_with(&["--tier", "basic", "--max-connections", "9", "--allowed-cex", "*"]);
    let mut sessions: Vec<Client> = (0..3).map(|_| engine.connect(&key, "")).collect();
    let mut other = engine.connect(&engine.key(), "");
    engine.cli_json(&["keys", "revoke", &id.to_string()]);
    for session in &mut sessions {
        assert_eq!(session.closed(), (Some(1000), "key_revoked".to_owned()));
    }
    assert_eq!(engine.try_connect(&key, "").err().unwrap().status, 403);
    engine.inject("binance", LISTING);
    assert_eq!(other.json()["title"], LISTING);
}

/// Specification, "Expired": "active sessions are disconnected with close code 1000 and reason
/// key_expired".
fn expiry_closes_at_its_instant(mode: Mode) {
    let engine = Engine::start(mode, "");
    let flags = ["--tier", "basic", "--max-connections", "9", "--allowed-cex", "*", "--expires-in", "2s"];
    let (_, key) = engine.key_with(&flags);
    let mut client = engine.connect(&key, "");
    let (id, moved) = engine.key_with(&["--tier", "basic", "--max-connections", "9", "--allowed-cex", "*"]);
    let mut later = engine.connect(&moved, "");
    engine.cli_json(&["keys", "set-expiry", &id.to_string(), "--expires-in", "1s"]);
    assert_eq!(later.closed(), (Some(1000), "key_expired".to_owned()), "an expiry that was moved");
    assert_eq!(client.closed(), (Some(1000), "key_expired".to_owned()));
    assert_eq!(engine.try_connect(&key, "").err().unwrap().json()["error"], "key_expired");
}

/// RFC 6455, 5.5.1.
fn a_close_is_echoed(mode: Mode) {
    let engine = Engine::start(mode, "");
    let mut client = engine.connect(&engine.key(), "");
    client.send(8, &[&1000_u16.to_be_bytes()[..], b"bye"].concat());
    let Message::Close(code, _) = client.message() else { panic!("no echo") };
    assert_eq!(code, Some(1000));
    assert_eq!(client.message(), Message::End);
}

/// Specification, "too_slow"; FEED.md: "others never wait for it".
fn a_slow_reader_is_closed_and_others_never_wait(mode: Mode) {
    let engine = Engine::start(mode, "[feed]\nsend_buffer = \"4KiB\"\n");
    let key = engine.key();
    let mut slow = Handshake::new("fields=full");
    slow.receive_buffer = Some(2_048);
    let mut slow = slow.header("X-API-Key", &key).connect(&engine).ok().unwrap();
    let mut quick = engine.connect(&key, "fields=full");
    let title = format!("A long announcement {}", "about nothing in particular ".repeat(30));
    let mut sent = 0;
    wait_for("the slow reader's end", || {
        engine.inject("binance", &title);
        sent += 1;
        let status = engine.cli_json(&["status"]);
        status["feed"]["closed"]["too_slow"] == 1
    });
    for seq in 1..=sent {
        assert_eq!(quick.json_of("announcement")["seq"], seq);
    }
    assert_eq!(slow.json()["type"], "welcome");
    let mut got = 0;
    let end = loop {
        match slow.message() {
            Message::Binary(value) => {
                got += 1;
                assert_eq!(value["seq"], got, "what it got is whole and in order");
            }
            Message::Close(code, reason) => break Some((code, reason)),
            Message::End => break None,
            other => panic!("{other:?}"),
        }
    };
    assert!(end.is_none_or(|e| e == (Some(1008), "too_slow".to_owned())));
    assert!(got + 10 <= sent, "at least 10 were waiting: {got} of {sent}");
}

/// FEED.md, "Shutdown".
fn shutdown_closes_with_1012(mode: Mode) {
    let mut engine = Engine::start(mode, "");
    let key = engine.key();
    let mut clients: Vec<Client> = (0..5).map(|_| engine.connect(&key, "")).collect();
    engine.signal("TERM");
    for client in &mut clients {
        assert_eq!(client.closed(), (Some(1012), "restart".to_owned()));
    }
    assert_eq!(engine.wait(), Some(0));
}

// ---- Resume, history, redaction ---------------------------------------------------------------

/// FEED.md, "Added for users", 2.
fn resume_replays_what_was_missed_then_goes_live(mode: Mode) {
    let engine = Engine::start(mode, "");
    let key = engine.key();
    let mut first = engine.connect(&key, "fields=full");
    for i in 1..=5 {
        engine.inject("binance", &format!("Announcement {i}"));
    }
    let second = (1..=2).map(|_| first.json()).last().unwrap();
    drop(first);
    let mut resumed =
        engine.connect(&key, &format!("fields=full&resume={}:{}", second["epoch"], second["seq"]));
    for seq in 3..=5 {
        let got = resumed.json();
        assert_eq!((got["seq"].as_i64(), got["replayed"].as_bool()), (Some(seq), Some(true)), "{got}");
    }
    engine.inject("binance", "Announcement 6");
    let live = resumed.json();
    assert_eq!((live["seq"].as_i64(), live.get("replayed")), (Some(6), None), "{live}");
}

/// Resume works across restarts: history is loaded from the store.
fn resume_reaches_over_a_restart(mode: Mode) {
    let mut engine = Engine::start(mode, "");
    let key = engine.key();
    for i in 1..=3 {
        engine.inject("upbit", &format!("Announcement {i}"));
    }
    assert_eq!(engine.stop(), Some(0));
    engine.start_again();
    engine.inject("upbit", "Announcement 4");
    let mut resumed = engine.connect(&key, "fields=full&resume=1:1");
    let got: Vec<(Value, Value)> =
        (0..3).map(|_| resumed.json()).map(|v| (v["epoch"].clone(), v["title"].clone())).collect();
    assert_eq!(
        got,
        [
            (json!(1), json!("Announcement 2")),
            (json!(1), json!("Announcement 3")),
            (json!(2), json!("Announcement 4"))
        ]
    );
}

/// FEED.md, "`GET /v1/announcements`".
fn history_is_served_with_the_same_key(mode: Mode) {
    let engine = Engine::start(mode, "");
    let (_, key) =
        engine.key_with(&["--tier", "basic", "--max-connections", "9", "--allowed-cex", "binance,upbit"]);
    for (exchange, title) in [("binance", LISTING), ("bithumb", "Not for this key"), ("upbit", "Another")] {
        engine.inject(exchange, title);
    }
    let get = |query: &str, key: &str| {
        let mut request =
            Handshake::new("").target(&format!("/v1/announcements{query}")).header("X-API-Key", key);
        request.headers.retain(|(n, _)| n == "Host" || n == "X-API-Key");
        request.refused(&engine)
    };
    let all = get("", &key);
    assert_eq!(all.status, 200);
    let titles = |response: &Handshake| -> Vec<String> {
        let body = response.json();
        body["announcements"]
            .as_array()
            .unwrap()
            .iter()
            .map(|a| a["title"].as_str().unwrap().into())
            .collect()
    };
    assert_eq!(titles(&all), [LISTING, "Another"]);
    assert_eq!(titles(&get("?after=1:1", &key)), ["Another"]);
    assert_eq!(titles(&get("?cex=upbit", &key)), ["Another"]);
    assert_eq!(titles(&get("?type=spot_listing", &key)), [LISTING]);
    assert_eq!(titles(&get("?limit=1", &key)), ["Another"], "without `after` the newest");
    assert_eq!(titles(&get("?after=1:0&limit=1", &key)), [LISTING]);
    assert_eq!(get("?limit=many", &key).status, 400);
    assert_eq!(get("", "").status, 401);
    assert_eq!(get("", "dsk_x").status, 403);
}

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
