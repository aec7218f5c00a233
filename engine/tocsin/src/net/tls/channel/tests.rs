//! The record layer against a peer made of its own parts, which can break every rule. How it gets on with
//! rustls is tested beside `session`.

use proptest::prelude::*;
use ring::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::digest;

use super::super::record::{Cipher, PLAINTEXT_BYTES};
use super::*;

const VERSIONS: [Version; 2] = [Version::Tls12, Version::Tls13];
const CIPHERS: [Cipher; 3] = [Cipher::Aes128Gcm, Cipher::Aes256Gcm, Cipher::Chacha20Poly1305];

fn all() -> impl Iterator<Item = (Version, Cipher)> {
    VERSIONS.into_iter().flat_map(|version| CIPHERS.map(|cipher| (version, cipher)))
}

/// The keys of a side (`b'S'` the channel, `b'C'` its peer) after so many updates.
fn key_bytes(cipher: Cipher, side: u8, generation: u8) -> (Vec<u8>, [u8; 12]) {
    let digest = digest::digest(&digest::SHA512, &[side, generation, cipher as u8]);
    let key_bytes = if cipher == Cipher::Aes128Gcm { 16 } else { 32 };
    (digest.as_ref()[..key_bytes].to_vec(), digest.as_ref()[32..44].try_into().unwrap())
}

fn secrets(cipher: Cipher, side: u8, generation: u8) -> Secrets {
    let (key, iv) = key_bytes(cipher, side, generation);
    Secrets::new(cipher, &key, iv).unwrap()
}

struct Keys {
    cipher: Cipher,
    sending: u8,
    receiving: u8,
}

impl Rekey for Keys {
    fn next_sending(&mut self) -> Option<Secrets> {
        self.sending += 1;
        Some(secrets(self.cipher, b'S', self.sending))
    }

    fn next_receiving(&mut self) -> Option<Secrets> {
        self.receiving += 1;
        Some(secrets(self.cipher, b'C', self.receiving))
    }
}

/// The other end.
struct Peer {
    version: Version,
    cipher: Cipher,
    sending: Sealing,
    receiving: Opening,
    generations: (u8, u8),
}

impl Peer {
    fn seal(&mut self, content: Content, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.sending.seal(content, bytes, &mut out).unwrap();
        out
    }

    fn data(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.seal(Content::ApplicationData, bytes)
    }

    fn key_update(&mut self, request: u8) -> Vec<u8> {
        let out = self.seal(Content::Handshake, &[24, 0, 0, 1, request]);
        self.generations.0 += 1;
        self.sending = Sealing::new(self.version, secrets(self.cipher, b'C', self.generations.0), 0).unwrap();
        out
    }

    /// A record with what no honest sealing makes: `inner` as it is (TLS 1.3), any length.
    fn raw(&mut self, outer: u8, inner: &[u8]) -> Vec<u8> {
        let (key, iv) = key_bytes(self.cipher, b'C', self.generations.0);
        let algorithm = match self.cipher {
            Cipher::Aes128Gcm => &aead::AES_128_GCM,
            Cipher::Aes256Gcm => &aead::AES_256_GCM,
            Cipher::Chacha20Poly1305 => &aead::CHACHA20_POLY1305,
        };
        let key = LessSafeKey::new(UnboundKey::new(algorithm, &key).unwrap());
        let sequence = self.sending.sequence().to_be_bytes();
        let mut nonce = iv;
        nonce[4..].iter_mut().zip(sequence).for_each(|(byte, mask)| *byte ^= mask);
        let explicit = match (self.version, self.cipher) {
            (Version::Tls12, Cipher::Aes128Gcm | Cipher::Aes256Gcm) => nonce[4..].to_vec(),
            _ => Vec::new(),
        };
        let length = u16::try_from(explicit.len() + inner.len() + 16).unwrap().to_be_bytes();
        let header = [outer, 3, 3, length[0], length[1]];
        let aad = match self.version {
            Version::Tls13 => header.to_vec(),
            Version::Tls12 => {
                let plain = u16::try_from(inner.len()).unwrap().to_be_bytes();
                [&sequence[..], &header[..3], &plain].concat()
            }
        };
        let mut body = inner.to_vec();
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut body).unwrap();
        [&header[..], &explicit, &body].concat()
    }

    /// Opens everything in `bytes`, following key updates.
    fn open_all(&mut self, bytes: &[u8]) -> Vec<(Content, Vec<u8>)> {
        let (mut bytes, mut opened) = (bytes.to_vec(), Vec::new());
        while let Some(whole) = self.receiving.record_bytes(&bytes).unwrap() {
            let mut record: Vec<u8> = bytes.drain(..whole).collect();
            let Opened { content, plaintext } = self.receiving.open(&mut record).unwrap();
            if content == Content::Handshake {
                self.generations.1 += 1;
                let next = secrets(self.cipher, b'S', self.generations.1);
                self.receiving = Opening::new(self.version, next, 0);
            }
            opened.push((content, record[plaintext].to_vec()));
        }
        assert!(bytes.is_empty());
        opened
    }
}

fn pair(version: Version, cipher: Cipher) -> (Channel<Keys>, Peer) {
    pair_after(version, cipher, 0, Vec::new())
}

fn pair_after(version: Version, cipher: Cipher, sequence: u64, left_over: Vec<u8>) -> (Channel<Keys>, Peer) {
    let direction = |side| Direction { secrets: secrets(cipher, side, 0), sequence };
    let keys = (version == Version::Tls13).then_some(Keys { cipher, sending: 0, receiving: 0 });
    let channel = Channel::new(version, direction(b'S'), direction(b'C'), keys, left_over).unwrap();
    let peer = Peer {
        version,
        cipher,
        sending: Sealing::new(version, secrets(cipher, b'C', 0), sequence).unwrap(),
        receiving: Opening::new(version, secrets(cipher, b'S', 0), sequence),
        generations: (0, 0),
    };
    (channel, peer)
}

/// Reads all of `bytes` as a session would, in parts of at most `part`, into a buffer of `room` bytes.
fn read_all(
    channel: &mut Channel<Keys>,
    mut bytes: &[u8],
    part: usize,
    room: usize,
) -> Result<(Vec<u8>, bool), Fault> {
    let (mut buffer, mut data) = (vec![0; room], Vec::new());
    loop {
        let most = match channel.next(&mut buffer)? {
            Next::Data(count) => {
                assert!(count > 0);
                data.extend_from_slice(&buffer[..count]);
                continue;
            }
            Next::End => return Ok((data, true)),
            Next::Read(most) => most.min(part).min(room).min(bytes.len()),
        };
        if most == 0 {
            return Ok((data, false));
        }
        buffer[..most].copy_from_slice(&bytes[..most]);
        bytes = &bytes[most..];
        match channel.received(&mut buffer, most)? {
            Some(0) => assert_eq!(channel.next(&mut buffer)?, Next::End),
            Some(count) => data.extend_from_slice(&buffer[..count]),
            None => {}
        }
        // One record and no more is ever held of what was read here.
        assert!(
            channel.held.as_ref().map_or(0, |held| held.bytes.len())
                <= HEADER_BYTES + PLAINTEXT_BYTES + 2_048
        );
    }
}

fn read_whole(channel: &mut Channel<Keys>, bytes: &[u8]) -> Result<(Vec<u8>, bool), Fault> {
    read_all(channel, bytes, 40_000, 40_000)
}

#[test]
fn records_cut_into_parts_of_every_size_come_out_whole_and_leave_no_memory() {
    let message: Vec<u8> = (0..=255).cycle().take(700).collect();
    for (version, cipher) in all() {
        for part in 1..=800 {
            let (mut channel, mut peer) = pair(version, cipher);
            let wire = [peer.data(&message), peer.data(b""), peer.data(b"x"), peer.data(&message)].concat();
            let (data, ended) = read_all(&mut channel, &wire, part, 4_096).unwrap();
            assert_eq!(data, [&message[..], b"x", &message].concat(), "{version:?} {cipher:?} {part}");
            assert!(!ended && channel.is_idle());
        }
    }
}

#[test]
fn full_records_go_through_buffers_of_any_size() {
    let full = vec![7; PLAINTEXT_BYTES];
    for (version, cipher) in all() {
        for room in [1, 5, 100, 4_096, 16_384, 20_000] {
            let (mut channel, mut peer) = pair(version, cipher);
            let wire = [peer.data(&full), peer.data(b"end")].concat();
            let (data, _) = read_all(&mut channel, &wire, 1_460, room).unwrap();
            assert_eq!(data, [&full[..], b"end"].concat());
            assert!(channel.is_idle());
        }
    }
}

#[test]
fn what_the_handshake_left_over_is_read_first() {
    for (version, cipher) in all() {
        let (_, mut peer) = pair_after(version, cipher, 1, Vec::new());
        let wire = [peer.data(b"GET /"), peer.data(b" HTTP"), peer.data(b"/1.1")].concat();
        for cut in 0..=wire.len() {
            let (mut channel, _) = pair_after(version, cipher, 1, wire[..cut].to_vec());
            let (data, _) = read_all(&mut channel, &wire[cut..], 3, 2).unwrap();
            assert_eq!(data, b"GET / HTTP/1.1");
            assert!(channel.is_idle());
        }
    }
}

#[test]
fn any_bit_changed_anywhere_is_a_fault() {
    for (version, cipher) in all() {
        let (_, mut peer) = pair(version, cipher);
        let wire = peer.data(b"to the moon");
        let (mut server, _) = pair(version, cipher);
        let mut ours = Vec::new();
        server.seal(b"to the moon", &mut ours).unwrap();
        for bit in 0..wire.len() * 8 {
            let mut changed = wire.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            // A length that grew waits for more bytes: they come.
            changed.extend([0; 20_000]);
            let (mut channel, _) = pair(version, cipher);
            let fault = read_whole(&mut channel, &changed).unwrap_err();
            let expected: &[Fault] = match bit / 8 {
                0 => &[Fault::Unexpected, Fault::BadRecord],
                1 => &[Fault::Malformed],
                3 => &[Fault::TooLong, Fault::BadRecord],
                _ => &[Fault::BadRecord],
            };
            assert!(expected.contains(&fault), "{version:?} {cipher:?} bit {bit}: {fault:?}");
        }
        for bit in HEADER_BYTES * 8..ours.len() * 8 {
            let mut changed = ours.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let (_, mut peer) = pair(version, cipher);
            assert_eq!(peer.receiving.open(&mut changed), Err(Fault::BadRecord));
        }
    }
}

#[test]
fn records_left_out_repeated_or_swapped_do_not_open() {
    for (version, cipher) in all() {
        let (_, mut peer) = pair(version, cipher);
        let [a, b] = [peer.data(b"first"), peer.data(b"second")];
        for wire in [vec![&b], vec![&a, &a], vec![&b, &a]] {
            let (mut channel, _) = pair(version, cipher);
            let wire: Vec<u8> = wire.into_iter().flatten().copied().collect();
            assert_eq!(read_whole(&mut channel, &wire), Err(Fault::BadRecord));
        }
    }
}

#[test]
fn records_too_short_to_be_sealed_do_not_open() {
    for (version, cipher) in all() {
        for length in 0..40_u8 {
            let (mut channel, _) = pair(version, cipher);
            let wire = [&[23, 3, 3, 0, length][..], &vec![0; usize::from(length)]].concat();
            assert_eq!(read_whole(&mut channel, &wire), Err(Fault::BadRecord), "{length}");
        }
    }
}

#[test]
fn records_and_plaintexts_longer_than_allowed_are_told_apart_from_broken_ones() {
    for (version, cipher) in all() {
        let most = PLAINTEXT_BYTES + if version == Version::Tls13 { 256 } else { 2_048 };
        for (length, expected) in [(most, None), (most + 1, Some(Fault::TooLong))] {
            let (mut channel, _) = pair(version, cipher);
            let [high, low] = u16::try_from(length).unwrap().to_be_bytes();
            // The header alone decides.
            assert_eq!(read_whole(&mut channel, &[23, 3, 3, high, low]).err(), expected);
        }
        let (mut channel, mut peer) = pair(version, cipher);
        let mut inner = vec![1; PLAINTEXT_BYTES];
        inner.push(23);
        if version == Version::Tls13 {
            assert_eq!(read_whole(&mut channel, &peer.raw(23, &inner)).unwrap().0.len(), PLAINTEXT_BYTES);
            let (mut channel, mut peer) = pair(version, cipher);
            // Padding counts.
            inner.push(0);
            assert_eq!(read_whole(&mut channel, &peer.raw(23, &inner)), Err(Fault::TooLong));
        } else {
            assert_eq!(read_whole(&mut channel, &peer.raw(23, &inner)), Err(Fault::TooLong));
        }
        let mut out = Vec::new();
        let (mut channel, _) = pair(version, cipher);
        assert_eq!(channel.seal(&[0; PLAINTEXT_BYTES + 1], &mut out), Err(Fault::Internal));
        assert!(out.is_empty());
    }
}

#[test]
fn padding_is_taken_off_and_a_record_of_nothing_else_is_refused() {
    for cipher in CIPHERS {
        let (mut channel, mut peer) = pair(Version::Tls13, cipher);
        let mut inner = b"padded\0\0\x17".to_vec();
        inner.extend([0; 200]);
        assert_eq!(read_whole(&mut channel, &peer.raw(23, &inner)).unwrap().0, b"padded\0\0");
        for (inner, expected) in [
            (&[0; 30][..], Fault::Unexpected),
            (&[], Fault::Unexpected),
            (b"type 99\x63", Fault::Unexpected),
            (b"\x01\x14", Fault::Unexpected),
        ] {
            let (mut channel, mut peer) = pair(Version::Tls13, cipher);
            assert_eq!(read_whole(&mut channel, &peer.raw(23, inner)), Err(expected), "{inner:?}");
        }
    }
}

/// Records in one run, and what reading them comes to.
type Row = (Version, &'static [(Content, &'static [u8])], Result<bool, Fault>);

#[test]
fn what_is_no_data_is_judged_by_these_rows() {
    use Content::{Alert, ApplicationData, ChangeCipherSpec, Handshake};
    use Version::{Tls12, Tls13};
    let rows: &[Row] = &[
        // Closing, and what comes behind it is ignored.
        (Tls13, &[(Alert, &[1, 0])], Ok(true)),
        (Tls12, &[(Alert, &[1, 0])], Ok(true)),
        (Tls13, &[(Alert, &[2, 0]), (ChangeCipherSpec, &[1])], Ok(true)),
        // Alerts.
        (Tls13, &[(Alert, &[2, 80])], Err(Fault::PeerAlert(80))),
        (Tls12, &[(Alert, &[2, 80])], Err(Fault::PeerAlert(80))),
        (Tls13, &[(Alert, &[1, 80])], Err(Fault::PeerAlert(80))),
        (Tls12, &[(Alert, &[1, 80])], Ok(false)),
        (Tls13, &[(Alert, &[1, 90])], Ok(false)),
        (Tls13, &[(Alert, &[9, 10])], Err(Fault::PeerAlert(10))),
        (Tls12, &[(Alert, &[9, 10])], Err(Fault::Parameter)),
        (Tls13, &[(Alert, &[1])], Err(Fault::Malformed)),
        (Tls12, &[(Alert, &[])], Err(Fault::Malformed)),
        (Tls13, &[(Alert, &[1, 0, 1, 0])], Err(Fault::Malformed)),
        // Another handshake.
        (Tls12, &[(Handshake, &[1, 0, 0, 4, 3, 3, 0, 0])], Err(Fault::Renegotiation)),
        (Tls12, &[(Handshake, &[24, 0, 0, 1, 0])], Err(Fault::Unexpected)),
        (Tls12, &[(Handshake, &[])], Err(Fault::Unexpected)),
        (Tls13, &[(Handshake, &[1, 0, 0, 4, 3, 3, 0, 0])], Err(Fault::Unexpected)),
        (Tls13, &[(Handshake, &[4, 0, 0, 1, 0])], Err(Fault::Unexpected)),
        (Tls13, &[(Handshake, &[11])], Err(Fault::Unexpected)),
        (Tls13, &[(ChangeCipherSpec, &[1])], Err(Fault::Unexpected)),
        (Tls12, &[(ChangeCipherSpec, &[1])], Err(Fault::Unexpected)),
        // KeyUpdate as it must not be.
        (Tls13, &[(Handshake, &[])], Err(Fault::Unexpected)),
        (Tls13, &[(Handshake, &[24, 0, 0, 2])], Err(Fault::Malformed)),
        (Tls13, &[(Handshake, &[24, 0, 0, 0])], Err(Fault::Malformed)),
        (Tls13, &[(Handshake, &[24, 0, 0, 1, 2])], Err(Fault::Parameter)),
        (Tls13, &[(Handshake, &[24, 0, 0, 1, 0, 24])], Err(Fault::Unexpected)),
        (Tls13, &[(Handshake, &[24, 0, 0]), (Handshake, &[])], Err(Fault::Unexpected)),
        (Tls13, &[(Handshake, &[24, 0, 0]), (Handshake, &[1, 0, 0])], Err(Fault::Unexpected)),
        (Tls13, &[(Handshake, &[24]), (ApplicationData, b"x")], Err(Fault::Unexpected)),
        (Tls13, &[(Handshake, &[24]), (ApplicationData, b"")], Err(Fault::Unexpected)),
        (Tls13, &[(Handshake, &[24]), (Alert, &[1, 0])], Err(Fault::Unexpected)),
        // And in parts, as it may be.
        (Tls13, &[(Handshake, &[24]), (Handshake, &[0, 0]), (Handshake, &[1, 0])], Ok(false)),
    ];
    for cipher in CIPHERS {
        for (version, records, expected) in rows {
            let (mut channel, mut peer) = pair(*version, cipher);
            let wire: Vec<u8> = records.iter().flat_map(|(kind, bytes)| peer.seal(*kind, bytes)).collect();
            for part in [1, 40_000] {
                let (mut fresh, _) = pair(*version, cipher);
                let outcome = read_all(&mut fresh, &wire, part, 40_000);
                assert_eq!(outcome.map(|(_, ended)| ended), *expected, "{version:?} {records:?}");
            }
            // Every fault is told, as what it is, unless it was the peer's telling.
            if let Err(fault) = read_whole(&mut channel, &wire) {
                let mut out = Vec::new();
                channel.complain(fault, &mut out);
                channel.complain(fault, &mut out);
                let told = peer.open_all(&out);
                let expected = fault.alert().map(|alert| {
                    let level = if alert == super::Alert::NoRenegotiation { 1 } else { 2 };
                    (Alert, vec![level, alert as u8])
                });
                assert_eq!(told, expected.into_iter().collect::<Vec<_>>());
            }
        }
    }
}

#[test]
fn records_in_the_clear_have_no_place_after_the_handshake() {
    for (version, cipher) in all() {
        for kind in [0, 20, 24, 70, 255] {
            let (mut channel, _) = pair(version, cipher);
            assert_eq!(read_whole(&mut channel, &[kind, 3, 3, 0, 1, 1]), Err(Fault::Unexpected));
        }
        let (mut channel, _) = pair(version, cipher);
        let expected = if version == Version::Tls13 { Fault::Unexpected } else { Fault::BadRecord };
        assert_eq!(read_whole(&mut channel, &[21, 3, 3, 0, 2, 1, 0]), Err(expected));
        let (mut channel, _) = pair(version, cipher);
        assert_eq!(read_whole(&mut channel, b"\x17\x02\x00\x00\x01x"), Err(Fault::Malformed));
    }
}

#[test]
fn records_without_data_are_counted_until_data_comes() {
    for (version, cipher) in all() {
        for kind in 0..3 {
            let (mut channel, mut peer) = pair(version, cipher);
            let barren = |peer: &mut Peer| match (kind, version) {
                (1, Version::Tls13) => peer.key_update(1),
                (2, Version::Tls12) => peer.seal(Content::Alert, &[1, 90]),
                _ => peer.data(b""),
            };
            for _ in 0..3 {
                let mut wire = Vec::new();
                for _ in 0..BARREN_RECORDS {
                    wire.extend(barren(&mut peer));
                }
                wire.extend(peer.data(b"!"));
                assert_eq!(read_whole(&mut channel, &wire).unwrap().0, b"!");
            }
            let mut wire = Vec::new();
            for _ in 0..=BARREN_RECORDS {
                wire.extend(barren(&mut peer));
            }
            assert_eq!(read_whole(&mut channel, &wire), Err(Fault::Flood));
        }
    }
}

#[test]
fn a_key_update_changes_the_keys_and_is_answered_once_before_the_next_data() {
    for cipher in CIPHERS {
        let (mut channel, mut peer) = pair(Version::Tls13, cipher);
        let wire = [
            peer.data(b"one "),
            peer.key_update(0),
            peer.data(b"two "),
            peer.key_update(1),
            peer.key_update(1),
            peer.data(b"three"),
        ]
        .concat();
        assert_eq!(read_all(&mut channel, &wire, 7, 100).unwrap().0, b"one two three");
        let mut out = Vec::new();
        channel.seal(b"after", &mut out).unwrap();
        channel.seal(b"that", &mut out).unwrap();
        let expected = [
            (Content::Handshake, vec![24, 0, 0, 1, 0]),
            (Content::ApplicationData, b"after".to_vec()),
            (Content::ApplicationData, b"that".to_vec()),
        ];
        assert_eq!(peer.open_all(&out), expected);
        // What comes under keys of before does not open.
        let mut old = Vec::new();
        Sealing::new(Version::Tls13, secrets(cipher, b'C', 2), 0)
            .unwrap()
            .seal(Content::ApplicationData, b"late", &mut old)
            .unwrap();
        assert_eq!(read_whole(&mut channel, &old), Err(Fault::BadRecord));
    }
}

#[test]
fn a_sending_key_used_up_is_changed_in_13_and_ends_the_connection_in_12() {
    for (version, cipher) in all() {
        let (channel, mut peer) = pair(version, cipher);
        let mut channel = channel.with_most_records(5);
        let mut out = Vec::new();
        let mut sent = 0_u8;
        let fault = loop {
            match channel.seal(&[sent], &mut out) {
                Ok(()) if sent < 100 => sent += 1,
                Ok(()) => break None,
                Err(fault) => break Some(fault),
            }
        };
        if let Some(fault) = fault {
            assert_eq!((version, fault, sent), (Version::Tls12, Fault::Exhausted, 5));
            channel.complain(fault, &mut out);
            assert_eq!(channel.seal(b"more", &mut out), Err(Fault::Internal));
            assert_eq!(peer.open_all(&out).last(), Some(&(Content::Alert, vec![1, 0])));
            continue;
        }
        let opened = peer.open_all(&out);
        let data: Vec<u8> =
            opened.iter().filter(|o| o.0 == Content::ApplicationData).flat_map(|o| o.1.clone()).collect();
        assert_eq!((version, data), (Version::Tls13, (0..=100).collect()));
        // The update itself is the sixth record under its key.
        assert!(opened.chunks(6).take(16).all(|chunk| chunk[5].0 == Content::Handshake));
    }
}

#[test]
fn sequence_numbers_end_before_they_wrap() {
    for (version, cipher) in all() {
        let (channel, mut peer) = pair_after(version, cipher, (1 << 62) - 1, Vec::new());
        let mut channel = channel.with_most_records(u64::MAX);
        let mut out = Vec::new();
        channel.seal(b"last", &mut out).unwrap();
        assert_eq!(peer.open_all(&out), [(Content::ApplicationData, b"last".to_vec())]);
        assert_eq!(channel.seal(b"one more", &mut out), Err(Fault::Exhausted));
        let wire = peer.data(b"last");
        assert_eq!(read_whole(&mut channel, &wire).unwrap().0, b"last");
        assert_eq!(read_whole(&mut channel, &wire), Err(Fault::Exhausted));
        assert_eq!(cipher.most_records() < 1 << 25, cipher != Cipher::Chacha20Poly1305);
    }
}

#[test]
fn the_end_is_said_once_and_nothing_follows_it() {
    for (version, cipher) in all() {
        let (mut channel, mut peer) = pair(version, cipher);
        let mut out = Vec::new();
        channel.seal(b"bye", &mut out).unwrap();
        channel.close(&mut out).unwrap();
        channel.close(&mut out).unwrap();
        channel.complain(Fault::BadRecord, &mut out);
        assert_eq!(channel.seal(b"still here", &mut out), Err(Fault::Internal));
        let expected = [(Content::ApplicationData, b"bye".to_vec()), (Content::Alert, vec![1, 0])];
        assert_eq!(peer.open_all(&out), expected);
        // The peer may still send.
        assert_eq!(read_whole(&mut channel, &peer.data(b"wait")).unwrap(), (b"wait".to_vec(), false));
        let wire = [peer.data(b"ok"), peer.seal(Content::Alert, &[1, 0]), vec![0; 99]].concat();
        assert_eq!(read_whole(&mut channel, &wire).unwrap(), (b"ok".to_vec(), true));
        assert!(channel.is_idle());
    }
}

#[test]
fn nothing_secret_is_shown() {
    let (channel, peer) = pair(Version::Tls13, Cipher::Aes128Gcm);
    let (key, iv) = key_bytes(Cipher::Aes128Gcm, b'C', 0);
    let shown = format!("{channel:?} {:?} {:?}", peer.receiving, peer.sending);
    for secret in [format!("{:?}", &key[..4]), format!("{:?}", &iv[..4])] {
        let digits = secret.trim_matches(['[', ']']);
        assert!(!shown.contains(digits), "{shown}");
    }
}

#[derive(Clone, Debug)]
enum Act {
    Data(usize),
    Empty,
    Update(u8),
    Split(u8),
    Padded(usize),
    Reply(usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (1_usize..600).prop_map(Act::Data),
        1 => (16_000..=PLAINTEXT_BYTES).prop_map(Act::Data),
        1 => Just(Act::Empty),
        1 => (0_u8..2).prop_map(Act::Update),
        1 => (0_u8..2).prop_map(Act::Split),
        1 => (0_usize..300).prop_map(Act::Padded),
        2 => (1_usize..600).prop_map(Act::Reply),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_lawful_talk_comes_through_in_both_directions(
        acts in proptest::collection::vec(act(), 1..25),
        version in prop_oneof![Just(Version::Tls12), Just(Version::Tls13)],
        cipher in proptest::sample::select(&CIPHERS[..]),
        part in 1_usize..20_000,
        room in 1_usize..20_000,
    ) {
        let (channel, mut peer) = pair(version, cipher);
        let mut channel = channel.with_most_records(if version == Version::Tls13 { 3 } else { 1_000 });
        let (mut expected, mut got, mut replied) = (Vec::new(), Vec::new(), 0);
        for (number, act) in acts.into_iter().enumerate() {
            let bytes = |count: usize| vec![number as u8 | 1; count];
            let wire = match act {
                Act::Data(count) => {
                    expected.extend(bytes(count));
                    peer.data(&bytes(count))
                }
                Act::Update(request) if version == Version::Tls13 => peer.key_update(request),
                Act::Split(request) if version == Version::Tls13 => {
                    let start = [peer.seal(Content::Handshake, &[24, 0]), peer.seal(Content::Handshake, &[0])];
                    let end = peer.seal(Content::Handshake, &[1, request]);
                    peer.generations.0 += 1;
                    let next = secrets(cipher, b'C', peer.generations.0);
                    peer.sending = Sealing::new(version, next, 0).unwrap();
                    [start.concat(), end].concat()
                }
                Act::Padded(zeros) if version == Version::Tls13 => {
                    expected.extend(bytes(9));
                    let inner = [bytes(9), vec![23], vec![0; zeros]].concat();
                    let wire = peer.raw(23, &inner);
                    // Counts as one of its records.
                    peer.data(b"");
                    wire
                }
                Act::Reply(count) => {
                    let mut out = Vec::new();
                    channel.seal(&bytes(count), &mut out).unwrap();
                    let opened = peer.open_all(&out);
                    prop_assert_eq!(opened.last(), Some(&(Content::ApplicationData, bytes(count))));
                    prop_assert!(opened.len() <= 2);
                    replied += 1;
                    continue;
                }
                _ => peer.data(b""),
            };
            let (data, ended) = read_all(&mut channel, &wire, part, room).unwrap();
            got.extend(data);
            prop_assert!(!ended && channel.is_idle());
        }
        prop_assert_eq!(got, expected);
        prop_assert!(replied < 25);
    }

    #[test]
    fn any_bytes_at_all_are_a_fault_or_wait_within_the_bound(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        start in prop_oneof![Just(vec![]), Just(vec![23, 3, 3, 0]), Just(vec![22, 3, 3, 0, 5])],
        version in prop_oneof![Just(Version::Tls12), Just(Version::Tls13)],
        part in 1_usize..300,
    ) {
        let (mut channel, _) = pair(version, Cipher::Aes128Gcm);
        if let Ok((data, ended)) = read_all(&mut channel, &[start, bytes].concat(), part, 64) {
            prop_assert!(data.is_empty() && !ended);
        }
    }
}
