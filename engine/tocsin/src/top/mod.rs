//! `tocsin top`: a running service at a glance, each second anew.
//!
//! Contract: [`Frame::new`] makes of two answers of `GET /admin/v1/status` what is shown, rates included;
//! [`view::draw`] draws it; [`screen`] has the terminal. All of it runs in the command line's process and
//! meets the service through its admin socket alone. What an answer lacks is shown as a dash or as 0, so
//! that a newer or older service can be looked at too. Bounds: [`ANNOUNCEMENTS`] announcements.

pub mod screen;
pub mod view;

use serde::Serialize;
use serde_json::Value;
use tocsin_core::time::WallUs;

/// Announcements that are asked for and shown at most.
pub const ANNOUNCEMENTS: usize = 40;

/// An answer of the service, and when it came.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Of `GET /admin/v1/status`.
    pub status: Value,
    /// When.
    pub at: WallUs,
}

/// One source.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SourceRow {
    /// `upbit.web`.
    pub name: String,
    /// `live`, `stale`, `blocked` or `down`.
    pub state: String,
    /// Since the last usable answer, milliseconds.
    pub last_poll_ms: Option<i64>,
    /// Requests a second since the sample before.
    pub polls_per_second: f64,
    /// Requests a second the budget allows within windows of dense polling.
    pub budget_per_second: f64,
    /// Warm connections.
    pub connections: u64,
    /// Announcements since its start.
    pub announced: u64,
    /// Failures since its start, all classes.
    pub failures: u64,
    /// The class that failed most, if any did.
    pub failed_most: Option<String>,
}

/// Microseconds: the median, the 99th percentile and the longest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// Median.
    pub p50_us: f64,
    /// 99th.
    pub p99_us: f64,
    /// Longest.
    pub max_us: f64,
}

/// The feed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FeedPart {
    /// Live sessions.
    pub connections: u64,
    /// Frames of announcements and the rest, a second, since the sample before.
    pub messages_per_second: f64,
    /// Bytes likewise.
    pub bytes_per_second: f64,
    /// Announcements since the start.
    pub announcements: u64,
    /// From the stamp to the first subscriber's write.
    pub first: Percentiles,
    /// And to the last one's.
    pub last: Percentiles,
    /// Round trips to subscribers.
    pub rtt: Percentiles,
    /// Closed sessions by reason, most first.
    pub closed: Vec<(String, u64)>,
}

/// Webhooks.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct WebhooksPart {
    /// Endpoints.
    pub endpoints: u64,
    /// Deliveries that wait or are under way.
    pub pending: u64,
    /// Attempts under way.
    pub in_flight: u64,
    /// Answered with 2xx, a second, since the sample before.
    pub delivered_per_second: f64,
    /// And since the start.
    pub delivered: u64,
    /// Attempts that failed since the start, by class, most first.
    pub failed: Vec<(String, u64)>,
    /// Deliveries given up or no longer news.
    pub lost: u64,
    /// From an event to its first requests.
    pub first_write: Percentiles,
}

/// A thread.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ThreadRow {
    /// `feed-0`.
    pub name: String,
    /// Longest time between two turns since the start; `None` for threads that block on input.
    pub longest_gap_us: Option<u64>,
    /// Since its last turn.
    pub still_us: Option<u64>,
}

/// An announcement.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct AnnouncementRow {
    /// When it was detected, microseconds since 1970.
    pub detected_us: i64,
    /// Exchange.
    pub publisher: String,
    /// Listing type.
    pub listing_type: String,
    /// Ticker.
    pub ticker: String,
    /// Title, without control characters.
    pub title: String,
}

/// Everything that is shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Frame {
    /// When the sample came, microseconds since 1970.
    pub at_us: i64,
    /// Which start of the data directory.
    pub epoch: u64,
    /// It is going down.
    pub draining: bool,
    /// Sources.
    pub sources: Vec<SourceRow>,
    /// Feed.
    pub feed: FeedPart,
    /// Webhooks.
    pub webhooks: WebhooksPart,
    /// Rows the store has yet to commit.
    pub store_waiting: u64,
    /// Messages lost between threads, all rings together.
    pub lost: u64,
    /// Threads.
    pub threads: Vec<ThreadRow>,
    /// Newest first.
    pub announcements: Vec<AnnouncementRow>,
}

fn number(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_u64).unwrap_or_default()
}

fn text(value: &Value, name: &str) -> String {
    let text = value.get(name).and_then(Value::as_str).unwrap_or_default();
    text.chars().filter(|c| !c.is_control()).collect()
}

fn percentiles(value: &Value, path: &str, units_per_us: f64) -> Percentiles {
    #[allow(clippy::cast_precision_loss, reason = "shown with three digits")]
    let of = |name: &str| number(value, &format!("{path}/{name}")) as f64 / units_per_us;
    Percentiles { p50_us: of("p50"), p99_us: of("p99"), max_us: of("max") }
}

/// Counts above zero, most first.
fn most_first(value: Option<&Value>) -> Vec<(String, u64)> {
    let counts = value.and_then(Value::as_object).into_iter().flatten();
    let mut counts: Vec<(String, u64)> = counts
        .filter_map(|(name, count)| Some((name.clone(), count.as_u64().filter(|count| *count > 0)?)))
        .collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    counts
}

/// A counter's growth a second between two samples. A service that has started anew counts from 0.
struct Rates<'a> {
    before: Option<&'a Sample>,
    now: &'a Sample,
}

impl Rates<'_> {
    fn of(&self, path: &str) -> f64 {
        let Some(before) = self.before else { return 0.0 };
        let elapsed_us = self.now.at.0.saturating_sub(before.at.0).max(1);
        let restarted = number(&before.status, "/epoch") != number(&self.now.status, "/epoch");
        let was = if restarted { 0 } else { number(&before.status, path) };
        #[allow(clippy::cast_precision_loss, reason = "shown with one decimal")]
        let rate = number(&self.now.status, path).saturating_sub(was) as f64 * 1e6 / elapsed_us as f64;
        rate
    }
}

impl Frame {
    /// What is shown of a sample; rates are since the sample before. `announcements` is an answer of
    /// `GET /v1/announcements`.
    #[must_use]
    pub fn new(before: Option<&Sample>, now: &Sample, announcements: &Value) -> Frame {
        let rates = Rates { before, now };
        let status = &now.status;
        let count = |path: &str| number(status, path);
        let list = |name: &str| status.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
        let sources = list("sources");
        let threads = list("threads");
        let rings = [
            "/feed/ring_dropped",
            "/journal/ring_dropped",
            "/journal/shared_memory_full",
            "/webhooks/ring_dropped",
            "/webhooks/journal_dropped",
            "/recorder/dropped",
        ];
        Frame {
            at_us: now.at.0,
            epoch: count("/epoch"),
            draining: status.get("draining").and_then(Value::as_bool).unwrap_or_default(),
            sources: sources.iter().enumerate().map(|(i, s)| source(i, s, now.at, &rates)).collect(),
            feed: FeedPart {
                connections: count("/feed/connections"),
                messages_per_second: rates.of("/feed/messages"),
                bytes_per_second: rates.of("/feed/bytes"),
                announcements: count("/feed/announcements"),
                first: percentiles(status, "/feed/fanout_first_ns", 1_000.0),
                last: percentiles(status, "/feed/fanout_last_ns", 1_000.0),
                rtt: percentiles(status, "/feed/rtt_us", 1.0),
                closed: most_first(status.pointer("/feed/closed")),
            },
            webhooks: WebhooksPart {
                endpoints: count("/webhooks/endpoints"),
                pending: count("/webhooks/pending"),
                in_flight: count("/webhooks/in_flight"),
                delivered_per_second: rates.of("/webhooks/delivered"),
                delivered: count("/webhooks/delivered"),
                failed: most_first(status.pointer("/webhooks/failed")),
                lost: count("/webhooks/given_up") + count("/webhooks/expired"),
                first_write: percentiles(status, "/webhooks/first_write_ns", 1_000.0),
            },
            store_waiting: count("/journal/backlog_rows"),
            lost: rings.into_iter().map(count).sum(),
            threads: threads.iter().map(thread).collect(),
            announcements: rows(announcements),
        }
    }
}

fn source(index: usize, source: &Value, now: WallUs, rates: &Rates<'_>) -> SourceRow {
    let failed = most_first(source.get("failures"));
    // Reasons of TLS failures are counted beside the failure itself.
    let classes = || failed.iter().filter(|(name, _)| !name.starts_with("tls_"));
    SourceRow {
        name: text(source, "name"),
        state: text(source, "state"),
        last_poll_ms: source
            .get("last_poll_us")
            .and_then(Value::as_i64)
            .map(|at| (now.0 - at).max(0) / 1_000),
        polls_per_second: rates.of(&format!("/sources/{index}/polls")),
        budget_per_second: source
            .pointer("/requests_per_second/within")
            .and_then(Value::as_f64)
            .unwrap_or_default(),
        connections: number(source, "/connections"),
        announced: number(source, "/announced"),
        failures: classes().map(|(_, count)| count).sum(),
        failed_most: classes().next().map(|(name, _)| name.clone()),
    }
}

fn thread(thread: &Value) -> ThreadRow {
    let still_us = thread.get("still_us").and_then(Value::as_u64);
    let gap = thread.get("longest_gap_us").and_then(Value::as_u64);
    ThreadRow { name: text(thread, "name"), longest_gap_us: gap.filter(|_| still_us.is_some()), still_us }
}

fn rows(answer: &Value) -> Vec<AnnouncementRow> {
    let all = answer.get("announcements").and_then(Value::as_array);
    let row = |a: &Value| AnnouncementRow {
        detected_us: a.get("detectedTimestampUs").and_then(Value::as_i64).unwrap_or_default(),
        publisher: text(a, "publisher"),
        listing_type: text(a, "listingType"),
        ticker: text(a, "ticker"),
        title: text(a, "title"),
    };
    all.into_iter().flatten().rev().take(ANNOUNCEMENTS).map(row).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample(at_secs: i64, epoch: u64, messages: u64) -> Sample {
        let status = json!({
            "epoch": epoch, "draining": false,
            "sources": [{"name": "upbit.web", "state": "live", "last_poll_us": 9_500_000, "polls": messages,
                         "connections": 2, "announced": 3, "requests_per_second": {"within": 0.5},
                         "failures": {"timeout": 2, "tls": 1, "tls_certificate": 1}}],
            "feed": {"connections": 5, "messages": messages, "closed": {"too_slow": 1, "left": 4, "none": 0},
                     "fanout_last_ns": {"p50": 1_500, "p99": 20_000, "max": 90_000}, "ring_dropped": 1},
            "webhooks": {"delivered": messages, "given_up": 1, "expired": 2, "failed": {"timeout": 7}},
            "threads": [{"name": "feed-0", "still_us": 3, "longest_gap_us": 42},
                        {"name": "control", "still_us": null, "longest_gap_us": 0}],
        });
        Sample { status, at: WallUs(at_secs * 1_000_000) }
    }

    #[test]
    fn rates_are_between_samples_and_a_restart_counts_from_nothing() {
        let (first, second) = (sample(8, 7, 100), sample(10, 7, 130));
        let frame = Frame::new(Some(&first), &second, &Value::Null);
        assert!((frame.feed.messages_per_second - 15.0).abs() < 1e-9);
        assert!((frame.sources[0].polls_per_second - 15.0).abs() < 1e-9);
        assert_eq!(frame.sources[0].last_poll_ms, Some(500));
        assert_eq!(
            (frame.sources[0].failures, frame.sources[0].failed_most.as_deref()),
            (3, Some("timeout"))
        );
        assert_eq!(frame.feed.closed, [("left".to_owned(), 4), ("too_slow".to_owned(), 1)]);
        assert!((frame.feed.last.p99_us - 20.0).abs() < 1e-9);
        assert_eq!((frame.webhooks.lost, frame.lost), (3, 1));
        assert_eq!(frame.threads[0].longest_gap_us, Some(42));
        assert_eq!(frame.threads[1].longest_gap_us, None);
        let restarted = Frame::new(Some(&first), &sample(10, 8, 20), &Value::Null);
        assert!((restarted.feed.messages_per_second - 10.0).abs() < 1e-9);
        assert!(Frame::new(None, &second, &Value::Null).feed.messages_per_second.abs() < 1e-9);
    }

    #[test]
    fn an_answer_without_anything_is_a_frame_and_titles_hold_no_control_characters() {
        let nothing = Sample { status: json!({}), at: WallUs(1) };
        let list = json!({"announcements": [{"title": "older"}, {"title": "a\u{1b}[2Jb", "ticker": "X"}]});
        let frame = Frame::new(Some(&nothing), &nothing, &list);
        assert_eq!(frame.announcements[0].title, "a[2Jb");
        assert_eq!(frame.announcements[1].title, "older");
        assert_eq!(Frame { announcements: Vec::new(), ..frame }, Frame { at_us: 1, ..Frame::default() });
    }
}
