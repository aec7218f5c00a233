//! The part of the bridge that concerns accounts and webhook endpoints.
//!
//! Contract: a change of what is stored is committed by the journal thread first and handed to the
//! webhook thread second; a change of an endpoint's health comes from the webhook thread, and is
//! answered when the journal thread has it on disk. Either way what was answered holds.
//!
//! Owner: control thread. Bounds: as the rest of the bridge; a ping or test is waited for a little
//! longer than an attempt may take. A registration that the webhook thread does not take, or whose
//! address may not be called, is undone.

use std::sync::Arc;
use std::time::Duration;

use tocsin_core::webhook::attempt::FailureClass;
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::dispatcher::Refusal;
use tocsin_core::webhook::endpoint::State;
use tocsin_core::webhook::event::EventKind;
use tocsin_core::webhook::lane::QueuedEvent;
use tocsin_core::webhook::outgoing::Outgoing;
use tocsin_core::webhook::signature::Secret;
use tocsin_core::webhook::test_budget::{RegistrationRefusal, TestsExhausted};
use tocsin_core::webhook::url::EndpointUrl;
use tokio::sync::oneshot;

use super::{Bridge, BridgeError, LOOK_AGAIN, PATIENCE, await_answer};
use crate::rings::{AttemptReport, EndpointReport, EndpointSetup, ToWebhook};
use crate::store::StoreError;
use crate::store::webhook::accounts::{AccountId, AccountRecord, AccountToken, AccountUpdate, NewAccount};
use crate::store::webhook::endpoints::{EndpointChange, EndpointRecord, NewEndpoint, RotatedSecret};
use crate::threads::journal::JournalRequest;

/// How long a ping or test is waited for: the 10 s of an attempt, and its turn.
const ATTEMPT_PATIENCE: Duration = Duration::from_secs(12);
/// How long the live figures of endpoints are waited for; without them the stored ones are shown.
const REPORT_PATIENCE: Duration = Duration::from_millis(500);

/// What became of a registration.
#[derive(Debug)]
pub struct Registered {
    /// As it is stored.
    pub record: EndpointRecord,
    /// To be shown once.
    pub secret: Secret,
    /// How the verification ping went; `None`: no result came in time.
    pub verification: Option<AttemptReport>,
    /// Its address may not be called, and the endpoint has been deleted again.
    pub undone: bool,
}

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

impl Bridge {
    /// Makes an account.
    ///
    /// # Errors
    /// See [`BridgeError`].
    pub async fn create_account(
        &self,
        new: NewAccount,
    ) -> Result<(AccountRecord, AccountToken), BridgeError> {
        self.commit(|reply| JournalRequest::CreateAccount { new: Box::new(new), reply }).await
    }

    /// Changes an account's name, e-mail address or plan.
    ///
    /// # Errors
    /// See [`BridgeError`].
    pub async fn change_account(
        &self,
        id: AccountId,
        update: AccountUpdate,
    ) -> Result<AccountRecord, BridgeError> {
        let update = Box::new(update);
        self.commit(|reply| JournalRequest::ChangeAccount { id, update, reply }).await
    }

    /// Forgets an account whose endpoints are gone.
    ///
    /// # Errors
    /// See [`BridgeError`].
    pub async fn delete_account(&self, id: AccountId) -> Result<(), BridgeError> {
        self.commit(|reply| JournalRequest::DeleteAccount { id, reply }).await
    }

    /// Draws an account a new token.
    ///
    /// # Errors
    /// See [`BridgeError`].
    pub async fn rotate_account_token(
        &self,
        id: AccountId,
    ) -> Result<(AccountRecord, AccountToken), BridgeError> {
        self.commit(|reply| JournalRequest::RotateAccountToken { id, reply }).await
    }

    /// Takes one of an account's test events of the day; how many are left.
    ///
    /// # Errors
    /// See [`BridgeError`].
    pub async fn take_test(&self, id: AccountId) -> Result<Result<u8, TestsExhausted>, BridgeError> {
        self.commit(|reply| JournalRequest::TakeTest { id, reply }).await
    }

    /// Takes one of an account's registrations of the hour.
    ///
    /// # Errors
    /// See [`BridgeError`].
    pub async fn take_registration(
        &self,
        id: AccountId,
    ) -> Result<Result<(), RegistrationRefusal>, BridgeError> {
        self.commit(|reply| JournalRequest::TakeRegistration { id, reply }).await
    }

    /// Stores an endpoint, hands it to the webhook thread, and waits for its verification ping. All
    /// of it happens even if the one who asked has gone.
    ///
    /// # Errors
    /// See [`BridgeError`]; nothing is stored then.
    pub async fn register(self: &Arc<Self>, new: NewEndpoint) -> Result<Registered, BridgeError> {
        let bridge = Arc::clone(self);
        let task = tokio::spawn(async move { bridge.register_through(new).await });
        task.await.unwrap_or(Err(BridgeError::Stopping))
    }

    async fn register_through(self: &Arc<Self>, new: NewEndpoint) -> Result<Registered, BridgeError> {
        let (reply, pinged) = oneshot::channel();
        let (record, secret) = self.store_and_add(new, reply).await?;
        let verification = match tokio::time::timeout(ATTEMPT_PATIENCE, pinged).await {
            Ok(Ok(Ok(report))) => Some(report),
            Ok(Ok(Err(refusal))) => {
                self.delete_endpoint(record.id).await?;
                return Err(BridgeError::Refused(refusal));
            }
            Ok(Err(_)) | Err(_) => None,
        };
        let class = verification.as_ref().and_then(|report| report.attempt.class);
        let undone = class == Some(FailureClass::Address);
        if undone {
            self.delete_endpoint(record.id).await?;
        } else if let Err(error) = self.barrier().await {
            // The secret is shown now or never; the state is in the webhook thread's hands all the same.
            tracing::warn!(%error, endpoint = record.id.0, "a verification may not be on disk yet");
        }
        Ok(Registered { record, secret, verification, undone })
    }

    async fn store_and_add(
        &self,
        new: NewEndpoint,
        reply: oneshot::Sender<Result<AttemptReport, Refusal>>,
    ) -> Result<(EndpointRecord, Secret), BridgeError> {
        let _one_at_a_time = self.endpoint_changes.lock().await;
        let new = Box::new(new);
        let (record, secret) = self.commit(|reply| JournalRequest::CreateEndpoint { new, reply }).await?;
        let told = match self.setup(&record, secret.clone(), None) {
            Some(setup) => self.tell_webhook(ToWebhook::Add(Box::new(setup), reply)).await,
            None => Err(BridgeError::Refused(Refusal::UnknownEndpoint)),
        };
        if let Err(error) = told {
            self.commit(|reply| JournalRequest::DeleteEndpoint { id: record.id, reply }).await?;
            return Err(error);
        }
        Ok((record, secret))
    }

    /// Changes an endpoint's label or filter.
    ///
    /// # Errors
    /// See [`BridgeError`].
    pub async fn change_endpoint(
        self: &Arc<Self>,
        id: EndpointId,
        change: EndpointChange,
    ) -> Result<EndpointRecord, BridgeError> {
        self.endpoint_change(move |bridge| async move {
            let change = Box::new(change);
            let record = bridge.commit(|reply| JournalRequest::ChangeEndpoint { id, change, reply }).await?;
            let opened = bridge.secrets.open(id, &record.secret);
            let previous = record
                .previous
                .as_ref()
                .and_then(|(sealed, until)| Some((bridge.secrets.open(id, sealed).ok()?, *until)));
            let setup = opened.ok().and_then(|secret| bridge.setup(&record, secret, previous));
            match setup {
                Some(setup) => bridge.tell_webhook(ToWebhook::Change(Box::new(setup))).await?,
                // The webhook thread could not take it at start either: there is nobody to tell.
                None => tracing::warn!(endpoint = id.0, "has a secret or URL that cannot be used"),
            }
            Ok(record)
        })
        .await
    }

    /// Draws an endpoint a new secret; the one before goes on signing for `grace`.
    ///
    /// # Errors
    /// See [`BridgeError`].
    pub async fn rotate_secret(
        self: &Arc<Self>,
        id: EndpointId,
        grace: Duration,
    ) -> Result<(EndpointRecord, Secret), BridgeError> {
        self.endpoint_change(move |bridge| async move {
            let rotated: RotatedSecret =
                bridge.commit(|reply| JournalRequest::RotateSecret { id, grace, reply }).await?;
            let (record, secret, previous) = rotated;
            if let Some(setup) = bridge.setup(&record, secret.clone(), previous)
                && let Err(error) = bridge.tell_webhook(ToWebhook::Change(Box::new(setup))).await
            {
                // The secret is shown now or never; the next start signs with it.
                tracing::error!(%error, endpoint = id.0, "the webhook thread does not know a new secret yet");
            }
            Ok((record, secret))
        })
        .await
    }

    /// Forgets an endpoint and what waits for it.
    ///
    /// # Errors
    /// See [`BridgeError`].
    pub async fn delete_endpoint(self: &Arc<Self>, id: EndpointId) -> Result<(), BridgeError> {
        self.endpoint_change(move |bridge| async move {
            bridge.commit(|reply| JournalRequest::DeleteEndpoint { id, reply }).await?;
            bridge.tell_webhook(ToWebhook::Remove(id)).await
        })
        .await
    }

    /// Sends a pending endpoint its verification ping again; `None`: no result came in time.
    ///
    /// # Errors
    /// See [`BridgeError`].
    pub async fn verify(&self, id: EndpointId) -> Result<Option<AttemptReport>, BridgeError> {
        let report = self.attempt(|reply| ToWebhook::Verify(id, reply)).await?;
        self.barrier().await?;
        Ok(report)
    }

    /// Sends an endpoint a test event; `None`: no result came in time.
    ///
    /// # Errors
    /// See [`BridgeError`].
    pub async fn test(&self, id: EndpointId, kind: EventKind) -> Result<Option<AttemptReport>, BridgeError> {
        self.attempt(|reply| ToWebhook::Test(id, kind, reply)).await
    }

    /// Switches an endpoint on; its state when that is on disk.
    ///
    /// # Errors
    /// See [`BridgeError`].
    pub async fn enable(&self, id: EndpointId) -> Result<State, BridgeError> {
        self.settled(|reply| ToWebhook::Enable(id, reply)).await
    }

    /// Switches an endpoint off; its state when that is on disk.
    ///
    /// # Errors
    /// See [`BridgeError`].
    pub async fn disable(&self, id: EndpointId) -> Result<State, BridgeError> {
        self.settled(|reply| ToWebhook::Disable(id, reply)).await
    }

    /// Has past events sent again; how many are on their way, when that is on disk.
    ///
    /// # Errors
    /// See [`BridgeError`].
    pub async fn redeliver(
        &self,
        id: EndpointId,
        events: Vec<Arc<QueuedEvent<Outgoing>>>,
    ) -> Result<usize, BridgeError> {
        self.settled(|reply| ToWebhook::Redeliver(id, events, reply)).await
    }

    /// What is known of these endpoints (of all, when none is named) only while the service runs;
    /// nothing when the webhook thread is busy.
    pub async fn report(&self, ids: Vec<EndpointId>) -> Vec<EndpointReport> {
        let (reply, answer) = oneshot::channel();
        if self.push_webhook(ToWebhook::Report(ids, reply)).is_err() {
            return Vec::new();
        }
        match tokio::time::timeout(REPORT_PATIENCE, answer).await {
            Ok(Ok(reports)) => reports,
            _ => Vec::new(),
        }
    }

    /// One request to the journal thread and its answer.
    async fn commit<T>(&self, request: impl FnOnce(Reply<T>) -> JournalRequest) -> Result<T, BridgeError> {
        let (reply, answer) = oneshot::channel();
        self.ask_journal(request(reply))?;
        await_answer(answer).await
    }

    /// Returns when all that the webhook thread has sent to the journal thread is on disk.
    async fn barrier(&self) -> Result<(), BridgeError> {
        self.commit(|reply| JournalRequest::Barrier { reply }).await
    }

    /// A question to the webhook thread whose answer changes what is stored.
    async fn settled<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<Result<T, Refusal>>) -> ToWebhook,
    ) -> Result<T, BridgeError> {
        let (reply, answer) = oneshot::channel();
        self.push_webhook(message(reply)).map_err(|_| BridgeError::Busy("webhook"))?;
        let answer = match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(answer)) => answer.map_err(BridgeError::Refused)?,
            Ok(Err(_)) => return Err(BridgeError::Stopping),
            Err(_) => return Err(BridgeError::Busy("webhook")),
        };
        self.barrier().await?;
        Ok(answer)
    }

    /// A ping or test and its result.
    async fn attempt(
        &self,
        message: impl FnOnce(oneshot::Sender<Result<AttemptReport, Refusal>>) -> ToWebhook,
    ) -> Result<Option<AttemptReport>, BridgeError> {
        let (reply, answer) = oneshot::channel();
        self.push_webhook(message(reply)).map_err(|_| BridgeError::Busy("webhook"))?;
        match tokio::time::timeout(ATTEMPT_PATIENCE, answer).await {
            Ok(Ok(answer)) => Ok(Some(answer.map_err(BridgeError::Refused)?)),
            Ok(Err(_)) => Err(BridgeError::Stopping),
            Err(_) => Ok(None),
        }
    }

    /// What the webhook thread keeps of an endpoint; `None` when its URL is no longer allowed.
    fn setup(
        &self,
        record: &EndpointRecord,
        secret: Secret,
        previous: Option<(Secret, tocsin_core::time::WallUs)>,
    ) -> Option<EndpointSetup> {
        let url = EndpointUrl::parse(&record.url, &self.policy).ok()?;
        Some(EndpointSetup { id: record.id, url, secret, previous, filter: record.filter })
    }

    /// Runs a change of endpoints in a task of its own, one at a time.
    async fn endpoint_change<T, F>(
        self: &Arc<Self>,
        change: impl FnOnce(Arc<Bridge>) -> F + Send + 'static,
    ) -> Result<T, BridgeError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, BridgeError>> + Send,
    {
        let bridge = Arc::clone(self);
        let task = tokio::spawn(async move {
            let _one_at_a_time = bridge.endpoint_changes.lock().await;
            change(Arc::clone(&bridge)).await
        });
        task.await.unwrap_or(Err(BridgeError::Stopping))
    }

    /// Hands a message over; waits while the ring is full.
    async fn tell_webhook(&self, message: ToWebhook) -> Result<(), BridgeError> {
        let give_up = tokio::time::Instant::now() + PATIENCE;
        let mut message = message;
        loop {
            match self.push_webhook(message) {
                Ok(()) => return Ok(()),
                Err(back) => message = back,
            }
            if tokio::time::Instant::now() >= give_up {
                return Err(BridgeError::NotSent);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    fn push_webhook(&self, message: ToWebhook) -> Result<(), ToWebhook> {
        let pushed = self.webhook.lock().push(message);
        if let Err(error) = self.webhook_waker.wake() {
            tracing::warn!(%error, "the webhook thread could not be woken; it looks by itself soon");
        }
        pushed.map_err(|rtrb::PushError::Full(back)| back)
    }
}
