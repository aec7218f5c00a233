//! Exchanges that answer anything but what was asked, against the real binary: another source goes
//! on, memory stays within [`GROWTH_BYTES`], the failures are counted, and when the exchange behaves
//! again its news is announced.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod harness;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use harness::crowd::memory_of;
use harness::{Client, Engine, Mode};
use serde_json::Value;
use tocsin_sim::{Category, Draft, Fault, Kind, Options, SimExchange};

/// Most that the engine may grow, in bytes: an answer of 2 MiB on each of a few connections, and slack.
const GROWTH_BYTES: u64 = 32 * 1_024 * 1_024;
/// Failing connections rest a few seconds, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);

struct Market {
    /// The one that misbehaves.
    bad: SimExchange,
    good: SimExchange,
    engine: Engine,
    subscriber: Client,
    before: u64,
}

fn config(bad: &str, good: &str) -> String {
    format!(
        "[sources.binance]\nenabled = true\nbase_url = {bad:?}\nrequests_per_second = 2.0\nflat = true\n\
         [sources.bithumb]\nenabled = true\nbase_url = {good:?}"
    )
}

fn source(engine: &Engine, name: &str) -> Value {
    let status = engine.cli_json(&["status"]);
    status["sources"].as_array().unwrap().iter().find(|s| s["name"] == name).cloned().unwrap()
}

/// The name that the status gives to the source of an exchange.
fn name_of(engine: &Engine, exchange: &str) -> String {
    let status = engine.cli_json(&["status"]);
    let sources = status["sources"].as_array().unwrap();
    let name = sources.iter().map(|s| s["name"].as_str().unwrap()).find(|n| n.starts_with(exchange));
    name.unwrap_or_else(|| panic!("{status}")).to_owned()
}

fn eventually(engine: &Engine, what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < until, "no {what}: {}", engine.cli_json(&["status"])["sources"]);
        std::thread::sleep(Duration::from_millis(100));
    }
}

impl Market {
    fn open() -> Market {
        let bad = SimExchange::start(Kind::Binance, Options::plain()).unwrap();
        let good = SimExchange::start(Kind::Bithumb, Options::plain()).unwrap();
        let engine = Engine::start(Mode::Plain, &config(&bad.base_url(), &good.base_url()));
        for exchange in ["binance", "bithumb"] {
            let name = name_of(&engine, exchange);
            eventually(&engine, "first answer", || source(&engine, &name)["state"] == "live");
        }
        let subscriber = engine.connect(&engine.key(), "");
        let before = memory_of(engine.pid(), "VmRSS").unwrap();
        Market { bad, good, engine, subscriber, before }
    }

    /// A listing published on `exchange` is announced.
    fn announces(&mut self, on_bad: bool, ticker: &str) {
        let (exchange, title) = if on_bad {
            (&self.bad, format!("Binance Will List Some Token ({ticker})"))
        } else {
            (&self.good, format!("섬토큰({ticker}) 원화 마켓 추가"))
        };
        exchange.publish(Draft::new(Category::Listing, title.clone()));
        let until = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < until, "{title} was not announced");
            if self.subscriber.json_of("announcement")["title"] == title {
                return;
            }
        }
    }

    fn goes_on_beside(fault: Fault, counted_as: &[&str]) {
        let mut market = Market::open();
        let name = name_of(&market.engine, "binance");
        market.bad.set_fault(fault);
        market.bad.drop_connections();
        let failures = || {
            let failures = &source(&market.engine, &name)["failures"];
            counted_as.iter().filter_map(|class| failures[class].as_u64()).sum::<u64>()
        };
        eventually(&market.engine, "counted failure", || failures() >= 2);
        market.announces(false, "GOODA");
        market.announces(false, "GOODB");
        market.bad.clear_fault();
        market.announces(true, "BACKA");
        let grown = memory_of(market.engine.pid(), "VmHWM").unwrap().saturating_sub(market.before);
        println!("grew by {} KiB at most", grown / 1_024);
        assert!(grown <= GROWTH_BYTES, "grew by {grown} bytes");
    }
}

#[test]
fn garbage_instead_of_http() {
    Market::goes_on_beside(Fault::Garbage, &["protocol"]);
}

#[test]
fn noise_instead_of_json() {
    Market::goes_on_beside(Fault::GarbageBody, &["unusable"]);
}

#[test]
fn half_a_body() {
    Market::goes_on_beside(Fault::ShortBody, &["closed"]);
}

#[test]
fn a_body_of_one_gigabyte() {
    Market::goes_on_beside(Fault::HugeBody { bytes: 1 << 30, chunked: false }, &["protocol"]);
}

#[test]
fn a_body_of_one_gigabyte_in_chunks() {
    Market::goes_on_beside(Fault::HugeBody { bytes: 1 << 30, chunked: true }, &["protocol"]);
}

#[test]
fn compression_nobody_asked_for() {
    Market::goes_on_beside(Fault::Gzip, &["protocol", "unusable"]);
}

#[test]
fn no_answer() {
    Market::goes_on_beside(Fault::NeverAnswer, &["timeout"]);
}

#[test]
fn one_byte_of_body_a_second() {
    Market::goes_on_beside(Fault::SlowBody { bytes_per_second: 1 }, &["timeout"]);
}

#[test]
fn a_redirect_to_itself() {
    Market::goes_on_beside(Fault::RedirectLoop, &["status"]);
}

#[test]
fn a_browser_check() {
    Market::goes_on_beside(Fault::HtmlChallenge, &["status"]);
}

#[test]
fn a_reset_on_every_connection() {
    Market::goes_on_beside(Fault::ResetOnAccept, &["connect", "closed"]);
}

/// A server whose head comes at one byte a second, for ever.
#[test]
fn one_byte_of_head_a_second() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for tcp in listener.incoming() {
            std::thread::spawn(move || {
                let Ok(mut tcp) = tcp else { return };
                let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Endless: ";
                let _ = tcp.read(&mut [0; 4_096]);
                for byte in head.iter().chain(std::iter::repeat(&b'a')) {
                    if tcp.write_all(&[*byte]).is_err() {
                        return;
                    }
                    std::thread::sleep(Duration::from_secs(1));
                }
            });
        }
    });
    let good = SimExchange::start(Kind::Bithumb, Options::plain()).unwrap();
    let engine = Engine::start(Mode::Plain, &config(&format!("http://{address}"), &good.base_url()));
    let (binance, bithumb) = (name_of(&engine, "binance"), name_of(&engine, "bithumb"));
    let mut subscriber = engine.connect(&engine.key(), "");
    eventually(&engine, "first answer", || source(&engine, &bithumb)["state"] == "live");
    eventually(&engine, "timeout", || source(&engine, &binance)["failures"]["timeout"].as_u64() >= Some(2));
    good.publish(Draft::new(Category::Listing, "섬토큰(HEAD) 원화 마켓 추가"));
    assert_eq!(subscriber.json_of("announcement")["ticker"], "HEAD");
    assert_ne!(source(&engine, &binance)["state"], "live");
}
