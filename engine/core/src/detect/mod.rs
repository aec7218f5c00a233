//! What is new: unchanged-body exits, the diff against the seen set, created and updated.
//!
//! Contract: one [`Detector`] a source; all lists of the source share its seen set. It is given
//! each body as it arrives and answers with the announcements in it, oldest first, and with what
//! the store must remember. Owner: the source thread. A body that says nothing new costs one
//! comparison and no allocation. Fails only with the parser's error, which changes nothing.
//!
//! [`Detector::on_body`] does it all at once. A thread for which microseconds count takes its steps one
//! by one: [`Detector::recognise`], [`Detector::look_ahead`], whose findings go out at once,
//! [`Detector::read`], which makes sure that nothing was missed, and [`Detector::prepare`].

mod ahead;
pub mod race;
mod seen;
pub mod stream;
pub mod told;
mod unchanged;

use core::time::Duration;

use crate::limits;
use crate::model::{Action, CategoryHint};
use crate::source::{Item, ParseError, Parsed, Scratch, SourceSpec};
use crate::time::{Mono, Now, WallUs};

use ahead::Page;
use seen::{Entry, SeenSet, Version};
use unchanged::RecentBodies;

/// One item a source remembers having seen; what the store keeps so that the seen set survives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenRecord {
    /// Name of the source (`binance.cms`).
    pub source: &'static str,
    /// The exchange's identifier of the item.
    pub notice_id: Box<str>,
    /// Its title, so that a later edit of it can be compared with what it told (see [`told`]).
    pub title: Box<str>,
    /// [`fingerprint`] of title and publish time: another one under the same id is an edit.
    pub fingerprint: u64,
    /// When the exchange says it was published; when it was found, if it does not say.
    pub published: WallUs,
}

/// Fingerprint of what an edit changes: title and publish time. FNV-1a over the title, a byte that
/// no UTF-8 text holds, and the time. It is kept on disk, so it never changes.
#[must_use]
pub fn fingerprint(title: &str, published: WallUs) -> u64 {
    let time = published.0.to_le_bytes();
    let bytes = title.as_bytes().iter().chain(&[0xFF]).chain(&time);
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// An item to announce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detected {
    /// What to remember of it: source, identifier, title, publish time. History that holds the
    /// announcement implies it.
    pub record: SeenRecord,
    /// When the exchange says it was last changed or listed again, where it says so.
    pub modified: Option<WallUs>,
    /// Address of the notice, empty when the source gives none.
    pub url: String,
    /// Where the exchange filed it, for the classifier.
    pub hint: CategoryHint,
    /// New, or an edit of one already known.
    pub action: Action,
    /// Found too late to be news: history and resumes only.
    pub late: bool,
}

/// What one body brought. Reused from body to body.
#[derive(Debug, Default)]
pub struct Findings {
    /// To announce, in publish order, oldest first.
    pub detected: Vec<Detected>,
    /// To remember without announcing: the baseline, and old items that come into view.
    pub seen: Vec<SeenRecord>,
    /// This was the first complete answer of the list; [`Findings::seen`] holds its items.
    pub baselined: bool,
}

impl Findings {
    /// Whether there is nothing to announce, to remember or to note.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.detected.is_empty() && self.seen.is_empty() && !self.baselined
    }

    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.detected.clear();
        self.seen.clear();
        self.baselined = false;
    }
}

/// What became of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Byte for byte one of the last two of this list.
    Identical,
    /// Differs from one of the last two only in counters and badges ([`SourceSpec::noise`]).
    OnlyNoise,
    /// Read in full; whether anything was new is in [`Findings`].
    Parsed(Parsed),
}

/// What is durable about a list before its first poll of this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListHistory {
    /// When the list was to be polled for the first time ever; durable before that poll.
    pub first_start: WallUs,
    /// Whether its first answer has been taken as known, durably.
    pub baselined: bool,
}

/// Finds what is new in the answers of one source.
pub struct Detector {
    spec: &'static SourceSpec,
    fresh_for: Duration,
    scratch: Scratch,
    seen: SeenSet,
    lists: Box<[ListState]>,
    newest: Option<WallUs>,
    /// What of a body is read ahead of the rest.
    ahead: Vec<u8>,
}

struct ListState {
    history: ListHistory,
    bodies: RecentBodies,
    /// What is known of the body of `page_of`, a generation of `bodies`.
    page: Page,
    page_of: u64,
    /// That body with an invented row on top, for [`Detector::rehearse`].
    drill: Vec<u8>,
    /// When a usable answer was last complete.
    last_answer: Option<Mono>,
}

/// Room for an exchange whose clock runs ahead of ours.
const CLOCK_SKEW_US: i64 = 60_000_000;

impl Detector {
    /// A detector that knows nothing yet. `fresh_for`: an item older than this when it is found
    /// is late. Give it the durable state with [`Detector::load_list`] and
    /// [`Detector::load_seen`] before the first body.
    #[must_use]
    pub fn new(spec: &'static SourceSpec, fresh_for: Duration) -> Detector {
        let unknown = ListHistory { first_start: WallUs(i64::MIN), baselined: false };
        let lists = spec.lists.iter().take(limits::LISTS_PER_SOURCE).map(|_| ListState {
            history: unknown,
            bodies: RecentBodies::default(),
            page: Page::default(),
            page_of: 0,
            drill: Vec::new(),
            last_answer: None,
        });
        Detector {
            spec,
            fresh_for,
            scratch: Scratch::default(),
            seen: SeenSet::with_capacity(limits::SEEN_ITEMS),
            lists: lists.collect(),
            newest: None,
            ahead: Vec::new(),
        }
    }

    /// The source it works for.
    #[must_use]
    pub fn spec(&self) -> &'static SourceSpec {
        self.spec
    }

    /// Sets what is durable about a list; an index the source does not have is ignored.
    pub fn load_list(&mut self, list: usize, history: ListHistory) {
        if let Some(state) = self.lists.get_mut(list) {
            state.history = history;
        }
    }

    /// Adds an item remembered by the store. Load the oldest first: beyond
    /// [`limits::SEEN_ITEMS`] the earliest loaded are forgotten.
    pub fn load_seen(&mut self, record: &SeenRecord) {
        self.newest = self.newest.max(Some(record.published));
        let version = Version::new(&record.title, Some(record.published));
        self.seen.tick();
        self.seen.insert(Entry::new(&record.notice_id, version, None), None);
    }

    /// Adds a version that history holds of an item; where [`Detector::load_seen`] loaded a later one,
    /// this one is known to be replaced, so that a page from before the edit is no edit. Load the
    /// oldest first, after the seen items; an item not loaded is left alone.
    pub fn load_announced(&mut self, notice_id: &str, title: &str, published: WallUs) {
        let version = Version::new(title, Some(published));
        if let Some(entry) = self.seen.entry(notice_id)
            && !entry.version.agrees(version)
            && !entry.was(version)
        {
            entry.replace(version);
        }
    }

    /// When the newest item known was published.
    #[must_use]
    pub fn newest(&self) -> Option<WallUs> {
        self.newest
    }

    /// The body of a list that [`Detector::on_body`] was given last, as it came, whatever became of it;
    /// empty before the first and for a list the source does not have. For a recorder: it is there
    /// after everything that had to be announced has been.
    #[must_use]
    pub fn last_body(&self, list: usize) -> &[u8] {
        self.lists.get(list).map_or(&[], |state| state.bodies.newest())
    }

    /// The exchange answered at `now` that the last body of a list still stands (304).
    pub fn on_not_modified(&mut self, list: usize, now: Mono) {
        if let Some(state) = self.lists.get_mut(list) {
            state.last_answer = Some(now);
        }
    }

    /// Takes one answer of a list, complete at `now`, and adds what it brings to `findings`. The
    /// body is scrambled. A list the source does not have brings nothing.
    ///
    /// # Errors
    /// The answer is unusable as a whole; nothing has changed.
    pub fn on_body(
        &mut self,
        list: usize,
        body: &mut [u8],
        now: Now,
        findings: &mut Findings,
    ) -> Result<Outcome, ParseError> {
        match self.recognise(list, body, now) {
            Some(outcome) => Ok(outcome),
            None => self.read(list, body, now, findings),
        }
    }

    /// Whether a body is one that was read already; it then is done with. A list the source does not have
    /// recognises everything.
    pub fn recognise(&mut self, list: usize, body: &[u8], now: Now) -> Option<Outcome> {
        let Some(state) = self.lists.get_mut(list) else { return Some(Outcome::Identical) };
        let known = state.bodies.compare(body, self.spec.noise);
        if known.is_some() {
            state.last_answer = Some(now.mono);
        }
        known
    }

    /// Finds what is new in a body that is the last one with rows put in, by reading those rows alone.
    /// Whether it was such a body; [`Detector::read`] must follow in any case.
    pub fn look_ahead(&mut self, list: usize, body: &[u8], now: Now, findings: &mut Findings) -> bool {
        let Some(state) = self.lists.get_mut(list) else { return false };
        let (latest, generation) = state.bodies.latest();
        let reduced = state.history.baselined
            && state.page_of == generation
            && state.page.reduce(latest, body, self.spec.noise, &mut self.ahead);
        if !reduced {
            return false;
        }
        let mut rest = core::mem::take(&mut self.ahead);
        let parsed = self.parse(list, &mut rest, now, findings, true);
        self.ahead = rest;
        parsed.is_ok()
    }

    /// Reads a body in full that was not recognised, and adds what it brings to `findings`. The body is
    /// scrambled.
    ///
    /// # Errors
    /// The answer is unusable as a whole; nothing has changed.
    pub fn read(
        &mut self,
        list: usize,
        body: &mut [u8],
        now: Now,
        findings: &mut Findings,
    ) -> Result<Outcome, ParseError> {
        let Some(state) = self.lists.get_mut(list) else { return Ok(Outcome::Identical) };
        state.bodies.stage(body);
        let parsed = self.parse(list, body, now, findings, false)?;
        let Some(state) = self.lists.get_mut(list) else { return Ok(Outcome::Identical) };
        state.bodies.commit();
        state.last_answer = Some(now.mono);
        if parsed.rows > 0 && !state.history.baselined {
            state.history.baselined = true;
            findings.baselined = true;
        }
        Ok(Outcome::Parsed(parsed))
    }

    /// Gets ready to recognise what comes in next. For when nothing waits: it reads the last body once.
    pub fn prepare(&mut self, list: usize) {
        let Some(state) = self.lists.get_mut(list) else { return };
        let (latest, generation) = state.bodies.latest();
        if state.page_of != generation {
            state.page.learn(latest);
            state.page.drill(latest, &mut state.drill);
            state.page_of = generation;
        }
    }

    /// Goes through what an answer with something new in it would cause, and changes nothing: so that code
    /// and data are at hand when one comes, which is rare, and what lies in caches is what was used last.
    /// Writes the title that was read into `title`. `false`: there is nothing to rehearse with.
    pub fn rehearse(&mut self, list: usize, title: &mut String) -> bool {
        let Some(state) = self.lists.get_mut(list) else { return false };
        let (latest, generation) = state.bodies.latest();
        let drill = state.drill.as_slice();
        let recognised = drill.is_empty()
            || state.page_of != generation
            || core::hint::black_box(latest == drill)
            || !state.page.reduce(latest, drill, self.spec.noise, &mut self.ahead);
        if recognised {
            return false;
        }
        title.clear();
        let (seen, scratch, body) = (&mut self.seen, &mut self.scratch, &mut self.ahead);
        let read = (self.spec.parse)(scratch, body, &mut |item| {
            core::hint::black_box((
                Version::new(item.title, item.published),
                seen.entry(item.notice_id.as_str()).is_some(),
            ));
            if title.is_empty() {
                title.push_str(item.title);
            }
        });
        read.is_ok() && !title.is_empty()
    }

    /// `begun`: what is read is a part of a page, which does not begin anew.
    fn parse(
        &mut self,
        list: usize,
        body: &mut [u8],
        now: Now,
        findings: &mut Findings,
        begun: bool,
    ) -> Result<Parsed, ParseError> {
        let Some(state) = self.lists.get(list) else { return Ok(Parsed::default()) };
        let gap = state.last_answer.is_none_or(|last| now.mono.since(last) > self.fresh_for);
        let first = findings.detected.len();
        let mut diff = Diff {
            source: self.spec.name,
            list: Some(list),
            filed: self.spec.lists.get(list).map_or(CategoryHint::None, |list| list.hint),
            history: state.history,
            gap,
            fresh_for: self.fresh_for,
            wall: now.wall,
            seen: &mut self.seen,
            newest: &mut self.newest,
            findings,
            begun,
        };
        let parsed = (self.spec.parse)(&mut self.scratch, body, &mut |item| diff.on_item(item))?;
        if parsed.rows == 0 && parsed.skipped > 0 {
            return Err(ParseError::NoRow { skipped: parsed.skipped });
        }
        let found = findings.detected.get_mut(first..).unwrap_or_default();
        // Pages run from the newest to the oldest; equal times keep the reverse of that order.
        found.reverse();
        found.sort_by_key(Detected::order);
        Ok(parsed)
    }
}

impl Detected {
    fn order(&self) -> WallUs {
        match self.action {
            Action::Created => self.record.published,
            _ => self.modified.unwrap_or(self.record.published),
        }
    }
}

/// One answer on its way through the seen set.
struct Diff<'d> {
    source: &'static str,
    /// The list whose page it is; `None` where there are no pages.
    list: Option<usize>,
    /// Where the list files what it holds.
    filed: CategoryHint,
    history: ListHistory,
    /// No usable answer of this list for longer than `fresh_for`: changes may be old.
    gap: bool,
    fresh_for: Duration,
    wall: WallUs,
    seen: &'d mut SeenSet,
    newest: &'d mut Option<WallUs>,
    findings: &'d mut Findings,
    /// The first item was met: the answer is usable, and the page of the list begins anew.
    begun: bool,
}

/// What to do about an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Announce { action: Action, late: bool },
    Remember,
    Nothing,
}

impl Diff<'_> {
    fn on_item(&mut self, item: &Item<'_>) {
        if !core::mem::replace(&mut self.begun, true) {
            self.seen.tick();
            if let Some(list) = self.list {
                self.seen.leave_page(list);
            }
        }
        let version = Version::new(item.title, item.published);
        let late_edit = self.gap && self.is_old(item.published.max(item.modified));
        let id = item.notice_id.as_str();
        let entry = match self.list {
            Some(list) => self.seen.present(id, list),
            None => self.seen.entry(id),
        };
        let verdict = match entry {
            Some(entry) => known(entry, item, version, late_edit),
            None => {
                self.seen.insert(Entry::new(id, version, item.modified), self.list);
                self.unknown(item)
            }
        };
        let (action, late) = match verdict {
            Verdict::Nothing => return,
            Verdict::Remember => (None, false),
            Verdict::Announce { action, late } => (Some(action), late),
        };
        let published = item.published.unwrap_or(self.wall);
        let record = SeenRecord {
            source: self.source,
            notice_id: id.into(),
            title: item.title.into(),
            fingerprint: fingerprint(item.title, published),
            published,
        };
        *self.newest = (*self.newest).max(Some(published));
        match action {
            None => self.findings.seen.push(record),
            Some(action) => self.findings.detected.push(Detected {
                record,
                modified: item.modified,
                url: item.link.to_url(),
                hint: if item.hint == CategoryHint::None { self.filed } else { item.hint },
                action,
                late,
            }),
        }
    }

    /// An item never seen before.
    fn unknown(&self, item: &Item<'_>) -> Verdict {
        let ListHistory { first_start, baselined } = self.history;
        let after_start = item.published.is_some_and(|at| last_instant(at) > first_start);
        if !baselined {
            // The first answer ever is taken as known, but for what was published after the
            // start was recorded: the engine died before this list's baseline was durable. A
            // time still to come proves nothing of the kind.
            let to_come = |at: WallUs| at.micros_since(self.wall) > CLOCK_SKEW_US;
            if !after_start || item.published.is_some_and(to_come) {
                return Verdict::Remember;
            }
        }
        let late = if item.published.is_some() { self.is_old(item.published) } else { self.gap };
        // Old items come into view when a newer one is deleted or an old one is pinned.
        if late && (item.pinned || item.published.is_some() && !after_start) {
            return Verdict::Remember;
        }
        Verdict::Announce { action: Action::Created, late }
    }

    /// Whether an instant is longer ago than `fresh_for`; no instant counts as old.
    fn is_old(&self, at: Option<WallUs>) -> bool {
        let fresh_us = i64::try_from(self.fresh_for.as_micros()).unwrap_or(i64::MAX);
        at.is_none_or(|at| self.wall.micros_since(at) > fresh_us)
    }
}

/// The last instant a publish time can mean: exchanges cut it off to seconds or milliseconds, and a
/// notice of the very moment of the first start must not be lost to the baseline.
fn last_instant(published: WallUs) -> WallUs {
    let us = published.0;
    let unit_us = [1_000_000, 1_000].into_iter().find(|unit| us % unit == 0).unwrap_or(1);
    WallUs(us.saturating_add(unit_us - 1))
}

/// An item seen before: an edit, an older version from a cache that lags behind, or nothing.
fn known(entry: &mut Entry, item: &Item<'_>, version: Version, late: bool) -> Verdict {
    let newer = item.modified > entry.modified;
    if entry.version.agrees(version) {
        // Listed again under the same title: subscribers know it, so only the time is kept, which
        // later tells old versions from new ones.
        entry.modified = entry.modified.max(item.modified);
        return Verdict::Nothing;
    }
    let older = item.modified.is_some() && item.modified < entry.modified;
    // Without a time that says otherwise, a version that has been replaced before is a stale page.
    let dated_newer = newer && entry.modified.is_some();
    if older || entry.was(version) && !dated_newer {
        return Verdict::Nothing;
    }
    entry.supersede(version, item.modified);
    Verdict::Announce { action: Action::Updated, late }
}

#[cfg(test)]
mod tests;
