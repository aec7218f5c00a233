//! Market events and contexts at subscribers who asked for them.

use std::time::Duration;

use tocsin_core::market::InstrumentKind;
use tocsin_core::model::Exchange;
use tocsin_sim::Listing;

use crate::harness::{Client, Engine};
use crate::world::{DAY, World, after, asked_again, quote, request};

/// A subscriber to market events and contexts.
fn subscriber(engine: &Engine) -> Client {
    engine.connect(&engine.key(), "fields=full&events=market&context=1")
}

#[test]
fn an_event_comes_to_those_who_asked_and_whose_filter_lets_it() {
    let world = World::of(&[Exchange::Okx]);
    let sim = world.market(Exchange::Okx);
    let engine = world.engine();
    let key = engine.key();
    let mut asked = subscriber(&engine);
    let mut same = engine.connect(&key, "events=market&cex=okx&tickers=VAROMI");
    let mut others = [
        engine.connect(&key, ""),
        engine.connect(&key, "context=1"),
        engine.connect(&key, "events=market&cex=upbit"),
        engine.connect(&key, "events=market&tickers=OTHER"),
    ];
    let at = after(DAY);
    sim.add(Listing::ahead(InstrumentKind::Perpetual, "VAROMI", &quote(sim), Some(at))).unwrap();
    let event = asked.json_of("market");
    let told = [&event["event"], &event["publisher"], &event["symbol"], &event["base"], &event["instrument"]];
    assert_eq!(told, ["listing_preview", "okx", "VAROMI-USDT-SWAP", "VAROMI", "perpetual"], "{event}");
    assert_eq!(
        (event["effectiveAtUs"].as_i64(), &event["schemaVersion"]),
        (Some(at.0), &1.into()),
        "{event}"
    );
    let us = |name: &str| event[name].as_i64().unwrap();
    assert!(us("receivedTimestampUs") <= us("detectedTimestampUs"), "{event}");
    assert!(us("detectedTimestampUs") <= us("dispatchTimestampUs"), "{event}");
    assert_eq!(same.json_of("market")["id"], event["id"]);
    for other in &mut others {
        other.nothing_of("market", Duration::from_millis(200));
    }
}

#[test]
fn an_announcement_is_followed_by_what_is_known_of_its_assets() {
    let world = World::of(&[Exchange::Binance, Exchange::Upbit, Exchange::Bithumb]);
    let engine = world.engine();
    let market = world.market(Exchange::Binance);
    let traded = Listing::open(InstrumentKind::Perpetual, "VAROMI", "USDT");
    let id = market.add(traded).unwrap();
    market.set_volume(id, 5_000_000.0, 2.0).unwrap();
    asked_again(&engine, 2);
    let mut client = subscriber(&engine);
    let mut plain = engine.connect(&engine.key(), "fields=full");
    let announced = engine.inject("upbit", "바로미(VAROMI) 신규 거래지원 안내 (KRW, BTC, USDT 마켓)");
    let announcement = client.json();
    assert_eq!((&announcement["type"], &announcement["id"]), (&"announcement".into(), &announced["id"]));
    let context = client.json_of("context");
    assert_eq!(context["id"], announced["id"], "{context}");
    let asset = &context["assets"][0];
    assert_eq!((&asset["ticker"], &asset["firstKorean"]), (&"VAROMI".into(), &true.into()), "{context}");
    assert_eq!(asset["volume24hUsd"].as_f64(), Some(5_000_000.0), "{context}");
    let market = &asset["markets"][0];
    assert_eq!(
        (&market["exchange"], &market["symbol"]),
        (&"binance".into(), &"VAROMIUSDT".into()),
        "{context}"
    );
    assert_eq!(
        (&market["instrument"], &market["status"]),
        (&"perpetual".into(), &"open".into()),
        "{context}"
    );
    // Who did not ask hears of the announcement alone.
    assert_eq!(plain.json_of("announcement")["id"], announced["id"]);
    plain.nothing_of("context", Duration::from_millis(300));
    plain.nothing_of("market", Duration::from_millis(300));
    assert!(request(&engine, "upbit.spot", "tickers")["volumes"].as_u64().unwrap() > 0);
}
