//! One endpoint's deliveries: what waits for its first attempt, what waits for its next, and what is
//! in flight.
//!
//! Contract: events wait in the order they came and their first attempts start in that order; at most
//! [`limits::WEBHOOK_IN_FLIGHT`] attempts are in flight, at most [`limits::WEBHOOK_RETRIES_IN_FLIGHT`]
//! of them retries; of one that is silent or whose last attempt timed out, at most
//! [`limits::WEBHOOK_IN_FLIGHT_SILENT`] deliveries. A lane knows nothing of other lanes: how it fares changes nothing for them. A
//! waiting event takes 8 bytes, a waiting retry 32 (without the tables' slack): events are shared.
//! Owner: the webhook thread. Fails never; the bounds on what waits are the dispatcher's.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use core::time::Duration;

use super::board::Place;
use super::endpoint::{Endpoint, Ping, State};
use super::event::EventKind;
use crate::limits;
use crate::time::{Mono, Now, WallUs};

/// An event as every lane that waits for it shares it.
#[derive(Debug)]
pub struct QueuedEvent<E> {
    /// Its number in the store.
    pub number: u64,
    /// When it became known.
    pub created: WallUs,
    /// Its first attempt must start within this time of `created`, else it expires: "a bot must not
    /// buy an hour-old listing unasked". `None`: a customer asked for it, it never expires.
    pub fresh_for: Option<Duration>,
    /// What is sent.
    pub payload: E,
}

impl<E> QueuedEvent<E> {
    /// Whether its first attempt may still start.
    #[must_use]
    pub fn is_fresh(&self, now: WallUs) -> bool {
        let age = Duration::from_micros(u64::try_from(now.micros_since(self.created)).unwrap_or(0));
        self.fresh_for.is_none_or(|fresh_for| age <= fresh_for)
    }
}

/// How long an event of this kind is news, for [`QueuedEvent::fresh_for`].
#[must_use]
pub const fn fresh_for(kind: EventKind) -> Duration {
    match kind {
        EventKind::NewListing | EventKind::FuturesListing | EventKind::Delisting => {
            limits::WEBHOOK_LISTING_FRESH
        }
        EventKind::ListingPreview | EventKind::VolumeSpike | EventKind::Ping => limits::WEBHOOK_PREVIEW_FRESH,
    }
}

/// What an attempt is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// An event's delivery.
    Event {
        /// 1 to [`limits::WEBHOOK_ATTEMPTS`].
        attempt: u8,
    },
    /// A ping.
    Ping(Ping),
    /// A test event: one attempt, never counted.
    Test,
}

#[derive(Debug)]
struct Retry<E> {
    event: Arc<QueuedEvent<E>>,
    attempt: u8,
}

/// What a lane gives out when it is its turn.
#[derive(Debug)]
pub(super) enum Next<E> {
    Send(Purpose, Option<Arc<QueuedEvent<E>>>),
    Expired(Arc<QueuedEvent<E>>),
}

/// See the module head.
#[derive(Debug)]
pub(super) struct Lane<E, P> {
    pub(super) profile: P,
    pub(super) endpoint: Endpoint,
    /// Where the board has it.
    pub(super) place: Place,
    waiting: VecDeque<Arc<QueuedEvent<E>>>,
    /// By when it is due; the second number keeps keys apart.
    retries: BTreeMap<(Mono, u64), Retry<E>>,
    tests: VecDeque<Arc<QueuedEvent<E>>>,
    first_in_flight: u16,
    retries_in_flight: u16,
    others_in_flight: u16,
    /// When it last answered or failed at once, or began to be waited for.
    alive_at: Mono,
    /// Number of the event offered last.
    pub(super) offered: u64,
}

impl<E, P> Lane<E, P> {
    pub(super) fn new(endpoint: Endpoint, profile: P) -> Lane<E, P> {
        Lane {
            profile,
            endpoint,
            place: Place::default(),
            waiting: VecDeque::new(),
            retries: BTreeMap::new(),
            tests: VecDeque::new(),
            first_in_flight: 0,
            retries_in_flight: 0,
            others_in_flight: 0,
            alive_at: Mono(0),
            offered: 0,
        }
    }

    fn is_active(&self) -> bool {
        self.endpoint.state() == State::Active
    }

    /// Active, and its last attempt did not time out.
    fn is_answering(&self) -> bool {
        self.is_active() && !self.endpoint.is_ailing()
    }

    /// Answering, and so little in flight that one more finds a warm connection.
    pub(super) fn is_well(&self) -> bool {
        self.is_answering() && self.in_flight() < limits::WEBHOOK_WARM_CONNECTIONS
    }

    fn in_flight(&self) -> u16 {
        self.first_in_flight + self.retries_in_flight + self.others_in_flight
    }

    fn has_room(&self) -> bool {
        self.in_flight() < limits::WEBHOOK_IN_FLIGHT
    }

    /// Whether one more delivery may start. Time alone never makes room: only something that ends does.
    fn has_room_for_delivery(&self, now: Mono) -> bool {
        let deliveries = self.first_in_flight + self.retries_in_flight;
        let silent = deliveries > 0 && now.since(self.alive_at) >= limits::WEBHOOK_SILENCE;
        let few = deliveries < limits::WEBHOOK_IN_FLIGHT_SILENT;
        self.has_room() && (few || !(silent || self.endpoint.is_ailing()))
    }

    /// Something starts.
    fn begun(&mut self, now: Mono) {
        if self.in_flight() == 0 {
            self.alive_at = now;
        }
    }

    // ---- What waits ----------------------------------------------------------------------------

    /// An event for its first attempt, behind all others.
    pub(super) fn push(&mut self, event: Arc<QueuedEvent<E>>) {
        self.waiting.push_back(event);
    }

    /// A delivery whose attempt `attempt` is due at `due`.
    pub(super) fn push_retry(&mut self, event: Arc<QueuedEvent<E>>, attempt: u8, due: Mono) {
        let mut key = (due, event.number);
        // An event sent again on request may wait beside itself.
        while self.retries.contains_key(&key) {
            key.1 = key.1.wrapping_add(1);
        }
        self.retries.insert(key, Retry { event, attempt });
    }

    /// A test event; `false` when too many wait.
    pub(super) fn push_test(&mut self, event: Arc<QueuedEvent<E>>) -> bool {
        let room = self.tests.len() < usize::from(limits::WEBHOOK_TESTS_PER_DAY);
        if room {
            self.tests.push_back(event);
        }
        room
    }

    /// Deliveries that wait, without those in flight.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len() + self.retries.len()
    }

    /// Deliveries that wait or are in flight.
    pub(super) fn pending(&self) -> usize {
        self.waiting() + usize::from(self.first_in_flight) + usize::from(self.retries_in_flight)
    }

    /// Deliveries that wait, in the order in which a restart must take them in again.
    pub(super) fn each_waiting(&self) -> impl Iterator<Item = (&Arc<QueuedEvent<E>>, u8, Option<Mono>)> {
        let first = self.waiting.iter().map(|event| (event, 1, None));
        let retries = self.retries.iter();
        first.chain(retries.map(|((due, _), retry)| (&retry.event, retry.attempt, Some(*due))))
    }

    /// Takes out what can best be done without: the event that has waited longest for its first
    /// attempt, else the retry that is due last.
    pub(super) fn give_way(&mut self) -> Option<Arc<QueuedEvent<E>>> {
        let oldest = self.waiting.pop_front();
        oldest.or_else(|| self.retries.pop_last().map(|(_, retry)| retry.event))
    }

    /// While the endpoint is away, the event at the head if it is no longer fresh: so that what is
    /// held never grows past the time it is worth.
    pub(super) fn expire_held(&mut self, now: WallUs) -> Option<Arc<QueuedEvent<E>>> {
        let held = !self.is_active();
        let stale = self.waiting.front().is_some_and(|event| held && !event.is_fresh(now));
        if stale { self.waiting.pop_front() } else { None }
    }

    // ---- What goes -----------------------------------------------------------------------------

    /// Whether a first attempt may start, as far as this lane is concerned.
    pub(super) fn has_first(&self, now: Mono) -> bool {
        self.is_active() && self.has_room_for_delivery(now) && !self.waiting.is_empty()
    }

    /// Whether the next first attempt is one the endpoint is assured of. One whose last attempt timed
    /// out is assured of none: it goes behind those that answer.
    pub(super) fn is_assured(&self) -> bool {
        self.first_in_flight < limits::WEBHOOK_IN_FLIGHT_ASSURED && !self.endpoint.is_ailing()
    }

    /// Assured first attempts not in flight.
    pub(super) fn unused_assurance(&self) -> usize {
        let unused = limits::WEBHOOK_IN_FLIGHT_ASSURED.saturating_sub(self.first_in_flight);
        if self.is_answering() { usize::from(unused) } else { 0 }
    }

    /// When a ping, test event or retry may start, as far as this lane is concerned. `NEVER` while
    /// that depends on something in flight.
    pub(super) fn other_deadline(&self, now: Mono) -> Mono {
        if !self.has_room() {
            return Mono::NEVER;
        }
        if !self.tests.is_empty() {
            return Mono(0);
        }
        self.endpoint.deadline().min(self.retry_deadline(now))
    }

    fn retry_deadline(&self, now: Mono) -> Mono {
        let allowed = self.is_active()
            && self.retries_in_flight < limits::WEBHOOK_RETRIES_IN_FLIGHT
            && self.has_room_for_delivery(now);
        let first = self.retries.first_key_value().filter(|_| allowed);
        first.map_or(Mono::NEVER, |((due, _), _)| *due)
    }

    /// The next first attempt.
    pub(super) fn take_first(&mut self, now: Now) -> Option<Next<E>> {
        let event = self.waiting.pop_front()?;
        if !event.is_fresh(now.wall) {
            return Some(Next::Expired(event));
        }
        self.begun(now.mono);
        self.first_in_flight += 1;
        Some(Next::Send(Purpose::Event { attempt: 1 }, Some(event)))
    }

    /// The next ping, test event or retry that is due.
    pub(super) fn take_other(&mut self, now: Now) -> Option<Next<E>> {
        if !self.has_room() {
            return None;
        }
        if let Some(ping) = self.endpoint.start_ping(now.mono) {
            self.begun(now.mono);
            self.others_in_flight += 1;
            return Some(Next::Send(Purpose::Ping(ping), None));
        }
        if let Some(test) = self.tests.pop_front() {
            self.begun(now.mono);
            self.others_in_flight += 1;
            return Some(Next::Send(Purpose::Test, Some(test)));
        }
        if self.retry_deadline(now.mono) > now.mono {
            return None;
        }
        let ((due, _), Retry { event, attempt }) = self.retries.pop_first()?;
        if now.mono.since(due) > limits::WEBHOOK_RETRY_OVERDUE {
            return Some(Next::Expired(event));
        }
        self.begun(now.mono);
        self.retries_in_flight += 1;
        Some(Next::Send(Purpose::Event { attempt }, Some(event)))
    }

    /// An attempt is no longer in flight. `heard`: the endpoint was heard of, be it by a refusal.
    pub(super) fn ended(&mut self, now: Mono, purpose: Purpose, heard: bool) {
        if heard {
            self.alive_at = now;
        }
        let count = match purpose {
            Purpose::Event { attempt: 1 } => &mut self.first_in_flight,
            Purpose::Event { .. } => &mut self.retries_in_flight,
            Purpose::Ping(_) | Purpose::Test => &mut self.others_in_flight,
        };
        *count = count.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: u64, fresh_for: Option<u64>) -> Arc<QueuedEvent<()>> {
        let fresh_for = fresh_for.map(Duration::from_secs);
        Arc::new(QueuedEvent { number, created: WallUs::from_secs(100), fresh_for, payload: () })
    }

    /// An active lane.
    fn lane() -> Lane<(), ()> {
        let mut endpoint = Endpoint::new(Mono(0), 1, true);
        endpoint.verify(Mono(0));
        endpoint.start_ping(Mono(0));
        endpoint.on_ping(
            Mono(0),
            Ping::Verification,
            &super::super::attempt::Verdict::Delivered,
            Duration::ZERO,
        );
        Lane::new(endpoint, ())
    }

    const NOW: Now = Now { mono: Mono(1), wall: WallUs::from_secs(100) };

    #[test]
    fn pending_deliveries_are_small() {
        assert_eq!(size_of::<Arc<QueuedEvent<()>>>(), 8);
        assert_eq!(size_of::<(Mono, u64)>() + size_of::<Retry<()>>(), 32);
    }

    #[test]
    fn freshness_has_an_exact_edge() {
        let at = |micros: i64| WallUs(100_000_000 + micros);
        assert!(event(1, Some(60)).is_fresh(at(60_000_000)));
        assert!(!event(1, Some(60)).is_fresh(at(60_000_001)));
        assert!(event(1, Some(60)).is_fresh(WallUs(i64::MIN)), "a clock set back expires nothing");
        assert!(event(1, None).is_fresh(WallUs(i64::MAX)));
    }

    #[test]
    fn at_most_eight_in_flight_of_which_six_retries() {
        let mut lane = lane();
        for number in 0..20 {
            lane.push_retry(event(number, None), 2, Mono(0));
        }
        let retries = core::iter::from_fn(|| lane.take_other(NOW)).count();
        assert_eq!(retries, usize::from(limits::WEBHOOK_RETRIES_IN_FLIGHT));
        assert_eq!(lane.other_deadline(NOW.mono), lane.endpoint.deadline());
        (20..40).for_each(|number| lane.push(event(number, None)));
        let mut firsts = 0;
        while lane.has_first(NOW.mono) {
            lane.take_first(NOW);
            firsts += 1;
        }
        assert_eq!(firsts, 2);
        assert_eq!((lane.pending(), lane.waiting(), lane.other_deadline(NOW.mono)), (40, 32, Mono::NEVER));
        lane.ended(NOW.mono, Purpose::Event { attempt: 3 }, true);
        assert!(lane.has_first(NOW.mono));
        assert!(lane.other_deadline(NOW.mono) <= NOW.mono);
    }

    #[test]
    fn of_a_silent_endpoint_two_are_in_flight_until_it_is_heard_of() {
        let mut lane = lane();
        (0..20).for_each(|number| lane.push(event(number, None)));
        lane.push_retry(event(20, None), 2, Mono(0));
        let at = |after: Duration| Now { mono: NOW.mono + after, wall: NOW.wall };
        let first = Purpose::Event { attempt: 1 };
        assert!(lane.is_well());
        for _ in 0..2 {
            assert!(lane.has_first(NOW.mono));
            lane.take_first(NOW);
        }
        assert!(!lane.is_well(), "one more would need another connection");
        // A burst does not wait for the first answer.
        assert!(lane.has_first(NOW.mono));
        let late = at(limits::WEBHOOK_SILENCE);
        assert!(!lane.has_first(late.mono));
        assert_eq!(lane.retry_deadline(late.mono), Mono::NEVER);
        lane.ended(late.mono, first, false);
        assert!(lane.has_first(late.mono), "a timeout makes room for one");
        lane.take_first(late);
        assert!(!lane.has_first(late.mono));
        lane.ended(late.mono, first, true);
        while lane.has_first(late.mono) {
            lane.take_first(late);
        }
        assert_eq!(lane.in_flight(), limits::WEBHOOK_IN_FLIGHT);
        // Long after a rest, the wait begins anew.
        (0..8).for_each(|_| lane.ended(late.mono, first, true));
        let later = at(Duration::from_secs(60));
        (0..3).for_each(|_| assert!(lane.has_first(later.mono) && lane.take_first(later).is_some()));
    }

    #[test]
    fn one_event_may_wait_beside_itself() {
        let mut lane = lane();
        for attempt in 2..5 {
            lane.push_retry(event(u64::MAX, None), attempt, Mono(1));
        }
        assert_eq!(lane.waiting(), 3);
    }

    #[test]
    fn the_oldest_event_gives_way_then_the_last_retry() {
        let mut lane = lane();
        lane.push_retry(event(1, None), 2, Mono(50));
        lane.push_retry(event(2, None), 2, Mono(90));
        lane.push(event(3, None));
        lane.push(event(4, None));
        let order: Vec<u64> = core::iter::from_fn(|| lane.give_way()).map(|event| event.number).collect();
        assert_eq!(order, [3, 4, 2, 1]);
    }

    #[test]
    fn a_retry_kept_back_too_long_expires() {
        let mut lane = lane();
        lane.push_retry(event(1, None), 2, Mono(0));
        lane.push_retry(event(2, None), 2, Mono(2));
        let late = Now { mono: Mono(1) + limits::WEBHOOK_RETRY_OVERDUE, wall: NOW.wall };
        assert!(matches!(lane.take_other(late), Some(Next::Send(Purpose::Ping(Ping::Health), None))));
        assert!(matches!(lane.take_other(late), Some(Next::Expired(event)) if event.number == 1));
        assert!(matches!(lane.take_other(late), Some(Next::Send(Purpose::Event { attempt: 2 }, Some(_)))));
    }
}
