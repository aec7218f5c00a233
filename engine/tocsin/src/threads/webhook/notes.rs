//! What became of attempts and endpoints: into the ledger, into counters, to those who wait for it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tocsin_core::limits;
use tocsin_core::time::{Now, WallUs};
use tocsin_core::webhook::attempt::Verdict;
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::dispatcher::{Note, Refusal, Sequel};
use tocsin_core::webhook::endpoint::{Change, Endpoint, Ping, State};
use tocsin_core::webhook::lane::{Purpose, QueuedEvent};
use tocsin_core::webhook::outgoing::{Outcome, Outgoing, Phases};
use tokio::sync::oneshot;

use super::WebhookThread;
use super::stats::add;
use crate::rings::{AttemptReport, WebhookToJournal};
use crate::store::webhook::deliveries::AttemptRecord;

/// What is known of an attempt beside its verdict. One waits for each `Settled` note, in its order.
#[derive(Debug)]
pub(super) struct Details {
    /// What was sent.
    pub(super) event: Arc<QueuedEvent<Outgoing>>,
    pub(super) started_at: WallUs,
    pub(super) phases: Phases,
    pub(super) address: Option<IpAddr>,
    pub(super) status: Option<u16>,
    pub(super) detail: Option<Box<str>>,
}

type Reply = oneshot::Sender<Result<AttemptReport, Refusal>>;

/// Who waits for the end of a verification ping or a test event.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    pub(super) verifications: HashMap<EndpointId, Vec<Reply>>,
    /// By the number of the test event; its endpoint beside it.
    pub(super) tests: HashMap<u64, (EndpointId, Reply)>,
    /// Answers held back until the change that goes with them has been sent to the journal thread: who
    /// is answered may ask it at once whether that is on disk.
    ready: Vec<(Reply, AttemptReport)>,
}

impl Waiters {
    /// Sends the answers whose changes have been told. One that nobody waits for any more is dropped.
    fn answer(&mut self) {
        for (reply, report) in self.ready.drain(..) {
            let _ = reply.send(Ok(report));
        }
    }
}

/// How an attempt ended, as its note tells it.
struct Settled {
    endpoint: EndpointId,
    purpose: Purpose,
    verdict: Verdict,
    took: Duration,
    sequel: Sequel,
}

impl WebhookThread {
    /// Takes every note there is.
    pub(super) fn take_notes(&mut self, now: Now) {
        while let Some(note) = self.dispatcher.poll_note() {
            self.take_note(now, note);
        }
        self.answer_those_told();
    }

    /// Answers those whose changes have been sent to the journal thread, all of them.
    pub(super) fn answer_those_told(&mut self) {
        if !self.ledger.is_behind() {
            self.waiters.answer();
        }
    }

    pub(super) fn take_note(&mut self, now: Now, note: Note<Outgoing>) {
        match note {
            Note::Settled { endpoint, purpose, event: _, verdict, took, sequel } => {
                let Some(details) = self.details.pop_front() else { return };
                self.settled(now, &Settled { endpoint, purpose, verdict, took, sequel }, details);
            }
            Note::Changed { endpoint, change } => self.changed(now, endpoint, change),
            Note::Expired { endpoint, event, why: _ } => {
                add(&self.stats.expired);
                self.ledger.outcome(&event, endpoint, Outcome::Expired);
            }
        }
    }

    fn settled(&mut self, now: Now, settled: &Settled, details: Details) {
        let Settled { endpoint, purpose, verdict, took, sequel } = *settled;
        if let Purpose::Event { .. } = purpose {
            let outcome = match sequel {
                Sequel::Done => Outcome::Delivered,
                Sequel::Failed => Outcome::Failed,
                Sequel::Retry { attempt, due } => Outcome::Retry { attempt, due },
            };
            self.ledger.outcome(&details.event, endpoint, outcome);
            if sequel == Sequel::Failed {
                add(&self.stats.given_up);
            }
        }
        match verdict.class() {
            None => add(&self.stats.delivered),
            Some(class) => {
                if let Some(counter) = self.stats.failed.get(class as usize) {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
                if let Some(receiver) = self.receivers.get_mut(&endpoint) {
                    receiver.note_failure(class, details.status, details.detail.as_deref());
                }
            }
        }
        let record = AttemptRecord {
            endpoint,
            event: details.event.payload.id,
            kind: details.event.payload.kind,
            purpose,
            started_at: details.started_at,
            status: details.status,
            class: verdict.class(),
            took_us: Phases::micros(took),
            phases: details.phases,
            address: details.address,
            detail: details.detail.map(bounded),
            next_at: match sequel {
                Sequel::Retry { due, .. } => Some(due),
                Sequel::Done | Sequel::Failed => None,
            },
        };
        self.answer_waiters(&record, details.event.number);
        // A ping that went well every five minutes would push everything else out of the log.
        if purpose != Purpose::Ping(Ping::Health) || record.class.is_some() {
            self.ledger.push(WebhookToJournal::Attempt(Box::new(record)));
        }
        self.save_counters(now, endpoint);
    }

    fn answer_waiters(&mut self, record: &AttemptRecord, number: u64) {
        let replies = match record.purpose {
            Purpose::Ping(Ping::Verification) => {
                self.waiters.verifications.remove(&record.endpoint).unwrap_or_default()
            }
            Purpose::Test => self.waiters.tests.remove(&number).map(|(_, reply)| reply).into_iter().collect(),
            Purpose::Ping(_) | Purpose::Event { .. } => return,
        };
        let state = self.dispatcher.endpoint(record.endpoint).map_or(State::Pending, Endpoint::state);
        let report = |reply| (reply, AttemptReport { attempt: record.clone(), state });
        self.waiters.ready.extend(replies.into_iter().map(report));
    }

    /// The count of failures is saved when it moves. A change of state or of the warning has a note of
    /// its own right behind, and is saved with the mail that is due for it.
    fn save_counters(&mut self, now: Now, endpoint: EndpointId) {
        let (Some(health), Some(receiver)) =
            (self.dispatcher.endpoint(endpoint), self.receivers.get_mut(&endpoint))
        else {
            return;
        };
        let health = health.saved(now);
        let saved = &mut receiver.saved;
        if health.failures == saved.failures || (health.state, health.slow) != (saved.state, saved.slow) {
            return;
        }
        *saved = health;
        let row = WebhookToJournal::Health { endpoint, health, verified: false, mail: None, at: now.wall };
        self.ledger.push(row);
    }

    fn changed(&mut self, now: Now, endpoint: EndpointId, change: Change) {
        let (Some(health), Some(receiver)) =
            (self.dispatcher.endpoint(endpoint), self.receivers.get_mut(&endpoint))
        else {
            return;
        };
        let health = health.saved(now);
        receiver.saved = health;
        tracing::info!(
            endpoint = endpoint.0,
            host = &*receiver.host,
            state = health.state.name(),
            ?change,
            "webhook endpoint"
        );
        let detail = || match change {
            Change::Slow { p95 } => format!("P95 {:.1} s", p95.as_secs_f64()).into(),
            _ => receiver.last_failure.clone().unwrap_or_default(),
        };
        let mail = change.mail().map(|mail| (mail, detail()));
        let verified = change == Change::Verified;
        self.ledger.push(WebhookToJournal::Health { endpoint, health, verified, mail, at: now.wall });
        if health.state == State::Active {
            self.warm_at(endpoint, now.mono);
        }
    }
}

/// Cut to what a log line holds, at a character.
fn bounded(text: Box<str>) -> Box<str> {
    match text.floor_char_boundary(limits::WEBHOOK_LOG_DETAIL_BYTES) {
        end if end < text.len() => text.get(..end).unwrap_or_default().into(),
        _ => text,
    }
}
