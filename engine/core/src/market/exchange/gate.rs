//! Gate: spot pairs and USDT-settled perpetuals (official). Times are seconds, 0 is none.
//!
//! Spot: `untradable` before `buy_start` and after the end alike; a `delisting_time` or a beginning that is
//! past decides which. Futures: "in_delisting" means the way out has begun, whatever the state says.

use core::time::Duration;

use super::{
    HEADERS, begun, flag, name, not_traded, plain, read_instruments, read_volumes, refused, time, word,
};
use crate::market::{Instrument, InstrumentKind, MarketRequest, MarketRow, MarketSpec, Tells, Trading};
use crate::model::Exchange;
use crate::source::json::Json;
use crate::source::{Evidence, ParseError, Parsed, Scratch};
use crate::time::WallUs;

/// `gate.spot`. Each endpoint may be asked 200 times in 10 seconds.
pub static SPOT: MarketSpec = MarketSpec {
    name: "gate.spot",
    exchange: Exchange::Gate,
    evidence: Evidence::Official,
    base_url: "https://api.gateio.ws",
    ahead_by_time: true,
    headers: HEADERS,
    requests: &[
        MarketRequest {
            name: "instruments",
            target: "/api/v4/spot/currency_pairs",
            body: None,
            every: Duration::from_secs(10),
            complete: true,
            tells: Tells::Instruments,
            parse: parse_pairs,
        },
        MarketRequest {
            name: "tickers",
            target: "/api/v4/spot/tickers",
            body: None,
            every: Duration::from_secs(60),
            complete: false,
            tells: Tells::Volumes,
            parse: parse_spot_tickers,
        },
    ],
};

/// `gate.futures`. Its contracts have the names of spot pairs, hence a source of its own.
pub static FUTURES: MarketSpec = MarketSpec {
    name: "gate.futures",
    exchange: Exchange::Gate,
    evidence: Evidence::Official,
    base_url: "https://api.gateio.ws",
    ahead_by_time: false,
    headers: HEADERS,
    requests: &[
        MarketRequest {
            name: "instruments",
            target: "/api/v4/futures/usdt/contracts",
            body: None,
            every: Duration::from_secs(10),
            complete: true,
            tells: Tells::Instruments,
            parse: parse_contracts,
        },
        MarketRequest {
            name: "tickers",
            target: "/api/v4/futures/usdt/tickers",
            body: None,
            every: Duration::from_secs(60),
            complete: false,
            tells: Tells::Volumes,
            parse: parse_futures_tickers,
        },
    ],
};

/// An answer is a bare array; a refusal is an object with a `label`.
fn rows<'t, 'a>(root: Json<'t, 'a>) -> Result<Json<'t, 'a>, ParseError> {
    match root.get("label") {
        Some(_) => Err(refused(root, &["label", "message"])),
        None if root.is_array() => Ok(root),
        None => Err(ParseError::Missing("[]")),
    }
}

fn parse_pairs(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(MarketRow<'_>),
) -> Result<Parsed, ParseError> {
    scratch.document(body, |root| {
        let rows = rows(root)?;
        let begun = begun(rows, "buy_start", |row| word(row, "trade_status") == "tradable");
        Ok(read_instruments(rows, found, |row| read_pair(row, begun)))
    })
}

fn read_pair<'a>(row: Json<'_, 'a>, begun: Option<WallUs>) -> Option<Instrument<'a>> {
    let state = word(row, "trade_status");
    // Both are given, mostly alike; where they differ, trading in full begins with the later.
    let opens_at = time(row, "buy_start").max(time(row, "sell_start"));
    let closes_at = time(row, "delisting_time");
    Some(Instrument {
        symbol: name(row, "id")?,
        base: name(row, "base")?,
        quote: name(row, "quote")?,
        kind: InstrumentKind::Spot,
        trading: spot_trading(state, opens_at, closes_at, begun),
        state,
        opens_at,
        closes_at,
    })
}

pub(super) fn spot_trading(
    state: &str,
    opens_at: Option<WallUs>,
    closes_at: Option<WallUs>,
    begun: Option<WallUs>,
) -> Trading {
    match state {
        "tradable" | "buyable" | "sellable" => Trading::Open,
        "untradable" if closes_at.is_some() => Trading::Over,
        "untradable" => not_traded(opens_at, begun),
        _ => Trading::Halted,
    }
}

fn parse_contracts(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(MarketRow<'_>),
) -> Result<Parsed, ParseError> {
    scratch.document(body, |root| Ok(read_instruments(rows(root)?, found, read_contract)))
}

fn read_contract<'a>(row: Json<'_, 'a>) -> Option<Instrument<'a>> {
    let symbol = name(row, "name")?;
    let (base, quote) = symbol.rsplit_once('_')?;
    let state = word(row, "status");
    let opens_at = time(row, "launch_time");
    Some(Instrument {
        symbol,
        base: plain(base)?,
        quote: plain(quote)?,
        kind: InstrumentKind::Perpetual,
        trading: futures_trading(state, flag(row, "in_delisting")),
        state,
        opens_at,
        // An end no later than the beginning is a filler.
        closes_at: time(row, "delisting_time").filter(|end| opens_at.is_none_or(|start| *end > start)),
    })
}

pub(super) fn futures_trading(state: &str, in_delisting: bool) -> Trading {
    match state {
        "delisting" | "delisted" => Trading::Over,
        _ if in_delisting => Trading::Over,
        "prelaunch" => Trading::Ahead,
        "trading" => Trading::Open,
        // circuit_breaker.
        _ => Trading::Halted,
    }
}

fn parse_spot_tickers(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(MarketRow<'_>),
) -> Result<Parsed, ParseError> {
    scratch.document(body, |root| {
        Ok(read_volumes(rows(root)?, found, ["currency_pair", "quote_volume", "last"]))
    })
}

fn parse_futures_tickers(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(MarketRow<'_>),
) -> Result<Parsed, ParseError> {
    scratch
        .document(body, |root| Ok(read_volumes(rows(root)?, found, ["contract", "volume_24h_quote", "last"])))
}
