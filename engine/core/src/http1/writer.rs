//! Requests, rendered once and sent many times.
//!
//! Contract: [`RequestTemplate`] checks and renders everything that does not change between two polls
//! of a list; [`RequestTemplate::write`] adds what does into a buffer the caller reuses. Allocates at
//! construction only. [`render`] is for requests in which nothing changes.

use core::fmt;

use crate::limits;

/// Why a request cannot be rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// The host is empty or holds a byte that may not stand in `Host`.
    BadHost,
    /// The target does not start with `/` or holds a space, a control or a non-ASCII byte.
    BadTarget,
    /// A header name is no token, or one that the writer itself sets.
    BadHeaderName,
    /// A header value holds a control byte.
    BadHeaderValue,
    /// Longer than [`limits::REQUEST_HEAD_BYTES`].
    TooLong,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RequestError::BadHost => "host is empty or malformed",
            RequestError::BadTarget => "target must start with / and hold printable ASCII only",
            RequestError::BadHeaderName => "header name is malformed or reserved",
            RequestError::BadHeaderValue => "header value holds a control character",
            RequestError::TooLong => "request head is too long",
        })
    }
}

impl core::error::Error for RequestError {}

/// A GET request without its last line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestTemplate {
    bytes: Box<[u8]>,
}

impl RequestTemplate {
    /// `GET target` with `Host` first, then `headers` in their order. The connection is persistent
    /// by default, so no `Connection` header is sent.
    ///
    /// # Errors
    /// Anything that could break out of its line, or that the writer sets itself.
    pub fn get(host: &str, target: &str, headers: &[(&str, &str)]) -> Result<RequestTemplate, RequestError> {
        Ok(RequestTemplate { bytes: head("GET ", host, target, headers)?.into_boxed_slice() })
    }

    /// Appends the request to `out`, with `If-None-Match` when an entity tag is known. A tag with a
    /// control byte is left out.
    pub fn write(&self, etag: Option<&[u8]>, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes);
        if let Some(tag) = etag.filter(|t| !t.iter().any(u8::is_ascii_control)) {
            out.extend_from_slice(b"If-None-Match: ");
            out.extend_from_slice(tag);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// A whole request that is the same each time: POST where there is a body, which is JSON, else GET. `headers`
/// say so where the server wants to hear it.
///
/// # Errors
/// As [`RequestTemplate::get`].
pub fn render(
    host: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: Option<&str>,
) -> Result<Box<[u8]>, RequestError> {
    let mut bytes = head(if body.is_some() { "POST " } else { "GET " }, host, target, headers)?;
    if let Some(body) = body {
        bytes.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body.unwrap_or("").as_bytes());
    Ok(bytes.into_boxed_slice())
}

/// A request's head without its last line.
fn head(method: &str, host: &str, target: &str, headers: &[(&str, &str)]) -> Result<Vec<u8>, RequestError> {
    let graphic = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    if !graphic(host) || host.contains(['/', '@', '?', '#']) {
        return Err(RequestError::BadHost);
    }
    if !graphic(target) || !target.starts_with('/') || target.contains('#') {
        return Err(RequestError::BadTarget);
    }
    let mut bytes = Vec::new();
    for part in [method, target, " HTTP/1.1\r\nHost: ", host, "\r\n"] {
        bytes.extend_from_slice(part.as_bytes());
    }
    for (name, value) in headers {
        let reserved = ["host", "if-none-match", "content-length", "transfer-encoding"];
        if !is_token(name) || reserved.iter().any(|r| name.eq_ignore_ascii_case(r)) {
            return Err(RequestError::BadHeaderName);
        }
        if value.chars().any(|c| c.is_control() && c != '\t') {
            return Err(RequestError::BadHeaderValue);
        }
        for part in [name, ": ", value, "\r\n"] {
            bytes.extend_from_slice(part.as_bytes());
        }
    }
    if bytes.len() > limits::REQUEST_HEAD_BYTES {
        return Err(RequestError::TooLong);
    }
    Ok(bytes)
}

/// RFC 9110 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn host_comes_first_and_only_the_tag_changes() {
        let template = RequestTemplate::get(
            "example.test:8443",
            "/v1/notices?count=20",
            &[("Accept", "*/*"), ("X-A", "b")],
        )
        .unwrap();
        let mut out = Vec::new();
        template.write(None, &mut out);
        assert_eq!(
            out,
            b"GET /v1/notices?count=20 HTTP/1.1\r\nHost: example.test:8443\r\nAccept: */*\r\nX-A: b\r\n\r\n"
        );
        out.clear();
        template.write(Some(b"W/\"a1\""), &mut out);
        assert!(out.ends_with(b"X-A: b\r\nIf-None-Match: W/\"a1\"\r\n\r\n"));
        out.clear();
        template.write(Some(b"\"a\r\nX-Evil: 1\""), &mut out);
        assert!(out.ends_with(b"X-A: b\r\n\r\n"));
    }

    #[test]
    fn a_request_that_never_changes_has_its_body_and_length() {
        let get = render("a.test", "/x", &[("accept", "*/*")], None).unwrap();
        assert_eq!(&*get, b"GET /x HTTP/1.1\r\nHost: a.test\r\naccept: */*\r\n\r\n");
        let post = render("a.test", "/x", &[], Some("{\"é\":1}")).unwrap();
        let expected = "POST /x HTTP/1.1\r\nHost: a.test\r\ncontent-length: 8\r\n\r\n{\"é\":1}";
        assert_eq!(&*post, expected.as_bytes());
        assert_eq!(render("a.test", "x", &[], None), Err(RequestError::BadTarget));
    }

    #[test]
    fn nothing_breaks_out_of_its_line() {
        use RequestError as E;
        let long = "x".repeat(limits::REQUEST_HEAD_BYTES);
        for (host, target, headers, error) in [
            ("", "/", vec![], E::BadHost),
            ("a b", "/", vec![], E::BadHost),
            ("a\r\nX: y", "/", vec![], E::BadHost),
            ("a/b", "/", vec![], E::BadHost),
            ("a", "", vec![], E::BadTarget),
            ("a", "x", vec![], E::BadTarget),
            ("a", "/ HTTP/1.1", vec![], E::BadTarget),
            ("a", "/é", vec![], E::BadTarget),
            ("a", "/#f", vec![], E::BadTarget),
            ("a", "/", vec![("", "v")], E::BadHeaderName),
            ("a", "/", vec![("N:", "v")], E::BadHeaderName),
            ("a", "/", vec![("Host", "v")], E::BadHeaderName),
            ("a", "/", vec![("content-LENGTH", "1")], E::BadHeaderName),
            ("a", "/", vec![("N", "v\r\nX: y")], E::BadHeaderValue),
            ("a", "/", vec![("N", "\0")], E::BadHeaderValue),
            ("a", "/", vec![("N", long.as_str())], E::TooLong),
        ] {
            assert_eq!(RequestTemplate::get(host, target, &headers), Err(error), "{host:?} {target:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_rendered_parses_as_one_request(
            host in "[a-z0-9.:\\[\\]]{1,20}", target in "/[!-\"$-~]{0,40}",
            value in "\\PC{0,30}", tag in proptest::option::of("\"[ -~]{0,20}\"")
        ) {
            let template = RequestTemplate::get(&host, &target, &[("X-Value", &value)]).unwrap();
            let mut out = Vec::new();
            template.write(tag.as_ref().map(String::as_bytes), &mut out);
            let mut table = [httparse::EMPTY_HEADER; 4];
            let mut request = httparse::Request::new(&mut table);
            prop_assert_eq!(request.parse(&out), Ok(httparse::Status::Complete(out.len())));
            prop_assert_eq!(request.path, Some(target.as_str()));
            prop_assert_eq!(request.headers.len(), 2 + usize::from(tag.is_some()));
        }
    }
}
