//! `tocsin demo` as a newcomer starts it: what the simulated exchanges and their markets tell, as lines of the
//! client that watches and as webhooks.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Everything has been told several times by then; a loaded machine may miss a spike or two.
const PATIENCE: Duration = Duration::from_secs(300);

/// A demo on free ports, ended by its own signal so that it removes what it made.
struct Demo {
    child: Child,
    says: BufReader<ChildStdout>,
}

impl Demo {
    fn start(more: &[&str]) -> Demo {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tocsin"))
            .args(["demo", "--listen", "127.0.0.1:0"])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let says = BufReader::new(child.stdout.take().unwrap());
        Demo { child, says }
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        (self.says.read_line(&mut line).unwrap() > 0).then_some(line)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        // What it still prints must not hold it up.
        let _ = std::io::copy(&mut self.says, &mut std::io::sink());
        let _ = self.child.wait();
    }
}

#[test]
fn previews_listings_spikes_and_delistings_are_shown_and_sent_without_any_option() {
    let mut demo = Demo::start(&[]);
    let mut wanted: BTreeSet<&str> = [
        "market binance listing_preview",
        "market binance preview_confirmed",
        "market binance delisting",
        " volume_spike ",
        "webhook listing_preview Binance",
        "webhook futures_listing Binance",
        "webhook delisting Binance",
        "webhook volume_spike",
    ]
    .into();
    let end = Instant::now() + PATIENCE;
    let mut seen = String::new();
    while !wanted.is_empty() {
        assert!(Instant::now() < end, "not shown: {wanted:?} in {seen}");
        let Some(line) = demo.line() else { panic!("it ended: {seen}") };
        wanted.retain(|part| !line.contains(part));
        if line.contains("market") {
            seen.push_str(&line);
        }
    }
}

#[test]
fn announcements_alone_are_counted() {
    let mut demo = Demo::start(&["--json", "--every", "200ms", "--count", "12"]);
    let (mut announcements, mut others) = (0, 0);
    while let Some(line) = demo.line() {
        let message: Value = serde_json::from_str(&line).unwrap();
        match message["type"].as_str() {
            Some("announcement") => announcements += 1,
            _ => others += 1,
        }
    }
    assert!(announcements == 12 && others > 0, "{announcements}, {others}");
    assert_eq!(demo.child.wait().unwrap().code(), Some(0));
}
