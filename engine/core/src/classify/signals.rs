//! Finds the phrases of [`super::lexicon`] in a folded title: one pass, no backtracking.
//!
//! Contract: [`Signals::read`] is linear in the title for a given table (each position looks at
//! one short chain of phrases that begin alike). It never allocates and never fails.
//! What it finds is a set of bits and, for each bit, where it first stood; rules are tests on the
//! set, so each decision can be explained by naming its bits.

use super::lexicon::{NAME, PHRASES, SIGNAL_COUNT};

/// A set of signals, one bit each. Constants are in [`super::lexicon`].
pub(super) type Set = u128;

/// Chains of phrases by a hash of how they begin.
const BUCKETS: usize = 512;
const NONE: u16 = u16::MAX;
/// The signal of names, whose words mean nothing else: the table begins with them.
#[allow(clippy::cast_possible_truncation, reason = "below 128")]
const NAME_NUMBER: u8 = NAME.trailing_zeros() as u8;

/// Heads of the chains and the next phrase of each chain, built at compile time.
struct Index {
    head: [u16; BUCKETS],
    next: [u16; PHRASES.len()],
}

static INDEX: Index = build_index();

const fn build_index() -> Index {
    let mut index = Index { head: [NONE; BUCKETS], next: [NONE; PHRASES.len()] };
    let mut i = PHRASES.len();
    while i > 0 {
        i -= 1;
        let bucket = bucket_of(PHRASES[i].0.as_bytes());
        index.next[i] = index.head[bucket];
        #[allow(clippy::cast_possible_truncation, reason = "asserted below")]
        let here = i as u16;
        index.head[bucket] = here;
    }
    index
}

const _: () = assert!(PHRASES.len() < NONE as usize);
const _: () = assert!(SIGNAL_COUNT <= Set::BITS as usize);

/// Bucket of the beginning of `text`: two ASCII letters of either case, or one Hangul syllable or
/// ideograph. Every phrase is at least that long; a shorter text may land anywhere.
const fn bucket_of(text: &[u8]) -> usize {
    if text.len() < 3 {
        return match text {
            [first, second, ..] => of_letters(*first, *second),
            _ => 0,
        };
    }
    if text[0] < 0x80 {
        of_letters(text[0], text[1])
    } else {
        ((text[1] as usize) << 3 ^ text[2] as usize) % BUCKETS
    }
}

const fn of_letters(first: u8, second: u8) -> usize {
    (((first | 0x20) as usize) << 4 ^ ((second | 0x20) as usize)) % BUCKETS
}

/// What was found in one title.
pub(super) struct Signals {
    /// Every signal found.
    pub(super) set: Set,
    /// Where the first phrase of a signal ends; meaningless for signals not in `set`.
    first_end: [u16; SIGNAL_COUNT],
    /// Whether a Hangul syllable was seen.
    pub(super) hangul: bool,
}

impl Signals {
    /// Reads `text`, which [`super::normalise`] has folded.
    pub(super) fn read(text: &str) -> Signals {
        let mut found = Signals { set: 0, first_end: [0; SIGNAL_COUNT], hangul: false };
        let bytes = text.as_bytes();
        let mut before = b' ';
        let mut named_until = 0;
        for (at, &byte) in bytes.iter().enumerate() {
            // ASCII phrases begin where a word begins; others anywhere, since Korean glues words.
            let starts = if byte < 0x80 { !before.is_ascii_alphanumeric() } else { byte >= 0xc0 };
            before = byte;
            if !starts || byte == b' ' || at < named_until {
                continue;
            }
            let rest = bytes.get(at..).unwrap_or_default();
            found.hangul |= is_hangul(rest);
            let mut phrase = INDEX.head.get(bucket_of(rest)).copied().unwrap_or(NONE);
            while let Some(&(words, signal)) = PHRASES.get(usize::from(phrase)) {
                if let Some(length) = match_length(rest, words.as_bytes())
                    && !is_listed_symbol(bytes, at, length)
                {
                    found.note(signal, at + length);
                    if signal == NAME_NUMBER {
                        named_until = at + length;
                        break;
                    }
                }
                phrase = INDEX.next.get(usize::from(phrase)).copied().unwrap_or(NONE);
            }
        }
        found
    }

    fn note(&mut self, signal: u8, end: usize) {
        let bit = 1 << u32::from(signal);
        if self.set & bit == 0 {
            self.set |= bit;
            if let Some(slot) = self.first_end.get_mut(usize::from(signal)) {
                // A folded title is at most `limits::TITLE_BYTES` long.
                *slot = u16::try_from(end).unwrap_or(u16::MAX);
            }
        }
    }

    /// Whether all bits of `wanted` that any group asks for are there.
    pub(super) const fn has(&self, any_of: Set) -> bool {
        self.set & any_of != 0
    }

    /// Where the earliest phrase of `any_of` ends, if one was found.
    pub(super) fn end_of_first(&self, any_of: Set) -> Option<usize> {
        let mut left = self.set & any_of;
        let mut earliest = None;
        while left != 0 {
            let at = left.trailing_zeros() as usize;
            left &= left - 1;
            let end = self.first_end.get(at).copied().map(usize::from);
            earliest = match (earliest, end) {
                (Some(e), Some(n)) if n < e => Some(n),
                (None, n) => n,
                (e, _) => e,
            };
        }
        earliest
    }
}

/// Whether `text` begins with a Hangul syllable (U+AC00 to U+D7A3, three bytes from EA B0).
fn is_hangul(text: &[u8]) -> bool {
    match text {
        [0xea, second, ..] => *second >= 0xb0,
        [0xeb | 0xec, ..] => true,
        [0xed, second, ..] => *second < 0x9f,
        _ => false,
    }
}

/// Whether the word at `at` is a symbol that happens to be a word of trade, as PERP is in
/// `(PERP)` or `FLM, PERP, VIB`: capitals between the signs or words of a list.
fn is_listed_symbol(text: &[u8], at: usize, length: usize) -> bool {
    let (before, rest) = text.split_at_checked(at).unwrap_or_default();
    let (word, after) = rest.split_at_checked(length).unwrap_or_default();
    if !word.iter().all(u8::is_ascii_uppercase) {
        return false;
    }
    let opened = [b", ".as_slice(), b",", b"(", b"& ", b" and "].iter().any(|sign| before.ends_with(sign));
    // "Delist PERP and VIB", "Lists PERP"; but not "ABCUSDT PERP and spot".
    let follows_verb = matches!(before, [.., b'a'..=b'z', b' ']);
    let alone = [b" and ".as_slice(), b" & ", b" on "].iter().any(|next| after.starts_with(next));
    opened || matches!(after, [b',' | b'/', ..]) || (follows_verb && (alone || after.is_empty()))
}

/// Length of `phrase` at the start of `text`, ignoring ASCII case; `None` if it is not there or
/// ends inside a word. A trailing `*` lets the word go on.
fn match_length(text: &[u8], phrase: &[u8]) -> Option<usize> {
    let (phrase, open) = match phrase {
        [stem @ .., b'*'] => (stem, true),
        whole => (whole, false),
    };
    let (here, rest) = text.split_at_checked(phrase.len())?;
    if !here.eq_ignore_ascii_case(phrase) {
        return None;
    }
    let in_word = phrase.last().is_some_and(u8::is_ascii_alphanumeric)
        && rest.first().is_some_and(u8::is_ascii_alphanumeric);
    (open || !in_word).then_some(phrase.len())
}

#[cfg(test)]
mod tests {
    use super::super::lexicon::*;
    use super::*;

    #[test]
    fn words_are_matched_whole_and_in_either_case() {
        let rows = [
            ("Binance Will LIST Abc", LIST, true),
            ("Binance Will Delist Abc", LIST, false),
            ("Binance Will Delist Abc", DELIST, true),
            ("enlist listless", LIST, false),
            ("USDT-Margined", MARGIN, false),
            ("Isolated Margin", MARGIN, true),
            ("ONEUSD X-Perp", PERP, true),
            ("postponed", POSTPONE, true),
            ("원화마켓 추가", KO_MARKET, true),
            ("Lists Perpetual Protocol (PERP)", PERP, false),
            ("Delist FLM, PERP on 2031-01-01", PERP, false),
            ("Delist PERP, FLM and VIB", PERP, false),
            ("Delist FLM and PERP", PERP, false),
            ("Delist PERP and FLM", PERP, false),
            ("Delist PERP on 2031-01-01", PERP, false),
            ("Lists PERP", PERP, false),
            ("ABCUSDT PERP and spot", PERP, true),
            ("Adds PERP/USDT", PERP, false),
            ("ABCUSDT PERP", PERP, true),
            ("Perpetual Protocol Perpetual Contract", PERP, true),
        ];
        for (title, signal, expected) in rows {
            assert_eq!(Signals::read(title).has(signal), expected, "{title}");
        }
    }

    #[test]
    fn the_earliest_of_several_is_the_anchor() {
        let found = Signals::read("Vote to Delist Results and Will Delist ABC");
        assert_eq!(found.end_of_first(DELIST), Some("Vote to Delist".len()));
        assert_eq!(found.end_of_first(PERP), None);
    }

    #[test]
    fn hangul_is_told_from_other_scripts() {
        for (title, expected) in [("가", true), ("힣", true), ("abc", false), ("币安", false), ("é", false)]
        {
            assert_eq!(Signals::read(title).hangul, expected, "{title}");
        }
    }

    #[test]
    fn every_phrase_is_folded_and_found() {
        for (phrase, signal) in PHRASES {
            let text = phrase.trim_end_matches('*');
            assert_eq!(text, super::super::normalise::Folded::new(text).as_str());
            assert!(Signals::read(text).has(1 << u32::from(*signal)), "{phrase}");
        }
    }
}
