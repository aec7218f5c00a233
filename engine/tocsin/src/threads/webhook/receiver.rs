//! What the webhook thread keeps of an endpoint beside its health: where it is, how it is signed for,
//! and its connections.
//!
//! Contract: plain data and decisions, no socket. Addresses are used only while fresh and only when
//! every one of them passed the policy. TLS remembers sessions of one address at a time. Owner: the
//! webhook thread. Allocates when an endpoint or its addresses change.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tocsin_core::limits;
use tocsin_core::time::Mono;
use tocsin_core::webhook::attempt::FailureClass;
use tocsin_core::webhook::endpoint::SavedHealth;
use tocsin_core::webhook::signature::{Brand, RequestHead, Signers};
use tocsin_core::webhook::url::Host;

use super::connection::Attempt;
use crate::net::tls::ClientTls;
use crate::rings::EndpointSetup;

/// First and longest pause before a warm connection is tried again after one could not be made.
const WARM_RETRY_MIN: Duration = Duration::from_secs(5);
const WARM_RETRY_MAX: Duration = Duration::from_secs(300);
/// Pause before a warm connection that the receiver closed is made anew: one whose idle limit is a few
/// seconds is not hammered.
const WARM_AGAIN: Duration = Duration::from_secs(1);

/// What is known of a name's addresses.
#[derive(Debug, Default)]
struct Addresses {
    list: Box<[IpAddr]>,
    fresh_until: Mono,
}

/// See the module head.
#[derive(Debug)]
pub(super) struct Receiver {
    /// Host without brackets, for DNS and TLS.
    pub(super) host: Arc<str>,
    pub(super) port: u16,
    /// An address written as the host: never resolved.
    literal: Option<IpAddr>,
    pub(super) head: RequestHead,
    pub(super) signers: Signers,
    /// Slots of idle connections, the one used last at the end.
    pub(super) idle: Vec<u32>,
    /// Connections of any kind.
    pub(super) connections: usize,
    /// Connections being opened to be kept warm.
    pub(super) warming: usize,
    /// Connections whose last answer's body is still read.
    pub(super) draining: usize,
    /// Attempts that wait for addresses.
    pub(super) waiting: Vec<Attempt>,
    /// A question is at the resolver since then.
    pub(super) asked_at: Option<Mono>,
    addresses: Addresses,
    sessions: Option<(IpAddr, ClientTls)>,
    /// Dials so far: which address is preferred.
    pub(super) turn: usize,
    warm_failures: u32,
    /// Its entry in the owner's list of endpoints to warm.
    pub(super) warm_at: Mono,
    /// As last given to the journal thread.
    pub(super) saved: SavedHealth,
    /// The last failure, for mail.
    pub(super) last_failure: Option<Box<str>>,
}

impl Receiver {
    pub(super) fn new(setup: &EndpointSetup, brand: &Brand, saved: SavedHealth) -> Receiver {
        let (host, literal) = match setup.url.host() {
            Host::Name(name) => (name.to_string(), None),
            Host::Ipv4(address) => (address.to_string(), Some(IpAddr::V4(*address))),
            Host::Ipv6(address) => (address.to_string(), Some(IpAddr::V6(*address))),
        };
        Receiver {
            host: host.into(),
            port: setup.url.port(),
            literal,
            head: RequestHead::new(&setup.url, brand),
            signers: signers(setup),
            idle: Vec::new(),
            connections: 0,
            warming: 0,
            draining: 0,
            waiting: Vec::new(),
            asked_at: None,
            addresses: Addresses::default(),
            sessions: None,
            turn: 0,
            warm_failures: 0,
            warm_at: Mono::NEVER,
            saved,
            last_failure: None,
        }
    }

    /// A rotated secret.
    pub(super) fn change(&mut self, setup: &EndpointSetup) {
        self.signers = signers(setup);
    }

    /// The address to be vetted without asking anybody, where the URL names one.
    pub(super) const fn literal(&self) -> Option<IpAddr> {
        self.literal
    }

    /// Addresses that may be connected to now.
    pub(super) fn fresh_addresses(&self, now: Mono) -> Option<&[IpAddr]> {
        (now < self.addresses.fresh_until && !self.addresses.list.is_empty()).then_some(&*self.addresses.list)
    }

    /// Until when those known may be connected to.
    pub(super) const fn fresh_until(&self) -> Mono {
        self.addresses.fresh_until
    }

    /// Takes addresses that have passed the policy.
    pub(super) fn set_addresses(&mut self, list: Box<[IpAddr]>, fresh_until: Mono) {
        self.addresses = Addresses { list, fresh_until };
    }

    /// Forgets them: the policy refuses what the name now leads to.
    pub(super) fn forget_addresses(&mut self) {
        self.addresses = Addresses::default();
    }

    /// Whether a connection to `address` may be kept.
    pub(super) fn leads_to(&self, address: IpAddr) -> bool {
        self.literal == Some(address) || self.addresses.list.contains(&address)
    }

    /// The TLS side for a connection to `address`: with the sessions it has issued, and no other's.
    pub(super) fn tls_for(&mut self, address: IpAddr, base: &ClientTls) -> ClientTls {
        match &self.sessions {
            Some((known, tls)) if *known == address => tls.clone(),
            _ => {
                let tls = base.with_own_sessions();
                self.sessions = Some((address, tls.clone()));
                tls
            }
        }
    }

    /// Warm connections it lacks, those being made counted as there.
    pub(super) fn lacks_warmth(&self) -> bool {
        // Busy ones come back warm.
        self.connections < usize::from(limits::WEBHOOK_WARM_CONNECTIONS)
    }

    /// How long to wait before the next warm connection, after one could not be made.
    pub(super) fn warm_pause(&mut self, seed: u64) -> Duration {
        let doubled = WARM_RETRY_MIN.saturating_mul(1 << self.warm_failures.min(10)).min(WARM_RETRY_MAX);
        self.warm_failures = self.warm_failures.saturating_add(1);
        // Up to a quarter more, so that those whose server went down together do not come together.
        doubled + doubled.mul_f64(0.25 * (seed >> 11) as f64 / (1_u64 << 53) as f64)
    }

    /// One could.
    pub(super) fn warmed(&mut self) {
        self.warm_failures = 0;
    }

    /// How long to wait before a connection that ended idle after `lived` is made anew: the shorter it
    /// lived unused, the longer.
    pub(super) fn rewarm_pause(&mut self, lived: Duration, used: bool, seed: u64) -> Duration {
        if used || lived >= WARM_RETRY_MIN / 2 { WARM_AGAIN } else { self.warm_pause(seed) }
    }

    pub(super) fn note_failure(&mut self, class: FailureClass, status: Option<u16>, detail: Option<&str>) {
        let status = status.map(|status| format!(", status {status}")).unwrap_or_default();
        let detail = detail.map(|detail| format!(", {detail}")).unwrap_or_default();
        self.last_failure = Some(format!("{}{status}{detail}", class.name()).into());
    }
}

fn signers(setup: &EndpointSetup) -> Signers {
    match &setup.previous {
        Some((previous, until)) => Signers::rotated(&setup.secret, previous, *until),
        None => Signers::new(&setup.secret),
    }
}
