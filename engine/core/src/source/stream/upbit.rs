//! Upbit, the announcement type of its private stream (official).
//!
//! Any API key of an account opens it; keys are bound to addresses and last a year. The request carries a JSON
//! Web Token over the access key and a nonce. One message subscribes; it is not answered, there is no snapshot,
//! and silence is normal. Identity: `uuid`, the number in the notice's public address, not the `id` of the web
//! list. Titles carry the category in front, `[거래] …`, which the web list does not.

use core::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use zeroize::Zeroizing;

use super::allowance::Allowance;
use super::{Ask, Confirmation, Fresh, Incoming, Keepalive, StreamSpec, Upgrade};
use crate::model::{CategoryHint, Exchange};
use crate::source::backoff::Failure;
use crate::source::json::{Json, Scratch};
use crate::source::{Evidence, Item, Link, ParseError, Parsed, when};

/// `upbit.stream`: the category of listings, delistings and cautions.
pub static STREAM: StreamSpec = StreamSpec {
    name: "upbit.stream",
    config_name: "upbit",
    exchange: Exchange::Upbit,
    evidence: Evidence::Official,
    base_url: "wss://api.upbit.com",
    path: "/websocket/v1/private",
    needs_credentials: true,
    clock_within: None,
    channels: &["announcement"],
    upgrade,
    greet,
    confirmed_by: Confirmation::Pong,
    // The server gives up what is silent for 120 s.
    keepalive: Keepalive { every: Duration::from_secs(30), text: None, patience: Duration::from_secs(75) },
    // 5 a second and 100 a minute are allowed.
    frames: &[
        Allowance { count: 3, per: Duration::from_secs(1) },
        Allowance { count: 60, per: Duration::from_secs(60) },
    ],
    // 5 a second are allowed.
    connects: &[
        Allowance { count: 2, per: Duration::from_secs(1) },
        Allowance { count: 20, per: Duration::from_secs(300) },
    ],
    session_life: None,
    replay: Duration::ZERO,
    read,
    refused: |status, _| super::refused_by_status(status),
};

/// Header and payload in base64url with a dot between, a dot, their HMAC-SHA256 (RFC 7515 7.1).
fn token(key: &str, secret: &[u8], nonce: &str) -> Zeroizing<String> {
    let mut token = Zeroizing::new(String::with_capacity(512));
    let payload = Zeroizing::new(["{\"access_key\":\"", key, "\",\"nonce\":\"", nonce, "\"}"].concat());
    URL_SAFE_NO_PAD.encode_string(r#"{"alg":"HS256","typ":"JWT"}"#, &mut token);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(payload.as_bytes(), &mut token);
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), token.as_bytes());
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature.as_ref(), &mut token);
    token
}

fn upgrade(ask: &Ask<'_>) -> Upgrade {
    let header = ask.credentials.map(|c| {
        let token = token(c.key(), c.secret(), &uuid(ask.fresh.random));
        ("Authorization", Zeroizing::new(["Bearer ", &token].concat()))
    });
    Upgrade { target: Zeroizing::new(STREAM.path.to_owned()), header }
}

fn greet(nth: usize, fresh: Fresh, out: &mut String) -> bool {
    if nth > 0 {
        return false;
    }
    for part in [
        "[{\"ticket\":\"",
        &uuid(fresh.random),
        "\"},{\"type\":\"announcement\",\"categories\":[\"trade\"],\"include_body\":false},{\"format\":\"DEFAULT\"}]",
    ] {
        out.push_str(part);
    }
    true
}

/// A random UUID (RFC 9562 5.4).
fn uuid(mut random: [u8; 16]) -> String {
    random[6] = random[6] & 0x0F | 0x40;
    random[8] = random[8] & 0x3F | 0x80;
    let mut hex = String::with_capacity(32);
    super::push_hex(&mut hex, &random);
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

fn read(
    scratch: &mut Scratch,
    message: &mut [u8],
    found: &mut dyn FnMut(usize, &Item<'_>),
) -> Result<Incoming, ParseError> {
    scratch.document(message, |root| {
        if let Some(error) = root.get("error") {
            let name = error.get("name").or(Some(error)).map(Json::brief).unwrap_or_default();
            return Ok(Incoming::Refused(class(name.as_str()), name));
        }
        if root.get("type").and_then(Json::str) != Some("announcement") {
            // `{"status":"UP"}` and whatever else may come.
            return if root.is_object() { Ok(Incoming::Other) } else { Err(ParseError::Missing("type")) };
        }
        let mut parsed = Parsed::default();
        match read_notice(root) {
            Some(item) => {
                parsed.rows = 1;
                found(0, &item);
            }
            None => parsed.skipped = 1,
        }
        Ok(Incoming::Items(parsed))
    })
}

/// What an error of an open session means.
fn class(name: &str) -> Failure {
    let name = name.to_ascii_lowercase();
    let has = |word: &str| name.contains(word);
    if has("too_many") || has("limit") {
        Failure::TooManyRequests
    } else if has("auth") || has("access_key") || has("jwt") || has("nonce") || has("scope") {
        Failure::Unauthorized
    } else {
        Failure::Status
    }
}

fn read_notice<'a>(notice: Json<'_, 'a>) -> Option<Item<'a>> {
    let notice_id = notice.get("uuid")?.identifier()?;
    let (label, title) = split_label(notice.get("title")?.title()?);
    let time = |key| notice.get(key).and_then(|v| when::instant(v, when::KST_SECS));
    let listed = time("listed_at");
    let url = notice.get("url").and_then(Json::str).filter(|url| url.starts_with("https://"));
    let category = notice.get("category").and_then(Json::str).or(label);
    Some(Item {
        notice_id,
        title,
        link: match url {
            Some(url) => Link::Whole(url),
            None => Link::Built("https://www.upbit.com/service_center/notice?id=", notice_id, "&view=share"),
        },
        hint: hint(category),
        published: time("first_listed_at").or(listed),
        modified: listed,
        pinned: false,
    })
}

/// `[거래] title` in its two parts; all of it is the title where nothing would be left.
fn split_label(title: &str) -> (Option<&str>, &str) {
    let parts = title.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    match parts.map(|(label, rest)| (label, rest.trim_start())) {
        Some((label, rest)) if !rest.is_empty() && is_category(label) => (Some(label), rest),
        _ => (None, title),
    }
}

/// The categories of its web list: a bracket that holds something else belongs to the title.
fn is_category(label: &str) -> bool {
    ["거래", "입출금", "안내", "이벤트", "점검", "디지털 자산", "NFT"].contains(&label)
        || ["trade", "notice", "event"].iter().any(|name| label.eq_ignore_ascii_case(name))
}

/// 거래 (trade) holds listings, delistings and cautions alike.
fn hint(category: Option<&str>) -> CategoryHint {
    match category {
        None | Some("거래" | "Trade" | "trade") => CategoryHint::None,
        Some(_) => CategoryHint::Other,
    }
}
