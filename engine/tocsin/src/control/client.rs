//! Where a request comes from, and with what it says who asks.
//!
//! Contract: a door puts a [`Peer`] into each request; [`tell_client`] makes a [`Client`] of it, believing
//! trusted proxies and nobody else, and refuses addresses that ask too often before anything else is
//! looked at. [`Given`] is everything of a request's head that says who asks.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tocsin_core::access::origin::Claims;
use tocsin_core::access::ticket::Ticket;
use tocsin_core::feed::admission::address::network;

use super::{Control, dashboard};
use crate::threads::accept::proxy;

/// Name of the session's cookie.
pub(super) const COOKIE: &str = "tocsin_session";
/// Header of the CSRF token.
const CSRF: &str = "x-csrf-token";

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    /// `None` at the Unix socket.
    pub(super) address: Option<IpAddr>,
    /// Whether the connection is encrypted up to here.
    pub(super) tls: bool,
}

/// Whose request it is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Client {
    /// Under which it is counted; `None` at the Unix socket, where nothing is.
    pub(super) address: Option<IpAddr>,
    /// Whether the browser's connection is encrypted, as far as is known.
    pub(super) secure: bool,
}

impl Control {
    /// Whether a TLS handshake is begun with this address, which counts as a request of it.
    pub(super) fn shakes_hands_with(&self, address: IpAddr) -> bool {
        let proxy = proxy::is_in(&self.access.forwarded_for_from, address);
        proxy || self.access.take_request(network(address)).is_ok()
    }
}

/// The outermost layer.
pub(super) async fn tell_client(
    State(control): State<Arc<Control>>,
    mut request: Request,
    next: Next,
) -> Response {
    let peer = request.extensions().get::<Peer>().copied();
    let client = peer.map_or_else(Client::default, |peer| {
        client_of(peer, request.headers(), &control.access.forwarded_for_from)
    });
    if let Some(address) = client.address {
        // A page is some thirty files at once, and one that is refused leaves it blank: they have a rate of
        // their own, and cost no disk and no other thread.
        let is_file = dashboard::holds(request.uri().path());
        let access = &control.access;
        let taken = if is_file { access.take_file(address) } else { access.take_request(address) };
        if let Err(refused) = taken {
            return refused.into_response();
        }
    }
    request.extensions_mut().insert(client);
    next.run(request).await
}

fn client_of(peer: Peer, headers: &HeaderMap, trusted: &[ipnet::IpNet]) -> Client {
    let Peer { address: Some(address), tls } = peer else { return Client::default() };
    if !proxy::is_in(trusted, address) {
        return Client { address: Some(network(address)), secure: tls };
    }
    let values = headers.get_all("x-forwarded-for").iter().map(axum::http::HeaderValue::as_bytes);
    let client = proxy::forwarded_for(values, trusted, address);
    let scheme = headers.get_all("x-forwarded-proto").iter().next_back();
    let https = scheme.is_some_and(|scheme| scheme.as_bytes().trim_ascii().eq_ignore_ascii_case(b"https"));
    Client { address: Some(network(client)), secure: tls || https }
}

/// With what a request says who asks.
#[derive(Debug, Default)]
pub(super) struct Given {
    /// Of `Authorization: Bearer`.
    pub(super) bearer: Option<String>,
    /// The session's id.
    pub(super) session: Option<Ticket>,
    pub(super) csrf: Option<String>,
    /// Whether it asks for a change.
    pub(super) changes: bool,
    /// Whether it comes from a page that may change something.
    pub(super) own_page: bool,
    /// Whether another site's page sent it.
    pub(super) cross_site: bool,
    pub(super) client: Client,
}

impl Given {
    /// Reads a request's head.
    pub(super) fn of(request: &Request) -> Given {
        let headers = request.headers();
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        // A value that is no text is not one that is missing.
        let claim = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        let host = text("host");
        let claims = Claims { fetch_site: claim("sec-fetch-site"), origin: claim("origin"), host };
        Given {
            bearer: bearer(headers).map(str::to_owned),
            session: cookie(headers),
            csrf: text(CSRF).map(str::to_owned),
            changes: !matches!(*request.method(), Method::GET | Method::HEAD),
            own_page: claims.may_change(),
            cross_site: !claims.may_read(),
            client: request.extensions().get().copied().unwrap_or_default(),
        }
    }
}

/// The token of `Authorization: Bearer TOKEN`.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let given = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = given.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn cookie(headers: &HeaderMap) -> Option<Ticket> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, _)| *name == COOKIE).find_map(|(_, value)| Ticket::parse(value.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(lines: &[(&str, &str)]) -> Request {
        let request = lines.iter().fold(Request::post("/"), |r, (name, value)| r.header(*name, *value));
        request.body(axum::body::Body::empty()).unwrap()
    }

    #[test]
    fn only_trusted_proxies_say_who_asks_and_how() {
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let request = head(&[("X-Forwarded-For", "192.0.2.7"), ("X-Forwarded-Proto", "https")]);
        let of = |address: &str, tls| {
            let peer = Peer { address: Some(address.parse().unwrap()), tls };
            let client = client_of(peer, request.headers(), &trusted);
            (client.address.unwrap().to_string(), client.secure)
        };
        assert_eq!(of("10.0.0.1", false), ("192.0.2.7".to_owned(), true));
        assert_eq!(of("::ffff:10.0.0.1", false), ("192.0.2.7".to_owned(), true));
        assert_eq!(of("198.51.100.1", false), ("198.51.100.1".to_owned(), false));
        assert_eq!(of("2001:db8:1:2:3::4", true), ("2001:db8:1:2::".to_owned(), true));
        let socket = client_of(Peer { address: None, tls: false }, request.headers(), &trusted);
        assert!(socket.address.is_none() && !socket.secure);
    }

    #[test]
    fn what_a_head_gives() {
        let id = Ticket::new([5; 32]);
        let cookies = format!("a=b; {COOKIE}=x; {COOKIE}={}; c", id.reveal());
        let request = head(&[("Cookie", "z=1"), ("Cookie", &cookies), ("Authorization", "bearer  t ")]);
        let given = Given::of(&request);
        assert_eq!(given.session, Some(id));
        assert_eq!(given.bearer.as_deref(), Some("t"));
        assert!(given.changes && given.own_page && !given.cross_site);
        let foreign = Given::of(&head(&[("Origin", "https://é"), ("Host", "x")]));
        assert!(!foreign.own_page && foreign.session.is_none());
        assert!(Given::of(&head(&[("Sec-Fetch-Site", "cross-site")])).cross_site);
        assert_eq!(Given::of(&head(&[("Authorization", "Basic eDp5")])).bearer, None);
    }
}
