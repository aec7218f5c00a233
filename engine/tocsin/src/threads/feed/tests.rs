//! The thread over real loopback sockets, single-stepped on a clock by hand.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use mio::net::TcpStream;
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tocsin_core::feed::close::CloseReason;
use tocsin_core::feed::key::{KeyId, KeyShared};
use tocsin_core::feed::subscription::{FieldSet, Filter, FrameKind, Subscription};
use tocsin_core::limits;
use tocsin_core::model::{
    Action, Announcement, Classification, Exchange, ExchangeSet, FeedPosition, Lang, ListingType,
    ListingTypeSet, Ticker,
};
use tocsin_core::time::WallUs;
use tocsin_core::wire::extra::{Extra, ExtraKind, Extras};
use tocsin_core::wire::{Payload, encode};
use tocsin_core::ws::frame::write_frame;
use tocsin_core::ws::session::Event;
use tocsin_core::ws::{CloseCode, Opcode, Role, Session, SessionLimits};

use super::*;
use crate::net::Stream;
use crate::net::tls::{ClientTls, ClientTrust, ServerTls};
use crate::os::sockopt::tune_subscriber;

const EPOCH: u64 = 3;
/// Seconds since the epoch at the start of every test.
const START_SECS: u64 = 1_760_000_000;

struct Client {
    stream: Stream,
    session: Session,
    got: Vec<String>,
    ended: bool,
}

struct Bench {
    thread: FeedThread,
    listener: TcpListener,
    clock_ns: Arc<AtomicU64>,
    source: Producer<SourceToFeed>,
    market: Producer<MarketToFeed>,
    accept: Producer<AcceptToFeed>,
    released: Consumer<Released>,
    clients: Vec<Client>,
    tls: Option<(ServerTls, ClientTls)>,
    seq: u64,
}

fn subscription() -> Subscription {
    Subscription {
        key: Arc::new(KeyShared::new(KeyId(1))),
        allowed: ExchangeSet::ALL,
        expires_at: None,
        filter: Filter { exchanges: ExchangeSet::ALL, types: ListingTypeSet::ALL, tickers: None },
        frames: FrameKind::Binary,
        fields: FieldSet::Full,
        sources: false,
        extras: Extras::default(),
        redact: false,
        delay: Duration::ZERO,
        resume: None,
    }
}

fn now_of(clock_ns: &AtomicU64) -> Now {
    let ns = clock_ns.load(Ordering::Relaxed);
    Now { mono: Mono(ns), wall: WallUs((START_SECS * 1_000_000 + ns / 1_000) as i64) }
}

impl Bench {
    fn new() -> Bench {
        let clock_ns = Arc::new(AtomicU64::new(1_000_000_000));
        let (source, from_source) = rtrb::RingBuffer::new(64);
        let (market, from_market) = rtrb::RingBuffer::new(64);
        let (accept, from_accept) = rtrb::RingBuffer::new(64);
        let (to_accept, released) = rtrb::RingBuffer::new(64);
        let rings = FeedRings {
            sources: vec![from_source],
            market: Some(from_market),
            accept: from_accept,
            released: to_accept,
            looked: rtrb::RingBuffer::new(2).0,
        };
        let clock = Arc::clone(&clock_ns);
        let thread = FeedThread::new(
            rings,
            History::new(EPOCH, limits::HISTORY_IN_MEMORY, [], true),
            Arc::new(FeedStats::default()),
            7,
            Box::new(move || now_of(&clock)),
        )
        .unwrap();
        Bench {
            thread,
            listener: TcpListener::bind("127.0.0.1:0").unwrap(),
            clock_ns,
            source,
            market,
            accept,
            released,
            clients: Vec::new(),
            tls: None,
            seq: 0,
        }
    }

    fn with_tls() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let mut bench = Bench::new();
        let server = ServerTls::self_signed(dir.path(), "127.0.0.1:0".parse().unwrap()).unwrap();
        let client = ClientTls::new(&ClientTrust { ca_file: None, insecure: true }).unwrap();
        bench.tls = Some((server, client));
        bench
    }

    fn now(&self) -> Now {
        now_of(&self.clock_ns)
    }

    fn join(&mut self, subscription: Subscription) -> usize {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        socket.connect(&self.listener.local_addr().unwrap().into()).unwrap();
        socket.set_nonblocking(true).unwrap();
        let client = TcpStream::from_std(socket.into());
        let (server, _) = self.listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        let server = TcpStream::from_std(server);
        tune_subscriber(&server, 4_096).unwrap();
        let (mut server, mut client) = match &self.tls {
            None => (Stream::plain(server), Stream::plain(client)),
            Some((server_tls, client_tls)) => (
                Stream::accept_tls(server, server_tls).unwrap(),
                Stream::connect_tls(client, client_tls, "localhost").unwrap(),
            ),
        };
        while !(server.handshake().unwrap() & client.handshake().unwrap()) {}
        let mut greeting = b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec();
        write_frame(&mut greeting, Opcode::Binary, br#"{"type":"welcome"}"#, None);
        let session = LiveSession {
            stream: server,
            subscription,
            greeting,
            early_bytes: Vec::new(),
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            accepted_at: self.now().mono,
        };
        assert!(self.accept.push(AcceptToFeed::Join(Box::new(session))).is_ok());
        self.step();
        // The response head comes first; what follows it are frames.
        let mut head = [0; 36];
        let mut have = 0;
        while have < head.len() {
            match client.read(&mut head[have..]) {
                Ok(count) => have += count,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        assert!(head.ends_with(b"\r\n\r\n"));
        let session = Session::new(Role::Client, SessionLimits::same(1 << 20));
        self.clients.push(Client { stream: client, session, got: Vec::new(), ended: false });
        self.clients.len() - 1
    }

    fn step(&mut self) {
        let now = self.now();
        self.thread.step(now);
    }

    /// Moves the clock and steps; every client that is read answers its pings.
    fn advance(&mut self, by: Duration) {
        let target = self.clock_ns.load(Ordering::Relaxed) + by.as_nanos() as u64;
        while self.clock_ns.load(Ordering::Relaxed) < target {
            let left = target - self.clock_ns.load(Ordering::Relaxed);
            self.clock_ns.fetch_add(left.min(1_000_000_000), Ordering::Relaxed);
            for _ in 0..4 {
                self.step();
                for client in 0..self.clients.len() {
                    self.read(client);
                }
            }
        }
    }

    fn push(&mut self, title: &str, exchange: Exchange) {
        self.queue(title, exchange);
        self.step();
    }

    /// Into the ring, and no further.
    fn queue(&mut self, title: &str, exchange: Exchange) {
        self.seq += 1;
        let now = self.now().wall;
        let announcement = Announcement {
            id: format!("{}:{}", exchange.name(), self.seq),
            position: FeedPosition { epoch: EPOCH, seq: self.seq },
            exchange,
            title: title.to_owned(),
            classification: Classification {
                listing_type: ListingType::SpotListing,
                tickers: vec![Ticker::new("TOKEN").unwrap()],
                markets: Vec::new(),
                rule: "test",
                confidence: 90,
                lang: Lang::En,
            },
            action: Action::Created,
            late: false,
            url: String::new(),
            notice_id: self.seq.to_string(),
            source: "test".to_owned(),
            published: now,
            received: now,
            detected: now,
            classified: now,
            effective_at: None,
        };
        assert!(self.source.push(SourceToFeed::Announcement(Arc::new(encode(announcement)))).is_ok());
    }

    fn announce(&mut self) {
        self.push("Binance Will List Token (TOKEN)", Exchange::Binance);
    }

    /// Reads what there is.
    fn read(&mut self, client: usize) {
        let Client { stream, session, got, ended } = &mut self.clients[client];
        let mut buffer = [0; 4_096];
        let mut answers = Vec::new();
        while !*ended {
            let count = match stream.read(&mut buffer) {
                Ok(0) => {
                    *ended = true;
                    break;
                }
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            };
            let flow = session.receive::<()>(&mut buffer[..count], &mut |event| {
                match event {
                    Event::Binary(bytes) => {
                        let value: Value = serde_json::from_slice(bytes).unwrap();
                        let seq = value["seq"].as_u64().map_or(String::new(), |seq| format!(" {seq}"));
                        let again = if value["replayed"] == true { " again" } else { "" };
                        got.push(format!("{}{seq}{again}", value["type"].as_str().unwrap()));
                    }
                    Event::Ping(payload) => {
                        write_frame(&mut answers, Opcode::Pong, payload, Some([9, 8, 7, 6]));
                    }
                    Event::Close { code, reason } => {
                        let CloseCode(code) = code.unwrap();
                        got.push(format!("close {code} {reason}"));
                        let payload = code.to_be_bytes();
                        write_frame(&mut answers, Opcode::Close, &payload, Some([1, 1, 1, 1]));
                    }
                    other => panic!("{other:?}"),
                }
                ControlFlow::Continue(())
            });
            assert!(flow.is_ok(), "{flow:?}");
        }
        if !answers.is_empty() && !*ended {
            assert_eq!(stream.write(&answers).unwrap(), answers.len());
        }
    }

    fn say(&mut self, client: usize, json: &str) {
        let mut frame = Vec::new();
        write_frame(&mut frame, Opcode::Text, json.as_bytes(), Some([5, 6, 7, 8]));
        assert_eq!(self.clients[client].stream.write(&frame).unwrap(), frame.len());
    }

    /// Steps and reads until the client has got `wanted` since the last time.
    fn expect(&mut self, client: usize, wanted: &[&str]) {
        let started = Instant::now();
        while self.clients[client].got.len() < wanted.len() && started.elapsed().as_secs() < 20 {
            self.step();
            self.read(client);
        }
        assert_eq!(std::mem::take(&mut self.clients[client].got), wanted);
    }

    fn expect_end(&mut self, client: usize) {
        let started = Instant::now();
        while !self.clients[client].ended && started.elapsed().as_secs() < 20 {
            self.step();
            self.read(client);
        }
        assert!(self.clients[client].ended);
    }

    fn released(&mut self) -> usize {
        std::iter::from_fn(|| self.released.pop().ok()).count()
    }

    fn closes(&self, reason: CloseReason) -> u64 {
        self.thread.writer.counters().closes[reason.index()]
    }
}

#[test]
fn welcome_announcement_heartbeat_plain_and_tls() {
    for mut bench in [Bench::new(), Bench::with_tls()] {
        let client = bench.join(subscription());
        bench.expect(client, &["welcome"]);
        bench.announce();
        bench.announce();
        bench.expect(client, &["announcement 1", "announcement 2"]);
        bench.advance(Duration::from_secs(61));
        bench.expect(client, &["heartbeat", "heartbeat"]);
        let day: Vec<&str> = std::iter::repeat_n("heartbeat", 120).collect();
        bench.advance(Duration::from_secs(3_600));
        bench.expect(client, &day);
        assert_eq!(bench.released(), 0);
        assert_eq!(bench.thread.stats.heartbeats.load(Ordering::Relaxed), 122);
        assert!(bench.thread.stats.rtt_us.read().buckets.iter().sum::<u64>() >= 240);
        assert_eq!(bench.thread.stats.fanout_last_ns.read().buckets.iter().sum::<u64>(), 2);
    }
}

#[test]
fn what_waits_in_the_ring_leaves_together_and_counts_apart() {
    for mut bench in [Bench::new(), Bench::with_tls()] {
        let mut wanted = subscription();
        wanted.filter.exchanges = ExchangeSet::EMPTY.with(Exchange::Binance);
        let (all, some) = (bench.join(subscription()), bench.join(wanted));
        bench.expect(all, &["welcome"]);
        bench.expect(some, &["welcome"]);
        for exchange in [Exchange::Binance, Exchange::Upbit, Exchange::Binance] {
            bench.queue("Will List Token (TOKEN)", exchange);
        }
        bench.step();
        assert_eq!(bench.thread.writer.counters().messages, 5, "one turn");
        bench.expect(all, &["announcement 1", "announcement 2", "announcement 3"]);
        bench.expect(some, &["announcement 1", "announcement 3"]);
        assert_eq!((bench.thread.first_ns.count(), bench.thread.last_ns.count()), (3, 3));
    }
}

#[test]
fn one_that_does_not_read_is_closed_and_the_others_get_everything() {
    for mut bench in [Bench::new(), Bench::with_tls()] {
        let (quick, slow) = (bench.join(subscription()), bench.join(subscription()));
        bench.expect(quick, &["welcome"]);
        let title = "x".repeat(limits::TITLE_BYTES);
        while bench.thread.writer.counters().closes == [0; CloseReason::ALL.len()] {
            bench.push(&title, Exchange::Binance);
            let seq = bench.seq;
            assert!(seq < 400, "never too slow");
            bench.expect(quick, &[&format!("announcement {seq}")]);
            // The timer lets its two seconds pass.
            bench.clock_ns.fetch_add(if seq > 150 { 1_000_000_000 } else { 1_000_000 }, Ordering::Relaxed);
            if seq % 10 == 0 {
                bench.read(quick);
            }
        }
        assert_eq!(bench.closes(CloseReason::TooSlow), 1);
        assert_eq!(bench.released(), 1);
        // What the kernel held, and at last the reason, are there whenever it reads.
        bench.expect_end(slow);
        let got = &bench.clients[slow].got;
        assert_eq!(got.last().unwrap(), "close 1008 too_slow");
        let announcements = (1..).map(|seq| format!("announcement {seq}"));
        assert!(got[1..got.len() - 1].iter().cloned().eq(announcements.take(got.len() - 2)));
    }
}

#[test]
fn revoked_expired_and_moved_keys() {
    let mut bench = Bench::new();
    let mut expiring = subscription();
    expiring.key = Arc::new(KeyShared::new(KeyId(2)));
    expiring.expires_at = Some(WallUs(bench.now().wall.0 + 95_500_000));
    let mut moved = expiring.clone();
    moved.key = Arc::new(KeyShared::new(KeyId(3)));
    let (revoked, expired, moved) = (bench.join(subscription()), bench.join(expiring), bench.join(moved));
    assert!(bench.accept.push(AcceptToFeed::Revoke(KeyId(1))).is_ok());
    assert!(bench.accept.push(AcceptToFeed::Expiry(KeyId(3), None)).is_ok());
    bench.expect(revoked, &["welcome", "close 1000 key_revoked"]);
    bench.expect_end(revoked);
    bench.advance(Duration::from_secs(97));
    bench.expect(expired, &["welcome", "heartbeat", "heartbeat", "heartbeat", "close 1000 key_expired"]);
    bench.expect_end(expired);
    bench.expect(moved, &["welcome", "heartbeat", "heartbeat", "heartbeat"]);
    assert_eq!(bench.released(), 2);
}

#[test]
fn resume_test_and_subscribe() {
    let mut bench = Bench::new();
    for _ in 0..40 {
        bench.announce();
    }
    let mut wanted = subscription();
    wanted.resume = Some(FeedPosition { epoch: EPOCH, seq: 37 });
    let client = bench.join(wanted);
    bench.advance(Duration::from_millis(10));
    bench.announce();
    bench.expect(
        client,
        &[
            "welcome",
            "announcement 38 again",
            "announcement 39 again",
            "announcement 40 again",
            "announcement 41",
        ],
    );
    bench.say(client, r#"{"type":"test"}"#);
    bench.say(client, r#"{"type":"test"}"#);
    bench.say(client, r#"{"type":"subscribe","cex":"upbit"}"#);
    bench.expect(client, &["test_announcement", "error", "subscribed"]);
    bench.announce();
    bench.push("테스트(TEST) 신규 거래지원 안내", Exchange::Upbit);
    bench.expect(client, &["announcement 43"]);
    bench.say(client, "{}");
    bench.expect(client, &["close 1008 rate_limit_exceeded"]);
    bench.expect_end(client);
}

#[test]
fn a_message_beside_announcements_comes_behind_the_announcement_that_came_before_it() {
    let mut bench = Bench::new();
    let extras = Extras { market: true, context: true };
    let (asked, plain) = (bench.join(Subscription { extras, ..subscription() }), bench.join(subscription()));
    bench.expect(asked, &["welcome"]);
    bench.expect(plain, &["welcome"]);
    for seq in 1..=3 {
        // Both are there before the thread's next turn.
        bench.push("Will List (TOKEN)", Exchange::Binance);
        let extra = Extra {
            kind: ExtraKind::Context,
            exchange: Exchange::Binance,
            listing_type: None,
            tickers: [].into(),
            is_news: true,
            payload: Payload { json: br#"{"type":"context"}"#.as_slice().into(), dispatch_at: u32::MAX },
        };
        assert!(bench.market.push(MarketToFeed(Arc::new(extra))).is_ok());
        bench.expect(asked, &[&format!("announcement {seq}"), "context"]);
        bench.expect(plain, &[&format!("announcement {seq}")]);
    }
}

#[test]
fn peers_that_leave_are_released_once() {
    let mut bench = Bench::new();
    for _ in 0..5 {
        let client = bench.join(subscription());
        bench.expect(client, &["welcome"]);
    }
    bench.clients.clear();
    let started = Instant::now();
    let mut released = 0;
    while released < 5 && started.elapsed().as_secs() < 20 {
        bench.step();
        released += bench.released();
    }
    bench.announce();
    bench.step();
    assert_eq!((released, bench.released()), (5, 0));
    assert_eq!(bench.thread.writer.counters().connections, 0);
}

#[test]
fn a_drain_closes_everyone_within_its_window() {
    let mut bench = Bench::new();
    for _ in 0..10 {
        bench.join(subscription());
    }
    let until = bench.now().mono + Duration::from_secs(5);
    assert!(bench.accept.push(AcceptToFeed::Drain(until)).is_ok());
    bench.advance(Duration::from_secs(3));
    let closed = bench.clients.iter().filter(|client| client.got.len() > 1).count();
    assert!((1..10).contains(&closed), "{closed}");
    bench.advance(Duration::from_secs(3));
    for client in 0..10 {
        bench.expect(client, &["welcome", "close 1012 restart"]);
        bench.expect_end(client);
    }
    bench.step();
    assert_eq!(bench.released(), 10);
}

#[test]
fn an_announcement_wakes_it_for_subscribers_alone() {
    const NAP: Duration = Duration::from_millis(30);
    const LONG: Duration = Duration::from_secs(60);
    // Rings until the sleep is over, as one announcement after the other would.
    let sleep = |bench: &mut Bench, longest: Duration| {
        let (alarm, from) = (bench.thread.alarm(), Instant::now());
        let awake = Arc::new(AtomicU64::new(0));
        let over = Arc::clone(&awake);
        let ringer = std::thread::spawn(move || {
            while over.load(Ordering::Relaxed) == 0 {
                alarm.ring();
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        bench.thread.sleep(longest);
        awake.store(1, Ordering::Relaxed);
        ringer.join().unwrap();
        from.elapsed()
    };
    let mut bench = Bench::new();
    assert!(sleep(&mut bench, NAP) >= NAP, "woken for nobody");
    let client = bench.join(subscription());
    bench.expect(client, &["welcome"]);
    assert!(sleep(&mut bench, LONG) < LONG, "slept through an announcement");
}
