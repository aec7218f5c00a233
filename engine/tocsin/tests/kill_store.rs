//! `kill -9` at any instant: what was announced is in history once, and nothing else is.
//!
//! A child process (this test's own executable) does what a source thread and the journal thread do,
//! and says on its output which announcement it has handed to shared memory. It is killed while it
//! works; the next life must find all of them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tocsin::config::Idle;
use tocsin::os::clock;
use tocsin::rings::SourceToJournal;
use tocsin::store::{HistoryQuery, Store};
use tocsin::threads::journal::{Inlet, Journal};
use tocsin::threads::{Pulse, run_loop};
use tocsin_core::model::{
    Action, Announcement, Classification, Exchange, FeedPosition, Lang, ListingType, Ticker,
};
use tocsin_core::wire;

const CHILD: &str = "TOCSIN_TEST_KILL_STORE_DIR";
const ROUNDS: u64 = 12;

fn announcement(epoch: u64, seq: u64) -> Announcement {
    let now = clock::wall();
    Announcement {
        id: format!("upbit:{epoch}-{seq}"),
        position: FeedPosition { epoch, seq },
        exchange: Exchange::Upbit,
        title: format!("Market support for Token {seq} (TK{seq})"),
        classification: Classification {
            listing_type: ListingType::SpotListing,
            tickers: vec![Ticker::new(&format!("TK{seq}")).unwrap()],
            markets: Vec::new(),
            rule: "test",
            confidence: 99,
            lang: Lang::En,
        },
        action: Action::Created,
        late: false,
        url: String::new(),
        notice_id: format!("{epoch}-{seq}"),
        source: "upbit.web".to_owned(),
        published: now,
        received: now,
        detected: now,
        classified: now,
        effective_at: None,
    }
}

/// The child's whole life: announces until it is killed. Does nothing when run as a test.
#[test]
fn child_process() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let dir = Path::new(&dir);
    let mut store = Store::open_on(dir, &dir.join("data")).unwrap();
    let epoch = store.next_epoch().unwrap();
    let (mut writer, shm) = store.place().create(0).unwrap();
    // Shallow, so that it is often full and the journal thread must look into shared memory.
    let (mut ring, consumer) = rtrb::RingBuffer::new(8);
    let (_requests, receiver) = crossbeam::channel::bounded(1);
    let mut journal = Journal::new(store, vec![Inlet { ring: consumer, shm }], receiver);
    let stop = Arc::new(AtomicBool::new(false));
    let pulse = Arc::new(Pulse::default());
    std::thread::spawn(move || run_loop(&mut journal, Idle::Block, &stop, &pulse));

    let mut out = std::io::stdout().lock();
    for seq in 1.. {
        let encoded = Arc::new(wire::encode(announcement(epoch, seq)));
        let shm_position = loop {
            match writer.append(&encoded) {
                Some(position) => break Some(position),
                None => std::thread::yield_now(), // Full: this child must lose nothing.
            }
        };
        encoded.mark_dispatched(clock::wall());
        let _ = ring.push(SourceToJournal::Announcement { announcement: encoded, shm_position });
        writeln!(out, "announced {epoch} {seq}").unwrap();
        out.flush().unwrap();
    }
}

/// Runs a child, kills it after `lines` announcements, and returns its epoch and the last it told of.
fn run_and_kill(dir: &Path, lines: usize) -> (u64, u64) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_process", "--nocapture", "--test-threads=1"])
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut told =
        BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok).filter_map(|line| {
            // The test harness may have begun the line with its own words.
            let (_, numbers) = line.split_once("announced ")?;
            let (epoch, seq) = numbers.split_once(' ')?;
            Some((epoch.parse::<u64>().ok()?, seq.parse::<u64>().ok()?))
        });
    let at_kill = told.nth(lines).expect("the child announces until it is killed");
    child.kill().unwrap();
    let last = told.last().unwrap_or(at_kill);
    child.wait().unwrap();
    last
}

/// Every announcement on disk, in order.
fn history(store: &Store) -> Vec<(u64, u64)> {
    let mut all = Vec::new();
    let mut after = Some(FeedPosition::default());
    while after.is_some() {
        let page =
            store.history_page(&HistoryQuery { after, limit: 1_000, ..HistoryQuery::default() }).unwrap();
        all.extend(page.rows.iter().map(|row| {
            let position = row.announcement.position;
            (position.epoch, position.seq)
        }));
        after = if page.rows.is_empty() { None } else { page.next };
    }
    all
}

#[test]
fn killed_at_any_instant_nothing_is_lost_or_doubled() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected: Vec<(u64, u64)> = Vec::new();
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    for round in 1..=ROUNDS {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let lines = usize::try_from(random >> 54).unwrap();
        let (epoch, last) = run_and_kill(dir.path(), lines);
        assert_eq!(epoch, round, "each life has an epoch of its own");

        let store = Store::open_on(dir.path(), &dir.path().join("data")).unwrap();
        let found = history(&store);
        let of_this_life = found.iter().filter(|(e, _)| *e == epoch).count() as u64;
        // The last one may have reached shared memory and not the pipe.
        assert!(
            (last..=last + 1).contains(&of_this_life),
            "round {round}: told {last}, found {of_this_life}"
        );
        expected.extend((1..=of_this_life).map(|seq| (epoch, seq)));
        assert_eq!(found, expected, "round {round}: in order, without gap or repeat");
        assert!(store.place().recover().is_empty());
    }
}
