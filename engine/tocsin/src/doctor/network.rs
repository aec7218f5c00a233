//! Settings of the kernel's network stack.

use super::Found;
use super::host::Host;

/// Clients of a storm that wait for `accept`.
const BACKLOG: i64 = 4_096;
/// The kernel spinning on a socket for longer than this keeps a housekeeping thread from its work.
const BUSY_POLL_US: i64 = 100;

pub(super) fn slow_start(host: &Host) -> Found {
    match host.number("/proc/sys/net/ipv4/tcp_slow_start_after_idle") {
        None => Found::unknown("not read", Some("sysctl net.ipv4.tcp_slow_start_after_idle")),
        Some(0) => Found::ok("0"),
        Some(value) => Found::warn(
            format!("{value}: a connection that was idle starts with a small window"),
            "sysctl net.ipv4.tcp_slow_start_after_idle=0",
        ),
    }
}

pub(super) fn backlog(host: &Host) -> Found {
    let rows = [
        ("net.core.somaxconn", "/proc/sys/net/core/somaxconn"),
        ("net.ipv4.tcp_max_syn_backlog", "/proc/sys/net/ipv4/tcp_max_syn_backlog"),
    ];
    let mut seen = Vec::new();
    let mut fixes = Vec::new();
    for (name, path) in rows {
        let Some(value) = host.number(path) else { continue };
        seen.push(format!("{name} {value}"));
        if value < BACKLOG {
            fixes.push(format!("{name}={BACKLOG}"));
        }
    }
    match (seen.is_empty(), fixes.is_empty()) {
        (true, _) => {
            Found::unknown("not read", Some("sysctl net.core.somaxconn net.ipv4.tcp_max_syn_backlog"))
        }
        (false, true) => Found::ok(seen.join(", ")),
        (false, false) => Found::warn(seen.join(", "), format!("sysctl {}", fixes.join(" "))),
    }
}

pub(super) fn busy_poll(host: &Host) -> Found {
    let of = |name: &str| host.number(&format!("/proc/sys/net/core/{name}"));
    let (Some(poll), Some(read)) = (of("busy_poll"), of("busy_read")) else {
        return Found::unknown("not read", Some("sysctl net.core.busy_poll net.core.busy_read"));
    };
    match poll.max(read) {
        0 => Found::ok("off: interrupts deliver, hot threads look by themselves"),
        most if most <= BUSY_POLL_US => Found::ok(format!("busy_poll {poll}, busy_read {read}")),
        most => Found::warn(
            format!("up to {most} µs in the kernel at each look"),
            "sysctl net.core.busy_poll=0 net.core.busy_read=0",
        ),
    }
}
