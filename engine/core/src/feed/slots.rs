//! A table whose entries never move: subscribers by number.
//!
//! Contract: constant time; grows by a chunk at a time, so that growing never copies what is there.
//! A number is free again when its entry is taken out. Owner: a feed writer.
//!
//! A fan-out looks at every entry, and between two of them the kernel sends, which leaves nothing of
//! the table in the near caches. So each entry begins a cache line, with the tag that says whether it
//! is there: what the entry's type puts first comes with it.

/// Entries allocated together.
const CHUNK: usize = 256;

/// A place of the table. With a representation of its own, since `Option` would keep its tag wherever
/// the entry has a value to spare.
#[derive(Debug)]
#[repr(u8, align(64))]
enum Slot<T> {
    Free,
    Taken(T),
}

/// See the module head.
#[derive(Debug)]
pub struct Slots<T> {
    chunks: Vec<Box<[Slot<T>]>>,
    free: Vec<u32>,
    /// Numbers ever given out: every entry is below it.
    used: u32,
}

impl<T> Default for Slots<T> {
    fn default() -> Slots<T> {
        Slots { chunks: Vec::new(), free: Vec::new(), used: 0 }
    }
}

impl<T> Slots<T> {
    /// The number that the next entry gets.
    #[must_use]
    pub fn next_free(&self) -> u32 {
        self.free.last().copied().unwrap_or(self.used)
    }

    /// Puts an entry in and returns its number, as announced by [`Slots::next_free`].
    pub fn insert(&mut self, entry: T) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.used += 1;
            self.used - 1
        });
        let (chunk, place) = split(slot);
        if chunk >= self.chunks.len() {
            self.chunks.push((0..CHUNK).map(|_| Slot::Free).collect());
        }
        if let Some(vacant) = self.chunks.get_mut(chunk).and_then(|chunk| chunk.get_mut(place)) {
            *vacant = Slot::Taken(entry);
        }
        slot
    }

    /// The entry of a number.
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        let (chunk, place) = split(slot);
        match self.chunks.get_mut(chunk)?.get_mut(place)? {
            Slot::Taken(entry) => Some(entry),
            Slot::Free => None,
        }
    }

    /// Takes an entry out.
    pub fn remove(&mut self, slot: u32) -> Option<T> {
        let (chunk, place) = split(slot);
        let taken = self.chunks.get_mut(chunk)?.get_mut(place)?;
        match core::mem::replace(taken, Slot::Free) {
            Slot::Taken(entry) => {
                self.free.push(slot);
                Some(entry)
            }
            Slot::Free => None,
        }
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.free.len() == self.used as usize
    }

    /// One past the highest number in use.
    #[must_use]
    pub const fn end(&self) -> u32 {
        self.used
    }
}

const fn split(slot: u32) -> (usize, usize) {
    (slot as usize / CHUNK, slot as usize % CHUNK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_used_again_and_entries_stay() {
        let mut slots = Slots::default();
        assert!(slots.is_empty());
        for n in 0..600_u32 {
            assert_eq!(slots.next_free(), n);
            assert_eq!(slots.insert(n), n);
            assert!(!slots.is_empty());
        }
        assert_eq!((slots.remove(300), slots.remove(300), slots.remove(9_999)), (Some(300), None, None));
        assert!(slots.get_mut(300).is_none());
        assert_eq!(slots.next_free(), 300);
        assert_eq!(slots.insert(7), 300);
        assert_eq!(slots.insert(8), 600);
        assert_eq!(slots.get_mut(300), Some(&mut 7));
        assert_eq!(slots.end(), 601);
        for n in 0..601 {
            assert!(!slots.is_empty());
            assert!(slots.remove(n).is_some());
        }
        assert!(slots.is_empty());
    }
}
