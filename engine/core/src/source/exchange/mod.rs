//! One file an exchange: its requests, field paths, identity and quirks, nothing else.

pub mod binance;
pub mod bithumb;
pub mod upbit;

use super::json::Json;
use super::{Item, Parsed, SourceSpec};
use crate::limits;

/// Every source there is.
pub static ALL: [&SourceSpec; 3] = [&binance::CMS, &upbit::WEB, &bithumb::API];

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
            assert_eq!(spec.config_name, spec.exchange.name());
            assert!(spec.name.starts_with(spec.config_name));
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
        assert!(by_name("binance.cms").is_some() && by_name("binance").is_none());
    }
}
