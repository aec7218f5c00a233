//! Bitget's announcements, under the misspelt path: `/api/v2/public/annoucements`.

use serde_json::{Value, json};

use super::{View, is_of_contracts, json, ms, page};
use crate::catalogue::{Category, Notice};
use crate::http::{Request, Response};

/// Older ones are not given.
const MONTH_US: i64 = 31 * 86_400 * 1_000_000;

fn kinds(notice: &Notice) -> (&'static str, &'static str) {
    match notice.category {
        Category::Listing if is_of_contracts(notice) => ("coin_listings", "futures"),
        Category::Listing => ("coin_listings", "spot"),
        Category::Delisting => ("symbol_delisting", "trading_pair_delisting"),
        Category::Maintenance | Category::Wallet => ("maintenance_system_updates", "asset_maintenance"),
        Category::Api => ("api_trading", "api_trading"),
        _ => ("latest_news", "latest_events"),
    }
}

pub(super) fn answer(view: &View<'_>, request: &Request) -> Response {
    if request.path() != "/api/v2/public/annoucements" {
        return refusal(404, "40404", "Request URL NOT FOUND");
    }
    if request.query("language").is_none() {
        return refusal(400, "400172", "Parameter language cannot be empty");
    }
    let Ok(limit @ 1..=10) = request.number("limit", 10) else {
        return refusal(400, "400172", "Parameter limit error");
    };
    let wanted = request.query("annType");
    let filed = |n: &Notice| {
        let young = view.now.micros_since(n.published) < MONTH_US;
        young && wanted.is_none_or(|wanted| kinds(n).0 == wanted)
    };
    let row = |n: &Notice| {
        let (kind, part) = kinds(n);
        json!({
            "annId": n.id.to_string(), "annTitle": n.title, "annDesc": "", "cTime": ms(n.published).to_string(),
            "language": "en_US", "annUrl": format!("https://www.bitget.com/en/support/articles/{}", n.id),
            "annType": kind, "annSubType": part
        })
    };
    let rows: Vec<Value> = page(view, (1, limit), filed).into_iter().map(row).collect();
    json(200, &json!({ "code": "00000", "msg": "success", "requestTime": ms(view.now), "data": rows }))
}

fn refusal(status: u16, code: &str, why: &str) -> Response {
    json(status, &json!({ "code": code, "msg": why, "requestTime": 0, "data": null }))
}
