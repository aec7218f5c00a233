//! What a source is, as data: where to ask, what to send, how to read the answer.
//!
//! Contract: a [`SourceSpec`] is a constant. The source thread sends its requests within its
//! [`pacing`] and gives each body to a detector, which reads it through [`SourceSpec::parse`].
//! Owner: the source thread. Parsing reuses a [`Scratch`] and allocates only while its buffers
//! grow to the size of the answers. A bad row is skipped and counted; an unusable answer is a
//! [`ParseError`] that says where.

pub mod backoff;
pub mod exchange;
pub(crate) mod json;
pub mod pacing;
pub mod stream;
pub(crate) mod when;

pub use json::Scratch;

use core::fmt;
use core::time::Duration;

use crate::limits;
use crate::model::{CategoryHint, Exchange};
use crate::time::WallUs;

/// How far an exchange stands behind an endpoint, and how well its answers are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Evidence {
    /// Documented by the exchange for use by programs.
    Official,
    /// Meant for programs, but the form of its answers is known from other programs' code alone.
    OfficialFromCode,
    /// The exchange's own web pages use it; nothing is promised, and it may be forbidden. Its answers
    /// have been captured.
    Unofficial,
    /// As [`Evidence::Unofficial`], and its answers are known from other programs' code alone.
    UnofficialFromCode,
    /// Unofficial, and what is known of it is old, thin or contradicts itself: it may need mending
    /// before it works.
    Beta,
}

impl Evidence {
    /// Spelling for configuration, status pages and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Evidence::Official => "official",
            Evidence::OfficialFromCode => "official_from_code",
            Evidence::Unofficial => "unofficial",
            Evidence::UnofficialFromCode => "unofficial_from_code",
            Evidence::Beta => "beta",
        }
    }

    /// Whether the exchange means it for programs.
    #[must_use]
    pub const fn is_official(self) -> bool {
        matches!(self, Evidence::Official | Evidence::OfficialFromCode)
    }
}

/// One page a source asks for again and again. All lists of a source share one seen set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListSpec {
    /// Stable name within the source; the store keeps the baseline under it.
    pub name: &'static str,
    /// Path and query of the request, percent-encoded, from `/`.
    pub target: &'static str,
    /// Share of the source's requests, relative to the other lists' weights; at least 1.
    pub weight: u16,
    /// Where the exchange filed what this list holds, for rows that do not say themselves.
    pub hint: CategoryHint,
}

/// A source of announcements: everything about it that is not a decision of the operator.
#[derive(Clone, Copy, Debug)]
pub struct SourceSpec {
    /// Name in messages, store and metrics: `<exchange>.<endpoint>` (`binance.cms`).
    pub name: &'static str,
    /// Name of its configuration section, `[sources.NAME]`.
    pub config_name: &'static str,
    /// Whose announcements it brings.
    pub exchange: Exchange,
    /// How far the exchange stands behind it.
    pub evidence: Evidence,
    /// Scheme and authority, without a path.
    pub base_url: &'static str,
    /// Header fields beside `Host`, in the order they are sent. No `Accept-Encoding`: bodies
    /// arrive plain.
    pub headers: &'static [(&'static str, &'static str)],
    /// Pages to ask for, at most [`limits::LISTS_PER_SOURCE`].
    pub lists: &'static [ListSpec],
    /// Whether `If-None-Match` with the last `ETag` of the list is answered 304.
    pub conditional: bool,
    /// Least rest of a connection that was answered 403 or 451, where the exchange documents one.
    pub forbidden_rest: Option<Duration>,
    /// Default budget and hard limit of requests for one local address.
    pub pacing: pacing::Budget,
    /// Reads one answer of any of the lists.
    pub parse: ParseFn,
    /// JSON keys whose scalar values carry no news (counters, badges): a body that differs from
    /// the last one only there is unchanged.
    pub noise: &'static [&'static str],
}

impl SourceSpec {
    /// Position in [`SourceSpec::lists`] of the list called `name`.
    #[must_use]
    pub fn list_index(&self, name: &str) -> Option<usize> {
        self.lists.iter().position(|list| list.name == name)
    }
}

/// Reads the items of one answer in the order of the page, giving each to the callback. Works in
/// place: `body` is scrambled afterwards. The callback is never called after an error.
pub type ParseFn = fn(&mut Scratch, &mut [u8], &mut dyn FnMut(&Item<'_>)) -> Result<Parsed, ParseError>;

/// One row of an answer, borrowed from the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// The exchange's identifier, not empty.
    pub notice_id: ShortText,
    /// The title as written, not blank, at most [`limits::TITLE_BYTES`].
    pub title: &'a str,
    /// Address of the notice.
    pub link: Link<'a>,
    /// Where the exchange filed it, for the classifier.
    pub hint: CategoryHint,
    /// When the exchange says it was first published.
    pub published: Option<WallUs>,
    /// When the exchange says it was last changed or listed again.
    pub modified: Option<WallUs>,
    /// Fixed to the top of the page, whatever its age.
    pub pinned: bool,
}

/// Address of a notice, assembled only when somebody needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link<'a> {
    /// The source gives none.
    None,
    /// Given whole.
    Whole(&'a str),
    /// Prefix, identifier, suffix.
    Built(&'static str, ShortText, &'static str),
}

impl Link<'_> {
    /// The address; empty when there is none or it would pass [`limits::URL_BYTES`].
    #[must_use]
    pub fn to_url(&self) -> String {
        let url = match self {
            Link::None => String::new(),
            Link::Whole(url) => (*url).to_owned(),
            Link::Built(prefix, id, suffix) => [prefix, id.as_str(), suffix].concat(),
        };
        if url.len() <= limits::URL_BYTES { url } else { String::new() }
    }
}

/// How much of an answer was usable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// Rows given to the callback.
    pub rows: usize,
    /// Rows without a usable identifier or title: the schema may have drifted.
    pub skipped: usize,
    /// Rows beyond [`limits::ITEMS_PER_RESPONSE`], not read.
    pub beyond_limit: usize,
}

/// Why an answer is unusable as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// No bytes, or only white space.
    Empty,
    /// Markup where JSON was expected: a challenge, block or maintenance page.
    Html,
    /// Not JSON, or cut short.
    NotJson {
        /// Where reading stopped, in the body or in the JSON text inside it; 0 when the text as a
        /// whole is unsound (an open string, bytes that are no UTF-8).
        offset: usize,
        /// Length of that text in bytes.
        len: usize,
    },
    /// The exchange answered that it will not: its own code or message.
    Refused(ShortText),
    /// Something that every answer holds is absent or of another type.
    Missing(&'static str),
    /// There are rows, and none of them has a usable identifier and title: the schema has drifted.
    NoRow {
        /// How many there are.
        skipped: usize,
    },
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParseError::Empty => f.write_str("the body is empty"),
            ParseError::Html => f.write_str("the body is an HTML page, not JSON"),
            ParseError::NotJson { offset, len } => write!(f, "not JSON at byte {offset} of {len}"),
            ParseError::Refused(why) if why.as_str().is_empty() => {
                f.write_str("the exchange refused, without a reason")
            }
            ParseError::Refused(why) => write!(f, "the exchange refused: {why}"),
            ParseError::Missing(path) => write!(f, "`{path}` is absent or of another type"),
            ParseError::NoRow { skipped } => {
                write!(f, "none of the {skipped} rows has an identifier and a title")
            }
        }
    }
}

impl core::error::Error for ParseError {}

/// A text of at most [`limits::NOTICE_ID_BYTES`] bytes, kept in place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ShortText {
    len: u8,
    bytes: [u8; limits::NOTICE_ID_BYTES],
}

const _: () = assert!(limits::NOTICE_ID_BYTES <= u8::MAX as usize);

impl ShortText {
    /// `text` whole; `None` when it is too long.
    #[must_use]
    pub fn new(text: &str) -> Option<ShortText> {
        let mut bytes = [0; limits::NOTICE_ID_BYTES];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(ShortText { len: u8::try_from(text.len()).ok()?, bytes })
    }

    /// An identifier made of `text`: whole where it fits, else its beginning and a fingerprint of the
    /// whole, so that two long texts with one beginning stay two. It is kept on disk: it never changes.
    #[must_use]
    pub fn identifier(text: &str) -> ShortText {
        const PRINT_BYTES: usize = 17;
        if let Some(whole) = ShortText::new(text) {
            return whole;
        }
        // FNV-1a, as for the fingerprints of the store.
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let head = text.floor_char_boundary(limits::NOTICE_ID_BYTES - PRINT_BYTES);
        let mut bytes = [0; limits::NOTICE_ID_BYTES];
        let digit = |at: u32| char::from_digit((hash >> (4 * at)) as u32 & 0xF, 16).map_or(b'0', |d| d as u8);
        let digits = (0..16).rev().map(digit);
        let all = text.as_bytes().iter().take(head).copied().chain([b'~']).chain(digits);
        bytes.iter_mut().zip(all).for_each(|(place, byte)| *place = byte);
        ShortText { len: (head + PRINT_BYTES) as u8, bytes }
    }

    /// The beginning of `text`, cut at a character.
    #[must_use]
    pub fn cut(text: &str) -> ShortText {
        let end = text.floor_char_boundary(limits::NOTICE_ID_BYTES);
        text.get(..end).and_then(ShortText::new).unwrap_or(ShortText::EMPTY)
    }

    /// A number in decimal.
    #[must_use]
    pub fn decimal(mut number: u64) -> ShortText {
        let mut digits = [0_u8; 20];
        let mut at = digits.len();
        for digit in digits.iter_mut().rev() {
            // `number % 10` is below ten, so the cast keeps it whole.
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
            at -= 1;
            if number == 0 {
                break;
            }
        }
        digits
            .get(at..)
            .and_then(|d| core::str::from_utf8(d).ok())
            .and_then(ShortText::new)
            .unwrap_or(ShortText::EMPTY)
    }

    /// No text.
    pub const EMPTY: ShortText = ShortText { len: 0, bytes: [0; limits::NOTICE_ID_BYTES] };

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only whole `str`s are ever stored, so the fallback is never taken.
        self.bytes
            .get(..usize::from(self.len))
            .and_then(|bytes| core::str::from_utf8(bytes).ok())
            .unwrap_or("")
    }
}

impl Default for ShortText {
    fn default() -> Self {
        ShortText::EMPTY
    }
}

impl fmt::Display for ShortText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ShortText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// How a source is doing: the feed's `source_status` states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceState {
    /// Answers arrive and parse.
    Live,
    /// Answers arrive but nothing usable in them for too long.
    Stale,
    /// The exchange refuses us (401, 403, 418, 429).
    Blocked,
    /// No connection works.
    Down,
}

impl SourceState {
    /// The feed's spelling.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            SourceState::Live => "live",
            SourceState::Stale => "stale",
            SourceState::Blocked => "blocked",
            SourceState::Down => "down",
        }
    }
}

/// A source's state as told to subscribers with `?sources=1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceStatus {
    /// Name of the source (`binance.cms`).
    pub source: &'static str,
    /// Whose announcements it brings.
    pub exchange: Exchange,
    /// How it is doing.
    pub state: SourceState,
    /// When the last answer was complete; `None` before the first.
    pub last_poll: Option<WallUs>,
    /// When the newest item known was published.
    pub last_item: Option<WallUs>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_texts_hold_what_they_were_given() {
        assert_eq!(ShortText::decimal(0).as_str(), "0");
        assert_eq!(ShortText::decimal(6_618).as_str(), "6618");
        assert_eq!(ShortText::decimal(u64::MAX).as_str(), u64::MAX.to_string());
        let longest = "x".repeat(limits::NOTICE_ID_BYTES);
        assert_eq!(ShortText::new(&longest).map(|t| t.to_string()), Some(longest.clone()));
        assert_eq!(ShortText::new(&format!("{longest}x")), None);
        assert_eq!(ShortText::cut(&"한".repeat(40)).as_str(), "한".repeat(32));
        assert_eq!(ShortText::identifier(&longest).as_str(), longest);
        let [one, other] = ["a", "b"].map(|end| ShortText::identifier(&(longest.clone() + end)));
        assert_eq!(one.as_str().len(), limits::NOTICE_ID_BYTES);
        assert!(one != other && one.as_str().starts_with(&longest[..79]), "{one} {other}");
        let hangul = ShortText::identifier(&"한".repeat(40));
        assert!(hangul.as_str().starts_with(&"한".repeat(26)) && hangul.as_str().contains('~'), "{hangul}");
    }

    #[test]
    fn links_are_bounded() {
        let id = ShortText::decimal(7);
        assert_eq!(Link::Built("https://a/", id, "?s").to_url(), "https://a/7?s");
        assert_eq!(Link::Whole(&"u".repeat(limits::URL_BYTES + 1)).to_url(), "");
        assert_eq!(Link::None.to_url(), "");
    }
}
