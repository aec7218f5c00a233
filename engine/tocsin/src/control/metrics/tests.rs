//! The schema keeps its own rules, and text and page are made of it.

use std::collections::BTreeMap;

use tocsin_core::source::SourceState;
use tocsin_core::time::WallUs;

use super::*;
use crate::control::snapshot::{
    ByName, MailSnapshot, MarketRequestSnapshot, MarketSnapshot, RecorderSnapshot, SourceSnapshot,
    ThreadSnapshot,
};

/// Everything has a value, so that every family has a sample.
fn readings() -> Readings {
    let mut delay_us = Distribution::default();
    [3, 40_000, 2_000_000].into_iter().for_each(|micros| delay_us.record(micros));
    let source = SourceSnapshot {
        name: "upbit.web",
        state: SourceState::Live,
        last_poll: Some(WallUs(1_700_000_000_250_000)),
        last_item: Some(WallUs(1_700_000_000_000_000)),
        connections: 2,
        requests_per_second: (0.25, 2.0),
        counts: ByName(vec![("polls", 7)]),
        failures: ByName(vec![("timeout", 2)]),
        tls_failures: ByName(vec![("certificate", 1)]),
        processing_us: delay_us.clone(),
        behind_us: delay_us.clone(),
        last_won: Some(WallUs(1_700_000_000_500_000)),
        delay_us,
    };
    let request = MarketRequestSnapshot {
        source: "okx.instruments",
        request: "spot",
        state: "live",
        list: "usual",
        last_answer_us: Some(WallUs::from_secs(1_700_000_001)),
        instruments: 11,
        failures: ByName(vec![("forbidden", 3)]),
        ..MarketRequestSnapshot::default()
    };
    let market = MarketSnapshot {
        requests: vec![request],
        events: ByName(vec![("listing_preview", 12)]),
        ..MarketSnapshot::default()
    };
    let mut engine = Snapshot {
        sources: vec![source],
        market: Some(market),
        mail: Some(MailSnapshot::default()),
        recorder: Some(RecorderSnapshot::default()),
        certificate_not_after: Some(WallUs::from_secs(2_000_000_000)),
        threads: vec![ThreadSnapshot { name: "feed-0".to_owned(), still_us: Some(5), ..Default::default() }],
        ..Snapshot::default()
    };
    engine.feed.closed = ByName(vec![("too_slow", 4)]);
    engine.accept.refused = ByName(vec![("key_revoked", 5)]);
    engine.accept.tls_failed = ByName(vec![("not_tls", 6)]);
    engine.webhooks.failed = ByName(vec![("dns", 8)]);
    let host = Host {
        process: Some(ProcessUse {
            resident_bytes: 1,
            open_descriptors: 2,
            descriptor_limit: Some(3),
            processor_time: std::time::Duration::from_millis(1_500),
            threads: 4,
        }),
        clock: crate::os::timesync::read().ok(),
        store: Some(StoreSize { database: 1, log: 2, free: 3, total: 4 }),
    };
    Readings { engine, host, endpoint_states: Some(vec![("active".to_owned(), 9)]) }
}

#[test]
fn the_copy_in_docs_is_the_page() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let copy = std::fs::read_to_string(root.join("docs/metrics.md")).unwrap_or_default();
    assert!(copy == page::text(), "make it anew: cargo run -p tocsin -- config metrics > docs/metrics.md");
}

#[test]
fn names_follow_the_rules() {
    let mut seen = BTreeSet::new();
    for family in all_families() {
        let name = family.name;
        assert!(seen.insert(name), "{name} is there twice");
        assert!(name.starts_with("tocsin_") && !name.contains("__"), "{name}");
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{name}");
        assert_eq!(family.kind == Kind::Counter, name.ends_with("_total"), "{name}");
        if let Kind::Histogram(_) = family.kind {
            assert!(name.ends_with("_seconds"), "{name}");
        }
        assert!(family.help.ends_with('.') && !family.help.contains('|'), "{name}: {}", family.help);
        for label in family.labels {
            assert!(
                !["key", "account", "endpoint", "address", "ticker", "title", "le"].contains(&label.name)
            );
        }
    }
    assert!(seen.len() > 80, "{}", seen.len());
}

/// name, labels and value of each line that is no comment.
fn samples(text: &str) -> Vec<(String, BTreeMap<String, String>, f64)> {
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.trim_end_matches('}').split(',').filter(|pair| !pair.is_empty());
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap();
            (name.to_owned(), value.trim_matches('"').to_owned())
        };
        (name.to_owned(), labels.map(pair).collect(), value.parse().unwrap())
    };
    text.lines().filter(|line| !line.starts_with('#')).map(sample).collect()
}

#[test]
fn every_family_is_in_the_text_with_labels_that_the_page_lists() {
    let text = render(&readings());
    let samples = samples(&text);
    let names: BTreeSet<String> = samples.iter().map(|(name, ..)| name.clone()).collect();
    assert_eq!(names, series_names());
    for family in all_families() {
        assert!(text.contains(&format!("# HELP {} {}\n", family.name, family.help)), "{}", family.name);
        for (name, labels, _) in samples.iter().filter(|(name, ..)| name == family.name) {
            for label in family.labels.iter().filter(|label| label.closed) {
                assert!((label.values)().contains(&labels[label.name]), "{name} {labels:?}");
            }
        }
    }
}

#[test]
fn values_come_from_the_readings() {
    let text = render(&readings());
    for line in [
        "tocsin_source_polls_total{source=\"upbit.web\"} 7",
        "tocsin_source_state{source=\"upbit.web\",state=\"live\"} 1",
        "tocsin_source_state{source=\"upbit.web\",state=\"down\"} 0",
        "tocsin_source_last_poll_timestamp_seconds{source=\"upbit.web\"} 1700000000.25",
        "tocsin_source_failures_total{source=\"upbit.web\",class=\"timeout\"} 2",
        "tocsin_source_budget_requests_per_second{source=\"upbit.web\",window=\"within\"} 2",
        "tocsin_market_state{source=\"okx.instruments\",request=\"spot\",state=\"live\"} 1",
        "tocsin_market_failures_total{source=\"okx.instruments\",request=\"spot\",class=\"forbidden\"} 3",
        "tocsin_market_instruments{source=\"okx.instruments\",request=\"spot\"} 11",
        "tocsin_market_events_total{event=\"listing_preview\"} 12",
        "tocsin_feed_closes_total{reason=\"too_slow\"} 4",
        "tocsin_webhook_endpoints{state=\"active\"} 9",
        "tocsin_webhook_endpoints{state=\"pending\"} 0",
        "tocsin_process_cpu_seconds_total 1.5",
        "tocsin_certificate_not_after_timestamp_seconds 2000000000",
        "tocsin_thread_still_seconds{thread=\"feed-0\"} 0.000005",
        "tocsin_ready 1",
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line} is not in\n{text}");
    }
    // What is not known is not there: no mail server, no certificate, no disk, no kernel.
    let unknown = render(&Readings::default());
    for absent in [
        "tocsin_mail",
        "tocsin_market",
        "tocsin_recorder",
        "not_after",
        "tocsin_store",
        "tocsin_process_open",
        "tocsin_clock",
        "_endpoints",
    ] {
        assert!(!unknown.contains(absent), "{absent} is in\n{unknown}");
    }
}

#[test]
fn every_count_of_a_source_is_a_metric() {
    use crate::threads::source::stats::Count;
    let mut readings = readings();
    let number = |(i, count): (usize, &Count)| (count.name(), 1_000 + i as u64);
    readings.engine.sources[0].counts = Count::ALL.iter().enumerate().map(number).collect();
    let text = render(&readings);
    for (name, number) in &readings.engine.sources[0].counts.0 {
        assert!(text.contains(&format!("}} {number}\n")), "{name} is in no metric");
    }
}

#[test]
fn a_histogram_counts_exactly_what_its_bounds_say() {
    let mut values = Distribution::default();
    let mut sum = 0;
    // Around every power of two, below, within and above what has buckets of its own.
    let all: Vec<u64> = (0..34).flat_map(|o| [(1u64 << o) - 1, 1 << o, (1 << o) + (1 << o >> 1)]).collect();
    for value in &all {
        values.record(*value);
        sum += value;
    }
    let mut readings = readings();
    readings.engine.feed.fanout_last_ns = values;
    let text = render(&readings);
    let mut buckets = 0;
    for (name, labels, count) in samples(&text) {
        match name.as_str() {
            "tocsin_feed_fanout_last_seconds_bucket" => {
                let bound: f64 = labels["le"].parse().unwrap();
                let below = all.iter().filter(|value| **value as f64 <= (bound * 1e9).round()).count();
                assert_eq!(count as usize, below, "le {bound}");
                buckets += 1;
            }
            "tocsin_feed_fanout_last_seconds_sum" => assert!((count - sum as f64 / 1e9).abs() < 1e-6),
            "tocsin_feed_fanout_last_seconds_count" => assert_eq!(count as usize, all.len()),
            _ => {}
        }
    }
    assert_eq!(buckets, 43);
}
