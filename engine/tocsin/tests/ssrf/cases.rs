//! Rows of the cases: what a URL and its name server's answers come to. The columns are those of
//! `fixtures/ssrf/cases.csv`; a few more answers can be written than are in that file.

use std::net::IpAddr;
use std::time::Duration;

use tocsin_sim::{DnsAnswer, DnsStub};

/// What search lists of the kind that must not be used would complete a name with.
const SEARCH_DOMAINS: [&str; 2] = ["corp.lan", "attacker.com"];

/// What the name of an allowed URL resolves to where its row does not say.
const PUBLIC: &str = "A=93.184.216.34";

pub(crate) struct Case {
    /// Which one of its file, from 1.
    pub(crate) row: usize,
    pub(crate) url: String,
    pub(crate) verdict: String,
    pub(crate) why: String,
    pub(crate) code: String,
    /// What the name servers say, one for each attempt.
    pub(crate) turns: Vec<Turn>,
    /// Whether the last turn is one that must not come to pass.
    pub(crate) last_not_asked: bool,
    /// What the receiver answers, where the row says so.
    pub(crate) response: Option<String>,
}

/// What the name servers say at one attempt.
#[derive(Default)]
pub(crate) struct Turn {
    /// For the name of the URL; `None` for what needs no name server.
    pub(crate) answer: Option<DnsAnswer>,
    /// For other names.
    pub(crate) others: Vec<(String, DnsAnswer)>,
    /// Every address a connection may go to, all names taken together.
    pub(crate) addresses: Vec<IpAddr>,
}

/// The rows of a file.
pub(crate) fn read(file: &[u8]) -> Vec<Case> {
    let mut reader = csv::Reader::from_reader(file);
    let rows = reader.byte_records().enumerate();
    rows.map(|(at, row)| {
        let row = row.unwrap();
        let field = |n: usize| String::from_utf8(row[n].to_vec()).unwrap();
        let (dns, response) = split_response(&field(4));
        // A row about the URL alone says nothing of its name.
        let dns = if dns.is_empty() && field(1) == "ALLOW" { PUBLIC.to_owned() } else { dns };
        let turns: Vec<Turn> =
            dns.split(">>").map(str::trim).filter(|t| *t != "(not asked)").map(turn).collect();
        let last_not_asked = dns.contains("(not asked)");
        let [url, verdict, why] = [field(0), field(1), field(2)];
        Case { row: at + 1, url, verdict, why, code: field(5), turns, last_not_asked, response }
    })
    .collect()
}

/// A response begins with its status and may hold whatever separates fields.
fn split_response(text: &str) -> (String, Option<String>) {
    let is_status = |part: &str| {
        part.len() > 4 && part.as_bytes()[3] == b' ' && part.as_bytes()[..3].iter().all(u8::is_ascii_digit)
    };
    let starts = text.match_indices(';').map(|(at, _)| at + 1);
    match starts.into_iter().find(|at| is_status(&text[*at..])) {
        Some(at) => (text[..at - 1].to_owned(), Some(text[at..].to_owned())),
        None => (text.to_owned(), None),
    }
}

fn list(texts: &str) -> Vec<IpAddr> {
    texts.split(',').map(|text| text.trim().parse().unwrap()).collect()
}

fn turn(text: &str) -> Turn {
    let mut turn = Turn::default();
    let mut own = Vec::new();
    let mut wraps: Vec<fn(Box<DnsAnswer>) -> DnsAnswer> = Vec::new();
    let mut forged = None;
    let mut half = false;
    for field in text.split(';').map(str::trim).filter(|field| !field.is_empty()) {
        let (name, field) = match field.split_once('/') {
            Some((name, field)) => (Some(name), field),
            None => (None, field),
        };
        let (key, value) = field.split_once('=').unwrap_or((field, ""));
        let answer = match key {
            "A" | "AAAA" => {
                turn.addresses.extend(list(value));
                match name {
                    Some(name) => add(&mut turn.others, name, list(value)),
                    None => own.extend(list(value)),
                }
                continue;
            }
            "SEARCH" => {
                turn.others.push(("*".to_owned(), DnsAnswer::Addresses(list(value))));
                continue;
            }
            "TC" => {
                wraps.push(DnsAnswer::Truncated);
                continue;
            }
            "FORGED" => {
                forged = Some(list(value));
                continue;
            }
            "AAAA-FAILS" => {
                half = true;
                continue;
            }
            other => answer(other, value),
        };
        match name {
            Some(name) => turn.others.push((name.to_owned(), answer)),
            None => turn.answer = Some(answer),
        }
    }
    if turn.answer.is_none() && !own.is_empty() {
        turn.answer = Some(DnsAnswer::Addresses(own));
    }
    turn.answer = turn.answer.map(|mut answer| {
        for wrap in wraps {
            answer = wrap(Box::new(answer));
        }
        if half {
            answer = DnsAnswer::ByType { a: Box::new(answer), aaaa: Box::new(DnsAnswer::ServerFailure) };
        }
        match forged {
            Some(addresses) => DnsAnswer::Forged(addresses, Box::new(answer)),
            None => answer,
        }
    });
    turn
}

/// What a name server may say beside addresses.
fn answer(key: &str, value: &str) -> DnsAnswer {
    match key {
        "CNAME" => DnsAnswer::Alias(value.to_owned()),
        "ALONE" => DnsAnswer::AliasAlone(value.to_owned()),
        "SERVFAIL" => DnsAnswer::ServerFailure,
        "REFUSED" => DnsAnswer::Refused,
        "NXDOMAIN" => DnsAnswer::NoName,
        "NODATA" => DnsAnswer::Addresses(Vec::new()),
        "TIMEOUT" => DnsAnswer::Silence,
        "GARBAGE" => DnsAnswer::Garbage(vec![0x81; 30]),
        "MANY" => {
            let many = 0..value.parse().unwrap();
            DnsAnswer::Addresses(many.map(|n: u32| IpAddr::from((0x0808_0000 + n).to_be_bytes())).collect())
        }
        other => panic!("unknown answer {other:?}"),
    }
}

fn add(others: &mut Vec<(String, DnsAnswer)>, name: &str, more: Vec<IpAddr>) {
    match others.iter_mut().find(|(known, _)| known == name) {
        Some((_, DnsAnswer::Addresses(addresses))) => addresses.extend(more),
        _ => others.push((name.to_owned(), DnsAnswer::Addresses(more))),
    }
}

impl Case {
    /// How many attempts are made.
    pub(crate) fn attempts(&self) -> usize {
        self.turns.len().max(1)
    }

    /// The address that is the URL's host, read without the code under test.
    pub(crate) fn address_in_url(&self) -> Option<IpAddr> {
        let authority = self.url.strip_prefix("https://")?.split(['/', '?']).next()?;
        match authority.strip_prefix('[') {
            Some(v6) => v6.split(']').next()?.parse().ok(),
            None => authority.split(':').next()?.parse().ok(),
        }
    }

    /// Writes the row's answers into the name server. `host` is the name of the URL, if it has one.
    pub(crate) fn script(&self, stub: &DnsStub, host: &str) {
        // Records live for no time at all: only rebinding would ask for that.
        let brief = |answer: &DnsAnswer| DnsAnswer::Ttl(0, Box::new(answer.clone()));
        let mut script: Vec<DnsAnswer> =
            self.turns.iter().filter_map(|turn| turn.answer.as_ref()).map(brief).collect();
        if self.last_not_asked {
            script.push(DnsAnswer::addresses(&["127.0.0.1", "::1"]));
        }
        if script.is_empty() {
            return;
        }
        stub.script(host, script);
        for (name, answer) in self.turns.iter().flat_map(|turn| &turn.others) {
            match name.as_str() {
                "*" => SEARCH_DOMAINS
                    .iter()
                    .for_each(|d| stub.script(format!("{host}.{d}"), vec![answer.clone()])),
                name => stub.script(name, vec![answer.clone()]),
            }
        }
    }

    /// How the row is named in messages.
    pub(crate) fn label(&self) -> String {
        format!("row {}: {:?}: {}", self.row, self.url, self.why)
    }
}

/// Longest wait of one attempt with room for a slow machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
