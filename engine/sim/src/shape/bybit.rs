//! Bybit's announcements: `/v5/announcements/index`.

use serde_json::{Value, json};

use super::{Page, View, json, minute_ms, ms, page};
use crate::catalogue::{Category, Notice};
use crate::http::Request;

const fn kind(category: Category) -> (&'static str, &'static str) {
    match category {
        Category::Listing => ("new_crypto", "New Listings"),
        Category::Delisting => ("delistings", "Delistings"),
        Category::Activity | Category::Airdrop => ("latest_activities", "Latest Activities"),
        Category::Maintenance | Category::Wallet => ("maintenance_updates", "Maintenance Updates"),
        Category::Fiat => ("new_fiat_listings", "Fiat Listings"),
        Category::Api => ("product_updates", "Product Updates"),
        _ => ("latest_bybit_news", "Latest Bybit News"),
    }
}

pub(super) fn answer(view: &View<'_>, request: &Request) -> Page {
    let refused = |code: u32, why: &str| json(200, &json!({ "retCode": code, "retMsg": why, "result": {} }));
    if request.path() != "/v5/announcements/index" {
        return json(404, &json!({})).into();
    }
    let (Ok(number @ 1..), Ok(size @ 1..)) = (request.number("page", 1), request.number("limit", 20)) else {
        return refused(10001, "params error: page").into();
    };
    if request.query("locale").is_none() {
        return refused(10001, "params error: locale").into();
    }
    let wanted = request.query("type");
    let filed = |n: &Notice| wanted.is_none_or(|wanted| kind(n.category).0 == wanted);
    let list: Vec<Value> = page(view, (number, size.min(50)), filed).into_iter().map(row).collect();
    let total = view.catalogue.listed().filter(|n| filed(n)).count();
    let body = json!({
        "retCode": 0, "retMsg": "OK", "result": { "total": total, "list": list }, "retExtInfo": {},
        // Differs from answer to answer.
        "time": ms(view.now)
    });
    Page { response: json(200, &body), cache_key: Some(request.target.clone()) }
}

fn row(notice: &Notice) -> Value {
    let (key, title) = kind(notice.category);
    let mut row = json!({
        "title": notice.title, "description": "", "type": { "title": title, "key": key }, "tags": ["Spot"],
        "url": format!("https://announcements.bybit.com/en-US/article/simulated-{}-{}/", notice.id, notice.code),
        "dateTimestamp": ms(notice.published), "startDateTimestamp": ms(notice.published),
        "endDateTimestamp": ms(notice.published)
    });
    // Two of three carry the time of publication beside the one their author typed, and the other
    // spelling of the beginning.
    if !notice.id.is_multiple_of(3)
        && let Some(fields) = row.as_object_mut()
    {
        fields.insert("publishTime".to_owned(), ms(notice.published).into());
        fields.insert("dateTimestamp".to_owned(), minute_ms(notice.published).into());
        fields.remove("startDateTimestamp");
        fields.insert("startDataTimestamp".to_owned(), minute_ms(notice.published).into());
    }
    row
}
