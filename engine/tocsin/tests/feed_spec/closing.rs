//! How connections end.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::client::client_frame;
use crate::harness::{Client, Engine, Handshake, Message, Mode, wait_for};
use crate::{EXEMPT, LISTING};

both_modes!(
    the_fourth_message_within_a_minute_closes,
    control_frames_do_not_count_but_a_flood_closes,
    frames_over_1_kb_close_from_the_header_on,
    protocol_errors_close_with_1002_and_1007,
    revocation_closes_every_session_of_the_key_at_once,
    expiry_closes_at_its_instant,
    a_close_is_echoed,
    a_slow_reader_is_closed_and_others_never_wait,
    shutdown_closes_with_1012,
    an_empty_close_is_answered_and_a_vanished_peer_is_let_go,
    a_later_end_keeps_the_session_and_a_revoked_key_stays_revoked,
    a_drain_is_spread_and_announces_to_the_end,
    close_codes_are_counted_by_reason,
);

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
    let header_only = &client_frame(0x81, &[b'x'; 1_025])[..8];
    client.send_raw(header_only);
    assert_eq!(client.closed(), (Some(1009), "frame_too_large".to_owned()));

    let mut fragmented = engine.connect(&key, "");
    fragmented.send_raw(&client_frame(0x01, &[b'x'; 1_000]));
    fragmented.send_raw(&client_frame(0x80, &[b'x'; 25]));
    assert_eq!(fragmented.closed(), (Some(1009), "frame_too_large".to_owned()), "reassembled");
}

/// FEED.md, "Protocol errors".
fn protocol_errors_close_with_1002_and_1007(mode: Mode) {
    let engine = Engine::start(mode, "");
    let key = engine.key();
    let frame = client_frame;
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
        // Without a process for each, so that a busy machine is quick enough too.
        let alert = json!({"exchange": "binance", "title": title});
        engine.admin("POST", "/admin/v1/announcements", Some(&alert));
        sent += 1;
        assert_eq!(quick.json_of("announcement")["seq"], sent);
        engine.admin("GET", "/admin/v1/status", None)["feed"]["closed"]["too_slow"] == 1
    });
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

/// RFC 6455, 7.1.5: a close without a code; and TCP that just ends.
fn an_empty_close_is_answered_and_a_vanished_peer_is_let_go(mode: Mode) {
    let engine = Engine::start(mode, "");
    let (_, key) = engine.key_with(&["--tier", "basic", "--max-connections", "2"]);
    let (mut polite, rude) = (engine.connect(&key, ""), engine.connect(&key, ""));
    polite.send(8, b"");
    assert_eq!(polite.message(), Message::Close(None, String::new()));
    assert_eq!(polite.message(), Message::End);
    rude.tcp().shutdown(std::net::Shutdown::Both).unwrap();
    wait_for("both places", || engine.cli_json(&["status"])["feed"]["connections"] == 0);
    let _both = [engine.connect(&key, ""), engine.connect(&key, "")];
}

/// Specification, "Key lifecycle": "The key can no longer be used."
fn a_later_end_keeps_the_session_and_a_revoked_key_stays_revoked(mode: Mode) {
    let mut engine = Engine::start(mode, EXEMPT);
    let flags = ["--tier", "basic", "--max-connections", "5", "--expires-in", "6s"];
    let (id, key) = engine.key_with(&flags);
    let (lasting, gone) = (id.to_string(), engine.key_with(&flags));
    let (mut kept, mut ended) = (engine.connect(&key, ""), engine.connect(&gone.1, ""));
    engine.cli_json(&["keys", "set-expiry", &lasting, "--never"]);
    assert_eq!(ended.closed(), (Some(1000), "key_expired".to_owned()), "the other one's end has come");
    engine.inject("binance", LISTING);
    assert_eq!(kept.json()["title"], LISTING);
    assert_eq!(engine.try_connect(&key, "").ok().unwrap().json()["expiresInSecs"], Value::Null);

    engine.cli_json(&["keys", "revoke", &lasting]);
    assert_eq!(kept.closed(), (Some(1000), "key_revoked".to_owned()));
    assert_eq!(engine.stop(), Some(0));
    engine.start_again();
    for (key, code) in [(&key, "key_revoked"), (&gone.1, "key_expired")] {
        assert_eq!(engine.try_connect(key, "").err().unwrap().json()["error"], code);
    }
}

/// FEED.md, "Shutdown": "1012 `restart` spread over the drain window".
fn a_drain_is_spread_and_announces_to_the_end(mode: Mode) {
    let mut engine = Engine::start(mode, &format!("{EXEMPT}[feed]\ndrain = \"3s\"\n"));
    let key = engine.key();
    let mut clients: Vec<Client> = (0..30).map(|_| engine.connect(&key, "")).collect();
    let from = Instant::now();
    engine.signal("TERM");
    let (first, rest) = clients.split_first_mut().unwrap();
    assert_eq!(first.closed(), (Some(1012), "restart".to_owned()));
    let last = rest.last_mut().unwrap();
    assert_eq!(last.message_within(Duration::from_millis(1)), None, "its turn has not come");
    assert_eq!(last.closed(), (Some(1012), "restart".to_owned()));
    assert!(from.elapsed() > Duration::from_secs(2), "all at once: after {:?}", from.elapsed());
    for client in &mut rest[..28] {
        assert_eq!(client.closed(), (Some(1012), "restart".to_owned()));
    }
    assert_eq!(engine.wait(), Some(0));
}

/// Every way to close is a counter.
fn close_codes_are_counted_by_reason(mode: Mode) {
    let engine = Engine::start(mode, "");
    let key = engine.key();
    let say = |bytes: &[u8]| {
        let mut client = engine.connect(&key, "");
        client.send_raw(bytes);
        client.closed().0
    };
    assert_eq!(say(&client_frame(0x82, &[0; 1_025])), Some(1009));
    assert_eq!(say(&client_frame(0x82, b"x").repeat(4)), Some(1008));
    assert_eq!(say(&client_frame(0x89, b"x").repeat(31)), Some(1008));
    assert_eq!(say(&client_frame(0x83, b"x")), Some(1002));
    wait_for("the counts", || {
        let closed = engine.cli_json(&["status"])["feed"]["closed"].clone();
        let counted: u64 = closed.as_object().unwrap().values().filter_map(Value::as_u64).sum();
        closed["frame_too_large"] == 1 && closed["rate_limit_exceeded"] == 1 && counted == 4
    });
}
