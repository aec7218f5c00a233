//! Announcement history: rows in, rows out, in feed order (epoch, then seq).
//!
//! A row is inserted once: the same announcement from the ring and from the shared-memory journal
//! has the same position, and the second insert changes nothing.

use rusqlite::{Connection, Row, ToSql, params};
use tocsin_core::limits;
use tocsin_core::model::{
    Action, Announcement, Classification, Exchange, ExchangeSet, FeedPosition, Lang, ListingType,
    ListingTypeSet, Market, Ticker,
};
use tocsin_core::time::WallUs;

use super::error::StoreError;
use super::intern::intern;
use super::{Store, unreadable};

/// One row of history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAnnouncement {
    /// As it was announced.
    pub announcement: Announcement,
    /// When the first feed thread started its fan-out; `None` for late ones, and for one whose
    /// dispatch was not known when the process died.
    pub dispatched: Option<WallUs>,
}

/// Which rows of history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryQuery {
    /// Those after this position, oldest first; `None`: the newest ones.
    pub after: Option<FeedPosition>,
    /// Those of these exchanges.
    pub exchanges: ExchangeSet,
    /// Those of these types.
    pub types: ListingTypeSet,
    /// Those detected up to this instant (a delayed key).
    pub detected_until: Option<WallUs>,
    /// At most this many, itself at most [`limits::HISTORY_PER_QUERY`].
    pub limit: usize,
}

impl Default for HistoryQuery {
    /// The newest 100.
    fn default() -> HistoryQuery {
        HistoryQuery {
            after: None,
            exchanges: ExchangeSet::ALL,
            types: ListingTypeSet::ALL,
            detected_until: None,
            limit: 100,
        }
    }
}

/// One answer of history and where to go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryPage {
    /// Rows, oldest first.
    pub rows: Vec<StoredAnnouncement>,
    /// Everything up to here was looked at; `None` while there is nothing.
    pub next: Option<FeedPosition>,
}

const COLUMNS: &str = "epoch, seq, id, exchange, title, listing_type, tickers, markets, rule, confidence, lang, \
     action, late, url, notice_id, source, published_us, received_us, detected_us, classified_us, \
     effective_us, dispatched_us";

impl Store {
    /// The newest `limit` announcements, oldest first: what a start keeps in memory.
    ///
    /// # Errors
    /// The disk's.
    pub fn load_history(&self, limit: usize) -> Result<Vec<StoredAnnouncement>, StoreError> {
        self.ask(|c| newest(c, limit))
    }

    /// Rows of history, oldest first.
    ///
    /// # Errors
    /// The disk's.
    pub fn query_history(&self, query: &HistoryQuery) -> Result<Vec<StoredAnnouncement>, StoreError> {
        self.ask(|c| select(c, query))
    }

    /// Rows of history and where to go on.
    ///
    /// # Errors
    /// The disk's.
    pub fn history_page(&self, query: &HistoryQuery) -> Result<HistoryPage, StoreError> {
        self.ask(|c| page(c, query))
    }
}

/// Rows of history and where to go on.
pub(super) fn page(connection: &Connection, query: &HistoryQuery) -> rusqlite::Result<HistoryPage> {
    let last = |rows: &[StoredAnnouncement]| rows.last().map(|row| row.announcement.position);
    // Read before the rows: one committed in between is asked for again, not passed over.
    let newest = HistoryQuery { limit: 1, detected_until: query.detected_until, ..HistoryQuery::default() };
    let newest = last(&select(connection, &newest)?);
    let rows = select(connection, query)?;
    let full = query.after.is_some() && rows.len() >= query.limit.min(limits::HISTORY_PER_QUERY);
    let next = if full { last(&rows) } else { last(&rows).max(newest).or(query.after) };
    Ok(HistoryPage { rows, next })
}

/// Inserts a row; one that is there stays as it is, but for a dispatch time it lacks. Whether it
/// was new.
pub(super) fn insert(
    connection: &Connection,
    a: &Announcement,
    dispatched: Option<WallUs>,
) -> rusqlite::Result<bool> {
    let c = &a.classification;
    let markets = c.markets.iter().flat_map(|m| [&m.base, &m.quote]);
    let sql = "INSERT OR IGNORE INTO announcements VALUES
        (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22)";
    let changed = connection.prepare_cached(sql)?.execute(params![
        a.position.epoch,
        a.position.seq,
        a.id,
        a.exchange.name(),
        a.title,
        c.listing_type.name(),
        words(c.tickers.iter()),
        words(markets),
        c.rule,
        c.confidence,
        c.lang.name(),
        action_name(a.action),
        a.late,
        a.url,
        a.notice_id,
        a.source,
        a.published.0,
        a.received.0,
        a.detected.0,
        a.classified.0,
        a.effective_at.map(|at| at.0),
        dispatched.map(|at| at.0),
    ])?;
    if let (0, Some(at)) = (changed, dispatched) {
        set_dispatched(connection, a.position, at)?;
    }
    Ok(changed == 1)
}

/// Whether there is a later announcement of the same item.
pub(super) fn has_later(connection: &Connection, a: &Announcement) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM announcements
               WHERE id = ?1 AND source = ?2 AND (epoch, seq) > (?3, ?4))";
    let FeedPosition { epoch, seq } = a.position;
    connection.prepare_cached(sql)?.query_row(params![a.id, a.source, epoch, seq], |row| row.get(0))
}

/// Fills in when a row was dispatched, once.
pub(super) fn set_dispatched(
    connection: &Connection,
    position: FeedPosition,
    at: WallUs,
) -> rusqlite::Result<()> {
    let sql =
        "UPDATE announcements SET dispatched_us = coalesce(dispatched_us, ?3) WHERE epoch = ?1 AND seq = ?2";
    connection.prepare_cached(sql)?.execute(params![position.epoch, position.seq, at.0]).map(drop)
}

/// Rows of history, oldest first.
pub(super) fn select(
    connection: &Connection,
    query: &HistoryQuery,
) -> rusqlite::Result<Vec<StoredAnnouncement>> {
    let mut conditions = Vec::new();
    let mut values: Vec<&dyn ToSql> = Vec::new();
    let (epoch, seq) = query.after.map_or((0, 0), |after| {
        // Positions on disk are at most i64::MAX, SQLite's largest integer.
        let clamp = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        (clamp(after.epoch), clamp(after.seq))
    });
    if query.after.is_some() {
        conditions.push("(epoch, seq) > (?, ?)".to_owned());
        values.extend([&epoch as &dyn ToSql, &seq]);
    }
    if !query.exchanges.is_all() {
        conditions.push(format!("exchange IN ({})", quoted(query.exchanges.iter().map(Exchange::name))));
    }
    if query.types != ListingTypeSet::ALL {
        let types = ListingType::ALL.into_iter().filter(|t| query.types.contains(*t));
        conditions.push(format!("listing_type IN ({})", quoted(types.map(ListingType::name))));
    }
    let until = query.detected_until.map_or(i64::MAX, |until| until.0);
    if query.detected_until.is_some() {
        conditions.push("detected_us <= ?".to_owned());
        values.push(&until);
    }
    let filter =
        if conditions.is_empty() { String::new() } else { format!("WHERE {}", conditions.join(" AND ")) };
    let limit = query.limit.min(limits::HISTORY_PER_QUERY);
    rows(connection, &filter, query.after.is_some(), limit, &values)
}

/// The newest `limit`, oldest first.
pub(super) fn newest(connection: &Connection, limit: usize) -> rusqlite::Result<Vec<StoredAnnouncement>> {
    rows(connection, "", false, limit, &[])
}

fn rows(
    connection: &Connection,
    filter: &str,
    oldest_first: bool,
    limit: usize,
    values: &[&dyn ToSql],
) -> rusqlite::Result<Vec<StoredAnnouncement>> {
    let order = if oldest_first { "ASC" } else { "DESC" };
    let sql = format!(
        "SELECT {COLUMNS} FROM announcements {filter} ORDER BY epoch {order}, seq {order} LIMIT {limit}"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut found = statement.query_map(values, read_row)?.collect::<rusqlite::Result<Vec<_>>>()?;
    if !oldest_first {
        found.reverse();
    }
    Ok(found)
}

/// Names of exchanges and types only: they hold no quotation mark.
fn quoted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("'{name}'")).collect::<Vec<_>>().join(",")
}

fn words<'a>(tickers: impl Iterator<Item = &'a Ticker>) -> String {
    tickers.map(Ticker::as_str).collect::<Vec<_>>().join(" ")
}

fn read_row(row: &Row<'_>) -> rusqlite::Result<StoredAnnouncement> {
    let wall = |column| row.get(column).map(WallUs);
    let maybe_wall = |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(WallUs));
    let announcement = Announcement {
        position: FeedPosition { epoch: row.get(0)?, seq: row.get(1)? },
        id: row.get(2)?,
        exchange: named(row, 3, "exchange", Exchange::parse)?,
        title: row.get(4)?,
        classification: read_classification(row)?,
        action: named(row, 11, "action", |name| ACTIONS.into_iter().find(|a| action_name(*a) == name))?,
        late: row.get(12)?,
        url: row.get(13)?,
        notice_id: row.get(14)?,
        source: row.get(15)?,
        published: wall(16)?,
        received: wall(17)?,
        detected: wall(18)?,
        classified: wall(19)?,
        effective_at: maybe_wall(20)?,
    };
    Ok(StoredAnnouncement { announcement, dispatched: maybe_wall(21)? })
}

fn read_classification(row: &Row<'_>) -> rusqlite::Result<Classification> {
    let tickers = |column: usize| {
        let text: String = row.get(column)?;
        let all = text.split(' ').filter(|word| !word.is_empty()).map(Ticker::new);
        all.collect::<Option<Vec<_>>>().ok_or_else(|| unreadable(column, "ticker", &text))
    };
    let mut markets = Vec::new();
    for pair in tickers(7)?.chunks(2) {
        let [base, quote] = pair else { return Err(unreadable(7, "market", "an odd word")) };
        markets.push(Market { base: base.clone(), quote: quote.clone() });
    }
    Ok(Classification {
        listing_type: named(row, 5, "listing type", ListingType::parse)?,
        tickers: tickers(6)?,
        markets,
        rule: intern(&row.get::<_, String>(8)?),
        confidence: row.get(9)?,
        lang: named(row, 10, "language", Lang::parse)?,
    })
}

const ACTIONS: [Action; 3] = [Action::Created, Action::Updated, Action::UpdatedWithNews];

/// Finer than the feed's spelling, which calls both kinds of edit `updated`.
const fn action_name(action: Action) -> &'static str {
    match action {
        Action::Created => "created",
        Action::Updated => "updated",
        Action::UpdatedWithNews => "updated_with_news",
    }
}

fn named<T>(
    row: &Row<'_>,
    column: usize,
    what: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    parse(&text).ok_or_else(|| unreadable(column, what, &text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Row as Change;
    use super::super::testing::{announcement, any_announcement, store};
    use super::*;

    fn commit(store: &mut Store, list: &[Announcement]) {
        let changes: Vec<_> =
            list.iter().map(|a| Change::Announcement { announcement: a, dispatched: None }).collect();
        store.commit(&changes).unwrap();
    }

    fn positions(list: &[StoredAnnouncement]) -> Vec<(u64, u64)> {
        list.iter().map(|s| (s.announcement.position.epoch, s.announcement.position.seq)).collect()
    }

    #[test]
    fn order_is_epoch_then_seq_and_after_is_exclusive() {
        let (_dir, mut store) = store();
        let list: Vec<_> =
            [(2, 1), (1, 2), (1, 10), (1, 1), (2, 2)].map(|(e, s)| announcement(e, s)).to_vec();
        commit(&mut store, &list);
        let all = store.load_history(10).unwrap();
        assert_eq!(positions(&all), [(1, 1), (1, 2), (1, 10), (2, 1), (2, 2)]);
        assert_eq!(positions(&store.load_history(2).unwrap()), [(2, 1), (2, 2)]);
        let after = |epoch, seq, limit| {
            let after = Some(FeedPosition { epoch, seq });
            positions(
                &store.query_history(&HistoryQuery { after, limit, ..HistoryQuery::default() }).unwrap(),
            )
        };
        assert_eq!(after(1, 2, 2), [(1, 10), (2, 1)]);
        assert_eq!(after(1, u64::MAX, 10), [(2, 1), (2, 2)]);
        let next =
            |query: HistoryQuery| store.history_page(&query).unwrap().next.map(|at| (at.epoch, at.seq));
        let from = HistoryQuery { after: Some(FeedPosition { epoch: 1, seq: 1 }), ..HistoryQuery::default() };
        assert_eq!(next(HistoryQuery { limit: 2, ..from.clone() }), Some((1, 10)), "a full page");
        let none = HistoryQuery { exchanges: ExchangeSet::EMPTY, ..from };
        assert_eq!(next(none), Some((2, 2)), "nothing matched up to the newest");
        assert_eq!(next(HistoryQuery { limit: 1, ..HistoryQuery::default() }), Some((2, 2)));
        assert_eq!(after(2, 2, 10), []);
    }

    #[test]
    fn filters() {
        let (_dir, mut store) = store();
        let mut list: Vec<_> = (1..=4).map(|seq| announcement(1, seq)).collect();
        list[1].exchange = Exchange::CryptoCom;
        list[2].classification.listing_type = ListingType::NotListing;
        commit(&mut store, &list);
        let ask = |query: HistoryQuery| positions(&store.query_history(&query).unwrap());
        let base = HistoryQuery::default;
        let only = ExchangeSet::EMPTY.with(Exchange::CryptoCom);
        assert_eq!(ask(HistoryQuery { exchanges: only, ..base() }), [(1, 2)]);
        assert_eq!(ask(HistoryQuery { exchanges: ExchangeSet::EMPTY, ..base() }), []);
        let types = ListingTypeSet::EMPTY.with(ListingType::NotListing);
        assert_eq!(ask(HistoryQuery { types, ..base() }), [(1, 3)]);
        let detected_until = Some(list[1].detected);
        assert_eq!(ask(HistoryQuery { detected_until, ..base() }), [(1, 1), (1, 2)]);
        assert_eq!(ask(HistoryQuery { limit: 0, ..base() }), []);
    }

    #[test]
    fn the_same_position_is_kept_once_and_dispatch_comes_later() {
        let (_dir, mut store) = store();
        commit(&mut store, &[announcement(1, 1), announcement(1, 1)]);
        let at = WallUs(1_760_000_000_000_123);
        let position = FeedPosition { epoch: 1, seq: 1 };
        store.commit(&[Change::Dispatched { position, at }]).unwrap();
        commit(&mut store, &[announcement(1, 1)]);
        let all = store.load_history(10).unwrap();
        assert_eq!(all, [StoredAnnouncement { announcement: announcement(1, 1), dispatched: Some(at) }]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn every_field_round_trips(mut a in any_announcement()) {
            // SQLite's integers are signed; positions on disk come from counters that start at 1.
            a.position.epoch >>= 1;
            a.position.seq >>= 1;
            let (_dir, mut store) = store();
            commit(&mut store, std::slice::from_ref(&a));
            prop_assert_eq!(&store.load_history(1).unwrap()[0].announcement, &a);
        }
    }
}
