//! Where mails wait: read from the store, settled by the journal thread.
//!
//! Contract: [`Outbox`] is what the mail thread needs of it; [`JournalOutbox`] is the one over the store.
//! [`Outbox::settle`] returns when the change is on disk. Owner: the mail thread. Blocks on the disk and
//! on the journal thread. Failure: the store's errors, or that the journal thread has ended; nothing has
//! been recorded then that anyone was told of, and the caller tries again.

use crossbeam::channel::Sender;
use tocsin_core::time::WallUs;
use tocsin_core::webhook::board::EndpointId;
use tokio::sync::oneshot;

use crate::store::webhook::mail::DueMail;
use crate::store::{Reader, StoreError};
use crate::threads::journal::JournalRequest;

/// What became of mails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The server has taken them.
    Sent(Vec<i64>),
    /// It has not; they wait until the instant, or are given up.
    Failed {
        /// Their numbers.
        ids: Vec<i64>,
        /// When they are due again.
        not_before: WallUs,
        /// They are not.
        give_up: bool,
    },
}

/// Why the outbox does not answer.
#[derive(Debug)]
pub enum OutboxError {
    /// The store's reason.
    Store(StoreError),
    /// The journal thread has ended.
    JournalEnded,
}

impl std::fmt::Display for OutboxError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            OutboxError::Store(error) => error.fmt(f),
            OutboxError::JournalEnded => f.write_str("the journal thread has ended"),
        }
    }
}

impl From<StoreError> for OutboxError {
    fn from(error: StoreError) -> OutboxError {
        OutboxError::Store(error)
    }
}

/// Mails that wait to be sent.
pub trait Outbox {
    /// Those that are due, oldest first, at most `limit`.
    ///
    /// # Errors
    /// The store's.
    fn due(&mut self, now: WallUs, limit: usize) -> Result<Vec<DueMail>, OutboxError>;

    /// An endpoint's label; empty where it has none or is gone.
    fn label(&mut self, endpoint: EndpointId) -> String;

    /// When the next one will be due.
    ///
    /// # Errors
    /// The store's.
    fn next_at(&mut self, now: WallUs) -> Result<Option<WallUs>, OutboxError>;

    /// Records what became of mails; durable when it returns.
    ///
    /// # Errors
    /// The store's, or the journal thread has ended.
    fn settle(&mut self, settled: &Settled) -> Result<(), OutboxError>;
}

/// The outbox in the store.
pub struct JournalOutbox {
    reader: Reader,
    requests: Sender<JournalRequest>,
}

impl JournalOutbox {
    /// Reads with `reader`; the journal thread behind `requests` writes.
    #[must_use]
    pub fn new(reader: Reader, requests: Sender<JournalRequest>) -> JournalOutbox {
        JournalOutbox { reader, requests }
    }
}

impl Outbox for JournalOutbox {
    fn due(&mut self, now: WallUs, limit: usize) -> Result<Vec<DueMail>, OutboxError> {
        Ok(self.reader.due_mail(now, limit)?)
    }

    fn label(&mut self, endpoint: EndpointId) -> String {
        self.reader.endpoint(endpoint).map(|record| record.label).unwrap_or_default()
    }

    fn next_at(&mut self, now: WallUs) -> Result<Option<WallUs>, OutboxError> {
        Ok(self.reader.next_mail_at(now)?)
    }

    fn settle(&mut self, settled: &Settled) -> Result<(), OutboxError> {
        let (reply, answer) = oneshot::channel();
        let request = match settled.clone() {
            Settled::Sent(ids) => JournalRequest::MailSent { ids, reply },
            Settled::Failed { ids, not_before, give_up } => {
                JournalRequest::MailFailed { ids, not_before, give_up, reply }
            }
        };
        self.requests.send(request).map_err(|_| OutboxError::JournalEnded)?;
        Ok(answer.blocking_recv().map_err(|_| OutboxError::JournalEnded)??)
    }
}
