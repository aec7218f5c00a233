//! The Chinese rules: what exchanges publish where their pages answer in Chinese.
//!
//! Contract: as [`super::korean`]. Chinese is no language of a source Tocsin polls by default, so
//! these rules are few and hardly measured.

use super::lexicon::*;
use super::signals::Signals;
use super::tickers::{self, Found, Naming};
use crate::model::Exchange;
use crate::model::ListingType::{
    self, FuturesDelisting, FuturesListing, NotListing, SpotDelisting, SpotListing,
};

/// Names of the rules, as `docs/classification.md` explains them.
pub(super) const RULE_NAMES: &[&str] = &[
    "zh.spot_with_conversion",
    "zh.conversion",
    "zh.futures_delisting",
    "zh.futures",
    "zh.contract_name",
    "zh.product",
    "zh.spot_delisting",
    "zh.listing",
    "zh.other",
];

/// A decision: type, rule, confidence.
pub(super) type Verdict = (ListingType, &'static str, u8);

/// Signals that show a title to be Chinese.
pub(super) const CHINESE: u128 =
    ZH_LIST | ZH_DELIST | ZH_FUTURES | ZH_SPOT | ZH_PRODUCT | ZH_CONVERT | ZH_OTHER;

/// Decides `text` and reads its symbols.
pub(super) fn classify(exchange: Exchange, text: &str, signals: &Signals) -> (Verdict, Found) {
    let verdict = decide(signals);
    let naming = match verdict.0 {
        NotListing => return (verdict, Found::default()),
        FuturesListing | FuturesDelisting => Naming::Contract,
        SpotListing | SpotDelisting => Naming::Spot,
    };
    let parenthesised = tickers::parenthesised(text, naming, exchange == Exchange::Okx);
    let bare = tickers::bare_list(text, naming, true, false);
    let found = if bare.tickers.len() > parenthesised.tickers.len() { bare } else { parenthesised };
    // "XYZUSDT 将上线" names a contract without the word for it.
    let contract = verdict.0 == SpotListing && !signals.has(ZH_SPOT) && !found.markets.is_empty();
    if contract && !text.contains('/') {
        return ((FuturesListing, "zh.contract_name", 50), found);
    }
    (verdict, found)
}

fn decide(signals: &Signals) -> Verdict {
    let (lists, delists) = (signals.has(ZH_LIST), signals.has(ZH_DELIST));
    let (futures, spot) = (signals.has(ZH_FUTURES), signals.has(ZH_SPOT));
    if signals.has(ZH_CONVERT) {
        return if spot && lists {
            (SpotListing, "zh.spot_with_conversion", 50)
        } else {
            (NotListing, "zh.conversion", 50)
        };
    }
    match (lists, delists, futures) {
        _ if signals.has(ZH_OTHER) => (NotListing, "zh.other", 50),
        (_, true, true) => (FuturesDelisting, "zh.futures_delisting", 50),
        (true, _, true) => (FuturesListing, "zh.futures", 66),
        _ if signals.has(ZH_PRODUCT) && !spot => (NotListing, "zh.product", 50),
        (_, true, _) => (SpotDelisting, "zh.spot_delisting", 50),
        (true, ..) => (SpotListing, "zh.listing", 50),
        _ => (NotListing, "zh.other", 50),
    }
}
