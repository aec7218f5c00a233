//! OKX's support announcements: `/api/v5/support/announcements`.

use serde_json::{Value, json};

use super::{Page, View, json, minute_ms, ms, page};
use crate::catalogue::{Category, Notice};
use crate::http::{Request, Response};

const fn kind(category: Category) -> &'static str {
    match category {
        Category::Listing => "announcements-new-listings",
        Category::Delisting => "announcements-delistings",
        Category::Activity | Category::Airdrop => "latest-events",
        Category::Api => "announcements-api",
        _ => "announcements-others",
    }
}

pub(super) fn answer(view: &View<'_>, request: &Request) -> Page {
    if request.path() != "/api/v5/support/announcements" {
        return json(404, &json!({ "code": "50404", "msg": "no such path", "data": [] })).into();
    }
    let Ok(number @ 1..) = request.number("page", 1) else { return illegal("page").into() };
    let wanted = request.query("annType");
    if wanted.is_some_and(|w| !w.starts_with("announcements-") && w != "latest-events") {
        return illegal("annType").into();
    }
    let filed = |n: &Notice| wanted.is_none_or(|wanted| kind(n.category) == wanted);
    let pages = view.catalogue.listed().filter(|n| filed(n)).count().div_ceil(20);
    // In some regions addresses begin with the region.
    let help = view.options.region.map_or_else(String::new, |region| format!("/{region}"));
    let row = |n: &Notice| {
        json!({
            "annType": kind(n.category), "title": n.title,
            "url": format!("https://www.okx.com{help}/help/{}", n.code),
            "pTime": ms(n.published).to_string(), "businessPTime": minute_ms(n.published).to_string()
        })
    };
    let details: Vec<Value> = page(view, (number, 20), filed).into_iter().map(row).collect();
    let body = json!({
        "code": "0", "msg": "", "data": [{ "details": details, "totalPage": pages.to_string() }]
    });
    Page { response: json(200, &body), cache_key: Some(request.target.clone()) }
}

fn illegal(parameter: &str) -> Response {
    json(400, &json!({ "code": "51000", "msg": format!("Parameter {parameter} error"), "data": [] }))
}
