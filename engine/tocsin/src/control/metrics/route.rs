//! The route, and who may read it over TCP.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};

use super::super::api::Door;
use super::super::client::Given;
use super::super::reply::ApiError;
use super::super::token::AdminToken;
use super::super::{Control, bridge};
use super::{Readings, render};

/// Who may read the metrics over TCP. At the Unix socket its file permissions decide.
#[derive(Clone, Debug)]
pub enum MetricsAccess {
    /// Whoever reaches the listener.
    Anyone,
    /// Who has the administrator's token.
    Administrator,
    /// Who has this token, or the administrator's.
    Token(AdminToken),
}

impl MetricsAccess {
    /// Refuses who may not. A wrong token counts against its address.
    fn check(&self, control: &Control, given: &Given) -> Result<(), ApiError> {
        let own = match self {
            MetricsAccess::Anyone => return Ok(()),
            MetricsAccess::Administrator => None,
            MetricsAccess::Token(token) => Some(token),
        };
        control.access.may_try(given.client.address)?;
        if let Some(shown) = &given.bearer {
            if own.is_some_and(|token| token.matches(shown)) || control.is_admin_token(shown) {
                return Ok(());
            }
            control.access.failed(given.client.address);
        }
        let detail = "send `Authorization: Bearer <token>` of admin.metrics_token_file";
        Err(ApiError::unauthorized(detail))
    }
}

/// Everything that is counted, for Prometheus.
///
/// See docs/metrics.md. Open at the Unix socket, and over TCP on a loopback address where
/// `admin.metrics_token_file` names no token; else it takes that token or the administrator's.
#[utoipa::path(get, path = "/metrics", tag = "service", security((), ("metrics_token" = []), ("admin_token" = [])),
    responses((status = 200, body = String, content_type = "text/plain; version=0.0.4"),
        (status = 401, body = super::super::shapes::Refusal)))]
pub(in crate::control) async fn metrics(
    State(control): State<Arc<Control>>,
    door: Door,
    request: Request,
) -> Result<Response, ApiError> {
    if door == Door::Tcp {
        control.metrics.check(&control, &Given::of(&request))?;
    }
    let text = tokio::task::spawn_blocking(move || render(&readings(&control)));
    let text = text.await.map_err(|_| ApiError::from(bridge::BridgeError::Stopping))?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

fn readings(control: &Control) -> Readings {
    Readings {
        engine: control.view.snapshot(),
        host: control.view.host(),
        endpoint_states: control.reader.lock().endpoint_states().ok(),
    }
}
