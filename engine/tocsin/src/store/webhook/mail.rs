//! The outbox: e-mail that is due, committed with the change it tells of.

use tocsin_core::time::WallUs;
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::endpoint::Mail;

use super::accounts::AccountId;
use crate::store::{Reader, Store, StoreError};

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
        _endpoint: EndpointId,
        _mail: Mail,
        _detail: &str,
        _at: WallUs,
        _not_before: WallUs,
    ) -> Result<(), StoreError> {
        Err(StoreError::NoRandomness)
    }

    /// The mails of these numbers have been sent.
    ///
    /// # Errors
    /// The disk's.
    pub fn mail_sent(&mut self, _ids: &[i64], _now: WallUs) -> Result<(), StoreError> {
        Err(StoreError::NoRandomness)
    }

    /// They could not be: not again before `not_before`. Past the last try they are given up, and
    /// stay in the outbox as such.
    ///
    /// # Errors
    /// The disk's.
    pub fn mail_failed(
        &mut self,
        _ids: &[i64],
        _not_before: WallUs,
        _give_up: bool,
    ) -> Result<(), StoreError> {
        Err(StoreError::NoRandomness)
    }
}

impl Reader {
    /// Mails that are due, oldest first, at most `limit`. Those of accounts without an address are
    /// none.
    ///
    /// # Errors
    /// The disk's.
    pub fn due_mail(&self, _now: WallUs, _limit: usize) -> Result<Vec<DueMail>, StoreError> {
        Ok(Vec::new())
    }

    /// When the next mail that is not due yet will be.
    ///
    /// # Errors
    /// The disk's.
    pub fn next_mail_at(&self, _now: WallUs) -> Result<Option<WallUs>, StoreError> {
        Ok(None)
    }
}
