//! The journal thread: everything that must outlive the process goes through here to SQLite.
//!
//! Contract: drains the rings of the source threads and the control plane's requests, commits what
//! it has in one transaction (the more there is, the larger the group), then releases the shared-
//! memory records of what it committed. A request is answered after its commit. A record whose
//! ring entry was lost (the ring was full) is read from shared memory itself, before anything behind
//! it is released. Dispatch times that were not known at commit are filled in later.
//!
//! Owner: journal thread. It allocates and blocks on the disk; it never makes a producer wait: rings
//! that are not drained fill up, and their producers count that.
//!
//! Failure: rows the disk refuses are tried again with growing pauses and held up to
//! [`limits::JOURNAL_BACKLOG`]; past that they stay in the rings, and announcements in shared
//! memory, where a later start finds them. A row that can never be stored is dropped, counted and
//! logged, and does not hold up the rest.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::channel::Receiver;
use tocsin_core::feed::key::{KeyId, KeyRecord};
use tocsin_core::limits;
use tocsin_core::model::Announcement;
use tocsin_core::time::{Mono, Now, WallUs};
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::signature::Secret;
use tocsin_core::webhook::test_budget::{RegistrationRefusal, TestsExhausted};
use tocsin_core::wire::EncodedAnnouncement;
use tokio::sync::oneshot;

use super::{Step, Turn};
use crate::os::clock;
use crate::rings::SourceToJournal;
use crate::store::shm::Committer;
use crate::store::webhook::accounts::{AccountId, AccountRecord, AccountToken, NewAccount};
use crate::store::webhook::endpoints::{EndpointChange, EndpointRecord, NewEndpoint, RotatedSecret};
use crate::store::{KeySecret, NewKey, Row, Store, StoreError};

/// First and longest pause after the disk refused a commit.
const RETRY_MIN: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_secs(1);
/// How long the dispatch of a committed announcement is waited for.
const DISPATCH_PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks for shared-memory records whose ring entry was lost.
const SWEEP_PERIOD: Duration = Duration::from_secs(1);
/// At the end the disk gets this long to take what is left.
const FINISH_PATIENCE: Duration = Duration::from_secs(5);

/// What a source thread sends, and the journal thread's end of its shared memory.
pub struct Inlet {
    /// From the source thread.
    pub ring: rtrb::Consumer<SourceToJournal>,
    /// Of the same source thread's [`crate::store::shm::Writer`].
    pub shm: Committer,
}

/// A change of the control plane, answered when it is on disk.
#[derive(Debug)]
pub enum JournalRequest {
    /// Make a key.
    CreateKey {
        /// Its properties.
        new: Box<NewKey>,
        /// The record, and the text to be shown once.
        reply: oneshot::Sender<Result<(KeyRecord, KeySecret), StoreError>>,
    },
    /// Move a key's end; `None` = never.
    SetKeyExpiry {
        /// Which key.
        id: KeyId,
        /// Its new end.
        expires_at: Option<WallUs>,
        /// The changed record.
        reply: oneshot::Sender<Result<KeyRecord, StoreError>>,
    },
    /// Revoke a key.
    RevokeKey {
        /// Which key.
        id: KeyId,
        /// The changed record.
        reply: oneshot::Sender<Result<KeyRecord, StoreError>>,
    },
    /// Make an account.
    CreateAccount {
        /// Its properties.
        new: Box<NewAccount>,
        /// The record, and the token to be shown once.
        reply: oneshot::Sender<Result<(AccountRecord, AccountToken), StoreError>>,
    },
    /// Change an account's plan.
    SetPlan {
        /// Which account.
        id: AccountId,
        /// The plan's name.
        plan: String,
        /// The changed record.
        reply: oneshot::Sender<Result<AccountRecord, StoreError>>,
    },
    /// Draw an account a new token.
    RotateAccountToken {
        /// Which account.
        id: AccountId,
        /// The record, and the token to be shown once.
        reply: oneshot::Sender<Result<(AccountRecord, AccountToken), StoreError>>,
    },
    /// Take one of an account's test events of the day.
    TakeTest {
        /// Which account.
        id: AccountId,
        /// How many are left.
        reply: oneshot::Sender<Result<Result<u8, TestsExhausted>, StoreError>>,
    },
    /// Take one of an account's registrations of the hour.
    TakeRegistration {
        /// Which account.
        id: AccountId,
        /// Whether there was one.
        reply: oneshot::Sender<Result<Result<(), RegistrationRefusal>, StoreError>>,
    },
    /// Store an endpoint, pending, with a new secret.
    CreateEndpoint {
        /// Its properties.
        new: Box<NewEndpoint>,
        /// The record, and the secret to be shown once.
        reply: oneshot::Sender<Result<(EndpointRecord, Secret), StoreError>>,
    },
    /// Change an endpoint's label or filter.
    ChangeEndpoint {
        /// Which endpoint.
        id: EndpointId,
        /// What changes.
        change: Box<EndpointChange>,
        /// The changed record.
        reply: oneshot::Sender<Result<EndpointRecord, StoreError>>,
    },
    /// Draw an endpoint a new secret.
    RotateSecret {
        /// Which endpoint.
        id: EndpointId,
        /// How long the one before goes on signing.
        grace: Duration,
        /// The changed record, the new secret, and the one before with the end of its grace.
        reply: oneshot::Sender<Result<RotatedSecret, StoreError>>,
    },
    /// Forget an endpoint.
    DeleteEndpoint {
        /// Which endpoint.
        id: EndpointId,
        /// It is gone.
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
    /// Answered when all that the webhook thread had sent before is on disk.
    Barrier {
        /// It is.
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
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
    /// Announcements found only in shared memory.
    pub recovered: AtomicU64,
    /// Rows waiting now.
    pub backlog_rows: AtomicU64,
}

/// One row waiting for its commit.
enum Pending {
    Announcement { announcement: Arc<EncodedAnnouncement>, release: Option<(usize, u64)> },
    Swept { announcement: Box<Announcement>, release: (usize, u64) },
    Seen(tocsin_core::detect::SeenRecord),
    Baselined { source: &'static str, list: &'static str, at: WallUs },
    Dispatched { position: tocsin_core::model::FeedPosition, at: WallUs },
}

impl Pending {
    fn row(&self) -> Row<'_> {
        match self {
            Pending::Announcement { announcement, .. } => Row::Announcement {
                announcement: &announcement.announcement,
                dispatched: announcement.dispatched(),
            },
            Pending::Swept { announcement, .. } => Row::Announcement { announcement, dispatched: None },
            Pending::Seen(record) => Row::Seen(record),
            Pending::Baselined { source, list, at } => Row::Baselined { source, list, at: *at },
            Pending::Dispatched { position, at } => Row::Dispatched { position: *position, at: *at },
        }
    }

    /// The inlet and end of its shared-memory record.
    fn release(&self) -> Option<(usize, u64)> {
        match self {
            Pending::Announcement { release, .. } => *release,
            Pending::Swept { release, .. } => Some(*release),
            _ => None,
        }
    }
}

/// A committed announcement whose dispatch was not known.
struct Awaited {
    announcement: Arc<EncodedAnnouncement>,
    until: Mono,
}

/// The journal thread's state.
pub struct Journal {
    store: Store,
    inlets: Vec<Inlet>,
    requests: Receiver<JournalRequest>,
    counters: Arc<JournalCounters>,
    backlog: VecDeque<Pending>,
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
            inlets,
            requests,
            counters: Arc::default(),
            backlog: VecDeque::new(),
            awaited: VecDeque::new(),
            retry_at: Mono(0),
            retry_pause: RETRY_MIN,
            next_sweep: Mono(0),
            seen_since_prune: 0,
        }
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
            for message in std::iter::from_fn(|| ring.pop().ok()).take(room) {
                self.backlog.push_back(match message {
                    SourceToJournal::Announcement { announcement, shm_position } => Pending::Announcement {
                        announcement,
                        release: shm_position.map(|position| (inlet, position)),
                    },
                    SourceToJournal::Seen(record) => Pending::Seen(record),
                    SourceToJournal::Baselined { source, list } => {
                        Pending::Baselined { source, list, at: now.wall }
                    }
                });
            }
        }
        self.backlog.len() - before
    }

    /// Answers at most a few requests a turn, each with a commit of its own.
    fn answer_requests(&mut self, now: Now) -> usize {
        let mut answered = 0;
        while answered < 16 {
            let Ok(request) = self.requests.try_recv() else { break };
            answered += 1;
            // One who no longer waits for the answer is no failure: the change holds.
            let _ = match request {
                JournalRequest::CreateKey { new, reply } => {
                    reply.send(self.store.create_key(&new, now.wall)).is_ok()
                }
                JournalRequest::SetKeyExpiry { id, expires_at, reply } => {
                    reply.send(self.store.set_key_expiry(id, expires_at)).is_ok()
                }
                JournalRequest::RevokeKey { id, reply } => {
                    reply.send(self.store.revoke_key(id, now.wall)).is_ok()
                }
                JournalRequest::CreateAccount { new, reply } => {
                    reply.send(self.store.create_account(&new, now.wall)).is_ok()
                }
                JournalRequest::SetPlan { id, plan, reply } => {
                    reply.send(self.store.set_plan(id, &plan)).is_ok()
                }
                JournalRequest::RotateAccountToken { id, reply } => {
                    reply.send(self.store.rotate_account_token(id)).is_ok()
                }
                JournalRequest::TakeTest { id, reply } => {
                    reply.send(self.store.take_test(id, now.wall)).is_ok()
                }
                JournalRequest::TakeRegistration { id, reply } => {
                    reply.send(self.store.take_registration(id, now.wall)).is_ok()
                }
                JournalRequest::ChangeEndpoint { id, change, reply } => {
                    reply.send(self.store.change_endpoint(id, &change)).is_ok()
                }
                JournalRequest::DeleteEndpoint { id, reply } => {
                    reply.send(self.store.delete_endpoint(id)).is_ok()
                }
                JournalRequest::CreateEndpoint { reply, .. } => {
                    reply.send(Err(StoreError::NoRandomness)).is_ok()
                }
                JournalRequest::RotateSecret { reply, .. } => {
                    reply.send(Err(StoreError::NoRandomness)).is_ok()
                }
                JournalRequest::Barrier { reply } => reply.send(Ok(())).is_ok(),
            };
        }
        answered
    }

    /// Commits one group. True when the disk took it (or there was nothing).
    fn commit_group(&mut self, now: Now) -> bool {
        let size = self.backlog.len().min(limits::JOURNAL_ROWS_PER_COMMIT);
        if size == 0 || now.mono < self.retry_at {
            return size == 0;
        }
        let rows: Vec<Row<'_>> = self.backlog.iter().take(size).map(Pending::row).collect();
        if let Err(error) = commit_forgiving(&mut self.store, &rows, &self.counters) {
            self.counters.failures.fetch_add(1, Ordering::Relaxed);
            if self.retry_pause == RETRY_MIN {
                tracing::error!(%error, rows = self.backlog.len(), "the store refuses a commit; trying again");
            }
            self.retry_at = now.mono + self.retry_pause;
            self.retry_pause = (self.retry_pause * 2).min(RETRY_MAX);
            return false;
        }
        let undispatched: Vec<bool> =
            rows.iter().map(|row| matches!(row, Row::Announcement { dispatched: None, .. })).collect();
        if self.retry_pause > RETRY_MIN {
            tracing::info!("the store takes commits again");
            self.retry_pause = RETRY_MIN;
        }
        self.settle(size, &undispatched, now);
        true
    }

    /// The first `size` rows of the backlog are on disk.
    fn settle(&mut self, size: usize, undispatched: &[bool], now: Now) {
        self.counters.rows.fetch_add(size as u64, Ordering::Relaxed);
        self.counters.commits.fetch_add(1, Ordering::Relaxed);
        for (pending, undispatched) in self.backlog.drain(..size).zip(undispatched) {
            if let Some((inlet, position)) = pending.release()
                && let Some(Inlet { shm, .. }) = self.inlets.get(inlet)
            {
                release_up_to(&mut self.store, shm, position, &self.counters);
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
                Pending::Seen(_) => self.seen_since_prune += 1,
                _ => {}
            }
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
                self.backlog.push_back(Pending::Swept { announcement, release: (inlet, position) });
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
            if self.backlog.is_empty() && shm_empty {
                self.store.place().clear();
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
