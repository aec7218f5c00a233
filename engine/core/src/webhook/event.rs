//! What a webhook tells: the specification's events, made from announcements and of what market watchers tell.
//!
//! Contract: pure. [`Event::of`] makes one event a ticker, [`Event::of_market`] at most one, and allocates
//! them; nothing here fails. An item detected again after a crash gives events with the same ids.
//!
//! Decisions:
//! - A listing or delisting whose title names no ticker makes no event: `symbol` is required and a
//!   bot acts on it, so none is made up. Such an announcement goes out on the feed only.
//! - `symbol` is the base as announced, multiplier and all (`1000SATS`), and a quote: KRW on Korean
//!   exchanges where the title names that market, else the first market it names for the base, else
//!   USDT.
//! - `listing_type` is `perp` exactly where the title says perpetual (in English, Korean or Chinese),
//!   and `futures` for every other contract: dated ones, and those the exchange only calls futures.
//! - `ai_score` is worked out here, once an announcement: made again by the same engine it is the same.
//!   An engine with another model may give another; whoever keeps bodies sends what it kept.
//! - `timestamp` is the instant of detection, of which `latency_ms` tells the distance to
//!   publication. Nobody publishes what a market watcher tells: it happened after the answer before, so that
//!   is what `latency_ms` counts from, the most it can have been.
//! - What a market watcher tells becomes an event where it is news of an asset: a preview or an unannounced
//!   listing of one that was not traded there before, a delisting that no notice told of, a spike. The
//!   others (confirmed, withdrawn, further quotes) have no type in the specification; the feed tells them.

use core::fmt;

use ring::hmac;

use super::lane::fresh_for;
use crate::limits;
use crate::market::{InstrumentKind, MarketEvent, MarketEventKind};
use crate::model::{Announcement, Exchange, ListingType, Ticker};
use crate::score;
use crate::time::WallUs;
use crate::wire::{EncodedAnnouncement, json};

/// The specification's "Event types".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum EventKind {
    /// "Token newly listed for spot trading."
    NewListing,
    /// "Perpetual or futures contract opened."
    FuturesListing,
    /// "Unusual volume signals major price action."
    VolumeSpike,
    /// "AI-detected listing 12–72h ahead."
    ListingPreview,
    /// "Token scheduled for delisting."
    Delisting,
    /// "Every 5 min to confirm endpoint is alive."
    Ping,
}

impl EventKind {
    /// Every kind, in the specification's order.
    pub const ALL: [EventKind; 6] = [
        EventKind::NewListing,
        EventKind::FuturesListing,
        EventKind::VolumeSpike,
        EventKind::ListingPreview,
        EventKind::Delisting,
        EventKind::Ping,
    ];

    /// The `type` field's spelling.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            EventKind::NewListing => "new_listing",
            EventKind::FuturesListing => "futures_listing",
            EventKind::VolumeSpike => "volume_spike",
            EventKind::ListingPreview => "listing_preview",
            EventKind::Delisting => "delisting",
            EventKind::Ping => "ping",
        }
    }

    /// The inverse of [`EventKind::name`].
    #[must_use]
    pub fn parse(name: &str) -> Option<EventKind> {
        EventKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// The `listing_type` field: "spot / futures / perp", and `none` where there is no market.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names are the documentation")]
pub enum MarketKind {
    Spot,
    Futures,
    Perp,
    None,
}

impl MarketKind {
    /// Every kind.
    pub const ALL: [MarketKind; 4] =
        [MarketKind::Spot, MarketKind::Futures, MarketKind::Perp, MarketKind::None];

    /// The field's spelling.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            MarketKind::Spot => "spot",
            MarketKind::Futures => "futures",
            MarketKind::Perp => "perp",
            MarketKind::None => "none",
        }
    }

    /// The inverse of [`MarketKind::name`].
    #[must_use]
    pub fn parse(name: &str) -> Option<MarketKind> {
        MarketKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// The installation's key that event ids are derived with, so that nobody outside can work out an id
/// before the event. Losing it changes the ids of events detected again.
#[derive(Clone, Debug)]
pub struct IdKey(hmac::Key);

impl IdKey {
    /// From 32 bytes drawn once per installation.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> IdKey {
        IdKey(hmac::Key::new(hmac::HMAC_SHA256, key))
    }
}

const PREFIX: &str = "cxp_";
/// 48 bits of milliseconds in base 32, as in a ULID: ids sort by time.
const TIME_DIGITS: usize = 10;
/// 80 bits of the keyed hash.
const HASH_DIGITS: usize = 16;
const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The `event_id` field, "Unique ID use for dedup": `cxp_` and 26 Crockford base32 characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId([u8; PREFIX.len() + TIME_DIGITS + HASH_DIGITS]);

/// What makes an event the same event.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// Kind of event.
    pub kind: EventKind,
    /// Who published it, none for our own.
    pub exchange: Option<Exchange>,
    /// Symbol, quote included.
    pub symbol: &'a str,
    /// Kind of market.
    pub market: MarketKind,
    /// What it was made from: an announcement's id, or whatever else names its origin for good.
    pub source_item: &'a str,
}

impl EventId {
    /// Derives the id: the time of the source item, then a keyed hash of the identity. Times outside
    /// 1970 to 10889 are clamped to them.
    #[must_use]
    pub fn derive(key: &IdKey, item_time: WallUs, identity: &Identity<'_>) -> EventId {
        let mut context = hmac::Context::with_key(&key.0);
        for field in [
            identity.kind.name(),
            exchange_name(identity.exchange),
            identity.symbol,
            identity.market.name(),
            identity.source_item,
        ] {
            // Lengths in front, so that no two identities give the same bytes.
            context.update(&(field.len() as u64).to_be_bytes());
            context.update(field.as_bytes());
        }
        let tag = context.sign();
        let mut hash = [0; 16];
        for (to, from) in hash.iter_mut().skip(6).zip(tag.as_ref()) {
            *to = *from;
        }
        let millis = item_time.0.div_euclid(1_000).clamp(0, (1 << 48) - 1);
        let mut id = [0; PREFIX.len() + TIME_DIGITS + HASH_DIGITS];
        let (prefix, digits) = id.split_at_mut(PREFIX.len());
        prefix.copy_from_slice(PREFIX.as_bytes());
        let (time, rest) = digits.split_at_mut(TIME_DIGITS);
        base32(u128::from(millis.unsigned_abs()), time);
        base32(u128::from_be_bytes(hash), rest);
        EventId(id)
    }

    /// Reads an id back.
    #[must_use]
    pub fn parse(text: &str) -> Option<EventId> {
        let id = EventId(text.as_bytes().try_into().ok()?);
        let digits = text.strip_prefix(PREFIX)?;
        digits.bytes().all(|b| CROCKFORD.contains(&b)).then_some(id)
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Always ASCII: made of `PREFIX` and `CROCKFORD`.
        core::str::from_utf8(&self.0).unwrap_or(PREFIX)
    }

    /// The part that does not depend on the time of the item. An exchange that edits a notice may
    /// move its time; the event of a ticker told before then has another id, but this is the same.
    #[must_use]
    pub fn identity(&self) -> &str {
        self.as_str().get(PREFIX.len() + TIME_DIGITS..).unwrap_or_default()
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn base32(mut value: u128, digits: &mut [u8]) {
    for slot in digits.iter_mut().rev() {
        // In range: the remainder is below 32.
        *slot = CROCKFORD[(value % 32) as usize];
        value /= 32;
    }
}

/// One event, ready to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// `event_id`.
    pub id: EventId,
    /// `type`.
    pub kind: EventKind,
    /// `timestamp`, written in seconds.
    pub timestamp: WallUs,
    /// `exchange`; none for our own events, which say [`OURSELVES`].
    pub exchange: Option<Exchange>,
    /// `symbol`, at most [`limits::WEBHOOK_SYMBOL_BYTES`].
    pub symbol: Box<str>,
    /// `listing_type`.
    pub market: MarketKind,
    /// `volume_24h` in US dollars over all exchanges that are watched, where known; of what a market watcher
    /// tells, that of the instrument.
    pub volume_24h_usd: Option<f64>,
    /// `ai_score`, 0 to 100, where known: of every announcement's events (`docs/score.md`) and of previews
    /// (`docs/markets.md`).
    pub ai_score: Option<u8>,
    /// `latency_ms`.
    pub latency_ms: u64,
    /// Found too late to be news: kept for catching up and replay, not sent unasked.
    pub late: bool,
}

/// The `exchange` of events that no exchange made.
pub const OURSELVES: &str = "Tocsin";

/// Quote where the title names no market.
const MAIN_QUOTE: &str = "USDT";

impl Event {
    /// The events of an announcement: one a ticker, in the title's order. None if it is no listing or
    /// delisting, is an edit that tells nothing new, or names no ticker. An edit with news gives the
    /// events of all its tickers; those told before carry their old identity ([`EventId::identity`]).
    #[must_use]
    pub fn of(announcement: &Announcement, key: &IdKey) -> Vec<Event> {
        let Announcement { exchange, title, classification, .. } = announcement;
        Event::each(announcement, key, || score::of(*exchange, title, classification), |_| None)
    }

    /// The same, where `volumes` may know what was traded of an asset within 24 hours, in US dollars, and
    /// the score may be there already.
    pub fn with_volumes(
        encoded: &EncodedAnnouncement,
        key: &IdKey,
        volumes: impl Fn(&str) -> Option<f64>,
    ) -> Vec<Event> {
        Event::each(&encoded.announcement, key, || encoded.score(), volumes)
    }

    fn each(
        announcement: &Announcement,
        key: &IdKey,
        score: impl FnOnce() -> u8,
        volumes: impl Fn(&str) -> Option<f64>,
    ) -> Vec<Event> {
        let classification = &announcement.classification;
        let contract =
            || if says_perpetual(&announcement.title) { MarketKind::Perp } else { MarketKind::Futures };
        let (kind, market) = match classification.listing_type {
            ListingType::SpotListing => (EventKind::NewListing, MarketKind::Spot),
            ListingType::FuturesListing => (EventKind::FuturesListing, contract()),
            ListingType::SpotDelisting => (EventKind::Delisting, MarketKind::Spot),
            ListingType::FuturesDelisting => (EventKind::Delisting, contract()),
            ListingType::NotListing => return Vec::new(),
        };
        if !announcement.action.is_news() {
            return Vec::new();
        }
        let exchange = Some(announcement.exchange);
        // One for all its tickers, whoever gets them: the title, the classification and the model decide it.
        let ai_score = Some(score());
        let latency_us = announcement.detected.micros_since(announcement.published).max(0);
        let event = |ticker: &Ticker| {
            let symbol = symbol(announcement, ticker);
            let identity =
                Identity { kind, exchange, symbol: &symbol, market, source_item: &announcement.id };
            Event {
                id: EventId::derive(key, announcement.published, &identity),
                kind,
                timestamp: announcement.detected,
                exchange,
                symbol,
                market,
                volume_24h_usd: volumes(ticker.as_str()),
                ai_score,
                latency_ms: latency_us.unsigned_abs() / 1_000,
                late: announcement.late,
            }
        };
        classification.tickers.iter().map(event).collect()
    }

    /// The event of what a market watcher tells, if it is one for webhooks and its names fit into a symbol.
    /// It is late when it was decided so long after it was seen that one of its kind is no news any more.
    #[must_use]
    pub fn of_market(told: &MarketEvent, key: &IdKey) -> Option<Event> {
        let (market, opened) = match told.instrument {
            InstrumentKind::Spot => (MarketKind::Spot, EventKind::NewListing),
            InstrumentKind::Perpetual => (MarketKind::Perp, EventKind::FuturesListing),
            InstrumentKind::Dated => (MarketKind::Futures, EventKind::FuturesListing),
        };
        let kind = match told.kind {
            MarketEventKind::ListingPreview if told.new_asset => EventKind::ListingPreview,
            MarketEventKind::StealthListing if told.new_asset => opened,
            MarketEventKind::Delisting if !told.noticed => EventKind::Delisting,
            MarketEventKind::VolumeSpike => EventKind::VolumeSpike,
            _ => return None,
        };
        let symbol: Box<str> = [told.base.as_str(), told.quote.as_str()].concat().into();
        if symbol.len() > limits::WEBHOOK_SYMBOL_BYTES {
            return None;
        }
        let exchange = Some(told.exchange);
        let source_item = told.source_item();
        let identity = Identity { kind, exchange, symbol: &symbol, market, source_item: &source_item };
        let micros_since = |earlier| told.detected.micros_since(earlier).max(0).unsigned_abs();
        let fresh_us = fresh_for(kind).as_micros();
        Some(Event {
            id: EventId::derive(key, told.item_time(), &identity),
            kind,
            timestamp: told.detected,
            exchange,
            market,
            volume_24h_usd: told.volume_24h,
            ai_score: told.score.filter(|_| kind == EventKind::ListingPreview),
            latency_ms: micros_since(told.since.unwrap_or(told.received)) / 1_000,
            late: u128::from(micros_since(told.received)) > fresh_us,
            symbol,
        })
    }

    /// The health ping of endpoint number `endpoint`: "same envelope with every required field
    /// present", because receivers read them unconditionally.
    #[must_use]
    pub fn ping(key: &IdKey, endpoint: i64, now: WallUs) -> Event {
        Event::our_own(key, EventKind::Ping, "PING", MarketKind::None, endpoint, now)
    }

    /// A test event of a kind the customer chooses, so that the code it will meet is the code it
    /// tests. No bot can trade on it: the exchange is [`OURSELVES`] and the symbol `TESTUSDT`.
    #[must_use]
    pub fn test(key: &IdKey, kind: EventKind, endpoint: i64, now: WallUs) -> Event {
        let market = match kind {
            EventKind::FuturesListing => MarketKind::Perp,
            EventKind::Ping => return Event::ping(key, endpoint, now),
            _ => MarketKind::Spot,
        };
        Event::our_own(key, kind, "TESTUSDT", market, endpoint, now)
    }

    fn our_own(
        key: &IdKey,
        kind: EventKind,
        symbol: &str,
        market: MarketKind,
        endpoint: i64,
        now: WallUs,
    ) -> Event {
        let mut source_item = b"endpoint:".to_vec();
        json::signed(&mut source_item, endpoint);
        source_item.push(b':');
        json::signed(&mut source_item, now.0);
        let source_item = String::from_utf8(source_item).unwrap_or_default();
        let identity = Identity { kind, exchange: None, symbol, market, source_item: &source_item };
        Event {
            id: EventId::derive(key, now, &identity),
            kind,
            timestamp: now,
            exchange: None,
            symbol: symbol.into(),
            market,
            volume_24h_usd: None,
            ai_score: None,
            latency_ms: 0,
            late: false,
        }
    }

    /// The `exchange` field: the display name.
    #[must_use]
    pub fn exchange_name(&self) -> &'static str {
        exchange_name(self.exchange)
    }
}

const fn exchange_name(exchange: Option<Exchange>) -> &'static str {
    match exchange {
        Some(exchange) => exchange.display_name(),
        None => OURSELVES,
    }
}

fn symbol(announcement: &Announcement, base: &Ticker) -> Box<str> {
    let quotes = || {
        let markets = announcement.classification.markets.iter();
        markets.filter(|market| market.base == *base).map(|market| market.quote.as_str())
    };
    let korean = matches!(announcement.exchange, Exchange::Upbit | Exchange::Bithumb | Exchange::Coinone);
    let won = quotes().find(|quote| korean && *quote == "KRW");
    let quote = won.or_else(|| quotes().next()).unwrap_or(MAIN_QUOTE);
    // Nothing is traded against itself: a listing of USDT with no market named stays USDT.
    let quote = if quote == base.as_str() { "" } else { quote };
    [base.as_str(), quote].concat().into()
}

/// Whether a title speaks of perpetual contracts. `PERP` inside a symbol (`PERPUSDT`) is a token's
/// name.
fn says_perpetual(title: &str) -> bool {
    if ["永续", "永續", "무기한"].iter().any(|word| title.contains(word)) {
        return true;
    }
    title
        .split(|c: char| !c.is_alphanumeric())
        .any(|word| ["perpetual", "perpetuals", "perp", "perps"].iter().any(|p| word.eq_ignore_ascii_case(p)))
}

const _: () = assert!(limits::WEBHOOK_SYMBOL_BYTES == 2 * limits::TICKER_BYTES);

#[cfg(test)]
mod tests;
