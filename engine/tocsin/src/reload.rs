//! A reload of the configuration: who asks for one, which keys it reaches, and what came of it.
//!
//! Contract: SIGHUP and `POST /admin/v1/reload` end in the same [`ReloadReport`]. The main thread alone
//! carries a reload out (`serve/reload.rs`); whoever else wants one asks through a [`ReloadHandle`] and waits
//! for the report. A configuration that is not usable changes nothing and the service goes on.
//!
//! Owner: the types belong to nobody; handles are cloned freely. Allocates; [`ReloadHandle::ask`] never
//! blocks. Bounds: [`WAITING`] requests at a time, beyond them [`ReloadRefused::Busy`]; each gets the report
//! of one reload, and those that wait together share it.

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::oneshot;
use utoipa::ToSchema;

/// Requests that wait for the main thread at most.
pub const WAITING: usize = 16;

/// When a changed key takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// At the reload.
    AtOnce,
    /// At the next start.
    Restart,
}

/// Keys that take effect at a reload. Everything else is built into threads, rings or sockets at the start.
///
/// `[smtp]` is among them where mail was configured at the start and still is: see [`effect_of`].
pub const AT_ONCE: &[&str] = &[
    "admin.token_file",
    "feed.cert_file",
    "feed.drain",
    "feed.forwarded_for_from",
    "feed.key_file",
    "feed.limits.exempt",
    "feed.limits.ip_connections",
    "feed.limits.ip_connects_per_minute",
    "feed.proxy_protocol_from",
    "feed.send_buffer",
    "log.level",
    "webhooks.rotation_grace",
];

/// When a change of `key` takes effect. `mail_stays`: a mail server is configured before and after.
#[must_use]
pub fn effect_of(key: &str, mail_stays: bool) -> Effect {
    let at_once = AT_ONCE.contains(&key) || mail_stays && key.starts_with("smtp.");
    if at_once { Effect::AtOnce } else { Effect::Restart }
}

/// One key whose value differs from the one in force.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ChangedKey {
    /// Its dotted path, as in default.toml.
    pub key: String,
    /// The value in force before.
    #[schema(value_type = Value)]
    pub was: Value,
    /// The value that was read.
    #[schema(value_type = Value)]
    pub is: Value,
}

/// One file that was read again and holds something else now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ChangedFile {
    /// The key that names it.
    pub key: String,
    /// Where it is.
    pub path: String,
    /// What it holds now; never a secret.
    pub holds: String,
}

/// What came of a reload. Holds no secret: keys only name files that do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct ReloadReport {
    /// Whether the configuration was usable. If not, nothing has changed.
    pub valid: bool,
    /// What is wrong with it, with key and place; only when it is not valid.
    pub error: Option<String>,
    /// Changed keys that are in force now.
    pub in_force: Vec<ChangedKey>,
    /// Changed keys that take effect at the next start.
    pub needs_restart: Vec<ChangedKey>,
    /// Files with new contents that are in use now.
    pub files: Vec<ChangedFile>,
}

impl ReloadReport {
    /// Of a configuration that is not usable.
    #[must_use]
    pub fn invalid(error: impl Into<String>) -> ReloadReport {
        ReloadReport { error: Some(error.into()), ..ReloadReport::default() }
    }

    /// Writes it to the log: a line a key and file, and one that sums up.
    pub fn log(&self) {
        if let Some(error) = &self.error {
            tracing::error!(error, "reload: the configuration is not usable; nothing changes");
            return;
        }
        for ChangedKey { key, was, is } in &self.in_force {
            tracing::info!(key, %was, %is, "reload: in force now");
        }
        for ChangedFile { key, path, holds } in &self.files {
            tracing::info!(key, path, holds, "reload: read anew, in use now");
        }
        for ChangedKey { key, was, is } in &self.needs_restart {
            tracing::warn!(key, %was, %is, "reload: takes effect at the next restart");
        }
        let (in_force, needs_restart) = (self.in_force.len(), self.needs_restart.len());
        tracing::info!(in_force, needs_restart, files = self.files.len(), "reload: done");
    }

    /// One line for `systemctl status`.
    #[must_use]
    pub fn summary(&self) -> String {
        if !self.valid {
            return "reload refused: the configuration is not usable, nothing changed".to_owned();
        }
        let ReloadReport { in_force, needs_restart, files, .. } = self;
        let (keys, files, later) = (in_force.len(), files.len(), needs_restart.len());
        format!("reloaded: {keys} keys and {files} files in force, {later} keys wait for a restart")
    }
}

/// Why a reload could not be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadRefused {
    /// Too many wait already.
    Busy,
    /// The engine is stopping.
    Stopping,
}

/// Asks the main thread for reloads.
#[derive(Clone, Debug)]
pub struct ReloadHandle(Sender<oneshot::Sender<ReloadReport>>);

/// The main thread's end.
#[derive(Debug)]
pub struct ReloadRequests(Receiver<oneshot::Sender<ReloadReport>>);

/// Both ends.
#[must_use]
pub fn channel() -> (ReloadHandle, ReloadRequests) {
    let (sender, receiver) = bounded(WAITING);
    (ReloadHandle(sender), ReloadRequests(receiver))
}

impl ReloadHandle {
    /// Asks for a reload; the report comes when it is done. An error in its place means that the engine is
    /// stopping.
    ///
    /// # Errors
    /// See [`ReloadRefused`].
    pub fn ask(&self) -> Result<oneshot::Receiver<ReloadReport>, ReloadRefused> {
        let (reply, answer) = oneshot::channel();
        self.0.try_send(reply).map(|()| answer).map_err(|error| match error {
            TrySendError::Full(_) => ReloadRefused::Busy,
            TrySendError::Disconnected(_) => ReloadRefused::Stopping,
        })
    }
}

impl ReloadRequests {
    /// Everyone who waits now.
    #[must_use]
    pub fn take(&self) -> Vec<oneshot::Sender<ReloadReport>> {
        self.0.try_iter().take(WAITING).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;

    #[test]
    fn every_key_that_takes_effect_at_once_exists() {
        let layers = Layers::defaults().unwrap();
        let known: Vec<&str> = layers.iter().map(|(key, _, _)| key).collect();
        for key in AT_ONCE {
            assert!(known.contains(key), "{key}");
        }
        assert_eq!(effect_of("smtp.url", true), Effect::AtOnce);
        assert_eq!(effect_of("smtp.url", false), Effect::Restart);
        assert_eq!(effect_of("feed.listen", true), Effect::Restart);
    }

    #[test]
    fn those_who_wait_share_a_report_and_too_many_are_refused() {
        let (handle, requests) = channel();
        let waiting: Vec<_> = (0..WAITING).map(|_| handle.ask().unwrap()).collect();
        assert_eq!(handle.ask().unwrap_err(), ReloadRefused::Busy);
        let report = ReloadReport::invalid("no");
        for reply in requests.take() {
            reply.send(report.clone()).unwrap();
        }
        for mut answer in waiting {
            assert_eq!(answer.try_recv().unwrap(), report);
        }
        drop(requests);
        assert_eq!(handle.ask().unwrap_err(), ReloadRefused::Stopping);
    }
}
