//! Killed at named points: between every two steps that make an announcement, a baseline, a key or an
//! epoch durable. What the random moments of the crash test hit now and then is hit here each time.
//!
//! A child process (this test's own executable) lives one life of a source and its journal thread,
//! with the engine's own parts in the engine's own order, says what it broadcasts, and kills itself at
//! its point. The next life must make good what is missing and repeat nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tocsin::rings::SourceToFeed;
use tocsin::store::{NewKey, Store, shm};
use tocsin::threads::Step as _;
use tocsin::threads::journal::{Inlet, Journal};
use tocsin::threads::source::publish::{AnnouncementLog, Publisher, PublisherParts};
use tocsin_core::classify::classify;
use tocsin_core::detect::{Detected, Detector, Findings, ListHistory};
use tocsin_core::feed::key::{AllowedExchanges, Tier};
use tocsin_core::model::{Announcement, CategoryHint, Exchange, FeedPosition};
use tocsin_core::source::{SourceSpec, exchange};
use tocsin_core::time::{Mono, Now, WallUs};
use tocsin_core::wire::EncodedAnnouncement;

const CHILD: &str = "TOCSIN_TEST_CRASH_POINT";
/// The first start ever, and how long after it a life reads its page, in microseconds.
const FIRST_START: WallUs = WallUs(1_795_000_000_000_000);
const LATER_US: i64 = 20_000_000;

/// Where a life ends. `Nowhere` ends it properly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Point {
    EpochRaised,
    ListsStarted,
    JournalMade,
    /// In shared memory, in no ring.
    Appended,
    /// Broadcast, but nothing has reached the journal thread.
    Told,
    /// In the journal thread's ring, not on disk.
    Settled,
    /// Some seen items of the answer are on disk, the others and the baseline are not.
    HalfSeen,
    /// All seen items are on disk, the baseline is not.
    AllSeen,
    /// All is on disk.
    Committed,
    KeyCommitted,
    Nowhere,
}

const POINTS: [Point; 11] = [
    Point::EpochRaised,
    Point::ListsStarted,
    Point::JournalMade,
    Point::Appended,
    Point::Told,
    Point::Settled,
    Point::HalfSeen,
    Point::AllSeen,
    Point::Committed,
    Point::KeyCommitted,
    Point::Nowhere,
];

fn die() -> ! {
    let own = rustix::process::getpid();
    rustix::process::kill_process(own, rustix::process::Signal::KILL).unwrap();
    unreachable!("SIGKILL does not return")
}

impl Point {
    /// Ends the life if this is its point.
    fn reached(self, here: Point) {
        if self == here {
            die();
        }
    }
}

/// The real journal, which dies right after the second record.
struct Log(shm::Writer, Point, u32);

impl AnnouncementLog for Log {
    fn append(&mut self, announcement: &EncodedAnnouncement) -> Option<u64> {
        let end = self.0.append(announcement);
        self.2 += 1;
        if self.2 == 2 {
            self.1.reached(Point::Appended);
        }
        end
    }
}

fn spec() -> &'static SourceSpec {
    exchange::by_config_name("binance").unwrap()
}

/// A page of the first list: newest first, `(number, title, seconds after the first start)`.
fn page(rows: &[(u32, &str, i64)]) -> String {
    let articles: Vec<String> = rows
        .iter()
        .map(|(number, title, at)| {
            let published_ms = FIRST_START.0 / 1_000 + at * 1_000;
            format!(r#"{{"code":"{number}","title":"{title}","releaseDate":{published_ms}}}"#)
        })
        .collect();
    format!(r#"{{"data":{{"articles":[{}]}}}}"#, articles.join(","))
}

const OLD: [(u32, &str, i64); 4] =
    [(4, "Old D", -40), (3, "Old C", -50), (2, "Old B", -60), (1, "Binance Will List Old (OLD)", -70)];
const NEW: [(u32, &str, i64); 3] = [
    (13, "Binance Will List Sample C (SMPC)", 9),
    (12, "Binance Will List Sample B (SMPB)", 8),
    (11, "Binance Will List Sample A (SMPA)", 7),
];

fn announcement(found: Detected, now: Now) -> Announcement {
    let Detected { record, action, late, url, .. } = found;
    Announcement {
        id: format!("binance:{}", record.notice_id),
        position: FeedPosition::default(),
        exchange: Exchange::Binance,
        classification: classify(Exchange::Binance, &record.title, CategoryHint::None),
        title: record.title.into(),
        action,
        late,
        url,
        notice_id: record.notice_id.into(),
        source: spec().name.to_owned(),
        published: record.published,
        received: now.wall,
        detected: now.wall,
        classified: now.wall,
        effective_at: None,
    }
}

/// What the store remembers, as the engine loads it.
fn detector(store: &mut Store) -> Detector {
    let mut detector = Detector::new(spec(), Duration::from_secs(300));
    let names = || spec().lists.iter().map(|list| list.name);
    let starts = store.first_starts(spec().name, names(), FIRST_START).unwrap();
    for (index, (name, first_start)) in names().zip(starts).enumerate() {
        let baselined = store.is_baselined(spec().name, name).unwrap();
        detector.load_list(index, ListHistory { first_start, baselined });
    }
    for record in store.load_seen(spec().name).unwrap() {
        detector.load_seen(&record);
    }
    for stored in store.load_history(100).unwrap() {
        let a = stored.announcement;
        detector.load_announced(&a.notice_id, &a.title, a.published);
    }
    detector
}

/// One life, which reads one page.
fn live(data_dir: &Path, point: Point, page: &str) {
    let mut store = Store::open(data_dir).unwrap();
    let epoch = store.next_epoch().unwrap();
    point.reached(Point::EpochRaised);
    if point == Point::KeyCommitted {
        let allowed = AllowedExchanges::all();
        let new = NewKey {
            label: String::new(),
            tier: Tier::Premium,
            max_connections: 1,
            allowed,
            expires_at: None,
            delay: Duration::ZERO,
            redact: false,
            account: None,
        };
        store.create_key(&new, FIRST_START).unwrap();
        die();
    }
    let mut detector = detector(&mut store);
    point.reached(Point::ListsStarted);
    let (writer, committer) = store.place().create(0).unwrap();
    point.reached(Point::JournalMade);
    let (to_feed, mut feed) = rtrb::RingBuffer::new(64);
    let (to_journal, ring) = rtrb::RingBuffer::new(64);
    let (to_history, _history) = rtrb::RingBuffer::new(64);
    let mut publisher = Publisher::new(PublisherParts {
        epoch,
        next_seq: Arc::new(AtomicU64::new(1)),
        log: Box::new(Log(writer, point, 0)),
        feeds: vec![to_feed.into()],
        journal: to_journal,
        history: to_history,
        webhook: None,
        market: None,
        losses: Arc::default(),
    });
    let (_requests, received) = crossbeam::channel::bounded(1);
    let mut journal = Journal::new(store, vec![Inlet { ring, shm: committer }], received);

    let now = Now { mono: Mono(1), wall: WallUs(FIRST_START.0 + LATER_US) };
    let mut findings = Findings::default();
    detector.on_body(0, &mut page.as_bytes().to_vec(), now, &mut findings).unwrap();
    for found in findings.detected.drain(..) {
        publisher.announce(announcement(found, now));
        while let Ok(SourceToFeed::Announcement(told)) = feed.pop() {
            println!("told {}", told.announcement.title);
            std::io::stdout().flush().unwrap();
        }
        point.reached(Point::Told);
    }
    publisher.settle();
    point.reached(Point::Settled);
    let half = findings.seen.len() / 2;
    for (index, record) in findings.seen.drain(..).enumerate() {
        publisher.seen(record);
        if point == Point::HalfSeen && index == half {
            journal.step(now);
            die();
        }
    }
    if point == Point::AllSeen {
        journal.step(now);
        die();
    }
    if findings.baselined {
        publisher.baselined(spec().name, spec().lists[0].name);
    }
    journal.step(now);
    point.reached(Point::Committed);
    journal.finish(now);
}

/// The child's whole life; does nothing when run as a test.
#[test]
fn child_process() {
    let Some(told) = std::env::var_os(CHILD) else { return };
    let told = told.into_string().unwrap();
    let mut words = told.splitn(3, ' ');
    let index: usize = words.next().unwrap().parse().unwrap();
    live(Path::new(words.next().unwrap()), POINTS[index], words.next().unwrap());
}

/// Lives one life in a child; adds to what was broadcast so far.
fn child(data_dir: &Path, point: Point, page: &str, told: &mut BTreeMap<String, u32>) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_process", "--nocapture", "--test-threads=1"])
        .env(CHILD, format!("{} {} {page}", point as usize, data_dir.display()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let killed = std::os::unix::process::ExitStatusExt::signal(&output.status) == Some(9);
    assert!(
        killed || output.status.success(),
        "{point:?}: {said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for line in said.lines() {
        // The harness prints the name of the test before the first line.
        if let Some((_, title)) = line.split_once("told ") {
            *told.entry(title.to_owned()).or_default() += 1;
        }
    }
}

/// After lives that ended anywhere and a proper one: the new items are in history once, nothing else
/// is, and nothing was broadcast twice.
fn settled(data_dir: &Path, told: &BTreeMap<String, u32>, case: &str) {
    let store = Store::open(data_dir).unwrap();
    let history = store.load_history(100).unwrap();
    let mut titles: Vec<_> = history.iter().map(|stored| stored.announcement.title.as_str()).collect();
    titles.sort_unstable();
    let mut expected = NEW.map(|(_, title, _)| title);
    expected.sort_unstable();
    assert_eq!(titles, expected, "{case}");
    assert!(told.values().all(|n| *n == 1), "{case}: {told:?}");
    assert!(told.keys().all(|title| titles.contains(&title.as_str())), "{case}: {told:?}");
    let seen = store.load_seen(spec().name).unwrap();
    assert_eq!(seen.len(), OLD.len() + NEW.len(), "{case}");
}

fn all() -> String {
    page(&[&NEW[..], &OLD[..]].concat())
}

#[test]
fn killed_at_any_point_of_an_answer_with_news() {
    for point in POINTS {
        let dir = tempfile::tempdir().unwrap();
        let mut told = BTreeMap::new();
        child(dir.path(), Point::Nowhere, &page(&OLD), &mut told);
        assert!(told.is_empty(), "the baseline is silent");
        child(dir.path(), point, &all(), &mut told);
        child(dir.path(), Point::Nowhere, &all(), &mut told);
        settled(dir.path(), &told, &format!("{point:?}"));
        let silent: u32 = if point == Point::Appended { 1 } else { 0 };
        assert_eq!(
            told.len() as u32 + silent,
            3,
            "{point:?}: only what was between memory and ring is silent"
        );
    }
}

#[test]
fn killed_at_any_point_of_the_first_answer_ever() {
    for first in POINTS {
        // The page changes while the engine is down: what came after the first start is news.
        let dir = tempfile::tempdir().unwrap();
        let mut told = BTreeMap::new();
        child(dir.path(), first, &page(&OLD), &mut told);
        assert!(told.is_empty(), "{first:?}");
        child(dir.path(), Point::Nowhere, &all(), &mut told);
        settled(dir.path(), &told, &format!("{first:?}, news later"));
        assert_eq!(told.len(), 3);

        // It holds news from the start, and the second life is killed too.
        for second in POINTS {
            let dir = tempfile::tempdir().unwrap();
            let mut told = BTreeMap::new();
            child(dir.path(), first, &all(), &mut told);
            child(dir.path(), second, &all(), &mut told);
            child(dir.path(), Point::Nowhere, &all(), &mut told);
            settled(dir.path(), &told, &format!("{first:?}, {second:?}"));
        }
    }
}

#[test]
fn epochs_and_keys_are_there_once_they_were_returned() {
    let dir = tempfile::tempdir().unwrap();
    let mut told = BTreeMap::new();
    for point in POINTS {
        child(dir.path(), point, &page(&OLD), &mut told);
    }
    let mut store = Store::open(dir.path()).unwrap();
    assert_eq!(store.next_epoch().unwrap(), POINTS.len() as u64 + 1);
    assert_eq!(store.load_keys().unwrap().len(), 1);
    assert!(told.is_empty() && store.load_history(10).unwrap().is_empty());
}

/// Records lie in several journals when there were several source threads; a later life has fewer.
#[test]
fn journals_of_more_threads_than_there_are_now_are_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let now = Now { mono: Mono(1), wall: FIRST_START };
    for (index, seq) in [(0, 2), (3, 1), (63, 3)] {
        let (mut writer, _committer) = store.place().create(index).unwrap();
        let record = tocsin_core::detect::SeenRecord {
            source: spec().name,
            notice_id: seq.to_string().into(),
            title: format!("Binance Will List Sample {seq} (SMP{seq})").into(),
            fingerprint: 0,
            published: FIRST_START,
        };
        let found = Detected {
            record,
            modified: None,
            url: String::new(),
            hint: CategoryHint::None,
            action: tocsin_core::model::Action::Created,
            late: false,
        };
        let mut one = announcement(found, now);
        one.position = FeedPosition { epoch: 1, seq };
        writer.append_announcement(&one).unwrap();
    }
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    let seqs: Vec<_> = store.load_history(10).unwrap().iter().map(|s| s.announcement.position.seq).collect();
    assert_eq!(seqs, [1, 2, 3]);
    assert!(store.place().recover().is_empty());
}
