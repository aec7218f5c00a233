//! Bybit: spot pairs and linear contracts (official).
//!
//! Ahead of its opening only a pre-market perpetual is known (`PreLaunch`), and whatever is `PendingOpen`.
//! `deliveryTime` of a perpetual is the time of its delisting, "0" until there is one. Linear contracts come
//! in pages of at most 1,000 behind a cursor. The first page holds all there are by far; should it be full
//! and have a successor, one row is counted as beyond the limit, so that nobody takes what is absent for gone.

use core::time::Duration;

use super::{HEADERS, expect, list, name, read_instruments, read_volumes, time, word};
use crate::market::{Instrument, InstrumentKind, MarketRequest, MarketRow, MarketSpec, Tells, Trading};
use crate::model::Exchange;
use crate::source::json::Json;
use crate::source::{Evidence, ParseError, Parsed, Scratch};
use crate::time::WallUs;

/// Rows of a full page of linear contracts.
const PAGE: usize = 1_000;

/// `bybit.spot`. An address has 600 requests in 5 seconds.
pub static SPOT: MarketSpec = MarketSpec {
    name: "bybit.spot",
    exchange: Exchange::Bybit,
    evidence: Evidence::Official,
    base_url: "https://api.bybit.com",
    ahead_by_time: false,
    headers: HEADERS,
    requests: &[
        instruments("instruments", "/v5/market/instruments-info?category=spot", true),
        tickers("/v5/market/tickers?category=spot"),
    ],
};

/// `bybit.linear`. Names of its contracts are those of spot pairs too, hence a source of its own.
pub static LINEAR: MarketSpec = MarketSpec {
    name: "bybit.linear",
    exchange: Exchange::Bybit,
    evidence: Evidence::Official,
    base_url: "https://api.bybit.com",
    ahead_by_time: false,
    headers: HEADERS,
    requests: &[
        instruments("instruments", "/v5/market/instruments-info?category=linear&limit=1000", true),
        // Whoever leaves this list has most likely opened, which the other one may show later.
        instruments(
            "prelaunch",
            "/v5/market/instruments-info?category=linear&status=PreLaunch&limit=1000",
            false,
        ),
        tickers("/v5/market/tickers?category=linear"),
    ],
};

const fn instruments(name: &'static str, target: &'static str, complete: bool) -> MarketRequest {
    let every = Duration::from_secs(10);
    MarketRequest {
        name,
        target,
        body: None,
        every,
        complete,
        tells: Tells::Instruments,
        parse: parse_instruments,
    }
}

const fn tickers(target: &'static str) -> MarketRequest {
    let every = Duration::from_secs(60);
    MarketRequest {
        name: "tickers",
        target,
        body: None,
        every,
        complete: false,
        tells: Tells::Volumes,
        parse: parse_tickers,
    }
}

fn result<'t, 'a>(root: Json<'t, 'a>) -> Result<Json<'t, 'a>, ParseError> {
    expect(root, "retCode", "0", "retMsg")?;
    root.get("result").ok_or(ParseError::Missing("result"))
}

fn parse_instruments(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(MarketRow<'_>),
) -> Result<Parsed, ParseError> {
    scratch.document(body, |root| {
        let result = result(root)?;
        let rows = list(result, "list")?;
        let mut parsed = read_instruments(rows, found, read_instrument);
        // The last page has a cursor too.
        if !word(result, "nextPageCursor").is_empty() && rows.elements().count() >= PAGE {
            parsed.beyond_limit += 1;
        }
        Ok(parsed)
    })
}

fn read_instrument<'a>(row: Json<'_, 'a>) -> Option<Instrument<'a>> {
    let state = word(row, "status");
    let phase = row.get("preListingInfo").map_or("", |info| word(info, "curAuctionPhase"));
    Some(Instrument {
        symbol: name(row, "symbol")?,
        base: name(row, "baseCoin")?,
        quote: name(row, "quoteCoin")?,
        kind: match word(row, "contractType") {
            "" => InstrumentKind::Spot,
            kind if kind.contains("Perpetual") => InstrumentKind::Perpetual,
            _ => InstrumentKind::Dated,
        },
        trading: trading(state, phase),
        state,
        opens_at: continuous(row).or_else(|| time(row, "launchTime")),
        closes_at: time(row, "deliveryTime"),
    })
}

/// When a pre-market contract is traded freely, after its auction: `launchTime` is only when it was shown.
fn continuous(row: Json<'_, '_>) -> Option<WallUs> {
    let phases = row.get("preListingInfo")?.get("phases")?;
    let trading = phases.elements().find(|phase| word(*phase, "phase") == "ContinuousTrading")?;
    time(trading, "startTime")
}

/// A pre-market contract stays `PreLaunch` for weeks while it is traded: its phase tells.
pub(super) fn trading(state: &str, phase: &str) -> Trading {
    match state {
        "PreLaunch" if phase == "ContinuousTrading" => Trading::Open,
        "PreLaunch" | "PendingOpen" => Trading::Ahead,
        "Trading" => Trading::Open,
        "Settling" | "Delivering" | "Closed" => Trading::Over,
        _ => Trading::Halted,
    }
}

fn parse_tickers(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(MarketRow<'_>),
) -> Result<Parsed, ParseError> {
    scratch.document(body, |root| {
        let rows = list(result(root)?, "list")?;
        Ok(read_volumes(rows, found, ["symbol", "turnover24h", "lastPrice"]))
    })
}
