//! What the webhook thread has others remember: outcomes into shared memory at once, everything to the
//! journal thread.
//!
//! Contract: [`Ledger::outcome`] puts an outcome where `kill -9` cannot reach it before anything else
//! happens with it. A full ring keeps its messages waiting here, in order; beyond
//! [`limits::WEBHOOK_OUTBOX`] log lines are dropped first, then the rest, counted: an outcome dropped is
//! still in shared memory, and at worst a delivery is made again after a crash, with the same id. Owner:
//! the webhook thread. Never blocks.

use std::collections::VecDeque;
use std::sync::Arc;

use tocsin_core::limits;
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::lane::QueuedEvent;
use tocsin_core::webhook::outgoing::{Outcome, Outgoing, RecordedOutcome};

use super::stats::{WebhookStats, add};
use crate::rings::WebhookToJournal;
use crate::store::shm::OutcomeLog;

/// See the module head.
pub(super) struct Ledger {
    log: Box<dyn OutcomeLog>,
    ring: rtrb::Producer<WebhookToJournal>,
    waiting: VecDeque<WebhookToJournal>,
    stats: Arc<WebhookStats>,
}

impl Ledger {
    pub(super) fn new(
        log: Box<dyn OutcomeLog>,
        ring: rtrb::Producer<WebhookToJournal>,
        stats: Arc<WebhookStats>,
    ) -> Ledger {
        Ledger { log, ring, waiting: VecDeque::new(), stats }
    }

    /// Remembers what became of a delivery.
    pub(super) fn outcome(&mut self, event: &QueuedEvent<Outgoing>, endpoint: EndpointId, outcome: Outcome) {
        let recorded = RecordedOutcome { event: event.payload.id, endpoint, outcome };
        let shm_position = self.log.append(&recorded);
        if shm_position.is_none() {
            add(&self.stats.log_full);
        }
        self.push(WebhookToJournal::Outcome { event: event.number, recorded, shm_position });
    }

    /// Sends the journal thread a message, now or as soon as it has room.
    pub(super) fn push(&mut self, message: WebhookToJournal) {
        let message = match self.waiting.is_empty() {
            true => match self.ring.push(message) {
                Ok(()) => return,
                Err(rtrb::PushError::Full(message)) => message,
            },
            false => message,
        };
        let most = match message {
            WebhookToJournal::Attempt(_) => limits::WEBHOOK_OUTBOX / 2,
            _ => limits::WEBHOOK_OUTBOX,
        };
        if self.waiting.len() >= most {
            return add(&self.stats.journal_dropped);
        }
        self.waiting.push_back(message);
    }

    /// Offers what waits again; how much went.
    pub(super) fn retry(&mut self) -> usize {
        let mut sent = 0;
        while let Some(message) = self.waiting.pop_front() {
            if let Err(rtrb::PushError::Full(message)) = self.ring.push(message) {
                self.waiting.push_front(message);
                break;
            }
            sent += 1;
        }
        sent
    }

    /// Whether anything waits for room.
    pub(super) fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }
}
