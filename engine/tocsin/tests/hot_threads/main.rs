//! What hot threads of the running engine cost the kernel: page faults, system calls, and who pays for
//! a storm of handshakes. Read from `/proc` and by strace, thread by thread.
//!
//! Needs strace (Debian: `apt-get install strace`) and leave to trace a process of one's own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../harness/mod.rs"]
mod harness;
mod thread;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use harness::exchange::Exchange;
use harness::{Client, Engine, Mode};
use thread::{Thread, Trace};
use tocsin_sim::{Category, Draft, Kind, Options};

const SUBSCRIBERS: usize = 16;
/// Announcements after which buffers, arenas and tables have grown to what they need.
const WARM_UP: usize = 40;
/// Announcements that are watched.
const WATCHED: usize = 20;

/// Memory is locked where cores are given out. It sleeps between turns all the same, to leave the machine
/// to other tests: one call more on the lists.
const PINNED: &str = "[topology]\nmode = \"pinned\"\nsource_cores = [0]\nfeed_cores = [1]\nidle = \"block\"";

/// A running engine in the steady state: an exchange over TLS, subscribers over TLS.
struct Steady {
    engine: Engine,
    exchange: Exchange,
    clients: Vec<Client>,
    published: usize,
}

impl Steady {
    fn start() -> Steady {
        let exchange = Exchange::start(Kind::Upbit, Options::default());
        let engine = Engine::start(
            Mode::Tls,
            &format!("[feed.limits]\nexempt = [\"127.0.0.0/8\"]\n{PINNED}\n{}", exchange.section()),
        );
        exchange.baselined(&engine);
        let key = engine.key();
        let clients = (0..SUBSCRIBERS).map(|_| engine.connect(&key, "")).collect();
        let mut steady = Steady { engine, exchange, clients, published: 0 };
        steady.announce(WARM_UP);
        steady
    }

    /// Publishes on the exchange one after another, and waits until every subscriber has each.
    fn announce(&mut self, count: usize) {
        for _ in 0..count {
            self.published += 1;
            let title = format!("노스라이트(N{}) 신규 거래지원 안내 (KRW 마켓)", self.published);
            self.exchange.sim.publish(Draft::new(Category::Listing, &title));
            for client in &mut self.clients {
                assert_eq!(client.json_of("announcement")["title"], title.as_str());
            }
        }
    }

    fn thread(&self, name: &str) -> Thread {
        Thread::named(self.engine.pid(), name)
    }
}

/// Page faults of the hot threads over some announcements and what lies between them, after a warm-up.
/// Memory that may not be locked (no `CAP_IPC_LOCK`, a low `ulimit -l`) may fault; that none is read from
/// disk holds all the same.
#[test]
fn hot_threads_have_no_page_faults() {
    let mut steady = Steady::start();
    let (source, feed) = (steady.thread("source-0"), steady.thread("feed-0"));
    let (source_before, feed_before) = (source.faults(), feed.faults());
    steady.announce(WATCHED);
    let (source_after, feed_after) = (source.faults(), feed.faults());
    let (source, feed) = (source_after - source_before, feed_after - feed_before);
    println!("page faults over {WATCHED} announcements: source {source:?}, feed {feed:?}");
    assert_eq!((source.major, feed.major), (0, 0), "a page was read from disk");
    if steady.engine.log().contains("memory is not locked") {
        println!("memory may not be locked here: pages touched for the first time are not judged");
        return;
    }
    assert_eq!((source.minor, feed.minor), (0, 0), "memory was touched for the first time");
}

/// The calls a kind of thread may make, from the table of `docs/architecture.md`: the call, a column for each
/// kind, and why.
fn listed(kind: &str) -> BTreeSet<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/architecture.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, section) = page.split_once("## System calls of hot threads").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let mut rows = section.lines().filter(|line| line.starts_with('|'));
    let cells = |row: &str| -> Vec<String> {
        row.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
    };
    let column = cells(rows.next().unwrap()).iter().position(|cell| cell == kind).unwrap();
    rows.map(cells).filter(|row| row[column] == "yes").map(|row| row[0].clone()).collect()
}

#[test]
fn hot_threads_make_only_the_system_calls_that_are_listed() {
    let mut steady = Steady::start();
    // rustls gathers a request's records, the feed's own record layer has one piece.
    for (kind, writes) in [("source-N", "writev"), ("feed-N", "sendto")] {
        let name = kind.replace('N', "0");
        let trace = Trace::start(&steady.thread(&name));
        steady.announce(WATCHED);
        for client in &mut steady.clients {
            client.send(9, b"are you there");
            assert_eq!(client.frame().unwrap().opcode, 10);
        }
        let made = trace.finish();
        println!("{name}: {made:?}");
        let (listed, made) = (listed(kind), made.into_keys().collect::<BTreeSet<String>>());
        assert!(made.is_subset(&listed), "{name} also makes {:?}", made.difference(&listed));
        // It was this thread that was watched, and while it worked.
        assert!(["epoll_wait", "recvfrom", writes].iter().all(|call| made.contains(*call)), "{made:?}");
    }
}

/// Full handshakes at once, and connections for each of the threads that make them.
const STORM_THREADS: usize = 4;
const STORM_CONNECTIONS: usize = 40;

/// The work of handshakes is the accept thread's; to the feed thread a new subscriber is an insertion and
/// its greeting. Processor time is compared, which other programs on the machine do not change.
#[test]
fn a_storm_of_handshakes_is_not_the_feed_threads_work() {
    let engine = Engine::start(Mode::Tls, "[feed.limits]\nexempt = [\"127.0.0.0/8\"]");
    let key = engine.key();
    let (feed, accept) = (Thread::named(engine.pid(), "feed-0"), Thread::named(engine.pid(), "accept"));
    // What the feed thread spends on nothing at all is not the storm's.
    let idle = feed.cpu();
    let from = std::time::Instant::now();
    std::thread::sleep(Duration::from_millis(500));
    let idle_share = (feed.cpu() - idle).as_secs_f64() / from.elapsed().as_secs_f64();

    let (feed_before, accept_before) = (feed.cpu(), accept.cpu());
    let from = std::time::Instant::now();
    let clients: Vec<Client> = std::thread::scope(|scope| {
        let connect = || (0..STORM_CONNECTIONS).map(|_| engine.connect(&key, "")).collect::<Vec<_>>();
        let threads: Vec<_> = (0..STORM_THREADS).map(|_| scope.spawn(connect)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let idle = from.elapsed().as_secs_f64() * idle_share;
    let (feed_cpu, accept_cpu) = (feed.cpu() - feed_before, accept.cpu() - accept_before);
    let count = (STORM_THREADS * STORM_CONNECTIONS) as f64;
    assert_eq!(clients.len() as f64, count);
    let feed_us = (feed_cpu.as_secs_f64() - idle).max(0.0) * 1e6 / count;
    let accept_us = accept_cpu.as_secs_f64() * 1e6 / count;
    let status = engine.cli_json(&["status"]);
    let threads = status["threads"].as_array().unwrap();
    let gap = &threads.iter().find(|t| t["name"] == "feed-0").unwrap()["longest_gap_us"];
    println!(
        "{count} handshakes: the accept thread took {accept_us:.0} us each, the feed thread {feed_us:.0} us \
         (besides {:.1} % of a core for idling); its longest gap between turns since the start was {gap} us",
        idle_share * 100.0
    );
    assert!(
        feed_us * FEED_SHARE < accept_us,
        "a handshake costs the feed thread {feed_us:.0} us and the accept thread {accept_us:.0} us"
    );
}

/// How many times more of a handshake the accept thread must carry than the feed thread.
const FEED_SHARE: f64 = 4.0;
