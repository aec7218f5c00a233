//! What the control plane answers: JSON bodies, errors with a code, a detail and the field at fault.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::Value;
use tocsin_core::feed::key::KeyRecord;
use tocsin_core::limits;
use tocsin_core::model::{Announcement, ExchangeSet};
use tocsin_core::time::WallUs;
use tocsin_core::webhook::dispatcher::Refusal;
use tocsin_core::wire::{EncodedAnnouncement, STAMP_DIGITS};

use super::bridge::BridgeError;
use super::shapes::{self, AccountShown, DeliveryShown, EndpointShown, KeyShown};
use crate::store::webhook::accounts::AccountRecord;
use crate::store::webhook::deliveries::AttemptRecord;
use crate::store::webhook::endpoints::EndpointRecord;
use crate::store::{HistoryPage, StoreError, StoredAnnouncement};

/// A refusal: `{"error":CODE,"detail":..}` and, where one is at fault, `"field"`, and `"retry_after"`
/// in seconds where that is known.
#[derive(Debug)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) detail: String,
    pub(super) field: Option<String>,
    pub(super) retry_after: Option<Duration>,
}

/// What a handler answers.
pub(super) type Answer = Result<Response, ApiError>;

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> ApiError {
        ApiError { status, code, detail: detail.into(), field: None, retry_after: None }
    }

    /// 400 for one field of the request.
    pub(super) fn field(field: impl Into<String>, detail: impl Into<String>) -> ApiError {
        let field = Some(field.into());
        ApiError { field, ..ApiError::new(StatusCode::BAD_REQUEST, "invalid_value", detail) }
    }

    /// 401, with what to send.
    pub(super) fn unauthorized(detail: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    /// 403 for a browser's request that is not its user's.
    pub(super) fn csrf(detail: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::FORBIDDEN, "csrf", detail)
    }

    /// 503: the operating system has no random bytes.
    pub(super) fn no_randomness() -> ApiError {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "no_randomness", "no random bytes")
    }

    /// 429 by a rate.
    pub(super) fn rate_limited(detail: impl Into<String>, after: Duration) -> ApiError {
        ApiError::too_often("rate_limited", detail, after)
    }

    /// 429, and when to come again.
    pub(super) fn too_often(code: &'static str, detail: impl Into<String>, after: Duration) -> ApiError {
        let retry_after = Some(after);
        ApiError { retry_after, ..ApiError::new(StatusCode::TOO_MANY_REQUESTS, code, detail) }
    }

    /// 404 for an endpoint that is not there, or is another account's.
    pub(super) fn no_such_endpoint(id: impl core::fmt::Display) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "no_such_endpoint", format!("there is no endpoint {id}"))
    }

    /// Whole seconds, rounded up, at least one.
    fn retry_secs(&self) -> Option<u64> {
        let busy = (self.status == StatusCode::SERVICE_UNAVAILABLE).then_some(1);
        self.retry_after.map(|after| after.as_millis().div_ceil(1_000).max(1) as u64).or(busy)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> ApiError {
        if let StoreError::Invalid { field, detail } = &error {
            return ApiError::field(*field, detail);
        }
        let status = match error.code() {
            "no_such_key" | "no_such_account" | "no_such_endpoint" => StatusCode::NOT_FOUND,
            "key_revoked" | "too_many_endpoints" | "account_in_use" => StatusCode::CONFLICT,
            "too_many_keys" | "too_many_accounts" | "endpoints_exhausted" => StatusCode::INSUFFICIENT_STORAGE,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        ApiError::new(status, error.code(), error.to_string())
    }
}

impl From<BridgeError> for ApiError {
    fn from(error: BridgeError) -> ApiError {
        let (status, code) = match error {
            BridgeError::Store(error) => return error.into(),
            BridgeError::Busy(_) => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            BridgeError::NotApplied | BridgeError::NotSent => {
                (StatusCode::SERVICE_UNAVAILABLE, "not_applied")
            }
            BridgeError::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
            BridgeError::Refused(refusal) => match refusal {
                Refusal::UnknownEndpoint => (StatusCode::CONFLICT, "endpoint_not_in_use"),
                Refusal::NotVerified => (StatusCode::CONFLICT, "not_verified"),
                Refusal::AlreadyVerified => (StatusCode::CONFLICT, "already_verified"),
                Refusal::EndpointExists | Refusal::BadAttempt => (StatusCode::CONFLICT, "conflict"),
                Refusal::TooManyEndpoints => (StatusCode::INSUFFICIENT_STORAGE, "endpoints_exhausted"),
                Refusal::TooManyTests => (StatusCode::TOO_MANY_REQUESTS, "too_many_tests"),
            },
        };
        let retry_after = (status == StatusCode::TOO_MANY_REQUESTS).then_some(limits::WEBHOOK_TIMEOUT);
        ApiError { retry_after, ..ApiError::new(status, code, error.to_string()) }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let retry_after = self.retry_secs();
        let shown = retry_after.filter(|_| self.retry_after.is_some());
        let body =
            shapes::Refusal { error: self.code, detail: self.detail, field: self.field, retry_after: shown };
        let mut response = (self.status, Json(body)).into_response();
        if let Some(secs) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(secs));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// A body that holds something shown once: no cache may keep it.
pub(super) fn shown_once(status: StatusCode, body: impl serde::Serialize) -> Response {
    (status, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

/// A JSON text that is ready as it is.
pub(super) fn json_text(status: StatusCode, body: Vec<u8>) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, body).into_response()
}

/// A key as it is shown: never its hash, never its text.
pub(super) fn key_shown(key: &KeyRecord, now: WallUs) -> KeyShown {
    KeyShown {
        id: key.id.0,
        label: key.label.clone(),
        tier: key.tier.name(),
        max_connections: key.max_connections,
        allowed_cex: key.allowed.effective(ExchangeSet::ALL),
        state: key_state(key, now),
        created_at: rfc3339(key.created_at),
        expires_at: key.expires_at.map(rfc3339),
        revoked_at: key.revoked_at.map(rfc3339),
        delay_ms: u64::try_from(key.delay.as_millis()).unwrap_or(u64::MAX),
        redact: key.redact,
        account: key.account,
    }
}

/// [`key_shown`] as JSON, for a command without a service.
#[must_use]
pub fn key_json(key: &KeyRecord, now: WallUs) -> Value {
    json(key_shown(key, now))
}

/// An account as it is shown where `plans` have webhooks: never its token.
#[must_use]
pub fn account_json(account: &AccountRecord, plans: &[String], now: WallUs) -> Value {
    json(AccountShown::of(account, plans, now))
}

/// An endpoint as it is stored: never its secret.
#[must_use]
pub fn endpoint_json(endpoint: &EndpointRecord, now: WallUs) -> Value {
    json(EndpointShown::of(endpoint, None, now))
}

/// A line of the delivery log.
#[must_use]
pub fn delivery_json(attempt: &AttemptRecord) -> Value {
    json(DeliveryShown::of(attempt))
}

/// These types are plain and always have a JSON form.
fn json(shown: impl serde::Serialize) -> Value {
    serde_json::to_value(shown).unwrap_or_default()
}

/// Whether a key can be used: `active`, `expired` or `revoked`.
#[must_use]
pub fn key_state(key: &KeyRecord, now: WallUs) -> &'static str {
    if key.revoked_at.is_some() {
        "revoked"
    } else if key.expires_at.is_some_and(|at| at <= now) {
        "expired"
    } else {
        "active"
    }
}

/// RFC 3339 in UTC; microseconds outside the calendar's range are given as a number.
#[must_use]
pub fn rfc3339(at: WallUs) -> String {
    Timestamp::from_microsecond(at.0).map_or_else(|_| at.0.to_string(), |at| at.to_string())
}

/// The full JSON text of an announcement; `dispatchTimestampUs` is null while it is not known.
#[must_use]
pub fn announcement_json(announcement: &EncodedAnnouncement) -> Vec<u8> {
    let payload = &announcement.full;
    let mut out = Vec::with_capacity(payload.json.len());
    if let Some(at) = announcement.dispatched() {
        payload.write_stamped(&mut out, at);
        return out;
    }
    let stamp = payload.dispatch_at as usize;
    out.extend_from_slice(payload.json.get(..stamp).unwrap_or_default());
    out.extend_from_slice(b"null");
    out.extend_from_slice(payload.json.get(stamp + STAMP_DIGITS..).unwrap_or_default());
    out
}

/// `{"announcements":[...],"next":"EPOCH:SEQ"|null,"gap":null}`, each announcement in full. Those never
/// dispatched (late ones) carry their detection as dispatch, as on the feed's own port.
#[must_use]
pub fn history_json(page: HistoryPage, redact: impl Fn(&Announcement) -> bool) -> Vec<u8> {
    let mut out = b"{\"announcements\":[".to_vec();
    for (i, StoredAnnouncement { announcement, dispatched }) in page.rows.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        let (detected, redact) = (announcement.detected, redact(&announcement));
        let encoded = tocsin_core::wire::encode(announcement);
        encoded.payload(true, redact).write_stamped(&mut out, dispatched.unwrap_or(detected));
    }
    let next = page.next.map_or_else(|| "null".to_owned(), |next| format!("\"{next}\""));
    out.extend_from_slice(format!("],\"next\":{next},\"gap\":null}}").as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::announcement;

    #[test]
    fn dispatch_is_null_until_known() {
        let encoded = tocsin_core::wire::encode(announcement(1, 1));
        let read = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        let before = read(&announcement_json(&encoded));
        assert_eq!(before["dispatchTimestampUs"], Value::Null);
        encoded.mark_dispatched(WallUs(1_770_000_000_000_001));
        let mut after = read(&announcement_json(&encoded));
        assert_eq!(after["dispatchTimestampUs"], 1_770_000_000_000_001_u64);
        after["dispatchTimestampUs"] = Value::Null;
        assert_eq!(after, before);
    }

    #[test]
    fn instants_are_told_in_utc() {
        assert_eq!(rfc3339(WallUs(1_770_000_000_000_000)), "2026-02-02T02:40:00Z");
        assert_eq!(rfc3339(WallUs(i64::MAX)), i64::MAX.to_string());
    }
}
