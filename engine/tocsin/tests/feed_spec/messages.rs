//! What the server says, and what it answers.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Client, Engine, Message, Mode};
use crate::{EXEMPT, LISTING};

both_modes!(
    welcome_is_first_and_exact,
    announcement_is_exact_and_binary,
    several_tickers_are_comma_separated,
    text_frames_on_request,
    full_fields_on_request,
    pings_of_the_client_are_answered,
    test_announcement_is_to_the_asker_alone,
    test_requests_are_one_a_minute_and_key,
    unsupported_messages_get_an_error,
    json_is_compact_in_the_specification_s_order,
    titles_are_utf_8_and_escaped_only_where_needed,
    every_subscriber_gets_the_same_bytes,
    full_fields_follow_the_basic_ones,
    instants_run_in_order_and_a_fast_clock_is_not_corrected,
    every_listing_type_and_publisher_has_its_name,
    test_announcements_vary_and_fit_the_key,
);

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

/// Field order and spelling "exactly as in the specification's examples; compact JSON".
fn json_is_compact_in_the_specification_s_order(mode: Mode) {
    let engine = Engine::start(mode, "");
    let (_, key) = engine.key_with(&["--tier", "premium", "--max-connections", "5"]);
    let mut client = engine.try_connect(&key, "cex=binance,nope").ok().unwrap();
    assert_eq!(
        client.payload(),
        r#"{"type":"welcome","tier":"premium","maxConnections":5,"allowedCex":"binance","expiresInSecs":null,"ignoredCex":"nope"}"#
    );
    let sent = engine.inject("binance", LISTING);
    let stamps = ["publishTimestampUs", "detectedTimestampUs", "dispatchTimestampUs"];
    let stamped = |of: &Value| stamps.map(|stamp| format!(",\"{stamp}\":{}", of[stamp])).concat();
    let (us, listing) = (stamped(&sent), r#","publisher":"binance","listingType":"spot_listing""#);
    let announcement =
        format!(r#"{{"type":"announcement","title":"{LISTING}","ticker":"TKNX"{listing}{us}}}"#);
    assert_eq!(client.payload(), announcement);
    for text in [r#"{"type":"test"}"#, r#"{"type":"test"}"#, "?"] {
        client.send_text(text);
    }
    let test = client.payload();
    let value: Value = serde_json::from_str(&test).unwrap();
    let text = |field: &str| format!(r#","{field}":{}"#, value[field]);
    let fields = ["title", "ticker", "publisher", "listingType"].map(text).concat();
    assert_eq!(test, format!(r#"{{"type":"test_announcement"{fields}{}}}"#, stamped(&value)));
    let limited = client.payload();
    let secs = limited.strip_prefix(r#"{"type":"error","code":"test_rate_limited","retryAfterSecs":"#);
    assert!(secs.is_some_and(|s| s.trim_end_matches('}').parse::<u8>().is_ok()), "{limited}");
    assert_eq!(client.payload(), r#"{"type":"error","code":"unsupported_message"}"#);
}

/// "UTF-8, never escaped where not needed"; specification, "Original announcement title".
fn titles_are_utf_8_and_escaped_only_where_needed(mode: Mode) {
    let engine = Engine::start(mode, EXEMPT);
    let key = engine.key();
    let (mut binary, mut text) = (engine.connect(&key, ""), engine.connect(&key, "frames=text"));
    let rows = [
        ("토큰예시(TKNX) 신규 거래지원 안내", "토큰예시(TKNX) 신규 거래지원 안내"),
        ("USDⓈ-M 永续合约 🚀 é/…", "USDⓈ-M 永续合约 🚀 é/…"),
        (r#"a "quoted" back\slash"#, r#"a \"quoted\" back\\slash"#),
        ("</script>&amp;", "</script>&amp;"),
    ];
    for (title, written) in rows {
        engine.inject("upbit", title);
        for client in [&mut binary, &mut text] {
            let payload = client.payload();
            assert!(payload.contains(&format!(r#""title":"{written}","#)), "{payload}");
            assert_eq!(serde_json::from_str::<Value>(&payload).unwrap()["title"], title);
        }
    }
    let long = "가".repeat(300);
    engine.inject("upbit", &long);
    assert_eq!(binary.json()["title"], long, "a frame of more than 125 bytes, and of more than 512");
}

/// Specification, "announcements are serialized once and shared across all subscribers"; "broadcasts
/// ... to all connected WebSocket subscribers simultaneously".
fn every_subscriber_gets_the_same_bytes(mode: Mode) {
    let engine = Engine::start(mode, EXEMPT);
    let keys = [engine.key(), engine.key(), engine.key()];
    for query in ["", "fields=full", "frames=text"] {
        let mut clients: Vec<Client> =
            (0..15).map(|i| engine.connect(&keys[i % keys.len()], query)).collect();
        engine.inject("binance", LISTING);
        let first = clients[0].frame().unwrap();
        assert_eq!((first.fin, first.opcode), (true, if query == "frames=text" { 1 } else { 2 }));
        for client in &mut clients[1..] {
            assert_eq!(client.frame().as_ref(), Some(&first), "{query}");
        }
    }
}

/// FEED.md, "Additions are additive".
fn full_fields_follow_the_basic_ones(mode: Mode) {
    let engine = Engine::start(mode, "");
    let key = engine.key();
    let (mut full, mut basic) = (engine.connect(&key, "fields=full"), engine.connect(&key, ""));
    engine.inject("binance", LISTING);
    let (full_text, basic_text) = (full.payload(), basic.payload());
    let shared = basic_text.strip_suffix('}').unwrap();
    assert!(full_text.starts_with(&format!("{shared},\"")), "{full_text}");
    // Only announcements have more: the rest is as without.
    full.send_text(r#"{"type":"test"}"#);
    assert_eq!(full.json().as_object().unwrap().len(), 8);
}

/// FEED.md, "Timestamps": "publish <= detected <= dispatch is not forced when the exchange's clock is
/// ahead".
fn instants_run_in_order_and_a_fast_clock_is_not_corrected(mode: Mode) {
    let engine = Engine::start(mode, "");
    let mut client = engine.connect(&engine.key(), "fields=full");
    let before = now_us();
    engine.inject("binance", LISTING);
    let got = client.json();
    let after = now_us();
    let stamps = ["publish", "received", "detected", "classified", "dispatch"]
        .map(|n| got[format!("{n}TimestampUs")].as_i64());
    let mut last = before;
    for (n, stamp) in stamps.into_iter().enumerate() {
        assert!(stamp.is_some_and(|at| last <= at && at <= after), "{n}: {before} {got} {after}");
        last = stamp.unwrap();
    }
    let ahead = now_us() + 3_600_000_000;
    let body = json!({"exchange": "binance", "title": LISTING, "published_us": ahead});
    let answer = engine.admin("POST", "/admin/v1/announcements", Some(&body));
    let got = client.json();
    assert_eq!(
        (answer["publishTimestampUs"].as_i64(), got["publishTimestampUs"].as_i64()),
        (Some(ahead), Some(ahead))
    );
    assert!(got["detectedTimestampUs"].as_i64() < Some(ahead));
}

/// Specification, "Listing types" and "Exchange name in lowercase".
fn every_listing_type_and_publisher_has_its_name(mode: Mode) {
    let engine = Engine::start(mode, "");
    let mut client = engine.connect(&engine.key(), "");
    let titles = [
        ("binance", "Binance Will List Token Example (TKNX)", "spot_listing"),
        (
            "binance",
            "Binance Futures Will Launch USDⓈ-Margined TKNXUSDT Perpetual Contract",
            "futures_listing",
        ),
        ("binance", "Binance Will Delist TKNX, ABCX on 2027-01-15", "spot_delisting"),
        ("bithumb", "지갑 시스템 점검 안내", "not_listing"),
    ];
    for (exchange, title, listing_type) in titles {
        engine.inject(exchange, title);
        let got = client.json();
        assert_eq!(
            (&got["publisher"], &got["listingType"]),
            (&json!(exchange), &json!(listing_type)),
            "{got}"
        );
    }
    let types = ["spot_listing", "futures_listing", "spot_delisting", "futures_delisting", "not_listing"];
    for (listing_type, exchange) in
        types.into_iter().zip(["binance", "upbit", "bithumb", "okx", "crypto.com"])
    {
        let name = exchange.to_uppercase();
        let flags =
            ["inject", "--exchange", &name, "--title", "T", "--type", listing_type, "--ticker", "ABC,DEF"];
        engine.cli_json(&flags);
        let got = client.json();
        let wanted = (&json!(exchange), &json!(listing_type), &json!("ABC,DEF"));
        assert_eq!((&got["publisher"], &got["listingType"], &got["ticker"]), wanted);
    }
}

/// Specification: "The exchange, listing type, ticker, and title are randomized from realistic
/// templates"; FEED.md: "of the subscriber's allowed exchanges".
fn test_announcements_vary_and_fit_the_key(mode: Mode) {
    let engine = Engine::start(mode, EXEMPT);
    let mut titles = std::collections::BTreeSet::new();
    for i in 0..12 {
        let allowed = ["*", "upbit,bithumb", "binance"][i % 3];
        let mut client =
            engine.connect(&crate::basic_key(&engine, &["--allowed-cex", allowed]), "types=not_listing");
        client.send(if i % 2 == 0 { 1 } else { 2 }, br#"{"type":"test"}"#);
        let got = client.json();
        assert_eq!(got["type"], "test_announcement");
        let publisher = got["publisher"].as_str().unwrap();
        assert!(allowed == "*" || allowed.split(',').any(|a| a == publisher), "{allowed}: {got}");
        let (title, ticker) = (got["title"].as_str().unwrap(), got["ticker"].as_str().unwrap());
        assert!(!ticker.is_empty() && title.contains(ticker), "{got}");
        assert!(got["listingType"].as_str().unwrap().ends_with("listing"), "{got}");
        titles.insert(title.to_owned());
    }
    assert!(titles.len() >= 3, "{titles:?}");
}

fn announcement_keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn now_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}
