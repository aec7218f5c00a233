//! What a simulated exchange says is what the engine reads, at every step of an instrument's life.

use tocsin_core::limits;
use tocsin_core::market::{InstrumentKind, Trading};
use tocsin_core::model::Exchange;
use tocsin_core::time::WallUs;
use tocsin_sim::market::EXCHANGES;
use tocsin_sim::{Framing, Listing, MarketOptions, SimMarket};

use crate::reader::{check, main_kind, read_all, trading};

const SOON: WallUs = WallUs::from_secs(1_900_000_000);
const LATER: WallUs = WallUs::from_secs(1_900_086_400);

const KINDS: [InstrumentKind; 3] = InstrumentKind::ALL;

/// Opens one more now: a beginning that shows the others to be past.
fn open_another(sim: &SimMarket) {
    let quote = sim.shown()[0].listing.quote.clone();
    let id = sim.add(Listing::ahead(main_kind(sim.exchange()), "DUMIKA", &quote, None)).unwrap();
    sim.open(id).unwrap();
}

/// An instrument of each kind the exchange lists, from preview to removal.
fn live_and_die(exchange: Exchange) {
    let sim = SimMarket::start(exchange, MarketOptions::default()).unwrap();
    check(&sim, "at the start");
    let quote = sim.shown()[0].listing.quote.clone();
    let mut ids = Vec::new();
    for kind in KINDS {
        let mut listing = Listing::ahead(kind, "VAROMI", &quote, Some(SOON));
        if kind == InstrumentKind::Dated {
            listing.closes_at = Some(LATER);
        }
        ids.extend(sim.add(listing).ok());
        ids.extend(sim.add(Listing::ahead(kind, "KENORO", &quote, None)).ok());
    }
    assert!(!ids.is_empty());
    check(&sim, "ahead of the opening");
    ids.iter().for_each(|id| sim.set_opening(*id, Some(LATER)).unwrap());
    check(&sim, "postponed");
    for id in &ids {
        sim.open(*id).unwrap();
        sim.set_volume(*id, 123_456.75, 0.5).unwrap();
    }
    check(&sim, "open");
    ids.iter().for_each(|id| sim.set_end(*id, Some(LATER)).unwrap());
    check(&sim, "with an end");
    open_another(&sim);
    ids.iter().for_each(|id| sim.halt(*id).unwrap());
    check(&sim, "halted");
    ids.iter().for_each(|id| sim.delist(*id).unwrap());
    check(&sim, "over");
    ids.iter().for_each(|id| sim.remove(*id).unwrap());
    check(&sim, "removed");
    assert!(ids.iter().all(|id| sim.remove(*id).is_err()));
}

#[test]
fn every_exchange_is_read_as_it_is() {
    for exchange in EXCHANGES {
        live_and_die(exchange);
    }
}

/// (exchange, kind, ahead, halted, over): what there is to learn of an instrument at all.
type Says = (Exchange, InstrumentKind, Option<Trading>, Option<Trading>, Option<Trading>);

#[test]
fn previews_and_ends_show_where_the_exchange_tells_them() {
    use InstrumentKind::{Perpetual, Spot};
    use Trading::{Ahead, Halted, Open, Over};
    const SAYS: [Says; 16] = [
        (Exchange::Binance, Spot, None, Some(Halted), Some(Halted)),
        (Exchange::Binance, Perpetual, Some(Ahead), Some(Halted), Some(Over)),
        (Exchange::Okx, Spot, Some(Ahead), Some(Halted), None),
        (Exchange::Okx, Perpetual, Some(Ahead), Some(Halted), None),
        (Exchange::Bybit, Spot, Some(Ahead), None, None),
        (Exchange::Bybit, Perpetual, Some(Ahead), None, None),
        (Exchange::Gate, Spot, Some(Ahead), Some(Halted), Some(Over)),
        (Exchange::Gate, Perpetual, Some(Ahead), Some(Halted), Some(Over)),
        (Exchange::Kucoin, Spot, Some(Ahead), Some(Halted), None),
        (Exchange::Bitget, Spot, Some(Halted), Some(Halted), Some(Over)),
        (Exchange::Bitget, Perpetual, Some(Ahead), Some(Halted), Some(Over)),
        (Exchange::Htx, Spot, Some(Ahead), Some(Halted), Some(Over)),
        (Exchange::Upbit, Spot, None, Some(Open), None),
        (Exchange::Coinbase, Spot, Some(Ahead), Some(Halted), Some(Over)),
        (Exchange::Kraken, Spot, Some(Ahead), Some(Halted), Some(Over)),
        (Exchange::Hyperliquid, Perpetual, None, Some(Open), Some(Over)),
    ];
    for (exchange, kind, ahead, halted, over) in SAYS {
        let sim = SimMarket::start(exchange, MarketOptions::plain()).unwrap();
        let quote = sim.shown()[0].listing.quote.clone();
        let id = sim.add(Listing::ahead(kind, "VAROMI", &quote, Some(SOON))).unwrap();
        let symbol = sim.symbol(id).unwrap();
        let now = || trading(&sim, &symbol, kind);
        assert_eq!(now(), ahead, "{exchange:?} {kind:?} ahead");
        sim.open(id).unwrap();
        assert_eq!(now(), Some(Open), "{exchange:?} {kind:?} open");
        open_another(&sim);
        sim.halt(id).unwrap();
        assert_eq!(now(), halted, "{exchange:?} {kind:?} halted");
        sim.delist(id).unwrap();
        assert_eq!(now(), over, "{exchange:?} {kind:?} over");
    }
}

/// Without a clock nothing in the answer tells this from a beginning ahead; whoever has a clock sees that the
/// time is past.
#[test]
fn the_newest_of_all_that_stops_again_looks_ahead_of_a_time_that_is_past() {
    for exchange in [Exchange::Gate, Exchange::Kucoin, Exchange::Coinbase] {
        let sim = SimMarket::start(exchange, MarketOptions::plain()).unwrap();
        let quote = sim.shown()[0].listing.quote.clone();
        let began = WallUs::from_secs(1_790_000_000);
        let listing =
            Listing { opens_at: Some(began), ..Listing::open(InstrumentKind::Spot, "VAROMI", &quote) };
        let id = sim.add(listing).unwrap();
        sim.halt(id).unwrap();
        let symbol = sim.symbol(id).unwrap();
        let read = read_all(&sim).instruments;
        let read = read.iter().find(|shown| shown.symbol == symbol).unwrap();
        assert_eq!((read.listing.trading, read.listing.opens_at), (Trading::Ahead, Some(began)));
    }
}

#[test]
fn bodies_in_chunks_and_large_markets_are_read() {
    for exchange in EXCHANGES {
        let options =
            MarketOptions { instruments: 900, framing: Framing::Chunked(4_096), ..MarketOptions::plain() };
        check(&SimMarket::start(exchange, options).unwrap(), "900 of each kind");
    }
}

#[test]
fn the_same_seed_is_the_same_market() {
    let shown = |seed| {
        let options = MarketOptions { seed, ..MarketOptions::plain() };
        SimMarket::start(Exchange::Okx, options).unwrap().shown()
    };
    assert_eq!(shown(5), shown(5));
    assert_ne!(shown(5), shown(6));
}

#[test]
fn a_full_page_of_bybit_says_that_there_is_more() {
    let options = MarketOptions { instruments: 1_001, ..MarketOptions::plain() };
    let sim = SimMarket::start(Exchange::Bybit, options).unwrap();
    let beyond: usize = read_all(&sim).parsed.iter().map(|(_, p)| p.unwrap().beyond_limit).sum();
    assert_eq!(beyond, 1);
}

#[test]
fn what_an_exchange_does_not_list_is_refused() {
    let sim = SimMarket::start(Exchange::Upbit, MarketOptions::plain()).unwrap();
    assert!(sim.add(Listing::open(InstrumentKind::Perpetual, "VAROMI", "KRW")).is_err());
    let sim = SimMarket::start(Exchange::Okx, MarketOptions::plain()).unwrap();
    assert!(sim.add(Listing::open(InstrumentKind::Dated, "VAROMI", "USD")).is_err(), "without an end");
    assert!(SimMarket::start(Exchange::Coinone, MarketOptions::plain()).is_err());
}

#[test]
fn a_spike_shows_in_the_next_answer() {
    for exchange in EXCHANGES {
        let sim = SimMarket::start(exchange, MarketOptions::plain()).unwrap();
        let quote = sim.shown()[0].listing.quote.clone();
        let id = sim.add(Listing::open(main_kind(exchange), "VAROMI", &quote)).unwrap();
        let symbol = sim.symbol(id).unwrap();
        let volume = || {
            let found = read_all(&sim).volumes.into_iter().find(|(name, ..)| *name == symbol);
            found.map(|(_, quote_24h, _)| quote_24h.round())
        };
        assert_eq!(volume(), Some(1_000_000.0), "{exchange:?}");
        sim.set_volume(id, 44_000_000.0, 3.0).unwrap();
        assert_eq!(volume(), Some(44_000_000.0), "{exchange:?}");
    }
}

#[test]
fn names_of_any_script_and_of_the_longest_kind_are_read() {
    let sim = SimMarket::start(Exchange::Gate, MarketOptions::plain()).unwrap();
    let longest = "X".repeat(limits::SYMBOL_BYTES - "_USDT".len());
    for base in ["币安人生", "D", "1000000BOB", &longest] {
        sim.add(Listing::open(InstrumentKind::Spot, base, "USDT")).unwrap();
    }
    check(&sim, "odd names");
    sim.add(Listing::open(InstrumentKind::Spot, &format!("{longest}X"), "USDT")).unwrap();
    let skipped: usize = read_all(&sim).parsed.iter().map(|(_, p)| p.unwrap().skipped).sum();
    assert_eq!(skipped, 2, "one row of instruments and one of volumes");
}
