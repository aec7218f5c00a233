//! The feed specification, sentence by sentence, over real sockets against the real binary, plain
//! and TLS. `docs/testing.md` maps sentences to these tests, and `tests/documentation.rs` holds it to
//! that.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../harness/mod.rs"]
mod harness;

/// Makes two tests of every function named: one over plain sockets, one over TLS.
macro_rules! both_modes {
    ($($name:ident),* $(,)?) => {
        mod plain { $(#[test] fn $name() { super::$name(crate::harness::Mode::Plain); })* }
        mod tls { $(#[test] fn $name() { super::$name(crate::harness::Mode::Tls); })* }
    };
}

mod clocks;
mod closing;
mod filters;
mod handshake;
mod limits;
mod messages;
mod resume;
mod sources;
mod tiers;
mod tls;
mod writers;

/// A title that every rule takes for a spot listing of TKNX.
const LISTING: &str = "Binance Will List Token Example (TKNX)";
/// Everybody comes from the loopback network, and more than ten of them a minute.
const EXEMPT: &str = "[feed.limits]\nexempt = [\"127.0.0.0/8\", \"::1/128\"]\n";

/// A basic key with `flags` more.
fn basic_key(engine: &harness::Engine, flags: &[&str]) -> String {
    let basic = ["--tier", "basic", "--max-connections", "50"];
    engine.key_with(&[&basic[..], flags].concat()).1
}
