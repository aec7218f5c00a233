//! MEXC: spot pairs, and the calendar of new coins of its website. Off by default.
//!
//! The calendar is known from other people's code alone, reaches about a week ahead and does not say what a
//! coin is priced in: new coins open against USDT. Some addresses get a browser check instead.

use core::time::Duration;

use super::{
    HEADERS, expect, list, name, plain, read_instruments, read_rows, read_volumes, refused, time, word,
};
use crate::market::{Instrument, InstrumentKind, MarketRequest, MarketRow, MarketSpec, Tells, Trading};
use crate::model::Exchange;
use crate::source::json::Json;
use crate::source::{Evidence, ParseError, Parsed, Scratch, exchange};

/// `mexc.spot`. Weight 500 in 10 seconds; these take 20 in 30.
pub static SPOT: MarketSpec = MarketSpec {
    name: "mexc.spot",
    exchange: Exchange::Mexc,
    evidence: Evidence::Official,
    base_url: "https://api.mexc.com",
    ahead_by_time: false,
    headers: HEADERS,
    requests: &[
        MarketRequest {
            name: "instruments",
            target: "/api/v3/exchangeInfo",
            body: None,
            every: Duration::from_secs(30),
            complete: true,
            tells: Tells::Instruments,
            parse: parse_pairs,
        },
        MarketRequest {
            name: "tickers",
            target: "/api/v3/ticker/24hr",
            body: None,
            every: Duration::from_secs(60),
            complete: false,
            tells: Tells::Volumes,
            parse: parse_tickers,
        },
    ],
};

/// `mexc.calendar`: coins that will open. Who leaves it has opened or was taken out; nothing tells which.
pub static CALENDAR: MarketSpec = MarketSpec {
    name: "mexc.calendar",
    exchange: Exchange::Mexc,
    evidence: Evidence::Unofficial,
    base_url: "https://www.mexc.com",
    ahead_by_time: false,
    headers: &[("user-agent", exchange::BROWSER), ("accept", "application/json")],
    requests: &[MarketRequest {
        name: "calendar",
        target: "/api/operation/new_coin_calendar",
        body: None,
        every: Duration::from_secs(60),
        complete: false,
        tells: Tells::Instruments,
        parse: parse_calendar,
    }],
};

fn parse_pairs(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(MarketRow<'_>),
) -> Result<Parsed, ParseError> {
    scratch.document(body, |root| {
        if root.get("code").is_some() && root.get("symbols").is_none() {
            return Err(refused(root, &["code", "msg"]));
        }
        Ok(read_instruments(list(root, "symbols")?, found, read_pair))
    })
}

fn read_pair<'a>(row: Json<'_, 'a>) -> Option<Instrument<'a>> {
    let state = word(row, "status");
    Some(Instrument {
        symbol: name(row, "symbol")?,
        base: name(row, "baseAsset")?,
        quote: name(row, "quoteAsset")?,
        kind: InstrumentKind::Spot,
        trading: trading(state),
        state,
        opens_at: None,
        closes_at: None,
    })
}

pub(super) fn trading(state: &str) -> Trading {
    match state {
        "1" => Trading::Open,
        "3" => Trading::Over,
        // 2, paused.
        _ => Trading::Halted,
    }
}

fn parse_tickers(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(MarketRow<'_>),
) -> Result<Parsed, ParseError> {
    scratch.document(body, |root| {
        if root.get("code").is_some() {
            return Err(refused(root, &["code", "msg"]));
        }
        if !root.is_array() {
            return Err(ParseError::Missing("[]"));
        }
        Ok(read_volumes(root, found, ["symbol", "quoteVolume", "lastPrice"]))
    })
}

fn parse_calendar(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(MarketRow<'_>),
) -> Result<Parsed, ParseError> {
    scratch.document(body, |root| {
        expect(root, "code", "0", "msg")?;
        let data = root.get("data").ok_or(ParseError::Missing("data"))?;
        Ok(read_rows(list(data, "newCoins")?.elements(), found, |row, give| {
            let base = name(row, "vcoinName")?;
            // The name its pair has once there is one.
            let symbol = [base, "USDT"].concat();
            give(MarketRow::Instrument(Instrument {
                symbol: plain(&symbol)?,
                base,
                quote: "USDT",
                kind: InstrumentKind::Spot,
                trading: Trading::Ahead,
                state: "new_coin_calendar",
                opens_at: time(row, "firstOpenTime"),
                closes_at: None,
            }));
            Some(())
        }))
    })
}
