//! OKX: `/api/v5/public/instruments` and `/api/v5/market/tickers`, a type at a time.

use serde_json::{Value, json};
use tocsin_core::market::{InstrumentKind, Trading};

use super::{Row, Shape, View, compact_day, millis_text};
use crate::http::Request;
use crate::market::Listing;

pub(super) static SHAPE: Shape = Shape {
    kinds: &[InstrumentKind::Spot, InstrumentKind::Perpetual, InstrumentKind::Dated],
    quotes: &["USDT", "USDC", "EUR"],
    symbol,
    shown,
    answer,
};

fn symbol(listing: &Listing) -> String {
    let pair = format!("{}-{}", listing.base, listing.quote);
    match listing.kind {
        InstrumentKind::Spot => pair,
        InstrumentKind::Perpetual => format!("{pair}-SWAP"),
        InstrumentKind::Dated => format!("{pair}-{}", compact_day(listing)),
    }
}

/// What is over is gone from the list.
fn shown(listing: &Listing) -> Option<Listing> {
    (listing.trading != Trading::Over).then(|| listing.clone())
}

fn answer(view: &View<'_>, request: &Request) -> (u16, Value) {
    let kind = match request.query("instType") {
        Some("SPOT") => InstrumentKind::Spot,
        Some("SWAP") => InstrumentKind::Perpetual,
        Some("FUTURES") => InstrumentKind::Dated,
        _ => return (400, json!({ "code": "50014", "msg": "simulated refusal", "data": [] })),
    };
    let data = match request.path() {
        "/api/v5/public/instruments" => view.list(kind, |row| instrument(view, row)),
        "/api/v5/market/tickers" => view.list(kind, |row| ticker(view, row)),
        _ => return (404, json!({ "code": "404", "msg": "simulated refusal", "data": [] })),
    };
    (200, json!({ "code": "0", "msg": "", "data": data }))
}

const fn kind_name(kind: InstrumentKind) -> &'static str {
    match kind {
        InstrumentKind::Spot => "SPOT",
        InstrumentKind::Perpetual => "SWAP",
        InstrumentKind::Dated => "FUTURES",
    }
}

/// Before the opening nothing is filled in but the name, the state and the time.
fn instrument(view: &View<'_>, row: &Row<'_>) -> Value {
    let listing = row.listing;
    let (state, size) = match listing.trading {
        Trading::Ahead => ("preopen", None),
        Trading::Open => ("live", Some(0.01)),
        Trading::Halted | Trading::Over => ("suspend", Some(0.01)),
    };
    let spot = listing.kind == InstrumentKind::Spot && listing.trading != Trading::Ahead;
    let asset = |name: &str| if spot { json!(name) } else { json!("") };
    json!({
        "instType": kind_name(listing.kind), "instId": row.symbol, "instIdCode": null, "state": state,
        "baseCcy": asset(&listing.base), "quoteCcy": asset(&listing.quote), "uly": "", "alias": "",
        "listTime": millis_text(listing.opens_at, ""), "expTime": millis_text(listing.closes_at, ""),
        "tickSz": view.text(size), "lotSz": view.text(size), "minSz": view.text(size), "ctVal": "", "upcChg": [],
    })
}

/// The volume is in the quote of spot pairs, in the base of contracts.
fn ticker(view: &View<'_>, row: &Row<'_>) -> Value {
    let listing = row.listing;
    let base = listing.quote_24h.zip(listing.last).map(|(quote, last)| quote / last);
    let currency = if listing.kind == InstrumentKind::Spot { listing.quote_24h } else { base };
    json!({
        "instType": kind_name(listing.kind), "instId": row.symbol, "last": view.text(listing.last),
        "vol24h": view.text(base), "volCcy24h": view.text(currency),
    })
}
