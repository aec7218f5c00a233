//! What the machine says of itself, for the dashboard: kernel, clock, load, memory, disk, certificate.
//!
//! Contract: [`snapshot`] is a JSON object in which what cannot be read is null. Reads a few files of
//! /proc and /sys and asks the file system, on the runtime's threads for disk reads. Owner: control
//! thread; allocates; never fails.

use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tocsin_core::time::WallUs;

use super::Control;
use super::reply::rfc3339;
use crate::net::tls::SharedTls;
use crate::os::clock;

/// What does not change while the process runs.
#[derive(Clone, Debug)]
pub struct HostFacts {
    /// When the engine was started.
    pub started: Instant,
    /// The certificate, where the feed or the admin listener serve TLS.
    pub certificate: Option<SharedTls>,
}

impl HostFacts {
    /// Of an engine that starts now.
    #[must_use]
    pub fn starting(certificate: Option<SharedTls>) -> HostFacts {
        HostFacts { started: Instant::now(), certificate }
    }
}

/// See the module head.
pub(super) async fn snapshot(control: &Control) -> Value {
    let facts = control.host.clone();
    let expires_at = facts.certificate.as_ref().and_then(|certificate| certificate.get().expires_at());
    let store = control.read(|reader| Ok(reader.sizes())).await.ok();
    let read = tokio::task::spawn_blocking(machine).await.unwrap_or_default();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "now_us": clock::wall().0,
        "uptime_secs": facts.started.elapsed().as_secs(),
        "certificate_expires_at": expires_at.map(rfc3339),
        "store": store.map(|sizes| json!({
            "database_bytes": sizes.database, "log_bytes": sizes.log, "free_bytes": sizes.free,
        })),
        "machine": read,
    })
}

fn machine() -> Value {
    let memory = read("/proc/meminfo");
    let own = read("/proc/self/status");
    let load: Option<Vec<f64>> = read("/proc/loadavg")
        .map(|text| text.split_ascii_whitespace().take(3).filter_map(|n| n.parse().ok()).collect());
    json!({
        "kernel": read("/proc/sys/kernel/osrelease"),
        "name": read("/proc/sys/kernel/hostname"),
        "cores": std::thread::available_parallelism().ok().map(std::num::NonZero::get),
        "load": load,
        "memory_bytes": kib_of(memory.as_deref(), "MemTotal:"),
        "memory_available_bytes": kib_of(memory.as_deref(), "MemAvailable:"),
        "resident_bytes": kib_of(own.as_deref(), "VmRSS:"),
        "locked_bytes": kib_of(own.as_deref(), "VmLck:"),
        "clocksource": read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "clock_synchronized_at": synchronized_at().map(rfc3339),
    })
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// A line `Name:   123 kB` of a file of /proc, in bytes.
fn kib_of(text: Option<&str>, name: &str) -> Option<u64> {
    let line = text?.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1_024)
}

/// When a time service last set the clock, where systemd's or chrony's files say so.
fn synchronized_at() -> Option<WallUs> {
    ["/run/systemd/timesync/synchronized", "/var/lib/chrony/drift"]
        .iter()
        .find_map(|path| Path::new(path).metadata().ok()?.modified().ok())
        .and_then(|at: SystemTime| at.duration_since(UNIX_EPOCH).ok())
        .and_then(|since| i64::try_from(since.as_micros()).ok())
        .map(WallUs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_read_and_what_is_not_there_is_null() {
        let machine = machine();
        assert!(machine["cores"].as_u64() > Some(0), "{machine}");
        assert!(machine["memory_bytes"].as_u64() > machine["resident_bytes"].as_u64(), "{machine}");
        assert_eq!(machine["load"].as_array().unwrap().len(), 3);
        assert_eq!(kib_of(Some("VmRSS:\t  12 kB\nVmLck:\t 3 kB"), "VmLck:"), Some(3_072));
        assert_eq!((kib_of(Some("VmRSS: x"), "VmRSS:"), kib_of(None, "VmRSS:")), (None, None));
    }
}
