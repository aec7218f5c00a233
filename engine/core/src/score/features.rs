//! What the score looks at: evidence with a name, and hashed words and pairs of words.
//!
//! Contract: [`Features::read`] is a pure function; it reads the title once, keeps everything in a set
//! of bits on the stack, allocates nothing and cannot fail. The trainer and the engine call this same
//! function, so a model is used on exactly what it was trained on; whatever changes here needs a new
//! model (`docs/score.md`).
//!
//! Decisions:
//! - Symbols, the exchange's name and numbers are replaced by marks before they are hashed: what is
//!   learnt is how a notice is worded and not which coin it was about.
//! - The exchange itself is no feature, and neither is the rule's stated confidence. The score has to
//!   hold on exchanges of which no title is labelled; and the confidences were counted on the same
//!   labelled titles, so a measurement on titles held out would already know them.

use super::evidence::{self, Evidence};
use crate::limits;
use crate::model::{Classification, Exchange};

/// Slots of hashed words, behind those of [`Evidence`].
pub const WORD_SLOTS: usize = 4_096;
/// Slots in all: a model has a weight for each.
pub const SLOTS: usize = EVIDENCE_SLOTS + WORD_SLOTS;
/// Slots of [`Evidence`], some of them spare.
pub const EVIDENCE_SLOTS: usize = 64;

const WORDS: usize = SLOTS / u64::BITS as usize;

/// The set of features of one classified title.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Features([u64; WORDS]);

impl Features {
    /// Reads a title and what the classifier said of it. Of a title longer than
    /// [`limits::TITLE_BYTES`] the rest is not read.
    #[must_use]
    pub fn read(exchange: Exchange, title: &str, classification: &Classification) -> Features {
        let mut features = Features([0; WORDS]);
        let title = title.get(..title.floor_char_boundary(limits::TITLE_BYTES)).unwrap_or_default();
        features.hash(Hash::new(b'r').text(classification.rule));
        let mut before = Hash::new(b'^');
        let mut heard = evidence::Heard::default();
        for word in words(title) {
            let marked = mark(exchange, word, classification);
            heard.word(word, &marked, classification);
            features.hash(marked.hash());
            features.hash(before.then(marked.hash()));
            before = marked.hash();
        }
        features.hash(before.then(Hash::new(b'$')));
        heard.conclude(title, classification, |found: Evidence| features.set(found as usize));
        features
    }

    /// Numbers of the slots that are set, ascending.
    pub fn slots(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(at, &bits)| {
            let mut left = bits;
            core::iter::from_fn(move || {
                let bit = (left != 0).then_some(left.trailing_zeros() as usize)?;
                left &= left - 1;
                Some(at * u64::BITS as usize + bit)
            })
        })
    }

    fn hash(&mut self, hash: Hash) {
        self.set(EVIDENCE_SLOTS + hash.slot());
    }

    fn set(&mut self, slot: usize) {
        if let Some(bits) = self.0.get_mut(slot / u64::BITS as usize) {
            *bits |= 1 << (slot % u64::BITS as usize);
        }
    }
}

/// Runs of letters and digits; every other character parts words.
fn words(title: &str) -> impl Iterator<Item = &str> {
    title.split(|c: char| !c.is_alphanumeric() && c != 'Ⓢ').filter(|word| !word.is_empty())
}

/// What stands for a word when it is hashed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Marked<'t> {
    /// One of the announced symbols, alone or with a quote behind it.
    Symbol,
    /// The name of the exchange that published.
    Publisher,
    /// Digits and nothing else.
    Number,
    /// Digits and letters that are no announced symbol: `25x`, `UTC8`.
    Mixed,
    /// Any other word.
    Word(&'t str),
}

impl Marked<'_> {
    fn hash(&self) -> Hash {
        match self {
            Marked::Symbol => Hash::new(b'S'),
            Marked::Publisher => Hash::new(b'P'),
            Marked::Number => Hash::new(b'#'),
            Marked::Mixed => Hash::new(b'M'),
            Marked::Word(word) => Hash::new(b'w').text(word),
        }
    }
}

fn mark<'t>(exchange: Exchange, word: &'t str, classification: &Classification) -> Marked<'t> {
    if classification.tickers.iter().any(|ticker| evidence::is_symbol(word, ticker.as_str())) {
        Marked::Symbol
    } else if word.eq_ignore_ascii_case(exchange.display_name()) {
        Marked::Publisher
    } else if word.bytes().all(|b| b.is_ascii_digit()) {
        Marked::Number
    } else if word.bytes().any(|b| b.is_ascii_digit()) {
        Marked::Mixed
    } else {
        Marked::Word(word)
    }
}

/// A running hash (FNV-1a); its values are part of the model, so it never changes.
#[derive(Clone, Copy)]
struct Hash(u64);

const PRIME: u64 = 0x0000_0100_0000_01b3;

impl Hash {
    fn new(kind: u8) -> Hash {
        Hash(0xcbf2_9ce4_8422_2325).byte(kind)
    }

    const fn byte(self, byte: u8) -> Hash {
        Hash((self.0 ^ byte as u64).wrapping_mul(PRIME))
    }

    /// Ignores ASCII case.
    fn text(self, text: &str) -> Hash {
        text.bytes().fold(self, |hash, byte| hash.byte(byte.to_ascii_lowercase()))
    }

    fn then(self, next: Hash) -> Hash {
        next.0.to_le_bytes().into_iter().fold(self, Hash::byte)
    }

    /// The upper half folded onto the lower: the low bits of this hash alone mix badly.
    #[allow(clippy::cast_possible_truncation, reason = "a remainder below `WORD_SLOTS`")]
    const fn slot(self) -> usize {
        ((self.0 ^ self.0 >> 32) % WORD_SLOTS as u64) as usize
    }
}

const _: () = assert!(SLOTS.is_multiple_of(u64::BITS as usize));
const _: () = assert!(Evidence::COUNT <= EVIDENCE_SLOTS);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::classify;
    use crate::model::CategoryHint;
    use proptest::prelude::*;

    fn features(exchange: Exchange, title: &str) -> Features {
        Features::read(exchange, title, &classify(exchange, title, CategoryHint::None))
    }

    #[test]
    fn symbols_dates_and_the_publishers_name_do_not_matter() {
        for (one, other) in [
            (
                (
                    Exchange::Binance,
                    "Binance Futures Will Launch USDⓈ-Margined QUOKUSDT Perpetual Contract (2031-01-02)",
                ),
                (
                    Exchange::Binance,
                    "Binance Futures Will Launch USDⓈ-Margined WOMBUSDC Perpetual Contract (2032-11-12)",
                ),
            ),
            (
                (Exchange::Okx, "OKX to list perpetual futures for QUOK"),
                (Exchange::Okx, "okx to list perpetual futures for WOMB"),
            ),
            (
                (Exchange::Upbit, "쿼카(QUOK) 신규 거래지원 안내 (KRW, BTC, USDT 마켓)"),
                (Exchange::Upbit, "쿼카(WOMB) 신규 거래지원 안내 (KRW, BTC, USDT 마켓)"),
            ),
        ] {
            assert_eq!(features(one.0, one.1), features(other.0, other.1), "{}", one.1);
        }
        assert_ne!(
            features(Exchange::Binance, "Binance Will List Quokka (QUOK)"),
            features(Exchange::Binance, "Binance Will Delist QUOK"),
        );
    }

    /// The slots are part of every model's meaning. If this fails the model must be trained again.
    #[test]
    fn slots_of_a_title_stay_what_they_are() {
        let found = features(Exchange::Binance, "Binance Will List Quokka (QUOK)");
        let slots: Vec<usize> = found.slots().collect();
        assert_eq!(slots, SLOTS_OF_THE_TITLE);
        assert!(slots.is_sorted());
    }

    const SLOTS_OF_THE_TITLE: [usize; 12] =
        [349, 586, 597, 677, 707, 1_428, 1_927, 1_957, 2_859, 3_192, 3_714, 4_110];

    proptest! {
        #[test]
        fn any_text_is_read_and_every_slot_is_in_range(title in any::<String>(), at in 0..Exchange::ALL.len()) {
            let found = features(Exchange::ALL[at], &title);
            prop_assert!(found.slots().all(|slot| slot < SLOTS));
            prop_assert!(found.slots().is_sorted());
        }
    }
}
