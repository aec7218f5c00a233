//! The webhook thread: events of announcements and of market watchers to customers' endpoints, signed, over TLS.
//!
//! Contract: it takes announcements and market events from rings that nobody waits on, decides nothing itself (that is
//! `tocsin_core::webhook`), and moves bytes: one event loop, no worker slots, so that a receiver that
//! hangs costs the others nothing. When an announcement comes, all its first attempts on warm
//! connections are written in one pass, before anything else is done; everything else is done in
//! slices, with a look at the announcement rings between any two pieces of it. What became of each delivery goes into
//! shared memory before it goes anywhere ([`ledger::Ledger`]).
//!
//! Owner: itself, a housekeeping thread. It allocates, and blocks in `epoll_wait` only; source threads,
//! the resolver and the control plane wake it. Bounds: the dispatcher's ([`Bounds`]); connections: what
//! is in flight, and two warm ones an endpoint. It fails no further than one attempt: errors are
//! verdicts, counters and lines of the delivery log.

mod commands;
mod connection;
mod ledger;
mod notes;
mod receiver;
mod stats;
mod traffic;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mio::{Events, Poll, Token, Waker};
use rtrb::Consumer;
use tocsin_core::feed::slots::Slots;
use tocsin_core::limits;
use tocsin_core::market::VolumeTable;
use tocsin_core::time::{Mono, Now};
use tocsin_core::webhook::address::AddressPolicy;
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::dispatcher::{Action, Bounds, Dispatcher, Note};
use tocsin_core::webhook::endpoint::SavedHealth;
use tocsin_core::webhook::event::{Event, IdKey};
use tocsin_core::webhook::filter::EventFilter;
use tocsin_core::webhook::outgoing::Outgoing;
use tocsin_core::webhook::schedule::scatter;
use tocsin_core::webhook::signature::Brand;
use tocsin_core::wire::EncodedAnnouncement;

pub use stats::WebhookStats;

use super::{Pulse, Step, Turn};
use crate::net::egress::EgressClient;
use crate::net::tls::ClientTls;
use crate::os::clock;
use crate::rings::{EndpointSetup, MarketToWebhook, ToWebhook, WebhookToJournal};
use crate::store::shm::OutcomeLog;
use crate::store::webhook::deliveries::WebhookStart;
use connection::{Attempt, Connection, Exchange};
use ledger::Ledger;
use notes::{Details, Waiters};
use receiver::Receiver;
use stats::add;

const WAKER: Token = Token(0);
const FIRST_CONNECTION: usize = 1;
/// Longest wait without a deadline: the watchdog wants to see it move.
const IDLE_WAIT: Duration = Duration::from_millis(500);
/// Between two looks at what waits for room in the journal's ring.
const RETRY_WAIT: Duration = Duration::from_millis(1);
/// Between two publications of distributions, and two looks for attempts that wait for a name too long.
const HOUSEKEEPING: Duration = Duration::from_millis(100);
/// Things done in one turn at most, each kind: what an announcement may have to wait behind.
const ACTIONS_PER_TURN: usize = 256;
const EVENTS_PER_TURN: usize = 64;
const HANDSHAKES_PER_TURN: usize = 4;
const DIALS_PER_TURN: usize = 16;
const COMMANDS_PER_TURN: usize = 16;
const MARKET_PER_TURN: usize = 16;
/// At a stop, answers to what is in flight are waited for so long: each saves a repetition.
const STOP_PATIENCE: Duration = Duration::from_secs(2);
const SCRATCH_BYTES: usize = 16 * 1_024;
/// Buffers kept for the next answers.
const POOLED_EXCHANGES: usize = 1_024;

/// What wakes the thread, made before it.
pub struct Bell {
    poll: Poll,
    waker: Arc<Waker>,
}

impl Bell {
    /// An epoll instance with a waker.
    ///
    /// # Errors
    /// The kernel gives none.
    pub fn new() -> io::Result<Bell> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        Ok(Bell { poll, waker })
    }

    /// For everyone who pushes into one of the thread's rings.
    #[must_use]
    pub fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }
}

/// What of the configuration the thread needs.
#[derive(Clone, Debug)]
pub struct WebhookSettings {
    /// Names in header names.
    pub brand: Brand,
    /// Auto-disabled endpoints are probed.
    pub self_healing: bool,
    /// Attempts in flight over all endpoints.
    pub max_in_flight: usize,
}

/// Everything the webhook thread is made of.
pub struct WebhookParts {
    /// What wakes it.
    pub bell: Bell,
    /// Every endpoint of the store with its health.
    pub endpoints: Vec<(EndpointSetup, SavedHealth)>,
    /// What the store holds that is not concluded.
    pub start: WebhookStart,
    /// From each source thread.
    pub announcements: Vec<Consumer<Arc<EncodedAnnouncement>>>,
    /// From the market thread, where there is one.
    pub market: Option<Consumer<MarketToWebhook>>,
    /// From the control plane.
    pub commands: Consumer<ToWebhook>,
    /// To the journal thread.
    pub journal: rtrb::Producer<WebhookToJournal>,
    /// Its shared-memory journal.
    pub log: Box<dyn OutcomeLog>,
    /// Names to addresses.
    pub resolver: EgressClient,
    /// Whom to trust.
    pub tls: ClientTls,
    /// Which addresses may be connected to.
    pub policy: Arc<AddressPolicy>,
    /// Event ids are derived with it.
    pub id_key: IdKey,
    /// From the configuration.
    pub settings: WebhookSettings,
    /// Where it counts.
    pub stats: Arc<WebhookStats>,
    /// Reads both clocks.
    pub clock: fn() -> Now,
    /// For what is spread, never for what is secret.
    pub seed: u64,
}

/// What the dispatcher keeps of an endpoint: all that is asked of each when an event comes.
#[derive(Debug)]
struct Wants {
    id: EndpointId,
    filter: EventFilter,
}

/// See the module head.
pub struct WebhookThread {
    poll: Poll,
    events: Events,
    /// Whether `events` holds what the last wait brought.
    waited: bool,
    announcements: Vec<Consumer<Arc<EncodedAnnouncement>>>,
    market: Option<Consumer<MarketToWebhook>>,
    /// The latest, empty before the first.
    volumes: Arc<VolumeTable>,
    commands: Consumer<ToWebhook>,
    resolver: EgressClient,
    ledger: Ledger,
    tls: ClientTls,
    policy: Arc<AddressPolicy>,
    id_key: IdKey,
    settings: WebhookSettings,
    clock: fn() -> Now,
    random: u64,
    dispatcher: Dispatcher<Outgoing, Wants>,
    receivers: HashMap<EndpointId, Box<Receiver>>,
    connections: Slots<Connection>,
    open_connections: usize,
    timers: BTreeSet<(Mono, u32)>,
    /// Connections with an event, and those whose event is work on a TLS handshake.
    ready: VecDeque<u32>,
    shaking: VecDeque<u32>,
    /// Attempts that need a connection made.
    cold: VecDeque<Box<Attempt>>,
    /// Endpoints whose warmth is to be looked after, and when.
    warm: BTreeSet<(Mono, EndpointId)>,
    /// Endpoints whose name is being looked up, and those that could not be asked for yet.
    resolving: BTreeSet<EndpointId>,
    unasked: VecDeque<EndpointId>,
    /// What is known of attempts whose note has not come out of the dispatcher yet, in its order.
    details: VecDeque<Details>,
    waiters: Waiters,
    next_number: u64,
    next_test: u64,
    identities: BTreeSet<Box<str>>,
    identity_order: VecDeque<Box<str>>,
    #[allow(clippy::vec_box, reason = "they move between here and connections, whole")]
    exchanges: Vec<Box<Exchange>>,
    recipients: Vec<EndpointId>,
    scratch: Box<[u8]>,
    stats: Arc<WebhookStats>,
    local: stats::Local,
    housekeeping_at: Mono,
}

impl WebhookThread {
    /// Takes its parts; endpoints and deliveries of earlier processes are taken in at `now`.
    #[must_use]
    pub fn new(parts: WebhookParts, now: Now) -> WebhookThread {
        let bounds = Bounds { in_flight: parts.settings.max_in_flight, ..Bounds::default() };
        let mut thread = WebhookThread {
            poll: parts.bell.poll,
            events: Events::with_capacity(1_024),
            waited: false,
            announcements: parts.announcements,
            market: parts.market,
            volumes: Arc::default(),
            commands: parts.commands,
            resolver: parts.resolver,
            ledger: Ledger::new(parts.log, parts.journal, Arc::clone(&parts.stats)),
            tls: parts.tls,
            policy: parts.policy,
            id_key: parts.id_key,
            settings: parts.settings,
            clock: parts.clock,
            random: parts.seed,
            dispatcher: Dispatcher::new(bounds),
            receivers: HashMap::new(),
            connections: Slots::default(),
            open_connections: 0,
            timers: BTreeSet::new(),
            ready: VecDeque::new(),
            shaking: VecDeque::new(),
            cold: VecDeque::new(),
            warm: BTreeSet::new(),
            resolving: BTreeSet::new(),
            unasked: VecDeque::new(),
            details: VecDeque::new(),
            waiters: Waiters::default(),
            next_number: parts.start.next_number.max(1),
            next_test: FIRST_TEST_NUMBER,
            identities: BTreeSet::new(),
            identity_order: VecDeque::new(),
            exchanges: Vec::new(),
            recipients: Vec::new(),
            scratch: vec![0; SCRATCH_BYTES].into(),
            stats: parts.stats,
            local: stats::Local::default(),
            housekeeping_at: Mono(0),
        };
        for (setup, saved) in &parts.endpoints {
            if let Err(refusal) = thread.take_in_endpoint(now, setup, Some(saved)) {
                tracing::error!(endpoint = setup.id.0, ?refusal, "a stored webhook endpoint is not taken");
            }
        }
        thread.take_in_pending(now, parts.start);
        thread
    }

    fn take_in_pending(&mut self, now: Now, start: WebhookStart) {
        for identity in start.identities {
            self.remember(identity);
        }
        let events: BTreeMap<u64, _> = start.events.into_iter().map(|event| (event.number, event)).collect();
        let mut refused = 0_usize;
        for delivery in &start.pending {
            let event = events.get(&delivery.event);
            let taken = event.map(|event| self.dispatcher.import(now, delivery, Arc::clone(event)));
            refused += usize::from(!matches!(taken, Some(Ok(()))));
        }
        for (delivery, event) in start.asked {
            refused += usize::from(self.dispatcher.import(now, &delivery, event).is_err());
        }
        if refused > 0 {
            tracing::warn!(refused, "pending deliveries of endpoints or events that are gone");
        }
    }

    /// Runs until `stop`, blocking in `epoll_wait` between turns, then waits a little for answers.
    pub fn run(&mut self, stop: &AtomicBool, pulse: &Pulse) {
        let mut last = clock::mono();
        while !stop.load(Ordering::Relaxed) {
            let now = (self.clock)();
            pulse.beat(now.mono, now.mono.since(last).as_nanos().try_into().unwrap_or(u64::MAX));
            last = now.mono;
            let turn = self.step(now);
            if turn.work == 0 {
                self.wait(turn.deadline.since(clock::mono()));
            }
        }
        self.finish((self.clock)());
    }

    fn wait(&mut self, timeout: Duration) {
        self.waited = self.poll.poll(&mut self.events, Some(timeout)).is_ok();
    }

    // ---- Announcements -------------------------------------------------------------------------

    /// Takes announcements and offers their events.
    fn hear(&mut self, now: Now) -> usize {
        let mut heard = 0;
        for ring in 0..self.announcements.len() {
            while let Some(Ok(announcement)) = self.announcements.get_mut(ring).map(Consumer::pop) {
                heard += 1;
                let volumes = Arc::clone(&self.volumes);
                let volume_of = |base: &str| volumes.of(base);
                for event in Event::with_volumes(&announcement, &self.id_key, volume_of) {
                    self.offer(now, &event);
                }
            }
        }
        heard
    }

    /// Takes what the market thread tells, a little at a time: behind announcements, as its events are rare
    /// and its tables are only for the announcements to come.
    fn hear_market(&mut self, now: Now) -> usize {
        let mut heard = 0;
        while heard < MARKET_PER_TURN
            && let Some(Ok(told)) = self.market.as_mut().map(Consumer::pop)
        {
            heard += 1;
            match told {
                MarketToWebhook::Volumes(table) => self.volumes = table,
                MarketToWebhook::Event(event) => {
                    if let Some(event) = Event::of_market(&event, &self.id_key) {
                        self.offer(now, &event);
                    }
                }
            }
            self.hear_first(now);
        }
        heard
    }

    fn offer(&mut self, now: Now, event: &Event) {
        if self.identities.contains(event.id.identity()) {
            return;
        }
        self.remember(event.id.identity().into());
        let Ok(outgoing) = Outgoing::of(event) else { return };
        add(&self.stats.events);
        let (late, kind, exchange) = (outgoing.late, outgoing.kind, outgoing.exchange);
        let queued = Arc::new(outgoing.queued(self.next_number, event.timestamp));
        self.next_number += 1;
        self.recipients.clear();
        if !late {
            let mut now = now;
            for endpoint in self.dispatcher.well_in_order() {
                let wants = |wants: &Wants| wants.filter.wants(kind, exchange);
                if self.dispatcher.offer(now, endpoint, &queued, wants) {
                    self.recipients.push(endpoint);
                    now = self.send_first(now);
                }
            }
            // Nothing on the way to a receiver waits for those that are away, nor for the journal.
            let recipients = &mut self.recipients;
            self.dispatcher.offer_to_rest(now, &queued, |wants| {
                let wanted = wants.filter.wants(kind, exchange);
                recipients.extend(wanted.then_some(wants.id));
                wanted
            });
        }
        self.recipients.sort_unstable();
        let recipients = self.recipients.as_slice().into();
        self.ledger.push(WebhookToJournal::Event { event: queued, recipients });
    }

    fn remember(&mut self, identity: Box<str>) {
        if self.identity_order.len() >= limits::WEBHOOK_IDENTITIES
            && let Some(oldest) = self.identity_order.pop_front()
        {
            self.identities.remove(&oldest);
        }
        self.identities.insert(identity.clone());
        self.identity_order.push_back(identity);
    }

    // ---- The dispatcher ------------------------------------------------------------------------

    /// Starts the first attempts that can be started, and nothing else. Returns the time after that.
    fn send_first(&mut self, now: Now) -> Now {
        let mut now = now;
        while let Some(start) = self.dispatcher.poll_first_attempt(now) {
            self.start(start, now);
            now = (self.clock)();
        }
        now
    }

    /// Does what the dispatcher says, up to a bound.
    fn act(&mut self, now: Now) -> usize {
        let mut done = 0;
        let mut now = now;
        while done < ACTIONS_PER_TURN {
            let next = self.dispatcher.poll(now);
            if !matches!(next, Some(Action::Note(Note::Changed { .. }))) {
                self.answer_those_told();
            }
            match next {
                None => break,
                Some(Action::Start(start)) => self.start(start, now),
                Some(Action::Note(note)) => self.take_note(now, note),
            }
            done += 1;
            now = (self.clock)();
            self.hear_first(now);
        }
        done
    }

    /// Between any two pieces of work: an announcement waits for one of them, never for a slice.
    fn hear_first(&mut self, now: Now) {
        if self.announcements.iter().any(|ring| !ring.is_empty()) {
            self.hear(now);
        }
    }

    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        scatter(self.random)
    }

    // ---- Housekeeping --------------------------------------------------------------------------

    fn keep_house(&mut self, now: Now) {
        if now.mono < self.housekeeping_at {
            return;
        }
        self.housekeeping_at = now.mono + HOUSEKEEPING;
        self.local.publish(&self.stats);
        let gauges = [
            (&self.stats.endpoints, self.receivers.len()),
            (&self.stats.pending, self.dispatcher.pending_total()),
            (&self.stats.in_flight, self.dispatcher.in_flight()),
            (&self.stats.connections, self.open_connections),
        ];
        for (gauge, value) in gauges {
            gauge.store(value as u64, Ordering::Relaxed);
        }
        self.expire_unresolved(now);
    }

    fn next_deadline(&self, now: Now) -> Mono {
        let first = |set: &BTreeSet<(Mono, u32)>| set.first().map_or(Mono::NEVER, |(at, _)| *at);
        let warm = self.warm.first().map_or(Mono::NEVER, |(at, _)| *at);
        let retry = if self.ledger.is_behind() || !self.unasked.is_empty() {
            now.mono + RETRY_WAIT
        } else {
            now.mono + IDLE_WAIT
        };
        self.dispatcher.deadline().min(first(&self.timers)).min(warm).min(retry).min(self.housekeeping_due())
    }

    /// Only while there is something whose publication somebody may wait for.
    fn housekeeping_due(&self) -> Mono {
        if self.dispatcher.in_flight() > 0 || !self.resolving.is_empty() {
            self.housekeeping_at
        } else {
            Mono::NEVER
        }
    }

    fn is_busy(&self) -> bool {
        !self.ready.is_empty() || !self.shaking.is_empty() || !self.cold.is_empty()
    }
}

/// Numbers of test events: far from those of the store.
const FIRST_TEST_NUMBER: u64 = 1 << 63;

impl Step for WebhookThread {
    fn step(&mut self, now: Now) -> Turn {
        let mut work = self.hear(now);
        work += self.act(now);
        work += self.hear_market(now);
        work += self.take_commands(now);
        work += self.take_lookups();
        work += self.take_events();
        work += self.drive_ready();
        work += self.drive_timers(now);
        work += self.open_cold();
        work += self.keep_warm(now);
        work += self.ledger.retry();
        self.answer_those_told();
        self.keep_house(now);
        work += usize::from(self.is_busy());
        Turn { work, deadline: self.next_deadline(now) }
    }

    /// Starts nothing more; what is answered within [`STOP_PATIENCE`] is not sent again by the next
    /// process.
    fn finish(&mut self, now: Now) {
        let end = now.mono + STOP_PATIENCE;
        loop {
            // First what the wait before has brought: the next one would drop it.
            self.take_events();
            self.drive_ready();
            let now = (self.clock)();
            self.take_notes(now);
            self.ledger.retry();
            let idle = self.dispatcher.in_flight() == 0 && !self.ledger.is_behind();
            if idle || now.mono >= end {
                return;
            }
            self.wait(RETRY_WAIT * 10);
        }
    }
}
