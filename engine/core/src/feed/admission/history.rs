//! History in memory and the answer of `GET /v1/announcements`.
//!
//! Contract: [`History`] holds the newest [`limits::HISTORY_IN_MEMORY`] announcements in feed order;
//! the oldest goes first. [`History::answer`] writes one whole HTTP response under a key's rights: its
//! exchanges, its redaction, and its delay, during which an announcement does not exist for it. Owner:
//! the accept thread. Allocates the answer, at most [`limits::HISTORY_BODY_BYTES`] and one announcement.
//! Never fails.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::Arc;

use super::query::HistoryQuery;
use super::refusal::response_head;
use crate::limits;
use crate::model::{ExchangeSet, FeedPosition};
use crate::time::WallUs;
use crate::wire::{EncodedAnnouncement, json};

/// What a key may see of history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryRights {
    /// Its exchanges.
    pub allowed: ExchangeSet,
    /// Title and ticker withheld.
    pub redact: bool,
    /// Announcements exist for it this long after their detection.
    pub delay: Duration,
}

/// The newest announcements, in feed order.
#[derive(Debug)]
pub struct History {
    items: VecDeque<Arc<EncodedAnnouncement>>,
    capacity: usize,
    /// Whether older announcements than the first one may exist.
    cut: bool,
}

impl History {
    /// What was loaded at start, oldest first. Holds at most `capacity`; when `loaded` fills it, older
    /// ones are taken to exist.
    #[must_use]
    pub fn new(loaded: impl IntoIterator<Item = Arc<EncodedAnnouncement>>, capacity: usize) -> History {
        let mut history = History { items: VecDeque::new(), capacity, cut: false };
        for item in loaded {
            history.push(item);
        }
        history.cut |= history.items.len() >= capacity;
        history
    }

    /// Adds an announcement. Several source threads may deliver a few out of order; one that is
    /// already there is passed over.
    pub fn push(&mut self, item: Arc<EncodedAnnouncement>) {
        let position = item.announcement.position;
        let at = self.first_after(position);
        if at.checked_sub(1).and_then(|before| self.position(before)) == Some(position) {
            return;
        }
        self.items.insert(at, item);
        if self.items.len() > self.capacity {
            self.items.pop_front();
            self.cut = true;
        }
    }

    /// How many it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Appends the response
    /// `{"announcements":[...],"next":"EPOCH:SEQ","gap":{"fromSeq","toSeq","epoch","toEpoch"}|null}`.
    ///
    /// `announcements` are the full objects after `query.after` in feed order, or the newest ones when
    /// that is not given. `next` is where to go on: everything up to it was looked at (`null` when
    /// there is nothing yet). `gap` names what `after` asked for and memory no longer holds.
    pub fn answer(&self, query: &HistoryQuery, rights: &HistoryRights, now: WallUs, out: &mut Vec<u8>) {
        let mut body = Vec::with_capacity(4_096);
        let gap = query.after.and_then(|after| self.gap_after(after));
        body.extend_from_slice(b"{\"announcements\":[");
        let next = self.write_matching(query, rights, now, &mut body);
        body.extend_from_slice(b"],\"next\":");
        match next {
            Some(next) => json::string(&mut body, &next.to_string()),
            None => body.extend_from_slice(b"null"),
        }
        body.extend_from_slice(b",\"gap\":");
        match gap {
            Some((from, to)) => write_gap(&mut body, from, to),
            None => body.extend_from_slice(b"null"),
        }
        body.push(b'}');
        response_head(out, 200, body.len());
        out.extend_from_slice(b"Cache-Control: no-store\r\n\r\n");
        out.extend_from_slice(&body);
    }

    /// Writes what matches and returns the position up to which all was looked at.
    fn write_matching(
        &self,
        query: &HistoryQuery,
        rights: &HistoryRights,
        now: WallUs,
        body: &mut Vec<u8>,
    ) -> Option<FeedPosition> {
        let exchanges = rights.allowed.intersection(query.exchanges);
        let matches = |item: &EncodedAnnouncement| {
            let a = &item.announcement;
            exchanges.contains(a.exchange) && query.types.contains(a.classification.listing_type)
        };
        let delay_us = i64::try_from(rights.delay.as_micros()).unwrap_or(i64::MAX);
        let exists = |item: &&Arc<EncodedAnnouncement>| {
            now.micros_since(item.announcement.detected) >= delay_us || delay_us == 0
        };
        let from = match query.after {
            Some(after) => self.first_after(after),
            None => {
                // The newest: count back over those that exist already.
                let seen = self.items.iter().take_while(exists).count();
                let newest = self.items.iter().take(seen).enumerate().rev();
                newest.filter(|(_, i)| matches(i)).take(query.limit).last().map_or(seen, |(at, _)| at)
            }
        };
        let mut looked_at = match query.after {
            Some(after) => Some(after),
            None => from.checked_sub(1).and_then(|before| self.position(before)),
        };
        let (begin, mut written) = (body.len(), 0);
        for item in self.items.iter().skip(from).take_while(exists) {
            if matches(item) {
                if written == query.limit || body.len() - begin >= limits::HISTORY_BODY_BYTES {
                    break;
                }
                if written > 0 {
                    body.push(b',');
                }
                let dispatch = item.dispatched().unwrap_or(item.announcement.detected);
                item.payload(true, rights.redact).write_stamped(body, dispatch);
                written += 1;
            }
            looked_at = Some(item.announcement.position);
        }
        // A position of another history (a newer epoch than any here) would be asked for for ever.
        let newest = self.items.back().map(|i| i.announcement.position);
        match (looked_at, newest) {
            (Some(at), Some(newest)) if at.epoch > newest.epoch => Some(newest),
            (at, _) => at,
        }
    }

    /// First and last position after `after` that memory no longer holds.
    fn gap_after(&self, after: FeedPosition) -> Option<(FeedPosition, FeedPosition)> {
        let oldest = self.position(0)?;
        let from = FeedPosition { epoch: after.epoch, seq: after.seq.saturating_add(1) };
        let to = FeedPosition { epoch: oldest.epoch, seq: oldest.seq.saturating_sub(1) };
        (self.cut && from < oldest).then_some((from, to))
    }

    fn position(&self, at: usize) -> Option<FeedPosition> {
        self.items.get(at).map(|i| i.announcement.position)
    }

    /// Index of the first one after `position`.
    fn first_after(&self, position: FeedPosition) -> usize {
        self.items.partition_point(|i| i.announcement.position <= position)
    }
}

fn write_gap(out: &mut Vec<u8>, from: FeedPosition, to: FeedPosition) {
    let fields = [
        ("{\"fromSeq\":", from.seq),
        (",\"toSeq\":", to.seq),
        (",\"epoch\":", from.epoch),
        (",\"toEpoch\":", to.epoch),
    ];
    for (name, value) in fields {
        out.extend_from_slice(name.as_bytes());
        json::unsigned(out, value);
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::request::QueryPairs;
    use crate::model::{Action, Announcement, Classification, Exchange, Lang, ListingType, Ticker};
    use crate::wire::encode;

    const ALL: HistoryRights =
        HistoryRights { allowed: ExchangeSet::ALL, redact: false, delay: Duration::ZERO };

    fn item(epoch: u64, seq: u64, exchange: Exchange, listing_type: ListingType) -> Arc<EncodedAnnouncement> {
        let at = WallUs::from_secs(1_700_000_000 + i64::try_from(seq).unwrap());
        Arc::new(encode(Announcement {
            id: format!("{}:{seq}", exchange.name()),
            position: FeedPosition { epoch, seq },
            exchange,
            title: format!("Notice {seq}"),
            classification: Classification {
                listing_type,
                tickers: vec![Ticker::new("ABC").unwrap()],
                markets: Vec::new(),
                rule: "test",
                confidence: 90,
                lang: Lang::En,
            },
            action: Action::Created,
            late: false,
            url: String::new(),
            notice_id: seq.to_string(),
            source: "test".to_owned(),
            published: at,
            received: at,
            detected: at,
            classified: at,
            effective_at: None,
        }))
    }

    fn spot(epoch: u64, seq: u64) -> Arc<EncodedAnnouncement> {
        item(epoch, seq, Exchange::Binance, ListingType::SpotListing)
    }

    fn ask(
        history: &History,
        query: &str,
        rights: &HistoryRights,
        now: i64,
    ) -> (Vec<u64>, serde_json::Value) {
        let query = HistoryQuery::parse(QueryPairs::new(query)).unwrap();
        let mut out = Vec::new();
        history.answer(&query, rights, WallUs::from_secs(1_700_000_000 + now), &mut out);
        let text = String::from_utf8(out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with("HTTP/1.1 200 OK\r\n")
                && head.contains(&format!("Content-Length: {}\r\n", body.len()))
        );
        let value: serde_json::Value = serde_json::from_str(body).unwrap();
        let list = value["announcements"].as_array().unwrap();
        (list.iter().map(|a| a["seq"].as_u64().unwrap()).collect(), value)
    }

    #[test]
    fn pages_through_and_says_where_to_go_on() {
        let history = History::new((1..=5).map(|n| spot(1, n)), 10);
        let rows: [(&str, &[u64], &str); 7] = [
            ("", &[1, 2, 3, 4, 5], "1:5"),
            ("limit=2", &[4, 5], "1:5"),
            ("after=1:0&limit=2", &[1, 2], "1:2"),
            ("after=1:2&limit=2", &[3, 4], "1:4"),
            ("after=1:4&limit=2", &[5], "1:5"),
            ("after=1:9", &[], "1:9"),
            ("after=7:1", &[], "1:5"),
        ];
        for (query, expected, next) in rows {
            let (seqs, value) = ask(&history, query, &ALL, 100);
            assert_eq!((seqs.as_slice(), value["next"].as_str().unwrap()), (expected, next), "{query}");
            assert!(value["gap"].is_null(), "{query}");
        }
        let (seqs, value) = ask(&History::new([], 10), "", &ALL, 100);
        assert!(seqs.is_empty() && value["next"].is_null());
    }

    #[test]
    fn filters_move_next_past_what_they_leave_out() {
        let delisting = item(1, 3, Exchange::Upbit, ListingType::SpotDelisting);
        let history = History::new([spot(1, 1), spot(1, 2), delisting, spot(1, 4)], 10);
        for query in ["after=1:0&cex=upbit", "after=1:0&type=spot_delisting", "cex=upbit"] {
            let (seqs, value) = ask(&history, query, &ALL, 100);
            assert_eq!((seqs, value["next"].as_str()), (vec![3], Some("1:4")), "{query}");
        }
        let rights = HistoryRights { allowed: ExchangeSet::EMPTY.with(Exchange::Binance), ..ALL };
        assert_eq!(ask(&history, "", &rights, 100).0, [1, 2, 4]);
        assert!(ask(&history, "cex=upbit", &rights, 100).0.is_empty(), "not the key's");
    }

    #[test]
    fn delayed_and_redacted_keys_see_what_they_may() {
        let history = History::new((1..=5).map(|n| spot(1, n)), 10);
        let delayed = HistoryRights { delay: Duration::from_secs(10), ..ALL };
        for query in ["", "after=1:0"] {
            let (seqs, value) = ask(&history, query, &delayed, 13);
            assert_eq!((seqs, value["next"].as_str()), (vec![1, 2, 3], Some("1:3")), "{query}");
        }
        let (_, value) = ask(&history, "limit=1", &HistoryRights { redact: true, ..ALL }, 100);
        assert!(!value.to_string().contains("Notice") && !value.to_string().contains("ABC"), "{value}");
    }

    #[test]
    fn dispatch_time_is_the_first_fan_outs() {
        let late = spot(1, 1);
        let sent = spot(1, 2);
        sent.mark_dispatched(WallUs(1_700_000_009_000_007));
        let (_, value) = ask(&History::new([late, sent], 10), "", &ALL, 100);
        let stamp = |i: usize| value["announcements"][i]["dispatchTimestampUs"].as_i64().unwrap();
        assert_eq!((stamp(0), stamp(1)), (1_700_000_001_000_000, 1_700_000_009_000_007));
    }

    #[test]
    fn gap_names_what_memory_no_longer_holds() {
        let mut history = History::new((1..=3).map(|n| spot(1, n)), 4);
        assert!(ask(&history, "after=0:0", &ALL, 100).1["gap"].is_null(), "nothing was ever older");
        for item in [spot(2, 2), spot(2, 1), spot(2, 1), spot(2, 3)] {
            history.push(item);
        }
        assert_eq!(history.len(), 4);
        let (seqs, value) = ask(&history, "after=1:1", &ALL, 100);
        assert_eq!(seqs, [3, 1, 2, 3], "in order, each once");
        assert_eq!(value["gap"].to_string(), r#"{"epoch":1,"fromSeq":2,"toEpoch":1,"toSeq":2}"#);
        assert!(ask(&history, "after=1:2", &ALL, 100).1["gap"].is_null());
        assert!(ask(&history, "after=2:1", &ALL, 100).1["gap"].is_null());
        let full = History::new((5..=8).map(|n| spot(1, n)), 4);
        assert!(!ask(&full, "after=1:1", &ALL, 100).1["gap"].is_null(), "a full load has older ones");
    }

    #[test]
    fn one_answer_is_bounded() {
        let history = History::new(
            (1..=limits::HISTORY_IN_MEMORY as u64).map(|n| spot(1, n)),
            limits::HISTORY_IN_MEMORY,
        );
        let query =
            HistoryQuery { limit: usize::MAX, ..HistoryQuery::parse(QueryPairs::new("after=1:0")).unwrap() };
        let mut out = Vec::new();
        history.answer(&query, &ALL, WallUs(i64::MAX), &mut out);
        assert!(out.len() < limits::HISTORY_BODY_BYTES + 8_192, "{}", out.len());
    }
}
