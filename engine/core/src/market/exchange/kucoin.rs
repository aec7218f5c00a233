//! KuCoin: spot pairs (official).
//!
//! There is no word for a state: `enableTrading` is true or false, and `tradingStartTime` (or a call
//! auction before it) is given ahead of an opening. A pair that was delisted may still have
//! `enableTrading` true, so its end shows only when it leaves the list.

use core::time::Duration;

use super::{HEADERS, begun, expect, flag, list, name, not_traded, read_instruments, read_volumes, time};
use crate::market::{Instrument, InstrumentKind, MarketRequest, MarketRow, MarketSpec, Tells, Trading};
use crate::model::Exchange;
use crate::source::json::Json;
use crate::source::{Evidence, ParseError, Parsed, Scratch};
use crate::time::WallUs;

/// `kucoin.spot`. The public pool is 2,000 in 30 seconds; these take 20.
pub static SPOT: MarketSpec = MarketSpec {
    name: "kucoin.spot",
    exchange: Exchange::Kucoin,
    evidence: Evidence::Official,
    base_url: "https://api.kucoin.com",
    ahead_by_time: true,
    headers: HEADERS,
    requests: &[
        MarketRequest {
            name: "instruments",
            target: "/api/v2/symbols",
            body: None,
            every: Duration::from_secs(10),
            complete: true,
            tells: Tells::Instruments,
            parse: parse_symbols,
        },
        MarketRequest {
            name: "tickers",
            target: "/api/v1/market/allTickers",
            body: None,
            every: Duration::from_secs(60),
            complete: false,
            tells: Tells::Volumes,
            parse: parse_tickers,
        },
    ],
};

fn parse_symbols(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(MarketRow<'_>),
) -> Result<Parsed, ParseError> {
    scratch.document(body, |root| {
        expect(root, "code", "200000", "msg")?;
        let rows = list(root, "data")?;
        let begun = begun(rows, "tradingStartTime", |row| flag(row, "enableTrading"));
        Ok(read_instruments(rows, found, |row| read_symbol(row, begun)))
    })
}

fn read_symbol<'a>(row: Json<'_, 'a>, begun: Option<WallUs>) -> Option<Instrument<'a>> {
    let enabled = flag(row, "enableTrading");
    let opens_at = time(row, "tradingStartTime");
    Some(Instrument {
        symbol: name(row, "symbol")?,
        base: name(row, "baseCurrency")?,
        quote: name(row, "quoteCurrency")?,
        kind: InstrumentKind::Spot,
        trading: if enabled { Trading::Open } else { not_traded(opens_at, begun) },
        state: match (enabled, flag(row, "callauctionIsEnabled")) {
            (true, _) => "enableTrading=true",
            (false, true) => "callauctionIsEnabled=true",
            (false, false) => "enableTrading=false",
        },
        opens_at,
        closes_at: None,
    })
}

fn parse_tickers(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(MarketRow<'_>),
) -> Result<Parsed, ParseError> {
    scratch.document(body, |root| {
        expect(root, "code", "200000", "msg")?;
        let data = root.get("data").ok_or(ParseError::Missing("data"))?;
        Ok(read_volumes(list(data, "ticker")?, found, ["symbol", "volValue", "last"]))
    })
}
