//! The delivery property: random filters, rooms, bursts, delays and resumes against a plain list.

use core::time::Duration;

use proptest::prelude::*;

use super::world::{EPOCH, Got, World, key, subscription};
use crate::feed::history::History;
use crate::feed::subscription::FrameKind;
use crate::limits;
use crate::model::{Exchange, ExchangeSet, FeedPosition};
use crate::ws::Opcode;

#[derive(Clone, Debug)]
enum Op {
    Join {
        exchanges: u8,
        class: u8,
        room: usize,
        tls: bool,
        delay_ms: u64,
        resume_back: Option<u64>,
    },
    /// One announcement each, all there at once or one after the other.
    Announce {
        all: Vec<(usize, bool)>,
        together: bool,
    },
    Room {
        client: usize,
        bytes: usize,
    },
    Say {
        client: usize,
    },
    Advance {
        ms: u64,
    },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        2 => (1..16_u8, 0..4_u8, 0..3_000_usize, any::<bool>(), prop_oneof![2 => Just(0), 1 => 1..60_u64],
              prop::option::of(0..12_u64))
            .prop_map(|(exchanges, class, room, tls, delay_ms, resume_back)| {
                Op::Join { exchanges, class, room, tls, delay_ms, resume_back }
            }),
        2 => (0..4_usize, prop::bool::weighted(0.1), 1..5_usize)
            .prop_map(|(exchange, late, times)| Op::Announce { all: vec![(exchange, late); times], together: false }),
        3 => (prop::collection::vec((0..4_usize, prop::bool::weighted(0.1)), 1..13), any::<bool>())
            .prop_map(|(all, together)| Op::Announce { all, together }),
        6 => (any::<usize>(), prop_oneof![0..40_usize, 0..2_000_usize]).prop_map(|(client, bytes)| Op::Room { client, bytes }),
        1 => any::<usize>().prop_map(|client| Op::Say { client }),
        3 => (0..30_u64).prop_map(|ms| Op::Advance { ms }),
    ];
    prop::collection::vec(op, 1..90)
}

/// What one client of the property is to get, by `seq`.
struct Expected {
    client: usize,
    filter: ExchangeSet,
    /// Position it resumed after.
    after: Option<u64>,
    /// Announcements before it joined.
    joined_at: u64,
    /// The oldest of them not released to it when it joined.
    news_from: u64,
    tls: bool,
    said: usize,
    /// Announcements that matched, if it is neither delayed nor resumed.
    matched: Option<usize>,
    /// Ten of them were once not taken by its socket.
    fell_behind: bool,
}

impl Expected {
    /// To be called after each fan-out.
    fn note(&mut self, burst: &[(Exchange, bool)], world: &World) {
        let Some(matched) = &mut self.matched else { return };
        if self.said > limits::CLIENT_MESSAGES_PER_MINUTE {
            return;
        }
        *matched += burst.iter().filter(|(exchange, late)| !late && self.filter.contains(*exchange)).count();
        let got = &world.clients[self.client].got;
        let taken = got.iter().filter(|got| matches!(got, Got::Json(value) if value["seq"].is_u64())).count();
        self.fell_behind |= (*matched - taken) as u64 >= limits::LAG_MESSAGES;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever the filters, rooms, delays and resumes: each subscriber gets exactly what matches, in
    /// order, every frame whole, or is closed as too slow after a prefix of it.
    #[test]
    fn each_gets_exactly_what_matches_or_is_closed(ops in ops()) {
        // Deep enough for all of them: what is forgotten is not the matter here.
        let mut world = World::with_history(History::new(EPOCH, 2_048, [], true));
        let mut expected: Vec<Expected> = Vec::new();
        // (exchange, late, instant)
        let mut announced: Vec<(Exchange, bool, crate::time::Mono)> = Vec::new();
        for op in ops {
            match op {
                Op::Join { exchanges, class, room, tls, delay_ms, resume_back } => {
                    let filter: ExchangeSet = (0..4).filter(|n| exchanges & 1 << n != 0).map(|n| Exchange::ALL[n]).collect();
                    let last = announced.len() as u64;
                    let after = resume_back.map(|back| last.saturating_sub(back));
                    let mut wanted = subscription(&key(1));
                    wanted.filter.exchanges = filter;
                    wanted.frames = if class & 1 != 0 { FrameKind::Text } else { FrameKind::Binary };
                    wanted.redact = class & 2 != 0;
                    wanted.delay = Duration::from_millis(delay_ms);
                    wanted.resume = after.map(|seq| FeedPosition { epoch: EPOCH, seq });
                    let unreleased = announced.iter().filter(|(_, _, at)| *at + wanted.delay > world.now.mono).count() as u64;
                    let news_from = if delay_ms > 0 { last - unreleased } else { last };
                    let client = world.join(wanted, room, tls);
                    let matched = (delay_ms == 0 && after.is_none()).then_some(0);
                    let (joined_at, said, fell_behind) = (last, 0, false);
                    expected.push(Expected { client, filter, after, joined_at, news_from, tls, said, matched, fell_behind });
                }
                Op::Announce { all, together } => {
                    let all: Vec<_> = all.into_iter().map(|(n, late)| (Exchange::ALL[n], late)).collect();
                    announced.extend(all.iter().map(|(exchange, late)| (*exchange, *late, world.now.mono)));
                    for burst in all.chunks(if together { all.len() } else { 1 }) {
                        let next: Vec<_> = burst.iter().map(|(exchange, late)| {
                            let mut next = world.announcement(*exchange);
                            next.announcement.late = *late;
                            next
                        }).collect();
                        world.announce_together(next);
                        expected.iter_mut().for_each(|e| e.note(burst, &world));
                    }
                }
                Op::Room { client, bytes } if !expected.is_empty() => {
                    let client = expected[client % expected.len()].client;
                    world.give_room(client, bytes);
                }
                Op::Say { client } if !expected.is_empty() => {
                    let nth = client % expected.len();
                    expected[nth].said += 1;
                    let client = expected[nth].client;
                    if world.clients[client].ended.is_none() {
                        world.say(client, Opcode::Text, b"?");
                    }
                }
                Op::Room { .. } | Op::Say { .. } => {}
                Op::Advance { ms } => world.advance(Duration::from_millis(ms)),
            }
        }
        for e in &expected {
            world.give_room(e.client, usize::MAX);
        }
        world.advance(Duration::from_millis(200));
        for e in expected {
            let wanted: Vec<u64> = announced.iter().zip(1..).filter(|((exchange, late, _), seq)| {
                let replayed = *seq <= e.news_from.min(e.joined_at) ;
                let in_time = if replayed { e.after.is_some_and(|after| *seq > after) } else { !late };
                in_time && e.filter.contains(*exchange)
            }).map(|(_, seq)| seq).collect();
            let all = world.take(e.client);
            let got: Vec<u64> = all.iter().filter_map(|got| match got {
                Got::Json(value) => value["seq"].as_u64(),
                _ => None,
            }).collect();
            match all.last() {
                Some(Got::Close(code, reason)) => {
                    prop_assert_eq!(*code, 1008);
                    prop_assert!(wanted.starts_with(&got), "{:?} of {:?}", got, wanted);
                    // What of a sealed record has left is not known, so it counts until all has.
                    let early = reason == "too_slow" && e.matched.is_some() && !e.tls && !e.fell_behind;
                    prop_assert!(!early, "closed with fewer than ten behind");
                }
                _ => {
                    prop_assert!(!e.fell_behind, "ten behind and not closed");
                    prop_assert_eq!(got, wanted);
                }
            }
            prop_assert!(matches!(&all[0], Got::Json(welcome) if welcome["type"] == "welcome"));
        }
    }
}
