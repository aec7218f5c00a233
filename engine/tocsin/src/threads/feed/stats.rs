//! What the outside may read of a running feed thread: its counters, as of a moment ago.
//!
//! Contract: one writer (the feed thread, in housekeeping), any number of readers, plain relaxed
//! stores and loads; counters of one publication may be read half. Nothing blocks or fails.

use std::sync::atomic::{AtomicU64, Ordering};

use tocsin_core::feed::close::CloseReason;
use tocsin_core::feed::counters::{BUCKETS, Counters, Distribution};

/// A [`Distribution`] others can read.
#[derive(Debug)]
pub struct SharedDistribution {
    buckets: [AtomicU64; BUCKETS],
    sum: AtomicU64,
}

impl Default for SharedDistribution {
    fn default() -> SharedDistribution {
        SharedDistribution { buckets: [const { AtomicU64::new(0) }; BUCKETS], sum: AtomicU64::new(0) }
    }
}

impl SharedDistribution {
    pub(in crate::threads) fn publish(&self, from: &Distribution) {
        for (to, from) in self.buckets.iter().zip(&from.buckets) {
            to.store(*from, Ordering::Relaxed);
        }
        self.sum.store(from.sum, Ordering::Relaxed);
    }

    /// A copy.
    #[must_use]
    pub fn read(&self) -> Distribution {
        let mut copy = Distribution::default();
        for (to, from) in copy.buckets.iter_mut().zip(&self.buckets) {
            *to = from.load(Ordering::Relaxed);
        }
        copy.sum = self.sum.load(Ordering::Relaxed);
        copy
    }
}

/// See the module head. The fields are those of [`Counters`].
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "said at `Counters`")]
pub struct FeedStats {
    pub connections: AtomicU64,
    pub joins: AtomicU64,
    pub closes: [AtomicU64; CloseReason::ALL.len()],
    pub announcements: AtomicU64,
    pub late: AtomicU64,
    pub out_of_order: AtomicU64,
    pub too_large: AtomicU64,
    pub messages: AtomicU64,
    pub from_history: AtomicU64,
    pub heartbeats: AtomicU64,
    pub bytes: AtomicU64,
    pub blocked: AtomicU64,
    pub extras: AtomicU64,
    pub extras_missed: AtomicU64,
    pub extras_dropped: AtomicU64,
    pub client_messages: AtomicU64,
    /// Microseconds from PING to PONG.
    pub rtt_us: SharedDistribution,
    /// Nanoseconds from the dispatch stamp until the first subscriber's bytes were written.
    pub fanout_first_ns: SharedDistribution,
    /// The same for the last subscriber.
    pub fanout_last_ns: SharedDistribution,
}

impl FeedStats {
    pub(super) fn publish(&self, c: &Counters, first_ns: &Distribution, last_ns: &Distribution) {
        let pairs = [
            (&self.connections, c.connections),
            (&self.joins, c.joins),
            (&self.announcements, c.announcements),
            (&self.late, c.late),
            (&self.out_of_order, c.out_of_order),
            (&self.too_large, c.too_large),
            (&self.messages, c.messages),
            (&self.from_history, c.from_history),
            (&self.heartbeats, c.heartbeats),
            (&self.bytes, c.bytes),
            (&self.blocked, c.blocked),
            (&self.extras, c.extras),
            (&self.extras_missed, c.extras_missed),
            (&self.extras_dropped, c.extras_dropped),
            (&self.client_messages, c.client_messages),
        ];
        for (to, from) in pairs.into_iter().chain(self.closes.iter().zip(c.closes)) {
            to.store(from, Ordering::Relaxed);
        }
        self.rtt_us.publish(&c.rtt_us);
        self.fanout_first_ns.publish(first_ns);
        self.fanout_last_ns.publish(last_ns);
    }
}
