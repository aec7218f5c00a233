//! `GET /metrics`: the engine as Prometheus reads it, from one schema that also makes docs/metrics.md.
//!
//! Contract: a metric is a row of [`families::SECTIONS`]: name, kind, labels, help, and how its value is
//! read from [`Readings`]. [`render`] makes the text of all rows, [`page::text`] the page; so neither
//! names what the other does not. Names and labels are only ever added. No label holds what users choose
//! (keys, addresses, tickers, titles): the number of series is bounded by the schema.
//!
//! Owner: control thread, off its runtime. Allocates; waits for the disk (sizes, one grouped count of
//! endpoints) and never for a hot thread. What cannot be read is left out of the answer.

pub mod families;
pub mod page;
pub(super) mod route;
mod sample;

use std::collections::BTreeSet;

use prometheus::TextEncoder;
use prometheus::proto::{self, MetricType};
use tocsin_core::feed::counters::Distribution;

pub use route::MetricsAccess;
pub use sample::Samples;

use super::snapshot::Snapshot;
use crate::os::process::ProcessUse;
use crate::os::timesync::KernelClock;
use crate::store::StoreSize;

/// Everything that metrics are read from, of one moment.
#[derive(Clone, Debug, Default)]
pub struct Readings {
    /// The engine's counters.
    pub engine: Snapshot,
    /// The machine's side.
    pub host: Host,
    /// Endpoints by state; `None` when the store could not be read.
    pub endpoint_states: Option<Vec<(String, u64)>>,
}

/// What is asked of the operating system; `None` where it does not tell.
#[derive(Clone, Copy, Debug, Default)]
pub struct Host {
    /// This process.
    pub process: Option<ProcessUse>,
    /// The kernel's clock.
    pub clock: Option<KernelClock>,
    /// The store and its file system.
    pub store: Option<StoreSize>,
}

/// What kind of value a metric has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process runs; starts at 0 with it.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size, in seconds.
    Histogram(Scale),
}

impl Kind {
    /// As Prometheus spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        }
    }
}

/// How a [`Distribution`] becomes a histogram: two buckets an octave, from one power of two of its unit to
/// another. Bounds are the distribution's own, so counts are exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Units in a second.
    pub per_second: u32,
    /// Values from 2^first to below 2^(last + 1) have buckets of their own.
    pub first_octave: u8,
    /// See `first_octave`.
    pub last_octave: u8,
}

impl Scale {
    /// Of nanoseconds, from 0.5 µs to 1 s.
    pub const NANOS: Scale = Scale { per_second: 1_000_000_000, first_octave: 9, last_octave: 29 };
    /// Of microseconds, from 4 µs to 1 s.
    pub const MICROS: Scale = Scale { per_second: 1_000_000, first_octave: 2, last_octave: 19 };
    /// Of microseconds over a network, from 64 µs to 33 s.
    pub const MICROS_FAR: Scale = Scale { per_second: 1_000_000, first_octave: 6, last_octave: 24 };
    /// Of microseconds that may be minutes, from 1 ms to 537 s.
    pub const MICROS_LONG: Scale = Scale { per_second: 1_000_000, first_octave: 10, last_octave: 28 };

    /// Buckets of the distribution that end one of the histogram's.
    fn ends(self) -> impl Iterator<Item = usize> {
        (self.first_octave..=self.last_octave).flat_map(|octave| [1, 3].map(|q| usize::from(octave) * 4 + q))
    }

    /// Upper bounds of the histogram's buckets, in seconds.
    pub fn bounds(self) -> impl Iterator<Item = f64> {
        self.ends().map(move |end| Distribution::upper_bound(end) as f64 / f64::from(self.per_second))
    }
}

/// A label, and the values it has.
#[derive(Clone, Copy, Debug)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// What tells its meaning on the page.
    pub help: &'static str,
    /// Every value, or an example where the configuration decides.
    pub values: fn() -> Vec<String>,
    /// Whether `values` are all there can be.
    pub closed: bool,
}

/// One metric: a row of the schema.
#[derive(Debug)]
pub struct Family {
    /// `tocsin_...`, with its unit.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: Kind,
    /// In the order [`Samples`] is given their values.
    pub labels: &'static [Label],
    /// One sentence, for people.
    pub help: &'static str,
    /// Puts the values into the samples: none where there is nothing to say.
    pub read: fn(&Readings, &mut Samples<'_>),
}

/// Families that belong together, as the page shows them.
#[derive(Debug)]
pub struct Section {
    /// Its heading.
    pub title: &'static str,
    /// What to know of all of them.
    pub intro: &'static str,
    /// In the order they are served.
    pub families: &'static [Family],
}

/// Every family, in order.
pub fn all_families() -> impl Iterator<Item = &'static Family> {
    families::SECTIONS.iter().flat_map(|section| section.families)
}

/// Names of all series that there can be: a histogram has three.
#[must_use]
pub fn series_names() -> BTreeSet<String> {
    let names = |family: &Family| match family.kind {
        Kind::Histogram(_) => {
            ["_bucket", "_sum", "_count"].map(|end| format!("{}{end}", family.name)).to_vec()
        }
        _ => vec![family.name.to_owned()],
    };
    all_families().flat_map(names).collect()
}

/// The text that Prometheus reads.
#[must_use]
pub fn render(readings: &Readings) -> String {
    let families = all_families().filter_map(|family| encode(family, readings));
    // Fails for a family without a name or samples alone, and there is none.
    TextEncoder::new().encode_to_string(&families.collect::<Vec<_>>()).unwrap_or_default()
}

/// `None` where there are no samples.
fn encode(family: &Family, readings: &Readings) -> Option<proto::MetricFamily> {
    let mut samples = Samples::new(family);
    (family.read)(readings, &mut samples);
    let samples = samples.into_inner();
    if samples.is_empty() {
        return None;
    }
    let mut encoded = proto::MetricFamily::default();
    encoded.set_name(family.name.to_owned());
    encoded.set_help(family.help.to_owned());
    encoded.set_field_type(match family.kind {
        Kind::Counter => MetricType::COUNTER,
        Kind::Gauge => MetricType::GAUGE,
        Kind::Histogram(_) => MetricType::HISTOGRAM,
    });
    encoded.set_metric(samples);
    Some(encoded)
}

#[cfg(test)]
mod tests;
