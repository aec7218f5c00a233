//! The store: API keys, announcement history, seen sets, the epoch, what market watchers know and what
//! webhooks need, in SQLite; and the shared-memory journals in front of it.
//!
//! Contract: a [`Store`] owns the data directory (exclusive lock file) and the one connection that
//! writes (WAL, `synchronous=FULL`): what a method has returned is on disk. [`Store::open`] first
//! brings in what an earlier life left in shared memory. A [`Reader`] reads beside it.
//!
//! Owner threads: the journal thread (or a command, while no service runs) has the `Store`; the
//! control thread has a `Reader`. Everything here allocates and blocks on the disk; nothing here
//! is called by a hot thread but the writers in [`shm`]. Failures are [`StoreError`]s that name the file
//! and the remedy.

pub mod crc;
mod cursors;
mod error;
mod history;
mod intern;
mod keys;
mod lock;
pub mod market;
mod place;
pub mod record;
pub mod record_outcome;
mod schema;
mod seen;
pub mod shm;
mod size;
#[cfg(test)]
pub(crate) mod testing;
pub mod webhook;

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tocsin_core::detect::SeenRecord;
use tocsin_core::feed::key::{KeyId, KeyRecord};
use tocsin_core::model::{Announcement, FeedPosition};
use tocsin_core::time::WallUs;

pub use error::StoreError;
pub use history::{HistoryPage, HistoryQuery, StoredAnnouncement};
pub(crate) use intern::intern as intern_name;
pub use keys::{KeySecret, NewKey};

use lock::StoreLock;
use place::Place;
pub use size::StoreSize;
use webhook::accounts::AccountId;
use webhook::deliveries::WebhookRow;
use webhook::{Batch, HealthRow, Webhook};

/// Name of the database below `data_dir`.
const FILE_NAME: &str = "tocsin.db";

/// One change to be committed with others.
#[derive(Clone, Copy, Debug)]
pub enum Row<'a> {
    /// An announcement for history, which is then also seen. One that is there stays as it is.
    Announcement {
        /// As it was announced.
        announcement: &'a Announcement,
        /// When its fan-out started, if that is known yet.
        dispatched: Option<WallUs>,
    },
    /// When the fan-out of an announcement in history started.
    Dispatched {
        /// Which one.
        position: FeedPosition,
        /// When.
        at: WallUs,
    },
    /// An item became known without being announced.
    Seen(&'a SeenRecord),
    /// An item became known that another source of the exchange had announced.
    Confirmed {
        /// The item.
        record: &'a SeenRecord,
        /// Under which identifier it was announced.
        notice: &'a str,
    },
    /// The first complete answer of one list was taken as known.
    Baselined {
        /// Name of the source.
        source: &'a str,
        /// Name of the list within it.
        list: &'a str,
        /// When.
        at: WallUs,
    },
    /// What a market watcher told or knows.
    Market(market::MarketRow<'a>),
    /// An event, or what became of deliveries.
    Webhook(WebhookRow<'a>),
    /// An endpoint's health, and the mail due for it.
    Health(HealthRow<'a>),
}

/// The data directory, owned, and the one connection that writes.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    path: PathBuf,
    place: Place,
    webhook: Webhook,
    _lock: StoreLock,
}

impl Store {
    /// Takes the data directory (made if missing, mode 0700), opens the database (made or migrated)
    /// and commits what shared memory still holds.
    ///
    /// # Errors
    /// See [`StoreError`]: locked, no permission, not ours, newer, damaged, full, read-only.
    pub fn open(data_dir: &Path) -> Result<Store, StoreError> {
        Store::open_on(Path::new("/dev/shm"), data_dir)
    }

    /// As [`Store::open`], with the shared-memory journals on another directory than `/dev/shm`.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_on(shm_dir: &Path, data_dir: &Path) -> Result<Store, StoreError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(data_dir)
            .map_err(|error| StoreError::io("creating", data_dir, error))?;
        let lock = StoreLock::take(data_dir)?;
        let path = data_dir.join(FILE_NAME);
        let connection = schema::open_writer(data_dir, &path)?;
        let place =
            Place::on(shm_dir, data_dir).map_err(|error| StoreError::io("resolving", data_dir, error))?;
        let live = webhook::endpoints::numbers(&connection).map_err(|e| StoreError::sqlite(&path, e))?;
        let webhook = Webhook { live, ..Webhook::default() };
        let mut store = Store { connection, path, place, webhook, _lock: lock };
        store.prune_seen()?;
        store.recover()?;
        Ok(store)
    }

    /// Commits what shared memory holds, then removes the files.
    fn recover(&mut self) -> Result<(), StoreError> {
        for recovered in self.place.recover() {
            let rows: Vec<Row<'_>> = recovered
                .announcements
                .iter()
                .map(|announcement| Row::Announcement { announcement, dispatched: None })
                .collect();
            self.commit(&rows)?;
            if !rows.is_empty() || recovered.damage.is_some() {
                tracing::info!(
                    path = %recovered.path.display(), announcements = rows.len(), damage = recovered.damage,
                    "took over the shared-memory journal of an earlier life"
                );
            }
            recovered.settle().map_err(|error| StoreError::io("removing", &recovered.path, error))?;
        }
        Ok(())
    }

    /// Starts a new epoch: one more than any before. Durable when it returns.
    ///
    /// # Errors
    /// The disk's.
    pub fn next_epoch(&mut self) -> Result<u64, StoreError> {
        self.ask(|c| {
            c.query_row(
                "UPDATE meta SET value = 1 + max(value, (SELECT coalesce(max(epoch), 0) FROM announcements))
                 WHERE name = 'epoch' RETURNING value",
                [],
                |row| row.get(0),
            )
        })
    }

    /// Random number of this installation, 32 hex digits; the same for ever.
    ///
    /// # Errors
    /// The disk's.
    pub fn install_id(&self) -> Result<String, StoreError> {
        self.ask(|c| c.query_row("SELECT lower(hex(id)) FROM install", [], |row| row.get(0)))
    }

    /// Commits all rows in one transaction: all or none. On disk when it returns.
    ///
    /// # Errors
    /// The disk's; the same rows may be tried again.
    pub fn commit(&mut self, rows: &[Row<'_>]) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let apply = |connection: &mut Connection, webhook: &mut Webhook| {
            let transaction = connection.transaction()?;
            let mut batch = Batch::new(&transaction, webhook);
            for row in rows {
                match row {
                    Row::Webhook(row) => batch.apply(row)?,
                    Row::Health(row) => batch.health(row)?,
                    other => apply_row(&transaction, other)?,
                }
            }
            batch.finish()?;
            transaction.commit()
        };
        apply(&mut self.connection, &mut self.webhook).map_err(|error| StoreError::sqlite(&self.path, error))
    }

    /// Forgets the oldest seen items beyond [`tocsin_core::limits::SEEN_STORED`] of each source.
    ///
    /// # Errors
    /// The disk's.
    pub fn prune_seen(&mut self) -> Result<usize, StoreError> {
        self.ask(seen::prune)
    }

    /// Where the shared-memory journals of this data directory are made.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// A second connection that only reads.
    ///
    /// # Errors
    /// The disk's.
    pub fn reader(&self) -> Result<Reader, StoreError> {
        Ok(Reader { connection: schema::open_reader(&self.path)?, path: self.path.clone() })
    }

    /// Lets the database grow by `pages` and no further: a full disk for tests.
    #[cfg(test)]
    pub(crate) fn set_free_pages(&self, pages: i64) {
        let used: i64 = self.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        self.connection.pragma_update_and_check(None, "max_page_count", used + pages, |_| Ok(())).unwrap();
    }

    fn ask<T>(&self, question: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        question(&self.connection).map_err(|error| StoreError::sqlite(&self.path, error))
    }
}

fn apply_row(connection: &Connection, row: &Row<'_>) -> rusqlite::Result<()> {
    match *row {
        Row::Announcement { announcement: a, dispatched } => {
            // A version found late, in shared memory only, does not undo a newer one of the same item.
            if history::insert(connection, a, dispatched)? && !history::has_later(connection, a)? {
                seen::upsert(connection, &seen::Item::announced(a))?;
            }
            Ok(())
        }
        Row::Dispatched { position, at } => history::set_dispatched(connection, position, at),
        Row::Seen(record) => seen::upsert(connection, &seen::Item::of(record, None)),
        Row::Confirmed { record, notice } => seen::upsert(connection, &seen::Item::of(record, Some(notice))),
        Row::Baselined { source, list, at } => seen::set_baselined(connection, source, list, at),
        Row::Market(row) => market::apply(connection, row),
        // A batch applies these.
        Row::Webhook(_) | Row::Health(_) => Ok(()),
    }
}

/// Sizes in bytes; `None` for what cannot be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreSizes {
    /// The database.
    pub database: Option<u64>,
    /// Its write-ahead log.
    pub log: Option<u64>,
    /// Free on its file system.
    pub free: Option<u64>,
}

/// Reads beside the writer; sees what is committed.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
    path: PathBuf,
}

impl Reader {
    /// Reads the store of a data directory that somebody else may own: neither locks nor makes anything.
    ///
    /// # Errors
    /// There is no store, or the disk's.
    pub fn open(data_dir: &Path) -> Result<Reader, StoreError> {
        let path = data_dir.join(FILE_NAME);
        Ok(Reader { connection: schema::open_reader(&path)?, path })
    }

    /// Rows of history and where to go on.
    ///
    /// # Errors
    /// The disk's.
    pub fn history_page(&self, query: &HistoryQuery) -> Result<HistoryPage, StoreError> {
        self.ask(|c| history::page(c, query))
    }

    /// Every key, by number.
    ///
    /// # Errors
    /// The disk's.
    pub fn keys(&self) -> Result<Vec<KeyRecord>, StoreError> {
        self.ask(keys::all)
    }

    /// A page of keys, by number; an account's where one is named.
    ///
    /// # Errors
    /// The disk's.
    pub fn keys_page(&self, account: Option<AccountId>, page: Page) -> Result<Vec<KeyRecord>, StoreError> {
        self.ask(|c| keys::page(c, account, page))
    }

    /// How large the store's files are, and what room is left beside them.
    #[must_use]
    pub fn sizes(&self) -> StoreSizes {
        let size = |path: &Path| path.metadata().ok().map(|metadata| metadata.len());
        let mut log = self.path.clone().into_os_string();
        log.push("-wal");
        let free = rustix::fs::statvfs(&self.path).ok();
        StoreSizes {
            database: size(&self.path),
            log: size(Path::new(&log)),
            free: free.map(|system| system.f_bavail.saturating_mul(system.f_frsize)),
        }
    }

    /// One key.
    ///
    /// # Errors
    /// No such key, or the disk's.
    pub fn key(&self, id: KeyId) -> Result<KeyRecord, StoreError> {
        self.ask(|c| keys::one(c, id))?.ok_or(StoreError::NoSuchKey(id))
    }

    /// The key with that hash.
    ///
    /// # Errors
    /// The disk's.
    pub fn key_by_hash(&self, hash: &[u8; 32]) -> Result<Option<KeyRecord>, StoreError> {
        self.ask(|c| keys::by_hash(c, hash))
    }

    fn ask<T>(&self, question: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        question(&self.connection).map_err(|error| StoreError::sqlite(&self.path, error))
    }
}

/// A part of a list that is ordered by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// It begins behind this number.
    pub after: i64,
    /// Rows at most.
    pub limit: usize,
}

/// A column holds text this version does not know.
fn unreadable(column: usize, what: &'static str, text: &str) -> rusqlite::Error {
    let cause = format!("unknown {what} {text:?}").into();
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, cause)
}

#[cfg(test)]
mod tests;
