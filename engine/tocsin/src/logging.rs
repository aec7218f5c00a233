//! Log lines: where they go, in which form, and from which level on.
//!
//! Contract: [`start`] once, before any thread exists; lines go to standard error as text or as one JSON
//! object a line. Hot threads do not log. Owner: the main thread; lines come from any but hot threads.
//! Allocates and blocks as standard error does. A level that is no filter is an error that names the key.

use std::io;

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, fmt, reload};

/// Changes the level while it logs.
#[derive(Clone, Debug)]
pub struct LogLevel(Option<reload::Handle<EnvFilter, Registry>>);

fn filter(level: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(level).map_err(|e| format!("log.level = \"{level}\" is no level or filter: {e}"))
}

/// Checks what `log.level` says.
///
/// # Errors
/// It is no level and no filter; named.
pub fn check_level(level: &str) -> Result<(), String> {
    filter(level).map(drop)
}

impl LogLevel {
    /// Lines from now on are chosen by `level`.
    ///
    /// # Errors
    /// It is no filter; named.
    pub fn set(&self, level: &str) -> Result<(), String> {
        let filter = filter(level)?;
        match &self.0 {
            Some(handle) => handle.reload(filter).map_err(|e| format!("log.level: {e}")),
            None => Ok(()),
        }
    }
}

/// Sends log lines to standard error. Safe to call twice: the second changes nothing.
///
/// # Errors
/// The level is no filter; named.
pub fn start(level: &str, json: bool) -> Result<LogLevel, String> {
    let (filter, handle) = reload::Layer::new(filter(level)?);
    let lines = fmt::layer().with_writer(io::stderr).with_target(false);
    let lines = if json {
        lines.json().flatten_event(true).boxed()
    } else {
        lines.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).boxed()
    };
    match tracing_subscriber::registry().with(filter).with(lines).try_init() {
        Ok(()) => Ok(LogLevel(Some(handle))),
        Err(_) => {
            tracing::debug!("logging was already started");
            Ok(LogLevel(None))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_log_level_is_named() {
        assert!(start("info,tocsin==", false).unwrap_err().contains("log.level"));
        assert!(LogLevel(None).set("info,tocsin==").unwrap_err().contains("log.level"));
    }
}
