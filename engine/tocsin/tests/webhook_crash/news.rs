//! Announcements without a pause, through the admin API, and what was answered.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::json;
use tocsin_core::model::FeedPosition;

use crate::api::{Api, Whereabouts};

/// Xorshift: the rounds of one seed make the same choices.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed | 1)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % n.max(1)
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn up_to(&mut self, longest: Duration) -> Duration {
        Duration::from_micros(self.below(u64::try_from(longest.as_micros()).unwrap() + 1))
    }
}

/// An announcement whose acceptance was answered: it must not be lost.
#[derive(Clone, Debug)]
pub(crate) struct Announced {
    pub(crate) position: FeedPosition,
    /// Each has an event of its own.
    pub(crate) tickers: Vec<String>,
}

/// What was answered so far.
#[derive(Default)]
pub(crate) struct Answered {
    list: Mutex<Vec<Announced>>,
    moved: Condvar,
}

impl Answered {
    pub(crate) fn all(&self) -> Vec<Announced> {
        self.list.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.list.lock().unwrap().len()
    }

    /// Waits for the next one.
    pub(crate) fn wait_moved(&self, longest: Duration) {
        let list = self.list.lock().unwrap();
        drop(self.moved.wait_timeout(list, longest).unwrap());
    }
}

/// The thread that announces.
pub(crate) struct News {
    pub(crate) answered: Arc<Answered>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl News {
    pub(crate) fn start(at: Whereabouts, seed: u64) -> News {
        let (answered, stop) = (Arc::<Answered>::default(), Arc::<AtomicBool>::default());
        let (told, stopped) = (Arc::clone(&answered), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut random = Random::new(seed);
            let mut number = 0;
            while !stopped.load(Ordering::Relaxed) {
                std::thread::sleep(random.up_to(Duration::from_millis(16)));
                let api = at.lock().unwrap().clone();
                let Some(api) = api else { continue };
                number += 1;
                if let Some(announced) = announce(&api, number, &mut random) {
                    told.list.lock().unwrap().push(announced);
                    told.moved.notify_all();
                }
            }
        });
        News { answered, stop, thread: Some(thread) }
    }

    pub(crate) fn fall_silent(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for News {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// One announcement of one to three tickers that no other has; `None`: it was not answered.
pub(crate) fn announce(api: &Api, number: u64, random: &mut Random) -> Option<Announced> {
    let tickers: Vec<String> = (0..=random.below(6) / 3).map(|i| format!("S{number}K{i}")).collect();
    let exchange = ["binance", "upbit"][usize::try_from(random.below(2)).unwrap()];
    let kind = ["spot_listing", "spot_listing", "futures_listing", "spot_delisting"]
        [usize::try_from(random.below(4)).unwrap()];
    let asked = json!({"exchange": exchange, "title": format!("Sample {number}"), "listing_type": kind, "tickers": tickers});
    let answer = api.succeed("POST", "/admin/v1/announcements", Some(&asked))?;
    let number = |name: &str| answer[name].as_u64().unwrap_or_else(|| panic!("{name}: {answer}"));
    let position = FeedPosition { epoch: number("epoch"), seq: number("seq") };
    Some(Announced { position, tickers })
}
