//! Announcements that waited together, on their way out together: each subscriber's in one write.
//!
//! Contract: a burst is the newest entries of the frame log, at most [`limits::BURST`]; what of it
//! is for a subscriber is a [`Wanted`]. [`Joined`] holds the frames of one [`Wanted`] and class side
//! by side, so that subscribers who want the same in a row share one copy. Owner: a feed writer.
//! Allocates once, at start, and when a frame is larger than all before. Nothing fails.

use super::frame_log::{Class, FrameLog};
use crate::limits;

/// Some announcements of a burst: a bit for each, that of the oldest lowest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted(u8);

impl Wanted {
    /// None of them.
    pub const NONE: Wanted = Wanted(0);

    /// The oldest alone.
    pub const ONE: Wanted = Wanted(1);

    /// This set and the `nth` announcement of the burst.
    #[must_use]
    pub fn with(self, nth: u64) -> Wanted {
        let bit = u32::try_from(nth).ok().and_then(|nth| 1_u8.checked_shl(nth));
        Wanted(self.0 | bit.unwrap_or(0))
    }

    /// How many there are.
    #[must_use]
    pub const fn count(self) -> u16 {
        self.0.count_ones() as u16
    }

    /// What is in either.
    #[must_use]
    pub const fn with_all(self, other: Wanted) -> Wanted {
        Wanted(self.0 | other.0)
    }

    /// What is here and not in `other`.
    #[must_use]
    pub const fn without(self, other: Wanted) -> Wanted {
        Wanted(self.0 & !other.0)
    }

    /// Whether it is empty.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// The oldest, as a number within the burst; 8 when there is none.
    #[must_use]
    pub const fn oldest(self) -> u64 {
        self.0.trailing_zeros() as u64
    }

    /// Numbers within the burst, oldest first.
    pub fn numbers(self) -> impl Iterator<Item = u64> {
        (0..u64::from(u8::BITS)).filter(move |nth| self.0 & 1 << nth != 0)
    }
}

/// See the module head.
#[derive(Debug)]
pub struct Joined {
    /// Whose frames `bytes` holds, in a burst that begins at the log index `from`.
    from: u64,
    class: Class,
    wanted: Wanted,
    bytes: Vec<u8>,
}

impl Default for Joined {
    fn default() -> Joined {
        let class = Class::default();
        Joined { from: 0, class, wanted: Wanted::NONE, bytes: Vec::with_capacity(2 * limits::GATHER_BYTES) }
    }
}

impl Joined {
    /// The frames of `wanted` for `class`, one behind the other, in a burst that begins at `from`.
    pub fn frames(&mut self, log: &FrameLog, from: u64, class: Class, wanted: Wanted) -> &[u8] {
        if (self.from, self.class, self.wanted) != (from, class, wanted) {
            (self.from, self.class, self.wanted) = (from, class, wanted);
            self.bytes.clear();
            for nth in wanted.numbers() {
                self.bytes.extend_from_slice(log.frame(from + nth, class).unwrap_or_default());
            }
        }
        &self.bytes
    }
}
