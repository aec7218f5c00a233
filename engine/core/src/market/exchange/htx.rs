//! HTX: spot pairs (official).
//!
//! Ahead of its opening a pair is `pre-online`, with `toa` as the time. A ticker's `vol` is in the quote
//! asset and `amount` in the base asset.

use core::time::Duration;

use super::{HEADERS, list, name, read_instruments, read_volumes, refused, time, word};
use crate::market::{Instrument, InstrumentKind, MarketRequest, MarketRow, MarketSpec, Tells, Trading};
use crate::model::Exchange;
use crate::source::json::Json;
use crate::source::{Evidence, ParseError, Parsed, Scratch};

/// `htx.spot`. No limit is documented for these two; the least of any public endpoint is ten a second.
pub static SPOT: MarketSpec = MarketSpec {
    name: "htx.spot",
    exchange: Exchange::Htx,
    evidence: Evidence::Official,
    base_url: "https://api.huobi.pro",
    ahead_by_time: false,
    headers: HEADERS,
    requests: &[
        MarketRequest {
            name: "instruments",
            // Without `ts` the list is whole and not only what changed since.
            target: "/v2/settings/common/symbols",
            body: None,
            every: Duration::from_secs(10),
            complete: true,
            tells: Tells::Instruments,
            parse: parse_symbols,
        },
        MarketRequest {
            name: "tickers",
            target: "/market/tickers",
            body: None,
            every: Duration::from_secs(60),
            complete: false,
            tells: Tells::Volumes,
            parse: parse_tickers,
        },
    ],
};

fn data<'t, 'a>(root: Json<'t, 'a>) -> Result<Json<'t, 'a>, ParseError> {
    match word(root, "status") {
        "ok" => list(root, "data"),
        "" => Err(ParseError::Missing("status")),
        _ => Err(refused(root, &["err-code", "err-msg", "status"])),
    }
}

fn parse_symbols(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(MarketRow<'_>),
) -> Result<Parsed, ParseError> {
    scratch.document(body, |root| Ok(read_instruments(data(root)?, found, read_symbol)))
}

fn read_symbol<'a>(row: Json<'_, 'a>) -> Option<Instrument<'a>> {
    let state = word(row, "state");
    let enabled = row.get("te").and_then(Json::bool);
    Some(Instrument {
        symbol: name(row, "sc")?,
        // The names for display are upper case; the others are not.
        base: name(row, "bcdn").or_else(|| name(row, "bc"))?,
        quote: name(row, "qcdn").or_else(|| name(row, "qc"))?,
        kind: InstrumentKind::Spot,
        trading: trading(state, enabled),
        state,
        opens_at: time(row, "toa"),
        closes_at: None,
    })
}

pub(super) fn trading(state: &str, enabled: Option<bool>) -> Trading {
    match state {
        "pre-online" => Trading::Ahead,
        "online" if enabled != Some(false) => Trading::Open,
        "offline" => Trading::Over,
        // suspend, fuse, not-online (without a time), transfer-board (to another section), unknown.
        _ => Trading::Halted,
    }
}

fn parse_tickers(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(MarketRow<'_>),
) -> Result<Parsed, ParseError> {
    scratch.document(body, |root| Ok(read_volumes(data(root)?, found, ["symbol", "vol", "close"])))
}
