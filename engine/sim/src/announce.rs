//! Telling others where the simulated exchanges and receivers are: a JSON object on standard output and, for
//! programs that wait for it, in a file that appears whole or not at all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use std::collections::BTreeMap;

use crate::error::SimError;
use crate::exchange::SimExchange;
use crate::receiver::SimReceiver;

/// Where everything is: `{"exchanges":{"binance":{"base_url":…,"ca_file":…},…},"admin":…}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Announced {
    /// By source name.
    pub exchanges: BTreeMap<String, Location>,
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

impl Announced {
    /// Adds an exchange.
    pub fn add(&mut self, sim: &SimExchange, ca_file: Option<&Path>) {
        let location = Location { base_url: sim.base_url(), ca_file: ca_file.map(Path::to_owned) };
        self.exchanges.insert(sim.kind().name().to_owned(), location);
    }

    /// One line of JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Strings and maps of strings: this cannot fail.
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
        let ca_file = receiver.ca_file().map(Path::to_owned);
        AnnouncedReceiver { receiver: Location { base_url: receiver.base_url(), ca_file } }
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
