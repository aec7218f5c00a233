//! The shipped model against the labelled titles named by the environment variable `TOCSIN_TITLES` (a
//! JSON Lines file): it is what training makes of them, and training holds its targets on titles held
//! out. Without the variable these tests say so and return. Beside them, training on made-up titles.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;

use tocsin_core::classify::classify;
use tocsin_core::model::{CategoryHint, Exchange};
use tocsin_core::score::{Features, HIGHEST, LOWEST, MODEL_BYTES, Model, SHIPPED, fingerprint};
use tocsin_score::titles::Title;
use tocsin_score::{fit, measure, report, titles};

fn labelled() -> Option<(u64, Vec<Title>)> {
    let Some(path) = std::env::var_os("TOCSIN_TITLES") else {
        println!("TOCSIN_TITLES is not set: no labelled titles to train on");
        return None;
    };
    let text = std::fs::read_to_string(path).expect("TOCSIN_TITLES names a readable file");
    Some((fingerprint(text.as_bytes()), titles::read(&text).unwrap()))
}

#[test]
fn the_shipped_model_is_what_training_makes() {
    let Some((fingerprint, titles)) = labelled() else { return };
    let shipped = Model::read(SHIPPED).unwrap();
    if shipped.trained_on() != fingerprint {
        println!("the shipped model was trained on another file of titles: nothing to compare");
        return;
    }
    let model = fit::train(fingerprint, &titles.iter().collect::<Vec<_>>()).unwrap();
    assert_eq!(model.len(), MODEL_BYTES);
    assert!(
        model == SHIPPED,
        "what is scored or how it is trained has changed: run `cargo run -p tocsin-score -- train` and measure again"
    );
}

#[test]
fn scores_hold_their_targets_on_exchanges_and_years_held_out() {
    let Some((_, titles)) = labelled() else { return };
    let report = report::evaluate(&titles).unwrap();
    println!("{}", report.text);
    for (name, scored) in [("exchanges", &report.exchanges), ("time", &report.time)] {
        let (auc, ece) = (measure::auc(scored).unwrap(), measure::ece(scored));
        assert!(auc >= report::AUC_AT_LEAST, "held out by {name}: AUC {auc:.4}");
        assert!(ece <= report::ECE_AT_MOST, "held out by {name}: calibration error {ece:.4}");
    }
}

/// Plain listings and added pairs, two to one, of exchanges that word them alike.
fn made_up() -> String {
    let mut text = String::new();
    for at in 0..60 {
        let symbol = format!("{}{}", ["QUOK", "WOMB", "NUMB"][at % 3], ["A", "B", "C", "D"][at % 4]);
        let (exchange, name) = [("binance", "Binance"), ("bitget", "Bitget")][at % 2];
        // Forms differ, or all of a kind would fall into one fold.
        let when = ["today", "tomorrow", "tonight", "soon", "at noon", "on Monday", "on Friday"][at % 7];
        let (title, ambiguous) = match at % 3 {
            0 => (format!("{name} Adds {symbol}/TRY Trading Pair {when}"), true),
            1 => (format!("{name} Will List Quokka ({symbol}) {when}"), false),
            _ => (format!("{name} Will List Wombat ({symbol}) in the Innovation Zone {when}"), false),
        };
        writeln!(
            text,
            r#"{{"exchange":"{exchange}","title":"{title}","listing_type":"spot_listing","tickers":["{symbol}"],"ambiguous":{ambiguous},"published":"20{}-01-01"}}"#,
            20 + at % 8
        )
        .unwrap();
    }
    text
}

#[test]
fn training_learns_what_is_there_and_always_the_same() {
    let titles = titles::read(&made_up()).unwrap();
    assert_eq!((titles.len(), titles.iter().filter(|title| title.plain).count()), (60, 40));
    let all: Vec<&Title> = titles.iter().collect();
    let bytes = fit::train(7, &all).unwrap();
    assert_eq!(bytes, fit::train(7, &all).unwrap());
    let model = Model::read(&bytes).unwrap();
    assert_eq!(model.trained_on(), 7);
    let score = |title: &str| {
        let said = classify(Exchange::Okx, title, CategoryHint::None);
        model.score(&Features::read(Exchange::Okx, title, &said))
    };
    let (listed, paired) = (score("OKX Will List Bilby (BILB)"), score("OKX Adds BILB/TRY Trading Pair"));
    assert!(listed > 85 && paired < 15, "{listed} and {paired}");
    assert!((LOWEST..=HIGHEST).contains(&listed));
    let report = report::evaluate(&titles).unwrap();
    assert_eq!(report.exchanges.len(), 60);
    assert!(measure::auc(&report.time).unwrap() > 0.99, "{}", report.text);
}

#[test]
fn what_cannot_be_trained_on_is_refused_and_named() {
    let good = made_up();
    let error = |text: &str| titles::read(text).err().unwrap_or_default();
    assert!(error(&format!("{good}not json")).starts_with("line 61: "));
    assert_eq!(
        error(r#"{"exchange":"mtgox","title":"x","listing_type":"not_listing"}"#),
        "line 1: unknown exchange \"mtgox\""
    );
    let titles = titles::read(&good).unwrap();
    let plain: Vec<&Title> = titles.iter().filter(|title| title.plain).collect();
    assert!(fit::train(0, &plain).unwrap_err().contains("both kinds are needed"));
    assert!(fit::train(0, &[]).is_err());
}
