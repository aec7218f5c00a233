//! How two threads share a shared-memory journal: two words, and which bytes each may touch.
//!
//! Contract: the one that appends owns the bytes from `end` on as far as the other has released;
//! the one that commits may read from `committed` to `end`. A position is published after its bytes are
//! there and released after they have been read, so no byte is ever written while it is read. Positions only
//! grow. No system call, no allocation, no waiting; nothing fails. A model checker tries every order in
//! which the two can meet (the tests below); it brings words of its own, hence [`Word`].

use core::sync::atomic::{AtomicU64, Ordering};

/// A number that two threads share.
pub(super) trait Word {
    /// Reads it, and sees what its writer did before.
    fn acquire(&self) -> u64;
    /// Writes it, after all that its writer did before.
    fn publish(&self, value: u64);
    /// Raises it to `value`, with both.
    fn raise(&self, value: u64);
}

impl Word for AtomicU64 {
    fn acquire(&self) -> u64 {
        self.load(Ordering::Acquire)
    }

    fn publish(&self, value: u64) {
        self.store(value, Ordering::Release);
    }

    fn raise(&self, value: u64) {
        self.fetch_max(value, Ordering::AcqRel);
    }
}

/// The two words of a journal of `capacity` bytes.
#[derive(Clone, Copy)]
pub(super) struct Cursors<'a, W> {
    /// End of the valid bytes, moved by the one that appends.
    pub(super) end: &'a W,
    /// Everything before is on disk, moved by the one that commits.
    pub(super) committed: &'a W,
    /// Bytes of the ring.
    pub(super) capacity: u64,
}

impl<W: Word> Cursors<'_, W> {
    /// Where `bytes` appended at `end` would end; `None` where they would reach what is not released.
    pub(super) fn room(&self, end: u64, bytes: u64) -> Option<u64> {
        let next = end.checked_add(bytes)?;
        (next.checked_sub(self.committed.acquire())? <= self.capacity).then_some(next)
    }

    /// The bytes up to `end` are there.
    pub(super) fn publish(&self, end: u64) {
        self.end.publish(end);
    }

    /// What may be read: from where to where, not beyond `until`.
    pub(super) fn unreleased(&self, until: u64) -> (u64, u64) {
        let end = self.end.acquire().min(until);
        (self.committed.acquire(), end)
    }

    /// Everything before `position` may be written over. Not beyond the end, and never back.
    pub(super) fn release(&self, position: u64) {
        self.committed.raise(position.min(self.end.acquire()));
    }

    /// Bytes appended and not released.
    pub(super) fn backlog(&self) -> u64 {
        let committed = self.committed.acquire();
        self.end.acquire().saturating_sub(committed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use loom::cell::UnsafeCell;
    use loom::sync::atomic::AtomicU64;
    use loom::thread;

    use super::*;

    impl Word for AtomicU64 {
        fn acquire(&self) -> u64 {
            self.load(Ordering::Acquire)
        }

        fn publish(&self, value: u64) {
            self.store(value, Ordering::Release);
        }

        fn raise(&self, value: u64) {
            self.fetch_max(value, Ordering::AcqRel);
        }
    }

    const CAPACITY: u64 = 2;
    const RECORDS: u64 = 3;

    /// A ring of two one-byte records, each a cell that the checker lets nobody write while another reads.
    struct Journal {
        end: AtomicU64,
        committed: AtomicU64,
        ring: [UnsafeCell<u64>; CAPACITY as usize],
    }

    // SAFETY: cells are reached as the cursors allow; that this is enough is what the checker finds out.
    unsafe impl Sync for Journal {}
    // SAFETY: as above.
    unsafe impl Send for Journal {}

    impl Journal {
        fn new() -> Arc<Journal> {
            Arc::new(Journal {
                end: AtomicU64::new(0),
                committed: AtomicU64::new(0),
                ring: std::array::from_fn(|_| UnsafeCell::new(0)),
            })
        }

        fn cursors(&self) -> Cursors<'_, AtomicU64> {
            Cursors { end: &self.end, committed: &self.committed, capacity: CAPACITY }
        }

        fn cell(&self, position: u64) -> &UnsafeCell<u64> {
            &self.ring[usize::try_from(position % CAPACITY).unwrap()]
        }

        /// Appends record `at` where there is room.
        fn append(&self, at: u64) -> bool {
            let Some(next) = self.cursors().room(at, 1) else { return false };
            // SAFETY: the cursors say that nobody else reaches it.
            self.cell(at).with_mut(|cell| unsafe { *cell = 100 + at });
            self.cursors().publish(next);
            true
        }

        /// Reads what is there, as the journal thread does, then releases it.
        fn commit(&self) -> u64 {
            let (from, to) = self.cursors().unreleased(u64::MAX);
            for position in from..to {
                // SAFETY: as above.
                let found = self.cell(position).with(|cell| unsafe { *cell });
                assert_eq!(found, 100 + position, "a record is read as it was appended");
            }
            self.cursors().release(to);
            to
        }
    }

    #[test]
    fn in_every_order_no_record_is_torn_lost_or_written_over() {
        loom::model(|| {
            let journal = Journal::new();
            let appender = {
                let journal = Arc::clone(&journal);
                thread::spawn(move || (0..RECORDS).take_while(|at| journal.append(*at)).count() as u64)
            };
            journal.commit();
            journal.commit();
            let appended = appender.join().unwrap();
            assert!(appended >= CAPACITY, "an empty ring has room for all it can hold");
            assert_eq!(journal.commit(), appended);
            assert_eq!(journal.cursors().backlog(), 0);
        });
    }

    #[test]
    fn two_that_release_never_move_it_back() {
        loom::model(|| {
            let journal = Journal::new();
            assert!(journal.append(0) && journal.append(1));
            let other = {
                let journal = Arc::clone(&journal);
                thread::spawn(move || journal.cursors().release(1))
            };
            journal.cursors().release(2);
            other.join().unwrap();
            assert_eq!(journal.cursors().unreleased(u64::MAX), (2, 2));
            journal.cursors().release(u64::MAX);
            assert_eq!(
                journal.cursors().unreleased(u64::MAX),
                (2, 2),
                "nothing is released that is not there"
            );
        });
    }
}
