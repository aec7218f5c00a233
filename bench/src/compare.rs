//! Two runs side by side: what changed between two result files, and what differs around them.
//!
//! Contract: pure; makes a text. Ratios are second over first, so below 1 is less. Two runs did not
//! take turns: a ratio here holds the machine's mood as well, which the text says. Nothing fails;
//! what is in one file only is named.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;

use crate::report::format;
use crate::report::text::fact;
use crate::result::{Figure, ResultFile, Series, SuiteResult};

/// Facts that differ between any two runs and say nothing about whether they can be compared.
const EXPECTED_TO_DIFFER: [&str; 6] =
    ["date", "load_average", "memory_available_bytes", "steal_percent", "busy_percent", "commit"];

/// The comparison of `second` with `first`.
#[must_use]
pub fn compare(first: &ResultFile, second: &ResultFile) -> String {
    let mut out = String::new();
    environment(&mut out, first, second);
    put(&mut out, "The two runs did not take turns: small ratios hold what else changed meanwhile.");
    let names = in_order(first.suites.iter().map(|s| &s.name), second.suites.iter().map(|s| &s.name));
    for name in names {
        let of = |file: &ResultFile| file.suites.iter().find(|suite| suite.name == *name).cloned();
        put(&mut out, &format!("\n== {name}"));
        match (of(first), of(second)) {
            (Some(first), Some(second)) => suite(&mut out, &first, &second),
            (first, _) => put(&mut out, &format!("only in the {} file", side(first.is_some()))),
        }
    }
    out
}

fn environment(out: &mut String, first: &ResultFile, second: &ResultFile) {
    let null = Value::Null;
    let names: BTreeSet<&String> = first.environment.keys().chain(second.environment.keys()).collect();
    let mut differs = false;
    for name in names {
        let (a, b) =
            (first.environment.get(name).unwrap_or(&null), second.environment.get(name).unwrap_or(&null));
        let expected = EXPECTED_TO_DIFFER.contains(&name.as_str());
        if a != b {
            differs |= !expected;
            let mark = if expected { "  " } else { "! " };
            put(out, &format!("{mark}{name}: {} -> {}", fact(a), fact(b)));
        }
    }
    if differs {
        put(out, "The lines marked `!` are differences of machine, build or settings.");
    }
}

fn suite(out: &mut String, first: &SuiteResult, second: &SuiteResult) {
    if first.settings != second.settings {
        let shown = |suite: &SuiteResult| {
            let settings: Vec<String> =
                suite.settings.iter().map(|(k, v)| format!("{k}={}", fact(v))).collect();
            settings.join(" ")
        };
        put(out, &format!("! settings: {} -> {}", shown(first), shown(second)));
    }
    let names = in_order(first.series.iter().map(|s| &s.name), second.series.iter().map(|s| &s.name));
    for name in names {
        let of = |suite: &SuiteResult| suite.series.iter().find(|s| s.name == *name).cloned();
        match (of(first), of(second)) {
            (Some(first), Some(second)) => put(out, &series_line(&first, &second)),
            (first, _) => put(out, &format!("{name}: only in the {} file", side(first.is_some()))),
        }
    }
    let names = in_order(first.figures.iter().map(|f| &f.name), second.figures.iter().map(|f| &f.name));
    for name in names {
        let of = |suite: &SuiteResult| suite.figures.iter().find(|f| f.name == *name).cloned();
        match (of(first), of(second)) {
            (Some(first), Some(second)) => put(out, &figure_line(&first, &second)),
            (first, _) => put(out, &format!("{name}: only in the {} file", side(first.is_some()))),
        }
    }
}

fn series_line(first: &Series, second: &Series) -> String {
    if first.unit != second.unit {
        return format!("{}: other units", first.name);
    }
    let (a, b) = (first.histogram(), second.histogram());
    let part = |name: &str, q: f64| {
        let (a, b) = (a.value_at_quantile(q) as f64, b.value_at_quantile(q) as f64);
        let (from, to) = (format::value(first.unit, a), format::value(first.unit, b));
        format!("{name} {from} -> {to} ({})", ratio(a, b))
    };
    format!("{}: {}, {}", first.name, part("p50", 0.5), part("p99", 0.99))
}

fn figure_line(first: &Figure, second: &Figure) -> String {
    if first.unit != second.unit {
        return format!("{}: other units", first.name);
    }
    let (from, to) = (format::value(first.unit, first.value), format::value(second.unit, second.value));
    format!("{}: {from} -> {to} ({})", first.name, ratio(first.value, second.value))
}

fn ratio(first: f64, second: f64) -> String {
    if first == 0.0 { "no ratio".to_owned() } else { format!("x{}", format::ratio(second / first)) }
}

fn side(in_first: bool) -> &'static str {
    if in_first { "first" } else { "second" }
}

/// Names of both, each once, those of the first before those of the second alone.
fn in_order<'a>(
    first: impl Iterator<Item = &'a String>,
    second: impl Iterator<Item = &'a String>,
) -> Vec<&'a String> {
    let mut seen = BTreeSet::new();
    first.chain(second).filter(|name| seen.insert(*name)).collect()
}

fn put(out: &mut String, line: &str) {
    // Writing to a `String` does not fail.
    let _ = writeln!(out, "{line}");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::result::{SCHEMA, Unit};

    fn file(kernel: &str, commit: &str, value: u64, figure: f64, extra: &str) -> ResultFile {
        let series =
            |name: &str| Series { name: name.to_owned(), unit: Unit::Nanoseconds, values: vec![(value, 10)] };
        let suite = SuiteResult {
            name: "fanout".to_owned(),
            series: vec![series("last"), series(extra)],
            figures: vec![Figure { name: "cpu".to_owned(), unit: Unit::Plain, value: figure, target: None }],
            ..SuiteResult::default()
        };
        let environment = BTreeMap::from([
            ("kernel".to_owned(), Value::from(kernel)),
            ("commit".to_owned(), Value::from(commit)),
        ]);
        ResultFile { schema: SCHEMA, environment, suites: vec![suite] }
    }

    #[test]
    fn ratios_and_what_differs() {
        let text = compare(&file("6.1", "a", 1_000, 2.0, "old"), &file("6.2", "b", 1_500, 0.0, "new"));
        for line in [
            "! kernel: 6.1 -> 6.2",
            "  commit: a -> b",
            "last: p50 1 µs -> 1.50 µs (x1.500), p99 1 µs -> 1.50 µs (x1.500)",
            "old: only in the first file",
            "new: only in the second file",
            "cpu: 2 -> 0 (x0.000)",
        ] {
            assert!(text.lines().any(|l| l == line), "{line:?} is not in\n{text}");
        }
        let same = file("6.1", "a", 5, 0.0, "x");
        let text = compare(&same, &same);
        assert!(!text.contains('!') && text.contains("cpu: 0 -> 0 (no ratio)"), "{text}");
    }

    #[test]
    fn a_suite_in_one_file_is_named() {
        let empty = ResultFile { schema: SCHEMA, environment: BTreeMap::new(), suites: Vec::new() };
        let text = compare(&empty, &file("6.1", "a", 5, 1.0, "x"));
        assert!(text.contains("== fanout\nonly in the second file"), "{text}");
    }
}
