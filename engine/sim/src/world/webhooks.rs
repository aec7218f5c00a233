//! The simulated webhook thread around the core's dispatcher, and the receivers it calls.
//!
//! Contract: the order is that of the engine's webhook thread: first attempts of an event before anything else,
//! then the event to the journal thread; an outcome into shared memory before it goes anywhere; a change of
//! health to the journal thread. A receiver answers by its mood. Owner: the world. Dies with
//! [`Stop`] at any point.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use core::time::Duration;

use tocsin_core::http1::response::RetryAfter;
use tocsin_core::limits;
use tocsin_core::time::{Mono, Now};
use tocsin_core::webhook::attempt::{FailureClass, Report};
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::dispatcher::{Action, Bounds, Dispatcher, Note, PendingDelivery, Sequel, Start};
use tocsin_core::webhook::endpoint::{Change, SavedHealth, State};
use tocsin_core::webhook::event::{Event, EventId, IdKey};
use tocsin_core::webhook::filter::EventFilter;
use tocsin_core::webhook::lane::Purpose;
use tocsin_core::webhook::outgoing::{Outcome, Outgoing, RecordedOutcome};
use tocsin_core::wire::EncodedAnnouncement;

use super::Stop;
use super::dice::Dice;
use super::durable::{Durable, Row, Store};
use super::journal::{Pending, Release};
use super::plant::Plant;

/// What the dispatcher keeps of an endpoint.
#[derive(Debug)]
pub(super) struct Wants {
    pub(super) id: EndpointId,
    filter: EventFilter,
}

/// What the control plane asks of the thread.
#[derive(Clone, Copy, Debug)]
pub(super) enum Command {
    Enable(EndpointId),
    Disable(EndpointId),
}

/// What the thread tells the world.
#[derive(Debug)]
pub(super) enum Tell {
    Offered {
        event: Event,
        outgoing: Outgoing,
        number: u64,
        recipients: Vec<EndpointId>,
    },
    Started(Start<Outgoing>),
    Settled(Note<Outgoing>),
    /// An outcome is safe from the death of the process.
    Recorded {
        event: EventId,
        endpoint: EndpointId,
        outcome: Outcome,
    },
    Changed {
        endpoint: EndpointId,
        change: Change,
        state: State,
    },
}

/// See the module head.
pub(super) struct Webhook {
    pub(super) dispatcher: Dispatcher<Outgoing, Wants>,
    pub(super) rings: Vec<VecDeque<Arc<EncodedAnnouncement>>>,
    pub(super) journal: VecDeque<Pending>,
    pub(super) commands: VecDeque<Command>,
    id_key: IdKey,
    identities: BTreeSet<Box<str>>,
    next_number: u64,
    pub(super) tells: Vec<Tell>,
    saved: BTreeMap<EndpointId, SavedHealth>,
}

/// The key that ids are derived with, the same in every world.
pub(super) fn id_key() -> IdKey {
    IdKey::new(&[7; 32])
}

impl Webhook {
    /// With what the store holds; what the last life left is made good first.
    pub(super) fn start(
        now: Now,
        bounds: Bounds,
        self_healing: bool,
        threads: usize,
        durable: &mut Durable,
        plant: Option<Plant>,
    ) -> Result<Webhook, Stop> {
        make_good(durable, plant);
        durable.point()?;
        durable.outcomes.clear();
        let store = &durable.store;
        let mut webhook = Webhook {
            dispatcher: Dispatcher::new(bounds),
            rings: (0..threads).map(|_| VecDeque::new()).collect(),
            journal: VecDeque::new(),
            commands: VecDeque::new(),
            id_key: id_key(),
            identities: store.events.values().map(|row| row.event.payload.id.identity().into()).collect(),
            next_number: store.next_event(),
            tells: Vec::new(),
            saved: BTreeMap::new(),
        };
        for (id, row) in &store.endpoints {
            let wants = Wants { id: *id, filter: row.filter };
            // Numbers of the store are different ones, and fewer than the bound.
            let _ = webhook.dispatcher.add(now, *id, wants, self_healing, Some(&row.health));
            webhook.saved.insert(*id, row.health);
            if row.health.state == State::Pending {
                let _ = webhook.dispatcher.verify(now, *id);
            }
        }
        webhook.take_in(now, store);
        Ok(webhook)
    }

    fn take_in(&mut self, now: Now, store: &Store) {
        let mut retries = Vec::new();
        for (number, row) in &store.events {
            for endpoint in row.recipients.iter().filter(|(_, concluded)| !**concluded).map(|(id, _)| *id) {
                let delivery = |attempt, due| PendingDelivery { endpoint, event: *number, attempt, due };
                match store.deliveries.get(&(*number, endpoint)) {
                    Some((attempt, due)) => {
                        retries.push((delivery(*attempt, Some(*due)), Arc::clone(&row.event)));
                    }
                    None => drop(self.dispatcher.import(now, &delivery(1, None), Arc::clone(&row.event))),
                }
            }
        }
        for (delivery, event) in retries {
            let _ = self.dispatcher.import(now, &delivery, event);
        }
    }

    /// One turn; whether another follows at once, for what it did may have given more to do.
    pub(super) fn turn(
        &mut self,
        now: Now,
        durable: &mut Durable,
        plant: Option<Plant>,
    ) -> Result<bool, Stop> {
        self.hear(now, durable)?;
        let rests = self.act(now, durable, plant)?;
        Ok(self.take_commands(now, durable, plant)? || !rests)
    }

    /// What each changes is told and saved before the next is taken: in between, two changes of one endpoint
    /// would both be told with the state after the second. Whether there were any.
    fn take_commands(&mut self, now: Now, durable: &mut Durable, plant: Option<Plant>) -> Result<bool, Stop> {
        let any = !self.commands.is_empty();
        while let Some(command) = self.commands.pop_front() {
            // An endpoint that is not there is nobody's.
            let _ = match command {
                Command::Enable(endpoint) => self.dispatcher.enable(now, endpoint),
                Command::Disable(endpoint) => self.dispatcher.disable(now, endpoint),
            };
            while let Some(note) = self.dispatcher.poll_note() {
                self.note(now, note, durable, plant)?;
            }
        }
        Ok(any)
    }

    /// Does what the dispatcher says, up to a bound; whether that was all.
    fn act(&mut self, now: Now, durable: &mut Durable, plant: Option<Plant>) -> Result<bool, Stop> {
        for _ in 0..256 {
            match self.dispatcher.poll(now) {
                None => return Ok(true),
                Some(Action::Start(start)) => self.tells.push(Tell::Started(start)),
                Some(Action::Note(note)) => self.note(now, note, durable, plant)?,
            }
            self.hear(now, durable)?;
        }
        Ok(false)
    }

    fn hear(&mut self, now: Now, durable: &mut Durable) -> Result<(), Stop> {
        for ring in 0..self.rings.len() {
            while let Some(encoded) = self.rings.get_mut(ring).and_then(VecDeque::pop_front) {
                for event in Event::of(&encoded.announcement, &self.id_key) {
                    self.offer(now, event, durable)?;
                }
            }
        }
        Ok(())
    }

    fn offer(&mut self, now: Now, event: Event, durable: &mut Durable) -> Result<(), Stop> {
        if !self.identities.insert(event.id.identity().into()) {
            return Ok(());
        }
        let Ok(outgoing) = Outgoing::of(&event) else { return Ok(()) };
        let (late, kind, exchange) = (outgoing.late, outgoing.kind, outgoing.exchange);
        let number = self.next_number;
        self.next_number += 1;
        let queued = Arc::new(outgoing.clone().queued(number, event.timestamp));
        let mut recipients = Vec::new();
        let mut offered = 0;
        if !late {
            for endpoint in self.dispatcher.well_in_order() {
                if self.dispatcher.offer(now, endpoint, &queued, |w| w.filter.wants(kind, exchange)) {
                    recipients.push(endpoint);
                    while let Some(start) = self.dispatcher.poll_first_attempt(now) {
                        self.tells.push(Tell::Started(start));
                    }
                }
            }
            self.dispatcher.offer_to_rest(now, &queued, |wants| {
                let wanted = wants.filter.wants(kind, exchange);
                recipients.extend(wanted.then_some(wants.id));
                wanted
            });
            offered = recipients.len();
        }
        recipients.sort_unstable();
        recipients.dedup();
        debug_assert!(offered == recipients.len());
        self.tells.push(Tell::Offered { event, outgoing, number, recipients: recipients.clone() });
        durable.point()?;
        self.journal.push_back(Pending {
            row: Some(Row::Event { event: queued, recipients }),
            release: Release::Nothing,
        });
        durable.point()
    }

    fn note(
        &mut self,
        now: Now,
        note: Note<Outgoing>,
        durable: &mut Durable,
        plant: Option<Plant>,
    ) -> Result<(), Stop> {
        let (endpoint, outcome) = match &note {
            Note::Changed { endpoint, change } => {
                let (endpoint, change) = (*endpoint, *change);
                let Some(health) = self.dispatcher.endpoint(endpoint) else { return Ok(()) };
                let state = health.state();
                self.tells.push(Tell::Changed { endpoint, change, state });
                let health = health.saved(now);
                self.saved.insert(endpoint, health);
                let verified_at = (change == Change::Verified).then_some(now.wall);
                let row = Row::Health { endpoint, health, verified_at };
                self.journal.push_back(Pending { row: Some(row), release: Release::Nothing });
                return durable.point();
            }
            Note::Expired { endpoint, event, .. } => (*endpoint, Some((Arc::clone(event), Outcome::Expired))),
            Note::Settled { endpoint, purpose, event, sequel, .. } => {
                let outcome = match (purpose, sequel) {
                    (Purpose::Event { .. }, Sequel::Done) => Some(Outcome::Delivered),
                    (Purpose::Event { .. }, Sequel::Failed) => Some(Outcome::Failed),
                    (Purpose::Event { .. }, Sequel::Retry { attempt, due }) => {
                        Some(Outcome::Retry { attempt: *attempt, due: *due })
                    }
                    _ => None,
                };
                (*endpoint, outcome.and_then(|outcome| Some((Arc::clone(event.as_ref()?), outcome))))
            }
        };
        self.tells.push(Tell::Settled(note));
        if let Some((event, mut outcome)) = outcome {
            let told = outcome;
            durable.point()?;
            if let (Some(Plant::RetryStep), Outcome::Retry { attempt, .. }) = (plant, &mut outcome) {
                *attempt -= 1;
            }
            let record = RecordedOutcome { event: event.payload.id, endpoint, outcome };
            let release = match plant {
                Some(Plant::OutcomeNotJournaled) => Release::Nothing,
                _ => Release::Webhook(durable.outcomes.append(record)),
            };
            self.tells.push(Tell::Recorded { event: event.payload.id, endpoint, outcome: told });
            let row = Row::Outcome { event: event.number, recorded: record };
            self.journal.push_back(Pending { row: Some(row), release });
        }
        self.save_counters(now, endpoint);
        durable.point()
    }

    fn save_counters(&mut self, now: Now, endpoint: EndpointId) {
        let (Some(health), Some(saved)) = (self.dispatcher.endpoint(endpoint), self.saved.get_mut(&endpoint))
        else {
            return;
        };
        let health = health.saved(now);
        if health.failures == saved.failures || (health.state, health.slow) != (saved.state, saved.slow) {
            return;
        }
        *saved = health;
        let row = Row::Health { endpoint, health, verified_at: None };
        self.journal.push_back(Pending { row: Some(row), release: Release::Nothing });
    }
}

/// What the last life left is made good: events of announcements that have none, then outcomes.
fn make_good(durable: &mut Durable, plant: Option<Plant>) {
    let outcomes: Vec<RecordedOutcome> = durable.outcomes.records().copied().collect();
    let store = &mut durable.store;
    let apply = |store: &mut Store| {
        for recorded in &outcomes {
            if let Some(number) = store.number_of(recorded.event) {
                store.outcome(number, recorded);
            }
        }
    };
    if plant == Some(Plant::RecoveryOrder) {
        apply(store);
    }
    let known: BTreeSet<Box<str>> =
        store.events.values().map(|row| row.event.payload.id.identity().into()).collect();
    let newest = store.history.values().rev().take(limits::HISTORY_IN_MEMORY).rev();
    let mut missing = Vec::new();
    let mut made = known;
    for encoded in newest {
        for event in Event::of(&encoded.announcement, &id_key()) {
            if made.insert(event.id.identity().into()) {
                missing.push((event, encoded.announcement.detected));
            }
        }
    }
    for (event, detected) in missing {
        let Ok(outgoing) = Outgoing::of(&event) else { continue };
        let wanting = store.endpoints.iter().filter(|(_, row)| {
            !event.late
                && row.verified_at.is_some_and(|at| at <= detected)
                && row.filter.wants(event.kind, event.exchange)
        });
        let recipients: Vec<EndpointId> = wanting.map(|(id, _)| *id).collect();
        let number = store.next_event();
        store.event(Arc::new(outgoing.queued(number, detected)), &recipients);
    }
    if plant != Some(Plant::RecoveryOrder) {
        apply(store);
    }
}

/// How a receiver answers.
#[derive(Clone, Copy, Debug)]
enum Mood {
    Well,
    Hangs,
    Says(u16),
    /// 429 or 503 with `Retry-After`.
    Asks(u16, u64),
    Resets,
    /// A kept connection that had died.
    Stale,
    Slow,
    NoName,
    Refuses,
    Garbage,
}

/// One receiver.
pub(super) struct Receiver {
    mood: (Mood, Mono),
    /// It is gone for good once it said so.
    pub(super) dice: Dice,
}

impl Receiver {
    pub(super) const fn new(dice: Dice) -> Receiver {
        Receiver { mood: (Mood::Well, Mono::NEVER), dice }
    }

    pub(super) fn be_moody(&mut self, until: Mono) {
        let dice = &mut self.dice;
        let mood = match dice.below(11) {
            0 => Mood::Well,
            1 | 2 => Mood::Hangs,
            3 => Mood::Says(dice.pick(&[500, 502, 504, 301, 302, 401, 408, 425], 500)),
            4 => Mood::Says(dice.pick(&[400, 404, 422, 410, 600, 101], 404)),
            5 => Mood::Asks(dice.pick(&[429, 503], 429), dice.pick(&[0, 1, 90, 1_000, 100_000], 1)),
            6 => Mood::Resets,
            7 => Mood::Stale,
            8 => Mood::Slow,
            9 => dice.pick(&[Mood::NoName, Mood::Refuses], Mood::Refuses),
            _ => Mood::Garbage,
        };
        self.mood = (mood, until);
    }

    pub(super) const fn recover(&mut self) {
        self.mood = (Mood::Well, Mono::NEVER);
    }

    /// What becomes of a request, and after how long. `kept`: it went out on a kept connection.
    pub(super) fn answer(&mut self, now: Mono, kept: bool) -> (Report, Duration) {
        let mood = if now < self.mood.1 { self.mood.0 } else { Mood::Well };
        let soon = self.dice.millis(1, 200);
        let failed = |class| (Report::failed(class), soon);
        match mood {
            Mood::Well => (Report::status(self.dice.pick(&[200, 200, 201, 204], 200)), soon),
            Mood::Hangs => (Report::failed(FailureClass::Timeout), limits::WEBHOOK_TIMEOUT),
            Mood::Says(status) => (Report::status(status), soon),
            Mood::Asks(status, seconds) => {
                let retry_after = Some(RetryAfter::Seconds(seconds));
                (Report::Answered { status, retry_after, date: None }, soon)
            }
            Mood::Resets => failed(FailureClass::Reset),
            Mood::Stale => (Report::Failed { class: FailureClass::Reset, stale_connection: kept }, soon),
            Mood::Slow => {
                let takes = self.dice.millis(4_000, 12_000);
                if takes >= limits::WEBHOOK_TIMEOUT {
                    return (Report::failed(FailureClass::Timeout), limits::WEBHOOK_TIMEOUT);
                }
                (Report::status(200), takes)
            }
            Mood::NoName => failed(FailureClass::Dns),
            Mood::Refuses => failed(FailureClass::Connect),
            Mood::Garbage => failed(FailureClass::BadResponse),
        }
    }
}
