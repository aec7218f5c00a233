//! Gives recorded answers to detection and classification again: what would this version have announced?
//!
//! Contract: pure but for reading the recording. One line of JSON for each announcement, in the order of
//! the recording, then a line of counts. The first body of each list is taken as known, as a service's
//! first answer is, so what was news in it is not found again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};
use tocsin_core::classify::classify;
use tocsin_core::detect::{Detector, Findings, ListHistory};
use tocsin_core::source::{SourceSpec, exchange};
use tocsin_core::time::{Mono, Now, WallUs};

use super::super::{CliError, print};
use crate::config::Config;
use crate::record::{self, Line, Outcome, PollLine, Visit};

/// What is known of a recording so far.
struct Again<'a> {
    config: &'a Config,
    detectors: BTreeMap<&'static str, Detector>,
    findings: Findings,
    /// Identifier and title of what was recorded as announced, and of what was found.
    recorded: BTreeSet<(String, String)>,
    found: Vec<(Value, (String, String))>,
    bodies: u64,
    without_body: u64,
    unusable: u64,
    cut: u64,
}

/// Runs it.
///
/// # Errors
/// The recording cannot be read; file and line are named.
pub(super) fn run(dir: &Path, config: &Config) -> Result<ExitCode, CliError> {
    let mut again = Again {
        config,
        detectors: BTreeMap::new(),
        findings: Findings::default(),
        recorded: BTreeSet::new(),
        found: Vec::new(),
        bodies: 0,
        without_body: 0,
        unusable: 0,
        cut: 0,
    };
    record::read(dir, &mut |_, visit| again.visit(visit)).map_err(CliError::failed)?;
    print(&again.report())
}

impl Again<'_> {
    fn visit(&mut self, visit: Visit) -> Result<(), String> {
        match visit {
            Visit::Line(Line::Poll(poll)) => self.poll(&poll)?,
            Visit::Line(Line::Announcement(line)) if line.source != "manual" => {
                self.recorded.insert((line.id.clone(), line.title.clone()));
            }
            Visit::Line(_) => {}
            Visit::Cut => self.cut += 1,
        }
        let held = self.recorded.len().max(self.found.len());
        if held > super::MOST { Err(super::too_many()) } else { Ok(()) }
    }

    fn poll(&mut self, poll: &PollLine) -> Result<(), String> {
        let spec: &'static SourceSpec = exchange::ALL
            .into_iter()
            .find(|spec| spec.name == poll.source)
            .ok_or_else(|| format!("there is no source `{}`", poll.source))?;
        let list = spec.lists.iter().position(|list| list.name == poll.list);
        let list = list.ok_or_else(|| format!("source {} has no list `{}`", spec.name, poll.list))?;
        let wall = WallUs(poll.at_us);
        let fresh_for = self.config.detect.fresh_for;
        let detector = self.detectors.entry(spec.name).or_insert_with(|| {
            let mut detector = Detector::new(spec, fresh_for);
            for list in 0..spec.lists.len() {
                detector.load_list(list, ListHistory { first_start: wall, baselined: false });
            }
            detector
        });
        // Only differences count; recordings are of this century.
        let mono = Mono(u64::try_from(poll.at_us).unwrap_or_default().saturating_mul(1_000));
        match (poll.outcome, &poll.body) {
            (Outcome::Refused, _) => return Ok(()),
            (Outcome::Identical | Outcome::NotModified, _) => {
                detector.on_not_modified(list, mono);
                return Ok(());
            }
            (_, None) => {
                self.without_body += 1;
                return Ok(());
            }
            (_, Some(body)) => {
                let mut body = body.bytes().ok_or("a body that is no base64")?;
                self.bodies += 1;
                let now = Now { mono, wall };
                if detector.on_body(list, &mut body, now, &mut self.findings).is_err() {
                    self.unusable += 1;
                }
            }
        }
        self.take_findings(spec, poll);
        Ok(())
    }

    fn take_findings(&mut self, spec: &'static SourceSpec, poll: &PollLine) {
        for found in self.findings.detected.drain(..) {
            let said = classify(spec.exchange, &found.record.title, found.hint);
            let id = format!("{}:{}", spec.exchange.name(), found.record.notice_id);
            let tickers: Vec<&str> = said.tickers.iter().map(tocsin_core::model::Ticker::as_str).collect();
            let line = json!({
                "id": id,
                "publisher": spec.exchange.name(),
                "title": found.record.title,
                "listingType": said.listing_type.name(),
                "tickers": tickers,
                "rule": said.rule,
                "action": found.action.name(),
                "late": found.late,
                "publishTimestampUs": found.record.published.0,
                "receivedTimestampUs": poll.at_us,
            });
            self.found.push((line, (id, found.record.title.to_string())));
        }
        self.findings.clear();
    }

    fn report(self) -> String {
        let found: BTreeSet<&(String, String)> = self.found.iter().map(|(_, key)| key).collect();
        let missing = self.recorded.iter().filter(|key| !found.contains(key)).count();
        let mut text = String::new();
        let mut news = 0;
        for (line, key) in &self.found {
            let mut line = line.clone();
            let recorded = self.recorded.contains(key);
            news += usize::from(!recorded);
            line["recorded"] = recorded.into();
            text.push_str(&format!("{line}\n"));
        }
        let counts = json!({
            "bodies": self.bodies,
            "announced": self.found.len(),
            "not_recorded": news,
            "recorded_but_not_announced": missing,
            "unusable": self.unusable,
            "polls_without_their_body": self.without_body,
            "files_cut": self.cut,
        });
        text.push_str(&format!("{}\n", json!({"counts": counts})));
        text
    }
}
