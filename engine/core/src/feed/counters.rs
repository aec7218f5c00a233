//! What a feed writer counts, in plain locals; its thread publishes them in housekeeping.
//!
//! Contract: nothing allocates, nothing fails. Names are only ever added.

use super::close::CloseReason;

/// Buckets of a [`Distribution`].
pub const BUCKETS: usize = 256;

/// Counts of values by size, four buckets to an octave: 19 % relative error at most.
#[derive(Clone, Debug)]
pub struct Distribution {
    /// Count of values per bucket, see [`Distribution::bucket`].
    pub buckets: [u64; BUCKETS],
    /// Sum of all values.
    pub sum: u64,
}

impl Default for Distribution {
    fn default() -> Distribution {
        Distribution { buckets: [0; BUCKETS], sum: 0 }
    }
}

impl Distribution {
    /// The bucket of a value.
    #[must_use]
    pub const fn bucket(value: u64) -> usize {
        if value < 4 {
            return value as usize;
        }
        let octave = 63 - value.leading_zeros() as usize;
        // The two bits below the highest. At most 63 * 4 + 3.
        octave * 4 + (value >> (octave - 2) & 3) as usize
    }

    /// The largest value that falls into a bucket.
    #[must_use]
    pub const fn upper_bound(bucket: usize) -> u64 {
        if bucket < 8 {
            // Values below 4 have a bucket each; buckets 4 to 7 stay empty.
            return if bucket < 4 { bucket as u64 } else { 3 };
        }
        let (octave, quarter) = (bucket / 4, bucket as u64 % 4);
        ((4 + quarter) << (octave - 2)) + ((1 << (octave - 2)) - 1)
    }

    /// Counts one value.
    pub fn record(&mut self, value: u64) {
        if let Some(count) = self.buckets.get_mut(Distribution::bucket(value)) {
            *count += 1;
        }
        self.sum = self.sum.saturating_add(value);
    }

    /// Adds what another has counted.
    pub fn merge(&mut self, other: &Distribution) {
        for (count, more) in self.buckets.iter_mut().zip(other.buckets) {
            *count += more;
        }
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// How many values were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Upper bound of the bucket that holds the value below which `per_mille` thousandths of all
    /// values lie; `None` when nothing was counted.
    #[must_use]
    pub fn quantile(&self, per_mille: u64) -> Option<u64> {
        let wanted = self.count().saturating_mul(per_mille.min(1_000)).div_ceil(1_000).max(1);
        let mut below = 0;
        let bucket = self.buckets.iter().position(|count| {
            below += count;
            below >= wanted
        })?;
        Some(Distribution::upper_bound(bucket))
    }
}

/// See the module head.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Sessions now in the set.
    pub connections: u64,
    /// Sessions ever taken.
    pub joins: u64,
    /// Sessions ended, by [`CloseReason::index`].
    pub closes: [u64; CloseReason::ALL.len()],
    /// Announcements fanned out.
    pub announcements: u64,
    /// Late announcements, only remembered.
    pub late: u64,
    /// Announcements fanned out after one with a larger `seq`: another source thread was held up for
    /// longer than [`crate::limits::ORDER_PATIENCE`] between taking the number and the ring.
    pub out_of_order: u64,
    /// Announcements too large to send; none is expected.
    pub too_large: u64,
    /// Announcement frames that left for subscribers.
    pub messages: u64,
    /// Of these, replayed or delayed ones.
    pub from_history: u64,
    /// Heartbeats that left.
    pub heartbeats: u64,
    /// Bytes taken by sockets.
    pub bytes: u64,
    /// Times a socket was full.
    pub blocked: u64,
    /// Messages beside announcements ([`crate::wire::extra`]) that left for subscribers.
    pub extras: u64,
    /// Of those that were for a subscriber, not sent because it was behind or still had a replay to come.
    pub extras_missed: u64,
    /// Dropped for everyone, because too many waited.
    pub extras_dropped: u64,
    /// Messages from subscribers.
    pub client_messages: u64,
    /// Time from PING to PONG, in microseconds.
    pub rtt_us: Distribution,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_merged_counts() {
        let (mut low, mut high) = (Distribution::default(), Distribution::default());
        assert_eq!(low.quantile(500), None);
        (0..99).for_each(|_| low.record(2));
        high.record(1_000);
        low.merge(&high);
        assert_eq!((low.count(), low.sum), (100, 1_198));
        assert_eq!([0, 500, 990].map(|q| low.quantile(q)), [Some(2); 3]);
        assert_eq!(low.quantile(991), Some(Distribution::upper_bound(Distribution::bucket(1_000))));
        assert_eq!(low.quantile(1_000), low.quantile(5_000));
    }

    #[test]
    fn bounds_and_buckets_agree() {
        for value in (0..10_000).chain([u64::MAX, u64::MAX / 2, 1 << 40, (1 << 40) - 1]) {
            let bucket = Distribution::bucket(value);
            assert!(value <= Distribution::upper_bound(bucket), "{value}");
            assert!(bucket == 0 || value > Distribution::upper_bound(bucket - 1), "{value}");
        }
        assert!(Distribution::bucket(u64::MAX) < BUCKETS);
    }
}
