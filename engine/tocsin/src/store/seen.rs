//! Seen sets: what each source knows already, and which of its lists have had their first answer.
//!
//! Every announcement committed is also a seen item, in the same transaction, so that a restart can
//! neither forget nor repeat one.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, params};
use tocsin_core::detect::SeenRecord;
use tocsin_core::limits;
use tocsin_core::model::Announcement;
use tocsin_core::time::WallUs;

use super::Store;
use super::error::StoreError;

impl Store {
    /// What `source` has seen, announced or not, oldest arrival first; the newest
    /// [`limits::SEEN_ITEMS`].
    ///
    /// # Errors
    /// The disk's.
    pub fn load_seen(&self, source: &'static str) -> Result<Vec<SeenRecord>, StoreError> {
        self.ask(|c| {
            let sql = "SELECT notice_id, title, fingerprint, published_us FROM seen
                       WHERE source = ?1 ORDER BY rowid DESC LIMIT ?2";
            let mut statement = c.prepare_cached(sql)?;
            let rows = statement.query_map(params![source, limits::SEEN_ITEMS], |row| {
                Ok(SeenRecord {
                    source,
                    notice_id: row.get::<_, String>(0)?.into_boxed_str(),
                    title: row.get::<_, String>(1)?.into_boxed_str(),
                    fingerprint: row.get::<_, i64>(2)?.cast_unsigned(),
                    published: WallUs(row.get(3)?),
                })
            })?;
            let mut seen = rows.collect::<rusqlite::Result<Vec<_>>>()?;
            seen.reverse();
            Ok(seen)
        })
    }

    /// Which items of `source` belong to announcements made under the identifier of another source's item:
    /// item and identifier, of the items that [`Store::load_seen`] gives.
    ///
    /// # Errors
    /// The disk's.
    pub fn load_confirmed(&self, source: &str) -> Result<BTreeMap<String, String>, StoreError> {
        self.ask(|c| {
            let sql = "SELECT notice_id, notice FROM
                       (SELECT notice_id, notice FROM seen WHERE source = ?1 ORDER BY rowid DESC LIMIT ?2)
                       WHERE notice IS NOT NULL";
            let mut statement = c.prepare_cached(sql)?;
            let rows = statement
                .query_map(params![source, limits::SEEN_ITEMS], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect()
        })
    }

    /// When each list of a source was first started: the instant given at the first call ever, the
    /// same at every later one. Durable when it returns, for all lists or for none, so it is called
    /// before the source's first request.
    ///
    /// # Errors
    /// The disk's.
    pub fn first_starts<'l>(
        &mut self,
        source: &str,
        lists: impl IntoIterator<Item = &'l str>,
        now: WallUs,
    ) -> Result<Vec<WallUs>, StoreError> {
        self.ask(|c| {
            let transaction = c.unchecked_transaction()?;
            let starts = lists.into_iter().map(|list| {
                let sql = "INSERT INTO source_lists (source, list, first_start_us) VALUES (?1, ?2, ?3)
                           ON CONFLICT DO UPDATE SET first_start_us = first_start_us RETURNING first_start_us";
                let mut statement = transaction.prepare_cached(sql)?;
                statement.query_row(params![source, list, now.0], |row| row.get(0)).map(WallUs)
            });
            let starts = starts.collect::<rusqlite::Result<Vec<_>>>()?;
            transaction.commit()?;
            Ok(starts)
        })
    }

    /// Whether the first complete answer of a list has been taken as known, durably.
    ///
    /// # Errors
    /// The disk's.
    pub fn is_baselined(&self, source: &str, list: &str) -> Result<bool, StoreError> {
        self.ask(|c| {
            let sql = "SELECT baselined_us IS NOT NULL FROM source_lists WHERE source = ?1 AND list = ?2";
            Ok(c.query_row(sql, params![source, list], |row| row.get(0)).optional()?.unwrap_or(false))
        })
    }
}

/// An item on its way to the table.
pub(super) struct Item<'a> {
    pub(super) source: &'a str,
    pub(super) notice_id: &'a str,
    pub(super) title: &'a str,
    pub(super) fingerprint: u64,
    pub(super) published: WallUs,
    /// Under which identifier it was announced, if not its own.
    pub(super) notice: Option<&'a str>,
}

impl<'a> Item<'a> {
    pub(super) fn of(record: &'a SeenRecord, notice: Option<&'a str>) -> Item<'a> {
        let SeenRecord { source, notice_id, title, fingerprint, published } = record;
        Item { source, notice_id, title, fingerprint: *fingerprint, published: *published, notice }
    }

    pub(super) fn announced(a: &'a Announcement) -> Item<'a> {
        let id = a.id.split_once(':').map(|(_, id)| id);
        Item {
            source: &a.source,
            notice_id: &a.notice_id,
            title: &a.title,
            fingerprint: tocsin_core::detect::fingerprint(&a.title, a.published),
            published: a.published,
            notice: id.filter(|id| *id != a.notice_id),
        }
    }
}

/// Remembers an item, or its new title and fingerprint. It becomes the newest arrival.
pub(super) fn upsert(connection: &Connection, item: &Item<'_>) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO seen (source, notice_id, title, fingerprint, published_us, notice)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let Item { source, notice_id, title, fingerprint, published, notice } = item;
    let values = params![source, notice_id, title, fingerprint.cast_signed(), published.0, notice];
    connection.prepare_cached(sql)?.execute(values).map(drop)
}

/// Records the first complete answer of a list.
pub(super) fn set_baselined(
    connection: &Connection,
    source: &str,
    list: &str,
    at: WallUs,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO source_lists (source, list, first_start_us, baselined_us) VALUES (?1, ?2, ?3, ?3)
               ON CONFLICT (source, list) DO UPDATE SET baselined_us = coalesce(baselined_us, excluded.baselined_us)";
    connection.prepare_cached(sql)?.execute(params![source, list, at.0]).map(drop)
}

/// Forgets the oldest arrivals of each source beyond [`limits::SEEN_STORED`].
pub(super) fn prune(connection: &Connection) -> rusqlite::Result<usize> {
    connection.execute(
        "DELETE FROM seen WHERE rowid IN (
            SELECT id FROM (SELECT rowid AS id, row_number() OVER (PARTITION BY source ORDER BY rowid DESC) AS age FROM seen)
            WHERE age > ?1)",
        [limits::SEEN_STORED],
    )
}

#[cfg(test)]
mod tests {
    use super::super::Row;
    use super::super::testing::{NOW, announcement, store};
    use super::*;

    fn seen(source: &'static str, id: usize, fingerprint: u64) -> SeenRecord {
        let title = format!("Title {fingerprint}").into();
        SeenRecord { source, notice_id: id.to_string().into(), title, fingerprint, published: NOW }
    }

    #[test]
    fn the_latest_fingerprint_counts_and_sources_are_apart() {
        let (_dir, mut store) = store();
        let rows = [seen("a.x", 1, 1), seen("a.x", 2, u64::MAX), seen("b.x", 1, 7), seen("a.x", 1, 9)];
        store.commit(&rows.each_ref().map(Row::Seen)).unwrap();
        assert_eq!(store.load_seen("a.x").unwrap(), [seen("a.x", 2, u64::MAX), seen("a.x", 1, 9)]);
        assert_eq!(store.load_seen("b.x").unwrap(), [seen("b.x", 1, 7)]);
    }

    #[test]
    fn an_announcement_is_seen_with_its_commit() {
        let (_dir, mut store) = store();
        let a = announcement(1, 5);
        store.commit(&[Row::Announcement { announcement: &a, dispatched: None }]).unwrap();
        let found = store.load_seen("binance.cms").unwrap();
        let fingerprint = tocsin_core::detect::fingerprint(&a.title, a.published);
        let expected = SeenRecord {
            source: "binance.cms",
            notice_id: "5".into(),
            title: a.title.into(),
            fingerprint,
            published: a.published,
        };
        assert_eq!(found, [expected]);
    }

    #[test]
    fn a_confirmation_keeps_under_which_identifier_the_notice_was_announced() {
        let (_dir, mut store) = store();
        let (a, b) = (seen("b.x", 1, 1), seen("b.x", 2, 2));
        store.commit(&[Row::Confirmed { record: &a, notice: "77" }, Row::Seen(&b)]).unwrap();
        assert_eq!(store.load_seen("b.x").unwrap(), [a.clone(), b]);
        let links = store.load_confirmed("b.x").unwrap();
        assert_eq!(links.into_iter().collect::<Vec<_>>(), [("1".to_owned(), "77".to_owned())]);
        // An edit that the further source brought first.
        let mut edit = announcement(1, 5);
        edit.id = "binance:77".into();
        store.commit(&[Row::Announcement { announcement: &edit, dispatched: None }]).unwrap();
        let links = store.load_confirmed("binance.cms").unwrap();
        assert_eq!(links.into_iter().collect::<Vec<_>>(), [("5".to_owned(), "77".to_owned())]);
        // Announced under its own identifier after all.
        store.commit(&[Row::Seen(&a)]).unwrap();
        assert!(store.load_confirmed("b.x").unwrap().is_empty());
    }

    #[test]
    fn an_earlier_version_found_late_does_not_become_the_latest() {
        let (_dir, mut store) = store();
        let earlier = announcement(1, 5);
        let mut later = announcement(1, 5);
        later.title = "Edited since".into();
        later.position.seq = 6;
        for a in [&later, &earlier] {
            store.commit(&[Row::Announcement { announcement: a, dispatched: None }]).unwrap();
        }
        assert_eq!(store.load_history(10).unwrap().len(), 2);
        assert_eq!(&*store.load_seen("binance.cms").unwrap().first().unwrap().title, "Edited since");
    }

    #[test]
    fn first_start_is_the_first_and_baseline_is_remembered() {
        let (_dir, mut store) = store();
        let later = WallUs(NOW.0 + 1);
        assert_eq!(store.first_starts("a.x", ["48"], NOW).unwrap(), [NOW]);
        assert_eq!(store.first_starts("a.x", ["48"], later).unwrap(), [NOW]);
        assert_eq!(
            store.first_starts("a.x", ["48", "49"], later).unwrap(),
            [NOW, later],
            "a list added later"
        );
        assert!(!store.is_baselined("a.x", "48").unwrap());
        assert!(!store.is_baselined("a.x", "161").unwrap());
        store.commit(&[Row::Baselined { source: "a.x", list: "48", at: later }]).unwrap();
        assert!(store.is_baselined("a.x", "48").unwrap());
        assert_eq!(store.first_starts("a.x", ["48"], later).unwrap(), [NOW]);
    }

    #[test]
    fn the_oldest_arrivals_of_a_long_list_are_forgotten() {
        let (_dir, mut store) = store();
        let rows: Vec<_> = (0..limits::SEEN_STORED + 10).map(|i| seen("a.x", i, 0)).collect();
        store.commit(&rows.iter().map(Row::Seen).collect::<Vec<_>>()).unwrap();
        store.commit(&[Row::Seen(&seen("b.x", 1, 0))]).unwrap();
        assert_eq!(store.prune_seen().unwrap(), 10);
        assert_eq!(store.prune_seen().unwrap(), 0);
        let kept = store.load_seen("a.x").unwrap();
        assert_eq!(kept.len(), limits::SEEN_ITEMS);
        assert_eq!(kept.last(), rows.last());
        assert_eq!(store.load_seen("b.x").unwrap().len(), 1);
    }
}
