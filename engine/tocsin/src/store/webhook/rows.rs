//! What the webhook thread sends to the disk, applied within one transaction.
//!
//! Contract: a [`Batch`] takes rows in their order and keeps the recipients of the events it meets in
//! memory until [`Batch::finish`], so that the outcomes of one event at a thousand endpoints are one
//! read and one write. Applying the same outcomes again changes nothing. A row whose event or endpoint
//! is gone is passed over: neither is an error, for both may be deleted while rows are on their way.
//! Blocks on the disk within the caller's transaction.

use std::collections::btree_map::{BTreeMap, Entry};

use rusqlite::{Connection, OptionalExtension as _, params};
use tocsin_core::limits;
use tocsin_core::model::Exchange;
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::event::EventId;
use tocsin_core::webhook::lane::QueuedEvent;
use tocsin_core::webhook::outgoing::{Outcome, Outgoing, RecordedOutcome};

use super::deliveries::WebhookRow;
use super::endpoints;
use super::log;
use super::mail;
use super::recipients::Recipients;
use super::{HealthRow, Webhook};

/// Old events are looked for each time so many have come.
const PRUNE_EVERY: u64 = 256;

/// Whether, and when, a delivery was asked for by its endpoint's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    No,
    /// While the service ran: outcomes in shared memory at the next start are of this delivery.
    Running,
    /// While none ran: outcomes in shared memory at the next start are older, and not of this one.
    BetweenLives,
}

impl Asked {
    pub(super) const fn number(self) -> i64 {
        match self {
            Asked::No => 0,
            Asked::Running => 1,
            Asked::BetweenLives => 2,
        }
    }

    pub(super) const fn read(number: i64) -> Asked {
        match number {
            0 => Asked::No,
            2 => Asked::BetweenLives,
            _ => Asked::Running,
        }
    }
}

/// An event met in this transaction.
struct Met {
    recipients: Recipients,
    changed: bool,
    /// Whether deliveries of it may have rows.
    has_rows: bool,
}

/// See the module head.
pub(in crate::store) struct Batch<'c> {
    connection: &'c Connection,
    webhook: &'c mut Webhook,
    /// `None`: there is no such event.
    met: BTreeMap<u64, Option<Met>>,
    passed_over: usize,
}

impl<'c> Batch<'c> {
    pub(in crate::store) fn new(connection: &'c Connection, webhook: &'c mut Webhook) -> Batch<'c> {
        Batch { connection, webhook, met: BTreeMap::new(), passed_over: 0 }
    }

    /// Applies one row.
    pub(in crate::store) fn apply(&mut self, row: &WebhookRow<'_>) -> rusqlite::Result<()> {
        match *row {
            WebhookRow::Event { event, recipients } => self.event(event, recipients).map(drop),
            WebhookRow::Outcome { event, recorded } => self.outcome(event, &recorded),
            WebhookRow::Asked { event, endpoint } => self.asked(event, endpoint, Asked::Running).map(drop),
            WebhookRow::Attempt(line) if self.webhook.live.contains(&line.endpoint.0) => {
                log::write(self.connection, &mut self.webhook.lines, line)
            }
            WebhookRow::Attempt(_) => Ok(()),
        }
    }

    /// Saves an endpoint's health and the mail due for it.
    pub(in crate::store) fn health(&self, row: &HealthRow<'_>) -> rusqlite::Result<()> {
        let HealthRow { endpoint, health, verified, mail, at } = row;
        let there = endpoints::set_health(self.connection, *endpoint, health, verified.then_some(*at))?;
        if let (true, Some((mail, detail))) = (there, mail) {
            let not_before = mail::not_before(*mail, *at);
            mail::enqueue(self.connection, *endpoint, *mail, detail, *at, not_before)?;
        }
        Ok(())
    }

    /// Stores an event; one with this id stays as it is. Those to whom it was offered and who are gone
    /// by now get nothing. Whether it was new.
    pub(super) fn event(
        &mut self,
        event: &QueuedEvent<Outgoing>,
        recipients: &[EndpointId],
    ) -> rusqlite::Result<bool> {
        let mut offered = Recipients::offered_to(recipients.iter().copied());
        for gone in recipients.iter().filter(|endpoint| !self.webhook.live.contains(&endpoint.0)) {
            offered.conclude(*gone);
        }
        let QueuedEvent { number, created, payload, .. } = event;
        let sql = "INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
                   ON CONFLICT (id) DO NOTHING";
        let new = self.connection.prepare_cached(sql)?.execute(params![
            number,
            payload.id.as_str(),
            payload.id.identity(),
            payload.kind.name(),
            payload.exchange.map(Exchange::name),
            created.0,
            payload.late,
            offered.open(),
            offered.encode_endpoints(),
            offered.encode_concluded(),
            payload.body,
        ])? > 0;
        if new {
            self.met.insert(*number, Some(Met { recipients: offered, changed: false, has_rows: false }));
            if number.is_multiple_of(PRUNE_EVERY) {
                prune(self.connection)?;
            }
        }
        Ok(new)
    }

    /// Books what became of a delivery.
    fn outcome(&mut self, event: u64, recorded: &RecordedOutcome) -> rusqlite::Result<()> {
        let RecordedOutcome { endpoint, outcome, .. } = *recorded;
        let connection = self.connection;
        let Some(met) = self.meet(event)? else {
            self.passed_over += 1;
            return Ok(());
        };
        if met.recipients.is_concluded(endpoint) != Some(false) {
            return Ok(()); // Booked already, deleted, or of a replay beside it that was faster.
        }
        match outcome {
            Outcome::Retry { attempt, due } => {
                met.has_rows = true;
                let sql = "INSERT INTO deliveries VALUES (?1, ?2, ?3, ?4, 0)
                           ON CONFLICT DO UPDATE SET attempt = ?3, due_us = ?4";
                connection.prepare_cached(sql)?.execute(params![event, endpoint.0, attempt, due.0])?;
            }
            Outcome::Delivered | Outcome::Failed | Outcome::Expired => {
                met.changed |= met.recipients.conclude(endpoint);
                if met.has_rows {
                    let sql = "DELETE FROM deliveries WHERE event = ?1 AND endpoint = ?2";
                    connection.prepare_cached(sql)?.execute(params![event, endpoint.0])?;
                }
            }
        }
        Ok(())
    }

    /// As [`Batch::outcome`], found in shared memory and of an event known by its id. Whether there is
    /// such an event.
    pub(super) fn outcome_by_id(&mut self, recorded: &RecordedOutcome) -> rusqlite::Result<bool> {
        let Some(event) = number_of(self.connection, recorded.event)? else { return Ok(false) };
        let sql =
            "SELECT EXISTS (SELECT 1 FROM deliveries WHERE event = ?1 AND endpoint = ?2 AND asked = ?3)";
        let values = params![event, recorded.endpoint.0, Asked::BetweenLives.number()];
        if !self.connection.prepare_cached(sql)?.query_row(values, |row| row.get(0))? {
            self.outcome(event, recorded)?;
        }
        Ok(true)
    }

    /// Has an event sent to an endpoint (again). Whether there are both.
    pub(super) fn asked(&mut self, event: u64, endpoint: EndpointId, when: Asked) -> rusqlite::Result<bool> {
        let connection = self.connection;
        if !self.webhook.live.contains(&endpoint.0) {
            return Ok(false);
        }
        let Some(met) = self.meet(event)? else { return Ok(false) };
        if !met.recipients.reopen(endpoint) {
            return Ok(false);
        }
        met.changed = true;
        met.has_rows = true;
        let sql = "INSERT OR REPLACE INTO deliveries VALUES (?1, ?2, 1, NULL, ?3)";
        connection.prepare_cached(sql)?.execute(params![event, endpoint.0, when.number()])?;
        Ok(true)
    }

    /// Writes what was kept in memory; the caller commits.
    pub(in crate::store) fn finish(self) -> rusqlite::Result<()> {
        for (event, met) in &self.met {
            if let Some(Met { recipients, changed: true, .. }) = met {
                recipients.save(self.connection, *event)?;
            }
        }
        if self.passed_over > 0 {
            tracing::warn!(
                rows = self.passed_over,
                "outcomes of events that are not stored were passed over"
            );
        }
        Ok(())
    }

    fn meet(&mut self, event: u64) -> rusqlite::Result<Option<&mut Met>> {
        let connection = self.connection;
        let met = match self.met.entry(event) {
            Entry::Occupied(met) => met.into_mut(),
            Entry::Vacant(place) => {
                let recipients = Recipients::load(connection, event)?;
                let sql = "SELECT EXISTS (SELECT 1 FROM deliveries WHERE event = ?1)";
                let has_rows = connection.prepare_cached(sql)?.query_row([event], |row| row.get(0))?;
                place.insert(recipients.map(|recipients| Met { recipients, changed: false, has_rows }))
            }
        };
        Ok(met.as_mut())
    }
}

/// The number of an event.
pub(super) fn number_of(connection: &Connection, id: EventId) -> rusqlite::Result<Option<u64>> {
    let sql = "SELECT number FROM events WHERE id = ?1";
    connection.prepare_cached(sql)?.query_row([id.as_str()], |row| row.get(0)).optional()
}

/// Forgets concluded events beyond the newest [`limits::WEBHOOK_EVENTS_STORED`].
pub(super) fn prune(connection: &Connection) -> rusqlite::Result<usize> {
    prune_beyond(connection, limits::WEBHOOK_EVENTS_STORED)
}

pub(super) fn prune_beyond(connection: &Connection, keep: usize) -> rusqlite::Result<usize> {
    let sql = "DELETE FROM events WHERE open = 0 AND number <= (SELECT max(number) FROM events) - ?1";
    connection.prepare_cached(sql)?.execute([keep])
}
