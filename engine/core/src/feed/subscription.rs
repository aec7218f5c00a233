//! What one admitted subscriber asked for and may have: the hand-over from admission to the feed.

use core::time::Duration;
use std::sync::Arc;

use super::key::KeyShared;
use crate::model::{ExchangeSet, FeedPosition, ListingTypeSet, Ticker};
use crate::time::WallUs;
use crate::wire::extra::Extras;

/// Opcode of the frames a subscriber gets (`?frames=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// "The server uses binary WebSocket frames containing UTF-8 JSON."
    #[default]
    Binary,
    /// `?frames=text`.
    Text,
}

/// Which fields an announcement carries (`?fields=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FieldSet {
    /// Exactly the specification's.
    #[default]
    Basic,
    /// `?fields=full`.
    Full,
}

/// What a subscriber receives. Cheap to test against an announcement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Key's exchanges and the client's `cex`, intersected.
    pub exchanges: ExchangeSet,
    /// `types=`; all when not given.
    pub types: ListingTypeSet,
    /// `tickers=`; `None` when not given. At most [`crate::limits::FILTER_TICKERS`].
    pub tickers: Option<Box<[Ticker]>>,
}

/// An admitted subscription, decided once in the handshake.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// Shared by all sessions of the key.
    pub key: Arc<KeyShared>,
    /// The key's own exchanges: the outer bound of every later `subscribe` and of test messages.
    pub allowed: ExchangeSet,
    /// When the key ends, if it does.
    pub expires_at: Option<WallUs>,
    /// What it receives.
    pub filter: Filter,
    /// Binary or text frames.
    pub frames: FrameKind,
    /// Basic or full announcements.
    pub fields: FieldSet,
    /// `?sources=1`: source status messages, and sources in heartbeats.
    pub sources: bool,
    /// `?events=market` and `?context=1`, where the key may have them: neither delayed nor redacted.
    pub extras: Extras,
    /// Title and ticker withheld.
    pub redact: bool,
    /// Announcements are held back this long.
    pub delay: Duration,
    /// `?resume=EPOCH:SEQ`.
    pub resume: Option<FeedPosition>,
}
