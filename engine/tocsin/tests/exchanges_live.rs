//! Exchanges to subscribers: simulated exchanges over real sockets and TLS, the real engine, and a
//! WebSocket client of its own. What is published is announced once, as it is; what is not news is not
//! announced; what fails is said and got over.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod harness;

use std::time::{Duration, SystemTime};

use harness::exchange::{Exchange, assert_nothing_twice, history};
use harness::{Client, Engine, Mode, wait_for};
use serde_json::{Value, json};
use tocsin_core::model::ListingType;
use tocsin_sim::{CachePolicy, Category, CertChange, Draft, Fault, Framing, Kind, Options};

/// Runs every test of this list once an exchange.
macro_rules! every_exchange {
    ($($name:ident),* $(,)?) => {
        mod binance { $(#[test] fn $name() { super::$name(super::Kind::Binance); })* }
        mod upbit { $(#[test] fn $name() { super::$name(super::Kind::Upbit); })* }
        mod bithumb { $(#[test] fn $name() { super::$name(super::Kind::Bithumb); })* }
    };
}

every_exchange!(
    a_listing_is_announced_once_as_it_is_and_its_edits_as_edits,
    every_type_arrives_as_it_was_meant,
    a_burst_arrives_whole_and_in_order,
    pinned_and_deleted_notices_are_no_news,
    a_page_from_a_cache_that_lags_announces_nothing_again,
    every_framing_is_read,
    a_restart_announces_nothing_twice_and_misses_nothing,
    what_was_published_long_before_the_start_goes_to_history_alone,
    a_fault_at_the_start_shows_until_it_is_over,
);

fn with_sources(exchanges: &[&Exchange], extra: &str) -> Engine {
    let sections: String = exchanges.iter().map(|exchange| exchange.section()).collect();
    let engine =
        Engine::start(Mode::Plain, &format!("{extra}[feed.limits]\nexempt = [\"127.0.0.0/8\"]\n{sections}"));
    exchanges.iter().for_each(|exchange| exchange.baselined(&engine));
    engine
}

fn start(kind: Kind, options: Options) -> (Exchange, Engine) {
    let exchange = Exchange::start(kind, options);
    let engine = with_sources(&[&exchange], "");
    (exchange, engine)
}

fn tls(kind: Kind) -> (Exchange, Engine) {
    start(kind, Options::default())
}

fn text<'a>(message: &'a Value, field: &str) -> &'a str {
    message[field].as_str().unwrap_or_else(|| panic!("{field} of {message}"))
}

fn number(message: &Value, field: &str) -> i64 {
    message[field].as_i64().unwrap_or_else(|| panic!("{field} of {message}"))
}

/// What an exchange writes of one listing: at first, edited without news, edited with news.
fn titles(kind: Kind) -> [&'static str; 3] {
    match kind {
        Kind::Binance => [
            "Binance Will List Tocsin (TOCX)",
            "Binance Will List Tocsin (TOCX) with Seed Tag Applied",
            "Binance Will List Tocsin (TOCX) and Belfry (BELX)",
        ],
        Kind::Upbit => [
            "토신(TOCX) 신규 거래지원 안내 (KRW, BTC, USDT 마켓)",
            "토신(TOCX) 신규 거래지원 안내 (KRW, BTC, USDT 마켓) (거래지원 개시 시점 변경 안내)",
            "토신(TOCX), 종탑(BELX) 신규 거래지원 안내 (KRW, BTC, USDT 마켓)",
        ],
        _ => [
            "토신(TOCX) 원화 마켓 추가",
            "토신(TOCX) 원화 마켓 추가 (거래 오픈 오후 6시 30분)",
            "토신(TOCX), 종탑(BELX) 원화 마켓 추가",
        ],
    }
}

/// Another listing, so that order shows.
fn another(kind: Kind) -> &'static str {
    match kind {
        Kind::Binance => "Binance Will List Carillon (CARX)",
        Kind::Upbit => "카리용(CARX) 신규 거래지원 안내 (KRW 마켓)",
        _ => "카리용(CARX) 원화 마켓 추가",
    }
}

fn listing(kind: Kind) -> Draft {
    Draft::new(Category::Listing, titles(kind)[0])
}

fn a_listing_is_announced_once_as_it_is_and_its_edits_as_edits(kind: Kind) {
    let (exchange, engine) = tls(kind);
    let key = engine.key();
    let (mut full, mut basic) = (engine.connect(&key, "fields=full"), engine.connect(&key, ""));
    exchange.nothing_more(&engine, &mut full);
    basic.json_of("announcement");

    let [title, moved, more] = titles(kind);
    let published = exchange.sim.publish(listing(kind));
    let got = full.json_of("announcement");
    assert_eq!(got["title"], title);
    assert_eq!((text(&got, "publisher"), text(&got, "listingType")), (kind.name(), "spot_listing"));
    assert_eq!((text(&got, "ticker"), &got["tickers"]), ("TOCX", &json!(["TOCX"])));
    assert_eq!(text(&got, "id"), format!("{}:{}", kind.name(), published.notice_id));
    assert_eq!(text(&got, "noticeId"), published.notice_id);
    assert_eq!((text(&got, "source"), text(&got, "action")), (exchange.spec.name, "created"));
    assert!(text(&got, "url").starts_with("https://"), "{got}");
    assert_eq!(number(&got, "publishTimestampUs"), published.published.0);
    let stages = ["publish", "received", "detected", "classified", "dispatch"];
    let at = stages.map(|stage| number(&got, &format!("{stage}TimestampUs")));
    assert!(at.is_sorted(), "{stages:?} at {at:?}");
    let plain = basic.json_of("announcement");
    for field in plain.as_object().unwrap().keys().filter(|f| *f != "dispatchTimestampUs") {
        assert_eq!(plain[field], got[field], "{field}");
    }
    exchange.nothing_more(&engine, &mut full);
    basic.json_of("announcement");

    // An edit that says nothing new: to those who asked for all fields.
    exchange.sim.edit(&published.notice_id, moved).unwrap();
    let edited = full.json_of("announcement");
    assert_eq!((text(&edited, "action"), text(&edited, "title")), ("updated", moved));
    assert_eq!(edited["id"], got["id"]);
    // The same notice, another title, no word of an edit: news for everybody, for it names another asset.
    exchange.sim.same_id_new_title(&published.notice_id, more).unwrap();
    let news = full.json_of("announcement");
    assert_eq!((text(&news, "action"), text(&news, "ticker")), ("updated", "TOCX,BELX"));
    assert_eq!(
        basic.json_of("announcement")["ticker"],
        "TOCX,BELX",
        "the edit before went to all fields only"
    );
    exchange.nothing_more(&engine, &mut full);
    basic.json_of("announcement");
    let kept = history(&engine, 6);
    let seqs: Vec<i64> = kept.iter().map(|a| number(a, "seq")).collect();
    assert_eq!(seqs, (1..=6).collect::<Vec<i64>>());
    assert_eq!(kept[1], got, "history holds what went out");
}

fn every_type_arrives_as_it_was_meant(kind: Kind) {
    let (exchange, engine) = tls(kind);
    let mut client = engine.connect(&engine.key(), "fields=full");
    for listing_type in ListingType::ALL {
        let (published, meant) = exchange.sim.publish_invented(listing_type);
        let got = client.json_of("announcement");
        assert_eq!(text(&got, "title"), published.title);
        assert_eq!(text(&got, "listingType"), meant.listing_type.name(), "{got}");
        assert_eq!(got["tickers"], json!(meant.tickers), "{got}");
    }
    exchange.nothing_more(&engine, &mut client);
}

fn a_burst_arrives_whole_and_in_order(kind: Kind) {
    let (exchange, engine) = tls(kind);
    let key = engine.key();
    let mut clients: Vec<Client> = (0..3).map(|_| engine.connect(&key, "fields=full")).collect();
    let mut burst: Vec<(String, String)> =
        exchange.sim.burst(15).into_iter().map(|p| (p.notice_id, p.title)).collect();
    burst.sort();
    for client in &mut clients {
        let got: Vec<Value> = (0..burst.len()).map(|_| client.json_of("announcement")).collect();
        let seqs: Vec<i64> = got.iter().map(|a| number(a, "seq")).collect();
        assert_eq!(seqs, (1..=15).collect::<Vec<i64>>());
        let mut names: Vec<(String, String)> =
            got.iter().map(|a| (text(a, "noticeId").to_owned(), text(a, "title").to_owned())).collect();
        names.sort();
        assert_eq!(names, burst);
    }
    exchange.nothing_more(&engine, &mut clients[0]);
}

fn pinned_and_deleted_notices_are_no_news(kind: Kind) {
    // More than a page, so that a deletion brings an older notice into view.
    let (exchange, engine) = start(kind, Options { old_notices: 200, ..Options::default() });
    let mut client = engine.connect(&engine.key(), "fields=full");
    let listed = exchange.sim.listed();
    exchange.sim.pin(listed.last().unwrap()).unwrap();
    exchange.nothing_more(&engine, &mut client);
    for id in &listed[..5] {
        exchange.sim.delete(id).unwrap();
    }
    exchange.nothing_more(&engine, &mut client);
    let published = exchange.sim.publish(listing(kind));
    assert_eq!(client.json_of("announcement")["noticeId"], published.notice_id);
    exchange.sim.pin(&published.notice_id).unwrap();
    exchange.nothing_more(&engine, &mut client);
    exchange.sim.delete(&published.notice_id).unwrap();
    exchange.nothing_more(&engine, &mut client);
    assert_nothing_twice(&history(&engine, 5));
}

fn a_page_from_a_cache_that_lags_announces_nothing_again(kind: Kind) {
    let (exchange, engine) = start(kind, Options::plain());
    let mut client = engine.connect(&engine.key(), "fields=full");
    // The edge gives each list's entry for a while, and once more after that.
    exchange.sim.set_cache(Some(CachePolicy { ttl: Duration::from_millis(300), refresh_hit: true }));
    exchange.sim.cache_lag(Duration::from_millis(200));
    let published = exchange.sim.publish(listing(kind));
    let got = client.json_of("announcement");
    assert_eq!(got["noticeId"], published.notice_id);
    assert!(number(&got, "receivedTimestampUs") >= published.visible.0, "not before it could be seen");
    exchange.sim.set_cache(None);
    exchange.sim.cache_lag(Duration::ZERO);
    exchange.nothing_more(&engine, &mut client);

    // Other edges answer with older pages: without the notice, then with its first title.
    let targets: Vec<&str> = exchange.spec.lists.iter().map(|list| list.target).collect();
    let pages = || -> Vec<Vec<u8>> { (0..targets.len()).map(|list| exchange.page(list)).collect() };
    let serve = |pages: &[Vec<u8>]| {
        targets.iter().zip(pages).for_each(|(target, page)| exchange.sim.serve_bytes(target, page.clone()));
    };
    let with_first_title = pages();
    exchange.sim.edit(&published.notice_id, titles(kind)[1]).unwrap();
    assert_eq!(client.json_of("announcement")["action"], "updated");
    let with_edit = pages();
    exchange.sim.delete(&published.notice_id).unwrap();
    let without = pages();
    for page in [&without, &with_edit, &with_first_title, &with_edit, &without, &with_first_title] {
        serve(page);
        exchange.polled();
    }
    exchange.nothing_more(&engine, &mut client);
}

fn every_framing_is_read(kind: Kind) {
    for framing in [Framing::Chunked(7), Framing::Chunked(4_096), Framing::CloseDelimited] {
        let options = Options { framing: vec![framing, Framing::ContentLength], ..Options::default() };
        let (exchange, engine) = start(kind, options);
        let mut client = engine.connect(&engine.key(), "fields=full");
        for title in [titles(kind)[0], another(kind)] {
            let published = exchange.sim.publish(Draft::new(Category::Listing, title));
            assert_eq!(client.json_of("announcement")["noticeId"], published.notice_id, "{framing:?}");
        }
        exchange.nothing_more(&engine, &mut client);
        assert_eq!(exchange.status(&engine)["failures"], json!({}), "{framing:?}");
    }
}

/// Stopped in good order, then killed: published before, meanwhile and after.
fn a_restart_announces_nothing_twice_and_misses_nothing(kind: Kind) {
    let (exchange, mut engine) = tls(kind);
    let key = engine.key();
    let mut expected = Vec::new();
    let mut say = |client: &mut Client| {
        let published = exchange.sim.publish_invented(ListingType::SpotListing).0;
        assert_eq!(client.json_of("announcement")["noticeId"], published.notice_id);
        expected.push(published.notice_id);
    };
    let mut client = engine.connect(&key, "fields=full");
    say(&mut client);
    assert_eq!(engine.stop(), Some(0));
    let meanwhile = exchange.sim.publish_invented(ListingType::SpotDelisting).0;
    engine.start_again();
    let mut client = engine.connect(&key, "fields=full&resume=1:1");
    let got = client.json_of("announcement");
    assert_eq!((text(&got, "noticeId"), number(&got, "epoch")), (meanwhile.notice_id.as_str(), 2));
    assert_eq!(text(&got, "action"), "created");
    say(&mut client);
    engine.kill();
    let again = exchange.sim.publish_invented(ListingType::SpotListing).0;
    engine.start_again();
    let mut client = engine.connect(&key, "fields=full&resume=2:2");
    assert_eq!(client.json_of("announcement")["noticeId"], again.notice_id);
    say(&mut client);
    exchange.nothing_more(&engine, &mut client);
    expected.insert(1, meanwhile.notice_id);
    expected.insert(3, again.notice_id);
    let kept = history(&engine, 6);
    let ids: Vec<&str> = kept.iter().map(|a| text(a, "noticeId")).collect();
    assert_eq!(ids[..5], expected, "then the marker: {ids:?}");
}

fn what_was_published_long_before_the_start_goes_to_history_alone(kind: Kind) {
    let exchange = Exchange::start(kind, Options::default());
    let mut engine = with_sources(&[&exchange], "[detect]\nfresh_for = \"1s\"\n");
    let key = engine.key();
    assert_eq!(engine.stop(), Some(0));
    // Some exchanges show whole seconds: one has to begin after the first start, and be longer ago
    // than `fresh_for` at the next.
    std::thread::sleep(Duration::from_millis(1_050));
    let late = exchange.sim.publish(listing(kind));
    std::thread::sleep(Duration::from_millis(1_050));
    engine.start_again();
    let mut live = engine.connect(&key, "fields=full");
    let kept = history(&engine, 1);
    assert_eq!((text(&kept[0], "noticeId"), text(&kept[0], "action")), (late.notice_id.as_str(), "created"));
    exchange.nothing_more(&engine, &mut live);
    let mut resumed = engine.connect(&key, "fields=full&resume=1:0");
    let got = resumed.json_of("announcement");
    assert_eq!((text(&got, "noticeId"), &got["replayed"]), (late.notice_id.as_str(), &json!(true)));
    assert_eq!(exchange.status(&engine)["late"], 1);
}

/// The state of a source as its subscribers and `tocsin status` have it.
fn a_fault_at_the_start_shows_until_it_is_over(kind: Kind) {
    type Set = fn(&Exchange);
    let certificate = |exchange: &Exchange| exchange.sim.set_certificate(CertChange::OtherCa).unwrap();
    let rows: [(&str, &str, &str, Set); 4] = [
        ("an authority it was not told of", "down", "tls_certificate", certificate),
        ("503", "stale", "server_error", |e| {
            e.sim.set_fault(Fault::Status { code: 503, retry_after_secs: None });
        }),
        ("429", "blocked", "too_many_requests", |e| {
            e.sim.set_fault(Fault::Status { code: 429, retry_after_secs: Some(1) });
        }),
        ("no JSON", "stale", "unusable", |e| e.sim.set_fault(Fault::GarbageBody)),
    ];
    let cases: Vec<(Exchange, Engine)> = rows
        .iter()
        .map(|(_, _, _, set)| {
            let exchange = Exchange::start(kind, Options::default());
            set(&exchange);
            let engine = Engine::start(Mode::Plain, &exchange.section());
            (exchange, engine)
        })
        .collect();
    for ((what, state, failure, _), (exchange, engine)) in rows.iter().zip(&cases) {
        let mut client = engine.connect(&engine.key(), "sources=1");
        wait_for(what, || {
            let status = exchange.status(engine);
            status["state"] == *state && status["failures"][*failure].as_u64() > Some(0)
        });
        exchange.sim.set_certificate(CertChange::Renewed).unwrap();
        exchange.sim.clear_fault();
        loop {
            let told = client.json_of("source_status");
            assert_eq!(told["source"], exchange.spec.name);
            if told["state"] == "live" {
                break;
            }
            assert_eq!(told["state"], *state, "{what}");
        }
        exchange.baselined(engine);
        assert_eq!(exchange.status(engine)["state"], "live", "{what}");
        wait_for("the log", || is_logged(exchange, engine, state) && is_logged(exchange, engine, "live"));
        exchange.sim.publish(listing(kind));
        assert_eq!(client.json_of("announcement")["title"], titles(kind)[0], "{what}");
    }
}

// ---- What concerns one exchange, or any ---------------------------------------------------------------

/// Failures of these classes so far.
fn failures(exchange: &Exchange, engine: &Engine, classes: &[&str]) -> u64 {
    let status = exchange.status(engine);
    classes.iter().filter_map(|class| status["failures"][*class].as_u64()).sum()
}

/// A reset meets the connection on its way or in its handshake, as it happens.
const RESET: &[&str] = &["connect", "closed"];

/// Whether the engine has logged that the source is in this state.
fn is_logged(exchange: &Exchange, engine: &Engine, state: &str) -> bool {
    let state = format!("state=\"{state}\"");
    engine.log().lines().any(|line| line.contains(exchange.spec.name) && line.contains(&state))
}

/// Publishes, lets the fault strike, and expects the announcement once all the same.
fn survives(exchange: &Exchange, engine: &Engine, client: &mut Client, fault: &Fault, classes: &[&str]) {
    let failures = || failures(exchange, engine, classes);
    let before = failures();
    exchange.sim.fault_next(2, fault.clone());
    if *fault == Fault::ResetOnAccept {
        exchange.sim.drop_connections();
    }
    let published = exchange.sim.publish_invented(ListingType::SpotListing).0;
    let got = client.json_of("announcement");
    assert_eq!(text(&got, "noticeId"), published.notice_id, "{fault:?}");
    wait_for(&format!("{fault:?}"), || failures() > before);
}

/// Every way to misbehave but refusals, against one connection after the other.
#[test]
fn damaged_answers_are_got_over() {
    let rows: [(Fault, &[&str]); 13] = [
        (Fault::Status { code: 500, retry_after_secs: None }, &["server_error"]),
        (Fault::ResetOnAccept, RESET),
        (Fault::ResetInHead, &["closed"]),
        (Fault::ResetInBody { after_bytes: 10 }, &["closed"]),
        (Fault::ShortBody, &["closed"]),
        (Fault::Garbage, &["protocol"]),
        (Fault::GarbageBody, &["unusable"]),
        (Fault::TruncatedJson, &["unusable"]),
        (Fault::Gzip, &["unusable"]),
        (Fault::HugeBody { bytes: 1 << 30, chunked: false }, &["protocol"]),
        (Fault::HugeBody { bytes: 1 << 30, chunked: true }, &["protocol"]),
        (Fault::HtmlChallenge, &["status"]),
        (Fault::RedirectLoop, &["status"]),
    ];
    let (exchange, engine) = tls(Kind::Bithumb);
    let mut client = engine.connect(&engine.key(), "fields=full&sources=1");
    for (fault, classes) in rows {
        survives(&exchange, &engine, &mut client, &fault, classes);
    }
    exchange.nothing_more(&engine, &mut client);
    assert_nothing_twice(&history(&engine, 14));
}

/// A body that comes byte by byte, and one that never comes, cost one connection only.
#[test]
fn a_slow_answer_does_not_hold_up_the_other_connection() {
    for fault in [Fault::NeverAnswer, Fault::SlowBody { bytes_per_second: 20 }] {
        let (exchange, engine) = tls(Kind::Upbit);
        let mut client = engine.connect(&engine.key(), "fields=full");
        exchange.sim.fault_next(1, fault.clone());
        exchange.polled();
        let published = exchange.sim.publish(listing(Kind::Upbit));
        assert_eq!(client.json_of("announcement")["noticeId"], published.notice_id, "{fault:?}");
    }
}

/// 403, 418 and 429 on both connections: blocked, said so, asked again when the exchange allows it.
#[test]
fn refusals_block_a_source_until_they_are_over() {
    for (code, failure) in [(403, "forbidden"), (418, "banned"), (429, "too_many_requests")] {
        let (exchange, engine) = tls(Kind::Binance);
        let mut client = engine.connect(&engine.key(), "fields=full&sources=1");
        exchange.sim.clear_requests();
        exchange.sim.fault_next(2, Fault::Status { code, retry_after_secs: Some(1) });
        wait_for("both to be refused", || exchange.status(&engine)["failures"][failure].as_u64() > Some(0));
        let blocked = client.json_of("source_status");
        assert_eq!((text(&blocked, "source"), text(&blocked, "state")), ("binance.cms", "blocked"), "{code}");
        exchange.sim.clear_fault();
        assert_eq!(client.json_of("source_status")["state"], "live", "{code}");
        let requests = exchange.sim.requests();
        let refused = requests.iter().rposition(|r| r.status == code).unwrap();
        let after = requests[refused + 1].at.micros_since(requests[refused].at);
        assert!(after >= 900_000, "{code}: asked again after {after} us");
        let published = exchange.sim.publish(listing(Kind::Binance));
        assert_eq!(client.json_of("announcement")["noticeId"], published.notice_id, "{code}");
    }
}

/// One refused connection rests as long as it was told; the other goes on and nobody is worried.
#[test]
fn one_refused_connection_leaves_the_source_live() {
    let (exchange, engine) = tls(Kind::Upbit);
    let mut client = engine.connect(&engine.key(), "fields=full&sources=1");
    exchange.sim.fault_next(1, Fault::RegionBlock);
    wait_for("the refusal", || exchange.status(&engine)["failures"]["forbidden"] == 1);
    exchange.polled();
    exchange.sim.publish(listing(Kind::Upbit));
    let next = loop {
        let message = client.json();
        if message["type"] == "announcement" || message["state"] == "blocked" {
            break message;
        }
    };
    assert_eq!(next["title"], titles(Kind::Upbit)[0], "{next}");
    assert_eq!(exchange.status(&engine)["state"], "live");
}

/// States that only time brings: what worked fails for good on all three exchanges.
#[test]
fn a_source_without_answers_is_said_to_be_stale_or_down() {
    let exchanges = Kind::DEFAULT.map(|kind| Exchange::start(kind, Options::default()));
    let [binance, upbit, bithumb] = &exchanges;
    let engine = with_sources(&[binance, upbit, bithumb], "");
    let mut client = engine.connect(&engine.key(), "sources=1");
    binance.sim.set_certificate(CertChange::OtherCa).unwrap();
    binance.sim.drop_connections();
    upbit.sim.set_fault(Fault::Status { code: 503, retry_after_secs: None });
    bithumb.sim.set_fault(Fault::ResetOnAccept);
    bithumb.sim.drop_connections();
    let mut told: Vec<(String, String)> = (0..3)
        .map(|_| client.json_of("source_status"))
        .map(|m| (text(&m, "source").to_owned(), text(&m, "state").to_owned()))
        .collect();
    told.sort();
    let expected = [("binance.cms", "down"), ("bithumb.api", "down"), ("upbit.web", "stale")];
    assert_eq!(told, expected.map(|(source, state)| (source.to_owned(), state.to_owned())));
    for (exchange, classes) in [(binance, &["tls"][..]), (upbit, &["server_error"]), (bithumb, RESET)] {
        assert!(failures(exchange, &engine, classes) > 1, "{}", exchange.status(&engine));
    }
    // Connections that are reset rest 10 s at most.
    bithumb.sim.clear_fault();
    let back = client.json_of("source_status");
    assert_eq!((text(&back, "source"), text(&back, "state")), ("bithumb.api", "live"));
}

/// A renewed certificate is taken without a word; a bad one never.
#[test]
fn certificates_are_checked_on_every_connection() {
    let (exchange, engine) = tls(Kind::Upbit);
    let mut client = engine.connect(&engine.key(), "fields=full");
    let failed = || exchange.status(&engine)["failures"]["tls"].as_u64().unwrap_or(0);
    exchange.sim.set_certificate(CertChange::Renewed).unwrap();
    exchange.sim.drop_connections();
    exchange.sim.publish(listing(Kind::Upbit));
    assert_eq!(client.json_of("announcement")["title"], titles(Kind::Upbit)[0]);
    assert_eq!(failed(), 0);
    for change in [CertChange::OtherCa, CertChange::Expired, CertChange::NotYetValid, CertChange::WrongName] {
        let before = failed();
        exchange.sim.set_certificate(change).unwrap();
        exchange.sim.drop_connections();
        wait_for("the refusal of the certificate", || failed() > before);
        exchange.sim.set_certificate(CertChange::Renewed).unwrap();
        let published = exchange.sim.publish_invented(ListingType::SpotListing).0;
        assert_eq!(client.json_of("announcement")["noticeId"], published.notice_id, "{change:?}");
    }
    exchange.nothing_more(&engine, &mut client);
}

#[test]
fn entity_tags_spare_the_body_and_hide_nothing() {
    let (exchange, engine) = tls(Kind::Upbit);
    let mut client = engine.connect(&engine.key(), "fields=full");
    wait_for("answers without a body", || exchange.status(&engine)["not_modified"].as_u64() > Some(5));
    for title in [titles(Kind::Upbit)[0], another(Kind::Upbit)] {
        exchange.sim.publish(Draft::new(Category::Listing, title));
        assert_eq!(client.json_of("announcement")["title"], title);
    }
    exchange.nothing_more(&engine, &mut client);
}

/// Binance shows an article in each catalog it belongs to.
#[test]
fn an_article_in_two_catalogs_is_announced_once() {
    let exchange = Exchange::start(Kind::Binance, Options::default());
    let page = |catalog: &str, articles: &[(&str, &str, i64)]| {
        let articles: Vec<Value> = articles
            .iter()
            .map(|(code, title, ms)| json!({"code": code, "title": title, "type": 1, "releaseDate": ms}))
            .collect();
        let catalog: u32 = catalog.parse().unwrap();
        json!({"code": "000000", "success": true,
               "data": {"catalogs": [{"catalogId": catalog, "articles": articles}]}})
        .to_string()
        .into_bytes()
    };
    let old = ("00000000000000000000000000000001", "An old article", 1_700_000_000_000);
    let serve = |articles: &[(&str, &str, i64)]| {
        for list in exchange.spec.lists {
            exchange.sim.serve_bytes(list.target, page(list.name, articles));
        }
    };
    serve(&[old]);
    let engine = with_sources(&[&exchange], "");
    let mut client = engine.connect(&engine.key(), "fields=full");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let now_ms = i64::try_from(now.as_millis()).unwrap();
    serve(&[("00000000000000000000000000000002", titles(Kind::Binance)[0], now_ms), old]);
    let got = client.json_of("announcement");
    assert_eq!((text(&got, "ticker"), number(&got, "publishTimestampUs")), ("TOCX", now_ms * 1_000));
    exchange.nothing_more(&engine, &mut client);
}

/// The three at once on one engine, to subscribers with filters of their own.
#[test]
fn three_exchanges_share_one_sequence_and_filters_part_them() {
    let exchanges = Kind::DEFAULT.map(|kind| Exchange::start(kind, Options::default()));
    let engine = with_sources(&exchanges.each_ref(), "");
    let key = engine.key();
    let mut all = engine.connect(&key, "fields=full");
    let mut korean = engine.connect(&key, "fields=full&cex=upbit,bithumb");
    for exchange in &exchanges {
        exchange.sim.publish(listing(exchange.sim.kind()));
    }
    let mut got: Vec<Value> = (0..3).map(|_| all.json_of("announcement")).collect();
    assert_eq!(got.iter().map(|a| number(a, "seq")).collect::<Vec<_>>(), [1, 2, 3]);
    got.retain(|a| a["publisher"] != "binance");
    for expected in got {
        let other = korean.json_of("announcement");
        assert_eq!((&other["id"], &other["seq"]), (&expected["id"], &expected["seq"]));
    }
    for exchange in &exchanges {
        assert_eq!(exchange.status(&engine)["state"], "live");
    }
}
