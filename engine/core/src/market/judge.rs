//! One instrument from one answer to the next: what changed, and whether that is to be told.
//!
//! Contract: an [`Entry`] is a record and what must agree before it is believed. Its methods change it and
//! push what is to be told; whether an answer is to be believed at all was decided before (`guard`). Owner:
//! the market thread. Never fails.

use super::record::{Ending, InstrumentRecord, Presence, Preview};
use super::register::{Hearing, Register};
use super::rules::{BookRules, micros};
use super::scorecard::{self, Grounds};
use super::{InstrumentKind, MarketEvent, MarketEventKind, MarketSpec, Trading};
use crate::time::WallUs;

/// What may change of an instrument. Ordered, so that of two rows of one symbol the same one stands
/// whatever their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    pub(super) trading: Trading,
    pub(super) opens_at: Option<WallUs>,
    pub(super) closes_at: Option<WallUs>,
}

/// What a decision is made with.
pub(super) struct Moment<'a> {
    pub(super) spec: &'static MarketSpec,
    pub(super) rules: &'a BookRules,
    pub(super) since: Option<WallUs>,
    pub(super) received: WallUs,
    pub(super) now: WallUs,
}

impl Moment<'_> {
    /// A time that is still to come.
    fn to_come(&self, at: Option<WallUs>) -> Option<WallUs> {
        at.filter(|at| *at > self.received)
    }

    /// An end that is to come soon.
    fn soon(&self, at: Option<WallUs>) -> Option<WallUs> {
        self.to_come(at).filter(|at| at.micros_since(self.received) <= micros(self.rules.near))
    }

    fn moved(&self, told: Option<WallUs>, at: WallUs) -> bool {
        told.is_none_or(|told| at.micros_since(told).saturating_abs() >= micros(self.rules.moved))
    }

    fn ago(&self, span: core::time::Duration) -> WallUs {
        WallUs(self.received.0.saturating_sub(micros(span)))
    }
}

/// An observation that must be repeated before it is believed: what, since when, how often in a row.
#[derive(Clone, Copy, Debug)]
struct Streak<T> {
    what: T,
    since: WallUs,
    answers: u32,
}

/// One observation more; a different one begins anew.
fn again<T: PartialEq>(streak: &mut Option<Streak<T>>, what: T, at: WallUs) -> (u32, WallUs) {
    let (answers, since) = match streak {
        Some(before) if before.what == what => (before.answers.saturating_add(1), before.since),
        _ => (1, at),
    };
    *streak = Some(Streak { what, since, answers });
    (answers, since)
}

/// What a book knows of one instrument.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) record: InstrumentRecord,
    over: Option<Streak<()>>,
    opening: Option<Streak<WallUs>>,
    end: Option<Streak<Option<WallUs>>>,
    missing: Option<Streak<()>>,
}

impl Entry {
    pub(super) fn new(record: InstrumentRecord) -> Entry {
        Entry { record, over: None, opening: None, end: None, missing: None }
    }

    /// Whether something of it can be decided without a further row.
    pub(super) fn has_a_question(&self) -> bool {
        self.record.standing.awaiting.is_some()
            || matches!(self.record.standing.preview, Preview::Told { .. })
    }

    /// Whether `row` says that it is known before it is traded.
    pub(super) fn is_ahead(&self, row: Row, received: WallUs) -> bool {
        match row.trading {
            Trading::Ahead => true,
            Trading::Open | Trading::Halted => {
                !self.record.standing.opened && row.opens_at.is_some_and(|at| at > received)
            }
            Trading::Over => false,
        }
    }

    /// Whether `row` would end it.
    pub(super) fn ends_with(&self, row: Row, m: &Moment<'_>) -> bool {
        row.trading == Trading::Over
            || (self.record.standing.ending == Ending::None
                && self.record.kind != InstrumentKind::Dated
                && m.soon(row.closes_at).is_some())
    }

    /// Takes a row as it is, telling nothing: a baseline, or a list that is believed in silence.
    pub(super) fn accept(&mut self, row: Row, m: &Moment<'_>) {
        let ahead = self.is_ahead(row, m.received);
        let standing = &mut self.record.standing;
        standing.presence = Presence::Listed;
        standing.awaiting = None;
        match row.trading {
            Trading::Open | Trading::Halted if !ahead => {
                standing.opened = true;
                standing.preview = Preview::None;
            }
            Trading::Over => standing.preview = Preview::None,
            _ => {}
        }
        let soon = m.soon(row.closes_at);
        if matches!(standing.ending, Ending::None) && (row.trading == Trading::Over || soon.is_some()) {
            standing.ending = Ending::Known { at: row.closes_at, told: false };
        }
        self.follow(row);
    }

    /// Tells a preview of a baseline: of what opens later, if nobody told it yet.
    pub(super) fn preview_of_baseline(
        &mut self,
        m: &Moment<'_>,
        register: &mut Register,
        out: &mut Vec<MarketEvent>,
    ) {
        self.ahead(m.to_come(self.record.opens_at), false, m, register, out);
    }

    /// Whether a baseline holds it ahead, with a time to come.
    pub(super) fn awaits_opening(&self, received: WallUs) -> bool {
        let record = &self.record;
        let row = Row { trading: record.trading, opens_at: record.opens_at, closes_at: record.closes_at };
        record.standing.preview == Preview::None
            && self.is_ahead(row, received)
            && record.opens_at.is_some_and(|at| at > received)
    }

    fn follow(&mut self, row: Row) {
        self.record.trading = row.trading;
        self.record.opens_at = row.opens_at;
        self.record.closes_at = row.closes_at;
    }

    /// A row of an answer that is believed. `fresh`: the first of this instrument.
    pub(super) fn observe(
        &mut self,
        mut row: Row,
        fresh: bool,
        m: &Moment<'_>,
        register: &mut Register,
        out: &mut Vec<MarketEvent>,
    ) {
        self.missing = None;
        if fresh && row.trading == Trading::Over {
            self.record.standing.ending = Ending::Known { at: row.closes_at, told: false };
            return;
        }
        let was_gone = self.record.standing.presence == Presence::Gone;
        self.record.standing.presence = Presence::Listed;
        let was_over = self.record.trading == Trading::Over || was_gone;
        if row.trading != Trading::Over {
            self.over = None;
        } else if !was_over && again(&mut self.over, (), m.received).0 < m.rules.agree_answers {
            row.trading = self.record.trading;
        }
        if row.trading == Trading::Over {
            if !was_over {
                self.is_over(row, m, register, out);
            }
            self.follow(row);
            return;
        }
        if was_over && !fresh {
            self.is_back(row, m, out);
        }
        if self.is_ahead(row, m.received) {
            let became = fresh || was_over || self.record.trading != Trading::Ahead;
            self.ahead(m.to_come(row.opens_at), became && !self.record.standing.opened, m, register, out);
        } else if row.trading == Trading::Open {
            self.open(row, m, register, out);
        }
        self.look_at_end(row, fresh, m, register, out);
        self.follow(row);
    }

    /// Known before it is traded. `became`: by its state alone, which is news without a time too.
    fn ahead(
        &mut self,
        at: Option<WallUs>,
        became: bool,
        m: &Moment<'_>,
        register: &mut Register,
        out: &mut Vec<MarketEvent>,
    ) {
        let (kind, symbol) = (self.record.kind, &self.record.symbol);
        match self.record.standing.preview {
            Preview::None if at.is_none() && !became => return,
            Preview::None if register.previewed(kind, symbol) => {
                self.record.standing.preview = Preview::Elsewhere;
                return;
            }
            Preview::None => {}
            Preview::Elsewhere => return,
            Preview::Told { at: told, .. } | Preview::Confirmed { at: told } => {
                let Some(at) = at.filter(|at| m.moved(told, *at)) else {
                    self.opening = None;
                    return;
                };
                let (answers, _) = again(&mut self.opening, at, m.received);
                if told.is_some() && answers < m.rules.agree_answers {
                    return;
                }
            }
        }
        self.opening = None;
        let noticed = self.listing_noticed(m, register);
        let record = &self.record;
        let grounds = Grounds {
            exchange: m.spec.exchange,
            evidence: m.spec.evidence,
            ahead: at.map(|at| {
                core::time::Duration::from_micros(at.micros_since(m.received).max(0).unsigned_abs())
            }),
            noticed,
            beside: register.previewed_beside(&record.symbol, &record.base),
            told_before: record.standing.previews,
        };
        register.note_preview(record.kind, &record.symbol, &record.base, m.received);
        self.record.standing.preview = Preview::Told { at, said: m.received };
        self.record.standing.opened = false;
        let occurrence = &mut self.record.standing.previews;
        *occurrence = occurrence.saturating_add(1);
        let event = self.event(MarketEventKind::ListingPreview, self.record.standing.previews, at, m);
        self.tell(MarketEvent { noticed, score: Some(scorecard::score(&grounds)), ..event }, m, out);
    }

    /// Traded, for the first time since it was listed.
    fn open(&mut self, row: Row, m: &Moment<'_>, register: &mut Register, out: &mut Vec<MarketEvent>) {
        if self.record.standing.opened {
            return;
        }
        register.note_opening(self.record.kind, &self.record.symbol, m.received);
        let elsewhere = register.previewed(self.record.kind, &self.record.symbol);
        match self.record.standing.preview {
            Preview::None if !elsewhere => self.record.standing.awaiting = Some(m.received),
            Preview::None | Preview::Elsewhere => {}
            Preview::Told { at, .. } => {
                let noticed = self.listing_noticed(m, register);
                self.confirm(row.opens_at.or(at), noticed, m, out);
                register.forget_preview(self.record.kind, &self.record.symbol);
            }
            Preview::Confirmed { .. } => register.forget_preview(self.record.kind, &self.record.symbol),
        }
        self.record.standing.opened = true;
        self.record.standing.preview = Preview::None;
    }

    fn confirm(&mut self, at: Option<WallUs>, noticed: bool, m: &Moment<'_>, out: &mut Vec<MarketEvent>) {
        let event = self.event(MarketEventKind::PreviewConfirmed, self.record.standing.previews, at, m);
        self.tell(MarketEvent { noticed, ..event }, m, out);
    }

    /// Takes a preview back; false where none was told.
    fn withdraw(&mut self, m: &Moment<'_>, register: &mut Register, out: &mut Vec<MarketEvent>) -> bool {
        let preview = core::mem::take(&mut self.record.standing.preview);
        let (Preview::Told { at, .. } | Preview::Confirmed { at }) = preview else { return false };
        register.forget_preview(self.record.kind, &self.record.symbol);
        let event = self.event(MarketEventKind::PreviewWithdrawn, self.record.standing.previews, at, m);
        self.tell(event, m, out);
        true
    }

    /// Over, as the exchange says in as many answers as must agree.
    fn is_over(&mut self, row: Row, m: &Moment<'_>, register: &mut Register, out: &mut Vec<MarketEvent>) {
        self.over = None;
        self.ended(row.closes_at, m, register, out);
    }

    /// Has ended, whatever shows it. `says`: the time of its end that is shown with it.
    fn ended(
        &mut self,
        says: Option<WallUs>,
        m: &Moment<'_>,
        register: &mut Register,
        out: &mut Vec<MarketEvent>,
    ) {
        let withdrawn = self.withdraw(m, register, out);
        self.record.standing.awaiting = None;
        if let Ending::Known { at: known, told } = self.record.standing.ending {
            let sooner = says.or(Some(m.received).filter(|_| !told));
            if !withdrawn && self.record.standing.opened && self.is_early(known, sooner, m) {
                self.tell_end(says, m, register, out);
            }
            return;
        }
        let at = says.or(self.record.closes_at);
        // A time far ahead was a placeholder.
        let at = at.filter(|at| at.micros_since(m.received) <= micros(m.rules.near));
        let as_planned = self.record.kind == InstrumentKind::Dated
            && at.is_some_and(|at| at.micros_since(m.received) < micros(m.rules.dated_early));
        if withdrawn || !self.record.standing.opened || as_planned {
            self.record.standing.ending = Ending::Known { at, told: false };
        } else {
            self.tell_end(at, m, register, out);
        }
    }

    /// Whether `sooner` is much before `known`. Some say that it is over while it winds down, and the same end
    /// beside it: that is as planned. And what was told to end is taken off its list when the exchange likes.
    fn is_early(&self, known: Option<WallUs>, sooner: Option<WallUs>, m: &Moment<'_>) -> bool {
        let early =
            if self.record.kind == InstrumentKind::Dated { m.rules.dated_early } else { m.rules.moved };
        known.zip(sooner).is_some_and(|(known, sooner)| known.micros_since(sooner) >= micros(early))
    }

    /// Back on the list, or no longer over.
    fn is_back(&mut self, row: Row, m: &Moment<'_>, out: &mut Vec<MarketEvent>) {
        let ending = core::mem::take(&mut self.record.standing.ending);
        let as_known = |at| m.to_come(row.closes_at).is_some_and(|says| !m.moved(Some(at), says));
        match ending {
            // It only rested: its end is to come as before.
            Ending::Known { at: Some(at), .. } if as_known(at) => self.record.standing.ending = ending,
            // Taken back, and nobody was told of it.
            Ending::Known { at: Some(at), told: false } if at > m.received => {}
            Ending::Known { at, told: true } if at.is_none_or(|at| at > m.received) => {
                let event =
                    self.event(MarketEventKind::DelistingWithdrawn, self.record.standing.delistings, None, m);
                self.tell(event, m, out);
            }
            // It had ended for good: what is traded now is listed anew.
            Ending::Known { .. } => self.record.standing.opened = false,
            Ending::None => {}
        }
    }

    /// The end that a row of an instrument that is not over says.
    fn look_at_end(
        &mut self,
        row: Row,
        fresh: bool,
        m: &Moment<'_>,
        register: &mut Register,
        out: &mut Vec<MarketEvent>,
    ) {
        let soon = m.soon(row.closes_at);
        if self.record.kind == InstrumentKind::Dated {
            let before = self.record.closes_at.filter(|_| !fresh);
            let early = before
                .zip(m.to_come(row.closes_at))
                .filter(|(before, at)| before.micros_since(*at) >= micros(m.rules.dated_early));
            if let Some((_, at)) = early {
                self.tell_end(Some(at), m, register, out);
            }
            return;
        }
        match self.record.standing.ending {
            // Known from its beginning: an event's token, a test.
            Ending::None if fresh || !self.record.standing.opened => {
                if let Some(at) = soon {
                    self.record.standing.ending = Ending::Known { at: Some(at), told: false };
                }
            }
            Ending::None => {
                if let Some(at) = soon {
                    self.tell_end(Some(at), m, register, out);
                }
            }
            Ending::Known { at: told_at, told } => {
                let (answers, since) = match soon {
                    Some(at) if !m.moved(told_at, at) => {
                        self.end = None;
                        return;
                    }
                    Some(at) => again(&mut self.end, Some(at), m.received),
                    // The end has come; what follows shows whether it was one.
                    None if row.closes_at.is_some_and(|at| at <= m.received) => return,
                    None if told_at.is_none_or(|at| at <= m.received) => return,
                    None => again(&mut self.end, None, m.received),
                };
                if answers < m.rules.agree_answers {
                    return;
                }
                if soon.is_some() {
                    self.tell_end(soon, m, register, out);
                } else if m.received.micros_since(since) >= micros(m.rules.gone_after) {
                    self.end = None;
                    self.record.standing.ending = Ending::None;
                    if told {
                        let n = self.record.standing.delistings;
                        let event = self.event(MarketEventKind::DelistingWithdrawn, n, told_at, m);
                        self.tell(event, m, out);
                    }
                }
            }
        }
    }

    fn tell_end(
        &mut self,
        at: Option<WallUs>,
        m: &Moment<'_>,
        register: &Register,
        out: &mut Vec<MarketEvent>,
    ) {
        self.end = None;
        self.record.standing.ending = Ending::Known { at, told: true };
        let count = &mut self.record.standing.delistings;
        *count = count.saturating_add(1);
        let event = self.event(MarketEventKind::Delisting, self.record.standing.delistings, at, m);
        let since = m.ago(m.rules.near);
        let noticed = register.delisting_noticed(self.record.kind, &self.record.base, since);
        self.tell(MarketEvent { noticed, ..event }, m, out);
    }

    /// Absent from a complete answer that is believed.
    pub(super) fn is_missing(&mut self, m: &Moment<'_>, register: &mut Register, out: &mut Vec<MarketEvent>) {
        let (answers, since) = again(&mut self.missing, (), m.received);
        if answers < m.rules.gone_answers || m.received.micros_since(since) < micros(m.rules.gone_after) {
            return;
        }
        self.missing = None;
        if self.record.trading != Trading::Over {
            self.ended(None, m, register, out);
        }
        self.record.standing.presence = Presence::Gone;
    }

    /// Absent from a list that is believed in silence.
    pub(super) fn drop_in_silence(&mut self) {
        self.missing = None;
        self.record.standing.presence = Presence::Dropped;
    }

    fn listing_noticed(&self, m: &Moment<'_>, register: &Register) -> bool {
        let (named, unnamed) = (m.ago(m.rules.notice_before), m.ago(m.rules.unnamed_before));
        register.listing_noticed(self.record.kind, &self.record.base, named, unnamed)
    }

    /// Decides what no row decides: whether a notice told of it. False when it was dropped undecided.
    pub(super) fn look_at_register(
        &mut self,
        m: &Moment<'_>,
        register: &mut Register,
        out: &mut Vec<MarketEvent>,
    ) -> bool {
        let (kind, record) = (self.record.kind, &self.record);
        match record.standing.preview {
            Preview::Told { at, said } => {
                let never = WallUs(i64::MAX);
                if register.opened(kind, &record.symbol, said) {
                    // In another request's list, which tells the rest.
                    register.forget_preview(kind, &record.symbol);
                    let noticed = register.listing_noticed(kind, &record.base, said, never);
                    self.record.standing.preview = Preview::Elsewhere;
                    self.confirm(at, noticed, m, out);
                } else if register.listing_noticed(kind, &record.base, said, never) {
                    self.record.standing.preview = Preview::Confirmed { at };
                    self.confirm(at, true, m, out);
                }
            }
            Preview::None | Preview::Confirmed { .. } | Preview::Elsewhere => {}
        }
        let Some(opened) = self.record.standing.awaiting else { return true };
        if self.listing_noticed(m, register) {
            self.record.standing.awaiting = None;
            return true;
        }
        let judged = WallUs(opened.0.saturating_add(micros(m.rules.grace)));
        let decided = match register.hearing() {
            Hearing::Never => true,
            Hearing::Until(heard) => m.now >= judged && heard >= judged,
        };
        if decided {
            self.record.standing.awaiting = None;
            let count = &mut self.record.standing.stealths;
            *count = count.saturating_add(1);
            let at = self.record.opens_at.filter(|at| *at <= m.received).or(Some(opened));
            let event = self.event(MarketEventKind::StealthListing, self.record.standing.stealths, at, m);
            self.tell(event, m, out);
        } else if m.now.micros_since(opened) >= micros(m.rules.patience) {
            self.record.standing.awaiting = None;
            return false;
        }
        true
    }

    fn tell(&self, event: MarketEvent, m: &Moment<'_>, out: &mut Vec<MarketEvent>) {
        if event.occurrence <= u32::from(m.rules.told_at_most) && event.occurrence > 0 {
            out.push(event);
        }
    }

    fn event(
        &self,
        kind: MarketEventKind,
        occurrence: u16,
        effective_at: Option<WallUs>,
        m: &Moment<'_>,
    ) -> MarketEvent {
        MarketEvent {
            kind,
            exchange: m.spec.exchange,
            source: m.spec.name,
            symbol: self.record.symbol.as_ref().into(),
            base: self.record.base.as_ref().into(),
            quote: self.record.quote.as_ref().into(),
            instrument: self.record.kind,
            state: self.record.state.as_ref().into(),
            occurrence: u32::from(occurrence),
            new_asset: false,
            noticed: false,
            effective_at,
            volume_24h: None,
            ratio: None,
            score: None,
            since: m.since,
            received: m.received,
            detected: m.now,
        }
    }
}
