//! Scripts: what happens at a simulated exchange, as JSON.
//!
//! Contract: a script is `{"events":[{"at_ms":2000,"exchange":"upbit","action":"publish",…},…]}`;
//! the admin listener takes the same events without `at_ms`. Unknown fields are errors. A notice is
//! named by its identifier, or `"last"` for the one published last.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tocsin_core::model::ListingType;
use tocsin_core::time::WallUs;

use crate::catalogue::{Category, Draft, Published};
use crate::certificate::CertChange;
use crate::error::SimError;
use crate::exchange::SimExchange;
use crate::fault::Fault;
use crate::http::Framing;
use crate::options::{CachePolicy, Kind};

/// A whole script.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// What happens, in any order.
    pub events: Vec<Event>,
}

/// One thing that happens at one exchange.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Event {
    /// When, in milliseconds after the start; ignored by the admin listener.
    #[serde(default)]
    pub at_ms: u64,
    /// Where.
    pub exchange: Kind,
    /// What.
    #[serde(flatten)]
    pub action: Action,
}

/// What can be done to an exchange: each is a method of [`SimExchange`].
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
#[allow(missing_docs, reason = "the fields are the arguments of the method named alike")]
pub enum Action {
    /// Publish this notice.
    Publish {
        title: String,
        #[serde(default)]
        title_en: Option<String>,
        #[serde(default)]
        category: Category,
        #[serde(default)]
        published_us: Option<i64>,
        #[serde(default)]
        modified_us: Option<i64>,
        #[serde(default)]
        id: Option<u64>,
    },
    /// Make up a notice, of a listing type if one is named.
    Invent {
        #[serde(default)]
        listing_type: Option<String>,
    },
    /// Make up several at once.
    Burst {
        count: usize,
    },
    Edit {
        notice: String,
        title: String,
    },
    SameIdNewTitle {
        notice: String,
        title: String,
    },
    Pin {
        notice: String,
    },
    Delete {
        notice: String,
    },
    CacheLag {
        ms: u64,
    },
    /// Edge cache of Binance; `ttl_ms` 0 switches it off.
    Cache {
        ttl_ms: u64,
        #[serde(default)]
        refresh_hit: bool,
    },
    Etag {
        on: bool,
    },
    Framing {
        framing: Vec<Framing>,
    },
    /// Misbehave for so many requests, or until `clear_fault`.
    Fault {
        fault: Fault,
        #[serde(default)]
        requests: Option<u32>,
    },
    ClearFault {},
    Certificate {
        change: CertChange,
    },
    DropConnections {},
    CloseAfter {
        answers: Option<u32>,
    },
    /// Serve the bytes of a file.
    ServeFile {
        path_prefix: String,
        file: std::path::PathBuf,
    },
    StopServing {},
}

impl Script {
    /// Parses a script and sorts its events by time.
    ///
    /// # Errors
    /// [`SimError::Script`], saying where.
    pub fn parse(text: &str) -> Result<Script, SimError> {
        let mut script: Script = serde_json::from_str(text).map_err(|e| SimError::Script(format!("{e}")))?;
        script.events.sort_by_key(|e| e.at_ms);
        Ok(script)
    }
}

impl Event {
    /// Parses one event.
    ///
    /// # Errors
    /// [`SimError::Script`].
    pub fn parse(text: &str) -> Result<Event, SimError> {
        serde_json::from_str(text).map_err(|e| SimError::Script(format!("{e}")))
    }
}

impl Action {
    /// Does it; says what came of it as JSON. `last` is the identifier `"last"` stands for, and is
    /// replaced by whatever is published.
    ///
    /// # Errors
    /// [`SimError`], naming the notice, file or type that does not exist.
    pub fn apply(&self, sim: &SimExchange, last: &mut Option<String>) -> Result<Value, SimError> {
        match self {
            Action::Publish { title, title_en, category, published_us, modified_us, id } => {
                let published = sim.publish(Draft {
                    title: title.clone(),
                    title_en: title_en.clone(),
                    category: *category,
                    published: published_us.map(WallUs),
                    modified: modified_us.map(WallUs),
                    id: *id,
                });
                return Ok(remember(&published, last));
            }
            Action::Invent { listing_type: None } => return Ok(remember(&sim.publish_any().0, last)),
            Action::Invent { listing_type: Some(name) } => {
                let listing_type = ListingType::parse(name)
                    .ok_or_else(|| SimError::Script(format!("no listing type {name:?}")))?;
                return Ok(remember(&sim.publish_invented(listing_type).0, last));
            }
            Action::Burst { count } => {
                let all: Vec<Value> = sim.burst(*count).iter().map(|p| remember(p, last)).collect();
                return Ok(Value::Array(all));
            }
            Action::Edit { notice, title } => sim.edit(resolve(notice, last)?, title)?,
            Action::SameIdNewTitle { notice, title } => {
                sim.same_id_new_title(resolve(notice, last)?, title)?;
            }
            Action::Pin { notice } => sim.pin(resolve(notice, last)?)?,
            Action::Delete { notice } => sim.delete(resolve(notice, last)?)?,
            Action::CacheLag { ms } => sim.cache_lag(Duration::from_millis(*ms)),
            Action::Cache { ttl_ms, refresh_hit } => {
                let policy = CachePolicy { ttl: Duration::from_millis(*ttl_ms), refresh_hit: *refresh_hit };
                sim.set_cache((*ttl_ms > 0).then_some(policy));
            }
            Action::Etag { on } => sim.set_etag(*on),
            Action::Framing { framing } => sim.set_framing(framing),
            Action::Fault { fault, requests: None } => sim.set_fault(fault.clone()),
            Action::Fault { fault, requests: Some(n) } => sim.fault_next(*n, fault.clone()),
            Action::ClearFault {} => sim.clear_fault(),
            Action::Certificate { change } => sim.set_certificate(*change)?,
            Action::DropConnections {} => sim.drop_connections(),
            Action::CloseAfter { answers } => sim.close_after(*answers),
            Action::ServeFile { path_prefix, file } => {
                let bytes = std::fs::read(file).map_err(|e| SimError::File(file.clone(), e))?;
                sim.serve_bytes(path_prefix, Arc::<[u8]>::from(bytes));
            }
            Action::StopServing {} => sim.stop_serving(),
        }
        Ok(json!({ "done": true }))
    }
}

fn resolve<'a>(notice: &'a str, last: &'a Option<String>) -> Result<&'a str, SimError> {
    if notice == "last" {
        last.as_deref().ok_or_else(|| SimError::NoSuchNotice("last".to_owned()))
    } else {
        Ok(notice)
    }
}

fn remember(published: &Published, last: &mut Option<String>) -> Value {
    *last = Some(published.notice_id.clone());
    json!({
        "notice_id": published.notice_id,
        "title": published.title,
        "published_us": published.published.0,
        "visible_us": published.visible.0,
    })
}
