//! What one connection gets: admission, refusals, time limits, history.

use tocsin_core::feed::admission::refusal::RefusalCode;
use tocsin_core::model::{
    Action, Announcement, Classification, Exchange, FeedPosition, Lang, ListingType, Ticker,
};
use tocsin_core::wire::encode;

use super::*;
use crate::net::tls::TlsFailure;

#[test]
fn good_request_becomes_a_session_over_plain_and_tls() {
    for tls in [false, true] {
        let mut rig = Setup { tls, ..Setup::default() }.build();
        let mut client = rig.connect_ready();
        let early = [0x81, 0x80, 1, 2, 3, 4];
        let head = request(
            "/?cex=upbit",
            &format!("X-API-Key: {}\r\n", text(1).to_uppercase().replace("DSK", "dsk")),
        );
        rig.send(&mut client, &[head.as_bytes(), &early].concat());
        let mut session = rig.joined();
        assert_eq!(session.early_bytes, early);
        assert_eq!(session.subscription.key.id, KeyId(1));
        assert!(session.subscription.filter.exchanges.contains(Exchange::Upbit));
        assert!(!session.subscription.filter.exchanges.contains(Exchange::Okx));
        assert_eq!(session.accepted_at, rig.now.mono);
        assert_eq!(rig.stats.in_progress.get(), 0);
        assert_eq!((rig.stats.sessions.get(), rig.thread.connections_of(KeyId(1))), (1, 1));
        // The writer's part: the session works where it arrives.
        let greeting = session.greeting.clone();
        assert_eq!(session.stream.write(&greeting).unwrap(), greeting.len());
        assert!(session.stream.shutdown().unwrap());
        drop(session);
        assert_eq!(rig.read_all(&mut client), greeting);
        assert!(greeting.starts_with(b"HTTP/1.1 101 Switching Protocols\r\n"));
        assert!(greeting.ends_with(br#"{"type":"welcome","tier":"premium","maxConnections":1000,"allowedCex":"upbit","expiresInSecs":null}"#));
    }
}

/// (request, status line, further header, body) with keys as
/// [`refusals_arrive_whole_over_plain_and_tls`] makes them.
fn refused() -> Vec<(String, &'static str, &'static str, &'static str)> {
    let many = "X-A: b\r\n".repeat(60);
    let key = format!("X-API-Key: {}\r\n", text(1));
    vec![
        (
            "GET / HTTP/1.1\r\nHost: h\r\n\r\n".into(),
            "400 Bad Request",
            "",
            r#"{"error":"bad_request","detail":"Upgrade is not websocket"}"#,
        ),
        (
            with_key(1).replace("GET", "POST"),
            "405 Method Not Allowed",
            "Allow: GET\r\n",
            r#"{"error":"method_not_allowed","detail":"method is not GET"}"#,
        ),
        (
            with_key(1).replace(": 13", ": 8"),
            "426 Upgrade Required",
            "Sec-WebSocket-Version: 13\r\n",
            r#"{"error":"upgrade_required","detail":"Sec-WebSocket-Version is not 13"}"#,
        ),
        (request("/x", &key), "404 Not Found", "", r#"{"error":"not_found"}"#),
        (
            request("/?frames=x", &key),
            "400 Bad Request",
            "",
            r#"{"error":"bad_request","detail":"frames takes binary or text"}"#,
        ),
        (request("/", ""), "401 Unauthorized", "", r#"{"error":"missing_api_key"}"#),
        (request("/?api_key=dsk_nonsense", ""), "403 Forbidden", "", r#"{"error":"invalid_api_key"}"#),
        (with_key(9), "403 Forbidden", "", r#"{"error":"invalid_api_key"}"#),
        (with_key(2), "403 Forbidden", "", r#"{"error":"key_expired"}"#),
        (with_key(3), "403 Forbidden", "", r#"{"error":"key_revoked"}"#),
        (
            with_key(4),
            "429 Too Many Requests",
            "",
            r#"{"error":"max_connections_reached","limit":0,"current":0}"#,
        ),
        (
            request("/", &many),
            "431 Request Header Fields Too Large",
            "",
            r#"{"error":"headers_too_large","detail":"too many headers"}"#,
        ),
        (
            request(&format!("/?{}", "x".repeat(9_000)), ""),
            "431 Request Header Fields Too Large",
            "",
            r#"{"error":"headers_too_large","detail":"request head too long"}"#,
        ),
        (
            "\0\0\0\0".into(),
            "400 Bad Request",
            "",
            r#"{"error":"bad_request","detail":"not an HTTP request"}"#,
        ),
    ]
}

#[test]
fn refusals_arrive_whole_over_plain_and_tls() {
    let (expired, revoked, rows) = (record(2), record(3), refused());
    for tls in [false, true] {
        let mut rig = Setup { tls, ..Setup::default() }.build();
        let ended = Some(rig.now.wall);
        rig.command(ToAccept::UpsertKey(Box::new(KeyRecord { expires_at: ended, ..expired.clone() })));
        rig.command(ToAccept::UpsertKey(Box::new(KeyRecord { revoked_at: ended, ..revoked.clone() })));
        rig.command(ToAccept::UpsertKey(Box::new(KeyRecord { max_connections: 0, ..record(4) })));
        for (head, status, header, body) in &rows {
            let expected = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n{header}\r\n{body}",
                body.len()
            );
            assert_eq!(rig.ask(head), expected, "{head}");
        }
        assert_eq!(rig.stats.refused(RefusalCode::InvalidApiKey), 2);
        assert_eq!(rig.stats.admitted.get(), 0);
        rig.until(|rig| (rig.stats.in_progress.get() == 0).then_some(()));
    }
}

#[test]
fn sixty_four_headers_are_allowed() {
    let mut rig = Setup::default().build();
    let key = format!("X-API-Key: {}\r\n", text(1));
    rig.admit(&request("/", &(key.clone() + &"X-A: b\r\n".repeat(64 - 6))));
    assert_eq!(rig.refusal(&request("/", &(key + &"X-A: b\r\n".repeat(65 - 6)))).0, 431);
}

#[test]
fn head_may_arrive_byte_by_byte() {
    for tls in [false, true] {
        let mut rig = Setup { tls, ..Setup::default() }.build();
        let mut client = rig.connect_ready();
        for byte in with_key(1).as_bytes() {
            rig.send(&mut client, &[*byte]);
        }
        assert!(rig.joined().early_bytes.is_empty());
    }
}

#[test]
fn slow_head_gets_408_after_five_seconds_in_all() {
    for tls in [false, true] {
        let mut rig = Setup { tls, ..Setup::default() }.build();
        let mut slow = rig.connect_ready();
        rig.until(|rig| (rig.stats.in_progress.get() == 1).then_some(()));
        for byte in b"GET / HTTP/1.1\r\nX" {
            rig.pass(Duration::from_millis(250));
            rig.send(&mut slow, &[*byte]);
        }
        rig.pass(Duration::from_millis(740));
        rig.step();
        assert_eq!(rig.stats.timeouts.get(), 0, "it has 10 ms left");
        rig.pass(Duration::from_millis(10));
        let answer = String::from_utf8(rig.read_all(&mut slow)).unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
        assert!(answer.ends_with(r#"{"error":"request_timeout","detail":"no complete request within 5 s"}"#));
        assert_eq!((rig.stats.timeouts.get(), rig.stats.in_progress.get()), (1, 1));
        rig.pass(limits::LINGER_TIMEOUT);
        rig.step();
        assert_eq!(rig.stats.in_progress.get(), 0, "nobody waits for it to close");
    }
}

#[test]
fn silent_tls_peer_is_dropped_after_five_seconds() {
    let mut rig = Setup { tls: true, ..Setup::default() }.build();
    let mut silent = rig.connect();
    let mut half = rig.connect();
    rig.send(&mut half, &[0x16, 3, 1, 2, 0, 1, 0, 1]);
    rig.until(|rig| (rig.stats.in_progress.get() == 2).then_some(()));
    rig.pass(limits::HANDSHAKE_TIMEOUT);
    assert!(rig.read_all(&mut silent).is_empty() && rig.read_all(&mut half).is_empty());
    assert_eq!((rig.stats.timeouts.get(), rig.stats.in_progress.get()), (2, 0));
}

#[test]
fn answer_nobody_reads_is_given_up() {
    let mut rig = Setup::default().build();
    for n in 1..=400 {
        rig.news.push(announcement(n)).unwrap();
        rig.step();
    }
    let mut client = rig.connect();
    let key = format!("X-API-Key: {}\r\n", text(1));
    socket2::SockRef::from(&client).set_recv_buffer_size(4_096).unwrap();
    rig.send(&mut client, format!("GET /v1/announcements?limit=400 HTTP/1.1\r\n{key}\r\n").as_bytes());
    rig.until(|rig| (rig.stats.history_answers.get() == 1).then_some(()));
    assert_eq!(rig.stats.in_progress.get(), 1, "more than the socket takes");
    rig.pass(limits::ANSWER_TIMEOUT);
    rig.step();
    assert_eq!(rig.stats.in_progress.get(), 0);
}

#[test]
fn what_is_not_tls_is_counted_and_dropped() {
    let mut rig = Setup { tls: true, ..Setup::default() }.build();
    let mut stray = rig.connect();
    rig.send(&mut stray, with_key(1).as_bytes());
    rig.read_all(&mut stray);
    assert_eq!(rig.stats.tls_failed(TlsFailure::NotTls), 1);
    drop(rig.connect());
    rig.until(|rig| (rig.stats.tls_failed(TlsFailure::Gone) == 1).then_some(()));
}

#[test]
fn second_connection_resumes_tls() {
    let mut rig = Setup { tls: true, ..Setup::default() }.build();
    // Reading the answer makes the client take the ticket.
    assert_eq!(rig.refusal(&request("/", "")).0, 401);
    assert_eq!(rig.refusal(&request("/", "")).0, 401);
    assert_eq!((rig.stats.tls_full.get(), rig.stats.tls_resumed.get()), (1, 1));
}

#[test]
fn ten_thousand_bad_handshakes_leave_nothing_behind() {
    let mut rig = Setup { tls: true, ..Setup::default() }.build();
    for round in 0..1_000 {
        let mut bad: Vec<Stream> = (0..10).map(|_| rig.connect()).collect();
        for (i, stream) in bad.iter_mut().enumerate().filter(|(i, _)| i % 3 != 0) {
            let garbage: &[u8] =
                if i % 3 == 1 { b"GET / HTTP/1.1\r\n\r\n" } else { &[0x16, 3, 1, 0, 4, 1, 0, 0, 0] };
            stream.write(garbage).unwrap();
        }
        drop(bad);
        if round % 10 == 9 {
            rig.until(|rig| (rig.stats.accepted.get() == (round + 1) * 10).then_some(()));
            rig.until(|rig| (rig.stats.in_progress.get() == 0).then_some(()));
        }
    }
    let failed: u64 = TlsFailure::ALL.into_iter().map(|f| rig.stats.tls_failed(f)).sum();
    assert_eq!(failed + rig.stats.gone.get(), 10_000);
    assert_eq!(rig.thread.free.len(), limits::HANDSHAKES_IN_PROGRESS);
    assert!(rig.thread.shares.is_empty() && rig.thread.tls_queue.is_empty());
    assert!(rig.thread.ready.capacity() <= 1_024 && rig.thread.tls_queue.capacity() <= 2_048);
    rig.admit(&with_key(1));
}

fn announcement(seq: u64) -> Arc<EncodedAnnouncement> {
    let at = WallUs::from_secs(1_699_999_000);
    Arc::new(encode(Announcement {
        id: format!("binance:{seq}"),
        position: FeedPosition { epoch: 3, seq },
        exchange: Exchange::Binance,
        title: format!("Notice {seq} {}", "x".repeat(500)),
        classification: Classification {
            listing_type: ListingType::SpotListing,
            tickers: vec![Ticker::new("ABC").unwrap()],
            markets: Vec::new(),
            rule: "test",
            confidence: 90,
            lang: Lang::En,
        },
        action: Action::Created,
        late: false,
        url: String::new(),
        notice_id: seq.to_string(),
        source: "test".to_owned(),
        published: at,
        received: at,
        detected: at,
        classified: at,
        effective_at: None,
    }))
}

#[test]
fn history_is_answered_with_the_same_key() {
    for tls in [false, true] {
        let mut rig = Setup { tls, ..Setup::default() }.build();
        for n in 1..=5 {
            rig.news.push(announcement(n)).unwrap();
        }
        let get = |query: &str, key: u64| {
            format!("GET /v1/announcements?{query} HTTP/1.1\r\nHost: h\r\nX-API-Key: {}\r\n\r\n", text(key))
        };
        let answer = rig.ask(&get("after=3:3&limit=1", 1));
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"), "{head}");
        let value: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(value["announcements"][0]["id"], "binance:4");
        assert_eq!((value["next"].as_str(), &value["gap"]), (Some("3:4"), &serde_json::Value::Null));
        assert_eq!(rig.refusal(&get("", 9)), (403, "invalid_api_key".to_owned()));
        assert_eq!(rig.stats.sessions.get(), 0, "a query is no session");
    }
}
