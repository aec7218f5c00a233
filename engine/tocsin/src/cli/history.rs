//! `tocsin history`: announcements as they are on disk, from the running service or the store.

mod export;

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::Value;
use tocsin_core::feed::key::AllowedExchanges;
use tocsin_core::limits;
use tocsin_core::model::{ExchangeSet, FeedPosition, ListingType, ListingTypeSet};
use tocsin_core::time::WallUs;

use super::CliError;
use super::client::Reach;
use super::webhooks::parse_when;
use crate::config::Config;
use crate::control::reply::{history_json, rfc3339};
use crate::store::HistoryQuery;

/// Which announcements.
#[derive(Args, Clone, Debug)]
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
    /// Detected at this instant (2027-01-31T00:00:00Z) or later, or no longer ago than this (2h).
    #[arg(long, value_name = "WHEN", value_parser = parse_when)]
    since: Option<WallUs>,
    /// Detected before this.
    #[arg(long, value_name = "WHEN", value_parser = parse_when)]
    until: Option<WallUs>,
    /// At most this many: 100 when not given; an export (--since, --until, jsonl, csv) is whole then.
    #[arg(long, value_name = "N", value_parser = parse_limit)]
    limit: Option<usize>,
    /// As one JSON object: `{"announcements":[..],"next":..,"gap":null}`.
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// How: lines for people, one JSON object, one JSON object a line, or CSV with a head.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// How announcements are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A line each, for people.
    Text,
    /// As the API has it.
    Json,
    /// A JSON object a line, oldest first.
    Jsonl,
    /// RFC 4180, oldest first.
    Csv,
}

/// Of an export; a page of the API is at most [`limits::HISTORY_QUERY_LIMIT`].
const EXPORT_LIMIT: usize = 100_000_000;
/// Without `--limit`, where it is no export.
const DEFAULT_LIMIT: usize = 100;

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
    let limit = text.parse().ok().filter(|limit| (1..=EXPORT_LIMIT).contains(limit));
    limit.ok_or_else(|| format!("between 1 and {EXPORT_LIMIT}"))
}

/// Runs it.
///
/// # Errors
/// The store or the service cannot be read.
pub fn run(args: &HistoryArgs, config: &Config) -> Result<ExitCode, CliError> {
    if args.is_export() {
        return export::run(args, config);
    }
    if args.limit.is_some_and(|limit| limit > limits::HISTORY_QUERY_LIMIT) {
        let most = limits::HISTORY_QUERY_LIMIT;
        return Err(CliError::usage(format!(
            "--limit: at most {most} here; an export (--format jsonl) takes more"
        )));
    }
    let answer = match Reach::find(config)? {
        Reach::Service(client) => client.request("GET", &target(args), None)?,
        Reach::Store(store) => {
            let page = store.history_page(&query(args)).map_err(CliError::failed)?;
            serde_json::from_slice(&history_json(page, |_| false)).map_err(CliError::failed)?
        }
    };
    super::print(&if args.wants(Format::Json) { format!("{answer}\n") } else { for_people(&answer) })
}

impl HistoryArgs {
    fn wants(&self, format: Format) -> bool {
        self.format == format || format == Format::Json && self.json
    }

    /// Everything there is, page by page, instead of one page.
    fn is_export(&self) -> bool {
        self.since.is_some() || self.until.is_some() || matches!(self.format, Format::Jsonl | Format::Csv)
    }

    fn page(&self) -> usize {
        self.limit.unwrap_or(DEFAULT_LIMIT).min(limits::HISTORY_QUERY_LIMIT)
    }
}

fn query(args: &HistoryArgs) -> HistoryQuery {
    let types = match args.types.as_slice() {
        [] => ListingTypeSet::ALL,
        types => types.iter().fold(ListingTypeSet::EMPTY, |set, t| set.with(*t)),
    };
    let exchanges = args.cex.set();
    HistoryQuery { after: args.after, exchanges, types, detected_until: None, limit: args.page() }
}

/// Names of exchanges and types hold nothing that needs escaping in a query.
fn target(args: &HistoryArgs) -> String {
    let mut target = format!("/v1/announcements?limit={}", args.page());
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
    announcements.into_iter().flatten().map(line_for_people).collect()
}

fn line_for_people(a: &Value) -> String {
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
}
