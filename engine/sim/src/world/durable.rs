//! What outlives the simulated process: shared memory, the disk, and the fuse that ends a life.
//!
//! Contract: a model of the engine's store, of its orderings and not of its files. A commit is written, then
//! synced; what is written and not synced survives a `kill -9` whole or, torn, not at all, and never a
//! power cut. Shared memory survives a kill and no power cut; its records stay until they are released.
//! [`Durable::point`] stands between any two steps whose order matters: a life may end at each of them. Owner:
//! the world. Fails with [`Stop::Death`] and, where the disk refuses, with [`Refused`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tocsin_core::detect::SeenRecord;
use tocsin_core::feed::key::{KeyId, KeyRecord};
use tocsin_core::model::FeedPosition;
use tocsin_core::time::WallUs;
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::endpoint::SavedHealth;
use tocsin_core::webhook::event::EventId;
use tocsin_core::webhook::filter::EventFilter;
use tocsin_core::webhook::lane::QueuedEvent;
use tocsin_core::webhook::outgoing::{Outcome, Outgoing, RecordedOutcome};
use tocsin_core::wire::EncodedAnnouncement;

use super::dice::Dice;
use super::{Death, Stop};

/// The disk takes nothing now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused;

/// One row of a commit.
#[derive(Clone, Debug)]
pub(super) enum Row {
    Announcement(Arc<EncodedAnnouncement>),
    Seen(SeenRecord),
    Confirmed { record: SeenRecord, notice: Box<str> },
    Baselined { source: &'static str, list: &'static str },
    Event { event: Arc<QueuedEvent<Outgoing>>, recipients: Vec<EndpointId> },
    Outcome { event: u64, recorded: RecordedOutcome },
    Health { endpoint: EndpointId, health: SavedHealth, verified_at: Option<WallUs> },
    Revoked { key: KeyId, at: WallUs },
    Expiry { key: KeyId, at: Option<WallUs> },
}

/// An item that a source knows.
#[derive(Clone, Debug)]
pub(super) struct SeenRow {
    pub(super) record: SeenRecord,
    pub(super) notice: Option<Box<str>>,
}

#[derive(Clone, Debug)]
pub(super) struct EventRow {
    pub(super) event: Arc<QueuedEvent<Outgoing>>,
    /// Whether nothing more is sent, by endpoint.
    pub(super) recipients: BTreeMap<EndpointId, bool>,
}

#[derive(Clone, Debug)]
pub(super) struct EndpointRow {
    pub(super) filter: EventFilter,
    pub(super) health: SavedHealth,
    pub(super) verified_at: Option<WallUs>,
}

/// When a list was first started, and whether its first answer has been taken as known.
#[derive(Clone, Copy, Debug)]
pub(super) struct ListRow {
    pub(super) first_start: WallUs,
    pub(super) baselined: bool,
}

/// What is synced.
#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) epoch: u64,
    pub(super) history: BTreeMap<FeedPosition, Arc<EncodedAnnouncement>>,
    /// In the order of arrival, a later row of an item in place of the earlier.
    pub(super) seen: BTreeMap<&'static str, Vec<SeenRow>>,
    pub(super) lists: BTreeMap<(&'static str, &'static str), ListRow>,
    pub(super) events: BTreeMap<u64, EventRow>,
    pub(super) deliveries: BTreeMap<(u64, EndpointId), (u8, WallUs)>,
    pub(super) endpoints: BTreeMap<EndpointId, EndpointRow>,
    pub(super) keys: Vec<KeyRecord>,
}

impl Store {
    fn apply(&mut self, row: Row) {
        match row {
            Row::Announcement(encoded) => self.announcement(&encoded),
            Row::Seen(record) => self.saw(record, None),
            Row::Confirmed { record, notice } => self.saw(record, Some(notice)),
            Row::Baselined { source, list } => {
                if let Some(row) = self.lists.get_mut(&(source, list)) {
                    row.baselined = true;
                }
            }
            Row::Event { event, recipients } => drop(self.event(event, &recipients)),
            Row::Outcome { event, recorded } => self.outcome(event, &recorded),
            Row::Health { endpoint, health, verified_at } => {
                if let Some(row) = self.endpoints.get_mut(&endpoint) {
                    row.health = health;
                    row.verified_at = verified_at.or(row.verified_at);
                }
            }
            Row::Revoked { key, at } => {
                if let Some(record) = self.keys.iter_mut().find(|record| record.id == key) {
                    record.revoked_at.get_or_insert(at);
                }
            }
            Row::Expiry { key, at } => {
                if let Some(record) = self.keys.iter_mut().find(|record| record.id == key) {
                    record.expires_at = at;
                }
            }
        }
    }

    /// An announcement is a seen item too, in the same transaction.
    pub(super) fn announcement(&mut self, encoded: &Arc<EncodedAnnouncement>) {
        let a = &encoded.announcement;
        if self.history.contains_key(&a.position) {
            return;
        }
        self.history.insert(a.position, Arc::clone(encoded));
        let id = a.id.split_once(':').map(|(_, id)| id).filter(|id| *id != a.notice_id);
        let Some(source) = source_name(&a.source) else { return };
        let record = SeenRecord {
            source,
            notice_id: a.notice_id.as_str().into(),
            title: a.title.as_str().into(),
            fingerprint: tocsin_core::detect::fingerprint(&a.title, a.published),
            published: a.published,
        };
        self.saw(record, id.map(Into::into));
    }

    fn saw(&mut self, record: SeenRecord, notice: Option<Box<str>>) {
        let rows = self.seen.entry(record.source).or_default();
        rows.retain(|row| row.record.notice_id != record.notice_id);
        rows.push(SeenRow { record, notice });
    }

    /// Whether it was new.
    pub(super) fn event(&mut self, event: Arc<QueuedEvent<Outgoing>>, recipients: &[EndpointId]) -> bool {
        if self.number_of(event.payload.id).is_some() {
            return false;
        }
        let recipients = recipients.iter().map(|endpoint| (*endpoint, false)).collect();
        self.events.insert(event.number, EventRow { event, recipients });
        true
    }

    pub(super) fn number_of(&self, id: EventId) -> Option<u64> {
        self.events.values().find(|row| row.event.payload.id == id).map(|row| row.event.number)
    }

    pub(super) fn outcome(&mut self, event: u64, recorded: &RecordedOutcome) {
        let endpoint = recorded.endpoint;
        let Some(row) = self.events.get_mut(&event) else { return };
        let Some(concluded @ false) = row.recipients.get_mut(&endpoint) else { return };
        match recorded.outcome {
            Outcome::Retry { attempt, due } => {
                self.deliveries.insert((event, endpoint), (attempt, due));
            }
            Outcome::Delivered | Outcome::Failed | Outcome::Expired => {
                *concluded = true;
                self.deliveries.remove(&(event, endpoint));
            }
        }
    }

    pub(super) fn next_event(&self) -> u64 {
        self.events.keys().next_back().map_or(1, |last| last + 1)
    }
}

/// The constant behind a source's name.
fn source_name(name: &str) -> Option<&'static str> {
    let polled = tocsin_core::source::exchange::by_name(name).map(|spec| spec.name);
    polled.or_else(|| tocsin_core::source::stream::ALL.iter().find(|s| s.name == name).map(|s| s.name))
}

/// One source thread's shared memory, or the webhook thread's.
#[derive(Debug)]
pub(super) struct SharedMemory<T> {
    records: VecDeque<(T, u64)>,
    end: u64,
}

impl<T> Default for SharedMemory<T> {
    fn default() -> SharedMemory<T> {
        SharedMemory { records: VecDeque::new(), end: 0 }
    }
}

impl<T> SharedMemory<T> {
    /// Returns where the record ends.
    pub(super) fn append(&mut self, record: T) -> u64 {
        self.end += 1;
        self.records.push_back((record, self.end));
        self.end
    }

    /// Everything up to `end` is on disk.
    pub(super) fn release(&mut self, end: u64) {
        while self.records.front().is_some_and(|(_, at)| *at <= end) {
            self.records.pop_front();
        }
    }

    pub(super) fn records(&self) -> impl Iterator<Item = &T> {
        self.records.iter().map(|(record, _)| record)
    }

    /// The file is made anew.
    pub(super) fn clear(&mut self) {
        *self = SharedMemory::default();
    }
}

/// See the module head.
#[derive(Debug)]
pub(super) struct Durable {
    pub(super) store: Store,
    pub(super) announcements: Vec<SharedMemory<Arc<EncodedAnnouncement>>>,
    pub(super) outcomes: SharedMemory<RecordedOutcome>,
    /// Written, not synced.
    tail: Vec<Row>,
    /// So many points until the life ends.
    fuse: Option<(u32, Death)>,
    /// The disk refuses so many of a thousand commits.
    pub(super) refuses: u64,
    dice: Dice,
}

impl Durable {
    pub(super) fn new(threads: usize, dice: Dice) -> Durable {
        Durable {
            store: Store::default(),
            announcements: (0..threads).map(|_| SharedMemory::default()).collect(),
            outcomes: SharedMemory::default(),
            tail: Vec::new(),
            fuse: None,
            refuses: 0,
            dice,
        }
    }

    /// The life ends in this way after so many more points.
    pub(super) const fn light(&mut self, points: u32, death: Death) {
        self.fuse = Some((points, death));
    }

    /// A place where a life may end.
    pub(super) fn point(&mut self) -> Result<(), Stop> {
        match &mut self.fuse {
            None => Ok(()),
            Some((0, death)) => {
                let death = *death;
                self.fuse = None;
                Err(Stop::Death(death))
            }
            Some((points, _)) => {
                *points -= 1;
                Ok(())
            }
        }
    }

    /// Writes rows without syncing them.
    pub(super) fn write(&mut self, rows: Vec<Row>) -> Result<(), Refused> {
        if self.dice.per_mille(self.refuses) {
            return Err(Refused);
        }
        self.tail = rows;
        Ok(())
    }

    /// Syncs what was written. Where the disk refuses, nothing of it is there.
    pub(super) fn sync(&mut self) -> Result<(), Refused> {
        let rows = core::mem::take(&mut self.tail);
        if self.dice.per_mille(self.refuses) {
            return Err(Refused);
        }
        rows.into_iter().for_each(|row| self.store.apply(row));
        Ok(())
    }

    /// What is left after a death.
    pub(super) fn die(&mut self, death: Death) {
        self.fuse = None;
        let tail = core::mem::take(&mut self.tail);
        match death {
            // The page cache has all of the commit, or its last frame is torn and recovery drops it.
            Death::Kill if self.dice.coin() => tail.into_iter().for_each(|row| self.store.apply(row)),
            Death::Kill => {}
            Death::PowerCut => {
                self.announcements.iter_mut().for_each(SharedMemory::clear);
                self.outcomes.clear();
            }
        }
    }
}
