//! Reports of a result file: `result.json`, one `.hgrm` a distribution, `report.html`, and a plain
//! text for the terminal.
//!
//! Contract: pure functions of a [`ResultFile`] make texts; [`write()`] alone touches the disk. The page
//! is one file without script or foreign host. Owner: the runner. Allocates freely; fails only in
//! [`write()`], naming the file.

pub mod format;
pub mod hgrm;
pub mod html;
pub mod plot;
pub mod text;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::result::ResultFile;

/// Quantiles that tables show beside the maximum, with their headings.
pub const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// Writes every report of `file` into `folder`, which is made when it is not there. Files of an
/// earlier run with the same names are replaced.
///
/// # Errors
/// A sentence that names the file that could not be written.
pub fn write(file: &ResultFile, folder: &Path) -> Result<(), String> {
    let series = folder.join("series");
    fs::create_dir_all(&series).map_err(|e| format!("{}: {e}", series.display()))?;
    file.write(&folder.join("result.json"))?;
    let put = |path: &Path, text: &str| fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()));
    put(&folder.join("report.html"), &html::page(file))?;
    let mut taken = BTreeSet::new();
    for suite in &file.suites {
        for one in &suite.series {
            let name = unused(&mut taken, &file_name(&suite.name, &one.name));
            put(&series.join(format!("{name}.hgrm")), &hgrm::distribution(one))?;
        }
    }
    Ok(())
}

/// A series' name as one of a file: what could mean something in a path becomes a dash.
fn file_name(suite: &str, series: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    format!("{suite}-{series}").chars().map(plain).take(150).collect()
}

/// `name`, or with a number behind it when another series became the same file name.
fn unused(taken: &mut BTreeSet<String>, name: &str) -> String {
    let numbered = |n: usize| if n == 1 { name.to_owned() } else { format!("{name}-{n}") };
    let free = (1..).map(numbered).find(|candidate| !taken.contains(candidate)).unwrap_or_default();
    taken.insert(free.clone());
    free
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::result::{SCHEMA, Series, SuiteResult, Unit};

    #[test]
    fn every_series_gets_a_file_of_its_own() {
        let one =
            |name: &str| Series { name: name.to_owned(), unit: Unit::Nanoseconds, values: vec![(5, 1)] };
        let suite = SuiteResult {
            name: "../x".to_owned(),
            series: vec![one("a/b"), one("a-b"), one("../../etc")],
            ..SuiteResult::default()
        };
        let file = ResultFile { schema: SCHEMA, environment: BTreeMap::new(), suites: vec![suite] };
        let dir = tempfile::tempdir().unwrap();
        write(&file, dir.path()).unwrap();
        write(&file, dir.path()).unwrap();
        let listed = |folder: &Path| -> BTreeSet<String> {
            let entries = fs::read_dir(folder).unwrap();
            entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect()
        };
        let files = listed(&dir.path().join("series"));
        assert_eq!(files.len(), 3, "{files:?}");
        assert!(files.contains("---x-a-b.hgrm") && files.contains("---x-a-b-2.hgrm"), "{files:?}");
        assert_eq!(listed(dir.path()).len(), 3);
        assert!(ResultFile::read(&dir.path().join("result.json")).is_ok());
    }
}
