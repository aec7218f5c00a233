//! The simulated webhook receivers seen by a client of their own, over real loopback sockets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "../common/client.rs"]
#[allow(dead_code, reason = "shared with the tests of the exchanges")]
mod client;

mod behaviours;
mod greetings;
mod program;
mod records;
mod verdicts;

use std::time::Duration;

use tocsin_sim::{ReceiverOptions, SimReceiver};

use client::{Client, tls_config};

/// Longer than anything takes that is to happen.
const PATIENCE: Duration = Duration::from_secs(20);

fn start() -> SimReceiver {
    SimReceiver::start(ReceiverOptions::default()).unwrap()
}

fn connect(receiver: &SimReceiver) -> Client {
    Client::tls(receiver.addr(), &tls_config(receiver.ca().pem())).unwrap()
}

/// A request as the engine's, without its signatures.
fn post(target: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST {target} HTTP/1.1\r\nHost: sim\r\nContent-Length: {length}\r\n{headers}\r\n{body}")
        .into_bytes()
}
