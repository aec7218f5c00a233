//! Answers of exchanges, read whole: the fixtures of this repository, mutations of them, and real
//! captures where `TOCSIN_SAMPLES` names a folder that has them.
//!
//! With `TOCSIN_BLESS=1` the expected results are written instead of compared; they are then to be
//! read and judged like any change.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test reads its fixtures, and fails by panic"
)]

mod damage;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use tocsin_core::classify::classify;
use tocsin_core::detect::{Detector, Findings, Outcome};
use tocsin_core::model::{Exchange, Ticker};
use tocsin_core::source::exchange::{ALL, by_config_name};
use tocsin_core::source::{Item, ParseError, Parsed, Scratch, SourceSpec};
use tocsin_core::time::{Mono, Now, WallUs};

use damage::{mutate, mutation};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// The answers among a source's fixtures: everything but the expected results.
fn answers(spec: &SourceSpec) -> Vec<PathBuf> {
    let mut paths = files(&fixtures().join("exchanges").join(spec.config_name));
    paths.retain(|path| !path.to_string_lossy().ends_with(".expected.json"));
    assert!(paths.len() > 5, "fixtures of {} are gone", spec.name);
    paths
}

/// Reads `body`, giving each item as `describe` has it, and checks what holds for every answer.
fn read(
    spec: &SourceSpec,
    scratch: &mut Scratch,
    mut body: Vec<u8>,
    describe: impl Fn(&Item<'_>) -> Value,
) -> Result<(Parsed, Vec<Value>), ParseError> {
    let mut items = Vec::new();
    let result = (spec.parse)(scratch, &mut body, &mut |item| {
        assert!(!item.notice_id.as_str().is_empty() && !item.title.trim().is_empty());
        items.push(describe(item));
    });
    match result {
        Ok(parsed) => {
            assert_eq!(parsed.rows, items.len(), "every row is given once");
            Ok((parsed, items))
        }
        Err(error) => {
            assert!(items.is_empty(), "an unusable answer gives nothing");
            Err(error)
        }
    }
}

fn in_full(item: &Item<'_>) -> Value {
    json!({
        "id": item.notice_id.as_str(),
        "title": item.title,
        "url": item.link.to_url(),
        "hint": format!("{:?}", item.hint),
        "published_us": item.published.map(|at| at.0),
        "modified_us": item.modified.map(|at| at.0),
        "pinned": item.pinned,
    })
}

/// Compares with the expected result in `path`, or writes it when asked to.
fn check(path: &Path, actual: &Value) {
    if std::env::var("TOCSIN_BLESS").is_ok_and(|v| v == "1") {
        let text = serde_json::to_string_pretty(actual).unwrap() + "\n";
        return fs::write(path, text).unwrap();
    }
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let expected: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(actual, &expected, "{}", path.display());
}

#[test]
fn every_fixture_reads_as_expected() {
    let mut scratch = Scratch::default();
    for spec in ALL {
        for path in answers(spec) {
            let actual = match read(spec, &mut scratch, fs::read(&path).unwrap(), in_full) {
                Ok((parsed, items)) => json!({ "skipped": parsed.skipped, "items": items }),
                Err(error) => json!({ "error": error.to_string() }),
            };
            check(&path.with_extension("expected.json"), &actual);
        }
    }
}

/// Captures that answer the requests of these sources, with the source each belongs to.
fn captures(folder: &Path) -> Vec<(&'static SourceSpec, PathBuf)> {
    const LISTS: [(&str, &str); 14] = [
        ("binance_cms_list_", "binance"),
        ("binance_cms_flat_list_", "binance"),
        ("upbit_announcements_", "upbit"),
        ("bithumb_notices_", "bithumb"),
        ("okx_announcements_", "okx"),
        ("bybit_announcements_", "bybit"),
        ("bitget_announcements_", "bitget"),
        ("kucoin_announcements_", "kucoin"),
        ("kucoin_web_cms_", "kucoin"),
        ("cryptocom_announcements_", "cryptocom"),
        ("htx_support_list_", "htx"),
        ("bingx_announcement_", "bingx"),
        ("mexc_help_articles_", "mexc"),
        ("coinone_notice_", "coinone"),
    ];
    let belongs = |path: PathBuf| {
        let name = path.file_name()?.to_str()?.to_owned();
        let (_, source) = LISTS.into_iter().find(|(prefix, _)| name.starts_with(prefix))?;
        Some((by_config_name(source)?, path))
    };
    files(folder).into_iter().filter_map(belongs).collect()
}

/// Identifier, time, type and tickers, but no title: recorded text is not kept here.
fn without_text(exchange: Exchange, item: &Item<'_>) -> Value {
    let class = classify(exchange, item.title, item.hint);
    let tickers: Vec<&str> = class.tickers.iter().map(Ticker::as_str).collect();
    json!({
        "id": item.notice_id.as_str(),
        "published_us": item.published.map(|at| at.0),
        "listing_type": class.listing_type.name(),
        "tickers": tickers,
    })
}

#[test]
fn real_captures_read_as_expected() {
    let Ok(folder) = std::env::var("TOCSIN_SAMPLES") else {
        return println!("TOCSIN_SAMPLES is not set: no captures to read");
    };
    let captures = captures(Path::new(&folder));
    assert!(captures.len() >= 22, "{folder} lacks captures: {captures:?}");
    let mut scratch = Scratch::default();
    for (spec, path) in captures {
        let describe = |item: &Item<'_>| without_text(spec.exchange, item);
        let (parsed, items) = read(spec, &mut scratch, fs::read(&path).unwrap(), describe)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        // Coinone's second row was cut by whoever kept it.
        let cut = usize::from(spec.config_name == "coinone");
        assert_eq!((parsed.skipped, parsed.beyond_limit), (cut, 0), "{}", path.display());
        let name = path.file_name().unwrap();
        check(&fixtures().join("samples-expected").join(name), &Value::Array(items));
    }
    // An article's own page and a stream's frame are other shapes: refused, not read as empty.
    for (name, source) in
        [("binance_cms_detail_63415de5.json", "binance"), ("upbit_ws_announcement_docs.json", "upbit")]
    {
        let spec = by_config_name(source).unwrap();
        let body = fs::read(Path::new(&folder).join(name)).unwrap();
        let refused = read(spec, &mut scratch, body, in_full);
        assert!(matches!(refused, Err(ParseError::Missing(_))), "{name}: {refused:?}");
    }
}

fn any_answer() -> impl Strategy<Value = (&'static SourceSpec, Vec<u8>)> {
    let all: Vec<_> = ALL
        .into_iter()
        .flat_map(|spec| answers(spec).into_iter().map(move |path| (spec, fs::read(path).unwrap())))
        .collect();
    prop::sample::select(all)
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
        for spec in ALL {
            let _ = read(spec, &mut Scratch::default(), body.clone(), in_full);
        }
    }

    /// What passes for unchanged reads the same.
    #[test]
    fn unchanged_bodies_read_the_same(
        (spec, body) in any_answer(),
        edits in prop::collection::vec(mutation(), 0..3),
        digit in (any::<usize>(), b'0'..=b'9'),
    ) {
        let mut other = body.clone();
        // Most likely to hit a counter: one digit becomes another.
        let digits: Vec<usize> = (0..other.len()).filter(|i| other[*i].is_ascii_digit()).collect();
        if let Some(at) = digits.get(digit.0 % digits.len().max(1)) {
            other[*at] = digit.1;
        }
        edits.into_iter().for_each(|edit| mutate(&mut other, edit));
        let mut detector = Detector::new(spec, Duration::from_secs(300));
        let mut findings = Findings::default();
        let now = Now { mono: Mono(0), wall: WallUs::from_secs(1_795_000_000) };
        let _ = detector.on_body(0, &mut body.clone(), now, &mut findings);
        let outcome = detector.on_body(0, &mut other.clone(), now, &mut findings);
        if matches!(outcome, Ok(Outcome::Identical | Outcome::OnlyNoise)) {
            let mut scratch = Scratch::default();
            let items = |body| read(spec, &mut scratch, body, in_full).map(|(_, items)| items);
            let [before, after] = [body, other].map(items);
            // A counter may have become no JSON at all; what was read is unaffected.
            prop_assert!(before == after || after.is_err(), "{:?} {:?}", before, after);
        }
    }

    /// Damaged answers one after the other, through the same scratch and the same detector.
    #[test]
    fn damaged_answers_never_panic(
        (spec, body) in any_answer(),
        rounds in prop::collection::vec(prop::collection::vec(mutation(), 0..4), 1..5),
    ) {
        let mut scratch = Scratch::default();
        let mut detector = Detector::new(spec, Duration::from_secs(300));
        let mut findings = Findings::default();
        for (round, edits) in rounds.into_iter().enumerate() {
            let mut damaged = body.clone();
            edits.into_iter().for_each(|edit| mutate(&mut damaged, edit));
            let read = read(spec, &mut scratch, damaged.clone(), in_full);
            let now = Now { mono: Mono(round as u64), wall: WallUs::from_secs(1_795_000_000) };
            let outcome = detector.on_body(round % spec.lists.len(), &mut damaged, now, &mut findings);
            // Rows of which none can be read are no answer.
            let usable = read.is_ok_and(|(parsed, _)| parsed.rows > 0 || parsed.skipped == 0);
            // Damage within a counter's value is passed over unread.
            prop_assert!(usable == outcome.is_ok() || outcome == Ok(Outcome::OnlyNoise));
        }
    }
}
