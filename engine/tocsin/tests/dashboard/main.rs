//! The dashboard in a real browser: Chromium, driven by Playwright, over the real engine with a simulated
//! exchange and a simulated receiver.
//!
//! A flow is a script beside this file. It asks for what happens outside the browser, a line of JSON each
//! (an announcement, a secret deployed at the receiver, the service killed), and this side does it. Every
//! flow also asserts that nothing was written to the browser's console, that no policy was violated and
//! that no other host was asked. With `TOCSIN_PICTURES` set to a directory, pictures are written there.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../harness/mod.rs"]
mod harness;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use harness::exchange::Exchange;
use harness::shop::{Account, Shop};
use harness::{Client, Handshake};
use serde_json::{Value, json};
use tocsin_sim::receiver::ReceiverOptions;
use tocsin_sim::{Category, Draft, Kind, Options};

/// A secret in its form that signs nothing here: what a receiver has before it is told its own.
const UNKNOWN: &str = "whsec_dG9jc2luLXRlc3QtdmVjdG9ycy1ub3QtYS1zZWNyZXQ=";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Where `scripts/setup-test-clients` put the packages. Never skips: a test that was not run is no pass.
fn packages() -> PathBuf {
    let cache = std::env::var_os("TOCSIN_CACHE").map_or_else(|| repository().join(".cache"), PathBuf::from);
    let path = cache.join("clients/node/node_modules");
    assert!(path.join("playwright-core").exists(), "no playwright-core: run scripts/setup-test-clients");
    path
}

fn chromium() -> PathBuf {
    let path = std::env::var_os("TOCSIN_CHROMIUM").map_or_else(|| "/usr/bin/chromium".into(), PathBuf::from);
    assert!(path.exists(), "{} is missing: run scripts/setup-test-clients", path.display());
    path
}

/// The engine, what it hears, where it sends, and one subscriber the flows may have.
struct Stage {
    shop: Shop,
    exchanges: Vec<Exchange>,
    desk: Account,
    subscriber: Option<Client>,
}

impl Stage {
    /// `strict`: the receiver answers 401 to what it cannot verify.
    fn open(strict: bool, kinds: &[Kind]) -> Stage {
        let exchanges: Vec<Exchange> =
            kinds.iter().map(|kind| Exchange::start(*kind, Options::default())).collect();
        let options = ReceiverOptions { refuses_unsigned: strict, ..ReceiverOptions::default() };
        let section: String = exchanges.iter().map(Exchange::section).collect();
        let shop = Shop::open_with(options, &section);
        if strict {
            shop.receiver.know(&[UNKNOWN]).unwrap();
        }
        let desk = shop.account();
        Stage { shop, exchanges, desk, subscriber: None }
    }

    /// Does what a flow asks for.
    fn answer(&mut self, asked: &Value) -> Value {
        let text = |name: &str| asked[name].as_str().unwrap_or_default();
        match text("do") {
            "link" => {
                let body = asked.get("account").map_or_else(|| json!({}), |id| json!({"account": id}));
                self.shop.get_done(&self.shop.admin_token(), "POST", "/admin/v1/sign-in-links", body)
            }
            "announce" => self.shop.engine.inject(text("exchange"), text("title")),
            // On every exchange, and made up ones before.
            "publish" => {
                for exchange in &self.exchanges {
                    exchange.baselined(&self.shop.engine);
                    for _ in 0..asked["invented"].as_u64().unwrap_or_default() {
                        exchange.sim.publish_any();
                        exchange.polled();
                    }
                    exchange.sim.publish(Draft::new(Category::Listing, "Will List Found Coin (FOUND)"));
                }
                json!({})
            }
            "know" => {
                let secrets: Vec<&str> =
                    asked["secrets"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
                let known = match asked.get("path").and_then(Value::as_str) {
                    Some(path) => self.shop.receiver.know_on(path, &secrets),
                    None => self.shop.receiver.know(&secrets),
                };
                known.unwrap();
                json!({})
            }
            "delivered" => {
                let came = self.shop.deliveries(text("path"), 1).remove(0);
                let body = came.json().unwrap();
                if body["symbol"] == asked["symbol"] { body } else { json!({"error": body.to_string()}) }
            }
            "connect" => {
                let shake = Handshake::new("").header("X-API-Key", text("key"));
                let mut client = shake.connect(&self.shop.engine).unwrap();
                let welcome = client.json();
                self.subscriber = Some(client);
                welcome
            }
            "closed" => {
                let (_, reason) = self.subscriber.take().unwrap().closed();
                if reason == text("reason") { json!({}) } else { json!({"error": reason}) }
            }
            "kill" => {
                self.shop.engine.kill();
                json!({})
            }
            "start" => {
                // Where the page left it.
                let section = format!("[admin]\nlisten = {:?}", self.shop.engine.admin.to_string());
                self.shop.engine.configure(&section);
                self.shop.engine.start_again();
                json!({})
            }
            other => json!({"error": format!("nobody does {other}")}),
        }
    }

    /// Runs a flow to its end, with further facts for it.
    fn play(&mut self, flow: &str, facts: &Value) -> Value {
        let mut told = json!({
            "base": format!("http://{}", self.shop.engine.admin),
            "chromium": chromium(),
            "pictures": std::env::var("TOCSIN_PICTURES").ok(),
            "account": self.desk.id,
            "token": self.desk.token,
            "receiver": self.shop.receiver.base_url(),
        });
        told.as_object_mut().unwrap().extend(facts.as_object().unwrap().clone());
        let mut flow = Flow::start(flow);
        flow.tell(&told);
        loop {
            let asked = flow.next();
            if asked["do"] == "done" {
                flow.end();
                return asked;
            }
            flow.tell(&self.answer(&asked));
        }
    }
}

/// A script that runs; killed when the test is over, however that ends.
struct Flow {
    child: Child,
    says: BufReader<std::process::ChildStdout>,
}

impl Flow {
    fn start(name: &str) -> Flow {
        let script = repository().join("engine/tocsin/tests/dashboard").join(name);
        let mut child = Command::new("node")
            .arg(script)
            .env("NODE_PATH", packages())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let says = BufReader::new(child.stdout.take().unwrap());
        Flow { child, says }
    }

    fn tell(&mut self, line: &Value) {
        let stdin = self.child.stdin.as_mut().unwrap();
        // One that has ended says why in `next`.
        let _ = writeln!(stdin, "{line}");
    }

    fn next(&mut self) -> Value {
        let mut line = String::new();
        if self.says.read_line(&mut line).unwrap() == 0 {
            let mut why = String::new();
            self.child.stderr.take().unwrap().read_to_string(&mut why).unwrap();
            panic!("{why}");
        }
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"))
    }

    fn end(&mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        // Its browser ends with the pipe between them.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_customer_registers_verifies_tests_watches_and_leaves() {
    Stage::open(true, &[]).play("customer.cjs", &json!({}));
}

#[test]
fn an_administrator_watches_makes_keys_and_accounts_and_sees_a_break() {
    Stage::open(false, &[Kind::Binance]).play("administrator.cjs", &json!({}));
}

#[test]
fn the_main_flow_goes_with_the_keyboard_alone_on_a_phone() {
    Stage::open(false, &[]).play("keyboard.cjs", &json!({}));
}

/// The page's answers come before its first frame: what they change must not be lost.
#[test]
fn a_page_whose_first_frame_comes_late_does_not_stay_blank() {
    Stage::open(false, &[]).play("slow.cjs", &json!({}));
}

#[test]
fn a_page_goes_on_by_itself_after_files_and_answers_that_were_refused() {
    Stage::open(false, &[]).play("refused.cjs", &json!({}));
}

/// With something in every list.
fn every_page(theme: &str) {
    let mut stage = Stage::open(false, &[Kind::Binance, Kind::Upbit, Kind::Bithumb]);
    let key = stage.shop.engine.key();
    stage.answer(&json!({"do": "connect", "key": key}));
    let body = json!({"url": stage.shop.receiver.url("/hooks/shown"), "label": "Shown bot"});
    stage.shop.get_done(&stage.desk.token, "POST", "/v1/webhooks", body);
    let done = stage.play("pages.cjs", &json!({"theme": theme}));
    assert!(done["axed"].as_u64() > Some(15), "{done}");
}

#[test]
fn every_page_in_light_has_no_serious_finding_and_fits_a_phone() {
    every_page("light");
}

#[test]
fn every_page_in_dark_has_no_serious_finding_and_fits_a_phone() {
    every_page("dark");
}

/// `tocsin demo`, ended by its own signal so that it removes what it made.
struct Demo {
    child: Child,
    says: BufReader<std::process::ChildStdout>,
}

impl Demo {
    fn start() -> Demo {
        // On free ports: another demo may run on this machine.
        let mut child = Command::new(env!("CARGO_BIN_EXE_tocsin"))
            .args(["demo", "--listen", "127.0.0.1:0", "--every", "300ms"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let says = BufReader::new(child.stdout.take().unwrap());
        Demo { child, says }
    }

    /// The first sign-in link it prints: the customer's.
    fn link(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.says.read_line(&mut line).unwrap() > 0, "the demo printed no sign-in link");
            if let Some(link) = line.split_whitespace().find(|word| word.contains("/#code=")) {
                return link.to_owned();
            }
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        // What it still prints must not hold it up.
        let _ = std::io::copy(&mut self.says, &mut std::io::sink());
        let _ = self.child.wait();
    }
}

/// "a newcomer reaches a delivered test event by clicking only"
#[test]
fn a_newcomer_of_the_demo_reaches_a_delivered_test_event_by_clicking_only() {
    let mut demo = Demo::start();
    let link = demo.link();
    let base = link.split("/#").next().unwrap().to_owned();
    // The demo goes on printing what arrives.
    let mut flow = Flow::start("demo.cjs");
    let pictures = std::env::var("TOCSIN_PICTURES").ok();
    flow.tell(&json!({"base": base, "link": link, "chromium": chromium(), "pictures": pictures}));
    assert_eq!(flow.next()["do"], "done");
    flow.end();
}

/// `GET /` and the files, as a stranger gets them.
#[test]
fn files_are_served_to_anyone_with_a_strict_policy_and_known_ones_are_not_sent_again() {
    let shop = Shop::open();
    let get = |path: &str, headers: &str| shop.engine.admin_raw("GET", path, headers, "");
    let (status, head, body) = get("/", "");
    let head = head.to_lowercase();
    assert_eq!(status, 200, "{head}");
    assert!(body.starts_with("<!doctype html>"), "{body}");
    for wanted in [
        "content-type: text/html; charset=utf-8",
        "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self';",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
        "x-frame-options: deny",
    ] {
        assert!(head.contains(wanted), "{wanted} is not in {head}");
    }
    assert!(!head.contains("unsafe"), "{head}");
    let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
    let (status, _, body) = get("/", &format!("If-None-Match: {tag}\r\n"));
    assert_eq!((status, body.as_str()), (304, ""));
    assert_eq!(get("/assets/nothing.js", "").0, 404);
    assert_eq!(get("/assets/../Cargo.toml", "").0, 404);
}

/// `docs/dashboard.md` shows pictures that a run of these tests made.
#[test]
fn the_page_s_pictures_are_there_and_small() {
    let page = std::fs::read_to_string(repository().join("docs/dashboard.md")).unwrap();
    let named: Vec<&str> =
        page.split("](pictures/").skip(1).map(|rest| rest.split(')').next().unwrap()).collect();
    assert!(named.len() >= 4, "the page is read wrongly: {named:?}");
    let folder = repository().join("docs/pictures");
    let sizes =
        named.iter().map(|name| folder.join(name).metadata().unwrap_or_else(|e| panic!("{name}: {e}")).len());
    let sum: u64 = sizes.sum();
    assert!(sum < 600 * 1_024, "{sum} bytes of pictures");
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), named.len(), "a picture that no page shows");
}
