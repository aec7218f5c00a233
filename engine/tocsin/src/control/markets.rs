//! Markets, for the administrator: each request for a list, and what was told of them.
//!
//! Contract: the requests are what the market thread last published, at most half a second old; the events are
//! those of the store, newest first, at most [`limits::MARKET_EVENTS_PER_QUERY`] a request.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::IntoResponse as _;
use tocsin_core::limits;

use super::Control;
use super::fields::Query;
use super::reply::Answer;
use super::shapes::{MarketEventShown, MarketEvents, Markets, Refusal};

/// Events when the request names no limit.
const EVENTS: usize = 50;

/// Markets: each request's state, last answer, list and counts.
#[utoipa::path(get, path = "/admin/v1/markets", tag = "service", security(("admin_token" = [])),
    responses((status = 200, body = Markets)))]
pub(super) async fn list_markets(State(control): State<Arc<Control>>) -> Answer {
    let market = control.view.snapshot().market;
    let enabled = market.is_some();
    let requests = market.map(|market| market.requests).unwrap_or_default();
    Ok(Json(Markets { enabled, requests }).into_response())
}

/// The newest market events, newest first.
#[utoipa::path(get, path = "/admin/v1/markets/events", tag = "service", security(("admin_token" = [])),
    params(("limit" = Option<u32>, Query, description = "1 to 1000; 50 when not given")),
    responses((status = 200, body = MarketEvents), (status = 400, body = Refusal)))]
pub(super) async fn list_market_events(
    State(control): State<Arc<Control>>,
    RawQuery(query): RawQuery,
) -> Answer {
    let query = Query::read(query.as_deref(), &["limit"])?;
    let limit = query.limit(EVENTS, limits::MARKET_EVENTS_PER_QUERY)?;
    let events = control.read(move |reader| reader.market_events(limit)).await?;
    let events = events.iter().rev().map(MarketEventShown::of).collect();
    Ok(Json(MarketEvents { events }).into_response())
}
