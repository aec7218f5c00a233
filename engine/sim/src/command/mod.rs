//! The commands of `tocsin-sim`, and what they share: how they print and when they end.

pub(crate) mod exchange;
mod play;
pub(crate) mod receiver;
pub(crate) mod world;

use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use tocsin_sim::SimError;

/// A time that is more than nothing.
fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if time.is_zero() => Err("must be more than nothing".to_owned()),
        Ok(time) => Ok(time),
        Err(e) => Err(e.to_string()),
    }
}

/// Ends the process when standard input does; what is read before does not matter.
fn end_with_stdin() -> Result<(), SimError> {
    let wait = || {
        // An input that cannot be read has ended too.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        std::process::exit(0);
    };
    thread::Builder::new().name("stdin".to_owned()).spawn(wait).map(drop).map_err(SimError::Thread)
}

/// Prints a line; an error means that nobody reads any more.
fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
