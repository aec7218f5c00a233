//! Mail to account owners, from the real store over real SMTP to aiosmtpd: exactly one for each
//! transition, whatever the server does and whenever the process ends.

#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub, reason = "a test fails by panicking")]

mod secrets;
mod world;

use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use tocsin::os::clock;
use tocsin::rings::WebhookToJournal;
use tocsin::store::webhook::mail::DueMail;
use tocsin::threads::mail::{
    JournalOutbox, MailSender, MailSettings, Outbox, OutboxError, STOP_PATIENCE, Settled, Timeouts,
};
use tocsin_core::time::WallUs;
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::endpoint::{Disabled, Mail, SavedHealth, State};
use world::{MailServer, World, hasty, smtp, wait_for};

const PLAIN: &str = "smtp://127.0.0.1:PORT";
const NOW: Duration = Duration::ZERO;

#[test]
fn each_transition_is_one_mail_and_a_restart_sends_none_again() {
    let mut world = World::new();
    let endpoints = world.account("ada@example.org", &["prod"]);
    let server = MailServer::start(world.dir.path(), &[]);
    let smtp = smtp(PLAIN, server.port);
    let kinds = [Mail::AutoDisabled, Mail::Recovered, Mail::Gone, Mail::Slow];
    for kind in kinds {
        world.enqueue(endpoints[0], kind, NOW);
    }
    let install = world.store().install_id().unwrap();
    let running = world.run(&smtp, hasty());
    wait_for("four mails sent", || running.sent() == 4);
    running.stop();
    for _ in 0..2 {
        world.reopen();
        let running = world.run(&smtp, hasty());
        running.wake.send(()).unwrap();
        running.stop();
    }
    assert!(world.waiting().is_empty());

    let taken = server.taken();
    let subjects: Vec<String> = taken.iter().map(|mail| mail.header("Subject")).collect();
    assert_eq!(
        subjects,
        [
            "Webhook endpoint disabled after 3 failures: prod.hooks.example.org",
            "Webhook endpoint is back: prod.hooks.example.org",
            "Webhook endpoint is gone (410): prod.hooks.example.org",
            "Webhook endpoints are slow",
        ]
    );
    for (n, mail) in taken.iter().enumerate() {
        assert_eq!(mail.header("Message-ID"), format!("<tocsin-{}.{install}@example.com>", n + 1));
        assert_eq!(mail.header("From"), "Tocsin <alerts@example.com>");
        assert_eq!((mail.header("To"), mail.to.as_str()), ("ada@example.org".to_owned(), "ada@example.org"));
        assert_eq!(mail.header("Auto-Submitted"), "auto-generated");
        assert!(!mail.header("Date").is_empty() && mail.header("Content-Type").contains("text/plain"));
        assert!(mail.body().contains("https://prod.hooks.example.org/in"), "{}", mail.content);
        assert!(!mail.content.contains("SECRET"), "{}", mail.content);
        assert_eq!(mail.connection, 1, "one connection for all");
    }
}

#[test]
fn a_reload_moves_mail_to_another_server_and_sender() {
    let mut world = World::new();
    let endpoint = world.account("ada@example.org", &["a"])[0];
    let server = MailServer::start(world.dir.path(), &[]);
    let nobody = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    nobody.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let dead = nobody.local_addr().unwrap().as_socket().unwrap().port();
    world.enqueue(endpoint, Mail::Recovered, NOW);
    let install = world.store().install_id().unwrap();
    let running = world.run(&smtp(PLAIN, dead), hasty());
    wait_for("a refusal", || running.server_failures() > 0);
    let mut other = smtp(PLAIN, server.port);
    other.from = "Other <alerts@example.com>".parse().unwrap();
    let sender = MailSender { from: other.from.clone(), install, self_healing: true };
    running.next.put(MailSettings::new(&other, sender).unwrap());
    let _ = running.wake.try_send(());
    wait_for("the mail", || running.sent() == 1);
    running.stop();
    assert_eq!(server.taken()[0].header("From"), "Other <alerts@example.com>");
}

#[test]
fn what_the_webhook_thread_tells_becomes_mail_at_once() {
    let mut world = World::new();
    let endpoint = world.account("ada@example.org", &["a"])[0];
    let server = MailServer::start(world.dir.path(), &[]);
    let smtp = smtp(PLAIN, server.port);
    let mut running = world.run(&smtp, hasty());
    let began = Instant::now();
    let changes = [
        (State::Disabled(Disabled::Auto), Some(Mail::AutoDisabled)),
        (State::Active, Some(Mail::Recovered)),
        (State::Suspended, None),
    ];
    for (n, (state, mail)) in (1..).zip(changes) {
        let at = clock::wall();
        let health = SavedHealth { state, since: at, failures: 0, slow: false };
        let mail = mail.map(|mail| (mail, Box::from("server_error, status 503")));
        let told = WebhookToJournal::Health { endpoint, health, verified: false, mail, at };
        running.webhook.push(told).unwrap_or_else(|_| panic!("the ring is full"));
        server.wait_for(n.min(2));
    }
    assert!(began.elapsed() < Duration::from_secs(25), "it was not woken");
    running.stop();
    assert_eq!((server.taken().len(), world.waiting().len()), (2, 0));
    assert!(server.taken()[0].body().contains("Last failure: server_error, status 503."));
}

#[test]
fn a_server_that_is_down_gets_one_mail_when_it_is_back() {
    let mut world = World::new();
    let endpoints = world.account("ada@example.org", &["a", "b"]);
    for endpoint in endpoints {
        world.enqueue(endpoint, Mail::AutoDisabled, NOW);
    }
    // Bound and not listening: refused, and nobody else's.
    let reserved = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    reserved.set_reuse_address(true).unwrap();
    reserved.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    let port = reserved.local_addr().unwrap().as_socket().unwrap().port();
    let folder = world.dir.path().to_owned();
    let running = world.run(&smtp(PLAIN, port), hasty());
    wait_for("three refusals", || running.server_failures() >= 3);
    let server = MailServer::start(&folder, &["--port", &port.to_string()]);
    wait_for("two mails sent", || running.sent() == 2);
    running.stop();
    assert_eq!(server.taken().len(), 2);
    assert!(world.waiting().is_empty());
}

#[test]
fn a_mail_outlives_the_process_that_could_not_send_it() {
    let mut world = World::new();
    let endpoints = world.account("ada@example.org", &["a"]);
    world.enqueue(endpoints[0], Mail::Gone, NOW);
    world.reopen();
    let nobody = smtp(PLAIN, 9); // Discard: nobody listens on loopback.
    let running = world.run(&nobody, hasty());
    wait_for("a refusal", || running.server_failures() >= 1);
    running.stop();
    assert!(world.waiting()[0].tries >= 1);
    world.reopen();
    let server = MailServer::start(world.dir.path(), &[]);
    let running = world.run(&smtp(PLAIN, server.port), hasty());
    wait_for("the mail sent", || running.sent() == 1);
    running.stop();
    assert_eq!(server.taken().len(), 1);
    assert!(world.waiting().is_empty());
}

#[test]
fn slow_endpoints_of_an_account_are_one_digest() {
    let mut world = World::new();
    let ada = world.account("ada@example.org", &["a", "b", "c"]);
    let bob = world.account("bob@example.org", &["d"]);
    // They became slow within minutes: those that still wait for company come along.
    for (endpoint, wait) in ada.iter().zip([0, 60, 240]) {
        world.enqueue(*endpoint, Mail::Slow, Duration::from_secs(wait));
    }
    world.enqueue(bob[0], Mail::Slow, Duration::from_secs(60));
    let server = MailServer::start(world.dir.path(), &[]);
    let running = world.run(&smtp(PLAIN, server.port), hasty());
    wait_for("the digest sent", || running.sent() == 1);
    running.stop();
    let taken = server.taken();
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].header("Subject"), "Webhook endpoints are slow");
    for label in ["a", "b", "c"] {
        assert!(taken[0].body().contains(&format!("({label}), https://{label}.hooks.example.org/in, at ")));
    }
    let waiting = world.waiting();
    assert_eq!(waiting.iter().map(|mail| mail.endpoint).collect::<Vec<_>>(), bob, "not due yet");
}

#[test]
fn what_is_put_off_is_sent_once_and_holds_nobody_up() {
    let mut world = World::new();
    let ada = world.account("ada@example.org", &["a"]);
    let bob = world.account("bob@example.org", &["b"]);
    world.enqueue(ada[0], Mail::Recovered, NOW);
    world.enqueue(bob[0], Mail::Recovered, NOW);
    let server =
        MailServer::start(world.dir.path(), &["--rcpt", "450 4.2.0", "--data", "take,451 4.7.1 later"]);
    let running = world.run(&smtp(PLAIN, server.port), hasty());
    wait_for("both mails sent", || running.sent() == 2);
    assert_eq!((running.deferred(), running.given_up(), running.server_failures()), (2, 0, 0));
    running.stop();
    let to: Vec<String> = server.taken().into_iter().map(|mail| mail.to).collect();
    assert_eq!(to, ["bob@example.org", "ada@example.org"]);
    assert!(world.waiting().is_empty());
}

#[test]
fn what_is_refused_for_good_is_given_up() {
    let mut world = World::new();
    let ada = world.account("nobody-of-that-name@example.org", &["a"]);
    let bob = world.account("bob@example.org", &["b"]);
    for endpoint in [ada[0], bob[0], bob[0]] {
        world.enqueue(endpoint, Mail::Gone, NOW);
    }
    let server = MailServer::start(world.dir.path(), &["--rcpt", "550 5.1.1", "--data", "554 5.6.0 no"]);
    let running = world.run(&smtp(PLAIN, server.port), hasty());
    wait_for("one mail sent", || running.sent() == 1);
    assert_eq!(running.given_up(), 2);
    running.stop();
    world.reopen();
    assert!(world.waiting().is_empty());
    assert_eq!(server.taken().len(), 1);
    let logs = world::logs();
    assert!(logs.contains("550") && !logs.contains("nobody-of-that-name"), "{logs}");
}

#[test]
fn a_mail_cut_short_is_sent_again_and_one_whose_verdict_is_lost_keeps_its_id() {
    let mut world = World::new();
    let endpoints = world.account("ada@example.org", &["a"]);
    world.enqueue(endpoints[0], Mail::Gone, NOW);
    let server = MailServer::start(world.dir.path(), &["--data", "close,close,lost,take"]);
    let running = world.run(&smtp(PLAIN, server.port), hasty());
    wait_for("the mail sent", || running.sent() == 1);
    assert_eq!(running.deferred(), 3);
    running.stop();
    let taken = server.taken();
    assert_eq!(taken.len(), 2, "at least once where the verdict was lost");
    assert_eq!(taken[0].header("Message-ID"), taken[1].header("Message-ID"));
    assert!(world.waiting().is_empty());
}

#[test]
fn a_server_that_ends_each_connection_gets_every_mail_once() {
    let mut world = World::new();
    let endpoints = world.account("ada@example.org", &["a"]);
    for _ in 0..4 {
        world.enqueue(endpoints[0], Mail::Gone, NOW);
    }
    let server = MailServer::start(world.dir.path(), &["--one-mail"]);
    let running = world.run(&smtp(PLAIN, server.port), hasty());
    wait_for("four mails sent", || running.sent() == 4);
    assert_eq!((running.deferred(), running.server_failures()), (0, 0));
    running.stop();
    let connections: Vec<u64> = server.taken().iter().map(|mail| mail.connection).collect();
    assert_eq!(connections, [1, 2, 3, 4]);
}

#[test]
fn a_server_that_says_nothing_holds_up_neither_stop_nor_the_store() {
    let mut world = World::new();
    let endpoints = world.account("ada@example.org", &["a"]);
    world.enqueue(endpoints[0], Mail::Gone, NOW);
    let silent = MailServer::start(world.dir.path(), &["--hang"]);
    let running = world.run(&smtp(PLAIN, silent.port), hasty());
    std::thread::sleep(Duration::from_millis(200));
    let took = running.stop();
    assert!(took < STOP_PATIENCE * 5, "{took:?}: the timeout of 30 s was waited for");
    assert_eq!(world.waiting()[0].tries, 0, "no verdict, nothing recorded");

    let mut pace = hasty();
    pace.timeouts = Timeouts { step: Duration::from_millis(100), verdict: Duration::from_millis(100) };
    let running = world.run(&smtp(PLAIN, silent.port), pace);
    wait_for("a timeout", || running.server_failures() >= 2);
    running.stop();
    let server = MailServer::start(world.dir.path(), &[]);
    let running = world.run(&smtp(PLAIN, server.port), hasty());
    wait_for("the mail sent", || running.sent() == 1);
    running.stop();
    assert_eq!(server.taken().len(), 1);
}

/// An outbox that fails to record what was sent, at first.
struct Forgetful {
    inner: JournalOutbox,
    failures: u32,
}

impl Outbox for Forgetful {
    fn due(&mut self, now: WallUs, limit: usize) -> Result<Vec<DueMail>, OutboxError> {
        self.inner.due(now, limit)
    }

    fn label(&mut self, endpoint: EndpointId) -> String {
        self.inner.label(endpoint)
    }

    fn next_at(&mut self, now: WallUs) -> Result<Option<WallUs>, OutboxError> {
        self.inner.next_at(now)
    }

    fn settle(&mut self, settled: &Settled) -> Result<(), OutboxError> {
        if self.failures > 0 {
            self.failures -= 1;
            return Err(OutboxError::JournalEnded);
        }
        self.inner.settle(settled)
    }
}

#[test]
fn nothing_is_sent_before_what_was_sent_is_on_disk() {
    let mut world = World::new();
    let endpoints = world.account("ada@example.org", &["a"]);
    world.enqueue(endpoints[0], Mail::AutoDisabled, NOW);
    world.enqueue(endpoints[0], Mail::Recovered, NOW);
    let server = MailServer::start(world.dir.path(), &[]);
    let smtp = smtp(PLAIN, server.port);
    let running = world.run_over(&smtp, hasty(), |inner| Forgetful { inner, failures: 1 });
    server.wait_for(1);
    wait_for("the second", || running.sent() == 2);
    running.stop();
    let subjects: Vec<String> = server.taken().iter().map(|mail| mail.header("Subject")).collect();
    assert!(
        matches!(&subjects[..], [first, second] if first.contains("disabled") && second.contains("back"))
    );
    assert!(world.waiting().is_empty());

    // Stopped before it could be recorded: the next start sends it again, under the same id.
    world.enqueue(endpoints[0], Mail::Gone, NOW);
    let running = world.run_over(&smtp, hasty(), |inner| Forgetful { inner, failures: u32::MAX });
    server.wait_for(3);
    running.stop();
    let running = world.run(&smtp, hasty());
    wait_for("the third", || running.sent() == 1);
    running.stop();
    let taken = server.taken();
    assert_eq!((taken.len(), taken[2].header("Message-ID")), (4, taken[3].header("Message-ID")));
}
