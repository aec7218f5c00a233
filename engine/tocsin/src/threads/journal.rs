//! The journal thread: everything that must outlive the process goes through here to SQLite.
//!
//! Contract: drains the rings of the source threads, of the webhook thread and of the market thread and the
//! control plane's requests, commits what it has in one transaction (the more there is, the larger the group), then releases the shared-
//! memory records of what it committed. A request is answered after its commit. A record whose
//! ring entry was lost (the ring was full) is read from shared memory itself, before anything behind
//! it is released. Dispatch times that were not known at commit are filled in later. Mail that is due is
//! committed with the change it tells of; then the mail thread is told that there is some.
//!
//! Owner: journal thread. It allocates and blocks on the disk; it never makes a producer wait: rings
//! that are not drained fill up, and their producers count that.
//!
//! Failure: rows the disk refuses are tried again with growing pauses and held up to
//! [`limits::JOURNAL_BACKLOG`]; past that they stay in the rings, and announcements in shared
//! memory, where a later start finds them. Beyond half of it lines of the delivery log are dropped and
//! counted. A row that can never be stored is dropped, counted and
//! logged, and does not hold up the rest.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender};
use tocsin_core::limits;
use tocsin_core::time::{Mono, Now};
use tocsin_core::wire::EncodedAnnouncement;

use super::{Step, Turn};
use crate::os::clock;
use crate::rings::{JournalToLive, MarketToJournal, SourceToJournal, WebhookToJournal};
use crate::store::shm::{Committer, OutcomeCommitter};
use crate::store::webhook::secrets::MasterKey;
use crate::store::{Row, Store, StoreError};
use pending::{Pending, Release};

pub use crate::store::webhook::endpoints::RotatedSecret;
pub use live::{LiveInlet, LiveTap};
pub use request::{JournalRequest, Reply};

mod live;
mod pending;
mod request;

/// First and longest pause after the disk refused a commit.
const RETRY_MIN: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_secs(1);
/// How long the dispatch of a committed announcement is waited for.
const DISPATCH_PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks for shared-memory records whose ring entry was lost.
const SWEEP_PERIOD: Duration = Duration::from_secs(1);
/// At the end the disk gets this long to take what is left.
const FINISH_PATIENCE: Duration = Duration::from_secs(5);

/// Messages taken from the market thread in one turn: each may hold [`crate::topology::MARKET_RECORDS`].
const MARKET_A_TURN: usize = 8;

/// What a source thread sends, and the journal thread's end of its shared memory.
pub struct Inlet {
    /// From the source thread.
    pub ring: rtrb::Consumer<SourceToJournal>,
    /// Of the same source thread's [`crate::store::shm::Writer`].
    pub shm: Committer,
}

/// What the webhook thread sends, and the journal thread's end of its shared memory.
pub struct WebhookInlet {
    /// From the webhook thread. What is in it comes in its order: an event before its outcomes.
    pub ring: rtrb::Consumer<WebhookToJournal>,
    /// Of the webhook thread's [`crate::store::shm::OutcomeWriter`].
    pub shm: OutcomeCommitter,
}

/// Counters of the journal thread, for status and metrics. Only ever grow, but `backlog_rows`.
#[derive(Debug, Default)]
pub struct JournalCounters {
    /// Rows on disk.
    pub rows: AtomicU64,
    /// Transactions that brought them there.
    pub commits: AtomicU64,
    /// Commits the disk refused.
    pub failures: AtomicU64,
    /// Rows dropped because they can never be stored.
    pub rejected: AtomicU64,
    /// Announcements and outcomes found only in shared memory.
    pub recovered: AtomicU64,
    /// Lines of the delivery log dropped because the disk was behind.
    pub log_lines_dropped: AtomicU64,
    /// Rows waiting now.
    pub backlog_rows: AtomicU64,
}

/// A committed announcement whose dispatch was not known.
struct Awaited {
    announcement: Arc<EncodedAnnouncement>,
    until: Mono,
}

/// A request that waits until so many messages of each ring have been taken.
struct Barrier {
    sources: Vec<u64>,
    webhook: u64,
    reply: Reply<()>,
}

/// The journal thread's state.
pub struct Journal {
    store: Store,
    inlets: Vec<Inlet>,
    webhook: Option<WebhookInlet>,
    market: Option<rtrb::Consumer<MarketToJournal>>,
    requests: Receiver<JournalRequest>,
    key: Option<Arc<MasterKey>>,
    mail: Option<Sender<()>>,
    live: Option<LiveTap>,
    counters: Arc<JournalCounters>,
    backlog: VecDeque<Pending>,
    /// Messages taken from each source's ring, and from the webhook thread's.
    taken: (Vec<u64>, u64),
    barriers: VecDeque<Barrier>,
    awaited: VecDeque<Awaited>,
    retry_at: Mono,
    retry_pause: Duration,
    next_sweep: Mono,
    seen_since_prune: usize,
}

impl Journal {
    /// A journal thread in front of `store`.
    #[must_use]
    pub fn new(store: Store, inlets: Vec<Inlet>, requests: Receiver<JournalRequest>) -> Journal {
        Journal {
            store,
            taken: (vec![0; inlets.len()], 0),
            inlets,
            webhook: None,
            market: None,
            requests,
            key: None,
            mail: None,
            live: None,
            counters: Arc::default(),
            backlog: VecDeque::new(),
            barriers: VecDeque::new(),
            awaited: VecDeque::new(),
            retry_at: Mono(0),
            retry_pause: RETRY_MIN,
            next_sweep: Mono(0),
            seen_since_prune: 0,
        }
    }

    /// Takes what the webhook thread sends, too.
    #[must_use]
    pub fn with_webhook(self, inlet: WebhookInlet) -> Journal {
        Journal { webhook: Some(inlet), ..self }
    }

    /// Takes what the market thread sends, too.
    #[must_use]
    pub fn with_market(self, market: Option<rtrb::Consumer<MarketToJournal>>) -> Journal {
        Journal { market, ..self }
    }

    /// Seals the secrets of endpoints with this key; without one their requests are refused.
    #[must_use]
    pub fn with_master_key(self, key: Arc<MasterKey>) -> Journal {
        Journal { key: Some(key), ..self }
    }

    /// Tells the mail thread when there is mail in the outbox. A channel with room for one will do.
    #[must_use]
    pub fn with_mail_notifier(self, mail: Sender<()>) -> Journal {
        Journal { mail: Some(mail), ..self }
    }

    /// Shows what it commits to those who look on.
    #[must_use]
    pub fn with_live(self, live: LiveTap) -> Journal {
        Journal { live: Some(live), ..self }
    }

    /// Its counters.
    #[must_use]
    pub fn counters(&self) -> Arc<JournalCounters> {
        Arc::clone(&self.counters)
    }

    /// Ends it and gives the store back, for a test or a command that goes on with it.
    #[must_use]
    pub fn into_store(self) -> Store {
        self.store
    }

    /// Takes what the rings hold, up to the backlog's bound.
    fn drain_rings(&mut self, now: Now) -> usize {
        let before = self.backlog.len();
        for (inlet, Inlet { ring, .. }) in self.inlets.iter_mut().enumerate() {
            let room = limits::JOURNAL_BACKLOG.saturating_sub(self.backlog.len());
            let from = self.backlog.len();
            let messages = std::iter::from_fn(|| ring.pop().ok()).take(room);
            self.backlog.extend(messages.map(|message| Pending::of_source(message, inlet, now.wall)));
            if let Some(taken) = self.taken.0.get_mut(inlet) {
                *taken += (self.backlog.len() - from) as u64;
            }
        }
        if let Some(WebhookInlet { ring, .. }) = &mut self.webhook {
            // A few groups a turn: what waits in the ring is not behind, and its log lines stay.
            let room = limits::JOURNAL_BACKLOG.saturating_sub(self.backlog.len());
            let room = room.min(4 * limits::JOURNAL_ROWS_PER_COMMIT);
            let from = self.backlog.len();
            let messages = std::iter::from_fn(|| ring.pop().ok()).take(room);
            self.backlog.extend(messages.map(Pending::of_webhook));
            self.taken.1 += (self.backlog.len() - from) as u64;
        }
        // Only while the disk keeps up: it can wait, and a message of it is many rows.
        if let (Some(ring), true) = (&mut self.market, self.backlog.len() < limits::JOURNAL_ROWS_PER_COMMIT) {
            let messages = std::iter::from_fn(|| ring.pop().ok()).take(MARKET_A_TURN);
            self.backlog.extend(messages.map(Pending::Market));
        }
        let drained = self.backlog.len() - before;
        if self.backlog.len() > limits::JOURNAL_BACKLOG / 2 {
            let all = self.backlog.len();
            self.backlog.retain(|pending| !pending.is_optional());
            let dropped = all - self.backlog.len();
            self.counters.log_lines_dropped.fetch_add(dropped as u64, Ordering::Relaxed);
        }
        self.admit_barriers();
        drained
    }

    /// Barriers whose messages have all been taken go behind them into the backlog.
    fn admit_barriers(&mut self) {
        while let Some(first) = self.barriers.front() {
            let reached = self.taken.0.iter().zip(&first.sources).all(|(taken, until)| taken >= until);
            if !reached || self.taken.1 < first.webhook {
                return;
            }
            self.backlog.extend(self.barriers.pop_front().map(|barrier| Pending::Barrier(barrier.reply)));
        }
    }

    fn take_barrier(&mut self, reply: Reply<()>) {
        if self.barriers.len() >= limits::JOURNAL_BARRIERS {
            return; // Dropped: whoever waits for it is told so.
        }
        let slots = |taken: u64, slots: usize| taken + slots as u64;
        let sources = self.taken.0.iter().zip(&self.inlets).map(|(taken, i)| slots(*taken, i.ring.slots()));
        let webhook = self.webhook.as_ref().map_or(0, |inlet| slots(self.taken.1, inlet.ring.slots()));
        self.barriers.push_back(Barrier { sources: sources.collect(), webhook, reply });
    }

    /// Answers at most a few requests a turn, each with a commit of its own.
    fn answer_requests(&mut self, now: Now) -> usize {
        let mut answered = 0;
        while answered < 16 {
            let Ok(request) = self.requests.try_recv() else { break };
            answered += 1;
            if let Some(barrier) = request.answer(&mut self.store, self.key.as_deref(), now.wall) {
                self.take_barrier(barrier);
            }
        }
        if !self.barriers.is_empty() {
            self.drain_rings(now);
        }
        answered
    }

    /// Commits one group. True when the disk took it (or there was nothing).
    fn commit_group(&mut self, now: Now) -> bool {
        let size = pending::group(&self.backlog);
        if size == 0 || now.mono < self.retry_at {
            return size == 0;
        }
        let group = self.backlog.iter().take(size).map(Pending::row);
        let undispatched: Vec<bool> = group
            .clone()
            .map(|row| matches!(row, Some(Row::Announcement { dispatched: None, .. })))
            .collect();
        let rows: Vec<Row<'_>> = group.flatten().collect();
        if let Err(error) = commit_forgiving(&mut self.store, &rows, &self.counters) {
            self.counters.failures.fetch_add(1, Ordering::Relaxed);
            if self.retry_pause == RETRY_MIN {
                tracing::error!(%error, rows = self.backlog.len(), "the store refuses a commit; trying again");
            }
            self.retry_at = now.mono + self.retry_pause;
            self.retry_pause = (self.retry_pause * 2).min(RETRY_MAX);
            return false;
        }
        if self.retry_pause > RETRY_MIN {
            tracing::info!("the store takes commits again");
            self.retry_pause = RETRY_MIN;
        }
        self.counters.rows.fetch_add(rows.len() as u64, Ordering::Relaxed);
        self.settle(size, &undispatched, now);
        true
    }

    /// The first `size` rows of the backlog are on disk.
    fn settle(&mut self, size: usize, undispatched: &[bool], now: Now) {
        self.counters.commits.fetch_add(1, Ordering::Relaxed);
        let mut mail = false;
        for (pending, undispatched) in self.backlog.drain(..size).zip(undispatched) {
            match pending.release() {
                Some(Release::Source(inlet, position)) => {
                    if let Some(Inlet { shm, .. }) = self.inlets.get(inlet) {
                        release_up_to(&mut self.store, shm, position, &self.counters);
                    }
                }
                Some(Release::Webhook(position)) => {
                    if let Some(inlet) = &self.webhook {
                        inlet.shm.release(position);
                    }
                }
                None => {}
            }
            mail |= pending.has_mail();
            if let (Pending::Announcement { announcement, .. }, Some(live)) = (&pending, &mut self.live)
                && !announcement.announcement.late
            {
                live.show(|| JournalToLive::Announcement(Arc::clone(announcement)));
            }
            match pending {
                Pending::Announcement { announcement, .. }
                    if *undispatched && !announcement.announcement.late =>
                {
                    if self.awaited.len() >= limits::JOURNAL_AWAITING_DISPATCH {
                        self.awaited.pop_front();
                    }
                    self.awaited.push_back(Awaited { announcement, until: now.mono + DISPATCH_PATIENCE });
                }
                Pending::Seen(_) | Pending::Confirmed { .. } => self.seen_since_prune += 1,
                Pending::Attempt(line) => {
                    if let Some(live) = &mut self.live {
                        live.show(|| JournalToLive::Attempt(line));
                    }
                }
                // One who no longer waits needs no answer.
                Pending::Barrier(reply) => drop(reply.send(Ok(()))),
                _ => {}
            }
        }
        if let (true, Some(notify)) = (mail, &self.mail) {
            // Full: the mail thread has yet to look, and will find this one too.
            let _ = notify.try_send(());
        }
    }

    /// Dispatch times known by now become rows.
    fn collect_dispatches(&mut self, now: Now) {
        let backlog = &mut self.backlog;
        self.awaited.retain(|Awaited { announcement, until }| match announcement.dispatched() {
            Some(at) if backlog.len() < limits::JOURNAL_BACKLOG => {
                backlog.push_back(Pending::Dispatched { position: announcement.announcement.position, at });
                false
            }
            _ => now.mono < *until,
        });
    }

    /// Looks into shared memory for records that no ring entry will release.
    fn sweep(&mut self, now: Now) {
        if now.mono < self.next_sweep || !self.backlog.is_empty() {
            return;
        }
        self.next_sweep = now.mono + SWEEP_PERIOD;
        for (inlet, Inlet { ring, shm }) in self.inlets.iter().enumerate() {
            // The end is read first: a record before it had its ring entry, if any, taken by now.
            let end = shm.end();
            if shm.backlog_bytes() == 0 || !ring.is_empty() {
                continue;
            }
            for (announcement, position) in shm.unreleased(end) {
                let announcement = Box::new(announcement);
                self.backlog
                    .push_back(Pending::Swept { announcement, release: Release::Source(inlet, position) });
            }
        }
    }
}

impl Journal {
    /// The webhook thread has ended, its ring is drained: what it recorded and could not send any more
    /// is committed from shared memory. True when nothing of it is left.
    fn finish_webhook(&mut self) -> bool {
        let Some(WebhookInlet { ring, shm }) = &self.webhook else { return true };
        if !ring.is_empty() {
            return false;
        }
        let left = shm.unreleased(u64::MAX);
        let outcomes: Vec<_> = left.iter().map(|(outcome, _)| *outcome).collect();
        let Some((_, end)) = left.last() else { return shm.backlog_bytes() == 0 };
        match self.store.commit_outcomes(&outcomes) {
            Ok(_) => {
                self.counters.recovered.fetch_add(outcomes.len() as u64, Ordering::Relaxed);
                shm.release(*end);
                shm.backlog_bytes() == 0
            }
            Err(error) => {
                tracing::error!(%error, "outcomes in shared memory could not be committed yet");
                false
            }
        }
    }
}

/// Commits rows together; where one of them can never be stored, all but that one.
fn commit_forgiving(
    store: &mut Store,
    rows: &[Row<'_>],
    counters: &JournalCounters,
) -> Result<(), StoreError> {
    match store.commit(rows) {
        Err(error) if error.blames_row() => {}
        other => return other,
    }
    for row in rows {
        match store.commit(std::slice::from_ref(row)) {
            Err(error) if error.blames_row() => {
                tracing::error!(%error, "a row can never be stored and is dropped");
                counters.rejected.fetch_add(1, Ordering::Relaxed);
            }
            other => other?,
        }
    }
    Ok(())
}

/// Releases the committed record that ends at `position`, after committing whatever lies unreleased
/// before it. When that fails all stay in shared memory, for the next release or the sweep.
fn release_up_to(store: &mut Store, shm: &Committer, position: u64, counters: &JournalCounters) {
    let mut unreleased = shm.unreleased(position);
    unreleased.pop_if(|(_, end)| *end == position);
    let lost: Vec<Row<'_>> = unreleased
        .iter()
        .map(|(announcement, _)| Row::Announcement { announcement, dispatched: None })
        .collect();
    match commit_forgiving(store, &lost, counters) {
        Ok(()) => {
            counters.recovered.fetch_add(lost.len() as u64, Ordering::Relaxed);
            shm.release(position);
        }
        Err(error) => tracing::error!(%error, "shared-memory records could not be committed yet"),
    }
}

impl Step for Journal {
    fn step(&mut self, now: Now) -> Turn {
        let mut work = self.drain_rings(now) + self.answer_requests(now);
        self.collect_dispatches(now);
        while !self.backlog.is_empty() && self.commit_group(now) {
            work += 1;
        }
        self.sweep(now);
        if self.seen_since_prune >= limits::SEEN_ITEMS {
            self.seen_since_prune = 0;
            if let Err(error) = self.store.prune_seen() {
                tracing::warn!(%error, "old seen items could not be forgotten");
            }
        }
        self.counters.backlog_rows.store(self.backlog.len() as u64, Ordering::Relaxed);
        Turn { work, deadline: Mono::NEVER }
    }

    /// Commits everything that is left; the source threads have ended. What the disk does not take
    /// in time stays in shared memory for the next start.
    fn finish(&mut self, now: Now) {
        let end = now.mono + FINISH_PATIENCE;
        loop {
            let now = clock::now();
            self.next_sweep = Mono(0);
            self.step(now);
            let shm_empty = self.inlets.iter().all(|i| i.shm.backlog_bytes() == 0 && i.ring.is_empty());
            let heard = self.market.as_ref().is_none_or(rtrb::Consumer::is_empty);
            if self.backlog.is_empty() && shm_empty && heard && self.finish_webhook() {
                self.store.place().clear();
                if self.webhook.is_some() {
                    self.store.place().clear_outcomes();
                }
                return;
            }
            if now.mono >= end {
                tracing::error!(rows = self.backlog.len(), "stopping with rows the store did not take");
                return;
            }
            std::thread::sleep(RETRY_MIN);
        }
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod webhook_tests;
