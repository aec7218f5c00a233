//! A feed thread with everyone connected allocates nothing: not for an announcement, not for
//! heartbeats, pings and pongs, not while idle, plain or over TLS. An armed allocator counts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tocsin::net::Stream;
use tocsin::net::tls::{ClientTls, ClientTrust, ServerTls};
use tocsin::os::sockopt::tune_subscriber;
use tocsin::rings::{AcceptToFeed, LiveSession, SourceToFeed};
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
use tocsin_core::wire::{EncodedAnnouncement, encode};
use tocsin_core::ws::frame::write_frame;
use tocsin_core::ws::session::Event;
use tocsin_core::ws::{Opcode, Role, Session, SessionLimits};

thread_local! {
    /// Counts this thread's allocations while `Some`. Const, so that reading it allocates nothing.
    static ARMED: Cell<Option<u64>> = const { Cell::new(None) };
}

struct Counting;

fn note() {
    // A thread that is ending has no counter any more, and is not one under test.
    let _ = ARMED.try_with(|armed| armed.set(armed.get().map(|n| n + 1)));
}

// SAFETY: every call is passed on to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        note();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    ARMED.set(Some(0));
    work();
    ARMED.take().unwrap_or(0)
}

const SUBSCRIBERS: usize = 24;

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
        redact: n & 4 != 0,
        delay: Duration::ZERO,
        resume: None,
    }
}

/// Reads what there is, answers pings, and returns how many messages came.
fn read(client: &mut Stream, session: &mut Session) -> usize {
    let mut buffer = [0; 16 * 1_024];
    let (mut messages, mut pongs) = (0, Vec::new());
    while let Ok(count) = client.read(&mut buffer) {
        assert!(count > 0, "nobody is closed");
        let flow = session.receive::<()>(&mut buffer[..count], &mut |event| {
            match event {
                Event::Ping(payload) => write_frame(&mut pongs, Opcode::Pong, payload, Some([1, 2, 3, 4])),
                _ => messages += 1,
            }
            ControlFlow::Continue(())
        });
        assert!(flow.is_ok());
    }
    if !pongs.is_empty() {
        assert_eq!(client.write(&pongs).unwrap(), pongs.len());
    }
    messages
}

/// The server's and the client's end of one connection.
fn connection(listener: &TcpListener, tls: Option<&(ServerTls, ClientTls)>) -> (Stream, Stream) {
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    tune_subscriber(&server, 16 * 1_024).unwrap();
    let [server, client] = [server, client].map(|tcp| {
        tcp.set_nonblocking(true).unwrap();
        mio::net::TcpStream::from_std(tcp)
    });
    let Some((server_tls, client_tls)) = tls else { return (Stream::plain(server), Stream::plain(client)) };
    let mut server = Stream::accept_tls(server, server_tls).unwrap();
    let mut client = Stream::connect_tls(client, client_tls, "localhost").unwrap();
    while !(server.handshake().unwrap() & client.handshake().unwrap()) {}
    (server, client)
}

#[test]
fn announcements_heartbeats_and_idle_turns_allocate_nothing() {
    a_connected_feed_allocates_nothing(None);
}

#[test]
fn over_tls_too_once_the_thread_has_its_sealing_buffer() {
    let dir = tempfile::tempdir().unwrap();
    let server = ServerTls::self_signed(dir.path(), "127.0.0.1:0".parse().unwrap()).unwrap();
    let client = ClientTls::new(&ClientTrust { ca_file: None, insecure: true }).unwrap();
    a_connected_feed_allocates_nothing(Some(&(server, client)));
}

fn a_connected_feed_allocates_nothing(tls: Option<&(ServerTls, ClientTls)>) {
    let clock = Arc::new(AtomicU64::new(1_000_000_000));
    let read_clock = |clock: &AtomicU64| {
        let ns = clock.load(Ordering::Relaxed);
        Now { mono: Mono(ns), wall: WallUs((1_760_000_000_000_000 + ns / 1_000) as i64) }
    };
    let (mut source, from_source) = rtrb::RingBuffer::new(1_024);
    let (mut accept, from_accept) = rtrb::RingBuffer::new(64);
    let (to_accept, _released) = rtrb::RingBuffer::new(64);
    let rings = FeedRings { sources: vec![from_source], accept: from_accept, released: to_accept };
    let thread_clock = Arc::clone(&clock);
    let mut thread = FeedThread::new(
        rings,
        History::new(1, 4_096, [], true),
        Arc::new(FeedStats::default()),
        1,
        Box::new(move || read_clock(&thread_clock)),
    )
    .unwrap();

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut clients = Vec::new();
    for n in 0..SUBSCRIBERS {
        let (server, client) = connection(&listener, tls);
        let session = LiveSession {
            stream: server,
            subscription: subscription(n),
            greeting: Vec::new(),
            early_bytes: Vec::new(),
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            accepted_at: Mono(0),
        };
        assert!(accept.push(AcceptToFeed::Join(Box::new(session))).is_ok());
        thread.step(read_clock(&clock));
        clients.push((client, Session::new(Role::Client, SessionLimits::same(1 << 20))));
    }

    let mut got = 0;
    let mut counted = 0;
    for round in 0..200 {
        let due = announcement(round + 1);
        let counting = allocations(|| {
            assert!(source.push(SourceToFeed::Announcement(due)).is_ok());
            for _ in 0..20 {
                thread.step(read_clock(&clock));
            }
        });
        // The first sealing makes the buffer of all that follow.
        let made = u64::from(round == 0 && tls.is_some());
        counted += counting - made;
        got += clients.iter_mut().map(|(client, session)| read(client, session)).sum::<usize>();
        clock.fetch_add(1_000_000_000, Ordering::Relaxed);
    }
    // Each got 200 announcements and 6 heartbeats; the kernel may take a moment over the last.
    let started = std::time::Instant::now();
    while got < SUBSCRIBERS * 206 && started.elapsed().as_secs() < 20 {
        got += clients.iter_mut().map(|(client, session)| read(client, session)).sum::<usize>();
    }
    assert_eq!(got, SUBSCRIBERS * 206);
    assert_eq!(counted, 0);
}
