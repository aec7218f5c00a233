//! Each text against the specification's example, byte for byte but for white space.

use super::*;
use crate::model::{Action, Classification, Exchange, FeedPosition, Lang, ListingType, Market, Ticker};

pub(crate) fn tickers(symbols: &[&str]) -> Vec<Ticker> {
    symbols.iter().map(|s| Ticker::new(s).unwrap()).collect()
}

/// The specification's announcement.
pub(crate) fn example(title: &str, symbols: &[&str]) -> Announcement {
    Announcement {
        id: "binance:4711".to_owned(),
        position: FeedPosition { epoch: 3, seq: 12 },
        exchange: Exchange::Binance,
        title: title.to_owned(),
        classification: Classification {
            listing_type: ListingType::SpotListing,
            tickers: tickers(symbols),
            markets: Vec::new(),
            rule: "en.will_list",
            confidence: 98,
            lang: Lang::En,
        },
        action: Action::Created,
        late: false,
        url: "https://www.binance.com/en/support/announcement/4711".to_owned(),
        notice_id: "4711".to_owned(),
        source: "binance.cms".to_owned(),
        published: WallUs(1_710_345_000_000_000),
        received: WallUs(1_710_345_000_004_900),
        detected: WallUs(1_710_345_000_005_000),
        classified: WallUs(1_710_345_000_005_010),
        effective_at: None,
    }
}

/// One of the given position.
pub(crate) fn encoded_at(epoch: u64, seq: u64) -> std::sync::Arc<EncodedAnnouncement> {
    let mut announcement = example(&format!("Binance Will List TOKEN{seq} (TOKEN{seq})"), &["TOKEN"]);
    announcement.position = FeedPosition { epoch, seq };
    std::sync::Arc::new(encode(announcement))
}

fn stamped(payload: &Payload) -> String {
    let mut out = b"kept".to_vec();
    payload.write_stamped(&mut out, WallUs(1_710_345_000_006_000));
    String::from_utf8(out.split_off(4)).unwrap()
}

#[test]
fn basic_is_the_specification_s_example() {
    let one = encode(example("Binance Will List TOKEN (TOKEN)", &["TOKEN"]));
    assert_eq!(
        stamped(&one.basic),
        concat!(
            r#"{"type":"announcement","title":"Binance Will List TOKEN (TOKEN)","ticker":"TOKEN","#,
            r#""publisher":"binance","listingType":"spot_listing","publishTimestampUs":1710345000000000,"#,
            r#""detectedTimestampUs":1710345000005000,"dispatchTimestampUs":1710345000006000}"#
        )
    );
    let three = encode(example("Binance Will List ABC, DEF and GHI", &["ABC", "DEF", "GHI"]));
    assert_eq!(
        stamped(&three.basic),
        concat!(
            r#"{"type":"announcement","title":"Binance Will List ABC, DEF and GHI","ticker":"ABC,DEF,GHI","#,
            r#""publisher":"binance","listingType":"spot_listing","publishTimestampUs":1710345000000000,"#,
            r#""detectedTimestampUs":1710345000005000,"dispatchTimestampUs":1710345000006000}"#
        )
    );
}

#[test]
fn full_adds_and_changes_nothing() {
    let mut a = example("Binance Will List TOKEN (TOKEN)", &["TOKEN"]);
    a.classification.markets =
        vec![Market { base: Ticker::new("TOKEN").unwrap(), quote: Ticker::new("USDT").unwrap() }];
    a.effective_at = Some(WallUs(1_710_400_000_000_000));
    let encoded = encode(a);
    let (basic, full) = (stamped(&encoded.basic), stamped(&encoded.full));
    let basic_open = basic.strip_suffix('}').unwrap();
    assert_eq!(
        full.strip_prefix(basic_open).unwrap(),
        concat!(
            r#","id":"binance:4711","seq":12,"epoch":3,"tickers":["TOKEN"],"#,
            r#""markets":[{"base":"TOKEN","quote":"USDT"}],"#,
            r#""url":"https://www.binance.com/en/support/announcement/4711","noticeId":"4711","lang":"en","#,
            r#""action":"created","source":"binance.cms","confidence":0.98,"#,
            r#""effectiveAtUs":1710400000000000,"receivedTimestampUs":1710345000004900,"#,
            r#""classifiedTimestampUs":1710345000005010,"schemaVersion":1,"rule":"en.will_list"}"#
        )
    );
    serde_json::from_str::<serde_json::Value>(&full).unwrap();
}

#[test]
fn redacted_tells_that_and_where_but_not_what() {
    let mut a = example("Binance Will List SECRET (SECRET)", &["SECRET"]);
    a.classification.markets =
        vec![Market { base: Ticker::new("SECRET").unwrap(), quote: Ticker::new("USDT").unwrap() }];
    a.url = "https://example.test/binance-will-list-secret".to_owned();
    let encoded = encode(a);
    for payload in [&encoded.basic_redacted, &encoded.full_redacted] {
        let text = stamped(payload);
        assert!(!text.to_ascii_lowercase().contains("secret") && !text.contains("4711"), "{text}");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["title"], "");
        assert_eq!(value["ticker"], "");
        assert_eq!(value["publisher"], "binance");
        assert_eq!(value["dispatchTimestampUs"], 1_710_345_000_006_000_i64);
    }
}

#[test]
fn replayed_is_the_last_field_and_its_length_is_known() {
    let encoded = encode(example("A \"quoted\" title", &["A\"B", "C\\D"]));
    for payload in [&encoded.basic, &encoded.full, &encoded.basic_redacted, &encoded.full_redacted] {
        let mut out = Vec::new();
        payload.write_replayed(&mut out, WallUs(1_710_345_000_006_000));
        assert_eq!(out.len(), payload.replayed_len());
        let text = String::from_utf8(out).unwrap();
        assert!(text.ends_with(",\"replayed\":true}"));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["replayed"], true);
    }
    let value: serde_json::Value = serde_json::from_str(&stamped(&encoded.basic)).unwrap();
    assert_eq!(value["ticker"], "A\"B,C\\D");
    assert_eq!(value["title"], "A \"quoted\" title");
}

#[test]
fn what_is_marked_is_marked_once() {
    let mut encoded = encode(example("t", &["A"]));
    let basic = stamped(&encoded.basic);
    for _ in 0..2 {
        encoded.mark_replayed();
        for payload in [&encoded.full, &encoded.full_redacted] {
            let mut out = Vec::new();
            payload.write_replayed(&mut out, WallUs(1_710_345_000_006_000));
            assert_eq!(out.len(), payload.replayed_len());
            let text = String::from_utf8(out).unwrap();
            assert_eq!(text, stamped(payload));
            assert_eq!(text.matches("replayed").count(), 1);
            serde_json::from_str::<serde_json::Value>(&text).unwrap();
        }
    }
    assert_eq!(stamped(&encoded.basic), basic);
}

#[test]
fn confidence_is_a_fraction() {
    for (per_cent, text) in [(0, "0.00"), (7, "0.07"), (95, "0.95"), (100, "1"), (255, "1")] {
        let mut out = Vec::new();
        write_confidence(&mut out, per_cent);
        assert_eq!(String::from_utf8(out).unwrap(), text);
    }
}

#[test]
fn only_the_first_dispatch_is_kept() {
    let encoded = encode(example("t", &[]));
    assert_eq!(encoded.dispatched(), None);
    encoded.mark_dispatched(WallUs(5));
    encoded.mark_dispatched(WallUs(9));
    assert_eq!(encoded.dispatched(), Some(WallUs(5)));
}
