//! The admin API's routes: keys, manual alerts, status, health.
//!
//! Contract: every answer but the health texts is JSON; every refusal is an [`ApiError`]. Over TCP
//! the admin routes take `Authorization: Bearer <token>`; over the socket its file permissions are
//! the authentication. Bodies are at most [`limits::ADMIN_BODY_BYTES`].

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tocsin_core::feed::key::{AllowedExchanges, KeyId, Tier};
use tocsin_core::limits;
use tocsin_core::model::{Exchange, ListingType, Ticker};
use tocsin_core::time::WallUs;

use super::fields::Fields;
use super::reply::{ApiError, announcement_json, json_text, key_json};
use super::{Control, history};
use crate::os::clock;
use crate::rings::Inject;
use crate::store::NewKey;

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
    let mut admin = Router::new()
        .route("/admin/v1/announcements", post(inject))
        .route("/admin/v1/keys", get(list_keys).post(create_key))
        .route("/admin/v1/keys/{id}", get(show_key).patch(change_key))
        .route("/admin/v1/keys/{id}/revoke", post(revoke_key))
        .route("/admin/v1/status", get(status));
    if door == Door::Tcp {
        admin = admin.route_layer(from_fn_with_state(Arc::clone(&control), require_token));
    }
    let announcements = get(move |state, request| history::answer(state, door, request));
    admin
        .route("/v1/announcements", announcements)
        .route("/healthz", get(alive))
        .route("/livez", get(alive))
        .route("/readyz", get(ready))
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
        .with_state(control)
}

async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            ApiError::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the request took too long").into_response()
        }
    }
}

async fn require_token(State(control): State<Arc<Control>>, request: Request, next: Next) -> Response {
    if has_token(&control, request.headers()) {
        return next.run(request).await;
    }
    ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", "send `Authorization: Bearer <admin token>`")
        .into_response()
}

/// Whether the request carries the admin token.
pub(super) fn has_token(control: &Control, headers: &HeaderMap) -> bool {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    given.and_then(|text| text.split_once(' ')).is_some_and(|(scheme, token)| {
        scheme.eq_ignore_ascii_case("bearer") && control.token.matches(token.trim())
    })
}

type Answer = Result<Response, ApiError>;
type Body = Result<Bytes, axum::extract::rejection::BytesRejection>;

/// The body, or why it was not read.
fn read_body(body: Body) -> Result<Bytes, ApiError> {
    body.map_err(|rejection| {
        let detail = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => format!("a body has at most {} bytes", limits::ADMIN_BODY_BYTES),
            _ => rejection.body_text(),
        };
        ApiError::new(rejection.status(), "bad_request", detail)
    })
}

async fn inject(State(control): State<Arc<Control>>, body: Body) -> Answer {
    let request = read_inject(&read_body(body)?)?;
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

fn read_inject(body: &[u8]) -> Result<InjectRequest, ApiError> {
    let known = ["exchange", "title", "listing_type", "tickers", "published_us"];
    let fields = Fields::read(body, &known)?;
    let exchange = fields.required_text("exchange")?;
    let exchange = Exchange::parse(exchange).ok_or_else(|| {
        ApiError::field("exchange", format!("takes one of {}", Exchange::ALL.map(Exchange::name).join(", ")))
    })?;
    let title = fields.required_text("title")?.trim();
    if title.is_empty() || title.len() > limits::TITLE_BYTES || title.chars().any(char::is_control) {
        let most = limits::TITLE_BYTES;
        return Err(ApiError::field("title", format!("takes 1 to {most} bytes without control characters")));
    }
    let listing_type = match fields.text("listing_type")? {
        None => None,
        Some(name) => Some(ListingType::parse(name).ok_or_else(|| {
            let names = ListingType::ALL.map(ListingType::name).join(", ");
            ApiError::field("listing_type", format!("takes one of {names}"))
        })?),
    };
    let tickers = fields.texts("tickers")?.map(|symbols| read_tickers(&symbols)).transpose()?;
    let published = fields.integer("published_us")?.map(WallUs);
    if published.is_some_and(|at| !(0..10_000_000_000_000_000).contains(&at.0)) {
        return Err(ApiError::field("published_us", "takes microseconds since 1970, at most 16 digits"));
    }
    Ok(InjectRequest { exchange, title: title.to_owned(), listing_type, tickers, published })
}

fn read_tickers(symbols: &[&str]) -> Result<Vec<Ticker>, ApiError> {
    let most = limits::TICKERS_PER_ANNOUNCEMENT;
    if symbols.len() > most {
        return Err(ApiError::field("tickers", format!("takes at most {most} symbols")));
    }
    let one = |symbol: &&str| {
        Ticker::new(symbol).ok_or_else(|| {
            let most = limits::TICKER_BYTES;
            ApiError::field("tickers", format!("a symbol has 1 to {most} bytes and no comma or white space"))
        })
    };
    symbols.iter().map(one).collect()
}

async fn create_key(State(control): State<Arc<Control>>, body: Body) -> Answer {
    let now = clock::wall();
    let new = read_new_key(&read_body(body)?, now)?;
    let (record, secret) = control.bridge.create_key(new).await?;
    let mut shown = key_json(&record, now);
    if let Value::Object(fields) = &mut shown {
        fields.insert("key".to_owned(), Value::from(secret.reveal()));
    }
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], Json(shown)).into_response())
}

fn read_new_key(body: &[u8], now: WallUs) -> Result<NewKey, ApiError> {
    let known = [
        "label",
        "tier",
        "max_connections",
        "allowed_cex",
        "expires_in_secs",
        "expires_at",
        "delay_ms",
        "redact",
    ];
    let fields = Fields::read(body, &known)?;
    let tier = fields.required_text("tier")?;
    let tier = Tier::parse(tier)
        .ok_or_else(|| ApiError::field("tier", "takes one of basic, premium, enterprise"))?;
    let connections = fields.integer("max_connections")?.unwrap_or(1);
    let max_connections = u32::try_from(connections).map_err(|_| {
        ApiError::field("max_connections", format!("between 1 and {}", limits::KEY_CONNECTIONS))
    })?;
    let allowed = AllowedExchanges::parse(fields.text("allowed_cex")?.unwrap_or("*")).map_err(|name| {
        let names = Exchange::ALL.map(Exchange::name).join(", ");
        ApiError::field("allowed_cex", format!("{name:?} is no exchange; there are *, {names}"))
    })?;
    let delay_ms = u64::try_from(fields.integer("delay_ms")?.unwrap_or(0))
        .map_err(|_| ApiError::field("delay_ms", "not negative"))?;
    Ok(NewKey {
        label: fields.text("label")?.unwrap_or_default().to_owned(),
        tier,
        max_connections,
        allowed,
        expires_at: read_expiry(&fields, now)?,
        delay: Duration::from_millis(delay_ms),
        redact: fields.boolean("redact")?.unwrap_or(false),
    })
}

/// `expires_in_secs` or `expires_at` (RFC 3339); `None` = never.
fn read_expiry(fields: &Fields, now: WallUs) -> Result<Option<WallUs>, ApiError> {
    match (fields.integer("expires_in_secs")?, fields.text("expires_at")?) {
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

async fn list_keys(State(control): State<Arc<Control>>) -> Answer {
    let now = clock::wall();
    let keys = control.read(crate::store::Reader::keys).await?;
    let shown: Vec<Value> = keys.iter().map(|key| key_json(key, now)).collect();
    Ok(Json(json!({"keys": shown})).into_response())
}

async fn show_key(State(control): State<Arc<Control>>, Path(id): Path<String>) -> Answer {
    let id = read_id(&id)?;
    let key = control.read(move |reader| reader.key(id)).await?;
    Ok(Json(key_json(&key, clock::wall())).into_response())
}

async fn change_key(State(control): State<Arc<Control>>, Path(id): Path<String>, body: Body) -> Answer {
    let id = read_id(&id)?;
    let now = clock::wall();
    let fields = Fields::read(&read_body(body)?, &["expires_in_secs", "expires_at"])?;
    if !fields.has("expires_in_secs") && !fields.has("expires_at") {
        let detail = "give it (null = never) or expires_in_secs";
        return Err(ApiError::field("expires_at", detail));
    }
    let key = control.bridge.set_key_expiry(id, read_expiry(&fields, now)?).await?;
    Ok(Json(key_json(&key, now)).into_response())
}

async fn revoke_key(State(control): State<Arc<Control>>, Path(id): Path<String>) -> Answer {
    let key = control.bridge.revoke_key(read_id(&id)?).await?;
    Ok(Json(key_json(&key, clock::wall())).into_response())
}

fn read_id(text: &str) -> Result<KeyId, ApiError> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.map(KeyId).ok_or_else(|| ApiError::new(StatusCode::NOT_FOUND, "no_such_key", "a key has a number"))
}

async fn status(State(control): State<Arc<Control>>) -> Response {
    Json(control.view.status()).into_response()
}

async fn alive(State(control): State<Arc<Control>>) -> Response {
    let alive = control.view.is_alive();
    let status = if alive { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({"alive": alive}))).into_response()
}

async fn ready(State(control): State<Arc<Control>>) -> Response {
    let ready = control.view.is_ready();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({"ready": ready}))).into_response()
}
