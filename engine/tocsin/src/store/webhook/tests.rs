//! Deliveries across lives of the process: what is loaded is what a model says waits.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tocsin_core::limits;
use tocsin_core::market::{MarketEvent, MarketEventKind};
use tocsin_core::time::WallUs;
use tocsin_core::webhook::attempt::FailureClass;
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::dispatcher::PendingDelivery;
use tocsin_core::webhook::endpoint::{Disabled, Mail, Ping, State};
use tocsin_core::webhook::event::EventKind;
use tocsin_core::webhook::filter::EventFilter;
use tocsin_core::webhook::lane::Purpose;
use tocsin_core::webhook::outgoing::{Outcome, Phases, RecordedOutcome};

use super::HealthRow;
use super::deliveries::{AttemptRecord, DeliveryState, WebhookRow, WebhookStart};
use super::endpoints::EndpointChange;
use crate::store::market::MarketRow;
use crate::store::shm::OutcomeLog as _;
use crate::store::testing::{
    NOW, announcement, endpoint_of, event_id, health, id_key, installation, market_event, new_account,
    queued, register, reopen, store,
};
use crate::store::{Row, Store};

fn start(store: &mut Store) -> WebhookStart {
    store.start_webhooks(&id_key()).unwrap()
}

fn offer(store: &mut Store, number: u64, recipients: &[EndpointId]) {
    let event = &queued(number);
    store.commit(&[Row::Webhook(WebhookRow::Event { event, recipients })]).unwrap();
}

fn recorded(event: u64, endpoint: EndpointId, outcome: Outcome) -> RecordedOutcome {
    RecordedOutcome { event: event_id(event), endpoint, outcome }
}

fn end(store: &mut Store, event: u64, endpoint: EndpointId, outcome: Outcome) {
    let recorded = recorded(event, endpoint, outcome);
    store.commit(&[Row::Webhook(WebhookRow::Outcome { event, recorded })]).unwrap();
}

fn retry(attempt: u8) -> Outcome {
    Outcome::Retry { attempt, due: WallUs(NOW.0 + i64::from(attempt)) }
}

fn is_intact(store: &Store) {
    let verdict: String =
        store.connection.pragma_query_value(None, "integrity_check", |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
}

fn waits(list: &[PendingDelivery]) -> Vec<(u64, u64, u8)> {
    list.iter().map(|p| (p.endpoint.0, p.event, p.attempt)).collect()
}

#[test]
fn first_attempts_come_before_retries_and_in_order() {
    let (dir, mut store, [one, two]) = installation();
    for number in 1..=3 {
        offer(&mut store, number, &[one, two]);
    }
    end(&mut store, 1, one, retry(2));
    end(&mut store, 1, two, Outcome::Delivered);
    end(&mut store, 2, two, Outcome::Failed);
    end(&mut store, 9, two, Outcome::Failed);
    let start = start(&mut reopen(&dir, store));
    assert_eq!(waits(&start.pending), [(1, 2, 1), (1, 3, 1), (2, 3, 1), (1, 1, 2)]);
    assert_eq!(start.pending[3].due, Some(WallUs(NOW.0 + 2)));
    assert_eq!((start.next_number, start.events.len(), start.identities.len()), (4, 3, 3));
    assert_eq!(*start.identities[0], *event_id(1).identity());
    assert_eq!((start.events[0].payload.clone(), start.events[0].fresh_for), {
        let event = queued(1);
        (event.payload, event.fresh_for)
    });
}

#[test]
fn what_a_customer_asked_for_waits_without_end() {
    let (dir, mut store, [one, two]) = installation();
    offer(&mut store, 1, &[one]);
    offer(&mut store, 2, &[one]);
    end(&mut store, 1, one, Outcome::Expired);
    end(&mut store, 2, one, Outcome::Delivered);
    assert_eq!(store.redeliver(one, &[1, 7]).unwrap(), 1);
    store.commit(&[Row::Webhook(WebhookRow::Asked { event: 2, endpoint: two })]).unwrap();
    let reader = store.reader().unwrap();
    assert_eq!(reader.delivery(one, 1).unwrap(), Some(DeliveryState::Waiting));
    assert_eq!(reader.delivery(two, 1).unwrap(), None);
    let mut store = reopen(&dir, store);
    let first = start(&mut store);
    assert!(first.pending.is_empty());
    let asked: Vec<_> =
        first.asked.iter().map(|(p, e)| (p.endpoint, p.event, e.number, e.fresh_for)).collect();
    assert_eq!(asked, [(one, 1, 1, None), (two, 2, 2, None)]);

    end(&mut store, 1, one, retry(2));
    end(&mut store, 2, two, Outcome::Delivered);
    assert_eq!(
        reader.delivery(one, 1).unwrap(),
        Some(DeliveryState::Retrying { attempt: 2, due: WallUs(NOW.0 + 2) })
    );
    let again = start(&mut reopen(&dir, store));
    assert_eq!((waits(&again.pending), again.asked.len()), (vec![(1, 1, 2)], 0));
}

#[test]
fn market_events_without_webhook_events_get_them_at_start_once() {
    let (dir, mut store) = store();
    let account = new_account();
    let account = store.create_account(&account, NOW).unwrap().0.id;
    let endpoint = register(&mut store, &endpoint_of(account));
    let told = market_event("ABC-USDT", NOW);
    // The feed's alone: no webhook tells of it.
    let confirmed = MarketEvent { kind: MarketEventKind::PreviewConfirmed, ..told.clone() };
    let rows = [&told, &confirmed].map(|event| Row::Market(MarketRow::Event(event)));
    store.commit(&rows).unwrap();
    let started = start(&mut store);
    assert_eq!((started.events.len(), started.pending.len()), (1, 1));
    assert_eq!(started.events[0].payload.kind, EventKind::ListingPreview);
    assert_eq!(started.pending[0].endpoint, endpoint);
    let again = start(&mut reopen(&dir, store));
    assert_eq!((again.events.len(), again.next_number), (1, started.next_number), "no second time");
}

#[test]
fn announcements_without_events_get_them_at_start() {
    let (dir, mut store) = store();
    let (account, _token) = store.create_account(&new_account(), NOW).unwrap();
    let early = register(&mut store, &endpoint_of(account.id));
    let late = register(&mut store, &endpoint_of(account.id));
    let picky = register(&mut store, &endpoint_of(account.id));
    let pending = store
        .create_endpoint(&endpoint_of(account.id), NOW, &mut |_| Ok(super::secrets::Sealed(Box::default())));
    let filter = Some(EventFilter::parse("delisting", "*").unwrap());
    store.change_endpoint(picky, &EndpointChange { label: None, filter }).unwrap();
    // `late` was verified between the two announcements.
    let between = announcement(1, 1).detected.0 + 1;
    store
        .connection
        .execute("UPDATE endpoints SET verified_us = ?1 WHERE id = ?2", (between, late.0))
        .unwrap();
    let mut list: Vec<_> = (1..=5).map(|seq| announcement(1, seq)).collect();
    list[2].late = true;
    list[3].action = tocsin_core::model::Action::Updated;
    // The third again, edited: its ticker was told, another is new; and its time has moved.
    list[4].id = list[0].id.clone();
    list[4].title = list[0].title.clone();
    list[4].action = tocsin_core::model::Action::UpdatedWithNews;
    let news = list[4].classification.tickers[0].clone();
    list[4].classification.tickers = vec![list[0].classification.tickers[0].clone(), news];
    let markets = list[0].classification.markets.clone();
    list[4].classification.markets.extend(markets);
    let rows: Vec<_> =
        list.iter().map(|announcement| Row::Announcement { announcement, dispatched: None }).collect();
    store.commit(&rows).unwrap();

    let mut store = reopen(&dir, store);
    let first = start(&mut store);
    assert_eq!(waits(&first.pending), [(1, 1, 1), (1, 2, 1), (2, 2, 1), (1, 4, 1), (2, 4, 1)]);
    let reader = store.reader().unwrap();
    let events = reader.events(None, None, 100).unwrap();
    assert_eq!(events.len(), 4, "of an edit that tells nothing there is none");
    assert_eq!((events[0].outgoing.id, events[0].created), (event_id(1), list[0].detected));
    assert_eq!(events.iter().map(|e| e.outgoing.late).collect::<Vec<_>>(), [false, false, true, false]);
    for absent in [picky, pending.unwrap().id] {
        assert_eq!(reader.delivery(absent, 2).unwrap(), None);
    }
    assert_eq!(reader.delivery(early, 3).unwrap(), None, "late: to nobody");
    let again = start(&mut reopen(&dir, store));
    assert_eq!((waits(&again.pending), again.next_number), (waits(&first.pending), 5), "once only");
}

#[test]
fn outcomes_left_in_shared_memory_are_applied_once_and_by_their_id() {
    let (dir, mut store, [one, two]) = installation();
    let row = announcement(1, 1);
    store.commit(&[Row::Announcement { announcement: &row, dispatched: None }]).unwrap();
    offer(&mut store, 1, &[]); // Another process life gave out number 1 already.
    store.connection.execute("DELETE FROM events", []).unwrap();
    offer(&mut store, 7, &[one, two]);
    let (mut writer, committer) = store.place().create_outcomes().unwrap();
    for outcome in [
        recorded(1, one, Outcome::Delivered),
        recorded(1, two, retry(2)),
        recorded(7, one, retry(3)),
        recorded(7, one, Outcome::Failed),
        recorded(99, one, Outcome::Delivered),
        recorded(7, EndpointId(88), Outcome::Delivered),
    ] {
        writer.append(&outcome).unwrap();
    }
    drop((writer, committer));
    let mut store = reopen(&dir, store);
    assert_eq!(store.place().recover_outcomes()[0].outcomes.len(), 6, "opening leaves it alone");
    // The event of the announcement in history is made first, then its outcome finds it.
    let first = start(&mut store);
    assert_eq!(waits(&first.pending), [(2, 7, 1), (2, 8, 2)]);
    assert!(store.place().recover_outcomes().is_empty());
    is_intact(&store);
    assert_eq!(waits(&start(&mut store).pending), waits(&first.pending));
}

#[test]
fn a_replay_asked_for_between_two_lives_is_not_concluded_by_an_older_outcome() {
    let (dir, mut store, [one, two]) = installation();
    offer(&mut store, 1, &[one, two]);
    let (mut writer, _committer) = store.place().create_outcomes().unwrap();
    writer.append(&recorded(1, one, Outcome::Delivered)).unwrap();
    writer.append(&recorded(1, two, Outcome::Delivered)).unwrap();
    let mut store = reopen(&dir, store);
    store.redeliver(one, &[1]).unwrap();
    let mut store = reopen(&dir, store);
    let first = start(&mut store);
    assert_eq!((first.asked.len(), first.pending.len()), (1, 0));
    // It was made while the service ran by now: an outcome is of it.
    let (mut writer, _committer) = store.place().create_outcomes().unwrap();
    writer.append(&recorded(1, one, Outcome::Delivered)).unwrap();
    assert!(start(&mut reopen(&dir, store)).asked.is_empty());
}

#[test]
fn a_damaged_journal_of_outcomes_gives_what_it_can_and_is_kept_aside() {
    let (dir, mut store, [one, two]) = installation();
    offer(&mut store, 1, &[one, two]);
    let (mut writer, _committer) = store.place().create_outcomes().unwrap();
    let first = writer.append(&recorded(1, one, Outcome::Delivered)).unwrap();
    writer.append(&recorded(1, two, Outcome::Delivered)).unwrap();
    let path = store.place().recover_outcomes()[0].path.clone();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4_096 + usize::try_from(first).unwrap() + 30] ^= 0xFF;
    std::fs::write(&path, bytes).unwrap();
    let mut store = reopen(&dir, store);
    assert_eq!(waits(&start(&mut store).pending), [(2, 1, 1)]);
    assert!(path.with_extension("journal.damaged").exists() && !path.exists());
    std::fs::write(&path, b"no journal at all").unwrap();
    assert_eq!(waits(&start(&mut store).pending), [(2, 1, 1)]);
}

#[test]
fn rows_that_fit_nothing_are_passed_over_and_gone() {
    let (dir, mut store, [one, _]) = installation();
    for number in 1..=3 {
        offer(&mut store, number, &[one]);
    }
    end(&mut store, 2, one, retry(2));
    store
        .connection
        .execute_batch(
            "INSERT INTO deliveries VALUES (0, 1, 2, 5, 0), (1, 9, 2, 5, 0), (2, 9, 2, 5, 1), (77, 1, 1, NULL, 1);
             UPDATE events SET recipients = x'FF' WHERE number = 3;
             UPDATE deliveries SET attempt = 900 WHERE event = 2 AND endpoint = 1;",
        )
        .unwrap();
    let mut store = reopen(&dir, store);
    let loaded = start(&mut store);
    assert_eq!(waits(&loaded.pending), [(1, 1, 1), (1, 2, 0)], "an attempt that cannot be is refused later");
    let left: i64 =
        store.connection.query_row("SELECT count(*) FROM deliveries", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 1);
    end(&mut store, 3, one, Outcome::Delivered);
    is_intact(&store);
}

#[test]
fn an_endpoint_deleted_behind_our_back_does_not_keep_events_open() {
    let (dir, mut store, [one, two]) = installation();
    offer(&mut store, 1, &[one, two]);
    end(&mut store, 1, two, retry(2));
    store.connection.execute("DELETE FROM endpoints WHERE id = ?1", [two.0]).unwrap();
    let mut store = reopen(&dir, store);
    assert_eq!(waits(&start(&mut store).pending), [(1, 1, 1)]);
    end(&mut store, 1, one, Outcome::Delivered);
    let open: i64 = store.connection.query_row("SELECT sum(open) FROM events", [], |row| row.get(0)).unwrap();
    assert_eq!(open, 0);
}

#[test]
fn old_concluded_events_are_forgotten_and_open_ones_stay() {
    let (_dir, mut store, [one, _]) = installation();
    for number in 1..=10 {
        offer(&mut store, number, &[one]);
        if number != 2 {
            end(&mut store, number, one, Outcome::Delivered);
        }
    }
    super::rows::prune_beyond(&store.connection, 4).unwrap();
    let numbers: Vec<_> =
        store.reader().unwrap().events(None, None, 99).unwrap().iter().map(|e| e.number).collect();
    assert_eq!(numbers, [2, 7, 8, 9, 10]);
}

#[test]
fn events_are_listed_by_number_and_time_and_found_by_id() {
    let (_dir, mut store, [one, _]) = installation();
    for number in 1..=5 {
        offer(&mut store, number, &[one]);
    }
    let reader = store.reader().unwrap();
    let list = |after, since, limit| -> Vec<u64> {
        reader.events(after, since, limit).unwrap().iter().map(|e| e.number).collect()
    };
    assert_eq!(list(None, None, 2), [1, 2]);
    assert_eq!(list(Some(2), None, 9), [3, 4, 5]);
    assert!(list(Some(u64::MAX), None, 9).is_empty());
    assert_eq!(list(None, Some(queued(4).created), 9), [4, 5]);
    let event = reader.event(event_id(3)).unwrap().unwrap();
    assert_eq!((event.number, event.outgoing), (3, queued(3).payload));
    assert_eq!(reader.event(event_id(77)).unwrap(), None);
    let elsewhere = queued(3).payload.queued(30, NOW);
    store.commit(&[Row::Webhook(WebhookRow::Event { event: &elsewhere, recipients: &[] })]).unwrap();
    assert!(list(Some(5), None, 9).is_empty(), "one of this id is there");
}

fn line(endpoint: EndpointId, n: i64) -> AttemptRecord {
    AttemptRecord {
        endpoint,
        event: event_id(n.unsigned_abs() % 3),
        kind: EventKind::Delisting,
        purpose: match n % 4 {
            0 => Purpose::Event { attempt: 3 },
            1 => Purpose::Test,
            2 => Purpose::Ping(Ping::Confirm),
            _ => Purpose::Ping(Ping::Verification),
        },
        started_at: WallUs(n),
        status: (n % 2 == 0).then_some(503),
        class: (n % 3 != 0).then_some(FailureClass::ServerError),
        took_us: 77,
        phases: Phases {
            queue_us: 1,
            dns_us: Some(2),
            tcp_us: None,
            tls_us: Some(4),
            write_us: None,
            first_byte_us: Some(6),
        },
        address: (n % 2 == 1).then(|| "2606:4700::1111".parse().unwrap()),
        detail: (n % 5 == 0).then(|| "slow".into()),
        next_at: (n % 2 == 0).then_some(NOW),
    }
}

#[test]
fn the_delivery_log_is_a_ring() {
    let (dir, mut store, [one, two]) = installation();
    let most = i64::try_from(limits::WEBHOOK_LOG_LINES).unwrap();
    let lines: Vec<_> =
        (0..most + 30).map(|n| line(one, n)).chain([line(two, 5), line(EndpointId(9), 5)]).collect();
    let rows: Vec<_> = lines.iter().map(|line| Row::Webhook(WebhookRow::Attempt(line))).collect();
    store.commit(&rows[..100]).unwrap();
    store = reopen(&dir, store);
    store.commit(&rows[100..]).unwrap();
    let reader = store.reader().unwrap();
    let log = reader.attempts(one, None, 9_999).unwrap();
    let expected: Vec<_> = (30..most + 30).rev().map(|n| line(one, n)).collect();
    assert_eq!(log, expected);
    assert_eq!(
        reader.attempts(one, Some(event_id(1)), 2).unwrap(),
        [line(one, most + 29), line(one, most + 26)]
    );
    assert_eq!(reader.attempts(two, None, 9).unwrap(), [line(two, 5)]);
    assert!(reader.attempts(EndpointId(9), None, 9).unwrap().is_empty(), "of no endpoint");
    let long = AttemptRecord { detail: Some("é".repeat(500).into()), ..line(two, 1) };
    store.commit(&[Row::Webhook(WebhookRow::Attempt(&long))]).unwrap();
    let cut = reader.attempts(two, None, 1).unwrap()[0].detail.clone().unwrap();
    assert_eq!(cut.len(), limits::WEBHOOK_LOG_DETAIL_BYTES);
}

#[test]
fn a_health_and_its_mail_are_one_change() {
    let (_dir, mut store, [one, _]) = installation();
    let row = |mail, at| {
        let health = health(State::Disabled(Disabled::Auto));
        Row::Health(HealthRow { endpoint: one, health, verified: true, mail, at })
    };
    store.set_free_pages(0);
    let lines: Vec<_> = (0..400).map(|n| line(one, n)).collect();
    let mut rows = vec![row(Some((Mail::AutoDisabled, "timeout")), NOW)];
    rows.extend(lines.iter().map(|line| Row::Webhook(WebhookRow::Attempt(line))));
    assert_eq!(store.commit(&rows).unwrap_err().code(), "store_disk_full");
    let reader = store.reader().unwrap();
    assert_eq!(reader.endpoint(one).unwrap().health.state, State::Active, "all or none");
    assert!(reader.due_mail(NOW, 9).unwrap().is_empty());
    store.set_free_pages(1_000);
    store.commit(&rows).unwrap();
    assert_eq!(reader.endpoint(one).unwrap().health.state, State::Disabled(Disabled::Auto));
    let due = reader.due_mail(NOW, 9).unwrap();
    assert_eq!(
        due.iter().map(|m| (m.mail, m.detail.as_str())).collect::<Vec<_>>(),
        [(Mail::AutoDisabled, "timeout")]
    );
    store.commit(&[row(Some((Mail::Slow, "5.4 s")), NOW)]).unwrap();
    let digest = WallUs(NOW.0 + i64::try_from(limits::MAIL_DIGEST.as_micros()).unwrap());
    assert_eq!(reader.next_mail_at(NOW).unwrap(), Some(digest), "a warning waits for others");
}

/// What a model keeps of a delivery: concluded, or its attempt and whether it was asked for.
type Model = BTreeMap<(u64, u64), Option<(u8, bool)>>;

#[derive(Clone, Debug)]
enum Step {
    Offer(Vec<u64>),
    Outcome(u64, u64, u8),
    Ask(u64, u64),
    Delete(u64),
    Reopen,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => proptest::collection::vec(1..9_u64, 0..8).prop_map(Step::Offer),
        8 => (1..12_u64, 1..9_u64, 1..6_u8).prop_map(|(event, endpoint, kind)| Step::Outcome(event, endpoint, kind)),
        2 => (1..12_u64, 1..9_u64).prop_map(|(event, endpoint)| Step::Ask(event, endpoint)),
        1 => (1..9_u64).prop_map(Step::Delete),
        1 => Just(Step::Reopen),
    ]
}

fn outcome_of(kind: u8) -> Outcome {
    match kind {
        1 => Outcome::Delivered,
        2 => Outcome::Failed,
        3 => Outcome::Expired,
        attempt => retry(attempt),
    }
}

/// Applies a step to the model; what is committed for it, in small groups.
struct World {
    model: Model,
    live: BTreeSet<u64>,
    events: u64,
}

impl World {
    fn apply(&mut self, store: &mut Store, step: &Step) {
        match step {
            Step::Offer(endpoints) => {
                self.events += 1;
                let recipients: BTreeSet<_> = endpoints.iter().map(|id| EndpointId(*id)).collect();
                offer(store, self.events, &recipients.iter().copied().collect::<Vec<_>>());
                for EndpointId(id) in recipients {
                    self.model.insert((self.events, id), self.live.contains(&id).then_some((1, false)));
                }
            }
            Step::Outcome(event, endpoint, kind) => {
                let outcome = outcome_of(*kind);
                end(store, *event, EndpointId(*endpoint), outcome);
                if let Some(Some(waits)) = self.model.get(&(*event, *endpoint)).copied() {
                    let next = match outcome {
                        Outcome::Retry { attempt, .. } => Some((attempt, waits.1)),
                        _ => None,
                    };
                    self.model.insert((*event, *endpoint), next);
                }
            }
            Step::Ask(event, endpoint) => {
                let endpoint = EndpointId(*endpoint);
                store.commit(&[Row::Webhook(WebhookRow::Asked { event: *event, endpoint })]).unwrap();
                if *event <= self.events && self.live.contains(&endpoint.0) {
                    self.model.insert((*event, endpoint.0), Some((1, true)));
                }
            }
            Step::Delete(endpoint) => {
                assert_eq!(store.delete_endpoint(EndpointId(*endpoint)).is_ok(), self.live.remove(endpoint));
                for ((_, id), waits) in &mut self.model {
                    if id == endpoint {
                        *waits = None;
                    }
                }
            }
            Step::Reopen => {}
        }
    }

    fn expected(&self) -> BTreeMap<(u64, u64), (u8, bool)> {
        let waiting = self.model.iter().filter_map(|(key, waits)| Some((*key, (*waits)?)));
        waiting.map(|(key, (attempt, asked))| (key, (attempt, asked && attempt == 1))).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whatever happened, what the next start loads is what waits, in the order of events.
    #[test]
    fn a_start_loads_what_waits(steps in proptest::collection::vec(any_step(), 1..60)) {
        let (dir, mut store) = store();
        store.connection.pragma_update(None, "synchronous", "OFF").unwrap();
        for _ in 0..2 {
            let (account, _token) = store.create_account(&new_account(), NOW).unwrap();
            for _ in 0..4 {
                register(&mut store, &endpoint_of(account.id));
            }
        }
        let mut world = World { model: Model::new(), live: (1..=8).collect(), events: 0 };
        for step in steps.iter().chain([&Step::Reopen]) {
            world.apply(&mut store, step);
            if !matches!(step, Step::Reopen) {
                continue;
            }
            store = reopen(&dir, store);
            store.connection.pragma_update(None, "synchronous", "OFF").unwrap();
            let loaded = start(&mut store);
            let mut found: BTreeMap<_, _> =
                loaded.pending.iter().map(|p| ((p.event, p.endpoint.0), (p.attempt, false))).collect();
            found.extend(loaded.asked.iter().map(|(p, e)| ((p.event, p.endpoint.0), (p.attempt, e.fresh_for.is_none()))));
            prop_assert_eq!(found.len(), loaded.pending.len() + loaded.asked.len());
            prop_assert_eq!(&found, &world.expected());
            let firsts: Vec<_> = loaded.pending.iter().filter(|p| p.attempt == 1).map(|p| p.event).collect();
            prop_assert!(firsts.is_sorted());
            prop_assert_eq!(loaded.next_number, world.events + 1);
            let open: BTreeSet<_> = found.keys().map(|(event, _)| *event).collect();
            prop_assert_eq!(loaded.events.iter().map(|e| e.number).collect::<BTreeSet<_>>(), open);
        }
        is_intact(&store);
    }
}
