//! What the outside may read of the market thread while it runs.
//!
//! Contract: the thread puts a whole report behind a lock about twice a second and counts in atomics;
//! readers take a copy whenever they like. The lock is held for a move or a copy, and no hot thread takes it.
//! [`Problems`] is the thread's own, and says what fails and what is well again, once.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tocsin_core::market::MarketEventKind;
use tocsin_core::market::book::{ListState, Outcome};
use tocsin_core::market::watcher::{AnswerReport, RequestId, RequestStats};
use tocsin_core::source::backoff::Failure;

/// One request: what the watcher knows of it, and what the thread does.
#[derive(Clone, Debug)]
pub struct RequestReport {
    /// As the watcher has it.
    pub stats: RequestStats,
    /// Requests sent.
    pub asked: u64,
    /// Bytes of the bodies of answers.
    pub bytes: u64,
    /// Rows skipped for want of a name or pair: the schema may have drifted.
    pub rows_skipped: u64,
    /// Rows beyond the most that are read of one answer.
    pub rows_beyond: u64,
    /// What is wrong, for people; `None` since the last answer from which something is concluded.
    pub problem: Option<String>,
}

/// A snapshot that anybody may read.
#[derive(Debug, Default)]
pub struct MarketStats {
    requests: Mutex<Vec<RequestReport>>,
    events: [AtomicU64; MarketEventKind::ALL.len()],
    /// Contexts of announcements sent.
    pub contexts: AtomicU64,
    /// Messages a feed writer had no room for.
    pub feed_dropped: AtomicU64,
    /// Messages the webhook thread had no room for.
    pub webhook_dropped: AtomicU64,
    /// Messages that wait for the journal's ring now.
    pub waiting: AtomicU64,
    /// Assets whose volume is known.
    pub assets: AtomicU64,
}

impl MarketStats {
    /// Every request, in the order of the sources.
    #[must_use]
    pub fn requests(&self) -> Vec<RequestReport> {
        self.requests.lock().clone()
    }

    /// Events told of one kind.
    #[must_use]
    pub fn events(&self, kind: MarketEventKind) -> u64 {
        self.events.get(kind as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    pub(super) fn publish(&self, requests: Vec<RequestReport>) {
        // The old ones are freed after the lock is.
        drop(std::mem::replace(&mut *self.requests.lock(), requests));
    }

    pub(super) fn note_event(&self, kind: MarketEventKind) {
        self.events.get(kind as usize).into_iter().for_each(add);
    }
}

pub(super) fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[derive(Clone, Debug)]
struct Asked {
    source: &'static str,
    request: &'static str,
    asked: u64,
    bytes: u64,
    rows_skipped: u64,
    rows_beyond: u64,
    problem: Option<String>,
}

/// What the thread knows of its requests beside the watcher.
pub(super) struct Problems {
    /// By [`RequestId::index`].
    requests: Vec<Asked>,
}

impl Problems {
    /// Of these requests, by source and name.
    pub(super) fn new(requests: impl Iterator<Item = (&'static str, &'static str)>) -> Problems {
        let requests = requests.map(|(source, request)| Asked {
            source,
            request,
            asked: 0,
            bytes: 0,
            rows_skipped: 0,
            rows_beyond: 0,
            problem: None,
        });
        Problems { requests: requests.collect() }
    }

    fn of(&mut self, id: RequestId) -> Option<&mut Asked> {
        self.requests.get_mut(id.index())
    }

    pub(super) fn asked(&mut self, id: RequestId) {
        if let Some(of) = self.of(id) {
            of.asked += 1;
        }
    }

    pub(super) fn received(&mut self, id: RequestId, bytes: usize) {
        if let Some(of) = self.of(id) {
            of.bytes += bytes as u64;
        }
    }

    /// An answer that was taken.
    pub(super) fn answered(&mut self, id: RequestId, report: &AnswerReport) {
        let Some(of) = self.of(id) else { return };
        of.rows_skipped += report.parsed.skipped as u64;
        of.rows_beyond += report.parsed.beyond_limit as u64;
        let held = match report.outcome {
            Some(Outcome::Empty) => Some("the list is empty"),
            Some(Outcome::Held(ListState::Shrunk)) => Some("the list lost too much at once"),
            Some(Outcome::Held(_)) => Some("the list gained too much at once"),
            _ => None,
        };
        let Asked { source, request, .. } = *of;
        match held {
            Some(held) if of.problem.as_deref() != Some(held) => {
                tracing::warn!(source, request, problem = held, "markets: nothing is concluded");
                of.problem = Some(held.to_owned());
            }
            Some(_) => {}
            None => {
                if let Some(problem) = of.problem.take() {
                    tracing::info!(source, request, was = problem, "markets: as usual again");
                }
            }
        }
    }

    pub(super) fn failed(&mut self, id: RequestId, failure: Failure, problem: &str) {
        let Some(of) = self.of(id) else { return };
        if of.problem.as_deref() != Some(problem) {
            let Asked { source, request, .. } = *of;
            tracing::warn!(source, request, class = failure.name(), problem, "markets: no usable answer");
            of.problem = Some(problem.to_owned());
        }
    }

    pub(super) fn report(&self, stats: RequestStats) -> Option<RequestReport> {
        let Asked { asked, bytes, rows_skipped, rows_beyond, .. } = *self.requests.get(stats.id.index())?;
        let problem = self.requests.get(stats.id.index()).and_then(|of| of.problem.clone());
        Some(RequestReport { stats, asked, bytes, rows_skipped, rows_beyond, problem })
    }
}
