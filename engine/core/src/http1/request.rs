//! A server's view of one HTTP/1.1 request head: where it ends, what it says.
//!
//! Contract: [`HeadReader::poll`] is called with everything received so far after each read and
//! looks at each byte once, so a head that arrives byte by byte costs no more than one that arrives
//! whole. [`RequestHead::parse`] then runs once. Bodies are not read: no request Tocsin serves on
//! this port has one. Owner thread: the accept thread. Allocates only where a query value holds an
//! escape. Fails with [`HeadError`]; no bytes make it panic.

use std::borrow::Cow;

use crate::limits;

/// Why a request head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// Longer than [`limits::HANDSHAKE_HEAD_BYTES`]: 431.
    TooLong,
    /// More than [`limits::HANDSHAKE_HEADERS`] headers: 431.
    TooManyHeaders,
    /// Not an HTTP/1.x request: 400. Says what is wrong.
    Malformed(&'static str),
}

impl HeadError {
    /// The HTTP status of the answer.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            HeadError::TooLong | HeadError::TooManyHeaders => 431,
            HeadError::Malformed(_) => 400,
        }
    }

    /// For the answer's `detail`.
    #[must_use]
    pub const fn detail(self) -> &'static str {
        match self {
            HeadError::TooLong => "request head too long",
            HeadError::TooManyHeaders => "too many headers",
            HeadError::Malformed(detail) => detail,
        }
    }
}

impl core::fmt::Display for HeadError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.detail())
    }
}

impl core::error::Error for HeadError {}

/// Two empty lines may come before a request.
const LEADING_LINE_END_BYTES: usize = 4;

/// Finds the end of a head that is still arriving.
///
/// INVARIANT: no head ends within the first `scanned` bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadReader {
    scanned: usize,
}

impl HeadReader {
    /// Nothing received yet.
    #[must_use]
    pub const fn new() -> HeadReader {
        HeadReader { scanned: 0 }
    }

    /// Length of the head, its empty line included, at the front of `received`; `None` asks for more.
    /// `received` must begin with what the call before it was given.
    ///
    /// # Errors
    /// [`HeadError::TooLong`] once no head within the bound is possible, and
    /// [`HeadError::Malformed`] at once when the first byte cannot begin a request (a TLS hello sent
    /// to a plain port, a stray binary protocol).
    pub fn poll(&mut self, received: &[u8]) -> Result<Option<usize>, HeadError> {
        match received.first() {
            None => return Ok(None),
            Some(b'\r' | b'\n') => {}
            Some(first) if first.is_ascii_alphabetic() => {}
            Some(_) => return Err(HeadError::Malformed("not an HTTP request")),
        }
        // RFC 9112 2.2: a server "SHOULD ignore at least one empty line" before the request.
        let begins = received.iter().position(|b| !matches!(b, b'\r' | b'\n')).unwrap_or(received.len());
        if begins > LEADING_LINE_END_BYTES {
            return Err(HeadError::Malformed("empty lines before the request"));
        }
        let from = self.scanned.max(begins);
        let mut line_ends = memchr::memchr_iter(b'\n', received.get(from..).unwrap_or_default());
        let end = line_ends.find_map(|at| {
            let next = from + at + 1;
            match received.get(next..).unwrap_or_default() {
                [b'\n', ..] => Some(next + 1),
                [b'\r', b'\n', ..] => Some(next + 2),
                _ => None,
            }
        });
        match end {
            Some(end) if end <= limits::HANDSHAKE_HEAD_BYTES => Ok(Some(end)),
            None if received.len() < limits::HANDSHAKE_HEAD_BYTES => {
                // The last two bytes may be the begin of the empty line.
                self.scanned = received.len().saturating_sub(2);
                Ok(None)
            }
            _ => Err(HeadError::TooLong),
        }
    }
}

/// A parsed request head. Borrows the bytes it was read from.
#[derive(Debug)]
pub struct RequestHead<'a> {
    /// `GET`, as sent: methods are case-sensitive.
    pub method: &'a str,
    /// Path as sent, not percent-decoded; `/` when the target has none.
    pub path: &'a str,
    /// What follows the first `?`, not decoded; read it with [`QueryPairs`].
    pub query: Option<&'a str>,
    /// Minor version: 0 or 1.
    pub minor_version: u8,
    headers: [httparse::Header<'a>; limits::HANDSHAKE_HEADERS],
    header_count: usize,
}

impl<'a> RequestHead<'a> {
    /// Parses a whole head, as measured by [`HeadReader::poll`].
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(head: &'a [u8]) -> Result<RequestHead<'a>, HeadError> {
        let mut headers = [httparse::EMPTY_HEADER; limits::HANDSHAKE_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(head) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => return Err(HeadError::Malformed("request head incomplete")),
            Err(error) => return Err(head_error(error)),
        }
        let (Some(method), Some(target), Some(minor_version)) =
            (request.method, request.path, request.version)
        else {
            return Err(HeadError::Malformed("request line incomplete"));
        };
        let header_count = request.headers.len();
        let (path, query) = split_target(target);
        Ok(RequestHead { method, path, query, minor_version, headers, header_count })
    }

    /// All headers in the order sent, names as sent.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.headers.iter().take(self.header_count).map(|h| (h.name, h.value))
    }

    /// Every value of `name` in the order sent, surrounding white space removed.
    pub fn values<'h>(&'h self, name: &'h str) -> impl Iterator<Item = &'a [u8]> + 'h {
        self.headers().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim_ascii())
    }

    /// The first value of `name` if it is UTF-8.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&'a str> {
        self.values(name).next().and_then(|v| core::str::from_utf8(v).ok())
    }

    /// The value of a header that may be sent once only: `None` when it is absent, repeated or not
    /// UTF-8.
    #[must_use]
    pub fn only_value(&self, name: &str) -> Option<&'a str> {
        let mut values = self.values(name);
        let first = values.next()?;
        if values.next().is_some() {
            return None;
        }
        core::str::from_utf8(first).ok()
    }

    /// Whether any value of the comma-separated list header `name` holds `token`, ignoring case.
    #[must_use]
    pub fn list_holds(&self, name: &str, token: &str) -> bool {
        self.values(name)
            .flat_map(|value| value.split(|b| *b == b','))
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }

    /// The query's names and values, decoded.
    #[must_use]
    pub fn query_pairs(&self) -> QueryPairs<'a> {
        QueryPairs::new(self.query.unwrap_or_default())
    }
}

const fn head_error(error: httparse::Error) -> HeadError {
    match error {
        httparse::Error::TooManyHeaders => HeadError::TooManyHeaders,
        httparse::Error::Version => HeadError::Malformed("not HTTP/1.0 or HTTP/1.1"),
        httparse::Error::HeaderName => HeadError::Malformed("bad header name"),
        httparse::Error::HeaderValue => HeadError::Malformed("bad header value"),
        httparse::Error::NewLine => HeadError::Malformed("bad line end"),
        httparse::Error::Token => HeadError::Malformed("bad request line"),
        httparse::Error::Status => HeadError::Malformed("not a request"),
    }
}

/// RFC 9112 3.2: origin-form, and absolute-form, which "a server MUST accept".
fn split_target(target: &str) -> (&str, Option<&str>) {
    let local = match target.split_once("://") {
        Some((scheme, rest)) if !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphabetic()) => {
            rest.find(['/', '?']).and_then(|at| rest.get(at..)).unwrap_or("/")
        }
        _ => target,
    };
    let (path, query) = match local.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (local, None),
    };
    (if path.is_empty() { "/" } else { path }, query)
}

/// Most pairs read out of one query.
const QUERY_PAIRS: usize = 64;

/// Why a query is refused: 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryError {
    /// `%` without two hex digits. An error and not a literal: a mangled filter must not quietly
    /// become another filter.
    BadEscape,
    /// A name or value is not UTF-8 once decoded.
    NotUtf8,
    /// More than 64 pairs.
    TooManyPairs,
}

impl QueryError {
    /// For the answer's `detail`. Holds nothing of the query, which may carry a key.
    #[must_use]
    pub const fn detail(self) -> &'static str {
        match self {
            QueryError::BadEscape => "bad percent escape in query",
            QueryError::NotUtf8 => "query is not UTF-8",
            QueryError::TooManyPairs => "too many query parameters",
        }
    }
}

/// The pairs of a raw query string, percent-decoded, `+` read as a space. Empty pairs (`a&&b`) are
/// passed over; a name without `=` has an empty value. After an error it ends.
#[derive(Clone, Debug)]
pub struct QueryPairs<'a> {
    rest: &'a str,
    left: usize,
}

impl<'a> QueryPairs<'a> {
    /// Over the text after `?`.
    #[must_use]
    pub const fn new(query: &'a str) -> QueryPairs<'a> {
        QueryPairs { rest: query, left: QUERY_PAIRS }
    }

    fn decode_pair(pair: &'a str) -> Result<(Cow<'a, str>, Cow<'a, str>), QueryError> {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((percent_decode(name)?, percent_decode(value)?))
    }
}

impl<'a> Iterator for QueryPairs<'a> {
    type Item = Result<(Cow<'a, str>, Cow<'a, str>), QueryError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let (pair, rest) = self.rest.split_once('&').unwrap_or((self.rest, ""));
            self.rest = rest;
            if pair.is_empty() {
                continue;
            }
            let decoded = match self.left.checked_sub(1) {
                Some(left) => {
                    self.left = left;
                    QueryPairs::decode_pair(pair)
                }
                None => Err(QueryError::TooManyPairs),
            };
            if decoded.is_err() {
                self.rest = "";
            }
            return Some(decoded);
        }
        None
    }
}

/// Decodes `%XX` and `+`; borrows when there is neither.
///
/// # Errors
/// A bad escape, or bytes that are not UTF-8.
pub fn percent_decode(text: &str) -> Result<Cow<'_, str>, QueryError> {
    if !text.bytes().any(|b| b == b'%' || b == b'+') {
        return Ok(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let (Some(high), Some(low)) =
                    (bytes.next().and_then(hex_digit), bytes.next().and_then(hex_digit))
                else {
                    return Err(QueryError::BadEscape);
                };
                high << 4 | low
            }
            other => other,
        });
    }
    String::from_utf8(decoded).map(Cow::Owned).map_err(|_| QueryError::NotUtf8)
}

const fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}
