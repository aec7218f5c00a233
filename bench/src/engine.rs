//! The engine under measurement: this program again, as `tocsin serve`, in a process of its own.
//!
//! Contract: [`Engine::prepare`] writes a configuration in a temporary directory, [`Engine::start`]
//! waits until the engine says that it is ready, dropping ends the process, waits for it and removes
//! directory and shared memory. [`hidden`] must be the first thing `main` does. Owner: the thread that
//! holds the value. Blocks and allocates. Fails with a sentence; nothing is left behind then.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tocsin::cli::client::AdminClient;
use tocsin::os::cores;

use crate::{heap, suites};

/// What suites return inside; the runner gets its text.
pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// All of the engine's sources.
const SOURCES: [&str; 3] = ["binance", "upbit", "bithumb"];

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Names the program that plays the hidden parts; this one unless said. For tests, whose own program
/// does not. Only the first call counts.
pub fn set_program(path: &Path) {
    let _ = PROGRAM.set(path.to_owned());
}

/// A command that runs this program in a hidden part, its output piped.
///
/// # Errors
/// This program's path is not known.
pub fn part(name: &str) -> Outcome<Command> {
    let program = match PROGRAM.get() {
        Some(path) => path.clone(),
        None => std::env::current_exe()?,
    };
    let mut command = Command::new(program);
    command.arg(name).stdin(Stdio::null()).stdout(Stdio::piped());
    Ok(command)
}

/// Starts `command` so that all its threads run on `core` alone, where one is named: a child inherits
/// the cores of the thread that starts it.
///
/// # Errors
/// The core is not this process's, or the program does not start.
pub fn spawn_on(core: Option<usize>, mut command: Command) -> Outcome<Child> {
    let Some(core) = core else { return Ok(command.spawn()?) };
    let starter = std::thread::spawn(move || {
        cores::pin(core)?;
        command.spawn()
    });
    Ok(starter.join().map_err(|_| "the starting thread panicked")??)
}

/// Plays a hidden part when the first argument names one: the engine, or the far side of a suite.
#[must_use]
pub fn hidden() -> Option<ExitCode> {
    match std::env::args().nth(1)?.as_str() {
        "serve" => Some(serve()),
        suites::control::FLOOD => Some(suites::control::play_flood()),
        suites::storm::CLIENTS => Some(suites::storm::play_clients()),
        suites::webhook::HANG => Some(suites::webhook::play_hang()),
        suites::detect::POLLER => Some(suites::detect::play_poller()),
        _ => None,
    }
}

/// The engine, as its own program is.
pub(crate) fn serve() -> ExitCode {
    heap::watch();
    tocsin::cli::main()
}

/// How an engine is to be started.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Serve wss.
    pub tls: bool,
    /// How idle threads wait: spin, adaptive or block.
    pub idle: &'static str,
    /// Sessions it takes at most.
    pub max_connections: usize,
    /// Its one core; none leaves it to the kernel.
    pub core: Option<usize>,
    /// `(name, lines)` of the sources that are on; the others are off.
    pub sources: Vec<(&'static str, String)>,
    /// Open the admin API over TCP too.
    pub admin: bool,
    /// Count what it has in use of its heap, for [`Engine::heap`].
    pub count_heap: bool,
    /// Further whole sections.
    pub sections: String,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            tls: false,
            idle: "adaptive",
            max_connections: 16_384,
            core: None,
            sources: Vec::new(),
            admin: false,
            count_heap: false,
            sections: String::new(),
        }
    }
}

impl Setup {
    fn render(&self, data: &Path) -> String {
        let mut text = format!(
            "data_dir = {data:?}\n[feed]\nlisten = \"127.0.0.1:0\"\ntls = {}\nmax_connections = {}\n\
             drain = \"100ms\"\n[feed.limits]\nexempt = [\"127.0.0.0/8\"]\n[admin]\nlisten = {:?}\n\
             [topology]\nidle = {:?}\n[log]\nlevel = \"error\"\n",
            self.tls,
            self.max_connections,
            if self.admin { "127.0.0.1:0" } else { "" },
            self.idle
        );
        for name in SOURCES {
            let lines = self.sources.iter().find(|s| s.0 == name).map_or("enabled = false", |s| &s.1);
            text += &format!("[sources.{name}]\n{lines}\n");
        }
        text + &self.sections
    }
}

/// An engine, or its data directory before it has started.
#[derive(Debug)]
pub struct Engine {
    dir: TempDir,
    core: Option<usize>,
    count_heap: bool,
    child: Option<Child>,
    feed: SocketAddr,
    admin: Option<SocketAddr>,
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Whatever fails here, the process ends with this one's pipes.
            let _ = child.kill();
            let _ = child.wait();
        }
        // What was killed leaves its journals in shared memory for a next life, which there is not.
        if let Ok(place) = tocsin::store::shm::Place::new(&self.data()) {
            place.clear();
            place.clear_outcomes();
        }
    }
}

impl Engine {
    /// Writes the configuration and starts nothing. `file` puts further files beside it: name and text.
    ///
    /// # Errors
    /// The directory or a file cannot be written.
    pub fn prepare(setup: &Setup) -> Outcome<Engine> {
        let dir = tempfile::tempdir()?;
        std::fs::write(dir.path().join("tocsin.toml"), setup.render(&dir.path().join("data")))?;
        let feed = SocketAddr::from(([127, 0, 0, 1], 0));
        Ok(Engine { dir, core: setup.core, count_heap: setup.count_heap, child: None, feed, admin: None })
    }

    /// Prepares and starts.
    ///
    /// # Errors
    /// As the two.
    pub fn running(setup: &Setup) -> Outcome<Engine> {
        let mut engine = Engine::prepare(setup)?;
        engine.start()?;
        Ok(engine)
    }

    /// Starts the process; how long until it was ready.
    ///
    /// # Errors
    /// It did not start, or said something else than that it is ready.
    pub fn start(&mut self) -> Outcome<Duration> {
        let from = Instant::now();
        let mut command = part("serve")?;
        command.args(["--json", "--config"]).arg(self.dir.path().join("tocsin.toml"));
        if self.count_heap {
            command.env(heap::FILE, self.heap_file());
        }
        let mut child = spawn_on(self.core, command)?;
        let stdout = child.stdout.take();
        self.child = Some(child);
        let mut line = String::new();
        BufReader::new(stdout.ok_or("no pipe")?).read_line(&mut line)?;
        let ready: Value =
            serde_json::from_str(&line).map_err(|e| format!("the engine did not start: {e}"))?;
        let address = ready.get("feed").and_then(Value::as_str).ok_or("no address of the feed")?;
        self.feed = address.parse()?;
        self.admin = ready.get("admin").and_then(Value::as_str).map(str::parse).transpose()?;
        Ok(from.elapsed())
    }

    /// Where the feed is.
    #[must_use]
    pub const fn feed(&self) -> SocketAddr {
        self.feed
    }

    /// Where the admin API is over TCP, if it is.
    #[must_use]
    pub const fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Its data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Its process; 0 before the start.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// One request to the admin API.
    ///
    /// # Errors
    /// Nobody listens, or the engine refused.
    pub fn admin(&self, method: &str, target: &str, body: Option<&Value>) -> Outcome<Value> {
        admin(&self.data().join("admin.sock"), method, target, body)
    }

    /// A field of the status.
    ///
    /// # Errors
    /// As [`Engine::admin`], or there is no such number.
    pub fn count(&self, pointer: &str) -> Outcome<u64> {
        let status = self.admin("GET", "/admin/v1/status", None)?;
        Ok(status
            .pointer(pointer)
            .and_then(Value::as_u64)
            .ok_or_else(|| format!("no {pointer} in {status}"))?)
    }

    /// Makes a key for so many connections.
    ///
    /// # Errors
    /// As [`Engine::admin`].
    pub fn key(&self, connections: usize) -> Outcome<String> {
        let new = json!({"tier": "premium", "max_connections": connections.max(1), "allowed_cex": "*"});
        let made = self.admin("POST", "/admin/v1/keys", Some(&new))?;
        Ok(made.get("key").and_then(Value::as_str).ok_or("no key")?.to_owned())
    }

    /// `VmRSS` and its like, in bytes.
    ///
    /// # Errors
    /// There is no such process or field.
    pub fn memory(&self, field: &str) -> Outcome<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = text.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':'));
        let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
        Ok(kib.ok_or_else(|| format!("no {field}"))? * 1_024)
    }

    fn heap_file(&self) -> PathBuf {
        self.dir.path().join("heap")
    }

    /// Bytes it has in use of its heap, a second ago at most.
    ///
    /// # Errors
    /// [`Setup::count_heap`] is not set, or its C library does not count.
    pub fn heap(&self) -> Outcome<u64> {
        heap::in_use(&self.heap_file())
    }
}

/// One request to the admin API behind `socket`, for threads of their own.
///
/// # Errors
/// Nobody listens, or the engine refused.
pub fn admin(socket: &Path, method: &str, target: &str, body: Option<&Value>) -> Outcome<Value> {
    let client = AdminClient::connect(socket).map_err(|e| e.to_string())?;
    let client = client.ok_or_else(|| format!("nobody listens on {}", socket.display()))?;
    Ok(client.request(method, target, body).map_err(|e| e.to_string())?)
}

/// Processor time the threads of a process that still run have used.
///
/// # Errors
/// There is no such process, or the kernel does not count.
pub fn cpu_time(pid: u32) -> Outcome<Duration> {
    let mut nanoseconds = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end between the two readings.
        let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else { continue };
        nanoseconds += text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// Moves the threads of a process whose names `wanted` accepts to `core`; how many.
///
/// # Errors
/// There is no such process, or the core is not this process's.
pub fn move_threads(pid: u32, core: usize, wanted: impl Fn(&str) -> bool) -> Outcome<usize> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    let mut moved = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = task?.path();
        let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
        let id = path.file_name().and_then(|id| id.to_str()?.parse::<i32>().ok());
        if let Some(thread) = id.and_then(rustix::process::Pid::from_raw)
            && wanted(name.trim_end())
        {
            rustix::thread::sched_setaffinity(Some(thread), &set)?;
            moved += 1;
        }
    }
    Ok(moved)
}

/// Gives the calling thread priority over all it shares a core with, until it is dropped. For one that
/// stops the clock beside a load: what it waited would be counted as the engine's. A niceness alone lets it
/// wait for the end of another's slice, some milliseconds, so it is put into a real-time class besides, by
/// `chrt`, where there is that program and it may. Start it after the load, for children have the priority
/// of the thread that starts them.
#[derive(Debug)]
pub struct ReadsFirst {
    usual: i32,
    real_time: bool,
}

impl ReadsFirst {
    /// Raises the priority.
    ///
    /// # Errors
    /// This process may not do that.
    pub fn begin() -> Outcome<ReadsFirst> {
        let usual = rustix::process::getpriority_process(None)?;
        rustix::process::setpriority_process(None, READER_NICE)?;
        Ok(ReadsFirst { usual, real_time: schedule(&["--fifo", "--pid", "1"]) })
    }

    /// Whether it waits for nobody's slice.
    #[must_use]
    pub const fn is_real_time(&self) -> bool {
        self.real_time
    }
}

impl Drop for ReadsFirst {
    fn drop(&mut self) {
        // Giving way is allowed to everyone.
        let _ = !self.real_time || schedule(&["--other", "--pid", "0"]);
        let _ = rustix::process::setpriority_process(None, self.usual);
    }
}

/// Gives the calling thread another class; whether that was done.
fn schedule(class: &[&str]) -> bool {
    let mut command = Command::new("chrt");
    command.args(class).arg(rustix::thread::gettid().as_raw_nonzero().to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Of a thread that [`ReadsFirst`].
const READER_NICE: i32 = -15;
/// What a result says where that is not allowed.
const READS_LATER: &str = "not allowed to read first: what the reader waited for the load is counted";

/// Begins to read first; what cannot be had stands in `notes`.
pub fn read_first(notes: &mut Vec<String>) -> Option<ReadsFirst> {
    let first = ReadsFirst::begin().ok();
    if !first.as_ref().is_some_and(ReadsFirst::is_real_time) {
        notes.push(READS_LATER.to_owned());
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_first_does_so_until_it_is_dropped() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let class = || std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        // The policy is the 41st field, the 39th behind the name: 1 = FIFO.
        let policy =
            |stat: &str| stat.rsplit(')').next().unwrap().split_whitespace().nth(38).unwrap().to_owned();
        let before = (nice(), policy(&class()));
        match ReadsFirst::begin() {
            Ok(first) => {
                assert_eq!(nice(), READER_NICE);
                assert_eq!(policy(&class()) == "1", first.is_real_time());
            }
            Err(e) => println!("not allowed here: {e}"),
        }
        assert_eq!((nice(), policy(&class())), before);
    }

    #[test]
    fn one_source_is_on_and_the_others_off() {
        let sources = vec![("upbit", "connections = 1".to_owned())];
        let text = Setup { sources, ..Setup::default() }.render(Path::new("/d"));
        assert!(text.contains("[sources.upbit]\nconnections = 1\n"));
        assert_eq!(text.matches("enabled = false").count(), 2);
    }

    #[test]
    fn processor_time_of_this_process_is_there() {
        assert!(cpu_time(std::process::id()).unwrap() < Duration::from_secs(3_600));
        assert!(cpu_time(u32::MAX).is_err());
    }
}
