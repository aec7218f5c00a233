//! BingX's content endpoint: `/openApi/content/v1/announcement`.

use serde_json::{Value, json};

use super::{View, is_of_contracts, is_other, json, ms, page};
use crate::catalogue::{Category, Notice};
use crate::clock;
use crate::http::{Request, Response};

pub(super) fn answer(view: &View<'_>, request: &Request) -> Response {
    if request.path() != "/openApi/content/v1/announcement" {
        return json(404, &json!({ "code": 100_404, "msg": "not found" }));
    }
    let Ok(number @ 1..) = request.number("page", 1) else { return illegal("page") };
    let wanted = request.query("contentType").unwrap_or("LatestAnnouncements");
    let filed = |n: &Notice| match wanted {
        "SpotListing" => n.category == Category::Listing && !is_of_contracts(n),
        "FuturesListing" => n.category == Category::Listing && is_of_contracts(n),
        "Delisting" => n.category == Category::Delisting,
        "LatestPromotions" => is_other(n.category),
        _ => true,
    };
    if !["LatestAnnouncements", "SpotListing", "FuturesListing", "Delisting", "LatestPromotions"]
        .contains(&wanted)
    {
        return illegal("contentType");
    }
    let found = page(view, (number, 20), filed);
    let url = |n: &Notice| format!("https://bingx.com/en/support/articles/{}", n.id);
    let data = if view.options.other_form {
        let row = |n: &Notice| json!({ "title": n.title, "link": url(n), "time": ms(n.published) });
        json!({ "list": found.into_iter().map(row).collect::<Vec<Value>>() })
    } else {
        let row = |n: &Notice| json!({ "title": n.title, "url": url(n), "releaseTime": clock::utc8_iso(n.published) });
        Value::Array(found.into_iter().map(row).collect())
    };
    json(200, &json!({ "code": 0, "msg": "", "timestamp": ms(view.now), "data": data }))
}

fn illegal(parameter: &str) -> Response {
    json(200, &json!({ "code": 100_400, "msg": format!("{parameter} is invalid"), "data": null }))
}
