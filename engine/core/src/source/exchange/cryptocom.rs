//! Crypto.com Exchange, the announcements of its public API (official).
//!
//! Identity: `id` (24 hexadecimal digits). No address of a page is given. The documented categories are
//! `list`, `delist`, `event`, `product` and `system`; the first two are asked for. `start_time` and
//! `end_time` are those of what is announced, not of the notice. The API documents no limit for it.

use crate::model::{CategoryHint, Exchange};
use crate::source::json::{Json, Scratch};
use crate::source::pacing::Budget;
use crate::source::{Evidence, Item, Link, ListSpec, ParseError, Parsed, SourceSpec, exchange, when};

/// `cryptocom.api`: listings and delistings.
pub static API: SourceSpec = SourceSpec {
    name: "cryptocom.api",
    config_name: "cryptocom",
    exchange: Exchange::CryptoCom,
    evidence: Evidence::Official,
    base_url: "https://api.crypto.com",
    headers: &[("user-agent", exchange::PROGRAM), ("accept", "application/json")],
    lists: &[
        ListSpec {
            name: "listings",
            target: "/v1/public/get-announcements?category=list",
            weight: 1,
            hint: CategoryHint::Listing,
        },
        ListSpec {
            name: "delistings",
            target: "/v1/public/get-announcements?category=delist",
            weight: 1,
            hint: CategoryHint::Delisting,
        },
    ],
    conditional: false,
    forbidden_rest: None,
    // No limit is documented: as often as the slowest of the others documents.
    pacing: Budget { requests_per_second: 1.0, peak_per_second: 1.0, marks: None },
    parse,
    noise: &[],
};

fn parse(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(&Item<'_>),
) -> Result<Parsed, ParseError> {
    scratch.envelope(body, "result", check, |result| {
        let rows = result.get("data").filter(|d| d.is_list());
        let rows = rows.ok_or(ParseError::Missing("result.data"))?;
        let mut parsed = Parsed::default();
        exchange::read_rows(rows, &mut parsed, read_notice, found);
        Ok(parsed)
    })
}

fn check(root: Json<'_, '_>) -> Result<(), ParseError> {
    exchange::accept(root, ("code", &["0"]), "message", "result")
}

fn read_notice<'a>(row: Json<'_, 'a>) -> Option<Item<'a>> {
    Some(Item {
        notice_id: row.get("id")?.identifier()?,
        title: row.get("title")?.title()?,
        link: Link::None,
        hint: hint(row.get("category").and_then(Json::str)),
        published: row.get("announced_at").and_then(|v| when::instant(v, when::UTC_SECS)),
        modified: None,
        pinned: false,
    })
}

fn hint(category: Option<&str>) -> CategoryHint {
    match category.map(str::trim) {
        None | Some("") => CategoryHint::None,
        Some("list") => CategoryHint::Listing,
        Some("delist") => CategoryHint::Delisting,
        Some(_) => CategoryHint::Other,
    }
}
