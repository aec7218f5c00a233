//! Answers about instruments and volumes, read whole: the fixtures of this repository, mutations of them,
//! and recorded samples where `TOCSIN_SAMPLES` names a folder that has them.
//!
//! A fixture is called `<what>.<request>.<case>`, below its exchange. With `TOCSIN_BLESS=1` the expected
//! results are written instead of compared; they are then to be read and judged like any change.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test reads its fixtures, and fails by panic"
)]

mod damage;

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};
use tocsin_core::limits;
use tocsin_core::market::exchange::{ALL, OFF_BY_DEFAULT, by_name};
use tocsin_core::market::{MarketRequest, MarketRow, MarketSpec};
use tocsin_core::source::{ParseError, Parsed, Scratch};

use damage::{mutate, mutation};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/markets")
}

/// A fixture and the request it answers.
#[derive(Clone, Debug)]
struct Answer {
    spec: &'static MarketSpec,
    request: &'static MarketRequest,
    path: PathBuf,
}

fn request(spec: &str, request: &str) -> (&'static MarketSpec, &'static MarketRequest) {
    let spec = by_name(spec).unwrap_or_else(|| panic!("no source {spec}"));
    let found = spec.requests.iter().find(|r| r.name == request);
    (spec, found.unwrap_or_else(|| panic!("{} does not ask for {request}", spec.name)))
}

fn answers() -> Vec<Answer> {
    let mut found = Vec::new();
    for folder in fs::read_dir(root()).unwrap() {
        let folder = folder.unwrap().path();
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if name.ends_with(".expected.json") {
                continue;
            }
            let mut parts = name.split('.');
            let (what, asked) = (parts.next().unwrap(), parts.next().unwrap());
            let exchange = folder.file_name().unwrap().to_str().unwrap();
            let (spec, request) = request(&format!("{exchange}.{what}"), asked);
            found.push(Answer { spec, request, path });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Reads `body`, and checks what holds for every answer.
fn read(
    request: &MarketRequest,
    scratch: &mut Scratch,
    mut body: Vec<u8>,
) -> Result<(Parsed, Vec<String>), ParseError> {
    let mut rows = Vec::new();
    let result = (request.parse)(scratch, &mut body, &mut |row| {
        let bounded = |text: &str| (1..=limits::SYMBOL_BYTES).contains(&text.len());
        match &row {
            MarketRow::Instrument(i) => {
                assert!(bounded(i.symbol) && bounded(i.base) && bounded(i.quote), "{i:?}");
                assert!(i.state.len() <= limits::STATE_WORD_BYTES, "{i:?}");
            }
            MarketRow::Volume(v) => {
                assert!(bounded(v.symbol) && v.quote_24h.is_finite() && v.quote_24h >= 0.0, "{v:?}");
                assert!(v.last.is_none_or(|last| last.is_finite() && last > 0.0), "{v:?}");
            }
        }
        rows.push(describe(&row));
    });
    match result {
        Ok(parsed) => {
            assert_eq!(parsed.rows, rows.len(), "every row is given once");
            Ok((parsed, rows))
        }
        Err(error) => {
            assert!(rows.is_empty(), "an unusable answer gives nothing");
            Err(error)
        }
    }
}

/// One row on one line, to be read by people.
fn describe(row: &MarketRow<'_>) -> String {
    match row {
        MarketRow::Instrument(i) => {
            let mut line = format!("{} {}/{} {:?} {:?}", i.symbol, i.base, i.quote, i.kind, i.trading);
            if !i.state.is_empty() {
                line.push_str(&format!(" ({})", i.state));
            }
            for (what, at) in [("opens", i.opens_at), ("closes", i.closes_at)] {
                if let Some(at) = at {
                    line.push_str(&format!(" {what} {}", at.0));
                }
            }
            line
        }
        MarketRow::Volume(v) => {
            let last = v.last.map_or(String::new(), |last| format!(" last {last}"));
            format!("{} volume {}{last}", v.symbol, v.quote_24h)
        }
    }
}

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
    for Answer { request, path, .. } in answers() {
        let actual = match read(request, &mut scratch, fs::read(&path).unwrap()) {
            Ok((parsed, rows)) => json!({ "skipped": parsed.skipped, "rows": rows }),
            Err(error) => json!({ "error": error.to_string() }),
        };
        check(&path.with_extension("expected.json"), &actual);
    }
}

#[test]
fn every_request_has_a_fixture() {
    let answers = answers();
    for spec in ALL.into_iter().chain(OFF_BY_DEFAULT) {
        for request in spec.requests {
            let has = answers.iter().any(|a| a.spec.name == spec.name && a.request.name == request.name);
            assert!(has, "{} {} has none", spec.name, request.name);
        }
    }
}

#[test]
fn a_full_page_with_a_successor_is_not_all_there_is() {
    let (_, linear) = request("bybit.linear", "instruments");
    let page = |count: usize, cursor: &str| {
        let row = |n| {
            json!({ "symbol": format!("T{n}USDT"), "status": "Trading", "baseCoin": format!("T{n}"),
            "quoteCoin": "USDT", "contractType": "LinearPerpetual" })
        };
        let list: Vec<Value> = (0..count).map(row).collect();
        let body = json!({ "retCode": 0, "result": { "list": list, "nextPageCursor": cursor } });
        read(linear, &mut Scratch::default(), body.to_string().into_bytes()).unwrap().0
    };
    assert_eq!(page(1_000, "first%3DT0USDT"), Parsed { rows: 1_000, skipped: 0, beyond_limit: 1 });
    assert_eq!(page(1_000, "").beyond_limit, 0);
    assert_eq!(page(999, "first%3DT0USDT").beyond_limit, 0);
}

#[test]
fn rows_beyond_the_limit_are_counted() {
    let (_, tickers) = request("binance.spot", "tickers");
    let list: Vec<Value> = (0..limits::MARKET_ROWS + 3)
        .map(|n| json!({ "symbol": format!("T{n}USDT"), "quoteVolume": "1" }))
        .collect();
    let body = Value::Array(list).to_string().into_bytes();
    let (parsed, rows) = read(tickers, &mut Scratch::default(), body).unwrap();
    assert_eq!((parsed.rows, parsed.beyond_limit, rows.len()), (limits::MARKET_ROWS, 3, limits::MARKET_ROWS));
}

#[test]
fn markup_is_told_from_damage_everywhere() {
    let mut scratch = Scratch::default();
    for spec in ALL.into_iter().chain(OFF_BY_DEFAULT) {
        for request in spec.requests {
            let mut outcome = |body: &[u8]| read(request, &mut scratch, body.to_vec());
            assert_eq!(outcome(b" <!DOCTYPE html><p>Just a moment</p>"), Err(ParseError::Html));
            assert_eq!(outcome(b" \n"), Err(ParseError::Empty));
            assert!(matches!(outcome(b"{\"data\":[{\"sym"), Err(ParseError::NotJson { .. })));
            for strange in [&b"{}"[..], b"7", b"\"ok\"", b"null", b"[[],[]]", b"{\"data\":{}}"] {
                match outcome(strange) {
                    Err(ParseError::Missing(_) | ParseError::Refused(_)) => {}
                    // A bare array may be a list, of rows that are none.
                    Ok((parsed, rows)) => assert!(rows.is_empty() && parsed.skipped == 2, "{parsed:?}"),
                    other => panic!("{} {}: {other:?}", spec.name, request.name),
                }
            }
        }
    }
}

/// Samples that answer a request of ours, with the part of the file that does and what is read out of it.
const SAMPLES: &[(&str, &str, &str, &str, &[&str])] = &[
    (
        "okx_instruments_preopen.json",
        "",
        "okx.instruments",
        "swap",
        &[
            "JP225-USDT-SWAP JP225/USDT Perpetual Ahead (preopen) opens 1788926400000000",
            "BTC-USDT BTC/USDT Spot Open (live) opens 1606468572000000",
        ],
    ),
    (
        "binance_fapi_exchangeinfo_docs.json",
        "",
        "binance.usdm",
        "instruments",
        &[
            "BLZUSDT BLZ/USDT Perpetual Open (TRADING) opens 1598252400000000",
            "ETHUSD1 ETH/USD1 Perpetual Ahead (PENDING_TRADING) opens 1783069200000000",
        ],
    ),
    (
        "binance_spot_ticker24hr_docs.json",
        "",
        "binance.spot",
        "tickers",
        &["BNBBTC volume 15.3 last 4.000002"],
    ),
    (
        "bybit_instruments_prelaunch_docs.json",
        "",
        "bybit.linear",
        "prelaunch",
        &["BIOUSDT BIO/USDT Perpetual Open (PreLaunch) opens 1735117200000000"],
    ),
    (
        "bitget_spot_symbols_docs.json",
        "",
        "bitget.spot",
        "instruments",
        &["BTCUSDT BTC/USDT Spot Open (online) opens 1532454360000000"],
    ),
    (
        "kucoin_symbols_docs.json",
        "",
        "kucoin.spot",
        "instruments",
        &["BTC-USDT BTC/USDT Spot Open (enableTrading=true)"],
    ),
    (
        "kucoin_alltickers_docs.json",
        "",
        "kucoin.spot",
        "tickers",
        &["BTC-USDT volume 124068431.06726933 last 67193"],
    ),
    (
        "gate_spot_currency_pairs_docs.json",
        "",
        "gate.spot",
        "instruments",
        &["ETH_USDT ETH/USDT Spot Open (tradable) opens 1516378650000000"],
    ),
    (
        "gate_futures_contract_docs.json",
        "",
        "gate.futures",
        "instruments",
        &["BTC_USDT BTC/USDT Perpetual Open (trading) opens 1609899548000000"],
    ),
    (
        "htx_symbols_v2_shape.json",
        "",
        "htx.spot",
        "instruments",
        &[
            "ethusdt ETH/USDT Spot Open (online) opens 1514779200000000",
            "newusdt NEW/USDT Spot Ahead (pre-online) opens 1790668800000000",
        ],
    ),
    (
        "coinbase_advanced_products_docs.json",
        "",
        "coinbase.products",
        "products",
        &["BTC-USD BTC/USD Spot Open (online) opens 1625097600000000", "BTC-USD volume 1908432 last 140.21"],
    ),
    (
        "coinbase_exchange_products_shape.json",
        "",
        "coinbase.exchange",
        "products",
        &["BTC-USD BTC/USD Spot Open (online)"],
    ),
    (
        "upbit_market_all_details_shape.json",
        "",
        "upbit.spot",
        "instruments",
        &["KRW-BTC BTC/KRW Spot Open", "KRW-MANTRA MANTRA/KRW Spot Open (warning)"],
    ),
    (
        "hyperliquid_meta_shape.json",
        "/response",
        "hyperliquid.perpetuals",
        "universe",
        &[
            "BTC BTC/USDC Perpetual Open",
            "NEW NEW/USDC Perpetual Open",
            "DOGE DOGE/USDC Perpetual Over (isDelisted)",
        ],
    ),
    ("mexc_exchangeinfo_docs.json", "", "mexc.spot", "instruments", &["METALUSDT METAL/USDT Spot Open (1)"]),
    (
        "mexc_new_coin_calendar_assembled.json",
        "",
        "mexc.calendar",
        "calendar",
        &["PTBUSDT PTB/USDT Spot Ahead (new_coin_calendar) opens 1756900800000000"],
    ),
    (
        "market_lookup_delisted_20261004.json",
        "/https:~1~1data-api.binance.vision~1api~1v3~1exchangeInfo?symbol=STORJUSDT",
        "binance.spot",
        "instruments",
        &["STORJUSDT STORJ/USDT Spot Halted (BREAK)"],
    ),
];

#[test]
fn recorded_samples_read_as_expected() {
    let Ok(folder) = std::env::var("TOCSIN_SAMPLES") else {
        return println!("TOCSIN_SAMPLES is not set: no samples to read");
    };
    let part = |name: &str, pointer: &str| {
        let text =
            fs::read_to_string(Path::new(&folder).join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        if pointer.is_empty() {
            return text.into_bytes();
        }
        let whole: Value = serde_json::from_str(&text).unwrap();
        let part = whole.pointer(pointer).unwrap_or_else(|| panic!("{name} has no {pointer}"));
        part.to_string().into_bytes()
    };
    let mut scratch = Scratch::default();
    for (name, pointer, spec, asked, want) in SAMPLES {
        let (_, request) = request(spec, asked);
        let (parsed, rows) = read(request, &mut scratch, part(name, pointer)).unwrap();
        assert_eq!((parsed.skipped, parsed.beyond_limit), (0, 0), "{name}");
        assert_eq!(&rows, want, "{name}");
    }
    // An instrument that is gone is a refusal, and a frame of a stream is another shape.
    let (_, okx) = request("okx.instruments", "spot");
    let gone = "/https:~1~1www.okx.com~1api~1v5~1public~1instruments?instType=SPOT&instId=STORJ-USDT";
    let refused = read(okx, &mut scratch, part("market_lookup_delisted_20261004.json", gone));
    assert!(matches!(refused, Err(ParseError::Refused(code)) if code.as_str() == "51001"));
    let (_, kraken) = request("kraken.spot", "instruments");
    let frame = read(kraken, &mut scratch, part("kraken_ws_instrument_docs.json", "/snapshot"));
    assert_eq!(frame, Err(ParseError::Missing("result")));
    let frame = read(okx, &mut scratch, part("okx_instruments_ws_docs.json", "/push"));
    assert_eq!(frame, Err(ParseError::Missing("code")));
}

fn any_answer() -> impl Strategy<Value = (&'static MarketRequest, Vec<u8>)> {
    let all: Vec<_> = answers().into_iter().map(|a| (a.request, fs::read(a.path).unwrap())).collect();
    prop::sample::select(all)
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
        for spec in ALL.into_iter().chain(OFF_BY_DEFAULT) {
            for request in spec.requests {
                let _ = read(request, &mut Scratch::default(), body.clone());
            }
        }
    }

    /// Cut short or damaged, one after the other through the same scratch; also read as what they are not.
    #[test]
    fn damaged_answers_never_panic(
        (request, body) in any_answer(),
        (other, _) in any_answer(),
        rounds in prop::collection::vec(prop::collection::vec(mutation(), 0..4), 1..5),
    ) {
        let mut scratch = Scratch::default();
        for edits in rounds {
            let mut damaged = body.clone();
            edits.into_iter().for_each(|edit| mutate(&mut damaged, edit));
            let _ = read(request, &mut scratch, damaged.clone());
            let _ = read(other, &mut scratch, damaged);
        }
        // The scratch has no memory of damage.
        let fresh = read(request, &mut Scratch::default(), body.clone());
        prop_assert_eq!(read(request, &mut scratch, body), fresh);
    }
}

/// Whatever an exchange leaves empty, the row stays: only names are needed.
#[test]
fn empty_numbers_lose_no_instrument() {
    let named = |rows: &[String]| -> Vec<String> {
        let instruments = rows.iter().filter(|row| !row.contains(" volume "));
        instruments.map(|row| row.split(' ').next().unwrap_or("").to_owned()).collect()
    };
    for Answer { request, path, .. } in answers() {
        let body = fs::read(&path).unwrap();
        let Ok(answer) = serde_json::from_slice::<Value>(&body) else { continue };
        let Ok((_, rows)) = read(request, &mut Scratch::default(), body) else { continue };
        for filler in [json!(""), Value::Null, json!("0"), json!(-1)] {
            let mut emptied = answer.clone();
            empty_numbers(&mut emptied, &filler);
            let body = emptied.to_string().into_bytes();
            let (_, emptied) = read(request, &mut Scratch::default(), body).unwrap();
            let kept = named(&emptied);
            let lost: Vec<String> = named(&rows).into_iter().filter(|name| !kept.contains(name)).collect();
            assert!(lost.is_empty(), "{} {filler}: {lost:?}", path.display());
        }
    }
}

/// Puts `filler` where a number stands, bare or in a string, except in the codes that say "done".
fn empty_numbers(value: &mut Value, filler: &Value) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                let numeric = match field {
                    Value::Number(_) => true,
                    Value::String(text) => text.parse::<f64>().is_ok(),
                    _ => false,
                };
                match key.as_str() {
                    "code" | "retCode" | "status" => {}
                    _ if numeric => *field = filler.clone(),
                    _ => empty_numbers(field, filler),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| empty_numbers(item, filler)),
        _ => {}
    }
}
