//! What a title announces: one of the five listing types, the symbols, the markets, and the rule
//! that said so.
//!
//! Contract: [`classify`] is a pure function of its arguments. It accepts any UTF-8, never panics,
//! takes no lock and blocks on nothing; it allocates the tickers and markets it returns, and
//! those of readings it tries and drops (a bare list beside parentheses). Called by source threads, once a title. It cannot fail: what no rule knows is
//! [`ListingType::NotListing`].
//!
//! A title is folded (one spelling for blanks and brackets), read once for the phrases of the
//! lexicon, and handed to the rules of its language. `docs/classification.md` lists them.

mod chinese;
mod english;
mod korean;
mod lexicon;
mod normalise;
mod rule;
mod signals;
mod tickers;

use crate::model::{CategoryHint, Classification, Exchange, Lang, ListingType};
use normalise::Folded;
use signals::Signals;
use tickers::Found;

/// Classifies `title` as published by `exchange`.
///
/// `hint` is where the exchange filed the notice. It moves the confidence, never the type: exchanges
/// file postponements under listings and listings under news.
#[must_use]
pub fn classify(exchange: Exchange, title: &str, hint: CategoryHint) -> Classification {
    let folded = Folded::new(title);
    let text = folded.as_str();
    let signals = Signals::read(text);
    let (listing_type, rule, confidence, found, lang) = if signals.hangul {
        let ((listing_type, rule, confidence), found) = korean::classify(text, &signals);
        (listing_type, rule, confidence, found, Lang::Ko)
    } else if signals.has(chinese::CHINESE) {
        let ((listing_type, rule, confidence), found) = chinese::classify(exchange, text, &signals);
        (listing_type, rule, confidence, found, Lang::Zh)
    } else {
        let (rule, found) = in_english(exchange, text, &signals);
        (rule.listing_type, rule.name, rule.confidence, found, Lang::En)
    };
    Classification {
        listing_type,
        tickers: found.tickers,
        markets: found.markets,
        rule,
        confidence: with_hint(confidence, listing_type, hint),
        lang,
    }
}

/// Names of all rules, a name more than once where several rules share it. They are stable: users
/// filter and report by them.
pub fn rule_names() -> impl Iterator<Item = &'static str> {
    let english = english::RULES.iter().chain([&english::OTHERWISE]).map(|rule| rule.name);
    english.chain(korean::RULE_NAMES.iter().copied()).chain(chinese::RULE_NAMES.iter().copied())
}

fn in_english(exchange: Exchange, text: &str, signals: &Signals) -> (&'static rule::Rule, Found) {
    for rule in english::RULES {
        if let Some(found) = rule.apply(exchange, text, signals) {
            return (rule, found);
        }
    }
    (&english::OTHERWISE, Found::default())
}

/// Confidence after the exchange's own filing was heard: halfway to certainty if it agrees, lower
/// by a fifth if it says the opposite.
fn with_hint(confidence: u8, listing_type: ListingType, hint: CategoryHint) -> u8 {
    let agrees = match (hint, listing_type) {
        (CategoryHint::None, _)
        | (CategoryHint::Listing | CategoryHint::Delisting, ListingType::NotListing) => {
            return confidence;
        }
        (CategoryHint::Listing, ListingType::SpotListing | ListingType::FuturesListing)
        | (CategoryHint::Delisting, ListingType::SpotDelisting | ListingType::FuturesDelisting)
        | (CategoryHint::Other, ListingType::NotListing) => true,
        (CategoryHint::Listing | CategoryHint::Delisting | CategoryHint::Other, _) => false,
    };
    if agrees { confidence + (100 - confidence.min(100)) / 2 } else { confidence - confidence / 5 }
}
