//! The running engine at one moment, as typed values: what `GET /admin/v1/status`, `GET /metrics` and
//! `GET /readyz` are made of.
//!
//! Contract: plain data, copied from counters that the threads publish; two numbers may be of different
//! moments. Serialized, a [`Snapshot`] is the body of the status route: fields of it are only ever
//! added there, and those the route does not have are skipped. Allocates; fails never.

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use tocsin_core::feed::counters::Distribution;
use tocsin_core::source::SourceState;
use tocsin_core::source::{exchange, stream};
use tocsin_core::time::WallUs;
use utoipa::ToSchema;

use crate::logging::errors::Reported;
use crate::threads::source::stats::Count;

/// Counts of one kind, each with its name; a name is there once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ByName(pub Vec<(&'static str, u64)>);

impl ByName {
    /// The count of `name`, 0 where there is none.
    #[must_use]
    pub fn get(&self, name: &str) -> u64 {
        self.0.iter().find(|(n, _)| *n == name).map_or(0, |(_, count)| *count)
    }
}

impl FromIterator<(&'static str, u64)> for ByName {
    fn from_iter<I: IntoIterator<Item = (&'static str, u64)>>(counts: I) -> ByName {
        ByName(counts.into_iter().collect())
    }
}

impl Serialize for ByName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

/// See the module head.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Snapshot {
    /// Which start of this data directory it is.
    pub epoch: u64,
    /// Whether subscribers are being sent away for a stop.
    pub draining: bool,
    /// When the process started.
    #[serde(skip)]
    pub started_at: WallUs,
    /// Why no subscriber should be sent here now; empty when ready.
    #[serde(skip)]
    pub not_ready: Vec<NotReady>,
    /// Every enabled source.
    pub sources: Vec<SourceSnapshot>,
    /// All feed writers together.
    pub feed: FeedSnapshot,
    /// The accept thread.
    pub accept: AcceptSnapshot,
    /// The journal thread.
    pub journal: JournalSnapshot,
    /// The webhook thread.
    pub webhooks: WebhookSnapshot,
    /// The market thread, where markets are watched.
    pub market: Option<MarketSnapshot>,
    /// The mail thread, where a mail server is configured.
    pub mail: Option<MailSnapshot>,
    /// Errors and warnings, each distinct one with its count, the latest first.
    pub errors: Vec<Reported>,
    /// The recorder, where something is recorded.
    pub recorder: Option<RecorderSnapshot>,
    /// Every thread of the plan.
    pub threads: Vec<ThreadSnapshot>,
    /// End of the certificate that feed and admin listener serve.
    #[serde(skip)]
    pub certificate_not_after: Option<WallUs>,
}

/// One source.
#[derive(Clone, Debug)]
pub struct SourceSnapshot {
    /// Its name (`binance.cms`).
    pub name: &'static str,
    /// How it is doing.
    pub state: SourceState,
    /// When the last usable answer was complete.
    pub last_poll: Option<WallUs>,
    /// When the newest item known was published.
    pub last_item: Option<WallUs>,
    /// Connections open now.
    pub connections: u64,
    /// Requests a second and local address, between and within windows of dense polling.
    pub requests_per_second: (f64, f64),
    /// By [`Count::name`].
    pub counts: ByName,
    /// By the failure's name.
    pub failures: ByName,
    /// Failures of TLS by their reason; all are among `failures` too.
    pub tls_failures: ByName,
    /// Microseconds from publication to detection.
    pub delay_us: Distribution,
    /// Microseconds from reading such an item's bytes to its classification.
    pub processing_us: Distribution,
    /// Microseconds from the first source's arrival to this one's, of what this one confirmed.
    pub behind_us: Distribution,
    /// When it was last the first source of its exchange with an announcement.
    pub last_won: Option<WallUs>,
}

impl SourceSnapshot {
    /// One of its counts.
    #[must_use]
    pub fn count(&self, count: Count) -> u64 {
        self.counts.get(count.name())
    }

    /// Failures that have happened, those of TLS with their reason beside.
    #[must_use]
    pub fn failures_that_happened(&self) -> serde_json::Map<String, serde_json::Value> {
        let classes = self.failures.0.iter().map(|(name, count)| ((*name).to_owned(), *count));
        let tls = self.tls_failures.0.iter().map(|(name, count)| (format!("tls_{name}"), *count));
        classes.chain(tls).filter(|(_, count)| *count > 0).map(|(name, count)| (name, count.into())).collect()
    }
}

impl Serialize for SourceSnapshot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (cold, hot) = self.requests_per_second;
        let mut map = serializer.serialize_map(None)?;
        for (name, count) in &self.counts.0 {
            map.serialize_entry(name, count)?;
        }
        map.serialize_entry("name", self.name)?;
        let polled = exchange::by_name(self.name).map(|spec| spec.evidence);
        let pushed = || stream::ALL.iter().find(|spec| spec.name == self.name).map(|spec| spec.evidence);
        if let Some(evidence) = polled.or_else(pushed) {
            map.serialize_entry("evidence", evidence.name())?;
        }
        map.serialize_entry("state", self.state.name())?;
        map.serialize_entry("last_poll_us", &self.last_poll)?;
        map.serialize_entry("last_item_us", &self.last_item)?;
        map.serialize_entry("connections", &self.connections)?;
        let rates = serde_json::json!({"between_windows": cold, "within": hot});
        map.serialize_entry("requests_per_second", &rates)?;
        map.serialize_entry("failures", &self.failures_that_happened())?;
        let behind = &self.behind_us;
        let behind = serde_json::json!({
            "count": behind.count(),
            "p50": behind.quantile(500),
            "p90": behind.quantile(900),
            "p99": behind.quantile(990),
            "max": behind.quantile(1_000),
        });
        map.serialize_entry("behind_us", &behind)?;
        map.serialize_entry("last_won_us", &self.last_won)?;
        map.end()
    }
}

/// Count, and the 50th, 99th and highest value, rounded up to the distribution's buckets.
fn summary<S: Serializer>(all: &Distribution, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(4))?;
    map.serialize_entry("count", &all.count())?;
    map.serialize_entry("p50", &all.quantile(500))?;
    map.serialize_entry("p99", &all.quantile(990))?;
    map.serialize_entry("max", &all.quantile(1_000))?;
    map.end()
}

/// All feed writers together, and the source threads' rings to them.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs, reason = "said at `Counters` of the core and at `Losses`")]
pub struct FeedSnapshot {
    pub connections: u64,
    pub joins: u64,
    /// By [`tocsin_core::feed::close::CloseReason::name`].
    pub closed: ByName,
    pub announcements: u64,
    pub late: u64,
    pub out_of_order: u64,
    #[serde(skip)]
    pub too_large: u64,
    pub messages: u64,
    pub from_history: u64,
    pub heartbeats: u64,
    pub bytes: u64,
    pub blocked: u64,
    pub extras: u64,
    pub extras_missed: u64,
    pub extras_dropped: u64,
    pub client_messages: u64,
    #[serde(serialize_with = "summary")]
    pub rtt_us: Distribution,
    #[serde(serialize_with = "summary")]
    pub fanout_first_ns: Distribution,
    #[serde(serialize_with = "summary")]
    pub fanout_last_ns: Distribution,
    pub ring_waited: u64,
    pub ring_dropped: u64,
    #[serde(skip)]
    pub history_ring_dropped: u64,
}

/// The accept thread.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs, reason = "said at `AcceptStats`")]
pub struct AcceptSnapshot {
    pub accepted: u64,
    pub admitted: u64,
    pub sessions: u64,
    pub handshakes_in_progress: u64,
    /// By [`tocsin_core::feed::admission::refusal::RefusalCode::name`].
    pub refused: ByName,
    /// By [`crate::net::tls::TlsFailure::name`].
    pub tls_failed: ByName,
    pub tls_full: u64,
    pub tls_resumed: u64,
    pub timeouts: u64,
    pub gone: u64,
    pub not_proxied: u64,
    pub over_share: u64,
    pub out_of_descriptors: u64,
    pub history_answers: u64,
    pub invalid_keys_remembered: u64,
    pub waiting_for_writers: u64,
}

/// The journal thread, and the source threads' rings and shared memory to it.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs, reason = "said at `JournalCounters` and at `Losses`")]
pub struct JournalSnapshot {
    pub rows: u64,
    pub commits: u64,
    pub failures: u64,
    pub rejected: u64,
    pub recovered: u64,
    #[serde(skip)]
    pub log_lines_dropped: u64,
    pub backlog_rows: u64,
    pub ring_waited: u64,
    pub ring_dropped: u64,
    pub shared_memory_full: u64,
}

/// The webhook thread, the source threads' rings to it, its ring and shared memory to the journal.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs, reason = "said at `WebhookStats` and at `Losses`")]
pub struct WebhookSnapshot {
    pub endpoints: u64,
    pub connections: u64,
    pub pending: u64,
    pub in_flight: u64,
    pub events: u64,
    pub delivered: u64,
    /// By [`tocsin_core::webhook::attempt::FailureClass::name`].
    pub failed: ByName,
    pub given_up: u64,
    pub expired: u64,
    pub resent: u64,
    pub opened: u64,
    pub resumed: u64,
    pub lookups: u64,
    #[serde(serialize_with = "summary")]
    pub first_write_ns: Distribution,
    #[serde(serialize_with = "summary")]
    pub first_byte_us: Distribution,
    pub ring_dropped: u64,
    pub shared_memory_full: u64,
    pub journal_dropped: u64,
}

/// The market thread, the source threads' rings to it, its rings to the others.
#[derive(Clone, Debug, Default, Serialize)]
pub struct MarketSnapshot {
    /// Every request, in the order of the sources; `GET /admin/v1/markets` has them.
    #[serde(skip)]
    pub requests: Vec<MarketRequestSnapshot>,
    /// Requests by their state.
    pub states: ByName,
    /// Events told, by kind.
    pub events: ByName,
    /// Contexts of announcements sent.
    pub contexts: u64,
    /// Assets whose volume is known.
    pub assets: u64,
    /// Announcements it never heard of.
    pub ring_dropped: u64,
    /// Messages that feed writers had no room for.
    pub feed_dropped: u64,
    /// Messages that the webhook thread had no room for.
    pub webhook_dropped: u64,
    /// Messages that wait for the journal's ring; while there are any nothing is asked.
    pub journal_waiting: u64,
}

/// One request of a market source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct MarketRequestSnapshot {
    /// Its source (`okx.instruments`).
    pub source: &'static str,
    /// Its name within the source.
    pub request: &'static str,
    /// Whose markets.
    pub exchange: &'static str,
    /// `live`, `stale`, `blocked` or `down`, as of a source of announcements.
    pub state: &'static str,
    /// What stands against concluding anything from it, for people; null while nothing does.
    pub problem: Option<String>,
    /// When the last usable answer had been read.
    #[schema(value_type = Option<i64>)]
    pub last_answer_us: Option<WallUs>,
    /// Whether its first list has been taken as known.
    pub baselined: bool,
    /// Instruments known, those that are gone included; 0 where it tells none.
    pub instruments: u64,
    /// Symbols with a recent volume.
    pub volumes: u64,
    /// `usual`, `shrunk` or `grown`: of the last two nothing is concluded.
    pub list: &'static str,
    /// Requests sent.
    pub asked: u64,
    /// Usable answers.
    pub answers: u64,
    /// Bytes of the bodies of all answers.
    pub bytes: u64,
    /// By the failure's name.
    #[schema(value_type = Object)]
    pub failures: ByName,
    /// Answers from which nothing was concluded, for the list had lost or gained too much.
    pub held: u64,
    /// Lists that were then believed in silence.
    pub believed: u64,
    /// New pairs of which nothing was told, for the exchange's notices were not heard.
    pub undecided: u64,
    /// Volume spikes found and not told: of what is not traded or about to end.
    pub withheld: u64,
    /// Rows without a name or pair: the exchange may have changed its format.
    pub rows_skipped: u64,
    /// Rows and instruments beyond a bound.
    pub beyond_limit: u64,
}

/// The mail thread.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs, reason = "said at `MailCounters`")]
pub struct MailSnapshot {
    pub sent: u64,
    pub deferred: u64,
    pub given_up: u64,
    pub server_failures: u64,
}

/// The recorder thread.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs, reason = "said at `RecorderCounters`")]
pub struct RecorderSnapshot {
    pub polls: u64,
    pub bodies: u64,
    pub unchanged: u64,
    pub announcements: u64,
    pub unwritten: u64,
    pub failures: u64,
    pub lost: RecorderLost,
    /// All that is missing together.
    pub dropped: u64,
}

/// What found the recorder's rings full.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs, reason = "said at `TapLosses`")]
pub struct RecorderLost {
    pub polls: u64,
    pub bodies: u64,
    pub announcements: u64,
}

/// One thread.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ThreadSnapshot {
    /// Its name (`feed-0`).
    pub name: String,
    /// Microseconds since it last started a turn; `None` for threads that wait for input alone.
    pub still_us: Option<u64>,
    /// Longest time between two of its turns so far, in microseconds.
    pub longest_gap_us: u64,
    /// The same of the last 30 to 60 seconds.
    #[serde(skip)]
    pub recent_gap_us: u64,
}

/// Why the service is not ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unready {
    /// A stop or restart is under way.
    Draining,
    /// A loop has not moved for seconds.
    ThreadStands,
    /// Sources are enabled and none of them is live.
    NoSourceLive,
    /// The kernel says that nobody keeps the clock right, or does not say.
    ClockUnsynchronised,
}

impl Unready {
    /// All of them, in the order they are told.
    pub const ALL: [Unready; 4] =
        [Unready::Draining, Unready::ThreadStands, Unready::NoSourceLive, Unready::ClockUnsynchronised];

    /// As code and label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Unready::Draining => "draining",
            Unready::ThreadStands => "thread_stands",
            Unready::NoSourceLive => "no_source_live",
            Unready::ClockUnsynchronised => "clock_unsynchronised",
        }
    }
}

/// One reason of not being ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct NotReady {
    /// `draining`, `thread_stands`, `no_source_live` or `clock_unsynchronised`; there may be more later.
    #[serde(serialize_with = "unready_name")]
    #[schema(value_type = String)]
    pub code: Unready,
    /// For people: which thread, which source, what to do.
    pub detail: String,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde wants it")]
fn unready_name<S: Serializer>(code: &Unready, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(code.name())
}
