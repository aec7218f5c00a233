//! A secret of 32 random bytes, as text of 64 hexadecimal digits: a session's id, a sign-in code.
//!
//! Contract: drawn outside and given in; shown only by [`Ticket::reveal`]. Tables keep its
//! [`TicketHash`], from which it cannot be found, so a look-up's timing tells nothing of it.

use ring::digest::{SHA256, digest};

const BYTES: usize = 32;

/// The secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket([u8; BYTES]);

/// SHA-256 of a [`Ticket`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TicketHash([u8; BYTES]);

impl Ticket {
    /// Of random bytes.
    #[must_use]
    pub const fn new(random: [u8; BYTES]) -> Ticket {
        Ticket(random)
    }

    /// Reads exactly what [`Ticket::reveal`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Ticket> {
        let mut bytes = [0; BYTES];
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != BYTES || !rest.is_empty() {
            return None;
        }
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = (digit(*high)? << 4) | digit(*low)?;
        }
        Some(Ticket(bytes))
    }

    /// Its text, for the one it is given to.
    #[must_use]
    pub fn reveal(&self) -> String {
        hex(&self.0)
    }

    /// What a table keeps of it.
    #[must_use]
    pub fn hash(&self) -> TicketHash {
        let mut hash = [0; BYTES];
        hash.copy_from_slice(digest(&SHA256, &self.0).as_ref());
        TicketHash(hash)
    }

    pub(super) const fn bytes(&self) -> &[u8; BYTES] {
        &self.0
    }
}

impl core::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Ticket(…)")
    }
}

impl core::fmt::Debug for TicketHash {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("TicketHash(…)")
    }
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    let nibbles = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    nibbles.filter_map(|nibble| char::from_digit(u32::from(nibble), 16)).collect()
}

/// One lower-case hexadecimal digit.
pub(super) const fn digit(text: u8) -> Option<u8> {
    match text {
        b'0'..=b'9' => Some(text - b'0'),
        b'a'..=b'f' => Some(text - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_read_back_and_nothing_else_is() {
        let ticket = Ticket::new(core::array::from_fn(|i| (i * 37 % 256) as u8));
        let text = ticket.reveal();
        assert_eq!((text.len(), Ticket::parse(&text)), (64, Some(ticket.clone())));
        let near = [&text[1..], &text.to_uppercase(), &format!("{text}0"), &text.replace('0', "g"), "", "é"];
        for foreign in near {
            assert_eq!(Ticket::parse(foreign), None, "{foreign}");
        }
        assert_eq!(format!("{ticket:?}{:?}", ticket.hash()), "Ticket(…)TicketHash(…)");
    }
}
