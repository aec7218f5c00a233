//! Measures the store's part of webhooks: what a commit of outcomes costs, and how long a start takes
//! with many deliveries pending.
//!
//! `cargo run --release --example store_pending -- [ENDPOINTS] [EVENTS] [DIRECTORY]`, 100 and 100 unless
//! said otherwise, below the system's temporary directory.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a measurement fails by panicking")]

use std::path::PathBuf;
use std::time::Instant;

use tocsin::store::webhook::accounts::{AccountId, NewAccount};
use tocsin::store::webhook::deliveries::WebhookRow;
use tocsin::store::webhook::endpoints::NewEndpoint;
use tocsin::store::webhook::secrets::Sealed;
use tocsin::store::{Row, Store};
use tocsin_core::limits;
use tocsin_core::model::Exchange;
use tocsin_core::time::WallUs;
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::endpoint::{SavedHealth, State};
use tocsin_core::webhook::event::{Event, EventId, EventKind, IdKey, Identity, MarketKind};
use tocsin_core::webhook::filter::EventFilter;
use tocsin_core::webhook::lane::QueuedEvent;
use tocsin_core::webhook::outgoing::{Outcome, Outgoing, RecordedOutcome};

const NOW: WallUs = WallUs(1_770_000_000_000_000);

fn event(key: &IdKey, number: u64) -> QueuedEvent<Outgoing> {
    let symbol = format!("TK{number}USDT");
    let identity = Identity {
        kind: EventKind::NewListing,
        exchange: Some(Exchange::Binance),
        symbol: &symbol,
        market: MarketKind::Spot,
        source_item: &symbol,
    };
    let event = Event {
        id: EventId::derive(key, NOW, &identity),
        kind: EventKind::NewListing,
        timestamp: NOW,
        exchange: Some(Exchange::Binance),
        symbol: symbol.as_str().into(),
        market: MarketKind::Spot,
        volume_24h_usd: None,
        ai_score: None,
        latency_ms: 312,
        late: false,
    };
    Outgoing::of(&event).unwrap().queued(number, NOW)
}

fn make_endpoints(store: &mut Store, count: u64) -> Vec<EndpointId> {
    let new = NewAccount { name: "m".to_owned(), email: String::new(), plan: "phantom".to_owned() };
    let mut account = AccountId(0);
    let each = limits::WEBHOOK_ENDPOINTS_PER_ACCOUNT as u64;
    (0..count)
        .map(|n| {
            if n.is_multiple_of(each) {
                account = store.create_account(&new, NOW).unwrap().0.id;
            }
            let (url, filter) = ("https://receiver.invalid/hook".to_owned(), EventFilter::default());
            let new = NewEndpoint { account, label: String::new(), url, filter };
            let seal = &mut |_| Ok(Sealed(Box::new([0; 78])));
            let id = store.create_endpoint(&new, NOW, seal).unwrap().id;
            let health = SavedHealth { state: State::Active, since: NOW, failures: 0, slow: false };
            store.save_health(id, &health, Some(NOW)).unwrap();
            id
        })
        .collect()
}

/// Commits what became of one event at all endpoints, in groups as the journal thread does.
fn settle(store: &mut Store, event: &QueuedEvent<Outgoing>, endpoints: &[EndpointId], outcome: Outcome) {
    for endpoints in endpoints.chunks(limits::JOURNAL_ROWS_PER_COMMIT) {
        let row = |endpoint: &EndpointId| {
            let recorded = RecordedOutcome { event: event.payload.id, endpoint: *endpoint, outcome };
            Row::Webhook(WebhookRow::Outcome { event: event.number, recorded })
        };
        store.commit(&endpoints.iter().map(row).collect::<Vec<_>>()).unwrap();
    }
}

fn timed<T>(what: &str, act: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let result = act();
    println!("{what}: {:.1} ms", begun.elapsed().as_secs_f64() * 1_000.0);
    result
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = || arguments.next().map_or(100, |text| text.parse().unwrap());
    let (count, events): (u64, u64) = (number(), number());
    let directory = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let directory = tempfile::tempdir_in(directory).unwrap();
    let data = directory.path().join("data");
    let open = || Store::open_on(directory.path(), &data).unwrap();
    let key = IdKey::new(&[1; 32]);
    let mut store = open();
    let endpoints = timed("making the endpoints", || make_endpoints(&mut store, count));
    let list: Vec<_> = (1..=events).map(|number| event(&key, number)).collect();
    timed("offering the events, a commit each", || {
        for event in &list {
            store.commit(&[Row::Webhook(WebhookRow::Event { event, recipients: &endpoints })]).unwrap();
        }
    });
    let report = |what: &str| {
        let mut store = timed("opening", open);
        let start = timed(what, || store.start_webhooks(&key).unwrap());
        println!("  {} deliveries of {} events", start.pending.len(), start.events.len());
        store
    };
    drop(store);
    let mut store = report("start, all waiting for their first attempt");
    let retry = Outcome::Retry { attempt: 2, due: NOW };
    timed("a retry of each delivery", || {
        list.iter().for_each(|event| settle(&mut store, event, &endpoints, retry));
    });
    drop(store);
    let mut store = report("start, all waiting for a retry");
    if let [first, rest @ ..] = &list[..] {
        timed("one event delivered everywhere", || settle(&mut store, first, &endpoints, Outcome::Delivered));
        timed("the others, one by one", || {
            rest.iter().for_each(|event| settle(&mut store, event, &endpoints, Outcome::Delivered));
        });
    }
    let fresh = event(&key, events + 1);
    store.commit(&[Row::Webhook(WebhookRow::Event { event: &fresh, recipients: &endpoints })]).unwrap();
    timed("a new event delivered everywhere at once", || {
        settle(&mut store, &fresh, &endpoints, Outcome::Delivered);
    });
    drop(store);
    drop(report("start, nothing waiting"));
}
