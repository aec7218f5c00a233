//! What the watchers know together, for others: an asset's markets, and its volume.
//!
//! Contract: reads every book once a call, some milliseconds for all exchanges; for the market thread and no
//! hotter one. What two requests of one exchange show is one market: the one of the earlier request.

use super::{Asked, Watcher};
use crate::limits;
use crate::market::book::Book;
use crate::market::record::InstrumentRecord;
use crate::market::register::bare;
use crate::market::{AssetContext, AssetMarket, Context, InstrumentKind, VolumeTable, exchange};
use crate::model::{Announcement, Exchange, ListingType, Ticker};
use crate::time::WallUs;

/// Exchanges of Korea.
const KOREAN: [Exchange; 3] = [Exchange::Upbit, Exchange::Bithumb, Exchange::Coinone];

impl Watcher {
    /// What is known of the assets of an announcement; `None` when it names none or neither lists nor delists.
    /// Ask before [`Watcher::announcement`]: a market of the publisher that opened just before its notice is
    /// the listing itself, and no earlier one.
    #[must_use]
    pub fn context(&self, announcement: &Announcement, now: WallUs) -> Option<Context> {
        let said = &announcement.classification;
        if said.listing_type == ListingType::NotListing || said.tickers.is_empty() {
            return None;
        }
        let tickers = said.tickers.iter().take(limits::TICKERS_PER_ANNOUNCEMENT);
        let mut known: Vec<Known<'_>> = tickers.map(Known::of).collect();
        for (at, record) in self.markets() {
            let base = bare(&record.base);
            for known in known.iter_mut().filter(|known| known.asset == base) {
                known.markets.push((at, record, self.dollars_of(at, &record.symbol, &record.quote, now)));
            }
        }
        let lists = matches!(said.listing_type, ListingType::SpotListing | ListingType::FuturesListing);
        let asks = lists && KOREAN.contains(&announcement.exchange);
        let each = (limits::CONTEXT_MARKETS_IN_ALL / known.len().max(1)).clamp(1, limits::CONTEXT_MARKETS);
        let assets = known.into_iter().map(|known| AssetContext {
            first_korean: if asks { self.first_korean(announcement.exchange, &known) } else { None },
            volume_24h_usd: known.volume(),
            ticker: known.ticker.clone(),
            markets: known.most_traded(each, &self.requests),
        });
        Some(Context { assets: assets.collect() })
    }

    /// What is traded of every asset within 24 hours, summed over what is watched.
    #[must_use]
    pub fn volumes(&self, now: WallUs) -> VolumeTable {
        VolumeTable::sum(self.markets().filter_map(|(at, record)| {
            Some((record.base.as_ref(), self.dollars_of(at, &record.symbol, &record.quote, now)?))
        }))
    }

    /// Every instrument that is on a list and not over, with its request, each market once.
    fn markets(&self) -> impl Iterator<Item = (usize, &InstrumentRecord)> {
        self.requests.iter().enumerate().flat_map(move |(at, asked)| {
            let records = asked.book.iter().flat_map(Book::records);
            records
                .filter(move |record| record.is_live() && !self.shown_before(at, asked.place, record))
                .map(move |record| (at, record))
        })
    }

    fn shown_before(&self, at: usize, place: usize, record: &InstrumentRecord) -> bool {
        let before = self.requests.iter().take(at).filter(|asked| asked.place == place);
        let mut same = before.filter_map(|asked| asked.book.as_ref()?.record(&record.symbol));
        same.any(|other| other.kind == record.kind && other.is_live())
    }

    /// What was traded within 24 hours of an instrument that request `at` tells of, in US dollars. A volume of
    /// another source of the exchange counts only where that source has no instrument of the name.
    pub(super) fn dollars_of(&self, at: usize, symbol: &str, quote: &str, now: WallUs) -> Option<f64> {
        let of = self.requests.get(at)?;
        let place = self.places.get(of.place)?;
        let here = || self.requests.iter().filter(|asked| asked.place == of.place);
        let traded = |asked: &Asked| asked.traded.as_ref()?.of(symbol, now);
        let own = here().filter(|asked| asked.spec.name == of.spec.name).find_map(traded);
        let sum = own.or_else(|| {
            let others = here().filter(|asked| asked.spec.name != of.spec.name);
            let names_it = |source: &str| {
                let mut books = here().filter(|asked| asked.spec.name == source);
                books.any(|asked| asked.book.as_ref().is_some_and(|book| book.record(symbol).is_some()))
            };
            others.filter(|asked| !names_it(asked.spec.name)).find_map(traded)
        })?;
        Some(sum * place.rates.of(quote, now)?)
    }

    /// Whether no Korean list that is watched has the asset, but for what its publisher opened just now.
    /// `None` while one of the lists there are is not watched, or has not been read, and the others say no.
    fn first_korean(&self, publisher: Exchange, known: &Known<'_>) -> Option<bool> {
        let listed = known.markets.iter().any(|(at, record, _)| {
            let exchange = self.requests.get(*at).map(|asked| asked.spec.exchange);
            exchange.is_some_and(|exchange| KOREAN.contains(&exchange))
                && record.kind == InstrumentKind::Spot
                && record.standing.opened
                && (exchange != Some(publisher) || record.standing.awaiting.is_none())
        });
        if listed {
            return Some(false);
        }
        let read = |exchange: Exchange| {
            let mut asked = self.requests.iter().filter(|asked| asked.spec.exchange == exchange);
            asked.any(|asked| asked.book.as_ref().is_some_and(Book::is_baselined))
        };
        let mut lists = KOREAN.into_iter().filter(|e| exchange::ALL.iter().any(|spec| spec.exchange == *e));
        lists.all(read).then_some(true)
    }
}

/// A market of an asset: its request, what is known of it, its volume in US dollars.
type Found<'a> = (usize, &'a InstrumentRecord, Option<f64>);

/// One asset and where it was found.
struct Known<'a> {
    ticker: &'a Ticker,
    asset: &'a str,
    markets: Vec<Found<'a>>,
}

impl<'a> Known<'a> {
    fn of(ticker: &'a Ticker) -> Known<'a> {
        Known { ticker, asset: bare(ticker.as_str()), markets: Vec::new() }
    }

    fn volume(&self) -> Option<f64> {
        self.markets.iter().filter_map(|(_, _, dollars)| *dollars).reduce(|sum, dollars| sum + dollars)
    }

    /// The first `count` by volume; of those without one, in the order of requests and symbols.
    fn most_traded(mut self, count: usize, requests: &[Asked]) -> Vec<AssetMarket> {
        let volume = |found: &Found<'_>| found.2.unwrap_or(-1.0);
        self.markets.sort_by(|a, b| volume(b).total_cmp(&volume(a)));
        let markets = self.markets.into_iter().take(count).filter_map(|(at, record, dollars)| {
            Some(AssetMarket {
                exchange: requests.get(at)?.spec.exchange,
                symbol: record.symbol.clone(),
                instrument: record.kind,
                quote: record.quote.clone(),
                trading: record.trading,
                volume_24h_usd: dollars,
            })
        });
        markets.collect()
    }
}
