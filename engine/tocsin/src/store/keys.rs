//! API keys: made, listed, given an end, revoked.
//!
//! Specification, "Security": "Keys are hashed with SHA-256 before storage." The text of a key
//! exists only in the [`KeySecret`] that [`Store::create_key`] returns; "The full key is shown
//! exactly once."

use core::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use tocsin_core::feed::admission::keys::key_hash;
use tocsin_core::feed::key::{AllowedExchanges, KeyId, KeyRecord, Tier};
use tocsin_core::limits;
use tocsin_core::model::ExchangeSet;
use tocsin_core::time::WallUs;

use super::error::StoreError;
use super::webhook::accounts::AccountId;
use super::{Page, Store};

/// The text of a key: `dsk_` and 64 lower-case hex digits. Shown once, never stored, never logged.
#[derive(Clone, PartialEq, Eq)]
pub struct KeySecret(String);

impl KeySecret {
    /// Draws 32 random bytes.
    fn draw() -> Result<KeySecret, StoreError> {
        let mut bytes = [0; 32];
        SystemRandom::new().fill(&mut bytes).map_err(|_| StoreError::NoRandomness)?;
        let mut text = String::with_capacity(68);
        text.push_str("dsk_");
        for byte in bytes {
            for nibble in [byte >> 4, byte & 15] {
                text.extend(char::from_digit(u32::from(nibble), 16));
            }
        }
        Ok(KeySecret(text))
    }

    /// The text, to be shown to the one who asked for the key.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl core::fmt::Debug for KeySecret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("KeySecret(…)")
    }
}

/// What an administrator asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// A note, at most [`limits::KEY_LABEL_BYTES`], no control characters; may be empty.
    pub label: String,
    /// Subscription tier.
    pub tier: Tier,
    /// 1 to [`limits::KEY_CONNECTIONS`].
    pub max_connections: u32,
    /// Exchanges it may subscribe to.
    pub allowed: AllowedExchanges,
    /// Its end, if it has one; in the future.
    pub expires_at: Option<WallUs>,
    /// Announcements are held back this long, at most [`limits::KEY_DELAY`]; whole milliseconds.
    pub delay: Duration,
    /// Title and ticker withheld.
    pub redact: bool,
    /// Number of the account it belongs to, if to one.
    pub account: Option<i64>,
}

impl NewKey {
    /// Checks every value against its bound.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] names the field.
    pub fn validate(&self, now: WallUs) -> Result<(), StoreError> {
        let invalid = |field, detail: String| Err(StoreError::Invalid { field, detail });
        if self.label.len() > limits::KEY_LABEL_BYTES || self.label.chars().any(char::is_control) {
            let most = limits::KEY_LABEL_BYTES;
            return invalid("label", format!("at most {most} bytes without control characters"));
        }
        if !(1..=limits::KEY_CONNECTIONS).contains(&self.max_connections) {
            return invalid("max_connections", format!("between 1 and {}", limits::KEY_CONNECTIONS));
        }
        if self.delay > limits::KEY_DELAY {
            return invalid("delay", format!("at most {} seconds", limits::KEY_DELAY.as_secs()));
        }
        if !self.delay.subsec_nanos().is_multiple_of(1_000_000) {
            return invalid("delay", "whole milliseconds".to_owned());
        }
        if self.tier != Tier::Basic && !self.delay.is_zero() {
            return invalid("delay", "premium and enterprise keys are never delayed".to_owned());
        }
        if self.expires_at.is_some_and(|at| at <= now) {
            return invalid("expires", "must be in the future".to_owned());
        }
        Ok(())
    }
}

const COLUMNS: &str = "id, hash, label, tier, max_connections, allowed, created_us, expires_us, revoked_us, delay_ms, redact, account";

impl Store {
    /// Makes a key. The text is returned here and nowhere else. Durable when it returns.
    ///
    /// # Errors
    /// A value outside its bounds, too many keys, or the disk's.
    pub fn create_key(&mut self, new: &NewKey, now: WallUs) -> Result<(KeyRecord, KeySecret), StoreError> {
        new.validate(now)?;
        let secret = KeySecret::draw()?;
        let hash = key_hash(secret.reveal().as_bytes()).ok_or(StoreError::NoRandomness)?;
        let count: i64 = self.ask(|c| c.query_row("SELECT count(*) FROM keys", [], |row| row.get(0)))?;
        if usize::try_from(count).is_ok_and(|count| count >= limits::KEYS) {
            return Err(StoreError::TooManyKeys);
        }
        if let Some(id) = new.account {
            self.account(AccountId(id))?;
        }
        let delay_ms = i64::try_from(new.delay.as_millis()).unwrap_or(i64::MAX);
        self.ask(|c| {
            c.execute(
                "INSERT INTO keys (hash, label, tier, max_connections, allowed, created_us, expires_us, delay_ms, redact,
                     account)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                params![
                    hash, new.label, new.tier.name(), new.max_connections,
                    new.allowed.effective(ExchangeSet::ALL), now.0, new.expires_at.map(|at| at.0), delay_ms, new.redact,
                    new.account
                ],
            )
        })?;
        let id = KeyId(self.connection.last_insert_rowid());
        Ok((self.key(id)?, secret))
    }

    /// Moves a key's end; `None` = never, an instant that has passed = at once. Durable when it
    /// returns.
    ///
    /// # Errors
    /// No such key, a revoked one, or the disk's.
    pub fn set_key_expiry(&mut self, id: KeyId, expires_at: Option<WallUs>) -> Result<KeyRecord, StoreError> {
        if self.key(id)?.revoked_at.is_some() {
            return Err(StoreError::KeyRevoked(id));
        }
        self.ask(|c| {
            c.execute(
                "UPDATE keys SET expires_us = ?2 WHERE id = ?1",
                params![id.0, expires_at.map(|at| at.0)],
            )
        })?;
        self.key(id)
    }

    /// Revokes a key for ever; again changes nothing. Durable when it returns.
    ///
    /// # Errors
    /// No such key, or the disk's.
    pub fn revoke_key(&mut self, id: KeyId, now: WallUs) -> Result<KeyRecord, StoreError> {
        self.key(id)?;
        self.ask(|c| {
            c.execute(
                "UPDATE keys SET revoked_us = ?2 WHERE id = ?1 AND revoked_us IS NULL",
                params![id.0, now.0],
            )
        })?;
        self.key(id)
    }

    /// Every key, by number: what admission loads at start.
    ///
    /// # Errors
    /// The disk's.
    pub fn load_keys(&self) -> Result<Vec<KeyRecord>, StoreError> {
        self.ask(all)
    }

    /// One key.
    ///
    /// # Errors
    /// No such key, or the disk's.
    pub fn key(&self, id: KeyId) -> Result<KeyRecord, StoreError> {
        self.ask(|c| one(c, id))?.ok_or(StoreError::NoSuchKey(id))
    }
}

/// Every key, by number.
pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<KeyRecord>> {
    let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM keys ORDER BY id"))?;
    statement.query_map([], read_key)?.collect()
}

/// A page of keys, of an account's where one is named.
pub(super) fn page(
    connection: &Connection,
    account: Option<AccountId>,
    page: Page,
) -> rusqlite::Result<Vec<KeyRecord>> {
    let values = params![page.after, page.limit, account.map(|id| id.0)];
    let of = if account.is_some() { "account = ?3 AND" } else { "" };
    let sql = format!("SELECT {COLUMNS} FROM keys WHERE {of} id > ?1 AND ?3 IS ?3 ORDER BY id LIMIT ?2");
    connection.prepare_cached(&sql)?.query_map(values, read_key)?.collect()
}

/// The key with that number.
pub(super) fn one(connection: &Connection, id: KeyId) -> rusqlite::Result<Option<KeyRecord>> {
    let sql = format!("SELECT {COLUMNS} FROM keys WHERE id = ?1");
    connection.prepare_cached(&sql)?.query_row([id.0], read_key).optional()
}

/// The key with that hash.
pub(super) fn by_hash(connection: &Connection, hash: &[u8; 32]) -> rusqlite::Result<Option<KeyRecord>> {
    let sql = format!("SELECT {COLUMNS} FROM keys WHERE hash = ?1");
    connection.prepare_cached(&sql)?.query_row([hash], read_key).optional()
}

fn read_key(row: &Row<'_>) -> rusqlite::Result<KeyRecord> {
    let tier: String = row.get(3)?;
    let allowed: String = row.get(5)?;
    Ok(KeyRecord {
        id: KeyId(row.get(0)?),
        hash: row.get(1)?,
        label: row.get(2)?,
        tier: Tier::parse(&tier).ok_or_else(|| super::unreadable(3, "tier", &tier))?,
        max_connections: row.get(4)?,
        allowed: AllowedExchanges::parse(&allowed).map_err(|name| super::unreadable(5, "exchange", &name))?,
        created_at: WallUs(row.get(6)?),
        expires_at: row.get::<_, Option<i64>>(7)?.map(WallUs),
        revoked_at: row.get::<_, Option<i64>>(8)?.map(WallUs),
        delay: Duration::from_millis(row.get(9)?),
        redact: row.get(10)?,
        account: row.get(11)?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{NOW, new_account, new_key, store};
    use super::*;

    #[test]
    fn a_key_is_shown_once_and_stored_as_its_hash() {
        let (dir, mut store) = store();
        let (record, secret) = store.create_key(&new_key(), NOW).unwrap();
        assert_eq!(secret.reveal().len(), 68);
        assert_eq!(key_hash(secret.reveal().as_bytes()), Some(record.hash));
        assert_eq!(format!("{secret:?}"), "KeySecret(…)");
        assert_eq!(store.load_keys().unwrap(), [record]);
        drop(store);
        for entry in std::fs::read_dir(dir.path().join("data")).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            assert!(!bytes.windows(64).any(|w| w == &secret.reveal().as_bytes()[4..]));
        }
    }

    #[test]
    fn every_property_round_trips() {
        let (_dir, mut store) = store();
        let new = NewKey {
            label: "Desk 4 «é»".to_owned(),
            tier: Tier::Basic,
            max_connections: 7,
            allowed: AllowedExchanges::parse("upbit,binance").unwrap(),
            expires_at: Some(WallUs(NOW.0 + 1)),
            delay: Duration::from_millis(500),
            redact: true,
            account: None,
        };
        let (record, _) = store.create_key(&new, NOW).unwrap();
        let again = store.key(record.id).unwrap();
        assert_eq!(again, record);
        assert_eq!((&again.label, again.tier, again.max_connections), (&new.label, new.tier, 7));
        assert_eq!((again.allowed, again.delay, again.redact), (new.allowed, new.delay, true));
        assert_eq!((again.created_at, again.expires_at, again.revoked_at), (NOW, new.expires_at, None));
    }

    #[test]
    fn an_account_owns_keys_and_they_outlive_it() {
        let (_dir, mut store) = store();
        let (account, _) = store.create_account(&new_account(), NOW).unwrap();
        let owned = NewKey { account: Some(account.id.0), ..new_key() };
        let (first, _) = store.create_key(&owned, NOW).unwrap();
        store.create_key(&new_key(), NOW).unwrap();
        let (last, _) = store.create_key(&owned, NOW).unwrap();
        let reader = store.reader().unwrap();
        let page = |after, limit| reader.keys_page(Some(account.id), Page { after, limit }).unwrap();
        assert_eq!(page(0, 10), [first.clone(), last.clone()]);
        assert_eq!((page(0, 1), page(first.id.0, 10)), (vec![first.clone()], vec![last]));
        assert_eq!(reader.keys_page(None, Page { after: 1, limit: 10 }).unwrap().len(), 2);
        let absent = NewKey { account: Some(99), ..new_key() };
        assert_eq!(store.create_key(&absent, NOW).unwrap_err().code(), "no_such_account");
        store.delete_account(account.id).unwrap();
        assert_eq!(store.key(first.id).unwrap().account, None);
        assert_eq!(store.delete_account(account.id).unwrap_err().code(), "no_such_account");
    }

    #[test]
    fn lifecycle() {
        let (_dir, mut store) = store();
        let (key, _) = store.create_key(&new_key(), NOW).unwrap();
        let later = WallUs(NOW.0 + 5);
        assert_eq!(store.set_key_expiry(key.id, Some(later)).unwrap().expires_at, Some(later));
        assert_eq!(store.set_key_expiry(key.id, None).unwrap().expires_at, None);
        assert_eq!(store.revoke_key(key.id, NOW).unwrap().revoked_at, Some(NOW));
        assert_eq!(store.revoke_key(key.id, later).unwrap().revoked_at, Some(NOW), "again changes nothing");
        assert_eq!(store.set_key_expiry(key.id, None).unwrap_err().code(), "key_revoked");
        assert_eq!(store.revoke_key(KeyId(99), NOW).unwrap_err().code(), "no_such_key");
    }

    #[test]
    fn values_outside_their_bounds_are_named() {
        let (_dir, mut store) = store();
        let ok = new_key();
        let rows = [
            ("label", NewKey { label: "x".repeat(limits::KEY_LABEL_BYTES + 1), ..ok.clone() }),
            ("label", NewKey { label: "a\nb".to_owned(), ..ok.clone() }),
            ("max_connections", NewKey { max_connections: 0, ..ok.clone() }),
            ("max_connections", NewKey { max_connections: limits::KEY_CONNECTIONS + 1, ..ok.clone() }),
            ("delay", NewKey { tier: Tier::Basic, delay: limits::KEY_DELAY * 2, ..ok.clone() }),
            ("delay", NewKey { tier: Tier::Basic, delay: Duration::from_micros(1), ..ok.clone() }),
            ("delay", NewKey { delay: Duration::from_secs(1), ..ok.clone() }),
            ("expires", NewKey { expires_at: Some(NOW), ..ok }),
        ];
        for (expected, new) in rows {
            match store.create_key(&new, NOW) {
                Err(StoreError::Invalid { field, .. }) => assert_eq!(field, expected),
                other => panic!("{expected}: {other:?}"),
            }
        }
        assert!(store.load_keys().unwrap().is_empty());
    }
}
