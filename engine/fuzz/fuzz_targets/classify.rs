//! Any text, of any exchange, under any hint: no panic, bounds kept, no symbols on what lists nothing; and
//! its score.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tocsin_core::classify::classify;
use tocsin_core::limits;
use tocsin_core::model::{CategoryHint, Exchange, ListingType};
use tocsin_core::score;

const HINTS: [CategoryHint; 4] =
    [CategoryHint::None, CategoryHint::Listing, CategoryHint::Delisting, CategoryHint::Other];

fuzz_target!(|data: &[u8]| {
    let [exchange, hint, title @ ..] = data else { return };
    let exchange = Exchange::ALL[usize::from(*exchange) % Exchange::ALL.len()];
    let hint = HINTS[usize::from(*hint) % HINTS.len()];
    let title = String::from_utf8_lossy(title);
    let said = classify(exchange, &title, hint);
    assert!(said.tickers.len() <= limits::TICKERS_PER_ANNOUNCEMENT);
    assert!(said.markets.len() <= limits::MARKETS_PER_ANNOUNCEMENT);
    assert!(said.confidence <= 100);
    assert!((score::LOWEST..=score::HIGHEST).contains(&score::of(exchange, &title, &said)));
    assert!(said.listing_type != ListingType::NotListing || said.tickers.is_empty());
    assert_eq!(said.listing_type, classify(exchange, &title, CategoryHint::None).listing_type);
});
