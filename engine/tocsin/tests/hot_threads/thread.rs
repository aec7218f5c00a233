//! One thread of another process: its faults, its processor time, its system calls.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Sub;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::harness::wait_for;

/// See the module head.
pub(super) struct Thread {
    id: u32,
    folder: PathBuf,
}

/// Page faults so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Faults {
    /// Met without the disk: memory touched for the first time.
    pub(super) minor: u64,
    /// Met by reading from disk.
    pub(super) major: u64,
}

impl Sub for Faults {
    type Output = Faults;

    fn sub(self, before: Faults) -> Faults {
        Faults { minor: self.minor - before.minor, major: self.major - before.major }
    }
}

impl Thread {
    /// The thread of a process that has a name; it must be there.
    pub(super) fn named(process: u32, name: &str) -> Thread {
        let tasks = PathBuf::from(format!("/proc/{process}/task"));
        for task in fs::read_dir(&tasks).unwrap() {
            let folder = task.unwrap().path();
            if fs::read_to_string(folder.join("comm")).unwrap().trim() == name {
                let id = folder.file_name().unwrap().to_str().unwrap().parse().unwrap();
                return Thread { id, folder };
            }
        }
        panic!("process {process} has no thread {name}");
    }

    /// proc(5): `minflt` and `majflt` are the 10th and 12th field of `stat`.
    pub(super) fn faults(&self) -> Faults {
        let stat = fs::read_to_string(self.folder.join("stat")).unwrap();
        // Behind the name in parentheses the third field follows.
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        Faults { minor: fields[10 - 3].parse().unwrap(), major: fields[12 - 3].parse().unwrap() }
    }

    /// Time on a processor: the first field of `schedstat`, in nanoseconds.
    pub(super) fn cpu(&self) -> Duration {
        let text = fs::read_to_string(self.folder.join("schedstat")).unwrap();
        Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
    }
}

/// strace on one thread.
pub(super) struct Trace {
    strace: Child,
    folder: TempDir,
}

impl Trace {
    /// Attaches, and returns once it is attached.
    pub(super) fn start(thread: &Thread) -> Trace {
        let folder = tempfile::tempdir().unwrap();
        let said = fs::File::create(folder.path().join("said")).unwrap();
        let strace = Command::new("strace")
            .args(["--summary-only", "--summary-columns=calls,name", "--output"])
            .arg(folder.path().join("calls"))
            .args(["--attach", &thread.id.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said)
            .spawn()
            .unwrap_or_else(|e| {
                panic!("strace cannot be started ({e}): install it (apt-get install strace)")
            });
        let mut trace = Trace { strace, folder };
        wait_for("strace to attach", || {
            let ended = trace.strace.try_wait().unwrap();
            assert!(ended.is_none(), "strace may not trace: {}", trace.said());
            trace.said().contains("attached")
        });
        trace
    }

    fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("said")).unwrap()
    }

    /// Detaches; the calls made meanwhile, by name.
    pub(super) fn finish(mut self) -> BTreeMap<String, u64> {
        let stopped = Command::new("kill").arg("-INT").arg(self.strace.id().to_string()).status().unwrap();
        assert!(stopped.success());
        self.strace.wait().unwrap();
        let table = fs::read_to_string(self.folder.path().join("calls")).unwrap();
        // A head of two lines, a call a line, and a total below a rule.
        let rows = table.lines().filter_map(|line| {
            let mut columns = line.split_whitespace();
            let (count, name) = (columns.next()?.parse().ok()?, columns.next()?);
            // A sleep that was interrupted by attaching goes on under this name.
            (!["total", "restart_syscall"].contains(&name)).then(|| (name.to_owned(), count))
        });
        rows.collect()
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // Only this one, and nothing if it has ended.
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}
