//! The routes of both doors, and the handlers of keys, manual alerts, status and health.
//!
//! Contract: every answer is JSON; every refusal is an [`ApiError`]. Over TCP the admin routes take
//! `Authorization: Bearer <token>` or a session of the administrator's; over the socket its file
//! permissions are the authentication. The customer's routes take the account's token or its session
//! at either door. Rates hold over TCP alone. Bodies are at most
//! [`limits::ADMIN_BODY_BYTES`].

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Path, RawQuery, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use tocsin_core::feed::key::{AllowedExchanges, KeyId, Tier};
use tocsin_core::limits;
use tocsin_core::model::{Exchange, ListingType, Ticker};
use tocsin_core::time::WallUs;

use super::fields::{Body, Query, next_of, read_body};
use super::reply::{Answer, ApiError, announcement_json, json_text, key_shown, shown_once};
use super::shapes::{
    Alive, AnnouncementCreate, KeyChange, KeyCreate, KeyCreated, KeyShown, Keys, Ready, Refusal,
};
use super::{
    Control, accounts, caller, client, dashboard, deliveries, history, live, markets, metrics, service,
    session, subscribers, usage, webhooks,
};
use crate::os::clock;
use crate::rings::Inject;
use crate::store::NewKey;
use crate::store::webhook::accounts::AccountId;

/// One request, from its head to its answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Which way a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// The Unix socket: whoever may open it is the administrator.
    Socket,
    /// TCP: the token tells.
    Tcp,
}

/// All routes, as served at one door.
pub(super) fn router(control: Arc<Control>, door: Door) -> Router {
    let announcements = get(move |state, request| history::answer(state, door, request));
    let metrics = get(move |state, request| metrics::route::metrics(state, door, request));
    administrators(&control, door)
        .merge(customers(&control))
        .route("/v1/announcements", announcements)
        .route("/v1/session", get(session::show_session).post(session::sign_in).delete(session::sign_out))
        .route("/metrics", metrics)
        .merge(dashboard::routes())
        .route("/healthz", get(alive))
        .route("/livez", get(live_too))
        .route("/readyz", get(ready))
        .route("/openapi.json", get(openapi))
        .fallback(async || ApiError::new(StatusCode::NOT_FOUND, "not_found", "there is no such path"))
        .method_not_allowed_fallback(async || {
            ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "the path takes another method",
            )
        })
        .layer(DefaultBodyLimit::max(limits::ADMIN_BODY_BYTES))
        .layer(from_fn(in_time))
        .layer(from_fn_with_state(Arc::clone(&control), client::tell_client))
        .with_state(control)
}

fn administrators(control: &Arc<Control>, door: Door) -> Router<Arc<Control>> {
    let with = || Arc::clone(control);
    let on_behalf = webhooks::of_account().route_layer(from_fn_with_state(with(), caller::on_behalf));
    let over_all = webhooks::of_all().route_layer(from_fn(caller::administrator));
    let admin = Router::new()
        .route("/admin/v1/announcements", post(inject))
        .route("/admin/v1/keys", get(list_keys).post(create_key))
        .route("/admin/v1/keys/{id}", get(show_key).patch(change_key))
        .route("/admin/v1/keys/{id}/revoke", post(revoke_key))
        .route("/admin/v1/status", get(status))
        .route("/admin/v1/sign-in-links", post(session::create_link))
        .route("/admin/v1/sources", get(service::list_sources))
        .route("/admin/v1/markets", get(markets::list_markets))
        .route("/admin/v1/markets/events", get(markets::list_market_events))
        .route("/admin/v1/subscribers", get(subscribers::list_subscribers))
        .route("/admin/v1/drain", post(service::begin_drain))
        .route("/admin/v1/reload", post(service::reload))
        .route("/admin/v1/live", get(live::administrators))
        .merge(accounts::routes())
        .nest("/admin/v1/accounts/{account}/webhooks", on_behalf)
        .nest("/admin/v1/webhooks", over_all);
    match door {
        Door::Socket => admin,
        Door::Tcp => admin.route_layer(from_fn_with_state(with(), caller::administrators_only)),
    }
}

fn customers(control: &Arc<Control>) -> Router<Arc<Control>> {
    let with = || Arc::clone(control);
    Router::new()
        .nest("/v1/webhooks", webhooks::of_account())
        .route("/v1/events", get(deliveries::list_events))
        .route_layer(from_fn_with_state(with(), caller::with_webhooks))
        .route("/v1/account", get(accounts::own_account))
        .route("/v1/keys", get(usage::list_own_keys))
        .route("/v1/usage", get(usage::show_usage))
        .route("/v1/live", get(live::customers))
        .route_layer(from_fn_with_state(with(), caller::customer))
}

async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            ApiError::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the request took too long").into_response()
        }
    }
}

/// Send a manual alert through the whole path.
///
/// 202: it has not gone out yet.
#[utoipa::path(post, path = "/admin/v1/announcements", tag = "announcements",
    security(("admin_token" = [])), request_body = AnnouncementCreate,
    responses((status = 200, body = Object, description = "The announcement as it went out, all fields"),
        (status = 202, body = Object), (status = 400, body = Refusal)))]
pub(super) async fn inject(State(control): State<Arc<Control>>, body: Body) -> Answer {
    let request = read_inject(read_body(body)?)?;
    let announced = control.bridge.inject(|reply| request.into_message(reply)).await?;
    let went_out = announced.dispatched().is_some() || announced.announcement.late;
    let status = if went_out { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok(json_text(status, announcement_json(&announced)))
}

struct InjectRequest {
    exchange: Exchange,
    title: String,
    listing_type: Option<ListingType>,
    tickers: Option<Vec<Ticker>>,
    published: Option<WallUs>,
}

impl InjectRequest {
    fn into_message(
        self,
        reply: tokio::sync::oneshot::Sender<Arc<tocsin_core::wire::EncodedAnnouncement>>,
    ) -> Inject {
        let InjectRequest { exchange, title, listing_type, tickers, published } = self;
        Inject { exchange, title, listing_type, tickers, published, reply }
    }
}

fn read_inject(asked: AnnouncementCreate) -> Result<InjectRequest, ApiError> {
    let AnnouncementCreate { exchange, title, listing_type, tickers, published_us } = asked;
    let exchange = Exchange::parse(&exchange).ok_or_else(|| {
        ApiError::field("exchange", format!("takes one of {}", Exchange::ALL.map(Exchange::name).join(", ")))
    })?;
    let title = title.trim();
    if title.is_empty() || title.len() > limits::TITLE_BYTES || title.chars().any(char::is_control) {
        let most = limits::TITLE_BYTES;
        return Err(ApiError::field("title", format!("takes 1 to {most} bytes without control characters")));
    }
    let listing_type = match listing_type {
        None => None,
        Some(name) => Some(ListingType::parse(&name).ok_or_else(|| {
            let names = ListingType::ALL.map(ListingType::name).join(", ");
            ApiError::field("listing_type", format!("takes one of {names}"))
        })?),
    };
    let tickers = tickers.map(|symbols| read_tickers(&symbols)).transpose()?;
    let published = published_us.map(WallUs);
    if published.is_some_and(|at| !(0..10_000_000_000_000_000).contains(&at.0)) {
        return Err(ApiError::field("published_us", "takes microseconds since 1970, at most 16 digits"));
    }
    Ok(InjectRequest { exchange, title: title.to_owned(), listing_type, tickers, published })
}

fn read_tickers(symbols: &[String]) -> Result<Vec<Ticker>, ApiError> {
    let most = limits::TICKERS_PER_ANNOUNCEMENT;
    if symbols.len() > most {
        return Err(ApiError::field("tickers", format!("takes at most {most} symbols")));
    }
    let one = |symbol: &String| {
        Ticker::new(symbol).ok_or_else(|| {
            let most = limits::TICKER_BYTES;
            ApiError::field("tickers", format!("a symbol has 1 to {most} bytes and no comma or white space"))
        })
    };
    symbols.iter().map(one).collect()
}

/// Make a key.
///
/// The answer alone has its text.
#[utoipa::path(post, path = "/admin/v1/keys", tag = "keys", security(("admin_token" = [])),
    request_body = KeyCreate,
    responses((status = 201, body = KeyCreated), (status = 400, body = Refusal), (status = 507, body = Refusal)))]
pub(super) async fn create_key(State(control): State<Arc<Control>>, body: Body) -> Answer {
    let now = clock::wall();
    let new = read_new_key(read_body(body)?, now)?;
    let (record, secret) = control.bridge.create_key(new).await?;
    let created = KeyCreated { shown: key_shown(&record, now), key: secret.reveal().to_owned() };
    Ok(shown_once(StatusCode::CREATED, created))
}

fn read_new_key(asked: KeyCreate, now: WallUs) -> Result<NewKey, ApiError> {
    let tier = Tier::parse(&asked.tier)
        .ok_or_else(|| ApiError::field("tier", "takes one of basic, premium, enterprise"))?;
    let max_connections = u32::try_from(asked.max_connections.unwrap_or(1)).map_err(|_| {
        ApiError::field("max_connections", format!("between 1 and {}", limits::KEY_CONNECTIONS))
    })?;
    let allowed = AllowedExchanges::parse(asked.allowed_cex.as_deref().unwrap_or("*")).map_err(|name| {
        let names = Exchange::ALL.map(Exchange::name).join(", ");
        ApiError::field("allowed_cex", format!("{name:?} is no exchange; there are *, {names}"))
    })?;
    let delay_ms = u64::try_from(asked.delay_ms.unwrap_or(0))
        .map_err(|_| ApiError::field("delay_ms", "not negative"))?;
    Ok(NewKey {
        label: asked.label.unwrap_or_default(),
        tier,
        max_connections,
        allowed,
        expires_at: read_expiry(asked.expires_in_secs, asked.expires_at.as_deref(), now)?,
        delay: Duration::from_millis(delay_ms),
        redact: asked.redact.unwrap_or(false),
        account: asked.account,
    })
}

/// `expires_in_secs` or `expires_at` (RFC 3339); `None` = never.
fn read_expiry(secs: Option<i64>, at: Option<&str>, now: WallUs) -> Result<Option<WallUs>, ApiError> {
    match (secs, at) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(ApiError::field("expires_at", "give it or expires_in_secs, not both")),
        (Some(secs), None) if secs <= 0 => Err(ApiError::field("expires_in_secs", "must be positive")),
        (Some(secs), None) => Ok(Some(WallUs(now.0.saturating_add(WallUs::from_secs(secs).0)))),
        (None, Some(text)) => match text.parse::<jiff::Timestamp>() {
            Ok(at) => Ok(Some(WallUs(at.as_microsecond()))),
            Err(_) => Err(ApiError::field("expires_at", "takes an instant like 2027-01-31T00:00:00Z")),
        },
    }
}

/// Keys, by number.
#[utoipa::path(get, path = "/admin/v1/keys", tag = "keys", security(("admin_token" = [])),
    params(("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "1,000 when not given"),
        ("after" = Option<i64>, Query, minimum = 0, description = "Only those behind this number"),
        ("account" = Option<i64>, Query, minimum = 1, description = "Only those of this account")),
    responses((status = 200, body = Keys), (status = 400, body = Refusal)))]
pub(super) async fn list_keys(State(control): State<Arc<Control>>, RawQuery(query): RawQuery) -> Answer {
    let now = clock::wall();
    let query = Query::read(query.as_deref(), &["limit", "after", "account"])?;
    let (page, account) = (query.page()?, query.number("account")?.map(AccountId));
    let keys = control.read(move |reader| reader.keys_page(account, page)).await?;
    let next = next_of(&keys, page, |key| key.id.0);
    Ok(Json(Keys { keys: keys.iter().map(|key| key_shown(key, now)).collect(), next }).into_response())
}

/// One key.
#[utoipa::path(get, path = "/admin/v1/keys/{id}", tag = "keys", security(("admin_token" = [])),
    params(("id" = i64, Path, description = "Number of the key")),
    responses((status = 200, body = KeyShown), (status = 404, body = Refusal)))]
pub(super) async fn show_key(State(control): State<Arc<Control>>, Path(id): Path<String>) -> Answer {
    let id = read_id(&id)?;
    let key = control.read(move |reader| reader.key(id)).await?;
    Ok(Json(key_shown(&key, clock::wall())).into_response())
}

/// Move a key's end; live connections follow it at once.
#[utoipa::path(patch, path = "/admin/v1/keys/{id}", tag = "keys", security(("admin_token" = [])),
    params(("id" = i64, Path, description = "Number of the key")), request_body = KeyChange,
    responses((status = 200, body = KeyShown), (status = 404, body = Refusal), (status = 409, body = Refusal)))]
pub(super) async fn change_key(
    State(control): State<Arc<Control>>,
    Path(id): Path<String>,
    body: Body,
) -> Answer {
    let id = read_id(&id)?;
    let now = clock::wall();
    let KeyChange { expires_in_secs, expires_at } = read_body(body)?;
    if expires_in_secs.is_none() && expires_at.is_none() {
        let detail = "give it (null = never) or expires_in_secs";
        return Err(ApiError::field("expires_at", detail));
    }
    let end = read_expiry(expires_in_secs.flatten(), expires_at.flatten().as_deref(), now)?;
    let key = control.bridge.set_key_expiry(id, end).await?;
    Ok(Json(key_shown(&key, now)).into_response())
}

/// Revoke a key for ever; its connections close.
#[utoipa::path(post, path = "/admin/v1/keys/{id}/revoke", tag = "keys", security(("admin_token" = [])),
    params(("id" = i64, Path, description = "Number of the key")),
    responses((status = 200, body = KeyShown), (status = 404, body = Refusal)))]
pub(super) async fn revoke_key(State(control): State<Arc<Control>>, Path(id): Path<String>) -> Answer {
    let key = control.bridge.revoke_key(read_id(&id)?).await?;
    Ok(Json(key_shown(&key, clock::wall())).into_response())
}

fn read_id(text: &str) -> Result<KeyId, ApiError> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.map(KeyId).ok_or_else(|| ApiError::new(StatusCode::NOT_FOUND, "no_such_key", "a key has a number"))
}

/// Sources, feed, accept and journal counters.
#[utoipa::path(get, path = "/admin/v1/status", tag = "service", security(("admin_token" = [])),
    responses((status = 200, body = Object)))]
pub(super) async fn status(State(control): State<Arc<Control>>) -> Response {
    Json(control.view.status()).into_response()
}

/// Whether every thread moves: 503 when one does not.
#[utoipa::path(get, path = "/healthz", tag = "service",
    responses((status = 200, body = Alive), (status = 503, body = Alive)))]
pub(super) async fn alive(State(control): State<Arc<Control>>) -> Response {
    let alive = control.view.is_alive();
    let status = if alive { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Alive { alive })).into_response()
}

/// The same as /healthz.
#[utoipa::path(get, path = "/livez", tag = "service",
    responses((status = 200, body = Alive), (status = 503, body = Alive)))]
pub(super) async fn live_too(state: State<Arc<Control>>) -> Response {
    alive(state).await
}

/// Whether subscribers should be sent here: 503 with the reasons when not.
#[utoipa::path(get, path = "/readyz", tag = "service",
    responses((status = 200, body = Ready), (status = 503, body = Ready)))]
pub(super) async fn ready(State(control): State<Arc<Control>>) -> Response {
    let reasons = control.view.not_ready();
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Ready { ready, reasons })).into_response()
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "service", responses((status = 200, body = Object)))]
pub(super) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], super::openapi::text()).into_response()
}
