//! Announcements for the tests of store, journal and control plane.

use proptest::prelude::*;
use tocsin_core::feed::key::{AllowedExchanges, Tier};
use tocsin_core::market::{InstrumentKind, MarketEvent, MarketEventKind};
use tocsin_core::model::{
    Action, Announcement, Classification, Exchange, FeedPosition, Lang, ListingType, Market, Ticker,
};
use tocsin_core::time::WallUs;
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::endpoint::{SavedHealth, State};
use tocsin_core::webhook::event::{Event, EventId, IdKey};
use tocsin_core::webhook::filter::EventFilter;
use tocsin_core::webhook::lane::QueuedEvent;
use tocsin_core::webhook::outgoing::{Outcome, Outgoing, RecordedOutcome};

use super::intern::intern;
use super::webhook::accounts::{AccountId, NewAccount};
use super::webhook::endpoints::NewEndpoint;
use super::webhook::secrets::Sealed;
use super::{NewKey, Store};

/// An instant for tests.
pub(crate) const NOW: WallUs = WallUs(1_770_000_000_000_000);

/// An empty store in `data` below a directory that goes with the test; its journals lie beside it.
pub(crate) fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_on(dir.path(), &dir.path().join("data")).unwrap();
    (dir, store)
}

/// A premium key for all exchanges.
pub(crate) fn new_key() -> NewKey {
    NewKey {
        label: String::new(),
        tier: Tier::Premium,
        max_connections: 5,
        allowed: AllowedExchanges::all(),
        expires_at: None,
        delay: core::time::Duration::ZERO,
        redact: false,
        account: None,
    }
}

/// A spot listing at `(epoch, seq)`, every field of it set.
pub(crate) fn announcement(epoch: u64, seq: u64) -> Announcement {
    let base = i64::try_from(seq).unwrap_or(0) * 1_000_000 + 1_760_000_000_000_000;
    let ticker = |s: &str| Ticker::new(s).unwrap();
    Announcement {
        id: format!("binance:{seq}"),
        position: FeedPosition { epoch, seq },
        exchange: Exchange::Binance,
        title: format!("Binance Will List Token {seq} (TK{seq})"),
        classification: Classification {
            listing_type: ListingType::SpotListing,
            tickers: vec![ticker(&format!("TK{seq}"))],
            markets: vec![Market { base: ticker(&format!("TK{seq}")), quote: ticker("USDT") }],
            rule: intern("test.rule"),
            confidence: 99,
            lang: Lang::En,
        },
        action: Action::Created,
        late: false,
        url: format!("https://exchange.invalid/{seq}"),
        notice_id: seq.to_string(),
        source: "binance.cms".to_owned(),
        published: WallUs(base),
        received: WallUs(base + 4_000),
        detected: WallUs(base + 4_100),
        classified: WallUs(base + 4_110),
        effective_at: Some(WallUs(base + 7_200_000_000)),
    }
}

/// A preview of a spot pair at OKX, seen at that instant.
pub(crate) fn market_event(symbol: &str, received: WallUs) -> MarketEvent {
    MarketEvent {
        kind: MarketEventKind::ListingPreview,
        exchange: Exchange::Okx,
        source: "okx.instruments",
        symbol: symbol.to_owned(),
        base: "ABC".to_owned(),
        quote: "USDT".to_owned(),
        instrument: InstrumentKind::Spot,
        state: "preopen".to_owned(),
        occurrence: 1,
        new_asset: true,
        noticed: false,
        effective_at: Some(NOW),
        volume_24h: None,
        ratio: Some(4.5),
        score: Some(85),
        since: Some(WallUs(NOW.0 - 1)),
        received,
        detected: WallUs(received.0 + 7),
    }
}

prop_compose! {
    fn any_ticker()(text in "[A-Z0-9]{1,12}") -> Ticker { Ticker::new(&text).unwrap() }
}

prop_compose! {
    /// Any announcement the engine can make.
    pub(crate) fn any_announcement()(
        position in any::<(u64, u64)>(),
        texts in ("[a-z:0-9]{1,40}", "\\PC{0,200}", "[a-z:/.]{0,80}", "[0-9a-f]{1,40}", "[a-z.]{1,20}"),
        picks in (0..16_usize, 0..5_usize, 0..3_usize, any::<bool>(), 0..3_usize, 0..=100_u8),
        times in any::<[i64; 4]>(),
        effective in any::<Option<i64>>(),
        tickers in proptest::collection::vec(any_ticker(), 0..6),
        markets in proptest::collection::vec((any_ticker(), any_ticker()), 0..6),
        rule in "[a-c]{1,2}",
    ) -> Announcement {
        let (id, title, url, notice_id, source) = texts;
        let (exchange, listing_type, action, late, lang, confidence) = picks;
        let [published, received, detected, classified] = times.map(WallUs);
        Announcement {
            id,
            position: FeedPosition { epoch: position.0, seq: position.1 },
            exchange: Exchange::ALL[exchange],
            title,
            classification: Classification {
                listing_type: ListingType::ALL[listing_type],
                tickers,
                markets: markets.into_iter().map(|(base, quote)| Market { base, quote }).collect(),
                rule: intern(&rule),
                confidence,
                lang: Lang::ALL[lang],
            },
            action: [Action::Created, Action::Updated, Action::UpdatedWithNews][action],
            late,
            url,
            notice_id,
            source,
            published,
            received,
            detected,
            classified,
            effective_at: effective.map(WallUs),
        }
    }
}

/// The same store after the process has ended and started again.
pub(crate) fn reopen(dir: &tempfile::TempDir, store: Store) -> Store {
    drop(store);
    Store::open_on(dir.path(), &dir.path().join("data")).unwrap()
}

/// An account with webhooks and an address.
pub(crate) fn new_account() -> NewAccount {
    NewAccount { name: "Owner".to_owned(), email: "owner@example.org".to_owned(), plan: "phantom".to_owned() }
}

/// An endpoint that wants everything.
pub(crate) fn endpoint_of(account: AccountId) -> NewEndpoint {
    NewEndpoint {
        account,
        label: String::new(),
        url: "https://receiver.invalid/hook".to_owned(),
        filter: EventFilter::default(),
    }
}

/// Registers an endpoint and has it verified at the beginning of time.
pub(crate) fn register(store: &mut Store, new: &NewEndpoint) -> EndpointId {
    let seal = &mut |_| Ok(Sealed(Box::new([1, 2, 3])));
    let id = store.create_endpoint(new, NOW, seal).unwrap().id;
    store.save_health(id, &health(State::Active), Some(WallUs(0))).unwrap();
    id
}

/// A health in that state.
pub(crate) fn health(state: State) -> SavedHealth {
    SavedHealth { state, since: NOW, failures: 0, slow: false }
}

/// A store with a key file and an account that has two verified endpoints, `1` and `2`.
pub(crate) fn installation() -> (tempfile::TempDir, Store, [EndpointId; 2]) {
    let (dir, mut store) = store();
    store.master_key().unwrap();
    let (account, _token) = store.create_account(&new_account(), NOW).unwrap();
    let endpoints = [(); 2].map(|()| register(&mut store, &endpoint_of(account.id)));
    (dir, store, endpoints)
}

/// The key of event ids in tests.
pub(crate) fn id_key() -> IdKey {
    IdKey::new(&[7; 32])
}

/// The id of the event of `announcement(1, seq)`.
pub(crate) fn event_id(seq: u64) -> EventId {
    Event::of(&announcement(1, seq), &id_key())[0].id
}

/// The event of `announcement(1, number)`, numbered so.
pub(crate) fn queued(number: u64) -> QueuedEvent<Outgoing> {
    let announcement = announcement(1, number);
    let event = &Event::of(&announcement, &id_key())[0];
    Outgoing::of(event).unwrap().queued(number, announcement.detected)
}

/// That event `n` was delivered to endpoint 1.
pub(crate) fn outcome(n: u64) -> RecordedOutcome {
    RecordedOutcome { event: event_id(n), endpoint: EndpointId(1), outcome: Outcome::Delivered }
}

prop_compose! {
    /// Any outcome.
    pub(crate) fn any_outcome()(
        seq in 0..1_000_000_u64,
        endpoint in any::<u64>(),
        kind in 0..4_u8,
        attempt in any::<u8>(),
        due in any::<i64>(),
    ) -> RecordedOutcome {
        let outcome = match kind {
            0 => Outcome::Delivered,
            1 => Outcome::Retry { attempt, due: WallUs(due) },
            2 => Outcome::Failed,
            _ => Outcome::Expired,
        };
        RecordedOutcome { event: event_id(seq), endpoint: EndpointId(endpoint), outcome }
    }
}

/// Fails if a file below `dir` holds `text`.
pub(crate) fn assert_in_no_file(dir: &tempfile::TempDir, text: &str) {
    let mut folders = vec![dir.path().to_owned()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            files += 1;
            let bytes = std::fs::read(&path).unwrap();
            let found = bytes.windows(text.len()).any(|window| window == text.as_bytes());
            assert!(!found, "{} holds what is secret", path.display());
        }
    }
    assert!(files > 0);
}
