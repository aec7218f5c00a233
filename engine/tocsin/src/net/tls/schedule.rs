//! The traffic secrets of a TLS 1.3 connection, and the keys after the next `KeyUpdate`.
//!
//! Contract: [`Listener`] is the key log of the server's configuration: rustls tells it the application
//! traffic secrets in the middle of a handshake call, and whoever made that call takes them out
//! ([`take_told`]) right after it, on the same thread. [`KeySchedule`] keeps them, 48 bytes a direction,
//! where the library's own state for that is several times as much, and steps them (RFC 8446 section 7.2). Owner:
//! the accept thread, then the connection's. Allocates nothing, never blocks. Failure: `None`, when the
//! cipher refuses.
//!
//! INVARIANT: nothing is ever logged. Secrets leave rustls into a value that is overwritten when dropped,
//! and a call whose secrets nobody takes has them overwritten by the next.

use std::cell::Cell;

use ring::hkdf::{self, KeyType};
use zeroize::Zeroizing;

use super::channel::Rekey;
use super::record::{Cipher, Secrets};

/// SHA-384's length: the longest secret there is.
const LONGEST: usize = 48;

/// A traffic secret: as long as the hash of its cipher suite.
#[derive(Clone)]
struct Secret {
    bytes: Zeroizing<[u8; LONGEST]>,
    length: u8,
}

impl Secret {
    fn of(bytes: &[u8]) -> Option<Secret> {
        let mut kept = Zeroizing::new([0; LONGEST]);
        kept.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Secret { bytes: kept, length: bytes.len() as u8 })
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }
}

/// What a handshake call told.
#[derive(Default)]
pub(super) struct Told {
    client: Option<Secret>,
    server: Option<Secret>,
}

thread_local! {
    static TOLD: Cell<Told> = const { Cell::new(Told { client: None, server: None }) };
}

/// What rustls has told since the last time, on this thread.
pub(super) fn take_told() -> Told {
    TOLD.take()
}

/// See the module head.
#[derive(Debug)]
pub(super) struct Listener;

impl rustls::KeyLog for Listener {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        let mut told = TOLD.take();
        match label {
            "CLIENT_TRAFFIC_SECRET_0" => told.client = Secret::of(secret),
            "SERVER_TRAFFIC_SECRET_0" => told.server = Secret::of(secret),
            _ => {}
        }
        TOLD.set(told);
    }

    fn will_log(&self, label: &str) -> bool {
        matches!(label, "CLIENT_TRAFFIC_SECRET_0" | "SERVER_TRAFFIC_SECRET_0")
    }
}

impl Told {
    /// Puts what this one knows over what was known.
    pub(super) fn add(&mut self, later: Told) {
        self.client = later.client.or(self.client.take());
        self.server = later.server.or(self.server.take());
    }

    /// Of a server's connection; `None` when rustls did not tell both secrets.
    pub(super) fn server_schedule(self, cipher: Cipher) -> Option<KeySchedule> {
        Some(KeySchedule { cipher, sending: self.server?, receiving: self.client? })
    }
}

/// The secrets in use, and so the way to those after them.
pub(super) struct KeySchedule {
    cipher: Cipher,
    sending: Secret,
    receiving: Secret,
}

impl Rekey for KeySchedule {
    fn next_sending(&mut self) -> Option<Secrets> {
        step(self.cipher, &mut self.sending)
    }

    fn next_receiving(&mut self) -> Option<Secrets> {
        step(self.cipher, &mut self.receiving)
    }
}

/// RFC 8446 section 7.2: `application_traffic_secret_N+1` from N, and its keys (section 7.3).
fn step(cipher: Cipher, secret: &mut Secret) -> Option<Secrets> {
    let mut next = Zeroizing::new([0; LONGEST]);
    let next = next.get_mut(..usize::from(secret.length))?;
    expand_label(cipher, secret.as_bytes(), b"traffic upd", next)?;
    *secret = Secret::of(next)?;
    keys(cipher, secret)
}

fn keys(cipher: Cipher, secret: &Secret) -> Option<Secrets> {
    let mut key = Zeroizing::new([0; 32]);
    let key = key.get_mut(..cipher.key_bytes())?;
    let mut iv = [0; ring::aead::NONCE_LEN];
    expand_label(cipher, secret.as_bytes(), b"key", key)?;
    expand_label(cipher, secret.as_bytes(), b"iv", &mut iv)?;
    Secrets::new(cipher, key, iv)
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// RFC 8446 section 7.1: `HKDF-Expand-Label(secret, label, "", out.len())`.
fn expand_label(cipher: Cipher, secret: &[u8], label: &[u8], out: &mut [u8]) -> Option<()> {
    const PREFIX: &[u8] = b"tls13 ";
    let algorithm = match cipher {
        Cipher::Aes256Gcm => hkdf::HKDF_SHA384,
        Cipher::Aes128Gcm | Cipher::Chacha20Poly1305 => hkdf::HKDF_SHA256,
    };
    let length = u16::try_from(out.len()).ok()?.to_be_bytes();
    let label_length = [u8::try_from(PREFIX.len() + label.len()).ok()?];
    let info = [&length[..], &label_length, PREFIX, label, &[0]];
    let prk = hkdf::Prk::new_less_safe(algorithm, secret);
    prk.expand(&info, Length(out.len())).and_then(|okm| okm.fill(out)).ok()
}

#[cfg(test)]
mod tests {
    use rustls::KeyLog as _;

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        text.as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    /// The server's application traffic secret, key and IV of RFC 8448 section 3.
    #[test]
    fn keys_are_those_of_the_published_trace() {
        let secret = hex("a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643");
        let (mut key, mut iv) = ([0; 16], [0; 12]);
        expand_label(Cipher::Aes128Gcm, &secret, b"key", &mut key).unwrap();
        expand_label(Cipher::Aes128Gcm, &secret, b"iv", &mut iv).unwrap();
        assert_eq!(key.as_slice(), hex("9f02283b6c9c07efc26bb9f2ac92e356"));
        assert_eq!(iv.as_slice(), hex("cf782b88dd83549aadf1e984"));
    }

    #[test]
    fn what_is_told_is_taken_once_and_only_what_is_wanted() {
        assert!(!Listener.will_log("EXPORTER_SECRET") && !Listener.will_log("CLIENT_RANDOM"));
        Listener.log("CLIENT_TRAFFIC_SECRET_0", &[], &[1; 48]);
        let mut told = take_told();
        assert!(take_told().client.is_none());
        Listener.log("SERVER_TRAFFIC_SECRET_0", &[], &[2; 48]);
        told.add(take_told());
        let schedule = told.server_schedule(Cipher::Aes256Gcm).unwrap();
        assert_eq!(
            (schedule.sending.as_bytes(), schedule.receiving.as_bytes()),
            (&[2; 48][..], &[1; 48][..])
        );
        assert!(Told::default().server_schedule(Cipher::Aes256Gcm).is_none());
        assert!(Secret::of(&[0; 49]).is_none());
    }

    #[test]
    fn each_step_leads_elsewhere_and_to_keys_of_the_right_length() {
        for (cipher, length) in
            [(Cipher::Aes128Gcm, 32), (Cipher::Aes256Gcm, 48), (Cipher::Chacha20Poly1305, 32)]
        {
            let mut secret = Secret::of(&vec![7; length]).unwrap();
            let mut seen = vec![secret.as_bytes().to_vec()];
            for _ in 0..4 {
                assert!(step(cipher, &mut secret).is_some());
                assert!(!seen.contains(&secret.as_bytes().to_vec()));
                seen.push(secret.as_bytes().to_vec());
            }
        }
    }
}
