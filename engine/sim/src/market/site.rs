//! The whole state of one simulated market behind one lock, and what it answers.
//!
//! Contract: every request is answered from one consistent state. The request log is bounded by
//! [`MAX_LOG`].

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use rustls::ServerConfig;
use serde_json::{Map, Value};
use tocsin_core::market::InstrumentKind;
use tocsin_core::model::Exchange;

use super::MarketOptions;
use super::shape::{Row, Shape, View};
use super::world::{InstrumentId, Listing, World};
use crate::clock;
use crate::edge::RateWindows;
use crate::error::SimError;
use crate::fault::Faults;
use crate::http::{RecordedRequest, Request, Response};
use crate::invent::Rng;
use crate::options::RateAnswer;
use crate::shape::refusal::status;
use crate::site::{Answer, Delivery, Site};
use crate::state::misbehave;

const MAX_LOG: usize = 4_096;

/// Everything that changes while a market runs.
pub(super) struct State {
    pub(super) options: MarketOptions,
    pub(super) world: World,
    pub(super) empty: bool,
    pub(super) drift: bool,
    pub(super) served: BTreeMap<String, Arc<[u8]>>,
    pub(super) faults: Faults,
    pub(super) log: VecDeque<RecordedRequest>,
    pub(super) requests: u64,
    windows: RateWindows,
}

/// One simulated market, shared between its handle and its connections.
pub(super) struct Shared {
    pub(super) exchange: Exchange,
    pub(super) shape: &'static Shape,
    pub(super) state: Mutex<State>,
    /// Signalled after each request.
    pub(super) answered: Condvar,
    tls: Option<Arc<ServerConfig>>,
}

impl Shared {
    pub(super) fn new(
        exchange: Exchange,
        shape: &'static Shape,
        options: MarketOptions,
        tls: Option<Arc<ServerConfig>>,
    ) -> Result<Shared, SimError> {
        let state = State {
            world: World::default(),
            empty: false,
            drift: false,
            served: BTreeMap::new(),
            faults: Faults::default(),
            log: VecDeque::new(),
            requests: 0,
            windows: RateWindows::default(),
            options,
        };
        let shared = Shared { exchange, shape, state: Mutex::new(state), answered: Condvar::new(), tls };
        shared.populate()?;
        Ok(shared)
    }

    /// Makes up the instruments there are from the start; bitcoin is always among them.
    fn populate(&self) -> Result<(), SimError> {
        let mut state = self.state.lock();
        let mut rng = Rng::new(state.options.seed);
        for kind in self.shape.kinds.iter().filter(|kind| **kind != InstrumentKind::Dated) {
            for n in 0..state.options.instruments {
                let quote =
                    self.shape.quotes.get(n % self.shape.quotes.len().max(1)).copied().unwrap_or("USDT");
                let base = if n == 0 { "BTC".to_owned() } else { invented(&mut rng, n) };
                let mut listing = Listing::open(*kind, &base, quote);
                listing.quote_24h = Some(10_000.0 + rng.below(50_000_000) as f64 / 4.0);
                listing.last = Some((1 + rng.below(4_000)) as f64 / 8.0);
                self.add(&mut state, listing)?;
            }
        }
        Ok(())
    }

    pub(super) fn add(&self, state: &mut State, listing: Listing) -> Result<InstrumentId, SimError> {
        let dated_without_end = listing.kind == InstrumentKind::Dated && listing.closes_at.is_none();
        if !self.shape.kinds.contains(&listing.kind) || dated_without_end {
            return Err(SimError::NoSuchInstrument(format!(
                "{:?} at {}",
                listing.kind,
                self.exchange.name()
            )));
        }
        state.world.add(listing)
    }

    /// What the exchange answers when nothing is wrong with it.
    fn respond(&self, state: &mut State, peer: IpAddr, request: &Request) -> Response {
        if let Some(limit) = state.options.rate_limit
            && !state.windows.allow(peer, limit, Instant::now())
        {
            return match limit.answer {
                RateAnswer::RedirectLoop => status(302, None).with("Location", request.target.clone()),
                RateAnswer::TooMany(retry_after) => status(429, retry_after),
            };
        }
        let served =
            state.served.iter().rev().find(|(prefix, _)| request.target.starts_with(prefix.as_str()));
        if let Some((_, body)) = served {
            return Response::json(200, Arc::clone(body));
        }
        let rows = state.world.listed().filter_map(|(_, listing)| {
            (self.shape.shown)(listing)?;
            Some(Row { symbol: (self.shape.symbol)(listing), listing })
        });
        let view = View { rows: rows.collect(), empty: state.empty };
        let (code, body) = (self.shape.answer)(&view, request);
        let body = if state.drift { drifted(body) } else { body };
        Response::json(code, body.to_string().into_bytes())
    }

    fn record(&self, state: &mut State, connection: u64, request: &Request, status: u16) {
        if state.log.len() >= MAX_LOG {
            state.log.pop_front();
        }
        state.log.push_back(RecordedRequest {
            at: clock::wall_now(),
            connection,
            method: request.method.clone(),
            target: request.target.clone(),
            headers: request.headers.clone(),
            status,
        });
        state.requests += 1;
        self.answered.notify_all();
    }
}

impl Site for Shared {
    fn resets_on_accept(&self) -> bool {
        self.state.lock().faults.strike(true).is_some()
    }

    fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.tls.clone()
    }

    fn answer(&self, peer: IpAddr, connection: u64, _nth: u32, request: &Request) -> Answer {
        let mut state = self.state.lock();
        let mut answer = Answer::whole(self.respond(&mut state, peer, request));
        answer.framing = state.options.framing;
        if let Some(fault) = state.faults.strike(false) {
            let refuse = |_| status(if self.exchange == Exchange::Binance { 451 } else { 403 }, None);
            misbehave(&mut answer, &fault, refuse, request);
        }
        let said_status = !matches!(answer.delivery, Delivery::Garbage | Delivery::Never);
        let code = if said_status { answer.response.status } else { 0 };
        self.record(&mut state, connection, request, code);
        answer
    }
}

/// A name of letters, with `n` in it so that it does not come back.
fn invented(rng: &mut Rng, n: usize) -> String {
    let letter = |number: u64| char::from(b'A' + (number % 26) as u8);
    let mut name: String = (0..3).map(|_| letter(rng.next())).collect();
    let mut rest = n as u64;
    while rest > 0 {
        name.push(letter(rest));
        rest /= 26;
    }
    name
}

/// The same with another name for every key.
fn drifted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let renamed = fields.into_iter().map(|(key, field)| (format!("{key}_v2"), drifted(field)));
            Value::Object(renamed.collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(drifted).collect()),
        other => other,
    }
}
