//! The opening handshake, RFC 6455 section 4, for both roles.
//!
//! Contract: decisions over a parsed head and bytes to send. Paths, keys and limits are admission's;
//! the nonce comes in as an argument. Allocates only when a caller's `Vec` has to grow. Fails with
//! [`Refusal`] (server) or [`ReplyError`] (client).

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use ring::digest;

use crate::http1::request::RequestHead;
use crate::limits;

/// RFC 6455 1.3.
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// RFC 6455 4.1: "a nonce consisting of a randomly selected 16-byte value".
pub const NONCE_BYTES: usize = 16;

/// Clients that draw 24 characters of base64 instead of 16 bytes leave stray bits at the end; the key
/// is only ever echoed through SHA-1, so they do no harm.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// The value of `Sec-WebSocket-Accept`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptKey([u8; 28]);

impl AcceptKey {
    /// RFC 6455 4.2.2: the key as sent and the GUID, SHA-1, base64. No secret is protected by it.
    #[must_use]
    pub fn derive(key: &str) -> AcceptKey {
        let mut sha1 = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
        sha1.update(key.as_bytes());
        sha1.update(ACCEPT_GUID);
        let mut text = [0; 28];
        // 20 bytes of SHA-1 make exactly 28 characters, so this cannot run out of room.
        let _ = STANDARD.encode_slice(sha1.finish(), &mut text);
        AcceptKey(text)
    }

    /// 28 ASCII characters.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Why an upgrade is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 405, with `Allow: GET`.
    Method,
    /// 426, with `Sec-WebSocket-Version: 13`.
    Version,
    /// 400; says what is wrong.
    Malformed(&'static str),
}

impl Refusal {
    /// The HTTP status of the answer.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Refusal::Method => 405,
            Refusal::Version => 426,
            Refusal::Malformed(_) => 400,
        }
    }

    /// For the answer's `detail`.
    #[must_use]
    pub const fn detail(self) -> &'static str {
        match self {
            Refusal::Method => "method is not GET",
            Refusal::Version => "Sec-WebSocket-Version is not 13",
            Refusal::Malformed(detail) => detail,
        }
    }

    /// The header the answer must carry.
    #[must_use]
    pub const fn header(self) -> Option<(&'static str, &'static str)> {
        match self {
            Refusal::Method => Some(("Allow", "GET")),
            Refusal::Version => Some(("Sec-WebSocket-Version", "13")),
            Refusal::Malformed(_) => None,
        }
    }
}

/// Judges a request by RFC 6455 4.2.1, whatever its path.
///
/// # Errors
/// The answer to give instead of 101.
pub fn check_upgrade(head: &RequestHead<'_>) -> Result<AcceptKey, Refusal> {
    if head.method != "GET" {
        return Err(Refusal::Method);
    }
    if head.minor_version < 1 {
        return Err(Refusal::Malformed("HTTP/1.1 or higher is needed"));
    }
    if head.only_value("Host").is_none() {
        return Err(Refusal::Malformed("one Host header is needed"));
    }
    if !head.list_holds("Upgrade", "websocket") {
        return Err(Refusal::Malformed("Upgrade is not websocket"));
    }
    if !head.list_holds("Connection", "upgrade") {
        return Err(Refusal::Malformed("Connection is not upgrade"));
    }
    match head.only_value("Sec-WebSocket-Version") {
        Some("13") => {}
        Some(_) => return Err(Refusal::Version),
        None => return Err(Refusal::Malformed("one Sec-WebSocket-Version header is needed")),
    }
    let Some(key) = head.only_value("Sec-WebSocket-Key") else {
        return Err(Refusal::Malformed("one Sec-WebSocket-Key header is needed"));
    };
    let mut nonce = [0; NONCE_BYTES + 2];
    match LENIENT.decode_slice(key, &mut nonce) {
        Ok(NONCE_BYTES) => Ok(AcceptKey::derive(key)),
        _ => Err(Refusal::Malformed("Sec-WebSocket-Key is not 16 bytes of base64")),
    }
}

/// Appends the 101 response. No extension and no subprotocol is ever agreed to.
pub fn write_switching_protocols(out: &mut Vec<u8>, accept: &AcceptKey) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
    );
    out.extend_from_slice(accept.as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
}

/// What a client asks for.
#[derive(Clone, Copy, Debug)]
pub struct UpgradeRequest<'a> {
    /// Host and, unless it is the scheme's own, port.
    pub host: &'a str,
    /// Path and query, begins with `/`.
    pub target: &'a str,
    /// Fresh and random for each connection.
    pub nonce: [u8; NONCE_BYTES],
    /// Further headers.
    pub headers: &'a [(&'a str, &'a str)],
}

/// A header or target given by the caller holds a line end or another control character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAHeader;

/// Appends a client's request.
///
/// # Errors
/// [`NotAHeader`] when a text would break out of its line; nothing is appended then.
pub fn write_request(out: &mut Vec<u8>, request: &UpgradeRequest<'_>) -> Result<(), NotAHeader> {
    let texts = request.headers.iter().flat_map(|(name, value)| [*name, *value]);
    let one_word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    if texts.into_iter().any(|text| text.bytes().any(|b| b.is_ascii_control()))
        || !one_word(request.target)
        || !one_word(request.host)
    {
        return Err(NotAHeader);
    }
    let key = encode_nonce(&request.nonce);
    for part in [
        b"GET ".as_slice(),
        request.target.as_bytes(),
        b" HTTP/1.1\r\nHost: ",
        request.host.as_bytes(),
        b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ",
        key.as_bytes(),
        b"\r\n",
    ] {
        out.extend_from_slice(part);
    }
    for (name, value) in request.headers {
        for part in [name, ": ", value, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

fn encode_nonce(nonce: &[u8; NONCE_BYTES]) -> String {
    STANDARD.encode(nonce)
}

/// A server's answer to an upgrade request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The connection is a WebSocket; frames begin `head_bytes` into the answer.
    Open {
        /// Length of the answer's head.
        head_bytes: usize,
    },
    /// Refused; the body begins `head_bytes` into the answer.
    Refused {
        /// The HTTP status.
        status: u16,
        /// `Retry-After` in seconds, when given as a number.
        retry_after_secs: Option<u32>,
        /// `Content-Length`, when given.
        body_bytes: Option<usize>,
        /// Length of the answer's head.
        head_bytes: usize,
    },
}

/// An answer that is neither an upgrade nor a clean refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyError {
    /// Not HTTP/1.x, too long, or too many headers.
    NotHttp,
    /// 101 without the headers that RFC 6455 4.1 asks for, or with ones it forbids. Says which.
    BadUpgrade(&'static str),
}

impl core::fmt::Display for ReplyError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            ReplyError::NotHttp => f.write_str("the answer is not HTTP/1.1"),
            ReplyError::BadUpgrade(what) => write!(f, "the answer is no WebSocket upgrade: {what}"),
        }
    }
}

impl core::error::Error for ReplyError {}

/// Reads the answer to a request sent with `nonce` from everything received so far; `None` asks for
/// more.
///
/// # Errors
/// The connection is of no use.
pub fn read_reply(received: &[u8], nonce: &[u8; NONCE_BYTES]) -> Result<Option<Reply>, ReplyError> {
    let mut headers = [httparse::EMPTY_HEADER; limits::RESPONSE_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let head_bytes = match response.parse(received) {
        Ok(httparse::Status::Complete(length)) if length <= limits::RESPONSE_HEAD_BYTES => length,
        Ok(httparse::Status::Partial) if received.len() < limits::RESPONSE_HEAD_BYTES => return Ok(None),
        _ => return Err(ReplyError::NotHttp),
    };
    let Some(status) = response.code else { return Err(ReplyError::NotHttp) };
    let values = |name: &'static str| {
        response.headers.iter().filter(move |h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value)
    };
    if status != 101 {
        return Ok(Some(Reply::Refused {
            status,
            retry_after_secs: values("Retry-After").next().and_then(parse_number),
            body_bytes: values("Content-Length").next().and_then(parse_number),
            head_bytes,
        }));
    }
    let holds = |name: &'static str, token: &str| {
        values(name)
            .flat_map(|v| v.split(|b| *b == b','))
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    };
    if !holds("Upgrade", "websocket") {
        return Err(ReplyError::BadUpgrade("Upgrade"));
    }
    if !holds("Connection", "upgrade") {
        return Err(ReplyError::BadUpgrade("Connection"));
    }
    let expected = AcceptKey::derive(&encode_nonce(nonce));
    if values("Sec-WebSocket-Accept").next().map(<[u8]>::trim_ascii) != Some(expected.as_bytes()) {
        return Err(ReplyError::BadUpgrade("Sec-WebSocket-Accept"));
    }
    // "If the response includes a |Sec-WebSocket-Extensions| header field and this header field
    // indicates the use of an extension that was not present in the client's handshake [...] the
    // client MUST _Fail the WebSocket Connection_"; the same for a subprotocol.
    if values("Sec-WebSocket-Extensions").any(|v| !v.trim_ascii().is_empty()) {
        return Err(ReplyError::BadUpgrade("Sec-WebSocket-Extensions"));
    }
    Ok(Some(Reply::Open { head_bytes }))
}

fn parse_number<N: core::str::FromStr>(value: &[u8]) -> Option<N> {
    core::str::from_utf8(value).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "GET /ws HTTP/1.1\r\nHost: bell.example\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

    fn check(text: &str) -> Result<AcceptKey, Refusal> {
        check_upgrade(&RequestHead::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn accepts_the_example_of_rfc_6455_1_3() {
        assert_eq!(check(GOOD).unwrap().as_bytes(), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn refusals_name_their_status() {
        let rows = [
            ("GET /ws", "POST /ws", 405),
            ("HTTP/1.1", "HTTP/1.0", 400),
            ("Host: bell.example\r\n", "", 400),
            ("Host: bell.example\r\n", "Host: a\r\nHost: b\r\n", 400),
            ("Upgrade: WebSocket", "Upgrade: h2c", 400),
            ("keep-alive, Upgrade", "keep-alive", 400),
            ("Version: 13", "Version: 8", 426),
            ("Version: 13", "Version: 13, 8", 426),
            ("Sec-WebSocket-Version: 13\r\n", "", 400),
            ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j", 400),
            ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZWVlZWVlZQ==", 400),
            ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ", 400),
            ("dGhlIHNhbXBsZSBub25jZQ==", "!!!!", 400),
            ("dGhlIHNhbXBsZSBub25jZQ==", "", 400),
            ("Sec-WebSocket-Key: dG", "Sec-WebSocket-Key: eA==\r\nSec-WebSocket-Key: dG", 400),
        ];
        for (good, bad, status) in rows {
            let text = GOOD.replace(good, bad);
            assert_ne!(text, GOOD);
            assert_eq!(check(&text).unwrap_err().status(), status, "{bad}");
        }
        assert!(check(&GOOD.replace("bm9uY2U", "bm9uY2V")).is_ok());
        assert!(check(&GOOD.replace("ZQ==", "ZR==")).is_ok(), "stray bits at the end of a key are harmless");
        assert_eq!(Refusal::Version.header(), Some(("Sec-WebSocket-Version", "13")));
    }

    #[test]
    fn both_roles_agree() {
        let nonce = *b"sixteen  bytes !";
        let mut request = Vec::new();
        let ask = UpgradeRequest {
            host: "bell.example:9201",
            target: "/?cex=upbit",
            nonce,
            headers: &[("X-API-Key", "dsk_00")],
        };
        write_request(&mut request, &ask).unwrap();
        let head = RequestHead::parse(&request).unwrap();
        assert_eq!((head.query, head.value("x-api-key")), (Some("cex=upbit"), Some("dsk_00")));
        let mut answer = Vec::new();
        write_switching_protocols(&mut answer, &check_upgrade(&head).unwrap());
        let head_bytes = answer.len();
        answer.extend_from_slice(b"\x82\x00");
        assert_eq!(read_reply(&answer, &nonce), Ok(Some(Reply::Open { head_bytes })));
        for cut in 0..head_bytes {
            assert_eq!(read_reply(&answer[..cut], &nonce), Ok(None), "{cut}");
        }
        assert_eq!(
            read_reply(&answer, b"another 16 bytes"),
            Err(ReplyError::BadUpgrade("Sec-WebSocket-Accept"))
        );
    }

    #[test]
    fn requests_cannot_be_split_by_their_texts() {
        let good = UpgradeRequest { host: "h", target: "/", nonce: [0; 16], headers: &[] };
        let rows = [
            UpgradeRequest { target: "/ HTTP/1.1\r\nX: y", ..good },
            UpgradeRequest { target: "/a b", ..good },
            UpgradeRequest { target: "", ..good },
            UpgradeRequest { host: "h\r\nX: y", ..good },
            UpgradeRequest { headers: &[("X-API-Key", "a\nb")], ..good },
        ];
        for bad in rows {
            let mut out = Vec::new();
            assert_eq!(write_request(&mut out, &bad), Err(NotAHeader), "{bad:?}");
            assert!(out.is_empty());
        }
    }

    #[test]
    fn refused_and_broken_replies() {
        let refused = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(
            read_reply(refused.as_bytes(), &[0; 16]),
            Ok(Some(Reply::Refused {
                status: 429,
                retry_after_secs: Some(7),
                body_bytes: Some(2),
                head_bytes: refused.len() - 2
            }))
        );
        let accept = AcceptKey::derive(&encode_nonce(&[0; 16]));
        let mut open = Vec::new();
        write_switching_protocols(&mut open, &accept);
        let open = String::from_utf8(open).unwrap();
        let rows = [
            (open.replace("Upgrade: websocket\r\n", ""), ReplyError::BadUpgrade("Upgrade")),
            (open.replace("Connection: Upgrade", "Connection: close"), ReplyError::BadUpgrade("Connection")),
            (
                open.replace("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"),
                ReplyError::BadUpgrade("Sec-WebSocket-Extensions"),
            ),
            ("SSH-2.0-x\r\n".to_owned(), ReplyError::NotHttp),
            (format!("HTTP/1.1 101 {}", "x".repeat(limits::RESPONSE_HEAD_BYTES)), ReplyError::NotHttp),
        ];
        for (text, error) in rows {
            assert_eq!(read_reply(text.as_bytes(), &[0; 16]), Err(error), "{text:.60}");
        }
    }
}
