//! Bitget: spot pairs and contracts settled in USDT and USDC (official).
//!
//! What is told ahead is the end, `offTime` ("" and "-1" are none), and that a contract is `listed` but not
//! `normal` yet. Of a spot pair `openTime` is deprecated and only tells when it began; "gray" is open to
//! chosen users, which says nothing of the others.

use core::time::Duration;

use super::{HEADERS, expect, list, name, read_instruments, read_volumes, time, word};
use crate::market::{Instrument, InstrumentKind, MarketRequest, MarketRow, MarketSpec, Tells, Trading};
use crate::model::Exchange;
use crate::source::json::Json;
use crate::source::{Evidence, ParseError, Parsed, Scratch};

/// `bitget.spot`. An address has 20 requests a second for each endpoint.
pub static SPOT: MarketSpec = MarketSpec {
    name: "bitget.spot",
    exchange: Exchange::Bitget,
    evidence: Evidence::Official,
    base_url: "https://api.bitget.com",
    ahead_by_time: false,
    headers: HEADERS,
    requests: &[
        MarketRequest {
            name: "instruments",
            target: "/api/v2/spot/public/symbols",
            body: None,
            every: Duration::from_secs(10),
            complete: true,
            tells: Tells::Instruments,
            parse: parse_pairs,
        },
        tickers("tickers", "/api/v2/spot/market/tickers"),
    ],
};

/// `bitget.mix`. Names of its contracts are those of spot pairs too, hence a source of its own.
pub static MIX: MarketSpec = MarketSpec {
    name: "bitget.mix",
    exchange: Exchange::Bitget,
    evidence: Evidence::Official,
    base_url: "https://api.bitget.com",
    ahead_by_time: false,
    headers: HEADERS,
    requests: &[
        contracts("usdt", "/api/v2/mix/market/contracts?productType=USDT-FUTURES"),
        contracts("usdc", "/api/v2/mix/market/contracts?productType=USDC-FUTURES"),
        tickers("usdt-tickers", "/api/v2/mix/market/tickers?productType=USDT-FUTURES"),
        tickers("usdc-tickers", "/api/v2/mix/market/tickers?productType=USDC-FUTURES"),
    ],
};

const fn contracts(name: &'static str, target: &'static str) -> MarketRequest {
    let every = Duration::from_secs(10);
    MarketRequest {
        name,
        target,
        body: None,
        every,
        complete: true,
        tells: Tells::Instruments,
        parse: parse_contracts,
    }
}

const fn tickers(name: &'static str, target: &'static str) -> MarketRequest {
    let every = Duration::from_secs(60);
    MarketRequest {
        name,
        target,
        body: None,
        every,
        complete: false,
        tells: Tells::Volumes,
        parse: parse_tickers,
    }
}

fn data<'t, 'a>(root: Json<'t, 'a>) -> Result<Json<'t, 'a>, ParseError> {
    expect(root, "code", "00000", "msg")?;
    list(root, "data")
}

fn parse_pairs(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(MarketRow<'_>),
) -> Result<Parsed, ParseError> {
    scratch.document(body, |root| Ok(read_instruments(data(root)?, found, read_pair)))
}

fn read_pair<'a>(row: Json<'_, 'a>) -> Option<Instrument<'a>> {
    let state = word(row, "status");
    Some(Instrument {
        symbol: name(row, "symbol")?,
        base: name(row, "baseCoin")?,
        quote: name(row, "quoteCoin")?,
        kind: InstrumentKind::Spot,
        trading: spot_trading(state),
        state,
        opens_at: time(row, "openTime"),
        closes_at: time(row, "offTime"),
    })
}

pub(super) fn spot_trading(state: &str) -> Trading {
    match state {
        "online" => Trading::Open,
        "offline" => Trading::Over,
        // gray, halt.
        _ => Trading::Halted,
    }
}

fn parse_contracts(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(MarketRow<'_>),
) -> Result<Parsed, ParseError> {
    scratch.document(body, |root| Ok(read_instruments(data(root)?, found, read_contract)))
}

fn read_contract<'a>(row: Json<'_, 'a>) -> Option<Instrument<'a>> {
    let state = word(row, "symbolStatus");
    let dated = word(row, "symbolType") == "delivery";
    Some(Instrument {
        symbol: name(row, "symbol")?,
        base: name(row, "baseCoin")?,
        quote: name(row, "quoteCoin")?,
        kind: if dated { InstrumentKind::Dated } else { InstrumentKind::Perpetual },
        trading: mix_trading(state),
        state,
        opens_at: time(row, "launchTime"),
        closes_at: time(row, "offTime").or_else(|| if dated { time(row, "deliveryTime") } else { None }),
    })
}

pub(super) fn mix_trading(state: &str) -> Trading {
    match state {
        "listed" => Trading::Ahead,
        "normal" | "restrictedAPI" => Trading::Open,
        "off" => Trading::Over,
        // maintain, limit_open (no new positions; the end is told by `offTime`).
        _ => Trading::Halted,
    }
}

fn parse_tickers(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(MarketRow<'_>),
) -> Result<Parsed, ParseError> {
    scratch.document(body, |root| Ok(read_volumes(data(root)?, found, ["symbol", "quoteVolume", "lastPr"])))
}
