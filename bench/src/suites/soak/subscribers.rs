//! Subscribers of a soak: those that stay, those that come and go, those that read nothing.
//!
//! Contract: a thread for each kind, told what to do by [`Order`]; each checks that every one of its subscribers
//! gets every announcement once and in order, over reconnections too, for who comes back resumes. What it heard
//! lies in [`Shared`] behind a lock that is held for a copy. Ends with its handle. Fails with a sentence, which
//! [`Thread::check`] hands on.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tocsin_core::time::WallUs;

use super::stage::number_of_ticker;
use crate::crowd::{Crowd, Received, number_of};
use crate::engine::Outcome;
use crate::result::new_histogram;

/// All subscribers of a kind are connected within this, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at the orders.
const SLICE: Duration = Duration::from_millis(100);
/// Detections remembered: those of the last hour, and more.
const REMEMBERED: usize = 8_192;
/// Receive buffer of those who do not read.
const DEAF_BUFFER: usize = 2_048;

/// When notices were detected, by their number; the oldest go first.
#[derive(Default)]
pub(super) struct Detected(VecDeque<(u64, WallUs)>);

impl Detected {
    pub(super) fn get(&self, number: u64) -> Option<WallUs> {
        self.0.iter().rev().find(|(known, _)| *known == number).map(|(_, at)| *at)
    }

    fn note(&mut self, number: u64, at: WallUs) {
        self.0.push_back((number, at));
        if self.0.len() > REMEMBERED {
            self.0.pop_front();
        }
    }
}

/// What one kind has heard.
#[derive(Default)]
pub(super) struct Shared {
    /// Nanoseconds from detection to reading, since it was last taken.
    latency: Vec<u64>,
    /// Numbers of notices heard by the first of them since it was last taken.
    pub(super) heard: Vec<u64>,
    pub(super) detected: Detected,
    /// Announcements, all subscribers together.
    pub(super) messages: u64,
    pub(super) broken: Vec<String>,
}

impl Shared {
    /// Latencies since the last call.
    pub(super) fn take_latency(&mut self) -> Histogram<u64> {
        let mut histogram = new_histogram();
        self.latency.drain(..).for_each(|ns| histogram.saturating_record(ns));
        histogram
    }
}

/// What a thread is told.
pub(super) enum Order {
    /// All are reset, and come back.
    Reset,
    /// The deaf of the last time go, new ones come.
    Deaf(usize),
}

/// Who they are.
#[derive(Clone)]
pub(super) struct Who {
    pub(super) feed: SocketAddr,
    pub(super) key: String,
    pub(super) count: usize,
}

/// A kind of subscribers on its thread.
pub(super) struct Thread {
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<Result<(), String>>>,
    pub(super) shared: Arc<Mutex<Shared>>,
}

impl Thread {
    /// Connects them and returns when all are there.
    pub(super) fn start(name: &str, who: Who) -> Outcome<Thread> {
        let shared = Arc::<Mutex<Shared>>::default();
        let (orders, taken) = channel();
        let (ready, there) = channel();
        let own = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let mut group = Group::connect(who, own)?;
            // Nobody waits any more: the order's end is the end.
            let _ = ready.send(());
            group.serve(&taken)
        })?;
        let mut this = Thread { orders: Some(orders), thread: Some(thread), shared };
        if there.recv().is_err() {
            this.join()?;
        }
        Ok(this)
    }

    pub(super) fn tell(&mut self, order: Order) -> Outcome<()> {
        match self.orders.as_ref().map(|orders| orders.send(order)) {
            Some(Ok(())) => Ok(()),
            _ => self.join(),
        }
    }

    /// Whether it still runs.
    pub(super) fn check(&mut self) -> Outcome<()> {
        if self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) { Ok(()) } else { self.join() }
    }

    /// Ends it.
    pub(super) fn join(&mut self) -> Outcome<()> {
        drop(self.orders.take());
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().map_err(|_| "a thread of subscribers panicked")?.map_err(Into::into)
    }
}

struct Group {
    who: Who,
    crowd: Crowd,
    deaf: Option<Crowd>,
    /// Epoch, and the last announcement of each.
    epoch: i64,
    last: Vec<i64>,
    shared: Arc<Mutex<Shared>>,
}

impl Group {
    fn connect(who: Who, shared: Arc<Mutex<Shared>>) -> Result<Group, String> {
        let crowd = crowd(&who, who.count, "fields=full")?;
        let last = vec![0; who.count];
        Ok(Group { who, crowd, deaf: None, epoch: 0, last, shared })
    }

    fn serve(&mut self, orders: &Receiver<Order>) -> Result<(), String> {
        loop {
            self.listen()?;
            match orders.try_recv() {
                Ok(Order::Reset) => self.come_back()?,
                Ok(Order::Deaf(count)) => {
                    // They do not read, so that what became of them is for the engine's counters to tell.
                    self.deaf = None;
                    self.deaf = Some(deaf(&self.who, count)?);
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return Ok(()),
            }
        }
    }

    /// Reset; then all at once, from where the slowest of them was.
    fn come_back(&mut self) -> Result<(), String> {
        let none = Crowd::new(self.who.feed, &self.who.key, true).map_err(|e| e.to_string())?;
        std::mem::replace(&mut self.crowd, none).reset().map_err(|e| e.to_string())?;
        let from = self.last.iter().copied().min().unwrap_or(0);
        let query = match from {
            0 => "fields=full".to_owned(),
            seq => format!("fields=full&resume={}:{seq}", self.epoch),
        };
        self.last.fill(from);
        let Group { who, crowd, epoch, last, .. } = self;
        let mut news = Shared::default();
        let come = crowd.connect_hearing(who.count, &query, PATIENCE, |m| hear(&m, epoch, last, &mut news));
        self.share(news);
        come.map_err(|e| e.to_string())
    }

    fn listen(&mut self) -> Result<(), String> {
        let Group { crowd, epoch, last, .. } = self;
        let mut news = Shared::default();
        let heard = crowd.listen(Instant::now() + SLICE, |m| hear(&m, epoch, last, &mut news), || false);
        self.share(news);
        heard.map(drop).map_err(|e| e.to_string())
    }

    fn share(&self, mut news: Shared) {
        let mut shared = self.shared.lock();
        shared.latency.append(&mut news.latency);
        shared.heard.append(&mut news.heard);
        shared.messages += news.messages;
        if shared.broken.len() < 100 {
            shared.broken.append(&mut news.broken);
        }
        news.detected.0.into_iter().for_each(|(number, at)| shared.detected.note(number, at));
    }
}

/// One message of one subscriber.
fn hear(message: &Received<'_>, epoch: &mut i64, last: &mut [i64], news: &mut Shared) {
    if !message.json.starts_with(b"{\"type\":\"announcement\"") {
        return;
    }
    let of = |name| number_of(message.json, name);
    let (Some(seq), Some(detected), Some(of_epoch)) = (of("seq"), of("detectedTimestampUs"), of("epoch"))
    else {
        return news.broken.push("an announcement without its fields".to_owned());
    };
    let Some(place) = last.get_mut(message.subscriber) else { return };
    *epoch = of_epoch;
    // The first one of a subscriber that did not resume may have any number.
    if *place != 0 && seq != *place + 1 {
        news.broken.push(format!("subscriber {}: {seq} after {place}", message.subscriber));
    }
    *place = seq;
    news.messages += 1;
    let replayed = message.json.windows(15).any(|part| part == b"\"replayed\":true");
    if !replayed {
        let us = u64::try_from(message.at.0 - detected).unwrap_or(0);
        news.latency.push(us.saturating_mul(1_000));
    }
    if message.subscriber == 0
        && let Some(number) = number_of_ticker(message.json)
    {
        news.heard.push(number);
        news.detected.note(number, WallUs(detected));
    }
}

fn crowd(who: &Who, count: usize, query: &str) -> Result<Crowd, String> {
    let mut crowd = Crowd::new(who.feed, &who.key, true).map_err(|e| e.to_string())?;
    crowd.connect(count, query, PATIENCE).map_err(|e| e.to_string())?;
    Ok(crowd)
}

/// Connected and greeted, and then not read any more.
fn deaf(who: &Who, count: usize) -> Result<Crowd, String> {
    let mut crowd = Crowd::new(who.feed, &who.key, true).map_err(|e| e.to_string())?;
    crowd.set_receive_buffer(DEAF_BUFFER);
    crowd.connect(count, "fields=full", PATIENCE).map_err(|e| e.to_string())?;
    Ok(crowd)
}
