//! Limits of the process: descriptors, and memory that may be locked.

use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::client::open_tcp;
use crate::harness::{Engine, Mode, wait_for};

/// What accepting rests when descriptors are out, with a little less of it for the clock's sake.
const PAUSE_AT_LEAST: Duration = Duration::from_millis(90);

fn descriptors(engine: &Engine) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", engine.pid())).unwrap().count()
}

/// Sets the soft limit of a running process.
fn allow(engine: &Engine, count: usize) {
    let output = Command::new("prlimit")
        .args(["--pid", &engine.pid().to_string(), &format!("--nofile={count}:")])
        .output()
        .expect("this test needs prlimit: install the package util-linux");
    assert!(output.status.success(), "{output:?}");
}

/// Out of descriptors it closes who knocks, rests between two tries instead of spinning, and serves those it
/// has; with descriptors again it takes everybody.
#[test]
fn out_of_descriptors_accepting_pauses_and_recovers() {
    let engine = Engine::start(Mode::Plain, "[feed.limits]\nexempt = [\"127.0.0.0/8\"]");
    let (key, pid) = (engine.key(), engine.pid());
    let mut witness = engine.connect(&key, "fields=full");
    // The question takes a descriptor, too: there may be no answer.
    let failures = || {
        let output = engine.cli(&["status", "--json"]);
        let status: Option<Value> = serde_json::from_slice(&output.stdout).ok();
        status.and_then(|status| status["accept"]["out_of_descriptors"].as_u64())
    };
    assert_eq!(failures(), Some(0));
    let most = descriptors(&engine) + 6;
    allow(&engine, most);
    let from = Instant::now();
    let knocking: Vec<TcpStream> = (0..60).map(|_| open_tcp(engine.feed, None, None)).collect();
    wait_for("descriptors to run out", || descriptors(&engine) >= most - 1);
    std::thread::sleep(Duration::from_secs(1));
    drop(knocking);
    let mut times = None;
    wait_for("an answer", || {
        times = failures();
        times.is_some()
    });
    // Whether it spins is counted, not timed: the pause after each failure bounds how many there are.
    let bound = from.elapsed().as_millis() / PAUSE_AT_LEAST.as_millis() + 1;
    let times = times.unwrap();
    assert!((1..=bound).contains(&times.into()), "{times} failures to accept in {:?}", from.elapsed());

    engine.inject("binance", "Binance Will List Steady Token (STDY)");
    assert_eq!(witness.json_of("announcement")["seq"], 1);
    allow(&engine, 4_096);
    let mut late: Vec<_> = (0..40).map(|_| engine.connect(&key, "fields=full")).collect();
    engine.inject("binance", "Binance Will List Steady Token (STDZ)");
    assert_eq!(witness.json_of("announcement")["seq"], 2);
    late.iter_mut().for_each(|client| assert_eq!(client.json_of("announcement")["seq"], 2));
    assert_eq!(engine.pid(), pid);
}

/// In pinned mode memory is locked; without the right to, it says so once, with the remedy, and serves.
#[test]
fn without_the_right_to_lock_memory_it_starts_and_says_so() {
    let config = "[topology]\nmode = \"pinned\"\nidle = \"block\"\nsource_cores = [0]\nfeed_cores = [1]";
    let mut engine = Engine::prepare(tempfile::tempdir().unwrap(), Mode::Plain, config);
    let mut command = Command::new("prlimit");
    command.args(["--memlock=0:0"]);
    if rustix::process::geteuid().is_root() {
        // Root may lock what it likes, unless the capability is gone.
        command.args(["setpriv", "--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock"]);
    }
    command.arg(env!("CARGO_BIN_EXE_tocsin"));
    engine.spawn_by(command);
    engine.wait_ready();
    let log = engine.log();
    let said = "memory is not locked; raise LimitMEMLOCK= or `ulimit -l`";
    assert_eq!(log.matches(said).count(), 1, "{log}");
    let mut client = engine.connect(&engine.key(), "");
    engine.inject("binance", "Binance Will List Steady Token (STDY)");
    assert_eq!(client.json_of("announcement")["ticker"], "STDY");
    assert_eq!(engine.stop(), Some(0), "{}", engine.log());
}
