//! Binance, the content service behind its announcement pages (unofficial).
//!
//! Identity: `code` (32 hex digits); the same article in several catalogs is one item, and an
//! "Updated Notice of …" is an article of its own. Answers come from an edge cache whose entries
//! live about a minute and differ between edges, so an older page can follow a newer one, and
//! `releaseDate` can precede the first sight of an article by that long. There is no time of
//! modification. The flat list of older clients (`data.articles`, no times) is read too.

use crate::model::{CategoryHint, Exchange};
use crate::source::json::{Json, Scratch};
use crate::source::pacing::{Budget, Marks};
use crate::source::{Evidence, Item, Link, ListSpec, ParseError, Parsed, SourceSpec, exchange, when};

macro_rules! catalog {
    ($id:literal) => {
        concat!(
            "/bapi/composite/v1/public/cms/article/list/query?type=1&catalogId=",
            $id,
            "&pageNo=1&pageSize=20"
        )
    };
}

/// `binance.cms`: new listings (48), delistings (161) and the general news (49) that hold what
/// fits neither. Each catalog is its own entry in the edge cache.
pub static CMS: SourceSpec = SourceSpec {
    name: "binance.cms",
    config_name: "binance",
    exchange: Exchange::Binance,
    evidence: Evidence::Unofficial,
    base_url: "https://www.binance.com",
    headers: &[
        ("user-agent", exchange::BROWSER),
        ("accept", "application/json"),
        ("accept-language", "en-US,en;q=0.9"),
        ("clienttype", "web"),
        ("lang", "en"),
        ("referer", "https://www.binance.com/en/support/announcement"),
    ],
    lists: &[
        ListSpec { name: "48", target: catalog!("48"), weight: 2, hint: CategoryHint::None },
        ListSpec { name: "161", target: catalog!("161"), weight: 2, hint: CategoryHint::None },
        ListSpec { name: "49", target: catalog!("49"), weight: 1, hint: CategoryHint::None },
    ],
    conditional: false,
    forbidden_rest: None,
    // Two a second from one address have been seen to stay clean, and all delistings of 2026 came
    // within 30 s after a five-minute mark: there the full two, elsewhere what is left of the mean.
    pacing: Budget {
        requests_per_second: 1.0,
        peak_per_second: 2.0,
        marks: Some(Marks { every_secs: 300, lead_secs: 2, length_secs: 35, share: 0.95 }),
    },
    parse,
    noise: &["total"],
};

fn parse(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(&Item<'_>),
) -> Result<Parsed, ParseError> {
    scratch.envelope(body, "data", check, |data| {
        let mut parsed = Parsed::default();
        if let Some(articles) = data.get("articles").filter(|a| a.is_list()) {
            read_articles(articles, CategoryHint::None, &mut parsed, found);
        } else {
            let catalogs = data.get("catalogs").filter(|c| c.is_list());
            let catalogs = catalogs.ok_or(ParseError::Missing("data.catalogs"))?;
            read_catalogs(catalogs, 0, &mut parsed, found);
        }
        Ok(parsed)
    })
}

fn check(root: Json<'_, '_>) -> Result<(), ParseError> {
    if !root.is_object() {
        return Err(ParseError::Missing("data"));
    }
    let code = root.get("code");
    let refused = code.is_some_and(|c| !matches!(c.brief().as_str(), "" | "0" | "000000"));
    if refused || root.get("success").and_then(Json::bool) == Some(false) {
        let why = code.or_else(|| root.get("message"));
        return Err(ParseError::Refused(why.map(Json::brief).unwrap_or_default()));
    }
    Ok(())
}

/// Catalogs can hold catalogs; deeper than this nobody nests them.
const CATALOG_DEPTH: usize = 4;

fn read_catalogs(
    catalogs: Json<'_, '_>,
    depth: usize,
    parsed: &mut Parsed,
    found: &mut dyn FnMut(&Item<'_>),
) {
    for catalog in catalogs.elements() {
        if let Some(articles) = catalog.get("articles") {
            read_articles(articles, hint(catalog), parsed, found);
        }
        if let Some(below) = catalog.get("catalogs")
            && depth < CATALOG_DEPTH
        {
            read_catalogs(below, depth + 1, parsed, found);
        }
    }
}

fn read_articles(
    articles: Json<'_, '_>,
    catalog: CategoryHint,
    parsed: &mut Parsed,
    found: &mut dyn FnMut(&Item<'_>),
) {
    exchange::read_rows(articles, parsed, |row| read_article(row, catalog), found);
}

fn read_article<'a>(row: Json<'_, 'a>, catalog: CategoryHint) -> Option<Item<'a>> {
    let notice_id = row.get("code")?.identifier()?;
    let time = |key| row.get(key).and_then(|v| when::instant(v, when::UTC_SECS));
    let own = hint(row);
    Some(Item {
        notice_id,
        title: row.get("title")?.title()?,
        link: Link::Built("https://www.binance.com/en/support/announcement/", notice_id, ""),
        hint: if own == CategoryHint::None { catalog } else { own },
        published: time("releaseDate").or_else(|| time("publishDate")),
        modified: None,
        pinned: false,
    })
}

/// What the `catalogId` of a catalog, or of an article of the flat list, tells.
pub(in crate::source) fn hint(holder: Json<'_, '_>) -> CategoryHint {
    match holder.get("catalogId").and_then(Json::integer) {
        Some(48) => CategoryHint::Listing,
        Some(161) => CategoryHint::Delisting,
        // Fiat, API, activities, airdrops, maintenance. The general news (49) can be anything.
        Some(50 | 51 | 93 | 128 | 157) => CategoryHint::Other,
        _ => CategoryHint::None,
    }
}
