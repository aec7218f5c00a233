//! The real binary on a data directory while no service runs: keys, history, and what it says when
//! something is in the way.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tocsin::store::Store;

fn tocsin(data: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tocsin"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TOCSIN_")) {
        command.env_remove(name);
    }
    command.arg("--data-dir").arg(data).args(arguments).output().unwrap()
}

fn json(data: &Path, arguments: &[&str]) -> Value {
    let output = tocsin(data, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Exit code and what was said on standard error.
fn failure(data: &Path, arguments: &[&str]) -> (i32, String) {
    let output = tocsin(data, arguments);
    assert!(output.stdout.is_empty(), "{arguments:?}: nothing on standard output");
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_key_lives_across_runs() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let create =
        "keys create --tier premium --max-connections 5 --allowed-cex * --expires-in 30d --label desk --json";
    let made = json(&data, &create.split(' ').collect::<Vec<_>>());
    let text = made["key"].as_str().unwrap();
    assert!(text.len() == 68 && text.starts_with("dsk_"));
    assert!(text[4..].bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
    assert_eq!((&made["id"], &made["state"], &made["label"]), (&1.into(), &"active".into(), &"desk".into()));

    let listed = json(&data, &["keys", "list", "--json"]);
    assert_eq!(listed["keys"][0]["max_connections"], 5);
    assert!(!listed.to_string().contains(text), "the text is shown once");
    assert_eq!(json(&data, &["keys", "set-expiry", "1", "--never", "--json"])["expires_at"], Value::Null);
    let past = ["keys", "set-expiry", "1", "--at", "2020-01-01T00:00:00Z", "--json"];
    assert_eq!(json(&data, &past)["state"], "expired");
    assert_eq!(json(&data, &["keys", "revoke", "1", "--json"])["state"], "revoked");
    assert_eq!(json(&data, &["keys", "show", "1", "--json"])["state"], "revoked");
    let (code, said) = failure(&data, &["keys", "set-expiry", "1", "--never"]);
    assert!(code == 1 && said.contains("revoked"), "{said}");
}

#[test]
fn wrong_usage_is_2_and_what_cannot_be_done_is_1() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let rows = [
        (2, &["keys", "create"][..], "--tier"),
        (2, &["keys", "create", "--tier", "gold"], "basic, premium, enterprise"),
        (2, &["keys", "create", "--tier", "basic", "--allowed-cex", "nope"], "\"nope\" is no exchange"),
        (2, &["keys", "create", "--tier", "basic", "--max-connections", "0"], "max_connections"),
        (2, &["keys", "create", "--tier", "premium", "--delay", "1s"], "never delayed"),
        (2, &["keys", "set-expiry", "1"], "--never"),
        (2, &["keys", "set-expiry", "1", "--never", "--expires-in", "1d"], "cannot be used with"),
        (1, &["keys", "show", "1"], "there is no key 1"),
        (2, &["history", "--after", "x"], "a position like"),
        (2, &["history", "--limit", "0"], "between 1 and"),
        (1, &["inject", "--exchange", "upbit", "--title", "x"], "admin.sock"),
        (2, &["inject", "--exchange", "x", "--title", "x"], "one of binance"),
    ];
    for (expected, arguments, part) in rows {
        let (code, said) = failure(&data, arguments);
        assert!(code == expected && said.contains(part), "{arguments:?}: {code} {said}");
    }
}

#[test]
fn an_empty_history_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let answer = json(&dir.path().join("data"), &["history", "--json"]);
    assert_eq!(answer, serde_json::json!({"announcements": [], "next": null, "gap": null}));
}

#[test]
fn a_held_store_a_left_over_socket_and_a_damaged_file_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let store = Store::open(&data).unwrap();
    let (code, said) = failure(&data, &["keys", "list"]);
    assert!(code == 1 && said.contains("held by another process") && said.contains("admin.sock"), "{said}");
    assert!(said.contains(&format!("process {}", std::process::id())), "{said}");
    drop(store);

    drop(std::os::unix::net::UnixListener::bind(data.join("admin.sock")).unwrap());
    assert_eq!(json(&data, &["keys", "list", "--json"])["keys"], serde_json::json!([]));

    fs::write(data.join("tocsin.db"), "no database ".repeat(200)).unwrap();
    let (code, said) = failure(&data, &["keys", "list"]);
    assert!(code == 1 && said.contains("is not a database"), "{said}");
}
