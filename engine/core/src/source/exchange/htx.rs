//! HTX, the lists behind its support pages (unofficial; the form is known from other programs' code).
//!
//! Identity: `id` (15 digits). Rows do not say where they are filed: the list does. The edge in front
//! refuses many cloud addresses, and whatever does not look like a browser with a language.

use crate::model::{CategoryHint, Exchange};
use crate::source::json::{Json, Scratch};
use crate::source::pacing::Budget;
use crate::source::{Evidence, Item, Link, ListSpec, ParseError, Parsed, SourceSpec, exchange, when};

macro_rules! list {
    ($one:literal, $two:literal) => {
        concat!(
            "/-/x/support/public/getList/v2?language=en-us&page=1&limit=20&oneLevelId=",
            $one,
            "&twoLevelId=",
            $two
        )
    };
}

/// `htx.web`: new listings, delistings and the notices of futures, each a list of its own.
pub static WEB: SourceSpec = SourceSpec {
    name: "htx.web",
    config_name: "htx",
    exchange: Exchange::Htx,
    evidence: Evidence::UnofficialFromCode,
    base_url: "https://www.htx.com",
    headers: &[
        ("user-agent", exchange::BROWSER),
        ("accept", "application/json"),
        ("accept-language", "en-US,en;q=0.9"),
    ],
    lists: &[
        ListSpec {
            name: "listings",
            target: list!("360000031902", "360000039942"),
            weight: 2,
            hint: CategoryHint::Listing,
        },
        ListSpec {
            name: "delistings",
            target: list!("360000031902", "64971881385864"),
            weight: 1,
            hint: CategoryHint::Delisting,
        },
        ListSpec {
            name: "futures",
            target: list!("360000032161", "360000061481"),
            weight: 1,
            hint: CategoryHint::None,
        },
    ],
    conditional: false,
    forbidden_rest: None,
    // Nothing is known of what it bears: as often as an attentive reader, no oftener.
    pacing: Budget { requests_per_second: 0.25, peak_per_second: 0.5, marks: None },
    parse,
    noise: &["total"],
};

fn parse(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(&Item<'_>),
) -> Result<Parsed, ParseError> {
    scratch.envelope(body, "data", check, |data| {
        let rows = data.get("list").filter(|l| l.is_list());
        let rows = rows.ok_or(ParseError::Missing("data.list"))?;
        let mut parsed = Parsed::default();
        exchange::read_rows(rows, &mut parsed, read_article, found);
        Ok(parsed)
    })
}

fn check(root: Json<'_, '_>) -> Result<(), ParseError> {
    exchange::accept(root, ("code", &["200", "0"]), "message", "data")?;
    if root.get("success").and_then(Json::bool) == Some(false) {
        return Err(ParseError::Refused(root.get("message").map(Json::brief).unwrap_or_default()));
    }
    Ok(())
}

fn read_article<'a>(row: Json<'_, 'a>) -> Option<Item<'a>> {
    let notice_id = row.get("id")?.identifier()?;
    Some(Item {
        notice_id,
        title: row.get("title")?.title()?,
        link: Link::Built("https://www.htx.com/support/", notice_id, ""),
        hint: CategoryHint::None,
        published: row.get("showTime").and_then(|v| when::instant(v, when::UTC8_SECS)),
        modified: None,
        pinned: false,
    })
}
