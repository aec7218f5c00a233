//! Refusals as values: status, code, body and headers of every answer that is not 101.
//!
//! Contract: [`Refusal::write`] appends one complete HTTP/1.1 response with a JSON body
//! `{"error":CODE,...}`, `Content-Type: application/json` and `Connection: close`. Nothing the client
//! sent is repeated. Never fails.

use core::time::Duration;

use super::address::AddressRefusal;
use super::keys::KeyRefusal;
use super::query::BadParameter;
use crate::http1::request::HeadError;
use crate::wire::json;
use crate::ws::handshake;

/// `Retry-After` of a full server.
const FULL_RETRY: Duration = Duration::from_secs(5);

/// Codes of refusals, as counters and bodies spell them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the documentation")]
pub enum RefusalCode {
    BadRequest,
    NotFound,
    MethodNotAllowed,
    UpgradeRequired,
    RequestTimeout,
    HeadersTooLarge,
    MissingApiKey,
    InvalidApiKey,
    KeyRevoked,
    KeyExpired,
    MaxConnectionsReached,
    IpConnectionsReached,
    IpRateLimited,
    AuthFailures,
    ServerFull,
}

impl RefusalCode {
    /// Every code, in the order of its discriminant.
    pub const ALL: [RefusalCode; 15] = [
        RefusalCode::BadRequest,
        RefusalCode::NotFound,
        RefusalCode::MethodNotAllowed,
        RefusalCode::UpgradeRequired,
        RefusalCode::RequestTimeout,
        RefusalCode::HeadersTooLarge,
        RefusalCode::MissingApiKey,
        RefusalCode::InvalidApiKey,
        RefusalCode::KeyRevoked,
        RefusalCode::KeyExpired,
        RefusalCode::MaxConnectionsReached,
        RefusalCode::IpConnectionsReached,
        RefusalCode::IpRateLimited,
        RefusalCode::AuthFailures,
        RefusalCode::ServerFull,
    ];

    /// The body's `error`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            RefusalCode::BadRequest => "bad_request",
            RefusalCode::NotFound => "not_found",
            RefusalCode::MethodNotAllowed => "method_not_allowed",
            RefusalCode::UpgradeRequired => "upgrade_required",
            RefusalCode::RequestTimeout => "request_timeout",
            RefusalCode::HeadersTooLarge => "headers_too_large",
            RefusalCode::MissingApiKey => "missing_api_key",
            RefusalCode::InvalidApiKey => "invalid_api_key",
            RefusalCode::KeyRevoked => "key_revoked",
            RefusalCode::KeyExpired => "key_expired",
            RefusalCode::MaxConnectionsReached => "max_connections_reached",
            RefusalCode::IpConnectionsReached => "ip_connections_reached",
            RefusalCode::IpRateLimited => "ip_rate_limited",
            RefusalCode::AuthFailures => "auth_failures",
            RefusalCode::ServerFull => "server_full",
        }
    }
}

/// Why a request is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The head is not one: 400 or 431.
    Head(HeadError),
    /// "5 s in all": 408.
    Timeout,
    /// No such path: 404.
    NotFound,
    /// "Malformed WebSocket upgrade request": 400, 405 or 426.
    Upgrade(handshake::Refusal),
    /// 400.
    Parameter(BadParameter),
    /// "Missing API key": 401.
    MissingKey,
    /// "Invalid, revoked, or expired API key": 403.
    Key(KeyRefusal),
    /// Too many failed authentications from the address: 429.
    AuthFailures {
        /// When it is heard again.
        retry_after: Duration,
    },
    /// The address is at a limit: 429.
    Address(AddressRefusal),
    /// "Maximum simultaneous WebSocket connections allowed with this key": 429.
    KeyConnections {
        /// How many are allowed.
        limit: u32,
        /// How many are open.
        current: u32,
    },
    /// The server holds as many sessions as it is configured for: 503.
    Full {
        /// How many that is.
        limit: u32,
    },
}

impl Refusal {
    /// The HTTP status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Refusal::Head(error) => error.status(),
            Refusal::Timeout => 408,
            Refusal::NotFound => 404,
            Refusal::Upgrade(refusal) => refusal.status(),
            Refusal::Parameter(_) => 400,
            Refusal::MissingKey => 401,
            Refusal::Key(_) => 403,
            Refusal::AuthFailures { .. } | Refusal::Address(_) | Refusal::KeyConnections { .. } => 429,
            Refusal::Full { .. } => 503,
        }
    }

    /// The code in the body.
    #[must_use]
    pub const fn code(&self) -> RefusalCode {
        match self {
            Refusal::Head(HeadError::TooLong | HeadError::TooManyHeaders) => RefusalCode::HeadersTooLarge,
            Refusal::Timeout => RefusalCode::RequestTimeout,
            Refusal::NotFound => RefusalCode::NotFound,
            Refusal::Upgrade(handshake::Refusal::Method) => RefusalCode::MethodNotAllowed,
            Refusal::Upgrade(handshake::Refusal::Version) => RefusalCode::UpgradeRequired,
            Refusal::Head(HeadError::Malformed(_))
            | Refusal::Upgrade(handshake::Refusal::Malformed(_))
            | Refusal::Parameter(_) => RefusalCode::BadRequest,
            Refusal::MissingKey => RefusalCode::MissingApiKey,
            Refusal::Key(KeyRefusal::Invalid) => RefusalCode::InvalidApiKey,
            Refusal::Key(KeyRefusal::Revoked) => RefusalCode::KeyRevoked,
            Refusal::Key(KeyRefusal::Expired) => RefusalCode::KeyExpired,
            Refusal::AuthFailures { .. } => RefusalCode::AuthFailures,
            Refusal::Address(AddressRefusal::RateLimited { .. }) => RefusalCode::IpRateLimited,
            Refusal::Address(AddressRefusal::Connections { .. }) => RefusalCode::IpConnectionsReached,
            Refusal::KeyConnections { .. } => RefusalCode::MaxConnectionsReached,
            Refusal::Full { .. } => RefusalCode::ServerFull,
        }
    }

    /// Appends the whole response.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut body = Vec::with_capacity(96);
        self.write_body(&mut body);
        let header = match self {
            Refusal::Upgrade(refusal) => refusal.header(),
            _ => None,
        };
        response_head(out, self.status(), body.len());
        if let Some((name, value)) = header {
            for part in [name, ": ", value, "\r\n"] {
                out.extend_from_slice(part.as_bytes());
            }
        }
        if let Some(after) = self.retry_after() {
            out.extend_from_slice(b"Retry-After: ");
            json::unsigned(out, whole_secs(after));
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&body);
    }

    /// How long to wait, where waiting helps.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Refusal::AuthFailures { retry_after }
            | Refusal::Address(AddressRefusal::RateLimited { retry_after, .. }) => Some(*retry_after),
            Refusal::Full { .. } => Some(FULL_RETRY),
            _ => None,
        }
    }

    fn write_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"error\":");
        json::string(out, self.code().name());
        let detail = |out: &mut Vec<u8>, text: &str| {
            out.extend_from_slice(b",\"detail\":");
            json::string(out, text);
        };
        let number = |out: &mut Vec<u8>, name: &str, value: u64| {
            out.extend_from_slice(b",\"");
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
            json::unsigned(out, value);
        };
        match self {
            Refusal::Head(error) => detail(out, error.detail()),
            Refusal::Timeout => detail(out, "no complete request within 5 s"),
            Refusal::Upgrade(refusal) => detail(out, refusal.detail()),
            Refusal::Parameter(bad) => detail(out, &bad.detail()),
            Refusal::NotFound | Refusal::MissingKey | Refusal::Key(_) => {}
            Refusal::AuthFailures { retry_after } => number(out, "retryAfterSecs", whole_secs(*retry_after)),
            Refusal::Address(AddressRefusal::RateLimited { limit, retry_after }) => {
                number(out, "limit", u64::from(*limit));
                number(out, "retryAfterSecs", whole_secs(*retry_after));
            }
            Refusal::Address(AddressRefusal::Connections { limit, current })
            | Refusal::KeyConnections { limit, current } => {
                number(out, "limit", u64::from(*limit));
                number(out, "current", u64::from(*current));
            }
            Refusal::Full { limit } => number(out, "limit", u64::from(*limit)),
        }
        out.push(b'}');
    }
}

/// Appends the head of a JSON response up to but without its empty line.
pub(super) fn response_head(out: &mut Vec<u8>, status: u16, body_bytes: usize) {
    out.extend_from_slice(b"HTTP/1.1 ");
    json::unsigned(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(reason_phrase(status).as_bytes());
    out.extend_from_slice(b"\r\nContent-Type: application/json\r\nContent-Length: ");
    json::unsigned(out, u64::try_from(body_bytes).unwrap_or(u64::MAX));
    out.extend_from_slice(b"\r\nConnection: close\r\n");
}

const fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        _ => "Service Unavailable",
    }
}

/// Rounded up, so that trying again then succeeds.
const fn whole_secs(duration: Duration) -> u64 {
    duration.as_secs() + (duration.subsec_nanos() > 0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(refusal: &Refusal) -> String {
        let mut out = Vec::new();
        refusal.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    /// (refusal, status, body, further header)
    fn check(rows: &[(Refusal, u16, &str, &str)]) {
        for (refusal, status, body, header) in rows {
            let expected = format!(
                "HTTP/1.1 {status} {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n{header}\r\n{body}",
                reason_phrase(*status),
                body.len(),
            );
            assert_eq!(text(refusal), expected);
        }
    }

    #[test]
    fn whole_response_of_the_specifications_example() {
        assert_eq!(
            text(&Refusal::KeyConnections { limit: 5, current: 5 }),
            "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nContent-Length: 57\r\n\
             Connection: close\r\n\r\n{\"error\":\"max_connections_reached\",\"limit\":5,\"current\":5}"
        );
    }

    #[test]
    fn each_refusal_has_its_status_body_and_headers() {
        let retry_after = Duration::from_millis(41_001);
        let rate = AddressRefusal::RateLimited { limit: 10, retry_after };
        let rows: [(Refusal, u16, &str, &str); 11] = [
            (
                Refusal::Head(HeadError::TooLong),
                431,
                r#"{"error":"headers_too_large","detail":"request head too long"}"#,
                "",
            ),
            (
                Refusal::Head(HeadError::Malformed("bad request line")),
                400,
                r#"{"error":"bad_request","detail":"bad request line"}"#,
                "",
            ),
            (
                Refusal::Timeout,
                408,
                r#"{"error":"request_timeout","detail":"no complete request within 5 s"}"#,
                "",
            ),
            (Refusal::NotFound, 404, r#"{"error":"not_found"}"#, ""),
            (
                Refusal::Upgrade(handshake::Refusal::Method),
                405,
                r#"{"error":"method_not_allowed","detail":"method is not GET"}"#,
                "Allow: GET\r\n",
            ),
            (
                Refusal::Upgrade(handshake::Refusal::Version),
                426,
                r#"{"error":"upgrade_required","detail":"Sec-WebSocket-Version is not 13"}"#,
                "Sec-WebSocket-Version: 13\r\n",
            ),
            (
                Refusal::Parameter(BadParameter::Value { name: "frames", takes: "binary or text" }),
                400,
                r#"{"error":"bad_request","detail":"frames takes binary or text"}"#,
                "",
            ),
            (
                Refusal::AuthFailures { retry_after },
                429,
                r#"{"error":"auth_failures","retryAfterSecs":42}"#,
                "Retry-After: 42\r\n",
            ),
            (
                Refusal::Address(rate),
                429,
                r#"{"error":"ip_rate_limited","limit":10,"retryAfterSecs":42}"#,
                "Retry-After: 42\r\n",
            ),
            (
                Refusal::Address(AddressRefusal::Connections { limit: 20, current: 20 }),
                429,
                r#"{"error":"ip_connections_reached","limit":20,"current":20}"#,
                "",
            ),
            (Refusal::Full { limit: 9 }, 503, r#"{"error":"server_full","limit":9}"#, "Retry-After: 5\r\n"),
        ];
        check(&rows);
    }

    #[test]
    fn refusals_of_the_key_say_only_their_code() {
        check(&[
            (Refusal::MissingKey, 401, r#"{"error":"missing_api_key"}"#, ""),
            (Refusal::Key(KeyRefusal::Invalid), 403, r#"{"error":"invalid_api_key"}"#, ""),
            (Refusal::Key(KeyRefusal::Revoked), 403, r#"{"error":"key_revoked"}"#, ""),
            (Refusal::Key(KeyRefusal::Expired), 403, r#"{"error":"key_expired"}"#, ""),
        ]);
    }

    #[test]
    fn codes_index_themselves() {
        for (i, code) in RefusalCode::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, i);
        }
    }
}
