//! Whatever subscribers say, however little their sockets take, whatever happens meanwhile: every frame a
//! subscriber gets is whole and of its opcode, announcements come once each and in order or a message names
//! the gap, nothing is offered after an end, every end has its reason, and a reason that is told is told once.
//!
//! The input is a little program: subscribers join, say bytes, get room or lose it, answer pings; announcements,
//! revocations, expiries, statuses and time come.
#![no_main]

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use tocsin_core::feed::history::History;
use tocsin_core::feed::key::{KeyId, KeyShared};
use tocsin_core::feed::socket::{Broken, Offer, Socket};
use tocsin_core::feed::subscription::{FieldSet, Filter, FrameKind, Subscription};
use tocsin_core::feed::writer::Writer;
use tocsin_core::limits;
use tocsin_core::model::{Exchange, ExchangeSet, FeedPosition, ListingType, ListingTypeSet};
use tocsin_core::source::{SourceState, SourceStatus};
use tocsin_core::time::{Mono, Now, WallUs};
use tocsin_core::wire;
use tocsin_core::wire::extra::Extras;
use tocsin_core::ws::frame::write_frame;
use tocsin_core::ws::{Event, Opcode, Role, Session, SessionLimits};
use tocsin_fuzz::{Input, announcement};

const EPOCH: u64 = 7;
const KEYS: i64 = 3;
const SUBSCRIBERS_AT_MOST: usize = 12;

/// Sockets of any room; one that seals takes a write whole and holds what has no room.
struct Pipe {
    id: usize,
    out: Vec<u8>,
    held: Vec<u8>,
    room: usize,
    seals: bool,
    broken: bool,
    finished: bool,
}

impl Pipe {
    fn push_out(&mut self) {
        let count = self.room.min(self.held.len());
        self.room -= count;
        self.out.extend(self.held.drain(..count));
    }
}

impl Socket for Pipe {
    fn offer(&mut self, bytes: &[u8]) -> Result<Offer, Broken> {
        assert!(!self.finished, "nothing is offered after the end");
        assert!(self.held.is_empty(), "nothing is offered while something is held");
        if self.broken {
            return Err(Broken);
        }
        self.held.extend_from_slice(bytes);
        self.push_out();
        let left = self.held.len();
        if self.seals {
            return Ok(Offer { accepted: bytes.len(), held: left > 0 });
        }
        self.held.clear();
        Ok(Offer { accepted: bytes.len() - left, held: false })
    }

    fn settle(&mut self) -> Result<bool, Broken> {
        if self.broken {
            return Err(Broken);
        }
        self.push_out();
        Ok(self.held.is_empty())
    }

    fn widen(&mut self) {
        self.room = self.room.max(200);
    }

    fn finish(&mut self) {
        self.finished = true;
    }
}

/// What a subscriber has seen.
struct Client {
    slot: u32,
    opcode: Opcode,
    full: bool,
    session: Session,
    pings: Vec<Vec<u8>>,
    last_seq: u64,
    closes: usize,
    over: bool,
}

impl Client {
    fn read(&mut self, bytes: &mut [u8]) {
        let Client { session, opcode, full, pings, last_seq, closes, .. } = self;
        let flow = session.receive::<()>(bytes, &mut |event| {
            assert_eq!(*closes, 0, "nothing follows a close frame");
            match event {
                Event::Text(text) => {
                    assert_eq!(*opcode, Opcode::Text);
                    follow(text, *full, last_seq);
                }
                Event::Binary(bytes) => {
                    assert_eq!(*opcode, Opcode::Binary);
                    follow(std::str::from_utf8(bytes).expect("messages are UTF-8"), *full, last_seq);
                }
                Event::Ping(payload) => pings.push(payload.to_vec()),
                Event::Pong(_) => {}
                // Without a code it answers one that had none.
                Event::Close { .. } => *closes += 1,
            }
            ControlFlow::Continue(())
        });
        assert!(flow.is_ok(), "no frame is torn: {flow:?}");
    }
}

fn number(text: &str, name: &str) -> Option<u64> {
    let (_, rest) = text.split_once(name)?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Announcements of this epoch come in the order of their numbers; test messages have none.
fn follow(text: &str, full: bool, last_seq: &mut u64) {
    assert!(text.starts_with("{\"type\":\"") && text.ends_with('}'), "{text}");
    if full
        && text.starts_with("{\"type\":\"announcement\"")
        && let Some(seq) = number(text, "\"seq\":")
    {
        assert!(seq > *last_seq, "{seq} after {last_seq}");
        *last_seq = seq;
    }
}

struct World {
    now: Now,
    writer: Writer<Pipe>,
    keys: Vec<Arc<KeyShared>>,
    clients: Vec<Client>,
    next_seq: u64,
}

impl World {
    fn new() -> World {
        let now = Now { mono: Mono(1_000_000_000), wall: WallUs(1_800_000_000_000_000) };
        World {
            now,
            writer: Writer::new(now.mono, History::new(EPOCH, 16, [], true), 42),
            keys: (0..KEYS).map(|id| Arc::new(KeyShared::new(KeyId(id)))).collect(),
            clients: Vec::new(),
            next_seq: 1,
        }
    }

    fn join(&mut self, input: &mut Input<'_>) {
        if self.clients.len() == SUBSCRIBERS_AT_MOST {
            return;
        }
        let (kind, room) = (input.byte(), usize::from(input.byte()) * 16);
        let flag = |bit: u8| kind & 1 << bit != 0;
        let (frames, opcode) =
            if flag(0) { (FrameKind::Text, Opcode::Text) } else { (FrameKind::Binary, Opcode::Binary) };
        let key = &self.keys[usize::from(kind >> 6) % self.keys.len()];
        let resume = flag(4).then(|| FeedPosition { epoch: EPOCH, seq: u64::from(input.byte()) });
        let subscription = Subscription {
            key: Arc::clone(key),
            allowed: ExchangeSet::ALL,
            expires_at: flag(3).then(|| WallUs(self.now.wall.0 + i64::from(input.byte()) * 1_000_000)),
            filter: Filter { exchanges: ExchangeSet::ALL, types: ListingTypeSet::ALL, tickers: None },
            frames,
            fields: if flag(1) { FieldSet::Full } else { FieldSet::Basic },
            sources: flag(2),
            extras: Extras::default(),
            redact: false,
            delay: if flag(5) { Duration::from_millis(u64::from(input.byte()) * 20) } else { Duration::ZERO },
            resume,
        };
        let mut greeting = Vec::new();
        write_frame(&mut greeting, opcode, br#"{"type":"welcome"}"#, None);
        let pipe = Pipe {
            id: self.clients.len(),
            out: Vec::new(),
            held: Vec::new(),
            room,
            seals: kind & 0xC0 == 0xC0,
            broken: false,
            finished: false,
        };
        let slot = self.writer.next_slot();
        // What is resumed from is known already: later announcements only are held against the order.
        self.clients.push(Client {
            slot,
            opcode,
            full: flag(1),
            session: Session::new(Role::Client, SessionLimits::same(1 << 20)),
            pings: Vec::new(),
            last_seq: 0,
            closes: 0,
            over: false,
        });
        assert_eq!(self.writer.join(self.now, pipe, subscription, &greeting, &mut []), slot);
    }

    /// A subscriber that has not ended.
    fn one(&mut self, number: u8) -> Option<(usize, u32)> {
        let id = usize::from(number) % self.clients.len().max(1);
        self.clients.get(id).filter(|client| !client.over).map(|client| (id, client.slot))
    }

    fn announce(&mut self, kind: u8) {
        let exchange = Exchange::ALL[usize::from(kind) % Exchange::ALL.len()];
        let made = announcement(self.next_seq, EPOCH, exchange, ListingType::SpotListing);
        self.next_seq += 1;
        if !self.writer.has_room() {
            return;
        }
        self.writer.take(self.now.mono, Arc::new(wire::encode(made)));
        let mut firsts = 0;
        let mut announced = 0;
        while let Some(next) = self.writer.next_in_order(self.now.mono) {
            announced += self.writer.broadcast(self.now, next, &mut |count| firsts += count).announcements;
        }
        assert_eq!(firsts, announced, "each has one first subscriber");
    }

    fn advance(&mut self, by: Duration) {
        self.now.mono = self.now.mono + by;
        self.now.wall = WallUs(self.now.wall.0 + i64::try_from(by.as_micros()).unwrap());
        for turn in 0.. {
            assert!(turn < 10_000, "housekeeping ends");
            if self.writer.housekeep(self.now, 16) == 0 {
                break;
            }
        }
    }

    /// Reads what everybody got, and lets go who ended.
    fn collect(&mut self) {
        while let Some(mut ended) = self.writer.pop_ended() {
            assert!(ended.socket.finished);
            let client = &mut self.clients[ended.socket.id];
            assert!(!client.over, "an end comes once");
            client.over = true;
            // What waited behind a full socket is lost with it: only whole frames are looked at.
            if ended.socket.held.is_empty() && !ended.socket.broken {
                client.read(&mut ended.socket.out);
            }
        }
        for id in 0..self.clients.len() {
            if self.clients[id].over {
                continue;
            }
            let slot = self.clients[id].slot;
            let mut new = match self.writer.socket_mut(slot) {
                Some(pipe) if pipe.id == id => std::mem::take(&mut pipe.out),
                _ => panic!("a subscriber without an end has a socket"),
            };
            self.clients[id].read(&mut new);
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let what = input.byte();
        match what % 12 {
            0 => self.join(input),
            1 | 2 => self.announce(what >> 4),
            3 => {
                let (who, count) = (input.byte(), usize::from(input.byte()));
                let mut bytes = input.bytes(count).to_vec();
                if let Some((_, slot)) = self.one(who) {
                    self.writer.received(self.now, slot, &mut bytes);
                }
            }
            4 => {
                let (who, count) = (input.byte(), usize::from(input.byte()));
                let opcodes = [Opcode::Text, Opcode::Binary, Opcode::Ping, Opcode::Pong, Opcode::Close];
                let opcode = opcodes[usize::from(what >> 4) % opcodes.len()];
                let mut frame = Vec::new();
                write_frame(&mut frame, opcode, input.bytes(count), Some([1, 2, 3, 4]));
                if let Some((_, slot)) = self.one(who) {
                    self.writer.received(self.now, slot, &mut frame);
                }
            }
            5 => {
                let (who, room) = (input.byte(), usize::from(input.byte()) * 64);
                if let Some((_, slot)) = self.one(who) {
                    if let Some(pipe) = self.writer.socket_mut(slot) {
                        pipe.room += room;
                    }
                    self.writer.writable(self.now, slot);
                }
            }
            6 => {
                let who = input.byte();
                let Some((id, slot)) = self.one(who) else { return };
                for ping in std::mem::take(&mut self.clients[id].pings) {
                    let mut pong = Vec::new();
                    write_frame(&mut pong, Opcode::Pong, &ping, Some([9; 4]));
                    if self.one(who).is_some() {
                        self.writer.received(self.now, slot, &mut pong);
                        self.collect();
                    }
                }
            }
            7 => self.advance(Duration::from_millis(u64::from(input.byte()) * 200)),
            8 => self.writer.revoke(self.now, KeyId(i64::from(what >> 4) % KEYS)),
            9 => {
                let until = WallUs(self.now.wall.0 + i64::from(input.byte()) * 1_000_000);
                self.writer.set_expiry(self.now, KeyId(i64::from(what >> 4) % KEYS), Some(until));
            }
            10 => {
                let who = input.byte();
                let Some((_, slot)) = self.one(who) else { return };
                if let Some(pipe) = self.writer.socket_mut(slot).filter(|_| what >> 7 == 1) {
                    pipe.broken = true;
                }
                match what >> 4 & 3 {
                    0 => self.writer.failed(self.now, slot),
                    1 => self.writer.end_of_stream(self.now, slot),
                    _ => self.writer.writable(self.now, slot),
                }
            }
            _ => {
                let states = [SourceState::Live, SourceState::Stale, SourceState::Blocked, SourceState::Down];
                let state = states[usize::from(what >> 4) % states.len()];
                let status = SourceStatus {
                    source: "binance.cms",
                    exchange: Exchange::Binance,
                    state,
                    last_poll: None,
                    last_item: None,
                };
                self.writer.source_status(self.now, status);
            }
        }
        self.collect();
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let mut world = World::new();
    while !input.is_over() {
        world.step(&mut input);
    }
    // Nobody answers any more: everyone ends, and within the time that the specification gives.
    for _ in 0..(limits::PING_PERIOD + limits::PONG_TIMEOUT).as_secs() * 2 + 60 {
        world.advance(Duration::from_secs(1));
        world.collect();
    }
    assert!(world.clients.iter().all(|client| client.over), "who is silent is let go");
    assert_eq!(world.writer.counters().connections, 0);
    let closes: u64 = world.writer.counters().closes.iter().sum();
    assert_eq!(closes, world.clients.len() as u64, "every end has its reason");
});
