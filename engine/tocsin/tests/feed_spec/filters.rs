//! Who gets what.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Client, Engine, Message, Mode};
use crate::{EXEMPT, LISTING};

both_modes!(
    effective_filter_table,
    unknown_exchanges_come_back_in_the_welcome,
    type_and_ticker_filters,
    filters_change_without_reconnecting,
    types_and_tickers_change_and_are_taken_back,
    nonsense_in_a_subscription_is_an_error_and_changes_nothing,
    subscriptions_count_against_the_three_messages,
    a_filter_that_matches_nothing_still_connects,
);

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

/// FEED.md, "Added for users", 3; members left out stay.
fn types_and_tickers_change_and_are_taken_back(mode: Mode) {
    let engine = Engine::start(mode, EXEMPT);
    let mut client = engine.connect(&engine.key(), "types=spot_delisting&tickers=ZZZX");
    let mut ask = |message: Value, wanted: Value| {
        client.send_text(&message.to_string());
        let answer = client.json();
        let subscribed = json!({"type": "subscribed", "allowedCex": "*"});
        for field in ["type", "allowedCex"] {
            assert_eq!(answer[field], subscribed[field], "{answer}");
        }
        assert_eq!((&answer["types"], &answer["tickers"]), (&wanted[0], &wanted[1]), "{message}");
    };
    ask(json!({"type": "subscribe"}), json!(["spot_delisting", "ZZZX"]));
    ask(
        json!({"type": "subscribe", "tickers": ["tknx", "TKNX", "abcx"]}),
        json!(["spot_delisting", "TKNX,ABCX"]),
    );
    ask(json!({"type": "subscribe", "types": "*"}), json!(["*", "TKNX,ABCX"]));
    engine.inject("upbit", "점검 안내");
    engine.inject("binance", LISTING);
    assert_eq!(client.json()["ticker"], "TKNX");

    let mut client = engine.connect(&engine.key(), "tickers=ZZZX");
    client.send_text(r#"{"type":"subscribe","tickers":null,"types":["not_listing"]}"#);
    assert_eq!(client.json()["tickers"], "*");
    engine.inject("binance", LISTING);
    engine.inject("upbit", "점검 안내");
    assert_eq!(client.json()["title"], "점검 안내");
}

/// FEED.md, "Client messages": what is neither a test nor an addition gets `unsupported_message`.
fn nonsense_in_a_subscription_is_an_error_and_changes_nothing(mode: Mode) {
    let engine = Engine::start(mode, EXEMPT);
    let key = engine.key();
    let many: Vec<String> = (0..65).map(|n| format!("T{n}")).collect();
    let rows = [
        json!({"type": "subscribe", "cex": 1}),
        json!({"type": "subscribe", "cex": "upbit", "tickers": {"a": 1}}),
        json!({"type": "subscribe", "cex": "upbit", "types": [1]}),
        json!({"type": "subscribe", "cex": "upbit", "types": "spot"}),
        json!({"type": "subscribe", "tickers": "A B"}),
        json!({"type": "subscribe", "tickers": many}),
        json!({"type": ["subscribe"]}),
    ];
    let mut clients = Vec::new();
    for row in rows {
        let mut client = engine.connect(&key, "cex=binance");
        client.send_text(&row.to_string());
        assert_eq!(client.json(), json!({"type": "error", "code": "unsupported_message"}), "{row}");
        clients.push(client);
    }
    engine.inject("upbit", "An announcement");
    engine.inject("binance", LISTING);
    for client in &mut clients {
        assert_eq!(client.json()["title"], LISTING, "the filter is as it was");
    }
}

/// FEED.md, "Added for users", 3: "counts against the 3 a minute".
fn subscriptions_count_against_the_three_messages(mode: Mode) {
    let engine = Engine::start(mode, "");
    let mut client = engine.connect(&engine.key(), "");
    for cex in ["upbit", "binance", "bithumb"] {
        client.send_text(&json!({"type": "subscribe", "cex": cex}).to_string());
        assert_eq!(client.json()["allowedCex"], cex);
    }
    client.send_text(r#"{"type":"subscribe","cex":"*"}"#);
    assert_eq!(client.closed(), (Some(1008), "rate_limit_exceeded".to_owned()));
}

/// Specification: "you will connect successfully but receive no announcements".
fn a_filter_that_matches_nothing_still_connects(mode: Mode) {
    let engine = Engine::start(mode, "");
    let key = crate::basic_key(&engine, &["--allowed-cex", "binance"]);
    let mut client = engine.try_connect(&key, "cex=upbit").ok().unwrap();
    assert_eq!(client.json()["allowedCex"], "");
    engine.inject("upbit", "An announcement");
    engine.inject("binance", LISTING);
    client.nothing_of("announcement", Duration::from_millis(200));
    client.send_text(r#"{"type":"subscribe","cex":"upbit"}"#);
    assert_eq!(client.json()["allowedCex"], "", "the key allows no more than before");
    client.send(9, b"still here");
    assert_eq!(client.message(), Message::Pong(b"still here".to_vec()));
}
