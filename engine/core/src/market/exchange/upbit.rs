//! Upbit: markets (official). No preview: a market appears about when it opens, and is gone when it ended.
//!
//! A market is named by its quote first (`KRW-BTC`). `market_event.warning` is the exchange's warning; its
//! cautions come and go many times a day and are not read. No `Origin` header: with one an address has one
//! request in ten seconds.

use core::time::Duration;

use super::{HEADERS, flag, name, plain, read_instruments, read_volumes, refused};
use crate::market::{Instrument, InstrumentKind, MarketRequest, MarketRow, MarketSpec, Tells, Trading};
use crate::model::Exchange;
use crate::source::json::Json;
use crate::source::{Evidence, ParseError, Parsed, Scratch};

/// `upbit.spot`. An address has ten requests a second for each group of endpoints.
pub static SPOT: MarketSpec = MarketSpec {
    name: "upbit.spot",
    exchange: Exchange::Upbit,
    evidence: Evidence::Official,
    base_url: "https://api.upbit.com",
    ahead_by_time: false,
    headers: HEADERS,
    requests: &[
        MarketRequest {
            name: "instruments",
            target: "/v1/market/all?is_details=true",
            body: None,
            every: Duration::from_secs(5),
            complete: true,
            tells: Tells::Instruments,
            parse: parse_markets,
        },
        MarketRequest {
            name: "tickers",
            target: "/v1/ticker/all?quote_currencies=KRW,BTC,USDT",
            body: None,
            every: Duration::from_secs(60),
            complete: false,
            tells: Tells::Volumes,
            parse: parse_tickers,
        },
    ],
};

/// An answer is a bare array; a refusal is an object with an `error`.
pub(super) fn rows<'t, 'a>(root: Json<'t, 'a>) -> Result<Json<'t, 'a>, ParseError> {
    match root.get("error") {
        Some(error) => Err(refused(error, &["name", "message"])),
        None if root.is_array() => Ok(root),
        None => Err(ParseError::Missing("[]")),
    }
}

fn parse_markets(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(MarketRow<'_>),
) -> Result<Parsed, ParseError> {
    scratch.document(body, |root| {
        Ok(read_instruments(rows(root)?, found, |row| {
            let warned = row.get("market_event").is_some_and(|event| flag(event, "warning"));
            market(row, if warned { "warning" } else { "" })
        }))
    })
}

/// What is listed is open: there is no word for anything else.
pub(super) fn market<'a>(row: Json<'_, 'a>, state: &'a str) -> Option<Instrument<'a>> {
    let symbol = name(row, "market")?;
    let (quote, base) = symbol.split_once('-')?;
    Some(Instrument {
        symbol,
        base: plain(base)?,
        quote: plain(quote)?,
        kind: InstrumentKind::Spot,
        trading: Trading::Open,
        state,
        opens_at: None,
        closes_at: None,
    })
}

fn parse_tickers(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(MarketRow<'_>),
) -> Result<Parsed, ParseError> {
    scratch.document(body, |root| {
        Ok(read_volumes(rows(root)?, found, ["market", "acc_trade_price_24h", "trade_price"]))
    })
}
