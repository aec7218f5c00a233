//! Webhooks through the whole engine: the real binary, its command line and APIs, SQLite, and real TLS
//! receivers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod harness;

use std::time::Duration;

use harness::{Engine, Mode, wait_for};
use serde_json::{Value, json};
use tocsin_sim::receiver::{Behaviour, Received, ReceiverOptions, SimReceiver};

/// An engine, a receiver it trusts, an account that has webhooks.
struct Shop {
    engine: Engine,
    receiver: SimReceiver,
    account: i64,
    token: String,
}

impl Shop {
    fn open() -> Shop {
        Shop::open_with(ReceiverOptions::default())
    }

    fn open_with(options: ReceiverOptions) -> Shop {
        let dir = tempfile::tempdir().unwrap();
        let ca_file = dir.path().join("ca.pem");
        let receiver =
            SimReceiver::start(ReceiverOptions { ca_file: Some(ca_file.clone()), ..options }).unwrap();
        let extra = format!(
            "[egress]\nallow_nets = [\"127.0.0.0/8\"]\nca_file = {ca_file:?}\nresolvers = [\"127.0.0.1:9\"]\n"
        );
        let engine = Engine::start_in(dir, Mode::Plain, &extra);
        let made = engine.cli_json(&["accounts", "create", "--name", "Desk", "--plan", "phantom"]);
        let (account, token) = (made["id"].as_i64().unwrap(), made["token"].as_str().unwrap().to_owned());
        Shop { engine, receiver, account, token }
    }

    /// Registers an endpoint by the command line; its number and secret.
    fn add(&self, path: &str) -> (i64, String) {
        let url = self.receiver.url(path);
        let made =
            self.engine.cli_json(&["webhooks", "add", "--account", &self.account.to_string(), "--url", &url]);
        (made["id"].as_i64().unwrap(), made["secret"].as_str().unwrap().to_owned())
    }

    /// One request of the customer; its status and body.
    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        self.engine.admin_as(method, path, &format!("Authorization: Bearer {}\r\n", self.token), body)
    }

    /// Waits for deliveries that are no pings.
    fn events(&self, count: usize) -> Vec<Received> {
        let mut all = Vec::new();
        wait_for("deliveries", || {
            all.extend(
                self.receiver.take().into_iter().filter(|r| r.event_type().as_deref() != Some("ping")),
            );
            all.len() >= count
        });
        all
    }
}

fn id_of(received: &Received) -> String {
    received.event_id().unwrap()
}

#[test]
fn from_the_command_line_to_a_signed_delivery() {
    let shop = Shop::open();
    let (id, secret) = shop.add("/hook");
    shop.receiver.know(&[&secret]).unwrap();
    let (status, shown) = shop.ask("GET", &format!("/v1/webhooks/{id}"), None);
    assert_eq!((status, shown["state"].as_str()), (200, Some("active")), "{shown}");
    let _ = shop.receiver.take();
    let announced = shop.engine.inject("binance", "Binance Will List Newcoin (NEWC)");
    let received = shop.events(1);
    assert!(shop.receiver.verdict(&received[0]).is_valid(), "{:?}", shop.receiver.verdict(&received[0]));
    let body = received[0].json().unwrap();
    assert_eq!((body["symbol"].as_str(), body["type"].as_str()), (Some("NEWCUSDT"), Some("new_listing")));
    assert_eq!(
        body["timestamp"].as_i64().unwrap(),
        announced["detectedTimestampUs"].as_i64().unwrap() / 1_000_000
    );
    wait_for("the delivery log", || {
        let (_, log) = shop.ask("GET", &format!("/v1/webhooks/{id}/deliveries"), None);
        log.to_string().contains(&id_of(&received[0]))
    });
}

#[test]
fn a_restart_sends_nothing_again_and_forgets_nothing() {
    let mut shop = Shop::open();
    let (_, secret) = shop.add("/hook");
    shop.receiver.know(&[&secret]).unwrap();
    shop.engine.inject("upbit", "[거래] 뉴코인(NEWC) 신규 거래지원 안내 (KRW, BTC, USDT 마켓)");
    let first = shop.events(1);
    assert_eq!(first[0].json().unwrap()["symbol"], "NEWCKRW");
    // The second is refused for now, and waits for its retry over the restart.
    shop.receiver.behave("/hook", vec![Behaviour::status(503)]);
    shop.engine.inject("binance", "Binance Will List Other Coin (OTHR)");
    let second = shop.events(1);
    assert_eq!(shop.engine.stop(), Some(0));
    shop.engine.start_again();
    shop.receiver.behave("/hook", vec![Behaviour::ok()]);
    shop.engine.inject("binance", "Binance Will List Third Coin (THRD)");
    let third = shop.events(1);
    assert_eq!(third.len(), 1);
    assert_eq!(third[0].json().unwrap()["symbol"], "THRDUSDT");
    // Gauges are published a little later than they change.
    wait_for(&format!("nothing but the retry of {}", id_of(&second[0])), || {
        shop.engine.cli_json(&["status"])["webhooks"]["pending"] == json!(1)
    });
    shop.engine.kill();
    shop.engine.start_again();
    std::thread::sleep(Duration::from_millis(300));
    let again = shop.receiver.take();
    assert!(again.iter().all(|r| id_of(r) != id_of(&first[0]) && id_of(r) != id_of(&third[0])));
}
