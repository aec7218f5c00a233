//! Whatever endpoints do: deliveries are conserved (each that was taken is delivered, failed, expired, pending
//! or went with its endpoint), attempts of one delivery come in order, one at a time and not before their
//! time, nothing starts at an endpoint that is off but tests and pings, and every bound holds.
//!
//! The input is a little program: endpoints come, go and are switched; events come; attempts end in every way;
//! time passes.
#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use tocsin_core::time::{Mono, Now, WallUs};
use tocsin_core::webhook::attempt::{FailureClass, Report};
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::dispatcher::{Action, Bounds, Dispatcher, Handling, Note, Sequel, Start, Ticket};
use tocsin_core::webhook::endpoint::State;
use tocsin_core::webhook::lane::{Purpose, QueuedEvent};
use tocsin_fuzz::Input;

const ENDPOINTS: u8 = 9;
const BOUNDS: Bounds = Bounds { in_flight: 16, endpoints: 8, pending_per_endpoint: 6, pending: 30 };

struct World {
    now: Now,
    dispatcher: Dispatcher<(), ()>,
    in_flight: BTreeMap<Ticket, (EndpointId, Purpose)>,
    /// Of endpoints that are gone: their results are nobody's, also if another has their number.
    orphans: BTreeMap<Ticket, Purpose>,
    /// What waits for each endpoint, by the number of its event: when it may start next.
    waiting: BTreeMap<(EndpointId, u64), WallUs>,
    next_event: u64,
}

impl World {
    fn started(&mut self, start: Start<()>) {
        assert!(start.deadline > self.now.mono);
        if let (Purpose::Event { .. }, Some(event)) = (start.purpose, &start.event) {
            let state = self.dispatcher.endpoint(start.endpoint).map(|endpoint| endpoint.state());
            assert_eq!(state, Some(State::Active), "events go to endpoints that are on");
            let due = self.waiting.get(&(start.endpoint, event.number));
            let due = *due.expect("only what waits is started");
            assert!(self.now.wall >= due, "not before its time");
        }
        assert!(self.in_flight.insert(start.ticket, (start.endpoint, start.purpose)).is_none());
        assert!(self.in_flight.len() + self.orphans.len() <= BOUNDS.in_flight);
    }

    fn noted(&mut self, note: Note<()>) {
        match note {
            Note::Settled {
                endpoint, purpose: Purpose::Event { .. }, event: Some(event), sequel, ..
            } => {
                let key = (endpoint, event.number);
                match sequel {
                    Sequel::Retry { due, .. } => *self.waiting.get_mut(&key).expect("it waited") = due,
                    Sequel::Done | Sequel::Failed => {
                        self.waiting.remove(&key).expect("a delivery is concluded once");
                    }
                }
            }
            Note::Expired { endpoint, event, .. } => {
                self.waiting.remove(&(endpoint, event.number)).expect("a delivery is concluded once");
            }
            Note::Settled { .. } | Note::Changed { .. } => {}
        }
    }

    fn poll(&mut self) {
        for turn in 0.. {
            assert!(turn < 10_000, "there is an end of what is to be done");
            match self.dispatcher.poll(self.now) {
                Some(Action::Start(start)) => self.started(start),
                Some(Action::Note(note)) => self.noted(note),
                None => break,
            }
        }
    }

    fn answer(&mut self, input: &mut Input<'_>) {
        let (which, kind) = (usize::from(input.byte()), input.byte());
        let statuses = [200, 204, 301, 400, 401, 408, 410, 429, 500, 503];
        let classes = [FailureClass::Reset, FailureClass::Timeout, FailureClass::Connect, FailureClass::Tls];
        let report = match usize::from(kind & 15) {
            status if status < statuses.len() => Report::status(statuses[status]),
            class => {
                let class = classes[class % classes.len()];
                Report::Failed { class, stale_connection: kind & 16 != 0 }
            }
        };
        let random = input.number();
        if let Some((&ticket, _)) = self.in_flight.iter().nth(which % self.in_flight.len().max(1)) {
            match self.dispatcher.on_result(self.now, ticket, &report, random) {
                Handling::Resend => {}
                Handling::Settled => drop(self.in_flight.remove(&ticket)),
                Handling::Unknown => panic!("what was started at an endpoint that is there is known"),
            }
        }
        if let Some((ticket, _)) = self.orphans.pop_first() {
            let handling = self.dispatcher.on_result(self.now, ticket, &report, random);
            assert_eq!(handling, Handling::Unknown);
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let what = input.byte();
        let endpoint = EndpointId(u64::from(what >> 4) % u64::from(ENDPOINTS));
        match what & 15 {
            0 | 1 => {
                let _ = self.dispatcher.add(self.now, endpoint, (), what & 1 == 1, None);
                let _ = self.dispatcher.verify(self.now, endpoint);
            }
            2 => {
                if self.dispatcher.remove(endpoint).is_some() {
                    self.waiting.retain(|(at, _), _| *at != endpoint);
                    let of_it = |(at, purpose): &(EndpointId, Purpose)| (*at == endpoint).then_some(*purpose);
                    self.orphans.extend(self.in_flight.iter().filter_map(|(t, of)| Some((*t, of_it(of)?))));
                    self.in_flight.retain(|_, (at, _)| *at != endpoint);
                }
            }
            3 => drop(self.dispatcher.enable(self.now, endpoint)),
            4 => drop(self.dispatcher.disable(self.now, endpoint)),
            5..=8 => self.event(endpoint, what & 15),
            9..=12 => self.answer(input),
            _ => {
                let by = Duration::from_millis(u64::from(input.byte()).pow(3));
                self.now.mono = self.now.mono + by;
                self.now.wall = WallUs(self.now.wall.0 + i64::try_from(by.as_micros()).unwrap());
            }
        }
        self.poll();
        self.check();
    }

    fn event(&mut self, endpoint: EndpointId, kind: u8) {
        let number = self.next_event;
        self.next_event += 1;
        let fresh_for = (kind != 7).then(|| Duration::from_secs(60));
        let event = Arc::new(QueuedEvent { number, created: self.now.wall, fresh_for, payload: () });
        let takes: Vec<EndpointId> = (0..u64::from(ENDPOINTS))
            .map(EndpointId)
            .filter(|id| self.dispatcher.endpoint(*id).is_some_and(|at| at.state().takes_events()))
            .collect();
        match kind {
            7 => {
                if self.dispatcher.on_replay(self.now, endpoint, event).is_ok() {
                    self.waiting.insert((endpoint, number), self.now.wall);
                }
            }
            8 => drop(self.dispatcher.on_test(self.now, endpoint, event)),
            _ => {
                let offered = self.dispatcher.on_event(self.now, &event, |()| true);
                assert_eq!(offered, takes.len());
                self.waiting.extend(takes.into_iter().map(|id| ((id, number), self.now.wall)));
            }
        }
    }

    fn check(&self) {
        let of_events = |purpose: &&Purpose| matches!(purpose, Purpose::Event { .. });
        let orphans = self.orphans.values().filter(of_events).count();
        assert_eq!(self.dispatcher.pending_total(), self.waiting.len() + orphans, "deliveries are conserved");
        assert!(self.dispatcher.pending_total() <= BOUNDS.pending);
        for id in (0..u64::from(ENDPOINTS)).map(EndpointId) {
            assert!(self.dispatcher.pending_of(id) <= BOUNDS.pending_per_endpoint);
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let now = Now { mono: Mono(1_000_000_000), wall: WallUs::from_secs(1_800_000_000) };
    let mut world = World {
        now,
        dispatcher: Dispatcher::new(BOUNDS),
        in_flight: BTreeMap::new(),
        orphans: BTreeMap::new(),
        waiting: BTreeMap::new(),
        next_event: 1,
    };
    while !input.is_over() {
        world.step(&mut input);
    }
});
