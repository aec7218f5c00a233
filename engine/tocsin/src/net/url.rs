//! The address of an HTTP server: what `base_url` holds.
//!
//! Contract: parsed once at start; allocates there. Anything that is not plainly
//! `http[s]://host[:port][/path]` is an error that says what is wrong. User information, queries and
//! fragments are refused: a secret has no place in a URL, and a path is only ever a prefix.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// Scheme, host, port and path prefix of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    /// `https`.
    pub tls: bool,
    /// DNS name or IP address without brackets, lower case.
    pub host: Arc<str>,
    /// Port, the scheme's own where none is given.
    pub port: u16,
    /// Path that stands before every target: empty, or `/` and more with no `/` at its end.
    pub prefix: Box<str>,
}

/// What is wrong with a base URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrlError {
    /// Neither `http://` nor `https://`.
    Scheme,
    /// Empty, or no DNS name or IP address.
    Host,
    /// No number from 1 to 65535.
    Port,
    /// Holds user information.
    UserInfo,
    /// Holds a query, a fragment, white space or a non-ASCII byte.
    Path,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UrlError::Scheme => "must start with http:// or https://",
            UrlError::Host => "has no valid host",
            UrlError::Port => "has no valid port",
            UrlError::UserInfo => "must not hold a user name or password",
            UrlError::Path => "must have a plain path, without query or fragment",
        })
    }
}

impl std::error::Error for UrlError {}

impl BaseUrl {
    /// Parses `http[s]://host[:port][/path]`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(url: &str) -> Result<BaseUrl, UrlError> {
        let (scheme, rest) = url.split_once("://").ok_or(UrlError::Scheme)?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(UrlError::Scheme),
        };
        let (authority, path) = match rest.find(['/', '?', '#']) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        if authority.contains('@') {
            return Err(UrlError::UserInfo);
        }
        if path.contains(['?', '#']) || !path.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(UrlError::Path);
        }
        let (host, port) = split_port(authority)?;
        let port = match port {
            None if tls => 443,
            None => 80,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().ok().filter(|p| *p != 0).ok_or(UrlError::Port)?
            }
            Some(_) => return Err(UrlError::Port),
        };
        let prefix = path.trim_end_matches('/').into();
        Ok(BaseUrl { tls, host: host.to_ascii_lowercase().into(), port, prefix })
    }

    /// The host as an address, where it is one: such a host is never asked of the resolver.
    #[must_use]
    pub fn literal(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// The value of `Host`: brackets around IPv6, no port where it is the scheme's own.
    #[must_use]
    pub fn host_header(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.as_ref().to_owned() };
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<&str>), UrlError> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or(UrlError::Host)?;
        host.parse::<Ipv6Addr>().map_err(|_| UrlError::Host)?;
        return match after.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if after.is_empty() => Ok((host, None)),
            None => Err(UrlError::Host),
        };
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if host.len() > 253 || !host.strip_suffix('.').unwrap_or(host).split('.').all(label) {
        return Err(UrlError::Host);
    }
    Ok((host, port))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parts_are_read() {
        for (url, tls, host, port, prefix, header) in [
            ("https://www.example.test", true, "www.example.test", 443, "", "www.example.test"),
            ("HTTP://Example.test:8080/", false, "example.test", 8080, "", "example.test:8080"),
            ("http://127.0.0.1:9/a/b/", false, "127.0.0.1", 9, "/a/b", "127.0.0.1:9"),
            ("https://[::1]:8443/x", true, "::1", 8443, "/x", "[::1]:8443"),
            ("https://[2001:db8::1]", true, "2001:db8::1", 443, "", "[2001:db8::1]"),
            ("http://h:443", false, "h", 443, "", "h:443"),
        ] {
            let got = BaseUrl::parse(url).unwrap();
            assert_eq!(
                (got.tls, got.host.as_ref(), got.port, got.prefix.as_ref()),
                (tls, host, port, prefix)
            );
            assert_eq!(got.host_header(), header);
            assert_eq!(got.literal().is_some(), host.contains(':') || host.starts_with('1'), "{url}");
        }
    }

    #[test]
    fn faults_are_named() {
        for (url, error) in [
            ("", UrlError::Scheme),
            ("example.test", UrlError::Scheme),
            ("ftp://example.test", UrlError::Scheme),
            ("http://", UrlError::Host),
            ("http://a..b", UrlError::Host),
            ("http://a b", UrlError::Host),
            ("http://[::1", UrlError::Host),
            ("http://[x]", UrlError::Host),
            ("http://[::1]x", UrlError::Host),
            ("http://a:", UrlError::Port),
            ("http://a:0", UrlError::Port),
            ("http://a:+80", UrlError::Port),
            ("http://a:65536", UrlError::Port),
            ("http://u:p@a", UrlError::UserInfo),
            ("http://a/?q", UrlError::Path),
            ("http://a?q", UrlError::Path),
            ("http://a/\n", UrlError::Path),
        ] {
            assert_eq!(BaseUrl::parse(url), Err(error), "{url:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(url in "(https?://)?\\PC{0,40}") {
            if let Ok(parsed) = BaseUrl::parse(&url) {
                prop_assert!(!parsed.host.is_empty());
            }
        }
    }
}
