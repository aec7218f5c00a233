//! The latency harness: measures the engine beside the floor and its peers, on loopback.
//!
//! Contract: open loop (a latency counts from the instant at which its load was due), both sides of a
//! comparison take turns in one run, every distribution is kept whole. Bounded in time, processes and
//! sockets; cleans up after itself.

mod announcer;
pub mod compare;
#[path = "../../engine/tocsin/tests/harness/crowd.rs"]
mod crowd;
pub mod engine;
pub mod environment;
mod heap;
pub mod jitter;
pub mod lab;
pub mod load;
pub mod peers;
pub mod random;
pub mod report;
pub mod result;
pub mod suites;
