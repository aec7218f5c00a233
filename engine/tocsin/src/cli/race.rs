//! `tocsin race`: of each exchange with several sources, which was first, and how late the others were.

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde_json::{Value, json};
use tocsin_core::time::WallUs;

use super::CliError;
use super::service::{Plain, ask, rows, show};
use super::table::{cell, row};
use crate::config::Config;
use crate::control::reply::rfc3339;

/// Runs it.
///
/// # Errors
/// No service runs.
pub fn run(args: &Plain, config: &Config) -> Result<ExitCode, CliError> {
    let answer = races(&ask(config, "GET", "/admin/v1/sources", None)?);
    show(&answer, args.json, for_people)
}

/// Exchanges that have several sources, by name, each with its sources in the answer's order.
fn races(answer: &Value) -> Value {
    let mut exchanges: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for source in rows(answer, "sources") {
        let name = cell(source, "name");
        let exchange = name.rsplit_once('.').map_or(name.as_str(), |(exchange, _)| exchange);
        let field = |name: &str| source.get(name).cloned().unwrap_or_default();
        let last_win = source.get("last_won_us").and_then(Value::as_i64).map(|us| rfc3339(WallUs(us)));
        exchanges.entry(exchange.to_owned()).or_default().push(json!({
            "source": name,
            "state": field("state"),
            "wins": field("won"),
            "confirmations": field("confirmed"),
            "behind_us": field("behind_us"),
            "last_win": last_win,
        }));
    }
    exchanges.retain(|_, sources| sources.len() > 1);
    let exchanges = exchanges.into_iter();
    let exchanges = exchanges.map(|(exchange, sources)| json!({"exchange": exchange, "sources": sources}));
    json!({ "exchanges": exchanges.collect::<Vec<_>>() })
}

fn for_people(races: &Value) -> String {
    let widths = [12, 18, 8, 6, 10, 10, 10, 10, 0];
    let head = ["EXCHANGE", "SOURCE", "STATE", "WINS", "CONFIRMED", "P50 ms", "P90 ms", "P99 ms", "LAST WIN"];
    let mut out = row(&head, &widths);
    for exchange in rows(races, "exchanges") {
        for source in rows(exchange, "sources") {
            let behind = |name: &str| millis(source.get("behind_us").unwrap_or(&Value::Null), name);
            let [name, state, wins, confirmations, last] =
                ["source", "state", "wins", "confirmations", "last_win"].map(|name| cell(source, name));
            let [p50, p90, p99] = ["p50", "p90", "p99"].map(behind);
            let cells = [cell(exchange, "exchange"), name, state, wins, confirmations, p50, p90, p99, last];
            out.push_str(&row(&cells, &widths));
        }
    }
    if rows(races, "exchanges").next().is_none() {
        out.push_str("no exchange has several sources\n");
    }
    out
}

/// How far behind in milliseconds; a dash where nothing was measured.
fn millis(behind_us: &Value, name: &str) -> String {
    let count = behind_us.get("count").and_then(Value::as_u64).unwrap_or_default();
    match behind_us.get(name).and_then(Value::as_u64).filter(|_| count > 0) {
        Some(us) => format!("{}.{}", us / 1_000, us % 1_000 / 100),
        None => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exchanges_with_several_sources_are_shown() {
        let source = |name: &str, won: u64, count: u64| {
            json!({
                "name": name, "state": "live", "won": won, "confirmed": count, "last_won_us": null,
                "behind_us": {"count": count, "p50": 1_530, "p90": 20_000, "p99": 21_999, "max": 30_000},
            })
        };
        let mut first = source("upbit.stream", 9, 0);
        first["last_won_us"] = json!(1_795_000_000_000_000_i64);
        let answer = json!({"sources": [source("bithumb.api", 0, 0), source("upbit.web", 1, 9), first]});
        let races = races(&answer);
        assert_eq!(races["exchanges"].as_array().map(Vec::len), Some(1));
        assert_eq!(races["exchanges"][0]["sources"][0]["behind_us"]["p90"], 20_000);
        let text = for_people(&races);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["upbit", "upbit.web", "live", "1", "9", "1.5", "20.0", "21.9", "-"]);
        assert_eq!(lines[2][..8], ["upbit", "upbit.stream", "live", "9", "0", "-", "-", "-"]);
        assert!(lines[2][8].starts_with("2026-"), "{text}");
        assert!(for_people(&json!({"exchanges": []})).ends_with("no exchange has several sources\n"));
    }
}
