//! Upbit, the notice list behind its web page (unofficial).
//!
//! Identity: the numeric `id`, in sequence and kept through edits; `uuid` is only the address of
//! the public page. The list is sorted by `listed_at`: an edit moves an old notice to the top with
//! a new `listed_at`, often a new title, and the old `first_listed_at`. Pinned notices are years
//! old and stand in `fixed_notices`. Titles follow `Accept-Language`, so it is fixed: otherwise
//! every title would flip between two languages under the same id. An `Origin` header is answered
//! 403. Weak entity tags work.

use crate::model::{CategoryHint, Exchange};
use crate::source::json::{Json, Scratch};
use crate::source::pacing::{Budget, Marks};
use crate::source::{Evidence, Item, Link, ListSpec, ParseError, Parsed, SourceSpec, exchange, when};

/// `upbit.web`: all categories on one page.
pub static WEB: SourceSpec = SourceSpec {
    name: "upbit.web",
    config_name: "upbit",
    exchange: Exchange::Upbit,
    evidence: Evidence::Unofficial,
    base_url: "https://api-manager.upbit.com",
    headers: &[
        ("user-agent", exchange::BROWSER),
        ("accept", "application/json"),
        ("accept-language", "ko-KR,ko;q=1"),
    ],
    lists: &[ListSpec {
        name: "all",
        target: "/api/v1/announcements?os=web&page=1&per_page=20&category=all",
        weight: 1,
        hint: CategoryHint::None,
    }],
    conditional: true,
    forbidden_rest: None,
    // One request in two seconds stayed clean from one address; one a second did not.
    pacing: Budget {
        requests_per_second: 0.5,
        peak_per_second: 0.5,
        marks: Some(Marks { every_secs: 600, lead_secs: 2, length_secs: 35, share: 0.6 }),
    },
    parse,
    noise: &["total_pages", "total_count", "need_new_badge", "need_update_badge"],
};

fn parse(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(&Item<'_>),
) -> Result<Parsed, ParseError> {
    scratch.envelope(body, "data", check, |data| {
        let notices = data.get("notices").filter(|n| n.is_list());
        let notices = notices.ok_or(ParseError::Missing("data.notices"))?;
        let mut parsed = Parsed::default();
        exchange::read_rows(notices, &mut parsed, |row| read_notice(row, false), found);
        if let Some(fixed) = data.get("fixed_notices") {
            exchange::read_rows(fixed, &mut parsed, |row| read_notice(row, true), found);
        }
        Ok(parsed)
    })
}

fn check(root: Json<'_, '_>) -> Result<(), ParseError> {
    if !root.is_object() {
        return Err(ParseError::Missing("data"));
    }
    if root.get("success").and_then(Json::bool) == Some(false) {
        let error = root.get("error");
        let why = error
            .and_then(|e| e.get("name").or_else(|| e.get("message")))
            .or(error)
            .or_else(|| root.get("message"));
        return Err(ParseError::Refused(why.map(Json::brief).unwrap_or_default()));
    }
    Ok(())
}

fn read_notice<'a>(row: Json<'_, 'a>, pinned: bool) -> Option<Item<'a>> {
    let notice_id = row.get("id")?.identifier()?;
    let page = row.get("uuid").and_then(Json::identifier).unwrap_or(notice_id);
    let time = |key| row.get(key).and_then(|v| when::instant(v, when::KST_SECS));
    let listed = time("listed_at");
    Some(Item {
        notice_id,
        title: row.get("title")?.title()?,
        link: Link::Built("https://www.upbit.com/service_center/notice?id=", page, "&view=share"),
        hint: hint(row.get("category").and_then(Json::str)),
        published: time("first_listed_at").or(listed),
        modified: listed,
        pinned,
    })
}

/// 거래 (trade) holds listings, delistings and cautions alike.
fn hint(category: Option<&str>) -> CategoryHint {
    match category {
        None | Some("거래" | "Trade" | "trade") => CategoryHint::None,
        Some(_) => CategoryHint::Other,
    }
}
