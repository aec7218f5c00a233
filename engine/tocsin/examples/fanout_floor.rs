//! Measures a feed thread's plain fan-out beside its floor: the same bytes to the same sockets in a
//! bare loop of `write(2)`, round by round in turn, so that what else the machine does hits both.
//!
//! `cargo run --release --example fanout_floor -- --subscribers 1000 [--burst 4] [--rounds 100]`.
//! One process has the feed thread (its main thread, pinned to `--core`); a child, pinned to
//! `--drain-core`, connects the subscribers and reads. With `--burst` so many announcements wait in
//! the ring at once; the floor then writes them together, and a third row writes them one by one.
//!
//! `valgrind --tool=cachegrind target/release/examples/fanout_floor --engine-only --rounds N` counts
//! instructions and cache misses of user space: the difference of two runs with different `--rounds`,
//! divided by the difference of rounds and by the subscribers, is what one costs.

#![allow(clippy::expect_used, reason = "a tool that cannot go on says why and ends")]

use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use mio::{Events, Interest, Poll, Token};
use rtrb::{Producer, RingBuffer};
use tocsin::net::Stream;
use tocsin::os::{cores, memory, sockopt};
use tocsin::rings::{AcceptToFeed, LiveSession, SourceToFeed};
use tocsin::threads::Step;
use tocsin::threads::feed::{FeedRings, FeedStats, FeedThread};
use tocsin_core::feed::history::History;
use tocsin_core::feed::key::{KeyId, KeyShared};
use tocsin_core::feed::subscriber::Random;
use tocsin_core::feed::subscription::{FieldSet, Filter, FrameKind, Subscription};
use tocsin_core::model::{
    Action, Announcement, Classification, Exchange, ExchangeSet, FeedPosition, Lang, ListingType,
    ListingTypeSet, Ticker,
};
use tocsin_core::time::{Mono, Now, WallUs};
use tocsin_core::wire::{EncodedAnnouncement, encode};
use tocsin_core::ws::Opcode;
use tocsin_core::ws::frame::write_frame;

/// Measures a feed thread beside a bare loop of writes.
#[derive(Parser)]
struct Args {
    /// How many subscribers.
    #[arg(long, default_value_t = 1_000)]
    subscribers: usize,
    /// How often each row is measured.
    #[arg(long, default_value_t = 100)]
    rounds: u32,
    /// Announcements that wait in the ring at once.
    #[arg(long, default_value_t = 1)]
    burst: usize,
    /// Pause before each measurement, for the other side to read everything.
    #[arg(long, default_value_t = 20)]
    pause_ms: u64,
    /// Core of the feed thread.
    #[arg(long, default_value_t = 0)]
    core: usize,
    /// Core of the reading child.
    #[arg(long, default_value_t = 1)]
    drain_core: usize,
    /// Only the feed thread, without times: to be counted by an instrument.
    #[arg(long)]
    engine_only: bool,
    /// The child: connect to this address and read.
    #[arg(long, hide = true)]
    drain: Option<SocketAddr>,
}

type Outcome<T> = Result<T, Box<dyn Error>>;

const START_US: i64 = 1_760_000_000_000_000;

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match args.drain {
        Some(address) => drain(address, &args),
        None => run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fanout_floor: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Reads everything until the other side is gone.
fn drain(address: SocketAddr, args: &Args) -> Outcome<()> {
    cores::pin(args.drain_core)?;
    memory::raise_descriptor_limit()?;
    let mut poll = Poll::new()?;
    let mut sockets = Vec::with_capacity(args.subscribers);
    for n in 0..args.subscribers {
        let socket = TcpStream::connect(address)?;
        socket.set_nonblocking(true)?;
        let mut socket = mio::net::TcpStream::from_std(socket);
        poll.registry().register(&mut socket, Token(n), Interest::READABLE)?;
        sockets.push(socket);
    }
    let mut events = Events::with_capacity(256);
    let mut buffer = [0; 64 * 1_024];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            let Some(socket) = sockets.get_mut(event.token().0) else { continue };
            loop {
                match socket.read(&mut buffer) {
                    Ok(0) => return Ok(()),
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(_) => return Ok(()),
                }
            }
        }
    }
}

/// Ends the child whatever happens.
struct Reader(Child);

impl Drop for Reader {
    fn drop(&mut self) {
        // Whatever fails here, the child ends with the connections.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Bench {
    thread: FeedThread,
    source: Producer<SourceToFeed>,
    _accept: Producer<AcceptToFeed>,
    /// Runs only while something is measured: no heartbeat or ping comes due.
    clock_ns: Arc<AtomicU64>,
    stats: Arc<FeedStats>,
    /// The same sockets.
    sockets: Vec<TcpStream>,
    seq: u64,
    _reader: Reader,
}

fn now_of(clock_ns: &AtomicU64) -> Now {
    let ns = clock_ns.load(Ordering::Relaxed);
    Now { mono: Mono(ns), wall: WallUs(START_US + i64::try_from(ns / 1_000).unwrap_or(0)) }
}

impl Bench {
    fn new(args: &Args) -> Outcome<Bench> {
        let clock_ns = Arc::new(AtomicU64::new(1_000_000_000));
        let (source, from_source) = RingBuffer::new(1_024);
        let (mut accept, from_accept) = RingBuffer::new(64);
        let (released, _) = RingBuffer::new(args.subscribers);
        let rings = FeedRings { sources: vec![from_source], accept: from_accept, released };
        let stats = Arc::new(FeedStats::default());
        let clock = Arc::clone(&clock_ns);
        let clock = Box::new(move || now_of(&clock));
        let mut thread =
            FeedThread::new(rings, History::new(1, 4_096, [], true), Arc::clone(&stats), 1, clock)?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let reader = Command::new(std::env::current_exe()?)
            .args(["--drain", &listener.local_addr()?.to_string()])
            .args(["--subscribers", &args.subscribers.to_string()])
            .args(["--drain-core", &args.drain_core.to_string()])
            .stdin(Stdio::null())
            .spawn()?;
        let reader = Reader(reader);
        let mut sockets = Vec::with_capacity(args.subscribers);
        for _ in 0..args.subscribers {
            let (socket, _) = listener.accept()?;
            socket.set_nonblocking(true)?;
            sockopt::tune_subscriber(&socket, 128 * 1_024)?;
            sockets.push(socket.try_clone()?);
            let session = session(socket);
            accept.push(AcceptToFeed::Join(Box::new(session))).map_err(|_| "the ring is full")?;
            thread.step(now_of(&clock_ns));
        }
        while thread.step(now_of(&clock_ns)).work > 0 {}
        let seq = 0;
        Ok(Bench { thread, source, _accept: accept, clock_ns, stats, sockets, seq, _reader: reader })
    }

    fn engine(&mut self, burst: usize) -> Outcome<()> {
        for _ in 0..burst {
            self.seq += 1;
            let next = SourceToFeed::Announcement(Arc::new(encode(announcement(self.seq))));
            self.source.push(next).map_err(|_| "the ring is full")?;
        }
        self.thread.step(now_of(&self.clock_ns));
        Ok(())
    }

    /// In the order of the sockets from `start` on, as the feed thread does it.
    fn bare(&self, bytes: &[u8], start: usize) -> Outcome<()> {
        let (before, after) = self.sockets.split_at(start);
        for mut socket in after.iter().chain(before) {
            if socket.write(bytes)? != bytes.len() {
                return Err("a socket is full: raise --pause-ms".into());
            }
        }
        Ok(())
    }
}

fn session(socket: TcpStream) -> LiveSession {
    LiveSession {
        stream: Stream::plain(mio::net::TcpStream::from_std(socket)),
        subscription: Subscription {
            key: Arc::new(KeyShared::new(KeyId(1))),
            allowed: ExchangeSet::ALL,
            expires_at: None,
            filter: Filter { exchanges: ExchangeSet::ALL, types: ListingTypeSet::ALL, tickers: None },
            frames: FrameKind::Binary,
            fields: FieldSet::Full,
            sources: false,
            redact: false,
            delay: Duration::ZERO,
            resume: None,
        },
        greeting: Vec::new(),
        early_bytes: Vec::new(),
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        accepted_at: Mono(0),
    }
}

fn announcement(seq: u64) -> Announcement {
    let at = WallUs(START_US);
    Announcement {
        id: format!("binance:{seq}"),
        position: FeedPosition { epoch: 1, seq },
        exchange: Exchange::Binance,
        title: "Binance Will List Measured Token (TOKEN) with Seed Tag Applied".to_owned(),
        classification: Classification {
            listing_type: ListingType::SpotListing,
            tickers: Ticker::new("TOKEN").into_iter().collect(),
            markets: Vec::new(),
            rule: "measured",
            confidence: 90,
            lang: Lang::En,
        },
        action: Action::Created,
        late: false,
        url: "https://exchange.invalid/en/support/announcement/0123456789abcdef".to_owned(),
        notice_id: seq.to_string(),
        source: "measured".to_owned(),
        published: at,
        received: at,
        detected: at,
        classified: at,
        effective_at: None,
    }
}

fn frame(encoded: &EncodedAnnouncement) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_frame(&mut bytes, Opcode::Binary, &encoded.full.json, None);
    bytes
}

fn run(args: &Args) -> Outcome<()> {
    if memory::raise_descriptor_limit()? < 2 * args.subscribers as u64 + 64 {
        return Err("too few descriptors; raise `ulimit -n`".into());
    }
    cores::pin(args.core)?;
    let mut bench = Bench::new(args)?;
    if args.engine_only {
        for _ in 0..args.rounds {
            bench.engine(args.burst)?;
            std::thread::sleep(Duration::from_millis(args.pause_ms));
        }
        return Ok(());
    }
    let one = frame(&encode(announcement(1)));
    let together = one.repeat(args.burst);
    let names = ["one write each", "one write a frame", "feed thread"];
    let mut times = [const { Vec::new() }; 3];
    let mut start = 0;
    let mut random = Random::new(1);
    let mut order = [0, 1, 2];
    for _ in 0..args.rounds {
        // Drawn, since any fixed order may keep step with something else on the machine.
        order.sort_by_cached_key(|_| random.draw());
        for row in order {
            std::thread::sleep(Duration::from_millis(args.pause_ms));
            start = (start + 619) % args.subscribers.max(1);
            let from = Instant::now();
            match row {
                0 => bench.bare(&together, start)?,
                1 => (0..args.burst).try_for_each(|_| bench.bare(&one, start))?,
                _ => bench.engine(args.burst)?,
            }
            let taken = from.elapsed();
            bench.clock_ns.fetch_add(1_000, Ordering::Relaxed);
            if let Some(times) = times.get_mut(row) {
                times.push(taken.as_nanos() as f64 / args.subscribers as f64);
            }
        }
    }
    bench.thread.finish(now_of(&bench.clock_ns));
    report(args, &one, &names, &times, &bench.stats)
}

fn report(
    args: &Args,
    one: &[u8],
    names: &[&str; 3],
    times: &[Vec<f64>; 3],
    stats: &FeedStats,
) -> Outcome<()> {
    let mut out = std::io::stdout().lock();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    writeln!(
        out,
        "{} subscribers, {} x {} bytes, {} rounds, load {}",
        args.subscribers,
        args.burst,
        one.len(),
        args.rounds,
        load.split(' ').next().unwrap_or_default()
    )?;
    let [floor, ..] = times;
    for (name, row) in names.iter().zip(times) {
        let ratios = row.iter().zip(floor).map(|(time, floor)| time / floor).collect::<Vec<_>>();
        writeln!(
            out,
            "{name:<18} ns a subscriber: p10 {:>6.0}, p50 {:>6.0}; of the floor of its round, p50 {:.3}; p10 of p10 {:.3}",
            quantile(row, 10),
            quantile(row, 50),
            quantile(&ratios, 50),
            quantile(row, 10) / quantile(floor, 10),
        )?;
    }
    let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let wanted = u64::from(args.rounds) * args.burst as u64 * args.subscribers as u64;
    writeln!(
        out,
        "feed thread: {} of {wanted} messages, blocked {}",
        load(&stats.messages),
        load(&stats.blocked)
    )?;
    Ok(())
}

fn quantile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() * percent / 100).copied().unwrap_or(f64::NAN)
}
