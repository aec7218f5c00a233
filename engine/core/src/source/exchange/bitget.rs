//! Bitget, the announcements of its public API (official), under its misspelt path.
//!
//! Identity: `annId`. A page holds ten rows at most and reaches back one month; `language` has to be
//! given. Numbers come as strings. Margin and copy trading are filed under listings, told apart by
//! `annSubType`.

use crate::model::{CategoryHint, Exchange};
use crate::source::json::{Json, Scratch};
use crate::source::pacing::Budget;
use crate::source::{Evidence, Item, Link, ListSpec, ParseError, Parsed, SourceSpec, exchange, when};

macro_rules! list {
    ($kind:literal) => {
        concat!("/api/v2/public/annoucements?language=en_US&annType=", $kind, "&limit=10")
    };
}

/// `bitget.api`: listings, delistings and the news that hold what fits neither.
pub static API: SourceSpec = SourceSpec {
    name: "bitget.api",
    config_name: "bitget",
    exchange: Exchange::Bitget,
    evidence: Evidence::Official,
    base_url: "https://api.bitget.com",
    headers: &[("user-agent", exchange::PROGRAM), ("accept", "application/json")],
    lists: &[
        ListSpec { name: "listings", target: list!("coin_listings"), weight: 2, hint: CategoryHint::Listing },
        ListSpec {
            name: "delistings",
            target: list!("symbol_delisting"),
            weight: 2,
            hint: CategoryHint::Delisting,
        },
        ListSpec { name: "news", target: list!("latest_news"), weight: 1, hint: CategoryHint::None },
    ],
    conditional: false,
    forbidden_rest: None,
    // "20 requests per second per IP".
    pacing: Budget { requests_per_second: 2.0, peak_per_second: 5.0, marks: None },
    parse,
    noise: &["requestTime"],
};

fn parse(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(&Item<'_>),
) -> Result<Parsed, ParseError> {
    scratch.envelope(body, "data", check, |data| {
        if !data.is_list() {
            return Err(ParseError::Missing("data[]"));
        }
        let mut parsed = Parsed::default();
        exchange::read_rows(data, &mut parsed, read_article, found);
        Ok(parsed)
    })
}

fn check(root: Json<'_, '_>) -> Result<(), ParseError> {
    exchange::accept(root, ("code", &["00000"]), "msg", "data")
}

fn read_article<'a>(row: Json<'_, 'a>) -> Option<Item<'a>> {
    let notice_id = row.get("annId")?.identifier()?;
    let text = |key| row.get(key).and_then(Json::str).map(str::trim);
    Some(Item {
        notice_id,
        title: row.get("annTitle")?.title()?,
        link: match text("annUrl") {
            Some(url) if url.starts_with("https://") => Link::Whole(url),
            _ => Link::Built("https://www.bitget.com/support/articles/", notice_id, ""),
        },
        hint: hint(text("annType"), text("annSubType")),
        published: row.get("cTime").and_then(|v| when::instant(v, when::UTC_SECS)),
        modified: None,
        pinned: false,
    })
}

fn hint(kind: Option<&str>, part: Option<&str>) -> CategoryHint {
    match (kind, part) {
        (Some("coin_listings"), Some("margin" | "copy_trading")) => CategoryHint::Other,
        (Some("coin_listings"), _) => CategoryHint::Listing,
        (Some("symbol_delisting"), _) => CategoryHint::Delisting,
        (None | Some("" | "latest_news"), _) => CategoryHint::None,
        (Some(_), _) => CategoryHint::Other,
    }
}
