//! The key table: which keys exist, which are refused and why, how many connections each has.
//!
//! Contract: a key is found by the SHA-256 of its canonical text; the text itself is dropped as soon
//! as it is hashed. Revoked keys stay known, so that they are refused as revoked. Owner: the accept
//! thread. Allocates when a key becomes known. Never fails.
//!
//! Timing: comparing hashes stops at the first differing byte, so an attacker may learn how long a
//! prefix of his guess's hash equals that of some key. To use it he would have to choose guesses by
//! their SHA-256, which tells nothing of the 32 random bytes behind a key. A lookup by hash is
//! therefore as good as a comparison in constant time.
//!
//! "Invalid keys are cached server-side for 30 seconds": see [`InvalidKeys`].

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::feed::key::{KeyId, KeyRecord, KeyShared};
use crate::limits;
use crate::time::{Mono, Now, WallUs};

/// "All keys start with the `dsk_` prefix".
pub const KEY_PREFIX: &str = "dsk_";
/// "followed by 64 hexadecimal characters".
pub const KEY_HEX_DIGITS: usize = 64;
const KEY_BYTES: usize = KEY_PREFIX.len() + KEY_HEX_DIGITS;

/// SHA-256 of a key's canonical text (`dsk_` and 64 lower-case hex digits). `None` when `text` is not
/// of that form; digits of either case are accepted, the prefix only as it is.
#[must_use]
pub fn key_hash(text: &[u8]) -> Option<[u8; 32]> {
    let digits = text.strip_prefix(KEY_PREFIX.as_bytes())?;
    if digits.len() != KEY_HEX_DIGITS || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut canonical = [0u8; KEY_BYTES];
    canonical.copy_from_slice(text);
    canonical.make_ascii_lowercase();
    let mut hash = [0u8; 32];
    hash.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, &canonical).as_ref());
    Some(hash)
}

/// Why a key is refused: the specification's 403.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRefusal {
    /// Not of the form of a key, or unknown.
    Invalid,
    /// "Administrator revoked your key".
    Revoked,
    /// "Your API key's expiration date has passed".
    Expired,
}

/// A known key.
#[derive(Debug)]
pub struct KeyEntry {
    /// What the store says of it.
    pub record: KeyRecord,
    /// What its sessions share.
    pub shared: Arc<KeyShared>,
    /// Its sessions, on all feed threads.
    pub connections: u32,
}

/// Every known key, and the invalid ones tried lately.
#[derive(Debug, Default)]
pub struct KeyTable {
    by_hash: BTreeMap<[u8; 32], KeyEntry>,
    by_id: BTreeMap<KeyId, [u8; 32]>,
    invalid: InvalidKeys,
}

impl KeyTable {
    /// A table of these keys.
    #[must_use]
    pub fn new(records: impl IntoIterator<Item = KeyRecord>) -> KeyTable {
        let mut table = KeyTable::default();
        for record in records {
            table.upsert(record);
        }
        table
    }

    /// Makes a key known, or replaces what is known of it; its connections and what its sessions
    /// share stay. A key that was tried before it existed works at once.
    pub fn upsert(&mut self, record: KeyRecord) {
        self.invalid.forget(&record.hash);
        let (id, hash) = (record.id, record.hash);
        let old = self.by_id.insert(id, hash).and_then(|old| self.by_hash.remove(&old));
        let (shared, connections) = match old {
            Some(old) => (old.shared, old.connections),
            None => (Arc::new(KeyShared::new(id)), 0),
        };
        self.by_hash.insert(hash, KeyEntry { record, shared, connections });
    }

    /// Sessions of a key; none when it is not known.
    #[must_use]
    pub fn connections(&self, id: KeyId) -> u32 {
        let entry = self.by_id.get(&id).and_then(|hash| self.by_hash.get(hash));
        entry.map_or(0, |entry| entry.connections)
    }

    /// Marks a key revoked. False when it is not known.
    pub fn revoke(&mut self, id: KeyId, now: WallUs) -> bool {
        self.entry_mut(id).is_some_and(|entry| {
            entry.record.revoked_at.get_or_insert(now);
            true
        })
    }

    /// "Validate key". Remembers an unknown one.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn validate(&mut self, text: &[u8], now: Now) -> Result<&KeyEntry, KeyRefusal> {
        let hash = key_hash(text).ok_or(KeyRefusal::Invalid)?;
        if self.invalid.contains(&hash, now.mono) {
            return Err(KeyRefusal::Invalid);
        }
        let Some(entry) = self.by_hash.get(&hash) else {
            self.invalid.remember(&hash, now.mono);
            return Err(KeyRefusal::Invalid);
        };
        if entry.record.revoked_at.is_some() {
            return Err(KeyRefusal::Revoked);
        }
        if entry.record.expires_at.is_some_and(|end| end <= now.wall) {
            return Err(KeyRefusal::Expired);
        }
        Ok(entry)
    }

    /// Invalid keys remembered now, or forgotten only a moment ago.
    #[must_use]
    pub fn invalid_remembered(&self) -> usize {
        self.invalid.until.len()
    }

    /// What is known of a key.
    #[must_use]
    pub fn get(&self, id: KeyId) -> Option<&KeyEntry> {
        self.by_hash.get(self.by_id.get(&id)?)
    }

    /// Counts a session of the key.
    pub fn admit(&mut self, id: KeyId) {
        if let Some(entry) = self.entry_mut(id) {
            entry.connections = entry.connections.saturating_add(1);
        }
    }

    /// A session of the key ended.
    pub fn release(&mut self, id: KeyId) {
        if let Some(entry) = self.entry_mut(id) {
            entry.connections = entry.connections.saturating_sub(1);
        }
    }

    /// How many keys are known, revoked ones too.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_hash.len()
    }

    /// Whether no key is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_hash.is_empty()
    }

    fn entry_mut(&mut self, id: KeyId) -> Option<&mut KeyEntry> {
        self.by_hash.get_mut(self.by_id.get(&id)?)
    }
}

/// Keys tried lately that do not exist, by the first half of their hash (enough that two never meet).
/// Bound: [`limits::INVALID_KEYS_REMEMBERED`]; at it the oldest is forgotten.
#[derive(Debug, Default)]
struct InvalidKeys {
    until: BTreeMap<u128, Mono>,
    /// In the order they were remembered. May hold forgotten ones: their `until` tells.
    order: VecDeque<(u128, Mono)>,
}

impl InvalidKeys {
    const MEMORY: Duration = limits::INVALID_KEY_MEMORY;

    fn short(hash: &[u8; 32]) -> u128 {
        hash.first_chunk::<16>().copied().map_or(0, u128::from_be_bytes)
    }

    fn contains(&self, hash: &[u8; 32], now: Mono) -> bool {
        self.until.get(&Self::short(hash)).is_some_and(|until| now < *until)
    }

    fn remember(&mut self, hash: &[u8; 32], now: Mono) {
        while let Some((short, until)) = self.order.front().copied() {
            if until > now && self.order.len() < limits::INVALID_KEYS_REMEMBERED {
                break;
            }
            self.order.pop_front();
            if self.until.get(&short) == Some(&until) {
                self.until.remove(&short);
            }
        }
        let (short, until) = (Self::short(hash), now + Self::MEMORY);
        self.until.insert(short, until);
        self.order.push_back((short, until));
    }

    fn forget(&mut self, hash: &[u8; 32]) {
        self.until.remove(&Self::short(hash));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::key::{AllowedExchanges, Tier};

    fn text(n: u64) -> String {
        format!("dsk_{n:064x}")
    }

    fn record(id: i64, n: u64) -> KeyRecord {
        KeyRecord {
            id: KeyId(id),
            hash: key_hash(text(n).as_bytes()).unwrap(),
            label: String::new(),
            tier: Tier::Premium,
            max_connections: 5,
            allowed: AllowedExchanges::all(),
            created_at: WallUs(0),
            expires_at: None,
            revoked_at: None,
            delay: Duration::ZERO,
            redact: false,
            account: None,
        }
    }

    fn at(secs: u64) -> Now {
        let wall = WallUs::from_secs(1_700_000_000 + i64::try_from(secs).unwrap());
        Now { mono: Mono(secs * 1_000_000_000 + 1), wall }
    }

    fn verdict(table: &mut KeyTable, text: &str, secs: u64) -> Result<KeyId, KeyRefusal> {
        table.validate(text.as_bytes(), at(secs)).map(|e| e.record.id)
    }

    #[test]
    fn form_is_checked_and_case_of_digits_does_not_matter() {
        let key = format!("dsk_{}", "aB".repeat(32));
        let known = key_hash(key.as_bytes());
        assert!(known.is_some());
        assert_eq!(key_hash(key.to_lowercase().as_bytes()), known);
        assert_eq!(key_hash(format!("dsk_{}", "AB".repeat(32)).as_bytes()), known);
        let bad = [
            "",
            "dsk_",
            "dsk_your_key_here",
            &key[..67],
            &format!("{key}a"),
            &key.replace("dsk_", "DSK_"),
            &key.replace("dsk_", "dsk-"),
            &format!(" {key}"),
            &key.replacen("aB", "gB", 1),
            &key.replacen("aB", "é", 1),
        ];
        for text in bad {
            assert_eq!(key_hash(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(
            key_hash(format!("dsk_{}", "0".repeat(64)).as_bytes()).map(|h| h[..4].to_vec()),
            Some(ring::digest::digest(&ring::digest::SHA256, text(0).as_bytes()).as_ref()[..4].to_vec())
        );
    }

    #[test]
    fn invalid_revoked_and_expired_are_told_apart() {
        let expires_at = Some(at(10).wall);
        let mut table = KeyTable::new([
            record(1, 1),
            KeyRecord { expires_at, ..record(2, 2) },
            KeyRecord { revoked_at: Some(at(0).wall), ..record(3, 3) },
        ]);
        assert_eq!(verdict(&mut table, &text(1), 0), Ok(KeyId(1)));
        assert_eq!(verdict(&mut table, &text(2), 9), Ok(KeyId(2)));
        assert_eq!(verdict(&mut table, &text(2), 10), Err(KeyRefusal::Expired));
        assert_eq!(verdict(&mut table, &text(3), 0), Err(KeyRefusal::Revoked));
        assert_eq!(verdict(&mut table, &text(4), 0), Err(KeyRefusal::Invalid));
        assert_eq!(verdict(&mut table, "dsk_x", 0), Err(KeyRefusal::Invalid));
        assert!(table.revoke(KeyId(1), at(1).wall) && !table.revoke(KeyId(9), at(1).wall));
        assert_eq!(verdict(&mut table, &text(1), 2), Err(KeyRefusal::Revoked));
    }

    #[test]
    fn change_keeps_connections_and_what_sessions_share() {
        let mut table = KeyTable::new([record(1, 1)]);
        table.admit(KeyId(1));
        table.admit(KeyId(1));
        let shared = Arc::clone(&table.get(KeyId(1)).unwrap().shared);
        table.upsert(KeyRecord { max_connections: 1, ..record(1, 1) });
        let entry = table.get(KeyId(1)).unwrap();
        assert_eq!((entry.connections, entry.record.max_connections), (2, 1));
        assert!(Arc::ptr_eq(&entry.shared, &shared));
        for _ in 0..3 {
            table.release(KeyId(1));
        }
        assert_eq!(table.get(KeyId(1)).unwrap().connections, 0);
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn key_created_within_the_memory_of_its_failure_works_at_once() {
        let mut table = KeyTable::default();
        assert_eq!(verdict(&mut table, &text(7), 0), Err(KeyRefusal::Invalid));
        assert!(table.invalid.contains(&key_hash(text(7).as_bytes()).unwrap(), at(29).mono));
        table.upsert(record(7, 7));
        assert_eq!(verdict(&mut table, &text(7), 1), Ok(KeyId(7)));
    }

    #[test]
    fn memory_of_invalid_keys_ends_and_is_bounded() {
        let mut table = KeyTable::default();
        let hash = key_hash(text(7).as_bytes()).unwrap();
        let _ = verdict(&mut table, &text(7), 0);
        assert!(!table.invalid.contains(&hash, at(30).mono));
        let _ = verdict(&mut table, &text(7), 31);
        assert!(table.invalid.contains(&hash, at(60).mono), "tried again, remembered again");
        for n in 0..limits::INVALID_KEYS_REMEMBERED as u64 {
            let _ = verdict(&mut table, &text(1_000 + n), 32);
        }
        assert!(!table.invalid.contains(&hash, at(32).mono), "the oldest made room");
        assert_eq!(table.invalid.until.len(), limits::INVALID_KEYS_REMEMBERED);
        assert_eq!(table.invalid.order.len(), limits::INVALID_KEYS_REMEMBERED);
        let _ = verdict(&mut table, &text(1), 90);
        assert_eq!(table.invalid.order.len(), 1, "old ones went with their time");
    }
}
