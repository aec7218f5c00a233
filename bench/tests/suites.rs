//! Every suite with the smallest sizes that show it works: real processes, real sockets, no figure judged.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use tocsin_bench::engine::set_program;
use tocsin_bench::result::SuiteResult;
use tocsin_bench::suites::{control, detect, memory, soak, storm, webhook, wire};

fn program() {
    set_program(Path::new(env!("CARGO_BIN_EXE_tocsin-bench")));
}

/// Every series holds something and every figure is a number.
fn check(result: &SuiteResult, series: &[&str], figures: &[&str]) {
    for wanted in series {
        let found = result.series.iter().find(|s| s.name == *wanted);
        let found = found.unwrap_or_else(|| panic!("no series {wanted}: {:?}", names(result)));
        assert!(!found.values.is_empty(), "{wanted} is empty");
    }
    for wanted in figures {
        assert!(result.figures.iter().any(|f| f.name == *wanted), "no {wanted}: {:?}", names(result));
    }
    for figure in &result.figures {
        assert!(figure.value.is_finite(), "{} is {}", figure.name, figure.value);
    }
}

fn names(result: &SuiteResult) -> Vec<&str> {
    let series = result.series.iter().map(|s| s.name.as_str());
    series.chain(result.figures.iter().map(|f| f.name.as_str())).collect()
}

#[test]
fn wire() {
    let sizes =
        wire::Sizes { rounds: 1, announcements: 3, subscribers: vec![2], idle: Duration::from_millis(1) };
    let result = wire::measure(&sizes, 1).unwrap();
    for kind in ["binance", "upbit", "bithumb"] {
        for tls in ["plain", "tls"] {
            let stem = format!("one thread/{kind}/{tls}/2");
            check(&result, &[&format!("{stem}/body to first write"), &format!("{stem}/2 classify")], &[]);
        }
    }
}

#[test]
fn memory() {
    program();
    let sizes = memory::Sizes { counts: vec![20], rounds: 1, settle: Duration::from_millis(200) };
    let result = memory::measure(&sizes).unwrap();
    check(&result, &[], &["plain/20/idle subscriber", "tls/20/idle subscriber"]);
}

#[test]
fn webhook() {
    program();
    let sizes = webhook::Sizes {
        latency: vec![1, 3],
        events: 2,
        interval: Duration::from_millis(20),
        beside: webhook::Beside { good: 3, hung: 4, events: 25, interval: Duration::from_millis(5) },
        throughput: (3, Duration::from_millis(300)),
        recovery: (5, 50),
        store: (3, 3),
    };
    let result = webhook::measure(&sizes).unwrap();
    check(
        &result,
        &["latency/1/first", "latency/3/last", "beside/tcp/alone/first byte", "beside/http/hung/first byte"],
        &[
            "beside/http/whole run/p99 ratio",
            "throughput/3/deliveries",
            "recovery/50/ready after",
            "store/3x3/start, nothing waiting",
        ],
    );
}

#[test]
fn storm() {
    program();
    let sizes = storm::Sizes {
        clients: 20,
        live: 3,
        storms: 1,
        quiet: Duration::from_millis(500),
        interval: Duration::from_millis(20),
        handshakes: (1, Duration::from_millis(300)),
    };
    let result = storm::measure(&sizes).unwrap();
    check(
        &result,
        &["latency/shared/from due/quiet", "handshakes/full/engine/rate", "handshakes/resumed/engine/rate"],
        &["latency/shared/from detected/storm full/max"],
    );
    // One storm of each kind: everybody came, and with a ticket only in the second.
    for (how, resumed) in [(0, 0), (1, 20)] {
        let came = &result.settings["storms_shared"][how];
        assert_eq!((came["done"].as_u64(), came["resumed"].as_u64()), (Some(20), Some(resumed)), "{came}");
    }
}

#[test]
fn control() {
    program();
    let sizes = control::Sizes {
        live: 3,
        rounds: 1,
        // Long enough for more than the limit lets through from clients that give way to everything else.
        round: Duration::from_millis(1_200),
        interval: Duration::from_millis(20),
        rate: 400,
    };
    let result = control::measure(&sizes).unwrap();
    check(
        &result,
        &["control/shared/requests/quiet", "control/shared/killed/troubled"],
        &["control/shared/requests/whole run/p99 ratio"],
    );
    let came = result.settings["flood_shared"].as_array().unwrap();
    assert!(came.iter().all(|round| round["clients"]["sent"].as_u64() > Some(0)), "{came:?}");
    assert!(came[0]["clients"]["limited"].as_u64() > Some(0), "{came:?}");
}

#[test]
fn detect() {
    program();
    let race = detect::RaceSizes { rate: 40.0, publications: 20, stretch: Duration::from_millis(50) };
    let sizes = detect::Sizes { starts: 2, publications: 2_000, races: vec![race] };
    let nothing_installed = tempfile::tempdir().unwrap();
    let result = detect::measure(&sizes, nothing_installed.path(), 1).unwrap();
    check(
        &result,
        &["race/40/engine/delay", "race/40/reqwest/delay", "simulated/upbit/uniform/flat"],
        &["race/40/engine/requests", "race/40/mean delay, engine over reqwest"],
    );
    assert!(result.missing.iter().any(|m| m.what == "aiohttp"), "{:?}", result.missing);
}

/// A soak of seconds: everybody gets everything through resets, refusals and readers that do not read. Endpoints
/// do not fail, for the first retry comes half a minute later.
#[test]
fn soak() {
    program();
    let sizes = soak::Sizes {
        staying: 10,
        coming: 5,
        deaf: 2,
        endpoints: 3,
        failing: 0,
        lasts: Duration::from_secs(6),
        cycle: Duration::from_secs(2),
        interval: Duration::from_millis(250),
        burst: 2,
        sample: Duration::from_millis(250),
        history: 20,
    };
    let result = soak::measure(&sizes, 1).unwrap();
    check(
        &result,
        &["soak/feed latency", "soak/webhook latency"],
        &["faults injected", "memory/resident, last third over first", "deliveries accepted"],
    );
    let figure = |name: &str| result.figures.iter().find(|f| f.name == name).unwrap().value;
    assert!(figure("faults injected") >= 12.0 && figure("notices published") >= 20.0);
    for none in ["promises broken", "notices nobody heard", "events not accepted by every endpoint"] {
        assert!(figure(none) == 0.0, "{none}: {:?}", result.notes);
    }
    assert!(figure("deliveries accepted") >= figure("notices published") * 3.0);
    let tracks: Vec<&str> = result.tracks.iter().map(|track| track.name.as_str()).collect();
    for wanted in ["descriptors/open", "feed latency/p50", "memory/resident", "webhook latency/p99"] {
        assert!(tracks.contains(&wanted), "{wanted} is not in {tracks:?}");
    }
}
