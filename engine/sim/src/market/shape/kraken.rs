//! Kraken: `/0/public/AssetPairs` and `/0/public/Ticker`, objects keyed by old names.

use serde_json::{Map, Value, json};
use tocsin_core::market::Trading;

use super::{Row, SPOT, Shape, View, without_times};
use crate::http::Request;
use crate::market::Listing;

pub(super) static SHAPE: Shape = Shape { kinds: SPOT, quotes: &["USD", "EUR"], symbol, shown, answer };

/// The first assets have letters before their names, and bitcoin a name of its own.
fn symbol(listing: &Listing) -> String {
    if listing.base == "BTC" {
        format!("XXBTZ{}", listing.quote)
    } else {
        format!("{}{}", listing.base, listing.quote)
    }
}

/// No times.
fn shown(listing: &Listing) -> Option<Listing> {
    Some(without_times(listing))
}

fn answer(view: &View<'_>, request: &Request) -> (u16, Value) {
    let keyed = |make: fn(&View<'_>, &Row<'_>) -> Value| -> Map<String, Value> {
        view.rows.iter().map(|row| (row.symbol.clone(), make(view, row))).collect()
    };
    match request.path() {
        "/0/public/AssetPairs" => (200, json!({ "error": [], "result": keyed(pair) })),
        "/0/public/Ticker" => (200, json!({ "error": [], "result": keyed(ticker) })),
        _ => (404, json!({ "error": ["EGeneral:Unknown method"] })),
    }
}

fn pair(view: &View<'_>, row: &Row<'_>) -> Value {
    let listing = row.listing;
    let base = if listing.base == "BTC" { "XBT" } else { &listing.base };
    let status = match listing.trading {
        Trading::Ahead => "work_in_progress",
        Trading::Open => "online",
        Trading::Halted => "maintenance",
        Trading::Over => "delisted",
    };
    json!({
        "altname": format!("{base}{}", listing.quote), "wsname": format!("{base}/{}", listing.quote),
        "base": base, "quote": format!("Z{}", listing.quote), "status": status,
        "ordermin": view.text(Some(0.1)),
    })
}

/// Pairs of today and of 24 hours: volume in the base, and the mean price. The last trade: price and size.
fn ticker(view: &View<'_>, row: &Row<'_>) -> Value {
    let listing = row.listing;
    let mean = listing.last;
    let base = listing.quote_24h.zip(mean).map(|(quote, mean)| quote / mean);
    let both = |number| json!([view.text(number), view.text(number)]);
    json!({ "c": both(listing.last), "v": both(base), "p": both(mean), "t": [1, 2] })
}
