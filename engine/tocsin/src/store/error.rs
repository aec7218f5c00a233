//! What can go wrong with the store, told so that an operator knows what to do next.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use tocsin_core::feed::key::KeyId;
use tocsin_core::limits;
use tocsin_core::webhook::board::EndpointId;

use super::webhook::accounts::AccountId;

/// An error of the store. Its text names the file and the remedy.
#[derive(Debug)]
#[allow(missing_docs, reason = "`Display` says what each means")]
pub enum StoreError {
    /// A file cannot be made, opened or read.
    Io { doing: &'static str, path: PathBuf, error: io::Error },
    /// Another process holds the store.
    Locked { path: PathBuf, holder: Option<u32> },
    /// The file is something else than a database.
    NotADatabase { path: PathBuf },
    /// It is a database of another program.
    Foreign { path: PathBuf, application_id: i32 },
    /// It was written by a later version.
    NewerSchema { path: PathBuf, found: i64, supported: i64 },
    /// Its pages contradict each other.
    Damaged { path: PathBuf, detail: String },
    /// The file system is full.
    DiskFull { path: PathBuf },
    /// The file or file system is read-only.
    ReadOnly { path: PathBuf },
    /// The file may not be opened.
    Permission { path: PathBuf },
    /// Anything else SQLite says.
    Sqlite { path: PathBuf, error: rusqlite::Error },
    /// No key has that number.
    NoSuchKey(KeyId),
    /// The key was revoked; that cannot be undone.
    KeyRevoked(KeyId),
    /// A value is outside its bounds.
    Invalid { field: &'static str, detail: String },
    /// As many keys as the store takes.
    TooManyKeys,
    /// The operating system gives no random bytes.
    NoRandomness,
    /// No account has that number.
    NoSuchAccount(AccountId),
    /// It still has endpoints.
    AccountInUse(AccountId),
    /// As many accounts as the store takes.
    TooManyAccounts,
    /// No endpoint has that number.
    NoSuchEndpoint(EndpointId),
    /// As many endpoints as an account may have.
    TooManyEndpoints,
    /// As many endpoints as an installation takes.
    EndpointsExhausted,
    /// The key file is not one.
    BadKeyFile { path: PathBuf, detail: String },
    /// Secrets are sealed, and the key file is not there.
    KeyFileMissing { path: PathBuf, endpoints: usize },
    /// Secrets are sealed under another key file.
    WrongKeyFile { path: PathBuf, endpoints: usize },
    /// A sealed secret does not open.
    Unsealable { path: PathBuf, endpoint: EndpointId },
    /// The service runs without webhooks.
    WebhooksOff,
}

impl StoreError {
    /// From SQLite, for the database at `path`.
    pub(crate) fn sqlite(path: &Path, error: rusqlite::Error) -> StoreError {
        let path = path.to_owned();
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => StoreError::NotADatabase { path },
            Some(ErrorCode::DatabaseCorrupt) => StoreError::Damaged { path, detail: error.to_string() },
            Some(ErrorCode::DiskFull) => StoreError::DiskFull { path },
            Some(ErrorCode::ReadOnly) => StoreError::ReadOnly { path },
            Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => StoreError::Permission { path },
            _ => StoreError::Sqlite { path, error },
        }
    }

    /// From the file system, while `doing` something with `path`.
    pub(crate) fn io(doing: &'static str, path: &Path, error: io::Error) -> StoreError {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::PermissionDenied => StoreError::Permission { path },
            io::ErrorKind::ReadOnlyFilesystem => StoreError::ReadOnly { path },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::DiskFull { path },
            _ => StoreError::Io { doing, path, error },
        }
    }

    /// Stable name of the error for programs (`--json`, the admin API).
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            StoreError::Io { .. } => "store_io",
            StoreError::Locked { .. } => "store_locked",
            StoreError::NotADatabase { .. } => "store_not_a_database",
            StoreError::Foreign { .. } => "store_foreign",
            StoreError::NewerSchema { .. } => "store_newer_schema",
            StoreError::Damaged { .. } => "store_damaged",
            StoreError::DiskFull { .. } => "store_disk_full",
            StoreError::ReadOnly { .. } => "store_read_only",
            StoreError::Permission { .. } => "store_permission",
            StoreError::Sqlite { .. } => "store_error",
            StoreError::NoSuchKey(_) => "no_such_key",
            StoreError::KeyRevoked(_) => "key_revoked",
            StoreError::Invalid { .. } => "invalid_value",
            StoreError::TooManyKeys => "too_many_keys",
            StoreError::NoRandomness => "no_randomness",
            StoreError::NoSuchAccount(_) => "no_such_account",
            StoreError::AccountInUse(_) => "account_in_use",
            StoreError::TooManyAccounts => "too_many_accounts",
            StoreError::NoSuchEndpoint(_) => "no_such_endpoint",
            StoreError::TooManyEndpoints => "too_many_endpoints",
            StoreError::EndpointsExhausted => "endpoints_exhausted",
            StoreError::BadKeyFile { .. } => "bad_key_file",
            StoreError::KeyFileMissing { .. } => "key_file_missing",
            StoreError::WrongKeyFile { .. } => "wrong_key_file",
            StoreError::Unsealable { .. } => "secret_unsealable",
            StoreError::WebhooksOff => "webhooks_off",
        }
    }

    /// Whether what was to be stored is at fault, so that trying again is of no use.
    #[must_use]
    pub fn blames_row(&self) -> bool {
        let StoreError::Sqlite { error, .. } = self else { return false };
        match error.sqlite_error_code() {
            None => matches!(error, rusqlite::Error::ToSqlConversionFailure(_)),
            Some(code) => {
                matches!(code, ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig)
            }
        }
    }
}

impl core::fmt::Display for StoreError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            StoreError::Io { doing, path, error } => write!(f, "{doing} {}: {error}", path.display()),
            StoreError::Locked { path, holder } => {
                write!(f, "{} is held by another process", path.display())?;
                if let Some(pid) = holder {
                    write!(f, " (process {pid})")?;
                }
                f.write_str("; stop it, or let it finish, and try again")
            }
            StoreError::NotADatabase { path } => {
                write!(f, "{} is not a database; move it away, or point data_dir elsewhere", path.display())
            }
            StoreError::Foreign { path, application_id } => write!(
                f,
                "{} belongs to another program (application id {application_id:#x}); point data_dir elsewhere",
                path.display()
            ),
            StoreError::NewerSchema { path, found, supported } => write!(
                f,
                "{} was written by a newer version (schema {found}, this one knows {supported}); \
                 run that version, or restore the copy made before the upgrade",
                path.display()
            ),
            StoreError::Damaged { path, detail } => {
                write!(
                    f,
                    "{} is damaged ({detail}); restore a backup, or rebuild it as \"A damaged store\" in \
                     operating.md says",
                    path.display()
                )
            }
            StoreError::DiskFull { path } => {
                write!(f, "no space left for {}; free some, nothing else is needed", path.display())
            }
            StoreError::ReadOnly { path } => write!(
                f,
                "{} is read-only; remount its file system or give this user write permission",
                path.display()
            ),
            StoreError::Permission { path } => write!(
                f,
                "no permission for {}; run as the user that owns data_dir (sudo -u tocsin), or fix its owner",
                path.display()
            ),
            StoreError::Sqlite { path, error } => write!(f, "{}: {error}", path.display()),
            StoreError::NoSuchKey(id) => write!(f, "there is no key {}", id.0),
            StoreError::KeyRevoked(id) => {
                write!(f, "key {} is revoked, which is final; create another", id.0)
            }
            StoreError::Invalid { field, detail } => write!(f, "{field}: {detail}"),
            StoreError::TooManyKeys => {
                write!(f, "the store takes at most {} keys", limits::KEYS)
            }
            StoreError::NoRandomness => f.write_str("the operating system gives no random bytes"),
            other => write_webhook_error(other, f),
        }
    }
}

/// What goes wrong with accounts, endpoints and their secrets.
fn write_webhook_error(error: &StoreError, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
    match error {
        StoreError::NoSuchAccount(id) => write!(f, "there is no account {}", id.0),
        StoreError::AccountInUse(id) => {
            write!(f, "account {} has been given an endpoint meanwhile; remove it again", id.0)
        }
        StoreError::TooManyAccounts => write!(f, "the store takes at most {} accounts", limits::ACCOUNTS),
        StoreError::NoSuchEndpoint(id) => write!(f, "there is no endpoint {}", id.0),
        StoreError::TooManyEndpoints => write!(
            f,
            "an account has at most {} endpoints; delete one first",
            limits::WEBHOOK_ENDPOINTS_PER_ACCOUNT
        ),
        StoreError::EndpointsExhausted => {
            write!(f, "an installation takes at most {} endpoints", limits::WEBHOOK_ENDPOINTS)
        }
        StoreError::BadKeyFile { path, detail } => write!(
            f,
            "{} is no key file ({detail}); restore it from a backup: a new one cannot open the secrets \
             sealed under it",
            path.display()
        ),
        StoreError::KeyFileMissing { path, endpoints } => write!(
            f,
            "{} is missing, and the secrets of {endpoints} endpoints are sealed under it; restore it from a \
             backup, or delete the endpoints and have them registered again",
            path.display()
        ),
        StoreError::WrongKeyFile { path, endpoints } => write!(
            f,
            "{} is not the key file under which the secrets of {endpoints} endpoints are sealed; restore the \
             one that belongs to this data directory",
            path.display()
        ),
        StoreError::Unsealable { path, endpoint } => write!(
            f,
            "the secret of endpoint {} does not open with {}; it was sealed under another key file or is \
             damaged: restore that file, or rotate the secret",
            endpoint.0,
            path.display()
        ),
        StoreError::WebhooksOff => f.write_str("this service runs without webhooks"),
        _ => f.write_str(error.code()),
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StoreError::Io { error, .. } => Some(error),
            StoreError::Sqlite { error, .. } => Some(error),
            _ => None,
        }
    }
}
