//! Files with an operator's key to an exchange.
//!
//! Contract: read once at the start, and by `tocsin check`. The file holds two lines, the key and the secret
//! ([`Credentials::parse`]), and nobody but its owner may read it; below a credentials directory of the service
//! manager the manager sees to that. What was read is wiped. Errors name the file and the remedy, and repeat
//! nothing of it. Blocks on the file.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use tocsin_core::limits;
use tocsin_core::source::stream::credentials::{BadCredentials, Credentials};
use zeroize::Zeroizing;

/// Longest file: two words and some comment.
const FILE_BYTES: u64 = 16 * limits::CREDENTIAL_BYTES as u64;
/// Where the service manager keeps credentials, each below a directory that only the service may enter.
const MANAGED: &str = "/run/credentials";

/// Why a file of credentials is not used.
#[derive(Debug)]
pub struct CredentialsError {
    file: PathBuf,
    fault: Fault,
}

#[derive(Debug)]
enum Fault {
    Io(io::Error),
    NotAFile,
    /// Its mode.
    Open(u32),
    TooLong,
    NotText,
    Content(BadCredentials),
}

impl fmt::Display for CredentialsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        match &self.fault {
            Fault::Io(error) if error.kind() == io::ErrorKind::NotFound => {
                write!(
                    f,
                    "{file} does not exist: write the key and the secret into it, a line each, mode 0600"
                )
            }
            Fault::Io(error) => write!(f, "reading {file}: {error}"),
            Fault::NotAFile => write!(f, "{file} is not a file"),
            Fault::Open(mode) => {
                write!(f, "{file} can be read by others (mode {:04o}): run `chmod 600 {file}`", mode & 0o7777)
            }
            Fault::TooLong => write!(f, "{file} is longer than {FILE_BYTES} bytes"),
            Fault::NotText => write!(f, "{file} is no text"),
            Fault::Content(bad) => write!(f, "{file} {bad}"),
        }
    }
}

impl std::error::Error for CredentialsError {}

impl CredentialsError {
    /// Whether this user may not read it: another one may.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(&self.fault, Fault::Io(error) if error.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// Reads a file of credentials.
///
/// # Errors
/// See the module head.
pub fn read(file: &Path) -> Result<Credentials, CredentialsError> {
    read_unless(file, is_managed(file)).map_err(|fault| CredentialsError { file: file.to_owned(), fault })
}

fn is_managed(file: &Path) -> bool {
    let own = std::env::var_os("CREDENTIALS_DIRECTORY").filter(|dir| !dir.is_empty());
    file.starts_with(MANAGED) || own.is_some_and(|dir| file.starts_with(dir))
}

fn read_unless(file: &Path, managed: bool) -> Result<Credentials, Fault> {
    let open = File::open(file).map_err(Fault::Io)?;
    // Of the open file: what is checked is what is read.
    let metadata = open.metadata().map_err(Fault::Io)?;
    if !metadata.is_file() {
        return Err(Fault::NotAFile);
    }
    if metadata.mode() & 0o077 != 0 && !managed {
        return Err(Fault::Open(metadata.mode()));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_BYTES as usize + 1));
    open.take(FILE_BYTES + 1).read_to_end(&mut bytes).map_err(Fault::Io)?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(Fault::TooLong);
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| Fault::NotText)?;
    Credentials::parse(text).map_err(Fault::Content)
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions, write};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_a_file_of_ones_own_is_read_and_errors_tell_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("binance");
        let said = |file: &Path| read(file).unwrap_err().to_string();
        assert!(said(&file).contains("does not exist: write the key"), "{}", said(&file));
        write(&file, "the-key\nthe-secret\n").unwrap();
        for mode in [0o640, 0o604, 0o660] {
            set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            let told = said(&file);
            assert!(told.contains(&format!("(mode {mode:04o}): run `chmod 600 ")), "{told}");
            assert!(read_unless(&file, true).is_ok(), "kept by the service manager");
        }
        set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        assert!(read(&file).is_ok());
        for (content, says) in [
            (&b"the-key\n"[..], "holds 1 lines"),
            (b"the-key\nthe secret\n", "the secret (line 2) holds other characters"),
            (&[0xFF, 0xFE], "is no text"),
            (&[b'\n'; 16 * 512 + 1], "is longer than"),
        ] {
            write(&file, content).unwrap();
            let told = said(&file);
            assert!(
                told.contains(says) && !told.contains("the-key") && !told.contains("the secret\n"),
                "{told}"
            );
        }
        assert!(said(dir.path()).contains("is not a file"));
    }
}
