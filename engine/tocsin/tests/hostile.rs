//! Peers that mean harm, or behave as if they did, against the real binary. During each attack a
//! well-behaved subscriber must go on getting announcements, the engine's memory must stay within
//! [`GROWTH_BYTES`], and a counter must tell what happened.
//!
//! Everything is loopback. The well-behaved connect from 127.0.0.1, which is exempt from the limits
//! of an address; attackers from other addresses of 127.0.0.0/8, which are not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod harness;

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpStream};
use std::time::{Duration, Instant};

use harness::client::{client_frame, client_hello, open_tcp};
use harness::crowd::memory_of;
use harness::{Client, Engine, Handshake, Message, Mode, wait_for};
use serde_json::Value;

/// Most that the engine may grow under any attack, in bytes: 1,024 handshakes in progress with a full
/// head, early bytes and TLS buffers each, and some slack.
const GROWTH_BYTES: u64 = 40 * 1_024 * 1_024;
/// Longest time from an announcement to the well-behaved subscriber, on a machine that does much else.
const PROMPT: Duration = Duration::from_secs(10);

/// Runs every test of this file once plain and once over TLS.
macro_rules! both_modes {
    ($($name:ident),* $(,)?) => {
        mod plain { $(#[test] fn $name() { super::$name(super::Mode::Plain); })* }
        mod tls { $(#[test] fn $name() { super::$name(super::Mode::Tls); })* }
    };
}

both_modes!(
    heads_at_one_byte_a_second_are_ended_after_5_seconds,
    more_handshakes_than_fit_never_shut_out_new_subscribers,
    heads_over_their_bounds_are_431,
    bytes_one_by_one_are_as_good_as_all_at_once,
    peers_that_vanish_are_noticed,
    peers_that_read_nothing_are_too_slow,
    ten_thousand_bad_handshakes,
    connecting_and_closing_in_storms,
    floods_of_frames_and_endless_messages_are_closed,
);

/// An engine, and a well-behaved subscriber of it.
struct Siege {
    engine: Engine,
    key: String,
    witness: Client,
    before: u64,
    bells: u64,
}

impl Siege {
    fn lay(mode: Mode, extra: &str) -> Siege {
        tocsin::os::memory::raise_descriptor_limit().unwrap();
        let engine = Engine::start(mode, &format!("{extra}\n[feed.limits]\nexempt = [\"127.0.0.1/32\"]"));
        let flags = ["--tier", "enterprise", "--max-connections", "60000", "--allowed-cex", "*"];
        let (_, key) = engine.key_with(&flags);
        let witness = engine.connect(&key, "fields=full");
        let before = memory_of(engine.pid(), "VmRSS").unwrap();
        Siege { engine, key, witness, before, bells: 0 }
    }

    /// An announcement must reach the well-behaved subscriber.
    fn ring(&mut self) {
        self.ring_with("Binance Will List Steady Token (STDY)");
    }

    fn ring_with(&mut self, title: &str) {
        let from = Instant::now();
        self.engine.inject("binance", title);
        self.bells += 1;
        let got = self.witness.json_of("announcement");
        assert_eq!(got["seq"], self.bells, "none missing, none twice: {got}");
        assert!(from.elapsed() < PROMPT, "an announcement took {:?}", from.elapsed());
    }

    /// A number of `tocsin status`.
    fn count(&self, path: &str) -> u64 {
        count_in(&self.engine.cli_json(&["status"]), path)
    }

    /// Rings until `path` of the status shows `goal`.
    fn ring_until(&mut self, path: &str, goal: u64, patience: Duration) {
        let until = Instant::now() + patience;
        loop {
            self.ring();
            let count = self.count(path);
            assert!(count <= goal, "{path} is {count}, more than {goal}");
            if count == goal {
                return;
            }
            assert!(Instant::now() < until, "{path} is {count}, not {goal}, after {patience:?}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Still well: an announcement, a new subscriber, bounded memory.
    fn lift(mut self) {
        self.ring();
        let mut late = self.engine.connect(&self.key, "fields=full");
        self.ring();
        assert_eq!(late.json_of("announcement")["seq"], self.bells);
        let grown = memory_of(self.engine.pid(), "VmHWM").unwrap().saturating_sub(self.before);
        println!("grew by {} KiB at most", grown / 1_024);
        assert!(grown <= GROWTH_BYTES, "grew by {grown} bytes");
    }

    fn connect_from(&self, from: IpAddr) -> TcpStream {
        open_tcp(self.engine.feed, Some(from), None)
    }

    fn is_tls(&self) -> bool {
        self.engine.mode == Mode::Tls
    }
}

fn count_in(status: &Value, path: &str) -> u64 {
    status.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {path} in {status}"))
}

fn sum_in(status: &Value, path: &str) -> u64 {
    let counts = status.pointer(path).and_then(Value::as_object).unwrap();
    counts.values().filter_map(Value::as_u64).sum()
}

/// The `n`th attacking address.
fn attacker(n: usize) -> IpAddr {
    Ipv4Addr::new(127, 1, (n / 250) as u8, (n % 250 + 1) as u8).into()
}

/// Reads to the end of the connection; a reset is an end too.
fn drain(mut tcp: &TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    match tcp.read_to_end(&mut all) {
        Ok(_) => {}
        Err(e) if matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {}
        Err(e) => panic!("not closed: {e}, after {:?}", String::from_utf8_lossy(&all)),
    }
    all
}

// ---- Handshakes -------------------------------------------------------------------------------

/// FEED.md, "Handshake time": 5 s in all, over it 408 and closed.
fn heads_at_one_byte_a_second_are_ended_after_5_seconds(mode: Mode) {
    let mut siege = Siege::lay(mode, "");
    let slow: Vec<TcpStream> = (0..512).map(|n| siege.connect_from(attacker(n / 32))).collect();
    let hello = client_hello();
    let head = b"GET / HTTP/1.1\r\nHost: localhost\r\n";
    let bytes = if siege.is_tls() { hello.as_slice() } else { head };
    for byte in bytes.iter().take(7) {
        for mut tcp in &slow {
            // It may be closed by now, which is what this is about.
            let _ = tcp.write(&[*byte]);
        }
        siege.ring();
        std::thread::sleep(Duration::from_secs(1));
    }
    for tcp in &slow {
        let answer = drain(tcp);
        if !siege.is_tls() && !answer.is_empty() {
            assert!(answer.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&answer));
        }
    }
    let status = siege.engine.cli_json(&["status"]);
    assert_eq!(count_in(&status, "/accept/timeouts"), 512, "{status}");
    let refused = count_in(&status, "/accept/refused/request_timeout");
    assert_eq!(refused, if siege.is_tls() { 0 } else { 512 });
    siege.lift();
}

/// The engine takes 1,024 handshakes at a time.
fn more_handshakes_than_fit_never_shut_out_new_subscribers(mode: Mode) {
    let mut siege = Siege::lay(mode, "");
    let hello = client_hello();
    let part: &[u8] = if siege.is_tls() { &hello[..hello.len() / 2] } else { b"GET / HTTP/1.1\r\n" };
    let waiting: Vec<TcpStream> = (0..2_000)
        .map(|n| {
            let mut tcp = siege.connect_from(attacker(n / 50));
            // Those over the share of their address may be closed by now.
            let _ = tcp.write_all(part);
            tcp
        })
        .collect();
    siege.ring();
    // Forty addresses do not get all places, however many they ask for.
    let status = siege.engine.cli_json(&["status"]);
    let in_progress = count_in(&status, "/accept/handshakes_in_progress");
    assert!((1..1_024).contains(&in_progress), "{status}");
    assert!(count_in(&status, "/accept/over_share") >= 500, "{status}");
    for _ in 0..3 {
        let from = Instant::now();
        let mut late = siege.engine.connect(&siege.key, "fields=full");
        println!("a new subscriber waited {:?}", from.elapsed());
        siege.ring();
        assert_eq!(late.json_of("announcement")["seq"], siege.bells);
    }
    drop(waiting);
    siege.lift();
}

/// FEED.md, "Handshake time": 8 KiB of head, 64 headers; over it 431.
fn heads_over_their_bounds_are_431(mode: Mode) {
    let mut siege = Siege::lay(mode, "");
    let long = Handshake::new("").header("X-API-Key", &siege.key);
    let mut many = long.clone();
    many.headers.extend((0..64).map(|n| (format!("X-{n}"), "y".to_owned())));
    let mut line = long.clone();
    line.target = format!("/?cex={}", "b".repeat(9_000));
    let heads = [long.header("X-Padding", &"x".repeat(8 * 1_024)), many, line];
    for head in &heads {
        let refused = head.clone().from("127.1.0.9").refused(&siege.engine);
        assert_eq!((refused.status, refused.json()["error"].as_str()), (431, Some("headers_too_large")));
    }
    // A head that never ends is answered when it passes the bound, however much follows.
    let endless = b"GET / HTTP/1.1\r\nX-A: ".iter().copied().chain(std::iter::repeat_n(b'a', 400_000));
    let endless: Vec<u8> = endless.collect();
    if !siege.is_tls() {
        for n in 0..100 {
            let mut tcp = siege.connect_from(attacker(n));
            let _ = tcp.write_all(&endless);
            drain(&tcp);
        }
        siege.ring();
        assert_eq!(siege.count("/accept/refused/headers_too_large"), 103);
    } else {
        assert_eq!(siege.count("/accept/refused/headers_too_large"), 3);
    }
    siege.lift();
}

/// RFC 6455 and TCP: pieces mean nothing.
fn bytes_one_by_one_are_as_good_as_all_at_once(mode: Mode) {
    let mut siege = Siege::lay(mode, "");
    let mut client = Handshake::new("").header("X-API-Key", &siege.key);
    client.trickle = true;
    let mut client = client.from("127.1.0.1").connect(&siege.engine).unwrap_or_else(|h| panic!("{h:?}"));
    assert_eq!(client.json()["type"], "welcome");
    let mut fragments = client_frame(0x01, b"{\"type\"");
    fragments.extend(client_frame(0x89, b"between"));
    fragments.extend(client_frame(0x80, b":\"test\"}"));
    for byte in fragments {
        assert!(client.send_raw(&[byte]));
    }
    assert_eq!(client.message(), Message::Pong(b"between".to_vec()));
    assert_eq!(client.json()["type"], "test_announcement");
    siege.ring();
    assert_eq!(client.json_of("announcement")["ticker"], "STDY");
    siege.lift();
}

/// Every byte sequence that is no request, 10,000 times, from 200 addresses.
fn ten_thousand_bad_handshakes(mode: Mode) {
    let mut siege = Siege::lay(mode, "");
    let hello = client_hello();
    let mut broken_hello = hello.clone();
    broken_hello[9..40].fill(0xff);
    let kinds: [&[u8]; 8] = [
        b"\x00\x01\x02\x03\xff\xfe\xfd\x80\x81\x82",
        b"GET /\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
        if mode == Mode::Tls { &broken_hello } else { &hello },
        b"\x16\x03\x01\x00\x00\x16\x03\x01\x00\x00",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0xff; 2_048],
    ];
    let siege_ref = &siege;
    std::thread::scope(|scope| {
        for worker in 0..4 {
            scope.spawn(move || {
                for n in (worker..10_000).step_by(4) {
                    let mut tcp = siege_ref.connect_from(attacker(n % 200));
                    let _ = tcp.write_all(kinds[n % kinds.len()]);
                    let _ = tcp.shutdown(Shutdown::Write);
                    drain(&tcp);
                }
            });
        }
    });
    siege.ring();
    wait_for("the last of them to end", || siege.count("/accept/handshakes_in_progress") == 0);
    let status = siege.engine.cli_json(&["status"]);
    let told = sum_in(&status, "/accept/refused")
        + sum_in(&status, "/accept/tls_failed")
        + count_in(&status, "/accept/gone");
    assert_eq!(told, 10_000, "{status}");
    assert_eq!(count_in(&status, "/accept/admitted"), 1, "{status}");
    siege.lift();
}

/// Connections that say nothing and are gone: with FIN, with RST, before they are accepted.
fn connecting_and_closing_in_storms(mode: Mode) {
    let mut siege = Siege::lay(mode, "");
    for n in 0..6_000 {
        let tcp = siege.connect_from(attacker(n % 200));
        if n % 2 == 0 {
            socket2::SockRef::from(&tcp).set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(tcp);
        if n % 1_500 == 0 {
            siege.ring();
        }
    }
    wait_for("the last of them to end", || siege.count("/accept/handshakes_in_progress") == 0);
    let status = siege.engine.cli_json(&["status"]);
    let gone = count_in(&status, "/accept/gone")
        + count_in(&status, "/accept/tls_failed/gone")
        + count_in(&status, "/accept/over_share");
    // A connection reset in the backlog is never handed out by the kernel.
    assert_eq!(gone, count_in(&status, "/accept/accepted") - 1, "{status}");
    assert!(gone >= 3_000, "{status}");
    siege.lift();
}

// ---- Sessions ---------------------------------------------------------------------------------

fn hostile_sessions(siege: &Siege, count: usize, query: &str, receive_buffer: Option<usize>) -> Vec<Client> {
    let session = |n| {
        let mut handshake = Handshake::new(query).header("X-API-Key", &siege.key);
        handshake.from = Some(attacker(n));
        handshake.receive_buffer = receive_buffer;
        handshake.connect(&siege.engine).unwrap_or_else(|h| panic!("{h:?}"))
    };
    (0..count).map(session).collect()
}

/// Specification: "If the server receives no PONG within 30 seconds, it closes your connection."
fn peers_that_vanish_are_noticed(mode: Mode) {
    let mut siege = Siege::lay(mode, "");
    let _vanished = hostile_sessions(&siege, 60, "types=futures_listing", None);
    siege.ring_until("/feed/closed/pong_timeout", 60, Duration::from_secs(100));
    wait_for("their places", || siege.count("/accept/sessions") == 1);
    siege.lift();
}

/// Specification: "You fell 10+ messages behind (lagging consumer)".
fn peers_that_read_nothing_are_too_slow(mode: Mode) {
    let mut siege = Siege::lay(mode, "[feed]\nsend_buffer = \"4KiB\"");
    let _deaf = hostile_sessions(&siege, 40, "fields=full", Some(2_048));
    let title = format!("A long announcement {}", "about nothing in particular ".repeat(34));
    let until = Instant::now() + Duration::from_secs(25);
    while siege.count("/feed/closed/too_slow") < 40 {
        assert!(Instant::now() < until, "{}", siege.engine.cli_json(&["status"])["feed"]);
        siege.ring_with(&title);
    }
    wait_for("their places", || siege.count("/accept/sessions") == 1);
    siege.lift();
}

/// Specification, "Client message limits"; FEED.md, "Client messages" and "Size".
fn floods_of_frames_and_endless_messages_are_closed(mode: Mode) {
    let mut siege = Siege::lay(mode, "");
    let mut endless = client_frame(0x02, b"begin");
    (0..2_000).for_each(|_| endless.extend(client_frame(0x00, b"a")));
    let mut empty = client_frame(0x02, b"");
    (0..2_000).for_each(|_| empty.extend(client_frame(0x00, b"")));
    let huge = [vec![0x82, 0xff], u64::MAX.to_be_bytes().map(|b| b & 0x7f).to_vec(), vec![0; 4_096]].concat();
    let floods = [
        ("rate_limit_exceeded", client_frame(0x82, b"{}").repeat(2_000)),
        ("control_flood", client_frame(0x89, &[7; 125]).repeat(2_000)),
        ("control_flood", client_frame(0x8a, b"").repeat(2_000)),
        ("frame_too_large", endless),
        ("frame_too_large", huge),
        ("protocol_error", empty),
        ("protocol_error", vec![0xff; 100_000]),
    ];
    let (siege_ref, floods_ref) = (&siege, &floods);
    std::thread::scope(|scope| {
        for round in 0..4 {
            scope.spawn(move || {
                for (n, (_, bytes)) in floods_ref.iter().enumerate() {
                    let mut handshake = Handshake::new("").header("X-API-Key", &siege_ref.key);
                    handshake.from = Some(attacker(round * floods_ref.len() + n));
                    let mut client = handshake.connect(&siege_ref.engine).unwrap_or_else(|h| panic!("{h:?}"));
                    // As fast as it can, until it is cut off.
                    for _ in 0..20 {
                        if !client.send_raw(bytes) {
                            break;
                        }
                    }
                    while client.frame().is_some() {}
                }
            });
        }
    });
    siege.ring();
    wait_for("their places", || siege.count("/accept/sessions") == 1);
    for (reason, each) in
        [("rate_limit_exceeded", 4), ("control_flood", 8), ("frame_too_large", 8), ("protocol_error", 8)]
    {
        // The feed writer publishes its counters a few times a second.
        siege.ring_until(&format!("/feed/closed/{reason}"), each, Duration::from_secs(10));
    }
    siege.lift();
}
