//! Which past events a replay sends again: the same for the service and for a command without it.
//!
//! Contract: reads committed events in pages, oldest first; bounded by what the store keeps. Blocks on
//! the disk. The disk's failures are the only ones.

use std::sync::Arc;

use tocsin_core::limits;
use tocsin_core::time::WallUs;
use tocsin_core::webhook::filter::EventFilter;
use tocsin_core::webhook::lane::QueuedEvent;
use tocsin_core::webhook::outgoing::Outgoing;

use crate::store::webhook::deliveries::StoredEvent;
use crate::store::{Reader, StoreError};

/// Which events.
#[derive(Clone, Copy, Debug)]
pub struct Selection {
    /// Known at this instant or later.
    pub since: WallUs,
    /// Known before this instant.
    pub until: Option<WallUs>,
    /// What is wanted.
    pub filter: EventFilter,
}

/// What is sent again.
#[derive(Debug, Default)]
pub struct Selected {
    /// At most [`limits::WEBHOOK_EVENTS_PER_REQUEST`], oldest first.
    pub events: Vec<StoredEvent>,
    /// When the first that did not fit became known.
    pub next_since: Option<WallUs>,
}

impl Selection {
    /// Reads them.
    ///
    /// # Errors
    /// The disk's.
    pub fn read(&self, reader: &Reader) -> Result<Selected, StoreError> {
        let mut selected = Selected::default();
        let mut after = None;
        loop {
            let page = reader.events(after, Some(self.since), limits::WEBHOOK_EVENTS_PER_REQUEST)?;
            let Some(last) = page.last() else { return Ok(selected) };
            after = Some(last.number);
            for event in page {
                if self.until.is_some_and(|until| event.created >= until) {
                    continue;
                }
                if !self.filter.wants(event.outgoing.kind, event.outgoing.exchange) {
                    continue;
                }
                if selected.events.len() >= limits::WEBHOOK_EVENTS_PER_REQUEST {
                    selected.next_since = Some(event.created);
                    return Ok(selected);
                }
                selected.events.push(event);
            }
        }
    }
}

/// As the dispatcher takes an event that its owner asked for: it never expires.
#[must_use]
pub fn asked_for(event: StoredEvent) -> Arc<QueuedEvent<Outgoing>> {
    let StoredEvent { number, created, outgoing } = event;
    Arc::new(QueuedEvent { number, created, fresh_for: None, payload: outgoing })
}
