//! `tocsin demo`: the whole service against simulated exchanges, on a temporary directory, with a
//! client that prints what arrives.
//!
//! Owner: main thread; blocks until Ctrl-C or `--count` announcements. The simulated exchanges are a
//! program of their own (`tocsin-sim`) that ends when its standard input does, so nothing is left
//! running however this process ends.

mod webhook;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Deserialize;
use tocsin_core::feed::key::{AllowedExchanges, Tier};
use tocsin_core::market::spike::SpikeRules;

use super::{CliError, watch};
use crate::config::{Config, Layers};
use crate::logging;
use crate::net::tls;
use crate::os::clock;
use crate::reload::ReloadReport;
use crate::serve::{Ended, Engine};
use crate::store::{NewKey, Store};
use crate::supervise::{Signals, Systemd};

/// How long the simulated exchanges may take to start.
const SIM_PATIENCE: Duration = Duration::from_secs(20);
/// Longer than counters take to be seen.
const COUNTERS_PUBLISHED: Duration = Duration::from_millis(300);
/// The simulated markets live so many times as fast as real ones: a day takes a minute and a half.
const MARKET_SPEED: f64 = 1_000.0;
/// Lists are asked so many times as often, for each time that their market lives faster: volumes then come
/// twice in each slot of theirs.
const ASKED: f64 = 0.4;
/// Requests a second to each simulated exchange: there is no one to bother.
const DEMO_RATE: &str = "20.0";

/// Arguments of `tocsin demo`.
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Where the feed listens; another port is taken if this one is in use.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9201")]
    listen: SocketAddr,
    /// How often the simulated exchanges publish.
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    every: String,
    /// Use exchanges that run already: the JSON file that `tocsin-sim exchange --announce-to` wrote.
    #[arg(long, value_name = "FILE")]
    exchanges: Option<PathBuf>,
    /// Print every message as it came, one a line.
    #[arg(long)]
    json: bool,
    /// End after this many announcements.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

/// What `tocsin-sim` says about itself.
#[derive(Deserialize)]
struct Announced {
    exchanges: BTreeMap<String, Location>,
    #[serde(default)]
    markets: BTreeMap<String, Location>,
    market_speed: Option<f64>,
}

impl Announced {
    /// How long a slot of volumes takes there, and how long it is until a symbol has been watched for long enough
    /// to call anything unusual; `None` where the markets stand still.
    fn spikes(&self) -> Option<(Duration, Duration)> {
        let slot = SpikeRules::default().slot.div_f64(self.market_speed?);
        Some((slot, slot.saturating_mul(SpikeRules::default().warm_up)))
    }
}

#[derive(Deserialize)]
struct Location {
    base_url: String,
    ca_file: Option<PathBuf>,
}

/// The demo's configuration is made, not read.
fn no_reload(_: &mut Engine) -> ReloadReport {
    ReloadReport::invalid("the demo reads no configuration")
}

/// Runs it.
///
/// # Errors
/// `tocsin-sim` is not there or does not start, or the engine cannot start.
pub fn run(args: &DemoArgs) -> Result<ExitCode, CliError> {
    logging::start("warn", false).map_err(CliError::usage)?;
    let signals = Signals::install().map_err(|e| CliError::failed(format!("signal handlers: {e}")))?;
    let dir = Directory::make()?;
    let (announced, _sim) = match &args.exchanges {
        Some(file) => (read_announced(file)?, None),
        None => {
            let sim = Sim::start(&dir.0, &args.every)?;
            (sim.wait_for(&dir.0.join("exchanges.json"))?, Some(sim))
        }
    };
    let mut receiver = webhook::Receiver::start(&dir.0)?;
    let config = configure(args, &dir.0, &announced, &receiver.ca_file)?;
    let key_file = make_key(&config, &dir.0)?;
    let mut engine = Engine::start(&config).map_err(CliError::failed)?;
    let endpoint = receiver.register(&config.admin.socket)?;
    let certificate = config.data_dir.join(tls::GENERATED_CERT);
    if !args.json {
        introduce(&engine, &announced, &key_file, &certificate, &endpoint)?;
        receiver.print_deliveries();
    }
    let watch = watch::WatchArgs::on(&format!("wss://{}", engine.feed), &key_file, &certificate)
        .with_events("market")
        .printing(args.json, args.count);
    let watched = Arc::new(AtomicBool::new(false));
    let done = Arc::clone(&watched);
    let client = std::thread::spawn(move || {
        let outcome = watch::run(&watch);
        done.store(true, Ordering::Release);
        outcome
    });
    let ended =
        engine.run(&signals, &mut Systemd::from_environment(), no_reload, || watched.load(Ordering::Acquire));
    // The threads publish their counters four times a second.
    std::thread::sleep(COUNTERS_PUBLISHED);
    let status = engine.status();
    let proper = engine.stop();
    if !args.json {
        summarize(&status);
    }
    match ended {
        Ended::Died(name) => Err(CliError::failed(format!("thread {name} ended on its own"))),
        Ended::Asked if client.is_finished() => match client.join() {
            Ok(outcome) => outcome,
            Err(_) => Err(CliError::failed("the client ended by a panic")),
        },
        Ended::Asked if proper => Ok(ExitCode::SUCCESS),
        Ended::Asked => Err(CliError::failed("a thread ended by a panic")),
    }
}

/// A temporary directory, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn make() -> Result<Directory, CliError> {
        let path = std::env::temp_dir().join(format!("tocsin-demo-{}", std::process::id()));
        std::fs::create_dir(&path).map_err(|e| CliError::failed(format!("{}: {e}", path.display())))?;
        Ok(Directory(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("tocsin demo: {} was not removed: {error}", self.0.display());
        }
    }
}

/// The simulated exchanges. Its standard input is this process's hold on it.
struct Sim(Child);

impl Sim {
    fn start(dir: &Path, every: &str) -> Result<Sim, CliError> {
        Sim::spawn(|command| {
            command
                .args(["exchange", "--kind", "default", "--until-stdin-ends", "--every", every])
                .args(["--market-speed", &MARKET_SPEED.to_string(), "--ca-out"])
                .arg(dir.join("exchanges-ca.pem"))
                .arg("--announce-to")
                .arg(dir.join("exchanges.json"));
        })
        .map(Sim)
    }

    /// Starts the program that simulates, with these arguments. Its standard output goes nowhere unless
    /// they say otherwise.
    fn spawn(arguments: impl FnOnce(&mut Command)) -> Result<Child, CliError> {
        let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join("tocsin-sim")));
        let program = beside.filter(|path| path.exists()).unwrap_or_else(|| PathBuf::from("tocsin-sim"));
        let mut command = Command::new(&program);
        // Ctrl-C is for the engine; what is simulated ends when its standard input does.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0);
        arguments(&mut command);
        command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => CliError::failed(
                "what is simulated is a program of its own, tocsin-sim, and it is not beside this one: \
                 run ./scripts/demo, or build it with `cargo build --release -p tocsin-sim`",
            ),
            _ => CliError::failed(format!("starting {}: {error}", program.display())),
        })
    }

    fn wait_for(&self, file: &Path) -> Result<Announced, CliError> {
        let from = Instant::now();
        while !file.exists() {
            if from.elapsed() > SIM_PATIENCE {
                return Err(CliError::failed("the simulated exchanges did not start"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        read_announced(file)
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        if let Err(error) = self.0.wait() {
            eprintln!("tocsin demo: the simulated exchanges: {error}");
        }
    }
}

fn read_announced(file: &Path) -> Result<Announced, CliError> {
    let told = |problem: String| CliError::failed(format!("{}: {problem}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|e| told(e.to_string()))?;
    serde_json::from_str(&text).map_err(|e| told(e.to_string()))
}

/// The defaults, but on loopback, in `dir`, and with the simulated exchanges.
fn configure(
    args: &DemoArgs,
    dir: &Path,
    announced: &Announced,
    receiver_ca: &Path,
) -> Result<Config, CliError> {
    let free = TcpListener::bind(args.listen).is_ok();
    let listen = if free { args.listen } else { SocketAddr::new(args.listen.ip(), 0) };
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut layers = Layers::defaults()?;
    let settings = [
        ("data_dir", text(&dir.join("data"))),
        ("feed.listen", listen.to_string()),
        ("feed.drain", "100ms".to_owned()),
        ("feed.max_connections", "1000".to_owned()),
        ("feed.limits.exempt", "[\"127.0.0.0/8\"]".to_owned()),
        ("admin.listen", "127.0.0.1:0".to_owned()),
        ("egress.allow_nets", "[\"127.0.0.0/8\"]".to_owned()),
        ("egress.ca_file", text(receiver_ca)),
    ];
    for (key, value) in settings {
        layers = layers.with_flag("demo", key, &value)?;
    }
    for (name, location) in &announced.exchanges {
        let key = |field: &str| format!("sources.{name}.{field}");
        let ca_file = location.ca_file.as_deref().map(text).unwrap_or_default();
        layers = layers
            .with_flag("demo", &key("base_url"), &location.base_url)?
            .with_flag("demo", &key("ca_file"), &ca_file)?
            .with_flag("demo", &key("flat"), "true")?
            .with_flag("demo", &key("requests_per_second"), DEMO_RATE)?;
    }
    Ok(Config::from_layers(&watch_markets(layers, announced)?)?)
}

/// Switches market watchers on for the simulated markets, and off for all others.
fn watch_markets(mut layers: Layers, announced: &Announced) -> Result<Layers, CliError> {
    for name in Config::from_layers(&layers)?.market.exchanges.keys() {
        let simulated = announced.markets.get(name);
        let key = |field: &str| format!("market.{name}.{field}");
        layers = layers.with_flag("demo", &key("enabled"), &simulated.is_some().to_string())?;
        let Some(location) = simulated else { continue };
        let ca_file = location.ca_file.as_deref().map(|file| file.to_string_lossy().into_owned());
        layers = layers.with_flag("demo", &key("base_url"), &location.base_url)?.with_flag(
            "demo",
            &key("ca_file"),
            &ca_file.unwrap_or_default(),
        )?;
    }
    let asked = (announced.market_speed.unwrap_or(MARKET_SPEED) * ASKED).clamp(1.0, 1_000.0);
    layers = layers
        .with_flag("demo", "market.enabled", &(!announced.markets.is_empty()).to_string())?
        .with_flag("demo", "market.speed", &format!("{asked:?}"))?
        .with_flag("demo", "market.spikes", &announced.spikes().is_some().to_string())?;
    if let Some((slot, _)) = announced.spikes() {
        layers = layers.with_flag("demo", "market.spike_slot", &format!("{}us", slot.as_micros()))?;
    }
    Ok(layers)
}

/// Makes a key before the service starts; its text goes to a file, for the client.
fn make_key(config: &Config, dir: &Path) -> Result<PathBuf, CliError> {
    let new = NewKey {
        label: "demo".to_owned(),
        tier: Tier::Premium,
        max_connections: 100,
        allowed: AllowedExchanges::all(),
        expires_at: None,
        delay: Duration::ZERO,
        redact: false,
        account: None,
    };
    let mut store = Store::open(&config.data_dir).map_err(CliError::failed)?;
    let (_, secret) = store.create_key(&new, clock::wall()).map_err(CliError::failed)?;
    let file = dir.join("key.txt");
    std::fs::write(&file, secret.reveal())
        .map_err(|e| CliError::failed(format!("{}: {e}", file.display())))?;
    Ok(file)
}

fn introduce(
    engine: &Engine,
    announced: &Announced,
    key_file: &Path,
    certificate: &Path,
    registered: &webhook::Registered,
) -> Result<(), CliError> {
    let key = std::fs::read_to_string(key_file).map_err(CliError::failed)?;
    println!("Tocsin demo: everything below runs on this machine and ends with Ctrl-C.\n");
    for (name, location) in &announced.exchanges {
        println!("  simulated {name:<9} {}", location.base_url);
    }
    for (name, location) in &announced.markets {
        println!("  its market {name:<8} {}", location.base_url);
    }
    println!("  feed                wss://{}", engine.feed);
    if let Some(admin) = engine.admin {
        println!("  admin API           http://{admin} (token: <data>/admin.token)");
    }
    let webhook::Registered { url, customer, administrator } = registered;
    println!("  webhook             {url} (registered, verified by a signed ping)");
    println!("  dashboard           {customer}");
    println!("                      (signs a customer in, once: open it, then Webhooks, Send test event)");
    println!("  for administrators  {administrator}");
    println!("  your key            {key}");
    println!("  certificate         {}", certificate.display());
    println!("\nConnect with a client of your own:");
    println!(
        "  tocsin watch --url wss://{} --key-file {} --ca {}",
        engine.feed,
        key_file.display(),
        certificate.display()
    );
    println!("\nThe exchanges publish now; each line is one announcement, as a subscriber got it over TLS,");
    println!("and below it the webhooks that its listings and delistings made:");
    println!("[detect: published to found new; dispatch: to the start of the fan-out; here: to this client]");
    if let Some((_, watched)) = announced.spikes() {
        println!(
            "Lines with \"market\" tell what the exchanges' lists of instruments and volumes told by themselves;"
        );
        println!("a volume spike not before {} s have been watched.", watched.as_secs());
    }
    println!();
    Ok(())
}

fn summarize(status: &serde_json::Value) {
    let number = |path: &str| status.pointer(path).and_then(serde_json::Value::as_u64).unwrap_or_default();
    println!(
        "\n{} announcements; first subscriber's bytes written {} µs after dispatch (median)",
        number("/feed/announcements"),
        number("/feed/fanout_first_ns/p50") / 1_000
    );
    println!(
        "{} webhooks delivered; request written {} µs after the event was found (median), first byte of the \
         answer {} µs later",
        number("/webhooks/delivered"),
        number("/webhooks/first_write_ns/p50") / 1_000,
        number("/webhooks/first_byte_us/p50"),
    );
}
