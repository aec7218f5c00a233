//! The floor of an event's way to its request: one thread wakes another that sleeps in epoll.
//!
//! Contract: [`Bare::wake`] reads the wall clock, rings a bell and waits for the instant at which the woken
//! thread reads the clock, which is all it does. [`Bare::stages`] does, as the engine does, the pure work of
//! the way with nothing between: classifying and serializing before the bell, the event with its id, score
//! and body behind it. The engine has besides both: two journals, every ring, the filter and the order of
//! every endpoint, and a connection for the request. Owner: the measuring thread; the sleeper is another
//! until this is dropped. Fails when the bell does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use mio::{Events, Poll, Token, Waker};
use tocsin::os::clock;
use tocsin_core::classify::classify;
use tocsin_core::model::{Action, Announcement, CategoryHint, Exchange, FeedPosition};
use tocsin_core::time::WallUs;
use tocsin_core::webhook::event::{Event, IdKey};
use tocsin_core::webhook::outgoing::Outgoing;
use tocsin_core::wire::{EncodedAnnouncement, encode};

use crate::engine::Outcome;

/// A thread that is not awake by then never will be.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the woken thread does before it reads the clock.
enum Task {
    Nothing,
    Event(Arc<EncodedAnnouncement>),
}

/// See the module head.
pub(super) struct Bare {
    bell: Arc<Waker>,
    tasks: mpsc::Sender<Task>,
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
        let (tasks, taken) = mpsc::channel();
        let (told, awake) = mpsc::channel();
        let key = IdKey::new(&[7; 32]);
        let stopped = Arc::clone(&stop);
        let sleeper = std::thread::Builder::new().name("webhook-bare".to_owned()).spawn(move || {
            let mut events = Events::with_capacity(8);
            while poll.poll(&mut events, None).is_ok() && !stopped.load(Ordering::Relaxed) {
                let Ok(task) = taken.try_recv() else { continue };
                if let Task::Event(announced) = &task {
                    for event in Event::with_volumes(announced, &key, |_| None) {
                        std::hint::black_box(Outgoing::of(&event).is_ok());
                    }
                }
                if told.send(clock::wall()).is_err() {
                    break;
                }
            }
        })?;
        Ok(Bare { bell, tasks, awake, stop, sleeper: Some(sleeper) })
    }

    /// From before the bell to the woken thread's first reading, in microseconds as the engine's stamps are.
    pub(super) fn wake(&self) -> Outcome<u64> {
        let begin = clock::wall();
        self.ring(begin, Task::Nothing, || ())
    }

    /// From before a title is classified to its event's body, in microseconds.
    pub(super) fn stages(&self, number: u64) -> Outcome<u64> {
        let title = format!("Binance Will List Some Token (TOKEN) with Seed Tag Applied {number}");
        let begin = clock::wall();
        let classification = classify(Exchange::Binance, &title, CategoryHint::None);
        let encoded = Arc::new(encode(Announcement {
            id: format!("binance:{number}"),
            position: FeedPosition { epoch: 1, seq: number },
            exchange: Exchange::Binance,
            title,
            classification,
            action: Action::Created,
            late: false,
            url: String::new(),
            notice_id: number.to_string(),
            source: "bench".to_owned(),
            published: begin,
            received: begin,
            detected: begin,
            classified: begin,
            effective_at: None,
        }));
        self.ring(begin, Task::Event(Arc::clone(&encoded)), || _ = encoded.score())
    }

    /// Rings, and does `meanwhile` while the other thread wakes.
    fn ring(&self, begin: WallUs, task: Task, meanwhile: impl FnOnce()) -> Outcome<u64> {
        self.tasks.send(task).map_err(|_| "the bare thread has ended")?;
        self.bell.wake()?;
        meanwhile();
        let awake = self.awake.recv_timeout(PATIENCE).map_err(|_| "the bare thread sleeps on")?;
        Ok(u64::try_from(awake.micros_since(begin)).unwrap_or(0))
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
            assert!((1..10_000_000).contains(&bare.stages(7).unwrap()));
        }
    }
}
