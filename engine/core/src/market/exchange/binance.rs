//! Binance: spot pairs and USDⓈ-margined futures, two hosts with budgets of their own (official).
//!
//! Spot shows a pair at about the time it opens: no preview. A pair that ended stays in the list as
//! `BREAK`, but so does one that is merely interrupted, and new ones pass through it too: [`Trading::Halted`].
//! Futures are known ahead: `PENDING_TRADING` with `onboardDate`. The documents say that `deliveryDate`
//! becomes the time of delisting once that is announced; until then it is in the year 2100.

use core::time::Duration;

use super::{HEADERS, list, name, read_instruments, read_volumes, refused, time, word};
use crate::market::{Instrument, InstrumentKind, MarketRequest, MarketRow, MarketSpec, Tells, Trading};
use crate::model::Exchange;
use crate::source::json::Json;
use crate::source::{Evidence, ParseError, Parsed, Scratch};

/// `binance.spot`, from the host for public market data. Weight 6,000 a minute; these take 120.
pub static SPOT: MarketSpec = MarketSpec {
    name: "binance.spot",
    exchange: Exchange::Binance,
    evidence: Evidence::Official,
    base_url: "https://data-api.binance.vision",
    ahead_by_time: false,
    headers: HEADERS,
    requests: &[
        MarketRequest {
            name: "instruments",
            // Permission sets are most of the answer and not read.
            target: "/api/v3/exchangeInfo?showPermissionSets=false",
            body: None,
            every: Duration::from_secs(30),
            complete: true,
            tells: Tells::Instruments,
            parse: parse_spot,
        },
        MarketRequest {
            name: "tickers",
            target: "/api/v3/ticker/24hr?type=MINI",
            body: None,
            every: Duration::from_secs(60),
            complete: false,
            tells: Tells::Volumes,
            parse: parse_tickers,
        },
    ],
};

/// `binance.usdm`. Weight 2,400 a minute; these take 46.
pub static USDM: MarketSpec = MarketSpec {
    name: "binance.usdm",
    exchange: Exchange::Binance,
    evidence: Evidence::Official,
    base_url: "https://fapi.binance.com",
    ahead_by_time: false,
    headers: HEADERS,
    requests: &[
        MarketRequest {
            name: "instruments",
            target: "/fapi/v1/exchangeInfo",
            body: None,
            every: Duration::from_secs(10),
            complete: true,
            tells: Tells::Instruments,
            parse: parse_usdm,
        },
        MarketRequest {
            name: "tickers",
            target: "/fapi/v1/ticker/24hr",
            body: None,
            every: Duration::from_secs(60),
            complete: false,
            tells: Tells::Volumes,
            parse: parse_tickers,
        },
    ],
};

fn parse_spot(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(MarketRow<'_>),
) -> Result<Parsed, ParseError> {
    scratch.document(body, |root| Ok(read_instruments(symbols(root)?, found, read_pair)))
}

fn parse_usdm(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(MarketRow<'_>),
) -> Result<Parsed, ParseError> {
    scratch.document(body, |root| Ok(read_instruments(symbols(root)?, found, read_contract)))
}

fn parse_tickers(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(MarketRow<'_>),
) -> Result<Parsed, ParseError> {
    scratch.document(body, |root| {
        check(root)?;
        if !root.is_array() {
            return Err(ParseError::Missing("[]"));
        }
        Ok(read_volumes(root, found, ["symbol", "quoteVolume", "lastPrice"]))
    })
}

/// A refusal is an object with a `code` below zero.
fn check(root: Json<'_, '_>) -> Result<(), ParseError> {
    if root.get("code").is_some() { Err(refused(root, &["code", "msg"])) } else { Ok(()) }
}

fn symbols<'t, 'a>(root: Json<'t, 'a>) -> Result<Json<'t, 'a>, ParseError> {
    check(root)?;
    list(root, "symbols")
}

fn read_pair<'a>(row: Json<'_, 'a>) -> Option<Instrument<'a>> {
    let state = word(row, "status");
    Some(Instrument {
        symbol: name(row, "symbol")?,
        base: name(row, "baseAsset")?,
        quote: name(row, "quoteAsset")?,
        kind: InstrumentKind::Spot,
        trading: spot_trading(state),
        state,
        opens_at: None,
        closes_at: None,
    })
}

/// `PRE_TRADING` and the other old words left the documents in April 2025.
pub(super) fn spot_trading(state: &str) -> Trading {
    match state {
        "PRE_TRADING" => Trading::Ahead,
        "TRADING" | "AUCTION_MATCH" => Trading::Open,
        // END_OF_DAY, HALT, BREAK, CANCEL_ONLY, POST_TRADING.
        _ => Trading::Halted,
    }
}

fn read_contract<'a>(row: Json<'_, 'a>) -> Option<Instrument<'a>> {
    let state = word(row, "status");
    let symbol = name(row, "symbol")?;
    // Contracts that are being settled may have no type any more; only dated ones have a date in the name.
    let dated = match word(row, "contractType") {
        "" => symbol.contains('_'),
        kind => !kind.contains("PERPETUAL"),
    };
    Some(Instrument {
        symbol,
        base: name(row, "baseAsset")?,
        quote: name(row, "quoteAsset")?,
        kind: if dated { InstrumentKind::Dated } else { InstrumentKind::Perpetual },
        trading: usdm_trading(state),
        state,
        opens_at: time(row, "onboardDate"),
        closes_at: time(row, "deliveryDate"),
    })
}

pub(super) fn usdm_trading(state: &str) -> Trading {
    match state {
        "PENDING_TRADING" => Trading::Ahead,
        "TRADING" => Trading::Open,
        "PRE_DELIVERING" | "DELIVERING" | "DELIVERED" | "PRE_SETTLE" | "SETTLING" | "CLOSE" => Trading::Over,
        _ => Trading::Halted,
    }
}
