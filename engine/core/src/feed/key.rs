//! API keys as the feed sees them: the specification's "Key properties".
//!
//! A [`KeyRecord`] is what the store keeps (never the key itself, only its SHA-256); a
//! [`KeyShared`] is the little that all sessions of one key share, lock-free.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use crate::model::{Exchange, ExchangeSet};
use crate::time::{Mono, WallUs};

/// Number of a key, given by the store, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub i64);

/// The specification's subscription tiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the documentation")]
pub enum Tier {
    Basic,
    Premium,
    Enterprise,
}

impl Tier {
    /// The welcome message's spelling.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Tier::Basic => "basic",
            Tier::Premium => "premium",
            Tier::Enterprise => "enterprise",
        }
    }

    /// The inverse of [`Tier::name`].
    #[must_use]
    pub fn parse(name: &str) -> Option<Tier> {
        [Tier::Basic, Tier::Premium, Tier::Enterprise].into_iter().find(|t| t.name() == name)
    }
}

/// The exchanges a key may subscribe to, in the order the administrator wrote them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedExchanges {
    set: ExchangeSet,
    order: Vec<Exchange>,
}

impl AllowedExchanges {
    /// The specification's `"*"`: all, those of later versions too.
    #[must_use]
    pub const fn all() -> AllowedExchanges {
        AllowedExchanges { set: ExchangeSet::ALL, order: Vec::new() }
    }

    /// Parses `*` or a comma-separated list; names are trimmed and case-insensitive, duplicates
    /// folded.
    ///
    /// # Errors
    /// The first name that is no exchange, or an empty list (named as `""`).
    pub fn parse(text: &str) -> Result<AllowedExchanges, String> {
        if text.trim() == "*" {
            return Ok(AllowedExchanges::all());
        }
        let mut allowed = AllowedExchanges { set: ExchangeSet::EMPTY, order: Vec::new() };
        for name in text.split(',').map(str::trim) {
            let exchange = Exchange::parse(name).ok_or_else(|| name.to_owned())?;
            if !allowed.set.contains(exchange) {
                allowed.set = allowed.set.with(exchange);
                allowed.order.push(exchange);
            }
        }
        Ok(allowed)
    }

    /// As a set.
    #[must_use]
    pub const fn set(&self) -> ExchangeSet {
        self.set
    }

    /// The welcome's `allowedCex` for the part of this list that is in `filter`: `*`, names in
    /// the key's order, or empty.
    #[must_use]
    pub fn effective(&self, filter: ExchangeSet) -> String {
        let both = self.set.intersection(filter);
        if both.is_all() {
            return "*".to_owned();
        }
        let names = |order: &mut dyn Iterator<Item = Exchange>| -> String {
            order.filter(|e| both.contains(*e)).map(Exchange::name).collect::<Vec<_>>().join(",")
        };
        if self.set.is_all() { names(&mut both.iter()) } else { names(&mut self.order.iter().copied()) }
    }
}

/// Everything the store knows of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// Its number.
    pub id: KeyId,
    /// SHA-256 of the key text (`dsk_` and 64 lower-case hex digits).
    pub hash: [u8; 32],
    /// The administrator's note, may be empty.
    pub label: String,
    /// Subscription tier.
    pub tier: Tier,
    /// "Maximum simultaneous WebSocket connections allowed with this key".
    pub max_connections: u32,
    /// "Exchanges this key can subscribe to".
    pub allowed: AllowedExchanges,
    /// When it was made.
    pub created_at: WallUs,
    /// "Optional expiration date – key becomes invalid after this time".
    pub expires_at: Option<WallUs>,
    /// When the administrator revoked it.
    pub revoked_at: Option<WallUs>,
    /// Announcements are held back this long. Zero unless the operator sells tiers.
    pub delay: Duration,
    /// Title and ticker withheld.
    pub redact: bool,
    /// Number of the account that owns it, if one does.
    pub account: Option<i64>,
}

/// What all live sessions of one key share, on whichever feed thread they are. Lock-free.
#[derive(Debug)]
pub struct KeyShared {
    /// The key's number.
    pub id: KeyId,
    /// Monotonic nanoseconds before which no test request is answered; 0 = never asked.
    next_test: AtomicU64,
}

impl KeyShared {
    /// For a key with no session yet.
    #[must_use]
    pub const fn new(id: KeyId) -> KeyShared {
        KeyShared { id, next_test: AtomicU64::new(0) }
    }

    /// Takes the key's one test request a `period`. `Err` holds how long until the next is allowed.
    /// Specification, "Test rate limit": shared across all connections using the same key.
    ///
    /// # Errors
    /// The time left when the last request is younger than `period`.
    pub fn take_test(&self, now: Mono, period: Duration) -> Result<(), Duration> {
        let next = (now + period).0;
        match self
            .next_test
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |at| (at <= now.0).then_some(next))
        {
            Ok(_) => Ok(()),
            Err(at) => Err(Mono(at).since(now)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effective_filter_table_of_the_specification() {
        // Specification, "Effective filter".
        let rows = [
            ("*", "binance", "binance"),
            ("*", "binance,upbit", "binance,upbit"),
            ("*", "*", "*"),
            ("binance,upbit", "binance", "binance"),
            ("binance,upbit", "upbit", "upbit"),
            ("binance,upbit", "*", "binance,upbit"),
            ("binance", "upbit", ""),
            ("upbit,binance", "binance,upbit", "upbit,binance"),
        ];
        for (allows, requests, receives) in rows {
            let key = AllowedExchanges::parse(allows).unwrap();
            let filter = AllowedExchanges::parse(requests).unwrap().set();
            assert_eq!(key.effective(filter), receives, "{allows} and {requests}");
        }
        assert_eq!(AllowedExchanges::parse("binance,nope"), Err("nope".to_owned()));
    }

    #[test]
    fn one_test_request_a_period_whoever_asks() {
        let key = KeyShared::new(KeyId(1));
        let period = Duration::from_secs(60);
        let at = |s: u64| Mono(1 + s * 1_000_000_000);
        assert_eq!(key.take_test(at(0), period), Ok(()));
        assert_eq!(key.take_test(at(18), period), Err(Duration::from_secs(42)));
        assert_eq!(key.take_test(at(60), period), Ok(()));
    }
}
