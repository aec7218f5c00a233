//! Measures good webhook endpoints beside hung ones.
//!
//! `cargo run --release --example webhooks -- isolation --endpoints 100 --hung 1000`
//!
//! Latency, throughput and recovery are measured by the harness: `tocsin-bench webhook`.
//!
//! It starts engines of its own (this program again, as `tocsin serve`, in processes of their own) and
//! simulated receivers in this process, over real TLS on loopback. Times are the engine's own stamps:
//! from `detectedTimestampUs` of the announcement to `X-CEXPing-Sent-At` of each request, taken right
//! before it is signed and written. Receivers and engine share the cores of this machine.

#![allow(clippy::expect_used, reason = "a tool that cannot go on says why and ends")]

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use serde_json::{Value, json};
use tocsin::cli::client::AdminClient;
use tocsin::os::clock;
use tocsin::store::Store;
use tocsin::store::webhook::accounts::NewAccount;
use tocsin::store::webhook::endpoints::NewEndpoint;
use tocsin::store::webhook::secrets::MasterKey;
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::endpoint::{SavedHealth, State};
use tocsin_core::webhook::filter::EventFilter;
use tocsin_sim::receiver::{Behaviour, Greeting, ReceiverOptions, SimReceiver};

/// Connections are made within this, or something is wrong.
const PATIENCE: Duration = Duration::from_secs(120);
/// Events of one side that make one figure of an interleaved comparison.
const BLOCK: usize = 25;

/// Measures webhooks.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// From an event to the requests of good endpoints, in turn on an engine that has only them and on one with hung ones.
    Isolation {
        #[arg(long, default_value_t = 100)]
        endpoints: usize,
        #[arg(long, default_value_t = 1_000)]
        hung: usize,
        /// How they hang: `tcp` takes connections and never reads, `http` reads requests and never answers.
        #[arg(long, default_value = "tcp")]
        how: String,
        #[arg(long, default_value_t = 300)]
        events: usize,
        #[arg(long, default_value_t = 100)]
        interval_ms: u64,
        /// Engines on the first core, receivers and this program on the others.
        #[arg(long)]
        pin: bool,
    },
    /// Hangs, for `isolation`.
    #[command(hide = true)]
    Hang {
        #[arg(long)]
        how: String,
    },
}

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("serve") {
        return tocsin::cli::main();
    }
    match run(&Args::parse()) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("webhooks: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Outcome<Value> {
    tocsin::os::memory::raise_descriptor_limit()?;
    match args.what {
        What::Isolation { endpoints, hung, ref how, events, interval_ms, pin } => {
            isolation(endpoints, hung, how, events, interval_ms, pin)
        }
        What::Hang { ref how } => hang(how),
    }
}

/// A data directory with endpoints, and the engine on it.
struct Target {
    dir: tempfile::TempDir,
    child: Option<Child>,
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Whatever fails here, the process ends with this one's pipes.
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Ok(place) = tocsin::store::shm::Place::new(&self.data()) {
            place.clear();
            place.clear_outcomes();
        }
    }
}

impl Target {
    fn prepare(ca_pem: &str) -> Outcome<Target> {
        let dir = tempfile::tempdir()?;
        let (config, data, ca) =
            (dir.path().join("tocsin.toml"), dir.path().join("data"), dir.path().join("ca.pem"));
        std::fs::write(&ca, ca_pem)?;
        std::fs::write(
            config,
            format!(
                "data_dir = {data:?}\n[feed]\nlisten = \"127.0.0.1:0\"\ntls = false\n[admin]\nlisten = \"\"\n\
                 [topology]\nidle = \"block\"\n[sources]\nbinance = {{ enabled = false }}\n\
                 upbit = {{ enabled = false }}\nbithumb = {{ enabled = false }}\n\
                 [egress]\nallow_nets = [\"127.0.0.0/8\"]\nca_file = {ca:?}\nresolvers = [\"127.0.0.1:9\"]\n\
                 [log]\nlevel = \"error\"\n"
            ),
        )?;
        Ok(Target { dir, child: None })
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn socket(&self) -> PathBuf {
        self.data().join("admin.sock")
    }

    /// Stores endpoints as if they had been verified: five an account.
    fn fill(&self, urls: &[String], state: State) -> Outcome<Vec<EndpointId>> {
        let mut store = Store::open(&self.data())?;
        let master = store.master_key()?;
        let now = clock::wall();
        let mut ids = Vec::new();
        for five in urls.chunks(5) {
            let new = NewAccount { name: "bench".into(), email: String::new(), plan: "phantom".into() };
            let (account, _) = store.create_account(&new, now)?;
            for url in five {
                let new = NewEndpoint {
                    account: account.id,
                    label: String::new(),
                    url: url.clone(),
                    filter: EventFilter::default(),
                };
                let seal = &mut |id| master.seal(id, &MasterKey::draw_secret()?);
                let record = store.create_endpoint(&new, now, seal)?;
                let health = SavedHealth { state, since: now, failures: 0, slow: false };
                store.save_health(record.id, &health, Some(now))?;
                ids.push(record.id);
            }
        }
        Ok(ids)
    }

    /// Starts the engine; how long until it was ready.
    fn start(&mut self) -> Outcome<Duration> {
        let from = Instant::now();
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", "--json", "--config"])
            .arg(self.dir.path().join("tocsin.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no pipe")?).read_line(&mut line)?;
        self.child = Some(child);
        serde_json::from_str::<Value>(&line).map_err(|e| format!("the engine did not start: {e}"))?;
        Ok(from.elapsed())
    }

    fn admin(&self, method: &str, target: &str, body: Option<&Value>) -> Outcome<Value> {
        let client = AdminClient::connect(&self.socket()).map_err(|e| e.to_string())?;
        let client = client.ok_or("the engine has gone")?;
        Ok(client.request(method, target, body).map_err(|e| e.to_string())?)
    }

    fn webhooks(&self, field: &str) -> Outcome<u64> {
        let status = self.admin("GET", "/admin/v1/status", None)?;
        Ok(status.pointer(&format!("/webhooks/{field}")).and_then(Value::as_u64).unwrap_or_default())
    }

    fn warm(&self, connections: usize) -> Outcome<()> {
        let end = Instant::now() + PATIENCE;
        while self.webhooks("connections")? < connections as u64 {
            if Instant::now() > end {
                return Err(format!("only {} connections", self.webhooks("connections")?).into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        // The last handshakes are done and nothing is under way.
        std::thread::sleep(Duration::from_millis(500));
        Ok(())
    }

    /// Announces a listing of `tickers` new tickers; when it was detected.
    fn announce(&self, number: usize, tickers: usize) -> Outcome<i64> {
        let names: Vec<String> = (0..tickers).map(|n| format!("B{number}X{n}")).collect();
        let body = json!({
            "exchange": "binance", "title": format!("Binance Will List Coin {number}"),
            "listing_type": "spot_listing", "tickers": names,
        });
        let answer = self.admin("POST", "/admin/v1/announcements", Some(&body))?;
        let at = answer.get("detectedTimestampUs").and_then(Value::as_i64);
        Ok(at.ok_or("no time of detection")?)
    }
}

fn receiver() -> Outcome<SimReceiver> {
    let options = ReceiverOptions { connections: 32_768, ..ReceiverOptions::default() };
    Ok(SimReceiver::start(options)?)
}

fn urls(receiver: &SimReceiver, stem: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| receiver.url(&format!("/{stem}{n}"))).collect()
}

/// Announces once and collects the delays of the requests whose path begins with `stem`.
fn one_event(
    target: &Target,
    receiver: &SimReceiver,
    stem: &str,
    count: usize,
    number: usize,
) -> Outcome<Vec<i64>> {
    let _ = receiver.take();
    let detected = target.announce(number, 1)?;
    let mut delays = Vec::with_capacity(count);
    let end = Instant::now() + Duration::from_secs(20);
    while delays.len() < count {
        if Instant::now() > end {
            return Err(format!("{} of {count} requests came", delays.len()).into());
        }
        for received in receiver.take() {
            let is_event = received.event_type().as_deref() != Some("ping");
            if received.path().starts_with(stem) && is_event && received.attempt() == Some(1) {
                delays.extend(received.sent_at().map(|at| at.0 - detected));
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    delays.sort_unstable();
    Ok(delays)
}

/// Nearest rank.
fn quantile(sorted: &[i64], per_mille: usize) -> i64 {
    let rank = (sorted.len() * per_mille).div_ceil(1_000).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

fn summary(mut values: Vec<i64>) -> Value {
    values.sort_unstable();
    json!({
        "count": values.len(), "p50": quantile(&values, 500), "p90": quantile(&values, 900),
        "p99": quantile(&values, 990), "max": quantile(&values, 1_000),
    })
}

/// The calling thread, and what it starts, on these cores only.
fn keep_to(cores: impl Iterator<Item = usize>) -> Outcome<()> {
    let mut set = rustix::thread::CpuSet::new();
    cores.for_each(|core| set.set(core));
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

fn isolation(
    endpoints: usize,
    hung: usize,
    how: &str,
    events: usize,
    interval_ms: u64,
    pin: bool,
) -> Outcome<Value> {
    let cores = std::thread::available_parallelism()?.get();
    let of_engine = |engine: bool| match (pin, engine) {
        (false, _) => keep_to(0..cores),
        (true, true) => keep_to(0..1),
        (true, false) => keep_to(1..cores),
    };
    of_engine(false)?;
    let receiver = receiver()?;
    let never = Hanging::start(how)?;
    let trusted = receiver.ca().pem().to_owned() + &never.ca;
    let mut alone = Target::prepare(&trusted)?;
    let mut beside = Target::prepare(&trusted)?;
    alone.fill(&urls(&receiver, "alone", endpoints), State::Active)?;
    let mut both = urls(&receiver, "good", endpoints);
    both.extend((0..hung).map(|n| format!("{}/hung{n}", never.url)));
    beside.fill(&both, State::Active)?;
    of_engine(true)?;
    alone.start()?;
    beside.start()?;
    of_engine(false)?;
    alone.warm(2 * endpoints)?;
    beside.warm(2 * (endpoints + hung))?;
    let (mut side_alone, mut side_beside) = (Side::default(), Side::default());
    for number in 0..events {
        side_alone.take(&one_event(&alone, &receiver, "/alone", endpoints, number)?);
        std::thread::sleep(Duration::from_millis(interval_ms));
        side_beside.take(&one_event(&beside, &receiver, "/good", endpoints, number)?);
        std::thread::sleep(Duration::from_millis(interval_ms));
    }
    // Neighbouring blocks of both sides make one ratio of their 99th percentiles.
    let blocks: Vec<_> = side_alone.blocks().zip(side_beside.blocks()).collect();
    let mut ratios: Vec<_> = blocks.iter().map(|(a, b)| *b as f64 / (*a).max(1) as f64).collect();
    ratios.sort_by(f64::total_cmp);
    Ok(json!({
        "good": endpoints, "hung": hung, "how": how, "events": events, "pinned": pin,
        "unit": "us from detection",
        "to_stamp": {"alone": summary(side_alone.stamps), "beside_hung": summary(side_beside.stamps)},
        "to_first_byte": {"alone": summary(side_alone.written), "beside_hung": summary(side_beside.written)},
        "block_p99_ratio": {"median": ratios.get(ratios.len() / 2), "min": ratios.first(), "max": ratios.last()},
        "blocks": blocks,
        "engine_beside": beside.admin("GET", "/admin/v1/status", None)?.get("webhooks"),
    }))
}

/// Receivers that hang, in a process of their own that gives way to everything else: they stand for
/// machines elsewhere, whose work costs this one nothing.
struct Hanging {
    child: Child,
    url: String,
    ca: String,
}

impl Drop for Hanging {
    fn drop(&mut self) {
        // Whatever fails here, the process ends with this one's pipes.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Hanging {
    fn start(how: &str) -> Outcome<Hanging> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["hang", "--how", how])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no pipe")?).read_line(&mut line)?;
        let mut hanging = Hanging { child, url: String::new(), ca: String::new() };
        let said: Value = serde_json::from_str(&line).map_err(|e| format!("nothing hangs: {e}"))?;
        let text = |name| said.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        (hanging.url, hanging.ca) = (text("url"), text("ca"));
        Ok(hanging)
    }
}

/// The other side of [`Hanging`]: until its standard input ends.
fn hang(how: &str) -> Outcome<Value> {
    rustix::process::nice(19)?;
    let greeting = if how == "tcp" { Greeting::NeverRead } else { Greeting::Good };
    let options = ReceiverOptions {
        connections: 32_768,
        greetings: vec![greeting],
        otherwise: Behaviour::silent(),
        ..ReceiverOptions::default()
    };
    let never = SimReceiver::start(options)?;
    println!("{}", json!({"url": never.base_url(), "ca": never.ca().pem()}));
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(Value::Null)
}

/// The delays of one engine.
#[derive(Default)]
struct Side {
    stamps: Vec<i64>,
    /// Until the first byte was with the kernel. A pass writes one request after the other, so the write
    /// of each but the last had returned when the next one was stamped.
    written: Vec<i64>,
    by_event: Vec<Vec<i64>>,
}

impl Side {
    fn take(&mut self, sorted: &[i64]) {
        self.stamps.extend(sorted);
        let written = sorted.get(1..).unwrap_or_default();
        self.written.extend(written);
        self.by_event.push(written.to_vec());
    }

    /// The 99th percentile of every [`BLOCK`] events.
    fn blocks(&self) -> impl Iterator<Item = i64> {
        self.by_event.chunks(BLOCK).map(|block| {
            let mut all = block.concat();
            all.sort_unstable();
            quantile(&all, 990)
        })
    }
}
