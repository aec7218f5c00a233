//! OKX, the support announcements of its public API (official).
//!
//! Identity: none is given, so the last part of the article's address, whose beginning names the
//! reader's region (`/help/…`, `/en-us/help/…`). What is listed depends on the region of the address
//! that asks, and some regions get an article of their own under another slug. `pTime` is when it was
//! first published, `businessPTime` when it was meant to be; the answer may lag minutes behind both. An
//! edit moves nothing and shows no time. Numbers come as strings. The API agreement forbids passing the
//! data on: `docs/sources.md`.

use crate::model::{CategoryHint, Exchange};
use crate::source::json::{Json, Scratch};
use crate::source::pacing::{Budget, Marks};
use crate::source::{
    Evidence, Item, Link, ListSpec, ParseError, Parsed, ShortText, SourceSpec, exchange, when,
};

/// `okx.api`: new listings, delistings and, seldom, everything.
pub static API: SourceSpec = SourceSpec {
    name: "okx.api",
    config_name: "okx",
    exchange: Exchange::Okx,
    evidence: Evidence::Official,
    base_url: "https://www.okx.com",
    headers: &[
        ("user-agent", exchange::PROGRAM),
        ("accept", "application/json"),
        ("accept-language", "en-US"),
    ],
    lists: &[
        ListSpec {
            name: "listings",
            target: "/api/v5/support/announcements?annType=announcements-new-listings&page=1",
            weight: 2,
            hint: CategoryHint::Listing,
        },
        ListSpec {
            name: "delistings",
            target: "/api/v5/support/announcements?annType=announcements-delistings&page=1",
            weight: 2,
            hint: CategoryHint::Delisting,
        },
        ListSpec {
            name: "all",
            target: "/api/v5/support/announcements?page=1",
            weight: 1,
            hint: CategoryHint::None,
        },
    ],
    conditional: false,
    forbidden_rest: None,
    // "5 requests per 2 seconds per IP"; nine of ten notices come within 30 s after :00 and :30.
    pacing: Budget {
        requests_per_second: 1.0,
        peak_per_second: 2.0,
        marks: Some(Marks { every_secs: 1_800, lead_secs: 2, length_secs: 35, share: 0.9 }),
    },
    parse,
    noise: &[],
};

fn parse(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(&Item<'_>),
) -> Result<Parsed, ParseError> {
    scratch.envelope(body, "data", check, |data| {
        let mut parsed = Parsed::default();
        let Some(page) = data.elements().next() else {
            return if data.is_list() { Ok(parsed) } else { Err(ParseError::Missing("data[0]")) };
        };
        let details = page.get("details").filter(|d| d.is_list());
        let details = details.ok_or(ParseError::Missing("data[0].details"))?;
        exchange::read_rows(details, &mut parsed, read_article, found);
        Ok(parsed)
    })
}

fn check(root: Json<'_, '_>) -> Result<(), ParseError> {
    exchange::accept(root, ("code", &["0"]), "msg", "data")
}

fn read_article<'a>(row: Json<'_, 'a>) -> Option<Item<'a>> {
    let url = row.get("url")?.str()?.trim();
    let notice_id = ShortText::identifier(exchange::slug(url)?);
    let time = |key| row.get(key).and_then(|v| when::instant(v, when::UTC_SECS));
    Some(Item {
        notice_id,
        title: row.get("title")?.title()?,
        link: if url.starts_with("https://") {
            Link::Whole(url)
        } else {
            Link::Built("https://www.okx.com/help/", notice_id, "")
        },
        hint: hint(row.get("annType").and_then(Json::str)),
        published: time("pTime").or_else(|| time("businessPTime")),
        modified: None,
        pinned: false,
    })
}

fn hint(kind: Option<&str>) -> CategoryHint {
    match kind.map(str::trim) {
        None | Some("" | "announcements-latest-announcements") => CategoryHint::None,
        Some("announcements-new-listings") => CategoryHint::Listing,
        Some("announcements-delistings") => CategoryHint::Delisting,
        Some(_) => CategoryHint::Other,
    }
}
