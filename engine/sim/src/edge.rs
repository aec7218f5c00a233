//! What stands before an exchange's own servers: Binance's edge cache, a rate limit per address,
//! weak entity tags.
//!
//! Contract: plain state, driven by instants given as arguments; every table is bounded.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::options::{CachePolicy, RateLimit};

const MAX_ENTRIES: usize = 1_024;
const MAX_PEERS: usize = 1_024;

/// How the edge came by a body, in the words of its `X-Cache` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cached {
    Miss,
    Hit,
    RefreshHit,
}

impl Cached {
    pub(crate) const fn header(self) -> &'static str {
        match self {
            Cached::Miss => "Miss from cloudfront",
            Cached::Hit => "Hit from cloudfront",
            Cached::RefreshHit => "RefreshHit from cloudfront",
        }
    }
}

/// One cache entry per address asked for.
#[derive(Debug, Default)]
pub(crate) struct EdgeCache {
    entries: BTreeMap<String, (Arc<[u8]>, Instant)>,
}

impl EdgeCache {
    /// The body for `key`: the cached one while `policy` lets it live, else `fresh()`. With it, how
    /// old it is.
    pub(crate) fn get(
        &mut self,
        key: &str,
        policy: CachePolicy,
        now: Instant,
        fresh: impl FnOnce() -> Arc<[u8]>,
    ) -> (Arc<[u8]>, Cached, Duration) {
        let Some((body, made)) = self.entries.get_mut(key) else {
            let body = fresh();
            if self.entries.len() >= MAX_ENTRIES {
                self.entries.pop_first();
            }
            self.entries.insert(key.to_owned(), (Arc::clone(&body), now));
            return (body, Cached::Miss, Duration::ZERO);
        };
        let age = now.saturating_duration_since(*made);
        if age < policy.ttl {
            return (Arc::clone(body), Cached::Hit, age);
        }
        let old = std::mem::replace(body, fresh());
        *made = now;
        if policy.refresh_hit {
            (old, Cached::RefreshHit, age)
        } else {
            (Arc::clone(body), Cached::Miss, Duration::ZERO)
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }
}

/// A sliding window per peer address.
#[derive(Debug, Default)]
pub(crate) struct RateWindows {
    peers: BTreeMap<IpAddr, VecDeque<Instant>>,
}

impl RateWindows {
    /// Whether a request of `peer` at `now` is within `limit`. Requests refused do not count.
    pub(crate) fn allow(&mut self, peer: IpAddr, limit: RateLimit, now: Instant) -> bool {
        if self.peers.len() >= MAX_PEERS && !self.peers.contains_key(&peer) {
            self.peers.clear();
        }
        let window = self.peers.entry(peer).or_default();
        while window.front().is_some_and(|first| now.saturating_duration_since(*first) >= limit.per) {
            window.pop_front();
        }
        let allowed = window.len() < limit.requests as usize;
        if allowed {
            window.push_back(now);
        }
        allowed
    }
}

/// A weak entity tag that changes with the body.
pub(crate) fn weak_etag(body: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    format!("W/\"{:016x}\"", hasher.finish())
}

/// Whether `If-None-Match` names `etag` (RFC 9110 section 13.1.2, weak comparison).
pub(crate) fn matches(if_none_match: &str, etag: &str) -> bool {
    let bare = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    if_none_match.trim() == "*" || if_none_match.split(',').any(|tag| bare(tag) == bare(etag))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> Arc<[u8]> {
        Arc::from(text.as_bytes())
    }

    #[test]
    fn a_refresh_hit_is_stale_once() {
        let policy = CachePolicy { ttl: Duration::from_secs(60), refresh_hit: true };
        let mut cache = EdgeCache::default();
        let t0 = Instant::now();
        let at = |secs| t0 + Duration::from_secs(secs);
        let mut ask = |key: &str, secs, fresh: &str| {
            let (b, how, _) = cache.get(key, policy, at(secs), || body(fresh));
            (String::from_utf8(b.to_vec()).unwrap(), how)
        };
        assert_eq!(ask("a", 0, "1"), ("1".into(), Cached::Miss));
        assert_eq!(ask("a", 59, "2"), ("1".into(), Cached::Hit));
        assert_eq!(ask("b", 59, "2"), ("2".into(), Cached::Miss));
        assert_eq!(ask("a", 60, "3"), ("1".into(), Cached::RefreshHit));
        assert_eq!(ask("a", 61, "4"), ("3".into(), Cached::Hit));
    }

    #[test]
    fn without_refresh_hit_an_old_entry_is_a_miss() {
        let policy = CachePolicy { ttl: Duration::from_secs(1), refresh_hit: false };
        let mut cache = EdgeCache::default();
        let t0 = Instant::now();
        cache.get("a", policy, t0, || body("1"));
        let (b, how, _) = cache.get("a", policy, t0 + Duration::from_secs(2), || body("2"));
        assert_eq!((&b[..], how), (b"2".as_slice(), Cached::Miss));
    }

    #[test]
    fn the_window_slides_per_peer() {
        let limit = crate::Options::BITHUMB_RATE;
        let mut windows = RateWindows::default();
        let (a, b) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let t0 = Instant::now();
        assert!(windows.allow(a, limit, t0));
        assert!(!windows.allow(a, limit, t0 + Duration::from_millis(999)));
        assert!(windows.allow(b, limit, t0 + Duration::from_millis(999)));
        assert!(windows.allow(a, limit, t0 + Duration::from_millis(1_000)));
    }

    #[test]
    fn tags_compare_weakly() {
        let tag = weak_etag(b"x");
        assert!(matches(&tag, &tag));
        assert!(matches(&format!("\"other\", {}", tag.trim_start_matches("W/")), &tag));
        assert!(matches("*", &tag));
        assert!(!matches("\"\"", &tag));
        assert_ne!(tag, weak_etag(b"y"));
    }
}
