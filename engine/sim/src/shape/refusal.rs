//! How exchanges refuse, and how their answers drift from their form.
//!
//! Contract: pure functions; a body that is no JSON stays as it is.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::json;
use crate::http::Response;
use crate::options::Kind;

/// A status with a short JSON body.
pub(crate) fn status(code: u16, retry_after: Option<u32>) -> Response {
    let body = json!({ "code": code, "success": false, "message": "simulated refusal" });
    let response = json(code, &body);
    match retry_after {
        Some(secs) => response.with("Retry-After", secs.to_string()),
        None => response,
    }
}

/// Why an exchange says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// To a country that is not served.
    Region,
    /// To whoever asks too often.
    TooFrequent,
    /// In a 200.
    Refused,
}

/// How an exchange with announcements says it.
pub(crate) fn of(kind: Kind, why: Refusal) -> Response {
    match why {
        Refusal::Region => region_block(kind),
        Refusal::TooFrequent => too_frequent(kind),
        Refusal::Refused => refused(kind),
    }
}

fn region_block(kind: Kind) -> Response {
    match kind {
        Kind::Binance | Kind::Bitget | Kind::Bingx => {
            json(451, &json!({ "code": 0, "msg": "not served in this region (simulated)" }))
        }
        Kind::Kucoin => json(403, &json!({ "code": "400302", "msg": "not available here (simulated)" })),
        Kind::Upbit | Kind::Bithumb | Kind::Cryptocom => status(403, None),
        Kind::Okx | Kind::Bybit | Kind::Htx | Kind::Mexc | Kind::Coinone => page(403),
    }
}

/// A page of the edge, where JSON was asked for.
fn page(code: u16) -> Response {
    let text = "<!DOCTYPE html><html><head><title>Blocked</title></head><body>Not from your country (simulated).</body></html>";
    Response {
        status: code,
        headers: vec![("Content-Type".into(), "text/html".to_owned())],
        body: Arc::from(text.as_bytes()),
    }
}

fn too_frequent(kind: Kind) -> Response {
    match kind {
        Kind::Binance | Kind::Upbit | Kind::Htx => status(429, Some(1)),
        Kind::Bithumb => status(429, None),
        Kind::Okx => json(429, &json!({ "code": "50011", "msg": "Too Many Requests", "data": [] })),
        Kind::Bybit => json(403, &json!({ "retCode": 10006, "retMsg": "access too frequent" })),
        Kind::Bitget => json(429, &json!({ "code": "429", "msg": "Too Many Requests", "data": null })),
        Kind::Kucoin => json(429, &json!({ "code": "429000", "msg": "Too many requests" })),
        Kind::Cryptocom => json(429, &json!({ "id": -1, "code": 42901, "message": "RATE_LIMIT" })),
        Kind::Bingx => json(429, &json!({ "code": 100_410, "msg": "rate limited" })),
        Kind::Mexc => json(429, &json!({ "code": 510, "msg": "Requests are too frequent" })),
        Kind::Coinone => {
            json(429, &json!({ "detail": "Request was throttled." })).with("Retry-After", "1".to_owned())
        }
    }
}

fn refused(kind: Kind) -> Response {
    let body = match kind {
        Kind::Binance => json!({ "code": "000002", "message": "illegal parameter", "success": false }),
        Kind::Upbit => json!({ "success": false, "error": { "name": "invalid", "message": "simulated" } }),
        Kind::Bithumb => json!({ "error": { "name": "invalid", "message": "simulated" } }),
        Kind::Okx => json!({ "code": "50026", "msg": "System error", "data": [] }),
        Kind::Bybit => json!({ "retCode": 10016, "retMsg": "Server error", "result": {}, "time": 0 }),
        Kind::Bitget => json!({ "code": "40808", "msg": "Parameter verification exception", "data": null }),
        Kind::Kucoin => json!({ "code": "500000", "msg": "Internal Server Error" }),
        Kind::Cryptocom => json!({ "id": -1, "code": 50001, "message": "ERR_INTERNAL" }),
        Kind::Htx => json!({ "code": 500, "success": false, "message": "system busy", "data": null }),
        Kind::Bingx => json!({ "code": 100_500, "msg": "internal error", "data": null }),
        Kind::Mexc => json!({ "code": 500, "msg": "internal error", "data": null }),
        Kind::Coinone => json!({ "result": "error", "error_code": "107", "error_message": "simulated" }),
    };
    json(200, &body)
}

/// The body with every list and object on top under another key.
pub(crate) fn drifted(body: &Arc<[u8]>) -> Arc<[u8]> {
    changed(body, |value| match value {
        Value::Object(fields) => {
            let renamed = |(key, value): (String, Value)| match value {
                Value::Object(_) | Value::Array(_) => (format!("{key}V2"), value),
                _ => (key, value),
            };
            Value::Object(fields.into_iter().map(renamed).collect())
        }
        other => json!({ "itemsV2": other }),
    })
}

/// The body with every title under another key.
pub(crate) fn without_titles(body: &Arc<[u8]>) -> Arc<[u8]> {
    fn walk(value: Value) -> Value {
        match value {
            Value::Array(items) => Value::Array(items.into_iter().map(walk).collect()),
            Value::Object(fields) => {
                let renamed = |(key, value): (String, Value)| match key.as_str() {
                    "title" | "annTitle" => ("headline".to_owned(), value),
                    _ => (key, walk(value)),
                };
                Value::Object(fields.into_iter().map(renamed).collect::<Map<_, _>>())
            }
            other => other,
        }
    }
    changed(body, walk)
}

fn changed(body: &Arc<[u8]>, change: impl FnOnce(Value) -> Value) -> Arc<[u8]> {
    let Ok(value) = serde_json::from_slice(body) else { return Arc::clone(body) };
    serde_json::to_vec(&change(value)).map_or_else(|_| Arc::clone(body), Arc::from)
}
