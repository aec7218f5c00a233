//! What a run ran on and from: every fact a reader needs to judge its figures, and nothing that
//! tells whose machine it is.
//!
//! Contract: [`block`] reads a handful of small files below `root` (`/`; another in tests) and never
//! fails: what is not there is `null`. [`CpuTimes`] before and after a run give the share of time
//! that the hypervisor took. Owner: the runner. Allocates, blocks on procfs and sysfs only.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use rustix::process::{Resource, getrlimit};
use serde_json::{Value, json};
use tocsin::os::cores;

/// Where facts are that are one line of one file.
const LINES: &[(&str, &str)] = &[
    ("kernel", "proc/sys/kernel/osrelease"),
    ("kernel_build", "proc/sys/kernel/version"),
    ("cpu_online", "sys/devices/system/cpu/online"),
    ("isolated_cpus", "sys/devices/system/cpu/isolated"),
    ("nohz_full", "sys/devices/system/cpu/nohz_full"),
    ("smt", "sys/devices/system/cpu/smt/control"),
    ("smt_active", "sys/devices/system/cpu/smt/active"),
    ("turbo_off", "sys/devices/system/cpu/intel_pstate/no_turbo"),
    ("idle_driver", "sys/devices/system/cpu/cpuidle/current_driver"),
    ("clocksource", "sys/devices/system/clocksource/clocksource0/current_clocksource"),
    ("hypervisor", "sys/hypervisor/type"),
    ("machine_vendor", "sys/class/dmi/id/sys_vendor"),
    ("machine_product", "sys/class/dmi/id/product_name"),
    ("mitigations_spectre_v2", "sys/devices/system/cpu/vulnerabilities/spectre_v2"),
    ("load_average", "proc/loadavg"),
    ("local_ports", "proc/sys/net/ipv4/ip_local_port_range"),
    ("somaxconn", "proc/sys/net/core/somaxconn"),
];

/// Everything known before the run starts.
#[must_use]
pub fn block(root: &Path, seed: u64, quick: bool) -> BTreeMap<String, Value> {
    let mut facts: BTreeMap<String, Value> =
        LINES.iter().map(|(name, path)| ((*name).to_owned(), json!(line(&root.join(path))))).collect();
    let cpuinfo = text(&root.join("proc/cpuinfo"));
    let of_cpu = |name| cpuinfo.as_deref().and_then(|cpuinfo| field(cpuinfo, name));
    let meminfo = text(&root.join("proc/meminfo"));
    let of_memory = |name| meminfo.as_deref().and_then(|m| field(m, name)).and_then(|v| kibibytes(&v));
    let limit = getrlimit(Resource::Nofile);
    let flags = of_cpu("flags").unwrap_or_default();
    facts.extend([
        ("cpu_model".to_owned(), json!(of_cpu("model name"))),
        ("cpu_says_hypervisor".to_owned(), json!(cpuinfo.as_ref().map(|_| has_word(&flags, "hypervisor")))),
        ("cores_usable".to_owned(), json!(cores::available().len())),
        ("governor".to_owned(), json!(governors(root))),
        ("memory_bytes".to_owned(), json!(of_memory("MemTotal"))),
        ("memory_available_bytes".to_owned(), json!(of_memory("MemAvailable"))),
        ("descriptors".to_owned(), json!({"soft": limit.current, "hard": limit.maximum})),
        ("version".to_owned(), json!(env!("CARGO_PKG_VERSION"))),
        ("commit".to_owned(), json!(env!("TOCSIN_COMMIT"))),
        ("rustc".to_owned(), json!(env!("TOCSIN_RUSTC"))),
        ("profile".to_owned(), json!(env!("TOCSIN_PROFILE"))),
        ("debug_assertions".to_owned(), json!(cfg!(debug_assertions))),
        ("seed".to_owned(), json!(seed)),
        ("quick".to_owned(), json!(quick)),
        ("date".to_owned(), json!(jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string())),
        ("steal_percent".to_owned(), Value::Null),
        ("busy_percent".to_owned(), Value::Null),
    ]);
    facts
}

/// Time all cores together spent since boot, in clock ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuTimes {
    /// In any way.
    pub total: u64,
    /// Doing nothing, or waiting for disk.
    pub idle: u64,
    /// Ready to run while the hypervisor ran another machine.
    pub steal: u64,
}

impl CpuTimes {
    /// Now; `None` where procfs does not tell.
    #[must_use]
    pub fn read(root: &Path) -> Option<CpuTimes> {
        let stat = text(&root.join("proc/stat"))?;
        let first = stat.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Vec<u64> = first.split_whitespace().map_while(|word| word.parse().ok()).collect();
        // user nice system idle iowait irq softirq steal; guest time is part of user.
        let counted = ticks.get(..8)?;
        Some(CpuTimes { total: counted.iter().sum(), idle: counted[3] + counted[4], steal: counted[7] })
    }

    /// Percent of the time since `before` that was stolen, and that was busy.
    #[must_use]
    pub fn since(self, before: CpuTimes) -> Option<(f64, f64)> {
        let total = self.total.checked_sub(before.total).filter(|total| *total > 0)? as f64;
        let steal = self.steal.saturating_sub(before.steal) as f64;
        let idle = self.idle.saturating_sub(before.idle) as f64;
        Some((100.0 * steal / total, 100.0 * (1.0 - idle / total)))
    }
}

/// Adds what only the end of a run tells.
pub fn finish(facts: &mut BTreeMap<String, Value>, before: Option<CpuTimes>, after: Option<CpuTimes>) {
    let shares = before.zip(after).and_then(|(before, after)| after.since(before));
    let rounded = |value: f64| (value * 100.0).round() / 100.0;
    facts.insert("steal_percent".to_owned(), json!(shares.map(|(steal, _)| rounded(steal))));
    facts.insert("busy_percent".to_owned(), json!(shares.map(|(_, busy)| rounded(busy))));
}

fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// A file's one line, empty where the kernel says "none" that way.
fn line(path: &Path) -> Option<String> {
    text(path).map(|text| text.trim().to_owned())
}

/// The value of the first `name : value` line.
fn field(text: &str, name: &str) -> Option<String> {
    let of_line = |line: &str| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    };
    text.lines().find_map(of_line)
}

fn has_word(text: &str, word: &str) -> bool {
    text.split_whitespace().any(|w| w == word)
}

fn kibibytes(text: &str) -> Option<u64> {
    text.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1_024)
}

/// The frequency governors in use, each once.
fn governors(root: &Path) -> Option<String> {
    let cpus = fs::read_dir(root.join("sys/devices/system/cpu")).ok()?;
    let of_cpu = cpus.flatten().filter_map(|cpu| line(&cpu.path().join("cpufreq/scaling_governor")));
    let all: BTreeSet<String> = of_cpu.collect();
    (!all.is_empty()).then(|| all.into_iter().collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_null_and_nothing_fails() {
        let empty = tempfile::tempdir().unwrap();
        let facts = block(empty.path(), 7, true);
        for name in ["kernel", "cpu_model", "governor", "memory_bytes", "clocksource", "cpu_says_hypervisor"]
        {
            assert_eq!(facts[name], Value::Null, "{name}");
        }
        assert_eq!(facts["seed"], 7);
        assert!(facts["cores_usable"].as_u64().unwrap() > 0);
        assert_eq!(CpuTimes::read(empty.path()), None);
    }

    #[test]
    fn files_are_read_as_the_kernel_writes_them() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("proc/cpuinfo", "processor\t: 0\nmodel name\t: A: fast one\nflags\t\t: fpu hypervisor\n");
        write("proc/meminfo", "MemTotal:       16 kB\nMemAvailable:   8 kB\n");
        write("proc/stat", "cpu  10 0 20 50 5 0 0 15 3 0\ncpu0 1 1 1 1\n");
        write("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n");
        write("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "performance\n");
        write("sys/devices/system/cpu/isolated", "\n");
        let facts = block(root.path(), 1, false);
        assert_eq!(facts["cpu_model"], "A: fast one");
        assert_eq!(facts["cpu_says_hypervisor"], true);
        assert_eq!(facts["memory_bytes"], 16_384);
        assert_eq!(facts["governor"], "performance, powersave");
        assert_eq!(facts["isolated_cpus"], "");
        let before = CpuTimes::read(root.path()).unwrap();
        assert_eq!(before, CpuTimes { total: 100, idle: 55, steal: 15 });
        let after = CpuTimes { total: 200, idle: 80, steal: 40 };
        assert_eq!(after.since(before), Some((25.0, 75.0)));
        assert_eq!(before.since(before), None);
        let mut facts = facts;
        finish(&mut facts, Some(before), Some(after));
        assert_eq!(facts["steal_percent"], 25.0);
    }
}
