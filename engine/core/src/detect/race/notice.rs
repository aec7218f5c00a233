//! What a race remembers of one notice: the versions it went through and which path shows it as what.
//!
//! Contract: plain data and comparisons; see [`super`] for the rules they serve. Owner: the source thread
//! that has all paths of the exchange. Allocates per notice, version and path. Fails never.

use core::cmp::Ordering;
use core::time::Duration;

use super::Candidate;
use crate::detect::SeenRecord;
use crate::limits;
use crate::model::{Classification, Lang, ListingType, Ticker};
use crate::time::WallUs;

/// How sure it is that an item of one path is a notice first shown by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Evidence {
    /// One listing type and one set of tickers, a few minutes apart.
    Tells,
    /// One listing type, a ticker in common, and published at one moment.
    TellsAtOnce,
    /// One title, a few minutes apart.
    Title,
    /// One title, published at one moment.
    Release,
    /// One address.
    Address,
    /// The path showed it first, or the store says so.
    Certain,
}

/// One wording of a notice.
#[derive(Clone, Debug)]
pub(super) struct Version {
    /// See [`title_key`].
    pub(super) title: u64,
    pub(super) lang: Lang,
    pub(super) published: WallUs,
    pub(super) modified: Option<WallUs>,
    pub(super) listing_type: ListingType,
    /// In their own order, without repeats.
    pub(super) tickers: Vec<Ticker>,
    /// When it was known, by our clock.
    pub(super) at: WallUs,
    /// When the path that brought it first had read it, if that was in this run.
    pub(super) received: Option<WallUs>,
    /// It went out; else it is from a baseline, which says nothing of what other paths are to announce.
    pub(super) announced: bool,
    /// One bit for each path that has shown it.
    pub(super) shown: u8,
}

const _: () = assert!(limits::RACE_PATHS <= u8::BITS as usize);

impl Version {
    pub(super) fn of(candidate: &Candidate) -> Version {
        let Candidate { found, classification, received, detected } = candidate;
        Version {
            modified: found.modified,
            at: *detected,
            received: Some(*received),
            announced: true,
            ..Version::known(&found.record, classification)
        }
    }

    /// Of an item that was known before, taken to have been found when it was published.
    pub(super) fn known(record: &SeenRecord, classification: &Classification) -> Version {
        Version::new(&record.title, record.published, classification)
    }

    pub(super) fn new(title: &str, published: WallUs, classification: &Classification) -> Version {
        let mut tickers = classification.tickers.clone();
        tickers.sort_unstable();
        tickers.dedup();
        Version {
            title: title_key(title),
            lang: classification.lang,
            published,
            modified: None,
            listing_type: classification.listing_type,
            tickers,
            at: published,
            received: None,
            announced: false,
            shown: 0,
        }
    }

    /// Whether it lists or delists something it names.
    fn names_something(&self) -> bool {
        self.listing_type != ListingType::NotListing && !self.tickers.is_empty()
    }

    fn tells_as(&self, other: &Version) -> bool {
        self.listing_type == other.listing_type && self.tickers == other.tickers
    }

    fn shares_ticker(&self, other: &Version) -> bool {
        self.listing_type == other.listing_type && self.tickers.iter().any(|t| other.tickers.contains(t))
    }

    fn published_with(&self, other: &Version) -> bool {
        within(self.published, other.published, limits::RACE_SAME_MOMENT)
    }

    /// Close by our clock or by the exchange's: one of them may be off, or a path have been away.
    fn near(&self, other: &Version) -> bool {
        within(self.at, other.at, limits::RACE_WINDOW)
            || within(self.published, other.published, limits::RACE_WINDOW)
    }
}

/// A path's item that is the notice.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) path: u8,
    /// The path's own identifier.
    pub(super) id: Box<str>,
    /// Of what the path showed last.
    pub(super) fingerprint: u64,
    pub(super) evidence: Evidence,
    /// What was taken for a confirmation on weak evidence, in case it turns out to be another notice.
    pub(super) held: Option<Box<Candidate>>,
}

/// One notice of the exchange.
#[derive(Clone, Debug, Default)]
pub(super) struct Notice {
    /// Under which it is announced: the identifier of the path that showed it first.
    pub(super) id: Box<str>,
    /// It, or an edit of it, went out. Else it is from a baseline.
    pub(super) announced: bool,
    /// All that went out was late.
    pub(super) late: bool,
    /// When the first path had read it, if that was in this run.
    pub(super) received: Option<WallUs>,
    /// The oldest first, at most [`limits::RACE_VERSIONS`].
    pub(super) versions: Vec<Version>,
    /// At most one of a path.
    pub(super) links: Vec<Link>,
    /// Under which it is found.
    pub(super) keys: Vec<u64>,
}

impl Notice {
    pub(super) fn link(&mut self, path: u8) -> Option<&mut Link> {
        self.links.iter_mut().find(|link| link.path == path)
    }

    /// Whether an item of `path` with so good evidence may be linked: one of a path is all there can be, but
    /// a title speaks louder than tickers.
    pub(super) fn has_place(&self, path: u8, evidence: Evidence) -> bool {
        let taken = self.links.iter().find(|link| link.path == path);
        taken.is_none_or(|link| link.evidence < Evidence::Title && evidence >= Evidence::Title)
    }

    /// What speaks for `sight` being this notice.
    pub(super) fn evidence(&self, sight: &Version, address: Option<u64>) -> Option<Evidence> {
        if address.is_some_and(|key| self.keys.contains(&key)) {
            return Some(Evidence::Address);
        }
        let any = |matches: &dyn Fn(&Version) -> bool| self.versions.iter().any(matches);
        let titled = any(&|v| v.title == sight.title);
        let at_once = any(&|v| v.published_with(sight));
        let near = any(&|v| v.near(sight));
        if titled && (at_once || near) {
            return Some(if at_once { Evidence::Release } else { Evidence::Title });
        }
        if !sight.names_something() {
            return None;
        }
        if at_once && any(&|v| v.shares_ticker(sight)) {
            return Some(Evidence::TellsAtOnce);
        }
        // An older notice of the same tickers in a baseline must not be taken for a new one.
        (self.announced && near && any(&|v| v.tells_as(sight))).then_some(Evidence::Tells)
    }

    /// When it was first announced, as far as is remembered.
    pub(super) fn first_at(&self) -> Option<WallUs> {
        self.told().map(|version| version.at).min()
    }

    /// Whether both can be one: no path shows both.
    pub(super) fn may_be(&self, other: &Notice) -> bool {
        other.links.iter().all(|theirs| self.links.iter().all(|link| link.path != theirs.path))
    }

    /// How far apart the publish times are, in microseconds: the nearest version counts.
    pub(super) fn distance_us(&self, sight: &Version) -> u64 {
        let apart = |v: &Version| v.published.micros_since(sight.published).unsigned_abs();
        self.versions.iter().map(apart).min().unwrap_or(u64::MAX)
    }

    /// The announced version of this title that `path` has not shown yet: of this very publish time, else the
    /// oldest.
    pub(super) fn unshown(&mut self, path: u8, sight: &Version) -> Option<&mut Version> {
        let open = |v: &Version| v.announced && v.title == sight.title && v.shown & bit(path) == 0;
        let exact = self.versions.iter().position(|v| open(v) && v.published_with(sight));
        let at = exact.or_else(|| self.versions.iter().position(open))?;
        self.versions.get_mut(at)
    }

    /// The oldest announced version that `path`, which words them in its own language, may mean by `sight`:
    /// of this very time of change, where both tell one.
    pub(super) fn unshown_in_other_words(&mut self, path: u8, sight: &Version) -> Option<&mut Version> {
        let bit = bit(path);
        let dated = |v: &Version| v.modified.zip(sight.modified);
        let matches = |v: &Version| match dated(v) {
            Some((known, at)) => within(known, at, limits::RACE_SAME_MOMENT),
            None => within(v.at, sight.at, limits::RACE_WINDOW),
        };
        let may_be = |v: &&mut Version| {
            v.announced && v.shown & bit == 0 && v.lang != sight.lang && v.tells_as(sight) && matches(v)
        };
        self.versions.iter_mut().find(may_be)
    }

    /// Notes that `path` shows the wording of `sight`, in these words or in another language, if it was
    /// announced and `path` has not shown it; when it was first read.
    pub(super) fn show_wording(&mut self, path: u8, sight: &Version) -> Option<Option<WallUs>> {
        let version = match self.unshown(path, sight).map(|version| version.title) {
            Some(_) => self.unshown(path, sight),
            None => self.unshown_in_other_words(path, sight),
        }?;
        version.shown |= bit(path);
        Some(version.received)
    }

    /// Notes that `path` shows the title of `sight`. Whether it was announced.
    pub(super) fn show(&mut self, path: u8, sight: &Version) -> bool {
        if let Some(version) = self.unshown(path, sight) {
            version.shown |= bit(path);
            return true;
        }
        self.told().any(|v| v.title == sight.title)
    }

    /// Adds a version as the newest, shown by `path`.
    pub(super) fn add(&mut self, path: Option<u8>, mut version: Version) {
        version.shown |= path.map_or(0, bit);
        if self.versions.len() >= limits::RACE_VERSIONS {
            self.versions.remove(0);
        }
        self.versions.push(version);
    }

    /// The versions that went out.
    pub(super) fn told(&self) -> impl Iterator<Item = &Version> {
        self.versions.iter().filter(|version| version.announced)
    }

    /// When `sight` was last changed, against all that went out; `None` where the exchange does not say.
    pub(super) fn changed(&self, sight: &Version) -> Option<Ordering> {
        let known = self.told().filter_map(|v| v.modified).max()?;
        let at = sight.modified?;
        Some(if within(at, known, limits::RACE_SAME_MOMENT) { Ordering::Equal } else { at.cmp(&known) })
    }

    /// Whether `sight` lists something that nothing that went out lists.
    pub(super) fn is_told_something(&self, sight: &Version) -> bool {
        let listed = |ticker: &Ticker| {
            self.told().any(|v| v.listing_type == sight.listing_type && v.tickers.contains(ticker))
        };
        sight.listing_type != ListingType::NotListing && !sight.tickers.iter().all(listed)
    }

    /// Whether anything that went out lists or delists anything.
    pub(super) fn lists(&self) -> bool {
        self.told().any(|v| v.listing_type != ListingType::NotListing)
    }
}

pub(super) fn bit(path: u8) -> u8 {
    1_u8.checked_shl(u32::from(path)).unwrap_or(0)
}

pub(super) fn within(a: WallUs, b: WallUs, limit: Duration) -> bool {
    let limit = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
    a.micros_since(b).unsigned_abs() <= limit
}

/// What kinds of keys there are.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(super) enum KeyOf {
    Notice,
    Item,
    Address,
    Title,
    Pair,
}

/// FNV-1a over a kind and a text; an item's path or a pair's type goes into `within`.
pub(super) fn key(kind: KeyOf, within: u8, text: impl IntoIterator<Item = u8>) -> u64 {
    let head = [kind as u8, within];
    head.into_iter()
        .chain(text)
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// What is left of a title without what paths add to it or spell in their own way: a first word in brackets
/// (Upbit's stream puts the category there), spaces, punctuation and the case of letters.
pub(super) fn title_key(title: &str) -> u64 {
    let bare = without_prefix(title.trim_start());
    let mut utf8 = [0; 4];
    let mut hash = key(KeyOf::Title, 0, []);
    for c in bare.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase) {
        for byte in c.encode_utf8(&mut utf8).bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

fn without_prefix(title: &str) -> &str {
    let rest = title.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(_, rest)| rest);
    rest.filter(|rest| rest.chars().any(char::is_alphanumeric)).unwrap_or(title)
}

/// What identifies a notice in its address: the value of `id`, else the last part of the path, if it has a
/// digit. Host, language and the rest differ from path to path.
pub(super) fn address_key(url: &str) -> Option<u64> {
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let id = query.split('&').find_map(|pair| pair.strip_prefix("id="));
    let last = path.split_once("://").and_then(|(_, rest)| rest.trim_end_matches('/').rsplit_once('/'));
    let id = id.or_else(|| last.map(|(_, last)| last))?;
    let telling = id.len() >= 3 && id.bytes().any(|b| b.is_ascii_digit());
    telling.then(|| key(KeyOf::Address, 0, id.bytes()))
}
