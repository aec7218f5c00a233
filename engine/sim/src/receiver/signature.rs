//! Verifying a delivery as its receiver would, from the documents alone.
//!
//! Contract: written without the code that signs, so that a mistake there is not repeated here. Every
//! configured spelling of the specification's header must be there once and right; so must
//! `webhook-id`, `webhook-timestamp` and one value of `webhook-signature`. Pure: the time comes in.
//! Secrets do not show in `Debug`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use tocsin_core::time::WallUs;

use crate::error::SimError;
use crate::receiver::record::Received;

/// How far a timestamp may be from now, as in the Standard Webhooks libraries.
const TOLERANCE_US: u64 = 5 * 60 * 1_000_000;

/// A secret a receiver knows.
#[derive(Clone)]
pub struct KnownSecret {
    /// Key of the specification's signature: the bytes of the text.
    text: hmac::Key,
    /// Key of the Standard Webhooks signature: what the text stands for.
    bytes: hmac::Key,
}

impl std::fmt::Debug for KnownSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KnownSecret(withheld)")
    }
}

impl KnownSecret {
    /// Reads `whsec_` and base64.
    ///
    /// # Errors
    /// [`SimError::Secret`].
    pub fn parse(text: &str) -> Result<KnownSecret, SimError> {
        let encoded = text.strip_prefix("whsec_").filter(|e| !e.is_empty()).ok_or(SimError::Secret)?;
        let decoded = STANDARD.decode(encoded).map_err(|_| SimError::Secret)?;
        let key = |bytes: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, bytes);
        Ok(KnownSecret { text: key(text.as_bytes()), bytes: key(&decoded) })
    }

    fn specified(&self, body: &[u8]) -> String {
        let hash = hmac::sign(&self.text, body);
        let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("sha256={hex}")
    }

    fn standard(&self, id: &str, timestamp: &str, body: &[u8]) -> String {
        let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
        format!("v1,{}", STANDARD.encode(hmac::sign(&self.bytes, &signed)))
    }
}

/// What a receiver makes of a delivery's signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignatureVerdict {
    /// No secret is known.
    Unchecked,
    /// Every signature is there and right.
    Valid,
    /// One is not; the first such, under the secret that came furthest.
    Invalid(SignatureFault),
}

impl SignatureVerdict {
    /// Whether it is [`SignatureVerdict::Valid`].
    #[must_use]
    pub fn is_valid(&self) -> bool {
        *self == SignatureVerdict::Valid
    }
}

impl std::fmt::Display for SignatureVerdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SignatureVerdict::Unchecked => f.write_str("unchecked"),
            SignatureVerdict::Valid => f.write_str("valid"),
            SignatureVerdict::Invalid(fault) => write!(f, "INVALID: {fault}"),
        }
    }
}

/// What is wrong with a signature. Ordered by how late it is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignatureFault {
    /// A header is missing.
    Missing(String),
    /// A header is there more than once.
    Repeated(String),
    /// The value of a header is not the one the secret and the body give.
    Mismatch(String),
    /// `webhook-timestamp` is no number of seconds, or minutes off.
    Time,
    /// `webhook-id`, the event id header and the body do not name the same event.
    Identity,
}

impl std::fmt::Display for SignatureFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SignatureFault::Missing(name) => write!(f, "{name} is missing"),
            SignatureFault::Repeated(name) => write!(f, "{name} is there more than once"),
            SignatureFault::Mismatch(name) => write!(f, "{name} does not match"),
            SignatureFault::Time => f.write_str("webhook-timestamp is not now"),
            SignatureFault::Identity => f.write_str("headers and body name different events"),
        }
    }
}

/// Judges a delivery: it is valid if it is so under any one of `secrets`. `brands` are the names in
/// `X-<name>-Signature`.
pub(super) fn verify(secrets: &[KnownSecret], brands: &[String], delivery: &Received) -> SignatureVerdict {
    let mut first = None;
    for secret in secrets {
        match verify_one(secret, brands, delivery) {
            Ok(()) => return SignatureVerdict::Valid,
            Err(fault) => first = first.or(Some(fault)),
        }
    }
    first.map_or(SignatureVerdict::Unchecked, SignatureVerdict::Invalid)
}

fn verify_one(secret: &KnownSecret, brands: &[String], delivery: &Received) -> Result<(), SignatureFault> {
    let body = &delivery.body;
    for brand in brands {
        let name = format!("X-{brand}-Signature");
        if single(delivery, &name)? != secret.specified(body) {
            return Err(SignatureFault::Mismatch(name));
        }
    }
    let id = single(delivery, "webhook-id")?;
    let timestamp = single(delivery, "webhook-timestamp")?;
    let expected = secret.standard(id, timestamp, body);
    if !single(delivery, "webhook-signature")?.split(' ').any(|value| value == expected) {
        return Err(SignatureFault::Mismatch("webhook-signature".to_owned()));
    }
    let seconds: i64 = timestamp.parse().map_err(|_| SignatureFault::Time)?;
    if WallUs::from_secs(seconds).micros_since(delivery.at).unsigned_abs() > TOLERANCE_US {
        return Err(SignatureFault::Time);
    }
    let named =
        [delivery.event_id(), delivery.json().and_then(|b| Some(b.get("event_id")?.as_str()?.to_owned()))];
    if named.iter().flatten().any(|named| named != id) {
        return Err(SignatureFault::Identity);
    }
    Ok(())
}

fn single<'a>(delivery: &'a Received, name: &str) -> Result<&'a str, SignatureFault> {
    let mut values = delivery.headers().filter(|(n, _)| n.eq_ignore_ascii_case(name));
    match (values.next(), values.next()) {
        (None, _) => Err(SignatureFault::Missing(name.to_owned())),
        (Some((_, value)), None) => {
            std::str::from_utf8(value).map_err(|_| SignatureFault::Mismatch(name.to_owned()))
        }
        (Some(_), Some(_)) => Err(SignatureFault::Repeated(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The vectors below were computed with Python's hmac and base64.
    const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const ID: &str = "cxp_01HRYV2600Y7PN147371YW66XB";
    const BODY: &str = r#"{"event_id":"cxp_01HRYV2600Y7PN147371YW66XB","type":"new_listing"}"#;
    const HEX: &str = "sha256=e017018c5773a012433c8f13a2f75d2b8203f1ef17848687f278ee1d541cf4d5";
    const V1: &str = "v1,e3trs74fEc/OI1a2hCoT9I1wWdgFhXn3dWAy3BIDo+o=";

    fn lines() -> Vec<(&'static str, &'static str)> {
        vec![
            ("X-CEXPing-Signature", HEX),
            ("x-cexpingz-signature", HEX),
            ("webhook-id", ID),
            ("webhook-timestamp", "1710432000"),
            ("webhook-signature", V1),
            ("X-CEXPing-Event-Id", ID),
        ]
    }

    fn judge(lines: &[(&str, &str)], body: &str, secrets: &[&str], at: i64) -> SignatureVerdict {
        let secrets: Vec<_> = secrets.iter().map(|s| KnownSecret::parse(s).unwrap()).collect();
        let brands = ["CEXPing".to_owned(), "CEXPingz".to_owned()];
        let head: String = lines.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let delivery = Received::of_parts(
            WallUs::from_secs(at),
            format!("POST /a HTTP/1.1\r\n{head}\r\n").as_bytes(),
            body.as_bytes(),
        );
        verify(&secrets, &brands, &delivery)
    }

    fn now(lines: &[(&str, &str)]) -> SignatureVerdict {
        judge(lines, BODY, &[SECRET], 1_710_432_001)
    }

    #[test]
    fn a_good_delivery_is_valid_under_any_known_secret() {
        let other = "whsec_q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=";
        assert_eq!(now(&lines()), SignatureVerdict::Valid);
        assert!(judge(&lines(), BODY, &[other, SECRET], 1_710_432_000).is_valid());
        assert_eq!(judge(&lines(), BODY, &[], 0), SignatureVerdict::Unchecked);
        let several = format!("v1,AAAA {V1} v1a,zzz");
        let mut rotated = lines();
        rotated[4].1 = &several;
        assert!(now(&rotated).is_valid());
    }

    #[test]
    fn every_fault_is_named() {
        use SignatureFault::*;
        let invalid = |fault| SignatureVerdict::Invalid(fault);
        let without = |at: usize| {
            let mut lines = lines();
            lines.remove(at);
            now(&lines)
        };
        let with = |at: usize, value: &'static str| {
            let mut lines = lines();
            lines[at].1 = value;
            now(&lines)
        };
        for (at, (name, _)) in lines().iter().enumerate().take(5) {
            let SignatureVerdict::Invalid(Missing(said)) = without(at) else { panic!("{name}") };
            assert!(said.eq_ignore_ascii_case(name));
        }
        let upper = HEX.to_ascii_uppercase().replace("SHA", "sha").leak();
        assert_eq!(with(1, upper), invalid(Mismatch("X-CEXPingz-Signature".to_owned())));
        assert_eq!(with(2, "cxp_2"), invalid(Mismatch("webhook-signature".to_owned())));
        assert_eq!(with(4, "v1,"), invalid(Mismatch("webhook-signature".to_owned())));
        assert_eq!(with(5, "cxp_2"), invalid(Identity));
        let mut twice = lines();
        twice.push(("WEBHOOK-ID", ID));
        assert_eq!(now(&twice), invalid(Repeated("webhook-id".to_owned())));
        let changed = BODY.replace("new", "old");
        let changed = judge(&lines(), &changed, &[SECRET], 1_710_432_000);
        assert_eq!(changed, invalid(Mismatch("X-CEXPing-Signature".to_owned())));
        assert_eq!(judge(&lines(), BODY, &[SECRET], 1_710_432_301), invalid(Time));
        assert_eq!(judge(&lines(), BODY, &[SECRET], 1_710_431_699), invalid(Time));
    }

    #[test]
    fn secrets_are_read_strictly_and_never_shown() {
        for bad in ["", "whsec_", "whsec_*", "AAECAwQF", "WHSEC_AAEC"] {
            assert!(KnownSecret::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(format!("{:?}", KnownSecret::parse(SECRET).unwrap()), "KnownSecret(withheld)");
    }
}
