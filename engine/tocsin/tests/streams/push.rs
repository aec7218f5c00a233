//! A simulated push source as an engine under test is told of it.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;
use tocsin_sim::stream::Pushed;
use tocsin_sim::{Category, SimStream, StreamKind, StreamOptions};

use crate::harness::{Client, Engine, Mode, wait_for};
use crate::listing;

/// A running push source, its authority and its credentials in files.
pub(crate) struct Push {
    pub(crate) sim: SimStream,
    folder: TempDir,
    markers: std::cell::Cell<u32>,
}

impl Push {
    pub(crate) fn start(kind: StreamKind, options: StreamOptions) -> Push {
        let sim = SimStream::start(kind, options).unwrap();
        let folder = tempfile::tempdir().unwrap();
        sim.ca().write_to(&folder.path().join("ca.pem")).unwrap();
        let push = Push { sim, folder, markers: std::cell::Cell::new(0) };
        push.write_credentials(&push.sim.credentials_text());
        push
    }

    /// Name in messages.
    pub(crate) fn name(&self) -> String {
        format!("{}.stream", self.sim.kind().name())
    }

    pub(crate) fn credentials_file(&self) -> PathBuf {
        self.folder.path().join("credentials")
    }

    pub(crate) fn write_credentials(&self, text: &str) {
        std::fs::write(self.credentials_file(), text).unwrap();
        std::fs::set_permissions(self.credentials_file(), PermissionsExt::from_mode(0o600)).unwrap();
    }

    /// The section of an engine that listens to it.
    pub(crate) fn section(&self, more: &str) -> String {
        format!(
            "[feed.limits]\nexempt = [\"127.0.0.0/8\"]\n[streams.{}]\nenabled = true\nbase_url = {:?}\n\
             ca_file = {:?}\ncredentials_file = {:?}\n{more}",
            self.sim.kind().name(),
            self.sim.base_url(),
            self.folder.path().join("ca.pem"),
            self.credentials_file(),
        )
    }

    /// An engine that listens to it, with a live session.
    pub(crate) fn engine(&self, more: &str) -> Engine {
        let engine = Engine::start(Mode::Plain, &self.section(more));
        self.live(&engine);
        engine
    }

    /// Waits until a session is live, and the engine says so.
    pub(crate) fn live(&self, engine: &Engine) {
        wait_for("a session", || self.sim.sessions() > 0 && self.status(engine)["state"] == "live");
    }

    /// What `tocsin status` says of it.
    pub(crate) fn status(&self, engine: &Engine) -> Value {
        let status = engine.cli_json(&["status"]);
        let sources = status["sources"].as_array().unwrap();
        sources.iter().find(|s| s["name"] == self.name()).unwrap_or_else(|| panic!("{status}")).clone()
    }

    /// Waits until what `tocsin status` says of it is so: counts are published several times a second.
    pub(crate) fn becomes(&self, engine: &Engine, what: &str, so: impl Fn(&Value) -> bool) {
        wait_for(what, || so(&self.status(engine)));
    }

    pub(crate) fn failures(&self, engine: &Engine, class: &str) -> u64 {
        self.status(engine)["failures"][class].as_u64().unwrap_or(0)
    }

    pub(crate) fn publish(&self, ticker: &str) -> Pushed {
        self.sim.publish(Category::Listing, &listing(self.sim.kind(), ticker))
    }

    /// Publishes and expects it once, next.
    pub(crate) fn told(&self, client: &mut Client, ticker: &str) -> Value {
        let pushed = self.publish(ticker);
        let got = client.json_of("announcement");
        assert_eq!(got["title"], pushed.title, "{got}");
        got
    }

    /// Asserts that nothing more is on its way: what comes next is a marker published now.
    pub(crate) fn nothing_more(&self, client: &mut Client) {
        let number = self.markers.get();
        self.markers.set(number + 1);
        self.told(client, &format!("MRK{number}"));
    }

    /// Asserts that the engine kept to the exchange's rules.
    pub(crate) fn kept_the_rules(&self) {
        assert_eq!(self.sim.violations(), Vec::<String>::new());
    }
}
