//! A test certificate authority and the server certificates it signs.
//!
//! Contract: keys live in memory only; nothing made here is trusted by anything but a test that was
//! given [`TestCa::pem`]. Fails with [`SimError::Certificate`].

use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::{ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::Deserialize;

use crate::announce::write_atomically;
use crate::error::SimError;

/// What is wrong, or not, with the certificate a server shows next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CertChange {
    /// A new, good certificate and key from the same authority.
    Renewed,
    /// From the same authority, no longer valid.
    Expired,
    /// From the same authority, not valid yet.
    NotYetValid,
    /// From an authority the client was not told of.
    OtherCa,
    /// Good, but for another host.
    WrongName,
    /// From nobody but itself.
    SelfSigned,
}

/// The names a simulated exchange is called by.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// A certificate authority for tests.
pub struct TestCa {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl std::fmt::Debug for TestCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestCa").finish_non_exhaustive()
    }
}

impl TestCa {
    /// Makes a new authority with a fresh key.
    ///
    /// # Errors
    /// [`SimError::Certificate`].
    pub fn new() -> Result<TestCa, SimError> {
        TestCa::named("Tocsin simulator authority")
    }

    fn named(common: &str) -> Result<TestCa, SimError> {
        let mut params = CertificateParams::new(Vec::new()).map_err(failed)?;
        params.distinguished_name = name(common);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.self_signed(&key).map_err(failed)?;
        Ok(TestCa { pem: certificate.pem(), issuer: Issuer::new(params, key) })
    }

    /// The authority's certificate: what goes into `sources.NAME.ca_file`.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Writes [`TestCa::pem`] to a file that appears whole or not at all.
    ///
    /// # Errors
    /// [`SimError::File`].
    pub fn write_to(&self, path: &Path) -> Result<(), SimError> {
        write_atomically(path, self.pem.as_bytes()).map_err(|e| SimError::File(path.to_owned(), e))
    }

    /// A server configuration with a new certificate for `localhost`, `127.0.0.1` and `::1`,
    /// faulty as `change` says. Offers HTTP/1.1 only.
    pub(crate) fn server_config(&self, change: CertChange) -> Result<Arc<ServerConfig>, SimError> {
        let names = LOOPBACK.map(str::to_owned);
        self.server_config_for("Tocsin simulated exchange", &names, change, rustls::DEFAULT_VERSIONS)
    }

    /// The same for a server of another kind: `common` is its common name, `hosts` its names and
    /// addresses, `versions` what it speaks.
    pub(crate) fn server_config_for(
        &self,
        common: &str,
        hosts: &[String],
        change: CertChange,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Result<Arc<ServerConfig>, SimError> {
        let hosts = match change {
            CertChange::WrongName => vec!["elsewhere.invalid".to_owned()],
            _ => hosts.to_vec(),
        };
        let mut params = CertificateParams::new(hosts).map_err(failed)?;
        params.distinguished_name = name(common);
        params.use_authority_key_identifier_extension = change != CertChange::SelfSigned;
        match change {
            CertChange::Expired => {
                params.not_before = date_time_ymd(2020, 1, 1);
                params.not_after = date_time_ymd(2021, 1, 1);
            }
            CertChange::NotYetValid => params.not_before = date_time_ymd(4000, 1, 1),
            CertChange::Renewed | CertChange::OtherCa | CertChange::WrongName | CertChange::SelfSigned => {}
        }
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = match change {
            CertChange::SelfSigned => params.self_signed(&key),
            CertChange::OtherCa => params.signed_by(&key, &TestCa::named("Authority nobody knows")?.issuer),
            _ => params.signed_by(&key, &self.issuer),
        }
        .map_err(failed)?;
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(failed)?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .map_err(failed)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

fn failed(error: impl std::fmt::Display) -> SimError {
    SimError::Certificate(error.to_string())
}
