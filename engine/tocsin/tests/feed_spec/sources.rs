//! Announcements as simulated exchanges make them: new, edited, late, from several at once; and the
//! state of the sources.

use std::time::Duration;

use serde_json::{Value, json};
use tocsin_sim::{Category, Draft, Fault, Kind, Options, SimExchange};

use crate::EXEMPT;
use crate::harness::{Client, Engine, Mode, wait_for};

both_modes!(
    a_published_notice_reaches_every_subscriber_once,
    edits_reach_those_who_see_that_they_are_edits,
    late_announcements_are_in_history_and_resumes_only,
    announcements_of_several_sources_come_in_order,
    source_states_are_told_to_those_who_asked,
);

fn exchange(kind: Kind) -> SimExchange {
    SimExchange::start(kind, Options::plain()).unwrap()
}

/// Configuration of these exchanges as sources, polled often.
fn polling(exchanges: &[&SimExchange]) -> String {
    let section = |exchange: &&SimExchange| {
        let (name, url) = (exchange.kind().name(), exchange.base_url());
        format!(
            "[sources.{name}]\nenabled = true\nbase_url = {url:?}\nrequests_per_second = 20\nflat = true\n"
        )
    };
    exchanges.iter().map(section).collect()
}

/// Waits until every source has taken its first answer for known.
fn baselined(engine: &Engine, sources: usize) {
    wait_for("the first answers", || {
        let status = engine.cli_json(&["status"]);
        let live = status["sources"].as_array().unwrap().iter().filter(|s| s["state"] == "live").count();
        live == sources
    });
}

/// Specification, "How it works"; what was there before the first start is no news.
fn a_published_notice_reaches_every_subscriber_once(mode: Mode) {
    let upbit = exchange(Kind::Upbit);
    let engine = Engine::start(mode, &format!("{EXEMPT}{}", polling(&[&upbit])));
    let key = engine.key();
    let mut clients =
        [engine.connect(&key, "fields=full"), engine.connect(&key, "cex=upbit"), engine.connect(&key, "")];
    let mut other = engine.connect(&key, "cex=binance");
    baselined(&engine, 1);
    let title = "토큰예시(TKNX) 신규 거래지원 안내 (KRW, BTC, USDT 마켓)";
    let published = upbit.publish(Draft::new(Category::Listing, title));
    for client in &mut clients {
        let got = client.json_of("announcement");
        assert_eq!((&got["title"], &got["ticker"]), (&json!(title), &json!("TKNX")));
        assert_eq!((&got["publisher"], &got["listingType"]), (&json!("upbit"), &json!("spot_listing")));
        assert_eq!(got["publishTimestampUs"], published.published.0, "when the exchange says");
        assert!(got["detectedTimestampUs"].as_i64() > Some(published.visible.0));
        client.nothing_of("announcement", Duration::from_millis(200));
    }
    other.nothing_of("announcement", Duration::from_millis(50));
}

/// FEED.md, "Added for users", 1: `action` (`created`, `updated`); an edit keeps its id.
fn edits_reach_those_who_see_that_they_are_edits(mode: Mode) {
    let upbit = exchange(Kind::Upbit);
    let engine = Engine::start(mode, &format!("{EXEMPT}{}", polling(&[&upbit])));
    let key = engine.key();
    let (mut full, mut basic) = (engine.connect(&key, "fields=full"), engine.connect(&key, ""));
    baselined(&engine, 1);
    let titles = [
        "토큰예시(TKNX) 신규 거래지원 안내 (KRW 마켓)",
        "토큰예시(TKNX) 신규 거래지원 안내 (KRW 마켓) (거래지원 개시 시점 안내)",
        "토큰예시(TKNX), 다른토큰(ABCX) 신규 거래지원 안내 (KRW 마켓)",
    ];
    let published = upbit.publish(Draft::new(Category::Listing, titles[0]));
    let mut ids = Vec::new();
    for (title, action) in titles.into_iter().zip(["created", "updated", "updated"]) {
        if title != titles[0] {
            upbit.edit(&published.notice_id, title).unwrap();
        }
        let got = full.json_of("announcement");
        assert_eq!((&got["title"], &got["action"]), (&json!(title), &json!(action)), "{got}");
        ids.push(got["id"].clone());
    }
    assert_eq!(ids, vec![json!(format!("upbit:{}", published.notice_id)); 3]);
    let told = [basic.json_of("announcement"), basic.json_of("announcement")];
    let told = told.map(|a| a["title"].clone());
    assert_eq!(
        told,
        [json!(titles[0]), json!(titles[2])],
        "an edit without news would look like a second listing"
    );
    basic.nothing_of("announcement", Duration::from_millis(100));
}

/// What was published while the engine was down and is no longer fresh.
fn late_announcements_are_in_history_and_resumes_only(mode: Mode) {
    let upbit = exchange(Kind::Upbit);
    let config = format!("{EXEMPT}[detect]\nfresh_for = \"1s\"\n{}", polling(&[&upbit]));
    let mut engine = Engine::start(mode, &config);
    let key = engine.key();
    baselined(&engine, 1);
    assert_eq!(engine.stop(), Some(0));
    // It counts in whole seconds, and what was there before the first start is no news.
    std::thread::sleep(Duration::from_secs(1));
    let missed = upbit.publish(Draft::new(Category::Listing, "토큰예시(TKNX) 신규 거래지원 안내 (KRW 마켓)"));
    // Longer than fresh.
    std::thread::sleep(Duration::from_millis(2_200));
    // Nothing to be found until the subscriber is there.
    upbit.set_fault(Fault::Status { code: 503, retry_after_secs: None });
    engine.start_again();
    let mut live = engine.connect(&key, "fields=full");
    upbit.clear_fault();
    wait_for("the late one", || engine.cli_json(&["status"])["feed"]["late"] == 1);
    live.nothing_of("announcement", Duration::from_millis(300));
    let mut resumed = engine.connect(&key, "fields=full&resume=1:0");
    let got = resumed.json_of("announcement");
    assert_eq!((&got["title"], &got["replayed"]), (&json!(missed.title), &json!(true)));
    assert_eq!((&got["epoch"], &got["seq"]), (&json!(2), &json!(1)));
    let history = engine.admin("GET", "/v1/announcements", None);
    assert_eq!(history["announcements"][0]["title"], missed.title);
    engine.inject("upbit", "점검 안내");
    assert_eq!(live.json_of("announcement")["seq"], 2, "and it has its number");
}

/// One order for everybody, whoever publishes.
fn announcements_of_several_sources_come_in_order(mode: Mode) {
    let exchanges = [exchange(Kind::Binance), exchange(Kind::Upbit), exchange(Kind::Bithumb)];
    let all: Vec<&SimExchange> = exchanges.iter().collect();
    let engine = Engine::start(mode, &format!("{EXEMPT}{}[feed]\nwriters = 2\n", polling(&all)));
    let key = engine.key();
    let mut clients: Vec<Client> = (0..6).map(|_| engine.connect(&key, "fields=full")).collect();
    baselined(&engine, 3);
    let mut titles: Vec<String> = Vec::new();
    for round in 0..4 {
        for exchange in &exchanges {
            let burst = (0..2).map(|i| format!("Notice {round}-{i} of {}", exchange.kind().name()));
            for title in burst {
                titles.push(exchange.publish(Draft::new(Category::News, title)).title);
            }
        }
    }
    titles.sort();
    let heard = |client: &mut Client| -> Vec<Value> {
        (1..=titles.len())
            .map(|seq| {
                let got = client.json_of("announcement");
                assert_eq!(got["seq"], seq);
                got["title"].clone()
            })
            .collect()
    };
    let first = heard(&mut clients[0]);
    for client in &mut clients[1..] {
        assert_eq!(heard(client), first);
    }
    let mut sorted: Vec<&str> = first.iter().map(|t| t.as_str().unwrap()).collect();
    sorted.sort_unstable();
    assert_eq!(sorted, titles, "each once");
}

/// FEED.md, "Added for users", 4.
fn source_states_are_told_to_those_who_asked(mode: Mode) {
    let upbit = exchange(Kind::Upbit);
    let engine = Engine::start(mode, &format!("{EXEMPT}{}", polling(&[&upbit])));
    let key = engine.key();
    baselined(&engine, 1);
    let mut asked = engine.connect(&key, "sources=1");
    let mut narrow = engine.connect(&key, "sources=1&cex=binance");
    let mut plain = engine.connect(&key, "");
    upbit.set_fault(Fault::RegionBlock);
    let mut state = |wanted: &str| {
        let got = asked.json_of("source_status");
        assert_eq!(got, json!({"type": "source_status", "source": "upbit.web", "state": wanted}));
    };
    state("blocked");
    upbit.clear_fault();
    state("live");
    for client in [&mut narrow, &mut plain] {
        client.nothing_of("source_status", Duration::from_millis(100));
    }
}
