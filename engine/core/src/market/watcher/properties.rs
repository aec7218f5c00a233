//! What holds for watchers whatever the order of answers, notices and restarts.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::world::{World, minute};
use super::*;
use crate::model::ListingType;

const SYMBOLS: [&str; 4] = ["AAA", "BBB", "CCC", "DDD"];
const LISTS: [(&str, &str); 4] =
    [("okx.spot", "list"), ("okx.swap", "list"), ("okx.calendar", "calendar"), ("gate.spot", "list")];

/// A symbol in an answer: absent, or its state with an opening and an end by number.
type Shown = Option<(Trading, u8, u8)>;

#[derive(Clone, Debug)]
enum Step {
    /// A list stands like this from now on.
    List(usize, Vec<Shown>),
    Notice(bool, ListingType, usize),
    Restart,
}

fn shown() -> impl Strategy<Value = Shown> {
    let trading = prop_oneof![
        3 => Just(Trading::Open), 2 => Just(Trading::Ahead), 1 => Just(Trading::Halted), 1 => Just(Trading::Over),
    ];
    prop_oneof![1 => Just(None), 5 => (trading, 0..3_u8, 0..3_u8).prop_map(Some)]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let list = (0..LISTS.len(), prop::collection::vec(shown(), SYMBOLS.len()));
    let kind = prop_oneof![Just(ListingType::SpotListing), Just(ListingType::SpotDelisting)];
    let step = prop_oneof![
        6 => list.prop_map(|(list, shown)| Step::List(list, shown)),
        2 => (any::<bool>(), kind, 0..SYMBOLS.len()).prop_map(|(gate, kind, at)| Step::Notice(gate, kind, at)),
        2 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..11)
}

fn rows(shown: &[Shown]) -> String {
    let time = |number: u8| ["-", "200", "500"].get(usize::from(number)).copied().unwrap_or("-");
    let each = SYMBOLS.iter().zip(shown).filter_map(|(base, shown)| {
        let (trading, opens, closes) = (*shown)?;
        let (trading, opens, closes) = (trading.name(), time(opens), time(closes));
        Some(format!("I {base}-USDT {base} USDT spot {trading} {opens} {closes}\n"))
    });
    each.collect()
}

/// All answers as they stand, often enough that whatever must agree has agreed; then the wait for notices.
fn round(world: &mut World, lists: &[Vec<Shown>]) -> Vec<MarketEvent> {
    let mut events = Vec::new();
    for _ in 0..14 {
        for ((source, request), shown) in LISTS.iter().zip(lists) {
            if *request == "list" {
                events.extend(world.list(source, &rows(shown)));
            } else {
                events.extend(world.rows(source, request, &rows(shown)));
            }
        }
    }
    world.minute += 11;
    world.hear();
    events.extend(world.settle(0));
    events
}

fn world() -> World {
    let mut world = World::new(WatcherRules::default(), Hearing::Until(minute(0)));
    // More than a fifth of the list is never lost.
    world.others = 24;
    world
}

/// Plays the steps, with or without the restarts.
fn play(steps: &[Step], restarts: bool) -> Vec<MarketEvent> {
    let mut world = world();
    let mut lists = vec![vec![None; SYMBOLS.len()]; LISTS.len()];
    let mut events = round(&mut world, &lists);
    for step in steps {
        match step {
            Step::List(list, shown) => lists[*list].clone_from(shown),
            Step::Notice(gate, kind, at) => {
                let exchange = if *gate { Exchange::Gate } else { Exchange::Okx };
                events.extend(world.announce(exchange, *kind, &[SYMBOLS[*at]]));
            }
            Step::Restart if restarts => world.restart(),
            Step::Restart => {}
        }
        events.extend(round(&mut world, &lists));
    }
    events
}

fn identities(events: &[MarketEvent]) -> Vec<String> {
    events.iter().map(MarketEvent::source_item).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_told_twice_and_a_restart_neither_adds_nor_loses(steps in steps()) {
        let (steady, restarted) = (identities(&play(&steps, false)), identities(&play(&steps, true)));
        for told in [&steady, &restarted] {
            let once: BTreeSet<&String> = told.iter().collect();
            prop_assert_eq!(once.len(), told.len(), "{:?}", told);
        }
        let sets = [&steady, &restarted].map(|told| told.iter().collect::<BTreeSet<_>>());
        prop_assert_eq!(&sets[0], &sets[1]);
    }

    /// Told, and lost before it was stored: it comes again under the same identity, and nothing else does.
    #[test]
    fn a_crash_before_the_store_repeats_what_was_lost_and_loses_nothing(steps in steps(), at in 0..10_usize) {
        let steady: BTreeSet<String> = identities(&play(&steps, false)).into_iter().collect();
        let mut world = world();
        let mut lists = vec![vec![None; SYMBOLS.len()]; LISTS.len()];
        let mut told: BTreeSet<String> = identities(&round(&mut world, &lists)).into_iter().collect();
        for (number, step) in steps.iter().enumerate() {
            match step {
                Step::List(list, shown) => lists[*list].clone_from(shown),
                Step::Notice(gate, kind, at) => {
                    let exchange = if *gate { Exchange::Gate } else { Exchange::Okx };
                    told.extend(identities(&world.announce(exchange, *kind, &[SYMBOLS[*at]])));
                }
                Step::Restart => {}
            }
            let (stored, said, now) = (world.stored.clone(), world.told.len(), world.minute);
            let lost = identities(&round(&mut world, &lists));
            if number == at {
                (world.stored, world.minute) = (stored, now);
                world.told.truncate(said);
                world.restart();
                let again: BTreeSet<String> = identities(&round(&mut world, &lists)).into_iter().collect();
                let lost: BTreeSet<String> = lost.into_iter().collect();
                prop_assert_eq!(&lost, &again);
                told.extend(again);
                continue;
            }
            for id in lost {
                prop_assert!(told.insert(id.clone()), "{id} is told twice");
            }
        }
        prop_assert_eq!(told, steady);
    }

    #[test]
    fn memory_keeps_to_its_bounds(names in prop::collection::vec("[A-Z]{1,70}", 0..120)) {
        let mut world = World::new(WatcherRules::default(), Hearing::Never);
        let each = |name: &String| format!("I {name} {name} USDT spot ahead 9000 -\nV {name} 1 1\n");
        let answer: String = names.iter().map(each).collect();
        for _ in 0..3 {
            for request in ["list", "tickers"] {
                world.rows("okx.spot", request, &answer);
            }
        }
        let watcher = &world.watcher;
        prop_assert!(watcher.staged.rows().next().is_none() && watcher.findings.events.is_empty());
        prop_assert!(watcher.stats(Mono(0)).all(|stats| stats.volumes <= limits::MARKET_VOLUMES));
        prop_assert!(watcher.places.iter().all(|place| place.told.len() <= limits::MARKET_TOLD));
        let longest = world.stored.values().flat_map(|(_, records)| records.keys()).map(|key| key.len()).max();
        prop_assert!(longest.unwrap_or(0) <= limits::SYMBOL_BYTES);
    }
}
