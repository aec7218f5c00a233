//! What must hold at the end, checked against the database itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use tocsin_sim::Kind;

use crate::observer::{Habit, Notes};
use crate::world::{Ledger, Origin, Version, kind_of};

/// The exchanges with whole seconds show a time up to one second before the event.
const RESOLUTION_US: i64 = 1_000_000;

/// A row of history.
pub(crate) struct Row {
    pub(crate) position: (u64, u64),
    pub(crate) version: Version,
    pub(crate) action: String,
    pub(crate) late: bool,
    pub(crate) dispatched: bool,
}

pub(crate) fn open(data_dir: &Path) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(data_dir.join("tocsin.db"), flags).unwrap()
}

/// History, oldest first.
pub(crate) fn history(database: &Connection) -> Vec<Row> {
    let sql = "SELECT epoch, seq, id, title, action, late, dispatched_us IS NOT NULL
               FROM announcements ORDER BY epoch, seq";
    let mut statement = database.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| {
        Ok(Row {
            position: (row.get(0)?, row.get(1)?),
            version: (row.get(2)?, row.get(3)?),
            action: row.get(4)?,
            late: row.get(5)?,
            dispatched: row.get(6)?,
        })
    });
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

/// When each exchange's first list was first started, as far as it was.
pub(crate) fn first_starts(database: &Connection) -> BTreeMap<Kind, i64> {
    let mut statement =
        database.prepare("SELECT source, min(first_start_us) FROM source_lists GROUP BY source").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap)
        .filter_map(|(source, at)| Some((kind_of(&source.replace('.', ":"))?, at)))
        .collect()
}

/// Figures of one run, for the report.
#[derive(Debug)]
#[allow(dead_code, reason = "printed as they are")]
pub(crate) struct Figures {
    pub(crate) published: usize,
    pub(crate) announced: usize,
    pub(crate) live: usize,
    pub(crate) only_in_history: usize,
    pub(crate) undispatched_but_seen_live: usize,
}

/// Every promise; panics with what is broken.
pub(crate) fn check(
    data_dir: &Path,
    ledger: &Ledger,
    notes: &[(Habit, Notes)],
    source_threads: u64,
) -> Figures {
    let database = open(data_dir);
    let sound: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
    let rows = history(&database);
    let published = ledger.published();

    let mut count: BTreeMap<&Version, u32> = BTreeMap::new();
    for row in &rows {
        *count.entry(&row.version).or_default() += 1;
    }
    let doubled: Vec<_> = count.iter().filter(|(_, n)| **n > 1).collect();
    assert!(doubled.is_empty(), "more than once in history: {doubled:?}");

    let first_starts = first_starts(&database);
    let missing: Vec<_> = published
        .iter()
        .filter(|(version, origin)| {
            let first_start = kind_of(&version.0).and_then(|kind| first_starts.get(&kind)).unwrap();
            let baseline = matches!(origin, Origin::New(at) if at <= first_start);
            !count.contains_key(version) && !baseline
        })
        .collect();
    assert!(missing.is_empty(), "published and not in history: {missing:?}");
    for row in &rows {
        let first_start = kind_of(&row.version.0).and_then(|kind| first_starts.get(&kind)).unwrap();
        let action = match published.get(&row.version) {
            None => panic!("never published: {:?}", row.version),
            Some(Origin::New(at)) => {
                assert!(at + RESOLUTION_US > *first_start, "of the silent baseline: {:?}", row.version);
                "created"
            }
            Some(Origin::News) => "updated_with_news",
            Some(Origin::Edit) => "updated",
        };
        assert_eq!(row.action, action, "{:?} at {:?}", row.version, row.position);
    }
    contiguous(&rows, source_threads);
    let live = observed(&rows, notes);
    let history: BTreeSet<&str> = rows.iter().map(|row| row.version.1.as_str()).collect();
    Figures {
        published: published.len(),
        announced: rows.len(),
        only_in_history: history.difference(&live).count(),
        undispatched_but_seen_live: rows
            .iter()
            .filter(|row| !row.dispatched && !row.late && live.contains(row.version.1.as_str()))
            .count(),
        live: live.len(),
    }
}

/// Sequence numbers start at 1 in each epoch and leave none out. Where several threads take them, one
/// that died between taking and journalling leaves a hole: at most one less than there are threads.
fn contiguous(rows: &[Row], source_threads: u64) {
    let mut epochs: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for row in rows {
        epochs.entry(row.position.0).or_default().push(row.position.1);
    }
    for (epoch, seqs) in epochs {
        let holes = seqs.last().unwrap() - seqs.len() as u64;
        assert!(holes < source_threads, "epoch {epoch} has {holes} holes: {seqs:?}");
    }
}

/// Titles somebody got live. Each subscriber got each at most once, and nothing that history lacks;
/// the one that resumes got everything.
fn observed<'n>(rows: &[Row], notes: &'n [(Habit, Notes)]) -> BTreeSet<&'n str> {
    let by_position: BTreeMap<_, _> = rows.iter().map(|row| (row.position, &row.version)).collect();
    let titles: BTreeSet<&str> = rows.iter().map(|row| row.version.1.as_str()).collect();
    let actions: BTreeMap<_, _> =
        rows.iter().map(|row| (row.version.1.as_str(), row.action.as_str())).collect();
    let mut live = BTreeSet::new();
    for (habit, notes) in notes {
        let mut own = BTreeSet::new();
        for sighting in &notes.sightings {
            if *habit == Habit::Basic {
                let action = actions.get(sighting.title.as_str());
                assert!(action.is_some_and(|action| *action != "updated"), "basic, {action:?}: {sighting:?}");
            } else {
                let version = by_position.get(&(sighting.epoch, sighting.seq));
                let same = version.is_some_and(|(id, title)| (id, title) == (&sighting.id, &sighting.title));
                assert!(same, "{habit:?}: history says {version:?} of {sighting:?}");
            }
            if !sighting.replayed {
                assert!(own.insert(sighting.title.as_str()), "{habit:?} got it live twice: {sighting:?}");
            }
        }
        live.append(&mut own);
        if *habit == Habit::Resuming {
            let got: BTreeSet<&str> = notes.sightings.iter().map(|s| s.title.as_str()).collect();
            let missed: Vec<_> = titles.difference(&got).collect();
            assert!(missed.is_empty(), "resuming missed {missed:?}");
            assert!(notes.gaps.is_empty(), "{:?}", notes.gaps);
        }
    }
    live
}
