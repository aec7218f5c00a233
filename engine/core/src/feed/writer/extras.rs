//! Messages beside announcements: whom they reach, behind what, and what happens when too many wait.

use super::world::{EPOCH, Got, World, key, subscription};
use super::*;
use crate::feed::subscription::{FieldSet, FrameKind};
use crate::model::{Exchange, ExchangeSet, FeedPosition, ListingType, ListingTypeSet, Ticker};
use crate::wire::Payload;
use crate::wire::extra::{Extra, ExtraKind, Extras};
use crate::ws::Opcode;

const BOTH: Extras = Extras { market: true, context: true };

fn asked() -> Subscription {
    Subscription { extras: BOTH, ..subscription(&key(1)) }
}

/// A message of this kind about TOKEN at Binance, called `name`.
fn extra(kind: ExtraKind, name: &str) -> Extra {
    let json = format!("{{\"type\":\"{name}\",\"dispatchTimestampUs\":1700000000000000}}");
    let dispatch_at = json.find(":17").unwrap() as u32 + 1;
    Extra {
        kind,
        exchange: Exchange::Binance,
        listing_type: (kind == ExtraKind::Context).then_some(ListingType::SpotListing),
        tickers: [Ticker::new("TOKEN").unwrap()].into(),
        is_news: true,
        payload: Payload { json: json.into_bytes().into(), dispatch_at },
    }
}

fn tell(world: &mut World, extra: Extra) {
    world.writer.extra(Arc::new(extra));
    world.housekeep();
}

#[test]
fn each_kind_goes_to_those_who_asked_for_it_and_whose_filter_it_matches() {
    let mut world = World::new();
    let filtered = |exchanges: ExchangeSet, types: ListingTypeSet, ticker: Option<&str>| {
        let mut wanted = asked();
        wanted.filter.exchanges = exchanges;
        wanted.filter.types = types;
        wanted.filter.tickers = ticker.map(|ticker| [Ticker::new(ticker).unwrap()].into());
        wanted
    };
    let upbit = ExchangeSet::EMPTY.with(Exchange::Upbit);
    let (all, any) = (ExchangeSet::ALL, ListingTypeSet::ALL);
    let delistings = ListingTypeSet::EMPTY.with(ListingType::SpotDelisting);
    let rows: [(Subscription, &[&str]); 8] = [
        (subscription(&key(1)), &[]),
        (Subscription { extras: Extras { context: false, ..BOTH }, ..asked() }, &["market"]),
        (Subscription { extras: Extras { market: false, ..BOTH }, ..asked() }, &["context", "edit"]),
        (
            Subscription { fields: FieldSet::Basic, frames: FrameKind::Text, ..asked() },
            &["market", "context"],
        ),
        (filtered(upbit, any, None), &[]),
        (filtered(all, delistings, None), &["market"]),
        (filtered(all, any, Some("OTHER")), &[]),
        (filtered(all, any, Some("TOKEN")), &["market", "context", "edit"]),
    ];
    let clients: Vec<usize> = rows.iter().map(|(wanted, _)| world.join_open(wanted.clone())).collect();
    tell(&mut world, extra(ExtraKind::Market, "market"));
    tell(&mut world, extra(ExtraKind::Context, "context"));
    tell(&mut world, Extra { is_news: false, ..extra(ExtraKind::Context, "edit") });
    let mut sent = 0;
    for (client, (wanted, got)) in clients.into_iter().zip(rows) {
        assert_eq!(world.take_types(client)[1..], *got, "{wanted:?}");
        sent += got.len() as u64;
    }
    let counters = world.writer.counters();
    assert_eq!((counters.extras, counters.extras_missed, counters.extras_dropped), (sent, 0, 0));
    assert_eq!(counters.messages, 0, "no announcement among them");
}

#[test]
fn one_is_stamped_once_and_sent_a_slice_a_turn() {
    let mut world = World::new();
    let clients: Vec<usize> = (0..7).map(|_| world.join_open(asked())).collect();
    for client in &clients {
        world.take(*client);
    }
    let begun = world.now.wall;
    world.writer.extra(Arc::new(extra(ExtraKind::Market, "market")));
    assert_eq!(world.writer.deadline(), Mono(0));
    let mut told = Vec::new();
    for _ in 0..4 {
        world.writer.housekeep(world.now, 3);
        world.now.wall = WallUs(world.now.wall.0 + 1);
        told.push(world.writer.counters().extras);
    }
    assert_eq!(told, [3, 6, 7, 7]);
    assert!(world.writer.deadline() > Mono(0), "nothing is left to do");
    world.housekeep();
    for client in clients {
        let got = world.take(client);
        let [Got::Json(message)] = &got[..] else { panic!("{got:?}") };
        assert_eq!(message["dispatchTimestampUs"], begun.0);
    }
}

#[test]
fn an_announcement_in_between_overtakes_the_rest_of_a_message() {
    let mut world = World::new();
    let clients: Vec<usize> = (0..4).map(|_| world.join_open(asked())).collect();
    world.writer.extra(Arc::new(extra(ExtraKind::Market, "market")));
    world.writer.housekeep(world.now, 2);
    let announcement = world.announcement(Exchange::Binance);
    world.announce(announcement);
    world.housekeep();
    let orders: Vec<_> = clients.into_iter().map(|client| world.take_types(client)).collect();
    for early in &orders[..2] {
        assert_eq!(early[..], ["welcome", "market", "announcement 1"]);
    }
    for late in &orders[2..] {
        assert_eq!(late[..], ["welcome", "announcement 1", "market"]);
    }
}

#[test]
fn a_context_waits_while_an_announcement_waits_for_its_turn() {
    let mut world = World::new();
    let client = world.join_open(asked());
    let [_, second] = [(); 2].map(|()| world.announcement(Exchange::Binance));
    // The first has been given its number and is still on its way.
    world.writer.take(world.now.mono, Arc::new(second));
    assert!(world.writer.next_in_order(world.now.mono).is_none());
    tell(&mut world, extra(ExtraKind::Context, "context"));
    assert_eq!(world.take_types(client), ["welcome"]);
    world.advance(limits::ORDER_PATIENCE);
    world.announce_together([]);
    world.housekeep();
    assert_eq!(world.take_types(client), ["announcement 2", "context"]);
}

#[test]
fn who_is_behind_goes_without_and_is_not_closed_for_it() {
    let mut world = World::new();
    let slow = world.join(asked(), 40, false);
    let quick = world.join_open(asked());
    let announcement = world.announcement(Exchange::Binance);
    world.announce(announcement);
    for _ in 0..2 * limits::LAG_MESSAGES {
        tell(&mut world, extra(ExtraKind::Market, "market"));
    }
    assert_eq!(world.take_types(quick).len() as u64, 2 + 2 * limits::LAG_MESSAGES);
    assert_eq!(world.writer.counters().extras_missed, 2 * limits::LAG_MESSAGES);
    world.give_room(slow, usize::MAX);
    assert_eq!(world.take_types(slow), ["welcome", "announcement 1"]);
    tell(&mut world, extra(ExtraKind::Market, "market"));
    assert_eq!(world.take_types(slow), ["market"]);
}

#[test]
fn who_still_gets_a_replay_goes_without() {
    let mut world = World::new();
    for _ in 0..2 * limits::REPLAY_SLICE {
        let announcement = world.announcement(Exchange::Binance);
        world.announce(announcement);
    }
    let resume = Some(FeedPosition { epoch: EPOCH, seq: 0 });
    let client = world.join_open(Subscription { resume, ..asked() });
    world.writer.extra(Arc::new(extra(ExtraKind::Context, "context")));
    world.writer.housekeep(world.now, 1);
    world.housekeep();
    let got = world.take_types(client);
    assert_eq!(got.len(), 1 + 2 * limits::REPLAY_SLICE, "{got:?}");
    assert_eq!(world.writer.counters().extras_missed, 1);
    tell(&mut world, extra(ExtraKind::Context, "context"));
    assert_eq!(world.take_types(client), ["context"]);
}

#[test]
fn beyond_the_bound_the_oldest_that_has_not_begun_is_dropped() {
    let mut world = World::new();
    let clients: Vec<usize> = (0..2).map(|_| world.join_open(asked())).collect();
    world.writer.extra(Arc::new(extra(ExtraKind::Market, "begun")));
    world.writer.housekeep(world.now, 1);
    for n in 0..limits::EXTRAS_WAITING + 2 {
        world.writer.extra(Arc::new(extra(ExtraKind::Market, &format!("m{n}"))));
    }
    world.housekeep();
    let waited = (2..limits::EXTRAS_WAITING + 2).map(|n| format!("m{n}"));
    let all: Vec<String> = ["welcome".to_owned(), "begun".to_owned()].into_iter().chain(waited).collect();
    for client in clients {
        assert_eq!(world.take_types(client), all);
    }
    assert_eq!(world.writer.counters().extras_dropped, 2);
}

#[test]
fn subscribe_asks_for_them_and_a_key_that_may_not_is_told_so() {
    let mut world = World::new();
    let answer = |world: &mut World, client: usize, text: &str| {
        world.take(client);
        world.say(client, Opcode::Text, text.as_bytes());
        let got = world.take(client);
        let [Got::Json(answer)] = &got[..] else { panic!("{got:?}") };
        assert_eq!(answer["type"], "subscribed");
        (answer["events"].as_str().map(str::to_owned), answer["context"].as_bool())
    };
    let client = world.join_open(subscription(&key(1)));
    assert_eq!(answer(&mut world, client, r#"{"type":"subscribe"}"#), (None, None));
    let asks = r#"{"type":"subscribe","events":"market","context":true}"#;
    assert_eq!(answer(&mut world, client, asks), (Some("market".into()), Some(true)));
    tell(&mut world, extra(ExtraKind::Market, "market"));
    assert_eq!(world.take_types(client), ["market"]);
    let ends = r#"{"type":"subscribe","events":[]}"#;
    assert_eq!(answer(&mut world, client, ends), (Some(String::new()), Some(true)));
    tell(&mut world, extra(ExtraKind::Market, "market"));
    tell(&mut world, extra(ExtraKind::Context, "context"));
    assert_eq!(world.take_types(client), ["context"]);

    let withheld = [
        Subscription { redact: true, ..subscription(&key(2)) },
        Subscription { delay: core::time::Duration::from_secs(1), ..subscription(&key(3)) },
    ];
    for withheld in withheld {
        let client = world.join_open(withheld);
        assert_eq!(answer(&mut world, client, asks), (Some(String::new()), Some(false)));
        tell(&mut world, extra(ExtraKind::Context, "context"));
        assert_eq!(world.take(client), []);
    }
}
