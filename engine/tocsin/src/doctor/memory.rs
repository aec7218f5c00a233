//! Memory and descriptors.

use super::Found;
use super::host::Host;
use super::measure::Space;

/// Descriptors beside those of subscribers and receivers.
const OTHER_FILES: u64 = 256;
/// A shared-memory journal.
const JOURNAL_BYTES: u64 = 1 << 20;

/// The soft limit of the service where one runs, else ours; `u64::MAX` for none.
fn limit(host: &Host, name: &str) -> Option<u64> {
    let own = "/proc/self/limits".to_owned();
    let path = host.wants.service.map_or(own, |pid| format!("/proc/{pid}/limits"));
    // The service's may belong to another user.
    let text = host.text(&path).filter(|t| !t.is_empty()).or_else(|| host.text("/proc/self/limits"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let soft = line.split_whitespace().next()?;
    if soft == "unlimited" { Some(u64::MAX) } else { soft.parse().ok() }
}

fn whose(host: &Host) -> &'static str {
    if host.wants.service.is_some() { "the service" } else { "this shell" }
}

pub(super) fn locked(host: &Host) -> Found {
    let whose = whose(host);
    match limit(host, "Max locked memory") {
        None => Found::unknown("limits were not read", Some("ulimit -l")),
        Some(u64::MAX) => Found::ok(format!("without limit for {whose}")),
        Some(bytes) if host.wants.hot.is_empty() => Found::ok(format!(
            "{} KiB for {whose}; nothing is locked where no thread is pinned",
            bytes / 1_024
        )),
        Some(bytes) => Found::bad(
            format!("{} KiB for {whose}: hot memory may be paged out", bytes / 1_024),
            "LimitMEMLOCK=infinity in the unit (ulimit -l unlimited in a shell)",
        ),
    }
}

pub(super) fn files(host: &Host) -> Found {
    let whose = whose(host);
    let need = u64::from(host.wants.max_connections) + host.wants.max_in_flight as u64 + OTHER_FILES;
    match limit_hard(host) {
        None => Found::unknown("limits were not read", Some("ulimit -Hn")),
        Some(limit) if limit >= need => Found::ok(format!("{limit} for {whose}, {need} are needed")),
        Some(limit) => Found::bad(
            format!("{limit} for {whose}, {need} are needed"),
            "LimitNOFILE=1048576 in the unit (ulimit -Hn 1048576 in a shell)",
        ),
    }
}

/// The service raises its soft limit to the hard one by itself.
fn limit_hard(host: &Host) -> Option<u64> {
    let own = "/proc/self/limits".to_owned();
    let path = host.wants.service.map_or(own, |pid| format!("/proc/{pid}/limits"));
    let text = host.text(&path).filter(|t| !t.is_empty()).or_else(|| host.text("/proc/self/limits"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let hard = line.split_whitespace().nth(1)?;
    if hard == "unlimited" { Some(u64::MAX) } else { hard.parse().ok() }
}

pub(super) fn shm(host: &Host) -> Found {
    let fix = "mount -t tmpfs -o size=64m,mode=1777 tmpfs /dev/shm, and the same line in /etc/fstab";
    let Some(mounts) = host.text("/proc/mounts") else {
        return Found::unknown("mounts were not read", Some("df -h /dev/shm"));
    };
    // The last mount on a directory is the one that is seen.
    let mount = mounts.lines().rev().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.nth(1)? == "/dev/shm").then(|| words.next().unwrap_or_default().to_owned())
    });
    match mount.as_deref() {
        None => return Found::bad("/dev/shm is no mount: journals lie on the disk", fix),
        Some("tmpfs") => {}
        Some(other) => return Found::bad(format!("/dev/shm is {other}, not tmpfs"), fix),
    }
    let need = host.wants.journals * JOURNAL_BYTES;
    match host.measured.shm {
        None => Found::ok("tmpfs; its size was not read"),
        Some(Space { free_bytes, .. }) if free_bytes < need => Found::bad(
            format!("tmpfs with {} KiB free, {} KiB are needed", free_bytes / 1_024, need / 1_024),
            "mount -o remount,size=64m /dev/shm",
        ),
        Some(Space { free_bytes, .. }) => Found::ok(format!("tmpfs, {} MiB free", free_bytes >> 20)),
    }
}

pub(super) fn huge_pages(host: &Host) -> Found {
    let path = "/sys/kernel/mm/transparent_hugepage/enabled";
    let Some(text) = host.text(path) else {
        return Found::ok("the kernel has no transparent huge pages");
    };
    let chosen = text.split(['[', ']']).nth(1).unwrap_or_default().to_owned();
    match chosen.as_str() {
        "madvise" | "never" => Found::ok(chosen),
        "always" => Found::warn(
            "always: the kernel may move memory under hot threads",
            format!("echo madvise > {path}"),
        ),
        _ => Found::unknown(format!("{path} says {text:?}"), None),
    }
}

pub(super) fn swap(host: &Host) -> Found {
    let Some(text) = host.text("/proc/swaps") else {
        return Found::unknown("/proc/swaps was not read", Some("swapon --show"));
    };
    let devices: Vec<&str> = text.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    if devices.is_empty() {
        return Found::ok("none");
    }
    match host.number("/proc/sys/vm/swappiness") {
        Some(0..=1) => Found::ok(format!("{}, vm.swappiness is 1 at most", devices.join(", "))),
        other => Found::warn(
            format!("{}, vm.swappiness {}", devices.join(", "), other.unwrap_or(60)),
            "swapoff -a, or sysctl vm.swappiness=1",
        ),
    }
}
