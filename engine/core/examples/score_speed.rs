//! How long `ai_score` takes on real titles, their classification at hand: the median, the 99th percentile
//! and the slowest.
//!
//! `cargo run --release -p tocsin-core --example score_speed -- FILE` reads JSON objects with
//! `exchange` and `title`, one a line. Each title is timed on its own, [`ROUNDS`] times in
//! [`REPEATS`] calls; its figure is the best of those rounds, so that what else the machine does is
//! not counted as the title's. It reports, and judges nothing.

#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "a measurement needs a clock")]

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

use tocsin_core::classify::classify;
use tocsin_core::model::{CategoryHint, Exchange};
use tocsin_core::score;

/// Calls in one timing: enough that reading the clock does not show.
const REPEATS: u32 = 20;
/// Timings of each title.
const ROUNDS: usize = 25;

fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1) else {
        eprintln!("usage: score_speed FILE (JSON Lines with exchange and title)");
        return ExitCode::FAILURE;
    };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("{}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    };
    let titles: Vec<(Exchange, String)> = text.lines().filter_map(title_of).collect();
    let mut figures: Vec<(u128, &str)> =
        titles.iter().map(|(exchange, title)| (nanoseconds(*exchange, title), title.as_str())).collect();
    figures.sort_unstable();
    let (Some(median), Some(high), Some(slowest)) =
        (figures.get(figures.len() / 2), figures.get(figures.len() * 99 / 100), figures.last())
    else {
        eprintln!("{}: no titles", path.display());
        return ExitCode::FAILURE;
    };
    println!(
        "{} titles: median {} ns, p99 {} ns, max {} ns ({} bytes: {})",
        figures.len(),
        median.0,
        high.0,
        slowest.0,
        slowest.1.len(),
        slowest.1
    );
    ExitCode::SUCCESS
}

fn title_of(line: &str) -> Option<(Exchange, String)> {
    let row: serde_json::Value = serde_json::from_str(line).ok()?;
    let exchange = Exchange::parse(row.get("exchange")?.as_str()?)?;
    Some((exchange, row.get("title")?.as_str()?.to_owned()))
}

/// Nanoseconds of one call, the best of [`ROUNDS`].
fn nanoseconds(exchange: Exchange, title: &str) -> u128 {
    let said = classify(exchange, title, CategoryHint::None);
    let time = |_| {
        let start = Instant::now();
        for _ in 0..REPEATS {
            black_box(score::of(black_box(exchange), black_box(title), black_box(&said)));
        }
        start.elapsed().as_nanos() / u128::from(REPEATS)
    };
    (0..ROUNDS).map(time).min().unwrap_or(0)
}
