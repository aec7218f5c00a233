//! Telling others where simulated exchanges, their markets and streams, and receivers are: a JSON object on standard output and, for
//! programs that wait for it, in a file that appears whole or not at all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use std::collections::BTreeMap;

use crate::error::SimError;
use crate::exchange::SimExchange;
use crate::market::SimMarket;
use crate::receiver::SimReceiver;
use crate::stream::{SimStream, StreamKind};

/// Where everything is: `{"exchanges":{"binance":{"base_url":…,"ca_file":…},…},"markets":{…},"streams":{…},
/// "admin":…}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Announced {
    /// By source name.
    pub exchanges: BTreeMap<String, Location>,
    /// By exchange: what a section `[market.NAME]` needs.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub markets: BTreeMap<String, Location>,
    /// How many times as fast as real ones they live; absent where they stand still.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub market_speed: Option<f64>,
    /// By name: what a section `[streams.NAME]` needs.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub streams: BTreeMap<String, StreamLocation>,
    /// Base address of the admin listener, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin: Option<String>,
}

/// Where one server is: for an exchange, what its section `[sources.NAME]` needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Location {
    /// Its address, without a slash at the end.
    pub base_url: String,
    /// File of the authority to trust; absent in plain mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

/// Where a push source is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StreamLocation {
    /// Its address, and whom to trust.
    #[serde(flatten)]
    pub location: Location,
    /// File with the key and the secret it takes; absent where it takes none or they were not written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_file: Option<PathBuf>,
}

impl Location {
    fn new(base_url: String, ca_file: Option<&Path>) -> Location {
        Location { base_url, ca_file: ca_file.map(Path::to_owned) }
    }
}

impl Announced {
    /// Adds an exchange.
    pub fn add(&mut self, sim: &SimExchange, ca_file: Option<&Path>) {
        self.exchanges.insert(sim.kind().name().to_owned(), Location::new(sim.base_url(), ca_file));
    }

    /// Adds a market.
    pub fn add_market(&mut self, sim: &SimMarket, ca_file: Option<&Path>) {
        self.markets.insert(sim.exchange().name().to_owned(), Location::new(sim.base_url(), ca_file));
    }

    /// Adds a push source.
    pub fn add_stream(&mut self, sim: &SimStream, ca_file: Option<&Path>, credentials_file: Option<&Path>) {
        let keyed = credentials_file.filter(|_| sim.kind() != StreamKind::Gate);
        let stream = StreamLocation {
            location: Location::new(sim.base_url(), ca_file),
            credentials_file: keyed.map(Path::to_owned),
        };
        self.streams.insert(sim.kind().name().to_owned(), stream);
    }

    /// One line of JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Strings, maps of them and a number: this cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Writes the JSON to `path`.
    ///
    /// # Errors
    /// [`SimError::File`].
    pub fn write_to(&self, path: &Path) -> Result<(), SimError> {
        write_atomically(path, format!("{}\n", self.to_json()).as_bytes())
            .map_err(|e| SimError::File(path.to_owned(), e))
    }
}

/// Where a receiver is: `{"receiver":{"base_url":…,"ca_file":…}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AnnouncedReceiver {
    /// The one there is: its URLs begin with `base_url`, `ca_file` is what `egress.ca_file` needs.
    pub receiver: Location,
}

impl AnnouncedReceiver {
    /// Where `receiver` is.
    #[must_use]
    pub fn of(receiver: &SimReceiver) -> AnnouncedReceiver {
        AnnouncedReceiver { receiver: Location::new(receiver.base_url(), receiver.ca_file()) }
    }

    /// One line of JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Strings in objects: this cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Writes the JSON to `path`.
    ///
    /// # Errors
    /// [`SimError::File`].
    pub fn write_to(&self, path: &Path) -> Result<(), SimError> {
        write_atomically(path, format!("{}\n", self.to_json()).as_bytes())
            .map_err(|e| SimError::File(path.to_owned(), e))
    }
}

/// Writes beside `path` and renames, so that a reader never sees half of it.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let beside = path.with_file_name(name);
    fs::write(&beside, bytes)?;
    fs::rename(&beside, path).inspect_err(|_| {
        // The rename's error is the one to report.
        let _ = fs::remove_file(&beside);
    })
}
