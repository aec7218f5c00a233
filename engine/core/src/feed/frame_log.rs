//! Announcements as ready frames in one byte ring; a subscriber is a cursor into it.
//!
//! Contract: an announcement is copied once per class of subscriber (not per subscriber), with its
//! frame header, its dispatch stamp patched in the copy. Nothing moves afterwards. Making room is a
//! step of its own: [`FrameLog::make_room`] says which indices are about to go while their bytes are
//! still there, so that who needs them can be closed without tearing a frame. Owner: a feed writer.
//! Allocates once, at start. Fails only for an announcement larger than the whole ring.

use std::collections::VecDeque;
use std::sync::Arc;

use super::subscription::{FieldSet, FrameKind};
use crate::model::Announcement;
use crate::time::WallUs;
use crate::wire::{EncodedAnnouncement, Payload};
use crate::ws::Opcode;
use crate::ws::frame::{HEADER_BYTES, encode_header, server_header_len};

/// What makes two subscribers' bytes differ: opcode, field set, redaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Class(u8);

impl Class {
    /// How many there are.
    pub const COUNT: usize = 8;

    /// The class of a subscription.
    #[must_use]
    pub const fn new(frames: FrameKind, fields: FieldSet, redacted: bool) -> Class {
        let text = matches!(frames, FrameKind::Text) as u8;
        let full = matches!(fields, FieldSet::Full) as u8;
        Class(text | full << 1 | (redacted as u8) << 2)
    }

    /// Every class.
    pub fn all() -> impl Iterator<Item = Class> {
        (0..Class::COUNT as u8).map(Class)
    }

    /// Below [`Class::COUNT`].
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Opcode of its data frames.
    #[must_use]
    pub const fn opcode(self) -> Opcode {
        if self.0 & 1 == 0 { Opcode::Binary } else { Opcode::Text }
    }

    /// Whether announcements carry the full field set.
    #[must_use]
    pub const fn is_full(self) -> bool {
        self.0 & 2 != 0
    }

    /// Whether title and ticker are withheld.
    #[must_use]
    pub const fn is_redacted(self) -> bool {
        self.0 & 4 != 0
    }

    /// Its text of an announcement.
    #[must_use]
    pub fn payload(self, announcement: &EncodedAnnouncement) -> &Payload {
        announcement.payload(self.is_full(), self.is_redacted())
    }
}

/// Classes that have a subscriber.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassSet(u8);

impl ClassSet {
    /// This set and `class`.
    #[must_use]
    pub const fn with(self, class: Class) -> ClassSet {
        ClassSet(self.0 | 1 << class.0)
    }

    /// Whether `class` is in it.
    #[must_use]
    pub const fn contains(self, class: Class) -> bool {
        self.0 & (1 << class.0) != 0
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Span {
    at: u32,
    len: u32,
}

#[derive(Debug)]
struct Entry {
    announcement: Arc<EncodedAnnouncement>,
    frames: [Span; Class::COUNT],
    start: usize,
    end: usize,
}

/// See the module head.
///
/// INVARIANT: entries lie in the ring in the order of their index, each in one piece, at most one
/// place where the order wraps; none overlaps another.
#[derive(Debug)]
pub struct FrameLog {
    bytes: Box<[u8]>,
    entries: VecDeque<Entry>,
    max_entries: usize,
    /// Index of the oldest entry.
    first: u64,
    /// Where the next entry's bytes begin.
    head: usize,
}

/// An announcement whose frames do not fit into an empty ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

impl FrameLog {
    /// A ring of `bytes` for at most `entries` announcements. Offsets are 32 bits wide: more than
    /// 4 GiB are not used.
    #[must_use]
    pub fn new(bytes: usize, entries: usize) -> FrameLog {
        let bytes = bytes.min(u32::MAX as usize);
        let max_entries = entries.max(1);
        FrameLog {
            bytes: vec![0; bytes].into_boxed_slice(),
            entries: VecDeque::with_capacity(max_entries),
            max_entries,
            first: 0,
            head: 0,
        }
    }

    /// Index of the oldest entry held.
    #[must_use]
    pub const fn first_index(&self) -> u64 {
        self.first
    }

    /// Index that the next entry gets.
    #[must_use]
    pub fn next_index(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// The index below which [`FrameLog::push`] of this announcement will evict. Subscribers whose
    /// cursor is below it must be dealt with before.
    #[must_use]
    pub fn make_room(&self, announcement: &EncodedAnnouncement, classes: ClassSet) -> u64 {
        let needed = frames_len(announcement, classes);
        let (_, evicted) = self.place(needed);
        self.first + evicted as u64
    }

    /// Frames the announcement for every class in `classes`, stamped with `dispatch`; returns its
    /// index.
    ///
    /// # Errors
    /// Its frames together are larger than the ring; nothing changed.
    pub fn push(
        &mut self,
        announcement: Arc<EncodedAnnouncement>,
        classes: ClassSet,
        dispatch: WallUs,
    ) -> Result<u64, TooLarge> {
        let needed = frames_len(&announcement, classes);
        if needed > self.bytes.len() {
            return Err(TooLarge);
        }
        let (start, evicted) = self.place(needed);
        self.entries.drain(..evicted);
        self.first += evicted as u64;
        let mut at = start;
        let mut frames = [Span::default(); Class::COUNT];
        for (class, span) in Class::all().zip(&mut frames) {
            if !classes.contains(class) {
                continue;
            }
            let payload = class.payload(&announcement);
            let len = frame_len(payload);
            // In range: `place` found `needed` bytes from `start`, and `needed` is the sum of `len`.
            if let Some(to) = self.bytes.get_mut(at..at + len) {
                write_frame_at(to, class, payload, dispatch);
            }
            *span = Span { at: at as u32, len: len as u32 };
            at += len;
        }
        self.head = at;
        self.entries.push_back(Entry { announcement, frames, start, end: at });
        Ok(self.next_index() - 1)
    }

    /// The frame of an entry for a class; `None` when it is evicted, not there yet, or the class had
    /// no subscriber then.
    #[must_use]
    pub fn frame(&self, index: u64, class: Class) -> Option<&[u8]> {
        self.frame_of(self.entry(index)?, class)
    }

    /// The newest entry's announcement and its frame for a class that had a subscriber then.
    #[must_use]
    pub fn newest(&self, class: Class) -> Option<(&Announcement, &[u8])> {
        let entry = self.entries.back()?;
        Some((&entry.announcement.announcement, self.frame_of(entry, class)?))
    }

    fn frame_of(&self, entry: &Entry, class: Class) -> Option<&[u8]> {
        let span = entry.frames.get(class.index())?;
        if span.len == 0 {
            return None;
        }
        let at = span.at as usize;
        self.bytes.get(at..at + span.len as usize)
    }

    /// The announcement of an entry.
    #[must_use]
    pub fn announcement(&self, index: u64) -> Option<&EncodedAnnouncement> {
        Some(&self.entry(index)?.announcement)
    }

    fn entry(&self, index: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    /// Where `needed` bytes go, and how many of the oldest entries are in the way.
    fn place(&self, needed: usize) -> (usize, usize) {
        let wraps = self.head + needed > self.bytes.len();
        let start = if wraps { 0 } else { self.head };
        let end = start + needed;
        // The oldest entries lie behind the head. When it wraps, those behind the old head go first,
        // else order would be lost; then whatever overlaps.
        let in_the_way = |entry: &Entry| {
            (wraps && entry.start >= self.head && entry.end > entry.start)
                || (entry.start < end && entry.end > start)
        };
        // Entries lie in order, so what is in the way are the oldest ones, with those among them that
        // hold no frame and are nowhere.
        let mut by_bytes = 0;
        for (at, entry) in self.entries.iter().enumerate() {
            if in_the_way(entry) {
                by_bytes = at + 1;
            } else if entry.end > entry.start {
                break;
            }
        }
        let by_count = (self.entries.len() + 1).saturating_sub(self.max_entries);
        (start, by_bytes.max(by_count))
    }
}

fn frame_len(payload: &Payload) -> usize {
    server_header_len(payload.json.len()) + payload.json.len()
}

fn frames_len(announcement: &EncodedAnnouncement, classes: ClassSet) -> usize {
    Class::all().filter(|c| classes.contains(*c)).map(|c| frame_len(c.payload(announcement))).sum()
}

/// `to` is exactly [`frame_len`] long.
fn write_frame_at(to: &mut [u8], class: Class, payload: &Payload, dispatch: WallUs) {
    let mut header = [0; HEADER_BYTES];
    let header_len = encode_header(&mut header, true, class.opcode(), payload.json.len(), None);
    let Some((head, body)) = to.split_at_mut_checked(header_len) else { return };
    if let Some(header) = header.get(..header_len) {
        head.copy_from_slice(header);
    }
    if body.len() == payload.json.len() {
        body.copy_from_slice(&payload.json);
        payload.stamp(body, dispatch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode;
    use crate::wire::tests::{encoded_at, example};
    use proptest::prelude::*;

    fn all_classes() -> ClassSet {
        Class::all().fold(ClassSet::default(), ClassSet::with)
    }

    #[test]
    fn frames_of_every_class_are_whole_and_stamped() {
        let mut log = FrameLog::new(64 * 1_024, 8);
        let announcement = encoded_at(1, 1);
        let index =
            log.push(Arc::clone(&announcement), all_classes(), WallUs(1_710_345_000_006_000)).unwrap();
        for class in Class::all() {
            let frame = log.frame(index, class).unwrap();
            let mut json = Vec::new();
            class.payload(&announcement).write_stamped(&mut json, WallUs(1_710_345_000_006_000));
            let mut expected = Vec::new();
            crate::ws::frame::write_frame(&mut expected, class.opcode(), &json, None);
            assert_eq!(frame, expected);
        }
        let binary = Class::new(FrameKind::Binary, FieldSet::Basic, false);
        let text = Class::new(FrameKind::Text, FieldSet::Basic, false);
        assert_eq!(log.frame(index, binary).unwrap()[1..], log.frame(index, text).unwrap()[1..]);
    }

    #[test]
    fn only_classes_with_subscribers_are_written() {
        let mut log = FrameLog::new(64 * 1_024, 8);
        let full = Class::new(FrameKind::Binary, FieldSet::Full, false);
        let index = log.push(encoded_at(1, 1), ClassSet::default().with(full), WallUs(0)).unwrap();
        assert_eq!(Class::all().filter(|c| log.frame(index, *c).is_some()).collect::<Vec<_>>(), [full]);
        let none = log.push(encoded_at(1, 2), ClassSet::default(), WallUs(0)).unwrap();
        assert_eq!(none, index + 1);
        assert!(log.announcement(none).is_some() && log.frame(none, full).is_none());
    }

    #[test]
    fn one_larger_than_the_ring_changes_nothing() {
        let mut log = FrameLog::new(512, 8);
        let class = ClassSet::default().with(Class(0));
        let index = log.push(encoded_at(1, 1), class, WallUs(0)).unwrap();
        let before = log.frame(index, Class(0)).unwrap().to_vec();
        let large = Arc::new(encode(example(&"x".repeat(600), &[])));
        assert_eq!(log.push(large, class, WallUs(0)), Err(TooLarge));
        assert_eq!(log.frame(index, Class(0)).unwrap(), before);
    }

    /// What [`FrameLog::place`] finds without looking further than it must.
    fn evicted_by_looking_at_all(log: &FrameLog, next: &EncodedAnnouncement, classes: ClassSet) -> u64 {
        let needed = frames_len(next, classes);
        let wraps = log.head + needed > log.bytes.len();
        let start = if wraps { 0 } else { log.head };
        let goes = |entry: &Entry| {
            let behind_head = wraps && entry.start >= log.head && entry.end > entry.start;
            behind_head || (entry.start < start + needed && entry.end > start)
        };
        let by_bytes = log.entries.iter().rposition(goes).map_or(0, |last| last + 1);
        by_bytes.max((log.entries.len() + 1).saturating_sub(log.max_entries)) as u64
    }

    proptest! {
        /// Against a list of everything ever pushed: what is held is never torn, what goes was told
        /// before, and nothing goes while the ring has room for it.
        #[test]
        fn held_frames_are_never_torn(
            titles in prop::collection::vec((0..400_usize, 0..=255_u8), 1..120),
            ring in 2_048..20_000_usize,
            max_entries in 1..40_usize,
        ) {
            let mut log = FrameLog::new(ring, max_entries);
            let mut pushed: Vec<(ClassSet, Vec<Vec<u8>>)> = Vec::new();
            for (title_len, classes) in titles {
                let classes = ClassSet(classes);
                let announcement = Arc::new(encode(example(&"t".repeat(title_len), &["ABC"])));
                let evicts = log.make_room(&announcement, classes);
                let before = log.first_index();
                prop_assert_eq!(evicts - before, evicted_by_looking_at_all(&log, &announcement, classes));
                let frames = Class::all().map(|class| {
                    let mut json = Vec::new();
                    class.payload(&announcement).write_stamped(&mut json, WallUs(7));
                    let mut frame = Vec::new();
                    crate::ws::frame::write_frame(&mut frame, class.opcode(), &json, None);
                    frame
                }).collect();
                if log.push(announcement, classes, WallUs(7)).is_err() {
                    prop_assert_eq!(log.first_index(), before);
                    continue;
                }
                prop_assert_eq!(log.first_index(), evicts);
                pushed.push((classes, frames));
                prop_assert_eq!(log.next_index(), pushed.len() as u64);
                prop_assert!(log.next_index() - log.first_index() <= max_entries as u64);
                for index in log.first_index()..log.next_index() {
                    let (classes, frames) = &pushed[index as usize];
                    for class in Class::all() {
                        let expected = classes.contains(class).then_some(&frames[class.index()][..]);
                        prop_assert_eq!(log.frame(index, class), expected);
                    }
                }
            }
        }
    }
}
