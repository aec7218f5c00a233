//! The shared-memory journals: what is appended comes back, whatever became of the file.

use proptest::prelude::*;

use super::*;
use crate::store::testing::{announcement, any_announcement, any_outcome, outcome};

fn journal() -> (File, Writer, Committer) {
    let file = tempfile::tempfile().unwrap();
    let (writer, committer) = create(&file).unwrap();
    (file, writer, committer)
}

fn bytes_of(file: &File) -> Vec<u8> {
    use std::os::unix::fs::FileExt as _;
    let mut bytes = vec![0; FILE_BYTES];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn what_is_released_is_not_recovered() {
    let (file, mut writer, committer) = journal();
    let ends: Vec<u64> =
        (1..=3).map(|seq| writer.append_announcement(&announcement(1, seq)).unwrap()).collect();
    committer.release(ends[0]);
    let found = scan(&bytes_of(&file));
    assert_eq!(found.announcements, [announcement(1, 2), announcement(1, 3)]);
    assert_eq!(committer.unreleased(ends[1]), [(announcement(1, 2), ends[1])]);
    assert_eq!(committer.unreleased(u64::MAX).len(), 2);
    assert_eq!(found.damage, None);
    committer.release(u64::MAX);
    assert_eq!(scan(&bytes_of(&file)), Scan::default());
    assert_eq!(committer.backlog_bytes(), 0);
}

#[test]
fn full_is_none_and_release_makes_room_across_the_wrap() {
    let (file, mut writer, committer) = journal();
    let mut last = 0;
    let mut seq = 0;
    while let Some(end) = writer.append_announcement(&announcement(1, seq + 1)) {
        (last, seq) = (end, seq + 1);
    }
    assert!(seq > 1_000, "{seq} announcements of usual length must fit");
    assert_eq!(scan(&bytes_of(&file)).announcements.len() as u64, seq);
    committer.release(last);
    for more in 1..=2_000 {
        let end = writer.append_announcement(&announcement(2, more)).unwrap();
        if more < 1_990 {
            committer.release(end);
        }
    }
    let expected: Vec<_> = (1_990..=2_000).map(|more| announcement(2, more)).collect();
    assert_eq!(scan(&bytes_of(&file)), Scan { announcements: expected, damage: None });
}

#[test]
fn an_announcement_longer_than_a_record_is_refused() {
    let (_file, mut writer, _committer) = journal();
    let mut long = announcement(1, 1);
    long.title = "x".repeat(limits::SHM_RECORD_BYTES);
    assert_eq!(writer.append_announcement(&long), None);
    assert!(writer.append_announcement(&announcement(1, 2)).is_some());
}

#[test]
fn a_bare_file_is_empty_and_a_cut_one_is_damaged() {
    assert_eq!(scan(&[]), Scan::default());
    assert_eq!(scan(&vec![0; FILE_BYTES]), Scan::default());
    let (file, mut writer, _committer) = journal();
    writer.append_announcement(&announcement(1, 1)).unwrap();
    let whole = bytes_of(&file);
    for len in [1, 8, HEADER_BYTES - 1, HEADER_BYTES, FILE_BYTES - 1] {
        let found = scan(&whole[..len]);
        assert!(found.announcements.is_empty() && found.damage.is_some(), "{len}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whatever_is_appended_is_recovered(list in proptest::collection::vec(any_announcement(), 0..20), released in 0..20_usize) {
        let (file, mut writer, committer) = journal();
        let ends: Vec<_> = list.iter().map(|a| writer.append_announcement(a).unwrap()).collect();
        let released = released.min(ends.len());
        if let Some(end) = released.checked_sub(1).and_then(|i| ends.get(i)) {
            committer.release(*end);
        }
        let found = scan(&bytes_of(&file));
        prop_assert_eq!(&found.announcements[..], &list[released..]);
        let live: Vec<_> = committer.unreleased(u64::MAX).into_iter().map(|(a, _)| a).collect();
        prop_assert_eq!(&live, &found.announcements);
        prop_assert_eq!(found.damage, None);
    }

    #[test]
    fn damage_yields_a_prefix_and_never_panics(
        count in 1..8_u64,
        hits in proptest::collection::vec((0..4_000_usize, any::<u8>()), 1..6),
    ) {
        let (file, mut writer, _committer) = journal();
        for seq in 1..=count {
            writer.append_announcement(&announcement(1, seq)).unwrap();
        }
        let mut bytes = bytes_of(&file);
        for (at, value) in hits {
            let at = if at < 200 { at } else { HEADER_BYTES + at - 200 };
            bytes[at] = value;
        }
        let whole: Vec<_> = (1..=count).map(|seq| announcement(1, seq)).collect();
        let found = scan(&bytes).announcements;
        prop_assert!(whole.windows(found.len().max(1)).any(|w| w == &found[..]) || found.is_empty());
    }

    #[test]
    fn whatever_outcomes_are_appended_are_recovered(
        list in proptest::collection::vec(any_outcome(), 0..60), released in 0..60_usize
    ) {
        let (file, mut writer, committer) = outcome_journal();
        let ends: Vec<_> = list.iter().map(|o| OutcomeLog::append(&mut writer, o).unwrap()).collect();
        let released = released.min(ends.len());
        if let Some(end) = released.checked_sub(1).and_then(|i| ends.get(i)) {
            committer.release(*end);
        }
        let (found, damage) = scan_outcomes(&bytes_of(&file));
        prop_assert_eq!((&found[..], damage), (&list[released..], None));
        let live: Vec<_> = committer.unreleased(u64::MAX).into_iter().map(|(o, _)| o).collect();
        prop_assert_eq!(live, found);
    }

    #[test]
    fn damage_yields_a_part_of_the_outcomes_and_never_panics(
        count in 1..40_u64,
        hits in proptest::collection::vec((0..4_000_usize, any::<u8>()), 1..6),
    ) {
        let (file, mut writer, _committer) = outcome_journal();
        let whole: Vec<_> = (1..=count).map(outcome).collect();
        whole.iter().for_each(|o| assert!(writer.append(o).is_some()));
        let mut bytes = bytes_of(&file);
        for (at, value) in hits {
            let at = if at < 200 { at } else { HEADER_BYTES + at - 200 };
            bytes[at] = value;
        }
        let (found, _) = scan_outcomes(&bytes);
        prop_assert!(whole.windows(found.len().max(1)).any(|w| w == &found[..]) || found.is_empty());
    }
}

fn outcome_journal() -> (File, OutcomeWriter, OutcomeCommitter) {
    let file = tempfile::tempfile().unwrap();
    let (writer, committer) = create(&file).unwrap();
    (file, writer, committer)
}

#[test]
fn a_full_journal_of_outcomes_says_so_and_takes_them_again_after_a_release() {
    let (file, mut writer, committer) = outcome_journal();
    let scratch = writer.scratch.capacity();
    let mut ends = Vec::new();
    while let Some(end) = writer.append(&outcome(ends.len() as u64)) {
        ends.push(end);
    }
    assert!(ends.len() > 10_000, "{} outcomes fit", ends.len());
    committer.release(ends[ends.len() / 2]);
    let before = ends.len();
    for n in 0..before / 2 {
        assert!(writer.append(&outcome(n as u64)).is_some(), "{n}");
    }
    let (found, damage) = scan_outcomes(&bytes_of(&file));
    assert_eq!((found.len(), damage), (before - 1, None));
    assert_eq!(writer.scratch.capacity(), scratch, "no allocation");
}

#[test]
fn one_kind_of_journal_is_never_read_as_the_other() {
    let (file, mut writer, _committer) = outcome_journal();
    writer.append(&outcome(1)).unwrap();
    let found = scan(&bytes_of(&file));
    assert_eq!((found.announcements.len(), found.damage), (0, Some("not a journal of this version")));
    let (file, mut writer, _committer) = journal();
    writer.append_announcement(&announcement(1, 1)).unwrap();
    assert_eq!(scan_outcomes(&bytes_of(&file)), (Vec::new(), Some("not a journal of this version")));
}
