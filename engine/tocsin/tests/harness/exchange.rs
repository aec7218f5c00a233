//! A simulated exchange as an engine under test is told of it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tocsin_core::source::{SourceSpec, exchange};
use tocsin_sim::{Kind, Options, SimExchange};

use super::{Client, Engine, wait_for};

/// Longest wait for polls that must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running exchange and the file with the authority that signs its certificate.
pub struct Exchange {
    pub sim: SimExchange,
    pub spec: &'static SourceSpec,
    folder: TempDir,
}

impl Exchange {
    /// Over TLS unless the options say otherwise.
    pub fn start(kind: Kind, options: Options) -> Exchange {
        let sim = SimExchange::start(kind, options).unwrap();
        let folder = tempfile::tempdir().unwrap();
        sim.ca().write_to(&folder.path().join("ca.pem")).unwrap();
        Exchange { sim, spec: exchange::by_config_name(kind.name()).unwrap(), folder }
    }

    /// The section of an engine that polls it: often and evenly.
    pub fn section(&self) -> String {
        self.section_at(40)
    }

    /// As [`Exchange::section`], at `rate` requests a second.
    pub fn section_at(&self, rate: u32) -> String {
        let ca_file = self.folder.path().join("ca.pem");
        let ca_file = if self.sim.base_url().starts_with("https:") { ca_file } else { Default::default() };
        format!(
            "[sources.{}]\nenabled = true\nbase_url = {:?}\nca_file = {ca_file:?}\n\
             requests_per_second = {rate}\nflat = true\n",
            self.spec.config_name,
            self.sim.base_url(),
        )
    }

    /// What `tocsin status` says of the source.
    pub fn status(&self, engine: &Engine) -> Value {
        let status = engine.cli_json(&["status"]);
        let sources = status["sources"].as_array().unwrap();
        sources.iter().find(|s| s["name"] == self.spec.name).unwrap_or_else(|| panic!("{status}")).clone()
    }

    /// Waits until the first answer of every list has been taken as known.
    pub fn baselined(&self, engine: &Engine) {
        wait_for("the baseline", || {
            self.status(engine)["parsed"].as_u64().unwrap() >= self.spec.lists.len() as u64
        });
    }

    /// Waits until everything published by now has been asked for and taken in: whatever list is asked
    /// next, every connection has had an answer after that.
    pub fn polled(&self) {
        let (lists, connections) = (self.spec.lists.len() as u64, 2);
        // The weights make a round of the lists at most five requests long.
        let rounds = self.sim.request_count() + 2 * (lists * 2 + connections);
        assert!(self.sim.wait_for_requests(rounds, PATIENCE), "it is not asked any more");
    }

    /// Asserts that nothing more is on its way to `client`: what comes next is a marker sent after
    /// everything published by now was asked for.
    pub fn nothing_more(&self, engine: &Engine, client: &mut Client) {
        self.polled();
        let marker = engine.inject(self.spec.exchange.name(), "Nothing before this");
        let next = client.json_of("announcement");
        assert_eq!(next["title"], marker["title"], "announced without cause: {next}");
    }

    /// The page of a list as it is served now. Plain exchanges only.
    pub fn page(&self, list: usize) -> Vec<u8> {
        let spec = self.spec;
        let mut request = format!("GET {} HTTP/1.1\r\nHost: x\r\n", spec.lists[list].target);
        for (name, value) in spec.headers {
            request += &format!("{name}: {value}\r\n");
        }
        let mut stream = TcpStream::connect(self.sim.addr()).unwrap();
        stream.write_all((request + "Connection: close\r\n\r\n").as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let body = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        answer.split_off(body)
    }
}

/// Everything in history, oldest first, once there are `count`: what went out is on disk a little later.
pub fn history(engine: &Engine, count: usize) -> Vec<Value> {
    let mut kept = Vec::new();
    wait_for(&format!("{count} in history"), || {
        let page = engine.cli_json(&["history", "--after", "0:0", "--limit", "500"]);
        page["announcements"].as_array().unwrap().clone_into(&mut kept);
        kept.len() >= count
    });
    assert_eq!(kept.len(), count, "{kept:?}");
    kept
}

/// Asserts that no notice but an edited one is in history twice.
pub fn assert_nothing_twice(history: &[Value]) {
    let mut seen = BTreeMap::new();
    for announcement in history {
        let again = seen.insert(announcement["id"].to_string(), announcement);
        assert!(again.is_none() || announcement["action"] == "updated", "{again:?} {announcement}");
    }
}
