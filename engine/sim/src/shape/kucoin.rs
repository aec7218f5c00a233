//! KuCoin's announcements, `/api/v3/announcements`; in the other form, as the list behind its web pages.

use serde_json::{Value, json};

use super::{View, json, ms, page};
use crate::catalogue::{Category, Notice};
use crate::clock;
use crate::http::{Request, Response};

/// Every notice is in the first; some types end in a blank, as the documentation has them.
fn kinds(category: Category) -> Vec<&'static str> {
    match category {
        Category::Listing => vec!["latest-announcements", "new-listings"],
        Category::Delisting => vec!["latest-announcements ", "delistings "],
        Category::Activity | Category::Airdrop => vec!["latest-announcements", "activities"],
        Category::Maintenance | Category::Wallet => vec!["maintenance-updates ", "latest-announcements"],
        _ => vec!["latest-announcements"],
    }
}

pub(super) fn answer(view: &View<'_>, request: &Request) -> Response {
    if request.path() != "/api/v3/announcements" {
        return json(404, &json!({ "code": "404", "msg": "Not Found" }));
    }
    let (Ok(number @ 1..), Ok(size @ 1..)) =
        (request.number("currentPage", 1), request.number("pageSize", 50))
    else {
        return json(400, &json!({ "code": "400100", "msg": "Parameter error" }));
    };
    let wanted = request.query("annType");
    let filed = |n: &Notice| wanted.is_none_or(|wanted| kinds(n.category).iter().any(|k| k.trim() == wanted));
    let found = page(view, (number, size.min(100)), filed);
    if view.options.other_form {
        let items: Vec<Value> = found.into_iter().map(web_row).collect();
        return json(200, &json!({ "code": 200, "success": true, "items": items }));
    }
    let total = view.catalogue.listed().filter(|n| filed(n)).count();
    let items: Vec<Value> = found.into_iter().map(row).collect();
    let data = json!({
        "totalNum": total, "totalPage": total.div_ceil(size), "currentPage": number, "pageSize": size,
        "items": items
    });
    json(200, &json!({ "code": "200000", "data": data }))
}

fn row(notice: &Notice) -> Value {
    json!({
        "annId": notice.id, "annTitle": notice.title, "annType": kinds(notice.category), "annDesc": "",
        "cTime": ms(notice.published), "language": "en_US",
        "annUrl": format!("https://www.kucoin.com/announcement/en-simulated-{}?lang=en_US", notice.id)
    })
}

fn web_row(notice: &Notice) -> Value {
    let categories: Vec<Value> =
        kinds(notice.category).into_iter().map(|k| json!({ "path": k.trim(), "name": k })).collect();
    json!({
        "title": notice.title, "path": format!("/en-simulated-{}", notice.id),
        "publish_ts": notice.published.0.div_euclid(1_000_000), "publish_at": clock::utc8_bare(notice.published),
        "categories": categories
    })
}
