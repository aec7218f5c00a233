//! Whose turn it is among the lanes, and how much may be in flight over all of them.
//!
//! Contract: three round-robin lists of lanes that have something to start, and one timer a lane. A
//! lane stands in a list at most once. What one endpoint has in flight never keeps another from the
//! first attempts it is assured of ([`limits::WEBHOOK_IN_FLIGHT_ASSURED`]): everything else leaves
//! room for the unused assurances of all active endpoints, up to three quarters of the cap, and
//! retries, pings and tests leave another eighth. The assurance is strict while it fits there for
//! every active endpoint. An endpoint whose last attempt timed out is assured of nothing until one
//! does not: its first attempts go when those of all others are out. Owner: the webhook thread, inside the dispatcher. Fails never.

use std::collections::{BTreeSet, VecDeque};

use super::lane::Lane;
use crate::limits;
use crate::time::Mono;

/// An endpoint, as the store numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(pub u64);

/// Where a lane stands on the board.
#[derive(Debug)]
pub(super) struct Place {
    in_assured: bool,
    in_further: bool,
    in_others: bool,
    /// `NEVER`: no timer.
    timer: Mono,
    /// What it adds to the unused assurances.
    unused_assurance: usize,
    /// It is among those that answer.
    in_well: bool,
}

impl Default for Place {
    fn default() -> Place {
        Place {
            in_assured: false,
            in_further: false,
            in_others: false,
            timer: Mono::NEVER,
            unused_assurance: 0,
            in_well: false,
        }
    }
}

/// See the module head.
#[derive(Debug)]
pub(super) struct Board {
    assured: VecDeque<EndpointId>,
    further: VecDeque<EndpointId>,
    others: VecDeque<EndpointId>,
    timers: BTreeSet<(Mono, EndpointId)>,
    unused_assurances: usize,
    /// Active endpoints whose last attempt did not time out and that have little in flight: an event is
    /// offered to them first.
    well: BTreeSet<EndpointId>,
    in_flight: usize,
    cap: usize,
}

/// The lists of the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    /// Lanes with a first attempt they are assured of.
    Assured,
    /// Lanes with a first attempt beyond that.
    Further,
    /// Lanes with a ping, a test event or a retry that is due.
    Others,
}

/// Fewest attempts in flight that a cap may allow: below it the shares round to nothing.
const CAP_AT_LEAST: usize = 16;

impl Board {
    pub(super) fn new(cap: usize) -> Board {
        Board {
            assured: VecDeque::new(),
            further: VecDeque::new(),
            others: VecDeque::new(),
            timers: BTreeSet::new(),
            unused_assurances: 0,
            well: BTreeSet::new(),
            in_flight: 0,
            cap: cap.max(CAP_AT_LEAST),
        }
    }

    /// Active endpoints whose last attempt did not time out and that have little in flight.
    pub(super) const fn well(&self) -> &BTreeSet<EndpointId> {
        &self.well
    }

    pub(super) const fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(super) const fn started(&mut self) {
        self.in_flight += 1;
    }

    pub(super) const fn ended(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// The earliest timer.
    pub(super) fn deadline(&self) -> Mono {
        self.timers.first().map_or(Mono::NEVER, |(at, _)| *at)
    }

    /// A lane whose timer has come; it has none afterwards.
    pub(super) fn pop_timer(&mut self, now: Mono) -> Option<EndpointId> {
        let first = self.timers.first().copied().filter(|(at, _)| *at <= now)?;
        self.timers.remove(&first);
        Some(first.1)
    }

    /// A lane that may have a first attempt to start. It must be told which list it left, and placed
    /// again.
    pub(super) fn pop_first(&mut self) -> Option<(EndpointId, List)> {
        if self.in_flight >= self.cap {
            return None;
        }
        if let Some(endpoint) = self.assured.pop_front() {
            return Some((endpoint, List::Assured));
        }
        if self.in_flight + self.kept_free() >= self.cap {
            return None;
        }
        Some((self.further.pop_front()?, List::Further))
    }

    /// A lane that may have something else to start. It must be told that it left
    /// [`List::Others`], and placed again.
    pub(super) fn pop_other(&mut self) -> Option<EndpointId> {
        let share = self.cap - self.cap / 8;
        if self.in_flight + self.kept_free() >= share { None } else { self.others.pop_front() }
    }

    fn kept_free(&self) -> usize {
        self.unused_assurances.min(self.cap - self.cap / 4)
    }

    /// Puts a lane where it now belongs. Call after every change to it.
    pub(super) fn place<E, P>(&mut self, now: Mono, endpoint: EndpointId, lane: &mut Lane<E, P>) {
        let unused = lane.unused_assurance();
        self.unused_assurances = self.unused_assurances + unused - lane.place.unused_assurance;
        lane.place.unused_assurance = unused;
        let well = lane.is_well();
        if well != lane.place.in_well {
            lane.place.in_well = well;
            if well {
                self.well.insert(endpoint)
            } else {
                self.well.remove(&endpoint)
            };
        }
        if lane.has_first(now) {
            if lane.is_assured() {
                enlist(&mut self.assured, &mut lane.place.in_assured, endpoint);
            } else {
                enlist(&mut self.further, &mut lane.place.in_further, endpoint);
            }
        }
        let mut due = lane.other_deadline(now);
        if due <= now {
            enlist(&mut self.others, &mut lane.place.in_others, endpoint);
            due = Mono::NEVER;
        }
        if due != lane.place.timer {
            self.timers.remove(&(lane.place.timer, endpoint));
            if due != Mono::NEVER {
                self.timers.insert((due, endpoint));
            }
            lane.place.timer = due;
        }
    }

    /// A lane goes. Its entries in the lists are passed over when their turn comes.
    pub(super) fn forget(&mut self, endpoint: EndpointId, place: &Place) {
        self.unused_assurances -= place.unused_assurance;
        self.timers.remove(&(place.timer, endpoint));
        self.well.remove(&endpoint);
    }
}

impl Place {
    /// The lane was taken off a list.
    pub(super) const fn left(&mut self, list: List) {
        match list {
            List::Assured => self.in_assured = false,
            List::Further => self.in_further = false,
            List::Others => self.in_others = false,
        }
    }

    /// The lane's timer was taken off.
    pub(super) const fn timer_came(&mut self) {
        self.timer = Mono::NEVER;
    }
}

fn enlist(list: &mut VecDeque<EndpointId>, is_in: &mut bool, endpoint: EndpointId) {
    if !core::mem::replace(is_in, true) {
        list.push_back(endpoint);
    }
}

const _: () = assert!(limits::WEBHOOK_IN_FLIGHT_TOTAL >= CAP_AT_LEAST);
