//! What keeps the service from starting, told with its cause and remedy; verbs beside a running
//! service and without one; secrets that must not appear anywhere.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod harness;

use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::{Engine, Mode};
use serde_json::Value;

/// Runs `tocsin` with arguments; it must end by itself. Exit code, standard output, standard error.
fn tocsin(arguments: &[&str], config: Option<&Path>) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tocsin"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(config) = config {
        command.arg("--config").arg(config);
    }
    let mut child = command.spawn().unwrap();
    // Read while it runs: a completion script is longer than what a pipe holds.
    let mut stdout = child.stdout.take().unwrap();
    let reading = std::thread::spawn(move || {
        let mut out = String::new();
        stdout.read_to_string(&mut out).unwrap();
        out
    });
    let from = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if from.elapsed() > Duration::from_secs(20) {
            child.kill().unwrap();
            panic!("{arguments:?} did not end: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), reading.join().unwrap(), text(output.stderr))
}

/// An engine that is not running, with its data directory in `dir`.
fn prepared(extra: &str) -> Engine {
    Engine::prepare(tempfile::tempdir().unwrap(), Mode::Plain, extra)
}

/// `serve` must refuse with exit code 1 and say all of `parts`.
fn refuses(engine: &Engine, parts: &[&str]) {
    let (code, _, said) = tocsin(&["serve", "--json"], Some(engine.config()));
    assert_eq!(code, 1, "{said}");
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in {said:?}");
    }
}

/// `check` must refuse the configuration with exit code 2 and make nothing, `serve` must say the
/// same; both say all of `parts`. A text that is wrong in itself is said to be the `configuration`, and
/// then `serve` also ends with 2 before it makes anything; a file that is missing is its failure: 1.
fn misconfigured(extra: &str, parts: &[&str]) {
    let engine = prepared(extra);
    let wrong_in_itself = parts.contains(&"configuration");
    let serve = if wrong_in_itself { 2 } else { 1 };
    let rows: [(&[&str], i32); 4] =
        [(&["check"], 2), (&["check", "--json"], 2), (&["config", "show"], 2), (&["serve"], serve)];
    for (verb, expected) in rows {
        if verb[0] == "config" && !wrong_in_itself {
            continue;
        }
        let (code, out, said) = tocsin(verb, Some(engine.config()));
        assert_eq!((code, out.as_str()), (expected, ""), "{verb:?}: {said}");
        for part in parts {
            assert!(said.contains(part), "{verb:?}: {part:?} is not in {said:?}");
        }
        assert!(expected == 1 || !engine.data_dir().exists(), "{verb:?} made something");
    }
}

#[test]
fn a_second_start_names_the_first() {
    let engine = Engine::start(Mode::Plain, "");
    let pid = engine.pid().to_string();
    refuses(&engine, &["tocsin.lock is held by another process", &pid, "stop it"]);
    assert_eq!(engine.cli_json(&["status"])["epoch"], 1, "the first goes on");
}

#[test]
fn a_port_in_use_is_named_with_its_key() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    refuses(&prepared(&format!("[feed]\nlisten = {address:?}")), &["feed.listen", &address, "in use"]);
    refuses(&prepared(&format!("[admin]\nlisten = {address:?}")), &["admin.listen", &address, "in use"]);
}

#[test]
fn a_data_directory_that_cannot_be_used_is_named() {
    let engine = prepared("");
    fs::write(engine.data_dir(), b"a file").unwrap();
    refuses(&engine, &[&engine.data_dir().display().to_string()]);
    // Root may write anywhere but to the kernel's own file system.
    let engine = prepared("data_dir = \"/proc/tocsin\"");
    refuses(&engine, &["/proc/tocsin"]);
}

#[test]
fn a_damaged_store_is_refused_with_the_way_to_recover() {
    let mut engine = Engine::start(Mode::Plain, "");
    let key = engine.key();
    for number in 0..60 {
        engine.inject("binance", &format!("Binance Will List Sample {number} (SMP{number})"));
    }
    assert_eq!(engine.stop(), Some(0));
    let database = engine.data_dir().join("tocsin.db");
    let whole = fs::read(&database).unwrap();
    let mut damaged = whole.clone();
    let half = damaged.len() / 2;
    damaged[half..half + 8_192].fill(0xA5);
    fs::write(&database, &damaged).unwrap();
    refuses(&engine, &["tocsin.db is damaged", "A damaged store", "restore a backup"]);
    assert_eq!(fs::read(&database).unwrap(), damaged, "left as it was");

    fs::write(&database, b"something else altogether ".repeat(500)).unwrap();
    refuses(&engine, &["is not a database", "move it away"]);

    // With the file put back the service goes on as if nothing had been.
    fs::write(&database, whole).unwrap();
    engine.start_again();
    assert_eq!(engine.epoch, 2);
    assert!(engine.try_connect(&key, "").is_ok());
}

#[test]
fn a_newer_schema_is_refused() {
    let mut engine = Engine::start(Mode::Plain, "");
    assert_eq!(engine.stop(), Some(0));
    let database = rusqlite::Connection::open(engine.data_dir().join("tocsin.db")).unwrap();
    database.pragma_update(None, "user_version", 9_000).unwrap();
    drop(database);
    refuses(&engine, &["written by a newer version", "schema 9000", "run that version"]);
    let (code, _, said) = tocsin(&["keys", "list"], Some(engine.config()));
    assert!(code == 1 && said.contains("newer version"), "{said}");
}

#[test]
fn a_wrong_configuration_is_refused_before_anything_is_made() {
    let rows: [(&str, &[&str]); 9] = [
        ("[feed]\nlisten_on = \"x\"", &["configuration", "feed.listen_on", "nearest is `feed.listen`"]),
        ("[fed]\nlisten = \"127.0.0.1:0\"", &["configuration", "fed.listen", "feed.listen"]),
        ("[feed]\nlisten = \"nowhere\"", &["configuration", "feed.listen"]),
        ("[feed]\nwriters = \"two\"", &["configuration", "feed.writers"]),
        ("[feed]\ndrain = \"5 parsecs\"", &["configuration", "feed.drain"]),
        ("[feed]\ntls = true\ncert_file = \"/nonexistent.pem\"", &["configuration", "key_file"]),
        ("[feed]\ntls = true\ncert_file = \"/no/c.pem\"\nkey_file = \"/no/k.pem\"", &["/no/c.pem"]),
        (
            "[sources.binance]\nenabled = true\nbase_url = \"ftp://x\"",
            &["configuration", "sources.binance.base_url"],
        ),
        ("[sources.binance]\nenabled = true\nca_file = \"/no/ca.pem\"", &["/no/ca.pem"]),
    ];
    for (extra, parts) in rows {
        misconfigured(extra, parts);
    }
    let (code, _, said) = tocsin(&["check"], Some(Path::new("/nonexistent.toml")));
    assert!(code == 2 && said.contains("/nonexistent.toml"), "{said}");
}

#[test]
fn check_passes_what_starts_and_touches_nothing() {
    let engine = prepared("");
    let (code, out, said) = tocsin(&["check"], Some(engine.config()));
    assert!(code == 0 && out.contains("configuration is valid"), "{out}{said}");
    let (_, out, _) = tocsin(&["check", "--json"], Some(engine.config()));
    let checked: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(checked["valid"], true);
    assert!(checked["threads"].as_array().unwrap().len() >= 6, "{checked}");
    assert!(!engine.data_dir().exists());
}

#[test]
fn what_is_printed_for_programs_is_json() {
    let engine = prepared("");
    let (code, out, _) = tocsin(&["config", "show", "--json"], Some(engine.config()));
    let shown: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 0);
    assert_eq!(shown["feed.tls"]["value"], false, "{shown}");
    assert!(shown["feed.tls"]["origin"].as_str().unwrap().contains("tocsin.toml"), "{shown}");
    assert_eq!(shown["feed.writers"]["value"], 1);

    let (code, out, _) = tocsin(&["version", "--json"], None);
    let version: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, version["name"].as_str()), (0, Some("tocsin")));
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));

    for shell in ["bash", "zsh", "fish"] {
        let (code, out, _) = tocsin(&["completions", shell], None);
        assert_eq!(code, 0);
        for verb in ["serve", "keys", "history", "inject", "completions"] {
            assert!(out.contains(verb), "{shell}: {verb}");
        }
    }
    assert_eq!(tocsin(&["completions", "tcl"], None).0, 2);
    assert_eq!(tocsin(&["no-such-verb"], None).0, 2);
}

/// The same verbs say the same, whether the service answers or the store is opened.
#[test]
fn keys_are_managed_with_the_service_up_and_down() {
    let mut engine = Engine::start(Mode::Plain, "");
    for up in [true, false] {
        if !up {
            assert_eq!(engine.stop(), Some(0));
        }
        let (id, _) = engine.key_with(&["--tier", "basic", "--label", "desk"]);
        let number = id.to_string();
        let listed = engine.cli_json(&["keys", "list"]);
        let listed = listed["keys"].as_array().unwrap().iter().find(|k| k["id"] == id).unwrap();
        assert_eq!(*listed, engine.cli_json(&["keys", "show", &number]), "up: {up}");
        assert_eq!((&listed["state"], &listed["label"]), (&"active".into(), &"desk".into()));
        let ended = engine.cli_json(&["keys", "set-expiry", &number, "--at", "2024-01-01T00:00:00Z"]);
        assert_eq!(ended["state"], "expired");
        assert_eq!(engine.cli_json(&["keys", "revoke", &number])["state"], "revoked");
        let wrong: [(&[&str], i32, &str); 5] = [
            (&["show", "4711"], 1, "there is no key 4711"),
            (&["revoke", "4711"], 1, "there is no key 4711"),
            (&["set-expiry", "4711", "--never"], 1, "there is no key 4711"),
            (&["set-expiry", &number, "--never"], 1, "revoked"),
            (&["show", "0"], 2, "0"),
        ];
        for (arguments, expected, part) in wrong {
            let output = engine.cli(&[&["keys"], arguments].concat());
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(expected), "up: {up}, {arguments:?}: {said}");
            assert!(said.contains(part), "up: {up}, {arguments:?}: {said}");
            assert!(output.stdout.is_empty());
        }
    }
}

#[test]
fn secrets_appear_once_and_nowhere_else() {
    let mut engine = Engine::start(Mode::Plain, "[log]\nlevel = \"trace\"");
    let key = engine.key();
    let token = fs::read_to_string(engine.data_dir().join("admin.token")).unwrap().trim().to_owned();
    // A way in, a refusal, and the key where it is a query parameter.
    drop(engine.connect(&key, ""));
    drop(engine.try_connect("", &format!("api_key={key}")).unwrap_or_else(|h| panic!("{h:?}")));
    let wrong = format!("dsk_{}", "7".repeat(64));
    assert!(engine.try_connect(&wrong, &format!("api_key={wrong}")).is_err());
    let shown = engine.cli_json(&["keys", "list"]).to_string() + &engine.cli_json(&["status"]).to_string();
    assert_eq!(engine.stop(), Some(0));
    let log = engine.log();
    assert!(log.contains("ready"), "{log}");
    let secrets = [key.as_str(), &key[4..], &token, &wrong];
    for secret in secrets {
        assert!(!log.contains(secret) && !shown.contains(secret));
    }
    for entry in fs::read_dir(engine.data_dir()).unwrap() {
        let path = entry.unwrap().path();
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", path.display());
        let bytes = fs::read(&path).unwrap_or_default();
        for secret in &secrets {
            let own = path.ends_with("admin.token") && *secret == token;
            let held = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert_eq!(held, own, "{}", path.display());
        }
    }
}
