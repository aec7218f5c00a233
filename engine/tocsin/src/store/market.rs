//! What market watchers know and have told: books, instruments and events.
//!
//! Contract: the journal thread commits what the market thread sends in the order it was sent, an event before
//! the records that make it history; a start gives the records back. An event is kept once, by its identity,
//! and for [`limits::MARKET_EVENTS_KEPT`]. A row that cannot be read (another version wrote it) is left out,
//! counted and logged: what it held is learned anew, in silence. Errors are the disk's.

use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};
use tocsin_core::limits;
use tocsin_core::market::record::{BookRecord, InstrumentRecord};
use tocsin_core::market::watcher::Changes;
use tocsin_core::market::{InstrumentKind, MarketEvent, MarketEventKind, exchange};
use tocsin_core::model::Exchange;
use tocsin_core::time::WallUs;
use utoipa::ToSchema;

use super::error::StoreError;
use super::{Reader, Store};

/// One change to be committed.
#[derive(Clone, Copy, Debug)]
pub enum MarketRow<'a> {
    /// What was told. One that is there stays as it is.
    Event(&'a MarketEvent),
    /// What a request knows from now on.
    Changes(&'a Changes),
}

impl Store {
    /// What is known of the instruments of one request.
    ///
    /// # Errors
    /// The disk's.
    pub fn load_market(
        &self,
        source: &str,
        request: &str,
    ) -> Result<(BookRecord, Vec<InstrumentRecord>), StoreError> {
        let (book, records, unreadable) = self.ask(|c| load(c, source, request))?;
        if unreadable > 0 {
            tracing::warn!(source, request, unreadable, "instruments that cannot be read are learned anew");
        }
        Ok((book, records))
    }

    /// Events seen at `since` or later, oldest first; at most [`limits::MARKET_EVENTS_PER_QUERY`], the newest.
    ///
    /// # Errors
    /// The disk's.
    pub fn market_events_since(&self, since: WallUs) -> Result<Vec<MarketEvent>, StoreError> {
        self.ask(|c| events(c, since, limits::MARKET_EVENTS_PER_QUERY))
    }
}

impl Reader {
    /// The newest events, oldest first; at most [`limits::MARKET_EVENTS_PER_QUERY`].
    ///
    /// # Errors
    /// The disk's.
    pub fn market_events(&self, limit: usize) -> Result<Vec<MarketEvent>, StoreError> {
        self.ask(|c| events(c, WallUs(i64::MIN), limit))
    }
}

/// Applies one change, within a transaction.
pub(super) fn apply(connection: &Connection, row: MarketRow<'_>) -> rusqlite::Result<()> {
    match row {
        MarketRow::Event(event) => insert(connection, event),
        MarketRow::Changes(changes) => change(connection, changes),
    }
}

fn insert(connection: &Connection, event: &MarketEvent) -> rusqlite::Result<()> {
    let sql = "INSERT OR IGNORE INTO market_events (id, received_us, event) VALUES (?1, ?2, ?3)";
    let received = event.received.0;
    let row = params![event.source_item(), received, json(&MarketEventText::of(event))?];
    connection.prepare_cached(sql)?.execute(row)?;
    let kept = i64::try_from(limits::MARKET_EVENTS_KEPT.as_micros()).unwrap_or(i64::MAX);
    let sql = "DELETE FROM market_events WHERE received_us < ?1";
    connection.prepare_cached(sql)?.execute([received.saturating_sub(kept)]).map(drop)
}

fn change(connection: &Connection, changes: &Changes) -> rusqlite::Result<()> {
    let Changes { source, request, records, forgotten, book } = changes;
    let sql = "DELETE FROM market_instruments WHERE source = ?1 AND request = ?2 AND symbol = ?3";
    let mut delete = connection.prepare_cached(sql)?;
    for symbol in forgotten {
        delete.execute(params![source, request, symbol])?;
    }
    let sql =
        "INSERT OR REPLACE INTO market_instruments (source, request, symbol, record) VALUES (?1, ?2, ?3, ?4)";
    let mut replace = connection.prepare_cached(sql)?;
    for record in records {
        replace.execute(params![source, request, record.symbol, json(record)?])?;
    }
    if let Some(book) = book {
        let sql = "INSERT OR REPLACE INTO market_books (source, request, record) VALUES (?1, ?2, ?3)";
        connection.prepare_cached(sql)?.execute(params![source, request, json(book)?])?;
    }
    Ok(())
}

/// The book, its instruments, and how many cannot be read.
fn load(
    connection: &Connection,
    source: &str,
    request: &str,
) -> rusqlite::Result<(BookRecord, Vec<InstrumentRecord>, usize)> {
    let sql = "SELECT record FROM market_books WHERE source = ?1 AND request = ?2";
    let book: Option<String> = connection.query_row(sql, [source, request], |row| row.get(0)).optional()?;
    let book = book.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let sql = "SELECT record FROM market_instruments WHERE source = ?1 AND request = ?2 ORDER BY symbol";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([source, request])?;
    let (mut records, mut unreadable) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        match serde_json::from_str(row.get_ref(0)?.as_str()?) {
            Ok(record) => records.push(record),
            Err(_) => unreadable += 1,
        }
    }
    Ok((book, records, unreadable))
}

/// Events seen at `since` or later, oldest first, the newest `limit` of them.
pub(super) fn events(
    connection: &Connection,
    since: WallUs,
    limit: usize,
) -> rusqlite::Result<Vec<MarketEvent>> {
    let sql = "SELECT event FROM market_events WHERE received_us >= ?1 ORDER BY received_us DESC LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![since.0, limit.min(limits::MARKET_EVENTS_PER_QUERY)])?;
    let (mut events, mut unreadable) = (Vec::new(), 0_usize);
    while let Some(row) = rows.next()? {
        let text: Option<MarketEventText> = serde_json::from_str(row.get_ref(0)?.as_str()?).ok();
        match text.and_then(MarketEventText::event) {
            Some(event) => events.push(event),
            None => unreadable += 1,
        }
    }
    if unreadable > 0 {
        tracing::warn!(unreadable, "market events that cannot be read are left out");
    }
    events.reverse();
    Ok(events)
}

fn json(value: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

/// An event as it is kept and listed: names as in its message, so that whoever reads the file can read it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "said at `MarketEvent`")]
pub struct MarketEventText {
    pub event: String,
    pub publisher: String,
    pub source: String,
    pub symbol: String,
    pub base: String,
    pub quote: String,
    pub instrument: String,
    pub state: String,
    pub occurrence: u32,
    pub new_asset: bool,
    pub noticed: bool,
    #[schema(value_type = Option<i64>)]
    pub effective_at_us: Option<WallUs>,
    pub volume24h_usd: Option<f64>,
    pub ratio: Option<f64>,
    pub score: Option<u8>,
    #[schema(value_type = Option<i64>)]
    pub since_us: Option<WallUs>,
    #[schema(value_type = i64)]
    pub received_us: WallUs,
    #[schema(value_type = i64)]
    pub detected_us: WallUs,
}

impl MarketEventText {
    /// As it is.
    #[must_use]
    pub fn of(event: &MarketEvent) -> MarketEventText {
        MarketEventText {
            event: event.kind.name().to_owned(),
            publisher: event.exchange.name().to_owned(),
            source: event.source.to_owned(),
            symbol: event.symbol.clone(),
            base: event.base.clone(),
            quote: event.quote.clone(),
            instrument: event.instrument.name().to_owned(),
            state: event.state.clone(),
            occurrence: event.occurrence,
            new_asset: event.new_asset,
            noticed: event.noticed,
            effective_at_us: event.effective_at,
            volume24h_usd: event.volume_24h,
            ratio: event.ratio,
            score: event.score,
            since_us: event.since,
            received_us: event.received,
            detected_us: event.detected,
        }
    }

    /// `None` for a kind, exchange or source this version does not know.
    fn event(self) -> Option<MarketEvent> {
        Some(MarketEvent {
            kind: MarketEventKind::parse(&self.event)?,
            exchange: Exchange::parse(&self.publisher)?,
            source: exchange::by_name(&self.source)?.name,
            symbol: self.symbol,
            base: self.base,
            quote: self.quote,
            instrument: InstrumentKind::parse(&self.instrument)?,
            state: self.state,
            occurrence: self.occurrence,
            new_asset: self.new_asset,
            noticed: self.noticed,
            effective_at: self.effective_at_us,
            volume_24h: self.volume24h_usd,
            ratio: self.ratio,
            score: self.score,
            since: self.since_us,
            received: self.received_us,
            detected: self.detected_us,
        })
    }
}

#[cfg(test)]
mod tests {
    use tocsin_core::market::Trading;
    use tocsin_core::market::record::Standing;

    use super::super::testing::{NOW, market_event as event, store};
    use super::super::{Row, Store};
    use super::*;

    fn record(symbol: &str, trading: Trading) -> InstrumentRecord {
        InstrumentRecord {
            symbol: symbol.into(),
            base: "ABC".into(),
            quote: "USDT".into(),
            kind: InstrumentKind::Spot,
            trading,
            state: "live".into(),
            opens_at: Some(NOW),
            closes_at: None,
            standing: Standing { opened: true, previews: 2, ..Standing::default() },
        }
    }

    fn changes(records: Vec<InstrumentRecord>, forgotten: &[&str], book: Option<BookRecord>) -> Changes {
        let forgotten = forgotten.iter().map(|symbol| (*symbol).into()).collect();
        Changes { source: "okx.instruments", request: "spot", records, forgotten, book }
    }

    fn commit(store: &mut Store, rows: &[MarketRow<'_>]) {
        store.commit(&rows.iter().map(|row| Row::Market(*row)).collect::<Vec<_>>()).unwrap();
    }

    #[test]
    fn what_a_request_knows_comes_back_latest_and_by_request() {
        let (_dir, mut store) = store();
        let book = BookRecord { baselined: true, last_answer: Some(NOW) };
        let first = changes(vec![record("B", Trading::Ahead), record("A", Trading::Open)], &[], None);
        let then = changes(vec![record("B", Trading::Open), record("C", Trading::Open)], &["A"], Some(book));
        commit(&mut store, &[MarketRow::Changes(&first), MarketRow::Changes(&then)]);
        let other = Changes { request: "swap", ..changes(vec![record("A", Trading::Over)], &[], None) };
        commit(&mut store, &[MarketRow::Changes(&other)]);
        let known = vec![record("B", Trading::Open), record("C", Trading::Open)];
        assert_eq!(store.load_market("okx.instruments", "spot").unwrap(), (book, known));
        let (book, records) = store.load_market("okx.instruments", "swap").unwrap();
        assert_eq!((book, records), (BookRecord::default(), vec![record("A", Trading::Over)]));
    }

    #[test]
    fn an_event_is_kept_once_and_for_a_while() {
        let (_dir, mut store) = store();
        let (old, new) = (event("OLD-USDT", NOW), event("NEW-USDT", WallUs(NOW.0 + 1)));
        let again = MarketEvent { state: "again".to_owned(), ..new.clone() };
        commit(&mut store, &[MarketRow::Event(&old), MarketRow::Event(&new), MarketRow::Event(&again)]);
        assert_eq!(store.market_events_since(NOW).unwrap(), [old, new.clone()]);
        assert_eq!(store.market_events_since(WallUs(NOW.0 + 1)).unwrap(), std::slice::from_ref(&new));
        assert_eq!(store.reader().unwrap().market_events(1).unwrap(), [new]);
        let kept = i64::try_from(limits::MARKET_EVENTS_KEPT.as_micros()).unwrap();
        let later = event("LATER-USDT", WallUs(NOW.0 + kept + 2));
        commit(&mut store, &[MarketRow::Event(&later)]);
        assert_eq!(store.market_events_since(NOW).unwrap(), [later]);
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        let (_dir, mut store) = store();
        let book = BookRecord { baselined: true, last_answer: None };
        commit(
            &mut store,
            &[MarketRow::Changes(&changes(vec![record("A", Trading::Open)], &[], Some(book)))],
        );
        commit(&mut store, &[MarketRow::Event(&event("A-USDT", NOW))]);
        let strange = "INSERT INTO market_instruments VALUES ('okx.instruments', 'spot', 'B', '{}');
                       INSERT INTO market_events VALUES ('x', 1, '{\"event\":\"no_such\"}');";
        store.connection.execute_batch(strange).unwrap();
        assert_eq!(store.load_market("okx.instruments", "spot").unwrap().1, [record("A", Trading::Open)]);
        assert_eq!(store.market_events_since(WallUs(0)).unwrap().len(), 1);
    }
}
