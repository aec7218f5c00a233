//! Accounts and webhooks through the running service: the command line and the customer's API say the
//! same, and neither log nor files nor lists hold a token or a secret.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod harness;

use harness::{Engine, Mode};
use serde_json::{Value, json};

fn account(engine: &Engine, plan: &str) -> (i64, String) {
    let made = engine.cli_json(&["accounts", "create", "--name", "Desk", "--plan", plan]);
    (made["id"].as_i64().unwrap(), made["token"].as_str().unwrap().to_owned())
}

fn customer(engine: &Engine, token: &str, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    engine.admin_as(method, path, &format!("Authorization: Bearer {token}\r\n"), body)
}

/// Neither the log nor a file of the data directory holds `text`.
fn assert_nowhere(engine: &Engine, text: &str) {
    assert!(!engine.log().contains(text), "the log holds it");
    for entry in std::fs::read_dir(engine.data_dir()).unwrap() {
        let path = entry.unwrap().path();
        let Ok(bytes) = std::fs::read(&path) else { continue };
        let found = bytes.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(!found, "{} holds it", path.display());
    }
}

#[test]
fn an_account_made_on_the_command_line_opens_the_customers_api() {
    let engine = Engine::start(Mode::Plain, "[log]\nlevel = \"debug\"");
    let (id, token) = account(&engine, "phantom");
    let (status, own) = customer(&engine, &token, "GET", "/v1/account", None);
    assert_eq!((status, &own["id"], &own["webhooks"]), (200, &json!(id), &json!(true)));
    assert_eq!(customer(&engine, &token, "GET", "/v1/webhooks", None), (200, json!({"webhooks": []})));
    assert_eq!(
        customer(&engine, &token, "GET", "/v1/events", None),
        (200, json!({"events": [], "next": null}))
    );
    assert_eq!(customer(&engine, &token, "GET", "/admin/v1/accounts", None).0, 401);

    let renewed = engine.cli_json(&["accounts", "rotate-token", "1"]);
    assert_eq!(customer(&engine, &token, "GET", "/v1/account", None).0, 401);
    let token = renewed["token"].as_str().unwrap();
    let changed = engine.cli_json(&["accounts", "set-plan", "1", "basic"]);
    assert_eq!((&changed["plan"], &changed["webhooks"]), (&json!("basic"), &json!(false)));
    let (status, refused) = customer(&engine, token, "GET", "/v1/webhooks", None);
    assert_eq!((status, &refused["error"]), (403, &json!("plan_has_no_webhooks")));
    let listed = engine.cli_json(&["accounts", "list"]);
    assert!(!listed.to_string().contains("act_"));
    assert_nowhere(&engine, token);
}

/// Nobody listens there: the endpoint is stored all the same, for its owner has to deploy the secret
/// before a receiver that checks signatures can answer.
#[test]
fn an_endpoint_that_does_not_answer_waits_for_its_owner() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let engine = Engine::start(Mode::Plain, "[egress]\nallow_nets = [\"127.0.0.0/8\"]");
    let (_, token) = account(&engine, "phantom");
    let url = format!("https://127.0.0.1:{closed}/hook");
    let body = json!({"url": url, "events": ["delisting"], "label": "bot"});
    let (status, made) = customer(&engine, &token, "POST", "/v1/webhooks", Some(&body));
    assert_eq!(
        (status, &made["state"], &made["verification"]["ok"]),
        (201, &json!("pending"), &json!(false))
    );
    let secret = made["secret"].as_str().unwrap();

    let listed = engine.cli_json(&["webhooks", "list"]);
    assert_eq!(
        (&listed["webhooks"][0]["url"], &listed["webhooks"][0]["label"]),
        (&json!(url), &json!("bot"))
    );
    let shown = engine.cli_json(&["webhooks", "show", "1"]);
    assert_eq!((&shown["state"], &shown["events"]), (&json!("pending"), &json!(["delisting"])));
    assert!(!listed.to_string().contains("whsec_") && !shown.to_string().contains("whsec_"));
    assert_nowhere(&engine, secret);
    let refused = engine.cli(&["webhooks", "test", "1"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("has not been verified"));
    assert_eq!(engine.cli_json(&["webhooks", "remove", "1"]), json!({"removed": 1}));
    assert_eq!(engine.cli_json(&["webhooks", "list"]), json!({"webhooks": []}));
}

#[test]
fn private_addresses_need_the_operators_leave() {
    let engine = Engine::start(Mode::Plain, "");
    account(&engine, "phantom");
    let add = |url| engine.cli(&["webhooks", "add", "--account", "1", "--url", url]);
    for url in ["https://127.0.0.1:8443/", "https://10.1.2.3/", "https://[::1]/", "http://bot.example.com/"] {
        let refused = add(url);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(refused.status.code() == Some(2) && said.contains("url: "), "{url}: {said}");
    }
    assert_eq!(engine.cli_json(&["webhooks", "list"]), json!({"webhooks": []}));
}
