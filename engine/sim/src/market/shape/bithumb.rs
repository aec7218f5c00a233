//! Bithumb: `/v1/market/all` in Upbit's shape, and the older `/public/ticker/ALL_<quote>`.

use serde_json::{Map, Value, json};
use tocsin_core::market::InstrumentKind;

use super::{Row, SPOT, Shape, View, upbit};
use crate::http::Request;

pub(super) static SHAPE: Shape =
    Shape { kinds: SPOT, quotes: &["KRW", "BTC"], symbol: upbit::symbol, shown: upbit::shown, answer };

fn answer(view: &View<'_>, request: &Request) -> (u16, Value) {
    match request.path() {
        "/v1/market/all" => (200, view.list(InstrumentKind::Spot, market)),
        "/public/ticker/ALL_KRW" => (200, tickers(view, "KRW")),
        "/public/ticker/ALL_BTC" => (200, tickers(view, "BTC")),
        _ => (404, json!({ "error": { "name": 404, "message": "simulated refusal" } })),
    }
}

fn market(row: &Row<'_>) -> Value {
    json!({
        "market": row.symbol, "korean_name": row.listing.base, "english_name": row.listing.base,
        "market_warning": "NONE",
    })
}

/// The base alone is the key; the time of the answer stands among them.
fn tickers(view: &View<'_>, quote: &str) -> Value {
    let of_quote = view.rows.iter().filter(|row| row.listing.quote == quote);
    let mut data: Map<String, Value> = of_quote
        .map(|row| {
            let ticker = json!({
                "closing_price": view.text(row.listing.last), "units_traded_24H": "",
                "acc_trade_value_24H": view.text(row.listing.quote_24h),
            });
            (row.listing.base.clone(), ticker)
        })
        .collect();
    data.insert("date".to_owned(), json!("1795000000000"));
    json!({ "status": "0000", "data": data })
}
