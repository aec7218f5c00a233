//! How long a certificate is valid: the one thing that is read out of it here.
//!
//! Contract: [`not_after`] is `None` for what is no X.509 certificate or has no end in this calendar.
//! Runs at start and reload; allocates little, blocks never.

use tocsin_core::time::WallUs;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The end of a certificate in DER.
pub(super) fn not_after(der: &[u8]) -> Option<WallUs> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(WallUs::from_secs(certificate.validity().not_after.timestamp()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_the_one_it_was_made_with() {
        let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(2031, 2, 3);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        assert_eq!(not_after(certificate.der()), Some(WallUs::from_secs(1_927_843_200)));
        assert_eq!(not_after(b"no certificate"), None);
    }
}
