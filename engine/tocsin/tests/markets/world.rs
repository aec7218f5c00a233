//! Simulated markets, and an engine that watches them.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tocsin_core::market::InstrumentKind;
use tocsin_core::model::Exchange;
use tocsin_core::time::WallUs;
use tocsin_sim::market::Shown;
use tocsin_sim::{Listing, MarketOptions, SimMarket, TestCa};

use crate::harness::{Engine, Mode, wait_for};

/// How many times faster than by default they are asked: a wait of ten minutes is three seconds.
pub(crate) const SPEED: u32 = 200;

/// Far enough that no test comes there.
pub(crate) const FAR: WallUs = WallUs::from_secs(2_000_000_000);

/// An instant from now, in whole seconds.
pub(crate) fn after(span: Duration) -> WallUs {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap() + span;
    WallUs::from_secs(i64::try_from(now.as_secs()).unwrap())
}

pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// Markets that one authority vouches for.
pub(crate) struct World {
    markets: Vec<SimMarket>,
    folder: TempDir,
}

impl World {
    pub(crate) fn of(exchanges: &[Exchange]) -> World {
        let ca = Arc::new(TestCa::new().unwrap());
        let folder = tempfile::tempdir().unwrap();
        ca.write_to(&folder.path().join("ca.pem")).unwrap();
        let start = |exchange: &Exchange| {
            let options = MarketOptions { ca: Some(Arc::clone(&ca)), ..MarketOptions::default() };
            let sim = SimMarket::start(*exchange, options).unwrap();
            // No list is without a row; where there are no such contracts there is no list.
            let dated = Listing::open(InstrumentKind::Dated, "BTC", &quote(&sim));
            let _ = sim.add(Listing { closes_at: Some(FAR), ..dated });
            sim
        };
        World { markets: exchanges.iter().map(start).collect(), folder }
    }

    pub(crate) fn market(&self, exchange: Exchange) -> &SimMarket {
        self.markets.iter().find(|sim| sim.exchange() == exchange).unwrap()
    }

    /// The sections of an engine that watches these and no other.
    pub(crate) fn section(&self) -> String {
        let ca_file = self.folder.path().join("ca.pem");
        let mut text = format!("[market]\nenabled = true\nspeed = {SPEED}\n");
        for exchange in Exchange::ALL.into_iter().filter(|exchange| has_markets(*exchange)) {
            text += &format!("[market.{}]\n", exchange.name());
            match self.markets.iter().find(|sim| sim.exchange() == exchange) {
                Some(sim) => {
                    text +=
                        &format!("enabled = true\nbase_url = {:?}\nca_file = {ca_file:?}\n", sim.base_url());
                }
                None => text += "enabled = false\n",
            }
        }
        text
    }

    /// An engine that has read every list.
    pub(crate) fn engine(&self) -> Engine {
        let engine = Engine::start(Mode::Plain, &self.section());
        baselined(&engine);
        engine
    }
}

fn has_markets(exchange: Exchange) -> bool {
    use tocsin_core::market::exchange::{ALL, OFF_BY_DEFAULT};
    ALL.into_iter().chain(OFF_BY_DEFAULT).any(|spec| spec.exchange == exchange)
}

/// What a market's pairs are priced in.
pub(crate) fn quote(sim: &SimMarket) -> String {
    sim.shown()[0].listing.quote.clone()
}

/// What a market shows of a symbol.
pub(crate) fn shown(sim: &SimMarket, symbol: &str, kind: InstrumentKind) -> Option<Shown> {
    sim.shown().into_iter().find(|shown| shown.symbol == symbol && shown.listing.kind == kind)
}

/// Every request, as the administrator sees it.
pub(crate) fn requests(engine: &Engine) -> Vec<Value> {
    let shown = engine.admin("GET", "/admin/v1/markets", None);
    assert_eq!(shown["enabled"], true, "{shown}");
    shown["requests"].as_array().unwrap().clone()
}

/// One of them.
pub(crate) fn request(engine: &Engine, source: &str, name: &str) -> Value {
    let all = requests(engine);
    let found = all.iter().find(|of| of["source"] == source && of["request"] == name);
    found.unwrap_or_else(|| panic!("no {source} {name} in {all:?}")).clone()
}

/// Waits until every request has been answered twice: what it found first is its baseline.
pub(crate) fn baselined(engine: &Engine) {
    wait_for("every list", || {
        let all = requests(engine);
        !all.is_empty() && all.iter().all(|of| of["answers"].as_u64().unwrap() >= 2)
    });
}

/// Waits until every request has been answered so many times more.
pub(crate) fn asked_again(engine: &Engine, times: u64) {
    let counts =
        |all: &[Value]| -> Vec<u64> { all.iter().map(|of| of["answers"].as_u64().unwrap()).collect() };
    let before = counts(&requests(engine));
    wait_for("further answers", || {
        counts(&requests(engine)).iter().zip(&before).all(|(now, before)| *now >= before + times)
    });
}

/// What has been told, read from the store as it comes.
pub(crate) struct Told<'a> {
    engine: &'a Engine,
    read: usize,
}

impl<'a> Told<'a> {
    /// From the first event on.
    pub(crate) fn of(engine: &'a Engine) -> Told<'a> {
        Told { engine, read: 0 }
    }

    /// The next event.
    pub(crate) fn next(&mut self) -> Value {
        let mut event = Value::Null;
        wait_for("the next event on disk", || {
            let mut all = events(self.engine);
            let found = all.len() > self.read;
            if found {
                event = all.swap_remove(self.read);
            }
            found
        });
        self.read += 1;
        event
    }
}

/// Everything told so far as the store has it, oldest first.
pub(crate) fn events(engine: &Engine) -> Vec<Value> {
    let all = engine.admin("GET", "/admin/v1/markets/events?limit=1000", None);
    let mut events = all["events"].as_array().unwrap().clone();
    events.reverse();
    events
}

/// The same, event and symbol.
pub(crate) fn stored(engine: &Engine) -> Vec<(String, String)> {
    let text = |event: &Value, name: &str| event[name].as_str().unwrap().to_owned();
    events(engine).iter().map(|event| (text(event, "event"), text(event, "symbol"))).collect()
}

/// Waits until as many events are stored, and compares them.
pub(crate) fn assert_stored(engine: &Engine, expected: &[(&str, &str)]) {
    wait_for("the events on disk", || stored(engine).len() >= expected.len());
    let all = stored(engine);
    let all: Vec<(&str, &str)> =
        all.iter().map(|(event, symbol)| (event.as_str(), symbol.as_str())).collect();
    assert_eq!(all, expected);
}
