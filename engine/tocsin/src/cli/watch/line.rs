//! One line of text for a message of the feed.
//!
//! Contract: pure functions of the message and the instant it arrived; allocate the line. Whatever the
//! server sends, no control character reaches the terminal. Nothing fails: a message that is not
//! understood makes no line.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use serde::Deserialize;
use tocsin_core::time::WallUs;

/// The message on one line, byte for byte but for line ends, which JSON allows only between its
/// tokens.
#[must_use]
pub fn passed_through(message: &[u8]) -> String {
    printable(&String::from_utf8_lossy(message).replace(['\r', '\n'], " "))
}

/// `text` with every control character replaced, so that it cannot steer a terminal.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Message {
    Welcome(Welcome),
    Announcement(Announcement),
    TestAnnouncement(Announcement),
    Market(Market),
    Context(Context),
    SourceStatus {
        source: String,
        state: String,
    },
    Gap(Gap),
    KeyExpiring(KeyExpiring),
    Error {
        code: String,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Welcome {
    tier: String,
    allowed_cex: String,
    expires_in_secs: Option<u64>,
    #[serde(default)]
    ignored_cex: String,
    events: Option<String>,
    context: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Gap {
    from_seq: u64,
    to_seq: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyExpiring {
    expires_in_secs: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Announcement {
    title: String,
    ticker: String,
    publisher: String,
    listing_type: String,
    publish_timestamp_us: i64,
    detected_timestamp_us: i64,
    dispatch_timestamp_us: i64,
    #[serde(default)]
    action: String,
    #[serde(default)]
    replayed: bool,
    #[serde(default)]
    url: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Market {
    event: String,
    publisher: String,
    symbol: String,
    instrument: String,
    state: String,
    effective_at_us: Option<i64>,
    #[serde(rename = "volume24hUsd")]
    volume: Option<f64>,
    ratio: Option<f64>,
    score: Option<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Context {
    publisher: String,
    assets: Vec<Asset>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asset {
    ticker: String,
    markets: Vec<AssetMarket>,
    first_korean: Option<bool>,
    #[serde(rename = "volume24hUsd")]
    volume: Option<f64>,
}

#[derive(Deserialize)]
struct AssetMarket {
    exchange: String,
    status: String,
}

/// The line for people; `None` for heartbeats and what is not known. `at` is when it arrived.
#[must_use]
pub fn of_message(message: &[u8], at: WallUs, colour: bool) -> Option<String> {
    let line = match serde_json::from_slice(message).ok()? {
        Message::Announcement(a) => announcement(&a, at, false, colour),
        Message::TestAnnouncement(a) => announcement(&a, at, true, colour),
        Message::Market(m) => market(&m, colour),
        Message::Context(c) => context(&c, colour),
        Message::Welcome(w) => welcome(&w),
        Message::SourceStatus { source, state } => printable(&format!("source {source} is {state}")),
        Message::Gap(gap) => format!("announcements {} to {} are lost", gap.from_seq, gap.to_seq),
        Message::KeyExpiring(key) => format!("the key ends in {}", duration_of_secs(key.expires_in_secs)),
        Message::Error { code } => printable(&format!("the server says: {code}")),
        Message::Other => return None,
    };
    Some(format!("{} {line}", time_of_day(at)))
}

fn welcome(w: &Welcome) -> String {
    let exchanges = match w.allowed_cex.as_str() {
        "*" => "all exchanges",
        "" => "no exchange",
        names => names,
    };
    let mut line = printable(&format!("welcome: tier {}, {exchanges}", w.tier));
    match w.expires_in_secs {
        Some(secs) => _ = write!(line, ", key ends in {}", duration_of_secs(secs)),
        None => line.push_str(", key without end"),
    }
    if !w.ignored_cex.is_empty() {
        _ = write!(line, ", unknown: {}", printable(&w.ignored_cex));
    }
    let withheld = [("events", w.events.as_deref() == Some("")), ("context", w.context == Some(false))];
    for (name, _) in withheld.into_iter().filter(|(_, withheld)| *withheld) {
        _ = write!(line, ", without {name}");
    }
    line
}

/// `market okx listing_preview ABC-USDT spot preopen`, then what is known of it.
fn market(m: &Market, colour: bool) -> String {
    let style = if colour { AnsiColor::Magenta.on_default().bold() } else { Style::new() };
    let mut line = format!(
        "{style}market {publisher} {event} {symbol}{style:#} {instrument}",
        publisher = printable(&m.publisher),
        event = printable(&m.event),
        symbol = printable(&m.symbol),
        instrument = printable(&m.instrument),
    );
    // Some lists have no word for it.
    if !m.state.is_empty() {
        _ = write!(line, " {}", printable(&m.state));
    }
    if let Some(at) = m.effective_at_us {
        _ = write!(line, ", effective {}", date_and_time(WallUs(at)));
    }
    if let Some(ratio) = m.ratio {
        _ = write!(line, ", {ratio:.1} times the usual");
    }
    if let Some(usd) = m.volume {
        _ = write!(line, ", {} in 24 h", dollars(usd));
    }
    if let Some(score) = m.score {
        _ = write!(line, ", score {score}");
    }
    line
}

/// `context binance ABC: on gate (open), okx (ahead), $1.2M in 24 h`, an asset after the other.
fn context(c: &Context, colour: bool) -> String {
    let dim = if colour { Style::new().dimmed() } else { Style::new() };
    let mut line = format!("{dim}context {}", printable(&c.publisher));
    for (i, asset) in c.assets.iter().enumerate() {
        _ = write!(line, "{} {}: ", if i > 0 { ";" } else { "" }, printable(&asset.ticker));
        let mut places: Vec<(&str, &str)> = Vec::new();
        for market in &asset.markets {
            let place = (market.exchange.as_str(), market.status.as_str());
            if !places.contains(&place) {
                places.push(place);
            }
        }
        let places: Vec<String> = places.iter().map(|(name, status)| format!("{name} ({status})")).collect();
        match places.as_slice() {
            [] => line.push_str("on no exchange watched"),
            places => _ = write!(line, "on {}", printable(&places.join(", "))),
        }
        if asset.first_korean == Some(true) {
            line.push_str(", first in Korea");
        }
        if let Some(usd) = asset.volume {
            _ = write!(line, ", {} in 24 h", dollars(usd));
        }
    }
    _ = write!(line, "{dim:#}");
    line
}

/// `$1.2M`.
fn dollars(usd: f64) -> String {
    let scales = [(1e9, "B"), (1e6, "M"), (1e3, "k")];
    let (unit, name) = scales.into_iter().find(|(unit, _)| usd >= *unit).unwrap_or((1.0, ""));
    format!("${:.1}{name}", usd / unit)
}

/// `2026-09-01T12:30:45.123456Z`.
fn date_and_time(at: WallUs) -> String {
    let mut quoted = Vec::new();
    tocsin_core::wire::json::utc(&mut quoted, at);
    String::from_utf8_lossy(&quoted).trim_matches('"').to_owned()
}

fn announcement(a: &Announcement, at: WallUs, test: bool, colour: bool) -> String {
    let style = if colour { style_of(&a.listing_type) } else { Style::new() };
    let dim = if colour { Style::new().dimmed() } else { Style::new() };
    let mut marks = String::new();
    for (mark, set) in [("TEST ", test), ("REPLAYED ", a.replayed), ("UPDATED ", a.action == "updated")] {
        if set {
            marks.push_str(mark);
        }
    }
    let ticker = if a.ticker.is_empty() { "-" } else { &a.ticker };
    let stages = format!(
        "detect {} dispatch {} here {}",
        duration_of_us(a.detected_timestamp_us.saturating_sub(a.publish_timestamp_us)),
        duration_of_us(a.dispatch_timestamp_us.saturating_sub(a.detected_timestamp_us)),
        duration_of_us(at.0.saturating_sub(a.dispatch_timestamp_us)),
    );
    format!(
        "{style}{marks}{publisher} {kind} {ticker}{style:#} {title} {dim}[{stages}]{gap}{url}{dim:#}",
        publisher = printable(&a.publisher),
        kind = printable(&a.listing_type),
        ticker = printable(ticker),
        title = printable(&a.title),
        gap = if a.url.is_empty() { "" } else { " " },
        url = printable(&a.url),
    )
}

fn style_of(listing_type: &str) -> Style {
    let colour = match listing_type {
        "spot_listing" => AnsiColor::Green,
        "futures_listing" => AnsiColor::Cyan,
        "spot_delisting" | "futures_delisting" => AnsiColor::Red,
        _ => return Style::new(),
    };
    colour.on_default().bold()
}

/// `12:30:45.123456Z`.
fn time_of_day(at: WallUs) -> String {
    let us = at.0.rem_euclid(86_400_000_000);
    let secs = us / 1_000_000;
    format!("{:02}:{:02}:{:02}.{:06}Z", secs / 3_600, secs / 60 % 60, secs % 60, us % 1_000_000)
}

/// Three figures and a unit; negative where one clock is ahead of the other.
fn duration_of_us(us: i64) -> String {
    let sign = if us < 0 { "-" } else { "" };
    let us = us.unsigned_abs();
    match us {
        0..1_000 => format!("{sign}{us}us"),
        1_000..1_000_000 => format!("{sign}{}.{:02}ms", us / 1_000, us % 1_000 / 10),
        1_000_000..120_000_000 => format!("{sign}{}.{:02}s", us / 1_000_000, us % 1_000_000 / 10_000),
        _ => format!("{sign}{}", duration_of_secs(us / 1_000_000)),
    }
}

fn duration_of_secs(secs: u64) -> String {
    match secs {
        0..120 => format!("{secs}s"),
        120..7_200 => format!("{}min", secs / 60),
        7_200..172_800 => format!("{}h", secs / 3_600),
        _ => format!("{}d", secs / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: WallUs = WallUs(1_710_345_000_006_300);

    fn announced(more: &str) -> String {
        format!(
            r#"{{"type":"announcement","title":"Binance Will List Token (TOKEN)","ticker":"TOKEN","publisher":"binance","listingType":"spot_listing","publishTimestampUs":1710345000000000,"detectedTimestampUs":1710345000005000,"dispatchTimestampUs":1710345000006000{more}}}"#
        )
    }

    #[test]
    fn an_announcement_tells_its_latency_by_stage() {
        let line = of_message(announced("").as_bytes(), AT, false).unwrap();
        assert_eq!(
            line,
            "15:50:00.006300Z binance spot_listing TOKEN Binance Will List Token (TOKEN) \
             [detect 5.00ms dispatch 1.00ms here 300us]"
        );
        let full = announced(r#","action":"updated","replayed":true,"url":"https://x.example/1","seq":3"#);
        let line = of_message(full.as_bytes(), AT, false).unwrap();
        assert!(line.contains("Z REPLAYED UPDATED binance "), "{line}");
        assert!(line.ends_with("] https://x.example/1"), "{line}");
        let coloured = of_message(announced("").as_bytes(), AT, true).unwrap();
        assert!(coloured.contains("\u{1b}[") && coloured.ends_with("\u{1b}[0m"), "{coloured:?}");
    }

    #[test]
    fn other_messages() {
        let rows = [
            (
                r#"{"type":"welcome","tier":"premium","maxConnections":5,"allowedCex":"*","expiresInSecs":null}"#,
                Some("welcome: tier premium, all exchanges, key without end"),
            ),
            (
                r#"{"type":"welcome","tier":"basic","maxConnections":1,"allowedCex":"","expiresInSecs":86400,"ignoredCex":"x"}"#,
                Some("welcome: tier basic, no exchange, key ends in 24h, unknown: x"),
            ),
            (
                r#"{"type":"welcome","tier":"basic","allowedCex":"*","expiresInSecs":null,"events":"","context":false}"#,
                Some("welcome: tier basic, all exchanges, key without end, without events, without context"),
            ),
            (
                r#"{"type":"welcome","tier":"basic","allowedCex":"*","expiresInSecs":null,"events":"market","context":true}"#,
                Some("welcome: tier basic, all exchanges, key without end"),
            ),
            (
                r#"{"type":"market","event":"listing_preview","publisher":"okx","symbol":"ABC-USDT","instrument":"spot","state":"preopen","effectiveAtUs":1710345000000000,"volume24hUsd":null,"ratio":null,"score":81}"#,
                Some(
                    "market okx listing_preview ABC-USDT spot preopen, effective 2024-03-13T15:50:00.000000Z, score 81",
                ),
            ),
            (
                r#"{"type":"market","event":"volume_spike","publisher":"gate","symbol":"ABC_USDT","instrument":"spot","state":"","effectiveAtUs":null,"volume24hUsd":1234567.5,"ratio":7.13,"score":null}"#,
                Some("market gate volume_spike ABC_USDT spot, 7.1 times the usual, $1.2M in 24 h"),
            ),
            (
                r#"{"type":"context","publisher":"upbit","assets":[{"ticker":"ABC","firstKorean":true,"volume24hUsd":950,"markets":[{"exchange":"gate","status":"open"},{"exchange":"gate","status":"open"},{"exchange":"okx","status":"ahead"}]},{"ticker":"DEF","firstKorean":null,"volume24hUsd":null,"markets":[]}]}"#,
                Some(
                    "context upbit ABC: on gate (open), okx (ahead), first in Korea, $950.0 in 24 h; DEF: on no exchange watched",
                ),
            ),
            (r#"{"type":"heartbeat","timestampNs":1,"timeUtc":""}"#, None),
            (r#"{"type":"gap","fromSeq":4,"toSeq":9}"#, Some("announcements 4 to 9 are lost")),
            (
                r#"{"type":"error","code":"test_rate_limited","retryAfterSecs":4}"#,
                Some("the server says: test_rate_limited"),
            ),
            (
                r#"{"type":"source_status","source":"binance.cms","state":"down"}"#,
                Some("source binance.cms is down"),
            ),
            (r#"{"type":"new one"}"#, None),
            ("not JSON", None),
        ];
        for (message, line) in rows {
            let expected = line.map(|l| format!("15:50:00.006300Z {l}"));
            assert_eq!(of_message(message.as_bytes(), AT, false), expected, "{message}");
        }
    }

    #[test]
    fn no_control_character_reaches_the_terminal() {
        let evil = announced("").replace("Will List", r"\u001b[2J\u0007\n\u009b");
        let line = of_message(evil.as_bytes(), AT, false).unwrap();
        assert!(!line.chars().any(char::is_control), "{line:?}");
        assert_eq!(passed_through(b"{\n\"a\":\r\n\x1b1}"), "{ \"a\":  \u{fffd}1}");
        let status = br#"{"type":"source_status","source":"\u001b[2J","state":"x"}"#;
        assert!(!of_message(status, AT, false).unwrap().contains('\u{1b}'));
    }

    #[test]
    fn durations_keep_three_figures() {
        let rows = [
            (0, "0us"),
            (-12, "-12us"),
            (999, "999us"),
            (1_239, "1.23ms"),
            (-1_500_000, "-1.50s"),
            (119_999_999, "119.99s"),
            (600_000_000, "10min"),
            (i64::MIN, "-106751991d"),
        ];
        for (us, text) in rows {
            assert_eq!(duration_of_us(us), text);
        }
    }
}
