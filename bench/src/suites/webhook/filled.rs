//! An engine whose store has been filled with endpoints, as if they had been verified.
//!
//! Contract: [`Filled::fill`] and [`Filled::leave_pending`] before the engine starts, the others after.
//! Blocks and allocates. Fails with the store's or the engine's words.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tocsin::os::clock;
use tocsin::store::webhook::accounts::NewAccount;
use tocsin::store::webhook::deliveries::WebhookRow;
use tocsin::store::webhook::endpoints::NewEndpoint;
use tocsin::store::webhook::secrets::MasterKey;
use tocsin::store::{Row, Store};
use tocsin_core::limits;
use tocsin_core::model::Exchange;
use tocsin_core::time::WallUs;
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::endpoint::{SavedHealth, State};
use tocsin_core::webhook::event::{Event, EventId, EventKind, IdKey, Identity, MarketKind};
use tocsin_core::webhook::filter::EventFilter;
use tocsin_core::webhook::outgoing::Outgoing;
use tocsin_sim::receiver::SimReceiver;

use crate::engine::{Engine, Outcome, Setup};

/// Connections are made within this, or something is wrong.
const PATIENCE: Duration = Duration::from_secs(120);
/// Requests of one event come within this, or something is wrong.
const REQUESTS_COME: Duration = Duration::from_secs(20);
/// Events put into the store with one commit.
const EVENTS_A_COMMIT: usize = 256;

/// See the module head.
pub(in crate::suites) struct Filled {
    pub(in crate::suites) engine: Engine,
    _ca: NamedTempFile,
}

impl Filled {
    pub(super) fn prepare(receiver: &SimReceiver) -> Outcome<Filled> {
        Filled::trusting(receiver.ca().pem(), None)
    }

    /// The same with any authorities, on one core where one is named.
    pub(super) fn trusting(ca_pem: &str, core: Option<usize>) -> Outcome<Filled> {
        Filled::with(Setup { idle: "block", core, ..Setup::default() }, ca_pem)
    }

    /// Any engine that sends to receivers whose certificates lead to `ca_pem`.
    pub(in crate::suites) fn with(mut setup: Setup, ca_pem: &str) -> Outcome<Filled> {
        let ca = NamedTempFile::new()?;
        std::fs::write(ca.path(), ca_pem)?;
        setup.sections += &format!(
            "[egress]\nallow_nets = [\"127.0.0.0/8\"]\nca_file = {:?}\nresolvers = [\"127.0.0.1:9\"]\n",
            ca.path()
        );
        Ok(Filled { engine: Engine::prepare(&setup)?, _ca: ca })
    }

    /// Stores endpoints in this state.
    pub(in crate::suites) fn fill(&self, urls: &[String], state: State) -> Outcome<Vec<EndpointId>> {
        let mut store = Store::open(&self.engine.data())?;
        let master = store.master_key()?;
        let now = clock::wall();
        let mut ids = Vec::with_capacity(urls.len());
        for of_account in urls.chunks(limits::WEBHOOK_ENDPOINTS_PER_ACCOUNT) {
            let new = NewAccount { name: "bench".into(), email: String::new(), plan: "phantom".into() };
            let (account, _) = store.create_account(&new, now)?;
            for url in of_account {
                let (url, filter) = (url.clone(), EventFilter::default());
                let new = NewEndpoint { account: account.id, label: String::new(), url, filter };
                let seal = &mut |id| master.seal(id, &MasterKey::draw_secret()?);
                let record = store.create_endpoint(&new, now, seal)?;
                let health = SavedHealth { state, since: now, failures: 0, slow: false };
                store.save_health(record.id, &health, Some(now))?;
                ids.push(record.id);
            }
        }
        Ok(ids)
    }

    /// Stores events for all of `recipients` until so many deliveries are pending.
    pub(super) fn leave_pending(&self, recipients: &[EndpointId], pending: usize) -> Outcome<()> {
        self.leave_events(recipients, pending / recipients.len().max(1))
    }

    /// Stores so many events for all of `recipients`; where there are none, the engine remembers the events.
    pub(in crate::suites) fn leave_events(&self, recipients: &[EndpointId], count: usize) -> Outcome<()> {
        let mut store = Store::open(&self.engine.data())?;
        let key = store.master_key()?.id_key();
        let now = clock::wall();
        let events = (1_u64..)
            .take(count)
            .map(|number| Ok(Arc::new(Outgoing::of(&event(&key, number, now))?.queued(number, now))))
            .collect::<Outcome<Vec<_>>>()?;
        for group in events.chunks(EVENTS_A_COMMIT) {
            let row = |event| Row::Webhook(WebhookRow::Event { event, recipients });
            let rows: Vec<_> = group.iter().map(|event| row(&**event)).collect();
            store.commit(&rows)?;
        }
        Ok(())
    }

    /// A number of the status, of webhooks.
    pub(in crate::suites) fn count(&self, field: &str) -> Outcome<u64> {
        self.engine.count(&format!("/webhooks/{field}"))
    }

    /// Waits until so many connections are there and nothing is under way.
    pub(in crate::suites) fn warm(&self, connections: usize) -> Outcome<()> {
        let end = Instant::now() + PATIENCE;
        while self.count("connections")? < connections as u64 {
            if Instant::now() > end {
                return Err(format!("only {} connections", self.count("connections")?).into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(Duration::from_millis(500));
        Ok(())
    }

    /// Announces once; from detection to the stamps of the `count` first requests whose path begins with
    /// `stem`, in microseconds, sorted.
    pub(super) fn one_event(
        &self,
        receiver: &SimReceiver,
        stem: &str,
        count: usize,
        number: usize,
    ) -> Outcome<Vec<i64>> {
        let _ = receiver.take();
        let detected = self.announce(number, 1)?;
        let mut delays = Vec::with_capacity(count);
        let end = Instant::now() + REQUESTS_COME;
        while delays.len() < count {
            if Instant::now() > end {
                return Err(format!("{} of {count} requests came", delays.len()).into());
            }
            for received in receiver.take() {
                let is_event = received.event_type().as_deref() != Some("ping");
                if received.path().starts_with(stem) && is_event && received.attempt() == Some(1) {
                    delays.extend(received.sent_at().map(|at| at.micros_since(detected)));
                }
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        delays.sort_unstable();
        Ok(delays)
    }

    /// Announces a listing of `tickers` new tickers; when it was detected.
    pub(super) fn announce(&self, number: usize, tickers: usize) -> Outcome<WallUs> {
        let names: Vec<String> = (0..tickers).map(|n| format!("B{number}X{n}")).collect();
        let body = json!({
            "exchange": "binance", "title": format!("Binance Will List Coin {number}"),
            "listing_type": "spot_listing", "tickers": names,
        });
        let answer = self.engine.admin("POST", "/admin/v1/announcements", Some(&body))?;
        let at = answer.get("detectedTimestampUs").and_then(Value::as_i64);
        Ok(WallUs(at.ok_or("no time of detection")?))
    }
}

pub(in crate::suites) fn urls(receiver: &SimReceiver, stem: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| receiver.url(&format!("/{stem}{n}"))).collect()
}

/// A listing that differs from others by its number.
pub(super) fn event(key: &IdKey, number: u64, now: WallUs) -> Event {
    let (symbol, item) = (format!("P{number}USDT"), number.to_string());
    let identity = Identity {
        kind: EventKind::NewListing,
        exchange: Some(Exchange::Binance),
        symbol: &symbol,
        market: MarketKind::Spot,
        source_item: &item,
    };
    Event {
        id: EventId::derive(key, now, &identity),
        kind: EventKind::NewListing,
        timestamp: now,
        exchange: Some(Exchange::Binance),
        symbol: symbol.as_str().into(),
        market: MarketKind::Spot,
        volume_24h_usd: None,
        ai_score: None,
        latency_ms: 312,
        late: false,
    }
}
