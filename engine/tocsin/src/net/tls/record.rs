//! One direction of one connection at the record layer: sealing and opening TLS 1.2 and 1.3 records.
//!
//! Contract: sans-I/O. [`Sealing`] appends whole records to the caller's buffer, [`Opening`] decrypts one
//! whole record in place; both count their sequence number and neither knows what the records mean
//! (`channel` does). AES-GCM and ChaCha20-Poly1305 come from ring. Owner: whoever holds the value.
//! Allocates only what the caller's buffer needs to grow. Never blocks. Failure: [`Fault`], after which
//! the connection is finished; [`Fault::alert`] is what the peer is told.
//!
//! Sources: RFC 8446 sections 5.2 to 5.5 (TLS 1.3), RFC 5246 section 6.2.3.3, RFC 5288 (AES-GCM in TLS
//! 1.2) and RFC 7905 (ChaCha20-Poly1305 in TLS 1.2).
//!
//! INVARIANT: no nonce is used twice under one key. Sealing derives it from the sequence number alone,
//! which only grows and ends the connection before it wraps; a new key starts a new [`Sealing`].

use core::fmt;
use core::ops::Range;

use ring::aead::{self, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

/// Type, version, length.
pub const HEADER_BYTES: usize = 5;
/// Most plaintext in a record, either version.
pub const PLAINTEXT_BYTES: usize = 1 << 14;
/// Most that sealing adds to a plaintext: header, explicit nonce (TLS 1.2), content type (1.3), tag.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + EXPLICIT_BYTES + 1 + TAG_BYTES;
const TAG_BYTES: usize = 16;
/// The part of a TLS 1.2 AES-GCM nonce that travels with the record.
const EXPLICIT_BYTES: usize = 8;
/// Both versions write TLS 1.2's number on the wire.
const WIRE_VERSION: [u8; 2] = [3, 3];
/// No sequence number from here on is used: far below the wrap, far above any real connection.
const LAST_SEQUENCE: u64 = 1 << 62;

/// What a record says it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Content {
    /// Never valid after the handshake.
    ChangeCipherSpec = 20,
    /// Level and description.
    Alert = 21,
    /// After the handshake: a `KeyUpdate`, or an attempt to renegotiate.
    Handshake = 22,
    /// The connection's own bytes.
    ApplicationData = 23,
}

impl Content {
    fn of(byte: u8) -> Option<Content> {
        [Content::ChangeCipherSpec, Content::Alert, Content::Handshake, Content::ApplicationData]
            .into_iter()
            .find(|content| *content as u8 == byte)
    }
}

/// Descriptions of the alerts sent or known here, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "they are named as RFC 8446 section 6 names them")]
pub enum Alert {
    CloseNotify = 0,
    UnexpectedMessage = 10,
    BadRecordMac = 20,
    RecordOverflow = 22,
    IllegalParameter = 47,
    DecodeError = 50,
    InternalError = 80,
    UserCanceled = 90,
    NoRenegotiation = 100,
}

/// Why a connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A record does not open under the key: changed, replayed, out of order or too short.
    BadRecord,
    /// A record is longer than the version allows.
    TooLong,
    /// A header or message is not what its type prescribes.
    Malformed,
    /// A field has a value that does not exist.
    Parameter,
    /// A type of record or message that has no place here, or a message across a change of keys.
    Unexpected,
    /// Too many records in a row that bring no data.
    Flood,
    /// The peer began a second handshake (TLS 1.2).
    Renegotiation,
    /// The peer ended the connection with this alert.
    PeerAlert(u8),
    /// The key has sealed as many records as it may, and the version has no way to another.
    Exhausted,
    /// The key schedule or the cipher refused.
    Internal,
}

impl Fault {
    /// What the peer is told, if anything.
    #[must_use]
    pub const fn alert(self) -> Option<Alert> {
        match self {
            Fault::BadRecord => Some(Alert::BadRecordMac),
            Fault::TooLong => Some(Alert::RecordOverflow),
            Fault::Malformed => Some(Alert::DecodeError),
            Fault::Parameter => Some(Alert::IllegalParameter),
            Fault::Unexpected | Fault::Flood => Some(Alert::UnexpectedMessage),
            Fault::Renegotiation => Some(Alert::NoRenegotiation),
            Fault::PeerAlert(_) => None,
            Fault::Exhausted => Some(Alert::CloseNotify),
            Fault::Internal => Some(Alert::InternalError),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Fault::BadRecord => "a TLS record does not open",
            Fault::TooLong => "a TLS record is too long",
            Fault::Malformed => "a TLS header or message is malformed",
            Fault::Parameter => "a TLS message has an illegal value",
            Fault::Unexpected => "a TLS message has no place here",
            Fault::Flood => "too many TLS records without data",
            Fault::Renegotiation => "the peer asked for another TLS handshake",
            Fault::PeerAlert(description) => return write!(f, "the peer sent TLS alert {description}"),
            Fault::Exhausted => "the TLS key is used up",
            Fault::Internal => "the TLS key schedule failed",
        };
        f.write_str(text)
    }
}

impl std::error::Error for Fault {}

/// The protocol version a handshake agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Version {
    Tls12,
    Tls13,
}

impl Version {
    /// Most bytes behind a header.
    const fn most_sealed(self) -> usize {
        match self {
            Version::Tls12 => PLAINTEXT_BYTES + 2_048,
            Version::Tls13 => PLAINTEXT_BYTES + 256,
        }
    }
}

/// The cipher a handshake agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Cipher {
    Aes128Gcm,
    Aes256Gcm,
    Chacha20Poly1305,
}

impl Cipher {
    fn algorithm(self) -> &'static aead::Algorithm {
        match self {
            Cipher::Aes128Gcm => &aead::AES_128_GCM,
            Cipher::Aes256Gcm => &aead::AES_256_GCM,
            Cipher::Chacha20Poly1305 => &aead::CHACHA20_POLY1305,
        }
    }

    /// Length of its key.
    #[must_use]
    pub fn key_bytes(self) -> usize {
        self.algorithm().key_len()
    }

    /// Records one key may seal. RFC 8446 section 5.5 allows 2^24.5 full ones for AES-GCM and, for
    /// ChaCha20-Poly1305, more than there are sequence numbers.
    #[must_use]
    pub const fn most_records(self) -> u64 {
        match self {
            Cipher::Aes128Gcm | Cipher::Aes256Gcm => 1 << 24,
            Cipher::Chacha20Poly1305 => LAST_SEQUENCE,
        }
    }
}

/// Key and IV of one direction. Overwritten when dropped; never shown.
pub struct Secrets {
    cipher: Cipher,
    /// The first `cipher.algorithm().key_len()` bytes.
    key: Zeroizing<[u8; 32]>,
    iv: Zeroizing<[u8; NONCE_LEN]>,
}

impl Secrets {
    /// `None` when `key` is not as long as `cipher` wants.
    #[must_use]
    pub fn new(cipher: Cipher, key: &[u8], iv: [u8; NONCE_LEN]) -> Option<Secrets> {
        let mut kept = Zeroizing::new([0; 32]);
        if key.len() != cipher.algorithm().key_len() {
            return None;
        }
        kept.get_mut(..key.len())?.copy_from_slice(key);
        Some(Secrets { cipher, key: kept, iv: Zeroizing::new(iv) })
    }

    /// Which cipher they are for.
    #[must_use]
    pub const fn cipher(&self) -> Cipher {
        self.cipher
    }

    fn expand(&self) -> Result<LessSafeKey, Fault> {
        let algorithm = self.cipher.algorithm();
        let key = self.key.get(..algorithm.key_len()).unwrap_or_default();
        UnboundKey::new(algorithm, key).map(LessSafeKey::new).map_err(|_| Fault::Internal)
    }

    /// Whether a record carries part of its nonce: AES-GCM in TLS 1.2 does.
    fn explicit_bytes(&self, version: Version) -> usize {
        match (version, self.cipher) {
            (Version::Tls12, Cipher::Aes128Gcm | Cipher::Aes256Gcm) => EXPLICIT_BYTES,
            _ => 0,
        }
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("cipher", &self.cipher).finish_non_exhaustive()
    }
}

/// RFC 8446 section 5.3: the IV, its last eight bytes XORed with the sequence number. RFC 7905 has the
/// same; for AES-GCM in TLS 1.2 it is one of the ways to make the explicit part unique.
fn nonce_bytes(iv: &[u8; NONCE_LEN], sequence: u64) -> [u8; NONCE_LEN] {
    let mut nonce = *iv;
    for (byte, mask) in nonce.iter_mut().skip(NONCE_LEN - 8).zip(sequence.to_be_bytes()) {
        *byte ^= mask;
    }
    nonce
}

/// The additional data of RFC 5246 section 6.2.3.3.
fn tls12_aad(sequence: u64, header: [u8; HEADER_BYTES], plaintext_bytes: usize) -> [u8; 13] {
    let [content, major, minor, ..] = header;
    let [high, low] = length_bytes(plaintext_bytes);
    let mut aad = [0; 13];
    let (number, rest) = aad.split_at_mut(8);
    number.copy_from_slice(&sequence.to_be_bytes());
    rest.copy_from_slice(&[content, major, minor, high, low]);
    aad
}

/// Lengths here are below 2^15.
const fn length_bytes(length: usize) -> [u8; 2] {
    (length as u16).to_be_bytes()
}

/// The sending side: the expanded key, ready for use.
pub struct Sealing {
    key: LessSafeKey,
    iv: Zeroizing<[u8; NONCE_LEN]>,
    version: Version,
    explicit_bytes: u8,
    sequence: u64,
}

impl Sealing {
    /// Goes on with `secrets` at `sequence`.
    ///
    /// # Errors
    /// [`Fault::Internal`]: the cipher refused the key.
    pub fn new(version: Version, secrets: Secrets, sequence: u64) -> Result<Sealing, Fault> {
        Ok(Sealing {
            key: secrets.expand()?,
            version,
            explicit_bytes: secrets.explicit_bytes(version) as u8,
            iv: secrets.iv,
            sequence,
        })
    }

    /// The number of the next record.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Appends one record with `plaintext`, at most [`PLAINTEXT_BYTES`] of it.
    ///
    /// # Errors
    /// [`Fault::Exhausted`]: no sequence numbers are left. [`Fault::Internal`]: `plaintext` is too long.
    /// `out` is then as it was.
    pub fn seal(&mut self, content: Content, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        if plaintext.len() > PLAINTEXT_BYTES {
            return Err(Fault::Internal);
        }
        if self.sequence >= LAST_SEQUENCE {
            return Err(Fault::Exhausted);
        }
        out.reserve(plaintext.len() + OVERHEAD_BYTES);
        let start = out.len();
        let nonce = nonce_bytes(&self.iv, self.sequence);
        let hidden = usize::from(self.version == Version::Tls13);
        let explicit = usize::from(self.explicit_bytes);
        let outer = if hidden == 1 { Content::ApplicationData } else { content };
        let [major, minor] = WIRE_VERSION;
        let [high, low] = length_bytes(explicit + plaintext.len() + hidden + TAG_BYTES);
        let header = [outer as u8, major, minor, high, low];
        out.extend_from_slice(&header);
        if explicit > 0 {
            out.extend_from_slice(nonce.get(NONCE_LEN - EXPLICIT_BYTES..).unwrap_or_default());
        }
        let body = out.len();
        out.extend_from_slice(plaintext);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = if hidden == 1 {
            out.push(content as u8);
            let sealed = out.get_mut(body..).unwrap_or_default();
            self.key.seal_in_place_separate_tag(nonce, Aad::from(header), sealed)
        } else {
            let aad = tls12_aad(self.sequence, header, plaintext.len());
            let sealed = out.get_mut(body..).unwrap_or_default();
            self.key.seal_in_place_separate_tag(nonce, Aad::from(aad), sealed)
        };
        let Ok(tag) = tag else {
            out.truncate(start);
            return Err(Fault::Internal);
        };
        out.extend_from_slice(tag.as_ref());
        self.sequence += 1;
        Ok(())
    }
}

impl fmt::Debug for Sealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealing").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

/// What a record held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Which kind of bytes.
    pub content: Content,
    /// Where they lie in the record's own bytes.
    pub plaintext: Range<usize>,
}

/// The receiving side. Subscribers seldom send, so it keeps the short key and expands it for each
/// record: some work then, against half a kilobyte always.
#[derive(Debug)]
pub struct Opening {
    secrets: Secrets,
    version: Version,
    sequence: u64,
}

impl Opening {
    /// Goes on with `secrets` at `sequence`.
    #[must_use]
    pub const fn new(version: Version, secrets: Secrets, sequence: u64) -> Opening {
        Opening { secrets, version, sequence }
    }

    /// Length of the record that starts with `bytes`, header included; `None` until that can be told.
    ///
    /// # Errors
    /// No record of this version starts so.
    pub fn record_bytes(&self, bytes: &[u8]) -> Result<Option<usize>, Fault> {
        let Some(&[outer, major, _, high, low]) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        match (self.version, Content::of(outer)) {
            (Version::Tls13, Some(Content::ApplicationData)) => {}
            (Version::Tls12, Some(Content::Alert | Content::Handshake | Content::ApplicationData)) => {}
            // Everything is encrypted by now, and in TLS 1.3 everything encrypted says it is data.
            _ => return Err(Fault::Unexpected),
        }
        // The minor number says nothing (RFC 8446 section 5.1); it is authenticated with the record.
        if major != 3 {
            return Err(Fault::Malformed);
        }
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > self.version.most_sealed() {
            return Err(Fault::TooLong);
        }
        Ok(Some(HEADER_BYTES + length))
    }

    /// Opens `record`, one whole record with its header, in place.
    ///
    /// # Errors
    /// It is not a record this side may get next.
    pub fn open(&mut self, record: &mut [u8]) -> Result<Opened, Fault> {
        if self.sequence >= LAST_SEQUENCE {
            return Err(Fault::Exhausted);
        }
        let Some((&mut header, body)) = record.split_first_chunk_mut::<HEADER_BYTES>() else {
            return Err(Fault::Malformed);
        };
        let key = self.secrets.expand()?;
        let mut nonce = nonce_bytes(&self.secrets.iv, self.sequence);
        let explicit = self.secrets.explicit_bytes(self.version);
        let Some((explicit_nonce, sealed)) = body.split_at_mut_checked(explicit) else {
            return Err(Fault::BadRecord);
        };
        if explicit > 0 {
            nonce.get_mut(NONCE_LEN - explicit..).unwrap_or_default().copy_from_slice(explicit_nonce);
        }
        let nonce = Nonce::assume_unique_for_key(nonce);
        let inner_bytes = sealed.len().checked_sub(TAG_BYTES).ok_or(Fault::BadRecord)?;
        let inner = match self.version {
            Version::Tls13 => key.open_in_place(nonce, Aad::from(header), sealed),
            Version::Tls12 => {
                let aad = tls12_aad(self.sequence, header, inner_bytes);
                key.open_in_place(nonce, Aad::from(aad), sealed)
            }
        };
        let inner = inner.map_err(|_| Fault::BadRecord)?;
        self.sequence += 1;
        let [outer, ..] = header;
        let (content, plaintext_bytes) = match self.version {
            Version::Tls12 => (outer, inner.len()),
            // Content, its type, then any number of zeros.
            Version::Tls13 => {
                // RFC 8446 section 5.4: the bound holds for all of it.
                if inner.len() > PLAINTEXT_BYTES + 1 {
                    return Err(Fault::TooLong);
                }
                let last = inner.iter().rposition(|byte| *byte != 0).ok_or(Fault::Unexpected)?;
                (inner.get(last).copied().unwrap_or_default(), last)
            }
        };
        if plaintext_bytes > PLAINTEXT_BYTES {
            return Err(Fault::TooLong);
        }
        let start = HEADER_BYTES + explicit;
        let content = Content::of(content).ok_or(Fault::Unexpected)?;
        Ok(Opened { content, plaintext: start..start + plaintext_bytes })
    }
}
