//! What books tell, case by case.

use core::time::Duration;

use super::*;
use crate::market::record::Ending;
use crate::market::register::Hearing;
use crate::market::{MarketRow, Tells, Trading::*};
use crate::model::{Exchange, ListingType, Ticker};
use crate::source::{Evidence, ParseError, Parsed, Scratch};

fn parse(_: &mut Scratch, _: &mut [u8], _: &mut dyn FnMut(MarketRow<'_>)) -> Result<Parsed, ParseError> {
    Err(ParseError::Empty)
}

const fn request(name: &'static str, complete: bool) -> MarketRequest {
    MarketRequest {
        name,
        target: "/",
        body: None,
        every: Duration::from_secs(60),
        complete,
        tells: Tells::Instruments,
        parse,
    }
}

static REQUESTS: [MarketRequest; 2] = [request("all", true), request("ahead", false)];
static SPEC: MarketSpec = MarketSpec {
    name: "okx.instruments",
    exchange: Exchange::Okx,
    evidence: Evidence::Official,
    base_url: "https://exchange.test",
    ahead_by_time: false,
    headers: &[],
    requests: &REQUESTS,
};

pub(super) const MINUTE: i64 = 60_000_000;
pub(super) const DAY: i64 = 1_440 * MINUTE;
const START: i64 = 20_000 * DAY;

pub(super) fn at(minute: i64) -> Option<WallUs> {
    Some(WallUs(START + minute * MINUTE))
}

pub(super) fn row(symbol: &str, trading: Trading) -> Instrument<'_> {
    let (base, quote) = symbol.split_once('-').unwrap_or((symbol, "USDT"));
    Instrument {
        symbol,
        base,
        quote,
        kind: InstrumentKind::Spot,
        trading,
        state: trading.name(),
        opens_at: None,
        closes_at: None,
    }
}

/// A book with its register and a clock in minutes.
pub(super) struct World {
    pub(super) book: Book,
    pub(super) register: Register,
    pub(super) minute: i64,
    pub(super) stored: BTreeMap<Box<str>, InstrumentRecord>,
    pub(super) stored_book: BookRecord,
}

impl World {
    pub(super) fn new(request: usize, hearing: Hearing) -> World {
        World {
            book: Book::new(&SPEC, &REQUESTS[request], BookRules::default()),
            register: Register::new(hearing),
            minute: 0,
            stored: BTreeMap::new(),
            stored_book: BookRecord::default(),
        }
    }

    /// A full list of 100 others beside `rows`, one minute later.
    fn answer(&mut self, rows: &[Instrument<'_>]) -> Vec<MarketEvent> {
        self.list(100, rows).1
    }

    pub(super) fn list(&mut self, others: usize, rows: &[Instrument<'_>]) -> (Outcome, Vec<MarketEvent>) {
        let names: Vec<String> = (0..others).map(|i| format!("X{i:04}-USDT")).collect();
        let others = names.iter().map(|name| row(name, Open));
        let all: Vec<Instrument<'_>> = rows.iter().copied().chain(others).collect();
        self.rows(&all)
    }

    pub(super) fn rows(&mut self, rows: &[Instrument<'_>]) -> (Outcome, Vec<MarketEvent>) {
        self.minute += 1;
        for row in rows {
            self.book.stage(row);
        }
        let now = WallUs(START + self.minute * MINUTE);
        let mut findings = Findings::default();
        let outcome = self.book.conclude(true, now, now, &mut self.register, &mut findings);
        (outcome, self.store(findings))
    }

    fn settle(&mut self, minutes: i64) -> Vec<MarketEvent> {
        self.minute += minutes;
        let now = WallUs(START + self.minute * MINUTE);
        let mut findings = Findings::default();
        self.book.settle(now, &mut self.register, &mut findings);
        self.store(findings)
    }

    fn store(&mut self, findings: Findings) -> Vec<MarketEvent> {
        for record in findings.records {
            self.stored.insert(record.symbol.clone(), record);
        }
        for symbol in findings.forgotten {
            self.stored.remove(&symbol);
        }
        self.stored_book = findings.book.unwrap_or(self.stored_book);
        findings.events
    }

    pub(super) fn restart(&mut self) {
        let mut next = World::new(usize::from(!self.book.complete), self.register.hearing());
        next.book.load(self.stored_book, self.stored.values().cloned(), &mut next.register);
        self.book = next.book;
        self.register = next.register;
    }

    fn notice(&mut self, listing_type: ListingType, tickers: &[&str]) {
        let tickers: Vec<Ticker> = tickers.iter().filter_map(|t| Ticker::new(t)).collect();
        self.register.note_notice(listing_type, &tickers, WallUs(START + self.minute * MINUTE));
    }

    fn hears(&mut self) {
        self.register.heard(WallUs(START + self.minute * MINUTE));
    }
}

fn kinds(events: &[MarketEvent]) -> Vec<MarketEventKind> {
    events.iter().map(|event| event.kind).collect()
}

use MarketEventKind::*;

fn ahead(minute: i64) -> Instrument<'static> {
    Instrument { opens_at: at(minute), ..row("NEW-USDT", Ahead) }
}

#[test]
fn a_preview_is_told_moved_and_confirmed_by_its_opening() {
    let mut world = World::new(0, Hearing::Until(WallUs(START)));
    assert_eq!(world.list(100, &[]).0, Outcome::Baseline);
    let told = world.answer(&[ahead(600)]);
    assert_eq!(kinds(&told), [ListingPreview]);
    assert_eq!((told[0].effective_at, told[0].occurrence, told[0].new_asset), (at(600), 1, true));
    assert_eq!(told[0].score, Some(85));
    assert_eq!(told[0].since, at(1));
    assert!(world.answer(&[ahead(600)]).is_empty());
    assert!(world.answer(&[ahead(609)]).is_empty(), "a small shift is followed in silence");
    assert!(world.answer(&[ahead(630)]).is_empty(), "one answer may be an old cache");
    assert!(world.answer(&[ahead(600)]).is_empty());
    assert!(world.answer(&[ahead(630)]).is_empty());
    let moved = world.answer(&[ahead(630)]);
    assert_eq!(kinds(&moved), [ListingPreview]);
    assert_eq!((moved[0].effective_at, moved[0].occurrence), (at(630), 2));
    world.minute = 630;
    let opened = world.answer(&[Instrument { trading: Open, ..ahead(630) }]);
    assert_eq!(kinds(&opened), [PreviewConfirmed]);
    assert_eq!(opened[0].occurrence, 2);
    assert!(world.answer(&[Instrument { trading: Open, ..ahead(630) }]).is_empty());
}

#[test]
fn open_with_an_opening_to_come_is_a_preview_too() {
    let mut world = World::new(0, Hearing::Never);
    world.answer(&[]);
    assert_eq!(kinds(&world.answer(&[Instrument { trading: Open, ..ahead(60) }])), [ListingPreview]);
    world.minute = 60;
    assert_eq!(kinds(&world.answer(&[Instrument { trading: Open, ..ahead(60) }])), [PreviewConfirmed]);
}

#[test]
fn a_baseline_tells_what_opens_later_once_for_ever_and_nothing_else() {
    let mut world = World::new(0, Hearing::Never);
    let closing = Instrument { closes_at: at(600), ..row("END-USDT", Open) };
    let timeless = row("WHEN-USDT", Ahead);
    let rows = [ahead(600), closing, timeless];
    let told = world.answer(&rows);
    assert_eq!(kinds(&told), [ListingPreview]);
    assert_eq!(told[0].symbol, "NEW-USDT");
    world.restart();
    assert!(world.answer(&rows).is_empty(), "not after a restart");
    let timed = Instrument { opens_at: at(700), ..timeless };
    assert_eq!(kinds(&world.answer(&[ahead(600), closing, timed])), [ListingPreview], "now it has a time");
    let over = [ahead(600), Instrument { trading: Over, ..closing }, timed];
    assert!(world.answer(&over).is_empty() && world.answer(&over).is_empty(), "it was known before us");
    let mut many = World::new(0, Hearing::Never);
    let names: Vec<String> = (0..33).map(|i| format!("N{i}-USDT")).collect();
    let rows: Vec<_> = names.iter().map(|n| Instrument { opens_at: at(60), ..row(n, Ahead) }).collect();
    assert!(many.answer(&rows).is_empty(), "so many are a schema, not listings");
}

#[test]
fn a_notice_confirms_a_preview_once() {
    let mut world = World::new(0, Hearing::Until(WallUs(START)));
    world.answer(&[]);
    world.answer(&[ahead(600)]);
    world.settle(1);
    world.notice(ListingType::FuturesListing, &["NEW"]);
    assert!(world.settle(0).is_empty(), "another kind of market");
    world.notice(ListingType::SpotListing, &["NEW"]);
    let told = world.settle(0);
    assert_eq!((kinds(&told), told[0].noticed), (vec![PreviewConfirmed], true));
    world.minute = 600;
    assert!(world.answer(&[Instrument { trading: Open, ..ahead(600) }]).is_empty());
}

#[test]
fn a_preview_that_goes_is_withdrawn_and_may_come_again() {
    let mut world = World::new(0, Hearing::Never);
    world.answer(&[]);
    world.answer(&[ahead(600)]);
    let mut told = Vec::new();
    for _ in 0..12 {
        told.extend(world.answer(&[]));
    }
    assert_eq!(kinds(&told), [PreviewWithdrawn]);
    let again = world.answer(&[ahead(600)]);
    assert_eq!(kinds(&again), [ListingPreview]);
    assert_eq!(again[0].occurrence, 2, "another event than the first");
    let over = [Instrument { trading: Over, ..ahead(600) }];
    assert!(world.answer(&over).is_empty(), "once may be an accident");
    assert_eq!(kinds(&world.answer(&over)), [PreviewWithdrawn]);
}

#[test]
fn a_pair_nobody_told_of_waits_for_its_notice() {
    let mut world = World::new(0, Hearing::Until(WallUs(START)));
    let new = [row("NEW-USDT", Open), row("NEW-USDC", Open), row("X0001-EUR", Open)];
    world.answer(&[]);
    assert!(world.answer(&new).is_empty());
    assert!(world.settle(9).is_empty());
    world.notice(ListingType::SpotListing, &["X0001"]);
    world.settle(1);
    world.hears();
    world.restart();
    assert!(world.register.hearing() == Hearing::Until(WallUs(START + world.minute * MINUTE)));
    world.notice(ListingType::SpotListing, &["X0001"]);
    let told = world.settle(1);
    assert_eq!(kinds(&told), [StealthListing, StealthListing], "after a restart too");
    assert!(told.iter().all(|event| event.base == "NEW" && event.new_asset));
    assert_eq!(told[0].effective_at, at(2));
    let pair = [new[0], new[1], new[2], row("NEW-EUR", Open)];
    world.answer(&pair);
    world.settle(10);
    world.hears();
    let told = world.settle(1);
    assert_eq!(kinds(&told), [StealthListing]);
    assert!(!told[0].new_asset, "a further quote");
}

#[test]
fn nothing_is_called_stealth_while_notices_cannot_be_heard() {
    let mut world = World::new(0, Hearing::Until(WallUs(START)));
    world.answer(&[]);
    world.answer(&[row("NEW-USDT", Open)]);
    assert!(world.settle(59).is_empty());
    assert!(world.settle(1).is_empty());
    assert_eq!(world.book.counts().undecided, 1);
    world.hears();
    assert!(world.settle(1).is_empty());
    let mut deaf = World::new(0, Hearing::Never);
    deaf.answer(&[]);
    assert_eq!(kinds(&deaf.answer(&[row("NEW-USDT", Open)])), [StealthListing], "at once");
}

#[test]
fn a_notice_before_explains_a_pair() {
    let mut world = World::new(0, Hearing::Until(WallUs(START)));
    world.answer(&[]);
    world.notice(ListingType::SpotListing, &["NEW"]);
    world.minute += 7 * 1_440 - 20;
    world.answer(&[row("NEW-USDT", Open)]);
    world.settle(11);
    world.hears();
    assert!(world.settle(1).is_empty());
}

#[test]
fn an_end_is_told_moved_and_taken_back() {
    let mut world = World::new(0, Hearing::Never);
    let end = |minute| Instrument { closes_at: at(minute), ..row("OLD-USDT", Open) };
    world.answer(&[end(400 * 1_440)]);
    assert!(world.answer(&[end(300 * 1_440)]).is_empty(), "far ahead is no delisting");
    let told = world.answer(&[end(3_000)]);
    assert_eq!(kinds(&told), [Delisting]);
    assert_eq!((told[0].effective_at, told[0].occurrence), (at(3_000), 1));
    assert!(world.answer(&[end(3_005)]).is_empty());
    assert!(world.answer(&[end(5_000)]).is_empty());
    assert_eq!(kinds(&world.answer(&[end(5_000)])), [Delisting]);
    let mut events = Vec::new();
    for _ in 0..12 {
        events.extend(world.answer(&[row("OLD-USDT", Open)]));
    }
    assert_eq!(kinds(&events), [DelistingWithdrawn]);
    assert_eq!(kinds(&world.answer(&[end(6_000)])), [Delisting]);
    world.minute = 6_000;
    let over = [Instrument { trading: Over, ..end(6_000) }];
    assert!(world.answer(&over).is_empty() && world.answer(&over).is_empty(), "as it was told");
    for _ in 0..20 {
        assert!(world.answer(&[]).is_empty(), "gone, as was told");
    }
    let back = world.answer(&[row("OLD-USDT", Open)]);
    assert_eq!(kinds(&back), [StealthListing], "listed anew");
}

#[test]
fn an_end_that_comes_early_is_told_though_its_time_was_not() {
    let mut world = World::new(0, Hearing::Never);
    let end = |symbol, minute| Instrument { closes_at: at(minute), ..row(symbol, Open) };
    let (said, told) = (end("SAID-USDT", 14_000), end("TOLD-USDT", 14_000));
    world.answer(&[row("TOLD-USDT", Open), said]);
    // An end that is there at the first sight is not told.
    assert_eq!(kinds(&world.answer(&[said, told, end("WIND-USDT", 14_000)])), [Delisting, StealthListing]);
    let over = |symbol, minute| Instrument { trading: Over, closes_at: at(minute), ..row(symbol, Open) };
    let now = world.minute;
    // Over while it winds down, with the same end beside it, is as planned.
    let early = [over("SAID-USDT", now), over("TOLD-USDT", now), over("WIND-USDT", 14_005)];
    assert!(world.answer(&early).is_empty());
    let events = world.answer(&early);
    let seen = |event: &MarketEvent| (event.symbol.clone(), event.kind, event.occurrence, event.effective_at);
    assert_eq!(
        events.iter().map(seen).collect::<Vec<_>>(),
        [("SAID-USDT".to_owned(), Delisting, 1, at(now)), ("TOLD-USDT".to_owned(), Delisting, 2, at(now)),]
    );
    world.restart();
    assert!(world.answer(&early).is_empty(), "told once");
}

#[test]
fn what_rests_while_its_end_is_to_come_is_neither_withdrawn_nor_listed_anew() {
    let mut world = World::new(0, Hearing::Never);
    let end = |symbol, minute| Instrument { closes_at: at(minute), ..row(symbol, Open) };
    let over = |row: Instrument<'static>| Instrument { trading: Over, ..row };
    let (said, told) = (end("SAID-USDT", 14_000), end("TOLD-USDT", 14_000));
    world.answer(&[said, row("TOLD-USDT", Open)]);
    assert_eq!(kinds(&world.answer(&[said, told])), [Delisting]);
    for _ in 0..3 {
        assert!(world.answer(&[over(said), over(told)]).is_empty());
    }
    assert!(world.answer(&[said, told]).is_empty(), "the end is the same");
    for _ in 0..3 {
        assert!(world.answer(&[over(said), over(told)]).is_empty());
    }
    let events = world.answer(&[row("SAID-USDT", Open), row("TOLD-USDT", Open)]);
    assert_eq!(kinds(&events), [DelistingWithdrawn], "and nothing of an end nobody told");
    assert_eq!(events[0].symbol, "TOLD-USDT");
}

#[test]
fn an_instrument_that_goes_long_before_its_end_is_told() {
    let mut world = World::new(0, Hearing::Never);
    let end = |symbol, minute| Instrument { closes_at: at(minute), ..row(symbol, Open) };
    let (long, soon, told) = (end("LONG-USDT", 14_000), end("SOON-USDT", 30), end("TOLD-USDT", 14_000));
    world.answer(&[long, soon, row("TOLD-USDT", Open)]);
    // As long before, and it was told to end.
    assert_eq!(kinds(&world.answer(&[long, soon, told])), [Delisting]);
    let mut events = world.settle(14);
    for _ in 0..20 {
        events.extend(world.answer(&[]));
    }
    assert_eq!(kinds(&events), [Delisting]);
    assert_eq!((events[0].symbol.as_str(), events[0].effective_at), ("LONG-USDT", None), "when nobody said");
}

#[test]
fn an_end_without_a_word_is_told_when_it_is_sure() {
    let mut world = World::new(0, Hearing::Never);
    let (a, b) = (row("AAA-USDT", Open), row("BBB-USDT", Open));
    world.answer(&[a, b]);
    let over = Instrument { trading: Over, ..a };
    assert!(world.answer(&[over, b]).is_empty());
    assert!(world.answer(&[a, b]).is_empty());
    assert!(world.answer(&[over, b]).is_empty());
    assert_eq!(kinds(&world.answer(&[over, b])), [Delisting]);
    assert_eq!(kinds(&world.answer(&[a, b])), [DelistingWithdrawn]);
    let mut told = Vec::new();
    for minute in 0..20 {
        told.extend(world.answer(&[a]).into_iter().map(|event| (minute, event.kind, event.symbol)));
    }
    assert_eq!(told, [(10, Delisting, "BBB-USDT".to_owned())]);
}

#[test]
fn a_contract_with_an_end_ends_as_planned_in_silence() {
    let mut world = World::new(0, Hearing::Never);
    let dated =
        |minute| Instrument { kind: InstrumentKind::Dated, closes_at: at(minute), ..row("F-USDT", Open) };
    world.answer(&[dated(20_000)]);
    assert_eq!(kinds(&world.answer(&[dated(10_000)])), [Delisting], "a week early");
    assert!(world.answer(&[dated(10_000)]).is_empty());
    let mut other = World::new(0, Hearing::Never);
    other.answer(&[dated(500)]);
    other.minute = 499;
    for _ in 0..20 {
        assert!(other.answer(&[]).is_empty());
    }
}

#[test]
fn flapping_and_captions_tell_nothing() {
    let mut world = World::new(0, Hearing::Never);
    world.answer(&[row("A-USDT", Open)]);
    let stored = world.stored.clone();
    for i in 0..50 {
        let trading = if i % 2 == 0 { Halted } else { Open };
        assert!(world.answer(&[Instrument { state: "caution", ..row("A-USDT", trading) }]).is_empty());
    }
    assert_eq!(world.stored.len(), stored.len());
    assert_eq!(world.book.instrument("A-USDT").map(|i| i.state), Some("caution"));
}

#[test]
fn an_outage_concludes_nothing_and_is_believed_in_silence_after_a_day() {
    let mut world = World::new(0, Hearing::Never);
    world.list(100, &[]);
    assert_eq!(world.list(79, &[]).0, Outcome::Held(ListState::Shrunk));
    assert_eq!(world.book.state(), ListState::Shrunk);
    assert_eq!(world.list(80, &[]).0, Outcome::Taken, "a fifth is not more than a fifth");
    assert_eq!(world.book.state(), ListState::Usual);
    for _ in 0..1_440 {
        assert_eq!(world.list(60, &[]), (Outcome::Held(ListState::Shrunk), vec![]));
    }
    assert_eq!(world.list(60, &[]), (Outcome::Believed(ListState::Shrunk), vec![]));
    assert_eq!(world.list(100, &[]), (Outcome::Taken, vec![]), "they come back in silence");
    assert_eq!(world.book.counts().held, 1_441);
    assert_eq!(world.list(0, &[]).0, Outcome::Empty);
    let mut large = World::new(0, Hearing::Never);
    large.list(2_000, &[]);
    assert_eq!(large.list(1_969, &[]).0, Outcome::Held(ListState::Shrunk), "31 are too many at once");
}

#[test]
fn many_ends_or_many_new_ones_at_once_are_held_back() {
    let mut world = World::new(0, Hearing::Never);
    let names: Vec<String> = (0..50).map(|i| format!("Y{i:02}-USDT")).collect();
    let rows: Vec<_> = names.iter().map(|name| row(name, Open)).collect();
    world.list(50, &rows);
    let ending: Vec<_> = rows.iter().map(|row| Instrument { closes_at: at(2_000), ..*row }).collect();
    assert_eq!(world.list(50, &ending).0, Outcome::Held(ListState::Shrunk));
    let few: Vec<_> = ending.iter().take(20).chain(rows.iter().skip(20)).copied().collect();
    assert_eq!(world.list(50, &few).1.len(), 20);
    let mut grown = World::new(0, Hearing::Never);
    grown.list(50, &[]);
    for _ in 0..15 {
        assert_eq!(grown.list(50, &rows), (Outcome::Held(ListState::Grown), vec![]));
    }
    assert_eq!(grown.list(50, &rows), (Outcome::Believed(ListState::Grown), vec![]));
    assert_eq!(grown.list(50, &rows), (Outcome::Taken, vec![]));
    let reopened: Vec<_> = rows.iter().map(|row| Instrument { trading: Ahead, ..*row }).collect();
    assert_eq!(grown.list(50, &reopened).0, Outcome::Held(ListState::Grown));
}

#[test]
fn a_second_request_of_the_exchange_neither_repeats_nor_calls_it_stealth() {
    let mut all = World::new(0, Hearing::Until(WallUs(START)));
    let mut only_ahead = World::new(1, Hearing::Until(WallUs(START)));
    all.list(100, &[]);
    assert_eq!(only_ahead.rows(&[]).0, Outcome::Baseline, "a partial list may be empty");
    all.register = core::mem::replace(&mut only_ahead.register, Register::new(Hearing::Never));
    assert_eq!(kinds(&all.answer(&[ahead(60)])), [ListingPreview]);
    only_ahead.register = core::mem::replace(&mut all.register, Register::new(Hearing::Never));
    assert!(only_ahead.rows(&[ahead(60)]).1.is_empty());
    assert!(only_ahead.rows(&[]).1.is_empty());
    // The other way round: seen ahead by one, open by the other.
    let mut first = World::new(1, Hearing::Until(WallUs(START)));
    let mut second = World::new(0, Hearing::Until(WallUs(START)));
    first.rows(&[]);
    assert_eq!(kinds(&first.rows(&[ahead(60)]).1), [ListingPreview]);
    second.register = core::mem::replace(&mut first.register, Register::new(Hearing::Never));
    second.list(100, &[]);
    second.minute = 60;
    assert!(second.answer(&[row("NEW-USDT", Open)]).is_empty());
    first.minute = 61;
    first.register = core::mem::replace(&mut second.register, Register::new(Hearing::Never));
    assert_eq!(kinds(&first.settle(1)), [PreviewConfirmed]);
    assert!(first.rows(&[]).1.is_empty());
}

#[test]
fn an_unusable_answer_leaves_nothing_and_bad_rows_are_counted() {
    let mut world = World::new(0, Hearing::Never);
    world.answer(&[]);
    world.book.stage(&row("NEW-USDT", Open));
    world.book.discard();
    assert!(world.answer(&[]).is_empty());
    let long = "L".repeat(limits::SYMBOL_BYTES + 1);
    assert!(world.answer(&[row(&long, Open), row("", Open)]).is_empty());
    assert_eq!(world.book.counts().unusable, 2);
}

#[test]
fn a_full_book_forgets_what_is_gone_and_takes_nothing_where_none_is() {
    let mut world = World::new(1, Hearing::Never);
    let names: Vec<String> = (0..limits::MARKET_INSTRUMENTS).map(|i| format!("F{i}-USDT")).collect();
    let rows: Vec<_> = names.iter().map(|name| row(name, Open)).collect();
    world.rows(&rows);
    assert!(world.rows(&[row("NEW-USDT", Open)]).1.is_empty());
    assert_eq!(world.book.counts().beyond_limit, 1);
    if let Some(entry) = world.book.entries.get_mut("F7-USDT") {
        entry.record.standing.presence = Presence::Gone;
    }
    assert_eq!(kinds(&world.rows(&[row("NEW-USDT", Open)]).1), [StealthListing]);
    assert_eq!(world.book.len(), limits::MARKET_INSTRUMENTS);
    assert!(!world.stored.contains_key("F7-USDT") && world.stored.contains_key("NEW-USDT"));
}

#[test]
fn no_instrument_is_told_of_without_end() {
    let mut world = World::new(0, Hearing::Never);
    world.answer(&[row("OLD-USDT", Open)]);
    let mut told = 0;
    for _ in 0..40 {
        let minute = world.minute + 3_000;
        let end = Instrument { closes_at: at(minute), ..row("OLD-USDT", Open) };
        told += world.answer(&[end]).len();
        for _ in 0..12 {
            told += world.answer(&[row("OLD-USDT", Open)]).len();
        }
    }
    assert_eq!(told, 32, "sixteen ends and as many taken back");
    let record = &world.stored["OLD-USDT"];
    assert_eq!((record.standing.delistings, record.standing.ending), (40, Ending::None));
}
