//! Accounts: made by the administrator, a plan, a token whose hash alone is kept.

use tocsin_core::time::WallUs;
use tocsin_core::webhook::test_budget::{RegistrationRefusal, TestsExhausted};

use crate::store::{Reader, Store, StoreError};

/// An account's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(pub i64);

/// An account as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRecord {
    /// Its number; never given twice.
    pub id: AccountId,
    /// For people.
    pub name: String,
    /// Where its mail goes; empty: nowhere.
    pub email: String,
    /// A plan's name; the configuration says which have webhooks.
    pub plan: String,
    /// When it was made.
    pub created_at: WallUs,
    /// Test events taken on [`AccountRecord::test_day`].
    pub tests_taken: u8,
    /// Days since the epoch.
    pub test_day: i64,
}

/// The text of an account's token: `act_` and 64 lower-case hex digits. Shown once, never stored.
#[derive(Clone, PartialEq, Eq)]
pub struct AccountToken(String);

impl AccountToken {
    /// The text, to be shown to the one who asked for the account.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl core::fmt::Debug for AccountToken {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("AccountToken(…)")
    }
}

/// What an administrator asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAccount {
    /// 1 to [`tocsin_core::limits::ACCOUNT_NAME_BYTES`], no control characters.
    pub name: String,
    /// An address, or empty.
    pub email: String,
    /// 1 to [`tocsin_core::limits::PLAN_NAME_BYTES`] of `[a-z0-9_-]`.
    pub plan: String,
}

impl Store {
    /// Makes an account. The token is returned here and nowhere else. Durable when it returns.
    ///
    /// # Errors
    /// A value outside its bounds, too many accounts, or the disk's.
    pub fn create_account(
        &mut self,
        _new: &NewAccount,
        _now: WallUs,
    ) -> Result<(AccountRecord, AccountToken), StoreError> {
        Err(StoreError::NoRandomness)
    }

    /// Changes an account's plan.
    ///
    /// # Errors
    /// No such account, a bad name, or the disk's.
    pub fn set_plan(&mut self, _id: AccountId, _plan: &str) -> Result<AccountRecord, StoreError> {
        Err(StoreError::NoRandomness)
    }

    /// Draws an account a new token; the old one is refused from now on.
    ///
    /// # Errors
    /// No such account, or the disk's.
    pub fn rotate_account_token(
        &mut self,
        _id: AccountId,
    ) -> Result<(AccountRecord, AccountToken), StoreError> {
        Err(StoreError::NoRandomness)
    }

    /// Takes one of the account's test events of the day; how many are left. The outer error is the
    /// store's.
    ///
    /// # Errors
    /// No such account, or the disk's.
    pub fn take_test(
        &mut self,
        _id: AccountId,
        _now: WallUs,
    ) -> Result<Result<u8, TestsExhausted>, StoreError> {
        Err(StoreError::NoRandomness)
    }

    /// Takes one of the account's registrations of the hour. The outer error is the store's.
    ///
    /// # Errors
    /// No such account, or the disk's.
    pub fn take_registration(
        &mut self,
        _id: AccountId,
        _now: WallUs,
    ) -> Result<Result<(), RegistrationRefusal>, StoreError> {
        Err(StoreError::NoRandomness)
    }
}

impl Reader {
    /// Every account, by number.
    ///
    /// # Errors
    /// The disk's.
    pub fn accounts(&self) -> Result<Vec<AccountRecord>, StoreError> {
        Ok(Vec::new())
    }

    /// One account.
    ///
    /// # Errors
    /// No such account, or the disk's.
    pub fn account(&self, _id: AccountId) -> Result<AccountRecord, StoreError> {
        Err(StoreError::NoRandomness)
    }

    /// The account whose token this is; compares hashes.
    ///
    /// # Errors
    /// The disk's.
    pub fn account_by_token(&self, _token: &str) -> Result<Option<AccountRecord>, StoreError> {
        Ok(None)
    }
}
