//! KuCoin, the announcements of its public API (official).
//!
//! Identity: `annId`. One article carries several types, all of them `latest-announcements`, and the
//! documentation writes some with a blank at the end. Earn and margin are filed under delistings and
//! listings too. Every answer weighs 20 of the public pool of 2,000 in 30 s, which the market endpoints
//! share. The list behind the web pages is read as well (`items` on top, seconds in `publish_ts`, and in
//! `publish_at` the time of UTC+8 without saying so); it has no `annId`, there the path is the identity.

use crate::model::{CategoryHint, Exchange};
use crate::source::json::{Json, Scratch};
use crate::source::pacing::Budget;
use crate::source::{
    Evidence, Item, Link, ListSpec, ParseError, Parsed, ShortText, SourceSpec, exchange, when,
};

macro_rules! list {
    ($kind:literal) => {
        concat!("/api/v3/announcements?annType=", $kind, "&lang=en_US&currentPage=1&pageSize=20")
    };
}

/// `kucoin.api`: new listings, delistings and, seldom, everything.
pub static API: SourceSpec = SourceSpec {
    name: "kucoin.api",
    config_name: "kucoin",
    exchange: Exchange::Kucoin,
    evidence: Evidence::Official,
    base_url: "https://api.kucoin.com",
    headers: &[("user-agent", exchange::PROGRAM), ("accept", "application/json")],
    lists: &[
        ListSpec { name: "listings", target: list!("new-listings"), weight: 2, hint: CategoryHint::Listing },
        ListSpec {
            name: "delistings",
            target: list!("delistings"),
            weight: 2,
            hint: CategoryHint::Delisting,
        },
        ListSpec { name: "all", target: list!("latest-announcements"), weight: 1, hint: CategoryHint::None },
    ],
    conditional: false,
    forbidden_rest: None,
    // The whole pool would bear 3.3 a second; most of it is left to whatever else asks KuCoin.
    pacing: Budget { requests_per_second: 1.0, peak_per_second: 2.0, marks: None },
    parse,
    noise: &["totalNum", "totalPage"],
};

fn parse(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(&Item<'_>),
) -> Result<Parsed, ParseError> {
    scratch.document(body, |root| {
        exchange::accept(root, ("code", &["200000", "200"]), "msg", "data.items")?;
        let items = root.get("data").unwrap_or(root).get("items").filter(|i| i.is_list());
        let items = items.ok_or(ParseError::Missing("data.items"))?;
        let mut parsed = Parsed::default();
        exchange::read_rows(items, &mut parsed, read_article, found);
        Ok(parsed)
    })
}

fn read_article<'a>(row: Json<'_, 'a>) -> Option<Item<'a>> {
    let Some(id) = row.get("annId") else { return read_web_article(row) };
    let notice_id = id.identifier()?;
    Some(Item {
        notice_id,
        title: row.get("annTitle")?.title()?,
        link: match row.get("annUrl").and_then(Json::str).map(str::trim) {
            Some(url) if url.starts_with("https://") => Link::Whole(url),
            _ => Link::None,
        },
        hint: row
            .get("annType")
            .map_or(CategoryHint::None, |kinds| hint(kinds.elements().filter_map(Json::str))),
        published: row.get("cTime").and_then(|v| when::instant(v, when::UTC_SECS)),
        modified: None,
        pinned: false,
    })
}

fn read_web_article<'a>(row: Json<'_, 'a>) -> Option<Item<'a>> {
    let notice_id = ShortText::identifier(exchange::slug(row.get("path")?.str()?)?);
    let kinds = row.get("categories");
    let named = kinds.map(|k| hint(k.elements().filter_map(|c| c.get("path").and_then(Json::str))));
    let time = |key, zone| row.get(key).and_then(|v| when::instant(v, zone));
    Some(Item {
        notice_id,
        title: row.get("title")?.title()?,
        link: Link::Built("https://www.kucoin.com/announcement/", notice_id, ""),
        hint: named.unwrap_or_default(),
        published: time("publish_ts", when::UTC_SECS).or_else(|| time("publish_at", when::UTC8_SECS)),
        modified: None,
        pinned: false,
    })
}

/// What several types say together: a listing or delisting is one, whatever else it is filed under.
fn hint<'a>(kinds: impl Iterator<Item = &'a str>) -> CategoryHint {
    kinds.fold(CategoryHint::None, |so_far, kind| match (so_far, kind.trim()) {
        (CategoryHint::Listing | CategoryHint::Delisting, _) => so_far,
        (_, "new-listings") => CategoryHint::Listing,
        (_, "delistings") => CategoryHint::Delisting,
        (_, "" | "latest-announcements" | "futures-announcements") => so_far,
        _ => CategoryHint::Other,
    })
}
