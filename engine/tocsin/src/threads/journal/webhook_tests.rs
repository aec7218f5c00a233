//! The journal thread and what the webhook thread sends: order, release, pressure, requests.

use core::time::Duration;

use tocsin_core::feed::key::KeyRecord;
use tocsin_core::time::WallUs;
use tocsin_core::webhook::attempt::FailureClass;
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::endpoint::{Disabled, Mail, State};
use tocsin_core::webhook::event::EventKind;
use tocsin_core::webhook::lane::Purpose;
use tocsin_core::webhook::outgoing::{Outcome, Phases, RecordedOutcome};
use tokio::sync::oneshot;

use super::*;
use crate::rings::WebhookToJournal;
use crate::store::shm::{OutcomeLog as _, OutcomeWriter};
use crate::store::testing::{
    NOW, endpoint_of, event_id, health, id_key, installation, new_account, new_key, queued, reopen,
};
use crate::store::webhook::accounts::AccountUpdate;
use crate::store::webhook::deliveries::{AttemptRecord, DeliveryState};

struct Bench {
    dir: tempfile::TempDir,
    journal: Journal,
    ring: rtrb::Producer<WebhookToJournal>,
    log: OutcomeWriter,
    requests: Sender<JournalRequest>,
    mail: Receiver<()>,
    endpoints: [EndpointId; 2],
    seconds: u64,
}

impl Bench {
    fn new(depth: usize) -> Bench {
        let (dir, mut store, endpoints) = installation();
        let key = Arc::new(store.master_key().unwrap());
        let (log, shm) = store.place().create_outcomes().unwrap();
        let (ring, consumer) = rtrb::RingBuffer::new(depth);
        let (requests, receiver) = crossbeam::channel::bounded(32);
        let (notify, mail) = crossbeam::channel::bounded(1);
        let journal = Journal::new(store, Vec::new(), receiver)
            .with_webhook(WebhookInlet { ring: consumer, shm })
            .with_master_key(key)
            .with_mail_notifier(notify);
        Bench { dir, journal, ring, log, requests, mail, endpoints, seconds: 1 }
    }

    fn offer(&mut self, number: u64) {
        let event = Arc::new(queued(number));
        self.ring.push(WebhookToJournal::Event { event, recipients: Box::new(self.endpoints) }).unwrap();
    }

    /// As the webhook thread does: shared memory first, then the ring.
    fn end(&mut self, event: u64, endpoint: EndpointId, outcome: Outcome) {
        let recorded = RecordedOutcome { event: event_id(event), endpoint, outcome };
        let shm_position = self.log.append(&recorded);
        self.ring.push(WebhookToJournal::Outcome { event, recorded, shm_position }).unwrap();
    }

    fn step(&mut self) {
        self.seconds += 2;
        self.journal.step(Now { mono: Mono(self.seconds * 1_000_000_000), wall: NOW });
    }

    fn state(&self, endpoint: EndpointId, event: u64) -> Option<DeliveryState> {
        self.journal.store.reader().unwrap().delivery(endpoint, event).unwrap()
    }

    fn unreleased(&self) -> u64 {
        self.journal.webhook.as_ref().unwrap().shm.backlog_bytes()
    }

    /// Sends a request and takes the answer of the next turn.
    fn ask<T>(&mut self, request: impl FnOnce(Reply<T>) -> JournalRequest) -> Result<T, StoreError> {
        let (reply, mut answer) = oneshot::channel();
        self.requests.send(request(reply)).unwrap();
        self.step();
        answer.try_recv().unwrap()
    }
}

fn line(endpoint: EndpointId) -> WebhookToJournal {
    WebhookToJournal::Attempt(Box::new(AttemptRecord {
        endpoint,
        event: event_id(1),
        kind: EventKind::NewListing,
        purpose: Purpose::Event { attempt: 1 },
        started_at: NOW,
        status: None,
        class: Some(FailureClass::Timeout),
        took_us: 10_000_000,
        phases: Phases::default(),
        address: None,
        detail: None,
        next_at: None,
    }))
}

#[test]
fn an_event_and_its_outcomes_are_one_commit_and_released() {
    let mut bench = Bench::new(64);
    let [one, two] = bench.endpoints;
    bench.offer(1);
    bench.end(1, one, Outcome::Delivered);
    let retry = Outcome::Retry { attempt: 2, due: NOW };
    bench.end(1, two, retry);
    bench.ring.push(line(two)).unwrap();
    assert!(bench.unreleased() > 0);
    bench.step();
    assert_eq!(bench.unreleased(), 0);
    assert_eq!(bench.state(one, 1), Some(DeliveryState::Concluded));
    assert_eq!(bench.state(two, 1), Some(DeliveryState::Retrying { attempt: 2, due: NOW }));
    assert_eq!(bench.journal.store.reader().unwrap().attempts(two, None, 9).unwrap().len(), 1);
    let counters = bench.journal.counters();
    assert_eq!(counters.commits.load(Ordering::Relaxed), 1);
    assert_eq!(counters.rows.load(Ordering::Relaxed), 4);
}

#[test]
fn a_replay_is_never_in_one_commit_with_an_outcome_before_it() {
    let mut bench = Bench::new(64);
    let [one, two] = bench.endpoints;
    bench.offer(1);
    bench.end(1, one, Outcome::Delivered);
    bench.ring.push(WebhookToJournal::Asked { event: 1, endpoint: one }).unwrap();
    bench.end(1, two, Outcome::Delivered);
    bench.journal.drain_rings(Now { mono: Mono(1), wall: NOW });
    assert_eq!(pending::group(&bench.journal.backlog), 2);
    bench.step();
    assert_eq!(bench.journal.counters().commits.load(Ordering::Relaxed), 2);
    assert_eq!(bench.state(one, 1), Some(DeliveryState::Waiting));
    assert_eq!(bench.state(two, 1), Some(DeliveryState::Concluded));
    bench.end(1, one, Outcome::Delivered);
    bench.step();
    assert_eq!(bench.state(one, 1), Some(DeliveryState::Concluded));
}

#[test]
fn a_full_disk_costs_log_lines_first_and_no_outcome() {
    let half = limits::JOURNAL_BACKLOG / 2;
    let mut bench = Bench::new(2 * limits::JOURNAL_BACKLOG);
    let [one, two] = bench.endpoints;
    bench.offer(1);
    bench.step();
    bench.journal.store.set_free_pages(0);
    for _ in 0..half {
        bench.ring.push(line(one)).unwrap();
    }
    bench.end(1, one, Outcome::Delivered);
    bench.end(1, two, Outcome::Failed);
    for _ in 0..6 {
        bench.step();
    }
    let counters = bench.journal.counters();
    assert!(counters.log_lines_dropped.load(Ordering::Relaxed) > 0);
    bench.journal.store.set_free_pages(100_000);
    for _ in 0..3 {
        bench.step();
    }
    assert_eq!(bench.state(one, 1), Some(DeliveryState::Concluded));
    assert_eq!((bench.unreleased(), bench.journal.backlog.len()), (0, 0));
    assert_eq!(counters.rejected.load(Ordering::Relaxed), 0);
}

#[test]
fn rows_that_the_disk_refuses_for_good_do_not_hold_up_the_rest() {
    let mut bench = Bench::new(64);
    let [one, _] = bench.endpoints;
    bench.offer(1);
    let event = Arc::new(queued(2).payload.queued(u64::MAX, NOW));
    bench.ring.push(WebhookToJournal::Event { event, recipients: Box::new([one]) }).unwrap();
    bench.end(u64::MAX, one, Outcome::Delivered);
    bench.end(1, one, Outcome::Delivered);
    bench.step();
    assert_eq!(bench.state(one, 1), Some(DeliveryState::Concluded));
    assert_eq!(bench.unreleased(), 0);
    assert_eq!(bench.journal.counters().rejected.load(Ordering::Relaxed), 2);
}

#[test]
fn mail_is_told_of_once_it_is_in_the_outbox() {
    let mut bench = Bench::new(64);
    let [one, _] = bench.endpoints;
    let health = health(State::Disabled(Disabled::Auto));
    let change = |mail| WebhookToJournal::Health { endpoint: one, health, verified: false, mail, at: NOW };
    bench.ring.push(change(None)).unwrap();
    bench.step();
    assert!(bench.mail.try_recv().is_err());
    for _ in 0..3 {
        bench.ring.push(change(Some((Mail::AutoDisabled, "three timeouts".into())))).unwrap();
        bench.step();
    }
    assert!(bench.mail.try_recv().is_ok() && bench.mail.try_recv().is_err());
    let reader = bench.journal.store.reader().unwrap();
    let due = reader.due_mail(NOW, 9).unwrap();
    assert_eq!(due.len(), 3);
    let ids = vec![due[0].id];
    bench.ask(|reply| JournalRequest::MailSent { ids, reply }).unwrap();
    let (ids, not_before) = (vec![due[1].id, due[2].id], WallUs(NOW.0 + 1));
    bench.ask(|reply| JournalRequest::MailFailed { ids, not_before, give_up: false, reply }).unwrap();
    assert!(reader.due_mail(NOW, 9).unwrap().is_empty());
    assert_eq!(reader.due_mail(not_before, 9).unwrap().len(), 2);
}

#[test]
fn requests_for_accounts_and_endpoints_are_answered() {
    let mut bench = Bench::new(1);
    let new = Box::new(new_account());
    let (account, token) = bench.ask(|reply| JournalRequest::CreateAccount { new, reply }).unwrap();
    let id = account.id;
    let (_, other) = bench.ask(|reply| JournalRequest::RotateAccountToken { id, reply }).unwrap();
    assert!(token != other);
    let update = Box::new(AccountUpdate { plan: Some("gold".to_owned()), ..AccountUpdate::default() });
    assert_eq!(bench.ask(|reply| JournalRequest::ChangeAccount { id, update, reply }).unwrap().plan, "gold");
    assert_eq!(bench.ask(|reply| JournalRequest::TakeTest { id, reply }).unwrap(), Ok(49));
    assert_eq!(bench.ask(|reply| JournalRequest::TakeRegistration { id, reply }).unwrap(), Ok(()));

    let new = Box::new(endpoint_of(id));
    let (made, secret) = bench.ask(|reply| JournalRequest::CreateEndpoint { new, reply }).unwrap();
    let id = made.id;
    let change = Box::default();
    assert_eq!(bench.ask(|reply| JournalRequest::ChangeEndpoint { id, change, reply }).unwrap(), made);
    let grace = Duration::from_secs(60);
    let rotated = bench.ask(|reply| JournalRequest::RotateSecret { id, grace, reply }).unwrap();
    assert_eq!(rotated.2, Some((secret, WallUs(NOW.0 + 60_000_000))));
    bench.ask(|reply| JournalRequest::DeleteEndpoint { id, reply }).unwrap();
    let gone = bench.ask(|reply| JournalRequest::DeleteEndpoint { id, reply }).unwrap_err();
    assert_eq!(gone.code(), "no_such_endpoint");

    bench.journal.key = None;
    let new = Box::new(endpoint_of(account.id));
    let off = bench.ask(|reply| JournalRequest::CreateEndpoint { new, reply }).unwrap_err();
    assert_eq!(off.code(), "webhooks_off");
    let new = Box::new(new_key());
    let key: (KeyRecord, _) = bench.ask(|reply| JournalRequest::CreateKey { new, reply }).unwrap();
    assert_eq!(key.0.created_at, NOW);
}

#[test]
fn a_barrier_waits_for_what_was_in_the_rings() {
    let mut bench = Bench::new(4 * limits::JOURNAL_ROWS_PER_COMMIT + 64);
    let [one, _] = bench.endpoints;
    bench.ask(|reply| JournalRequest::Barrier { reply }).unwrap();
    bench.offer(1);
    bench.step();
    // More than one turn takes, and the disk takes nothing.
    for _ in 0..4 * limits::JOURNAL_ROWS_PER_COMMIT {
        bench.ring.push(line(one)).unwrap();
    }
    bench.end(1, one, Outcome::Delivered);
    bench.journal.store.set_free_pages(0);
    let (reply, mut answer) = oneshot::channel();
    bench.requests.send(JournalRequest::Barrier { reply }).unwrap();
    bench.step();
    assert!(answer.try_recv().is_err());
    bench.step();
    assert!(answer.try_recv().is_err(), "not on disk yet");
    bench.journal.store.set_free_pages(10_000);
    bench.step();
    answer.try_recv().unwrap().unwrap();
    assert_eq!(bench.state(one, 1), Some(DeliveryState::Concluded));
    let answers: Vec<_> = (0..limits::JOURNAL_BARRIERS + 1)
        .map(|_| {
            let (reply, answer) = oneshot::channel();
            bench.journal.take_barrier(reply);
            answer
        })
        .collect();
    bench.step();
    let answered = answers.into_iter().filter_map(|mut answer| answer.try_recv().ok()).count();
    assert_eq!(answered, limits::JOURNAL_BARRIERS, "one more is refused, by being dropped");
}

#[test]
fn finish_takes_from_shared_memory_what_the_ring_did_not_bring() {
    let mut bench = Bench::new(3);
    let [one, two] = bench.endpoints;
    bench.offer(1);
    bench.end(1, one, Outcome::Delivered);
    let recorded = RecordedOutcome { event: event_id(1), endpoint: two, outcome: Outcome::Failed };
    bench.log.append(&recorded).unwrap();
    bench.journal.finish(clock::now());
    assert_eq!(bench.state(two, 1), Some(DeliveryState::Concluded));
    assert!(bench.journal.store.place().recover_outcomes().is_empty());
    let mut store = reopen(&bench.dir, bench.journal.into_store());
    assert!(store.start_webhooks(&id_key()).unwrap().pending.is_empty());
}

#[test]
fn a_process_that_dies_before_the_commit_loses_no_outcome() {
    let mut bench = Bench::new(8);
    let [one, two] = bench.endpoints;
    bench.offer(1);
    bench.step();
    bench.end(1, one, Outcome::Delivered);
    let Bench { dir, journal, .. } = bench; // What the ring held is lost.
    let store = journal.into_store();
    store.place().clear();
    let mut store = reopen(&dir, store);
    let start = store.start_webhooks(&id_key()).unwrap();
    assert_eq!(start.pending.iter().map(|p| p.endpoint).collect::<Vec<_>>(), [two]);
}
