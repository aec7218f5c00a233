//! How a connection is met before any request: with good TLS, with TLS gone wrong, or with none.
//!
//! Contract: a [`Greeting`] is plain data; [`Greeter`] holds the certificates they need and is made
//! when they are set, so that what cannot be made fails there. Protocol versions that the TLS library
//! no longer speaks are answered with records written by hand. Blocks on the connection.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::version::TLS12;

use crate::certificate::{CertChange, TestCa};
use crate::error::SimError;
use crate::receiver::catalogue::Entry;
use crate::server::{After, Link, Transport, garbage};

/// How long a connection that is never read stays: longer than any client waits.
const NEVER_READ: Duration = Duration::from_secs(60);

/// How a connection is met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Greeting {
    /// TLS 1.2 or 1.3 with a good certificate.
    #[default]
    Good,
    /// TLS 1.2 only, with a good certificate.
    Tls12,
    /// A certificate signed by itself.
    SelfSigned,
    /// A certificate of an authority the client was not told of.
    OtherCa,
    /// A certificate that has expired.
    Expired,
    /// A certificate that is not yet valid.
    NotYetValid,
    /// A certificate for another host.
    WrongName,
    /// A server of before 2008: answers with a `ServerHello` of TLS 1.1.
    Tls11Only,
    /// A server that refuses the client's versions: the alert `protocol_version`.
    VersionAlert,
    /// A server that shares no cipher suite: the alert `handshake_failure`.
    NoCommonCipher,
    /// Plain HTTP: a 400 in clear text.
    PlainHttp,
    /// Bytes that are no TLS.
    Garbage,
    /// A reset at once.
    Reset,
    /// A close in good order at once.
    Close,
    /// Takes the connection and never reads; a reset after a minute.
    NeverRead,
    /// Reads whatever comes and never answers.
    Silent,
}

const TABLE: &[(Greeting, Entry)] = &[
    (Greeting::Good, entry("good", "TLS 1.2 or 1.3, a good certificate")),
    (Greeting::Tls12, entry("tls12", "TLS 1.2 only, a good certificate")),
    (Greeting::SelfSigned, entry("self-signed", "a certificate signed by itself")),
    (Greeting::OtherCa, entry("other-ca", "a certificate of an unknown authority")),
    (Greeting::Expired, entry("expired", "a certificate that has expired")),
    (Greeting::NotYetValid, entry("not-yet-valid", "a certificate that is not yet valid")),
    (Greeting::WrongName, entry("wrong-name", "a certificate for another host")),
    (Greeting::Tls11Only, entry("tls11", "a ServerHello of TLS 1.1")),
    (Greeting::VersionAlert, entry("version-alert", "the alert protocol_version")),
    (Greeting::NoCommonCipher, entry("no-cipher", "the alert handshake_failure: no common cipher suite")),
    (Greeting::PlainHttp, entry("plain-http", "a 400 in clear text")),
    (Greeting::Garbage, entry("garbage", "bytes that are no TLS")),
    (Greeting::Reset, entry("reset", "a reset at once")),
    (Greeting::Close, entry("close", "a close in good order at once")),
    (Greeting::NeverRead, entry("never-read", "takes the connection and never reads")),
    (Greeting::Silent, entry("silent", "reads, never answers the handshake")),
];

const fn entry(usage: &'static str, what: &'static str) -> Entry {
    Entry { usage, what }
}

/// Every greeting with its name.
pub fn greetings() -> impl Iterator<Item = Entry> {
    TABLE.iter().map(|(_, entry)| *entry)
}

impl Greeting {
    /// Reads a name.
    ///
    /// # Errors
    /// [`SimError::Behaviour`], with the text.
    pub fn parse(text: &str) -> Result<Greeting, SimError> {
        let known = TABLE.iter().find(|(_, entry)| entry.usage == text);
        known
            .map(|(greeting, _)| *greeting)
            .ok_or_else(|| SimError::Behaviour(format!("no greeting is called {text:?}")))
    }

    /// The certificate it shows, if it comes that far.
    const fn certificate(self) -> Option<CertChange> {
        Some(match self {
            Greeting::Good | Greeting::Tls12 => CertChange::Renewed,
            Greeting::SelfSigned => CertChange::SelfSigned,
            Greeting::OtherCa => CertChange::OtherCa,
            Greeting::Expired => CertChange::Expired,
            Greeting::NotYetValid => CertChange::NotYetValid,
            Greeting::WrongName => CertChange::WrongName,
            _ => return None,
        })
    }
}

/// The greetings of a receiver, taken in turn; the last repeats.
pub(super) struct Greeter {
    turns: Vec<Greeting>,
    next: usize,
    configs: BTreeMap<Greeting, Arc<ServerConfig>>,
}

impl Greeter {
    pub(super) fn new(ca: &TestCa, hosts: &[String], turns: Vec<Greeting>) -> Result<Greeter, SimError> {
        let mut greeter = Greeter { turns: Vec::new(), next: 0, configs: BTreeMap::new() };
        greeter.set(ca, hosts, turns)?;
        Ok(greeter)
    }

    /// Begins another list. Certificates made before are kept, and so are their TLS sessions.
    pub(super) fn set(
        &mut self,
        ca: &TestCa,
        hosts: &[String],
        turns: Vec<Greeting>,
    ) -> Result<(), SimError> {
        for greeting in &turns {
            let Some(change) = greeting.certificate() else { continue };
            if !self.configs.contains_key(greeting) {
                let versions =
                    if *greeting == Greeting::Tls12 { &[&TLS12] } else { rustls::DEFAULT_VERSIONS };
                let config = ca.server_config_for("Tocsin simulated receiver", hosts, change, versions)?;
                self.configs.insert(*greeting, config);
            }
        }
        (self.turns, self.next) = (turns, 0);
        Ok(())
    }

    /// How the next connection is met.
    pub(super) fn turn(&mut self) -> (Greeting, Option<Arc<ServerConfig>>) {
        let greeting = self.turns.get(self.next).or(self.turns.last()).copied().unwrap_or_default();
        self.next = self.next.saturating_add(1);
        (greeting, self.configs.get(&greeting).cloned())
    }
}

/// Meets a connection: with a transport that carries requests, or with the way it ends.
pub(super) fn meet(
    link: &Link,
    greeting: Greeting,
    config: Option<Arc<ServerConfig>>,
) -> Result<Transport, After> {
    if config.is_some() {
        return link.transport(config).map_err(|_| After::Close);
    }
    let mut wire = link.plain();
    let told = match greeting {
        Greeting::Reset => return Err(After::Reset),
        Greeting::NeverRead => {
            // Without reading, the client's close cannot be seen: so not for ever.
            link.pause(NEVER_READ);
            return Err(After::Abandon);
        }
        Greeting::Silent => {
            let mut sink = [0; 256];
            while matches!(wire.read(&mut sink), Ok(1..)) {}
            return Err(After::Close);
        }
        Greeting::Tls11Only => server_hello_of_tls11(),
        // Fatal (2), protocol_version (70), in the oldest record version a server may use.
        Greeting::VersionAlert => vec![21, 3, 1, 0, 2, 2, 70],
        // Fatal (2), handshake_failure (40): "unable to negotiate an acceptable set of security
        // parameters" (RFC 5246 section 7.2.2).
        Greeting::NoCommonCipher => vec![21, 3, 3, 0, 2, 2, 40],
        Greeting::PlainHttp => plain_refusal(),
        Greeting::Garbage => garbage(),
        _ => return Err(After::Close),
    };
    link.count(|c| c.tls_failures += 1);
    // A client that is gone already has failed as it was to.
    let _ = read_record(&mut wire).and_then(|()| link.send(&mut wire, &told));
    Err(After::Close)
}

/// Reads one TLS record and forgets it: an answer before the question would be another fault.
fn read_record(wire: &mut Transport) -> io::Result<()> {
    let mut head = [0; 5];
    wire.read_exact(&mut head)?;
    let [.., high, low] = head;
    let mut record = vec![0; usize::from(u16::from_be_bytes([high, low]))];
    wire.read_exact(&mut record)
}

/// What a server that knows TLS 1.1 at most answers to a newer client (RFC 4346 section 7.4.1.3):
/// version 3.2, a random, no session, `TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA`, no compression.
fn server_hello_of_tls11() -> Vec<u8> {
    const VERSION: [u8; 2] = [3, 2];
    let mut hello = VERSION.to_vec();
    hello.extend_from_slice(&[0x11; 32]);
    hello.extend_from_slice(&[0, 0xc0, 0x09, 0]);
    // A handshake record (22) holding a ServerHello (2); lengths of two and three bytes.
    let length = u8::try_from(hello.len()).unwrap_or(u8::MAX);
    let mut record = vec![22, VERSION[0], VERSION[1], 0, length.saturating_add(4), 2, 0, 0, length];
    record.append(&mut hello);
    record
}

fn plain_refusal() -> Vec<u8> {
    let body = "The plain HTTP request was sent to HTTPS port\n";
    let length = body.len();
    format!("HTTP/1.1 400 Bad Request\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
        .into_bytes()
}
