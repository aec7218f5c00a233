//! TLS: with the modules below it, the only place that names the TLS library.
//!
//! Contract: [`ServerTls`] and [`ClientTls`] are made once, at start or reload (they read files and
//! may write the generated certificate), and shared by reference; [`Session`] is one connection's
//! state, used only by [`super::Stream`]. TLS 1.2 and 1.3, both sides resume sessions. On the feed's
//! connections the library does the handshake and our own record layer the rest (`docs/security.md`);
//! clients and the control plane stay with the library. Owner: whoever holds the value. Blocks on files in the constructors only. Failure: [`TlsError`] names the
//! file and what is wrong with it; connections fail with `io::Error`, told apart by [`failure_of`].
//!
//! Resumption: the server issues stateless tickets (12 h keys, rotated), so it keeps no memory per
//! client. A client remembers 256 servers in a cache behind a lock; a hot thread therefore holds a
//! `ClientTls` of its own, so that the lock is never contended.

mod acceptor;
pub mod channel;
mod handshake;
pub mod record;
mod schedule;
mod session;
mod validity;
mod waiting;

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring as provider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

use tocsin_core::time::WallUs;

use self::record::Fault;
pub(super) use self::session::Session;

/// File of the generated certificate within `data_dir`.
pub const GENERATED_CERT: &str = "feed-cert.pem";
/// File of its private key (mode 0600) within `data_dir`.
pub const GENERATED_KEY: &str = "feed-key.pem";
/// Servers a [`ClientTls::with_own_sessions`] remembers: the least the library takes.
const OWN_SESSIONS: usize = 2;
/// A generated certificate is valid this long.
const GENERATED_YEARS: i16 = 10;

/// What is wrong with the TLS configuration, and where.
#[derive(Debug)]
pub enum TlsError {
    /// A file cannot be read or written.
    File(PathBuf, io::Error),
    /// A file holds no usable PEM section of the kind named.
    Pem(PathBuf, &'static str, String),
    /// Certificate and key do not fit, or the library refuses them.
    Refused(PathBuf, String),
    /// No certificate could be generated.
    Generate(String),
}

impl core::fmt::Display for TlsError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            TlsError::File(path, e) => write!(f, "{}: {e}", path.display()),
            TlsError::Pem(path, what, e) => write!(f, "{}: no usable {what}: {e}", path.display()),
            TlsError::Refused(path, e) => write!(f, "{}: {e}", path.display()),
            TlsError::Generate(e) => write!(f, "cannot generate a certificate: {e}"),
        }
    }
}

impl std::error::Error for TlsError {}

/// The server side's certificate, key and ticket keys. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// Keeps its secrets to itself.
    config: Arc<ServerConfig>,
    /// The same for the feed, whose connections hand their secrets over to our record layer.
    feed: Arc<ServerConfig>,
    fingerprint: [u8; 32],
    /// SHA-256 over the whole chain and the key: whether two files say the same.
    contents: [u8; 32],
    expires_at: Option<WallUs>,
}

/// A certificate that a reload may replace: whoever begins a handshake takes the one in force. Not for hot
/// threads, which get theirs through their rings.
#[derive(Clone, Debug)]
pub struct SharedTls(Arc<RwLock<ServerTls>>);

impl SharedTls {
    /// Begins with `tls`.
    #[must_use]
    pub fn new(tls: ServerTls) -> SharedTls {
        SharedTls(Arc::new(RwLock::new(tls)))
    }

    /// The one in force.
    #[must_use]
    pub fn get(&self) -> ServerTls {
        self.0.read().clone()
    }

    /// Handshakes from now on take `tls`.
    pub fn replace(&self, tls: ServerTls) {
        *self.0.write() = tls;
    }
}

impl ServerTls {
    /// From a PEM certificate chain (leaf first) and its PEM private key (PKCS#8, SEC1 or PKCS#1).
    ///
    /// # Errors
    /// A file is missing, holds no such section, or the two do not belong together.
    pub fn from_pem_files(cert_file: &Path, key_file: &Path) -> Result<ServerTls, TlsError> {
        let chain = CertificateDer::pem_file_iter(cert_file)
            .map_err(|e| pem_error(cert_file, "certificate", e))?
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| pem_error(cert_file, "certificate", e))?;
        let leaf = chain.first().ok_or_else(|| {
            TlsError::Pem(
                cert_file.to_owned(),
                "certificate",
                "the file has no CERTIFICATE section".to_owned(),
            )
        })?;
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, leaf).as_ref());
        let expires_at = validity::not_after(leaf);
        let key =
            PrivateKeyDer::from_pem_file(key_file).map_err(|e| pem_error(key_file, "private key", e))?;
        let mut all = ring::digest::Context::new(&ring::digest::SHA256);
        chain.iter().for_each(|certificate| all.update(certificate));
        all.update(key.secret_der());
        let mut contents = [0; 32];
        contents.copy_from_slice(all.finish().as_ref());
        let refused = |e: rustls::Error| TlsError::Refused(cert_file.to_owned(), e.to_string());
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(refused)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(refused)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.ticketer = provider::Ticketer::new().map_err(refused)?;
        // One ticket: a client comes back with one connection for each it had.
        config.send_tls13_tickets = 1;
        let mut feed = config.clone();
        feed.enable_secret_extraction = true;
        feed.key_log = Arc::new(schedule::Listener);
        Ok(ServerTls { config: Arc::new(config), feed: Arc::new(feed), fingerprint, contents, expires_at })
    }

    /// From the self-signed certificate kept in `data_dir`, which is generated when certificate or
    /// key is missing. It names `localhost`, this host, loopback and this host's own addresses, and
    /// `listen`'s when that is a particular one. A file that is there but unusable is an error, never
    /// replaced.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn self_signed(data_dir: &Path, listen: SocketAddr) -> Result<ServerTls, TlsError> {
        let (cert_file, key_file) = (data_dir.join(GENERATED_CERT), data_dir.join(GENERATED_KEY));
        if !cert_file.exists() || !key_file.exists() {
            generate(&cert_file, &key_file, listen)?;
        }
        ServerTls::from_pem_files(&cert_file, &key_file)
    }

    /// SHA-256 of the leaf certificate.
    #[must_use]
    pub const fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }

    /// When the leaf certificate ends; `None` where it does not say so in a way that can be read.
    #[must_use]
    pub const fn expires_at(&self) -> Option<WallUs> {
        self.expires_at
    }

    /// [`ServerTls::fingerprint`] as people compare it: upper-case hex pairs with colons.
    #[must_use]
    pub fn fingerprint_text(&self) -> String {
        self.fingerprint.iter().map(|b| format!("{b:02X}")).collect::<Vec<_>>().join(":")
    }

    /// Whether both were made of the same chain and key.
    #[must_use]
    pub fn is_same(&self, other: &ServerTls) -> bool {
        self.contents == other.contents
    }

    pub(super) fn session(&self) -> io::Result<Session> {
        Session::server(&self.feed)
    }
}

/// Whom a client trusts.
#[derive(Clone, Debug, Default)]
pub struct ClientTrust {
    /// PEM file of further certificate authorities (or one self-signed server certificate), beside
    /// the public ones compiled in.
    pub ca_file: Option<PathBuf>,
    /// Accept any certificate. Only for `watch --insecure`: whoever sits between reads the key.
    pub insecure: bool,
}

/// The client side's trust and its remembered sessions. Clones share the session memory.
#[derive(Clone, Debug)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
}

impl ClientTls {
    /// Reads `trust` and prepares the client side.
    ///
    /// # Errors
    /// The authority file is missing or holds no certificate.
    pub fn new(trust: &ClientTrust) -> Result<ClientTls, TlsError> {
        let crypto = Arc::new(provider::default_provider());
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let file = trust.ca_file.as_deref().unwrap_or(Path::new("built-in certificates"));
        if let Some(path) = &trust.ca_file {
            add_authorities(&mut roots, path)?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::clone(&crypto))
            .with_safe_default_protocol_versions()
            .map_err(|e| TlsError::Refused(file.to_owned(), e.to_string()))?;
        let mut config = if trust.insecure {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAny(crypto)))
        } else {
            builder.with_root_certificates(roots)
        }
        .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(ClientTls { config: Arc::new(config) })
    }

    /// The same trust, with a memory of sessions of its own, for one server: what one address has
    /// issued is never shown to another.
    #[must_use]
    pub fn with_own_sessions(&self) -> ClientTls {
        let mut config = ClientConfig::clone(&self.config);
        config.resumption = rustls::client::Resumption::in_memory_sessions(OWN_SESSIONS);
        ClientTls { config: Arc::new(config) }
    }

    pub(super) fn session(&self, server_name: &str) -> io::Result<Session> {
        let name = ServerName::try_from(server_name.to_owned())
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, format!("{server_name:?}: {e}")))?;
        Session::client(&self.config, name)
    }
}

/// Why a TLS connection failed, as far as counters care.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TlsFailure {
    /// What arrived is not TLS.
    NotTls,
    /// No protocol version, cipher suite or key exchange in common.
    Incompatible,
    /// The peer's certificate is refused.
    Certificate,
    /// The peer sent a fatal alert (a client that refuses our certificate does).
    PeerAlert,
    /// TLS, but against its rules.
    Protocol,
    /// The peer left, or the socket failed.
    Gone,
}

impl TlsFailure {
    /// Every reason, in the order of its discriminant.
    pub const ALL: [TlsFailure; 6] = [
        TlsFailure::NotTls,
        TlsFailure::Incompatible,
        TlsFailure::Certificate,
        TlsFailure::PeerAlert,
        TlsFailure::Protocol,
        TlsFailure::Gone,
    ];

    /// As counters spell it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            TlsFailure::NotTls => "not_tls",
            TlsFailure::Incompatible => "incompatible",
            TlsFailure::Certificate => "certificate",
            TlsFailure::PeerAlert => "peer_alert",
            TlsFailure::Protocol => "protocol",
            TlsFailure::Gone => "gone",
        }
    }
}

/// Classifies an error of [`super::Stream`].
#[must_use]
pub fn failure_of(error: &io::Error) -> TlsFailure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Fault>()) {
        Some(Fault::PeerAlert(_)) => return TlsFailure::PeerAlert,
        Some(_) => return TlsFailure::Protocol,
        None => {}
    }
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidMessage(_)) => TlsFailure::NotTls,
        Some(rustls::Error::PeerIncompatible(_) | rustls::Error::NoApplicationProtocol) => {
            TlsFailure::Incompatible
        }
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
            TlsFailure::Certificate
        }
        Some(rustls::Error::AlertReceived(_)) => TlsFailure::PeerAlert,
        Some(_) => TlsFailure::Protocol,
        None => TlsFailure::Gone,
    }
}

/// What is wrong with a peer's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateFault {
    /// Expired, or not valid yet.
    Expired,
    /// For another name.
    Name,
    /// It leads to no trusted authority, or is broken, revoked or meant for something else.
    Untrusted,
}

/// What an error of [`super::Stream`] says of the peer's certificate, if that is what it is about.
#[must_use]
pub fn certificate_fault(error: &io::Error) -> Option<CertificateFault> {
    use rustls::CertificateError as Fault;
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())? {
        rustls::Error::InvalidCertificate(fault) => Some(match fault {
            Fault::Expired | Fault::ExpiredContext { .. } => CertificateFault::Expired,
            Fault::NotValidYet | Fault::NotValidYetContext { .. } => CertificateFault::Expired,
            Fault::NotValidForName | Fault::NotValidForNameContext { .. } => CertificateFault::Name,
            _ => CertificateFault::Untrusted,
        }),
        rustls::Error::NoCertificatesPresented => Some(CertificateFault::Untrusted),
        _ => None,
    }
}

fn pem_error(path: &Path, what: &'static str, error: rustls::pki_types::pem::Error) -> TlsError {
    match error {
        rustls::pki_types::pem::Error::Io(e) => TlsError::File(path.to_owned(), e),
        other => TlsError::Pem(path.to_owned(), what, other.to_string()),
    }
}

fn add_authorities(roots: &mut RootCertStore, path: &Path) -> Result<(), TlsError> {
    let mut added = 0;
    for cert in CertificateDer::pem_file_iter(path).map_err(|e| pem_error(path, "certificate", e))? {
        let cert = cert.map_err(|e| pem_error(path, "certificate", e))?;
        roots.add(cert).map_err(|e| TlsError::Refused(path.to_owned(), e.to_string()))?;
        added += 1;
    }
    if added == 0 {
        return Err(TlsError::Pem(path.to_owned(), "certificate", "no CERTIFICATE section".to_owned()));
    }
    Ok(())
}

/// Writes a new self-signed certificate and key. The old certificate is removed first and the new
/// one written last, so that a crash in between leaves one of the two missing, never a wrong pair.
fn generate(cert_file: &Path, key_file: &Path, listen: SocketAddr) -> Result<(), TlsError> {
    let failed = |e: rcgen::Error| TlsError::Generate(e.to_string());
    let mut params = rcgen::CertificateParams::new(subject_names(listen)).map_err(failed)?;
    let mut subject = rcgen::DistinguishedName::new();
    subject.push(rcgen::DnType::CommonName, "Tocsin feed");
    params.distinguished_name = subject;
    let today = jiff::tz::TimeZone::UTC.to_datetime(jiff::Timestamp::now()).date();
    // From the first of the month, so that a client whose clock is a little behind accepts it.
    let first = |year: i16| rcgen::date_time_ymd(i32::from(year), today.month().unsigned_abs(), 1);
    params.not_before = first(today.year());
    params.not_after = first(today.year().saturating_add(GENERATED_YEARS));
    let key = rcgen::KeyPair::generate().map_err(failed)?;
    let cert = params.self_signed(&key).map_err(failed)?;
    match fs::remove_file(cert_file) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            return Err(TlsError::File(cert_file.to_owned(), e));
        }
        _ => {}
    }
    write_durably(key_file, 0o600, key.serialize_pem().as_bytes())?;
    write_durably(cert_file, 0o644, cert.pem().as_bytes())
}

/// `localhost`, this host's name, loopback, the listen address and the addresses this host uses
/// towards others. Names that no certificate may carry are left out.
fn subject_names(listen: SocketAddr) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if let Ok(host) = fs::read_to_string("/proc/sys/kernel/hostname") {
        names.push(host.trim().to_owned());
    }
    if !listen.ip().is_unspecified() {
        names.push(listen.ip().to_string());
    }
    names.extend([("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")].iter().filter_map(
        |(local, documentation)| -> Option<String> {
            // Connecting a datagram socket only picks the route: nothing is sent.
            let socket = UdpSocket::bind(local).ok()?;
            socket.connect(documentation).ok()?;
            Some(socket.local_addr().ok()?.ip().to_string())
        },
    ));
    names.retain(|n| ServerName::try_from(n.as_str()).is_ok());
    let unique: BTreeSet<String> = names.into_iter().collect();
    unique.into_iter().collect()
}

/// Writes beside the file and renames, so that it is there whole or not at all.
fn write_durably(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), TlsError> {
    let failed = |e| TlsError::File(path.to_owned(), e);
    let temporary = path.with_extension("pem.new");
    match fs::remove_file(&temporary) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&temporary, path).map_err(failed)
}

/// Accepts any certificate but still checks that the peer holds its key.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
