//! The simulated markets watched by the engine's watchers: an instrument's story as it is told.

use std::time::{SystemTime, UNIX_EPOCH};

use tocsin_core::limits;
use tocsin_core::market::MarketEventKind::{Delisting, ListingPreview, PreviewConfirmed, StealthListing};
use tocsin_core::market::register::Hearing;
use tocsin_core::market::spike::{SLOT, SpikeRules};
use tocsin_core::market::watcher::{Told, Watcher, WatcherRules};
use tocsin_core::market::{InstrumentKind, MarketEvent, MarketEventKind, MarketSpec, Tells};
use tocsin_core::model::Exchange;
use tocsin_core::source::Scratch;
use tocsin_core::time::WallUs;
use tocsin_sim::market::EXCHANGES;
use tocsin_sim::{Listing, MarketOptions, SimMarket};

use crate::client::Client;
use crate::reader::{ask, connect, main_kind, specs};

const MINUTE: i64 = 60_000_000;
const DAY: i64 = 1_440 * MINUTE;

/// A market, who watches it, and a clock that stands except between rounds.
struct Watched {
    sim: SimMarket,
    client: Client,
    watcher: Watcher,
    now: WallUs,
}

impl Watched {
    fn new(exchange: Exchange, spikes: Option<SpikeRules>, instruments: usize) -> Watched {
        let options = MarketOptions { instruments, ..MarketOptions::plain() };
        let sim = SimMarket::start(exchange, options).unwrap();
        let sources: Vec<&'static MarketSpec> = specs(exchange).collect();
        let rules = WatcherRules { spikes, ..WatcherRules::default() };
        // The market opens and ends instruments by the real clock.
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap();
        let watcher = Watcher::new(&rules, &sources, &|_| Hearing::Never);
        Watched { client: connect(&sim), sim, watcher, now: WallUs(now + MINUTE) }
    }

    fn later(&self, minutes: i64) -> WallUs {
        WallUs(self.now.0 + minutes * MINUTE)
    }

    /// Asks everything, or the volumes alone, once, `minutes` later.
    fn round(&mut self, minutes: i64, volumes_alone: bool) -> Vec<MarketEvent> {
        self.now = self.later(minutes);
        let asked: Vec<_> = self.watcher.requests().collect();
        let mut told = Told::default();
        for (id, spec, request) in asked {
            if volumes_alone && request.tells == Tells::Instruments {
                continue;
            }
            let mut reply = ask(&mut self.client, spec, request);
            assert_eq!(reply.status, 200, "{} {}", spec.name, request.name);
            assert!(reply.body.len() <= limits::MARKET_BODY_BYTES);
            let answer = self.watcher.answer(
                id,
                &mut Scratch::default(),
                &mut reply.body,
                self.now,
                self.now,
                &mut told,
            );
            let report = answer.unwrap_or_else(|error| panic!("{} {}: {error}", spec.name, request.name));
            assert_eq!(report.outcome.is_some(), request.tells.instruments());
        }
        told.events
    }

    fn rounds(&mut self, count: usize) -> Vec<MarketEvent> {
        (0..count).flat_map(|_| self.round(1, false)).collect()
    }
}

/// What an exchange can tell: whether it shows what is ahead, and with a time; whether an end that is set;
/// whether an end that has come.
struct Says {
    ahead: Option<bool>,
    end: bool,
    over: bool,
}

const fn says(ahead: Option<bool>, end: bool, over: bool) -> Says {
    Says { ahead, end, over }
}

use InstrumentKind::{Perpetual, Spot};

const STORIES: [(Exchange, InstrumentKind, Says); 17] = [
    (Exchange::Binance, Spot, says(None, false, false)),
    (Exchange::Binance, Perpetual, says(Some(true), true, true)),
    (Exchange::Okx, Spot, says(Some(true), true, true)),
    (Exchange::Okx, Perpetual, says(Some(true), true, true)),
    (Exchange::Bybit, Spot, says(Some(false), false, true)),
    (Exchange::Bybit, Perpetual, says(Some(true), true, true)),
    (Exchange::Gate, Spot, says(Some(true), true, true)),
    (Exchange::Gate, Perpetual, says(Some(true), true, true)),
    (Exchange::Kucoin, Spot, says(Some(true), false, true)),
    // Stopped, with an opening to come.
    (Exchange::Bitget, Spot, says(Some(true), true, true)),
    (Exchange::Bitget, Perpetual, says(Some(true), true, true)),
    (Exchange::Htx, Spot, says(Some(true), false, true)),
    (Exchange::Upbit, Spot, says(None, false, true)),
    (Exchange::Bithumb, Spot, says(None, false, true)),
    (Exchange::Coinbase, Spot, says(Some(true), false, true)),
    (Exchange::Kraken, Spot, says(Some(false), false, true)),
    (Exchange::Hyperliquid, Perpetual, says(None, false, true)),
];

/// The one event there is.
fn one(events: &[MarketEvent], kind: MarketEventKind, step: &str) -> MarketEvent {
    let kinds: Vec<MarketEventKind> = events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [kind], "{step}");
    events[0].clone()
}

fn story(exchange: Exchange, kind: InstrumentKind, says: &Says) {
    let mut watched = Watched::new(exchange, None, 20);
    let name = format!("{} {}", exchange.name(), kind.name());
    let quote = watched.sim.shown()[0].listing.quote.clone();
    assert!(watched.rounds(2).is_empty(), "{name}: a baseline");

    let (opens, ends) = (WallUs(watched.now.0 + DAY), WallUs(watched.now.0 + 5 * DAY));
    let id = watched.sim.add(Listing::ahead(kind, "VAROMI", &quote, Some(opens))).unwrap();
    let symbol = watched.sim.symbol(id).unwrap();
    let told = watched.rounds(3);
    if let Some(timed) = says.ahead {
        let preview = one(&told, ListingPreview, &name);
        assert_eq!((preview.symbol.as_str(), preview.base.as_str()), (symbol.as_str(), "VAROMI"), "{name}");
        let at = preview.effective_at.map(WallUs::secs);
        assert_eq!(at, timed.then(|| opens.secs()), "{name}");
        assert!(preview.new_asset && preview.score.is_some_and(|score| score >= 35), "{name}: {preview:?}");
    } else {
        assert!(told.is_empty(), "{name}: {told:?}");
    }

    watched.sim.open(id).unwrap();
    watched.sim.set_volume(id, 123_456.0, 0.5).unwrap();
    let told = watched.rounds(3);
    let opened = if says.ahead.is_some() { PreviewConfirmed } else { StealthListing };
    assert_eq!(one(&told, opened, &name).symbol, symbol, "{name}");

    watched.sim.set_end(id, Some(ends)).unwrap();
    let mut told = watched.rounds(3);
    assert_eq!(told.len(), usize::from(says.end), "{name}: {told:?}");
    watched.sim.delist(id).unwrap();
    told.extend(watched.rounds(14));
    watched.sim.remove(id).unwrap();
    if says.over {
        told.extend(watched.rounds(14));
        let end = one(&told, Delisting, &name);
        assert_eq!(end.effective_at.map(WallUs::secs), says.end.then(|| ends.secs()), "{name}");
        let dollars = ["USDT", "USDC", "USD"].contains(&quote.as_str());
        let volume = end.volume_24h.map(f64::round);
        assert_eq!(volume, dollars.then_some(123_456.0), "{name}");
    } else {
        assert!(told.is_empty(), "{name}: a pair that is halted may come back: {told:?}");
    }
}

#[test]
fn an_instrument_s_story_is_told_as_far_as_its_exchange_shows_it() {
    for (exchange, kind, says) in &STORIES {
        story(*exchange, *kind, says);
    }
    assert!(EXCHANGES.iter().all(|exchange| STORIES.iter().any(|(told, ..)| told == exchange)));
}

#[test]
fn an_outage_of_two_fifths_tells_nothing_and_ends() {
    for exchange in EXCHANGES {
        let mut watched = Watched::new(exchange, None, 100);
        watched.rounds(2);
        watched.sim.lose(0.4);
        assert!(watched.rounds(15).is_empty(), "{exchange:?}");
        watched.sim.restore();
        assert!(watched.rounds(2).is_empty(), "{exchange:?}");
    }
}

#[test]
fn a_volume_that_multiplies_is_told_at_every_exchange_with_its_dollars() {
    const SLOTS: f64 = 288.0;
    for exchange in EXCHANGES {
        let rules = SpikeRules { warm_up: 20, ..SpikeRules::default() };
        let mut watched = Watched::new(exchange, Some(rules), 30);
        let kind = main_kind(exchange);
        let quote = watched.sim.shown()[0].listing.quote.clone();
        // What turns won into dollars.
        let won = Listing { last: Some(1_250.0), ..Listing::open(Spot, "USDT", "KRW") };
        let dollar = if quote == "KRW" { 1_250.0 } else { 1.0 };
        if quote == "KRW" {
            watched.sim.add(won).unwrap();
        }
        let each = 100_000.0 * dollar;
        let id = watched.sim.add(Listing::open(kind, "VAROMI", &quote)).unwrap();
        let sum = each * SLOTS;
        watched.sim.set_volume(id, sum, 0.5).unwrap();
        let slot = i64::try_from(SLOT.as_secs() / 60).unwrap();
        assert!(watched.round(slot, false).is_empty(), "{exchange:?}");
        // Long enough that the spike itself is no part of what is ordinary.
        for _ in 0..150 {
            assert!(watched.round(slot, true).is_empty(), "{exchange:?}");
        }
        let mut told = Vec::new();
        // Four slots are judged together, each when it is over; the first of them may still be a usual one.
        for slots in 1..=5 {
            watched.sim.set_volume(id, sum + f64::from(slots) * 9.0 * each, 0.5).unwrap();
            told.extend(watched.round(slot, true));
        }
        let spike = one(&told, MarketEventKind::VolumeSpike, exchange.name());
        assert_eq!(Some(spike.symbol.as_str()), watched.sim.symbol(id).as_deref());
        let (ratio, volume) = (spike.ratio.unwrap(), spike.volume_24h.unwrap());
        assert!((7.0..12.0).contains(&ratio), "{exchange:?}: {ratio}");
        assert!((29.0e6..33.0e6).contains(&volume), "{exchange:?}: {volume}");
    }
}
