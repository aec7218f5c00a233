//! The outbox: e-mail that is due, committed with the change it tells of.
//!
//! Contract: a mail is one row from the transaction of its change until it is sent or given up, and
//! stays for a while after: the newest [`limits::OUTBOX_MAILS`] are kept, the oldest give way whether
//! sent or not. A latency warning waits [`limits::MAIL_DIGEST`], so that several can become one mail.
//! Where the account has no address no mail is made. Blocks on the disk.

use rusqlite::{Connection, Row, params};
use tocsin_core::limits;
use tocsin_core::time::WallUs;
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::endpoint::Mail;

use super::accounts::AccountId;
use crate::store::{Reader, Store, StoreError, unreadable};

/// A mail to be written and sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueMail {
    /// Its number in the outbox; part of its `Message-ID`.
    pub id: i64,
    /// Whose.
    pub account: AccountId,
    /// The address; never empty.
    pub to: String,
    /// The account's name.
    pub name: String,
    /// About which endpoint.
    pub endpoint: EndpointId,
    /// Its URL.
    pub url: String,
    /// What happened.
    pub mail: Mail,
    /// Details for the text: the last failure, the P95.
    pub detail: String,
    /// When it happened.
    pub at: WallUs,
    /// Tries so far.
    pub tries: u32,
}

impl Store {
    /// Puts a mail into the outbox, not to be sent before `not_before`. For tests and commands; the
    /// journal thread does it in the transaction of the change.
    ///
    /// # Errors
    /// No such endpoint, or the disk's.
    pub fn enqueue_mail(
        &mut self,
        endpoint: EndpointId,
        mail: Mail,
        detail: &str,
        at: WallUs,
        not_before: WallUs,
    ) -> Result<(), StoreError> {
        self.endpoint(endpoint)?;
        self.ask(|c| {
            let transaction = c.unchecked_transaction()?;
            enqueue(&transaction, endpoint, mail, detail, at, not_before)?;
            transaction.commit()
        })
    }

    /// The mails of these numbers have been sent.
    ///
    /// # Errors
    /// The disk's.
    pub fn mail_sent(&mut self, ids: &[i64], now: WallUs) -> Result<(), StoreError> {
        self.ask(|c| {
            let transaction = c.unchecked_transaction()?;
            for id in ids {
                let sql = "UPDATE outbox SET sent_us = coalesce(sent_us, ?2) WHERE id = ?1";
                transaction.prepare_cached(sql)?.execute(params![id, now.0])?;
            }
            transaction.commit()
        })
    }

    /// They could not be: not again before `not_before`. Past the last try they are given up, and
    /// stay in the outbox as such.
    ///
    /// # Errors
    /// The disk's.
    pub fn mail_failed(&mut self, ids: &[i64], not_before: WallUs, give_up: bool) -> Result<(), StoreError> {
        self.ask(|c| {
            let transaction = c.unchecked_transaction()?;
            for id in ids {
                let sql = "UPDATE outbox SET tries = tries + 1, not_before_us = ?2, given_up = ?3
                           WHERE id = ?1 AND sent_us IS NULL";
                transaction.prepare_cached(sql)?.execute(params![id, not_before.0, give_up])?;
            }
            transaction.commit()
        })
    }
}

impl Reader {
    /// Mails that are due, oldest first, at most `limit`. Those of accounts without an address are
    /// none.
    ///
    /// # Errors
    /// The disk's.
    pub fn due_mail(&self, now: WallUs, limit: usize) -> Result<Vec<DueMail>, StoreError> {
        self.ask(|c| {
            let sql = "SELECT outbox.id, account, email, name, endpoint, url, kind, detail, at_us, tries
                       FROM outbox JOIN accounts ON accounts.id = account
                       WHERE sent_us IS NULL AND given_up = 0 AND not_before_us <= ?1 AND email <> ''
                       ORDER BY outbox.id LIMIT ?2";
            c.prepare_cached(sql)?.query_map(params![now.0, limit], read_mail)?.collect()
        })
    }

    /// When the next mail that is not due yet will be.
    ///
    /// # Errors
    /// The disk's.
    pub fn next_mail_at(&self, now: WallUs) -> Result<Option<WallUs>, StoreError> {
        self.ask(|c| {
            let sql = "SELECT min(not_before_us) FROM outbox
                       WHERE sent_us IS NULL AND given_up = 0 AND not_before_us > ?1";
            c.prepare_cached(sql)?.query_row([now.0], |row| Ok(row.get::<_, Option<i64>>(0)?.map(WallUs)))
        })
    }
}

/// When a mail that is due `at` may be sent.
pub(super) fn not_before(mail: Mail, at: WallUs) -> WallUs {
    match mail {
        Mail::Slow => WallUs(at.0.saturating_add(limits::MAIL_DIGEST.as_micros() as i64)),
        Mail::AutoDisabled | Mail::Recovered | Mail::Gone => at,
    }
}

/// Puts a mail into the outbox, within the caller's transaction. Whether there is one now.
pub(super) fn enqueue(
    connection: &Connection,
    endpoint: EndpointId,
    mail: Mail,
    detail: &str,
    at: WallUs,
    not_before: WallUs,
) -> rusqlite::Result<bool> {
    let sql = "INSERT INTO outbox (account, endpoint, url, kind, detail, at_us, not_before_us)
               SELECT account, endpoints.id, url, ?2, ?3, ?4, ?5
               FROM endpoints JOIN accounts ON accounts.id = account WHERE endpoints.id = ?1 AND email <> ''";
    let detail = detail.get(..detail.floor_char_boundary(limits::MAIL_DETAIL_BYTES)).unwrap_or_default();
    let values = params![endpoint.0, name(mail), detail, at.0, not_before.0];
    let inserted = connection.prepare_cached(sql)?.execute(values)?;
    if inserted > 0 {
        let oldest = connection.last_insert_rowid().saturating_sub(limits::OUTBOX_MAILS);
        connection.prepare_cached("DELETE FROM outbox WHERE id <= ?1")?.execute([oldest])?;
    }
    Ok(inserted > 0)
}

const MAILS: [Mail; 4] = [Mail::AutoDisabled, Mail::Recovered, Mail::Gone, Mail::Slow];

const fn name(mail: Mail) -> &'static str {
    match mail {
        Mail::AutoDisabled => "auto_disabled",
        Mail::Recovered => "recovered",
        Mail::Gone => "gone",
        Mail::Slow => "slow",
    }
}

fn read_mail(row: &Row<'_>) -> rusqlite::Result<DueMail> {
    let kind: String = row.get(6)?;
    let mail = MAILS.into_iter().find(|mail| name(*mail) == kind);
    Ok(DueMail {
        id: row.get(0)?,
        account: AccountId(row.get(1)?),
        to: row.get(2)?,
        name: row.get(3)?,
        endpoint: EndpointId(row.get(4)?),
        url: row.get(5)?,
        mail: mail.ok_or_else(|| unreadable(6, "mail", &kind))?,
        detail: row.get(7)?,
        at: WallUs(row.get(8)?),
        tries: row.get(9)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{NOW, endpoint_of, installation, new_account, register, reopen};
    use crate::store::webhook::accounts::NewAccount;

    fn later(seconds: i64) -> WallUs {
        WallUs(NOW.0 + seconds * 1_000_000)
    }

    #[test]
    fn a_mail_waits_is_sent_and_outlives_its_endpoint() {
        let (dir, mut store, [endpoint, other]) = installation();
        store.enqueue_mail(endpoint, Mail::AutoDisabled, "timeout", NOW, later(10)).unwrap();
        store.enqueue_mail(other, Mail::Gone, &"é".repeat(limits::MAIL_DETAIL_BYTES), NOW, NOW).unwrap();
        let reader = store.reader().unwrap();
        let due = |now| reader.due_mail(now, 10).unwrap();
        assert_eq!(due(NOW).iter().map(|mail| mail.endpoint).collect::<Vec<_>>(), [other]);
        assert_eq!(due(NOW)[0].detail.len(), limits::MAIL_DETAIL_BYTES);
        assert_eq!(reader.next_mail_at(NOW).unwrap(), Some(later(10)));
        assert_eq!(reader.next_mail_at(later(10)).unwrap(), None);
        store.delete_endpoint(endpoint).unwrap();
        let [first, second] = &due(later(10))[..] else { panic!("two are due") };
        assert_eq!(
            (first.mail, first.to.as_str(), first.tries),
            (Mail::AutoDisabled, "owner@example.org", 0)
        );
        assert!(first.url.starts_with("https://") && first.id < second.id);

        store.mail_failed(&[first.id], later(60), false).unwrap();
        store.mail_sent(&[second.id], NOW).unwrap();
        let store = {
            let mut store = reopen(&dir, store);
            store.mail_sent(&[second.id], later(1)).unwrap();
            store
        };
        assert!(due(later(59)).is_empty());
        assert_eq!(due(later(60)).iter().map(|mail| mail.tries).collect::<Vec<_>>(), [1]);
        assert_eq!(reader.next_mail_at(NOW).unwrap(), Some(later(60)));
        let mut store = store;
        store.mail_failed(&[first.id], later(61), true).unwrap();
        assert!(due(later(100)).is_empty() && reader.next_mail_at(NOW).unwrap().is_none());
        let refused = store.enqueue_mail(endpoint, Mail::Slow, "", NOW, NOW).unwrap_err();
        assert_eq!(refused.code(), "no_such_endpoint");
    }

    #[test]
    fn an_account_without_an_address_gets_none_and_the_oldest_give_way() {
        let (_dir, mut store, [endpoint, _]) = installation();
        let new = NewAccount { email: String::new(), ..new_account() };
        let (silent, _token) = store.create_account(&new, NOW).unwrap();
        let unheard = register(&mut store, &endpoint_of(silent.id));
        store.enqueue_mail(unheard, Mail::Gone, "", NOW, NOW).unwrap();
        let reader = store.reader().unwrap();
        assert!(
            reader.due_mail(NOW, 10).unwrap().is_empty() && reader.next_mail_at(WallUs(0)).unwrap().is_none()
        );

        let transaction = store.connection.unchecked_transaction().unwrap();
        for _ in 0..limits::OUTBOX_MAILS + 5 {
            assert!(enqueue(&transaction, endpoint, Mail::Gone, "", NOW, NOW).unwrap());
        }
        transaction.commit().unwrap();
        let ids: Vec<i64> =
            reader.due_mail(NOW, usize::MAX >> 1).unwrap().iter().map(|mail| mail.id).collect();
        assert_eq!((ids.len() as i64, ids[0]), (limits::OUTBOX_MAILS, 6));
    }
}
