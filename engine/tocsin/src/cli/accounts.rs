//! `tocsin accounts`: accounts made, listed, given a plan or a new token.
//!
//! With the service running the change goes through it and takes effect at once; without it, into
//! the store under its lock. Prints the same either way. A token is printed by `create` and
//! `rotate-token` and never again.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tocsin_core::time::WallUs;
use tocsin_core::webhook::endpoint::{Disabled, SavedHealth, State};

use super::client::Reach;
use super::table::{cell, lines, row};
use super::{CliError, refused};
use crate::config::Config;
use crate::control::reply::account_json;
use crate::os::clock;
use crate::store::Store;
use crate::store::webhook::accounts::{AccountId, NewAccount};

/// What to do with accounts.
#[derive(Debug, Subcommand)]
pub enum AccountsVerb {
    /// Make an account and print its token: the only time it is shown.
    Create(CreateArgs),
    /// List all accounts.
    List {
        /// As one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Show one account.
    Show(OneAccount),
    /// Change an account's plan; one without webhooks switches its endpoints off.
    SetPlan {
        /// Which account.
        #[command(flatten)]
        account: OneAccount,
        /// Name of the plan; `webhooks.plans` says which have webhooks.
        plan: String,
    },
    /// Draw an account a new token and print it; the old one is refused from now on.
    RotateToken(OneAccount),
}

/// One account by its number.
#[derive(Args, Debug)]
pub struct OneAccount {
    /// Number of the account, as `accounts list` shows it.
    #[arg(value_parser = clap::value_parser!(i64).range(1..))]
    id: i64,
    /// As one JSON object.
    #[arg(long)]
    json: bool,
}

/// Properties of a new account.
#[derive(Args, Debug)]
pub struct CreateArgs {
    /// Whose it is, for people.
    #[arg(long)]
    name: String,
    /// Where its mail goes; nowhere when not given.
    #[arg(long, default_value = "", hide_default_value = true)]
    email: String,
    /// Name of its plan; `webhooks.plans` says which have webhooks.
    #[arg(long)]
    plan: String,
    /// As one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs it.
///
/// # Errors
/// What the store or the service refuses.
pub fn run(verb: &AccountsVerb, config: &Config) -> Result<ExitCode, CliError> {
    let now = clock::wall();
    let (answer, json) = match verb {
        AccountsVerb::Create(args) => (create(args, config, now)?, args.json),
        AccountsVerb::List { json } => (list(config, now)?, *json),
        AccountsVerb::Show(OneAccount { id, json }) => (show(*id, config, now)?, *json),
        AccountsVerb::SetPlan { account, plan } => (set_plan(account.id, plan, config, now)?, account.json),
        AccountsVerb::RotateToken(OneAccount { id, json }) => (rotate_token(*id, config, now)?, *json),
    };
    super::print(&if json { format!("{answer}\n") } else { for_people(&answer) })
}

/// `shown` with one more field.
fn with(mut shown: Value, name: &str, value: impl Into<Value>) -> Value {
    if let Value::Object(fields) = &mut shown {
        fields.insert(name.to_owned(), value.into());
    }
    shown
}

fn create(args: &CreateArgs, config: &Config, now: WallUs) -> Result<Value, CliError> {
    let CreateArgs { name, email, plan, .. } = args;
    match Reach::find(config)? {
        Reach::Service(client) => {
            let body = json!({"name": name, "email": email, "plan": plan});
            client.request("POST", "/admin/v1/accounts", Some(&body))
        }
        Reach::Store(mut store) => {
            let new = NewAccount { name: name.clone(), email: email.clone(), plan: plan.clone() };
            let (account, token) = store.create_account(&new, now).map_err(refused)?;
            let shown = account_json(&account, &config.webhooks.plans, now);
            Ok(with(shown, "token", token.reveal()))
        }
    }
}

fn list(config: &Config, now: WallUs) -> Result<Value, CliError> {
    match Reach::find(config)? {
        Reach::Service(client) => client.whole_list("/admin/v1/accounts", "accounts"),
        Reach::Store(store) => {
            let accounts = store.reader().and_then(|reader| reader.accounts()).map_err(refused)?;
            let shown = accounts.iter().map(|account| account_json(account, &config.webhooks.plans, now));
            Ok(json!({"accounts": shown.collect::<Vec<_>>()}))
        }
    }
}

fn show(id: i64, config: &Config, now: WallUs) -> Result<Value, CliError> {
    match Reach::find(config)? {
        Reach::Service(client) => client.request("GET", &format!("/admin/v1/accounts/{id}"), None),
        Reach::Store(store) => {
            let account = store.reader().and_then(|reader| reader.account(AccountId(id))).map_err(refused)?;
            Ok(account_json(&account, &config.webhooks.plans, now))
        }
    }
}

fn set_plan(id: i64, plan: &str, config: &Config, now: WallUs) -> Result<Value, CliError> {
    match Reach::find(config)? {
        Reach::Service(client) => {
            let target = format!("/admin/v1/accounts/{id}");
            client.request("PATCH", &target, Some(&json!({"plan": plan})))
        }
        Reach::Store(mut store) => {
            let account = store.set_plan(AccountId(id), plan).map_err(refused)?;
            let entitled = config.webhooks.plans.contains(&account.plan);
            let disabled = if entitled { 0 } else { disable_all(&mut store, account.id, now)? };
            let shown = account_json(&account, &config.webhooks.plans, now);
            Ok(with(shown, "endpoints_disabled", disabled))
        }
    }
}

/// Switches an account's endpoints off, as the service does when a plan has no webhooks.
fn disable_all(store: &mut Store, account: AccountId, now: WallUs) -> Result<usize, CliError> {
    let endpoints = store.reader().and_then(|reader| reader.endpoints(Some(account))).map_err(refused)?;
    let verified = endpoints.iter().filter(|endpoint| endpoint.health.state.takes_events());
    let mut count = 0;
    for endpoint in verified {
        if !matches!(endpoint.health.state, State::Disabled(Disabled::User | Disabled::Gone)) {
            let state = State::Disabled(Disabled::User);
            let health = SavedHealth { state, since: now, ..endpoint.health };
            store.save_health(endpoint.id, &health, None).map_err(refused)?;
        }
        count += 1;
    }
    Ok(count)
}

fn rotate_token(id: i64, config: &Config, now: WallUs) -> Result<Value, CliError> {
    match Reach::find(config)? {
        Reach::Service(client) => client.request("POST", &format!("/admin/v1/accounts/{id}/token"), None),
        Reach::Store(mut store) => {
            let (account, token) = store.rotate_account_token(AccountId(id)).map_err(refused)?;
            let shown = account_json(&account, &config.webhooks.plans, now);
            Ok(with(shown, "token", token.reveal()))
        }
    }
}

const WIDTHS: [usize; 6] = [6, 14, 9, 28, 32, 0];

/// A list as a table, one account as lines, a new token first and alone.
fn for_people(answer: &Value) -> String {
    if let Some(accounts) = answer.get("accounts").and_then(Value::as_array) {
        if accounts.is_empty() {
            return "no accounts; make one with `tocsin accounts create`\n".to_owned();
        }
        let mut out = row(&["ID", "PLAN", "WEBHOOKS", "CREATED", "EMAIL", "NAME"], &WIDTHS);
        for account in accounts {
            let names = ["id", "plan", "webhooks", "created_at", "email", "name"];
            out.push_str(&row(&names.map(|name| cell(account, name)), &WIDTHS));
        }
        return out;
    }
    let mut out = String::new();
    if let Some(token) = answer.get("token").and_then(Value::as_str) {
        out.push_str(token);
        out.push_str("\n\nKeep it: it is shown this once.\n\n");
    }
    let names = [
        "id",
        "name",
        "email",
        "plan",
        "webhooks",
        "endpoints_max",
        "tests_left",
        "created_at",
        "endpoints_disabled",
    ];
    out.push_str(&lines(answer, &names));
    out
}
