//! Coinone, the notice list behind its web page (beta: unofficial, two forms have been seen).
//!
//! Identity: `id`, in sequence. The older form has `results[]` with `card_category`, the newer one, seen
//! at `coinone.co.kr` in code alone, `result[]` with `notice_type`; both are read. Times are Korean, with
//! their offset, to the microsecond; `updated_at` is a little later than `created_at` from the start.
//! Trading support holds listings and delistings alike.

use crate::model::{CategoryHint, Exchange};
use crate::source::json::{Json, Scratch};
use crate::source::pacing::Budget;
use crate::source::{Evidence, Item, Link, ListSpec, ParseError, Parsed, SourceSpec, exchange, when};

/// `coinone.web`: all notices, the newest first.
pub static WEB: SourceSpec = SourceSpec {
    name: "coinone.web",
    config_name: "coinone",
    exchange: Exchange::Coinone,
    evidence: Evidence::Beta,
    base_url: "https://i1.coinone.co.kr",
    headers: &[
        ("user-agent", exchange::BROWSER),
        ("accept", "application/json"),
        ("accept-language", "ko-KR,ko;q=1"),
    ],
    lists: &[ListSpec {
        name: "all",
        target: "/api/talk/notice/?ordering=-created_at",
        weight: 1,
        hint: CategoryHint::None,
    }],
    conditional: false,
    forbidden_rest: None,
    // Nothing is known of what it bears: as often as an attentive reader, no oftener.
    pacing: Budget { requests_per_second: 0.25, peak_per_second: 0.5, marks: None },
    parse,
    noise: &["count", "vote_count", "comment_count", "view_count"],
};

fn parse(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(&Item<'_>),
) -> Result<Parsed, ParseError> {
    scratch.document(body, |root| {
        if let Some(why) = root.get("detail").or_else(|| root.get("error_message")) {
            return Err(ParseError::Refused(why.brief()));
        }
        let rows = root.get("results").or_else(|| root.get("result")).filter(|r| r.is_list());
        let rows = rows.ok_or(ParseError::Missing("results"))?;
        let mut parsed = Parsed::default();
        exchange::read_rows(rows, &mut parsed, read_notice, found);
        Ok(parsed)
    })
}

fn read_notice<'a>(row: Json<'_, 'a>) -> Option<Item<'a>> {
    let notice_id = row.get("id")?.identifier()?;
    let time = |key| row.get(key).and_then(|v| when::instant(v, when::KST_SECS));
    let (created, updated) = (time("created_at"), time("updated_at"));
    let filed = row.get("card_category").or_else(|| row.get("notice_type"));
    Some(Item {
        notice_id,
        title: row.get("title")?.title()?,
        link: Link::Built("https://coinone.co.kr/talk/notice/detail/", notice_id, "/"),
        hint: hint(filed.and_then(Json::str)),
        published: created.or(updated),
        modified: updated,
        pinned: false,
    })
}

/// The newer form's names are not known for certain: what is none of the older form's tells nothing.
fn hint(category: Option<&str>) -> CategoryHint {
    match category.map(str::trim) {
        Some("입출금" | "이벤트" | "점검" | "공시" | "업데이트" | "서비스") => {
            CategoryHint::Other
        }
        _ => CategoryHint::None,
    }
}
