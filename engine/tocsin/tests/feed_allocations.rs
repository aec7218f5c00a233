//! A feed thread with everyone connected allocates nothing: not for an announcement, not for
//! heartbeats, pings and pongs, not while idle, and nothing for any of a thousand subscribers, plain or over
//! TLS. An armed allocator counts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../../core/tests/armed/mod.rs"]
mod armed;

use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use armed::allocations;
use tocsin::net::Stream;
use tocsin::net::tls::{ClientTls, ClientTrust, ServerTls};
use tocsin::os::sockopt::tune_subscriber;
use tocsin::rings::{AcceptToFeed, LiveSession, MarketToFeed, Released, SourceToFeed, SubscriberPage};
use tocsin::threads::Step;
use tocsin::threads::feed::{FeedRings, FeedStats, FeedThread};
use tocsin_core::feed::history::History;
use tocsin_core::feed::key::{KeyId, KeyShared};
use tocsin_core::feed::subscription::{FieldSet, Filter, FrameKind, Subscription};
use tocsin_core::model::{
    Action, Announcement, Classification, Exchange, ExchangeSet, FeedPosition, Lang, ListingType,
    ListingTypeSet, Ticker,
};
use tocsin_core::time::{Mono, Now, WallUs};
use tocsin_core::wire::extra::{Extra, ExtraKind, Extras};
use tocsin_core::wire::{EncodedAnnouncement, Payload, encode};
use tocsin_core::ws::frame::write_frame;
use tocsin_core::ws::session::Event;
use tocsin_core::ws::{Opcode, Role, Session, SessionLimits};

const SUBSCRIBERS: usize = 24;
const CROWD: usize = 1_000;

fn announcement(seq: u64) -> Arc<EncodedAnnouncement> {
    let at = WallUs(1_760_000_000_000_000);
    Arc::new(encode(Announcement {
        id: format!("binance:{seq}"),
        position: FeedPosition { epoch: 1, seq },
        exchange: Exchange::Binance,
        title: "Binance Will List Token (TOKEN)".to_owned(),
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
        notice_id: seq.to_string(),
        source: "test".to_owned(),
        published: at,
        received: at,
        detected: at,
        classified: at,
        effective_at: None,
    }))
}

/// Every class of frames, and a ticker filter.
fn subscription(n: usize) -> Subscription {
    let tickers = (n.is_multiple_of(3)).then(|| vec![Ticker::new("TOKEN").unwrap()].into_boxed_slice());
    Subscription {
        key: Arc::new(KeyShared::new(KeyId(1))),
        allowed: ExchangeSet::ALL,
        expires_at: Some(WallUs(1_790_000_000_000_000)),
        filter: Filter { exchanges: ExchangeSet::ALL, types: ListingTypeSet::ALL, tickers },
        frames: if n & 1 == 0 { FrameKind::Binary } else { FrameKind::Text },
        fields: if n & 2 == 0 { FieldSet::Basic } else { FieldSet::Full },
        sources: n & 8 != 0,
        extras: Extras { market: true, context: n & 16 != 0 },
        redact: n & 4 != 0,
        delay: Duration::ZERO,
        resume: None,
    }
}

/// One subscriber's end.
struct Client {
    stream: Stream,
    session: Session,
}

impl Client {
    /// Reads what there is, answers pings, and returns how many messages came.
    fn read(&mut self) -> usize {
        let mut buffer = [0; 16 * 1_024];
        let (mut messages, mut pongs) = (0, Vec::new());
        while let Ok(count) = self.stream.read(&mut buffer) {
            assert!(count > 0, "nobody is closed");
            let flow = self.session.receive::<()>(&mut buffer[..count], &mut |event| {
                match event {
                    Event::Ping(payload) => {
                        write_frame(&mut pongs, Opcode::Pong, payload, Some([1, 2, 3, 4]));
                    }
                    _ => messages += 1,
                }
                ControlFlow::Continue(())
            });
            assert!(flow.is_ok());
        }
        if !pongs.is_empty() {
            assert_eq!(self.stream.write(&pongs).unwrap(), pongs.len());
        }
        messages
    }
}

/// A feed thread stepped by hand, on a clock by hand, and its subscribers over loopback.
struct Rig {
    thread: FeedThread,
    clock: Arc<AtomicU64>,
    source: rtrb::Producer<SourceToFeed>,
    market: rtrb::Producer<MarketToFeed>,
    accept: rtrb::Producer<AcceptToFeed>,
    clients: Vec<Client>,
    seq: u64,
    pages: rtrb::Consumer<Box<SubscriberPage>>,
    _released: rtrb::Consumer<Released>,
}

fn read_clock(clock: &AtomicU64) -> Now {
    let ns = clock.load(Ordering::Relaxed);
    Now { mono: Mono(ns), wall: WallUs((1_760_000_000_000_000 + ns / 1_000) as i64) }
}

impl Rig {
    fn new(subscribers: usize, tls: Option<&(ServerTls, ClientTls)>) -> Rig {
        tocsin::os::memory::raise_descriptor_limit().unwrap();
        let clock = Arc::new(AtomicU64::new(1_000_000_000));
        let (source, from_source) = rtrb::RingBuffer::new(1_024);
        let (market, from_market) = rtrb::RingBuffer::new(64);
        let (accept, from_accept) = rtrb::RingBuffer::new(64);
        let (to_accept, released) = rtrb::RingBuffer::new(2_048);
        let (looked, pages) = rtrb::RingBuffer::new(2);
        let rings = FeedRings {
            sources: vec![from_source],
            market: Some(from_market),
            accept: from_accept,
            released: to_accept,
            looked,
        };
        let thread_clock = Arc::clone(&clock);
        let thread = FeedThread::new(
            rings,
            History::new(1, 4_096, [], true),
            Arc::new(FeedStats::default()),
            1,
            Box::new(move || read_clock(&thread_clock)),
        )
        .unwrap();
        let mut rig = Rig {
            thread,
            clock,
            source,
            market,
            accept,
            clients: Vec::new(),
            seq: 0,
            pages,
            _released: released,
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        for n in 0..subscribers {
            rig.join(&listener, n, tls);
        }
        rig
    }

    fn join(&mut self, listener: &TcpListener, n: usize, tls: Option<&(ServerTls, ClientTls)>) {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_nonblocking(true).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        tune_subscriber(&server, 16 * 1_024).unwrap();
        let [client, server] = [client, server].map(mio::net::TcpStream::from_std);
        let (client, server) = match tls {
            None => (Stream::plain(client), Stream::plain(server)),
            Some((ours, theirs)) => {
                let mut client = Stream::connect_tls(client, theirs, "localhost").unwrap();
                let mut server = Stream::accept_tls(server, ours).unwrap();
                while !(client.handshake().unwrap() & server.handshake().unwrap()) {}
                (client, server)
            }
        };
        let session = LiveSession {
            stream: server,
            subscription: subscription(n),
            greeting: Vec::new(),
            early_bytes: Vec::new(),
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            accepted_at: Mono(0),
        };
        assert!(self.accept.push(AcceptToFeed::Join(Box::new(session))).is_ok());
        self.turns(1);
        let session = Session::new(Role::Client, SessionLimits::same(1 << 20));
        self.clients.push(Client { stream: client, session });
    }

    fn turns(&mut self, count: usize) {
        for _ in 0..count {
            self.thread.step(read_clock(&self.clock));
        }
    }

    /// Announces, and returns what the feed thread allocated over it and the `turns` it takes.
    fn announce(&mut self, turns: usize) -> u64 {
        self.seq += 1;
        let due = announcement(self.seq);
        allocations(|| {
            assert!(self.source.push(SourceToFeed::Announcement(due)).is_ok());
            self.turns(turns);
        })
    }

    fn read(&mut self) -> usize {
        self.clients.iter_mut().map(Client::read).sum()
    }

    /// Reads until `want` messages have come; the kernel may take a moment over the last.
    fn read_up_to(&mut self, want: usize) -> usize {
        let started = std::time::Instant::now();
        let mut got = 0;
        while got < want && started.elapsed().as_secs() < 20 {
            got += self.read();
        }
        got
    }
}

fn a_connected_feed_allocates_nothing(tls: Option<&(ServerTls, ClientTls)>) {
    let mut rig = Rig::new(SUBSCRIBERS, tls);
    let mut got = 0;
    let mut counted = 0;
    for round in 0..200 {
        // Over TLS the first sealing makes the thread's buffer for all that follow.
        let made = u64::from(round == 0 && tls.is_some());
        counted += rig.announce(20) - made;
        got += rig.read();
        rig.clock.fetch_add(1_000_000_000, Ordering::Relaxed);
    }
    // Each got 200 announcements and 6 heartbeats.
    let all = SUBSCRIBERS * 206;
    got += rig.read_up_to(all - got);
    assert_eq!(got, all);
    assert_eq!(counted, 0);
}

/// A message beside announcements is framed once, in memory that is there from the second of its length on.
#[test]
fn a_message_beside_announcements_allocates_nothing_for_any_subscriber() {
    let mut rig = Rig::new(SUBSCRIBERS, None);
    let extra = Arc::new(Extra {
        kind: ExtraKind::Market,
        exchange: Exchange::Binance,
        listing_type: None,
        tickers: [Ticker::new("TOKEN").unwrap()].into(),
        is_news: true,
        payload: Payload { json: br#"{"type":"market"}"#.as_slice().into(), dispatch_at: u32::MAX },
    });
    let mut counted = 0;
    for round in 0..20 {
        let told = MarketToFeed(Arc::clone(&extra));
        let made = allocations(|| {
            assert!(rig.market.push(told).is_ok());
            rig.turns(10);
        });
        counted += if round == 0 { 0 } else { made };
    }
    assert_eq!(rig.read_up_to(SUBSCRIBERS * 20), SUBSCRIBERS * 20);
    assert_eq!(counted, 0);
}

/// Who asks brings the memory.
#[test]
fn a_look_at_the_subscribers_allocates_nothing() {
    let mut rig = Rig::new(SUBSCRIBERS * 2, None);
    let page = |question, most| {
        let rows = Vec::with_capacity(most);
        AcceptToFeed::Look(Box::new(SubscriberPage { question, next: Some(0), rows, most }))
    };
    for (question, most, found) in [(1, 100, SUBSCRIBERS * 2), (2, 5, 5)] {
        let look = page(question, most);
        let counted = allocations(|| {
            assert!(rig.accept.push(look).is_ok());
            rig.turns(4);
        });
        let page = rig.pages.pop().expect("the page comes back");
        assert_eq!((counted, page.question, page.rows.len()), (0, question, found));
        assert_eq!(page.next, (found == 5).then_some(5));
    }
}

fn certified() -> (ServerTls, ClientTls) {
    let folder = tempfile::tempdir().unwrap();
    let server = ServerTls::self_signed(folder.path(), "127.0.0.1:0".parse().unwrap()).unwrap();
    (server, ClientTls::new(&ClientTrust { ca_file: None, insecure: true }).unwrap())
}

#[test]
fn announcements_heartbeats_and_idle_turns_allocate_nothing() {
    a_connected_feed_allocates_nothing(None);
}

#[test]
fn over_tls_too_once_the_thread_has_its_sealing_buffer() {
    a_connected_feed_allocates_nothing(Some(&certified()));
}

/// Announcements to a crowd: what the first may grow, and those that are counted.
const WARM_UP: usize = 2;
const COUNTED: usize = 5;

/// Allocations of the feed thread over [`COUNTED`] announcements to [`CROWD`] subscribers.
fn fan_out_to_a_crowd(tls: Option<&(ServerTls, ClientTls)>) -> u64 {
    let mut rig = Rig::new(CROWD, tls);
    for _ in 0..WARM_UP {
        rig.announce(1);
    }
    let counted = (0..COUNTED).map(|_| rig.announce(1)).sum();
    let all = CROWD * (WARM_UP + COUNTED);
    assert_eq!(rig.read_up_to(all), all, "it went to everyone");
    counted
}

#[test]
fn a_frame_to_a_thousand_subscribers_allocates_nothing() {
    assert_eq!(fan_out_to_a_crowd(None), 0);
}

#[test]
fn a_frame_to_a_thousand_subscribers_over_tls_allocates_nothing() {
    assert_eq!(fan_out_to_a_crowd(Some(&certified())), 0);
}
