//! Real captures of the exchanges' lists, byte for byte over the wire into the real engine: exactly the
//! announcements of `fixtures/samples-expected` come out, on the feed and in history. `TOCSIN_SAMPLES`
//! names the folder of captures; nothing of their text is kept here.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod harness;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use harness::exchange::{Exchange, history};
use harness::{Engine, Mode};
use serde_json::{Value, json};
use tocsin_sim::{Kind, Options};

/// The captures of lists: each file's first words, and whose it is.
const LISTS: [(&str, Kind); 14] = [
    ("binance_cms_list_", Kind::Binance),
    ("binance_cms_flat_list_", Kind::Binance),
    ("upbit_announcements_", Kind::Upbit),
    ("bithumb_notices_", Kind::Bithumb),
    ("okx_announcements_", Kind::Okx),
    ("bybit_announcements_", Kind::Bybit),
    ("bitget_announcements_", Kind::Bitget),
    ("kucoin_announcements_", Kind::Kucoin),
    ("kucoin_web_cms_", Kind::Kucoin),
    ("cryptocom_announcements_", Kind::Cryptocom),
    ("htx_support_list_", Kind::Htx),
    ("bingx_announcement_", Kind::Bingx),
    ("mexc_help_articles_", Kind::Mexc),
    ("coinone_notice_", Kind::Coinone),
];

fn captures(folder: &Path) -> Vec<(Kind, PathBuf)> {
    let mut found: Vec<(Kind, PathBuf)> = std::fs::read_dir(folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter_map(|path| {
            let name = path.file_name()?.to_str()?;
            let (_, kind) = LISTS.into_iter().find(|(prefix, _)| name.starts_with(prefix))?;
            Some((kind, path))
        })
        .collect();
    found.sort_by(|a, b| a.1.cmp(&b.1));
    found
}

/// A page in the exchange's shape with one old notice that is in no capture: the first answer of a list
/// is taken as known, and an empty one does not count as an answer.
fn page_before(kind: Kind) -> Value {
    match kind {
        Kind::Binance => json!({"code": "000000", "success": true, "data": {"catalogs": [{
            "catalogId": 49, "catalogName": "Latest Binance News", "total": 1,
            "articles": [{"id": 1, "code": "00000000000000000000000000000001", "title": "Before",
                          "type": 1, "releaseDate": 1_500_000_000_000_i64}]}]}}),
        Kind::Upbit => json!({"success": true, "data": {"total_pages": 1, "total_count": 1,
            "fixed_notices": [], "notices": [{"id": 1, "uuid": "1", "title": "Before", "category": "안내",
                "listed_at": "2018-01-01T00:00:00+09:00", "first_listed_at": "2018-01-01T00:00:00+09:00",
                "need_new_badge": false, "need_update_badge": false}]}}),
        Kind::Bithumb => json!([{"categories": ["안내"], "title": "Before",
            "pc_url": "https://feed.bithumb.com/notice/1",
            "published_at": "2018-01-01 00:00:00", "modified_at": "2018-01-01 00:00:00"}]),
        Kind::Okx => json!({"code": "0", "data": [{"details": [{"title": "Before", "annType": "others",
            "url": "https://www.okx.com/help/before", "pTime": "1500000000000"}]}]}),
        Kind::Bybit => {
            json!({"retCode": 0, "result": {"list": [{"title": "Before", "dateTimestamp": 1_500_000_000_000_i64,
            "url": "https://announcements.bybit.com/en-US/article/before/"}]}})
        }
        Kind::Bitget => {
            json!({"code": "00000", "data": [{"annId": "0", "annTitle": "Before", "cTime": "1500000000000"}]})
        }
        Kind::Kucoin => json!({"code": "200000", "data": {"items": [{"annId": 1, "annTitle": "Before",
            "cTime": 1_500_000_000_000_i64}]}}),
        Kind::Cryptocom => json!({"code": 0, "result": {"data": [{"id": "1", "title": "Before",
            "announced_at": 1_500_000_000_000_i64}]}}),
        Kind::Htx => {
            json!({"code": 200, "data": {"list": [{"id": 1, "title": "Before", "showTime": 1_500_000_000_000_i64}]}})
        }
        Kind::Bingx => {
            json!({"code": 0, "data": [{"title": "Before", "url": "https://bingx.com/en/support/articles/1",
            "releaseTime": "2018-01-01T00:00:00+08:00"}]})
        }
        Kind::Mexc => json!({"code": 0, "data": {"results": [{"id": 1, "title": "Before",
            "createdAt": "2018-01-01T00:00:00.000Z"}]}}),
        Kind::Coinone => json!({"count": 1, "results": [{"id": 1, "title": "Before",
            "created_at": "2018-01-01T00:00:00+09:00"}]}),
    }
}

/// What the targets of all lists of an exchange begin with.
fn everything(exchange: &Exchange) -> &'static str {
    let mut targets = exchange.spec.lists.iter().map(|list| list.target);
    let first = targets.next().unwrap();
    targets.fold(first, |common, target| {
        let same = common.bytes().zip(target.bytes()).take_while(|(a, b)| a == b).count();
        &common[..same]
    })
}

/// Identifier, type, tickers and time of an announcement, as in the expected results.
fn told(announcement: &Value) -> Value {
    json!({
        "id": announcement["noticeId"],
        "published_us": announcement["publishTimestampUs"],
        "listing_type": announcement["listingType"],
        "tickers": announcement["tickers"],
    })
}

/// By identifier; the times of notices that carry none are when they were found, so they are left out.
fn by_id(rows: &[Value], timeless: bool) -> BTreeMap<String, Value> {
    let keyed = rows.iter().cloned().map(|mut row| {
        if timeless {
            row["published_us"] = Value::Null;
        }
        (row["id"].as_str().unwrap().to_owned(), row)
    });
    keyed.collect()
}

fn replay(kind: Kind, capture: &Path) {
    let name = capture.file_name().unwrap().to_str().unwrap();
    let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/samples-expected").join(name);
    let expected = std::fs::read(&expected).unwrap_or_else(|e| panic!("{}: {e}", expected.display()));
    let expected: Vec<Value> = serde_json::from_slice(&expected).unwrap();
    let timeless = expected.iter().all(|row| row["published_us"].is_null());
    let expected = by_id(&expected, timeless);
    assert!(!expected.is_empty(), "{name}");

    let exchange = Exchange::start(kind, Options::default());
    exchange.sim.serve_bytes(everything(&exchange), page_before(kind).to_string().into_bytes());
    // Old as they are, they are to be news.
    let extra = format!("{}[detect]\nfresh_for = \"36500days\"\n", exchange.section());
    let engine = Engine::start(Mode::Plain, &extra);
    exchange.baselined(&engine);
    let mut client = engine.connect(&engine.key(), "fields=full");
    exchange.nothing_more(&engine, &mut client);

    exchange.sim.serve_bytes(everything(&exchange), std::fs::read(capture).unwrap());
    let got: Vec<Value> = (0..expected.len()).map(|_| client.json_of("announcement")).collect();
    exchange.nothing_more(&engine, &mut client);
    let rows: Vec<Value> = got.iter().map(told).collect();
    assert_eq!(by_id(&rows, timeless), expected, "{name}");
    assert_eq!(rows.len(), expected.len(), "{name}: each once");
    let published: Vec<i64> = got.iter().map(|a| a["publishTimestampUs"].as_i64().unwrap()).collect();
    assert!(published.is_sorted(), "{name}: oldest first");
    for announcement in &got {
        assert_eq!(announcement["publisher"], kind.exchange().name(), "{name}");
        assert_eq!(announcement["action"], "created", "{name}: {announcement}");
        assert!(!announcement["title"].as_str().unwrap().is_empty(), "{name}: {announcement}");
        // Crypto.com's notices have no page of their own.
        let linked = announcement["url"].as_str().is_some_and(|url| url.starts_with("https://"));
        assert!(linked || kind == Kind::Cryptocom, "{name}: {announcement}");
    }
    // The two markers stand around them.
    let kept = history(&engine, got.len() + 2);
    assert_eq!(kept[1..=got.len()], got, "{name}: history holds what went out");
    // Coinone's second row was cut by whoever kept it.
    let skipped = exchange.status(&engine)["rows_skipped"].as_u64().unwrap();
    assert_eq!(skipped > 0, kind == Kind::Coinone, "{name}");
    assert_eq!(exchange.status(&engine)["failures"], json!({}), "{name}");
}

/// One thread an exchange, a few at a time.
#[test]
fn real_captures_come_out_as_expected() {
    let Ok(folder) = std::env::var("TOCSIN_SAMPLES") else {
        return println!("TOCSIN_SAMPLES is not set: no captures to serve");
    };
    let captures = captures(Path::new(&folder));
    assert!(captures.len() >= 22, "{folder} lacks captures: {captures:?}");
    for kinds in Kind::ALL.chunks(3) {
        std::thread::scope(|scope| {
            for &kind in kinds {
                let captures = &captures;
                scope.spawn(move || {
                    captures.iter().filter(|(of, _)| *of == kind).for_each(|(_, path)| replay(kind, path));
                });
            }
        });
    }
}
