//! What the service tells its manager, and when it stops feeding the watchdog; lines for the journal.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::behind_shell;
use crate::harness::manager::Manager;
use crate::harness::{Engine, Mode, wait_for};

/// Holds one thread of a process still.
struct Held(Child);

impl Held {
    fn new(pid: u32, thread: &str) -> Held {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let tid = tasks
            .map(|task| task.unwrap())
            .find(|task| std::fs::read_to_string(task.path().join("comm")).unwrap().trim() == thread)
            .unwrap_or_else(|| panic!("no thread {thread}"))
            .file_name();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/service/hold_thread.py");
        let mut child = Command::new("python3")
            .arg(script)
            .arg(tid)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        Held(child)
    }

    fn let_go(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }
}

#[test]
fn the_manager_is_told_and_a_stuck_thread_stops_the_watchdog() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::listen(&dir.path().join("notify"));
    let mut engine = Engine::prepare(tempfile::tempdir().unwrap(), Mode::Plain, "");
    // Standard error is said to be the journal, as systemd says it: by device and inode.
    engine.spawn_by(behind_shell(&format!(
        "{} JOURNAL_STREAM=$(stat -L -c %d:%i /proc/$$/fd/2);",
        manager.exports(150_000)
    )));
    engine.wait_ready();
    let ready = manager.other_message();
    assert!(ready.starts_with(&format!("READY=1\nSTATUS=feed on {}", engine.feed)), "{ready}");
    for _ in 0..3 {
        assert_eq!(manager.message(), "WATCHDOG=1\n", "fed while everything moves");
    }

    let held = Held::new(engine.pid(), "feed-0");
    // Of this thread: a machine that stands still makes others late, for a moment.
    let stuck = "has not moved for 5 s; the watchdog is not fed thread=\"feed-0\"";
    wait_for("the stuck thread to be noticed", || {
        // Read on: a manager that reads nothing would hold the service up.
        manager.take_all();
        engine.log().contains(stuck)
    });
    manager.take_all();
    // Twenty times the period: nothing is fed any more, and it is said once.
    assert_eq!(manager.within(Duration::from_secs(1)), None);
    let log = engine.log();
    assert_eq!(log.matches(stuck).count(), 1, "{log}");
    let line = log.lines().find(|line| line.contains(stuck)).unwrap();
    assert!(line.starts_with("<3>"), "{line}");
    held.let_go();
    assert_eq!(manager.message(), "WATCHDOG=1\n", "fed again when it moves again");
    let errors = engine.cli_json(&["status"])["errors"].clone();
    let counted =
        errors.as_array().unwrap().iter().find(|e| e["what"].as_str().unwrap().contains("thread=feed-0"));
    let counted = counted.unwrap_or_else(|| panic!("{errors}"));
    assert!(counted["count"].as_u64().unwrap() > 1 && counted["level"] == "error", "{counted}");
    assert!(counted["last_us"].as_u64() > counted["first_us"].as_u64(), "{counted}");

    engine.signal("HUP");
    let reloading = manager.other_message();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    let reloaded = manager.other_message();
    assert!(reloaded.starts_with("READY=1\nSTATUS=reloaded: 0 keys and 0 files in force"), "{reloaded}");
    assert_eq!(engine.stop(), Some(0));
    assert_eq!(manager.other_message(), "STOPPING=1\n");
    let log = engine.log();
    assert!(log.lines().all(|line| line.starts_with('<')), "every line has its priority: {log}");
    assert!(log.contains("<6>ready") && log.contains("<4>errors and warnings that repeated"), "{log}");
}

#[test]
fn json_lines_have_their_priority_too_and_only_for_the_journal() {
    let mut engine = Engine::prepare(tempfile::tempdir().unwrap(), Mode::Plain, "[log]\njson = true");
    for (journal, expected) in [("$(stat -L -c %d:%i /proc/$$/fd/2)", "<6>{\""), ("1:1", "{\"")] {
        engine.spawn_by(behind_shell(&format!("export JOURNAL_STREAM={journal};")));
        engine.wait_ready();
        assert_eq!(engine.stop(), Some(0));
        assert!(engine.log().lines().all(|line| line.starts_with(expected)), "{}", engine.log());
    }
}
