//! What can be measured, by name.
//!
//! Contract: a suite takes the [`Context`], measures, ends every process and removes every file it
//! made, also when it fails, and returns what it found. Suites run one after the other, alone on the
//! machine. A suite that cannot measure a part says so in `missing`; it fails when it can measure
//! nothing.

pub mod control;
pub mod detect;
pub mod fanout;
pub mod memory;
pub mod peers;
pub mod soak;
pub mod storm;
pub mod webhook;
pub mod wire;

use std::path::PathBuf;

use crate::result::SuiteResult;

/// How a run is to be done.
#[derive(Clone, Debug)]
pub struct Context {
    /// Small counts and few rounds: shows that all works, in a minute or so a suite.
    pub quick: bool,
    /// How long what can last any time is to last.
    pub minutes: Option<u32>,
    /// Of everything random; printed with the results.
    pub seed: u64,
    /// Where peers are installed by `scripts/setup-peers`, and other things that outlive a run.
    pub cache: PathBuf,
    /// Where this run's result files go.
    pub out: PathBuf,
}

/// A suite's entry.
pub struct Suite {
    /// As on the command line.
    pub name: &'static str,
    /// One line for the help.
    pub about: &'static str,
    /// Measures.
    pub run: fn(&Context) -> Result<SuiteResult, String>,
}

/// Every suite, in the order in which `all` runs them.
pub const ALL: &[Suite] = &[
    Suite { name: "fanout", about: "the feed thread against the floor, plain and TLS", run: fanout::run },
    Suite {
        name: "peers",
        about: "fan-out beside the servers users would pick instead, with their memory and CPU time",
        run: peers::run,
    },
    Suite { name: "wire", about: "body complete to first byte, stage by stage", run: wire::run },
    Suite { name: "detect", about: "publication to detection at a budget of requests", run: detect::run },
    Suite { name: "webhook", about: "event to first request, throughput, recovery", run: webhook::run },
    Suite { name: "memory", about: "what an idle subscriber costs", run: memory::run },
    Suite {
        name: "control",
        about: "announcements while the control plane is flooded or its clients die",
        run: control::run,
    },
    Suite { name: "storm", about: "announcements and handshakes while thousands come back", run: storm::run },
];

/// Suites that `all` leaves out: they take as long as they are told to.
pub const APART: &[Suite] = &[Suite {
    name: "soak",
    about: "the whole engine under load and faults, for as many --minutes as you like: does it stay as it was?",
    run: soak::run,
}];
