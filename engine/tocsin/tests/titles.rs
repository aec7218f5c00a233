//! Accuracy of the classifier on labelled real titles, named by the environment variable
//! `TOCSIN_TITLES` (a JSON Lines file). Without it the test says so and returns.
//!
//! Strict counts rows whose label is not `ambiguous`; lenient counts all rows and accepts the
//! alternative types and tickers their labels give. Ticker lists are compared exactly, in order,
//! on rows that are a listing or a delisting.
//!
//! The last table gives, by rule, how many titles it decided, how many of those labels say the same,
//! and the confidence that follows; the rules state these values (`docs/classification.md`).

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use tocsin_core::classify::{classify, rule_names};
use tocsin_core::model::{CategoryHint, Exchange, ListingType, Ticker};

/// Both shares must reach this on strict rows.
const TARGET: f64 = 0.99;

#[derive(Deserialize)]
struct Row {
    exchange: String,
    title: String,
    listing_type: String,
    #[serde(default)]
    tickers: Vec<String>,
    #[serde(default)]
    ambiguous: bool,
    alt_listing_type: Option<Alternatives>,
    alt_tickers: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Alternatives {
    One(String),
    Several(Vec<String>),
}

impl Row {
    fn accepts_type(&self, said: &str) -> bool {
        said == self.listing_type
            || match &self.alt_listing_type {
                Some(Alternatives::One(other)) => other == said,
                Some(Alternatives::Several(others)) => others.iter().any(|o| o == said),
                None => false,
            }
    }

    fn accepts_tickers(&self, said: &[String]) -> bool {
        said == self.tickers || self.alt_tickers.as_deref() == Some(said)
    }
}

#[derive(Default, Clone, Copy)]
struct Share {
    right: u32,
    of: u32,
}

impl Share {
    fn count(&mut self, right: bool) {
        self.of += 1;
        self.right += u32::from(right);
    }

    fn value(self) -> f64 {
        if self.of == 0 { 1.0 } else { f64::from(self.right) / f64::from(self.of) }
    }

    fn show(self) -> String {
        if self.of == 0 {
            return format!("{:>15}", "-");
        }
        format!("{:>6.2}% {:>7}", self.value() * 100.0, format!("{}/{}", self.right, self.of))
    }
}

#[derive(Default, Clone, Copy)]
struct Score {
    types: Share,
    tickers: Share,
    types_lenient: Share,
    tickers_lenient: Share,
}

/// What became of the titles one rule decided.
#[derive(Default, Clone, Copy)]
struct Decided {
    titles: u32,
    /// Labels of the same type without a second reading.
    agreed: u32,
    /// Labels of which the rule's type is one reading.
    contested: u32,
    /// What the rule states.
    stated: u8,
}

impl Decided {
    fn count(&mut self, row: &Row, said_type: &str, stated: u8) {
        self.titles += 1;
        self.stated = stated;
        if row.listing_type == said_type && !row.ambiguous {
            self.agreed += 1;
        } else if row.accepts_type(said_type) {
            self.contested += 1;
        }
    }

    /// Per cent: contested titles count half, and one right and one wrong title are added, so that
    /// few titles cannot give certainty. Rounded down.
    fn confidence(self) -> u32 {
        (200 * (self.agreed + 1) + 100 * self.contested) / (2 * (self.titles + 2))
    }
}

/// Scores of one file, by exchange and type.
#[derive(Default)]
struct Report {
    all: Score,
    slices: BTreeMap<(String, String), Score>,
    rules: BTreeMap<&'static str, Decided>,
    misses: Vec<String>,
}

impl Report {
    fn count(&mut self, row: &Row) {
        let Some(exchange) = Exchange::parse(&row.exchange) else {
            self.misses.push(format!("unknown exchange {}", row.exchange));
            self.all.types.count(false);
            return;
        };
        let said = classify(exchange, &row.title, CategoryHint::None);
        let tickers: Vec<String> = said.tickers.iter().map(Ticker::to_string).collect();
        let said_type = said.listing_type.name();
        self.rules.entry(said.rule).or_default().count(row, said_type, said.confidence);
        let listed = row.listing_type != ListingType::NotListing.name();
        let slice = self.slices.entry((row.exchange.clone(), row.listing_type.clone())).or_default();
        for score in [&mut self.all, slice] {
            let type_lenient = row.accepts_type(said_type);
            score.types_lenient.count(type_lenient);
            if listed {
                // A row read as the alternative "not a listing" names nothing, and rightly so.
                let waived = type_lenient && said.listing_type == ListingType::NotListing;
                score.tickers_lenient.count(waived || row.accepts_tickers(&tickers));
            }
            if !row.ambiguous {
                score.types.count(said_type == row.listing_type);
                if listed {
                    score.tickers.count(row.accepts_tickers(&tickers));
                }
            }
        }
        let right = row.accepts_type(said_type)
            && (!listed || said.listing_type == ListingType::NotListing || row.accepts_tickers(&tickers));
        if !right {
            self.misses.push(format!(
                "{}{} | {} | {} {:?} | said {said_type} {tickers:?} by {}",
                if row.ambiguous { "(ambiguous) " } else { "" },
                row.exchange,
                row.title,
                row.listing_type,
                row.tickers,
                said.rule
            ));
        }
    }

    fn print(&self) {
        println!(
            "{:<12}{:<19}{:>15} {:>15} {:>15} {:>15}",
            "exchange", "type", "type strict", "tickers strict", "type lenient", "tickers lenient"
        );
        let all = (("all".to_owned(), "all".to_owned()), self.all);
        for ((exchange, kind), score) in self.slices.iter().map(|(k, v)| (k.clone(), *v)).chain([all]) {
            println!(
                "{exchange:<12}{kind:<19}{} {} {} {}",
                score.types.show(),
                score.tickers.show(),
                score.types_lenient.show(),
                score.tickers_lenient.show()
            );
        }
        for miss in &self.misses {
            println!("miss: {miss}");
        }
        println!(
            "{:<28}{:>7}{:>8}{:>11}{:>11}{:>8}",
            "rule", "titles", "agreed", "contested", "per cent", "stated"
        );
        for rule in BTreeSet::from_iter(rule_names()) {
            let of = self.rules.get(rule).copied().unwrap_or_default();
            println!(
                "{rule:<28}{:>7}{:>8}{:>11}{:>11}{:>8}",
                of.titles,
                of.agreed,
                of.contested,
                of.confidence(),
                if of.titles == 0 { "-".to_owned() } else { of.stated.to_string() }
            );
        }
    }
}

#[test]
fn labelled_titles_are_classified_as_people_did() {
    let Some(path) = std::env::var_os("TOCSIN_TITLES") else {
        println!("TOCSIN_TITLES is not set: no labelled titles to measure on");
        return;
    };
    let text = std::fs::read_to_string(&path).expect("TOCSIN_TITLES names a readable file");
    let mut report = Report::default();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let row: Row = serde_json::from_str(line).unwrap_or_else(|e| panic!("line {}: {e}", at + 1));
        report.count(&row);
    }
    report.print();
    assert!(report.all.types.of > 0, "no strict rows");
    assert!(report.all.types.value() >= TARGET, "types on strict rows below {TARGET}");
    assert!(report.all.tickers.value() >= TARGET, "tickers on strict rows below {TARGET}");
}
