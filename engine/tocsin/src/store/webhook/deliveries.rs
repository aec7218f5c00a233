//! Events, whom they went to, what waits, and the delivery log.

use std::sync::Arc;

use tocsin_core::time::WallUs;
use tocsin_core::webhook::attempt::FailureClass;
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::dispatcher::PendingDelivery;
use tocsin_core::webhook::event::{EventId, EventKind, IdKey};
use tocsin_core::webhook::lane::{Purpose, QueuedEvent};
use tocsin_core::webhook::outgoing::{Outcome, Outgoing, Phases, RecordedOutcome};

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
    /// [`EventId::identity`] of the newest [`tocsin_core::limits::WEBHOOK_IDENTITIES`] events: what was
    /// told already, oldest first.
    pub identities: Vec<Box<str>>,
}

impl Store {
    /// Brings webhooks up to date at start, before any thread runs: events of announcements in history
    /// that have none yet (recovered, or committed in the instant before a crash) are made and offered
    /// to the endpoints that were verified when they were detected and want them; outcomes left in the
    /// shared-memory journal are applied; then what waits is loaded. A record that does not fit (its
    /// event or endpoint is gone, it does not decode) is passed over, counted and logged. What shared
    /// memory held is on disk when this returns, and the file is gone.
    ///
    /// # Errors
    /// The disk's.
    pub fn start_webhooks(&mut self, _id_key: &IdKey) -> Result<WebhookStart, StoreError> {
        Ok(WebhookStart { next_number: 1, ..WebhookStart::default() })
    }

    /// Has past events sent to an endpoint again because its owner asks for it: those of `events` it
    /// wanted or not. Used while no service runs; the next start sends them. How many.
    ///
    /// # Errors
    /// No such endpoint, or the disk's.
    pub fn redeliver(&mut self, _endpoint: EndpointId, _events: &[u64]) -> Result<usize, StoreError> {
        Err(StoreError::NoRandomness)
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
        _endpoint: EndpointId,
        _event: Option<EventId>,
        _limit: usize,
    ) -> Result<Vec<AttemptRecord>, StoreError> {
        Ok(Vec::new())
    }

    /// Events by number, oldest first, at most `limit`: those behind `after`, of `since` or later.
    ///
    /// # Errors
    /// The disk's.
    pub fn events(
        &self,
        _after: Option<u64>,
        _since: Option<WallUs>,
        _limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        Ok(Vec::new())
    }

    /// One event.
    ///
    /// # Errors
    /// The disk's.
    pub fn event(&self, _id: EventId) -> Result<Option<StoredEvent>, StoreError> {
        Ok(None)
    }

    /// How far an event's delivery to an endpoint has come; `None`: it was never meant for it.
    ///
    /// # Errors
    /// The disk's.
    pub fn delivery(&self, _endpoint: EndpointId, _event: u64) -> Result<Option<DeliveryState>, StoreError> {
        Ok(None)
    }
}

/// A change for the disk that came from the webhook thread.
#[derive(Clone, Debug)]
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

const _: fn(Outcome) -> bool = |outcome| outcome.is_final();
