//! The classifier on the titles of `fixtures/titles`: each rule and each trap, exactly; and on
//! arbitrary text.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::Value;
use tocsin_core::classify::{classify, rule_names};
use tocsin_core::limits;
use tocsin_core::model::{CategoryHint, Classification, Exchange, Lang, ListingType};

const FIXTURES: [(&str, &str, Lang); 6] = [
    ("english", include_str!("../../../fixtures/titles/english.jsonl"), Lang::En),
    ("english_forms", include_str!("../../../fixtures/titles/english_forms.jsonl"), Lang::En),
    ("english_symbols", include_str!("../../../fixtures/titles/english_symbols.jsonl"), Lang::En),
    ("korean", include_str!("../../../fixtures/titles/korean.jsonl"), Lang::Ko),
    ("korean_forms", include_str!("../../../fixtures/titles/korean_forms.jsonl"), Lang::Ko),
    ("chinese", include_str!("../../../fixtures/titles/chinese.jsonl"), Lang::Zh),
];

const HINTS: [CategoryHint; 4] =
    [CategoryHint::None, CategoryHint::Listing, CategoryHint::Delisting, CategoryHint::Other];

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

fn said_of(row: &Value) -> Option<Classification> {
    let exchange = row["exchange"].as_str().and_then(Exchange::parse)?;
    Some(classify(exchange, row["title"].as_str()?, CategoryHint::None))
}

#[test]
fn every_fixture_is_classified_exactly() {
    let mut wrong = Vec::new();
    for (file, text, lang) in FIXTURES {
        for (at, line) in text.lines().enumerate() {
            let row: Value = serde_json::from_str(line).unwrap();
            let said = said_of(&row).expect("exchange and title");
            let tickers: Vec<String> = said.tickers.iter().map(ToString::to_string).collect();
            let markets: Vec<String> =
                said.markets.iter().map(|m| format!("{}/{}", m.base, m.quote)).collect();
            let same = said.listing_type.name() == row["listing_type"]
                && tickers == strings(&row["tickers"])
                && said.rule == row["rule"]
                && said.lang == lang
                && row.get("markets").is_none_or(|expected| strings(expected) == markets);
            if !same {
                wrong.push(format!("{file}:{} {line}\n  said {said:?}", at + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_rule_has_a_fixture_and_a_line_in_the_documentation() {
    let documentation = include_str!("../../../docs/classification.md");
    let lines = FIXTURES.iter().flat_map(|(_, text, _)| text.lines());
    let shown: BTreeSet<String> = lines
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["rule"].as_str().unwrap().to_owned())
        .collect();
    for rule in rule_names() {
        assert!(shown.contains(rule), "no fixture shows {rule}");
        assert!(documentation.contains(&format!("`{rule}`")), "docs/classification.md leaves out {rule}");
    }
    assert!(shown.iter().all(|rule| rule_names().any(|known| known == rule)));
}

#[test]
fn a_hint_moves_confidence_and_nothing_else() {
    let title = "Binance Will List Harbor (HARBR)";
    let confidence = |hint| classify(Exchange::Binance, title, hint).confidence;
    assert!(confidence(CategoryHint::Listing) >= confidence(CategoryHint::None));
    assert!(confidence(CategoryHint::Delisting) < confidence(CategoryHint::None));
    for (_, text, _) in FIXTURES {
        for row in text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
            let exchange = Exchange::parse(row["exchange"].as_str().unwrap()).unwrap();
            let types =
                HINTS.map(|hint| classify(exchange, row["title"].as_str().unwrap(), hint).listing_type);
            assert!(types.iter().all(|t| t.name() == row["listing_type"]), "{row}");
        }
    }
}

/// What holds of any answer.
fn check(said: &Classification) {
    assert!(said.tickers.len() <= limits::TICKERS_PER_ANNOUNCEMENT);
    assert!(said.markets.len() <= limits::MARKETS_PER_ANNOUNCEMENT);
    assert!(said.confidence <= 100);
    let distinct: BTreeSet<_> = said.tickers.iter().collect();
    assert_eq!(distinct.len(), said.tickers.len(), "repeats in {:?}", said.tickers);
    if said.listing_type == ListingType::NotListing {
        assert!(said.tickers.is_empty() && said.markets.is_empty(), "{said:?}");
    }
    assert!(said.markets.iter().all(|m| said.tickers.contains(&m.base) || said.tickers.len() == limits::TICKERS_PER_ANNOUNCEMENT));
    assert!(rule_names().any(|rule| rule == said.rule));
}

fn exchange() -> impl Strategy<Value = Exchange> {
    (0..Exchange::ALL.len()).prop_map(|i| Exchange::ALL[i])
}

/// Titles made of the words, signs and symbols the rules look at.
fn made_up() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        proptest::sample::select(vec![
            "Binance Will List",
            "Delist",
            "Perpetual Contract",
            "USDⓈ-Margined",
            "Coin-Margined",
            "Trading Pairs",
            "for",
            "and",
            "&",
            ",",
            "(",
            ")",
            "((",
            "))",
            "[",
            "】",
            "/",
            "-",
            "$",
            "BTCUSDT",
            "PEBL/USDT",
            "A",
            "币安人生",
            "마켓",
            "원화",
            "신규 거래지원",
            "추가",
            "상장",
            "(KRW, BTC 마켓)",
            "上线",
            "下架",
            "合约",
            "50X",
            "Ⓢ",
            "\u{200b}",
            "（",
            "İ",
            "ß",
        ])
        .prop_map(str::to_owned),
        "[A-Z0-9]{1,12}",
        "\\PC{0,6}",
    ];
    proptest::collection::vec(part, 0..40).prop_map(|parts| parts.join(" "))
}

proptest! {
    #[test]
    fn any_text_is_classified_within_bounds(exchange in exchange(), title in any::<String>()) {
        check(&classify(exchange, &title, CategoryHint::None));
    }

    #[test]
    fn any_title_like_text_is_classified_within_bounds(exchange in exchange(), title in made_up()) {
        check(&classify(exchange, &title, CategoryHint::None));
    }

    #[test]
    fn blanks_do_not_matter(exchange in exchange(), title in made_up()) {
        let spaced = format!("\u{feff}  {}\r\n", title.replace(' ', " \u{a0}"));
        prop_assert_eq!(
            classify(exchange, &title, CategoryHint::None),
            classify(exchange, &spaced, CategoryHint::None)
        );
    }
}

#[test]
fn long_titles_are_bounded() {
    let many = (0..400).map(|i| format!("T{i}")).collect::<Vec<_>>().join(", ");
    let said = classify(Exchange::Binance, &format!("Binance Will Delist {many}"), CategoryHint::None);
    assert_eq!(said.tickers.len(), limits::TICKERS_PER_ANNOUNCEMENT);
    for hostile in
        ["(".repeat(5_000), ")".repeat(5_000), "()".repeat(3_000), "A(".repeat(2_000) + &")".repeat(2_000)]
    {
        check(&classify(Exchange::Okx, &format!("OKX to list {hostile}"), CategoryHint::None));
        check(&classify(Exchange::Upbit, &format!("신규 거래지원 {hostile}"), CategoryHint::None));
    }
}
