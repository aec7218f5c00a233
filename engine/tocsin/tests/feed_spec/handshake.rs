//! Upgrade, key, query, refusals.

use std::io::{Read as _, Write as _};

use crate::harness::client::{client_frame, open_tcp};
use crate::harness::{Engine, Handshake, Message, Mode};
use crate::{EXEMPT, LISTING};

both_modes!(
    refusals_come_in_order_with_their_bodies,
    malformed_upgrades_are_400,
    the_key_comes_by_header_or_query_and_the_header_wins,
    both_paths_are_served_and_no_other,
    compression_is_never_negotiated,
    query_values_are_decoded_and_errors_name_the_parameter,
    heads_over_8_kib_or_64_headers_get_431,
    a_request_may_come_in_pieces,
    bytes_right_behind_the_request_are_heard,
    what_is_no_request_is_refused_and_harms_nobody,
    a_key_is_kept_as_its_sha_256_alone,
);

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

/// FEED.md, "`cex`": "percent-decoded"; "a repeated parameter is joined".
fn query_values_are_decoded_and_errors_name_the_parameter(mode: Mode) {
    let engine = Engine::start(mode, EXEMPT);
    let key = engine.key();
    let refused = [
        ("cex=%zz", "bad percent escape in query"),
        ("cex=binance%2", "bad percent escape in query"),
        ("cex=%ff", "query is not UTF-8"),
        ("tickers=A%0AB", "tickers takes"),
        ("frames=json", "frames takes binary or text"),
        ("fields=some", "fields takes basic or full"),
        ("sources=yes", "sources takes 1 or 0"),
        ("resume=1", "resume takes EPOCH:SEQ"),
        ("types=spot_listing,spot", "types takes a list of spot_listing,"),
    ];
    for (query, detail) in refused {
        let refusal = Handshake::new(query).header("X-API-Key", &key).refused(&engine);
        assert_eq!(refusal.status, 400, "{query}");
        let body = refusal.json();
        assert_eq!(body["error"], "bad_request", "{query}");
        assert!(body["detail"].as_str().unwrap().starts_with(detail), "{query}: {body}");
    }
    let taken = [
        ("cex=%62inance", "binance"),
        ("cex=binance%2Cupbit", "binance,upbit"),
        ("cex=upbit+,+BINANCE,upbit", "binance,upbit"),
        ("cex=binance&utm=%20&cex=upbit&flag", "binance,upbit"),
        ("cex=&types=&tickers=&frames=&fields=&sources=&resume=", "*"),
    ];
    for (query, effective) in taken {
        let welcome = engine.try_connect(&key, query).ok().unwrap().json();
        assert_eq!(welcome["allowedCex"], effective, "{query}");
    }
    let wrong = format!("dsk_{}", "0".repeat(64));
    let last = Handshake::new(&format!("api_key={wrong}&api_key={key}")).connect(&engine);
    assert!(last.is_ok(), "of a repeated parameter that is no list the last one counts");
}

/// FEED.md, "Handshake time": "8 KiB of head, 64 headers; over it 408/431 and closed".
fn heads_over_8_kib_or_64_headers_get_431(mode: Mode) {
    let engine = Engine::start(mode, EXEMPT);
    let key = engine.key();
    let with = |headers: usize| {
        let mut handshake = Handshake::new("").header("X-API-Key", &key);
        while handshake.headers.len() < headers {
            handshake.headers.push((format!("X-More-{}", handshake.headers.len()), "x".to_owned()));
        }
        handshake
    };
    let padded = |bytes: usize| {
        let bare = Handshake::new("").header("X-API-Key", &key).header("X-Pad", "p");
        let more = bytes - bare.request().len() + 1;
        bare.header("X-Pad", &"p".repeat(more))
    };
    assert!(with(64).connect(&engine).is_ok());
    assert_eq!(padded(8_192).request().len(), 8_192);
    assert!(padded(8_192).connect(&engine).is_ok());
    for (what, handshake) in [("65 headers", with(65)), ("8,193 bytes", padded(8_193))] {
        let refusal = handshake.refused(&engine);
        assert_eq!(refusal.status, 431, "{what}");
        assert_eq!(refusal.json()["error"], "headers_too_large", "{what}");
        assert_eq!(refusal.response_header("Connection"), Some("close"), "{what}");
    }
}

/// TCP keeps no boundaries.
fn a_request_may_come_in_pieces(mode: Mode) {
    let engine = Engine::start(mode, "");
    let handshake = Handshake::new("cex=upbit").header("X-API-Key", &engine.key());
    let mut stream = handshake.open(&engine);
    for piece in handshake.request().chunks(7) {
        stream.write_all(piece).unwrap();
        stream.flush().unwrap();
    }
    let mut client = handshake.response(stream).ok().unwrap();
    assert_eq!(client.json()["allowedCex"], "upbit");
}

/// A client need not wait for the 101 to speak.
fn bytes_right_behind_the_request_are_heard(mode: Mode) {
    let engine = Engine::start(mode, "");
    let mut handshake = Handshake::new("").header("X-API-Key", &engine.key());
    let (test, ping) = (client_frame(0x81, br#"{"type":"test"}"#), client_frame(0x89, b"early"));
    handshake.early = [test, ping[..4].to_vec()].concat();
    let mut client = handshake.connect(&engine).ok().unwrap();
    assert_eq!(client.json()["type"], "welcome", "still first");
    assert_eq!(client.json()["type"], "test_announcement");
    client.send_raw(&ping[4..]);
    assert_eq!(client.message(), Message::Pong(b"early".to_vec()), "a frame cut by the hand-over");
}

/// Specification, "400: Malformed request"; whoever talks something else disturbs no one.
fn what_is_no_request_is_refused_and_harms_nobody(mode: Mode) {
    let engine = Engine::start(mode, EXEMPT);
    let mut subscriber = engine.connect(&engine.key(), "");
    let garbage: [&[u8]; 4] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0\0\0\0\0\0\0\0",
        b"GET / HTTP/1.1\r\nHost h\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ];
    for bytes in garbage {
        let handshake = Handshake::new("");
        let mut stream = handshake.open(&engine);
        stream.write_all(bytes).unwrap();
        let refusal = handshake.response(stream).err().unwrap();
        assert_eq!(refusal.status, 400, "{:?}", String::from_utf8_lossy(bytes));
    }
    // And below HTTP: on a TLS port what is no TLS is dropped without an answer in clear.
    let mut tcp = open_tcp(engine.feed, None, None);
    tcp.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = tcp.read_to_end(&mut answer);
    match mode {
        Mode::Plain => assert!(answer.starts_with(b"HTTP/1.1 400")),
        Mode::Tls => assert!(!answer.starts_with(b"HTTP"), "{answer:?}"),
    }
    engine.inject("binance", LISTING);
    assert_eq!(subscriber.json()["title"], LISTING);
}

/// Specification, "Keys are hashed with SHA-256 before storage".
fn a_key_is_kept_as_its_sha_256_alone(mode: Mode) {
    let mut engine = Engine::start(mode, "");
    let key = engine.key();
    assert!(engine.try_connect(&key, "").is_ok());
    assert_eq!(engine.stop(), Some(0), "so that all of it is in the database file");
    let stored = std::fs::read(engine.data_dir().join("tocsin.db")).unwrap();
    let holds = |wanted: &[u8]| stored.windows(wanted.len()).any(|window| window == wanted);
    assert!(holds(ring::digest::digest(&ring::digest::SHA256, key.as_bytes()).as_ref()));
    assert!(!holds(&key.as_bytes()[4..]));
}
