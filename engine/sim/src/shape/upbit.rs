//! Upbit's website announcements: `/api/v1/announcements` and `/api/v1/announcements/{id}`.

use serde::Serialize;
use serde_json::json;
use tocsin_core::time::WallUs;

use super::{View, json};
use crate::catalogue::{Category, Notice};
use crate::clock;
use crate::http::{Request, Response};

const BADGE_US: i64 = 24 * 3_600 * 1_000_000;

#[derive(Serialize)]
struct Envelope<T> {
    success: bool,
    data: T,
}

#[derive(Serialize)]
struct List<'a> {
    total_pages: usize,
    total_count: usize,
    notices: Vec<Item<'a>>,
    fixed_notices: Vec<Item<'a>>,
}

#[derive(Serialize)]
struct Item<'a> {
    listed_at: String,
    first_listed_at: String,
    id: u64,
    uuid: &'a str,
    title: &'a str,
    category: &'static str,
    need_new_badge: bool,
    need_update_badge: bool,
}

#[derive(Serialize)]
struct Detail<'a> {
    #[serde(flatten)]
    item: Item<'a>,
    body: String,
}

/// Parameter value, Korean name, English name.
const fn names(category: Category) -> (&'static str, &'static str, &'static str) {
    match category {
        Category::Listing | Category::Delisting | Category::Caution => ("trade", "거래", "Trade"),
        Category::Wallet => ("wallet", "입출금", "Deposits/Withdrawals"),
        Category::Activity => ("event", "이벤트", "Event"),
        Category::Maintenance => ("maintenance", "점검", "Maintenance"),
        Category::Disclosure => ("digital_asset", "디지털 자산", "Digital Asset"),
        Category::News | Category::Airdrop | Category::Api | Category::Fiat => ("notice", "안내", "Notice"),
    }
}

pub(super) fn answer(view: &View<'_>, request: &Request) -> Response {
    if request.header("origin").is_some() {
        return refusal(403, "forbidden");
    }
    if !matches!(request.query("os"), Some("web" | "ios" | "android")) {
        return refusal(400, "os");
    }
    let english = request
        .header("accept-language")
        .is_some_and(|languages| languages.trim_start().to_ascii_lowercase().starts_with("en"));
    match request.path().strip_prefix("/api/v1/announcements") {
        Some("") => list(view, request, english),
        Some(rest) => detail(view, rest.trim_start_matches('/'), english),
        None => refusal(404, "not_found"),
    }
}

fn refusal(status: u16, name: &str) -> Response {
    json(status, &json!({ "success": false, "error": { "name": name, "message": "simulated refusal" } }))
}

fn list(view: &View<'_>, request: &Request, english: bool) -> Response {
    let (Ok(page), Ok(per_page)) = (request.number("page", 1), request.number("per_page", 20)) else {
        return refusal(400, "page");
    };
    if page == 0 || per_page == 0 || per_page > view.options.max_per_page {
        return refusal(400, "per_page");
    }
    let wanted = request.query("category").unwrap_or("all");
    let all: Vec<&Notice> =
        view.catalogue.listed().filter(|n| wanted == "all" || names(n.category).0 == wanted).collect();
    let body = Envelope {
        success: true,
        data: List {
            total_pages: all.len().div_ceil(per_page),
            total_count: all.len(),
            notices: all
                .iter()
                .skip((page - 1).saturating_mul(per_page))
                .take(per_page)
                .map(|n| item(n, english, view.now))
                .collect(),
            fixed_notices: view.catalogue.pinned().map(|n| item(n, english, view.now)).collect(),
        },
    };
    json(200, &body)
}

fn detail(view: &View<'_>, id: &str, english: bool) -> Response {
    let Some(notice) = view.catalogue.by_notice_id(id) else { return refusal(404, "not_found") };
    let item = item(notice, english, view.now);
    json(200, &Envelope { success: true, data: Detail { body: format!("<p>{}</p>", item.title), item } })
}

fn item(notice: &Notice, english: bool, now: WallUs) -> Item<'_> {
    let (_, korean, latin) = names(notice.category);
    let title = if english { notice.title_en.as_deref() } else { None };
    Item {
        listed_at: clock::kst_iso(notice.modified),
        first_listed_at: clock::kst_iso(notice.published),
        id: notice.id,
        uuid: &notice.code,
        title: title.unwrap_or(&notice.title),
        category: if english { latin } else { korean },
        need_new_badge: !notice.edited && now.micros_since(notice.published) < BADGE_US,
        need_update_badge: notice.edited && now.micros_since(notice.modified) < BADGE_US,
    }
}
