//! What endpoints got: every event at every endpoint, what comes twice under one id.
//!
//! Contract: [`Deliveries::take`] reads what the receiver holds. An event that all endpoints have accepted is
//! kept by its number among the last [`DONE`] only, to notice one more copy. Owner: the suite's thread.
//! Allocates; never fails.

use std::collections::{BTreeMap, BTreeSet};

use hdrhistogram::Histogram;
use tocsin_core::time::WallUs;
use tocsin_sim::receiver::{Received, SimReceiver};

use super::stage::{STEM, number_of_ticker};
use super::subscribers::Detected;
use crate::result::new_histogram;

/// Events done that are remembered.
const DONE: usize = 10_000;
/// First attempts whose announcement no subscriber has read yet.
const UNMATCHED: usize = 100_000;

/// See the module head.
pub(super) struct Deliveries {
    endpoints: usize,
    /// Who has accepted an event, and its id, by the number in its ticker.
    open: BTreeMap<u64, (String, BTreeSet<usize>)>,
    /// Ids of events that all have accepted.
    done: BTreeMap<u64, String>,
    /// Of first attempts: number and sending.
    unmatched: Vec<(u64, WallUs)>,
    pub(super) latency: Histogram<u64>,
    pub(super) accepted: u64,
    pub(super) refused: u64,
    /// Accepted once more under the same id: the engine did not wait for the first answer, or it was lost.
    pub(super) repeated: u64,
    pub(super) broken: Vec<String>,
}

impl Deliveries {
    pub(super) fn new(endpoints: usize) -> Deliveries {
        Deliveries {
            endpoints,
            open: BTreeMap::new(),
            done: BTreeMap::new(),
            unmatched: Vec::new(),
            latency: new_histogram(),
            accepted: 0,
            refused: 0,
            repeated: 0,
            broken: Vec::new(),
        }
    }

    /// Takes what came.
    pub(super) fn take(&mut self, receiver: &SimReceiver) {
        for received in receiver.take() {
            if received.event_type().as_deref() != Some("ping") {
                self.note(&received);
            }
        }
    }

    fn note(&mut self, received: &Received) {
        let endpoint = received.path().strip_prefix('/').and_then(|path| path.strip_prefix(STEM));
        let endpoint = endpoint.and_then(|number| number.parse::<usize>().ok());
        let body = received.json().unwrap_or_default();
        let symbol = body.get("symbol").and_then(|symbol| symbol.as_str()).unwrap_or_default();
        let (Some(endpoint), Some(number), Some(id)) =
            (endpoint, number_of_ticker(symbol.as_bytes()), received.event_id())
        else {
            return self.complain(format!("a request nobody knows: {} {symbol}", received.target));
        };
        if received.attempt() == Some(1)
            && let Some(at) = received.sent_at()
            && self.unmatched.len() < UNMATCHED
        {
            self.unmatched.push((number, at));
        }
        if &*received.behaviour != "ok" {
            self.refused += 1;
            return;
        }
        self.accepted += 1;
        if let Some(known) = self.done.get(&number) {
            self.repeated += 1;
            if *known != id {
                self.complain(format!("event {number} has two ids"));
            }
            return;
        }
        let (known, who) = self.open.entry(number).or_insert_with(|| (id.clone(), BTreeSet::new()));
        let (same, first) = (*known == id, who.insert(endpoint));
        if who.len() == self.endpoints {
            self.open.remove(&number);
            self.done.insert(number, id);
            if self.done.len() > DONE {
                self.done.pop_first();
            }
        }
        if !same {
            self.complain(format!("event {number} has two ids"));
        }
        self.repeated += u64::from(!first);
    }

    /// From detection to sending of first attempts, as far as detections are known by now.
    pub(super) fn match_up(&mut self, detected: &Detected) {
        let latency = &mut self.latency;
        self.unmatched.retain(|(number, sent)| {
            let Some(at) = detected.get(*number) else { return true };
            let us = u64::try_from(sent.micros_since(at)).unwrap_or(0);
            latency.saturating_record(us.saturating_mul(1_000));
            false
        });
    }

    /// Events that some endpoint has not accepted.
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    fn complain(&mut self, what: String) {
        // Enough to know what; how often is of no use.
        if self.broken.len() < 100 {
            self.broken.push(what);
        }
    }
}
