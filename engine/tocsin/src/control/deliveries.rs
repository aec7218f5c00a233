//! What was sent: the delivery log, resend and replay, and all events to catch up with.
//!
//! Contract: as [`super::webhooks`]. Pages are bounded in rows, and events in bytes too. Events are
//! served byte for byte as they are sent.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use tocsin_core::limits;
use tocsin_core::webhook::event::EventId;

use super::Control;
use super::caller::{Caller, EndpointPath};
use super::fields::{Body, Query, read_body, read_instant};
use super::replay::{Selected, Selection, asked_for};
use super::reply::{Answer, ApiError, json_text, rfc3339};
use super::shapes::{Deliveries, DeliveryShown, Events, Refusal, Replay, Replayed};
use super::webhooks::read_filter;
use crate::store::webhook::deliveries::StoredEvent;

/// Lines of the delivery log when the request names no limit.
const LINES: usize = 50;
/// Events of a page when the request names no limit.
const EVENTS: usize = 100;
/// A page of events ends once it is this long.
const PAGE_BYTES: usize = 4 * 1_024 * 1_024;

/// The newest lines of an endpoint's delivery log, newest first.
#[utoipa::path(get, path = "/v1/webhooks/{id}/deliveries", tag = "deliveries",
    security(("account_token" = [])),
    params(("id" = u64, Path, description = "Number of the endpoint"),
        ("limit" = Option<u32>, Query, description = "1 to 200; 50 when not given"),
        ("event" = Option<String>, Query, description = "Only attempts of this event_id")),
    responses((status = 200, body = Deliveries), (status = 404, body = Refusal)))]
pub(super) async fn list_deliveries(
    State(control): State<Arc<Control>>,
    Extension(caller): Extension<Caller>,
    Path(path): Path<EndpointPath>,
    RawQuery(query): RawQuery,
) -> Answer {
    let query = Query::read(query.as_deref(), &["limit", "event"])?;
    let limit = query.limit(LINES, limits::WEBHOOK_LINES_PER_REQUEST)?;
    let event = query.text("event").map(read_event_id).transpose()?;
    let (_, record) = control.find(&caller, &path).await?;
    let lines = control.read(move |reader| reader.attempts(record.id, event, limit)).await?;
    Ok(Json(Deliveries { deliveries: lines.iter().map(DeliveryShown::of).collect() }).into_response())
}

fn read_event_id(text: &str) -> Result<EventId, ApiError> {
    EventId::parse(text).ok_or_else(|| ApiError::field("event", "takes an event_id: cxp_ and 26 characters"))
}

/// Send one event to an endpoint again, whether or not it had it before.
#[utoipa::path(post, path = "/v1/webhooks/{id}/deliveries/{event_id}/resend", tag = "deliveries",
    security(("account_token" = [])),
    params(("id" = u64, Path, description = "Number of the endpoint"),
        ("event_id" = String, Path, description = "Which event")),
    responses((status = 202, body = Replayed), (status = 404, body = Refusal), (status = 409, body = Refusal)))]
pub(super) async fn resend_delivery(
    State(control): State<Arc<Control>>,
    Extension(caller): Extension<Caller>,
    Path(path): Path<EndpointPath>,
) -> Answer {
    let none = || {
        let detail = "there is no such event, or it is no longer kept; pings and test events are not";
        ApiError::new(StatusCode::NOT_FOUND, "no_such_event", detail)
    };
    let id = path.event_id.as_deref().and_then(EventId::parse).ok_or_else(none)?;
    let (_, record) = control.find_entitled(&caller, &path).await?;
    let event = control.read(move |reader| reader.event(id)).await?.ok_or_else(none)?;
    let queued = control.bridge.redeliver(record.id, vec![asked_for(event)]).await?;
    Ok((StatusCode::ACCEPTED, Json(Replayed { queued, next_since: None })).into_response())
}

/// Send an endpoint past events again.
///
/// Those of a time that it wants, oldest first, at most 1,000 a request.
#[utoipa::path(post, path = "/v1/webhooks/{id}/replay", tag = "deliveries",
    security(("account_token" = [])),
    params(("id" = u64, Path, description = "Number of the endpoint")), request_body = Replay,
    responses((status = 202, body = Replayed), (status = 404, body = Refusal), (status = 409, body = Refusal)))]
pub(super) async fn replay_webhook(
    State(control): State<Arc<Control>>,
    Extension(caller): Extension<Caller>,
    Path(path): Path<EndpointPath>,
    body: Body,
) -> Answer {
    let Replay { since, until, types } = read_body(body)?;
    let since = read_instant("since", &since)?;
    let until = until.map(|text| read_instant("until", &text)).transpose()?;
    if until.is_some_and(|until| until <= since) {
        return Err(ApiError::field("until", "must be later than since"));
    }
    let (_, record) = control.find_entitled(&caller, &path).await?;
    let filter = read_filter(record.filter, types, None).map_err(|error| match error.field.as_deref() {
        Some("events") => ApiError { field: Some("types".to_owned()), ..error },
        _ => error,
    })?;
    let selection = Selection { since, until, filter };
    let Selected { events, next_since } = control.read(move |reader| selection.read(reader)).await?;
    let events = events.into_iter().map(asked_for).collect();
    let queued = control.bridge.redeliver(record.id, events).await?;
    let next_since = next_since.map(rfc3339);
    Ok((StatusCode::ACCEPTED, Json(Replayed { queued, next_since })).into_response())
}

/// All events, oldest first, as they are sent: to catch up with what was missed.
#[utoipa::path(get, path = "/v1/events", tag = "deliveries", security(("account_token" = [])),
    params(("after" = Option<u64>, Query, description = "Those behind this number: `next` of the answer before"),
        ("since" = Option<String>, Query, description = "Those of this instant or later: RFC 3339, or seconds since 1970"),
        ("limit" = Option<u32>, Query, description = "1 to 1000; 100 when not given")),
    responses((status = 200, body = Events), (status = 400, body = Refusal)))]
pub(super) async fn list_events(State(control): State<Arc<Control>>, RawQuery(query): RawQuery) -> Answer {
    let query = Query::read(query.as_deref(), &["after", "since", "limit"])?;
    let limit = query.limit(EVENTS, limits::WEBHOOK_EVENTS_PER_REQUEST)?;
    let after = query.text("after").map(|text| {
        let number = text.parse::<u64>().ok().filter(|number| i64::try_from(*number).is_ok());
        number.ok_or_else(|| ApiError::field("after", "takes a number: `next` of the answer before"))
    });
    let after = after.transpose()?;
    let since = query.text("since").map(|text| read_instant("since", text)).transpose()?;
    let events = control.read(move |reader| reader.events(after, since, limit)).await?;
    Ok(json_text(StatusCode::OK, events_json(&events, after)))
}

/// `{"events":[...],"next":N|null}`, each event byte for byte as it is sent.
fn events_json(events: &[StoredEvent], after: Option<u64>) -> Vec<u8> {
    let mut out = b"{\"events\":[".to_vec();
    let mut next = after;
    for (i, event) in events.iter().enumerate() {
        if i > 0 {
            if out.len() >= PAGE_BYTES {
                break;
            }
            out.push(b',');
        }
        out.extend_from_slice(&event.outgoing.body);
        next = Some(event.number);
    }
    let next = next.map_or_else(|| "null".to_owned(), |next| next.to_string());
    out.extend_from_slice(format!("],\"next\":{next}}}").as_bytes());
    out
}
