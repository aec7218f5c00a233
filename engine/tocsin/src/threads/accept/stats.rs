//! What the outside sees of the accept thread: counters written by it alone, read by anyone.

use std::sync::atomic::{AtomicU64, Ordering};

use tocsin_core::feed::admission::refusal::RefusalCode;

use crate::net::tls::TlsFailure;

/// A number one thread writes and any thread reads.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Its value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Only the accept thread writes, so a load and a store lose nothing.
    pub(super) fn add(&self) {
        self.set(self.get().wrapping_add(1));
    }

    pub(super) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// Counters (since start) and gauges of the accept thread.
#[derive(Debug, Default)]
pub struct AcceptStats {
    /// TCP connections accepted.
    pub accepted: Count,
    /// Sessions handed to a feed writer.
    pub admitted: Count,
    /// History queries answered.
    pub history_answers: Count,
    /// Refusals, by [`RefusalCode`].
    refused: [Count; RefusalCode::ALL.len()],
    /// TLS handshakes that failed, by [`TlsFailure`].
    tls_failed: [Count; TlsFailure::ALL.len()],
    /// TLS handshakes done in full.
    pub tls_full: Count,
    /// TLS handshakes that resumed a session.
    pub tls_resumed: Count,
    /// Handshakes not done within their time.
    pub timeouts: Count,
    /// Peers that left before their request was complete.
    pub gone: Count,
    /// Connections of a PROXY protocol peer without its header.
    pub not_proxied: Count,
    /// Connections dropped because their address has too many handshakes in progress.
    pub over_share: Count,
    /// Times that no descriptor was left for a new connection.
    pub out_of_descriptors: Count,
    /// Handshakes in progress now.
    pub in_progress: Count,
    /// Sessions admitted and not yet ended.
    pub sessions: Count,
    /// Keys that were tried lately and are not valid.
    pub invalid_keys_remembered: Count,
    /// Messages waiting because a feed writer's ring is full.
    pub waiting_for_writers: Count,
}

impl AcceptStats {
    /// Refusals with `code`.
    #[must_use]
    pub fn refused(&self, code: RefusalCode) -> u64 {
        self.refused.get(code as usize).map_or(0, Count::get)
    }

    /// TLS handshakes that failed for this reason.
    #[must_use]
    pub fn tls_failed(&self, failure: TlsFailure) -> u64 {
        self.tls_failed.get(failure as usize).map_or(0, Count::get)
    }

    pub(super) fn add_refused(&self, code: RefusalCode) {
        if let Some(count) = self.refused.get(code as usize) {
            count.add();
        }
    }

    pub(super) fn add_tls_failed(&self, failure: TlsFailure) {
        if let Some(count) = self.tls_failed.get(failure as usize) {
            count.add();
        }
    }
}
