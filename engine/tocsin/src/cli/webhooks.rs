//! `tocsin webhooks`: endpoints of accounts, for the administrator.
//!
//! With the service running everything goes through it and takes effect at once. Without it, what
//! needs no network is done on the store under its lock (`webhooks/offline.rs`), and prints the same.
//! A secret is printed by `add` and `rotate` and never again, and comes in no argument.

mod offline;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tocsin_core::limits;
use tocsin_core::time::WallUs;
use tocsin_core::webhook::event::EventKind;

use super::CliError;
use super::client::{AdminClient, Reach};
use super::table::{cell, lines, row};
use crate::config::Config;
use crate::control::reply::rfc3339;
use crate::os::clock;

/// What to do with endpoints.
#[derive(Debug, Subcommand)]
pub enum WebhooksVerb {
    /// Register an endpoint, verify it, and print its secret: the only time it is shown.
    Add(AddArgs),
    /// List endpoints.
    List {
        /// Of this account; of all when not given.
        #[arg(long, value_name = "ID", value_parser = clap::value_parser!(i64).range(1..))]
        account: Option<i64>,
        /// As one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Show one endpoint.
    Show(OneEndpoint),
    /// Send a pending endpoint its verification ping again.
    Verify(OneEndpoint),
    /// Send a test event: one attempt, 50 a day and account.
    Test(TestArgs),
    /// Switch an endpoint on, whyever it was off.
    Enable(OneEndpoint),
    /// Switch an endpoint off; events are held for it.
    Disable(OneEndpoint),
    /// Draw an endpoint a new secret and print it; the one before signs too for a while.
    Rotate(RotateArgs),
    /// Remove an endpoint, what waits for it and its delivery log.
    Remove(OneEndpoint),
    /// Send the past events of a time again, oldest first, at most 1,000.
    Replay(ReplayArgs),
    /// Show the newest attempts at an endpoint, with where their time went.
    Deliveries(DeliveriesArgs),
}

/// One endpoint by its number.
#[derive(Args, Debug)]
pub struct OneEndpoint {
    /// Number of the endpoint, as `webhooks list` shows it.
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    id: u64,
    /// As one JSON object.
    #[arg(long)]
    json: bool,
}

/// An endpoint to be registered.
#[derive(Args, Debug)]
pub struct AddArgs {
    /// Number of the account.
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(i64).range(1..))]
    account: i64,
    /// A public HTTPS URL.
    #[arg(long)]
    url: String,
    /// A note.
    #[arg(long, default_value = "", hide_default_value = true)]
    label: String,
    /// Events it wants, comma separated; * = all. Pings always come.
    #[arg(long, default_value = "*", value_name = "LIST", value_delimiter = ',')]
    events: Vec<String>,
    /// Exchanges it wants, comma separated; * = all.
    #[arg(long, default_value = "*", value_name = "LIST", value_delimiter = ',')]
    exchanges: Vec<String>,
    /// As one JSON object.
    #[arg(long)]
    json: bool,
}

/// A test event.
#[derive(Args, Debug)]
pub struct TestArgs {
    #[command(flatten)]
    endpoint: OneEndpoint,
    /// Its kind.
    #[arg(long = "type", default_value = "new_listing", value_name = "TYPE", value_parser = parse_kind)]
    kind: EventKind,
}

/// A new secret.
#[derive(Args, Debug)]
pub struct RotateArgs {
    #[command(flatten)]
    endpoint: OneEndpoint,
    /// How long the secret before signs too, 0s to 7d; `webhooks.rotation_grace` when not given.
    #[arg(long, value_name = "DURATION", value_parser = parse_grace)]
    grace: Option<Duration>,
}

/// Which past events.
#[derive(Args, Debug)]
pub struct ReplayArgs {
    #[command(flatten)]
    endpoint: OneEndpoint,
    /// From when on: an instant (2027-01-31T00:00:00Z), or how long ago (2h).
    #[arg(long, value_name = "WHEN", value_parser = parse_when)]
    since: WallUs,
    /// Until when; now when not given.
    #[arg(long, value_name = "WHEN", value_parser = parse_when)]
    until: Option<WallUs>,
    /// Of these kinds, comma separated; those the endpoint wants when not given.
    #[arg(long = "types", value_name = "LIST", value_delimiter = ',')]
    types: Option<Vec<String>>,
}

/// How much of the delivery log.
#[derive(Args, Debug)]
pub struct DeliveriesArgs {
    #[command(flatten)]
    endpoint: OneEndpoint,
    /// At most this many attempts.
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = parse_limit)]
    limit: usize,
}

fn parse_kind(text: &str) -> Result<EventKind, String> {
    EventKind::parse(text).ok_or_else(|| format!("one of {}", EventKind::ALL.map(EventKind::name).join(", ")))
}

fn parse_grace(text: &str) -> Result<Duration, String> {
    let grace = humantime::parse_duration(text).map_err(|e| e.to_string())?;
    if grace > limits::WEBHOOK_GRACE { Err("0s to 7d".to_owned()) } else { Ok(grace) }
}

fn parse_limit(text: &str) -> Result<usize, String> {
    let most = limits::WEBHOOK_LINES_PER_REQUEST;
    let limit = text.parse().ok().filter(|limit| (1..=most).contains(limit));
    limit.ok_or_else(|| format!("between 1 and {most}"))
}

pub(super) fn parse_when(text: &str) -> Result<WallUs, String> {
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Ok(WallUs(at.as_microsecond()));
    }
    let ago = humantime::parse_duration(text)
        .map_err(|_| "an instant like 2027-01-31T00:00:00Z, or how long ago, like 2h".to_owned())?;
    let micros = i64::try_from(ago.as_micros()).unwrap_or(i64::MAX);
    Ok(WallUs(clock::wall().0.saturating_sub(micros).max(0)))
}

/// Runs it.
///
/// # Errors
/// What the store or the service refuses.
pub fn run(verb: &WebhooksVerb, config: &Config) -> Result<ExitCode, CliError> {
    if let WebhooksVerb::Replay(ReplayArgs { since, until: Some(until), .. }) = verb
        && until <= since
    {
        return Err(CliError::usage("--until must be later than --since"));
    }
    let answer = match Reach::find(config)? {
        Reach::Service(client) => online(verb, client)?,
        Reach::Store(store) => offline::answer(verb, *store, config)?,
    };
    let printed = if is_json(verb) { format!("{answer}\n") } else { for_people(verb, &answer) };
    let code = super::print(&printed)?;
    // A ping or test that failed was not done.
    let failed = match verb {
        WebhooksVerb::Verify(_) => answer.pointer("/verification/ok"),
        WebhooksVerb::Test(_) => answer.get("ok"),
        _ => None,
    };
    Ok(if failed == Some(&Value::Bool(false)) { ExitCode::FAILURE } else { code })
}

fn is_json(verb: &WebhooksVerb) -> bool {
    match verb {
        WebhooksVerb::Add(AddArgs { json, .. }) | WebhooksVerb::List { json, .. } => *json,
        WebhooksVerb::Show(endpoint)
        | WebhooksVerb::Verify(endpoint)
        | WebhooksVerb::Enable(endpoint)
        | WebhooksVerb::Disable(endpoint)
        | WebhooksVerb::Remove(endpoint)
        | WebhooksVerb::Test(TestArgs { endpoint, .. })
        | WebhooksVerb::Rotate(RotateArgs { endpoint, .. })
        | WebhooksVerb::Replay(ReplayArgs { endpoint, .. })
        | WebhooksVerb::Deliveries(DeliveriesArgs { endpoint, .. }) => endpoint.json,
    }
}

fn online(verb: &WebhooksVerb, client: AdminClient) -> Result<Value, CliError> {
    let of = |id: &u64, what: &str| format!("/admin/v1/webhooks/{id}{what}");
    let (method, target, body) = match verb {
        WebhooksVerb::Add(AddArgs { account, url, label, events, exchanges, .. }) => {
            let body = json!({"url": url, "label": label, "events": events, "exchanges": exchanges});
            ("POST", format!("/admin/v1/accounts/{account}/webhooks"), Some(body))
        }
        WebhooksVerb::List { account, .. } => {
            let one = |account| format!("/admin/v1/accounts/{account}/webhooks");
            let target = account.map_or_else(|| "/admin/v1/webhooks".to_owned(), one);
            return client.whole_list(&target, "webhooks");
        }
        WebhooksVerb::Show(OneEndpoint { id, .. }) => ("GET", of(id, ""), None),
        WebhooksVerb::Verify(OneEndpoint { id, .. }) => ("POST", of(id, "/verify"), None),
        WebhooksVerb::Enable(OneEndpoint { id, .. }) => ("POST", of(id, "/enable"), None),
        WebhooksVerb::Disable(OneEndpoint { id, .. }) => ("POST", of(id, "/disable"), None),
        WebhooksVerb::Remove(OneEndpoint { id, .. }) => {
            client.request("DELETE", &of(id, ""), None)?;
            return Ok(json!({"removed": id}));
        }
        WebhooksVerb::Test(TestArgs { endpoint, kind }) => {
            ("POST", of(&endpoint.id, "/test"), Some(json!({"type": kind.name()})))
        }
        WebhooksVerb::Rotate(RotateArgs { endpoint, grace }) => {
            let body = json!({"grace_secs": grace.map(|grace| grace.as_secs())});
            ("POST", of(&endpoint.id, "/rotate"), Some(body))
        }
        WebhooksVerb::Replay(ReplayArgs { endpoint, since, until, types }) => {
            let body = json!({"since": rfc3339(*since), "until": until.map(rfc3339), "types": types});
            ("POST", of(&endpoint.id, "/replay"), Some(body))
        }
        WebhooksVerb::Deliveries(DeliveriesArgs { endpoint, limit }) => {
            ("GET", of(&endpoint.id, &format!("/deliveries?limit={limit}")), None)
        }
    };
    client.request(method, &target, body.as_ref())
}

fn for_people(verb: &WebhooksVerb, answer: &Value) -> String {
    match verb {
        WebhooksVerb::List { .. } => list_for_people(answer),
        WebhooksVerb::Deliveries(_) => deliveries_for_people(answer),
        WebhooksVerb::Remove(OneEndpoint { id, .. }) => format!("endpoint {id} is removed\n"),
        WebhooksVerb::Replay(_) => {
            let next = cell(answer, "next_since");
            let more = if next == "-" { String::new() } else { format!("; go on with --since {next}") };
            format!("{} events are on their way{more}\n", cell(answer, "queued"))
        }
        WebhooksVerb::Test(_) => {
            let left = cell(answer, "tests_left");
            format!("{}{left} test events left today\n", outcome_for_people("test event", answer))
        }
        _ => endpoint_for_people(answer),
    }
}

const LIST_WIDTHS: [usize; 10] = [6, 8, 14, 9, 8, 8, 20, 20, 40, 0];

fn list_for_people(answer: &Value) -> String {
    let endpoints = answer.get("webhooks").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if endpoints.is_empty() {
        return "no endpoints; register one with `tocsin webhooks add`\n".to_owned();
    }
    let head =
        ["ID", "ACCOUNT", "STATE", "FAILURES", "P95_MS", "PENDING", "EVENTS", "EXCHANGES", "URL", "LABEL"];
    let names =
        ["id", "account", "state", "failures", "p95_ms", "pending", "events", "exchanges", "url", "label"];
    let mut out = row(&head, &LIST_WIDTHS);
    for endpoint in endpoints {
        out.push_str(&row(&names.map(|name| cell(endpoint, name)), &LIST_WIDTHS));
    }
    out
}

/// One endpoint as lines; a new secret first and alone, then how its verification went.
fn endpoint_for_people(answer: &Value) -> String {
    let mut out = String::new();
    if let Some(secret) = answer.get("secret").and_then(Value::as_str) {
        out.push_str(secret);
        out.push_str("\n\nKeep it: it is shown this once.\n\n");
    }
    if let Some(note) = answer.get("note").and_then(Value::as_str) {
        out.push_str(&format!("{note}\n\n"));
    }
    if let Some(verification) = answer.get("verification") {
        out.push_str(&outcome_for_people("verification ping", verification));
        if verification.get("ok") == Some(&Value::Bool(false)) {
            let id = cell(answer, "id");
            out.push_str(&format!("Deploy the secret, then: tocsin webhooks verify {id}\n"));
        }
        out.push('\n');
    }
    let names = [
        "id",
        "account",
        "state",
        "since",
        "url",
        "label",
        "events",
        "exchanges",
        "failures",
        "slow",
        "p95_ms",
        "pending",
        "connections",
        "created_at",
        "verified_at",
        "previous_secret_until",
    ];
    out.push_str(&lines(answer, &names));
    out
}

fn outcome_for_people(what: &str, outcome: &Value) -> String {
    let took =
        outcome.get("took_us").and_then(Value::as_u64).map(|us| format!(" in {} ms", us.div_ceil(1_000)));
    let took = took.unwrap_or_default();
    if outcome.get("ok") == Some(&Value::Bool(true)) {
        return format!("{what}: answered with {}{took}\n", cell(outcome, "status"));
    }
    let text = |name: &str| Some(cell(outcome, name)).filter(|text| text != "-");
    let mut why: Vec<String> =
        [text("failed"), text("class"), text("status"), text("detail")].into_iter().flatten().collect();
    // The stage and the class are often one word.
    why.dedup();
    format!("{what}: failed{took}: {}\n", why.join(", "))
}

const DELIVERY_WIDTHS: [usize; 12] = [27, 15, 12, 3, 14, 6, 9, 9, 9, 9, 9, 0];

fn deliveries_for_people(answer: &Value) -> String {
    let attempts = answer.get("deliveries").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if attempts.is_empty() {
        return "nothing was sent yet\n".to_owned();
    }
    let head = [
        "AT", "TYPE", "PURPOSE", "NO", "RESULT", "STATUS", "TOOK_US", "DNS", "TCP", "TLS", "1ST_BYTE", "NEXT",
    ];
    let mut out = row(&head, &DELIVERY_WIDTHS);
    for attempt in attempts {
        let phases = attempt.get("phases").unwrap_or(&Value::Null);
        let ok = attempt.get("ok") == Some(&Value::Bool(true));
        let cells = [
            cell(attempt, "at"),
            cell(attempt, "type"),
            cell(attempt, "purpose"),
            cell(attempt, "attempt"),
            if ok { "delivered".to_owned() } else { cell(attempt, "class") },
            cell(attempt, "status"),
            cell(attempt, "took_us"),
            cell(phases, "dns_us"),
            cell(phases, "tcp_us"),
            cell(phases, "tls_us"),
            cell(phases, "first_byte_us"),
            cell(attempt, "next_at"),
        ];
        out.push_str(&row(&cells, &DELIVERY_WIDTHS));
    }
    out
}
