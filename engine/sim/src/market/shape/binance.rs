//! Binance: `/api/v3` for spot, `/fapi/v1` for USDⓈ-margined futures.

use serde_json::{Value, json};
use tocsin_core::market::{InstrumentKind, Trading};

use super::{Row, Shape, View, as_trading, compact_day, without_times};
use crate::http::Request;
use crate::market::Listing;

pub(super) static SHAPE: Shape = Shape {
    kinds: &[InstrumentKind::Spot, InstrumentKind::Perpetual, InstrumentKind::Dated],
    quotes: &["USDT", "USDC"],
    symbol,
    shown,
    answer,
};

/// What `deliveryDate` says as long as there is none.
const NEVER_MS: i64 = 4_133_404_800_000;

fn symbol(listing: &Listing) -> String {
    let pair = format!("{}{}", listing.base, listing.quote);
    if listing.kind == InstrumentKind::Dated { format!("{pair}_{}", compact_day(listing)) } else { pair }
}

/// A spot pair appears when it opens and stays as `BREAK`; futures tell everything.
fn shown(listing: &Listing) -> Option<Listing> {
    match (listing.kind, listing.trading) {
        (InstrumentKind::Spot, Trading::Ahead) => None,
        (InstrumentKind::Spot, Trading::Over) => Some(as_trading(without_times(listing), Trading::Halted)),
        (InstrumentKind::Spot, _) => Some(without_times(listing)),
        _ => Some(listing.clone()),
    }
}

fn answer(view: &View<'_>, request: &Request) -> (u16, Value) {
    match request.path() {
        "/api/v3/exchangeInfo" => {
            let sets = request.query("showPermissionSets") != Some("false");
            let symbols = view.list(InstrumentKind::Spot, |row| pair(view, row, sets));
            (200, json!({ "timezone": "UTC", "rateLimits": [], "exchangeFilters": [], "symbols": symbols }))
        }
        "/fapi/v1/exchangeInfo" => {
            let futures = view.rows.iter().filter(|row| row.listing.kind != InstrumentKind::Spot);
            let symbols: Value = futures.map(|row| contract(view, row)).collect();
            (200, json!({ "timezone": "UTC", "futuresType": "U_MARGINED", "assets": [], "symbols": symbols }))
        }
        "/api/v3/ticker/24hr" => (200, view.of(InstrumentKind::Spot).map(|row| ticker(view, row)).collect()),
        "/fapi/v1/ticker/24hr" => {
            let futures = view.rows.iter().filter(|row| row.listing.kind != InstrumentKind::Spot);
            (200, futures.map(|row| ticker(view, row)).collect())
        }
        _ => (404, json!({ "code": -1000, "msg": "simulated refusal" })),
    }
}

fn pair(view: &View<'_>, row: &Row<'_>, sets: bool) -> Value {
    let status = match row.listing.trading {
        Trading::Ahead | Trading::Open => "TRADING",
        Trading::Halted => "HALT",
        Trading::Over => "BREAK",
    };
    let sets = if sets { json!([["SPOT", "MARGIN", "TRD_GRP_004", "TRD_GRP_005"]]) } else { json!([]) };
    json!({
        "symbol": row.symbol, "status": status, "baseAsset": row.listing.base, "baseAssetPrecision": 8,
        "quoteAsset": row.listing.quote, "isSpotTradingAllowed": status == "TRADING",
        "filters": [{ "filterType": "PRICE_FILTER", "tickSize": view.text(Some(0.01)) }],
        "permissions": [], "permissionSets": sets,
    })
}

fn contract(view: &View<'_>, row: &Row<'_>) -> Value {
    let status = match row.listing.trading {
        Trading::Ahead => "PENDING_TRADING",
        Trading::Open => "TRADING",
        // There is no word for it; whatever it would be, nobody knows it.
        Trading::Halted => "HALT",
        Trading::Over => "SETTLING",
    };
    let dated = row.listing.kind == InstrumentKind::Dated;
    json!({
        "symbol": row.symbol, "contractType": if dated { "CURRENT_QUARTER" } else { "PERPETUAL" },
        "deliveryDate": row.listing.closes_at.map_or(NEVER_MS, |at| at.0 / 1_000),
        "onboardDate": row.listing.opens_at.map_or(0, |at| at.0 / 1_000),
        "status": status, "baseAsset": row.listing.base, "quoteAsset": row.listing.quote,
        "marginAsset": row.listing.quote, "maintMarginPercent": view.text(Some(2.5)), "underlyingType": "COIN",
    })
}

fn ticker(view: &View<'_>, row: &Row<'_>) -> Value {
    json!({
        "symbol": row.symbol, "lastPrice": view.text(row.listing.last),
        "volume": view.text(row.listing.quote_24h.zip(row.listing.last).map(|(quote, last)| quote / last)),
        "quoteVolume": view.text(row.listing.quote_24h),
    })
}
