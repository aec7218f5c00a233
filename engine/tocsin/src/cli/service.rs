//! Verbs on the running service: who is connected, its sources, a drain, a reload, a sign-in link.
//!
//! Contract: each is one request to the admin socket. Fails when no service runs. A link is printed
//! once, to standard output, and is good for one sign-in.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::client::AdminClient;
use super::table::{cell, row};
use super::{CliError, print};
use crate::config::Config;

/// Arguments of `tocsin sources`, `tocsin race` and `tocsin reload`.
#[derive(Args, Debug)]
pub struct Plain {
    /// As one JSON object.
    #[arg(long)]
    pub(super) json: bool,
}

/// Arguments of `tocsin subscribers`.
#[derive(Args, Debug)]
pub struct SubscribersArgs {
    /// How many are listed.
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: u32,
    /// Only those behind this number.
    #[arg(long, default_value_t = 0, value_name = "ID")]
    after: u64,
    /// As one JSON object.
    #[arg(long)]
    json: bool,
}

/// Arguments of `tocsin drain`.
#[derive(Args, Debug)]
pub struct DrainArgs {
    /// How long it takes; `feed.drain` when not given.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(i64).range(0..=3600))]
    over: Option<i64>,
    /// As one JSON object.
    #[arg(long)]
    json: bool,
}

/// Arguments of `tocsin sign-in`.
#[derive(Args, Debug)]
pub struct SignInArgs {
    /// Number of the account; the administrator when not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    account: Option<i64>,
    /// As one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn ask(
    config: &Config,
    method: &str,
    target: &str,
    body: Option<&Value>,
) -> Result<Value, CliError> {
    let Some(client) = AdminClient::connect(&config.admin.socket)? else {
        let socket = config.admin.socket.display();
        return Err(CliError::failed(format!("no service is running: nobody listens on {socket}")));
    };
    client.request(method, target, body)
}

pub(super) fn show(
    answer: &Value,
    json: bool,
    people: impl FnOnce(&Value) -> String,
) -> Result<ExitCode, CliError> {
    print(&if json { format!("{answer}\n") } else { people(answer) })
}

pub(super) fn rows<'a>(answer: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    answer.get(field).and_then(Value::as_array).into_iter().flatten()
}

/// `tocsin subscribers`.
///
/// # Errors
/// No service runs, or what it refuses.
pub fn subscribers(args: &SubscribersArgs, config: &Config) -> Result<ExitCode, CliError> {
    let target = format!("/admin/v1/subscribers?limit={}&after={}", args.limit, args.after);
    let answer = ask(config, "GET", &target, None)?;
    show(&answer, args.json, |answer| {
        let widths = [12, 6, 10, 8, 6, 9, 18, 28, 0];
        let names =
            ["id", "key_id", "tier", "state", "lag_messages", "rtt_us", "address", "connected_at", "label"];
        let mut out =
            row(&["ID", "KEY", "TIER", "STATE", "LAG", "RTT µs", "ADDRESS", "CONNECTED", "LABEL"], &widths);
        for subscriber in rows(answer, "subscribers") {
            out.push_str(&row(&names.map(|name| cell(subscriber, name)), &widths));
        }
        let total = cell(answer, "total");
        match answer.get("next").and_then(Value::as_u64) {
            Some(next) => out.push_str(&format!("of {total}; the others: --after {next}\n")),
            None => out.push_str(&format!("of {total}\n")),
        }
        out
    })
}

/// `tocsin sources`.
///
/// # Errors
/// No service runs.
pub fn sources(args: &Plain, config: &Config) -> Result<ExitCode, CliError> {
    let answer = ask(config, "GET", "/admin/v1/sources", None)?;
    show(&answer, args.json, |answer| {
        let widths = [14, 8, 10, 10, 12, 0];
        let mut out = row(&["SOURCE", "STATE", "POLLS", "ANNOUNCED", "BUDGET /s", "FAILURES"], &widths);
        for source in rows(answer, "sources") {
            let budget =
                source.pointer("/budget/requests_per_second").map_or_else(String::new, Value::to_string);
            let [name, state, polls, announced] =
                ["name", "state", "polls", "announced"].map(|name| cell(source, name));
            out.push_str(&row(&[name, state, polls, announced, budget, cell(source, "failures")], &widths));
        }
        out
    })
}

/// `tocsin drain`.
///
/// # Errors
/// No service runs, or what it refuses.
pub fn drain(args: &DrainArgs, config: &Config) -> Result<ExitCode, CliError> {
    let body = json!({ "over_secs": args.over });
    let answer = ask(config, "POST", "/admin/v1/drain", Some(&body))?;
    show(&answer, args.json, |answer| {
        let (count, secs) = (cell(answer, "connections"), cell(answer, "over_secs"));
        format!("{count} subscribers are closed within {secs} s; new ones are taken after a restart\n")
    })
}

/// `tocsin reload`.
///
/// # Errors
/// No service runs, or its configuration is not usable.
pub fn reload(args: &Plain, config: &Config) -> Result<ExitCode, CliError> {
    let answer = ask(config, "POST", "/admin/v1/reload", Some(&json!({})))?;
    show(&answer, args.json, |answer| {
        let mut out = String::new();
        for (field, what) in [("in_force", "in force"), ("needs_restart", "needs a restart")] {
            for changed in rows(answer, field) {
                let [key, was, is] = ["key", "was", "is"].map(|name| cell(changed, name));
                out.push_str(&format!("{what}: {key} = {is} (was {was})\n"));
            }
        }
        for file in rows(answer, "files") {
            out.push_str(&format!("read anew: {} ({})\n", cell(file, "path"), cell(file, "holds")));
        }
        if out.is_empty() { "nothing has changed\n".to_owned() } else { out }
    })
}

/// `tocsin sign-in`.
///
/// # Errors
/// No service runs, there is no such account, or the service has no TCP listener.
pub fn sign_in(args: &SignInArgs, config: &Config) -> Result<ExitCode, CliError> {
    let body = json!({ "account": args.account });
    let mut answer = ask(config, "POST", "/admin/v1/sign-in-links", Some(&body))?;
    let url = format!("{}{}", cell(&answer, "base_url"), cell(&answer, "path"));
    if let Value::Object(fields) = &mut answer {
        fields.insert("url".to_owned(), url.clone().into());
    }
    show(&answer, args.json, |answer| {
        let secs = answer.get("expires_in_secs").and_then(Value::as_u64).unwrap_or_default();
        format!("{url}\n\nGood for one sign-in, for {} minutes.\n", secs / 60)
    })
}
