//! One life of the simulated engine: its start from what is durable, its death, and the steps of its source
//! and journal threads.

use std::collections::VecDeque;
use std::sync::Arc;

use core::time::Duration;

use tocsin_core::feed::admission::address::{AddressLimits, AddressTable};
use tocsin_core::feed::admission::decide::Admission;
use tocsin_core::feed::admission::keys::KeyTable;
use tocsin_core::limits;
use tocsin_core::model::{Announcement, FeedPosition, ListingType};
use tocsin_core::source::{exchange as specs, stream};
use tocsin_core::time::WallUs;
use tocsin_core::webhook::dispatcher::Bounds;
use tocsin_core::wire::{self, EncodedAnnouncement};

use super::durable::Row;
use super::exchange::{Notice, Reply};
use super::feeds::Feed;
use super::journal::{Journal, Pending, Release};
use super::plant::Plant;
use super::sources::{self, Heard, Path, Source, SourceThread};
use super::teller::Op;
use super::webhooks::Webhook;
use super::{Death, Event, Flow, Stop, Thing, World, broken};

/// What dies with the process.
pub(super) struct Engine {
    pub(super) epoch: u64,
    pub(super) next_seq: u64,
    pub(super) threads: Vec<SourceThread>,
    pub(super) sources: Vec<Source>,
    pub(super) admission: Admission,
    pub(super) feeds: Vec<Feed>,
    pub(super) journal: Journal,
    pub(super) webhook: Webhook,
    /// Announced and not yet given to the others.
    unsettled: Vec<VecDeque<(Arc<EncodedAnnouncement>, Release)>>,
    /// Positions in history at its start.
    pub(super) known: Vec<FeedPosition>,
}

/// How often a thread looks that nothing wakes.
const LOOK: Duration = Duration::from_millis(50);

impl World {
    /// A life begins, as the engine's start does: shared memory to disk, then the epoch, then everything that is
    /// loaded, then webhooks made good.
    pub(super) fn boot(&mut self) -> Flow {
        if self.engine.is_some() {
            return Ok(());
        }
        self.life += 1;
        self.woken.clear();
        let now = self.now();
        for thread in 0..self.durable.announcements.len() {
            let left: Vec<_> = self
                .durable
                .announcements
                .get(thread)
                .map_or_else(Vec::new, |m| m.records().cloned().collect());
            left.iter().for_each(|encoded| self.durable.store.announcement(encoded));
            self.durable.point()?;
            if let Some(memory) = self.durable.announcements.get_mut(thread) {
                memory.clear();
            }
        }
        let newest = self.durable.store.history.keys().next_back().map_or(0, |position| position.epoch);
        let epoch = self.durable.store.epoch.max(newest) + 1;
        self.durable.store.epoch = epoch;
        self.durable.point()?;
        self.check_history_survives()?;
        self.truth.life_begins(&self.durable.store);
        let mut threads: Vec<SourceThread> =
            (0..self.drawn.source_threads).map(|_| SourceThread::default()).collect();
        let mut sources = self.load_sources(now);
        sources::enter_races(&mut sources, &mut threads, &self.durable.store);
        let keys = KeyTable::new(self.durable.store.keys.iter().cloned());
        let addresses = AddressTable::new(AddressLimits::default(), limits::ADDRESSES_TRACKED);
        let history: Vec<_> = self.durable.store.history.values().cloned().collect();
        let capacity = (epoch, self.drawn.history);
        let seed = self.dice.next();
        let feeds = (0..self.drawn.writers).map(|_| Feed::new(now, capacity, &history, threads.len(), seed));
        let bounds = Bounds {
            in_flight: self.drawn.in_flight,
            pending_per_endpoint: self.drawn.pending_per_endpoint,
            pending: self.drawn.pending,
            ..Bounds::default()
        };
        let feeds = feeds.collect();
        let healing = self.drawn.self_healing;
        self.deliveries.before_start(&self.durable.store);
        let webhook = Webhook::start(now, bounds, healing, threads.len(), &mut self.durable, self.plant)?;
        self.engine = Some(Box::new(Engine {
            epoch,
            next_seq: 1,
            unsettled: threads.iter().map(|_| VecDeque::new()).collect(),
            journal: Journal::new(threads.len()),
            threads,
            sources,
            admission: Admission::new(keys, addresses, 100_000),
            feeds,
            webhook,
            known: history.iter().map(|encoded| encoded.announcement.position).collect(),
        }));
        self.say(|| format!("life {} begins, epoch {epoch}", self.life));
        self.started();
        Ok(())
    }

    fn started(&mut self) {
        let Some(engine) = &self.engine else { return };
        let (sources, feeds) = (engine.sources.len(), engine.feeds.len());
        for source in 0..if self.feeding { sources } else { 0 } {
            self.wake(Thing::Source(source), Duration::ZERO);
            let after = self.dice.millis(1, 2_000);
            self.plan(after, Event::Stream { source });
        }
        for writer in 0..if self.feeding { feeds } else { 0 } {
            self.wake(Thing::Feed(writer), Duration::ZERO);
        }
        self.wake(Thing::Webhook, Duration::ZERO);
        self.take_changes_up_again();
        for client in 0..self.clients.len() {
            self.come_back(client, Duration::from_secs(1));
        }
    }

    fn load_sources(&mut self, now: tocsin_core::time::Now) -> Vec<Source> {
        let mut sources = Vec::new();
        let fresh_for = self.drawn.fresh_for;
        let store = &mut self.durable.store;
        for (at, plan) in self.drawn.exchanges.iter().enumerate() {
            if let Some(spec) = specs::by_config_name(plan.kind.name()) {
                sources.push(Source::polled((at, plan), spec, fresh_for, store, now));
            }
            if let Some(spec) = stream::by_config_name(plan.kind.name()).filter(|_| plan.stream) {
                sources.push(Source::listened((at, plan), spec, fresh_for, store, now));
            }
        }
        sources
    }

    /// The life ends: what is not durable is gone.
    pub(super) fn die(&mut self, death: Death) -> Flow {
        self.say(|| format!("life {} ends: {}", self.life, death.name()));
        self.seen.deaths += 1;
        self.judge_all()?;
        self.engine = None;
        self.life += 1;
        self.woken.clear();
        self.durable.die(death);
        self.in_flight.clear();
        self.barriers.clear();
        self.outbox.borrow_mut().clear();
        self.deliveries.died(death);
        if death == Death::PowerCut {
            self.truth.power_cut(&self.durable.store);
        }
        self.lose_all_sessions();
        let rest = self.dice.millis(5, 30_000);
        self.plan(rest, Event::Boot);
        Ok(())
    }

    // ---- Source threads ------------------------------------------------------------------------

    /// A source asks for what its budget allows.
    pub(super) fn pace(&mut self, source: usize) -> Flow {
        let now = self.now();
        loop {
            let Some(engine) = &mut self.engine else { return Ok(()) };
            let Some(lane) = engine.sources.get_mut(source).filter(|_| self.feeding) else { return Ok(()) };
            let ask = match lane.pace(now) {
                Ok(ask) => ask,
                Err(until) => {
                    self.wake_at(Thing::Source(source), until.max(now.mono + Duration::from_millis(1)));
                    return Ok(());
                }
            };
            let exchange = lane.exchange;
            let rate = self.drawn.exchanges.get(exchange).map_or(1.0, |plan| plan.rate);
            self.truth.asked(source, rate, now.mono, self.life)?;
            let Some(exchange) = self.exchanges.get_mut(exchange) else { return Ok(()) };
            let (reply, latency) = exchange.answer(ask.list, ask.etag, (now.mono, now.wall));
            let slot = ask.slot;
            match sources::given_up_after(latency, &mut self.dice, self.faults.network) {
                Some(patience) => self.plan(patience, Event::Lost { source, slot }),
                None => self.plan(latency, Event::Answer { source, slot, reply }),
            }
        }
    }

    /// An answer, complete or given up.
    pub(super) fn answered(&mut self, source: usize, slot: usize, reply: &Reply) -> Flow {
        let now = self.now();
        let jitter = (self.dice.next() >> 32) as u32;
        let Some(engine) = &mut self.engine else { return Ok(()) };
        let Some(lane) = engine.sources.get_mut(source) else { return Ok(()) };
        let Some(thread) = engine.threads.get_mut(lane.thread) else { return Ok(()) };
        if thread.stalled > now.mono {
            // The thread is off its core: the bytes wait in the kernel.
            let (at, reply) = (thread.stalled, reply.clone());
            self.plan_at(at, Event::Answer { source, slot, reply });
            return Ok(());
        }
        let heard = lane.answer(slot, reply, now, jitter, self.plant, thread);
        let (name, thread) = (lane.name(), lane.thread);
        if let Reply::Status(..) | Reply::Broken(_) = reply {
            self.say(|| format!("source {source} on connection {slot}: {reply:?}"));
        }
        if let Heard::Read(page, list) = heard {
            let known = self.durable.store.lists.get(&(name, list)).is_some_and(|row| row.baselined);
            self.truth.shown(name, page.rows.iter().map(|row| &*row.id), now, known);
        }
        self.work(thread)?;
        self.pace(source)
    }

    /// Carries out what a source thread has to do, unless it loses its core in between.
    pub(super) fn work(&mut self, thread: usize) -> Flow {
        loop {
            let now = self.now();
            let Some(engine) = &mut self.engine else { return Ok(()) };
            let Some(at) = engine.threads.get_mut(thread) else { return Ok(()) };
            if at.stalled > now.mono {
                return Ok(());
            }
            let Some(op) = at.ops.pop_front() else { return Ok(()) };
            match op {
                Op::Announce(mut announcement) => {
                    if announcement.position.seq == 0 {
                        announcement.position = FeedPosition { epoch: engine.epoch, seq: engine.next_seq };
                        engine.next_seq += 1;
                        if self.faults.stalls && self.dice.per_mille(150) {
                            // Mostly shorter than a feed writer's patience, now and then longer.
                            let long = self.dice.per_mille(100);
                            let most = if long { 200 } else { 30 };
                            let until = now.mono + self.dice.millis(1, most);
                            at.stalled = until;
                            at.ops.push_front(Op::Announce(announcement));
                            self.wake_at(Thing::Thread(thread), until);
                            return Ok(());
                        }
                    }
                    self.announce(thread, *announcement)?;
                }
                Op::Settle => self.settle(thread)?,
                Op::Remember(row) => {
                    if let Some(ring) = engine.journal.from_sources.get_mut(thread) {
                        ring.push_back(Pending { row: Some(row), release: Release::Nothing });
                    }
                    self.wake_journal();
                    self.durable.point()?;
                }
            }
        }
    }

    /// Shared memory first, then every feed writer.
    fn announce(&mut self, thread: usize, announcement: Announcement) -> Flow {
        let now = self.now();
        let encoded = Arc::new(wire::encode(announcement));
        self.durable.point()?;
        let release = match self.durable.announcements.get_mut(thread) {
            Some(memory) if self.plant != Some(Plant::SkipJournal) => {
                Release::Source(thread, memory.append(Arc::clone(&encoded)))
            }
            _ => Release::Nothing,
        };
        let a = &encoded.announcement;
        self.say(|| format!("announced {} {} {:?} late {} {}", a.position, a.id, a.action, a.late, a.title));
        self.seen.announcements += 1;
        self.truth.announced(&encoded, now, &self.exchanges, self.drawn.fresh_for)?;
        self.durable.point()?;
        let Some(engine) = &mut self.engine else { return Ok(()) };
        for feed in &mut engine.feeds {
            if let Some(ring) = feed.from_sources.get_mut(thread) {
                ring.push_back(Arc::clone(&encoded));
            }
        }
        if let Some(unsettled) = engine.unsettled.get_mut(thread) {
            unsettled.push_back((encoded, release));
        }
        for writer in 0..engine.feeds.len() {
            self.wake_feed(writer);
        }
        self.durable.point()
    }

    /// To the webhook thread, then to the journal thread.
    fn settle(&mut self, thread: usize) -> Flow {
        let Some(engine) = &mut self.engine else { return Ok(()) };
        let Some(unsettled) = engine.unsettled.get_mut(thread) else { return Ok(()) };
        let unsettled = core::mem::take(unsettled);
        let tells =
            |a: &Announcement| a.classification.listing_type != ListingType::NotListing && a.action.is_news();
        for (encoded, _) in unsettled.iter().filter(|(encoded, _)| tells(&encoded.announcement)) {
            if let Some(ring) = engine.webhook.rings.get_mut(thread) {
                ring.push_back(Arc::clone(encoded));
            }
        }
        self.durable.point()?;
        for (encoded, release) in unsettled {
            if let Some(ring) = engine.journal.from_sources.get_mut(thread) {
                ring.push_back(Pending { row: Some(Row::Announcement(encoded)), release });
            }
        }
        let soon = self.lag(1, 50);
        self.wake(Thing::Webhook, soon);
        self.wake_journal();
        self.durable.point()
    }

    /// The time until another thread looks: microseconds, or more when it has lost its core.
    pub(super) fn lag(&mut self, low_us: u64, high_us: u64) -> Duration {
        if self.faults.stalls && self.dice.per_mille(20) {
            return self.dice.millis(1, 25);
        }
        self.dice.micros(low_us, high_us)
    }

    pub(super) fn wake_feed(&mut self, writer: usize) {
        let soon = self.lag(1, 20);
        self.wake(Thing::Feed(writer), soon);
    }

    pub(super) fn wake_journal(&mut self) {
        let soon = if self.faults.disk && self.dice.per_mille(300) {
            self.dice.millis(5, 3_000)
        } else {
            self.lag(100, 5_000)
        };
        self.wake(Thing::Journal, soon);
    }

    // ---- Streams -------------------------------------------------------------------------------

    /// A session of a stream begins or ends.
    pub(super) fn stream_changes(&mut self, source: usize) -> Flow {
        let now = self.now();
        let (feeding, fresh_for, plant) = (self.feeding, self.drawn.fresh_for, self.plant);
        let Some(engine) = &mut self.engine else { return Ok(()) };
        let Some(lane) = engine.sources.get_mut(source) else { return Ok(()) };
        let Path::Listened(listened) = &lane.path else { return Ok(()) };
        let open = listened.session.is_some();
        let Some(thread) = engine.threads.get_mut(lane.thread) else { return Ok(()) };
        let number = lane.thread;
        if open {
            lane.disconnected(now);
        } else if feeding {
            lane.connected(now, fresh_for, plant, thread);
        }
        self.say(|| format!("the stream {source} {}", if open { "ends" } else { "begins" }));
        if !open && self.faults.network {
            let after = self.dice.millis(1_000, 60_000);
            self.plan(after, Event::Stream { source });
        } else if open {
            let after = self.dice.millis(100, 10_000);
            self.plan(after, Event::Stream { source });
        }
        self.work(number)
    }

    /// A notice goes out on the streams of its exchange.
    pub(super) fn push_to_streams(&mut self, exchange: usize, notice: usize) {
        let Some(known) = self.exchanges.get(exchange).and_then(|e| e.notices.get(notice)).cloned() else {
            return;
        };
        let Some(engine) = &self.engine else { return };
        let listening = |(at, lane): (usize, &Source)| {
            (lane.exchange == exchange && matches!(lane.path, Path::Listened(_))).then_some(at)
        };
        let streams: Vec<usize> = engine.sources.iter().enumerate().filter_map(listening).collect();
        for source in streams {
            let now = self.now().wall;
            if let Some(text) = stream_message(&known, now) {
                let after = self.dice.millis(1, if self.faults.network { 3_000 } else { 50 });
                self.plan(after, Event::Pushed { source, text });
            }
        }
    }

    pub(super) fn pushed(&mut self, source: usize, text: &str) -> Flow {
        let now = self.now();
        let plant = self.plant;
        let Some(engine) = &mut self.engine else { return Ok(()) };
        let Some(lane) = engine.sources.get_mut(source) else { return Ok(()) };
        let Some(thread) = engine.threads.get_mut(lane.thread) else { return Ok(()) };
        if thread.stalled > now.mono {
            let (at, text) = (thread.stalled, text.to_owned());
            self.plan_at(at, Event::Pushed { source, text });
            return Ok(());
        }
        lane.message(text, now, plant, thread);
        let number = lane.thread;
        self.work(number)
    }

    // ---- The journal thread --------------------------------------------------------------------

    pub(super) fn journal_turn(&mut self) -> Flow {
        let now = self.now();
        self.durable.refuses = if self.faults.disk { 150 } else { 0 };
        let most = usize::try_from(self.dice.between(1, 40)).unwrap_or(1);
        let Some(engine) = &mut self.engine else { return Ok(()) };
        let mut answered = Vec::new();
        let done = engine.journal.step(now, most, &mut self.durable, self.plant, &mut answered);
        let retry = engine.journal.retry_at;
        let idle = engine.journal.is_idle();
        for change in answered {
            self.committed(change)?;
        }
        done?;
        if !idle {
            self.wake_at(Thing::Journal, retry.max(now.mono + Duration::from_millis(1)));
        }
        Ok(())
    }

    // ---- Feed threads --------------------------------------------------------------------------

    pub(super) fn feed_turn(&mut self, writer: usize) -> Flow {
        let now = self.now();
        let Some(engine) = &mut self.engine else { return Ok(()) };
        let Some(feed) = engine.feeds.get_mut(writer) else { return Ok(()) };
        let before = feed.remembered.len();
        let more = feed.turn(now, self.plant);
        let told = core::mem::take(&mut feed.told);
        let sent: Vec<_> = feed.remembered.get(before..).unwrap_or_default().to_vec();
        let deadline = feed.writer.deadline();
        let occupied = !feed.connections().is_empty();
        for sent in sent {
            self.truth.sent(writer, sent.position, now.mono)?;
        }
        for told in told {
            self.take_told(writer, told)?;
        }
        self.flush_outbox();
        let next = if more { now.mono + Duration::from_micros(50) } else { deadline.max(now.mono + LOOK) };
        // Nothing moves in a writer without subscribers when no source has anything for it.
        if more || self.feeding || occupied {
            self.wake_at(Thing::Feed(writer), next);
        }
        Ok(())
    }

    pub(super) fn take_changes_up_again(&mut self) {
        // Whoever asked for a change and was not answered asks again.
        let waiting: Vec<u64> = self.changes.keys().copied().collect();
        for change in waiting {
            self.request(change);
        }
    }
}

/// What the stream of Upbit writes of a notice.
fn stream_message(notice: &Notice, now: WallUs) -> Option<String> {
    crate::stream::upbit_message(
        notice.stream_id.parse().ok()?,
        &notice.title,
        notice.category,
        (notice.published, if notice.edits > 0 { now } else { notice.published }),
        notice.edits > 0,
    )
}

/// A check that needs no more than the store.
impl World {
    fn check_history_survives(&self) -> Result<(), Stop> {
        let missing =
            self.truth.must_be_stored().find(|position| !self.durable.store.history.contains_key(position));
        match missing {
            Some(position) => {
                broken("nothing announced is lost", format!("{position} is not in history after a start"))
            }
            None => Ok(()),
        }
    }
}
