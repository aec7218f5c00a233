//! The Debian package in a Debian 12 of its own: installed, serving under the unit's sandbox, upgraded while
//! announcements and webhooks flow, removed, purged.
//!
//! No systemd runs here. What it would do is done by the test: it holds the feed's socket, runs the unit's
//! commands as `sandbox.py` says, and restarts the service after the upgrade. Not covered for that reason: that
//! `systemctl` finds, enables and starts the units (`units.rs` has systemd verify them), and credentials.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tocsin_sim::receiver::{ReceiverOptions, SimReceiver};
use tocsin_sim::{Kind, Options};

use crate::activation::handing_over;
use crate::harness::exchange::{Exchange, assert_nothing_twice, history};
use crate::harness::shop::egress;
use crate::harness::{Client, Engine, Message, Mode, wait_for};

const SANDBOX: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/service/sandbox.py");

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// Runs it; it must succeed. What it printed.
fn done(command: &mut Command) -> String {
    let output: Output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {said}{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stdout).unwrap()
}

/// The package of the binary that is built.
fn package(version: &str, into: &Path) -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_tocsin")).parent().unwrap().file_name().unwrap();
    let profile = if folder == "debug" { "dev" } else { folder.to_str().unwrap() };
    let output = into.join(version);
    fs::create_dir(&output).unwrap();
    let mut command = Command::new(repository().join("scripts/package"));
    command.args(["--no-build", "--profile", profile, "--deb-version", version, "--output"]).arg(&output);
    done(&mut command);
    fs::read_dir(&output).unwrap().next().unwrap().unwrap().path()
}

/// A Debian 12 in which the package is.
struct Installed {
    root: PathBuf,
    /// The command line beside it; its data directory is that of the service.
    engine: Engine,
    feed: TcpListener,
    admin: TcpListener,
    child: Option<Child>,
}

impl Installed {
    fn new() -> Installed {
        done(Command::new(repository().join("scripts/setup-package")).arg("--root"));
        let cache =
            std::env::var_os("TOCSIN_CACHE").map_or_else(|| repository().join(".cache"), PathBuf::from);
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        done(Command::new("tar").arg("-C").arg(&root).arg("-xf").arg(cache.join("debian-12.tar")));
        fs::set_permissions(root.join("dev/shm"), fs::Permissions::from_mode(0o1777)).unwrap();
        std::os::unix::fs::symlink(root.join("var/lib/tocsin"), dir.path().join("data")).unwrap();
        let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
        let mut installed = Installed {
            root,
            engine: Engine::prepare(dir, Mode::Plain, ""),
            feed: listen(),
            admin: listen(),
            child: None,
        };
        installed.engine.feed = installed.feed.local_addr().unwrap();
        installed.engine.admin = installed.admin.local_addr().unwrap();
        installed
    }

    /// Runs a command in it.
    fn inside(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("chroot");
        command.arg(&self.root).args(arguments);
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("DEBIAN_FRONTEND", "noninteractive");
        done(&mut command)
    }

    fn dpkg(&self, action: &str, package: &Path) -> String {
        fs::copy(package, self.root.join("tmp/tocsin.deb")).unwrap();
        self.inside(&["dpkg", action, "/tmp/tocsin.deb"])
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Runs the unit's commands and waits until they serve.
    fn start(&mut self) {
        let unit = self.path("usr/lib/systemd/system/tocsin.service");
        let before = handing_over(&[(&self.feed, "feed"), (&self.admin, "admin")]);
        let log = self.engine.config().with_file_name("log");
        let log = fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let mut command = Command::new("bash");
        command.args(["-c", &format!("set -eu; {before} exec \"$@\""), "bash", "python3", SANDBOX]);
        command.arg(unit).arg("--root").arg(&self.root);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let from = Instant::now();
        loop {
            match lines.next() {
                Some(Ok(line)) if line.starts_with("tocsin: feed on ") => break,
                Some(Ok(_)) if from.elapsed() < Duration::from_secs(20) => {}
                other => panic!("it does not serve: {other:?}\n{}", self.engine.log()),
            }
        }
        self.child = Some(child);
    }

    /// SIGTERM; it must end properly.
    fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        done(Command::new("kill").arg(child.id().to_string()));
        assert_eq!(child.wait().unwrap().code(), Some(0), "{}", self.engine.log());
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What is in the package, and that it says what it needs.
fn inspect(package: &Path) {
    let listing = done(Command::new("dpkg-deb").arg("-c").arg(package));
    for path in [
        "./usr/bin/tocsin",
        "./etc/tocsin/tocsin.toml",
        "./usr/lib/systemd/system/tocsin.service",
        "./usr/lib/systemd/system/tocsin.socket",
        "./usr/lib/systemd/system/tocsin-admin.socket",
        "./usr/share/man/man1/tocsin.1.gz",
        "./usr/share/man/man1/tocsin-keys-create.1.gz",
        "./usr/share/bash-completion/completions/tocsin",
        "./usr/share/zsh/vendor-completions/_tocsin",
        "./usr/share/fish/vendor_completions.d/tocsin.fish",
        "./usr/share/doc/tocsin/copyright",
        "./usr/share/doc/tocsin/operating.md",
        "./usr/share/doc/tocsin/LICENSE-APACHE",
        "./usr/share/doc/tocsin/third-party-licences.txt",
    ] {
        assert!(listing.lines().any(|line| line.ends_with(path)), "{path} is not in\n{listing}");
    }
    let control = done(Command::new("dpkg-deb").arg("-f").arg(package));
    let depends = control.lines().find(|line| line.starts_with("Depends: ")).unwrap();
    assert!(depends.contains("libc6 (>= ") && depends.contains("adduser"), "{control}");
}

/// What the installation has made, for whom.
fn check_installed(installed: &Installed) {
    let passwd = fs::read_to_string(installed.path("etc/passwd")).unwrap();
    let user = passwd.lines().find(|line| line.starts_with("tocsin:")).expect("no user");
    let numbers: Vec<u32> = user.split(':').skip(2).take(2).map(|n| n.parse().unwrap()).collect();
    assert!(numbers[0] < 1_000 && user.ends_with("/nologin"), "a system user: {user}");
    for (path, mode, uid) in [
        ("etc/tocsin", 0o750, 0),
        ("etc/tocsin/tocsin.toml", 0o640, 0),
        ("var/lib/tocsin", 0o700, numbers[0]),
    ] {
        let metadata = fs::metadata(installed.path(path)).unwrap();
        let found = (metadata.permissions().mode() & 0o7777, metadata.uid(), metadata.gid());
        assert_eq!(found, (mode, uid, numbers[1]), "{path}");
    }
    assert!(installed.inside(&["dpkg-query", "-W", "-f", "${Conffiles}", "tocsin"]).contains("tocsin.toml"));
    // As it comes it is valid, and sets nothing.
    let shown = installed.inside(&["tocsin", "config", "show", "--config", "/etc/tocsin/tocsin.toml"]);
    assert!(shown.lines().all(|line| line.ends_with("# default")), "{shown}");
}

/// Announcements until the subscriber is closed, or `all` have been heard, up to the last (titles may repeat);
/// where it stood then.
fn listen(client: &mut Client, heard: &mut Vec<String>, all: Option<&[String]>) -> String {
    let mut stood = String::new();
    loop {
        let message = match client.message() {
            Message::Text(message) | Message::Binary(message) => message,
            Message::Close(..) | Message::End => return stood,
            Message::Ping(_) | Message::Pong(_) => continue,
        };
        if message["type"] == "announcement" {
            let title = message["title"].as_str().unwrap().to_owned();
            stood = format!("{}:{}", message["epoch"], message["seq"]);
            heard.push(title);
            if all.is_some_and(|all| heard.len() >= all.len() && heard.last() == all.last()) {
                return stood;
            }
        }
    }
}

/// The administrator's own configuration: an exchange and a receiver of the test.
fn configure(installed: &Installed, upbit: &Exchange) -> (String, SimReceiver) {
    let ca_file = installed.path("etc/tocsin/ca.pem");
    let options = ReceiverOptions { ca_file: Some(ca_file.clone()), ..ReceiverOptions::default() };
    let receiver = SimReceiver::start(options).unwrap();
    fs::set_permissions(&ca_file, fs::Permissions::from_mode(0o644)).unwrap();
    let others = "[sources.binance]\nenabled = false\n[sources.bithumb]\nenabled = false\n";
    let own = format!(
        "[feed]\ntls = false\ndrain = \"200ms\"\n[feed.limits]\nexempt = [\"127.0.0.0/8\"]\n{}{others}{}",
        egress(Path::new("/etc/tocsin/ca.pem")),
        upbit.section()
    );
    fs::write(installed.path("etc/tocsin/tocsin.toml"), &own).unwrap();
    (own, receiver)
}

/// Announcements until told to stop, five a second; their titles.
fn publish(upbit: Arc<Exchange>, stop: Arc<AtomicBool>) -> JoinHandle<Vec<String>> {
    std::thread::spawn(move || {
        let mut titles = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            titles.push(upbit.sim.publish_any().0.title);
            std::thread::sleep(Duration::from_millis(200));
        }
        titles
    })
}

/// Removal keeps data and configuration, purging takes them.
fn remove(installed: &Installed) {
    installed.inside(&["dpkg", "-r", "tocsin"]);
    assert!(!installed.path("usr/bin/tocsin").exists());
    assert!(installed.path("var/lib/tocsin/tocsin.db").exists(), "removal keeps the data");
    assert!(installed.path("etc/tocsin/tocsin.toml").exists(), "and the configuration");
    installed.inside(&["dpkg", "-P", "tocsin"]);
    assert!(!installed.path("var/lib/tocsin").exists() && !installed.path("etc/tocsin").exists());
    assert!(!installed.inside(&["dpkg", "--audit"]).contains("tocsin"));
}

#[test]
fn installed_on_a_clean_debian_upgraded_under_load_and_removed() {
    let packages = tempfile::tempdir().unwrap();
    let (first, second) = (package("0.1.0", packages.path()), package("0.2.0", packages.path()));
    inspect(&first);
    let mut installed = Installed::new();
    installed.dpkg("-i", &first);
    check_installed(&installed);

    let upbit = Exchange::start(Kind::Upbit, Options { plain: true, ..Options::default() });
    let (own, receiver) = configure(&installed, &upbit);
    installed.start();
    let key = installed.engine.key();
    upbit.baselined(&installed.engine);
    let account = installed.engine.cli_json(&["accounts", "create", "--name", "a", "--plan", "phantom"]);
    let id = account["id"].to_string();
    let added =
        installed.engine.cli_json(&["webhooks", "add", "--account", &id, "--url", &receiver.url("/hook")]);
    receiver.know(&[added["secret"].as_str().unwrap()]).unwrap();

    // Announcements all the while, five a second.
    let mut client = installed.engine.connect(&key, "fields=full");
    let (stop, upbit) = (Arc::new(AtomicBool::new(false)), Arc::new(upbit));
    let publishing = publish(Arc::clone(&upbit), Arc::clone(&stop));
    let delivered = || receiver.records_on("/hook").len() as u64;
    let (received, sent) = (upbit.sim.request_count(), delivered());
    assert!(upbit.sim.wait_for_requests(received + 20, Duration::from_secs(20)));
    assert!(receiver.wait_for_on("/hook", sent + 3, Duration::from_secs(20)), "{}", installed.engine.log());

    // The upgrade, with the restart that systemd would do at its end.
    installed.dpkg("-i", &second);
    assert!(installed.inside(&["dpkg-query", "-W", "tocsin"]).contains("0.2.0"));
    assert_eq!(fs::read_to_string(installed.path("etc/tocsin/tocsin.toml")).unwrap(), own, "kept");
    installed.stop();
    let mut heard = Vec::new();
    let stood = listen(&mut client, &mut heard, None);
    assert!(!heard.is_empty(), "nothing was heard before the upgrade");
    let served = installed.feed.local_addr().unwrap();
    let waiting = std::net::TcpStream::connect(served).expect("refused during the restart");
    installed.start();
    drop(waiting);
    let mut client = installed.engine.connect(&key, &format!("fields=full&resume={stood}"));
    let sent = delivered();
    assert!(receiver.wait_for_on("/hook", sent + 3, Duration::from_secs(20)), "{}", installed.engine.log());
    stop.store(true, Ordering::Relaxed);
    let published = publishing.join().unwrap();

    // None is lost, none is doubled: not to the subscriber, not in history, not to the endpoint.
    listen(&mut client, &mut heard, Some(&published));
    assert_eq!(heard, published, "as it was published, over the restart");
    let kept = history(&installed.engine, published.len());
    assert_nothing_twice(&kept);
    let token = account["token"].as_str().unwrap();
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let listed = || {
        let (_, events) = installed.engine.admin_as("GET", "/v1/events?limit=500", &bearer, None);
        let events = events["events"].as_array().unwrap_or_else(|| panic!("{events}")).clone();
        events.iter().map(|event| event["event_id"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    let arrived = || {
        let records = receiver.records_on("/hook").into_iter();
        let events = records.filter(|record| record.event_type().as_deref() != Some("ping"));
        events.filter_map(|record| record.event_id()).collect::<BTreeSet<_>>()
    };
    wait_for("every delivery", || {
        let events = listed();
        !events.is_empty() && events.is_subset(&arrived())
    });
    installed.stop();

    remove(&installed);
}

/// No engine builds the image here; what its recipe names exists.
#[test]
fn the_container_s_recipe_names_what_there_is() {
    let recipe = fs::read_to_string(repository().join("scripts/container/Containerfile")).unwrap();
    let toolchain = fs::read_to_string(repository().join("rust-toolchain.toml")).unwrap();
    let version = toolchain.split('"').nth(1).unwrap().trim_end_matches(".0").to_owned();
    assert!(recipe.contains(&format!("rust:{version}-bookworm")), "the pinned toolchain, {version}");
    let copied = recipe.lines().filter_map(|line| line.strip_prefix("COPY LICENSE"));
    for file in
        copied.flat_map(|line| format!("LICENSE{line}").split(' ').map(str::to_owned).collect::<Vec<_>>())
    {
        assert!(file.starts_with('/') || repository().join(&file).exists(), "{file}");
    }
    for verb in ["serve", "status"] {
        assert!(recipe.contains(&format!("\"{verb}\"]")), "{verb}");
        done(Command::new(env!("CARGO_BIN_EXE_tocsin")).args([verb, "--help"]));
    }
}
