//! A made-up world for the watchers' tests: sources with an answer format of lines, a store, a history.

use std::collections::BTreeMap;

use super::*;
use crate::market::Tells;
use crate::model::{Action, Classification, FeedPosition, Lang, ListingType, Ticker};
use crate::source::Evidence;

pub(super) const MINUTE: i64 = 60_000_000;
pub(super) const DAY: i64 = 1_440 * MINUTE;
pub(super) const START: i64 = 20_000 * DAY;

pub(super) fn minute(minute: i64) -> WallUs {
    WallUs(START + minute * MINUTE)
}

/// Reads lines of words: `I symbol base quote kind trading opens closes` with minutes or `-`, `V symbol sum last`,
/// `?` for a row that is skipped, `!` for an answer that is refused.
fn parse(
    _: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(MarketRow<'_>),
) -> Result<Parsed, ParseError> {
    let mut parsed = Parsed::default();
    let number = |word: &str| word.parse::<i64>().ok();
    for line in core::str::from_utf8(body).unwrap().lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match *words.as_slice() {
            ["!"] => return Err(ParseError::Html),
            ["?"] => parsed.skipped += 1,
            ["I", symbol, base, quote, kind, trading, opens, closes] => {
                let at = |word| number(word).map(minute);
                found(MarketRow::Instrument(Instrument {
                    symbol,
                    base,
                    quote,
                    kind: InstrumentKind::parse(kind).unwrap(),
                    trading: Trading::parse(trading).unwrap(),
                    state: trading,
                    opens_at: at(opens),
                    closes_at: at(closes),
                }));
                parsed.rows += 1;
            }
            ["V", symbol, sum, last] => {
                let (quote_24h, last) = (sum.parse().unwrap(), last.parse().ok());
                found(MarketRow::Volume(super::super::Volume { symbol, quote_24h, last }));
                parsed.rows += 1;
            }
            _ => panic!("{line}"),
        }
    }
    Ok(parsed)
}

const fn request(name: &'static str, every: u64, complete: bool, tells: Tells) -> MarketRequest {
    MarketRequest { name, target: "/", body: None, every: Duration::from_secs(every), complete, tells, parse }
}

static LISTS: [MarketRequest; 2] =
    [request("list", 10, true, Tells::Instruments), request("tickers", 60, false, Tells::Volumes)];
static CALENDAR_REQUESTS: [MarketRequest; 1] = [request("calendar", 60, false, Tells::Instruments)];
static BOTH: [MarketRequest; 1] = [request("all", 10, true, Tells::Both)];

const fn spec(
    name: &'static str,
    exchange: Exchange,
    base_url: &'static str,
    requests: &'static [MarketRequest],
) -> MarketSpec {
    let ahead_by_time = matches!(exchange, Exchange::Gate);
    let (evidence, headers) = (Evidence::Official, &[]);
    MarketSpec { name, exchange, evidence, base_url, ahead_by_time, headers, requests }
}

pub(super) static SPOT: MarketSpec = spec("okx.spot", Exchange::Okx, "https://okx.test", &LISTS);
pub(super) static SWAP: MarketSpec = spec("okx.swap", Exchange::Okx, "https://okx.test", &LISTS);
pub(super) static CALENDAR: MarketSpec =
    spec("okx.calendar", Exchange::Okx, "https://calendar.test", &CALENDAR_REQUESTS);
pub(super) static GATE: MarketSpec = spec("gate.spot", Exchange::Gate, "https://gate.test", &LISTS);
pub(super) static HYPE: MarketSpec =
    spec("hyperliquid.all", Exchange::Hyperliquid, "https://hyperliquid.test", &BOTH);
pub(super) static UPBIT: MarketSpec = spec("upbit.spot", Exchange::Upbit, "https://upbit.test", &LISTS);
pub(super) static BITHUMB: MarketSpec =
    spec("bithumb.spot", Exchange::Bithumb, "https://bithumb.test", &LISTS);

pub(super) static SOURCES: [&MarketSpec; 7] = [&SPOT, &SWAP, &CALENDAR, &GATE, &HYPE, &UPBIT, &BITHUMB];

/// What a store would hold: by source and request, the book and the instruments.
type Store = BTreeMap<(&'static str, &'static str), (BookRecord, BTreeMap<Box<str>, InstrumentRecord>)>;

/// Everything with a clock in minutes.
pub(super) struct World {
    pub(super) watcher: Watcher,
    pub(super) rules: WatcherRules,
    pub(super) hearing: Hearing,
    pub(super) minute: i64,
    pub(super) stored: Store,
    pub(super) history: Vec<Announcement>,
    /// Identities of what was told, oldest first.
    pub(super) told: Vec<(Exchange, String)>,
    /// Instruments beside those of a test.
    pub(super) others: usize,
    pub(super) report: Result<AnswerReport, ParseError>,
}

impl World {
    pub(super) fn new(rules: WatcherRules, hearing: Hearing) -> World {
        World {
            watcher: Watcher::new(&rules, &SOURCES, &|_| hearing),
            rules,
            hearing,
            minute: 0,
            stored: Store::new(),
            history: Vec::new(),
            told: Vec::new(),
            others: 60,
            report: Err(UNKNOWN),
        }
    }

    pub(super) fn deaf() -> World {
        World::new(WatcherRules::default(), Hearing::Never)
    }

    pub(super) fn id(&self, source: &str, request: &str) -> RequestId {
        let mut all = self.watcher.requests();
        all.find(|(_, spec, asked)| (spec.name, asked.name) == (source, request)).unwrap().0
    }

    /// An answer as it is, at the present minute.
    pub(super) fn rows(&mut self, source: &str, request: &str, rows: &str) -> Vec<MarketEvent> {
        let (id, now, mut told) = (self.id(source, request), minute(self.minute), Told::default());
        let mut body = rows.as_bytes().to_vec();
        self.report = self.watcher.answer(id, &mut Scratch::default(), &mut body, now, now, &mut told);
        assert_eq!(self.report.map_or(0, |report| report.events), told.events.len());
        self.store(told)
    }

    /// A list of others beside `rows`, one minute later.
    pub(super) fn list(&mut self, source: &str, rows: &str) -> Vec<MarketEvent> {
        self.minute += 1;
        let others = (0..self.others).map(|i| format!("I X{i}-USDT X{i} USDT spot open - -\n"));
        let answer: String = others.chain([rows.to_owned()]).collect();
        self.rows(source, "list", &answer)
    }

    pub(super) fn settle(&mut self, minutes: i64) -> Vec<MarketEvent> {
        self.minute += minutes;
        let mut told = Told::default();
        self.watcher.settle(minute(self.minute), &mut told);
        self.store(told)
    }

    pub(super) fn announce(
        &mut self,
        exchange: Exchange,
        kind: ListingType,
        tickers: &[&str],
    ) -> Vec<MarketEvent> {
        let announcement = announcement(exchange, kind, tickers, minute(self.minute));
        let mut told = Told::default();
        self.watcher.announcement(&announcement, minute(self.minute), &mut told);
        self.history.push(announcement);
        self.store(told)
    }

    pub(super) fn hear(&mut self) {
        self.hearing = Hearing::Until(minute(self.minute));
        for exchange in Exchange::ALL {
            self.watcher.heard(exchange, minute(self.minute));
        }
    }

    /// Deletes, then writes, as [`Changes`] says.
    pub(super) fn store(&mut self, told: Told) -> Vec<MarketEvent> {
        for changes in told.changes {
            let (book, records) = self.stored.entry((changes.source, changes.request)).or_default();
            for symbol in changes.forgotten {
                records.remove(&symbol);
            }
            records.extend(changes.records.into_iter().map(|record| (record.symbol.clone(), record)));
            *book = changes.book.unwrap_or(*book);
        }
        self.told.extend(told.events.iter().map(|event| (event.exchange, event.source_item())));
        told.events
    }

    pub(super) fn restart(&mut self) {
        self.watcher = Watcher::new(&self.rules, &SOURCES, &|_| self.hearing);
        for ((source, request), (book, records)) in &self.stored {
            self.watcher.load(source, request, *book, records.values().cloned().collect());
        }
        for (exchange, item) in &self.told {
            self.watcher.told_before(*exchange, item);
        }
        let mut told = Told::default();
        for announcement in &self.history {
            self.watcher.announcement(announcement, minute(self.minute), &mut told);
        }
        let events = self.store(told);
        assert!(events.is_empty(), "what is history was told: {events:?}");
    }
}

pub(super) fn announcement(
    exchange: Exchange,
    listing_type: ListingType,
    tickers: &[&str],
    at: WallUs,
) -> Announcement {
    Announcement {
        id: format!("{}:1", exchange.name()),
        position: FeedPosition::default(),
        exchange,
        title: "A title".to_owned(),
        classification: Classification {
            listing_type,
            tickers: tickers.iter().filter_map(|ticker| Ticker::new(ticker)).collect(),
            markets: Vec::new(),
            rule: "test",
            confidence: 50,
            lang: Lang::En,
        },
        action: Action::Created,
        late: false,
        url: String::new(),
        notice_id: "1".to_owned(),
        source: "test".to_owned(),
        published: at,
        received: at,
        detected: at,
        classified: at,
        effective_at: None,
    }
}

pub(super) fn told(events: &[MarketEvent]) -> Vec<(MarketEventKind, &str)> {
    events.iter().map(|event| (event.kind, event.symbol.as_str())).collect()
}
