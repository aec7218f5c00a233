//! Several paths of one exchange, one announcement a notice: who came first, who confirms.
//!
//! Contract: one [`Race`] an exchange that has several paths (polled sources, streams). It is given what each
//! path found, in any order, and says of each whether it is the first arrival, an edit that no path has
//! brought yet, or a confirmation, which is not announced. What is announced of a notice goes out under the
//! identifier of the first arrival, and by the rules of [`Told`]. No first arrival waits for another path.
//!
//! Which items are one notice, the surest evidence first: what the store says; one address (the last part or
//! the `id` of it); one title, but for a prefix in brackets, spaces and punctuation, published at one moment
//! or within [`limits::RACE_WINDOW`]; one listing type with a ticker in common, published at one moment; one
//! listing type and one set of tickers within the window, by our clock or the exchange's. Two items of one
//! path are always two notices. A confirmation that rests on tickers alone gives way to a title: what it
//! confirmed wrongly is judged again, late, but not lost.
//!
//! Owner: the source thread that has all paths of the exchange. Memory is bounded
//! ([`limits::RACE_NOTICES`]); allocates per notice, version and path. Fails never.

mod load;
mod notice;

use core::cmp::Ordering;
use std::collections::BTreeSet;

use super::told::Told;
use super::{Detected, SeenRecord};
use crate::limits;
use crate::model::{Action, Classification, Exchange, ListingType};
use crate::time::WallUs;

use notice::{Evidence, KeyOf, Link, Notice, Version, address_key, bit, key, within};

/// What a path found, classified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// What its detector says.
    pub found: Detected,
    /// What the classifier says.
    pub classification: Classification,
    /// When the path had read it.
    pub received: WallUs,
    /// When it was known to be new to the path.
    pub detected: WallUs,
}

/// What is to be done with a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Announce it.
    Announce {
        /// The candidate.
        candidate: Candidate,
        /// The identifier under which: the first arrival's.
        notice: Box<str>,
        /// As what.
        action: Action,
    },
    /// It was announced before: have the store remember it.
    Confirms {
        /// The path's item.
        record: SeenRecord,
        /// Under which identifier it was announced.
        notice: Box<str>,
        /// Microseconds from the first arrival to this one; `None` if the first was before this run, or this
        /// one is late or was shown by its path before.
        behind_us: Option<u64>,
    },
}

/// See the module head.
#[derive(Debug)]
pub struct Race {
    exchange: Exchange,
    paths: Vec<&'static str>,
    told: Told,
    notices: Vec<Notice>,
    /// Which is forgotten next, once the table is full.
    oldest: usize,
    /// Keys of notices with their places.
    index: BTreeSet<(u64, u32)>,
}

impl Race {
    /// Of the paths called so; those beyond [`limits::RACE_PATHS`] have no number.
    #[must_use]
    pub fn new(exchange: Exchange, paths: impl IntoIterator<Item = &'static str>) -> Race {
        Race {
            exchange,
            paths: paths.into_iter().take(limits::RACE_PATHS).collect(),
            told: Told::new(),
            notices: Vec::new(),
            oldest: 0,
            index: BTreeSet::new(),
        }
    }

    /// Whose notices.
    #[must_use]
    pub fn exchange(&self) -> Exchange {
        self.exchange
    }

    /// The number of the path called `source`.
    #[must_use]
    pub fn path(&self, source: &str) -> Option<u8> {
        self.paths.iter().position(|path| *path == source).and_then(|at| u8::try_from(at).ok())
    }

    /// Judges what `path` found and adds what is to be done: mostly one verdict, several where it shows that
    /// an earlier confirmation was none.
    pub fn enter(&mut self, path: u8, candidate: Candidate, verdicts: &mut Vec<Verdict>) {
        let now = candidate.detected;
        let mut next = Some(candidate);
        for _ in 0..limits::RACE_UPSETS {
            let Some(candidate) = next else { return };
            let (verdict, upset) = self.judge(path, candidate);
            verdicts.push(verdict);
            next = upset;
            if let Some(Candidate { found, detected, .. }) = &mut next {
                // By now it may be no news.
                found.late |= !within(*detected, now, limits::RACE_WINDOW);
            }
        }
        if let Some(candidate) = next {
            let sight = Version::of(&candidate);
            verdicts.push(self.first(path, candidate, sight));
        }
    }

    fn judge(&mut self, path: u8, candidate: Candidate) -> (Verdict, Option<Candidate>) {
        let sight = Version::of(&candidate);
        if let Some(place) = self.linked(path, &candidate.found.record.notice_id) {
            self.find_at(place, path, &candidate);
            return (self.again(place, path, candidate, sight), None);
        }
        let address = address_key(&candidate.found.url);
        let Some((place, evidence)) = self.best(path, &sight, address, Evidence::Tells) else {
            return (self.first(path, candidate, sight), None);
        };
        let upset = self.link(place, path, &candidate.found.record, evidence);
        self.find_at(place, path, &candidate);
        (self.joins(place, path, candidate, sight, evidence), upset)
    }

    /// Nobody has shown it.
    fn first(&mut self, path: u8, candidate: Candidate, sight: Version) -> Verdict {
        let record = &candidate.found.record;
        let id = record.notice_id.clone();
        let edited = candidate.found.action != Action::Created;
        let action = self.tell(&id, edited, &candidate.classification);
        let mut notice = Notice {
            id: id.clone(),
            announced: true,
            late: candidate.found.late,
            received: Some(candidate.received),
            ..Notice::default()
        };
        notice.links.push(own(path, record));
        notice.add(Some(path), sight);
        let place = self.insert(notice);
        self.find_under(place, key(KeyOf::Item, path, id.bytes()));
        if let Some(address) = address_key(&candidate.found.url) {
            self.find_under(place, address);
        }
        Verdict::Announce { candidate, notice: id, action }
    }

    /// A path that is new to the notice shows it.
    fn joins(
        &mut self,
        place: usize,
        path: u8,
        candidate: Candidate,
        sight: Version,
        evidence: Evidence,
    ) -> Verdict {
        let created = candidate.found.action == Action::Created;
        self.recall(place, &candidate, &sight);
        let Some(notice) = self.notices.get_mut(place) else { return self.first(path, candidate, sight) };
        if created && !notice.announced {
            return self.announce_known(place, path, candidate, sight);
        }
        if created && notice.late && !candidate.found.late {
            return self.announce_better(place, path, candidate, sight);
        }
        if notice.show(path, &sight) {
            if !notice.lists() && sight.listing_type != ListingType::NotListing {
                return self.announce_better(place, path, candidate, sight);
            }
            return self.confirms(place, candidate);
        }
        let changed = notice.changed(&sight);
        let newer = match changed {
            Some(changed) => changed == Ordering::Greater,
            None => notice.is_told_something(&sight),
        };
        if !created || newer && evidence != Evidence::Tells {
            return self.edit(place, path, candidate, sight);
        }
        notice.show_wording(path, &sight);
        let weak = evidence <= Evidence::TellsAtOnce && created;
        if let Some(link) = notice.link(path).filter(|_| weak) {
            link.held = Some(Box::new(candidate.clone()));
        }
        self.confirms(place, candidate)
    }

    /// A path shows an item again that it has shown before.
    fn again(&mut self, place: usize, path: u8, candidate: Candidate, sight: Version) -> Verdict {
        let created = candidate.found.action == Action::Created;
        let fingerprint = candidate.found.record.fingerprint;
        self.recall(place, &candidate, &sight);
        let Some(notice) = self.notices.get_mut(place) else { return self.first(path, candidate, sight) };
        if created && !notice.announced {
            return self.announce_known(place, path, candidate, sight);
        }
        let shown_last = notice.link(path).is_some_and(|link| {
            let same = link.fingerprint == fingerprint;
            link.fingerprint = fingerprint;
            link.held = link.held.take().filter(|_| same);
            same
        });
        // A path that forgot it tells it as new.
        if shown_last || created && notice.show(path, &sight) {
            return Verdict::Confirms {
                notice: notice.id.clone(),
                record: candidate.found.record,
                behind_us: None,
            };
        }
        self.edit(place, path, candidate, sight)
    }

    /// A wording that `path` has not shown: an edit, unless another path has brought it.
    fn edit(&mut self, place: usize, path: u8, candidate: Candidate, sight: Version) -> Verdict {
        self.recall(place, &candidate, &sight);
        let Some(notice) = self.notices.get_mut(place) else { return self.first(path, candidate, sight) };
        if let Some(received) = notice.show_wording(path, &sight) {
            let behind_us = behind(received, &candidate);
            return Verdict::Confirms {
                notice: notice.id.clone(),
                record: candidate.found.record,
                behind_us,
            };
        }
        if notice.changed(&sight) == Some(Ordering::Less) {
            return self.confirms(place, candidate);
        }
        if let Some(other) = self.other(place, &sight, None) {
            self.absorb(place, other);
            if self.notices.get_mut(place).is_some_and(|notice| notice.show(path, &sight)) {
                return self.confirms(place, candidate);
            }
        }
        self.announce_again(place, path, candidate, sight)
    }

    /// What the others announced of an item that one path has in its baseline shows now at the latest.
    fn recall(&mut self, place: usize, candidate: &Candidate, sight: &Version) {
        let address = address_key(&candidate.found.url);
        if self.notices.get(place).is_some_and(|notice| !notice.announced)
            && let Some(other) = self.other(place, sight, address)
        {
            self.absorb(place, other);
        }
    }

    /// An item of a baseline is new to another path, which goes by its own baseline.
    fn announce_known(&mut self, place: usize, path: u8, candidate: Candidate, sight: Version) -> Verdict {
        let id = candidate.found.record.notice_id.clone();
        let action = self.tell(&id, false, &candidate.classification);
        if let Some(notice) = self.notices.get_mut(place) {
            notice.id.clone_from(&id);
            notice.announced = true;
            notice.late = candidate.found.late;
            notice.received = Some(candidate.received);
            match notice.versions.iter_mut().rfind(|version| version.title == sight.title) {
                Some(version) => *version = Version { shown: version.shown | bit(path), ..sight },
                None => notice.add(Some(path), sight),
            }
        }
        self.find_under(place, key(KeyOf::Notice, 0, id.bytes()));
        self.find_under_contents(place);
        Verdict::Announce { candidate, notice: id, action }
    }

    /// A new version of a notice goes out under its first identifier.
    fn announce_again(&mut self, place: usize, path: u8, candidate: Candidate, sight: Version) -> Verdict {
        let mut id = Box::default();
        if let Some(notice) = self.notices.get_mut(place) {
            id = notice.id.clone();
            notice.announced = true;
            notice.add(Some(path), sight);
        }
        self.find_under_contents(place);
        let action = self.tell(&id, true, &candidate.classification);
        Verdict::Announce { candidate, notice: id, action }
    }

    /// A path shows what is known, and makes news of it: it is in time where the others were late, or files
    /// as a listing what the others do not.
    fn announce_better(&mut self, place: usize, path: u8, candidate: Candidate, sight: Version) -> Verdict {
        let mut id = Box::default();
        if let Some(notice) = self.notices.get_mut(place) {
            id = notice.id.clone();
            notice.late = false;
            notice.show(path, &sight);
            match notice.versions.iter_mut().rfind(|version| version.title == sight.title) {
                Some(version) => {
                    version.listing_type = sight.listing_type;
                    version.tickers = sight.tickers;
                }
                None => notice.add(Some(path), sight),
            }
        }
        self.find_under_contents(place);
        self.tell(&id, true, &candidate.classification);
        Verdict::Announce { candidate, notice: id, action: Action::UpdatedWithNews }
    }

    fn confirms(&self, place: usize, candidate: Candidate) -> Verdict {
        let notice = self.notices.get(place);
        let behind_us = behind(notice.and_then(|n| n.received), &candidate);
        let id = notice.map(|n| n.id.clone()).unwrap_or_default();
        Verdict::Confirms { notice: id, record: candidate.found.record, behind_us }
    }

    /// Notes an item that `path` knows without announcing it. Under which identifier it was announced by
    /// another path, if it was.
    pub fn know(
        &mut self,
        path: u8,
        record: &SeenRecord,
        classification: &Classification,
    ) -> Option<Box<str>> {
        let sight = Version::known(record, classification);
        let place = match self.linked(path, &record.notice_id) {
            Some(place) => place,
            None => match self.best(path, &sight, None, Evidence::Title) {
                Some((place, evidence)) => {
                    self.link(place, path, record, evidence);
                    place
                }
                None => {
                    self.register(path, record, sight, classification);
                    return None;
                }
            },
        };
        let notice = self.notices.get_mut(place)?;
        notice.show(path, &sight);
        (notice.announced && notice.id != record.notice_id).then(|| notice.id.clone())
    }

    /// Remembers an item of a baseline.
    fn register(&mut self, path: u8, record: &SeenRecord, sight: Version, classification: &Classification) {
        self.tell(&record.notice_id, false, classification);
        let mut notice = Notice { id: record.notice_id.clone(), ..Notice::default() };
        notice.links.push(own(path, record));
        notice.add(Some(path), sight);
        let place = self.insert(notice);
        self.find_under(place, key(KeyOf::Item, path, record.notice_id.bytes()));
    }

    fn tell(&mut self, id: &str, edited: bool, classification: &Classification) -> Action {
        self.told.note(id, edited, classification.listing_type, &classification.tickers)
    }

    /// The notice that `path` knows as `id`.
    fn linked(&self, path: u8, id: &str) -> Option<usize> {
        let is_it = |place: &usize| {
            self.notices.get(*place).is_some_and(|n| n.links.iter().any(|l| l.path == path && *l.id == *id))
        };
        self.places(key(KeyOf::Item, path, id.bytes())).find(is_it)
    }

    /// The notice for which most speaks, of those where `path` has a place, and by what evidence; the one
    /// published at the nearest moment among equals.
    fn best(
        &self,
        path: u8,
        sight: &Version,
        address: Option<u64>,
        least: Evidence,
    ) -> Option<(usize, Evidence)> {
        // An address that several notices have identifies none.
        let address = address.filter(|key| self.places(*key).take(2).count() == 1);
        let keys = address.into_iter().chain([sight.title]).chain(pair_keys(sight));
        let candidates = keys.flat_map(|key| self.places(key)).filter_map(|place| {
            let notice = self.notices.get(place)?;
            let evidence = notice.evidence(sight, address).filter(|e| *e >= least)?;
            let rank = (evidence, core::cmp::Reverse(notice.distance_us(sight)));
            notice.has_place(path, evidence).then_some((rank, place))
        });
        // Of equals the earlier place.
        candidates
            .reduce(|best, next| if next.0 > best.0 { next } else { best })
            .map(|((evidence, _), place)| (place, evidence))
    }

    /// Another notice that turns out to be this one: it has the very wording of `sight`, or `place` is of a
    /// baseline and it is what the other paths announced.
    fn other(&self, place: usize, sight: &Version, address: Option<u64>) -> Option<usize> {
        let notice = self.notices.get(place)?;
        let least = if notice.announced { Evidence::Release } else { Evidence::TellsAtOnce };
        let keys = address.into_iter().chain([sight.title]).chain(pair_keys(sight));
        keys.flat_map(|key| self.places(key)).find(|at| {
            self.notices.get(*at).is_some_and(|other| {
                *at != place
                    && other.announced
                    && other.evidence(sight, address) >= Some(least)
                    && notice.may_be(other)
            })
        })
    }

    /// Links an item to a notice; what was linked on weaker evidence and never announced comes back.
    fn link(&mut self, place: usize, path: u8, record: &SeenRecord, evidence: Evidence) -> Option<Candidate> {
        let notice = self.notices.get_mut(place)?;
        let taken = notice.links.iter().position(|link| link.path == path);
        let upset = taken.map(|at| notice.links.swap_remove(at));
        let (id, fingerprint) = (record.notice_id.clone(), record.fingerprint);
        notice.links.push(Link { path, id, fingerprint, evidence, held: None });
        self.find_under(place, key(KeyOf::Item, path, record.notice_id.bytes()));
        upset.and_then(|link| link.held).map(|held| *held)
    }

    /// `other` is `place`. It keeps the identifier announced first.
    fn absorb(&mut self, place: usize, other: usize) {
        let Some(mut gone) = self.notices.get_mut(other).map(core::mem::take) else { return };
        self.forget_keys(other, &gone.keys);
        for found_under in gone.keys.drain(..) {
            self.find_under(place, found_under);
        }
        let Some(notice) = self.notices.get_mut(place) else { return };
        let (ours, theirs) = (notice.first_at(), gone.first_at());
        if theirs.is_some_and(|theirs| ours.is_none_or(|ours| theirs < ours)) {
            notice.id = gone.id;
            notice.received = gone.received;
        }
        notice.late = gone.announced && gone.late && (notice.late || !notice.announced);
        notice.announced |= gone.announced;
        notice.links.append(&mut gone.links);
        gone.versions.into_iter().for_each(|version| notice.add(None, version));
        for version in notice.told() {
            self.told.note(&notice.id, true, version.listing_type, &version.tickers);
        }
    }

    /// Takes a notice in, at the place of the one that came first if there is no other.
    fn insert(&mut self, notice: Notice) -> usize {
        let id = key(KeyOf::Notice, 0, notice.id.bytes());
        let place = if self.notices.len() < limits::RACE_NOTICES {
            self.notices.push(notice);
            self.notices.len() - 1
        } else {
            let place = self.oldest;
            self.oldest = (place + 1) % limits::RACE_NOTICES;
            if let Some(gone) = self.notices.get_mut(place).map(|old| core::mem::replace(old, notice)) {
                self.forget_keys(place, &gone.keys);
            }
            place
        };
        self.find_under(place, id);
        self.find_under_contents(place);
        place
    }

    fn places(&self, key: u64) -> impl Iterator<Item = usize> {
        self.index.range((key, 0)..=(key, u32::MAX)).filter_map(|(_, place)| usize::try_from(*place).ok())
    }

    fn find_under(&mut self, place: usize, key: u64) {
        let (Some(notice), Ok(at)) = (self.notices.get_mut(place), u32::try_from(place)) else { return };
        if self.index.insert((key, at)) {
            notice.keys.push(key);
        }
    }

    /// The address that a path gives, if it surely is of this notice.
    fn find_at(&mut self, place: usize, path: u8, candidate: &Candidate) {
        let link = self.notices.get_mut(place).and_then(|notice| notice.link(path));
        if let Some(address) = address_key(&candidate.found.url)
            && link.is_some_and(|link| link.evidence >= Evidence::Title)
        {
            self.find_under(place, address);
        }
    }

    /// Titles and pairs of the newest version.
    fn find_under_contents(&mut self, place: usize) {
        let Some(newest) = self.notices.get(place).and_then(|n| n.versions.last()) else { return };
        let keys: Vec<u64> = core::iter::once(newest.title).chain(pair_keys(newest)).collect();
        for key in keys {
            self.find_under(place, key);
        }
    }

    fn forget_keys(&mut self, place: usize, keys: &[u64]) {
        let Ok(at) = u32::try_from(place) else { return };
        for key in keys {
            self.index.remove(&(*key, at));
        }
    }
}

/// The item with which a notice came.
fn own(path: u8, record: &SeenRecord) -> Link {
    Link {
        path,
        id: record.notice_id.clone(),
        fingerprint: record.fingerprint,
        evidence: Evidence::Certain,
        held: None,
    }
}

/// Under which a version is found by what it lists.
fn pair_keys(version: &Version) -> impl Iterator<Item = u64> {
    let listing_type = version.listing_type;
    let tickers = version.tickers.iter().filter(move |_| listing_type != ListingType::NotListing);
    tickers.map(move |ticker| key(KeyOf::Pair, listing_type as u8, ticker.as_str().bytes()))
}

/// How long after the first arrival a candidate came; late ones are not measured.
fn behind(first: Option<WallUs>, candidate: &Candidate) -> Option<u64> {
    let first = first.filter(|_| !candidate.found.late)?;
    Some(u64::try_from(candidate.received.micros_since(first)).unwrap_or(0))
}

#[cfg(test)]
mod orders;
