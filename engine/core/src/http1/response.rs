//! Client side of HTTP/1.1: one response after another out of the bytes of a connection.
//!
//! Contract: sans-I/O. [`ResponseParser::start`] names the request, [`ResponseParser::feed`] takes bytes
//! in any split and tells when the response is complete, [`ResponseParser::end_of_stream`] tells what a
//! closed connection means. The head is kept in a reused buffer, scanned once and parsed once, so byte
//! by byte costs no more than at once; the body goes to a [`BodySink`] of the caller. Nothing is
//! allocated in steady state. Every fault of the peer is a [`ResponseError`]; after one the connection
//! must be closed, for its framing is lost.
//!
//! Stricter than RFC 9112 asks where leniency enables smuggling: line ends are CRLF only, no NUL, no
//! folding, `Content-Length` beside `Transfer-Encoding` is refused, `chunked` is the one coding known,
//! and a `Content-Length` said twice, equal or not, is the last thing its connection carries.

use super::chunked::Chunked;
use super::date;
use crate::limits;
use crate::time::WallUs;

/// Most headers any [`ResponseLimits`] may allow: the parse table is on the stack.
const HEADERS_AT_MOST: usize = limits::RESPONSE_HEADERS;

/// What a caller accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseLimits {
    /// Longest head, status line to empty line.
    pub head_bytes: usize,
    /// Most header lines; more than [`limits::RESPONSE_HEADERS`] counts as that.
    pub headers: usize,
    /// Longest body.
    pub body_bytes: u64,
}

impl ResponseLimits {
    /// For answers of exchanges.
    pub const SOURCE: ResponseLimits = ResponseLimits {
        head_bytes: limits::RESPONSE_HEAD_BYTES,
        headers: limits::RESPONSE_HEADERS,
        body_bytes: limits::RESPONSE_BODY_BYTES as u64,
    };

    /// For lists of instruments and tickers.
    pub const MARKET: ResponseLimits =
        ResponseLimits { body_bytes: limits::MARKET_BODY_BYTES as u64, ..ResponseLimits::SOURCE };

    /// For answers of webhook receivers: whatever their bodies say, nobody reads them.
    pub const WEBHOOK: ResponseLimits = ResponseLimits {
        head_bytes: limits::WEBHOOK_HEAD_BYTES,
        headers: limits::WEBHOOK_HEADERS,
        body_bytes: limits::WEBHOOK_DRAIN_BYTES as u64,
    };
}

/// Where a body goes. The parser has already bounded it.
pub trait BodySink {
    /// The body will have this many bytes.
    fn expect(&mut self, bytes: usize) {
        let _ = bytes;
    }
    /// The next bytes of the body.
    fn push(&mut self, bytes: &[u8]);
}

/// Collects; the owner clears it before the next response.
impl BodySink for Vec<u8> {
    fn expect(&mut self, bytes: usize) {
        self.reserve(bytes);
    }
    fn push(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Reads a body only to get past it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Discard;

impl BodySink for Discard {
    fn push(&mut self, _: &[u8]) {}
}

/// What the response answers: it decides whether there is a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `GET`
    Get,
    /// `HEAD`: the answer has no body whatever its headers say.
    Head,
    /// `POST`
    Post,
}

/// What is wrong with a response. The connection cannot be used further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseError {
    /// The head is longer than allowed.
    HeadTooLarge,
    /// More header lines than allowed.
    TooManyHeaders,
    /// A line ends in LF without CR.
    BareLf,
    /// A NUL byte where text is expected.
    Nul,
    /// Not `HTTP/1.0` or `HTTP/1.1` with a three-digit status.
    BadStatusLine,
    /// A header line is malformed.
    BadHeader,
    /// 101, which nobody asked for.
    SwitchingProtocols,
    /// More interim (1xx) responses than [`limits::RESPONSE_INTERIM`].
    TooManyInterim,
    /// Both `Content-Length` and `Transfer-Encoding`.
    LengthAndTransferEncoding,
    /// Two `Content-Length` that differ.
    DifferingLengths,
    /// `Content-Length` is no number, or too large for one.
    BadLength,
    /// A transfer coding other than `chunked`, or any in HTTP/1.0.
    UnsupportedTransferEncoding,
    /// A chunk size is malformed.
    BadChunkSize,
    /// Chunk data or a line is not ended as it must be.
    BadChunkEnd,
    /// Chunk extensions and trailers exceed [`limits::RESPONSE_CHUNK_EXTRA_BYTES`].
    ChunkExtrasTooLong,
    /// The body is longer than allowed, or says it will be.
    BodyTooLarge,
    /// Bytes arrived with no request outstanding.
    Unsolicited,
    /// Closed before the first byte of the response: a kept-alive connection the server gave up.
    ClosedBeforeHead,
    /// Closed within the head.
    ClosedInHead,
    /// Closed before the body was complete.
    ClosedInBody,
}

/// Answer to [`ResponseParser::feed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All input was taken; the response goes on.
    NeedMore,
    /// The response ended after this many bytes of the input. Bytes beyond it are unsolicited: close.
    Complete {
        /// Bytes of the input that belong to the response.
        consumed: usize,
    },
}

/// `Retry-After`, RFC 9110 10.2.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    /// Seconds from receipt.
    Seconds(u64),
    /// An instant, in the server's time.
    At(WallUs),
}

/// The head of a final response, as far as Tocsin looks at it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Status code, 200..=999.
    pub status: u16,
    /// The connection may carry another request.
    pub keep_alive: bool,
    /// `Content-Length`, where given (on 304 and to HEAD it describes another answer's body).
    pub content_length: Option<u64>,
    /// `Content-Encoding` other than `identity`: the body is not the text it stands for.
    pub encoded: bool,
    /// `Retry-After`.
    pub retry_after: Option<RetryAfter>,
    /// `Date`: the server's clock, in whole seconds.
    pub date: Option<WallUs>,
    /// `Age` in seconds: how long a cache has kept this answer.
    pub age_secs: Option<u64>,
    /// `Keep-Alive: timeout=`, seconds the server keeps an idle connection.
    pub idle_timeout_secs: Option<u64>,
    /// `Keep-Alive: max=`, requests the server still takes on this connection.
    pub requests_left: Option<u64>,
    etag: Option<(usize, usize)>,
}

#[derive(Clone, Debug)]
enum State {
    Idle,
    Head,
    Sized { remaining: u64 },
    Chunked(Chunked),
    UntilClose,
    Complete,
    Failed(ResponseError),
}

/// Parser of the responses of one connection, one at a time.
#[derive(Clone, Debug)]
pub struct ResponseParser {
    limits: ResponseLimits,
    method: Method,
    state: State,
    /// The head so far, kept until the next [`ResponseParser::start`].
    head_bytes: Vec<u8>,
    /// INVARIANT: `line_start <= head_bytes.len()`; bytes before it are whole lines, each checked to end in CRLF.
    line_start: usize,
    interim: u8,
    /// What the body may still grow by.
    room: u64,
    /// Of a final response, from its status line on; 0 before.
    status: u16,
    head: Head,
}

impl ResponseParser {
    /// A parser with its head buffer allocated.
    #[must_use]
    pub fn new(limits: ResponseLimits) -> ResponseParser {
        ResponseParser {
            limits,
            method: Method::Get,
            state: State::Idle,
            head_bytes: Vec::with_capacity(limits.head_bytes),
            line_start: 0,
            interim: 0,
            room: limits.body_bytes,
            status: 0,
            head: Head::default(),
        }
    }

    /// A request was sent: the next bytes are its response. Forgets the response before.
    pub fn start(&mut self, method: Method) {
        self.method = method;
        self.state = State::Head;
        self.head_bytes.clear();
        self.line_start = 0;
        self.interim = 0;
        self.room = self.limits.body_bytes;
        self.status = 0;
        self.head = Head::default();
    }

    /// Takes the next bytes of the connection.
    ///
    /// # Errors
    /// What is wrong with the response; every later call says the same until [`ResponseParser::start`].
    pub fn feed(&mut self, input: &[u8], body: &mut impl BodySink) -> Result<Progress, ResponseError> {
        let result = self.advance(input, body);
        if let Err(error) = result {
            self.state = State::Failed(error);
        }
        result
    }

    /// The peer closed its side.
    ///
    /// # Errors
    /// When the response was not complete. `Ok` completes one that ends with the connection.
    pub fn end_of_stream(&mut self) -> Result<(), ResponseError> {
        let error = match &self.state {
            State::Idle | State::Complete => return Ok(()),
            State::UntilClose => {
                self.state = State::Complete;
                return Ok(());
            }
            State::Failed(error) => *error,
            State::Head if self.head_bytes.is_empty() && self.interim == 0 => ResponseError::ClosedBeforeHead,
            State::Head => ResponseError::ClosedInHead,
            State::Sized { .. } | State::Chunked(_) => ResponseError::ClosedInBody,
        };
        self.state = State::Failed(error);
        Err(error)
    }

    /// The status of the final response, once its head is complete and each line of it well formed:
    /// also where its framing headers are at fault, for that spoils the connection and not the answer.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        (self.status != 0).then_some(self.status)
    }

    /// The head of the final response, once it has been read.
    #[must_use]
    pub fn head(&self) -> Option<&Head> {
        (self.head.status != 0).then_some(&self.head)
    }

    /// The entity tag as sent, quotes and `W/` included: what `If-None-Match` repeats.
    #[must_use]
    pub fn etag(&self) -> Option<&[u8]> {
        let (from, to) = self.head.etag?;
        self.head_bytes.get(from..to)
    }

    /// The first value of any header of the final response. Parses the kept head anew: not for the hot
    /// path, but for saying why an answer was late (`X-Cache`, `CF-Cache-Status`).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.head()?;
        let mut table = [httparse::EMPTY_HEADER; HEADERS_AT_MOST];
        let mut response = httparse::Response::new(&mut table);
        response.parse(&self.head_bytes).ok()?;
        response.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value)
    }

    /// Whether any byte of the response has arrived.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        !self.head_bytes.is_empty() || self.interim > 0
    }

    fn advance(&mut self, input: &[u8], body: &mut impl BodySink) -> Result<Progress, ResponseError> {
        let mut rest = input;
        loop {
            match &mut self.state {
                State::Failed(error) => return Err(*error),
                State::Idle if !rest.is_empty() => return Err(ResponseError::Unsolicited),
                State::Idle => return Ok(Progress::NeedMore),
                State::Complete => return Ok(Progress::Complete { consumed: input.len() - rest.len() }),
                State::Head => {
                    let (taken, ended) = self.take_head(rest)?;
                    rest = rest.get(taken..).unwrap_or_default();
                    if !ended {
                        return Ok(Progress::NeedMore);
                    }
                    self.state = self.head_ended(body)?;
                }
                State::Sized { remaining } => {
                    let take = rest.len().min(usize::try_from(*remaining).unwrap_or(usize::MAX));
                    let (data, after) = rest.split_at(take);
                    body.push(data);
                    rest = after;
                    *remaining -= take as u64;
                    if *remaining > 0 {
                        return Ok(Progress::NeedMore);
                    }
                    self.state = State::Complete;
                }
                State::Chunked(chunked) => {
                    let taken = chunked.feed(rest, &mut self.room, body)?;
                    rest = rest.get(taken..).unwrap_or_default();
                    if !chunked.is_done() {
                        return Ok(Progress::NeedMore);
                    }
                    self.state = State::Complete;
                }
                State::UntilClose => {
                    self.room =
                        self.room.checked_sub(rest.len() as u64).ok_or(ResponseError::BodyTooLarge)?;
                    body.push(rest);
                    return Ok(Progress::NeedMore);
                }
            }
        }
    }

    /// Adds lines of `input` to the head, up to and including the empty line; returns how many bytes
    /// were taken and whether the head is complete.
    fn take_head(&mut self, input: &[u8]) -> Result<(usize, bool), ResponseError> {
        let mut taken = 0;
        while let Some(rest) = input.get(taken..).filter(|r| !r.is_empty()) {
            let (line, ended) = match memchr::memchr(b'\n', rest) {
                Some(at) => (rest.get(..=at).unwrap_or(rest), true),
                None => (rest, false),
            };
            if memchr::memchr(0, line).is_some() {
                return Err(ResponseError::Nul);
            }
            if line.len() > self.limits.head_bytes.saturating_sub(self.head_bytes.len()) {
                return Err(ResponseError::HeadTooLarge);
            }
            self.head_bytes.extend_from_slice(line);
            taken += line.len();
            // Told at once, not when a line end happens to come: what is no HTTP may never send one.
            if self.line_start == 0 && !b"HTTP/1.".iter().zip(&self.head_bytes).all(|(a, b)| a == b) {
                return Err(ResponseError::BadStatusLine);
            }
            if !ended {
                break;
            }
            let whole = self.head_bytes.get(self.line_start..).unwrap_or_default();
            if !whole.ends_with(b"\r\n") {
                return Err(ResponseError::BareLf);
            }
            let empty = whole.len() == 2;
            if empty && self.line_start == 0 {
                return Err(ResponseError::BadStatusLine);
            }
            self.line_start = self.head_bytes.len();
            if empty {
                return Ok((taken, true));
            }
        }
        Ok((taken, false))
    }

    fn head_ended(&mut self, body: &mut impl BodySink) -> Result<State, ResponseError> {
        let framing = self.parse_head()?;
        Ok(match framing {
            Framing::Interim => {
                self.interim += 1;
                if self.interim > limits::RESPONSE_INTERIM {
                    return Err(ResponseError::TooManyInterim);
                }
                self.head_bytes.clear();
                self.line_start = 0;
                State::Head
            }
            Framing::None | Framing::Sized(0) => State::Complete,
            Framing::Sized(bytes) if bytes > self.room => return Err(ResponseError::BodyTooLarge),
            Framing::Sized(bytes) => {
                body.expect(usize::try_from(bytes).unwrap_or(0));
                State::Sized { remaining: bytes }
            }
            Framing::Chunked => State::Chunked(Chunked::new()),
            Framing::UntilClose => State::UntilClose,
        })
    }

    fn parse_head(&mut self) -> Result<Framing, ResponseError> {
        let mut table = [httparse::EMPTY_HEADER; HEADERS_AT_MOST];
        let allowed = table.get_mut(..self.limits.headers.min(HEADERS_AT_MOST)).unwrap_or_default();
        let mut response = httparse::Response::new(allowed);
        match response.parse(&self.head_bytes) {
            Ok(httparse::Status::Complete(_)) => {}
            Err(httparse::Error::TooManyHeaders) => return Err(ResponseError::TooManyHeaders),
            Err(httparse::Error::Version | httparse::Error::Status) => {
                return Err(ResponseError::BadStatusLine);
            }
            Ok(httparse::Status::Partial) | Err(_) => return Err(ResponseError::BadHeader),
        }
        let status = response.code.filter(|c| *c >= 100).ok_or(ResponseError::BadStatusLine)?;
        if status == 101 {
            return Err(ResponseError::SwitchingProtocols);
        }
        if status < 200 {
            return Ok(Framing::Interim);
        }
        self.status = status;
        let old = response.version == Some(0);
        let mut fields = Fields::default();
        let mut head = Head { status, ..Head::default() };
        for header in response.headers.iter() {
            fields.read(header, &mut head, &self.head_bytes)?;
        }
        let persists = if old { fields.says_keep_alive && !fields.says_close } else { !fields.says_close };
        head.keep_alive = persists && !fields.length_repeated;
        let framing = fields.framing(status, old, self.method, head.content_length)?;
        if framing == Framing::UntilClose {
            head.keep_alive = false;
        }
        self.head = head;
        Ok(framing)
    }
}

/// How the body ends, RFC 9112 6.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Interim,
    None,
    Sized(u64),
    Chunked,
    UntilClose,
}

/// What the headers say that only matters while the head is read.
#[derive(Default)]
struct Fields {
    says_close: bool,
    says_keep_alive: bool,
    chunked: bool,
    /// More than one length, all equal: the answer stands, but who wrote it twice may mean it twice.
    length_repeated: bool,
}

impl Fields {
    fn read(
        &mut self,
        header: &httparse::Header<'_>,
        head: &mut Head,
        kept: &[u8],
    ) -> Result<(), ResponseError> {
        let name = header.name;
        let value = header.value;
        if name.eq_ignore_ascii_case("content-length") {
            for part in value.split(|b| *b == b',') {
                let length = decimal(part.trim_ascii()).ok_or(ResponseError::BadLength)?;
                if head.content_length.is_some_and(|known| known != length) {
                    return Err(ResponseError::DifferingLengths);
                }
                self.length_repeated |= head.content_length.is_some();
                head.content_length = Some(length);
            }
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            if self.chunked || !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                return Err(ResponseError::UnsupportedTransferEncoding);
            }
            self.chunked = true;
        } else if name.eq_ignore_ascii_case("connection") {
            for token in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
                self.says_close |= token.eq_ignore_ascii_case(b"close");
                self.says_keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
            }
        } else if name.eq_ignore_ascii_case("keep-alive") {
            for part in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
                let parameter = |key: &[u8]| part.strip_prefix(key).and_then(decimal);
                head.idle_timeout_secs = parameter(b"timeout=").or(head.idle_timeout_secs);
                head.requests_left = parameter(b"max=").or(head.requests_left);
            }
        } else if name.eq_ignore_ascii_case("etag") {
            head.etag = etag_range(value, kept);
        } else if name.eq_ignore_ascii_case("retry-after") {
            head.retry_after = retry_after(value.trim_ascii());
        } else if name.eq_ignore_ascii_case("date") {
            head.date = date::parse(value).map(WallUs::from_secs);
        } else if name.eq_ignore_ascii_case("age") {
            head.age_secs = decimal(value.trim_ascii());
        } else if name.eq_ignore_ascii_case("content-encoding") {
            head.encoded |= !value.trim_ascii().eq_ignore_ascii_case(b"identity") && !value.is_empty();
        }
        Ok(())
    }

    fn framing(
        &self,
        status: u16,
        old: bool,
        method: Method,
        length: Option<u64>,
    ) -> Result<Framing, ResponseError> {
        if self.chunked && length.is_some() {
            return Err(ResponseError::LengthAndTransferEncoding);
        }
        if self.chunked && old {
            return Err(ResponseError::UnsupportedTransferEncoding);
        }
        Ok(match length {
            _ if method == Method::Head || matches!(status, 204 | 304) => Framing::None,
            _ if self.chunked => Framing::Chunked,
            Some(bytes) => Framing::Sized(bytes),
            None => Framing::UntilClose,
        })
    }
}

/// Where an acceptable entity tag stands in the kept head. One that is too long, or not of the shape
/// `"..."` or `W/"..."`, is not repeated to the server.
fn etag_range(value: &[u8], kept: &[u8]) -> Option<(usize, usize)> {
    let opaque = value.strip_prefix(b"W/").unwrap_or(value);
    let well_formed = opaque.len() >= 2 && opaque.starts_with(b"\"") && opaque.ends_with(b"\"");
    if !well_formed || value.len() > limits::ETAG_BYTES {
        return None;
    }
    let from = (value.as_ptr() as usize).checked_sub(kept.as_ptr() as usize)?;
    Some((from, from + value.len()))
}

fn retry_after(value: &[u8]) -> Option<RetryAfter> {
    if !value.is_empty() && value.iter().all(u8::is_ascii_digit) {
        return Some(RetryAfter::Seconds(decimal(value).unwrap_or(u64::MAX)));
    }
    date::parse(value).map(|secs| RetryAfter::At(WallUs::from_secs(secs)))
}

/// Digits only, no sign, no white space; `None` past `u64`.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |n, d| {
        d.is_ascii_digit().then_some(())?;
        n.checked_mul(10)?.checked_add(u64::from(d - b'0'))
    })
}

#[cfg(test)]
#[path = "response_tests.rs"]
mod tests;
