//! Messages byte for byte, what they are compared with, and their bound.

use proptest::prelude::*;

use super::*;
use crate::market::{InstrumentKind, MarketEventKind, Trading};
use crate::model::{Action, Exchange, ListingType};
use crate::time::WallUs;
use crate::wire::STAMP_DIGITS;
use crate::wire::tests::example;

fn event() -> MarketEvent {
    MarketEvent {
        kind: MarketEventKind::ListingPreview,
        exchange: Exchange::Okx,
        source: "okx.instruments",
        symbol: "1000ABC-USDT-SWAP".into(),
        base: "1000ABC".into(),
        quote: "USDT".into(),
        instrument: InstrumentKind::Perpetual,
        state: "pre\"open".into(),
        occurrence: 2,
        new_asset: true,
        noticed: false,
        effective_at: Some(WallUs::from_secs(86_400 * 20_705)),
        volume_24h: None,
        ratio: None,
        score: Some(81),
        since: Some(WallUs(1_788_480_000_000_000)),
        received: WallUs(1_788_480_002_000_000),
        detected: WallUs(1_788_480_002_000_300),
    }
}

fn market(symbol: &str, volume_24h_usd: Option<f64>) -> AssetMarket {
    AssetMarket {
        exchange: Exchange::Gate,
        symbol: symbol.into(),
        instrument: InstrumentKind::Spot,
        quote: "USDT".into(),
        trading: Trading::Open,
        volume_24h_usd,
    }
}

fn asset(ticker: &str, markets: Vec<AssetMarket>) -> AssetContext {
    let ticker = Ticker::new(ticker).unwrap();
    AssetContext { ticker, markets, first_korean: Some(true), volume_24h_usd: Some(1_234_567.891) }
}

fn stamped(extra: &Extra) -> String {
    let mut out = Vec::new();
    extra.payload.write_stamped(&mut out, WallUs(1_788_480_002_000_900));
    String::from_utf8(out).unwrap()
}

fn names(extra: &Extra) -> Vec<&str> {
    extra.tickers.iter().map(Ticker::as_str).collect()
}

#[test]
fn an_event_has_all_it_tells_and_null_for_what_is_not_known() {
    let preview = encode_event(&event());
    assert_eq!(
        stamped(&preview),
        concat!(
            r#"{"type":"market","event":"listing_preview","#,
            r#""id":"okx:perpetual:1000ABC-USDT-SWAP:listing_preview:2:20705","publisher":"okx","#,
            r#""symbol":"1000ABC-USDT-SWAP","base":"1000ABC","quote":"USDT","instrument":"perpetual","#,
            r#""state":"pre\"open","source":"okx.instruments","newAsset":true,"noticed":false,"#,
            r#""effectiveAtUs":1788912000000000,"volume24hUsd":null,"ratio":null,"score":81,"#,
            r#""sinceUs":1788480000000000,"receivedTimestampUs":1788480002000000,"#,
            r#""detectedTimestampUs":1788480002000300,"dispatchTimestampUs":1788480002000900,"#,
            r#""schemaVersion":1}"#
        )
    );
    assert_eq!((preview.kind, preview.exchange), (ExtraKind::Market, Exchange::Okx));
    assert_eq!((preview.listing_type, preview.is_news), (None, true));
    assert_eq!(names(&preview), ["1000ABC", "ABC"], "found by either name");

    let spike = MarketEvent {
        kind: MarketEventKind::VolumeSpike,
        base: "ABC".into(),
        effective_at: None,
        volume_24h: Some(2_847_392.5),
        ratio: Some(7.126),
        score: None,
        since: None,
        ..event()
    };
    let text = stamped(&encode_event(&spike));
    let end = r#""effectiveAtUs":null,"volume24hUsd":2847392.50,"ratio":7.13,"score":null,"sinceUs":null,"#;
    assert!(text.contains(end), "{text}");
    assert_eq!(names(&encode_event(&spike)), ["ABC"]);
}

#[test]
fn a_number_that_is_none_and_a_name_that_is_no_ticker_are_left_out() {
    for none in [f64::NAN, f64::INFINITY, -1.0, 1e300] {
        let odd = MarketEvent { volume_24h: Some(none), ratio: Some(none), base: "A,B".into(), ..event() };
        let extra = encode_event(&odd);
        assert!(stamped(&extra).contains(r#""volume24hUsd":null,"ratio":null"#));
        assert!(extra.tickers.is_empty());
    }
    let zero = MarketEvent { volume_24h: Some(-0.0), score: Some(200), ..event() };
    assert!(stamped(&encode_event(&zero)).contains(r#""volume24hUsd":0.00,"ratio":null,"score":100"#));
}

#[test]
fn a_context_names_its_announcement_and_each_asset() {
    let mut announcement = example("Binance Will List TOKEN (TOKEN) and OTHER (OTHER)", &["TOKEN", "OTHER"]);
    let context = Context {
        assets: vec![
            asset("TOKEN", vec![market("TOKEN_USDT", Some(12.5)), market("TOKEN_BTC", None)]),
            AssetContext { first_korean: None, volume_24h_usd: None, ..asset("OTHER", Vec::new()) },
        ],
    };
    let extra = encode_context(&announcement, &context);
    assert_eq!(
        stamped(&extra),
        concat!(
            r#"{"type":"context","id":"binance:4711","seq":12,"epoch":3,"publisher":"binance","assets":["#,
            r#"{"ticker":"TOKEN","firstKorean":true,"volume24hUsd":1234567.89,"markets":["#,
            r#"{"exchange":"gate","symbol":"TOKEN_USDT","instrument":"spot","quote":"USDT","status":"open","#,
            r#""volume24hUsd":12.50},"#,
            r#"{"exchange":"gate","symbol":"TOKEN_BTC","instrument":"spot","quote":"USDT","status":"open","#,
            r#""volume24hUsd":null}]},"#,
            r#"{"ticker":"OTHER","firstKorean":null,"volume24hUsd":null,"markets":[]}],"#,
            r#""detectedTimestampUs":1710345000005000,"dispatchTimestampUs":1788480002000900,"#,
            r#""schemaVersion":1}"#
        )
    );
    assert_eq!((extra.kind, extra.exchange), (ExtraKind::Context, Exchange::Binance));
    assert_eq!(extra.listing_type, Some(ListingType::SpotListing));
    assert_eq!((names(&extra), extra.is_news), (vec!["TOKEN", "OTHER"], true));
    announcement.action = Action::Updated;
    assert!(!encode_context(&announcement, &context).is_news);
}

proptest! {
    /// However many markets, and whatever their names: whole, within its bound, an equal share for each
    /// asset, the first markets of each.
    #[test]
    fn a_context_is_cut_at_its_bound_and_stays_json(
        assets in prop::collection::vec((r#"[A-Z"\\]{1,32}"#, 0_usize..90, r#"[A-Z"\\]{1,64}"#), 0..40),
    ) {
        let announcement = example("Binance Will List TOKEN (TOKEN)", &["TOKEN"]);
        let context = Context {
            assets: assets
                .iter()
                .map(|(ticker, count, symbol)| asset(ticker, vec![market(symbol, Some(9e14)); *count]))
                .collect(),
        };
        let extra = encode_context(&announcement, &context);
        let text = stamped(&extra);
        prop_assert!(text.len() <= limits::EXTRA_BYTES + 512, "{}", text.len());
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        let written = read["assets"].as_array().unwrap();
        prop_assert_eq!(written.len(), assets.len().min(limits::TICKERS_PER_ANNOUNCEMENT));
        for (written, (ticker, count, _)) in written.iter().zip(&assets) {
            prop_assert_eq!(written["ticker"].as_str().unwrap(), ticker);
            let markets = written["markets"].as_array().unwrap().len();
            prop_assert!(markets <= *count && (assets.len() > 10 || markets >= (*count).min(2)));
        }
    }

    /// The stamp is where it is said to be, whatever stands before it.
    #[test]
    fn the_stamp_is_found(state in any::<String>(), at in 1_000_000_000_000_000_i64..9_000_000_000_000_000) {
        let extra = encode_event(&MarketEvent { state, detected: WallUs(at), ..event() });
        let from = extra.payload.dispatch_at as usize;
        let digits = core::str::from_utf8(&extra.payload.json[from..from + STAMP_DIGITS]).unwrap();
        prop_assert_eq!(digits, at.to_string());
        prop_assert!(serde_json::from_str::<serde_json::Value>(&stamped(&extra)).is_ok());
    }
}
