//! The control plane: admin API over a Unix socket and TCP, history, health.
//!
//! Contract: [`Listeners::bind`] opens both doors at start, so that a port in use is an error then;
//! [`run`] serves them until told to stop. Everything it knows of the engine comes through
//! [`bridge::Bridge`] (rings), a [`Reader`] (committed rows) and an [`EngineView`] (counters): it
//! never holds a pointer into hot state.
//!
//! Owner: the control thread (its own tokio runtime, one thread, two more for disk reads). Bounds:
//! connections per door, head size and time, body size, time per request and per connection. It
//! may allocate and wait; nothing waits for it.

mod api;
pub mod bridge;
mod door;
mod fields;
mod history;
pub mod reply;
pub mod token;

use std::sync::Arc;

use parking_lot::Mutex;

pub use door::{Listeners, run};

use crate::store::{Reader, StoreError};
use bridge::Bridge;
use token::AdminToken;

/// What the control plane may ask about the running engine. Answers come from counters the other
/// threads publish; no answer waits for a thread.
pub trait EngineView: Send + Sync + 'static {
    /// Sources, feed, accept and journal counters: the body of `GET /admin/v1/status`.
    fn status(&self) -> serde_json::Value;
    /// Whether every thread moves.
    fn is_alive(&self) -> bool;
    /// Whether subscribers are taken (started, and not draining).
    fn is_ready(&self) -> bool;
}

/// Everything the routes need.
pub struct Control {
    bridge: Arc<Bridge>,
    reader: Arc<Mutex<Reader>>,
    view: Arc<dyn EngineView>,
    token: AdminToken,
}

impl Control {
    /// Puts it together.
    #[must_use]
    pub fn new(
        bridge: Arc<Bridge>,
        reader: Reader,
        view: Arc<dyn EngineView>,
        token: AdminToken,
    ) -> Arc<Control> {
        Arc::new(Control { bridge, reader: Arc::new(Mutex::new(reader)), view, token })
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
