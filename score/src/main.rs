//! `tocsin-score`: trains the model behind `ai_score`, and measures how good it is on titles held out.
//!
//! Contract: exit code 0 when it is done, 1 when the titles cannot be read or used, 2 for bad arguments.
//! Reports go to standard output, errors to standard error.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tocsin_core::score::fingerprint;
use tocsin_score::{fit, report, titles};

/// Trains and measures the model behind `ai_score` (docs/score.md).
#[derive(Parser)]
#[command(name = "tocsin-score", version)]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Train on all titles and write the model.
    Train {
        /// Labelled titles, JSON Lines.
        #[arg(long, env = "TOCSIN_TITLES")]
        titles: PathBuf,
        /// Where the model goes.
        #[arg(long, default_value = "engine/core/src/score/model.bin")]
        out: PathBuf,
    },
    /// Hold out exchanges and years in turn, train on the rest, and print how the scores did.
    Evaluate {
        /// Labelled titles, JSON Lines.
        #[arg(long, env = "TOCSIN_TITLES")]
        titles: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Args::parse().verb) {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<String, String> {
    let (Verb::Train { titles: path, .. } | Verb::Evaluate { titles: path }) = &verb;
    let named = |error: &dyn core::fmt::Display| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| named(&error))?;
    let titles = titles::read(&text).map_err(|error| named(&error))?;
    match &verb {
        Verb::Evaluate { .. } => report::evaluate(&titles).map(|report| report.text),
        Verb::Train { out, .. } => {
            let all: Vec<&titles::Title> = titles.iter().collect();
            let model = fit::train(fingerprint(text.as_bytes()), &all)?;
            std::fs::write(out, &model).map_err(|error| format!("{}: {error}", out.display()))?;
            Ok(format!("{}: {} bytes, of {} titles", out.display(), model.len(), titles.len()))
        }
    }
}
