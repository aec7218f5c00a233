//! Frequency and sleep of cores.

use super::Found;
use super::host::{CoreSet, Host};

/// A core that takes longer to wake shows in the tail.
const WAKES_WITHIN_US: i64 = 10;

/// The hot cores, or all where none is pinned.
fn judged(host: &Host) -> CoreSet {
    if !host.wants.hot.is_empty() {
        return host.wants.hot.clone();
    }
    host.cores("/sys/devices/system/cpu/online").unwrap_or_default()
}

pub(super) fn governor(host: &Host) -> Found {
    let mut seen = false;
    let mut slow: Vec<(usize, String)> = Vec::new();
    for core in judged(host).iter() {
        let path = format!("/sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor");
        let Some(governor) = host.text(&path) else { continue };
        seen = true;
        if governor != "performance" {
            slow.push((core, governor));
        }
    }
    match slow.first() {
        _ if !seen => Found::ok("the kernel does not change frequencies here"),
        None => Found::ok("performance"),
        Some((_, governor)) => {
            let cores: CoreSet = slow.iter().map(|(core, _)| *core).collect();
            Found::bad(
                format!("core {cores}: {governor}"),
                "for f in /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor; do echo performance > $f; done",
            )
        }
    }
}

pub(super) fn turbo(host: &Host) -> Found {
    let intel = host.number("/sys/devices/system/cpu/intel_pstate/no_turbo").map(|off| off == 0);
    let other = host.number("/sys/devices/system/cpu/cpufreq/boost").map(|on| on == 1);
    match (intel, other) {
        (Some(true), _) | (None, Some(true)) => Found::ok("on"),
        (Some(false), _) => Found::warn(
            "off: cores run below what they could",
            "echo 0 > /sys/devices/system/cpu/intel_pstate/no_turbo",
        ),
        (None, Some(false)) => Found::warn(
            "off: cores run below what they could",
            "echo 1 > /sys/devices/system/cpu/cpufreq/boost",
        ),
        (None, None) => Found::ok("the kernel does not control it here"),
    }
}

pub(super) fn sleep(host: &Host) -> Found {
    if host.boot("idle").as_deref() == Some("poll") {
        return Found::ok("idle=poll: cores never sleep");
    }
    // Held open by a program, the limit is what the file says; it takes root to read.
    if let Some(limit) = host.measured.dma_latency_us
        && i64::from(limit) <= WAKES_WITHIN_US
    {
        return Found::ok(format!("held awake: /dev/cpu_dma_latency says {limit} µs"));
    }
    let (mut seen, mut deepest) = (false, (0, String::new()));
    for core in judged(host).iter() {
        let folder = format!("/sys/devices/system/cpu/cpu{core}/cpuidle");
        for state in host.names(&folder) {
            let of = |file: &str| format!("{folder}/{state}/{file}");
            let Some(latency) = host.number(&of("latency")) else { continue };
            seen = true;
            if host.number(&of("disable")) != Some(1) && latency > deepest.0 {
                deepest = (latency, host.text(&of("name")).unwrap_or(state));
            }
        }
    }
    match deepest {
        _ if !seen => Found::ok("the kernel does not put cores to sleep here"),
        (latency, name) if latency > WAKES_WITHIN_US => Found::warn(
            format!("{name} takes {latency} µs to wake from"),
            format!(
                "boot with processor.max_cstate=1 intel_idle.max_cstate=0, or until the next boot: for s in \
                 /sys/devices/system/cpu/cpu*/cpuidle/state*; do [ \"$(cat $s/latency)\" -le {WAKES_WITHIN_US} ] || \
                 echo 1 > $s/disable; done"
            ),
        ),
        (latency, _) => Found::ok(format!("at most {latency} µs to wake")),
    }
}
