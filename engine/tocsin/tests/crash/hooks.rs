//! Endpoints whose receivers verify every signature, all through the crashes.
//!
//! Every announcement that history calls new must reach each endpoint as one event; what comes twice has the
//! same id, the same body, and a crash between its answer and the record of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tocsin_sim::receiver::{Behaviour, Received, ReceiverOptions, SimReceiver};

use crate::harness::{Engine, shop};
use crate::verdict::Row;

/// The first retry comes half a minute after its failure.
const PATIENCE: Duration = Duration::from_secs(120);
/// One answers at once, one takes its time: attempts are under way when the engine dies.
const PATHS: [(&str, u64); 2] = [("/quick", 0), ("/slow", 60)];

/// Event id and body by path and ticker.
type Delivered = BTreeMap<(String, String), (String, Box<[u8]>)>;

/// See the module head.
pub(crate) struct Hooks {
    receiver: SimReceiver,
    _folder: tempfile::TempDir,
    config: String,
    got: Delivered,
    requests: usize,
    /// Requests beyond the first of their path and event.
    repeated: usize,
    pings: usize,
}

impl Hooks {
    pub(crate) fn start() -> Hooks {
        let folder = tempfile::tempdir().unwrap();
        let ca_file = folder.path().join("ca.pem");
        let options = ReceiverOptions { ca_file: Some(ca_file.clone()), ..ReceiverOptions::default() };
        let receiver = SimReceiver::start(options).unwrap();
        for (path, ms) in PATHS {
            receiver.behave(path, vec![Behaviour::late(Duration::from_millis(ms))]);
        }
        let (config, got) = (shop::egress(&ca_file), BTreeMap::new());
        Hooks { receiver, _folder: folder, config, got, requests: 0, repeated: 0, pings: 0 }
    }

    /// Sections that let an engine send to it.
    pub(crate) fn config(&self) -> &str {
        &self.config
    }

    /// Registers the endpoints with an engine that runs.
    pub(crate) fn register(&self, engine: &Engine) {
        let account = engine.cli_json(&["accounts", "create", "--name", "Desk", "--plan", "phantom"]);
        for (path, _) in PATHS {
            let (account, url) = (account["id"].to_string(), self.receiver.url(path));
            let made = engine.cli_json(&["webhooks", "add", "--account", &account, "--url", &url]);
            assert_eq!(made["state"], "active", "{made}");
            self.receiver.know_on(path, &[made["secret"].as_str().unwrap()]).unwrap();
        }
    }

    /// Takes what came; the pings of the registration came before their secrets were known here.
    pub(crate) fn take(&mut self) {
        for request in self.receiver.take() {
            if request.event_type().as_deref() == Some("ping") {
                self.pings += 1;
            } else {
                self.note(&request);
            }
        }
    }

    fn note(&mut self, request: &Received) {
        self.requests += 1;
        let verdict = self.receiver.verdict(request);
        assert!(verdict.is_valid(), "{verdict}: {}", request.target);
        let (id, body) = (request.event_id().unwrap(), request.json().unwrap());
        assert_eq!(body["event_id"], *id, "{body}");
        let ticker = ticker_of(body["symbol"].as_str().unwrap());
        let known = self.got.entry((request.path().to_owned(), ticker));
        let known =
            known.and_modify(|_| self.repeated += 1).or_insert_with(|| (id.clone(), request.body.clone()));
        assert_eq!(known.0, id, "a second event for {body}");
        assert_eq!(known.1, request.body, "another body under the same id");
    }

    /// Waits until nothing waits to be sent.
    pub(crate) fn settle(&mut self, engine: &Engine) {
        let from = Instant::now();
        let mut quiet = 0;
        // Gauges are published now and then.
        while quiet < 5 {
            std::thread::sleep(Duration::from_millis(300));
            let webhooks = &engine.cli_json(&["status"])["webhooks"];
            quiet = if webhooks["pending"] == 0 && webhooks["in_flight"] == 0 { quiet + 1 } else { 0 };
            assert!(from.elapsed() < PATIENCE, "still waiting: {webhooks}");
            for lost in ["given_up", "expired", "ring_dropped", "journal_dropped"] {
                assert_eq!(webhooks[lost], 0, "{lost}: {webhooks}");
            }
        }
        self.take();
    }

    /// Every announcement that is news has come to every endpoint, and nothing else has; figures.
    pub(crate) fn check(&self, rows: &[Row]) -> String {
        let news = rows.iter().filter(|row| row.action != "updated");
        let tickers: BTreeSet<String> = news.map(|row| ticker_of(&row.version.1)).collect();
        for (path, _) in PATHS {
            let got = self.got.keys().filter(|(at, _)| at == path).map(|(_, ticker)| ticker.clone());
            let got: BTreeSet<String> = got.collect();
            let lost: Vec<_> = tickers.difference(&got).collect();
            assert!(lost.is_empty(), "{path} never got {lost:?}");
            let invented: Vec<_> = got.difference(&tickers).collect();
            assert!(invented.is_empty(), "{path} got what history lacks: {invented:?}");
        }
        format!(
            "{} events at {} endpoints, {} requests, {} repeated, {} pings",
            tickers.len(),
            PATHS.len(),
            self.requests,
            self.repeated,
            self.pings
        )
    }
}

/// `SMP12` of a title or symbol: each is there once.
fn ticker_of(text: &str) -> String {
    let at = text.find("SMP").unwrap_or_else(|| panic!("no ticker in {text}"));
    let digits: String = text[at + 3..].chars().take_while(char::is_ascii_digit).collect();
    format!("SMP{digits}")
}
