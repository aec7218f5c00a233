//! Ends a test that stands still, and says where it stands.
//!
//! Contract: a long test says at each step where it is. When it has said nothing for the bound, the watch
//! writes what it was at, what the machine was given to do, and where each thread of the engine and of
//! commands with its configuration waits; then it kills those. Whoever waited for them fails by that. A test
//! that stands still all the same is ended with the whole test program.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const TICK: Duration = Duration::from_millis(200);
/// After the kill, until the test program ends.
const LAST_PATIENCE: Duration = Duration::from_secs(30);

struct Place {
    what: String,
    since: Instant,
    over: bool,
}

/// Watches until it is dropped.
pub struct Stall(Arc<Mutex<Place>>);

impl Stall {
    /// Watches a test whose engine has this configuration file.
    pub fn watch(config: &Path, bound: Duration) -> Stall {
        let place = Place { what: "the start".to_owned(), since: Instant::now(), over: false };
        let place = Arc::new(Mutex::new(place));
        let (watched, config) = (Arc::clone(&place), config.to_owned());
        std::thread::spawn(move || {
            if wait_still(&watched, bound) {
                end(&watched, &config);
            }
        });
        Stall(place)
    }

    /// The test is here now.
    pub fn at(&self, what: impl Into<String>) {
        let mut place = self.0.lock().unwrap();
        (place.what, place.since) = (what.into(), Instant::now());
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        if let Ok(mut place) = self.0.lock() {
            place.over = true;
        }
    }
}

/// True once it has stood still for so long, false when it is over.
fn wait_still(place: &Mutex<Place>, bound: Duration) -> bool {
    loop {
        std::thread::sleep(TICK);
        let Ok(place) = place.lock() else { return false };
        if place.over {
            return false;
        }
        if place.since.elapsed() >= bound {
            return true;
        }
    }
}

fn end(place: &Mutex<Place>, config: &Path) {
    let told = report(&place.lock().unwrap(), config);
    // Not by `eprintln!`: what a test prints is kept back until it ends.
    let _ = std::io::stderr().write_all(told.as_bytes());
    for (pid, _) in processes(config) {
        if let Some(pid) = rustix::process::Pid::from_raw(pid) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
    if wait_still(place, LAST_PATIENCE) {
        std::process::exit(101);
    }
}

fn report(place: &Place, config: &Path) -> String {
    let read = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    let mut told = format!(
        "\nSTALLED for {:?} at {}; load {}",
        place.since.elapsed(),
        place.what,
        read("/proc/loadavg".into())
    );
    for (pid, command) in processes(config) {
        let _ = writeln!(told, "process {pid}: {command}");
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for task in tasks.map(|task| task.path()) {
            let stat = read(task.join("stat"));
            // Behind the name in brackets: state first, ticks of processor time 11 and 12 fields later.
            let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
            let field = |at: usize| fields.get(at).copied().unwrap_or("?");
            let (name, waits) = (read(task.join("comm")), read(task.join("wchan")));
            let (name, state, user, system) = (name.trim(), field(0), field(11), field(12));
            let _ = writeln!(told, "  {name}: {state} in {waits}, ticks {user} + {system}");
        }
    }
    let log = read(config.with_file_name("log"));
    let lines: Vec<&str> = log.lines().collect();
    for line in &lines[lines.len().saturating_sub(20)..] {
        let _ = writeln!(told, "  log: {line}");
    }
    told
}

/// Processes that were started with this configuration file.
fn processes(config: &Path) -> Vec<(i32, String)> {
    let config = config.to_string_lossy();
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let command = std::fs::read(entry.path().join("cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        command.contains(&*config).then_some((pid, command))
    })
    .collect()
}
