//! Hyperliquid: POST `/info`.

use serde_json::{Value, json};
use tocsin_core::market::{InstrumentKind, Trading};

use super::{Row, Shape, View, as_trading, without_times};
use crate::http::Request;
use crate::market::Listing;

pub(super) static SHAPE: Shape =
    Shape { kinds: &[InstrumentKind::Perpetual], quotes: &["USDC"], symbol, shown, answer };

fn symbol(listing: &Listing) -> String {
    listing.base.clone()
}

/// A contract is there from its opening on, and stays as delisted. It has no last price.
fn shown(listing: &Listing) -> Option<Listing> {
    let listing = Listing { last: None, ..without_times(listing) };
    match listing.trading {
        Trading::Ahead => None,
        Trading::Over => Some(listing),
        Trading::Open | Trading::Halted => Some(as_trading(listing, Trading::Open)),
    }
}

fn answer(view: &View<'_>, request: &Request) -> (u16, Value) {
    let asked: Option<Value> = serde_json::from_slice(&request.body).ok();
    let wanted = asked.as_ref().and_then(|body| body.get("type")).and_then(Value::as_str);
    let universe: Value = view.rows.iter().map(contract).collect();
    let meta = json!({ "universe": universe, "marginTables": [], "collateralToken": 0 });
    match (request.path(), wanted) {
        ("/info", Some("meta")) => (200, meta),
        ("/info", Some("metaAndAssetCtxs")) => {
            let contexts: Value = view.rows.iter().map(|row| context(view, row)).collect();
            (200, json!([meta, contexts]))
        }
        _ => (422, json!("simulated refusal")),
    }
}

fn contract(row: &Row<'_>) -> Value {
    let mut contract = json!({ "name": row.symbol, "szDecimals": 1, "maxLeverage": 5 });
    if row.listing.trading == Trading::Over {
        contract["isDelisted"] = json!(true);
    }
    contract
}

fn context(view: &View<'_>, row: &Row<'_>) -> Value {
    json!({ "dayNtlVlm": view.text(row.listing.quote_24h), "markPx": view.text(row.listing.last), "premium": null })
}
