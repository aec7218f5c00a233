//! Notices and markets together: what a notice told of is not told as found.

use tocsin_core::market::InstrumentKind;
use tocsin_core::model::Exchange;
use tocsin_sim::{Kind, Listing, Options};

use crate::harness::exchange::Exchange as Source;
use crate::harness::{Engine, Mode};
use crate::world::{
    DAY, Told, World, after, asked_again, assert_stored, baselined, quote,
};

/// A notice explains a pair, confirms a preview, and an asset of neither is told.
#[test]
fn a_listing_that_a_notice_told_of_is_not_told_as_found() {
    let world = World::of(&[Exchange::Okx]);
    let sim = world.market(Exchange::Okx);
    let engine = world.engine();
    let mut told = Told::of(&engine);
    let ahead = sim
        .add(Listing::ahead(InstrumentKind::Spot, "KENORO", &quote(sim), Some(after(DAY))))
        .unwrap();
    let symbol = sim.symbol(ahead).unwrap();
    assert_eq!(told.next()["event"], "listing_preview");
    engine.inject("okx", "OKX to list KENORO (KENORO) for spot trading");
    let confirmed = told.next();
    assert_eq!((&confirmed["event"], &confirmed["symbol"]), (&"preview_confirmed".into(), &symbol.clone().into()));
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
    let id = sim.add(Listing::open(InstrumentKind::Spot, "VAROMI", "USDT")).unwrap();
    let noticed = sim.add(Listing::open(InstrumentKind::Spot, "KENORO", "USDT")).unwrap();
    asked_again(&engine, 3);
    engine.inject("binance", "Binance Will List Kenoro (KENORO)");
    let told = Told::of(&engine).next();
    assert_eq!((&told["event"], &told["symbol"]), (&"stealth_listing".into(), &"VAROMIUSDT".into()), "{told}");
    assert_eq!(sim.symbol(id).unwrap(), "VAROMIUSDT");
    // Ten minutes at the default speed.
    let waited = told["detectedUs"].as_i64().unwrap() - told["effectiveAtUs"].as_i64().unwrap();
    assert!(waited >= 2_900_000, "{told}");
    // The other's wait is over as well, and it had its notice.
    asked_again(&engine, 10);
    assert_eq!(sim.symbol(noticed).unwrap(), "KENOROUSDT");
    assert_stored(&engine, &[("stealth_listing", "VAROMIUSDT")]);
}
