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

/// A method is a token (RFC 9110 5.6.2), which may begin with more than a letter.
const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

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
            Some(first) if is_token_byte(*first) => {}
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
    pub fn headers(&self) -> impl DoubleEndedIterator<Item = (&'a str, &'a [u8])> {
        self.headers.iter().take(self.header_count).map(|h| (h.name, h.value))
    }

    /// Every value of `name` in the order sent, surrounding white space removed.
    pub fn values<'h>(&'h self, name: &'h str) -> impl DoubleEndedIterator<Item = &'a [u8]> + 'h {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEAD: &str = "GET /ws?cex=binance%2Cupbit&frames=text HTTP/1.1\r\nHost: bell.example:9201\r\n\
        Connection: keep-alive, Upgrade\r\nconnection: x\r\nX-API-Key:  dsk_00 \r\n\r\n";

    #[test]
    fn reads_what_a_handshake_needs() {
        let head = RequestHead::parse(HEAD.as_bytes()).unwrap();
        assert_eq!((head.method, head.path, head.minor_version), ("GET", "/ws", 1));
        assert_eq!(head.query, Some("cex=binance%2Cupbit&frames=text"));
        assert_eq!(head.value("x-api-key"), Some("dsk_00"));
        assert_eq!(head.values("CONNECTION").collect::<Vec<_>>(), [&b"keep-alive, Upgrade"[..], b"x"]);
        assert_eq!(head.only_value("Connection"), None);
        assert!(head.list_holds("Connection", "upgrade") && !head.list_holds("Connection", "up"));
        assert_eq!(head.headers().count(), 4);
    }

    #[test]
    fn targets_in_origin_and_absolute_form() {
        let rows = [
            ("/", "/", None),
            ("/ws?a=b?c", "/ws", Some("a=b?c")),
            ("?a=b", "/", Some("a=b")),
            ("ws://bell.example:9201/ws?a=b", "/ws", Some("a=b")),
            ("wss://bell.example?a=b", "/", Some("a=b")),
            ("http://bell.example", "/", None),
            ("/ws?next=http://x/y", "/ws", Some("next=http://x/y")),
            ("*", "*", None),
        ];
        for (target, path, query) in rows {
            assert_eq!(split_target(target), (path, query), "{target}");
        }
    }

    #[test]
    fn the_end_is_found_once_and_within_the_bound() {
        for prefix in ["", "\r\n", "\r\n\r\n"] {
            let text = format!("{prefix}{HEAD}rest");
            let mut reader = HeadReader::new();
            let end = prefix.len() + HEAD.len();
            for upto in 0..end {
                assert_eq!(reader.poll(&text.as_bytes()[..upto]), Ok(None), "{upto}");
            }
            assert_eq!(reader.poll(text.as_bytes()), Ok(Some(end)));
            assert_eq!(HeadReader::new().poll(text.as_bytes()), Ok(Some(end)));
        }
        assert_eq!(HeadReader::new().poll(b"GET / HTTP/1.1\nHost: x\n\nrest"), Ok(Some(24)));
    }

    #[test]
    fn a_head_of_exactly_the_bound_is_read() {
        let start = "GET / HTTP/1.1\r\nA: ";
        for (over, accepted) in [(0, true), (1, false)] {
            let filler = "x".repeat(limits::HANDSHAKE_HEAD_BYTES - start.len() - 4 + over);
            let text = format!("{start}{filler}\r\n\r\n");
            let mut reader = HeadReader::new();
            let mut result = Ok(None);
            for upto in (0..=text.len()).step_by(1_000).chain([text.len()]) {
                result = reader.poll(&text.as_bytes()[..upto]);
                if result != Ok(None) {
                    break;
                }
            }
            let expected =
                if accepted { Ok(Some(limits::HANDSHAKE_HEAD_BYTES)) } else { Err(HeadError::TooLong) };
            assert_eq!(result, expected);
        }
        assert_eq!(HeadReader::new().poll(&[b'G'; limits::HANDSHAKE_HEAD_BYTES]), Err(HeadError::TooLong));
    }

    #[test]
    fn other_protocols_are_refused_at_their_first_byte() {
        for first in [&b"\x16\x03\x01"[..], b"\0", b"\x80", b" GET"] {
            assert_eq!(HeadReader::new().poll(first).map_err(HeadError::status), Err(400));
        }
        assert_eq!(HeadReader::new().poll(b"\r\n\r\n\r\n").map_err(HeadError::status), Err(400));
    }

    #[test]
    fn bad_heads_have_a_status() {
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(limits::HANDSHAKE_HEADERS + 1));
        let most = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(limits::HANDSHAKE_HEADERS));
        assert_eq!(RequestHead::parse(most.as_bytes()).unwrap().headers().count(), limits::HANDSHAKE_HEADERS);
        let rows = [
            (many.as_str(), 431),
            ("GET / HTTP/2.0\r\n\r\n", 400),
            ("GET /\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nbad name: x\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nA: x\x01\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nA: x\r\n folded\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nA: b\r\n", 400),
            ("", 400),
        ];
        for (text, status) in rows {
            let error = RequestHead::parse(text.as_bytes()).map(|_| ()).unwrap_err();
            assert_eq!(error.status(), status, "{text:?}: {error}");
        }
    }

    #[test]
    fn query_pairs_decode_strictly() {
        let all = |query| QueryPairs::new(query).collect::<Result<Vec<_>, _>>();
        let owned = |pairs: &[(&str, &str)]| -> Vec<(Cow<'static, str>, Cow<'static, str>)> {
            pairs.iter().map(|(n, v)| (n.to_string().into(), v.to_string().into())).collect()
        };
        let rows: [(&str, &[(&str, &str)]); 6] = [
            ("", &[]),
            ("&&", &[]),
            ("cex=binance,upbit&cex=okx", &[("cex", "binance,upbit"), ("cex", "okx")]),
            ("a=%EC%9C%84+x%26y&b", &[("a", "위 x&y"), ("b", "")]),
            ("=x&a==", &[("", "x"), ("a", "=")]),
            ("resume=3:12&%63ex=*", &[("resume", "3:12"), ("cex", "*")]),
        ];
        for (query, pairs) in rows {
            assert_eq!(all(query), Ok(owned(pairs)), "{query}");
        }
        for (query, error) in [
            ("a=%", QueryError::BadEscape),
            ("a=%4", QueryError::BadEscape),
            ("a=%zz", QueryError::BadEscape),
            ("%+1=b", QueryError::BadEscape),
            ("a=%FF", QueryError::NotUtf8),
        ] {
            assert_eq!(all(query), Err(error), "{query}");
            assert_eq!(QueryPairs::new(&format!("{query}&b=c")).count(), 1, "ends after an error");
        }
        let (most, more) = ("a=b&".repeat(QUERY_PAIRS), "a=b&".repeat(QUERY_PAIRS + 1));
        assert_eq!(all(&most).unwrap().len(), QUERY_PAIRS);
        assert_eq!(all(&more), Err(QueryError::TooManyPairs));
    }

    #[test]
    fn a_method_may_begin_with_any_token_character() {
        for first in u8::MIN..=u8::MAX {
            let bytes = [&[first][..], HEAD.as_bytes().get(1..).unwrap()].concat();
            let found = HeadReader::new().poll(&bytes);
            let begins = is_token_byte(first) || matches!(first, b'\r' | b'\n');
            assert_eq!(matches!(found, Ok(Some(_))), begins, "{first:#x}");
            assert!(begins || RequestHead::parse(&bytes).is_err(), "{first:#x}: the parser takes it");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_no_split_matters(
            bytes in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..200),
                (any::<proptest::sample::Index>(), any::<u8>()).prop_map(|(at, byte)| {
                    let mut bytes = HEAD.as_bytes().to_vec();
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                    bytes
                }),
            ],
        ) {
            let whole = HeadReader::new().poll(&bytes);
            let mut reader = HeadReader::new();
            let pieces = (0..=bytes.len()).map(|upto| reader.poll(&bytes[..upto])).find(|r| *r != Ok(None));
            prop_assert_eq!(pieces.unwrap_or(Ok(None)), whole);
            if let Ok(head) = RequestHead::parse(&bytes) {
                let _ = head.query_pairs().count();
                // What the parser calls a head, the reader has found as one.
                prop_assert!(matches!(whole, Ok(Some(_))));
            }
        }

        #[test]
        fn decoding_undoes_encoding(text in "\\PC{0,20}") {
            let encoded: String = text.bytes().map(|b| format!("%{b:02x}")).collect();
            prop_assert_eq!(percent_decode(&encoded).unwrap(), text);
        }
    }
}
