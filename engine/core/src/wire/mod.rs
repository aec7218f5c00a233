//! Feed JSON, written straight into a frame buffer, once per field set.

use core::sync::atomic::{AtomicI64, Ordering};

use crate::model::Announcement;
use crate::time::WallUs;

/// One JSON text of an announcement, with the place where the feed thread stamps the dispatch time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Compact JSON, UTF-8.
    pub json: Box<[u8]>,
    /// Offset in `json` of the 16 digits of `dispatchTimestampUs`.
    pub dispatch_at: u32,
}

/// An announcement serialized once per field set: what travels, behind an `Arc`, through every ring.
#[derive(Debug)]
pub struct EncodedAnnouncement {
    /// The announcement itself, for filters, store and webhooks.
    pub announcement: Announcement,
    /// `fields=basic`: exactly the specification's fields.
    pub basic: Payload,
    /// `fields=full`.
    pub full: Payload,
    /// Basic, title and ticker withheld.
    pub basic_redacted: Payload,
    /// Full, title, ticker, tickers, markets and url withheld.
    pub full_redacted: Payload,
    /// Microseconds since the epoch when the first feed thread started its fan-out; 0 until then.
    dispatched_us: AtomicI64,
}

impl EncodedAnnouncement {
    /// When the first feed thread started to fan it out; `None` until then and for late ones.
    #[must_use]
    pub fn dispatched(&self) -> Option<WallUs> {
        match self.dispatched_us.load(Ordering::Acquire) {
            0 => None,
            us => Some(WallUs(us)),
        }
    }

    /// Records the first dispatch; later calls change nothing.
    pub fn mark_dispatched(&self, at: WallUs) {
        let _ = self.dispatched_us.compare_exchange(0, at.0, Ordering::AcqRel, Ordering::Relaxed);
    }
}
