//! TLS of the storm's clients: what they offer, and the tickets they have been given.
//!
//! Contract: [`Tickets`] is one bounded queue for all clients of a process, for one server; a ticket is
//! used once. [`Trust`] accepts any certificate without looking at a signature: the load generator must
//! cost less than what it loads. A lock, taken by one thread only. Fails where the library refuses.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, NamedGroup, SignatureScheme};

/// See the module head.
#[derive(Debug)]
pub(super) struct Tickets {
    kept: Mutex<VecDeque<Tls13ClientSessionValue>>,
    most: usize,
    received: AtomicU64,
}

impl Tickets {
    /// Keeps the newest `most`.
    pub(super) fn new(most: usize) -> Tickets {
        Tickets { kept: Mutex::new(VecDeque::new()), most, received: AtomicU64::new(0) }
    }

    /// How many have come so far.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

/// A view of the tickets that shows them to handshakes or not.
#[derive(Debug)]
struct Store {
    tickets: Arc<Tickets>,
    offer: bool,
}

impl ClientSessionStore for Store {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        let mut kept = self.tickets.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= self.tickets.most {
            kept.pop_front();
        }
        kept.push_back(value);
        self.tickets.received.fetch_add(1, Ordering::Relaxed);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let mut kept = self.tickets.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if self.offer { kept.pop_front() } else { None }
    }
}

#[derive(Debug)]
struct Unchecked(Vec<SignatureScheme>);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}

/// A client configuration.
pub(super) struct Trust {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Trust {
    /// Two that keep the tickets they get: the first never shows one, the second does. They share all
    /// else, for a ticket counts only with the verifier it was taken under.
    pub(super) fn pair(tickets: &Arc<Tickets>) -> Result<(Trust, Trust), Error> {
        let provider = CryptoProvider {
            cipher_suites: vec![ring::cipher_suite::TLS13_AES_128_GCM_SHA256],
            kx_groups: vec![ring::kx_group::X25519],
            ..ring::default_provider()
        };
        let schemes = provider.signature_verification_algorithms.supported_schemes();
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Unchecked(schemes)))
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").map_err(|e| Error::General(e.to_string()))?;
        let trust = |offer| {
            let mut config = config.clone();
            config.resumption = Resumption::store(Arc::new(Store { tickets: Arc::clone(tickets), offer }));
            Trust { config: Arc::new(config), name: name.clone() }
        };
        Ok((trust(false), trust(true)))
    }

    /// The client's side of a new connection.
    pub(super) fn connect(&self) -> io::Result<ClientConnection> {
        ClientConnection::new(Arc::clone(&self.config), self.name.clone()).map_err(io::Error::other)
    }
}
