//! Whose connection it is, when a trusted proxy stands between: PROXY protocol and `X-Forwarded-For`.
//!
//! Contract: pure functions over bytes; whether the peer may be believed is the caller's decision.
//! Nothing here allocates or panics.

use std::net::IpAddr;

use ipnet::IpNet;
use ppp::{PartialResult, v1, v2};
use tocsin_core::limits;

/// A PROXY protocol header at the front of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProxyHeader {
    /// Its length.
    pub(super) bytes: usize,
    /// The client, where the proxy tells (not for its own health checks, nor for what is not IP).
    pub(super) client: Option<IpAddr>,
}

/// What precedes the connection is no PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotProxied;

/// How a header of version 1 begins.
const V1_PREFIX: &[u8] = b"PROXY ";
/// Longest line of version 1, its end included.
const V1_BYTES: usize = 107;

/// Reads a header of version 1 or 2; `None` asks for more bytes.
pub(super) fn parse_header(received: &[u8]) -> Result<Option<ProxyHeader>, NotProxied> {
    let common = received.len().min(V1_PREFIX.len());
    if received.get(..common) == V1_PREFIX.get(..common) { parse_v1(received) } else { parse_v2(received) }
}

/// The library takes some cut lines for bad ones, so it gets a whole line only.
fn parse_v1(received: &[u8]) -> Result<Option<ProxyHeader>, NotProxied> {
    let Some(end) = received.iter().take(V1_BYTES).position(|b| *b == b'\n') else {
        return if received.len() < V1_BYTES { Ok(None) } else { Err(NotProxied) };
    };
    let line = received.get(..=end).unwrap_or_default();
    let header = v1::Header::try_from(line).map_err(|_| NotProxied)?;
    let client = match header.addresses {
        v1::Addresses::Tcp4(a) => Some(a.source_address.into()),
        v1::Addresses::Tcp6(a) => Some(a.source_address.into()),
        v1::Addresses::Unknown => None,
    };
    Ok(Some(ProxyHeader { bytes: line.len(), client }))
}

fn parse_v2(received: &[u8]) -> Result<Option<ProxyHeader>, NotProxied> {
    let header = match v2::Header::try_from(received) {
        Ok(header) => header,
        Err(e) if e.is_incomplete() && received.len() < limits::PROXY_HEADER_BYTES => return Ok(None),
        Err(_) => return Err(NotProxied),
    };
    let client = match (header.command, header.addresses) {
        (v2::Command::Proxy, v2::Addresses::IPv4(a)) => Some(a.source_address.into()),
        (v2::Command::Proxy, v2::Addresses::IPv6(a)) => Some(a.source_address.into()),
        _ => None,
    };
    Ok(Some(ProxyHeader { bytes: header.len(), client }))
}

/// The client that a chain of trusted proxies vouches for: from the end of `X-Forwarded-For` (its
/// values in the order sent) the first address that is not a trusted proxy's. What cannot be read
/// ends the search at the last address that could.
pub(crate) fn forwarded_for<'a>(
    values: impl DoubleEndedIterator<Item = &'a [u8]>,
    trusted: &[IpNet],
    peer: IpAddr,
) -> IpAddr {
    let mut client = peer;
    for item in values.rev().flat_map(|value| value.rsplit(|b| *b == b',')) {
        if !is_in(trusted, client) {
            break;
        }
        match parse_address(item) {
            Some(address) => client = address,
            None => break,
        }
    }
    client
}

/// Whether one of `nets` holds `address`; a v4-mapped address counts as the IPv4 address it is.
pub(crate) fn is_in(nets: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    nets.iter().any(|net| net.contains(&address))
}

/// An address as proxies write it: bare, with a port, or an IPv6 one in brackets.
fn parse_address(item: &[u8]) -> Option<IpAddr> {
    let text = core::str::from_utf8(item).ok()?.trim();
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    if let Some(inner) = text.strip_prefix('[') {
        return inner.split_once(']')?.0.parse().ok();
    }
    text.rsplit_once(':')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

    #[test]
    fn both_versions_are_read_and_leave_what_follows() {
        let v4 = [V2, &[0x21, 0x11, 0, 12, 192, 0, 2, 7, 10, 0, 0, 1, 1, 1, 2, 2]].concat();
        let local = [V2, &[0x20, 0, 0, 0]].concat();
        let rows: [(&[u8], Option<&str>); 5] = [
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 4000 443\r\n", Some("192.0.2.7")),
            (b"PROXY TCP6 2001:db8::7 2001:db8::1 4000 443\r\n", Some("2001:db8::7")),
            (b"PROXY UNKNOWN\r\n", None),
            (&v4, Some("192.0.2.7")),
            (&local, None),
        ];
        for (header, client) in rows {
            for rest in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\xff\xfe\r\n\x80"] {
                let expected = ProxyHeader { bytes: header.len(), client: client.map(ip) };
                let all = [header, rest].concat();
                assert_eq!(parse_header(&all), Ok(Some(expected)), "{:?}", String::from_utf8_lossy(&all));
            }
            for cut in 1..header.len() {
                assert_eq!(parse_header(&header[..cut]), Ok(None), "{:?}", &header[..cut]);
            }
        }
    }

    #[test]
    fn others_are_not_taken_for_one() {
        let endless = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; limits::PROXY_HEADER_BYTES]].concat();
        let rows: [&[u8]; 5] = [
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01",
            b"PROXY TCP4 nobody 10.0.0.1 1 2\r\n",
            b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c",
            &endless,
        ];
        for bytes in rows {
            assert_eq!(parse_header(bytes), Err(NotProxied), "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn forwarded_for_stops_at_the_first_address_nobody_vouches_for() {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "2001:db8:1::/48".parse().unwrap()];
        let rows: [(&[&str], &str, &str); 10] = [
            (&[], "10.0.0.1", "10.0.0.1"),
            (&["192.0.2.7"], "192.0.2.1", "192.0.2.1"),
            (&["192.0.2.7"], "10.0.0.1", "192.0.2.7"),
            (&["198.51.100.1, 192.0.2.7"], "10.0.0.1", "192.0.2.7"),
            (&["192.0.2.7, 10.0.0.2"], "10.0.0.1", "192.0.2.7"),
            (&["192.0.2.7", "10.0.0.2,10.0.0.3"], "::ffff:10.0.0.1", "192.0.2.7"),
            (&["10.0.0.9, 10.0.0.2"], "10.0.0.1", "10.0.0.9"),
            (&["192.0.2.7, unknown"], "10.0.0.1", "10.0.0.1"),
            (&["192.0.2.7:5000"], "10.0.0.1", "192.0.2.7"),
            (&["[2001:db8::5]:443"], "2001:db8:1::1", "2001:db8::5"),
        ];
        for (values, peer, client) in rows {
            let values = values.iter().map(|v| v.as_bytes());
            assert_eq!(forwarded_for(values, &trusted, ip(peer)), ip(client), "{peer} {client}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..64), prefix in 0..3usize) {
            let prefix: &[u8] = [&b""[..], V2, b"PROXY "][prefix];
            bytes.splice(..0, prefix.iter().copied());
            let _ = parse_header(&bytes);
            let _ = parse_address(&bytes);
        }
    }
}
