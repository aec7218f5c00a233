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

mod accounts;
mod api;
pub mod bridge;
mod caller;
mod deliveries;
mod door;
mod fields;
mod history;
pub mod metrics;
pub mod openapi;
pub mod replay;
pub mod reply;
mod shapes;
pub mod snapshot;
pub mod token;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tocsin_core::webhook::address::AddressPolicy;

pub use door::{Listeners, run};

use crate::store::{Reader, StoreError};
use bridge::Bridge;
use metrics::{Host, MetricsAccess};
use snapshot::{NotReady, Snapshot};
use token::AdminToken;

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
}

/// What the configuration says of webhooks, for the routes.
#[derive(Clone, Debug)]
pub struct WebhookRules {
    /// Plans that have them (`webhooks.plans`).
    pub plans: Vec<String>,
    /// Grace of a rotated secret when the request names none (`webhooks.rotation_grace`).
    pub rotation_grace: Duration,
    /// Which addresses endpoints may have (`egress.allow_nets`).
    pub policy: Arc<AddressPolicy>,
}

/// Everything the routes need.
pub struct Control {
    bridge: Arc<Bridge>,
    reader: Arc<Mutex<Reader>>,
    view: Arc<dyn EngineView>,
    token: AdminToken,
    metrics: MetricsAccess,
    webhooks: WebhookRules,
}

impl Control {
    /// Puts it together.
    #[must_use]
    pub fn new(parts: ControlParts) -> Arc<Control> {
        let ControlParts { bridge, reader, view, token, metrics, webhooks } = parts;
        Arc::new(Control { bridge, reader: Arc::new(Mutex::new(reader)), view, token, metrics, webhooks })
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
