//! Attempts onto connections, connections to receivers, names to addresses.
//!
//! An attempt takes an idle connection of its endpoint if there is one, else one is made for it: so what
//! hangs holds its own connection and nobody else's. Warm connections are made ahead, two an endpoint,
//! and given up when the receiver's idle limit is near or the name no longer leads to their address.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use mio::Token;
use tocsin_core::limits;
use tocsin_core::time::{Mono, Now};
use tocsin_core::webhook::attempt::{FailureClass, Report};
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::dispatcher::{Handling, Start, Ticket};
use tocsin_core::webhook::endpoint::{Endpoint, State};
use tocsin_core::webhook::event::Event as OutgoingEvent;
use tocsin_core::webhook::lane::{Purpose, QueuedEvent};
use tocsin_core::webhook::outgoing::{Outgoing, Phases};
use tocsin_core::webhook::signature::Delivery;

use super::connection::{Answer, Attempt, Connection, Event, Exchange, Failure, Then};
use super::notes::Details;
use super::receiver::Receiver;
use super::stats::add;
use super::{
    DIALS_PER_TURN, EVENTS_PER_TURN, FIRST_CONNECTION, HANDSHAKES_PER_TURN, POOLED_EXCHANGES, WAKER,
    WebhookThread,
};
use crate::net::Stream;
use crate::net::egress::EgressAnswer;

impl WebhookThread {
    // ---- Attempts ------------------------------------------------------------------------------

    pub(super) fn start(&mut self, start: Start<Outgoing>, now: Now) {
        let Start { ticket, endpoint, purpose, event, deadline } = start;
        let Some(event) = event.or_else(|| self.ping(endpoint, now)) else { return };
        let queued = match purpose {
            Purpose::Event { attempt: 1 } => now.wall.micros_since(event.created),
            _ => 0,
        };
        let mut attempt = Box::new(Attempt {
            ticket,
            endpoint,
            purpose,
            event,
            started: now,
            deadline,
            phases: Phases {
                queue_us: u32::try_from(queued.max(0)).unwrap_or(u32::MAX),
                ..Phases::default()
            },
            written: Mono::NEVER,
            kept: false,
            address: None,
        });
        match self.idle_connection(endpoint, now.mono) {
            Some(slot) => {
                attempt.kept = true;
                self.send(slot, attempt);
            }
            None => self.cold.push_back(attempt),
        }
    }

    fn ping(&self, endpoint: EndpointId, now: Now) -> Option<Arc<QueuedEvent<Outgoing>>> {
        let id = i64::try_from(endpoint.0).unwrap_or(i64::MAX);
        let outgoing = Outgoing::of(&OutgoingEvent::ping(&self.id_key, id, now.wall)).ok()?;
        Some(Arc::new(outgoing.queued(0, now.wall)))
    }

    /// The idle connection of an endpoint that was used last: the likeliest to be alive. One past its time
    /// is left to its timer, which is due.
    fn idle_connection(&mut self, endpoint: EndpointId, now: Mono) -> Option<u32> {
        let idle = &mut self.receivers.get_mut(&endpoint)?.idle;
        while let Some(slot) = idle.pop() {
            if self.connections.get_mut(slot).is_some_and(|connection| connection.may_carry(now)) {
                return Some(slot);
            }
        }
        None
    }

    /// Renders, signs and writes.
    fn send(&mut self, slot: u32, mut attempt: Box<Attempt>) {
        let now = (self.clock)();
        let (Some(connection), Some(receiver)) =
            (self.connections.get_mut(slot), self.receivers.get(&attempt.endpoint))
        else {
            return self.failed(*attempt, Failure::new(FailureClass::Reset, "the connection has gone"));
        };
        let mut exchange = self.exchanges.pop().unwrap_or_else(|| Box::new(Exchange::new()));
        exchange.request.clear();
        let event = &attempt.event.payload;
        let delivery = Delivery {
            id: &event.id,
            kind: event.kind,
            attempt: attempt.number(),
            sent_at: now.wall,
            body: &event.body,
        };
        receiver.head.write(&receiver.signers, &delivery, &mut exchange.request);
        let news = attempt.purpose == Purpose::Event { attempt: 1 } && attempt.kept;
        let created = attempt.event.created;
        attempt.written = Mono::NEVER;
        connection.send(attempt, exchange, now.mono);
        if news {
            let after = (self.clock)().wall.micros_since(created).max(0).unsigned_abs();
            self.local.first_write_ns.record(after.saturating_mul(1_000));
        }
        self.set_timer(slot);
    }

    fn finished(&mut self, attempt: Attempt, report: &Report, detail: Option<Box<str>>) {
        let now = (self.clock)();
        let random = self.next_random();
        if let Some(us) = attempt.phases.first_byte_us {
            self.local.first_byte_us.record(u64::from(us));
        }
        let endpoint = attempt.endpoint;
        let was_ailing = self.is_ailing(endpoint);
        match self.dispatcher.on_result(now, attempt.ticket, report, random) {
            Handling::Settled => self.details.push_back(Details {
                started_at: attempt.wall(),
                phases: attempt.phases,
                address: attempt.address,
                status: match report {
                    Report::Answered { status, .. } => Some(*status),
                    Report::Failed { .. } => None,
                },
                detail,
                event: attempt.event,
            }),
            Handling::Resend => {
                add(&self.stats.resent);
                let phases = Phases { queue_us: attempt.phases.queue_us, ..Phases::default() };
                self.cold.push_back(Box::new(Attempt {
                    kept: false,
                    phases,
                    written: Mono::NEVER,
                    ..attempt
                }));
            }
            Handling::Unknown => {}
        }
        if was_ailing && !self.is_ailing(endpoint) {
            self.warm_at(endpoint, now.mono);
        }
    }

    /// Whether an endpoint's last attempt timed out.
    fn is_ailing(&self, endpoint: EndpointId) -> bool {
        self.dispatcher.endpoint(endpoint).is_some_and(Endpoint::is_ailing)
    }

    fn failed(&mut self, attempt: Attempt, failure: Failure) {
        self.finished(attempt, &failure.report, failure.detail);
    }

    // ---- Connections ---------------------------------------------------------------------------

    /// Moves epoll's events into the queues.
    pub(super) fn take_events(&mut self) -> usize {
        let looks = self.waited || !self.is_busy();
        if !looks || (!self.waited && self.poll.poll(&mut self.events, Some(Duration::ZERO)).is_err()) {
            return 0;
        }
        self.waited = false;
        let mut taken = 0;
        for event in &self.events {
            if event.token() == WAKER {
                continue;
            }
            let Some(slot) = event.token().0.checked_sub(FIRST_CONNECTION) else { continue };
            let Ok(slot) = u32::try_from(slot) else { continue };
            taken += 1;
            let opening = self.connections.get_mut(slot).is_some_and(|connection| connection.is_opening());
            if opening { self.shaking.push_back(slot) } else { self.ready.push_back(slot) }
        }
        self.events.clear();
        taken
    }

    /// Drives connections that had an event: few handshakes a turn, for each costs as much as dozens of
    /// answers.
    pub(super) fn drive_ready(&mut self) -> usize {
        let mut driven = 0;
        for _ in 0..HANDSHAKES_PER_TURN {
            let Some(slot) = self.shaking.pop_front() else { break };
            self.drive(slot);
            driven += 1;
        }
        for _ in 0..EVENTS_PER_TURN {
            let Some(slot) = self.ready.pop_front() else { break };
            self.drive(slot);
            driven += 1;
        }
        driven
    }

    pub(super) fn drive_timers(&mut self, now: Now) -> usize {
        let mut driven = 0;
        while driven < EVENTS_PER_TURN {
            let Some((at, slot)) = self.timers.first().copied().filter(|(at, _)| *at <= now.mono) else {
                break;
            };
            self.timers.remove(&(at, slot));
            driven += 1;
            let Some(connection) = self.connections.get_mut(slot) else { continue };
            connection.timer = Mono::NEVER;
            if connection.deadline() > now.mono {
                self.set_timer(slot);
            } else {
                self.drive(slot);
            }
        }
        driven
    }

    /// Sees to it that a connection is looked at by its deadline. One whose deadline has moved away keeps
    /// its entry, which finds the new one when it comes: the pass in which an event goes to everyone need
    /// not touch the timers of thousands.
    fn set_timer(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let deadline = connection.deadline();
        if deadline >= connection.timer {
            return;
        }
        self.timers.remove(&(connection.timer, slot));
        self.timers.insert((deadline, slot));
        connection.timer = deadline;
    }

    fn drive(&mut self, slot: u32) {
        let now = (self.clock)();
        self.hear_first(now);
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let endpoint = connection.endpoint;
        let Some(receiver) = self.receivers.get_mut(&endpoint) else { return };
        let (host, base) = (Arc::clone(&receiver.host), &self.tls);
        let secure = |tcp, address: std::net::SocketAddr| {
            Stream::connect_tls(tcp, &receiver.tls_for(address.ip(), base), &host)
        };
        let event = connection.drive(secure, self.poll.registry(), now.mono, &mut self.scratch);
        match event {
            Event::Quiet => self.set_timer(slot),
            Event::Opened => self.opened(slot, endpoint),
            Event::Idle => {
                receiver.draining = receiver.draining.saturating_sub(1);
                self.idle(slot, endpoint);
            }
            Event::Answered(attempt, answer) => self.answered(slot, *attempt, answer),
            Event::Failed(attempt, failure) => {
                self.drop_connection(slot, now);
                match attempt {
                    Some(attempt) => self.failed(*attempt, failure),
                    None => self.could_not_warm(endpoint, now),
                }
            }
            Event::Closed => self.drop_connection(slot, now),
        }
    }

    fn opened(&mut self, slot: u32, endpoint: EndpointId) {
        add(&self.stats.opened);
        let Some(connection) = self.connections.get_mut(slot) else { return };
        if connection.resumed() {
            add(&self.stats.resumed);
        }
        match connection.take_attempt() {
            Some(attempt) => self.send(slot, attempt),
            None => {
                if let Some(receiver) = self.receivers.get_mut(&endpoint) {
                    receiver.warming = receiver.warming.saturating_sub(1);
                    receiver.warmed();
                }
                self.idle(slot, endpoint);
            }
        }
    }

    /// A connection is idle: kept, if there are not enough of them.
    fn idle(&mut self, slot: u32, endpoint: EndpointId) {
        let most = usize::from(limits::WEBHOOK_WARM_CONNECTIONS);
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let exchange = connection.take_exchange();
        let (peer, fresh) = (connection.peer(), connection.is_unused());
        self.pool(exchange);
        let keep = self.receivers.get_mut(&endpoint).is_some_and(|receiver| {
            let keep = receiver.idle.len() < most && peer.is_some_and(|peer| receiver.leads_to(peer.ip()));
            if keep {
                receiver.idle.push(slot);
            }
            keep
        });
        if !keep {
            let now = (self.clock)();
            return self.drop_connection(slot, now);
        }
        self.set_timer(slot);
        if fresh {
            // Its end may have come with the handshake; no further event would announce it.
            self.ready.push_back(slot);
        }
    }

    fn answered(&mut self, slot: u32, attempt: Attempt, answer: Answer) {
        let endpoint = attempt.endpoint;
        match answer.then {
            Then::Reuse => self.idle(slot, endpoint),
            Then::Drain if self.drains(endpoint) => {
                self.set_timer(slot);
                // The rest may have come in the same flight; no further event would announce it.
                self.ready.push_back(slot);
            }
            Then::Drain | Then::Close => {
                let now = (self.clock)();
                self.drop_connection(slot, now);
            }
        }
        self.finished(attempt, &answer.report, answer.detail);
    }

    /// One more answer's body is waited for; whether that may be: as many connections as may be in flight.
    fn drains(&mut self, endpoint: EndpointId) -> bool {
        let Some(receiver) = self.receivers.get_mut(&endpoint) else { return false };
        receiver.draining += 1;
        receiver.draining <= usize::from(limits::WEBHOOK_IN_FLIGHT)
    }

    fn pool(&mut self, exchange: Option<Box<Exchange>>) {
        if self.exchanges.len() < POOLED_EXCHANGES {
            self.exchanges.extend(exchange);
        }
    }

    /// Forgets a connection; one that was kept warm is made anew after a while.
    fn drop_connection(&mut self, slot: u32, now: Now) {
        let Some(mut connection) = self.connections.remove(slot) else { return };
        self.timers.remove(&(connection.timer, slot));
        self.open_connections = self.open_connections.saturating_sub(1);
        let exchange = connection.take_exchange();
        self.pool(exchange);
        let seed = self.next_random();
        let endpoint = connection.endpoint;
        let (was_idle, used) = (connection.is_idle(), !connection.is_unused());
        let drained = connection.is_draining();
        let warming = connection.is_opening() && connection.is_spare();
        let lived = connection.since_opened(now.mono);
        if let Some(attempt) = connection.close(self.poll.registry()) {
            self.failed(*attempt, Failure::new(FailureClass::Reset, "the connection was closed"));
        }
        let Some(receiver) = self.receivers.get_mut(&endpoint) else { return };
        receiver.connections = receiver.connections.saturating_sub(1);
        receiver.warming = receiver.warming.saturating_sub(usize::from(warming));
        receiver.draining = receiver.draining.saturating_sub(usize::from(drained));
        receiver.idle.retain(|idle| *idle != slot);
        if was_idle || used {
            let pause = receiver.rewarm_pause(lived, used, seed);
            self.warm_at(endpoint, now.mono + pause);
        }
    }

    /// Closes every connection of an endpoint that goes.
    pub(super) fn close_all(&mut self, endpoint: EndpointId) {
        for slot in 0..self.connections.end() {
            if self.connections.get_mut(slot).is_some_and(|c| c.endpoint == endpoint)
                && let Some(mut connection) = self.connections.remove(slot)
            {
                self.timers.remove(&(connection.timer, slot));
                self.open_connections = self.open_connections.saturating_sub(1);
                let exchange = connection.take_exchange();
                self.pool(exchange);
                if let Some(attempt) = connection.close(self.poll.registry()) {
                    self.abandon(attempt.ticket);
                }
            }
        }
    }

    // ---- Dialling ------------------------------------------------------------------------------

    /// Makes connections for attempts that found none idle.
    pub(super) fn open_cold(&mut self) -> usize {
        let mut opened = 0;
        while opened < DIALS_PER_TURN {
            let Some(attempt) = self.cold.pop_front() else { break };
            opened += 1;
            self.open_for(attempt);
        }
        opened
    }

    fn open_for(&mut self, attempt: Box<Attempt>) {
        let now = (self.clock)();
        let endpoint = attempt.endpoint;
        match self.addresses(endpoint, now) {
            Known::Fresh => self.dial(endpoint, Some(attempt), now),
            Known::Refused(why) => self.failed(*attempt, Failure::new(FailureClass::Address, why)),
            Known::No => {
                self.ask(endpoint, now);
                if let Some(receiver) = self.receivers.get_mut(&endpoint) {
                    receiver.waiting.push(*attempt);
                }
            }
            Known::Gone => self.abandon(attempt.ticket),
        }
    }

    /// An attempt whose endpoint has been removed: the dispatcher counts it no longer, and nobody is told.
    pub(super) fn abandon(&mut self, ticket: Ticket) {
        let now = (self.clock)();
        self.dispatcher.on_result(now, ticket, &Report::failed(FailureClass::Reset), 0);
    }

    /// Whether an endpoint's addresses may be used now. A literal one is vetted each time.
    fn addresses(&mut self, endpoint: EndpointId, now: Now) -> Known {
        let Some(receiver) = self.receivers.get_mut(&endpoint) else { return Known::Gone };
        if let Some(address) = receiver.literal() {
            return match self.policy.check(address) {
                Ok(()) => {
                    receiver.set_addresses(Box::new([address]), Mono::NEVER);
                    Known::Fresh
                }
                Err(why) => Known::Refused(format!("{address}: {why}")),
            };
        }
        if receiver.fresh_addresses(now.mono).is_some() { Known::Fresh } else { Known::No }
    }

    fn dial(&mut self, endpoint: EndpointId, attempt: Option<Box<Attempt>>, now: Now) {
        let slot = self.connections.next_free();
        let Some((receiver, addresses)) = self.receivers.get_mut(&endpoint).and_then(|receiver| {
            let addresses = receiver.fresh_addresses(now.mono)?.to_vec();
            Some((receiver, addresses))
        }) else {
            if let Some(attempt) = attempt {
                self.failed(*attempt, Failure::new(FailureClass::Dns, "the addresses are no longer fresh"));
            }
            return;
        };
        let token = Token(FIRST_CONNECTION + slot as usize);
        let warming = attempt.is_none();
        let mut connection = Connection::new(endpoint, token, attempt);
        connection.open(&addresses, receiver.port, receiver.turn, self.poll.registry(), now.mono);
        receiver.turn = receiver.turn.wrapping_add(1);
        receiver.connections += 1;
        receiver.warming += usize::from(warming);
        self.open_connections += 1;
        let slot = self.connections.insert(connection);
        self.drive(slot);
    }

    // ---- Names ---------------------------------------------------------------------------------

    fn ask(&mut self, endpoint: EndpointId, now: Now) {
        let Some(receiver) = self.receivers.get_mut(&endpoint) else { return };
        if receiver.asked_at.is_some() {
            return;
        }
        receiver.asked_at = Some(now.mono);
        self.resolving.insert(endpoint);
        add(&self.stats.lookups);
        if !self.resolver.ask(endpoint.0, &receiver.host) {
            self.unasked.push_back(endpoint);
        }
    }

    /// Asks what could not be asked before, and takes answers.
    pub(super) fn take_lookups(&mut self) -> usize {
        let mut work = 0;
        while let Some(endpoint) = self.unasked.front().copied() {
            let asked = match self.receivers.get(&endpoint) {
                Some(receiver) => self.resolver.ask(endpoint.0, &receiver.host),
                None => true,
            };
            if !asked {
                break;
            }
            self.unasked.pop_front();
            work += 1;
        }
        while let Some(answer) = self.resolver.poll() {
            self.take_lookup(answer);
            work += 1;
        }
        work
    }

    fn take_lookup(&mut self, answer: EgressAnswer) {
        let now = (self.clock)();
        let endpoint = EndpointId(answer.id);
        self.resolving.remove(&endpoint);
        let vetted = match answer.result {
            Ok(list) => match self.policy.check_answer(&list) {
                Ok(()) => Ok(list),
                Err(why) if why.code() == "dns" => Err((FailureClass::Dns, why.to_string())),
                Err(why) => Err((FailureClass::Address, why.to_string())),
            },
            Err(why) => Err((FailureClass::Dns, why.to_string())),
        };
        let Some(receiver) = self.receivers.get_mut(&endpoint) else { return };
        receiver.asked_at = None;
        let mut waiting = std::mem::take(&mut receiver.waiting);
        for attempt in &mut waiting {
            attempt.phases.dns_us = Some(Phases::micros(now.mono.since(attempt.started.mono)));
        }
        match vetted {
            Ok(list) => {
                receiver.set_addresses(list.into(), now.mono + answer.fresh_for);
                self.drop_strays(endpoint, now);
                for attempt in waiting {
                    self.dial(endpoint, Some(Box::new(attempt)), now);
                }
                self.warm_at(endpoint, now.mono);
            }
            Err((class, why)) => {
                if class == FailureClass::Address {
                    receiver.forget_addresses();
                    self.drop_strays(endpoint, now);
                }
                let seed = self.next_random();
                let pause = self.receivers.get_mut(&endpoint).map(|receiver| receiver.warm_pause(seed));
                for attempt in waiting {
                    self.failed(attempt, Failure::new(class, why.as_str()));
                }
                if let Some(pause) = pause {
                    self.warm_at(endpoint, now.mono + pause);
                }
            }
        }
    }

    /// Closes idle connections to addresses that the name no longer leads to.
    fn drop_strays(&mut self, endpoint: EndpointId, now: Now) {
        let Some(receiver) = self.receivers.get(&endpoint) else { return };
        let leads_to = |address: IpAddr, receiver: &Receiver| receiver.leads_to(address);
        let mut strays = Vec::new();
        for slot in &receiver.idle {
            let peer = self.connections.get_mut(*slot).and_then(|connection| connection.peer());
            if peer.is_none_or(|peer| !leads_to(peer.ip(), receiver)) {
                strays.push(*slot);
            }
        }
        for slot in strays {
            self.drop_connection(slot, now);
        }
    }

    /// Attempts that wait for a name past their deadline: the resolver has its own limit, this is for
    /// the case that it does not answer at all.
    pub(super) fn expire_unresolved(&mut self, now: Now) {
        let mut late = Vec::new();
        for endpoint in &self.resolving {
            if let Some(receiver) = self.receivers.get_mut(endpoint) {
                late.extend(receiver.waiting.extract_if(.., |attempt| attempt.deadline <= now.mono));
            }
        }
        for attempt in late {
            self.failed(attempt, Failure::new(FailureClass::Timeout, "the name was not resolved in time"));
        }
    }

    // ---- Warmth --------------------------------------------------------------------------------

    /// Looks after an endpoint's warm connections at `at`, or earlier if that is planned.
    pub(super) fn warm_at(&mut self, endpoint: EndpointId, at: Mono) {
        let Some(receiver) = self.receivers.get_mut(&endpoint) else { return };
        if receiver.warm_at <= at {
            return;
        }
        self.warm.remove(&(receiver.warm_at, endpoint));
        receiver.warm_at = at;
        self.warm.insert((at, endpoint));
    }

    pub(super) fn keep_warm(&mut self, now: Now) -> usize {
        let mut kept = 0;
        while kept < DIALS_PER_TURN {
            let Some((at, endpoint)) = self.warm.first().copied().filter(|(at, _)| *at <= now.mono) else {
                break;
            };
            self.warm.remove(&(at, endpoint));
            if let Some(receiver) = self.receivers.get_mut(&endpoint) {
                receiver.warm_at = Mono::NEVER;
            }
            self.warm_one(endpoint, now);
            kept += 1;
        }
        kept
    }

    fn warm_one(&mut self, endpoint: EndpointId, now: Now) {
        // One that times out gets no connection ahead of its attempts: each timeout would cost a handshake,
        // and the others wait for it.
        let answers = |health: &Endpoint| health.state() == State::Active && !health.is_ailing();
        if !self.dispatcher.endpoint(endpoint).is_some_and(answers) {
            return;
        }
        match self.addresses(endpoint, now) {
            Known::Fresh => {
                while self.receivers.get(&endpoint).is_some_and(|receiver| receiver.lacks_warmth()) {
                    let before = self.open_connections;
                    self.dial(endpoint, None, now);
                    if self.open_connections == before {
                        break;
                    }
                }
                if let Some(receiver) = self.receivers.get(&endpoint)
                    && receiver.literal().is_none()
                {
                    let again = receiver.fresh_until().min(now.mono + limits::WEBHOOK_RESOLVE_AGAIN);
                    self.warm_at(endpoint, again);
                }
            }
            Known::No => self.ask(endpoint, now),
            Known::Refused(_) => {
                let seed = self.next_random();
                let Some(receiver) = self.receivers.get_mut(&endpoint) else { return };
                let pause = receiver.warm_pause(seed);
                self.warm_at(endpoint, now.mono + pause);
            }
            Known::Gone => {}
        }
    }

    fn could_not_warm(&mut self, endpoint: EndpointId, now: Now) {
        let seed = self.next_random();
        let Some(receiver) = self.receivers.get_mut(&endpoint) else { return };
        let pause = receiver.warm_pause(seed);
        self.warm_at(endpoint, now.mono + pause);
    }
}

/// What is known of an endpoint's addresses.
enum Known {
    /// Vetted and fresh.
    Fresh,
    /// The policy refuses them.
    Refused(String),
    /// They must be asked for.
    No,
    /// There is no such endpoint.
    Gone,
}
