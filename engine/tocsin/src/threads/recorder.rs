//! The recorder thread: takes copies of answers and announcements and writes them into files.
//!
//! Contract: drains the taps of the source threads a bounded slice a turn, writes each answer and each
//! announcement as a line, makes what it wrote readable once a second. Owner: its thread, on a
//! housekeeping core; it allocates and blocks on the disk as it likes, for nobody waits for it: taps that
//! are not drained fill up and count what they lose, and a line of the recording says so.
//!
//! Failure: a disk that takes nothing is said once and counted; lines are dropped (and counted) until
//! the disk takes one again, in a new file, at most [`RETRY`] later. Bounds: the taps, the files' own bound
//! ([`crate::record::Files`]), [`AWAITED`] announcements whose dispatch is not known yet.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tocsin_core::source::SourceSpec;
use tocsin_core::time::{Mono, Now, WallUs};
use tocsin_core::wire::EncodedAnnouncement;

use super::source::tap::{Far, Poll, TapLosses};
use super::{Step, Turn};
use crate::record::{AnnouncementLine, Body, Files, Line, PollLine};

/// Answers taken from one tap in one turn.
const POLLS_A_TURN: usize = 64;
/// Between two flushes.
const FLUSH: Duration = Duration::from_secs(1);
/// After the disk refused something.
const RETRY: Duration = Duration::from_secs(5);
/// How long the dispatch of an announcement is waited for.
const DISPATCH_PATIENCE: Duration = Duration::from_millis(500);
/// Announcements that wait for it.
const AWAITED: usize = 4_096;
/// How often a quiet recorder looks.
const LOOK: Duration = Duration::from_millis(10);

/// What the recorder has done. Anybody may read it.
#[derive(Debug, Default)]
pub struct RecorderCounters {
    /// Lines of polls.
    pub polls: AtomicU64,
    /// Of these, with a body.
    pub bodies: AtomicU64,
    /// Of these, that said nothing new.
    pub unchanged: AtomicU64,
    /// Lines of announcements.
    pub announcements: AtomicU64,
    /// Lines the disk did not take.
    pub unwritten: AtomicU64,
    /// Times the disk refused.
    pub failures: AtomicU64,
    /// What the taps lost, of each source thread.
    pub losses: Vec<Arc<TapLosses>>,
}

impl RecorderCounters {
    /// Lost on the way: polls, bodies, announcements.
    #[must_use]
    pub fn lost(&self) -> (u64, u64, u64) {
        let sum = |of: fn(&TapLosses) -> &AtomicU64| {
            self.losses.iter().map(|losses| of(losses).load(Ordering::Relaxed)).sum()
        };
        (sum(|l| &l.polls), sum(|l| &l.bodies), sum(|l| &l.announcements))
    }
}

/// One source thread's tap, and the sources it polls in the order of its lanes.
pub struct RecorderInlet {
    /// The far end.
    pub far: Far,
    /// By [`Poll::lane`].
    pub sources: Vec<&'static SourceSpec>,
}

/// See the module head.
pub struct Recorder {
    inlets: Vec<RecorderInlet>,
    files: Files,
    body: Vec<u8>,
    awaited: VecDeque<(Arc<EncodedAnnouncement>, Mono)>,
    told: (u64, u64, u64),
    flush_at: Mono,
    retry_at: Mono,
    failing: bool,
    counters: Arc<RecorderCounters>,
}

impl Recorder {
    /// Takes its ends.
    #[must_use]
    pub fn new(inlets: Vec<RecorderInlet>, files: Files) -> Recorder {
        let losses = inlets.iter().map(|inlet| Arc::clone(&inlet.far.losses)).collect();
        Recorder {
            inlets,
            files,
            body: Vec::new(),
            awaited: VecDeque::new(),
            told: (0, 0, 0),
            flush_at: Mono(0),
            retry_at: Mono(0),
            failing: false,
            counters: Arc::new(RecorderCounters { losses, ..RecorderCounters::default() }),
        }
    }

    /// Its counters.
    #[must_use]
    pub fn counters(&self) -> Arc<RecorderCounters> {
        Arc::clone(&self.counters)
    }

    fn polls(&mut self, now: Now, most: usize) -> usize {
        let mut work = 0;
        for index in 0..self.inlets.len() {
            for _ in 0..most {
                let Some(inlet) = self.inlets.get_mut(index) else { break };
                let Some(poll) = inlet.far.next(&mut self.body) else { break };
                let line = poll_line(&poll, &inlet.sources, &self.body);
                work += 1;
                if self.write(&Line::Poll(line), now) {
                    self.counters.polls.fetch_add(1, Ordering::Relaxed);
                    self.counters.bodies.fetch_add(u64::from(!self.body.is_empty()), Ordering::Relaxed);
                    let unchanged = u64::from(poll.outcome.is_unchanged());
                    self.counters.unchanged.fetch_add(unchanged, Ordering::Relaxed);
                }
            }
        }
        work
    }

    /// Announcements wait here for their dispatch time; late ones have none.
    fn announcements(&mut self, now: Now, patience: Duration) -> usize {
        let mut work = 0;
        for inlet in &mut self.inlets {
            while self.awaited.len() < AWAITED {
                let Ok(announcement) = inlet.far.announcements.pop() else { break };
                self.awaited.push_back((announcement, now.mono));
            }
        }
        while let Some((announcement, since)) = self.awaited.front() {
            let dispatched = announcement.dispatched();
            let waits = dispatched.is_none() && !announcement.announcement.late;
            if waits && now.mono.since(*since) < patience {
                break;
            }
            let line = AnnouncementLine::new(&announcement.announcement, dispatched);
            self.awaited.pop_front();
            work += 1;
            if self.write(&Line::Announcement(Box::new(line)), now) {
                self.counters.announcements.fetch_add(1, Ordering::Relaxed);
            }
        }
        work
    }

    /// Says what was lost since it was last said.
    fn losses(&mut self, now: Now) {
        let lost = self.counters.lost();
        if lost == self.told {
            return;
        }
        let (polls, bodies, announcements) =
            (lost.0 - self.told.0, lost.1 - self.told.1, lost.2 - self.told.2);
        if self.write(&Line::Lost { at_us: now.wall.0, polls, bodies, announcements }, now) {
            if self.told == (0, 0, 0) {
                tracing::warn!(
                    polls,
                    bodies,
                    announcements,
                    "the recorder is too slow; more is counted in `tocsin status`"
                );
            }
            self.told = lost;
        }
    }

    /// Whether the disk took the line.
    fn write(&mut self, line: &Line, now: Now) -> bool {
        if now.mono < self.retry_at {
            self.counters.unwritten.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        let written = self.files.write(line, now.wall.0);
        if let Err(error) = written {
            self.counters.unwritten.fetch_add(1, Ordering::Relaxed);
            self.refused(&error, now);
            return false;
        }
        if std::mem::take(&mut self.failing) {
            tracing::info!("the recorder writes again");
        }
        true
    }

    fn refused(&mut self, error: &crate::record::FilesError, now: Now) {
        self.counters.failures.fetch_add(1, Ordering::Relaxed);
        self.retry_at = now.mono + RETRY;
        if !std::mem::replace(&mut self.failing, true) {
            tracing::error!(%error, "the recording has a gap: the disk takes nothing; trying again");
        }
    }

    fn flush(&mut self, now: Now) {
        self.flush_at = now.mono + FLUSH;
        self.losses(now);
        if let Err(error) = self.files.flush() {
            self.refused(&error, now);
        }
    }
}

fn poll_line(poll: &Poll, sources: &[&'static SourceSpec], body: &[u8]) -> PollLine {
    let source = sources.get(usize::from(poll.lane));
    let list = source.and_then(|source| source.lists.get(usize::from(poll.list)));
    PollLine {
        source: source.map_or("unknown", |source| source.name).to_owned(),
        list: list.map_or("unknown", |list| list.name).to_owned(),
        at_us: poll.at.0,
        elapsed_us: poll.elapsed_us,
        status: poll.status,
        outcome: poll.outcome,
        body: (!body.is_empty()).then(|| Body::new(body)),
    }
}

impl Step for Recorder {
    fn step(&mut self, now: Now) -> Turn {
        let work = self.polls(now, POLLS_A_TURN) + self.announcements(now, DISPATCH_PATIENCE);
        if now.mono >= self.flush_at {
            self.flush(now);
        }
        Turn { work, deadline: now.mono + LOOK }
    }

    /// The source threads have ended: everything that is in the taps is taken, and the file ended.
    fn finish(&mut self, now: Now) {
        while self.polls(now, POLLS_A_TURN) + self.announcements(now, Duration::ZERO) > 0 {}
        self.losses(now);
        let WallUs(at_us) = now.wall;
        if let Err(error) = self.files.end(at_us) {
            tracing::error!(%error, "the end of the recording was not written");
        }
    }
}

#[cfg(test)]
mod tests {
    use tocsin_core::source::exchange::upbit;

    use super::*;
    use crate::record::{Outcome, Visit, read};
    use crate::threads::source::tap::{Tap, tap};

    fn now(ms: u64) -> Now {
        Now { mono: Mono(ms * 1_000_000), wall: WallUs(i64::try_from(ms).unwrap() * 1_000) }
    }

    fn poll(outcome: Outcome, at: i64) -> Poll {
        Poll { lane: 0, list: 0, status: 200, outcome, at: WallUs(at), elapsed_us: 3 }
    }

    fn recorder(dir: &std::path::Path, bytes: usize) -> (Tap, Recorder) {
        let (near, far) = tap(bytes, 4);
        let inlet = RecorderInlet { far, sources: vec![&upbit::WEB] };
        (near, Recorder::new(vec![inlet], Files::open(dir, 1 << 20, 3).unwrap()))
    }

    fn lines(dir: &std::path::Path) -> Vec<Line> {
        let mut lines = Vec::new();
        read(dir, &mut |_, visit| {
            if let Visit::Line(line) = visit {
                lines.push(line);
            }
            Ok(())
        })
        .unwrap();
        lines
    }

    #[test]
    fn answers_and_what_was_lost_are_on_disk_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let (mut tap, mut recorder) = recorder(dir.path(), 200);
        tap.poll(poll(Outcome::Parsed, 1), b"{\"a\":1}");
        tap.poll(poll(Outcome::Identical, 2), b"");
        tap.poll(poll(Outcome::Parsed, 3), &[b'x'; 300]);
        recorder.step(now(0));
        tap.poll(poll(Outcome::NotModified, 4), b"");
        recorder.finish(now(5));
        let lines = lines(dir.path());
        let polls: Vec<_> = lines
            .iter()
            .filter_map(|line| match line {
                Line::Poll(poll) => Some((poll.at_us, poll.body.is_some(), poll.source.as_str())),
                _ => None,
            })
            .collect();
        let name = upbit::WEB.name;
        assert_eq!(polls, [(1, true, name), (2, false, name), (3, false, name), (4, false, name)]);
        assert!(lines.contains(&Line::Lost { at_us: 0, polls: 0, bodies: 1, announcements: 0 }), "{lines:?}");
        assert!(matches!(lines.last(), Some(Line::End { polls: 4, bodies: 1, unchanged: 2, .. })));
        let counters = recorder.counters();
        assert_eq!((counters.polls.load(Ordering::Relaxed), counters.lost()), (4, (0, 1, 0)));
    }

    #[test]
    fn an_announcement_waits_for_its_dispatch_but_not_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let (mut tap, mut recorder) = recorder(dir.path(), 200);
        let encoded = |late| {
            let mut line = AnnouncementLine::new(&crate::store::testing::announcement(1, 1), None);
            line.late = late;
            Arc::new(tocsin_core::wire::encode(line.announcement().unwrap()))
        };
        let (sent, silent) = (encoded(false), encoded(false));
        tap.announcement(&sent);
        tap.announcement(&silent);
        assert_eq!(recorder.step(now(0)).work, 0);
        sent.mark_dispatched(WallUs(77));
        assert_eq!(recorder.step(now(1)).work, 1);
        assert_eq!(recorder.step(now(400)).work, 0);
        assert_eq!(recorder.step(now(600)).work, 1);
        tap.announcement(&encoded(true));
        assert_eq!(recorder.step(now(601)).work, 1);
        recorder.finish(now(700));
        let lines = lines(dir.path());
        let dispatched: Vec<_> = lines
            .iter()
            .filter_map(|line| if let Line::Announcement(a) = line { Some(a.dispatched_us) } else { None })
            .collect();
        assert_eq!(dispatched, [Some(77), None, None]);
    }

    #[test]
    fn a_disk_that_takes_nothing_costs_lines_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("gone");
        let (mut tap, mut recorder) = recorder(&folder, 4_096);
        std::fs::remove_dir(&folder).unwrap();
        std::fs::write(&folder, "no directory").unwrap();
        for at in 0..10 {
            tap.poll(poll(Outcome::Parsed, at), b"{}");
        }
        recorder.step(now(10_000));
        let counters = recorder.counters();
        assert_eq!(counters.unwritten.load(Ordering::Relaxed), 10);
        assert_eq!(counters.failures.load(Ordering::Relaxed), 1);
        std::fs::remove_file(&folder).unwrap();
        std::fs::create_dir(&folder).unwrap();
        tap.poll(poll(Outcome::Parsed, 11), b"{}");
        recorder.step(now(20_000));
        recorder.finish(now(20_001));
        assert_eq!(counters.polls.load(Ordering::Relaxed), 1);
    }
}
