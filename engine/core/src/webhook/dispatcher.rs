//! All deliveries of all endpoints: what starts when, and what became of it.
//!
//! Contract: sans-I/O, on a clock that comes in. Events, results and requests go in; out of
//! [`Dispatcher::poll`] come [`Action`]s: attempts to start, and notes of what happened, for the store,
//! the delivery log and e-mail. Call `poll` until it is empty after every call and at
//! [`Dispatcher::deadline`]. An event is offered to all endpoints in one pass, beginning at another
//! one each time; first attempts go before everything else. What is pending can be listed at any time
//! and taken in by the next process.
//!
//! Bounds: see [`Bounds`]; at each of them the longest queue gives way, and says so. Owner: the webhook
//! thread. Allocates as its queues grow. Nothing that a receiver does fails here; an answer that comes
//! for an attempt already settled is [`Handling::Unknown`].

use core::ops::Bound;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::attempt::{FailureClass, Report, Verdict};
use super::board::{Board, EndpointId, List};
use super::endpoint::{Change, Changes, Endpoint, SavedHealth};
use super::lane::{Lane, Next, Purpose, QueuedEvent};
use super::schedule::{LONGEST_WAIT, Wait, scatter, wait_after};
use crate::limits;
use crate::time::{Mono, Now, WallUs};

/// An attempt in flight. Never used twice in one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What a dispatcher may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Attempts in flight over all endpoints; at it, attempts wait for their turn.
    pub in_flight: usize,
    /// Endpoints; at it, further ones are refused.
    pub endpoints: usize,
    /// Deliveries pending for one endpoint; at it, its oldest waiting event gives way.
    pub pending_per_endpoint: usize,
    /// Deliveries pending over all endpoints, passed by one event at most; at it, the longest queue
    /// gives way.
    pub pending: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            in_flight: limits::WEBHOOK_IN_FLIGHT_TOTAL,
            endpoints: limits::WEBHOOK_ENDPOINTS,
            pending_per_endpoint: limits::WEBHOOK_PENDING_PER_ENDPOINT,
            pending: limits::WEBHOOK_PENDING,
        }
    }
}

/// Something for the caller to do.
#[derive(Debug)]
pub enum Action<E> {
    /// Send a request; tell the end of it with [`Dispatcher::on_result`].
    Start(Start<E>),
    /// Something happened.
    Note(Note<E>),
}

/// An attempt to start now.
#[derive(Debug)]
pub struct Start<E> {
    /// Names it in [`Dispatcher::on_result`].
    pub ticket: Ticket,
    /// Whom to call.
    pub endpoint: EndpointId,
    /// What for.
    pub purpose: Purpose,
    /// What to send; a ping has none.
    pub event: Option<Arc<QueuedEvent<E>>>,
    /// "No response in 10s": by when the response head must be complete, resends included.
    pub deadline: Mono,
}

/// Something that happened, told once.
#[derive(Debug)]
pub enum Note<E> {
    /// An attempt ended.
    Settled {
        /// At which endpoint.
        endpoint: EndpointId,
        /// What it was for.
        purpose: Purpose,
        /// What was sent; none for a ping.
        event: Option<Arc<QueuedEvent<E>>>,
        /// How it ended.
        verdict: Verdict,
        /// From its start.
        took: Duration,
        /// What follows for the delivery.
        sequel: Sequel,
    },
    /// An endpoint changed; [`Change::mail`] says which e-mail is due.
    Changed {
        /// Which.
        endpoint: EndpointId,
        /// What about it.
        change: Change,
    },
    /// A delivery ended without being sent (again). The customer can have it replayed.
    Expired {
        /// To which endpoint.
        endpoint: EndpointId,
        /// Of which event.
        event: Arc<QueuedEvent<E>>,
        /// Why.
        why: Expiry,
    },
}

/// What follows an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequel {
    /// Nothing: delivered, or a ping or test event.
    Done,
    /// "Permanent fail": the delivery is given up.
    Failed,
    /// It is tried again.
    Retry {
        /// The next attempt.
        attempt: u8,
        /// Not before this.
        due: WallUs,
    },
}

/// Why a delivery expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// It waited until it was no longer news.
    Stale,
    /// It gave way at a bound.
    Overflow,
}

/// What became of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handling {
    /// The attempt is over.
    Settled,
    /// Send the request again on a fresh connection: same ticket, same deadline.
    Resend,
    /// No such attempt is in flight.
    Unknown,
}

/// Why an endpoint or an event is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no endpoint of that number.
    UnknownEndpoint,
    /// There is one of that number already.
    EndpointExists,
    /// The dispatcher has as many endpoints as it may.
    TooManyEndpoints,
    /// The endpoint has not been verified.
    NotVerified,
    /// It has been verified already.
    AlreadyVerified,
    /// Too many test events wait.
    TooManyTests,
    /// No attempt has such a number.
    BadAttempt,
}

/// A delivery that is not concluded, as the store keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingDelivery {
    /// To which endpoint.
    pub endpoint: EndpointId,
    /// [`QueuedEvent::number`].
    pub event: u64,
    /// The attempt that waits or is in flight.
    pub attempt: u8,
    /// When it is due; `None`: as soon as possible.
    pub due: Option<WallUs>,
}

#[derive(Debug)]
struct InFlight<E> {
    endpoint: EndpointId,
    purpose: Purpose,
    event: Option<Arc<QueuedEvent<E>>>,
    started: Mono,
    resent: bool,
    /// Its endpoint was removed meanwhile; another may have its number by now.
    orphan: bool,
}

/// See the module head. `E` is what an event carries, `P` what the caller keeps of an endpoint
/// (address, secret, filter).
#[derive(Debug)]
pub struct Dispatcher<E, P> {
    bounds: Bounds,
    /// Boxed: a search among thousands touches keys, not lanes.
    lanes: BTreeMap<EndpointId, Box<Lane<E, P>>>,
    board: Board,
    in_flight: BTreeMap<Ticket, InFlight<E>>,
    next_ticket: u64,
    notes: VecDeque<Note<E>>,
    /// Deliveries that wait or are in flight.
    pending: usize,
    /// Where the last event's pass began.
    rotation: EndpointId,
}

impl<E, P> Dispatcher<E, P> {
    /// Without endpoints.
    #[must_use]
    pub fn new(bounds: Bounds) -> Dispatcher<E, P> {
        Dispatcher {
            bounds,
            lanes: BTreeMap::new(),
            board: Board::new(bounds.in_flight),
            in_flight: BTreeMap::new(),
            next_ticket: 1,
            notes: VecDeque::new(),
            pending: 0,
            rotation: EndpointId(0),
        }
    }

    // ---- Endpoints -----------------------------------------------------------------------------

    /// Takes an endpoint: a new one, pending, or with its health of an earlier process.
    ///
    /// # Errors
    /// It is there already, or there are too many.
    pub fn add(
        &mut self,
        now: Now,
        endpoint: EndpointId,
        profile: P,
        self_healing: bool,
        saved: Option<&SavedHealth>,
    ) -> Result<(), Refusal> {
        if self.lanes.contains_key(&endpoint) {
            return Err(Refusal::EndpointExists);
        }
        if self.lanes.len() >= self.bounds.endpoints {
            return Err(Refusal::TooManyEndpoints);
        }
        let health = match saved {
            Some(saved) => Endpoint::restored(now, endpoint.0, self_healing, saved),
            None => Endpoint::new(now.mono, endpoint.0, self_healing),
        };
        self.lanes.insert(endpoint, Box::new(Lane::new(health, profile)));
        self.touch(now.mono, endpoint, |_| ())
    }

    /// Forgets an endpoint and all that waits for it. Results of what is in flight are unknown then, also
    /// when another endpoint has been given its number.
    pub fn remove(&mut self, endpoint: EndpointId) -> Option<P> {
        let lane = self.lanes.remove(&endpoint)?;
        self.board.forget(endpoint, &lane.place);
        self.pending -= lane.waiting();
        for attempt in self.in_flight.values_mut().filter(|attempt| attempt.endpoint == endpoint) {
            attempt.orphan = true;
        }
        Some(lane.profile)
    }

    /// What the caller keeps of an endpoint.
    #[must_use]
    pub fn profile(&self, endpoint: EndpointId) -> Option<&P> {
        self.lanes.get(&endpoint).map(|lane| &lane.profile)
    }

    /// The same, to change it.
    pub fn profile_mut(&mut self, endpoint: EndpointId) -> Option<&mut P> {
        self.lanes.get_mut(&endpoint).map(|lane| &mut lane.profile)
    }

    /// An endpoint's health.
    #[must_use]
    pub fn endpoint(&self, endpoint: EndpointId) -> Option<&Endpoint> {
        self.lanes.get(&endpoint).map(|lane| &lane.endpoint)
    }

    /// Deliveries pending for an endpoint.
    #[must_use]
    pub fn pending_of(&self, endpoint: EndpointId) -> usize {
        self.lanes.get(&endpoint).map_or(0, |lane| lane.pending())
    }

    /// Deliveries pending over all endpoints.
    #[must_use]
    pub const fn pending_total(&self) -> usize {
        self.pending
    }

    /// Attempts in flight over all endpoints.
    #[must_use]
    pub const fn in_flight(&self) -> usize {
        self.board.in_flight()
    }

    /// Sends a pending endpoint its verification ping, at once.
    ///
    /// # Errors
    /// There is no such endpoint.
    pub fn verify(&mut self, now: Now, endpoint: EndpointId) -> Result<(), Refusal> {
        self.touch(now.mono, endpoint, |lane| lane.endpoint.verify(now.mono))
    }

    /// Switches an endpoint on.
    ///
    /// # Errors
    /// There is no such endpoint.
    pub fn enable(&mut self, now: Now, endpoint: EndpointId) -> Result<(), Refusal> {
        let change = self.touch(now.mono, endpoint, |lane| lane.endpoint.enable(now.mono))?;
        self.note_changes(endpoint, [change, None]);
        Ok(())
    }

    /// Switches an endpoint off. Events are held for it.
    ///
    /// # Errors
    /// There is no such endpoint.
    pub fn disable(&mut self, now: Now, endpoint: EndpointId) -> Result<(), Refusal> {
        let change = self.touch(now.mono, endpoint, |lane| lane.endpoint.disable(now.mono))?;
        self.note_changes(endpoint, [change, None]);
        Ok(())
    }

    // ---- Events --------------------------------------------------------------------------------

    /// Offers an event to every verified endpoint that `wants` it. Returns to how many it goes.
    pub fn on_event(
        &mut self,
        now: Now,
        event: &Arc<QueuedEvent<E>>,
        mut wants: impl FnMut(&P) -> bool,
    ) -> usize {
        let mut offered = 0;
        for endpoint in self.well_in_order() {
            offered += usize::from(self.offer(now, endpoint, event, &mut wants));
        }
        offered + self.offer_to_rest(now, event, &mut wants)
    }

    /// Whom an event is offered to first: active endpoints whose last attempt did not time out and for
    /// which a warm connection is likely, beginning at another one each time. What each gets can be sent
    /// before the next is even looked at; [`Dispatcher::offer_to_rest`] must follow.
    pub fn well_in_order(&mut self) -> Vec<EndpointId> {
        let well = self.board.well();
        let after = (Bound::Excluded(self.rotation), Bound::Unbounded);
        let begin = well.range(after).next().or_else(|| well.first()).copied();
        self.rotation = begin.unwrap_or(self.rotation);
        let (after, before) = (well.range(self.rotation..), well.range(..self.rotation));
        after.chain(before).copied().collect()
    }

    /// The second half: every endpoint that the event has not been offered to yet.
    pub fn offer_to_rest(
        &mut self,
        now: Now,
        event: &Arc<QueuedEvent<E>>,
        mut wants: impl FnMut(&P) -> bool,
    ) -> usize {
        let missed = self.lanes.iter().filter(|(_, lane)| lane.offered != event.number);
        let rest: Vec<EndpointId> = missed.map(|(endpoint, _)| *endpoint).collect();
        let offered =
            rest.into_iter().filter(|endpoint| self.offer(now, *endpoint, event, &mut wants)).count();
        self.hold_total(now);
        offered
    }

    /// Offers an event to one endpoint; whether it goes there.
    pub fn offer(
        &mut self,
        now: Now,
        endpoint: EndpointId,
        event: &Arc<QueuedEvent<E>>,
        mut wants: impl FnMut(&P) -> bool,
    ) -> bool {
        let Some(lane) = self.lanes.get_mut(&endpoint) else { return false };
        lane.offered = event.number;
        if !lane.endpoint.state().takes_events() || !wants(&lane.profile) {
            return false;
        }
        self.pending += 1;
        lane.push(Arc::clone(event));
        let over = lane.pending() > self.bounds.pending_per_endpoint;
        self.pending -= make_room(now, endpoint, lane, usize::from(over), &mut self.notes);
        self.board.place(now.mono, endpoint, lane);
        true
    }

    /// Sends an event to one endpoint because its owner asked for it: replay and resend.
    ///
    /// # Errors
    /// There is no such endpoint, or it has not been verified.
    pub fn on_replay(
        &mut self,
        now: Now,
        endpoint: EndpointId,
        event: Arc<QueuedEvent<E>>,
    ) -> Result<(), Refusal> {
        let lane = self.lanes.get_mut(&endpoint).ok_or(Refusal::UnknownEndpoint)?;
        if !lane.endpoint.state().takes_events() {
            return Err(Refusal::NotVerified);
        }
        self.pending += 1;
        lane.push(event);
        let over = lane.pending() > self.bounds.pending_per_endpoint;
        self.pending -= make_room(now, endpoint, lane, usize::from(over), &mut self.notes);
        self.board.place(now.mono, endpoint, lane);
        self.hold_total(now);
        Ok(())
    }

    /// Sends a test event: one attempt, never counted, whatever the endpoint's state but pending.
    ///
    /// # Errors
    /// There is no such endpoint, it has not been verified, or too many tests wait.
    pub fn on_test(
        &mut self,
        now: Now,
        endpoint: EndpointId,
        event: Arc<QueuedEvent<E>>,
    ) -> Result<(), Refusal> {
        self.touch(now.mono, endpoint, |lane| {
            if !lane.endpoint.state().takes_events() {
                return Err(Refusal::NotVerified);
            }
            if lane.push_test(event) { Ok(()) } else { Err(Refusal::TooManyTests) }
        })?
    }

    /// Above the total bound, what is too much is taken from the longest queue: whoever fails to take
    /// its deliveries pays for it, not the others.
    fn hold_total(&mut self, now: Now) {
        while self.pending > self.bounds.pending {
            let excess = self.pending - self.bounds.pending;
            let longest = self.lanes.iter_mut().max_by_key(|(_, lane)| lane.waiting());
            let Some((endpoint, lane)) = longest else { return };
            let gone = make_room(now, *endpoint, lane, excess, &mut self.notes);
            self.board.place(now.mono, *endpoint, lane);
            self.pending -= gone;
            if gone == 0 {
                return;
            }
        }
    }

    // ---- Attempts ------------------------------------------------------------------------------

    /// The next thing to do; `None` until [`Dispatcher::deadline`] or the next call.
    pub fn poll(&mut self, now: Now) -> Option<Action<E>> {
        while let Some(endpoint) = self.board.pop_timer(now.mono) {
            if let Some(lane) = self.lanes.get_mut(&endpoint) {
                lane.place.timer_came();
                self.board.place(now.mono, endpoint, lane);
            }
        }
        self.poll_first(now)
            .or_else(|| self.notes.pop_front().map(Action::Note))
            .or_else(|| self.poll_other(now))
    }

    /// The next first attempt that may start, and nothing else: for the one pass in which an event goes to
    /// everyone. What expires on the way is told by [`Dispatcher::poll`] later.
    pub fn poll_first_attempt(&mut self, now: Now) -> Option<Start<E>> {
        loop {
            match self.poll_first(now)? {
                Action::Start(start) => return Some(start),
                Action::Note(note) => self.notes.push_back(note),
            }
        }
    }

    /// The next note, and nothing else: nothing is started.
    pub fn poll_note(&mut self) -> Option<Note<E>> {
        self.notes.pop_front()
    }

    /// When [`Dispatcher::poll`] has something again if nothing else happens.
    #[must_use]
    pub fn deadline(&self) -> Mono {
        if self.notes.is_empty() { self.board.deadline() } else { Mono(0) }
    }

    fn poll_first(&mut self, now: Now) -> Option<Action<E>> {
        while let Some((endpoint, list)) = self.board.pop_first() {
            let Some(lane) = self.lanes.get_mut(&endpoint) else { continue };
            lane.place.left(list);
            let ready = lane.has_first(now.mono) && (list == List::Further || lane.is_assured());
            let next = if ready { lane.take_first(now) } else { None };
            self.board.place(now.mono, endpoint, lane);
            if let Some(next) = next {
                return Some(self.give_out(now, endpoint, next));
            }
        }
        None
    }

    fn poll_other(&mut self, now: Now) -> Option<Action<E>> {
        while let Some(endpoint) = self.board.pop_other() {
            let Some(lane) = self.lanes.get_mut(&endpoint) else { continue };
            lane.place.left(List::Others);
            let next = lane.take_other(now);
            self.board.place(now.mono, endpoint, lane);
            if let Some(next) = next {
                return Some(self.give_out(now, endpoint, next));
            }
        }
        None
    }

    fn give_out(&mut self, now: Now, endpoint: EndpointId, next: Next<E>) -> Action<E> {
        match next {
            Next::Expired(event) => {
                self.pending -= 1;
                Action::Note(Note::Expired { endpoint, event, why: Expiry::Stale })
            }
            Next::Send(purpose, event) => {
                let ticket = Ticket(self.next_ticket);
                self.next_ticket += 1;
                self.board.started();
                let kept = InFlight {
                    endpoint,
                    purpose,
                    event: event.clone(),
                    started: now.mono,
                    resent: false,
                    orphan: false,
                };
                self.in_flight.insert(ticket, kept);
                let deadline = now.mono + limits::WEBHOOK_TIMEOUT;
                Action::Start(Start { ticket, endpoint, purpose, event, deadline })
            }
        }
    }

    /// How an attempt ended. `random` is uniform over its range: it spreads the retry.
    pub fn on_result(&mut self, now: Now, ticket: Ticket, report: &Report, random: u64) -> Handling {
        let Some(attempt) = self.in_flight.get_mut(&ticket) else { return Handling::Unknown };
        let verdict = Verdict::of(report, attempt.resent, now.wall);
        if verdict == Verdict::Resend && !attempt.orphan {
            attempt.resent = true;
            return Handling::Resend;
        }
        let Some(attempt) = self.in_flight.remove(&ticket) else { return Handling::Unknown };
        self.board.ended();
        self.settle(now, attempt, verdict, random)
    }

    fn settle(&mut self, now: Now, ended: InFlight<E>, verdict: Verdict, random: u64) -> Handling {
        let InFlight { endpoint, purpose, event, started, orphan, .. } = ended;
        let took = now.mono.since(started);
        let Some(lane) = self.lanes.get_mut(&endpoint).filter(|_| !orphan) else {
            self.pending -= usize::from(matches!(purpose, Purpose::Event { .. }));
            return Handling::Unknown;
        };
        lane.ended(now.mono, purpose, verdict.class() != Some(FailureClass::Timeout));
        let (sequel, changes) = match purpose {
            Purpose::Test => (Sequel::Done, [None, None]),
            Purpose::Ping(ping) => (Sequel::Done, lane.endpoint.on_ping(now.mono, ping, &verdict, took)),
            Purpose::Event { attempt } => {
                let (sequel, due) = sequel(now, attempt, &verdict, random);
                match (sequel, &event) {
                    (Sequel::Retry { attempt, .. }, Some(event)) => {
                        lane.push_retry(Arc::clone(event), attempt, due);
                    }
                    _ => self.pending -= 1,
                }
                let failed = sequel == Sequel::Failed;
                (sequel, lane.endpoint.on_attempt(now.mono, &verdict, took, failed))
            }
        };
        self.board.place(now.mono, endpoint, lane);
        self.notes.push_back(Note::Settled { endpoint, purpose, event, verdict, took, sequel });
        self.note_changes(endpoint, changes);
        Handling::Settled
    }

    // ---- Across processes ----------------------------------------------------------------------

    /// Every delivery that is not concluded: per endpoint what is in flight, what waits for its first
    /// attempt in its order, then retries. Take them in again in this order.
    pub fn pending(&self, now: Now) -> impl Iterator<Item = PendingDelivery> {
        let in_flight =
            self.in_flight.values().filter_map(|attempt| match (attempt.purpose, &attempt.event) {
                (Purpose::Event { attempt: number }, Some(event)) if !attempt.orphan => {
                    Some(PendingDelivery {
                        endpoint: attempt.endpoint,
                        event: event.number,
                        attempt: number,
                        due: None,
                    })
                }
                _ => None,
            });
        let waiting = self.lanes.iter().flat_map(move |(endpoint, lane)| {
            lane.each_waiting().map(move |(event, attempt, due)| PendingDelivery {
                endpoint: *endpoint,
                event: event.number,
                attempt,
                due: due.map(|due| wall_of(now, due)),
            })
        });
        in_flight.chain(waiting)
    }

    /// Takes in a delivery of an earlier process: an attempt that was in flight is made again, since
    /// nobody knows its answer; a retry that is overdue leaves within
    /// [`limits::WEBHOOK_RECOVERY_SPREAD`]; what is no longer news expires.
    ///
    /// # Errors
    /// The endpoint is gone or was never verified, or the attempt's number is impossible: the record
    /// is not to be kept.
    pub fn import(
        &mut self,
        now: Now,
        delivery: &PendingDelivery,
        event: Arc<QueuedEvent<E>>,
    ) -> Result<(), Refusal> {
        let PendingDelivery { endpoint, attempt, due, .. } = *delivery;
        let lane = self.lanes.get_mut(&endpoint).ok_or(Refusal::UnknownEndpoint)?;
        if !lane.endpoint.state().takes_events() {
            return Err(Refusal::NotVerified);
        }
        self.pending += 1;
        match attempt {
            1 => lane.push(event),
            2..=limits::WEBHOOK_ATTEMPTS => {
                let ahead = due.map_or(0, |due| due.micros_since(now.wall));
                let overdue = Duration::from_micros(u64::try_from(ahead.saturating_neg()).unwrap_or(0));
                if overdue > limits::WEBHOOK_RETRY_OVERDUE {
                    self.pending -= 1;
                    self.notes.push_back(Note::Expired { endpoint, event, why: Expiry::Stale });
                    return Ok(());
                }
                let wait = match u64::try_from(ahead) {
                    Ok(ahead @ 1..) => Duration::from_micros(ahead).min(LONGEST_WAIT),
                    _ => recovery_spread(endpoint, event.number),
                };
                lane.push_retry(event, attempt, now.mono + wait);
            }
            _ => {
                self.pending -= 1;
                return Err(Refusal::BadAttempt);
            }
        }
        let over = lane.pending() > self.bounds.pending_per_endpoint;
        self.pending -= make_room(now, endpoint, lane, usize::from(over), &mut self.notes);
        self.board.place(now.mono, endpoint, lane);
        self.hold_total(now);
        Ok(())
    }

    // ---- Inside --------------------------------------------------------------------------------

    /// Changes a lane and puts it where it then belongs.
    fn touch<T>(
        &mut self,
        now: Mono,
        endpoint: EndpointId,
        change: impl FnOnce(&mut Lane<E, P>) -> T,
    ) -> Result<T, Refusal> {
        let lane = self.lanes.get_mut(&endpoint).ok_or(Refusal::UnknownEndpoint)?;
        let answer = change(lane);
        self.board.place(now, endpoint, lane);
        Ok(answer)
    }

    fn note_changes(&mut self, endpoint: EndpointId, changes: Changes) {
        let changes = changes.into_iter().flatten();
        self.notes.extend(changes.map(|change| Note::Changed { endpoint, change }));
    }
}

/// Deliveries of a lane that give way: `excess` of them, and of an endpoint that is away up to two
/// that are no longer fresh, so that its queue shrinks while events come. Returns how many.
fn make_room<E, P>(
    now: Now,
    endpoint: EndpointId,
    lane: &mut Lane<E, P>,
    excess: usize,
    notes: &mut VecDeque<Note<E>>,
) -> usize {
    let before = lane.waiting();
    let gave_way = core::iter::from_fn(|| lane.give_way()).take(excess);
    notes.extend(gave_way.map(|event| Note::Expired { endpoint, event, why: Expiry::Overflow }));
    let stale = core::iter::from_fn(|| lane.expire_held(now.wall)).take(2);
    notes.extend(stale.map(|event| Note::Expired { endpoint, event, why: Expiry::Stale }));
    before - lane.waiting()
}

/// What follows attempt `attempt` at an event, and when.
fn sequel(now: Now, attempt: u8, verdict: &Verdict, random: u64) -> (Sequel, Mono) {
    let wait = match *verdict {
        Verdict::Delivered => return (Sequel::Done, Mono::NEVER),
        Verdict::Permanent { .. } => return (Sequel::Failed, Mono::NEVER),
        Verdict::Retry { wait, .. } => wait,
        // Asked for before it comes here; a broken connection like any other.
        Verdict::Resend => Wait::Step,
    };
    match wait_after(attempt, wait, random) {
        None => (Sequel::Failed, Mono::NEVER),
        Some(wait) => {
            let due = now.mono + wait;
            (Sequel::Retry { attempt: attempt.saturating_add(1), due: wall_of(now, due) }, due)
        }
    }
}

/// The wall time of an instant, rounded up so that a delivery taken in again is never early.
fn wall_of(now: Now, at: Mono) -> WallUs {
    let ahead = i64::try_from(at.0.saturating_sub(now.mono.0).div_ceil(1_000)).unwrap_or(i64::MAX);
    let behind = i64::try_from(now.mono.0.saturating_sub(at.0) / 1_000).unwrap_or(i64::MAX);
    WallUs(now.wall.0.saturating_add(ahead).saturating_sub(behind))
}

fn recovery_spread(endpoint: EndpointId, event: u64) -> Duration {
    let spread_ns = limits::WEBHOOK_RECOVERY_SPREAD.as_nanos() as u64;
    Duration::from_nanos(scatter(scatter(endpoint.0) ^ event) % spread_ns)
}

#[cfg(test)]
#[path = "dispatcher_tests.rs"]
mod tests;
