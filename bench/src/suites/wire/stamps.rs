//! The instants of one announcement's way, taken where the engine's threads read their clocks anyway.
//!
//! Contract: a source thread is given [`source_clock`], whose readings are kept in order for the calling
//! thread, and a [`StampedLog`], which adds one before and one after the journal's append; a feed thread is
//! given [`FeedStamps`]'s clock. An announcement is exactly five and three readings; any other number means
//! that other work mixed with it, and the announcement is dropped. Nothing here allocates after the start,
//! blocks or locks.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tocsin::os::clock;
use tocsin::store::shm;
use tocsin::threads::feed::Clock;
use tocsin::threads::source::publish::AnnouncementLog;
use tocsin_core::time::{Mono, Now};
use tocsin_core::wire::EncodedAnnouncement;

/// What happens between two neighbouring instants of [`Stamps`].
pub(super) const STAGES: [&str; 6] = [
    "1 compare, parse, diff",
    "2 classify",
    "3 number, serialize",
    "4 journal in shared memory",
    "5 ring to feed thread",
    "6 seal, first write",
];

/// Readings of the source thread: body complete, detected, classified, serialized, journalled.
const SOURCE_READINGS: usize = 5;
/// Readings of the feed thread: dispatch, first write returned, last write returned.
const FEED_READINGS: usize = 3;
/// More are counted and not kept.
const KEPT: usize = 8;

struct Readings {
    count: usize,
    at: [u64; KEPT],
}

thread_local! {
    static SOURCE: RefCell<Readings> = const { RefCell::new(Readings { count: 0, at: [0; KEPT] }) };
}

fn keep(at: Mono) {
    SOURCE.with_borrow_mut(|readings| {
        if let Some(place) = readings.at.get_mut(readings.count) {
            *place = at.0;
        }
        readings.count += 1;
    });
}

/// What a source thread is given as its clock.
pub(super) fn source_clock() -> Now {
    let now = clock::now();
    keep(now.mono);
    now
}

/// A shared-memory journal with a reading on either side of its append.
pub(super) struct StampedLog(pub(super) shm::Writer);

impl AnnouncementLog for StampedLog {
    fn append(&mut self, announcement: &EncodedAnnouncement) -> Option<u64> {
        keep(clock::mono());
        let position = self.0.append(announcement);
        keep(clock::mono());
        position
    }
}

/// The readings of a feed thread, for another thread to look at.
#[derive(Clone, Default)]
pub(super) struct FeedStamps(Arc<(AtomicUsize, [AtomicU64; KEPT])>);

impl FeedStamps {
    /// What the feed thread is given as its clock.
    pub(super) fn clock(&self) -> Clock {
        let shared = Arc::clone(&self.0);
        Box::new(move || {
            let now = clock::now();
            // One writer: the feed thread.
            let count = shared.0.load(Ordering::Relaxed);
            if let Some(place) = shared.1.get(count) {
                place.store(now.mono.0, Ordering::Relaxed);
            }
            shared.0.store(count + 1, Ordering::Release);
            now
        })
    }

    /// Whether a whole announcement's readings are there.
    pub(super) fn complete(&self) -> bool {
        self.0.0.load(Ordering::Acquire) >= FEED_READINGS
    }
}

/// Forgets all readings. The feed thread must have nothing to do.
pub(super) fn reset(feed: &FeedStamps) {
    SOURCE.with_borrow_mut(|readings| readings.count = 0);
    feed.0.0.store(0, Ordering::Release);
}

/// Whether the source thread has published something since [`reset`].
pub(super) fn published() -> bool {
    SOURCE.with_borrow(|readings| readings.count >= SOURCE_READINGS)
}

/// The instants of one announcement, in their order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamps([u64; STAGES.len() + 1]);

impl Stamps {
    /// What has been read since [`reset`]; `None` when that is not one announcement alone.
    pub(super) fn take(feed: &FeedStamps) -> Option<Stamps> {
        let source = SOURCE.with_borrow(|r| (r.count == SOURCE_READINGS).then_some(r.at))?;
        let at = |index: usize| feed.0.1.get(index).map(|at| at.load(Ordering::Relaxed));
        if feed.0.0.load(Ordering::Acquire) != FEED_READINGS {
            return None;
        }
        let [body, detected, classified, serialized, journalled, ..] = source;
        Some(Stamps([body, detected, classified, serialized, journalled, at(0)?, at(1)?]))
    }

    /// Nanoseconds of each stage.
    pub(super) fn stages(&self) -> impl Iterator<Item = u64> {
        self.0.windows(2).map(|pair| match pair {
            [from, to] => to.saturating_sub(*from),
            _ => 0,
        })
    }

    /// From before the push into the ring to the first write returned.
    pub(super) fn ring_to_first(&self) -> u64 {
        let [_, _, _, _, pushed, _, written] = self.0;
        written.saturating_sub(pushed)
    }

    /// From the body's last byte to the first write returned.
    pub(super) fn whole(&self) -> u64 {
        let [body, .., written] = self.0;
        written.saturating_sub(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_add_up_and_other_work_is_noticed() {
        let feed = FeedStamps::default();
        let mut feed_clock = feed.clock();
        let read = |count: usize| (0..count).for_each(|_| _ = source_clock());
        reset(&feed);
        read(SOURCE_READINGS);
        assert!(published() && !feed.complete());
        (0..FEED_READINGS).for_each(|_| _ = feed_clock());
        assert!(feed.complete());
        let stamps = Stamps::take(&feed).unwrap();
        assert_eq!(stamps.stages().sum::<u64>(), stamps.whole());
        assert!(stamps.ring_to_first() <= stamps.whole());
        feed_clock();
        assert!(Stamps::take(&feed).is_none());
        reset(&feed);
        read(KEPT + 3);
        assert!(Stamps::take(&feed).is_none());
    }
}
