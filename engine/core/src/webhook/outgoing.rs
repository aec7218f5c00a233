//! What travels with a delivery: the event as it is sent, how an attempt went, what became of it.
//!
//! Contract: plain data. [`Outgoing::of`] allocates the body, once an event, however many endpoints
//! get it. Nothing else here allocates or fails.

use core::time::Duration;

use super::attempt::FailureClass;
use super::board::EndpointId;
use super::body::{self, TooLong};
use super::event::{Event, EventId, EventKind};
use super::lane::{QueuedEvent, fresh_for};
use crate::model::Exchange;
use crate::time::WallUs;

/// An event ready to be sent: what [`QueuedEvent`] carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// `event_id`.
    pub id: EventId,
    /// `type`.
    pub kind: EventKind,
    /// Who published it; none for our own.
    pub exchange: Option<Exchange>,
    /// Found too late to be news: kept for catching up and replay, not sent unasked.
    pub late: bool,
    /// The body, byte for byte, the same in every attempt at every endpoint.
    pub body: Box<[u8]>,
}

impl Outgoing {
    /// Writes the body.
    ///
    /// # Errors
    /// The event does not fit into a body.
    pub fn of(event: &Event) -> Result<Outgoing, TooLong> {
        let mut written = Vec::with_capacity(256);
        body::write(event, &mut written)?;
        Ok(Outgoing {
            id: event.id,
            kind: event.kind,
            exchange: event.exchange,
            late: event.late,
            body: written.into(),
        })
    }

    /// As the dispatcher takes it, news of its kind from `created` on.
    #[must_use]
    pub fn queued(self, number: u64, created: WallUs) -> QueuedEvent<Outgoing> {
        QueuedEvent { number, created, fresh_for: Some(fresh_for(self.kind)), payload: self }
    }
}

/// What became of a delivery, as the store keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 2xx.
    Delivered,
    /// It is tried again.
    Retry {
        /// The next attempt, 2 to [`crate::limits::WEBHOOK_ATTEMPTS`].
        attempt: u8,
        /// Not before this.
        due: WallUs,
    },
    /// "Permanent fail."
    Failed,
    /// Never sent, or not again: no longer news, or it gave way at a bound.
    Expired,
}

impl Outcome {
    /// Whether nothing more is sent.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        !matches!(self, Outcome::Retry { .. })
    }
}

/// An outcome with whose it is: what the shared-memory journal keeps until the disk has it. By id and
/// not by number, for the event itself may not be on disk yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordedOutcome {
    /// Of which event.
    pub event: EventId,
    /// At which endpoint.
    pub endpoint: EndpointId,
    /// What became of it.
    pub outcome: Outcome,
}

/// Where an attempt's time went, in microseconds; `None` for a phase it did not have (a warm
/// connection has no DNS, TCP and TLS) or did not reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// From the event's creation to the start of its first attempt; 0 in other attempts.
    pub queue_us: u32,
    /// Looking the name up.
    pub dns_us: Option<u32>,
    /// Until a TCP connection stood.
    pub tcp_us: Option<u32>,
    /// The TLS handshake.
    pub tls_us: Option<u32>,
    /// Until the request had been handed to the socket.
    pub write_us: Option<u32>,
    /// From there to the first byte of the response.
    pub first_byte_us: Option<u32>,
}

impl Phases {
    /// Microseconds of a phase, at most `u32::MAX` (71 minutes).
    #[must_use]
    pub fn micros(duration: Duration) -> u32 {
        u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
    }
}

/// How an attempt ended, for the delivery log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptResult {
    /// The status, where a response head came.
    pub status: Option<u16>,
    /// Why it failed; `None`: delivered.
    pub class: Option<FailureClass>,
}
