//! How well the rule for volume spikes finds what it should, on a synthetic market with known spikes.
//!
//! `cargo run --release -p tocsin-core --example spike_eval -- [DAYS] [SEED]` makes 2,000 symbols over DAYS (30) days
//! after two of warm-up, and prints recall, false alarms a day and the time from a spike's beginning to its
//! alarm. The market and the definition of a spike are in `spike_market`. It fails when the recall is
//! below 0.95 or there is more than one false alarm a day. With `sweep` as the first argument it prints
//! the same for other parameters of the rule, and judges nothing.

mod spike_market;

use std::process::ExitCode;

use spike_market::{Options, Report, evaluate};
use tocsin_core::market::spike::SpikeRules;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).peekable();
    let sweep = arguments.next_if(|argument| argument == "sweep").is_some();
    let mut number = |usual: u64| arguments.next().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let days = usize::try_from(number(30)).unwrap_or(30);
    let options = Options { symbols: 2_000, days, spikes_a_day: 40.0, seed: number(1) };
    if !sweep {
        let report = evaluate(options, SpikeRules::default());
        print(&SpikeRules::default(), &report);
        let good = report.recall() >= 0.95 && report.false_a_day() <= 1.0;
        return if good { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    for ratio in [3.2, 3.6, 4.0] {
        for tail in [0.5, 0.7, 0.9] {
            let rules = SpikeRules { ratio, tail, ..SpikeRules::default() };
            print(&rules, &evaluate(options, rules));
        }
    }
    ExitCode::SUCCESS
}

fn print(rules: &SpikeRules, report: &Report) {
    println!(
        "ratio {} tail {} window {}: recall {:.4} ({} of {}), {:.2} false alarms a day ({}, {} of them on new \
         symbols), delay median {} p90 {} max {} min, alarms {:016x}",
        rules.ratio,
        rules.tail,
        rules.window,
        report.recall(),
        report.found,
        report.spikes,
        report.false_a_day(),
        report.false_alarms,
        report.false_on_new,
        report.delay(0.5),
        report.delay(0.9),
        report.delay(1.0),
        report.digest,
    );
}
