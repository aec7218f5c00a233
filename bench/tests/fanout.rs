//! The suite `fanout` at its smallest, with real sockets, TLS and client processes: it shows that the
//! bench works, not how fast anything is.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;

use tocsin_bench::report;
use tocsin_bench::result::{ResultFile, SCHEMA, SuiteResult};
use tocsin_bench::suites::fanout::{Part, What, measure};

fn measured(what: &[What]) -> SuiteResult {
    let parts: Vec<Part> = what.iter().map(|what| Part { what: *what, subscribers: 20, rounds: 5 }).collect();
    let result = measure(Path::new(env!("CARGO_BIN_EXE_tocsin-bench")), 7, &parts).unwrap();
    for missing in &result.missing {
        // One usable core cannot hold two writers; nothing else may be missing.
        assert_eq!(missing.why, "two writers need two cores", "{missing:?}");
    }
    result
}

#[test]
fn plain_and_tls_sides_take_turns_and_everything_is_reported() {
    let result = measured(&[What::Sides { tls: false }, What::Sides { tls: true }]);
    let names: Vec<&str> = result.series.iter().map(|series| series.name.as_str()).collect();
    for kind in ["plain", "tls"] {
        for side in ["engine", "floor"] {
            for measure in ["first", "median", "last", "arrived", "cpu"] {
                let name = format!("{kind}/20/{side}/{measure}");
                assert!(names.contains(&name.as_str()), "{name} is not in {names:?}");
            }
        }
    }
    for series in &result.series {
        assert_eq!(series.histogram().len(), 5, "{}", series.name);
    }
    let targets = result.comparisons.iter().filter(|comparison| comparison.target.is_some()).count();
    assert_eq!(targets, 2);
    let file = ResultFile { schema: SCHEMA, environment: Default::default(), suites: vec![result] };
    let folder = tempfile::tempdir().unwrap();
    report::write(&file, folder.path()).unwrap();
    assert!(folder.path().join("series/fanout-tls-20-engine-last.hgrm").exists());
    assert!(report::text::summary(&file).contains("tls/20 last, engine against floor"));
}

#[test]
fn bursts_and_two_writers() {
    let result = measured(&[What::Burst { tls: false }, What::Burst { tls: true }, What::Writers]);
    let compared: Vec<&str> = result.comparisons.iter().map(|comparison| comparison.name.as_str()).collect();
    for name in [
        "burst-plain/20 last, engine-at-once against engine-one-by-one",
        "burst-tls/20 cpu, floor-one-write against engine-one-by-one",
    ] {
        assert!(compared.contains(&name), "{name} is not in {compared:?}");
    }
    if result.missing.is_empty() {
        assert!(compared.contains(&"writers/20 last, engine-two-writers against engine"), "{compared:?}");
    }
}
