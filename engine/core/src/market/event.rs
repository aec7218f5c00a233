//! What market watchers tell, and what makes one event the same event.
//!
//! Contract: plain data and pure functions. A decision repeated from the same records, after a crash
//! between telling and storing, has the same [`MarketEvent::source_item`] and, on the same day,
//! the same [`MarketEvent::item_time`], of which `webhook::event::EventId` is made. Never fails.

use super::InstrumentKind;
use crate::model::Exchange;
use crate::time::WallUs;

/// What a market watcher tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum MarketEventKind {
    /// An instrument is known before it is traded, or the time told before has moved.
    ListingPreview,
    /// One announced by [`MarketEventKind::ListingPreview`] opened, or a notice told of it.
    PreviewConfirmed,
    /// One announced by [`MarketEventKind::ListingPreview`] is gone before it opened.
    PreviewWithdrawn,
    /// A new pair is traded and neither a notice nor a preview told of it.
    StealthListing,
    /// The end of an instrument is set or moved, or it ended without that.
    Delisting,
    /// The end told by [`MarketEventKind::Delisting`] is no longer set.
    DelistingWithdrawn,
    /// Far more is traded than usual.
    VolumeSpike,
}

impl MarketEventKind {
    /// Every kind.
    pub const ALL: [MarketEventKind; 7] = [
        MarketEventKind::ListingPreview,
        MarketEventKind::PreviewConfirmed,
        MarketEventKind::PreviewWithdrawn,
        MarketEventKind::StealthListing,
        MarketEventKind::Delisting,
        MarketEventKind::DelistingWithdrawn,
        MarketEventKind::VolumeSpike,
    ];

    /// Spelling in identities and messages; never changes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            MarketEventKind::ListingPreview => "listing_preview",
            MarketEventKind::PreviewConfirmed => "preview_confirmed",
            MarketEventKind::PreviewWithdrawn => "preview_withdrawn",
            MarketEventKind::StealthListing => "stealth_listing",
            MarketEventKind::Delisting => "delisting",
            MarketEventKind::DelistingWithdrawn => "delisting_withdrawn",
            MarketEventKind::VolumeSpike => "volume_spike",
        }
    }

    /// The inverse of [`MarketEventKind::name`].
    #[must_use]
    pub fn parse(name: &str) -> Option<MarketEventKind> {
        MarketEventKind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether the time it is about is part of what it tells, so that another day is another event.
    const fn is_about_a_time(self) -> bool {
        matches!(self, MarketEventKind::ListingPreview | MarketEventKind::Delisting)
    }
}

/// One thing a market watcher tells: who hears of it gets it whole, nothing borrowed.
#[derive(Clone, Debug, PartialEq)]
pub struct MarketEvent {
    /// What.
    pub kind: MarketEventKind,
    /// Where.
    pub exchange: Exchange,
    /// Name of the [`super::MarketSpec`] that saw it.
    pub source: &'static str,
    /// The exchange's own name of the instrument.
    pub symbol: String,
    /// What is traded.
    pub base: String,
    /// What it is priced in.
    pub quote: String,
    /// What kind of market.
    pub instrument: InstrumentKind,
    /// The exchange's word for its state.
    pub state: String,
    /// Which of its kind for this instrument, from 1; of spikes, the minute since 1970 it was seen in.
    pub occurrence: u32,
    /// Whether the request that saw it had no pair of this base and kind of market before: false for
    /// a further quote of an asset already traded there. Of listings only.
    pub new_asset: bool,
    /// A notice of the exchange told of it before.
    pub noticed: bool,
    /// When trading begins or ends, where the exchange says.
    pub effective_at: Option<WallUs>,
    /// What was traded within 24 hours, in US dollars, where known.
    pub volume_24h: Option<f64>,
    /// For a spike: how many times the usual.
    pub ratio: Option<f64>,
    /// For a preview: the [`super::scorecard`], 0 to 100.
    pub score: Option<u8>,
    /// When the last answer before it had been read: it happened after that. `None` where nothing is known
    /// of an answer before.
    pub since: Option<WallUs>,
    /// When the answer that shows it had been read.
    pub received: WallUs,
    /// When it was decided.
    pub detected: WallUs,
}

const DAY_US: i64 = 24 * 3_600 * 1_000_000;

impl MarketEvent {
    /// What makes it this event and no other, for good:
    /// `okx:perpetual:JP225-USDT-SWAP:listing_preview:1:20705`, the last being the day since 1970 it is
    /// about, `-` where no time is said or the kind is not about one. The day and not the instant, so
    /// that a minute's shift between two looks is no other event.
    #[must_use]
    pub fn source_item(&self) -> String {
        let day = self
            .effective_at
            .filter(|_| self.kind.is_about_a_time())
            .map_or_else(|| "-".to_owned(), |at| at.0.div_euclid(DAY_US).to_string());
        format!(
            "{}:{}:{}:{}:{}:{day}",
            self.exchange.name(),
            self.instrument.name(),
            self.symbol,
            self.kind.name(),
            self.occurrence
        )
    }

    /// The time part of its `event_id`: the beginning of the UTC day it was seen on. An event repeated
    /// on a later day has another time part, but the same identity.
    #[must_use]
    pub fn item_time(&self) -> WallUs {
        WallUs(self.received.0.div_euclid(DAY_US).saturating_mul(DAY_US))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: MarketEventKind) -> MarketEvent {
        MarketEvent {
            kind,
            exchange: Exchange::Okx,
            source: "okx.instruments",
            symbol: "ABC-USDT-SWAP".into(),
            base: "ABC".into(),
            quote: "USDT".into(),
            instrument: InstrumentKind::Perpetual,
            state: "preopen".into(),
            occurrence: 1,
            new_asset: true,
            noticed: false,
            effective_at: Some(WallUs::from_secs(86_400 * 20_705 + 7)),
            volume_24h: None,
            ratio: None,
            score: None,
            since: None,
            received: WallUs::from_secs(86_400 * 20_700 + 80_000),
            detected: WallUs::from_secs(86_400 * 20_700 + 80_000),
        }
    }

    #[test]
    fn an_identity_is_stable_text() {
        let preview = event(MarketEventKind::ListingPreview);
        assert_eq!(preview.source_item(), "okx:perpetual:ABC-USDT-SWAP:listing_preview:1:20705");
        assert_eq!(preview.item_time(), WallUs::from_secs(86_400 * 20_700));
        let again = MarketEvent {
            received: WallUs::from_secs(86_400 * 20_700 + 85_000),
            effective_at: Some(WallUs::from_secs(86_400 * 20_705 + 60)),
            state: "pre".into(),
            ..preview.clone()
        };
        assert_eq!((again.source_item(), again.item_time()), (preview.source_item(), preview.item_time()));
        let confirmed = event(MarketEventKind::PreviewConfirmed);
        assert_eq!(confirmed.source_item(), "okx:perpetual:ABC-USDT-SWAP:preview_confirmed:1:-");
        let before_1970 = MarketEvent { effective_at: Some(WallUs(-1)), ..preview };
        assert!(before_1970.source_item().ends_with(":-1"));
    }

    #[test]
    fn names_round_trip() {
        for kind in MarketEventKind::ALL {
            assert_eq!(MarketEventKind::parse(kind.name()), Some(kind));
        }
        for kind in InstrumentKind::ALL {
            assert_eq!(InstrumentKind::parse(kind.name()), Some(kind));
        }
        for trading in super::super::Trading::ALL {
            assert_eq!(super::super::Trading::parse(trading.name()), Some(trading));
        }
    }
}
