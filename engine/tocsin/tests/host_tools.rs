//! `tocsin doctor` and `scripts/tune-host` over a copy of a machine's files, made anew: what the one
//! finds and a running machine can change, the other changes and takes back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// An untuned machine of four cores, 2 and 3 to become hot.
const UNTUNED: &[(&str, &str)] = &[
    ("proc/cmdline", "quiet"),
    ("proc/swaps", "Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2"),
    ("proc/irq/24/smp_affinity_list", "0-3"),
    ("proc/irq/25/smp_affinity_list", "0-1"),
    ("proc/sys/vm/swappiness", "60"),
    ("proc/sys/kernel/osrelease", "6.1.0"),
    ("proc/sys/net/ipv4/tcp_slow_start_after_idle", "1"),
    ("proc/sys/net/ipv4/tcp_max_syn_backlog", "512"),
    ("proc/sys/net/core/somaxconn", "8192"),
    ("sys/devices/system/cpu/online", "0-3"),
    ("sys/devices/system/cpu/isolated", ""),
    ("sys/devices/system/cpu/intel_pstate/no_turbo", "1"),
    ("sys/devices/system/cpu/cpu2/cpufreq/scaling_governor", "powersave"),
    ("sys/devices/system/cpu/cpu3/cpufreq/scaling_governor", "performance"),
    ("sys/devices/system/cpu/cpu2/cpuidle/state1/latency", "2"),
    ("sys/devices/system/cpu/cpu2/cpuidle/state1/disable", "0"),
    ("sys/devices/system/cpu/cpu2/cpuidle/state3/latency", "133"),
    ("sys/devices/system/cpu/cpu2/cpuidle/state3/disable", "0"),
    ("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet"),
    ("sys/devices/system/clocksource/clocksource0/available_clocksource", "tsc hpet"),
    ("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never"),
    ("sys/class/net/eth0/device/vendor", "0x8086"),
];

/// Checks that are not ok before and are after.
const TUNED: [&str; 8] = [
    "power.governor",
    "power.turbo",
    "power.sleep",
    "clock.source",
    "irq.placement",
    "memory.swap",
    "net.slow_start",
    "net.backlog",
];

fn machine() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in UNTUNED {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }
    root
}

/// Every file of the machine with its text.
fn files(root: &Path) -> BTreeMap<PathBuf, String> {
    fn walk(folder: &Path, found: &mut BTreeMap<PathBuf, String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else {
                found.insert(path.clone(), fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(&root.join("proc"), &mut found);
    walk(&root.join("sys"), &mut found);
    found
}

fn tune(root: &Path, arguments: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/tune-host");
    Command::new(script).arg("--root").arg(root).args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Exit code, and level of each check.
fn doctor(root: &Path) -> (Option<i32>, BTreeMap<String, String>) {
    let output = Command::new(env!("CARGO_BIN_EXE_tocsin"))
        .args(["doctor", "--json", "--root"])
        .arg(root)
        .env("TOCSIN_TOPOLOGY__SOURCE_CORES", "[2]")
        .env("TOCSIN_TOPOLOGY__FEED_CORES", "[3]")
        .output()
        .unwrap();
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", said(&output)));
    let checks = report["checks"].as_array().unwrap().iter();
    let level = |check: &Value| {
        (check["id"].as_str().unwrap().to_owned(), check["level"].as_str().unwrap().to_owned())
    };
    (output.status.code(), checks.map(level).collect())
}

#[test]
fn the_script_prints_before_it_does_and_takes_everything_back() {
    let root = machine();
    let before = files(root.path());
    let (code, levels) = doctor(root.path());
    assert_eq!(code, Some(1));
    for check in TUNED {
        assert!(["warn", "bad"].contains(&levels[check].as_str()), "{check}: {}", levels[check]);
    }

    let printed = tune(root.path(), &["--cores", "2,3"]);
    assert!(printed.status.success(), "{}", said(&printed));
    for part in [
        "echo performance > /sys/devices/system/cpu/cpu2/cpufreq/scaling_governor",
        "echo 0,1 > /proc/irq/24/smp_affinity_list",
        "ethtool -C eth0 adaptive-rx off rx-usecs 0",
        "boot with isolcpus=managed_irq,domain,2,3 nohz_full=2,3 rcu_nocbs=2,3",
        "nothing was changed",
    ] {
        assert!(said(&printed).contains(part), "no {part:?} in\n{}", said(&printed));
    }
    assert!(!said(&printed).contains("/proc/irq/25/"), "it is elsewhere already");
    assert_eq!(files(root.path()), before, "printing changes nothing");

    let applied = tune(root.path(), &["--cores", "2-3", "--apply"]);
    assert!(applied.status.success(), "{}", said(&applied));
    let (_, levels) = doctor(root.path());
    for check in TUNED {
        assert_eq!(levels[check], "ok", "{check}");
    }
    assert_eq!(levels["cores.isolated"], "bad", "that takes a reboot");
    let again = tune(root.path(), &["--cores", "2-3", "--apply"]);
    assert!(again.status.code() == Some(1) && said(&again).contains("--undo first"), "{}", said(&again));

    let undone = tune(root.path(), &["--undo"]);
    assert!(undone.status.success(), "{}", said(&undone));
    let mut after = files(root.path());
    // The kernel answers a choice with its brackets; a file answers what was written.
    let choice = root.path().join("sys/kernel/mm/transparent_hugepage/enabled");
    assert_eq!(after.insert(choice.clone(), before[&choice].clone()).unwrap(), "always\n");
    assert_eq!(after, before);
    let nothing = tune(root.path(), &["--undo"]);
    assert!(
        nothing.status.code() == Some(1) && said(&nothing).contains("nothing was applied"),
        "{}",
        said(&nothing)
    );
}

#[test]
fn wrong_usage_is_named() {
    let root = machine();
    let rows = [
        (&["--cores", "0-3"][..], "leaves no core to the kernel"),
        (&["--cores", "7"], "core 7 is not online"),
        (&["--cores", "x"], "is no list of cores"),
        (&["--nic", "eth9"], "there is no network card eth9"),
        (&["--aply"], "there is no option --aply"),
    ];
    for (arguments, part) in rows {
        let output = tune(root.path(), arguments);
        assert!(
            output.status.code() == Some(2) && said(&output).contains(part),
            "{arguments:?}: {}",
            said(&output)
        );
    }
}

#[test]
fn the_doctor_looks_at_this_machine_without_root_and_says_how_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let doctor = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tocsin"));
        command.args(["doctor"]).args(arguments).arg("--data-dir").arg(dir.path()).output().unwrap()
    };
    let output = doctor(&["--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let bad = report["counts"]["bad"].as_u64().unwrap();
    assert_eq!(output.status.code(), Some(i32::from(bad > 0)), "{report}");
    for check in report["checks"].as_array().unwrap() {
        assert!(check["level"] == "ok" || check["level"] == "unknown" || check["fix"].is_string(), "{check}");
    }
    let text = said(&doctor(&[]));
    assert!(text.contains("clock.sync") && text.lines().last().unwrap().contains(" warnings, "), "{text}");
    assert_eq!(doctor(&["--root", "/nowhere/at/all"]).status.code(), Some(2));
}
