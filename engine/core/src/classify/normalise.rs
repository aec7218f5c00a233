//! Folds a title into the form the rules read: one spelling for blanks, brackets and dashes.
//!
//! Contract: any UTF-8 in, at most [`limits::TITLE_BYTES`] of UTF-8 out, in a buffer on the stack;
//! never allocates, never fails. Letter case is kept, because it tells a symbol from a word.
//! Exchanges mix full-width forms, no-break and double blanks, typographic dashes and zero-width
//! joiners in otherwise equal titles.

use crate::limits;

/// A folded title.
pub(super) struct Folded {
    bytes: [u8; limits::TITLE_BYTES],
    len: usize,
}

impl Folded {
    /// Folds `title`; what does not fit is cut at a character.
    pub(super) fn new(title: &str) -> Folded {
        let mut folded = Folded { bytes: [0; limits::TITLE_BYTES], len: 0 };
        let mut blank_due = false;
        let mut rest = title.chars();
        while let Some(original) = rest.next() {
            let Some(mut c) = fold(original) else { continue };
            if c == '&'
                && let Some((named, after)) = entity(rest.as_str())
            {
                c = named;
                rest = after.chars();
            }
            if c == ' ' {
                blank_due = folded.len > 0;
                continue;
            }
            if blank_due && !folded.push(' ') {
                break;
            }
            blank_due = false;
            if !folded.push(c) {
                break;
            }
        }
        folded
    }

    /// The folded text.
    pub(super) fn as_str(&self) -> &str {
        // Only whole characters are pushed, so the bytes are always UTF-8.
        self.bytes.get(..self.len).and_then(|b| core::str::from_utf8(b).ok()).unwrap_or("")
    }

    /// Appends `c`; false when it does not fit.
    fn push(&mut self, c: char) -> bool {
        let end = self.len + c.len_utf8();
        let Some(room) = self.bytes.get_mut(self.len..end) else { return false };
        c.encode_utf8(room);
        self.len = end;
        true
    }
}

/// HTML names of characters that reach titles unread, as they stand after the `&`.
const ENTITIES: [(&str, char); 7] = [
    ("amp;", '&'),
    ("nbsp;", ' '),
    ("#39;", '\''),
    ("quot;", '"'),
    ("lt;", '<'),
    ("gt;", '>'),
    ("#x27;", '\''),
];

/// The character that `after_ampersand` names, and what follows it.
fn entity(after_ampersand: &str) -> Option<(char, &str)> {
    ENTITIES.iter().find_map(|&(name, c)| after_ampersand.strip_prefix(name).map(|rest| (c, rest)))
}

/// The character a rule should see; `None` for those nobody sees. The result is never longer in
/// UTF-8 than `c`.
fn fold(c: char) -> Option<char> {
    if c.is_ascii() {
        return Some(if c.is_ascii_whitespace() || c.is_ascii_control() { ' ' } else { c });
    }
    match c {
        // Zero-width characters, joiners, direction marks, byte order mark, variation selectors.
        '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{2064}'
        | '\u{2066}'..='\u{2069}'
        | '\u{feff}'
        | '\u{fe00}'..='\u{fe0f}' => None,
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0),
        '【' | '〔' | '「' | '『' => Some('['),
        '】' | '〕' | '」' | '』' => Some(']'),
        '、' => Some(','),
        '。' => Some('.'),
        '\u{2010}'..='\u{2015}' | '\u{2212}' => Some('-'),
        '\u{2018}' | '\u{2019}' => Some('\''),
        '\u{201c}' | '\u{201d}' => Some('"'),
        _ if c.is_whitespace() || c.is_control() => Some(' '),
        _ => Some(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_for_blanks_brackets_and_dashes() {
        let rows = [
            ("  New\u{a0} \tListing :  ABC\r\n", "New Listing : ABC"),
            ("\u{feff}A\u{200b}BC（ＡＢＣ）", "ABC(ABC)"),
            ("【首发】A、B", "[首发]A,B"),
            ("USDⓈ‑M — “x”", "USDⓈ-M - \"x\""),
            ("A &amp; B&nbsp;C &#39;D&quot; &other; &", "A & B C 'D\" &other; &"),
            ("\u{3000}", ""),
        ];
        for (title, expected) in rows {
            assert_eq!(Folded::new(title).as_str(), expected, "{title:?}");
        }
    }

    #[test]
    fn a_long_title_is_cut_at_a_character() {
        let title = "가".repeat(limits::TITLE_BYTES);
        let folded = Folded::new(&title);
        assert_eq!(folded.as_str().len(), limits::TITLE_BYTES / 3 * 3);
        assert!(title.starts_with(folded.as_str()));
    }
}
