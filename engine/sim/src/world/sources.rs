//! The simulated source threads: their paths, what they ask when, what they make of the answers.
//!
//! Contract: the decisions are the core's ([`Pacer`], [`Backoff`], [`AddressGuard`], [`Detector`], [`Race`]); what
//! is modelled is the order in which the engine's source thread calls them. Owner: the world. A path that
//! the store remembers begins with what the store has.

use std::collections::VecDeque;

use core::time::Duration;

use tocsin_core::classify::classify;
use tocsin_core::detect::race::Race;
use tocsin_core::detect::stream::StreamDetector;
use tocsin_core::detect::told::Told;
use tocsin_core::detect::{Detector, Findings, ListHistory, Outcome};
use tocsin_core::limits;
use tocsin_core::model::CategoryHint;
use tocsin_core::source::backoff::{AddressGuard, Backoff, Failure, Health};
use tocsin_core::source::pacing::{Mode, Pace, Pacer};
use tocsin_core::source::stream::{Incoming, StreamSpec};
use tocsin_core::source::{Scratch, SourceSpec};
use tocsin_core::time::{Mono, Now, WallUs};

use super::dice::Dice;
use super::draw::ExchangePlan;
use super::durable::{ListRow, Store};
use super::exchange::{Reply, Served};
use super::plant::Plant;
use super::teller::{Op, Teller};

/// A connection of a polled path.
pub(super) struct Slot {
    backoff: Backoff,
    sent_at: Mono,
    asks: Option<usize>,
}

/// A list that is polled.
pub(super) struct Polled {
    pub(super) spec: &'static SourceSpec,
    detector: Detector,
    slots: Vec<Slot>,
    pacer: Pacer,
    guard: AddressGuard,
    health: Health,
    etags: Vec<Option<u64>>,
    /// When each list was last answered usably.
    usable: Vec<Mono>,
}

/// A stream that is listened to.
pub(super) struct Listened {
    pub(super) spec: &'static StreamSpec,
    detector: StreamDetector,
    parser: Scratch,
    /// Nobody had listened for long before this session; none while there is no session.
    pub(super) session: Option<bool>,
    live_at: Option<Mono>,
}

pub(super) enum Path {
    Polled(Box<Polled>),
    Listened(Box<Listened>),
}

/// A path with what tells its news.
pub(super) struct Source {
    pub(super) exchange: usize,
    pub(super) thread: usize,
    pub(super) path: Path,
    teller: Teller,
    /// Which race of the thread's.
    race: Option<usize>,
    findings: Findings,
}

/// One source thread.
#[derive(Default)]
pub(super) struct SourceThread {
    pub(super) ops: VecDeque<Op>,
    races: Vec<Race>,
    /// It has lost its core until then.
    pub(super) stalled: Mono,
}

/// A request to be answered.
pub(super) struct Ask {
    pub(super) slot: usize,
    pub(super) list: usize,
    pub(super) etag: Option<u64>,
}

/// What became of an answer.
pub(super) enum Heard {
    /// It was read, and this page of this list was in it.
    Read(Served, &'static str),
    /// Nothing new to the reader.
    Nothing,
}

impl Source {
    /// A polled path with what the store remembers.
    pub(super) fn polled(
        (exchange, plan): (usize, &ExchangePlan),
        spec: &'static SourceSpec,
        fresh_for: Duration,
        store: &mut Store,
        now: Now,
    ) -> Source {
        let mut detector = Detector::new(spec, fresh_for);
        for (at, list) in spec.lists.iter().enumerate() {
            let row = first_start(store, spec.name, list.name, now.wall);
            detector.load_list(at, row);
        }
        let mut told = Told::new();
        for row in store.seen.get(spec.name).into_iter().flatten() {
            detector.load_seen(&row.record);
            let said = classify(spec.exchange, &row.record.title, CategoryHint::None);
            told.note(&row.record.notice_id, true, said.listing_type, &said.tickers);
        }
        for encoded in store.history.values().filter(|a| a.announcement.source == spec.name) {
            let a = &encoded.announcement;
            detector.load_announced(&a.notice_id, &a.title, a.published);
            told.note(&a.notice_id, true, a.classification.listing_type, &a.classification.tickers);
        }
        let budget = spec.pacing.with_rate(plan.rate, true);
        let weights: Vec<u16> = spec.lists.iter().map(|list| list.weight).collect();
        let patience = Duration::from_secs_f64(f64::from(limits::STALE_POLLS) / plan.rate);
        let polled = Polled {
            spec,
            detector,
            slots: (0..plan.connections)
                .map(|_| Slot { backoff: Backoff::new(), sent_at: Mono(0), asks: None })
                .collect(),
            pacer: Pacer::new(budget, Mode::Clustered, &weights, 0.0),
            guard: AddressGuard::new(),
            health: Health::new(patience.clamp(limits::STALE_AFTER, limits::STALE_AT_MOST)),
            etags: vec![None; spec.lists.len()],
            usable: vec![Mono(0); spec.lists.len()],
        };
        let teller = Teller { source: spec.name, exchange: spec.exchange, told, path: None };
        Source::new(exchange, plan.thread, Path::Polled(Box::new(polled)), teller)
    }

    /// A stream with what the store remembers.
    pub(super) fn listened(
        (exchange, plan): (usize, &ExchangePlan),
        spec: &'static StreamSpec,
        fresh_for: Duration,
        store: &mut Store,
        now: Now,
    ) -> Source {
        let mut detector = StreamDetector::new(spec, fresh_for);
        for (at, channel) in spec.channels.iter().enumerate() {
            let row = first_start(store, spec.name, channel, now.wall);
            detector.load_channel(at, row);
        }
        for row in store.seen.get(spec.name).into_iter().flatten() {
            detector.load_seen(&row.record);
        }
        for encoded in store.history.values().filter(|a| a.announcement.source == spec.name) {
            let a = &encoded.announcement;
            detector.load_announced(&a.notice_id, &a.title, a.published);
        }
        let listened = Listened { spec, detector, parser: Scratch::default(), session: None, live_at: None };
        let teller = Teller { source: spec.name, exchange: spec.exchange, told: Told::new(), path: None };
        Source::new(exchange, plan.thread, Path::Listened(Box::new(listened)), teller)
    }

    fn new(exchange: usize, thread: usize, path: Path, teller: Teller) -> Source {
        Source { exchange, thread, path, teller, race: None, findings: Findings::default() }
    }

    pub(super) fn name(&self) -> &'static str {
        self.teller.source
    }

    /// What may leave now, or when to ask again.
    pub(super) fn pace(&mut self, now: Now) -> Result<Ask, Mono> {
        let Path::Polled(polled) = &mut self.path else { return Err(Mono::NEVER) };
        let Polled { slots, pacer, guard, etags, spec, .. } = &mut **polled;
        if guard.ready_at() > now.mono {
            return Err(guard.ready_at());
        }
        let mut rested = Mono::NEVER;
        let mut free: Option<(usize, Mono)> = None;
        for (at, slot) in slots.iter().enumerate() {
            if slot.asks.is_some() {
            } else if slot.backoff.ready_at() > now.mono {
                rested = rested.min(slot.backoff.ready_at());
            } else if free.is_none_or(|(_, sent_at)| slot.sent_at < sent_at) {
                free = Some((at, slot.sent_at));
            }
        }
        let Some((at, _)) = free else { return Err(rested) };
        match pacer.poll(now) {
            Pace::Wait(until) => Err(until),
            Pace::Send { list } => {
                if let Some(slot) = slots.get_mut(at) {
                    slot.asks = Some(list);
                    slot.sent_at = now.mono;
                }
                let etag = etags.get(list).copied().flatten().filter(|_| spec.conditional);
                Ok(Ask { slot: at, list, etag })
            }
        }
    }

    /// Takes an answer; what it brings goes into the thread's steps.
    pub(super) fn answer(
        &mut self,
        slot: usize,
        reply: &Reply,
        now: Now,
        jitter: u32,
        plant: Option<Plant>,
        thread: &mut SourceThread,
    ) -> Heard {
        let Path::Polled(polled) = &mut self.path else { return Heard::Nothing };
        let Some(list) = polled.slots.get_mut(slot).and_then(|slot| slot.asks.take()) else {
            return Heard::Nothing;
        };
        match reply {
            Reply::Broken(failure) => polled.fail(slot, *failure, None, now, jitter),
            Reply::Status(status, after) => match Failure::of_status(*status) {
                Some(failure) => polled.fail(slot, failure, *after, now, jitter),
                None => polled.fail(slot, Failure::Unusable, None, now, jitter),
            },
            Reply::NotModified => {
                polled.detector.on_not_modified(list, now.mono);
                polled.succeed(slot, list, now);
            }
            Reply::Garbage(bytes) => {
                if self.read(slot, list, bytes, 0, now, jitter, plant, thread) {
                    return Heard::Nothing;
                }
            }
            Reply::Page(page) => {
                if self.read(slot, list, &page.body, page.version, now, jitter, plant, thread) {
                    let list = list_name(&self.path, list);
                    return Heard::Read(page.clone(), list);
                }
            }
        }
        Heard::Nothing
    }

    /// Whether the body was usable.
    #[allow(clippy::too_many_arguments, reason = "an answer and where what it brings goes")]
    fn read(
        &mut self,
        slot: usize,
        list: usize,
        bytes: &[u8],
        version: u64,
        now: Now,
        jitter: u32,
        plant: Option<Plant>,
        thread: &mut SourceThread,
    ) -> bool {
        let Path::Polled(polled) = &mut self.path else { return false };
        let known = polled.detector.recognise(list, bytes, now);
        if known.is_none() && polled.detector.look_ahead(list, bytes, now, &mut self.findings) {
            self.tell(list, now, plant, thread);
        }
        let Path::Polled(polled) = &mut self.path else { return false };
        let outcome = match known {
            Some(known) => Ok(known),
            None => polled.detector.read(list, &mut bytes.to_vec(), now, &mut self.findings),
        };
        let Ok(outcome) = outcome else {
            self.findings.clear();
            polled.fail(slot, Failure::Unusable, None, now, jitter);
            return false;
        };
        if let Outcome::Parsed(_) = outcome {
            self.tell(list, now, plant, thread);
        }
        let Path::Polled(polled) = &mut self.path else { return false };
        if let Some(etag) = polled.etags.get_mut(list) {
            *etag = Some(version).filter(|version| *version > 0);
        }
        polled.detector.prepare(list);
        polled.succeed(slot, list, now);
        true
    }

    fn tell(&mut self, list: usize, now: Now, plant: Option<Plant>, thread: &mut SourceThread) {
        let name = list_name(&self.path, list);
        let race = self.race.and_then(|at| thread.races.get_mut(at));
        let at = (now.wall, now.wall);
        self.teller.tell(name, at, &mut self.findings, race, plant, &mut thread.ops);
    }

    /// A session begins: from now on nothing published is missed.
    pub(super) fn connected(
        &mut self,
        now: Now,
        fresh_for: Duration,
        plant: Option<Plant>,
        thread: &mut SourceThread,
    ) {
        let Path::Listened(listened) = &mut self.path else { return };
        let gap = listened.live_at.is_none_or(|at| now.mono.since(at) > fresh_for);
        listened.session = Some(gap);
        listened.live_at = Some(now.mono);
        loop {
            let Path::Listened(listened) = &mut self.path else { return };
            let Some(channel) = listened.detector.baseline(&mut self.findings) else { return };
            self.tell(channel, now, plant, thread);
        }
    }

    pub(super) fn disconnected(&mut self, now: Now) {
        if let Path::Listened(listened) = &mut self.path
            && listened.session.take().is_some()
        {
            listened.live_at = Some(now.mono);
        }
    }

    /// A message of the session; whether it was read.
    pub(super) fn message(
        &mut self,
        text: &str,
        now: Now,
        plant: Option<Plant>,
        thread: &mut SourceThread,
    ) -> bool {
        let Path::Listened(listened) = &mut self.path else { return false };
        let Listened { spec, detector, parser, session, .. } = &mut **listened;
        let Some(gap) = *session else { return false };
        let findings = &mut self.findings;
        let mut bytes = text.as_bytes().to_vec();
        let read = (spec.read)(parser, &mut bytes, &mut |channel, item| {
            detector.on_item(channel, item, gap && spec.replay > Duration::ZERO, now.wall, findings);
        });
        self.tell(0, now, plant, thread);
        matches!(read, Ok(Incoming::Items(parsed)) if parsed.rows > 0)
    }

    /// Whether every list has been answered usably since then, or a session stands.
    pub(super) fn has_answered_since(&self, at: Mono) -> bool {
        match &self.path {
            Path::Polled(polled) => polled.usable.iter().all(|usable| *usable > at),
            Path::Listened(listened) => listened.session.is_some(),
        }
    }
}

impl Polled {
    fn fail(&mut self, at: usize, failure: Failure, after: Option<Duration>, now: Now, jitter: u32) {
        self.health.fail(failure);
        let Some(slot) = self.slots.get_mut(at) else { return };
        let rest = self.spec.forbidden_rest.filter(|_| failure == Failure::Forbidden);
        let until = slot.backoff.fail(now.mono, failure, after.max(rest), jitter);
        self.guard.refused(at, failure, now.mono, until);
    }

    fn succeed(&mut self, at: usize, list: usize, now: Now) {
        if let Some(usable) = self.usable.get_mut(list) {
            *usable = now.mono;
        }
        self.health.succeed(now.mono);
        if let Some(slot) = self.slots.get_mut(at) {
            slot.backoff.succeed();
        }
    }
}

/// The name of a list or a channel.
fn list_name(path: &Path, list: usize) -> &'static str {
    match path {
        Path::Polled(polled) => polled.spec.lists.get(list).map_or("", |list| list.name),
        Path::Listened(listened) => listened.spec.channels.get(list).copied().unwrap_or(""),
    }
}

/// Durable before the first request.
fn first_start(store: &mut Store, source: &'static str, list: &'static str, now: WallUs) -> ListHistory {
    let fresh = ListRow { first_start: now, baselined: false };
    let row = store.lists.entry((source, list)).or_insert(fresh);
    ListHistory { first_start: row.first_start, baselined: row.baselined }
}

/// Races of the exchanges that have several paths, as the store remembers them.
pub(super) fn enter_races(sources: &mut [Source], threads: &mut [SourceThread], store: &Store) {
    for at in 0..sources.len() {
        let Some(exchange) = sources.get(at).map(|s| s.exchange) else { continue };
        let paths: Vec<&'static str> =
            sources.iter().filter(|s| s.exchange == exchange).map(Source::name).collect();
        let Some(source) = sources.get_mut(at) else { continue };
        let Some(thread) = threads.get_mut(source.thread).filter(|_| paths.len() > 1) else { continue };
        let place = match thread.races.iter().position(|race| race.exchange() == source.teller.exchange) {
            Some(place) => place,
            None => {
                thread.races.push(load_race(source.teller.exchange, &paths, store));
                thread.races.len() - 1
            }
        };
        source.race = Some(place);
        source.teller.path = thread.races.get(place).and_then(|race| race.path(source.teller.source));
    }
}

fn load_race(exchange: tocsin_core::model::Exchange, paths: &[&'static str], store: &Store) -> Race {
    let mut race = Race::new(exchange, paths.iter().copied());
    store.history.values().for_each(|encoded| race.load_announced(&encoded.announcement));
    for source in paths {
        let Some(path) = race.path(source) else { continue };
        for row in store.seen.get(source).into_iter().flatten().rev() {
            let said = classify(exchange, &row.record.title, CategoryHint::None);
            race.load_seen(path, &row.record, &said, row.notice.as_deref());
        }
    }
    race
}

/// The time until an answer that never comes is given up.
pub(super) fn given_up_after(latency: Duration, dice: &mut Dice, lossy: bool) -> Option<Duration> {
    (latency > limits::REQUEST_TIMEOUT || lossy && dice.per_mille(20)).then_some(limits::REQUEST_TIMEOUT)
}
