//! Children of the harness: started pinned, ended for sure, and looked at from outside.
//!
//! Contract: every child runs behind the hidden verb `child` ([`exec`]), which puts it into a process
//! group of its own (Ctrl-C is ours to answer), binds its life to ours, chooses its cores and becomes
//! the program. [`Process`] kills and waits when dropped. Memory and CPU time are those of the child and
//! its own children, as `/proc` tells them. Blocks at most [`GENTLE`] when dropped.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal, setpgid};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// How long a child that is asked to end may take before it is killed.
pub const GENTLE: Duration = Duration::from_secs(3);
/// How long a child may take until it says that it is ready.
const READY: Duration = Duration::from_secs(30);
/// What is shown of a child's standard error.
const LAST_WORDS: u64 = 600;

/// A program to start.
pub struct Spec {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Further environment.
    pub environment: Vec<(&'static str, String)>,
    /// Cores it may run on; none: those of the thread that starts it.
    pub cores: Vec<usize>,
    /// Asked to end, because killing it would leave its own children behind.
    pub gentle: bool,
}

/// A running child.
pub struct Process {
    child: Child,
    gentle: bool,
    errors: PathBuf,
    tree: Vec<Pid>,
}

impl Process {
    /// Starts `spec` through `exe`, which has the hidden verbs; standard error goes to a file in `dir`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(exe: &Path, dir: &Path, name: &str, spec: &Spec) -> Result<Process, String> {
        let errors = dir.join(format!("{name}.stderr"));
        let shown = |e: std::io::Error| format!("{name}: {e}");
        let cores: Vec<String> = spec.cores.iter().map(ToString::to_string).collect();
        let child = Command::new(exe)
            .args(["child", if spec.gentle { "gentle" } else { "kill" }, &cores.join(",")])
            .arg(std::process::id().to_string())
            .args(&spec.command)
            .envs(spec.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&errors).map_err(shown)?)
            .spawn()
            .map_err(shown)?;
        let tree = i32::try_from(child.id()).ok().and_then(Pid::from_raw).into_iter().collect();
        Ok(Process { child, gentle: spec.gentle, errors, tree })
    }

    /// Its standard input and output, once.
    ///
    /// # Errors
    /// They are taken.
    pub fn pipes(&mut self) -> Result<(ChildStdin, ChildStdout), String> {
        self.child.stdin.take().zip(self.child.stdout.take()).ok_or_else(|| "no pipes".to_owned())
    }

    /// The first line it prints. Its output goes on being read, and is dropped.
    ///
    /// # Errors
    /// It ended, or said nothing for half a minute.
    pub fn first_line(&mut self) -> Result<String, String> {
        let output = self.child.stdout.take().ok_or("no pipe")?;
        let (sender, line) = sync_channel(1);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // Nobody waits for the second.
                let _ = sender.try_send(line);
            }
        });
        line.recv_timeout(READY).map_err(|_| format!("it did not start: {}", self.last_words()))
    }

    /// Tries `ready` until it has something.
    ///
    /// # Errors
    /// The process ended, or half a minute went by.
    pub fn wait_for<T>(&mut self, mut ready: impl FnMut() -> Option<T>) -> Result<T, String> {
        let until = Instant::now() + READY;
        loop {
            if let Some(found) = ready() {
                return Ok(found);
            }
            let ended = self.child.try_wait().map_err(|e| e.to_string())?.is_some();
            if ended || Instant::now() > until {
                return Err(format!("it did not start: {}", self.last_words()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The end of what it said on standard error.
    #[must_use]
    pub fn last_words(&self) -> String {
        let read = || {
            let mut file = File::open(&self.errors)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(LAST_WORDS)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).map(|_| bytes)
        };
        match read() {
            Ok(bytes) if !bytes.is_empty() => String::from_utf8_lossy(&bytes).trim().replace('\n', "; "),
            _ => "it said nothing".to_owned(),
        }
    }

    /// Takes note of its children; from now on they count.
    pub fn find_tree(&mut self) {
        let Some(root) = self.tree.first().copied() else { return };
        let parents = parents();
        let mut tree = vec![root];
        let mut at = 0;
        while let Some(parent) = tree.get(at).copied() {
            tree.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
            at += 1;
        }
        self.tree = tree;
    }

    /// Resident bytes of it and its children.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        self.tree.iter().filter_map(|pid| resident_bytes(*pid)).sum()
    }

    /// CPU nanoseconds of it and its children, threads that ended left out.
    #[must_use]
    pub fn cpu_ns(&self) -> u64 {
        self.tree.iter().filter_map(|pid| cpu_ns(*pid)).sum()
    }

    /// Stops it, or lets it go on. One that is to end gently is never stopped.
    pub fn pause(&self, pause: bool) {
        if !self.gentle
            && let Some(pid) = self.tree.first()
        {
            // It may have ended: that shows elsewhere.
            let _ = kill_process(*pid, if pause { Signal::STOP } else { Signal::CONT });
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Whatever fails here, the process ends with us at the latest.
        if self.gentle
            && let Some(pid) = self.tree.first()
        {
            let _ = kill_process(*pid, Signal::TERM);
            let until = Instant::now() + GENTLE;
            while Instant::now() < until && matches!(self.child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            for pid in self.tree.iter().skip(1) {
                let _ = kill_process(*pid, Signal::KILL);
            }
        }
        let _ = self.child.wait();
    }
}

/// The calling thread's cores, as they were before it was pinned; they come back when dropped.
pub struct Cores(CpuSet);

impl Cores {
    /// Pins the calling thread to `core` for a while.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn pin(core: usize) -> Result<Cores, String> {
        let before = sched_getaffinity(None).map_err(|e| std::io::Error::from(e).to_string())?;
        tocsin::os::cores::pin(core).map_err(|e| e.to_string())?;
        Ok(Cores(before))
    }
}

impl Drop for Cores {
    fn drop(&mut self) {
        // The kernel gave this set a moment ago.
        let _ = sched_setaffinity(None, &self.0);
    }
}

/// The verb `child`: `gentle|kill CORES PARENT PROGRAM ARGUMENT...`; becomes the program.
pub fn exec(arguments: &[String]) -> ExitCode {
    let error = match try_exec(arguments) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    eprintln!("{error}");
    ExitCode::FAILURE
}

fn try_exec(arguments: &[String]) -> Result<std::convert::Infallible, String> {
    let [ending, cores, parent, program, arguments @ ..] = arguments else {
        return Err("child ENDING CORES PARENT PROGRAM ARGUMENT...".to_owned());
    };
    let shown = |e: rustix::io::Errno| std::io::Error::from(e).to_string();
    setpgid(None, None).map_err(shown)?;
    let signal = if ending == "gentle" { Signal::TERM } else { Signal::KILL };
    set_parent_process_death_signal(Some(signal)).map_err(shown)?;
    // It may have ended before that.
    if getppid().map(|pid| pid.as_raw_nonzero().to_string()).as_ref() != Some(parent) {
        return Err("who started this is gone".to_owned());
    }
    let mut set = CpuSet::new();
    cores.split(',').filter_map(|core| core.parse().ok()).for_each(|core| set.set(core));
    if set.count() > 0 {
        sched_setaffinity(None, &set).map_err(shown)?;
    }
    Err(format!("{program}: {}", Command::new(program).args(arguments).exec()))
}

/// Every process and its parent.
fn parents() -> Vec<(Pid, Pid)> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pair = |name: &str| {
        let pid = Pid::from_raw(name.parse().ok()?)?;
        let stat = std::fs::read_to_string(format!("/proc/{name}/stat")).ok()?;
        // The name in parentheses may hold anything; state and parent follow it.
        let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
        Some((pid, Pid::from_raw(parent)?))
    };
    entries.filter_map(Result::ok).filter_map(|entry| pair(entry.file_name().to_str()?)).collect()
}

fn resident_bytes(pid: Pid) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1_024)
}

/// The scheduler's own count, exact for threads that do not run.
fn cpu_ns(pid: Pid) -> Option<u64> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).ok()?;
    let of = |path: PathBuf| {
        let text = std::fs::read_to_string(path.join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    Some(tasks.filter_map(Result::ok).filter_map(|task| of(task.path())).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_time_and_a_parent() {
        let own = rustix::process::getpid();
        assert!(resident_bytes(own).unwrap() > 100_000);
        let before = cpu_ns(own).unwrap();
        let from = Instant::now();
        while from.elapsed() < Duration::from_millis(30) {
            std::hint::spin_loop();
        }
        std::thread::sleep(Duration::from_millis(1));
        assert!(cpu_ns(own).unwrap() - before > 1_000_000);
        assert!(parents().iter().any(|(pid, _)| *pid == own));
    }
}
