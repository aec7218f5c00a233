//! HTTP/1.1 as a server speaks it: reading a request head, writing a response.
//!
//! Contract: a head is at most [`MAX_HEAD_BYTES`] and [`MAX_HEADERS`] fields, a request body at most
//! [`MAX_BODY_BYTES`]; more ends the connection. Blocks on the stream it is given.

use std::borrow::Cow;
use std::io::{self, Read};
use std::sync::Arc;

use serde::Deserialize;
use tocsin_core::time::WallUs;

use crate::clock;

const MAX_HEAD_BYTES: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
const MAX_BODY_BYTES: usize = 64 * 1024;

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    /// `Content-Length`.
    ContentLength,
    /// `Transfer-Encoding: chunked`, in chunks of so many bytes.
    Chunked(usize),
    /// HTTP/1.0: the close of the connection.
    CloseDelimited,
}

/// A request as the simulator saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedRequest {
    /// When its head was complete.
    pub at: WallUs,
    /// Counts connections of this exchange from 1.
    pub connection: u64,
    /// Method.
    pub method: String,
    /// Path and query as sent.
    pub target: String,
    /// Header fields in order, values lossily decoded.
    pub headers: Vec<(String, String)>,
    /// The status it was answered with; 0 when a fault answered without one.
    pub status: u16,
}

impl RecordedRequest {
    /// The first header field of this name, ignoring case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
}

/// A request, read whole.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    /// When its first byte was read.
    pub(crate) began: WallUs,
    /// The head as it came, up to and including the empty line.
    pub(crate) head: Vec<u8>,
    pub(crate) body: Vec<u8>,
    pub(crate) keep_alive: bool,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or("")
    }

    /// A query parameter as sent: the parameters of these exchanges need no decoding.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        query.split('&').filter_map(|pair| pair.split_once('=')).find(|(n, _)| *n == name).map(|(_, v)| v)
    }

    /// A numeric query parameter: `Ok(default)` when absent, `Err(())` when it is no number.
    pub(crate) fn number(&self, name: &str, default: usize) -> Result<usize, ()> {
        self.query(name).map_or(Ok(default), |v| v.parse().map_err(|_| ()))
    }
}

/// Reads requests off one connection, keeping what was read too far.
#[derive(Debug, Default)]
pub(crate) struct RequestReader {
    buffer: Vec<u8>,
    /// When the first byte of what is in the buffer was read.
    began: WallUs,
}

impl RequestReader {
    /// The next request; `None` when the peer closed between two requests.
    ///
    /// # Errors
    /// Whatever the stream says, or `InvalidData` for a request that is malformed or too large.
    pub(crate) fn next(&mut self, stream: &mut impl Read) -> io::Result<Option<Request>> {
        let (mut request, head) = loop {
            if let Some(found) = self.parse()? {
                break found;
            }
            if self.buffer.len() > MAX_HEAD_BYTES {
                return Err(invalid("request head too large"));
            }
            if self.fill(stream)? == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        };
        let length = match request.header("content-length") {
            None => 0,
            Some(text) => text.parse().map_err(|_| invalid("bad Content-Length"))?,
        };
        if length > MAX_BODY_BYTES {
            return Err(invalid("request body too large"));
        }
        while self.buffer.len() < head + length {
            if self.fill(stream)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        request.head = self.buffer.drain(..head).collect();
        request.body = self.buffer.drain(..length).collect();
        request.began = self.began;
        Ok(Some(request))
    }

    /// Whether bytes after the last request have been read.
    pub(crate) const fn has_more(&self) -> bool {
        !self.buffer.is_empty()
    }

    fn fill(&mut self, stream: &mut impl Read) -> io::Result<usize> {
        let mut block = [0; 4096];
        let read = stream.read(&mut block)?;
        if self.buffer.is_empty() {
            self.began = clock::wall_now();
        }
        self.buffer.extend(block.iter().take(read));
        Ok(read)
    }

    fn parse(&self) -> io::Result<Option<(Request, usize)>> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut head = httparse::Request::new(&mut fields);
        let length = match head.parse(&self.buffer) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(e) => return Err(invalid(&e.to_string())),
        };
        let headers: Vec<(String, String)> = head
            .headers
            .iter()
            .map(|h| (h.name.to_owned(), String::from_utf8_lossy(h.value).into_owned()))
            .collect();
        let close = find(&headers, "connection").is_some_and(|v| v.to_ascii_lowercase().contains("close"));
        let request = Request {
            method: head.method.unwrap_or("").to_owned(),
            target: head.path.unwrap_or("").to_owned(),
            keep_alive: head.version == Some(1) && !close,
            headers,
            began: WallUs(0),
            head: Vec::new(),
            body: Vec::new(),
        };
        Ok(Some((request, length)))
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// A response before it is framed.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(Cow<'static, str>, String)>,
    pub(crate) body: Arc<[u8]>,
}

impl Response {
    /// A JSON response.
    pub(crate) fn json(status: u16, body: impl Into<Arc<[u8]>>) -> Response {
        Response {
            status,
            headers: vec![("Content-Type".into(), "application/json;charset=UTF-8".to_owned())],
            body: body.into(),
        }
    }

    /// The same with one more header field.
    pub(crate) fn with(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Response {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The head as bytes, up to and including the empty line.
    pub(crate) fn head(&self, framing: Framing, declared: u64, close: bool) -> Vec<u8> {
        let version = if framing == Framing::CloseDelimited { "1.0" } else { "1.1" };
        let mut head = format!("HTTP/{version} {} {}\r\n", self.status, reason(self.status));
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("date")) {
            head.push_str(&format!("Date: {}\r\n", clock::http_date(clock::wall_now())));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.is_bodiless() {
            match framing {
                Framing::ContentLength => head.push_str(&format!("Content-Length: {declared}\r\n")),
                Framing::Chunked(_) => head.push_str("Transfer-Encoding: chunked\r\n"),
                Framing::CloseDelimited => {}
            }
        }
        head.push_str(if close { "Connection: close\r\n\r\n" } else { "Connection: keep-alive\r\n\r\n" });
        head.into_bytes()
    }

    /// 204 and 304 end with their head, and do not say how long they are.
    const fn is_bodiless(&self) -> bool {
        matches!(self.status, 204 | 304)
    }

    /// The body as it goes on the wire.
    pub(crate) fn framed_body(&self, framing: Framing) -> Vec<u8> {
        if self.is_bodiless() {
            return Vec::new();
        }
        let Framing::Chunked(size) = framing else { return self.body.to_vec() };
        let mut out = Vec::with_capacity(self.body.len() + 64);
        for chunk in self.body.chunks(size.max(1)) {
            out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            out.extend_from_slice(chunk);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"0\r\n\r\n");
        out
    }
}

const fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        410 => "Gone",
        418 => "I'm a teapot",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        425 => "Too Early",
        429 => "Too Many Requests",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Unknown",
    }
}

/// `body` as a gzip member of stored blocks (RFC 1952, RFC 1951 section 3.2.4): valid, not smaller.
pub(crate) fn gzip_stored(body: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    let mut blocks = body.chunks(0xffff).peekable();
    if blocks.peek().is_none() {
        out.extend_from_slice(&[1, 0, 0, 0xff, 0xff]);
    }
    while let Some(block) = blocks.next() {
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        out.push(u8::from(blocks.peek().is_none()));
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
    }
    let crc = !body.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| (c >> 1) ^ (0xedb8_8320 & (0_u32.wrapping_sub(c & 1))))
    });
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_one_after_another() {
        let mut bytes: &[u8] =
            b"GET /a?x=1&y=z HTTP/1.1\r\nHost: h\r\n\r\nPOST /b HTTP/1.1\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";
        let mut reader = RequestReader::default();
        let first = reader.next(&mut bytes).unwrap().unwrap();
        assert_eq!((first.path(), first.query("y"), first.number("x", 9)), ("/a", Some("z"), Ok(1)));
        assert!(first.keep_alive && first.body.is_empty());
        let second = reader.next(&mut bytes).unwrap().unwrap();
        assert_eq!((second.body.as_slice(), second.keep_alive), (b"hi".as_slice(), false));
        assert!(reader.next(&mut bytes).unwrap().is_none());
    }

    #[test]
    fn bad_requests_are_refused() {
        for bad in [
            b"\0\0\0\0\r\n\r\n".to_vec(),
            b"GET / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n".to_vec(),
            b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n".to_vec(),
            b"GET / HT".to_vec(),
            [b"GET / HTTP/1.1\r\nA: ".to_vec(), vec![b'a'; MAX_HEAD_BYTES * 2]].concat(),
        ] {
            assert!(RequestReader::default().next(&mut bad.as_slice()).is_err());
        }
    }

    #[test]
    fn chunks_join_to_the_body() {
        let response = Response::json(200, *b"hello world");
        assert_eq!(response.framed_body(Framing::Chunked(8)), b"8\r\nhello wo\r\n3\r\nrld\r\n0\r\n\r\n");
        assert_eq!(response.framed_body(Framing::ContentLength), b"hello world");
        let head = String::from_utf8(response.head(Framing::CloseDelimited, 11, true)).unwrap();
        assert!(head.starts_with("HTTP/1.0 200 OK\r\n") && !head.contains("Content-Length"));
    }

    #[test]
    fn gzip_has_the_known_checksum() {
        let packed = gzip_stored(b"123456789");
        assert_eq!(&packed[packed.len() - 8..], &[0x26, 0x39, 0xf4, 0xcb, 9, 0, 0, 0]);
    }
}
