//! The feed's TLS record layer: whatever arrives, sealed by who has the keys or not, is data, an end, a
//! fault or waits; data comes out as it went in; what we say after it opens at the other end.
//!
//! The input is a little program: version and cipher, how the bytes are cut, then steps of a peer that
//! has the keys and keeps to no rule.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tocsin::net::tls::channel::{Channel, Direction, Next, Rekey};
use tocsin::net::tls::record::{Cipher, Content, Fault, Opening, Sealing, Secrets, Version};
use tocsin_fuzz::Input;

const CONTENTS: [Content; 4] =
    [Content::ChangeCipherSpec, Content::Alert, Content::Handshake, Content::ApplicationData];

fn secrets(cipher: Cipher, side: u8, generation: u8) -> Secrets {
    let key_bytes = if cipher == Cipher::Aes128Gcm { 16 } else { 32 };
    let key = [side ^ generation; 32];
    Secrets::new(cipher, &key[..key_bytes], [side; 12]).unwrap()
}

struct Keys {
    cipher: Cipher,
    sending: u8,
    receiving: u8,
}

impl Rekey for Keys {
    fn next_sending(&mut self) -> Option<Secrets> {
        self.sending = self.sending.wrapping_add(1);
        Some(secrets(self.cipher, b'S', self.sending))
    }

    fn next_receiving(&mut self) -> Option<Secrets> {
        self.receiving = self.receiving.wrapping_add(1);
        Some(secrets(self.cipher, b'C', self.receiving))
    }
}

/// What reading `wire` brings: data, and whether the peer ended.
fn read(
    channel: &mut Channel<Keys>,
    mut wire: &[u8],
    part: usize,
    room: usize,
    data: &mut Vec<u8>,
) -> Result<bool, Fault> {
    let mut buffer = vec![0; room];
    loop {
        let most = match channel.next(&mut buffer)? {
            Next::Data(count) => {
                assert!(count > 0);
                data.extend_from_slice(&buffer[..count]);
                continue;
            }
            Next::End => return Ok(true),
            Next::Read(most) => most.min(part).min(room).min(wire.len()),
        };
        if most == 0 {
            return Ok(false);
        }
        buffer[..most].copy_from_slice(&wire[..most]);
        wire = &wire[most..];
        if let Some(count) = channel.received(&mut buffer, most)? {
            data.extend_from_slice(&buffer[..count]);
        }
    }
}

/// Opens everything we said, following our keys.
fn open_all(opening: &mut Opening, version: Version, cipher: Cipher, generation: &mut u8, out: &[u8]) {
    let mut out = out.to_vec();
    while let Some(whole) = opening.record_bytes(&out).unwrap() {
        let mut record: Vec<u8> = out.drain(..whole).collect();
        if opening.open(&mut record).unwrap().content == Content::Handshake {
            *generation = generation.wrapping_add(1);
            *opening = Opening::new(version, secrets(cipher, b'S', *generation), 0);
        }
    }
    assert!(out.is_empty());
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let kind = input.byte();
    let version = if kind & 1 == 0 { Version::Tls13 } else { Version::Tls12 };
    let cipher = [Cipher::Aes128Gcm, Cipher::Aes256Gcm, Cipher::Chacha20Poly1305][usize::from(kind >> 1) % 3];
    let (part, room) = (1 + usize::from(input.byte()) * 3, 1 + usize::from(input.byte()) * 5);
    let direction = |side| Direction { secrets: secrets(cipher, side, 0), sequence: 0 };
    let keys = (version == Version::Tls13).then_some(Keys { cipher, sending: 0, receiving: 0 });
    let left = usize::from(input.byte());
    let left_over = if kind & 0x80 == 0 { Vec::new() } else { input.bytes(left).to_vec() };
    let mut lawful = left_over.is_empty();
    let channel = Channel::new(version, direction(b'S'), direction(b'C'), keys, left_over).unwrap();
    let mut channel = channel.with_most_records(if version == Version::Tls13 { 3 } else { 1 << 20 });
    let mut sending = Sealing::new(version, secrets(cipher, b'C', 0), 0).unwrap();
    let mut opening = Opening::new(version, secrets(cipher, b'S', 0), 0);
    let (mut sent_generation, mut own_generation) = (0_u8, 0_u8);
    let (mut expected, mut data, mut out) = (Vec::new(), Vec::new(), Vec::new());
    while !input.0.is_empty() {
        let step = input.byte();
        let mut wire = Vec::new();
        match step % 8 {
            // A record of any kind, rightly sealed.
            0..=3 => {
                let content = CONTENTS[usize::from(step % 4)];
                let count = usize::from(input.byte());
                let payload = input.bytes(count);
                sending.seal(content, payload, &mut wire).unwrap();
                if content == Content::ApplicationData {
                    expected.extend_from_slice(payload);
                }
            }
            // A key update as it should be.
            4 => {
                let message = [24, 0, 0, 1, input.byte() & 1];
                sending.seal(Content::Handshake, &message, &mut wire).unwrap();
                sent_generation = sent_generation.wrapping_add(1);
                sending = Sealing::new(version, secrets(cipher, b'C', sent_generation), 0).unwrap();
            }
            // Bytes of nobody.
            5 => {
                lawful = false;
                let count = usize::from(input.byte());
                wire.extend_from_slice(input.bytes(count));
            }
            // A record changed on the way.
            6 => {
                lawful = false;
                sending.seal(Content::ApplicationData, b"changed", &mut wire).unwrap();
                let (at, mask) = (usize::from(input.byte()) % wire.len(), input.byte());
                wire[at] ^= mask;
                // Unless it was not, or where nothing looks at it.
                if mask == 0 {
                    expected.extend_from_slice(b"changed");
                }
            }
            // Data of ours.
            _ => {
                out.clear();
                channel.seal(input.bytes(9), &mut out).unwrap();
                open_all(&mut opening, version, cipher, &mut own_generation, &out);
            }
        }
        match read(&mut channel, &wire, part, room, &mut data) {
            Ok(false) => {}
            ended => {
                assert!(expected.starts_with(&data));
                out.clear();
                match ended {
                    Ok(_) => channel.close(&mut out).unwrap(),
                    Err(fault) => channel.complain(fault, &mut out),
                }
                return open_all(&mut opening, version, cipher, &mut own_generation, &out);
            }
        }
    }
    if lawful {
        assert_eq!(data, expected);
        assert!(channel.is_idle());
    }
});
