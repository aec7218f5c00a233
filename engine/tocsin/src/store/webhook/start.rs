//! Bringing webhooks up to date at start: what the last life left is made good, then what waits is
//! loaded.
//!
//! Contract: runs before any thread, in one transaction for all repairs and reads; one pass over the
//! events that are open and one over the rows that wait, both in the order of events, so that a million
//! of either takes a second or so. A record that does not fit is passed over, counted and logged.
//! Blocks on the disk, allocates what it returns.

use std::sync::Arc;

use rusqlite::{Connection, Row, params};
use tocsin_core::limits;
use tocsin_core::model::Exchange;
use tocsin_core::time::WallUs;
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::dispatcher::PendingDelivery;
use tocsin_core::webhook::event::{Event, EventKind, IdKey};
use tocsin_core::webhook::lane::QueuedEvent;
use tocsin_core::webhook::outgoing::{Outgoing, RecordedOutcome};

use super::Webhook;
use super::deliveries::{StoredEvent, WebhookStart};
use super::endpoints;
use super::log::read_event_id;
use super::recipients::Recipients;
use super::rows::{self, Asked, Batch};
use crate::store::{Store, StoreError, history, market, unreadable};

impl Store {
    /// Brings webhooks up to date at start, before any thread runs: events of announcements in history and
    /// of market events that have none yet (recovered, or committed in the instant before a crash) are made and offered
    /// to the endpoints that were verified when they were detected and want them; outcomes left in the
    /// shared-memory journal are applied; then what waits is loaded. A record that does not fit (its
    /// event or endpoint is gone, it does not decode) is passed over, counted and logged. What shared
    /// memory held is on disk when this returns, and the file is gone.
    ///
    /// # Errors
    /// The disk's.
    pub fn start_webhooks(&mut self, id_key: &IdKey) -> Result<WebhookStart, StoreError> {
        let left = self.place.recover_outcomes();
        let endpoints = self.load_endpoints()?;
        let outcomes: Vec<RecordedOutcome> = left.iter().flat_map(|left| left.outcomes.clone()).collect();
        let path = &self.path;
        let doing = |error| StoreError::sqlite(path, error);
        let transaction = self.connection.transaction().map_err(doing)?;
        let made = make_events(&transaction, &mut self.webhook, &endpoints, id_key)
            .and_then(|made| Ok((made, apply_outcomes(&transaction, &mut self.webhook, &outcomes)?)))
            .and_then(|counts| Ok((counts, rows::prune(&transaction)?)))
            .and_then(|counts| Ok((counts, load(&transaction, &self.webhook)?)));
        let (((made, strangers), pruned), start) = made.map_err(doing)?;
        transaction.commit().map_err(doing)?;
        if made + outcomes.len() + pruned > 0 {
            tracing::info!(
                events = made,
                outcomes = outcomes.len(),
                strangers,
                forgotten = pruned,
                "webhooks: made events of announcements that had none and took over outcomes of an earlier life"
            );
        }
        for left in left {
            if let Some(damage) = left.damage {
                tracing::warn!(path = %left.path.display(), damage, "the webhook journal was not whole");
            }
            left.settle().map_err(|error| StoreError::io("removing", &left.path, error))?;
        }
        Ok(start)
    }

    /// Commits outcomes that came by their event's id. How many had no event.
    pub(crate) fn commit_outcomes(&mut self, outcomes: &[RecordedOutcome]) -> Result<usize, StoreError> {
        let doing = |error| StoreError::sqlite(&self.path, error);
        let transaction = self.connection.transaction().map_err(doing)?;
        let strangers = apply_outcomes(&transaction, &mut self.webhook, outcomes).map_err(doing)?;
        transaction.commit().map_err(doing)?;
        Ok(strangers)
    }
}

/// Makes the events of the newest announcements in history, and of the newest market events, that have none. How
/// many.
fn make_events(
    connection: &Connection,
    webhook: &mut Webhook,
    endpoints: &[endpoints::EndpointRecord],
    id_key: &IdKey,
) -> rusqlite::Result<usize> {
    let mut number = next_number(connection)?;
    let first = number;
    let mut known = connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM events WHERE identity = ?1)")?;
    let mut batch = Batch::new(connection, webhook);
    let announced = history::newest(connection, limits::HISTORY_IN_MEMORY)?;
    let announced = announced.iter().flat_map(|stored| Event::of(&stored.announcement, id_key));
    let told = market::events(connection, WallUs(i64::MIN), limits::MARKET_EVENTS_MADE_GOOD)?;
    let told = told.iter().filter_map(|event| Event::of_market(event, id_key));
    for event in announced.chain(told) {
        if known.query_row([event.id.identity()], |row| row.get(0))? {
            continue;
        }
        match Outgoing::of(&event) {
            Ok(outgoing) => {
                let recipients = recipients_of(&event, endpoints);
                let queued = outgoing.queued(number, event.timestamp);
                number += u64::from(batch.event(&queued, &recipients)?);
            }
            Err(_) => tracing::error!(event = %event.id, "an event does not fit into a body; left out"),
        }
    }
    batch.finish()?;
    Ok(usize::try_from(number - first).unwrap_or(usize::MAX))
}

/// Who would have been offered an event when it was detected.
fn recipients_of(event: &Event, endpoints: &[endpoints::EndpointRecord]) -> Vec<EndpointId> {
    if event.late {
        return Vec::new();
    }
    let verified = |at: Option<WallUs>| at.is_some_and(|at| at <= event.timestamp);
    let wanting =
        endpoints.iter().filter(|e| verified(e.verified_at) && e.filter.wants(event.kind, event.exchange));
    wanting.map(|endpoint| endpoint.id).collect()
}

fn apply_outcomes(
    connection: &Connection,
    webhook: &mut Webhook,
    outcomes: &[RecordedOutcome],
) -> rusqlite::Result<usize> {
    let mut batch = Batch::new(connection, webhook);
    let mut strangers = 0;
    for outcome in outcomes {
        strangers += usize::from(!batch.outcome_by_id(outcome)?);
    }
    batch.finish()?;
    Ok(strangers)
}

fn next_number(connection: &Connection) -> rusqlite::Result<u64> {
    connection.query_row("SELECT coalesce(max(number), 0) + 1 FROM events", [], |row| row.get(0))
}

/// A delivery that has a row.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    event: u64,
    endpoint: u64,
    attempt: u8,
    due: Option<WallUs>,
    asked: Asked,
}

fn read_waiting(row: &Row<'_>) -> rusqlite::Result<Waiting> {
    Ok(Waiting {
        event: row.get(0)?,
        endpoint: row.get(1)?,
        // One that cannot be is refused where it is taken in.
        attempt: u8::try_from(row.get::<_, i64>(2)?).unwrap_or(0),
        due: row.get::<_, Option<i64>>(3)?.map(WallUs),
        asked: Asked::read(row.get(4)?),
    })
}

/// What [`load`] gathers.
#[derive(Default)]
struct Gathered {
    start: WebhookStart,
    retries: Vec<PendingDelivery>,
    /// Rows that belong to nothing.
    strays: Vec<(u64, u64)>,
    /// Rows that were asked for while no service ran: from now on it does.
    taken_up: Vec<(u64, u64)>,
    /// Events with deliveries to endpoints that are gone, concluded.
    mended: Vec<(u64, Recipients)>,
}

/// Loads what waits, and mends what does not fit together.
fn load(connection: &Connection, webhook: &Webhook) -> rusqlite::Result<WebhookStart> {
    let mut gathered = Gathered::default();
    let mut rows = connection
        .prepare("SELECT event, endpoint, attempt, due_us, asked FROM deliveries ORDER BY event, endpoint")?;
    let mut rows = rows.query_map([], read_waiting)?;
    let mut next = rows.next().transpose()?;
    let sql =
        format!("SELECT {EVENT_COLUMNS}, recipients, concluded FROM events WHERE open > 0 ORDER BY number");
    let mut events = connection.prepare(&sql)?;
    let mut events = events.query([])?;
    let mut of_event: Vec<Waiting> = Vec::new();
    while let Some(row) = events.next()? {
        let number: u64 = row.get(0)?;
        let recipients = Recipients::decode(row.get_ref(7)?.as_blob()?, row.get_ref(8)?.as_blob()?);
        of_event.clear();
        while let Some(waiting) = next.filter(|waiting| waiting.event <= number) {
            match waiting.event == number {
                true => of_event.push(waiting),
                false => gathered.strays.push((waiting.event, waiting.endpoint)),
            }
            next = rows.next().transpose()?;
        }
        match (read_event(row), recipients) {
            (Ok(event), Some(recipients)) => gathered.event(event, recipients, &of_event, webhook),
            (Ok(_), None) => tracing::error!(event = number, "recipients cannot be read; passed over"),
            (Err(error), _) => {
                tracing::error!(event = number, %error, "an event cannot be read; passed over");
            }
        }
    }
    while let Some(waiting) = next {
        gathered.strays.push((waiting.event, waiting.endpoint));
        next = rows.next().transpose()?;
    }
    drop((rows, events));
    gathered.mend(connection)?;
    let Gathered { mut start, retries, .. } = gathered;
    start.pending.extend(retries);
    start.next_number = next_number(connection)?;
    start.identities = identities(connection)?;
    Ok(start)
}

impl Gathered {
    /// Takes an event that is open, and the rows of its deliveries, by endpoint.
    fn event(&mut self, event: StoredEvent, mut recipients: Recipients, rows: &[Waiting], webhook: &Webhook) {
        let StoredEvent { number, created, outgoing } = event;
        let queued = Arc::new(outgoing.queued(number, created));
        let mut rows = rows.iter().peekable();
        let mut gone = Vec::new();
        let mut asked_for = None;
        for endpoint in recipients.waiting() {
            while let Some(stray) = rows.next_if(|row| row.endpoint < endpoint.0) {
                self.strays.push((number, stray.endpoint));
            }
            let row = rows.next_if(|row| row.endpoint == endpoint.0);
            if !webhook.live.contains(&endpoint.0) {
                gone.push(endpoint);
                self.strays.extend(row.map(|row| (number, row.endpoint)));
                continue;
            }
            let (attempt, due) = row.map_or((1, None), |row| (row.attempt, row.due));
            let delivery = PendingDelivery { endpoint, event: number, attempt, due };
            match row {
                Some(Waiting { asked, attempt: 1, .. }) if *asked != Asked::No => {
                    if *asked == Asked::BetweenLives {
                        self.taken_up.push((number, endpoint.0));
                    }
                    let event = asked_for.get_or_insert_with(|| Arc::new(unending(&queued)));
                    self.start.asked.push((delivery, Arc::clone(event)));
                }
                Some(_) => self.retries.push(delivery),
                None => self.start.pending.push(delivery),
            }
        }
        self.strays.extend(rows.map(|row| (number, row.endpoint)));
        if !gone.is_empty() {
            for endpoint in gone {
                recipients.conclude(endpoint);
            }
            self.mended.push((number, recipients));
        }
        self.start.events.push(queued);
    }

    fn mend(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        for (event, endpoint) in &self.strays {
            let sql = "DELETE FROM deliveries WHERE event = ?1 AND endpoint = ?2";
            connection.prepare_cached(sql)?.execute(params![event, endpoint])?;
        }
        for (event, endpoint) in &self.taken_up {
            let sql = "UPDATE deliveries SET asked = ?3 WHERE event = ?1 AND endpoint = ?2";
            connection.prepare_cached(sql)?.execute(params![event, endpoint, Asked::Running.number()])?;
        }
        for (event, recipients) in &self.mended {
            recipients.save(connection, *event)?;
        }
        if self.strays.len() + self.mended.len() > 0 {
            tracing::warn!(
                rows = self.strays.len(),
                events = self.mended.len(),
                "deliveries that belong to no event or endpoint any more were passed over"
            );
        }
        Ok(())
    }
}

/// The same event, asked for by a customer: it does not expire.
fn unending(event: &QueuedEvent<Outgoing>) -> QueuedEvent<Outgoing> {
    QueuedEvent {
        number: event.number,
        created: event.created,
        fresh_for: None,
        payload: event.payload.clone(),
    }
}

fn identities(connection: &Connection) -> rusqlite::Result<Vec<Box<str>>> {
    let sql = "SELECT identity FROM events ORDER BY number DESC LIMIT ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([limits::WEBHOOK_IDENTITIES], |row| row.get::<_, String>(0))?;
    let mut identities =
        rows.map(|text| text.map(Into::into)).collect::<rusqlite::Result<Vec<Box<str>>>>()?;
    identities.reverse();
    Ok(identities)
}

/// The columns that [`read_event`] reads.
pub(super) const EVENT_COLUMNS: &str = "number, id, kind, exchange, created_us, late, body";

pub(super) fn read_event(row: &Row<'_>) -> rusqlite::Result<StoredEvent> {
    let kind: String = row.get(2)?;
    let exchange: Option<String> = row.get(3)?;
    let exchange =
        exchange.map(|name| Exchange::parse(&name).ok_or_else(|| unreadable(3, "exchange", &name)));
    Ok(StoredEvent {
        number: row.get(0)?,
        created: WallUs(row.get(4)?),
        outgoing: Outgoing {
            id: read_event_id(row, 1)?,
            kind: EventKind::parse(&kind).ok_or_else(|| unreadable(2, "event kind", &kind))?,
            exchange: exchange.transpose()?,
            late: row.get(5)?,
            body: row.get::<_, Vec<u8>>(6)?.into(),
        },
    })
}
