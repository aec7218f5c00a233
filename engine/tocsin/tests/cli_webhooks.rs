//! The real binary on a data directory while no service runs: accounts and webhook endpoints, exit
//! codes, and that tokens and secrets are printed once and kept in no file as they are.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tocsin::store::Store;
use tocsin_core::time::WallUs;
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::endpoint::{Disabled, SavedHealth, State};

fn tocsin(data: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tocsin"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TOCSIN_")) {
        command.env_remove(name);
    }
    command.arg("--data-dir").arg(data).args(arguments).output().unwrap()
}

fn text(data: &Path, arguments: &[&str]) -> String {
    let output = tocsin(data, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json_of(data: &Path, arguments: &[&str]) -> Value {
    let arguments = [arguments, &["--json"]].concat();
    serde_json::from_str(&text(data, &arguments)).unwrap()
}

/// Exit code and what was said on standard error.
fn failure(data: &Path, arguments: &[&str]) -> (i32, String) {
    let output = tocsin(data, arguments);
    assert!(output.stdout.is_empty(), "{arguments:?}: nothing on standard output");
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

fn set_state(data: &Path, id: u64, state: State) {
    let mut store = Store::open(data).unwrap();
    let health = SavedHealth { state, since: WallUs(1_770_000_000_000_000), failures: 3, slow: true };
    let verified = state.takes_events().then_some(health.since);
    store.save_health(EndpointId(id), &health, verified).unwrap();
}

/// No file of the data directory holds `secret`.
fn assert_in_no_file(data: &Path, secret: &str) {
    let mut files = 0;
    for entry in std::fs::read_dir(data).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            files += 1;
            let bytes = std::fs::read(&path).unwrap();
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{} holds it", path.display());
        }
    }
    assert!(files > 0);
}

#[test]
fn an_account_lives_across_runs() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let create =
        ["accounts", "create", "--name", "Desk One", "--email", "desk@example.org", "--plan", "phantom"];
    let made = json_of(&data, &create);
    let token = made["token"].as_str().unwrap();
    assert!(token.starts_with("act_") && token.len() == 68);
    assert_eq!((&made["id"], &made["webhooks"], &made["tests_left"]), (&json!(1), &json!(true), &json!(50)));
    let shown = text(&data, &["accounts", "create", "--name", "Other", "--plan", "basic"]);
    assert!(shown.starts_with("act_") && shown.contains("shown this once"), "{shown}");

    let listed = json_of(&data, &["accounts", "list"]);
    assert_eq!(listed["accounts"].as_array().unwrap().len(), 2);
    let table = text(&data, &["accounts", "list"]);
    assert!(table.starts_with("ID") && table.contains("Desk One"), "{table}");
    assert!(!listed.to_string().contains("act_") && !table.contains("act_"), "the token is shown once");

    let renewed = json_of(&data, &["accounts", "rotate-token", "1"]);
    assert_ne!(renewed["token"], made["token"]);
    assert_eq!(json_of(&data, &["accounts", "set-plan", "2", "phantom"])["webhooks"], true);
    assert_eq!(json_of(&data, &["accounts", "show", "2"])["plan"], "phantom");
    assert_in_no_file(&data, token);
}

#[test]
fn an_endpoint_from_registration_to_removal() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    json_of(&data, &["accounts", "create", "--name", "Desk", "--plan", "phantom"]);
    let add = [
        "webhooks",
        "add",
        "--account",
        "1",
        "--url",
        "https://bot.example.com/hook",
        "--events",
        "new_listing,delisting",
        "--exchanges",
        "upbit",
        "--label",
        "bot",
    ];
    let made = json_of(&data, &add);
    let secret = made["secret"].as_str().unwrap();
    assert!(secret.starts_with("whsec_"));
    assert_eq!((&made["state"], &made["events"]), (&json!("pending"), &json!(["new_listing", "delisting"])));
    assert!(made["note"].as_str().unwrap().contains("when the service starts"));
    let shown = text(&data, &add);
    assert!(shown.starts_with("whsec_") && shown.contains("when the service starts"), "{shown}");
    json_of(&data, &["webhooks", "remove", "2"]);

    let (code, said) = failure(&data, &["webhooks", "enable", "1"]);
    assert!(code == 1 && said.contains("not been verified"), "{said}");
    set_state(&data, 1, State::Disabled(Disabled::Auto));
    let on = json_of(&data, &["webhooks", "enable", "1"]);
    assert_eq!((&on["state"], &on["failures"], &on["slow"]), (&json!("active"), &json!(0), &json!(false)));
    assert_eq!(json_of(&data, &["webhooks", "disable", "1"])["state"], "disabled_user");
    let rotated = json_of(&data, &["webhooks", "rotate", "1", "--grace", "2h"]);
    let second = rotated["secret"].as_str().unwrap();
    assert!(second != secret && rotated["previous_secret_until"].is_string());
    assert_eq!(
        json_of(&data, &["webhooks", "rotate", "1", "--grace", "0s"])["previous_secret_until"],
        Value::Null
    );

    for list in [&["webhooks", "list"][..], &["webhooks", "list", "--account", "1"]] {
        assert_eq!(json_of(&data, list)["webhooks"][0]["label"], "bot");
        assert!(text(&data, list).contains("https://bot.example.com/hook"));
    }
    for shown in [text(&data, &["webhooks", "show", "1"]), json_of(&data, &["webhooks", "list"]).to_string()]
    {
        assert!(!shown.contains("whsec_") && shown.contains("disabled_user"), "{shown}");
    }
    assert_in_no_file(&data, secret);
    assert_in_no_file(&data, second);

    assert_eq!(json_of(&data, &["webhooks", "deliveries", "1"]), json!({"deliveries": []}));
    assert_eq!(text(&data, &["webhooks", "deliveries", "1"]), "nothing was sent yet\n");
    assert_eq!(json_of(&data, &["webhooks", "replay", "1", "--since", "2h"])["queued"], 0);
    assert_eq!(text(&data, &["webhooks", "remove", "1"]), "endpoint 1 is removed\n");
    assert_eq!(json_of(&data, &["webhooks", "list"]), json!({"webhooks": []}));
}

#[test]
fn a_plan_without_webhooks_switches_endpoints_off() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    json_of(&data, &["accounts", "create", "--name", "Desk", "--plan", "phantom"]);
    json_of(&data, &["webhooks", "add", "--account", "1", "--url", "https://bot.example.com/"]);
    set_state(&data, 1, State::Active);
    let changed = json_of(&data, &["accounts", "set-plan", "1", "basic"]);
    assert_eq!((&changed["webhooks"], &changed["endpoints_disabled"]), (&json!(false), &json!(1)));
    assert_eq!(json_of(&data, &["webhooks", "show", "1"])["state"], "disabled_user");
    for arguments in [
        &["webhooks", "enable", "1"][..],
        &["webhooks", "replay", "1", "--since", "1h"],
        &["webhooks", "add", "--account", "1", "--url", "https://bot.example.com/"],
    ] {
        let (code, said) = failure(&data, arguments);
        assert!(code == 1 && said.contains("plan \"basic\" has no webhooks; there is phantom"), "{said}");
    }
}

#[test]
fn wrong_usage_is_2_and_what_cannot_be_done_is_1() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    json_of(&data, &["accounts", "create", "--name", "Desk", "--plan", "phantom"]);
    let add = |url| ["webhooks", "add", "--account", "1", "--url", url];
    let rows: [(i32, &[&str], &str); 20] = [
        (2, &["accounts", "create", "--name", "x"], "--plan"),
        (2, &["accounts", "create", "--name", "", "--plan", "p"], "name: "),
        (2, &["accounts", "create", "--name", "x", "--plan", "P P"], "plan: "),
        (2, &["accounts", "create", "--name", "x", "--plan", "p", "--email", "y"], "email: "),
        (1, &["accounts", "show", "9"], "there is no account 9"),
        (1, &["accounts", "set-plan", "9", "p"], "there is no account 9"),
        (1, &["accounts", "rotate-token", "9"], "there is no account 9"),
        (2, &["accounts", "show", "0"], "0"),
        (2, &add("http://bot.example.com/"), "--url: "),
        (2, &add("https://127.0.0.1/"), "loopback"),
        (
            2,
            &[&add("https://bot.example.com/")[..], &["--events", "lsiting"]].concat(),
            "\"lsiting\" is no event",
        ),
        (
            1,
            &["webhooks", "add", "--account", "9", "--url", "https://bot.example.com/"],
            "there is no account 9",
        ),
        (1, &["webhooks", "list", "--account", "9"], "there is no account 9"),
        (1, &["webhooks", "show", "9"], "there is no endpoint 9"),
        (1, &["webhooks", "verify", "1"], "needs the running service"),
        (1, &["webhooks", "test", "1"], "tocsin serve"),
        (2, &["webhooks", "test", "1", "--type", "x"], "one of new_listing"),
        (2, &["webhooks", "rotate", "1", "--grace", "8d"], "0s to 7d"),
        (2, &["webhooks", "replay", "1", "--since", "soon"], "how long ago, like 2h"),
        (2, &["webhooks", "replay", "1", "--since", "1h", "--until", "2h"], "--until must be later"),
    ];
    for (expected, arguments, part) in rows {
        let (code, said) = failure(&data, arguments);
        assert!(code == expected && said.contains(part), "{arguments:?}: {code} {said}");
    }
}

#[test]
fn five_endpoints_an_account() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    json_of(&data, &["accounts", "create", "--name", "Desk", "--plan", "phantom"]);
    let add = ["webhooks", "add", "--account", "1", "--url", "https://bot.example.com/"];
    for _ in 0..5 {
        json_of(&data, &add);
    }
    let (code, said) = failure(&data, &add);
    assert!(code == 1 && said.contains("at most 5 endpoints"), "{said}");
}
