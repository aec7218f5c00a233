//! The control plane: admin API and customer API over a Unix socket and TCP, history, health.
//!
//! Contract: [`Listeners::bind`] opens both doors at start, so that a port in use is an error then;
//! [`run`] serves them until told to stop. Everything it knows of the engine comes through
//! [`bridge::Bridge`] (rings), a [`Reader`] (committed rows) and an [`EngineView`] (counters): it
//! never holds a pointer into hot state.
//!
//! Owner: the control thread (its own tokio runtime, one thread, two more for disk reads). Bounds:
//! connections per door, head size and time, body size, time per request and per connection. It
//! may allocate and wait; nothing waits for it.

mod access;
mod accounts;
mod api;
pub mod bridge;
mod caller;
mod client;
mod dashboard;
mod deliveries;
mod door;
mod fields;
mod history;
pub mod host;
mod live;
mod markets;
pub mod metrics;
pub mod openapi;
pub mod replay;
pub mod reply;
mod service;
mod session;
mod shapes;
pub mod snapshot;
mod subscribers;
pub mod token;
mod usage;
mod webhooks;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tocsin_core::access::Owner;
use tocsin_core::webhook::address::AddressPolicy;

pub use access::AccessRules;
pub use door::{Listeners, run};
pub use service::SourceBudget;

use crate::config::Config;
use crate::net::tls::SharedTls;
use crate::store::{Reader, StoreError};
use crate::threads::journal::LiveInlet;
use access::Access;
use bridge::Bridge;
use metrics::{Host, MetricsAccess};
use snapshot::{NotReady, Snapshot};
use token::{AdminToken, LiveToken};

/// What the control plane may ask about the running engine. Answers come from counters the other
/// threads publish; no answer waits for a thread.
pub trait EngineView: Send + Sync + 'static {
    /// Everything that is counted.
    fn snapshot(&self) -> Snapshot;
    /// The body of `GET /admin/v1/status`: sources, feed, accept and journal counters.
    fn status(&self) -> serde_json::Value {
        // Cannot fail: a snapshot is plain data with text for keys.
        serde_json::to_value(self.snapshot()).unwrap_or_default()
    }
    /// What the operating system tells of this process, the disk and the clock. Reads files: not for an
    /// async runtime's own thread.
    fn host(&self) -> Host;
    /// Whether every thread moves.
    fn is_alive(&self) -> bool;
    /// Why no subscriber should be sent here now; empty when ready.
    fn not_ready(&self) -> Vec<NotReady>;
    /// From now on subscribers are not taken.
    fn set_draining(&self);
    /// Subscribers connected, as of a moment ago.
    fn connections(&self) -> u64;
}

/// What the control plane is made of.
pub struct ControlParts {
    /// To the other threads.
    pub bridge: Arc<Bridge>,
    /// Committed rows.
    pub reader: Reader,
    /// Counters.
    pub view: Arc<dyn EngineView>,
    /// Opens the admin routes over TCP.
    pub token: AdminToken,
    /// Who may read the metrics over TCP.
    pub metrics: MetricsAccess,
    /// What accounts may do.
    pub webhooks: WebhookRules,
    /// What else the configuration says.
    pub settings: Settings,
    /// What dashboards look at.
    pub looks: Looks,
}

/// What the configuration says of the control plane itself, and what it shows of it.
pub struct Settings {
    /// How often, and through whom, requests over TCP may come.
    pub access: AccessRules,
    /// What each source may ask.
    pub sources: Vec<SourceBudget>,
    /// How long a drain takes (`feed.drain`).
    pub drain: Duration,
    /// Where browsers find the TCP listener; `None` without one.
    pub base_url: Option<String>,
}

/// What dashboards look at beside the counters.
pub struct Looks {
    /// What is committed, as it is.
    pub live: LiveInlet,
    /// The machine.
    pub host: host::HostFacts,
}

impl Looks {
    /// Of an engine that starts now with this certificate.
    #[must_use]
    pub fn new(live: LiveInlet, certificate: Option<&SharedTls>) -> Looks {
        Looks { live, host: host::HostFacts::starting(certificate.cloned()) }
    }
}

impl Settings {
    /// As configured, behind these doors.
    #[must_use]
    pub fn new(config: &Config, sources: Vec<SourceBudget>, doors: &Listeners) -> Settings {
        let (access, drain) = (AccessRules::from(&config.admin), config.feed.drain);
        Settings { access, sources, drain, base_url: doors.base_url() }
    }
}

/// What the configuration says of webhooks, for the routes.
#[derive(Clone, Debug)]
pub struct WebhookRules {
    /// Plans that have them (`webhooks.plans`).
    pub plans: Vec<String>,
    /// Grace of a rotated secret when the request names none (`webhooks.rotation_grace`).
    pub rotation_grace: LiveDuration,
    /// Which addresses endpoints may have (`egress.allow_nets`).
    pub policy: Arc<AddressPolicy>,
}

/// A duration that a reload may change; clones share it.
#[derive(Clone, Debug)]
pub struct LiveDuration(Arc<AtomicU64>);

impl LiveDuration {
    /// Begins with `duration`; whole milliseconds count.
    #[must_use]
    pub fn new(duration: Duration) -> LiveDuration {
        let live = LiveDuration(Arc::default());
        live.set(duration);
        live
    }

    /// The duration in force.
    #[must_use]
    pub fn get(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }

    fn set(&self, duration: Duration) {
        self.0.store(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// Everything the routes need.
pub struct Control {
    bridge: Arc<Bridge>,
    reader: Arc<Mutex<Reader>>,
    view: Arc<dyn EngineView>,
    token: LiveToken,
    metrics: MetricsAccess,
    webhooks: WebhookRules,
    access: Access,
    sources: Vec<SourceBudget>,
    drain: LiveDuration,
    base_url: Option<String>,
    live: live::Live,
    host: host::HostFacts,
}

impl Control {
    /// Puts it together.
    ///
    /// # Errors
    /// The operating system gives no random bytes.
    pub fn new(parts: ControlParts) -> io::Result<Arc<Control>> {
        let ControlParts { bridge, reader, view, token, metrics, webhooks, settings, looks } = parts;
        let Settings { access, sources, drain, base_url } = settings;
        let (reader, token) = (Arc::new(Mutex::new(reader)), LiveToken::new(token));
        let access = Access::new(access)?;
        let drain = LiveDuration::new(drain);
        let Looks { live, host } = looks;
        let live = live::Live::new(live);
        Ok(Arc::new(Control {
            bridge,
            reader,
            view,
            token,
            metrics,
            webhooks,
            access,
            sources,
            drain,
            base_url,
            live,
            host,
        }))
    }

    /// From now on `token` alone opens the admin routes over TCP; if it is another one, sessions that
    /// were opened with the one before end. For a reload, from the main thread.
    pub fn replace_token(&self, token: AdminToken) {
        if self.token.replace(token) {
            let ended = self.access.end_all_of(Owner::Administrator);
            tracing::info!(sessions_ended = ended, "the admin token is another one");
        }
    }

    /// Whether a session has not ended; asking does not keep it from ending.
    fn session_holds(&self, caller::WithSession(session): caller::WithSession) -> bool {
        session.is_none_or(|key| self.access.holds(&key))
    }

    /// Whether this is the admin token; compares in constant time.
    fn is_admin_token(&self, given: &str) -> bool {
        self.token.matches(given)
    }

    /// How long drains take from now on. For a reload, from the main thread.
    pub fn set_drain(&self, drain: Duration) {
        self.drain.set(drain);
    }

    /// Grace of secrets that are rotated from now on. For a reload, from the main thread.
    pub fn set_rotation_grace(&self, grace: Duration) {
        self.webhooks.rotation_grace.set(grace);
    }

    /// Reads from disk without holding up the runtime.
    async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, reply::ApiError> {
        let reader = Arc::clone(&self.reader);
        match tokio::task::spawn_blocking(move || question(&reader.lock())).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(bridge::BridgeError::Stopping.into()),
        }
    }
}

#[cfg(test)]
mod tests;
