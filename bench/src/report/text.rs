//! A result as plain text: what the terminal shows when a run ends.
//!
//! Contract: pure; allocates the text; nothing fails.

use std::fmt::Write as _;

use serde_json::Value;

use super::{QUANTILES, format};
use crate::result::{Comparison, Figure, ResultFile, Series, SuiteResult, Target, Unit};

/// Facts of the environment that the short text shows.
const SHOWN: [&str; 11] = [
    "cpu_model",
    "cores_usable",
    "kernel",
    "clocksource",
    "governor",
    "isolated_cpus",
    "steal_percent",
    "busy_percent",
    "commit",
    "profile",
    "seed",
];

/// The whole summary.
#[must_use]
pub fn summary(file: &ResultFile) -> String {
    let mut out = String::new();
    for name in SHOWN {
        if let Some(value) = file.environment.get(name).filter(|value| !value.is_null()) {
            put(&mut out, &format!("{name:16} {}", fact(value)));
        }
    }
    for suite in &file.suites {
        suite_text(&mut out, suite);
    }
    out
}

/// A fact without the quotes of JSON.
#[must_use]
pub fn fact(value: &Value) -> String {
    match value {
        Value::Null => "not known".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// `met` or `NOT MET`; nothing where nothing is promised.
#[must_use]
pub fn judged(unit: Unit, value: f64, target: Option<Target>) -> String {
    target.map_or_else(String::new, |target| {
        let met = if target.met(value) { "met" } else { "NOT MET" };
        format!("{} {met}", format::target(unit, target))
    })
}

fn suite_text(out: &mut String, suite: &SuiteResult) {
    put(out, &format!("\n== {}", suite.name));
    let settings: Vec<String> = suite.settings.iter().map(|(k, v)| format!("{k}={}", fact(v))).collect();
    if !settings.is_empty() {
        put(out, &settings.join("  "));
    }
    suite.notes.iter().for_each(|note| put(out, &format!("note: {note}")));
    suite.missing.iter().for_each(|missing| put(out, &format!("missing: {}: {}", missing.what, missing.why)));
    if !suite.series.is_empty() {
        let names = suite.series.iter().map(|series| series.name.chars().count());
        let width = names.max().unwrap_or(0);
        let head: String = QUANTILES.iter().map(|(name, _)| format!("{name:>10}")).collect();
        put(out, &format!("{:width$} {:>9}{head}{:>10}", "", "count", "max"));
        suite.series.iter().for_each(|series| put(out, &series_line(series, width)));
    }
    suite.comparisons.iter().for_each(|comparison| put(out, &comparison_line(comparison)));
    suite.figures.iter().for_each(|figure| put(out, &figure_line(figure)));
}

fn series_line(series: &Series, width: usize) -> String {
    let histogram = series.histogram();
    let at = |value: u64| format!("{:>10}", format::value(series.unit, value as f64));
    let quantiles: String = QUANTILES.iter().map(|(_, q)| at(histogram.value_at_quantile(*q))).collect();
    let count = format::count(histogram.len());
    format!("{:width$} {count:>9}{quantiles}{}", series.name, at(histogram.max()))
}

fn comparison_line(c: &Comparison) -> String {
    let (low, high) = c.quartiles;
    let (ratio, low, high) = (format::ratio(c.ratio), format::ratio(low), format::ratio(high));
    let judged = judged(Unit::Plain, c.ratio, c.target);
    format!("{}: {ratio} (quartiles {low} to {high}, {} rounds) {judged}", c.name, c.rounds)
        .trim_end()
        .to_owned()
}

fn figure_line(figure: &Figure) -> String {
    let value = format::value(figure.unit, figure.value);
    let judged = judged(figure.unit, figure.value, figure.target);
    format!("{}: {value} {judged}", figure.name).trim_end().to_owned()
}

fn put(out: &mut String, line: &str) {
    // Writing to a `String` does not fail.
    let _ = writeln!(out, "{line}");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::result::{Missing, SCHEMA};

    #[test]
    fn everything_found_is_in_it() {
        let suite = SuiteResult {
            name: "fanout".to_owned(),
            series: vec![Series {
                name: "plain/engine/last".to_owned(),
                unit: Unit::Nanoseconds,
                values: vec![(10_000, 99), (90_000, 1)],
            }],
            comparisons: vec![Comparison {
                name: "last".to_owned(),
                ours: "a".to_owned(),
                other: "b".to_owned(),
                ratio: 1.5,
                quartiles: (1.25, 1.75),
                rounds: 12,
                target: Some(Target::AtMost(1.02)),
            }],
            figures: vec![Figure {
                name: "first".to_owned(),
                unit: Unit::Nanoseconds,
                value: 20_000.0,
                target: Some(Target::AtMost(30_000.0)),
            }],
            missing: vec![Missing { what: "tls".to_owned(), why: "no room".to_owned() }],
            notes: vec!["noisy".to_owned()],
            ..SuiteResult::default()
        };
        let environment = BTreeMap::from([("kernel".to_owned(), Value::from("6.1"))]);
        let text = summary(&ResultFile { schema: SCHEMA, environment, suites: vec![suite] });
        for part in [
            "kernel           6.1\n",
            "== fanout\n",
            "note: noisy\n",
            "missing: tls: no room\n",
            "last: 1.500 (quartiles 1.250 to 1.750, 12 rounds) ≤ 1.02 NOT MET\n",
            "first: 20 µs ≤ 30 µs met\n",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        let line = text.lines().find(|line| line.starts_with("plain/engine/last")).unwrap();
        let cells: Vec<&str> = line.split_whitespace().collect();
        assert_eq!((cells[1], cells[2], cells[4]), ("100", "10.0", "10.0"));
        assert!(line.ends_with("90.0 µs"), "{line}");
    }
}
