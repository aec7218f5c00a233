//! The control plane of the running engine: who is connected, what an account uses, a drain and a reload; a
//! flood of requests; credentials that are almost right; and every answer against the published document, by
//! schemathesis.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod harness;

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use harness::crowd::memory_of;
use harness::{Engine, Mode, wait_for};
use serde_json::{Value, json};

const EXEMPT: &str = "[feed.limits]\nexempt = [\"127.0.0.0/8\"]\n";

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// An account and the token of its owner.
fn account(engine: &Engine, plan: &str) -> (i64, String) {
    let made = engine.cli_json(&["accounts", "create", "--name", "Desk", "--plan", plan]);
    (made["id"].as_i64().unwrap(), made["token"].as_str().unwrap().to_owned())
}

#[test]
fn who_is_connected_what_is_used_and_how_it_ends() {
    let mut engine = Engine::start(Mode::Plain, EXEMPT);
    let (desk, token) = account(&engine, "basic");
    let number = desk.to_string();
    let flags = ["--tier", "premium", "--max-connections", "5", "--label", "bot", "--account", &number];
    let (id, key) = engine.key_with(&flags);
    let mut clients: Vec<_> =
        ["", "cex=upbit", "tickers=BTC,ETH"].map(|query| engine.connect(&key, query)).into();
    subscribers_are_listed(&engine, id, desk);
    let cookie = the_owner_sees_what_is_his(&engine, id, desk, &token);

    // Renamed; then removed, with everything that was its.
    let path = format!("/admin/v1/accounts/{desk}");
    let changed = engine.admin("PATCH", &path, Some(&json!({"name": "Bench", "email": "a@b.example"})));
    assert_eq!((&changed["name"], &changed["plan"]), (&json!("Bench"), &json!("basic")));
    assert_eq!(changed["email"], "a@b.example");
    let (status, ..) = engine.admin_raw("DELETE", &path, &bearer(&admin_token(&engine)), "");
    assert_eq!(status, 204);
    for client in &mut clients {
        assert_eq!(client.closed(), (Some(1000), "key_revoked".to_owned()));
    }
    assert_eq!(engine.admin_as("GET", "/v1/keys", &cookie, None).0, 401);
    assert_eq!(engine.admin_as("GET", "/v1/keys", &bearer(&token), None).0, 401);
    assert_eq!(engine.cli_json(&["keys", "show", &id.to_string()])["account"], Value::Null);

    a_reload_reports(&engine);
    // Drained: closed, red, and still serving everything else.
    let key = engine.key();
    let mut client = engine.connect(&key, "");
    let begun = engine.cli_json(&["drain", "--over", "0"]);
    assert_eq!(begun["over_secs"], 0);
    assert_eq!(client.closed(), (Some(1012), "restart".to_owned()));
    assert_eq!(engine.admin_as("GET", "/readyz", "", None).0, 503);
    assert_eq!(engine.admin("GET", "/admin/v1/status", None)["draining"], true);
    assert_eq!(engine.stop(), Some(0));
}

/// Two pages of them, in the order of their numbers.
fn subscribers_are_listed(engine: &Engine, id: i64, desk: i64) {
    let first = engine.admin("GET", "/admin/v1/subscribers?limit=2", None);
    let rows = first["subscribers"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "{first}");
    let after = first["next"].as_u64().unwrap();
    assert_eq!(rows[1]["id"].as_u64(), Some(after));
    let one = &rows[0];
    assert_eq!(
        (&one["key_id"], &one["label"], &one["tier"], &one["account"]),
        (&json!(id), &json!("bot"), &json!("premium"), &json!(desk))
    );
    assert_eq!(
        (&one["state"], &one["lag_messages"], &one["address"]),
        (&json!("live"), &json!(0), &Value::Null)
    );
    let last = engine.admin("GET", &format!("/admin/v1/subscribers?after={after}"), None);
    let rows: Vec<&Value> = last["subscribers"].as_array().unwrap().iter().collect();
    assert_eq!((rows.len(), &last["next"]), (1, &Value::Null));
    let listed = engine.cli_json(&["subscribers"]);
    let filters: Vec<Value> =
        listed["subscribers"].as_array().unwrap().iter().map(|s| s["filter"].clone()).collect();
    assert!(filters.iter().any(|filter| filter["exchanges"] == json!(["upbit"])), "{filters:?}");
    assert!(filters.iter().any(|filter| filter["tickers"] == json!(2)), "{filters:?}");
    wait_for("the count of connections", || {
        engine.admin("GET", "/admin/v1/subscribers?limit=1", None)["total"] == 3
    });
    assert_eq!(engine.admin("GET", "/admin/v1/sources", None)["sources"], json!([]));
}

/// With a token, and after a link with a session, whose cookie it returns.
fn the_owner_sees_what_is_his(engine: &Engine, id: i64, desk: i64, token: &str) -> String {
    let number = desk.to_string();
    let (_, keys) = engine.admin_as("GET", "/v1/keys", &bearer(token), None);
    assert_eq!((&keys["keys"][0]["id"], &keys["keys"][0]["connections"]), (&json!(id), &json!(3)), "{keys}");
    let link = engine.cli_json(&["sign-in", "--account", &number]);
    let (base, code) = link["url"].as_str().unwrap().split_once("/#code=").unwrap();
    assert_eq!(base, format!("http://{}", engine.admin));
    let body = json!({ "code": code }).to_string();
    let (status, head, _) = engine.admin_raw("POST", "/v1/session", "", &body);
    assert_eq!(status, 200, "{head}");
    let head = head.to_lowercase();
    let cookie = head.split("set-cookie: ").nth(1).unwrap().split(';').next().unwrap();
    let cookie = format!("Cookie: {cookie}\r\n");
    let (_, usage) = engine.admin_as("GET", "/v1/usage", &cookie, None);
    assert_eq!((&usage["plan"], &usage["webhooks"]), (&json!("basic"), &json!(false)), "{usage}");
    assert_eq!(usage["tests_today"], json!({"used": 0, "left": 50, "limit": 50}));
    assert_eq!(usage["keys"][0]["connections"], 3);

    // History as its keys show it; nothing without one.
    engine.inject("binance", "Binance Will List Coin One (ONE)");
    wait_for("the announcement in history", || {
        let (_, history) = engine.admin_as("GET", "/v1/announcements", &cookie, None);
        history["announcements"].as_array().map(Vec::len) == Some(1)
    });
    let (_, other) = account(engine, "basic");
    let (status, refused) = engine.admin_as("GET", "/v1/announcements", &bearer(&other), None);
    assert_eq!((status, &refused["error"]), (403, &json!("no_key")));
    cookie
}

/// A reload that changes one key at once and one at the next start; one that is not usable.
fn a_reload_reports(engine: &Engine) {
    engine.configure(&format!("{EXEMPT}[log]\nlevel = \"debug\"\njson = true\n"));
    let report = engine.cli_json(&["reload"]);
    let changed = |field: &str| -> Vec<String> {
        let keys = report[field].as_array().unwrap().iter().map(|changed| changed["key"].as_str().unwrap());
        keys.map(str::to_owned).collect()
    };
    assert_eq!(
        (changed("in_force"), changed("needs_restart")),
        (vec!["log.level".to_owned()], vec!["log.json".to_owned()])
    );
    std::fs::write(engine.config(), "nonsense = 1\n").unwrap();
    let (status, refused) =
        engine.admin_as("POST", "/admin/v1/reload", &bearer(&admin_token(engine)), Some(&json!({})));
    assert_eq!((status, &refused["error"]), (409, &json!("configuration_unusable")), "{refused}");
    engine.configure(EXEMPT);
}

fn admin_token(engine: &Engine) -> String {
    std::fs::read_to_string(engine.data_dir().join("admin.token")).unwrap().trim().to_owned()
}

/// One request without a credential over a connection that is kept: status, and whether it says when to come again.
fn kept_request(stream: &mut std::net::TcpStream, headers: &str) -> (u16, bool) {
    let request = format!("GET /v1/session HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let (mut answer, mut buffer) = (Vec::new(), [0; 4_096]);
    loop {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "closed");
        answer.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&answer).to_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.split("content-length: ").nth(1).unwrap().lines().next().unwrap();
        if body.len() >= length.parse().unwrap() {
            return (head.split(' ').nth(1).unwrap().parse().unwrap(), head.contains("retry-after: "));
        }
    }
}

#[test]
fn a_flood_of_requests_is_answered_at_the_rate_and_no_faster() {
    let config = "[admin]\nrequests_per_second = 20\nforwarded_for_from = [\"127.0.0.1/32\"]\n";
    let engine = Engine::start(Mode::Plain, config);
    let mut stream = std::net::TcpStream::connect(engine.admin).unwrap();
    let from = Instant::now();
    let mut served = 0;
    for _ in 0..1_000 {
        match kept_request(&mut stream, "X-Forwarded-For: 192.0.2.7\r\n") {
            (401, _) => served += 1,
            (429, says_when) => assert!(says_when),
            other => panic!("{other:?}"),
        }
    }
    // Twice the rate at once, then the rate.
    let most = 40.0 + from.elapsed().as_secs_f64() * 20.0 + 1.0;
    assert!(served >= 40 && f64::from(served) <= most, "{served} of at most {most}");
    // Another address, and the socket, are served meanwhile.
    assert_eq!(kept_request(&mut stream, "X-Forwarded-For: 192.0.2.8\r\n").0, 401);
    assert!(engine.cli(&["status"]).status.success());
}

/// A page is some thirty files: an address whose rate is used up gets them all the same, to a bound.
#[test]
fn files_of_the_dashboard_have_a_rate_of_their_own() {
    let engine = Engine::start(Mode::Plain, "[admin]\nrequests_per_second = 1\n");
    let asked = |path: &str| engine.admin_raw("GET", path, "", "").0;
    wait_for("the rate to be used up", || asked("/v1/session") == 429);
    for _ in 0..10 {
        for path in ["/", "/assets/js/app.js", "/assets/styles/base.css", "/assets/vendor/uplot.js"] {
            assert_eq!(asked(path), 200, "{path}");
        }
    }
    wait_for("the rate to be used up", || asked("/assets/nothing.js") == 429);
    wait_for("the rate of files to be used up", || asked("/assets/icon.svg") == 429);
}

/// Where `scripts/setup-test-clients` put schemathesis. Never skips: a test that was not run is no pass.
fn schemathesis() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    let cache = std::env::var_os("TOCSIN_CACHE").map_or_else(|| root.join(".cache"), PathBuf::from);
    let path = cache.join("clients/python/bin/schemathesis");
    assert!(path.exists(), "{} is missing: run scripts/setup-test-clients", path.display());
    path
}

/// Checks that hold for every route.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
     response_headers_conformance,response_schema_conformance";

/// Runs it over the routes whose path fits, as the owner of a token, from an address of its own: wrong
/// credentials are tried too, and an address that tries too many waits.
fn check_routes(engine: &Engine, role: &str, token: &str, paths: &str, but: &str) {
    let folder = tempfile::tempdir().unwrap();
    let document = folder.path().join("openapi.json");
    let (_, _, text) = engine.admin_raw("GET", "/openapi.json", "", "");
    std::fs::write(&document, text).unwrap();
    let config = folder.path().join("schemathesis.toml");
    let address = role.len();
    let text = format!(
        "headers = {{ Authorization = \"Bearer ${{TOKEN}}\", X-Forwarded-For = \"192.0.2.{address}\" }}\n\
         request-timeout = 20.0\n\
         continue-on-failure = true\n\
         [generation]\n\
         deterministic = true\n\
         with-security-parameters = false\n"
    );
    std::fs::write(&config, text).unwrap();
    let output = Command::new(schemathesis())
        .current_dir(folder.path())
        .env("TOKEN", token)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg("--config-file")
        .arg(&config)
        .arg("run")
        .arg(&document)
        .args(["--url", &format!("http://{}", engine.admin), "--no-color"])
        .args(["--phases", "coverage", "--checks", CHECKS])
        .args(["--include-path-regex", paths, "--exclude-path-regex", but])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{role}:\n{said}\n{complaint}");
    assert!(said.contains("Test cases:"), "{role}:\n{said}");
}

/// Those that sign in or take a key: wrong ones are counted.
const OPEN: &str = "^/v1/(session|announcements)$";

#[test]
fn every_answer_is_as_the_document_says() {
    let config = format!(
        "{EXEMPT}[admin]\nforwarded_for_from = [\"127.0.0.1/32\"]\n[egress]\nresolvers = [\"127.0.0.1:9\"]\n"
    );
    let engine = Engine::start(Mode::Plain, &config);
    let (_, token) = account(&engine, "phantom");
    engine.key_with(&["--tier", "premium", "--account", "1"]);
    engine.inject("upbit", "Market Support for Coin Two (TWO)");
    // Not the streams, which have no end, nor what would end the run for those after it.
    check_routes(&engine, "customer", &token, "^/v1/", &format!("{OPEN}|/live$"));
    // Endpoints have the customer's handlers behind all three of their doors.
    let but = "/live$|/drain$|/token$|/webhooks";
    check_routes(&engine, "administrator", &admin_token(&engine), "^/admin/v1/|^/[a-z.]+$", but);
    check_routes(&engine, "anyone", &token, OPEN, "/live$");
    assert_eq!(engine.admin("GET", "/healthz", None)["alive"], true);
}

/// Requests of [`Guesser`].
const GUESSES: usize = 4_000;
/// Most that the engine may grow meanwhile: the tables of rates, full, and what the allocator keeps.
const GUESS_BYTES: u64 = 32 * 1_024 * 1_024;

/// Makes requests that are almost allowed: real credentials of the wrong kind, or with something changed,
/// over routes as they are and as a filter in front might read them. Repeats itself.
struct Guesser {
    state: u64,
    /// Routes behind a credential, with their methods.
    routes: Vec<(String, String)>,
    admin: String,
    account: String,
    key: String,
    session: String,
}

impl Guesser {
    fn below(&mut self, bound: usize) -> usize {
        // xorshift64.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        usize::try_from(self.state % bound as u64).unwrap()
    }

    /// The same text with one thing changed.
    fn changed(&mut self, text: &str) -> String {
        let at = self.below(text.len());
        let (head, tail) = text.split_at(at);
        let other = if tail.starts_with('a') { "b" } else { "a" };
        match self.below(6) {
            0 => head.to_owned(),
            1 => format!("{head}{other}{}", &tail[1..]),
            2 => format!("{text}{other}"),
            3 => text.to_uppercase().replace('0', "O"),
            4 => text.repeat(1 + self.below(50)) + other,
            _ => format!("{head}%00{tail}"),
        }
    }

    /// Header lines that open nothing.
    fn credential(&mut self) -> String {
        let (admin, account, key, session) =
            (self.admin.clone(), self.account.clone(), self.key.clone(), self.session.clone());
        match self.below(9) {
            0 => String::new(),
            1 => bearer(&self.changed(&admin)),
            2 => bearer(&self.changed(&account)),
            3 => bearer(&key),
            4 => format!("Authorization: Basic {admin}\r\nX-API-Key: {admin}\r\n"),
            5 => format!("Cookie: tocsin_session={}\r\n", self.changed(&session)),
            // A session is there, and the request comes from another site.
            6 => format!("Cookie: tocsin_session={session}\r\nSec-Fetch-Site: cross-site\r\n"),
            7 => format!("Cookie: tocsin_session={admin}; session={session}\r\nX-CSRF-Token: {admin}\r\n"),
            _ => format!("Authorization: {admin}\r\nAuthorization: Bearer\r\nCookie: {session}\r\n"),
        }
    }

    /// A path as somebody would write it who hopes that it is read in two ways.
    fn path(&mut self, path: &str) -> String {
        match self.below(10) {
            0 => format!("/{path}"),
            1 => format!("{path}/"),
            2 => format!("/assets/..{path}"),
            3 => path.replace("admin", "%61dmin"),
            4 => path.to_uppercase(),
            5 => format!("{path}?token={}&access_token={}", self.admin, self.account),
            6 => format!("{path};x=/healthz"),
            _ => path.to_owned(),
        }
    }

    fn request(&mut self, number: usize) -> Vec<u8> {
        let at = self.below(self.routes.len());
        let (method, path) = self.routes[at].clone();
        let method = if self.below(8) == 0 { "PUT".to_owned() } else { method };
        let (path, credential) = (self.path(&path), self.credential());
        // Each from an address of its own: one that guesses often waits.
        let from = format!("X-Forwarded-For: 198.51.{}.{}\r\n", number / 250, number % 250);
        let body = r#"{"tier":"premium","name":"x","exchange":"binance","title":"x"}"#;
        let length = body.len();
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\n{from}{credential}Content-Type: application/json\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
        .into_bytes();
        if self.below(10) == 0 {
            let at = self.below(request.len());
            request[at] = u8::try_from(self.below(256)).unwrap();
        }
        request
    }
}

/// The status of a request's answer; `None` when the connection ended without one.
fn status_of(engine: &Engine, request: &[u8]) -> Option<u16> {
    let mut stream = std::net::TcpStream::connect(engine.admin).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    stream.write_all(request).ok()?;
    // What is not whole (a changed length) must not wait for more.
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut head = [0; 12];
    stream.read_exact(&mut head).ok()?;
    std::str::from_utf8(&head).unwrap().strip_prefix("HTTP/1.")?.get(2..)?.parse().ok()
}

/// A session of the administrator's: its cookie's value.
fn session(engine: &Engine) -> String {
    let body = json!({"token": admin_token(engine)}).to_string();
    let (status, head, _) = engine.admin_raw("POST", "/v1/session", "Content-Type: application/json\r\n", &body);
    assert_eq!(status, 200, "{head}");
    let cookie = head.split("tocsin_session=").nth(1).unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

#[test]
fn no_credential_that_is_almost_right_opens_anything() {
    let engine = Engine::start(Mode::Plain, "[admin]\nforwarded_for_from = [\"127.0.0.1/32\"]\n");
    let (_, account) = account(&engine, "phantom");
    let (_, _, text) = engine.admin_raw("GET", "/openapi.json", "", "");
    let document: Value = serde_json::from_str(&text).unwrap();
    let open = ["/v1/session", "/v1/announcements", "/metrics", "/openapi.json"];
    let routes = document["paths"].as_object().unwrap().iter().flat_map(|(path, methods)| {
        let numbered = path.replace("{event_id}", "x").replace("{id}", "1").replace("{account}", "1");
        methods.as_object().unwrap().keys().map(move |method| (method.to_uppercase(), numbered.clone()))
    });
    let routes: Vec<_> = routes
        .filter(|(_, path)| (path.starts_with("/v1/") || path.starts_with("/admin/")) && !open.contains(&&**path))
        .collect();
    assert!(routes.len() > 40, "{routes:?}");
    let (admin, key, session) = (admin_token(&engine), engine.key(), session(&engine));
    let mut guesser = Guesser { state: 0x70c5_1275, routes, admin, account, key, session };
    let count = |list: &str| engine.admin("GET", &format!("/admin/v1/{list}"), None)[list].as_array().unwrap().len();
    let before = (count("keys"), count("accounts"), memory_of(engine.pid(), "VmRSS").unwrap());
    let mut answers = std::collections::BTreeMap::new();
    for number in 0..GUESSES {
        let request = guesser.request(number);
        let status = status_of(&engine, &request);
        let shown = String::from_utf8_lossy(&request);
        assert!(status.is_none_or(|status| (400..500).contains(&status)), "{status:?} to {shown}");
        *answers.entry(status).or_insert(0_usize) += 1;
    }
    assert!(answers[&Some(401)] > GUESSES / 4 && answers[&Some(403)] > GUESSES / 20, "{answers:?}");
    assert!(answers.get(&None).is_none_or(|ended| *ended < GUESSES / 20), "{answers:?}");
    let after = memory_of(engine.pid(), "VmRSS").unwrap();
    assert!(after < before.2 + GUESS_BYTES, "from {} to {after} bytes", before.2);
    assert_eq!((count("keys"), count("accounts")), (before.0, before.1), "something was made");
    assert!(!engine.log().contains("panicked"), "{}", engine.log());
}
