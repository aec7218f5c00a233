//! "Secrets and tokens never appear in logs, lists, errors or `ps`": one long run of every verb and
//! every route, at the highest log level; then everything that was printed, answered, logged, sent to
//! receivers, stored, or shown of any process is searched.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod harness;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use harness::shop::{Account, Shop};
use harness::wait_for;
use serde_json::{Value, json};
use tocsin_sim::receiver::{Behaviour, ReceiverOptions};

/// Verbs that this run has no use for: one starts everything anew, the others have tests of their own
/// for the key they hold.
const ELSEWHERE: [&str; 2] = ["demo", "watch"];

/// What may be shown once, and once only.
#[derive(Default)]
struct Shown(Vec<String>);

impl Shown {
    /// Takes note of what an answer shows.
    fn note(&mut self, answer: &Value) {
        for name in ["key", "token", "secret"] {
            self.0.extend(answer[name].as_str().map(str::to_owned));
        }
    }

    /// Takes note of what a verb shows to people: the first line.
    fn note_text(&mut self, text: &str) {
        assert!(text.contains("it is shown this once"), "{text}");
        self.0.push(text.lines().next().unwrap().to_owned());
    }

    /// Everything by which one of them could be known: as text, without its prefix, and the bytes it
    /// stands for, as such and in hexadecimal.
    fn needles(&self) -> Vec<String> {
        let mut all = Vec::new();
        for text in &self.0 {
            let (prefix, rest) = text.split_once('_').unwrap_or(("", text));
            all.push(rest.to_owned());
            if prefix == "whsec" {
                let bytes = base64::engine::general_purpose::STANDARD.decode(rest).unwrap();
                all.push(bytes.iter().map(|b| format!("{b:02x}")).collect());
                all.push(text_of(&bytes));
            }
        }
        all
    }
}

/// Bytes as text, one to a character: searching text is quick even without optimization.
fn text_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn holds_any(bytes: &[u8], needles: &[String]) -> bool {
    let text = text_of(bytes);
    needles.iter().any(|needle| text.contains(needle.as_str()))
}

/// Names below `Commands:` of a help text.
fn verbs_of(help: &str) -> Vec<String> {
    let list = help.split("Commands:\n").nth(1).unwrap_or("").split("\n\n").next().unwrap();
    let lines = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = lines.filter_map(|line| line.split_whitespace().next()).map(str::to_owned);
    names.filter(|name| name != "help").collect()
}

/// Every verb there is, as it would be typed.
fn every_verb(shop: &Shop) -> Vec<String> {
    let mut all = Vec::new();
    for verb in verbs_of(&shop.cli_text(&["--help"])) {
        let below = verbs_of(&shop.cli_text(&[&verb, "--help"]));
        match below.is_empty() {
            true => all.push(verb),
            false => all.extend(below.iter().map(|name| format!("{verb} {name}"))),
        }
    }
    all.retain(|verb| !ELSEWHERE.contains(&verb.as_str()));
    assert!(all.len() > 25 && all.iter().any(|verb| verb == "webhooks rotate"), "{all:?}");
    all
}

/// Accounts, keys and what else has no endpoint.
fn accounts_and_keys(shop: &Shop, shown: &mut Shown) -> Account {
    let desk = shop.account();
    shown.0.push(desk.token.clone());
    shown.note_text(&shop.cli_text(&["accounts", "create", "--name", "Other", "--plan", "basic"]));
    let key = shop.cli_json(&["keys", "create", "--tier", "premium"]);
    shown.note(&key);
    shown.note_text(&shop.cli_text(&["keys", "create", "--tier", "basic"]));
    let renewed = shop.cli_text(&["accounts", "rotate-token", "2"]);
    shown.note_text(&renewed);
    for args in [
        &["accounts", "list"][..],
        &["accounts", "show", "2"],
        &["accounts", "set-plan", "2", "phantom"],
        &["keys", "list"],
        &["keys", "show", "1"],
        &["keys", "set-expiry", "1", "--never"],
        &["keys", "revoke", "1"],
        &["status"],
        &["subscribers"],
        &["sources"],
        &["race"],
        &["reload"],
        &["history"],
        &["config", "show"],
        &["inject", "--exchange", "binance", "--title", "Binance Will List Coin One (ONE)"],
        &["version"],
    ] {
        shop.cli_text(args);
        shop.cli_json(args);
    }
    for args in [&["sign-in"][..], &["sign-in", "--account", "2"]] {
        let link = shop.cli_json(args);
        shown.0.push(link["path"].as_str().unwrap().strip_prefix("/#code=").unwrap().to_owned());
        let text = shop.cli_text(args);
        shown.0.push(text.split("/#code=").nth(1).unwrap().lines().next().unwrap().to_owned());
    }
    shop.cli_text(&["classify", "--exchange", "binance", "--title", "Binance Will List Coin One (ONE)"]);
    for args in [
        &["config", "default"][..],
        &["config", "openapi"],
        &["config", "metrics"],
        &["completions", "bash"],
        &["check"],
        &["top", "--once"],
    ] {
        shop.cli_text(args);
    }
    // What these find depends on the host, and the service is in the way of the other two.
    shop.cli(&["doctor"]);
    shop.cli_refused(&["record", "--out", "/nonexistent"]);
    shop.cli_refused(&["replay", "--detect", "/nonexistent"]);
    desk
}

/// Every verb on endpoints, with the service up or down; refusals too.
fn webhooks_by_hand(shop: &Shop, desk: &Account, up: bool, shown: &mut Shown) {
    let (account, url) = (desk.id.to_string(), shop.receiver.url("/cli"));
    let add = ["webhooks", "add", "--account", &account, "--url", &url];
    let made = shop.cli_json(&add);
    shown.note(&made);
    shown.note_text(&shop.cli_text(&add));
    let id = made["id"].to_string();
    if up {
        // The receiver refuses what it cannot verify, then knows the secret.
        assert_eq!(made["state"], "pending", "{made}");
        shop.receiver.know(&[made["secret"].as_str().unwrap()]).unwrap();
        shop.cli_text(&["webhooks", "verify", &id]);
        assert!(!shop.cli(&["webhooks", "verify", &id, "--json"]).status.success(), "it is verified");
        shop.cli_text(&["webhooks", "test", &id]);
        shop.cli_json(&["webhooks", "test", &id]);
        for verb in ["disable", "enable"] {
            shop.cli_text(&["webhooks", verb, &id]);
            shop.cli_json(&["webhooks", verb, &id]);
        }
    }
    let live = if up { id.as_str() } else { "1" };
    shown.note(&shop.cli_json(&["webhooks", "rotate", live]));
    shown.note_text(&shop.cli_text(&["webhooks", "rotate", live, "--grace", "1h"]));
    for args in [
        &["webhooks", "list"][..],
        &["webhooks", "list", "--account", &account],
        &["webhooks", "show", live],
        &["webhooks", "replay", live, "--since", "1h"],
        &["webhooks", "deliveries", live],
    ] {
        shop.cli_text(args);
        shop.cli_json(args);
    }
    let next = (made["id"].as_u64().unwrap() + 1).to_string();
    shop.cli_text(&["webhooks", "remove", &next]);
    shop.cli_refused(&["webhooks", "show", &next]);
    shop.cli_refused(&["webhooks", "add", "--account", &account, "--url", "http://x"]);
}

/// Every route of the document, as customer and as administrator.
fn every_route(shop: &Shop, desk: &Account, shown: &mut Shown) {
    let admin = shop.admin_token();
    let event = shop.all_events(desk)[0]["event_id"].as_str().unwrap().to_owned();
    let of_account = format!("/admin/v1/accounts/{}/webhooks", desk.id);
    let doors =
        [("/v1/webhooks", &desk.token), (of_account.as_str(), &admin), ("/admin/v1/webhooks", &admin)];
    for (base, token) in doors {
        let mut ask = |method: &str, path: &str, body: Value| {
            let answer = shop.get_done(token, method, path, body);
            shown.note(&answer);
            answer
        };
        // The administrator adds for an account.
        let add = if base == "/admin/v1/webhooks" { &of_account } else { base };
        let made = ask("POST", add, json!({"url": shop.receiver.url("/api")}));
        shop.receiver.know_on("/api", &[made["secret"].as_str().unwrap()]).unwrap();
        let one = format!("{base}/{}", made["id"]);
        assert_eq!(ask("POST", &format!("{one}/verify"), Value::Null)["state"], "active");
        ask("GET", base, Value::Null);
        ask("GET", &one, Value::Null);
        ask("PATCH", &one, json!({"label": "bot"}));
        for (what, body) in [
            ("disable", Value::Null),
            ("enable", Value::Null),
            ("test", Value::Null),
            ("replay", json!({"since": "0"})),
            (&format!("deliveries/{event}/resend"), Value::Null),
            ("rotate", json!({"grace_secs": 60})),
        ] {
            ask("POST", &format!("{one}/{what}"), body);
        }
        ask("GET", &format!("{one}/deliveries"), Value::Null);
        ask("DELETE", &one, Value::Null);
    }
    for path in ["/v1/account", "/v1/keys", "/v1/usage"] {
        shop.get_done(&desk.token, "GET", path, Value::Null);
    }
    let mut ask = |method: &str, path: &str, body: Value| {
        let answer = shop.get_done(&admin, method, path, body);
        shown.note(&answer);
        answer["id"].to_string()
    };
    let account = ask("POST", "/admin/v1/accounts", json!({"name": "Api", "plan": "phantom"}));
    let account = format!("/admin/v1/accounts/{account}");
    ask("GET", "/admin/v1/accounts", Value::Null);
    ask("GET", &account, Value::Null);
    ask("PATCH", &account, json!({"plan": "basic"}));
    ask("POST", &format!("{account}/token"), Value::Null);
    let key = format!("/admin/v1/keys/{}", ask("POST", "/admin/v1/keys", json!({"tier": "basic"})));
    ask("GET", "/admin/v1/keys", Value::Null);
    ask("GET", &key, Value::Null);
    ask("PATCH", &key, json!({"expires_at": null}));
    ask("POST", &format!("{key}/revoke"), Value::Null);
    assert_eq!(shop.raw(None, "GET", "/metrics", "").0, 200);
    for path in ["status", "sources", "subscribers", "markets", "markets/events"] {
        ask("GET", &format!("/admin/v1/{path}"), Value::Null);
    }
    ask("POST", "/admin/v1/reload", Value::Null);
    let doomed = ask("POST", "/admin/v1/accounts", json!({"name": "Gone", "plan": "phantom"}));
    ask("DELETE", &format!("/admin/v1/accounts/{doomed}"), Value::Null);
    ask("GET", "/v1/announcements", Value::Null);
    ask("POST", "/admin/v1/announcements", json!({"exchange": "upbit", "title": "By hand (HAND)"}));
    // Streams of events: for a second.
    for (token, path) in [(&desk.token, "/v1/live"), (&admin, "/admin/v1/live")] {
        let (status, ..) = shop.raw(Some(token), "GET", &format!("{path}?for_secs=1"), "");
        assert_eq!(status, 200, "{path}");
    }
    for path in ["/healthz", "/livez", "/readyz", "/openapi.json"] {
        assert_eq!(shop.raw(None, "GET", path, "").0, 200, "{path}");
    }
}

/// A session from a link to its end; its id and CSRF token are its browser's alone.
fn session(shop: &Shop, shown: &mut Shown) {
    let link = shop.get_done(&shop.admin_token(), "POST", "/admin/v1/sign-in-links", json!({}));
    let code = link["path"].as_str().unwrap().strip_prefix("/#code=").unwrap().to_owned();
    let (status, head, body) = shop.raw(None, "POST", "/v1/session", &json!({ "code": code }).to_string());
    assert_eq!(status, 200, "{body}");
    let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let body: Value = serde_json::from_str(&body).unwrap();
    let csrf = body["csrf"].as_str().unwrap().to_owned();
    for (method, more) in [("GET", ""), ("DELETE", "X-CSRF-Token: ")] {
        let csrf_line = if more.is_empty() { String::new() } else { format!("{more}{csrf}\r\n") };
        let headers = format!("Cookie: {cookie}\r\n{csrf_line}");
        let (status, _, answer) = shop.with_headers(method, "/v1/session", &headers);
        assert!((200..300).contains(&status), "{method}: {answer}");
    }
    shown.0.extend([code, cookie.split('=').nth(1).unwrap().to_owned()]);
}

/// Requests that are wrong in ways that hold a secret: where it does not belong.
fn misplaced(shop: &Shop, desk: &Account, secret: &str) {
    let token = desk.token.as_str();
    let spoilt = format!("{}x", &token[..token.len() - 1]);
    for (who, method, path, body) in [
        (Some(spoilt.as_str()), "GET", "/v1/account".to_owned(), String::new()),
        (Some(secret), "GET", "/v1/account".to_owned(), String::new()),
        (Some(token), "GET", "/admin/v1/accounts".to_owned(), String::new()),
        (None, "GET", format!("/v1/account?token={token}"), String::new()),
        (Some(token), "GET", format!("/v1/events?token={token}"), String::new()),
        (
            Some(token),
            "POST",
            "/v1/webhooks".to_owned(),
            json!({"url": "https://x", "secret": secret}).to_string(),
        ),
        (Some(token), "POST", "/v1/webhooks".to_owned(), json!({"url": secret}).to_string()),
        (Some(token), "POST", "/v1/webhooks".to_owned(), format!("{{\"url\": {secret}")),
        (Some(token), "GET", format!("/v1/webhooks/{secret}"), String::new()),
        (Some(token), "GET", format!("/{token}"), String::new()),
        (Some(token), "POST", "/v1/webhooks/1/rotate".to_owned(), json!({"grace_secs": secret}).to_string()),
        (Some(token), "POST", "/v1/webhooks/1/test".to_owned(), json!({"type": secret}).to_string()),
        (Some(token), "POST", "/v1/webhooks/1/replay".to_owned(), json!({"since": secret}).to_string()),
    ] {
        let (status, ..) = shop.raw(who, method, &path, &body);
        assert!(status >= 400, "{method} {path}: {status}");
    }
}

/// Looks at the command line and environment of every process there is, while a verb waits.
fn nothing_in_ps(shop: &Shop, id: &str, needles: &[String]) {
    shop.receiver.behave("/cli", vec![Behaviour::late(Duration::from_secs(3))]);
    let args = ["webhooks", "test", id];
    let mut verb = Command::new(env!("CARGO_BIN_EXE_tocsin"));
    verb.args(args).arg("--config").arg(shop.engine.config());
    let verb = verb.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut looked_at, mut seen) = (0, 0);
    wait_for("a look at the verb while it runs", || {
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
            for what in ["cmdline", "environ", "comm"] {
                // Gone meanwhile, or another user's.
                let Ok(bytes) = fs::read(entry.path().join(what)) else { continue };
                looked_at += 1;
                seen += usize::from(
                    pid == verb.id() && what == "cmdline" && text_of(&bytes).contains("webhooks"),
                );
                assert!(!holds_any(&bytes, needles), "/proc/{pid}/{what}");
            }
        }
        seen > 0
    });
    assert!(looked_at >= 6, "{looked_at}");
    shop.keep(&args, &verb.wait_with_output().unwrap());
    shop.receiver.behave("/cli", vec![Behaviour::ok()]);
}

/// Files of the data directory: closed to others, and nothing in the clear.
fn nothing_on_disk(folder: &Path, needles: &[String]) {
    let mut files = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", path.display());
        let bytes = fs::read(&path).unwrap_or_default();
        files += usize::from(!bytes.is_empty());
        assert!(!holds_any(&bytes, needles), "{}", path.display());
    }
    assert!(files >= 3, "{}", folder.display());
}

fn every_verb_and_route_was_used(shop: &Shop, document: &Value, verbs: &[String]) {
    let printed = shop.printed();
    let ran =
        |verb: &str| printed.iter().any(|(asked, _)| asked.starts_with(verb) && !asked.ends_with("--help"));
    let missing: Vec<&String> = verbs.iter().filter(|verb| *verb != "serve" && !ran(verb)).collect();
    assert!(missing.is_empty(), "verbs without a run: {missing:?}");
    let fits = |template: &str, path: &str| {
        let (template, path): (Vec<&str>, Vec<&str>) =
            (template.split('/').collect(), path.split('/').collect());
        template.len() == path.len()
            && template.iter().zip(&path).all(|(part, given)| part.starts_with('{') || part == given)
    };
    let done = shop.done();
    let mut missing = Vec::new();
    for (template, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys().map(|method| method.to_uppercase()) {
            if !done.iter().any(|(m, path)| *m == method && fits(template, path)) {
                missing.push(format!("{method} {template}"));
            }
        }
    }
    assert!(missing.is_empty(), "routes without a request that was carried out: {missing:#?}");
}

#[test]
fn secrets_and_tokens_are_shown_once_and_nowhere_else() {
    let options = ReceiverOptions { refuses_unsigned: true, ..ReceiverOptions::default() };
    let mut shop = Shop::open_with(options, "[log]\nlevel = \"trace\"\n");
    // Something to refuse by.
    shop.receiver.know(&["whsec_dG9jc2luLXRlc3QtdmVjdG9ycy1ub3QtYS1zZWNyZXQ="]).unwrap();
    let mut shown = Shown::default();
    let verbs = every_verb(&shop);
    let document: Value = serde_json::from_str(&shop.raw(None, "GET", "/openapi.json", "").2).unwrap();
    let desk = accounts_and_keys(&shop, &mut shown);
    shop.announce(&desk, "binance", "Binance Will List Coin Two (TWO)");
    webhooks_by_hand(&shop, &desk, true, &mut shown);
    every_route(&shop, &desk, &mut shown);
    session(&shop, &mut shown);
    let secret = shown.0.iter().find(|text| text.starts_with("whsec_")).unwrap().clone();
    misplaced(&shop, &desk, &secret);
    nothing_in_ps(&shop, "1", &shown.needles());

    let mut log = shop.engine.log();
    assert!(log.contains("ready") && log.contains("change=Verified"), "{log}");
    assert_eq!(shop.engine.stop(), Some(0));
    log += &shop.engine.log();
    webhooks_by_hand(&shop, &desk, false, &mut shown);
    shop.engine.start_again();
    // Last of all: what comes after is not served any more.
    let drained = shop.get_done(&shop.admin_token(), "POST", "/admin/v1/drain", json!({"over_secs": 0}));
    assert_eq!(drained["over_secs"], 0);
    shop.cli_text(&["drain"]);
    assert_eq!(shop.state(&desk, &harness::shop::Endpoint { id: 1, secret: String::new() }), "active");
    assert_eq!(shop.engine.stop(), Some(0));
    log += &shop.engine.log();
    every_verb_and_route_was_used(&shop, &document, &verbs);

    assert!(shown.0.len() >= 20, "{}", shown.0.len());
    let printed = shop.printed();
    for text in &shown.0 {
        let holds: Vec<&str> =
            printed.iter().filter(|(_, out)| out.contains(text)).map(|(asked, _)| asked.as_str()).collect();
        assert_eq!(holds.len(), 1, "shown by {holds:?}");
    }
    let received = shop.receiver.records();
    assert!(received.len() > 20);
    let mut needles = shown.needles();
    needles.push(shop.admin_token());
    assert!(!holds_any(log.as_bytes(), &needles), "in the log");
    for delivery in &received {
        assert!(
            !holds_any(&delivery.head, &needles) && !holds_any(&delivery.body, &needles),
            "sent to a receiver"
        );
    }
    assert!(printed.iter().all(|(_, out)| !out.contains(&shop.admin_token())));
    needles.pop();
    nothing_on_disk(&shop.engine.data_dir(), &needles);
}
