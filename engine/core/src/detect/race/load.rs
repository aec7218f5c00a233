//! What a race remembers from before a start, from what the store has.
//!
//! Contract: first [`Race::load_announced`] for history, the oldest first, then [`Race::load_seen`] for each
//! path. A confirmation that the store does not have is recognised again when its path shows it. Runs at
//! start only.

use super::{Evidence, Link, Notice, Race, Version, key, own};
use crate::detect::{SeenRecord, fingerprint};
use crate::limits;
use crate::model::{Announcement, Classification};

use super::notice::KeyOf;

impl Race {
    /// Adds an announcement of history. Load the oldest first.
    pub fn load_announced(&mut self, announcement: &Announcement) {
        let a = announcement;
        let prefix = a.id.strip_prefix(self.exchange.name()).and_then(|rest| rest.strip_prefix(':'));
        let (Some(id), true) = (prefix, a.exchange == self.exchange) else { return };
        let path = self.path(&a.source);
        let version = Version {
            at: a.detected,
            announced: true,
            ..Version::new(&a.title, a.published, &a.classification)
        };
        self.tell(id, true, &a.classification);
        let place = match self.named(id) {
            Some(place) => place,
            None => self.insert(Notice { id: id.into(), announced: true, late: a.late, ..Notice::default() }),
        };
        let record = SeenRecord {
            source: "",
            notice_id: a.notice_id.as_str().into(),
            title: "".into(),
            fingerprint: fingerprint(&a.title, a.published),
            published: a.published,
        };
        if let Some(notice) = self.notices.get_mut(place) {
            notice.late &= a.late;
            notice.add(path, version);
            if let Some(path) = path {
                match notice.link(path) {
                    Some(link) => link.fingerprint = record.fingerprint,
                    None => notice.links.push(own(path, &record)),
                }
            }
        }
        self.find_under_contents(place);
        if let Some(path) = path {
            self.find_under(place, key(KeyOf::Item, path, record.notice_id.bytes()));
        }
        if let Some(address) = super::address_key(&a.url) {
            self.find_under(place, address);
        }
    }

    /// Adds an item that `path` knows; `notice` is the identifier under which it was announced, if it
    /// confirmed one. An item that belongs to nothing announced is remembered up to
    /// [`limits::RACE_NOTICES_UNANNOUNCED`]: load each path's newest first.
    pub fn load_seen(
        &mut self,
        path: u8,
        record: &SeenRecord,
        classification: &Classification,
        notice: Option<&str>,
    ) {
        let sight = Version::known(record, classification);
        let linked = self.linked(path, &record.notice_id).map(|place| (place, Evidence::Certain));
        let named = || {
            let place = self.named(notice?)?;
            let notice = self.notices.get(place)?;
            // A confirmation in other words may have been wrong.
            let evidence = notice.evidence(&sight, None).unwrap_or(Evidence::Tells);
            notice.has_place(path, evidence).then_some((place, evidence))
        };
        let best = || self.best(path, &sight, None, Evidence::Title);
        let Some((place, evidence)) = linked.or_else(named).or_else(best) else {
            let unannounced = self.notices.iter().filter(|n| !n.announced).count();
            if unannounced < limits::RACE_NOTICES_UNANNOUNCED && self.notices.len() < limits::RACE_NOTICES {
                self.register(path, record, sight, classification);
            }
            return;
        };
        if linked.is_none() {
            self.link(place, path, record, evidence);
        }
        if let Some(notice) = self.notices.get_mut(place) {
            notice.show(path, &sight);
            if let Some(Link { fingerprint, .. }) = notice.link(path) {
                *fingerprint = record.fingerprint;
            }
        }
    }

    /// The notice announced as `id`.
    fn named(&self, id: &str) -> Option<usize> {
        let is_it = |place: &usize| self.notices.get(*place).is_some_and(|n| n.announced && *n.id == *id);
        self.places(key(KeyOf::Notice, 0, id.bytes())).find(is_it)
    }
}
