//! A message beside announcements, for those who asked for it.
//!
//! Contract: serialized once, on the thread that makes it, and shared behind an `Arc` by every feed thread;
//! what a subscriber's filter must be compared with stands beside the text. It has no place in the feed's
//! numbering, is kept nowhere and never repeated. Nothing fails.

use super::{Payload, json};
use crate::model::{Exchange, ListingType, Ticker};
use crate::time::WallUs;

/// Who asked for it, and by what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtraKind {
    /// What a market watcher tells: `?events=market`.
    Market,
    /// What is known of an announcement's assets: `?context=1`.
    Context,
}

/// Which of them a subscriber gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// [`ExtraKind::Market`].
    pub market: bool,
    /// [`ExtraKind::Context`].
    pub context: bool,
}

impl Extras {
    /// Whether it gets none.
    #[must_use]
    pub const fn is_none(self) -> bool {
        !self.market && !self.context
    }

    /// Whether it gets those of this kind.
    #[must_use]
    pub const fn contains(self, kind: ExtraKind) -> bool {
        match kind {
            ExtraKind::Market => self.market,
            ExtraKind::Context => self.context,
        }
    }

    /// Whether a comma-separated list of kinds of events names those of markets, of which there are no
    /// others yet; `None` when it names what does not exist.
    #[must_use]
    pub fn parse_events(list: &str) -> Option<bool> {
        let mut words = list.split(',').map(str::trim).filter(|word| !word.is_empty());
        words.try_fold(false, |_, word| word.eq_ignore_ascii_case("market").then_some(true))
    }
}

/// See the module head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extra {
    /// Who asked for it.
    pub kind: ExtraKind,
    /// For those whose filter has this exchange.
    pub exchange: Exchange,
    /// For those whose filter has this type; `None` where the filter of types does not count.
    pub listing_type: Option<ListingType>,
    /// For those who filter for one of these tickers, or for none.
    pub tickers: Box<[Ticker]>,
    /// False for what belongs to an edit without news, which only those get who see `action`.
    pub is_news: bool,
    /// The message.
    pub payload: Payload,
}

impl Payload {
    /// The last fields of a message that is stamped when it leaves: `detectedTimestampUs`, the stamp and
    /// `schemaVersion`. Until stamped it carries the detection time as dispatch time.
    pub(crate) fn ending(mut json: Vec<u8>, detected: WallUs) -> Payload {
        json.extend_from_slice(b",\"detectedTimestampUs\":");
        json::signed(&mut json, detected.0);
        json.extend_from_slice(b",\"dispatchTimestampUs\":");
        // Bounded by `limits::EXTRA_BYTES` and a few fields.
        let dispatch_at = u32::try_from(json.len()).unwrap_or(u32::MAX);
        json.extend_from_slice(&json::sixteen_digits(detected));
        json.extend_from_slice(b",\"schemaVersion\":");
        json::unsigned(&mut json, super::SCHEMA_VERSION);
        json.push(b'}');
        Payload { json: json.into_boxed_slice(), dispatch_at }
    }
}
