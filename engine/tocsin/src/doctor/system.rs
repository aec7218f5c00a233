//! The kernel, the machine under it, and the disk.

use super::Found;
use super::host::Host;

/// Free space below which the store is in danger, and below which it will be.
const FULL_BYTES: u64 = 64 << 20;
const NEARLY_FULL_BYTES: u64 = 1 << 30;
/// Of a million ticks; a thousandth of the time is more than a quiet neighbour takes.
const STEAL_PER_MILLION: u64 = 1_000;

pub(super) fn kernel(host: &Host) -> Found {
    let Some(release) = host.text("/proc/sys/kernel/osrelease") else {
        return Found::unknown("not read", Some("uname -r"));
    };
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or_default());
    let version = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    match version {
        (0, _) => Found::unknown(release, None),
        v if v < (5, 10) => Found::bad(
            release,
            "a kernel of a distribution that is maintained: 5.10 or later, 6.1 or later is better",
        ),
        v if v < (6, 1) => Found::warn(release, "6.1 or later, as Debian 12 has"),
        _ => Found::ok(release),
    }
}

pub(super) fn mitigations(host: &Host) -> Found {
    let folder = "/sys/devices/system/cpu/vulnerabilities";
    let names = host.names(folder);
    if names.is_empty() {
        return Found::unknown("the kernel does not list them", Some("lscpu"));
    }
    let says = |name: &String| host.text(&format!("{folder}/{name}")).unwrap_or_default();
    let active = names.iter().filter(|name| says(name).starts_with("Mitigation")).count();
    let open: Vec<&str> =
        names.iter().filter(|n| says(n).starts_with("Vulnerable")).map(String::as_str).collect();
    if host.boot("mitigations").as_deref() == Some("off") {
        return Found::ok("off, by kernel parameter: for a machine that runs nothing of others");
    }
    if !open.is_empty() {
        return Found::warn(
            format!("vulnerable: {}", open.join(", ")),
            "apt upgrade and the processor's microcode (intel-microcode, amd64-microcode), then reboot",
        );
    }
    Found::ok(format!(
        "{active} active; each system call pays for them (mitigations=off on a machine that runs nothing else)"
    ))
}

pub(super) fn virtualised(host: &Host) -> Found {
    let Some(cpuinfo) = host.text("/proc/cpuinfo") else {
        return Found::unknown("/proc/cpuinfo was not read", Some("systemd-detect-virt"));
    };
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    if !flags.split_whitespace().any(|flag| flag == "hypervisor") {
        return Found::ok("no hypervisor");
    }
    let vendor = host.text("/sys/class/dmi/id/sys_vendor").filter(|v| !v.is_empty());
    Found::warn(
        format!(
            "a virtual machine ({}): its cores are somebody's threads",
            vendor.as_deref().unwrap_or("unknown vendor")
        ),
        "a bare-metal instance, or dedicated cores",
    )
}

pub(super) fn steal(host: &Host) -> Found {
    let line =
        host.text("/proc/stat").and_then(|t| t.lines().find(|l| l.starts_with("cpu ")).map(str::to_owned));
    let Some(line) = line else {
        return Found::unknown("/proc/stat was not read", Some("vmstat 1"));
    };
    // user nice system idle iowait irq softirq steal; guest time is within user's.
    let ticks: Vec<u64> =
        line.split_whitespace().skip(1).take(8).map(|n| n.parse().unwrap_or_default()).collect();
    let (all, stolen) = (ticks.iter().sum::<u64>().max(1), ticks.get(7).copied().unwrap_or_default());
    let per_million = stolen.saturating_mul(1_000_000) / all;
    let per_cent =
        format!("{}.{:03} % of the time since boot", per_million / 10_000, per_million % 10_000 / 10);
    match per_million {
        0..STEAL_PER_MILLION => Found::ok(per_cent),
        _ => Found::bad(per_cent, "dedicated cores: the hypervisor gives this machine's time to others"),
    }
}

pub(super) fn remove_ipc(host: &Host) -> Found {
    let folders =
        ["/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
    let set = |text: &str, name: &str| {
        let mut lines =
            text.lines().filter_map(|line| line.trim().strip_prefix(name)?.trim().strip_prefix('='));
        lines.next_back().map(|value| ["yes", "true", "1", "on"].contains(&value.trim()))
    };
    let (mut found, mut wrong) = (false, None);
    for folder in folders {
        let unit = format!("{folder}/tocsin.service");
        let drop_ins = host.names(&format!("{unit}.d")).into_iter().map(|name| format!("{unit}.d/{name}"));
        for path in std::iter::once(unit.clone()).chain(drop_ins) {
            let Some(text) = host.text(&path) else { continue };
            found = true;
            for name in ["RemoveIPC", "DynamicUser"] {
                if set(&text, name) == Some(true) {
                    wrong = Some((path.clone(), name));
                }
            }
        }
    }
    if let Some((path, name)) = wrong {
        let fix = format!("{name}=no in {path}, then systemctl daemon-reload");
        return Found::bad(format!("{path} has {name}: journals go when the service does"), fix);
    }
    // Users of the system are exempt; a service under a person's own account is not.
    let logind = host.text("/etc/systemd/logind.conf").unwrap_or_default();
    if host.measured.owner.is_some_and(|uid| uid >= 1_000) && set(&logind, "RemoveIPC") != Some(false) {
        return Found::warn(
            "data_dir belongs to a person's account: its shared memory goes at the last logout",
            "RemoveIPC=no in /etc/systemd/logind.conf, then systemctl restart systemd-logind; or a system user",
        );
    }
    Found::ok(if found { "the unit keeps it" } else { "no unit is installed, nothing removes it" })
}

pub(super) fn data_dir(host: &Host) -> Found {
    let dir = host.wants.data_dir.display();
    let Some(disk) = &host.measured.disk else {
        return Found::unknown(format!("{dir} was not looked at"), Some("df -hT"));
    };
    if disk.volatile {
        return Found::bad(
            format!("{dir} is on {}: nothing there outlives a power cut", disk.kind),
            "data_dir on a disk",
        );
    }
    if let Some(error) = &disk.sync_error {
        return Found::bad(
            format!("{dir}: a file could not be written and synced: {error}"),
            format!("chown tocsin {dir}; df -hT {dir}"),
        );
    }
    let free = disk.space.free_bytes;
    let saw = format!("{}, {} MiB free", disk.kind, free >> 20);
    let room = format!("more room for {dir} (df -h {dir})");
    match free {
        0..FULL_BYTES => Found::bad(saw, room),
        FULL_BYTES..NEARLY_FULL_BYTES => Found::warn(saw, room),
        _ if disk.remote => Found::warn(
            format!("{saw}, over a network"),
            format!("a local disk for {dir}: each commit waits for it"),
        ),
        _ if disk.missing => Found::ok(format!("{saw}; {dir} is made by the first start")),
        _ if !disk.synced => Found {
            level: super::Level::Unknown,
            saw: format!("{saw}; not writable for this user, so syncing was not tried"),
            fix: Some("sudo -u tocsin tocsin doctor".to_owned()),
        },
        _ => Found::ok(saw),
    }
}
