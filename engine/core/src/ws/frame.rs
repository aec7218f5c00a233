//! Frame headers, masking, close payloads: RFC 6455 section 5.
//!
//! Contract: pure functions over byte slices. Decoding judges a header as soon as the byte that
//! spoils it is there. Allocates only when a caller's `Vec` has to grow. Fails with [`Violation`].

/// Which side of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Receives masked frames, sends unmasked ones.
    Server,
    /// Receives unmasked frames, sends masked ones.
    Client,
}

/// RFC 6455 5.2: the opcodes in use. All others are reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are RFC 6455's")]
pub enum Opcode {
    Continuation = 0x0,
    Text = 0x1,
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xA,
}

impl Opcode {
    /// From the low four bits of a frame's first byte; `None` when reserved.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Opcode> {
        Some(match bits {
            0x0 => Opcode::Continuation,
            0x1 => Opcode::Text,
            0x2 => Opcode::Binary,
            0x8 => Opcode::Close,
            0x9 => Opcode::Ping,
            0xA => Opcode::Pong,
            _ => return None,
        })
    }

    /// "Control frames are identified by opcodes where the most significant bit of the opcode is 1."
    #[must_use]
    pub const fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

/// A close status code, RFC 6455 7.4 and the IANA registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(pub u16);

#[allow(missing_docs, reason = "the names are the registry's")]
impl CloseCode {
    pub const NORMAL: CloseCode = CloseCode(1000);
    pub const GOING_AWAY: CloseCode = CloseCode(1001);
    pub const PROTOCOL_ERROR: CloseCode = CloseCode(1002);
    pub const UNSUPPORTED_DATA: CloseCode = CloseCode(1003);
    pub const INVALID_PAYLOAD: CloseCode = CloseCode(1007);
    pub const POLICY_VIOLATION: CloseCode = CloseCode(1008);
    pub const MESSAGE_TOO_BIG: CloseCode = CloseCode(1009);
    pub const INTERNAL_ERROR: CloseCode = CloseCode(1011);
    pub const SERVICE_RESTART: CloseCode = CloseCode(1012);
    pub const TRY_AGAIN_LATER: CloseCode = CloseCode(1013);

    /// Whether the code may travel in a close frame: registered for it (1000 to 1003, 1007 to 1014)
    /// or free for libraries and applications (3000 to 4999). 1005, 1006 and 1015 never travel.
    #[must_use]
    pub const fn may_travel(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

/// What the peer did wrong: close with `code` and `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// 1002, 1007, 1008 or 1009.
    pub code: CloseCode,
    /// Short, stable, `snake_case`; fits a close frame.
    pub reason: &'static str,
}

impl Violation {
    /// 1002.
    #[must_use]
    pub const fn protocol(reason: &'static str) -> Violation {
        Violation { code: CloseCode::PROTOCOL_ERROR, reason }
    }

    /// 1007: "the data within a message was not consistent with the type of the message".
    pub const INVALID_UTF8: Violation =
        Violation { code: CloseCode::INVALID_PAYLOAD, reason: "invalid_utf8" };

    /// 1009. Feed specification, "Client message limits": `frame_too_large`.
    pub const TOO_LARGE: Violation =
        Violation { code: CloseCode::MESSAGE_TOO_BIG, reason: "frame_too_large" };

    /// 1008: more than [`crate::limits::EMPTY_FRAGMENTS`] in one message.
    pub const EMPTY_FRAGMENTS: Violation =
        Violation { code: CloseCode::POLICY_VIOLATION, reason: "empty_fragments" };
}

impl core::fmt::Display for Violation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} {}", self.code.0, self.reason)
    }
}

impl core::error::Error for Violation {}

/// Longest frame header: two bytes, a 64-bit length, a masking key.
pub const HEADER_BYTES: usize = 14;
/// "All control frames MUST have a payload length of 125 bytes or less".
pub const CONTROL_PAYLOAD_BYTES: usize = 125;
/// What is left of a close frame's payload for the reason.
pub const CLOSE_REASON_BYTES: usize = CONTROL_PAYLOAD_BYTES - 2;

/// A frame header, checked for everything that needs no memory of earlier frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Last frame of its message.
    pub fin: bool,
    /// What it carries.
    pub opcode: Opcode,
    /// Length of the payload in bytes.
    pub len: u64,
    /// Masking key; zeros from a server.
    pub mask: [u8; 4],
}

impl FrameHeader {
    /// Reads a header that `role` received from the front of `bytes`; returns it with its own length
    /// in bytes. `Ok(None)` asks for more bytes.
    ///
    /// # Errors
    /// 1002 for reserved bits or opcodes, a mask where none is due or none where one is, a control
    /// frame that is fragmented or longer than 125 bytes, a length not in its shortest form or with
    /// its highest bit set: each from the first byte that shows it.
    pub fn decode(bytes: &[u8], role: Role) -> Result<Option<(FrameHeader, usize)>, Violation> {
        let Some((&first, after_first)) = bytes.split_first() else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err(Violation::protocol("reserved_bits"));
        }
        let Some(opcode) = Opcode::from_bits(first & 0x0F) else {
            return Err(Violation::protocol("reserved_opcode"));
        };
        let fin = first & 0x80 != 0;
        if opcode.is_control() && !fin {
            return Err(Violation::protocol("fragmented_control_frame"));
        }
        let Some((&second, after_second)) = after_first.split_first() else { return Ok(None) };
        let masked = second & 0x80 != 0;
        match (role, masked) {
            (Role::Server, false) => return Err(Violation::protocol("unmasked_frame")),
            (Role::Client, true) => return Err(Violation::protocol("masked_frame")),
            _ => {}
        }
        let short = second & 0x7F;
        if opcode.is_control() && usize::from(short) > CONTROL_PAYLOAD_BYTES {
            return Err(Violation::protocol("control_frame_too_long"));
        }
        let Some((len, after_len)) = decode_length(short, after_second)? else { return Ok(None) };
        let (mask, rest) = if masked {
            let Some((mask, rest)) = after_len.split_first_chunk::<4>() else { return Ok(None) };
            (*mask, rest)
        } else {
            ([0; 4], after_len)
        };
        Ok(Some((FrameHeader { fin, opcode, len, mask }, bytes.len() - rest.len())))
    }
}

/// The payload length and what follows it. RFC 6455 5.2: "the minimal number of bytes MUST be used to
/// encode the length", "the most significant bit MUST be 0".
fn decode_length(short: u8, bytes: &[u8]) -> Result<Option<(u64, &[u8])>, Violation> {
    match short {
        126 => {
            let Some((len, rest)) = bytes.split_first_chunk::<2>() else { return Ok(None) };
            let len = u16::from_be_bytes(*len);
            if len < 126 {
                return Err(Violation::protocol("length_not_minimal"));
            }
            Ok(Some((u64::from(len), rest)))
        }
        127 => {
            if bytes.first().is_some_and(|high| high & 0x80 != 0) {
                return Err(Violation::protocol("length_high_bit"));
            }
            let Some((len, rest)) = bytes.split_first_chunk::<8>() else { return Ok(None) };
            let len = u64::from_be_bytes(*len);
            if len <= u64::from(u16::MAX) {
                return Err(Violation::protocol("length_not_minimal"));
            }
            Ok(Some((len, rest)))
        }
        short => Ok(Some((u64::from(short), bytes))),
    }
}

/// Length in bytes of an unmasked header for a payload of `len` bytes.
#[must_use]
pub const fn server_header_len(len: usize) -> usize {
    match len {
        0..=125 => 2,
        126..=0xFFFF => 4,
        _ => 10,
    }
}

/// Writes a frame header into the front of `out` and returns how many bytes of it are used.
pub fn encode_header(
    out: &mut [u8; HEADER_BYTES],
    fin: bool,
    opcode: Opcode,
    len: usize,
    mask: Option<[u8; 4]>,
) -> usize {
    let mask_bit = if mask.is_some() { 0x80 } else { 0 };
    out[0] = u8::from(fin) << 7 | opcode as u8;
    let head = server_header_len(len);
    // Each arm's number fits: `head` was chosen by `len`.
    match head {
        2 => out[1] = mask_bit | len as u8,
        4 => {
            out[1] = mask_bit | 126;
            out[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out[1] = mask_bit | 127;
            out[2..10].copy_from_slice(&(len as u64).to_be_bytes());
        }
    }
    let Some(mask) = mask else { return head };
    out[head..head + 4].copy_from_slice(&mask);
    head + 4
}

/// Masks or unmasks `payload` in place; `mask` is rotated so that its first byte meets the first byte
/// of `payload`. RFC 6455 5.3: "octet i of the transformed data is the XOR of octet i of the original
/// data with octet at index i modulo 4 of the masking key".
pub fn apply_mask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let word = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, tail) = payload.as_chunks_mut::<8>();
    for chunk in words {
        *chunk = (u64::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

/// Appends a whole frame. A client gives a fresh, unpredictable `mask` for every frame; a server
/// gives `None`.
pub fn write_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>) {
    write_fragment(out, true, opcode, payload, mask);
}

/// Appends one frame of a fragmented message: the first carries the message's opcode, the others
/// [`Opcode::Continuation`], the last `fin`.
pub fn write_fragment(out: &mut Vec<u8>, fin: bool, opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>) {
    let mut head = [0; HEADER_BYTES];
    let head_len = encode_header(&mut head, fin, opcode, payload.len(), mask);
    out.reserve(head_len + payload.len());
    out.extend_from_slice(head.get(..head_len).unwrap_or_default());
    let start = out.len();
    out.extend_from_slice(payload);
    if let (Some(mask), Some(sent)) = (mask, out.get_mut(start..)) {
        apply_mask(sent, mask);
    }
}

/// Appends a close frame. `None` sends no code, as when echoing a close without one; a reason longer
/// than [`CLOSE_REASON_BYTES`] is cut at a character.
pub fn write_close(out: &mut Vec<u8>, code: Option<CloseCode>, reason: &str, mask: Option<[u8; 4]>) {
    let mut payload = [0; CONTROL_PAYLOAD_BYTES];
    let used = match code {
        Some(code) => {
            let reason = reason.get(..cut_at_character(reason, CLOSE_REASON_BYTES)).unwrap_or_default();
            payload[..2].copy_from_slice(&code.0.to_be_bytes());
            for (to, from) in payload[2..].iter_mut().zip(reason.bytes()) {
                *to = from;
            }
            2 + reason.len()
        }
        None => 0,
    };
    write_frame(out, Opcode::Close, payload.get(..used).unwrap_or_default(), mask);
}

/// The largest length of at most `max` bytes at which `text` can be cut.
const fn cut_at_character(text: &str, max: usize) -> usize {
    let bytes = text.as_bytes();
    let mut end = bytes.len();
    if end <= max {
        return end;
    }
    end = max;
    // `end < bytes.len()` here and only shrinks; a boundary is at most three bytes back.
    while end > 0 && bytes[end] & 0xC0 == 0x80 {
        end -= 1;
    }
    end
}

/// A server's close frame rendered once, ahead of need, so that closing a subscriber is one write of
/// ready bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreparedClose {
    bytes: [u8; 2 + CONTROL_PAYLOAD_BYTES],
    len: u8,
}

impl PreparedClose {
    /// Renders it; usable in constants. A reason that is too long is cut at a character.
    #[must_use]
    pub const fn new(code: CloseCode, reason: &str) -> PreparedClose {
        let mut bytes = [0; 2 + CONTROL_PAYLOAD_BYTES];
        let text = reason.as_bytes();
        let reason_len = cut_at_character(reason, CLOSE_REASON_BYTES);
        let code = code.0.to_be_bytes();
        bytes[0] = 0x80 | Opcode::Close as u8;
        bytes[1] = 2 + reason_len as u8;
        bytes[2] = code[0];
        bytes[3] = code[1];
        let mut i = 0;
        while i < reason_len {
            bytes[4 + i] = text[i];
            i += 1;
        }
        PreparedClose { bytes, len: 4 + reason_len as u8 }
    }

    /// The frame.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(bytes: &[u8]) -> Result<Option<(FrameHeader, usize)>, Violation> {
        FrameHeader::decode(bytes, Role::Server)
    }

    #[test]
    fn headers_are_judged_from_the_byte_that_spoils_them() {
        let rows: [(&[u8], &str); 13] = [
            (&[0xC1], "reserved_bits"),
            (&[0x91], "reserved_bits"),
            (&[0x83], "reserved_opcode"),
            (&[0x8F], "reserved_opcode"),
            (&[0x09], "fragmented_control_frame"),
            (&[0x81, 0x05], "unmasked_frame"),
            (&[0x89, 0xFE], "control_frame_too_long"),
            (&[0x88, 0xFF], "control_frame_too_long"),
            (&[0x82, 0xFE, 0x00, 0x7D], "length_not_minimal"),
            (&[0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF], "length_not_minimal"),
            (&[0x82, 0xFF, 0x80], "length_high_bit"),
            (&[0xF1], "reserved_bits"),
            (&[0x8B], "reserved_opcode"),
        ];
        for (bytes, reason) in rows {
            assert_eq!(decode(bytes), Err(Violation::protocol(reason)), "{bytes:x?}");
            assert_eq!(decode(&bytes[..bytes.len() - 1]), Ok(None), "{bytes:x?} less one byte");
        }
    }

    #[test]
    fn close_codes_that_may_travel() {
        let bad = [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, u16::MAX];
        let good = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4999];
        assert!(bad.iter().all(|c| !CloseCode(*c).may_travel()));
        assert!(good.iter().all(|c| CloseCode(*c).may_travel()));
    }

    #[test]
    fn prepared_and_written_closes_agree_and_cut_at_characters() {
        let long = format!("{}{}", "a".repeat(122), "€");
        for reason in ["", "key_expired", &"x".repeat(123), &"x".repeat(124), &long, &"종".repeat(60)] {
            let mut written = Vec::new();
            write_close(&mut written, Some(CloseCode::NORMAL), reason, None);
            assert_eq!(PreparedClose::new(CloseCode::NORMAL, reason).as_bytes(), written);
            assert!(written.len() <= 2 + CONTROL_PAYLOAD_BYTES);
            let sent = core::str::from_utf8(&written[4..]).unwrap();
            assert!(reason.starts_with(sent) && reason.len() - sent.len() < reason.len().max(1));
        }
        let mut bare = Vec::new();
        write_close(&mut bare, None, "ignored", None);
        assert_eq!(bare, [0x88, 0]);
    }

    proptest! {
        #[test]
        fn headers_round_trip(
            fin in any::<bool>(),
            data in prop_oneof![Just(Opcode::Continuation), Just(Opcode::Text), Just(Opcode::Binary)],
            len in prop_oneof![
                0usize..300, 65_530usize..65_545, Just(1usize << 40), Just(usize::MAX >> 1),
            ],
            mask in any::<Option<[u8; 4]>>(),
        ) {
            let mut out = [0; HEADER_BYTES];
            let used = encode_header(&mut out, fin, data, len, mask);
            let role = if mask.is_some() { Role::Server } else { Role::Client };
            let header = FrameHeader { fin, opcode: data, len: len as u64, mask: mask.unwrap_or_default() };
            prop_assert_eq!(FrameHeader::decode(&out[..used], role), Ok(Some((header, used))));
            prop_assert_eq!(used, server_header_len(len) + if mask.is_some() { 4 } else { 0 });
            for cut in 0..used {
                prop_assert_eq!(FrameHeader::decode(&out[..cut], role), Ok(None));
            }
        }

        #[test]
        fn masking_is_bytewise_xor(payload in proptest::collection::vec(any::<u8>(), 0..70), mask in any::<[u8; 4]>()) {
            let mut masked = payload.clone();
            apply_mask(&mut masked, mask);
            let expected: Vec<u8> = payload.iter().enumerate().map(|(i, b)| b ^ mask[i % 4]).collect();
            prop_assert_eq!(&masked, &expected);
            apply_mask(&mut masked, mask);
            prop_assert_eq!(&masked, &payload);
        }
    }
}
