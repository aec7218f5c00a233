//! When a race announces, on virtual time: at the very instant at which the fastest path alone would.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use tocsin_core::classify::classify;
use tocsin_core::detect::race::{Candidate, Race, Verdict};
use tocsin_core::detect::{Detector, Findings, ListHistory};
use tocsin_core::model::Exchange;
use tocsin_core::source::SourceSpec;
use tocsin_core::source::exchange::upbit;
use tocsin_core::time::{Mono, Now, WallUs};

static MIRROR: SourceSpec = SourceSpec { name: "upbit.mirror", ..upbit::WEB };

/// A path: asked every so often, it shows what was published so long ago or longer.
#[derive(Clone, Copy)]
struct Path {
    spec: &'static SourceSpec,
    every_us: i64,
    first_us: i64,
    lag_us: fn(usize) -> i64,
    ids_from: usize,
}

/// Now the one is ahead, now the other.
const PATHS: [Path; 2] = [
    Path {
        spec: &upbit::WEB,
        every_us: 2_000_000,
        first_us: 0,
        lag_us: |n| (n as i64 * 7_919_000) % 3_000_000,
        ids_from: 100,
    },
    Path {
        spec: &MIRROR,
        every_us: 1_300_000,
        first_us: 170_000,
        lag_us: |n| 3_000_000 - (n as i64 * 7_919_000) % 3_000_000,
        ids_from: 9_000,
    },
];
const START_US: i64 = 1_795_000_000_000_000;
const NOTICES: usize = 200;

fn published_us(notice: usize) -> i64 {
    START_US + 10_000_000 + notice as i64 * 13_370_000
}

/// The page of a path, the newest first: twenty rows.
fn page(path: Path, now_us: i64) -> Vec<u8> {
    let shown = |n: &usize| published_us(*n) + (path.lag_us)(*n) <= now_us;
    let rows: Vec<String> = (0..NOTICES)
        .filter(shown)
        .rev()
        .take(20)
        .map(|n| {
            let at = format!("{}", published_us(n) / 1_000);
            let id = path.ids_from + n;
            format!(
                r#"{{"listed_at":{at},"first_listed_at":{at},"id":{id},"title":"코인(T{n}) 신규 거래지원 안내 (KRW 마켓)","category":"거래"}}"#
            )
        })
        .collect();
    let page = format!(r#"{{"success":true,"data":{{"notices":[{}],"fixed_notices":[]}}}}"#, rows.join(","));
    page.into_bytes()
}

/// When each title is announced with these paths, in virtual microseconds.
fn announced(paths: &[Path]) -> BTreeMap<String, i64> {
    let mut race = Race::new(Exchange::Upbit, paths.iter().map(|path| path.spec.name));
    let mut detectors: Vec<Detector> = paths
        .iter()
        .map(|path| {
            let mut detector = Detector::new(path.spec, Duration::from_secs(60));
            detector.load_list(0, ListHistory { first_start: WallUs(START_US), baselined: true });
            detector
        })
        .collect();
    let mut polls: Vec<(i64, usize)> = paths
        .iter()
        .enumerate()
        .flat_map(|(i, p)| (0..3_000).map(move |n| (START_US + p.first_us + n * p.every_us, i)))
        .collect();
    polls.sort_unstable();
    let mut instants = BTreeMap::new();
    for (at, i) in polls {
        let now = Now { mono: Mono((at - START_US) as u64 * 1_000), wall: WallUs(at) };
        let mut findings = Findings::default();
        detectors[i].on_body(0, &mut page(paths[i], at), now, &mut findings).unwrap();
        for found in findings.detected {
            let classification = classify(Exchange::Upbit, &found.record.title, found.hint);
            let candidate = Candidate { found, classification, received: now.wall, detected: now.wall };
            let mut verdicts = Vec::new();
            race.enter(u8::try_from(i).unwrap(), candidate, &mut verdicts);
            for verdict in verdicts {
                if let Verdict::Announce { candidate, .. } = verdict {
                    let before = instants.insert(candidate.found.record.title.to_string(), at);
                    assert_eq!(before, None, "announced twice");
                }
            }
        }
    }
    instants
}

#[test]
fn a_race_announces_at_the_instant_of_its_fastest_path() {
    let alone = PATHS.map(|path| announced(&[path]));
    let together = announced(&PATHS);
    assert_eq!(together.len(), NOTICES);
    let mut wins = [0, 0];
    for (title, at) in &together {
        let instants = [alone[0][title], alone[1][title]];
        assert_eq!(Some(at), instants.iter().min(), "{title}");
        wins[usize::from(instants[1] < instants[0])] += 1;
    }
    assert!(wins.iter().all(|wins| *wins > NOTICES / 10), "each path is ahead at times: {wins:?}");
}
