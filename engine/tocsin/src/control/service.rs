//! The service itself, for the administrator: its sources, a drain, a reload of its configuration.
//!
//! Contract: a drain takes the subscribers off this service and does not end it: detection and webhooks
//! go on, `/readyz` is red until the next start. A reload answers what took effect and what waits for a
//! restart; a configuration that is not usable changes nothing.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use serde_json::{Value, json};

use super::Control;
use super::bridge::BridgeError;
use super::fields::{Body, read_body};
use super::reply::{Answer, ApiError};
use super::shapes::{DrainRequest, Draining, Nothing, Refusal, Sources};
use crate::os::clock;
use crate::reload::ReloadReport;

/// Longest drain that may be asked for.
const DRAIN_SECS: i64 = 3_600;

/// What a source may ask, as configured.
#[derive(Clone, Debug)]
pub struct SourceBudget {
    /// Name of the source (`binance.cms`).
    pub source: &'static str,
    /// Mean budget of one local address.
    pub requests_per_second: f64,
    /// Local addresses it asks from.
    pub addresses: usize,
    /// Connections kept warm.
    pub connections: u16,
    /// Spent evenly.
    pub flat: bool,
}

/// Sources: state, last poll and item, counts, failures, request budget.
#[utoipa::path(get, path = "/admin/v1/sources", tag = "service", security(("admin_token" = [])),
    responses((status = 200, body = Sources)))]
pub(super) async fn list_sources(State(control): State<Arc<Control>>) -> Answer {
    let mut status = control.view.status();
    let mut sources = status.get_mut("sources").map(Value::take).unwrap_or_default();
    for source in sources.as_array_mut().into_iter().flatten() {
        let name = source.get("name").and_then(Value::as_str);
        let budget = control.sources.iter().find(|budget| Some(budget.source) == name);
        let shown = budget.map(|budget| {
            json!({
                "requests_per_second": budget.requests_per_second,
                "addresses": budget.addresses,
                "connections": budget.connections,
                "flat": budget.flat,
            })
        });
        if let Value::Object(source) = source {
            source.insert("budget".to_owned(), shown.unwrap_or_default());
        }
    }
    Ok(Json(json!({ "sources": sources })).into_response())
}

/// Take the subscribers off: no new ones, those there are closed with 1012 `restart`, evenly.
///
/// 202: it has begun. Detection and webhooks go on; `/readyz` answers 503 until the next start.
#[utoipa::path(post, path = "/admin/v1/drain", tag = "service", security(("admin_token" = [])),
    request_body = DrainRequest, responses((status = 202, body = Draining), (status = 400, body = Refusal)))]
pub(super) async fn begin_drain(State(control): State<Arc<Control>>, body: Body) -> Answer {
    let DrainRequest { over_secs } = read_body(body)?;
    let over = match over_secs {
        None => control.drain.get(),
        Some(secs) => {
            let secs = u64::try_from(secs).ok().filter(|_| secs <= DRAIN_SECS);
            let bad = || ApiError::field("over_secs", format!("between 0 and {DRAIN_SECS}"));
            Duration::from_secs(secs.ok_or_else(bad)?)
        }
    };
    if !control.bridge.drain(clock::mono() + over) {
        return Err(BridgeError::Busy("accept").into());
    }
    control.view.set_draining();
    tracing::warn!(over_secs = over.as_secs(), "draining: subscribers are asked to go elsewhere");
    let body = Draining { connections: control.view.connections(), over_secs: over.as_secs() };
    Ok((StatusCode::ACCEPTED, Json(body)).into_response())
}

/// Read the configuration again.
///
/// 409: it is not usable; nothing has changed.
#[utoipa::path(post, path = "/admin/v1/reload", tag = "service", security(("admin_token" = [])),
    request_body = Nothing,
    responses((status = 200, body = ReloadReport), (status = 409, body = Refusal)))]
pub(super) async fn reload(State(control): State<Arc<Control>>, body: Body) -> Answer {
    let Nothing {} = read_body(body)?;
    let report = control.bridge.reload().await?;
    match report.error {
        None => Ok(Json(report).into_response()),
        Some(error) => Err(ApiError::new(StatusCode::CONFLICT, "configuration_unusable", error)),
    }
}
