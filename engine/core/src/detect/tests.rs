//! Detection, rule by rule: what is announced, what is only remembered, what is late.

use core::fmt::Write;
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::source::exchange::{binance, bithumb, upbit};

const FRESH: Duration = Duration::from_secs(300);
/// When the engine was first started, in seconds of the wall clock.
const FIRST_START: i64 = 1_795_000_000;

/// A row as the tests write it: id, title, seconds of publication and of modification.
type Row<'a> = (&'a str, &'a str, i64, i64);

fn utc(secs: i64) -> String {
    // Whole days from FIRST_START's midnight are enough for these tests.
    let (day, second) = (secs.div_euclid(86_400) - 20_775, secs.rem_euclid(86_400));
    assert!((0..10).contains(&day), "{secs} is outside of the tests' days");
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    format!("2026-11-{:02}T{hour:02}:{minute:02}:{:02}Z", 18 + day, second % 60)
}

fn binance_body(rows: &[Row<'_>]) -> String {
    let mut articles = String::new();
    for (id, title, published, _) in rows {
        let comma = if articles.is_empty() { "" } else { "," };
        write!(articles, r#"{comma}{{"code":"{id}","title":"{title}","releaseDate":{published}000}}"#)
            .unwrap();
    }
    format!(
        r#"{{"code":"000000","data":{{"catalogs":[{{"catalogId":48,"total":{},"articles":[{articles}]}}]}}}}"#,
        rows.len() + 2_000
    )
}

fn upbit_rows(rows: &[Row<'_>], badge: bool) -> String {
    let mut notices = String::new();
    for (id, title, published, modified) in rows {
        let comma = if notices.is_empty() { "" } else { "," };
        write!(
            notices,
            r#"{comma}{{"id":{id},"title":"{title}","first_listed_at":"{}","listed_at":"{}","need_new_badge":{badge}}}"#,
            utc(*published),
            utc(*modified),
        )
        .unwrap();
    }
    notices
}

fn upbit_body(rows: &[Row<'_>], fixed: &[Row<'_>], badge: bool) -> String {
    let (rows, fixed) = (upbit_rows(rows, badge), upbit_rows(fixed, false));
    format!(
        r#"{{"success":true,"data":{{"total_count":6590,"notices":[{rows}],"fixed_notices":[{fixed}]}}}}"#
    )
}

/// A detector and its clock, in seconds.
struct Bench {
    detector: Detector,
    secs: i64,
}

#[derive(Debug, Default, PartialEq)]
struct Heard {
    /// Identifier, action and lateness, in the order announced.
    announced: Vec<(String, Action, bool)>,
    /// Identifiers remembered without a word.
    remembered: Vec<String>,
    baselined: bool,
}

impl Bench {
    /// Started at FIRST_START for the first time ever, nothing polled yet.
    fn new(spec: &'static SourceSpec) -> Bench {
        let mut detector = Detector::new(spec, FRESH);
        for list in 0..spec.lists.len() {
            let history = ListHistory { first_start: WallUs::from_secs(FIRST_START), baselined: false };
            detector.load_list(list, history);
        }
        Bench { detector, secs: FIRST_START + 1 }
    }

    /// The same after a restart at `secs`, with what the store would have kept.
    fn restarted(spec: &'static SourceSpec, secs: i64, records: &[SeenRecord]) -> Bench {
        let mut bench = Bench::new(spec);
        for state in &mut bench.detector.lists {
            state.history.baselined = true;
        }
        records.iter().for_each(|record| bench.detector.load_seen(record));
        bench.secs = secs;
        bench
    }

    fn now(&self) -> Now {
        let mono = u64::try_from(self.secs).unwrap() * 1_000_000_000;
        Now { mono: Mono(mono), wall: WallUs::from_secs(self.secs) }
    }

    fn raw(&mut self, list: usize, body: &str) -> (Result<Outcome, ParseError>, Findings) {
        let mut findings = Findings::default();
        self.secs += 1;
        let now = self.now();
        let outcome = self.detector.on_body(list, &mut body.as_bytes().to_vec(), now, &mut findings);
        (outcome, findings)
    }

    fn hear(&mut self, body: &str) -> Heard {
        self.hear_list(0, body)
    }

    fn hear_list(&mut self, list: usize, body: &str) -> Heard {
        let (outcome, findings) = self.raw(list, body);
        outcome.unwrap();
        let id = |record: &SeenRecord| record.notice_id.to_string();
        Heard {
            announced: findings.detected.iter().map(|d| (id(&d.record), d.action, d.late)).collect(),
            remembered: findings.seen.iter().map(id).collect(),
            baselined: findings.baselined,
        }
    }
}

fn created(id: &str) -> (String, Action, bool) {
    (id.to_owned(), Action::Created, false)
}

fn updated(id: &str) -> (String, Action, bool) {
    (id.to_owned(), Action::Updated, false)
}

fn nothing() -> Heard {
    Heard::default()
}

const OLD: Row<'_> = ("a1", "Known", FIRST_START - 9_000, 0);

#[test]
fn the_last_body_is_there_as_it_came_whatever_became_of_it() {
    let mut bench = Bench::new(&upbit::WEB);
    let mut findings = Findings::default();
    let mut give = |bench: &mut Bench, text: &str| {
        let now = Now { mono: Mono(1), wall: WallUs::from_secs(bench.secs) };
        let _ = bench.detector.on_body(0, &mut text.as_bytes().to_vec(), now, &mut findings);
        String::from_utf8(bench.detector.last_body(0).to_vec()).unwrap()
    };
    assert!(bench.detector.last_body(0).is_empty() && bench.detector.last_body(99).is_empty());
    let first = upbit_body(&[("1", "a", FIRST_START, FIRST_START)], &[], false);
    let second = upbit_body(&[("2", "b", FIRST_START, FIRST_START)], &[], false);
    let badge = upbit_body(&[("2", "b", FIRST_START, FIRST_START)], &[], true);
    for text in [&first, &second, &second, &badge, "no json", &badge, &first] {
        assert_eq!(give(&mut bench, text), *text);
    }
}

#[test]
fn the_first_answer_is_taken_as_known() {
    let mut bench = Bench::new(&binance::CMS);
    let body = binance_body(&[("a2", "Also known", FIRST_START - 60, 0), OLD]);
    let heard = bench.hear(&body);
    assert_eq!((heard.announced, heard.baselined), (vec![], true));
    assert_eq!(heard.remembered, ["a2", "a1"]);
    assert_eq!(bench.detector.newest(), Some(WallUs::from_secs(FIRST_START - 60)));
    assert_eq!(bench.raw(0, &body).0, Ok(Outcome::Identical));
}

#[test]
fn a_first_answer_announces_what_came_after_the_first_start() {
    // Killed after the baseline, before it was durable: the list is new again, its start is not.
    let mut bench = Bench::new(&binance::CMS);
    bench.secs = FIRST_START + 1_000;
    let heard = bench.hear(&binance_body(&[
        ("to-come", "Dated tomorrow", FIRST_START + 87_400, 0),
        ("fresh", "Published while dead", FIRST_START + 900, 0),
        ("stale", "Published long while dead", FIRST_START + 100, 0),
        OLD,
    ]));
    assert_eq!(heard.announced, [("stale".to_owned(), Action::Created, true), created("fresh")]);
    assert_eq!(heard.remembered, ["to-come", "a1"]);
}

#[test]
fn an_empty_first_answer_is_no_baseline() {
    let mut bench = Bench::new(&binance::CMS);
    assert_eq!(bench.hear(&binance_body(&[])), nothing());
    let heard = bench.hear(&binance_body(&[OLD]));
    assert_eq!((heard.announced.len(), heard.baselined), (0, true));
}

#[test]
fn new_items_are_announced_once_oldest_first() {
    let mut bench = Bench::new(&binance::CMS);
    bench.hear(&binance_body(&[OLD]));
    let body = binance_body(&[
        ("c", "Third", FIRST_START + 3, 0),
        ("b2", "Second, lower on the page", FIRST_START + 2, 0),
        ("b1", "Second, lowest", FIRST_START + 2, 0),
        ("a", "First", FIRST_START + 1, 0),
        OLD,
    ]);
    let (outcome, findings) = bench.raw(0, &body);
    assert_eq!(outcome, Ok(Outcome::Parsed(Parsed { rows: 5, ..Parsed::default() })));
    let ids: Vec<_> = findings.detected.iter().map(|d| &*d.record.notice_id).collect();
    assert_eq!(ids, ["a", "b1", "b2", "c"]);
    let first = findings.detected.first().unwrap();
    assert_eq!(first.url, "https://www.binance.com/en/support/announcement/a");
    assert_eq!(first.record.fingerprint, fingerprint("First", WallUs::from_secs(FIRST_START + 1)));
    assert_eq!(bench.hear(&body.replace("Third", "Third ")).announced, [updated("c")]);
}

#[test]
fn one_article_in_several_catalogs_is_one_item() {
    let mut bench = Bench::new(&binance::CMS);
    let old = binance_body(&[OLD]);
    (0..3).for_each(|list| drop(bench.hear_list(list, &old)));
    let both = binance_body(&[("x", "In two catalogs", FIRST_START + 2, 0), OLD]);
    assert_eq!(bench.hear_list(1, &both).announced, [created("x")]);
    assert_eq!(bench.hear_list(0, &both), nothing());
    let edited = both.replace("In two", "In both");
    assert_eq!(bench.hear_list(2, &edited).announced, [updated("x")]);
    assert_eq!(bench.hear_list(0, &edited), nothing());
    assert_eq!(bench.hear_list(1, &both.replace("2002", "2003")), nothing(), "an edge that lags");
}

#[test]
fn an_edge_that_lags_does_not_announce_old_versions() {
    let mut bench = Bench::new(&binance::CMS);
    let version = |title: &str| binance_body(&[("x", title, FIRST_START + 2, 0), OLD]);
    bench.hear(&binance_body(&[OLD]));
    assert_eq!(bench.hear(&version("A")).announced, [created("x")]);
    assert_eq!(bench.hear(&version("B")).announced, [updated("x")]);
    // Other bodies in between, so that not only the body is recognised.
    for (round, title) in ["A", "B", "A", "B"].into_iter().enumerate() {
        let rows =
            [("x", title, FIRST_START + 2, 0), OLD, ("y", "Old", FIRST_START - 9_001 - round as i64, 0)];
        let heard = bench.hear(&binance_body(&rows).replace("\"y\"", &format!("\"y{round}\"")));
        assert_eq!(heard.announced, [], "round {round}");
    }
    assert_eq!(bench.hear(&version("C")).announced, [updated("x")]);
    assert_eq!(bench.hear(&version("B")), nothing());
    assert_eq!(bench.hear(&binance_body(&[OLD])), nothing(), "from before it was published");
    assert_eq!(bench.hear(&version("C")), nothing(), "deleted and published again");
}

#[test]
fn the_time_of_an_edit_tells_old_from_new() {
    let mut bench = Bench::new(&upbit::WEB);
    let known = ("1", "Known", FIRST_START - 9_000, FIRST_START - 9_000);
    let version =
        |title, listed| upbit_body(&[("7", title, FIRST_START + 2, FIRST_START + listed), known], &[], false);
    bench.hear(&upbit_body(&[known], &[], false));
    assert_eq!(bench.hear(&version("A", 2)).announced, [created("7")]);
    assert_eq!(bench.hear(&version("A", 60)), nothing(), "listed again, the same title");
    assert_eq!(bench.hear(&version("B", 60)).announced, [updated("7")]);
    assert_eq!(bench.hear(&version("C", 50)), nothing(), "older than what is known");
    assert_eq!(bench.hear(&version("A", 60)), nothing(), "replaced before, and not newer");
    assert_eq!(bench.hear(&version("A", 70)).announced, [updated("7")], "truly changed back");
    assert_eq!(bench.hear(&version("B", 60)), nothing());
    let republished = upbit_body(&[("7", "A", FIRST_START + 80, FIRST_START + 80), known], &[], false);
    assert_eq!(bench.hear(&republished).announced, [updated("7")], "a new time of publication");
}

#[test]
fn badges_and_counters_are_not_read_twice() {
    let mut bench = Bench::new(&upbit::WEB);
    let rows =
        [("7", "A", FIRST_START - 50, FIRST_START - 50), ("6", "B", FIRST_START - 60, FIRST_START - 60)];
    bench.hear(&upbit_body(&rows, &[], true));
    let changed = upbit_body(&rows, &[], false).replace("6590", "6591");
    assert_eq!(bench.raw(0, &changed).0, Ok(Outcome::OnlyNoise));
    assert_eq!(bench.raw(0, &changed).0, Ok(Outcome::Identical));
    let edited = changed.replace("\"B\"", "\"b\"");
    assert!(matches!(bench.raw(0, &edited).0, Ok(Outcome::Parsed(_))));
    assert_eq!(bench.raw(0, &changed).0, Ok(Outcome::Identical), "the page before, from another edge");
}

#[test]
fn old_items_that_come_into_view_are_silent() {
    let mut bench = Bench::new(&upbit::WEB);
    let row = |id, age: i64| (id, "Title", FIRST_START - age, FIRST_START - age);
    bench.hear(&upbit_body(&[row("9", 60), row("8", 90)], &[], false));
    let heard = bench.hear(&upbit_body(&[row("8", 90), row("7", 8_000)], &[row("2", 9_000)], false));
    assert_eq!((heard.announced, heard.remembered), (vec![], vec!["7".to_owned(), "2".to_owned()]));
    bench.secs += 10_000;
    let pinned = ("11", "Pinned days later", FIRST_START + 500, FIRST_START + 500);
    let fresh = ("12", "Pinned at once", FIRST_START + 9_900, FIRST_START + 9_900);
    let heard = bench.hear(&upbit_body(&[row("8", 90)], &[pinned, fresh], false));
    assert_eq!(heard.announced, [created("12")]);
    assert_eq!(heard.remembered, ["11"]);
}

#[test]
fn times_of_publication_decide_what_is_late() {
    let mut bench = Bench::new(&binance::CMS);
    bench.hear(&binance_body(&[OLD]));
    bench.secs = FIRST_START + 1_000;
    let heard = bench.hear(&binance_body(&[
        ("future", "Still to come", FIRST_START + 9_000, 0),
        ("fresh", "Just in time", FIRST_START + 1_001 - 300, 0),
        ("stale", "Found too late", FIRST_START + 1_000 - 300, 0),
        ("lagged", "From before the start", FIRST_START - 1, 0),
        OLD,
    ]));
    let late = ("stale".to_owned(), Action::Created, true);
    assert_eq!(heard.announced, [late, created("fresh"), created("future")]);
    assert_eq!(heard.remembered, ["lagged"]);
}

#[test]
fn an_item_without_a_time_is_news_while_watching_and_late_after_a_gap() {
    let mut bench = Bench::new(&binance::CMS);
    let list = |codes: &[&str]| {
        let rows: Vec<_> = codes.iter().map(|c| format!(r#"{{"code":"{c}","title":"{c}"}}"#)).collect();
        format!(r#"{{"data":{{"articles":[{}]}}}}"#, rows.join(","))
    };
    assert_eq!(bench.hear(&list(&["a"])).remembered, ["a"]);
    assert_eq!(bench.hear(&list(&["b", "a"])).announced, [created("b")]);
    bench.secs += 301;
    let late = ("c".to_owned(), Action::Created, true);
    assert_eq!(bench.hear(&list(&["c", "b", "a"])).announced, [late]);
}

#[test]
fn a_restart_knows_what_was_seen() {
    let mut before = Bench::new(&upbit::WEB);
    let row = |id, title, at: i64, listed: i64| (id, title, FIRST_START + at, FIRST_START + listed);
    let rows = [row("3", "C", -10, -10), row("2", "B", -20, -20), row("1", "A", -30, -30)];
    let (_, findings) = before.raw(0, &upbit_body(&rows, &[], false));
    let mut after = Bench::restarted(&upbit::WEB, FIRST_START + 5_000, &findings.seen);
    let rows = [
        row("5", "Published just now", 4_990, 4_990),
        row("4", "Published while down", 2_000, 2_000),
        row("3", "Edited just now", -10, 4_980),
        row("2", "Edited while down", -20, 1_000),
        row("1", "A", -30, 4_999),
    ];
    let heard = after.hear(&upbit_body(&rows, &[], false));
    assert_eq!(
        heard.announced,
        [
            ("2".to_owned(), Action::Updated, true),
            ("4".to_owned(), Action::Created, true),
            updated("3"),
            created("5"),
        ]
    );
    assert_eq!((heard.remembered.len(), heard.baselined), (0, false));
}

/// An edge of the exchange still serves the page from before an edit when the engine comes back.
#[test]
fn a_restart_knows_the_versions_that_were_replaced() {
    let version = |title: &str| binance_body(&[("x", title, FIRST_START + 2, 0), OLD]);
    let mut before = Bench::new(&binance::CMS);
    let mut announced = Vec::new();
    before.hear(&binance_body(&[OLD]));
    for title in ["A", "B", "C"] {
        let (_, findings) = before.raw(0, &version(title));
        announced.extend(findings.detected.into_iter().map(|found| found.record));
    }
    assert_eq!(announced.len(), 3);
    let mut after = Bench::restarted(&binance::CMS, FIRST_START + 10, announced.get(2..).unwrap());
    for SeenRecord { notice_id, title, published, .. } in &announced {
        after.detector.load_announced(notice_id, title, *published);
    }
    for title in ["B", "A", "C", "A"] {
        let noted = if title == "B" { vec!["a1".to_owned()] } else { vec![] };
        let heard = after.hear(&version(title));
        assert_eq!((heard.announced, heard.remembered), (vec![], noted), "{title}");
    }
    assert_eq!(after.hear(&version("D")).announced, [updated("x")]);
    after.detector.load_announced("not loaded", "A", WallUs(0));
}

#[test]
fn the_second_of_the_first_start_is_not_lost_to_the_baseline() {
    let mut bench = Bench::new(&bithumb::API);
    let start = WallUs(WallUs::from_secs(FIRST_START).0 + 400_000);
    bench.detector.load_list(0, ListHistory { first_start: start, baselined: false });
    let row = |id: u32, at: i64| {
        let at = utc(at).replace('T', " ").replace('Z', "");
        format!(r#"{{"title":"T","pc_url":"https://feed.bithumb.com/notice/{id}","published_at":"{at}"}}"#)
    };
    // Korean time.
    let rows = [row(2, FIRST_START + 9 * 3_600), row(1, FIRST_START + 9 * 3_600 - 1)];
    let heard = bench.hear(&format!("[{}]", rows.join(",")));
    assert_eq!((heard.announced, heard.remembered), (vec![created("2")], vec!["1".to_owned()]));
}

#[test]
fn an_unusable_answer_changes_nothing() {
    let mut bench = Bench::new(&bithumb::API);
    for bad in ["", "<html>", "[", r#"{"error":{"name":"busy"}}"#] {
        let (outcome, findings) = bench.raw(0, bad);
        assert!(outcome.is_err() && !findings.baselined, "{bad:?}");
        assert!(bench.raw(0, bad).0.is_err(), "the same again is no known body");
    }
    let rows = |title: &str| {
        format!(
            r#"[{{"title":"{title}","pc_url":"https://feed.bithumb.com/notice/1","published_at":"2026-11-18 12:00:00"}}]"#
        )
    };
    assert_eq!(bench.hear(&rows("A")).remembered, ["1"]);
    assert!(bench.raw(0, "<html>").0.is_err());
    assert_eq!(bench.raw(0, &rows("A")).0, Ok(Outcome::Identical));
    assert_eq!(bench.raw(7, &rows("B")).0, Ok(Outcome::Identical), "no such list");
}

#[test]
fn more_items_than_the_bound_are_counted_not_read() {
    let mut bench = Bench::new(&binance::CMS);
    let ids: Vec<String> = (0..limits::ITEMS_PER_RESPONSE + 5).map(|n| n.to_string()).collect();
    let rows: Vec<Row<'_>> = ids.iter().map(|id| (&**id, "T", FIRST_START - 5, 0)).collect();
    let (outcome, findings) = bench.raw(0, &binance_body(&rows));
    let parsed = Parsed { rows: limits::ITEMS_PER_RESPONSE, skipped: 0, beyond_limit: 5 };
    assert_eq!(outcome, Ok(Outcome::Parsed(parsed)));
    assert_eq!(findings.seen.len(), limits::ITEMS_PER_RESPONSE);
}

#[test]
fn what_is_on_a_page_is_never_forgotten() {
    let mut bench = Bench::new(&binance::CMS);
    bench.hear_list(1, &binance_body(&[("stays", "On the other list", FIRST_START - 5, 0)]));
    let count = limits::SEEN_ITEMS + 2 * limits::ITEMS_PER_RESPONSE;
    let ids: Vec<String> = (0..count).map(|n| format!("n{n}")).collect();
    for page in ids.chunks(limits::ITEMS_PER_RESPONSE) {
        let rows: Vec<Row<'_>> = page.iter().map(|id| (&**id, "T", FIRST_START - 5, 0)).collect();
        bench.hear(&binance_body(&rows));
    }
    let other = binance_body(&[("stays", "Edited at last", FIRST_START - 5, 0)]);
    assert_eq!(bench.hear_list(1, &other).announced, [updated("stays")]);
    let last = ids.last().unwrap();
    let heard =
        bench.hear(&binance_body(&[(last, "T", FIRST_START - 5, 0), ("n0", "T", FIRST_START - 5, 0)]));
    assert_eq!(heard.announced, [created("n0")], "the longest absent was forgotten, and is fresh");
}

#[test]
fn fingerprints_follow_title_and_time_and_are_fixed() {
    let base = fingerprint("Binance Will List A (A)", WallUs(1));
    assert_eq!(base, fingerprint("Binance Will List A (A)", WallUs(1)));
    assert_ne!(base, fingerprint("Binance Will List A (B)", WallUs(1)));
    assert_ne!(base, fingerprint("Binance Will List A (A)", WallUs(2)));
    // On disk: a change here would make every known item an edited one after an upgrade.
    assert_eq!(fingerprint("", WallUs(0)), 0x2032_dd64_3620_252e);
}

/// What the exchange does, and what we get to see of it.
#[derive(Clone, Copy, Debug)]
enum Step {
    Publish,
    Edit(usize),
    Delete(usize),
    /// Poll an edge that is so many changes behind.
    Poll(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Publish),
        3 => any::<usize>().prop_map(Step::Edit),
        1 => any::<usize>().prop_map(Step::Delete),
        6 => (0_usize..3).prop_map(Step::Poll),
    ]
}

/// An item of the simulated exchange.
#[derive(Clone, Debug)]
struct Notice {
    id: String,
    title: String,
    published: i64,
    modified: i64,
}

fn page_of(spec: &SourceSpec, notices: &[Notice]) -> String {
    let mut rows: Vec<Row<'_>> =
        notices.iter().map(|n| (&*n.id, &*n.title, n.published, n.modified)).collect();
    rows.sort_by_key(|row| -row.3);
    if spec.name == upbit::WEB.name { upbit_body(&rows, &[], false) } else { binance_body(&rows) }
}

proptest! {
    /// Through any publications, edits, deletions and lagging edges: nothing is created twice,
    /// nothing is updated more often than it was edited, and (where edits are dated) what was told
    /// last is the truth.
    #[test]
    fn nothing_is_told_twice_and_nothing_is_missed(
        dated: bool,
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let spec = if dated { &upbit::WEB } else { &binance::CMS };
        let mut bench = Bench::new(spec);
        let known = |n: i64| Notice {
            id: n.to_string(),
            title: format!("Known {n}"),
            published: FIRST_START - 900 + n,
            modified: FIRST_START - 900 + n,
        };
        let mut history = vec![vec![known(1), known(2), known(3)]];
        let mut edits: BTreeMap<String, usize> = BTreeMap::new();
        let mut told: BTreeMap<String, String> =
            history[0].iter().map(|n| (n.id.clone(), n.title.clone())).collect();
        let mut created: Vec<String> = Vec::new();
        bench.hear(&page_of(spec, &history[0]));
        for (number, step) in steps.into_iter().chain([Step::Poll(0)]).enumerate() {
            bench.secs += 1;
            let mut state = history.last().unwrap().clone();
            let count = state.len();
            match step {
                Step::Publish => state.push(Notice {
                    id: (100 + number).to_string(),
                    title: format!("New {number}"),
                    published: bench.secs,
                    modified: bench.secs,
                }),
                Step::Edit(_) | Step::Delete(_) if count == 0 => continue,
                Step::Edit(at) => {
                    let notice = &mut state[at % count];
                    notice.title = format!("Edit {number}");
                    notice.modified = bench.secs;
                    *edits.entry(notice.id.clone()).or_default() += 1;
                }
                Step::Delete(at) => drop(state.remove(at % count)),
                Step::Poll(lag) => {
                    let shown = history.len() - 1 - lag.min(history.len() - 1);
                    let (outcome, findings) = bench.raw(0, &page_of(spec, &history[shown]));
                    prop_assert!(outcome.is_ok());
                    for found in findings.detected {
                        let id = found.record.notice_id.to_string();
                        if found.action == Action::Created {
                            prop_assert!(!created.contains(&id), "{} created twice", id);
                            created.push(id.clone());
                        } else {
                            let left = edits.get_mut(&id).filter(|left| **left > 0);
                            prop_assert!(left.is_some(), "{} updated but not edited", id);
                            *left.unwrap() -= 1;
                        }
                        told.insert(id, found.record.title.into());
                    }
                    continue;
                }
            }
            history.push(state);
        }
        if dated {
            for notice in history.last().unwrap() {
                prop_assert_eq!(told.get(&notice.id), Some(&notice.title));
            }
        }
    }
}

// ---- Reading ahead -----------------------------------------------------------------------------

/// The steps of a thread, one by one: what was found ahead, and what the full reading added.
fn in_steps(bench: &mut Bench, body: &str) -> (Option<Findings>, Findings) {
    bench.secs += 1;
    let (now, mut body) = (bench.now(), body.as_bytes().to_vec());
    let detector = &mut bench.detector;
    let (mut ahead, mut rest) = (Findings::default(), Findings::default());
    if detector.recognise(0, &body, now).is_some() {
        return (None, rest);
    }
    let looked = detector.look_ahead(0, &body, now, &mut ahead);
    assert!(looked || ahead.detected.is_empty() && ahead.seen.is_empty());
    detector.read(0, &mut body, now, &mut rest).unwrap();
    detector.prepare(0);
    (looked.then_some(ahead), rest)
}

#[test]
fn a_new_row_is_found_ahead_of_the_rest_and_only_once() {
    for spec in [&binance::CMS, &upbit::WEB] {
        let body = |rows: &[Row<'_>]| match spec.config_name {
            "binance" => binance_body(rows),
            _ => upbit_body(rows, &[("1", "Pinned", FIRST_START - 9_000, FIRST_START - 9_000)], false),
        };
        let at = FIRST_START + 10;
        let old: Vec<Row<'_>> = ["5", "4", "3", "2"]
            .map(|id| (id, "Known, with } and \\\"", FIRST_START - 100, FIRST_START - 100))
            .into();
        let mut bench = Bench::new(spec);
        assert!(in_steps(&mut bench, &body(&old)).0.is_none(), "nothing to compare with");
        let page = [&[("6", "New", at, at)], &old[..3]].concat();
        let (ahead, rest) = in_steps(&mut bench, &body(&page));
        let ahead = ahead.unwrap();
        assert_eq!(ahead.detected.len(), 1, "{}", spec.name);
        assert_eq!((&*ahead.detected[0].record.notice_id, ahead.detected[0].late), ("6", false));
        assert!(rest.detected.is_empty() && rest.seen.is_empty());
        // An edit of a row that is there is found by the full reading.
        let edited = [&page[..2], &[("4", "Edited", at, at)], &page[3..]].concat();
        let (ahead, rest) = in_steps(&mut bench, &body(&edited));
        assert!(ahead.is_none());
        assert_eq!(rest.detected.len(), 1);
    }
}

#[test]
fn a_rehearsal_reads_a_row_and_changes_nothing() {
    let at = FIRST_START - 100;
    let rows: Vec<Row<'_>> =
        vec![("59", "First, with {\\\"}", at, at), ("48", "Second", at, at), ("37", "Third", at, at)];
    let fixed: [Row<'_>; 1] = [("12", "Pinned", at, at)];
    for (spec, body) in [(&binance::CMS, binance_body(&rows)), (&upbit::WEB, upbit_body(&rows, &fixed, true))]
    {
        let (mut bench, mut title) = (Bench::new(spec), String::new());
        assert!(!bench.detector.rehearse(0, &mut title), "nothing is known yet");
        in_steps(&mut bench, &body);
        for _ in 0..3 {
            assert!(bench.detector.rehearse(0, &mut title), "{}", spec.name);
            assert_eq!(title, "First, with {\"}");
        }
        assert_eq!(bench.raw(0, &body).0, Ok(Outcome::Identical));
        // What was rehearsed with is unknown, were it to come.
        assert!(bench.detector.seen.entry("69").is_none());
        let new = [&[("60", "New", FIRST_START + 5, FIRST_START + 5)], &rows[..2]].concat();
        let body =
            if spec.name == binance::CMS.name { binance_body(&new) } else { upbit_body(&new, &fixed, true) };
        let (ahead, rest) = in_steps(&mut bench, &body);
        assert_eq!(ahead.unwrap().detected.len(), 1);
        assert!(rest.is_empty());
        assert!(!bench.detector.rehearse(7, &mut title), "there is no such list");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Whatever pages follow each other, reading ahead changes nothing of what is found, only when.
    #[test]
    fn reading_ahead_finds_what_reading_finds(
        steps in prop::collection::vec((0_usize..6, 1_usize..4, 0_usize..8, any::<bool>()), 1..24),
    ) {
        let title = |n: i64| ["Plain", "With \\\"quotes\\\", {braces} and [brackets]", "한글 제목 },{"][(n % 3) as usize];
        let (mut ours, mut theirs) = (Bench::new(&upbit::WEB), Bench::new(&upbit::WEB));
        let mut next = 100_i64;
        let mut rows: Vec<(String, String, i64, i64)> = Vec::new();
        for _ in 0..8 {
            next += 1;
            rows.insert(0, (next.to_string(), title(next).to_owned(), FIRST_START - 100, FIRST_START - 100));
        }
        for (kind, count, at, badge) in steps {
            let place = at.min(rows.len() - 1);
            let now = ours.secs;
            match kind {
                // New rows at the top, or further below; the page keeps its length.
                0..=2 => for _ in 0..count {
                    next += 1;
                    let place = if kind == 2 { place } else { 0 };
                    rows.insert(place, (next.to_string(), title(next).to_owned(), now, now));
                    rows.pop();
                },
                3 => {
                    rows[place].1 = format!("Edited {now}");
                    rows[place].3 = now;
                }
                4 => { rows.remove(place); }
                _ => {}
            }
            if rows.is_empty() {
                break;
            }
            let page: Vec<Row<'_>> = rows.iter().map(|r| (&*r.0, &*r.1, r.2, r.3)).collect();
            let body = upbit_body(&page, &[], badge);
            let (first, mut rest) = in_steps(&mut ours, &body);
            let mut found = first.unwrap_or_default();
            found.detected.append(&mut rest.detected);
            found.seen.append(&mut rest.seen);
            let (outcome, whole) = theirs.raw(0, &body);
            outcome.unwrap();
            prop_assert_eq!(found.detected, whole.detected);
            prop_assert_eq!(found.seen, whole.seen);
        }
    }
}
