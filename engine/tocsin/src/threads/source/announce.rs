//! From what a source found to announcements: race, classify, compare with what was told, publish.
//!
//! Contract: one [`Teller`] a source, whatever brings its findings (polled lists, a stream).
//! [`Teller::tell`] sends the announcements of one answer to the publisher, oldest first, before it does
//! anything else, then has the store remember the rest; it never waits. Where an exchange has several
//! sources they all have their tellers on one thread, and its [`Race`] says what of their findings is new; a
//! source alone passes it by. Owner: a source thread. Allocates per announcement, per confirmation and per
//! item to remember, and nothing for findings that are empty. Fails never.

use tocsin_core::classify::classify;
use tocsin_core::detect::race::{Candidate, Race, Verdict};
use tocsin_core::detect::told::Told;
use tocsin_core::detect::{Detected, Findings, SeenRecord};
use tocsin_core::model::{Action, Announcement, CategoryHint, Classification, Exchange, FeedPosition};
use tocsin_core::time::WallUs;

use super::lane::Context;
use super::stats::{Count, Local};

/// What tells the news of one source.
pub(super) struct Teller {
    source: &'static str,
    exchange: Exchange,
    /// Used while the source is alone: a race has its own.
    told: Told,
    entry: Option<Entry>,
    verdicts: Vec<Verdict>,
    confirmed: Vec<(SeenRecord, Box<str>)>,
}

/// Which race of the thread's, and which of its paths.
#[derive(Clone, Copy)]
struct Entry {
    race: usize,
    path: u8,
}

/// When findings came.
#[derive(Clone, Copy)]
struct Arrival {
    received: WallUs,
    detected: WallUs,
}

impl Teller {
    /// Of the source called `source`, with what it has told before.
    pub(super) fn new(source: &'static str, exchange: Exchange, told: Told) -> Teller {
        Teller { source, exchange, told, entry: None, verdicts: Vec::new(), confirmed: Vec::new() }
    }

    /// Its exchange and name.
    pub(super) fn path(&self) -> (Exchange, &'static str) {
        (self.exchange, self.source)
    }

    /// Enters the race of its exchange, if there is one.
    pub(super) fn enter(&mut self, races: &[Race]) {
        self.entry = races.iter().enumerate().find_map(|(at, race)| {
            let path = race.path(self.source).filter(|_| race.exchange() == self.exchange)?;
            Some(Entry { race: at, path })
        });
    }

    /// What an answer of `list`, complete at `received`, brought goes out: announcements first. The
    /// findings are empty afterwards.
    pub(super) fn tell(
        &mut self,
        list: &'static str,
        received: WallUs,
        findings: &mut Findings,
        local: &mut Local,
        cx: &mut Context<'_>,
    ) {
        if findings.is_empty() {
            return;
        }
        let arrival = Arrival { received, detected: (cx.clock)().wall };
        for found in findings.detected.drain(..) {
            let classification = classify(self.exchange, &found.record.title, found.hint);
            match self.entry {
                None => self.tell_alone(found, classification, arrival, local, cx),
                Some(entry) => self.tell_first(entry, found, classification, arrival, local, cx),
            }
        }
        cx.publisher.settle();
        for (record, notice) in self.confirmed.drain(..) {
            cx.publisher.confirmed(record, notice);
        }
        for record in findings.seen.drain(..) {
            match self.know(&record, cx.races) {
                Some(notice) => cx.publisher.confirmed(record, notice),
                None => cx.publisher.seen(record),
            }
        }
        if findings.baselined {
            cx.publisher.baselined(self.source, list);
        }
        findings.clear();
    }

    /// The exchange has this source only.
    fn tell_alone(
        &mut self,
        found: Detected,
        classification: Classification,
        arrival: Arrival,
        local: &mut Local,
        cx: &mut Context<'_>,
    ) {
        let (id, edited) = (&found.record.notice_id, found.action != Action::Created);
        let action = self.told.note(id, edited, classification.listing_type, &classification.tickers);
        let id = [self.exchange.name(), ":", id].concat();
        self.publish(self.announcement(found, classification, (id, action), arrival), local, cx);
    }

    /// The exchange has several sources: what another one has brought is only counted.
    fn tell_first(
        &mut self,
        entry: Entry,
        found: Detected,
        classification: Classification,
        arrival: Arrival,
        local: &mut Local,
        cx: &mut Context<'_>,
    ) {
        let Some(race) = cx.races.get_mut(entry.race) else { return };
        let Arrival { received, detected } = arrival;
        let mut verdicts = std::mem::take(&mut self.verdicts);
        race.enter(entry.path, Candidate { found, classification, received, detected }, &mut verdicts);
        for verdict in verdicts.drain(..) {
            match verdict {
                Verdict::Announce { candidate, notice, action } => {
                    let Candidate { found, classification, received, detected } = candidate;
                    let id = [self.exchange.name(), ":", &notice].concat();
                    let arrival = Arrival { received, detected };
                    let announcement = self.announcement(found, classification, (id, action), arrival);
                    self.publish(announcement, local, cx);
                }
                Verdict::Confirms { record, notice, behind_us } => {
                    local.confirmed(behind_us);
                    self.confirmed.push((record, notice));
                }
            }
        }
        self.verdicts = verdicts;
    }

    fn publish(&self, mut announcement: Announcement, local: &mut Local, cx: &mut Context<'_>) {
        let late = announcement.late;
        let news = announcement.action == Action::Created && !late;
        let classified = (cx.clock)().wall;
        announcement.classified = classified;
        let Announcement { published, received, detected, .. } = announcement;
        cx.publisher.announce(announcement);
        if news {
            local.found(published, received, detected, classified);
            local.won(received);
        }
        local.add(Count::Announced, 1);
        local.add(Count::Late, u64::from(late));
    }

    /// Notes an item that is remembered without being announced; under which identifier another source
    /// announced it, if one did.
    fn know(&mut self, record: &SeenRecord, races: &mut [Race]) -> Option<Box<str>> {
        let known = classify(self.exchange, &record.title, CategoryHint::None);
        match self.entry {
            None => {
                self.told.note(&record.notice_id, false, known.listing_type, &known.tickers);
                None
            }
            Some(Entry { race, path }) => races.get_mut(race)?.know(path, record, &known),
        }
    }

    /// Classified; when that was done is for the caller to say.
    fn announcement(
        &self,
        found: Detected,
        classification: Classification,
        (id, action): (String, Action),
        Arrival { received, detected }: Arrival,
    ) -> Announcement {
        let record = found.record;
        Announcement {
            id,
            position: FeedPosition::default(),
            exchange: self.exchange,
            title: record.title.into(),
            classification,
            action,
            late: found.late,
            url: found.url,
            notice_id: record.notice_id.into(),
            source: self.source.to_owned(),
            published: record.published,
            received,
            detected,
            classified: detected,
            effective_at: None,
        }
    }
}

/// A race for each exchange that has several of these sources: of `loaded` where it is there.
pub(super) fn races(paths: &[(Exchange, &'static str)], loaded: Vec<Race>) -> Vec<Race> {
    let of = |exchange: Exchange| paths.iter().filter(move |(e, _)| *e == exchange).map(|(_, name)| *name);
    let missing = Exchange::ALL
        .into_iter()
        .filter(|e| of(*e).nth(1).is_some() && loaded.iter().all(|race| race.exchange() != *e))
        .map(|exchange| Race::new(exchange, of(exchange)))
        .collect::<Vec<_>>();
    loaded.into_iter().chain(missing).collect()
}
