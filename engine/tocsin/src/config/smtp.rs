//! `[smtp]` as typed data: the server's URL taken apart, and the sender.
//!
//! Contract: pure; touches neither files nor the network. [`MailServer`] comes from one URL and says
//! what is wrong with it. A password in the URL is refused without being shown. Used at start and by
//! `tocsin check`.

use std::fmt::Display;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use lettre::message::Mailbox;
use url::Url;

use super::ConfigError;
use super::read::Reader;

/// Where mail goes, and from whom; only when `smtp.url` is set.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "default.toml documents every key")]
pub struct Smtp {
    pub server: MailServer,
    pub password_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
    pub from: Mailbox,
}

/// What `smtp.url` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailServer {
    /// A name or an address, without brackets.
    pub host: String,
    /// 465 for `smtps:`, else 587, where the URL names none.
    pub port: u16,
    /// How the connection is encrypted.
    pub encryption: Encryption,
    /// Who signs in; `None`: nobody.
    pub user: Option<String>,
}

/// How a connection to a mail server is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// Not at all: for a relay on this machine.
    None,
    /// By STARTTLS where the server offers it.
    Opportunistic,
    /// By STARTTLS; a server that does not offer it gets nothing.
    Required,
    /// From the first byte.
    Wrapped,
}

/// What is wrong with a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadServer {
    /// It is no URL, or none of these schemes.
    Form,
    /// No name or address of a server.
    Host,
    /// It holds a password. The URL must not be shown.
    Password,
    /// A parameter that means nothing.
    Parameter,
    /// The user's name is no text.
    User,
    /// The password would cross the network in the clear.
    Clear,
}

impl Display for BadServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            BadServer::Form => "takes smtp://[USER@]HOST[:PORT][?tls=required] or smtps://[USER@]HOST[:PORT]",
            BadServer::Host => "names no server: smtp://HOST[:PORT] or smtps://HOST[:PORT]",
            BadServer::Password => {
                "must not hold a password: put it into a file and name that in password_file"
            }
            BadServer::Parameter => {
                "takes no path and no parameter but ?tls=required or ?tls=opportunistic, on smtp:// only"
            }
            BadServer::User => "has a user that is no text: write %40 for @, %25 for %",
            BadServer::Clear => "would send the password unencrypted: use smtps:// or add ?tls=required",
        })
    }
}

impl FromStr for MailServer {
    type Err = BadServer;

    fn from_str(text: &str) -> Result<MailServer, BadServer> {
        let url = Url::parse(text).map_err(|_| without_password(text, BadServer::Form))?;
        if url.password().is_some() {
            return Err(BadServer::Password);
        }
        if !matches!(url.scheme(), "smtp" | "smtps") {
            return Err(BadServer::Form);
        }
        let tls = match (url.query(), url.path(), url.fragment()) {
            (None, "" | "/", None) => None,
            (Some(query), "" | "/", None) => Some(query),
            _ => return Err(BadServer::Parameter),
        };
        let (encryption, port) = match (url.scheme(), tls) {
            ("smtps", None) => (Encryption::Wrapped, 465),
            ("smtp", None) => (Encryption::None, 587),
            ("smtp", Some("tls=opportunistic")) => (Encryption::Opportunistic, 587),
            ("smtp", Some("tls=required")) => (Encryption::Required, 587),
            _ => return Err(BadServer::Parameter),
        };
        let host = url.host_str().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
        if host.is_empty() || !host.bytes().all(fits) || url.port() == Some(0) {
            return Err(BadServer::Host);
        }
        let user = match url.username() {
            "" => None,
            name => Some(decode(name).ok_or(BadServer::User)?),
        };
        let clear = matches!(encryption, Encryption::None | Encryption::Opportunistic);
        if user.is_some() && clear && !is_local(host) {
            return Err(BadServer::Clear);
        }
        Ok(MailServer { host: host.to_owned(), port: url.port().unwrap_or(port), encryption, user })
    }
}

/// A URL that does not parse may still hold a password: it is not shown then.
fn without_password(text: &str, problem: BadServer) -> BadServer {
    let userinfo = text.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@'));
    if userinfo.is_some_and(|(user, _)| user.contains(':')) { BadServer::Password } else { problem }
}

fn is_local(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Undoes the percent signs of a user's name. `None`: a broken one, no UTF-8, or control characters.
fn decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|b| char::from(b).to_digit(16));
        let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
        decoded.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(decoded).ok().filter(|name| !name.contains(char::is_control))
}

/// Reads the section.
pub(super) fn read(read: &Reader<'_>) -> Result<Option<Smtp>, ConfigError> {
    let (url, from) = (read.text("smtp.url")?, read.text("smtp.from")?);
    if url.is_empty() {
        return Ok(None);
    }
    let server: MailServer = match url.parse() {
        Ok(server) => server,
        Err(BadServer::Password) => return Err(read.hidden_error("smtp.url", BadServer::Password)),
        Err(problem) => return Err(read.error("smtp.url", problem)),
    };
    let example = "\"Tocsin <alerts@example.com>\"";
    if from.is_empty() {
        return Err(read.error("smtp.from", format!("is needed with smtp.url: {example}")));
    }
    let from = from.parse::<Mailbox>().ok().filter(|from| {
        // The domain becomes part of the Message-ID, and not every server takes other characters.
        from.email.to_string().is_ascii() && !from.to_string().contains(char::is_control)
    });
    let from = from.ok_or_else(|| read.error("smtp.from", format!("takes an address such as {example}")))?;
    let password_file = read.path("smtp.password_file")?;
    match (&server.user, &password_file) {
        (Some(_), None) => {
            Err(read.error("smtp.password_file", "is needed: smtp.url names a user who signs in"))
        }
        (None, Some(_)) => {
            Err(read.error("smtp.password_file", "is of no use: smtp.url names no user (smtps://USER@HOST)"))
        }
        _ => Ok(Some(Smtp { server, password_file, ca_file: read.path("smtp.ca_file")?, from })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Layers};

    #[test]
    fn urls_are_taken_apart() {
        let rows = [
            ("smtp://mail.example.com", "mail.example.com", 587, Encryption::None, None),
            ("smtp://127.0.0.1:25/", "127.0.0.1", 25, Encryption::None, None),
            ("smtp://[::1]:2525", "::1", 2525, Encryption::None, None),
            ("smtps://m.example.com", "m.example.com", 465, Encryption::Wrapped, None),
            ("smtps://u@m.example.com:10465", "m.example.com", 10465, Encryption::Wrapped, Some("u")),
            (
                "smtp://u%40x.org@m.example?tls=required",
                "m.example",
                587,
                Encryption::Required,
                Some("u@x.org"),
            ),
            ("smtp://m.example:26?tls=opportunistic", "m.example", 26, Encryption::Opportunistic, None),
            ("smtp://u@localhost:25", "localhost", 25, Encryption::None, Some("u")),
        ];
        for (text, host, port, encryption, user) in rows {
            let user = user.map(str::to_owned);
            let expected = MailServer { host: host.to_owned(), port, encryption, user };
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn bad_urls_say_what_is_wrong() {
        let rows = [
            ("", BadServer::Form),
            ("mail.example.com:25", BadServer::Form),
            ("http://mail.example.com", BadServer::Form),
            ("smtp:", BadServer::Host),
            ("smtp://", BadServer::Host),
            ("smtp://a b", BadServer::Form),
            ("smtp://m%0d%0a.example", BadServer::Host),
            ("smtp://m.example:0", BadServer::Host),
            ("smtp://m.example:99999", BadServer::Form),
            ("smtp://u:hunter2@m.example", BadServer::Password),
            ("smtp://u:hunter2@m.example:99999", BadServer::Password),
            ("smtps://m.example?tls=required", BadServer::Parameter),
            ("smtp://m.example?tls=none", BadServer::Parameter),
            ("smtp://m.example/name", BadServer::Parameter),
            ("smtp://m.example#x", BadServer::Parameter),
            ("smtps://u%zz@m.example", BadServer::User),
            ("smtps://u%0a@m.example", BadServer::User),
            ("smtps://u%ff@m.example", BadServer::User),
            ("smtp://u@m.example", BadServer::Clear),
            ("smtp://u@m.example?tls=opportunistic", BadServer::Clear),
        ];
        for (text, expected) in rows {
            assert_eq!(text.parse::<MailServer>(), Err(expected), "{text}");
        }
    }

    fn config(section: &str) -> Result<Option<Smtp>, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("[smtp]\n{section}")).unwrap();
        let layers = Layers::defaults().unwrap().with_file(file.path())?;
        Config::from_layers(&layers).map(|config| config.smtp)
    }

    #[test]
    fn errors_name_the_key_and_never_show_a_password() {
        assert_eq!(config("from = \"nonsense\"").unwrap(), None, "off without a URL");
        let from = "from = \"Tocsin <alerts@example.com>\"\n";
        let rows = [
            ("url = \"ftp://m\"".to_owned(), "`smtp.url = ", "takes smtp://"),
            ("url = \"smtp://m\"".to_owned(), "`smtp.from = ", "is needed with smtp.url"),
            ("url = \"smtp://m\"\nfrom = \"alerts\"".to_owned(), "`smtp.from = ", "takes an address such as"),
            ("url = \"smtp://m\"\nfrom = \"a@é.example\"".to_owned(), "`smtp.from = ", "takes an address"),
            (
                "url = \"smtp://m\"\nfrom = \"a@b.example\\r\\nBcc: x@y.example\"".to_owned(),
                "`smtp.from = ",
                "takes an address",
            ),
            (format!("{from}url = \"smtp://u:hunter2@m\""), "`smtp.url`: ", "must not hold a password"),
            (format!("{from}url = \"smtps://u@m\""), "`smtp.password_file = ", "is needed"),
            (
                format!("{from}url = \"smtps://m\"\npassword_file = \"x\""),
                "`smtp.password_file = ",
                "no user",
            ),
        ];
        for (section, key, problem) in rows {
            let error = config(&section).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains(problem), "{section}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        let section = format!("{from}url = \"smtps://u@m\"\npassword_file = \"/p\"\nca_file = \"/c\"");
        let smtp = config(&section).unwrap().unwrap();
        assert_eq!((smtp.from.email.domain(), smtp.server.port), ("example.com", 465));
        assert_eq!((smtp.password_file, smtp.ca_file), (Some("/p".into()), Some("/c".into())));
    }
}
