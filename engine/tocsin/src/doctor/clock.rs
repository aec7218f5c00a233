//! The clock: cheap to read, and right.

use super::Found;
use super::host::Host;

/// A clock that may be wrong by more makes latencies against exchanges' publish times worthless.
const GOOD_ERROR_US: i64 = 1_000;
/// And by more than this, `fresh_for` and key expiry as well.
const BEARABLE_ERROR_US: i64 = 100_000;

pub(super) fn source(host: &Host) -> Found {
    let folder = "/sys/devices/system/clocksource/clocksource0";
    let Some(current) = host.text(&format!("{folder}/current_clocksource")) else {
        return Found::unknown("the kernel does not name its clock source", None);
    };
    // Each of these is read without a system call on its machines.
    if ["tsc", "arch_sys_counter", "kvm-clock", "hyperv_clocksource_tsc_page"].contains(&current.as_str()) {
        return Found::ok(current);
    }
    let available = host.text(&format!("{folder}/available_clocksource")).unwrap_or_default();
    let fix = match available.split_whitespace().any(|name| name == "tsc") {
        true => format!("echo tsc > {folder}/current_clocksource"),
        false => {
            "boot with tsc=reliable, if the processor's is (constant_tsc and nonstop_tsc in /proc/cpuinfo)"
                .to_owned()
        }
    };
    Found::bad(format!("{current}: every reading is a system call"), fix)
}

pub(super) fn sync(host: &Host) -> Found {
    let install = "apt install chrony, several servers in /etc/chrony/chrony.conf, then chronyc tracking";
    let Some(clock) = &host.measured.clock else {
        return Found::unknown("the kernel's clock state was not read", Some("chronyc tracking"));
    };
    let within = clock.max_error_us;
    if !clock.synchronised {
        return Found::bad("nobody sets this clock (the kernel calls it unsynchronised)", install);
    }
    if within > BEARABLE_ERROR_US {
        return Found::bad(format!("it may be wrong by {within} µs"), install);
    }
    if within > GOOD_ERROR_US {
        return Found::warn(
            format!("it may be wrong by {within} µs"),
            "servers nearer by in /etc/chrony/chrony.conf (with minpoll 4 maxpoll 6), or PTP from the venue",
        );
    }
    Found::ok(format!("right within {within} µs"))
}
