//! The committed counts, and what has become of them.
//!
//! Contract: pure but for [`Baseline::read`] and [`Baseline::write`], which fail with the path and the reason. A
//! stage may grow by [`ALLOWED_PER_CENT`]; a stage that the baseline lacks or that has gone is as wrong as
//! one that grew.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::counting::{Counts, Toolchain};

/// Growth up to here is noise of the compiler.
pub(crate) const ALLOWED_PER_CENT: u64 = 3;

/// Benchmarks that do a thing many times over: how often, and what it is done for.
const SHARED_OUT: [(&str, u64, &str); 1] = [("fan_out.subscribers_1000", 1_000, "a subscriber")];

/// `baseline.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Baseline {
    /// With what they were counted.
    pub(crate) toolchain: Toolchain,
    /// The counts.
    pub(crate) instructions: Counts,
}

impl Baseline {
    pub(crate) fn read(path: &Path) -> Result<Baseline, String> {
        let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))
    }

    pub(crate) fn write(&self, path: &Path) -> Result<(), String> {
        let text = serde_json::to_string_pretty(self).map_err(|e| format!("{}: {e}", path.display()))?;
        fs::write(path, text + "\n").map_err(|e| format!("{}: {e}", path.display()))
    }
}

/// One benchmark, before and now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    name: String,
    before: Option<u64>,
    now: Option<u64>,
}

impl Change {
    /// Whether it may stay as it is.
    pub(crate) fn stands(&self) -> bool {
        let (Some(before), Some(now)) = (self.before, self.now) else { return false };
        u128::from(now) * 100 <= u128::from(before) * u128::from(100 + ALLOWED_PER_CENT)
    }

    /// Whether it needs so much less that the baseline no longer holds it.
    pub(crate) fn is_better(&self) -> bool {
        let (Some(before), Some(now)) = (self.before, self.now) else { return false };
        u128::from(now) * 100 < u128::from(before) * u128::from(100 - ALLOWED_PER_CENT)
    }

    fn verdict(&self) -> String {
        match (self.before, self.now) {
            (None, _) => "not in the baseline".to_owned(),
            (_, None) => "gone".to_owned(),
            _ if !self.stands() => format!("grew by more than {ALLOWED_PER_CENT} %"),
            _ if self.is_better() => "better".to_owned(),
            (_, Some(now)) => {
                let shared = SHARED_OUT.iter().find(|(name, _, _)| *name == self.name);
                shared.map_or_else(String::new, |(_, times, whom)| format!("{} {whom}", now / times))
            }
        }
    }
}

/// Every benchmark of either side, by name.
pub(crate) fn changes(before: &Counts, now: &Counts) -> Vec<Change> {
    let mut names: Vec<&String> = before.keys().chain(now.keys()).collect();
    names.sort();
    names.dedup();
    let change = |name: &String| Change {
        name: name.clone(),
        before: before.get(name).copied(),
        now: now.get(name).copied(),
    };
    names.into_iter().map(change).collect()
}

/// The changes for people.
pub(crate) fn table(changes: &[Change]) -> String {
    let count = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
    let width = changes.iter().map(|change| change.name.len()).max().unwrap_or(0);
    let mut table = format!("{:width$}  {:>9}  {:>9}  {:>8}\n", "instructions", "baseline", "now", "change");
    for change in changes {
        let per_cent = match (change.before, change.now) {
            (Some(before), Some(now)) if before > 0 => {
                format!("{:+.2} %", (now as f64 / before as f64 - 1.0) * 100.0)
            }
            _ => String::new(),
        };
        let (name, before, now) = (&change.name, count(change.before), count(change.now));
        let row = format!("{name:width$}  {before:>9}  {now:>9}  {per_cent:>8}  {}", change.verdict());
        let _ = writeln!(table, "{}", row.trim_end());
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(counts: &[(&str, u64)]) -> Counts {
        counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    fn one(before: u64, now: u64) -> Change {
        changes(&counted(&[("a", before)]), &counted(&[("a", now)])).swap_remove(0)
    }

    #[test]
    fn three_per_cent_are_allowed_and_not_one_instruction_more() {
        for (before, now, stands, better) in [
            (1_000, 1_000, true, false),
            (1_000, 1_030, true, false),
            (1_000, 1_031, false, false),
            (1_000, 970, true, false),
            (1_000, 969, true, true),
            (10, 11, false, false),
            (0, 0, true, false),
            (0, 1, false, false),
            (u64::MAX, u64::MAX, true, false),
        ] {
            let change = one(before, now);
            assert_eq!((change.stands(), change.is_better()), (stands, better), "{before} {now}");
        }
    }

    #[test]
    fn what_is_new_and_what_is_gone_does_not_stand() {
        let found = changes(&counted(&[("b", 5), ("gone", 7)]), &counted(&[("b", 5), ("added", 9)]));
        let stands: Vec<_> = found.iter().map(|change| (change.name.as_str(), change.stands())).collect();
        assert_eq!(stands, [("added", false), ("b", true), ("gone", false)]);
        let table = table(&found);
        assert!(table.contains("not in the baseline") && table.contains("gone"), "{table}");
    }

    #[test]
    fn a_baseline_reads_back_and_the_committed_one_is_readable() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let committed = Baseline::read(&folder.join("baseline.json")).unwrap();
        for (name, _, _) in SHARED_OUT {
            assert!(committed.instructions.contains_key(name), "{name}");
        }
        let text = serde_json::to_string(&committed).unwrap();
        let again: Baseline = serde_json::from_str(&text).unwrap();
        assert_eq!(again.instructions, committed.instructions);
    }
}
