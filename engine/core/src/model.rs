//! The nouns: exchanges, listing types, tickers, announcements.
//!
//! Plain data, owned by whoever holds it. Constructors bound every length by `limits`; nothing
//! here panics on any input.

use crate::limits;
use crate::time::WallUs;

/// An exchange Tocsin knows by name. Whether a source for it runs is configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the documentation")]
pub enum Exchange {
    Binance,
    Upbit,
    Bithumb,
    Okx,
    Bybit,
    Bitget,
    Kucoin,
    Gate,
    CryptoCom,
    Htx,
    Bingx,
    Mexc,
    Coinbase,
    Coinone,
    Kraken,
    Hyperliquid,
}

impl Exchange {
    /// Every exchange, in the order of its discriminant.
    pub const ALL: [Exchange; 16] = [
        Exchange::Binance,
        Exchange::Upbit,
        Exchange::Bithumb,
        Exchange::Okx,
        Exchange::Bybit,
        Exchange::Bitget,
        Exchange::Kucoin,
        Exchange::Gate,
        Exchange::CryptoCom,
        Exchange::Htx,
        Exchange::Bingx,
        Exchange::Mexc,
        Exchange::Coinbase,
        Exchange::Coinone,
        Exchange::Kraken,
        Exchange::Hyperliquid,
    ];

    /// The feed's `publisher` and `cex` spelling: lower case, no punctuation but `.`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Exchange::Binance => "binance",
            Exchange::Upbit => "upbit",
            Exchange::Bithumb => "bithumb",
            Exchange::Okx => "okx",
            Exchange::Bybit => "bybit",
            Exchange::Bitget => "bitget",
            Exchange::Kucoin => "kucoin",
            Exchange::Gate => "gate",
            Exchange::CryptoCom => "crypto.com",
            Exchange::Htx => "htx",
            Exchange::Bingx => "bingx",
            Exchange::Mexc => "mexc",
            Exchange::Coinbase => "coinbase",
            Exchange::Coinone => "coinone",
            Exchange::Kraken => "kraken",
            Exchange::Hyperliquid => "hyperliquid",
        }
    }

    /// The name as people write it, for webhooks and screens.
    #[must_use]
    pub const fn display_name(self) -> &'static str {
        match self {
            Exchange::Binance => "Binance",
            Exchange::Upbit => "Upbit",
            Exchange::Bithumb => "Bithumb",
            Exchange::Okx => "OKX",
            Exchange::Bybit => "Bybit",
            Exchange::Bitget => "Bitget",
            Exchange::Kucoin => "KuCoin",
            Exchange::Gate => "Gate",
            Exchange::CryptoCom => "Crypto.com",
            Exchange::Htx => "HTX",
            Exchange::Bingx => "BingX",
            Exchange::Mexc => "MEXC",
            Exchange::Coinbase => "Coinbase",
            Exchange::Coinone => "Coinone",
            Exchange::Kraken => "Kraken",
            Exchange::Hyperliquid => "Hyperliquid",
        }
    }

    /// The inverse of [`Exchange::name`], ignoring ASCII case.
    #[must_use]
    pub fn parse(name: &str) -> Option<Exchange> {
        Exchange::ALL.into_iter().find(|e| e.name().eq_ignore_ascii_case(name))
    }

    /// Position in [`Exchange::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// A set of exchanges in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ExchangeSet(u32);

impl ExchangeSet {
    /// No exchange.
    pub const EMPTY: ExchangeSet = ExchangeSet(0);
    /// Every exchange, those of later versions too: the feed's `*`.
    pub const ALL: ExchangeSet = ExchangeSet(u32::MAX);

    /// This set and `exchange`.
    #[must_use]
    pub const fn with(self, exchange: Exchange) -> ExchangeSet {
        ExchangeSet(self.0 | 1 << exchange as u32)
    }

    /// Whether `exchange` is in the set.
    #[must_use]
    pub const fn contains(self, exchange: Exchange) -> bool {
        self.0 & (1 << exchange as u32) != 0
    }

    /// Those in either.
    #[must_use]
    pub const fn union(self, other: ExchangeSet) -> ExchangeSet {
        ExchangeSet(self.0 | other.0)
    }

    /// Those in both.
    #[must_use]
    pub const fn intersection(self, other: ExchangeSet) -> ExchangeSet {
        ExchangeSet(self.0 & other.0)
    }

    /// Whether nothing is in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether it is the feed's `*`.
    #[must_use]
    pub const fn is_all(self) -> bool {
        self.0 == u32::MAX
    }

    /// The exchanges in it, in the order of [`Exchange::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Exchange> {
        Exchange::ALL.into_iter().filter(move |e| self.contains(*e))
    }
}

impl FromIterator<Exchange> for ExchangeSet {
    fn from_iter<I: IntoIterator<Item = Exchange>>(iter: I) -> Self {
        iter.into_iter().fold(ExchangeSet::EMPTY, ExchangeSet::with)
    }
}

/// The feed specification's "Listing types".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ListingType {
    /// New spot market listing.
    SpotListing,
    /// New futures or perpetual listing.
    FuturesListing,
    /// Spot market delisting.
    SpotDelisting,
    /// Futures or perpetual delisting.
    FuturesDelisting,
    /// Any other announcement.
    NotListing,
}

impl ListingType {
    /// Every type.
    pub const ALL: [ListingType; 5] = [
        ListingType::SpotListing,
        ListingType::FuturesListing,
        ListingType::SpotDelisting,
        ListingType::FuturesDelisting,
        ListingType::NotListing,
    ];

    /// The feed's `listingType` spelling.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ListingType::SpotListing => "spot_listing",
            ListingType::FuturesListing => "futures_listing",
            ListingType::SpotDelisting => "spot_delisting",
            ListingType::FuturesDelisting => "futures_delisting",
            ListingType::NotListing => "not_listing",
        }
    }

    /// The inverse of [`ListingType::name`], ignoring ASCII case.
    #[must_use]
    pub fn parse(name: &str) -> Option<ListingType> {
        ListingType::ALL.into_iter().find(|t| t.name().eq_ignore_ascii_case(name))
    }
}

/// A set of listing types in one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListingTypeSet(u8);

impl ListingTypeSet {
    /// No type.
    pub const EMPTY: ListingTypeSet = ListingTypeSet(0);
    /// Every type: no filter.
    pub const ALL: ListingTypeSet = ListingTypeSet(u8::MAX);

    /// This set and `listing_type`.
    #[must_use]
    pub const fn with(self, listing_type: ListingType) -> ListingTypeSet {
        ListingTypeSet(self.0 | 1 << listing_type as u8)
    }

    /// Whether `listing_type` is in the set.
    #[must_use]
    pub const fn contains(self, listing_type: ListingType) -> bool {
        self.0 & (1 << listing_type as u8) != 0
    }

    /// The types in it, in the order of [`ListingType::ALL`].
    pub fn iter(self) -> impl Iterator<Item = ListingType> {
        ListingType::ALL.into_iter().filter(move |t| self.contains(*t))
    }
}

/// An asset symbol as announced: upper case, 1 to [`limits::TICKER_BYTES`] bytes of UTF-8, no comma,
/// no control character. Not only ASCII: `币安人生` is a real one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticker(Box<str>);

impl Ticker {
    /// Upper-cases `symbol` and checks it; `None` when it is empty, too long or holds a comma,
    /// white space or a control character.
    #[must_use]
    pub fn new(symbol: &str) -> Option<Ticker> {
        if symbol.is_empty()
            || symbol.len() > limits::TICKER_BYTES
            || symbol.chars().any(|c| c == ',' || c.is_whitespace() || c.is_control())
        {
            return None;
        }
        if symbol.is_ascii() {
            return Some(Ticker(symbol.to_ascii_uppercase().into_boxed_str()));
        }
        let upper: String = symbol.chars().flat_map(char::to_uppercase).collect();
        (upper.len() <= limits::TICKER_BYTES).then(|| Ticker(upper.into_boxed_str()))
    }

    /// The symbol.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl core::fmt::Display for Ticker {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A market named in an announcement.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Market {
    /// What is traded.
    pub base: Ticker,
    /// What it is priced in.
    pub quote: Ticker,
}

/// Whether an item is new or an edit of one already announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// First time this item is seen.
    Created,
    /// The exchange changed the title or time of an item seen before, and the change lists or
    /// delists nothing that was not told before. Goes only to subscribers that can see `action`
    /// (`fields=full`): to all others it would read as a second listing.
    Updated,
    /// An edit that lists or delists something the item had not told before (a title that became a
    /// listing, a ticker added): `updated` to those who see `action`, and news to everyone.
    UpdatedWithNews,
}

impl Action {
    /// Whether subscribers that do not see `action` get it.
    #[must_use]
    pub const fn is_news(self) -> bool {
        !matches!(self, Action::Updated)
    }

    /// The feed's `action` spelling.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Action::Created => "created",
            Action::Updated | Action::UpdatedWithNews => "updated",
        }
    }
}

/// The language a title is written in, as far as rules tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Lang {
    /// English.
    En,
    /// Korean.
    Ko,
    /// Chinese.
    Zh,
}

impl Lang {
    /// Every language, in the order of its discriminant.
    pub const ALL: [Lang; 3] = [Lang::En, Lang::Ko, Lang::Zh];

    /// The inverse of [`Lang::name`].
    #[must_use]
    pub fn parse(name: &str) -> Option<Lang> {
        Lang::ALL.into_iter().find(|lang| lang.name() == name)
    }

    /// ISO 639-1 code.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Lang::En => "en",
            Lang::Ko => "ko",
            Lang::Zh => "zh",
        }
    }
}

/// Where the exchange filed a notice, as its source tells: a second opinion beside the title, never
/// stronger than it (exchanges file postponements under listings).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CategoryHint {
    /// The source tells nothing usable.
    #[default]
    None,
    /// Filed under new listings (Binance catalogue 48, OKX `announcements-new-listings`).
    Listing,
    /// Filed under delistings (Binance catalogue 161, OKX `announcements-delistings`).
    Delisting,
    /// Filed under anything else: news, activities, maintenance, events.
    Other,
}

/// What the classifier says of a title.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classification {
    /// One of the five types.
    pub listing_type: ListingType,
    /// Announced symbols in the title's order, without repeats; empty on `not_listing`.
    pub tickers: Vec<Ticker>,
    /// Markets named in the title, where it names any.
    pub markets: Vec<Market>,
    /// Name of the rule that decided; stable, for people to look up.
    pub rule: &'static str,
    /// Per cent, 0 to 100: of the labelled titles this rule decided, the share whose label is its type;
    /// contested labels count half and small counts are drawn to 50, which also stands where nothing
    /// was measured. Raised or lowered where the exchange's own filing agrees or contradicts. It speaks
    /// of the type, not of the symbols. See `docs/classification.md`.
    pub confidence: u8,
    /// Language of the rules that applied.
    pub lang: Lang,
}

/// Position of an announcement in the feed: `epoch` counts starts of the engine, `seq` counts
/// announcements within one epoch from 1. Ordered; written `EPOCH:SEQ`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FeedPosition {
    /// Which start of the engine.
    pub epoch: u64,
    /// Which announcement of that epoch.
    pub seq: u64,
}

impl FeedPosition {
    /// Parses `EPOCH:SEQ`, two decimal numbers.
    #[must_use]
    pub fn parse(text: &str) -> Option<FeedPosition> {
        let (epoch, seq) = text.split_once(':')?;
        let digits = |s: &str| -> Option<u64> {
            (!s.is_empty() && s.bytes().all(|b| b.is_ascii_digit())).then(|| s.parse().ok())?
        };
        Some(FeedPosition { epoch: digits(epoch)?, seq: digits(seq)? })
    }
}

impl core::fmt::Display for FeedPosition {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}:{}", self.epoch, self.seq)
    }
}

/// One announcement, classified, as it goes to the feed, the webhooks and the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Stable identity `<exchange>:<item>`, the same after a restart (`upbit:6496`); an edit keeps
    /// the id of the original.
    pub id: String,
    /// Where it is in the feed.
    pub position: FeedPosition,
    /// Who published it.
    pub exchange: Exchange,
    /// The title as the exchange wrote it, at most [`limits::TITLE_BYTES`].
    pub title: String,
    /// What the classifier says.
    pub classification: Classification,
    /// Created or updated.
    pub action: Action,
    /// True when it was found too late to be news (it was published while the engine was down):
    /// kept in history and replayed on resume, never broadcast.
    pub late: bool,
    /// Address of the notice, empty when the source gives none.
    pub url: String,
    /// The exchange's own identifier.
    pub notice_id: String,
    /// Name of the source that saw it first (`binance.cms`).
    pub source: String,
    /// When the exchange says it published.
    pub published: WallUs,
    /// When the last byte of the response that held it had been read.
    pub received: WallUs,
    /// When it was known to be new: the feed's `detectedTimestampUs`.
    pub detected: WallUs,
    /// When the classifier had decided.
    pub classified: WallUs,
    /// When trading starts or ends, where the notice says.
    pub effective_at: Option<WallUs>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for e in Exchange::ALL {
            assert_eq!(Exchange::parse(&e.name().to_uppercase()), Some(e));
            assert_eq!(Exchange::ALL[e.index()], e);
        }
        for t in ListingType::ALL {
            assert_eq!(ListingType::parse(t.name()), Some(t));
        }
        for (index, lang) in Lang::ALL.into_iter().enumerate() {
            assert_eq!((Lang::parse(lang.name()), lang as usize), (Some(lang), index));
        }
        assert_eq!(Exchange::parse("binanc"), None);
    }

    #[test]
    fn tickers_are_bounded_and_upper_case() {
        assert_eq!(Ticker::new("XAUt").map(|t| t.to_string()), Some("XAUT".into()));
        assert_eq!(Ticker::new("币安人生").map(|t| t.to_string()), Some("币安人生".into()));
        for bad in ["", "A,B", "A B", "A\n", &"A".repeat(limits::TICKER_BYTES + 1)] {
            assert_eq!(Ticker::new(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn positions_parse_strictly() {
        let p = FeedPosition { epoch: 3, seq: 12 };
        assert_eq!(FeedPosition::parse("3:12"), Some(p));
        assert_eq!(p.to_string(), "3:12");
        for bad in ["", ":", "3:", ":1", "+3:1", "3:1:2", "3:99999999999999999999", " 3:1"] {
            assert_eq!(FeedPosition::parse(bad), None, "{bad:?}");
        }
    }
}
