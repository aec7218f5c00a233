//! The sending half of one subscriber: what it is still owed, and in which order that leaves.
//!
//! Contract: bytes leave whole frame by whole frame. While the socket takes everything nothing is
//! kept here. When it is full the outlet is *blocked*: announcements stay in the frame log and are
//! remembered as a cursor, heartbeats and pings as one bit each, and only answers and the rest of a
//! replayed frame take memory, at most [`limits::PRIVATE_QUEUE_BYTES`]. Owner: a feed writer. Fails
//! with the reason to close.
//!
//! When there is room again this leaves, in this order: the rest of the announcement begun, the
//! private queue, the announcements behind the cursor in as few writes as fit, the owed heartbeat
//! and ping. A heartbeat therefore never names an announcement that is still to come.

use super::burst::{Joined, Wanted};
use super::close::CloseReason;
use super::counters::Counters;
use super::frame_log::{Class, FrameLog};
use super::history::History;
use super::socket::{Offer, Socket};
use super::subscription::Filter;
use crate::limits;
use crate::model::{Announcement, FeedPosition};
use crate::time::{Mono, Now};
use crate::wire::extra::Extra;
use crate::ws::frame::write_frame;

/// No pong has come yet.
pub const NO_RTT: u32 = u32::MAX;

/// Where announcements come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The frame log, at once.
    Live,
    /// History: replaying after a resume, or delayed for good.
    History,
    /// A close frame is queued or sent; announcements have ended.
    Closing,
}

/// See the module head. In this order, so that what an announcement looks at comes first.
#[derive(Debug)]
#[repr(C)]
pub struct Outlet<S> {
    mode: Mode,
    blocked: bool,
    class: Class,
    /// Owed messages, a bit each.
    owed: Owed,
    /// Announcements in the log that match, from the cursor on; at most [`limits::LAG_MESSAGES`].
    lag: u16,
    /// What it receives.
    pub filter: Filter,
    /// The connection.
    pub socket: S,
    /// Log index of the next announcement to send when live and blocked; index in history otherwise.
    cursor: u64,
    /// Bytes of the frame at the cursor that are taken.
    written: u32,
    /// Announcements taken by the connection that still wait inside it.
    held: u16,
    /// History indices below it are replayed, those from it on are news.
    replay_until: u64,
    /// What the subscriber had when it resumed.
    resumed_after: FeedPosition,
    /// Announcements are released this much later, in nanoseconds.
    delay_ns: u64,
    /// Frames outside the log, and how many bytes of them are taken.
    queue: Vec<u8>,
    queue_taken: u32,
    /// Of the last pong, kept for the subscriber where there is room; [`NO_RTT`] before there was one.
    pub rtt_us: u32,
}

// With the tag of its slot in front and 16 bytes of the connection behind: one cache line.
const _: () = assert!(8 + core::mem::offset_of!(Outlet<u64>, socket) + 16 <= 64);

/// Messages that are rendered when there is room, not before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owed {
    /// A heartbeat is due.
    pub heartbeat: bool,
    /// A ping is due.
    pub ping: bool,
}

impl Owed {
    /// Whether nothing is owed.
    #[must_use]
    pub const fn is_none(self) -> bool {
        !self.heartbeat && !self.ping
    }
}

/// Whether an announcement is for a subscriber. Subscribers that do not see `action` get no edits
/// without news. A redacted one may not find out tickers by filtering for them.
#[must_use]
pub fn matches(filter: &Filter, class: Class, announcement: &Announcement) -> bool {
    let wanted = |tickers: &[crate::model::Ticker]| {
        announcement.classification.tickers.iter().any(|ticker| tickers.contains(ticker))
    };
    filter.exchanges.contains(announcement.exchange)
        && filter.types.contains(announcement.classification.listing_type)
        && (class.is_full() || announcement.action.is_news())
        && (class.is_redacted() || filter.tickers.as_deref().is_none_or(wanted))
}

/// Whether a message beside announcements is for a subscriber who asked for its kind: that of an
/// announcement goes to those the announcement is for.
#[must_use]
pub fn matches_extra(filter: &Filter, class: Class, extra: &Extra) -> bool {
    let wanted = |tickers: &[crate::model::Ticker]| extra.tickers.iter().any(|t| tickers.contains(t));
    filter.exchanges.contains(extra.exchange)
        && extra.listing_type.is_none_or(|listing_type| filter.types.contains(listing_type))
        && (class.is_full() || extra.is_news)
        && filter.tickers.as_deref().is_none_or(wanted)
}

impl<S: Socket> Outlet<S> {
    /// A live one, with nothing owed.
    pub fn new(socket: S, filter: Filter, class: Class, delay_ns: u64) -> Outlet<S> {
        Outlet {
            socket,
            filter,
            class,
            mode: Mode::Live,
            blocked: false,
            owed: Owed::default(),
            lag: 0,
            held: 0,
            written: 0,
            cursor: 0,
            replay_until: 0,
            resumed_after: FeedPosition::default(),
            delay_ns,
            queue: Vec::new(),
            queue_taken: 0,
            rtt_us: NO_RTT,
        }
    }

    /// Takes announcements from history: replays those below `replay_until` that come after
    /// `resumed_after`, then goes on.
    pub fn follow_history(&mut self, from: u64, replay_until: u64, resumed_after: FeedPosition) {
        self.mode = Mode::History;
        self.cursor = from;
        self.replay_until = replay_until;
        self.resumed_after = resumed_after;
    }

    /// Where announcements come from.
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether the socket was full when last tried.
    pub const fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Its class.
    pub const fn class(&self) -> Class {
        self.class
    }

    /// How much later announcements are released.
    pub const fn delay_ns(&self) -> u64 {
        self.delay_ns
    }

    /// What is owed and not rendered yet.
    pub const fn owed(&self) -> Owed {
        self.owed
    }

    /// The log index it still needs, if it is behind.
    pub const fn needs(&self) -> Option<u64> {
        if self.blocked && matches!(self.mode, Mode::Live) { Some(self.cursor) } else { None }
    }

    /// Announcements it is behind; those that do not match count while it follows history.
    #[must_use]
    pub fn behind(&self, history: &History) -> u64 {
        match self.mode {
            Mode::Live => u64::from(self.lag) + u64::from(self.held),
            Mode::History => history.next_index().saturating_sub(self.cursor),
            Mode::Closing => 0,
        }
    }

    /// Bytes that wait outside the log.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.queue.len().saturating_sub(self.queue_taken as usize)
    }

    /// Fan-out of the log's entries from `from` on, at most a burst, to a live subscriber. Returns
    /// which of them are for it.
    ///
    /// # Errors
    /// [`CloseReason::TooSlow`] at the lag limit (specification: "You fell 10+ messages behind"), or
    /// the socket failed.
    pub fn announce(
        &mut self,
        log: &FrameLog,
        from: u64,
        joined: &mut Joined,
        counters: &mut Counters,
    ) -> Result<Wanted, CloseReason> {
        // Nearly always there is one.
        let single = if log.next_index() == from + 1 { log.newest(self.class) } else { None };
        let wanted = match single {
            Some((newest, _)) if matches(&self.filter, self.class, newest) => Wanted::ONE,
            Some(_) => return Ok(Wanted::NONE),
            None => self.wanted(log, from),
        };
        let count = wanted.count();
        if count == 0 {
            return Ok(wanted);
        }
        if self.blocked {
            self.lag = self.lag.saturating_add(count);
            return self.check_lag().map(|()| wanted);
        }
        let bytes = match single {
            Some((_, frame)) => frame,
            None => joined.frames(log, from, self.class, wanted),
        };
        let offer = offer(&mut self.socket, &mut self.blocked, bytes, counters)?;
        if offer.is_all(bytes.len()) {
            counters.messages += u64::from(count);
            return Ok(wanted);
        }
        self.lag = count;
        self.cursor = from + wanted.oldest();
        self.note_taken(log, log.next_index(), offer, counters);
        Ok(wanted)
    }

    /// Which of the log's entries from `from` on, at most a burst, are for this subscriber.
    fn wanted(&self, log: &FrameLog, from: u64) -> Wanted {
        let mut wanted = Wanted::NONE;
        for index in from..log.next_index() {
            if self.wants(log, index) {
                wanted = wanted.with(index - from);
            }
        }
        wanted
    }

    fn wants(&self, log: &FrameLog, index: u64) -> bool {
        log.announcement(index).is_some_and(|a| matches(&self.filter, self.class, &a.announcement))
    }

    fn check_lag(&self) -> Result<(), CloseReason> {
        if u64::from(self.lag) + u64::from(self.held) >= limits::LAG_MESSAGES {
            return Err(CloseReason::TooSlow);
        }
        Ok(())
    }

    /// Sends frames outside the log, or queues what the socket does not take.
    ///
    /// # Errors
    /// Too much is queued, or the socket failed.
    pub fn send(
        &mut self,
        frames: &[u8],
        log: &FrameLog,
        counters: &mut Counters,
    ) -> Result<(), CloseReason> {
        if self.blocked {
            let waiting = self.queue.len() - self.queue_taken as usize;
            if waiting + frames.len() > limits::PRIVATE_QUEUE_BYTES {
                return Err(CloseReason::TooSlow);
            }
            self.queue.extend_from_slice(frames);
            return Ok(());
        }
        let offer = offer(&mut self.socket, &mut self.blocked, frames, counters)?;
        if !offer.is_all(frames.len()) {
            self.stay_behind(log);
            self.queue.extend_from_slice(frames.get(offer.accepted..).unwrap_or_default());
        }
        Ok(())
    }

    /// Owes a message until there is room; with room the caller renders it at once.
    pub fn owe(&mut self, owed: Owed) {
        self.owed.heartbeat |= owed.heartbeat;
        self.owed.ping |= owed.ping;
    }

    /// The owed messages are rendered and sent.
    pub fn settle_owed(&mut self) {
        self.owed = Owed::default();
    }

    /// The socket may have room: sends what it takes of all but the owed. Afterwards the outlet is
    /// blocked again or has nothing left but history.
    ///
    /// # Errors
    /// The bytes are gone from the log, or the socket failed.
    pub fn pump(
        &mut self,
        log: &FrameLog,
        scratch: &mut Vec<u8>,
        counters: &mut Counters,
    ) -> Result<(), CloseReason> {
        if !self.blocked {
            return Ok(());
        }
        if !self.socket.settle().map_err(|_| CloseReason::SocketError)? {
            return Ok(());
        }
        self.blocked = false;
        self.held = 0;
        if self.written > 0 {
            self.finish_begun_frame(log, counters)?;
        }
        if !self.blocked && !self.queue.is_empty() {
            let rest = self.queue.get(self.queue_taken as usize..).unwrap_or_default();
            let offer = offer(&mut self.socket, &mut self.blocked, rest, counters)?;
            // Bounded by PRIVATE_QUEUE_BYTES and a frame.
            self.queue_taken += offer.accepted as u32;
            if self.queue_taken as usize >= self.queue.len() {
                self.queue = Vec::new();
                self.queue_taken = 0;
            }
        }
        while !self.blocked && self.mode == Mode::Live && self.cursor < log.next_index() {
            self.send_backlog(log, scratch, counters)?;
        }
        Ok(())
    }

    fn finish_begun_frame(&mut self, log: &FrameLog, counters: &mut Counters) -> Result<(), CloseReason> {
        let frame = log.frame(self.cursor, self.class).ok_or(CloseReason::TooSlow)?;
        let rest = frame.get(self.written as usize..).unwrap_or_default();
        let offer = offer(&mut self.socket, &mut self.blocked, rest, counters)?;
        if offer.accepted < rest.len() {
            self.written += offer.accepted as u32;
            return Ok(());
        }
        counters.messages += 1;
        self.held = u16::from(offer.held);
        self.written = 0;
        self.cursor += 1;
        self.lag = self.lag.saturating_sub(1);
        Ok(())
    }

    /// One write of as many queued announcements as fit.
    fn send_backlog(
        &mut self,
        log: &FrameLog,
        scratch: &mut Vec<u8>,
        counters: &mut Counters,
    ) -> Result<(), CloseReason> {
        if self.cursor < log.first_index() {
            return Err(CloseReason::TooSlow);
        }
        scratch.clear();
        let mut end = self.cursor;
        while end < log.next_index() {
            if let Some(frame) = self.wanted_frame(log, end) {
                if !scratch.is_empty() && scratch.len() + frame.len() > limits::GATHER_BYTES {
                    break;
                }
                scratch.extend_from_slice(frame);
            }
            end += 1;
        }
        if scratch.is_empty() {
            self.cursor = end;
            return Ok(());
        }
        let offer = offer(&mut self.socket, &mut self.blocked, scratch, counters)?;
        self.note_taken(log, end, offer, counters);
        Ok(())
    }

    /// The wanted frames from the cursor to `end` were offered, and so much was taken.
    fn note_taken(&mut self, log: &FrameLog, end: u64, offer: Offer, counters: &mut Counters) {
        let mut accepted = offer.accepted;
        let mut whole = 0;
        while self.cursor < end {
            if let Some(frame) = self.wanted_frame(log, self.cursor) {
                if accepted < frame.len() {
                    // Less than a frame, whose length is 32 bits.
                    self.written = accepted as u32;
                    break;
                }
                accepted -= frame.len();
                whole += 1;
            }
            self.cursor += 1;
        }
        counters.messages += u64::from(whole);
        self.lag = self.lag.saturating_sub(whole);
        self.held = if offer.held { whole } else { 0 };
    }

    fn wanted_frame<'l>(&self, log: &'l FrameLog, index: u64) -> Option<&'l [u8]> {
        log.frame(index, self.class).filter(|_| self.wants(log, index))
    }

    /// One slice of history to a subscriber that follows it. Goes live when it has caught up and is
    /// not delayed.
    ///
    /// # Errors
    /// History forgot what it still needed, or the socket failed.
    pub fn feed_history(
        &mut self,
        now: Now,
        history: &History,
        log: &FrameLog,
        scratch: &mut Vec<u8>,
        json: &mut Vec<u8>,
        counters: &mut Counters,
    ) -> Result<(), CloseReason> {
        if self.blocked || self.mode != Mode::History {
            return Ok(());
        }
        if self.cursor < history.first_index() {
            return Err(CloseReason::TooSlow);
        }
        scratch.clear();
        // Where each frame ends in `scratch`, and the cursor after it.
        let mut ends = [(0, 0); limits::REPLAY_SLICE];
        let mut rendered = 0;
        let mut next = self.cursor;
        while self.released(history, next, now.mono) {
            let Some(end) = ends.get_mut(rendered) else { break };
            let wrote = self.render_history(history, next, now, scratch, json);
            next += 1;
            if wrote {
                *end = (scratch.len(), next);
                rendered += 1;
                if scratch.len() >= limits::GATHER_BYTES {
                    break;
                }
            }
        }
        if rendered == 0 {
            self.cursor = next;
        } else {
            let offer = offer(&mut self.socket, &mut self.blocked, scratch, counters)?;
            let ends = ends.get(..rendered).unwrap_or_default();
            let whole = ends.iter().take_while(|(end, _)| *end <= offer.accepted).count();
            counters.from_history += whole as u64;
            counters.messages += whole as u64;
            self.held = if offer.held { whole as u16 } else { 0 };
            let done = whole.checked_sub(1).and_then(|last| ends.get(last)).copied();
            let (done_end, done_cursor) = done.unwrap_or((0, self.cursor));
            self.cursor = done_cursor;
            if let Some((end, cursor)) = ends.get(whole).copied() {
                if offer.accepted > done_end {
                    let rest = scratch.get(offer.accepted..end).unwrap_or_default();
                    self.queue.extend_from_slice(rest);
                    self.cursor = cursor;
                    counters.from_history += 1;
                    counters.messages += 1;
                }
            } else {
                self.cursor = next;
            }
        }
        if !self.blocked && self.delay_ns == 0 && self.cursor == history.next_index() {
            self.mode = Mode::Live;
            self.cursor = log.next_index();
        }
        Ok(())
    }

    /// Appends the frame of a history entry if it is for this subscriber.
    fn render_history(
        &self,
        history: &History,
        index: u64,
        now: Now,
        out: &mut Vec<u8>,
        json: &mut Vec<u8>,
    ) -> bool {
        let Some(held) = history.get(index) else { return false };
        let encoded = &*held.announcement;
        let replayed = index < self.replay_until;
        let in_time = if replayed {
            encoded.announcement.position > self.resumed_after
        } else {
            !encoded.announcement.late
        };
        if !in_time || !matches(&self.filter, self.class, &encoded.announcement) {
            return false;
        }
        json.clear();
        let payload = self.class.payload(encoded);
        // A delayed key's dispatch is its release; a replay tells when it was broadcast, if it was.
        let original = if self.delay_ns == 0 { encoded.dispatched() } else { None };
        let dispatch = original.unwrap_or(now.wall);
        if replayed {
            payload.write_replayed(json, dispatch);
        } else {
            payload.write_stamped(json, dispatch);
        }
        write_frame(out, self.class.opcode(), json, None);
        true
    }

    fn released(&self, history: &History, index: u64, now: Mono) -> bool {
        history.get(index).is_some_and(|held| self.release_of(held.at) <= now)
    }

    /// When what went out at `at` is for this subscriber. What was loaded at start is released.
    const fn release_of(&self, at: Mono) -> Mono {
        if at.0 == 0 { Mono(0) } else { Mono(at.0.saturating_add(self.delay_ns)) }
    }

    /// When history next has something for it; `NEVER` when it waits for room or for news.
    pub fn next_release(&self, history: &History) -> Mono {
        if self.mode != Mode::History || self.blocked {
            return Mono::NEVER;
        }
        match history.get(self.cursor) {
            Some(held) => self.release_of(held.at),
            None if self.cursor < history.first_index() => Mono(0),
            None => Mono::NEVER,
        }
    }

    /// Lag of a delayed subscriber whose socket is full: only what is released counts.
    ///
    /// # Errors
    /// [`CloseReason::TooSlow`] at the limit.
    pub fn check_history_lag(&self, history: &History, now: Mono) -> Result<(), CloseReason> {
        if !self.blocked || self.mode != Mode::History || self.delay_ns == 0 {
            return Ok(());
        }
        let begun = u64::from(!self.queue.is_empty()) + u64::from(self.held);
        let waiting = (self.cursor..history.next_index())
            .take_while(|index| self.released(history, *index, now))
            .filter_map(|index| history.get(index))
            .filter(|held| !held.announcement.announcement.late)
            .filter(|held| matches(&self.filter, self.class, &held.announcement.announcement))
            .take(limits::LAG_MESSAGES as usize)
            .count() as u64;
        if begun + waiting >= limits::LAG_MESSAGES { Err(CloseReason::TooSlow) } else { Ok(()) }
    }

    /// The newest position the subscriber can have: what its heartbeat calls `lastSeq`.
    pub fn last_position(&self, history: &History) -> FeedPosition {
        if self.mode != Mode::History || self.cursor == history.next_index() {
            return history.last_position();
        }
        let before = self.cursor.checked_sub(1).and_then(|index| history.get(index));
        match before {
            Some(held) => held.announcement.announcement.position,
            None => FeedPosition { epoch: history.last_position().epoch, seq: 0 },
        }
    }

    /// The filter changed: counts again what of the backlog is still for this subscriber.
    pub fn recount(&mut self, log: &FrameLog) {
        if self.needs().is_none() {
            return;
        }
        let begun = u64::from(self.written > 0);
        let wanted = (self.cursor + begun..log.next_index())
            .filter(|index| self.wanted_frame(log, *index).is_some())
            .count() as u64;
        self.lag = u16::try_from(begun + wanted).unwrap_or(u16::MAX);
    }

    /// Ends announcements and queues the close frame behind the frame begun and the private queue.
    /// Sends nothing: [`Outlet::pump_close`] does.
    ///
    /// # Errors
    /// The frame begun is gone from the log: it cannot be finished, so no close frame can follow.
    pub fn begin_close(&mut self, frame: &[u8], log: &FrameLog) -> Result<(), CloseReason> {
        let mut rest = Vec::new();
        if self.mode == Mode::Live && self.written > 0 {
            let begun = log.frame(self.cursor, self.class).ok_or(CloseReason::TooSlow)?;
            rest.extend_from_slice(begun.get(self.written as usize..).unwrap_or_default());
        }
        rest.extend_from_slice(self.queue.get(self.queue_taken as usize..).unwrap_or_default());
        rest.extend_from_slice(frame);
        self.queue = rest;
        self.queue_taken = 0;
        self.written = 0;
        self.lag = 0;
        self.mode = Mode::Closing;
        self.owed = Owed::default();
        if self.blocked {
            self.socket.widen();
        }
        // Something is queued, so the next pump has work whatever the socket said last.
        self.blocked = true;
        Ok(())
    }

    /// Sends what is queued for the close. `true`: the close frame is out.
    ///
    /// # Errors
    /// The socket failed.
    pub fn pump_close(
        &mut self,
        log: &FrameLog,
        scratch: &mut Vec<u8>,
        counters: &mut Counters,
    ) -> Result<bool, CloseReason> {
        self.pump(log, scratch, counters)?;
        Ok(!self.blocked && self.queue.is_empty())
    }

    /// From now on the log must be kept for it: it was up to date until this moment.
    fn stay_behind(&mut self, log: &FrameLog) {
        if self.mode == Mode::Live {
            self.cursor = log.next_index();
        }
    }
}

/// Offers bytes; what does not all leave blocks the outlet. A free function, so that the bytes may
/// be the outlet's own queue.
fn offer<S: Socket>(
    socket: &mut S,
    blocked: &mut bool,
    bytes: &[u8],
    counters: &mut Counters,
) -> Result<Offer, CloseReason> {
    let offer = socket.offer(bytes).map_err(|_| CloseReason::SocketError)?;
    counters.bytes += offer.accepted as u64;
    if !offer.is_all(bytes.len()) {
        *blocked = true;
        counters.blocked += 1;
    }
    Ok(offer)
}
