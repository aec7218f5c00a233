//! Stand-ins for the threads behind the bridge: one turn takes what each of them was sent and answers
//! it, over a real store.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use tocsin_core::webhook::attempt::FailureClass;
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::dispatcher::Refusal;
use tocsin_core::webhook::endpoint::{Disabled, Ping, SavedHealth, State};
use tocsin_core::webhook::event::{Event, EventKind};
use tocsin_core::webhook::lane::Purpose;
use tocsin_core::webhook::outgoing::Phases;

use super::*;
use crate::control::bridge::BridgeParts;
use crate::os::clock;
use crate::rings::{AttemptReport, EndpointReport, EndpointSetup, ToSource, ToWebhook};
use crate::store::Store;
use crate::store::testing::id_key;
use crate::store::webhook::deliveries::AttemptRecord;
use crate::threads::journal::JournalRequest;

/// What the stand-ins hold.
pub(super) struct Threads {
    looked: rtrb::Producer<Box<crate::rings::SubscriberPage>>,
    pub(super) store: Store,
    secrets: Arc<MasterKey>,
    journal: crossbeam::channel::Receiver<JournalRequest>,
    accept: rtrb::Consumer<ToAccept>,
    source: rtrb::Consumer<ToSource>,
    webhook: rtrb::Consumer<ToWebhook>,
    _poll: mio::Poll,
    pub(super) told_accept: Vec<String>,
    /// What the webhook thread was told, in order.
    pub(super) told_webhook: Vec<String>,
    /// What it keeps.
    pub(super) endpoints: BTreeMap<u64, (EndpointSetup, State)>,
    /// Barriers answered.
    pub(super) barriers: usize,
    /// The webhook thread takes nothing.
    pub(super) webhook_hangs: bool,
}

impl Threads {
    pub(super) fn new(store: Store, secrets: Arc<MasterKey>) -> (Threads, Arc<Bridge>) {
        let (to_journal, journal) = crossbeam::channel::bounded(16);
        let (to_accept, accept) = rtrb::RingBuffer::new(4);
        let (to_source, source) = rtrb::RingBuffer::new(4);
        let (to_webhook, webhook) = rtrb::RingBuffer::new(4);
        let poll = mio::Poll::new().unwrap();
        let waker = Arc::new(mio::Waker::new(poll.registry(), mio::Token(0)).unwrap());
        let (looked, from_feed) = rtrb::RingBuffer::new(2);
        let bridge = Bridge::new(BridgeParts {
            accept: to_accept,
            accept_waker: Arc::clone(&waker),
            source: to_source,
            journal: to_journal,
            webhook: to_webhook,
            webhook_waker: waker,
            secrets: Arc::clone(&secrets),
            policy: Arc::default(),
            reload: crate::reload::channel().0,
            looked: vec![from_feed],
        });
        let threads = Threads {
            store,
            secrets,
            journal,
            accept,
            source,
            webhook,
            _poll: poll,
            looked,
            told_accept: Vec::new(),
            told_webhook: Vec::new(),
            endpoints: BTreeMap::new(),
            barriers: 0,
            webhook_hangs: false,
        };
        (threads, bridge)
    }

    pub(super) fn turn(&mut self) {
        while let Ok(request) = self.journal.try_recv() {
            self.commit(request);
        }
        while let Ok(message) = self.accept.pop() {
            self.told_accept.push(match message {
                ToAccept::UpsertKey(key) => format!("upsert {}", key.id.0),
                ToAccept::RevokeKey(id) => format!("revoke {}", id.0),
                ToAccept::Drain(_) => "drain".to_owned(),
                ToAccept::Reload(_) => "reload".to_owned(),
                ToAccept::Look(_, mut page) => {
                    page.next = None;
                    self.looked.push(page).unwrap();
                    "look".to_owned()
                }
                ToAccept::Connections(keys, reply) => {
                    reply.send(keys.iter().map(|_| 2).collect()).unwrap();
                    "connections".to_owned()
                }
            });
        }
        while let Ok(ToSource::Inject(inject)) = self.source.pop() {
            let mut made = announcement(9, 1);
            (made.exchange, made.title) = (inject.exchange, inject.title);
            let encoded = Arc::new(tocsin_core::wire::encode(made));
            encoded.mark_dispatched(WallUs(1_770_000_000_000_000));
            assert!(inject.reply.send(encoded).is_ok());
        }
        while !self.webhook_hangs
            && let Ok(message) = self.webhook.pop()
        {
            self.webhook(message);
        }
    }

    fn commit(&mut self, request: JournalRequest) {
        if let Some(barrier) = request.answer(&mut self.store, Some(&self.secrets), clock::wall()) {
            self.barriers += 1;
            // Whoever asked may have gone.
            let _ = barrier.send(Ok(()));
        }
    }

    /// Answers as the webhook thread does; how an attempt ends is in the path of the endpoint's URL.
    fn webhook(&mut self, message: ToWebhook) {
        let unknown = Refusal::UnknownEndpoint;
        let _ = match message {
            ToWebhook::Add(setup, reply) => {
                self.told_webhook.push(format!("add {}", setup.id.0));
                let id = setup.id;
                self.endpoints.insert(id.0, (*setup, State::Pending));
                self.verify(id).is_some_and(|report| reply.send(Ok(report)).is_ok())
            }
            ToWebhook::Change(setup) => {
                let grace = if setup.previous.is_some() { " with grace" } else { "" };
                let kinds = setup.filter.kinds_text();
                self.told_webhook.push(format!("change {} {kinds}{grace}", setup.id.0));
                let state = self.endpoints.get(&setup.id.0).map_or(State::Pending, |(_, state)| *state);
                self.endpoints.insert(setup.id.0, (*setup, state)).is_some()
            }
            ToWebhook::Remove(id) => {
                self.told_webhook.push(format!("remove {}", id.0));
                self.endpoints.remove(&id.0).is_some()
            }
            ToWebhook::Verify(id, reply) => {
                self.verify(id).is_some_and(|report| reply.send(Ok(report)).is_ok())
            }
            ToWebhook::Enable(id, reply) => {
                let state = self.set_state(id, State::Active);
                reply.send(state.ok_or(unknown)).is_ok()
            }
            ToWebhook::Disable(id, reply) => {
                let state = self.set_state(id, State::Disabled(Disabled::User));
                reply.send(state.ok_or(unknown)).is_ok()
            }
            ToWebhook::Test(id, kind, reply) => {
                self.told_webhook.push(format!("test {} {}", id.0, kind.name()));
                let report = self.attempt(id, kind, Purpose::Test);
                report.is_some_and(|report| reply.send(Ok(report)).is_ok())
            }
            ToWebhook::Redeliver(id, events, reply) => {
                let numbers: Vec<u64> = events.iter().map(|event| event.number).collect();
                assert!(events.iter().all(|event| event.fresh_for.is_none()), "asked for: never expires");
                self.told_webhook.push(format!("redeliver {} {numbers:?}", id.0));
                reply.send(Ok(events.len())).is_ok()
            }
            ToWebhook::Report(ids, reply) => {
                let wanted = |id: &u64| ids.is_empty() || ids.contains(&EndpointId(*id));
                let known = self.endpoints.iter().filter(|(id, _)| wanted(id));
                let reports = known.map(|(id, (_, state))| EndpointReport {
                    id: EndpointId(*id),
                    health: SavedHealth { state: *state, since: clock::wall(), failures: 0, slow: false },
                    pending: 3,
                    connections: 2,
                    p95: Some(Duration::from_millis(12)),
                });
                reply.send(reports.collect()).is_ok()
            }
        };
    }

    fn set_state(&mut self, id: EndpointId, state: State) -> Option<State> {
        let (_, kept) = self.endpoints.get_mut(&id.0)?;
        if *kept == State::Pending && state == State::Active {
            return Some(*kept);
        }
        *kept = state;
        let health = SavedHealth { state, since: clock::wall(), failures: 0, slow: false };
        self.store.save_health(id, &health, None).unwrap();
        Some(state)
    }

    fn verify(&mut self, id: EndpointId) -> Option<AttemptReport> {
        let mut report = self.attempt(id, EventKind::Ping, Purpose::Ping(Ping::Verification))?;
        if report.attempt.class.is_none() {
            let now = clock::wall();
            let health = SavedHealth { state: State::Active, since: now, failures: 0, slow: false };
            self.store.save_health(id, &health, Some(now)).unwrap();
            self.endpoints.get_mut(&id.0).unwrap().1 = State::Active;
            report.state = State::Active;
        }
        Some(report)
    }

    /// `None`: no answer ever comes.
    fn attempt(&mut self, id: EndpointId, kind: EventKind, purpose: Purpose) -> Option<AttemptReport> {
        let (setup, state) = self.endpoints.get(&id.0)?;
        let (status, class, detail) = match setup.url.path_and_query() {
            "/silent" => return None,
            "/unauthorized" => (Some(401), Some(FailureClass::Unauthorized), None),
            "/inside" => {
                (None, Some(FailureClass::Address), Some("10.0.0.5: address is not public: private use"))
            }
            "/dns" => (None, Some(FailureClass::Dns), Some("the name has no address")),
            _ => (Some(200), None, None),
        };
        let now = clock::wall();
        let attempt = AttemptRecord {
            endpoint: id,
            event: Event::test(&id_key(), kind, 1, now).id,
            kind,
            purpose,
            started_at: now,
            status,
            class,
            took_us: 4_321,
            phases: Phases { queue_us: 1, dns_us: Some(2), tcp_us: Some(3), ..Phases::default() },
            address: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))),
            detail: detail.map(Into::into),
            next_at: None,
        };
        Some(AttemptReport { attempt, state: *state })
    }

    /// One of our endpoints stops being known, as when its secret did not open at start.
    pub(super) fn forget(&mut self, id: u64) {
        self.endpoints.remove(&id);
    }
}
