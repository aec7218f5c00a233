//! How a hot thread sleeps where cores are shared, and how it is woken before its time.
//!
//! Contract: who sleeps says so ([`Alarm::sleep`]) and then looks once more into its rings; who pushes looks,
//! after its push, whether somebody sleeps ([`Alarm::ring`]). In every order of the two either the sleeper finds
//! what was pushed or the other wakes it: a fence stands between the two steps of each. Ringing costs a fence and
//! a load, and a system call when somebody sleeps; a thread that spins needs no alarm. Owner: the sleeper's thread
//! sleeps, any thread rings. Allocates nothing after `new`, takes no lock. A wake-up that fails costs what was
//! left of the sleep, which the caller bounds.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::Duration;

use mio::{Poll, Token, Waker};
use rustix::event::{PollFd, PollFlags, Timespec, poll as wait_for};

/// Whether somebody sleeps. A model checker brings one of its own.
trait Asleep {
    /// The owner is about to sleep; what it reads afterwards is newer.
    fn announce(&self);
    /// Whether it sleeps, as seen after everything that was written before.
    fn seen(&self) -> bool;
    /// It is awake.
    fn end(&self);
}

impl Asleep for AtomicBool {
    fn announce(&self) {
        self.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    fn seen(&self) -> bool {
        fence(Ordering::SeqCst);
        self.load(Ordering::Relaxed)
    }

    fn end(&self) {
        self.store(false, Ordering::Relaxed);
    }
}

/// See the module head.
#[derive(Debug)]
pub struct Alarm {
    asleep: AtomicBool,
    waker: Waker,
}

impl Alarm {
    /// One that `poll` reports as `token`; its events say nothing else.
    ///
    /// # Errors
    /// The kernel gives no descriptor.
    pub fn new(poll: &Poll, token: Token) -> io::Result<Alarm> {
        Ok(Alarm { asleep: AtomicBool::new(false), waker: Waker::new(poll.registry(), token)? })
    }

    /// Wakes the owner if it sleeps. Call it after the push.
    pub fn ring(&self) {
        if self.asleep.seen() {
            let _ = self.waker.wake();
        }
    }

    /// Sleeps until it is rung, `poll` has an event or `longest` is over; not at all when `pushed` says that
    /// something is there. `poll` is the one of [`Alarm::new`].
    pub fn sleep(&self, poll: &Poll, longest: Duration, pushed: impl FnOnce() -> bool) {
        self.asleep.announce();
        if !pushed() {
            sleep_on(poll, longest);
        }
        self.asleep.end();
    }
}

/// Sleeps until `poll` has an event, which stays there for it to report, or `longest` is over.
pub fn sleep_on(poll: &Poll, longest: Duration) {
    // SAFETY: the descriptor is open as long as `poll`, which outlives the borrow.
    let epoll = unsafe { BorrowedFd::borrow_raw(poll.as_raw_fd()) };
    // It has at most a millisecond here, so that the conversion never fails.
    let longest = Timespec::try_from(longest).unwrap_or_default();
    // A signal ends a sleep early: no harm.
    let _ = wait_for(&mut [PollFd::new(&epoll, PollFlags::IN)], Some(&longest));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use loom::sync::atomic as model;

    use super::*;

    impl Asleep for model::AtomicBool {
        fn announce(&self) {
            self.store(true, Ordering::Relaxed);
            model::fence(Ordering::SeqCst);
        }

        fn seen(&self) -> bool {
            model::fence(Ordering::SeqCst);
            self.load(Ordering::Relaxed)
        }

        fn end(&self) {
            self.store(false, Ordering::Relaxed);
        }
    }

    const LONG: Duration = Duration::from_secs(30);
    const TOKEN: Token = Token(usize::MAX);

    #[test]
    fn in_every_order_what_is_pushed_is_found_or_wakes() {
        loom::model(|| {
            let (ring, asleep) =
                (Arc::new(model::AtomicU64::new(0)), Arc::new(model::AtomicBool::new(false)));
            let pusher = {
                let (ring, asleep) = (Arc::clone(&ring), Arc::clone(&asleep));
                loom::thread::spawn(move || {
                    ring.store(1, Ordering::Release);
                    asleep.seen()
                })
            };
            asleep.announce();
            let found = ring.load(Ordering::Acquire) == 1;
            // It sleeps for ever unless it is woken, or found something.
            assert!(pusher.join().unwrap() || found, "slept through it");
            asleep.end();
        });
    }

    #[test]
    fn a_sleeper_is_woken_and_one_that_is_awake_is_left_alone() {
        let mut poll = Poll::new().unwrap();
        let alarm = Arc::new(Alarm::new(&poll, TOKEN).unwrap());
        alarm.ring();
        let mut events = mio::Events::with_capacity(4);
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        assert!(events.is_empty(), "nobody slept");

        let ringer = {
            let alarm = Arc::clone(&alarm);
            std::thread::spawn(move || {
                while !alarm.asleep.seen() {
                    std::thread::yield_now();
                }
                alarm.ring();
            })
        };
        let from = Instant::now();
        alarm.sleep(&poll, LONG, || false);
        ringer.join().unwrap();
        assert!(from.elapsed() < LONG, "nobody woke it");
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        assert_eq!(events.iter().map(mio::event::Event::token).collect::<Vec<_>>(), [TOKEN]);

        alarm.sleep(&poll, LONG, || true);
        assert!(from.elapsed() < LONG, "it slept though something was there");
    }

    #[test]
    fn a_sleep_ends_with_its_time_and_with_an_event_that_stays() {
        let mut poll = Poll::new().unwrap();
        let from = Instant::now();
        sleep_on(&poll, Duration::from_micros(700));
        assert!(from.elapsed() >= Duration::from_micros(700));

        let waker = Waker::new(poll.registry(), TOKEN).unwrap();
        waker.wake().unwrap();
        sleep_on(&poll, LONG);
        assert!(from.elapsed() < LONG, "it did not see the event");
        let mut events = mio::Events::with_capacity(4);
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        assert!(!events.is_empty(), "it is still there to report");
    }
}
