//! Gate, the public announcement channels (official, no key).
//!
//! A channel is subscribed to with a message and answered for. On every subscription the last article of the
//! channel is sent once more; it looks like any other, so what is known by its number and time decides whether
//! it is news (see `detect::stream`). Identity: the number at the end of `origin_url`, whatever its host. The same
//! article comes on several channels.

use core::time::Duration;

use super::allowance::Allowance;
use super::{Ask, Confirmation, Fresh, Incoming, Keepalive, StreamSpec, Upgrade};
use crate::limits;
use crate::model::{CategoryHint, Exchange};
use crate::source::backoff::Failure;
use crate::source::json::{Json, Scratch};
use crate::source::{Evidence, Item, Link, ParseError, Parsed, ShortText, when};
use zeroize::Zeroizing;

/// Channels are called `announcement.` and one of these. Fees, precision and upgrades of the engine name no
/// listing; what else there is comes on `summary_all`.
const CHANNELS: &[&str] =
    &["summary_listing", "summary_delisting", "summary_rename", "summary_etf", "summary_ipos", "summary_all"];

/// `gate.stream`.
pub static STREAM: StreamSpec = StreamSpec {
    name: "gate.stream",
    config_name: "gate",
    exchange: Exchange::Gate,
    evidence: Evidence::Official,
    base_url: "wss://api.gateio.ws",
    path: "/ws/v4/ann",
    needs_credentials: false,
    clock_within: None,
    channels: CHANNELS,
    upgrade,
    greet,
    confirmed_by: Confirmation::Channels,
    keepalive: Keepalive {
        every: Duration::from_secs(15),
        text: Some(|fresh, out| write_message(fresh, "ping", "", out)),
        patience: Duration::from_secs(45),
    },
    // No limit is documented.
    frames: &[Allowance { count: 8, per: Duration::from_secs(1) }],
    connects: &[
        Allowance { count: 2, per: Duration::from_secs(1) },
        Allowance { count: 20, per: Duration::from_secs(300) },
    ],
    session_life: None,
    replay: Duration::from_secs(10),
    read,
    refused: |status, _| super::refused_by_status(status),
};

fn upgrade(_: &Ask<'_>) -> Upgrade {
    Upgrade { target: Zeroizing::new(STREAM.path.to_owned()), header: None }
}

fn greet(nth: usize, fresh: Fresh, out: &mut String) -> bool {
    let Some(channel) = CHANNELS.get(nth) else { return false };
    write_message(fresh, channel, r#","event":"subscribe","payload":["en"]"#, out);
    true
}

fn write_message(fresh: Fresh, channel: &str, more: &str, out: &mut String) {
    let mut digits = itoa::Buffer::new();
    for part in [
        "{\"time\":",
        digits.format(fresh.wall.secs()),
        ",\"channel\":\"announcement.",
        channel,
        "\"",
        more,
        "}",
    ] {
        out.push_str(part);
    }
}

fn read(
    scratch: &mut Scratch,
    message: &mut [u8],
    found: &mut dyn FnMut(usize, &Item<'_>),
) -> Result<Incoming, ParseError> {
    scratch.document(message, |root| {
        let channel = root.get("channel").and_then(Json::str).ok_or(ParseError::Missing("channel"))?;
        let name = channel.strip_prefix("announcement.").unwrap_or(channel);
        if name == "pong" || name == "ping" {
            return Ok(Incoming::Pong);
        }
        let index = CHANNELS.iter().position(|known| *known == name);
        let error = root.get("error").filter(|e| e.is_object());
        match (root.get("event").and_then(Json::str), index) {
            (Some("subscribe"), Some(index)) => Ok(match error {
                None => Incoming::Accepted(index),
                Some(error) => Incoming::Rejected(index, why(error)),
            }),
            (Some("update"), Some(index)) => {
                let result = root.get("result").ok_or(ParseError::Missing("result"))?;
                read_articles(result, index, found)
            }
            _ => Ok(match error {
                Some(error) => Incoming::Refused(Failure::Status, why(error)),
                None => Incoming::Other,
            }),
        }
    })
}

fn why(error: Json<'_, '_>) -> ShortText {
    error.get("message").or_else(|| error.get("code")).map(Json::brief).unwrap_or_default()
}

/// One article, or a list of them.
fn read_articles(
    result: Json<'_, '_>,
    channel: usize,
    found: &mut dyn FnMut(usize, &Item<'_>),
) -> Result<Incoming, ParseError> {
    let mut parsed = Parsed::default();
    let mut take = |row: Json<'_, '_>| match read_article(row, channel) {
        _ if parsed.rows >= limits::ITEMS_PER_RESPONSE => parsed.beyond_limit += 1,
        Some(item) => {
            parsed.rows += 1;
            found(channel, &item);
        }
        None => parsed.skipped += 1,
    };
    if result.is_object() {
        take(result);
    } else if result.is_list() {
        result.elements().for_each(take);
    } else {
        return Err(ParseError::Missing("result"));
    }
    Ok(Incoming::Items(parsed))
}

fn read_article<'a>(row: Json<'_, 'a>, channel: usize) -> Option<Item<'a>> {
    let url = row.get("origin_url").and_then(Json::str)?;
    Some(Item {
        notice_id: ShortText::new(article_number(url)?)?,
        title: row.get("title")?.title()?,
        link: Link::Whole(url),
        hint: hint(channel),
        published: row.get("published_at").and_then(|v| when::instant(v, when::UTC_SECS)),
        modified: None,
        pinned: false,
    })
}

/// `228103` of `https://www.gate.com/article/228103`: the digits that end the path.
fn article_number(url: &str) -> Option<&str> {
    let path = url.split(['?', '#']).next()?.trim_end_matches('/');
    let last = path.rsplit('/').next()?;
    let digits = last.bytes().rev().take_while(u8::is_ascii_digit).count();
    let number = last.get(last.len() - digits..)?.trim_start_matches('0');
    (!number.is_empty()).then_some(number)
}

/// What the channel says; the one of everything says nothing.
fn hint(channel: usize) -> CategoryHint {
    match CHANNELS.get(channel) {
        Some(&"summary_listing") => CategoryHint::Listing,
        Some(&"summary_delisting") => CategoryHint::Delisting,
        Some(&"summary_rename" | &"summary_etf") => CategoryHint::Other,
        _ => CategoryHint::None,
    }
}
