//! Limits of keys and addresses.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;

use crate::LISTING;
use crate::harness::client::open_tcp;
use crate::harness::{Client, Engine, Handshake, Mode, wait_for};

both_modes!(
    invalid_keys_are_remembered_yet_a_created_key_works_at_once,
    ten_failed_keys_a_minute_lock_the_address_out,
    connections_of_a_key_are_limited,
    connections_of_an_address_are_limited,
    new_connections_of_an_address_are_limited_in_a_sliding_window,
    the_order_of_limits_and_a_full_server,
    refused_attempts_take_nothing_from_the_window,
    a_configured_proxy_names_the_client,
    nobody_else_names_a_client,
    ipv6_is_served_and_counts_by_64_bits,
);

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

/// FEED.md, "Order of checks"; "Every 429 names its cap".
fn the_order_of_limits_and_a_full_server(mode: Mode) {
    let limits = "[feed]\nmax_connections = 3\n[feed.limits]\nip_connections = 2\n";
    let engine = Engine::start(mode, limits);
    let (_, one) = engine.key_with(&["--tier", "basic", "--max-connections", "1"]);
    let (_, many) = engine.key_with(&["--tier", "basic", "--max-connections", "9"]);
    let from = |key: &str, address: &str| Handshake::new("").from(address).header("X-API-Key", key);
    let mut open = vec![from(&one, "127.0.4.1").connect(&engine).ok().unwrap()];
    let refusal = from(&one, "127.0.4.2").refused(&engine);
    assert_eq!(refusal.body, r#"{"error":"max_connections_reached","limit":1,"current":1}"#);
    assert_eq!(refusal.response_header("Retry-After"), None, "waiting does not help, closing does");
    open.push(from(&many, "127.0.4.1").connect(&engine).ok().unwrap());
    let refusal = from(&one, "127.0.4.1").refused(&engine);
    assert_eq!(refusal.json()["error"], "ip_connections_reached", "the address before the key");
    assert_eq!(from(&format!("{one}0"), "127.0.4.1").refused(&engine).status, 403, "the key before both");
    open.push(from(&many, "127.0.4.2").connect(&engine).ok().unwrap());
    let full = from(&many, "127.0.4.3").refused(&engine);
    assert_eq!((full.status, full.body.as_str()), (503, r#"{"error":"server_full","limit":3}"#));
    assert!(full.response_header("Retry-After").is_some());
    open.pop();
    wait_for("a place", || from(&many, "127.0.4.3").connect(&engine).is_ok());
}

/// FEED.md, "Order of checks": "a client is never locked out by its own refused attempts".
fn refused_attempts_take_nothing_from_the_window(mode: Mode) {
    let engine = Engine::start(mode, "");
    let (_, key) = engine.key_with(&["--tier", "basic", "--max-connections", "1"]);
    let open = engine.connect(&key, "");
    for _ in 0..30 {
        assert_eq!(engine.try_connect(&key, "").err().unwrap().json()["error"], "max_connections_reached");
    }
    for query in ["frames=x", "resume=x", "cex=%"] {
        assert_eq!(engine.try_connect(&key, query).err().unwrap().status, 400);
    }
    drop(open);
    wait_for("the key's only place", || engine.try_connect(&key, "").is_ok());
}

/// PROXY protocol version 2 for a client with an IPv4 address.
fn proxy_v2(client: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend_from_slice(&client);
    header.extend_from_slice(&[127, 0, 0, 1, 0x20, 0, 0x23, 0xf1]);
    header
}

/// FEED.md, "Per-address limits": "PROXY protocol v1/v2 or trusted `X-Forwarded-For` where configured",
/// "IPv6 by /64".
fn a_configured_proxy_names_the_client(mode: Mode) {
    let one = "ip_connections = 1\n";
    let engine = Engine::start(
        mode,
        &format!("[feed]\nproxy_protocol_from = [\"127.0.5.1/32\"]\n[feed.limits]\n{one}"),
    );
    let key = engine.key();
    let proxied = |header: &[u8]| {
        let handshake = Handshake::new("").from("127.0.5.1").preface(header).header("X-API-Key", &key);
        handshake.connect(&engine).map_err(|h| h.json()["error"].clone())
    };
    let v1 = |address: &str| match address.contains(':') {
        false => format!("PROXY TCP4 {address} 127.0.0.1 4000 9201\r\n").into_bytes(),
        true => format!("PROXY TCP6 {address} ::1 4000 9201\r\n").into_bytes(),
    };
    let rows = [
        (v1("192.0.2.7"), true),
        (v1("192.0.2.7"), false),
        (proxy_v2([192, 0, 2, 7]), false),
        (proxy_v2([192, 0, 2, 8]), true),
        (v1("192.0.2.8"), false),
        (v1("2001:db8:0:1::5"), true),
        (v1("2001:db8:0:1:ffff::9"), false),
        (v1("2001:db8:0:2::5"), true),
    ];
    let mut open = Vec::new();
    for (header, admitted) in rows {
        let shown = String::from_utf8_lossy(&header).into_owned();
        match proxied(&header) {
            Ok(client) if admitted => open.push(client),
            Err(code) if !admitted => assert_eq!(code, "ip_connections_reached", "{shown}"),
            other => panic!("{shown}: {:?}", other.err()),
        }
    }

    let trusted = format!("[feed]\nforwarded_for_from = [\"127.0.5.0/24\"]\n[feed.limits]\n{one}");
    let engine = Engine::start(mode, &trusted);
    let key = engine.key();
    let forwarded = |value: &str| {
        let handshake = Handshake::new("").from("127.0.5.2").header("X-Forwarded-For", value);
        handshake.header("X-API-Key", &key).connect(&engine).map_err(|h| h.json()["error"].clone())
    };
    let first = forwarded("192.0.2.7").ok().unwrap();
    assert_eq!(forwarded("198.51.100.1, 192.0.2.7, 127.0.5.9").err().unwrap(), "ip_connections_reached");
    assert!(forwarded("192.0.2.7, 198.51.100.1").is_ok(), "the last one that is no proxy counts");
    drop(first);
}

/// The same from a peer that is not configured: its own address counts, and a header is no request.
fn nobody_else_names_a_client(mode: Mode) {
    let config = "[feed]\nproxy_protocol_from = [\"127.0.5.1/32\"]\nforwarded_for_from = [\"127.0.5.1/32\"]
                  [feed.limits]\nip_connections = 1\n";
    let engine = Engine::start(mode, config);
    let key = engine.key();
    let from = |address: &str, client: &str| {
        let handshake = Handshake::new("").from(address).header("X-Forwarded-For", client);
        handshake.header("X-API-Key", &key).connect(&engine)
    };
    let first = from("127.0.6.1", "192.0.2.7").ok().unwrap();
    assert_eq!(from("127.0.6.1", "192.0.2.8").err().unwrap().json()["error"], "ip_connections_reached");
    assert!(from("127.0.6.2", "192.0.2.7").is_ok());
    drop(first);

    let mut tcp = open_tcp(engine.feed, Some("127.0.6.3".parse().unwrap()), None);
    tcp.write_all(b"PROXY TCP4 192.0.2.9 127.0.0.1 4000 9201\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = tcp.read_to_end(&mut answer);
    match mode {
        Mode::Plain => assert!(answer.starts_with(b"HTTP/1.1 400"), "{answer:?}"),
        Mode::Tls => assert!(!answer.starts_with(b"HTTP"), "{answer:?}"),
    }
    // And from the configured one nothing goes without it.
    let mut tcp = open_tcp(engine.feed, Some("127.0.5.1".parse().unwrap()), None);
    tcp.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    answer.clear();
    let _ = tcp.read_to_end(&mut answer);
    assert!(answer.is_empty(), "{answer:?}");
    wait_for("the count", || engine.cli_json(&["status"])["accept"]["not_proxied"] == 1);
}

/// FEED.md, "Per-address limits": "IPv6 by /64".
fn ipv6_is_served_and_counts_by_64_bits(mode: Mode) {
    let config = "[feed]\nlisten = \"[::1]:0\"\n[feed.limits]\nip_connections = 2\n";
    let engine = Engine::start(mode, config);
    let key = engine.key();
    let mut open = [engine.connect(&key, ""), engine.connect(&key, "")];
    assert_eq!(engine.try_connect(&key, "").err().unwrap().json()["error"], "ip_connections_reached");
    engine.inject("binance", LISTING);
    assert!(open.iter_mut().all(|client| client.json()["title"] == LISTING));

    // Both families on one socket: an IPv4 client counts as the IPv4 address it is.
    let engine = Engine::start(mode, "[feed]\nlisten = \"[::]:0\"\n[feed.limits]\nip_connections = 1\n");
    let key = engine.key();
    let at = |address: [u8; 4]| {
        let mut stream = Handshake::new("").header("X-API-Key", &key);
        stream.to = Some(SocketAddr::from((address, engine.feed.port())));
        stream
    };
    let one = at([127, 0, 0, 1]).from("127.0.7.1").connect(&engine).ok().unwrap();
    let refusal = at([127, 0, 0, 1]).from("127.0.7.1").refused(&engine);
    assert_eq!(refusal.json()["error"], "ip_connections_reached");
    assert!(at([127, 0, 0, 1]).from("127.0.7.2").connect(&engine).is_ok(), "not one /64 of mapped ones");
    drop(one);
}
