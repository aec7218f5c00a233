//! The running engine: builds what [`crate::topology::Plan`] says, watches it, and takes it down in order.
//!
//! Owner: main thread. Everything that can fail at start (files, ports, certificates, the store) fails
//! here, before the first thread runs, with what is wrong and what to do. Stopping goes against the
//! flow: no new subscribers, the ones there are told and closed, then sources, writers, webhooks, control
//! plane, and the journal last, so that everything announced and answered is on disk.

mod build;
pub mod markets;
mod races;
mod recorder;
mod reload;
pub mod replay;
pub mod streams;
mod view;
mod webhooks;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tocsin_core::limits;

use crate::config::Config;
use crate::control::EngineView as _;
use crate::control::bridge::Bridge;
use crate::logging;
use crate::net::tls::TlsError;
use crate::net::url::UrlError;
use crate::os::clock;
use crate::os::inherited::Inherited;
use crate::reload::{ReloadReport, ReloadRequests};
use crate::store::StoreError;
use crate::supervise::{self, Signals, Systemd, Watched};
use crate::threads::source::SourceError;
use reload::Reachable;
use view::View;

pub use reload::Reloader;

/// Why the engine cannot start.
#[derive(Debug)]
pub enum StartError {
    /// The store.
    Store(StoreError),
    /// Certificates and trust.
    Tls(TlsError),
    /// `sources.NAME.base_url`.
    Url(String, UrlError),
    /// A section `[sources.NAME]` of a source that does not exist.
    NoSuchSource(String),
    /// What is wrong with a section `[streams.NAME]`.
    Stream(String),
    /// What is wrong with a section `[market.NAME]`, or with what is to be watched.
    Market(String),
    /// A source's requests.
    Source(SourceError),
    /// Anything of the operating system: what was done, and its answer.
    Io(String, io::Error),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StartError::Store(e) => e.fmt(f),
            StartError::Tls(e) => e.fmt(f),
            StartError::Url(name, e) => write!(f, "sources.{name}.base_url: {e}"),
            StartError::NoSuchSource(name) => write!(f, "there is no source `{name}`"),
            StartError::Stream(problem) | StartError::Market(problem) => f.write_str(problem),
            StartError::Source(e) => e.fmt(f),
            StartError::Io(what, e) => write!(f, "{what}: {e}"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> StartError {
        StartError::Store(error)
    }
}

impl From<TlsError> for StartError {
    fn from(error: TlsError) -> StartError {
        StartError::Tls(error)
    }
}

/// For `map_err`: what was done when the operating system said no.
fn doing(what: &str) -> impl FnOnce(io::Error) -> StartError {
    let what = what.to_owned();
    move |error| StartError::Io(what, error)
}

/// One stop flag a group of threads, so that they can be stopped in order.
#[derive(Debug, Default)]
struct Stops {
    sources: Arc<AtomicBool>,
    feed_side: Arc<AtomicBool>,
    webhooks: Arc<AtomicBool>,
    control: Arc<AtomicBool>,
    journal: Arc<AtomicBool>,
}

/// A running engine. Dropping it without [`Engine::stop`] leaves its threads running.
pub struct Engine {
    /// Where the feed listens, with the port it was given.
    pub feed: SocketAddr,
    /// Where the admin API listens over TCP.
    pub admin: Option<SocketAddr>,
    /// Where the admin API's socket is.
    pub admin_socket: PathBuf,
    /// SHA-256 of the feed's certificate; `None` when it serves plain `ws`.
    pub fingerprint: Option<String>,
    /// Which start of this data directory this is.
    pub epoch: u64,
    bridge: Arc<Bridge>,
    view: Arc<View>,
    stops: Stops,
    sources: Vec<Watched>,
    feed_side: Vec<Watched>,
    webhooks: Vec<Watched>,
    control: Vec<Watched>,
    journal: Vec<Watched>,
    drain: Duration,
    reloads: ReloadRequests,
    reachable: Reachable,
    /// Of the sources and of webhook receivers; each ends its thread when dropped.
    _resolvers: (crate::net::dns::Resolver, crate::net::egress::EgressResolver),
}

/// Why [`Engine::run`] came back.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// A signal asked for it.
    Asked,
    /// A thread ended on its own.
    Died(String),
}

/// Where an engine is and which start this is: what [`Engine`] tells of itself.
struct Addresses {
    feed: SocketAddr,
    admin: Option<SocketAddr>,
    fingerprint: Option<String>,
    epoch: u64,
}

impl Engine {
    /// Without a thread yet.
    fn new(
        config: &Config,
        addresses: Addresses,
        bridge: Arc<Bridge>,
        view: Arc<View>,
        resolvers: (crate::net::dns::Resolver, crate::net::egress::EgressResolver),
        (reloads, reachable): (ReloadRequests, Reachable),
    ) -> Engine {
        let Addresses { feed, admin, fingerprint, epoch } = addresses;
        Engine {
            feed,
            admin,
            admin_socket: config.admin.socket.clone(),
            fingerprint,
            epoch,
            bridge,
            view,
            stops: Stops::default(),
            sources: Vec::new(),
            feed_side: Vec::new(),
            webhooks: Vec::new(),
            control: Vec::new(),
            journal: Vec::new(),
            drain: config.feed.drain,
            reloads,
            reachable,
            _resolvers: resolvers,
        }
    }

    /// Opens, binds and starts everything.
    ///
    /// # Errors
    /// See [`StartError`]; nothing runs then.
    pub fn start(config: &Config) -> Result<Engine, StartError> {
        build::start(config, Inherited::default())
    }

    /// As [`Engine::start`], with listening sockets from the service manager in place of those that
    /// `feed.listen` and `admin.listen` name.
    ///
    /// # Errors
    /// See [`StartError`]; nothing runs then.
    pub fn start_on(config: &Config, inherited: Inherited) -> Result<Engine, StartError> {
        build::start(config, inherited)
    }

    /// Watches the threads until a signal or `enough` asks for a stop, or one of them ends.
    /// `on_reload` is called for each SIGHUP, and for those who ask through a
    /// [`ReloadHandle`](crate::reload::ReloadHandle); its report is logged and answered.
    pub fn run(
        &mut self,
        signals: &Signals,
        systemd: &mut Systemd,
        mut on_reload: impl FnMut(&mut Engine) -> ReloadReport,
        enough: impl Fn() -> bool,
    ) -> Ended {
        loop {
            if signals.terminate() || enough() {
                return Ended::Asked;
            }
            let groups = [&self.sources, &self.feed_side, &self.webhooks, &self.control, &self.journal];
            if let Some(name) = groups.iter().find_map(|group| supervise::ended_thread(group)) {
                return Ended::Died(name.to_owned());
            }
            systemd.feed_watchdog(groups);
            let waiting = self.reloads.take();
            if signals.take_reload() || !waiting.is_empty() {
                systemd.reloading();
                let report = on_reload(self);
                report.log();
                systemd.ready(&report.summary());
                for reply in waiting {
                    // Whoever asked may have gone.
                    let _ = reply.send(report.clone());
                }
            }
            self.view.note_gaps();
            self.view.note_sources();
            logging::reported().sum_up_when_due(clock::mono());
            std::thread::sleep(supervise::TICK);
        }
    }

    /// What `GET /admin/v1/status` answers.
    #[must_use]
    pub fn status(&self) -> serde_json::Value {
        self.view.status()
    }

    /// What the recorder has done, also once the engine has stopped; null without one.
    pub fn counts(&self) -> impl Fn() -> serde_json::Value + use<> {
        let view = Arc::clone(&self.view);
        move || view.recorder()
    }

    /// Drains subscribers, then stops every thread in order. True when all ended properly.
    pub fn stop(self) -> bool {
        // Whoever waits for a reload learns that there will be none.
        drop(self.reloads);
        self.view.set_draining();
        let until = clock::mono() + self.drain;
        if !self.bridge.drain(until) {
            tracing::warn!("the accept thread takes no command; subscribers are cut off");
        }
        let cut_off = until + limits::CLOSE_TIMEOUT;
        while self.view.live_sessions() > 0 && clock::mono() < cut_off {
            std::thread::sleep(Duration::from_millis(5));
        }
        let stages = [
            (&self.stops.sources, self.sources),
            (&self.stops.feed_side, self.feed_side),
            (&self.stops.webhooks, self.webhooks),
            (&self.stops.control, self.control),
            (&self.stops.journal, self.journal),
        ];
        logging::reported().sum_up(clock::mono());
        let mut proper = true;
        for (stop, threads) in stages {
            stop.store(true, Ordering::Relaxed);
            for Watched { name, handle, .. } in threads {
                if handle.join().is_err() {
                    tracing::error!(thread = name, "ended by a panic");
                    proper = false;
                }
            }
        }
        proper
    }
}
