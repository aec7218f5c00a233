//! Server-side request forgery: no webhook reaches an address it must not reach.
//!
//! Every row of `fixtures/ssrf/cases.csv`, of `rows.csv` beside this file and, where the environment
//! variable `TOCSIN_SSRF` names one, of that file, is run with the real resolver against a scripted
//! name server: once for its verdict anywhere, and once in a network namespace in which every address
//! is caught, where a refused row must not cause a single SYN and an allowed one must connect to an
//! address of the very answer that was vetted. There both the parts of a delivery and the real webhook
//! thread are held to them, and the latter delivers to the allowed ones over TLS (`deliveries.rs`). The
//! namespace needs root or user namespaces, and `ip`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod cases;
mod deliveries;
#[allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]
#[path = "../harness/namespace.rs"]
mod inside;
mod namespace;
#[allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]
#[path = "../support/webhook.rs"]
mod rig;
mod sender;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use tocsin::os::addresses::own_addresses;
use tocsin_core::webhook::address::AddressPolicy;
use tocsin_core::webhook::url::{EndpointUrl, Host};
use tocsin_sim::{DnsStub, DnsType};

use cases::Case;
use namespace::{OWN_PUBLIC, Traps, syns};
use sender::{Outcome, Sender, policy_level, webhook_thread};

const OWN_ROWS: &[u8] = include_bytes!("rows.csv");
const FIXTURE: &[u8] = include_bytes!("../../../../fixtures/ssrf/cases.csv");

/// All rows, by the file they are in.
fn files() -> Vec<(&'static str, Vec<Case>)> {
    let mut files = vec![("rows.csv", cases::read(OWN_ROWS)), ("fixtures", cases::read(FIXTURE))];
    match std::env::var_os("TOCSIN_SSRF") {
        None => println!("TOCSIN_SSRF is not set: only the rows of the project are run"),
        Some(path) => {
            let given =
                std::fs::read(&path).unwrap_or_else(|e| panic!("TOCSIN_SSRF={}: {e}", path.display()));
            files.push(("TOCSIN_SSRF", cases::read(&given)));
        }
    }
    files
}

/// What is counted of one file's rows.
#[derive(Default)]
struct Tally {
    rows: usize,
    attempts: usize,
    connected: usize,
    refused: usize,
    no_addresses: usize,
    verdicts: BTreeMap<String, usize>,
    /// Rows whose last word is the receiver's response.
    by_response: usize,
    /// Rows that did not come to their verdict.
    wrong: Vec<String>,
}

impl Tally {
    fn count(&mut self, outcome: &Outcome) {
        self.attempts += 1;
        match outcome {
            Outcome::RefusedUrl(_) | Outcome::RefusedAddress(_) => self.refused += 1,
            Outcome::NoAddresses(_) => self.no_addresses += 1,
            Outcome::Connected(_) | Outcome::Vetted => self.connected += 1,
            Outcome::NotConnected(_) => {}
        }
    }

    fn conclude(&self, file: &str) {
        println!(
            "{file}: {} rows {:?}, {} attempts: {} refused, {} without addresses, {} allowed; {} rows end with a response",
            self.rows,
            self.verdicts,
            self.attempts,
            self.refused,
            self.no_addresses,
            self.connected,
            self.by_response
        );
        assert!(self.wrong.is_empty(), "{file}:\n{}", self.wrong.join("\n"));
    }
}

/// The name to be asked for, where a row's URL is allowed and has one.
fn name_of(url: &str) -> Option<String> {
    match EndpointUrl::parse(url, &AddressPolicy::default()) {
        Ok(url) if matches!(url.host(), Host::Name(_)) => Some(url.host().to_string()),
        _ => None,
    }
}

/// Whether `outcome` is what the row says of its last attempt.
fn agrees(case: &Case, outcome: &Outcome) -> bool {
    let allowed = matches!(outcome, Outcome::Connected(_) | Outcome::Vetted);
    match case.verdict.as_str() {
        "REJECT_URL" => matches!(outcome, Outcome::RefusedUrl(code) if *code == case.code),
        "REJECT_ADDR" => matches!(outcome, Outcome::RefusedAddress(code) if *code == case.code),
        "DNS_FAIL_RETRY" => case.code == "dns" && matches!(outcome, Outcome::NoAddresses(_)),
        // Which response it was is for who reads it; that far it must come.
        "FAIL_NOT_FOLLOWED" => case.response.is_some() && allowed,
        "ALLOW" => case.code.is_empty() && allowed,
        other => panic!("unknown verdict {other:?}"),
    }
}

/// Makes a row's attempts. `each` sees every one with the addresses its answer held.
fn run(
    case: &Case,
    stub: &DnsStub,
    sender: &mut impl Sender,
    tally: &mut Tally,
    mut each: impl FnMut(&Case, &Outcome, &[IpAddr]),
) {
    let name = name_of(&case.url);
    if let Some(name) = &name {
        case.script(stub, name);
    }
    let last = case.attempts() - 1;
    for attempt in 0..=last {
        let outcome = sender.attempt(&case.url);
        let addresses = case.turns.get(attempt).map_or(&[][..], |turn| &turn.addresses);
        tally.count(&outcome);
        if attempt == last {
            if !agrees(case, &outcome) {
                let said = (&case.verdict, &case.code);
                tally.wrong.push(format!("{}: {said:?}, not {outcome:?}", case.label()));
            }
        } else {
            let allowed = matches!(outcome, Outcome::Connected(_) | Outcome::Vetted);
            assert!(allowed, "{}: attempt {attempt}: {outcome:?}", case.label());
        }
        each(case, &outcome, addresses);
    }
    // One question of each type an attempt, aliases and failures aside: what is connected to is what was
    // checked.
    let followed = case.verdict == "DNS_FAIL_RETRY" || case.turns.iter().any(|turn| !turn.others.is_empty());
    if let Some(name) = &name
        && !followed
    {
        for kind in [DnsType::A, DnsType::Aaaa] {
            assert!(stub.asked(name, kind) <= case.attempts(), "{}: asked again", case.label());
        }
        assert!(stub.asked(name, DnsType::A) > 0, "{}: not asked", case.label());
    }
    tally.rows += 1;
    tally.by_response += usize::from(case.response.is_some());
    *tally.verdicts.entry(case.verdict.clone()).or_default() += 1;
}

#[test]
fn every_row_gets_its_verdict() {
    let stub = DnsStub::start::<&str>([]).unwrap();
    let own = [own_addresses().unwrap(), vec![OWN_PUBLIC.into()]].concat();
    let mut sender = policy_level(stub.address(), own, false);
    for (file, cases) in files() {
        let mut tally = Tally::default();
        for case in &cases {
            run(case, &stub, &mut sender, &mut tally, |_, _, _| {});
        }
        tally.conclude(file);
        assert!(tally.rows > 40 && tally.refused > 40 && tally.connected > 0, "{file} holds too little");
    }
    only_absolute_names_were_asked_for(&stub);
}

/// Every name asked for is one that a row has; none was completed with a search domain.
fn only_absolute_names_were_asked_for(stub: &DnsStub) {
    let mut known = BTreeSet::new();
    for case in files().iter().flat_map(|(_, cases)| cases) {
        known.extend(name_of(&case.url));
        for turn in &case.turns {
            known.extend(turn.others.iter().map(|(name, _)| name.clone()));
        }
    }
    for (name, kind) in stub.names_asked() {
        assert!(known.contains(&name) || name == "gone.attacker.com", "{name} was asked for");
        assert!(matches!(kind, DnsType::A | DnsType::Aaaa), "{name}: {kind:?}");
    }
}

#[test]
fn no_syn_leaves_for_a_refused_address() {
    if namespace::enter("no_syn_leaves_for_a_refused_address") {
        hold_to_the_rows(|stub, own| policy_level(stub, own, true));
    }
}

#[test]
fn no_syn_leaves_the_webhook_thread_for_a_refused_address() {
    if namespace::enter("no_syn_leaves_the_webhook_thread_for_a_refused_address") {
        hold_to_the_rows(|stub, own| webhook_thread(stub, &own));
    }
}

/// Runs every row in the namespace against what `sender` makes of a name server and our own addresses.
fn hold_to_the_rows<S: Sender>(sender: impl FnOnce(SocketAddr, Vec<IpAddr>) -> S) {
    let files = files();
    let ports = files.iter().flat_map(|(_, cases)| cases).filter_map(|case| {
        let url = EndpointUrl::parse(&case.url, &AddressPolicy::default()).ok()?;
        Some(url.port())
    });
    let traps = Traps::open(ports.chain([443]));
    the_traps_would_catch_it(&traps);
    let stub = DnsStub::start::<&str>([]).unwrap();
    let own = own_addresses().unwrap();
    assert!(own.contains(&OWN_PUBLIC.into()), "{own:?}");
    let mut sender = sender(stub.address(), own);
    for (file, cases) in &files {
        let mut tally = Tally::default();
        let mut allowed_syns = 0;
        for case in cases {
            let mut before = (syns(), stub.connections());
            run(case, &stub, &mut sender, &mut tally, |case, outcome, addresses| {
                let after = (syns(), stub.connections());
                // Truncated answers are asked for over TCP: those are the resolver's.
                let sent = after.0 - before.0 - u64::try_from(after.1 - before.1).unwrap();
                before = after;
                allowed_syns += check(case, outcome, addresses, sent, &traps);
            });
        }
        tally.conclude(file);
        println!(
            "{file}: 0 SYN by {} attempts refused or without addresses, {allowed_syns} by {} allowed",
            tally.refused + tally.no_addresses,
            tally.connected
        );
    }
}

/// Holds one attempt to what it sent, and returns that.
fn check(case: &Case, outcome: &Outcome, addresses: &[IpAddr], sent: u64, traps: &Traps) -> u64 {
    let Outcome::Connected(to) = outcome else {
        assert_eq!(sent, 0, "{}: {outcome:?}, yet SYNs were sent", case.label());
        assert_eq!(traps.caught(0), [], "{}", case.label());
        return 0;
    };
    // An address in the URL itself is its own answer.
    let written = case.address_in_url();
    let vetted = |to: &SocketAddr| addresses.contains(&to.ip()) || written == Some(to.ip());
    assert!(sent > 0 && vetted(to), "{}: connected to {to}", case.label());
    for caught in traps.caught(1) {
        assert!(vetted(&caught), "{}: a connection to {caught}", case.label());
    }
    sent
}

/// Without this, no SYN seen would say nothing.
fn the_traps_would_catch_it(traps: &Traps) {
    for address in [
        "127.0.0.1",
        "10.0.0.1",
        "169.254.169.254",
        "93.184.216.99",
        "8.8.8.8",
        "240.0.0.1",
        "::1",
        "fd00::1",
        "2002:a00:5::",
        "64:ff9b::a00:1",
    ] {
        let to = SocketAddr::new(address.parse().unwrap(), 443);
        let before = syns();
        std::net::TcpStream::connect(to).unwrap();
        assert_eq!((syns() - before, traps.caught(1)), (1, vec![to]), "{address}");
    }
}
