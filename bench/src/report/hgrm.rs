//! A distribution in HdrHistogram's percentile text format, which its plotters and scripts read.
//!
//! Contract: columns value, percentile (0 to 1), how many values up to there, 1/(1-percentile), the
//! last row without the last; then three lines of mean, maximum and shape. Times are in
//! microseconds, everything else as counted. Pure; allocates the text; nothing fails.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

use crate::result::{DIGITS, LARGEST, Series, Unit};

/// Rows for each halving of the distance to 100 %: the format's usual number.
const TICKS_PER_HALF_DISTANCE: u32 = 5;

/// One row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// As recorded.
    pub value: u64,
    /// 0 to 1.
    pub percentile: f64,
    /// How many values are at most this one.
    pub total: u64,
}

/// The rows of a distribution, ascending, the last at 1. None of an empty one.
#[must_use]
pub fn rows(histogram: &Histogram<u64>) -> Vec<Row> {
    let mut total = 0;
    let mut rows = Vec::new();
    for step in histogram.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        total += step.count_since_last_iteration();
        let value = step.value_iterated_to().min(histogram.max());
        rows.push(Row { value, percentile: step.quantile_iterated_to(), total });
    }
    rows
}

/// The whole text.
#[must_use]
pub fn distribution(series: &Series) -> String {
    let histogram = series.histogram();
    let scale = if series.unit == Unit::Nanoseconds { 1_000.0 } else { 1.0 };
    let mut out =
        format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    for Row { value, percentile, total } in rows(&histogram) {
        let value = value as f64 / scale;
        // Writing to a `String` does not fail.
        let _ = if percentile < 1.0 {
            let nines = 1.0 / (1.0 - percentile);
            writeln!(out, "{value:12.3} {percentile:2.12} {total:10} {nines:14.2}")
        } else {
            writeln!(out, "{value:12.3} {percentile:2.12} {total:10}")
        };
    }
    let (buckets, sub_buckets) = shape();
    let _ = write!(
        out,
        "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]\n\
         #[Max     = {:12.3}, Total count    = {:12}]\n\
         #[Buckets = {buckets:12}, SubBuckets     = {sub_buckets:12}]\n",
        histogram.mean() / scale,
        histogram.stdev() / scale,
        histogram.max() as f64 / scale,
        histogram.len(),
    );
    out
}

/// Buckets and sub-buckets of a histogram of [`LARGEST`] and [`DIGITS`]: as many sub-buckets, a power
/// of two, as tell `DIGITS` digits apart, and as many doublings of them as reach the largest value.
fn shape() -> (u32, u64) {
    let sub_buckets = (2 * 10_u64.pow(u32::from(DIGITS))).next_power_of_two();
    let doublings = (1..).find(|n| sub_buckets.checked_shl(n - 1).is_none_or(|reach| reach > LARGEST));
    (doublings.unwrap_or(1), sub_buckets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::new_histogram;

    #[test]
    fn the_format_to_the_letter() {
        let mut histogram = new_histogram();
        for value in [1_000, 2_000, 3_000, 4_000] {
            histogram.record(value).unwrap();
        }
        let text = distribution(&Series::new("x", Unit::Nanoseconds, &histogram));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "       Value     Percentile TotalCount 1/(1-Percentile)");
        assert_eq!(lines[1], "");
        assert_eq!(lines[2], "       1.000 0.000000000000          1           1.00");
        assert_eq!(lines[4], "       1.000 0.200000000000          1           1.25");
        assert!(lines.contains(&"       2.000 0.500000000000          2           2.00"), "{text}");
        let last = lines.iter().rfind(|line| !line.starts_with('#')).unwrap();
        assert_eq!(*last, "       4.001 1.000000000000          4");
        assert_eq!(
            &lines[lines.len() - 3..],
            [
                "#[Mean    =        2.501, StdDeviation   =        1.118]",
                "#[Max     =        4.001, Total count    =            4]",
                "#[Buckets =           32, SubBuckets     =         2048]",
            ]
        );
    }

    #[test]
    fn other_units_are_not_scaled_and_an_empty_one_has_no_rows() {
        let mut histogram = new_histogram();
        let empty = distribution(&Series::new("x", Unit::Bytes, &histogram));
        assert_eq!(empty.lines().count(), 5, "{empty}");
        histogram.record(1_000).unwrap();
        let text = distribution(&Series::new("x", Unit::Bytes, &histogram));
        assert!(text.contains("1000.000 1.000000000000          1\n"), "{text}");
    }

    #[test]
    fn rows_rise_to_the_maximum_and_count_everything() {
        let mut histogram = new_histogram();
        for value in 1..5_000_u64 {
            histogram.record(value * value).unwrap();
        }
        let rows = rows(&histogram);
        assert!(rows.windows(2).all(|w| w[0].value <= w[1].value && w[0].percentile <= w[1].percentile));
        let last = rows.last().unwrap();
        assert_eq!((last.value, last.total, last.percentile), (histogram.max(), 4_999, 1.0));
        assert!(rows.len() < 150, "{}", rows.len());
    }
}
