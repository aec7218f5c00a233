//! `tocsin serve` and `tocsin check`.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::CliError;
use crate::config::{Config, Layers};
use crate::logging;
use crate::net::tls::{ClientTls, ClientTrust, ServerTls};
use crate::net::url::BaseUrl;
use crate::os::cores;
use crate::os::inherited::Inherited;
use crate::serve::{Ended, Engine, Reloader, markets, streams};
use crate::supervise::{Signals, Systemd};
use crate::topology::Plan;
use tocsin_core::source::exchange;

/// Arguments of `tocsin serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Print one JSON object on standard output when ready: addresses and certificate fingerprint.
    #[arg(long)]
    json: bool,
}

/// Arguments of `tocsin check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// As one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the service until a signal asks for its end. `layers` reads the configuration anew.
///
/// # Errors
/// It cannot start, or a thread died.
pub fn serve(args: &ServeArgs, layers: &dyn Fn() -> Result<Layers, CliError>) -> Result<ExitCode, CliError> {
    // Before anything opens a descriptor or starts a thread.
    let inherited = Inherited::take().map_err(CliError::failed)?;
    let in_force = layers()?;
    let config = Config::from_layers(&in_force)?;
    let level = logging::start(&config.log.level, config.log.json).map_err(CliError::usage)?;
    // Before any thread exists, so that none misses them.
    let signals =
        Signals::install().map_err(|e| CliError::failed(format!("installing signal handlers: {e}")))?;
    let mut engine = Engine::start_on(&config, inherited).map_err(CliError::failed)?;
    announce_ready(args, &engine);
    let mut systemd = Systemd::from_environment();
    systemd.ready(&format!("feed on {}", engine.feed));

    let read = || layers().and_then(validated).map_err(|e| e.to_string());
    let set_level = |to: &str| level.set(to);
    let mut reloader = Reloader::new(in_force, &read, &set_level);
    let ended = engine.run(&signals, &mut systemd, |engine| reloader.reload(engine), || false);
    systemd.stopping();
    match ended {
        Ended::Asked => {
            tracing::info!(drain = ?config.feed.drain, "stopping");
            if engine.stop() {
                Ok(ExitCode::SUCCESS)
            } else {
                Err(CliError::failed("a thread ended by a panic"))
            }
        }
        Ended::Died(name) => {
            tracing::error!(thread = name, "ended on its own; stopping the engine");
            engine.stop();
            Err(CliError::failed(format!("thread {name} ended on its own; see the log")))
        }
    }
}

fn announce_ready(args: &ServeArgs, engine: &Engine) {
    let scheme = if engine.fingerprint.is_some() { "wss" } else { "ws" };
    let admin = engine.admin.map(|a| a.to_string());
    tracing::info!(
        feed = %engine.feed, scheme, admin = admin.as_deref().unwrap_or("socket only"),
        socket = %engine.admin_socket.display(), epoch = engine.epoch,
        certificate_sha256 = engine.fingerprint.as_deref().unwrap_or("none"), "ready"
    );
    if args.json {
        let ready = json!({
            "ready": true,
            "url": format!("{scheme}://{}", engine.feed),
            "feed": engine.feed,
            "admin": admin,
            "admin_socket": engine.admin_socket,
            "certificate_sha256": engine.fingerprint,
            "epoch": engine.epoch,
        });
        println!("{ready}");
    } else {
        println!("tocsin: feed on {scheme}://{}", engine.feed);
    }
}

/// Layers whose values, and the files they name, would let the service start.
fn validated(layers: Layers) -> Result<Layers, CliError> {
    check_what_it_names(&Config::from_layers(&layers)?)?;
    Ok(layers)
}

/// Checks the level of the log, certificates, sources, markets and their authorities, credentials.
fn check_what_it_names(config: &Config) -> Result<(), CliError> {
    logging::check_level(&config.log.level).map_err(CliError::usage)?;
    if let (Some(cert), Some(key)) = (&config.feed.cert_file, &config.feed.key_file)
        && (config.feed.tls || config.admin.tls)
    {
        ServerTls::from_pem_files(cert, key)
            .map_err(|e| CliError::usage(format!("feed.cert_file, feed.key_file: {e}")))?;
    }
    for (name, source) in &config.sources {
        if exchange::by_config_name(name).is_none() {
            return Err(CliError::usage(format!("there is no source `{name}`")));
        }
        if let Some(url) = &source.base_url {
            BaseUrl::parse(url).map_err(|e| CliError::usage(format!("sources.{name}.base_url: {e}")))?;
        }
        let trust = ClientTrust { ca_file: source.ca_file.clone(), insecure: false };
        ClientTls::new(&trust).map_err(|e| CliError::usage(format!("sources.{name}.ca_file: {e}")))?;
    }
    markets::check(config).map_err(CliError::usage)?;
    streams::check(config).map_err(CliError::usage)
}

/// Validates the configuration and what it names, without touching the store or a port.
///
/// # Errors
/// The first thing that would keep the service from starting.
pub fn check(args: &CheckArgs, layers: &Layers) -> Result<ExitCode, CliError> {
    let config = Config::from_layers(layers)?;
    check_what_it_names(&config)?;
    let plan = Plan::new(&config);
    let available = cores::available();
    let threads = plan.sources.iter().map(|s| &s.thread).chain(&plan.feeds);
    if let Some((thread, core)) =
        threads.filter_map(|t| Some((t, t.core?))).find(|(_, core)| !available.contains(core))
    {
        let problem = format!("{} is to run on core {core}, which this process may not use", thread.name);
        return Err(CliError::usage(problem));
    }
    if args.json {
        println!("{}", json!({"valid": true, "threads": plan.to_string().lines().collect::<Vec<_>>()}));
    } else {
        print!("{plan}");
        println!("configuration is valid");
    }
    Ok(ExitCode::SUCCESS)
}
