//! Two writers beside one: the engine's feed threads and the floor's, on one core or on two.
//!
//! Contract: as many connections for one writer as for the two together, all plain. The second writer
//! is a thread of its own, pinned, that sleeps between its shots (the clients may need its core), is
//! woken before each, says that it is ready and then spins for the frame, as a feed thread does. A
//! shot ends when both are done. Owner: the thread that measures; the second engine belongs to the
//! second thread. Every wait has an end. Dropping ends the second thread.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tocsin::os::{clock, cores};

use super::clients::Clients;
use super::drainer::Kind;
use super::engine::{Engine, Pen};
use super::floor::{Instants, write_all};
use super::frames::frame;
use super::rounds::{Mode, Shot, Stand};
use super::stand::{EngineDoor, Start};

/// Descriptors this process needs for each subscriber of a [`Pair`].
pub const DESCRIPTORS_EACH: usize = 4;

/// Longest wait for the other thread.
const PATIENCE: Duration = Duration::from_secs(10);
/// Turns the second engine makes after a shot, for what has come due meanwhile.
const TURNS_AFTER: usize = 64;

const ASLEEP: u32 = 0;
const ASKED: u32 = 1;
const READY: u32 = 2;
const GO: u32 = 3;
const DONE: u32 = 4;
const STOP: u32 = 5;

#[derive(Debug)]
enum Job {
    Engine,
    Floor { from: usize, bytes: Vec<u8> },
    Nothing,
}

/// What both threads see.
struct Shared {
    state: AtomicU32,
    job: Mutex<Job>,
    found: Mutex<Result<Instants, String>>,
}

/// The other thread.
struct Second {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// One engine with its subscribers, and the floor's way to the same ones.
struct Half {
    engine: Engine,
    pen: Pen,
    sockets: Vec<OwnedFd>,
}

/// See the module head.
pub struct Pair {
    whole: Half,
    first: Half,
    second: Second,
    second_pen: Pen,
    second_sockets: usize,
    start: Start,
}

impl Pair {
    /// Opens `subscribers` connections twice: in the clients' group 0, and in groups 1 and 2 a half
    /// each. The second writer is pinned to `core`.
    ///
    /// # Errors
    /// Sockets or clients fail, or the thread cannot be pinned.
    pub fn open(clients: &mut Clients, subscribers: usize, seed: u64, core: usize) -> Result<Pair, String> {
        let whole = half(clients, 0, subscribers, seed)?;
        let first = half(clients, 1, subscribers - subscribers / 2, seed)?;
        let Half { engine, pen: second_pen, sockets } = half(clients, 2, subscribers / 2, seed)?;
        let second_sockets = sockets.len();
        let second = Second::start(engine, sockets, core)?;
        Ok(Pair { whole, first, second, second_pen, second_sockets, start: Start::default() })
    }

    /// Ends every connection, the clients' side first.
    ///
    /// # Errors
    /// The clients do not answer.
    pub fn close(mut self, clients: &mut Clients) -> Result<(), String> {
        [0, 1, 2].into_iter().try_for_each(|group| clients.close(group, &mut || self.idle()))
    }

    fn engine_two(&mut self, number: u64) -> Result<Shot, String> {
        let announcement = self.first.pen.next(number)?;
        let same = self.second_pen.next(number)?;
        let stamps = self.first.engine.stamps();
        let before = stamps.count();
        self.second.ready_for(Job::Engine)?;
        let start = clock::mono().0;
        self.second_pen.push(same)?;
        self.first.pen.push(announcement)?;
        self.first.engine.step();
        let here = stamps.since(before)?;
        Ok(both(start, here, self.second.done()?))
    }

    fn floor_two(&mut self, number: u64) -> Result<Shot, String> {
        let bytes = frame(number, clock::wall())?;
        let from = self.start.next(self.second_sockets);
        self.second.ready_for(Job::Floor { from, bytes: bytes.clone() })?;
        let start = clock::mono().0;
        self.second.shared.state.store(GO, Ordering::Release);
        let here = write_all(&self.first.sockets, from, &bytes)?;
        Ok(both(start, here, self.second.done()?))
    }

    fn engine_one(&mut self, number: u64) -> Result<Shot, String> {
        let announcement = self.whole.pen.next(number)?;
        let stamps = self.whole.engine.stamps();
        let before = stamps.count();
        let start = clock::mono().0;
        self.whole.pen.push(announcement)?;
        self.whole.engine.step();
        let (first, last) = stamps.since(before)?;
        Ok(Shot { start, first, last, cpu: 0 })
    }

    fn floor_one(&mut self, number: u64) -> Result<Shot, String> {
        let bytes = frame(number, clock::wall())?;
        let from = self.start.next(self.whole.sockets.len());
        let start = clock::mono().0;
        let (first, last) = write_all(&self.whole.sockets, from, &bytes)?;
        Ok(Shot { start, first, last, cpu: 0 })
    }
}

impl Stand for Pair {
    fn groups(&self, mode: Mode) -> &'static [usize] {
        match mode {
            Mode::EngineTwo | Mode::FloorTwo => &[1, 2],
            _ => &[0],
        }
    }

    fn shoot(&mut self, mode: Mode, number: u64) -> Result<Shot, String> {
        match mode {
            Mode::Engine => self.engine_one(number),
            Mode::Floor => self.floor_one(number),
            Mode::EngineTwo => self.engine_two(number),
            Mode::FloorTwo => self.floor_two(number),
            _ => Err("this stand shoots no bursts".to_owned()),
        }
    }

    fn idle(&mut self) {
        self.whole.engine.step();
        self.first.engine.step();
    }

    fn check(&mut self) -> Result<(), String> {
        // The second engine's subscribers are told of by their clients: a frame would be missing.
        self.whole.engine.all_there()?;
        self.first.engine.all_there()
    }
}

fn half(clients: &mut Clients, group: usize, subscribers: usize, seed: u64) -> Result<Half, String> {
    let (mut engine, pen) = Engine::new(subscribers, seed)?;
    let mut sockets = Vec::new();
    clients.open(group, Kind::Plain, subscribers, &mut EngineDoor::new(&mut engine, None, &mut sockets))?;
    Ok(Half { engine, pen, sockets })
}

fn both(start: u64, here: Instants, there: Instants) -> Shot {
    Shot { start, first: here.0.min(there.0), last: here.1.max(there.1), cpu: 0 }
}

impl Second {
    fn start(engine: Engine, sockets: Vec<OwnedFd>, core: usize) -> Result<Second, String> {
        let shared = Arc::new(Shared {
            state: AtomicU32::new(ASKED),
            job: Mutex::new(Job::Nothing),
            found: Mutex::new(Ok((0, 0))),
        });
        let seen = Arc::clone(&shared);
        let thread = thread::Builder::new().name("bench-second".to_owned()).spawn(move || {
            let pinned = cores::pin(core).map_err(|e| format!("core {core}: {e}"));
            work(&seen, engine, &sockets, &pinned);
        });
        let second = Second { shared, thread: Some(thread.map_err(|e| e.to_string())?) };
        // The first job is none: it tells whether the thread could be pinned.
        second.done()?;
        Ok(second)
    }

    /// Gives it a job and returns when it waits for nothing but the start.
    fn ready_for(&self, job: Job) -> Result<(), String> {
        *lock(&self.shared.job) = job;
        self.shared.state.store(ASKED, Ordering::Release);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
        self.wait_for(READY)
    }

    fn done(&self) -> Result<Instants, String> {
        self.wait_for(DONE)?;
        self.shared.state.store(ASLEEP, Ordering::Release);
        lock(&self.shared.found).clone()
    }

    fn wait_for(&self, wanted: u32) -> Result<(), String> {
        let started = Instant::now();
        loop {
            let state = self.shared.state.load(Ordering::Acquire);
            if state == wanted {
                return Ok(());
            }
            if state == DONE {
                // It failed before it was ready.
                return lock(&self.shared.found)
                    .clone()
                    .and(Err("the second writer was done early".to_owned()));
            }
            if started.elapsed() > PATIENCE {
                return Err("the second writer does not answer".to_owned());
            }
            std::hint::spin_loop();
        }
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        self.shared.state.store(STOP, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// The second thread: sleeps, does a job, sleeps.
fn work(shared: &Shared, mut engine: Engine, sockets: &[OwnedFd], pinned: &Result<(), String>) {
    loop {
        match shared.state.load(Ordering::Acquire) {
            STOP => return,
            ASKED => {}
            _ => {
                thread::park();
                continue;
            }
        }
        let job = std::mem::replace(&mut *lock(&shared.job), Job::Nothing);
        let is_engine = matches!(job, Job::Engine);
        let found = pinned.clone().and_then(|()| match job {
            Job::Nothing => Ok((0, 0)),
            Job::Engine => engine_job(shared, &mut engine),
            Job::Floor { from, bytes } => floor_job(shared, sockets, from, &bytes),
        });
        *lock(&shared.found) = found;
        // Asked to stop meanwhile: that stays.
        let running = |state: u32| (state != STOP).then_some(DONE);
        let _ = shared.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, running);
        if is_engine {
            (0..TURNS_AFTER).for_each(|_| engine.step());
        }
    }
}

fn engine_job(shared: &Shared, engine: &mut Engine) -> Result<Instants, String> {
    let stamps = engine.stamps();
    let before = stamps.count();
    ready(shared);
    let started = Instant::now();
    while stamps.count() == before {
        engine.step();
        if started.elapsed() > PATIENCE {
            return Err("no frame came to the second writer".to_owned());
        }
    }
    stamps.since(before)
}

fn floor_job(shared: &Shared, sockets: &[OwnedFd], from: usize, bytes: &[u8]) -> Result<Instants, String> {
    ready(shared);
    let started = Instant::now();
    while shared.state.load(Ordering::Acquire) != GO {
        if started.elapsed() > PATIENCE {
            return Err("the second writer was not started".to_owned());
        }
        std::hint::spin_loop();
    }
    write_all(sockets, from, bytes)
}

/// Says so, unless asked to stop meanwhile.
fn ready(shared: &Shared) {
    let _ = shared.state.compare_exchange(ASKED, READY, Ordering::AcqRel, Ordering::Acquire);
}

/// Nothing is left half-done under these locks, so a poisoned one is as good as another.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
