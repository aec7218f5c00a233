//! The threads and the loop shape they share.
//!
//! A hot thread is a value with `step(now) -> Turn`: it does a bounded amount of work and says when
//! it next has something to do. [`run_loop`] turns it into a thread; tests and the simulator call
//! `step` themselves.

pub mod feed;
pub mod journal;
pub mod mail;
pub mod market;
pub mod recorder;
pub mod source;
pub mod webhook;

pub mod accept;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tocsin_core::time::{Mono, Now};

use crate::config::Idle;
use crate::os::clock;
use crate::os::idle::IdleStrategy;

/// What one turn of a loop did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Pieces of work done; 0 lets the idle strategy rest.
    pub work: usize,
    /// When the loop next has something to do of its own accord.
    pub deadline: Mono,
}

/// A loop that can be run by a thread or stepped by hand.
pub trait Step {
    /// One bounded turn.
    fn step(&mut self, now: Now) -> Turn;

    /// Goes through what it does when something comes, without effect: so that code and data lie in the
    /// core's caches when it does. Called now and then while a loop that spins has nothing to do.
    fn rehearse(&mut self, _now: Now) {}

    /// Sleeps until something comes or `longest` is over. By itself it sees nothing come; who has sockets or an
    /// [`Alarm`](crate::os::alarm::Alarm) sleeps on those.
    fn sleep(&mut self, longest: Duration) {
        std::thread::sleep(longest);
    }

    /// Called once when the loop ends, to hand back or flush what it holds.
    fn finish(&mut self, _now: Now) {}
}

/// What the outside sees of a running loop: whether it moves, and its longest gap between turns.
#[derive(Debug, Default)]
pub struct Pulse {
    /// Monotonic nanoseconds of the last turn's start.
    last_turn_ns: AtomicU64,
    /// Longest time between two turns' starts since it was last taken.
    longest_gap_ns: AtomicU64,
}

impl Pulse {
    /// When the loop last started a turn.
    #[must_use]
    pub fn last_turn(&self) -> Mono {
        Mono(self.last_turn_ns.load(Ordering::Relaxed))
    }

    /// The longest gap between turns since the last call, and starts anew.
    pub fn take_longest_gap_ns(&self) -> u64 {
        self.longest_gap_ns.swap(0, Ordering::Relaxed)
    }

    /// The thread is about to start: until its first turn it is as if it had just had one.
    pub fn begin(&self, at: Mono) {
        self.last_turn_ns.store(at.0, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(crate) fn note_gap(&self, gap: Duration) {
        self.beat(self.last_turn(), gap.as_nanos() as u64);
    }

    fn beat(&self, at: Mono, gap_ns: u64) {
        self.last_turn_ns.store(at.0, Ordering::Relaxed);
        if gap_ns > self.longest_gap_ns.load(Ordering::Relaxed) {
            self.longest_gap_ns.store(gap_ns, Ordering::Relaxed);
        }
    }
}

/// Between two rehearsals of a loop that spins. What comes during one waits for its end; what they bring is in
/// docs/benchmarks.md, `wire`.
const REHEARSE_EVERY: Duration = Duration::from_micros(100);
/// None begins when the loop has something to do this soon.
const REHEARSE_AHEAD: Duration = Duration::from_micros(50);

/// When a loop that spins rehearses.
#[derive(Debug, Default)]
pub struct Rehearsals {
    last: Mono,
}

impl Rehearsals {
    /// Called after each turn.
    pub fn after(&mut self, thread: &mut dyn Step, turn: Turn, now: Now) {
        let idles = turn.work == 0 && turn.deadline > now.mono + REHEARSE_AHEAD;
        if idles && now.mono.since(self.last) >= REHEARSE_EVERY {
            thread.rehearse(now);
            self.last = now.mono;
        }
    }
}

/// Runs `thread` until `stop`, then calls [`Step::finish`]. Allocates nothing, takes no lock.
pub fn run_loop(thread: &mut dyn Step, idle: Idle, stop: &AtomicBool, pulse: &Arc<Pulse>) {
    let mut strategy = IdleStrategy::new(idle);
    let mut last = clock::mono();
    let mut rehearsals = Rehearsals::default();
    while !stop.load(Ordering::Relaxed) {
        let now = clock::now();
        pulse.beat(now.mono, now.mono.0.saturating_sub(last.0));
        last = now.mono;
        let turn = thread.step(now);
        if idle == Idle::Spin {
            rehearsals.after(thread, turn, now);
        }
        if let Some(longest) = strategy.idle(turn.work, now.mono, turn.deadline) {
            thread.sleep(longest);
        }
    }
    thread.finish(clock::now());
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counter(u32, Arc<AtomicBool>);

    impl Step for Counter {
        fn step(&mut self, now: Now) -> Turn {
            self.0 += 1;
            if self.0 == 3 {
                self.1.store(true, Ordering::Relaxed);
            }
            Turn { work: 0, deadline: now.mono }
        }

        fn finish(&mut self, _now: Now) {
            self.0 += 100;
        }
    }

    #[test]
    fn runs_until_stopped_then_finishes_once() {
        let stop = Arc::new(AtomicBool::new(false));
        let pulse = Arc::new(Pulse::default());
        let mut counter = Counter(0, Arc::clone(&stop));
        run_loop(&mut counter, Idle::Adaptive, &stop, &pulse);
        assert_eq!(counter.0, 103);
        assert!(pulse.last_turn() > Mono(0));
    }
}
