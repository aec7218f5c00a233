//! Where the market thread tells: feed writers, the webhook thread, the journal thread.
//!
//! Contract: an event goes into every feed ring first, then to the webhook thread, then to the journal thread, and
//! what is known after it behind it in the same ring. Nothing blocks. A full feed or webhook ring loses the message,
//! counted: neither is numbered, and webhooks make events good from the store at the next start. What finds the
//! journal's ring full waits here, in order; while something waits [`Outlets::is_behind`], and the thread asks
//! nothing more. Owner: the market thread.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tocsin_core::market::message::encode_event;
use tocsin_core::market::table::VolumeTable;
use tocsin_core::market::watcher::{Changes, Told};
use tocsin_core::wire::extra::Extra;

use super::stats::{MarketStats, add};
use crate::rings::{MarketToFeed, MarketToJournal, MarketToWebhook};
use crate::topology::MARKET_RECORDS;

/// The near ends of its rings, and what wakes the webhook thread.
pub struct MarketOutlets {
    /// One a feed writer.
    pub feeds: Vec<rtrb::Producer<MarketToFeed>>,
    /// To the webhook thread.
    pub webhook: rtrb::Producer<MarketToWebhook>,
    /// Wakes it.
    pub bell: Arc<mio::Waker>,
    /// To the journal thread.
    pub journal: rtrb::Producer<MarketToJournal>,
}

/// The ends, and what waits for the journal's ring.
pub(super) struct Outlets {
    ends: MarketOutlets,
    waiting: VecDeque<MarketToJournal>,
    stats: Arc<MarketStats>,
}

impl Outlets {
    pub(super) fn new(ends: MarketOutlets, stats: Arc<MarketStats>) -> Outlets {
        Outlets { ends, waiting: VecDeque::new(), stats }
    }

    /// Whether something waits for the journal's ring.
    pub(super) fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Tells all of it, and forgets it.
    pub(super) fn tell(&mut self, told: &mut Told) {
        if told.is_empty() {
            return;
        }
        let wakes = !told.events.is_empty();
        for event in told.events.drain(..) {
            self.stats.note_event(event.kind);
            self.feed(encode_event(&event));
            let event = Arc::new(event);
            self.webhook(MarketToWebhook::Event(Arc::clone(&event)));
            self.waiting.push_back(MarketToJournal::Event(event));
        }
        if wakes {
            // If it cannot be woken it looks by itself within half a second.
            let _ = self.ends.bell.wake();
        }
        for changes in told.changes.drain(..) {
            in_parts(changes, |part| self.waiting.push_back(MarketToJournal::Changes(Box::new(part))));
        }
        self.retry();
    }

    /// What is known of an announcement's assets.
    pub(super) fn context(&mut self, context: Extra) {
        add(&self.stats.contexts);
        self.feed(context);
    }

    /// What is traded of each asset.
    pub(super) fn volumes(&mut self, table: VolumeTable) {
        self.stats.assets.store(table.len() as u64, Ordering::Relaxed);
        self.webhook(MarketToWebhook::Volumes(Arc::new(table)));
    }

    /// Offers what waits to the journal's ring again; how much went.
    pub(super) fn retry(&mut self) -> usize {
        let mut sent = 0;
        while let Some(message) = self.waiting.pop_front() {
            if let Err(rtrb::PushError::Full(message)) = self.ends.journal.push(message) {
                self.waiting.push_front(message);
                break;
            }
            sent += 1;
        }
        self.stats.waiting.store(self.waiting.len() as u64, Ordering::Relaxed);
        sent
    }

    fn feed(&mut self, extra: Extra) {
        let extra = Arc::new(extra);
        for feed in &mut self.ends.feeds {
            if feed.push(MarketToFeed(Arc::clone(&extra))).is_err() {
                add(&self.stats.feed_dropped);
            }
        }
    }

    fn webhook(&mut self, message: MarketToWebhook) {
        if self.ends.webhook.push(message).is_err() {
            add(&self.stats.webhook_dropped);
        }
    }
}

/// Changes in parts of [`MARKET_RECORDS`] rows: what is deleted with the first, the book with the last.
fn in_parts(changes: Changes, mut each: impl FnMut(Changes)) {
    let Changes { source, request, records, mut forgotten, book } = changes;
    let mut records = records.into_iter().peekable();
    loop {
        let part: Vec<_> = records.by_ref().take(MARKET_RECORDS).collect();
        let last = records.peek().is_none();
        let book = book.filter(|_| last);
        each(Changes { source, request, records: part, forgotten: std::mem::take(&mut forgotten), book });
        if last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tocsin_core::market::record::{BookRecord, InstrumentRecord, Standing};
    use tocsin_core::market::{InstrumentKind, MarketEvent, MarketEventKind, Trading};
    use tocsin_core::model::Exchange;
    use tocsin_core::time::WallUs;

    use super::*;
    use crate::threads::webhook::Bell;

    fn record(number: usize) -> InstrumentRecord {
        InstrumentRecord {
            symbol: format!("T{number}USDT").into(),
            base: format!("T{number}").into(),
            quote: "USDT".into(),
            kind: InstrumentKind::Spot,
            trading: Trading::Open,
            state: "TRADING".into(),
            opens_at: None,
            closes_at: None,
            standing: Standing::default(),
        }
    }

    fn changes(records: usize) -> Changes {
        Changes {
            source: "binance.spot",
            request: "pairs",
            records: (0..records).map(record).collect(),
            forgotten: vec!["GONE".into()],
            book: Some(BookRecord { baselined: true, last_answer: None }),
        }
    }

    fn event() -> MarketEvent {
        MarketEvent {
            kind: MarketEventKind::StealthListing,
            exchange: Exchange::Binance,
            source: "binance.spot",
            symbol: "ABCUSDT".to_owned(),
            base: "ABC".to_owned(),
            quote: "USDT".to_owned(),
            instrument: InstrumentKind::Spot,
            state: "TRADING".to_owned(),
            occurrence: 1,
            new_asset: true,
            noticed: false,
            effective_at: None,
            volume_24h: None,
            ratio: None,
            score: None,
            since: None,
            received: WallUs(1),
            detected: WallUs(2),
        }
    }

    struct Far {
        feed: rtrb::Consumer<MarketToFeed>,
        webhook: rtrb::Consumer<MarketToWebhook>,
        journal: rtrb::Consumer<MarketToJournal>,
        stats: Arc<MarketStats>,
        _bell: Bell,
    }

    fn outlets(journal: usize) -> (Outlets, Far) {
        let (feed_in, feed) = rtrb::RingBuffer::new(1);
        let (webhook_in, webhook) = rtrb::RingBuffer::new(1);
        let (journal_in, journal) = rtrb::RingBuffer::new(journal);
        let (bell, stats) = (Bell::new().unwrap(), Arc::new(MarketStats::default()));
        let ends = MarketOutlets {
            feeds: vec![feed_in],
            webhook: webhook_in,
            bell: bell.waker(),
            journal: journal_in,
        };
        (Outlets::new(ends, Arc::clone(&stats)), Far { feed, webhook, journal, stats, _bell: bell })
    }

    #[test]
    fn an_event_comes_before_what_is_then_known_and_parts_keep_their_order() {
        let (mut outlets, mut far) = outlets(16);
        outlets.tell(&mut Told { events: vec![event()], changes: vec![changes(MARKET_RECORDS + 1)] });
        assert!(far.feed.pop().is_ok());
        assert!(matches!(far.webhook.pop(), Ok(MarketToWebhook::Event(_))));
        assert!(matches!(far.journal.pop(), Ok(MarketToJournal::Event(_))));
        let mut parts = Vec::new();
        while let Ok(MarketToJournal::Changes(part)) = far.journal.pop() {
            parts.push((part.records.len(), part.forgotten.len(), part.book.is_some()));
        }
        assert_eq!(parts, [(MARKET_RECORDS, 1, false), (1, 0, true)]);
        assert!(!outlets.is_behind());
    }

    #[test]
    fn what_the_journal_has_no_room_for_waits_in_order_and_the_rest_is_lost_and_counted() {
        let (mut outlets, mut far) = outlets(1);
        outlets.tell(&mut Told { events: vec![event(), event()], changes: vec![changes(0)] });
        assert!(outlets.is_behind());
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        assert_eq!((count(&far.stats.feed_dropped), count(&far.stats.webhook_dropped)), (1, 1));
        assert_eq!(count(&far.stats.waiting), 2);
        let mut kinds = Vec::new();
        for _ in 0..3 {
            kinds.push(matches!(far.journal.pop(), Ok(MarketToJournal::Event(_))));
            outlets.retry();
        }
        assert_eq!(kinds, [true, true, false]);
        assert!(!outlets.is_behind() && far.journal.is_empty());
    }
}
