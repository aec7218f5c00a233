//! What is sent: numbered announcements, as the engine serializes and frames them.
//!
//! Contract: pure. Every announcement has the same length, and its number stands in its title, where
//! [`number_of`] finds it again; so engine and floor send the same bytes but for digits. Owner:
//! anybody. Allocates the texts, outside what is timed.

use std::sync::Arc;
use std::time::Duration;

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use tocsin_core::feed::key::{KeyId, KeyShared};
use tocsin_core::feed::subscription::{FieldSet, Filter, FrameKind, Subscription};
use tocsin_core::model::{
    Action, Announcement, Classification, Exchange, ExchangeSet, FeedPosition, Lang, ListingType,
    ListingTypeSet, Ticker,
};
use tocsin_core::time::WallUs;
use tocsin_core::wire::extra::Extras;
use tocsin_core::wire::{EncodedAnnouncement, encode};
use tocsin_core::ws::Opcode;
use tocsin_core::ws::frame::write_frame;

/// Of the feed's positions.
pub const EPOCH: u64 = 1;
/// Digits of a number in a title.
const DIGITS: usize = 8;

/// The announcement at `seq` with `number` in its title.
///
/// # Errors
/// The engine refuses the ticker, which it does not.
pub fn announcement(seq: u64, number: u64, now: WallUs) -> Result<Arc<EncodedAnnouncement>, String> {
    let ticker = Ticker::new("TOKEN").ok_or("the engine takes no ticker TOKEN")?;
    Ok(Arc::new(encode(Announcement {
        id: format!("binance:{number}"),
        position: FeedPosition { epoch: EPOCH, seq },
        exchange: Exchange::Binance,
        title: format!("Binance Will List Some Token (TOKEN) with Seed Tag Applied #{number:0DIGITS$}"),
        classification: Classification {
            listing_type: ListingType::SpotListing,
            tickers: vec![ticker],
            markets: Vec::new(),
            rule: "bench",
            confidence: 90,
            lang: Lang::En,
        },
        action: Action::Created,
        late: false,
        url: String::new(),
        notice_id: number.to_string(),
        source: "bench".to_owned(),
        published: now,
        received: now,
        detected: now,
        classified: now,
        effective_at: None,
    })))
}

/// The frame a subscriber of the specification's fields gets, stamped with `now`.
///
/// # Errors
/// As [`announcement`].
pub fn frame(number: u64, now: WallUs) -> Result<Vec<u8>, String> {
    let mut payload = Vec::new();
    announcement(number, number, now)?.payload(false, false).write_stamped(&mut payload, now);
    let mut frame = Vec::new();
    write_frame(&mut frame, Opcode::Binary, &payload, None);
    Ok(frame)
}

/// The number in an announcement's text; `None` in any other message.
#[must_use]
pub fn number_of(payload: &[u8]) -> Option<u64> {
    if !payload.starts_with(b"{\"type\":\"announcement\"") {
        return None;
    }
    let at = payload.iter().position(|byte| *byte == b'#')? + 1;
    std::str::from_utf8(payload.get(at..at + DIGITS)?).ok()?.parse().ok()
}

/// A subscriber that receives everything, with the specification's fields.
#[must_use]
pub fn subscription() -> Subscription {
    Subscription {
        key: Arc::new(KeyShared::new(KeyId(1))),
        allowed: ExchangeSet::ALL,
        expires_at: None,
        filter: Filter { exchanges: ExchangeSet::ALL, types: ListingTypeSet::ALL, tickers: None },
        frames: FrameKind::Binary,
        fields: FieldSet::Basic,
        sources: false,
        extras: Extras::default(),
        redact: false,
        delay: Duration::ZERO,
        resume: None,
    }
}

/// The record layer at its least: AES-128-GCM as TLS 1.3 uses it (RFC 8446 5.2), keys by arrangement.
/// Each end has one; every connection a key of its own, as real ones have.
pub struct Sealing {
    key: LessSafeKey,
    vector: [u8; NONCE_LEN],
    sequence: u64,
}

/// Of a record: type, version, length.
pub const RECORD_HEADER: usize = 5;
/// Longest record taken, with its header.
pub const RECORD_BYTES: usize = RECORD_HEADER + 16 * 1_024 + 256;
const APPLICATION_DATA: u8 = 23;
const TAG: usize = 16;

impl Sealing {
    /// For the connection whose client end has `port`.
    ///
    /// # Errors
    /// The library refuses a key of the right length, which it does not.
    pub fn new(port: u16) -> Result<Sealing, String> {
        let mut key = [0x5A; 16];
        let mut vector = [0xA5; NONCE_LEN];
        for bytes in [&mut key[..2], &mut vector[..2]] {
            bytes.copy_from_slice(&port.to_be_bytes());
        }
        let key = UnboundKey::new(&AES_128_GCM, &key).map_err(|e| e.to_string())?;
        Ok(Sealing { key: LessSafeKey::new(key), vector, sequence: 0 })
    }

    fn nonce(&mut self) -> Nonce {
        let mut nonce = self.vector;
        for (byte, part) in nonce.iter_mut().skip(NONCE_LEN - 8).zip(self.sequence.to_be_bytes()) {
            *byte ^= part;
        }
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }

    /// Replaces `record` by the sealed `plaintext`, which is at most 16 KiB. Reuses its memory.
    ///
    /// # Errors
    /// The library's, which has none for such lengths.
    pub fn seal(&mut self, plaintext: &[u8], record: &mut Vec<u8>) -> Result<(), String> {
        let length = u16::try_from(plaintext.len() + 1 + TAG).map_err(|e| e.to_string())?;
        let [high, low] = length.to_be_bytes();
        let header = [APPLICATION_DATA, 3, 3, high, low];
        record.clear();
        record.extend_from_slice(&header);
        record.extend_from_slice(plaintext);
        record.push(APPLICATION_DATA);
        let nonce = self.nonce();
        let body = record.get_mut(RECORD_HEADER..).unwrap_or_default();
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::from(header), body);
        record.extend_from_slice(tag.map_err(|e| e.to_string())?.as_ref());
        Ok(())
    }

    /// Opens the first record of `bytes` in place; its plaintext, and how many bytes it took. `None`
    /// when it is not whole.
    ///
    /// # Errors
    /// It is no record of the other end, or not the next one.
    pub fn open<'a>(&mut self, bytes: &'a mut [u8]) -> Result<Option<(&'a mut [u8], usize)>, String> {
        let Some(header) = bytes.first_chunk::<RECORD_HEADER>().copied() else { return Ok(None) };
        let whole = RECORD_HEADER + usize::from(u16::from_be_bytes([header[3], header[4]]));
        if header[0] != APPLICATION_DATA || whole > RECORD_BYTES {
            return Err("what came is no record".to_owned());
        }
        let Some(body) = bytes.get_mut(RECORD_HEADER..whole) else { return Ok(None) };
        let nonce = self.nonce();
        let opened = self.key.open_in_place(nonce, Aad::from(header), body);
        let opened = opened.map_err(|_| "a record does not open: sent twice, lost or damaged".to_owned())?;
        let (_, plaintext) = opened.split_last_mut().ok_or("an empty record")?;
        Ok(Some((plaintext, whole)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_equally_long_and_numbered() {
        let now = WallUs::from_secs(1_760_000_000);
        let (a, b) = (frame(1, now).unwrap(), frame(99_999_999, now).unwrap());
        assert_eq!(a.len(), b.len());
        assert!((250..400).contains(&a.len()), "{}", a.len());
        let payload = a.iter().position(|byte| *byte == b'{').unwrap();
        assert_eq!(number_of(&a[payload..]), Some(1));
        assert_eq!(number_of(&b[payload..]), Some(99_999_999));
        assert_eq!(number_of(b"{\"type\":\"heartbeat\",\"x\":\"#00000001\"}"), None);
        assert_eq!(number_of(b"{\"type\":\"announcement\",\"x\":\"#0001"), None);
    }

    #[test]
    fn records_open_once_in_order_and_whole() {
        let (mut here, mut there) = (Sealing::new(40_000).unwrap(), Sealing::new(40_000).unwrap());
        let (mut first, mut second) = (Vec::new(), Vec::new());
        here.seal(b"one", &mut first).unwrap();
        here.seal(b"two", &mut second).unwrap();
        assert_eq!(first.len(), RECORD_HEADER + 3 + 1 + TAG);
        let mut both = [first.clone(), second.clone()].concat();
        assert_eq!(there.open(&mut both[..10]), Ok(None));
        let (plain, used) = there.open(&mut both).unwrap().unwrap();
        assert_eq!((&*plain, used), (&b"one"[..], first.len()));
        assert_eq!(there.open(&mut second).unwrap().unwrap().0, b"two");
        assert!(there.open(&mut first).is_err());
        assert!(Sealing::new(40_001).unwrap().open(&mut both).is_err());
        assert!(there.open(&mut b"HTTP/1.1 200 OK".to_vec()).is_err());
    }
}
