//! One order for all subscribers: announcements of several source threads, merged by `seq`.
//!
//! Contract: each source thread takes its `seq` from one ticket and pushes to its own ring, so a
//! writer that drains the rings may meet 6 before 5. [`SeqMerge`] holds 6 back for a bounded time.
//! What comes after its turn is given out at once rather than lost. Owner: a feed writer. Allocates
//! once, at start. Never fails: at its bound it stops waiting.

use core::time::Duration;

use crate::time::Mono;

/// A reorder buffer of bounded size and patience.
#[derive(Debug)]
pub struct SeqMerge<T> {
    /// The number whose turn it is.
    next: u64,
    /// Waiting items, largest number first, so that the next to go is popped off the end.
    waiting: Vec<(u64, T)>,
    capacity: usize,
    patience: Duration,
    /// Since when the smallest waiting number has waited for its turn.
    since: Mono,
    /// Items given out after a larger number.
    overtaken: u64,
}

impl<T> SeqMerge<T> {
    /// Expects `first` next.
    #[must_use]
    pub fn new(first: u64, capacity: usize, patience: Duration) -> SeqMerge<T> {
        let capacity = capacity.max(1);
        SeqMerge {
            next: first,
            waiting: Vec::with_capacity(capacity + 1),
            capacity,
            patience,
            since: Mono(0),
            overtaken: 0,
        }
    }

    /// Whether another item may be pushed before the next pop.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.waiting.len() <= self.capacity
    }

    /// Takes an item off a ring. Call only while [`SeqMerge::has_room`], else the buffer grows.
    pub fn push(&mut self, now: Mono, seq: u64, item: T) {
        if self.waiting.is_empty() {
            self.since = now;
        }
        let at = self.waiting.partition_point(|(waiting, _)| *waiting > seq);
        self.waiting.insert(at, (seq, item));
    }

    /// The next item to go out, or `None` while the smaller number may still come.
    pub fn pop(&mut self, now: Mono) -> Option<T> {
        self.pop_if(now, |_| true)
    }

    /// The same, but an item that is not `wanted` stays, with its turn.
    pub fn pop_if(&mut self, now: Mono, wanted: impl FnOnce(&T) -> bool) -> Option<T> {
        let (seq, item) = self.waiting.last()?;
        let patient = now.since(self.since) < self.patience && self.waiting.len() < self.capacity;
        if (*seq > self.next && patient) || !wanted(item) {
            return None;
        }
        let (seq, item) = self.waiting.pop()?;
        self.overtaken += u64::from(seq < self.next);
        self.next = self.next.max(seq.saturating_add(1));
        // What waits behind a skipped number begins its own wait now.
        self.since = now;
        Some(item)
    }

    /// How many items were given out after a larger number.
    #[must_use]
    pub const fn overtaken(&self) -> u64 {
        self.overtaken
    }

    /// When [`SeqMerge::pop`] has something again if nothing is pushed; `NEVER` when nothing waits.
    #[must_use]
    pub fn deadline(&self) -> Mono {
        if self.waiting.is_empty() { Mono::NEVER } else { self.since + self.patience }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;
    use proptest::prelude::*;

    const PATIENCE: Duration = Duration::from_millis(1);

    fn drain(merge: &mut SeqMerge<u64>, now: Mono) -> Vec<u64> {
        core::iter::from_fn(|| merge.pop(now)).collect()
    }

    #[test]
    fn waits_for_the_smaller_number_then_goes_on_without_it() {
        let mut merge = SeqMerge::new(1, 8, PATIENCE);
        merge.push(Mono(0), 2, 2);
        assert_eq!(drain(&mut merge, Mono(10)), [0; 0]);
        merge.push(Mono(20), 1, 1);
        merge.push(Mono(20), 4, 4);
        assert_eq!(drain(&mut merge, Mono(30)), [1, 2]);
        assert_eq!(merge.deadline(), Mono(30) + PATIENCE);
        assert_eq!(drain(&mut merge, Mono(1_000_029)), [0; 0]);
        assert_eq!(drain(&mut merge, Mono(1_000_030)), [4]);
        assert_eq!(merge.deadline(), Mono::NEVER);
        // 3 was given up on, not forgotten.
        merge.push(Mono(1_000_040), 3, 3);
        merge.push(Mono(1_000_040), 5, 5);
        assert_eq!(drain(&mut merge, Mono(1_000_040)), [3, 5]);
        assert_eq!(merge.overtaken(), 1);
    }

    /// Linux gives a thread that another one displaced its core back after a few slices of 3 ms.
    #[test]
    fn a_source_thread_off_its_core_for_some_slices_does_not_cost_the_order() {
        let mut merge = SeqMerge::new(1, limits::ORDER_BUFFER, limits::ORDER_PATIENCE);
        merge.push(Mono(0), 2, 2);
        let back = Mono(0) + Duration::from_millis(20);
        assert_eq!(drain(&mut merge, back), [0; 0]);
        merge.push(back, 1, 1);
        assert_eq!(drain(&mut merge, back), [1, 2]);
        assert_eq!(merge.overtaken(), 0);
    }

    #[test]
    fn one_that_is_not_wanted_keeps_its_turn() {
        let mut merge = SeqMerge::new(1, 4, PATIENCE);
        merge.push(Mono(0), 1, 1);
        merge.push(Mono(0), 2, 2);
        assert_eq!(merge.pop_if(Mono(0), |_| false), None);
        assert_eq!(merge.pop_if(Mono(0), |seq| *seq == 1), Some(1));
        assert_eq!(merge.pop_if(Mono(0), |seq| *seq == 1), None);
        assert_eq!(drain(&mut merge, Mono(0)), [2]);
        assert_eq!(merge.overtaken(), 0);
    }

    #[test]
    fn a_full_buffer_does_not_wait() {
        let mut merge = SeqMerge::new(1, 4, PATIENCE);
        for seq in [5, 4, 3] {
            merge.push(Mono(0), seq, seq);
        }
        assert_eq!(drain(&mut merge, Mono(0)), [0; 0]);
        merge.push(Mono(0), 6, 6);
        assert_eq!(drain(&mut merge, Mono(0)), [3, 4, 5, 6]);
    }

    proptest! {
        /// Whatever the interleaving of the rings, nothing is lost or doubled, and with patience and
        /// room everything is in order.
        #[test]
        fn any_interleaving_comes_out_in_order(owners in prop::collection::vec(0..3_usize, 1..60)) {
            let mut rings = [const { Vec::new() }; 3];
            for (seq, owner) in (1..).zip(&owners) {
                rings[*owner].push(seq);
            }
            let mut merge = SeqMerge::new(1, 64, PATIENCE);
            let mut out = Vec::new();
            for (turn, ring) in rings.iter().enumerate() {
                for seq in ring {
                    merge.push(Mono(turn as u64), *seq, *seq);
                }
                out.extend(drain(&mut merge, Mono(turn as u64)));
            }
            prop_assert_eq!(out, (1..=owners.len() as u64).collect::<Vec<_>>());
        }
    }
}
