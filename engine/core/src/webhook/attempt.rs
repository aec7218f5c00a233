//! What one attempt at a delivery came to: the specification's "HTTP Status Codes".
//!
//! Contract: [`Report`] is what a connection saw, [`Verdict`] is what that means for the delivery.
//! A pure function: reads no clock, allocates nothing, fails never. A verdict is final for its
//! attempt: what comes after the response head (an endless body, a second response) changes only
//! whether the connection is used again.

use core::time::Duration;

use super::schedule::Wait;
use crate::http1::response::{ResponseError, ResponseParser, RetryAfter};
use crate::time::WallUs;

/// Why an attempt failed. The names are stable: the delivery log, the API and metrics use them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum FailureClass {
    /// No complete response head in time: "No response in 10s → treated as 5xx".
    Timeout,
    /// The name did not resolve.
    Dns,
    /// The name resolved to an address that may not be called.
    Address,
    /// No connection: refused, unreachable, or not answered in time.
    Connect,
    /// The connection ended before the response head was complete.
    Reset,
    /// TLS failed: no common version or cipher, or a broken handshake.
    Tls,
    /// The certificate has expired or is not yet valid.
    TlsExpired,
    /// The certificate is for another name.
    TlsName,
    /// The certificate leads to no trusted authority.
    TlsUntrusted,
    /// What came is no HTTP/1.1 response head, or is a 101.
    BadResponse,
    /// The response head is longer, or has more lines, than allowed.
    OversizedHead,
    /// A status outside 200 to 599.
    BadStatus,
    /// 3xx: redirects are not followed.
    Redirect,
    /// 401: "Signature mismatch. Still retries."
    Unauthorized,
    /// 408, 421 or 425: the request itself was not judged.
    NotProcessed,
    /// 429.
    RateLimited,
    /// 5xx.
    ServerError,
    /// Another 4xx: "Permanent fail. No retry."
    ClientError,
    /// 410.
    Gone,
}

impl FailureClass {
    /// Every class, in the order of its discriminant.
    pub const ALL: [FailureClass; 19] = [
        FailureClass::Timeout,
        FailureClass::Dns,
        FailureClass::Address,
        FailureClass::Connect,
        FailureClass::Reset,
        FailureClass::Tls,
        FailureClass::TlsExpired,
        FailureClass::TlsName,
        FailureClass::TlsUntrusted,
        FailureClass::BadResponse,
        FailureClass::OversizedHead,
        FailureClass::BadStatus,
        FailureClass::Redirect,
        FailureClass::Unauthorized,
        FailureClass::NotProcessed,
        FailureClass::RateLimited,
        FailureClass::ServerError,
        FailureClass::ClientError,
        FailureClass::Gone,
    ];

    /// The name users see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            FailureClass::Timeout => "timeout",
            FailureClass::Dns => "dns",
            FailureClass::Address => "address",
            FailureClass::Connect => "connect",
            FailureClass::Reset => "reset",
            FailureClass::Tls => "tls",
            FailureClass::TlsExpired => "tls_expired",
            FailureClass::TlsName => "tls_name",
            FailureClass::TlsUntrusted => "tls_untrusted",
            FailureClass::BadResponse => "bad_response",
            FailureClass::OversizedHead => "oversized_head",
            FailureClass::BadStatus => "bad_status",
            FailureClass::Redirect => "redirect",
            FailureClass::Unauthorized => "unauthorized",
            FailureClass::NotProcessed => "not_processed",
            FailureClass::RateLimited => "rate_limited",
            FailureClass::ServerError => "server_error",
            FailureClass::ClientError => "client_error",
            FailureClass::Gone => "gone",
        }
    }

    /// The inverse of [`FailureClass::name`].
    #[must_use]
    pub fn parse(name: &str) -> Option<FailureClass> {
        FailureClass::ALL.into_iter().find(|class| class.name() == name)
    }
}

impl From<ResponseError> for FailureClass {
    /// For a response whose head was never completed; one whose head was is judged by its status.
    fn from(error: ResponseError) -> FailureClass {
        match error {
            ResponseError::HeadTooLarge | ResponseError::TooManyHeaders => FailureClass::OversizedHead,
            ResponseError::ClosedBeforeHead | ResponseError::ClosedInHead | ResponseError::ClosedInBody => {
                FailureClass::Reset
            }
            _ => FailureClass::BadResponse,
        }
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// The head of a final response is complete.
    Answered {
        /// Its status.
        status: u16,
        /// Its `Retry-After`, if that is one; `-1`, `1e309` and other garbage are none.
        retry_after: Option<RetryAfter>,
        /// Its `Date`, if that is one: the clock a `Retry-After` date is read on.
        date: Option<WallUs>,
    },
    /// There is none.
    Failed {
        /// Why.
        class: FailureClass,
        /// The connection had carried an earlier request and ended without a byte of this response:
        /// the receiver had most likely closed it before the request arrived.
        stale_connection: bool,
    },
}

impl Report {
    /// A response with nothing but a status.
    #[must_use]
    pub const fn status(status: u16) -> Report {
        Report::Answered { status, retry_after: None, date: None }
    }

    /// What a response parser has come to: `None` while the head is still expected. A complete head
    /// is an answer whatever is wrong with its framing or body.
    #[must_use]
    pub fn of(parser: &ResponseParser, error: Option<ResponseError>) -> Option<Report> {
        match (parser.head(), parser.status(), error) {
            (Some(head), ..) => {
                Some(Report::Answered { status: head.status, retry_after: head.retry_after, date: head.date })
            }
            (None, Some(status), Some(_)) => Some(Report::status(status)),
            (None, _, Some(error)) => Some(Report::failed(error.into())),
            (None, _, None) => None,
        }
    }

    /// A failure that may not be blamed on a kept connection.
    #[must_use]
    pub const fn failed(class: FailureClass) -> Report {
        Report::Failed { class, stale_connection: false }
    }
}

/// What an attempt means for its delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// 2xx: "Acknowledged. No retry."
    Delivered,
    /// Once more on a fresh connection, in the same attempt and before the same deadline.
    Resend,
    /// Failed; the schedule says when and whether it is tried again.
    Retry {
        /// Why it failed.
        class: FailureClass,
        /// What the failure asks of the wait.
        wait: Wait,
    },
    /// "Permanent fail. No retry." With [`FailureClass::Gone`] the endpoint is asked whether it is.
    Permanent {
        /// Why it failed.
        class: FailureClass,
    },
}

impl Verdict {
    /// Judges a report. `resent` says that this attempt has been resent already; `now` is when the
    /// head was complete.
    #[must_use]
    pub fn of(report: &Report, resent: bool, now: WallUs) -> Verdict {
        match *report {
            Report::Answered { status, retry_after, date } => {
                Verdict::of_status(status, asked(retry_after, date.unwrap_or(now)))
            }
            Report::Failed { class: FailureClass::Reset, stale_connection: true } if !resent => {
                Verdict::Resend
            }
            Report::Failed { class, .. } => Verdict::Retry { class, wait: Wait::Step },
        }
    }

    fn of_status(status: u16, asked: Option<Duration>) -> Verdict {
        let step = |class| Verdict::Retry { class, wait: Wait::Step };
        match status {
            200..=299 => Verdict::Delivered,
            300..=399 => step(FailureClass::Redirect),
            401 => step(FailureClass::Unauthorized),
            408 | 421 | 425 => step(FailureClass::NotProcessed),
            410 => Verdict::Permanent { class: FailureClass::Gone },
            429 => Verdict::Retry {
                class: FailureClass::RateLimited,
                wait: Wait::Doubled { asked: asked.unwrap_or_default() },
            },
            400..=499 => Verdict::Permanent { class: FailureClass::ClientError },
            503 => Verdict::Retry {
                class: FailureClass::ServerError,
                wait: asked.map_or(Wait::Step, |asked| Wait::Held { asked }),
            },
            500..=599 => step(FailureClass::ServerError),
            _ => step(FailureClass::BadStatus),
        }
    }

    /// Why the attempt failed, if it did.
    #[must_use]
    pub const fn class(&self) -> Option<FailureClass> {
        match self {
            Verdict::Delivered | Verdict::Resend => None,
            Verdict::Retry { class, .. } | Verdict::Permanent { class } => Some(*class),
        }
    }
}

/// How long the receiver asked us to wait; an instant that has passed is no wait.
fn asked(retry_after: Option<RetryAfter>, now: WallUs) -> Option<Duration> {
    retry_after.map(|asked| match asked {
        RetryAfter::Seconds(seconds) => Duration::from_secs(seconds),
        RetryAfter::At(at) => Duration::from_micros(u64::try_from(at.micros_since(now)).unwrap_or(0)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::response::{Discard, Method, ResponseLimits};
    use crate::webhook::schedule::wait_after;
    use proptest::prelude::*;

    const NOW: WallUs = WallUs::from_secs(784_111_777); // Sun, 06 Nov 1994 08:49:37 GMT

    fn judge(report: Report) -> Verdict {
        Verdict::of(&report, false, NOW)
    }

    /// The verdict on a whole response as it comes off the wire.
    fn answer(response: &str) -> Verdict {
        let mut parser = ResponseParser::new(ResponseLimits::SOURCE);
        parser.start(Method::Post);
        let end = parser.feed(response.as_bytes(), &mut Discard).and_then(|_| parser.end_of_stream());
        judge(Report::of(&parser, end.err()).expect("a head or an error"))
    }

    fn retry(class: FailureClass) -> Verdict {
        Verdict::Retry { class, wait: Wait::Step }
    }

    #[test]
    fn every_status_of_the_specification() {
        use FailureClass::*;
        let permanent = |class| Verdict::Permanent { class };
        let rows: &[(&[u16], Verdict)] = &[
            (&[200, 201, 202, 204, 206, 226, 299], Verdict::Delivered),
            (&[300, 301, 302, 303, 304, 307, 308, 399], retry(Redirect)),
            (&[401], retry(Unauthorized)),
            (&[408, 421, 425], retry(NotProcessed)),
            (&[410], permanent(Gone)),
            (&[400, 402, 403, 404, 405, 407, 409, 411, 413, 418, 422, 426, 451, 499], permanent(ClientError)),
            (&[500, 501, 502, 503, 504, 520, 599], retry(ServerError)),
            (&[0, 1, 99, 100, 101, 199, 600, 999, 2_000, u16::MAX], retry(BadStatus)),
        ];
        for (statuses, expected) in rows {
            for status in *statuses {
                assert_eq!(judge(Report::status(*status)), *expected, "{status}");
            }
        }
    }

    #[test]
    fn what_comes_off_the_wire() {
        use FailureClass::*;
        let nine = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(9) + "HTTP/1.1 200 OK\r\n\r\n";
        let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "a".repeat(17 * 1_024));
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(100));
        let rows = [
            ("HTTP/1.1 204 No Content\r\n\r\n", Verdict::Delivered),
            ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", Verdict::Delivered),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
                Verdict::Delivered,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
                Verdict::Delivered,
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n", Verdict::Delivered),
            ("HTTP/1.1 500 E\r\nContent-Length: x\r\n\r\n", retry(ServerError)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", retry(Reset)),
            ("HTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 E\r\n\r\nHTTP/1.1 201 C\r\n\r\n", Verdict::Delivered),
            ("HTTP/1.1 302 F\r\nLocation: https://127.0.0.1/\r\n\r\n", retry(Redirect)),
            ("HTTP/1.1 101 Switching Protocols\r\n\r\n", retry(BadResponse)),
            (&nine, retry(BadResponse)),
            ("HTTP/1.1 099 X\r\n\r\n", retry(BadResponse)),
            ("HTTP/1.1 2000 X\r\n\r\n", retry(BadResponse)),
            ("HTTP/1.1 600 X\r\n\r\n", retry(BadStatus)),
            ("HTTP/1.1 200 OK\nX: y\r\n\r\n", retry(BadResponse)),
            ("HTTP/1.1 200 OK\r\nX: \0\r\n\r\n", retry(BadResponse)),
            ("SSH-2.0-x\r\n", retry(BadResponse)),
            (&long, retry(OversizedHead)),
            (&many, retry(OversizedHead)),
        ];
        for (response, expected) in rows {
            assert_eq!(answer(response), expected, "{:.60}", response);
        }
    }

    #[test]
    fn retry_after_in_all_its_forms() {
        // Least wait after the first attempt, whose step is 30 s, on 429, 503 and 500.
        let rows: &[(&str, u64, u64)] = &[
            ("", 60, 30),
            ("0", 60, 30),
            ("45", 60, 45),
            ("120", 120, 60),
            ("7200", 7_200, 60),
            ("86400", 43_200, 60),
            ("18446744073709551615", 43_200, 60),
            ("99999999999999999999999999", 43_200, 60),
            ("-1", 60, 30),
            ("1e309", 60, 30),
            ("1.5", 60, 30),
            ("soon", 60, 30),
            ("Sun, 06 Nov 1994 08:49:27 GMT", 60, 30),
            ("Sun, 06 Nov 1994 08:50:22 GMT", 60, 45),
            ("Sunday, 06-Nov-94 08:51:37 GMT", 120, 60),
            ("Sun Nov  6 09:49:37 1994", 3_600, 60),
            ("Fri, 31 Dec 9999 23:59:59 GMT", 43_200, 60),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 60, 30),
            ("Sun, 99 Nov 1994 08:49:37 GMT", 60, 30),
        ];
        for (value, limited, unavailable) in rows {
            for (status, expected) in [(429, *limited), (503, *unavailable), (500, 30), (401, 30)] {
                let response = format!("HTTP/1.1 {status} X\r\nRetry-After: {value}\r\n\r\n");
                let Verdict::Retry { wait, .. } = answer(&response) else { panic!("{status} is retried") };
                let least = wait_after(1, wait, 0).map(|w| w.as_secs());
                assert_eq!(least, Some(expected), "{status}, {value:?}");
            }
        }
    }

    #[test]
    fn a_retry_after_date_is_read_on_the_receivers_clock() {
        let an_hour_ahead = "HTTP/1.1 429 X\r\nDate: Sun, 06 Nov 1994 09:49:37 GMT\r\n\
                             Retry-After: Sun, 06 Nov 1994 09:54:37 GMT\r\n\r\n";
        let wait = Wait::Doubled { asked: Duration::from_secs(300) };
        assert_eq!(answer(an_hour_ahead), Verdict::Retry { class: FailureClass::RateLimited, wait });
    }

    #[test]
    fn a_kept_connection_that_died_is_tried_afresh_once() {
        let stale = |class| Report::Failed { class, stale_connection: true };
        assert_eq!(judge(stale(FailureClass::Reset)), Verdict::Resend);
        let again = Verdict::of(&stale(FailureClass::Reset), true, NOW);
        assert_eq!(again, retry(FailureClass::Reset));
        for class in FailureClass::ALL.into_iter().filter(|class| *class != FailureClass::Reset) {
            assert_eq!(judge(stale(class)), retry(class), "a timeout is not resent, nor is {class:?}");
        }
        assert_eq!(judge(Report::failed(FailureClass::Reset)), retry(FailureClass::Reset));
    }

    #[test]
    fn class_names_are_distinct_and_read_back() {
        for (index, class) in FailureClass::ALL.into_iter().enumerate() {
            assert_eq!(class as usize, index);
            assert_eq!(FailureClass::parse(class.name()), Some(class));
        }
        assert_eq!(FailureClass::parse("timeouts"), None);
    }

    proptest! {
        /// No status and no Retry-After reaches anything but a verdict, and only 2xx delivers.
        #[test]
        fn only_2xx_delivers(status in any::<u16>(), seconds in any::<u64>(), at in any::<i64>(), date in any::<i64>()) {
            for retry_after in [None, Some(RetryAfter::Seconds(seconds)), Some(RetryAfter::At(WallUs(at)))] {
                let report = Report::Answered { status, retry_after, date: Some(WallUs(date)) };
                let verdict = judge(report);
                prop_assert_eq!(verdict == Verdict::Delivered, (200..300).contains(&status));
                if let Verdict::Retry { wait, .. } = verdict {
                    prop_assert!(wait_after(1, wait, u64::MAX).is_some());
                }
            }
        }
    }
}
