//! What the control plane asks of the webhook thread.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use tocsin_core::limits;
use tocsin_core::time::{Mono, Now};
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::dispatcher::Refusal;
use tocsin_core::webhook::endpoint::{Endpoint, SavedHealth, State};
use tocsin_core::webhook::event::{Event, EventKind};
use tocsin_core::webhook::lane::QueuedEvent;
use tocsin_core::webhook::outgoing::Outgoing;

use super::connection::Attempt;
use super::receiver::Receiver;
use super::{COMMANDS_PER_TURN, Wants, WebhookThread};
use crate::rings::{EndpointReport, EndpointSetup, ToWebhook, WebhookToJournal};

impl WebhookThread {
    /// None is taken while the journal thread's ring has no room: what is answered must be on its way to
    /// the disk, and the control plane answers "busy" meanwhile.
    pub(super) fn take_commands(&mut self, now: Now) -> usize {
        let mut taken = 0;
        while taken < COMMANDS_PER_TURN && !self.ledger.is_behind() {
            let Ok(command) = self.commands.pop() else { break };
            taken += 1;
            self.take_command(now, command);
        }
        taken
    }

    /// An answer that nobody waits for any more is dropped.
    fn take_command(&mut self, now: Now, command: ToWebhook) {
        match command {
            ToWebhook::Add(setup, reply) => match self.take_in_endpoint(now, &setup, None) {
                Ok(()) => self.waiters.verifications.entry(setup.id).or_default().push(reply),
                Err(refusal) => drop(reply.send(Err(refusal))),
            },
            ToWebhook::Change(setup) => self.change(&setup),
            ToWebhook::Remove(endpoint) => self.remove(endpoint),
            ToWebhook::Verify(endpoint, reply) => match self.verify(now, endpoint) {
                Ok(()) => self.waiters.verifications.entry(endpoint).or_default().push(reply),
                Err(refusal) => drop(reply.send(Err(refusal))),
            },
            ToWebhook::Enable(endpoint, reply) => {
                let done = self.dispatcher.enable(now, endpoint);
                // Sent to the journal thread before it is answered: who asked then waits for the disk.
                self.take_notes(now);
                let _ = reply.send(done.map(|()| self.state(endpoint)));
            }
            ToWebhook::Disable(endpoint, reply) => {
                let done = self.dispatcher.disable(now, endpoint);
                // Sent to the journal thread before it is answered: who asked then waits for the disk.
                self.take_notes(now);
                let _ = reply.send(done.map(|()| self.state(endpoint)));
            }
            ToWebhook::Test(endpoint, kind, reply) => match self.test(now, endpoint, kind) {
                Ok(number) => drop(self.waiters.tests.insert(number, (endpoint, reply))),
                Err(refusal) => drop(reply.send(Err(refusal))),
            },
            ToWebhook::Redeliver(endpoint, events, reply) => {
                let _ = reply.send(self.redeliver(now, endpoint, events));
            }
            ToWebhook::Report(endpoints, reply) => drop(reply.send(self.report(now, &endpoints))),
        }
        // What it changed is told and saved before the next command.
        self.take_notes(now);
    }

    fn state(&self, endpoint: EndpointId) -> State {
        self.dispatcher.endpoint(endpoint).map_or(State::Pending, Endpoint::state)
    }

    /// Takes an endpoint: a new one, or one of an earlier process. A pending one is sent its verification
    /// ping.
    pub(super) fn take_in_endpoint(
        &mut self,
        now: Now,
        setup: &EndpointSetup,
        saved: Option<&SavedHealth>,
    ) -> Result<(), Refusal> {
        let wants = Wants { id: setup.id, filter: setup.filter };
        self.dispatcher.add(now, setup.id, wants, self.settings.self_healing, saved)?;
        let pending = SavedHealth { state: State::Pending, since: now.wall, failures: 0, slow: false };
        let receiver = Receiver::new(setup, &self.settings.brand, saved.copied().unwrap_or(pending));
        self.receivers.insert(setup.id, Box::new(receiver));
        match self.state(setup.id) {
            State::Pending => self.dispatcher.verify(now, setup.id)?,
            // Spread, so that a start does not open every connection in one instant.
            State::Active => self.warm_spread(setup.id, now.mono),
            State::Suspended | State::Disabled(_) => {}
        }
        Ok(())
    }

    fn change(&mut self, setup: &EndpointSetup) {
        if let Some(wants) = self.dispatcher.profile_mut(setup.id) {
            wants.filter = setup.filter;
        }
        if let Some(receiver) = self.receivers.get_mut(&setup.id) {
            receiver.change(setup);
        }
    }

    fn remove(&mut self, endpoint: EndpointId) {
        self.dispatcher.remove(endpoint);
        self.waiters.verifications.remove(&endpoint);
        self.waiters.tests.retain(|_, (of, _)| *of != endpoint);
        self.resolving.remove(&endpoint);
        self.close_all(endpoint);
        let (gone, kept) = self.cold.drain(..).partition(|attempt| attempt.endpoint == endpoint);
        self.cold = kept;
        let gone: VecDeque<Box<Attempt>> = gone;
        let mut tickets: Vec<_> = gone.iter().map(|attempt| attempt.ticket).collect();
        if let Some(receiver) = self.receivers.remove(&endpoint) {
            self.warm.remove(&(receiver.warm_at, endpoint));
            tickets.extend(receiver.waiting.iter().map(|attempt| attempt.ticket));
        }
        for ticket in tickets {
            self.abandon(ticket);
        }
    }

    fn verify(&mut self, now: Now, endpoint: EndpointId) -> Result<(), Refusal> {
        let known = self.dispatcher.endpoint(endpoint).ok_or(Refusal::UnknownEndpoint)?;
        if known.state() != State::Pending {
            return Err(Refusal::AlreadyVerified);
        }
        self.dispatcher.verify(now, endpoint)
    }

    fn test(&mut self, now: Now, endpoint: EndpointId, kind: EventKind) -> Result<u64, Refusal> {
        let id = i64::try_from(endpoint.0).unwrap_or(i64::MAX);
        let event = Event::test(&self.id_key, kind, id, now.wall);
        // An event of our own is far within the bounds of a body.
        let outgoing = Outgoing::of(&event).map_err(|_| Refusal::TooManyTests)?;
        let number = self.next_test;
        self.next_test += 1;
        self.dispatcher.on_test(now, endpoint, Arc::new(outgoing.queued(number, now.wall)))?;
        Ok(number)
    }

    fn redeliver(
        &mut self,
        now: Now,
        endpoint: EndpointId,
        events: Vec<Arc<QueuedEvent<Outgoing>>>,
    ) -> Result<usize, Refusal> {
        let mut sent = 0;
        for event in events.into_iter().take(limits::WEBHOOK_REDELIVERIES) {
            self.dispatcher.on_replay(now, endpoint, Arc::clone(&event))?;
            self.ledger.push(WebhookToJournal::Asked { event: event.number, endpoint });
            sent += 1;
        }
        Ok(sent)
    }

    fn report(&self, now: Now, endpoints: &[EndpointId]) -> Vec<EndpointReport> {
        let asked: BTreeSet<EndpointId> = match endpoints {
            [] => self.receivers.keys().copied().collect(),
            some => some.iter().copied().collect(),
        };
        let one = |id: EndpointId| {
            let endpoint = self.dispatcher.endpoint(id)?;
            let (_, p95) = endpoint.latency();
            Some(EndpointReport {
                id,
                health: endpoint.saved(now),
                pending: self.dispatcher.pending_of(id),
                connections: self.receivers.get(&id).map_or(0, |receiver| receiver.idle.len()),
                p95,
            })
        };
        asked.into_iter().filter_map(one).collect()
    }

    /// Warmth for an endpoint some time in the next seconds, the more endpoints the later.
    fn warm_spread(&mut self, endpoint: EndpointId, now: Mono) {
        let spread = limits::WEBHOOK_WARM_SPREAD
            .saturating_mul(u32::try_from(self.receivers.len()).unwrap_or(u32::MAX));
        self.warm_at(endpoint, now + spread);
    }
}
