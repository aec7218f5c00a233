//! Every check over the files of a good host, and over those of a host with one thing wrong.

use std::fs;
use std::path::Path;

use super::measure::{Coalescing, Disk, Key, SeenStream, Space};
use super::*;
use crate::os::clock::ClockState;

/// A tuned machine: four cores, 2 and 3 hot, a card with two queues.
const GOOD: &[(&str, &str)] = &[
    ("proc/cmdline", "root=/dev/sda1 isolcpus=managed_irq,domain,2-3 nohz_full=2,3 rcu_nocbs=2,3"),
    ("proc/cpuinfo", "processor : 0\nflags : fpu tsc constant_tsc nonstop_tsc"),
    ("proc/stat", "cpu  100 0 100 9000 0 0 0 0 0 0\ncpu0 1 1 1 1"),
    ("proc/swaps", "Filename Type Size Used Priority"),
    ("proc/mounts", "tmpfs /dev/shm tmpfs rw,nosuid,nodev,size=65536k 0 0"),
    (
        "proc/self/limits",
        "Limit Soft Hard Units\nMax open files            1024                 1048576              files\nMax locked memory         unlimited            unlimited            bytes",
    ),
    ("proc/1/comm", "systemd"),
    ("proc/irq/24/smp_affinity_list", "0-1"),
    ("proc/irq/24/effective_affinity_list", "0"),
    ("proc/irq/25/smp_affinity_list", "0-3"),
    ("proc/irq/25/effective_affinity_list", "1"),
    ("proc/sys/kernel/osrelease", "6.1.0-18-amd64"),
    ("proc/sys/vm/swappiness", "60"),
    ("proc/sys/net/ipv4/tcp_slow_start_after_idle", "0"),
    ("proc/sys/net/ipv4/tcp_max_syn_backlog", "8192"),
    ("proc/sys/net/core/somaxconn", "4096"),
    ("proc/sys/net/core/busy_poll", "0"),
    ("proc/sys/net/core/busy_read", "0"),
    ("sys/devices/system/cpu/online", "0-3"),
    ("sys/devices/system/cpu/isolated", "2-3"),
    ("sys/devices/system/cpu/nohz_full", "2-3"),
    ("sys/devices/system/cpu/intel_pstate/no_turbo", "0"),
    ("sys/devices/system/cpu/cpu2/topology/thread_siblings_list", "2"),
    ("sys/devices/system/cpu/cpu3/topology/thread_siblings_list", "3"),
    ("sys/devices/system/cpu/cpu2/cpufreq/scaling_governor", "performance"),
    ("sys/devices/system/cpu/cpu3/cpufreq/scaling_governor", "performance"),
    ("sys/devices/system/cpu/cpu2/cpuidle/state1/latency", "2"),
    ("sys/devices/system/cpu/cpu2/cpuidle/state1/name", "C1"),
    ("sys/devices/system/cpu/cpu2/cpuidle/state2/latency", "133"),
    ("sys/devices/system/cpu/cpu2/cpuidle/state2/name", "C6"),
    ("sys/devices/system/cpu/cpu2/cpuidle/state2/disable", "1"),
    ("sys/devices/system/cpu/vulnerabilities/spectre_v2", "Mitigation: Enhanced IBRS"),
    ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc"),
    ("sys/devices/system/clocksource/clocksource0/available_clocksource", "tsc hpet acpi_pm"),
    ("sys/devices/system/node/node0/cpulist", "0-1"),
    ("sys/devices/system/node/node1/cpulist", "2-3"),
    ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never"),
    ("sys/class/net/eth0/device/numa_node", "1"),
    ("sys/class/net/eth0/queues/rx-0/rps_cpus", "0"),
    ("sys/class/net/eth0/queues/rx-1/rps_cpus", "0"),
    ("sys/class/net/lo/queues/rx-0/rps_cpus", "0"),
    ("etc/systemd/system/tocsin.service", "[Service]\nRemoveIPC=no\n"),
];

fn write(root: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }
}

fn measured() -> Measured {
    let space = Space { free_bytes: 20 << 30 };
    Measured {
        clock: Some(ClockState { synchronised: true, max_error_us: 400 }),
        shm: Some(space),
        disk: Some(Disk {
            kind: "ext4".into(),
            volatile: false,
            remote: false,
            space,
            missing: false,
            synced: true,
            sync_error: None,
        }),
        owner: Some(107),
        coalescing: Some(vec![Coalescing { card: "eth0".into(), adaptive: false, receive_us: Some(0) }]),
        dma_latency_us: None,
        streams: Some(vec![SeenStream { name: "binance".into(), key: Some(Key::Usable), addresses: 4 }]),
    }
}

fn wants() -> Wants {
    Wants {
        hot: [2, 3].into_iter().collect(),
        max_connections: 16_384,
        max_in_flight: 4_096,
        journals: 2,
        data_dir: "/var/lib/tocsin".into(),
        streams: vec![WantedStream {
            name: "binance".into(),
            credentials_file: Some("/etc/tocsin/binance.key".into()),
            host: "api.binance.com".into(),
            clock_within: Some(std::time::Duration::from_secs(30)),
        }],
        service: None,
    }
}

fn found(id: &str, host: &Host) -> Found {
    CHECKS.iter().find(|check| check.id == id).unwrap_or_else(|| panic!("no check {id}")).run(host)
}

#[test]
fn a_good_host_has_nothing_to_mend() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), GOOD);
    let host = Host::new(dir.path(), wants(), measured());
    for check in &CHECKS {
        let found = check.run(&host);
        assert_eq!((found.level, &found.fix), (Level::Ok, &None), "{}: {}", check.id, found.saw);
        assert!(!found.saw.is_empty() && !found.saw.contains('\n'), "{}", check.id);
    }
}

#[test]
fn an_empty_root_is_unknown_or_ok_and_never_a_guess() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::new(dir.path(), wants(), Measured::default());
    for check in &CHECKS {
        let level = check.run(&host).level;
        assert!(level <= Level::Unknown, "{}: {level:?}", check.id);
    }
}

/// Check, files over the good host's, level, part of what was seen, part of the fix.
type Row = (&'static str, &'static [(&'static str, &'static str)], Level, &'static str, &'static str);

const ONE_WRONG: &[Row] = &[
    (
        "cores.pinned",
        &[("sys/devices/system/cpu/online", "0-2")],
        Level::Bad,
        "core 3 is not online",
        "echo 1 > /sys/devices/system/cpu/cpu3/online",
    ),
    (
        "cores.isolated",
        &[("sys/devices/system/cpu/isolated", "")],
        Level::Bad,
        "core 2,3 is not isolated",
        "isolcpus=managed_irq,domain,2,3",
    ),
    ("cores.isolated", &[("sys/devices/system/cpu/isolated", "3")], Level::Bad, "core 2 is not", "boot with"),
    (
        "cores.tickless",
        &[("sys/devices/system/cpu/nohz_full", "(null)")],
        Level::Warn,
        "core 2,3",
        "nohz_full=2,3",
    ),
    ("cores.rcu", &[("proc/cmdline", "quiet rcu_nocbs=2")], Level::Warn, "core 3", "rcu_nocbs=2,3"),
    ("cores.rcu", &[("proc/cmdline", "quiet nohz_full=2-3")], Level::Ok, "2,3", ""),
    (
        "cores.siblings",
        &[("sys/devices/system/cpu/cpu2/topology/thread_siblings_list", "0,2")],
        Level::Warn,
        "thread 0",
        "echo 0 > /sys/devices/system/cpu/cpu0/online",
    ),
    (
        "cores.siblings",
        &[("sys/devices/system/cpu/cpu2/topology/thread_siblings_list", "2-3")],
        Level::Warn,
        "thread 3",
        "no siblings of each other",
    ),
    (
        "cores.node",
        &[("sys/class/net/eth0/device/numa_node", "0")],
        Level::Warn,
        "eth0 is at node 0",
        "cores of 0,1",
    ),
    (
        "power.governor",
        &[("sys/devices/system/cpu/cpu3/cpufreq/scaling_governor", "powersave")],
        Level::Bad,
        "core 3: powersave",
        "echo performance",
    ),
    (
        "power.turbo",
        &[("sys/devices/system/cpu/intel_pstate/no_turbo", "1")],
        Level::Warn,
        "off",
        "echo 0 > /sys/devices/system/cpu/intel_pstate/no_turbo",
    ),
    (
        "power.sleep",
        &[("sys/devices/system/cpu/cpu2/cpuidle/state2/disable", "0")],
        Level::Warn,
        "C6 takes 133",
        "intel_idle.max_cstate=0",
    ),
    (
        "power.sleep",
        &[("sys/devices/system/cpu/cpu2/cpuidle/state2/disable", "0"), ("proc/cmdline", "idle=poll")],
        Level::Ok,
        "never sleep",
        "",
    ),
    (
        "clock.source",
        &[("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet")],
        Level::Bad,
        "hpet",
        "echo tsc >",
    ),
    (
        "clock.source",
        &[
            ("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet"),
            ("sys/devices/system/clocksource/clocksource0/available_clocksource", "hpet"),
        ],
        Level::Bad,
        "hpet",
        "tsc=reliable",
    ),
    (
        "irq.placement",
        &[("proc/irq/25/effective_affinity_list", "2")],
        Level::Bad,
        "1 interrupts may come to core 2,3: 25",
        "for i in 25; do echo 0,1 > /proc/irq/$i/smp_affinity_list",
    ),
    ("irq.placement", &[("proc/irq/25/effective_affinity_list", "")], Level::Bad, "25", "for i in 25"),
    ("irq.balance", &[("proc/77/comm", "irqbalance")], Level::Warn, "runs", "IRQBALANCE_BANNED_CPULIST=2,3"),
    (
        "nic.queues",
        &[("sys/class/net/eth0/queues/rx-2/rps_cpus", "0")],
        Level::Warn,
        "3 queues for 2",
        "ethtool -L eth0 combined 2",
    ),
    (
        "memory.locked",
        &[("proc/self/limits", "Max locked memory         8388608              8388608              bytes")],
        Level::Bad,
        "8192 KiB",
        "LimitMEMLOCK=infinity",
    ),
    (
        "limits.files",
        &[("proc/self/limits", "Max open files            1024                 4096                 files")],
        Level::Bad,
        "20736 are needed",
        "LimitNOFILE=1048576",
    ),
    ("memory.shm", &[("proc/mounts", "/dev/sda1 / ext4 rw 0 0")], Level::Bad, "no mount", "mount -t tmpfs"),
    (
        "memory.shm",
        &[("proc/mounts", "tmpfs /dev/shm tmpfs rw 0 0\n/dev/sdb /dev/shm ext4 rw 0 0")],
        Level::Bad,
        "is ext4",
        "mount -t tmpfs",
    ),
    (
        "memory.huge_pages",
        &[("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never")],
        Level::Warn,
        "always",
        "echo madvise",
    ),
    (
        "memory.swap",
        &[("proc/swaps", "Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2")],
        Level::Warn,
        "/dev/sda2",
        "vm.swappiness=1",
    ),
    (
        "memory.swap",
        &[("proc/swaps", "Filename\n/dev/sda2 partition 1 0 -2"), ("proc/sys/vm/swappiness", "1")],
        Level::Ok,
        "/dev/sda2",
        "",
    ),
    (
        "net.slow_start",
        &[("proc/sys/net/ipv4/tcp_slow_start_after_idle", "1")],
        Level::Warn,
        "1",
        "sysctl net.ipv4.tcp_slow_start_after_idle=0",
    ),
    (
        "net.backlog",
        &[("proc/sys/net/core/somaxconn", "128")],
        Level::Warn,
        "somaxconn 128",
        "sysctl net.core.somaxconn=4096",
    ),
    ("net.busy_poll", &[("proc/sys/net/core/busy_read", "500")], Level::Warn, "500 µs", "busy_read=0"),
    ("kernel.version", &[("proc/sys/kernel/osrelease", "4.19.0-6-amd64")], Level::Bad, "4.19", "5.10"),
    ("kernel.version", &[("proc/sys/kernel/osrelease", "5.15.0-91-generic")], Level::Warn, "5.15", "6.1"),
    (
        "kernel.mitigations",
        &[("sys/devices/system/cpu/vulnerabilities/mds", "Vulnerable; SMT vulnerable")],
        Level::Warn,
        "mds",
        "microcode",
    ),
    (
        "kernel.mitigations",
        &[("sys/devices/system/cpu/vulnerabilities/mds", "Vulnerable"), ("proc/cmdline", "mitigations=off")],
        Level::Ok,
        "off",
        "",
    ),
    (
        "host.virtual",
        &[("proc/cpuinfo", "flags : fpu hypervisor"), ("sys/class/dmi/id/sys_vendor", "QEMU")],
        Level::Warn,
        "QEMU",
        "bare-metal",
    ),
    (
        "host.steal",
        &[("proc/stat", "cpu  100 0 100 9000 0 0 0 100 0 0")],
        Level::Bad,
        "1.075 %",
        "dedicated cores",
    ),
    (
        "host.ipc",
        &[("etc/systemd/system/tocsin.service", "[Service]\nDynamicUser=yes\n")],
        Level::Bad,
        "DynamicUser",
        "DynamicUser=no",
    ),
    (
        "host.ipc",
        &[("etc/systemd/system/tocsin.service.d/over.conf", "[Service]\nRemoveIPC = true\n")],
        Level::Bad,
        "over.conf has RemoveIPC",
        "daemon-reload",
    ),
];

#[test]
fn one_thing_wrong_is_found_and_its_fix_named() {
    for (id, files, level, saw, fix) in ONE_WRONG {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), GOOD);
        write(dir.path(), files);
        let found = found(id, &Host::new(dir.path(), wants(), measured()));
        assert_eq!(found.level, *level, "{id} {files:?}: {found:?}");
        assert!(found.saw.contains(saw), "{id}: {found:?} does not contain {saw:?}");
        assert!(
            found.fix.clone().unwrap_or_default().contains(fix),
            "{id}: {found:?} does not contain {fix:?}"
        );
        assert_eq!(found.fix.is_some(), *level > Level::Ok, "{id}");
    }
}

type Change = fn(&mut Measured);

/// Each change alone, on a host that is good otherwise: what is found, how bad it is, how it is mended.
fn judge(good: &Path, rows: &[(&str, Change, Level, &str)]) {
    for &(id, change, level, fix) in rows {
        let mut measured = measured();
        change(&mut measured);
        let found = found(id, &Host::new(good, wants(), measured));
        assert_eq!(found.level, level, "{id}: {found:?}");
        assert!(
            found.fix.clone().unwrap_or_default().contains(fix),
            "{id}: {found:?} does not contain {fix:?}"
        );
    }
}

#[test]
fn what_was_measured_of_push_sources_is_judged() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), GOOD);
    let rows: [(&str, Change, Level, &str); 6] = [
        (
            "streams.credentials",
            |m| stream(m).key = Some(Key::Unusable("has mode 0644".into())),
            Level::Bad,
            "chmod 600 /etc/tocsin/binance.key",
        ),
        ("streams.credentials", |m| stream(m).key = Some(Key::Hidden), Level::Unknown, "sudo -u tocsin"),
        ("streams.address", |m| stream(m).addresses = 0, Level::Bad, "getent ahosts api.binance.com"),
        (
            "streams.clock",
            |m| m.clock = Some(ClockState { synchronised: false, max_error_us: 0 }),
            Level::Warn,
            "chrony",
        ),
        (
            "streams.clock",
            |m| m.clock = Some(ClockState { synchronised: true, max_error_us: 30_000_000 }),
            Level::Bad,
            "chrony",
        ),
        ("streams.clock", |m| m.clock = None, Level::Unknown, "chronyc tracking"),
    ];
    judge(dir.path(), &rows);
}

#[test]
fn what_was_measured_is_judged() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), GOOD);
    let rows: [(&str, Change, Level, &str); 15] = [
        (
            "clock.sync",
            |m| m.clock = Some(ClockState { synchronised: false, max_error_us: 16_000_000 }),
            Level::Bad,
            "chrony",
        ),
        (
            "clock.sync",
            |m| m.clock = Some(ClockState { synchronised: true, max_error_us: 200_000 }),
            Level::Bad,
            "chrony",
        ),
        (
            "clock.sync",
            |m| m.clock = Some(ClockState { synchronised: true, max_error_us: 5_000 }),
            Level::Warn,
            "minpoll",
        ),
        ("clock.sync", |m| m.clock = None, Level::Unknown, "chronyc tracking"),
        ("memory.shm", |m| m.shm = Some(Space { free_bytes: 1 << 20 }), Level::Bad, "remount,size=64m"),
        (
            "nic.coalescing",
            |m| {
                m.coalescing =
                    Some(vec![Coalescing { card: "eth0".into(), adaptive: true, receive_us: None }]);
            },
            Level::Warn,
            "ethtool -C eth0 adaptive-rx off",
        ),
        (
            "nic.coalescing",
            |m| {
                m.coalescing =
                    Some(vec![Coalescing { card: "eth0".into(), adaptive: false, receive_us: Some(50) }]);
            },
            Level::Warn,
            "rx-usecs 0",
        ),
        ("nic.coalescing", |m| m.coalescing = None, Level::Unknown, "ethtool -c eth0"),
        ("disk.data_dir", |m| disk(m).volatile = true, Level::Bad, "on a disk"),
        ("disk.data_dir", |m| disk(m).space.free_bytes = 1 << 20, Level::Bad, "df -h"),
        ("disk.data_dir", |m| disk(m).space.free_bytes = 500 << 20, Level::Warn, "df -h"),
        ("disk.data_dir", |m| disk(m).remote = true, Level::Warn, "local disk"),
        ("disk.data_dir", |m| disk(m).sync_error = Some("No space left".into()), Level::Bad, "df -hT"),
        ("disk.data_dir", |m| disk(m).synced = false, Level::Unknown, "sudo -u tocsin"),
        ("power.sleep", |m| m.dma_latency_us = Some(0), Level::Ok, ""),
    ];
    judge(dir.path(), &rows);
    let mut person = measured();
    person.owner = Some(1_000);
    assert_eq!(found("host.ipc", &Host::new(dir.path(), wants(), person)).level, Level::Warn);
}

fn stream(measured: &mut Measured) -> &mut SeenStream {
    measured.streams.as_mut().unwrap().first_mut().unwrap()
}

#[test]
fn without_push_sources_there_is_nothing_to_say_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let wants = Wants { streams: Vec::new(), ..wants() };
    for measured in [measured(), Measured::default()] {
        let host = Host::new(dir.path(), wants.clone(), measured);
        for id in ["streams.credentials", "streams.address", "streams.clock"] {
            assert_eq!(found(id, &host).level, Level::Ok, "{id}");
        }
    }
}

fn disk(measured: &mut Measured) -> &mut Disk {
    measured.disk.as_mut().unwrap()
}

#[test]
fn without_pinned_threads_cores_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), GOOD);
    let wants = Wants { hot: CoreSet::default(), ..wants() };
    let host = Host::new(dir.path(), wants.clone(), measured());
    for id in [
        "cores.isolated",
        "cores.tickless",
        "cores.rcu",
        "cores.siblings",
        "cores.node",
        "irq.placement",
        "irq.balance",
    ] {
        assert_eq!(found(id, &host).level, Level::Ok, "{id}");
    }
    let pinned = found("cores.pinned", &host);
    assert!(pinned.level == Level::Warn && pinned.saw.contains("4 cores"), "{pinned:?}");
    write(dir.path(), &[("sys/devices/system/cpu/online", "0-1")]);
    assert_eq!(found("cores.pinned", &Host::new(dir.path(), wants, measured())).level, Level::Ok);
}

#[test]
fn sets_of_cores_are_read_and_written_as_the_kernel_does() {
    for (text, written) in
        [("0-3,7", "0-3,7"), ("", ""), ("managed_irq,domain,2-3", "2,3"), ("5,1,2,3", "1-3,5")]
    {
        assert_eq!(CoreSet::parse(text).unwrap().to_string(), written);
    }
    for damaged in ["3-1", "0-99999999", "1-", "-", "1;2"] {
        assert_eq!(CoreSet::parse(damaged), None, "{damaged}");
    }
}

/// The page lists the checks that there are, in their order.
#[test]
fn the_page_lists_every_check() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/doctor.md");
    let page = fs::read_to_string(page).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let listed: Vec<&str> = rows.filter(|id| id.contains('.')).collect();
    assert_eq!(listed, CHECKS.map(|check| check.id));
}
