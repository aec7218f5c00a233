//! The running engine's metrics and health, as those see them who read them: a real Prometheus, promtool,
//! and a plain client. Dashboard and alert rules name what there is.
//!
//! Needs what `scripts/setup-test-clients` puts into the cache, and strace to hold a thread up.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../harness/mod.rs"]
mod harness;
mod prometheus;
mod rules;

use std::process::{Child, Command, Stdio};

use harness::exchange::Exchange;
use harness::{Engine, Mode, client::open_tcp, wait_for};
use prometheus::{Prometheus, promtool};
use serde_json::{Value, json};
use tocsin_sim::{Category, Draft, Kind, Options};

const TITLE: &str = "노스라이트(NLT) 신규 거래지원 안내 (KRW 마켓)";

/// Of a request without a token.
fn get(engine: &Engine, path: &str) -> (u16, String) {
    let (status, _, body) = engine.admin_raw("GET", path, "", "");
    (status, body)
}

/// Codes of the reasons that `/readyz` gives; the status must fit them.
fn unready(engine: &Engine) -> Vec<String> {
    let (status, body) = get(engine, "/readyz");
    let body: Value = serde_json::from_str(&body).unwrap();
    let reasons = body["reasons"].as_array().unwrap();
    assert_eq!(body["ready"], reasons.is_empty(), "{body}");
    assert_eq!(status, if reasons.is_empty() { 200 } else { 503 }, "{body}");
    reasons.iter().map(|reason| reason["code"].as_str().unwrap().to_owned()).collect()
}

/// The value of a series as `/metrics` writes it.
fn metric(engine: &Engine, series: &str) -> f64 {
    let (_, text) = get(engine, "/metrics");
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().unwrap()
}

#[test]
fn a_real_prometheus_scrapes_the_running_engine() {
    let exchange = Exchange::start(Kind::Upbit, Options::default());
    let exempt = "[feed.limits]\nexempt = [\"127.0.0.0/8\"]\n";
    let engine = Engine::start(Mode::Tls, &format!("{exempt}{}", exchange.section()));
    let prometheus = Prometheus::start(engine.admin);
    exchange.baselined(&engine);
    let key = engine.key();
    let mut clients = [engine.connect(&key, ""), engine.connect(&key, "")];
    exchange.sim.publish(Draft::new(Category::Listing, TITLE));
    for client in &mut clients {
        assert_eq!(client.json_of("announcement")["title"], TITLE);
    }
    engine.inject("binance", "Binance Will List Norlight (NLT)");

    let one = |query: &str| prometheus.query(query).first().map(|(_, value)| *value);
    wait_for("a scrape of both announcements", || one("tocsin_feed_announcements_total") == Some(2.0));
    for (query, value) in [
        ("up{job=\"tocsin\"}", 1.0),
        ("tocsin_ready", 1.0),
        ("tocsin_feed_connections", 2.0),
        ("tocsin_feed_messages_total", 4.0),
        ("tocsin_feed_fanout_last_seconds_count", 2.0),
        ("tocsin_source_state{source=\"upbit.web\",state=\"live\"}", 1.0),
        ("count(tocsin_source_state)", 4.0),
        ("tocsin_source_announcements_total{source=\"upbit.web\"}", 1.0),
        ("tocsin_source_detection_delay_seconds_count{source=\"upbit.web\"}", 1.0),
        ("tocsin_source_processing_seconds_count{source=\"upbit.web\"}", 1.0),
        ("sum(tocsin_accept_tls_handshakes_total)", 2.0),
        ("sum(tocsin_webhook_endpoints)", 0.0),
        ("tocsin_epoch", 1.0),
        // A generated certificate is valid for ten years.
        ("tocsin_certificate_not_after_timestamp_seconds - time() > bool 9 * 365 * 86400", 1.0),
        ("time() - tocsin_process_start_time_seconds < bool 300", 1.0),
        ("tocsin_process_open_fds > bool 10", 1.0),
        ("tocsin_store_size_bytes{file=\"database\"} >= bool 4096", 1.0),
        ("time() - tocsin_source_last_poll_timestamp_seconds < bool 60", 1.0),
    ] {
        assert_eq!(one(query), Some(value), "{query}");
    }
    assert_eq!(prometheus.query("count by (thread) (tocsin_thread_still_seconds)").len(), 5, "by name");

    let target = &prometheus.api("targets", &[])["activeTargets"][0];
    assert_eq!((&target["health"], &target["lastError"]), (&json!("up"), &json!("")), "{target}");
    prometheus.rules_are_evaluated();
    rules::dashboard_shows_something(&prometheus);

    let (_, text) = get(&engine, "/metrics");
    assert_eq!(promtool(&["check", "metrics"], &text), "", "promtool has nothing to say");
}

#[test]
fn ready_once_a_source_is_live_and_not_while_a_thread_stands() {
    let exchange = Exchange::start(Kind::Upbit, Options::default());
    let engine = Engine::start(Mode::Plain, &exchange.section());
    wait_for("the first answer", || unready(&engine).is_empty());
    assert_eq!(get(&engine, "/livez"), (200, "{\"alive\":true}".to_owned()));

    let held = Held::hold(engine.pid(), "journal", 7);
    wait_for("the thread to be missed", || !unready(&engine).is_empty());
    assert_eq!(unready(&engine), ["thread_stands"]);
    assert!(get(&engine, "/readyz").1.contains("journal"));
    assert_eq!(get(&engine, "/livez"), (503, "{\"alive\":false}".to_owned()));
    assert_eq!(get(&engine, "/healthz").0, 503);
    assert_eq!(metric(&engine, "tocsin_ready").to_string(), "0");
    assert_eq!(metric(&engine, "tocsin_not_ready_reason{reason=\"thread_stands\"}").to_string(), "1");
    assert!(metric(&engine, "tocsin_thread_still_seconds{thread=\"journal\"}") > 5.0);
    wait_for("the thread to go on", || unready(&engine).is_empty());
    drop(held);
    wait_for("its gap to be noted", || {
        metric(&engine, "tocsin_thread_recent_gap_seconds{thread=\"journal\"}") > 5.0
    });
    assert_eq!(get(&engine, "/livez").0, 200);
}

#[test]
fn not_ready_without_a_live_source_with_a_bad_clock_or_in_a_drain() {
    // Nobody listens there.
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut engine = Engine::start(
        Mode::Plain,
        &format!(
            "[feed]\ndrain = \"10s\"\n[clock]\nrequire_synchronised = true\n[feed.limits]\nexempt = [\"127.0.0.0/8\"]\n
             [sources.upbit]\nenabled = true\nbase_url = \"http://{deaf}\"\n"
        ),
    );
    // What the kernel says is not the test's to choose: the answer must fit it.
    let clock = !tocsin::os::timesync::read().is_ok_and(|clock| clock.synchronised);
    let expected = |draining: bool| {
        [(draining, "draining"), (true, "no_source_live"), (clock, "clock_unsynchronised")]
            .iter()
            .filter(|(holds, _)| *holds)
            .map(|(_, code)| (*code).to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(unready(&engine), expected(false));
    assert!(get(&engine, "/readyz").1.contains("upbit.web down"));
    assert_eq!(metric(&engine, "tocsin_not_ready_reason{reason=\"no_source_live\"}").to_string(), "1");
    assert_eq!(get(&engine, "/livez").0, 200, "not ready is not dead");

    // Subscribers who are told one after another keep the drain going.
    let key = engine.key();
    let clients: Vec<_> = (0..20).map(|_| engine.connect(&key, "")).collect();
    engine.signal("TERM");
    wait_for("the drain", || unready(&engine) == expected(true));
    assert_eq!(metric(&engine, "tocsin_not_ready_reason{reason=\"draining\"}").to_string(), "1");
    drop(clients);
    assert_eq!(engine.wait(), Some(0));
}

#[test]
fn without_sources_there_is_nothing_to_be_live_and_a_listener_for_all_wants_a_token() {
    let engine = Engine::start(Mode::Plain, "[admin]\nlisten = \"0.0.0.0:0\"\n");
    assert_eq!(unready(&engine), [""; 0]);
    assert_eq!(get(&engine, "/metrics").0, 401);
    let token = std::fs::read_to_string(engine.data_dir().join("admin.token")).unwrap();
    let head = format!("Authorization: Bearer {}\r\n", token.trim());
    let (status, head, text) = engine.admin_raw("GET", "/metrics", &head, "");
    assert_eq!(status, 200, "{text}");
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    assert!(text.contains("\ntocsin_ready 1\n") && !text.contains("tocsin_certificate"), "{text}");
}

#[test]
fn a_token_for_metrics_alone_is_read_from_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("metrics.token");
    let section = format!("[admin]\nmetrics_token_file = {file:?}\n");
    let mut engine = Engine::prepare(dir, Mode::Plain, &section);
    engine.spawn();
    assert_ne!(engine.wait(), Some(0), "a file that is not there is an error");
    assert!(engine.log().contains("admin.metrics_token_file") && engine.log().contains("metrics.token"));

    std::fs::write(&file, "only for the scraper\n").unwrap();
    engine.start_again();
    assert_eq!(get(&engine, "/metrics").0, 401);
    let head = "Authorization: Bearer only for the scraper\r\n";
    assert_eq!(engine.admin_raw("GET", "/metrics", head, "").0, 200);
    assert_eq!(engine.admin_raw("GET", "/admin/v1/status", head, "").0, 401);
}

/// strace that holds one thread up, once, in its next sleep.
struct Held(Child);

impl Held {
    fn hold(process: u32, thread: &str, secs: u64) -> Held {
        let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
        let named = |folder: &std::path::Path| {
            std::fs::read_to_string(folder.join("comm")).is_ok_and(|name| name.trim() == thread)
        };
        let folder = tasks.map(|task| task.unwrap().path()).find(|folder| named(folder)).unwrap();
        let id = folder.file_name().unwrap().to_str().unwrap();
        let inject = format!("inject=clock_nanosleep,ppoll:delay_enter={}:when=1", secs * 1_000_000);
        let strace = Command::new("strace")
            .args([
                "--quiet=all",
                "--trace=clock_nanosleep,ppoll",
                "-e",
                &inject,
                "--output=/dev/null",
                "--attach",
                id,
            ])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Held(strace.unwrap_or_else(|e| panic!("strace cannot be started ({e}): apt-get install strace")))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // It detaches; the thread goes on.
        let _ = Command::new("kill").arg("-INT").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

/// A request of HTTP/1.0, so that the answer ends with the connection; its status and body.
fn http(address: std::net::SocketAddr, request: &str) -> (u16, String) {
    use std::io::{Read as _, Write as _};
    let mut tcp = open_tcp(address, None, None);
    tcp.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}
