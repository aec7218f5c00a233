//! The unit files, as systemd itself judges them, and system calls under the unit's own filter.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Engine, Mode};

/// Highest exposure that `systemd-analyze security` may find, in tenths.
const MOST_EXPOSED: &str = "20";

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().join("scripts")
}

fn units() -> Vec<PathBuf> {
    let units = ["tocsin.service", "tocsin.socket", "tocsin-admin.socket"];
    units.iter().map(|unit| scripts().join("systemd").join(unit)).collect()
}

/// Runs `systemd-analyze`; what it said, and whether it is content.
fn analyze(arguments: &[&str], units: &[PathBuf]) -> (bool, String) {
    let output = Command::new("systemd-analyze").args(arguments).args(units).output();
    let output = output.expect("systemd-analyze is missing: install systemd");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[test]
fn systemd_finds_little_exposed_and_nothing_wrong() {
    let threshold = format!("--threshold={MOST_EXPOSED}");
    let (content, said) = analyze(&["security", "--offline=yes", "--no-pager", &threshold], &units()[..1]);
    assert!(content && said.contains("Overall exposure level for tocsin.service"), "{said}");

    // The units as they are installed, beside a binary.
    let root = tempfile::tempdir().unwrap();
    let (system, bin) = (root.path().join("usr/lib/systemd/system"), root.path().join("usr/bin"));
    std::fs::create_dir_all(&system).unwrap();
    std::fs::create_dir_all(&bin).unwrap();
    for unit in units() {
        std::fs::copy(&unit, system.join(unit.file_name().unwrap())).unwrap();
    }
    std::fs::create_dir_all(root.path().join("bin")).unwrap();
    for program in ["usr/bin/tocsin", "bin/sh"] {
        std::fs::copy("/bin/true", root.path().join(program)).unwrap();
    }
    let root = format!("--root={}", root.path().display());
    let named: Vec<PathBuf> = units().iter().map(|unit| unit.file_name().unwrap().into()).collect();
    let (_, said) = analyze(&["verify", "--man=no", "--recursive-errors=no", &root], &named);
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("tocsin")).collect();
    assert!(ours.is_empty(), "{said}");
}

/// The filter of the unit, in the kernel, with death in place of an error: the engine serves, pins its threads,
/// locks its memory, announces, sends a webhook's lookup on its way and stops.
#[test]
fn the_engine_needs_no_system_call_that_the_unit_forbids() {
    let cores = tocsin::os::cores::available();
    let (source, feed) = (cores[0], *cores.last().unwrap());
    assert_ne!(source, feed, "two cores are needed");
    let pinned = format!("[topology]\nmode = \"pinned\"\nsource_cores = [{source}]\nfeed_cores = [{feed}]\n");
    let mut engine = Engine::prepare(tempfile::tempdir().unwrap(), Mode::Tls, &pinned);
    let mut command = Command::new("python3");
    command.arg(scripts().join("../engine/tocsin/tests/service/sandbox.py"));
    command.arg(&units()[0]).args(["--", env!("CARGO_BIN_EXE_tocsin")]);
    engine.spawn_by(command);
    engine.wait_ready();
    let key = engine.key();
    let mut client = engine.connect(&key, "");
    engine.inject("binance", "Binance Will List Token Example (TKNX)");
    assert_eq!(client.json()["type"], "announcement");
    let account = engine.cli_json(&["accounts", "create", "--name", "a", "--plan", "phantom"]);
    let id = account["id"].to_string();
    engine.cli(&["webhooks", "add", "--account", &id, "--url", "https://receiver.invalid/hook"]);
    // Counters, memory, the kernel's clock: what the control plane reads of the machine.
    engine.cli_json(&["status"]);
    for path in ["/readyz", "/metrics"] {
        engine.admin_raw("GET", path, "", "");
    }
    engine.signal("HUP");
    assert_eq!(engine.stop(), Some(0), "killed by the filter? {}", engine.log());
    let log = engine.log();
    assert!(!log.contains("is not pinned"), "{log}");
}
