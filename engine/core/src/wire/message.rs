//! Everything but announcements that a subscriber gets, as JSON.
//!
//! Contract: each writer appends one complete message to the caller's buffer, fields in the order
//! of the specification's examples, additions after them. Nothing is allocated but what the buffer
//! needs to grow. Nothing fails.

use core::time::Duration;

use super::extra::Extras;
use super::json;
use super::template;
use crate::model::{Exchange, ExchangeSet, FeedPosition, ListingType, ListingTypeSet, Ticker};
use crate::source::SourceStatus;
use crate::time::WallUs;

/// What a welcome says.
#[derive(Clone, Copy, Debug)]
pub struct Welcome<'a> {
    /// `basic`, `premium` or `enterprise`.
    pub tier: &'a str,
    /// "Maximum simultaneous connections allowed with your key".
    pub max_connections: u32,
    /// The effective filter: `*`, names, or empty.
    pub allowed_cex: &'a str,
    /// "Seconds until your key expires, or null if no expiration".
    pub expires_in_secs: Option<u64>,
    /// Names of the request that are no exchange, comma separated; not written when empty.
    pub ignored_cex: &'a str,
    /// What of [`super::extra`] it gets, for those who asked.
    pub extras: Granted,
}

/// What is told of messages beside announcements: for each kind whether they come, or nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// `events`: `market`, or empty.
    pub market: Option<bool>,
    /// `context`.
    pub context: Option<bool>,
}

impl Granted {
    /// What `granted` says of all that was asked for or is granted.
    #[must_use]
    pub fn of(asked: Extras, granted: Extras) -> Granted {
        let told = |asked: bool, granted: bool| (asked || granted).then_some(granted);
        Granted { market: told(asked.market, granted.market), context: told(asked.context, granted.context) }
    }

    fn write(self, out: &mut Vec<u8>) {
        if let Some(market) = self.market {
            out.extend_from_slice(if market { b",\"events\":\"market\"" } else { b",\"events\":\"\"" });
        }
        if let Some(context) = self.context {
            out.extend_from_slice(if context { b",\"context\":true" } else { b",\"context\":false" });
        }
    }
}

/// Specification, "Welcome": "Sent once, immediately after a successful connection."
pub fn welcome(out: &mut Vec<u8>, w: &Welcome<'_>) {
    out.extend_from_slice(b"{\"type\":\"welcome\",\"tier\":");
    json::string(out, w.tier);
    out.extend_from_slice(b",\"maxConnections\":");
    json::unsigned(out, u64::from(w.max_connections));
    out.extend_from_slice(b",\"allowedCex\":");
    json::string(out, w.allowed_cex);
    out.extend_from_slice(b",\"expiresInSecs\":");
    match w.expires_in_secs {
        Some(secs) => json::unsigned(out, secs),
        None => out.extend_from_slice(b"null"),
    }
    if !w.ignored_cex.is_empty() {
        out.extend_from_slice(b",\"ignoredCex\":");
        json::string(out, w.ignored_cex);
    }
    w.extras.write(out);
    out.push(b'}');
}

/// Specification, "Heartbeat": "Sent every 30 seconds to indicate the server is alive."
///
/// `last` is the newest announcement the subscriber could have got (`seq` 0 before the first of the
/// epoch). `sources` goes to those with `?sources=1`, `None` to the others.
pub fn heartbeat<'a>(
    out: &mut Vec<u8>,
    now: WallUs,
    last: FeedPosition,
    sources: Option<impl Iterator<Item = &'a SourceStatus>>,
) {
    out.extend_from_slice(b"{\"type\":\"heartbeat\",\"timestampNs\":");
    json::signed(out, now.0.saturating_mul(1_000));
    out.extend_from_slice(b",\"timeUtc\":");
    json::utc(out, now);
    out.extend_from_slice(b",\"timestampUs\":");
    json::signed(out, now.0);
    out.extend_from_slice(b",\"epoch\":");
    json::unsigned(out, last.epoch);
    out.extend_from_slice(b",\"lastSeq\":");
    json::unsigned(out, last.seq);
    if let Some(sources) = sources {
        out.extend_from_slice(b",\"sources\":[");
        for (i, status) in sources.enumerate() {
            out.extend_from_slice(if i > 0 { b",{\"name\":" } else { b"{\"name\":" });
            json::string(out, status.source);
            out.extend_from_slice(b",\"state\":");
            json::string(out, status.state.name());
            out.extend_from_slice(b",\"lastPollUs\":");
            json::instant_or_null(out, status.last_poll);
            out.extend_from_slice(b",\"lastItemUs\":");
            json::instant_or_null(out, status.last_item);
            out.push(b'}');
        }
        out.push(b']');
    }
    out.push(b'}');
}

/// FEED.md, "Added for users", 4: a source changed state.
pub fn source_status(out: &mut Vec<u8>, status: &SourceStatus) {
    out.extend_from_slice(b"{\"type\":\"source_status\",\"source\":");
    json::string(out, status.source);
    out.extend_from_slice(b",\"state\":");
    json::string(out, status.state.name());
    out.push(b'}');
}

/// Specification, "Test Announcement": "identical to a real announcement except for the type field";
/// "publishTimestampUs is 1 second before dispatch, and detectedTimestampUs is 200µs before
/// dispatch". `random` chooses the template and its asset among those of `allowed`.
pub fn test_announcement(out: &mut Vec<u8>, allowed: ExchangeSet, dispatch: WallUs, random: u64) {
    let chosen = template::choose(allowed, random);
    out.extend_from_slice(b"{\"type\":\"test_announcement\",\"title\":");
    chosen.write_title(out);
    out.extend_from_slice(b",\"ticker\":");
    json::string(out, chosen.ticker);
    out.extend_from_slice(b",\"publisher\":");
    json::string(out, chosen.exchange.name());
    out.extend_from_slice(b",\"listingType\":");
    json::string(out, chosen.listing_type.name());
    out.extend_from_slice(b",\"publishTimestampUs\":");
    json::signed(out, dispatch.0.saturating_sub(1_000_000));
    out.extend_from_slice(b",\"detectedTimestampUs\":");
    json::signed(out, dispatch.0.saturating_sub(200));
    out.extend_from_slice(b",\"dispatchTimestampUs\":");
    out.extend_from_slice(&json::sixteen_digits(dispatch));
    out.push(b'}');
}

/// Specification, "Test rate limit". `left` is rounded up, so that asking again then succeeds.
pub fn test_rate_limited(out: &mut Vec<u8>, left: Duration) {
    out.extend_from_slice(b"{\"type\":\"error\",\"code\":\"test_rate_limited\",\"retryAfterSecs\":");
    json::unsigned(out, left.as_secs() + u64::from(left.subsec_nanos() > 0));
    out.push(b'}');
}

/// The answer to a client message that is none of the supported ones.
pub fn unsupported_message(out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"error\",\"code\":\"unsupported_message\"}");
}

/// FEED.md, "Added for users", 2: announcements from `from` to `to`, both included, are no longer
/// in history. Both ends may lie in different epochs; `epoch` is that of `fromSeq`.
pub fn gap(out: &mut Vec<u8>, from: FeedPosition, to: FeedPosition) {
    out.extend_from_slice(b"{\"type\":\"gap\",\"fromSeq\":");
    json::unsigned(out, from.seq);
    out.extend_from_slice(b",\"toSeq\":");
    json::unsigned(out, to.seq);
    out.extend_from_slice(b",\"epoch\":");
    json::unsigned(out, from.epoch);
    out.extend_from_slice(b",\"toEpoch\":");
    json::unsigned(out, to.epoch);
    out.push(b'}');
}

/// FEED.md, "Added for users", 6.
pub fn key_expiring(out: &mut Vec<u8>, expires_in_secs: u64) {
    out.extend_from_slice(b"{\"type\":\"key_expiring\",\"expiresInSecs\":");
    json::unsigned(out, expires_in_secs);
    out.push(b'}');
}

/// FEED.md, "Added for users", 3: the filter now in force. Lists are comma separated as in the
/// query, `*` when there is no such filter.
pub fn subscribed(
    out: &mut Vec<u8>,
    exchanges: ExchangeSet,
    types: ListingTypeSet,
    tickers: Option<&[Ticker]>,
    extras: Granted,
) {
    out.extend_from_slice(b"{\"type\":\"subscribed\",\"allowedCex\":");
    if exchanges.is_all() {
        out.extend_from_slice(b"\"*\"");
    } else {
        joined(out, exchanges.iter().map(Exchange::name));
    }
    out.extend_from_slice(b",\"types\":");
    if types == ListingTypeSet::ALL {
        out.extend_from_slice(b"\"*\"");
    } else {
        let all = ListingType::ALL.into_iter();
        joined(out, all.filter(|t| types.contains(*t)).map(ListingType::name));
    }
    out.extend_from_slice(b",\"tickers\":");
    match tickers {
        None => out.extend_from_slice(b"\"*\""),
        Some(tickers) => joined(out, tickers.iter().map(Ticker::as_str)),
    }
    extras.write(out);
    out.push(b'}');
}

/// Appends the names as one JSON string, comma separated.
fn joined<'a>(out: &mut Vec<u8>, names: impl Iterator<Item = &'a str>) {
    out.push(b'"');
    for (i, name) in names.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        json::string_body(out, name);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::SourceState;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    const NO_SOURCES: Option<core::slice::Iter<'static, SourceStatus>> = None;

    #[test]
    fn welcome_is_the_specification_s_example() {
        let mut w = Welcome {
            tier: "premium",
            max_connections: 5,
            allowed_cex: "*",
            expires_in_secs: Some(2_592_000),
            ignored_cex: "",
            extras: Granted::default(),
        };
        assert_eq!(
            written(|out| welcome(out, &w)),
            r#"{"type":"welcome","tier":"premium","maxConnections":5,"allowedCex":"*","expiresInSecs":2592000}"#
        );
        w.expires_in_secs = None;
        w.ignored_cex = "no\"pe,zilch";
        w.allowed_cex = "";
        assert_eq!(
            written(|out| welcome(out, &w)),
            concat!(
                r#"{"type":"welcome","tier":"premium","maxConnections":5,"allowedCex":"","#,
                r#""expiresInSecs":null,"ignoredCex":"no\"pe,zilch"}"#
            )
        );
        w.ignored_cex = "";
        let both = Extras { market: true, context: true };
        let rows = [
            (both, both, r#","events":"market","context":true}"#),
            (both, Extras::default(), r#","events":"","context":false}"#),
            (Extras { market: true, context: false }, Extras::default(), r#"null,"events":""}"#),
            (Extras::default(), Extras { market: false, context: true }, r#"null,"context":true}"#),
            (Extras::default(), Extras::default(), "null}"),
        ];
        for (asked, granted, end) in rows {
            w.extras = Granted::of(asked, granted);
            let text = written(|out| welcome(out, &w));
            assert!(text.ends_with(end), "{text}");
        }
    }

    #[test]
    fn heartbeat_begins_as_the_specification_s_example() {
        let now = WallUs(1_710_325_830_000_000);
        let last = FeedPosition { epoch: 2, seq: 9 };
        let plain = written(|out| heartbeat(out, now, last, NO_SOURCES));
        // The example's two fields name different instants; ours are those of its `timeUtc`.
        assert_eq!(
            plain,
            concat!(
                r#"{"type":"heartbeat","timestampNs":1710325830000000000,"#,
                r#""timeUtc":"2024-03-13T10:30:30.000000Z","#,
                r#""timestampUs":1710325830000000,"epoch":2,"lastSeq":9}"#
            )
        );
        let status = |state, last_poll| SourceStatus {
            source: "binance.cms",
            exchange: Exchange::Binance,
            state,
            last_poll,
            last_item: None,
        };
        let two = [status(SourceState::Live, Some(now)), status(SourceState::Blocked, None)];
        let text = written(|out| heartbeat(out, now, last, Some(two.iter())));
        assert!(text.ends_with(concat!(
            r#","lastSeq":9,"sources":["#,
            r#"{"name":"binance.cms","state":"live","lastPollUs":1710325830000000,"lastItemUs":null},"#,
            r#"{"name":"binance.cms","state":"blocked","lastPollUs":null,"lastItemUs":null}]}"#
        )));
        assert_eq!(
            written(|out| source_status(out, &two[1])),
            r#"{"type":"source_status","source":"binance.cms","state":"blocked"}"#
        );
    }

    #[test]
    fn errors_and_additions() {
        let rows = [
            (
                written(|out| test_rate_limited(out, Duration::from_secs(42))),
                r#"{"type":"error","code":"test_rate_limited","retryAfterSecs":42}"#,
            ),
            (
                written(|out| test_rate_limited(out, Duration::from_millis(41_001))),
                r#"{"type":"error","code":"test_rate_limited","retryAfterSecs":42}"#,
            ),
            (written(unsupported_message), r#"{"type":"error","code":"unsupported_message"}"#),
            (
                written(|out| {
                    gap(out, FeedPosition { epoch: 3, seq: 5 }, FeedPosition { epoch: 3, seq: 9 });
                }),
                r#"{"type":"gap","fromSeq":5,"toSeq":9,"epoch":3,"toEpoch":3}"#,
            ),
            (written(|out| key_expiring(out, 3_600)), r#"{"type":"key_expiring","expiresInSecs":3600}"#),
            (
                written(|out| {
                    subscribed(out, ExchangeSet::ALL, ListingTypeSet::ALL, None, Granted::default());
                }),
                r#"{"type":"subscribed","allowedCex":"*","types":"*","tickers":"*"}"#,
            ),
            (
                written(|out| {
                    let types = ListingTypeSet::EMPTY.with(ListingType::NotListing);
                    let both = ExchangeSet::EMPTY.with(Exchange::Upbit).with(Exchange::Binance);
                    let extras = Granted { market: Some(true), context: Some(false) };
                    subscribed(out, both, types, Some(&[Ticker::new("A\"").unwrap()]), extras);
                }),
                concat!(
                    r#"{"type":"subscribed","allowedCex":"binance,upbit","types":"not_listing","tickers":"A\"","#,
                    r#""events":"market","context":false}"#
                ),
            ),
        ];
        for (text, wanted) in rows {
            assert_eq!(text, wanted);
        }
    }

    #[test]
    fn test_announcement_has_the_specification_s_times_and_fields() {
        let dispatch = WallUs(1_743_850_002_000_000);
        for random in 0..200 {
            let text = written(|out| test_announcement(out, ExchangeSet::ALL, dispatch, random));
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(value["publishTimestampUs"], 1_743_850_001_000_000_i64);
            assert_eq!(value["detectedTimestampUs"], 1_743_850_001_999_800_i64);
            assert!(text.ends_with(",\"dispatchTimestampUs\":1743850002000000}"), "{text}");
            assert_eq!(value["type"], "test_announcement");
            assert_eq!(value.as_object().unwrap().len(), 8);
            let title = value["title"].as_str().unwrap();
            assert!(title.contains(value["ticker"].as_str().unwrap()), "{text}");
            assert!(!title.contains('{'), "{text}");
        }
    }
}
