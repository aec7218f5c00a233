//! One connection a host, and the request that is out on it.
//!
//! Contract: [`Asker::ask`] sends the one request that is out at a host, over a connection that is kept between
//! requests and opened when one is to be sent; [`Asker::drive`] moves a host on and says what came of the
//! request. Nothing blocks. A server that closes a kept connection before it answered is asked once
//! more. Owner: the market thread. Failure: a [`Failure`] with words for people.

use mio::{Registry, Token};
use tocsin_core::http1::response::{Method, ResponseLimits, RetryAfter};
use tocsin_core::http1::writer::render;
use tocsin_core::limits;
use tocsin_core::market::watcher::{RequestId, Watcher};
use tocsin_core::source::backoff::Failure;
use tocsin_core::time::{Mono, WallUs};

use super::{MarketError, MarketPeer};
use crate::net::dns::{Addresses, ResolverClient};
use crate::net::http::{Event, HttpConnection, Peer};
use crate::net::url::BaseUrl;

/// A request's bytes.
struct Rendered {
    bytes: Box<[u8]>,
    method: Method,
}

/// Where the request at a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Out {
    No,
    /// Until then the host's name is waited for.
    Naming(RequestId, Mono),
    Connecting(RequestId),
    /// `again`: on a second connection.
    Sent {
        id: RequestId,
        again: bool,
    },
}

struct Host {
    peer: Peer,
    http: HttpConnection,
    addresses: Addresses,
    /// The name is asked for no sooner.
    name_at: Mono,
    out: Out,
}

/// What came of a request.
pub(super) enum Came {
    /// A whole answer is at this host.
    Answer(usize, RequestId),
    /// None will come, and why.
    Failed(RequestId, Failure, String),
}

/// An answer, while its connection is left alone.
pub(super) struct Answered<'a> {
    pub(super) status: u16,
    /// In a coding that was not offered.
    pub(super) encoded: bool,
    pub(super) retry_after: Option<RetryAfter>,
    pub(super) date: Option<WallUs>,
    pub(super) body: &'a mut [u8],
}

/// Every host and every request.
pub(super) struct Asker {
    hosts: Vec<Host>,
    /// By [`RequestId::index`].
    requests: Vec<Rendered>,
}

impl Asker {
    pub(super) fn new(watcher: &Watcher, peers: &[MarketPeer]) -> Result<Asker, MarketError> {
        let mut hosts: Vec<Host> = Vec::new();
        let mut requests = Vec::new();
        for (id, spec, request) in watcher.requests() {
            let peer = peers.iter().find(|peer| peer.exchange == spec.exchange);
            let own = || BaseUrl::parse(spec.base_url).ok();
            let given = peer.and_then(|peer| peer.url.clone()).or_else(own);
            let (Some(url), Some(peer), Some((host, _))) = (given, peer, watcher.host(id)) else {
                return Err(MarketError::Address(spec.name));
            };
            let target = [url.prefix.as_ref(), request.target].concat();
            let bytes = render(&url.host_header(), &target, spec.headers, request.body)
                .map_err(|error| MarketError::Request(spec.name, error))?;
            let method = if request.body.is_some() { Method::Post } else { Method::Get };
            requests.push(Rendered { bytes, method });
            // Hosts are numbered in the order their first requests come.
            if host.index() >= hosts.len() {
                hosts.push(Host::new(host.index(), Peer { url, tls: peer.tls.clone() }));
            }
        }
        Ok(Asker { hosts, requests })
    }

    pub(super) fn hosts(&self) -> usize {
        self.hosts.len()
    }

    /// When [`Asker::drive`] is to be called at the latest.
    pub(super) fn deadline(&self, host: usize) -> Mono {
        self.hosts.get(host).map_or(Mono::NEVER, |host| match host.out {
            Out::Naming(_, until) => until,
            _ => host.http.deadline(),
        })
    }

    /// Sends a request to a host where none is out.
    pub(super) fn ask(
        &mut self,
        host: usize,
        id: RequestId,
        registry: &Registry,
        resolver: &mut ResolverClient,
        now: Mono,
    ) {
        let question = u32::try_from(host).unwrap_or(u32::MAX);
        let Some(host) = self.hosts.get_mut(host) else { return };
        if host.peer.url.literal().is_none() && host.name_at <= now {
            // Refused or never answered, it is asked for again after a while.
            resolver.ask(question, &host.peer.url.host);
            let known = !host.addresses.as_slice().is_empty();
            host.name_at = now + if known { limits::DNS_REFRESH } else { limits::DNS_FRESH_FOR };
        }
        if host.http.wants_rotation(limits::CONNECTION_AGE, limits::CONNECTION_REQUESTS, now) {
            host.http.close(registry);
        }
        if host.http.is_idle() {
            host.out = Out::Connecting(id);
            host.send(&self.requests, false, now);
        } else if host.addresses.as_slice().is_empty() {
            host.out = Out::Naming(id, now + limits::DNS_FRESH_FOR);
        } else {
            host.out = Out::Connecting(id);
            host.open(registry, now);
        }
    }

    /// The resolver's answer. A failed lookup leaves the addresses known before.
    pub(super) fn resolved(
        &mut self,
        host: usize,
        addresses: Addresses,
        registry: &Registry,
        now: Mono,
    ) -> Option<Came> {
        let host = self.hosts.get_mut(host)?;
        if !addresses.as_slice().is_empty() {
            host.addresses = addresses;
        }
        let Out::Naming(id, _) = host.out else { return None };
        if addresses.as_slice().is_empty() {
            return Some(host.failed(id, Failure::Connect, "the name has no address"));
        }
        host.out = Out::Connecting(id);
        host.open(registry, now);
        None
    }

    /// Moves a host on as far as its socket allows.
    pub(super) fn drive(
        &mut self,
        index: usize,
        registry: &Registry,
        now: Mono,
        buffer: &mut [u8],
    ) -> Option<Came> {
        let host = self.hosts.get_mut(index)?;
        loop {
            if let Out::Naming(id, until) = host.out {
                let late = until <= now;
                return late.then(|| host.failed(id, Failure::Connect, "the name was not looked up in time"));
            }
            match (host.http.drive(&host.peer, registry, now, buffer), host.out) {
                (Event::Ready, Out::Connecting(_)) => host.send(&self.requests, false, now),
                (Event::Ready, Out::Sent { again: true, .. }) => host.send(&self.requests, true, now),
                (Event::Answer, Out::Sent { id, .. }) => {
                    host.out = Out::No;
                    return Some(Came::Answer(index, id));
                }
                (Event::Lapsed { unanswered: true }, Out::Sent { id, again: false }) => {
                    host.out = Out::Sent { id, again: true };
                    host.open(registry, now);
                }
                (Event::Lapsed { .. }, Out::Connecting(id) | Out::Sent { id, .. }) => {
                    return Some(host.failed(id, Failure::Closed, "closed before it answered"));
                }
                (Event::Failed(failure), Out::Connecting(id) | Out::Sent { id, .. }) => {
                    let problem = host.http.cause().map_or(String::new(), |cause| format!("{cause:?}"));
                    return Some(host.failed(id, failure, &problem));
                }
                _ => return None,
            }
        }
    }

    /// The answer at a host.
    pub(super) fn answer(&mut self, host: usize) -> Option<Answered<'_>> {
        let http = &mut self.hosts.get_mut(host)?.http;
        let head = http.parser().head()?;
        let (status, encoded, retry_after, date) = (head.status, head.encoded, head.retry_after, head.date);
        Some(Answered { status, encoded, retry_after, date, body: http.body_mut() })
    }
}

impl Host {
    fn new(number: usize, peer: Peer) -> Host {
        let addresses = peer.url.literal().into_iter().collect();
        let http = HttpConnection::new(Token(number), None).with_limits(ResponseLimits::MARKET);
        Host { peer, http, addresses, name_at: Mono(0), out: Out::No }
    }

    fn open(&mut self, registry: &Registry, now: Mono) {
        self.http.open(self.addresses.as_slice(), self.peer.url.port, registry, now);
    }

    /// Sends the request that is out; its connection is idle.
    fn send(&mut self, requests: &[Rendered], again: bool, now: Mono) {
        let (Out::Connecting(id) | Out::Sent { id, .. }) = self.out else { return };
        let Some(request) = requests.get(id.index()) else { return };
        let patience = limits::MARKET_REQUEST_TIMEOUT;
        if self.http.send_whole(&request.bytes, request.method, patience, now) {
            self.out = Out::Sent { id, again };
        }
    }

    fn failed(&mut self, id: RequestId, failure: Failure, problem: &str) -> Came {
        self.out = Out::No;
        Came::Failed(id, failure, format!("{}: {problem}", failure.name()))
    }
}
