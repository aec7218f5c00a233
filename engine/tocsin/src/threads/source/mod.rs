//! The source thread: asks exchanges and listens to those that push, finds what is new, announces it.
//!
//! Contract: [`SourceThread::step`] does one bounded turn: sockets first, for an announcement may be in
//! them, then what is due by time, then manual alerts, then what waits for room in a ring; names,
//! reports and counts about ten times a second. It never blocks, takes no lock, resolves no name, writes
//! no log and touches no disk. Allocates per announcement; a turn without news allocates nothing outside
//! the TLS library. With a recorder, copies of what was answered and announced are left in a [`tap`] after
//! everything else. Owner: its thread, pinned. Failures of exchanges rest the connection or address they
//! concern and show in [`stats::SourceStats`]; the thread itself does not fail once it is built.

mod announce;
mod lane;
pub mod publish;
mod rehearsal;
pub mod stats;
mod stream;
pub mod tap;

use std::io;
use std::time::Duration;

use mio::{Events, Poll};
use tocsin_core::classify::classify;
use tocsin_core::detect::race::Race;
use tocsin_core::http1::writer::RequestError;
use tocsin_core::limits;
use tocsin_core::model::{Action, Announcement, CategoryHint, FeedPosition, ListingType};
use tocsin_core::time::{Mono, Now};

use self::announce::Teller;
pub use self::lane::LaneParts;
use self::lane::{Context, Lane};
use self::publish::{Publisher, PublisherParts};
use self::stream::StreamLane;
pub use self::stream::StreamParts;
use super::{Step, Turn};
use crate::net::dns::ResolverClient;
use crate::os::alarm::sleep_on;
use crate::rings::{Inject, ToSource};

/// Name of the source of alerts given by hand.
pub const MANUAL: &str = "manual";

/// Low bits of a token: the connection within its lane; above them, the lane.
const SLOT_BITS: u32 = 16;
const _: () = assert!(limits::CONNECTIONS_PER_SOURCE < 1 << SLOT_BITS);

/// Names, reports, counts and the age of connections are looked after this often.
const HOUSEKEEPING: Duration = Duration::from_millis(100);
/// Manual alerts taken in one turn.
const INJECTS_PER_TURN: usize = 4;
/// Bytes read from a socket at once.
const SCRATCH_BYTES: usize = 64 * 1_024;

/// What a source thread is made of.
pub struct SourceParts {
    /// The sources it polls; none is fine, manual alerts still pass.
    pub lanes: Vec<LaneParts>,
    /// The push sources it listens to.
    pub streams: Vec<StreamParts>,
    /// Its rings and its journal.
    pub publisher: PublisherParts,
    /// From the control thread.
    pub commands: rtrb::Consumer<ToSource>,
    /// To the resolver thread.
    pub resolver: ResolverClient,
    /// Reads both clocks: `os::clock::now`, or a test's own.
    pub clock: fn() -> Now,
    /// Where its jitter starts from.
    pub seed: u64,
}

/// Why a source thread cannot be built.
#[derive(Debug)]
pub enum SourceError {
    /// No epoll instance.
    Poll(io::Error),
    /// A source's requests cannot be rendered: its name and why.
    Request(&'static str, RequestError),
}

impl std::fmt::Display for SourceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SourceError::Poll(e) => write!(f, "cannot watch sockets: {e}"),
            SourceError::Request(source, e) => write!(f, "source {source}: {e}"),
        }
    }
}

impl std::error::Error for SourceError {}

/// A source thread's loop body.
pub struct SourceThread {
    poll: Poll,
    events: Events,
    lanes: Vec<Lane>,
    /// Behind the lanes, in tokens and in the resolver's numbers.
    streams: Vec<StreamLane>,
    /// Of the exchanges that have several of its sources.
    races: Vec<Race>,
    publisher: Publisher,
    tap: Option<tap::Tap>,
    commands: rtrb::Consumer<ToSource>,
    resolver: ResolverClient,
    clock: fn() -> Now,
    random: Random,
    scratch: Box<[u8]>,
    housekeeping_at: Mono,
    /// Which lane rehearsed last.
    rehearsed: usize,
}

impl SourceThread {
    /// Builds it; nothing is connected before the first turn.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub fn new(parts: SourceParts) -> Result<SourceThread, SourceError> {
        let mut random = Random::new(parts.seed);
        let lanes = parts.lanes.into_iter().enumerate().map(|(index, lane)| {
            let name = lane.spec.name;
            Lane::new(index, lane, &mut random).map_err(|e| SourceError::Request(name, e))
        });
        let lanes = lanes.collect::<Result<Vec<_>, _>>()?;
        let streams = (lanes.len()..).zip(parts.streams);
        let streams = streams.map(|(index, stream)| StreamLane::new(index, stream, &mut random)).collect();
        let thread = SourceThread {
            poll: Poll::new().map_err(SourceError::Poll)?,
            events: Events::with_capacity(256),
            lanes,
            streams,
            races: Vec::new(),
            publisher: Publisher::new(parts.publisher),
            tap: None,
            commands: parts.commands,
            resolver: parts.resolver,
            clock: parts.clock,
            random,
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            housekeeping_at: Mono(0),
            rehearsed: 0,
        };
        Ok(thread.with_races(Vec::new()))
    }

    /// With what the store remembers of races. Sources of one exchange race in any case: a race that is not
    /// given begins without memory.
    #[must_use]
    pub fn with_races(mut self, loaded: Vec<Race>) -> SourceThread {
        let paths: Vec<_> = self.tellers().map(|teller| teller.path()).collect();
        self.races = announce::races(&paths, loaded);
        let races = std::mem::take(&mut self.races);
        self.tellers().for_each(|teller| teller.enter(&races));
        self.races = races;
        self
    }

    /// Of every source, polled or pushed.
    fn tellers(&mut self) -> impl Iterator<Item = &mut Teller> {
        self.lanes.iter_mut().map(Lane::teller).chain(self.streams.iter_mut().map(StreamLane::teller))
    }

    /// Leaves copies of answers and announcements for a recorder.
    #[must_use]
    pub fn with_tap(mut self, tap: Option<tap::Tap>) -> SourceThread {
        self.publisher.keep_announced(tap.is_some());
        self.tap = tap;
        self
    }

    /// Gives the recorder what was announced.
    fn record_announced(&mut self) {
        if let Some(tap) = &mut self.tap {
            self.publisher.drain_announced(|announcement| tap.announcement(announcement));
        }
    }

    /// Sends a manual alert through the path of an announcement.
    fn inject(&mut self, inject: Inject, now: Now) {
        let Inject { exchange, title, listing_type, tickers, published, reply } = inject;
        let title =
            title.get(..title.floor_char_boundary(limits::TITLE_BYTES)).unwrap_or_default().to_owned();
        let mut classification = classify(exchange, &title, CategoryHint::None);
        if listing_type.is_some() || tickers.is_some() {
            classification.rule = "manual";
            classification.confidence = 100;
        }
        if let Some(listing_type) = listing_type {
            classification.listing_type = listing_type;
        }
        if classification.listing_type == ListingType::NotListing || tickers.is_some() {
            classification.tickers = tickers.unwrap_or_default();
            classification.tickers.truncate(limits::TICKERS_PER_ANNOUNCEMENT);
            classification.markets.clear();
        }
        let FeedPosition { epoch, seq } = self.publisher.next_position();
        let notice_id = format!("manual-{epoch}-{seq}");
        let encoded = self.publisher.announce(Announcement {
            id: format!("{}:{notice_id}", exchange.name()),
            position: FeedPosition::default(),
            exchange,
            title,
            classification,
            action: Action::Created,
            late: false,
            url: String::new(),
            notice_id,
            source: MANUAL.to_owned(),
            published: published.unwrap_or(now.wall),
            received: now.wall,
            detected: now.wall,
            classified: (self.clock)().wall,
            effective_at: None,
        });
        self.publisher.settle();
        // Who asked may have gone away; the announcement went out all the same.
        let _ = reply.send(encoded);
    }

    fn housekeep(&mut self, now: Now) {
        let SourceThread {
            poll,
            lanes,
            streams,
            races,
            publisher,
            tap,
            resolver,
            clock,
            random,
            scratch,
            ..
        } = self;
        let (registry, tap) = (poll.registry(), tap.as_mut());
        let mut cx = Context { now, clock: *clock, registry, scratch, publisher, races, tap, random };
        while let Some(answer) = resolver.poll() {
            let Ok(index) = usize::try_from(answer.id) else { continue };
            let stream = index.checked_sub(lanes.len());
            if let Some(lane) = lanes.get_mut(index) {
                lane.resolved(answer.addresses, now.mono);
            } else if let Some(stream) = stream.and_then(|i| streams.get_mut(i)) {
                stream.resolved(answer.addresses, now.mono);
            }
        }
        for (lane, id) in lanes.iter_mut().zip(0..) {
            lane.resolve(id, resolver, &mut cx);
            lane.housekeep(&mut cx);
        }
        for (stream, id) in streams.iter_mut().zip(lanes.len() as u32..) {
            stream.resolve(id, resolver, &mut cx);
            stream.housekeep(&mut cx);
        }
    }
}

impl Step for SourceThread {
    fn step(&mut self, now: Now) -> Turn {
        let mut work = 0;
        // A failed poll (a signal) is a poll that found nothing.
        let polled = self.poll.poll(&mut self.events, Some(Duration::ZERO));
        let SourceThread {
            poll, events, lanes, streams, races, publisher, tap, clock, random, scratch, ..
        } = self;
        let (registry, tap) = (poll.registry(), tap.as_mut());
        let mut cx = Context { now, clock: *clock, registry, scratch, publisher, races, tap, random };
        if polled.is_ok() {
            for event in &*events {
                let token = event.token().0;
                let slot = token & ((1 << SLOT_BITS) - 1);
                let index = token >> SLOT_BITS;
                if let Some(lane) = lanes.get_mut(index) {
                    work += lane.on_event(slot, &mut cx);
                } else if let Some(stream) = index.checked_sub(lanes.len()).and_then(|i| streams.get_mut(i)) {
                    work += stream.on_event(slot, &mut cx);
                }
            }
        }
        for lane in lanes.iter_mut() {
            if lane.due() <= now.mono {
                work += lane.on_time(&mut cx);
            }
        }
        for stream in streams.iter_mut() {
            if stream.due() <= now.mono {
                work += stream.on_time(&mut cx);
            }
        }
        for _ in 0..INJECTS_PER_TURN {
            let Ok(ToSource::Inject(inject)) = self.commands.pop() else { break };
            self.inject(*inject, now);
            work += 1;
        }
        work += self.publisher.retry();
        self.record_announced();
        if self.housekeeping_at <= now.mono {
            self.housekeep(now);
            self.housekeeping_at = now.mono + HOUSEKEEPING;
        }
        let lanes = self.lanes.iter().map(Lane::due);
        let due = lanes.chain(self.streams.iter().map(StreamLane::due)).min().unwrap_or(Mono::NEVER);
        Turn { work, deadline: due.min(self.housekeeping_at) }
    }

    /// One source's turn.
    fn rehearse(&mut self, now: Now) {
        self.rehearsed = (self.rehearsed + 1) % self.lanes.len().max(1);
        if let Some(lane) = self.lanes.get_mut(self.rehearsed) {
            lane.rehearse(now);
        }
    }

    /// An answer wakes it.
    fn sleep(&mut self, longest: Duration) {
        sleep_on(&self.poll, longest);
    }

    /// Gives the rings what they have room for.
    fn finish(&mut self, _now: Now) {
        self.publisher.retry();
        self.record_announced();
    }
}

/// Xorshift: spreads deadlines, decides nothing.
pub(super) struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        // Zero is its one fixed point.
        Random(seed | 1)
    }

    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // The upper half is the better one; the shift leaves 32 bits.
        (self.0 >> 32) as u32
    }
}
