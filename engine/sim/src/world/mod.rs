//! A seeded world: the whole pure core of the engine in virtual time, with everything around it that can go
//! wrong, and checkers that know what must be true.
//!
//! Contract: [`run`] plays one world from its seed and says what it saw; the same seed, size and plant play the
//! same world on every machine. Sources, races, feed writers, sessions, admission and webhook deliveries are the
//! core's own; the threads around them, shared memory and the disk are models that keep the engine's order of
//! steps ([`durable`], [`journal`], [`sources`], [`feeds`], [`webhooks`]). A world has four parts: faults; a time
//! without, in which subscribers and sources must come to rest; hours of webhooks with faults; hours without, in
//! which every delivery must be concluded. One thread, no clock, no socket; it allocates as it likes. It fails
//! with a [`Violation`] and never otherwise.

mod boot;
mod checks;
mod clients;
mod deliveries;
mod dice;
mod draw;
mod durable;
mod exchange;
mod faults;
mod feeds;
mod journal;
mod market;
mod market_checks;
mod market_list;
mod net;
mod pipe;
mod plant;
mod sources;
mod teller;
mod webhooks;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt::{self, Display};
use std::rc::Rc;

use core::time::Duration;

use tocsin_core::source::backoff::Failure;
use tocsin_core::time::{Mono, Now, WallUs};
use tocsin_core::webhook::attempt::Report;
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::dispatcher::Ticket;

use boot::Engine;
use checks::Truth;
use clients::{Client, Session};
use deliveries::Deliveries;
use dice::{Clock, Dice};
use draw::{Drawn, Faults};
use durable::Durable;
use exchange::{Exchange, Reply};
use pipe::Outbox;
use webhooks::Receiver;

pub use draw::Size;
pub use plant::Plant;

/// What to play.
#[derive(Clone, Copy, Debug, Default)]
pub struct WorldOptions {
    /// How large worlds may become.
    pub size: Size,
    /// A bug to plant.
    pub plant: Option<Plant>,
    /// Every event is printed.
    pub trace: bool,
}

/// A rule was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The seed of the world.
    pub seed: u64,
    /// Which rule.
    pub check: &'static str,
    /// What was seen.
    pub what: String,
    /// When, since the world began.
    pub at: Duration,
    /// What was drawn for the seed.
    pub drawn: String,
}

impl Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation { seed: _, check, what, at, drawn } = self;
        write!(f, "{drawn}\n  after {at:?}: {check}: {what}")
    }
}

/// What a world saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Events of the world.
    pub events: u64,
    /// Announcements made.
    pub announcements: u64,
    /// Announcements received by subscribers.
    pub received: u64,
    /// Attempts at webhook deliveries.
    pub attempts: u64,
    /// Lives that ended.
    pub deaths: u64,
    /// What market watchers told.
    pub market_events: u64,
}

impl Seen {
    /// Adds another world's.
    pub const fn add(&mut self, other: Seen) {
        self.events += other.events;
        self.announcements += other.announcements;
        self.received += other.received;
        self.attempts += other.attempts;
        self.deaths += other.deaths;
        self.market_events += other.market_events;
    }
}

/// Plays the world of a seed.
///
/// # Errors
/// A rule was broken.
pub fn run(seed: u64, options: &WorldOptions) -> Result<Seen, Violation> {
    let mut world = World::new(seed, options);
    match world.play() {
        Ok(()) => Ok(world.seen),
        Err(stop) => Err(world.violation(stop)),
    }
}

/// What is drawn for a seed, in words.
#[must_use]
pub fn describe(seed: u64, size: Size) -> String {
    Drawn::of(seed, size).to_string()
}

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    Kill,
    PowerCut,
}

/// Why the world does not go on as it did.
#[derive(Debug)]
enum Stop {
    Death(Death),
    Broken { check: &'static str, what: String },
}

type Flow = Result<(), Stop>;

/// A rule is broken.
fn broken<T>(check: &'static str, what: impl Display) -> Result<T, Stop> {
    Err(Stop::Broken { check, what: what.to_string() })
}

/// A thread, or what stands for one; each is woken at one instant at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    Source(usize),
    Thread(usize),
    Feed(usize),
    Journal,
    Webhook,
}

/// What happens at an instant.
#[derive(Debug)]
enum Event {
    Wake(Thing),
    Answer { source: usize, slot: usize, reply: Reply },
    Lost { source: usize, slot: usize },
    Stream { source: usize },
    Pushed { source: usize, text: String },
    Deliver(u64),
    Uplink { connection: u64, bytes: Vec<u8> },
    Leave { connection: u64, reset: bool },
    Response { ticket: Ticket, report: Report },
    // Not of one life:
    Connect(usize),
    Act(usize),
    Chaos(faults::Chaos),
    Boot,
}

impl Event {
    const fn outlives(&self) -> bool {
        matches!(self, Event::Connect(_) | Event::Act(_) | Event::Chaos(_) | Event::Boot)
    }
}

struct Planned {
    at: Mono,
    nth: u64,
    life: u32,
    event: Event,
}

impl PartialEq for Planned {
    fn eq(&self, other: &Planned) -> bool {
        self.nth == other.nth
    }
}

impl Eq for Planned {}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Planned) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Planned {
    fn cmp(&self, other: &Planned) -> core::cmp::Ordering {
        (self.at, self.nth).cmp(&(other.at, other.nth))
    }
}

/// See the module head.
struct World {
    drawn: Drawn,
    plant: Option<Plant>,
    trace: bool,
    dice: Dice,
    clock: Clock,
    began: Mono,
    queue: BinaryHeap<Reverse<Planned>>,
    nth: u64,
    woken: BTreeMap<Thing, Mono>,
    life: u32,
    faults: Faults,
    /// Subscribers and sources are at work; after the second part they are not.
    feeding: bool,
    durable: Durable,
    engine: Option<Box<Engine>>,
    exchanges: Vec<Exchange>,
    clients: Vec<Client>,
    sessions: BTreeMap<u64, Session>,
    next_connection: u64,
    outbox: Outbox,
    receivers: BTreeMap<EndpointId, Receiver>,
    in_flight: BTreeMap<Ticket, EndpointId>,
    truth: Truth,
    deliveries: Deliveries,
    next_change: u64,
    changes: BTreeMap<u64, faults::Change>,
    /// Changes that wait until the webhook thread has told what they cause.
    barriers: Vec<u64>,
    began_wall: WallUs,
    /// The last part of deliveries, without faults.
    concluding: bool,
    seen: Seen,
}

/// How long a world may take to come to rest.
const REST: Duration = Duration::from_secs(25 * 60);
/// Longer than every ladder of retries with every wait a receiver may ask for.
const CONCLUSION: Duration = Duration::from_secs(7 * 24 * 3_600);

impl World {
    fn new(seed: u64, options: &WorldOptions) -> World {
        let drawn = Drawn::of(seed, options.size);
        let mut dice = Dice::new(seed, 2);
        let start_us = i64::try_from(dice.below(7 * 86_400_000_000)).unwrap_or(0);
        let clock = Clock::new(start_us, drawn.drift_ppb);
        let began = clock.now().mono;
        let mut world = World {
            plant: options.plant,
            trace: options.trace,
            durable: Durable::new(drawn.source_threads, Dice::new(seed, 3)),
            faults: drawn.faults,
            dice,
            clock,
            began,
            queue: BinaryHeap::new(),
            nth: 0,
            woken: BTreeMap::new(),
            life: 0,
            feeding: true,
            engine: None,
            exchanges: Vec::new(),
            clients: Vec::new(),
            sessions: BTreeMap::new(),
            next_connection: 1,
            outbox: Rc::default(),
            receivers: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            truth: Truth::default(),
            deliveries: Deliveries::default(),
            next_change: 1,
            changes: BTreeMap::new(),
            barriers: Vec::new(),
            began_wall: WallUs(0),
            concluding: false,
            seen: Seen::default(),
            drawn,
        };
        world.began_wall = world.now().wall;
        world.populate();
        world
    }

    fn now(&self) -> Now {
        self.clock.now()
    }

    fn say(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>14.6} {}", self.now().mono.since(self.began).as_secs_f64(), what());
        }
    }

    fn violation(&self, stop: Stop) -> Violation {
        let (check, what) = match stop {
            Stop::Broken { check, what } => (check, what),
            Stop::Death(death) => ("world", format!("a {} outside of a life", death.name())),
        };
        let at = self.now().mono.since(self.began);
        Violation { seed: self.drawn.seed, check, what, at, drawn: self.drawn.to_string() }
    }

    // ---- Time ----------------------------------------------------------------------------------

    fn plan(&mut self, after: Duration, event: Event) {
        let at = self.now().mono + after;
        self.plan_at(at, event);
    }

    fn plan_at(&mut self, at: Mono, event: Event) {
        self.nth += 1;
        self.queue.push(Reverse(Planned { at, nth: self.nth, life: self.life, event }));
    }

    /// Wakes a thing at an instant, unless it wakes before.
    fn wake_at(&mut self, thing: Thing, at: Mono) {
        let at = at.max(self.now().mono);
        if at == Mono::NEVER || self.woken.get(&thing).is_some_and(|due| *due <= at) {
            return;
        }
        self.woken.insert(thing, at);
        self.plan_at(at, Event::Wake(thing));
    }

    fn wake(&mut self, thing: Thing, after: Duration) {
        let at = self.now().mono + after;
        self.wake_at(thing, at);
    }

    /// Plays until an instant.
    fn run_until(&mut self, end: Mono) -> Flow {
        while self.queue.peek().is_some_and(|Reverse(next)| next.at <= end) {
            self.step()?;
        }
        self.clock.advance(end);
        Ok(())
    }

    /// Plays until nothing is left to be done, or the time is over; whether it came to rest.
    fn run_until_rest(&mut self, end: Mono, rests: impl Fn(&World) -> bool) -> Result<bool, Stop> {
        while !rests(self) {
            if self.queue.peek().is_none_or(|Reverse(next)| next.at > end) {
                return Ok(false);
            }
            self.step()?;
        }
        Ok(true)
    }

    fn step(&mut self) -> Flow {
        let Some(Reverse(Planned { at, life, event, .. })) = self.queue.pop() else { return Ok(()) };
        if !event.outlives() && life != self.life {
            return Ok(());
        }
        self.clock.advance(at);
        if let Event::Wake(thing) = event {
            if self.woken.get(&thing) != Some(&at) {
                return Ok(());
            }
            self.woken.remove(&thing);
        }
        self.seen.events += 1;
        match self.happen(event) {
            Err(Stop::Death(death)) => self.die(death),
            other => other,
        }
    }

    fn happen(&mut self, event: Event) -> Flow {
        match event {
            Event::Wake(Thing::Source(source)) => self.pace(source),
            Event::Wake(Thing::Thread(thread)) => self.work(thread),
            Event::Wake(Thing::Feed(writer)) => self.feed_turn(writer),
            Event::Wake(Thing::Journal) => self.journal_turn(),
            Event::Wake(Thing::Webhook) => self.webhook_turn(),
            Event::Answer { source, slot, reply } => self.answered(source, slot, &reply),
            Event::Lost { source, slot } => self.answered(source, slot, &Reply::Broken(Failure::Timeout)),
            Event::Stream { source } => self.stream_changes(source),
            Event::Pushed { source, text } => self.pushed(source, &text),
            Event::Deliver(connection) => self.deliver(connection),
            Event::Uplink { connection, bytes } => self.uplink(connection, &bytes),
            Event::Leave { connection, reset } => self.leave(connection, reset),
            Event::Response { ticket, report } => self.response(ticket, &report),
            Event::Connect(client) => self.connect(client),
            Event::Act(client) => self.act(client),
            Event::Chaos(chaos) => self.chaos(chaos),
            Event::Boot => self.boot(),
        }
    }

    // ---- The four parts ------------------------------------------------------------------------

    fn play(&mut self) -> Flow {
        self.say(|| self.drawn.to_string());
        self.plan(Duration::ZERO, Event::Boot);
        self.plan_chaos();
        let end = self.began + self.drawn.safety;
        self.run_until(end)?;
        self.say(|| "no more faults: subscribers and sources come to rest".to_owned());
        self.end_faults();
        self.come_to_rest()?;
        self.say(|| "sources and subscribers end; webhooks with faults".to_owned());
        self.end_feeding()?;
        self.trouble_webhooks();
        let hours = self.dice.below(9 * 3_600);
        let end = self.now().mono + Duration::from_secs(hours);
        self.run_until(end)?;
        self.say(|| "no more faults: deliveries are concluded".to_owned());
        self.end_faults();
        self.concluding = true;
        self.enable_all();
        let end = self.now().mono + CONCLUSION;
        if !self.run_until_rest(end, World::is_concluded)? {
            let left = self.engine.as_ref().map_or(0, |engine| engine.webhook.dispatcher.pending_total());
            return broken(
                "conclusion",
                format!("{left} deliveries are pending after {CONCLUSION:?} without faults"),
            );
        }
        self.check_conclusion()?;
        self.watch_markets()
    }

    /// The second part: everyone comes back, everything published is announced and received.
    fn come_to_rest(&mut self) -> Flow {
        let end = self.now().mono + REST;
        if !self.run_until_rest(end, World::is_at_rest)? {
            return broken("rest", self.unrest());
        }
        // What is published now meets a world in which nothing is wrong.
        for exchange in 0..self.exchanges.len() {
            self.publish(exchange);
        }
        let soon = self.now().mono + Duration::from_secs(120);
        self.run_until(soon)?;
        let end = self.now().mono + REST;
        if !self.run_until_rest(end, World::is_at_rest)? {
            return broken("rest", self.unrest());
        }
        self.check_rest()
    }
}
