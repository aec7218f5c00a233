//! A source thread whose exchanges say nothing new allocates nothing: an armed allocator counts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../../core/tests/armed/mod.rs"]
mod armed;
mod support;

use std::sync::atomic::Ordering;

use armed::allocations;
use serde_json::json;
use support::rig::{Options, Rig};
use support::{Reply, Server, ok, with_headers};
use tocsin::net::tls::{GENERATED_CERT, ServerTls};
use tocsin::os::clock;
use tocsin::record::Outcome;
use tocsin::threads::source::stats::Count;
use tocsin::threads::source::tap::tap;
use tocsin_core::source::exchange::{bithumb, upbit};
use tocsin_core::source::stream;
use tocsin_sim::{SimStream, StreamKind, StreamOptions};

#[test]
fn unchanged_answers_allocate_nothing() {
    // A server of one kind of answer each: the same body, a counter that ticks, 304.
    let row = r#"{"listed_at":"2026-01-02T03:04:05+09:00","first_listed_at":"2026-01-02T03:04:05+09:00","id":7,"title":"안내 (ABC)","category":"안내"}"#;
    let page = move |total: usize| {
        format!(
            r#"{{"success":true,"data":{{"total_pages":1,"total_count":{total},"notices":[{row}],"fixed_notices":[]}}}}"#
        )
    };
    let notices = r#"[{"categories":["안내"],"title":"안내","pc_url":"https://example.test/notice/7","published_at":"2026-01-02 03:04:05","modified_at":"2026-01-02 03:04:05"}]"#;
    let same = Server::start(None, move |_| Reply::Send(ok(notices)));
    let ticking = Server::start(None, move |seen| Reply::Send(ok(&page(100 + seen.request % 800))));
    let conditional = Server::start(None, move |seen| match seen.header("If-None-Match") {
        None => Reply::Send(with_headers("200 OK", &["ETag: \"x\""], &page(1))),
        Some(_) => Reply::Send(b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n".to_vec()),
    });
    let mut rig = Rig::new(vec![
        Options::new(&bithumb::API, &same.url("http")),
        Options::new(&upbit::WEB, &ticking.url("http")),
        Options::new(&upbit::WEB, &conditional.url("http")),
    ]);
    let warm = |rig: &mut Rig| {
        for lane in 0..3 {
            rig.answers(lane, 40);
        }
    };
    warm(&mut rig);
    assert_eq!(allocations(|| warm(&mut rig)), 0);
    // Nor does it with a recorder, whether that keeps up or not.
    let (near, mut far) = tap(1 << 16, 16);
    rig.thread = rig.thread.with_tap(Some(near));
    warm(&mut rig);
    assert_eq!(allocations(|| warm(&mut rig)), 0);
    // How many answers fill the ring is the machine's affair; each round brings a hundred and twenty. The last that
    // fits may leave less than a head's room: then no body is ever lost, only whole polls.
    let lost = || {
        [&far.losses.bodies, &far.losses.polls]
            .iter()
            .map(|losses| losses.load(Ordering::Relaxed))
            .sum::<u64>()
    };
    for _ in 0..10 {
        if lost() == 0 {
            assert_eq!(allocations(|| warm(&mut rig)), 0);
        }
    }
    assert!(lost() > 0, "the ring was full");
    let mut body = Vec::new();
    let outcomes: Vec<Outcome> =
        std::iter::from_fn(|| far.next(&mut body)).map(|poll| poll.outcome).collect();
    for outcome in [Outcome::Identical, Outcome::OnlyNoise, Outcome::NotModified] {
        assert!(outcomes.contains(&outcome), "{outcome:?}");
    }
    assert!(rig.stats[0].count(Count::Identical) >= 40);
    assert!(rig.stats[1].count(Count::OnlyNoise) >= 40);
    assert!(rig.stats[2].count(Count::NotModified) >= 40);
    assert!(rig.announced.is_empty());
}

/// Most that the TLS library allocates for one answer that says nothing new: the request sealed, the answer
/// opened. The engine's own part is nothing, as over plain connections.
const TLS_ALLOCATIONS_AN_ANSWER: u64 = 2;

#[test]
fn unchanged_answers_over_tls_allocate_in_the_tls_library_alone() {
    let folder = tempfile::tempdir().unwrap();
    let tls = ServerTls::self_signed(folder.path(), "127.0.0.1:0".parse().unwrap()).unwrap();
    let server = Server::start(Some(tls), move |_| Reply::Send(ok("[]")));
    let mut options = Options::new(&bithumb::API, &server.url("https"));
    options.ca_file = Some(folder.path().join(GENERATED_CERT));
    let mut rig = Rig::new(vec![options]);
    rig.answers(0, 40);
    let before = rig.usable(0);
    let counted = allocations(|| rig.answers(0, 200));
    let answers = rig.usable(0) - before;
    println!("{counted} allocations for {answers} unchanged answers over TLS");
    // One more may be under way at either end.
    assert!(counted <= TLS_ALLOCATIONS_AN_ANSWER * (answers + 2), "{counted} for {answers} answers");
    assert!(rig.stats[0].count(Count::Identical) >= 200);
}

/// An announcement of now, as `kind` pushes it.
fn pushed(kind: StreamKind) -> String {
    let now = clock::wall();
    let message = match kind {
        StreamKind::Binance => {
            let inner = json!({
                "catalogId": 48, "publishDate": now.0 / 1_000, "title": "Binance Will List Varomi (VAROMI)",
            });
            json!({"type": "DATA", "topic": "com_announcement_en", "data": inner.to_string()})
        }
        StreamKind::Upbit => {
            json!({
                "type": "announcement", "event_type": "CREATED", "uuid": "71", "category": "trade",
                "title": "[거래] 바로미(VAROMI) 신규 거래지원 안내", "timestamp": now.0 / 1_000,
            })
        }
        StreamKind::Gate => {
            json!({
                "time": now.secs(), "channel": "announcement.summary_listing", "event": "update", "result": {
                    "lang": "en", "origin_url": "https://www.gate.com/article/71",
                    "title": "Gate Will List Varomi (VAROMI)", "published_at": now.secs() + 1,
                },
            })
        }
    };
    message.to_string()
}

#[test]
fn messages_that_are_no_news_allocate_nothing() {
    for kind in StreamKind::ALL {
        let sim = SimStream::start(kind, StreamOptions { plain: true, ..StreamOptions::default() }).unwrap();
        let spec = stream::by_config_name(kind.name()).unwrap();
        let mut rig = Rig::with_stream(spec, &sim.base_url(), &sim.credentials_text());
        rig.until("a live session", |rig| rig.states.last() == Some(&(spec.name, "live")));
        let known = pushed(kind);
        sim.send_text(&known);
        rig.until("the announcement", |rig| rig.announced.len() == 1);
        // Sent before anything is read: what the test's own side allocates is not counted.
        let mut hear = |many: u64| {
            let before = rig.stats[0].count(Count::Messages);
            (0..many).for_each(|_| sim.send_text(&known));
            allocations(|| rig.until("messages", |rig| rig.stats[0].count(Count::Messages) >= before + many))
        };
        hear(400);
        assert_eq!(hear(200), 0, "{}", spec.name);
        assert_eq!(
            (rig.announced.len(), rig.stats[0].count(Count::Parsed) >= 601),
            (1, true),
            "{}",
            spec.name
        );
    }
}
