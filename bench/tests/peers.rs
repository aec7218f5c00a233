//! The suite `peers`, small: contenders in Rust against the engine, on real sockets and TLS, and what is
//! left behind when it ends, also when it is interrupted. Needs nothing installed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tocsin_bench::peers::Contender;
use tocsin_bench::peers::contest::Pace;
use tocsin_bench::result::Series;
use tocsin_bench::suites::peers::{Mode, Phase, Setting, measure};

const EXE: &str = env!("CARGO_BIN_EXE_tocsin-bench");

fn setting(cache: &Path, stop: bool) -> Setting {
    let stop = Arc::new(AtomicBool::new(stop));
    Setting { exe: PathBuf::from(EXE), cache: cache.to_owned(), seed: 7, stop }
}

fn phase(mode: Mode, peers: &[Contender]) -> Phase {
    let pace = Pace {
        subscribers: 10,
        rounds: 3,
        pause: Duration::from_millis(5),
        settle: Duration::from_millis(50),
        spin: false,
    };
    Phase { mode, peers: peers.to_vec(), pace }
}

fn recorded(series: &[Series], name: &str) -> u64 {
    let found = series.iter().find(|s| s.name == name).unwrap_or_else(|| panic!("no series {name}"));
    found.values.iter().map(|(_, count)| count).sum()
}

#[test]
fn contenders_take_turns_and_what_is_not_installed_is_said() {
    let cache = tempfile::tempdir().unwrap();
    let both = [Contender::TokioTungstenite, Contender::FastWebsockets];
    let phases = [
        phase(Mode::Plain, &[both[0], both[1], Contender::NodeWs, Contender::Nats, Contender::Nchan]),
        phase(Mode::Tls, &both),
        phase(Mode::TwoCores, &both),
    ];
    let result = measure(&setting(cache.path(), false), &phases).unwrap();
    for mode in ["plain", "tls", "two-cores"] {
        for who in ["engine", "tokio-tungstenite", "fastwebsockets"] {
            for what in ["first", "median", "p99", "last", "asked-last", "cpu"] {
                assert_eq!(recorded(&result.series, &format!("{mode}/10/{who}/{what}")), 3);
            }
            // Everybody sends as many bytes as the engine does.
            let figure = |name: &str| {
                let name = format!("{mode}/10/{name}");
                result.figures.iter().find(|f| f.name == name).unwrap_or_else(|| panic!("no {name}")).value
            };
            let bytes = figure(&format!("{who}/message-bytes"));
            assert!(bytes > 250.0 && (bytes - figure("engine/message-bytes")).abs() < 0.5, "{who}: {bytes}");
            assert!(figure(&format!("{who}/cpu-per-message")) > 0.0);
        }
    }
    let of = |peer: &str| result.comparisons.iter().filter(|c| c.other.contains(peer)).count();
    assert_eq!((of("/tokio-tungstenite/"), of("/fastwebsockets/"), of("/nats/")), (18, 18, 0));
    assert!(result.comparisons.iter().all(|c| c.rounds == 3 && c.ratio > 0.0));
    let missing: Vec<&str> = result.missing.iter().map(|m| m.what.as_str()).collect();
    assert_eq!(missing, ["plain/10/ws", "plain/10/nats", "plain/10/nchan"]);
    assert!(result.missing.iter().all(|m| m.why.contains("scripts/setup-peers")), "{:?}", result.missing);
}

#[test]
fn a_run_that_is_to_stop_says_so() {
    let cache = tempfile::tempdir().unwrap();
    let phases = [phase(Mode::Plain, &[Contender::TokioTungstenite])];
    assert_eq!(measure(&setting(cache.path(), true), &phases).unwrap_err(), "interrupted");
}

/// Processes whose environment names `dir`, by number: the run's own and all it started.
fn processes_in(dir: &Path) -> Vec<String> {
    let named = |pid: &str| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        String::from_utf8_lossy(&environment).contains(dir.to_str().unwrap())
    };
    let all = std::fs::read_dir("/proc").unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    all.filter(|name| name.bytes().all(|b| b.is_ascii_digit()) && named(name)).collect()
}

fn wait_until(what: &str, mut there: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !there() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Starts the suite in a directory, waits until an engine runs, sends `signal`, waits for the end.
fn interrupted_by(signal: Signal) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(EXE)
        .args(["peers", "--quick", "--cache", "/nonexistent", "--out"])
        .arg(dir.path().join("out"))
        .env("TMPDIR", dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("no engine was started", || {
        processes_in(dir.path()).iter().any(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains("\0serve\0")
        })
    });
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
    let ended = child.wait().unwrap();
    assert!(!ended.success(), "{ended}");
    dir
}

#[test]
fn an_interrupted_run_leaves_no_process_and_no_file() {
    let dir = interrupted_by(Signal::INT);
    assert_eq!(processes_in(dir.path()), Vec::<String>::new());
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn children_of_a_killed_run_end_with_it() {
    let dir = interrupted_by(Signal::KILL);
    wait_until("children outlived the run", || processes_in(dir.path()).is_empty());
}
