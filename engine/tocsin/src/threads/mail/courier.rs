//! The connection to the mail server, and the thread that waits on it.
//!
//! Contract: [`Courier`] signs in, sends one mail after another over one connection and tells three
//! failures apart: the server takes nothing ([`Failure::Server`]), not this mail now
//! ([`Failure::Deferred`]), never this mail ([`Failure::Refused`]). [`Post`] runs it on a thread of its own,
//! so that whoever waits for a mail can stop waiting: nothing can break off a blocking call. Owner: the
//! mail thread. Allocates and blocks: [`Timeouts::step`] for each answer, but [`Timeouts::verdict`] for the
//! one to the mail itself. Answers are bounded by the library (100,000 bytes).
//!
//! Failure: a reason for people without password, recipient or control characters. A reused connection
//! that the server has closed is made again once, before the mail's first command was answered.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{Certificate, SmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};

use super::letter::Letter;
use crate::config::{Encryption, MailServer, Smtp};

/// How long an answer is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Connecting, each command, each piece written.
    pub step: Duration,
    /// After the end of a mail. RFC 5321 4.5.3.2.6 asks for 10 minutes: a mail given up earlier may have
    /// been taken, and would be sent twice.
    pub verdict: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts { step: Duration::from_secs(30), verdict: Duration::from_secs(600) }
    }
}

/// Longest password file and reason, in bytes and characters.
const PASSWORD_BYTES: u64 = 4_096;
const REASON_CHARS: usize = 300;
/// Longest file of authorities.
const CA_FILE_BYTES: u64 = 4 << 20;
/// How often someone who waits looks whether to stop.
pub(super) const GLANCE: Duration = Duration::from_millis(100);

/// Why a mail was not taken. The texts are for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The server cannot be reached, or takes no mail of ours.
    Server(String),
    /// It may take this one later.
    Deferred(String),
    /// It will not take this one.
    Refused(String),
}

/// A mail server and the connection to it.
pub(super) struct Courier {
    server: MailServer,
    password_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    timeouts: Timeouts,
    connection: Option<SmtpConnection>,
}

/// Why a mail failed, and whether another connection may take it.
struct Broken {
    failure: Failure,
    stale: bool,
}

impl Courier {
    pub(super) fn new(smtp: &Smtp, timeouts: Timeouts) -> Courier {
        Courier {
            server: smtp.server.clone(),
            password_file: smtp.password_file.clone(),
            ca_file: smtp.ca_file.clone(),
            timeouts,
            connection: None,
        }
    }

    /// Reads the files it needs, as each connection will.
    pub(super) fn check(&self) -> Result<(), String> {
        self.password()?;
        self.tls().map(drop)
    }

    /// Sends one mail. `Ok`: the server has taken it.
    pub(super) fn send(&mut self, letter: &Letter) -> Result<(), Failure> {
        let reused = self.connection.is_some();
        match self.attempt(letter) {
            Err(broken) if broken.stale && reused => self.attempt(letter),
            other => other,
        }
        .map_err(|broken| broken.failure)
    }

    /// Ends the connection in order.
    pub(super) fn hang_up(&mut self) {
        if let Some(mut connection) = self.connection.take() {
            let _ = connection.quit();
        }
    }

    /// The connection is kept only after a success: any other ends it.
    fn attempt(&mut self, letter: &Letter) -> Result<(), Broken> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().map_err(|why| Broken { failure: Failure::Server(why), stale: false })?,
        };
        let parameters = parameters(&connection, letter)
            .map_err(|why| Broken { failure: Failure::Refused(why.to_owned()), stale: false })?;
        connection.command(Mail::new(Some(letter.from.clone()), parameters)).map_err(|error| Broken {
            failure: Failure::Server(reason("MAIL", &error, letter)),
            stale: error.is_transient() || error.status().is_none(),
        })?;
        let judged =
            |step: &'static str| move |error| Broken { failure: judge(step, &error, letter), stale: false };
        connection.command(Rcpt::new(letter.to.clone(), Vec::new())).map_err(judged("RCPT"))?;
        connection.command(Data).map_err(judged("DATA"))?;
        let _ = connection.set_timeout(Some(self.timeouts.verdict));
        connection.message(&letter.bytes).map_err(judged("the mail"))?;
        let _ = connection.set_timeout(Some(self.timeouts.step));
        self.connection = Some(connection);
        Ok(())
    }

    fn connect(&self) -> Result<SmtpConnection, String> {
        let MailServer { host, port, encryption, user } = &self.server;
        let password = self.password()?;
        let tls = self.tls()?;
        let name = ClientId::default();
        let wrapped = (*encryption == Encryption::Wrapped).then_some(&tls);
        let address = (host.as_str(), *port);
        let mut connection = SmtpConnection::connect(address, Some(self.timeouts.step), &name, wrapped, None)
            .map_err(|error| connecting(&error))?;
        let upgrade = match encryption {
            Encryption::None | Encryption::Wrapped => false,
            Encryption::Opportunistic => connection.can_starttls(),
            Encryption::Required => true,
        };
        if upgrade {
            connection.starttls(&tls, &name).map_err(|error| connecting(&error))?;
        }
        if let (Some(user), Some(password)) = (user, password) {
            let credentials = Credentials::new(user.clone(), password);
            connection.auth(DEFAULT_MECHANISMS, &credentials).map_err(|error| signing_in(&error))?;
        }
        Ok(connection)
    }

    fn password(&self) -> Result<Option<String>, String> {
        let Some(file) = &self.password_file else { return Ok(None) };
        let text = read(file, PASSWORD_BYTES).and_then(|bytes| {
            String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "is no text"))
        });
        let text = text.map_err(|error| format!("smtp.password_file {}: {error}", file.display()))?;
        let password = text.trim_end_matches(['\r', '\n']);
        if password.is_empty() || password.contains('\0') {
            return Err(format!("smtp.password_file {}: holds no password", file.display()));
        }
        Ok(Some(password.to_owned()))
    }

    fn tls(&self) -> Result<TlsParameters, String> {
        let mut builder = TlsParameters::builder(self.server.host.clone());
        if let Some(file) = &self.ca_file {
            let told = |error: &dyn std::fmt::Display| format!("smtp.ca_file {}: {error}", file.display());
            let pem = read(file, CA_FILE_BYTES).map_err(|error| told(&error))?;
            if !pem.windows(27).any(|part| part == b"-----BEGIN CERTIFICATE-----") {
                return Err(told(&"holds no certificate"));
            }
            builder =
                builder.add_root_certificate(Certificate::from_pem(&pem).map_err(|error| told(&error))?);
        }
        builder.build().map_err(|error| format!("TLS cannot be set up: {error}"))
    }
}

fn read(file: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(file)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("is longer than {most} bytes")));
    }
    Ok(bytes)
}

/// What the mail needs of the server beyond the minimum.
fn parameters(connection: &SmtpConnection, letter: &Letter) -> Result<Vec<MailParameter>, &'static str> {
    let offers = |extension| connection.server_info().supports_feature(extension);
    let mut parameters = Vec::new();
    if !letter.to.to_string().is_ascii() {
        if !offers(Extension::SmtpUtfEight) {
            return Err("the server takes no address with characters outside ASCII");
        }
        parameters.push(MailParameter::SmtpUtfEight);
    }
    if !letter.bytes.is_ascii() {
        if !offers(Extension::EightBitMime) {
            return Err("the server takes no 8-bit mail");
        }
        parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
    }
    Ok(parameters)
}

/// What a failure after `MAIL` means. 530 says that the server wants us to sign in: no fault of the
/// mail's, and there is no code for a mail that the connection did not survive.
fn judge(step: &str, error: &Error, letter: &Letter) -> Failure {
    let reason = reason(step, error, letter);
    match error.status().map(u16::from) {
        Some(530) => Failure::Server(reason),
        Some(500..=599) => Failure::Refused(reason),
        _ => Failure::Deferred(reason),
    }
}

fn reason(step: &str, error: &Error, letter: &Letter) -> String {
    let text = error.to_string().replace(&letter.to.to_string(), "RECIPIENT");
    shown(&format!("{step}: {text}"))
}

fn connecting(error: &Error) -> String {
    shown(&format!("connecting: {error}"))
}

/// A server may repeat what it was told: of its answer only the code is shown.
fn signing_in(error: &Error) -> String {
    match error.status() {
        Some(code) => format!("signing in: the server answers {code}"),
        None if error.is_client() => shown(&format!("signing in: {error}")),
        None => "signing in: the server ends the connection, or answers something else".to_owned(),
    }
}

fn shown(text: &str) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(REASON_CHARS).map(printable).collect()
}

/// What the mail thread asks for.
enum Job {
    Send(Box<Letter>),
    HangUp,
}

/// A courier on a thread of its own; that ends with the value, when the call it is in has returned.
pub(super) struct Post {
    jobs: Sender<Job>,
    verdicts: Receiver<Result<(), Failure>>,
}

impl Post {
    pub(super) fn start(mut courier: Courier) -> io::Result<Post> {
        let (jobs, inbox) = bounded::<Job>(2);
        let (outbox, verdicts) = bounded(1);
        std::thread::Builder::new().name("mail-smtp".to_owned()).spawn(move || {
            for job in inbox {
                match job {
                    Job::Send(letter) => {
                        if outbox.send(courier.send(&letter)).is_err() {
                            break;
                        }
                    }
                    Job::HangUp => courier.hang_up(),
                }
            }
            courier.hang_up();
        })?;
        Ok(Post { jobs, verdicts })
    }

    /// Sends one mail and waits for the verdict. `None`: `stop` was set, and `patience` later there was
    /// none yet; send nothing more then.
    pub(super) fn send(
        &mut self,
        letter: Letter,
        stop: &AtomicBool,
        patience: Duration,
    ) -> Option<Result<(), Failure>> {
        let ended = || Some(Err(Failure::Server("the sending thread has ended".to_owned())));
        if self.jobs.send(Job::Send(Box::new(letter))).is_err() {
            return ended();
        }
        let mut left = patience;
        loop {
            match self.verdicts.recv_timeout(GLANCE) {
                Ok(verdict) => return Some(verdict),
                Err(RecvTimeoutError::Disconnected) => return ended(),
                Err(RecvTimeoutError::Timeout) if !stop.load(Ordering::Relaxed) => {}
                Err(RecvTimeoutError::Timeout) if left.is_zero() => return None,
                Err(RecvTimeoutError::Timeout) => left = left.saturating_sub(GLANCE),
            }
        }
    }

    /// Ends the connection, without waiting for it.
    pub(super) fn hang_up(&mut self) {
        let _ = self.jobs.try_send(Job::HangUp);
    }
}
