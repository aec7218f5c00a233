//! What the outside may read of the webhook thread: counters it alone writes.
//!
//! Contract: relaxed stores and loads, nothing blocks or fails. Distributions are published at most ten
//! times a second.

use std::sync::atomic::{AtomicU64, Ordering};

use tocsin_core::feed::counters::Distribution;
use tocsin_core::webhook::attempt::FailureClass;

use crate::threads::feed::stats::SharedDistribution;

/// Counters since start, and gauges.
#[derive(Debug, Default)]
pub struct WebhookStats {
    /// Events made of announcements and of what market watchers tell.
    pub events: AtomicU64,
    /// Attempts answered with 2xx.
    pub delivered: AtomicU64,
    /// Attempts that failed, by [`FailureClass`].
    pub failed: [AtomicU64; FailureClass::ALL.len()],
    /// Deliveries given up.
    pub given_up: AtomicU64,
    /// Deliveries expired: no longer news, or at a bound.
    pub expired: AtomicU64,
    /// Requests sent again because a kept connection had died.
    pub resent: AtomicU64,
    /// Connections opened.
    pub opened: AtomicU64,
    /// Those that resumed a TLS session.
    pub resumed: AtomicU64,
    /// Names asked of the resolver.
    pub lookups: AtomicU64,
    /// Outcomes that did not fit into shared memory.
    pub log_full: AtomicU64,
    /// Log lines, and at last outcomes, that the journal thread will never get.
    pub journal_dropped: AtomicU64,
    /// Endpoints.
    pub endpoints: AtomicU64,
    /// Deliveries that wait or are in flight.
    pub pending: AtomicU64,
    /// Attempts in flight.
    pub in_flight: AtomicU64,
    /// Connections, warm ones included.
    pub connections: AtomicU64,
    /// Nanoseconds from an event becoming known here to each of its first requests being written on a
    /// warm connection.
    pub first_write_ns: SharedDistribution,
    /// Microseconds from a request to the first byte of its answer.
    pub first_byte_us: SharedDistribution,
}

/// Adds one; only the webhook thread writes, so a load and a store lose nothing.
pub(super) fn add(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

/// What the thread keeps to itself between two publications.
#[derive(Debug, Default)]
pub(super) struct Local {
    pub(super) first_write_ns: Box<Distribution>,
    pub(super) first_byte_us: Box<Distribution>,
}

impl Local {
    pub(super) fn publish(&self, stats: &WebhookStats) {
        stats.first_write_ns.publish(&self.first_write_ns);
        stats.first_byte_us.publish(&self.first_byte_us);
    }
}
