//! Bithumb, the public notice endpoint of its open API (official).
//!
//! Identity: none is given, so the trailing number of `pc_url`. Times are Korean local time
//! without an offset. The list is sorted by `published_at`, not by number: notices are written
//! ahead and come out at a set time, so `modified_at` is often earlier than `published_at`.

use crate::model::{CategoryHint, Exchange};
use crate::source::json::{Json, Scratch};
use crate::source::pacing::{Budget, Marks};
use crate::source::{Evidence, Item, Link, ListSpec, ParseError, Parsed, SourceSpec, exchange, when};

/// `bithumb.api`: the 20 latest notices, the most there are.
pub static API: SourceSpec = SourceSpec {
    name: "bithumb.api",
    config_name: "bithumb",
    exchange: Exchange::Bithumb,
    evidence: Evidence::Official,
    base_url: "https://api.bithumb.com",
    headers: &[("user-agent", exchange::PROGRAM), ("accept", "application/json")],
    lists: &[ListSpec { name: "all", target: "/v1/notices?count=20", weight: 1, hint: CategoryHint::None }],
    conditional: false,
    forbidden_rest: None,
    // "1 request per second per IP": a tenth less leaves room for what the network bunches up.
    pacing: Budget {
        requests_per_second: 0.9,
        peak_per_second: 0.9,
        marks: Some(Marks { every_secs: 600, lead_secs: 2, length_secs: 35, share: 0.6 }),
    },
    parse,
    noise: &[],
};

fn parse(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(&Item<'_>),
) -> Result<Parsed, ParseError> {
    scratch.document(body, |root| {
        if let Some(error) = root.get("error") {
            let why = error.get("name").or_else(|| error.get("message")).unwrap_or(error);
            return Err(ParseError::Refused(why.brief()));
        }
        let rows = if root.is_object() { root.get("data") } else { Some(root) };
        let rows = rows.filter(|r| r.is_list()).ok_or(ParseError::Missing("[]"))?;
        let mut parsed = Parsed::default();
        exchange::read_rows(rows, &mut parsed, read_notice, found);
        Ok(parsed)
    })
}

fn read_notice<'a>(row: Json<'_, 'a>) -> Option<Item<'a>> {
    let url = row.get("pc_url")?.str()?.trim();
    let notice_id = exchange::trailing_number(url)?;
    let time = |key| row.get(key).and_then(|v| when::instant(v, when::KST_SECS));
    let modified = time("modified_at");
    let categories = row.get("categories");
    let first = categories.and_then(|c| c.elements().find_map(Json::str).or_else(|| c.str()));
    Some(Item {
        notice_id,
        title: row.get("title")?.title()?,
        link: if url.starts_with("https://") {
            Link::Whole(url)
        } else {
            Link::Built("https://feed.bithumb.com/notice/", notice_id, "")
        },
        hint: hint(first),
        published: time("published_at").or(modified),
        modified,
        pinned: false,
    })
}

/// "Market added" and "trading support ended"; everything else is neither.
fn hint(category: Option<&str>) -> CategoryHint {
    match category.map(str::trim) {
        None | Some("" | "안내") => CategoryHint::None,
        Some("마켓 추가") => CategoryHint::Listing,
        Some("거래지원종료" | "거래지원 종료") => CategoryHint::Delisting,
        Some(_) => CategoryHint::Other,
    }
}
