//! Three simulated exchanges that publish without a pause, and the ledger of what they published.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tocsin_sim::{Category, Draft, Kind, Options, SimExchange};

use crate::harness::Mode;

/// Versions of one exchange that nobody has confirmed yet, at most. Pages hold twenty notices, so
/// nothing leaves a page before the engine can have read it.
const UNCONFIRMED: usize = 6;

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

    pub(crate) fn up_to(&mut self, longest: Duration) -> Duration {
        Duration::from_micros(self.below(u64::try_from(longest.as_micros()).unwrap() + 1))
    }
}

/// One title under one identifier: what must be announced exactly once.
pub(crate) type Version = (String, String);

/// How a version came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Published at an instant, in microseconds.
    New(i64),
    /// An edit that names another ticker: news to everybody.
    News,
    /// An edit that tells nothing new.
    Edit,
}

#[derive(Default)]
struct Books {
    published: BTreeMap<Version, Origin>,
    confirmed: BTreeSet<Version>,
    unconfirmed: BTreeMap<Kind, BTreeSet<Version>>,
    /// Notices whose newest version is confirmed, the newest last.
    editable: BTreeMap<Kind, VecDeque<Version>>,
}

/// What was published, and what somebody has been told of it.
#[derive(Default)]
pub(crate) struct Ledger {
    books: Mutex<Books>,
    /// Rises with each publication, and with each confirmation.
    moved: Condvar,
}

impl Ledger {
    fn note(&self, kind: Kind, version: Version, origin: Origin) {
        let mut books = self.books.lock().unwrap();
        // The engine may have told it before the exchange's handle came back from publishing.
        if !books.confirmed.contains(&version) {
            books.unconfirmed.entry(kind).or_default().insert(version.clone());
        }
        books.published.insert(version, origin);
        self.moved.notify_all();
    }

    /// A subscriber was told this version.
    pub(crate) fn confirm(&self, version: &Version) {
        let mut books = self.books.lock().unwrap();
        let Some(kind) = kind_of(&version.0) else { return };
        books.unconfirmed.entry(kind).or_default().remove(version);
        if books.confirmed.insert(version.clone()) {
            let editable = books.editable.entry(kind).or_default();
            editable.retain(|(id, _)| *id != version.0);
            editable.push_back(version.clone());
            if editable.len() > UNCONFIRMED {
                editable.pop_front();
            }
            self.moved.notify_all();
        }
    }

    /// Notices of an exchange published before the engine's first start ever are its silent baseline.
    pub(crate) fn forgive(&self, kind: Kind, first_start_us: i64) {
        let mut books = self.books.lock().unwrap();
        let Books { published, unconfirmed, .. } = &mut *books;
        let baseline = |version: &Version| matches!(published.get(version), Some(Origin::New(at)) if *at <= first_start_us);
        unconfirmed.entry(kind).or_default().retain(|version| !baseline(version));
        self.moved.notify_all();
    }

    /// Waits for the next publication or confirmation.
    pub(crate) fn wait_moved(&self, longest: Duration) {
        let books = self.books.lock().unwrap();
        drop(self.moved.wait_timeout(books, longest).unwrap());
    }

    /// What nobody has been told yet.
    pub(crate) fn unconfirmed(&self) -> Vec<Version> {
        self.books.lock().unwrap().unconfirmed.values().flatten().cloned().collect()
    }

    /// Everything published.
    pub(crate) fn published(&self) -> BTreeMap<Version, Origin> {
        self.books.lock().unwrap().published.clone()
    }

    fn room(&self, kind: Kind) -> usize {
        let books = self.books.lock().unwrap();
        UNCONFIRMED.saturating_sub(books.unconfirmed.get(&kind).map_or(0, BTreeSet::len))
    }

    /// A notice to edit, which then waits for its new version to be confirmed.
    fn take_editable(&self, kind: Kind, pick: u64) -> Option<Version> {
        let mut books = self.books.lock().unwrap();
        let editable = books.editable.entry(kind).or_default();
        let at = usize::try_from(pick).unwrap() % editable.len().max(1);
        editable.remove(at)
    }
}

pub(crate) fn kind_of(id: &str) -> Option<Kind> {
    Kind::DEFAULT.into_iter().find(|kind| id.split(':').next() == Some(kind.name()))
}

/// The exchanges and the thread that publishes.
pub(crate) struct World {
    pub(crate) sims: Vec<Arc<SimExchange>>,
    pub(crate) ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
    publisher: Option<JoinHandle<()>>,
    /// Publications so far.
    pub(crate) count: Arc<AtomicU64>,
}

impl World {
    pub(crate) fn start(mode: Mode) -> World {
        let options =
            |kind: Kind| Options { plain: mode == Mode::Plain, seed: kind as u64 + 1, ..Options::default() };
        let sims = Kind::DEFAULT.map(|kind| Arc::new(SimExchange::start(kind, options(kind)).unwrap()));
        World {
            sims: sims.to_vec(),
            ledger: Arc::default(),
            stop: Arc::default(),
            publisher: None,
            count: Arc::default(),
        }
    }

    /// Sections `[sources.NAME]`: asked often, as one's own server may be. Certificates go into `dir`.
    pub(crate) fn config(&self, dir: &Path) -> String {
        let sections = self.sims.iter().map(|sim| {
            let name = sim.kind().name();
            let ca_file = dir.join(format!("{name}.pem"));
            std::fs::write(&ca_file, sim.ca_pem()).unwrap();
            format!(
                "[sources.{name}]\nenabled = true\nbase_url = {:?}\nca_file = {ca_file:?}\n\
                 requests_per_second = 25\nflat = true\n",
                sim.base_url()
            )
        });
        sections.collect()
    }

    /// Starts publishing.
    pub(crate) fn publish(&mut self, seed: u64) {
        let (sims, ledger) = (self.sims.clone(), Arc::clone(&self.ledger));
        let (stop, count) = (Arc::clone(&self.stop), Arc::clone(&self.count));
        self.publisher = Some(std::thread::spawn(move || {
            let mut random = Random::new(seed);
            while !stop.load(Ordering::Relaxed) {
                let sim = &sims[usize::try_from(random.below(3)).unwrap()];
                publish_something(sim, &ledger, &count, &mut random);
                std::thread::sleep(random.up_to(Duration::from_millis(20)));
            }
        }));
    }

    /// Ends publishing.
    pub(crate) fn fall_silent(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(publisher) = self.publisher.take() {
            publisher.join().unwrap();
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// An edit, a burst or one notice, where the exchange has room.
fn publish_something(sim: &SimExchange, ledger: &Ledger, count: &AtomicU64, random: &mut Random) {
    let kind = sim.kind();
    let room = ledger.room(kind);
    let what = random.below(10);
    if room == 0 {
        return;
    }
    if what < 3 {
        let Some((id, former)) = ledger.take_editable(kind, random.below(1_000)) else { return };
        let number = count.fetch_add(1, Ordering::Relaxed);
        let notice = id.split_once(':').unwrap().1;
        let (title, origin) = match random.below(2) {
            0 => (title(kind, number), Origin::News),
            _ => (format!("{former} [{number}]"), Origin::Edit),
        };
        // Binance shows no edit time; the others edit with and without one.
        let edited = match random.below(2) {
            0 => sim.edit(notice, &title),
            _ => sim.same_id_new_title(notice, &title),
        };
        edited.unwrap();
        ledger.note(kind, (id, title), origin);
        return;
    }
    let burst = if what == 9 { room.min(4) } else { 1 };
    for _ in 0..burst {
        let number = count.fetch_add(1, Ordering::Relaxed);
        let category = if random.below(4) == 0 { Category::Delisting } else { Category::Listing };
        let published = sim.publish(Draft::new(category, title(kind, number)));
        let id = format!("{}:{}", kind.name(), published.notice_id);
        ledger.note(kind, (id, published.title), Origin::New(published.visible.0));
    }
}

/// Each title is there once.
fn title(kind: Kind, number: u64) -> String {
    match kind {
        Kind::Binance => format!("Binance Will List Sample {number} (SMP{number})"),
        Kind::Upbit => format!("샘플{number}(SMP{number}) KRW 마켓 디지털 자산 추가"),
        _ => format!("샘플{number}(SMP{number}) 원화 마켓 추가"),
    }
}
