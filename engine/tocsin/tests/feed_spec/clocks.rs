//! What only waiting shows. All of it waits at once, in both modes, whatever the number of test
//! threads: together it takes little more than a minute.

use std::io::Write as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tocsin_sim::{Kind, Options, SimExchange};

use crate::EXEMPT;
use crate::harness::{Client, Engine, Handshake, Message, Mode, wait_for};

/// Makes one test that runs every function named in every mode, each on a thread of its own.
macro_rules! at_once {
    ($($name:ident),* $(,)?) => {
        #[test]
        fn everything_that_waits() {
            let cases: &[(&'static str, fn(Mode))] = &[$((stringify!($name), $name)),*];
            let both = cases.iter().flat_map(|case| [(case, Mode::Plain), (case, Mode::Tls)]);
            let running: Vec<_> = both
                .map(|((name, case), mode)| {
                    let case = *case;
                    (format!("{name} {mode:?}"), std::thread::spawn(move || case(mode)))
                })
                .collect();
            let failed: Vec<String> =
                running.into_iter().filter_map(|(name, run)| run.join().is_err().then_some(name)).collect();
            assert!(failed.is_empty(), "{failed:?}");
        }
    };
}

at_once!(
    heartbeats_come_every_30_seconds_whatever_the_filter,
    pings_come_every_15_seconds_and_silence_closes,
    slow_requests_get_408_after_5_seconds_in_all,
    a_silent_peer_is_dropped_after_5_seconds,
    the_message_limit_is_a_sliding_minute,
    a_test_is_granted_again_when_it_was_promised,
    the_connection_rate_is_a_sliding_minute,
    a_locked_out_address_is_heard_again_when_it_was_promised,
    full_subscribers_are_told_24_hours_and_1_hour_before_the_end,
);

/// The next JSON message, however many pings come first.
fn next(client: &mut Client, patience: Duration) -> Value {
    loop {
        match client.message_within(patience) {
            Some(Message::Ping(payload)) => client.send(10, &payload),
            Some(Message::Binary(value)) => return value,
            other => panic!("within {patience:?}: {other:?}"),
        }
    }
}

/// Specification, "Heartbeat", "Heartbeats are always delivered", "If you do not receive a heartbeat
/// within 35 seconds, your connection is likely dead"; FEED.md, "Heartbeat".
fn heartbeats_come_every_30_seconds_whatever_the_filter(mode: Mode) {
    let upbit = SimExchange::start(Kind::Upbit, Options::plain()).unwrap();
    let source = format!("[sources.upbit]\nenabled = true\nbase_url = {:?}\n", upbit.base_url());
    let engine = Engine::start(mode, &format!("{EXEMPT}{source}"));
    let key = crate::basic_key(&engine, &["--allowed-cex", "binance"]);
    // From before the first of them came: the second takes a command line, which may be slow.
    let from = Instant::now();
    let mut unmatched = engine.connect(&key, "cex=upbit");
    let mut asked = engine.connect(&engine.key(), "sources=1&types=futures_delisting");
    let patience = Duration::from_secs(35);
    let first = next(&mut unmatched, patience);
    assert!(from.elapsed() > Duration::from_secs(29), "came after {:?}", from.elapsed());
    judge(&first, 0);
    assert_eq!(first.get("sources"), None);

    let beat = loop {
        let message = next(&mut asked, patience);
        if message["type"] == "heartbeat" {
            break message;
        }
    };
    judge(&beat, 0);
    let [source] = &beat["sources"].as_array().unwrap()[..] else { panic!("{beat}") };
    assert_eq!((&source["name"], &source["state"]), (&json!("upbit.web"), &json!("live")));
    for field in ["lastPollUs", "lastItemUs"] {
        assert!(source[field].as_i64() > Some(1_600_000_000_000_000), "{beat}");
    }

    engine.inject("binance", "An announcement");
    let second = next(&mut unmatched, patience);
    judge(&second, 1);
    let apart = second["timestampUs"].as_i64().unwrap() - first["timestampUs"].as_i64().unwrap();
    assert!(apart > 29_000_000, "{apart}");
}

fn judge(beat: &Value, last_seq: i64) {
    assert_eq!(
        (&beat["type"], &beat["epoch"], &beat["lastSeq"]),
        (&json!("heartbeat"), &json!(1), &json!(last_seq))
    );
    let ns = beat["timestampNs"].as_i64().unwrap();
    assert_eq!(ns / 1_000, beat["timestampUs"].as_i64().unwrap());
    let text = beat["timeUtc"].as_str().unwrap();
    let utc: jiff::Timestamp = text.parse().unwrap();
    assert_eq!(utc.as_microsecond(), ns / 1_000, "both tell the same instant");
    assert!(text.len() == "2024-03-13T10:30:30.000000Z".len() && text.ends_with('Z'), "{text}");
    let age = jiff::Timestamp::now().as_microsecond() - ns / 1_000;
    assert!(age >= 0, "it is the present");
}

/// Specification, "Ping/Pong"; FEED.md, "PING": "RTT from it is a metric".
fn pings_come_every_15_seconds_and_silence_closes(mode: Mode) {
    let engine = Engine::start(mode, "");
    let (silent_key, alive_key) = (engine.key(), engine.key());
    let from = Instant::now();
    let (mut silent, mut alive) = (engine.connect(&silent_key, ""), engine.connect(&alive_key, ""));
    let first = silent.message_within(Duration::from_secs(20));
    let Some(Message::Ping(payload)) = first else { panic!("{first:?}") };
    assert_eq!(payload.len(), 8);
    assert!(from.elapsed() > Duration::from_secs(13));
    let Message::Ping(payload) = alive.message() else { panic!("no ping") };
    alive.send(10, &payload);
    wait_for("the round trip", || engine.cli_json(&["status"])["feed"]["rtt_us"]["count"] == 1);
    // A pong to nothing asked is no answer.
    silent.send(10, b"12345678");
    let mut pings = 1;
    let (code, reason) = loop {
        match silent.message_within(Duration::from_secs(35)) {
            Some(Message::Close(code, reason)) => break (code, reason),
            Some(Message::Ping(_)) => pings += 1,
            Some(Message::Binary(_)) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((code, reason.as_str()), (Some(1001), "pong_timeout"));
    let took = from.elapsed();
    assert!(took > Duration::from_secs(43), "30 s after the first unanswered one: {took:?}");
    assert!(pings >= 2, "the rhythm goes on: {pings}");
    assert_eq!(next(&mut alive, Duration::from_secs(35))["type"], "heartbeat", "whoever answers stays");
}

/// FEED.md, "Handshake time": "5 s in all"; drops of a head do not prolong it.
fn slow_requests_get_408_after_5_seconds_in_all(mode: Mode) {
    let engine = Engine::start(mode, "");
    let handshake = Handshake::new("").header("X-API-Key", &engine.key());
    let from = Instant::now();
    let mut stream = handshake.open(&engine);
    for byte in handshake.request().iter().take(40).copied() {
        // Once it is refused nobody listens.
        if stream.write_all(&[byte]).and_then(|()| stream.flush()).is_err() || from.elapsed().as_secs() >= 6 {
            break;
        }
        std::thread::sleep(Duration::from_millis(150));
    }
    let refusal = handshake.response(stream).err().unwrap();
    assert_eq!((refusal.status, &refusal.json()["error"]), (408, &json!("request_timeout")));
    assert_eq!(refusal.response_header("Connection"), Some("close"));
    assert!(from.elapsed() > Duration::from_millis(4_900), "{:?}", from.elapsed());
}

/// The same for one that says nothing at all: on a TLS port not a word in clear.
fn a_silent_peer_is_dropped_after_5_seconds(mode: Mode) {
    let engine = Engine::start(mode, "");
    let mut tcp = crate::harness::client::open_tcp(engine.feed, None, None);
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut tcp, &mut answer).unwrap();
    match mode {
        Mode::Plain => assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}"),
        Mode::Tls => assert_eq!(answer, ""),
    }
    assert_eq!(engine.cli_json(&["status"])["accept"]["timeouts"], 1);
}

/// Specification, "Message rate: 3 / minute"; FEED.md: "sliding 60 s".
fn the_message_limit_is_a_sliding_minute(mode: Mode) {
    let engine = Engine::start(mode, "");
    let mut client = engine.connect(&engine.key(), "");
    let say = |client: &mut Client| {
        client.send_text("?");
        while client.json()["type"] != "error" {}
    };
    say(&mut client);
    let from = Instant::now();
    let listen_until = |client: &mut Client, secs: u64| {
        while let Some(left) = Duration::from_secs(secs).checked_sub(from.elapsed()) {
            client.nothing_of("error", left.max(Duration::from_millis(1)));
        }
    };
    listen_until(&mut client, 10);
    say(&mut client);
    say(&mut client);
    listen_until(&mut client, 61);
    say(&mut client);
    client.send_text("?");
    assert_eq!(
        client.closed(),
        (Some(1008), "rate_limit_exceeded".to_owned()),
        "only the first is a minute old"
    );
}

/// Specification, "retryAfterSecs: Seconds to wait before retrying".
fn a_test_is_granted_again_when_it_was_promised(mode: Mode) {
    let engine = Engine::start(mode, "");
    let mut client = engine.connect(&engine.key(), "");
    let ask = |client: &mut Client| {
        client.send_text(r#"{"type":"test"}"#);
        loop {
            let answer = client.json();
            if answer["type"] != "heartbeat" {
                return answer;
            }
        }
    };
    assert_eq!(ask(&mut client)["type"], "test_announcement");
    let limited = ask(&mut client);
    let wait = Duration::from_secs(limited["retryAfterSecs"].as_u64().unwrap());
    client.nothing_of("test_announcement", wait);
    assert_eq!(ask(&mut client)["type"], "test_announcement");
}

/// Specification, "Per-IP connection rate: 10 / minute, sliding window".
fn the_connection_rate_is_a_sliding_minute(mode: Mode) {
    let engine = Engine::start(mode, "");
    let key = engine.key();
    let connect = || engine.try_connect(&key, "");
    assert!(connect().is_ok());
    std::thread::sleep(Duration::from_secs(5));
    for _ in 1..10 {
        assert!(connect().is_ok());
    }
    let refusal = connect().err().unwrap().json();
    let wait = refusal["retryAfterSecs"].as_u64().unwrap();
    assert!(wait <= 56, "from the first of the ten: {refusal}");
    std::thread::sleep(Duration::from_secs(wait));
    assert!(connect().is_ok(), "as promised");
    assert_eq!(connect().err().unwrap().json()["error"], "ip_rate_limited", "the other nine still count");
}

/// FEED.md: "gets 429 for the rest of that minute"; "never locked out ... longer than the window".
fn a_locked_out_address_is_heard_again_when_it_was_promised(mode: Mode) {
    let engine = Engine::start(mode, "");
    let key = engine.key();
    for i in 0..10 {
        assert_eq!(engine.try_connect(&format!("dsk_{i:064x}"), "").err().unwrap().status, 403);
    }
    let refusal = engine.try_connect(&key, "").err().unwrap().json();
    assert_eq!(refusal["error"], "auth_failures");
    let from = Instant::now();
    let wait = Duration::from_secs(refusal["retryAfterSecs"].as_u64().unwrap());
    while from.elapsed() + Duration::from_secs(5) < wait {
        std::thread::sleep(Duration::from_secs(4));
        assert_eq!(engine.try_connect(&key, "").err().unwrap().status, 429);
    }
    std::thread::sleep(wait.saturating_sub(from.elapsed()));
    assert!(engine.try_connect(&key, "").is_ok(), "asking meanwhile has not prolonged it");
}

/// FEED.md, "Added for users", 6.
fn full_subscribers_are_told_24_hours_and_1_hour_before_the_end(mode: Mode) {
    let engine = Engine::start(mode, EXEMPT);
    for (left, expires_in) in [(86_400, "86405s"), (3_600, "3605s")] {
        let key = crate::basic_key(&engine, &["--expires-in", expires_in]);
        let mut basic = engine.connect(&key, "");
        let told = next(&mut engine.connect(&key, "fields=full"), Duration::from_secs(20));
        assert_eq!(told, json!({"type": "key_expiring", "expiresInSecs": left}));
        basic.nothing_of("key_expiring", Duration::from_millis(50));
    }
}
