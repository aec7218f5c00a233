//! A restart neither repeats nor loses what markets tell.

use tocsin_core::market::InstrumentKind;
use tocsin_core::model::Exchange;
use tocsin_sim::{Listing, SimMarket};

use crate::harness::Engine;
use crate::world::{DAY, Told, World, after, asked_again, assert_stored, baselined, quote, stored};

fn ahead(sim: &SimMarket, base: &str) -> (tocsin_sim::InstrumentId, String) {
    let listing = Listing::ahead(InstrumentKind::Spot, base, &quote(sim), Some(after(DAY)));
    let id = sim.add(listing).unwrap();
    (id, sim.symbol(id).unwrap())
}

/// Tells one preview, ends as `end` does it, and starts again with one opened and one new in between.
fn over_a_restart(end: fn(&mut Engine)) {
    let world = World::of(&[Exchange::Okx]);
    let sim = world.market(Exchange::Okx);
    let mut engine = world.engine();
    let (id, first) = ahead(sim, "VAROMI");
    assert_eq!(Told::of(&engine).next()["symbol"], *first);
    end(&mut engine);
    sim.open(id).unwrap();
    let (_, second) = ahead(sim, "KENORO");
    engine.start_again();
    baselined(&engine);
    asked_again(&engine, 3);
    let mut told = stored(&engine);
    told.sort_unstable();
    let expected = [("listing_preview", &second), ("listing_preview", &first), ("preview_confirmed", &first)];
    assert_eq!(told, expected.map(|(event, symbol)| (event.to_owned(), symbol.clone())));
}

#[test]
fn a_stop_repeats_nothing_and_what_came_meanwhile_is_told() {
    over_a_restart(|engine| assert_eq!(engine.stop(), Some(0)));
}

#[test]
fn a_kill_right_after_an_event_leaves_it_once() {
    over_a_restart(Engine::kill);
}

/// An answer that has told nothing is a baseline once for ever.
#[test]
fn a_pair_that_opened_while_the_engine_was_down_is_told() {
    let world = World::of(&[Exchange::Kraken]);
    let sim = world.market(Exchange::Kraken);
    let mut engine = world.engine();
    // The baseline is on disk.
    assert_eq!(engine.stop(), Some(0));
    let id = sim.add(Listing::open(InstrumentKind::Spot, "VAROMI", &quote(sim))).unwrap();
    engine.start_again();
    assert_stored(&engine, &[("stealth_listing", &sim.symbol(id).unwrap())]);
}

/// As a death between the two leaves it: the event is on disk, what it said of its instrument is not.
#[test]
fn an_event_on_disk_is_not_told_again_though_its_instrument_is_not() {
    let world = World::of(&[Exchange::Okx]);
    let sim = world.market(Exchange::Okx);
    let mut engine = world.engine();
    let (_, first) = ahead(sim, "VAROMI");
    assert_eq!(Told::of(&engine).next()["symbol"], *first);
    assert_eq!(engine.stop(), Some(0));
    let database = rusqlite::Connection::open(engine.data_dir().join("tocsin.db")).unwrap();
    let forgotten = database.execute("DELETE FROM market_instruments WHERE symbol = ?1", [&first]).unwrap();
    assert_eq!(forgotten, 1);
    drop(database);
    let (_, second) = ahead(sim, "KENORO");
    engine.start_again();
    assert_stored(&engine, &[("listing_preview", &first), ("listing_preview", &second)]);
    asked_again(&engine, 3);
    let metrics = engine.admin_raw("GET", "/metrics", "", "").2;
    let previews = "tocsin_market_events_total{event=\"listing_preview\"} ";
    let line = metrics.lines().find_map(|line| line.strip_prefix(previews));
    assert_eq!(line, Some("1"), "told since the start");
}
