//! Market events as webhooks: signed deliveries of the types customers know, each once.

use serde_json::Value;
use tocsin_core::market::InstrumentKind;
use tocsin_core::model::Exchange;
use tocsin_sim::Listing;
use tocsin_sim::receiver::ReceiverOptions;

use crate::harness::shop::Shop;
use crate::harness::wait_for;
use crate::world::{DAY, World, after, asked_again, baselined, quote};

/// The next delivery that is no ping, its signature checked.
fn delivery(shop: &Shop) -> Value {
    let mut came = None;
    wait_for("a delivery", || {
        let mut received = shop.receiver.take().into_iter();
        came = received.find(|received| received.event_type().as_deref() != Some("ping"));
        came.is_some()
    });
    let received = came.unwrap();
    assert!(shop.receiver.verdict(&received).is_valid(), "{:?}", shop.receiver.verdict(&received));
    received.json().unwrap()
}

#[test]
fn a_preview_its_opening_and_its_end_are_delivered_once_each() {
    let world = World::of(&[Exchange::Okx, Exchange::Upbit]);
    let sim = world.market(Exchange::Okx);
    let mut shop = Shop::open_with(ReceiverOptions::default(), &world.section());
    let account = shop.account();
    let endpoint = shop.add(&account, "/hook");
    shop.receiver.know(&[&endpoint.secret]).unwrap();
    baselined(&shop.engine);
    let _ = shop.receiver.take();

    let id =
        sim.add(Listing::ahead(InstrumentKind::Perpetual, "VAROMI", &quote(sim), Some(after(DAY)))).unwrap();
    let preview = delivery(&shop);
    assert_eq!(preview["type"], "listing_preview", "{preview}");
    assert_eq!(
        (&preview["symbol"], &preview["exchange"]),
        (&"VAROMIUSDT".into(), &"OKX".into()),
        "{preview}"
    );
    assert!(preview["ai_score"].as_u64().is_some_and(|score| score <= 100), "{preview}");

    // What is confirmed is the feed's alone; a new pair that nobody told of is a new listing.
    sim.open(id).unwrap();
    let upbit = world.market(Exchange::Upbit);
    upbit.add(Listing::open(InstrumentKind::Spot, "KENORO", "KRW")).unwrap();
    let stealth = delivery(&shop);
    assert_eq!(
        (&stealth["type"], &stealth["symbol"]),
        (&"new_listing".into(), &"KENOROKRW".into()),
        "{stealth}"
    );

    sim.set_end(id, Some(after(2 * DAY))).unwrap();
    let delisting = delivery(&shop);
    assert_eq!(
        (&delisting["type"], &delisting["symbol"]),
        (&"delisting".into(), &"VAROMIUSDT".into()),
        "{delisting}"
    );

    // A restart sends nothing again.
    wait_for("the events on disk", || shop.all_events(&account).len() == 3);
    assert_eq!(shop.engine.stop(), Some(0));
    shop.engine.start_again();
    baselined(&shop.engine);
    asked_again(&shop.engine, 3);
    let again: Vec<_> =
        shop.receiver.take().into_iter().filter_map(|received| received.event_type()).collect();
    assert!(again.iter().all(|kind| kind == "ping"), "{again:?}");
    assert_eq!(shop.all_events(&account).len(), 3);
}
