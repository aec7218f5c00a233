//! A running engine beside a simulated receiver that it trusts, and the ways to speak to it: the command
//! line, a customer's API, the administrator's. All that is printed and answered is kept, and which
//! routes and verbs were used.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::process::Output;

use serde_json::{Value, json};
use tocsin_sim::receiver::{Received, ReceiverOptions, SimReceiver};

use super::{Engine, Mode, wait_for};

/// An account and its token.
#[derive(Clone, Debug)]
pub struct Account {
    pub id: i64,
    pub token: String,
}

/// An endpoint and the secret it was registered with.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub id: u64,
    pub secret: String,
}

/// See the module head.
pub struct Shop {
    pub engine: Engine,
    pub receiver: SimReceiver,
    /// What was asked, and what was printed or answered.
    printed: RefCell<Vec<(String, String)>>,
    /// Method and path of every request that was carried out.
    done: RefCell<BTreeSet<(String, String)>>,
}

/// Sections that let an engine send to receivers on this machine, whose certificates lead to `ca_file`.
pub fn egress(ca_file: &std::path::Path) -> String {
    format!(
        "[egress]\nallow_nets = [\"127.0.0.0/8\"]\nca_file = {ca_file:?}\nresolvers = [\"127.0.0.1:9\"]\n"
    )
}

impl Shop {
    pub fn open() -> Shop {
        Shop::open_with(ReceiverOptions::default(), "")
    }

    /// With `extra` sections of configuration.
    pub fn open_with(options: ReceiverOptions, extra: &str) -> Shop {
        Shop::open_in(tempfile::tempdir().unwrap(), options, extra)
    }

    /// In a directory of the test's.
    pub fn open_in(dir: tempfile::TempDir, options: ReceiverOptions, extra: &str) -> Shop {
        let ca_file = dir.path().join("ca.pem");
        let receiver =
            SimReceiver::start(ReceiverOptions { ca_file: Some(ca_file.clone()), ..options }).unwrap();
        let engine = Engine::start_in(dir, Mode::Plain, &(egress(&ca_file) + extra));
        Shop { engine, receiver, printed: RefCell::default(), done: RefCell::default() }
    }

    /// What was printed and answered so far, and on what.
    pub fn printed(&self) -> Vec<(String, String)> {
        self.printed.borrow().clone()
    }

    /// Method and path of every request answered with 2xx.
    pub fn done(&self) -> BTreeSet<(String, String)> {
        self.done.borrow().clone()
    }

    /// Runs a verb; what it prints is kept.
    pub fn cli(&self, args: &[&str]) -> Output {
        let output = self.engine.cli(args);
        self.keep(args, &output);
        output
    }

    /// Keeps what a verb has printed.
    pub fn keep(&self, args: &[&str], output: &Output) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let both = text(&output.stdout) + &text(&output.stderr);
        self.printed.borrow_mut().push((args.join(" "), both));
    }

    /// Runs a verb that must succeed and prints text for people.
    pub fn cli_text(&self, args: &[&str]) -> String {
        let output = self.cli(args);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        text
    }

    /// Runs a verb that must succeed and prints one JSON value.
    pub fn cli_json(&self, args: &[&str]) -> Value {
        let text = self.cli_text(&[args, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{args:?}: {e}: {text}"))
    }

    /// Runs a verb that must fail; its exit code and what it says.
    pub fn cli_refused(&self, args: &[&str]) -> (i32, String) {
        let output = self.cli(args);
        assert!(!output.status.success() && output.stdout.is_empty(), "{args:?}: {output:?}");
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }

    /// An account of a plan that has webhooks.
    pub fn account(&self) -> Account {
        self.account_on("phantom")
    }

    /// An account of a plan.
    pub fn account_on(&self, plan: &str) -> Account {
        let made = self.cli_json(&["accounts", "create", "--name", "Desk", "--plan", plan]);
        Account { id: made["id"].as_i64().unwrap(), token: made["token"].as_str().unwrap().to_owned() }
    }

    /// One request with a token, or none; head and body as they came.
    pub fn raw(&self, token: Option<&str>, method: &str, path: &str, body: &str) -> (u16, String, String) {
        let header = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let (status, head, answer) = self.engine.admin_raw(method, path, &header, body);
        if (200..300).contains(&status) {
            let path = path.split('?').next().unwrap_or(path);
            self.done.borrow_mut().insert((method.to_owned(), path.to_owned()));
        }
        self.printed.borrow_mut().push((format!("{method} {path}"), format!("{head}\r\n\r\n{answer}")));
        (status, head, answer)
    }

    /// One request with these header lines, as [`Shop::raw`].
    pub fn with_headers(&self, method: &str, path: &str, headers: &str) -> (u16, String, String) {
        let (status, head, answer) = self.engine.admin_raw(method, path, headers, "");
        if (200..300).contains(&status) {
            self.done.borrow_mut().insert((method.to_owned(), path.to_owned()));
        }
        (status, head, answer)
    }

    /// One request with a token; a body of null is none.
    #[allow(clippy::needless_pass_by_value, reason = "bodies are made where they are sent")]
    pub fn ask(&self, token: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, _, answer) = self.raw(Some(token), method, path, &body);
        if answer.is_empty() {
            return (status, Value::Null);
        }
        (status, serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{method} {path}: {e}: {answer}")))
    }

    /// One request that must be carried out.
    pub fn get_done(&self, token: &str, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.ask(token, method, path, body);
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    /// One request that must be refused: status, code, and `field: detail`.
    pub fn refused(&self, token: &str, method: &str, path: &str, body: Value) -> (u16, String, String) {
        let (status, answer) = self.ask(token, method, path, body);
        assert!(status >= 400, "{method} {path}: {status} {answer}");
        let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
        let field = text("field");
        let detail = if field.is_empty() { text("detail") } else { format!("{field}: {}", text("detail")) };
        (status, text("error"), detail)
    }

    /// The administrator's token.
    pub fn admin_token(&self) -> String {
        let file = self.engine.data_dir().join("admin.token");
        std::fs::read_to_string(file).unwrap().trim().to_owned()
    }

    /// Registers a receiver's path for an account.
    pub fn add(&self, account: &Account, path: &str) -> Endpoint {
        let body = json!({"url": self.receiver.url(path)});
        let made = self.get_done(&account.token, "POST", "/v1/webhooks", body);
        Endpoint { id: made["id"].as_u64().unwrap(), secret: made["secret"].as_str().unwrap().to_owned() }
    }

    /// The state of an account's endpoint.
    pub fn state(&self, account: &Account, endpoint: &Endpoint) -> String {
        let shown =
            self.get_done(&account.token, "GET", &format!("/v1/webhooks/{}", endpoint.id), Value::Null);
        shown["state"].as_str().unwrap().to_owned()
    }

    /// Announces it and waits until its event is on disk; the event.
    pub fn announce(&self, account: &Account, exchange: &str, title: &str) -> Value {
        let before = self.all_events(account).len();
        let args = ["inject", "--exchange", exchange, "--title", title];
        self.cli_json(&args);
        let mut events = Vec::new();
        wait_for("the event in the list", || {
            events = self.all_events(account);
            events.len() > before
        });
        events.swap_remove(before)
    }

    /// Every event, oldest first.
    pub fn all_events(&self, account: &Account) -> Vec<Value> {
        let page = self.get_done(&account.token, "GET", "/v1/events?limit=1000", Value::Null);
        page["events"].as_array().unwrap().clone()
    }

    /// Takes what has come to a path until there are `count` deliveries that are no pings.
    pub fn deliveries(&self, path: &str, count: usize) -> Vec<Received> {
        let events = || -> Vec<Received> {
            let all = self.receiver.records_on(path).into_iter();
            all.filter(|received| received.event_type().as_deref() != Some("ping")).collect()
        };
        wait_for(&format!("{count} deliveries on {path}"), || events().len() >= count);
        events()
    }
}
