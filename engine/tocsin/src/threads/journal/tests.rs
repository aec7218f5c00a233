//! The journal thread, stepped by hand over a real store.

use tocsin_core::detect::SeenRecord;
use tocsin_core::time::WallUs;
use tocsin_core::wire;
use tokio::sync::oneshot;

use super::*;
use crate::store::HistoryQuery;
use crate::store::shm::Writer;
use crate::store::testing::{NOW, announcement, new_key, store};

struct Bench {
    _dir: tempfile::TempDir,
    journal: Journal,
    ring: rtrb::Producer<SourceToJournal>,
    writer: Writer,
    requests: Sender<JournalRequest>,
    seconds: u64,
}

impl Bench {
    fn new(depth: usize) -> Bench {
        let (dir, store) = store();
        let (writer, shm) = store.place().create(0).unwrap();
        let (ring, consumer) = rtrb::RingBuffer::new(depth);
        let (requests, receiver) = crossbeam::channel::bounded(8);
        let journal = Journal::new(store, vec![Inlet { ring: consumer, shm }], receiver);
        Bench { _dir: dir, journal, ring, writer, requests, seconds: 1 }
    }

    /// As the source thread does: shared memory first, then the ring, which may be full.
    fn announce(&mut self, seq: u64) -> Arc<EncodedAnnouncement> {
        let announcement = Arc::new(wire::encode(announcement(1, seq)));
        let shm_position = self.writer.append(&announcement);
        let message = SourceToJournal::Announcement { announcement: Arc::clone(&announcement), shm_position };
        let _ = self.ring.push(message);
        announcement
    }

    fn step(&mut self) {
        self.seconds += 2;
        let now = Now { mono: Mono(self.seconds * 1_000_000_000), wall: NOW };
        self.journal.step(now);
    }

    fn history(&self) -> Vec<(u64, Option<WallUs>)> {
        let query = HistoryQuery { limit: 1_000, ..HistoryQuery::default() };
        let rows = self.journal.store.query_history(&query).unwrap();
        rows.iter().map(|s| (s.announcement.position.seq, s.dispatched)).collect()
    }

    fn unreleased(&self) -> u64 {
        self.journal.inlets[0].shm.backlog_bytes()
    }

    /// Lets the database grow by this many pages and no further.
    fn set_free_pages(&self, pages: i64) {
        self.journal.store.set_free_pages(pages);
    }
}

#[test]
fn one_group_is_committed_and_released() {
    let mut bench = Bench::new(64);
    let at = WallUs(NOW.0 + 7);
    for seq in 1..=3 {
        bench.announce(seq).mark_dispatched(at);
    }
    bench.ring.push(SourceToJournal::Baselined { source: "binance.cms", list: "48" }).unwrap();
    bench.step();
    assert_eq!(bench.history(), [(1, Some(at)), (2, Some(at)), (3, Some(at))]);
    assert_eq!(bench.unreleased(), 0);
    assert!(bench.journal.store.is_baselined("binance.cms", "48").unwrap());
    let counters = bench.journal.counters();
    assert_eq!(counters.commits.load(Ordering::Relaxed), 1, "one transaction for all");
    assert_eq!(counters.rows.load(Ordering::Relaxed), 4);
}

#[test]
fn a_dispatch_not_known_at_commit_is_filled_in() {
    let mut bench = Bench::new(64);
    let first = bench.announce(1);
    bench.step();
    assert_eq!(bench.history(), [(1, None)]);
    first.mark_dispatched(NOW);
    bench.step();
    assert_eq!(bench.history(), [(1, Some(NOW))]);
    assert!(bench.journal.awaited.is_empty());

    bench.announce(2);
    for _ in 0..=DISPATCH_PATIENCE.as_secs() {
        bench.step();
    }
    assert!(bench.journal.awaited.is_empty(), "given up in the end");
}

#[test]
fn what_the_full_ring_lost_comes_from_shared_memory() {
    let mut bench = Bench::new(2);
    for seq in 1..=5 {
        bench.announce(seq); // 3, 4 and 5 do not fit into the ring.
    }
    bench.step();
    bench.announce(6);
    bench.step();
    let seqs: Vec<u64> = bench.history().iter().map(|(seq, _)| *seq).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5, 6]);
    assert_eq!(bench.unreleased(), 0);
    assert_eq!(bench.journal.store.load_seen("binance.cms").unwrap().len(), 6);
}

#[test]
fn the_sweep_finds_what_nothing_follows() {
    let mut bench = Bench::new(1);
    bench.announce(1);
    bench.announce(2);
    bench.step();
    bench.step();
    bench.step();
    assert_eq!(bench.history().len(), 2);
    assert_eq!(bench.unreleased(), 0);
}

#[test]
fn a_full_disk_loses_nothing_and_is_left_behind() {
    let mut bench = Bench::new(256);
    bench.set_free_pages(0);
    for seq in 1..=200 {
        bench.announce(seq);
    }
    bench.step();
    bench.step();
    assert!(bench.history().is_empty());
    assert!(bench.unreleased() > 0);
    let counters = bench.journal.counters();
    assert!(counters.failures.load(Ordering::Relaxed) >= 2);
    bench.set_free_pages(10_000);
    bench.step();
    assert_eq!(bench.history().len(), 200);
    assert_eq!(bench.unreleased(), 0);
    assert_eq!(counters.rejected.load(Ordering::Relaxed), 0);
}

#[test]
fn a_row_that_can_never_be_stored_does_not_hold_up_the_rest() {
    let mut bench = Bench::new(64);
    bench.announce(1);
    bench.announce(u64::MAX); // SQLite's integers are signed.
    bench.announce(2);
    bench.step();
    assert_eq!(bench.history().iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(bench.unreleased(), 0);
    assert_eq!(bench.journal.counters().rejected.load(Ordering::Relaxed), 1);
}

#[test]
fn the_backlog_is_bounded() {
    let mut bench = Bench::new(limits::JOURNAL_BACKLOG + 10);
    bench.set_free_pages(0);
    for i in 0..limits::JOURNAL_BACKLOG + 10 {
        let record = SeenRecord {
            source: "binance.cms",
            notice_id: i.to_string().into(),
            title: "".into(),
            fingerprint: 0,
            published: NOW,
        };
        bench.ring.push(SourceToJournal::Seen(record)).unwrap();
    }
    bench.step();
    assert_eq!(bench.journal.backlog.len(), limits::JOURNAL_BACKLOG);
    assert_eq!(bench.journal.inlets[0].ring.slots(), 10);
}

#[test]
fn requests_are_answered_after_their_commit() {
    let mut bench = Bench::new(1);
    let (reply, mut answer) = oneshot::channel();
    bench.requests.send(JournalRequest::CreateKey { new: Box::new(new_key()), reply }).unwrap();
    bench.step();
    let (key, _secret) = answer.try_recv().unwrap().unwrap();
    assert_eq!(bench.journal.store.load_keys().unwrap(), std::slice::from_ref(&key));

    let (reply, mut answer) = oneshot::channel();
    bench.requests.send(JournalRequest::RevokeKey { id: key.id, reply }).unwrap();
    let (reply, mut refused) = oneshot::channel();
    bench.requests.send(JournalRequest::SetKeyExpiry { id: key.id, expires_at: None, reply }).unwrap();
    bench.step();
    assert_eq!(answer.try_recv().unwrap().unwrap().revoked_at, Some(NOW));
    assert_eq!(refused.try_recv().unwrap().unwrap_err().code(), "key_revoked");
}

#[test]
fn finish_commits_what_is_left_and_clears_shared_memory() {
    let mut bench = Bench::new(1);
    bench.announce(1);
    bench.announce(2);
    bench.journal.finish(clock::now());
    assert_eq!(bench.history().len(), 2);
    assert!(bench.journal.store.place().recover().is_empty());
}
