//! Notices and markets together: what a notice told of is not told as found, and an announcement is followed by
//! what is known of its assets.

use std::time::Duration;

use tocsin_core::market::InstrumentKind;
use tocsin_core::model::Exchange;
use tocsin_sim::{Kind, Listing, Options};

use crate::harness::exchange::Exchange as Source;
use crate::harness::{Engine, Mode};
use crate::world::{
    DAY, World, after, asked_again, assert_stored, baselined, next, quote, request, subscriber,
};

/// A notice explains a pair, confirms a preview, and an asset of neither is told.
#[test]
fn a_listing_that_a_notice_told_of_is_not_told_as_found() {
    let world = World::of(&[Exchange::Okx]);
    let sim = world.market(Exchange::Okx);
    let engine = world.engine();
    let mut client = subscriber(&engine);
    let ahead = sim
        .add(Listing::ahead(InstrumentKind::Spot, "KENORO", &quote(sim), Some(after(DAY))))
        .unwrap();
    let symbol = sim.symbol(ahead).unwrap();
    assert_eq!(next(&mut client)["event"], "listing_preview");
    engine.inject("okx", "OKX to list KENORO (KENORO) for spot trading");
    let confirmed = next(&mut client);
    assert_eq!((&confirmed["event"], &confirmed["symbol"]), (&"preview_confirmed".into(), &symbol.clone().into()));
    assert_eq!(confirmed["noticed"], true, "{confirmed}");
    engine.inject("okx", "OKX to list VAROMI (VAROMI) for spot trading");
    sim.add(Listing::open(InstrumentKind::Spot, "VAROMI", &quote(sim))).unwrap();
    asked_again(&engine, 3);
    assert_stored(&engine, &[("listing_preview", &symbol), ("preview_confirmed", &symbol)]);
}

/// While notices are heard a new pair waits for one.
#[test]
fn a_pair_waits_for_its_notice_as_long_as_notices_are_heard() {
    let world = World::of(&[Exchange::Binance]);
    let sim = world.market(Exchange::Binance);
    let source = Source::start(Kind::Binance, Options::default());
    let engine = Engine::start(Mode::Plain, &(source.section() + &world.section()));
    baselined(&engine);
    source.baselined(&engine);
    let mut client = subscriber(&engine);
    let id = sim.add(Listing::open(InstrumentKind::Spot, "VAROMI", "USDT")).unwrap();
    let noticed = sim.add(Listing::open(InstrumentKind::Spot, "KENORO", "USDT")).unwrap();
    asked_again(&engine, 3);
    engine.inject("binance", "Binance Will List Kenoro (KENORO)");
    let told = next(&mut client);
    assert_eq!((&told["event"], &told["symbol"]), (&"stealth_listing".into(), &"VAROMIUSDT".into()), "{told}");
    assert_eq!(sim.symbol(id).unwrap(), "VAROMIUSDT");
    // Ten minutes at the default speed.
    let waited = told["detectedTimestampUs"].as_i64().unwrap() - told["effectiveAtUs"].as_i64().unwrap();
    assert!(waited >= 2_900_000, "{told}");
    client.nothing_of("market", Duration::from_secs(2));
    assert_eq!(sim.symbol(noticed).unwrap(), "KENOROUSDT");
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
    let mut plain = engine.connect(&engine.key(), "");
    let announced = engine.inject("upbit", "바로미(VAROMI) 신규 거래지원 안내 (KRW, BTC, USDT 마켓)");
    let announcement = client.json();
    assert_eq!((&announcement["type"], &announcement["id"]), (&"announcement".into(), &announced["id"]));
    let context = client.json_of("context");
    assert_eq!(context["id"], announced["id"], "{context}");
    let asset = &context["assets"][0];
    assert_eq!((&asset["ticker"], &asset["firstKorean"]), (&"VAROMI".into(), &true.into()), "{context}");
    assert_eq!(asset["volume24hUsd"].as_f64(), Some(5_000_000.0), "{context}");
    let market = &asset["markets"][0];
    assert_eq!((&market["exchange"], &market["symbol"]), (&"binance".into(), &"VAROMIUSDT".into()), "{context}");
    assert_eq!((&market["instrument"], &market["status"]), (&"perpetual".into(), &"open".into()), "{context}");
    // Who did not ask hears of the announcement alone.
    assert_eq!(plain.json_of("announcement")["id"], announced["id"]);
    plain.nothing_of("context", Duration::from_millis(300));
    plain.nothing_of("market", Duration::from_millis(300));
    assert!(request(&engine, "upbit.spot", "tickers")["volumes"].as_u64().unwrap() > 0);
}
