//! Events of announcements against the rules, and their identifiers.

use proptest::prelude::*;

use super::*;
use crate::classify::classify;
use crate::model::{Action, CategoryHint, FeedPosition};

fn key() -> IdKey {
    IdKey::new(&[7; 32])
}

fn announcement(exchange: Exchange, title: &str) -> Announcement {
    let published = WallUs(1_710_432_000_000_000);
    Announcement {
        id: format!("{}:42", exchange.name()),
        position: FeedPosition { epoch: 1, seq: 1 },
        exchange,
        title: title.to_owned(),
        classification: classify(exchange, title, CategoryHint::None),
        action: Action::Created,
        late: false,
        url: String::new(),
        notice_id: "42".to_owned(),
        source: "test".to_owned(),
        published,
        received: published,
        detected: WallUs(published.0 + 312_999),
        classified: published,
        effective_at: None,
    }
}

/// Kind, symbol and listing type of every event of a title.
fn told(exchange: Exchange, title: &str) -> String {
    let events = Event::of(&announcement(exchange, title), &key());
    let one = |e: &Event| format!("{} {} {}", e.kind.name(), e.symbol, e.market.name());
    events.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[test]
fn titles_become_events() {
    use Exchange::{Binance, Bitget, Bithumb, Coinbase, Upbit};
    for (exchange, title, events) in [
        (Binance, "Binance Will List Quokka (QUOK) with Seed Tag Applied", "new_listing QUOKUSDT spot"),
        (
            Binance,
            "Binance Will List Quokka (QUOK) and Wombat (WOMB)",
            "new_listing QUOKUSDT spot, new_listing WOMBUSDT spot",
        ),
        (
            Binance,
            "Binance Futures Will Launch USDⓈ-Margined 1000QUOKUSDT and WOMBUSDC Perpetual Contract",
            "futures_listing 1000QUOKUSDT perp, futures_listing WOMBUSDC perp",
        ),
        (
            Binance,
            "Binance Futures Will Launch BTCUSDT Quarterly 0328 Delivery Contracts",
            "futures_listing BTCUSDT futures",
        ),
        (Bitget, "QUOKUSDT now launched for futures trading", "futures_listing QUOKUSDT futures"),
        (
            Binance,
            "Binance Will Delist QUOK, WOMB on 2026-03-01",
            "delisting QUOKUSDT spot, delisting WOMBUSDT spot",
        ),
        (
            Binance,
            "Binance Futures Will Delist USDⓈ-M QUOKUSDT Perpetual Contracts",
            "delisting QUOKUSDT perp",
        ),
        (Upbit, "쿼카(QUOK) 신규 거래지원 안내 (KRW, BTC, USDT 마켓)", "new_listing QUOKKRW spot"),
        (Upbit, "쿼카(QUOK) 신규 거래지원 안내 (BTC, USDT 마켓)", "new_listing QUOKBTC spot"),
        (Bithumb, "[마켓 추가] 쿼카(QUOK) 원화 마켓 추가", "new_listing QUOKKRW spot"),
        (Coinbase, "Coinbase will add support for Quokka (QUOK)", "new_listing QUOKUSDT spot"),
        (Binance, "Binance Will List Several New Tokens Soon", ""),
        (Binance, "Notice on Wallet Maintenance for Quokka (QUOK)", ""),
    ] {
        assert_eq!(told(exchange, title), events, "{title}");
    }
}

#[test]
fn perpetual_is_a_word_and_not_a_part_of_one() {
    for (title, expected) in [
        ("OKX to list perpetual for QUOK", true),
        ("QUOK PERPs on", true),
        ("Will list BTC-PERP", true),
        ("上线 QUOK 永续合约", true),
        ("QUOK 무기한 선물 상장", true),
        ("Futures will delist PERPUSDT", false),
        ("QUOK quarterly futures", false),
        ("Propertual perpetuity", false),
    ] {
        assert_eq!(says_perpetual(title), expected, "{title}");
    }
}

#[test]
fn fields_come_from_the_announcement() {
    let mut ann = announcement(Exchange::CryptoCom, "Crypto.com Will List Quokka (QUOK)");
    let event = Event::of(&ann, &key()).remove(0);
    assert_eq!(event.exchange_name(), "Crypto.com");
    assert_eq!((event.latency_ms, event.timestamp.secs(), event.late), (312, 1_710_432_000, false));
    ann.detected = WallUs(ann.published.0 - 5_000_000);
    ann.late = true;
    let early = Event::of(&ann, &key()).remove(0);
    assert_eq!((early.latency_ms, early.late), (0, true));
    assert_eq!(early.id, event.id, "the id does not depend on when it was detected");
}

#[test]
fn all_events_of_an_announcement_have_its_score() {
    for title in [
        "Binance Will List Quokka (QUOK) and Wombat (WOMB)",
        "Binance Futures Will Launch USDⓈ-Margined QUOKUSDT and WOMBUSDC Perpetual Contracts",
        "Binance Will Delist QUOK, WOMB on 2031-03-01",
    ] {
        let mut ann = announcement(Exchange::Binance, title);
        let expected = Some(score::of(Exchange::Binance, title, &ann.classification));
        let scores = |ann: &Announcement| -> Vec<Option<u8>> {
            Event::of(ann, &key()).iter().map(|event| event.ai_score).collect()
        };
        assert_eq!(scores(&ann), [expected, expected], "{title}");
        // Detected again after a crash: later, from another source, as late news.
        (ann.detected, ann.late) = (WallUs(ann.detected.0 + 60_000_000), true);
        ann.source = "binance.stream".to_owned();
        assert_eq!(scores(&ann), [expected, expected], "{title}");
    }
    assert_eq!(Event::ping(&key(), 9, WallUs(0)).ai_score, None);
    assert_eq!(Event::test(&key(), EventKind::NewListing, 9, WallUs(0)).ai_score, None);
}

#[test]
fn an_edit_speaks_only_if_it_tells_news() {
    let mut ann = announcement(Exchange::Binance, "Binance Will List Quokka (QUOK)");
    let first = Event::of(&ann, &key());
    ann.action = Action::Updated;
    assert_eq!(Event::of(&ann, &key()), []);
    ann.action = Action::UpdatedWithNews;
    ann.title = "Binance Will List Quokka (QUOK) and Wombat (WOMB)".to_owned();
    ann.classification = classify(ann.exchange, &ann.title, CategoryHint::None);
    ann.published = WallUs(ann.published.0 + 60_000_000);
    let second = Event::of(&ann, &key());
    assert_eq!(second.len(), 2);
    assert_ne!(second[0].id, first[0].id);
    assert_eq!(second[0].id.identity(), first[0].id.identity());
    assert_ne!(second[1].id.identity(), first[0].id.identity());
}

#[test]
fn symbols_of_odd_markets() {
    let mut ann = announcement(Exchange::Binance, "x");
    ann.classification.listing_type = ListingType::SpotListing;
    let ticker = |text| Ticker::new(text).unwrap();
    ann.classification.tickers = vec![ticker("USDT")];
    assert_eq!(&*Event::of(&ann, &key())[0].symbol, "USDT");
    ann.classification.markets = vec![
        crate::model::Market { base: ticker("OTHER"), quote: ticker("KRW") },
        crate::model::Market { base: ticker("USDT"), quote: ticker("TRY") },
    ];
    assert_eq!(&*Event::of(&ann, &key())[0].symbol, "USDTTRY");
}

#[test]
fn our_own_events_have_every_required_field() {
    let now = WallUs(1_710_432_000_000_000);
    let ping = Event::ping(&key(), 9, now);
    assert_eq!(
        (ping.exchange_name(), &*ping.symbol, ping.market.name(), ping.latency_ms),
        ("Tocsin", "PING", "none", 0)
    );
    assert_ne!(ping.id, Event::ping(&key(), 10, now).id);
    assert_ne!(ping.id, Event::ping(&key(), 9, WallUs(now.0 + 1)).id);
    assert_eq!(ping, Event::ping(&key(), 9, now));
    let test = Event::test(&key(), EventKind::FuturesListing, 9, now);
    assert_eq!((test.exchange_name(), &*test.symbol, test.market.name()), ("Tocsin", "TESTUSDT", "perp"));
    assert_eq!(Event::test(&key(), EventKind::Ping, 9, now), ping);
}

/// The expected id was computed with Python's hmac over the five fields, each behind its length in
/// eight bytes big-endian, and its first ten bytes written in base 32.
#[test]
fn ids_are_fixed_for_good() {
    let ann = announcement(Exchange::Binance, "Binance Will List Quokka (QUOK)");
    assert_eq!(Event::of(&ann, &key())[0].id.as_str(), "cxp_01HRYV2600Y7PN147371YW66XB");
}

#[test]
fn names_round_trip() {
    for kind in EventKind::ALL {
        assert_eq!(EventKind::parse(kind.name()), Some(kind));
    }
    for kind in MarketKind::ALL {
        assert_eq!(MarketKind::parse(kind.name()), Some(kind));
    }
}

proptest! {
    #[test]
    fn ids_keep_their_form_and_read_back(us in any::<i64>(), symbol in "\\PC{0,20}", item in "\\PC{0,40}") {
        let identity = Identity {
            kind: EventKind::NewListing, exchange: None, symbol: &symbol, market: MarketKind::Spot, source_item: &item,
        };
        let id = EventId::derive(&key(), WallUs(us), &identity);
        let digits = id.as_str().strip_prefix("cxp_").unwrap();
        prop_assert!((20..=26).contains(&digits.len()));
        prop_assert!(digits.bytes().all(|b| b"0123456789ABCDEFGHJKMNPQRSTVWXYZ".contains(&b)));
        prop_assert_eq!(EventId::parse(id.as_str()), Some(id));
        let later = EventId::derive(&key(), WallUs(us.saturating_add(1_000)), &identity);
        prop_assert!(later >= id && later.identity() == id.identity());
        let elsewhere = EventId::derive(&IdKey::new(&[8; 32]), WallUs(us), &identity);
        prop_assert_ne!(elsewhere.identity(), id.identity());
    }

    #[test]
    fn every_part_of_the_identity_counts(text in "[A-Z]{2,12}", at in 1_usize..11) {
        // Moving the border between two fields is another identity.
        let at = at.min(text.len() - 1);
        let id = |symbol, source_item| EventId::derive(&key(), WallUs(0), &Identity {
            kind: EventKind::Delisting, exchange: Some(Exchange::Okx), symbol, market: MarketKind::Spot, source_item,
        });
        prop_assert_ne!(id(&text[..at], &text[at..]), id(&text, ""));
        prop_assert_ne!(id(&text[..at], &text[at..]), id("", &text));
    }

    #[test]
    fn any_text_is_read(text in "\\PC{0,40}") {
        if let Some(id) = EventId::parse(&text) {
            prop_assert_eq!(id.as_str(), text);
        }
    }
}

fn market_event(kind: MarketEventKind) -> MarketEvent {
    let received = WallUs(1_788_480_002_000_000);
    MarketEvent {
        kind,
        exchange: Exchange::Okx,
        source: "okx.instruments",
        symbol: "QUOK-USDT-SWAP".into(),
        base: "QUOK".into(),
        quote: "USDT".into(),
        instrument: InstrumentKind::Perpetual,
        state: "preopen".into(),
        occurrence: 1,
        new_asset: true,
        noticed: false,
        effective_at: Some(WallUs::from_secs(86_400 * 20_705)),
        volume_24h: Some(12.5),
        ratio: None,
        score: Some(81),
        since: Some(WallUs(received.0 - 5_000_000)),
        received,
        detected: WallUs(received.0 + 250_000),
    }
}

#[test]
fn what_market_watchers_tell_becomes_events_where_it_is_news() {
    use InstrumentKind::{Dated, Perpetual, Spot};
    use MarketEventKind::{
        Delisting, DelistingWithdrawn, ListingPreview, PreviewConfirmed, PreviewWithdrawn, StealthListing,
        VolumeSpike,
    };
    // What is told, of which instrument, whether of a new asset, and whether a notice told of it.
    let rows = [
        (ListingPreview, Perpetual, true, false, "listing_preview QUOKUSDT perp 81"),
        (ListingPreview, Spot, true, true, "listing_preview QUOKUSDT spot 81"),
        (ListingPreview, Spot, false, false, ""),
        (StealthListing, Spot, true, false, "new_listing QUOKUSDT spot -"),
        (StealthListing, Perpetual, true, false, "futures_listing QUOKUSDT perp -"),
        (StealthListing, Dated, true, false, "futures_listing QUOKUSDT futures -"),
        (StealthListing, Spot, false, false, ""),
        (Delisting, Spot, false, false, "delisting QUOKUSDT spot -"),
        (Delisting, Dated, true, false, "delisting QUOKUSDT futures -"),
        (Delisting, Spot, false, true, ""),
        (VolumeSpike, Spot, false, false, "volume_spike QUOKUSDT spot -"),
        (PreviewConfirmed, Spot, true, true, ""),
        (PreviewWithdrawn, Spot, true, false, ""),
        (DelistingWithdrawn, Spot, true, false, ""),
    ];
    for (kind, instrument, new_asset, noticed, wanted) in rows {
        let told = MarketEvent { instrument, new_asset, noticed, ..market_event(kind) };
        let event = Event::of_market(&told, &key());
        let text = event.as_ref().map_or(String::new(), |e| {
            let score = e.ai_score.map_or("-".to_owned(), |score| score.to_string());
            format!("{} {} {} {score}", e.kind.name(), e.symbol, e.market.name())
        });
        assert_eq!(text, wanted, "{kind:?} {instrument:?} {new_asset} {noticed}");
        let Some(event) = event else { continue };
        assert_eq!((event.exchange, event.volume_24h_usd), (Some(Exchange::Okx), Some(12.5)));
        assert_eq!((event.timestamp, event.latency_ms, event.late), (told.detected, 5_250, false));
    }
    let long = MarketEvent { base: "Q".repeat(61), ..market_event(VolumeSpike) };
    assert_eq!(Event::of_market(&long, &key()), None, "no symbol has so many bytes");
}

#[test]
fn a_market_event_is_late_when_its_kind_is_no_news_any_more() {
    for (kind, seconds) in [
        (MarketEventKind::ListingPreview, 60),
        (MarketEventKind::VolumeSpike, 60),
        (MarketEventKind::StealthListing, 900),
        (MarketEventKind::Delisting, 900),
    ] {
        for (more_us, late) in [(0, false), (1, true)] {
            let mut told = market_event(kind);
            told.detected = WallUs(told.received.0 + seconds * 1_000_000 + more_us);
            let event = Event::of_market(&told, &key()).unwrap();
            assert_eq!(event.late, late, "{kind:?}");
        }
    }
    let unknown = MarketEvent { since: None, ..market_event(MarketEventKind::Delisting) };
    assert_eq!(Event::of_market(&unknown, &key()).unwrap().latency_ms, 250);
}

#[test]
fn a_market_event_repeated_after_a_crash_is_the_same() {
    let first = market_event(MarketEventKind::ListingPreview);
    let id = |told: &MarketEvent| Event::of_market(told, &key()).unwrap().id;
    let again = MarketEvent {
        state: "pre".into(),
        score: Some(3),
        since: None,
        received: WallUs(first.received.0 + 3_600_000_000),
        detected: WallUs(first.detected.0 + 3_600_000_000),
        ..first.clone()
    };
    assert_eq!(id(&again), id(&first));
    let next_day = MarketEvent { received: WallUs(first.received.0 + 86_400_000_000), ..first.clone() };
    assert_eq!(id(&next_day).identity(), id(&first).identity());
    assert_ne!(id(&next_day), id(&first));
    for other in [
        MarketEvent { occurrence: 2, ..first.clone() },
        MarketEvent { effective_at: None, ..first.clone() },
        MarketEvent { instrument: InstrumentKind::Spot, ..first.clone() },
        MarketEvent { symbol: "QUOK-USDT".into(), ..first.clone() },
    ] {
        assert_ne!(id(&other).identity(), id(&first).identity());
    }
}

#[test]
fn events_have_the_volume_of_their_asset_where_it_is_known() {
    let two = announcement(Exchange::Binance, "Binance Will List Quokka (QUOK) and Wombat (1000WOMB)");
    let table = crate::market::VolumeTable::sum([("WOMB", 7.0), ("WOMB", 0.5), ("OTHER", 1.0)]);
    let events = Event::with_volumes(&crate::wire::encode(two.clone()), &key(), |base| table.of(base));
    let volumes: Vec<_> = events.iter().map(|event| (&*event.symbol, event.volume_24h_usd)).collect();
    assert_eq!(volumes, [("QUOKUSDT", None), ("1000WOMBUSDT", Some(7.5))]);
    let plain = events.into_iter().map(|event| Event { volume_24h_usd: None, ..event }).collect::<Vec<_>>();
    assert_eq!(plain, Event::of(&two, &key()));
}
