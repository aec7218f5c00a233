//! MEXC, the lists behind its help pages (beta: unofficial, the form is known from other programs' code).
//!
//! Identity: `id` (14 digits). `www.mexc.com` refuses the handshake of whatever is no browser, the same
//! pages under `www.mexc.co` do not. Pinned articles stand on top unmarked, so a page is not in order.
//! Rows do not say where they are filed: the section does.

use crate::model::{CategoryHint, Exchange};
use crate::source::json::{Json, Scratch};
use crate::source::pacing::Budget;
use crate::source::{Evidence, Item, Link, ListSpec, ParseError, Parsed, SourceSpec, exchange, when};

macro_rules! section {
    ($id:literal) => {
        concat!("/help/announce/api/en-US/section/", $id, "/articles?page=1&perPage=20")
    };
}

/// `mexc.web`: the section of new listings, and all announcements.
pub static WEB: SourceSpec = SourceSpec {
    name: "mexc.web",
    config_name: "mexc",
    exchange: Exchange::Mexc,
    evidence: Evidence::Beta,
    base_url: "https://www.mexc.co",
    headers: &[
        ("user-agent", exchange::BROWSER),
        ("accept", "application/json"),
        ("accept-language", "en-US,en;q=0.9"),
    ],
    lists: &[
        ListSpec {
            name: "listings",
            target: section!("15425930840735"),
            weight: 1,
            hint: CategoryHint::Listing,
        },
        ListSpec { name: "all", target: section!("360000254192"), weight: 1, hint: CategoryHint::None },
    ],
    conditional: false,
    forbidden_rest: None,
    // Nothing is known of what it bears: as often as an attentive reader, no oftener.
    pacing: Budget { requests_per_second: 0.25, peak_per_second: 0.5, marks: None },
    parse,
    noise: &["total", "timestamp"],
};

fn parse(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(&Item<'_>),
) -> Result<Parsed, ParseError> {
    scratch.envelope(body, "data", check, |data| {
        let rows = data.get("results").or_else(|| data.get("result")).filter(|r| r.is_list());
        let rows = rows.ok_or(ParseError::Missing("data.results"))?;
        let mut parsed = Parsed::default();
        exchange::read_rows(rows, &mut parsed, read_article, found);
        Ok(parsed)
    })
}

fn check(root: Json<'_, '_>) -> Result<(), ParseError> {
    exchange::accept(root, ("code", &["0", "200"]), "msg", "data")
}

fn read_article<'a>(row: Json<'_, 'a>) -> Option<Item<'a>> {
    let notice_id = row.get("id")?.identifier()?;
    Some(Item {
        notice_id,
        title: row.get("title")?.title()?,
        link: Link::Built("https://www.mexc.com/support/articles/", notice_id, ""),
        hint: CategoryHint::None,
        published: row.get("createdAt").and_then(|v| when::instant(v, when::UTC_SECS)),
        modified: None,
        pinned: false,
    })
}
