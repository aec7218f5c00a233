//! The values of one family on their way into the text.

use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric};
use tocsin_core::feed::counters::Distribution;

use super::super::snapshot::ByName;
use super::{Family, Kind, Scale};

/// Takes the values of one [`Family`], each with as many label values as the family has labels.
#[derive(Debug)]
pub struct Samples<'a> {
    family: &'a Family,
    metrics: Vec<Metric>,
}

/// What a sample can be made of.
pub trait Number {
    /// As Prometheus has it. Counts above 2^53 lose their last digits.
    fn to_f64(self) -> f64;
}

impl Number for u64 {
    fn to_f64(self) -> f64 {
        self as f64
    }
}

impl Number for f64 {
    fn to_f64(self) -> f64 {
        self
    }
}

impl Number for bool {
    fn to_f64(self) -> f64 {
        f64::from(u8::from(self))
    }
}

impl Number for std::time::Duration {
    fn to_f64(self) -> f64 {
        self.as_secs_f64()
    }
}

/// An instant, in seconds since 1970.
impl Number for tocsin_core::time::WallUs {
    fn to_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

impl<'a> Samples<'a> {
    pub(super) fn new(family: &'a Family) -> Samples<'a> {
        Samples { family, metrics: Vec::new() }
    }

    pub(super) fn into_inner(self) -> Vec<Metric> {
        self.metrics
    }

    /// The value of a family without labels.
    pub fn one(&mut self, value: impl Number) {
        self.with(&[], value);
    }

    /// The same where there is one.
    pub fn maybe(&mut self, value: Option<impl Number>) {
        if let Some(value) = value {
            self.one(value);
        }
    }

    /// A value with its labels' values.
    pub fn with(&mut self, labels: &[&str], value: impl Number) {
        let value = value.to_f64();
        let mut metric = self.labelled(labels);
        match self.family.kind {
            Kind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            Kind::Gauge | Kind::Histogram(_) => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
        }
        self.metrics.push(metric);
    }

    /// Each count with its name as the last label's value, behind `before`.
    pub fn by_name(&mut self, before: &[&str], counts: &ByName) {
        for (name, count) in &counts.0 {
            let labels: Vec<&str> = before.iter().copied().chain([*name]).collect();
            self.with(&labels, *count);
        }
    }

    /// 1 for `is`, 0 for all other states, with the state as the last label's value, behind `before`.
    pub fn one_of<'n>(&mut self, before: &[&str], states: impl IntoIterator<Item = &'n str>, is: &str) {
        for state in states {
            let labels: Vec<&str> = before.iter().copied().chain([state]).collect();
            self.with(&labels, state == is);
        }
    }

    /// A distribution; of a family that is a histogram.
    pub fn distribution(&mut self, labels: &[&str], values: &Distribution) {
        let Kind::Histogram(scale) = self.family.kind else { return };
        let mut metric = self.labelled(labels);
        metric.set_histogram(histogram(values, scale));
        self.metrics.push(metric);
    }

    fn labelled(&self, values: &[&str]) -> Metric {
        debug_assert_eq!(values.len(), self.family.labels.len(), "{}", self.family.name);
        let pairs = self.family.labels.iter().zip(values).map(|(label, value)| {
            let mut pair = LabelPair::default();
            pair.set_name(label.name.to_owned());
            pair.set_value((*value).to_owned());
            pair
        });
        Metric::from_label(pairs.collect())
    }
}

fn histogram(values: &Distribution, scale: Scale) -> Histogram {
    let (mut below, mut from) = (0, 0);
    let buckets = scale.ends().zip(scale.bounds()).map(|(end, bound)| {
        below += values.buckets.get(from..=end).map_or(0, |counts| counts.iter().sum::<u64>());
        from = end + 1;
        let mut bucket = Bucket::default();
        bucket.set_cumulative_count(below);
        bucket.set_upper_bound(bound);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(values.count());
    histogram.set_sample_sum(values.sum as f64 / f64::from(scale.per_second));
    histogram
}
