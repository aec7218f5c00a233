//! KuCoin: `/api/v2/symbols` and `/api/v1/market/allTickers`.

use serde_json::{Value, json};
use tocsin_core::market::{InstrumentKind, Trading};

use super::{Row, SPOT, Shape, View, as_trading};
use crate::http::Request;
use crate::market::Listing;

pub(super) static SHAPE: Shape =
    Shape { kinds: SPOT, quotes: &["USDT", "USDC", "BTC"], symbol, shown, answer };

fn symbol(listing: &Listing) -> String {
    format!("{}-{}", listing.base, listing.quote)
}

/// No end is told, and what is over is gone; what will open without a time is just not enabled.
fn shown(listing: &Listing) -> Option<Listing> {
    let listing = Listing { closes_at: None, ..listing.clone() };
    match listing.trading {
        Trading::Over => None,
        Trading::Ahead if listing.opens_at.is_none() => Some(as_trading(listing, Trading::Halted)),
        _ => Some(listing),
    }
}

fn answer(view: &View<'_>, request: &Request) -> (u16, Value) {
    let data = match request.path() {
        "/api/v2/symbols" => view.list(InstrumentKind::Spot, |row| pair(view, row)),
        "/api/v1/market/allTickers" => {
            json!({ "time": 1, "ticker": view.list(InstrumentKind::Spot, |row| ticker(view, row)) })
        }
        _ => return (404, json!({ "code": "404", "msg": "simulated refusal" })),
    };
    (200, json!({ "code": "200000", "data": data }))
}

fn pair(view: &View<'_>, row: &Row<'_>) -> Value {
    json!({
        "symbol": row.symbol, "name": row.symbol, "baseCurrency": row.listing.base,
        "quoteCurrency": row.listing.quote, "baseMinSize": view.text(Some(0.1)), "st": false,
        "enableTrading": row.listing.trading == Trading::Open, "callauctionIsEnabled": false,
        "callauctionFirstStageStartTime": null,
        "tradingStartTime": row.listing.opens_at.map(|at| at.0 / 1_000),
    })
}

fn ticker(view: &View<'_>, row: &Row<'_>) -> Value {
    let text = |number: Option<f64>| match view.text(number) {
        Value::String(text) if text.is_empty() => Value::Null,
        text => text,
    };
    json!({ "symbol": row.symbol, "last": text(row.listing.last), "volValue": text(row.listing.quote_24h) })
}
