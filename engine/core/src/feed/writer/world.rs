//! A writer with subscribers in memory: sockets of any room, a clock by hand, clients that decode.

use core::ops::ControlFlow;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::{FanOut, Writer};
use crate::feed::close::CloseReason;
use crate::feed::history::History;
use crate::feed::key::{KeyId, KeyShared};
use crate::feed::socket::{Broken, Offer, Socket};
use crate::feed::subscription::{FieldSet, Filter, FrameKind, Subscription};
use crate::model::{Exchange, ExchangeSet, FeedPosition, ListingTypeSet};
use crate::time::{Mono, Now, WallUs};
use crate::wire::extra::Extras;
use crate::wire::tests::example;
use crate::wire::{EncodedAnnouncement, encode};
use crate::ws::frame::write_frame;
use crate::ws::session::Event;
use crate::ws::{CloseCode, Opcode, Role, Session, SessionLimits};

/// A socket of limited room. With `tls` it takes every write whole and holds what has no room.
#[derive(Debug)]
pub(super) struct Pipe {
    id: usize,
    pub(super) out: Vec<u8>,
    pub(super) room: usize,
    held: Vec<u8>,
    tls: bool,
    pub(super) broken: bool,
    pub(super) finished: bool,
    pub(super) offers: usize,
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
        self.offers += 1;
        if self.broken {
            return Err(Broken);
        }
        assert!(self.held.is_empty(), "nothing may be offered while something is held");
        self.held.extend_from_slice(bytes);
        self.push_out();
        let left = self.held.len();
        if !self.tls {
            self.held.clear();
            return Ok(Offer { accepted: bytes.len() - left, held: false });
        }
        Ok(Offer { accepted: bytes.len(), held: left > 0 })
    }

    fn settle(&mut self) -> Result<bool, Broken> {
        if self.broken {
            return Err(Broken);
        }
        self.push_out();
        Ok(self.held.is_empty())
    }

    fn widen(&mut self) {}

    fn finish(&mut self) {
        self.finished = true;
    }
}

/// What a client got.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Got {
    Json(Value),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, String),
}

/// The other end of a [`Pipe`].
pub(super) struct Client {
    pub(super) slot: u32,
    id: usize,
    session: Session,
    decoded: usize,
    opcode: Opcode,
    pub(super) got: Vec<Got>,
    pub(super) ended: Option<CloseReason>,
}

pub(super) struct World {
    pub(super) now: Now,
    pub(super) writer: Writer<Pipe>,
    pub(super) clients: Vec<Client>,
    pub(super) next_seq: u64,
    ended: BTreeMap<usize, (Pipe, CloseReason)>,
}

pub(super) const EPOCH: u64 = 7;

pub(super) fn subscription(key: &Arc<KeyShared>) -> Subscription {
    Subscription {
        key: Arc::clone(key),
        allowed: ExchangeSet::ALL,
        expires_at: None,
        filter: Filter { exchanges: ExchangeSet::ALL, types: ListingTypeSet::ALL, tickers: None },
        frames: FrameKind::Binary,
        fields: FieldSet::Full,
        sources: false,
        extras: Extras::default(),
        redact: false,
        delay: Duration::ZERO,
        resume: None,
    }
}

pub(super) fn key(id: i64) -> Arc<KeyShared> {
    Arc::new(KeyShared::new(KeyId(id)))
}

impl World {
    pub(super) fn new() -> World {
        World::with_history(History::new(EPOCH, 64, [], true))
    }

    pub(super) fn with_history(history: History) -> World {
        let now = Now { mono: Mono(1_000_000_000), wall: WallUs(1_710_345_000_000_000) };
        World {
            now,
            writer: Writer::new(now.mono, history, 42),
            clients: Vec::new(),
            next_seq: 1,
            ended: BTreeMap::new(),
        }
    }

    /// Returns the client's number.
    pub(super) fn join(&mut self, subscription: Subscription, room: usize, tls: bool) -> usize {
        let id = self.clients.len();
        let opcode = if subscription.frames == FrameKind::Text { Opcode::Text } else { Opcode::Binary };
        let pipe = Pipe {
            id,
            out: Vec::new(),
            room,
            held: Vec::new(),
            tls,
            broken: false,
            finished: false,
            offers: 0,
        };
        let mut greeting = Vec::new();
        write_frame(&mut greeting, opcode, br#"{"type":"welcome"}"#, None);
        let slot = self.writer.next_slot();
        assert_eq!(self.writer.join(self.now, pipe, subscription, &greeting, &mut []), slot);
        let session = Session::new(Role::Client, SessionLimits::same(1 << 20));
        self.clients.push(Client { slot, id, session, decoded: 0, opcode, got: Vec::new(), ended: None });
        self.collect();
        id
    }

    /// One of the room to take everything.
    pub(super) fn join_open(&mut self, subscription: Subscription) -> usize {
        self.join(subscription, usize::MAX, false)
    }

    pub(super) fn announcement(&mut self, exchange: Exchange) -> EncodedAnnouncement {
        let mut announcement = example(&format!("Will List T{} (T)", self.next_seq), &["TOKEN"]);
        announcement.position = FeedPosition { epoch: EPOCH, seq: self.next_seq };
        announcement.exchange = exchange;
        self.next_seq += 1;
        encode(announcement)
    }

    /// Returns how many got it.
    pub(super) fn announce(&mut self, announcement: EncodedAnnouncement) -> usize {
        self.announce_together([announcement]).deliveries
    }

    /// All of them are there before the first goes out.
    pub(super) fn announce_together(
        &mut self,
        announcements: impl IntoIterator<Item = EncodedAnnouncement>,
    ) -> FanOut {
        for announcement in announcements {
            self.writer.take(self.now.mono, Arc::new(announcement));
        }
        let (mut sent, mut firsts) = (FanOut::default(), 0);
        while let Some(next) = self.writer.next_in_order(self.now.mono) {
            let more = self.writer.broadcast(self.now, next, &mut |count| firsts += count);
            sent.announcements += more.announcements;
            sent.deliveries += more.deliveries;
        }
        assert_eq!(firsts, sent.announcements, "each has one first subscriber");
        self.collect();
        sent
    }

    /// Moves both clocks and does what has come due on the way, in steps of at most a second.
    pub(super) fn advance(&mut self, by: Duration) {
        let step = Duration::from_millis(match by.as_secs() {
            0 => 1,
            1..10 => 10,
            _ => 1_000,
        });
        let target = self.now.mono + by;
        while self.now.mono < target {
            let step = step.min(target.since(self.now.mono));
            self.now.mono = self.now.mono + step;
            self.now.wall = WallUs(self.now.wall.0 + step.as_micros() as i64);
            self.housekeep();
        }
    }

    pub(super) fn housekeep(&mut self) {
        for turn in 0.. {
            assert!(turn < 100_000, "housekeeping never ends");
            if self.writer.housekeep(self.now, 3) == 0 {
                break;
            }
        }
        self.collect();
    }

    pub(super) fn pipe(&mut self, client: usize) -> &mut Pipe {
        let Client { slot, id, .. } = self.clients[client];
        if self.ended.contains_key(&id) {
            return &mut self.ended.get_mut(&id).unwrap().0;
        }
        self.writer.socket_mut(slot).filter(|pipe| pipe.id == id).unwrap()
    }

    pub(super) fn give_room(&mut self, client: usize, bytes: usize) {
        let pipe = self.pipe(client);
        pipe.room = pipe.room.saturating_add(bytes);
        if self.clients[client].ended.is_none() {
            self.writer.writable(self.now, self.clients[client].slot);
        }
        self.collect();
    }

    /// A frame from the client.
    pub(super) fn say(&mut self, client: usize, opcode: Opcode, payload: &[u8]) {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, opcode, payload, Some([1, 2, 3, 4]));
        self.say_bytes(client, &mut bytes);
    }

    pub(super) fn say_bytes(&mut self, client: usize, bytes: &mut [u8]) {
        assert_eq!(self.clients[client].ended, None);
        self.writer.received(self.now, self.clients[client].slot, bytes);
        self.collect();
    }

    pub(super) fn answer_pings(&mut self, client: usize) {
        let pings: Vec<Vec<u8>> = self
            .take(client)
            .into_iter()
            .filter_map(|got| match got {
                Got::Ping(payload) => Some(payload),
                _ => None,
            })
            .collect();
        for ping in pings {
            self.say(client, Opcode::Pong, &ping);
        }
    }

    /// Takes ended connections and decodes what every client got.
    fn collect(&mut self) {
        while let Some(ended) = self.writer.pop_ended() {
            assert!(ended.socket.finished);
            let id = ended.socket.id;
            self.clients[id].ended = Some(ended.reason);
            assert!(self.ended.insert(id, (ended.socket, ended.reason)).is_none(), "released twice");
        }
        for client in 0..self.clients.len() {
            let decoded = self.clients[client].decoded;
            let mut new = self.pipe(client).out[decoded..].to_vec();
            let client = &mut self.clients[client];
            client.decoded += new.len();
            let Client { session, got, opcode, .. } = client;
            let flow: Result<ControlFlow<()>, _> = session.receive(&mut new, &mut |event| {
                got.push(match event {
                    Event::Text(text) => {
                        assert_eq!(*opcode, Opcode::Text);
                        Got::Json(serde_json::from_str(text).unwrap())
                    }
                    Event::Binary(bytes) => {
                        assert_eq!(*opcode, Opcode::Binary);
                        Got::Json(serde_json::from_slice(bytes).unwrap())
                    }
                    Event::Ping(payload) => Got::Ping(payload.to_vec()),
                    Event::Pong(payload) => Got::Pong(payload.to_vec()),
                    Event::Close { code, reason } => {
                        Got::Close(code.map_or(0, |CloseCode(code)| code), reason.to_owned())
                    }
                });
                ControlFlow::Continue(())
            });
            assert!(flow.is_ok(), "no frame is ever torn: {flow:?}");
        }
    }

    /// What the client got since the last time.
    pub(super) fn take(&mut self, client: usize) -> Vec<Got> {
        std::mem::take(&mut self.clients[client].got)
    }

    /// Types of the messages it got since the last time, with `seq` where there is one.
    pub(super) fn take_types(&mut self, client: usize) -> Vec<String> {
        self.take(client)
            .iter()
            .map(|got| match got {
                Got::Json(value) => {
                    let kind = value["type"].as_str().unwrap();
                    let replayed = if value["replayed"] == true { " again" } else { "" };
                    match value["seq"].as_u64() {
                        Some(seq) => format!("{kind} {seq}{replayed}"),
                        None => kind.to_owned(),
                    }
                }
                Got::Ping(_) => "ping".to_owned(),
                Got::Pong(payload) => format!("pong {}", String::from_utf8_lossy(payload)),
                Got::Close(code, reason) => format!("close {code} {reason}"),
            })
            .collect()
    }
}
