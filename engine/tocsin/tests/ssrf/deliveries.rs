//! The webhook thread delivers to every allowed row over TLS, in the namespace where all addresses end
//! at receivers of ours: to the vetted address and to no other, whatever the answer or, later, the name
//! says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tocsin::os::addresses::own_addresses;
use tocsin::rings::ToWebhook;
use tocsin::store::webhook::deliveries::AttemptRecord;
use tocsin_core::limits;
use tocsin_core::webhook::address::AddressPolicy;
use tocsin_core::webhook::attempt::FailureClass;
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::endpoint::State;
use tocsin_core::webhook::lane::Purpose;
use tocsin_core::webhook::url::EndpointUrl;
use tocsin_sim::{Behaviour, DnsStub, Received, ReceiverOptions, Reply, SimReceiver};

use crate::cases::{Case, Turn};
use crate::namespace::{self, syns};
use crate::rig::{Surroundings, WebhookRig};
use crate::{files, name_of};

/// After it no answer is fresh any more.
const STALE: Duration = Duration::from_secs(limits::WEBHOOK_DNS_FRESH_AT_MOST.as_secs() + 1);

/// Receivers on every address, one for each port, each with a certificate for all of the rows' hosts.
struct World {
    receivers: BTreeMap<u16, SimReceiver>,
    stub: DnsStub,
    rig: WebhookRig,
    _dir: tempfile::TempDir,
}

/// What reached this machine since the last look.
struct Seen {
    syns: u64,
    connections: u64,
    /// Where connections came to.
    reached: BTreeSet<IpAddr>,
}

impl World {
    fn new(cases: &[Case]) -> World {
        let mut hosts: BTreeMap<u16, BTreeSet<String>> = BTreeMap::new();
        for case in cases {
            let url = EndpointUrl::parse(&case.url, &AddressPolicy::default()).unwrap();
            let host = url.host().to_string();
            let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            hosts.entry(url.port()).or_default().insert(host);
        }
        let dir = tempfile::tempdir().unwrap();
        let ca_file = dir.path().join("ca.pem");
        let ca = SimReceiver::new_ca().unwrap();
        ca.write_to(&ca_file).unwrap();
        let start = |port: u16, hosts: &BTreeSet<String>| {
            SimReceiver::start(ReceiverOptions {
                listen: SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
                hosts: hosts.iter().cloned().collect(),
                ca: Some(Arc::clone(&ca)),
                ..ReceiverOptions::default()
            })
            .unwrap()
        };
        let receivers = hosts.iter().map(|(port, hosts)| (*port, start(*port, hosts))).collect();
        let stub = DnsStub::start::<&str>([]).unwrap();
        let own = own_addresses().unwrap();
        let around =
            Surroundings { resolvers: &[stub.address()], allow: &[], own: &own, ca_file: Some(&ca_file) };
        let rig = WebhookRig::new(&around);
        World { receivers, stub, rig, _dir: dir }
    }

    fn seen(&mut self) -> Seen {
        let connections: u64 = self.receivers.values().map(|r| r.counters().connections).sum();
        let reached = self.receivers.values().flat_map(SimReceiver::take_reached).map(|to| to.ip()).collect();
        Seen { syns: syns() - u64::try_from(self.stub.connections()).unwrap(), connections, reached }
    }

    /// The deliveries that have come, pings aside.
    fn taken(&self) -> Vec<Received> {
        let all = self.receivers.values().flat_map(SimReceiver::take);
        all.filter(|received| received.event_type().as_deref() != Some("ping")).collect()
    }

    /// The last line about an event.
    fn last_attempt(&self) -> AttemptRecord {
        let of_event = |line: &AttemptRecord| matches!(line.purpose, Purpose::Event { .. });
        self.rig.attempts().into_iter().rfind(of_event).unwrap()
    }

    /// An event goes out; what it came to and what arrived.
    fn deliver(&mut self) -> (AttemptRecord, Vec<Received>) {
        let concluded = self.rig.outcomes().len();
        self.rig.announce("NEWS");
        self.rig.until("its outcome", |rig| rig.outcomes().len() > concluded);
        (self.last_attempt(), self.taken())
    }

    /// Holds what has arrived since `before` to the addresses of one answer.
    fn only_vetted(&mut self, case: &Case, before: &Seen, turn: Option<&Turn>) -> u64 {
        let after = self.seen();
        let written = case.address_in_url();
        let vetted =
            |to: &IpAddr| turn.is_some_and(|turn| turn.addresses.contains(to)) || written == Some(*to);
        assert!(after.reached.iter().all(vetted), "{}: {:?}", case.label(), after.reached);
        let (sent, arrived) = (after.syns - before.syns, after.connections - before.connections);
        assert_eq!(sent, arrived, "{}: SYNs, and connections that arrived", case.label());
        sent
    }

    /// The last answer of a row is refused: what is warm is closed and nothing is sent.
    fn refused(&mut self, case: &Case, id: EndpointId) {
        let before = self.seen();
        self.rig.pass(STALE);
        self.rig.idle(id, 0);
        let (line, received) = self.deliver();
        assert_eq!((line.class, line.address), (Some(FailureClass::Address), None), "{}", case.label());
        assert!(received.is_empty(), "{}: {received:?}", case.label());
        let after = self.seen();
        assert_eq!((after.syns, after.connections), (before.syns, before.connections), "{}", case.label());
        for receiver in self.receivers.values() {
            while receiver.counters().open > 0 {
                self.rig.step();
            }
        }
    }

    /// Delivers as the answer of `turn` allows, to an address of it.
    fn delivered(&mut self, case: &Case, turn: Option<&Turn>, answered: &Behaviour) {
        self.receivers.values().for_each(|receiver| receiver.otherwise(answered.clone()));
        let (line, received) = self.deliver();
        let redirected = case.verdict == "FAIL_NOT_FOLLOWED";
        assert_eq!(line.class, redirected.then_some(FailureClass::Redirect), "{}", case.label());
        assert_eq!(received.len(), 1, "{}: {received:?}", case.label());
        let to = received[0].to.ip();
        assert_eq!(line.address, Some(to));
        assert!(turn.is_some_and(|turn| turn.addresses.contains(&to)) || case.address_in_url() == Some(to));
        self.receivers.values().for_each(|receiver| receiver.otherwise(Behaviour::ok()));
    }
}

/// `307 Location: https://10.0.0.1/` and the like.
fn behaviour(response: Option<&str>) -> Behaviour {
    let Some(response) = response else { return Behaviour::ok() };
    let (status, header) = response.split_once(' ').unwrap();
    let reply = Reply::new(status.parse().unwrap());
    Behaviour::reply(match header.split_once(": ") {
        Some((name, value)) => reply.with(name, value),
        None => reply,
    })
}

/// Whether a row comes as far as a delivery.
fn delivers(case: &Case) -> bool {
    matches!(case.verdict.as_str(), "ALLOW" | "FAIL_NOT_FOLLOWED")
        || case.verdict == "REJECT_ADDR" && case.turns.len() > 1
}

fn run(world: &mut World, case: &Case) -> u64 {
    if let Some(name) = name_of(&case.url) {
        case.script(&world.stub, &name);
    }
    let mut before = world.seen();
    let (id, report) = world.rig.register(&case.url);
    assert_eq!(report.state, State::Active, "{}: {report:?}", case.label());
    world.rig.warm(id);
    let turns = match case.turns.as_slice() {
        [] => vec![None],
        turns => turns.iter().map(Some).collect(),
    };
    let last = turns.len() - 1;
    let mut sent = 0;
    for (at, turn) in turns.into_iter().enumerate() {
        if at == last && case.verdict == "REJECT_ADDR" {
            world.refused(case, id);
            break;
        }
        if at > 0 {
            // The old address is left before anything is sent to the new one.
            before = world.seen();
            let closed = |world: &World| -> u64 {
                world.receivers.values().map(SimReceiver::counters).map(|c| c.connections - c.open).sum()
            };
            let closed_before = closed(world);
            world.rig.pass(STALE);
            while closed(world) < closed_before + 2 {
                world.rig.step();
            }
            world.rig.warm(id);
        }
        world.delivered(case, turn, &behaviour(case.response.as_deref()));
        sent += world.only_vetted(case, &before, turn);
    }
    world.rig.commands.push(ToWebhook::Remove(id)).unwrap();
    assert!(world.rig.ask(|reply| ToWebhook::Report(vec![id], reply)).is_empty());
    sent
}

#[test]
fn every_delivery_goes_to_a_vetted_address() {
    if !namespace::enter("deliveries::every_delivery_goes_to_a_vetted_address") {
        return;
    }
    for (file, cases) in files() {
        let cases: Vec<Case> = cases.into_iter().filter(delivers).collect();
        let mut world = World::new(&cases);
        let sent: u64 = cases.iter().map(|case| run(&mut world, case)).sum();
        println!("{file}: {} rows delivered to, {sent} SYN, all to vetted addresses", cases.len());
        assert!(cases.len() > 5, "{file} holds too little");
    }
}
