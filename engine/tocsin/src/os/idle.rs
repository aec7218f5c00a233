//! What a loop does when a turn found no work.
//!
//! `spin` never leaves the core: a wake-up costs 15 µs or more, so a pinned thread that owns its
//! core should not sleep. `adaptive` spins while there was work a moment ago and then sleeps in
//! growing steps: for boxes where threads share cores. `block` sleeps until the next deadline, at
//! most a millisecond, for machines where CPU matters more than microseconds.
//!
//! A loop sleeps in its own way ([`crate::threads::Step::sleep`]), as a rule until something comes. Some of the
//! rings that hot loops poll wake nobody; so even `block` looks every millisecond.

use std::time::Duration;

use tocsin_core::time::Mono;

use crate::config::Idle;

/// Turns without work before `adaptive` stops spinning: some 25 µs, as long as a wake-up takes. Longer pays on
/// a core of its own alone; on two shared ones a spin of a millisecond kept everybody else off them, the
/// subscriber of the announcement just sent among them (docs/benchmarks.md, `detect`).
const SPIN_TURNS: u32 = 50;
/// Turns after that in which it yields the core between turns.
const YIELD_TURNS: u32 = 50;
/// Its shortest and longest sleep, and the longest of `block`.
const SLEEP_MIN: Duration = Duration::from_micros(20);
const SLEEP_MAX: Duration = Duration::from_micros(500);
const BLOCK_MAX: Duration = Duration::from_millis(1);

/// Idle strategy of one loop. Not shared.
#[derive(Debug)]
pub struct IdleStrategy {
    kind: Idle,
    idle_turns: u32,
}

impl IdleStrategy {
    /// A strategy that has just seen work.
    #[must_use]
    pub const fn new(kind: Idle) -> IdleStrategy {
        IdleStrategy { kind, idle_turns: 0 }
    }

    /// Called after each turn with the work it did and when the loop next has something to do: how long it may
    /// sleep now, never past `deadline`. Spins or yields where it may not.
    #[must_use]
    pub fn idle(&mut self, work: usize, now: Mono, deadline: Mono) -> Option<Duration> {
        if work > 0 {
            self.idle_turns = 0;
            return None;
        }
        self.idle_turns = self.idle_turns.saturating_add(1);
        match self.sleep_for() {
            None if self.kind == Idle::Adaptive && self.idle_turns > SPIN_TURNS => std::thread::yield_now(),
            None => std::hint::spin_loop(),
            Some(longest) => return Some(longest.min(deadline.since(now))).filter(|sleep| !sleep.is_zero()),
        }
        None
    }

    /// How long this turn may sleep; `None` = not at all.
    fn sleep_for(&self) -> Option<Duration> {
        match self.kind {
            Idle::Spin => None,
            Idle::Block => Some(BLOCK_MAX),
            Idle::Adaptive => {
                let over = self.idle_turns.checked_sub(SPIN_TURNS + YIELD_TURNS)?;
                // Doubles every 16 turns: short at first, so that a burst's second item is not late.
                Some(SLEEP_MIN.saturating_mul(1 << (over / 16).min(8)).min(SLEEP_MAX))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spin_never_sleeps_and_adaptive_grows_to_its_bound() {
        let mut spin = IdleStrategy::new(Idle::Spin);
        spin.idle_turns = u32::MAX;
        assert_eq!(spin.sleep_for(), None);

        let mut adaptive = IdleStrategy::new(Idle::Adaptive);
        assert_eq!(adaptive.sleep_for(), None);
        adaptive.idle_turns = SPIN_TURNS + YIELD_TURNS;
        assert_eq!(adaptive.sleep_for(), Some(SLEEP_MIN));
        adaptive.idle_turns = u32::MAX;
        assert_eq!(adaptive.sleep_for(), Some(SLEEP_MAX));
        assert_eq!(
            adaptive.idle(0, Mono(7), Mono(9)),
            Some(Duration::from_nanos(2)),
            "not past the deadline"
        );
        assert_eq!(adaptive.idle(0, Mono(9), Mono(9)), None);
        assert_eq!(adaptive.idle(1, Mono(0), Mono(0)), None);
        assert_eq!(adaptive.sleep_for(), None);
    }
}
