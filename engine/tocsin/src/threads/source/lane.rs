//! One source on its thread: its connections, its budget, its detector.
//!
//! Contract: [`Lane::on_event`] moves one connection on, [`Lane::on_time`] does what is due (opening,
//! time limits, requests) and says when something is due again, [`Lane::housekeep`] replaces old
//! connections and reports. Nothing blocks. A turn without an answer, and an answer that says nothing
//! new, allocate nothing outside the TLS library. Owner: a source thread. Every failure of a peer ends
//! in a [`Failure`]: counted, and the connection (or its address) rests; the others go on.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use mio::{Registry, Token};
use tocsin_core::detect::told::Told;
use tocsin_core::detect::{Detector, Findings, Outcome};
use tocsin_core::http1::writer::{RequestError, RequestTemplate};
use tocsin_core::limits;
use tocsin_core::source::backoff::{AddressGuard, Backoff, Failure, Health, jittered, retry_delay};
use tocsin_core::source::pacing::{Mode, Pace, Pacer};
use tocsin_core::source::{SourceSpec, SourceState, SourceStatus};
use tocsin_core::time::{Mono, Now};

use super::announce::Teller;
use super::publish::Publisher;
use super::rehearsal::Rehearsal;
use super::stats::{Count, Local, SourceStats};
use super::tap::{Poll, Tap};
use super::{Random, SLOT_BITS};
use crate::net::dns::{Addresses, ResolverClient};
use crate::net::http::{Cause, Event, HttpConnection, Peer};
use crate::net::tls::ClientTls;
use crate::net::url::BaseUrl;
use crate::record::Outcome as Recorded;

/// What a source needs to run.
pub struct LaneParts {
    /// The source.
    pub spec: &'static SourceSpec,
    /// Where to ask: the source's own address, or the configured one.
    pub url: BaseUrl,
    /// How to check it.
    pub tls: ClientTls,
    /// Connections, at least one for each local address, at most [`limits::CONNECTIONS_PER_SOURCE`].
    pub connections: usize,
    /// Local addresses to leave from; empty leaves it to the kernel.
    pub bind: Vec<IpAddr>,
    /// Mean request budget of one local address.
    pub requests_per_second: f64,
    /// How the budget is spread.
    pub mode: Mode,
    /// With what the store remembers loaded.
    pub detector: Detector,
    /// With what the store remembers loaded, under the exchange's own identifiers.
    pub told: Told,
    /// Where to publish counts.
    pub stats: Arc<SourceStats>,
}

/// What a lane works with during a turn.
pub(super) struct Context<'a> {
    pub(super) now: Now,
    pub(super) clock: fn() -> Now,
    pub(super) registry: &'a Registry,
    pub(super) scratch: &'a mut [u8],
    pub(super) publisher: &'a mut Publisher,
    /// Where there is a recorder.
    pub(super) tap: Option<&'a mut Tap>,
    pub(super) random: &'a mut Random,
}

struct Slot {
    http: HttpConnection,
    group: usize,
    /// The list asked for last, and whether with an entity tag.
    list: usize,
    conditional: bool,
    sent_at: Mono,
    backoff: Backoff,
    /// Its own limits, jittered, so that connections are not replaced together.
    age: Duration,
    requests: u32,
}

/// The connections of one local address share one budget and one guard.
struct Group {
    pacer: Pacer,
    guard: AddressGuard,
    slots: usize,
}

struct List {
    template: RequestTemplate,
    etag: Vec<u8>,
}

/// A running source.
pub(super) struct Lane {
    spec: &'static SourceSpec,
    /// Which of its thread's.
    index: usize,
    peer: Peer,
    slots: Vec<Slot>,
    groups: Vec<Group>,
    lists: Vec<List>,
    detector: Detector,
    teller: Teller,
    findings: Findings,
    rehearsal: Rehearsal,
    health: Health,
    local: Local,
    stats: Arc<SourceStats>,
    addresses: Addresses,
    ask_at: Mono,
    reported: Option<SourceState>,
    report_at: Mono,
    due: Mono,
}

impl Lane {
    pub(super) fn new(index: usize, parts: LaneParts, random: &mut Random) -> Result<Lane, RequestError> {
        let spec = parts.spec;
        let host = parts.url.host_header();
        let lists = spec.lists.iter().map(|list| {
            let target = [parts.url.prefix.as_ref(), list.target].concat();
            let template = RequestTemplate::get(&host, &target, spec.headers)?;
            Ok(List { template, etag: Vec::with_capacity(limits::ETAG_BYTES) })
        });
        let lists = lists.collect::<Result<Vec<_>, RequestError>>()?;

        let mean = parts.requests_per_second;
        let own_server = BaseUrl::parse(spec.base_url).is_ok_and(|exchange| exchange.host != parts.url.host);
        let budget = spec.pacing.with_rate(mean, own_server);
        let weights: Vec<u16> = spec.lists.iter().map(|list| list.weight).collect();
        let binds: Vec<Option<IpAddr>> =
            if parts.bind.is_empty() { vec![None] } else { parts.bind.into_iter().map(Some).collect() };
        let count = parts.connections.clamp(binds.len(), limits::CONNECTIONS_PER_SOURCE.max(binds.len()));
        let groups: Vec<Group> = (0..binds.len())
            .map(|i| Group {
                pacer: Pacer::new(budget, parts.mode, &weights, i as f64 / binds.len() as f64),
                guard: AddressGuard::new(),
                slots: (count - i).div_ceil(binds.len()),
            })
            .collect();
        let slots = binds.iter().enumerate().cycle().take(count).enumerate().map(|(i, (group, bind))| Slot {
            http: HttpConnection::new(Token(index << SLOT_BITS | i), *bind),
            group,
            list: 0,
            conditional: false,
            sent_at: Mono(0),
            backoff: Backoff::new(),
            age: limits::CONNECTION_AGE * 4 / 5 + jittered(limits::CONNECTION_AGE * 2 / 5, random.next()),
            requests: limits::CONNECTION_REQUESTS * 4 / 5
                + random.next() % (limits::CONNECTION_REQUESTS * 2 / 5),
        });
        let patience =
            Duration::try_from_secs_f64(f64::from(limits::STALE_POLLS) / mean).unwrap_or(Duration::MAX);
        let mut local = Local::default();
        local.rates = groups.first().map_or((0.0, 0.0), |g| g.pacer.rates());
        local.last_item = parts.detector.newest();
        let addresses: Addresses = parts.url.literal().into_iter().collect();
        Ok(Lane {
            spec,
            index,
            slots: slots.collect(),
            lists,
            local,
            groups,
            detector: parts.detector,
            teller: Teller::new(spec.name, spec.exchange, parts.told),
            findings: Findings::default(),
            rehearsal: Rehearsal::new(),
            health: Health::new(patience.clamp(limits::STALE_AFTER, limits::STALE_AT_MOST)),
            stats: parts.stats,
            // A host that is an address is never asked of the resolver.
            ask_at: if addresses.as_slice().is_empty() { Mono(0) } else { Mono::NEVER },
            addresses,
            peer: Peer { url: parts.url, tls: parts.tls },
            reported: None,
            report_at: Mono(0),
            due: Mono(0),
        })
    }

    /// See [`super::rehearsal`].
    pub(super) fn rehearse(&mut self, now: Now) {
        self.rehearsal.run(&mut self.detector, now);
    }

    /// When [`Lane::on_time`] has something to do.
    pub(super) fn due(&self) -> Mono {
        self.due
    }

    /// Something happened on connection `slot`.
    pub(super) fn on_event(&mut self, slot: usize, cx: &mut Context<'_>) -> usize {
        self.due = Mono(0);
        self.drive(slot, cx)
    }

    /// Does what is due.
    pub(super) fn on_time(&mut self, cx: &mut Context<'_>) -> usize {
        let now = cx.now.mono;
        let mut work = 0;
        for index in 0..self.slots.len() {
            let Some(slot) = self.slots.get_mut(index) else { break };
            if slot.http.is_closed()
                && slot.backoff.ready_at() <= now
                && !self.addresses.as_slice().is_empty()
            {
                slot.http.open(self.addresses.as_slice(), self.peer.url.port, cx.registry, now);
            }
            if slot.http.deadline() <= now {
                work += self.drive(index, cx);
            }
        }
        let mut due = Mono::NEVER;
        for group in 0..self.groups.len() {
            let (sent, next) = self.pace(group, cx);
            work += sent;
            due = due.min(next);
        }
        for slot in &self.slots {
            due = due.min(slot.http.deadline());
            if slot.http.is_closed() && !self.addresses.as_slice().is_empty() {
                due = due.min(slot.backoff.ready_at());
            }
        }
        self.due = due;
        work
    }

    /// Sends what the budget of `group` allows now; says when it allows more. With no connection
    /// free, the event that frees one comes back here.
    fn pace(&mut self, group: usize, cx: &mut Context<'_>) -> (usize, Mono) {
        let now = cx.now.mono;
        let mut sent = 0;
        loop {
            let Some(g) = self.groups.get_mut(group) else { return (sent, Mono::NEVER) };
            let guarded_until = g.guard.ready_at();
            if guarded_until > now {
                return (sent, guarded_until);
            }
            let mut rested = Mono::NEVER;
            let mut free: Option<(usize, Mono)> = None;
            for (index, slot) in self.slots.iter().enumerate() {
                if slot.group != group || !slot.http.is_idle() {
                } else if slot.backoff.ready_at() > now {
                    rested = rested.min(slot.backoff.ready_at());
                } else if free.is_none_or(|(_, sent_at)| slot.sent_at < sent_at) {
                    free = Some((index, slot.sent_at));
                }
            }
            let Some((index, _)) = free else { return (sent, rested) };
            match g.pacer.poll(cx.now) {
                Pace::Wait(until) => return (sent, until),
                Pace::Send { list } => {
                    self.send(index, list, now);
                    sent += 1 + self.drive(index, cx);
                }
            }
        }
    }

    fn send(&mut self, index: usize, list: usize, now: Mono) {
        let (Some(slot), Some(wanted)) = (self.slots.get_mut(index), self.lists.get(list)) else { return };
        let etag = (self.spec.conditional && !wanted.etag.is_empty()).then_some(wanted.etag.as_slice());
        if slot.http.send(&wanted.template, etag, now) {
            slot.list = list;
            slot.conditional = etag.is_some();
            slot.sent_at = now;
            self.local.add(Count::Polls, 1);
        }
    }

    fn drive(&mut self, index: usize, cx: &mut Context<'_>) -> usize {
        let Some(slot) = self.slots.get_mut(index) else { return 0 };
        match slot.http.drive(&self.peer, cx.registry, cx.now.mono, cx.scratch) {
            Event::Quiet => return 0,
            Event::Ready => {
                self.local.add(Count::Opened, 1);
                self.local.add(Count::Resumed, u64::from(slot.http.resumed() == Some(true)));
            }
            Event::Answer => self.answer(index, cx),
            // Not asked again out of turn: the server may have counted the request it did not answer.
            Event::Lapsed { .. } => self.local.add(Count::Lapsed, 1),
            Event::Failed(failure) => self.fail(index, failure, None, cx),
        }
        1
    }

    fn answer(&mut self, index: usize, cx: &mut Context<'_>) {
        let received = (cx.clock)();
        let Some(slot) = self.slots.get_mut(index) else { return };
        let Some(head) = slot.http.parser().head() else { return };
        let (status, encoded, list) = (head.status, head.encoded, slot.list);
        if let Some(failure) = Failure::of_status(status) {
            let asked = head.retry_after.map(|after| retry_delay(after, head.date, received.wall));
            self.fail(index, failure, asked, cx);
            return self.record(index, status, Recorded::Refused, received, cx);
        }
        if status == 304 && slot.conditional {
            self.detector.on_not_modified(list, received.mono);
            self.local.add(Count::NotModified, 1);
            self.succeed(index, received);
            return self.record(index, status, Recorded::NotModified, received, cx);
        }
        // 304 to an unconditional request, and a coding we did not offer, are nothing we can read.
        let readable = status != 304 && !encoded;
        let known = if readable { self.detector.recognise(list, slot.http.body(), received) } else { None };
        if readable
            && known.is_none()
            && self.detector.look_ahead(list, slot.http.body(), received, &mut self.findings)
        {
            self.local.add(Count::Ahead, 1);
            self.publish_findings(list, received, cx);
        }
        let Some(slot) = self.slots.get_mut(index) else { return };
        let outcome = match (readable, known) {
            (false, _) => None,
            (true, Some(known)) => Some(known),
            (true, None) => self.detector.read(list, slot.http.body_mut(), received, &mut self.findings).ok(),
        };
        let Some(outcome) = outcome else {
            self.findings.clear();
            self.fail(index, Failure::Unusable, None, cx);
            // What could not be read is kept if it was looked at.
            let seen = if status == 304 || encoded { Recorded::Refused } else { Recorded::Unusable };
            return self.record(index, status, seen, received, cx);
        };
        let recorded = match outcome {
            Outcome::Identical => Recorded::Identical,
            Outcome::OnlyNoise => Recorded::OnlyNoise,
            Outcome::Parsed(_) => Recorded::Parsed,
        };
        match outcome {
            Outcome::Identical => self.local.add(Count::Identical, 1),
            Outcome::OnlyNoise => self.local.add(Count::OnlyNoise, 1),
            Outcome::Parsed(parsed) => {
                self.publish_findings(list, received, cx);
                self.local.add(Count::Parsed, 1);
                self.local.add(Count::RowsSkipped, parsed.skipped as u64);
            }
        }
        if let (Some(slot), Some(list)) = (self.slots.get(index), self.lists.get_mut(list)) {
            list.etag.clear();
            list.etag.extend_from_slice(slot.http.parser().etag().unwrap_or_default());
        }
        self.detector.prepare(list);
        self.succeed(index, received);
        self.record(index, status, recorded, received, cx);
    }

    /// Leaves a copy for the recorder, last of all: announcements are on their way by now.
    fn record(&self, index: usize, status: u16, outcome: Recorded, received: Now, cx: &mut Context<'_>) {
        let (Some(tap), Some(slot)) = (cx.tap.as_mut(), self.slots.get(index)) else { return };
        let body = match outcome {
            Recorded::Parsed | Recorded::OnlyNoise | Recorded::Unusable => self.detector.last_body(slot.list),
            Recorded::Identical | Recorded::NotModified | Recorded::Refused => &[],
        };
        let small = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
        let poll = Poll {
            lane: small(self.index),
            list: small(slot.list),
            status,
            outcome,
            at: received.wall,
            elapsed_us: received.mono.since(slot.sent_at).as_micros().try_into().unwrap_or(u32::MAX),
        };
        tap.poll(poll, body);
    }

    fn succeed(&mut self, index: usize, received: Now) {
        self.health.succeed(received.mono);
        self.local.last_poll = Some(received.wall);
        if let Some(slot) = self.slots.get_mut(index) {
            slot.backoff.succeed();
        }
    }

    fn fail(&mut self, index: usize, failure: Failure, retry_after: Option<Duration>, cx: &mut Context<'_>) {
        let now = cx.now.mono;
        self.local.fail(failure);
        self.health.fail(failure);
        let Some(slot) = self.slots.get_mut(index) else { return };
        if let (Failure::Tls, Some(Cause::Tls(cause))) = (failure, slot.http.cause()) {
            self.local.fail_tls(cause);
        }
        let until = slot.backoff.fail(now, failure, retry_after, cx.random.next());
        if let Some(group) = self.groups.get_mut(slot.group) {
            group.guard.refused(index, failure, now, until);
        }
        if failure == Failure::Connect && self.ask_at != Mono::NEVER {
            // The address may have moved.
            self.ask_at = self.ask_at.min(now + limits::DNS_FRESH_FOR);
        }
    }

    /// What an answer brought goes out.
    fn publish_findings(&mut self, list: usize, received: Now, cx: &mut Context<'_>) {
        let list = self.spec.lists.get(list).map_or("", |l| l.name);
        self.teller.tell(list, received.wall, &mut self.findings, &mut self.local, cx);
        self.local.last_item = self.detector.newest();
    }

    /// Asks for the host's addresses when that is due.
    pub(super) fn resolve(&mut self, id: u32, resolver: &mut ResolverClient, cx: &mut Context<'_>) {
        let now = cx.now.mono;
        if self.ask_at <= now {
            // Refused or never answered, it is asked again after a while.
            resolver.ask(id, &self.peer.url.host);
            self.ask_at = now + limits::DNS_REFRESH + jittered(limits::DNS_REFRESH / 4, cx.random.next());
        }
    }

    /// The resolver's answer. A failed lookup leaves the addresses known before.
    pub(super) fn resolved(&mut self, addresses: Addresses, now: Mono) {
        if addresses.as_slice().is_empty() {
            self.local.fail(Failure::Connect);
            self.health.fail(Failure::Connect);
            self.ask_at = now + limits::DNS_FRESH_FOR;
        } else {
            self.addresses = addresses;
            self.due = Mono(0);
        }
    }

    /// Replaces old connections, publishes counts, reports the state.
    pub(super) fn housekeep(&mut self, cx: &mut Context<'_>) {
        let now = cx.now.mono;
        self.rotate(cx.registry, now);
        self.local.connections = 0;
        for slot in &mut self.slots {
            self.local.add(Count::Bytes, slot.http.take_bytes_read());
            self.local.connections += u64::from(slot.http.is_idle() || slot.http.is_busy());
        }
        let guarded = |slot: &Slot| self.groups.get(slot.group).is_some_and(|g| g.guard.ready_at() > now);
        let all_refused = self.slots.iter().all(|slot| slot.backoff.is_refused(now) || guarded(slot));
        let state = self.health.state(now, all_refused);
        if self.reported != Some(state) || self.report_at <= now {
            let status = SourceStatus {
                source: self.spec.name,
                exchange: self.spec.exchange,
                state,
                last_poll: self.local.last_poll,
                last_item: self.local.last_item,
            };
            self.reported = cx.publisher.report(status).then_some(state);
            self.report_at = now + limits::STATUS_PERIOD;
        }
        self.stats.publish(&self.local, state);
    }

    /// Closes connections that are near a limit, one at a time while another of the same address
    /// is there to ask; [`Lane::on_time`] opens them anew.
    fn rotate(&mut self, registry: &Registry, now: Mono) {
        for index in 0..self.slots.len() {
            let Some(slot) = self.slots.get(index) else { break };
            let group = slot.group;
            let alone = self.groups.get(group).is_some_and(|g| g.slots <= 1);
            let relieved = alone
                || self
                    .slots
                    .iter()
                    .enumerate()
                    .any(|(i, s)| i != index && s.group == group && s.http.is_idle());
            if let Some(slot) = self.slots.get_mut(index)
                && relieved
                && slot.http.wants_rotation(slot.age, slot.requests, now)
            {
                slot.http.close(registry);
                self.local.add(Count::Rotated, 1);
                self.due = Mono(0);
            }
        }
    }
}
