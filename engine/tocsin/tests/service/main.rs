//! What a service manager has to do with the service: readiness, watchdog, reload, sockets it holds, the
//! journal, and the unit files themselves.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../harness/mod.rs"]
mod harness;

mod activation;
mod backup;
mod manager;
mod package;
mod reload;
mod units;

use harness::manager::behind_shell;
