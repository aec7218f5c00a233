//! Log lines: where they go, in which form, from which level on, and that nothing is said a thousand times.
//!
//! Contract: [`start`] once, before any thread exists; lines go to standard error as text or as one JSON
//! object a line. Where standard error is the journal, each line begins with its priority (`<3>`), which
//! the journal takes off, and has no time of its own. Errors and warnings that repeat are counted instead
//! of written: see [`errors`]. Hot threads do not log.
//!
//! Owner: the main thread; lines come from any but hot threads. Allocates, and blocks as standard error
//! does. A level that is no filter is an error that names the key.

pub mod errors;
mod priority;

use std::io;

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use errors::{Counting, Errors};
use priority::Prioritized;

/// The level while it logs.
type Level = reload::Handle<EnvFilter, Registry>;
type BoxedLayer<S> = Box<dyn Layer<S> + Send + Sync>;

static ERRORS: Errors = Errors::new();

/// What this process has had to report as an error or a warning.
#[must_use]
pub fn reported() -> &'static Errors {
    &ERRORS
}

/// Changes the level while it logs.
#[derive(Clone, Debug)]
pub struct LogLevel(Option<Level>);

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
    let lines = lines(json, priority::stderr_is_the_journal());
    match tracing_subscriber::registry().with(filter).with(Counting(&ERRORS)).with(lines).try_init() {
        Ok(()) => Ok(LogLevel(Some(handle))),
        Err(_) => {
            tracing::debug!("logging was already started");
            Ok(LogLevel(None))
        }
    }
}

/// How lines are written.
fn lines<S>(json: bool, journal: bool) -> BoxedLayer<S>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let plain = fmt::format().with_target(false);
    let lines = fmt::layer().with_writer(io::stderr);
    match (json, journal) {
        (false, false) => {
            let colours = io::IsTerminal::is_terminal(&io::stderr());
            lines.event_format(plain).with_ansi(colours).boxed()
        }
        (false, true) => {
            let format = Prioritized(plain.with_level(false).without_time());
            lines.event_format(format).with_ansi(false).boxed()
        }
        (true, false) => lines.json().event_format(plain.json().flatten_event(true)).boxed(),
        (true, true) => lines.json().event_format(Prioritized(plain.json().flatten_event(true))).boxed(),
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
