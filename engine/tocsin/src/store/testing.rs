//! Announcements for the tests of store, journal and control plane.

use proptest::prelude::*;
use tocsin_core::feed::key::{AllowedExchanges, Tier};
use tocsin_core::model::{
    Action, Announcement, Classification, Exchange, FeedPosition, Lang, ListingType, Market, Ticker,
};
use tocsin_core::time::WallUs;

use super::intern::intern;
use super::{NewKey, Store};

/// An instant for tests.
pub(crate) const NOW: WallUs = WallUs(1_770_000_000_000_000);

/// An empty store in `data` below a directory that goes with the test; its journals lie beside it.
pub(crate) fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_on(dir.path(), &dir.path().join("data")).unwrap();
    (dir, store)
}

/// A premium key for all exchanges.
pub(crate) fn new_key() -> NewKey {
    NewKey {
        label: String::new(),
        tier: Tier::Premium,
        max_connections: 5,
        allowed: AllowedExchanges::all(),
        expires_at: None,
        delay: core::time::Duration::ZERO,
        redact: false,
    }
}

/// A spot listing at `(epoch, seq)`, every field of it set.
pub(crate) fn announcement(epoch: u64, seq: u64) -> Announcement {
    let base = i64::try_from(seq).unwrap_or(0) * 1_000_000 + 1_760_000_000_000_000;
    let ticker = |s: &str| Ticker::new(s).unwrap();
    Announcement {
        id: format!("binance:{seq}"),
        position: FeedPosition { epoch, seq },
        exchange: Exchange::Binance,
        title: format!("Binance Will List Token {seq} (TK{seq})"),
        classification: Classification {
            listing_type: ListingType::SpotListing,
            tickers: vec![ticker(&format!("TK{seq}"))],
            markets: vec![Market { base: ticker(&format!("TK{seq}")), quote: ticker("USDT") }],
            rule: intern("test.rule"),
            confidence: 99,
            lang: Lang::En,
        },
        action: Action::Created,
        late: false,
        url: format!("https://exchange.invalid/{seq}"),
        notice_id: seq.to_string(),
        source: "binance.cms".to_owned(),
        published: WallUs(base),
        received: WallUs(base + 4_000),
        detected: WallUs(base + 4_100),
        classified: WallUs(base + 4_110),
        effective_at: Some(WallUs(base + 7_200_000_000)),
    }
}

prop_compose! {
    fn any_ticker()(text in "[A-Z0-9]{1,12}") -> Ticker { Ticker::new(&text).unwrap() }
}

prop_compose! {
    /// Any announcement the engine can make.
    pub(crate) fn any_announcement()(
        position in any::<(u64, u64)>(),
        texts in ("[a-z:0-9]{1,40}", "\\PC{0,200}", "[a-z:/.]{0,80}", "[0-9a-f]{1,40}", "[a-z.]{1,20}"),
        picks in (0..16_usize, 0..5_usize, 0..3_usize, any::<bool>(), any::<bool>(), 0..=100_u8),
        times in any::<[i64; 4]>(),
        effective in any::<Option<i64>>(),
        tickers in proptest::collection::vec(any_ticker(), 0..6),
        markets in proptest::collection::vec((any_ticker(), any_ticker()), 0..6),
        rule in "[a-c]{1,2}",
    ) -> Announcement {
        let (id, title, url, notice_id, source) = texts;
        let (exchange, listing_type, action, late, korean, confidence) = picks;
        let [published, received, detected, classified] = times.map(WallUs);
        Announcement {
            id,
            position: FeedPosition { epoch: position.0, seq: position.1 },
            exchange: Exchange::ALL[exchange],
            title,
            classification: Classification {
                listing_type: ListingType::ALL[listing_type],
                tickers,
                markets: markets.into_iter().map(|(base, quote)| Market { base, quote }).collect(),
                rule: intern(&rule),
                confidence,
                lang: if korean { Lang::Ko } else { Lang::En },
            },
            action: [Action::Created, Action::Updated, Action::UpdatedWithNews][action],
            late,
            url,
            notice_id,
            source,
            published,
            received,
            detected,
            classified,
            effective_at: effective.map(WallUs),
        }
    }
}
