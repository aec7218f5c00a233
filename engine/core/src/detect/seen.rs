//! The seen set: a table of fixed capacity from identifiers to what was last seen of them.
//!
//! Contract: an item on a current page of any list is never evicted; when the table is full the
//! item gone from all pages the longest makes room. Owner: the source thread. Memory is reserved
//! in [`SeenSet::with_capacity`]; only a new item allocates (its identifier). Never fails.

use crate::limits;
use crate::time::WallUs;

/// What the seen set keeps of one item.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    id: Box<str>,
    pub(super) version: Version,
    /// Versions that were replaced, the latest first.
    replaced: [Option<Version>; limits::VERSIONS_REMEMBERED],
    pub(super) modified: Option<WallUs>,
    /// One bit for each list whose current page holds it.
    lists: u8,
    /// The tick at which it was last on a page.
    last_present: u64,
}

const _: () = assert!(limits::LISTS_PER_SOURCE <= u8::BITS as usize);

impl Entry {
    pub(super) fn new(id: &str, version: Version, modified: Option<WallUs>) -> Entry {
        Entry {
            id: id.into(),
            version,
            replaced: [None; limits::VERSIONS_REMEMBERED],
            modified,
            lists: 0,
            last_present: 0,
        }
    }

    /// Replaces the version by a newer one.
    pub(super) fn supersede(&mut self, version: Version, modified: Option<WallUs>) {
        self.replace(self.version);
        self.version = version;
        self.modified = modified.or(self.modified);
    }

    /// Notes a version as the one replaced last.
    pub(super) fn replace(&mut self, version: Version) {
        self.replaced.rotate_right(1);
        if let Some(latest) = self.replaced.first_mut() {
            *latest = Some(version);
        }
    }

    /// Whether `version` was replaced by a newer one, as far as is remembered.
    pub(super) fn was(&self, version: Version) -> bool {
        self.replaced.iter().flatten().any(|old| old.agrees(version))
    }
}

/// What an edit changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Version {
    title: u64,
    published: Option<WallUs>,
}

impl Version {
    pub(super) fn new(title: &str, published: Option<WallUs>) -> Version {
        Version { title: hash(title.as_bytes()), published }
    }

    /// Whether both can be one version: a publish time that one of them lacks decides nothing.
    pub(super) fn agrees(self, other: Version) -> bool {
        let same_time =
            self.published.is_none() || other.published.is_none() || self.published == other.published;
        self.title == other.title && same_time
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct SeenSet {
    capacity: usize,
    entries: Vec<Entry>,
    /// Open addressing with linear probing over positions in `entries`; at most half full.
    index: Box<[u32]>,
    /// Positions of the entries on the current page of each list.
    pages: [Vec<u32>; limits::LISTS_PER_SOURCE],
    tick: u64,
}

const FREE: u32 = u32::MAX;

impl SeenSet {
    /// An empty set. `capacity` must exceed what all pages together can hold.
    pub(super) fn with_capacity(capacity: usize) -> SeenSet {
        let slots = (capacity.max(1) * 2).next_power_of_two();
        SeenSet {
            capacity,
            entries: Vec::with_capacity(capacity),
            index: vec![FREE; slots].into_boxed_slice(),
            pages: core::array::from_fn(|_| Vec::with_capacity(limits::ITEMS_PER_RESPONSE)),
            tick: 0,
        }
    }

    /// Advances the clock by which the longest absent is found.
    pub(super) fn tick(&mut self) {
        self.tick += 1;
    }

    /// The page of `list` is about to be read anew: its items stay only if they are met again.
    pub(super) fn leave_page(&mut self, list: usize) {
        let Some(page) = self.pages.get_mut(list) else { return };
        for position in page.drain(..) {
            if let Some(entry) = self.entries.get_mut(position as usize) {
                entry.lists &= !bit(list);
                entry.last_present = self.tick;
            }
        }
    }

    /// The entry of `id`, noted as present on the page of `list`.
    pub(super) fn present(&mut self, id: &str, list: usize) -> Option<&mut Entry> {
        let position = *self.index.get(self.find(id).ok()?)?;
        let entry = self.entries.get_mut(position as usize)?;
        enter_page(entry, &mut self.pages, position, list, self.tick);
        Some(entry)
    }

    /// The entry of `id`, wherever it is.
    pub(super) fn entry(&mut self, id: &str) -> Option<&mut Entry> {
        let position = *self.index.get(self.find(id).ok()?)?;
        self.entries.get_mut(position as usize)
    }

    /// Adds an item, or replaces it, and notes it as present on the page of `list` if given.
    pub(super) fn insert(&mut self, mut entry: Entry, list: Option<usize>) {
        entry.last_present = self.tick;
        let slot = self.find(&entry.id);
        let position = match slot {
            Ok(slot) => self.index.get(slot).copied().unwrap_or(FREE),
            Err(_) if self.entries.len() < self.capacity => u32::try_from(self.entries.len()).unwrap_or(FREE),
            Err(_) => match self.evict() {
                Some(position) => position,
                None => return,
            },
        };
        if let Some(list) = list {
            enter_page(&mut entry, &mut self.pages, position, list, self.tick);
        }
        if slot.is_err() {
            // Eviction moves slots, so the free one is looked up afterwards.
            if let Err(free) = self.find(&entry.id)
                && let Some(cell) = self.index.get_mut(free)
            {
                *cell = position;
            }
        }
        match self.entries.get_mut(position as usize) {
            Some(place) => {
                entry.lists |= if slot.is_ok() { place.lists } else { 0 };
                *place = entry;
            }
            None => self.entries.push(entry),
        }
    }

    /// Frees the position of the item longest gone from all pages.
    fn evict(&mut self) -> Option<u32> {
        let absent = self.entries.iter().enumerate().filter(|(_, e)| e.lists == 0);
        let (position, entry) = absent.min_by_key(|(_, e)| e.last_present)?;
        let slot = self.find(&entry.id).ok()?;
        self.unlink(slot);
        u32::try_from(position).ok()
    }

    /// Empties a slot of the index and closes the gap, so that every probe still ends rightly.
    fn unlink(&mut self, slot: usize) {
        let mask = self.index.len() - 1;
        let mut gap = slot;
        let mut next = slot;
        loop {
            next = (next + 1) & mask;
            let Some(position) = self.index.get(next).copied().filter(|p| *p != FREE) else { break };
            let Some(entry) = self.entries.get(position as usize) else { break };
            let home = home(&entry.id, mask);
            // The entry may move back into the gap unless its home lies after the gap.
            let from_home = next.wrapping_sub(home) & mask;
            let from_gap = next.wrapping_sub(gap) & mask;
            if from_home >= from_gap {
                self.index.swap(gap, next);
                gap = next;
            }
        }
        if let Some(cell) = self.index.get_mut(gap) {
            *cell = FREE;
        }
    }

    /// The slot of `id`, or the free slot where it belongs.
    fn find(&self, id: &str) -> Result<usize, usize> {
        let mask = self.index.len() - 1;
        let mut slot = home(id, mask);
        // Half of the slots are free, so this ends.
        loop {
            match self.index.get(slot).copied() {
                None | Some(FREE) => return Err(slot),
                Some(position) => {
                    if self.entries.get(position as usize).is_some_and(|e| &*e.id == id) {
                        return Ok(slot);
                    }
                }
            }
            slot = (slot + 1) & mask;
        }
    }
}

fn enter_page(
    entry: &mut Entry,
    pages: &mut [Vec<u32>; limits::LISTS_PER_SOURCE],
    position: u32,
    list: usize,
    tick: u64,
) {
    entry.last_present = tick;
    if entry.lists & bit(list) == 0
        && let Some(page) = pages.get_mut(list)
    {
        page.push(position);
        entry.lists |= bit(list);
    }
}

fn bit(list: usize) -> u8 {
    u32::try_from(list).ok().and_then(|shift| 1_u8.checked_shl(shift)).unwrap_or(0)
}

fn home(id: &str, mask: usize) -> usize {
    // Truncation is meant: only the low bits choose a slot.
    hash(id.as_bytes()) as usize & mask
}

/// A 64-bit hash of eight bytes a step: multiply, fold the high half onto the low one. Kept in
/// memory only.
fn hash(bytes: &[u8]) -> u64 {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    let step = |state: u64, word: u64| {
        // Two 64-bit factors cannot overflow; saying so keeps the checked multiplication of 128
        // bits, a library call, out of the build.
        let product = u128::from(state ^ word).wrapping_mul(u128::from(MULTIPLIER));
        (product as u64) ^ ((product >> 64) as u64)
    };
    let (words, tail) = bytes.as_chunks::<8>();
    // The length keeps a short tail apart from one padded with zeros.
    let mut state = 0x243f_6a88_85a3_08d3 ^ (bytes.len() as u64).wrapping_mul(MULTIPLIER);
    for word in words {
        state = step(state, u64::from_le_bytes(*word)).wrapping_add(MULTIPLIER);
    }
    let last = tail.iter().rev().fold(0, |word, b| word << 8 | u64::from(*b));
    step(step(state, last).wrapping_add(MULTIPLIER), 0x1319_8a2e_0370_7344)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn entry(id: u32) -> Entry {
        Entry::new(&id.to_string(), Version::new("", None), None)
    }

    proptest! {
            /// Against a plain map with the same rule: pages come anew, one list after another.
            #[test]
            fn behaves_like_a_map_that_forgets_the_longest_absent(
                loaded in prop::collection::vec(0_u32..60, 0..40),
                pages in prop::collection::vec((0_usize..3, prop::collection::vec(0_u32..60, 0..6)), 1..60),
            ) {
                const CAPACITY: usize = 24;
                let mut set = SeenSet::with_capacity(CAPACITY);
                // Identifier to the last tick it was present; identifiers on each page.
                let mut model: BTreeMap<u32, u64> = BTreeMap::new();
                let mut on_page: [Vec<u32>; 3] = Default::default();
                let mut tick = 0;
                let loads = loaded.into_iter().map(|id| (None, vec![id]));
                for (list, ids) in loads.chain(pages.into_iter().map(|(list, ids)| (Some(list), ids))) {
                    tick += 1;
                    set.tick();
                    if let Some(list) = list {
                        set.leave_page(list);
                        on_page[list].drain(..).for_each(|id| {
     model.insert(id, tick);
    });
                    }
                    for id in ids {
                        let found = list.map(|list| set.present(&id.to_string(), list).is_some());
                        if let Some(found) = found {
                            prop_assert_eq!(found, model.contains_key(&id));
                        }
                        if found != Some(true) {
                            set.insert(entry(id), list);
                            let full = model.len() == CAPACITY && !model.contains_key(&id);
                            if full {
                                let kept = |id: &u32| on_page.iter().any(|page| page.contains(id));
                                let longest = model.iter().filter(|(id, _)| !kept(id)).map(|(_, at)| *at).min();
                                // Among equals either may go: ask the set which.
                                let gone: Vec<u32> = model
                                    .keys()
                                    .copied()
                                    .filter(|id| set.find(&id.to_string()).is_err())
                                    .collect();
                                prop_assert_eq!(gone.len(), 1);
                                prop_assert_eq!(model.remove(&gone[0]), longest);
                                prop_assert!(!kept(&gone[0]));
                            }
                        }
                        model.insert(id, tick);
                        if let Some(list) = list
                            && !on_page[list].contains(&id)
                        {
                            on_page[list].push(id);
                        }
                    }
                    prop_assert_eq!(set.entries.len(), model.len());
                    for id in model.keys() {
                        prop_assert!(set.find(&id.to_string()).is_ok());
                    }
                }
            }

            #[test]
            fn different_titles_differ(a in "\\PC{0,40}", b in "\\PC{0,40}") {
                prop_assert_eq!(a == b, hash(a.as_bytes()) == hash(b.as_bytes()));
            }
        }

    #[test]
    fn titles_differ_in_any_one_byte_and_in_length() {
        let title = "Binance Will List Northlight (NLT)";
        let mut seen = vec![hash(title.as_bytes()), hash(b""), hash(b"\0"), hash(b"\0\0")];
        for at in 0..title.len() {
            let mut bytes = title.as_bytes().to_vec();
            bytes[at] ^= 1;
            seen.push(hash(&bytes));
            seen.push(hash(&title.as_bytes()[..at.max(1)]));
        }
        seen.dedup();
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert!(count - seen.len() <= 1, "only the first cut repeats");
    }
}
