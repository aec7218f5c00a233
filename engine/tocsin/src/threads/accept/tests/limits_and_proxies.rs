//! What many connections get: limits, keys that change, full rings, proxies.

use super::*;

#[test]
fn key_connections_are_refused_at_the_limit_and_come_back() {
    let mut rig = Setup::default().build();
    rig.command(ToAccept::UpsertKey(Box::new(KeyRecord { max_connections: 2, ..record(1) })));
    let (_a, first) = rig.admit(&with_key(1));
    let (_b, _second) = rig.admit(&with_key(1));
    let answer = rig.ask(&with_key(1));
    assert!(answer.ends_with(r#"{"error":"max_connections_reached","limit":2,"current":2}"#), "{answer}");
    rig.release(&first);
    rig.admit(&with_key(1));
}

#[test]
fn address_rate_slides_and_concurrent_connections_are_bounded() {
    let mut rig = Setup { exempt: false, ..Setup::default() }.build();
    let mut held = Vec::new();
    for _ in 0..10 {
        held.push(rig.admit(&with_key(1)));
    }
    rig.pass(Duration::from_secs(20));
    for _ in 0..30 {
        let answer = rig.ask(&with_key(1));
        assert!(answer.contains("\r\nRetry-After: 40\r\n"), "{answer}");
        assert!(
            answer.ends_with(r#"{"error":"ip_rate_limited","limit":10,"retryAfterSecs":40}"#),
            "{answer}"
        );
    }
    rig.pass(Duration::from_secs(40));
    for _ in 0..10 {
        held.push(rig.admit(&with_key(1)));
    }
    rig.pass(Duration::from_secs(60));
    let answer = rig.ask(&with_key(1));
    assert!(answer.ends_with(r#"{"error":"ip_connections_reached","limit":20,"current":20}"#), "{answer}");
    let (_, session) = held.pop().unwrap();
    rig.release(&session);
    rig.admit(&with_key(1));
}

#[test]
fn ten_failed_authentications_lock_the_address_for_the_minute() {
    let mut rig = Setup { exempt: false, ..Setup::default() }.build();
    for _ in 0..10 {
        assert_eq!(rig.refusal(&with_key(9)), (403, "invalid_api_key".to_owned()));
    }
    rig.pass(Duration::from_secs(15));
    let answer = rig.ask(&with_key(1));
    assert!(
        answer.starts_with("HTTP/1.1 429 Too Many Requests\r\n")
            && answer.contains("\r\nRetry-After: 45\r\n")
    );
    assert!(answer.ends_with(r#"{"error":"auth_failures","retryAfterSecs":45}"#), "{answer}");
    rig.pass(Duration::from_secs(45));
    rig.admit(&with_key(1));
}

#[test]
fn key_made_after_its_failure_works_at_once() {
    let mut rig = Setup::default().build();
    assert_eq!(rig.refusal(&with_key(7)).0, 403);
    rig.command(ToAccept::UpsertKey(Box::new(record(7))));
    rig.admit(&with_key(7));
}

#[test]
fn revocation_never_overtakes_a_session_and_full_rings_lose_nothing() {
    let mut rig = Setup { ring: 1, ..Setup::default() }.build();
    let mut clients = Vec::new();
    for admitted in 1..=3 {
        let mut client = rig.connect();
        rig.send(&mut client, with_key(1).as_bytes());
        rig.until(|rig| (rig.stats.admitted.get() == admitted).then_some(()));
        clients.push(client);
    }
    rig.command(ToAccept::RevokeKey(KeyId(1)));
    assert_eq!(rig.stats.waiting_for_writers.get(), 3);
    assert_eq!(rig.step().deadline, rig.now.mono + RETRY_WAIT);
    assert_eq!(rig.refusal(&with_key(1)), (403, "key_revoked".to_owned()));
    for _ in 0..3 {
        rig.joined();
    }
    assert!(matches!(rig.message(), AcceptToFeed::Revoke(KeyId(1))));
    rig.step();
    assert_eq!(rig.stats.waiting_for_writers.get(), 0);
}

#[test]
fn changed_end_reaches_sessions_and_expired_keys_are_refused() {
    let mut rig = Setup::default().build();
    let end = Some(WallUs(rig.now.wall.0 + 10_000_000));
    rig.command(ToAccept::UpsertKey(Box::new(record(1))));
    rig.command(ToAccept::UpsertKey(Box::new(KeyRecord { expires_at: end, ..record(1) })));
    match rig.message() {
        AcceptToFeed::Expiry(KeyId(1), told) => assert_eq!(told, end),
        _ => panic!("the end moved"),
    }
    let (_client, session) = rig.admit(&with_key(1));
    assert_eq!(session.subscription.expires_at, end);
    assert!(session.greeting.ends_with(br#""expiresInSecs":10}"#));
    rig.pass(Duration::from_secs(10));
    assert_eq!(rig.refusal(&with_key(1)), (403, "key_expired".to_owned()));
}

#[test]
fn drain_stops_listening_and_tells_writers() {
    let mut rig = Setup::default().build();
    let mut waiting = rig.connect();
    rig.until(|rig| (rig.stats.in_progress.get() == 1).then_some(()));
    let until = rig.now.mono + Duration::from_secs(5);
    rig.command(ToAccept::Drain(until));
    assert!(matches!(rig.message(), AcceptToFeed::Drain(at) if at == until));
    assert!(rig.read_all(&mut waiting).is_empty());
    assert!(std::net::TcpStream::connect(rig.address).is_err());
}

#[test]
fn full_server_says_so() {
    let mut rig = Setup { max_connections: 1, ..Setup::default() }.build();
    let (_client, session) = rig.admit(&with_key(1));
    let answer = rig.ask(&with_key(1));
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with(r#"{"error":"server_full","limit":1}"#));
    rig.release(&session);
    rig.admit(&with_key(1));
}

#[test]
fn half_open_flood_of_one_address_leaves_room_for_others() {
    let mut rig = Setup { exempt: false, ..Setup::default() }.build();
    let share = u64::from(limits::HANDSHAKES_PER_ADDRESS);
    let flood: Vec<Stream> = (0..share + 5).map(|_| rig.connect()).collect();
    rig.until(|rig| (rig.stats.accepted.get() == share + 5).then_some(()));
    assert_eq!((rig.stats.in_progress.get(), rig.stats.over_share.get()), (share, 5));
    drop(flood);
    rig.until(|rig| (rig.stats.in_progress.get() == 0).then_some(()));
    assert!(rig.thread.shares.is_empty());
    rig.admit(&with_key(1));
}

#[test]
fn an_address_gets_fewer_handshakes_as_places_become_few() {
    let mut rig = Setup { exempt: false, ..Setup::default() }.build();
    rig.thread.free.truncate(6 * limits::HANDSHAKE_PLACES_PER_SHARE);
    let _flood: Vec<Stream> = (0..20).map(|_| rig.connect()).collect();
    rig.until(|rig| (rig.stats.accepted.get() == 20).then_some(()));
    assert_eq!(rig.stats.over_share.get(), 15, "five are a fifteenth of what is left");
    let mut rig = Setup { exempt: false, ..Setup::default() }.build();
    rig.thread.free.truncate(8);
    let _few: Vec<Stream> = (0..20).map(|_| rig.connect()).collect();
    rig.until(|rig| (rig.stats.accepted.get() == 20).then_some(()));
    let least = u64::from(limits::HANDSHAKES_PER_ADDRESS_AT_LEAST);
    assert_eq!(rig.stats.over_share.get(), 20 - least);
}

#[test]
fn at_the_bound_of_handshakes_the_listener_waits() {
    let mut rig = Setup::default().build();
    rig.thread.free.truncate(2);
    let (first, _second) = (rig.connect(), rig.connect());
    let mut third = rig.connect();
    rig.until(|rig| (rig.stats.accepted.get() == 2).then_some(()));
    rig.send(&mut third, with_key(1).as_bytes());
    for _ in 0..100 {
        rig.step();
    }
    assert_eq!(rig.stats.accepted.get(), 2);
    drop(first);
    rig.joined();
    assert_eq!(rig.stats.accepted.get(), 3);
}

/// Sends a PROXY header that names `source`, then shakes hands if the rig serves TLS.
fn proxied(rig: &mut Rig, source: &str) -> Stream {
    let family = if source.contains(':') { "TCP6" } else { "TCP4" };
    let header = format!("PROXY {family} {source} {source} 1 2\r\n");
    let tcp = std::net::TcpStream::connect(rig.address).unwrap();
    io::Write::write_all(&mut &tcp, header.as_bytes()).unwrap();
    tcp.set_nonblocking(true).unwrap();
    let tcp = TcpStream::from_std(tcp);
    let Some(client) = rig.client.clone() else { return Stream::plain(tcp) };
    let mut stream = Stream::connect_tls(tcp, &client, "localhost").unwrap();
    rig.until(|_| stream.handshake().unwrap().then_some(()));
    stream
}

#[test]
fn proxy_header_names_the_client_and_ipv6_counts_by_64_bits() {
    for tls in [false, true] {
        let mut rig = Setup { tls, proxies: true, exempt: false, ..Setup::default() }.build();
        let mut held = Vec::new();
        for n in 0..10 {
            let mut client = proxied(&mut rig, &format!("2001:db8:0:7::{n:x}"));
            rig.send(&mut client, with_key(1).as_bytes());
            let session = rig.joined();
            assert_eq!(session.address, "2001:db8:0:7::".parse::<IpAddr>().unwrap());
            held.push((client, session));
        }
        let mut same = proxied(&mut rig, "2001:db8:0:7:ffff::1");
        rig.send(&mut same, with_key(1).as_bytes());
        let answer = String::from_utf8(rig.read_all(&mut same)).unwrap();
        assert!(answer.contains("ip_rate_limited"), "{answer}");
        for other in ["2001:db8:0:8::1", "192.0.2.1"] {
            let mut client = proxied(&mut rig, other);
            rig.send(&mut client, with_key(1).as_bytes());
            rig.joined();
        }
    }
}

#[test]
fn proxy_header_may_arrive_in_pieces_and_must_come() {
    let mut rig = Setup { proxies: true, exempt: false, ..Setup::default() }.build();
    let mut client = rig.connect();
    for byte in format!("PROXY TCP4 192.0.2.9 192.0.2.1 1 2\r\n{}", with_key(1)).as_bytes() {
        rig.send(&mut client, &[*byte]);
    }
    assert_eq!(rig.joined().address, "192.0.2.9".parse::<IpAddr>().unwrap());
    let mut without = rig.connect();
    rig.send(&mut without, with_key(1).as_bytes());
    assert!(rig.read_all(&mut without).is_empty());
    assert_eq!(rig.stats.not_proxied.get(), 1);
    let _silent = rig.connect();
    rig.until(|rig| (rig.stats.in_progress.get() == 1).then_some(()));
    rig.pass(limits::HANDSHAKE_TIMEOUT);
    rig.step();
    assert_eq!((rig.stats.timeouts.get(), rig.stats.in_progress.get()), (1, 0));
}

#[test]
fn peer_that_is_no_trusted_proxy_cannot_name_another_client() {
    let mut rig = Setup { exempt: false, ..Setup::default() }.build();
    let forged = with_key(1).replace("Host", "X-Forwarded-For: 192.0.2.5\r\nHost");
    let (_client, session) = rig.admit(&forged);
    assert_eq!(session.address, "127.0.0.1".parse::<IpAddr>().unwrap());
    let answer = rig.ask(&format!("PROXY TCP4 192.0.2.9 192.0.2.1 1 2\r\n{}", with_key(1)));
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[test]
fn trusted_forwarder_names_the_client() {
    let mut rig = Setup { forwarders: true, exempt: false, ..Setup::default() }.build();
    let head = with_key(1).replace("Host", "X-Forwarded-For: 10.9.9.9, 192.0.2.5, 127.0.0.2\r\nHost");
    let (_client, session) = rig.admit(&head);
    assert_eq!(session.address, "192.0.2.5".parse::<IpAddr>().unwrap());
}

#[test]
fn runs_as_a_thread_and_wakes_for_commands() {
    let Rig { mut thread, stats, mut commands, mut to_feed, address, .. } = Setup::default().build();
    let (stop, pulse) = (Arc::new(AtomicBool::new(false)), Pulse::default());
    let waker = thread.waker();
    let running = Arc::clone(&stop);
    let handle = std::thread::spawn(move || {
        thread.run(&running, &pulse);
        pulse.last_turn() > Mono(0)
    });
    let mut client = std::net::TcpStream::connect(address).unwrap();
    io::Write::write_all(&mut client, with_key(1).as_bytes()).unwrap();
    let mut message = || loop {
        if let Ok(message) = to_feed.pop() {
            return message;
        }
        std::thread::yield_now();
    };
    assert!(matches!(message(), AcceptToFeed::Join(_)));
    commands.push(ToAccept::RevokeKey(KeyId(1))).unwrap();
    waker.wake().unwrap();
    assert!(matches!(message(), AcceptToFeed::Revoke(KeyId(1))));
    stop.store(true, Ordering::Relaxed);
    waker.wake().unwrap();
    assert!(handle.join().unwrap());
    assert_eq!((stats.admitted.get(), stats.in_progress.get()), (1, 0));
}
