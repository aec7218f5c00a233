//! Endpoints: where an account's events go, with sealed secrets and the health that outlives the
//! process.
//!
//! Contract: what a method of [`Store`] has returned is on disk. Deleting an endpoint concludes what
//! waits for it and forgets its delivery log; mail about it stays. Blocks on the disk, allocates. Fails
//! with the field that is out of bounds.

use core::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use tocsin_core::limits;
use tocsin_core::time::WallUs;
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::endpoint::{Disabled, SavedHealth, State};
use tocsin_core::webhook::filter::EventFilter;
use tocsin_core::webhook::signature::Secret;

use super::accounts::AccountId;
use super::recipients::Recipients;
use super::secrets::{MasterKey, Sealed};
use crate::store::{Page, Reader, Store, StoreError, unreadable};

/// An endpoint as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointRecord {
    /// Its number; never given twice.
    pub id: EndpointId,
    /// Whose it is.
    pub account: AccountId,
    /// A note of its owner.
    pub label: String,
    /// Where it is; passed [`tocsin_core::webhook::url::EndpointUrl::parse`] when it was registered.
    pub url: String,
    /// What it wants.
    pub filter: EventFilter,
    /// When it was registered.
    pub created_at: WallUs,
    /// When its verification ping was first answered with 2xx. It gets no event detected before.
    pub verified_at: Option<WallUs>,
    /// Its state and counters, as last saved.
    pub health: SavedHealth,
    /// The secret that signs.
    pub secret: Sealed,
    /// The secret before, and the end of its grace.
    pub previous: Option<(Sealed, WallUs)>,
}

/// What a registration stores: an endpoint in state `pending`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEndpoint {
    /// Whose it is.
    pub account: AccountId,
    /// At most [`tocsin_core::limits::ENDPOINT_LABEL_BYTES`], no control characters; may be empty.
    pub label: String,
    /// Checked by the caller.
    pub url: String,
    /// What it wants.
    pub filter: EventFilter,
}

/// What a change of an endpoint changes; `None` leaves it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointChange {
    /// A note of its owner.
    pub label: Option<String>,
    /// What it wants.
    pub filter: Option<EventFilter>,
}

/// The changed record, the new secret (to be shown once), and the one before with the end of its grace.
pub type RotatedSecret = (EndpointRecord, Secret, Option<(Secret, WallUs)>);

const COLUMNS: &str = "id, account, label, url, kinds, exchanges, created_us, verified_us, state, since_us, \
     failures, slow, secret, previous_secret, previous_until_us";

fn validate_label(label: &str) -> Result<(), StoreError> {
    let most = limits::ENDPOINT_LABEL_BYTES;
    if label.len() <= most && !label.chars().any(char::is_control) {
        return Ok(());
    }
    let detail = format!("at most {most} bytes without control characters");
    Err(StoreError::Invalid { field: "label", detail })
}

/// A filter is stored as text: one that would read back as another is refused (an empty list would
/// become everything).
fn validate_filter(filter: &EventFilter) -> Result<(), StoreError> {
    let read = EventFilter::parse(&filter.kinds_text(), &filter.exchanges_text());
    let field = match read {
        Ok(read) if read == *filter => return Ok(()),
        Ok(read) if read.kinds == filter.kinds => "exchanges",
        _ => "events",
    };
    Err(StoreError::Invalid { field, detail: "at least one, or * for all".to_owned() })
}

impl Store {
    /// Stores a new endpoint, pending, with the secret that `seal` makes of its number. At most
    /// [`tocsin_core::limits::WEBHOOK_ENDPOINTS_PER_ACCOUNT`] an account and
    /// [`tocsin_core::limits::WEBHOOK_ENDPOINTS`] in all. Durable when it returns.
    ///
    /// # Errors
    /// No such account, too many endpoints, a bad label, or what `seal` or the disk says.
    pub fn create_endpoint(
        &mut self,
        new: &NewEndpoint,
        now: WallUs,
        seal: &mut dyn FnMut(EndpointId) -> Result<Sealed, StoreError>,
    ) -> Result<EndpointRecord, StoreError> {
        validate_label(&new.label)?;
        validate_filter(&new.filter)?;
        if new.url.len() > limits::ENDPOINT_URL_BYTES {
            let detail = format!("at most {} bytes", limits::ENDPOINT_URL_BYTES);
            return Err(StoreError::Invalid { field: "url", detail });
        }
        self.account(new.account)?;
        let sql = "SELECT count(*) FROM endpoints WHERE account = ?1";
        let has: usize = self.ask(|c| c.query_row(sql, [new.account.0], |row| row.get(0)))?;
        if has >= limits::WEBHOOK_ENDPOINTS_PER_ACCOUNT {
            return Err(StoreError::TooManyEndpoints);
        }
        if self.webhook.live.len() >= limits::WEBHOOK_ENDPOINTS {
            return Err(StoreError::EndpointsExhausted);
        }
        let doing = |error| StoreError::sqlite(&self.path, error);
        let transaction = self.connection.unchecked_transaction().map_err(doing)?;
        let id: u64 = insert(&transaction, new, now).map_err(doing)?;
        let sealed = seal(EndpointId(id))?;
        let sql = "UPDATE endpoints SET secret = ?2 WHERE id = ?1";
        transaction.execute(sql, params![id, sealed.0]).and_then(|_| transaction.commit()).map_err(doing)?;
        self.webhook.live.insert(id);
        self.endpoint(EndpointId(id))
    }

    /// As [`Store::create_endpoint`], with a new secret, which is returned here and nowhere else.
    ///
    /// # Errors
    /// As [`Store::create_endpoint`].
    pub fn register_endpoint(
        &mut self,
        new: &NewEndpoint,
        now: WallUs,
        key: &MasterKey,
    ) -> Result<(EndpointRecord, Secret), StoreError> {
        let secret = MasterKey::draw_secret()?;
        let record = self.create_endpoint(new, now, &mut |id| key.seal(id, &secret))?;
        Ok((record, secret))
    }

    /// Changes label or filter.
    ///
    /// # Errors
    /// No such endpoint, a bad label, or the disk's.
    pub fn change_endpoint(
        &mut self,
        id: EndpointId,
        change: &EndpointChange,
    ) -> Result<EndpointRecord, StoreError> {
        change.label.as_deref().map_or(Ok(()), validate_label)?;
        change.filter.as_ref().map_or(Ok(()), validate_filter)?;
        let now = self.endpoint(id)?;
        let label = change.label.as_deref().unwrap_or(&now.label);
        let filter = change.filter.unwrap_or(now.filter);
        self.ask(|c| {
            c.execute(
                "UPDATE endpoints SET label = ?2, kinds = ?3, exchanges = ?4 WHERE id = ?1",
                params![id.0, label, filter.kinds_text(), filter.exchanges_text()],
            )
        })?;
        self.endpoint(id)
    }

    /// Puts `new` in the secret's place; the one that signed until now goes on until `grace_until`
    /// (`None`: it is forgotten at once). An older one still in its grace is forgotten.
    ///
    /// # Errors
    /// No such endpoint, or the disk's.
    pub fn rotate_secret(
        &mut self,
        id: EndpointId,
        new: Sealed,
        grace_until: Option<WallUs>,
    ) -> Result<EndpointRecord, StoreError> {
        let Sealed(new) = new;
        self.ask(|c| {
            c.execute(
                "UPDATE endpoints SET previous_secret = iif(?3 IS NULL, NULL, secret), previous_until_us = ?3,
                 secret = ?2 WHERE id = ?1",
                params![id.0, new, grace_until.map(|at| at.0)],
            )
        })?;
        self.endpoint(id)
    }

    /// As [`Store::rotate_secret`], with a new secret, which is returned here and nowhere else, and a
    /// grace of at most [`tocsin_core::limits::WEBHOOK_GRACE`] from `now` on; zero: none. A secret
    /// that no longer opens is replaced without grace.
    ///
    /// # Errors
    /// No such endpoint, a longer grace, or the disk's.
    pub fn rotate_endpoint_secret(
        &mut self,
        id: EndpointId,
        grace: Duration,
        now: WallUs,
        key: &MasterKey,
    ) -> Result<RotatedSecret, StoreError> {
        if grace > limits::WEBHOOK_GRACE {
            let detail = format!("at most {} days", limits::WEBHOOK_GRACE.as_secs() / 86_400);
            return Err(StoreError::Invalid { field: "grace", detail });
        }
        let secret = MasterKey::draw_secret()?;
        let before = self.endpoint(id)?;
        let micros = i64::try_from(grace.as_micros()).unwrap_or(i64::MAX);
        let until = (micros > 0).then(|| WallUs(now.0.saturating_add(micros)));
        let previous = until.and_then(|until| Some((key.open(id, &before.secret).ok()?, until)));
        let sealed = key.seal(id, &secret)?;
        let endpoint = self.rotate_secret(id, sealed, previous.as_ref().map(|(_, until)| *until))?;
        Ok((endpoint, secret, previous))
    }

    /// Saves a health, and when it was verified if it is now for the first time.
    ///
    /// # Errors
    /// No such endpoint, or the disk's.
    pub fn save_health(
        &mut self,
        id: EndpointId,
        health: &SavedHealth,
        verified_at: Option<WallUs>,
    ) -> Result<EndpointRecord, StoreError> {
        self.ask(|c| set_health(c, id, health, verified_at))?;
        self.endpoint(id)
    }

    /// Forgets an endpoint, what waits for it and its delivery log.
    ///
    /// # Errors
    /// No such endpoint, or the disk's.
    pub fn delete_endpoint(&mut self, id: EndpointId) -> Result<(), StoreError> {
        if !self.webhook.live.contains(&id.0) {
            return Err(StoreError::NoSuchEndpoint(id));
        }
        self.ask(|c| {
            let transaction = c.unchecked_transaction()?;
            for sql in [
                "DELETE FROM endpoints WHERE id = ?1",
                "DELETE FROM attempts WHERE endpoint = ?1",
                "DELETE FROM deliveries WHERE endpoint = ?1",
            ] {
                transaction.execute(sql, [id.0])?;
            }
            conclude_everywhere(&transaction, id)?;
            transaction.commit()
        })?;
        self.webhook.live.remove(&id.0);
        self.webhook.lines.remove(&id.0);
        Ok(())
    }

    /// Every endpoint, by number: what the webhook thread starts with.
    ///
    /// # Errors
    /// The disk's.
    pub fn load_endpoints(&self) -> Result<Vec<EndpointRecord>, StoreError> {
        self.ask(|c| all(c, None))
    }

    /// One endpoint.
    ///
    /// # Errors
    /// No such endpoint, or the disk's.
    pub fn endpoint(&self, id: EndpointId) -> Result<EndpointRecord, StoreError> {
        self.ask(|c| one(c, id))?.ok_or(StoreError::NoSuchEndpoint(id))
    }
}

impl Reader {
    /// An account's endpoints, or all, by number.
    ///
    /// # Errors
    /// The disk's.
    pub fn endpoints(&self, account: Option<AccountId>) -> Result<Vec<EndpointRecord>, StoreError> {
        self.ask(|c| all(c, account))
    }

    /// A page of an account's endpoints, or of all, by number.
    ///
    /// # Errors
    /// The disk's.
    pub fn endpoints_page(
        &self,
        account: Option<AccountId>,
        page: Page,
    ) -> Result<Vec<EndpointRecord>, StoreError> {
        self.ask(|c| {
            let of = "(?3 IS NULL OR account = ?3)";
            let sql = format!("SELECT {COLUMNS} FROM endpoints WHERE id > ?1 AND {of} ORDER BY id LIMIT ?2");
            let values = params![page.after, page.limit, account.map(|AccountId(id)| id)];
            c.prepare_cached(&sql)?.query_map(values, read_endpoint)?.collect()
        })
    }

    /// One endpoint.
    ///
    /// # Errors
    /// No such endpoint, or the disk's.
    pub fn endpoint(&self, id: EndpointId) -> Result<EndpointRecord, StoreError> {
        self.ask(|c| one(c, id))?.ok_or(StoreError::NoSuchEndpoint(id))
    }

    /// How many endpoints are in each state, by [`State::name`]; those in which none is are left out.
    ///
    /// # Errors
    /// The disk's.
    pub fn endpoint_states(&self) -> Result<Vec<(String, u64)>, StoreError> {
        let sql = "SELECT state, count(*) FROM endpoints GROUP BY state ORDER BY state";
        self.ask(|c| c.prepare_cached(sql)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect())
    }
}

/// Numbers of all endpoints.
pub(in crate::store) fn numbers<T: FromIterator<u64>>(connection: &Connection) -> rusqlite::Result<T> {
    connection.prepare_cached("SELECT id FROM endpoints")?.query_map([], |row| row.get(0))?.collect()
}

/// Inserts an endpoint without a secret; its number.
fn insert(connection: &Connection, new: &NewEndpoint, now: WallUs) -> rusqlite::Result<u64> {
    let sql = "INSERT INTO endpoints (account, label, url, kinds, exchanges, created_us, state, since_us,
                   failures, slow, secret)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?6, 0, 0, x'') RETURNING id";
    let (kinds, exchanges) = (new.filter.kinds_text(), new.filter.exchanges_text());
    let state = State::Pending.name();
    connection
        .prepare_cached(sql)?
        .query_one(params![new.account.0, new.label, new.url, kinds, exchanges, now.0, state], |row| {
            row.get(0)
        })
}

/// Saves a health; an endpoint that is gone is no error. Whether it is there.
pub(super) fn set_health(
    connection: &Connection,
    id: EndpointId,
    health: &SavedHealth,
    verified_at: Option<WallUs>,
) -> rusqlite::Result<bool> {
    let sql = "UPDATE endpoints SET state = ?2, since_us = ?3, failures = ?4, slow = ?5,
               verified_us = coalesce(verified_us, ?6) WHERE id = ?1";
    let SavedHealth { state, since, failures, slow } = health;
    let verified = verified_at.map(|at| at.0);
    let values = params![id.0, state.name(), since.0, failures, slow, verified];
    Ok(connection.prepare_cached(sql)?.execute(values)? > 0)
}

/// Concludes what waits for an endpoint that is gone, in every event.
fn conclude_everywhere(connection: &Connection, id: EndpointId) -> rusqlite::Result<()> {
    let open: Vec<u64> = connection
        .prepare_cached("SELECT number FROM events WHERE open > 0")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for event in open {
        if let Some(mut recipients) = Recipients::load(connection, event)?
            && recipients.conclude(id)
        {
            recipients.save(connection, event)?;
        }
    }
    Ok(())
}

fn all(connection: &Connection, account: Option<AccountId>) -> rusqlite::Result<Vec<EndpointRecord>> {
    let one_account = if account.is_some() { "WHERE account = ?1" } else { "WHERE ?1 IS NULL" };
    let sql = format!("SELECT {COLUMNS} FROM endpoints {one_account} ORDER BY id");
    let mut statement = connection.prepare_cached(&sql)?;
    statement.query_map([account.map(|AccountId(id)| id)], read_endpoint)?.collect()
}

fn one(connection: &Connection, id: EndpointId) -> rusqlite::Result<Option<EndpointRecord>> {
    let sql = format!("SELECT {COLUMNS} FROM endpoints WHERE id = ?1");
    connection.prepare_cached(&sql)?.query_row([id.0], read_endpoint).optional()
}

const STATES: [State; 6] = [
    State::Pending,
    State::Active,
    State::Suspended,
    State::Disabled(Disabled::Auto),
    State::Disabled(Disabled::User),
    State::Disabled(Disabled::Gone),
];

fn read_endpoint(row: &Row<'_>) -> rusqlite::Result<EndpointRecord> {
    let maybe_wall = |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(WallUs));
    let (kinds, exchanges): (String, String) = (row.get(4)?, row.get(5)?);
    let filter = EventFilter::parse(&kinds, &exchanges)
        .map_err(|_| unreadable(4, "filter", &[kinds, exchanges].join(" ")))?;
    let state: String = row.get(8)?;
    let known = STATES.into_iter().find(|known| known.name() == state);
    let previous: Option<Vec<u8>> = row.get(13)?;
    Ok(EndpointRecord {
        id: EndpointId(row.get(0)?),
        account: AccountId(row.get(1)?),
        label: row.get(2)?,
        url: row.get(3)?,
        filter,
        created_at: WallUs(row.get(6)?),
        verified_at: maybe_wall(7)?,
        health: SavedHealth {
            state: known.ok_or_else(|| unreadable(8, "state", &state))?,
            since: WallUs(row.get(9)?),
            failures: row.get(10)?,
            slow: row.get(11)?,
        },
        secret: Sealed(row.get::<_, Vec<u8>>(12)?.into()),
        previous: previous.map(|secret| Sealed(secret.into())).zip(maybe_wall(14)?),
    })
}

#[cfg(test)]
#[path = "endpoints_tests.rs"]
mod tests;
