//! Upbit: `/v1/market/all` and `/v1/ticker/all`. Only what is listed is there, without a state.

use serde_json::{Value, json};
use tocsin_core::market::{InstrumentKind, Trading};

use super::{Row, SPOT, Shape, View, as_trading, without_times};
use crate::http::Request;
use crate::market::Listing;

pub(super) static SHAPE: Shape =
    Shape { kinds: SPOT, quotes: &["KRW", "BTC", "USDT"], symbol, shown, answer };

pub(super) fn symbol(listing: &Listing) -> String {
    format!("{}-{}", listing.quote, listing.base)
}

/// Nothing before the opening, nothing after the end; in between everything looks open.
pub(super) fn shown(listing: &Listing) -> Option<Listing> {
    match listing.trading {
        Trading::Ahead | Trading::Over => None,
        Trading::Open | Trading::Halted => Some(as_trading(without_times(listing), Trading::Open)),
    }
}

fn answer(view: &View<'_>, request: &Request) -> (u16, Value) {
    match (request.path(), request.query("quote_currencies")) {
        ("/v1/market/all", _) => (200, view.list(InstrumentKind::Spot, market)),
        ("/v1/ticker/all", Some(quotes)) => {
            let wanted = |row: &&Row<'_>| quotes.split(',').any(|quote| quote == row.listing.quote);
            (200, view.rows.iter().filter(wanted).map(|row| ticker(view, row)).collect())
        }
        _ => (404, json!({ "error": { "name": 404, "message": "simulated refusal" } })),
    }
}

fn market(row: &Row<'_>) -> Value {
    json!({
        "market": row.symbol, "korean_name": row.listing.base, "english_name": row.listing.base,
        "market_event": { "warning": false, "caution": { "PRICE_FLUCTUATIONS": false } },
    })
}

fn ticker(view: &View<'_>, row: &Row<'_>) -> Value {
    json!({
        "market": row.symbol, "trade_price": view.bare(row.listing.last), "acc_trade_price": 0.0,
        "acc_trade_price_24h": view.bare(row.listing.quote_24h),
    })
}
