//! The floor of an event's way to the webhook thread: one thread wakes another that sleeps in epoll.
//!
//! Contract: [`Bare::wake`] reads the wall clock, rings a bell and waits for the instant at which the woken
//! thread reads the clock, which is all it does. The engine's way has besides it: classification's end to
//! the bell (serializing, two journals, every ring), the filter of every endpoint, and the request itself.
//! Owner: the measuring thread; the sleeper is another until this is dropped. Fails when the bell does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use mio::{Events, Poll, Token, Waker};
use tocsin::os::clock;
use tocsin_core::time::WallUs;

use crate::engine::Outcome;

/// A thread that is not awake by then never will be.
const PATIENCE: Duration = Duration::from_secs(10);

/// See the module head.
pub(super) struct Bare {
    bell: Arc<Waker>,
    awake: mpsc::Receiver<WallUs>,
    stop: Arc<AtomicBool>,
    sleeper: Option<JoinHandle<()>>,
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Without a bell it would sleep for ever, and its panic has been told by itself.
        if self.bell.wake().is_ok() {
            let _ = self.sleeper.take().map(JoinHandle::join);
        }
    }
}

impl Bare {
    pub(super) fn start() -> Outcome<Bare> {
        let mut poll = Poll::new()?;
        let bell = Arc::new(Waker::new(poll.registry(), Token(0))?);
        let stop = Arc::new(AtomicBool::new(false));
        let (told, awake) = mpsc::channel();
        let stopped = Arc::clone(&stop);
        let sleeper = std::thread::Builder::new().name("webhook-bare".to_owned()).spawn(move || {
            let mut events = Events::with_capacity(8);
            while poll.poll(&mut events, None).is_ok() && !stopped.load(Ordering::Relaxed) {
                if told.send(clock::wall()).is_err() {
                    break;
                }
            }
        })?;
        Ok(Bare { bell, awake, stop, sleeper: Some(sleeper) })
    }

    /// From before the bell to the woken thread's first reading, in microseconds as the engine's stamps are.
    pub(super) fn wake(&self) -> Outcome<u64> {
        let rung = clock::wall();
        self.bell.wake()?;
        let awake = self.awake.recv_timeout(PATIENCE).map_err(|_| "the bare thread sleeps on")?;
        Ok(u64::try_from(awake.micros_since(rung)).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleeper_wakes_for_every_bell_and_ends() {
        let bare = Bare::start().unwrap();
        for _ in 0..3 {
            assert!(bare.wake().unwrap() < 10_000_000);
        }
    }
}
