//! The command line: one binary, verbs, `--json` on everything that prints.
//!
//! Exit codes: 0 done, 1 could not be done, 2 wrong usage or wrong configuration. Secrets never come
//! in argv. Each verb is a file with its arguments (`clap`) and one `run`; this file knows only
//! which verbs there are.

use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::config::{Config, ConfigError, Layers};
use crate::store::StoreError;

pub mod accounts;
pub mod classify;
pub mod client;
pub mod config;
pub mod demo;
pub mod doctor;
pub mod history;
pub mod inject;
pub mod keys;
pub mod race;
pub mod record;
pub mod replay;
pub mod serve;
pub mod service;
pub mod status;
mod table;
pub mod top;
pub mod watch;
pub mod webhooks;

/// Hears an exchange announce a listing and rings the bell for everyone connected.
#[derive(Debug, Parser)]
#[command(name = "tocsin", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// Configuration file (TOML). Without it the compiled-in defaults apply; see `tocsin config default`.
    #[arg(long, short, global = true, value_name = "FILE", env = "TOCSIN_CONFIG")]
    config: Option<PathBuf>,
    /// Where the store lives, over file and environment.
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// See it work: the whole service against simulated exchanges, until Ctrl-C.
    Demo(demo::DemoArgs),
    /// Run the service.
    Serve(serve::ServeArgs),
    /// Validate the configuration and what it names; print the plan of threads.
    Check(serve::CheckArgs),
    /// Look at the machine: what costs latency or safety, and the exact fix.
    Doctor(doctor::DoctorArgs),
    /// Show the configuration in force, or the defaults with their manual.
    #[command(subcommand)]
    Config(config::ConfigVerb),
    /// Show how the running service is doing.
    Status(status::StatusArgs),
    /// List who is connected to the feed: how far behind, how far away.
    Subscribers(service::SubscribersArgs),
    /// Show the sources: state, polls, budget, failures.
    Sources(service::Plain),
    /// Show which source of an exchange was first, and how late the others were.
    Race(service::Plain),
    /// Print a link that signs in to the dashboard once.
    SignIn(service::SignInArgs),
    /// Have the service read its configuration again, and say what changed.
    Reload(service::Plain),
    /// Take the subscribers off the running service; it goes on otherwise.
    Drain(service::DrainArgs),
    /// Watch the running service: sources, feed, webhooks, threads, announcements.
    Top(top::TopArgs),
    /// Make, list, limit and revoke API keys.
    #[command(subcommand)]
    Keys(keys::KeysVerb),
    /// Make and list accounts, change their plan, renew their token.
    #[command(subcommand)]
    Accounts(accounts::AccountsVerb),
    /// Register, list, test and repair webhook endpoints.
    #[command(subcommand)]
    Webhooks(webhooks::WebhooksVerb),
    /// Show announcements as they are on disk, or export them.
    History(history::HistoryArgs),
    /// Record what exchanges answer and what is announced, without serving anybody.
    Record(record::RecordArgs),
    /// Serve history or a recording again on the feed's own protocol, or detect in it again.
    Replay(replay::ReplayArgs),
    /// Send a manual alert through the running service.
    Inject(inject::InjectArgs),
    /// Say what the classifier makes of titles.
    Classify(classify::ClassifyArgs),
    /// Print announcements as they come, and lose none over a reconnect.
    Watch(watch::WatchArgs),
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Write the man pages, one a verb, into a directory.
    #[command(hide = true)]
    Man {
        /// Made if it is not there.
        dir: PathBuf,
    },
    /// Print the version and what it was built from.
    Version {
        /// As a JSON object.
        #[arg(long)]
        json: bool,
    },
}

/// Why a verb failed, for people, and the exit code.
#[derive(Debug)]
pub struct CliError {
    message: String,
    code: u8,
}

impl CliError {
    /// It could not be done: exit code 1.
    pub fn failed(message: impl fmt::Display) -> CliError {
        CliError { message: message.to_string(), code: 1 }
    }

    /// It was asked for wrongly: exit code 2.
    pub fn usage(message: impl fmt::Display) -> CliError {
        CliError { message: message.to_string(), code: 2 }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> CliError {
        CliError::usage(format!("configuration: {error}"))
    }
}

/// What the store refuses: wrong usage where a value is out of bounds.
fn refused(error: StoreError) -> CliError {
    match error {
        StoreError::Invalid { .. } => CliError::usage(error),
        error => CliError::failed(error),
    }
}

/// Parses the arguments and runs the verb.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tocsin: {error}");
            ExitCode::from(error.code)
        }
    }
}

fn run(cli: &Cli) -> Result<ExitCode, CliError> {
    match &cli.verb {
        Verb::Demo(args) => demo::run(args),
        Verb::Serve(args) => serve::serve(args, &|| cli.layers()),
        Verb::Check(args) => serve::check(args, &cli.layers()?),
        Verb::Doctor(args) => doctor::run(args, &cli.read_config()?),
        Verb::Config(verb) => config::run(verb, &cli.layers()?),
        Verb::Status(args) => status::run(args, &cli.read_config()?),
        Verb::Subscribers(args) => service::subscribers(args, &cli.read_config()?),
        Verb::Sources(args) => service::sources(args, &cli.read_config()?),
        Verb::Race(args) => race::run(args, &cli.read_config()?),
        Verb::SignIn(args) => service::sign_in(args, &cli.read_config()?),
        Verb::Reload(args) => service::reload(args, &cli.read_config()?),
        Verb::Drain(args) => service::drain(args, &cli.read_config()?),
        Verb::Top(args) => top::run(args, &cli.read_config()?),
        Verb::Keys(verb) => keys::run(verb, &cli.read_config()?),
        Verb::Accounts(verb) => accounts::run(verb, &cli.read_config()?),
        Verb::Webhooks(verb) => webhooks::run(verb, &cli.read_config()?),
        Verb::History(args) => history::run(args, &cli.read_config()?),
        Verb::Record(args) => record::run(args, &cli.read_config()?),
        Verb::Replay(args) => replay::run(args, &cli.read_config()?),
        Verb::Inject(args) => inject::run(args, &cli.read_config()?),
        Verb::Classify(args) => Ok(classify::run(args)),
        Verb::Watch(args) => watch::run(args),
        Verb::Completions { shell } => {
            clap_complete::generate(*shell, &mut Cli::command(), "tocsin", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Verb::Man { dir } => man(dir),
        Verb::Version { json } => Ok(version(*json)),
    }
}

impl Cli {
    /// Defaults, file, environment, flags.
    fn layers(&self) -> Result<Layers, CliError> {
        let mut layers = Layers::defaults()?;
        if let Some(file) = &self.config {
            layers = layers.with_file(file)?;
        }
        // A variable that is no UTF-8 cannot name one of our keys.
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name != "TOCSIN_CONFIG");
        layers = layers.with_environment(variables)?;
        if let Some(dir) = &self.data_dir {
            let dir = dir.to_str().ok_or_else(|| CliError::usage("--data-dir is not UTF-8"))?;
            layers = layers.with_flag("--data-dir", "data_dir", dir)?;
        }
        Ok(layers)
    }

    /// The typed configuration.
    fn read_config(&self) -> Result<Config, CliError> {
        Ok(Config::from_layers(&self.layers()?)?)
    }
}

/// Writes `tocsin.1`, `tocsin-keys.1`, `tocsin-keys-create.1` and so on.
fn man(dir: &Path) -> Result<ExitCode, CliError> {
    std::fs::create_dir_all(dir)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), dir))
        .map_err(|e| CliError::failed(format!("{}: {e}", dir.display())))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes what a verb has to say to standard output. A reader that has gone (`| head`) is no failure.
///
/// # Errors
/// Standard output takes nothing.
fn print(text: &str) -> Result<ExitCode, CliError> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(CliError::failed(error)),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn version(json: bool) -> ExitCode {
    let (version, commit) = (env!("CARGO_PKG_VERSION"), env!("TOCSIN_COMMIT"));
    if json {
        println!("{}", serde_json::json!({"name": "tocsin", "version": version, "commit": commit}));
    } else {
        println!("tocsin {version} ({commit})");
    }
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_tree_is_sound() {
        Cli::command().debug_assert();
    }
}
