//! One file an exchange: where its instruments and volumes are asked for, its field paths, its words for
//! states, its quirks; nothing else.
//!
//! Contract: a parser is a pure function of the answer. It is told no time, so what only a clock can tell
//! (whether a beginning is past) it reads off the answer itself where it must, see [`begun`]. What holds
//! for every exchange:
//! - Every number and time is optional, as a number or in a string; what an exchange writes for "none"
//!   (an empty string, 0, -1, the year 2100) is `None`. Rows of instruments that are not open yet often
//!   have nothing but a name, a state and a time.
//! - A row without a usable name or pair is skipped and counted. While rows are skipped or beyond
//!   [`limits::MARKET_ROWS`], what is absent may stand there and is not gone.
//! - A word for a state that is not known here is [`Trading::Halted`]: an instrument that is halted is
//!   neither announced as ahead or open nor as over, and the word itself is kept for people to see.
//!
//! Owner: the market thread. Allocates nothing beyond the scratch, except where a name is put together.

pub mod binance;
pub mod bitget;
pub mod bithumb;
pub mod bybit;
pub mod coinbase;
pub mod gate;
pub mod htx;
pub mod hyperliquid;
pub mod kraken;
pub mod kucoin;
pub mod mexc;
pub mod okx;
#[cfg(test)]
mod tests;
pub mod upbit;

use super::{Instrument, MarketRow, MarketSpec, Trading, Volume};
use crate::limits;
use crate::source::json::Json;
use crate::source::{ParseError, Parsed, ShortText, when};
use crate::time::WallUs;

/// The sources that run unless told otherwise.
pub static ALL: [&MarketSpec; 16] = [
    &binance::SPOT,
    &binance::USDM,
    &okx::INSTRUMENTS,
    &bybit::SPOT,
    &bybit::LINEAR,
    &gate::SPOT,
    &gate::FUTURES,
    &kucoin::SPOT,
    &bitget::SPOT,
    &bitget::MIX,
    &htx::SPOT,
    &upbit::SPOT,
    &bithumb::SPOT,
    &coinbase::PRODUCTS,
    &kraken::SPOT,
    &hyperliquid::PERPETUALS,
];

/// The sources that run only when told so: known from other people's code, or a second path to the same
/// instruments.
pub static OFF_BY_DEFAULT: [&MarketSpec; 3] = [&mexc::SPOT, &mexc::CALENDAR, &coinbase::EXCHANGE];

/// The source called `name`, on or off by default.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static MarketSpec> {
    ALL.into_iter().chain(OFF_BY_DEFAULT).find(|spec| spec.name == name)
}

/// What every request to a documented endpoint says of us.
const HEADERS: &[(&str, &str)] =
    &[("user-agent", concat!("tocsin/", env!("CARGO_PKG_VERSION"))), ("accept", "application/json")];

/// Takes what a row tells; a row may tell of an instrument and of its volume.
type Give<'g> = dyn FnMut(MarketRow<'_>) + 'g;

/// Reads each of `rows`, and counts those that `read` cannot use.
fn read_rows<T>(
    rows: impl Iterator<Item = T>,
    found: &mut Give<'_>,
    read: impl Fn(T, &mut Give<'_>) -> Option<()>,
) -> Parsed {
    let mut parsed = Parsed::default();
    for row in rows {
        if parsed.rows >= limits::MARKET_ROWS {
            parsed.beyond_limit += 1;
            continue;
        }
        let mut given = 0;
        let usable = read(row, &mut |what| {
            given += 1;
            found(what);
        });
        parsed.rows += given;
        parsed.skipped += usize::from(usable.is_none());
    }
    parsed
}

/// Reads rows that are an instrument each.
fn read_instruments<'t, 'a: 't>(
    rows: Json<'t, 'a>,
    found: &mut Give<'_>,
    read: impl Fn(Json<'t, 'a>) -> Option<Instrument<'a>>,
) -> Parsed {
    read_rows(rows.elements(), found, |row, give| {
        give(MarketRow::Instrument(read(row)?));
        Some(())
    })
}

/// Reads rows that name an instrument, what was traded of it and its last price, under these keys.
fn read_volumes(rows: Json<'_, '_>, found: &mut Give<'_>, keys: [&str; 3]) -> Parsed {
    let [symbol, quote_24h, last] = keys;
    read_rows(rows.elements(), found, |row, give| {
        give_volume(name(row, symbol)?, amount(row.get(quote_24h))?, price(row.get(last)), give);
        Some(())
    })
}

fn give_volume(symbol: &str, quote_24h: Option<f64>, last: Option<f64>, give: &mut Give<'_>) {
    if let Some(quote_24h) = quote_24h {
        give(MarketRow::Volume(Volume { symbol, quote_24h, last }));
    }
}

/// A price, which is more than nothing; a row is of use without one.
fn price(value: Option<Json<'_, '_>>) -> Option<f64> {
    value?.number().filter(|price| *price > 0.0)
}

/// An amount: `None` when it is none, `Some(None)` when the exchange says nothing (absent, `null`, an
/// empty string), as it does before trading begins.
fn amount(value: Option<Json<'_, '_>>) -> Option<Option<f64>> {
    let Some(value) = value else { return Some(None) };
    if value.is_null() || value.str().is_some_and(|text| text.trim().is_empty()) {
        return Some(None);
    }
    value.number().filter(|number| *number >= 0.0).map(Some)
}

/// A name of an instrument or asset under `key`.
fn name<'a>(row: Json<'_, 'a>, key: &str) -> Option<&'a str> {
    plain(row.get(key)?.str()?)
}

/// `text` if it may name an instrument or asset: not empty or too long, no blanks, no controls.
fn plain(text: &str) -> Option<&str> {
    let fits = (1..=limits::SYMBOL_BYTES).contains(&text.len());
    (fits && text.bytes().all(|b| b > b' ' && b != 0x7F)).then_some(text)
}

/// The exchange's word under `key`; empty when it has none.
fn word<'a>(row: Json<'_, 'a>, key: &str) -> &'a str {
    let text = row.get(key).and_then(Json::str).unwrap_or("").trim();
    text.get(..text.floor_char_boundary(limits::STATE_WORD_BYTES)).unwrap_or("")
}

/// A time under `key`, whatever its unit or spelling.
fn time(row: Json<'_, '_>, key: &str) -> Option<WallUs> {
    row.get(key).and_then(|value| when::instant(value, when::UTC_SECS))
}

/// Whether `key` says `true`.
fn flag(row: Json<'_, '_>, key: &str) -> bool {
    row.get(key).and_then(Json::bool) == Some(true)
}

/// The present is not before this: the latest beginning, under `key`, of a row that is traded. Some
/// exchanges have one word for "not yet" and "no more"; a beginning past this one tells them apart.
fn begun<'t, 'a>(rows: Json<'t, 'a>, key: &str, traded: impl Fn(Json<'t, 'a>) -> bool) -> Option<WallUs> {
    rows.elements().filter(|row| traded(*row)).filter_map(|row| time(row, key)).max()
}

/// What an instrument that is not traded is: ahead when it begins past [`begun`]. The newest of all, stopped
/// again soon after its opening, looks ahead too, of a time that is past: who has a clock must look at it.
fn not_traded(opens_at: Option<WallUs>, begun: Option<WallUs>) -> Trading {
    let ahead = opens_at.is_some_and(|at| begun.is_none_or(|past| at > past));
    if ahead { Trading::Ahead } else { Trading::Halted }
}

/// The list under `key`.
fn list<'t, 'a>(root: Json<'t, 'a>, key: &'static str) -> Result<Json<'t, 'a>, ParseError> {
    root.get(key).filter(|rows| rows.is_array()).ok_or(ParseError::Missing(key))
}

/// A refusal, with the first reason that one of `keys` gives.
fn refused(root: Json<'_, '_>, keys: &[&str]) -> ParseError {
    let mut reasons = keys.iter().filter_map(|key| root.get(key)).map(Json::brief);
    let reason = reasons.find(|reason| !reason.as_str().is_empty());
    ParseError::Refused(reason.unwrap_or(ShortText::EMPTY))
}

/// Refuses an answer whose `key` has another value than the one for "done".
fn expect(root: Json<'_, '_>, key: &'static str, done: &str, why: &str) -> Result<(), ParseError> {
    match root.get(key) {
        Some(code) if code.brief().as_str() == done => Ok(()),
        Some(_) => Err(refused(root, &[key, why])),
        None => Err(ParseError::Missing(key)),
    }
}
