//! The whole state of one simulated exchange behind one lock, and what it answers.
//!
//! Contract: every request is answered from one consistent state; changes held back by the cache
//! lag become visible with the first request after their time. Queues are bounded: the request log
//! by [`MAX_LOG`], changes held back by [`MAX_PENDING`] (beyond it the oldest becomes visible).

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustls::ServerConfig;

use crate::catalogue::{Catalogue, Change};
use crate::clock;
use crate::edge::{self, Cached, EdgeCache, RateWindows};
use crate::fault::{Fault, Faults};
use crate::http::{Framing, RecordedRequest, Request, Response, gzip_stored};
use crate::invent::Inventor;
use crate::options::{Kind, Options, RateAnswer};
use crate::shape::refusal::{self, Refusal};
use crate::shape::{self, View};
use crate::site::{Answer, Delivery, Site};
use crate::stream::SimStream;

const MAX_LOG: usize = 4_096;
const MAX_PENDING: usize = 4_096;

/// Everything that changes while an exchange runs.
pub(crate) struct State {
    pub(crate) options: Options,
    pub(crate) catalogue: Catalogue,
    pub(crate) inventor: Inventor,
    /// Where notices are pushed to, too.
    pub(crate) stream: Option<Arc<SimStream>>,
    pub(crate) lag: Duration,
    pub(crate) cache: EdgeCache,
    pub(crate) served: BTreeMap<String, Arc<[u8]>>,
    pub(crate) log: VecDeque<RecordedRequest>,
    pub(crate) requests: u64,
    pending: VecDeque<(Instant, Change)>,
    faults: Faults,
    windows: RateWindows,
    turn: usize,
}

impl State {
    /// Makes `change` visible now, or when the lag has passed.
    pub(crate) fn schedule(&mut self, change: Change, now: Instant) {
        self.settle(now);
        if self.lag.is_zero() && self.pending.is_empty() {
            self.catalogue.apply(change);
            return;
        }
        if self.pending.len() >= MAX_PENDING
            && let Some((_, oldest)) = self.pending.pop_front()
        {
            self.catalogue.apply(oldest);
        }
        self.pending.push_back((now + self.lag, change));
    }

    /// Applies what has become due. In order: a change never overtakes an earlier one.
    fn settle(&mut self, now: Instant) {
        while self.pending.front().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, change)) = self.pending.pop_front() {
                self.catalogue.apply(change);
            }
        }
    }

    /// Whether `notice_id` is known or will be.
    pub(crate) fn knows(&self, notice_id: &str, kind: Kind) -> bool {
        self.catalogue.contains(notice_id)
            || self
                .pending
                .iter()
                .any(|(_, c)| matches!(c, Change::Publish(n) if n.notice_id(kind) == notice_id))
    }

    pub(crate) fn set_fault(&mut self, fault: Fault, requests: Option<u32>) {
        self.faults.set(fault, requests);
    }

    pub(crate) fn clear_fault(&mut self) {
        self.faults.clear();
    }

    fn framing(&mut self) -> Framing {
        let framing = &self.options.framing;
        let chosen = framing.get(self.turn % framing.len().max(1)).copied();
        self.turn = self.turn.wrapping_add(1);
        chosen.unwrap_or(Framing::ContentLength)
    }

    /// What the exchange answers when nothing is wrong with it.
    fn respond(&mut self, kind: Kind, peer: IpAddr, request: &Request, now: Instant) -> Response {
        if let Some(limit) = self.options.rate_limit
            && !self.windows.allow(peer, limit, now)
        {
            return match limit.answer {
                RateAnswer::RedirectLoop => redirect_to_itself(request),
                RateAnswer::TooMany(retry_after) => refusal::status(429, retry_after),
            };
        }
        let served = self.served.iter().rev().find(|(prefix, _)| request.target.starts_with(prefix.as_str()));
        if let Some((_, body)) = served {
            return self.tagged(kind, request, Response::json(200, Arc::clone(body)));
        }
        let view = View { catalogue: &self.catalogue, options: &self.options, now: clock::wall_now() };
        let shape::Page { mut response, cache_key } = shape::answer(kind, &view, request);
        if let Some(key) = cache_key
            && response.status == 200
        {
            let (mut how, mut age) = (Cached::Miss, Duration::ZERO);
            if let Some(policy) = self.options.cache {
                let fresh = Arc::clone(&response.body);
                (response.body, how, age) = self.cache.get(&key, policy, now, || fresh);
            }
            response = response.with("X-Cache", how.header()).with("Age", age.as_secs().to_string());
        }
        self.tagged(kind, request, response)
    }

    /// Adds the entity tag, or turns the response into a 304. Only Upbit has tags.
    fn tagged(&self, kind: Kind, request: &Request, response: Response) -> Response {
        if kind != Kind::Upbit || !self.options.etag || response.status != 200 {
            return response;
        }
        let etag = edge::weak_etag(&response.body);
        let response = response.with("CF-Cache-Status", "DYNAMIC").with("ETag", etag.clone());
        if request.header("if-none-match").is_some_and(|tags| edge::matches(tags, &etag)) {
            return Response { status: 304, body: Arc::from([]), ..response };
        }
        response
    }
}

/// One simulated exchange, shared between its handle and its connections.
pub(crate) struct Shared {
    pub(crate) kind: Kind,
    pub(crate) state: Mutex<State>,
    /// Signalled after each request.
    pub(crate) answered: Condvar,
    pub(crate) tls: Mutex<Option<Arc<ServerConfig>>>,
}

impl Shared {
    pub(crate) fn new(kind: Kind, options: Options, tls: Option<Arc<ServerConfig>>) -> Shared {
        let now = clock::wall_now();
        let state = State {
            catalogue: Catalogue::new(kind, options.seed, options.old_notices, now),
            inventor: Inventor::new(kind, options.seed ^ 0x000a_11ce),
            lag: Duration::ZERO,
            cache: EdgeCache::default(),
            served: BTreeMap::new(),
            log: VecDeque::new(),
            requests: 0,
            pending: VecDeque::new(),
            faults: Faults::default(),
            windows: RateWindows::default(),
            turn: 0,
            stream: None,
            options,
        };
        Shared { kind, state: Mutex::new(state), answered: Condvar::new(), tls: Mutex::new(tls) }
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
        self.tls.lock().clone()
    }

    fn answer(&self, peer: IpAddr, connection: u64, nth: u32, request: &Request) -> Answer {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.settle(now);
        let mut answer = Answer::whole(state.respond(self.kind, peer, request, now));
        answer.framing = state.framing();
        answer.close = state.options.close_after.is_some_and(|most| nth >= most);
        if let Some(fault) = state.faults.strike(false) {
            misbehave(&mut answer, &fault, |why| refusal::of(self.kind, why), request);
        }
        let said_status = !matches!(answer.delivery, Delivery::Garbage | Delivery::Never);
        let status = if said_status { answer.response.status } else { 0 };
        self.record(&mut state, connection, request, status);
        answer
    }
}

/// Turns a good answer into the bad one `fault` asks for; `refuse` says no as the exchange does.
pub(crate) fn misbehave(
    answer: &mut Answer,
    fault: &Fault,
    refuse: impl FnOnce(Refusal) -> Response,
    request: &Request,
) {
    let length = Framing::ContentLength;
    match fault {
        // Struck before the request was read.
        Fault::ResetOnAccept => {}
        Fault::Status { code, retry_after_secs } => {
            answer.response = refusal::status(*code, *retry_after_secs);
        }
        Fault::RegionBlock => answer.response = refuse(Refusal::Region),
        Fault::TooFrequent => answer.response = refuse(Refusal::TooFrequent),
        Fault::Refused => answer.response = refuse(Refusal::Refused),
        Fault::SchemaDrift => answer.response.body = refusal::drifted(&answer.response.body),
        Fault::RowDrift => answer.response.body = refusal::without_titles(&answer.response.body),
        Fault::HtmlChallenge => answer.response = challenge(),
        Fault::RedirectLoop => answer.response = redirect_to_itself(request),
        Fault::ResetInHead => answer.delivery = Delivery::ResetInHead,
        Fault::ResetInBody { after_bytes } => answer.delivery = Delivery::ResetInBody(*after_bytes),
        Fault::SlowBody { bytes_per_second } => answer.delivery = Delivery::Slow(*bytes_per_second),
        Fault::Garbage => answer.delivery = Delivery::Garbage,
        Fault::GarbageBody => answer.response.body = Arc::from(*b"\x00{]\xff\"data\":[[[,,}\\u12"),
        Fault::TruncatedJson => {
            let body = Arc::clone(&answer.response.body);
            answer.response.body = Arc::from(body.get(..body.len() / 2).unwrap_or_default());
        }
        Fault::ShortBody => (answer.framing, answer.delivery) = (length, Delivery::Short),
        Fault::HugeBody { bytes, chunked } => {
            answer.response = Response::json(200, *b"");
            answer.delivery = Delivery::Huge { bytes: *bytes, chunked: *chunked };
        }
        Fault::Gzip => {
            let packed = gzip_stored(&answer.response.body);
            answer.response.body = packed.into();
            answer.response.headers.push(("Content-Encoding".into(), "gzip".to_owned()));
        }
        Fault::HttpOneZero => answer.framing = Framing::CloseDelimited,
        Fault::NeverAnswer => answer.delivery = Delivery::Never,
    }
}

fn challenge() -> Response {
    let page = "<!DOCTYPE html><html><head><title>One moment</title></head><body><script>check()</script></body></html>";
    Response {
        status: 202,
        headers: vec![("Content-Type".into(), "text/html; charset=UTF-8".to_owned())],
        body: Arc::from(page.as_bytes()),
    }
}

fn redirect_to_itself(request: &Request) -> Response {
    Response::json(302, *b"").with("Location", request.target.clone())
}
