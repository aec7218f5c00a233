//! The known instruments of one request, and what an answer changes of them.
//!
//! Contract: one [`Book`] a [`MarketRequest`]. The parser's callback gives each row to [`Book::stage`]; when
//! it succeeded [`Book::conclude`] decides, when it failed [`Book::discard`] forgets the rows. Between
//! answers [`Book::settle`] decides what waits for a notice or for time. All books of an exchange share a
//! [`Register`]. What is found comes out as [`Findings`]: the events are told first, then the records go
//! to the store, in order. Owner: the market thread; a known instrument whose row says nothing new
//! allocates nothing. Bounded by [`limits::MARKET_INSTRUMENTS`]. Nothing here fails.
//!
//! The first usable answer is the baseline: nothing of it is told but what opens later, once for ever,
//! since for who installs today that is news. A baseline's ends are not told.

use std::collections::{BTreeMap, BTreeSet};

use super::guard::{Census, Guard, Ruling};
use super::judge::{Entry, Moment, Row};
use super::record::{BookRecord, InstrumentRecord, Presence, Preview};
use super::register::Register;
use super::rules::{BookRules, micros};
use super::{Instrument, InstrumentKind, MarketEvent, MarketEventKind, MarketRequest, MarketSpec, Trading};
use crate::limits;
use crate::time::WallUs;

pub use super::guard::ListState;

/// What an answer, a notice or time brought. Reused from one to the next.
#[derive(Debug, Default)]
pub struct Findings {
    /// To tell, in an order that the order of rows does not change.
    pub events: Vec<MarketEvent>,
    /// To store afterwards, replacing what is stored of the same symbols.
    pub records: Vec<InstrumentRecord>,
    /// Symbols to delete from the store.
    pub forgotten: Vec<Box<str>>,
    /// To store after the records.
    pub book: Option<BookRecord>,
}

impl Findings {
    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.events.clear();
        self.records.clear();
        self.forgotten.clear();
        self.book = None;
    }
}

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The first one: taken as known.
    Baseline,
    /// Each row says what it says.
    Taken,
    /// It lost or gained too much at once: nothing is concluded.
    Held(ListState),
    /// It stood for long: taken as known, nothing told.
    Believed(ListState),
    /// A complete list without any instrument: nothing is concluded.
    Empty,
}

/// What a book counts, from its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answers held back.
    pub held: u64,
    /// Lists believed in silence, baselines aside.
    pub believed: u64,
    /// New pairs dropped untold, because the exchange's notices could not be heard.
    pub undecided: u64,
    /// Rows of new instruments not taken, the book being full.
    pub beyond_limit: u64,
    /// Rows whose symbol is empty or longer than [`limits::SYMBOL_BYTES`].
    pub unusable: u64,
}

/// A row within [`Book::text`]: where its four texts end, and what may change.
#[derive(Clone, Copy, Debug)]
struct Staged {
    begin: usize,
    ends: [usize; 4],
    kind: InstrumentKind,
    row: Row,
}

impl Staged {
    fn field<'a>(&self, text: &'a str, field: usize) -> &'a str {
        let begin = field.checked_sub(1).and_then(|before| self.ends.get(before)).unwrap_or(&self.begin);
        self.ends.get(field).and_then(|end| text.get(*begin..*end)).unwrap_or("")
    }

    fn symbol<'a>(&self, text: &'a str) -> &'a str {
        self.field(text, 0)
    }

    fn state<'a>(&self, text: &'a str) -> &'a str {
        self.field(text, 3)
    }

    fn instrument<'a>(&self, text: &'a str) -> Instrument<'a> {
        Instrument {
            symbol: self.symbol(text),
            base: self.field(text, 1),
            quote: self.field(text, 2),
            kind: self.kind,
            trading: self.row.trading,
            state: self.state(text),
            opens_at: self.row.opens_at,
            closes_at: self.row.closes_at,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Book {
    spec: &'static MarketSpec,
    complete: bool,
    rules: BookRules,
    record: BookRecord,
    stored: Option<WallUs>,
    entries: BTreeMap<Box<str>, Entry>,
    /// Symbols whose entry [`Entry::has_a_question`].
    questions: BTreeSet<Box<str>>,
    guard: Guard,
    counts: Counts,
    staged: Vec<Staged>,
    /// A row of the answer that is being read was not taken.
    cut: bool,
    text: String,
}

impl Book {
    /// A book that knows nothing yet.
    #[must_use]
    pub fn new(spec: &'static MarketSpec, request: &'static MarketRequest, rules: BookRules) -> Book {
        Book {
            spec,
            complete: request.complete,
            rules,
            record: BookRecord::default(),
            stored: None,
            entries: BTreeMap::new(),
            questions: BTreeSet::new(),
            guard: Guard::default(),
            counts: Counts::default(),
            staged: Vec::new(),
            cut: false,
            text: String::new(),
        }
    }

    /// Gives it what the store has, before its first answer. Beyond [`limits::MARKET_INSTRUMENTS`] further
    /// instruments are not taken.
    pub fn load(
        &mut self,
        book: BookRecord,
        records: impl IntoIterator<Item = InstrumentRecord>,
        register: &mut Register,
    ) {
        self.record = book;
        self.stored = book.last_answer;
        for record in records.into_iter().take(limits::MARKET_INSTRUMENTS) {
            if let Preview::Told { said, .. } = record.standing.preview {
                register.note_preview(record.kind, &record.symbol, &record.base, said);
            } else if let Preview::Confirmed { .. } = record.standing.preview {
                let at = book.last_answer.unwrap_or_default();
                register.note_preview(record.kind, &record.symbol, &record.base, at);
            }
            let entry = Entry::new(record);
            if entry.has_a_question() {
                self.questions.insert(entry.record.symbol.clone());
            }
            self.entries.insert(entry.record.symbol.clone(), entry);
        }
    }

    /// How its list looks.
    #[must_use]
    pub fn state(&self) -> ListState {
        self.guard.state()
    }

    /// What it counted.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Instruments it knows, those that are gone included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it knows none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// An instrument as it is known.
    #[must_use]
    pub fn instrument(&self, symbol: &str) -> Option<Instrument<'_>> {
        let record = &self.entries.get(symbol)?.record;
        Some(Instrument {
            symbol: &record.symbol,
            base: &record.base,
            quote: &record.quote,
            kind: record.kind,
            trading: record.trading,
            state: &record.state,
            opens_at: record.opens_at,
            closes_at: record.closes_at,
        })
    }

    /// Whether its baseline was taken.
    #[must_use]
    pub fn is_baselined(&self) -> bool {
        self.record.baselined
    }

    /// What is known of one instrument, and of each.
    pub(super) fn record(&self, symbol: &str) -> Option<&InstrumentRecord> {
        self.entries.get(symbol).map(|entry| &entry.record)
    }

    /// See [`Book::record`].
    pub(super) fn records(&self) -> impl Iterator<Item = &InstrumentRecord> {
        self.entries.values().map(|entry| &entry.record)
    }

    /// Takes a row of the answer that is being read.
    pub fn stage(&mut self, row: &Instrument<'_>) {
        let usable = !row.symbol.is_empty() && row.symbol.len() <= limits::SYMBOL_BYTES;
        self.cut |= !usable || self.staged.len() >= limits::MARKET_INSTRUMENTS;
        if !usable || self.staged.len() >= limits::MARKET_INSTRUMENTS {
            if usable {
                self.counts.beyond_limit += 1;
            } else {
                self.counts.unusable += 1;
            }
            return;
        }
        let begin = self.text.len();
        let mut ends = [begin; 4];
        let texts = [row.symbol, row.base, row.quote, row.state];
        for (end, text) in ends.iter_mut().zip(texts) {
            let cut = text.floor_char_boundary(limits::SYMBOL_BYTES);
            self.text.push_str(text.get(..cut).unwrap_or(""));
            *end = self.text.len();
        }
        let changing = Row { trading: row.trading, opens_at: row.opens_at, closes_at: row.closes_at };
        self.staged.push(Staged { begin, ends, kind: row.kind, row: changing });
    }

    /// Forgets the rows of an answer that turned out unusable.
    pub fn discard(&mut self) {
        self.staged.clear();
        self.text.clear();
        self.cut = false;
    }

    /// Decides what the staged rows mean. `whole`: the parser read every row of the answer; what a cut
    /// answer does not name is not absent. Adds to `findings`.
    pub fn conclude(
        &mut self,
        whole: bool,
        received: WallUs,
        now: WallUs,
        register: &mut Register,
        findings: &mut Findings,
    ) -> Outcome {
        let mut staged = core::mem::take(&mut self.staged);
        let text = core::mem::take(&mut self.text);
        // The order of rows decides nothing: symbols in their order, of two rows the smaller.
        staged.sort_unstable_by(|a, b| (a.symbol(&text), a.row).cmp(&(b.symbol(&text), b.row)));
        staged.dedup_by(|later, first| later.symbol(&text) == first.symbol(&text));
        let rules = self.rules;
        let m = Moment { spec: self.spec, rules: &rules, since: self.record.last_answer, received, now };
        let complete = self.complete && whole && !self.cut;
        let told = findings.events.len();
        let outcome = if self.complete && staged.is_empty() {
            Outcome::Empty
        } else if !self.record.baselined {
            self.believe(&staged, &text, ListState::Usual, false, &m, register, findings);
            self.record.baselined = true;
            self.stored = None;
            Outcome::Baseline
        } else {
            let census = self.census(&staged, &text, complete, &m, register);
            match self.guard.rule(&rules, &census, received) {
                Ruling::Hold(state) => {
                    self.counts.held += 1;
                    Outcome::Held(state)
                }
                Ruling::Believe(state) => {
                    self.counts.believed += 1;
                    self.believe(&staged, &text, state, complete, &m, register, findings);
                    Outcome::Believed(state)
                }
                Ruling::Take => {
                    self.take(&staged, &text, complete, &m, register, findings);
                    Outcome::Taken
                }
            }
        };
        self.staged = staged;
        self.text = text;
        self.discard();
        if !matches!(outcome, Outcome::Empty | Outcome::Held(_)) {
            self.record.last_answer = Some(received);
            self.checkpoint(received, findings);
            self.answer_questions(&m, register, findings);
        }
        self.mark_new_assets(told, findings);
        outcome
    }

    /// Decides what waits for a notice or for time, without an answer: after each listing notice of the
    /// exchange was noted in the register, and every few seconds. Adds to `findings`.
    pub fn settle(&mut self, now: WallUs, register: &mut Register, findings: &mut Findings) {
        let rules = self.rules;
        let m = Moment { spec: self.spec, rules: &rules, since: None, received: now, now };
        let told = findings.events.len();
        self.answer_questions(&m, register, findings);
        self.mark_new_assets(told, findings);
    }

    /// The answer in numbers, before anything is concluded from it.
    fn census(
        &self,
        staged: &[Staged],
        text: &str,
        complete: bool,
        m: &Moment<'_>,
        register: &Register,
    ) -> Census {
        let mut census = Census::default();
        let mut present = 0_usize;
        for staged in staged {
            let symbol = staged.symbol(text);
            let Some(entry) = self.entries.get(symbol) else {
                let explained = staged.row.trading == Trading::Over
                    || register.previewed(staged.kind, symbol)
                    || register.listing_noticed(
                        staged.kind,
                        staged.field(text, 1),
                        WallUs(m.received.0.saturating_sub(micros(m.rules.notice_before))),
                        WallUs(m.received.0.saturating_sub(micros(m.rules.unnamed_before))),
                    );
                census.fresh += usize::from(!explained);
                continue;
            };
            if !entry.record.is_live() {
                let dropped = entry.record.standing.presence == Presence::Dropped;
                census.fresh += usize::from(!dropped && staged.row.trading != Trading::Over);
                continue;
            }
            present += 1;
            census.ended += usize::from(entry.ends_with(staged.row, m));
            let reverted = entry.record.trading != Trading::Ahead && staged.row.trading == Trading::Ahead;
            census.reverted += usize::from(reverted);
        }
        census.live = self.entries.values().filter(|entry| entry.record.is_live()).count();
        if complete {
            census.absent = census.live.saturating_sub(present);
        }
        census
    }

    /// Each row says what it says, and in a complete answer what is absent is missing.
    fn take(
        &mut self,
        staged: &[Staged],
        text: &str,
        complete: bool,
        m: &Moment<'_>,
        register: &mut Register,
        findings: &mut Findings,
    ) {
        for staged in staged {
            let symbol = staged.symbol(text);
            if let Some(entry) = self.entries.get_mut(symbol) {
                if entry.record.state.as_ref() != staged.state(text) {
                    entry.record.state = staged.state(text).into();
                }
                watch(entry, &mut self.questions, findings, |entry, events| {
                    entry.observe(staged.row, false, m, register, events);
                });
            } else if let Some(mut entry) = self.admit(staged, text, findings) {
                entry.observe(staged.row, true, m, register, &mut findings.events);
                self.insert(entry, findings);
            }
        }
        if complete {
            for entry in absent(&mut self.entries, staged, text) {
                if entry.record.standing.presence == Presence::Listed {
                    watch(entry, &mut self.questions, findings, |entry, events| {
                        entry.is_missing(m, register, events);
                    });
                }
            }
        }
    }

    /// Everything is as it is, and nothing is told but what opens later of instruments not known before.
    #[allow(clippy::too_many_arguments, reason = "the parts of one answer")]
    fn believe(
        &mut self,
        staged: &[Staged],
        text: &str,
        state: ListState,
        complete: bool,
        m: &Moment<'_>,
        register: &mut Register,
        findings: &mut Findings,
    ) {
        let mut ahead = Vec::new();
        for staged in staged {
            let symbol = staged.symbol(text);
            if let Some(entry) = self.entries.get_mut(symbol) {
                watch(entry, &mut self.questions, findings, |entry, _| entry.accept(staged.row, m));
            } else if let Some(mut entry) = self.admit(staged, text, findings) {
                entry.accept(staged.row, m);
                if entry.awaits_opening(m.received) {
                    ahead.push(entry.record.symbol.clone());
                }
                self.insert(entry, findings);
            }
        }
        if complete && state == ListState::Shrunk {
            for entry in absent(&mut self.entries, staged, text) {
                if entry.record.standing.presence == Presence::Listed {
                    watch(entry, &mut self.questions, findings, |entry, _| entry.drop_in_silence());
                }
            }
        }
        if ahead.len() <= m.rules.baseline_previews {
            for symbol in ahead {
                if let Some(entry) = self.entries.get_mut(&symbol) {
                    watch(entry, &mut self.questions, findings, |entry, events| {
                        entry.preview_of_baseline(m, register, events);
                    });
                }
            }
        }
    }

    /// A new entry for a row, if there is room or one that is gone makes some.
    fn admit(&mut self, staged: &Staged, text: &str, findings: &mut Findings) -> Option<Entry> {
        if self.entries.len() >= limits::MARKET_INSTRUMENTS {
            let gone = self.entries.values().find(|entry| entry.record.standing.presence != Presence::Listed);
            let Some(symbol) = gone.map(|entry| entry.record.symbol.clone()) else {
                self.counts.beyond_limit += 1;
                return None;
            };
            self.entries.remove(&symbol);
            self.questions.remove(&symbol);
            findings.records.retain(|record| record.symbol != symbol);
            findings.forgotten.push(symbol);
        }
        Some(Entry::new(InstrumentRecord::of(&staged.instrument(text))))
    }

    fn insert(&mut self, entry: Entry, findings: &mut Findings) {
        findings.records.push(entry.record.clone());
        if entry.has_a_question() {
            self.questions.insert(entry.record.symbol.clone());
        }
        self.entries.insert(entry.record.symbol.clone(), entry);
    }

    fn answer_questions(&mut self, m: &Moment<'_>, register: &mut Register, findings: &mut Findings) {
        let mut questions = core::mem::take(&mut self.questions);
        for symbol in &questions {
            if let Some(entry) = self.entries.get_mut(symbol) {
                let mut decided = true;
                watch(entry, &mut self.questions, findings, |entry, events| {
                    decided = entry.look_at_register(m, register, events);
                });
                self.counts.undecided += u64::from(!decided);
            }
        }
        questions.retain(|symbol| self.entries.get(symbol).is_some_and(Entry::has_a_question));
        self.questions = questions;
    }

    /// Which of the new listings are of assets not traded in this kind of market before.
    fn mark_new_assets(&self, from: usize, findings: &mut Findings) {
        let Some(new) = findings.events.get_mut(from..) else { return };
        let listings: BTreeSet<String> = new.iter().map(|event| event.symbol.clone()).collect();
        for event in new {
            if matches!(event.kind, MarketEventKind::ListingPreview | MarketEventKind::StealthListing) {
                let traded = self.entries.values().any(|entry| {
                    let record = &entry.record;
                    record.base.as_ref() == event.base
                        && record.kind == event.instrument
                        && record.is_live()
                        && record.standing.opened
                        && record.standing.awaiting.is_none()
                        && !listings.contains(record.symbol.as_ref())
                });
                event.new_asset = !traded;
            }
        }
    }

    fn checkpoint(&mut self, received: WallUs, findings: &mut Findings) {
        let late = micros(limits::MARKET_CHECKPOINT);
        if self.stored.is_none_or(|stored| received.micros_since(stored) >= late) {
            self.stored = Some(received);
            findings.book = Some(self.record);
        }
    }
}

/// Lets `change` happen to an entry, and notes what came of it: a record to store, a question.
fn watch(
    entry: &mut Entry,
    questions: &mut BTreeSet<Box<str>>,
    findings: &mut Findings,
    change: impl FnOnce(&mut Entry, &mut Vec<MarketEvent>),
) {
    let durable = |entry: &Entry| {
        let record = &entry.record;
        (record.trading, record.opens_at, record.closes_at, record.standing)
    };
    let before = durable(entry);
    change(entry, &mut findings.events);
    if durable(entry) != before {
        findings.records.push(entry.record.clone());
        if entry.has_a_question() && !questions.contains(&entry.record.symbol) {
            questions.insert(entry.record.symbol.clone());
        }
    }
}

/// The entries that no staged row names; both are in the order of symbols.
fn absent<'a>(
    entries: &'a mut BTreeMap<Box<str>, Entry>,
    staged: &'a [Staged],
    text: &'a str,
) -> impl Iterator<Item = &'a mut Entry> {
    let mut rows = staged.iter().map(|staged| staged.symbol(text)).peekable();
    entries.iter_mut().filter_map(move |(symbol, entry)| {
        while rows.next_if(|row| *row < symbol.as_ref()).is_some() {}
        (rows.peek() != Some(&symbol.as_ref())).then_some(entry)
    })
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
