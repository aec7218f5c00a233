//! `tocsin inject`: a manual alert through the whole path of the running service.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};
use tocsin_core::model::{Exchange, ListingType};

use super::CliError;
use super::client::AdminClient;
use crate::config::Config;

/// What to announce.
#[derive(Args, Debug)]
pub struct InjectArgs {
    /// Exchange that is said to publish it (binance, upbit, bithumb, ...).
    #[arg(long, value_parser = parse_exchange)]
    exchange: Exchange,
    /// Title, classified like any other.
    #[arg(long)]
    title: String,
    /// Listing type instead of the classifier's.
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_type)]
    listing_type: Option<ListingType>,
    /// Tickers instead of the classifier's; may be repeated or comma separated.
    #[arg(long = "ticker", value_name = "SYMBOL", value_delimiter = ',')]
    tickers: Vec<String>,
    /// As one JSON object: the announcement as it went out, all fields.
    #[arg(long)]
    json: bool,
}

fn parse_exchange(text: &str) -> Result<Exchange, String> {
    Exchange::parse(text).ok_or_else(|| format!("one of {}", Exchange::ALL.map(Exchange::name).join(", ")))
}

fn parse_type(text: &str) -> Result<ListingType, String> {
    ListingType::parse(text)
        .ok_or_else(|| format!("one of {}", ListingType::ALL.map(ListingType::name).join(", ")))
}

/// Runs it.
///
/// # Errors
/// No service runs, or it refuses.
pub fn run(args: &InjectArgs, config: &Config) -> Result<ExitCode, CliError> {
    let Some(client) = AdminClient::connect(&config.admin.socket)? else {
        return Err(CliError::failed(format!(
            "no service is running: nobody listens on admin.socket = {}; start it with `tocsin serve`",
            config.admin.socket.display()
        )));
    };
    let answer = client.request("POST", "/admin/v1/announcements", Some(&body(args)))?;
    let text = if args.json { answer.to_string() } else { for_people(&answer) };
    super::print(&format!("{text}\n"))
}

fn body(args: &InjectArgs) -> Value {
    let tickers = (!args.tickers.is_empty()).then_some(&args.tickers);
    json!({
        "exchange": args.exchange.name(),
        "title": args.title,
        "listing_type": args.listing_type.map(ListingType::name),
        "tickers": tickers,
    })
}

fn for_people(answer: &Value) -> String {
    let text = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default();
    let number = |name: &str| answer.get(name).and_then(Value::as_i64);
    let position = format!("{}:{}", number("epoch").unwrap_or_default(), number("seq").unwrap_or_default());
    let how = match (number("dispatchTimestampUs"), number("detectedTimestampUs")) {
        (Some(dispatch), Some(detected)) => format!("sent {} µs after detection", dispatch - detected),
        _ => "not sent yet".to_owned(),
    };
    format!("{position} {} {} [{}]: {how}", text("publisher"), text("listingType"), text("ticker"))
}
