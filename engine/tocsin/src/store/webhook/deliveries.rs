//! Events, whom they went to, what waits, and the delivery log.
//!
//! Contract: what a start takes up ([`WebhookStart`]), what customers and administrators look at, and
//! the rows by which the webhook thread's news reaches the disk ([`WebhookRow`], with
//! [`Store::commit`]). Blocks on the disk, allocates what it returns, in bounded pieces.

use std::sync::Arc;

use rusqlite::{OptionalExtension as _, params};
use tocsin_core::limits;

use tocsin_core::time::WallUs;
use tocsin_core::webhook::attempt::FailureClass;
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::dispatcher::PendingDelivery;
use tocsin_core::webhook::event::{EventId, EventKind};
use tocsin_core::webhook::lane::{Purpose, QueuedEvent};
use tocsin_core::webhook::outgoing::{Outgoing, Phases, RecordedOutcome};

use super::accounts::AccountId;
use super::log;
use super::recipients::Recipients;
use super::rows::{Asked, Batch};
use super::start::{EVENT_COLUMNS, read_event};
use crate::store::{Reader, Store, StoreError};

/// One line of the delivery log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRecord {
    /// At which endpoint.
    pub endpoint: EndpointId,
    /// Of which event; a ping or test event has an id too.
    pub event: EventId,
    /// What kind of event.
    pub kind: EventKind,
    /// What for.
    pub purpose: Purpose,
    /// When it started.
    pub started_at: WallUs,
    /// The status, where a response head came.
    pub status: Option<u16>,
    /// Why it failed; `None`: delivered.
    pub class: Option<FailureClass>,
    /// From its start to its end, in microseconds.
    pub took_us: u32,
    /// Where the time went.
    pub phases: Phases,
    /// The address it was sent to.
    pub address: Option<std::net::IpAddr>,
    /// What the failure was, for people; a `Location` that was not followed.
    pub detail: Option<Box<str>>,
    /// When it is tried again.
    pub next_at: Option<WallUs>,
}

/// An event as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredEvent {
    /// Its number: where `after=` goes on.
    pub number: u64,
    /// When it became known.
    pub created: WallUs,
    /// What was sent.
    pub outgoing: Outgoing,
}

/// How far the delivery of one event to one endpoint has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// Waits for its first attempt.
    Waiting,
    /// Waits for a retry.
    Retrying {
        /// The next attempt.
        attempt: u8,
        /// Not before this.
        due: WallUs,
    },
    /// Nothing more is sent: delivered, failed or expired (the log tells which).
    Concluded,
}

/// What the webhook thread starts with.
#[derive(Debug, Default)]
pub struct WebhookStart {
    /// The number the next event gets.
    pub next_number: u64,
    /// Events that some delivery waits for, by number.
    pub events: Vec<Arc<QueuedEvent<Outgoing>>>,
    /// What is not concluded, in the order in which the dispatcher takes it in.
    pub pending: Vec<PendingDelivery>,
    /// What customers asked for and was not sent yet, each with its event, which does not expire: to be
    /// taken in after the others.
    pub asked: Vec<(PendingDelivery, Arc<QueuedEvent<Outgoing>>)>,
    /// [`EventId::identity`] of the newest [`tocsin_core::limits::WEBHOOK_IDENTITIES`] events: what was
    /// told already, oldest first.
    pub identities: Vec<Box<str>>,
}

impl Store {
    /// Has past events sent to an endpoint again because its owner asks for it: those of `events` it
    /// wanted or not. Used while no service runs; the next start sends them. How many.
    ///
    /// # Errors
    /// No such endpoint, or the disk's.
    pub fn redeliver(&mut self, endpoint: EndpointId, events: &[u64]) -> Result<usize, StoreError> {
        self.endpoint(endpoint)?;
        let doing = |error| StoreError::sqlite(&self.path, error);
        let transaction = self.connection.transaction().map_err(doing)?;
        let mut batch = Batch::new(&transaction, &mut self.webhook);
        let mut found = 0;
        for event in events {
            found += usize::from(batch.asked(*event, endpoint, Asked::BetweenLives).map_err(doing)?);
        }
        batch.finish().and_then(|()| transaction.commit()).map_err(doing)?;
        Ok(found)
    }
}

impl Reader {
    /// The newest lines of an endpoint's delivery log, newest first, at most `limit`; only those of one
    /// event where it is given.
    ///
    /// # Errors
    /// The disk's.
    pub fn attempts(
        &self,
        endpoint: EndpointId,
        event: Option<EventId>,
        limit: usize,
    ) -> Result<Vec<AttemptRecord>, StoreError> {
        self.ask(|c| log::newest(c, endpoint, event, limit))
    }

    /// How an account's attempts to deliver events went since an instant, as far as the log reaches: how
    /// many of each class of failure; without one those that were delivered.
    ///
    /// # Errors
    /// The disk's.
    pub fn outcomes_since(
        &self,
        account: AccountId,
        since: WallUs,
    ) -> Result<Vec<(Option<String>, u64)>, StoreError> {
        self.ask(|c| log::outcomes_since(c, account, since))
    }

    /// Events by number, oldest first, at most `limit` (itself at most
    /// [`limits::WEBHOOK_EVENTS_PER_REQUEST`]): those behind `after`, of `since` or later.
    ///
    /// # Errors
    /// The disk's.
    pub fn events(
        &self,
        after: Option<u64>,
        since: Option<WallUs>,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        // SQLite's largest integer; no event has a larger number.
        let after = after.map_or(0, |after| i64::try_from(after).unwrap_or(i64::MAX));
        let since = since.map_or(i64::MIN, |since| since.0);
        let limit = limit.min(limits::WEBHOOK_EVENTS_PER_REQUEST);
        self.ask(|c| {
            let sql = format!(
                "SELECT {EVENT_COLUMNS} FROM events WHERE number > ?1 AND created_us >= ?2
                 ORDER BY number LIMIT ?3"
            );
            c.prepare_cached(&sql)?.query_map(params![after, since, limit], read_event)?.collect()
        })
    }

    /// One event.
    ///
    /// # Errors
    /// The disk's.
    pub fn event(&self, id: EventId) -> Result<Option<StoredEvent>, StoreError> {
        self.ask(|c| {
            let sql = format!("SELECT {EVENT_COLUMNS} FROM events WHERE id = ?1");
            c.prepare_cached(&sql)?.query_row([id.as_str()], read_event).optional()
        })
    }

    /// How far an event's delivery to an endpoint has come; `None`: it was never meant for it.
    ///
    /// # Errors
    /// The disk's.
    pub fn delivery(&self, endpoint: EndpointId, event: u64) -> Result<Option<DeliveryState>, StoreError> {
        self.ask(|c| {
            let Some(concluded) = Recipients::load(c, event)?.and_then(|r| r.is_concluded(endpoint)) else {
                return Ok(None);
            };
            if concluded {
                return Ok(Some(DeliveryState::Concluded));
            }
            let sql = "SELECT attempt, due_us FROM deliveries WHERE event = ?1 AND endpoint = ?2";
            let row = c.prepare_cached(sql)?.query_row(params![event, endpoint.0], |row| {
                Ok((row.get::<_, u8>(0)?, row.get::<_, Option<i64>>(1)?))
            });
            Ok(Some(match row.optional()? {
                Some((attempt, Some(due))) => DeliveryState::Retrying { attempt, due: WallUs(due) },
                Some((_, None)) | None => DeliveryState::Waiting,
            }))
        })
    }
}

/// A change for the disk that came from the webhook thread.
#[derive(Clone, Copy, Debug)]
pub enum WebhookRow<'a> {
    /// An event and to whom it was offered (sorted).
    Event {
        /// As it is sent.
        event: &'a QueuedEvent<Outgoing>,
        /// To whom.
        recipients: &'a [EndpointId],
    },
    /// What became of a delivery.
    Outcome {
        /// [`QueuedEvent::number`].
        event: u64,
        /// Whose, and what.
        recorded: RecordedOutcome,
    },
    /// A delivery was asked for by its endpoint's owner: it waits again, and does not expire.
    Asked {
        /// [`QueuedEvent::number`].
        event: u64,
        /// To whom.
        endpoint: EndpointId,
    },
    /// A line of the delivery log.
    Attempt(&'a AttemptRecord),
}

/// Whether a row may be left out when the disk is behind: the log may, what decides deliveries not.
impl WebhookRow<'_> {
    /// See [`WebhookRow`].
    #[must_use]
    pub const fn is_optional(&self) -> bool {
        matches!(self, WebhookRow::Attempt(_))
    }
}
