//! Feed JSON, written straight into a frame buffer, once per field set.
//!
//! Contract: [`encode`] turns an announcement into its four texts, once, on the source thread (it
//! allocates them there); [`message`] writes everything else a subscriber gets. Nothing fails: every
//! length is bounded by `limits` before it comes here, and the one list that is not is cut at
//! [`MARKETS_WRITTEN`].

pub mod extra;
pub mod json;
pub mod message;
mod template;

use core::sync::atomic::{AtomicI64, AtomicU8, Ordering};

use crate::model::Announcement;
use crate::score;
use crate::time::WallUs;

/// Version of the full field set; raised when a field changes meaning, not when one is added.
pub const SCHEMA_VERSION: u64 = 1;

/// Most markets written into one announcement; more are left out.
pub const MARKETS_WRITTEN: usize = 128;

/// Digits of a dispatch stamp.
pub const STAMP_DIGITS: usize = 16;

/// What marks a replayed announcement, in front of the closing brace.
const REPLAYED: &[u8] = b",\"replayed\":true}";

/// One JSON text of an announcement, with the place where the feed thread stamps the dispatch time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Compact JSON, UTF-8. Until stamped it carries the detection time as dispatch time.
    pub json: Box<[u8]>,
    /// Offset in `json` of the 16 digits of `dispatchTimestampUs`.
    pub dispatch_at: u32,
}

impl Payload {
    /// Appends the text with `dispatch` stamped in place.
    pub fn write_stamped(&self, out: &mut Vec<u8>, dispatch: WallUs) {
        let from = out.len();
        out.extend_from_slice(&self.json);
        if let Some(copy) = out.get_mut(from..) {
            self.stamp(copy, dispatch);
        }
    }

    /// Appends the stamped text with `"replayed":true` as its last field: what a resume replays.
    pub fn write_replayed(&self, out: &mut Vec<u8>, dispatch: WallUs) {
        self.write_stamped(out, dispatch);
        if self.is_replayed() {
            return;
        }
        // The text ends with the brace that `REPLAYED` brings again.
        out.pop();
        out.extend_from_slice(REPLAYED);
    }

    /// Length of the text that [`Payload::write_replayed`] appends.
    #[must_use]
    pub fn replayed_len(&self) -> usize {
        self.json.len() + if self.is_replayed() { 0 } else { REPLAYED.len() - 1 }
    }

    /// Whether the text is marked already, as [`EncodedAnnouncement::mark_replayed`] leaves it.
    fn is_replayed(&self) -> bool {
        self.json.ends_with(REPLAYED)
    }

    /// Patches the dispatch stamp in a copy of `json`. Sixteen bytes are written, nothing moves.
    pub fn stamp(&self, copy: &mut [u8], dispatch: WallUs) {
        let at = self.dispatch_at as usize;
        if let Some(digits) = copy.get_mut(at..at + STAMP_DIGITS) {
            digits.copy_from_slice(&json::sixteen_digits(dispatch));
        }
    }
}

/// An announcement serialized once per field set: what travels, behind an `Arc`, through every ring.
#[derive(Debug)]
pub struct EncodedAnnouncement {
    /// The announcement itself, for filters, store and webhooks.
    pub announcement: Announcement,
    /// `fields=basic`: exactly the specification's fields.
    pub basic: Payload,
    /// `fields=full`.
    pub full: Payload,
    /// Basic, title and ticker withheld.
    pub basic_redacted: Payload,
    /// Full; title, ticker, tickers, markets, url, noticeId and id withheld.
    pub full_redacted: Payload,
    /// Microseconds since the epoch when the first feed thread started its fan-out; 0 until then.
    dispatched_us: AtomicI64,
    /// `ai_score`; 0, which is no score, until somebody asked for it.
    score: AtomicU8,
}

impl EncodedAnnouncement {
    /// When the first feed thread started to fan it out; `None` until then and for late ones.
    #[must_use]
    pub fn dispatched(&self) -> Option<WallUs> {
        match self.dispatched_us.load(Ordering::Acquire) {
            0 => None,
            us => Some(WallUs(us)),
        }
    }

    /// Records the first dispatch; later calls change nothing.
    pub fn mark_dispatched(&self, at: WallUs) {
        let _ = self.dispatched_us.compare_exchange(0, at.0, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Its [`score::of`], read from the title the first time. Who asks at the same time reads it too, and
    /// finds the same.
    #[must_use]
    pub fn score(&self) -> u8 {
        match self.score.load(Ordering::Relaxed) {
            0 => {
                let Announcement { exchange, title, classification, .. } = &self.announcement;
                let score = score::of(*exchange, title, classification);
                self.score.store(score, Ordering::Relaxed);
                score
            }
            known => known,
        }
    }

    /// Marks the full texts as replayed, for a feed that serves the past. Basic texts keep exactly the
    /// specification's fields.
    pub fn mark_replayed(&mut self) {
        for payload in [&mut self.full, &mut self.full_redacted] {
            if let Some(open) = payload.json.strip_suffix(b"}")
                && !payload.is_replayed()
            {
                payload.json = [open, REPLAYED].concat().into_boxed_slice();
            }
        }
    }

    /// The text for a field set (`full` or basic), redacted or plain.
    #[must_use]
    pub fn payload(&self, full: bool, redacted: bool) -> &Payload {
        match (full, redacted) {
            (false, false) => &self.basic,
            (true, false) => &self.full,
            (false, true) => &self.basic_redacted,
            (true, true) => &self.full_redacted,
        }
    }
}

/// Serializes an announcement, every field set once. Its position must be final.
#[must_use]
pub fn encode(announcement: Announcement) -> EncodedAnnouncement {
    let payload = |full: bool, redacted: bool| {
        let mut out = Vec::with_capacity(if full { 1_024 } else { 384 });
        let dispatch_at = write_announcement(&mut out, &announcement, full, redacted);
        Payload { json: out.into_boxed_slice(), dispatch_at }
    };
    EncodedAnnouncement {
        basic: payload(false, false),
        full: payload(true, false),
        basic_redacted: payload(false, true),
        full_redacted: payload(true, true),
        announcement,
        dispatched_us: AtomicI64::new(0),
        score: AtomicU8::new(0),
    }
}

/// The specification's fields in the specification's order. Returns where the stamp is.
fn write_announcement(out: &mut Vec<u8>, a: &Announcement, full: bool, redacted: bool) -> u32 {
    out.extend_from_slice(b"{\"type\":\"announcement\",\"title\":");
    json::string(out, if redacted { "" } else { &a.title });
    out.extend_from_slice(b",\"ticker\":\"");
    if !redacted {
        for (i, ticker) in a.classification.tickers.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            json::string_body(out, ticker.as_str());
        }
    }
    out.extend_from_slice(b"\",\"publisher\":\"");
    out.extend_from_slice(a.exchange.name().as_bytes());
    out.extend_from_slice(b"\",\"listingType\":\"");
    out.extend_from_slice(a.classification.listing_type.name().as_bytes());
    out.extend_from_slice(b"\",\"publishTimestampUs\":");
    json::signed(out, a.published.0);
    out.extend_from_slice(b",\"detectedTimestampUs\":");
    json::signed(out, a.detected.0);
    out.extend_from_slice(b",\"dispatchTimestampUs\":");
    // A text is a few kilobytes at most: lengths are bounded by `limits`.
    let dispatch_at = u32::try_from(out.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&json::sixteen_digits(a.detected));
    if full {
        write_full_fields(out, a, redacted);
    }
    out.push(b'}');
    dispatch_at
}

/// FEED.md, "Added for users", 1.
fn write_full_fields<'a>(out: &mut Vec<u8>, a: &'a Announcement, redacted: bool) {
    let unless_redacted = |text: &'a str| if redacted { "" } else { text };
    out.extend_from_slice(b",\"id\":");
    json::string(out, unless_redacted(&a.id));
    out.extend_from_slice(b",\"seq\":");
    json::unsigned(out, a.position.seq);
    out.extend_from_slice(b",\"epoch\":");
    json::unsigned(out, a.position.epoch);
    out.extend_from_slice(b",\"tickers\":[");
    let tickers = if redacted { &[][..] } else { &a.classification.tickers[..] };
    for (i, ticker) in tickers.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        json::string(out, ticker.as_str());
    }
    out.extend_from_slice(b"],\"markets\":[");
    let markets = if redacted { &[][..] } else { &a.classification.markets[..] };
    for (i, market) in markets.iter().take(MARKETS_WRITTEN).enumerate() {
        out.extend_from_slice(if i > 0 { b",{\"base\":" } else { b"{\"base\":" });
        json::string(out, market.base.as_str());
        out.extend_from_slice(b",\"quote\":");
        json::string(out, market.quote.as_str());
        out.push(b'}');
    }
    out.extend_from_slice(b"],\"url\":");
    json::string(out, unless_redacted(&a.url));
    out.extend_from_slice(b",\"noticeId\":");
    json::string(out, unless_redacted(&a.notice_id));
    out.extend_from_slice(b",\"lang\":\"");
    out.extend_from_slice(a.classification.lang.name().as_bytes());
    out.extend_from_slice(b"\",\"action\":\"");
    out.extend_from_slice(a.action.name().as_bytes());
    out.extend_from_slice(b"\",\"source\":");
    json::string(out, &a.source);
    out.extend_from_slice(b",\"confidence\":");
    write_confidence(out, a.classification.confidence);
    out.extend_from_slice(b",\"effectiveAtUs\":");
    json::instant_or_null(out, a.effective_at);
    out.extend_from_slice(b",\"receivedTimestampUs\":");
    json::signed(out, a.received.0);
    out.extend_from_slice(b",\"classifiedTimestampUs\":");
    json::signed(out, a.classified.0);
    out.extend_from_slice(b",\"schemaVersion\":");
    json::unsigned(out, SCHEMA_VERSION);
    out.extend_from_slice(b",\"rule\":");
    json::string(out, a.classification.rule);
}

/// Per cent as a fraction: 95 is `0.95`, 100 (and more, which cannot be) is `1`.
fn write_confidence(out: &mut Vec<u8>, per_cent: u8) {
    if per_cent >= 100 {
        out.push(b'1');
        return;
    }
    out.extend_from_slice(b"0.");
    out.push(b'0' + per_cent / 10);
    out.push(b'0' + per_cent % 10);
}

#[cfg(test)]
pub(crate) mod tests;
