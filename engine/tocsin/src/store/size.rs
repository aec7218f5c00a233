//! How large the database has become and how much room its file system has left.
//!
//! Contract: looks at names alone, opens nothing. Blocks as the file system does. Fails with its error.

use std::io;
use std::path::Path;

use super::FILE_NAME;

/// In bytes, of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreSize {
    /// The database file.
    pub database: u64,
    /// Its write-ahead log; 0 where there is none.
    pub log: u64,
    /// What an unprivileged process may still write to the file system.
    pub free: u64,
    /// The whole file system.
    pub total: u64,
}

impl StoreSize {
    /// Of the store in `data_dir`.
    ///
    /// # Errors
    /// The database is not there, or the file system does not answer.
    pub fn read(data_dir: &Path) -> io::Result<StoreSize> {
        let file = data_dir.join(FILE_NAME);
        let log = data_dir.join(format!("{FILE_NAME}-wal"));
        let room = rustix::fs::statvfs(data_dir)?;
        Ok(StoreSize {
            database: file.metadata()?.len(),
            log: log.metadata().map_or(0, |log| log.len()),
            free: room.f_bavail.saturating_mul(room.f_frsize),
            total: room.f_blocks.saturating_mul(room.f_frsize),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::store;

    #[test]
    fn an_open_store_has_a_size_and_none_is_an_error() {
        let (_dir, store) = store();
        let size = StoreSize::read(store.path.parent().unwrap()).unwrap();
        assert!(size.database >= 4_096 && size.log > 0, "{size:?}");
        assert!(0 < size.free && size.free <= size.total, "{size:?}");
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(StoreSize::read(empty.path()).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
