//! Bithumb's official notice list: `/v1/notices`.

use serde::Serialize;
use serde_json::json;

use super::{View, json};
use crate::catalogue::Category;
use crate::clock;
use crate::http::{Request, Response};

#[derive(Serialize)]
struct Item<'a> {
    categories: [&'static str; 1],
    title: &'a str,
    pc_url: String,
    published_at: String,
    modified_at: String,
}

const fn name(category: Category) -> &'static str {
    match category {
        Category::Listing => "마켓 추가",
        Category::Delisting => "거래지원종료",
        Category::Caution => "거래유의",
        Category::Wallet => "입출금",
        Category::Activity => "이벤트",
        Category::Maintenance => "점검",
        Category::Disclosure => "공시",
        Category::News | Category::Airdrop | Category::Api | Category::Fiat => "안내",
    }
}

pub(super) fn answer(view: &View<'_>, request: &Request) -> Response {
    if request.path() != "/v1/notices" {
        return refusal(404, "not_found");
    }
    let Ok(count @ 1..=20) = request.number("count", 5) else {
        return refusal(400, "count");
    };
    let count = if view.options.latest_five_only { count.min(5) } else { count };
    let items: Vec<Item<'_>> = view
        .catalogue
        .listed()
        .take(count)
        .map(|n| Item {
            categories: [name(n.category)],
            title: &n.title,
            pc_url: format!("https://feed.bithumb.com/notice/{}", n.id),
            published_at: clock::kst_bare(n.published),
            modified_at: clock::kst_bare(n.modified),
        })
        .collect();
    json(200, &items)
}

fn refusal(status: u16, name: &str) -> Response {
    json(status, &json!({ "error": { "name": name, "message": "simulated refusal" } }))
}
