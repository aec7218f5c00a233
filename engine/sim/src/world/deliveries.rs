//! What must be true of webhook deliveries: attempts in their order and within their windows, nothing to who is
//! switched off, nothing lost, nothing acknowledged sent again.
//!
//! Contract: the world's own account of every attempt, by event and endpoint, as its receiver saw it. Waits are
//! worked out from the specification's table, not by the core's schedule. Owner: the world. Fails with
//! [`super::Stop::Broken`].

use std::collections::{BTreeMap, BTreeSet};

use core::time::Duration;

use tocsin_core::http1::response::RetryAfter;
use tocsin_core::limits;
use tocsin_core::time::{Mono, Now};
use tocsin_core::webhook::attempt::{FailureClass, Report};
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::dispatcher::{Expiry, Handling, Note, Sequel, Start, Ticket};
use tocsin_core::webhook::endpoint::{Change, State};
use tocsin_core::webhook::event::{Event as News, EventId};
use tocsin_core::webhook::lane::Purpose;
use tocsin_core::webhook::outgoing::{Outcome, Outgoing};

use super::durable::Store;
use super::webhooks::{Tell, id_key};
use super::{Death, Event, Flow, Thing, World, broken};

/// What is on record of a delivery, safe from the death of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recorded {
    Retry(u8),
    Concluded,
}

/// One event's delivery to one endpoint.
#[derive(Debug, Default)]
struct Delivery {
    attempts: u32,
    /// The number of the last one.
    attempt: u8,
    in_flight: bool,
    /// The last attempt's number, when it ended, and what it came to.
    ended: Option<(u8, Now, Report)>,
    recorded: Option<Recorded>,
    acknowledged: u32,
    failed: bool,
    expired: bool,
}

/// See the module head.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    all: BTreeMap<(EventId, EndpointId), Delivery>,
    bodies: BTreeMap<EventId, Box<[u8]>>,
    /// By identity.
    ids: BTreeMap<Box<str>, EventId>,
    /// Switched off by their owners, and told so.
    off: BTreeSet<EndpointId>,
    /// When each last changed its state.
    changed: BTreeMap<EndpointId, Mono>,
    /// Number of the event of the last first attempt.
    first: BTreeMap<EndpointId, u64>,
    in_flight: BTreeMap<EndpointId, u32>,
    asked: BTreeMap<Ticket, Asked>,
    power_cuts: u32,
}

/// An attempt in flight.
#[derive(Clone, Debug)]
struct Asked {
    endpoint: EndpointId,
    event: Option<EventId>,
    deadline: Mono,
}

const STEPS: [u64; 5] = [30, 300, 1_800, 7_200, 21_600];

/// The least wait after a failed attempt; `None`: there is no further one.
fn least_wait(attempt: u8, report: &Report) -> Option<Duration> {
    let step = Duration::from_secs(*STEPS.get(usize::from(attempt).checked_sub(1)?)?);
    let Report::Answered { status, retry_after, .. } = report else { return Some(step) };
    let asked = match retry_after {
        Some(RetryAfter::Seconds(seconds)) => Some(Duration::from_secs(*seconds)),
        _ => None,
    };
    match status {
        429 => {
            let asked = asked.unwrap_or_default().min(Duration::from_secs(12 * 3_600));
            Some((step * 2).max(asked))
        }
        503 => Some(asked.map_or(step, |asked| asked.clamp(step, step * 2))),
        401 | 408 | 421 | 425 => Some(step),
        400..=499 => None,
        _ => Some(step),
    }
}

fn is_success(report: &Report) -> bool {
    matches!(report, Report::Answered { status: 200..=299, .. })
}

impl Deliveries {
    pub(super) fn died(&mut self, death: Death) {
        for delivery in self.all.values_mut() {
            delivery.in_flight = false;
            delivery.ended = None;
        }
        self.asked.clear();
        self.in_flight.clear();
        self.first.clear();
        self.changed.clear();
        self.power_cuts += u32::from(death == Death::PowerCut);
    }

    /// What a power cut has taken of the records.
    pub(super) fn before_start(&mut self, store: &Store) {
        if self.power_cuts == 0 {
            return;
        }
        for ((event, endpoint), delivery) in &mut self.all {
            let number = store.number_of(*event);
            let row = number.and_then(|number| store.events.get(&number));
            delivery.recorded = match row.and_then(|row| row.recipients.get(endpoint)) {
                Some(true) => Some(Recorded::Concluded),
                _ => number
                    .and_then(|number| store.deliveries.get(&(number, *endpoint)))
                    .map(|(attempt, _)| Recorded::Retry(*attempt)),
            };
        }
        // What is detected anew is told with the time of that.
        self.bodies.retain(|event, _| store.number_of(*event).is_some());
        self.ids.retain(|_, event| store.number_of(*event).is_some());
        // What a kill leaves in shared memory counts again from now on.
        self.power_cuts = 0;
    }

    pub(super) fn disabled(&mut self, endpoint: EndpointId) {
        self.off.insert(endpoint);
    }

    pub(super) fn enabled(&mut self, endpoint: EndpointId) {
        self.off.remove(&endpoint);
    }

    fn started(&mut self, start: &Start<Outgoing>, now: Now) -> Flow {
        let Start { ticket, endpoint, purpose, event, deadline } = start;
        let (endpoint, deadline) = (*endpoint, *deadline);
        let running = self.in_flight.entry(endpoint).or_default();
        *running += 1;
        if *running > u32::from(limits::WEBHOOK_IN_FLIGHT) {
            return broken(
                "eight attempts are in flight at most",
                format!("endpoint {}: {running}", endpoint.0),
            );
        }
        let asked = Asked { endpoint, event: event.as_ref().map(|event| event.payload.id), deadline };
        self.asked.insert(*ticket, asked);
        let (Purpose::Event { attempt }, Some(event)) = (*purpose, event) else { return Ok(()) };
        let name = format!("event {} at endpoint {}, attempt {attempt}", event.payload.id, endpoint.0);
        if self.off.contains(&endpoint) {
            return broken("nothing is sent to who is switched off", name);
        }
        let body = self.bodies.entry(event.payload.id).or_insert_with(|| event.payload.body.clone());
        if *body != event.payload.body {
            return broken("a body is the same in every attempt", name);
        }
        let id = self.ids.entry(event.payload.id.identity().into()).or_insert(event.payload.id);
        if *id != event.payload.id {
            return broken("an event is told under one id", format!("{name}, before as {id}"));
        }
        if attempt == 1 {
            let first = self.first.entry(endpoint).or_default();
            if *first >= event.number {
                return broken(
                    "first attempts keep the order of events",
                    format!("{name}: {} after {first}", event.number),
                );
            }
            *first = event.number;
        }
        let delivery = self.all.entry((event.payload.id, endpoint)).or_default();
        delivery.attempts += 1;
        if core::mem::replace(&mut delivery.in_flight, true) {
            return broken("one attempt of a delivery at a time", name);
        }
        match delivery.recorded {
            Some(Recorded::Concluded) => return broken("what is concluded is not sent again", name),
            Some(Recorded::Retry(due)) if due != attempt => {
                return broken("attempts keep their number", format!("{name}, {due} was due"));
            }
            Some(Recorded::Retry(_)) | None => {}
        }
        if let Some((last, ended, report)) = &delivery.ended {
            let waited = now.mono.since(ended.mono);
            let Some(least) = least_wait(*last, report).filter(|_| attempt == last + 1) else {
                return broken(
                    "attempts follow one another",
                    format!("{name} after {last}, which came to {report:?}"),
                );
            };
            let most = least + (least / 10).min(Duration::from_secs(60)) + Duration::from_secs(90);
            if waited < least {
                return broken("no retry is early", format!("{name} after {waited:?}, least {least:?}"));
            }
            let steady = self.changed.get(&endpoint).is_none_or(|at| *at < ended.mono);
            if waited > most && steady && *running <= 1 {
                return broken("no retry is late", format!("{name} after {waited:?}, most {most:?}"));
            }
        }
        delivery.attempt = attempt;
        Ok(())
    }

    fn settled(&mut self, note: &Note<Outgoing>, now: Now, clock_set: bool, tight: bool) -> Flow {
        match note {
            Note::Settled {
                endpoint,
                purpose: Purpose::Event { attempt },
                event: Some(event),
                sequel,
                ..
            } => {
                let name =
                    format!("event {} at endpoint {}, attempt {attempt}", event.payload.id, endpoint.0);
                let Some(delivery) = self.all.get_mut(&(event.payload.id, *endpoint)) else {
                    return broken("what ends has begun", name);
                };
                delivery.in_flight = false;
                let Some((_, _, report)) = &delivery.ended else {
                    return broken("what ends was answered", name);
                };
                let least = least_wait(*attempt, report);
                let right = match sequel {
                    Sequel::Done => is_success(report),
                    Sequel::Failed => !is_success(report) && least.is_none(),
                    Sequel::Retry { attempt: next, due } => {
                        let wait =
                            Duration::from_micros(u64::try_from(due.micros_since(now.wall)).unwrap_or(0));
                        let least = least.unwrap_or(Duration::MAX);
                        // The note may be taken some microseconds after the answer.
                        let from = least.saturating_sub(Duration::from_millis(50));
                        let to = least.saturating_add((least / 10).min(Duration::from_secs(60)));
                        *next == attempt + 1
                            && !is_success(report)
                            && (clock_set || from <= wait && wait <= to)
                    }
                };
                if !right {
                    return broken(
                        "what follows an attempt is the table's",
                        format!("{name}: {report:?}, {sequel:?}"),
                    );
                }
                delivery.failed |= *sequel == Sequel::Failed;
                Ok(())
            }
            Note::Expired { endpoint, event, why } => {
                let delivery = self.all.entry((event.payload.id, *endpoint)).or_default();
                delivery.expired = true;
                let age =
                    Duration::from_micros(u64::try_from(now.wall.micros_since(event.created)).unwrap_or(0));
                let right = match why {
                    Expiry::Overflow => tight,
                    Expiry::Stale => clock_set || age > limits::WEBHOOK_LISTING_FRESH,
                };
                if right {
                    Ok(())
                } else {
                    broken(
                        "only what is old or too much expires",
                        format!("{:?}: {why:?} at {age:?}", event.payload.id),
                    )
                }
            }
            _ => Ok(()),
        }
    }
}

/// Between endpoints that were verified before the world began and those that were in it.
const HALF_A_DAY_US: i64 = 43_200_000_000;

impl World {
    /// A turn of the webhook thread.
    pub(super) fn webhook_turn(&mut self) -> Flow {
        let now = self.now();
        let Some(engine) = self.engine.as_deref_mut() else { return Ok(()) };
        let done = engine.webhook.turn(now, &mut self.durable, self.plant);
        let tells = core::mem::take(&mut engine.webhook.tells);
        let notes = !engine.webhook.journal.is_empty();
        engine.journal.from_webhook.append(&mut engine.webhook.journal);
        // Behind what the thread has told the journal thread.
        let waiting = core::mem::take(&mut self.barriers);
        let barriers = !waiting.is_empty();
        engine.journal.requests.extend(waiting.into_iter().map(super::journal::Pending::answer));
        let deadline = engine.webhook.dispatcher.deadline();
        let bounds = (engine.webhook.dispatcher.pending_total(), engine.webhook.dispatcher.in_flight());
        if notes || barriers {
            self.wake_journal();
        }
        for tell in tells {
            self.told_by_webhooks(tell, now)?;
        }
        let more = done?;
        if bounds.0 > self.drawn.pending + self.receivers.len() || bounds.1 > self.drawn.in_flight.max(16) {
            return broken("deliveries are bounded", format!("{} pending, {} in flight", bounds.0, bounds.1));
        }
        let rest = if more || deadline <= now.mono { now.mono + Duration::from_micros(20) } else { deadline };
        self.wake_at(Thing::Webhook, rest);
        Ok(())
    }

    fn told_by_webhooks(&mut self, tell: Tell, now: Now) -> Flow {
        match tell {
            Tell::Offered { event, outgoing, number, recipients } => {
                self.say(|| format!("event {number} {} {} to {recipients:?}", event.id, event.symbol));
                self.truth.saw_wall(now.wall);
                if outgoing.late && !recipients.is_empty() {
                    return broken("what is late is not sent unasked", event.id);
                }
                Ok(())
            }
            Tell::Started(start) => self.start_attempt(&start, now),
            Tell::Settled(note) => {
                self.say(|| format!("{note:?}"));
                let tight = self.drawn.pending < 1_000 || self.drawn.pending_per_endpoint < 1_000;
                self.deliveries.settled(&note, now, self.truth.clock_set, tight)
            }
            Tell::Recorded { event, endpoint, outcome } => {
                let delivery = self.deliveries.all.entry((event, endpoint)).or_default();
                delivery.recorded = Some(match outcome {
                    Outcome::Retry { attempt, .. } => Recorded::Retry(attempt),
                    Outcome::Delivered | Outcome::Failed | Outcome::Expired => Recorded::Concluded,
                });
                Ok(())
            }
            Tell::Changed { endpoint, change, state } => {
                self.say(|| format!("endpoint {} is {}: {change:?}", endpoint.0, state.name()));
                self.deliveries.changed.insert(endpoint, now.mono);
                let right = match change {
                    Change::Verified | Change::Resumed | Change::Recovered | Change::EnabledByUser => {
                        state == State::Active
                    }
                    Change::Suspended => state != State::Pending,
                    _ => true,
                };
                if right {
                    Ok(())
                } else {
                    broken("a change is what it is called", format!("{change:?}: {state:?}"))
                }
            }
        }
    }

    fn start_attempt(&mut self, start: &Start<Outgoing>, now: Now) -> Flow {
        let (ticket, endpoint) = (start.ticket, start.endpoint);
        self.seen.attempts += 1;
        self.say(|| {
            let id = start.event.as_ref().map(|event| event.payload.id);
            format!("attempt {ticket:?} at endpoint {}: {:?} {id:?}", endpoint.0, start.purpose)
        });
        self.deliveries.started(start, now)?;
        let kept = self.dice.coin();
        self.in_flight.insert(ticket, endpoint);
        self.call(ticket, endpoint, start.deadline, kept);
        Ok(())
    }

    fn call(&mut self, ticket: Ticket, endpoint: EndpointId, deadline: Mono, kept: bool) {
        let now = self.now().mono;
        let Some(receiver) = self.receivers.get_mut(&endpoint) else { return };
        let (report, after) = receiver.answer(now, kept);
        match now + after >= deadline {
            true => self
                .plan_at(deadline, Event::Response { ticket, report: Report::failed(FailureClass::Timeout) }),
            false => self.plan(after, Event::Response { ticket, report }),
        }
    }

    /// The end of an attempt.
    pub(super) fn response(&mut self, ticket: Ticket, report: &Report) -> Flow {
        let now = self.now();
        let random = self.dice.next();
        let Some(asked) = self.deliveries.asked.get(&ticket).cloned() else { return Ok(()) };
        if let Some(event) = asked.event
            && let Some(delivery) = self.deliveries.all.get_mut(&(event, asked.endpoint))
        {
            delivery.ended = Some((delivery.attempt, now, *report));
            delivery.acknowledged += u32::from(is_success(report));
        }
        let Some(engine) = self.engine.as_deref_mut() else { return Ok(()) };
        match engine.webhook.dispatcher.on_result(now, ticket, report, random) {
            Handling::Settled => {
                self.deliveries.asked.remove(&ticket);
                self.in_flight.remove(&ticket);
                if let Some(running) = self.deliveries.in_flight.get_mut(&asked.endpoint) {
                    *running = running.saturating_sub(1);
                }
                let soon = self.lag(1, 50);
                self.wake(Thing::Webhook, soon);
                Ok(())
            }
            Handling::Resend => {
                self.call(ticket, asked.endpoint, asked.deadline, false);
                Ok(())
            }
            Handling::Unknown => broken("an answer belongs to an attempt", format!("{ticket:?}")),
        }
    }

    pub(super) fn is_concluded(&self) -> bool {
        let Some(engine) = &self.engine else { return false };
        self.changes.is_empty()
            && engine.webhook.dispatcher.pending_total() == 0
            // No note is left to be taken.
            && engine.webhook.dispatcher.deadline() > Mono(0)
            && engine.webhook.journal.is_empty()
            && engine.webhook.rings.iter().all(std::collections::VecDeque::is_empty)
            && engine.journal.is_idle()
    }

    /// Nothing is left, and nothing was left out.
    pub(super) fn check_conclusion(&self) -> Flow {
        let store = &self.durable.store;
        for (number, row) in &store.events {
            for (endpoint, concluded) in &row.recipients {
                let name = format!("event {number} {} at endpoint {}", row.event.payload.id, endpoint.0);
                if !concluded {
                    return broken("every delivery is concluded", name);
                }
                let delivery = self.deliveries.all.get(&(row.event.payload.id, *endpoint));
                if !delivery.is_some_and(|d| d.acknowledged > 0 || d.failed || d.expired) {
                    return broken("no delivery is lost", format!("{name}: {delivery:?}"));
                }
            }
        }
        if let Some((event, endpoint)) = store.deliveries.keys().next() {
            return broken(
                "every delivery is concluded",
                format!("event {event} at endpoint {} has a row", endpoint.0),
            );
        }
        let told: BTreeMap<&str, u64> =
            store.events.values().map(|row| (row.event.payload.id.identity(), row.event.number)).collect();
        for encoded in store.history.values() {
            for event in News::of(&encoded.announcement, &id_key()) {
                let Some(number) = told.get(event.id.identity()) else {
                    return broken(
                        "every announcement makes its events",
                        format!("{} {}", encoded.announcement.id, event.symbol),
                    );
                };
                self.check_recipients(*number, &event)?;
            }
        }
        Ok(())
    }

    /// Endpoints that were verified when the world began and want it are among those it was offered to.
    fn check_recipients(&self, number: u64, event: &News) -> Flow {
        let store = &self.durable.store;
        let Some(row) = store.events.get(&number).filter(|row| !row.event.payload.late) else {
            return Ok(());
        };
        for (id, endpoint) in &store.endpoints {
            // They were verified a day before; a clock that was set back is minutes behind.
            let before =
                endpoint.verified_at.is_some_and(|at| self.began_wall.micros_since(at) > HALF_A_DAY_US);
            if before && endpoint.filter.wants(event.kind, event.exchange) && !row.recipients.contains_key(id)
            {
                return broken(
                    "an event is offered to everyone who wants it",
                    format!("event {number}, endpoint {}", id.0),
                );
            }
        }
        Ok(())
    }
}
