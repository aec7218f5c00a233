//! Signing a delivery, and the request that carries it.
//!
//! Contract: pure; randomness comes in. A [`RequestHead`] is rendered once an endpoint;
//! [`RequestHead::write`] appends one whole request to a buffer the caller reuses and allocates
//! nothing else. Secrets never show in `Debug`; [`Secret::reveal`] is the only way to see one.
//!
//! Two signatures, always: the specification's own, `sha256=` and the hex HMAC-SHA256 of the raw body
//! under the bytes of the secret's text, in both of its header spellings; and that of Standard
//! Webhooks, which also covers the id and the time, so that an old body cannot be replayed.
//!
//! Rotation: "both sign during a grace". Standard Webhooks takes several signatures in one header,
//! the new secret's first. The specification's receivers compare the whole header with one value, so
//! it can carry one: the *old* secret's, until the grace is over, because what works must not break
//! before its owner has deployed the new one. The new secret's value stands beside it in
//! `X-<brand>-Signature-Next`, for receivers that want to change over early.

use core::fmt;
use core::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

use super::event::{EventId, EventKind};
use super::url::EndpointUrl;
use crate::limits;
use crate::time::WallUs;
use crate::wire::json;

const SECRET_PREFIX: &str = "whsec_";
const SECRET_BYTES: usize = 32;
/// Base64 of a SHA-256 hash, padding included.
const HASH_BASE64_BYTES: usize = 44;

/// A webhook secret: "`whsec_` + base64 of 32 random bytes, shown once".
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    text: Box<str>,
    bytes: [u8; SECRET_BYTES],
}

/// A text is no webhook secret: it is not `whsec_` and the base64 of 32 bytes. Does not repeat the
/// text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadSecret;

impl fmt::Display for BadSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a webhook secret is whsec_ followed by the base64 of 32 bytes")
    }
}

impl core::error::Error for BadSecret {}

impl Secret {
    /// A new secret of 32 bytes from the system's random source.
    #[must_use]
    pub fn from_random(random: [u8; SECRET_BYTES]) -> Secret {
        let text = [SECRET_PREFIX, &STANDARD.encode(random)].concat();
        Secret { text: text.into(), bytes: random }
    }

    /// Reads a secret back.
    ///
    /// # Errors
    /// Anything but what [`Secret::reveal`] gives.
    pub fn parse(text: &str) -> Result<Secret, BadSecret> {
        let encoded = text.strip_prefix(SECRET_PREFIX).ok_or(BadSecret)?;
        let decoded = STANDARD.decode(encoded).map_err(|_| BadSecret)?;
        Ok(Secret::from_random(decoded.try_into().map_err(|_| BadSecret)?))
    }

    /// The secret's text: to show once, and to encrypt for storing.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(withheld)")
    }
}

/// One secret, ready to sign: the two keys made of it, their inner states computed.
#[derive(Clone, Debug)]
struct Signer {
    text: hmac::Key,
    bytes: hmac::Key,
}

impl Signer {
    fn new(text: &[u8], bytes: &[u8]) -> Signer {
        let key = |key| hmac::Key::new(hmac::HMAC_SHA256, key);
        Signer { text: key(text), bytes: key(bytes) }
    }

    fn of(secret: &Secret) -> Signer {
        Signer::new(secret.text.as_bytes(), &secret.bytes)
    }

    /// Appends `sha256=` and the hex HMAC of the body.
    fn write_specified(&self, body: &[u8], out: &mut Vec<u8>) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        out.extend_from_slice(b"sha256=");
        for byte in hmac::sign(&self.text, body).as_ref() {
            // In range: both nibbles are below 16.
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 15)]);
        }
    }

    /// Appends `v1,` and the base64 HMAC of `id.timestamp.body`; the timestamp is what stands at
    /// `timestamp` in `out`.
    fn write_standard(&self, id: &str, timestamp: Range<usize>, body: &[u8], out: &mut Vec<u8>) {
        let mut context = hmac::Context::with_key(&self.bytes);
        context.update(id.as_bytes());
        context.update(b".");
        context.update(out.get(timestamp).unwrap_or_default());
        context.update(b".");
        context.update(body);
        let mut encoded = [0; HASH_BASE64_BYTES];
        // Cannot fail: the buffer is as long as the base64 of this hash.
        let length = STANDARD.encode_slice(context.sign(), &mut encoded).unwrap_or_default();
        out.extend_from_slice(b"v1,");
        out.extend_from_slice(encoded.get(..length).unwrap_or_default());
    }
}

/// The secrets that sign for an endpoint now.
#[derive(Clone, Debug)]
pub struct Signers {
    current: Signer,
    /// The secret before, and the end of its grace.
    previous: Option<(Signer, WallUs)>,
}

impl Signers {
    /// One secret.
    #[must_use]
    pub fn new(secret: &Secret) -> Signers {
        Signers { current: Signer::of(secret), previous: None }
    }

    /// A new secret, and the one before it until `grace_until`.
    #[must_use]
    pub fn rotated(new: &Secret, old: &Secret, grace_until: WallUs) -> Signers {
        Signers { current: Signer::of(new), previous: Some((Signer::of(old), grace_until)) }
    }

    fn previous_at(&self, now: WallUs) -> Option<&Signer> {
        self.previous.as_ref().filter(|(_, until)| now < *until).map(|(signer, _)| signer)
    }
}

/// The names in our header names: `X-<name>-Signature`. The signature goes out under each, the others
/// under the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brand(Box<[Box<str>]>);

/// Why names cannot be a brand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadBrand {
    /// None, or more than [`limits::WEBHOOK_BRANDS`].
    Count,
    /// One is empty, longer than [`limits::WEBHOOK_BRAND_BYTES`], or holds more than ASCII letters,
    /// digits and inner hyphens.
    Name,
    /// Two differ in nothing but case.
    Repeated,
}

impl fmt::Display for BadBrand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadBrand::Count => "a header brand is one to four names",
            BadBrand::Name => "a header brand is 1 to 32 ASCII letters, digits and inner hyphens",
            BadBrand::Repeated => "the names of a header brand must differ in more than case",
        })
    }
}

impl core::error::Error for BadBrand {}

impl Brand {
    /// Checks the names.
    ///
    /// # Errors
    /// What cannot be part of a header name, or would send one header twice.
    pub fn new(names: &[&str]) -> Result<Brand, BadBrand> {
        if !(1..=limits::WEBHOOK_BRANDS).contains(&names.len()) {
            return Err(BadBrand::Count);
        }
        let fits = |name: &&str| {
            (1..=limits::WEBHOOK_BRAND_BYTES).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !name.starts_with('-')
                && !name.ends_with('-')
        };
        if !names.iter().all(fits) {
            return Err(BadBrand::Name);
        }
        let mut rest = names;
        while let Some((name, others)) = rest.split_first() {
            if others.iter().any(|other| other.eq_ignore_ascii_case(name)) {
                return Err(BadBrand::Repeated);
            }
            rest = others;
        }
        Ok(Brand(names.iter().map(|name| (*name).into()).collect()))
    }

    fn first(&self) -> &str {
        self.0.first().map_or("", |name| name)
    }
}

/// Both spellings of the specification: its tables name `X-CEXPing-Signature`, most of its receivers
/// read `X-CEXPingz-Signature`.
impl Default for Brand {
    fn default() -> Brand {
        Brand(["CEXPing".into(), "CEXPingz".into()].into())
    }
}

/// What changes from one request to the next.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// The event's id.
    pub id: &'a EventId,
    /// The event's type.
    pub kind: EventKind,
    /// Which attempt this is, from 1.
    pub attempt: u8,
    /// When it leaves: signed as `webhook-timestamp`, told in microseconds, and decides whether a
    /// grace is over.
    pub sent_at: WallUs,
    /// The body, byte for byte.
    pub body: &'a [u8],
}

/// What stays the same in every request to an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    to_length: Box<[u8]>,
    signatures: Box<[Box<[u8]>]>,
    next_signature: Box<[u8]>,
    event: Box<[u8]>,
    event_id: Box<[u8]>,
    attempt: Box<[u8]>,
    sent_at: Box<[u8]>,
}

const USER_AGENT: &str = concat!("Tocsin-Webhooks/", env!("CARGO_PKG_VERSION"));

impl RequestHead {
    /// Renders what does not change. [`EndpointUrl`] and [`Brand`] let nothing through that could
    /// leave its line.
    #[must_use]
    pub fn new(url: &EndpointUrl, brand: &Brand) -> RequestHead {
        let port = if url.port() == 443 { String::new() } else { format!(":{}", url.port()) };
        let to_length = format!(
            "POST {} HTTP/1.1\r\nHost: {}{port}\r\nContent-Type: application/json\r\nContent-Length: ",
            url.path_and_query(),
            url.host(),
        );
        let first = brand.first();
        let line = |name: &str, what: &str| format!("\r\nX-{name}-{what}: ").into_bytes().into_boxed_slice();
        RequestHead {
            to_length: to_length.into_bytes().into(),
            signatures: brand.0.iter().map(|name| line(name, "Signature")).collect(),
            next_signature: line(first, "Signature-Next"),
            event: line(first, "Event"),
            event_id: line(first, "Event-Id"),
            attempt: line(first, "Attempt"),
            sent_at: line(first, "Sent-At"),
        }
    }

    /// Appends the whole request, head and body, to `out`.
    pub fn write(&self, signers: &Signers, delivery: &Delivery<'_>, out: &mut Vec<u8>) {
        let Delivery { id, kind, attempt, sent_at, body } = *delivery;
        let previous = signers.previous_at(sent_at);
        out.extend_from_slice(&self.to_length);
        json::unsigned(out, body.len() as u64);
        out.extend_from_slice(b"\r\nUser-Agent: ");
        out.extend_from_slice(USER_AGENT.as_bytes());
        self.write_signatures(signers, previous, body, out);
        out.extend_from_slice(b"\r\nwebhook-id: ");
        out.extend_from_slice(id.as_str().as_bytes());
        out.extend_from_slice(b"\r\nwebhook-timestamp: ");
        let from = out.len();
        json::unsigned(out, sent_at.secs().max(0).unsigned_abs());
        let timestamp = from..out.len();
        out.extend_from_slice(b"\r\nwebhook-signature: ");
        signers.current.write_standard(id.as_str(), timestamp.clone(), body, out);
        if let Some(previous) = previous {
            out.push(b' ');
            previous.write_standard(id.as_str(), timestamp, body, out);
        }
        out.extend_from_slice(&self.event);
        out.extend_from_slice(kind.name().as_bytes());
        out.extend_from_slice(&self.event_id);
        out.extend_from_slice(id.as_str().as_bytes());
        out.extend_from_slice(&self.attempt);
        json::unsigned(out, u64::from(attempt));
        out.extend_from_slice(&self.sent_at);
        json::unsigned(out, sent_at.0.max(0).unsigned_abs());
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(body);
    }

    fn write_signatures(&self, signers: &Signers, previous: Option<&Signer>, body: &[u8], out: &mut Vec<u8>) {
        let mut value: Option<Range<usize>> = None;
        for name in &self.signatures {
            out.extend_from_slice(name);
            if let Some(written) = value.clone() {
                // In range: `out` only grew since.
                out.extend_from_within(written);
            } else {
                let from = out.len();
                previous.unwrap_or(&signers.current).write_specified(body, out);
                value = Some(from..out.len());
            }
        }
        if previous.is_some() {
            out.extend_from_slice(&self.next_signature);
            signers.current.write_specified(body, out);
        }
    }
}

#[cfg(test)]
mod tests;
