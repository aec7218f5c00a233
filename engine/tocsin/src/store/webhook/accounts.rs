//! Accounts: made by the administrator, a plan, a token whose hash alone is kept.
//!
//! Contract: what a method of [`Store`] has returned is on disk; the budgets of test events and
//! registrations outlive the process. The text of a token exists only in the [`AccountToken`] that is
//! returned. Blocks on the disk, allocates. Fails with the field that is out of bounds.

use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use tocsin_core::limits;
use tocsin_core::time::WallUs;
use tocsin_core::webhook::test_budget::{
    RegistrationBudget, RegistrationRefusal, TestBudget, TestsExhausted,
};

use crate::store::{Page, Reader, Store, StoreError};

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

const TOKEN_PREFIX: &str = "act_";
const TOKEN_BYTES: usize = 68;

impl AccountToken {
    /// Draws 32 random bytes.
    fn draw() -> Result<AccountToken, StoreError> {
        let mut bytes = [0; 32];
        SystemRandom::new().fill(&mut bytes).map_err(|_| StoreError::NoRandomness)?;
        let mut text = String::with_capacity(TOKEN_BYTES);
        text.push_str(TOKEN_PREFIX);
        for byte in bytes {
            for nibble in [byte >> 4, byte & 15] {
                text.extend(char::from_digit(u32::from(nibble), 16));
            }
        }
        Ok(AccountToken(text))
    }

    /// SHA-256 of a token's text; `None` when it is not of a token's form.
    fn hash(text: &str) -> Option<[u8; 32]> {
        let digits = text.strip_prefix(TOKEN_PREFIX)?;
        let well_formed = text.len() == TOKEN_BYTES
            && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        digest(&SHA256, text.as_bytes()).as_ref().try_into().ok().filter(|_| well_formed)
    }

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

impl NewAccount {
    /// Checks every value against its bound.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] names the field.
    pub fn validate(&self) -> Result<(), StoreError> {
        let invalid = |field, detail: String| Err(StoreError::Invalid { field, detail });
        let (name, most) = (&self.name, limits::ACCOUNT_NAME_BYTES);
        if !(1..=most).contains(&name.len()) || name.chars().any(char::is_control) {
            return invalid("name", format!("1 to {most} bytes without control characters"));
        }
        if !self.email.is_empty() {
            let most = limits::EMAIL_BYTES;
            let unfit = self.email.chars().any(|c| c.is_control() || c.is_whitespace());
            if self.email.len() > most || unfit || self.email.parse::<lettre::Address>().is_err() {
                let detail = format!("an e-mail address of at most {most} bytes, or nothing for no mail");
                return invalid("email", detail);
            }
        }
        validate_plan(&self.plan)
    }
}

/// What changes of an account; what is not given stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountUpdate {
    /// As in [`NewAccount`].
    pub name: Option<String>,
    /// As in [`NewAccount`].
    pub email: Option<String>,
    /// As in [`NewAccount`].
    pub plan: Option<String>,
}

fn validate_plan(plan: &str) -> Result<(), StoreError> {
    let most = limits::PLAN_NAME_BYTES;
    let allowed = |b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    if (1..=most).contains(&plan.len()) && plan.bytes().all(allowed) {
        return Ok(());
    }
    let detail = format!("1 to {most} of the characters a-z, 0-9, _ and -");
    Err(StoreError::Invalid { field: "plan", detail })
}

const COLUMNS: &str = "id, name, email, plan, created_us, tests_taken, test_day";

impl Store {
    /// Makes an account. The token is returned here and nowhere else. Durable when it returns.
    ///
    /// # Errors
    /// A value outside its bounds, too many accounts, or the disk's.
    pub fn create_account(
        &mut self,
        new: &NewAccount,
        now: WallUs,
    ) -> Result<(AccountRecord, AccountToken), StoreError> {
        new.validate()?;
        let (token, hash) = draw_token()?;
        let count: i64 = self.ask(|c| c.query_row("SELECT count(*) FROM accounts", [], |row| row.get(0)))?;
        if usize::try_from(count).is_ok_and(|count| count >= limits::ACCOUNTS) {
            return Err(StoreError::TooManyAccounts);
        }
        let record = self.ask(|c| {
            let sql = format!(
                "INSERT INTO accounts (name, email, plan, token_hash, created_us)
                 VALUES (?1, ?2, ?3, ?4, ?5) RETURNING {COLUMNS}"
            );
            let values = params![new.name, new.email, new.plan, hash, now.0];
            c.prepare_cached(&sql)?.query_one(values, read_account)
        })?;
        Ok((record, token))
    }

    /// Changes an account's name, e-mail address or plan.
    ///
    /// # Errors
    /// No such account, a value outside its bounds, or the disk's.
    pub fn change_account(
        &mut self,
        id: AccountId,
        update: &AccountUpdate,
    ) -> Result<AccountRecord, StoreError> {
        let before = self.account(id)?;
        let AccountUpdate { name, email, plan } = update.clone();
        let new = NewAccount {
            name: name.unwrap_or(before.name),
            email: email.unwrap_or(before.email),
            plan: plan.unwrap_or(before.plan),
        };
        new.validate()?;
        let sql = "UPDATE accounts SET name = ?2, email = ?3, plan = ?4 WHERE id = ?1";
        self.ask(|c| c.execute(sql, params![id.0, new.name, new.email, new.plan]))?;
        self.account(id)
    }

    /// Changes an account's plan.
    ///
    /// # Errors
    /// As [`Store::change_account`].
    pub fn set_plan(&mut self, id: AccountId, plan: &str) -> Result<AccountRecord, StoreError> {
        self.change_account(id, &AccountUpdate { plan: Some(plan.to_owned()), ..AccountUpdate::default() })
    }

    /// Forgets an account and its mail. Its endpoints are to be deleted and its keys revoked before.
    ///
    /// # Errors
    /// No such account, one that has endpoints, or the disk's.
    pub fn delete_account(&mut self, id: AccountId) -> Result<(), StoreError> {
        self.account(id)?;
        let deleted = self.ask(|c| {
            let transaction = c.unchecked_transaction()?;
            transaction.execute("DELETE FROM outbox WHERE account = ?1", [id.0])?;
            let sql = "DELETE FROM accounts WHERE id = ?1
                       AND NOT EXISTS (SELECT 1 FROM endpoints WHERE account = ?1)";
            let deleted = transaction.execute(sql, [id.0])?;
            if deleted > 0 { transaction.commit() } else { transaction.rollback() }.map(|()| deleted)
        })?;
        if deleted == 0 { Err(StoreError::AccountInUse(id)) } else { Ok(()) }
    }

    /// Draws an account a new token; the old one is refused from now on.
    ///
    /// # Errors
    /// No such account, or the disk's.
    pub fn rotate_account_token(
        &mut self,
        id: AccountId,
    ) -> Result<(AccountRecord, AccountToken), StoreError> {
        let (token, hash) = draw_token()?;
        self.ask(|c| c.execute("UPDATE accounts SET token_hash = ?2 WHERE id = ?1", params![id.0, hash]))?;
        Ok((self.account(id)?, token))
    }

    /// Takes one of the account's test events of the day; how many are left. The outer error is the
    /// store's.
    ///
    /// # Errors
    /// No such account, or the disk's.
    pub fn take_test(
        &mut self,
        id: AccountId,
        now: WallUs,
    ) -> Result<Result<u8, TestsExhausted>, StoreError> {
        let AccountRecord { tests_taken: taken, test_day: day, .. } = self.account(id)?;
        let mut budget = TestBudget { day, taken };
        let answer = budget.take(now);
        if answer.is_ok() {
            let values = params![id.0, budget.day, budget.taken];
            self.ask(|c| {
                c.execute("UPDATE accounts SET test_day = ?2, tests_taken = ?3 WHERE id = ?1", values)
            })?;
        }
        Ok(answer)
    }

    /// Takes one of the account's registrations of the hour. The outer error is the store's.
    ///
    /// # Errors
    /// No such account, or the disk's.
    pub fn take_registration(
        &mut self,
        id: AccountId,
        now: WallUs,
    ) -> Result<Result<(), RegistrationRefusal>, StoreError> {
        let found = self.ask(|c| {
            let sql = "SELECT registrations, (SELECT count(*) FROM endpoints WHERE account = ?1)
                       FROM accounts WHERE id = ?1";
            let read = |row: &Row<'_>| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, usize>(1)?));
            c.query_row(sql, [id.0], read).optional()
        })?;
        let (remembered, endpoints) = found.ok_or(StoreError::NoSuchAccount(id))?;
        let mut budget = read_registrations(&remembered);
        let answer = budget.take(now, endpoints);
        if answer.is_ok() {
            let remembered: Vec<u8> = budget.remembered().flat_map(|at| at.0.to_le_bytes()).collect();
            self.ask(|c| {
                c.execute("UPDATE accounts SET registrations = ?2 WHERE id = ?1", params![id.0, remembered])
            })?;
        }
        Ok(answer)
    }

    /// One account.
    ///
    /// # Errors
    /// No such account, or the disk's.
    pub fn account(&self, id: AccountId) -> Result<AccountRecord, StoreError> {
        self.ask(|c| one(c, id))?.ok_or(StoreError::NoSuchAccount(id))
    }
}

fn read_registrations(remembered: &[u8]) -> RegistrationBudget {
    let (times, _) = remembered.as_chunks::<8>();
    RegistrationBudget::restored(times.iter().map(|at| WallUs(i64::from_le_bytes(*at))))
}

fn draw_token() -> Result<(AccountToken, [u8; 32]), StoreError> {
    let token = AccountToken::draw()?;
    let hash = AccountToken::hash(token.reveal()).ok_or(StoreError::NoRandomness)?;
    Ok((token, hash))
}

impl Reader {
    /// A page of accounts, by number; those of a plan where one is named.
    ///
    /// # Errors
    /// The disk's.
    pub fn accounts_page(&self, plan: Option<&str>, page: Page) -> Result<Vec<AccountRecord>, StoreError> {
        self.ask(|c| {
            let of = "(?3 IS NULL OR plan = ?3)";
            let sql = format!("SELECT {COLUMNS} FROM accounts WHERE id > ?1 AND {of} ORDER BY id LIMIT ?2");
            let values = params![page.after, page.limit, plan];
            c.prepare_cached(&sql)?.query_map(values, read_account)?.collect()
        })
    }

    /// Every account, by number.
    ///
    /// # Errors
    /// The disk's.
    pub fn accounts(&self) -> Result<Vec<AccountRecord>, StoreError> {
        self.ask(|c| {
            let mut statement = c.prepare_cached(&format!("SELECT {COLUMNS} FROM accounts ORDER BY id"))?;
            statement.query_map([], read_account)?.collect()
        })
    }

    /// One account.
    ///
    /// # Errors
    /// No such account, or the disk's.
    pub fn account(&self, id: AccountId) -> Result<AccountRecord, StoreError> {
        self.ask(|c| one(c, id))?.ok_or(StoreError::NoSuchAccount(id))
    }

    /// Registrations an account has left in this hour.
    ///
    /// # Errors
    /// No such account, or the disk's.
    pub fn registrations_left(&self, id: AccountId, now: WallUs) -> Result<usize, StoreError> {
        let sql = "SELECT registrations FROM accounts WHERE id = ?1";
        let found = self.ask(|c| c.query_row(sql, [id.0], |row| row.get::<_, Vec<u8>>(0)).optional())?;
        Ok(read_registrations(&found.ok_or(StoreError::NoSuchAccount(id))?).left(now))
    }

    /// The account whose token this is; compares hashes.
    ///
    /// # Errors
    /// The disk's.
    pub fn account_by_token(&self, token: &str) -> Result<Option<AccountRecord>, StoreError> {
        let Some(hash) = AccountToken::hash(token) else { return Ok(None) };
        self.ask(|c| {
            let sql = format!("SELECT {COLUMNS} FROM accounts WHERE token_hash = ?1");
            c.prepare_cached(&sql)?.query_row([hash], read_account).optional()
        })
    }
}

fn one(connection: &Connection, id: AccountId) -> rusqlite::Result<Option<AccountRecord>> {
    let sql = format!("SELECT {COLUMNS} FROM accounts WHERE id = ?1");
    connection.prepare_cached(&sql)?.query_row([id.0], read_account).optional()
}

fn read_account(row: &Row<'_>) -> rusqlite::Result<AccountRecord> {
    Ok(AccountRecord {
        id: AccountId(row.get(0)?),
        name: row.get(1)?,
        email: row.get(2)?,
        plan: row.get(3)?,
        created_at: WallUs(row.get(4)?),
        tests_taken: row.get(5)?,
        test_day: row.get(6)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{NOW, new_account, reopen, store};

    #[test]
    fn an_account_is_made_found_by_its_token_and_changed() {
        let (_dir, mut store) = store();
        let (account, token) = store.create_account(&new_account(), NOW).unwrap();
        assert_eq!((token.reveal().len(), format!("{token:?}").as_str()), (68, "AccountToken(…)"));
        let reader = store.reader().unwrap();
        assert_eq!(reader.accounts().unwrap(), std::slice::from_ref(&account));
        assert_eq!(reader.account_by_token(token.reveal()).unwrap(), Some(account.clone()));
        for foreign in ["", "act_", &token.reveal().to_uppercase(), &token.reveal()[..67]] {
            assert_eq!(reader.account_by_token(foreign).unwrap(), None, "{foreign}");
        }
        let (same, second) = store.rotate_account_token(account.id).unwrap();
        assert_eq!(same, account);
        assert_eq!(reader.account_by_token(token.reveal()).unwrap(), None);
        assert_eq!(reader.account_by_token(second.reveal()).unwrap().unwrap().id, account.id);
        assert_eq!(store.set_plan(account.id, "free").unwrap().plan, "free");
        assert_eq!(reader.account(account.id).unwrap().plan, "free");
        let absent = AccountId(99);
        assert_eq!(store.set_plan(absent, "free").unwrap_err().code(), "no_such_account");
        assert_eq!(store.rotate_account_token(absent).unwrap_err().code(), "no_such_account");
        assert_eq!(store.take_test(absent, NOW).unwrap_err().code(), "no_such_account");
        assert_eq!(store.take_registration(absent, NOW).unwrap_err().code(), "no_such_account");
    }

    #[test]
    fn values_outside_their_bounds_are_named() {
        let (_dir, mut store) = store();
        let field = |store: &mut Store, change: &dyn Fn(&mut NewAccount)| {
            let mut new = new_account();
            change(&mut new);
            match store.create_account(&new, NOW) {
                Err(StoreError::Invalid { field, .. }) => field,
                other => panic!("{other:?}"),
            }
        };
        for name in ["", "a\nb", &"x".repeat(limits::ACCOUNT_NAME_BYTES + 1)] {
            assert_eq!(field(&mut store, &|new| new.name = name.to_owned()), "name");
        }
        let long = format!("{}@example.org", "x".repeat(limits::EMAIL_BYTES));
        for email in ["nobody", "@", "a@b\r\nBcc: c@d.org", "a b@c.org", "a@", "a@b@c", &long] {
            assert_eq!(field(&mut store, &|new| new.email = email.to_owned()), "email", "{email}");
        }
        for plan in ["", "Phantom", "a b", &"x".repeat(limits::PLAN_NAME_BYTES + 1)] {
            assert_eq!(field(&mut store, &|new| new.plan = plan.to_owned()), "plan");
        }
        let no_mail = NewAccount { email: String::new(), ..new_account() };
        assert!(store.create_account(&no_mail, NOW).is_ok());
    }

    #[test]
    fn budgets_outlive_the_process_and_midnight_renews_the_tests() {
        let (dir, mut store) = store();
        let (account, _token) = store.create_account(&new_account(), NOW).unwrap();
        // 2024-03-09, 23:59:00 UTC.
        let at = |secs: i64| WallUs::from_secs(1_710_028_740 + secs);
        for left in (0..50).rev() {
            if left % 17 == 0 {
                store = reopen(&dir, store);
            }
            assert_eq!(store.take_test(account.id, at(0)).unwrap(), Ok(left));
        }
        store = reopen(&dir, store);
        assert!(store.take_test(account.id, at(59)).unwrap().is_err());
        assert_eq!(store.take_test(account.id, at(60)).unwrap(), Ok(49));
        assert_eq!(store.account(account.id).unwrap().tests_taken, 1);

        for n in 0..10 {
            assert_eq!(store.take_registration(account.id, at(n)).unwrap(), Ok(()));
        }
        store = reopen(&dir, store);
        let refused = store.take_registration(account.id, at(600)).unwrap();
        assert!(matches!(refused, Err(RegistrationRefusal::TooOften { limit: 10, .. })), "{refused:?}");
        assert_eq!(store.take_registration(account.id, at(3_600)).unwrap(), Ok(()));
        assert!(store.take_registration(account.id, at(3_600)).unwrap().is_err());
    }

    #[test]
    fn a_token_is_in_no_file() {
        let (dir, mut store) = store();
        let (_account, token) = store.create_account(&new_account(), NOW).unwrap();
        crate::store::testing::assert_in_no_file(&dir, token.reveal());
        assert_eq!(format!("{token:?}"), "AccountToken(…)");
    }
}
