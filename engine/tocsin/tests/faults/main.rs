//! What the machine under the engine may do to it, against the real binary: it is stopped and goes on, its
//! disk is full, read-only or damaged, descriptors and locked memory run out, the wall clock jumps, peers and
//! name servers vanish without a word. Each test says what is promised then.
//!
//! Some need namespaces of their own (root, or user namespaces), strace, setpriv and prlimit; a test that
//! cannot have them fails and says so. What other tests hold is listed in docs/testing.md, "What the machine
//! may do".

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../harness/mod.rs"]
mod harness;

mod clock;
mod disk;
mod limits;
mod network;
mod peers;
mod stopped;
mod store;
mod wall_clock;
