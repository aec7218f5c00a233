//! Measures the feed with a crowd of idle subscribers: resident memory of each, and the time from
//! `dispatchTimestampUs` until the first, the median and the last of them has an announcement.
//!
//! `cargo run --release --example fanout -- --subscribers 5000 [--tls] [--announcements 50] [--json]`
//! starts an engine of its own (this program again, as `tocsin serve`, in a process of its own). With
//! `--url ws://127.0.0.1:9201 --key-file FILE --admin-socket FILE` it takes one that runs on this
//! machine; its key must allow the connections, and `feed.limits.exempt` must name this address.
//!
//! What it shows holds for this machine and this moment: crowd and engine share its cores, and
//! receive times include the crowd's own turn (it reads one subscriber after the other). The engine's
//! own numbers (`engine`, by its counters, rounded up to its buckets) do not have that part.

#![allow(clippy::expect_used, reason = "a tool that cannot go on says why and ends")]

#[path = "../tests/harness/crowd.rs"]
mod crowd;

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::{Value, json};
use tocsin::cli::client::AdminClient;
use tocsin::net::ws_client::WsUrl;

use crowd::{Crowd, memory_of, number_of};

/// From the last welcome to reading the memory: allocators give back late.
const SETTLE: Duration = Duration::from_secs(3);

/// Measures memory of idle subscribers and fan-out times.
#[derive(Parser)]
struct Args {
    /// How many connect.
    #[arg(long, default_value_t = 1_000)]
    subscribers: usize,
    /// How many announcements are sent.
    #[arg(long, default_value_t = 50)]
    announcements: usize,
    /// Time between two announcements, in milliseconds.
    #[arg(long, default_value_t = 200)]
    interval_ms: u64,
    /// Over TLS (own engine).
    #[arg(long)]
    tls: bool,
    /// Writer threads (own engine).
    #[arg(long, default_value_t = 1)]
    writers: u8,
    /// How idle threads wait (own engine): spin, adaptive or block.
    #[arg(long, default_value = "adaptive")]
    idle: String,
    /// A running feed instead of an own engine: ws://HOST:PORT or wss://HOST:PORT.
    #[arg(long, requires = "key_file", requires = "admin_socket")]
    url: Option<String>,
    /// File that holds the API key for --url.
    #[arg(long)]
    key_file: Option<PathBuf>,
    /// The admin socket of the engine at --url.
    #[arg(long)]
    admin_socket: Option<PathBuf>,
    /// Only the JSON.
    #[arg(long)]
    json: bool,
}

type Outcome<T> = Result<T, Box<dyn Error>>;

/// The engine under measurement.
struct Target {
    address: SocketAddr,
    tls: bool,
    key: String,
    admin_socket: PathBuf,
    pid: u32,
    /// Ended when dropped.
    own: Option<(Child, tempfile::TempDir)>,
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.own {
            // Whatever fails here, the process ends with this one's pipes.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("serve") {
        return tocsin::cli::main();
    }
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fanout: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Outcome<()> {
    let limit = tocsin::os::memory::raise_descriptor_limit()?;
    if limit < args.subscribers as u64 + 256 {
        return Err(format!("{limit} descriptors are too few; raise `ulimit -n`").into());
    }
    let target = if args.url.is_some() { running(args)? } else { start(args)? };
    let mut crowd = Crowd::new(target.address, &target.key, target.tls)?;
    let before = memory_of(target.pid, "VmRSS")?;
    let from = Instant::now();
    crowd.connect(args.subscribers, "", Duration::from_secs(300))?;
    let connecting = from.elapsed();
    crowd.listen(Instant::now() + SETTLE, |_| {}, || false)?;
    let idle = memory_of(target.pid, "VmRSS")?;
    let times = measure(args, &target, &mut crowd)?;
    let report = json!({
        "machine": machine(),
        "subscribers": args.subscribers,
        "tls": target.tls,
        "writers": args.writers,
        "idle": args.idle,
        "announcements": args.announcements,
        "connecting_ms": connecting.as_millis() as u64,
        "memory": {
            "before_bytes": before,
            "idle_bytes": idle,
            "per_subscriber_bytes": idle.saturating_sub(before) / args.subscribers.max(1) as u64,
            "after_announcements_bytes": memory_of(target.pid, "VmRSS")?,
            "peak_bytes": memory_of(target.pid, "VmHWM")?,
        },
        "receive_us": times,
        "engine": admin(&target.admin_socket, "GET", "/admin/v1/status", None)?.get("feed"),
    });
    if !args.json {
        print_for_people(&report);
    }
    println!("{report}");
    Ok(())
}

fn running(args: &Args) -> Outcome<Target> {
    let url = WsUrl::parse(args.url.as_deref().unwrap_or_default()).map_err(|e| e.to_string())?;
    let server = &url.server;
    let address = (&*server.host, server.port).to_socket_addrs()?.next().ok_or("the host has no address")?;
    let key_file = args.key_file.as_ref().ok_or("--key-file is needed")?;
    let admin_socket = args.admin_socket.clone().ok_or("--admin-socket is needed")?;
    let peer = std::os::unix::net::UnixStream::connect(&admin_socket)?;
    let pid = rustix::net::sockopt::socket_peercred(&peer)?.pid.as_raw_nonzero().get();
    let key = std::fs::read_to_string(key_file)?.trim().to_owned();
    Ok(Target { address, tls: server.tls, key, admin_socket, pid: u32::try_from(pid)?, own: None })
}

fn start(args: &Args) -> Outcome<Target> {
    let dir = tempfile::tempdir()?;
    let config = dir.path().join("tocsin.toml");
    let data = dir.path().join("data");
    std::fs::write(
        &config,
        format!(
            "data_dir = {data:?}\n[feed]\nlisten = \"127.0.0.1:0\"\ntls = {}\nwriters = {}\n\
             max_connections = {}\n[feed.limits]\nexempt = [\"127.0.0.0/8\"]\n\
             [admin]\nlisten = \"\"\n[topology]\nidle = {:?}\n[sources]\n\
             binance = {{ enabled = false }}\nupbit = {{ enabled = false }}\n\
             bithumb = {{ enabled = false }}\n",
            args.tls,
            args.writers,
            args.subscribers.max(1_024),
            args.idle,
        ),
    )?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["serve", "--json", "--config"])
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("no pipe")?).read_line(&mut line)?;
    let pid = child.id();
    let own = Some((child, dir));
    let ready: Value = serde_json::from_str(&line).map_err(|e| format!("the engine did not start: {e}"))?;
    let address = ready.get("feed").and_then(Value::as_str).ok_or("no address of the feed")?.parse()?;
    let admin_socket = data.join("admin.sock");
    let new = json!({"tier": "premium", "max_connections": args.subscribers.max(1), "allowed_cex": "*"});
    let made = admin(&admin_socket, "POST", "/admin/v1/keys", Some(&new))?;
    let key = made.get("key").and_then(Value::as_str).ok_or("no key")?.to_owned();
    Ok(Target { address, tls: args.tls, key, admin_socket, pid, own })
}

fn admin(socket: &Path, method: &str, target: &str, body: Option<&Value>) -> Outcome<Value> {
    let client = AdminClient::connect(socket).map_err(|e| e.to_string())?;
    let client = client.ok_or_else(|| format!("nobody listens on {}", socket.display()))?;
    Ok(client.request(method, target, body).map_err(|e| e.to_string())?)
}

fn title(number: usize) -> String {
    format!("Binance Will List Measured Token {number:06} (MT{number:06})")
}

/// Sends the announcements and returns quantiles over them of the first, median and last receive time.
fn measure(args: &Args, target: &Target, crowd: &mut Crowd) -> Outcome<Value> {
    let (mut first, mut median, mut last) = (Vec::new(), Vec::new(), Vec::new());
    let mut bells = Vec::with_capacity(args.subscribers);
    for number in 0..args.announcements {
        bells.clear();
        let body = json!({"exchange": "binance", "title": title(number)});
        let socket = target.admin_socket.clone();
        // In a thread of its own: the answer comes after the fan-out, which the crowd must read.
        let sender = std::thread::spawn(move || {
            admin(&socket, "POST", "/admin/v1/announcements", Some(&body)).map_err(|e| e.to_string())
        });
        let expected = title(number);
        let goal = args.subscribers;
        let count = std::cell::Cell::new(0);
        let complete = crowd.listen(
            Instant::now() + Duration::from_secs(60),
            |message| {
                if message.json.windows(expected.len()).any(|w| w == expected.as_bytes()) {
                    let sent = number_of(message.json, "dispatchTimestampUs").unwrap_or(0);
                    bells.push((message.at.0 - sent).max(0));
                    count.set(count.get() + 1);
                }
            },
            || count.get() >= goal,
        )?;
        sender.join().map_err(|_| "the injecting thread panicked")??;
        if !complete {
            return Err(format!("announcement {number} reached {} of {goal}", bells.len()).into());
        }
        bells.sort_unstable();
        first.push(quantile(&bells, 0));
        median.push(quantile(&bells, 500));
        last.push(quantile(&bells, 1_000));
        crowd.listen(Instant::now() + Duration::from_millis(args.interval_ms), |_| {}, || false)?;
    }
    let of = |values: &mut Vec<i64>| {
        values.sort_unstable();
        json!({"p50": quantile(values, 500), "p99": quantile(values, 990), "max": quantile(values, 1_000)})
    };
    Ok(json!({"first": of(&mut first), "median": of(&mut median), "last": of(&mut last)}))
}

/// The value below or at which so many thousandths of `sorted` lie.
fn quantile(sorted: &[i64], permille: usize) -> i64 {
    let at = (sorted.len() * permille).div_ceil(1_000).saturating_sub(1);
    sorted.get(at).copied().unwrap_or(0)
}

fn machine() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": ").map(|(_, m)| m));
    json!({
        "cpu": model,
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "load": read("/proc/loadavg").split(' ').next(),
        "commit": env!("TOCSIN_COMMIT"),
        "optimised": !cfg!(debug_assertions),
    })
}

fn print_for_people(report: &Value) {
    let at = |path: &str| match report.pointer(path) {
        Some(Value::String(text)) => text.clone(),
        other => other.map(Value::to_string).unwrap_or_default(),
    };
    let mut out = std::io::stdout().lock();
    let mut line = |text: String| writeln!(out, "{text}").expect("writing to stdout");
    line(format!(
        "{} subscribers, {}, {} writer(s), idle = {}, commit {}, {}",
        at("/subscribers"),
        if at("/tls") == "true" { "TLS" } else { "plain" },
        at("/writers"),
        at("/idle"),
        at("/machine/commit"),
        if at("/machine/optimised") == "true" { "release build" } else { "DEBUG BUILD" },
    ));
    line(format!(
        "{} cores ({}), Linux {}, load {}: crowd and engine share the cores, so times are noisy",
        at("/machine/cores"),
        at("/machine/cpu"),
        at("/machine/kernel"),
        at("/machine/load"),
    ));
    line(format!(
        "memory: {} bytes an idle subscriber (resident {} before, {} with all, peak {})",
        at("/memory/per_subscriber_bytes"),
        at("/memory/before_bytes"),
        at("/memory/idle_bytes"),
        at("/memory/peak_bytes"),
    ));
    for who in ["first", "median", "last"] {
        let of = |q: &str| at(&format!("/receive_us/{who}/{q}"));
        line(format!(
            "{who:<7} subscriber after dispatch: p50 {} µs, p99 {} µs, max {} µs",
            of("p50"),
            of("p99"),
            of("max")
        ));
    }
}
