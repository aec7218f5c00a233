//! The store's part of webhooks: what commits of outcomes cost, and how long reading a start takes.
//!
//! Contract: a store in a temporary directory, no engine. Each step becomes one figure: wall time of the
//! whole step. Blocks on the disk; what a commit costs is the disk's. Fails with the store's words.

use std::time::Instant;

use tocsin::store::webhook::accounts::{AccountId, NewAccount};
use tocsin::store::webhook::deliveries::WebhookRow;
use tocsin::store::webhook::endpoints::NewEndpoint;
use tocsin::store::webhook::secrets::Sealed;
use tocsin::store::{Row, Store};
use tocsin_core::limits;
use tocsin_core::time::WallUs;
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::endpoint::{SavedHealth, State};
use tocsin_core::webhook::event::IdKey;
use tocsin_core::webhook::filter::EventFilter;
use tocsin_core::webhook::lane::QueuedEvent;
use tocsin_core::webhook::outgoing::{Outcome as Became, Outgoing, RecordedOutcome};

use super::filled::event;
use crate::engine::Outcome;
use crate::result::{Figure, SuiteResult, Unit};

const NOW: WallUs = WallUs(1_770_000_000_000_000);

struct Steps<'a> {
    result: &'a mut SuiteResult,
    stem: String,
}

impl Steps<'_> {
    fn timed<T>(&mut self, what: &str, act: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
        let begun = Instant::now();
        let done = act()?;
        let value = begun.elapsed().as_nanos() as f64;
        let name = format!("{}/{what}", self.stem);
        self.result.figures.push(Figure { name, unit: Unit::Nanoseconds, value, target: None });
        Ok(done)
    }
}

pub(super) fn measure((count, events): (u64, u64), result: &mut SuiteResult) -> Outcome<()> {
    let mut steps = Steps { result, stem: format!("store/{count}x{events}") };
    let directory = tempfile::tempdir()?;
    let data = directory.path().join("data");
    let open = || -> Outcome<Store> { Ok(Store::open_on(directory.path(), &data)?) };
    let key = IdKey::new(&[1; 32]);
    let mut store = open()?;
    let endpoints = make_endpoints(&mut store, count)?;
    let list = (1..=events).map(|n| new_event(&key, n)).collect::<Outcome<Vec<_>>>()?;
    steps.timed("offering events, a commit each", || {
        for event in &list {
            store.commit(&[Row::Webhook(WebhookRow::Event { event, recipients: &endpoints })])?;
        }
        Ok(())
    })?;
    let restart = |steps: &mut Steps<'_>, what: &str| -> Outcome<Store> {
        let mut store = open()?;
        steps.timed(what, || Ok(store.start_webhooks(&key)?))?;
        Ok(store)
    };
    drop(store);
    let mut store = restart(&mut steps, "start, all waiting for a first attempt")?;
    let retry = Became::Retry { attempt: 2, due: NOW };
    steps.timed("a retry of each delivery", || {
        list.iter().try_for_each(|event| settle(&mut store, event, &endpoints, retry))
    })?;
    drop(store);
    let mut store = restart(&mut steps, "start, all waiting for a retry")?;
    steps.timed("delivered everywhere, event by event", || {
        list.iter().try_for_each(|event| settle(&mut store, event, &endpoints, Became::Delivered))
    })?;
    let fresh = new_event(&key, events + 1)?;
    store.commit(&[Row::Webhook(WebhookRow::Event { event: &fresh, recipients: &endpoints })])?;
    steps.timed("a new event delivered everywhere at once", || {
        settle(&mut store, &fresh, &endpoints, Became::Delivered)
    })?;
    drop(store);
    drop(restart(&mut steps, "start, nothing waiting")?);
    Ok(())
}

fn new_event(key: &IdKey, number: u64) -> Outcome<QueuedEvent<Outgoing>> {
    Ok(Outgoing::of(&event(key, number, NOW))?.queued(number, NOW))
}

fn make_endpoints(store: &mut Store, count: u64) -> Outcome<Vec<EndpointId>> {
    let new = NewAccount { name: "m".to_owned(), email: String::new(), plan: "phantom".to_owned() };
    let mut account = AccountId(0);
    let each = limits::WEBHOOK_ENDPOINTS_PER_ACCOUNT as u64;
    let mut ids = Vec::new();
    for n in 0..count {
        if n.is_multiple_of(each) {
            account = store.create_account(&new, NOW)?.0.id;
        }
        let (url, filter) = ("https://receiver.invalid/hook".to_owned(), EventFilter::default());
        let new = NewEndpoint { account, label: String::new(), url, filter };
        let id = store.create_endpoint(&new, NOW, &mut |_| Ok(Sealed(Box::new([0; 78]))))?.id;
        let health = SavedHealth { state: State::Active, since: NOW, failures: 0, slow: false };
        store.save_health(id, &health, Some(NOW))?;
        ids.push(id);
    }
    Ok(ids)
}

/// Commits what became of one event at all endpoints, in groups as the journal thread does.
fn settle(
    store: &mut Store,
    event: &QueuedEvent<Outgoing>,
    endpoints: &[EndpointId],
    outcome: Became,
) -> Outcome<()> {
    for endpoints in endpoints.chunks(limits::JOURNAL_ROWS_PER_COMMIT) {
        let row = |endpoint: &EndpointId| {
            let recorded = RecordedOutcome { event: event.payload.id, endpoint: *endpoint, outcome };
            Row::Webhook(WebhookRow::Outcome { event: event.number, recorded })
        };
        store.commit(&endpoints.iter().map(row).collect::<Vec<_>>())?;
    }
    Ok(())
}
