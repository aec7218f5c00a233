//! A timer for every slot of a table: one wheel, one deadline a slot.
//!
//! Contract: [`TimerWheel::schedule`] and [`TimerWheel::pop_due`] take constant time and allocate
//! only when the table grows. Deadlines are met up to one [`TICK`] late and never early; one beyond
//! the horizon comes up early at the horizon, where its owner looks at the clock and schedules it
//! again. Order within a tick is not kept. Owner: a feed writer. Nothing fails.

use core::time::Duration;

use crate::time::Mono;

/// Resolution.
pub const TICK: Duration = Duration::from_millis(4);
const TICK_NS: u64 = 4_000_000;
/// Ticks of one turn of the wheel.
const SPOKES: usize = 4_096;
/// The farthest deadline told apart; a subscriber has something due every 15 s.
pub const HORIZON: Duration = Duration::from_nanos(TICK_NS * (SPOKES as u64 - 1));

const _: () = assert!(HORIZON.as_secs() > crate::limits::PING_PERIOD.as_secs());

/// End of a list.
const NONE: u32 = u32::MAX;
/// The list of what is due, after the spokes.
const DUE: u32 = SPOKES as u32;
/// Not in any list.
const IDLE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Link {
    next: u32,
    previous: u32,
    list: u32,
}

const UNLINKED: Link = Link { next: NONE, previous: NONE, list: IDLE };

/// See the module head.
#[derive(Debug)]
pub struct TimerWheel {
    /// First slot of each spoke's list, and of the due list.
    heads: Box<[u32]>,
    /// One a slot. INVARIANT: doubly linked within `list`, or unlinked.
    links: Vec<Link>,
    /// The tick up to which spokes have been moved to the due list.
    tick: u64,
}

impl TimerWheel {
    /// With room for `slots` before it grows.
    #[must_use]
    pub fn new(now: Mono, slots: usize) -> TimerWheel {
        TimerWheel {
            heads: vec![NONE; SPOKES + 1].into_boxed_slice(),
            links: Vec::with_capacity(slots),
            tick: now.0 / TICK_NS,
        }
    }

    /// Sets the one deadline of `slot`, replacing an earlier one. One already past comes up at once.
    pub fn schedule(&mut self, slot: u32, due: Mono) {
        let needed = slot as usize + 1;
        if self.links.len() < needed {
            self.links.resize(needed, UNLINKED);
        }
        self.unlink(slot);
        // Rounded up: never early.
        let tick = due.0.div_ceil(TICK_NS);
        let list = if tick <= self.tick {
            DUE
        } else {
            let tick = tick.min(self.tick + SPOKES as u64 - 1);
            // Below SPOKES.
            (tick % SPOKES as u64) as u32
        };
        self.link(slot, list);
    }

    /// Forgets the deadline of `slot`.
    pub fn cancel(&mut self, slot: u32) {
        self.unlink(slot);
    }

    /// A slot whose deadline has come; it has no deadline afterwards.
    pub fn pop_due(&mut self, now: Mono) -> Option<u32> {
        self.advance(now);
        let slot = *self.heads.get(DUE as usize)?;
        if slot == NONE {
            return None;
        }
        self.unlink(slot);
        Some(slot)
    }

    /// When to look again: now if something is due, else the next tick.
    #[must_use]
    pub fn deadline(&self) -> Mono {
        match self.heads.get(DUE as usize) {
            Some(&NONE) | None => Mono((self.tick + 1).saturating_mul(TICK_NS)),
            Some(_) => Mono(0),
        }
    }

    /// Moves every spoke up to `now` to the due list. A jump of the clock costs one turn of the wheel.
    fn advance(&mut self, now: Mono) {
        let target = now.0 / TICK_NS;
        if target <= self.tick {
            return;
        }
        let steps = (target - self.tick).min(SPOKES as u64);
        for step in 1..=steps {
            let spoke = ((self.tick + step) % SPOKES as u64) as u32;
            while let Some(&slot) = self.heads.get(spoke as usize).filter(|slot| **slot != NONE) {
                self.unlink(slot);
                self.link(slot, DUE);
            }
        }
        self.tick = target;
    }

    fn link(&mut self, slot: u32, list: u32) {
        let Some(head) = self.heads.get_mut(list as usize) else { return };
        let next = core::mem::replace(head, slot);
        if let Some(after) = self.links.get_mut(next as usize) {
            after.previous = slot;
        }
        if let Some(link) = self.links.get_mut(slot as usize) {
            *link = Link { next, previous: NONE, list };
        }
    }

    fn unlink(&mut self, slot: u32) {
        let Some(link) = self.links.get_mut(slot as usize) else { return };
        let Link { next, previous, list } = core::mem::replace(link, UNLINKED);
        if list == IDLE {
            return;
        }
        if let Some(after) = self.links.get_mut(next as usize) {
            after.previous = previous;
        }
        if let Some(before) = self.links.get_mut(previous as usize) {
            before.next = next;
        } else if let Some(head) = self.heads.get_mut(list as usize) {
            *head = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn drain(wheel: &mut TimerWheel, now: Mono) -> Vec<u32> {
        let mut due: Vec<u32> = core::iter::from_fn(|| wheel.pop_due(now)).collect();
        due.sort_unstable();
        due
    }

    #[test]
    fn far_deadlines_come_up_at_the_horizon_and_jumps_bring_everything() {
        let mut wheel = TimerWheel::new(Mono(0), 4);
        wheel.schedule(0, Mono::NEVER);
        wheel.schedule(1, Mono(5 * TICK_NS));
        wheel.schedule(2, Mono(0));
        assert_eq!(wheel.deadline(), Mono(0));
        assert_eq!(drain(&mut wheel, Mono(0)), [2]);
        assert_eq!(drain(&mut wheel, Mono(5 * TICK_NS - 1)), [0; 0]);
        wheel.schedule(3, Mono(7 * TICK_NS));
        wheel.cancel(3);
        assert_eq!(drain(&mut wheel, Mono(0) + HORIZON - TICK), [1]);
        assert_eq!(drain(&mut wheel, Mono(0) + HORIZON), [0]);
        for slot in 0..4 {
            wheel.schedule(slot, Mono(0) + HORIZON + Duration::from_secs(u64::from(slot)));
        }
        assert_eq!(drain(&mut wheel, Mono(0) + Duration::from_secs(86_400)), [0, 1, 2, 3]);
    }

    proptest! {
        /// Against a map of deadlines: none early, none later than a tick, each once.
        #[test]
        fn agrees_with_a_map(ops in prop::collection::vec((0..20_u32, 0..16_000_u64, 0..400_u64), 1..200)) {
            let mut wheel = TimerWheel::new(Mono(0), 0);
            let mut map = BTreeMap::new();
            let mut now = 0;
            for (slot, ahead_ms, step_ms) in ops {
                let due = now + ahead_ms * 1_000_000;
                wheel.schedule(slot, Mono(due));
                map.insert(slot, due);
                now += step_ms * 1_000_000;
                for slot in drain(&mut wheel, Mono(now)) {
                    let due = map.remove(&slot).unwrap();
                    prop_assert!(due <= now);
                }
                for due in map.values() {
                    prop_assert!(now < due + TICK_NS);
                }
            }
        }
    }
}
