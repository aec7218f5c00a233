//! What a run found: plain data, written as JSON, read again by `compare`.
//!
//! Contract: everything a reader needs to judge a figure is in the file: environment, settings, every
//! distribution whole. Owner: anybody; nothing here measures. Allocates freely. Fails only in
//! [`ResultFile::read`] and [`ResultFile::write`], naming the file.

use std::collections::BTreeMap;
use std::path::Path;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Version of the file's shape.
pub const SCHEMA: u32 = 1;
/// Largest value a distribution holds: an hour in nanoseconds, or as many bytes.
pub const LARGEST: u64 = 3_600_000_000_000;
/// Decimal digits kept of a recorded value.
pub const DIGITS: u8 = 3;

/// One run of the harness.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ResultFile {
    /// [`SCHEMA`].
    pub schema: u32,
    /// What it ran on: kernel, CPU, clock source, load, commit, seed and so on.
    pub environment: BTreeMap<String, Value>,
    /// What each suite found, in the order they ran.
    pub suites: Vec<SuiteResult>,
}

/// What one suite found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SuiteResult {
    /// As on the command line.
    pub name: String,
    /// What was set: counts, rounds, intervals.
    pub settings: BTreeMap<String, Value>,
    /// Measured distributions.
    pub series: Vec<Series>,
    /// Ratios of two sides of one interleaved run.
    pub comparisons: Vec<Comparison>,
    /// Single figures: bytes a subscriber, handshakes a second.
    pub figures: Vec<Figure>,
    /// What was looked at again and again while the suite ran.
    #[serde(default)]
    pub tracks: Vec<Track>,
    /// What could not be measured here, and why: a peer that is not installed, too few descriptors.
    pub missing: Vec<Missing>,
    /// Sentences a reader should know before the figures.
    pub notes: Vec<String>,
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Nanoseconds.
    Nanoseconds,
    /// Bytes.
    Bytes,
    /// Events a second.
    PerSecond,
    /// A ratio or count.
    Plain,
}

/// A distribution, whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Series {
    /// Parts from the general to the particular with slashes: `plain/1000/engine/last`.
    pub name: String,
    /// Of the values.
    pub unit: Unit,
    /// Values and how often each was recorded, ascending; values are exact to [`DIGITS`] digits.
    pub values: Vec<(u64, u64)>,
}

impl Series {
    /// Of a histogram.
    #[must_use]
    pub fn new(name: impl Into<String>, unit: Unit, histogram: &Histogram<u64>) -> Series {
        let values = histogram.iter_recorded().map(|v| (v.value_iterated_to(), v.count_at_value())).collect();
        Series { name: name.into(), unit, values }
    }

    /// The distribution again.
    #[must_use]
    pub fn histogram(&self) -> Histogram<u64> {
        let mut histogram = new_histogram();
        for (value, count) in &self.values {
            histogram.saturating_record_n(*value, *count);
        }
        histogram
    }
}

/// An empty distribution of [`LARGEST`] and [`DIGITS`].
///
/// # Panics
/// Never: the bounds are constants the library accepts, which a test shows.
#[must_use]
#[allow(clippy::expect_used, reason = "constants that a test shows to be accepted")]
pub fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LARGEST, DIGITS).expect("constant bounds")
}

/// Where a comparison or figure ought to be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
}

impl Target {
    /// Whether `value` is there.
    #[must_use]
    pub fn met(self, value: f64) -> bool {
        match self {
            Target::AtMost(bound) => value <= bound,
            Target::AtLeast(bound) => value >= bound,
        }
    }
}

/// Two sides that took turns in one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Comparison {
    /// What is compared: `tls/5000 last subscriber, engine against the sealed floor`.
    pub name: String,
    /// Series of the side under judgement.
    pub ours: String,
    /// Series of the other side.
    pub other: String,
    /// Ratio of our median to the other's.
    pub ratio: f64,
    /// Lower and upper quartile of the ratios of neighbouring rounds: the spread.
    pub quartiles: (f64, f64),
    /// Rounds of each side.
    pub rounds: usize,
    /// Where the ratio ought to be, where something is promised.
    pub target: Option<Target>,
}

/// A number that is not a distribution.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figure {
    /// Parts with slashes, as for [`Series`].
    pub name: String,
    /// Of the value.
    pub unit: Unit,
    /// What was measured.
    pub value: f64,
    /// Where it ought to be, where something is promised.
    pub target: Option<Target>,
}

/// A number over the time of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Track {
    /// What, and behind the last slash which line of it: `feed latency/p99`.
    pub name: String,
    /// Of the values.
    pub unit: Unit,
    /// Seconds since the beginning, and the value then.
    pub points: Vec<(f64, f64)>,
}

/// Something that was not measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Missing {
    /// What.
    pub what: String,
    /// Why.
    pub why: String,
}

impl ResultFile {
    /// Reads a file that [`ResultFile::write`] wrote.
    ///
    /// # Errors
    /// A sentence that names the file: unreadable, not such a file, or of another schema.
    pub fn read(path: &Path) -> Result<ResultFile, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let file: ResultFile = serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        if file.schema != SCHEMA {
            return Err(format!("{}: schema {}, this program reads {SCHEMA}", path.display(), file.schema));
        }
        Ok(file)
    }

    /// Writes it as JSON.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub fn write(&self, path: &Path) -> Result<(), String> {
        let text = serde_json::to_string(self).map_err(|e| format!("{}: {e}", path.display()))?;
        std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
    }
}

/// The ratio of two sides that took turns, `(ours, other)` a round: median over median, and the
/// quartiles of the rounds' own ratios. `None` without a round or with nothing to divide by.
#[must_use]
pub fn ratio(rounds: &[(u64, u64)]) -> Option<(f64, (f64, f64))> {
    let median = |side: fn(&(u64, u64)) -> u64| quantile(rounds.iter().map(|r| side(r) as f64), 0.5);
    let (ours, other) = (median(|r| r.0)?, median(|r| r.1)?);
    let each = || rounds.iter().filter(|r| r.1 > 0).map(|r| r.0 as f64 / r.1 as f64);
    (other > 0.0).then_some((ours / other, (quantile(each(), 0.25)?, quantile(each(), 0.75)?)))
}

/// The value at `q` (0 to 1) of the sorted values, between two neighbours by their distance.
#[must_use]
pub fn quantile(values: impl Iterator<Item = f64>, q: f64) -> Option<f64> {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let at = q * (sorted.len().checked_sub(1)?) as f64;
    let (low, high) = (*sorted.get(at.floor() as usize)?, *sorted.get(at.ceil() as usize)?);
    Some(low + (high - low) * at.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratio_is_of_medians_and_its_spread_of_rounds() {
        assert_eq!(ratio(&[]), None);
        assert_eq!(ratio(&[(1, 0)]), None);
        let (ratio, quartiles) = ratio(&[(10, 10), (20, 10), (30, 10), (400, 10), (20, 20)]).unwrap();
        assert!((ratio - 2.0).abs() < 1e-9);
        assert_eq!(quartiles, (1.0, 3.0));
    }

    #[test]
    fn a_file_comes_back_as_it_was() {
        let mut histogram = new_histogram();
        for value in [1, 999, 123_456_789, LARGEST] {
            histogram.record(value).unwrap();
        }
        let series = Series::new("a/b", Unit::Nanoseconds, &histogram);
        assert_eq!(series.histogram(), histogram);
        let suite = SuiteResult { name: "fanout".into(), series: vec![series], ..SuiteResult::default() };
        let file = ResultFile { schema: SCHEMA, environment: BTreeMap::new(), suites: vec![suite] };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("result.json");
        file.write(&path).unwrap();
        let back = ResultFile::read(&path).unwrap();
        assert_eq!(back.suites[0].series[0].histogram(), histogram);
        std::fs::write(&path, r#"{"schema":9,"environment":{},"suites":[]}"#).unwrap();
        assert!(ResultFile::read(&path).unwrap_err().contains("schema 9"));
    }
}
