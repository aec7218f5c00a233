//! Seeded worlds: a smoke of them, those that once broke a rule, and planted bugs that must break one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use tocsin_sim::world::{self, Plant, Size, WorldOptions};

/// Worlds of the smoke.
const SMOKE: u64 = 500;
/// A planted bug shows within so many worlds after the one that showed it when the table was written.
const PLANT_WORLDS: u64 = 60;

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/seeds").join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Lines of words, without comments.
fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let bare = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    bare.map(|line| line.split_whitespace().collect()).filter(|words: &Vec<&str>| !words.is_empty())
}

fn size_of(name: &str) -> Size {
    match name {
        "small" => Size::Small,
        "full" => Size::Full,
        other => panic!("{other:?} is no size"),
    }
}

fn play(seed: u64, size: Size) {
    let options = WorldOptions { size, ..WorldOptions::default() };
    if let Err(violation) = world::run(seed, &options) {
        panic!("{violation}\nsee it with: tocsin-sim world --from {seed} --trace");
    }
}

#[test]
fn worlds_keep_every_rule() {
    (1..=SMOKE).for_each(|seed| play(seed, Size::Small));
}

#[test]
fn worlds_that_once_broke_a_rule_keep_it() {
    let mut played = 0;
    for words in lines(&fixture("failed.txt")) {
        let [seed, size] = words.as_slice() else { panic!("{words:?} is not SEED SIZE") };
        play(seed.parse().unwrap_or_else(|e| panic!("{seed}: {e}")), size_of(size));
        played += 1;
    }
    assert!(played > 0, "the list is empty");
}

#[test]
fn the_same_seed_is_the_same_world() {
    let options = WorldOptions { size: Size::Small, ..WorldOptions::default() };
    for seed in [3, 17, 40] {
        assert_eq!(world::run(seed, &options), world::run(seed, &options));
        assert_eq!(world::describe(seed, Size::Small), world::describe(seed, Size::Small));
    }
}

#[test]
fn planted_bugs_are_caught() {
    let table = fixture("plants.txt");
    for plant in Plant::ALL {
        let row = lines(&table).find(|words| words.first() == Some(&plant.name()));
        let row = row.unwrap_or_else(|| panic!("{} has no row in plants.txt", plant.name()));
        let [_, seed, size] = row.as_slice() else { panic!("{row:?} is not NAME SEED SIZE") };
        let from: u64 = seed.parse().unwrap_or_else(|e| panic!("{seed}: {e}"));
        let options = WorldOptions { size: size_of(size), plant: Some(plant), ..WorldOptions::default() };
        let caught = (from..from + PLANT_WORLDS).any(|seed| world::run(seed, &options).is_err());
        assert!(caught, "{} breaks no rule in {PLANT_WORLDS} worlds from seed {from}", plant.name());
        assert_eq!(Plant::parse(plant.name()), Some(plant));
    }
}
