//! Crypto.com Exchange's announcements: `/v1/public/get-announcements`.

use serde_json::{Value, json};

use super::{View, json, ms};
use crate::catalogue::{Category, Notice};
use crate::http::{Request, Response};

const fn kind(category: Category) -> &'static str {
    match category {
        Category::Listing => "list",
        Category::Delisting => "delist",
        Category::Activity | Category::Airdrop => "event",
        Category::Maintenance | Category::Wallet => "system",
        _ => "product",
    }
}

pub(super) fn answer(view: &View<'_>, request: &Request) -> Response {
    if request.path() != "/v1/public/get-announcements" {
        return json(404, &json!({ "code": 40401, "message": "NOT_FOUND" }));
    }
    let wanted = request.query("category");
    if wanted.is_some_and(|w| !["list", "delist", "event", "product", "system"].contains(&w)) {
        return json(400, &json!({ "id": -1, "code": 40004, "message": "INVALID_REQUEST" }));
    }
    let row = |n: &Notice| {
        json!({
            "id": n.code, "category": kind(n.category), "product_type": "Spot", "announced_at": ms(n.published),
            "title": n.title, "content": "<p>simulated</p>", "instrument_name": null,
            "impacted_params": { "spot_trading_impacted": "BAU", "derivative_trading_impacted": "BAU" },
            "start_time": ms(n.published), "end_time": 0
        })
    };
    let listed = view.catalogue.listed().filter(|n| wanted.is_none_or(|w| kind(n.category) == w));
    // There are no pages.
    let data: Vec<Value> = listed.take(100).map(row).collect();
    let body =
        json!({ "id": 0, "method": "public/get-announcements", "code": 0, "result": { "data": data } });
    json(200, &body)
}
