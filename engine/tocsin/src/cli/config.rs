//! `tocsin config show|default|openapi|metrics`.

use std::process::ExitCode;

use clap::Subcommand;

use super::CliError;
use crate::config::{Config, DEFAULT_TOML, Layers};

/// What to show.
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Print every key with the value in force and where it came from.
    Show {
        /// As one JSON object: key to `{"value","origin"}`.
        #[arg(long)]
        json: bool,
    },
    /// Print the compiled-in defaults: every key, explained.
    Default,
    /// Print the OpenAPI document of the HTTP API, as the service serves it at /openapi.json.
    Openapi,
    /// Print the page on metrics, docs/metrics.md.
    Metrics,
}

/// Runs it. `show` also checks the values, so that what it prints is what would run.
///
/// # Errors
/// A value does not fit its key.
pub fn run(verb: &ConfigVerb, layers: &Layers) -> Result<ExitCode, CliError> {
    match verb {
        ConfigVerb::Default => print!("{DEFAULT_TOML}"),
        ConfigVerb::Openapi => print!("{}", crate::control::openapi::text()),
        ConfigVerb::Metrics => print!("{}", crate::control::metrics::page::text()),
        ConfigVerb::Show { json } => {
            Config::from_layers(layers)?;
            if *json {
                let keys = layers.iter().map(|(key, value, origin)| {
                    (key.to_owned(), serde_json::json!({"value": value, "origin": origin.to_string()}))
                });
                println!("{}", serde_json::Value::Object(keys.collect()));
            } else {
                for (key, value, origin) in layers.iter() {
                    println!("{:<50} # {origin}", format!("{key} = {value}"));
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
