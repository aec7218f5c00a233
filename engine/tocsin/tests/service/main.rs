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

use std::process::Command;

/// The service, started by a shell that runs `before` and then becomes it.
fn behind_shell(before: &str) -> Command {
    let mut command = Command::new("bash");
    let script = format!("set -eu; {before} exec \"$0\" \"$@\"");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_tocsin")]);
    command
}
