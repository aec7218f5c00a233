//! The dispatcher against simulated receivers on a virtual clock. Every step is checked against a
//! model of each delivery: what may start, when, and in which order.

use super::*;
use crate::http1::response::RetryAfter;
use crate::webhook::attempt::FailureClass;
use crate::webhook::endpoint::{Disabled, Mail, Ping, State};
use proptest::prelude::*;

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

const MILLI: Duration = Duration::from_millis(1);

/// How a simulated receiver behaves.
#[derive(Clone, Copy, Debug)]
enum Receiver {
    /// 200 after this long.
    Good(Duration),
    /// Never answers.
    Hung,
    /// Always this, to pings 200.
    Events(Report),
    /// Always this.
    Always(Report),
    /// Anything, drawn per attempt.
    Random,
}

impl Receiver {
    fn answer(self, purpose: Purpose, draw: u64) -> (Duration, Report) {
        let ok = Report::status(200);
        let is_event = matches!(purpose, Purpose::Event { .. });
        match self {
            Receiver::Good(took) => (took, ok),
            Receiver::Hung => (limits::WEBHOOK_TIMEOUT, Report::failed(FailureClass::Timeout)),
            Receiver::Events(report) => (MILLI, if is_event { report } else { ok }),
            Receiver::Always(report) => (MILLI, report),
            Receiver::Random => random_answer(draw),
        }
    }
}

fn random_answer(draw: u64) -> (Duration, Report) {
    let took = Duration::from_millis(draw / 100 % 9_000);
    let retry_after = Some(RetryAfter::Seconds(draw / 1_000 % 100_000));
    match draw % 100 {
        0..50 => (took / 100, Report::status(200)),
        50..55 => (took, Report::status(204)),
        55..65 => (limits::WEBHOOK_TIMEOUT, Report::failed(FailureClass::Timeout)),
        65..80 => (took / 10, Report::status(500)),
        80..83 => (took, Report::Answered { status: 503, retry_after, date: None }),
        83..87 => (took, Report::Answered { status: 429, retry_after, date: None }),
        87..90 => (took, Report::failed(FailureClass::Connect)),
        90..93 => (took, Report::Failed { class: FailureClass::Reset, stale_connection: true }),
        93..95 => (took, Report::status(301)),
        95..97 => (took, Report::status(401)),
        97..99 => (took, Report::status(404)),
        _ => (took, Report::status(410)),
    }
}

/// What the model knows of one delivery.
#[derive(Clone, Debug)]
struct Delivery {
    next_attempt: u8,
    /// Not before this, and with nothing in the way not later than a minute and a tenth after.
    due: Mono,
    in_flight: bool,
    end: Option<End>,
    attempts: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Delivered,
    Failed,
    Expired(Expiry),
}

#[derive(Debug)]
struct World {
    dispatcher: Dispatcher<u32, Receiver>,
    bounds: Bounds,
    now: Now,
    seed: u64,
    draws: u64,
    events: BTreeMap<u64, Arc<QueuedEvent<u32>>>,
    /// By when it ends.
    in_flight: BTreeMap<(Mono, Ticket), (EndpointId, Purpose, Report)>,
    per_endpoint: BTreeMap<EndpointId, (u16, u16)>,
    deliveries: BTreeMap<(EndpointId, u64), Delivery>,
    /// The last event whose first attempt started, by endpoint.
    last_first: BTreeMap<EndpointId, u64>,
    starts: Vec<(Mono, EndpointId, Purpose, Option<u64>)>,
    changes: Vec<(EndpointId, Change)>,
    settled: Vec<(EndpointId, Purpose, Verdict, Sequel)>,
}

impl World {
    fn new(bounds: Bounds, seed: u64) -> World {
        World {
            dispatcher: Dispatcher::new(bounds),
            bounds,
            now: Now { mono: Mono(0) + secs(1_000), wall: WallUs::from_secs(1_700_000_000) },
            seed,
            draws: 0,
            events: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            per_endpoint: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            last_first: BTreeMap::new(),
            starts: Vec::new(),
            changes: Vec::new(),
            settled: Vec::new(),
        }
    }

    /// With verified endpoints numbered from 1.
    fn with(bounds: Bounds, receivers: &[Receiver]) -> World {
        let mut world = World::new(bounds, 1);
        for (id, receiver) in (1..).map(EndpointId).zip(receivers) {
            world.add(id, *receiver);
        }
        world
    }

    fn add(&mut self, id: EndpointId, receiver: Receiver) {
        let saved = SavedHealth { state: State::Active, since: self.now.wall, failures: 0, slow: false };
        assert_eq!(self.dispatcher.add(self.now, id, receiver, true, Some(&saved)), Ok(()));
    }

    fn draw(&mut self) -> u64 {
        self.draws += 1;
        scatter(self.seed ^ scatter(self.draws))
    }

    fn event(&mut self, fresh_for: Option<Duration>) -> Arc<QueuedEvent<u32>> {
        let number = self.events.len() as u64 + 1;
        let event = Arc::new(QueuedEvent { number, created: self.now.wall, fresh_for, payload: 0 });
        self.events.insert(number, Arc::clone(&event));
        event
    }

    /// A listing to everyone.
    fn publish(&mut self) -> u64 {
        let event = self.event(Some(limits::WEBHOOK_LISTING_FRESH));
        for (id, lane) in &self.dispatcher.lanes {
            if lane.endpoint.state().takes_events() {
                self.deliveries.insert((*id, event.number), Delivery::new(self.now.mono));
            }
        }
        self.dispatcher.on_event(self.now, &event, |_| true);
        self.poll();
        event.number
    }

    fn advance_to(&mut self, mono: Mono) {
        let passed = i64::try_from(mono.since(self.now.mono).as_micros()).unwrap();
        // Sub-microsecond parts are dropped: the wall clock never runs ahead.
        self.now = Now { mono, wall: WallUs(self.now.wall.0 + passed) };
    }

    /// To the next instant at which something happens, not beyond `until`; `false` there.
    fn step(&mut self, until: Mono) -> bool {
        let ends = self.in_flight.first_key_value().map_or(Mono::NEVER, |((at, _), _)| *at);
        let next = ends.min(self.dispatcher.deadline()).max(self.now.mono);
        self.advance_to(next.min(until));
        while let Some(first) = self.in_flight.first_entry().filter(|e| e.key().0 <= self.now.mono) {
            let ((_, ticket), (id, purpose, report)) = first.remove_entry();
            self.end(ticket, id, purpose, report);
        }
        self.poll();
        next < until
    }

    fn run(&mut self, until: Mono) {
        while self.step(until) {}
    }

    fn end(&mut self, ticket: Ticket, id: EndpointId, purpose: Purpose, report: Report) {
        let random = self.draw();
        match self.dispatcher.on_result(self.now, ticket, &report, random) {
            Handling::Settled => {
                self.count(id, purpose, -1);
                // A late answer is nobody's.
                let late = self.dispatcher.on_result(self.now, ticket, &Report::status(200), random);
                assert_eq!(late, Handling::Unknown);
            }
            Handling::Resend => {
                assert!(matches!(report, Report::Failed { stale_connection: true, .. }));
                self.in_flight.insert((self.now.mono + MILLI, ticket), (id, purpose, report));
            }
            Handling::Unknown => panic!("{ticket:?} was in flight"),
        }
    }

    fn count(&mut self, id: EndpointId, purpose: Purpose, by: i16) {
        let (all, retries) = self.per_endpoint.entry(id).or_default();
        *all = all.checked_add_signed(by).unwrap();
        if matches!(purpose, Purpose::Event { attempt: 2.. }) {
            *retries = retries.checked_add_signed(by).unwrap();
        }
        assert!(*all <= limits::WEBHOOK_IN_FLIGHT && *retries <= limits::WEBHOOK_RETRIES_IN_FLIGHT);
    }

    fn poll(&mut self) {
        let mut quiet = 0;
        while let Some(action) = self.dispatcher.poll(self.now) {
            match action {
                Action::Start(start) => self.started(&start),
                Action::Note(note) => self.noted(note),
            }
            quiet += 1;
            assert!(quiet < 1_000_000, "poll comes to an end");
        }
        assert!(self.dispatcher.deadline() > self.now.mono);
        assert_eq!(self.dispatcher.in_flight(), self.in_flight.len());
        assert!(self.in_flight.len() <= self.bounds.in_flight);
    }

    fn started(&mut self, start: &Start<u32>) {
        let now = self.now.mono;
        assert_eq!(start.deadline, now + limits::WEBHOOK_TIMEOUT);
        let number = start.event.as_ref().map(|event| event.number);
        if let (Purpose::Event { attempt }, Some(number)) = (start.purpose, number) {
            assert_eq!(self.dispatcher.lanes[&start.endpoint].endpoint.state(), State::Active);
            let delivery = self.deliveries.get_mut(&(start.endpoint, number)).unwrap();
            assert_eq!(delivery.end, None, "nothing concluded is sent again");
            assert!(!delivery.in_flight);
            assert_eq!(attempt, delivery.next_attempt);
            assert!(attempt <= limits::WEBHOOK_ATTEMPTS);
            assert!(now >= delivery.due, "never early");
            delivery.in_flight = true;
            delivery.attempts += 1;
            if attempt == 1 {
                let event = start.event.as_ref().unwrap();
                assert!(event.is_fresh(self.now.wall));
                let last = self.last_first.insert(start.endpoint, number);
                assert!(last.is_none_or(|last| last < number), "first attempts in order");
            }
        }
        self.count(start.endpoint, start.purpose, 1);
        let receiver = *self.dispatcher.profile(start.endpoint).unwrap();
        let draw = self.draw();
        let (took, report) = receiver.answer(start.purpose, draw);
        self.in_flight.insert((now + took, start.ticket), (start.endpoint, start.purpose, report));
        self.starts.push((now, start.endpoint, start.purpose, number));
    }

    fn noted(&mut self, note: Note<u32>) {
        match note {
            Note::Changed { endpoint, change } => self.changes.push((endpoint, change)),
            Note::Expired { endpoint, event, why } => {
                let delivery = self.deliveries.get_mut(&(endpoint, event.number)).unwrap();
                assert!(delivery.end.is_none() && !delivery.in_flight);
                delivery.end = Some(End::Expired(why));
            }
            Note::Settled { endpoint, purpose, event, verdict, sequel, .. } => {
                self.settled.push((endpoint, purpose, verdict, sequel));
                let Purpose::Event { attempt } = purpose else { return };
                let key = (endpoint, event.unwrap().number);
                let delivery = self.deliveries.get_mut(&key).unwrap();
                assert!(core::mem::replace(&mut delivery.in_flight, false));
                match sequel {
                    Sequel::Done => delivery.end = Some(End::Delivered),
                    Sequel::Failed => delivery.end = Some(End::Failed),
                    Sequel::Retry { attempt: next, due } => {
                        assert_eq!(next, attempt + 1);
                        let Verdict::Retry { wait, .. } = verdict else { panic!("{verdict:?} is retried") };
                        let least = wait_after(attempt, wait, 0).unwrap();
                        let ahead =
                            Duration::from_micros(u64::try_from(due.micros_since(self.now.wall)).unwrap());
                        assert!(ahead >= least);
                        assert!(ahead <= least + (least / 10).min(secs(60)) + Duration::from_micros(1));
                        delivery.next_attempt = next;
                        delivery.due = self.now.mono + least;
                    }
                }
            }
        }
    }

    /// The dispatcher's pending deliveries are the model's, each once.
    fn check_conservation(&self) {
        let mut listed = BTreeMap::new();
        for pending in self.dispatcher.pending(self.now) {
            let twice = listed.insert((pending.endpoint, pending.event), pending.attempt);
            assert_eq!(twice, None);
        }
        let open = self.deliveries.iter().filter(|(_, d)| d.end.is_none());
        let open: BTreeMap<_, _> = open.map(|(key, d)| (*key, d.next_attempt)).collect();
        assert!(listed == open, "the dispatcher and the model differ");
        assert_eq!(self.dispatcher.pending_total(), open.len());
    }

    /// Another process takes over: what was in flight is lost with its answers.
    fn restart(&mut self) {
        let pending: Vec<_> = self.dispatcher.pending(self.now).collect();
        let old = core::mem::replace(&mut self.dispatcher, Dispatcher::new(self.bounds));
        for (id, lane) in old.lanes {
            let saved = lane.endpoint.saved(self.now);
            self.dispatcher.add(self.now, id, lane.profile, true, Some(&saved)).unwrap();
        }
        self.in_flight.clear();
        self.per_endpoint.clear();
        self.last_first.clear();
        for delivery in self.deliveries.values_mut() {
            delivery.in_flight = false;
        }
        for record in pending {
            let event = Arc::clone(&self.events[&record.event]);
            self.dispatcher.import(self.now, &record, event).unwrap();
        }
        self.poll();
        self.check_conservation();
    }

    fn ends(&self, id: u64) -> Vec<Option<End>> {
        let of = self.deliveries.iter().filter(|((endpoint, _), _)| endpoint.0 == id);
        of.map(|(_, delivery)| delivery.end).collect()
    }

    /// Seconds of the starts of event attempts at an endpoint, since `from`.
    fn attempts_at(&self, id: u64, from: Mono) -> Vec<u64> {
        let of = self.starts.iter().filter(|s| s.1.0 == id && matches!(s.2, Purpose::Event { .. }));
        of.map(|start| start.0.since(from).as_secs()).collect()
    }
}

impl Delivery {
    fn new(now: Mono) -> Delivery {
        Delivery { next_attempt: 1, due: now, in_flight: false, end: None, attempts: 0 }
    }
}

// ---- The ladder --------------------------------------------------------------------------------

#[test]
fn the_whole_ladder() {
    let answered = |status, retry_after| Report::Answered { status, retry_after, date: None };
    let asked = |seconds| Some(RetryAfter::Seconds(seconds));
    // (answer to every attempt, the least waits between attempts)
    let rows: &[(Report, &[u64])] = &[
        (Report::status(200), &[]),
        (Report::status(404), &[]),
        (Report::status(500), &[30, 300, 1_800, 7_200, 21_600]),
        (Report::status(401), &[30, 300, 1_800, 7_200, 21_600]),
        (Report::status(307), &[30, 300, 1_800, 7_200, 21_600]),
        (Report::failed(FailureClass::Dns), &[30, 300, 1_800, 7_200, 21_600]),
        (answered(429, None), &[60, 600, 3_600, 14_400, 43_200]),
        (answered(429, asked(7_200)), &[7_200, 7_200, 7_200, 14_400, 43_200]),
        (answered(429, asked(1 << 60)), &[43_200; 5]),
        (answered(503, asked(45)), &[45, 300, 1_800, 7_200, 21_600]),
        (answered(503, asked(1 << 60)), &[60, 600, 3_600, 14_400, 43_200]),
    ];
    for (report, waits) in rows {
        let mut world = World::with(Bounds::default(), &[Receiver::Events(*report)]);
        world.publish();
        let from = world.now.mono;
        world.run(from + secs(300_000));
        let starts = world.attempts_at(1, from);
        assert_eq!(starts.len(), waits.len() + 1, "{report:?}");
        for (pair, wait) in starts.windows(2).zip(*waits) {
            let took = pair[1] - pair[0];
            assert!((*wait..=*wait + 1 + (*wait / 10).min(60)).contains(&took), "{report:?}: {starts:?}");
        }
        let end = if *report == Report::status(200) { End::Delivered } else { End::Failed };
        assert_eq!(world.ends(1), [Some(end)]);
    }
}

#[test]
fn a_resend_belongs_to_its_attempt() {
    let stale = Report::Failed { class: FailureClass::Reset, stale_connection: true };
    let mut world = World::with(Bounds::default(), &[Receiver::Events(stale)]);
    world.publish();
    world.run(world.now.mono + secs(40_000));
    assert_eq!(world.deliveries.values().map(|d| d.attempts).collect::<Vec<_>>(), [6]);
    assert_eq!(world.ends(1), [Some(End::Failed)]);
}

// ---- Endpoints ---------------------------------------------------------------------------------

#[test]
fn verification_comes_before_events() {
    let mut world = World::new(Bounds::default(), 1);
    let id = EndpointId(5);
    assert_eq!(world.dispatcher.add(world.now, id, Receiver::Good(MILLI), true, None), Ok(()));
    let again = world.dispatcher.add(world.now, id, Receiver::Good(MILLI), true, None);
    assert_eq!(again, Err(Refusal::EndpointExists));
    world.publish();
    let event = world.event(None);
    assert_eq!(world.dispatcher.on_test(world.now, id, Arc::clone(&event)), Err(Refusal::NotVerified));
    assert_eq!(world.dispatcher.on_replay(world.now, id, event), Err(Refusal::NotVerified));
    world.run(world.now.mono + secs(1_000));
    assert_eq!(world.starts, []);
    assert_eq!(world.dispatcher.verify(world.now, id), Ok(()));
    world.poll();
    world.run(world.now.mono + secs(1));
    assert_eq!(world.changes, [(id, Change::Verified)]);
    world.publish();
    world.run(world.now.mono + secs(1));
    assert_eq!(world.ends(5), [Some(End::Delivered)]);
    assert_eq!(world.dispatcher.verify(world.now, EndpointId(6)), Err(Refusal::UnknownEndpoint));
}

#[test]
fn a_day_of_pings_over_many_endpoints() {
    let mut world = World::with(Bounds::default(), &[Receiver::Good(MILLI); 50]);
    let from = world.now.mono;
    world.run(from + secs(86_400));
    let mut last = BTreeMap::new();
    for (at, id, purpose, _) in &world.starts {
        assert_eq!(*purpose, Purpose::Ping(Ping::Health));
        let before: Option<Mono> = last.insert(*id, *at);
        assert!(before.is_none_or(|before| at.since(before) == secs(300)));
    }
    assert_eq!(world.starts.len(), 50 * 288);
    assert_eq!(world.changes, []);
}

#[test]
fn test_events_are_sent_once_and_never_counted() {
    let mut world = World::with(Bounds::default(), &[Receiver::Always(Report::status(500))]);
    let id = EndpointId(1);
    for _ in 0..limits::WEBHOOK_TESTS_PER_DAY {
        let event = world.event(None);
        assert_eq!(world.dispatcher.on_test(world.now, id, event), Ok(()));
    }
    let event = world.event(None);
    assert_eq!(world.dispatcher.on_test(world.now, id, event), Err(Refusal::TooManyTests));
    assert_eq!(world.dispatcher.pending_total(), 0);
    world.poll();
    world.run(world.now.mono + MILLI * 50);
    let tests: Vec<_> = world.settled.iter().filter(|(_, purpose, ..)| *purpose == Purpose::Test).collect();
    assert_eq!(tests.len(), 50);
    assert!(tests.iter().all(|(_, _, _, sequel)| *sequel == Sequel::Done));
    assert_eq!(world.dispatcher.endpoint(id).unwrap().failures(), 0);
}

#[test]
fn an_outage_holds_events_and_what_is_still_news_goes_out_in_order() {
    let mut world = World::with(Bounds::default(), &[Receiver::Hung]);
    let id = EndpointId(1);
    for _ in 0..5 {
        world.publish();
    }
    world.run(world.now.mono + secs(11));
    assert_eq!(world.changes, [(id, Change::Suspended)]);
    let suspended = world.now.mono;
    let held: Vec<u64> = (0..20)
        .map(|_| {
            world.run(world.now.mono + secs(60));
            world.publish()
        })
        .collect();
    assert_eq!(world.attempts_at(1, suspended), [0; 5], "nothing but probes is sent");
    *world.dispatcher.profile_mut(id).unwrap() = Receiver::Good(MILLI);
    world.run(world.now.mono + secs(600));
    let back = world.changes.iter().filter(|c| matches!(c.1, Change::Resumed | Change::Recovered)).count();
    assert_eq!(back, 1);
    for number in held {
        let delivery = &world.deliveries[&(id, number)];
        let age = world.now.wall.micros_since(world.events[&number].created);
        match delivery.end {
            Some(End::Delivered) => assert!(age < 1_500_000_000),
            Some(End::Expired(Expiry::Stale)) => assert!(age > 900_000_000),
            other => panic!("{number}: {other:?}"),
        }
    }
    assert!(world.ends(1).contains(&Some(End::Expired(Expiry::Stale))));
    // The first five had been tried: they keep their counters, and are delivered at a later attempt.
    let tried: Vec<_> = (1..=5).map(|number| &world.deliveries[&(id, number)]).collect();
    assert!(tried.iter().all(|d| d.end == Some(End::Delivered) && d.attempts == 2), "{tried:?}");
}

#[test]
fn what_is_held_for_an_endpoint_that_is_away_does_not_grow() {
    let mut world = World::with(Bounds::default(), &[Receiver::Good(MILLI)]);
    world.dispatcher.disable(world.now, EndpointId(1)).unwrap();
    for _ in 0..2_000 {
        world.run(world.now.mono + secs(10));
        world.publish();
        assert!(world.dispatcher.pending_total() <= 92);
    }
    world.check_conservation();
    world.dispatcher.enable(world.now, EndpointId(1)).unwrap();
    world.run(world.now.mono + secs(5));
    assert_eq!(world.dispatcher.pending_total(), 0);
}

#[test]
fn three_concluded_failures_disable_with_one_mail_and_a_probe_brings_it_back() {
    let mut world = World::with(Bounds::default(), &[Receiver::Always(Report::status(404))]);
    let id = EndpointId(1);
    for _ in 0..40 {
        world.publish();
        world.run(world.now.mono + secs(60));
    }
    assert_eq!(world.changes, [(id, Change::AutoDisabled)]);
    *world.dispatcher.profile_mut(id).unwrap() = Receiver::Good(MILLI);
    world.run(world.now.mono + secs(3_601));
    let mails: Vec<_> = world.changes.iter().filter_map(|(_, change)| change.mail()).collect();
    assert_eq!(mails, [Mail::AutoDisabled, Mail::Recovered]);
}

#[test]
fn gone_twice_disables_for_good() {
    let mut world = World::with(Bounds::default(), &[Receiver::Always(Report::status(410))]);
    let from = world.now.mono;
    world.publish();
    world.run(from + secs(100_000));
    assert_eq!(world.ends(1), [Some(End::Failed)]);
    assert_eq!(world.changes, [(EndpointId(1), Change::Gone)]);
    let state = world.dispatcher.endpoint(EndpointId(1)).unwrap().state();
    assert_eq!(state, State::Disabled(Disabled::Gone));
    assert!(world.starts.iter().all(|start| start.0 <= from + secs(61)));
}

#[test]
fn a_removed_endpoint_is_forgotten_while_it_has_attempts_in_flight() {
    let mut world = World::with(Bounds::default(), &[Receiver::Hung, Receiver::Good(MILLI)]);
    for _ in 0..20 {
        world.publish();
    }
    assert!(world.dispatcher.remove(EndpointId(1)).is_some());
    assert!(world.dispatcher.remove(EndpointId(1)).is_none());
    let hung: Vec<_> = world.in_flight.iter().filter(|(_, v)| v.0.0 == 1).map(|(k, _)| *k).collect();
    for key in hung {
        world.in_flight.remove(&key);
        let handling = world.dispatcher.on_result(world.now, key.1, &Report::status(200), 0);
        assert_eq!(handling, Handling::Unknown);
    }
    world.deliveries.retain(|(id, _), _| id.0 == 2);
    world.run(world.now.mono + secs(1_000));
    world.check_conservation();
    assert_eq!(world.dispatcher.pending_total(), 0);
    assert!(world.ends(2).iter().all(|end| *end == Some(End::Delivered)));
}

#[test]
fn results_of_a_removed_endpoint_are_nobody_s_when_its_number_is_given_again() {
    let mut world = World::with(Bounds::default(), &[Receiver::Hung]);
    world.publish();
    let tickets: Vec<Ticket> = world.in_flight.keys().map(|key| key.1).collect();
    assert!(!tickets.is_empty());
    world.dispatcher.remove(EndpointId(1));
    world.dispatcher.add(world.now, EndpointId(1), Receiver::Hung, true, None).unwrap();
    let pending = world.dispatcher.pending(world.now).count();
    assert_eq!(pending, 0, "nothing of it is kept for the next process");
    for ticket in tickets {
        let handling = world.dispatcher.on_result(world.now, ticket, &Report::status(200), 0);
        assert_eq!(handling, Handling::Unknown);
    }
    let endpoint = world.dispatcher.endpoint(EndpointId(1)).unwrap();
    assert_eq!(endpoint.state(), State::Pending, "another endpoint's answers verify nothing");
    assert_eq!((world.dispatcher.pending_total(), world.dispatcher.in_flight()), (0, 0));
}

// ---- Fairness, isolation, bounds ---------------------------------------------------------------

#[test]
fn each_event_begins_at_another_endpoint() {
    let mut world = World::with(Bounds::default(), &[Receiver::Good(MILLI); 4]);
    for _ in 0..4 {
        world.publish();
        world.run(world.now.mono + MILLI * 2);
    }
    let order: Vec<u64> = world.starts.iter().map(|start| start.1.0).collect();
    assert_eq!(order, [1, 2, 3, 4, 2, 3, 4, 1, 3, 4, 1, 2, 4, 1, 2, 3]);
}

#[test]
fn those_that_time_out_go_behind_those_that_answer() {
    let (hung, good) = (Receiver::Hung, Receiver::Good(MILLI));
    let mut world = World::with(Bounds::default(), &[hung, good, hung, good, hung, good]);
    world.publish();
    world.run(world.now.mono + limits::WEBHOOK_TIMEOUT + secs(1));
    // Until two deliveries are in flight to each hung one.
    for expected in [6, 6, 3] {
        let before = world.starts.len();
        world.publish();
        world.run(world.now.mono + MILLI * 10);
        let order: Vec<u64> = world.starts.iter().skip(before).map(|start| start.1.0).collect();
        assert_eq!(order.len(), expected);
        assert!(order.iter().take(3).all(|id| id % 2 == 0), "{order:?}");
    }
}

#[test]
fn filters_choose() {
    let mut world = World::with(Bounds::default(), &[Receiver::Good(MILLI), Receiver::Hung]);
    let event = world.event(None);
    let to = world.dispatcher.on_event(world.now, &event, |receiver| matches!(receiver, Receiver::Hung));
    assert_eq!((to, world.dispatcher.pending_of(EndpointId(2))), (1, 1));
}

/// When the first attempts at the good endpoints start, beside `hung` endpoints that never answer.
fn good_starts(hung: usize, in_flight: usize) -> Vec<(Mono, u64, Option<u64>)> {
    let good = [Receiver::Good(MILLI * 20); 10];
    let receivers: Vec<Receiver> = good.into_iter().chain(vec![Receiver::Hung; hung]).collect();
    let mut world = World::with(Bounds { in_flight, ..Bounds::default() }, &receivers);
    for _ in 0..60 {
        // Two at once, as an announcement of two tickers makes them.
        world.publish();
        world.publish();
        world.run(world.now.mono + secs(1));
    }
    let of_good = world.starts.iter().filter(|s| s.1.0 <= 10 && matches!(s.2, Purpose::Event { .. }));
    let mut starts: Vec<_> = of_good.map(|s| (s.0, s.1.0, s.3)).collect();
    starts.sort_unstable();
    starts
}

#[test]
fn hung_endpoints_delay_nobody() {
    let alone = good_starts(0, 4_096);
    assert_eq!(alone.len(), 1_200);
    assert_eq!(good_starts(200, 4_096), alone);
    // Where the cap is what bounds the hung ones, too.
    assert_eq!(good_starts(200, 600), alone);
}

#[test]
fn first_attempts_go_before_retries_and_all_go_at_a_small_cap() {
    let bounds = Bounds { in_flight: 16, ..Bounds::default() };
    let slow = Receiver::Good(secs(1));
    let mut world = World::with(bounds, &[slow; 40]);
    let retried = world.event(None);
    for id in 1..=40 {
        let id = EndpointId(id);
        let record = PendingDelivery { endpoint: id, event: retried.number, attempt: 2, due: None };
        world.deliveries.insert((id, retried.number), Delivery { next_attempt: 2, ..Delivery::new(Mono(0)) });
        world.dispatcher.import(world.now, &record, Arc::clone(&retried)).unwrap();
    }
    world.run(world.now.mono + secs(61));
    assert!(world.ends(40).iter().all(|end| *end == Some(End::Delivered)), "retries pass at a small cap");
    world.publish();
    world.publish();
    world.run(world.now.mono + secs(20));
    world.check_conservation();
    assert_eq!(world.dispatcher.pending_total(), 0);
}

#[test]
fn at_its_bound_the_longest_queue_gives_way() {
    let bounds = Bounds { pending_per_endpoint: 30, pending: 50, ..Bounds::default() };
    let mut receivers = vec![Receiver::Hung; 2];
    receivers.extend([Receiver::Good(MILLI * 100); 3]);
    let mut world = World::with(bounds, &receivers);
    for _ in 0..60 {
        world.publish();
        assert!(world.dispatcher.pending_total() <= 50);
        assert!(world.dispatcher.pending_of(EndpointId(1)) <= 30);
        world.run(world.now.mono + MILLI * 100);
    }
    world.check_conservation();
    world.run(world.now.mono + secs(1));
    for id in 3..=5 {
        assert!(world.ends(id).iter().all(|end| *end == Some(End::Delivered)));
    }
    let overflowed =
        |id| world.ends(id).iter().filter(|e| **e == Some(End::Expired(Expiry::Overflow))).count();
    assert!(overflowed(1) > 0 && overflowed(2) > 0);
    let one_too_many = Bounds { endpoints: 0, ..bounds };
    let mut full: Dispatcher<u32, ()> = Dispatcher::new(one_too_many);
    assert_eq!(full.add(world.now, EndpointId(1), (), true, None), Err(Refusal::TooManyEndpoints));
}

// ---- Across processes --------------------------------------------------------------------------

#[test]
fn overdue_retries_spread_and_the_others_keep_their_time() {
    let mut world = World::with(Bounds::default(), &[Receiver::Good(MILLI)]);
    let id = EndpointId(1);
    let from = world.now;
    let due = |secs: i64| Some(WallUs(from.wall.0 + secs * 1_000_000));
    // (due in seconds from now, window of the start in seconds; none: expires)
    let rows = [
        (due(-5), Some((0, 60))),
        (due(-21_600), Some((0, 60))),
        (due(-21_601), None),
        (due(0), Some((0, 60))),
        (None, Some((0, 60))),
        (due(100), Some((100, 100))),
        (due(i64::MAX / 2_000_000), Some((43_260, 43_260))),
    ];
    for (due, _) in rows {
        let event = world.event(None);
        world.deliveries.insert((id, event.number), Delivery { next_attempt: 3, ..Delivery::new(Mono(0)) });
        let record = PendingDelivery { endpoint: id, event: event.number, attempt: 3, due };
        world.dispatcher.import(from, &record, event).unwrap();
    }
    world.run(from.mono + secs(50_000));
    for ((due, window), number) in rows.iter().zip(1..) {
        let start = world.starts.iter().find(|start| start.3 == Some(number));
        let at = start.map(|start| start.0.since(from.mono).as_secs());
        assert_eq!(at.is_some(), window.is_some(), "{due:?}");
        if let (Some(at), Some((least, most))) = (at, window) {
            assert!((*least..=*most).contains(&at), "{due:?} started after {at} s");
        }
    }
    for (attempt, id, refusal) in
        [(0, 1, Refusal::BadAttempt), (7, 1, Refusal::BadAttempt), (1, 9, Refusal::UnknownEndpoint)]
    {
        let record = PendingDelivery { endpoint: EndpointId(id), event: 1, attempt, due: None };
        let event = world.event(None);
        assert_eq!(world.dispatcher.import(world.now, &record, event), Err(refusal));
    }
    world.check_conservation();
}

#[test]
fn many_overdue_retries_do_not_leave_at_once() {
    let mut world = World::with(Bounds::default(), &[Receiver::Good(MILLI); 100]);
    let from = world.now.mono;
    for _ in 0..20 {
        let event = world.event(None);
        for id in (1..=100).map(EndpointId) {
            world
                .deliveries
                .insert((id, event.number), Delivery { next_attempt: 2, ..Delivery::new(Mono(0)) });
            let record = PendingDelivery { endpoint: id, event: event.number, attempt: 2, due: None };
            world.dispatcher.import(world.now, &record, Arc::clone(&event)).unwrap();
        }
    }
    world.run(from + secs(61));
    let mut seconds = [0; 61];
    for (at, _, purpose, _) in &world.starts {
        if matches!(purpose, Purpose::Event { .. }) {
            seconds[usize::try_from(at.since(from).as_secs()).unwrap()] += 1;
        }
    }
    assert_eq!(seconds.iter().sum::<u32>(), 2_000);
    assert!(seconds.iter().all(|count| *count < 80), "{seconds:?}");
}

// ---- Everything at once ------------------------------------------------------------------------

/// A day of random outcomes; every step is checked by [`World`].
fn random_day(seed: u64, endpoints: u64, restarts: bool) -> World {
    let mut world = World::new(Bounds { in_flight: 64, ..Bounds::default() }, seed);
    for id in (1..=endpoints).map(EndpointId) {
        let receiver = match id.0 % 10 {
            0 => Receiver::Hung,
            1 => Receiver::Always(Report::status(500)),
            2 => Receiver::Good(MILLI * 30),
            _ => Receiver::Random,
        };
        world.add(id, receiver);
    }
    let end = world.now.mono + secs(86_400);
    while world.now.mono < end {
        let draw = world.draw();
        for _ in 0..=draw % 3 {
            world.publish();
        }
        let id = EndpointId(draw / 8 % endpoints + 1);
        match draw / 1_024 % 40 {
            0 => world.dispatcher.disable(world.now, id).unwrap(),
            1..=4 => world.dispatcher.enable(world.now, id).unwrap(),
            5 if restarts => world.restart(),
            _ => {}
        }
        world.run(world.now.mono + secs(draw / 65_536 % 900));
        world.check_conservation();
    }
    // Nothing is pending for ever: with everyone back, the ladders end.
    for id in (1..=endpoints).map(EndpointId) {
        *world.dispatcher.profile_mut(id).unwrap() = Receiver::Good(MILLI);
        world.dispatcher.enable(world.now, id).unwrap();
    }
    world.run(world.now.mono + secs(2 * 86_400));
    world.check_conservation();
    assert_eq!(world.dispatcher.pending_total(), 0);
    world
}

#[test]
fn a_day_of_random_outcomes_over_fifty_endpoints() {
    let world = random_day(42, 50, false);
    // Each kind of end has come about, else the day proves little.
    for end in [End::Delivered, End::Failed, End::Expired(Expiry::Stale)] {
        let count = world.deliveries.values().filter(|d| d.end == Some(end)).count();
        assert!(count > 50, "{end:?}: {count}");
    }
    assert!(world.deliveries.values().any(|d| d.attempts == limits::WEBHOOK_ATTEMPTS));
    // Good ones that nobody switched off get everything.
    let off =
        |id: u64| world.changes.iter().any(|(of, change)| of.0 == id && *change == Change::DisabledByUser);
    let always_on: Vec<u64> = (1..=50).filter(|id| id % 10 == 2 && !off(*id)).collect();
    assert!(!always_on.is_empty());
    for id in always_on {
        assert!(world.ends(id).iter().all(|end| *end == Some(End::Delivered)), "good endpoint {id} gets all");
    }
    let told = |change: fn(&Change) -> bool| world.changes.iter().filter(|(_, c)| change(c)).count();
    assert!(told(|c| matches!(c, Change::AutoDisabled)) > 0);
    assert!(told(|c| matches!(c, Change::Suspended)) > 0);
    assert!(told(|c| matches!(c, Change::Resumed)) > 0);
}

#[test]
fn the_same_seed_makes_the_same_day() {
    let (one, other) = (random_day(7, 10, true), random_day(7, 10, true));
    assert_eq!(one.starts, other.starts);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    /// Days with restarts at any moment: nothing acknowledged is repeated, nothing pending is lost.
    #[test]
    fn restarts_lose_and_repeat_nothing(seed in any::<u64>()) {
        random_day(seed, 11, true);
    }
}
