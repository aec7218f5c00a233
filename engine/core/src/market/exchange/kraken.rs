//! Kraken: spot pairs over REST (official).
//!
//! A pair is keyed by an old name (`XXBTZUSD`), the same for its ticker; base and quote come from `wsname`,
//! in which bitcoin and dogecoin have names of their own. `work_in_progress` is before the opening, without
//! a time. A ticker gives the base volume and the mean price of 24 hours. No time of an end.

use core::time::Duration;

use super::{HEADERS, amount, give_volume, name, plain, price, read_rows, refused, word};
use crate::market::{Instrument, InstrumentKind, MarketRequest, MarketRow, MarketSpec, Tells, Trading};
use crate::model::Exchange;
use crate::source::json::Json;
use crate::source::{Evidence, ParseError, Parsed, Scratch, ShortText};

/// `kraken.spot`. About one public request a second is safe; these are three a minute.
pub static SPOT: MarketSpec = MarketSpec {
    name: "kraken.spot",
    exchange: Exchange::Kraken,
    evidence: Evidence::Official,
    base_url: "https://api.kraken.com",
    ahead_by_time: false,
    headers: HEADERS,
    requests: &[
        MarketRequest {
            name: "instruments",
            target: "/0/public/AssetPairs",
            body: None,
            every: Duration::from_secs(30),
            complete: true,
            tells: Tells::Instruments,
            parse: parse_pairs,
        },
        MarketRequest {
            name: "tickers",
            target: "/0/public/Ticker",
            body: None,
            every: Duration::from_secs(60),
            complete: false,
            tells: Tells::Volumes,
            parse: parse_tickers,
        },
    ],
};

/// Errors are a list beside the result; one that begins with `W` is a warning.
fn result<'t, 'a>(root: Json<'t, 'a>) -> Result<Json<'t, 'a>, ParseError> {
    let errors = root.get("error").into_iter().flat_map(Json::elements).filter_map(Json::str);
    if let Some(error) = errors.into_iter().find(|text| !text.starts_with('W')) {
        return Err(ParseError::Refused(ShortText::cut(error)));
    }
    match root.get("result").filter(|result| result.is_object()) {
        Some(result) => Ok(result),
        None if root.get("error").is_some_and(|error| error.str().is_some()) => {
            Err(refused(root, &["error"]))
        }
        None => Err(ParseError::Missing("result")),
    }
}

fn parse_pairs(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(MarketRow<'_>),
) -> Result<Parsed, ParseError> {
    scratch.document(body, |root| {
        Ok(read_rows(result(root)?.entries(), found, |(key, row), give| {
            give(MarketRow::Instrument(read_pair(key, row)?));
            Some(())
        }))
    })
}

fn read_pair<'a>(key: &'a str, row: Json<'_, 'a>) -> Option<Instrument<'a>> {
    let pair = name(row, "wsname").and_then(|pair| pair.split_once('/'));
    let (base, quote) = match pair {
        Some((base, quote)) => (plain(base)?, plain(quote)?),
        None => (name(row, "base")?, name(row, "quote")?),
    };
    let state = word(row, "status");
    Some(Instrument {
        symbol: plain(key)?,
        base: usual(base),
        quote: usual(quote),
        kind: InstrumentKind::Spot,
        trading: trading(state),
        state,
        opens_at: None,
        closes_at: None,
    })
}

/// The names Kraken itself writes everywhere but here.
fn usual(asset: &str) -> &str {
    match asset {
        "XBT" | "XXBT" => "BTC",
        "XDG" | "XXDG" => "DOGE",
        "ZUSD" => "USD",
        "ZEUR" => "EUR",
        other => other,
    }
}

pub(super) fn trading(state: &str) -> Trading {
    match state {
        "work_in_progress" => Trading::Ahead,
        "online" | "post_only" | "limit_only" => Trading::Open,
        "delisted" => Trading::Over,
        // cancel_only, reduce_only (before an end, and at other times), maintenance.
        _ => Trading::Halted,
    }
}

fn parse_tickers(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(MarketRow<'_>),
) -> Result<Parsed, ParseError> {
    scratch.document(body, |root| {
        Ok(read_rows(result(root)?.entries(), found, |(key, row), give| {
            // Of today, then of 24 hours.
            let of_a_day = |key| amount(row.get(key).and_then(|both| both.elements().nth(1)));
            let quote_24h = of_a_day("v")?.zip(of_a_day("p")?).map(|(volume, mean)| volume * mean);
            // The last trade: its price, then its size.
            let last = price(row.get("c").and_then(|both| both.elements().next()));
            give_volume(plain(key)?, quote_24h.filter(|quote| quote.is_finite()), last, give);
            Some(())
        }))
    })
}
