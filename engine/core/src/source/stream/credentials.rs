//! An operator's key to an exchange: how its file is read, and that it is never shown.
//!
//! Contract: [`Credentials::parse`] takes the file's text, which the caller has read and wipes. Two lines: the
//! key (Binance: API key; Upbit: access key), then the secret; empty lines and lines that begin with `#` do not
//! count. Memory that held either is wiped when it is dropped. Neither shows in `Debug` or in an error.

use core::fmt;

use zeroize::Zeroizing;

use crate::limits;

/// A key and its secret.
#[derive(Clone)]
pub struct Credentials {
    key: Zeroizing<String>,
    secret: Zeroizing<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// What is wrong with a file of credentials. Repeats nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadCredentials {
    /// It has not two lines but so many.
    Lines(usize),
    /// The key (`false`) or the secret (`true`) is longer than [`limits::CREDENTIAL_BYTES`].
    TooLong(bool),
    /// The key (`false`) or the secret (`true`) holds something else than letters, digits and `-_.+/=`.
    Characters(bool),
}

impl fmt::Display for BadCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let which = |secret: &bool| if *secret { "the secret (line 2)" } else { "the key (line 1)" };
        match self {
            BadCredentials::Lines(count) => {
                write!(f, "holds {count} lines; it takes two: the key, then the secret")
            }
            BadCredentials::TooLong(what) => {
                write!(f, "{} is longer than {} bytes", which(what), limits::CREDENTIAL_BYTES)
            }
            BadCredentials::Characters(what) => {
                write!(f, "{} holds other characters than letters, digits and -_.+/=", which(what))
            }
        }
    }
}

impl core::error::Error for BadCredentials {}

impl Credentials {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// See [`BadCredentials`].
    pub fn parse(text: &str) -> Result<Credentials, BadCredentials> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let (Some(key), Some(secret), 0) = (lines.next(), lines.next(), lines.count()) else {
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            return Err(BadCredentials::Lines(lines.count()));
        };
        for (word, is_secret) in [(key, false), (secret, true)] {
            if word.len() > limits::CREDENTIAL_BYTES {
                return Err(BadCredentials::TooLong(is_secret));
            }
            if !word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.+/=".contains(&b)) {
                return Err(BadCredentials::Characters(is_secret));
            }
        }
        Ok(Credentials { key: Zeroizing::new(key.to_owned()), secret: Zeroizing::new(secret.to_owned()) })
    }

    /// The key, to be sent.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// The secret, to sign with.
    pub(super) fn secret(&self) -> &[u8] {
        self.secret.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_lines_are_taken_and_never_shown() {
        let made = Credentials::parse("# for the bell\n\n  key-1  \r\nsecret/2=\n").unwrap();
        assert_eq!((made.key(), made.secret()), ("key-1", &b"secret/2="[..]));
        assert_eq!(format!("{made:?}"), "Credentials(…)");
    }

    #[test]
    fn what_is_wrong_is_said_without_repeating_it() {
        let long = "x".repeat(limits::CREDENTIAL_BYTES + 1);
        for (text, bad) in [
            ("", BadCredentials::Lines(0)),
            ("only-one\n#two\n", BadCredentials::Lines(1)),
            ("a\nb\nc\n", BadCredentials::Lines(3)),
            ("k y\nsecret", BadCredentials::Characters(false)),
            ("key\nse\"cret", BadCredentials::Characters(true)),
            (&format!("key\n{long}"), BadCredentials::TooLong(true)),
        ] {
            let got = Credentials::parse(text).unwrap_err();
            assert_eq!(got, bad);
            assert!(!got.to_string().contains("cret\"") && !got.to_string().contains("k y"), "{got}");
        }
    }
}
