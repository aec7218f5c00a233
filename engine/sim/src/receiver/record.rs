//! What a receiver has been sent.
//!
//! Contract: the last [`KEPT`] deliveries and at most [`KEPT_BYTES`] of them are kept, the oldest go
//! first and are counted; totals go on. Counts by path are kept for [`PATHS`] paths. Waiting blocks
//! the caller; recording wakes it.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use serde_json::Value;
use tocsin_core::time::WallUs;

use crate::receiver::signature::SignatureVerdict;

/// Most deliveries kept.
pub const KEPT: usize = 100_000;
/// Most bytes of heads and bodies kept.
const KEPT_BYTES: usize = 256 * 1024 * 1024;
/// Most paths counted apart.
const PATHS: usize = 16_384;

/// One request, as it came.
#[derive(Clone, Debug)]
pub struct Received {
    /// When it was complete.
    pub at: WallUs,
    /// When its first byte was read.
    pub began: WallUs,
    /// Counts connections of this receiver from 1.
    pub connection: u64,
    /// The address it came to: of interest where the receiver listens on all of them.
    pub to: SocketAddr,
    /// Counts requests of this connection from 1.
    pub nth: u32,
    /// The connection took up an earlier TLS session.
    pub resumed: bool,
    /// Method.
    pub method: String,
    /// Path and query as sent.
    pub target: String,
    /// Request line and headers as they came, up to and including the empty line.
    pub head: Box<[u8]>,
    /// The body.
    pub body: Box<[u8]>,
    /// What its signatures are worth.
    pub signature: SignatureVerdict,
    /// Name of the behaviour it met.
    pub behaviour: Arc<str>,
}

impl Received {
    /// The target without its query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or("")
    }

    /// Headers in order, as sent but for white space around the value.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.head.split(|b| *b == b'\n').skip(1).filter_map(|line| {
            let colon = line.iter().position(|b| *b == b':')?;
            let (name, value) = line.split_at_checked(colon)?;
            Some((std::str::from_utf8(name).ok()?, value.get(1..)?.trim_ascii()))
        })
    }

    /// The first header of this name, ignoring case, if it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers().find(|(n, _)| n.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }

    /// A header `X-<brand>-<what>` of whatever brand; the shortest brand wins, as that of
    /// `X-CEXPing-Signature` does over that of `X-CEXPing-Extra-Signature`.
    fn branded(&self, what: &str) -> Option<&str> {
        let suffix = format!("-{what}");
        let fits = |name: &str| {
            let (name, suffix) = (name.to_ascii_lowercase(), suffix.to_ascii_lowercase());
            name.starts_with("x-") && name.ends_with(&suffix)
        };
        let (_, value) = self.headers().filter(|(n, _)| fits(n)).min_by_key(|(n, _)| n.len())?;
        std::str::from_utf8(value).ok()
    }

    /// `X-<brand>-Event`.
    #[must_use]
    pub fn event_type(&self) -> Option<String> {
        self.branded("Event").map(str::to_owned)
    }

    /// `X-<brand>-Event-Id`.
    #[must_use]
    pub fn event_id(&self) -> Option<String> {
        self.branded("Event-Id").map(str::to_owned)
    }

    /// `X-<brand>-Attempt`.
    #[must_use]
    pub fn attempt(&self) -> Option<u32> {
        self.branded("Attempt")?.parse().ok()
    }

    /// `X-<brand>-Sent-At`, microseconds.
    #[must_use]
    pub fn sent_at(&self) -> Option<WallUs> {
        self.branded("Sent-At")?.parse().ok().map(WallUs)
    }

    /// From its sending to its first byte here, in microseconds of the wall clock.
    #[must_use]
    pub fn latency_us(&self) -> Option<i64> {
        self.sent_at().map(|sent| self.began.micros_since(sent))
    }

    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    fn bytes(&self) -> usize {
        self.head.len() + self.body.len()
    }

    #[cfg(test)]
    pub(super) fn of_parts(at: WallUs, head: &[u8], body: &[u8]) -> Received {
        Received {
            at,
            began: at,
            connection: 1,
            to: SocketAddr::from(([127, 0, 0, 1], 1)),
            nth: 1,
            resumed: false,
            method: "POST".to_owned(),
            target: "/a".to_owned(),
            head: head.into(),
            body: body.into(),
            signature: SignatureVerdict::Unchecked,
            behaviour: "ok".into(),
        }
    }
}

#[derive(Default)]
struct Kept {
    deliveries: VecDeque<Received>,
    bytes: usize,
    forgotten: u64,
    total: u64,
    by_path: BTreeMap<String, u64>,
    taken: u64,
}

/// Deliveries, as they come.
#[derive(Default)]
pub(super) struct Ledger {
    kept: Mutex<Kept>,
    changed: Condvar,
}

impl Ledger {
    pub(super) fn record(&self, delivery: Received) {
        let mut kept = self.kept.lock();
        kept.total += 1;
        if let Some(count) = kept.by_path.get_mut(delivery.path()) {
            *count += 1;
        } else if kept.by_path.len() < PATHS {
            kept.by_path.insert(delivery.path().to_owned(), 1);
        }
        kept.bytes += delivery.bytes();
        kept.deliveries.push_back(delivery);
        while kept.deliveries.len() > KEPT || kept.bytes > KEPT_BYTES {
            let Some(oldest) = kept.deliveries.pop_front() else { break };
            kept.bytes -= oldest.bytes();
            kept.forgotten += 1;
        }
        drop(kept);
        self.changed.notify_all();
    }

    pub(super) fn all(&self) -> Vec<Received> {
        self.kept.lock().deliveries.iter().cloned().collect()
    }

    pub(super) fn take(&self) -> Vec<Received> {
        let mut kept = self.kept.lock();
        kept.bytes = 0;
        kept.taken = kept.total;
        std::mem::take(&mut kept.deliveries).into()
    }

    pub(super) fn total(&self) -> u64 {
        self.kept.lock().total
    }

    pub(super) fn forgotten(&self) -> u64 {
        self.kept.lock().forgotten
    }

    pub(super) fn on(&self, path: &str) -> u64 {
        self.kept.lock().by_path.get(path).copied().unwrap_or(0)
    }

    /// Judges those kept without a verdict anew.
    pub(super) fn judge(&self, verdict: impl Fn(&Received) -> SignatureVerdict) {
        for delivery in &mut self.kept.lock().deliveries {
            if delivery.signature == SignatureVerdict::Unchecked {
                delivery.signature = verdict(delivery);
            }
        }
    }

    /// Waits until there are `count` more than were taken.
    pub(super) fn wait_for(&self, count: u64, patience: Duration) -> bool {
        self.wait(patience, |kept| kept.total - kept.taken >= count)
    }

    /// Waits until there were `count` in all on a path.
    pub(super) fn wait_for_on(&self, path: &str, count: u64, patience: Duration) -> bool {
        self.wait(patience, |kept| kept.by_path.get(path).is_some_and(|n| *n >= count))
    }

    fn wait(&self, patience: Duration, done: impl Fn(&Kept) -> bool) -> bool {
        let end = Instant::now() + patience;
        let mut kept = self.kept.lock();
        while !done(&kept) {
            if self.changed.wait_until(&mut kept, end).timed_out() {
                return done(&kept);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_kept_as_they_came() {
        let head = b"POST /a HTTP/1.1\r\nHost: h\r\nX-B-Event-Id: cxp_1\r\nX-B-Event:  ping \r\nx-b-attempt: 3\r\nX-B-Sent-At: 7\r\nbad\xff: x\r\nV: \xff\r\n\r\n";
        let one = Received::of_parts(WallUs(12), head, b"{}");
        let names: Vec<&str> = one.headers().map(|(name, _)| name).collect();
        assert_eq!(names, ["Host", "X-B-Event-Id", "X-B-Event", "x-b-attempt", "X-B-Sent-At", "V"]);
        assert_eq!((one.header("HOST"), one.header("v")), (Some("h"), None));
        assert_eq!((one.event_type().as_deref(), one.event_id().as_deref()), (Some("ping"), Some("cxp_1")));
        assert_eq!((one.attempt(), one.latency_us()), (Some(3), Some(5)));
    }

    #[test]
    fn the_oldest_go_first_and_totals_go_on() {
        let ledger = Ledger::default();
        let body = vec![0; KEPT_BYTES / 4];
        for n in 0..6 {
            ledger.record(Received::of_parts(WallUs(n), b"", &body));
        }
        let kept: Vec<i64> = ledger.all().iter().map(|d| d.at.0).collect();
        assert_eq!((kept, ledger.total(), ledger.forgotten()), (vec![2, 3, 4, 5], 6, 2));
        assert!(ledger.wait_for(6, Duration::ZERO) && !ledger.wait_for(7, Duration::ZERO));
        assert_eq!(ledger.take().len(), 4);
        assert!(!ledger.wait_for(1, Duration::ZERO) && ledger.wait_for_on("/a", 6, Duration::ZERO));
    }
}
