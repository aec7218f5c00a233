//! BingX, the content endpoint of its open API (official; the form is known from other programs' code).
//!
//! Identity: none is given, so the trailing number of the article's address. Rows do not say where they
//! are filed: the list does. Two forms are written about and both are read: `data[]` with `url` and
//! `releaseTime` (UTC+8, with its offset), and `data.list[]` with `link` and `time`.

use crate::model::{CategoryHint, Exchange};
use crate::source::json::{Json, Scratch};
use crate::source::pacing::Budget;
use crate::source::{
    Evidence, Item, Link, ListSpec, ParseError, Parsed, ShortText, SourceSpec, exchange, when,
};

macro_rules! list {
    ($kind:literal) => {
        concat!("/openApi/content/v1/announcement?contentType=", $kind, "&language=en-us&page=1")
    };
}

/// `bingx.api`: the latest announcements, and the lists of listings and delistings beside them.
pub static API: SourceSpec = SourceSpec {
    name: "bingx.api",
    config_name: "bingx",
    exchange: Exchange::Bingx,
    evidence: Evidence::OfficialFromCode,
    base_url: "https://open-api.bingx.com",
    headers: &[("user-agent", exchange::PROGRAM), ("accept", "application/json")],
    lists: &[
        ListSpec {
            name: "latest",
            target: list!("LatestAnnouncements"),
            weight: 2,
            hint: CategoryHint::None,
        },
        ListSpec { name: "spot", target: list!("SpotListing"), weight: 1, hint: CategoryHint::Listing },
        ListSpec { name: "futures", target: list!("FuturesListing"), weight: 1, hint: CategoryHint::Listing },
        ListSpec { name: "delistings", target: list!("Delisting"), weight: 1, hint: CategoryHint::Delisting },
    ],
    conditional: false,
    forbidden_rest: None,
    // The public endpoints bear 500 in 10 s together; none is documented for this one.
    pacing: Budget { requests_per_second: 1.0, peak_per_second: 2.0, marks: None },
    parse,
    noise: &["timestamp", "total"],
};

fn parse(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(&Item<'_>),
) -> Result<Parsed, ParseError> {
    scratch.envelope(body, "data", check, |data| {
        let rows = if data.is_object() { data.get("list") } else { Some(data) };
        let rows = rows.filter(|r| r.is_list()).ok_or(ParseError::Missing("data[]"))?;
        let mut parsed = Parsed::default();
        exchange::read_rows(rows, &mut parsed, read_article, found);
        Ok(parsed)
    })
}

fn check(root: Json<'_, '_>) -> Result<(), ParseError> {
    exchange::accept(root, ("code", &["0"]), "msg", "data")
}

fn read_article<'a>(row: Json<'_, 'a>) -> Option<Item<'a>> {
    let url = row.get("url").or_else(|| row.get("link"))?.str()?.trim();
    let named = || exchange::slug(url).map(ShortText::identifier);
    let time = row.get("releaseTime").or_else(|| row.get("time"));
    Some(Item {
        notice_id: exchange::trailing_number(url).or_else(named)?,
        title: row.get("title")?.title()?,
        link: if url.starts_with("https://") { Link::Whole(url) } else { Link::None },
        hint: CategoryHint::None,
        published: time.and_then(|v| when::instant(v, when::UTC8_SECS)),
        modified: None,
        pinned: false,
    })
}
