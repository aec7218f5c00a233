//! What checks look at: text below a root directory, what the configuration wants, what was measured.
//!
//! Contract: reading only. The root is `/`, or a copy of another host's files (tests bring their own).

use std::collections::BTreeSet;
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tocsin_core::source::stream;

use super::Measured;
use crate::config::{Config, TopologyMode};
use crate::serve::streams;
use crate::topology::Plan;

/// More of a file is not read.
const FILE_BYTES: u64 = 1 << 20;

/// What the configuration needs of the machine.
#[derive(Clone, Debug)]
pub struct Wants {
    /// Cores of hot threads; empty when none is pinned.
    pub hot: CoreSet,
    /// Live sessions at most.
    pub max_connections: u32,
    /// Attempts in flight at most.
    pub max_in_flight: usize,
    /// Shared-memory journals, 1 MiB each: one a source thread, one of webhooks.
    pub journals: u64,
    /// Where the store is.
    pub data_dir: PathBuf,
    /// Push sources that are switched on.
    pub streams: Vec<WantedStream>,
    /// The running service, whose limits are looked at instead of our own.
    pub service: Option<u32>,
}

/// A push source that is switched on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedStream {
    /// Name of its section.
    pub name: String,
    /// File of its key, where it takes one.
    pub credentials_file: Option<PathBuf>,
    /// Name or address of its host.
    pub host: String,
    /// How far our clock may be from the exchange's, where requests are signed with the time.
    pub clock_within: Option<Duration>,
}

impl WantedStream {
    /// Those of a configuration. One whose address is no address has none.
    fn all(config: &Config) -> Vec<WantedStream> {
        let enabled = config.streams.iter().filter(|(_, section)| section.enabled);
        let wanted = enabled.filter_map(|(name, section)| {
            let spec = stream::by_config_name(name)?;
            let url = streams::address(spec, section).ok();
            Some(WantedStream {
                name: name.clone(),
                credentials_file: section.credentials_file.clone().filter(|_| spec.needs_credentials),
                host: url.map(|url| url.host.as_ref().to_owned()).unwrap_or_default(),
                clock_within: spec.clock_within,
            })
        });
        wanted.collect()
    }
}

impl Wants {
    /// Of a configuration, and of the service that holds its data directory.
    #[must_use]
    pub fn new(config: &Config) -> Wants {
        let topology = &config.topology;
        let pinned = topology.mode == TopologyMode::Pinned;
        let cores = topology.source_cores.iter().chain(&topology.feed_cores).filter(|_| pinned);
        // Whoever held the directory last: a number that is no process of ours is not used.
        let holder = std::fs::read_to_string(config.data_dir.join("tocsin.lock")).ok();
        let holder = holder.and_then(|text| text.trim().parse().ok());
        let is_ours = |pid: &u32| {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "tocsin")
        };
        Wants {
            hot: cores.copied().collect(),
            max_connections: config.feed.max_connections,
            max_in_flight: config.webhooks.max_in_flight,
            journals: Plan::new(config).sources.len() as u64 + 1,
            data_dir: config.data_dir.clone(),
            streams: WantedStream::all(config),
            service: holder.filter(is_ours),
        }
    }
}

/// A machine to look at.
pub struct Host {
    root: PathBuf,
    /// What the configuration needs.
    pub wants: Wants,
    /// What no file says.
    pub measured: Measured,
}

impl Host {
    /// The machine whose files lie below `root`.
    #[must_use]
    pub fn new(root: &Path, wants: Wants, measured: Measured) -> Host {
        Host { root: root.to_owned(), wants, measured }
    }

    /// A file's text, trimmed; `None` when it is not there or may not be read.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(self.root.join(path.trim_start_matches('/'))).ok()?;
        file.take(FILE_BYTES).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// A file that holds one number.
    pub(super) fn number(&self, path: &str) -> Option<i64> {
        self.text(path)?.parse().ok()
    }

    /// Names in a directory, sorted; none when it is not there.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.root.join(path.trim_start_matches('/')));
        let mut names: Vec<String> = entries
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    /// Whether there is such a file or directory.
    pub(super) fn exists(&self, path: &str) -> bool {
        self.root.join(path.trim_start_matches('/')).exists()
    }

    /// Cores a file lists; `None` when it is not there.
    pub(super) fn cores(&self, path: &str) -> Option<CoreSet> {
        CoreSet::parse(&self.text(path)?)
    }

    /// The value of a kernel parameter, empty for one without; `None` when it was not given.
    pub(super) fn boot(&self, name: &str) -> Option<String> {
        let line = self.text("/proc/cmdline")?;
        line.split_whitespace().rev().find_map(|word| {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            (key == name).then(|| value.to_owned())
        })
    }

    /// Network interfaces with a device behind them.
    pub(super) fn cards(&self) -> Vec<String> {
        let all = self.names("/sys/class/net");
        all.into_iter().filter(|name| self.exists(&format!("/sys/class/net/{name}/device"))).collect()
    }

    /// Cores that no hot thread has.
    pub(super) fn housekeeping(&self) -> CoreSet {
        let online = self.cores("/sys/devices/system/cpu/online").unwrap_or_default();
        CoreSet(online.0.difference(&self.wants.hot.0).copied().collect())
    }
}

/// A set of cores, written `0-1,4` as the kernel does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoreSet(pub(super) BTreeSet<usize>);

/// Far above any machine's number of cores; a list that says more is damaged.
const CORES: usize = 65_536;

impl CoreSet {
    /// The kernel's list format; words among it (`isolcpus=nohz,domain,2-3`) are passed over.
    #[must_use]
    pub fn parse(text: &str) -> Option<CoreSet> {
        let mut set = BTreeSet::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty() && *part != "(null)") {
            if part.starts_with(|c: char| c.is_ascii_alphabetic()) {
                continue;
            }
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            let (from, to): (usize, usize) = (from.parse().ok()?, to.parse().ok()?);
            if from > to || to >= CORES {
                return None;
            }
            set.extend(from..=to);
        }
        Some(CoreSet(set))
    }

    /// Those of `self` that `other` lacks.
    pub(super) fn missing_in(&self, other: &CoreSet) -> CoreSet {
        CoreSet(self.0.difference(&other.0).copied().collect())
    }

    /// Those in both.
    pub(super) fn shared_with(&self, other: &CoreSet) -> CoreSet {
        CoreSet(self.0.intersection(&other.0).copied().collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().copied()
    }
}

impl FromIterator<usize> for CoreSet {
    fn from_iter<I: IntoIterator<Item = usize>>(cores: I) -> CoreSet {
        CoreSet(cores.into_iter().collect())
    }
}

impl fmt::Display for CoreSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cores = self.iter().peekable();
        let mut first = true;
        while let Some(from) = cores.next() {
            let mut to = from;
            while cores.next_if_eq(&(to + 1)).is_some() {
                to += 1;
            }
            let comma = if first { "" } else { "," };
            first = false;
            match to - from {
                0 => write!(f, "{comma}{from}")?,
                1 => write!(f, "{comma}{from},{to}")?,
                _ => write!(f, "{comma}{from}-{to}")?,
            }
        }
        Ok(())
    }
}
