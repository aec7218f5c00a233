//! Rates: so many at once, so many a second, of each of a bounded number of keys.
//!
//! Contract: a token bucket in the form of the generic cell rate algorithm: of a key one instant is
//! kept, at which its bucket is full again. [`Buckets::take`] takes a token or says when there is one.
//!
//! Bound: a number of keys. At the bound a new one replaces one whose bucket is full, which changes
//! nothing, else the nearest to full, among the next few in turn. Allocates when a key becomes known;
//! constant time but for the look-up. Never fails.

use core::ops::Bound;
use core::time::Duration;
use std::collections::BTreeMap;

use crate::time::Mono;

/// Keys looked at to make room for a new one.
const ROOM_SEARCH: usize = 32;

/// How often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Between two, on average.
    pub every: Duration,
    /// At once.
    pub burst: u32,
}

impl Rate {
    /// `count` in each `period`, all of them at once if need be.
    #[must_use]
    pub fn per(count: u32, period: Duration) -> Rate {
        Rate { every: period / count.max(1), burst: count.max(1) }
    }

    /// How far from full a bucket may be and still give one more.
    fn slack(&self) -> Duration {
        self.every * self.burst.saturating_sub(1)
    }
}

/// A bucket for each key.
#[derive(Debug)]
pub struct Buckets<K> {
    rate: Rate,
    most: usize,
    full_at: BTreeMap<K, Mono>,
    hand: Option<K>,
}

impl<K: Ord + Copy> Buckets<K> {
    /// All full; at most `most` keys are remembered.
    #[must_use]
    pub fn new(rate: Rate, most: usize) -> Buckets<K> {
        Buckets { rate, most: most.max(1), full_at: BTreeMap::new(), hand: None }
    }

    /// Changes the rate; what is missing in each bucket stays as it is, counted in time.
    pub fn set_rate(&mut self, rate: Rate) {
        self.rate = rate;
    }

    /// Takes one.
    ///
    /// # Errors
    /// There is none; when there will be.
    pub fn take(&mut self, now: Mono, key: K) -> Result<(), Duration> {
        self.check(now, key)?;
        self.charge(now, key);
        Ok(())
    }

    /// Whether there is one, without taking it.
    ///
    /// # Errors
    /// There is none; when there will be.
    pub fn check(&self, now: Mono, key: K) -> Result<(), Duration> {
        let missing = self.full_at.get(&key).map_or(Duration::ZERO, |full_at| full_at.since(now));
        missing.checked_sub(self.rate.slack()).filter(|wait| !wait.is_zero()).map_or(Ok(()), Err)
    }

    /// Takes one whether there is one or not; no more is owed than a whole bucket.
    pub fn charge(&mut self, now: Mono, key: K) {
        if !self.full_at.contains_key(&key) {
            self.make_room(now);
        }
        let full_at = self.full_at.entry(key).or_insert(now);
        let most = now + self.rate.every * self.rate.burst;
        *full_at = ((*full_at).max(now) + self.rate.every).min(most);
    }

    /// Keys remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.full_at.len()
    }

    /// Whether no key is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.full_at.is_empty()
    }

    fn make_room(&mut self, now: Mono) {
        if self.full_at.len() < self.most {
            return;
        }
        let from = self.hand.map_or(Bound::Unbounded, Bound::Excluded);
        let after = self.full_at.range((from, Bound::Unbounded));
        let around = after.chain(self.full_at.iter()).take(ROOM_SEARCH);
        let mut nearest: Option<(Mono, K)> = None;
        let mut last = None;
        for (key, full_at) in around {
            last = Some(*key);
            if nearest.is_none_or(|(best, _)| *full_at < best) {
                nearest = Some((*full_at, *key));
            }
            if *full_at <= now {
                break;
            }
        }
        self.hand = last;
        if let Some((_, key)) = nearest {
            self.full_at.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ms(n: u64) -> Mono {
        Mono(n * 1_000_000)
    }

    #[test]
    fn so_many_at_once_and_then_so_many_a_second() {
        let mut buckets = Buckets::new(Rate::per(10, SECOND), 8);
        for _ in 0..10 {
            assert_eq!(buckets.take(ms(0), 'a'), Ok(()));
        }
        assert_eq!(buckets.take(ms(0), 'a'), Err(Duration::from_millis(100)));
        assert_eq!(buckets.take(ms(0), 'b'), Ok(()), "another");
        assert_eq!(buckets.take(ms(99), 'a'), Err(Duration::from_millis(1)));
        assert_eq!(buckets.take(ms(100), 'a'), Ok(()));
        assert_eq!(buckets.take(ms(100), 'a'), Err(Duration::from_millis(100)));
        assert_eq!((0..20).filter(|_| buckets.take(ms(5_000), 'a').is_ok()).count(), 10, "full again");
        for _ in 0..100 {
            buckets.charge(ms(5_000), 'a');
        }
        assert_eq!(buckets.check(ms(5_000), 'a'), Err(Duration::from_millis(100)), "no more is owed");
    }

    #[test]
    fn room_is_made_of_what_is_full() {
        let mut buckets = Buckets::new(Rate::per(2, SECOND), 4);
        buckets.charge(ms(0), 0);
        for key in 1..4 {
            buckets.charge(ms(5_000), key);
        }
        buckets.charge(ms(5_000), 9);
        assert_eq!(buckets.full_at.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 9]);
        buckets.charge(ms(5_000), 9);
        buckets.charge(ms(5_000), 10);
        assert_eq!(buckets.len(), 4);
        assert!(buckets.check(ms(5_000), 9).is_err(), "the emptiest is kept");
    }

    proptest! {
        /// In any span of time a key gets its burst and what flowed in meanwhile, and no more; and the
        /// table keeps its bound.
        #[test]
        fn never_more_than_the_rate(waits in prop::collection::vec((0..400_u64, 0..3_u8), 1..300)) {
            let rate = Rate::per(5, SECOND);
            let mut buckets = Buckets::new(rate, 3);
            let mut now = 0;
            let mut got: Vec<(u64, u8)> = Vec::new();
            for (wait, key) in waits {
                now += wait;
                if buckets.take(ms(now), key).is_ok() {
                    got.push((now, key));
                }
                prop_assert!(buckets.len() <= 3);
            }
            for key in 0..3 {
                let times: Vec<u64> = got.iter().filter(|(_, k)| *k == key).map(|(at, _)| *at).collect();
                for first in 0..times.len() {
                    for last in first..times.len() {
                        let flowed = (times[last] - times[first]) / 200;
                        prop_assert!((last - first + 1) as u64 <= 5 + flowed);
                    }
                }
            }
        }
    }
}
