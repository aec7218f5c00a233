//! The decision on a request: admit, answer or refuse, in the order that FEED.md "Handshake" fixes.
//!
//! Contract: [`Admission::decide`] runs once per request and counts what it admits; every admission
//! must be given back once with [`Admission::release`]. Refused attempts change nothing but the
//! failure count of an address and the memory of invalid keys. Owner: the accept thread. Allocates the
//! subscription and the greeting. Never fails: a refusal is a value.

use core::net::IpAddr;
use core::time::Duration;
use std::sync::Arc;

use super::address::AddressTable;
use super::history::HistoryRights;
use super::keys::{KeyEntry, KeyTable};
use super::query::{FeedQuery, HistoryQuery};
use super::refusal::Refusal;
use crate::feed::key::{KeyId, KeyRecord, Tier};
use crate::feed::subscription::{Filter, FrameKind, Subscription};
use crate::http1::request::RequestHead;
use crate::limits;
use crate::time::Now;
use crate::wire::extra::Extras;
use crate::wire::message::{self, Granted, Welcome};
use crate::ws::frame::{self, Opcode};
use crate::ws::handshake::{self, AcceptKey};

/// Path of the history.
pub const HISTORY_PATH: &str = "/v1/announcements";

/// What becomes of a request.
#[derive(Debug)]
pub enum Decision {
    /// It becomes a session; its limits are counted.
    Admit(Box<Admitted>),
    /// It is answered from history under these rights, and closed.
    History(HistoryQuery, HistoryRights),
    /// It is answered with this, and closed.
    Refuse(Refusal),
}

/// A session to be.
#[derive(Debug)]
pub struct Admitted {
    /// What it asked for and may have.
    pub subscription: Subscription,
    /// The 101 response and the welcome frame.
    pub greeting: Vec<u8>,
    /// Where its address is counted; goes back in [`Admission::release`].
    pub bucket: IpAddr,
}

/// All tables of admission, and the order in which they are asked.
#[derive(Debug)]
pub struct Admission {
    /// Known keys.
    pub keys: KeyTable,
    /// Known addresses.
    pub addresses: AddressTable,
    /// Sessions at most, all together.
    max_connections: u32,
    connections: u32,
}

impl Admission {
    /// With no session yet.
    #[must_use]
    pub fn new(keys: KeyTable, addresses: AddressTable, max_connections: u32) -> Admission {
        Admission { keys, addresses, max_connections, connections: 0 }
    }

    /// Sessions admitted and not yet given back.
    #[must_use]
    pub const fn connections(&self) -> u32 {
        self.connections
    }

    /// Decides on a request from `address` (the client's, not a proxy's).
    pub fn decide(&mut self, head: &RequestHead<'_>, address: IpAddr, now: Now) -> Decision {
        let bucket = self.addresses.bucket(address);
        let decided = match head.path {
            "/" | "/ws" => self.decide_feed(head, bucket, now),
            HISTORY_PATH => self.decide_history(head, bucket, now),
            _ => Err(Refusal::NotFound),
        };
        decided.unwrap_or_else(Decision::Refuse)
    }

    /// A session admitted earlier ended.
    pub fn release(&mut self, bucket: IpAddr, key: KeyId) {
        self.addresses.release(bucket);
        self.keys.release(key);
        self.connections = self.connections.saturating_sub(1);
    }

    fn decide_feed(&mut self, head: &RequestHead<'_>, bucket: IpAddr, now: Now) -> Result<Decision, Refusal> {
        let accept = handshake::check_upgrade(head).map_err(Refusal::Upgrade)?;
        let query = FeedQuery::parse(head.query_pairs()).map_err(Refusal::Parameter)?;
        let id = self.authenticate(head, query.api_key.as_deref(), bucket, now)?.record.id;
        if self.connections >= self.max_connections {
            return Err(Refusal::Full { limit: self.max_connections });
        }
        self.addresses.check(bucket, now.mono).map_err(Refusal::Address)?;
        // Known: it was found by its hash above.
        let entry = self.keys.get(id).ok_or(Refusal::MissingKey)?;
        let limit = entry.record.max_connections;
        if entry.connections >= limit {
            return Err(Refusal::KeyConnections { limit, current: entry.connections });
        }
        let greeting = greeting(&accept, &entry.record, &query, now);
        let subscription = subscription(entry, query);
        self.addresses.admit(bucket, now.mono);
        self.keys.admit(id);
        self.connections = self.connections.saturating_add(1);
        Ok(Decision::Admit(Box::new(Admitted { subscription, greeting, bucket })))
    }

    fn decide_history(
        &mut self,
        head: &RequestHead<'_>,
        bucket: IpAddr,
        now: Now,
    ) -> Result<Decision, Refusal> {
        if head.method != "GET" {
            return Err(Refusal::Upgrade(handshake::Refusal::Method));
        }
        let query = HistoryQuery::parse(head.query_pairs()).map_err(Refusal::Parameter)?;
        let record = &self.authenticate(head, query.api_key.as_deref(), bucket, now)?.record;
        let rights =
            HistoryRights { allowed: record.allowed.set(), redact: record.redact, delay: delay_of(record) };
        self.addresses.take_query(bucket, now.mono).map_err(Refusal::Address)?;
        Ok(Decision::History(query, rights))
    }

    /// Key present, address not locked, key valid. The lock comes before the key is looked at: guesses
    /// made while it lasts learn nothing.
    fn authenticate(
        &mut self,
        head: &RequestHead<'_>,
        parameter: Option<&str>,
        bucket: IpAddr,
        now: Now,
    ) -> Result<&KeyEntry, Refusal> {
        let header = head.values("X-API-Key").find(|v| !v.is_empty());
        let text = header.or(parameter.map(str::as_bytes)).ok_or(Refusal::MissingKey)?;
        if let Some(retry_after) = self.addresses.auth_locked(bucket, now.mono) {
            return Err(Refusal::AuthFailures { retry_after });
        }
        self.keys.validate(text, now).map_err(|refusal| {
            self.addresses.auth_failed(bucket, now.mono);
            Refusal::Key(refusal)
        })
    }
}

fn subscription(entry: &KeyEntry, query: FeedQuery) -> Subscription {
    let record = &entry.record;
    let allowed = record.allowed.set();
    Subscription {
        key: Arc::clone(&entry.shared),
        allowed,
        expires_at: record.expires_at,
        filter: Filter {
            exchanges: allowed.intersection(query.exchanges),
            types: query.types,
            tickers: query.tickers,
        },
        frames: query.frames,
        fields: query.fields,
        sources: query.sources,
        extras: extras_of(record, query.extras),
        redact: record.redact,
        delay: delay_of(record),
        resume: query.resume,
    }
}

/// "Premium and enterprise are never delayed."
fn delay_of(record: &KeyRecord) -> Duration {
    match record.tier {
        Tier::Basic => record.delay.min(limits::KEY_DELAY),
        Tier::Premium | Tier::Enterprise => Duration::ZERO,
    }
}

/// A message beside an announcement would tell at once what such a key gets later, or what it may not see.
fn extras_of(record: &KeyRecord, asked: Extras) -> Extras {
    if record.redact || !delay_of(record).is_zero() { Extras::default() } else { asked }
}

fn greeting(accept: &AcceptKey, record: &KeyRecord, query: &FeedQuery, now: Now) -> Vec<u8> {
    let left_us = record.expires_at.map(|end| end.micros_since(now.wall));
    let mut welcome = Vec::with_capacity(256);
    message::welcome(
        &mut welcome,
        &Welcome {
            tier: record.tier.name(),
            max_connections: record.max_connections,
            allowed_cex: &record.allowed.effective(query.exchanges),
            expires_in_secs: left_us.map(|us| u64::try_from(us / 1_000_000).unwrap_or(0)),
            ignored_cex: &query.ignored_cex,
            extras: Granted::of(query.extras, extras_of(record, query.extras)),
        },
    );
    let opcode = match query.frames {
        FrameKind::Binary => Opcode::Binary,
        FrameKind::Text => Opcode::Text,
    };
    let mut greeting = Vec::with_capacity(384);
    handshake::write_switching_protocols(&mut greeting, accept);
    frame::write_frame(&mut greeting, opcode, &welcome, None);
    greeting
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
