//! What a simulated exchange has published: notices, their order and their edits.
//!
//! Contract: a deterministic table; identifiers follow from the seed, times come in as arguments.
//! Bounded by [`MAX_NOTICES`]: beyond it the oldest notice is forgotten.

use std::collections::VecDeque;

use serde::Deserialize;
use tocsin_core::model::ListingType;
use tocsin_core::time::WallUs;

use crate::invent::{Inventor, Rng};
use crate::options::Kind;

/// Most notices an exchange remembers.
pub(crate) const MAX_NOTICES: usize = 20_000;

/// Which shelf of the exchange a notice stands on. Each exchange has its own names for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// New listings (Binance catalogue 48, Upbit 거래, Bithumb 마켓 추가).
    #[default]
    Listing,
    /// Delistings (161, 거래, 거래지원종료).
    Delisting,
    /// Warnings about an asset (49, 거래, 거래유의).
    Caution,
    /// Deposits and withdrawals (157, 입출금).
    Wallet,
    /// General news (49, 안내).
    News,
    /// Campaigns (93, 이벤트).
    Activity,
    /// Maintenance (157, 점검).
    Maintenance,
    /// Airdrops (128, 안내).
    Airdrop,
    /// API news (51, 안내).
    Api,
    /// National currencies (50, 안내).
    Fiat,
    /// Disclosures (49, 디지털 자산, 공시).
    Disclosure,
}

/// A notice to be published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    /// Title in the exchange's first language.
    pub title: String,
    /// Upbit's English title; without one an English reader gets `title`.
    pub title_en: Option<String>,
    /// Which shelf.
    pub category: Category,
    /// The publish time shown; `None` means the moment of publishing.
    pub published: Option<WallUs>,
    /// The edit time shown (Upbit `listed_at`, Bithumb `modified_at`); `None` means `published`.
    pub modified: Option<WallUs>,
    /// Its number; `None` takes the next free one.
    pub id: Option<u64>,
}

impl Draft {
    /// A notice titled `title` on the shelf `category`, published when it is published.
    #[must_use]
    pub fn new(category: Category, title: impl Into<String>) -> Draft {
        Draft { title: title.into(), category, ..Draft::default() }
    }
}

/// A notice as it was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The identifier the engine knows it by: Binance `code`, Upbit `id`, Bithumb number of `pc_url` …
    pub notice_id: String,
    /// Its title.
    pub title: String,
    /// Its publish time as the response shows it, in the exchange's resolution.
    pub published: WallUs,
    /// When readers could first see it: now, or later by the cache lag.
    pub visible: WallUs,
}

/// One notice in the catalogue.
#[derive(Clone, Debug)]
pub(crate) struct Notice {
    pub(crate) id: u64,
    /// Binance's 32 hex digits, Upbit's `uuid`, OKX's slug, Bybit's `blt…`, Crypto.com's id; empty elsewhere.
    pub(crate) code: String,
    pub(crate) title: String,
    pub(crate) title_en: Option<String>,
    pub(crate) category: Category,
    pub(crate) published: WallUs,
    pub(crate) modified: WallUs,
    pub(crate) edited: bool,
    pub(crate) pinned: bool,
}

impl Notice {
    /// The identifier the engine knows it by.
    pub(crate) fn notice_id(&self, kind: Kind) -> String {
        match kind {
            Kind::Binance | Kind::Okx | Kind::Bybit | Kind::Cryptocom => self.code.clone(),
            _ => self.id.to_string(),
        }
    }
}

/// A change that takes effect when readers see it.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Publish(Notice),
    /// New title and new edit time: Upbit puts it on top.
    Edit {
        notice_id: String,
        title: String,
        at: WallUs,
    },
    /// New title, nothing else.
    Retitle {
        notice_id: String,
        title: String,
    },
    Pin(String),
    Delete(String),
}

/// All notices of one exchange, in the order its list shows them.
#[derive(Debug)]
pub(crate) struct Catalogue {
    kind: Kind,
    notices: VecDeque<Notice>,
    next_id: u64,
    /// Numbers handed out of order, as Bithumb does when notices are scheduled.
    spare_ids: Vec<u64>,
    rng: Rng,
}

impl Catalogue {
    /// A catalogue with `old` invented notices, the newest an hour before `now`.
    pub(crate) fn new(kind: Kind, seed: u64, old: usize, now: WallUs) -> Catalogue {
        let next_id = match kind {
            Kind::Binance => 310_000,
            Kind::Upbit => 7_000,
            Kind::Bithumb => 1_660_000,
            Kind::Okx | Kind::Bybit | Kind::Cryptocom => 1,
            Kind::Bitget => 12_560_609_000_000,
            Kind::Kucoin => 229_000,
            // Fifteen digits.
            Kind::Htx => 104_896_879_400_000,
            Kind::Bingx => 23_619_018_787_000,
            Kind::Mexc => 27_827_791_529_000,
            Kind::Coinone => 4_900,
        };
        let mut catalogue =
            Catalogue { kind, notices: VecDeque::new(), next_id, spare_ids: Vec::new(), rng: Rng::new(seed) };
        let mut inventor = Inventor::new(kind, seed ^ 0x01d);
        let hour_us: i64 = 3_600_000_000;
        for age in (1..=i64::try_from(old.min(MAX_NOTICES)).unwrap_or(0)).rev() {
            let published = WallUs(now.0.saturating_sub(age.saturating_mul(hour_us)));
            let invented = inventor.any(published);
            let mut draft = invented.draft;
            draft.published = Some(published);
            if age % 5 == 0 && invented.listing_type == ListingType::NotListing {
                draft.category = if age % 2 == 0 { Category::Activity } else { Category::Maintenance };
            }
            if kind == Kind::Bithumb && age % 2 == 0 {
                draft.modified = Some(WallUs(published.0.saturating_sub(hour_us / 2)));
            }
            let notice = catalogue.prepare(draft, now);
            catalogue.apply(Change::Publish(notice));
        }
        if kind == Kind::Upbit {
            catalogue.add_fixed(now);
        }
        catalogue
    }

    /// Two notices pinned for years, with numbers far below the others'.
    fn add_fixed(&mut self, now: WallUs) {
        let year_us: i64 = 365 * 86_400_000_000;
        for (id, title, title_en) in [
            (2_911, "모의 거래소 이용자 유의사항 안내", "Notes for users of the simulated exchange"),
            (5_703, "모의 거래소 공지 분류 안내", "How the simulated exchange sorts its notices"),
        ] {
            let published = WallUs(now.0.saturating_sub(2 * year_us));
            self.insert(Notice {
                id,
                code: id.to_string(),
                title: title.into(),
                title_en: Some(title_en.into()),
                category: Category::News,
                published,
                modified: WallUs(published.0.saturating_add(year_us)),
                edited: true,
                pinned: true,
            });
        }
    }

    /// Gives a draft its identifiers and times, in the exchange's resolution.
    pub(crate) fn prepare(&mut self, draft: Draft, now: WallUs) -> Notice {
        let id = draft.id.unwrap_or_else(|| self.take_id());
        let code = match self.kind {
            Kind::Binance => format!("{:016x}{:016x}", self.rng.next(), self.rng.next()),
            Kind::Upbit => (self.rng.next() >> 33).to_string(),
            Kind::Okx => format!("{}-{id}", slug(&draft.title)),
            Kind::Bybit => format!("blt{:016x}", self.rng.next()),
            Kind::Cryptocom => format!("{:024x}", u128::from(self.rng.next()) << 32 | u128::from(id)),
            _ => String::new(),
        };
        let published = self.resolution(draft.published.unwrap_or(now));
        let modified = draft.modified.map_or(published, |at| self.resolution(at));
        Notice {
            id,
            code,
            title: draft.title,
            title_en: draft.title_en,
            category: draft.category,
            published,
            modified,
            edited: false,
            pinned: false,
        }
    }

    fn take_id(&mut self) -> u64 {
        let stride = match self.kind {
            // Article numbers are shared with pages nobody lists.
            Kind::Binance | Kind::Htx | Kind::Bingx | Kind::Mexc | Kind::Bitget => 1 + self.rng.below(40),
            Kind::Upbit | Kind::Okx | Kind::Bybit | Kind::Kucoin | Kind::Cryptocom | Kind::Coinone => 1,
            Kind::Bithumb => {
                if self.spare_ids.is_empty() {
                    self.spare_ids = (self.next_id..self.next_id + 4).collect();
                    self.next_id += 4;
                }
                let at = self.rng.below(self.spare_ids.len() as u64) as usize;
                return self.spare_ids.swap_remove(at);
            }
        };
        self.next_id += stride;
        self.next_id
    }

    /// Most show milliseconds, some seconds, Coinone microseconds.
    fn resolution(&self, at: WallUs) -> WallUs {
        let unit = match self.kind {
            Kind::Upbit | Kind::Bithumb | Kind::Bingx => 1_000_000,
            Kind::Coinone => 1,
            _ => 1_000,
        };
        WallUs(at.0.div_euclid(unit).saturating_mul(unit))
    }

    /// What the list is sorted by, newest first.
    fn sort_key(&self, notice: &Notice) -> WallUs {
        match self.kind {
            Kind::Upbit => notice.modified,
            _ => notice.published,
        }
    }

    fn insert(&mut self, notice: Notice) {
        let key = self.sort_key(&notice);
        let at = self.notices.iter().position(|n| self.sort_key(n) <= key).unwrap_or(self.notices.len());
        self.notices.insert(at, notice);
        self.notices.truncate(MAX_NOTICES);
    }

    /// Whether a notice is in the catalogue.
    pub(crate) fn contains(&self, notice_id: &str) -> bool {
        self.position(notice_id).is_some()
    }

    fn position(&self, notice_id: &str) -> Option<usize> {
        self.notices.iter().position(|n| n.notice_id(self.kind) == notice_id)
    }

    /// Makes a change visible. A change to a notice that has been deleted meanwhile does nothing.
    pub(crate) fn apply(&mut self, change: Change) {
        match change {
            Change::Publish(notice) => self.insert(notice),
            Change::Edit { notice_id, title, at } => {
                let Some(mut notice) = self.remove(&notice_id) else { return };
                notice.title.clone_from(&title);
                notice.title_en = notice.title_en.map(|_| title);
                notice.modified = self.resolution(at);
                notice.edited = true;
                self.insert(notice);
            }
            Change::Retitle { notice_id, title } => {
                let at = self.position(&notice_id);
                if let Some(notice) = at.and_then(|at| self.notices.get_mut(at)) {
                    notice.title_en = notice.title_en.take().map(|_| title.clone());
                    notice.title = title;
                }
            }
            Change::Pin(notice_id) => {
                let at = self.position(&notice_id);
                if let Some(notice) = at.and_then(|at| self.notices.get_mut(at)) {
                    notice.pinned = true;
                }
            }
            Change::Delete(notice_id) => drop(self.remove(&notice_id)),
        }
    }

    fn remove(&mut self, notice_id: &str) -> Option<Notice> {
        self.position(notice_id).and_then(|at| self.notices.remove(at))
    }

    /// Pinned notices first where the exchange has one list; Upbit keeps them in a list of their own.
    pub(crate) fn listed(&self) -> impl Iterator<Item = &Notice> {
        let pinned_on_top = self.kind != Kind::Upbit;
        let top = self.notices.iter().filter(move |n| n.pinned && pinned_on_top);
        top.chain(self.notices.iter().filter(|n| !n.pinned))
    }

    /// The pinned ones.
    pub(crate) fn pinned(&self) -> impl Iterator<Item = &Notice> {
        self.notices.iter().filter(|n| n.pinned)
    }

    /// Finds by Binance's article code.
    pub(crate) fn by_notice_id(&self, notice_id: &str) -> Option<&Notice> {
        self.position(notice_id).and_then(|at| self.notices.get(at))
    }
}

/// Words of a title as an address has them.
fn slug(title: &str) -> String {
    let lower = title.to_ascii_lowercase();
    let words = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.take(8).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallUs = WallUs(1_790_000_000_123_456);

    #[test]
    fn the_same_seed_gives_the_same_catalogue() {
        for kind in Kind::ALL {
            let titles = |seed| {
                let c = Catalogue::new(kind, seed, 30, NOW);
                c.listed().map(|n| (n.notice_id(kind), n.title.clone())).collect::<Vec<_>>()
            };
            assert_eq!(titles(7), titles(7));
            assert_ne!(titles(7), titles(8));
            assert_eq!(titles(7).len(), 30);
        }
    }

    #[test]
    fn an_edit_moves_an_upbit_notice_up_and_a_binance_article_not() {
        for (kind, first) in [(Kind::Upbit, true), (Kind::Bithumb, false), (Kind::Binance, false)] {
            let mut c = Catalogue::new(kind, 1, 10, NOW);
            let old = c.listed().last().unwrap().notice_id(kind);
            let published = c.by_notice_id(&old).unwrap().published;
            c.apply(Change::Edit { notice_id: old.clone(), title: "changed".into(), at: NOW });
            let notice = c.by_notice_id(&old).unwrap();
            assert_eq!(notice.title, "changed");
            assert_eq!(notice.published, published);
            assert_eq!(c.listed().next().unwrap().notice_id(kind) == old, first, "{kind:?}");
        }
    }

    #[test]
    fn bithumb_numbers_are_not_in_publish_order() {
        let c = Catalogue::new(Kind::Bithumb, 3, 40, NOW);
        let ids: Vec<u64> = c.listed().map(|n| n.id).collect();
        assert!(ids.windows(2).any(|w| w[0] < w[1]));
        assert!(ids.windows(2).any(|w| w[0] > w[1]));
        assert!(c.listed().any(|n| n.modified < n.published));
    }

    #[test]
    fn pinned_upbit_notices_leave_the_list() {
        let mut c = Catalogue::new(Kind::Upbit, 1, 5, NOW);
        let id = c.listed().nth(2).unwrap().notice_id(Kind::Upbit);
        c.apply(Change::Pin(id.clone()));
        assert!(c.pinned().any(|n| n.notice_id(Kind::Upbit) == id));
        assert!(c.listed().all(|n| n.notice_id(Kind::Upbit) != id));
        c.apply(Change::Delete(id.clone()));
        assert!(!c.contains(&id));
    }
}
