//! What the market thread will do, once: ask every request of an exchange's sources and read the answers.

use tocsin_core::limits;
use tocsin_core::market::exchange::ALL;
use tocsin_core::market::{InstrumentKind, MarketRequest, MarketRow, MarketSpec, Trading};
use tocsin_core::model::Exchange;
use tocsin_core::source::{ParseError, Parsed, Scratch};
use tocsin_sim::SimMarket;
use tocsin_sim::market::{Listing, Shown};

use crate::client::{Client, Reply, tls_config};

pub(crate) fn specs(exchange: Exchange) -> impl Iterator<Item = &'static MarketSpec> {
    ALL.into_iter().filter(move |spec| spec.exchange == exchange)
}

pub(crate) fn connect(sim: &SimMarket) -> Client {
    if sim.base_url().starts_with("http:") {
        return Client::plain(sim.addr()).unwrap();
    }
    Client::tls(sim.addr(), &tls_config(sim.ca_pem())).unwrap()
}

/// Asks as the source says.
pub(crate) fn ask(client: &mut Client, spec: &MarketSpec, request: &MarketRequest) -> Reply {
    let method = if request.body.is_some() { "POST" } else { "GET" };
    let mut text = format!("{method} {} HTTP/1.1\r\nhost: sim\r\n", request.target);
    for (name, value) in spec.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    let body = request.body.unwrap_or("");
    if request.body.is_some() {
        text.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    text.push_str(body);
    client.write(text.as_bytes()).unwrap();
    client.reply().unwrap()
}

/// A volume: name, amount, last price.
pub(crate) type Traded = (String, f64, Option<f64>);

/// Everything read, in an order that does not depend on the exchange's.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(crate) instruments: Vec<Shown>,
    pub(crate) volumes: Vec<Traded>,
    pub(crate) parsed: Vec<(&'static str, Result<Parsed, ParseError>)>,
}

/// Asks everything once, over one connection.
pub(crate) fn read_all(sim: &SimMarket) -> Reading {
    let mut client = connect(sim);
    let mut scratch = Scratch::default();
    let mut reading = Reading::default();
    for spec in specs(sim.exchange()) {
        for request in spec.requests {
            let mut reply = ask(&mut client, spec, request);
            assert_eq!(reply.status, 200, "{} {}", spec.name, request.name);
            assert!(reply.body.len() <= limits::MARKET_BODY_BYTES);
            let Reading { instruments, volumes, parsed } = &mut reading;
            let before = (instruments.len(), volumes.len());
            let outcome = (request.parse)(&mut scratch, &mut reply.body, &mut |row| match row {
                MarketRow::Instrument(i) => instruments.push(Shown {
                    symbol: i.symbol.to_owned(),
                    listing: Listing {
                        kind: i.kind,
                        base: i.base.to_owned(),
                        quote: i.quote.to_owned(),
                        trading: i.trading,
                        opens_at: i.opens_at,
                        closes_at: i.closes_at,
                        quote_24h: None,
                        last: None,
                    },
                }),
                MarketRow::Volume(v) => volumes.push((v.symbol.to_owned(), v.quote_24h, v.last)),
            });
            assert!(request.tells.instruments() || instruments.len() == before.0, "{}", request.name);
            assert!(request.tells.volumes() || volumes.len() == before.1, "{}", request.name);
            parsed.push((request.name, outcome));
        }
    }
    sort(&mut reading.instruments);
    reading.volumes.sort_by(|a, b| a.partial_cmp(b).unwrap());
    reading
}

pub(crate) fn sort(instruments: &mut [Shown]) {
    let key = |shown: &Shown| (shown.listing.kind, shown.symbol.clone());
    instruments.sort_by_key(key);
}

/// What must have been read of `sim` as it is.
pub(crate) fn expected(sim: &SimMarket) -> (Vec<Shown>, Vec<Traded>) {
    let mut shown = sim.shown();
    sort(&mut shown);
    let traded = |s: &Shown| Some((s.symbol.clone(), s.listing.quote_24h?, s.listing.last));
    let mut volumes: Vec<Traded> = shown.iter().filter_map(traded).collect();
    volumes.sort_by(|a, b| a.partial_cmp(b).unwrap());
    for shown in &mut shown {
        (shown.listing.quote_24h, shown.listing.last) = (None, None);
    }
    (shown, volumes)
}

/// Reads everything and compares with what the simulated exchange says it shows.
pub(crate) fn check(sim: &SimMarket, step: &str) {
    let reading = read_all(sim);
    let name = sim.exchange().name();
    for (request, outcome) in &reading.parsed {
        let parsed = outcome.unwrap_or_else(|error| panic!("{name}, {step}: {request}: {error}"));
        assert_eq!((parsed.skipped, parsed.beyond_limit), (0, 0), "{name}, {step}: {request}");
    }
    let (instruments, volumes) = expected(sim);
    assert_eq!(reading.instruments, instruments, "{name}, {step}");
    assert_eq!(reading.volumes.len(), volumes.len(), "{name}, {step}");
    for (read, meant) in reading.volumes.iter().zip(&volumes) {
        // Where the exchange gives the volume in the base, a division and a product lie between.
        let close = (read.1 - meant.1).abs() <= meant.1 * 1e-9;
        assert!(read.0 == meant.0 && close && read.2 == meant.2, "{name}, {step}: {read:?} is not {meant:?}");
    }
}

/// The first kind an exchange lists.
pub(crate) fn main_kind(exchange: Exchange) -> InstrumentKind {
    if exchange == Exchange::Hyperliquid { InstrumentKind::Perpetual } else { InstrumentKind::Spot }
}

/// What the exchange shows of one instrument.
pub(crate) fn trading(sim: &SimMarket, symbol: &str, kind: InstrumentKind) -> Option<Trading> {
    let shown = read_all(sim).instruments.into_iter();
    shown.filter(|s| s.listing.kind == kind).find(|s| s.symbol == symbol).map(|s| s.listing.trading)
}
