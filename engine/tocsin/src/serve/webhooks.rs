//! Builds the webhook side: what the store holds of it, its thread's parts, whom it may call.

use std::sync::Arc;

use rtrb::{Consumer, Producer, RingBuffer};
use tocsin_core::webhook::address::AddressPolicy;
use tocsin_core::webhook::endpoint::SavedHealth;
use tocsin_core::webhook::url::EndpointUrl;

use super::{StartError, doing};
use crate::config::Config;
use crate::control::{LiveDuration, WebhookRules};
use crate::net::egress::EgressResolver;
use crate::net::tls::{ClientTls, ClientTrust};
use crate::os::{addresses, clock};
use crate::rings::{EndpointSetup, MarketToWebhook, ToWebhook, WebhookToJournal};
use crate::store::Store;
use crate::store::webhook::endpoints::EndpointRecord;
use crate::store::webhook::secrets::MasterKey;
use crate::threads::journal::WebhookInlet;
use crate::threads::source::publish::WebhookOutlet;
use crate::threads::webhook::{Bell, WebhookParts, WebhookSettings, WebhookStats, WebhookThread};
use crate::topology;

/// The webhook thread, and what the others need of it.
pub(super) struct Built {
    pub(super) thread: WebhookThread,
    /// One a source thread.
    pub(super) outlets: Vec<WebhookOutlet>,
    pub(super) inlet: WebhookInlet,
    pub(super) commands: Producer<ToWebhook>,
    pub(super) waker: Arc<mio::Waker>,
    pub(super) master: Arc<MasterKey>,
    pub(super) policy: Arc<AddressPolicy>,
    pub(super) stats: Arc<WebhookStats>,
    /// Ends its thread when dropped.
    pub(super) resolver: EgressResolver,
}

/// Opens the key file, brings the store's deliveries up to date, and makes the thread.
pub(super) fn build(
    config: &Config,
    store: &mut Store,
    sources: usize,
    market: Option<Consumer<MarketToWebhook>>,
    seed: u64,
) -> Result<Built, StartError> {
    let master = store.master_key()?;
    let policy = Arc::new(policy(config)?);
    let start = store.start_webhooks(&master.id_key())?;
    let endpoints = setups(config, store, &master, &policy)?;
    let bell = Bell::new().map_err(doing("starting the webhook thread"))?;
    let waker = bell.waker();
    let (resolver, client) = EgressResolver::start(&config.egress.resolvers, Arc::clone(&waker))
        .map_err(doing("starting the resolver of webhook receivers (egress.resolvers)"))?;
    let (log, shm) = store.place().create_outcomes().map_err(doing("making a shared-memory journal"))?;
    let (outlets, announcements): (Vec<_>, Vec<Consumer<_>>) = (0..sources)
        .map(|_| {
            let (ring, far) = RingBuffer::new(topology::SOURCE_TO_WEBHOOK);
            (WebhookOutlet { ring, bell: Arc::clone(&waker) }, far)
        })
        .unzip();
    let (commands, asked) = RingBuffer::new(topology::CONTROL_TO_WEBHOOK);
    let (journal, ring): (_, Consumer<WebhookToJournal>) = RingBuffer::new(topology::WEBHOOK_TO_JOURNAL);
    let stats = Arc::new(WebhookStats::default());
    let trust = ClientTrust { ca_file: config.egress.ca_file.clone(), insecure: false };
    let parts = WebhookParts {
        bell,
        endpoints,
        announcements,
        market,
        commands: asked,
        journal,
        log: Box::new(log),
        resolver: client,
        tls: ClientTls::new(&trust)?,
        policy: Arc::clone(&policy),
        id_key: master.id_key(),
        settings: WebhookSettings {
            brand: config.webhooks.brand.clone(),
            self_healing: config.webhooks.self_healing,
            max_in_flight: config.webhooks.max_in_flight,
        },
        stats: Arc::clone(&stats),
        start,
        clock: clock::now,
        seed,
    };
    let thread = WebhookThread::new(parts, clock::now());
    let inlet = WebhookInlet { ring, shm };
    let master = Arc::new(master);
    Ok(Built { thread, outlets, inlet, commands, waker, master, policy, stats, resolver })
}

/// What the control plane needs of the configuration.
pub(super) fn rules(config: &Config, policy: Arc<AddressPolicy>) -> WebhookRules {
    let webhooks = &config.webhooks;
    let rotation_grace = LiveDuration::new(webhooks.rotation_grace);
    WebhookRules { plans: webhooks.plans.clone(), rotation_grace, policy }
}

/// What may be called: public addresses, and what the operator allows.
fn policy(config: &Config) -> Result<AddressPolicy, StartError> {
    let allow = config.egress.allow_nets.clone();
    if !allow.is_empty() {
        let nets = allow.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        tracing::warn!(%nets, "webhooks may be sent to networks that are not public (egress.allow_nets)");
    }
    let own = addresses::own_addresses().map_err(doing("reading this machine's addresses"))?;
    Ok(AddressPolicy::new(allow, own))
}

/// Every endpoint of the store. One whose URL the rules refuse by now, whose secret does not open, or whose
/// account has no plan with webhooks, is left out and said: nothing is sent to it, nothing of it is lost.
fn setups(
    config: &Config,
    store: &Store,
    master: &MasterKey,
    policy: &AddressPolicy,
) -> Result<Vec<(EndpointSetup, SavedHealth)>, StartError> {
    let mut setups = Vec::new();
    for record in store.load_endpoints()? {
        let id = record.id.0;
        let plan = store.account(record.account)?.plan;
        if !config.webhooks.plans.contains(&plan) {
            tracing::warn!(endpoint = id, plan, "left out: the plan has no webhooks (webhooks.plans)");
            continue;
        }
        match setup(&record, master, policy) {
            Ok(setup) => setups.push((setup, record.health)),
            Err(problem) => tracing::error!(endpoint = id, problem, "a webhook endpoint is left out"),
        }
    }
    Ok(setups)
}

/// What the webhook thread keeps of a stored endpoint.
fn setup(
    record: &EndpointRecord,
    master: &MasterKey,
    policy: &AddressPolicy,
) -> Result<EndpointSetup, String> {
    let open = |sealed| master.open(record.id, sealed).map_err(|error| error.to_string());
    let previous = match &record.previous {
        Some((sealed, until)) => Some((open(sealed)?, *until)),
        None => None,
    };
    Ok(EndpointSetup {
        id: record.id,
        url: EndpointUrl::parse(&record.url, policy).map_err(|error| error.to_string())?,
        secret: open(&record.secret)?,
        previous,
        filter: record.filter,
    })
}
