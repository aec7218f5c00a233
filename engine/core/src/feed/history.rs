//! The last announcements in memory, for `?resume=` and for keys with a delay.
//!
//! Contract: a ring of `Arc`s in the order in which they went out, addressed by an index that never
//! repeats. Owner: a feed writer. Allocates once, at start. Never fails: the oldest is forgotten
//! first, and [`History::after`] says so.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::limits;
use crate::model::FeedPosition;
use crate::time::Mono;
use crate::wire::EncodedAnnouncement;

/// One remembered announcement.
#[derive(Clone, Debug)]
pub struct Remembered {
    /// What it is.
    pub announcement: Arc<EncodedAnnouncement>,
    /// When it went out here; zero for those loaded at start.
    pub at: Mono,
    /// Its position, here so that a search does not follow the pointer.
    position: FeedPosition,
}

/// Where a resume begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResumePoint {
    /// Index of the first announcement to replay.
    pub index: u64,
    /// First and last position that history no longer reaches, if any.
    pub gap: Option<(FeedPosition, FeedPosition)>,
}

/// See the module head.
#[derive(Debug)]
pub struct History {
    ring: VecDeque<Remembered>,
    capacity: usize,
    /// Index of the oldest held.
    first: u64,
    /// Whether announcements older than the oldest held existed.
    truncated: bool,
    /// The newest position given out; `seq` 0 before the first of the epoch.
    last: FeedPosition,
}

impl History {
    /// For this start of the engine, with what the store loaded of earlier ones, oldest first.
    /// `complete` says that the store holds nothing older.
    pub fn new(
        epoch: u64,
        capacity: usize,
        loaded: impl IntoIterator<Item = Arc<EncodedAnnouncement>>,
        complete: bool,
    ) -> History {
        let capacity = capacity.max(1);
        let mut history = History {
            ring: VecDeque::with_capacity(capacity),
            capacity,
            first: 0,
            truncated: !complete,
            last: FeedPosition { epoch, seq: 0 },
        };
        for announcement in loaded {
            history.push(announcement, Mono(0));
        }
        history
    }

    /// Remembers one that goes out now.
    pub fn push(&mut self, announcement: Arc<EncodedAnnouncement>, at: Mono) {
        if self.ring.len() == self.capacity {
            self.ring.pop_front();
            self.first += 1;
            self.truncated = true;
        }
        let position = announcement.announcement.position;
        self.last = self.last.max(position);
        self.ring.push_back(Remembered { announcement, at, position });
    }

    /// The one with this index; `None` when it is forgotten or not there yet.
    #[must_use]
    pub fn get(&self, index: u64) -> Option<&Remembered> {
        self.ring.get(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    /// Index of the oldest held.
    #[must_use]
    pub const fn first_index(&self) -> u64 {
        self.first
    }

    /// Index that the next one will get.
    #[must_use]
    pub fn next_index(&self) -> u64 {
        self.first + self.ring.len() as u64
    }

    /// The newest position given out.
    #[must_use]
    pub const fn last_position(&self) -> FeedPosition {
        self.last
    }

    /// Where to begin for a subscriber that has everything up to and including `position`.
    ///
    /// A position never given out (another server's, or from before the store was restored) proves
    /// nothing about what the subscriber has: nothing is replayed, and the gap names this epoch's
    /// announcements so far, so that it asks `GET /v1/announcements`.
    #[must_use]
    pub fn after(&self, position: FeedPosition) -> ResumePoint {
        if position > self.last {
            let from = FeedPosition { epoch: self.last.epoch, seq: 1 };
            let gap = (self.last.seq > 0).then_some((from, self.last));
            return ResumePoint { index: self.next_index(), gap };
        }
        let mut at = self.ring.partition_point(|held| held.position <= position);
        // One that was waited for in vain stands later than its number says, by at most the reorder
        // buffer: what it overtook must not be skipped.
        let from = at.saturating_sub(limits::ORDER_BUFFER);
        if let Some(earlier) = self.ring.range(from..at).position(|held| held.position > position) {
            at = from + earlier;
        }
        let gap = if self.truncated && at == 0 { self.missing_after(position) } else { None };
        ResumePoint { index: self.first + at as u64, gap }
    }

    /// From the one after `position` to the one before the oldest held, if there is any between.
    fn missing_after(&self, position: FeedPosition) -> Option<(FeedPosition, FeedPosition)> {
        let oldest = self.ring.front().map_or(self.last, |held| held.position);
        let from = FeedPosition { epoch: position.epoch, seq: position.seq.saturating_add(1) };
        // With `seq` 0: up to the end of the epoch before.
        let to = FeedPosition { epoch: oldest.epoch, seq: oldest.seq.saturating_sub(1) };
        (from <= to).then_some((from, to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tests::encoded_at;

    fn at(epoch: u64, seq: u64) -> FeedPosition {
        FeedPosition { epoch, seq }
    }

    fn history(capacity: usize, complete: bool, positions: &[(u64, u64)]) -> History {
        let loaded = positions.iter().map(|(epoch, seq)| encoded_at(*epoch, *seq));
        History::new(7, capacity, loaded, complete)
    }

    #[test]
    fn resumes_after_a_position_and_says_what_is_gone() {
        let positions = [(5, 8), (5, 9), (7, 1), (7, 2), (7, 4), (7, 3)];
        let whole = history(10, true, &positions);
        let cut = history(10, false, &positions);
        let rows = [
            // position, index, gap when older ones existed
            (at(7, 4), 6, None),
            (at(7, 3), 4, None),
            (at(7, 2), 4, None),
            (at(7, 0), 2, None),
            (at(6, 3), 2, None),
            (at(5, 9), 2, None),
            (at(5, 8), 1, None),
            (at(5, 7), 0, None),
            (at(5, 6), 0, Some((at(5, 7), at(5, 7)))),
            (at(4, 90), 0, Some((at(4, 91), at(5, 7)))),
            (at(0, 0), 0, Some((at(0, 1), at(5, 7)))),
        ];
        for (position, index, gap) in rows {
            assert_eq!(whole.after(position), ResumePoint { index, gap: None }, "{position}");
            assert_eq!(cut.after(position), ResumePoint { index, gap }, "{position}");
        }
        // Never given out.
        for position in [at(7, 5), at(8, 0), at(u64::MAX, u64::MAX)] {
            assert_eq!(whole.after(position), ResumePoint { index: 6, gap: Some((at(7, 1), at(7, 4))) });
        }
        assert_eq!(history(10, true, &[]).after(at(9, 9)), ResumePoint { index: 0, gap: None });
    }

    #[test]
    fn forgets_the_oldest_and_keeps_counting() {
        let mut short = history(3, true, &[(7, 1), (7, 2), (7, 3)]);
        assert_eq!(short.after(at(7, 0)).gap, None);
        short.push(encoded_at(7, 4), Mono(5));
        assert_eq!((short.first_index(), short.next_index()), (1, 4));
        assert!(short.get(0).is_none() && short.get(4).is_none());
        assert_eq!(short.get(3).map(|held| held.at), Some(Mono(5)));
        assert_eq!(short.after(at(7, 0)), ResumePoint { index: 1, gap: Some((at(7, 1), at(7, 1))) });
        assert_eq!(short.after(at(6, 0)), ResumePoint { index: 1, gap: Some((at(6, 1), at(7, 1))) });
        assert_eq!(short.last_position(), at(7, 4));
    }
}
