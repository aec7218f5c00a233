//! Cases of the race, one by one.

use tocsin_core::classify::classify;
use tocsin_core::detect::race::{Candidate, Race, Verdict};
use tocsin_core::detect::{Detected, SeenRecord, fingerprint};
use tocsin_core::model::{Action, CategoryHint, Exchange, Lang};
use tocsin_core::time::WallUs;

const LIST: u8 = 0;
const STREAM: u8 = 1;
const T0: WallUs = WallUs(1_795_000_000_000_000);

fn race() -> Race {
    Race::new(Exchange::Upbit, ["upbit.web", "upbit.stream"])
}

/// An item of a path: its identifier, its title, and when it was published and found, in seconds.
fn item(id: &str, title: &str, published: i64, found: i64) -> Candidate {
    let published = WallUs(T0.0 + published * 1_000_000);
    let found = WallUs(T0.0 + found * 1_000_000);
    let record = SeenRecord {
        source: "x",
        notice_id: id.into(),
        title: title.into(),
        fingerprint: fingerprint(title, published),
        published,
    };
    Candidate {
        classification: classify(Exchange::Upbit, title, CategoryHint::None),
        found: Detected {
            record,
            modified: None,
            url: String::new(),
            hint: CategoryHint::None,
            action: Action::Created,
            late: false,
        },
        received: found,
        detected: found,
    }
}

fn edited(candidate: Candidate) -> Candidate {
    let found = Detected { action: Action::Updated, ..candidate.found };
    Candidate { found, ..candidate }
}

/// What is announced as what, or confirmed; as text.
fn enter(race: &mut Race, path: u8, candidate: Candidate) -> String {
    let mut verdicts = Vec::new();
    race.enter(path, candidate, &mut verdicts);
    let told: Vec<String> = verdicts
        .into_iter()
        .map(|verdict| match verdict {
            Verdict::Announce { candidate, notice, action } => {
                format!("{} is {notice} {action:?}", candidate.found.record.notice_id)
            }
            Verdict::Confirms { record, notice, behind_us } => {
                format!("{} confirms {notice} {behind_us:?}", record.notice_id)
            }
        })
        .collect();
    told.join(", ")
}

const ABC: &str = "에이비씨(ABC) 신규 거래지원 안내 (KRW 마켓)";

#[test]
fn the_first_path_announces_and_the_other_confirms_under_its_identifier() {
    let mut race = race();
    assert_eq!(enter(&mut race, STREAM, item("u1", &format!("[거래] {ABC}"), 0, 1)), "u1 is u1 Created");
    assert_eq!(enter(&mut race, LIST, item("7", ABC, 0, 3)), "7 confirms u1 Some(2000000)");
    assert_eq!(enter(&mut race, LIST, item("7", ABC, 0, 4)), "7 confirms u1 None", "shown again");
    assert_eq!(enter(&mut race, STREAM, item("u1", ABC, 0, 5)), "u1 confirms u1 None");
}

#[test]
fn an_edit_keeps_the_first_identifier_whichever_path_brings_it() {
    let mut race = race();
    enter(&mut race, STREAM, item("u1", ABC, 0, 1));
    enter(&mut race, LIST, item("7", ABC, 0, 3));
    let moved = format!("{ABC} (거래지원 개시 시점 변경 안내)");
    assert_eq!(enter(&mut race, LIST, edited(item("7", &moved, 0, 60))), "7 is u1 Updated");
    assert_eq!(enter(&mut race, STREAM, edited(item("u1", &moved, 0, 61))), "u1 confirms u1 Some(1000000)");
    let more = "에이비씨(ABC), 데프(DEF) 신규 거래지원 안내 (KRW 마켓)";
    assert_eq!(enter(&mut race, STREAM, edited(item("u1", more, 0, 90))), "u1 is u1 UpdatedWithNews");
    assert_eq!(enter(&mut race, LIST, edited(item("7", more, 0, 92))), "7 confirms u1 Some(2000000)");
}

#[test]
fn a_ticker_added_before_the_other_path_has_shown_anything() {
    let more = "에이비씨(ABC), 데프(DEF) 신규 거래지원 안내 (KRW 마켓)";
    let mut race = race();
    enter(&mut race, LIST, item("7", ABC, 0, 1));
    assert_eq!(enter(&mut race, LIST, edited(item("7", more, 0, 10))), "7 is 7 UpdatedWithNews");
    assert_eq!(enter(&mut race, STREAM, item("u1", ABC, 0, 11)), "u1 confirms 7 Some(10000000)");
    assert_eq!(enter(&mut race, STREAM, edited(item("u1", more, 0, 12))), "u1 confirms 7 Some(2000000)");

    // The other path never shows the original, and is the first with the addition.
    let mut race = crate::race();
    enter(&mut race, LIST, item("7", ABC, 0, 1));
    assert_eq!(enter(&mut race, STREAM, item("u1", more, 0, 2)), "u1 is 7 UpdatedWithNews");
    assert_eq!(enter(&mut race, LIST, edited(item("7", more, 0, 3))), "7 confirms 7 Some(1000000)");
}

#[test]
fn two_items_of_one_path_are_two_notices() {
    let other = "에이비씨(ABC) 디지털 자산 신규 거래지원 안내 (BTC 마켓)";
    let mut race = race();
    assert_eq!(enter(&mut race, LIST, item("7", ABC, 0, 1)), "7 is 7 Created");
    assert_eq!(enter(&mut race, LIST, item("8", other, 120, 121)), "8 is 8 Created");
    assert_eq!(enter(&mut race, LIST, item("9", ABC, 180, 181)), "9 is 9 Created", "even with one title");
    assert_eq!(enter(&mut race, STREAM, item("u8", other, 120, 182)), "u8 confirms 8 Some(61000000)");
    assert_eq!(enter(&mut race, STREAM, item("u7", ABC, 0, 183)), "u7 confirms 7 Some(182000000)");
    assert_eq!(enter(&mut race, STREAM, item("u9", ABC, 180, 184)), "u9 confirms 9 Some(3000000)");
}

#[test]
fn a_wrong_confirmation_gives_way_and_its_notice_is_announced() {
    // Two notices tell the same within minutes, and one path shows the second of them first.
    let other = "에이비씨(ABC) 디지털 자산 신규 거래지원 안내 (BTC 마켓)";
    let mut race = race();
    enter(&mut race, LIST, item("7", ABC, 0, 1));
    assert_eq!(enter(&mut race, STREAM, item("u8", other, 120, 121)), "u8 confirms 7 Some(120000000)");
    assert_eq!(
        enter(&mut race, STREAM, item("u7", ABC, 0, 122)),
        "u7 confirms 7 Some(121000000), u8 is u8 Created"
    );
    assert_eq!(enter(&mut race, LIST, item("8", other, 120, 123)), "8 confirms u8 Some(2000000)");

    // The other path shows the second one meanwhile.
    let mut race = crate::race();
    enter(&mut race, LIST, item("7", ABC, 0, 1));
    enter(&mut race, STREAM, item("u8", other, 120, 121));
    assert_eq!(enter(&mut race, LIST, item("8", other, 120, 122)), "8 is 8 Created");
    let (seven, eight) = ("u7 confirms 7 Some(122000000)", "u8 confirms 8 Some(0)");
    assert_eq!(enter(&mut race, STREAM, item("u7", ABC, 0, 123)), format!("{seven}, {eight}"));
}

#[test]
fn other_words_within_the_window_are_one_notice_and_after_it_another() {
    let english = "Market Support for Alphabet(ABC) (KRW Market)";
    let mut translated = item("e7", english, 5, 595);
    translated.classification = item("7", ABC, 0, 0).classification;
    translated.classification.lang = Lang::En;
    let mut late = translated.clone();
    let mut race = race();
    enter(&mut race, LIST, item("7", ABC, 0, 1));
    assert_eq!(enter(&mut race, STREAM, translated), "e7 confirms 7 Some(594000000)");

    let mut race = crate::race();
    enter(&mut race, LIST, item("7", ABC, 0, 1));
    (late.detected, late.received) = (WallUs(T0.0 + 700_000_000), WallUs(T0.0 + 700_000_000));
    late.found.record.published = late.detected;
    assert_eq!(enter(&mut race, STREAM, late), "e7 is e7 Created");
}

#[test]
fn identity_knows_no_window() {
    let hours = 5 * 3_600;
    let mut race = race();
    enter(&mut race, LIST, item("7", ABC, 0, 1));
    assert_eq!(enter(&mut race, STREAM, item("u7", ABC, 0, hours)), "u7 confirms 7 Some(17999000000)");
    // By address: whatever title and times say.
    let mut first = item("20", "안내 하나", 0, 1);
    first.found.url = "https://www.upbit.com/service_center/notice?id=898944907&view=share".into();
    let mut second = item("898944907", "[안내] 안내 둘", 3 * hours, 4 * hours);
    second.found.url = "https://upbit.com/service_center/notice?id=898944907".into();
    enter(&mut race, LIST, first);
    assert!(enter(&mut race, STREAM, second).starts_with("898944907 confirms 20"));
}

#[test]
fn what_lists_nothing_merges_by_its_title_alone() {
    let (one, two) = ("입출금 일시 중단 안내", "점검 안내");
    let mut race = race();
    assert_eq!(enter(&mut race, LIST, item("7", one, 0, 1)), "7 is 7 Created");
    assert_eq!(enter(&mut race, STREAM, item("u8", two, 0, 2)), "u8 is u8 Created");
    assert_eq!(
        enter(&mut race, STREAM, item("u7", &format!("[안내] {one}"), 9, 3)),
        "u7 confirms 7 Some(2000000)"
    );
    assert_eq!(
        enter(&mut race, STREAM, item("u9", one, 86_400, 86_401)),
        "u9 is u9 Created",
        "the next day's"
    );
}

#[test]
fn a_notice_that_becomes_a_listing_by_an_edit_is_one_for_both() {
    let mut race = race();
    enter(&mut race, LIST, item("7", "에이비씨 관련 안내", 0, 1));
    assert_eq!(
        enter(&mut race, STREAM, item("u7", ABC, 0, 50)),
        "u7 is u7 Created",
        "nothing joins them yet"
    );
    assert_eq!(enter(&mut race, LIST, edited(item("7", ABC, 0, 60))), "7 confirms 7 Some(59000000)");
    let moved = format!("{ABC} (변경)");
    assert_eq!(enter(&mut race, STREAM, edited(item("u7", &moved, 0, 70))), "u7 is 7 Updated");
    assert_eq!(enter(&mut race, LIST, edited(item("7", &moved, 0, 71))), "7 confirms 7 Some(1000000)");
}

#[test]
fn a_path_in_time_makes_news_of_what_another_found_too_late() {
    let mut late = item("7", ABC, 0, 100);
    late.found.late = true;
    let mut race = race();
    assert_eq!(enter(&mut race, LIST, late.clone()), "7 is 7 Created");
    assert_eq!(enter(&mut race, STREAM, item("u7", ABC, 99, 101)), "u7 is 7 UpdatedWithNews");
    let mut race = crate::race();
    enter(&mut race, STREAM, item("u7", ABC, 99, 101));
    assert_eq!(enter(&mut race, LIST, late), "7 confirms u7 None");
}

#[test]
fn a_time_edited_under_one_title_goes_out_once() {
    let mut race = race();
    enter(&mut race, LIST, item("7", ABC, 0, 1));
    enter(&mut race, STREAM, item("u7", ABC, 0, 2));
    assert_eq!(enter(&mut race, STREAM, edited(item("u7", ABC, 300, 310))), "u7 is 7 Updated");
    assert_eq!(enter(&mut race, LIST, edited(item("7", ABC, 300, 312))), "7 confirms 7 Some(2000000)");
}

#[test]
fn a_baseline_silences_no_other_path() {
    let mut race = race();
    let known = item("u7", ABC, 0, 0);
    assert_eq!(race.know(STREAM, &known.found.record, &known.classification), None);
    assert_eq!(enter(&mut race, LIST, item("7", ABC, 0, 1)), "7 is 7 Created");
    let moved = format!("{ABC} (변경)");
    assert_eq!(enter(&mut race, STREAM, edited(item("u7", &moved, 0, 9))), "u7 is 7 Updated");
    // And what was announced before it began is linked.
    let mut race = crate::race();
    enter(&mut race, LIST, item("7", ABC, 0, 1));
    assert_eq!(race.know(STREAM, &known.found.record, &known.classification).as_deref(), Some("7"));
}
