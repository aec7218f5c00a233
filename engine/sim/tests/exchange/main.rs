//! The simulated exchanges seen by a client of their own, over real loopback sockets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "../common/client.rs"]
#[allow(dead_code, reason = "shared with the tests of the receivers")]
mod client;
mod engine;
mod faults;
mod program;
mod shapes;
mod shapes_polled;
