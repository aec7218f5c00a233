//! A look at subscribers from outside: rows of fixed size, copied a few at a time.
//!
//! Contract: a row is a copy; who asks brings the memory for it, so that a feed writer neither allocates
//! nor waits. Never fails.

use crate::feed::key::KeyId;
use crate::model::{ExchangeSet, ListingTypeSet};
use crate::time::Mono;

/// What a subscriber is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Up to date: the next announcement goes out to it at once.
    Live,
    /// Its socket is full.
    Blocked,
    /// It gets what it missed, or, with a delay, what has been held back.
    History,
    /// A close frame is on its way.
    Closing,
}

impl Standing {
    /// Every one.
    pub const ALL: [Standing; 4] = [Standing::Live, Standing::Blocked, Standing::History, Standing::Closing];

    /// Its name in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Standing::Live => "live",
            Standing::Blocked => "blocked",
            Standing::History => "history",
            Standing::Closing => "closing",
        }
    }
}

/// One subscriber, as it was at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its number with its writer, while it is connected.
    pub slot: u32,
    /// Its key.
    pub key: KeyId,
    /// When it joined.
    pub joined: Mono,
    /// Exchanges it receives.
    pub exchanges: ExchangeSet,
    /// Listing types it receives.
    pub types: ListingTypeSet,
    /// How many tickers it filters for, if it does.
    pub tickers: Option<usize>,
    /// What it is doing.
    pub standing: Standing,
    /// Announcements it is behind; with a delay, those held back included.
    pub lag: u64,
    /// Bytes that wait for it outside the frame log.
    pub waiting_bytes: usize,
    /// Microseconds from its last answered ping to the pong.
    pub rtt_us: Option<u32>,
    /// Announcements are held back so long, in nanoseconds.
    pub delay_ns: u64,
}
