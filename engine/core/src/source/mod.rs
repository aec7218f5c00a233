//! What a source is: requests, field paths, identity; pacing and backoff.

pub mod backoff;
pub mod exchange;
pub mod pacing;

use crate::model::Exchange;
use crate::time::WallUs;

/// How a source is doing: the feed's `source_status` states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceState {
    /// Answers arrive and parse.
    Live,
    /// Answers arrive but nothing usable in them for too long.
    Stale,
    /// The exchange refuses us (403, 418, 429).
    Blocked,
    /// No connection works.
    Down,
}

impl SourceState {
    /// The feed's spelling.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            SourceState::Live => "live",
            SourceState::Stale => "stale",
            SourceState::Blocked => "blocked",
            SourceState::Down => "down",
        }
    }
}

/// A source's state as told to subscribers with `?sources=1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceStatus {
    /// Name of the source (`binance.cms`).
    pub source: &'static str,
    /// Whose announcements it brings.
    pub exchange: Exchange,
    /// How it is doing.
    pub state: SourceState,
    /// When the last answer was complete; `None` before the first.
    pub last_poll: Option<WallUs>,
    /// When the newest item known was published.
    pub last_item: Option<WallUs>,
}
