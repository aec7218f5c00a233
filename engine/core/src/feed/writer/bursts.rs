//! Announcements that wait together: what each subscriber gets of them, in how many writes.

use core::ops::Range;

use super::FanOut;
use super::world::{Got, World, key, subscription};
use crate::feed::close::CloseReason;
use crate::feed::subscription::{FieldSet, FrameKind, Subscription};
use crate::limits;
use crate::model::Exchange;
use crate::wire::tests::example;
use crate::wire::{EncodedAnnouncement, encode};

fn waiting(world: &mut World, exchanges: &[Exchange]) -> Vec<EncodedAnnouncement> {
    exchanges.iter().map(|exchange| world.announcement(*exchange)).collect()
}

fn only(exchanges: &[Exchange]) -> Subscription {
    let mut wanted = subscription(&key(1));
    wanted.filter.exchanges = exchanges.iter().copied().collect();
    wanted
}

fn announcements(numbers: Range<u64>) -> Vec<String> {
    numbers.map(|n| format!("announcement {n}")).collect()
}

#[test]
fn each_gets_its_own_of_them_in_order_in_one_write() {
    let [a, b, c] = [Exchange::Binance, Exchange::Upbit, Exchange::Okx];
    let mut world = World::new();
    let rows: [(Subscription, &[&str]); 6] = [
        (subscription(&key(1)), &["announcement 1", "announcement 2", "announcement 3"]),
        (only(&[a, c]), &["announcement 1", "announcement 3"]),
        (Subscription { frames: FrameKind::Text, ..only(&[a, c]) }, &["announcement 1", "announcement 3"]),
        (
            Subscription { redact: true, fields: FieldSet::Basic, ..only(&[b, c]) },
            &["announcement", "announcement"],
        ),
        (only(&[b]), &["announcement 2"]),
        (only(&[Exchange::Bybit]), &[]),
    ];
    let clients = rows.map(|(wanted, types)| (world.join_open(wanted), types));
    for (client, _) in clients {
        assert_eq!(world.take_types(client), ["welcome"]);
    }
    let burst = waiting(&mut world, &[a, b, c]);
    let sent = world.announce_together(burst);
    assert_eq!(sent, FanOut { announcements: 3, deliveries: 10 });
    assert_eq!(world.writer.counters().messages, 10);
    for (client, types) in clients {
        let got = world.take(client);
        for got in &got {
            let Got::Json(value) = got else { panic!("{got:?}") };
            assert_eq!(value["dispatchTimestampUs"], world.now.wall.0, "one stamp for all");
        }
        world.clients[client].got = got;
        assert_eq!(world.take_types(client), types);
        let writes = 1 + usize::from(!types.is_empty());
        assert_eq!(world.pipe(client).offers, writes, "the welcome, and all of them");
    }
}

#[test]
fn a_long_burst_leaves_in_few_writes() {
    let mut world = World::new();
    let client = world.join_open(subscription(&key(1)));
    let burst = waiting(&mut world, &[Exchange::Binance; 2 * limits::BURST + 1]);
    world.announce_together(burst);
    let last = 2 * limits::BURST as u64 + 1;
    assert_eq!(world.take_types(client)[1..], announcements(1..last + 1));
    assert_eq!(world.pipe(client).offers, 1 + 3);
    assert_eq!(world.writer.counters().out_of_order, 0);
}

#[test]
fn a_write_gathers_no_more_than_its_bound() {
    let mut world = World::new();
    let client = world.join_open(subscription(&key(1)));
    let title = "\u{1}".repeat(limits::TITLE_BYTES);
    let burst: Vec<EncodedAnnouncement> = (1..=limits::BURST as u64)
        .map(|seq| {
            let mut announcement = example(&title, &["TOKEN"]);
            announcement.position.seq = seq;
            encode(announcement)
        })
        .collect();
    let fit = limits::GATHER_BYTES / burst[0].full.json.len();
    assert!((2..limits::BURST).contains(&fit), "{fit}");
    world.announce_together(burst);
    assert_eq!(world.take(client).len(), 1 + limits::BURST);
    assert_eq!(world.pipe(client).offers, 1 + limits::BURST.div_ceil(fit));
}

/// Wherever in the burst the socket is full, sealed or not.
#[test]
fn the_rest_follows_when_there_is_room() {
    for tls in [false, true] {
        for room in (0..4_000).step_by(7) {
            let mut world = World::new();
            let client = world.join(subscription(&key(1)), room, tls);
            let burst = waiting(&mut world, &[Exchange::Binance; limits::BURST]);
            assert_eq!(world.announce_together(burst).deliveries, limits::BURST);
            let more = world.announcement(Exchange::Binance);
            world.announce(more);
            assert_eq!(world.writer.counters().closes, [0; CloseReason::ALL.len()], "nine are not ten");
            world.give_room(client, usize::MAX);
            let last = limits::BURST as u64 + 1;
            assert_eq!(world.take_types(client)[1..], announcements(1..last + 1));
            assert_eq!(world.writer.counters().messages, last);
        }
    }
}

#[test]
fn one_that_is_behind_is_too_slow_by_all_of_them() {
    let mut world = World::new();
    let quick = world.join_open(subscription(&key(1)));
    let slow = world.join(subscription(&key(1)), 20, false);
    let first = waiting(&mut world, &[Exchange::Binance; 2]);
    world.announce_together(first);
    let burst = waiting(&mut world, &[Exchange::Binance; limits::BURST]);
    let sent = world.announce_together(burst);
    assert_eq!(sent, FanOut { announcements: limits::BURST as u16, deliveries: limits::BURST });
    assert_eq!(world.take_types(quick)[1..], announcements(1..limits::BURST as u64 + 3));
    world.housekeep();
    world.give_room(slow, usize::MAX);
    assert_eq!(world.take_types(slow), ["welcome", "close 1008 too_slow"]);
}

#[test]
fn late_and_missing_ones_keep_their_places() {
    let mut world = World::new();
    let client = world.join_open(only(&[Exchange::Binance]));
    let mut burst = waiting(&mut world, &[Exchange::Binance; 6]);
    burst[0].announcement.late = true;
    burst[2].announcement.late = true;
    let missing = burst.remove(4);
    let sent = world.announce_together(burst);
    assert_eq!(sent.deliveries, 2, "what comes behind the missing one waits");
    world.announce(missing);
    let wanted = [2, 4, 5, 6].map(|n| format!("announcement {n}"));
    assert_eq!(world.take_types(client)[1..], wanted);
    assert_eq!(world.writer.counters().late, 2);
    assert_eq!(world.pipe(client).offers, 1 + 2);
}

#[test]
fn a_delayed_one_and_one_for_nobody() {
    let mut world = World::new();
    let delayed =
        Subscription { delay: core::time::Duration::from_millis(100), ..only(&[Exchange::Binance]) };
    let client = world.join_open(delayed);
    let burst = waiting(&mut world, &[Exchange::Binance, Exchange::Upbit, Exchange::Binance]);
    assert_eq!(world.announce_together(burst), FanOut::default());
    assert_eq!(world.take_types(client), ["welcome"]);
    world.advance(core::time::Duration::from_millis(120));
    assert_eq!(world.take_types(client), ["announcement 1", "announcement 3"]);
}
