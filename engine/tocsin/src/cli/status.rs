//! `tocsin status`: what the running service says of itself.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::CliError;
use super::client::AdminClient;
use crate::config::Config;

/// Arguments of `tocsin status`.
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// Everything, as one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs it.
///
/// # Errors
/// No service runs, or it does not answer.
pub fn run(args: &StatusArgs, config: &Config) -> Result<ExitCode, CliError> {
    let Some(client) = AdminClient::connect(&config.admin.socket)? else {
        let socket = config.admin.socket.display();
        return Err(CliError::failed(format!("no service is running: nobody listens on {socket}")));
    };
    let status = client.request("GET", "/admin/v1/status", None)?;
    super::print(&if args.json { format!("{status}\n") } else { for_people(&status) })
}

fn for_people(status: &Value) -> String {
    let number = |path: &str| status.pointer(path).and_then(Value::as_u64).unwrap_or_default();
    let list = |path: &str| status.pointer(path).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut text = String::new();
    for source in list("/sources") {
        let of =
            |name: &str| source.get(name).map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "source {:<14} {:<8} {} polls, {} announced, failures {}",
            of("name").unwrap_or_default(),
            of("state").unwrap_or_default(),
            of("polls").unwrap_or_default(),
            of("announced").unwrap_or_default(),
            of("failures").unwrap_or_default(),
        );
    }
    let _ = writeln!(
        text,
        "feed   {} connections, {} announcements, last subscriber p99 {} µs after dispatch",
        number("/feed/connections"),
        number("/feed/announcements"),
        number("/feed/fanout_last_ns/p99") / 1_000,
    );
    let closed = status.pointer("/feed/closed").and_then(Value::as_object);
    let closed = closed.into_iter().flatten().filter(|(_, count)| count.as_u64() > Some(0));
    let closed: Vec<String> = closed.map(|(reason, count)| format!("{reason} {count}")).collect();
    let _ =
        writeln!(text, "closed {}", if closed.is_empty() { "nobody".to_owned() } else { closed.join(", ") });
    let _ = writeln!(
        text,
        "store  {} rows on disk, {} waiting, {} commits refused",
        number("/journal/rows"),
        number("/journal/backlog_rows"),
        number("/journal/failures"),
    );
    for thread in list("/threads") {
        let name = thread.get("name").and_then(Value::as_str).unwrap_or_default();
        if let Some(gap) = thread.get("longest_gap_us").and_then(Value::as_u64).filter(|gap| *gap > 0) {
            let _ = writeln!(text, "thread {name:<10} longest gap between turns {gap} µs");
        }
    }
    text
}
