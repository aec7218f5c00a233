//! The rule for volume spikes on a smaller synthetic market than `examples/spike_eval.rs` measures: what it
//! finds and what it tells falsely stay where they are.

#[path = "../examples/spike_market/mod.rs"]
mod spike_market;

use spike_market::{Options, evaluate};
use tocsin_core::market::spike::SpikeRules;

const SMALL: Options = Options { symbols: 150, days: 2, spikes_a_day: 20.0, seed: 7 };

#[test]
fn the_rule_finds_known_spikes_and_little_else() {
    let report = evaluate(SMALL, SpikeRules::default());
    assert!(report.spikes >= 25, "{report:?}");
    assert!(report.recall() >= 0.9, "{report:?}");
    assert!(report.false_alarms <= 1, "{report:?}");
}

#[test]
fn a_rule_without_its_guards_fails_the_same_market() {
    let naive =
        SpikeRules { ratio: 1.8, tail: 0.0, window: 1, minimum_usd: 5_000.0, ..SpikeRules::default() };
    assert!(evaluate(SMALL, naive).false_alarms > 40, "the market is too easy");
    let blind = SpikeRules { ratio: 60.0, ..SpikeRules::default() };
    assert!(evaluate(SMALL, blind).recall() < 0.2, "the market is too loud");
}
