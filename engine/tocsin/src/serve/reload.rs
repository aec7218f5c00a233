//! Carries a reload out: reads everything first, then changes what can be changed while it runs.
//!
//! Contract: [`Reloader::reload`] either applies every change that takes effect at once or none. All that can
//! fail (values, certificate, token, mail settings) is read before the first thing changes. Hot threads
//! are not touched: the accept thread gets one message through its ring, the mail thread finds new
//! settings in a slot, the control plane's own settings are swapped under their locks.
//!
//! Owner: main thread. Blocks on files, and for [`PATIENCE`] at most on a full ring.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::build::{admin_token, certificate, mail_sender};
use super::{Engine, StartError};
use crate::config::{Config, Layers};
use crate::control::Control;
use crate::control::token::AdminToken;
use crate::net::tls::{GENERATED_CERT, ServerTls, SharedTls};
use crate::os::clock;
use crate::reload::{ChangedFile, ChangedKey, Effect, ReloadReport, effect_of};
use crate::rings::AcceptReload;
use crate::threads::accept::AcceptSettings;
use crate::threads::mail::{MailSettings, NextSettings};

/// How long a full ring to the accept thread is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a reload reaches beside the accept thread.
pub(super) struct Reachable {
    pub(super) control: Arc<Control>,
    /// The certificate in use; `None` when neither door serves TLS.
    pub(super) certificate: Option<SharedTls>,
    pub(super) token: AdminToken,
    /// Where mail was configured at the start.
    pub(super) mail: Option<MailLink>,
}

/// To the mail thread.
pub(super) struct MailLink {
    pub(super) next: NextSettings,
    pub(super) wake: crossbeam::channel::Sender<()>,
    pub(super) install: String,
}

/// Everything of a reload that could fail, done.
struct Prepared {
    certificate: Option<ServerTls>,
    token: AdminToken,
    mail: Option<MailSettings>,
}

/// What a reload starts from: the layers in force, and how to read them anew.
pub struct Reloader<'a> {
    in_force: Layers,
    read: &'a dyn Fn() -> Result<Layers, String>,
    /// Changes the filter of the log; its error names the key.
    set_level: &'a dyn Fn(&str) -> Result<(), String>,
}

impl<'a> Reloader<'a> {
    /// `in_force` is what the engine was started with.
    pub fn new(
        in_force: Layers,
        read: &'a dyn Fn() -> Result<Layers, String>,
        set_level: &'a dyn Fn(&str) -> Result<(), String>,
    ) -> Reloader<'a> {
        Reloader { in_force, read, set_level }
    }

    /// Reads the configuration again and applies what can be applied to `engine`. Logs nothing.
    pub fn reload(&mut self, engine: &mut Engine) -> ReloadReport {
        self.try_reload(engine).unwrap_or_else(ReloadReport::invalid)
    }

    fn try_reload(&mut self, engine: &mut Engine) -> Result<ReloadReport, String> {
        let new = (self.read)()?;
        let wanted = Config::from_layers(&new).map_err(|e| e.to_string())?;
        let old = Config::from_layers(&self.in_force).map_err(|e| e.to_string())?;
        let mail_stays = old.smtp.is_some() && wanted.smtp.is_some();
        let mut report = ReloadReport { valid: true, ..ReloadReport::default() };
        for (key, was, is) in new.changed_from(&self.in_force) {
            let effect = effect_of(&key, mail_stays);
            let json = |value| serde_json::to_value(value).unwrap_or_default();
            let changed = ChangedKey { key, was: json(was), is: json(is) };
            match effect {
                Effect::AtOnce => report.in_force.push(changed),
                Effect::Restart => report.needs_restart.push(changed),
            }
        }
        let keys = report.in_force.iter().map(|changed| changed.key.as_str());
        let effective = self.in_force.with_entries_of(&new, keys);
        let config = Config::from_layers(&effective).map_err(|e| e.to_string())?;
        let prepared = engine.prepare(&old, &config).map_err(|e| e.to_string())?;
        // The last step that can fail comes before the first that changes anything for others.
        if config.log.level != old.log.level {
            (self.set_level)(&config.log.level)?;
        }
        if let Err(problem) = engine.apply(&config, prepared, &mut report) {
            let _ = (self.set_level)(&old.log.level);
            return Err(problem);
        }
        self.in_force = effective;
        Ok(report)
    }
}

impl Engine {
    /// Reads what `config` names, and compares it with what is in use.
    fn prepare(&self, old: &Config, config: &Config) -> Result<Prepared, StartError> {
        let mail = match (&self.reachable.mail, &config.smtp) {
            (Some(link), Some(smtp)) if config.smtp != old.smtp => {
                let sender = mail_sender(config, smtp, link.install.clone());
                Some(MailSettings::new(smtp, sender).map_err(super::doing("preparing mail ([smtp])"))?)
            }
            _ => None,
        };
        Ok(Prepared { certificate: certificate(config)?, token: admin_token(config)?, mail })
    }

    /// Puts everything into use and says which files changed.
    fn apply(&mut self, config: &Config, new: Prepared, report: &mut ReloadReport) -> Result<(), String> {
        let Prepared { certificate, token, mail } = new;
        let in_use = self.reachable.certificate.as_ref().map(SharedTls::get);
        let certificate = certificate.filter(|new| in_use.is_some_and(|old| !old.is_same(new)));
        let reload = AcceptReload {
            settings: AcceptSettings::from(&config.feed),
            tls: certificate.clone().filter(|_| config.feed.tls),
        };
        let until = clock::mono() + PATIENCE;
        if !self.bridge.reload_accept(reload, || clock::mono() < until) {
            return Err("the accept thread does not take the new settings; try again".to_owned());
        }
        if let Some(certificate) = certificate {
            let generated = || config.data_dir.join(GENERATED_CERT);
            let path = config.feed.cert_file.clone().unwrap_or_else(generated);
            let holds = format!("certificate, SHA-256 {}", certificate.fingerprint_text());
            report.files.push(file("feed.cert_file", &path, &holds));
            if config.feed.tls {
                self.fingerprint = Some(certificate.fingerprint_text());
            }
            if let Some(shared) = &self.reachable.certificate {
                shared.replace(certificate);
            }
        }
        if token != self.reachable.token {
            report.files.push(file("admin.token_file", &token_path(config), "another token"));
            self.reachable.control.replace_token(token.clone());
            self.reachable.token = token;
        }
        self.reachable.control.set_rotation_grace(config.webhooks.rotation_grace);
        self.drain = config.feed.drain;
        self.reachable.control.set_drain(config.feed.drain);
        if let (Some(settings), Some(link)) = (mail, &self.reachable.mail) {
            link.next.put(settings);
            // Full: it is being woken already.
            let _ = link.wake.try_send(());
        }
        Ok(())
    }
}

fn token_path(config: &Config) -> PathBuf {
    config.admin.token_file.clone().unwrap_or_else(|| config.data_dir.join("admin.token"))
}

fn file(key: &str, path: &Path, holds: &str) -> ChangedFile {
    ChangedFile { key: key.to_owned(), path: path.display().to_string(), holds: holds.to_owned() }
}
