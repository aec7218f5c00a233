//! Coinone's notice list: `/api/talk/notice/`, in the older form or in the newer one.

use serde_json::{Value, json};
use tocsin_core::time::WallUs;

use super::{View, json, page};
use crate::catalogue::{Category, Notice};
use crate::clock;
use crate::http::{Request, Response};

const fn name(category: Category) -> &'static str {
    match category {
        Category::Listing | Category::Delisting | Category::Caution => "거래지원",
        Category::Wallet => "입출금",
        Category::Activity | Category::Airdrop => "이벤트",
        Category::Maintenance => "점검",
        Category::Disclosure => "공시",
        Category::News | Category::Api | Category::Fiat => "공지",
    }
}

pub(super) fn answer(view: &View<'_>, request: &Request) -> Response {
    if request.path() != "/api/talk/notice/" {
        return json(404, &json!({ "detail": "Not found." }));
    }
    let Ok(number @ 1..) = request.number("page", 1) else {
        return json(404, &json!({ "detail": "Invalid page." }));
    };
    let (newer, count) = (view.options.other_form, view.catalogue.listed().count());
    let row = |n: &Notice| {
        // A new notice is updated some microseconds after it was created.
        let updated = WallUs(n.modified.0.saturating_add(34));
        let (created, updated) = (clock::kst_micros(n.published), clock::kst_micros(updated));
        if newer {
            json!({
                "id": n.id, "title": n.title, "notice_type": name(n.category), "notice_type_num": 1,
                "created_at": created, "updated_at": updated
            })
        } else {
            json!({
                "id": n.id, "card_category": name(n.category), "vote_count": 0, "title": n.title,
                "get_absolute_url": format!("/talk/notice/detail/{}/", n.id), "created_at": created,
                "updated_at": updated
            })
        }
    };
    let rows: Vec<Value> = page(view, (number, 20), |_| true).into_iter().map(row).collect();
    if newer {
        return json(200, &json!({ "count": count, "result": rows }));
    }
    let next = format!("http://i1.coinone.co.kr/api/talk/notice/?ordering=-created_at&page={}", number + 1);
    json(200, &json!({ "count": count, "next": next, "previous": null, "results": rows }))
}
