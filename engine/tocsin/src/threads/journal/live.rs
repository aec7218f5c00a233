//! What the journal thread shows of what it commits, to those who look on.
//!
//! Contract: [`LiveTap::show`] hands a copy to the control thread's ring while somebody looks; else it
//! costs one load. It never waits: what does not fit is dropped and counted, and the control plane tells
//! its readers so. Owner: journal thread. The far end is [`LiveInlet`], of the control thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::rings::JournalToLive;
use crate::topology;

/// What both ends know.
#[derive(Debug, Default)]
struct Shared {
    watched: AtomicBool,
    dropped: AtomicU64,
}

/// The journal thread's end.
#[derive(Debug)]
pub struct LiveTap {
    ring: rtrb::Producer<JournalToLive>,
    shared: Arc<Shared>,
}

/// The control thread's end.
#[derive(Debug)]
pub struct LiveInlet {
    ring: rtrb::Consumer<JournalToLive>,
    shared: Arc<Shared>,
    dropped_before: u64,
}

impl LiveTap {
    /// Both ends; nobody looks yet.
    #[must_use]
    pub fn new() -> (LiveTap, LiveInlet) {
        let (producer, consumer) = rtrb::RingBuffer::new(topology::JOURNAL_TO_LIVE);
        let shared = Arc::new(Shared::default());
        let inlet = LiveInlet { ring: consumer, shared: Arc::clone(&shared), dropped_before: 0 };
        (LiveTap { ring: producer, shared }, inlet)
    }

    /// Shows what `make` makes, if somebody looks and there is room.
    pub fn show(&mut self, make: impl FnOnce() -> JournalToLive) {
        if self.shared.watched.load(Ordering::Relaxed) && self.ring.push(make()).is_err() {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl LiveInlet {
    /// Says whether somebody looks. What was shown before is forgotten when nobody does.
    pub fn set_watched(&mut self, watched: bool) {
        self.shared.watched.store(watched, Ordering::Relaxed);
        if !watched {
            while self.ring.pop().is_ok() {}
        }
    }

    /// The next one shown.
    pub fn take(&mut self) -> Option<JournalToLive> {
        self.ring.pop().ok()
    }

    /// How many did not fit since the last call.
    pub fn take_dropped(&mut self) -> u64 {
        let dropped = self.shared.dropped.load(Ordering::Relaxed);
        let since = dropped.saturating_sub(self.dropped_before);
        self.dropped_before = dropped;
        since
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::announcement;

    fn shown(seq: u64) -> JournalToLive {
        JournalToLive::Announcement(Arc::new(tocsin_core::wire::encode(announcement(1, seq))))
    }

    #[test]
    fn nothing_is_made_while_nobody_looks_and_what_does_not_fit_is_counted() {
        let (mut tap, mut inlet) = LiveTap::new();
        tap.show(|| panic!("nobody looks"));
        inlet.set_watched(true);
        for seq in 0..=topology::JOURNAL_TO_LIVE as u64 {
            tap.show(|| shown(seq));
        }
        assert_eq!((inlet.take_dropped(), inlet.take_dropped()), (1, 0));
        assert!(
            matches!(inlet.take(), Some(JournalToLive::Announcement(a)) if a.announcement.position.seq == 0)
        );
        inlet.set_watched(false);
        assert!(inlet.take().is_none(), "what nobody looks at is not kept");
    }
}
