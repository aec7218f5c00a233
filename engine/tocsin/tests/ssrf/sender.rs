//! One attempt at a URL: the one place that says what sends.
//!
//! There are two senders, held to the same rows. [`policy_level`] is the way every delivery goes before
//! its first byte, piece by piece: URL rules, resolver, address policy, dial. [`webhook_thread`] is the
//! real thread, asked to register the URL as an endpoint: its verification ping is the attempt.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use mio::{Events, Poll, Token};
use tocsin::net::dial::{Dial, Dialled};
use tocsin::net::egress::{DnsFailure, EgressClient, EgressResolver};
use tocsin::os::clock;
use tocsin::rings::ToWebhook;
use tocsin::store::webhook::deliveries::AttemptRecord;
use tocsin_core::webhook::address::{AddressPolicy, AnswerRefused};
use tocsin_core::webhook::attempt::FailureClass;
use tocsin_core::webhook::url::{EndpointUrl, Host};

use crate::cases::PATIENCE;
use crate::rig::{Surroundings, WebhookRig};

/// What an attempt came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The URL breaks a rule: its code.
    RefusedUrl(&'static str),
    /// An address of the name is not allowed: the code.
    RefusedAddress(&'static str),
    /// The name gave no addresses.
    NoAddresses(DnsFailure),
    /// Connected to this address.
    Connected(SocketAddr),
    /// All is allowed, but nothing connected.
    NotConnected(String),
    /// All is allowed, and nothing was to be dialled.
    Vetted,
}

/// Something that attempts deliveries.
pub(crate) trait Sender {
    /// One attempt, from the URL's text on, nothing kept from the one before.
    fn attempt(&mut self, url: &str) -> Outcome;
}

/// The parts a delivery goes through before its first byte; `dials` says whether to the last of them.
pub(crate) fn policy_level(name_server: SocketAddr, own: Vec<IpAddr>, dials: bool) -> impl Sender {
    PolicyLevel::new(name_server, own, dials).unwrap()
}

/// The webhook thread. It dials: only where every address is a trap.
pub(crate) fn webhook_thread(name_server: SocketAddr, own: &[IpAddr]) -> impl Sender + use<> {
    ThreadLevel {
        rig: WebhookRig::new(&Surroundings { resolvers: &[name_server], allow: &[], own, ca_file: None }),
    }
}

const WOKEN: Token = Token(0);
const DIALLED: Token = Token(1);

struct PolicyLevel {
    poll: Poll,
    client: EgressClient,
    _resolver: EgressResolver,
    policy: AddressPolicy,
    dials: bool,
    asked: u64,
}

impl PolicyLevel {
    fn new(name_server: SocketAddr, own: Vec<IpAddr>, dials: bool) -> io::Result<PolicyLevel> {
        let poll = Poll::new()?;
        let wake = Arc::new(mio::Waker::new(poll.registry(), WOKEN)?);
        let (resolver, client) = EgressResolver::start(&[name_server], wake)?;
        let policy = AddressPolicy::new(Vec::new(), own);
        Ok(PolicyLevel { poll, client, _resolver: resolver, policy, dials, asked: 0 })
    }

    fn turn(&mut self, until: Instant) {
        assert!(Instant::now() < until, "an attempt never ended");
        let mut events = Events::with_capacity(16);
        match self.poll.poll(&mut events, Some(std::time::Duration::from_millis(5))) {
            // A signal, as of a child that has ended, is no answer.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            turned => turned.unwrap(),
        }
    }

    fn resolve(&mut self, host: &Host) -> Result<Vec<IpAddr>, DnsFailure> {
        let name = match host {
            Host::Name(name) => name,
            Host::Ipv4(address) => return Ok(vec![IpAddr::V4(*address)]),
            Host::Ipv6(address) => return Ok(vec![IpAddr::V6(*address)]),
        };
        self.asked += 1;
        assert!(self.client.ask(self.asked, name));
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = self.client.poll() {
                assert_eq!(answer.id, self.asked);
                return answer.result;
            }
            self.turn(until);
        }
    }

    fn dial(&mut self, addresses: &[IpAddr], port: u16) -> Outcome {
        let mut dial = Dial::new();
        dial.start(addresses, port, None, 0, clock::mono());
        let until = Instant::now() + PATIENCE;
        loop {
            match dial.poll(self.poll.registry(), DIALLED, clock::mono()) {
                Dialled::Pending(_) => self.turn(until),
                Dialled::Connected(_, address) => return Outcome::Connected(address),
                Dialled::Failed(error) => return Outcome::NotConnected(format!("{error:?}")),
            }
        }
    }
}

impl Sender for PolicyLevel {
    fn attempt(&mut self, url: &str) -> Outcome {
        let url = match EndpointUrl::parse(url, &self.policy) {
            Ok(url) => url,
            Err(error) => return Outcome::RefusedUrl(error.code()),
        };
        let addresses = match self.resolve(url.host()) {
            Ok(addresses) => addresses,
            Err(failure) => return Outcome::NoAddresses(failure),
        };
        match self.policy.check_answer(&addresses) {
            Err(AnswerRefused::Empty) => panic!("an answer without an address"),
            Err(refused) => return Outcome::RefusedAddress(refused.code()),
            Ok(()) if !self.dials => return Outcome::Vetted,
            Ok(()) => {}
        }
        self.dial(&addresses, url.port())
    }
}

struct ThreadLevel {
    rig: WebhookRig,
}

impl Sender for ThreadLevel {
    fn attempt(&mut self, url: &str) -> Outcome {
        // As the customer API does before an endpoint is stored.
        let port = match EndpointUrl::parse(url, &self.rig.policy) {
            Ok(url) => url.port(),
            Err(error) => return Outcome::RefusedUrl(error.code()),
        };
        let (id, report) = self.rig.register(url);
        self.rig.commands.push(ToWebhook::Remove(id)).unwrap();
        let gone = self.rig.ask(|reply| ToWebhook::Report(vec![id], reply));
        assert!(gone.is_empty(), "{gone:?}");
        outcome(&report.attempt, port)
    }
}

/// What the delivery log says, in the terms of the rows.
fn outcome(line: &AttemptRecord, port: u16) -> Outcome {
    let detail = line.detail.as_deref().unwrap_or_default();
    match (line.class, line.address) {
        (Some(FailureClass::Address), None) => {
            let mixed = detail.ends_with("every address of a name must be public");
            Outcome::RefusedAddress(if mixed { "mixed" } else { "addr" })
        }
        (Some(FailureClass::Dns), None) => {
            use DnsFailure::{Malformed, NoName, ServerFailure, Timeout, TooMany};
            let all = [Malformed, NoName, ServerFailure, Timeout, TooMany];
            let said = all.into_iter().find(|failure| failure.to_string() == detail);
            Outcome::NoAddresses(said.unwrap_or_else(|| panic!("{line:?}")))
        }
        // Whatever became of it there.
        (_, Some(address)) => Outcome::Connected(SocketAddr::new(address, port)),
        (_, None) => Outcome::NotConnected(format!("{line:?}")),
    }
}
