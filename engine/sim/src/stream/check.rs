//! What a simulated push source asks of an upgrade request.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::Value;
use std::time::{Duration, Instant};
use tocsin_core::source::stream::ParameterOrder;

use super::{MAX_NONCES, State, StreamKind, words};
use crate::clock;
use crate::http::Request;

/// A refusal: status and body.
pub(super) type Refusal = (u16, String);

/// Judges a request.
pub(super) fn check(kind: StreamKind, state: &mut State, request: &Request) -> Result<(), Refusal> {
    let now = Instant::now();
    while state.connects.front().is_some_and(|at| now.duration_since(*at) >= Duration::from_secs(1)) {
        state.connects.pop_front();
    }
    state.connects.push_back(now);
    if state.connects.len() > state.options.connects_per_second {
        state.note_violation("too many connections in a second");
        return Err((429, String::new()));
    }
    if state.sessions.len() >= state.options.sessions {
        return Err((429, words::upbit_error("too_many_sessions")));
    }
    match kind {
        StreamKind::Binance => binance(state, request),
        StreamKind::Upbit => upbit(state, request),
        StreamKind::Gate if request.path() == "/ws/v4/ann" => Ok(()),
        StreamKind::Gate => Err((404, String::new())),
    }
}

fn binance(state: &State, request: &Request) -> Result<(), Refusal> {
    let refuse = |code: i32| (400, format!(r#"{{"code":{code},"msg":"simulated refusal"}}"#));
    if request.path() != "/sapi/wss" {
        return Err((404, String::new()));
    }
    let (key, secret) = &state.options.credentials;
    if state.expired || request.header("x-mbx-apikey") != Some(key) {
        return Err((401, r#"{"code":-2015,"msg":"simulated refusal"}"#.to_owned()));
    }
    let random = request.query("random").unwrap_or_default();
    if random.is_empty() || random.len() > 32 || !random.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(refuse(-1100));
    }
    let number = |name: &str| request.query(name).and_then(|v| v.parse::<i64>().ok());
    let (Some(timestamp), Some(window @ 1..=60_000)) = (number("timestamp"), number("recvWindow")) else {
        return Err(refuse(-1102));
    };
    if (clock::wall_now().0 / 1_000 - timestamp).abs() > window {
        return Err(refuse(-1021));
    }
    if request.query("topic") != Some("com_announcement_en") {
        return Err(refuse(-1102));
    }
    let (_, query) = request.target.split_once('?').unwrap_or_default();
    let (sent, signature) = query.rsplit_once("&signature=").unwrap_or((query, ""));
    let signed = match state.options.strict_order {
        None => sent.to_owned(),
        Some(order) => {
            let names = match order {
                ParameterOrder::Alphabetical => ["random", "recvWindow", "timestamp", "topic"],
                ParameterOrder::TopicSecond => ["random", "topic", "recvWindow", "timestamp"],
            };
            let pair = |name: &str| format!("{name}={}", request.query(name).unwrap_or_default());
            names.map(pair).join("&")
        }
    };
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    match hex(signature).is_some_and(|tag| hmac::verify(&key, signed.as_bytes(), &tag).is_ok()) {
        true => Ok(()),
        false => Err(refuse(-1022)),
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

fn upbit(state: &mut State, request: &Request) -> Result<(), Refusal> {
    let refuse = |name: &str| (401, words::upbit_error(name));
    if request.path() != "/websocket/v1/private" {
        return Err((404, String::new()));
    }
    let (key, secret) = state.options.credentials.clone();
    let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let token = token.ok_or_else(|| refuse("no_authorization_token"))?;
    let (signed, tag) = token.rsplit_once('.').ok_or_else(|| refuse("jwt_verification"))?;
    let secret = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = URL_SAFE_NO_PAD.decode(tag).unwrap_or_default();
    let part =
        |text: &str| -> Option<Value> { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok() };
    let parts = signed.split_once('.').and_then(|(header, payload)| Some((part(header)?, part(payload)?)));
    let (header, payload) = parts.ok_or_else(|| refuse("jwt_verification"))?;
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
    if text(&payload, "access_key") != key {
        return Err(refuse("invalid_access_key"));
    }
    if text(&header, "alg") != "HS256" || hmac::verify(&secret, signed.as_bytes(), &tag).is_err() {
        return Err(refuse("jwt_verification"));
    }
    if state.expired {
        return Err(refuse("expired_access_key"));
    }
    let nonce = text(&payload, "nonce");
    if state.nonces.len() >= MAX_NONCES {
        state.nonces.clear();
    }
    match !nonce.is_empty() && state.nonces.insert(nonce) {
        true => Ok(()),
        false => Err(refuse("nonce_used")),
    }
}
