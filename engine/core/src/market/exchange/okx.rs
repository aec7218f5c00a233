//! OKX: spot, perpetual and dated instruments (official), the best preview there is.
//!
//! `preopen` and `listTime` are set when a listing is announced, `expTime` when a delisting is (official
//! documents); what has ended is gone from the list. Until it opens a row is nearly empty: no assets, no
//! sizes. The pair then stands in the name alone. Names are long (`MOODENG-USD_UM_XPERP-310815`).
//! The set of instruments differs between regions.

use core::time::Duration;

use super::{
    HEADERS, amount, expect, give_volume, list, name, plain, price, read_instruments, read_rows, time, word,
};
use crate::market::{Instrument, InstrumentKind, MarketRequest, MarketRow, MarketSpec, Tells, Trading};
use crate::model::Exchange;
use crate::source::json::Json;
use crate::source::{Evidence, ParseError, Parsed, Scratch, when};
use crate::time::WallUs;

/// How far the end of an X-Perp may be from the date in its name and still be that date: a day has 24 hours
/// in any time zone of an exchange.
const NAMED_DAY_US: u64 = 36 * 3_600 * 1_000_000;

/// `okx.instruments`. Each type may be asked for 20 times in 2 seconds, its tickers likewise.
pub static INSTRUMENTS: MarketSpec = MarketSpec {
    name: "okx.instruments",
    exchange: Exchange::Okx,
    evidence: Evidence::Official,
    base_url: "https://www.okx.com",
    ahead_by_time: false,
    headers: HEADERS,
    requests: &[
        instruments("spot", "/api/v5/public/instruments?instType=SPOT"),
        instruments("swap", "/api/v5/public/instruments?instType=SWAP"),
        instruments("futures", "/api/v5/public/instruments?instType=FUTURES"),
        tickers("spot-tickers", "/api/v5/market/tickers?instType=SPOT"),
        tickers("swap-tickers", "/api/v5/market/tickers?instType=SWAP"),
        tickers("futures-tickers", "/api/v5/market/tickers?instType=FUTURES"),
    ],
};

const fn instruments(name: &'static str, target: &'static str) -> MarketRequest {
    let every = Duration::from_secs(10);
    MarketRequest {
        name,
        target,
        body: None,
        every,
        complete: true,
        tells: Tells::Instruments,
        parse: parse_instruments,
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

fn parse_instruments(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(MarketRow<'_>),
) -> Result<Parsed, ParseError> {
    scratch.document(body, |root| {
        expect(root, "code", "0", "msg")?;
        Ok(read_instruments(list(root, "data")?, found, read_instrument))
    })
}

fn read_instrument<'a>(row: Json<'_, 'a>) -> Option<Instrument<'a>> {
    let symbol = name(row, "instId")?;
    let mut parts = symbol.split('-');
    let (base, quote) = (parts.next()?, parts.next()?);
    let x_perp = quote.contains("XPERP");
    let kind = match word(row, "instType") {
        "SPOT" | "MARGIN" => InstrumentKind::Spot,
        "SWAP" => InstrumentKind::Perpetual,
        "FUTURES" if x_perp => InstrumentKind::Perpetual,
        "FUTURES" => InstrumentKind::Dated,
        _ => return None,
    };
    let state = word(row, "state");
    // A perpetual in the form of a contract of five years: the day in its name is no delisting.
    let nominal = if x_perp { parts.next().and_then(named_day) } else { None };
    let closes_at = time(row, "expTime");
    Some(Instrument {
        symbol,
        base: name(row, "baseCcy").unwrap_or(plain(base)?),
        // `USD_UM_XPERP` is priced in USD.
        quote: name(row, "quoteCcy").unwrap_or(plain(quote.split('_').next()?)?),
        kind,
        trading: trading(state),
        state,
        opens_at: time(row, "listTime"),
        closes_at: closes_at.filter(|end| nominal.is_none_or(|day| day.0.abs_diff(end.0) >= NAMED_DAY_US)),
    })
}

/// The day that `310815` stands for.
fn named_day(digits: &str) -> Option<WallUs> {
    let (year, rest) = digits.split_at_checked(2)?;
    let (month, day) = rest.split_at_checked(2)?;
    let text = ["20", year, "-", month, "-", day].concat();
    when::from_text(&text, when::UTC_SECS)
}

pub(super) fn trading(state: &str) -> Trading {
    match state {
        "preopen" => Trading::Ahead,
        "live" | "post_only" => Trading::Open,
        "expired" => Trading::Over,
        // suspend, settlement, rebase, test (pairs that are never traded).
        _ => Trading::Halted,
    }
}

fn parse_tickers(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(MarketRow<'_>),
) -> Result<Parsed, ParseError> {
    scratch.document(body, |root| {
        expect(root, "code", "0", "msg")?;
        Ok(read_rows(list(root, "data")?.elements(), found, |row, give| {
            let currency = amount(row.get("volCcy24h"))?;
            // Of spot the quote currency, of contracts the base currency: worth about the last price.
            let last = price(row.get("last"));
            let quote_24h = match word(row, "instType") {
                "SPOT" | "MARGIN" => currency,
                _ => currency.zip(last).map(|(base, last)| base * last).filter(|quote| quote.is_finite()),
            };
            give_volume(name(row, "instId")?, quote_24h, last, give);
            Some(())
        }))
    })
}
