//! What travels between threads, and how deep each ring is. Every ring is single-producer,
//! single-consumer and bounded; what happens when it is full is said at each type.
//!
//! ```text
//! source-N ──SourceToFeed──────► feed-N      full: never expected; counted, the source retries, announcements first
//! source-N ──SourceToJournal───► journal     full: counted; announcements are still in the shared-memory journal
//! source-N ──Arc<Encoded…>─────► accept      (history for GET /v1/announcements) full: dropped and counted
//! accept   ──AcceptToFeed──────► feed-N      full: accept keeps the session and tries again next turn
//! feed-N   ──Released──────────► accept      sized for every session a writer may hold: never full
//! feed-N   ──SubscriberPage────► control     one is asked for at a time; full: the feed keeps it and tries again
//! source-N ──bytes, Arc<Encoded…>► recorder  full: dropped and counted, bodies before lines (threads/source/tap.rs)
//! control  ──ToSource──────────► source-N    full: the request is answered 503
//! control  ──ToAccept──────────► accept      full: the control thread waits (it may)
//! source-N ──Arc<Encoded…>─────► webhook     full: dropped and counted; made good from history at the next start
//! control  ──ToWebhook─────────► webhook     full: the request is answered 503
//! webhook  ──WebhookToJournal──► journal     full: kept waiting in the webhook thread, log lines dropped first
//! source-N ──Arc<Encoded…>─────► market      full: dropped and counted: no context, and a listing may be told as stealth
//! market   ──MarketToJournal───► journal     full: kept waiting in the market thread, which asks nothing meanwhile
//! market   ──MarketToFeed──────► feed-N      full: dropped and counted; the feed writer drops the oldest before that
//! market   ──MarketToWebhook───► webhook     full: dropped and counted; events are made good at the next start
//! journal  ──JournalToLive─────► control     (while a dashboard looks) full: dropped; its readers are told
//! ```

use std::net::IpAddr;
use std::sync::Arc;

use tocsin_core::detect::SeenRecord;
use tocsin_core::feed::key::{KeyId, KeyRecord};
use tocsin_core::feed::look::Row;
use tocsin_core::feed::subscription::Subscription;
use tocsin_core::market::MarketEvent;
use tocsin_core::market::table::VolumeTable;
use tocsin_core::market::watcher::Changes;
use tocsin_core::model::{Exchange, ListingType, Ticker};
use tocsin_core::source::SourceStatus;
use tocsin_core::time::{Mono, WallUs};
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::dispatcher::Refusal;
use tocsin_core::webhook::endpoint::{Mail, SavedHealth, State};
use tocsin_core::webhook::event::EventKind;
use tocsin_core::webhook::filter::EventFilter;
use tocsin_core::webhook::lane::QueuedEvent;
use tocsin_core::webhook::outgoing::{Outgoing, RecordedOutcome};
use tocsin_core::webhook::signature::Secret;
use tocsin_core::webhook::url::EndpointUrl;
use tocsin_core::wire::EncodedAnnouncement;
use tocsin_core::wire::extra::Extra;
use tokio::sync::oneshot;

use crate::net::tls::ServerTls;
use crate::store::webhook::deliveries::AttemptRecord;
use crate::threads::accept::AcceptSettings;

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
    /// An item became known that another source of the exchange had announced.
    Confirmed {
        /// The item.
        record: SeenRecord,
        /// Under which identifier it was announced.
        notice: Box<str>,
    },
    /// The first complete answer of one list was taken as known.
    Baselined {
        /// Name of the source.
        source: &'static str,
        /// Name of the list within it.
        list: &'static str,
    },
}

/// Market thread to feed writer.
#[derive(Debug)]
pub struct MarketToFeed(pub Arc<Extra>);

/// Market thread to webhook thread.
#[derive(Debug)]
pub enum MarketToWebhook {
    /// An event that was told.
    Event(Arc<MarketEvent>),
    /// What is traded of each asset.
    Volumes(Arc<VolumeTable>),
}

/// Market thread to journal thread. What was told comes before what is then known.
#[derive(Debug)]
pub enum MarketToJournal {
    /// An event that was told.
    Event(Arc<MarketEvent>),
    /// What a request knows from now on, at most [`crate::topology::MARKET_RECORDS`] rows.
    Changes(Box<Changes>),
}

/// Journal thread to control thread: what has just been committed, for those who look on.
#[derive(Debug)]
pub enum JournalToLive {
    /// An announcement that went out.
    Announcement(Arc<EncodedAnnouncement>),
    /// A line of the delivery log.
    Attempt(Box<AttemptRecord>),
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
    /// Fill this with subscribers, a few a turn, and send it back.
    Look(Box<SubscriberPage>),
}

/// A subscriber and where it is.
#[derive(Clone, Copy, Debug)]
pub struct SubscriberRow {
    /// What the core tells of it.
    pub row: Row,
    /// Its address, as its limits count it: an IPv6 one by its /64, `0.0.0.0` one that is exempt.
    pub address: IpAddr,
}

/// A page of subscribers on its way to a feed writer and back: its memory is the asker's.
#[derive(Debug)]
pub struct SubscriberPage {
    /// Which question this answers.
    pub question: u64,
    /// The slot to begin at, then to go on from; `None` when it is finished and that was the end.
    pub next: Option<u32>,
    /// Those found; room for `most` of them is reserved.
    pub rows: Vec<SubscriberRow>,
    /// How many are wanted.
    pub most: usize,
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
    /// The configuration was read again: connections accepted from now on are treated by it.
    Reload(Box<AcceptReload>),
    /// For the feed writer of this number.
    Look(usize, Box<SubscriberPage>),
    /// How many connections these keys have, in their order.
    Connections(Vec<KeyId>, oneshot::Sender<Vec<u32>>),
}

/// What of a reload reaches the accept thread.
#[derive(Debug)]
pub struct AcceptReload {
    /// All of its settings. `max_connections` stays as it was at the start: rings were made for it.
    pub settings: AcceptSettings,
    /// Another certificate for handshakes from now on; `None`: the one in use, or none.
    pub tls: Option<ServerTls>,
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
    pub reply: oneshot::Sender<Arc<EncodedAnnouncement>>,
}

/// Control thread to source thread.
#[derive(Debug)]
pub enum ToSource {
    /// Send this through the whole path.
    Inject(Box<Inject>),
}

/// What the webhook thread keeps of an endpoint.
#[derive(Clone, Debug)]
pub struct EndpointSetup {
    /// Its number in the store.
    pub id: EndpointId,
    /// Where it is.
    pub url: EndpointUrl,
    /// The secret that signs. Withheld in `Debug`.
    pub secret: Secret,
    /// The secret before, and the end of its grace.
    pub previous: Option<(Secret, WallUs)>,
    /// What it wants.
    pub filter: EventFilter,
}

/// How a verification ping or a test event went, for the one who waits for it.
#[derive(Clone, Debug)]
pub struct AttemptReport {
    /// As the delivery log has it.
    pub attempt: AttemptRecord,
    /// The endpoint's state after it.
    pub state: State,
}

/// What is known of an endpoint only while the service runs.
#[derive(Clone, Copy, Debug)]
pub struct EndpointReport {
    /// Which.
    pub id: EndpointId,
    /// Its state and counters now.
    pub health: SavedHealth,
    /// Deliveries that wait or are in flight.
    pub pending: usize,
    /// Warm connections.
    pub connections: usize,
    /// Of the last 100 attempts; `None` before there are 20.
    pub p95: Option<std::time::Duration>,
}

/// Control thread to webhook thread. An answer that nobody waits for any more is dropped.
#[derive(Debug)]
pub enum ToWebhook {
    /// Take an endpoint that has been stored, pending, and send its verification ping. Answered when
    /// the ping has ended: at most the 10 s of an attempt later.
    Add(Box<EndpointSetup>, oneshot::Sender<Result<AttemptReport, Refusal>>),
    /// A filter or secret has changed: replace what is kept. An endpoint that is not known is ignored.
    Change(Box<EndpointSetup>),
    /// Forget an endpoint and what waits for it.
    Remove(EndpointId),
    /// Send a pending endpoint its verification ping again.
    Verify(EndpointId, oneshot::Sender<Result<AttemptReport, Refusal>>),
    /// Switch an endpoint on; its state then.
    Enable(EndpointId, oneshot::Sender<Result<State, Refusal>>),
    /// Switch it off; its state then.
    Disable(EndpointId, oneshot::Sender<Result<State, Refusal>>),
    /// Send a test event of a kind; answered when its one attempt has ended.
    Test(EndpointId, EventKind, oneshot::Sender<Result<AttemptReport, Refusal>>),
    /// Send past events again; how many are on their way.
    Redeliver(EndpointId, Vec<Arc<QueuedEvent<Outgoing>>>, oneshot::Sender<Result<usize, Refusal>>),
    /// What is known of these endpoints, of all when none is named. Unknown ones are left out.
    Report(Vec<EndpointId>, oneshot::Sender<Vec<EndpointReport>>),
}

/// Webhook thread to journal thread.
#[derive(Debug)]
pub enum WebhookToJournal {
    /// An event, and to whom it was offered, sorted.
    Event {
        /// As it is sent.
        event: Arc<QueuedEvent<Outgoing>>,
        /// To whom.
        recipients: Box<[EndpointId]>,
    },
    /// What became of a delivery.
    Outcome {
        /// [`QueuedEvent::number`].
        event: u64,
        /// Whose, and what.
        recorded: RecordedOutcome,
        /// End of its record in the webhook thread's shared-memory journal, `None` if it did not fit.
        shm_position: Option<u64>,
    },
    /// A delivery was asked for again.
    Asked {
        /// [`QueuedEvent::number`].
        event: u64,
        /// To whom.
        endpoint: EndpointId,
    },
    /// A line of the delivery log.
    Attempt(Box<AttemptRecord>),
    /// An endpoint's health has changed. The mail that is due for it is committed with it.
    Health {
        /// Which.
        endpoint: EndpointId,
        /// Its state and counters.
        health: SavedHealth,
        /// It has just been verified.
        verified: bool,
        /// Which mail is due, and the details for its text.
        mail: Option<(Mail, Box<str>)>,
        /// When.
        at: WallUs,
    },
}
