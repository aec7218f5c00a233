//! Which events an endpoint wants.
//!
//! Contract: plain data, allocates nothing but text, fails never. Pings, verifications and test events
//! are not filtered: they are about the endpoint itself.

use super::event::EventKind;
use crate::model::{Exchange, ExchangeSet};

/// A set of event kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EventKindSet(u8);

impl EventKindSet {
    /// No kind.
    pub const EMPTY: EventKindSet = EventKindSet(0);
    /// Every kind, those of later versions too: `*`.
    pub const ALL: EventKindSet = EventKindSet(u8::MAX);

    /// This set and `kind`.
    #[must_use]
    pub const fn with(self, kind: EventKind) -> EventKindSet {
        EventKindSet(self.0 | 1 << kind as u8)
    }

    /// Whether `kind` is in the set.
    #[must_use]
    pub const fn contains(self, kind: EventKind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }

    /// Whether it is `*`.
    #[must_use]
    pub const fn is_all(self) -> bool {
        self.0 == u8::MAX
    }

    /// Whether nothing is in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<EventKind> for EventKindSet {
    fn from_iter<I: IntoIterator<Item = EventKind>>(iter: I) -> Self {
        iter.into_iter().fold(EventKindSet::EMPTY, EventKindSet::with)
    }
}

/// What an endpoint asked for; all of it where it asked for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventFilter {
    /// Kinds of event.
    pub kinds: EventKindSet,
    /// Exchanges.
    pub exchanges: ExchangeSet,
}

impl Default for EventFilter {
    fn default() -> EventFilter {
        EventFilter { kinds: EventKindSet::ALL, exchanges: ExchangeSet::ALL }
    }
}

impl EventFilter {
    /// Whether an event of this kind and exchange passes; one of our own has no exchange and is a
    /// matter of its kind alone.
    #[must_use]
    pub fn wants(&self, kind: EventKind, exchange: Option<Exchange>) -> bool {
        self.kinds.contains(kind) && exchange.is_none_or(|exchange| self.exchanges.contains(exchange))
    }

    /// The kinds as text: names separated by commas, `*` for all.
    #[must_use]
    pub fn kinds_text(&self) -> String {
        if self.kinds.is_all() {
            return "*".to_owned();
        }
        join(EventKind::ALL.into_iter().filter(|kind| self.kinds.contains(*kind)).map(EventKind::name))
    }

    /// The exchanges as text: names separated by commas, `*` for all.
    #[must_use]
    pub fn exchanges_text(&self) -> String {
        if self.exchanges.is_all() {
            return "*".to_owned();
        }
        join(self.exchanges.iter().map(Exchange::name))
    }

    /// Reads back what [`EventFilter::kinds_text`] and [`EventFilter::exchanges_text`] wrote, or a
    /// person: white space around names and their case do not matter.
    ///
    /// # Errors
    /// The first name that is none. `ping` is none: pings always come.
    pub fn parse(kinds: &str, exchanges: &str) -> Result<EventFilter, UnknownName> {
        let kinds = parse_set(kinds, EventKindSet::ALL, |name| {
            EventKind::parse(name)
                .filter(|kind| *kind != EventKind::Ping)
                .ok_or(UnknownName::Kind(name.into()))
        })?;
        let exchanges = parse_set(exchanges, ExchangeSet::ALL, |name| {
            Exchange::parse(name).ok_or(UnknownName::Exchange(name.into()))
        })?;
        Ok(EventFilter { kinds, exchanges })
    }
}

/// A filter names something that does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnknownName {
    /// Not an event kind one can ask for.
    Kind(Box<str>),
    /// Not an exchange.
    Exchange(Box<str>),
}

impl core::fmt::Display for UnknownName {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            UnknownName::Kind(name) => write!(f, "{name:?} is no event; there are *, ").and_then(|()| {
                write_names(f, EventKind::ALL.into_iter().map(EventKind::name).filter(|n| *n != "ping"))
            }),
            UnknownName::Exchange(name) => write!(f, "{name:?} is no exchange; there are *, ")
                .and_then(|()| write_names(f, Exchange::ALL.into_iter().map(Exchange::name))),
        }
    }
}

impl core::error::Error for UnknownName {}

fn write_names<'a>(
    f: &mut core::fmt::Formatter<'_>,
    names: impl Iterator<Item = &'a str>,
) -> core::fmt::Result {
    f.write_str(&join(names))
}

fn join<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(",")
}

fn parse_set<T, S: FromIterator<T>>(
    text: &str,
    all: S,
    parse: impl Fn(&str) -> Result<T, UnknownName>,
) -> Result<S, UnknownName> {
    let text = text.to_ascii_lowercase();
    let names = || text.split(',').map(str::trim).filter(|name| !name.is_empty());
    if names().next().is_none() || names().any(|name| name == "*") {
        return Ok(all);
    }
    names().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_read_back() {
        for (kinds, exchanges) in [
            ("*", "*"),
            ("new_listing", "*"),
            ("new_listing,delisting", "binance,crypto.com"),
            ("*", "upbit"),
        ] {
            let filter = EventFilter::parse(kinds, exchanges).unwrap();
            assert_eq!((filter.kinds_text().as_str(), filter.exchanges_text().as_str()), (kinds, exchanges));
        }
        assert_eq!(EventFilter::parse("", " , ").unwrap(), EventFilter::default());
        assert_eq!(EventFilter::parse(" Delisting ", "UPBIT,*").unwrap().kinds_text(), "delisting");
    }

    #[test]
    fn unknown_names_are_named() {
        let why = |kinds, exchanges| EventFilter::parse(kinds, exchanges).unwrap_err().to_string();
        assert!(
            why("new_listing,lsiting", "*").starts_with("\"lsiting\" is no event; there are *, new_listing,")
        );
        assert!(why("ping", "*").starts_with("\"ping\" is no event"), "pings always come");
        assert!(why("*", "ftx").starts_with("\"ftx\" is no exchange; there are *, binance,"));
    }

    #[test]
    fn both_parts_must_agree() {
        let filter = EventFilter::parse("delisting", "binance").unwrap();
        assert!(filter.wants(EventKind::Delisting, Some(Exchange::Binance)));
        assert!(!filter.wants(EventKind::NewListing, Some(Exchange::Binance)));
        assert!(!filter.wants(EventKind::Delisting, Some(Exchange::Upbit)));
        assert!(filter.wants(EventKind::Delisting, None));
        assert!(EventFilter::default().wants(EventKind::VolumeSpike, Some(Exchange::Mexc)));
    }
}
