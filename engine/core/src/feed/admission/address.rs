//! Limits of one address: "Per-IP concurrent connections: 20", "Per-IP connection rate: 10 / minute,
//! sliding window", and failed authentications.
//!
//! Contract: an address is counted under its [`AddressTable::bucket`]: an IPv4 address whole, an
//! IPv6 one by its /64 (one customer's network), a v4-mapped one as the IPv4 address it is. Only
//! admitted connections enter the rate window, so a client is never locked out by its own refused
//! attempts. Exempt addresses share the bucket [`EXEMPT`], which nothing counts or limits.
//!
//! Bound: [`crate::limits::ADDRESSES_TRACKED`] buckets. At the bound a new one replaces one that is
//! idle (no connection, nothing remembered), else one without an open connection, found among the
//! next few in turn; if all of those have open connections the new one is refused as rate limited.
//! Owner: the accept thread. Allocates when an address becomes known. Never fails.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::ops::Bound;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use ipnet::IpNet;

use crate::limits;
use crate::time::Mono;

/// The bucket of every exempt address.
pub const EXEMPT: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

const MINUTE: Duration = Duration::from_secs(60);

/// Buckets looked at to make room for a new one.
const ROOM_SEARCH: usize = 64;

/// What an operator may set; see [`limits::IP_CONNECTIONS`] and its neighbours for the defaults.
#[derive(Clone, Debug)]
pub struct AddressLimits {
    /// "Per-IP concurrent connections".
    pub connections: u32,
    /// "Per-IP connection rate", in any 60 seconds.
    pub connects_per_minute: u32,
    /// Addresses none of this applies to.
    pub exempt: Vec<IpNet>,
}

impl Default for AddressLimits {
    fn default() -> Self {
        AddressLimits {
            connections: limits::IP_CONNECTIONS,
            connects_per_minute: limits::IP_CONNECTS_PER_MINUTE,
            exempt: Vec::new(),
        }
    }
}

/// Why an address may not connect now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressRefusal {
    /// Too many in the last 60 seconds.
    RateLimited {
        /// How many are allowed.
        limit: u32,
        /// When the next is.
        retry_after: Duration,
    },
    /// Too many open.
    Connections {
        /// How many are allowed.
        limit: u32,
        /// How many are open.
        current: u32,
    },
}

/// Whose an address is: an IPv4 address whole, an IPv6 one by its /64, a v4-mapped one as the IPv4
/// address it is.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

/// A count that starts anew a minute after its first event.
#[derive(Debug, Default)]
struct MinuteCount {
    since: Mono,
    count: u32,
}

impl MinuteCount {
    /// Time until the count starts anew, when it has reached `limit`.
    fn reached(&self, limit: u32, now: Mono) -> Option<Duration> {
        let left = (self.since + MINUTE).since(now);
        (self.count >= limit && !left.is_zero()).then_some(left)
    }

    fn add(&mut self, now: Mono) {
        if self.is_over(now) {
            *self = MinuteCount { since: now, count: 0 };
        }
        self.count = self.count.saturating_add(1);
    }

    fn is_over(&self, now: Mono) -> bool {
        self.count == 0 || now >= self.since + MINUTE
    }
}

#[derive(Debug, Default)]
struct Entry {
    open: u32,
    /// Admissions younger than a minute, oldest first; at most `connects_per_minute`.
    admitted: VecDeque<Mono>,
    failures: MinuteCount,
    queries: MinuteCount,
}

impl Entry {
    fn forget_old(&mut self, now: Mono) {
        while self.admitted.front().is_some_and(|at| *at + MINUTE <= now) {
            self.admitted.pop_front();
        }
    }

    fn is_idle(&self, now: Mono) -> bool {
        self.open == 0
            && self.admitted.back().is_none_or(|at| *at + MINUTE <= now)
            && self.failures.is_over(now)
            && self.queries.is_over(now)
    }
}

/// Everything remembered of addresses.
#[derive(Debug)]
pub struct AddressTable {
    limits: AddressLimits,
    entries: BTreeMap<IpAddr, Entry>,
    capacity: usize,
    /// Where the next search for room starts.
    search_from: IpAddr,
}

impl AddressTable {
    /// An empty table of at most `capacity` buckets.
    #[must_use]
    pub fn new(limits: AddressLimits, capacity: usize) -> AddressTable {
        AddressTable { limits, entries: BTreeMap::new(), capacity, search_from: EXEMPT }
    }

    /// Replaces the limits; what is open and remembered stays.
    pub fn set_limits(&mut self, limits: AddressLimits) {
        self.limits = limits;
    }

    /// The bucket that `address` counts under: see the module head. [`EXEMPT`] when it is exempt.
    #[must_use]
    pub fn bucket(&self, address: IpAddr) -> IpAddr {
        let address = address.to_canonical();
        if self.limits.exempt.iter().any(|net| net.contains(&address)) {
            return EXEMPT;
        }
        network(address)
    }

    /// Time until a bucket with [`limits::AUTH_FAILURES_PER_MINUTE`] failed authentications is heard
    /// again; `None` when it is not locked.
    #[must_use]
    pub fn auth_locked(&self, bucket: IpAddr, now: Mono) -> Option<Duration> {
        self.entries.get(&bucket)?.failures.reached(limits::AUTH_FAILURES_PER_MINUTE, now)
    }

    /// Counts a failed authentication. One that comes while the bucket is locked must not be counted,
    /// so that the lock ends with its minute.
    pub fn auth_failed(&mut self, bucket: IpAddr, now: Mono) {
        if let Some(entry) = self.entry(bucket, now) {
            entry.failures.add(now);
        }
    }

    /// Whether the bucket may open one more connection now. Counts nothing.
    ///
    /// # Errors
    /// Which limit it is at.
    pub fn check(&mut self, bucket: IpAddr, now: Mono) -> Result<(), AddressRefusal> {
        if bucket == EXEMPT {
            return Ok(());
        }
        let AddressLimits { connections, connects_per_minute, .. } = self.limits;
        let full = AddressRefusal::RateLimited { limit: connects_per_minute, retry_after: MINUTE };
        let entry = self.entry(bucket, now).ok_or(full)?;
        entry.forget_old(now);
        if entry.admitted.len() >= usize::try_from(connects_per_minute).unwrap_or(usize::MAX) {
            // The slot that frees next: older ones than this are above a limit lowered meanwhile.
            let oldest = entry.admitted.front().copied().unwrap_or(now);
            let retry_after = (oldest + MINUTE).since(now);
            return Err(AddressRefusal::RateLimited { limit: connects_per_minute, retry_after });
        }
        if entry.open >= connections {
            return Err(AddressRefusal::Connections { limit: connections, current: entry.open });
        }
        Ok(())
    }

    /// Counts an admitted connection: one more open, one more in the window.
    pub fn admit(&mut self, bucket: IpAddr, now: Mono) {
        if let Some(entry) = self.entry(bucket, now) {
            entry.open = entry.open.saturating_add(1);
            entry.forget_old(now);
            entry.admitted.push_back(now);
        }
    }

    /// A connection of the bucket ended.
    pub fn release(&mut self, bucket: IpAddr) {
        if let Some(entry) = self.entries.get_mut(&bucket) {
            entry.open = entry.open.saturating_sub(1);
        }
    }

    /// Takes one history query of the bucket's [`limits::HISTORY_QUERIES_PER_MINUTE`].
    ///
    /// # Errors
    /// Always [`AddressRefusal::RateLimited`].
    pub fn take_query(&mut self, bucket: IpAddr, now: Mono) -> Result<(), AddressRefusal> {
        if bucket == EXEMPT {
            return Ok(());
        }
        let limit = limits::HISTORY_QUERIES_PER_MINUTE;
        let full = AddressRefusal::RateLimited { limit, retry_after: MINUTE };
        let entry = self.entry(bucket, now).ok_or(full)?;
        if let Some(retry_after) = entry.queries.reached(limit, now) {
            return Err(AddressRefusal::RateLimited { limit, retry_after });
        }
        entry.queries.add(now);
        Ok(())
    }

    /// Connections open in a bucket.
    #[must_use]
    pub fn open(&self, bucket: IpAddr) -> u32 {
        self.entries.get(&bucket).map_or(0, |e| e.open)
    }

    /// Buckets remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The bucket's entry, made when there is room; never one for [`EXEMPT`].
    fn entry(&mut self, bucket: IpAddr, now: Mono) -> Option<&mut Entry> {
        if bucket == EXEMPT {
            return None;
        }
        if self.entries.len() >= self.capacity && !self.entries.contains_key(&bucket) {
            self.make_room(now)?;
        }
        Some(self.entries.entry(bucket).or_default())
    }

    fn make_room(&mut self, now: Mono) -> Option<()> {
        let onwards = (Bound::Excluded(self.search_from), Bound::Unbounded);
        let upto = (Bound::Unbounded, Bound::Included(self.search_from));
        let mut closed = None;
        let mut victim = None;
        let mut last = self.search_from;
        for (bucket, entry) in self.entries.range(onwards).chain(self.entries.range(upto)).take(ROOM_SEARCH) {
            last = *bucket;
            if entry.is_idle(now) {
                victim = Some(*bucket);
                break;
            }
            if closed.is_none() && entry.open == 0 {
                closed = Some(*bucket);
            }
        }
        self.search_from = last;
        self.entries.remove(&victim.or(closed)?).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Mono {
        Mono((1_000 + secs) * 1_000_000_000)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn table(exempt: &[&str]) -> AddressTable {
        let exempt = exempt.iter().map(|n| n.parse().unwrap()).collect();
        AddressTable::new(AddressLimits { exempt, ..AddressLimits::default() }, 1_000)
    }

    #[test]
    fn buckets_fold_mapped_addresses_and_cut_v6_to_64_bits() {
        let table = table(&["10.0.0.0/8", "2001:db8:9::/48"]);
        let rows = [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2:ffff::1", "2001:db8:1:2::"),
            ("2001:db8:1:3::1", "2001:db8:1:3::"),
            ("10.255.0.1", "0.0.0.0"),
            ("::ffff:10.255.0.1", "0.0.0.0"),
            ("2001:db8:9:7::1", "0.0.0.0"),
        ];
        for (address, bucket) in rows {
            assert_eq!(table.bucket(ip(address)), ip(bucket), "{address}");
        }
    }

    #[test]
    fn rate_window_slides_and_refused_attempts_do_not_count() {
        let mut table = table(&[]);
        let a = ip("192.0.2.1");
        for i in 0..10 {
            assert_eq!(table.check(a, at(i)), Ok(()));
            table.admit(a, at(i));
        }
        for i in 10..60 {
            let left = Duration::from_secs(60 - i);
            assert_eq!(
                table.check(a, at(i)),
                Err(AddressRefusal::RateLimited { limit: 10, retry_after: left }),
                "{i}"
            );
        }
        assert_eq!(table.check(a, at(60)), Ok(()), "the first one left the window");
        table.admit(a, at(60));
        assert!(table.check(a, at(60)).is_err());
        assert_eq!(table.check(a, at(61)), Ok(()), "the second one did");
        assert_eq!(table.check(ip("192.0.2.2"), at(10)), Ok(()), "others are not meant");
    }

    #[test]
    fn concurrent_connections_end_at_the_limit_and_come_back() {
        let mut table = table(&[]);
        let a = ip("192.0.2.1");
        for i in 0..20 {
            assert_eq!(table.check(a, at(i * 10)), Ok(()));
            table.admit(a, at(i * 10));
        }
        let refused = Err(AddressRefusal::Connections { limit: 20, current: 20 });
        assert_eq!(table.check(a, at(1_000)), refused);
        table.release(a);
        assert_eq!(table.check(a, at(1_000)), Ok(()));
        assert_eq!(table.open(a), 19);
    }

    #[test]
    fn ten_failures_lock_for_the_rest_of_their_minute() {
        let mut table = table(&[]);
        let a = ip("192.0.2.1");
        for i in 0..10 {
            assert_eq!(table.auth_locked(a, at(i)), None);
            table.auth_failed(a, at(i));
        }
        assert_eq!(table.auth_locked(a, at(20)), Some(Duration::from_secs(40)));
        assert_eq!(table.auth_locked(a, at(60)), None);
        table.auth_failed(a, at(61));
        assert_eq!(table.auth_locked(a, at(61)), None, "a new minute starts at one");
    }

    #[test]
    fn exempt_addresses_are_never_limited_or_remembered() {
        let mut table = table(&["127.0.0.0/8"]);
        let bucket = table.bucket(ip("127.0.0.1"));
        for _ in 0..100 {
            assert_eq!(table.check(bucket, at(0)), Ok(()));
            table.admit(bucket, at(0));
            table.auth_failed(bucket, at(0));
            assert_eq!(table.take_query(bucket, at(0)), Ok(()));
        }
        assert_eq!(table.auth_locked(bucket, at(0)), None);
        assert!(table.is_empty());
    }

    #[test]
    fn at_the_bound_idle_ones_go_first_then_closed_ones_and_open_ones_never() {
        let v4 = |i: u32| IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + i));
        let mut table = AddressTable::new(AddressLimits::default(), 4);
        for i in 1..=4 {
            table.admit(v4(i), at(0));
        }
        let full = Err(AddressRefusal::RateLimited { limit: 10, retry_after: MINUTE });
        assert_eq!(table.check(v4(9), at(0)), full, "all have open connections");
        table.release(v4(2));
        table.release(v4(3));
        table.auth_failed(v4(3), at(70));
        assert_eq!(table.check(v4(9), at(70)), Ok(()));
        let known = |table: &AddressTable| table.entries.keys().copied().collect::<Vec<_>>();
        assert_eq!(known(&table), [v4(1), v4(3), v4(4), v4(9)], "2 was idle");
        table.admit(v4(9), at(70));
        assert_eq!(table.check(v4(8), at(70)), Ok(()));
        assert_eq!(known(&table), [v4(1), v4(4), v4(8), v4(9)], "3 had no open connection");
        assert_eq!(table.len(), 4);
    }

    #[test]
    fn queries_have_a_window_of_their_own() {
        let mut table = table(&[]);
        let a = ip("192.0.2.1");
        for _ in 0..limits::HISTORY_QUERIES_PER_MINUTE {
            assert_eq!(table.take_query(a, at(0)), Ok(()));
        }
        assert!(table.take_query(a, at(59)).is_err());
        assert_eq!(table.check(a, at(0)), Ok(()));
        assert_eq!(table.take_query(a, at(60)), Ok(()));
    }

    proptest::proptest! {
        /// Whatever happens, no window of 60 s holds more than 10 admissions, no more than 20 are open,
        /// and an address that waits as long as it was told is let in.
        #[test]
        fn limits_hold_and_waiting_helps(steps in proptest::collection::vec((0..40u64, proptest::bool::ANY), 1..200)) {
            let mut table = table(&[]);
            let a = ip("192.0.2.1");
            let (mut now, mut admitted, mut open) = (at(0), Vec::new(), 0u32);
            for (gap_secs, release) in steps {
                now = now + Duration::from_secs(gap_secs / 4);
                if release && open > 0 {
                    table.release(a);
                    open -= 1;
                }
                let recent = admitted.iter().filter(|t| **t + MINUTE > now).count();
                match table.check(a, now) {
                    Ok(()) => {
                        proptest::prop_assert!(recent < 10 && open < 20);
                        table.admit(a, now);
                        admitted.push(now);
                        open += 1;
                    }
                    Err(AddressRefusal::RateLimited { retry_after, .. }) => {
                        proptest::prop_assert_eq!(recent, 10);
                        now = now + retry_after;
                        let limited = matches!(table.check(a, now), Err(AddressRefusal::RateLimited { .. }));
                        proptest::prop_assert!(!limited);
                    }
                    Err(AddressRefusal::Connections { current, .. }) => {
                        proptest::prop_assert_eq!((current, open), (20, 20));
                    }
                }
                proptest::prop_assert_eq!(table.open(a), open);
            }
        }
    }
}
