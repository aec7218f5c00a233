//! One file an exchange: its requests, field paths, identity and quirks, nothing else.

pub mod binance;
pub mod bingx;
pub mod bitget;
pub mod bithumb;
pub mod bybit;
pub mod coinone;
pub mod cryptocom;
pub mod htx;
pub mod kucoin;
pub mod mexc;
pub mod okx;
pub mod upbit;

use super::json::Json;
use super::{Item, ParseError, Parsed, ShortText, SourceSpec};
use crate::limits;

/// Every source there is.
pub static ALL: [&SourceSpec; 12] = [
    &binance::CMS,
    &upbit::WEB,
    &bithumb::API,
    &okx::API,
    &bybit::API,
    &bitget::API,
    &kucoin::API,
    &cryptocom::API,
    &htx::WEB,
    &bingx::API,
    &mexc::WEB,
    &coinone::WEB,
];

/// The source configured under `[sources.NAME]`.
#[must_use]
pub fn by_config_name(name: &str) -> Option<&'static SourceSpec> {
    ALL.into_iter().find(|spec| spec.config_name == name)
}

/// The source called `name` in messages and in the store.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static SourceSpec> {
    ALL.into_iter().find(|spec| spec.name == name)
}

/// A browser of today: the undocumented endpoints refuse what looks like a program.
pub(crate) const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
                       Chrome/141.0.0.0 Safari/537.36";

/// What documented endpoints are told of who asks.
const PROGRAM: &str = concat!("tocsin/", env!("CARGO_PKG_VERSION"));

/// Refuses an answer that is no object, or whose `code` is none of `fine`; the reason is its `message`,
/// else the code. A code that is absent is no refusal: what has to follow it then tells.
fn accept(
    root: Json<'_, '_>,
    (code, fine): (&str, &[&str]),
    message: &str,
    holds: &'static str,
) -> Result<(), ParseError> {
    if !root.is_object() {
        return Err(ParseError::Missing(holds));
    }
    let code = root.get(code).map(Json::brief).unwrap_or_default();
    if code.as_str().is_empty() || fine.contains(&code.as_str()) {
        return Ok(());
    }
    let why = root.get(message).map(Json::brief).filter(|why| !why.as_str().is_empty());
    Err(ParseError::Refused(why.unwrap_or(code)))
}

/// The path of an address, without query, fragment and slashes at its end.
fn path(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or("").trim().trim_end_matches('/')
}

/// The last part of an address's path: what stays when only host, language or query change.
fn slug(url: &str) -> Option<&str> {
    let path = path(url);
    let path = path.split_once("://").map_or(Some(path), |(_, rest)| Some(rest.split_once('/')?.1))?;
    path.rsplit('/').next().filter(|slug| !slug.is_empty() && slug.bytes().all(|b| b > b' ' && b != 0x7F))
}

/// The number at the end of the path, whatever query, fragment or slash follows.
fn trailing_number(url: &str) -> Option<ShortText> {
    let path = path(url);
    let head = path.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = path.strip_prefix(head)?;
    let number = digits.trim_start_matches('0');
    if number.is_empty() { None } else { ShortText::new(number) }
}

/// Gives each usable row of `rows` to `found` and counts the others.
fn read_rows<'t, 'a>(
    rows: Json<'t, 'a>,
    parsed: &mut Parsed,
    read: impl Fn(Json<'t, 'a>) -> Option<Item<'a>>,
    found: &mut dyn FnMut(&Item<'_>),
) {
    for row in rows.elements() {
        if parsed.rows >= limits::ITEMS_PER_RESPONSE {
            parsed.beyond_limit += 1;
        } else if let Some(item) = read(row) {
            parsed.rows += 1;
            found(&item);
        } else {
            parsed.skipped += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_are_consistent() {
        for spec in ALL {
            // A dot would part the keys of the configuration.
            assert_eq!(spec.config_name, spec.exchange.name().replace('.', ""));
            assert!(spec.name.strip_prefix(spec.config_name).is_some_and(|rest| rest.starts_with('.')));
            assert_eq!(spec.evidence.is_official(), spec.name.ends_with(".api"), "{}", spec.name);
            assert!((1..=limits::LISTS_PER_SOURCE).contains(&spec.lists.len()));
            assert!(spec.base_url.starts_with("https://") && !spec.base_url.ends_with('/'));
            assert!(spec.pacing.requests_per_second <= spec.pacing.peak_per_second);
            for (index, list) in spec.lists.iter().enumerate() {
                assert!(list.target.starts_with('/') && list.weight > 0);
                assert_eq!(spec.list_index(list.name), Some(index), "names are unique");
            }
            for (name, value) in spec.headers {
                assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{name}");
                assert!(value.bytes().all(|b| (b' '..=b'~').contains(&b)), "{value}");
                assert!(!["host", "accept-encoding", "connection"].contains(name), "{name}");
            }
        }
        assert!(by_config_name("upbit").is_some_and(|s| s.headers.iter().all(|h| h.0 != "origin")));
        let names: std::collections::BTreeSet<_> = ALL.iter().map(|spec| spec.name).collect();
        assert_eq!(names.len(), ALL.len(), "names are unique");
        assert!(by_name("binance.cms").is_some() && by_name("binance").is_none());
    }

    #[test]
    fn identifiers_out_of_addresses() {
        for (url, last) in [
            ("https://x.com/en-us/help/a-b?lang=en#top", Some("a-b")),
            ("https://x.com/help/a-b/", Some("a-b")),
            ("a-b", Some("a-b")),
            ("https://x.com/?a=b", None),
            ("https://x.com", None),
            ("https://x.com/help/a b", None),
            ("/?a", None),
            ("", None),
        ] {
            assert_eq!(slug(url), last, "{url:?}");
        }
        assert_eq!(trailing_number("/articles/0012/?a=3"), ShortText::new("12"));
        assert_eq!(trailing_number("/articles/twelve"), None);
    }
}
