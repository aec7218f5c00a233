//! The feed read by the clients its users have: two Python packages, one Node package, unmodified, and
//! `tocsin watch`. What they get is checked against the published schemas.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod harness;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use harness::{Client, Engine, Handshake, Mode, wait_for};
use serde_json::{Value, json};
use tocsin_core::market::InstrumentKind;
use tocsin_core::model::Exchange;
use tocsin_sim::{Fault, Kind, Listing, MarketOptions, Options, SimExchange, SimMarket};

/// Every client comes from this address, and more than ten of them a minute.
const EXEMPT: &str = "[feed.limits]\nexempt = [\"127.0.0.0/8\"]\n";
const LISTING: &str = "Binance Will List Tocsin Test Coin (TKNX)";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Where `scripts/setup-test-clients` put `part`. Never skips: a test that was not run is no pass.
fn installed(part: &str) -> PathBuf {
    let cache = std::env::var_os("TOCSIN_CACHE").map_or_else(|| repository().join(".cache"), PathBuf::from);
    let path = cache.join("clients").join(part);
    assert!(path.exists(), "{} is missing: run scripts/setup-test-clients", path.display());
    path
}

fn python(script: &str) -> Command {
    let mut command = Command::new(installed("python/bin/python"));
    command.arg("-B").arg(repository().join("engine/tocsin/tests/clients").join(script));
    command
}

fn node(script: &str) -> Command {
    let mut command = Command::new("node");
    command
        .env("NODE_PATH", installed("node/node_modules"))
        .arg(repository().join("engine/tocsin/tests/clients").join(script));
    command
}

/// A process that is killed when the test is over, however that ends.
struct Running(Child);

impl Running {
    fn spawn(command: &mut Command) -> Running {
        let piped = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Running(piped.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}")))
    }

    /// Its output once it has ended, or a panic when it does not.
    fn output(mut self, patience: Duration) -> Output {
        let mut ends = (self.0.stdout.take().unwrap(), self.0.stderr.take().unwrap());
        // Read beside the wait: a full pipe would stop it.
        let stderr = std::thread::spawn(move || read_all(&mut ends.1));
        let stdout = std::thread::spawn(move || read_all(&mut ends.0));
        let until = Instant::now() + patience;
        let status = loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > until {
                let _ = self.0.kill();
                let printed = [stdout.join().unwrap(), stderr.join().unwrap()];
                panic!("did not end within {patience:?}: {}", String::from_utf8_lossy(&printed.concat()));
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        Output { status, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn read_all(from: &mut impl Read) -> Vec<u8> {
    let mut all = Vec::new();
    from.read_to_end(&mut all).unwrap();
    all
}

/// How a client decides whom to trust.
#[derive(Clone, Copy, Debug)]
enum Trust {
    Plain,
    Ca,
    Anyone,
}

/// What runs a client's script.
type Program = fn(&str) -> Command;

/// The three clients.
const CLIENTS: [(&str, Program); 3] =
    [("websocket_client_feed.py", python), ("websockets_feed.py", python), ("ws_feed.cjs", node)];

/// Starts every client in each of the ways, lets all of them see everything, judges them.
fn every_client_sees_everything(mode: Mode, ways: &[Trust]) {
    let engine = Engine::start(mode, EXEMPT);
    let scheme = if mode == Mode::Tls { "wss" } else { "ws" };
    let url = format!("{scheme}://{}", engine.feed);
    let mut clients = Vec::new();
    for (script, program) in CLIENTS {
        for trust in ways {
            let mut command = program(script);
            // A key of its own: test requests are one a minute and key.
            command.envs([("CLIENT_URL", url.as_str()), ("CLIENT_KEY", engine.key().as_str())]);
            command.envs([("CLIENT_TEST", "1"), ("CLIENT_ANNOUNCEMENTS", "1"), ("CLIENT_HEARTBEATS", "1")]);
            command.env("CLIENT_TIMEOUT_SECS", "50");
            match trust {
                Trust::Plain => {}
                Trust::Ca => drop(command.env("CLIENT_CA", engine.data_dir().join("feed-cert.pem"))),
                Trust::Anyone => drop(command.env("CLIENT_INSECURE", "1")),
            }
            clients.push((format!("{script} {trust:?}"), Running::spawn(&mut command)));
        }
    }
    let all = clients.len();
    wait_for("all clients", || {
        for (name, client) in &mut clients {
            if client.0.try_wait().unwrap().is_some() {
                let mut said = read_all(client.0.stdout.as_mut().unwrap());
                said.extend(read_all(client.0.stderr.as_mut().unwrap()));
                panic!("{name} ended: {}", String::from_utf8_lossy(&said));
            }
        }
        engine.cli_json(&["status"])["feed"]["connections"] == all
    });
    let injected = engine.inject("binance", LISTING);
    for (name, client) in clients {
        let output = client.output(Duration::from_secs(60));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {said}{errors}");
        judge(&name, &said, &injected);
    }
}

fn judge(name: &str, said: &str, injected: &Value) {
    let events: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let messages: Vec<&Value> = events.iter().filter(|e| e["event"] == "message").collect();
    for event in &messages {
        assert_eq!(event["binary"], true, "{name}: the specification's frames are binary: {event}");
    }
    let of = |kind: &str| -> Vec<&Value> {
        messages.iter().map(|event| &event["message"]).filter(|m| m["type"] == kind).collect()
    };
    assert_eq!(messages[0]["message"]["type"], "welcome", "{name}");
    let [welcome] = of("welcome")[..] else { panic!("{name}: {said}") };
    assert_eq!((&welcome["allowedCex"], &welcome["expiresInSecs"]), (&json!("*"), &Value::Null), "{name}");
    let [announced] = of("announcement")[..] else { panic!("{name}: {said}") };
    for field in ["title", "ticker", "publisher", "listingType", "publishTimestampUs", "detectedTimestampUs"]
    {
        assert_eq!(announced[field], injected[field], "{name}: {field} of {announced} and {injected}");
    }
    assert_eq!((&announced["title"], &announced["ticker"]), (&json!(LISTING), &json!("TKNX")), "{name}");
    let [test] = of("test_announcement")[..] else { panic!("{name}: {said}") };
    let dispatch = test["dispatchTimestampUs"].as_i64().unwrap();
    assert_eq!(test["publishTimestampUs"], dispatch - 1_000_000, "{name}");
    assert_eq!(test["detectedTimestampUs"], dispatch - 200, "{name}");
    assert_eq!(of("heartbeat").len(), 1, "{name}: {said}");
    let arrived = |kind: &str| {
        messages.iter().find(|e| e["message"]["type"] == kind).and_then(|e| e["at_us"].as_i64()).unwrap()
    };
    let after = (arrived("heartbeat") - arrived("welcome")) as f64 / 1e6;
    assert!(after > 25.0, "{name}: the first heartbeat came {after} s after the welcome");
}

#[test]
fn reference_clients_see_everything_plain() {
    every_client_sees_everything(Mode::Plain, &[Trust::Plain]);
}

#[test]
fn reference_clients_see_everything_over_tls() {
    every_client_sees_everything(Mode::Tls, &[Trust::Ca, Trust::Anyone]);
}

/// Nobody who was told of no authority takes the self-signed certificate.
#[test]
fn reference_clients_refuse_a_certificate_they_were_not_told_of() {
    let engine = Engine::start(Mode::Tls, EXEMPT);
    let (url, key) = (format!("wss://{}", engine.feed), engine.key());
    for (script, program) in CLIENTS {
        let mut command = program(script);
        command.envs([("CLIENT_URL", &url), ("CLIENT_KEY", &key)]).env("CLIENT_TIMEOUT_SECS", "20");
        let output = Running::spawn(&mut command).output(Duration::from_secs(40));
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success() && said.to_lowercase().contains("cert"), "{script}: {said}");
    }
    assert_eq!(engine.cli_json(&["status"])["accept"]["admitted"], 0);
}

/// A refusal reaches them with its status and body.
#[test]
fn reference_clients_are_told_why_they_are_refused() {
    let engine = Engine::start(Mode::Plain, EXEMPT);
    let url = format!("ws://{}", engine.feed);
    for (script, program) in CLIENTS {
        let mut command = program(script);
        command.env("CLIENT_URL", &url).env("CLIENT_KEY", format!("dsk_{}", "0".repeat(64)));
        let output = Running::spawn(command.env("CLIENT_TIMEOUT_SECS", "20")).output(Duration::from_secs(40));
        let said = String::from_utf8_lossy(&output.stdout);
        let refused = said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let refused = refused.into_iter().find(|e| e["event"] == "refused");
        let refused = refused.unwrap_or_else(|| panic!("{script}: {said}"));
        assert_eq!(refused["status"], 403, "{script}: {refused}");
        assert!(refused["body"].as_str().unwrap().contains("invalid_api_key"), "{script}: {refused}");
    }
}

// ---- Messages against their documentation ---------------------------------------------------------

/// Runs `validate.py` over `input`; what it counted.
fn validate(what: &str, file: &str, input: &str) -> Value {
    let mut child = python("validate.py")
        .arg(what)
        .arg(repository().join(file))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Everything a client hears until `last` has come, as JSON lines.
fn heard(client: &mut Client, last: impl Fn(&Value) -> bool, lines: &mut String) {
    loop {
        let message = client.json();
        lines.push_str(&format!("{message}\n"));
        if last(&message) {
            return;
        }
    }
}

fn is(kind: &'static str) -> impl Fn(&Value) -> bool {
    move |message| message["type"] == kind
}

/// A market that is watched, and no other; its section.
fn watched_market() -> (SimMarket, String) {
    let options = MarketOptions { plain: true, ..MarketOptions::default() };
    let market = SimMarket::start(Exchange::Upbit, options).unwrap();
    let mut section = "[market]\nenabled = true\nspeed = 200\n".to_owned();
    for exchange in ["binance", "okx", "bybit", "gate", "kucoin", "bitget", "htx", "bithumb"] {
        section += &format!("[market.{exchange}]\nenabled = false\n");
    }
    for exchange in ["coinbase", "kraken", "hyperliquid"] {
        section += &format!("[market.{exchange}]\nenabled = false\n");
    }
    section += &format!("[market.upbit]\nbase_url = {:?}\n", market.base_url());
    (market, section)
}

/// Manual alerts make the announcements; a source that recovers changes its state; a pair nobody told of is
/// found by the market watchers.
#[test]
fn every_message_fits_its_schema_and_every_schema_is_met() {
    let exchange = SimExchange::start(Kind::Upbit, Options::plain()).unwrap();
    exchange.set_fault(Fault::Status { code: 503, retry_after_secs: None });
    let source = format!("[sources.upbit]\nenabled = true\nbase_url = {:?}\n", exchange.base_url());
    let (market, section) = watched_market();
    let engine = Engine::start(Mode::Plain, &format!("{EXEMPT}{source}{section}"));
    let mut lines = String::new();
    let open = |key: &str, query: &str| Handshake::new(query).header("X-API-Key", key).connect(&engine).ok();

    let mut waiting = open(&engine.key(), "fields=full&sources=1").unwrap();
    heard(&mut waiting, is("welcome"), &mut lines);
    exchange.clear_fault();
    let mut basic = open(&engine.key(), "").unwrap();
    heard(&mut basic, is("welcome"), &mut lines);
    let flags = ["--tier", "basic", "--max-connections", "9", "--allowed-cex", "*"];
    let (_, redacted) = engine.key_with(&[&flags[..], &["--redact"]].concat());
    let mut redacted = open(&redacted, "fields=full&cex=binance,nowhere").unwrap();
    let (_, expiring) = engine.key_with(&[&flags[..], &["--expires-in", "3603s"]].concat());
    let mut expiring = open(&expiring, "fields=full&frames=text").unwrap();
    let mut watching = open(&engine.key(), "events=market&context=1").unwrap();
    engine.inject("upbit", "토신(TKNX) 신규 거래지원 안내 (KRW, BTC, USDT 마켓)");
    engine.inject("binance", LISTING);
    heard(&mut watching, is("context"), &mut lines);
    heard(&mut basic, is("announcement"), &mut lines);
    heard(&mut redacted, is("announcement"), &mut lines);
    heard(&mut expiring, is("key_expiring"), &mut lines);

    wait_for("the market's baseline", || {
        let shown = engine.admin("GET", "/admin/v1/markets", None);
        shown["requests"].as_array().unwrap().iter().all(|of| of["answers"].as_u64() >= Some(2))
    });
    market.add(Listing::open(InstrumentKind::Spot, "VAROMI", "KRW")).unwrap();
    heard(&mut watching, is("market"), &mut lines);

    let mut asking = open(&engine.key(), "fields=full").unwrap();
    let subscribe =
        r#"{"type":"subscribe","cex":"binance,upbit","types":"spot_listing","tickers":"TKNX,ABCX"}"#;
    let sent = [r#"{"type":"test"}"#, subscribe];
    for text in [sent[0], sent[1], r#"{"type":"neither"}"#] {
        asking.send_text(text);
    }
    heard(&mut asking, |m| m["code"] == "unsupported_message", &mut lines);
    let key = engine.key();
    let mut twice = open(&key, "").unwrap();
    twice.send_text(sent[0]);
    twice.send_text(sent[0]);
    heard(&mut twice, |m| m["code"] == "test_rate_limited", &mut lines);

    let mut resumed = open(&key, "fields=full&resume=1:1").unwrap();
    heard(&mut resumed, |m| m["replayed"] == true, &mut lines);
    // A position that was never given out.
    let mut gone = open(&key, "fields=full&resume=77:7").unwrap();
    heard(&mut gone, is("gap"), &mut lines);
    heard(&mut waiting, is("heartbeat"), &mut lines);

    let counts = validate("messages", "docs/schemas/feed-server-messages.json", &lines);
    assert!(counts.as_object().unwrap().values().all(|count| *count != 0), "not all met: {counts}");
    validate("messages", "docs/schemas/feed-client-messages.json", &sent.join("\n"));
}

#[test]
fn the_asyncapi_document_holds_together() {
    let checked = validate("asyncapi", "docs/asyncapi.yaml", "");
    assert!(checked["references"].as_u64().unwrap() > 20, "{checked}");
}

// ---- tocsin watch ---------------------------------------------------------------------------------

/// Starts `tocsin watch` on the engine.
fn watch(engine: &Engine, flags: &[&str]) -> Running {
    let (id, key) = engine.key_with(&["--tier", "premium", "--max-connections", "1", "--allowed-cex", "*"]);
    let key_file = engine.data_dir().join(format!("watch-{id}.key"));
    std::fs::write(&key_file, key).unwrap();
    let scheme = if engine.mode == Mode::Tls { "wss" } else { "ws" };
    let mut command = Command::new(env!("CARGO_BIN_EXE_tocsin"));
    command.args(["watch", "--url", &format!("{scheme}://{}", engine.feed)]);
    Running::spawn(command.arg("--key-file").arg(key_file).args(flags))
}

fn connected(engine: &Engine, count: usize) {
    wait_for("the watch to connect", || engine.cli_json(&["status"])["feed"]["connections"] == count);
}

fn announced(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|m| m["type"] == "announcement").collect()
}

#[test]
fn watch_prints_announcements_plain_and_over_tls() {
    let ca = |engine: &Engine| engine.data_dir().join("feed-cert.pem").display().to_string();
    for mode in [Mode::Plain, Mode::Tls] {
        let engine = Engine::start(mode, EXEMPT);
        let ca = ca(&engine);
        let ways: &[&[&str]] = match mode {
            Mode::Plain => &[&[]],
            Mode::Tls => &[&["--ca", &ca], &["--insecure"]],
        };
        let mut watches = Vec::new();
        for way in ways {
            watches.push(watch(
                &engine,
                &[&["--json", "--count", "2", "--types", "spot_listing"], *way].concat(),
            ));
        }
        let people = watch(&engine, &[ways[0], &["--count", "1"]].concat());
        connected(&engine, ways.len() + 1);
        engine.inject("binance", LISTING);
        engine.inject("binance", "System maintenance");
        engine.inject("upbit", "토신(TOCX) 신규 거래지원 안내 (KRW 마켓)");
        for running in watches {
            let got = announced(&running.output(Duration::from_secs(30)));
            let tickers: Vec<&str> = got.iter().map(|m| m["ticker"].as_str().unwrap()).collect();
            assert_eq!(tickers, ["TKNX", "TOCX"], "two, then the end");
        }
        let output = people.output(Duration::from_secs(30));
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains(LISTING) && text.contains("spot_listing"), "{text}");
    }
}

#[test]
fn watch_gives_up_on_what_will_not_change() {
    let engine = Engine::start(Mode::Tls, EXEMPT);
    let refused = watch(&engine, &["--json"]).output(Duration::from_secs(30));
    let errors = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "an unknown certificate: {errors}");
    let file = engine.data_dir().join("wrong.key");
    std::fs::write(&file, format!("dsk_{}", "0".repeat(64))).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tocsin"));
    command.args(["watch", "--insecure", "--url", &format!("wss://{}", engine.feed), "--key-file"]).arg(file);
    let refused = Running::spawn(&mut command).output(Duration::from_secs(30));
    let errors = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{errors}");
    assert!(errors.contains("invalid_api_key"), "{errors}");
}

/// An address that stays the same over a restart and that no other test can hold: the loopback
/// network has one for each process.
fn own_address(port: u16) -> String {
    let [_, b, c, d] = std::process::id().to_be_bytes();
    format!("127.{}.{c}.{d}:{port}", 64 | b)
}

/// Once asked to stop and once killed; announced before, between and after.
#[test]
fn watch_survives_restarts_of_the_engine_without_loss() {
    let config = format!("{EXEMPT}[feed]\nlisten = \"{}\"\n", own_address(18_201));
    let mut engine = Engine::start(Mode::Plain, &config);
    let watching = watch(&engine, &["--json", "--count", "8"]);
    connected(&engine, 1);
    let mut number = 0;
    let mut say = |engine: &Engine, count: usize| {
        for _ in 0..count {
            number += 1;
            engine.inject("bithumb", &format!("Announcement {number}"));
        }
    };
    say(&engine, 2);
    assert_eq!(engine.stop(), Some(0));
    engine.start_again();
    // It may be back already, or not: both must do.
    say(&engine, 2);
    connected(&engine, 1);
    say(&engine, 1);
    engine.kill();
    engine.start_again();
    say(&engine, 3);
    let got = announced(&watching.output(Duration::from_secs(60)));
    let titles: Vec<&str> = got.iter().map(|m| m["title"].as_str().unwrap()).collect();
    let expected: Vec<String> = (1..=8).map(|n| format!("Announcement {n}")).collect();
    assert_eq!(titles, expected, "each once, in order");
    let epochs: Vec<i64> = got.iter().map(|m| m["epoch"].as_i64().unwrap()).collect();
    assert_eq!(epochs, [1, 1, 2, 2, 2, 3, 3, 3]);
}
