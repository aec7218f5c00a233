//! From an announcement to the rings: sequence, shared-memory journal, feed, then everything else.
//!
//! Contract: [`Publisher::announce`] numbers, serializes and journals an announcement and pushes it to
//! every feed ring before anything else happens; [`Publisher::settle`] then gives what was announced to
//! the journal thread and the history ring. A full ring keeps its messages waiting here, in order, and
//! they are offered again every turn; beyond [`limits::SOURCE_OUTBOX`] they are dropped and counted (an
//! announcement dropped from a feed ring is still in history and in resumes). Owner: a source thread.
//! Allocates per announcement, never otherwise.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tocsin_core::detect::SeenRecord;
use tocsin_core::limits;
use tocsin_core::model::{Announcement, FeedPosition, ListingType};
use tocsin_core::source::SourceStatus;
use tocsin_core::wire::{self, EncodedAnnouncement};

use crate::os::alarm::Alarm;
use crate::rings::{SourceToFeed, SourceToJournal};
use crate::store::shm;

/// Where announcements are made durable against the death of the process before they are broadcast.
pub trait AnnouncementLog: Send {
    /// Returns the position to release once the announcement is on disk; `None` when it did not fit.
    fn append(&mut self, announcement: &EncodedAnnouncement) -> Option<u64>;
}

impl AnnouncementLog for shm::Writer {
    fn append(&mut self, announcement: &EncodedAnnouncement) -> Option<u64> {
        shm::Writer::append(self, announcement)
    }
}

/// The rings and counters a source thread publishes through.
pub struct PublisherParts {
    /// This start of the engine.
    pub epoch: u64,
    /// The next sequence number, shared by all source threads; starts at 1.
    pub next_seq: Arc<AtomicU64>,
    /// This thread's shared-memory journal.
    pub log: Box<dyn AnnouncementLog>,
    /// One ring a feed writer.
    pub feeds: Vec<FeedOutlet>,
    /// To the journal thread.
    pub journal: rtrb::Producer<SourceToJournal>,
    /// To the accept thread, for `GET /v1/announcements`.
    pub history: rtrb::Producer<Arc<EncodedAnnouncement>>,
    /// To the webhook thread, where there is one.
    pub webhook: Option<WebhookOutlet>,
    /// To the market thread, where there is one: announcements of listings and delistings.
    pub market: Option<rtrb::Producer<Arc<EncodedAnnouncement>>>,
    /// What went wrong, for metrics.
    pub losses: Arc<Losses>,
}

/// A feed writer's end of things: a ring, and what wakes the thread where it may sleep.
pub struct FeedOutlet {
    /// Announcements and states of sources.
    pub ring: rtrb::Producer<SourceToFeed>,
    /// Rung for announcements: states are not urgent.
    pub alarm: Option<Arc<Alarm>>,
}

impl From<rtrb::Producer<SourceToFeed>> for FeedOutlet {
    /// Of a writer that never sleeps, or is stepped by hand.
    fn from(ring: rtrb::Producer<SourceToFeed>) -> FeedOutlet {
        FeedOutlet { ring, alarm: None }
    }
}

/// The webhook thread's end of things: a ring, and what wakes the thread.
pub struct WebhookOutlet {
    /// Announcements of listings and delistings.
    pub ring: rtrb::Producer<Arc<EncodedAnnouncement>>,
    /// Rung after the feed has everything: it costs a system call.
    pub bell: Arc<mio::Waker>,
}

/// What a full ring or journal has cost so far. Anybody may read it.
#[derive(Debug, Default)]
pub struct Losses {
    /// Messages that found a feed ring full and had to wait.
    pub feed_waited: AtomicU64,
    /// Announcements a feed writer will never get.
    pub feed_dropped: AtomicU64,
    /// Messages that found the journal ring full and had to wait.
    pub journal_waited: AtomicU64,
    /// Messages the journal thread will never get (announcements stay in shared memory).
    pub journal_dropped: AtomicU64,
    /// Announcements the history ring did not take.
    pub history_dropped: AtomicU64,
    /// Announcements the webhook thread gets from history at the next start only.
    pub webhook_dropped: AtomicU64,
    /// Announcements the market thread will never hear of.
    pub market_dropped: AtomicU64,
    /// Announcements that did not fit into the shared-memory journal.
    pub log_full: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A ring and what waits for room in it.
struct Outlet<T> {
    ring: rtrb::Producer<T>,
    waiting: VecDeque<T>,
}

impl<T> Outlet<T> {
    fn new(ring: rtrb::Producer<T>) -> Outlet<T> {
        Outlet { ring, waiting: VecDeque::new() }
    }

    fn push(&mut self, message: T, waited: &AtomicU64, dropped: &AtomicU64) {
        let message = match self.waiting.is_empty() {
            true => match self.ring.push(message) {
                Ok(()) => return,
                Err(rtrb::PushError::Full(message)) => message,
            },
            false => message,
        };
        if self.waiting.len() >= limits::SOURCE_OUTBOX {
            return count(dropped);
        }
        count(waited);
        self.waiting.push_back(message);
    }

    /// Offers what waits again; how much went.
    fn retry(&mut self) -> usize {
        let mut sent = 0;
        while let Some(message) = self.waiting.pop_front() {
            if let Err(rtrb::PushError::Full(message)) = self.ring.push(message) {
                self.waiting.push_front(message);
                break;
            }
            sent += 1;
        }
        sent
    }
}

/// The publishing end of a source thread.
pub struct Publisher {
    epoch: u64,
    next_seq: Arc<AtomicU64>,
    log: Box<dyn AnnouncementLog>,
    feeds: Vec<(Outlet<SourceToFeed>, Option<Arc<Alarm>>)>,
    journal: Outlet<SourceToJournal>,
    history: rtrb::Producer<Arc<EncodedAnnouncement>>,
    webhook: Option<WebhookOutlet>,
    market: Option<rtrb::Producer<Arc<EncodedAnnouncement>>>,
    losses: Arc<Losses>,
    /// Announced and yet to be recorded; empty where nothing is recorded.
    announced: Vec<Arc<EncodedAnnouncement>>,
    keeps_announced: bool,
    /// Announced but not yet given to the journal ring.
    unsettled: Vec<(Arc<EncodedAnnouncement>, Option<u64>)>,
}

impl Publisher {
    /// Takes the rings.
    #[must_use]
    pub fn new(parts: PublisherParts) -> Publisher {
        Publisher {
            epoch: parts.epoch,
            next_seq: parts.next_seq,
            log: parts.log,
            feeds: parts.feeds.into_iter().map(|feed| (Outlet::new(feed.ring), feed.alarm)).collect(),
            journal: Outlet::new(parts.journal),
            history: parts.history,
            webhook: parts.webhook,
            market: parts.market,
            losses: parts.losses,
            announced: Vec::new(),
            keeps_announced: false,
            unsettled: Vec::with_capacity(limits::ITEMS_PER_RESPONSE),
        }
    }

    /// The position the next announcement gets, if no other source thread takes it first. For
    /// naming what has no name of its own.
    #[must_use]
    pub fn next_position(&self) -> FeedPosition {
        FeedPosition { epoch: self.epoch, seq: self.next_seq.load(Ordering::Relaxed) }
    }

    /// Gives the announcement its position, makes it durable in memory and hands it to every feed
    /// writer. [`Publisher::settle`] must follow in the same turn.
    pub fn announce(&mut self, mut announcement: Announcement) -> Arc<EncodedAnnouncement> {
        let seq = self.next_seq.fetch_add(1, Ordering::Relaxed);
        announcement.position = FeedPosition { epoch: self.epoch, seq };
        let encoded = Arc::new(wire::encode(announcement));
        let shm_position = self.log.append(&encoded);
        for (feed, alarm) in &mut self.feeds {
            let message = SourceToFeed::Announcement(Arc::clone(&encoded));
            feed.push(message, &self.losses.feed_waited, &self.losses.feed_dropped);
            if let Some(alarm) = alarm {
                alarm.ring();
            }
        }
        if shm_position.is_none() {
            count(&self.losses.log_full);
        }
        self.unsettled.push((Arc::clone(&encoded), shm_position));
        encoded
    }

    /// Gives what was announced to the webhook thread, the market thread, the journal thread and history.
    pub fn settle(&mut self) {
        self.tell_webhooks();
        self.tell_market();
        if self.keeps_announced {
            self.announced.extend(self.unsettled.iter().map(|(announcement, _)| Arc::clone(announcement)));
        }
        for (announcement, shm_position) in self.unsettled.drain(..) {
            if self.history.push(Arc::clone(&announcement)).is_err() {
                count(&self.losses.history_dropped);
            }
            let message = SourceToJournal::Announcement { announcement, shm_position };
            self.journal.push(message, &self.losses.journal_waited, &self.losses.journal_dropped);
        }
    }

    /// Keeps what is announced for [`Publisher::drain_announced`], which is then to be called every turn.
    pub(super) fn keep_announced(&mut self, keep: bool) {
        self.keeps_announced = keep;
        self.announced.reserve(if keep { limits::ITEMS_PER_RESPONSE } else { 0 });
    }

    /// What was announced since the last call.
    pub(super) fn drain_announced(&mut self, mut take: impl FnMut(&Arc<EncodedAnnouncement>)) {
        self.announced.drain(..).for_each(|announcement| take(&announcement));
    }

    /// The webhook thread first: it is woken once for all of them.
    fn tell_webhooks(&mut self) {
        let Some(WebhookOutlet { ring, bell }) = &mut self.webhook else { return };
        let tells = |announcement: &Announcement| {
            announcement.classification.listing_type != ListingType::NotListing
                && announcement.action.is_news()
        };
        let told =
            || self.unsettled.iter().map(|(encoded, _)| encoded).filter(|one| tells(&one.announcement));
        for encoded in told() {
            if ring.push(Arc::clone(encoded)).is_err() {
                count(&self.losses.webhook_dropped);
            }
        }
        if told().next().is_some() {
            // If it cannot be woken it looks by itself within half a second.
            let _ = bell.wake();
        }
        // While the other thread wakes, which takes as long: it finds the scores there.
        for encoded in told() {
            let _ = encoded.score();
        }
    }

    /// Nobody is woken: what the market thread makes of it is a second message, and it looks often enough.
    fn tell_market(&mut self) {
        let Some(ring) = &mut self.market else { return };
        for (encoded, _) in &self.unsettled {
            let lists = encoded.announcement.classification.listing_type != ListingType::NotListing;
            if lists && ring.push(Arc::clone(encoded)).is_err() {
                count(&self.losses.market_dropped);
            }
        }
    }

    /// Has the store remember an item.
    pub fn seen(&mut self, record: SeenRecord) {
        let message = SourceToJournal::Seen(record);
        self.journal.push(message, &self.losses.journal_waited, &self.losses.journal_dropped);
    }

    /// Has the store remember an item that another source of the exchange had announced as `notice`.
    pub fn confirmed(&mut self, record: SeenRecord, notice: Box<str>) {
        let message = SourceToJournal::Confirmed { record, notice };
        self.journal.push(message, &self.losses.journal_waited, &self.losses.journal_dropped);
    }

    /// Has the store remember that a list's first answer was taken. Call it after the items.
    pub fn baselined(&mut self, source: &'static str, list: &'static str) {
        let message = SourceToJournal::Baselined { source, list };
        self.journal.push(message, &self.losses.journal_waited, &self.losses.journal_dropped);
    }

    /// Reports a source's state to every feed writer that has room; whether all had. Reports never
    /// wait: there will be another, and announcements go first.
    pub fn report(&mut self, status: SourceStatus) -> bool {
        let mut all = true;
        for (feed, _) in &mut self.feeds {
            all &= feed.waiting.is_empty() && feed.ring.push(SourceToFeed::Status(status)).is_ok();
        }
        all
    }

    /// Offers what waits for room again; how much went.
    pub fn retry(&mut self) -> usize {
        self.feeds.iter_mut().map(|(feed, _)| feed.retry()).sum::<usize>() + self.journal.retry()
    }
}

#[cfg(test)]
mod tests {
    use tocsin_core::model::{Action, Classification, Exchange, Lang};
    use tocsin_core::source::SourceState;
    use tocsin_core::time::WallUs;

    use super::*;

    struct Log(u64);

    impl AnnouncementLog for Log {
        fn append(&mut self, announcement: &EncodedAnnouncement) -> Option<u64> {
            self.0 += 1;
            (announcement.announcement.title != "unloggable").then_some(self.0)
        }
    }

    fn announcement(title: &str) -> Announcement {
        Announcement {
            id: "upbit:1".into(),
            position: FeedPosition::default(),
            exchange: Exchange::Upbit,
            title: title.into(),
            classification: Classification {
                listing_type: ListingType::NotListing,
                tickers: Vec::new(),
                markets: Vec::new(),
                rule: "none",
                confidence: 0,
                lang: Lang::En,
            },
            action: Action::Created,
            late: false,
            url: String::new(),
            notice_id: "1".into(),
            source: "upbit.web".into(),
            published: WallUs(1),
            received: WallUs(2),
            detected: WallUs(3),
            classified: WallUs(4),
            effective_at: None,
        }
    }

    struct Far {
        feeds: Vec<rtrb::Consumer<SourceToFeed>>,
        journal: rtrb::Consumer<SourceToJournal>,
        history: rtrb::Consumer<Arc<EncodedAnnouncement>>,
        losses: Arc<Losses>,
    }

    fn publisher(depth: usize) -> (Publisher, Far) {
        let (near, feeds): (Vec<_>, Vec<_>) = (0..2).map(|_| rtrb::RingBuffer::new(depth)).unzip();
        let (journal_in, journal) = rtrb::RingBuffer::new(depth);
        let (history_in, history) = rtrb::RingBuffer::new(depth);
        let losses = Arc::new(Losses::default());
        let publisher = Publisher::new(PublisherParts {
            epoch: 7,
            next_seq: Arc::new(AtomicU64::new(1)),
            log: Box::new(Log(0)),
            feeds: near.into_iter().map(FeedOutlet::from).collect(),
            journal: journal_in,
            history: history_in,
            webhook: None,
            market: None,
            losses: Arc::clone(&losses),
        });
        (publisher, Far { feeds, journal, history, losses })
    }

    fn titles(feed: &mut rtrb::Consumer<SourceToFeed>) -> Vec<String> {
        std::iter::from_fn(|| feed.pop().ok())
            .map(|message| match message {
                SourceToFeed::Announcement(a) => {
                    format!("{} {}", a.announcement.position, a.announcement.title)
                }
                SourceToFeed::Status(s) => s.state.name().to_owned(),
            })
            .collect()
    }

    #[test]
    fn an_announcement_wakes_a_feed_writer_that_sleeps() {
        const LONG: std::time::Duration = std::time::Duration::from_secs(60);
        let (mut publisher, _far) = publisher(4);
        let poll = mio::Poll::new().unwrap();
        let alarm = Arc::new(Alarm::new(&poll, mio::Token(1)).unwrap());
        publisher.feeds[1].1 = Some(Arc::clone(&alarm));
        let from = std::time::Instant::now();
        let sleeper = std::thread::spawn(move || alarm.sleep(&poll, LONG, || false));
        // Whenever it falls asleep, the next one wakes it.
        while !sleeper.is_finished() && from.elapsed() < LONG / 2 {
            publisher.announce(announcement("wake"));
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert!(from.elapsed() < LONG / 2, "nobody woke it");
        sleeper.join().unwrap();
    }

    #[test]
    fn feeds_come_first_then_history_and_journal_with_the_log_position() {
        let (mut publisher, mut far) = publisher(4);
        assert_eq!(publisher.next_position().seq, 1);
        publisher.announce(announcement("a"));
        publisher.announce(announcement("unloggable"));
        assert!(far.journal.is_empty());
        for feed in &mut far.feeds {
            assert_eq!(titles(feed), ["7:1 a", "7:2 unloggable"]);
        }
        publisher.settle();
        assert_eq!(far.history.slots(), 2);
        for expected in [Some(1), None] {
            let SourceToJournal::Announcement { shm_position, .. } = far.journal.pop().unwrap() else {
                panic!()
            };
            assert_eq!(shm_position, expected);
        }
        assert_eq!(far.losses.log_full.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_full_ring_keeps_order_and_reports_give_way() {
        let (mut publisher, mut far) = publisher(2);
        for title in ["a", "b", "c", "d"] {
            publisher.announce(announcement(title));
        }
        publisher.settle();
        let status = SourceStatus {
            source: "upbit.web",
            exchange: Exchange::Upbit,
            state: SourceState::Live,
            last_poll: None,
            last_item: None,
        };
        assert!(!publisher.report(status));
        for feed in &mut far.feeds {
            assert_eq!(titles(feed), ["7:1 a", "7:2 b"]);
        }
        assert_eq!(publisher.retry(), 4);
        publisher.announce(announcement("e"));
        for feed in &mut far.feeds {
            assert_eq!(titles(feed), ["7:3 c", "7:4 d"]);
        }
        assert_eq!(publisher.retry(), 2);
        for feed in &mut far.feeds {
            assert_eq!(titles(feed), ["7:5 e"]);
        }
        assert!(publisher.report(status));
        assert_eq!(far.losses.history_dropped.load(Ordering::Relaxed), 2);
        assert_eq!(far.losses.feed_dropped.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_waits_is_bounded() {
        let (mut publisher, far) = publisher(1);
        for _ in 0..limits::SOURCE_OUTBOX + 3 {
            publisher.baselined("a", "b");
        }
        assert_eq!(far.losses.journal_dropped.load(Ordering::Relaxed), 2);
    }
}
