//! The feed's record layer (docs/security.md) against the TLS libraries its users have: OpenSSL's own
//! client, Python and Node over OpenSSL, BoringSSL. Both versions, every cipher each lets one choose. And what a public
//! scanner says of both doors that speak TLS.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod harness;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use harness::client::client_frame;
use harness::{Engine, Mode, wait_for};
use serde_json::{Value, json};

/// Every client comes from this address.
const EXEMPT: &str = "[feed.limits]\nexempt = [\"127.0.0.0/8\"]\n";
const LISTING: &str = "Binance Will List Tocsin Test Coin (TKNX)";
/// Version, and the names OpenSSL gives the ciphers.
const SUITES: [(&str, &str); 6] = [
    ("1.3", "TLS_AES_128_GCM_SHA256"),
    ("1.3", "TLS_AES_256_GCM_SHA384"),
    ("1.3", "TLS_CHACHA20_POLY1305_SHA256"),
    ("1.2", "ECDHE-ECDSA-AES128-GCM-SHA256"),
    ("1.2", "ECDHE-ECDSA-AES256-GCM-SHA384"),
    ("1.2", "ECDHE-ECDSA-CHACHA20-POLY1305"),
];

/// A program whose output is collected as it comes; killed when dropped.
struct Program {
    child: Child,
    said: Arc<Mutex<Vec<u8>>>,
    listeners: Vec<JoinHandle<()>>,
    name: String,
}

impl Program {
    fn start(name: String, command: &mut Command) -> Program {
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let said = Arc::new(Mutex::new(Vec::new()));
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let pipes = [Box::new(out) as Box<dyn Read + Send>, Box::new(err)];
        let listener = |mut pipe: Box<dyn Read + Send>| {
            let said = Arc::clone(&said);
            std::thread::spawn(move || {
                let mut buffer = [0; 4_096];
                while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                    said.lock().unwrap().extend_from_slice(&buffer[..count]);
                }
            })
        };
        let listeners = pipes.into_iter().map(listener).collect();
        Program { child, said, listeners, name }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.said.lock().unwrap()).into_owned()
    }

    fn count_of(&self, part: &str) -> usize {
        self.text().matches(part).count()
    }

    /// Waits until it has said `part` so often.
    fn says(&mut self, part: &str, times: usize) {
        let until = Instant::now() + Duration::from_secs(60);
        while self.count_of(part) < times {
            // First this: what it said last is counted once more after.
            let ended = self.listeners.iter().all(JoinHandle::is_finished);
            if (ended || Instant::now() > until) && self.count_of(part) < times {
                panic!("{} did not say {part:?}: {}", self.name, self.text());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn give(&mut self, bytes: &[u8]) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(bytes).unwrap();
        stdin.flush().unwrap();
    }

    fn ends_well(mut self) {
        let mut status = None;
        wait_for("its end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        assert!(status.unwrap().success(), "{}: {}", self.name, self.text());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where `scripts/setup-test-clients` put `part`. Never skips: a test that was not run is no pass.
fn installed(part: &str) -> PathBuf {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    let cache = std::env::var_os("TOCSIN_CACHE").map_or_else(|| repository.join(".cache"), PathBuf::from);
    let path = cache.join("clients").join(part);
    assert!(path.exists(), "{} is missing: run scripts/setup-test-clients", path.display());
    path
}

/// What runs a script of `tests/clients`.
fn script(name: &str) -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name);
    let mut command = match path.extension().and_then(|e| e.to_str()) {
        Some("py") => Command::new(installed("python/bin/python")),
        _ => Command::new("node"),
    };
    if name.ends_with(".py") {
        command.arg("-B");
    }
    command.arg(path);
    command
}

fn certificate(engine: &Engine) -> PathBuf {
    engine.data_dir().join("feed-cert.pem")
}

/// Runs `name` once for each of `suites`, beside one another; each says `ready`, hears one
/// announcement and ends well.
fn all_suites(name: &str, suites: &[(&str, &str)], ready: impl Fn(&str, &str) -> String) {
    let engine = Engine::start(Mode::Tls, EXEMPT);
    let mut clients = Vec::new();
    for (version, cipher) in suites {
        let mut command = script(name);
        command.env("TLS_CA", certificate(&engine)).env("TLS_KEY", engine.key());
        command.env("TLS_HOST", engine.feed.ip().to_string()).env("TLS_TITLE", LISTING);
        command.env("TLS_PORT", engine.feed.port().to_string());
        command.env("TLS_VERSION", version).env("TLS_CIPHER", cipher);
        let client = Program::start(format!("{name} {version} {cipher}"), &mut command);
        clients.push((client, ready(version, cipher)));
    }
    for (client, ready) in &mut clients {
        client.says(ready, 1);
    }
    engine.inject("binance", LISTING);
    for (mut client, _) in clients {
        client.says("closed", 1);
        client.ends_well();
    }
}

#[test]
fn python_reads_the_feed_in_every_suite_it_can_choose() {
    // Of TLS 1.3's ciphers it takes OpenSSL's first.
    all_suites("tls_frames.py", &SUITES[1..2], |_, cipher| format!("TLSv1.3 {cipher}"));
    all_suites("tls_frames.py", &SUITES[3..], |_, cipher| format!("TLSv1.2 {cipher}"));
}

#[test]
fn node_reads_the_feed_in_every_suite() {
    all_suites("tls_frames.cjs", &SUITES, |version, cipher| format!("TLSv{version} {cipher}"));
}

#[test]
fn boringssl_reads_the_feed_in_every_suite_it_can_choose() {
    // Of TLS 1.3's ciphers it takes its first.
    all_suites("tls_boringssl.py", &[SUITES[0], SUITES[3], SUITES[4], SUITES[5]], |_, _| "ready".to_owned());
}

/// `openssl s_client`, connected and upgraded.
fn s_client(engine: &Engine, version: &str, cipher: &str) -> Program {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-verify_return_error", "-connect", &engine.feed.to_string(), "-CAfile"]);
    command.arg(certificate(engine));
    match version {
        "1.3" => command.args(["-tls1_3", "-ciphersuites", cipher]),
        _ => command.args(["-tls1_2", "-cipher", cipher]),
    };
    let mut client = Program::start(format!("s_client {version} {cipher}"), &mut command);
    client.says("Verify return code: 0", 1);
    let key = engine.key();
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-API-Key: {key}\r\n\r\n",
        engine.feed
    );
    client.give(request.as_bytes());
    client.says("\"welcome\"", 1);
    assert!(client.text().contains(cipher));
    client
}

/// Its commands are lines: `K` changes its keys and asks for ours, `k` changes its own.
#[test]
fn openssl_changes_keys_amid_the_feed_in_every_suite() {
    let engine = Engine::start(Mode::Tls, EXEMPT);
    let mut clients: Vec<Program> = SUITES.iter().map(|(v, c)| s_client(&engine, v, c)).collect();
    for round in 1..=4 {
        let title = format!("{LISTING} {round}");
        let changes = clients.iter_mut().zip(SUITES).filter(|(_, (version, _))| *version == "1.3");
        for (client, _) in changes {
            client.give(if round % 2 == 0 { b"k\n" } else { b"K\n" });
            client.says("KEYUPDATE", round);
        }
        engine.inject("binance", &title);
        for client in &mut clients {
            client.says(&title, 1);
            // And what it sends is still understood: under the new keys, if it has any.
            let ping = format!("ping {round}");
            client.give(&client_frame(0x89, ping.as_bytes()));
            client.says(&ping, 1);
        }
    }
    for client in &mut clients {
        client.give(&client_frame(0x88, &1000_u16.to_be_bytes()));
        // How it shows `close_notify` and FIN.
        client.says("closed", 1);
    }
}

#[test]
fn openssl_asking_for_another_handshake_is_refused_and_alone() {
    let engine = Engine::start(Mode::Tls, EXEMPT);
    let mut bystander = s_client(&engine, "1.2", SUITES[3].1);
    for (_, cipher) in &SUITES[3..] {
        let mut client = s_client(&engine, "1.2", cipher);
        client.give(b"R\n");
        client.says("RENEGOTIATING", 1);
        wait_for("its end", || client.child.try_wait().unwrap().is_some());
        client.says("no renegotiation", 1);
    }
    engine.inject("binance", LISTING);
    bystander.says(LISTING, 1);
    wait_for("the others to be gone", || engine.cli_json(&["status"])["feed"]["connections"] == 1);
}

/// What a scanner finds accepted, and what it knows to be wrong with servers.
fn scan(address: std::net::SocketAddr) -> Value {
    let mut command = script("tls_scan.py");
    let output = command.arg(address.ip().to_string()).arg(address.port().to_string()).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {complaint}"))
}

/// Both doors that speak TLS: the feed, whose record layer is our own, and the admin API.
#[test]
fn a_scanner_finds_nothing_weak() {
    let engine = Engine::start(Mode::Tls, &format!("{EXEMPT}[admin]\ntls = true\n"));
    for (door, address) in [("feed", engine.feed), ("admin", engine.admin)] {
        let found = scan(address);
        let expected = json!({
            "accepted": {
                "ssl_2_0": [], "ssl_3_0": [], "tls_1_0": [], "tls_1_1": [],
                "tls_1_2": [
                    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
                    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
                    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
                ],
                "tls_1_3": [
                    "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256",
                ],
            },
            "curves": ["X25519", "secp256r1", "secp384r1"],
            "certificate": {"key": "ECPublicKey", "bits": 256, "signed_with": "sha256", "days": 3653},
            "compression": false,
            "early_data": false,
            "fallback_scsv": true,
            "heartbleed": false,
            "robot": "NOT_VULNERABLE_RSA_NOT_SUPPORTED",
            "ccs_injection": false,
            "secure_renegotiation": true,
            "renegotiation_by_client": false,
        });
        // The days of ten years depend on the leap years among them.
        let days = found["certificate"]["days"].as_i64().unwrap();
        assert!((3_652..=3_653).contains(&days), "{door}: {days} days");
        let mut found = found;
        found["certificate"]["days"] = json!(3653);
        assert_eq!(found, expected, "{door}");
    }
}
