//! What a title announces: one of the five listing types, the symbols, the markets, and the rule
//! that said so.
//!
//! Contract: [`classify`] is a pure function of its arguments. It accepts any UTF-8, never panics,
//! takes no lock and blocks on nothing; it allocates the tickers and markets it returns and nothing
//! else. Called by source threads, once a title. It cannot fail: what no rule knows is
//! [`ListingType::NotListing`] with a low confidence.

use crate::model::{CategoryHint, Classification, Exchange, Lang, ListingType};

/// Classifies `title` as published by `exchange`.
///
/// `hint` is where the exchange filed the notice. It moves the confidence, and the type only where
/// the title alone leaves it open.
#[must_use]
pub fn classify(exchange: Exchange, title: &str, hint: CategoryHint) -> Classification {
    let _ = (exchange, title, hint);
    Classification {
        listing_type: ListingType::NotListing,
        tickers: Vec::new(),
        markets: Vec::new(),
        rule: "none",
        confidence: 0,
        lang: Lang::En,
    }
}
