//! The market watchers as a whole: what is asked when, what the answers mean together, what is told.
//!
//! Contract: pure; the market thread owns the one [`Watcher`], asks what is [`Watcher::due`], gives it every
//! answer, announcement and a few seconds' time, tells what comes back in [`Told`] and stores its changes after
//! that. There is a [`Book`] for each request that tells instruments, a [`Register`] and [`Rates`] for each
//! exchange, and a [`SpikeDetector`] for each request that tells volumes when spikes are on. It allocates for what is
//! new and for each answer, and is bounded by the bounds of these. The same calls in the same order
//! give the same. An unusable answer is a [`ParseError`] and changes nothing; nothing else fails.
//!
//! What goes together goes by exchange: the requests of one exchange share what they know, and an event
//! that two of them find is told once. Volumes belong to instruments by symbol within one source first, for a
//! spot pair and a contract may have one name.

mod schedule;
mod view;
mod volumes;

use core::time::Duration;
use std::collections::VecDeque;

use super::book::{self, Book, Findings, ListState, Outcome};
use super::record::{BookRecord, InstrumentRecord};
use super::register::{Hearing, Register};
use super::rules::{BookRules, micros};
use super::spike::{self, Spike, SpikeDetector, SpikeRules};
use super::volume::Rates;
use super::{
    Instrument, InstrumentKind, MarketEvent, MarketEventKind, MarketRequest, MarketRow, MarketSpec, Trading,
};
use crate::limits;
use crate::model::{Announcement, Exchange};
use crate::source::backoff::Failure;
use crate::source::{ParseError, Parsed, Scratch, SourceState, SourceStatus};
use crate::time::{Mono, WallUs};
use schedule::Schedule;
use volumes::{Staged, Traded};

pub use schedule::FAILURES;

/// What the watchers' decisions turn on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WatcherRules {
    /// Of instruments.
    pub book: BookRules,
    /// Of volume spikes; `None`: they are not looked for.
    pub spikes: Option<SpikeRules>,
    /// Every request is asked so many times as often as its source says: 1 but for simulated exchanges.
    pub speed: f64,
}

impl Default for WatcherRules {
    fn default() -> Self {
        WatcherRules { book: BookRules::default(), spikes: None, speed: 1.0 }
    }
}

/// A request of a [`Watcher`]: the position in [`Watcher::requests`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(u16);

impl RequestId {
    /// Position in [`Watcher::requests`].
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A host of a [`Watcher`]: one request is in flight there at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(u16);

impl HostId {
    /// From 0, below [`Watcher::hosts`].
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What is to be told, and stored after it was told. Reused.
#[derive(Debug, Default)]
pub struct Told {
    /// To tell, in order.
    pub events: Vec<MarketEvent>,
    /// To store after all events, in order.
    pub changes: Vec<Changes>,
}

impl Told {
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.events.clear();
        self.changes.clear();
    }

    /// Whether nothing is to be told or stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.changes.is_empty()
    }
}

/// What changed of one request: see [`Findings`].
#[derive(Clone, Debug, PartialEq)]
pub struct Changes {
    /// Name of the [`MarketSpec`].
    pub source: &'static str,
    /// Name of the [`MarketRequest`].
    pub request: &'static str,
    /// To store, replacing what is stored of the same symbols.
    pub records: Vec<InstrumentRecord>,
    /// Symbols to delete before that.
    pub forgotten: Vec<Box<str>>,
    /// To store after the records.
    pub book: Option<BookRecord>,
}

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerReport {
    /// How much of it was usable.
    pub parsed: Parsed,
    /// What its instruments were taken for; `None` where it tells none.
    pub outcome: Option<Outcome>,
    /// Events told because of it.
    pub events: usize,
}

/// How one request is doing.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestStats {
    /// Which.
    pub id: RequestId,
    /// Name of its [`MarketSpec`].
    pub source: &'static str,
    /// Its name.
    pub request: &'static str,
    /// Whose markets.
    pub exchange: Exchange,
    /// As of a source of announcements.
    pub state: SourceState,
    /// Usable answers from the start.
    pub answers: u64,
    /// Failures from the start, in the order of [`Failure::ALL`].
    pub failures: [u64; FAILURES],
    /// When the last usable answer had been read.
    pub last_answer: Option<WallUs>,
    /// Whether its baseline was taken; false where it tells no instruments.
    pub baselined: bool,
    /// Instruments known, those that are gone included.
    pub instruments: usize,
    /// How its list looks.
    pub list: ListState,
    /// What its book counts.
    pub book: book::Counts,
    /// Symbols with a recent volume.
    pub volumes: usize,
    /// What its spike detector counts.
    pub spikes: spike::Counts,
    /// Spikes found and not told: of instruments that are not traded, are about to end, or end as planned.
    pub withheld: u64,
}

/// One request and what is known by it.
#[derive(Debug)]
struct Asked {
    spec: &'static MarketSpec,
    request: &'static MarketRequest,
    /// Position in [`Watcher::places`].
    place: usize,
    book: Option<Book>,
    traded: Option<Traded>,
    spikes: Option<SpikeDetector>,
    last_answer: Option<WallUs>,
    withheld: u64,
}

/// What the requests of one exchange share.
#[derive(Debug)]
struct Place {
    exchange: Exchange,
    register: Register,
    rates: Rates,
    /// Identities told last.
    told: VecDeque<Box<str>>,
}

/// See the module.
#[derive(Debug)]
pub struct Watcher {
    rules: WatcherRules,
    requests: Vec<Asked>,
    places: Vec<Place>,
    schedule: Schedule,
    /// Reused from one answer to the next.
    findings: Findings,
    staged: Staged,
}

impl Watcher {
    /// A watcher of `sources` that knows nothing yet. `hearing`: [`Hearing::Never`] for an exchange of which
    /// no source of announcements runs, else since when none has answered.
    #[must_use]
    pub fn new(
        rules: &WatcherRules,
        sources: &[&'static MarketSpec],
        hearing: &dyn Fn(Exchange) -> Hearing,
    ) -> Watcher {
        let (mut requests, mut places) = (Vec::new(), Vec::<Place>::new());
        for spec in sources {
            let known = places.iter().position(|place| place.exchange == spec.exchange);
            let place = known.unwrap_or(places.len());
            if known.is_none() {
                let register = Register::new(hearing(spec.exchange));
                let (rates, told) = (Rates::default(), VecDeque::new());
                places.push(Place { exchange: spec.exchange, register, rates, told });
            }
            for request in spec.requests {
                let (instruments, volumes) = (request.tells.instruments(), request.tells.volumes());
                requests.push(Asked {
                    spec,
                    request,
                    place,
                    book: instruments.then(|| Book::new(spec, request, rules.book)),
                    traded: volumes.then(Traded::default),
                    spikes: rules.spikes.filter(|_| volumes).map(SpikeDetector::new),
                    last_answer: None,
                    withheld: 0,
                });
            }
        }
        let schedule = Schedule::new(requests.iter().map(|asked| (asked.spec, asked.request)), rules.speed);
        Watcher {
            rules: *rules,
            requests,
            places,
            schedule,
            findings: Findings::default(),
            staged: Staged::default(),
        }
    }

    /// Every request, in the order of the sources.
    pub fn requests(&self) -> impl Iterator<Item = (RequestId, &'static MarketSpec, &'static MarketRequest)> {
        (0_u16..).zip(&self.requests).map(|(at, asked)| (RequestId(at), asked.spec, asked.request))
    }

    /// The host a request is sent to, and what its source names as its address.
    #[must_use]
    pub fn host(&self, id: RequestId) -> Option<(HostId, &'static str)> {
        let (host, base_url) = self.schedule.host(id.index())?;
        Some((HostId(u16::try_from(host).ok()?), base_url))
    }

    /// How many hosts there are.
    #[must_use]
    pub fn hosts(&self) -> usize {
        self.schedule.hosts()
    }

    /// The request that is to be sent now. It counts as in flight until [`Watcher::answered`] or
    /// [`Watcher::failed`]; meanwhile nothing else of its host is due.
    pub fn due(&mut self, now: Mono) -> Option<RequestId> {
        self.schedule.due(now).and_then(|at| u16::try_from(at).ok()).map(RequestId)
    }

    /// When to ask [`Watcher::due`] next, if nothing comes back before.
    #[must_use]
    pub fn next_due(&self) -> Mono {
        self.schedule.next_due()
    }

    /// A request in flight brought an answer that [`Watcher::answer`] took.
    pub fn answered(&mut self, id: RequestId, now: Mono) {
        self.schedule.answered(id.index(), now);
    }

    /// A request in flight failed; of an answer that [`Watcher::answer`] did not take that is
    /// [`Failure::Unusable`]. It is asked again after a pause that grows; where the exchange refused, not before its next
    /// regular time either, nor before what `retry_after` says. `jitter`: a random number.
    pub fn failed(
        &mut self,
        id: RequestId,
        now: Mono,
        failure: Failure,
        retry_after: Option<Duration>,
        jitter: u32,
    ) {
        self.schedule.failed(id.index(), now, failure, retry_after, jitter);
    }

    /// Gives it what the store has of one request, before its first answer. What is not watched any more is
    /// ignored.
    pub fn load(&mut self, source: &str, request: &str, book: BookRecord, records: Vec<InstrumentRecord>) {
        let asked = self.requests.iter_mut();
        let mut found = asked.filter(|asked| asked.spec.name == source && asked.request.name == request);
        let Some(asked) = found.next() else { return };
        if let (Some(known), Some(place)) = (&mut asked.book, self.places.get_mut(asked.place)) {
            known.load(book, records, &mut place.register);
        }
    }

    /// An event of an earlier start, by its [`MarketEvent::source_item`], oldest first: it is not told again, though
    /// what followed from it was not stored.
    pub fn told_before(&mut self, exchange: Exchange, source_item: &str) {
        if let Some(place) = self.places.iter_mut().find(|place| place.exchange == exchange) {
            place.remember(source_item);
        }
    }

    /// An announcement: those of the last [`BookRules::notice_before`] out of history, oldest first, then each as
    /// it comes. What waited for it is decided.
    pub fn announcement(&mut self, announcement: &Announcement, now: WallUs, told: &mut Told) {
        let exchange = announcement.exchange;
        let Some(at) = self.places.iter().position(|place| place.exchange == exchange) else { return };
        if let Some(place) = self.places.get_mut(at) {
            let said = &announcement.classification;
            place.register.note_notice(said.listing_type, &said.tickers, announcement.detected);
        }
        self.settle_place(at, None, now, told);
    }

    /// A source of the exchange's announcements answered at `now`.
    pub fn heard(&mut self, exchange: Exchange, now: WallUs) {
        if let Some(place) = self.places.iter_mut().find(|place| place.exchange == exchange) {
            place.register.heard(now);
        }
    }

    /// Decides what waits for time; every few seconds.
    pub fn settle(&mut self, now: WallUs, told: &mut Told) {
        for place in 0..self.places.len() {
            self.settle_place(place, None, now, told);
        }
    }

    fn settle_place(&mut self, place: usize, but: Option<usize>, now: WallUs, told: &mut Told) {
        for at in 0..self.requests.len() {
            let Some(asked) = self.requests.get_mut(at).filter(|asked| asked.place == place) else {
                continue;
            };
            let Some(place) = self.places.get_mut(place).filter(|_| but != Some(at)) else { continue };
            let Some(book) = &mut asked.book else { continue };
            book.settle(now, &mut place.register, &mut self.findings);
            self.tell(at, now, told);
        }
    }

    /// Takes an answer. `received`: when it had been read; `now`: the present.
    ///
    /// # Errors
    /// [`ParseError`] when it is unusable, or none of its rows is: nothing has changed then.
    pub fn answer(
        &mut self,
        id: RequestId,
        scratch: &mut Scratch,
        body: &mut [u8],
        received: WallUs,
        now: WallUs,
        told: &mut Told,
    ) -> Result<AnswerReport, ParseError> {
        let at = id.index();
        let before = told.events.len();
        let parsed = self.read(at, scratch, body, received)?;
        let outcome = self.conclude(at, &parsed, received, now);
        self.take_volumes(at, received, now);
        let Some(asked) = self.requests.get_mut(at) else { return Err(UNKNOWN) };
        asked.last_answer = Some(received);
        let place = asked.place;
        self.tell(at, now, told);
        // What an opening, or a preview that is over, decides for the other requests of the exchange is
        // stored with it.
        self.settle_place(place, Some(at), now, told);
        Ok(AnswerReport { parsed, outcome, events: told.events.len() - before })
    }

    /// Reads the rows into the book and the staged volumes; an error leaves neither.
    fn read(
        &mut self,
        at: usize,
        scratch: &mut Scratch,
        body: &mut [u8],
        received: WallUs,
    ) -> Result<Parsed, ParseError> {
        self.staged.clear();
        let Some(asked) = self.requests.get_mut(at) else { return Err(UNKNOWN) };
        let (staged, book, by_time) = (&mut self.staged, &mut asked.book, asked.spec.ahead_by_time);
        let parsed = (asked.request.parse)(scratch, body, &mut |row| match row {
            MarketRow::Instrument(mut row) => {
                if by_time {
                    look_at_clock(&mut row, received);
                }
                if let Some(book) = book {
                    book.stage(&row);
                }
            }
            MarketRow::Volume(row) => staged.push(&row),
        });
        let parsed = match parsed {
            Ok(Parsed { rows: 0, skipped: skipped @ 1.., .. }) => Err(ParseError::NoRow { skipped }),
            parsed => parsed,
        };
        if parsed.is_err() {
            self.staged.clear();
            if let Some(book) = &mut asked.book {
                book.discard();
            }
        }
        parsed
    }

    fn conclude(&mut self, at: usize, parsed: &Parsed, received: WallUs, now: WallUs) -> Option<Outcome> {
        let asked = self.requests.get_mut(at)?;
        let place = self.places.get_mut(asked.place)?;
        // What was not read may stand there.
        let whole = parsed.skipped == 0 && parsed.beyond_limit == 0;
        Some(asked.book.as_mut()?.conclude(whole, received, now, &mut place.register, &mut self.findings))
    }

    /// Prices first, then the slots that are over, then the sums.
    fn take_volumes(&mut self, at: usize, received: WallUs, now: WallUs) {
        let Watcher { rules, requests, places, staged, findings, .. } = self;
        let Some(asked) = requests.get_mut(at) else { return };
        let (traded, spikes) = (asked.traded.take(), asked.spikes.take());
        let (Some(mut traded), Some(place)) = (traded, places.get_mut(asked.place)) else { return };
        for row in staged.rows() {
            traded.set(row.symbol, row.quote_24h, received);
            if let Some(last) = row.last
                && let Some(record) = find(requests, at, row.symbol)
            {
                place.rates.learn(&record.base, &record.quote, last, received);
            }
        }
        traded.forget_old(received);
        let mut withheld = 0;
        let spikes = spikes.map(|mut spikes| {
            let rates = &place.rates;
            let mut dollars = |symbol: &str| rates.of(&find(requests, at, symbol)?.quote, received);
            let mut found = |spike: Spike| match spike_event(requests, at, &rules.book, &spike, now) {
                Some(event) => findings.events.push(event),
                None => withheld += 1,
            };
            spikes.advance(received, &mut dollars, &mut found);
            for row in staged.rows() {
                spikes.sample(row.symbol, row.quote_24h);
            }
            spikes
        });
        staged.clear();
        if let Some(asked) = requests.get_mut(at) {
            asked.withheld += withheld;
            (asked.traded, asked.spikes) = (Some(traded), spikes);
        }
    }

    /// Hands on what was found for one request.
    fn tell(&mut self, at: usize, now: WallUs, told: &mut Told) {
        let Some(asked) = self.requests.get(at) else { return };
        let (source, request, place) = (asked.spec.name, asked.request.name, asked.place);
        let mut events = core::mem::take(&mut self.findings.events);
        for mut event in events.drain(..) {
            if event.volume_24h.is_none() {
                event.volume_24h = self.dollars_of(at, &event.symbol, &event.quote, now);
            }
            if self.places.get_mut(place).is_some_and(|place| place.is_news(&event)) {
                told.events.push(event);
            }
        }
        self.findings.events = events;
        let Findings { records, forgotten, book, .. } = &mut self.findings;
        if !records.is_empty() || !forgotten.is_empty() || book.is_some() {
            let (records, forgotten) = (core::mem::take(records), core::mem::take(forgotten));
            told.changes.push(Changes { source, request, records, forgotten, book: book.take() });
        }
    }

    /// How each request is doing, in the order of [`Watcher::requests`].
    pub fn stats(&self, now: Mono) -> impl Iterator<Item = RequestStats> {
        (0_u16..).zip(&self.requests).map(move |(number, asked)| {
            let at = usize::from(number);
            let (answers, failures) = self.schedule.counts(at);
            let book = asked.book.as_ref();
            RequestStats {
                id: RequestId(number),
                source: asked.spec.name,
                request: asked.request.name,
                exchange: asked.spec.exchange,
                state: self.schedule.state(at, now),
                answers,
                failures,
                last_answer: asked.last_answer,
                baselined: book.is_some_and(Book::is_baselined),
                instruments: book.map_or(0, Book::len),
                list: book.map_or_else(ListState::default, Book::state),
                book: book.map_or_else(book::Counts::default, Book::counts),
                volumes: asked.traded.as_ref().map_or(0, Traded::len),
                spikes: asked.spikes.as_ref().map_or_else(spike::Counts::default, SpikeDetector::counts),
                withheld: asked.withheld,
            }
        })
    }

    /// How each source is doing, in their order: as the request of it that is doing worst.
    pub fn statuses(&self, now: Mono) -> impl Iterator<Item = SourceStatus> {
        let asked: Vec<(usize, &Asked)> = self.requests.iter().enumerate().collect();
        let sources: Vec<SourceStatus> = asked
            .chunk_by(|(_, a), (_, b)| a.spec.name == b.spec.name)
            .filter_map(|requests| {
                let (_, first) = requests.first()?;
                let states = requests.iter().map(|(at, _)| self.schedule.state(*at, now));
                Some(SourceStatus {
                    source: first.spec.name,
                    exchange: first.spec.exchange,
                    state: states.max_by_key(|state| badness(*state))?,
                    last_poll: requests.iter().filter_map(|(_, asked)| asked.last_answer).max(),
                    last_item: None,
                })
            })
            .collect();
        sources.into_iter()
    }
}

/// For a number that no request has.
const UNKNOWN: ParseError = ParseError::Missing("request");

const fn badness(state: SourceState) -> u8 {
    match state {
        SourceState::Live => 0,
        SourceState::Stale => 1,
        SourceState::Down => 2,
        SourceState::Blocked => 3,
    }
}

/// What a parser without a clock takes for ahead, of a time that is past, is stopped: it opens late, or it opened
/// and rests. Not open: that nobody can tell before it says so.
fn look_at_clock(row: &mut Instrument<'_>, received: WallUs) {
    if row.trading == Trading::Ahead && row.opens_at.is_some_and(|at| at <= received) {
        row.trading = Trading::Halted;
    }
}

/// The instrument called `symbol` in an answer of request `at`: of its source, else of its exchange; one that
/// is on a list goes before one that is not.
fn find<'a>(requests: &'a [Asked], at: usize, symbol: &str) -> Option<&'a InstrumentRecord> {
    let of = requests.get(at)?;
    let known = || {
        let here = requests.iter().filter(|asked| asked.place == of.place);
        here.filter_map(|asked| Some((asked.spec.name == of.spec.name, asked.book.as_ref()?.record(symbol)?)))
    };
    known().max_by_key(|(own, record)| (*own, record.is_live())).map(|(_, record)| record)
}

/// A spike as an event; `None` where it is no news: what is not traded, what is about to end (the end is the
/// news, and who leaves trades), and dated contracts, whose volume moves by the calendar. What was listed today is
/// not watched yet (see [`SpikeRules::warm_up`]).
fn spike_event(
    requests: &[Asked],
    at: usize,
    rules: &BookRules,
    spike: &Spike,
    now: WallUs,
) -> Option<MarketEvent> {
    let (asked, record) = (requests.get(at)?, find(requests, at, &spike.symbol)?);
    let ends = |at: WallUs| at.micros_since(spike.received) <= micros(rules.near);
    let news = record.is_live()
        && record.trading == Trading::Open
        && record.kind != InstrumentKind::Dated
        && !record.closes_at.is_some_and(ends);
    news.then(|| MarketEvent {
        kind: MarketEventKind::VolumeSpike,
        exchange: asked.spec.exchange,
        source: asked.spec.name,
        symbol: record.symbol.as_ref().into(),
        base: record.base.as_ref().into(),
        quote: record.quote.as_ref().into(),
        instrument: record.kind,
        state: record.state.as_ref().into(),
        occurrence: spike.occurrence(),
        new_asset: false,
        noticed: false,
        effective_at: None,
        volume_24h: Some(spike.volume_24h),
        ratio: Some(spike.ratio),
        score: None,
        since: asked.last_answer,
        received: spike.received,
        detected: now,
    })
}

impl Place {
    /// Whether it was not told before, by another request or another start.
    fn is_news(&mut self, event: &MarketEvent) -> bool {
        self.remember(&event.source_item())
    }

    /// False where it was known.
    fn remember(&mut self, source_item: &str) -> bool {
        if self.told.iter().any(|told| **told == *source_item) {
            return false;
        }
        if self.told.len() >= limits::MARKET_TOLD {
            self.told.pop_front();
        }
        self.told.push_back(source_item.into());
        true
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;
