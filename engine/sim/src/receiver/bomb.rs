//! A gzip bomb, made bit by bit: a few kilobytes that unpack to megabytes.
//!
//! Contract: a valid gzip member (RFC 1952) of zeros, one deflate block with the fixed codes
//! (RFC 1951 section 3.2.6): a zero, then copies of 258 bytes from one byte back, 13 bits each. Pure.

/// Copies of 258 bytes.
const COPIES: usize = 16 * 1_024;
/// Bytes of a copy: the longest deflate has.
const COPY_BYTES: usize = 258;
/// What it unpacks to, a little over 4 MiB.
pub(super) const UNPACKED_BYTES: usize = 1 + COPIES * COPY_BYTES;

/// Packs bits as deflate does, from the lowest of each byte.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    fn bit(&mut self, bit: bool) {
        if self.used == 0 {
            self.bytes.push(0);
        }
        if let Some(last) = self.bytes.last_mut() {
            *last |= u8::from(bit) << self.used;
        }
        self.used = (self.used + 1) % 8;
    }

    /// A Huffman code, its highest bit first.
    fn code(&mut self, code: u32, length: u32) {
        for at in (0..length).rev() {
            self.bit(code >> at & 1 == 1);
        }
    }
}

/// The bomb.
pub(super) fn gzip() -> Vec<u8> {
    let mut bits = Bits { bytes: vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff], used: 0 };
    bits.bit(true); // the last block
    bits.bit(true); // fixed codes: 01, lowest bit first
    bits.bit(false);
    bits.code(0b0011_0000, 8); // literal 0
    for _ in 0..COPIES {
        bits.code(0b1100_0101, 8); // length 258
        bits.code(0, 5); // from one byte back
    }
    bits.code(0, 7); // the end of the block
    bits.bytes.extend_from_slice(&crc_of_zeros(UNPACKED_BYTES).to_le_bytes());
    bits.bytes.extend_from_slice(&u32::try_from(UNPACKED_BYTES).unwrap_or(u32::MAX).to_le_bytes());
    bits.bytes
}

/// CRC-32 of so many zeros: one step a bit, and a zero changes nothing but the shift.
fn crc_of_zeros(bytes: usize) -> u32 {
    let table: Vec<u32> = (0..256_u32)
        .map(|byte| (0..8).fold(byte, |c, _| (c >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(c & 1))))
        .collect();
    let step = |crc: u32| crc >> 8 ^ table.get((crc & 0xff) as usize).copied().unwrap_or_default();
    !(0..bytes).fold(!0, |crc, _| step(crc))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_small_and_ends_with_its_length() {
        let bomb = gzip();
        assert!(bomb.len() < 32 * 1_024 && UNPACKED_BYTES > 4 * 1_024 * 1_024, "{}", bomb.len());
        assert!(bomb.ends_with(&u32::try_from(UNPACKED_BYTES).unwrap().to_le_bytes()));
        // Of four zeros, as zlib says.
        assert_eq!(crc_of_zeros(4), 0x2144_df1c);
    }
}
