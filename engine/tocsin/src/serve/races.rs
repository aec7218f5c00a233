//! Races as they stood before a start.
//!
//! Contract: reads the store, before the first thread runs. Fails with the disk.

use tocsin_core::classify::classify;
use tocsin_core::detect::race::Race;
use tocsin_core::limits;
use tocsin_core::model::{CategoryHint, Exchange};

use crate::store::{Store, StoreError, StoredAnnouncement};
use crate::threads::source::MANUAL;

/// For each exchange with several of these sources, what the store remembers of all of them together.
///
/// # Errors
/// The disk's.
pub(super) fn load(sources: &[(Exchange, &'static str)], store: &Store) -> Result<Vec<Race>, StoreError> {
    let of = |exchange| sources.iter().filter(move |(e, _)| *e == exchange).map(|(_, name)| *name);
    let several = Exchange::ALL.into_iter().filter(|exchange| of(*exchange).nth(1).is_some());
    several.map(|exchange| race(exchange, &of(exchange).collect::<Vec<_>>(), store)).collect()
}

fn race(exchange: Exchange, sources: &[&'static str], store: &Store) -> Result<Race, StoreError> {
    let mut race = Race::new(exchange, sources.iter().copied());
    for StoredAnnouncement { announcement, .. } in store.load_history(limits::HISTORY_IN_MEMORY)? {
        // An alert given by hand is no notice of the exchange's.
        if announcement.source != MANUAL {
            race.load_announced(&announcement);
        }
    }
    for source in sources {
        let Some(path) = race.path(source) else { continue };
        let confirmed = store.load_confirmed(source)?;
        for record in store.load_seen(source)?.into_iter().rev() {
            let said = classify(exchange, &record.title, CategoryHint::None);
            let notice = confirmed.get(&*record.notice_id).map(String::as_str);
            race.load_seen(path, &record, &said, notice);
        }
    }
    Ok(race)
}

#[cfg(test)]
mod tests {
    use tocsin_core::detect::race::{Candidate, Verdict};
    use tocsin_core::detect::{Detected, SeenRecord, fingerprint};
    use tocsin_core::model::{Action, Announcement, FeedPosition};
    use tocsin_core::time::WallUs;
    use tocsin_core::wire;

    use super::*;
    use crate::store::Row;

    const SOURCES: [(Exchange, &str); 3] = [
        (Exchange::Upbit, "upbit.web"),
        (Exchange::Upbit, "upbit.stream"),
        (Exchange::Bithumb, "bithumb.api"),
    ];
    const TITLE: &str = "에이비씨(ABC) 신규 거래지원 안내 (KRW 마켓)";
    const AT: WallUs = WallUs(1_795_000_000_000_000);

    fn candidate(source: &'static str, id: &str, title: &str, action: Action) -> Candidate {
        let record = SeenRecord {
            source,
            notice_id: id.into(),
            title: title.into(),
            fingerprint: fingerprint(title, AT),
            published: AT,
        };
        Candidate {
            classification: classify(Exchange::Upbit, title, CategoryHint::None),
            found: Detected {
                record,
                modified: None,
                url: String::new(),
                hint: CategoryHint::None,
                action,
                late: false,
            },
            received: AT,
            detected: AT,
        }
    }

    fn announced(verdict: Verdict) -> Announcement {
        let Verdict::Announce { candidate, notice, action } = verdict else { panic!("{verdict:?}") };
        let Candidate { found, classification, received, detected } = candidate;
        Announcement {
            id: format!("upbit:{notice}"),
            position: FeedPosition { epoch: 1, seq: 1 },
            exchange: Exchange::Upbit,
            title: found.record.title.into(),
            classification,
            action,
            late: false,
            url: found.url,
            notice_id: found.record.notice_id.into(),
            source: found.record.source.to_owned(),
            published: found.record.published,
            received,
            detected,
            classified: detected,
            effective_at: None,
        }
    }

    fn enter(race: &mut Race, path: u8, candidate: Candidate) -> Verdict {
        let mut verdicts = Vec::new();
        race.enter(path, candidate, &mut verdicts);
        assert_eq!(verdicts.len(), 1, "{verdicts:?}");
        verdicts.remove(0)
    }

    #[test]
    fn killed_before_the_commit_the_other_source_still_confirms() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Store::open_on(dir.path(), &dir.path().join("data")).unwrap();
        let store = open();
        let mut races = load(&SOURCES, &store).unwrap();
        assert_eq!(races.len(), 1, "one source of Bithumb's races with nobody");
        let stream = candidate("upbit.stream", "898", &format!("[거래] {TITLE}"), Action::Created);
        let announcement = announced(enter(&mut races[0], 1, stream));
        // In shared memory and on its way to subscribers; then the process dies.
        let (mut log, _committer) = store.place().create(0).unwrap();
        assert!(log.append(&wire::encode(announcement)).is_some());
        drop((log, store));

        let store = open();
        let mut races = load(&SOURCES, &store).unwrap();
        let list = || candidate("upbit.web", "7", TITLE, Action::Created);
        let Verdict::Confirms { record, notice, behind_us } = enter(&mut races[0], 0, list()) else {
            panic!()
        };
        assert_eq!((&*notice, behind_us), ("898", None));
        drop(store);

        // Killed again before the confirmation is stored, then after it.
        for saved in [false, true] {
            let mut store = store_again(&open, saved.then_some((&record, &*notice)));
            let mut races = load(&SOURCES, &store).unwrap();
            assert!(matches!(enter(&mut races[0], 0, list()), Verdict::Confirms { .. }), "{saved}");
            assert_eq!(store.load_confirmed("upbit.web").unwrap().len(), usize::from(saved));
            store.prune_seen().unwrap();
        }

        // An edit through the other source keeps the first identifier, over a restart too.
        let store = open();
        let mut races = load(&SOURCES, &store).unwrap();
        let edit = candidate("upbit.web", "7", &format!("{TITLE} (변경)"), Action::Updated);
        let edit = announced(enter(&mut races[0], 0, edit));
        assert_eq!(
            (edit.id.as_str(), edit.notice_id.as_str(), edit.action),
            ("upbit:898", "7", Action::Updated)
        );
    }

    fn store_again(open: &dyn Fn() -> Store, saved: Option<(&SeenRecord, &str)>) -> Store {
        let mut store = open();
        if let Some((record, notice)) = saved {
            store.commit(&[Row::Confirmed { record, notice }]).unwrap();
        }
        store
    }
}
