//! The disk under the data directory: full, read-only.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tocsin_sim::receiver::ReceiverOptions;

use crate::harness::exchange::{assert_nothing_twice, history};
use crate::harness::namespace::{Own, enter, sh};
use crate::harness::shop::{Account, Shop};
use crate::harness::{Client, Engine, Mode, wait_for};

/// A small file system that is this test's alone, and everything of an engine's in it: its log, too.
struct Disk {
    root: TempDir,
}

impl Disk {
    fn mount() -> Disk {
        let root = tempfile::tempdir().unwrap();
        sh(&format!("mount -t tmpfs -o size=24m tocsin-test {}", root.path().display()));
        Disk { root }
    }

    fn folder(&self) -> TempDir {
        tempfile::tempdir_in(self.root.path()).unwrap()
    }

    /// Takes the last byte; the file that holds it all.
    fn fill(&self) -> PathBuf {
        let path = self.root.path().join("filler");
        let mut file = File::create(&path).unwrap();
        for size in [1 << 20, 4_096, 1] {
            let piece = vec![0x5A; size];
            while file.write_all(&piece).is_ok() {}
        }
        path
    }
}

/// What goes on while the disk takes nothing, and what is there once it does again.
struct Trouble {
    shop: Shop,
    account: Account,
    subscriber: Client,
    told: u64,
}

impl Trouble {
    fn prepare(dir: TempDir) -> Trouble {
        let shop = Shop::open_in(dir, ReceiverOptions::default(), "");
        let account = shop.account();
        let endpoint = shop.add(&account, "/hook");
        assert_eq!(shop.state(&account, &endpoint), "active");
        let subscriber = shop.engine.connect(&shop.engine.key(), "fields=full");
        let mut trouble = Trouble { shop, account, subscriber, told: 0 };
        trouble.announce();
        trouble
    }

    /// An announcement reaches the subscriber and the endpoint, whatever the disk does.
    fn announce(&mut self) {
        self.told += 1;
        let number = self.told;
        self.shop.engine.inject("binance", &format!("Binance Will List Sample {number} (SMP{number})"));
        assert_eq!(self.subscriber.json_of("announcement")["seq"], number);
        self.shop.deliveries("/hook", usize::try_from(number).unwrap());
    }

    fn journal(&self, name: &str) -> u64 {
        self.shop.engine.cli_json(&["status"])["journal"][name].as_u64().unwrap()
    }

    /// The disk refuses: the feed and the webhooks go on, and what waits is counted where it is looked for.
    fn goes_on(&mut self, said: &str) {
        let before = self.journal("failures");
        for _ in 0..5 {
            self.announce();
        }
        wait_for("refused commits", || self.journal("failures") > before);
        assert!(self.journal("backlog_rows") >= 5);
        let metrics = self.shop.raw(Some(&self.shop.admin_token()), "GET", "/metrics", "").2;
        let metric = |name: &str| -> f64 {
            let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("no {name}: {metrics}")).parse().unwrap()
        };
        assert!(metric("tocsin_journal_commit_failures_total") > 0.0);
        assert!(metric("tocsin_journal_backlog_rows") >= 5.0);
        let errors = self.shop.engine.cli_json(&["status"])["errors"].to_string();
        assert!(errors.contains("the store refuses a commit") && errors.contains(said), "{errors}");
        assert_eq!(self.shop.raw(None, "GET", "/livez", "").0, 200, "no thread stands");

        // What must be on disk before it is answered is refused with the reason.
        let output = self.shop.engine.cli(&["keys", "create", "--tier", "premium", "--json"]);
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && words.contains(said), "{words}");
    }

    /// The disk takes writes again: all of it is there, once, over a restart too.
    fn recovers(mut self) {
        wait_for("the backlog to go", || self.journal("backlog_rows") == 0);
        self.announce();
        let told = usize::try_from(self.told).unwrap();
        assert_nothing_twice(&history(&self.shop.engine, told));
        wait_for("every event on disk", || self.shop.all_events(&self.account).len() == told);
        for lost in ["rejected", "ring_dropped", "shared_memory_full"] {
            assert_eq!(self.journal(lost), 0, "{lost}");
        }
        assert_eq!(self.shop.engine.stop(), Some(0), "{}", self.shop.engine.log());
        self.shop.engine.start_again();
        history(&self.shop.engine, told);
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(self.shop.deliveries("/hook", told).len(), told, "nothing is sent again");
        assert!(!self.shop.engine.log().contains("panicked"), "{}", self.shop.engine.log());
    }
}

/// Feed and webhooks go on with a disk that is full to the last byte, the one with the log on it as well.
#[test]
fn while_the_disk_is_full_feed_and_webhooks_go_on_and_all_is_committed_after() {
    if !enter(
        "disk::while_the_disk_is_full_feed_and_webhooks_go_on_and_all_is_committed_after",
        Own::Mounts,
        "",
    ) {
        return;
    }
    let disk = Disk::mount();
    let mut trouble = Trouble::prepare(disk.folder());
    let filler = disk.fill();
    trouble.goes_on("no space left");
    std::fs::remove_file(filler).unwrap();
    trouble.recovers();
}

/// A process of strace that makes every write to a file of another one fail, as a file system does that the
/// kernel has made read-only under it.
struct ReadOnly(Child);

impl ReadOnly {
    fn under(engine: &Engine) -> ReadOnly {
        let strace = Command::new("strace")
            .args(["-qq", "-f", "-e", "trace=pwrite64,ftruncate,fsync,fdatasync"])
            .args(["-e", "inject=pwrite64,ftruncate,fsync,fdatasync:error=EROFS", "-o", "/dev/null"])
            .args(["-p", &engine.pid().to_string()])
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("strace cannot be started ({e}): apt-get install strace"));
        let traced = || {
            let tasks = std::fs::read_dir(format!("/proc/{}/task", engine.pid())).unwrap();
            let mut all =
                tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("status")).unwrap());
            all.all(|status| !status.contains("TracerPid:\t0"))
        };
        wait_for("strace on every thread", traced);
        ReadOnly(strace)
    }

    fn end(mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        self.0.wait().unwrap();
    }
}

/// As a full disk: it went bad, and was remounted.
#[test]
fn a_disk_that_turns_read_only_is_as_a_full_one() {
    let mut trouble = Trouble::prepare(tempfile::tempdir().unwrap());
    let read_only = ReadOnly::under(&trouble.shop.engine);
    trouble.goes_on("disk I/O error");
    read_only.end();
    trouble.recovers();
}

/// A start on a read-only disk is refused with what is read-only, and leaves nothing behind.
#[test]
fn a_read_only_disk_is_refused_at_the_start() {
    if !enter("disk::a_read_only_disk_is_refused_at_the_start", Own::Mounts, "") {
        return;
    }
    let disk = Disk::mount();
    let remount = |how: &str| sh(&format!("mount -o remount,{how} {}", disk.root.path().display()));
    let mut engine = Engine::start_in(disk.folder(), Mode::Plain, "");
    let key = engine.key();
    assert_eq!(engine.stop(), Some(0));

    remount("ro");
    let (code, words) = serve(engine.config());
    assert_eq!(code, Some(1), "{words}");
    let named = words.contains(&engine.data_dir().display().to_string());
    assert!(named && words.contains("is read-only; remount its file system"), "{words}");
    remount("rw");
    engine.start_again();
    engine.connect(&key, "");
}

/// Runs the service until it gives up.
fn serve(config: &Path) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tocsin"));
    let output = command.args(["serve", "--config"]).arg(config).stdin(Stdio::null()).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}
