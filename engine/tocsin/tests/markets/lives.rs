//! The life of an instrument at each exchange, as that exchange shows it: ahead, open, with an end, over.

use std::time::Duration;

use serde_json::Value;
use tocsin_core::market::{InstrumentKind, Trading};
use tocsin_core::model::Exchange;
use tocsin_sim::{InstrumentId, Listing, SimMarket};

use crate::harness::Engine;
use crate::world::{DAY, Told, World, after, asked_again, assert_stored, quote, shown};

/// One instrument, and what has been told of it.
struct Life<'a> {
    sim: &'a SimMarket,
    engine: &'a Engine,
    events: Told<'a>,
    id: InstrumentId,
    symbol: String,
    kind: InstrumentKind,
    told: Vec<(&'static str, String)>,
}

impl Life<'_> {
    /// What a reader of the exchange's lists can learn of it now.
    fn shown(&self) -> Option<Listing> {
        shown(self.sim, &self.symbol, self.kind).map(|shown| shown.listing)
    }

    /// The next event is this one.
    fn tells(&mut self, event: &'static str) -> Value {
        let told = self.events.next();
        assert_eq!(
            (told["event"].as_str(), told["symbol"].as_str()),
            (Some(event), Some(&*self.symbol)),
            "{told}"
        );
        assert_eq!(told["publisher"], self.sim.exchange().name());
        assert_eq!(told["instrument"], self.kind.name());
        self.told.push((event, self.symbol.clone()));
        told
    }

    fn begins(&mut self) {
        // By its state, or stopped with a beginning that is to come.
        let comes = |listing: &Listing| match listing.trading {
            Trading::Ahead => true,
            Trading::Halted => listing.opens_at.is_some_and(|at| at > after(Duration::ZERO)),
            Trading::Open | Trading::Over => false,
        };
        let ahead = self.shown().filter(comes);
        if let Some(listing) = &ahead {
            let preview = self.tells("listing_preview");
            let at = listing.opens_at.map(|at| at.0);
            assert_eq!(preview["effectiveAtUs"].as_i64(), at, "{preview}");
            assert_eq!(preview["newAsset"], true, "{preview}");
            assert!(preview["score"].as_u64().is_some(), "{preview}");
        } else {
            asked_again(self.engine, 2);
        }
        self.sim.open(self.id).unwrap();
        self.sim.set_volume(self.id, 250_000.0, 2.0).unwrap();
        match ahead {
            Some(_) => drop(self.tells("preview_confirmed")),
            None => drop(self.tells("stealth_listing")),
        }
        asked_again(self.engine, 2);
    }

    fn ends(&mut self) {
        let end = after(2 * DAY);
        self.sim.set_end(self.id, Some(end)).unwrap();
        let announced = self.shown().is_some_and(|listing| listing.closes_at.is_some());
        if announced {
            let delisting = self.tells("delisting");
            assert_eq!(delisting["effectiveAtUs"].as_i64(), Some(end.0), "{delisting}");
        } else {
            asked_again(self.engine, 2);
        }
        self.sim.delist(self.id).unwrap();
        let over = self.shown().is_none_or(|listing| listing.trading == Trading::Over);
        if over && !announced {
            self.tells("delisting");
        }
        // In silence: it was told, or looks like a halt.
        asked_again(self.engine, 4);
    }
}

/// Every kind of market the exchange has, one after another.
fn lives(exchange: Exchange) {
    let world = World::of(&[exchange]);
    let sim = world.market(exchange);
    let engine = world.engine();
    let (mut told, mut events) = (Vec::new(), Told::of(&engine));
    for kind in [InstrumentKind::Spot, InstrumentKind::Perpetual] {
        let listing = Listing::ahead(kind, "VAROMI", &quote(sim), Some(after(DAY)));
        let Ok(id) = sim.add(listing) else { continue };
        let symbol = sim.symbol(id).unwrap();
        let mut life = Life { sim, engine: &engine, events, id, symbol, kind, told: Vec::new() };
        life.begins();
        life.ends();
        told.append(&mut life.told);
        events = life.events;
    }
    assert!(told.len() >= 2, "{told:?}");
    // What a row does not say changes nothing.
    sim.empty_numbers(true);
    asked_again(&engine, 3);
    let told: Vec<(&str, &str)> = told.iter().map(|(event, symbol)| (*event, symbol.as_str())).collect();
    assert_stored(&engine, &told);
}

/// Makes a test of each exchange.
macro_rules! every_exchange {
    ($($name:ident: $exchange:ident),* $(,)?) => {
        $(#[test] fn $name() { lives(Exchange::$exchange); })*
        #[test]
        fn every_simulated_market_has_its_test() {
            let tested = [$(Exchange::$exchange),*];
            assert!(tocsin_sim::market::EXCHANGES.iter().all(|exchange| tested.contains(exchange)));
        }
    };
}

every_exchange! {
    binance: Binance,
    okx: Okx,
    bybit: Bybit,
    gate: Gate,
    kucoin: Kucoin,
    bitget: Bitget,
    htx: Htx,
    upbit: Upbit,
    bithumb: Bithumb,
    coinbase: Coinbase,
    kraken: Kraken,
    hyperliquid: Hyperliquid,
}
