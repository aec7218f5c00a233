//! Who lives in a world, and what happens to them: notices, moods, clogged connections, clocks that are set,
//! lives that end, and what administrators and customers ask for.

use core::time::Duration;

use tocsin_core::feed::admission::keys::key_hash;
use tocsin_core::feed::key::{AllowedExchanges, KeyId, KeyRecord, Tier};
use tocsin_core::model::{Exchange as Name, ExchangeSet};
use tocsin_core::source::exchange as specs;
use tocsin_core::time::{Mono, WallUs};
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::endpoint::{Disabled, SavedHealth, State};
use tocsin_core::webhook::filter::EventFilter;

use super::clients::{Client, Manner};
use super::dice::Dice;
use super::draw::Faults;
use super::durable::{EndpointRow, Row};
use super::exchange::Exchange;
use super::feeds::ToWriter;
use super::journal::{Pending, Release};
use super::plant::Plant;
use super::webhooks::{Command, Receiver};
use super::{Death, Event, Flow, Thing, World};

/// Something that happens to a world.
#[derive(Clone, Copy, Debug)]
pub(super) enum Chaos {
    Publish(usize),
    Meddle(usize),
    Mood(usize),
    ReceiverMood(EndpointId),
    Clog,
    Step,
    Death,
    Ask,
}

/// What an administrator or a customer asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Revoke(usize),
    Expire(usize, WallUs),
    Disable(EndpointId),
    Enable(EndpointId),
}

/// The text of a key.
pub(super) fn key_text(key: usize) -> String {
    format!("dsk_{key:064x}")
}

const DAY_US: i64 = 86_400_000_000;

impl World {
    pub(super) fn populate(&mut self) {
        let now = self.now();
        let seed = self.drawn.seed;
        for (at, plan) in self.drawn.exchanges.clone().into_iter().enumerate() {
            let salt = 100 + at as u64;
            if let Some(spec) = specs::by_config_name(plan.kind.name()) {
                self.exchanges.push(Exchange::new(plan, spec, seed ^ salt, now.wall, Dice::new(seed, salt)));
            }
        }
        let some: ExchangeSet = self.drawn.exchanges.iter().map(|plan| plan.kind.exchange()).collect();
        let keys = self.dice.between(1, 3);
        for key in 0..keys {
            let record = self.draw_key(usize::try_from(key).unwrap_or(0), some);
            self.durable.store.keys.push(record);
        }
        let keys = self.durable.store.keys.len();
        for client in 0..self.drawn.subscribers {
            let misbehaves = self.faults.subscribers;
            self.clients.push(Client::draw(&mut self.dice, client, keys, misbehaves, some));
        }
        for endpoint in 1..=self.drawn.endpoints {
            let id = EndpointId(endpoint);
            let verified = self.dice.per_mille(800);
            let state = if verified { State::Active } else { State::Pending };
            let health = SavedHealth { state, since: now.wall, failures: 0, slow: false };
            let exchanges = if self.dice.per_mille(800) { ExchangeSet::ALL } else { some };
            let filter = EventFilter { exchanges, ..EventFilter::default() };
            let verified_at = verified.then_some(WallUs(now.wall.0 - DAY_US));
            self.durable.store.endpoints.insert(id, EndpointRow { filter, health, verified_at });
            self.receivers.insert(id, Receiver::new(Dice::new(seed, 1_000 + endpoint)));
        }
    }

    fn draw_key(&mut self, key: usize, some: ExchangeSet) -> KeyRecord {
        let now = self.now().wall;
        let safety_us = i64::try_from(self.drawn.safety.as_micros()).unwrap_or(0);
        let dice = &mut self.dice;
        let tier = dice.pick(&[Tier::Basic, Tier::Premium], Tier::Premium);
        let names: Vec<&str> = some.iter().map(Name::name).collect();
        let allowed = match dice.per_mille(800) {
            true => AllowedExchanges::all(),
            false => AllowedExchanges::parse(&names.join(",")).unwrap_or_else(|_| AllowedExchanges::all()),
        };
        let ends = dice.per_mille(150);
        let expires_us = i64::try_from(dice.below(safety_us.unsigned_abs().max(1))).unwrap_or(0);
        KeyRecord {
            id: KeyId(i64::try_from(key).unwrap_or(0) + 1),
            hash: key_hash(key_text(key).as_bytes()).unwrap_or_default(),
            label: String::new(),
            tier,
            max_connections: dice.pick(&[1, 3, 20], 20),
            allowed,
            created_at: now,
            expires_at: ends.then_some(WallUs(now.0 + expires_us)),
            revoked_at: None,
            delay: Duration::from_millis(dice.pick(&[0, 0, 1_500, 20_000], 0)),
            redact: dice.per_mille(150),
            account: None,
        }
    }

    /// When what happens.
    pub(super) fn plan_chaos(&mut self) {
        let exchanges = self.exchanges.len();
        let sometime = |world: &mut World, chaos| {
            let ms = u64::try_from(world.drawn.safety.as_millis()).unwrap_or(1);
            let after = world.dice.millis(0, ms);
            world.plan(after, Event::Chaos(chaos));
        };
        for _ in 0..self.drawn.notices {
            let exchange = self.dice.index(exchanges);
            sometime(self, Chaos::Publish(exchange));
            if self.dice.per_mille(250) {
                sometime(self, Chaos::Meddle(exchange));
            }
        }
        let faults = self.faults;
        for exchange in 0..exchanges {
            for _ in 0..if faults.exchanges { 4 } else { 0 } {
                sometime(self, Chaos::Mood(exchange));
            }
        }
        for _ in 0..if faults.network { 2 * self.drawn.subscribers } else { 0 } {
            sometime(self, Chaos::Clog);
        }
        for _ in 0..if faults.clock { 3 } else { 0 } {
            sometime(self, Chaos::Step);
        }
        for _ in 0..self.drawn.crashes {
            sometime(self, Chaos::Death);
        }
        for _ in 0..self.dice.below(4) {
            sometime(self, Chaos::Ask);
        }
        self.plan_receiver_moods(self.drawn.safety);
        for client in 0..self.clients.len() {
            let after = self.dice.millis(0, 20_000);
            if let Some(client) = self.clients.get_mut(client) {
                client.due = true;
            }
            self.plan(after, Event::Connect(client));
        }
    }

    fn plan_receiver_moods(&mut self, within: Duration) {
        if !self.faults.receivers {
            return;
        }
        let ms = u64::try_from(within.as_millis()).unwrap_or(1).max(1);
        let endpoints: Vec<EndpointId> = self.receivers.keys().copied().collect();
        for endpoint in endpoints {
            for _ in 0..self.dice.between(1, 6) {
                let after = self.dice.millis(0, ms);
                self.plan(after, Event::Chaos(Chaos::ReceiverMood(endpoint)));
            }
        }
    }

    pub(super) fn chaos(&mut self, chaos: Chaos) -> Flow {
        match chaos {
            Chaos::Publish(exchange) => self.publish(exchange),
            Chaos::Meddle(exchange) => self.meddle(exchange),
            Chaos::Mood(exchange) => {
                let until = self.now().mono + self.dice.millis(1_000, 60_000);
                if let Some(exchange) = self.exchanges.get_mut(exchange).filter(|_| self.faults.exchanges) {
                    exchange.be_moody(until);
                }
            }
            Chaos::ReceiverMood(endpoint) => {
                let longest = self.dice.pick(&[20_000, 600_000, 14_400_000], 20_000);
                let until = self.now().mono + self.dice.millis(1_000, longest);
                if let Some(receiver) = self.receivers.get_mut(&endpoint).filter(|_| self.faults.receivers) {
                    receiver.be_moody(until);
                }
            }
            Chaos::Clog if self.faults.network => self.clog(),
            Chaos::Step if self.faults.clock => {
                let seconds = i64::from(self.dice.pick(&[1, 30, 400], 1));
                let by = if self.dice.coin() { seconds } else { -seconds } * 1_000_000;
                // What ended by the clock before it is set back has ended rightly.
                self.truth.clock_was_set(self.now().wall);
                self.clock.step(by);
                self.say(|| format!("the wall clock is set by {by} us"));
            }
            Chaos::Death if self.engine.is_some() => {
                let death = match (self.faults.kills, self.faults.power) {
                    (true, true) if self.dice.coin() => Death::PowerCut,
                    (true, _) => Death::Kill,
                    (false, true) => Death::PowerCut,
                    (false, false) => return Ok(()),
                };
                let points = u32::try_from(self.dice.below(40)).unwrap_or(0);
                self.durable.light(points, death);
                // A life in which nothing happens ends too.
                if self.dice.per_mille(300) {
                    return Err(super::Stop::Death(death));
                }
            }
            // Who switches an endpoint off in the last part keeps its deliveries from being concluded.
            Chaos::Ask if !self.concluding => self.ask(),
            Chaos::Ask | Chaos::Clog | Chaos::Step | Chaos::Death => {}
        }
        Ok(())
    }

    pub(super) fn publish(&mut self, exchange: usize) {
        let now = self.now().wall;
        let Some(at) = self.exchanges.get_mut(exchange) else { return };
        let notice = at.publish(now);
        let known = at.notices.get(notice).cloned();
        self.say(|| format!("exchange {exchange} publishes {notice}: {known:?}"));
        self.push_to_streams(exchange, notice);
    }

    fn meddle(&mut self, exchange: usize) {
        let now = self.now().wall;
        let what = self.dice.below(6);
        let Some(at) = self.exchanges.get_mut(exchange) else { return };
        match what {
            0 => at.delete(),
            1 => at.pin(),
            _ => {
                if let Some(notice) = at.edit(now) {
                    self.say(|| format!("exchange {exchange} edits {notice}"));
                    self.push_to_streams(exchange, notice);
                }
            }
        }
    }

    // ---- What is asked for ---------------------------------------------------------------------

    fn ask(&mut self) {
        let key = self.dice.index(self.durable.store.keys.len());
        let endpoint = EndpointId(self.dice.between(1, self.drawn.endpoints.max(1)));
        let soon = WallUs(self.now().wall.0 + i64::try_from(self.dice.below(60_000_000)).unwrap_or(0));
        let change = match self.dice.below(4) {
            0 => Change::Revoke(key),
            1 => Change::Expire(key, soon),
            _ if self.drawn.endpoints == 0 => return,
            2 => Change::Disable(endpoint),
            _ => Change::Enable(endpoint),
        };
        self.ask_for(change);
    }

    fn ask_for(&mut self, change: Change) {
        let number = self.next_change;
        self.next_change += 1;
        self.changes.insert(number, change);
        self.say(|| format!("asked for {change:?}"));
        self.request(number);
    }

    /// Into the engine, whose journal thread commits it before it is answered.
    pub(super) fn request(&mut self, number: u64) {
        let now = self.now();
        let Some(change) = self.changes.get(&number).copied() else { return };
        let plant = self.plant;
        let Some(engine) = self.engine.as_deref_mut() else { return };
        let id = |key: usize| KeyId(i64::try_from(key).unwrap_or(0) + 1);
        let row = match change {
            Change::Revoke(key) => Some(Row::Revoked { key: id(key), at: now.wall }),
            Change::Expire(key, at) => Some(Row::Expiry { key: id(key), at: Some(at) }),
            Change::Disable(endpoint) => {
                if plant != Some(Plant::DisabledEndpointServed) {
                    engine.webhook.commands.push_back(Command::Disable(endpoint));
                }
                None
            }
            Change::Enable(endpoint) => {
                self.deliveries.enabled(endpoint);
                engine.webhook.commands.push_back(Command::Enable(endpoint));
                None
            }
        };
        match row {
            Some(row) => {
                engine
                    .journal
                    .requests
                    .push_back(Pending { row: Some(row), release: Release::Answer(number) });
                self.wake_journal();
            }
            None => {
                // What the webhook thread changed goes to the journal thread before the request that waits for it.
                self.barriers.push(number);
                self.wake(Thing::Webhook, Duration::ZERO);
            }
        }
    }

    /// What was asked for is on disk: it is answered, and takes effect.
    pub(super) fn committed(&mut self, number: u64) -> Flow {
        let now = self.now();
        let Some(change) = self.changes.remove(&number) else { return Ok(()) };
        self.say(|| format!("{change:?} is answered"));
        let plant = self.plant;
        let Some(engine) = self.engine.as_deref_mut() else { return Ok(()) };
        let id = |key: usize| KeyId(i64::try_from(key).unwrap_or(0) + 1);
        match change {
            Change::Revoke(key) => {
                self.truth.revoked(key, now);
                engine.admission.keys.revoke(id(key), now.wall);
                for feed in engine.feeds.iter_mut().filter(|_| plant != Some(Plant::RevokedKeyLives)) {
                    feed.accept.push_back(ToWriter::Revoke(id(key)));
                }
            }
            Change::Expire(key, at) => {
                let record = engine.admission.keys.get(id(key)).map(|entry| entry.record.clone());
                if let Some(mut record) = record {
                    record.expires_at = Some(at);
                    engine.admission.keys.upsert(record);
                }
                for feed in &mut engine.feeds {
                    feed.accept.push_back(ToWriter::Expiry(id(key), Some(at)));
                }
                self.truth.expires(key, at);
            }
            Change::Disable(endpoint) => {
                let known = engine.webhook.dispatcher.endpoint(endpoint);
                let off = known.is_some_and(|e| e.state() == State::Disabled(Disabled::User));
                if off || plant == Some(Plant::DisabledEndpointServed) {
                    self.deliveries.disabled(endpoint);
                }
            }
            Change::Enable(_) => {}
        }
        for writer in 0..self.drawn.writers {
            self.wake_feed(writer);
        }
        Ok(())
    }

    // ---- The end of parts ----------------------------------------------------------------------

    pub(super) fn end_faults(&mut self) {
        self.faults = Faults::NONE;
        self.durable.refuses = 0;
        self.truth.rest_from = self.now().mono;
        self.exchanges.iter_mut().for_each(Exchange::recover);
        self.receivers.values_mut().for_each(Receiver::recover);
        for client in &mut self.clients {
            client.manner = Manner::Good;
        }
        let connections: Vec<u64> = self.sessions.keys().copied().collect();
        for connection in connections {
            if let Some(session) = self.sessions.get_mut(&connection) {
                session.manner = if session.manner == Manner::NoPong { Manner::NoPong } else { Manner::Good };
                session.vanished = false;
                session.clogged_until = Mono(0);
            }
            self.outbox.borrow_mut().push(connection);
        }
        self.flush_outbox();
        // Nobody comes to a world whose engine is not there.
        if self.engine.is_none() {
            self.plan(Duration::ZERO, Event::Boot);
        }
        for source in 0..self.engine.as_ref().map_or(0, |engine| engine.sources.len()) {
            self.plan(Duration::from_secs(1), Event::Stream { source });
        }
    }

    /// Sources and subscribers end; the engine's drain tells everyone.
    pub(super) fn end_feeding(&mut self) -> Flow {
        self.feeding = false;
        let until = self.now().mono + Duration::from_secs(5);
        if let Some(engine) = self.engine.as_deref_mut() {
            for feed in &mut engine.feeds {
                feed.accept.push_back(ToWriter::Drain(until));
            }
        }
        self.truth.draining = true;
        for writer in 0..self.drawn.writers {
            self.wake_feed(writer);
        }
        self.run_until(until + Duration::from_secs(10))?;
        self.check_drained()?;
        // Nothing moves in a feed writer without subscribers.
        self.woken.retain(|thing, _| !matches!(thing, Thing::Feed(_) | Thing::Source(_)));
        Ok(())
    }

    /// The third part: hours in which receivers misbehave and lives end.
    pub(super) fn trouble_webhooks(&mut self) {
        let Faults { receivers, kills, power, disk, clock, .. } = self.drawn.faults;
        self.faults = Faults { receivers, kills, power, disk, clock, ..Faults::NONE };
        self.plan_receiver_moods(Duration::from_secs(9 * 3_600));
        for _ in 0..if kills || power { self.drawn.crashes } else { 0 } {
            let after = self.dice.millis(0, 6 * 3_600_000);
            self.plan(after, Event::Chaos(Chaos::Death));
        }
        for _ in 0..self.dice.below(3) {
            let after = self.dice.millis(0, 3_600_000);
            self.plan(after, Event::Chaos(Chaos::Ask));
        }
    }

    /// Whoever is off for good is switched on again.
    pub(super) fn enable_all(&mut self) {
        let endpoints: Vec<EndpointId> = self.receivers.keys().copied().collect();
        for endpoint in endpoints {
            self.ask_for(Change::Enable(endpoint));
        }
    }
}
