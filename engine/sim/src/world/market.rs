//! The market watchers of a world: the core's [`Watcher`] with the engine's market thread around it, in a time of
//! their own at the end of the world.
//!
//! Contract: the thread's order is kept: an event goes to the feed, then to the webhook thread, then to the journal,
//! and what is known after it behind it; while the journal's ring is full, nothing is asked. A start loads what is
//! durable and makes webhook events good. A life may end between any two steps. Dice, deaths and faults are of the
//! market's own stream, so that nothing here changes what a seed means to the rest of its world. Owner: the world.
//! Waits are [`SPEED`] times shorter than by default. It fails with [`Stop::Broken`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use core::time::Duration;

use tocsin_core::market::book::Outcome;
use tocsin_core::market::message::encode_event;
use tocsin_core::market::record::{BookRecord, Ending, InstrumentRecord, Presence, Standing};
use tocsin_core::market::register::Hearing;
use tocsin_core::market::rules::{BookRules, micros};
use tocsin_core::market::watcher::{Changes, RequestId, Told, Watcher, WatcherRules};
use tocsin_core::market::{MarketEvent, MarketSpec, Trading, exchange as specs};
use tocsin_core::model::Exchange;
use tocsin_core::source::backoff::Failure;
use tocsin_core::source::{ParseError, Scratch};
use tocsin_core::time::{Mono, Now, WallUs};
use tocsin_core::webhook::event::{Event, IdKey};

use super::dice::{Clock, Dice};
use super::draw::{Faults, Size};
use super::market_checks::Tellings;
use super::market_list::{Market, Reply};
use super::plant::Plant;
use super::{Death, Flow, Stop, World, broken};

/// See the module head.
pub(super) const SPEED: f64 = 10.0;
const SETTLE: Duration = Duration::from_secs(2);
/// Rows of one commit at most.
const COMMIT: usize = 8;
/// Rows the journal's ring takes: few, so that it is full at times.
const RING: usize = 12;
/// Long enough for every wait of the rules, for every pause after a refusal and for three answers behind them.
const CALM: Duration = Duration::from_secs(1_200);

/// What the watchers of a seed are.
#[derive(Clone, Debug, Default)]
pub(super) struct MarketPlan {
    /// None: the world has no watchers.
    pub(super) exchanges: Vec<Exchange>,
    pub(super) safety: Duration,
    /// Sources of notices answer; else there are none.
    pub(super) heard: bool,
    pub(super) crashes: u64,
}

/// Exchanges that may be watched: they show what comes and what ends in as many ways as there are.
const EXCHANGES: [Exchange; 8] = [
    Exchange::Okx,
    Exchange::Gate,
    Exchange::Upbit,
    Exchange::Kraken,
    Exchange::Htx,
    Exchange::Bitget,
    Exchange::Bithumb,
    Exchange::Hyperliquid,
];

impl MarketPlan {
    /// Pure; of dice of its own.
    pub(super) fn of(seed: u64, size: Size, faults: &Faults) -> MarketPlan {
        let mut dice = Dice::new(seed, 9);
        let (share, most) = match size {
            Size::Small => (300, 400),
            Size::Full => (800, 1_800),
        };
        if !dice.per_mille(share) {
            return MarketPlan::default();
        }
        let first = dice.index(EXCHANGES.len());
        let second = first + 1 + dice.index(EXCHANGES.len() - 1);
        let two = dice.per_mille(300);
        let at = |nth: usize| EXCHANGES.get(nth % EXCHANGES.len()).copied();
        MarketPlan {
            exchanges: at(first).into_iter().chain(at(second).filter(|_| two)).collect(),
            safety: Duration::from_secs(dice.between(200, most)),
            heard: dice.coin(),
            crashes: if faults.kills || faults.power { dice.between(1, 5) } else { 0 },
        }
    }
}

/// A row on its way to the disk, and the telling it belongs to.
#[derive(Clone, Debug)]
enum Row {
    Event(MarketEvent, u64),
    Changes(Changes, u64),
    Webhook(String),
}

/// What is synced.
#[derive(Debug, Default)]
pub(super) struct Stored {
    books: BTreeMap<(&'static str, &'static str), BookRecord>,
    records: BTreeMap<(&'static str, &'static str, Box<str>), InstrumentRecord>,
    /// By identity, in the order of arrival.
    pub(super) events: Vec<MarketEvent>,
    /// Identities of webhook events.
    pub(super) webhooks: BTreeSet<String>,
}

/// What dies with the process.
struct Live {
    watcher: Watcher,
    journal: VecDeque<Row>,
    /// From the webhook thread.
    webhook_rows: VecDeque<Row>,
    webhook: VecDeque<MarketEvent>,
    identities: BTreeSet<String>,
    out: Vec<(Mono, RequestId, Reply)>,
    /// Since when answers have been held back.
    held: BTreeMap<RequestId, WallUs>,
    told: Told,
    settle_at: Mono,
    stalled: Mono,
    journal_at: Mono,
}

/// See the module head.
pub(super) struct Watch {
    plan: MarketPlan,
    specs: Vec<&'static MarketSpec>,
    plant: Option<Plant>,
    faults: Faults,
    dice: Dice,
    clock: Clock,
    key: IdKey,
    scratch: Scratch,
    pub(super) markets: Vec<Market>,
    pub(super) stored: Stored,
    /// Written, not synced.
    tail: Vec<Row>,
    live: Option<Live>,
    boot_at: Mono,
    fuse: Option<(u64, Death)>,
    /// Requests that have a list.
    lists: usize,
    acts: bool,
    calm: bool,
    act_at: Mono,
    chaos_at: Mono,
    pub(super) tellings: Tellings,
    deaths: u64,
    trace: bool,
}

impl World {
    /// The last part: the watchers, where the world has some.
    pub(super) fn watch_markets(&mut self) -> Flow {
        let plan = self.drawn.markets.clone();
        if plan.exchanges.is_empty() {
            return Ok(());
        }
        let mut watch = Watch::new(self, plan);
        let played = watch.play();
        self.clock = watch.clock.clone();
        self.seen.deaths += watch.deaths;
        self.seen.market_events += watch.tellings.count();
        played
    }
}

impl Watch {
    fn new(world: &World, plan: MarketPlan) -> Watch {
        let clock = world.clock.clone();
        let specs = specs::ALL.into_iter().filter(|spec| plan.exchanges.contains(&spec.exchange)).collect();
        Watch {
            specs,
            plant: world.plant,
            faults: world.drawn.faults,
            dice: Dice::new(world.drawn.seed, 10),
            key: IdKey::new(&[7; 32]),
            scratch: Scratch::default(),
            markets: plan.exchanges.iter().map(|exchange| Market::new(*exchange)).collect(),
            stored: Stored::default(),
            tail: Vec::new(),
            live: None,
            boot_at: clock.now().mono,
            fuse: None,
            lists: 0,
            acts: false,
            calm: false,
            act_at: Mono(0),
            chaos_at: Mono(0),
            tellings: Tellings::default(),
            deaths: 0,
            trace: world.trace,
            clock,
            plan,
        }
    }

    fn say(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>14.6} market: {}", self.clock.now().mono.0 as f64 / 1e9, what());
        }
    }

    /// Faults, then a time without; in that something more happens to instruments, and all of it must be told.
    fn play(&mut self) -> Flow {
        let begin = self.clock.now();
        let requests: Vec<_> =
            self.specs.iter().flat_map(|spec| spec.requests.iter().map(|r| (*spec, r))).collect();
        for (spec, request) in requests.into_iter().filter(|(_, request)| request.tells.instruments()) {
            let Some(market) = self.markets.iter().find(|market| market.exchange == spec.exchange) else {
                continue;
            };
            let parsed = (request.parse)(&mut self.scratch, &mut market.list(request).1, &mut |_| {});
            self.lists += usize::from(parsed.is_ok_and(|parsed| parsed.rows > 0));
        }
        self.run_until(begin.mono + self.plan.safety)?;
        self.faults = Faults::NONE;
        self.plan.crashes = 0;
        self.fuse = None;
        self.markets.iter_mut().for_each(Market::recover);
        self.calm = true;
        // Whatever died comes back.
        let now = self.clock.now().mono;
        self.run_until(now + Duration::from_secs(200))?;
        for _ in 0..3 {
            self.act();
        }
        let now = self.clock.now().mono;
        self.run_until(now + CALM)?;
        self.check_calm()
    }

    fn run_until(&mut self, end: Mono) -> Flow {
        while self.clock.now().mono < end {
            let lap = self.dice.millis(100, 900);
            self.clock.advance(self.clock.now().mono + lap);
            match self.turn() {
                Err(Stop::Death(death)) => self.die(death),
                other => other?,
            }
        }
        Ok(())
    }

    fn point(&mut self) -> Flow {
        match &mut self.fuse {
            Some((0, death)) => {
                let death = *death;
                self.fuse = None;
                Err(Stop::Death(death))
            }
            Some((left, _)) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn turn(&mut self) -> Flow {
        let now = self.clock.now();
        self.chaos(now);
        if self.live.is_none() {
            return if now.mono >= self.boot_at { self.boot(now) } else { Ok(()) };
        }
        self.webhook_turn()?;
        self.journal_turn(now)?;
        if self.live.as_ref().is_some_and(|live| live.stalled > now.mono) {
            return Ok(());
        }
        self.answers(now)?;
        self.settle(now)?;
        self.ask(now);
        Ok(())
    }

    /// What happens to instruments, to the clock and to the process.
    fn chaos(&mut self, now: Now) {
        // Before all of that is durable, an answer may be the first, of which nothing is told.
        let known = self.stored.books.values().filter(|book| book.baselined).count();
        self.acts = !self.calm && known >= self.lists;
        if self.acts && now.mono >= self.act_at {
            self.act_at = now.mono + self.dice.millis(2_000, 60_000);
            self.act();
        }
        if now.mono < self.chaos_at {
            return;
        }
        self.chaos_at = now.mono + self.dice.millis(1_000, 60_000);
        if self.faults.exchanges && self.acts && self.dice.per_mille(150) {
            let at = self.dice.index(self.markets.len());
            if let Some(market) = self.markets.get_mut(at) {
                market.shrink(&mut self.dice, now.wall);
            }
        }
        if self.faults.clock && self.dice.per_mille(150) {
            let by = i64::try_from(self.dice.below(180)).unwrap_or(0) - 90;
            self.clock.step(by * 1_000_000);
        }
        if self.faults.stalls && self.dice.per_mille(200) {
            let until = now.mono + self.dice.millis(1, 20_000);
            if let Some(live) = &mut self.live {
                live.stalled = until;
            }
        }
        if self.plan.crashes > 0 && self.fuse.is_none() && self.dice.per_mille(300) {
            self.plan.crashes -= 1;
            let both = self.faults.kills && self.faults.power;
            let power = self.faults.power && (!both || self.dice.coin());
            self.fuse = Some((self.dice.below(24), if power { Death::PowerCut } else { Death::Kill }));
        }
    }

    fn act(&mut self) {
        let at = self.dice.index(self.markets.len());
        let wall = self.clock.now().wall;
        let Some(market) = self.markets.get_mut(at) else { return };
        let records = &self.stored.records;
        let sources = self.specs.iter().filter(|spec| spec.exchange == market.exchange);
        let sources: Vec<_> = sources.map(|spec| spec.name).collect();
        let known = |symbol: &str| {
            let mut of =
                records.iter().filter(|((source, _, s), _)| sources.contains(source) && **s == *symbol);
            of.any(|(_, record)| {
                let open = record.trading == Trading::Open && record.standing.opened;
                open && record.closes_at.is_none() && record.standing.ending == Ending::None
            })
        };
        let said = market.act(&mut self.dice, wall, &known);
        self.say(|| said);
    }

    // ---- Lives ---------------------------------------------------------------------------------

    fn boot(&mut self, now: Now) -> Flow {
        self.say(|| "a life begins".to_owned());
        let hearing = |_| if self.plan.heard { Hearing::Until(Default::default()) } else { Hearing::Never };
        let mut book = BookRules::default().faster(SPEED);
        if self.plant == Some(Plant::MarketShrunkBelieved) {
            (book.shrunk_percent, book.shrunk_at_most) = (100, usize::MAX);
        }
        let rules = WatcherRules { book, ..WatcherRules::default() };
        let mut watcher = Watcher::new(&rules, &self.specs, &hearing);
        for spec in &self.specs {
            for request in spec.requests {
                let of = (spec.name, request.name);
                let rows = self.stored.records.iter().filter(|((s, r, _), _)| (*s, *r) == of);
                let mut records: Vec<InstrumentRecord> = rows.map(|(_, record)| record.clone()).collect();
                if self.plant == Some(Plant::MarketToldForgotten) {
                    for record in &mut records {
                        let opened = record.standing.opened;
                        record.standing = Standing { opened, ..Standing::default() };
                    }
                }
                let book = self.stored.books.get(&of).copied().unwrap_or_default();
                watcher.load(spec.name, request.name, book, records);
            }
        }
        // What a crash cut off between the two threads is made good.
        for told in &self.stored.events {
            watcher.told_before(told.exchange, &told.source_item());
            if let Some(event) = Event::of_market(told, &self.key) {
                self.stored.webhooks.insert(event.id.identity().to_owned());
            }
        }
        self.live = Some(Live {
            watcher,
            journal: VecDeque::new(),
            webhook_rows: VecDeque::new(),
            webhook: VecDeque::new(),
            identities: self.stored.webhooks.clone(),
            out: Vec::new(),
            held: BTreeMap::new(),
            told: Told::default(),
            settle_at: now.mono + SETTLE,
            stalled: Mono(0),
            journal_at: Mono(0),
        });
        self.tellings.life_begins();
        self.point()
    }

    fn die(&mut self, death: Death) {
        self.say(|| format!("a life ends: {}", death.name()));
        self.deaths += 1;
        self.live = None;
        let tail = core::mem::take(&mut self.tail);
        if death == Death::Kill && self.dice.coin() {
            tail.into_iter().for_each(|row| self.apply(row));
        }
        self.tellings.life_ends(&self.stored.events);
        self.boot_at = self.clock.now().mono + self.dice.millis(5, 90_000);
    }

    // ---- The thread ----------------------------------------------------------------------------

    fn ask(&mut self, now: Now) {
        let Some(live) = &mut self.live else { return };
        // What finds its ring full waits, and meanwhile nothing is asked.
        while live.journal.len() <= RING
            && let Some(id) = live.watcher.due(now.mono)
        {
            let found = live.watcher.requests().find(|(of, ..)| *of == id);
            let Some((_, spec, request)) = found else { return };
            let market = self.markets.iter_mut().find(|market| market.exchange == spec.exchange);
            let Some(market) = market else { return };
            let faults = (self.faults.exchanges, self.faults.network);
            let (latency, reply) = market.answer(request, now.wall, faults, &mut self.dice);
            live.out.push((now.mono + latency, id, reply));
        }
    }

    fn answers(&mut self, now: Now) -> Flow {
        loop {
            let Some(live) = &mut self.live else { return Ok(()) };
            let Some(at) = live.out.iter().position(|(at, ..)| *at <= now.mono) else { return Ok(()) };
            let (_, id, reply) = live.out.swap_remove(at);
            let jitter = (self.dice.next() >> 32) as u32;
            match reply {
                Reply::Failed(failure, after) => live.watcher.failed(id, now.mono, failure, after, jitter),
                Reply::Body(mut body) => {
                    let scratch = &mut self.scratch;
                    match live.watcher.answer(id, scratch, &mut body, now.wall, now.wall, &mut live.told) {
                        Ok(report) => {
                            live.watcher.answered(id, now.mono);
                            self.belief(id, report.outcome, now.wall)?;
                        }
                        Err(ParseError::Refused(_)) => {
                            live.watcher.failed(id, now.mono, Failure::Forbidden, None, jitter);
                        }
                        Err(_) => live.watcher.failed(id, now.mono, Failure::Unusable, None, jitter),
                    }
                }
            }
            self.tell(now)?;
        }
    }

    /// A list that lost or gained too much is believed when it has stood, and no sooner.
    fn belief(&mut self, id: RequestId, outcome: Option<Outcome>, wall: WallUs) -> Flow {
        let Some(live) = &mut self.live else { return Ok(()) };
        match outcome {
            Some(Outcome::Held(_)) => _ = live.held.entry(id).or_insert(wall),
            Some(Outcome::Taken | Outcome::Baseline) => _ = live.held.remove(&id),
            Some(Outcome::Believed(how)) => {
                let stood = live.held.remove(&id).map_or(0, |since| wall.micros_since(since));
                let least = micros(BookRules::default().faster(SPEED).grown_stands);
                if stood < least {
                    return broken("market belief", format!("a list is believed after {stood} us: {how:?}"));
                }
                let of = live.watcher.requests().find(|(request, ..)| *request == id);
                let exchange = of.map(|(_, spec, _)| spec.exchange);
                let markets = self.markets.iter_mut().filter(|market| Some(market.exchange) == exchange);
                markets.for_each(Market::believed);
            }
            Some(Outcome::Empty) | None => {}
        }
        Ok(())
    }

    fn settle(&mut self, now: Now) -> Flow {
        let Some(live) = self.live.as_mut().filter(|live| now.mono >= live.settle_at) else { return Ok(()) };
        live.settle_at = now.mono + SETTLE;
        if self.plan.heard {
            self.plan.exchanges.iter().for_each(|exchange| live.watcher.heard(*exchange, now.wall));
        }
        live.watcher.settle(now.wall, &mut live.told);
        self.tell(now)
    }

    /// As the thread's outlets do: feed, webhook thread, journal, and behind it what is then known.
    fn tell(&mut self, now: Now) -> Flow {
        let Some(live) = self.live.as_mut().filter(|live| !live.told.is_empty()) else { return Ok(()) };
        let told = core::mem::take(&mut live.told);
        let rows = told.events.len() + told.changes.len();
        let telling = self.tellings.begins(told.events.clone(), rows);
        let hasty = self.plant == Some(Plant::MarketStoredFirst);
        if hasty {
            live.journal.extend(told.events.iter().map(|event| Row::Event(event.clone(), telling)));
            live.journal.extend(told.changes.iter().map(|changes| Row::Changes(changes.clone(), telling)));
            live.journal_at = now.mono;
            self.journal_turn(now)?;
        }
        for event in told.events {
            self.point()?;
            self.say(|| format!("told {} {}", event.source_item(), event.state));
            self.told(&event, &encode_event(&event))?;
            self.point()?;
            let Some(live) = &mut self.live else { return Ok(()) };
            live.webhook.push_back(event.clone());
            self.point()?;
            if let Some(live) = self.live.as_mut().filter(|_| !hasty) {
                live.journal.push_back(Row::Event(event, telling));
            }
        }
        for changes in told.changes {
            self.point()?;
            if let Some(live) = self.live.as_mut().filter(|_| !hasty) {
                live.journal.push_back(Row::Changes(changes, telling));
            }
        }
        self.point()
    }

    fn webhook_turn(&mut self) -> Flow {
        loop {
            let Some(live) = &mut self.live else { return Ok(()) };
            let Some(told) = live.webhook.pop_front() else { return Ok(()) };
            let Some(event) = Event::of_market(&told, &self.key) else { continue };
            let identity = event.id.identity().to_owned();
            if live.identities.insert(identity.clone()) {
                live.webhook_rows.push_back(Row::Webhook(identity));
            }
            self.point()?;
        }
    }

    // ---- The journal thread --------------------------------------------------------------------

    fn journal_turn(&mut self, now: Now) -> Flow {
        loop {
            let Some(live) = self.live.as_mut().filter(|live| live.journal_at <= now.mono) else {
                return Ok(());
            };
            let most = 1 + self.dice.index(COMMIT);
            let mut rows: Vec<Row> = live.journal.iter().take(most).cloned().collect();
            let of_market = rows.len();
            rows.extend(live.webhook_rows.iter().take(most).cloned());
            let of_webhook = rows.len() - of_market;
            if rows.is_empty() {
                return Ok(());
            }
            let refuses = self.faults.disk && self.dice.per_mille(300);
            if self.faults.disk && self.dice.per_mille(300) {
                live.journal_at = now.mono + self.dice.millis(5, 5_000);
            }
            self.point()?;
            if refuses {
                return Ok(());
            }
            self.tail = rows;
            self.point()?;
            let rows = core::mem::take(&mut self.tail);
            rows.into_iter().for_each(|row| self.apply(row));
            if let Some(live) = &mut self.live {
                live.journal.drain(..of_market);
                live.webhook_rows.drain(..of_webhook);
            }
            self.point()?;
        }
    }

    fn apply(&mut self, row: Row) {
        match row {
            Row::Webhook(identity) => drop(self.stored.webhooks.insert(identity)),
            Row::Event(event, telling) => {
                let item = event.source_item();
                if !self.stored.events.iter().any(|known| known.source_item() == item) {
                    self.stored.events.push(event);
                }
                self.tellings.stored(telling);
            }
            Row::Changes(changes, telling) => {
                let Changes { source, request, records, forgotten, book } = changes;
                for symbol in forgotten {
                    self.stored.records.remove(&(source, request, symbol));
                }
                for record in records {
                    self.stored.records.insert((source, request, record.symbol.clone()), record);
                }
                if let Some(book) = book {
                    self.stored.books.insert((source, request), book);
                }
                self.tellings.stored(telling);
            }
        }
    }

    /// Pairs dropped untold, and instruments known by the largest book.
    pub(super) fn bounds(&self) -> (u64, usize) {
        let now = self.clock.now().mono;
        let Some(live) = &self.live else { return (0, 0) };
        let undecided = live.watcher.stats(now).map(|stats| stats.book.undecided).sum();
        (undecided, live.watcher.stats(now).map(|stats| stats.instruments).max().unwrap_or(0))
    }

    /// Whether so much ended between two answers that the list looks shrunk: by the rule of `docs/markets.md`, from
    /// what is on disk.
    pub(super) fn is_held(&self, market: &Market) -> bool {
        let rules = BookRules::default();
        let there = market.instruments.iter().filter(|instrument| market.shown(instrument).is_some());
        let there: BTreeSet<&str> = there.map(|instrument| instrument.symbol.as_str()).collect();
        let of_market = |source: &str| {
            self.specs.iter().any(|spec| spec.name == source && spec.exchange == market.exchange)
        };
        let mut lists: BTreeMap<(&str, &str), (usize, usize)> = BTreeMap::new();
        for ((source, request, symbol), record) in &self.stored.records {
            let live = record.standing.presence == Presence::Listed && record.trading != Trading::Over;
            if live && of_market(source) {
                let (known, absent) = lists.entry((source, request)).or_default();
                *known += 1;
                *absent += usize::from(!there.contains(symbol.as_ref()));
            }
        }
        lists.into_values().any(|(known, absent)| {
            absent > rules.shrunk_at_most || absent * 100 > known * rules.shrunk_percent
        })
    }

    pub(super) fn now(&self) -> Now {
        self.clock.now()
    }

    /// Identities of webhook events of what was told.
    pub(super) fn webhook_of(&self, event: &MarketEvent) -> Option<String> {
        Event::of_market(event, &self.key).map(|event| event.id.identity().to_owned())
    }
}
