//! What the tests of the mail thread share: a real store with a journal thread, a mail thread over it,
//! and a real mail server.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Sender, bounded};
use serde_json::Value;
use tempfile::TempDir;
use tocsin::config::{Idle, Smtp};
use tocsin::os::clock;
use tocsin::rings::WebhookToJournal;
use tocsin::store::shm::OutcomeWriter;
use tocsin::store::webhook::accounts::{AccountId, NewAccount};
use tocsin::store::webhook::endpoints::NewEndpoint;
use tocsin::store::webhook::mail::DueMail;
use tocsin::store::webhook::secrets::Sealed;
use tocsin::store::{Store, StoreError};
use tocsin::threads::journal::{Journal, JournalRequest, WebhookInlet};
use tocsin::threads::mail::{
    JournalOutbox, MailCounters, MailSender, Mailer, NextSettings, Outbox, Pace, Retry, Timeouts,
};
use tocsin::threads::{Pulse, run_loop};
use tocsin_core::time::WallUs;
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::endpoint::Mail;
use tocsin_core::webhook::filter::EventFilter;

const PATIENCE: Duration = Duration::from_secs(60);

/// Everything the process logs, at every level.
pub fn logs() -> String {
    String::from_utf8_lossy(&LOGS.get_or_init(Arc::default).lock().unwrap()).into_owned()
}

static LOGS: OnceLock<Arc<Mutex<Vec<u8>>>> = OnceLock::new();

struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn keep_logs() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        let logs = Arc::clone(LOGS.get_or_init(Arc::default));
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(move || Log(Arc::clone(&logs)));
        let _ = subscriber.try_init();
    });
}

/// Waits until `done`, or panics.
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done() {
        if Instant::now() > until {
            // One log for all tests: its end will do.
            let logs = logs();
            let end = logs.ceil_char_boundary(logs.len().saturating_sub(4_000));
            panic!("waited in vain for {what}; logged at last:\n{}", &logs[end..]);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A mail as the server took it.
#[derive(Clone, Debug)]
pub struct Taken {
    pub to: String,
    pub connection: u64,
    pub encrypted: bool,
    pub authenticated: bool,
    pub content: String,
}

impl Taken {
    /// A header's value, unfolded.
    pub fn header(&self, name: &str) -> String {
        let (head, _) = self.content.split_once("\r\n\r\n").unwrap();
        let head = head.replace("\r\n ", " ");
        let prefix = format!("{name}: ");
        let mut values = head.lines().filter_map(|line| line.strip_prefix(prefix.as_str()));
        let value = values.next().unwrap_or_else(|| panic!("no {name} in {head}")).to_owned();
        assert_eq!(values.next(), None, "{name} twice in {head}");
        value
    }

    /// The words of the body.
    pub fn body(&self) -> String {
        let (_, body) = self.content.split_once("\r\n\r\n").unwrap();
        body.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// A running mail server; ends with the value.
pub struct MailServer {
    child: Child,
    pub port: u16,
    capture: PathBuf,
}

impl MailServer {
    /// Captures into `folder`, as it is told by `arguments`.
    pub fn start(folder: &Path, arguments: &[&str]) -> MailServer {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
        let cache = std::env::var_os("TOCSIN_CACHE").map_or_else(|| repository.join(".cache"), PathBuf::from);
        let python = cache.join("clients/python/bin/python");
        assert!(python.exists(), "{} is missing: run scripts/setup-test-clients", python.display());
        let capture = folder.join("taken.jsonl");
        let mut child = Command::new(python)
            .arg("-B")
            .arg(repository.join("engine/tocsin/tests/clients/smtp_server.py"))
            .arg("--capture")
            .arg(&capture)
            .args(arguments)
            // Its end is the server's.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().unwrap_or_else(|_| panic!("the mail server said {line:?}"));
        MailServer { child, port, capture }
    }

    pub fn taken(&self) -> Vec<Taken> {
        let text = std::fs::read_to_string(&self.capture).unwrap_or_default();
        let whole = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        whole
            .map(|mail| {
                assert_eq!(mail["from"], "alerts@example.com");
                assert_eq!(mail["to"].as_array().unwrap().len(), 1);
                Taken {
                    to: mail["to"][0].as_str().unwrap().to_owned(),
                    connection: mail["connection"].as_u64().unwrap(),
                    encrypted: mail["encrypted"].as_bool().unwrap(),
                    authenticated: mail["authenticated"].as_bool().unwrap(),
                    content: mail["content"].as_str().unwrap().to_owned(),
                }
            })
            .collect()
    }

    /// Waits until it has taken so many.
    pub fn wait_for(&self, mails: usize) -> Vec<Taken> {
        wait_for(&format!("{mails} mails"), || self.taken().len() >= mails);
        self.taken()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The section of a configuration for a server at `port`.
pub fn smtp(url: &str, port: u16) -> Smtp {
    let server = url.replace("PORT", &port.to_string()).parse().unwrap();
    let from = "Tocsin <alerts@example.com>".parse().unwrap();
    Smtp { server, password_file: None, ca_file: None, from }
}

/// Tries again after moments instead of minutes.
pub fn hasty() -> Pace {
    let retry = Retry { pauses: vec![Duration::from_millis(50)], give_up_after: Duration::from_secs(3_600) };
    Pace { retry, timeouts: Timeouts::default() }
}

/// An installation: its directory, and its store while no thread has it.
pub struct World {
    pub dir: TempDir,
    store: Option<Store>,
}

impl World {
    pub fn new() -> World {
        keep_logs();
        let dir = tempfile::tempdir().unwrap();
        let store = Some(open(dir.path()));
        World { dir, store }
    }

    pub fn store(&mut self) -> &mut Store {
        self.store.as_mut().unwrap()
    }

    /// As a process does that ends and starts again.
    pub fn reopen(&mut self) {
        self.store = None;
        self.store = Some(open(self.dir.path()));
    }

    /// An account and its endpoints, of these labels.
    pub fn account(&mut self, email: &str, labels: &[&str]) -> Vec<EndpointId> {
        let new = NewAccount { name: "Ada".to_owned(), email: email.to_owned(), plan: "phantom".to_owned() };
        let (account, _token) = self.store().create_account(&new, clock::wall()).unwrap();
        labels.iter().map(|label| self.endpoint(account.id, label)).collect()
    }

    fn endpoint(&mut self, account: AccountId, label: &str) -> EndpointId {
        let new = NewEndpoint {
            account,
            label: label.to_owned(),
            url: format!("https://{label}.hooks.example.org/in?token=SECRET"),
            filter: EventFilter::default(),
        };
        let seal = &mut |_| Ok(Sealed(Box::new([1, 2, 3])));
        self.store().create_endpoint(&new, clock::wall(), seal).unwrap().id
    }

    /// Puts a mail into the outbox, to be sent so much later.
    pub fn enqueue(&mut self, endpoint: EndpointId, mail: Mail, wait: Duration) {
        let now = clock::wall();
        let not_before = WallUs(now.0 + i64::try_from(wait.as_micros()).unwrap());
        self.store().enqueue_mail(endpoint, mail, "timeout", now, not_before).unwrap();
    }

    /// What is neither sent nor given up, due or not.
    pub fn waiting(&mut self) -> Vec<DueMail> {
        self.store().reader().unwrap().due_mail(WallUs(i64::MAX), 1_000).unwrap()
    }

    /// Runs the mail thread over the store.
    pub fn run(&mut self, smtp: &Smtp, pace: Pace) -> Running<'_> {
        self.run_over(smtp, pace, |outbox| outbox)
    }

    /// Why no mail thread starts.
    pub fn refused(&mut self, smtp: &Smtp) -> String {
        let outbox = JournalOutbox::new(self.store().reader().unwrap(), bounded(1).0);
        let sender = MailSender { from: smtp.from.clone(), install: "0".to_owned(), self_healing: true };
        match Mailer::new(smtp, sender, outbox, bounded(1).1, hasty()) {
            Ok(_) => panic!("it started"),
            Err(error) => error.to_string(),
        }
    }

    /// The same, its outbox as `over` makes it.
    pub fn run_over<O: Outbox + Send + 'static>(
        &mut self,
        smtp: &Smtp,
        pace: Pace,
        over: impl FnOnce(JournalOutbox) -> O,
    ) -> Running<'_> {
        let store = self.store.take().unwrap();
        let (reader, install) = (store.reader().unwrap(), store.install_id().unwrap());
        let (requests, inbox) = bounded(8);
        let (wake, woken) = bounded(1);
        let (outcomes, shm) = store.place().create_outcomes().unwrap();
        let (webhook, ring) = rtrb::RingBuffer::new(16);
        let notifier = wake.clone();
        let [stop, stop_journal] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop_journal);
        let journal = std::thread::spawn(move || {
            let journal = Journal::new(store, Vec::new(), inbox).with_webhook(WebhookInlet { ring, shm });
            let mut journal = journal.with_mail_notifier(notifier);
            run_loop(&mut journal, Idle::Block, &stopped, &Arc::new(Pulse::default()));
            journal.into_store()
        });
        let sender = MailSender { from: smtp.from.clone(), install, self_healing: true };
        let outbox = over(JournalOutbox::new(reader, requests.clone()));
        let mailer = Mailer::new(smtp, sender, outbox, woken, pace).unwrap();
        let (counters, next) = (mailer.counters(), mailer.next_settings());
        let stopped = Arc::clone(&stop);
        let mail = std::thread::spawn(move || mailer.run(&stopped));
        let threads = Some((mail, journal));
        Running {
            world: self,
            stop,
            stop_journal,
            threads,
            counters,
            next,
            wake,
            webhook,
            _kept: (requests, outcomes),
        }
    }
}

/// A mail server that another test is starting holds a copy of every file's lock until it runs.
fn open(dir: &Path) -> Store {
    let mut opened = None;
    wait_for("the store's lock", || match Store::open_on(dir, &dir.join("data")) {
        Err(StoreError::Locked { .. }) => false,
        other => {
            opened = Some(other.unwrap());
            true
        }
    });
    opened.unwrap()
}

/// A mail thread and a journal thread; stopped with the value, which gives the store back.
pub struct Running<'a> {
    world: &'a mut World,
    stop: Arc<AtomicBool>,
    stop_journal: Arc<AtomicBool>,
    threads: Option<(JoinHandle<()>, JoinHandle<Store>)>,
    pub counters: Arc<MailCounters>,
    /// Where a reload puts other settings.
    pub next: NextSettings,
    pub wake: Sender<()>,
    /// As the webhook thread has it.
    pub webhook: rtrb::Producer<WebhookToJournal>,
    /// What the control plane and the webhook thread hold.
    _kept: (Sender<JournalRequest>, OutcomeWriter),
}

impl Running<'_> {
    /// Stops both; how long the mail thread took.
    pub fn stop(mut self) -> Duration {
        self.end()
    }

    fn end(&mut self) -> Duration {
        let Some((mail, journal)) = self.threads.take() else { return Duration::ZERO };
        let began = Instant::now();
        self.stop.store(true, Ordering::Relaxed);
        mail.join().unwrap();
        let took = began.elapsed();
        self.stop_journal.store(true, Ordering::Relaxed);
        self.world.store = Some(journal.join().unwrap());
        took
    }

    pub fn sent(&self) -> u64 {
        self.counters.sent.load(Ordering::Relaxed)
    }

    pub fn server_failures(&self) -> u64 {
        self.counters.server_failures.load(Ordering::Relaxed)
    }

    pub fn given_up(&self) -> u64 {
        self.counters.given_up.load(Ordering::Relaxed)
    }

    pub fn deferred(&self) -> u64 {
        self.counters.deferred.load(Ordering::Relaxed)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.end();
        }
    }
}
