//! Opening the database: settings, ownership, migrations, the check for damage.
//!
//! `application_id` marks the file as ours, `user_version` counts applied migrations. A migration is
//! never edited once released; a new one is added at the end.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::error::StoreError;
use super::lock::give_to_owner_of;

/// `TOCS`, big-endian: `file(1)` and other programs can tell whose file it is.
const APPLICATION_ID: i32 = 0x544F_4353;

/// Waits for another connection of this process (readers checkpointing), never for another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// SQLite's smallest page.
const SMALLEST_PAGE_BYTES: u64 = 512;

/// In order; the n-th brings `user_version` to n.
const MIGRATIONS: [&str; 5] = [
    include_str!("schema/001_initial.sql"),
    include_str!("schema/002_webhooks.sql"),
    include_str!("schema/003_key_owners.sql"),
    include_str!("schema/004_confirmations.sql"),
    include_str!("schema/005_markets.sql"),
];

/// The version this program writes.
#[allow(clippy::cast_possible_wrap, reason = "a handful of migrations")]
pub(crate) const SCHEMA_VERSION: i64 = MIGRATIONS.len() as i64;

/// Opens the writer's connection, makes or migrates the schema and refuses what is damaged.
pub(crate) fn open_writer(data_dir: &Path, path: &Path) -> Result<Connection, StoreError> {
    // SQLite would make it readable to all; its -wal and -shm files take the mode from it.
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => give_to_owner_of(data_dir, path),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(StoreError::io("creating", path, error)),
    }
    refuse_remains(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(|e| StoreError::sqlite(path, e))?;
    refuse_foreign(&connection, path)?;
    let prepared = configure(&connection).and_then(|()| {
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "journal_size_limit", 16 * 1_024 * 1_024)
    });
    prepared.map_err(|e| StoreError::sqlite(path, e))?;
    check_for_damage(&connection, path)?;
    migrate(&mut connection).map_err(|e| StoreError::sqlite(path, e))?;
    Ok(connection)
}

/// Opens a connection that can only read, beside the writer.
pub(crate) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(path, flags).and_then(|connection| {
        configure(&connection)?;
        Ok(connection)
    });
    opened.map_err(|e| StoreError::sqlite(path, e))
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.pragma_update(None, "trusted_schema", "OFF")?;
    connection.pragma_update(None, "cell_size_check", "ON")?;
    connection.pragma_update(None, "temp_store", "MEMORY")
}

/// SQLite takes a file shorter than its smallest page for a new database and would write over it:
/// a cut one must be refused first.
fn refuse_remains(path: &Path) -> Result<(), StoreError> {
    let metadata = path.metadata().map_err(|error| StoreError::io("reading", path, error))?;
    let path = path.to_owned();
    match metadata.len() {
        _ if !metadata.is_file() => Err(StoreError::NotADatabase { path }),
        1..SMALLEST_PAGE_BYTES => {
            Err(StoreError::Damaged { path, detail: "shorter than one page".to_owned() })
        }
        _ => Ok(()),
    }
}

fn refuse_foreign(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let read = || -> rusqlite::Result<(i32, i64, i64)> {
        let number = |name| connection.pragma_query_value(None, name, |row| row.get(0));
        let tables = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        let application_id = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
        Ok((application_id, number("user_version")?, tables))
    };
    let (application_id, version, tables) = read().map_err(|e| StoreError::sqlite(path, e))?;
    if application_id != APPLICATION_ID && (application_id, version, tables) != (0, 0, 0) {
        return Err(StoreError::Foreign { path: path.to_owned(), application_id });
    }
    if version > SCHEMA_VERSION {
        let path = path.to_owned();
        return Err(StoreError::NewerSchema { path, found: version, supported: SCHEMA_VERSION });
    }
    Ok(())
}

fn check_for_damage(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let verdict = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    match verdict {
        Ok(verdict) if verdict == "ok" => Ok(()),
        Ok(detail) => Err(StoreError::Damaged { path: path.to_owned(), detail }),
        Err(error) => Err(StoreError::sqlite(path, error)),
    }
}

fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    for (number, sql) in (1_i64..).zip(MIGRATIONS) {
        if number > version {
            transaction.execute_batch(sql)?;
            transaction.pragma_update(None, "user_version", number)?;
        }
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.commit()
}
