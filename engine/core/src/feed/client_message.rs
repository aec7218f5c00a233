//! What a subscriber may say: `{"type":"test"}` and `{"type":"subscribe",...}`.
//!
//! Contract: [`parse`] judges one message of at most [`limits::CLIENT_FRAME_BYTES`]. It allocates
//! (a parse tape, a ticker list), which the limit of three messages a minute bounds. It never fails:
//! what is not understood is [`ClientMessage::Unsupported`].

use simd_json::prelude::*;
use simd_json::tape::Value;

use super::subscription::Filter;
use crate::limits;
use crate::model::{Exchange, ExchangeSet, ListingType, ListingTypeSet, Ticker};
use crate::wire::extra::Extras;

/// A client message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientMessage {
    /// "The only supported client message is the test request".
    Test,
    /// FEED.md, "Added for users", 3.
    Subscribe(FilterChange),
    /// Anything else, JSON or not.
    Unsupported,
}

/// New filters; `None` leaves one as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterChange {
    /// `cex`, not yet bounded by the key.
    pub exchanges: Option<ExchangeSet>,
    /// `types`.
    pub types: Option<ListingTypeSet>,
    /// `tickers`; `Some(None)` takes the filter away.
    pub tickers: Option<Option<Box<[Ticker]>>>,
    /// `events`: whether those of markets.
    pub market: Option<bool>,
    /// `context`.
    pub context: Option<bool>,
}

impl FilterChange {
    /// What was asked for of messages beside announcements, being `extras` before.
    #[must_use]
    pub fn extras(&self, extras: Extras) -> Extras {
        Extras {
            market: self.market.unwrap_or(extras.market),
            context: self.context.unwrap_or(extras.context),
        }
    }

    /// Changes `filter`. Exchanges stay within those the key allows.
    pub fn apply(self, filter: &mut Filter, allowed: ExchangeSet) {
        if let Some(exchanges) = self.exchanges {
            filter.exchanges = allowed.intersection(exchanges);
        }
        if let Some(types) = self.types {
            filter.types = types;
        }
        if let Some(tickers) = self.tickers {
            filter.tickers = tickers;
        }
    }
}

/// Judges one message, text or binary.
#[must_use]
pub fn parse(message: &[u8]) -> ClientMessage {
    let mut scratch = [0; limits::CLIENT_FRAME_BYTES];
    let Some(json) = scratch.get_mut(..message.len()) else { return ClientMessage::Unsupported };
    json.copy_from_slice(message);
    let Ok(tape) = simd_json::to_tape(json) else { return ClientMessage::Unsupported };
    let root = tape.as_value();
    let kind = root.get("type");
    match kind.as_ref().and_then(|kind| kind.as_str()) {
        Some("test") => ClientMessage::Test,
        Some("subscribe") => match filter_change(&root) {
            Some(change) => ClientMessage::Subscribe(change),
            None => ClientMessage::Unsupported,
        },
        _ => ClientMessage::Unsupported,
    }
}

/// `None` when a member is neither text nor a list of texts (`context`: neither true nor false), a type or
/// kind of event does not exist, or a ticker list is too long or holds what can be no ticker.
fn filter_change(root: &Value<'_, '_>) -> Option<FilterChange> {
    let mut change = FilterChange::default();
    if let Some(cex) = root.get("cex") {
        let mut set = ExchangeSet::EMPTY;
        let any = each_name(&cex, &mut |name| {
            // As in the query: unknown names match nothing.
            set = Exchange::parse(name).map_or(set, |exchange| set.with(exchange));
            Some(())
        })?;
        change.exchanges = Some(if any { set } else { ExchangeSet::ALL });
    }
    if let Some(types) = root.get("types") {
        let mut set = ListingTypeSet::EMPTY;
        let any = each_name(&types, &mut |name| {
            // As in the query: a type that does not exist is a mistake.
            set = set.with(ListingType::parse(name)?);
            Some(())
        })?;
        change.types = Some(if any { set } else { ListingTypeSet::ALL });
    }
    if let Some(tickers) = root.get("tickers") {
        let mut list = Vec::new();
        let any = each_name(&tickers, &mut |name| {
            let ticker = Ticker::new(name)?;
            if !list.contains(&ticker) {
                list.push(ticker);
            }
            (list.len() <= limits::FILTER_TICKERS).then_some(())
        })?;
        change.tickers = Some(any.then(|| list.into_boxed_slice()));
    }
    if let Some(events) = root.get("events") {
        change.market = Some(market_events(&events)?);
    }
    if let Some(context) = root.get("context") {
        change.context = Some(context.as_bool()?);
    }
    Some(change)
}

/// Whether a text or list of texts names events of markets; `null` names none.
fn market_events(value: &Value<'_, '_>) -> Option<bool> {
    if let Some(names) = value.as_str() {
        return Extras::parse_events(names);
    }
    if let Some(list) = value.as_array() {
        return list.iter().try_fold(false, |any, name| Some(any | Extras::parse_events(name.as_str()?)?));
    }
    value.is_null().then_some(false)
}

/// Calls `take` for each name of a comma-separated text or of a list of texts, trimmed, empty ones
/// left out. Returns whether there is a filter at all: `*`, `null` and an empty list are none.
fn each_name(value: &Value<'_, '_>, take: &mut impl FnMut(&str) -> Option<()>) -> Option<bool> {
    let mut any = false;
    let mut all = false;
    let mut text = |text: &str| -> Option<()> {
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            if name == "*" {
                all = true;
            } else {
                any = true;
                take(name)?;
            }
        }
        Some(())
    };
    if let Some(names) = value.as_str() {
        text(names)?;
    } else if let Some(list) = value.as_array() {
        for name in list.iter() {
            text(name.as_str()?)?;
        }
    } else if !value.is_null() {
        return None;
    }
    Some(any && !all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn subscribe(json: &str) -> FilterChange {
        match parse(json.as_bytes()) {
            ClientMessage::Subscribe(change) => change,
            other => panic!("{json}: {other:?}"),
        }
    }

    #[test]
    fn test_requests_are_known_however_they_are_written() {
        for json in [r#"{"type":"test"}"#, " { \"type\" :\n\"test\" } ", r#"{"n":[{}],"type":"te\u0073t"}"#] {
            assert_eq!(parse(json.as_bytes()), ClientMessage::Test, "{json}");
        }
    }

    #[test]
    fn everything_else_is_unsupported() {
        let deep = "[".repeat(1_024);
        let rows = [
            "",
            "{",
            "null",
            "[]",
            "test",
            "\"test\"",
            r#"{"type":"tests"}"#,
            r#"{"type":1}"#,
            r#"{"typ":"test"}"#,
            r#"{"type":"subscribe","cex":1}"#,
            r#"{"type":"subscribe","types":[1]}"#,
            r#"{"type":"subscribe","types":"spot_listing,spot"}"#,
            r#"{"type":"subscribe","tickers":"A B"}"#,
            r#"{"type":"subscribe","cex":{"a":"b"}}"#,
            r#"{"type":"subscribe","events":"*"}"#,
            r#"{"type":"subscribe","events":["market","news"]}"#,
            r#"{"type":"subscribe","events":[true]}"#,
            r#"{"type":"subscribe","events":true}"#,
            r#"{"type":"subscribe","context":"1"}"#,
            r#"{"type":"subscribe","context":null}"#,
            "\u{0}",
            &deep,
        ];
        for json in rows {
            assert_eq!(parse(json.as_bytes()), ClientMessage::Unsupported, "{json}");
        }
        assert_eq!(parse(&[0xFF, 0xFE]), ClientMessage::Unsupported);
        assert_eq!(parse(&[b' '; limits::CLIENT_FRAME_BYTES + 1]), ClientMessage::Unsupported);
        let many: Vec<String> = (0..=limits::FILTER_TICKERS).map(|n| format!("T{n}")).collect();
        let json = format!(r#"{{"type":"subscribe","tickers":"{}"}}"#, many.join(","));
        assert_eq!(parse(json.as_bytes()), ClientMessage::Unsupported);
    }

    #[test]
    fn filters_change_only_where_named_and_within_the_key() {
        let allowed = ExchangeSet::EMPTY.with(Exchange::Binance).with(Exchange::Upbit);
        let start = Filter { exchanges: allowed, types: ListingTypeSet::ALL, tickers: None };
        let changed = |json: &str| {
            let mut filter = start.clone();
            subscribe(json).apply(&mut filter, allowed);
            filter
        };
        assert_eq!(changed(r#"{"type":"subscribe"}"#), start);
        let one = changed(r#"{"type":"subscribe","cex":" UPBIT ,okx,nope"}"#);
        assert_eq!(one.exchanges, ExchangeSet::EMPTY.with(Exchange::Upbit));
        assert_eq!(one.types, ListingTypeSet::ALL);
        assert_eq!(changed(r#"{"type":"subscribe","cex":"nope"}"#).exchanges, ExchangeSet::EMPTY);
        assert_eq!(changed(r#"{"type":"subscribe","cex":["*","okx"]}"#), start);
        for all in [r#""*""#, r#""""#, "null", "[]", r#"["*",""]"#] {
            let json = format!(r#"{{"type":"subscribe","cex":{all},"types":{all},"tickers":{all}}}"#);
            assert_eq!(changed(&json), start, "{all}");
        }
        let two = changed(r#"{"type":"subscribe","types":["spot_listing"],"tickers":["abc","ABC","def"]}"#);
        assert_eq!(two.types, ListingTypeSet::EMPTY.with(ListingType::SpotListing));
        let names: Vec<&str> = two.tickers.as_deref().unwrap().iter().map(Ticker::as_str).collect();
        assert_eq!(names, ["ABC", "DEF"]);
    }

    #[test]
    fn messages_beside_announcements_change_only_where_named() {
        let [none, both] = [false, true].map(|on| Extras { market: on, context: on });
        let rows = [
            (r#"{"type":"subscribe"}"#, none, both),
            (r#"{"type":"subscribe","events":"market"}"#, Extras { market: true, ..none }, both),
            (r#"{"type":"subscribe","events":["Market",""]}"#, Extras { market: true, ..none }, both),
            (
                r#"{"type":"subscribe","events":"","context":true}"#,
                Extras { context: true, ..none },
                Extras { market: false, ..both },
            ),
            (r#"{"type":"subscribe","events":[],"context":false}"#, none, none),
            (r#"{"type":"subscribe","events":null}"#, none, Extras { market: false, ..both }),
        ];
        for (json, from_none, from_both) in rows {
            let change = subscribe(json);
            assert_eq!((change.extras(none), change.extras(both)), (from_none, from_both), "{json}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..1_100)) {
            let _ = parse(&bytes);
        }
    }
}
