//! The receivers of `tests/receivers` with the running engine: registered on the command line, verified
//! once they know their secret, sent events, a test event, and events while their secret is rotated.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod harness;
mod receivers;

use std::collections::BTreeMap;

use harness::shop::egress;
use harness::{Engine, Mode, wait_for};
use receivers::{Certificates, Checks, Kind, Receiver, start_receiver};
use serde_json::{Value, json};

/// A secret in its form that signs nothing here: what a receiver has before it is told its own.
const UNKNOWN: &str = "whsec_dG9jc2luLXRlc3QtdmVjdG9ycy1ub3QtYS1zZWNyZXQ=";

/// Announcements, and the events they must become: type, exchange, symbol, listing type.
const ANNOUNCED: [(&str, &str, &[[&str; 4]]); 5] = [
    ("binance", "Binance Will List Newcoin (NEWC)", &[["new_listing", "Binance", "NEWCUSDT", "spot"]]),
    (
        "upbit",
        "[거래] 뉴코인(NEWC) 신규 거래지원 안내 (KRW, BTC, USDT 마켓)",
        &[["new_listing", "Upbit", "NEWCKRW", "spot"]],
    ),
    ("bithumb", "[마켓 추가] 뉴코인(NEWC) 원화 마켓 추가", &[["new_listing", "Bithumb", "NEWCKRW", "spot"]]),
    (
        "binance",
        "Binance Futures Will Launch USDⓈ-Margined NEWCUSDT Perpetual Contract (2026-12-01)",
        &[["futures_listing", "Binance", "NEWCUSDT", "perp"]],
    ),
    (
        "binance",
        "Binance Will Delist OLDA, OLDB on 2026-12-04",
        &[["delisting", "Binance", "OLDAUSDT", "spot"], ["delisting", "Binance", "OLDBUSDT", "spot"]],
    ),
];

/// A receiver with its endpoint.
struct Hooked {
    receiver: Receiver,
    id: String,
    secret: String,
}

impl Hooked {
    /// Registers it: it refuses a ping it cannot verify, is told its secret, and accepts the next.
    fn register(engine: &Engine, account: &str, mut receiver: Receiver) -> Hooked {
        let kind = receiver.kind;
        let add = ["webhooks", "add", "--account", account, "--url", &receiver.url];
        let made = engine.cli_json(&add);
        assert_eq!(made["state"], "pending", "{kind:?}: {made}");
        assert_eq!(made["verification"]["status"], 401, "{kind:?}: {made}");
        assert_eq!(receiver.next_request()["verified"], false, "{kind:?}");
        let (id, secret) = (made["id"].to_string(), made["secret"].as_str().unwrap().to_owned());
        receiver.set_secret(&secret);
        let verified = engine.cli_json(&["webhooks", "verify", &id]);
        assert_eq!(verified["state"], "active", "{kind:?}: {verified}");
        let said = receiver.next_request();
        assert_eq!((&said["verified"], &said["type"]), (&json!(true), &json!("ping")), "{kind:?}: {said}");
        Hooked { receiver, id, secret }
    }

    /// The next request that is no health ping; verified, as every one must be.
    fn next(&mut self) -> Value {
        loop {
            let said = self.receiver.next_request();
            assert_eq!(said["verified"], true, "{:?}: {said}", self.receiver.kind);
            assert_eq!(said["attempt"], "1", "{:?}: {said}", self.receiver.kind);
            if said["type"] != "ping" {
                return said;
            }
        }
    }

    fn rotate(&mut self, engine: &Engine, grace: &str) -> String {
        let rotated = engine.cli_json(&["webhooks", "rotate", &self.id, "--grace", grace]);
        std::mem::replace(&mut self.secret, rotated["secret"].as_str().unwrap().to_owned())
    }

    /// The delivery log: the first ping was refused, all else was answered with 200 at once.
    fn check_log(&self, engine: &Engine, expected: &BTreeMap<&str, usize>) {
        let kind = self.receiver.kind;
        wait_for(&format!("the delivery log of {kind:?}"), || {
            let log = engine.cli_json(&["webhooks", "deliveries", &self.id, "--limit", "200"]);
            let mut counted: BTreeMap<&str, usize> = BTreeMap::new();
            let lines = log["deliveries"].as_array().unwrap();
            for line in lines.iter().filter(|line| line["purpose"] != "health") {
                *counted.entry(line["purpose"].as_str().unwrap()).or_default() += 1;
            }
            let (first, later) = lines.split_last().unwrap();
            assert_eq!(
                (&first["status"], &first["class"]),
                (&json!(401), &json!("unauthorized")),
                "{kind:?}"
            );
            for line in later {
                let said = (&line["ok"], &line["status"], &line["attempt"]);
                assert_eq!(said, (&json!(true), &json!(200), &json!(1)), "{kind:?}: {line}");
                assert!(line["phases"]["first_byte_us"].is_u64(), "{kind:?}: {line}");
            }
            counted == *expected
        });
    }
}

/// Announces it; every receiver verifies every event of it, each once.
fn announce(engine: &Engine, all: &mut [Hooked], exchange: &str, title: &str, events: &[[&str; 4]]) {
    engine.inject(exchange, title);
    let mut ids = Vec::new();
    for hooked in all.iter_mut() {
        let kind = hooked.receiver.kind;
        let mut came: Vec<Value> = events.iter().map(|_| hooked.next()).collect();
        came.sort_by_key(|said| said["symbol"].to_string());
        let told: Vec<[&str; 2]> = came
            .iter()
            .map(|said| [said["type"].as_str().unwrap(), said["symbol"].as_str().unwrap()])
            .collect();
        let expected: Vec<[&str; 2]> = events.iter().map(|[kind, _, symbol, _]| [*kind, *symbol]).collect();
        assert_eq!(told, expected, "{kind:?}: {title}");
        ids.push(came.iter().map(|said| said["event_id"].to_string()).collect::<Vec<_>>());
    }
    assert!(ids.windows(2).all(|pair| pair[0] == pair[1]), "one id for everybody: {ids:?}");
}

#[test]
fn every_receiver_verifies_everything_the_engine_sends() {
    let certificates = Certificates::new();
    let engine = Engine::start(Mode::Plain, &egress(&certificates.ca_file()));
    let mut all = Vec::new();
    let mut token = String::new();
    // An account has at most five endpoints.
    for kinds in Kind::ALL.chunks(4) {
        let made = engine.cli_json(&["accounts", "create", "--name", "Desk", "--plan", "phantom"]);
        made["token"].as_str().unwrap().clone_into(&mut token);
        for kind in kinds {
            let receiver = start_receiver(*kind, UNKNOWN, &certificates);
            all.push(Hooked::register(&engine, &made["id"].to_string(), receiver));
        }
    }
    for (exchange, title, events) in ANNOUNCED {
        announce(&engine, &mut all, exchange, title, events);
    }
    let events = ANNOUNCED.iter().flat_map(|(_, _, events)| events.iter());
    let (_, listed) =
        engine.admin_as("GET", "/v1/events", &format!("Authorization: Bearer {token}\r\n"), None);
    for (event, expected) in listed["events"].as_array().unwrap().iter().zip(events) {
        let fields = ["type", "exchange", "symbol", "listing_type"];
        assert_eq!(fields.map(|name| event[name].as_str().unwrap()), *expected, "{event}");
    }
    for hooked in &mut all {
        let test = engine.cli_json(&["webhooks", "test", &hooked.id, "--type", "listing_preview"]);
        assert_eq!((&test["ok"], &test["status"]), (&json!(true), &json!(200)), "{test}");
        let said = hooked.next();
        assert_eq!(said["event_id"], test["event_id"]);
        assert_eq!((&said["type"], &said["symbol"]), (&json!("listing_preview"), &json!("TESTUSDT")));
    }
    let more = rotations(&engine, &mut all);
    let events = ANNOUNCED.iter().map(|(_, _, events)| events.len()).sum::<usize>() + more;
    let expected = BTreeMap::from([("event", events), ("test", 1), ("verification", 2)]);
    all.iter().for_each(|hooked| hooked.check_log(&engine, &expected));
}

/// Three more events, around rotations: with the old secret during the grace; with the new one then,
/// where the standard header is checked, which holds both; with a new one alone.
fn rotations(engine: &Engine, all: &mut [Hooked]) -> usize {
    let listing = |all: &mut [Hooked], ticker: &str| {
        let symbol = format!("{ticker}USDT");
        let title = format!("Binance Will List Another Coin ({ticker})");
        announce(engine, all, "binance", &title, &[["new_listing", "Binance", &symbol, "spot"]]);
    };
    for hooked in all.iter_mut() {
        let old = hooked.rotate(engine, "1h");
        assert_ne!(old, hooked.secret);
    }
    listing(all, "ROTA");
    for hooked in all.iter().filter(|hooked| hooked.receiver.kind.checks() == Checks::Standard) {
        hooked.receiver.set_secret(&hooked.secret);
    }
    listing(all, "ROTB");
    for hooked in all.iter_mut() {
        hooked.rotate(engine, "0s");
        hooked.receiver.set_secret(&hooked.secret);
    }
    listing(all, "ROTC");
    3
}
