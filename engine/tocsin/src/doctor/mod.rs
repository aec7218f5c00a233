//! `tocsin doctor`: what the machine does to latency and to safety, each with the exact remedy.
//!
//! Contract: a check is a function from a [`Host`] to a [`Found`]; it reads text below the host's root
//! (`/proc`, `/sys`, `/etc`) and what [`measure`] brought, changes nothing and needs no root. What cannot
//! be read is [`Level::Unknown`], never a guess. Owner: the command line's thread; allocates and reads
//! files as it likes. Nothing here fails. Bounds: [`Host::text`] reads at most 1 MiB of a file.
//!
//! `docs/doctor.md` lists every check; a test holds the two equal. `scripts/tune-host` makes those
//! changes that a running machine can make.

mod clock;
mod cores;
mod host;
mod interrupts;
pub mod measure;
mod memory;
mod network;
mod power;
mod streams;
mod system;
#[cfg(test)]
mod tests;

pub use host::{CoreSet, Host, WantedStream, Wants};
pub use measure::Measured;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// Not there, or not to be read by this user.
    Unknown,
    /// Costs latency.
    Warn,
    /// Costs a lot of latency, or safety.
    Bad,
}

impl Level {
    /// As `--json` has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Unknown => "unknown",
            Level::Warn => "warn",
            Level::Bad => "bad",
        }
    }
}

/// What a check saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// How it came out.
    pub level: Level,
    /// What was seen, one line.
    pub saw: String,
    /// The command, kernel parameter or setting that changes it.
    pub fix: Option<String>,
}

impl Found {
    fn ok(saw: impl Into<String>) -> Found {
        Found { level: Level::Ok, saw: saw.into(), fix: None }
    }

    fn warn(saw: impl Into<String>, fix: impl Into<String>) -> Found {
        Found { level: Level::Warn, saw: saw.into(), fix: Some(fix.into()) }
    }

    fn bad(saw: impl Into<String>, fix: impl Into<String>) -> Found {
        Found { level: Level::Bad, saw: saw.into(), fix: Some(fix.into()) }
    }

    /// Nothing to judge by; how to look by hand, where there is a way.
    fn unknown(saw: impl Into<String>, look: Option<&str>) -> Found {
        Found { level: Level::Unknown, saw: saw.into(), fix: look.map(str::to_owned) }
    }
}

/// One check.
pub struct Check {
    /// Its name, `group.what`.
    pub id: &'static str,
    /// What it looks at, for people.
    pub title: &'static str,
    run: fn(&Host) -> Found,
}

impl Check {
    /// Looks.
    #[must_use]
    pub fn run(&self, host: &Host) -> Found {
        (self.run)(host)
    }
}

const fn check(id: &'static str, title: &'static str, run: fn(&Host) -> Found) -> Check {
    Check { id, title, run }
}

/// Every check, in the order in which they are shown.
pub const CHECKS: [Check; 32] = [
    check("cores.pinned", "hot threads have cores of their own", cores::pinned),
    check("cores.isolated", "nothing else is scheduled there", cores::isolated),
    check("cores.tickless", "no timer tick there", cores::tickless),
    check("cores.rcu", "no kernel callbacks there", cores::rcu),
    check("cores.siblings", "no sibling thread beside them", cores::siblings),
    check("cores.node", "same memory node as the network card", cores::node),
    check("power.governor", "full frequency", power::governor),
    check("power.turbo", "turbo", power::turbo),
    check("power.sleep", "no deep sleep", power::sleep),
    check("clock.source", "reading the clock costs no system call", clock::source),
    check("clock.sync", "the clock is right", clock::sync),
    check("irq.placement", "no interrupts on hot cores", interrupts::placement),
    check("irq.balance", "nobody moves them back", interrupts::balance),
    check("nic.queues", "few queues", interrupts::queues),
    check("nic.coalescing", "packets are handed on at once", interrupts::coalescing),
    check("memory.locked", "memory may be locked", memory::locked),
    check("memory.shm", "shared memory for journals", memory::shm),
    check("memory.huge_pages", "no compaction behind our back", memory::huge_pages),
    check("memory.swap", "no swapping", memory::swap),
    check("limits.files", "descriptors for everyone", memory::files),
    check("net.slow_start", "idle connections keep their window", network::slow_start),
    check("net.backlog", "a storm of clients is queued", network::backlog),
    check("net.busy_poll", "sockets are not polled for long", network::busy_poll),
    check("kernel.version", "kernel", system::kernel),
    check("kernel.mitigations", "mitigations", system::mitigations),
    check("host.virtual", "a machine of its own", system::virtualised),
    check("host.steal", "no stolen time", system::steal),
    check("host.ipc", "shared memory outlives a crash", system::remove_ipc),
    check("disk.data_dir", "data_dir keeps what is written", system::data_dir),
    check("streams.credentials", "keys of push sources can be used", streams::credentials),
    check("streams.address", "push sources have addresses", streams::address),
    check("streams.clock", "the clock is right enough for signatures", streams::clock),
];
