//! What an engine that is dead had recorded: a copy of its database, and its shared memory as it lies.
//! Looking changes nothing: the next life finds all of it.

use std::path::Path;

use tempfile::TempDir;
use tocsin::store::shm::Place;
use tocsin::store::webhook::deliveries::{DeliveryState, StoredEvent};
use tocsin::store::{HistoryQuery, Reader, Store};
use tocsin_core::limits;
use tocsin_core::model::FeedPosition;
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::outgoing::RecordedOutcome;

/// See the module head.
pub(crate) struct Peek {
    /// Of the copy.
    reader: Reader,
    /// In shared memory, not known to be on disk.
    pub(crate) outcomes: Vec<RecordedOutcome>,
    /// Announcements in shared memory, not known to be on disk.
    pub(crate) announcements: usize,
    /// Rows of deliveries that wait for a retry or were asked for.
    pub(crate) rows: u64,
    /// Mails in the outbox.
    pub(crate) mails: u64,
    _store: Store,
    _dir: TempDir,
}

impl Peek {
    /// Looks at a data directory whose owner is dead. `PRAGMA integrity_check` must be content.
    pub(crate) fn into(data_dir: &Path) -> Peek {
        let place = Place::new(data_dir).unwrap();
        let outcomes = place.recover_outcomes();
        assert!(outcomes.iter().all(|left| left.damage.is_none()), "{outcomes:?}");
        let announcements = place.recover().iter().map(|left| left.announcements.len()).sum();
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join("data");
        std::fs::create_dir(&copy).unwrap();
        for name in ["tocsin.db", "tocsin.db-wal"] {
            let from = data_dir.join(name);
            if from.exists() {
                std::fs::copy(from, copy.join(name)).unwrap();
            }
        }
        let (rows, mails) = {
            let database = rusqlite::Connection::open(copy.join("tocsin.db")).unwrap();
            let sound: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
            assert_eq!(sound, "ok");
            let count = |table: &str| {
                let sql = format!("SELECT count(*) FROM {table}");
                // There is no table in the first moments of a data directory.
                database.query_row(&sql, [], |row| row.get(0)).unwrap_or(0)
            };
            (count("deliveries"), count("outbox"))
        };
        let store = Store::open_on(dir.path(), &copy).unwrap();
        let reader = store.reader().unwrap();
        let outcomes = outcomes.into_iter().flat_map(|left| left.outcomes).collect();
        Peek { reader, outcomes, announcements, rows, mails, _store: store, _dir: dir }
    }

    /// Events behind a number, in order.
    pub(crate) fn events(&self, after: u64) -> Vec<StoredEvent> {
        let mut all: Vec<StoredEvent> = Vec::new();
        loop {
            let after = all.last().map_or(after, |event| event.number);
            let page = self.reader.events(Some(after), None, limits::WEBHOOK_EVENTS_PER_REQUEST).unwrap();
            if page.is_empty() {
                return all;
            }
            all.extend(page);
        }
    }

    pub(crate) fn delivery(&self, endpoint: u64, event: u64) -> Option<DeliveryState> {
        self.reader.delivery(EndpointId(endpoint), event).unwrap()
    }

    /// Whether history has an announcement at this position.
    pub(crate) fn has_announcement(&self, position: FeedPosition) -> bool {
        let FeedPosition { epoch, seq } = position;
        let after = Some(FeedPosition { epoch, seq: seq - 1 });
        let page =
            self.reader.history_page(&HistoryQuery { after, limit: 1, ..HistoryQuery::default() }).unwrap();
        page.rows.first().is_some_and(|row| row.announcement.position == position)
    }
}
