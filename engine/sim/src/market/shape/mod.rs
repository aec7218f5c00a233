//! How each exchange writes its instruments and tickers: one file an exchange.
//!
//! Contract: pure functions of the world. What a shape answers and what it says it shows are written from
//! the exchanges' documents, not from the engine's parsers, so that each checks the other.

mod binance;
mod bitget;
mod bithumb;
mod bybit;
mod coinbase;
mod gate;
mod htx;
mod hyperliquid;
mod kraken;
mod kucoin;
mod okx;
mod upbit;

use serde_json::{Value, json};
use tocsin_core::market::{InstrumentKind, Trading};
use tocsin_core::model::Exchange;
use tocsin_core::time::WallUs;

use super::world::Listing;
use crate::http::Request;

/// An exchange's way.
pub(super) struct Shape {
    /// What it lists here.
    pub(super) kinds: &'static [InstrumentKind],
    /// What its instruments are priced in.
    pub(super) quotes: &'static [&'static str],
    /// Its name for an instrument.
    pub(super) symbol: fn(&Listing) -> String,
    /// What a reader can learn of one; `None` when it is not on the list.
    pub(super) shown: fn(&Listing) -> Option<Listing>,
    /// Status and body.
    pub(super) answer: fn(&View<'_>, &Request) -> (u16, Value),
}

/// What an answer is made from.
pub(super) struct View<'a> {
    pub(super) rows: Vec<Row<'a>>,
    /// Whether numbers are left out.
    pub(super) empty: bool,
}

/// One instrument that is on the list.
pub(super) struct Row<'a> {
    pub(super) symbol: String,
    pub(super) listing: &'a Listing,
}

/// The way of `exchange`.
pub(super) fn of(exchange: Exchange) -> Option<&'static Shape> {
    Some(match exchange {
        Exchange::Binance => &binance::SHAPE,
        Exchange::Okx => &okx::SHAPE,
        Exchange::Bybit => &bybit::SHAPE,
        Exchange::Gate => &gate::SHAPE,
        Exchange::Kucoin => &kucoin::SHAPE,
        Exchange::Bitget => &bitget::SHAPE,
        Exchange::Htx => &htx::SHAPE,
        Exchange::Upbit => &upbit::SHAPE,
        Exchange::Bithumb => &bithumb::SHAPE,
        Exchange::Coinbase => &coinbase::SHAPE,
        Exchange::Kraken => &kraken::SHAPE,
        Exchange::Hyperliquid => &hyperliquid::SHAPE,
        _ => return None,
    })
}

const SPOT: &[InstrumentKind] = &[InstrumentKind::Spot];

impl View<'_> {
    /// Rows of one kind.
    fn of(&self, kind: InstrumentKind) -> impl Iterator<Item = &Row<'_>> {
        self.rows.iter().filter(move |row| row.listing.kind == kind)
    }

    /// A number in a string, empty when there is none.
    fn text(&self, number: Option<f64>) -> Value {
        match number.filter(|_| !self.empty) {
            Some(number) => json!(number.to_string()),
            None => json!(""),
        }
    }

    /// A number, `null` when there is none.
    fn bare(&self, number: Option<f64>) -> Value {
        number.filter(|_| !self.empty).map_or(Value::Null, |number| json!(number))
    }

    /// The volumes of one kind as an array of what `row` makes of each.
    fn list(&self, kind: InstrumentKind, row: impl Fn(&Row<'_>) -> Value) -> Value {
        self.of(kind).map(row).collect()
    }
}

/// Milliseconds in a string, or what stands for none.
fn millis_text(at: Option<WallUs>, none: &str) -> Value {
    at.map_or_else(|| json!(none), |at| json!((at.0 / 1_000).to_string()))
}

/// The same without what the exchange does not tell.
fn without_times(listing: &Listing) -> Listing {
    Listing { opens_at: None, closes_at: None, ..listing.clone() }
}

/// The same with another state.
fn as_trading(listing: Listing, trading: Trading) -> Listing {
    Listing { trading, ..listing }
}

/// `310815`, the day of an end.
fn compact_day(listing: &Listing) -> String {
    let date = crate::clock::utc_date(listing.closes_at.unwrap_or_default());
    date.replace('-', "").get(2..).unwrap_or("").to_owned()
}
