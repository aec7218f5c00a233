//! Endpoints: registered, listed, changed, switched on and off, removed; their verification and test
//! events.
//!
//! Contract: one set of handlers for customer and administrator, see [`super::caller`]. A secret is
//! in the answer that draws it and nowhere else. A receiver that checks signatures cannot know its
//! secret at the first ping, so a failed verification leaves the endpoint pending and its owner asks
//! for another; only an address that may not be called undoes the registration.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use axum::routing::{get, post};
use axum::{Json, Router};
use tocsin_core::limits;
use tocsin_core::webhook::dispatcher::Refusal as Refused;
use tocsin_core::webhook::endpoint::State as EndpointState;
use tocsin_core::webhook::event::EventKind;
use tocsin_core::webhook::filter::{EventFilter, UnknownName};
use tocsin_core::webhook::test_budget::RegistrationRefusal;
use tocsin_core::webhook::url::EndpointUrl;

use super::caller::{Caller, EndpointPath};
use super::fields::{Body, Query, next_of, read_body};
use super::reply::{Answer, ApiError, shown_once};
use super::shapes::{
    AttemptOutcome, EndpointCreate, EndpointCreated, EndpointRotated, EndpointShown, EndpointUpdate,
    EndpointVerified, Endpoints, Refusal, SecretRotate, TestCreate, TestShown,
};
use super::{Control, deliveries};
use crate::os::clock;
use crate::store::webhook::accounts::{AccountId, AccountRecord};
use crate::store::webhook::endpoints::{EndpointChange, EndpointRecord, NewEndpoint};

/// Routes of an account's endpoints, below `/v1/webhooks` or an account of the administrator's.
pub(super) fn of_account() -> Router<Arc<Control>> {
    Router::new().route("/", get(list_webhooks).post(add_webhook)).merge(of_one())
}

/// Routes of all endpoints, for the administrator.
pub(super) fn of_all() -> Router<Arc<Control>> {
    Router::new().route("/", get(list_webhooks)).merge(of_one())
}

fn of_one() -> Router<Arc<Control>> {
    Router::new()
        .route("/{id}", get(show_webhook).patch(change_webhook).delete(remove_webhook))
        .route("/{id}/verify", post(verify_webhook))
        .route("/{id}/enable", post(enable_webhook))
        .route("/{id}/disable", post(disable_webhook))
        .route("/{id}/rotate", post(rotate_webhook))
        .route("/{id}/test", post(test_webhook))
        .route("/{id}/replay", post(deliveries::replay_webhook))
        .route("/{id}/deliveries", get(deliveries::list_deliveries))
        .route("/{id}/deliveries/{event_id}/resend", post(deliveries::resend_delivery))
}

impl Control {
    /// An endpoint with what the webhook thread knows of it.
    async fn endpoint_shown(&self, record: &EndpointRecord) -> EndpointShown {
        let live = self.bridge.report(vec![record.id]).await;
        let live = live.iter().find(|report| report.id == record.id);
        EndpointShown::of(record, live, clock::wall())
    }

    /// The same in the state it has just been put into, should the webhook thread be busy.
    async fn endpoint_shown_in(&self, record: &EndpointRecord, state: EndpointState) -> EndpointShown {
        EndpointShown { state: state.name(), ..self.endpoint_shown(record).await }
    }
}

/// The endpoints of the account, by number.
#[utoipa::path(get, path = "/v1/webhooks", tag = "webhooks", security(("account_token" = [])),
    params(("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "1,000 when not given"),
        ("after" = Option<i64>, Query, minimum = 0, description = "Only those behind this number")),
    responses((status = 200, body = Endpoints), (status = 400, body = Refusal)))]
pub(super) async fn list_webhooks(
    State(control): State<Arc<Control>>,
    Extension(caller): Extension<Caller>,
    RawQuery(query): RawQuery,
) -> Answer {
    let page = Query::read(query.as_deref(), &["limit", "after"])?.page()?;
    let account = match &caller {
        Caller::Account(account) => Some(account.id),
        Caller::Admin => None,
    };
    let records = control.read(move |reader| reader.endpoints_page(account, page)).await?;
    if records.is_empty() {
        return Ok(Json(Endpoints { webhooks: Vec::new(), next: None }).into_response());
    }
    let live = control.bridge.report(records.iter().map(|record| record.id).collect()).await;
    let live: std::collections::HashMap<u64, _> = live.iter().map(|live| (live.id.0, live)).collect();
    let now = clock::wall();
    let shown = |record: &EndpointRecord| EndpointShown::of(record, live.get(&record.id.0).copied(), now);
    let next = next_of(&records, page, |record| i64::try_from(record.id.0).unwrap_or(i64::MAX));
    Ok(Json(Endpoints { webhooks: records.iter().map(shown).collect(), next }).into_response())
}

/// Register an endpoint.
///
/// It is sent a signed verification ping, whose result is in the answer with the secret, which is
/// shown this once. An endpoint whose ping failed stays `pending`: deploy the secret,
/// then ask for another with `verify`. One whose address may not be called is not registered: 422.
#[utoipa::path(post, path = "/v1/webhooks", tag = "webhooks", security(("account_token" = [])),
    request_body = EndpointCreate,
    responses((status = 201, body = EndpointCreated), (status = 400, body = Refusal),
        (status = 403, body = Refusal), (status = 409, body = Refusal), (status = 422, body = Refusal),
        (status = 429, body = Refusal)))]
pub(super) async fn add_webhook(
    State(control): State<Arc<Control>>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Answer {
    let Caller::Account(account) = caller else {
        return Err(ApiError::new(StatusCode::NOT_FOUND, "no_such_account", "name an account"));
    };
    control.require_plan(&account)?;
    let new = read_new(&control, read_body(body)?, account.id)?;
    take_registration(&control, &account).await?;
    let made = control.bridge.register(new).await?;
    let verification = made.verification.as_ref();
    if made.undone {
        let detail = verification.and_then(|report| report.attempt.detail.as_deref());
        let detail = format!(
            "{}; the endpoint was not registered",
            detail.unwrap_or("the host has an address that may not be called")
        );
        let field = Some("url".to_owned());
        let refused = ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "address_refused", detail);
        return Err(ApiError { field, ..refused });
    }
    let state = verification.map_or(made.record.health.state, |report| report.state);
    // Written after the record was: the state, and when it was verified, are read again.
    let id = made.record.id;
    let record = control.read(move |reader| reader.endpoint(id)).await.unwrap_or(made.record);
    let shown = control.endpoint_shown_in(&record, state).await;
    let verification =
        verification.map_or_else(AttemptOutcome::unknown, |report| AttemptOutcome::of(&report.attempt));
    let secret = made.secret.reveal().to_owned();
    Ok(shown_once(StatusCode::CREATED, EndpointCreated { shown, secret, verification }))
}

/// The state, unless it is the one in which nothing can be switched.
fn require_verified(state: EndpointState) -> Result<EndpointState, ApiError> {
    match state {
        EndpointState::Pending => Err(super::bridge::BridgeError::Refused(Refused::NotVerified).into()),
        verified => Ok(verified),
    }
}

async fn take_registration(control: &Control, account: &AccountRecord) -> Result<(), ApiError> {
    match control.bridge.take_registration(account.id).await? {
        Ok(()) => Ok(()),
        Err(RegistrationRefusal::Endpoints { limit }) => Err(ApiError::new(
            StatusCode::CONFLICT,
            "too_many_endpoints",
            format!("an account has at most {limit} endpoints; remove one first"),
        )),
        Err(RegistrationRefusal::TooOften { limit, retry_after }) => Err(ApiError::too_often(
            "too_many_registrations",
            format!("at most {limit} registrations an hour, failed ones included"),
            retry_after,
        )),
    }
}

fn read_new(control: &Control, asked: EndpointCreate, account: AccountId) -> Result<NewEndpoint, ApiError> {
    let EndpointCreate { url, label, events, exchanges } = asked;
    let url = EndpointUrl::parse(&url, &control.webhooks.policy)
        .map_err(|error| ApiError::field("url", error.to_string()))?;
    let filter = read_filter(EventFilter::default(), events, exchanges)?;
    let label = label.unwrap_or_default();
    check_label(&label)?;
    Ok(NewEndpoint { account, label, url: url.to_string(), filter })
}

fn check_label(label: &str) -> Result<(), ApiError> {
    let most = limits::ENDPOINT_LABEL_BYTES;
    if label.len() > most || label.chars().any(char::is_control) {
        return Err(ApiError::field(
            "label",
            format!("takes at most {most} bytes without control characters"),
        ));
    }
    Ok(())
}

/// A filter; a part that is not given stays as it was.
pub(super) fn read_filter(
    before: EventFilter,
    events: Option<Vec<String>>,
    exchanges: Option<Vec<String>>,
) -> Result<EventFilter, ApiError> {
    let text = |field, given: Option<Vec<String>>, before| match given {
        None => Ok(before),
        Some(names) if names.iter().all(|name| name.trim().is_empty()) => {
            Err(ApiError::field(field, "name at least one; [\"*\"] stands for all"))
        }
        Some(names) => Ok(names.join(",")),
    };
    let kinds = text("events", events, before.kinds_text())?;
    let exchanges = text("exchanges", exchanges, before.exchanges_text())?;
    EventFilter::parse(&kinds, &exchanges).map_err(|unknown| {
        let field = match unknown {
            UnknownName::Kind(_) => "events",
            UnknownName::Exchange(_) => "exchanges",
        };
        ApiError::field(field, unknown.to_string())
    })
}

/// One endpoint.
#[utoipa::path(get, path = "/v1/webhooks/{id}", tag = "webhooks", security(("account_token" = [])),
    params(("id" = u64, Path, description = "Number of the endpoint")),
    responses((status = 200, body = EndpointShown), (status = 404, body = Refusal)))]
pub(super) async fn show_webhook(
    State(control): State<Arc<Control>>,
    Extension(caller): Extension<Caller>,
    Path(path): Path<EndpointPath>,
) -> Answer {
    let (_, record) = control.find(&caller, &path).await?;
    Ok(Json(control.endpoint_shown(&record).await).into_response())
}

/// Change an endpoint's label or what it wants.
///
/// Its URL cannot be changed: register another.
#[utoipa::path(patch, path = "/v1/webhooks/{id}", tag = "webhooks", security(("account_token" = [])),
    params(("id" = u64, Path, description = "Number of the endpoint")), request_body = EndpointUpdate,
    responses((status = 200, body = EndpointShown), (status = 404, body = Refusal)))]
pub(super) async fn change_webhook(
    State(control): State<Arc<Control>>,
    Extension(caller): Extension<Caller>,
    Path(path): Path<EndpointPath>,
    body: Body,
) -> Answer {
    let EndpointUpdate { label, events, exchanges } = read_body(body)?;
    let (_, record) = control.find(&caller, &path).await?;
    let filter = if events.is_some() || exchanges.is_some() {
        Some(read_filter(record.filter, events, exchanges)?)
    } else {
        None
    };
    if let Some(label) = &label {
        check_label(label)?;
    }
    let record = control.bridge.change_endpoint(record.id, EndpointChange { label, filter }).await?;
    Ok(Json(control.endpoint_shown(&record).await).into_response())
}

/// Remove an endpoint, what waits for it and its delivery log.
#[utoipa::path(delete, path = "/v1/webhooks/{id}", tag = "webhooks", security(("account_token" = [])),
    params(("id" = u64, Path, description = "Number of the endpoint")),
    responses((status = 204), (status = 404, body = Refusal)))]
pub(super) async fn remove_webhook(
    State(control): State<Arc<Control>>,
    Extension(caller): Extension<Caller>,
    Path(path): Path<EndpointPath>,
) -> Answer {
    let (_, record) = control.find(&caller, &path).await?;
    control.bridge.delete_endpoint(record.id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Send a pending endpoint its verification ping again.
#[utoipa::path(post, path = "/v1/webhooks/{id}/verify", tag = "webhooks", security(("account_token" = [])),
    params(("id" = u64, Path, description = "Number of the endpoint")),
    responses((status = 200, body = EndpointVerified), (status = 404, body = Refusal),
        (status = 409, body = Refusal)))]
pub(super) async fn verify_webhook(
    State(control): State<Arc<Control>>,
    Extension(caller): Extension<Caller>,
    Path(path): Path<EndpointPath>,
) -> Answer {
    let (_, record) = control.find_entitled(&caller, &path).await?;
    let before = control.endpoint_shown(&record).await;
    if before.state != EndpointState::Pending.name() {
        let detail = format!("endpoint {} has been verified; it is {}", record.id.0, before.state);
        return Err(ApiError::new(StatusCode::CONFLICT, "already_verified", detail));
    }
    let report = control.bridge.verify(record.id).await?;
    let state = report.as_ref().map_or(EndpointState::Pending, |report| report.state);
    let (_, record) = control.find(&caller, &path).await?;
    let shown = control.endpoint_shown_in(&record, state).await;
    let verification =
        report.as_ref().map_or_else(AttemptOutcome::unknown, |report| AttemptOutcome::of(&report.attempt));
    Ok(Json(EndpointVerified { shown, verification }).into_response())
}

/// Switch an endpoint on, whyever it was off.
///
/// Not a way around verification.
#[utoipa::path(post, path = "/v1/webhooks/{id}/enable", tag = "webhooks", security(("account_token" = [])),
    params(("id" = u64, Path, description = "Number of the endpoint")),
    responses((status = 200, body = EndpointShown), (status = 404, body = Refusal),
        (status = 409, body = Refusal)))]
pub(super) async fn enable_webhook(
    State(control): State<Arc<Control>>,
    Extension(caller): Extension<Caller>,
    Path(path): Path<EndpointPath>,
) -> Answer {
    let (_, record) = control.find_entitled(&caller, &path).await?;
    let state = require_verified(control.bridge.enable(record.id).await?)?;
    Ok(Json(control.endpoint_shown_in(&record, state).await).into_response())
}

/// Switch an endpoint off.
///
/// Events are held for it; on return those still fresh go out.
#[utoipa::path(post, path = "/v1/webhooks/{id}/disable", tag = "webhooks", security(("account_token" = [])),
    params(("id" = u64, Path, description = "Number of the endpoint")),
    responses((status = 200, body = EndpointShown), (status = 404, body = Refusal),
        (status = 409, body = Refusal)))]
pub(super) async fn disable_webhook(
    State(control): State<Arc<Control>>,
    Extension(caller): Extension<Caller>,
    Path(path): Path<EndpointPath>,
) -> Answer {
    let (_, record) = control.find(&caller, &path).await?;
    let state = require_verified(control.bridge.disable(record.id).await?)?;
    Ok(Json(control.endpoint_shown_in(&record, state).await).into_response())
}

/// Draw an endpoint a new secret, shown this once.
///
/// The one before goes on signing for the grace.
#[utoipa::path(post, path = "/v1/webhooks/{id}/rotate", tag = "webhooks", security(("account_token" = [])),
    params(("id" = u64, Path, description = "Number of the endpoint")), request_body = SecretRotate,
    responses((status = 200, body = EndpointRotated), (status = 404, body = Refusal)))]
pub(super) async fn rotate_webhook(
    State(control): State<Arc<Control>>,
    Extension(caller): Extension<Caller>,
    Path(path): Path<EndpointPath>,
    body: Body,
) -> Answer {
    let SecretRotate { grace_secs } = read_body(body)?;
    let most = limits::WEBHOOK_GRACE;
    let grace = match grace_secs {
        None => control.webhooks.rotation_grace.get(),
        Some(secs) => {
            let grace = u64::try_from(secs).ok().map(Duration::from_secs).filter(|grace| *grace <= most);
            grace.ok_or_else(|| ApiError::field("grace_secs", format!("between 0 and {}", most.as_secs())))?
        }
    };
    let (_, record) = control.find(&caller, &path).await?;
    let (record, secret) = control.bridge.rotate_secret(record.id, grace).await?;
    let shown = control.endpoint_shown(&record).await;
    Ok(shown_once(StatusCode::OK, EndpointRotated { shown, secret: secret.reveal().to_owned() }))
}

/// Send an endpoint a test event.
///
/// One attempt, at most 50 a day and account. It says `Tocsin` as exchange and `TESTUSDT` as symbol.
#[utoipa::path(post, path = "/v1/webhooks/{id}/test", tag = "webhooks", security(("account_token" = [])),
    params(("id" = u64, Path, description = "Number of the endpoint")), request_body = TestCreate,
    responses((status = 200, body = TestShown), (status = 404, body = Refusal),
        (status = 409, body = Refusal), (status = 429, body = Refusal)))]
pub(super) async fn test_webhook(
    State(control): State<Arc<Control>>,
    Extension(caller): Extension<Caller>,
    Path(path): Path<EndpointPath>,
    body: Body,
) -> Answer {
    let TestCreate { kind } = read_body(body)?;
    let kind = match kind {
        None => EventKind::NewListing,
        Some(name) => EventKind::parse(&name).ok_or_else(|| {
            let names = EventKind::ALL.map(EventKind::name).join(", ");
            ApiError::field("type", format!("takes one of {names}"))
        })?,
    };
    let (account, record) = control.find_entitled(&caller, &path).await?;
    if control.endpoint_shown(&record).await.state == EndpointState::Pending.name() {
        return Err(super::bridge::BridgeError::Refused(Refused::NotVerified).into());
    }
    let tests_left = match control.bridge.take_test(account.id).await? {
        Ok(left) => left,
        Err(exhausted) => {
            let detail =
                format!("at most {} test events a day (UTC) and account", limits::WEBHOOK_TESTS_PER_DAY);
            return Err(ApiError::too_often("tests_used_up", detail, exhausted.retry_after));
        }
    };
    let report = control.bridge.test(record.id, kind).await?;
    let event_id = report.as_ref().map(|report| report.attempt.event.to_string());
    let outcome =
        report.as_ref().map_or_else(AttemptOutcome::unknown, |report| AttemptOutcome::of(&report.attempt));
    Ok(Json(TestShown { event_id, outcome, tests_left }).into_response())
}
