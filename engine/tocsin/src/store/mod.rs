//! The store: keys, announcement history, seen sets, the epoch, and the shared-memory journal.

pub mod crc;
mod intern;
mod place;
pub mod record;
pub mod shm;
#[cfg(test)]
pub(crate) mod testing;
