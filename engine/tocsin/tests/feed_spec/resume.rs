//! Resume and history.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tocsin::store::{Row, Store};
use tocsin_core::model::{Action, Announcement, Classification, Exchange, FeedPosition, Lang, ListingType};
use tocsin_core::time::WallUs;

use crate::harness::{Engine, Handshake, Mode, wait_for};
use crate::{EXEMPT, LISTING};

both_modes!(
    resume_replays_what_was_missed_then_goes_live,
    resume_reaches_over_a_restart,
    history_is_served_with_the_same_key,
    resume_obeys_filters_and_the_key,
    positions_never_given_out_get_a_gap,
    what_memory_no_longer_holds_is_a_gap,
    resume_marks_nothing_else_and_text_frames_work_too,
    history_is_the_same_on_the_admin_listener,
    history_queries_are_limited_and_name_what_is_wrong,
);

/// FEED.md, "Added for users", 2.
fn resume_replays_what_was_missed_then_goes_live(mode: Mode) {
    let engine = Engine::start(mode, "");
    let key = engine.key();
    let mut first = engine.connect(&key, "fields=full");
    for i in 1..=5 {
        engine.inject("binance", &format!("Announcement {i}"));
    }
    let second = (1..=2).map(|_| first.json()).last().unwrap();
    drop(first);
    let mut resumed =
        engine.connect(&key, &format!("fields=full&resume={}:{}", second["epoch"], second["seq"]));
    for seq in 3..=5 {
        let got = resumed.json();
        assert_eq!((got["seq"].as_i64(), got["replayed"].as_bool()), (Some(seq), Some(true)), "{got}");
    }
    engine.inject("binance", "Announcement 6");
    let live = resumed.json();
    assert_eq!((live["seq"].as_i64(), live.get("replayed")), (Some(6), None), "{live}");
}

/// Resume works across restarts: history is loaded from the store.
fn resume_reaches_over_a_restart(mode: Mode) {
    let mut engine = Engine::start(mode, "");
    let key = engine.key();
    for i in 1..=3 {
        engine.inject("upbit", &format!("Announcement {i}"));
    }
    assert_eq!(engine.stop(), Some(0));
    engine.start_again();
    engine.inject("upbit", "Announcement 4");
    let mut resumed = engine.connect(&key, "fields=full&resume=1:1");
    let got: Vec<(Value, Value)> =
        (0..3).map(|_| resumed.json()).map(|v| (v["epoch"].clone(), v["title"].clone())).collect();
    assert_eq!(
        got,
        [
            (json!(1), json!("Announcement 2")),
            (json!(1), json!("Announcement 3")),
            (json!(2), json!("Announcement 4"))
        ]
    );
}

/// FEED.md, "`GET /v1/announcements`".
fn history_is_served_with_the_same_key(mode: Mode) {
    let engine = Engine::start(mode, "");
    let (_, key) =
        engine.key_with(&["--tier", "basic", "--max-connections", "9", "--allowed-cex", "binance,upbit"]);
    for (exchange, title) in [("binance", LISTING), ("bithumb", "Not for this key"), ("upbit", "Another")] {
        engine.inject(exchange, title);
    }
    let get = |query: &str, key: &str| {
        let mut request =
            Handshake::new("").target(&format!("/v1/announcements{query}")).header("X-API-Key", key);
        request.headers.retain(|(n, _)| n == "Host" || n == "X-API-Key");
        request.refused(&engine)
    };
    let all = get("", &key);
    assert_eq!(all.status, 200);
    let titles = |response: &Handshake| -> Vec<String> {
        let body = response.json();
        body["announcements"]
            .as_array()
            .unwrap()
            .iter()
            .map(|a| a["title"].as_str().unwrap().into())
            .collect()
    };
    assert_eq!(titles(&all), [LISTING, "Another"]);
    assert_eq!(titles(&get("?after=1:1", &key)), ["Another"]);
    assert_eq!(titles(&get("?cex=upbit", &key)), ["Another"]);
    assert_eq!(titles(&get("?type=spot_listing", &key)), [LISTING]);
    assert_eq!(titles(&get("?limit=1", &key)), ["Another"], "without `after` the newest");
    assert_eq!(titles(&get("?after=1:0&limit=1", &key)), [LISTING]);
    assert_eq!(get("?limit=many", &key).status, 400);
    assert_eq!(get("", "").status, 401);
    assert_eq!(get("", "dsk_x").status, 403);
}

/// FEED.md, "Added for users", 2 and 3.
fn resume_obeys_filters_and_the_key(mode: Mode) {
    let engine = Engine::start(mode, EXEMPT);
    let narrow = crate::basic_key(&engine, &["--allowed-cex", "binance,upbit"]);
    for (exchange, title) in
        [("binance", LISTING), ("upbit", "점검 안내"), ("bithumb", "점검 안내"), ("binance", "Maintenance")]
    {
        engine.inject(exchange, title);
    }
    let rows: [(&str, &[i64]); 6] = [
        ("resume=1:0", &[1, 2, 4]),
        ("resume=1:2", &[4]),
        ("resume=0:99", &[1, 2, 4]),
        ("resume=1:0&cex=upbit,bithumb", &[2]),
        ("resume=1:0&types=spot_listing", &[1]),
        ("resume=1:0&tickers=TKNX", &[1]),
    ];
    for (query, seqs) in rows {
        let mut client = engine.connect(&narrow, &format!("fields=full&{query}"));
        for seq in seqs {
            let got = client.json();
            assert_eq!((&got["seq"], &got["replayed"]), (&json!(seq), &json!(true)), "{query}");
        }
        client.nothing_of("announcement", Duration::from_millis(50));
    }
}

/// FEED.md: "where history no longer reaches, a `gap` says so"; a position of another server proves
/// nothing.
fn positions_never_given_out_get_a_gap(mode: Mode) {
    let engine = Engine::start(mode, EXEMPT);
    let key = engine.key();
    let mut early = engine.connect(&key, "resume=9:9");
    engine.inject("binance", LISTING);
    assert_eq!(early.json()["type"], "announcement", "nothing was missed, so there is no gap");
    engine.inject("upbit", "점검 안내");
    let gap = json!({"type": "gap", "fromSeq": 1, "toSeq": 2, "epoch": 1, "toEpoch": 1});
    for position in ["1:3", "2:0", "77:7", "18446744073709551615:18446744073709551615"] {
        let mut client = engine.connect(&key, &format!("fields=full&resume={position}"));
        assert_eq!(client.json(), gap, "{position}");
        client.nothing_of("announcement", Duration::from_millis(50));
    }
    for malformed in ["1", "1:", ":1", "1:-1", "1:2:3", "a:b", "18446744073709551616:0"] {
        let refusal = engine.try_connect(&key, &format!("resume={malformed}")).err().unwrap();
        assert_eq!(refusal.status, 400, "{malformed}");
    }
}

/// A data directory whose history is longer than memory.
fn long_history(count: u64) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(&dir.path().join("data")).unwrap();
    let epoch = store.next_epoch().unwrap();
    let now = WallUs(jiff::Timestamp::now().as_microsecond());
    let announcement = |seq: u64| Announcement {
        id: format!("upbit:{seq}"),
        position: FeedPosition { epoch, seq },
        exchange: Exchange::Upbit,
        title: format!("Notice {seq}"),
        classification: Classification {
            listing_type: ListingType::NotListing,
            tickers: Vec::new(),
            markets: Vec::new(),
            rule: "test",
            confidence: 99,
            lang: Lang::En,
        },
        action: Action::Created,
        late: false,
        url: String::new(),
        notice_id: seq.to_string(),
        source: "upbit.web".to_owned(),
        published: now,
        received: now,
        detected: now,
        classified: now,
        effective_at: None,
    };
    let all: Vec<Announcement> = (1..=count).map(announcement).collect();
    let rows: Vec<Row<'_>> =
        all.iter().map(|a| Row::Announcement { announcement: a, dispatched: Some(now) }).collect();
    store.commit(&rows).unwrap();
    dir
}

/// The same, on the last 4,096 announcements of 4,200.
fn what_memory_no_longer_holds_is_a_gap(mode: Mode) {
    let engine = Engine::start_in(long_history(4_200), mode, EXEMPT);
    let key = engine.key();
    let mut client = engine.connect(&key, "fields=full&resume=1:50");
    assert_eq!(client.json(), json!({"type": "gap", "fromSeq": 51, "toSeq": 104, "epoch": 1, "toEpoch": 1}));
    for seq in 105..=4_200 {
        let got = client.json();
        assert_eq!((&got["seq"], &got["replayed"]), (&json!(seq), &json!(true)));
    }
    engine.inject("binance", LISTING);
    let live = client.json();
    assert_eq!((&live["epoch"], &live["seq"], live.get("replayed")), (&json!(2), &json!(1), None));

    let get = |query: &str| history(&engine, query, &key).json();
    let page = get("?after=1:50&limit=2");
    assert_eq!(
        page["gap"],
        json!({"fromSeq": 51, "toSeq": 105, "epoch": 1, "toEpoch": 1}),
        "one more by now"
    );
    assert_eq!(page["next"], "1:107");
    assert_eq!(get("?after=1:4199")["announcements"].as_array().unwrap().len(), 2);
    // On disk there is all of it.
    let header = format!("X-API-Key: {key}\r\n");
    let (_, page) = engine.admin_as("GET", "/v1/announcements?after=1:50&limit=2", &header, None);
    assert_eq!((&page["announcements"][0]["seq"], &page["gap"]), (&json!(51), &Value::Null));
}

/// FEED.md: "marked `\"replayed\":true`".
fn resume_marks_nothing_else_and_text_frames_work_too(mode: Mode) {
    let engine = Engine::start(mode, "");
    let key = engine.key();
    let mut live = engine.connect(&key, "");
    engine.inject("binance", LISTING);
    let before = live.payload();
    let mut resumed = engine.connect(&key, "frames=text&resume=1:0");
    let frame = resumed.frame().unwrap();
    assert_eq!(frame.opcode, 1);
    let marked = format!(r#"{},"replayed":true}}"#, before.strip_suffix('}').unwrap());
    assert_eq!(String::from_utf8(frame.payload).unwrap(), marked, "the dispatch time is the first one");
}

fn history(engine: &Engine, query: &str, key: &str) -> Handshake {
    let mut request =
        Handshake::new("").target(&format!("/v1/announcements{query}")).header("X-API-Key", key);
    request.headers.retain(|(n, _)| n == "Host" || n == "X-API-Key");
    request.refused(engine)
}

/// FEED.md: "serves history with the same key"; the administrator sees all.
fn history_is_the_same_on_the_admin_listener(mode: Mode) {
    let engine = Engine::start(mode, "");
    let key = crate::basic_key(&engine, &["--allowed-cex", "binance,upbit"]);
    for (exchange, title) in [("binance", LISTING), ("bithumb", "점검 안내"), ("upbit", "점검 안내")]
    {
        engine.inject(exchange, title);
    }
    let path = |query: &str| format!("/v1/announcements{query}");
    let header = format!("X-API-Key: {key}\r\n");
    let both = |query: &str| {
        let stored = || engine.admin_as("GET", &path(query), &header, None).1;
        let memory = history(&engine, query, &key).json();
        wait_for("the journal", || {
            stored()["announcements"] == memory["announcements"] && stored()["gap"] == memory["gap"]
        });
        [memory, stored()]
    };
    for query in ["", "?after=1:1", "?cex=upbit", "?type=spot_listing", "?limit=1"] {
        both(query);
    }
    // Memory passes over what is not the key's and the store does not: `next` leads on in either.
    for next in both("?after=1:0&limit=1").map(|page| page["next"].as_str().unwrap().to_owned()) {
        let [page, _] = both(&format!("?after={next}&limit=1"));
        assert_eq!(page["announcements"][0]["seq"], 3, "{page}");
    }
    let (status, body) = engine.admin_as("GET", &path(""), "", None);
    assert_eq!((status, &body["error"]), (401, &json!("missing_api_key")));
    let wrong = format!("X-API-Key: dsk_{}\r\n", "0".repeat(64));
    assert_eq!(engine.admin_as("GET", &path(""), &wrong, None).0, 403);
    let all = engine.admin("GET", &path(""), None);
    assert_eq!(all["announcements"].as_array().unwrap().len(), 3, "with the admin token");
}

/// History has its own limit, so that nobody polls it instead of listening.
fn history_queries_are_limited_and_name_what_is_wrong(mode: Mode) {
    let engine = Engine::start(mode, "");
    let key = engine.key();
    for (query, detail) in [
        ("?limit=0", "limit takes 1 to 500"),
        ("?limit=501", "limit takes 1 to 500"),
        ("?after=x", "after takes EPOCH:SEQ"),
        ("?type=x", "type takes"),
    ] {
        let refusal = history(&engine, query, &key);
        assert_eq!(refusal.status, 400, "{query}");
        assert!(refusal.json()["detail"].as_str().unwrap().starts_with(detail), "{query}");
    }
    let empty = history(&engine, "", &key);
    assert_eq!(empty.body, r#"{"announcements":[],"next":null,"gap":null}"#);
    assert_eq!(empty.response_header("Content-Type"), Some("application/json"));
    for n in 1..60 {
        assert_eq!(history(&engine, "", &key).status, 200, "{n}");
    }
    let limited = history(&engine, "", &key);
    assert_eq!((limited.status, &limited.json()["error"]), (429, &json!("ip_rate_limited")));
    assert_eq!(limited.json()["limit"], 60);
    assert!(limited.response_header("Retry-After").is_some());
    assert!(engine.try_connect(&key, "").is_ok(), "the feed is not history");
}
