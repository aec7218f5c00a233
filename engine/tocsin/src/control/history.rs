//! `GET /v1/announcements` over all of history on disk; the feed's own port answers the same from
//! memory, in the same shape.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use tocsin_core::feed::admission::keys::key_hash;
use tocsin_core::feed::admission::query::HistoryQuery as Parameters;
use tocsin_core::feed::key::KeyRecord;
use tocsin_core::http1::request::QueryPairs;
use tocsin_core::limits;
use tocsin_core::model::{Announcement, ExchangeSet};
use tocsin_core::time::WallUs;

use super::Control;
use super::access::Credential;
use super::api::Door;
use super::caller::Who;
use super::client::Given;
use super::reply::{ApiError, history_json, json_text};
use super::shapes::{Announcements, Refusal};
use crate::os::clock;
use crate::store::webhook::accounts::AccountRecord;
use crate::store::{HistoryQuery, Page};

/// Answers with `{"announcements":[...],"next":"EPOCH:SEQ"|null,"gap":null}`: full announcements under
/// the key's rights, or all for the administrator. `next` is where to go on.
pub(super) async fn answer(
    State(control): State<Arc<Control>>,
    door: Door,
    request: Request,
) -> Result<Response, ApiError> {
    let bad = |detail: String| ApiError::new(StatusCode::BAD_REQUEST, "bad_request", detail);
    let parameters = Parameters::parse(QueryPairs::new(request.uri().query().unwrap_or_default()))
        .map_err(|parameter| bad(parameter.detail()))?;
    let now = clock::wall();
    let given = Given::of(&request);
    let rights = match given_key(request.headers(), &parameters) {
        Some(text) => Rights::Keys(vec![control.key_of(&given, &text, now).await?]),
        None if door == Door::Socket && given.bearer.is_none() && given.session.is_none() => Rights::All,
        None => match control.who_asks(&given).await? {
            Some((Who::Administrator, _)) => Rights::All,
            Some((Who::Account(account), _)) => control.rights_of(&account, now).await?,
            None => {
                let detail = "send an API key in X-API-Key";
                return Err(ApiError::new(StatusCode::UNAUTHORIZED, "missing_api_key", detail));
            }
        },
    };
    let query = to_query(&parameters, &rights, now);
    let mut page = control.read(move |reader| reader.history_page(&query)).await?;
    let Rights::Keys(keys) = rights else {
        return Ok(json_text(StatusCode::OK, history_json(page, |_| false)));
    };
    page.rows.retain(|row| keys.iter().any(|key| shows(key, &row.announcement, now)));
    // Withheld unless one of the keys that show it shows it whole.
    let redact =
        |announcement: &Announcement| !keys.iter().any(|key| !key.redact && shows(key, announcement, now));
    Ok(json_text(StatusCode::OK, history_json(page, redact)))
}

/// Past announcements, oldest first.
///
/// All of history on disk: under the rights of an API key, all for the administrator. An account sees all
/// with a plan that has webhooks, else what its keys show.
#[utoipa::path(get, path = "/v1/announcements", tag = "announcements",
    security(("api_key" = []), ("account_token" = []), ("admin_token" = [])),
    params(("after" = Option<String>, Query, description = "EPOCH:SEQ; the newest when not given"),
        ("cex" = Option<String>, Query, description = "Exchanges, comma separated"),
        ("type" = Option<String>, Query, description = "Listing types, comma separated"),
        ("limit" = Option<u32>, Query, description = "1 to 500; 100 when not given"),
        ("api_key" = Option<String>, Query, description = "For clients that cannot set a header")),
    responses((status = 200, body = Announcements), (status = 400, body = Refusal),
        (status = 401, body = Refusal), (status = 403, body = Refusal)))]
#[allow(dead_code, reason = "[`answer`], which also takes the door, as the document has it")]
pub(super) fn list_announcements() {}

fn given_key(headers: &HeaderMap, parameters: &Parameters) -> Option<String> {
    let header = headers.get("x-api-key").and_then(|value| value.to_str().ok());
    header.map(|text| text.trim().to_owned()).or_else(|| parameters.api_key.clone())
}

impl Control {
    /// The key of this text, if it is good.
    async fn key_of(&self, given: &Given, text: &str, now: WallUs) -> Result<KeyRecord, ApiError> {
        let address = given.client.address;
        self.access.may_try(address)?;
        let refused = |code, detail| ApiError::new(StatusCode::FORBIDDEN, code, detail);
        let found = match key_hash(text.as_bytes()) {
            Some(hash) => self.read(move |reader| reader.key_by_hash(&hash)).await?,
            None => None,
        };
        let Some(key) = found else {
            self.access.failed(address);
            return Err(refused("invalid_api_key", "the key is not known"));
        };
        if key.revoked_at.is_some() {
            return Err(refused("key_revoked", "the key was revoked"));
        }
        if key.expires_at.is_some_and(|at| at <= now) {
            return Err(refused("key_expired", "the key has expired"));
        }
        if address.is_some() {
            self.access.take_of(Credential::Key(key.id.0))?;
        }
        Ok(key)
    }
}

/// What may be seen.
enum Rights {
    All,
    /// What any of these keys shows.
    Keys(Vec<KeyRecord>),
}

fn is_good(key: &KeyRecord, now: WallUs) -> bool {
    key.revoked_at.is_none() && key.expires_at.is_none_or(|at| at > now)
}

/// The newest instant of detection that a key shows; all when it is not delayed.
fn shown_until(key: &KeyRecord, now: WallUs) -> Option<WallUs> {
    let delay_us = i64::try_from(key.delay.as_micros()).unwrap_or(i64::MAX);
    (delay_us > 0).then(|| WallUs(now.0.saturating_sub(delay_us)))
}

/// Whether a key shows an announcement by now.
fn shows(key: &KeyRecord, announcement: &Announcement, now: WallUs) -> bool {
    key.allowed.set().contains(announcement.exchange)
        && shown_until(key, now).is_none_or(|until| announcement.detected <= until)
}

impl Control {
    /// What an account may see: with webhooks everything, as its endpoints are sent it; without them
    /// what its good keys show.
    async fn rights_of(&self, account: &AccountRecord, now: WallUs) -> Result<Rights, ApiError> {
        if self.require_plan(account).is_ok() {
            return Ok(Rights::All);
        }
        let (id, page) = (account.id, Page { after: 0, limit: limits::ADMIN_ROWS });
        let mut keys = self.read(move |reader| reader.keys_page(Some(id), page)).await?;
        keys.retain(|key| is_good(key, now));
        if keys.is_empty() {
            let detail = "the plan has no webhooks, and the account no key that is good";
            return Err(ApiError::new(StatusCode::FORBIDDEN, "no_key", detail));
        }
        Ok(Rights::Keys(keys))
    }
}

fn to_query(parameters: &Parameters, rights: &Rights, now: WallUs) -> HistoryQuery {
    let mut query = HistoryQuery {
        after: parameters.after,
        exchanges: parameters.exchanges,
        types: parameters.types,
        detected_until: None,
        limit: parameters.limit,
    };
    if let Rights::Keys(keys) = rights {
        let allowed = keys.iter().fold(ExchangeSet::EMPTY, |all, key| all.union(key.allowed.set()));
        query.exchanges = query.exchanges.intersection(allowed);
        let ends: Option<Vec<WallUs>> = keys.iter().map(|key| shown_until(key, now)).collect();
        query.detected_until = ends.and_then(|ends| ends.into_iter().max());
    }
    query
}
