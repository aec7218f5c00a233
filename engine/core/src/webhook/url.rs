//! Where an endpoint is: its URL, taken apart by rules that leave two parsers nothing to disagree on.
//!
//! Contract: [`EndpointUrl::parse`] is pure and accepts any text; a value of the type has passed every
//! rule here, so nothing behind it checks again. It allocates the parts it returns. Called when an
//! endpoint is registered or loaded, never while sending.
//!
//! The rule: "at most 2048 bytes of 0x21-0x7E, no backslash, literal `https://`, no userinfo, `%` or
//! `#`; port absent, 443, or >= 1024 minus well-known service ports; host names of at least two
//! labels of `[a-z0-9_-]`, no trailing dot, no reserved last label; an all-digit last label must be a
//! canonical dotted quad. The `url` crate must agree on scheme, host and port." The path and query
//! may hold `%`: they are never decoded and go out byte for byte.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::address::{AddressPolicy, Refused};
use crate::limits;

/// What an endpoint URL names as its host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name to resolve, as an absolute one; lower case, no trailing dot.
    Name(Box<str>),
    /// An address of the old family; already checked against the policy.
    Ipv4(Ipv4Addr),
    /// An address of the new family; already checked against the policy.
    Ipv6(Ipv6Addr),
}

impl fmt::Display for Host {
    /// As the `Host` header writes it, an IPv6 address in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Ipv4(address) => write!(f, "{address}"),
            Host::Ipv6(address) => write!(f, "[{address}]"),
        }
    }
}

/// Why a URL is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrlError {
    /// Longer than [`limits::ENDPOINT_URL_BYTES`].
    Length,
    /// A byte outside 0x21 to 0x7E, or a backslash.
    Char,
    /// It does not begin with `https://`, literally.
    Scheme,
    /// Nothing stands where the host should.
    EmptyHost,
    /// An `@` before the path: a user name, a password, or a trick.
    UserInfo,
    /// A fragment, which is never sent.
    Fragment,
    /// The host is neither a lower-case name of two labels or more nor an address.
    Host,
    /// A number that some software takes for an address, not written as four plain decimals.
    IpNonCanonical,
    /// The last label is reserved for names that are not public.
    SpecialName,
    /// The port is not 443 nor a usual one from 1024 on.
    Port,
    /// The host is an address webhooks may not be sent to.
    Address(Refused),
    /// The WHATWG parser reads another host or port than this one.
    ParsersDisagree,
}

impl UrlError {
    /// Stable code for answers and logs.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            UrlError::Length => "length",
            UrlError::Char => "char",
            UrlError::Scheme => "scheme",
            UrlError::EmptyHost => "empty-host",
            UrlError::UserInfo => "userinfo",
            UrlError::Fragment => "fragment",
            UrlError::Host => "host",
            UrlError::IpNonCanonical => "ip-noncanonical",
            UrlError::SpecialName => "special-name",
            UrlError::Port => "port",
            UrlError::Address(_) => "addr",
            UrlError::ParsersDisagree => "parsers-disagree",
        }
    }
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UrlError::Length => "url is longer than 2048 bytes",
            UrlError::Char => {
                "url may hold printable ASCII only, no space and no backslash; write other names in punycode (xn--)"
            }
            UrlError::Scheme => "url must begin with https://",
            UrlError::EmptyHost => "url names no host",
            UrlError::UserInfo => "url may not hold a user name or password (an @ before the path)",
            UrlError::Fragment => "url may not hold a fragment (#)",
            UrlError::Host => {
                "host must be a full public name in lower case (hooks.yourdomain.com, no dot at the end) or an IP address"
            }
            UrlError::IpNonCanonical => "host is a number; write an IPv4 address as four plain decimals",
            UrlError::SpecialName => "host ends in a name reserved for private or special use",
            UrlError::Port => {
                "port must be 443 or one from 1024 to 65535 that no other well-known service uses, without leading zero"
            }
            UrlError::Address(why) => return why.fmt(f),
            UrlError::ParsersDisagree => "host is not one that every URL parser reads alike",
        })
    }
}

impl core::error::Error for UrlError {}

/// The URL of an endpoint, checked and taken apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EndpointUrl {
    host: Host,
    port: u16,
    path_and_query: Box<str>,
}

/// Last labels of names that the public DNS does not or must not answer: RFC 6761, 6762 with its
/// appendix G, 7686, 8375, 9476, ICANN's three and `internal`, and those that container and cluster
/// software uses.
const RESERVED_LABELS: [&str; 25] = [
    "alt",
    "arpa",
    "cluster",
    "consul",
    "corp",
    "dhcp",
    "docker",
    "domain",
    "example",
    "gateway",
    "home",
    "internal",
    "intranet",
    "invalid",
    "lan",
    "local",
    "localdomain",
    "localhost",
    "mail",
    "onion",
    "private",
    "router",
    "svc",
    "test",
    "workgroup",
];

/// Ports from 1024 on that belong to another protocol: those the WHATWG bars, then databases, queues,
/// caches, remote desktops and cluster control.
const SERVICE_PORTS: [u16; 60] = [
    1433, 1434, 1521, 1719, 1720, 1723, 1883, 2049, 2181, 2375, 2376, 2377, 2379, 2380, 3128, 3306, 3389,
    3659, 4045, 4190, 4222, 5060, 5061, 5432, 5671, 5672, 5900, 5984, 5985, 5986, 6000, 6379, 6380, 6443,
    6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 7000, 7001, 8883, 9042, 9092, 9160, 9200, 9300, 10080,
    10250, 10255, 11211, 15672, 26379, 27017, 27018, 27019, 61616,
];

const HTTPS: u16 = 443;

impl EndpointUrl {
    /// Checks `text` and takes it apart. An address written as the host is checked against `policy`,
    /// a name is not: its addresses are, after resolving, each time.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn parse(text: &str, policy: &AddressPolicy) -> Result<EndpointUrl, UrlError> {
        let url = EndpointUrl::by_our_rules(text)?;
        let address = match url.host {
            Host::Name(_) => None,
            Host::Ipv4(address) => Some(IpAddr::V4(address)),
            Host::Ipv6(address) => Some(IpAddr::V6(address)),
        };
        if let Some(address) = address {
            policy.check(address).map_err(UrlError::Address)?;
        }
        if url.agrees_with_whatwg(text) { Ok(url) } else { Err(UrlError::ParsersDisagree) }
    }

    /// What is connected to, resolved first if it is a name.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The request target, beginning with `/`; otherwise byte for byte as written.
    #[must_use]
    pub fn path_and_query(&self) -> &str {
        &self.path_and_query
    }

    fn by_our_rules(text: &str) -> Result<EndpointUrl, UrlError> {
        if text.len() > limits::ENDPOINT_URL_BYTES {
            return Err(UrlError::Length);
        }
        if text.bytes().any(|b| !b.is_ascii_graphic() || b == b'\\') {
            return Err(UrlError::Char);
        }
        let rest = text.strip_prefix("https://").ok_or(UrlError::Scheme)?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at_checked(end).ok_or(UrlError::Host)?;
        if authority.is_empty() {
            return Err(UrlError::EmptyHost);
        }
        if authority.contains('@') {
            return Err(UrlError::UserInfo);
        }
        let (host, port) = split_port(authority)?;
        let host = parse_host(host)?;
        let port = port.map_or(Ok(HTTPS), parse_port)?;
        if target.contains('#') {
            return Err(UrlError::Fragment);
        }
        let slash = if target.starts_with('/') { "" } else { "/" };
        Ok(EndpointUrl { host, port, path_and_query: [slash, target].concat().into() })
    }

    /// Whether the parser that browsers and most libraries follow reads the same scheme, host and
    /// port. It knows what these rules do not: malformed punycode, and whatever its next version
    /// treats differently.
    fn agrees_with_whatwg(&self, text: &str) -> bool {
        let Ok(other) = ::url::Url::parse(text) else { return false };
        let same_host = match (&self.host, other.host()) {
            (Host::Name(ours), Some(::url::Host::Domain(theirs))) => **ours == *theirs,
            (Host::Ipv4(ours), Some(::url::Host::Ipv4(theirs))) => *ours == theirs,
            (Host::Ipv6(ours), Some(::url::Host::Ipv6(theirs))) => *ours == theirs,
            _ => false,
        };
        same_host
            && other.scheme() == "https"
            && other.port_or_known_default() == Some(self.port)
            && other.username().is_empty()
            && other.password().is_none()
            && other.fragment().is_none()
    }
}

/// The whole URL, the port left out where it is 443: what lists and logs show.
impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.host)?;
        if self.port != HTTPS {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.path_and_query)
    }
}

/// Cuts the port off. Brackets, where an IPv6 address stands in them, stay with the host.
fn split_port(authority: &str) -> Result<(&str, Option<&str>), UrlError> {
    if authority.starts_with('[') {
        let close = authority.find(']').ok_or(UrlError::Host)?;
        let (host, rest) = authority.split_at_checked(close + 1).ok_or(UrlError::Host)?;
        return match (rest.is_empty(), rest.strip_prefix(':')) {
            (true, _) => Ok((host, None)),
            (false, Some(port)) => Ok((host, Some(port))),
            (false, None) => Err(UrlError::Host),
        };
    }
    match authority.split_once(':') {
        None => Ok((authority, None)),
        // An IPv6 address without brackets.
        Some((_, rest)) if rest.contains(':') => Err(UrlError::Host),
        Some(("", _)) => Err(UrlError::EmptyHost),
        Some((host, port)) => Ok((host, Some(port))),
    }
}

fn parse_host(host: &str) -> Result<Host, UrlError> {
    if let Some(inside) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inside.parse().map(Host::Ipv6).map_err(|_| UrlError::Host);
    }
    if host.len() > limits::HOST_NAME_BYTES || host.contains('%') || host.ends_with('.') {
        return Err(UrlError::Host);
    }
    let last = host.rsplit('.').next().unwrap_or(host);
    if is_number(last) {
        // The standard library takes four decimals without leading zeros and nothing else.
        return host.parse().map(Host::Ipv4).map_err(|_| UrlError::IpNonCanonical);
    }
    let is_label = |label: &str| {
        (1..=limits::HOST_LABEL_BYTES).contains(&label.len())
            && label.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
    };
    if !host.contains('.') || !host.split('.').all(is_label) {
        return Err(UrlError::Host);
    }
    if RESERVED_LABELS.contains(&last) {
        return Err(UrlError::SpecialName);
    }
    Ok(Host::Name(host.into()))
}

/// Whether a last label makes the WHATWG parser and C libraries read the whole host as an IPv4
/// address: digits, or hexadecimal after `0x`.
fn is_number(label: &str) -> bool {
    let hexadecimal = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    match hexadecimal {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_hexdigit()),
        None => !label.is_empty() && label.bytes().all(|b| b.is_ascii_digit()),
    }
}

fn parse_port(text: &str) -> Result<u16, UrlError> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    let port = if plain { text.parse().ok() } else { None };
    port.filter(|port| *port == HTTPS || (*port >= 1024 && !SERVICE_PORTS.contains(port)))
        .ok_or(UrlError::Port)
}

#[cfg(test)]
mod tests;
