//! Bybit: `/v5/market`, with pages of linear contracts behind a cursor.

use serde_json::{Value, json};
use tocsin_core::market::{InstrumentKind, Trading};

use super::{Row, Shape, View, millis_text, without_times};
use crate::clock;
use crate::http::Request;
use crate::market::Listing;

pub(super) static SHAPE: Shape = Shape {
    kinds: &[InstrumentKind::Spot, InstrumentKind::Perpetual, InstrumentKind::Dated],
    quotes: &["USDT", "USDC"],
    symbol,
    shown,
    answer,
};

const HOUR_MS: i64 = 3_600_000;

fn symbol(listing: &Listing) -> String {
    let pair = format!("{}{}", listing.base, listing.quote);
    match listing.closes_at {
        Some(at) if listing.kind == InstrumentKind::Dated => format!("{pair}-{}", clock::utc_date(at)),
        _ => pair,
    }
}

/// Only what is traded or will be is on a list; of a spot pair no time is told.
fn shown(listing: &Listing) -> Option<Listing> {
    match (listing.kind, listing.trading) {
        (_, Trading::Halted | Trading::Over) => None,
        (InstrumentKind::Spot, _) => Some(without_times(listing)),
        _ => Some(listing.clone()),
    }
}

fn answer(view: &View<'_>, request: &Request) -> (u16, Value) {
    let spot = match request.query("category") {
        Some("spot") => true,
        Some("linear") => false,
        _ => return refusal(10_001),
    };
    let of_category = |row: &&Row<'_>| (row.listing.kind == InstrumentKind::Spot) == spot;
    match request.path() {
        "/v5/market/tickers" => {
            let list: Value = view.rows.iter().filter(of_category).map(|row| ticker(view, row)).collect();
            (200, envelope(&json!({ "category": request.query("category"), "list": list })))
        }
        "/v5/market/instruments-info" => {
            let pre_launch = request.query("status") == Some("PreLaunch");
            let rows = view.rows.iter().filter(of_category).filter(|row| {
                let is = row.listing.trading == Trading::Ahead && !spot;
                is == pre_launch
            });
            if spot {
                let list: Value = rows.map(|row| instrument(view, row)).collect();
                return (200, envelope(&json!({ "category": "spot", "list": list })));
            }
            page(view, &rows.collect::<Vec<_>>(), request)
        }
        _ => refusal(10_404),
    }
}

fn refusal(code: u32) -> (u16, Value) {
    (200, json!({ "retCode": code, "retMsg": "simulated refusal", "result": {}, "retExtInfo": {} }))
}

fn envelope(result: &Value) -> Value {
    json!({ "retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {} })
}

/// The cursor names where the next page begins. The last page has one too.
fn page(view: &View<'_>, rows: &[&Row<'_>], request: &Request) -> (u16, Value) {
    let (Ok(limit @ 1..=1_000), Ok(start)) = (request.number("limit", 500), request.number("cursor", 0))
    else {
        return refusal(10_001);
    };
    let list: Value = rows.iter().skip(start).take(limit).map(|row| instrument(view, row)).collect();
    let next = (start + limit).min(rows.len()).to_string();
    (200, envelope(&json!({ "category": "linear", "list": list, "nextPageCursor": next })))
}

fn instrument(view: &View<'_>, row: &Row<'_>) -> Value {
    let listing = row.listing;
    let ahead = listing.trading == Trading::Ahead;
    let mut fields = json!({
        "symbol": row.symbol, "baseCoin": listing.base, "quoteCoin": listing.quote,
        "lotSizeFilter": { "minOrderQty": view.text(if ahead { None } else { Some(0.1) }) },
    });
    if listing.kind == InstrumentKind::Spot {
        fields["status"] = json!(if ahead { "PendingOpen" } else { "Trading" });
        return fields;
    }
    let dated = listing.kind == InstrumentKind::Dated;
    fields["status"] = json!(if ahead { "PreLaunch" } else { "Trading" });
    fields["contractType"] = json!(if dated { "LinearFutures" } else { "LinearPerpetual" });
    fields["isPreListing"] = json!(ahead);
    fields["deliveryTime"] = millis_text(listing.closes_at, "0");
    fields["deliveryFeeRate"] = json!("");
    fields["launchTime"] = millis_text(listing.opens_at, "0");
    if let Some(opens) = listing.opens_at.filter(|_| ahead) {
        // It is shown an hour before its auction ends and it is traded freely.
        let (auction, trading) = ((opens.0 / 1_000 - HOUR_MS).to_string(), (opens.0 / 1_000).to_string());
        fields["launchTime"] = json!(auction);
        fields["preListingInfo"] = json!({ "curAuctionPhase": "NotStarted", "phases": [
            { "phase": "CallAuction", "startTime": auction, "endTime": trading },
            { "phase": "ContinuousTrading", "startTime": trading, "endTime": "" },
        ]});
    }
    fields
}

fn ticker(view: &View<'_>, row: &Row<'_>) -> Value {
    json!({
        "symbol": row.symbol, "lastPrice": view.text(row.listing.last),
        "turnover24h": view.text(row.listing.quote_24h), "openInterest": "",
    })
}
