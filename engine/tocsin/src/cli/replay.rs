//! `tocsin replay`: serves the past on the feed's own protocol, or runs it through detection again.
//!
//! Contract: announcements of a recording or of the store's history go out with the spacing they had,
//! divided by `--speed`, to clients that connect as to the service. The clock starts with the first
//! client (`--clients`). Reads only. Blocks until everything has been sent, or until a signal. Bounds: [`MOST`]
//! announcements.

mod detect;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use tocsin_core::feed::admission::keys::key_hash;
use tocsin_core::feed::key::{AllowedExchanges, KeyId, KeyRecord, Tier};
use tocsin_core::limits;
use tocsin_core::model::{Announcement, FeedPosition};
use tocsin_core::time::WallUs;

use super::CliError;
use super::webhooks::parse_when;
use crate::config::Config;
use crate::control::reply::rfc3339;
use crate::logging;
use crate::record::{self, Line, Visit};
use crate::serve::replay::ReplayFeed;
use crate::store::{HistoryQuery, Reader};
use crate::supervise::Signals;

/// More of a recording or of history is not replayed at once.
const MOST: usize = 1_000_000;
/// Between two looks for a signal and for the first client.
const LOOK: Duration = Duration::from_millis(5);
/// How long the feed's threads get to send the last one before clients are closed.
const LAST_ONE: Duration = Duration::from_millis(50);

/// Arguments of `tocsin replay`.
#[derive(Args, Debug)]
pub struct ReplayArgs {
    /// A directory with a recording; or an instant (2027-01-31T00:00:00Z) or how long ago (2h): history.
    #[arg(long, value_name = "DIR|WHEN", required_unless_present = "detect")]
    from: Option<String>,
    /// Until when; everything there is when not given.
    #[arg(long, value_name = "WHEN", value_parser = parse_when)]
    to: Option<WallUs>,
    /// How many times faster than it was: 0.01 to 1000000.
    #[arg(long, value_name = "X", default_value = "1", value_parser = parse_speed)]
    speed: f64,
    /// Longest pause between two announcements, as replayed.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    longest_pause: Option<Duration>,
    /// Where clients connect.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9211")]
    listen: SocketAddr,
    /// The one key that is let in, with every right. Without it the store's keys are checked as usual.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Serve ws instead of wss; loopback addresses only.
    #[arg(long)]
    plain: bool,
    /// Start when so many clients are connected; 0 starts at once.
    #[arg(long, value_name = "N", default_value_t = 1)]
    clients: u64,
    /// Serve nobody: give the recorded answers in this directory to detection and print what it
    /// announces, one JSON object a line.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["from", "listen", "key_file", "plain"])]
    detect: Option<PathBuf>,
    /// Print one JSON object when clients can connect, and one at the end.
    #[arg(long)]
    json: bool,
}

fn parse_speed(text: &str) -> Result<f64, String> {
    let speed: f64 = text.parse().map_err(|_| "takes a number such as 10".to_owned())?;
    if (0.01..=1e6).contains(&speed) { Ok(speed) } else { Err("takes 0.01 to 1000000".to_owned()) }
}

/// An announcement and when it went out.
struct Past {
    at: WallUs,
    announcement: Announcement,
}

/// Runs it.
///
/// # Errors
/// There is nothing to replay, it cannot be read (file and line are named), or nobody can be served.
pub fn run(args: &ReplayArgs, config: &Config) -> Result<ExitCode, CliError> {
    if let Some(dir) = &args.detect {
        return detect::run(dir, config);
    }
    if args.plain && !args.listen.ip().is_loopback() {
        return Err(CliError::usage("--plain is for loopback addresses: keys would travel in clear"));
    }
    logging::start(&config.log.level, config.log.json).map_err(CliError::usage)?;
    let signals = Signals::install().map_err(|e| CliError::failed(format!("signal handlers: {e}")))?;
    let from = args.from.as_deref().unwrap_or_default();
    let past = match Path::new(from).is_dir() {
        true => of_recording(Path::new(from), args.to)?,
        false => of_history(
            parse_when(from).map_err(|e| CliError::usage(format!("--from: {e}")))?,
            args.to,
            config,
        )?,
    };
    let (Some(first), Some(last)) = (past.first().map(|p| p.at), past.last().map(|p| p.at)) else {
        return Err(CliError::failed(format!("--from {from}: there is no announcement to replay")));
    };
    let mut feed =
        ReplayFeed::start(config, args.listen, args.plain, keys(args, config)?).map_err(CliError::failed)?;
    introduce(args, &feed, past.len(), (first, last))?;
    let sent = send_all(args, &signals, &mut feed, past);
    std::thread::sleep(LAST_ONE);
    let proper = feed.stop();
    super::print(&if args.json {
        format!("{}\n", json!({"sent": sent}))
    } else {
        format!("{sent} announcements sent\n")
    })?;
    if proper { Ok(ExitCode::SUCCESS) } else { Err(CliError::failed("a thread ended by a panic")) }
}

fn introduce(
    args: &ReplayArgs,
    feed: &ReplayFeed,
    count: usize,
    (from, to): (WallUs, WallUs),
) -> Result<(), CliError> {
    let scheme = if feed.fingerprint.is_some() { "wss" } else { "ws" };
    let url = format!("{scheme}://{}", feed.address);
    let (from, to) = (rfc3339(from), rfc3339(to));
    let text = match args.json {
        true => {
            json!({"ready": true, "url": url, "feed": feed.address, "certificate_sha256": feed.fingerprint,
                       "announcements": count, "from": from, "to": to})
            .to_string()
        }
        false => {
            let starts =
                if args.clients == 0 { "now".to_owned() } else { format!("with client {}", args.clients) };
            format!(
                "replaying {count} announcements, {from} to {to}, {} times as fast, on {url}; starts {starts}",
                args.speed
            )
        }
    };
    super::print(&format!("{text}\n")).map(drop)
}

/// Sends everything in its time; how much was sent before a signal.
fn send_all(args: &ReplayArgs, signals: &Signals, feed: &mut ReplayFeed, past: Vec<Past>) -> usize {
    while feed.listening() < args.clients && !signals.terminate() {
        std::thread::sleep(LOOK);
    }
    let (mut due, mut before, mut sent) = (Instant::now(), None, 0);
    for Past { at, announcement } in past {
        let spacing = at.0.saturating_sub(before.unwrap_or(at.0)).max(0);
        before = Some(at.0);
        due += pause(spacing, args.speed, args.longest_pause);
        while !signals.terminate() {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::sleep(left.min(LOOK));
        }
        if signals.terminate() {
            break;
        }
        feed.send(announcement);
        sent += 1;
    }
    sent
}

/// How long after the one before.
fn pause(spacing_us: i64, speed: f64, longest: Option<Duration>) -> Duration {
    #[allow(clippy::cast_precision_loss, reason = "a pause of centuries may be off by minutes")]
    let pause = Duration::try_from_secs_f64(spacing_us as f64 / 1e6 / speed).unwrap_or(Duration::MAX);
    // No `Instant` reaches further than a year from now on every platform.
    pause.min(longest.unwrap_or(Duration::MAX)).min(Duration::from_secs(365 * 86_400))
}

fn too_many() -> String {
    format!("more than {MOST} announcements: replay less at a time (--from, --to)")
}

/// The announcements of a recording. What ends early is said, and the rest replayed.
fn of_recording(dir: &Path, to: Option<WallUs>) -> Result<Vec<Past>, CliError> {
    let mut past = Vec::new();
    let read = record::read(dir, &mut |place, visit| {
        match visit {
            Visit::Line(Line::Announcement(line)) => {
                let at = line.went_out();
                if to.is_none_or(|to| at < to) {
                    past.push(Past { at, announcement: line.announcement().map_err(|e| e.to_string())? });
                }
            }
            Visit::Line(Line::Lost { announcements, .. }) if announcements > 0 => {
                tracing::warn!(%place, announcements, "announcements are missing here");
            }
            Visit::Line(_) => {}
            Visit::Cut => tracing::warn!(%place, "the file ends here, in the middle"),
        }
        if past.len() > MOST { Err(too_many()) } else { Ok(()) }
    });
    read.map_err(CliError::failed)?;
    // Source threads record side by side.
    past.sort_by_key(|p| (p.announcement.position.epoch, p.announcement.position.seq));
    Ok(past)
}

/// History from `from` on, of the store, which a running service may go on writing.
fn of_history(from: WallUs, to: Option<WallUs>, config: &Config) -> Result<Vec<Past>, CliError> {
    let reader = Reader::open(&config.data_dir).map_err(CliError::failed)?;
    let mut past = Vec::new();
    let mut after = FeedPosition::default();
    loop {
        let query =
            HistoryQuery { after: Some(after), limit: limits::HISTORY_PER_QUERY, ..HistoryQuery::default() };
        let page = reader.history_page(&query).map_err(CliError::failed)?;
        let Some(last) = page.rows.last() else { return Ok(past) };
        after = last.announcement.position;
        for row in page.rows {
            let at = row.dispatched.unwrap_or(row.announcement.detected);
            if row.announcement.detected >= from && to.is_none_or(|to| row.announcement.detected < to) {
                past.push(Past { at, announcement: row.announcement });
            }
        }
        if past.len() > MOST {
            return Err(CliError::failed(too_many()));
        }
    }
}

/// The keys that are let in.
fn keys(args: &ReplayArgs, config: &Config) -> Result<Vec<KeyRecord>, CliError> {
    let Some(file) = &args.key_file else {
        let reader = Reader::open(&config.data_dir).map_err(CliError::failed)?;
        return reader.keys().map_err(CliError::failed);
    };
    let told = |problem: String| CliError::usage(format!("--key-file {}: {problem}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|e| told(e.to_string()))?;
    let hash = key_hash(text.trim().as_bytes())
        .ok_or_else(|| told("holds no key (dsk_ and 64 digits)".to_owned()))?;
    Ok(vec![KeyRecord {
        id: KeyId(1),
        hash,
        label: "replay".to_owned(),
        tier: Tier::Premium,
        max_connections: config.feed.max_connections,
        allowed: AllowedExchanges::all(),
        created_at: WallUs(0),
        expires_at: None,
        revoked_at: None,
        delay: Duration::ZERO,
        redact: false,
        account: None,
    }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_divided_and_bounded() {
        let secs = Duration::from_secs;
        assert_eq!(pause(10_000_000, 1.0, None), secs(10));
        assert_eq!(pause(10_000_000, 100.0, None), Duration::from_millis(100));
        assert_eq!(pause(10_000_000, 0.5, Some(secs(3))), secs(3));
        assert_eq!(pause(i64::MAX, 0.01, None), secs(365 * 86_400));
        for bad in ["0", "-1", "x", "inf", "NaN", "1e7"] {
            assert!(parse_speed(bad).is_err(), "{bad}");
        }
    }
}
