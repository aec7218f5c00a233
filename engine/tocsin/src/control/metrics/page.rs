//! docs/metrics.md, made from the schema behind a head that people wrote.
//!
//! Contract: [`text`] is the same for the same code; the committed page is a copy of it, and a test fails
//! when they differ. Allocates; fails never.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::families::SECTIONS;
use super::{Family, Kind, Label, Section, all_families};

const HEAD: &str = include_str!("page_head.md");

/// The page.
#[must_use]
pub fn text() -> String {
    let mut page = HEAD.to_owned();
    for section in SECTIONS {
        write_section(&mut page, section);
    }
    write_labels(&mut page);
    write_bounds(&mut page);
    page
}

// Writing to a text cannot fail, so results are not looked at here.

fn write_section(page: &mut String, section: &Section) {
    let _ = write!(page, "\n### {}\n\n", section.title);
    if !section.intro.is_empty() {
        let _ = write!(page, "{}\n\n", section.intro);
    }
    page.push_str("| Metric | Kind | Labels | |\n|---|---|---|---|\n");
    for Family { name, kind, labels, help, .. } in section.families {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{}`", label.name)).collect();
        let _ = writeln!(page, "| `{name}` | {} | {} | {help} |", kind.name(), labels.join(", "));
    }
}

fn write_labels(page: &mut String) {
    let mut labels: BTreeMap<(&str, &str), &Label> = BTreeMap::new();
    for label in all_families().flat_map(|family| family.labels) {
        labels.insert((label.name, label.help), label);
    }
    page.push_str("\n### Labels\n\n| Label | | Values |\n|---|---|---|\n");
    for ((name, help), label) in labels {
        let values: Vec<String> = (label.values)().iter().map(|value| format!("`{value}`")).collect();
        let such_as = if label.closed { "" } else { "such as " };
        let _ = writeln!(page, "| `{name}` | {help} | {such_as}{} |", values.join(", "));
    }
}

fn write_bounds(page: &mut String) {
    page.push_str(
        "\n### Buckets\n\nTwo an octave; a bound is the largest value that its bucket counts.\n\n\
         | Histogram | First bound | Last bound | Buckets |\n|---|---|---|---|\n",
    );
    for family in all_families() {
        let Kind::Histogram(scale) = family.kind else { continue };
        let bounds: Vec<f64> = scale.bounds().collect();
        if let (Some(first), Some(last)) = (bounds.first(), bounds.last()) {
            let _ = writeln!(page, "| `{}` | {first} s | {last} s | {} |", family.name, bounds.len());
        }
    }
}
