//! Market watchers as others see them: simulated exchanges over real sockets and TLS, the real engine, its feed,
//! its webhooks, its store. What an exchange shows is told, once; what it does not show, or shows in error, is not.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../harness/mod.rs"]
mod harness;

mod failures;
mod feed;
mod lives;
mod notices;
mod restarts;
mod webhooks;
mod world;
