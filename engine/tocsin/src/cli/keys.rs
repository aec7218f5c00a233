//! `tocsin keys`: API keys made, listed, given an end, revoked.
//!
//! With the service running the change goes through it and takes effect at once; without it, into
//! the store under its lock. Prints the same either way. The text of a key is printed by `create`
//! and never again.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tocsin_core::feed::key::{AllowedExchanges, KeyId, Tier};
use tocsin_core::time::WallUs;

use super::client::Reach;
use super::{CliError, refused};
use crate::config::Config;
use crate::control::reply::{key_json, rfc3339};
use crate::os::clock;
use crate::store::NewKey;

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum KeysVerb {
    /// Make a key and print it: the only time its text is shown.
    Create(CreateArgs),
    /// List all keys.
    List {
        /// As one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Show one key.
    Show(OneKey),
    /// Move a key's end; sessions of a key that has ended close with 1000 `key_expired`.
    SetExpiry(SetExpiryArgs),
    /// Revoke a key for ever; its sessions close with 1000 `key_revoked`.
    Revoke(OneKey),
}

/// One key by its number.
#[derive(Args, Debug)]
pub struct OneKey {
    /// Number of the key, as `keys list` shows it.
    #[arg(value_parser = clap::value_parser!(i64).range(1..))]
    id: i64,
    /// As one JSON object.
    #[arg(long)]
    json: bool,
}

/// Properties of a new key.
#[derive(Args, Debug)]
pub struct CreateArgs {
    /// Subscription tier: basic, premium or enterprise.
    #[arg(long, value_parser = parse_tier)]
    tier: Tier,
    /// Most simultaneous connections.
    #[arg(long, default_value_t = 1, value_name = "N")]
    max_connections: u32,
    /// Exchanges it may subscribe to, comma separated; * = all.
    #[arg(long, default_value = "*", value_name = "LIST", value_parser = parse_allowed)]
    allowed_cex: AllowedExchanges,
    /// Its end, counted from now (30d, 12h); never when not given.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    expires_in: Option<Duration>,
    /// A note for yourself.
    #[arg(long, default_value = "")]
    label: String,
    /// Hold announcements back this long (basic tier only).
    #[arg(long, default_value = "0s", value_name = "DURATION", value_parser = parse_duration)]
    delay: Duration,
    /// Withhold title and ticker.
    #[arg(long)]
    redact: bool,
    /// Number of the account it belongs to; nobody's when not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    account: Option<i64>,
    /// As one JSON object.
    #[arg(long)]
    json: bool,
}

/// A key's new end.
#[derive(Args, Debug)]
pub struct SetExpiryArgs {
    /// Number of the key.
    #[arg(value_parser = clap::value_parser!(i64).range(1..))]
    id: i64,
    #[command(flatten)]
    end: End,
    /// As one JSON object.
    #[arg(long)]
    json: bool,
}

/// When a key ends.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct End {
    /// Counted from now (30d, 12h).
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    expires_in: Option<Duration>,
    /// At an instant (2027-01-31T00:00:00Z); one that has passed ends the key at once.
    #[arg(long, value_name = "RFC3339", value_parser = parse_instant)]
    at: Option<WallUs>,
    /// Never.
    #[arg(long)]
    never: bool,
}

fn parse_tier(text: &str) -> Result<Tier, String> {
    Tier::parse(text).ok_or_else(|| "one of basic, premium, enterprise".to_owned())
}

fn parse_allowed(text: &str) -> Result<AllowedExchanges, String> {
    AllowedExchanges::parse(text).map_err(|name| format!("{name:?} is no exchange"))
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|e| e.to_string())
}

fn parse_instant(text: &str) -> Result<WallUs, String> {
    let at: jiff::Timestamp = text.parse().map_err(|_| "an instant like 2027-01-31T00:00:00Z".to_owned())?;
    Ok(WallUs(at.as_microsecond()))
}

fn after(now: WallUs, duration: Duration) -> WallUs {
    WallUs(now.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
}

/// Runs it.
///
/// # Errors
/// What the store or the service refuses.
pub fn run(verb: &KeysVerb, config: &Config) -> Result<ExitCode, CliError> {
    let now = clock::wall();
    let (answer, json) = match verb {
        KeysVerb::Create(args) => (create(args, config, now)?, args.json),
        KeysVerb::List { json } => (list(config, now)?, *json),
        KeysVerb::Show(OneKey { id, json }) => (show(*id, config, now)?, *json),
        KeysVerb::SetExpiry(args) => (set_expiry(args, config, now)?, args.json),
        KeysVerb::Revoke(OneKey { id, json }) => (revoke(*id, config, now)?, *json),
    };
    super::print(&if json { format!("{answer}\n") } else { for_people(&answer) })
}

fn create(args: &CreateArgs, config: &Config, now: WallUs) -> Result<Value, CliError> {
    let new = NewKey {
        label: args.label.clone(),
        tier: args.tier,
        max_connections: args.max_connections,
        allowed: args.allowed_cex.clone(),
        expires_at: args.expires_in.map(|duration| after(now, duration)),
        delay: args.delay,
        redact: args.redact,
        account: args.account,
    };
    new.validate(now).map_err(refused)?;
    match Reach::find(config)? {
        Reach::Service(client) => client.request("POST", "/admin/v1/keys", Some(&create_body(&new))),
        Reach::Store(mut store) => {
            let (record, secret) = store.create_key(&new, now).map_err(refused)?;
            let mut shown = key_json(&record, now);
            if let Value::Object(fields) = &mut shown {
                fields.insert("key".to_owned(), Value::from(secret.reveal()));
            }
            Ok(shown)
        }
    }
}

fn create_body(new: &NewKey) -> Value {
    json!({
        "label": new.label,
        "tier": new.tier.name(),
        "max_connections": new.max_connections,
        "allowed_cex": new.allowed.effective(tocsin_core::model::ExchangeSet::ALL),
        "expires_at": new.expires_at.map(rfc3339),
        "delay_ms": u64::try_from(new.delay.as_millis()).unwrap_or(u64::MAX),
        "redact": new.redact,
        "account": new.account,
    })
}

fn list(config: &Config, now: WallUs) -> Result<Value, CliError> {
    match Reach::find(config)? {
        Reach::Service(client) => client.whole_list("/admin/v1/keys", "keys"),
        Reach::Store(store) => {
            let keys = store.load_keys().map_err(refused)?;
            Ok(json!({"keys": keys.iter().map(|key| key_json(key, now)).collect::<Vec<_>>()}))
        }
    }
}

fn show(id: i64, config: &Config, now: WallUs) -> Result<Value, CliError> {
    match Reach::find(config)? {
        Reach::Service(client) => client.request("GET", &format!("/admin/v1/keys/{id}"), None),
        Reach::Store(store) => Ok(key_json(&store.key(KeyId(id)).map_err(refused)?, now)),
    }
}

fn set_expiry(args: &SetExpiryArgs, config: &Config, now: WallUs) -> Result<Value, CliError> {
    let End { expires_in, at, never } = &args.end;
    let end = if *never { None } else { at.or_else(|| expires_in.map(|duration| after(now, duration))) };
    match Reach::find(config)? {
        Reach::Service(client) => {
            let target = format!("/admin/v1/keys/{}", args.id);
            client.request("PATCH", &target, Some(&json!({"expires_at": end.map(rfc3339)})))
        }
        Reach::Store(mut store) => {
            Ok(key_json(&store.set_key_expiry(KeyId(args.id), end).map_err(refused)?, now))
        }
    }
}

fn revoke(id: i64, config: &Config, now: WallUs) -> Result<Value, CliError> {
    match Reach::find(config)? {
        Reach::Service(client) => client.request("POST", &format!("/admin/v1/keys/{id}/revoke"), None),
        Reach::Store(mut store) => Ok(key_json(&store.revoke_key(KeyId(id), now).map_err(refused)?, now)),
    }
}

/// A list as a table, one key as lines, the text of a new key first and alone.
fn for_people(answer: &Value) -> String {
    let mut out = String::new();
    if let Some(keys) = answer.get("keys").and_then(Value::as_array) {
        if keys.is_empty() {
            return "no keys; make one with `tocsin keys create`\n".to_owned();
        }
        out.push_str(&row(["ID", "STATE", "TIER", "CONNECTIONS", "EXPIRES", "CEX", "LABEL"]));
        for key in keys {
            let cells = ["id", "state", "tier", "max_connections", "expires_at", "allowed_cex", "label"];
            let cells = cells.map(|name| cell(key, name));
            out.push_str(&row(cells.each_ref().map(String::as_str)));
        }
        return out;
    }
    if let Some(text) = answer.get("key").and_then(Value::as_str) {
        out.push_str(text);
        out.push_str("\n\nKeep it: it is shown this once.\n\n");
    }
    let fields = [
        "id",
        "state",
        "label",
        "tier",
        "max_connections",
        "allowed_cex",
        "created_at",
        "expires_at",
        "revoked_at",
        "delay_ms",
        "redact",
        "account",
    ];
    for name in fields {
        out.push_str(format!("{name:<16} {}", cell(answer, name)).trim_end());
        out.push('\n');
    }
    out
}

fn row(cells: [&str; 7]) -> String {
    let [id, state, tier, connections, expires, cex, label] = cells;
    let line = format!("{id:<6} {state:<8} {tier:<10} {connections:<11} {expires:<28} {cex:<24} {label}");
    format!("{}\n", line.trim_end())
}

fn cell(key: &Value, name: &str) -> String {
    match key.get(name) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}
