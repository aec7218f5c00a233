//! What receivers got, what dead processes had recorded, and every promise about the two.
//!
//! A *pair* is an event and the path of an endpoint. What is broken is written down, not asserted: a
//! test of this test breaks things on purpose.

use std::collections::{BTreeMap, BTreeSet};

use tocsin::store::webhook::deliveries::DeliveryState;
use tocsin_core::webhook::outgoing::Outcome;
use tocsin_sim::receiver::Received;

use crate::news::Announced;
use crate::peek::Peek;

/// Attempts of an endpoint that may be under way at once: as many events may overtake another.
const IN_FLIGHT: usize = tocsin_core::limits::WEBHOOK_IN_FLIGHT as usize;

pub(crate) type Pair = (String, String);

/// How a request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// 2xx.
    Taken,
    /// Not, and for good.
    Refused,
    /// Not now.
    Failed,
    /// The connection broke.
    Broken,
}

impl Answer {
    fn of(behaviour: &str) -> Answer {
        match behaviour {
            "ok" | "late" | "close" => Answer::Taken,
            "status/404" => Answer::Refused,
            "status/503" => Answer::Failed,
            "reset" | "hang-up" => Answer::Broken,
            other => panic!("no behaviour of this test: {other}"),
        }
    }
}

/// One request that carried a pair.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    /// By the sender's clock, which is ours.
    pub(crate) at: i64,
    pub(crate) attempt: u32,
    pub(crate) answer: Answer,
}

/// What a dead process had recorded of a pair.
#[derive(Clone, Copy, Debug)]
struct Recorded {
    /// The next attempt and when it is due; `None`: nothing more is sent.
    retry: Option<(u32, i64)>,
    /// When the process was known to be dead.
    at: i64,
}

/// An event as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) id: String,
    /// When it became known.
    pub(crate) created: i64,
    pub(crate) exchange: Option<&'static str>,
}

/// An endpoint, as far as what it must get depends on it.
pub(crate) struct Expecting<'a> {
    pub(crate) path: &'a str,
    /// It is verified and there: what became known later must reach it.
    pub(crate) since: i64,
    /// The only exchange it wants.
    pub(crate) only: Option<&'static str>,
}

/// Figures of a run.
#[derive(Clone, Copy, Debug, Default)]
#[allow(dead_code, reason = "printed as they are")]
pub(crate) struct Figures {
    pub(crate) events: usize,
    pub(crate) deliveries: usize,
    pub(crate) requests: usize,
    /// Requests beyond the first of their pair and attempt: a crash came before their answer was recorded.
    pub(crate) duplicates: usize,
    pub(crate) retries: usize,
    pub(crate) resent_on_request: usize,
    pub(crate) pings: usize,
    /// Outcomes that were in shared memory and not known to be on disk when a process died.
    pub(crate) outcomes_in_memory: usize,
    pub(crate) announcements_in_memory: usize,
}

/// See the module head.
#[derive(Default)]
pub(crate) struct Book {
    /// When each process was known to be dead.
    deaths: Vec<i64>,
    sent: BTreeMap<Pair, Vec<Sent>>,
    bodies: BTreeMap<String, Box<[u8]>>,
    by_symbol: BTreeMap<String, String>,
    recorded: BTreeMap<Pair, Recorded>,
    /// Pairs whose owner asked for them again, and when.
    asked: BTreeMap<Pair, Vec<i64>>,
    /// By number.
    pub(crate) events: BTreeMap<u64, Stored>,
    /// When each event became known, by id.
    created: BTreeMap<String, i64>,
    /// Not known to be concluded: event and endpoint by number.
    open: BTreeSet<(u64, u64)>,
    figures: Figures,
    pub(crate) broken: Vec<String>,
}

impl Book {
    /// Which life sent something.
    fn life(&self, sent_at: i64) -> usize {
        self.deaths.partition_point(|death| *death < sent_at)
    }

    pub(crate) fn now_dead(&mut self, at: i64) {
        self.deaths.push(at);
    }

    /// A receiver got something.
    pub(crate) fn receive(&mut self, request: &Received) {
        let header = |what: Option<String>| what.unwrap_or_default();
        if request.event_type().as_deref() == Some("ping") {
            self.figures.pings += 1;
            return;
        }
        self.figures.requests += 1;
        let id = header(request.event_id());
        let body = request.json().unwrap();
        let symbol = body["symbol"].as_str().unwrap_or_default().to_owned();
        if body["event_id"] == id.as_str() && request.header("webhook-id") == Some(&id) {
            self.same_id(&symbol, &id);
        } else {
            self.broken.push(format!("ids differ: {id}, {body}"));
        }
        let first = self.bodies.entry(id.clone()).or_insert_with(|| request.body.clone());
        if *first != request.body {
            let [a, b] = [&first[..], &request.body[..]].map(String::from_utf8_lossy);
            self.broken.push(format!("{id} has two bodies: {a} {b}"));
        }
        let sent = Sent {
            at: request.sent_at().unwrap().0,
            attempt: request.attempt().unwrap(),
            answer: Answer::of(&request.behaviour),
        };
        self.one_more((id, request.path().to_owned()), sent);
    }

    /// A ticker has one event, whichever life makes it.
    fn same_id(&mut self, symbol: &str, id: &str) {
        let known = self.by_symbol.entry(symbol.to_owned()).or_insert_with(|| id.to_owned());
        if known != id {
            self.broken.push(format!("{symbol} has two ids: {known} and {id}"));
        }
    }

    fn one_more(&mut self, pair: Pair, sent: Sent) {
        let before = self.sent.get(&pair).map_or(&[][..], Vec::as_slice);
        let asked = self.asked.contains_key(&pair);
        match self.recorded.get(&pair) {
            _ if asked => {}
            Some(Recorded { retry: None, at }) if sent.at > *at => {
                self.broken.push(format!("{pair:?} was concluded and is sent again: {before:?}, {sent:?}"));
            }
            Some(Recorded { retry: Some((attempt, due)), at })
                if sent.at > *at && (sent.attempt < *attempt || sent.at < *due) =>
            {
                let next = format!("attempt {attempt} at {due}");
                self.broken.push(format!("{pair:?} waits for {next}: {before:?}, {sent:?}"));
            }
            _ => {}
        }
        let life = self.life(sent.at);
        let alike =
            before.iter().filter(|other| other.attempt == sent.attempt && self.life(other.at) == life);
        // A kept connection that breaks without a byte is replaced once.
        let (alike, broke) =
            alike.fold((0, false), |(n, broke), other| (n + 1, broke || other.answer == Answer::Broken));
        if alike > 0 && !asked && !broke && sent.answer != Answer::Broken {
            self.broken.push(format!("{pair:?} twice in one life: {before:?}, {sent:?}"));
        }
        match before.iter().any(|other| other.attempt == sent.attempt) {
            _ if asked => self.figures.resent_on_request += 1,
            true => self.figures.duplicates += 1,
            false if sent.attempt > 1 => self.figures.retries += 1,
            false => {}
        }
        self.sent.entry(pair).or_default().push(sent);
    }

    /// A customer asks for a pair again, from this instant on.
    pub(crate) fn ask(&mut self, pair: Pair, at: i64, answered: bool) {
        // One that was not answered may happen.
        let asked = self.asked.entry(pair).or_default();
        asked.extend(answered.then_some(at));
    }

    /// An event on this path that is concluded.
    pub(crate) fn concluded_on(&self, path: &str, pick: usize) -> Option<Pair> {
        let concluded = |(pair, recorded): &(&Pair, &Recorded)| {
            pair.1 == path && recorded.retry.is_none() && !self.asked.contains_key(*pair)
        };
        let count = self.recorded.iter().filter(concluded).count();
        let mut all = self.recorded.iter().filter(concluded);
        all.nth(pick % count.max(1)).map(|(pair, _)| pair.clone())
    }

    /// What a process that died had recorded. `paths`: of the endpoints there are or were, by number; those that
    /// may be gone have `false`.
    pub(crate) fn acknowledge(&mut self, peek: &Peek, paths: &BTreeMap<u64, (String, bool)>) {
        let dead_at = *self.deaths.last().unwrap();
        self.figures.outcomes_in_memory += peek.outcomes.len();
        self.figures.announcements_in_memory += peek.announcements;
        let last = self.events.last_key_value().map_or(0, |(number, _)| *number);
        for event in peek.events(last) {
            let id = event.outgoing.id.to_string();
            let body: serde_json::Value = serde_json::from_slice(&event.outgoing.body).unwrap();
            self.same_id(body["symbol"].as_str().unwrap(), &id);
            let stored = self.bodies.entry(id.clone()).or_insert_with(|| event.outgoing.body.clone());
            if *stored != event.outgoing.body {
                self.broken.push(format!("{id} is stored with another body than was sent"));
            }
            self.open.extend(paths.keys().map(|endpoint| (event.number, *endpoint)));
            let exchange = event.outgoing.exchange.map(tocsin_core::model::Exchange::name);
            self.created.insert(id.clone(), event.created.0);
            self.events.insert(event.number, Stored { id, created: event.created.0, exchange });
        }
        for (number, endpoint) in std::mem::take(&mut self.open) {
            let Some((path, there)) = paths.get(&endpoint) else { continue };
            let pair = (self.events[&number].id.clone(), path.clone());
            match peek.delivery(endpoint, number) {
                // Never meant for it; or it is gone, and with it what waited.
                None => continue,
                Some(DeliveryState::Concluded) if !there => continue,
                Some(DeliveryState::Concluded) => self.record(pair, None, dead_at),
                Some(DeliveryState::Retrying { attempt, due }) => {
                    self.record(pair, Some((attempt.into(), due.0)), dead_at);
                    self.open.insert((number, endpoint));
                }
                Some(DeliveryState::Waiting) => drop(self.open.insert((number, endpoint))),
            }
        }
        for outcome in &peek.outcomes {
            let Some((path, true)) = paths.get(&outcome.endpoint.0) else { continue };
            let pair = (outcome.event.to_string(), path.clone());
            match outcome.outcome {
                Outcome::Delivered | Outcome::Failed => self.record(pair, None, dead_at),
                Outcome::Retry { attempt, due } => {
                    self.record(pair, Some((attempt.into(), due.0)), dead_at);
                }
                Outcome::Expired => self.broken.push(format!("{pair:?} expired")),
            }
        }
    }

    fn record(&mut self, pair: Pair, retry: Option<(u32, i64)>, at: i64) {
        if self.recorded.get(&pair).is_some_and(|known| known.retry.is_none()) {
            return;
        }
        let final_answer = |sent: &Sent| matches!(sent.answer, Answer::Taken | Answer::Refused);
        let answered = self.sent.get(&pair).is_some_and(|all| all.iter().any(final_answer));
        if retry.is_none() && !answered {
            let all = self.sent.get(&pair);
            self.broken.push(format!("{pair:?} is concluded, but nobody had it: {all:?}"));
        }
        self.recorded.insert(pair, Recorded { retry, at });
    }

    /// Pairs that may have a row: not recorded as concluded, or asked for again.
    pub(crate) fn may_wait(&self) -> usize {
        self.open.len() + self.asked.len()
    }

    /// Pairs not recorded as concluded.
    pub(crate) fn open_pairs(&self) -> usize {
        self.open.len()
    }

    /// What is missing once all that waits has been sent.
    pub(crate) fn nothing_lost(&mut self, answered: &[Announced], peek: &Peek, all: &[Expecting<'_>]) {
        for Announced { position, tickers } in answered {
            if !peek.has_announcement(*position) {
                self.broken.push(format!("{position} was answered and is lost: {tickers:?}"));
            }
            for ticker in tickers {
                let id = self.by_symbol.get(&format!("{ticker}USDT"));
                if !id.is_some_and(|id| self.created.contains_key(id)) {
                    self.broken.push(format!("{ticker} of {position} has no event"));
                }
            }
        }
        for endpoint in all {
            for event in self.events.values() {
                let wanted = endpoint.only.is_none() || endpoint.only == event.exchange;
                let pair = (event.id.clone(), endpoint.path.to_owned());
                let sent = self.sent.get(&pair);
                if !wanted {
                    if let Some(sent) = sent {
                        self.broken.push(format!("{pair:?} was not wanted: {sent:?}"));
                    }
                    continue;
                }
                let arrived = |sent: &Sent| matches!(sent.answer, Answer::Taken | Answer::Refused);
                if event.created > endpoint.since && !sent.is_some_and(|all| all.iter().any(arrived)) {
                    self.broken.push(format!("{pair:?} never arrived: {sent:?}"));
                }
            }
        }
        for (pair, times) in &self.asked {
            let sent = self.sent.get(pair).map_or(&[][..], Vec::as_slice);
            let missing: Vec<_> = times.iter().filter(|at| !sent.iter().any(|s| s.at > **at)).collect();
            if !missing.is_empty() {
                self.broken.push(format!("{pair:?} was asked for at {missing:?} and not sent: {sent:?}"));
            }
        }
    }

    /// First attempts start in the order of events: what arrives out of it was under way at the same
    /// time.
    pub(crate) fn in_order(&mut self, paths: impl Iterator<Item = String>) {
        for path in paths {
            let mut firsts: Vec<(i64, u64)> = Vec::new();
            for (number, event) in &self.events {
                let sent = self.sent.get(&(event.id.clone(), path.clone()));
                firsts.extend(sent.and_then(|all| all.iter().map(|s| s.at).min()).map(|at| (at, *number)));
            }
            firsts.sort_unstable();
            let mut waiting: BTreeSet<u64> = firsts.iter().map(|(_, number)| *number).collect();
            for (_, number) in firsts {
                waiting.remove(&number);
                let overtaken = waiting.range(..number).count();
                if overtaken >= IN_FLIGHT {
                    self.broken.push(format!("{path}: event {number} overtook {overtaken}"));
                }
            }
        }
    }

    /// When an event became known, if a dead process had stored it.
    pub(crate) fn created(&self, id: &str) -> Option<i64> {
        self.created.get(id).copied()
    }

    pub(crate) fn figures(&self) -> Figures {
        Figures { events: self.events.len(), deliveries: self.sent.len(), ..self.figures }
    }

    /// Panics with what is broken.
    pub(crate) fn assert_sound(&self, when: &str) {
        let shown: Vec<&String> = self.broken.iter().take(20).collect();
        assert!(shown.is_empty(), "{when}: {} broken promises: {shown:#?}", self.broken.len());
    }
}
