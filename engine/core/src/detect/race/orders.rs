//! Any order of arrivals: up to three paths, edits, replays, baselines, restarts with and without what was
//! last to be saved. What is announced must be what an onlooker of all paths would announce.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};

use super::*;
use crate::detect::fingerprint;
use crate::model::{Announcement, CategoryHint, FeedPosition, Lang, Ticker};

const PATHS: [&str; 3] = ["x.list", "x.stream", "x.mirror"];
const MINUTE_US: i64 = 60_000_000;
const START: WallUs = WallUs(1_795_000_000_000_000);

/// What one notice says, version by version.
#[derive(Clone, Debug)]
struct Plan {
    listing_type: ListingType,
    /// Of each version.
    tickers: Vec<Vec<&'static str>>,
}

#[derive(Clone, Copy, Debug)]
enum Op {
    /// A path comes to show the version so many after the one it shows (the last one there is).
    Show { path: u8, notice: usize, further: usize },
    /// A path without memory of it shows again what it shows.
    Replay { path: u8, notice: usize },
    /// A path that does not have the notice yet finds it among what it takes as known.
    Baseline { path: u8, notice: usize },
    /// The engine starts anew; `lost`: without the confirmation that came last.
    Restart { lost: bool },
}

#[derive(Clone, Debug)]
struct World {
    plans: Vec<Plan>,
    ops: Vec<Op>,
    /// Whether the exchange says when a notice was changed.
    dated: bool,
    /// The third path words everything in another language.
    translated: bool,
}

fn plan(notice: usize) -> impl Strategy<Value = Plan> {
    // Tickers of their own: notices that tell the same are the matter of `twins`.
    let own: &'static [[&str; 3]] =
        &[["AA", "AB", "AC"], ["BA", "BB", "BC"], ["CA", "CB", "CC"], ["DA", "DB", "DC"]];
    let names = own[notice % own.len()];
    let types = prop_oneof![
        Just(ListingType::SpotListing),
        Just(ListingType::FuturesDelisting),
        Just(ListingType::NotListing)
    ];
    (types, prop::collection::vec(0_usize..3, 1..5)).prop_map(move |(listing_type, growth)| {
        let mut count = 1;
        let tickers = growth.into_iter().map(|more| {
            count = (count + usize::from(more == 2)).min(3);
            if listing_type == ListingType::NotListing { Vec::new() } else { names[..count].to_vec() }
        });
        Plan { listing_type, tickers: tickers.collect() }
    })
}

fn worlds() -> impl Strategy<Value = World> {
    let op = prop_oneof![
        6 => (0_u8..3, 0_usize..4, 0_usize..3).prop_map(|(path, notice, further)| Op::Show { path, notice, further }),
        1 => (0_u8..3, 0_usize..4).prop_map(|(path, notice)| Op::Replay { path, notice }),
        1 => (0_u8..3, 0_usize..4).prop_map(|(path, notice)| Op::Baseline { path, notice }),
        1 => any::<bool>().prop_map(|lost| Op::Restart { lost }),
    ];
    let plans = (plan(0), plan(1), plan(2), plan(3)).prop_map(|(a, b, c, d)| vec![a, b, c, d]);
    (plans, prop::collection::vec(op, 1..40), any::<bool>(), any::<bool>()).prop_map(
        |(plans, mut ops, dated, translated)| {
            let translated = dated && translated;
            // After a restart nothing tells which of its edits a translation is.
            ops.retain(|op| !translated || !matches!(op, Op::Restart { .. }));
            World { plans, ops, dated, translated }
        },
    )
}

/// What the store keeps of a path's item.
#[derive(Clone, Debug)]
struct Saved {
    version: usize,
    record: SeenRecord,
    classification: Classification,
    notice: Option<Box<str>>,
}

/// The paths' detectors, the store and the onlooker.
struct Bench<'w> {
    world: &'w World,
    race: Option<Race>,
    now: WallUs,
    /// Version each path's detector knows.
    shown: BTreeMap<(u8, usize), usize>,
    history: Vec<Announcement>,
    saved: BTreeMap<(u8, usize), Saved>,
    /// What the store had before the last confirmation.
    unsaved: Option<((u8, usize), Option<Saved>)>,
    /// Versions of each notice that went out, ever and in this run: times of change are not stored.
    told: BTreeMap<usize, Vec<usize>>,
    dated: BTreeMap<usize, Vec<usize>>,
    ids: BTreeMap<usize, Box<str>>,
}

impl Bench<'_> {
    fn classification(&self, path: u8, notice: usize, version: usize) -> Classification {
        let plan = &self.world.plans[notice];
        Classification {
            listing_type: plan.listing_type,
            tickers: plan.tickers[version].iter().filter_map(|t| Ticker::new(t)).collect(),
            markets: Vec::new(),
            rule: "none",
            confidence: 50,
            lang: if self.translated(path) { Lang::Ko } else { Lang::En },
        }
    }

    fn translated(&self, path: u8) -> bool {
        self.world.translated && path == 2
    }

    fn candidate(&self, path: u8, notice: usize, version: usize, action: Action) -> Candidate {
        let words = format!("Notice {notice} as it was written {version}");
        let title = match path {
            0 => words,
            _ if self.translated(path) => format!("공지 {notice} 수정 {version}"),
            1 => format!("[Trade]  {}", words.to_uppercase()),
            _ => words.replace(' ', "  ") + ".",
        };
        // The list cuts times to seconds; the others have milliseconds of their own.
        let offset = [0, 400_000, 999_000][usize::from(path)];
        let published = WallUs(START.0 + i64::try_from(notice).unwrap() * 3 * MINUTE_US + offset);
        let modified = WallUs(published.0 + i64::try_from(version).unwrap() * 5_000_000);
        let record = SeenRecord {
            source: PATHS[usize::from(path)],
            notice_id: format!("{path}-{notice}").into(),
            fingerprint: fingerprint(&title, published),
            title: title.into(),
            published,
        };
        let found = Detected {
            record,
            modified: self.world.dated.then_some(modified),
            // What names no ticker is known under other words by its address alone.
            url: match self.world.plans[notice].listing_type {
                ListingType::NotListing => format!("https://x{path}.com/notice?id={}", 500 + notice),
                _ => String::new(),
            },
            hint: CategoryHint::None,
            action,
            late: false,
        };
        let classification = self.classification(path, notice, version);
        Candidate { found, classification, received: self.now, detected: self.now }
    }

    fn shows(&mut self, path: u8, notice: usize, version: usize, action: Action) -> Result<(), String> {
        self.now.0 += 1_000_000;
        let candidate = self.candidate(path, notice, version, action);
        let told = self.told.get(&notice).cloned().unwrap_or_default();
        let news = {
            let listed: Vec<_> = told.iter().flat_map(|v| &self.world.plans[notice].tickers[*v]).collect();
            self.world.plans[notice].tickers[version].iter().any(|ticker| !listed.contains(&ticker))
        };
        let newest = self.dated.get(&notice).and_then(|versions| versions.iter().max());
        let expected = match newest.filter(|_| self.world.dated) {
            _ if told.contains(&version) => false,
            Some(newest) => version > *newest,
            // Where no time says which is the newer, what a path shows first may be the older.
            None => told.is_empty() || action != Action::Created || news,
        };
        let mut verdicts = Vec::new();
        match &mut self.race {
            Some(race) => race.enter(path, candidate, &mut verdicts),
            None => {
                let notice = candidate.found.record.notice_id.clone();
                verdicts.push(Verdict::Announce { candidate, notice, action });
            }
        }
        self.shown.insert((path, notice), version);
        let [verdict] = <[Verdict; 1]>::try_from(verdicts).map_err(|all| format!("{all:?}"))?;
        let place = (path, notice);
        match verdict {
            Verdict::Announce { candidate, notice: id, action: as_what } if expected => {
                let first = self.ids.entry(notice).or_insert_with(|| id.clone());
                let edit = !told.is_empty() || action != Action::Created;
                let right = match (edit, news) {
                    (false, _) => as_what == Action::Created,
                    // What a baseline told is known.
                    _ if told.is_empty() => as_what != Action::Created,
                    (true, false) => as_what == Action::Updated,
                    (true, true) => as_what.is_news(),
                };
                if !right || *first != id {
                    return Err(format!("{notice}/{version} by {path} as {as_what:?} of {id}, not {first}"));
                }
                self.told.entry(notice).or_default().push(version);
                self.dated.entry(notice).or_default().push(version);
                self.save(candidate, id, as_what, version, place);
                Ok(())
            }
            Verdict::Confirms { record, notice: id, .. } if !expected => {
                let classification = self.classification(path, notice, version);
                let saved = Saved { version, record, classification, notice: Some(id) };
                self.unsaved = Some((place, self.saved.insert(place, saved)));
                Ok(())
            }
            other => Err(format!("{notice}/{version} by {path} after {told:?}: {other:?}")),
        }
    }

    fn save(
        &mut self,
        candidate: Candidate,
        id: Box<str>,
        action: Action,
        version: usize,
        place: (u8, usize),
    ) {
        let Candidate { found, classification, received, detected } = candidate;
        let record = found.record;
        self.history.push(Announcement {
            id: format!("okx:{id}"),
            position: FeedPosition::default(),
            exchange: Exchange::Okx,
            title: record.title.to_string(),
            classification: classification.clone(),
            action,
            late: found.late,
            url: found.url,
            notice_id: record.notice_id.to_string(),
            source: record.source.to_owned(),
            published: record.published,
            received,
            detected,
            classified: detected,
            effective_at: None,
        });
        let notice = (id != record.notice_id).then_some(id);
        // An announcement is in shared memory, and with it the item.
        self.unsaved = self.unsaved.take().filter(|(of, _)| *of != place);
        self.saved.insert(place, Saved { version, record, classification, notice });
    }

    fn restart(&mut self, lost: bool) {
        if let Some(((path, notice), before)) = self.unsaved.take().filter(|_| lost) {
            match before {
                Some(saved) => self.saved.insert((path, notice), saved),
                None => self.saved.remove(&(path, notice)),
            };
        }
        self.dated.clear();
        self.shown = self.saved.iter().map(|(place, saved)| (*place, saved.version)).collect();
        if self.race.is_some() {
            let mut race = Race::new(Exchange::Okx, PATHS);
            self.history.iter().for_each(|a| race.load_announced(a));
            for ((path, _), saved) in &self.saved {
                race.load_seen(*path, &saved.record, &saved.classification, saved.notice.as_deref());
            }
            self.race = Some(race);
        }
    }

    fn step(&mut self, op: Op) -> Result<(), String> {
        match op {
            Op::Show { path, notice, further } => {
                let last = self.world.plans[notice].tickers.len() - 1;
                match self.shown.get(&(path, notice)).copied() {
                    None => self.shows(path, notice, further.min(last), Action::Created),
                    Some(version) if further > 0 && version < last => {
                        self.shows(path, notice, (version + further).min(last), Action::Updated)
                    }
                    Some(_) => Ok(()),
                }
            }
            Op::Replay { path, notice } => match self.shown.get(&(path, notice)).copied() {
                // What is in a baseline only is new to a path that has no memory.
                Some(version) if self.told.contains_key(&notice) => self.replays(path, notice, version),
                _ => Ok(()),
            },
            Op::Baseline { path, notice } if !self.shown.contains_key(&(path, notice)) => {
                let record = self.candidate(path, notice, 0, Action::Created).found.record;
                let classification = self.classification(path, notice, 0);
                let known = self.race.as_mut().and_then(|race| race.know(path, &record, &classification));
                self.shown.insert((path, notice), 0);
                let saved = Saved { version: 0, record, classification, notice: known };
                self.saved.insert((path, notice), saved);
                Ok(())
            }
            Op::Baseline { .. } => Ok(()),
            Op::Restart { lost } => {
                self.restart(lost);
                Ok(())
            }
        }
    }

    /// A path shows again, as new, the version it shows.
    fn replays(&mut self, path: u8, notice: usize, version: usize) -> Result<(), String> {
        let candidate = self.candidate(path, notice, version, Action::Created);
        let Some(race) = &mut self.race else { return Err("announced again".to_owned()) };
        let mut verdicts = Vec::new();
        race.enter(path, candidate, &mut verdicts);
        match verdicts.as_slice() {
            [Verdict::Confirms { .. }] => Ok(()),
            other => Err(format!("{notice}/{version} again by {path}: {other:?}")),
        }
    }
}

fn play(world: &World, race: Option<Race>) -> Result<(), String> {
    let mut bench = Bench {
        world,
        race,
        now: START,
        shown: BTreeMap::new(),
        history: Vec::new(),
        saved: BTreeMap::new(),
        unsaved: None,
        told: BTreeMap::new(),
        dated: BTreeMap::new(),
        ids: BTreeMap::new(),
    };
    world.ops.iter().try_for_each(|op| bench.step(*op))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn every_order_announces_each_notice_and_each_edit_once(world in worlds()) {
        let played = play(&world, Some(Race::new(Exchange::Okx, PATHS)));
        prop_assert!(played.is_ok(), "{}", played.unwrap_err());
    }
}

#[test]
fn without_the_race_such_orders_announce_twice() {
    let mut runner = TestRunner::new_with_rng(
        Config { cases: 200, failure_persistence: None, ..Config::default() },
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let played = runner.run(&worlds(), |world| {
        let played = play(&world, None);
        prop_assert!(played.is_ok(), "{}", played.unwrap_err());
        Ok(())
    });
    assert!(matches!(played, Err(TestError::Fail(..))), "{played:?}");
}

#[test]
fn it_forgets_the_first_at_its_bound() {
    let mut race = Race::new(Exchange::Okx, PATHS);
    let classification = Classification {
        listing_type: ListingType::NotListing,
        tickers: Vec::new(),
        markets: Vec::new(),
        rule: "none",
        confidence: 50,
        lang: Lang::En,
    };
    let mut enter = |path: u8, n: usize| {
        let (title, published) =
            (format!("Notice {n}"), WallUs(START.0 + i64::try_from(n).unwrap() * MINUTE_US));
        let record = SeenRecord {
            source: "x",
            notice_id: format!("{path}-{n}").into(),
            fingerprint: fingerprint(&title, published),
            title: title.into(),
            published,
        };
        let found = Detected {
            record,
            modified: None,
            url: String::new(),
            hint: CategoryHint::None,
            action: Action::Created,
            late: false,
        };
        let (classification, received) = (classification.clone(), published);
        let mut verdicts = Vec::new();
        let candidate = Candidate { found, classification, received, detected: published };
        race.enter(path, candidate, &mut verdicts);
        let keys: usize = race.notices.iter().map(|n| n.keys.len()).sum();
        (race.notices.len(), keys == race.index.len(), matches!(verdicts[..], [Verdict::Announce { .. }]))
    };
    for n in 0..=limits::RACE_NOTICES {
        assert_eq!(enter(0, n), ((n + 1).min(limits::RACE_NOTICES), true, true));
    }
    assert_eq!(enter(1, 9), (limits::RACE_NOTICES, true, false));
    assert_eq!(enter(1, 0), (limits::RACE_NOTICES, true, true), "forgotten");
}

#[test]
fn addresses_differ_in_host_and_language_only() {
    use super::notice::address_key;
    let same = [
        "https://www.gate.com/announcements/article/48211",
        "https://www.gate.io/ko/announcements/article/48211/",
        "https://gate.com/article/48211?lang=en",
    ];
    assert!(same.iter().all(|url| address_key(url).is_some() && address_key(url) == address_key(same[0])));
    assert_ne!(address_key("https://www.gate.com/article/48212"), address_key(same[0]));
    for nothing in ["", "https://x.com", "https://x.com/announcements", "https://x.com/a/1"] {
        assert_eq!(address_key(nothing), None, "{nothing}");
    }
}
