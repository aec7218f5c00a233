//! Simulated subscribers: how each behaves, what it has heard on its connection, what it does next.
//!
//! Contract: a subscriber speaks the protocol through the core's client role and judges nothing of what it
//! hears: it notes it for the checkers. Owner: the world. Frames that cannot be read are noted as
//! [`Session::garbled`].

use core::ops::ControlFlow;
use std::collections::BTreeMap;

use core::time::Duration;

use tocsin_core::feed::close::CloseReason;
use tocsin_core::feed::reconnect::Reconnect;
use tocsin_core::feed::subscription::Filter;
use tocsin_core::limits;
use tocsin_core::model::{Exchange, ExchangeSet, FeedPosition, ListingType, ListingTypeSet};
use tocsin_core::time::{Mono, WallUs};
use tocsin_core::ws::frame::{write_close, write_frame};
use tocsin_core::ws::session::Event;
use tocsin_core::ws::{CloseCode, Opcode, Role, Session as WsSession, SessionLimits};

use super::dice::Dice;
use super::pipe::without_stamp;

/// How a subscriber behaves while there are faults; afterwards everyone behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    Good,
    /// Reads so many bytes a second.
    Slow(usize),
    /// At some point it reads and says nothing any more.
    Vanishes,
    /// Sends more than three messages a minute.
    Floods,
    /// Sends more control frames than are allowed.
    ControlFloods,
    /// Sends a frame that is too large.
    BigFrame,
    /// Sends text that is none.
    BadText,
    /// Breaks the framing.
    BreaksFraming,
    /// Answers no ping.
    NoPong,
    /// Leaves and comes back again and again.
    Restless,
    /// Changes its filter and asks for tests, within the limits.
    Talks,
}

impl Manner {
    pub(super) const BAD: [Manner; 10] = [
        Manner::Slow(200),
        Manner::Slow(4_000),
        Manner::Vanishes,
        Manner::Floods,
        Manner::ControlFloods,
        Manner::BigFrame,
        Manner::BadText,
        Manner::BreaksFraming,
        Manner::NoPong,
        Manner::Talks,
    ];
}

/// A subscriber over all its connections.
pub(super) struct Client {
    pub(super) manner: Manner,
    /// Its key's place among the world's.
    pub(super) key: usize,
    pub(super) address: [u8; 4],
    pub(super) exchanges: ExchangeSet,
    pub(super) types: ListingTypeSet,
    pub(super) full: bool,
    pub(super) text: bool,
    pub(super) resumes: bool,
    pub(super) reconnect: Reconnect,
    /// Its live connection.
    pub(super) connection: Option<u64>,
    /// A connection is on its way, or will be.
    pub(super) due: bool,
    /// It will not come back.
    pub(super) stopped: bool,
    /// The last announcement it has.
    pub(super) last: Option<FeedPosition>,
    /// It takes a heartbeat's `lastSeq` for what it has, as the documentation allows.
    pub(super) trusts_heartbeats: bool,
    /// How often it has had each, over all connections.
    pub(super) had: BTreeMap<FeedPosition, u32>,
    /// It has changed its filter: what it must have is not known any more.
    pub(super) changed: bool,
    /// What it was told is missing.
    pub(super) gaps: Vec<(FeedPosition, FeedPosition)>,
    /// It has been in a writer's set since this position had gone out.
    pub(super) since: Option<FeedPosition>,
}

impl Client {
    pub(super) fn draw(
        dice: &mut Dice,
        at: u64,
        keys: usize,
        misbehaves: bool,
        exchanges: ExchangeSet,
    ) -> Client {
        let manner = match dice.below(10) {
            _ if !misbehaves => Manner::Good,
            0..3 => Manner::Good,
            3..5 => Manner::Restless,
            _ => dice.pick(&Manner::BAD, Manner::Good),
        };
        let full = dice.per_mille(700);
        let some: ExchangeSet = exchanges.iter().filter(|_| dice.coin()).collect();
        let listings = ListingTypeSet::EMPTY.with(ListingType::SpotListing).with(ListingType::FuturesListing);
        Client {
            manner,
            key: dice.index(keys),
            // Now and then two share an address.
            address: [10, 0, 0, u8::try_from(if dice.per_mille(200) { 1 } else { at + 1 }).unwrap_or(1)],
            exchanges: if dice.per_mille(700) { ExchangeSet::ALL } else { some },
            types: if dice.per_mille(800) { ListingTypeSet::ALL } else { listings },
            full,
            text: dice.per_mille(300),
            resumes: full && dice.per_mille(700),
            reconnect: Reconnect::new(),
            connection: None,
            due: false,
            stopped: false,
            last: None,
            trusts_heartbeats: dice.coin(),
            had: BTreeMap::new(),
            changed: false,
            gaps: Vec::new(),
            since: None,
        }
    }

    /// The query of its next connection.
    pub(super) fn target(&self) -> String {
        let mut target = "/?".to_owned();
        if !self.exchanges.is_all() {
            let names: Vec<&str> = self.exchanges.iter().map(Exchange::name).collect();
            // Of none at all: a name that is no exchange.
            let names = if names.is_empty() { "nothing".to_owned() } else { names.join(",") };
            target.push_str(&format!("cex={names}&"));
        }
        if self.types != ListingTypeSet::ALL {
            target.push_str("types=spot_listing,futures_listing&");
        }
        if self.full {
            target.push_str("fields=full&");
        }
        if self.text {
            target.push_str("frames=text&");
        }
        if let Some(position) = self.last.filter(|_| self.resumes) {
            target.push_str(&format!("resume={position}&"));
        }
        target
    }
}

/// An announcement as it was received.
#[derive(Clone, Debug)]
pub(super) struct Got {
    /// The message without its stamp.
    pub(super) text: Vec<u8>,
    pub(super) stamp: i64,
    pub(super) replayed: bool,
    pub(super) at: Mono,
}

/// One connection of a subscriber.
pub(super) struct Session {
    pub(super) client: usize,
    pub(super) writer: usize,
    pub(super) key: usize,
    pub(super) resume: Option<FeedPosition>,
    pub(super) filter: Filter,
    pub(super) full: bool,
    pub(super) redact: bool,
    pub(super) delay: Duration,
    pub(super) manner: Manner,
    /// How it behaved at first.
    began_as: Manner,
    /// When its key ended when it was admitted.
    pub(super) key_ends: Option<WallUs>,
    /// Filters asked for later; what is received then is judged less strictly.
    pub(super) changes: u32,
    pub(super) admitted_at: Mono,
    /// What the writer remembered when it joined, and when that was.
    pub(super) joined: Option<(usize, Mono)>,
    pub(super) got: Vec<Got>,
    pub(super) gap: Option<(FeedPosition, FeedPosition)>,
    pub(super) welcomes: u32,
    pub(super) close: Option<(u16, String)>,
    pub(super) ended: Option<CloseReason>,
    pub(super) garbled: Option<&'static str>,
    /// The network was in the way at least once.
    pub(super) impaired: bool,
    /// When it was last, or its own slowness: a buffer was full, bytes were held up.
    pub(super) impaired_at: Mono,
    pub(super) clogged_until: Mono,
    /// Nothing is read before.
    pub(super) delivering: bool,
    pub(super) uplink_at: Mono,
    /// When it sent messages.
    pub(super) said: Vec<Mono>,
    pub(super) controls: u32,
    pub(super) broke_protocol: bool,
    pub(super) sent_close: bool,
    pub(super) left: bool,
    pub(super) reset: bool,
    pub(super) vanished: bool,
    pub(super) heartbeat_at: Mono,
    /// What the last heartbeat said.
    pub(super) heartbeat: Option<FeedPosition>,
    /// What is left to be delivered of a connection the writer has ended.
    pub(super) tail: Option<Vec<u8>>,
    head: Vec<u8>,
    ws: Option<WsSession>,
}

/// What a subscriber wants to send.
pub(super) type Uplink = Vec<Vec<u8>>;

const MASK: Option<[u8; 4]> = Some([0x21, 0x43, 0x65, 0x87]);

/// A frame from a client.
pub(super) fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_frame(&mut out, opcode, payload, MASK);
    out
}

/// A close frame from a client.
pub(super) fn close_frame(code: u16) -> Vec<u8> {
    let mut out = Vec::new();
    write_close(&mut out, Some(CloseCode(code)), "", MASK);
    out
}

impl Session {
    pub(super) fn new(client: usize, writer: usize, of: &Client, filter: Filter, at: Mono) -> Session {
        Session {
            client,
            writer,
            key: of.key,
            resume: of.last.filter(|_| of.resumes),
            filter,
            full: of.full,
            redact: false,
            delay: Duration::ZERO,
            manner: of.manner,
            began_as: of.manner,
            key_ends: None,
            changes: 0,
            admitted_at: at,
            joined: None,
            got: Vec::new(),
            gap: None,
            welcomes: 0,
            close: None,
            ended: None,
            garbled: None,
            impaired: false,
            impaired_at: Mono(0),
            clogged_until: Mono(0),
            delivering: false,
            uplink_at: Mono(0),
            said: Vec::new(),
            controls: 0,
            broke_protocol: false,
            sent_close: false,
            left: false,
            reset: false,
            vanished: false,
            heartbeat_at: Mono(0),
            heartbeat: None,
            tail: None,
            head: Vec::new(),
            ws: None,
        }
    }

    /// Whether it behaved so at first.
    pub(super) fn manner_was(&self, manner: Manner) -> bool {
        self.began_as == manner
    }

    /// The network, or its own slowness, is in the way at this instant.
    pub(super) fn is_impaired(&mut self, now: Mono) {
        self.impaired = true;
        self.impaired_at = self.impaired_at.max(now);
    }

    /// Whether something was in the way within that time.
    pub(super) fn was_impaired(&self, now: Mono, within: Duration) -> bool {
        self.impaired && now.since(self.impaired_at.max(self.clogged_until)) <= within
    }

    /// Whether it sent one message more than are allowed within that time.
    pub(super) fn floods_within(&self, time: Duration) -> bool {
        self.said.windows(limits::CLIENT_MESSAGES_PER_MINUTE + 1).any(|w| match (w.first(), w.last()) {
            (Some(first), Some(last)) => last.since(*first) < time,
            _ => false,
        })
    }

    /// Bytes have come; what it answers.
    pub(super) fn receive(&mut self, bytes: &[u8], text: bool, now: (Mono, WallUs)) -> Uplink {
        let mut uplink = Vec::new();
        let mut bytes = bytes.to_vec();
        if self.ws.is_none() {
            self.head.extend_from_slice(&bytes);
            let Some(end) = self.head.windows(4).position(|w| w == b"\r\n\r\n") else { return uplink };
            bytes = self.head.split_off(end + 4);
            if !self.head.starts_with(b"HTTP/1.1 101 ") {
                self.garbled = Some("no 101");
                return uplink;
            }
            self.ws = Some(WsSession::new(Role::Client, SessionLimits::same(1 << 20)));
        }
        let Some(mut ws) = self.ws.take() else { return uplink };
        let flow = ws.receive::<()>(&mut bytes, &mut |event| {
            self.hear(&event, text, now, &mut uplink);
            ControlFlow::Continue(())
        });
        if flow.is_err() {
            self.garbled = Some("a frame that cannot be read");
        }
        self.ws = Some(ws);
        uplink
    }

    fn hear(&mut self, event: &Event<'_>, text: bool, now: (Mono, WallUs), uplink: &mut Uplink) {
        match event {
            Event::Text(message) if text => self.hear_message(message.as_bytes(), now),
            Event::Binary(message) if !text => self.hear_message(message, now),
            Event::Text(_) | Event::Binary(_) => self.garbled = Some("a frame of the other kind"),
            Event::Ping(payload) => {
                if self.manner != Manner::NoPong {
                    uplink.push(frame(Opcode::Pong, payload));
                }
            }
            Event::Pong(_) => {}
            Event::Close { code, reason } => {
                self.close = Some((code.map_or(0, |code| code.0), (*reason).to_owned()));
                if !self.sent_close {
                    self.sent_close = true;
                    uplink.push(close_frame(code.map_or(1_000, |code| code.0)));
                }
            }
        }
    }

    fn hear_message(&mut self, message: &[u8], now: (Mono, WallUs)) {
        let kind = message.strip_prefix(b"{\"type\":\"").unwrap_or_default();
        let kind = kind.split(|b| *b == b'"').next().unwrap_or_default();
        match kind {
            b"announcement" => match without_stamp(message) {
                Some((stamp, text, replayed)) => self.got.push(Got { text, stamp, replayed, at: now.0 }),
                None => self.garbled = Some("an announcement without a stamp"),
            },
            b"welcome" => self.welcomes += 1,
            b"heartbeat" => {
                self.heartbeat_at = now.0;
                let (epoch, seq) = (field(message, "\"epoch\":"), field(message, "\"lastSeq\":"));
                self.heartbeat = Some(FeedPosition { epoch, seq });
            }
            b"gap" => {
                let number = |name: &str| field(message, name);
                let from = FeedPosition { epoch: number("\"epoch\":"), seq: number("\"fromSeq\":") };
                let to = FeedPosition { epoch: number("\"toEpoch\":"), seq: number("\"toSeq\":") };
                if self.gap.replace((from, to)).is_some() {
                    self.garbled = Some("two gaps");
                }
            }
            b"source_status" | b"test_announcement" | b"error" | b"key_expiring" | b"subscribed" => {}
            _ => self.garbled = Some("a message of no known type"),
        }
    }
}

/// The number behind a name; 0 where there is none.
pub(super) fn field(message: &[u8], name: &str) -> u64 {
    let at = message.windows(name.len()).position(|w| w == name.as_bytes()).map(|at| at + name.len());
    let digits = at.and_then(|at| message.get(at..)).unwrap_or_default();
    digits.iter().take_while(|b| b.is_ascii_digit()).fold(0, |n, b| n * 10 + u64::from(b - b'0'))
}
