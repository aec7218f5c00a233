//! Lines of the delivery log, in and out.
//!
//! Contract: the log of an endpoint is a ring of [`limits::WEBHOOK_LOG_LINES`] rows; a new line is
//! written over the oldest, so there is nothing to prune. Texts are cut at
//! [`limits::WEBHOOK_LOG_DETAIL_BYTES`]. Blocks on the disk within the caller's transaction.

use std::collections::BTreeMap;

use rusqlite::{Connection, Row, named_params};
use tocsin_core::limits;
use tocsin_core::time::WallUs;
use tocsin_core::webhook::attempt::FailureClass;
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::endpoint::Ping;
use tocsin_core::webhook::event::{EventId, EventKind};
use tocsin_core::webhook::lane::Purpose;
use tocsin_core::webhook::outgoing::Phases;

use super::accounts::AccountId;
use super::deliveries::AttemptRecord;
use crate::store::unreadable;

/// Writes a line over the oldest of its endpoint. `lines` remembers the number of each endpoint's next
/// line; a number that was given to a line which was rolled back is left out.
pub(super) fn write(
    connection: &Connection,
    lines: &mut BTreeMap<u64, u64>,
    line: &AttemptRecord,
) -> rusqlite::Result<()> {
    let endpoint = line.endpoint.0;
    let number = match lines.get(&endpoint) {
        Some(next) => *next,
        None => connection
            .prepare_cached("SELECT coalesce(max(line) + 1, 0) FROM attempts WHERE endpoint = ?1")?
            .query_row([endpoint], |row| row.get(0))?,
    };
    lines.insert(endpoint, number + 1);
    let (purpose, attempt) = purpose_name(line.purpose);
    let phases = &line.phases;
    let most = limits::WEBHOOK_LOG_DETAIL_BYTES;
    let detail = line.detail.as_deref().map(|d| d.get(..d.floor_char_boundary(most)).unwrap_or_default());
    let sql = "INSERT OR REPLACE INTO attempts VALUES (:endpoint, :slot, :line, :event, :kind, :purpose,
               :attempt, :started, :status, :class, :took, :queue, :dns, :tcp, :tls, :write, :first_byte,
               :address, :detail, :next)";
    let values = named_params! {
        ":endpoint": endpoint,
        ":slot": number % limits::WEBHOOK_LOG_LINES,
        ":line": number,
        ":event": line.event.as_str(),
        ":kind": line.kind.name(),
        ":purpose": purpose,
        ":attempt": attempt,
        ":started": line.started_at.0,
        ":status": line.status,
        ":class": line.class.map(FailureClass::name),
        ":took": line.took_us,
        ":queue": phases.queue_us,
        ":dns": phases.dns_us,
        ":tcp": phases.tcp_us,
        ":tls": phases.tls_us,
        ":write": phases.write_us,
        ":first_byte": phases.first_byte_us,
        ":address": line.address.map(|address| address.to_string()),
        ":detail": detail,
        ":next": line.next_at.map(|at| at.0),
    };
    connection.prepare_cached(sql)?.execute(values).map(drop)
}

/// The newest lines of an endpoint, newest first; only those of one event where it is given.
pub(super) fn newest(
    connection: &Connection,
    endpoint: EndpointId,
    event: Option<EventId>,
    limit: usize,
) -> rusqlite::Result<Vec<AttemptRecord>> {
    let sql = "SELECT * FROM attempts WHERE endpoint = :endpoint AND (:event IS NULL OR event = :event)
               ORDER BY line DESC LIMIT :limit";
    let limit = limit.min(limits::WEBHOOK_LINES_PER_REQUEST);
    let event = event.as_ref().map(EventId::as_str);
    let values = named_params! { ":endpoint": endpoint.0, ":event": event, ":limit": limit };
    connection.prepare_cached(sql)?.query_map(values, read)?.collect()
}

/// How an account's attempts to deliver events went since an instant, as far as the log reaches: how many
/// of each class of failure, and without one.
pub(super) fn outcomes_since(
    connection: &Connection,
    account: AccountId,
    since: WallUs,
) -> rusqlite::Result<Vec<(Option<String>, u64)>> {
    let sql = "SELECT class, count(*) FROM attempts
               WHERE endpoint IN (SELECT id FROM endpoints WHERE account = ?1)
                   AND purpose = 'event' AND started_us >= ?2
               GROUP BY class ORDER BY class";
    let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    connection.prepare_cached(sql)?.query_map([account.0, since.0], read)?.collect()
}

fn read(row: &Row<'_>) -> rusqlite::Result<AttemptRecord> {
    let kind: String = row.get(4)?;
    let class: Option<String> = row.get(9)?;
    let class = class.map(|name| FailureClass::parse(&name).ok_or_else(|| unreadable(9, "class", &name)));
    let address: Option<String> = row.get(17)?;
    let address = address.map(|text| text.parse().map_err(|_| unreadable(17, "address", &text)));
    Ok(AttemptRecord {
        endpoint: EndpointId(row.get(0)?),
        event: read_event_id(row, 3)?,
        kind: EventKind::parse(&kind).ok_or_else(|| unreadable(4, "event kind", &kind))?,
        purpose: read_purpose(row)?,
        started_at: WallUs(row.get(7)?),
        status: row.get(8)?,
        class: class.transpose()?,
        took_us: row.get(10)?,
        phases: Phases {
            queue_us: row.get(11)?,
            dns_us: row.get(12)?,
            tcp_us: row.get(13)?,
            tls_us: row.get(14)?,
            write_us: row.get(15)?,
            first_byte_us: row.get(16)?,
        },
        address: address.transpose()?,
        detail: row.get::<_, Option<String>>(18)?.map(Into::into),
        next_at: row.get::<_, Option<i64>>(19)?.map(WallUs),
    })
}

pub(super) fn read_event_id(row: &Row<'_>, column: usize) -> rusqlite::Result<EventId> {
    let text: String = row.get(column)?;
    EventId::parse(&text).ok_or_else(|| unreadable(column, "event id", &text))
}

const PINGS: [Ping; 4] = [Ping::Verification, Ping::Health, Ping::Probe, Ping::Confirm];

/// A purpose as a name and the number of the attempt.
const fn purpose_name(purpose: Purpose) -> (&'static str, u8) {
    match purpose {
        Purpose::Event { attempt } => ("event", attempt),
        Purpose::Test => ("test", 1),
        Purpose::Ping(Ping::Verification) => ("ping_verification", 1),
        Purpose::Ping(Ping::Health) => ("ping_health", 1),
        Purpose::Ping(Ping::Probe) => ("ping_probe", 1),
        Purpose::Ping(Ping::Confirm) => ("ping_confirm", 1),
    }
}

fn read_purpose(row: &Row<'_>) -> rusqlite::Result<Purpose> {
    let name: String = row.get(5)?;
    let attempt: u8 = row.get(6)?;
    [Purpose::Event { attempt }, Purpose::Test]
        .into_iter()
        .chain(PINGS.map(Purpose::Ping))
        .find(|purpose| purpose_name(*purpose).0 == name)
        .ok_or_else(|| unreadable(5, "purpose", &name))
}
