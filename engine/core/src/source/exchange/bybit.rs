//! Bybit, the announcements of its public API (official).
//!
//! Identity: none is given, so the `blt…` at the end of the article's address, else the last part of
//! its path. `dateTimestamp` is the time its author typed; `publishTime`, which older answers lack, is
//! when it was published. The two times of an event, spelt `startDateTimestamp` and, in the
//! documentation, `startDataTimestamp`, are not the notice's and are not read. Campaigns around a token
//! are filed under new listings. Who asks too often is answered 403 and has to rest ten minutes; some
//! regions are answered 403 with a page of the edge.

use core::time::Duration;

use crate::model::{CategoryHint, Exchange};
use crate::source::json::{Json, Scratch};
use crate::source::pacing::Budget;
use crate::source::{
    Evidence, Item, Link, ListSpec, ParseError, Parsed, ShortText, SourceSpec, exchange, when,
};

macro_rules! list {
    ($kind:literal) => {
        concat!("/v5/announcements/index?locale=en-US", $kind, "&page=1&limit=20")
    };
}

/// `bybit.api`: new listings, delistings and, seldom, everything.
pub static API: SourceSpec = SourceSpec {
    name: "bybit.api",
    config_name: "bybit",
    exchange: Exchange::Bybit,
    evidence: Evidence::Official,
    base_url: "https://api.bybit.com",
    headers: &[("user-agent", exchange::PROGRAM), ("accept", "application/json")],
    lists: &[
        ListSpec {
            name: "listings",
            target: list!("&type=new_crypto"),
            weight: 2,
            hint: CategoryHint::Listing,
        },
        ListSpec {
            name: "delistings",
            target: list!("&type=delistings"),
            weight: 2,
            hint: CategoryHint::Delisting,
        },
        ListSpec { name: "all", target: list!(""), weight: 1, hint: CategoryHint::None },
    ],
    conditional: false,
    forbidden_rest: Some(Duration::from_secs(600)),
    // 600 requests in 5 s are documented, for everything that asks from one address; this is a fraction.
    pacing: Budget { requests_per_second: 2.0, peak_per_second: 5.0, marks: None },
    parse,
    noise: &["total", "time"],
};

fn parse(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(&Item<'_>),
) -> Result<Parsed, ParseError> {
    scratch.envelope(body, "result", check, |result| {
        let rows = result.get("list").filter(|l| l.is_list());
        let rows = rows.ok_or(ParseError::Missing("result.list"))?;
        let mut parsed = Parsed::default();
        exchange::read_rows(rows, &mut parsed, read_article, found);
        Ok(parsed)
    })
}

fn check(root: Json<'_, '_>) -> Result<(), ParseError> {
    exchange::accept(root, ("retCode", &["0"]), "retMsg", "result")
}

fn read_article<'a>(row: Json<'_, 'a>) -> Option<Item<'a>> {
    let url = row.get("url")?.str()?.trim();
    let slug = exchange::slug(url)?;
    let time = |key| row.get(key).and_then(|v| when::instant(v, when::UTC_SECS));
    let kind = row.get("type");
    Some(Item {
        notice_id: ShortText::identifier(entry(slug).unwrap_or(slug)),
        title: row.get("title")?.title()?,
        link: if url.starts_with("https://") { Link::Whole(url) } else { Link::None },
        hint: hint(kind.and_then(|k| k.get("key").and_then(Json::str).or_else(|| k.str()))),
        published: time("publishTime").or_else(|| time("dateTimestamp")),
        modified: None,
        pinned: false,
    })
}

/// `blt` and hexadecimal digits after the last hyphen: the entry in the content store, which stays when
/// the words before it change.
fn entry(slug: &str) -> Option<&str> {
    let last = slug.rsplit('-').next()?;
    let digits = last.strip_prefix("blt")?;
    (digits.len() >= 8 && digits.bytes().all(|b| b.is_ascii_hexdigit())).then_some(last)
}

fn hint(kind: Option<&str>) -> CategoryHint {
    match kind.map(str::trim) {
        None | Some("" | "latest_bybit_news") => CategoryHint::None,
        Some("new_crypto") => CategoryHint::Listing,
        Some("delistings") => CategoryHint::Delisting,
        Some(_) => CategoryHint::Other,
    }
}
