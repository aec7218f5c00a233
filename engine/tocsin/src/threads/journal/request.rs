//! What the control plane and the mail thread ask of the journal thread.
//!
//! Contract: each request is one change, committed before it is answered; one who no longer waits for
//! the answer does not undo it. Owner: the journal thread, which blocks on the disk for each.

use core::time::Duration;

use tocsin_core::feed::key::{KeyId, KeyRecord};
use tocsin_core::time::WallUs;
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::signature::Secret;
use tocsin_core::webhook::test_budget::{RegistrationRefusal, TestsExhausted};
use tokio::sync::oneshot;

use crate::store::webhook::accounts::{AccountId, AccountRecord, AccountToken, AccountUpdate, NewAccount};
use crate::store::webhook::endpoints::{EndpointChange, EndpointRecord, NewEndpoint, RotatedSecret};
use crate::store::webhook::secrets::MasterKey;
use crate::store::{KeySecret, NewKey, Store, StoreError};

/// Where an answer goes.
pub type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// A change of the control plane or the mail thread, answered when it is on disk.
#[derive(Debug)]
pub enum JournalRequest {
    /// Make a key.
    CreateKey {
        /// Its properties.
        new: Box<NewKey>,
        /// The record, and the text to be shown once.
        reply: Reply<(KeyRecord, KeySecret)>,
    },
    /// Move a key's end; `None` = never.
    SetKeyExpiry {
        /// Which key.
        id: KeyId,
        /// Its new end.
        expires_at: Option<WallUs>,
        /// The changed record.
        reply: Reply<KeyRecord>,
    },
    /// Revoke a key.
    RevokeKey {
        /// Which key.
        id: KeyId,
        /// The changed record.
        reply: Reply<KeyRecord>,
    },
    /// Make an account.
    CreateAccount {
        /// Its properties.
        new: Box<NewAccount>,
        /// The record, and the token to be shown once.
        reply: Reply<(AccountRecord, AccountToken)>,
    },
    /// Change an account's name, e-mail address or plan.
    ChangeAccount {
        /// Which account.
        id: AccountId,
        /// What changes.
        update: Box<AccountUpdate>,
        /// The changed record.
        reply: Reply<AccountRecord>,
    },
    /// Forget an account whose endpoints are gone.
    DeleteAccount {
        /// Which account.
        id: AccountId,
        /// That it is gone.
        reply: Reply<()>,
    },
    /// Draw an account a new token.
    RotateAccountToken {
        /// Which account.
        id: AccountId,
        /// The record, and the token to be shown once.
        reply: Reply<(AccountRecord, AccountToken)>,
    },
    /// Take one of an account's test events of the day.
    TakeTest {
        /// Which account.
        id: AccountId,
        /// How many are left.
        reply: Reply<Result<u8, TestsExhausted>>,
    },
    /// Take one of an account's registrations of the hour.
    TakeRegistration {
        /// Which account.
        id: AccountId,
        /// Whether it may.
        reply: Reply<Result<(), RegistrationRefusal>>,
    },
    /// Store an endpoint, pending, with a new secret.
    CreateEndpoint {
        /// Its properties.
        new: Box<NewEndpoint>,
        /// The record, and the secret to be shown once.
        reply: Reply<(EndpointRecord, Secret)>,
    },
    /// Change an endpoint's label or filter.
    ChangeEndpoint {
        /// Which endpoint.
        id: EndpointId,
        /// What changes.
        change: Box<EndpointChange>,
        /// The changed record.
        reply: Reply<EndpointRecord>,
    },
    /// Give an endpoint a new secret.
    RotateSecret {
        /// Which endpoint.
        id: EndpointId,
        /// How long the old one goes on signing.
        grace: Duration,
        /// See [`RotatedSecret`].
        reply: Reply<RotatedSecret>,
    },
    /// Forget an endpoint, what waits for it and its delivery log.
    DeleteEndpoint {
        /// Which endpoint.
        id: EndpointId,
        /// That it is gone.
        reply: Reply<()>,
    },
    /// These mails have been sent.
    MailSent {
        /// Their numbers in the outbox.
        ids: Vec<i64>,
        /// That it is on disk.
        reply: Reply<()>,
    },
    /// These mails could not be sent.
    MailFailed {
        /// Their numbers in the outbox.
        ids: Vec<i64>,
        /// Not again before this.
        not_before: WallUs,
        /// Not again at all.
        give_up: bool,
        /// That it is on disk.
        reply: Reply<()>,
    },
    /// Nothing changes: answered once everything that was in the rings when it was taken is on disk.
    /// Dropped unanswered when too many wait.
    Barrier {
        /// That it is.
        reply: Reply<()>,
    },
}

impl JournalRequest {
    /// Makes the change and answers. A barrier is handed back.
    pub(crate) fn answer(self, store: &mut Store, key: Option<&MasterKey>, now: WallUs) -> Option<Reply<()>> {
        match self {
            JournalRequest::CreateKey { new, reply } => send(reply, store.create_key(&new, now)),
            JournalRequest::SetKeyExpiry { id, expires_at, reply } => {
                send(reply, store.set_key_expiry(id, expires_at));
            }
            JournalRequest::RevokeKey { id, reply } => send(reply, store.revoke_key(id, now)),
            JournalRequest::Barrier { reply } => return Some(reply),
            webhooks => webhooks.answer_webhooks(store, key, now),
        }
        None
    }

    fn answer_webhooks(self, store: &mut Store, key: Option<&MasterKey>, now: WallUs) {
        let key = key.ok_or(StoreError::WebhooksOff);
        match self {
            JournalRequest::CreateAccount { new, reply } => send(reply, store.create_account(&new, now)),
            JournalRequest::ChangeAccount { id, update, reply } => {
                send(reply, store.change_account(id, &update));
            }
            JournalRequest::DeleteAccount { id, reply } => send(reply, store.delete_account(id)),
            JournalRequest::RotateAccountToken { id, reply } => send(reply, store.rotate_account_token(id)),
            JournalRequest::TakeTest { id, reply } => send(reply, store.take_test(id, now)),
            JournalRequest::TakeRegistration { id, reply } => send(reply, store.take_registration(id, now)),
            JournalRequest::CreateEndpoint { new, reply } => {
                send(reply, key.and_then(|key| store.register_endpoint(&new, now, key)));
            }
            JournalRequest::ChangeEndpoint { id, change, reply } => {
                send(reply, store.change_endpoint(id, &change));
            }
            JournalRequest::RotateSecret { id, grace, reply } => {
                let rotated = key.and_then(|key| store.rotate_endpoint_secret(id, grace, now, key));
                send(reply, rotated);
            }
            JournalRequest::DeleteEndpoint { id, reply } => send(reply, store.delete_endpoint(id)),
            JournalRequest::MailSent { ids, reply } => send(reply, store.mail_sent(&ids, now)),
            JournalRequest::MailFailed { ids, not_before, give_up, reply } => {
                send(reply, store.mail_failed(&ids, not_before, give_up));
            }
            // Answered by the caller.
            JournalRequest::CreateKey { .. }
            | JournalRequest::SetKeyExpiry { .. }
            | JournalRequest::RevokeKey { .. }
            | JournalRequest::Barrier { .. } => {}
        }
    }
}

/// One who no longer waits for the answer is no failure: the change holds.
fn send<T>(reply: Reply<T>, answer: Result<T, StoreError>) {
    let _ = reply.send(answer);
}
