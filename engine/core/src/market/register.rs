//! What one exchange is known to have told: notices, previews and openings, shared by the books of its
//! requests.
//!
//! Contract: the market thread has one [`Register`] an exchange, fills it at start with the listing
//! notices of the last [`super::rules::BookRules::notice_before`] out of history, and then with each
//! announcement as it comes. Memory is bounded: beyond [`limits::MARKET_SIGNS`] the oldest sign is
//! forgotten first, so that in the worst case a listing is called stealth that was not. Never fails.

use std::collections::VecDeque;

use super::InstrumentKind;
use crate::limits;
use crate::model::{ListingType, Ticker};
use crate::time::WallUs;

/// Whether notices of the exchange are heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hearing {
    /// No source of its announcements runs: nothing can explain a new pair.
    Never,
    /// A source answered last then.
    Until(WallUs),
}

/// Spot or contract: notices do not say which contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Spot,
    Contract,
}

impl Class {
    const fn of(kind: InstrumentKind) -> Class {
        match kind {
            InstrumentKind::Spot => Class::Spot,
            InstrumentKind::Perpetual | InstrumentKind::Dated => Class::Contract,
        }
    }
}

#[derive(Clone, Debug)]
enum Sign {
    /// `None`: a notice that names no symbol.
    Listing(Class, Option<Box<str>>),
    Delisting(Class, Box<str>),
    Preview(InstrumentKind, Box<str>, Box<str>),
    Opening(InstrumentKind, Box<str>),
}

/// See the module.
#[derive(Debug)]
pub struct Register {
    hearing: Hearing,
    /// In the order they came.
    signs: VecDeque<(WallUs, Sign)>,
}

impl Register {
    /// Nothing known yet. `hearing`: [`Hearing::Never`] where no source of the exchange's announcements
    /// runs, else since when none has answered.
    #[must_use]
    pub fn new(hearing: Hearing) -> Register {
        Register { hearing, signs: VecDeque::new() }
    }

    /// A source of the exchange's announcements answered at `now`.
    pub fn heard(&mut self, now: WallUs) {
        self.hearing = match self.hearing {
            Hearing::Until(before) => Hearing::Until(before.max(now)),
            Hearing::Never => Hearing::Until(now),
        };
    }

    /// Sets whether notices are heard at all, when sources are switched.
    pub fn set_hearing(&mut self, hearing: Hearing) {
        self.hearing = hearing;
    }

    /// Whether notices are heard, and until when they were.
    #[must_use]
    pub fn hearing(&self) -> Hearing {
        self.hearing
    }

    /// An announcement of the exchange, detected at `heard`. What lists or delists nothing is ignored.
    pub fn note_notice(&mut self, listing_type: ListingType, tickers: &[Ticker], heard: WallUs) {
        let class = match listing_type {
            ListingType::SpotListing | ListingType::SpotDelisting => Class::Spot,
            ListingType::FuturesListing | ListingType::FuturesDelisting => Class::Contract,
            ListingType::NotListing => return,
        };
        let lists = matches!(listing_type, ListingType::SpotListing | ListingType::FuturesListing);
        if lists && tickers.is_empty() {
            self.push(heard, Sign::Listing(class, None));
        }
        for ticker in tickers {
            let name: Box<str> = bare(ticker.as_str()).into();
            let sign = if lists { Sign::Listing(class, Some(name)) } else { Sign::Delisting(class, name) };
            self.push(heard, sign);
        }
    }

    /// A preview was told, by a book of this run or in a record of an earlier one.
    pub(super) fn note_preview(&mut self, kind: InstrumentKind, symbol: &str, base: &str, at: WallUs) {
        if !self.previewed(kind, symbol) {
            self.push(at, Sign::Preview(kind, symbol.into(), bare(base).into()));
        }
    }

    /// A preview is over: the next one of the same instrument is another.
    pub(super) fn forget_preview(&mut self, kind: InstrumentKind, symbol: &str) {
        self.signs.retain(
            |(_, sign)| !matches!(sign, Sign::Preview(k, s, _) if *k == kind && s.as_ref() == symbol),
        );
    }

    /// An instrument opened.
    pub(super) fn note_opening(&mut self, kind: InstrumentKind, symbol: &str, at: WallUs) {
        self.push(at, Sign::Opening(kind, symbol.into()));
    }

    /// Whether a preview of this instrument was told and is not over.
    pub(super) fn previewed(&self, kind: InstrumentKind, symbol: &str) -> bool {
        self.signs
            .iter()
            .any(|(_, sign)| matches!(sign, Sign::Preview(k, s, _) if *k == kind && s.as_ref() == symbol))
    }

    /// Whether another instrument of the same asset is ahead, of any kind of market.
    pub(super) fn previewed_beside(&self, symbol: &str, base: &str) -> bool {
        let base = bare(base);
        self.signs.iter().any(
            |(_, sign)| matches!(sign, Sign::Preview(_, s, b) if b.as_ref() == base && s.as_ref() != symbol),
        )
    }

    /// Whether this instrument opened at `since` or later.
    pub(super) fn opened(&self, kind: InstrumentKind, symbol: &str, since: WallUs) -> bool {
        self.signs.iter().any(|(at, sign)| {
            *at >= since && matches!(sign, Sign::Opening(k, s) if *k == kind && s.as_ref() == symbol)
        })
    }

    /// Whether a notice names this asset for this kind of market, heard at `named_since` or later, or one
    /// that names none was heard at `unnamed_since` or later.
    pub(super) fn listing_noticed(
        &self,
        kind: InstrumentKind,
        base: &str,
        named_since: WallUs,
        unnamed_since: WallUs,
    ) -> bool {
        let (class, base) = (Class::of(kind), bare(base));
        self.signs.iter().any(|(at, sign)| match sign {
            Sign::Listing(c, Some(name)) => *c == class && *at >= named_since && name.as_ref() == base,
            Sign::Listing(c, None) => *c == class && *at >= unnamed_since,
            _ => false,
        })
    }

    /// The same for a delisting.
    pub(super) fn delisting_noticed(&self, kind: InstrumentKind, base: &str, since: WallUs) -> bool {
        let (class, base) = (Class::of(kind), bare(base));
        self.signs.iter().any(|(at, sign)| {
            *at >= since && matches!(sign, Sign::Delisting(c, name) if *c == class && name.as_ref() == base)
        })
    }

    fn push(&mut self, at: WallUs, sign: Sign) {
        if self.signs.len() >= limits::MARKET_SIGNS {
            self.signs.pop_front();
        }
        self.signs.push_back((at, sign));
    }
}

/// An asset without the multiplier of its contract: `1000SATS` and `1MBABYDOGE` are SATS and BABYDOGE.
/// What follows must begin with a letter, so that `1INCH` and `0G` stay.
pub(super) fn bare(base: &str) -> &str {
    for multiplier in ["1000000", "100000", "10000", "1000", "1M"] {
        if let Some(rest) = base.strip_prefix(multiplier)
            && rest.chars().next().is_some_and(char::is_alphabetic)
        {
            return rest;
        }
    }
    base
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: WallUs = WallUs(1_000_000);

    fn ticker(symbol: &str) -> Ticker {
        Ticker::new(symbol).unwrap()
    }

    #[test]
    fn a_notice_is_found_by_kind_and_asset_without_multipliers() {
        let mut register = Register::new(Hearing::Never);
        register.note_notice(ListingType::FuturesListing, &[ticker("SATS"), ticker("1INCH")], AT);
        let noticed = |r: &Register, kind, base| r.listing_noticed(kind, base, AT, AT);
        assert!(noticed(&register, InstrumentKind::Perpetual, "1000SATS"));
        assert!(noticed(&register, InstrumentKind::Dated, "SATS"));
        assert!(!noticed(&register, InstrumentKind::Spot, "SATS"));
        assert!(noticed(&register, InstrumentKind::Perpetual, "1INCH"));
        assert!(!noticed(&register, InstrumentKind::Perpetual, "INCH"));
        assert!(!register.listing_noticed(InstrumentKind::Perpetual, "SATS", WallUs(AT.0 + 1), AT));
        register.note_notice(ListingType::SpotListing, &[], AT);
        assert!(noticed(&register, InstrumentKind::Spot, "ANY"), "a notice without a symbol");
        assert!(!register.listing_noticed(InstrumentKind::Spot, "ANY", AT, WallUs(AT.0 + 1)));
        register.note_notice(ListingType::NotListing, &[ticker("NOT")], AT);
        register.note_notice(ListingType::SpotDelisting, &[ticker("OUT")], AT);
        assert!(register.delisting_noticed(InstrumentKind::Spot, "OUT", AT));
        assert!(!register.delisting_noticed(InstrumentKind::Spot, "NOT", AT));
    }

    #[test]
    fn the_oldest_sign_goes_first() {
        let mut register = Register::new(Hearing::Never);
        for i in 0..=limits::MARKET_SIGNS {
            register.note_notice(ListingType::SpotListing, &[ticker(&format!("T{i}"))], AT);
        }
        assert_eq!(register.signs.len(), limits::MARKET_SIGNS);
        assert!(!register.listing_noticed(InstrumentKind::Spot, "T0", AT, AT));
        assert!(register.listing_noticed(InstrumentKind::Spot, "T1", AT, AT));
    }
}
