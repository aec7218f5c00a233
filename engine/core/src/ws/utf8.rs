//! UTF-8 checked as it arrives.
//!
//! Contract: [`Utf8Stream::push`] fails at the first byte that no continuation could make valid, even
//! in the middle of a character that is split over frames. Does not allocate; four bytes of state.

/// Not UTF-8, whatever follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidUtf8;

/// A character may be cut by a frame or by a read: this remembers its first bytes.
///
/// INVARIANT: `pending[..len]` is empty or a proper prefix of some valid character, so `len <= 3`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Utf8Stream {
    pending: [u8; 3],
    len: u8,
}

impl Utf8Stream {
    /// At a character boundary.
    #[must_use]
    pub const fn new() -> Utf8Stream {
        Utf8Stream { pending: [0; 3], len: 0 }
    }

    /// Whether everything pushed so far is complete characters.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.len == 0
    }

    /// Checks the next bytes of the text.
    ///
    /// # Errors
    /// [`InvalidUtf8`] as soon as the text can no longer become valid.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), InvalidUtf8> {
        let mut rest = bytes;
        while self.len > 0 {
            let Some((&byte, after)) = rest.split_first() else { return Ok(()) };
            self.complete_with(byte)?;
            rest = after;
        }
        let Err(error) = simdutf8::compat::from_utf8(rest) else { return Ok(()) };
        if error.error_len().is_some() {
            return Err(InvalidUtf8);
        }
        let cut = rest.get(error.valid_up_to()..).unwrap_or_default();
        let room = self.pending.get_mut(..cut.len()).ok_or(InvalidUtf8)?;
        room.copy_from_slice(cut);
        self.len = u8::try_from(cut.len()).unwrap_or(0);
        Ok(())
    }

    /// One more byte of the character that `pending` begins.
    fn complete_with(&mut self, byte: u8) -> Result<(), InvalidUtf8> {
        let have = usize::from(self.len);
        let mut character = [0; 4];
        for (to, from) in character.iter_mut().zip(self.pending.iter().take(have).chain([&byte])) {
            *to = *from;
        }
        match core::str::from_utf8(character.get(..=have).unwrap_or_default()) {
            Ok(_) => self.len = 0,
            Err(error) if error.error_len().is_none() => {
                *self.pending.get_mut(have).ok_or(InvalidUtf8)? = byte;
                self.len += 1;
            }
            Err(_) => return Err(InvalidUtf8),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Length of the longest prefix that could still become valid.
    fn accepted_prefix(bytes: &[u8]) -> usize {
        let mut stream = Utf8Stream::new();
        bytes.iter().take_while(|b| stream.push(core::slice::from_ref(b)).is_ok()).count()
    }

    #[test]
    fn fails_at_the_first_hopeless_byte() {
        let rows: [(&[u8], usize); 12] = [
            (b"plain", 5),
            ("κόσμε€𝄞".as_bytes(), 17),
            (b"\xc0", 0),
            (b"\xc1\x80", 0),
            (b"\xe0\x9f", 1),
            (b"\xed\xa0", 1),
            (b"\xf0\x8f", 1),
            (b"\xf4\x90", 1),
            (b"\xf5", 0),
            (b"a\x80", 1),
            (b"\xe2\x82\x28", 2),
            (b"\xf0\x9d\x84\xc0", 3),
        ];
        for (bytes, accepted) in rows {
            assert_eq!(accepted_prefix(bytes), accepted, "{bytes:x?}");
        }
    }

    #[test]
    fn an_unfinished_character_is_accepted_but_not_complete() {
        let mut stream = Utf8Stream::new();
        assert_eq!(stream.push(b"price in \xe2\x82"), Ok(()));
        assert!(!stream.is_complete());
        assert_eq!(stream.push(b""), Ok(()));
        assert_eq!(stream.push(b"\xac"), Ok(()));
        assert!(stream.is_complete());
    }

    proptest! {
        #[test]
        fn agrees_with_the_standard_library_at_any_split(
            bytes in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..48),
                ".{0,24}".prop_map(String::into_bytes),
                (".{0,24}", any::<u8>(), any::<proptest::sample::Index>()).prop_map(|(text, byte, at)| {
                    let mut bytes = text.into_bytes();
                    let at = at.index(bytes.len() + 1);
                    bytes.insert(at, byte);
                    bytes
                }),
            ],
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..4),
        ) {
            let mut at: Vec<usize> = cuts.iter().map(|c| c.index(bytes.len() + 1)).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            let mut stream = Utf8Stream::new();
            let all = at.windows(2).try_for_each(|w| stream.push(&bytes[w[0]..w[1]]));
            let whole = core::str::from_utf8(&bytes);
            prop_assert_eq!(all.is_ok() && stream.is_complete(), whole.is_ok());
            let hopeless = whole.err().is_some_and(|e| e.error_len().is_some());
            prop_assert_eq!(all.is_err(), hopeless);
        }
    }
}
