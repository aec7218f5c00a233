//! The evidence that has a name: what kind of rule decided, and words that give a title a second
//! reading.
//!
//! Contract: tables and pure functions; nothing allocates, nothing fails. What stands here is what the
//! labelling rules of `docs/classification.md` say in words ("What counts"): a model learns how much
//! each counts, and [`Evidence::SecondReading`] lets it carry over to an exchange or a year that had
//! none of a kind.

use super::features::Marked;
use crate::model::{Classification, Lang, ListingType, Ticker};

/// Named features. The number is the slot: names are added at the end, never moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
#[allow(missing_docs, reason = "the table in docs/score.md says what each is")]
pub enum Evidence {
    FuturesListing,
    SpotDelisting,
    FuturesDelisting,
    Korean,
    Chinese,
    TwoSymbols,
    MoreSymbols,
    MarketNamed,
    /// Any of those below.
    SecondReading,
    /// The rule is about the first notice of a launch platform.
    RuleLaunch,
    /// The rule is about added or removed pairs.
    RulePairs,
    /// The rule is about dated contracts.
    RuleDated,
    /// The rule is about something beside the exchange's own market (Binance Alpha).
    RuleBeside,
    /// The rule is about a notice that was titled anew.
    RuleUpdate,
    /// Leveraged tokens.
    WordLeveraged,
    /// Shares, indices, commodities, currencies.
    WordTraditional,
    /// One region only.
    WordRegion,
    /// Trading pairs, or a pair written with a slash.
    WordPair,
    /// Rewards for holders, launch platforms.
    WordReward,
    /// It has happened, or changed.
    WordDone,
    /// A symbol of a share, an index, a commodity or a currency.
    SymbolTraditional,
    /// Named as an underlying before "USDⓈ-Margined", where Binance puts those that are no coins.
    SymbolBeforeMargin,
}

impl Evidence {
    /// How many there are.
    pub const COUNT: usize = Evidence::SymbolBeforeMargin as usize + 1;
}

/// What the words of a title said.
#[derive(Default)]
pub(super) struct Heard {
    found: u64,
    symbol_just_before: bool,
    trading_just_before: bool,
}

impl Heard {
    pub(super) fn word(&mut self, word: &str, marked: &Marked<'_>, said: &Classification) {
        let spot = said.listing_type == ListingType::SpotListing;
        let is = |list: &[&str]| list.iter().any(|known| word.eq_ignore_ascii_case(known));
        let plain = matches!(marked, Marked::Word(_) | Marked::Mixed);
        if plain {
            self.note(Evidence::WordLeveraged, is(LEVERAGED));
            self.note(Evidence::WordTraditional, is(TRADITIONAL));
            self.note(Evidence::WordRegion, is(REGIONS));
            self.note(Evidence::WordReward, is(REWARDS));
            self.note(Evidence::WordDone, is(DONE) || DONE_KOREAN.iter().any(|w| word.contains(w)));
            self.note(Evidence::WordPair, spot && self.trading_just_before && is(&["pair", "pairs"]));
            self.note(Evidence::SymbolBeforeMargin, self.symbol_just_before && word.starts_with("USDⓈ"));
        }
        self.symbol_just_before = *marked == Marked::Symbol;
        self.trading_just_before = plain && is(&["trading"]);
    }

    /// Tells `tell` all evidence of the title.
    pub(super) fn conclude(
        mut self,
        title: &str,
        classification: &Classification,
        mut tell: impl FnMut(Evidence),
    ) {
        let tickers = || classification.tickers.iter().map(Ticker::as_str);
        self.note(Evidence::WordPair, has_pair(title, classification));
        self.note(
            Evidence::SymbolTraditional,
            tickers().any(|t| TRADITIONAL_SYMBOLS.binary_search(&t).is_ok()),
        );
        if let Some(kind) = kind_of(classification.rule) {
            self.note(kind, true);
        }
        self.note(Evidence::SecondReading, self.found != 0);
        let listing_type = classification.listing_type;
        self.note(Evidence::FuturesListing, listing_type == ListingType::FuturesListing);
        self.note(Evidence::SpotDelisting, listing_type == ListingType::SpotDelisting);
        self.note(Evidence::FuturesDelisting, listing_type == ListingType::FuturesDelisting);
        self.note(Evidence::Korean, classification.lang == Lang::Ko);
        self.note(Evidence::Chinese, classification.lang == Lang::Zh);
        self.note(Evidence::TwoSymbols, classification.tickers.len() == 2);
        self.note(Evidence::MoreSymbols, classification.tickers.len() > 2);
        self.note(Evidence::MarketNamed, !classification.markets.is_empty());
        for evidence in ALL {
            if self.found >> evidence as u64 & 1 == 1 {
                tell(evidence);
            }
        }
    }

    fn note(&mut self, found: Evidence, yes: bool) {
        self.found |= u64::from(yes) << found as u64;
    }
}

/// Whether a title that lists on the spot market names a market (`QUOK/TRY`, `USDC-AUD`) and no asset's
/// name in parentheses beside it: what is new is the pair.
fn has_pair(title: &str, classification: &Classification) -> bool {
    if classification.listing_type != ListingType::SpotListing || title.contains('(') {
        return false;
    }
    let sign = |c: char| c == '/' || c == '-';
    let mut words = title.split(|c: char| !c.is_alphanumeric() && !sign(c));
    words.any(|word| {
        let Some((base, quote)) = word.split_once(sign) else { return false };
        !base.is_empty() && !quote.contains(sign) && PAIR_QUOTES.contains(&quote)
    })
}

/// Whether `word` is `ticker`, ignoring ASCII case, or a contract on it.
pub(super) fn is_symbol(word: &str, ticker: &str) -> bool {
    let Some((start, quote)) = word.split_at_checked(ticker.len()) else { return false };
    start.eq_ignore_ascii_case(ticker) && (quote.is_empty() || QUOTES.contains(&quote))
}

/// What second reading the titles of a rule have, if they have one.
fn kind_of(rule: &str) -> Option<Evidence> {
    Some(match rule {
        "en.launchpool" => Evidence::RuleLaunch,
        "en.pair_addition" | "en.short_pair_addition" | "en.new_pairs" | "en.pair_removal" => {
            Evidence::RulePairs
        }
        "en.dated_contract" => Evidence::RuleDated,
        "en.alpha_and_futures" => Evidence::RuleBeside,
        "ko.listing_update" => Evidence::RuleUpdate,
        _ => return None,
    })
}

/// Of all evidence, in the order of slots.
const ALL: [Evidence; Evidence::COUNT] = [
    Evidence::FuturesListing,
    Evidence::SpotDelisting,
    Evidence::FuturesDelisting,
    Evidence::Korean,
    Evidence::Chinese,
    Evidence::TwoSymbols,
    Evidence::MoreSymbols,
    Evidence::MarketNamed,
    Evidence::SecondReading,
    Evidence::RuleLaunch,
    Evidence::RulePairs,
    Evidence::RuleDated,
    Evidence::RuleBeside,
    Evidence::RuleUpdate,
    Evidence::WordLeveraged,
    Evidence::WordTraditional,
    Evidence::WordRegion,
    Evidence::WordPair,
    Evidence::WordReward,
    Evidence::WordDone,
    Evidence::SymbolTraditional,
    Evidence::SymbolBeforeMargin,
];

const QUOTES: &[&str] =
    &["USDT", "USDC", "USD", "USD1", "FDUSD", "BUSD", "U", "PERP", "KRW", "BTC", "EUR", "TRY"];
const LEVERAGED: &[&str] = &["leveraged", "blvt", "etf", "etfs"];
const TRADITIONAL: &[&str] = &[
    "stock",
    "stocks",
    "bstock",
    "bstocks",
    "xstocks",
    "equity",
    "equities",
    "index",
    "indices",
    "composite",
    "tradfi",
    "ipo",
    "tokenized",
    "tokenised",
    "commodity",
    "commodities",
    "forex",
];
const REGIONS: &[&str] = &["eea", "eu", "europe", "uae"];
const REWARDS: &[&str] = &["airdrops", "launchpool", "megadrop", "hodler", "farm"];
const DONE: &[&str] = &["delisted", "updated", "reminder", "relisting", "relist"];
const DONE_KOREAN: &[&str] = &["완료", "변경", "재거래지원", "취소", "연기", "재상장"];
const PAIR_QUOTES: &[&str] = &[
    "USDT", "USDC", "FDUSD", "BUSD", "TUSD", "PAX", "USD", "EUR", "GBP", "TRY", "BRL", "AUD", "JPY", "SGD",
    "CAD", "UAH", "RUB", "NGN", "ZAR", "IDR", "MXN", "KRW", "KZT", "BTC", "ETH", "BNB", "XRP", "TRX",
];

/// Companies, funds, indices, metals and currencies by the codes they are traded under; none that is better
/// known as a coin. Sorted.
const TRADITIONAL_SYMBOLS: &[&str] = &[
    "AAPL",
    "ABBV",
    "ABNB",
    "ACN",
    "ADBE",
    "ADI",
    "AFRM",
    "AMAT",
    "AMC",
    "AMD",
    "AMGN",
    "AMZN",
    "ANTHROPIC",
    "ARKK",
    "ASML",
    "AUDUSD",
    "AVGO",
    "BABA",
    "BAC",
    "BBBY",
    "BHP",
    "BIDU",
    "BILI",
    "BITF",
    "BKNG",
    "BRENT",
    "BRKB",
    "BZ",
    "CAT",
    "CATL",
    "CBRS",
    "CEREBRAS",
    "CL",
    "CLSK",
    "CMCSA",
    "COHR",
    "COIN",
    "COPPER",
    "CORZ",
    "COST",
    "CRCL",
    "CRM",
    "CRWD",
    "CRWV",
    "CSCO",
    "CVX",
    "DDOG",
    "DELL",
    "DJI",
    "DKNG",
    "DXY",
    "EEM",
    "EURUSD",
    "EWH",
    "EWJ",
    "EWT",
    "EWY",
    "EWZ",
    "FOXCONN",
    "FXI",
    "GBPUSD",
    "GER40",
    "GIGADEV",
    "GILD",
    "GLD",
    "GME",
    "GOOG",
    "GOOGL",
    "GPRO",
    "HK50",
    "HMC",
    "HON",
    "HOOD",
    "HSI",
    "HYG",
    "HYUNDAI",
    "IBIT",
    "IBM",
    "INTC",
    "INTU",
    "IREN",
    "ISRG",
    "IWM",
    "JD",
    "JNJ",
    "JP225",
    "JPM",
    "KAKAO",
    "KIOXIA",
    "KLAC",
    "KLARNA",
    "KO",
    "KOSPI",
    "KOSPI200",
    "KWEB",
    "LCID",
    "LITE",
    "LLY",
    "LMT",
    "LQD",
    "LRCX",
    "LYFT",
    "MARA",
    "MCD",
    "MDB",
    "MEITUAN",
    "META",
    "MRK",
    "MRVL",
    "MSFT",
    "MSTR",
    "MU",
    "NAS100",
    "NATGAS",
    "NAVER",
    "NBIS",
    "NFLX",
    "NI225",
    "NIKKEI",
    "NINTENDO",
    "NIO",
    "NKE",
    "NOC",
    "NTES",
    "NVDA",
    "NVO",
    "NXPI",
    "OKTA",
    "OPENAI",
    "ORCL",
    "PANW",
    "PBR",
    "PDD",
    "PEP",
    "PFE",
    "PINS",
    "PLTR",
    "POPMART",
    "PYPL",
    "QCOM",
    "QLD",
    "QQQ",
    "RBLX",
    "RIOT",
    "RIVN",
    "RKLB",
    "ROKU",
    "RTX",
    "SAMSUNG",
    "SBUX",
    "SHEL",
    "SHOP",
    "SKHY",
    "SKHYNIX",
    "SLV",
    "SMCI",
    "SMH",
    "SMIC",
    "SNAP",
    "SNDK",
    "SOFI",
    "SOFTBANK",
    "SONY",
    "SOXL",
    "SOXS",
    "SPACEX",
    "SPCX",
    "SPX500",
    "SPY",
    "SQQQ",
    "STRIPE",
    "TCEHY",
    "TENCENT",
    "TLT",
    "TME",
    "TMO",
    "TOYOTA",
    "TQQQ",
    "TSLA",
    "TSM",
    "TXN",
    "UBER",
    "UK100",
    "UKOIL",
    "UNG",
    "UNH",
    "UNITREE",
    "UPST",
    "US100",
    "US30",
    "US500",
    "USDBRL",
    "USDCAD",
    "USDCHF",
    "USDCNH",
    "USDJPY",
    "USDKRW",
    "USDMXN",
    "USDTRY",
    "USO",
    "USOIL",
    "UVXY",
    "VALE",
    "VOO",
    "VTI",
    "VXX",
    "WDC",
    "WFC",
    "WMT",
    "WTI",
    "WULF",
    "XAG",
    "XAU",
    "XBR",
    "XCU",
    "XIAOMI",
    "XLE",
    "XLF",
    "XLK",
    "XOM",
    "XPD",
    "XPEV",
    "XPT",
    "XTI",
];

const fn ascending(names: &[&str]) -> bool {
    let mut at = 1;
    while at < names.len() {
        let (before, here) = (names[at - 1].as_bytes(), names[at].as_bytes());
        let mut i = 0;
        while i < before.len() && i < here.len() && before[i] == here[i] {
            i += 1;
        }
        let less = i == before.len() || (i < here.len() && before[i] < here[i]);
        if !less {
            return false;
        }
        at += 1;
    }
    true
}

const _: () = assert!(ascending(TRADITIONAL_SYMBOLS), "looked up by halving");
const _: () = assert!(Evidence::COUNT <= u64::BITS as usize);
