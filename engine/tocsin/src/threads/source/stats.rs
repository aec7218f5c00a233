//! What the outside may read of a source while its thread runs.
//!
//! Contract: the source thread counts in plain locals and stores them here in housekeeping, about ten
//! times a second; readers load whenever they like. Relaxed atomics: each number is right, two of them
//! may be of different moments. No lock, no allocation.

use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};

use tocsin_core::feed::counters::Distribution;
use tocsin_core::source::SourceState;
use tocsin_core::source::backoff::Failure;
use tocsin_core::time::WallUs;

use crate::net::tls::TlsFailure;
use crate::threads::feed::SharedDistribution;

/// What is counted of a source, since its thread started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Count {
    /// Requests sent; of a push source, those for a session.
    Polls,
    /// Bytes of answers read.
    Bytes,
    /// Answers 304.
    NotModified,
    /// Complete bodies that were byte for byte known.
    Identical,
    /// Complete bodies that differ from a known one in counters only.
    OnlyNoise,
    /// Bodies read in full.
    Parsed,
    /// Of these, whose new rows were found and announced before.
    Ahead,
    /// Rows skipped for want of an identifier or title: the schema may have drifted.
    RowsSkipped,
    /// Announcements made.
    Announced,
    /// Of these, found too late to be broadcast.
    Late,
    /// Announcements of which this was the first source of its exchange, or the only one: new and in time.
    Won,
    /// Items that another source of the exchange had announced.
    Confirmed,
    /// Connections opened.
    Opened,
    /// Of these, with a resumed TLS session.
    Resumed,
    /// Connections replaced before their limit.
    Rotated,
    /// Connections the server closed while idle, or after a session that had lasted.
    Lapsed,
    /// Messages of a push source.
    Messages,
}

impl Count {
    /// Every count, in the order of its discriminant.
    pub const ALL: [Count; 17] = [
        Count::Polls,
        Count::Bytes,
        Count::NotModified,
        Count::Identical,
        Count::OnlyNoise,
        Count::Parsed,
        Count::Ahead,
        Count::RowsSkipped,
        Count::Announced,
        Count::Late,
        Count::Won,
        Count::Confirmed,
        Count::Opened,
        Count::Resumed,
        Count::Rotated,
        Count::Lapsed,
        Count::Messages,
    ];

    /// Name as part of a metric's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Count::Polls => "polls",
            Count::Bytes => "bytes",
            Count::NotModified => "not_modified",
            Count::Identical => "identical",
            Count::OnlyNoise => "only_noise",
            Count::Parsed => "parsed",
            Count::Ahead => "read_ahead",
            Count::RowsSkipped => "rows_skipped",
            Count::Announced => "announced",
            Count::Late => "late",
            Count::Won => "won",
            Count::Confirmed => "confirmed",
            Count::Opened => "connections_opened",
            Count::Resumed => "tls_resumed",
            Count::Rotated => "connections_rotated",
            Count::Lapsed => "connections_lapsed",
            Count::Messages => "messages",
        }
    }
}

/// The source thread's own counts, in plain memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Local {
    counts: [u64; Count::ALL.len()],
    failures: [u64; Failure::ALL.len()],
    tls_failures: [u64; TlsFailure::ALL.len()],
    pub(super) last_poll: Option<WallUs>,
    pub(super) last_item: Option<WallUs>,
    pub(super) connections: u64,
    /// Rates in use: between and within windows of dense polling, requests a second and address.
    pub(super) rates: (f64, f64),
    delay_us: Distribution,
    processing_us: Distribution,
    behind_us: Distribution,
    last_won: Option<WallUs>,
}

impl Local {
    pub(super) fn add(&mut self, count: Count, by: u64) {
        if let Some(slot) = self.counts.get_mut(count as usize) {
            *slot += by;
        }
    }

    pub(super) fn fail(&mut self, failure: Failure) {
        if let Some(slot) = self.failures.get_mut(failure.index()) {
            *slot += 1;
        }
    }

    /// An item that was announced as new, by its instants.
    pub(super) fn found(
        &mut self,
        published: WallUs,
        received: WallUs,
        detected: WallUs,
        classified: WallUs,
    ) {
        // A clock of the exchange's that is ahead makes no delay.
        let micros = |from: WallUs, to: WallUs| u64::try_from(to.micros_since(from)).unwrap_or(0);
        self.delay_us.record(micros(published, detected));
        self.processing_us.record(micros(received, classified));
    }

    /// It was the first source of its exchange with an announcement, at `received`.
    pub(super) fn won(&mut self, received: WallUs) {
        self.add(Count::Won, 1);
        self.last_won = Some(received);
    }

    /// Another source was first, by so much where that is known.
    pub(super) fn confirmed(&mut self, behind_us: Option<u64>) {
        self.add(Count::Confirmed, 1);
        behind_us.into_iter().for_each(|us| self.behind_us.record(us));
    }

    /// Why TLS failed, beside the failure itself.
    pub(super) fn fail_tls(&mut self, failure: TlsFailure) {
        if let Some(slot) = self.tls_failures.get_mut(failure as usize) {
            *slot += 1;
        }
    }
}

/// A snapshot that anybody may read. One a source, shared by `Arc`.
#[derive(Debug)]
pub struct SourceStats {
    /// Name of the source (`binance.cms`).
    pub source: &'static str,
    counts: [AtomicU64; Count::ALL.len()],
    failures: [AtomicU64; Failure::ALL.len()],
    tls_failures: [AtomicU64; TlsFailure::ALL.len()],
    state: AtomicU8,
    last_poll_us: AtomicI64,
    last_item_us: AtomicI64,
    last_won_us: AtomicI64,
    connections: AtomicU64,
    cold_micro_rps: AtomicU64,
    hot_micro_rps: AtomicU64,
    /// Microseconds from an item's publication, as the exchange tells it, to its detection: of items that
    /// were created and found in time.
    pub delay_us: SharedDistribution,
    /// Microseconds from reading the bytes that held such an item to its classification.
    pub processing_us: SharedDistribution,
    /// Microseconds from the first source's reading of an announcement to this one's, where this one
    /// confirmed it.
    pub behind_us: SharedDistribution,
}

const NEVER: i64 = i64::MIN;

impl SourceStats {
    /// Nothing counted, and down.
    #[must_use]
    pub fn new(source: &'static str) -> SourceStats {
        SourceStats {
            source,
            counts: Default::default(),
            failures: Default::default(),
            tls_failures: Default::default(),
            state: AtomicU8::new(SourceState::Down as u8),
            last_poll_us: AtomicI64::new(NEVER),
            last_item_us: AtomicI64::new(NEVER),
            last_won_us: AtomicI64::new(NEVER),
            connections: AtomicU64::new(0),
            cold_micro_rps: AtomicU64::new(0),
            hot_micro_rps: AtomicU64::new(0),
            delay_us: SharedDistribution::default(),
            processing_us: SharedDistribution::default(),
            behind_us: SharedDistribution::default(),
        }
    }

    /// One count.
    #[must_use]
    pub fn count(&self, count: Count) -> u64 {
        self.counts.get(count as usize).map_or(0, |c| c.load(Ordering::Relaxed))
    }

    /// Failures of one class.
    #[must_use]
    pub fn failures(&self, failure: Failure) -> u64 {
        self.failures.get(failure.index()).map_or(0, |c| c.load(Ordering::Relaxed))
    }

    /// Failures of TLS for one reason; all of them are among the failures of their class too.
    #[must_use]
    pub fn tls_failures(&self, failure: TlsFailure) -> u64 {
        self.tls_failures.get(failure as usize).map_or(0, |c| c.load(Ordering::Relaxed))
    }

    /// How the source is doing.
    #[must_use]
    pub fn state(&self) -> SourceState {
        let states = [SourceState::Live, SourceState::Stale, SourceState::Blocked, SourceState::Down];
        let stored = self.state.load(Ordering::Relaxed);
        states.into_iter().find(|s| *s as u8 == stored).unwrap_or(SourceState::Down)
    }

    /// When the last usable answer was complete.
    #[must_use]
    pub fn last_poll(&self) -> Option<WallUs> {
        instant(&self.last_poll_us)
    }

    /// When the newest item known was published.
    #[must_use]
    pub fn last_item(&self) -> Option<WallUs> {
        instant(&self.last_item_us)
    }

    /// When it was last the first source of its exchange with an announcement.
    #[must_use]
    pub fn last_won(&self) -> Option<WallUs> {
        instant(&self.last_won_us)
    }

    /// Connections open now.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Requests a second and local address: between and within windows of dense polling.
    #[must_use]
    pub fn rates(&self) -> (f64, f64) {
        let rate = |micro: &AtomicU64| micro.load(Ordering::Relaxed) as f64 / 1e6;
        (rate(&self.cold_micro_rps), rate(&self.hot_micro_rps))
    }

    pub(super) fn publish(&self, local: &Local, state: SourceState) {
        // Hundreds of buckets, which change with an announcement or a confirmation alone.
        let moved =
            |count: Count| self.count(count) != local.counts.get(count as usize).copied().unwrap_or(0);
        if moved(Count::Announced) {
            self.delay_us.publish(&local.delay_us);
            self.processing_us.publish(&local.processing_us);
        }
        if moved(Count::Confirmed) {
            self.behind_us.publish(&local.behind_us);
        }
        let pairs = self.counts.iter().zip(local.counts).chain(self.failures.iter().zip(local.failures));
        for (shared, own) in pairs.chain(self.tls_failures.iter().zip(local.tls_failures)) {
            shared.store(own, Ordering::Relaxed);
        }
        self.state.store(state as u8, Ordering::Relaxed);
        self.last_poll_us.store(local.last_poll.map_or(NEVER, |at| at.0), Ordering::Relaxed);
        self.last_item_us.store(local.last_item.map_or(NEVER, |at| at.0), Ordering::Relaxed);
        self.last_won_us.store(local.last_won.map_or(NEVER, |at| at.0), Ordering::Relaxed);
        self.connections.store(local.connections, Ordering::Relaxed);
        // A float casts to an integer by saturating, so no rate can do harm here.
        self.cold_micro_rps.store((local.rates.0 * 1e6) as u64, Ordering::Relaxed);
        self.hot_micro_rps.store((local.rates.1 * 1e6) as u64, Ordering::Relaxed);
    }
}

fn instant(shared: &AtomicI64) -> Option<WallUs> {
    match shared.load(Ordering::Relaxed) {
        NEVER => None,
        us => Some(WallUs(us)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_read() {
        let stats = SourceStats::new("a.b");
        assert_eq!(
            (stats.state(), stats.last_poll(), stats.count(Count::Polls)),
            (SourceState::Down, None, 0)
        );
        let mut local = Local { rates: (0.25, 2.0), connections: 3, ..Local::default() };
        for (index, count) in Count::ALL.into_iter().enumerate() {
            assert_eq!(count as usize, index, "{}", count.name());
            local.add(count, index as u64 + 1);
        }
        local.fail(Failure::Timeout);
        local.fail_tls(TlsFailure::Certificate);
        local.last_poll = Some(WallUs(5));
        local.found(WallUs(1_000), WallUs(4_000), WallUs(4_100), WallUs(4_150));
        local.found(WallUs(9_000), WallUs(8_000), WallUs(8_010), WallUs(8_020));
        local.won(WallUs(6));
        local.confirmed(Some(1_500));
        local.confirmed(None);
        stats.publish(&local, SourceState::Blocked);
        assert_eq!(TlsFailure::ALL.map(|f| stats.tls_failures(f)), [0, 0, 1, 0, 0, 0]);
        for (index, count) in Count::ALL.into_iter().enumerate() {
            let more = [(Count::Won, 1), (Count::Confirmed, 2)].into_iter().find(|(c, _)| *c == count);
            assert_eq!(stats.count(count), index as u64 + 1 + more.map_or(0, |(_, more)| more));
        }
        assert_eq!((stats.failures(Failure::Timeout), stats.failures(Failure::Tls)), (1, 0));
        assert_eq!((stats.state(), stats.last_poll()), (SourceState::Blocked, Some(WallUs(5))));
        let (delay, processing) = (stats.delay_us.read(), stats.processing_us.read());
        assert_eq!((delay.count(), delay.sum, processing.count(), processing.sum), (2, 3_100, 2, 170));
        let behind = stats.behind_us.read();
        assert_eq!((behind.count(), behind.sum, stats.last_won()), (1, 1_500, Some(WallUs(6))));
        assert_eq!((stats.rates(), stats.connections(), stats.last_item()), ((0.25, 2.0), 3, None));
    }
}
