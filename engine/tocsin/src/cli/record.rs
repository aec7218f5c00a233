//! `tocsin record`: polls the exchanges and keeps what they answer, without serving anybody.
//!
//! A running service records by itself (`record.dir`): two that poll would spend the exchanges' budget
//! twice, so this verb refuses beside one. Its own store, which only knows what was seen, lies in the
//! recording's directory; nothing it announces is ever taken for announced by a service.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;

use super::CliError;
use super::client::AdminClient;
use crate::config::{Config, Record};
use crate::logging;
use crate::reload::ReloadReport;
use crate::serve::{Ended, Engine};
use crate::supervise::{Signals, Systemd};

/// Arguments of `tocsin record`.
#[derive(Args, Debug)]
pub struct RecordArgs {
    /// Where the files go; made if it is not there.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// End after this long; until Ctrl-C when not given.
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    time: Option<Duration>,
    /// All files together; the oldest go first. 16MiB to 1TiB.
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = parse_size)]
    max_size: u64,
    /// Print what was recorded as one JSON object at the end.
    #[arg(long)]
    json: bool,
}

fn parse_size(text: &str) -> Result<u64, String> {
    let size: bytesize::ByteSize = text.parse()?;
    Some(size.as_u64())
        .filter(|s| (16 << 20..=1 << 40).contains(s))
        .ok_or_else(|| "takes 16MiB to 1TiB".to_owned())
}

/// Runs it.
///
/// # Errors
/// A service runs, no source is enabled, or it cannot start.
pub fn run(args: &RecordArgs, config: &Config) -> Result<ExitCode, CliError> {
    if AdminClient::connect(&config.admin.socket)?.is_some() {
        return Err(CliError::failed(
            "the service runs and polls by itself: set record.dir in its configuration and restart it",
        ));
    }
    if !config.sources.values().any(|source| source.enabled) {
        return Err(CliError::usage("no source is enabled: nothing would be recorded"));
    }
    logging::start(&config.log.level, config.log.json).map_err(CliError::usage)?;
    let signals = Signals::install().map_err(|e| CliError::failed(format!("signal handlers: {e}")))?;
    let mut engine = Engine::start(&alone(config, &args.out, args.max_size)).map_err(CliError::failed)?;
    tracing::info!(out = %args.out.display(), "recording");
    let from = Instant::now();
    let enough = || args.time.is_some_and(|time| from.elapsed() >= time);
    let ended = engine.run(&signals, &mut Systemd::from_environment(), no_reload, enough);
    let view = engine.counts();
    let proper = engine.stop();
    let recorded = view();
    super::print(&if args.json { format!("{recorded}\n") } else { for_people(&recorded, &args.out) })?;
    match ended {
        Ended::Asked if proper => Ok(ExitCode::SUCCESS),
        Ended::Asked => Err(CliError::failed("a thread ended by a panic")),
        Ended::Died(name) => Err(CliError::failed(format!("thread {name} ended on its own; see the log"))),
    }
}

/// It is made for this recording and read once.
fn no_reload(_: &mut Engine) -> ReloadReport {
    ReloadReport::invalid("a recording goes on with the configuration it began with")
}

/// The configuration with sources and recorder as they are, and nobody served: a store of its own, whose
/// feed has no key and whose webhooks have no endpoint.
fn alone(config: &Config, out: &Path, max_bytes: u64) -> Config {
    let mut alone = config.clone();
    alone.data_dir = out.join("state");
    alone.record = Some(Record { dir: out.to_owned(), max_bytes });
    alone.feed.listen = ([127, 0, 0, 1], 0).into();
    alone.feed.tls = false;
    alone.feed.drain = Duration::ZERO;
    (alone.feed.cert_file, alone.feed.key_file) = (None, None);
    alone.admin.socket = alone.data_dir.join("admin.sock");
    (alone.admin.listen, alone.admin.tls, alone.admin.token_file) = (None, false, None);
    alone.smtp = None;
    alone
}

fn for_people(recorded: &Value, out: &Path) -> String {
    let of = |path: &str| recorded.pointer(path).and_then(Value::as_u64).unwrap_or_default();
    format!(
        "{} polls ({} unchanged, {} bodies), {} announcements in {}; {} lost\n",
        of("/polls"),
        of("/unchanged"),
        of("/bodies"),
        of("/announcements"),
        out.display(),
        of("/dropped"),
    )
}
