//! What has been told already: which listing of which ticker each item has announced.
//!
//! An exchange edits notices: it moves an opening hour, appends `(완료)`, corrects a name. Such an edit
//! keeps its listing type and tickers, and a subscriber that knows only the specification would take
//! it for a second listing. This table tells an edit that says something new from one that does not.
//!
//! Owner: a source thread. Fixed capacity: the item told longest ago is forgotten first, and an edit
//! of a forgotten item counts as news. Allocates only while it grows to its capacity.

use std::collections::{BTreeMap, VecDeque};

use crate::limits;
use crate::model::{Action, ListingType, Ticker};

/// A listing type and one of its tickers; `None` where the title names none.
type Pair = (ListingType, Option<Ticker>);

/// What each item has told so far.
#[derive(Debug, Default)]
pub struct Told {
    items: BTreeMap<Box<str>, Vec<Pair>>,
    /// Ids in the order first told.
    order: VecDeque<Box<str>>,
}

impl Told {
    /// Nothing told yet.
    #[must_use]
    pub fn new() -> Told {
        Told::default()
    }

    /// Notes what item `id` tells now and says what kind of action that is. `edited` is whether the
    /// item was seen before. Called once an announcement; for items of a baseline, whose titles
    /// everybody knows; and at start for both as the store has them.
    pub fn note(&mut self, id: &str, edited: bool, listing_type: ListingType, tickers: &[Ticker]) -> Action {
        let told = self.entry(id);
        let before = told.len();
        if listing_type != ListingType::NotListing {
            let bare = tickers.is_empty().then_some(None);
            let pairs = tickers.iter().cloned().map(Some).chain(bare).map(|ticker| (listing_type, ticker));
            for pair in pairs {
                if !told.contains(&pair) && told.len() < limits::TOLD_PAIRS_PER_ITEM {
                    told.push(pair);
                }
            }
        }
        match (edited, told.len() > before) {
            (false, _) => Action::Created,
            (true, false) => Action::Updated,
            (true, true) => Action::UpdatedWithNews,
        }
    }

    fn entry(&mut self, id: &str) -> &mut Vec<Pair> {
        if !self.items.contains_key(id) {
            if self.order.len() >= limits::TOLD_ITEMS
                && let Some(oldest) = self.order.pop_front()
            {
                self.items.remove(&oldest);
            }
            self.order.push_back(id.into());
        }
        self.items.entry(id.into()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ListingType::{NotListing, SpotDelisting, SpotListing};

    fn tickers(symbols: &[&str]) -> Vec<Ticker> {
        symbols.iter().filter_map(|s| Ticker::new(s)).collect()
    }

    #[test]
    fn an_edit_is_news_only_if_it_tells_something_new() {
        let mut told = Told::new();
        let mut note = |edited, listing_type, symbols: &[&str]| {
            told.note("upbit:6496", edited, listing_type, &tickers(symbols))
        };
        assert_eq!(note(false, SpotListing, &["NEXO"]), Action::Created);
        assert_eq!(note(true, SpotListing, &["NEXO"]), Action::Updated, "a new opening hour");
        assert_eq!(note(true, NotListing, &[]), Action::Updated, "a postponement");
        assert_eq!(note(true, SpotListing, &["NEXO", "ABC"]), Action::UpdatedWithNews, "a ticker added");
        assert_eq!(note(true, SpotListing, &["ABC"]), Action::Updated, "a ticker taken away");
        assert_eq!(note(true, SpotDelisting, &["ABC"]), Action::UpdatedWithNews, "another type");
    }

    #[test]
    fn a_notice_that_becomes_a_listing_is_news_once() {
        let mut told = Told::new();
        assert_eq!(told.note("x:1", true, NotListing, &[]), Action::Updated, "known from a baseline");
        assert_eq!(
            told.note("x:1", true, SpotListing, &[]),
            Action::UpdatedWithNews,
            "no ticker in the title"
        );
        assert_eq!(told.note("x:1", true, SpotListing, &[]), Action::Updated);
        assert_eq!(told.note("x:1", true, SpotListing, &tickers(&["A"])), Action::UpdatedWithNews);
        assert_eq!(told.note("x:2", true, SpotListing, &tickers(&["A"])), Action::UpdatedWithNews);
    }

    #[test]
    fn it_forgets_the_oldest_at_its_bound() {
        let mut told = Told::new();
        for i in 0..=limits::TOLD_ITEMS {
            told.note(&format!("x:{i}"), false, SpotListing, &tickers(&["A"]));
        }
        assert_eq!(told.items.len(), limits::TOLD_ITEMS);
        assert_eq!(told.order.len(), limits::TOLD_ITEMS);
        assert_eq!(told.note("x:0", true, SpotListing, &tickers(&["A"])), Action::UpdatedWithNews);
        assert_eq!(told.note("x:9", true, SpotListing, &tickers(&["A"])), Action::Updated);
    }
}
