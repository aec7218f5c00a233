//! The admin token: read from a file, or made on first start; compared in constant time.

use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use parking_lot::RwLock;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};

/// Shortest token accepted: what an administrator may write by hand.
const TOKEN_BYTES_MIN: usize = 16;
const TOKEN_BYTES_MAX: usize = 1_024;

/// SHA-256 of the token; the token itself is not kept.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken([u8; 32]);

impl core::fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("AdminToken(…)")
    }
}

impl AdminToken {
    /// Reads the token in `file`: its text without white space around it.
    ///
    /// # Errors
    /// The file cannot be read, or is shorter than 16 or longer than 1,024 bytes.
    pub fn from_file(file: &Path) -> io::Result<AdminToken> {
        let mut text = String::new();
        std::fs::File::open(file)?.take(TOKEN_BYTES_MAX as u64 + 2).read_to_string(&mut text)?;
        let token = text.trim();
        if !(TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&token.len()) {
            return Err(io::Error::other(format!(
                "a token has {TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX} bytes, this one {}",
                token.len()
            )));
        }
        Ok(AdminToken::from_text(token))
    }

    /// Reads the token in `file`, which is made (mode 0600, 64 random hex digits) when missing.
    ///
    /// # Errors
    /// As [`AdminToken::from_file`]; or it cannot be made.
    pub fn from_file_or_new(file: &Path) -> io::Result<AdminToken> {
        match AdminToken::from_file(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let mut bytes = [0; 32];
        SystemRandom::new().fill(&mut bytes).map_err(|_| io::Error::other("no random bytes"))?;
        let token: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        // Whole or not at all: a half-written token would lock everyone out.
        let unfinished = file.with_extension("token.new");
        let mut options = OpenOptions::new();
        let mut new = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        writeln!(new, "{token}")?;
        new.sync_all()?;
        std::fs::rename(&unfinished, file)?;
        Ok(AdminToken::from_text(&token))
    }

    fn from_text(token: &str) -> AdminToken {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        AdminToken(hash)
    }

    /// Whether `given` is the token. Takes as long for a near miss as for any other.
    #[must_use]
    pub fn matches(&self, given: &str) -> bool {
        let AdminToken(given) = AdminToken::from_text(given);
        self.0.iter().zip(given).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
    }
}

/// The token in force, which a reload may replace.
#[derive(Debug)]
pub struct LiveToken(RwLock<AdminToken>);

impl LiveToken {
    /// Begins with `token`.
    #[must_use]
    pub fn new(token: AdminToken) -> LiveToken {
        LiveToken(RwLock::new(token))
    }

    /// As [`AdminToken::matches`], of the token in force.
    #[must_use]
    pub fn matches(&self, given: &str) -> bool {
        self.0.read().matches(given)
    }

    /// From now on `token` alone opens the routes. Whether it is another one.
    pub fn replace(&self, token: AdminToken) -> bool {
        let mut in_force = self.0.write();
        let before = core::mem::replace(&mut *in_force, token);
        before != *in_force
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_once_private_and_compared_as_text() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("admin.token");
        let token = AdminToken::from_file_or_new(&file).unwrap();
        assert_eq!(AdminToken::from_file_or_new(&file).unwrap(), token);
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(token.matches(text.trim()) && !token.matches("") && !token.matches(&text));
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_short_or_missing_token_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("t");
        assert_eq!(AdminToken::from_file(&file).unwrap_err().kind(), io::ErrorKind::NotFound);
        std::fs::write(&file, "short\n").unwrap();
        assert!(AdminToken::from_file_or_new(&file).unwrap_err().to_string().contains("this one 5"));
    }
}
