//! The simulated markets read by the engine's own parsers, over real loopback TLS.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "../common/client.rs"]
#[allow(dead_code, reason = "shared with the tests of exchanges and receivers")]
mod client;
mod faults;
mod reader;
mod round_trip;
mod story;
mod watched;
