//! What holds for books whatever the answers: one event an identity, no order, no outage, any restart.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::tests::{DAY, World, at, row};
use super::*;
use crate::market::register::Hearing;

const SYMBOLS: [&str; 6] = ["A-USDT", "B-USDT", "C-USDT", "D-USDT", "A-USDC", "E-KRW"];

/// How a symbol stands in an answer: absent, or a state with an opening and an end by number.
type Shown = Option<(Trading, u8, u8)>;

fn shown() -> impl Strategy<Value = Shown> {
    let trading = prop_oneof![
        3 => Just(Trading::Open),
        2 => Just(Trading::Ahead),
        1 => Just(Trading::Halted),
        1 => Just(Trading::Over),
    ];
    prop_oneof![1 => Just(None), 5 => (trading, 0..4_u8, 0..4_u8).prop_map(Some)]
}

/// An answer, and how often it comes.
fn answers() -> impl Strategy<Value = Vec<(Vec<Shown>, usize)>> {
    prop::collection::vec((prop::collection::vec(shown(), SYMBOLS.len()), 1..14_usize), 1..12)
}

fn time(number: u8, minute: i64) -> Option<WallUs> {
    match number {
        0 => None,
        1 => at(minute.max(1) - 1),
        2 => at(4_000),
        _ => at(9_000),
    }
}

fn instruments(answer: &[Shown], minute: i64) -> Vec<Instrument<'static>> {
    let rows = SYMBOLS.iter().zip(answer);
    rows.filter_map(|(symbol, shown)| {
        let (trading, opens, closes) = (*shown)?;
        let (opens_at, closes_at) = (time(opens, 0), time(closes, minute));
        Some(Instrument { opens_at, closes_at, ..row(symbol, trading) })
    })
    .collect()
}

/// All answers in turn, within a list large enough that nothing is held back.
fn play(
    answers: &[(Vec<Shown>, usize)],
    world: &mut World,
    mut each: impl FnMut(&mut World, &[MarketEvent]),
) {
    for (answer, times) in answers {
        for _ in 0..*times {
            let rows = instruments(answer, 0);
            let (_, events) = world.list(60, &rows);
            each(world, &events);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn no_two_events_have_one_identity(answers in answers(), restarts in any::<u64>()) {
        let mut world = World::new(0, Hearing::Never);
        let (mut ids, mut turn) = (BTreeSet::new(), 0_u32);
        let mut repeated = Vec::new();
        play(&answers, &mut world, |world, events| {
            let new = events.iter().map(MarketEvent::source_item);
            repeated.extend(new.filter(|id| !ids.insert(id.clone())));
            turn += 1;
            if restarts.rotate_right(turn) & 7 == 0 {
                world.restart();
            }
        });
        prop_assert!(repeated.is_empty(), "{repeated:?}");
    }

    #[test]
    fn the_order_of_rows_decides_nothing(answers in answers(), seed in any::<u64>()) {
        let mut straight = World::new(0, Hearing::Never);
        let mut turned = World::new(0, Hearing::Never);
        for (answer, _) in &answers {
            let mut rows = instruments(answer, 0);
            let (outcome, events) = straight.rows(&rows);
            let len = rows.len().max(1);
            rows.rotate_left(seed as usize % len);
            if seed % 2 == 0 {
                rows.reverse();
            }
            prop_assert_eq!(turned.rows(&rows), (outcome, events));
        }
    }

    #[test]
    fn an_answer_that_only_repeats_rows_in_another_order_tells_nothing(
        answer in prop::collection::vec(shown(), SYMBOLS.len()), turns in 0..6_usize,
    ) {
        let mut world = World::new(0, Hearing::Never);
        let mut rows = instruments(&answer, 0);
        world.list(60, &rows);
        let len = rows.len().max(1);
        rows.rotate_left(turns % len);
        for _ in 0..20 {
            let (_, events) = world.list(60, &rows);
            prop_assert!(events.is_empty(), "{events:?}");
        }
    }

    /// Any size over the bound, any length, in any order of answers, and the way back.
    #[test]
    fn no_outage_gives_a_delisting(
        known in 5..300_usize,
        outages in prop::collection::vec((0.0..0.79_f64, 1..40_usize, 1..200_i64), 1..8),
    ) {
        let mut world = World::new(0, Hearing::Never);
        world.list(known, &[]);
        for (left, answers, apart) in outages {
            let left = (known as f64 * left) as usize;
            for _ in 0..answers {
                let (outcome, events) = world.list(left, &[]);
                prop_assert!(events.is_empty() && outcome != Outcome::Taken, "{outcome:?} {events:?}");
                world.minute += apart;
                if outcome == Outcome::Believed(ListState::Shrunk) {
                    break;
                }
            }
            let (_, events) = world.list(known, &[]);
            prop_assert!(events.is_empty(), "{events:?}");
        }
    }

    /// The records of the last answer are lost, its events were told: they come again, as they were, and
    /// nothing that was told before.
    #[test]
    fn a_crash_before_the_store_repeats_the_last_events_and_no_others(
        answers in answers(), crash in 0..100_usize,
    ) {
        let mut world = World::new(0, Hearing::Never);
        let (mut turn, mut told) = (0, BTreeSet::new());
        for (answer, times) in &answers {
            for _ in 0..*times {
                let rows = instruments(answer, 0);
                let (stored, stored_book, minute) =
                    (world.stored.clone(), world.stored_book, world.minute);
                let (_, events) = world.list(60, &rows);
                if turn == crash {
                    (world.stored, world.stored_book) = (stored, stored_book);
                    world.minute = minute;
                    world.restart();
                    let (_, again) = world.list(60, &rows);
                    // What several answers must agree on may come later, but never twice or anew.
                    let ids: BTreeSet<String> = events.iter().map(MarketEvent::source_item).collect();
                    for event in again {
                        let id = event.source_item();
                        prop_assert!(ids.contains(&id) || !told.contains(&id), "{id}");
                    }
                }
                for event in events {
                    told.insert(event.source_item());
                }
                turn += 1;
            }
        }
    }

    #[test]
    fn a_restart_changes_nothing_that_one_answer_decides(answers in answers()) {
        let mut steady = World::new(0, Hearing::Never);
        let mut restarted = World::new(0, Hearing::Never);
        for (answer, _) in &answers {
            // Often enough that whatever must agree has agreed, with or without a restart before.
            let rows = instruments(answer, 0);
            let mut told = [Vec::new(), Vec::new()];
            for _ in 0..16 {
                told[0].extend(steady.list(60, &rows).1);
                told[1].extend(restarted.list(60, &rows).1);
            }
            restarted.restart();
            let ids = told.map(|events| {
                let mut ids: Vec<String> = events.iter().map(MarketEvent::source_item).collect();
                ids.sort();
                ids
            });
            prop_assert_eq!(&ids[0], &ids[1]);
        }
    }

    #[test]
    fn memory_keeps_to_its_bounds(symbols in prop::collection::vec("[A-Z]{1,70}-[A-Z]{3}", 0..200)) {
        let mut world = World::new(1, Hearing::Until(WallUs(DAY)));
        let rows: Vec<Instrument<'_>> = symbols.iter().map(|symbol| row(symbol, Trading::Ahead)).collect();
        for _ in 0..3 {
            world.rows(&rows);
        }
        prop_assert!(world.book.len() <= limits::MARKET_INSTRUMENTS);
        prop_assert!(world.book.staged.is_empty() && world.book.text.is_empty());
        let longest = world.book.entries.keys().map(|symbol| symbol.len()).max().unwrap_or(0);
        prop_assert!(longest <= limits::SYMBOL_BYTES);
        prop_assert!(world.book.questions.len() <= world.book.len());
    }
}
