//! Invented announcements: assets that do not exist, in the phrasing each exchange uses.
//!
//! Contract: deterministic from the seed; the first 4,096 symbols of an inventor are all
//! different. Never fails.

mod phrases;

use std::collections::BTreeSet;

use tocsin_core::model::ListingType;
use tocsin_core::time::WallUs;

use crate::catalogue::{Category, Draft};
use crate::clock;
use crate::options::Kind;
use phrases::Phrases;

/// SplitMix64: small, seedable, good enough to shuffle titles.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) const fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub(crate) const fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next() % bound }
    }
}

/// An announcement made up, with what a classifier should say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invented {
    /// Ready to publish.
    pub draft: Draft,
    /// The type meant.
    pub listing_type: ListingType,
    /// The symbols meant, in the title's order; empty when it is no listing or delisting.
    pub tickers: Vec<String>,
}

/// An asset that does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asset {
    /// In Latin letters (`Varomi`).
    pub name: String,
    /// The same in Korean.
    pub korean: String,
    /// Its symbol, in capitals.
    pub ticker: String,
}

impl Asset {
    fn english(&self) -> String {
        format!("{} ({})", self.name, self.ticker)
    }

    fn korean(&self) -> String {
        format!("{}({})", self.korean, self.ticker)
    }
}

const SYLLABLES: [(&str, &str); 20] = [
    ("va", "바"),
    ("ro", "로"),
    ("mi", "미"),
    ("ze", "제"),
    ("tu", "투"),
    ("ka", "카"),
    ("no", "노"),
    ("li", "리"),
    ("du", "두"),
    ("pe", "페"),
    ("sa", "사"),
    ("go", "고"),
    ("ni", "니"),
    ("ba", "바"),
    ("yo", "요"),
    ("re", "레"),
    ("fu", "푸"),
    ("ja", "자"),
    ("mo", "모"),
    ("ke", "케"),
];

/// Makes up announcements for one exchange.
#[derive(Clone, Debug)]
pub struct Inventor {
    kind: Kind,
    rng: Rng,
    used: BTreeSet<String>,
}

impl Inventor {
    /// An inventor whose whole output follows from `kind` and `seed`.
    #[must_use]
    pub const fn new(kind: Kind, seed: u64) -> Inventor {
        Inventor { kind, rng: Rng::new(seed), used: BTreeSet::new() }
    }

    /// An announcement of any type, about as often as exchanges make them. `at` dates the title.
    pub fn any(&mut self, at: WallUs) -> Invented {
        let listing_type = match self.rng.below(10) {
            0..=2 => ListingType::SpotListing,
            3 => ListingType::FuturesListing,
            4 => ListingType::SpotDelisting,
            5 => ListingType::FuturesDelisting,
            _ => ListingType::NotListing,
        };
        self.of_type(listing_type, at)
    }

    /// An announcement of one type. The Korean ones have no futures: asked for those, they
    /// announce on the spot market.
    pub fn of_type(&mut self, listing_type: ListingType, at: WallUs) -> Invented {
        let most = match (self.kind, listing_type) {
            (Kind::Binance, ListingType::SpotDelisting) => 3,
            (Kind::Binance, ListingType::SpotListing) => 2,
            (kind, ListingType::SpotListing | ListingType::FuturesListing) if kind.is_korean() => 2,
            _ => 1,
        };
        let many = if most > 1 { 1 + self.rng.below(most) } else { 1 };
        let assets: Vec<Asset> = (0..many).map(|_| self.asset()).collect();
        self.about(listing_type, &assets, at)
    }

    /// An announcement of one type about these assets, in the words for as many as the exchange names at once.
    pub fn about(&mut self, listing_type: ListingType, assets: &[Asset], at: WallUs) -> Invented {
        match self.kind {
            Kind::Binance => self.binance(listing_type, assets, at),
            Kind::Upbit | Kind::Bithumb | Kind::Coinone => match listing_type {
                ListingType::SpotListing | ListingType::FuturesListing => self.korean_listing(assets),
                ListingType::SpotDelisting | ListingType::FuturesDelisting => korean_delisting(assets, at),
                ListingType::NotListing => self.korean_other(assets, at),
            },
            kind => self.phrased(&phrases::of(kind), listing_type, assets, at),
        }
    }

    fn phrased(
        &mut self,
        phrases: &Phrases,
        listing_type: ListingType,
        assets: &[Asset],
        at: WallUs,
    ) -> Invented {
        let (category, phrase) = match listing_type {
            ListingType::SpotListing => (Category::Listing, phrases.listing),
            ListingType::FuturesListing => (Category::Listing, phrases.contract),
            ListingType::SpotDelisting => (Category::Delisting, phrases.delisting),
            ListingType::FuturesDelisting => (Category::Delisting, phrases.contract_delisting),
            ListingType::NotListing => {
                // On the shelves of listings, which every reader sees.
                let at = self.rng.below(phrases.others.len() as u64) as usize;
                (Category::Listing, phrases.others.get(at).copied().unwrap_or_default())
            }
        };
        let title = phrase
            .replace("{asset}", &english(assets))
            .replace("{name}", &join(assets.iter().map(|a| a.name.clone()), ", "))
            .replace("{ticker}", &tickers(assets))
            .replace("{date}", &clock::utc_date(at));
        invented(category, title, listing_type, assets)
    }

    /// One that this inventor has not named before, among the first 4,096.
    pub fn asset(&mut self) -> Asset {
        loop {
            let (mut name, mut korean) = (String::new(), String::new());
            for _ in 0..2 + self.rng.below(3) {
                let at = self.rng.below(SYLLABLES.len() as u64) as usize;
                let (latin, hangul) = SYLLABLES.get(at).copied().unwrap_or(("zu", "주"));
                name.push_str(latin);
                korean.push_str(hangul);
            }
            let upper = name.to_ascii_uppercase();
            let ticker: String = upper.chars().take(6).collect();
            // Well below the 8,400 symbols there are, so that a fresh one is found soon.
            if self.used.len() < 4_096 && !self.used.insert(ticker.clone()) {
                continue;
            }
            let name = upper.chars().take(1).chain(name.chars().skip(1)).collect();
            return Asset { name, korean, ticker };
        }
    }

    fn binance(&mut self, listing_type: ListingType, assets: &[Asset], at: WallUs) -> Invented {
        let date = clock::utc_date(at);
        let tickers = tickers(assets);
        let (category, title) = match listing_type {
            ListingType::SpotListing => {
                let names = join(assets.iter().map(Asset::english), " and ");
                let tail = if self.rng.below(2) == 0 { " with Seed Tag Applied" } else { "" };
                (Category::Listing, format!("Binance Will List {names}{tail}"))
            }
            ListingType::FuturesListing => (
                Category::Listing,
                format!(
                    "Binance Futures Will Launch USDⓈ-Margined {tickers}USDT Perpetual Contract ({date})"
                ),
            ),
            ListingType::SpotDelisting => {
                (Category::Delisting, format!("Binance Will Delist {tickers} on {date}"))
            }
            ListingType::FuturesDelisting => (
                Category::Delisting,
                format!("Binance Futures Will Delist USDⓈ-M {tickers}USDT Perpetual Contract ({date})"),
            ),
            ListingType::NotListing => self.binance_other(assets, &date),
        };
        invented(category, title, listing_type, assets)
    }

    fn binance_other(&mut self, assets: &[Asset], date: &str) -> (Category, String) {
        let (asset, name) = (english(assets), join(assets.iter().map(|a| a.name.clone()), ", "));
        // Only on the shelves where listings and delistings stand too: a reader of those sees all.
        match self.rng.below(6) {
            0 => (Category::Listing, format!("Binance Will Add {asset} on Earn, Convert & Margin")),
            1 => (Category::Delisting, format!("Notice of Removal of Margin Trading Pairs - {date}")),
            2 => (Category::News, format!("Wallet Maintenance for the {name} Network - {date}")),
            3 => (Category::News, format!("{asset} Trading Competition: Share a Reward Pool")),
            4 => (Category::News, format!("Distribution of the {asset} Airdrop Is Complete")),
            _ => (Category::News, format!("{name} Monthly Reserve Report ({date})")),
        }
    }

    fn korean_listing(&self, assets: &[Asset]) -> Invented {
        let names = join(assets.iter().map(Asset::korean), ", ");
        let latin = latin(assets);
        let (title, title_en) = match self.kind {
            Kind::Bithumb => (format!("{names} 원화 마켓 추가"), None),
            Kind::Coinone => (format!("{names} 신규 거래지원 안내"), None),
            _ => (
                format!("{names} 신규 거래지원 안내 (KRW, BTC, USDT 마켓)"),
                Some(format!("Market Support for {latin} (KRW, BTC, USDT Market)")),
            ),
        };
        let mut listing = invented(Category::Listing, title, ListingType::SpotListing, assets);
        listing.draft.title_en = title_en;
        listing
    }

    fn korean_other(&mut self, assets: &[Asset], at: WallUs) -> Invented {
        let (name, latin) = (join(assets.iter().map(Asset::korean), ", "), latin(assets));
        let when = clock::kst_short(at);
        let (category, title, title_en) = match self.rng.below(5) {
            0 => (
                Category::Wallet,
                format!("{name} 입출금 일시 중단 안내 ({when} ~)"),
                format!("Deposit and Withdrawal Pause for {latin} ({when} ~)"),
            ),
            1 => (
                Category::Caution,
                format!("{name} 거래 유의 종목 지정 안내"),
                format!("Trading Caution Designation for {latin}"),
            ),
            2 => (
                Category::Activity,
                format!("{name} 거래 이벤트! 총 상금 1 BTC"),
                format!("{latin} Trading Event! Prize Pool of 1 BTC"),
            ),
            3 => (
                Category::Maintenance,
                format!("시스템 점검 안내 ({when})"),
                format!("System Maintenance ({when})"),
            ),
            _ => (
                Category::Disclosure,
                format!("유통량 계획표 변경 안내 : {name}"),
                format!("Change of Circulation Plan : {latin}"),
            ),
        };
        let mut other = invented(category, title, ListingType::NotListing, assets);
        other.draft.title_en = Some(title_en);
        other
    }
}

fn korean_delisting(assets: &[Asset], at: WallUs) -> Invented {
    let when = clock::kst_short(WallUs(at.0.saturating_add(30 * 86_400_000_000)));
    let names = join(assets.iter().map(Asset::korean), ", ");
    let title = format!("{names} 거래지원 종료 안내 ({when})");
    let mut delisting = invented(Category::Delisting, title, ListingType::SpotDelisting, assets);
    delisting.draft.title_en = Some(format!("Termination of Market Support for {} ({when})", latin(assets)));
    delisting
}

/// What is neither a listing nor a delisting means no symbol, whatever its title names.
fn invented(category: Category, title: String, listing_type: ListingType, assets: &[Asset]) -> Invented {
    let meant = if listing_type == ListingType::NotListing { &[] } else { assets };
    Invented {
        draft: Draft::new(category, title),
        listing_type,
        tickers: meant.iter().map(|a| a.ticker.clone()).collect(),
    }
}

fn english(assets: &[Asset]) -> String {
    join(assets.iter().map(Asset::english), ", ")
}

fn latin(assets: &[Asset]) -> String {
    join(assets.iter().map(|a| format!("{}({})", a.name, a.ticker)), ", ")
}

fn tickers(assets: &[Asset]) -> String {
    join(assets.iter().map(|a| a.ticker.clone()), ", ")
}

fn join(parts: impl Iterator<Item = String>, separator: &str) -> String {
    parts.collect::<Vec<_>>().join(separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_invented_and_named_in_its_title() {
        let at = WallUs(1_790_000_000_000_000);
        for kind in Kind::ALL {
            let mut inventor = Inventor::new(kind, 5);
            for wanted in ListingType::ALL {
                for _ in 0..50 {
                    let made = inventor.of_type(wanted, at);
                    assert!(made.tickers.iter().all(|t| made.draft.title.contains(t.as_str())));
                    assert_eq!(made.tickers.is_empty(), made.listing_type == ListingType::NotListing);
                    if !kind.is_korean() {
                        assert_eq!(made.listing_type, wanted);
                    }
                }
            }
        }
    }

    #[test]
    fn symbols_do_not_come_back() {
        let mut inventor = Inventor::new(Kind::Upbit, 9);
        let mut seen = BTreeSet::new();
        for _ in 0..500 {
            let made = inventor.of_type(ListingType::SpotListing, WallUs(0));
            for ticker in made.tickers {
                assert!(seen.insert(ticker));
            }
        }
    }
}
