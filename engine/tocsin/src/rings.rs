//! What travels between threads, and how deep each ring is. Every ring is single-producer,
//! single-consumer and bounded; what happens when it is full is said at each type.
//!
//! ```text
//! source-N ──SourceToFeed──────► feed-N      full: never expected; counted, the source retries, announcements first
//! source-N ──SourceToJournal───► journal     full: counted; announcements are still in the shared-memory journal
//! source-N ──Arc<Encoded…>─────► accept      (history for GET /v1/announcements) full: dropped and counted
//! accept   ──AcceptToFeed──────► feed-N      full: accept keeps the session and tries again next turn
//! feed-N   ──Released──────────► accept      sized for every session a writer may hold: never full
//! control  ──ToSource──────────► source-N    full: the request is answered 503
//! control  ──ToAccept──────────► accept      full: the control thread waits (it may)
//! ```

use std::net::IpAddr;
use std::sync::Arc;

use tocsin_core::detect::SeenRecord;
use tocsin_core::feed::key::{KeyId, KeyRecord};
use tocsin_core::feed::subscription::Subscription;
use tocsin_core::model::{Exchange, ListingType, Ticker};
use tocsin_core::source::SourceStatus;
use tocsin_core::time::{Mono, WallUs};
use tocsin_core::wire::EncodedAnnouncement;

/// Source thread to feed writer.
#[derive(Debug)]
pub enum SourceToFeed {
    /// Fan it out now (or only remember it, when it is late).
    Announcement(Arc<EncodedAnnouncement>),
    /// A source changed state, or its regular report (at most one a second and source).
    Status(SourceStatus),
}

/// Source thread to journal thread.
#[derive(Debug)]
pub enum SourceToJournal {
    /// To history; `shm_position` lets the journal release the shared-memory record after commit.
    Announcement {
        /// What was announced.
        announcement: Arc<EncodedAnnouncement>,
        /// End of its record in the source's shared-memory journal, `None` if it did not fit.
        shm_position: Option<u64>,
    },
    /// An item became known without being announced (baseline, or an edit that changes nothing).
    Seen(SeenRecord),
    /// The first complete answer of one list was taken as known.
    Baselined {
        /// Name of the source.
        source: &'static str,
        /// Name of the list within it.
        list: &'static str,
    },
}

/// A session that passed the handshake, on its way to a feed writer.
pub struct LiveSession {
    /// The connection, non-blocking, registered nowhere.
    pub stream: crate::net::Stream,
    /// What it asked for and may have.
    pub subscription: Subscription,
    /// The 101 response and the welcome frame: the writer sends them first, after it has put the
    /// session into its set, so that no announcement falls between welcome and membership.
    pub greeting: Vec<u8>,
    /// Bytes the client sent after the request head. More may already wait in `stream`, without a
    /// further event: read it when the session is taken.
    pub early_bytes: Vec<u8>,
    /// Limit bucket of its address; goes back in [`Released`].
    pub address: IpAddr,
    /// When it was accepted.
    pub accepted_at: Mono,
}

/// Accept thread to feed writer. One ring carries sessions and key changes, so that a revocation
/// can never overtake a session of that key.
pub enum AcceptToFeed {
    /// Take this session.
    Join(Box<LiveSession>),
    /// Close every session of the key: 1000 `key_revoked`.
    Revoke(KeyId),
    /// The key's end moved; `None` = never.
    Expiry(KeyId, Option<WallUs>),
    /// Close everyone with 1012 `restart`, spread until the instant.
    Drain(Mono),
}

/// Feed writer to accept thread: a session ended, its limits are free again.
#[derive(Clone, Copy, Debug)]
pub struct Released {
    /// Limit bucket of its address.
    pub address: IpAddr,
    /// Its key.
    pub key: KeyId,
}

/// Control thread to accept thread.
#[derive(Debug)]
pub enum ToAccept {
    /// A key was created or changed: replace what is known of it.
    UpsertKey(Box<KeyRecord>),
    /// A key was revoked: refuse it, and close its sessions.
    RevokeKey(KeyId),
    /// Stop listening and drain the writers until the instant.
    Drain(Mono),
}

/// A manual alert on its way through the whole path.
#[derive(Debug)]
pub struct Inject {
    /// Who is said to publish it.
    pub exchange: Exchange,
    /// Its title.
    pub title: String,
    /// Overrides the classifier.
    pub listing_type: Option<ListingType>,
    /// Overrides the classifier.
    pub tickers: Option<Vec<Ticker>>,
    /// When it was published; now when not given.
    pub published: Option<WallUs>,
    /// Where the announcement goes once it has been sent to the feed.
    pub reply: tokio::sync::oneshot::Sender<Arc<EncodedAnnouncement>>,
}

/// Control thread to source thread.
#[derive(Debug)]
pub enum ToSource {
    /// Send this through the whole path.
    Inject(Box<Inject>),
}
