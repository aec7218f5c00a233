//! Sessions of one push source one after another: when to open one, when the next takes over.
//!
//! Contract: two places, so that a session near its end is replaced by one that is live already. [`Relay::next`]
//! gives one order after another until it says to wait; the owner carries each out and tells what came of it.
//! Failed attempts rest with [`Backoff`], which a session forgives only once it has been live for a while, and
//! all attempts keep to [`StreamSpec::connects`]: no fault of a server's makes a storm. Pure; time comes in.

use core::time::Duration;

use super::StreamSpec;
use super::allowance::Spent;
use crate::limits;
use crate::source::backoff::{Backoff, Failure};
use crate::time::Mono;

/// Sessions at a time.
pub const PLACES: usize = 2;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Open a session in this place. It counts as opening at once.
    Open(usize),
    /// Say goodbye in this place: another one is live. What still arrives there counts.
    Leave(usize),
    /// Close what is in this place.
    Drop(usize),
    /// Nothing before this instant.
    Wait(Mono),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Empty,
    Opening,
    Live { since: Mono },
    Leaving { until: Mono },
}

/// See the module head.
#[derive(Clone, Debug)]
pub struct Relay {
    places: [Place; PLACES],
    backoff: Backoff,
    connects: Spent,
    /// A live session is replaced at this age.
    life: Option<Duration>,
}

impl Relay {
    /// Nothing open. `life`: at this age a session is replaced.
    #[must_use]
    pub fn new(spec: &'static StreamSpec, life: Option<Duration>) -> Relay {
        Relay {
            places: [Place::Empty; PLACES],
            backoff: Backoff::new(),
            connects: Spent::new(spec.connects),
            life,
        }
    }

    /// The next order. `may_open`: there is somewhere to connect to.
    pub fn next(&mut self, now: Mono, may_open: bool) -> Order {
        let mut wait = Mono::NEVER;
        for (index, place) in self.places.iter_mut().enumerate() {
            if let Place::Leaving { until } = place {
                if *until <= now {
                    *place = Place::Empty;
                    return Order::Drop(index);
                }
                wait = wait.min(*until);
            }
        }
        if let Some((older, newer)) = self.pair() {
            // Both hear everything for a moment: what was on its way to the older one is not lost.
            let at = newer + limits::STREAM_OVERLAP;
            if at > now {
                return Order::Wait(wait.min(at));
            }
            if let Some(place) = self.places.get_mut(older) {
                *place = Place::Leaving { until: now + limits::STREAM_LEAVE };
            }
            return Order::Leave(older);
        }
        let open_at = self.open_at();
        let empty = self.places.iter().position(|place| *place == Place::Empty);
        match empty.filter(|_| may_open && open_at <= now) {
            Some(index) if self.connects.spend(now) => {
                if let Some(place) = self.places.get_mut(index) {
                    *place = Place::Opening;
                }
                Order::Open(index)
            }
            _ if may_open && empty.is_some() => Order::Wait(wait.min(open_at)),
            _ => Order::Wait(wait),
        }
    }

    /// The older of two live places, and since when the newer one is.
    fn pair(&self) -> Option<(usize, Mono)> {
        let [Place::Live { since: first }, Place::Live { since: second }] = self.places else { return None };
        Some(if first <= second { (0, second) } else { (1, first) })
    }

    /// When a session is to be opened: never while one is opening.
    fn open_at(&self) -> Mono {
        if self.places.contains(&Place::Opening) {
            return Mono::NEVER;
        }
        let ready = self.backoff.ready_at().max(self.connects.ready_at());
        let live = self.places.iter().find_map(|place| match place {
            Place::Live { since } => Some(*since),
            _ => None,
        });
        match (live, self.life) {
            (None, _) => ready,
            (Some(since), Some(life)) => ready.max(since + life),
            (Some(_), None) => Mono::NEVER,
        }
    }

    /// The session in this place is live.
    pub fn live(&mut self, index: usize, now: Mono) {
        if let Some(place @ Place::Opening) = self.places.get_mut(index) {
            *place = Place::Live { since: now };
        }
    }

    /// What was in this place is gone. `failure`: why; none rests nobody when it had been asked to leave, or
    /// had been live for [`limits::STREAM_STABLE`].
    pub fn lost(
        &mut self,
        index: usize,
        now: Mono,
        failure: Failure,
        retry_after: Option<Duration>,
        jitter: u32,
    ) -> bool {
        let Some(place) = self.places.get_mut(index) else { return false };
        match core::mem::replace(place, Place::Empty) {
            Place::Empty | Place::Leaving { .. } => false,
            Place::Live { since } if now.since(since) >= limits::STREAM_STABLE => {
                self.backoff.succeed();
                self.backoff.fail(now, failure, retry_after, jitter);
                failure != Failure::Closed
            }
            Place::Live { .. } | Place::Opening => {
                self.backoff.fail(now, failure, retry_after, jitter);
                true
            }
        }
    }

    /// Whether any session is live.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.places.iter().any(|place| matches!(place, Place::Live { .. }))
    }

    /// Whether nothing is live because the exchange refused.
    #[must_use]
    pub fn is_refused(&self, now: Mono) -> bool {
        !self.is_live() && self.backoff.is_refused(now)
    }
}
