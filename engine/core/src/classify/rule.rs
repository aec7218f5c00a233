//! What a rule is: signals that must stand in a title, signals that must not, and how to read the
//! symbols.
//!
//! Contract: constants and pure functions. Rules of one language form a list; the first that
//! applies decides. A rule may also demand that symbols are found, or that the title names none.

use super::korean;
use super::lexicon::{COIN_MARGINED, DOLLAR_MARGINED};
use super::signals::{Set, Signals};
use super::tickers::{self, Found, Naming};
use crate::model::{Exchange, ExchangeSet, ListingType};

/// Where a rule reads its symbols.
#[derive(Clone, Copy)]
pub(super) enum Take {
    /// The rule announces no listing.
    Nothing,
    /// In parentheses, or else bare; after the first of these signals, or else anywhere.
    After(Set),
    /// A bare list right after the first of these signals; names in words mean no symbols at all.
    AtOnce(Set),
    /// After the first of these signals only; a bare list of two or more beats parentheses.
    ListAfter(Set),
    /// A bare list that fills the rest of the title.
    Rest(Set),
    /// After the first of these signals, with the markets named in parentheses, as Upbit writes.
    WithMarkets(Set),
    /// Bases of the pairs named, or else the list after these signals.
    Pairs(Set),
}

/// Whether the market is spot or a contract; decides how symbols are spelt.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Spot,
    Contract,
}

/// Whether a rule depends on what its reading found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Any,
    Some,
}

/// One row of a rule table.
pub(super) struct Rule {
    pub(super) name: &'static str,
    pub(super) listing_type: ListingType,
    pub(super) confidence: u8,
    exchanges: ExchangeSet,
    /// Each group is satisfied by any of its signals; an empty group asks nothing.
    groups: [Set; 3],
    without: Set,
    take: Take,
    need: Need,
}

impl Rule {
    /// A rule that applies everywhere until conditions are added.
    pub(super) const fn new(name: &'static str, listing_type: ListingType, confidence: u8) -> Rule {
        Rule {
            name,
            listing_type,
            confidence,
            exchanges: ExchangeSet::ALL,
            groups: [0; 3],
            without: 0,
            take: Take::Nothing,
            need: Need::Any,
        }
    }

    /// Only for titles with any of `signals`. At most three such conditions.
    pub(super) const fn when(mut self, signals: Set) -> Rule {
        let mut i = 0;
        while self.groups[i] != 0 {
            i += 1;
        }
        self.groups[i] = signals;
        self
    }

    /// Not for titles with any of `signals`.
    pub(super) const fn unless(mut self, signals: Set) -> Rule {
        self.without |= signals;
        self
    }

    /// Only for these exchanges.
    pub(super) const fn only(mut self, exchanges: &[Exchange]) -> Rule {
        let mut set = ExchangeSet::EMPTY;
        let mut i = 0;
        while i < exchanges.len() {
            set = set.with(exchanges[i]);
            i += 1;
        }
        self.exchanges = set;
        self
    }

    /// How symbols are read.
    pub(super) const fn take(mut self, take: Take) -> Rule {
        self.take = take;
        self
    }

    /// Applies only if symbols were found.
    pub(super) const fn named(mut self) -> Rule {
        self.need = Need::Some;
        self
    }

    /// The symbols if the rule applies to the title, else `None`.
    pub(super) fn apply(&self, exchange: Exchange, text: &str, signals: &Signals) -> Option<Found> {
        let applies = self.exchanges.contains(exchange)
            && !signals.has(self.without)
            && self.groups.iter().all(|&group| group == 0 || signals.has(group));
        if !applies {
            return None;
        }
        let found = self.read(exchange, text, signals);
        (self.need == Need::Any || !found.is_empty()).then_some(found)
    }

    fn read(&self, exchange: Exchange, text: &str, signals: &Signals) -> Found {
        let naming = match self.kind() {
            Kind::Spot => Naming::Spot,
            Kind::Contract if signals.has(COIN_MARGINED) && !signals.has(DOLLAR_MARGINED) => {
                Naming::CoinMargined
            }
            Kind::Contract => Naming::Contract,
        };
        let after = |anchor| signals.end_of_first(anchor).and_then(|at| text.get(at..));
        let symbol_first = exchange == Exchange::Okx;
        match self.take {
            Take::Nothing => Found::default(),
            Take::After(anchor) => {
                let rest = after(anchor).unwrap_or(text);
                first_found(&[
                    &|| tickers::parenthesised(rest, naming, symbol_first),
                    &|| tickers::list_at_once(rest, naming),
                    &|| tickers::parenthesised(text, naming, symbol_first),
                    &|| tickers::bare_list(rest, naming, false, false),
                    &|| tickers::bare_list(text, naming, false, false),
                ])
            }
            Take::AtOnce(anchor) => {
                after(anchor).map_or_else(Found::default, |rest| tickers::list_at_once(rest, naming))
            }
            Take::ListAfter(anchor) => {
                let rest = after(anchor).unwrap_or(text);
                let bare = tickers::bare_list(rest, naming, false, false);
                let parenthesised = tickers::parenthesised(rest, naming, symbol_first);
                if bare.tickers.len() > parenthesised.tickers.len() {
                    bare
                } else if parenthesised.is_empty() {
                    // "Harbor (HARBR) delisting notice".
                    tickers::parenthesised(text, naming, symbol_first)
                } else {
                    parenthesised
                }
            }
            Take::Rest(anchor) => after(anchor)
                .map_or_else(Found::default, |rest| tickers::bare_list(rest, naming, false, true)),
            Take::WithMarkets(anchor) => korean::read(after(anchor).unwrap_or(text)),
            Take::Pairs(anchor) => first_found(&[
                &|| tickers::pairs(text),
                &|| tickers::parenthesised(text, naming, false),
                &|| {
                    after(anchor)
                        .map_or_else(Found::default, |rest| tickers::bare_list(rest, naming, false, false))
                },
            ]),
        }
    }

    fn kind(&self) -> Kind {
        match self.listing_type {
            ListingType::FuturesListing | ListingType::FuturesDelisting => Kind::Contract,
            _ => Kind::Spot,
        }
    }
}

/// The first reading that finds anything.
fn first_found(readings: &[&dyn Fn() -> Found]) -> Found {
    readings.iter().map(|read| read()).find(|found| !found.is_empty()).unwrap_or_default()
}
