//! Real receivers of webhooks, in the languages their owners write them in: the specification's own
//! (Express, FastAPI, Flask, PHP), written anew in its shape, and some that leave verification to the
//! official packages of Standard Webhooks and Svix.
//!
//! [`start_receiver`] starts one over HTTPS on a free port of 127.0.0.1, with a certificate of
//! [`Certificates`]. What drives it is up to the test: requests rendered by the core, or a running engine
//! whose `egress.allow_nets` holds 127.0.0.0/8 and whose `egress.ca_file` is [`Certificates::ca_file`]. A
//! secret that is only known after registration is given later, by [`Receiver::set_secret`].

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

pub mod sender;
pub mod snippets;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::Value;
use tempfile::TempDir;

/// How long a receiver may take to start or to tell of a request, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Where `scripts/setup-test-clients` put `part`. Never skips: a test that was not run is no pass.
pub fn installed(part: &str) -> PathBuf {
    let cache = std::env::var_os("TOCSIN_CACHE").map_or_else(|| repository().join(".cache"), PathBuf::from);
    let path = cache.join("clients").join(part);
    assert!(path.exists(), "{} is missing: run scripts/setup-test-clients", path.display());
    path
}

/// Which header a receiver checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checks {
    /// The specification's: the body alone.
    Specified,
    /// That of Standard Webhooks: id, time and body.
    Standard,
}

/// The receivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Express,
    FastApi,
    Flask,
    Php,
    StandardWebhooksPython,
    StandardWebhooksNode,
    SvixPython,
    SvixNode,
}

impl Kind {
    pub const ALL: [Kind; 8] = [
        Kind::Express,
        Kind::FastApi,
        Kind::Flask,
        Kind::Php,
        Kind::StandardWebhooksPython,
        Kind::StandardWebhooksNode,
        Kind::SvixPython,
        Kind::SvixNode,
    ];

    pub const fn checks(self) -> Checks {
        match self {
            Kind::Express | Kind::FastApi | Kind::Flask | Kind::Php => Checks::Specified,
            _ => Checks::Standard,
        }
    }

    fn command(self) -> Command {
        let (script, library) = match self {
            Kind::Express => ("express_receiver.cjs", None),
            Kind::FastApi => ("fastapi_receiver.py", None),
            Kind::Flask => ("flask_receiver.py", None),
            Kind::Php => ("php_receiver.cjs", None),
            Kind::StandardWebhooksPython => ("library_receiver.py", Some("standardwebhooks")),
            Kind::StandardWebhooksNode => ("library_receiver.cjs", Some("standardwebhooks")),
            Kind::SvixPython => ("library_receiver.py", Some("svix")),
            Kind::SvixNode => ("library_receiver.cjs", Some("svix")),
        };
        let mut command = if script.ends_with(".py") {
            let mut python = Command::new(installed("python/bin/python"));
            python.arg("-B");
            python
        } else {
            let mut node = Command::new("node");
            node.env("NODE_PATH", installed("node/node_modules"));
            node
        };
        command.arg(repository().join("engine/tocsin/tests/receivers").join(script)).args(library);
        command
    }
}

/// An authority of the test's own and a certificate of it for 127.0.0.1.
pub struct Certificates {
    dir: TempDir,
    pub ca_pem: String,
    certificate_pem: String,
    key_pem: String,
}

impl Certificates {
    pub fn new() -> Certificates {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority_key = KeyPair::generate().unwrap();
        let ca_pem = authority.self_signed(&authority_key).unwrap().pem();
        let issuer = Issuer::new(authority, authority_key);
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), &ca_pem).unwrap();
        Certificates { dir, ca_pem, certificate_pem: certificate.pem(), key_pem: key.serialize_pem() }
    }

    /// For `egress.ca_file`.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }
}

/// A receiver that runs; it ends when dropped.
pub struct Receiver {
    pub kind: Kind,
    /// Where it takes events.
    pub url: String,
    said: mpsc::Receiver<String>,
    stdin: Option<ChildStdin>,
    child: Child,
    stderr: Option<std::thread::JoinHandle<String>>,
    secret_file: PathBuf,
    _dir: TempDir,
}

/// Starts a receiver and waits until it listens. It reads `secret` anew for every request.
pub fn start_receiver(kind: Kind, secret: &str, certificates: &Certificates) -> Receiver {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| {
        let file = dir.path().join(name);
        std::fs::write(&file, text).unwrap();
        file
    };
    let secret_file = put("secret", secret);
    let mut command = kind.command();
    command
        .env("RECEIVER_CERT", put("cert.pem", &certificates.certificate_pem))
        .env("RECEIVER_KEY", put("key.pem", &certificates.key_pem))
        .env("RECEIVER_SECRET_FILE", &secret_file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let (say, said) = mpsc::channel();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    // Both end with the receiver.
    std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| say.send(line)));
    let mut errors = child.stderr.take().unwrap();
    let stderr = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = errors.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    let stdin = child.stdin.take();
    let (url, stderr) = (String::new(), Some(stderr));
    let mut receiver = Receiver { kind, url, said, stdin, child, stderr, secret_file, _dir: dir };
    let listening = receiver.next_said();
    assert_eq!(listening["event"], "listening", "{kind:?}: {listening}");
    receiver.url = listening["url"].as_str().unwrap().to_owned();
    receiver
}

impl Receiver {
    /// From the next request on it knows this secret.
    pub fn set_secret(&self, secret: &str) {
        // Appears whole: a request may be under way.
        let next = self.secret_file.with_extension("next");
        std::fs::write(&next, secret).unwrap();
        std::fs::rename(&next, &self.secret_file).unwrap();
    }

    /// What it says of the next request: `verified`, and of a verified one `event_id`, `type`, `symbol`.
    pub fn next_request(&mut self) -> Value {
        let said = self.next_said();
        assert_eq!(said["event"], "request", "{:?}: {said}", self.kind);
        said
    }

    fn next_said(&mut self) -> Value {
        match self.said.recv_timeout(PATIENCE) {
            Ok(line) => {
                serde_json::from_str(&line).unwrap_or_else(|e| panic!("{:?}: {e}: {line}", self.kind))
            }
            Err(error) => {
                let _ = self.child.kill();
                let errors = self.stderr.take().map(|stderr| stderr.join().unwrap());
                panic!("{:?} says nothing ({error}): {}", self.kind, errors.unwrap_or_default());
            }
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
