//! Where the control plane meets the other threads: the only file of it that holds a ring.
//!
//! Contract: [`Bridge`] turns requests into messages and waits for their answers without blocking
//! the runtime. A key change is committed by the journal thread first and handed to the accept
//! thread second; only then is it answered, so what was answered holds: at once, and after a crash.
//! Changes go one after another, and a change that was begun is carried through even if the one
//! who asked has gone: otherwise a late hand-over could undo a revocation. What concerns accounts
//! and endpoints is in `bridge/webhooks.rs`, under the same rule.
//!
//! Owner: control thread; [`Bridge::drain`] and [`Bridge::reload_accept`] may be called by any. Bounds: every wait ends; a ring
//! that is full for too long is [`BridgeError::Busy`].

mod subscribers;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Sender, TrySendError};
use parking_lot::Mutex;
use tocsin_core::feed::key::{KeyId, KeyRecord};
use tocsin_core::time::{Mono, WallUs};
use tocsin_core::webhook::address::AddressPolicy;
use tocsin_core::webhook::dispatcher::Refusal;
use tocsin_core::wire::EncodedAnnouncement;
use tokio::sync::oneshot;

use crate::reload::{ReloadHandle, ReloadRefused, ReloadReport};
use crate::rings::{AcceptReload, Inject, SubscriberPage, ToAccept, ToSource, ToWebhook};
use crate::store::webhook::secrets::MasterKey;
use crate::store::{KeySecret, NewKey, StoreError};
use crate::threads::journal::JournalRequest;

use subscribers::Looking;
pub use subscribers::Subscribers;
pub use webhooks::Registered;

/// How long a full ring or a thread's answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at a full ring or for a dispatch.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// How long a manual alert's dispatch is waited for: it takes microseconds when the feed runs.
const DISPATCH_PATIENCE: Duration = Duration::from_millis(500);

/// Why a request could not be carried out.
#[derive(Debug)]
pub enum BridgeError {
    /// The store's.
    Store(StoreError),
    /// A thread has not taken the request, or not answered, in time. Named.
    Busy(&'static str),
    /// A key change is on disk, but the accept thread has not taken it in time.
    NotApplied,
    /// An endpoint's change is on disk, but the webhook thread has not taken it in time.
    NotSent,
    /// The webhook thread's.
    Refused(Refusal),
    /// The engine is stopping.
    Stopping,
}

impl core::fmt::Display for BridgeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            BridgeError::Store(error) => error.fmt(f),
            BridgeError::Busy(thread) => write!(f, "the {thread} thread does not answer; try again"),
            BridgeError::NotApplied => {
                f.write_str("stored, but the accept thread has not taken it yet; try again to be sure")
            }
            BridgeError::NotSent => {
                f.write_str("stored, but the webhook thread has not taken it yet; try again to be sure")
            }
            BridgeError::Refused(refusal) => f.write_str(match refusal {
                Refusal::UnknownEndpoint => {
                    "nothing is sent to this endpoint: its secret does not open or its URL is no longer \
                     allowed (the log says which); remove it and add it again"
                }
                Refusal::EndpointExists => "the endpoint is there already",
                Refusal::TooManyEndpoints => "the service takes no more endpoints",
                Refusal::AlreadyVerified => "the endpoint has been verified already",
                Refusal::NotVerified => "the endpoint has not been verified; verify it first",
                Refusal::TooManyTests => "test events of this endpoint are still under way; try again soon",
                Refusal::BadAttempt => "there is no such attempt",
            }),
            BridgeError::Stopping => f.write_str("the engine is stopping"),
        }
    }
}

impl std::error::Error for BridgeError {}

/// What a [`Bridge`] is made of.
pub struct BridgeParts {
    /// To the accept thread.
    pub accept: rtrb::Producer<ToAccept>,
    /// Wakes it.
    pub accept_waker: Arc<mio::Waker>,
    /// To the source thread that carries manual alerts.
    pub source: rtrb::Producer<ToSource>,
    /// To the journal thread.
    pub journal: Sender<JournalRequest>,
    /// To the webhook thread.
    pub webhook: rtrb::Producer<ToWebhook>,
    /// Wakes it.
    pub webhook_waker: Arc<mio::Waker>,
    /// Opens the secrets of endpoints, for the webhook thread.
    pub secrets: Arc<MasterKey>,
    /// Which addresses endpoints may have.
    pub policy: Arc<AddressPolicy>,
    /// Asks the main thread to read the configuration again.
    pub reload: ReloadHandle,
    /// Pages of subscribers from each feed writer.
    pub looked: Vec<rtrb::Consumer<Box<SubscriberPage>>>,
}

/// What the control plane holds of the other threads.
pub struct Bridge {
    accept: Mutex<rtrb::Producer<ToAccept>>,
    accept_waker: Arc<mio::Waker>,
    source: Mutex<rtrb::Producer<ToSource>>,
    journal: Sender<JournalRequest>,
    webhook: Mutex<rtrb::Producer<ToWebhook>>,
    webhook_waker: Arc<mio::Waker>,
    secrets: Arc<MasterKey>,
    policy: Arc<AddressPolicy>,
    reload: ReloadHandle,
    looking: tokio::sync::Mutex<Looking>,
    key_changes: tokio::sync::Mutex<()>,
    endpoint_changes: tokio::sync::Mutex<()>,
}

impl Bridge {
    /// Puts it together.
    #[must_use]
    pub fn new(parts: BridgeParts) -> Arc<Bridge> {
        let BridgeParts {
            accept,
            accept_waker,
            source,
            journal,
            webhook,
            webhook_waker,
            secrets,
            policy,
            reload,
            looked,
        } = parts;
        Arc::new(Bridge {
            accept: Mutex::new(accept),
            accept_waker,
            source: Mutex::new(source),
            journal,
            webhook: Mutex::new(webhook),
            webhook_waker,
            secrets,
            policy,
            reload,
            looking: tokio::sync::Mutex::new(Looking::new(looked)),
            key_changes: tokio::sync::Mutex::new(()),
            endpoint_changes: tokio::sync::Mutex::new(()),
        })
    }

    /// Makes a key; it can be used when this returns.
    ///
    /// # Errors
    /// See [`BridgeError`].
    pub async fn create_key(self: &Arc<Self>, new: NewKey) -> Result<(KeyRecord, KeySecret), BridgeError> {
        self.carried_through(|bridge| async move {
            let (reply, answer) = oneshot::channel();
            bridge.ask_journal(JournalRequest::CreateKey { new: Box::new(new), reply })?;
            let (record, secret) = await_answer(answer).await?;
            bridge.tell_accept(ToAccept::UpsertKey(Box::new(record.clone()))).await?;
            Ok((record, secret))
        })
        .await
    }

    /// Moves a key's end; live sessions follow it when this returns.
    ///
    /// # Errors
    /// See [`BridgeError`].
    pub async fn set_key_expiry(
        self: &Arc<Self>,
        id: KeyId,
        expires_at: Option<WallUs>,
    ) -> Result<KeyRecord, BridgeError> {
        self.carried_through(move |bridge| async move {
            let (reply, answer) = oneshot::channel();
            bridge.ask_journal(JournalRequest::SetKeyExpiry { id, expires_at, reply })?;
            let record = await_answer(answer).await?;
            bridge.tell_accept(ToAccept::UpsertKey(Box::new(record.clone()))).await?;
            Ok(record)
        })
        .await
    }

    /// Revokes a key: "All active sessions are immediately disconnected".
    ///
    /// # Errors
    /// See [`BridgeError`].
    pub async fn revoke_key(self: &Arc<Self>, id: KeyId) -> Result<KeyRecord, BridgeError> {
        self.carried_through(move |bridge| async move {
            let (reply, answer) = oneshot::channel();
            bridge.ask_journal(JournalRequest::RevokeKey { id, reply })?;
            let record = await_answer(answer).await?;
            bridge.tell_accept(ToAccept::RevokeKey(id)).await?;
            Ok(record)
        })
        .await
    }

    /// Sends a manual alert through the whole path. `inject` makes the message around the reply
    /// channel. Returns when the feed has started its fan-out, or after a short wait for that.
    ///
    /// # Errors
    /// See [`BridgeError`].
    pub async fn inject(
        &self,
        inject: impl FnOnce(oneshot::Sender<Arc<EncodedAnnouncement>>) -> Inject,
    ) -> Result<Arc<EncodedAnnouncement>, BridgeError> {
        let (reply, answer) = oneshot::channel();
        let message = ToSource::Inject(Box::new(inject(reply)));
        self.source.lock().push(message).map_err(|_| BridgeError::Busy("source"))?;
        let announcement = match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(announcement)) => announcement,
            Ok(Err(_)) => return Err(BridgeError::Stopping),
            Err(_) => return Err(BridgeError::Busy("source")),
        };
        let give_up = tokio::time::Instant::now() + DISPATCH_PATIENCE;
        while announcement.dispatched().is_none()
            && !announcement.announcement.late
            && tokio::time::Instant::now() < give_up
        {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(announcement)
    }

    /// Asks the accept thread to stop listening and to drain the writers until the instant. False
    /// when its ring is full.
    #[must_use]
    pub fn drain(&self, until: Mono) -> bool {
        let pushed = self.accept.lock().push(ToAccept::Drain(until)).is_ok();
        self.wake_accept();
        pushed
    }

    /// Hands new settings to the accept thread, for whoever carries a reload out. A full ring is tried again
    /// while `patient`; false when it stayed full.
    #[must_use]
    pub fn reload_accept(&self, reload: AcceptReload, patient: impl Fn() -> bool) -> bool {
        let mut message = ToAccept::Reload(Box::new(reload));
        loop {
            let pushed = self.accept.lock().push(message);
            self.wake_accept();
            match pushed {
                Ok(()) => return true,
                Err(rtrb::PushError::Full(back)) => message = back,
            }
            if !patient() {
                return false;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Has the main thread read the configuration again; what came of it. Every answer is a report, also of a
    /// configuration that is not usable.
    ///
    /// # Errors
    /// [`BridgeError::Busy`] when the main thread does not answer, [`BridgeError::Stopping`].
    pub async fn reload(&self) -> Result<ReloadReport, BridgeError> {
        let answer = self.reload.ask().map_err(|refused| match refused {
            ReloadRefused::Busy => BridgeError::Busy("main"),
            ReloadRefused::Stopping => BridgeError::Stopping,
        })?;
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(report)) => Ok(report),
            Ok(Err(_)) => Err(BridgeError::Stopping),
            Err(_) => Err(BridgeError::Busy("main")),
        }
    }

    /// Runs a key change in a task of its own, one at a time.
    async fn carried_through<T, F>(
        self: &Arc<Self>,
        change: impl FnOnce(Arc<Bridge>) -> F + Send + 'static,
    ) -> Result<T, BridgeError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, BridgeError>> + Send,
    {
        let bridge = Arc::clone(self);
        let task = tokio::spawn(async move {
            let _one_at_a_time = bridge.key_changes.lock().await;
            change(Arc::clone(&bridge)).await
        });
        task.await.unwrap_or(Err(BridgeError::Stopping))
    }

    fn ask_journal(&self, request: JournalRequest) -> Result<(), BridgeError> {
        self.journal.try_send(request).map_err(|error| match error {
            TrySendError::Full(_) => BridgeError::Busy("journal"),
            TrySendError::Disconnected(_) => BridgeError::Stopping,
        })
    }

    async fn tell_accept(&self, message: ToAccept) -> Result<(), BridgeError> {
        let give_up = tokio::time::Instant::now() + PATIENCE;
        let mut message = message;
        loop {
            let pushed = self.accept.lock().push(message);
            self.wake_accept();
            match pushed {
                Ok(()) => return Ok(()),
                Err(rtrb::PushError::Full(back)) => message = back,
            }
            if tokio::time::Instant::now() >= give_up {
                return Err(BridgeError::NotApplied);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    fn wake_accept(&self) {
        if let Err(error) = self.accept_waker.wake() {
            tracing::warn!(%error, "the accept thread could not be woken; it looks by itself soon");
        }
    }
}

async fn await_answer<T>(answer: oneshot::Receiver<Result<T, StoreError>>) -> Result<T, BridgeError> {
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(result)) => result.map_err(BridgeError::Store),
        Ok(Err(_)) => Err(BridgeError::Stopping),
        Err(_) => Err(BridgeError::Busy("journal")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{NOW, new_key, store};

    struct Ends {
        accept: rtrb::Consumer<ToAccept>,
        journal: crossbeam::channel::Receiver<JournalRequest>,
        _poll: mio::Poll,
    }

    fn bridge() -> (Arc<Bridge>, Ends) {
        let dir = tempfile::tempdir().unwrap();
        let (to_accept, accept) = rtrb::RingBuffer::new(1);
        let (to_journal, journal) = crossbeam::channel::bounded(1);
        let poll = mio::Poll::new().unwrap();
        let waker = Arc::new(mio::Waker::new(poll.registry(), mio::Token(0)).unwrap());
        let parts = BridgeParts {
            accept: to_accept,
            accept_waker: Arc::clone(&waker),
            source: rtrb::RingBuffer::new(1).0,
            journal: to_journal,
            webhook: rtrb::RingBuffer::new(1).0,
            webhook_waker: waker,
            secrets: Arc::new(MasterKey::from_file_or_new(&dir.path().join(MasterKey::FILE_NAME)).unwrap()),
            policy: Arc::default(),
            looked: Vec::new(),
            reload: crate::reload::channel().0,
        };
        (Bridge::new(parts), Ends { accept, journal, _poll: poll })
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    /// Waits for the request without blocking the runtime, commits a key and answers.
    async fn commit_key(journal: &crossbeam::channel::Receiver<JournalRequest>) -> KeyId {
        let (_dir, mut store) = store();
        loop {
            if let Ok(JournalRequest::CreateKey { new, reply }) = journal.try_recv() {
                let made = store.create_key(&new, NOW).unwrap();
                let id = made.0.id;
                reply.send(Ok(made)).unwrap();
                return id;
            }
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn a_change_is_answered_only_when_accept_has_it() {
        runtime().block_on(async {
            let (bridge, mut ends) = bridge();
            assert!(bridge.drain(Mono(1)), "fills the ring");
            assert!(!bridge.drain(Mono(1)), "full");
            let asking = Arc::clone(&bridge);
            let asked = tokio::spawn(async move { asking.create_key(new_key()).await });
            commit_key(&ends.journal).await;
            tokio::time::sleep(LOOK_AGAIN * 5).await;
            assert!(!asked.is_finished(), "committed, but accept does not know yet");
            assert!(matches!(ends.accept.pop(), Ok(ToAccept::Drain(_))));
            let (record, _) = asked.await.unwrap().unwrap();
            assert!(matches!(ends.accept.pop(), Ok(ToAccept::UpsertKey(key)) if *key == record));
        });
    }

    #[test]
    fn a_change_begun_is_carried_through_when_the_asker_has_gone() {
        runtime().block_on(async {
            let (bridge, mut ends) = bridge();
            let asking = Arc::clone(&bridge);
            let asked = tokio::spawn(async move { asking.create_key(new_key()).await.map(drop) });
            tokio::task::yield_now().await;
            asked.abort();
            let id = commit_key(&ends.journal).await;
            let told = loop {
                match ends.accept.pop() {
                    Ok(told) => break told,
                    Err(_) => tokio::task::yield_now().await,
                }
            };
            assert!(matches!(told, ToAccept::UpsertKey(key) if key.id == id));
        });
    }

    #[test]
    fn a_thread_that_has_ended_is_an_answer() {
        runtime().block_on(async {
            let (bridge, ends) = bridge();
            drop(ends.journal);
            assert!(matches!(bridge.revoke_key(KeyId(1)).await, Err(BridgeError::Stopping)));
        });
    }
}
