//! `tocsin history`: announcements as they are on disk, from the running service or the store.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;
use tocsin_core::feed::key::AllowedExchanges;
use tocsin_core::limits;
use tocsin_core::model::{ExchangeSet, FeedPosition, ListingType, ListingTypeSet};
use tocsin_core::time::WallUs;

use super::CliError;
use super::client::Reach;
use crate::config::Config;
use crate::control::reply::{history_json, rfc3339};
use crate::store::HistoryQuery;

/// Which announcements.
#[derive(Args, Debug)]
pub struct HistoryArgs {
    /// Those after this position, oldest first; the newest when not given.
    #[arg(long, value_name = "EPOCH:SEQ", value_parser = parse_position)]
    after: Option<FeedPosition>,
    /// Of these exchanges, comma separated.
    #[arg(long, default_value = "*", value_name = "LIST", value_parser = parse_exchanges)]
    cex: AllowedExchanges,
    /// Of these types (`spot_listing,futures_listing`, ...).
    #[arg(long = "type", value_name = "LIST", value_delimiter = ',', value_parser = parse_type)]
    types: Vec<ListingType>,
    /// At most this many.
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = parse_limit)]
    limit: usize,
    /// As one JSON object: `{"announcements":[..],"next":..,"gap":null}`.
    #[arg(long)]
    json: bool,
}

fn parse_position(text: &str) -> Result<FeedPosition, String> {
    FeedPosition::parse(text).ok_or_else(|| "a position like 3:12".to_owned())
}

fn parse_exchanges(text: &str) -> Result<AllowedExchanges, String> {
    AllowedExchanges::parse(text).map_err(|name| format!("{name:?} is no exchange"))
}

fn parse_type(text: &str) -> Result<ListingType, String> {
    ListingType::parse(text)
        .ok_or_else(|| format!("one of {}", ListingType::ALL.map(ListingType::name).join(", ")))
}

fn parse_limit(text: &str) -> Result<usize, String> {
    let most = limits::HISTORY_QUERY_LIMIT;
    let limit = text.parse().ok().filter(|limit| (1..=most).contains(limit));
    limit.ok_or_else(|| format!("between 1 and {most}"))
}

/// Runs it.
///
/// # Errors
/// The store or the service cannot be read.
pub fn run(args: &HistoryArgs, config: &Config) -> Result<ExitCode, CliError> {
    let answer = match Reach::find(config)? {
        Reach::Service(client) => client.request("GET", &target(args), None)?,
        Reach::Store(store) => {
            let page = store.history_page(&query(args)).map_err(CliError::failed)?;
            serde_json::from_slice(&history_json(page, |_| false)).map_err(CliError::failed)?
        }
    };
    super::print(&if args.json { format!("{answer}\n") } else { for_people(&answer) })
}

fn query(args: &HistoryArgs) -> HistoryQuery {
    let types = match args.types.as_slice() {
        [] => ListingTypeSet::ALL,
        types => types.iter().fold(ListingTypeSet::EMPTY, |set, t| set.with(*t)),
    };
    let exchanges = args.cex.set();
    HistoryQuery { after: args.after, exchanges, types, detected_until: None, limit: args.limit }
}

/// Names of exchanges and types hold nothing that needs escaping in a query.
fn target(args: &HistoryArgs) -> String {
    let mut target = format!("/v1/announcements?limit={}", args.limit);
    if let Some(after) = args.after {
        target.push_str(&format!("&after={after}"));
    }
    target.push_str(&format!("&cex={}", args.cex.effective(ExchangeSet::ALL)));
    if !args.types.is_empty() {
        let names: Vec<_> = args.types.iter().map(|t| t.name()).collect();
        target.push_str(&format!("&type={}", names.join(",")));
    }
    target
}

/// One line each: position, time, exchange, type, tickers, title.
fn for_people(answer: &Value) -> String {
    let announcements = answer.get("announcements").and_then(Value::as_array);
    let lines = announcements.into_iter().flatten().map(|a| {
        let text = |name: &str| a.get(name).and_then(Value::as_str).unwrap_or_default();
        let number = |name: &str| a.get(name).and_then(Value::as_i64).unwrap_or_default();
        // What an exchange wrote may hold control characters; a terminal must not see them.
        let title: String = text("title").chars().filter(|c| !c.is_control()).collect();
        format!(
            "{:<10} {:<27} {:<10} {:<17} {:<12} {title}\n",
            format!("{}:{}", number("epoch"), number("seq")),
            rfc3339(WallUs(number("detectedTimestampUs"))),
            text("publisher"),
            text("listingType"),
            text("ticker"),
        )
    });
    lines.collect()
}
