//! What end-to-end tests share: the real binary on a temporary directory, and a small WebSocket
//! client of its own (not the engine's code, so that a mistake cannot hide in both).

#![allow(dead_code, unused_imports, unreachable_pub, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

pub mod client;
pub mod crowd;
pub mod exchange;
pub mod manager;
pub mod namespace;
pub mod shop;
pub mod stall;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

pub use client::{Client, Frame, Handshake, Message};

/// What is waited for takes a fraction of this where the machine has time; one with many tests at once has not.
pub const LONGEST: Duration = Duration::from_secs(60);

/// How the feed is served in a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Plain,
    Tls,
}

/// A running `tocsin serve`; killed when dropped.
pub struct Engine {
    child: Option<Child>,
    pub feed: SocketAddr,
    pub admin: SocketAddr,
    /// Which start of its data directory this is.
    pub epoch: u64,
    pub mode: Mode,
    /// What it said when it was ready.
    pub ready: Value,
    config: PathBuf,
    dir: TempDir,
}

/// Configuration that every test engine starts from (free ports, no exchange, no pinned core), with
/// the test's own sections over it.
fn base_config(dir: &Path, mode: Mode, extra: &str) -> String {
    fn merge(base: &mut toml::Table, over: toml::Table) {
        for (key, value) in over {
            match (base.get_mut(&key), value) {
                (Some(toml::Value::Table(base)), toml::Value::Table(over)) => merge(base, over),
                (_, value) => drop(base.insert(key, value)),
            }
        }
    }
    let mut config: toml::Table = format!(
        "data_dir = {:?}
         [feed]
         listen = \"127.0.0.1:0\"
         tls = {}
         drain = \"200ms\"
         [admin]
         listen = \"127.0.0.1:0\"
         requests_per_second = 1000000
         [clock]
         require_synchronised = false
         [topology]
         idle = \"block\"
         [sources]
         binance = {{ enabled = false }}
         upbit = {{ enabled = false }}
         bithumb = {{ enabled = false }}",
        dir.join("data"),
        mode == Mode::Tls
    )
    .parse()
    .unwrap();
    merge(&mut config, extra.parse().unwrap());
    config.to_string()
}

impl Engine {
    /// Starts with `extra` configuration sections over the test defaults.
    pub fn start(mode: Mode, extra: &str) -> Engine {
        Engine::start_in(tempfile::tempdir().unwrap(), mode, extra)
    }

    /// As [`Engine::start`], in a directory that may hold the data of an earlier run.
    pub fn start_in(dir: TempDir, mode: Mode, extra: &str) -> Engine {
        let mut engine = Engine::prepare(dir, mode, extra);
        engine.start_again();
        engine
    }

    /// Writes the configuration and starts nothing.
    pub fn prepare(dir: TempDir, mode: Mode, extra: &str) -> Engine {
        let engine = Engine {
            child: None,
            feed: SocketAddr::from(([127, 0, 0, 1], 0)),
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
            epoch: 0,
            mode,
            ready: Value::Null,
            config: dir.path().join("tocsin.toml"),
            dir,
        };
        engine.configure(extra);
        engine
    }

    /// Replaces the test's own sections, for the next start.
    pub fn configure(&self, extra: &str) {
        std::fs::write(&self.config, base_config(self.dir.path(), self.mode, extra)).unwrap();
    }

    /// Starts the process and does not wait until it is ready.
    pub fn spawn(&mut self) {
        self.spawn_by(Command::new(env!("CARGO_BIN_EXE_tocsin")));
    }

    /// As [`Engine::spawn`], by a command that takes the service's arguments behind its own and becomes the
    /// service.
    pub fn spawn_by(&mut self, mut command: Command) {
        assert!(self.child.is_none(), "it still runs");
        let log = std::fs::File::create(self.dir.path().join("log")).unwrap();
        let child = command
            .args(["serve", "--json", "--config"])
            .arg(&self.config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    /// Waits until the process that was spawned is ready.
    pub fn wait_ready(&mut self) {
        let mut line = String::new();
        let stdout = self.child.as_mut().unwrap().stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line)
            .unwrap_or_else(|e| panic!("no ready line ({e}): {line:?}\n{}", self.log()));
        self.feed = ready["feed"].as_str().unwrap().parse().unwrap();
        self.admin = ready["admin"].as_str().unwrap().parse().unwrap();
        self.epoch = ready["epoch"].as_u64().unwrap();
        self.ready = ready;
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Its configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Its data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(status.unwrap().success());
    }

    /// `kill -9`, and waits for the end.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            child.wait().unwrap();
        }
    }

    /// SIGTERM, waits for the end and returns the exit code.
    pub fn stop(&mut self) -> Option<i32> {
        self.signal("TERM");
        self.wait()
    }

    /// Waits for the end and returns the exit code.
    pub fn wait(&mut self) -> Option<i32> {
        let mut child = self.child.take().unwrap();
        let from = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code();
            }
            if from.elapsed() > LONGEST {
                let _ = child.kill();
                panic!("did not stop within {LONGEST:?}\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Starts it again on the same data.
    pub fn start_again(&mut self) {
        self.spawn();
        self.wait_ready();
    }

    /// Runs a verb of the command line with this engine's configuration.
    pub fn cli(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_tocsin"))
            .args(args)
            .arg("--config")
            .arg(&self.config)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Runs a verb that prints one JSON value and must succeed.
    pub fn cli_json(&self, args: &[&str]) -> Value {
        let output = self.cli(&[args, &["--json"]].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {stderr}\n{}", self.log());
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|e| panic!("{args:?}: {e}: {}", String::from_utf8_lossy(&output.stdout)))
    }

    /// One request to the admin API over TCP with its token; it must succeed.
    pub fn admin(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let token = std::fs::read_to_string(self.data_dir().join("admin.token")).unwrap();
        let (status, answer) =
            self.admin_as(method, path, &format!("Authorization: Bearer {}\r\n", token.trim()), body);
        assert!((200..300).contains(&status), "{method} {path}: {answer}");
        answer
    }

    /// One request to the admin API over TCP with these header lines; its status and body, null where
    /// there is none.
    pub fn admin_as(&self, method: &str, path: &str, headers: &str, body: Option<&Value>) -> (u16, Value) {
        let body = body.map_or_else(String::new, Value::to_string);
        let (status, _, body) = self.admin_raw(method, path, headers, &body);
        if body.is_empty() {
            return (status, Value::Null);
        }
        (status, serde_json::from_str(&body).unwrap_or_else(|e| panic!("{method} {path}: {e}: {body}")))
    }

    /// The same with any body: status, head and body as they came.
    pub fn admin_raw(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String, String) {
        let length = body.len();
        let mut tcp = client::open_tcp(self.admin, None, None);
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        );
        tcp.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_owned(), body.to_owned())
    }

    /// Creates a key with further flags; returns its number and its text.
    pub fn key_with(&self, flags: &[&str]) -> (i64, String) {
        let made = self.cli_json(&[&["keys", "create"], flags].concat());
        (made["id"].as_i64().unwrap(), made["key"].as_str().unwrap().to_owned())
    }

    /// Creates a key that may do everything.
    pub fn key(&self) -> String {
        self.key_with(&["--tier", "premium", "--max-connections", "1000", "--allowed-cex", "*"]).1
    }

    /// Sends an announcement through the whole path; returns it as it went out.
    pub fn inject(&self, exchange: &str, title: &str) -> Value {
        self.cli_json(&["inject", "--exchange", exchange, "--title", title])
    }

    /// Connects, with `query` such as `cex=binance`, and takes the welcome.
    pub fn connect(&self, key: &str, query: &str) -> Client {
        let mut client = self.try_connect(key, query).unwrap_or_else(|h| panic!("refused: {h:?}"));
        let welcome = client.json();
        assert_eq!(welcome["type"], "welcome", "{welcome}");
        client
    }

    /// Connects; a refusal is the error.
    pub fn try_connect(&self, key: &str, query: &str) -> Result<Client, Box<Handshake>> {
        Handshake::new(query).header("X-API-Key", key).connect(self)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.kill();
        // What was killed leaves its journals in shared memory for a next life, which there is not.
        if let Ok(place) = tocsin::store::shm::Place::new(&self.data_dir()) {
            place.clear();
            place.clear_outcomes();
        }
        if std::thread::panicking() {
            eprintln!("--- log of the engine ---\n{}", self.log());
        }
    }
}

/// Waits until `done` or fails after [`LONGEST`].
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let from = Instant::now();
    while !done() {
        assert!(from.elapsed() < LONGEST, "waited {LONGEST:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
