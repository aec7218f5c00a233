//! Builds the engine: opens what it needs, makes the rings of the plan, starts the threads.

mod feeds;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use rtrb::{Consumer, Producer, RingBuffer};
use tocsin_core::classify::classify;
use tocsin_core::detect::told::Told;
use tocsin_core::detect::{Detector, ListHistory};
use tocsin_core::feed::key::KeyRecord;
use tocsin_core::limits;
use tocsin_core::model::CategoryHint;
use tocsin_core::source::pacing::Mode;
use tocsin_core::source::{SourceSpec, exchange};
use tocsin_core::wire::{self, EncodedAnnouncement};

use self::feeds::Alarms;
use super::reload::{MailLink, Reachable};
use super::view::{Machine, View, ViewParts};
use super::{Addresses, Engine, StartError, doing, markets, races, recorder, webhooks};
use crate::config::{Config, Idle, Smtp, Source as SourceConfig, TopologyMode};
use crate::control::bridge::{Bridge, BridgeParts};
use crate::control::metrics::MetricsAccess;
use crate::control::token::AdminToken;
use crate::control::{self, Control, ControlParts, Looks, Settings, SourceBudget};
use crate::net::dns::{Resolver, ResolverClient};
use crate::net::tls::{ClientTls, ClientTrust, ServerTls, SharedTls};
use crate::net::url::BaseUrl;
use crate::os::inherited::Inherited;
use crate::os::{clock, cores, memory};
use crate::rings::{AcceptToFeed, Released, SourceToFeed, SubscriberPage, ToAccept, ToSource};
use crate::store::{Reader, Store, StoredAnnouncement};
use crate::supervise::Watched;
use crate::threads::accept::{self, AcceptParts, AcceptSettings, AcceptStats, AcceptThread, WriterLink};
use crate::threads::feed::{FeedStats, FeedThread};
use crate::threads::journal::{Inlet, Journal, JournalRequest, LiveTap};
use crate::threads::mail::{JournalOutbox, MailSender, Mailer, Pace};
use crate::threads::market::MarketThread;
use crate::threads::recorder::Recorder;
use crate::threads::source::publish::{FeedOutlet, Losses, PublisherParts, WebhookOutlet};
use crate::threads::source::stats::SourceStats;
use crate::threads::source::tap::Tap;
use crate::threads::source::{LaneParts, SourceParts, SourceThread};
use crate::threads::webhook::WebhookThread;
use crate::threads::{Pulse, Step, run_loop};
use crate::topology::{self, Plan, ThreadPlan};

/// Stack of every thread. They do not recurse, and SQLite and tokio are happy with it.
const STACK_BYTES: usize = 2 << 20;

/// See [`Engine::start`].
pub(super) fn start(config: &Config, inherited: Inherited) -> Result<Engine, StartError> {
    let plan = Plan::new(config);
    prepare_process(config, &plan);
    let opened = Opened::open(config, inherited)?;
    let (engine, threads) = assemble(config, &plan, opened)?;
    threads.start(engine, &plan)
}

/// What has to be there before anything is built: files, ports, certificates, the store.
struct Opened {
    store: Store,
    certificate: Option<SharedTls>,
    listener: mio::net::TcpListener,
    feed: SocketAddr,
    doors: control::Listeners,
    token: AdminToken,
    epoch: u64,
    history: Vec<Arc<EncodedAnnouncement>>,
    keys: Vec<KeyRecord>,
    reader: Reader,
}

impl Opened {
    fn open(config: &Config, inherited: Inherited) -> Result<Opened, StartError> {
        let mut store = Store::open(&config.data_dir)?;
        let certificate = certificate(config)?;
        let certificate = certificate.map(SharedTls::new);
        let listener = feed_listener(config, inherited.feed)?;
        let feed = listener.local_addr().map_err(doing("reading the feed's address"))?;
        let doors = admin_doors(config, inherited.admin, certificate.clone())?;
        let token = admin_token(config)?;
        let epoch = store.next_epoch()?;
        let history = load_history(&store)?;
        let keys = store.load_keys()?;
        let reader = store.reader()?;
        Ok(Opened { store, certificate, listener, feed, doors, token, epoch, history, keys, reader })
    }
}

/// Every thread's state, not started.
struct Threads {
    journal: Journal,
    webhook: WebhookThread,
    feeds: Vec<FeedThread>,
    accept: AcceptThread,
    sources: Vec<SourceThread>,
    market: Option<MarketThread>,
    mail: Option<Mail>,
    recorder: Option<Recorder>,
    doors: control::Listeners,
    control: Arc<Control>,
}

impl Threads {
    /// Against the flow: whoever receives runs before whoever sends.
    fn start(self, mut engine: Engine, plan: &Plan) -> Result<Engine, StartError> {
        let view = Arc::clone(&engine.view);
        let spawn = Spawn { view: &view };
        let journal_plan = ThreadPlan { name: "journal".into(), core: None, idle: Some(Idle::Block) };
        engine.journal.push(spawn.looped(&journal_plan, &engine.stops.journal, self.journal)?);
        if let Some(recorder) = self.recorder {
            let plan = ThreadPlan { name: "recorder".into(), core: None, idle: Some(Idle::Block) };
            // Beside the journal thread, which ends last as well: both outlive those who feed them.
            engine.journal.push(spawn.looped(&plan, &engine.stops.journal, recorder)?);
        }
        engine.webhooks.push(spawn.webhook(self.webhook, &engine.stops.webhooks)?);
        for (plan, feed) in plan.feeds.iter().zip(self.feeds) {
            engine.feed_side.push(spawn.looped(plan, &engine.stops.feed_side, feed)?);
        }
        engine.feed_side.push(spawn.accept(self.accept, &engine.stops.feed_side)?);
        for (plan, source) in plan.sources.iter().zip(self.sources) {
            engine.sources.push(spawn.looped(&plan.thread, &engine.stops.sources, source)?);
        }
        if let Some(market) = self.market {
            // Ends with the source threads: before those it tells.
            engine.sources.push(spawn.market(market, &engine.stops.sources)?);
        }
        if let Some(mail) = self.mail {
            engine.control.push(spawn.mail(mail.mailer, &engine.stops.control)?);
        }
        engine.control.push(spawn.control(self.doors, self.control, &engine.stops.control)?);
        Ok(engine)
    }
}

fn assemble(config: &Config, plan: &Plan, opened: Opened) -> Result<(Engine, Threads), StartError> {
    let Opened { mut store, certificate, listener, feed, doors, token, epoch, history, keys, reader } =
        opened;
    let tls = certificate.as_ref().filter(|_| config.feed.tls).map(SharedTls::get);
    let (reload, reloads) = crate::reload::channel();
    let (ask_journal, requests) = crossbeam::channel::bounded(topology::CONTROL_TO_JOURNAL);
    let mail = Mail::new(config, &store, &ask_journal)?;
    let mut rings = Rings::new(config, plan);
    let (resolver, resolvers, of_markets) = resolvers(config, plan)?;
    let mut market = markets::Ends::new(config, plan);
    let of_webhook = market.of_webhook.take();
    let webhooks = webhooks::build(config, &mut store, plan.sources.len(), of_webhook, seed())?;
    let recorder::Built { recorder, taps, counters: recorded } = recorder::build(config, plan, epoch)?;
    let markets = std::mem::take(&mut market.of_sources);
    let feed_stats: Vec<Arc<FeedStats>> = plan.feeds.iter().map(|_| Arc::default()).collect();
    let (of_feeds, of_journal) = (std::mem::take(&mut market.of_feeds), market.of_journal.take());
    let (feeds, alarms) = feeds::build(plan, &mut rings, of_feeds, &feed_stats, &history, epoch)?;
    let ends = SourceEnds { resolvers, webhooks: webhooks.outlets, markets, taps, alarms };
    let built = build_sources(config, plan, &mut store, epoch, &mut rings, ends)?;
    let around = markets::Around { config, store: &store, history: &history, sources: &built.stats };
    let (market, market_stats) = market.build(&around, of_markets, &webhooks.waker)?;
    let accept_ends = (rings.control_to_accept.1, rings.source_to_accept, rings.writers);
    let (accept, accept_stats) = build_accept(config, listener, tls.clone(), (keys, history), accept_ends)?;
    let journal = Journal::new(store, built.inlets, requests)
        .with_webhook(webhooks.inlet)
        .with_market(of_journal)
        .with_master_key(Arc::clone(&webhooks.master));
    let (tap, live) = LiveTap::new();
    let journal = Mail::woken_by(mail.as_ref(), journal.with_live(tap));
    let bridge = Bridge::new(BridgeParts {
        accept: rings.control_to_accept.0,
        accept_waker: accept.waker(),
        source: rings.control_to_source,
        journal: ask_journal,
        webhook: webhooks.commands,
        webhook_waker: webhooks.waker,
        secrets: webhooks.master,
        policy: Arc::clone(&webhooks.policy),
        looked: rings.control_from_feed,
        reload,
    });
    let view = Arc::new(View::new(ViewParts {
        epoch,
        sources: built.stats,
        losses: built.losses,
        feeds: feed_stats,
        accept: accept_stats,
        journal: journal.counters(),
        webhooks: webhooks.stats,
        market: market_stats,
        mail: mail.as_ref().map(|mail| mail.mailer.counters()),
        machine: machine(config, certificate.clone()),
        recorder: recorded,
    }));
    let control = started(ControlParts {
        bridge: Arc::clone(&bridge),
        reader,
        view: Arc::clone(&view) as _,
        token: token.clone(),
        metrics: metrics_access(config)?,
        webhooks: webhooks::rules(config, webhooks.policy),
        settings: Settings::new(config, built.budgets, &doors),
        looks: Looks::new(live, certificate.as_ref()),
    })?;
    let fingerprint = tls.as_ref().map(ServerTls::fingerprint_text);
    let at = Addresses { feed, admin: doors.tcp_address(), fingerprint, epoch };
    let (link, own) = (mail.as_ref().map(Mail::link), Arc::clone(&control));
    let reachable = Reachable { control: own, certificate, token, mail: link };
    let engine = Engine::new(config, at, bridge, view, (resolver, webhooks.resolver), (reloads, reachable));
    let (webhook, sources) = (webhooks.thread, built.threads);
    Ok((engine, Threads { journal, webhook, feeds, accept, sources, market, mail, recorder, doors, control }))
}

/// The resolver, its end for each source thread, and the one of the market thread where there is one.
fn resolvers(
    config: &Config,
    plan: &Plan,
) -> Result<(Resolver, Vec<ResolverClient>, Option<ResolverClient>), StartError> {
    let askers = plan.sources.len() + usize::from(config.market.enabled);
    let (resolver, mut clients) = Resolver::start(askers).map_err(doing("starting the resolver thread"))?;
    let of_markets = if config.market.enabled { clients.pop() } else { None };
    Ok((resolver, clients, of_markets))
}

fn started(control: ControlParts) -> Result<Arc<Control>, StartError> {
    Control::new(control).map_err(doing("starting the control plane"))
}

/// The accept thread's ends of rings: requests of the control plane, announcements, feed writers.
type AcceptEnds = (Consumer<ToAccept>, Vec<Consumer<Arc<EncodedAnnouncement>>>, Vec<WriterLink>);

fn build_accept(
    config: &Config,
    listener: mio::net::TcpListener,
    tls: Option<ServerTls>,
    (keys, history): (Vec<KeyRecord>, Vec<Arc<EncodedAnnouncement>>),
    (commands, announcements, writers): AcceptEnds,
) -> Result<(AcceptThread, Arc<AcceptStats>), StartError> {
    let (settings, counted) = (AcceptSettings::from(&config.feed), Arc::new(AcceptStats::default()));
    let stats = Arc::clone(&counted);
    let parts =
        AcceptParts { listener, tls, settings, keys, history, commands, announcements, writers, stats };
    Ok((AcceptThread::new(parts).map_err(doing("starting the accept thread"))?, counted))
}

/// Limits, memory and cores of the whole process. What the machine refuses is said once.
fn prepare_process(config: &Config, plan: &Plan) {
    match memory::raise_descriptor_limit() {
        Ok(limit) if limit < u64::from(config.feed.max_connections) + 256 => tracing::warn!(
            limit,
            "fewer descriptors than feed.max_connections needs; raise LimitNOFILE= or `ulimit -n`"
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the limit on open descriptors stays as it is"),
    }
    if config.topology.mode != TopologyMode::Pinned {
        return;
    }
    if let Err(error) = memory::lock_all() {
        tracing::warn!(%error, "memory is not locked; raise LimitMEMLOCK= or `ulimit -l`");
    }
    // Housekeeping inherits this thread's cores: all but the hot ones.
    let hot = plan.sources.iter().map(|s| &s.thread).chain(&plan.feeds).filter_map(|t| t.core);
    if let Err(error) = cores::avoid(&hot.collect::<Vec<_>>()) {
        tracing::warn!(%error, "housekeeping threads share cores with hot ones");
    }
}

/// The feed's certificate, which the admin listener shares; `None` when neither serves TLS.
pub(super) fn certificate(config: &Config) -> Result<Option<ServerTls>, StartError> {
    let feed = &config.feed;
    Ok(match (&feed.cert_file, &feed.key_file) {
        _ if !feed.tls && !config.admin.tls => None,
        (Some(cert), Some(key)) => Some(ServerTls::from_pem_files(cert, key)?),
        _ => Some(ServerTls::self_signed(&config.data_dir, feed.listen)?),
    })
}

/// The feed's listener: the service manager's, if it handed one over.
fn feed_listener(
    config: &Config,
    inherited: Option<TcpListener>,
) -> Result<mio::net::TcpListener, StartError> {
    let Some(listener) = inherited else {
        let listening = accept::listen(config.feed.listen);
        return listening.map_err(doing(&format!("feed.listen {}", config.feed.listen)));
    };
    tracing::info!(configured = %config.feed.listen, "the feed listens on the socket handed over as \"feed\"");
    Ok(mio::net::TcpListener::from_std(listener))
}

fn admin_doors(
    config: &Config,
    inherited: Option<TcpListener>,
    certificate: Option<SharedTls>,
) -> Result<control::Listeners, StartError> {
    let doors = control::Listeners::bind(&config.admin, inherited).map_err(doing("opening the admin API"))?;
    Ok(match certificate.filter(|_| config.admin.tls) {
        Some(certificate) => doors.with_tls(certificate),
        None => doors,
    })
}

pub(super) fn admin_token(config: &Config) -> Result<AdminToken, StartError> {
    let told = |path: &Path| format!("reading the admin token {}", path.display());
    match &config.admin.token_file {
        Some(file) => AdminToken::from_file(file).map_err(doing(&told(file))),
        None => {
            let file = config.data_dir.join("admin.token");
            AdminToken::from_file_or_new(&file).map_err(doing(&told(&file)))
        }
    }
}

fn machine(config: &Config, certificate: Option<SharedTls>) -> Machine {
    let (data_dir, require_clock) = (config.data_dir.clone(), config.clock.require_synchronised);
    Machine { certificate, data_dir, require_clock }
}

/// See docs/metrics.md: open on loopback, else with a token.
fn metrics_access(config: &Config) -> Result<MetricsAccess, StartError> {
    match &config.admin.metrics_token_file {
        Some(file) => {
            let what = format!("reading the metrics' token {} (admin.metrics_token_file)", file.display());
            Ok(MetricsAccess::Token(AdminToken::from_file(file).map_err(doing(&what))?))
        }
        None if config.admin.listen.is_none_or(|address| address.ip().is_loopback()) => {
            Ok(MetricsAccess::Anyone)
        }
        None => Ok(MetricsAccess::Administrator),
    }
}

fn load_history(store: &Store) -> Result<Vec<Arc<EncodedAnnouncement>>, StartError> {
    let stored = store.load_history(limits::HISTORY_IN_MEMORY)?;
    let encode = |StoredAnnouncement { announcement, dispatched }| {
        let encoded = wire::encode(announcement);
        if let Some(at) = dispatched {
            encoded.mark_dispatched(at);
        }
        Arc::new(encoded)
    };
    Ok(stored.into_iter().map(encode).collect())
}

/// A seed for what is spread, never for what is secret.
pub(super) fn seed() -> u64 {
    let mut bytes = [0; 8];
    // Without a random source the clock spreads well enough.
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(8) => u64::from_le_bytes(bytes),
        _ => clock::mono().0,
    }
}

/// The mail thread's state, and what tells it that mail is due. Only where a mail server is configured:
/// without one, what is due waits in the outbox.
struct Mail {
    mailer: Mailer<JournalOutbox>,
    wake: crossbeam::channel::Sender<()>,
    /// [`Store::install_id`].
    install: String,
}

impl Mail {
    fn new(
        config: &Config,
        store: &Store,
        journal: &crossbeam::channel::Sender<JournalRequest>,
    ) -> Result<Option<Mail>, StartError> {
        let Some(smtp) = &config.smtp else { return Ok(None) };
        let (wake, woken) = crossbeam::channel::bounded(1);
        let install = store.install_id()?;
        let sender = mail_sender(config, smtp, install.clone());
        let outbox = JournalOutbox::new(store.reader()?, journal.clone());
        let mailer = Mailer::new(smtp, sender, outbox, woken, Pace::default())
            .map_err(doing("preparing mail ([smtp])"))?;
        Ok(Some(Mail { mailer, wake, install }))
    }

    /// The journal thread, which wakes the mail thread where there is one.
    fn woken_by(mail: Option<&Mail>, journal: Journal) -> Journal {
        match mail {
            Some(mail) => journal.with_mail_notifier(mail.wake.clone()),
            None => journal,
        }
    }

    fn link(&self) -> MailLink {
        let (next, install) = (self.mailer.next_settings(), self.install.clone());
        MailLink { next, wake: self.wake.clone(), install }
    }
}

/// Who mails are from.
pub(super) fn mail_sender(config: &Config, smtp: &Smtp, install: String) -> MailSender {
    MailSender { from: smtp.from.clone(), install, self_healing: config.webhooks.self_healing }
}

/// Every ring of the plan, its two ends waiting for their threads.
struct Rings {
    /// `[source][feed]`
    source_to_feed: Vec<Vec<Producer<SourceToFeed>>>,
    /// `[feed][source]`
    feed_from_source: Vec<Vec<Consumer<SourceToFeed>>>,
    accept_to_source_history: Vec<Producer<Arc<EncodedAnnouncement>>>,
    source_to_accept: Vec<Consumer<Arc<EncodedAnnouncement>>>,
    feed_from_accept: Vec<Consumer<AcceptToFeed>>,
    feed_to_accept: Vec<Producer<Released>>,
    feed_to_control: Vec<Producer<Box<SubscriberPage>>>,
    control_from_feed: Vec<Consumer<Box<SubscriberPage>>>,
    writers: Vec<WriterLink>,
    control_to_accept: (Producer<ToAccept>, Consumer<ToAccept>),
    /// Manual alerts go to the first source thread; the others get rings that nobody feeds.
    control_to_source: Producer<ToSource>,
    source_from_control: Vec<Consumer<ToSource>>,
}

impl Rings {
    fn new(config: &Config, plan: &Plan) -> Rings {
        let (sources, feeds) = (plan.sources.len(), plan.feeds.len());
        let mut feed_from_source: Vec<Vec<_>> = (0..feeds).map(|_| Vec::new()).collect();
        let source_to_feed = (0..sources)
            .map(|_| {
                let rings = feed_from_source.iter_mut().map(|consumers| {
                    let (producer, consumer) = RingBuffer::new(topology::SOURCE_TO_FEED);
                    consumers.push(consumer);
                    producer
                });
                rings.collect()
            })
            .collect();
        let (accept_to_source_history, source_to_accept) =
            (0..sources).map(|_| RingBuffer::new(topology::SOURCE_TO_ACCEPT)).unzip();
        let (feed_to_control, control_from_feed) =
            (0..feeds).map(|_| RingBuffer::new(topology::FEED_TO_CONTROL)).unzip();
        let (mut feed_from_accept, mut feed_to_accept, mut writers) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..feeds {
            let (to_feed, from_accept) = RingBuffer::new(topology::ACCEPT_TO_FEED);
            let (to_accept, released) = RingBuffer::new(Plan::sessions_per_writer(config));
            feed_from_accept.push(from_accept);
            feed_to_accept.push(to_accept);
            writers.push(WriterLink { to_feed, released });
        }
        let (first, first_end) = RingBuffer::new(topology::CONTROL_TO_SOURCE);
        let unfed = (1..sources).map(|_| RingBuffer::new(1).1);
        Rings {
            source_to_feed,
            feed_from_source,
            accept_to_source_history,
            source_to_accept,
            feed_from_accept,
            feed_to_accept,
            feed_to_control,
            control_from_feed,
            writers,
            control_to_accept: RingBuffer::new(topology::CONTROL_TO_ACCEPT),
            control_to_source: first,
            source_from_control: std::iter::once(first_end).chain(unfed).collect(),
        }
    }
}

/// What the source threads are and what others need of them.
#[derive(Default)]
struct BuiltSources {
    threads: Vec<SourceThread>,
    inlets: Vec<Inlet>,
    stats: Vec<Arc<SourceStats>>,
    losses: Vec<Arc<Losses>>,
    budgets: Vec<SourceBudget>,
}

/// What each source thread gets of the resolver, the webhook thread, the market thread and the recorder.
struct SourceEnds {
    resolvers: Vec<ResolverClient>,
    webhooks: Vec<WebhookOutlet>,
    markets: Vec<Option<Producer<Arc<EncodedAnnouncement>>>>,
    taps: Vec<Option<Tap>>,
    /// Of each feed writer, for all of them.
    alarms: Alarms,
}

fn build_sources(
    config: &Config,
    plan: &Plan,
    store: &mut Store,
    epoch: u64,
    rings: &mut Rings,
    ends: SourceEnds,
) -> Result<BuiltSources, StartError> {
    let mut built = BuiltSources::default();
    let next_seq = Arc::new(AtomicU64::new(1));
    let alarms = ends.alarms;
    let outlet = |(ring, alarm): (_, &Option<_>)| FeedOutlet { ring, alarm: alarm.clone() };
    let ends = rings
        .source_to_feed
        .drain(..)
        .zip(rings.accept_to_source_history.drain(..))
        .zip(rings.source_from_control.drain(..))
        .zip(ends.resolvers)
        .zip(ends.webhooks)
        .zip(ends.markets)
        .zip(ends.taps);
    for ((index, source_plan), ((((((feeds, history), commands), resolver), webhook), market), tap)) in
        (0..).zip(&plan.sources).zip(ends)
    {
        let (log, shm) = store.place().create(index).map_err(doing("making a shared-memory journal"))?;
        let (journal, ring) = RingBuffer::new(topology::SOURCE_TO_JOURNAL);
        built.inlets.push(Inlet { ring, shm });
        let losses = Arc::new(Losses::default());
        built.losses.push(Arc::clone(&losses));
        let mut lanes = Vec::new();
        for name in &source_plan.sources {
            let spec =
                exchange::by_config_name(name).ok_or_else(|| StartError::NoSuchSource(name.clone()))?;
            if let Some(source) = config.sources.get(name) {
                let stats = Arc::new(SourceStats::new(spec.name));
                built.stats.push(Arc::clone(&stats));
                lanes.push(lane(config, name, source, spec, store, stats)?);
                built.budgets.push(SourceBudget {
                    source: spec.name,
                    requests_per_second: source.requests_per_second,
                    addresses: source.bind.len().max(1),
                    connections: source.connections,
                    flat: source.flat,
                });
            }
        }
        let mut streams = Vec::new();
        for name in &source_plan.streams {
            if let Some(section) = config.streams.get(name) {
                let (parts, stats) = super::streams::build(config, name, section, store)?;
                built.stats.push(stats);
                streams.push(parts);
            }
        }
        let publisher = PublisherParts {
            epoch,
            next_seq: Arc::clone(&next_seq),
            log: Box::new(log),
            feeds: feeds.into_iter().zip(&alarms).map(outlet).collect(),
            journal,
            history,
            webhook: Some(webhook),
            market,
            losses,
        };
        let (clock, seed) = (clock::now, seed());
        let parts = SourceParts { lanes, streams, publisher, commands, resolver, clock, seed };
        let polled = parts.lanes.iter().map(|lane| (lane.spec.exchange, lane.spec.name));
        let pushed = parts.streams.iter().map(|stream| (stream.spec.exchange, stream.spec.name));
        let races = races::load(&polled.chain(pushed).collect::<Vec<_>>(), store)?;
        let thread = SourceThread::new(parts).map_err(StartError::Source)?;
        built.threads.push(thread.with_races(races).with_tap(tap));
    }
    Ok(built)
}

/// One source with what the store remembers of it.
fn lane(
    config: &Config,
    name: &str,
    source: &SourceConfig,
    spec: &'static SourceSpec,
    store: &mut Store,
    stats: Arc<SourceStats>,
) -> Result<LaneParts, StartError> {
    let url = BaseUrl::parse(source.base_url.as_deref().unwrap_or(spec.base_url))
        .map_err(|e| StartError::Url(name.to_owned(), e))?;
    let tls = ClientTls::new(&ClientTrust { ca_file: source.ca_file.clone(), insecure: false })?;
    let mut detector = Detector::new(spec, config.detect.fresh_for);
    let lists = || spec.lists.iter().map(|list| list.name);
    let first_starts = store.first_starts(spec.name, lists(), clock::wall())?;
    for (index, (list, first_start)) in lists().zip(first_starts).enumerate() {
        let baselined = store.is_baselined(spec.name, list)?;
        detector.load_list(index, ListHistory { first_start, baselined });
    }
    let mut told = Told::new();
    for record in store.load_seen(spec.name)? {
        detector.load_seen(&record);
        let said = classify(spec.exchange, &record.title, CategoryHint::None);
        told.note(&record.notice_id, true, said.listing_type, &said.tickers);
    }
    for StoredAnnouncement { announcement, .. } in store.load_history(limits::HISTORY_IN_MEMORY)? {
        if announcement.source == spec.name {
            detector.load_announced(&announcement.notice_id, &announcement.title, announcement.published);
            let said = &announcement.classification;
            told.note(&announcement.notice_id, true, said.listing_type, &said.tickers);
        }
    }
    Ok(LaneParts {
        spec,
        url,
        tls,
        connections: usize::from(source.connections),
        bind: source.bind.clone(),
        requests_per_second: source.requests_per_second,
        mode: if source.flat { Mode::Flat } else { Mode::Clustered },
        detector,
        told,
        stats,
    })
}

/// What a thread with a core of its own takes ahead: a source thread's announcements stay in memory, 4,096 of
/// them at about 3 KiB each.
const HEAP_AHEAD_BYTES: usize = 16 * 1_024 * 1_024;

/// Starts threads and notes their pulses.
struct Spawn<'a> {
    view: &'a View,
}

impl Spawn<'_> {
    /// A loop of the common shape, pinned where the plan says so.
    fn looped(
        &self,
        plan: &ThreadPlan,
        stop: &Arc<AtomicBool>,
        mut thread: impl Step + Send + 'static,
    ) -> Result<Watched, StartError> {
        let (core, idle) = (plan.core, plan.idle.unwrap_or(Idle::Block));
        let (stop, pulse) = (Arc::clone(stop), Arc::new(Pulse::default()));
        let beat = Arc::clone(&pulse);
        let name = plan.name.clone();
        self.start(&plan.name, Some(pulse), move || {
            if let Some(core) = core
                && let Err(error) = cores::pin(core)
            {
                tracing::error!(thread = name, core, %error, "is not pinned");
            }
            let _ahead = core.map(|_| memory::HeapAhead::take(HEAP_AHEAD_BYTES));
            run_loop(&mut thread, idle, &stop, &beat);
        })
    }

    /// The accept thread blocks in its own poll.
    fn accept(&self, mut thread: AcceptThread, stop: &Arc<AtomicBool>) -> Result<Watched, StartError> {
        let (stop, pulse) = (Arc::clone(stop), Arc::new(Pulse::default()));
        let beat = Arc::clone(&pulse);
        self.start("accept", Some(pulse), move || thread.run(&stop, &beat))
    }

    /// The webhook thread blocks in its own poll too.
    fn webhook(&self, mut thread: WebhookThread, stop: &Arc<AtomicBool>) -> Result<Watched, StartError> {
        let (stop, pulse) = (Arc::clone(stop), Arc::new(Pulse::default()));
        let beat = Arc::clone(&pulse);
        self.start("webhook", Some(pulse), move || thread.run(&stop, &beat))
    }

    /// The market thread blocks in its own poll too.
    fn market(&self, mut thread: MarketThread, stop: &Arc<AtomicBool>) -> Result<Watched, StartError> {
        let (stop, pulse) = (Arc::clone(stop), Arc::new(Pulse::default()));
        let beat = Arc::clone(&pulse);
        self.start("market", Some(pulse), move || thread.run(&stop, &beat))
    }

    /// The mail thread blocks on its mail server; it notices a stop within a moment.
    fn mail(&self, mailer: Mailer<JournalOutbox>, stop: &Arc<AtomicBool>) -> Result<Watched, StartError> {
        let stop = Arc::clone(stop);
        self.start("mail", None, move || mailer.run(&stop))
    }

    fn control(
        &self,
        doors: control::Listeners,
        control: Arc<Control>,
        stop: &Arc<AtomicBool>,
    ) -> Result<Watched, StartError> {
        let stop = Arc::clone(stop);
        self.start("control", None, move || {
            if let Err(error) = control::run(doors, &control, &stop) {
                tracing::error!(%error, "the control plane ended");
            }
        })
    }

    fn start(
        &self,
        name: &str,
        pulse: Option<Arc<Pulse>>,
        body: impl FnOnce() + Send + 'static,
    ) -> Result<Watched, StartError> {
        self.view.note_thread(name, pulse.as_ref());
        let handle = std::thread::Builder::new()
            .name(name.to_owned())
            .stack_size(STACK_BYTES)
            .spawn(body)
            .map_err(doing(&format!("starting thread {name}")))?;
        Ok(Watched { name: name.to_owned(), handle, pulse })
    }
}
