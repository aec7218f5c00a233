//! Nobody is always last: over a thousand announcements everyone's mean place in the fan-out is the
//! middle, whoever has left, whoever filters what, and however many there are.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tocsin_core::feed::history::History;
use tocsin_core::feed::key::{KeyId, KeyShared};
use tocsin_core::feed::socket::{Broken, Offer, Socket};
use tocsin_core::feed::subscription::{FieldSet, Filter, FrameKind, Subscription};
use tocsin_core::feed::writer::Writer;
use tocsin_core::model::{
    Action, Announcement, Classification, Exchange, ExchangeSet, FeedPosition, Lang, ListingType,
    ListingTypeSet,
};
use tocsin_core::time::{Mono, Now, WallUs};
use tocsin_core::wire::{EncodedAnnouncement, encode};

const ANNOUNCEMENTS: u64 = 1_000;
/// How far from the middle a mean may be, as a part of all places.
const TOLERANCE: f64 = 0.05;
const NOW: Now = Now { mono: Mono(1_000_000_000), wall: WallUs(1_795_000_000_000_000) };

/// A socket that notes in which place each announcement reached it.
struct Place {
    /// Offers to anyone since the announcement began.
    next: Rc<Cell<u64>>,
    sum: u64,
    count: u64,
    firsts: u64,
}

impl Socket for Place {
    fn offer(&mut self, bytes: &[u8]) -> Result<Offer, Broken> {
        let place = self.next.get();
        self.next.set(place + 1);
        self.sum += place;
        self.count += 1;
        self.firsts += u64::from(place == 0);
        Ok(Offer { accepted: bytes.len(), held: false })
    }

    fn settle(&mut self) -> Result<bool, Broken> {
        Ok(true)
    }

    fn widen(&mut self) {}

    fn finish(&mut self) {}
}

fn subscription(exchanges: ExchangeSet) -> Subscription {
    Subscription {
        key: Arc::new(KeyShared::new(KeyId(1))),
        allowed: ExchangeSet::ALL,
        expires_at: None,
        filter: Filter { exchanges, types: ListingTypeSet::ALL, tickers: None },
        frames: FrameKind::Binary,
        fields: FieldSet::Basic,
        sources: false,
        extras: tocsin_core::wire::extra::Extras::default(),
        redact: false,
        delay: Duration::ZERO,
        resume: None,
    }
}

fn announcement(seq: u64) -> Arc<EncodedAnnouncement> {
    let at = NOW.wall;
    Arc::new(encode(Announcement {
        id: format!("binance:{seq}"),
        position: FeedPosition { epoch: 1, seq },
        exchange: Exchange::Binance,
        title: "Binance Will List Northlight (NLT)".to_owned(),
        classification: Classification {
            listing_type: ListingType::SpotListing,
            tickers: Vec::new(),
            markets: Vec::new(),
            rule: "test",
            confidence: 90,
            lang: Lang::En,
        },
        action: Action::Created,
        late: false,
        url: String::new(),
        notice_id: seq.to_string(),
        source: "test".to_owned(),
        published: at,
        received: at,
        detected: at,
        classified: at,
        effective_at: None,
    }))
}

/// Joins `slots`, of which those that `leaves` go again and those that `listens` hear Binance; then
/// announces, and gives each hearer's mean place as a part of all places, and how often it was first.
fn places(slots: u32, leaves: impl Fn(u32) -> bool, listens: impl Fn(u32) -> bool) -> Vec<(f64, u64)> {
    let next = Rc::new(Cell::new(0));
    let mut writer = Writer::new(NOW.mono, History::new(1, 8, [], true), 42);
    for slot in 0..slots {
        let exchange = if listens(slot) { Exchange::Binance } else { Exchange::Upbit };
        let place = Place { next: Rc::clone(&next), sum: 0, count: 0, firsts: 0 };
        let subscription = subscription(ExchangeSet::EMPTY.with(exchange));
        assert_eq!(writer.join(NOW, place, subscription, b"", &mut []), slot);
    }
    for slot in (0..slots).filter(|slot| leaves(*slot)) {
        writer.failed(NOW, slot);
        assert!(writer.pop_ended().is_some());
    }
    let hearers: Vec<u32> = (0..slots).filter(|slot| listens(*slot) && !leaves(*slot)).collect();
    for slot in &hearers {
        let place = writer.socket_mut(*slot).unwrap();
        (place.sum, place.count, place.firsts) = (0, 0, 0);
    }
    for seq in 1..=ANNOUNCEMENTS {
        next.set(0);
        assert_eq!(writer.broadcast(NOW, announcement(seq), &mut |_| {}).deliveries, hearers.len());
    }
    let all = hearers.len() as f64;
    let of = |slot: &u32| {
        let place = writer.socket_mut(*slot).unwrap();
        assert_eq!(place.count, ANNOUNCEMENTS);
        // The middle of a place counts, so that the middle of all of them is one half.
        ((place.sum as f64 / ANNOUNCEMENTS as f64 + 0.5) / all, place.firsts)
    };
    hearers.iter().map(of).collect()
}

fn is_fair(what: &str, places: &[(f64, u64)]) {
    let worst = places.iter().map(|(mean, _)| (mean - 0.5).abs()).fold(0.0, f64::max);
    println!("{what}: {} hearers, the worst mean place is {worst:.4} off the middle", places.len());
    assert!(worst <= TOLERANCE, "{what}: {worst}");
}

#[test]
fn everyone_s_mean_place_is_the_middle() {
    for count in [2, 3, 10, 256, 1_000, 5_000] {
        is_fair("all", &places(count, |_| false, |_| true));
    }
}

#[test]
fn who_has_left_gives_nobody_a_better_place() {
    is_fair("one of three", &places(300, |slot| slot % 3 != 1, |_| true));
    is_fair("a run of empty places", &places(1_000, |slot| (100..700).contains(&slot), |_| true));
    is_fair("two of a thousand", &places(1_000, |slot| slot != 10 && slot != 20, |_| true));
}

#[test]
fn who_hears_other_exchanges_gives_nobody_a_better_place() {
    is_fair("a run of others", &places(1_000, |_| false, |slot| !(300..800).contains(&slot)));
    is_fair("two among many", &places(1_000, |_| false, |slot| slot == 10 || slot == 20));
}
