//! In which order a fan-out goes through the subscribers, so that nobody is always last.
//!
//! Contract: starts follow the golden ratio, far apart and evenly spread. An even start alone is not fair:
//! whoever stands behind a run of empty places, or of subscribers who filter the announcement out, would be
//! first for every start within that run. So each start is used twice, the second time through the same
//! order backwards: a subscriber's two places add up to the same for everyone, whoever else hears it. Which
//! of the two ways comes first follows the Thue-Morse sequence, so that one who hears every other
//! announcement does not get one way only. Owner: a feed writer. Allocates nothing, never fails.

/// See the module head.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rotation {
    /// Fan-outs so far.
    turns: u32,
}

impl Rotation {
    /// The order of the next fan-out through the places below `end`: each once.
    pub(super) fn next_order(&mut self, end: u32) -> Order {
        let turn = self.turns;
        self.turns = turn.wrapping_add(1);
        // The fraction of the golden ratio's multiple, scaled to the places: below `end`.
        let fraction = u64::from((turn / 2).wrapping_mul(0x9E37_79B9));
        let start = ((fraction * u64::from(end)) >> 32) as u32;
        Order { there: (start..end).chain(0..start), backwards: turn.count_ones() % 2 == 1 }
    }
}

/// Places in the order of one fan-out.
#[derive(Clone, Debug)]
pub(super) struct Order {
    there: core::iter::Chain<core::ops::Range<u32>, core::ops::Range<u32>>,
    backwards: bool,
}

impl Iterator for Order {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        if self.backwards { self.there.next_back() } else { self.there.next() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_once_and_each_order_once_in_either_direction() {
        let mut rotation = Rotation::default();
        for end in [0, 1, 2, 7, 300] {
            rotation.turns = 0;
            for _ in 0..40 {
                let [one, other] = [0; 2].map(|_| rotation.next_order(end).collect::<Vec<_>>());
                let mut sorted = one.clone();
                sorted.sort_unstable();
                assert_eq!(sorted, (0..end).collect::<Vec<_>>());
                assert!(one.iter().rev().eq(&other), "{end}: {one:?} {other:?}");
            }
        }
    }

    #[test]
    fn who_hears_every_other_one_hears_both_ways() {
        for first in 0..2 {
            let mut rotation = Rotation::default();
            let ways = (0..1_000).map(|_| rotation.next_order(8).backwards);
            let backwards = ways.skip(first).step_by(2).filter(|backwards| *backwards).count();
            assert!((240..=260).contains(&backwards), "{backwards} of 500");
        }
    }

    #[test]
    fn the_count_of_turns_comes_round() {
        let mut rotation = Rotation { turns: u32::MAX };
        assert_eq!(rotation.next_order(u32::MAX).take(1).count(), 1);
        assert_eq!(rotation.next_order(3).collect::<Vec<_>>(), [0, 1, 2]);
    }
}
