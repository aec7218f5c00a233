//! Binance, the signed announcement stream (official).
//!
//! The request names the topic and is signed: HMAC-SHA256 of the query in hex. A message carries the
//! announcement as a string that holds JSON, or as JSON. It has no number, code or address, so publish time and
//! title are its identity: an edited title is another notice. The server wants a ping within a minute, takes
//! five client frames a second, everything counted, and ends a session after 24 hours.

use core::time::Duration;

use ring::hmac;
use zeroize::Zeroizing;

use super::allowance::Allowance;
use super::{Ask, Confirmation, Incoming, Keepalive, ParameterOrder, StreamSpec, Upgrade};
use crate::model::Exchange;
use crate::source::backoff::Failure;
use crate::source::exchange::binance::hint;
use crate::source::json::{Json, Scratch};
use crate::source::{Evidence, Item, Link, ParseError, Parsed, ShortText, when};

/// What is subscribed to: all catalogs, in English.
const TOPIC: &str = "com_announcement_en";
/// How far the clocks may differ, in milliseconds; 60,000 at most.
const RECEIVE_WINDOW_MS: &str = "30000";

/// `binance.stream`.
pub static STREAM: StreamSpec = StreamSpec {
    name: "binance.stream",
    config_name: "binance",
    exchange: Exchange::Binance,
    evidence: Evidence::Official,
    base_url: "wss://api.binance.com",
    path: "/sapi/wss",
    needs_credentials: true,
    clock_within: Some(Duration::from_secs(30)),
    channels: &[TOPIC],
    upgrade,
    greet: |_, _, _| false,
    confirmed_by: Confirmation::Upgrade,
    keepalive: Keepalive { every: Duration::from_secs(30), text: None, patience: Duration::from_secs(75) },
    // Five are allowed; the network may bring what left in two seconds within one.
    frames: &[Allowance { count: 2, per: Duration::from_secs(1) }],
    connects: &[
        Allowance { count: 2, per: Duration::from_secs(1) },
        Allowance { count: 20, per: Duration::from_secs(300) },
    ],
    session_life: Some(Duration::from_secs(24 * 3_600)),
    replay: Duration::ZERO,
    read,
    refused,
};

fn upgrade(ask: &Ask<'_>) -> Upgrade {
    let mut random = String::with_capacity(32);
    super::push_hex(&mut random, &ask.fresh.random);
    let timestamp = (ask.fresh.wall.0 / 1_000).to_string();
    let pairs = match ask.order {
        ParameterOrder::Alphabetical => [
            ("random", random.as_str()),
            ("recvWindow", RECEIVE_WINDOW_MS),
            ("timestamp", &timestamp),
            ("topic", TOPIC),
        ],
        ParameterOrder::TopicSecond => [
            ("random", random.as_str()),
            ("topic", TOPIC),
            ("recvWindow", RECEIVE_WINDOW_MS),
            ("timestamp", &timestamp),
        ],
    };
    let query = pairs.map(|(name, value)| [name, "=", value].concat()).join("&");
    let secret = ask.credentials.map_or(&[][..], |c| c.secret());
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), query.as_bytes());
    let mut target = Zeroizing::new(String::with_capacity(256));
    for part in [STREAM.path, "?", &query, "&signature="] {
        target.push_str(part);
    }
    super::push_hex(&mut target, signature.as_ref());
    let key = ask.credentials.map(|c| ("X-MBX-APIKEY", Zeroizing::new(c.key().to_owned())));
    Upgrade { target, header: key }
}

fn read(
    scratch: &mut Scratch,
    message: &mut [u8],
    found: &mut dyn FnMut(usize, &Item<'_>),
) -> Result<Incoming, ParseError> {
    // What is no announcement ends the reading early, with an error that nobody sees.
    let mut other = None;
    let read = scratch.envelope(
        message,
        "data",
        |root| {
            other = what_else(root);
            if other.is_some() { Err(ParseError::Missing("data")) } else { Ok(()) }
        },
        |data| {
            if !data.is_object() {
                return Err(ParseError::Missing("data"));
            }
            let mut parsed = Parsed::default();
            match read_article(data) {
                Some(item) => {
                    parsed.rows = 1;
                    found(0, &item);
                }
                None => parsed.skipped = 1,
            }
            Ok(Incoming::Items(parsed))
        },
    );
    match other {
        Some(other) => Ok(other),
        None => read,
    }
}

/// What a message is that is no announcement. `None`: it is one.
fn what_else(root: Json<'_, '_>) -> Option<Incoming> {
    let code = root.get("code").map(Json::brief).unwrap_or_default();
    let good = matches!(code.as_str(), "" | "0" | "00000000" | "000000");
    match root.get("type").and_then(Json::str) {
        Some("DATA") => {
            let ours = root.get("topic").and_then(Json::str).is_none_or(|topic| topic == TOPIC);
            (!ours).then_some(Incoming::Other)
        }
        Some("COMMAND") if good => Some(Incoming::Accepted(0)),
        _ if !good => Some(Incoming::Refused(Failure::Status, code)),
        _ => Some(Incoming::Other),
    }
}

fn read_article<'a>(article: Json<'_, 'a>) -> Option<Item<'a>> {
    let title = article.get("title")?.title()?;
    let published = article.get("publishDate").and_then(|v| when::instant(v, when::UTC_SECS));
    Some(Item {
        notice_id: identity(published.map_or(0, |at| at.0 / 1_000), title),
        title,
        link: Link::None,
        hint: hint(article),
        published,
        modified: None,
        pinned: false,
    })
}

/// Publish time in milliseconds, a dash, a fingerprint of the title. On the stack: most items are known.
fn identity(published_ms: i64, title: &str) -> ShortText {
    let mut digits = itoa::Buffer::new();
    let fingerprint = super::fnv1a(title).to_be_bytes();
    let hex = fingerprint.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let hex = hex.map(|nibble| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 });
    let mut text = [0; 40];
    let mut len = 0;
    for (to, from) in text.iter_mut().zip(digits.format(published_ms).bytes().chain([b'-']).chain(hex)) {
        *to = from;
        len += 1;
    }
    text.get(..len).and_then(|t| core::str::from_utf8(t).ok()).map_or(ShortText::EMPTY, ShortText::cut)
}

/// Binance says with 400 and a code of its own what others say with 401.
fn refused(status: u16, body: &[u8]) -> Failure {
    let says = |code: &str| memchr::memmem::find(body, code.as_bytes()).is_some();
    if says("-1022") || says("-2014") || says("-2015") {
        return Failure::Unauthorized;
    }
    if says("-1003") { Failure::TooManyRequests } else { super::refused_by_status(status) }
}
