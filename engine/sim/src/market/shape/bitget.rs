//! Bitget: `/api/v2/spot` and `/api/v2/mix`, a product type at a time.

use serde_json::{Value, json};
use tocsin_core::market::{InstrumentKind, Trading};

use super::{Row, Shape, View, as_trading, millis_text};
use crate::http::Request;
use crate::market::Listing;

pub(super) static SHAPE: Shape = Shape {
    kinds: &[InstrumentKind::Spot, InstrumentKind::Perpetual],
    quotes: &["USDT", "USDC"],
    symbol,
    shown,
    answer,
};

fn symbol(listing: &Listing) -> String {
    format!("{}{}", listing.base, listing.quote)
}

/// A spot pair before its opening is `gray`, which tells nothing.
fn shown(listing: &Listing) -> Option<Listing> {
    let listing = listing.clone();
    Some(match (listing.kind, listing.trading) {
        (InstrumentKind::Spot, Trading::Ahead) => as_trading(listing, Trading::Halted),
        _ => listing,
    })
}

fn answer(view: &View<'_>, request: &Request) -> (u16, Value) {
    let quote = match request.query("productType") {
        Some("USDT-FUTURES") => "USDT",
        Some("USDC-FUTURES") => "USDC",
        Some(_) => return (400, json!({ "code": "400172", "msg": "simulated refusal", "data": null })),
        None => "",
    };
    let of_product =
        |row: &&Row<'_>| row.listing.kind == InstrumentKind::Perpetual && row.listing.quote == quote;
    let data: Value = match request.path() {
        "/api/v2/spot/public/symbols" => view.list(InstrumentKind::Spot, |row| pair(view, row)),
        "/api/v2/spot/market/tickers" => view.list(InstrumentKind::Spot, |row| ticker(view, row)),
        "/api/v2/mix/market/contracts" => {
            view.rows.iter().filter(of_product).map(|row| contract(view, row)).collect()
        }
        "/api/v2/mix/market/tickers" => {
            view.rows.iter().filter(of_product).map(|row| ticker(view, row)).collect()
        }
        _ => return (404, json!({ "code": "40404", "msg": "simulated refusal", "data": null })),
    };
    (200, json!({ "code": "00000", "msg": "success", "requestTime": 1, "data": data }))
}

fn pair(view: &View<'_>, row: &Row<'_>) -> Value {
    let status = match row.listing.trading {
        Trading::Ahead => "gray",
        Trading::Open => "online",
        Trading::Halted => "halt",
        Trading::Over => "offline",
    };
    json!({
        "symbol": row.symbol, "baseCoin": row.listing.base, "quoteCoin": row.listing.quote, "status": status,
        "minTradeAmount": view.text(Some(0.0)), "openTime": millis_text(row.listing.opens_at, ""),
        "offTime": millis_text(row.listing.closes_at, ""),
    })
}

fn contract(view: &View<'_>, row: &Row<'_>) -> Value {
    let status = match row.listing.trading {
        Trading::Ahead => "listed",
        Trading::Open => "normal",
        Trading::Halted => "maintain",
        Trading::Over => "off",
    };
    json!({
        "symbol": row.symbol, "baseCoin": row.listing.base, "quoteCoin": row.listing.quote,
        "symbolType": "perpetual", "symbolStatus": status, "makerFeeRate": view.text(Some(0.0002)),
        "launchTime": millis_text(row.listing.opens_at, ""), "offTime": millis_text(row.listing.closes_at, "-1"),
        "limitOpenTime": "-1", "deliveryTime": "",
    })
}

fn ticker(view: &View<'_>, row: &Row<'_>) -> Value {
    json!({
        "symbol": row.symbol, "lastPr": view.text(row.listing.last),
        "quoteVolume": view.text(row.listing.quote_24h), "usdtVolume": view.text(row.listing.quote_24h),
    })
}
