//! Who asks: the administrator, or a customer by the token of his account.
//!
//! Contract: the routes of webhooks are mounted three times, for a customer (`/v1/webhooks`), for the
//! administrator on behalf of an account (`/admin/v1/accounts/{account}/webhooks`), and for the
//! administrator over all accounts (`/admin/v1/webhooks`). A layer puts a [`Caller`] into the request;
//! handlers ask it and never look at the path or the token themselves. An endpoint of another account
//! is one that is not there. Tokens are compared by their hashes, in the store.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use tocsin_core::webhook::board::EndpointId;

use super::Control;
use super::reply::ApiError;
use crate::store::Reader;
use crate::store::webhook::accounts::{AccountId, AccountRecord};
use crate::store::webhook::endpoints::EndpointRecord;

/// Beginning and length of an account's token; anything else is refused unread.
const TOKEN_PREFIX: &str = "act_";
const TOKEN_BYTES: usize = TOKEN_PREFIX.len() + 64;

/// Who asks.
#[derive(Clone, Debug)]
pub(super) enum Caller {
    /// An account's owner, or the administrator on its behalf.
    Account(AccountRecord),
    /// The administrator, over all accounts.
    Admin,
}

/// `{account}` of a path.
#[derive(Deserialize)]
pub(super) struct AccountPath {
    account: String,
}

impl AccountPath {
    /// Its number.
    pub(super) fn id(&self) -> Result<AccountId, ApiError> {
        let number = self.account.parse().ok().filter(|number| *number > 0);
        number
            .map(AccountId)
            .ok_or_else(|| ApiError::new(StatusCode::NOT_FOUND, "no_such_account", "an account has a number"))
    }
}

/// `{id}` of a path, and `{event_id}` where there is one.
#[derive(Deserialize)]
pub(super) struct EndpointPath {
    pub(super) id: String,
    pub(super) event_id: Option<String>,
}

impl EndpointPath {
    fn id(&self) -> Result<EndpointId, ApiError> {
        let number = self.id.parse().ok().filter(|number| *number > 0);
        number.map(EndpointId).ok_or_else(|| {
            ApiError::new(StatusCode::NOT_FOUND, "no_such_endpoint", "an endpoint has a number")
        })
    }
}

/// The token of `Authorization: Bearer TOKEN`.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let given = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = given.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

async fn account_of(control: &Control, headers: &HeaderMap) -> Result<AccountRecord, ApiError> {
    let token = bearer(headers)
        .ok_or_else(|| ApiError::unauthorized("send `Authorization: Bearer <account token>`"))?;
    let unknown = || ApiError::unauthorized("the account token is not known");
    if token.len() != TOKEN_BYTES || !token.starts_with(TOKEN_PREFIX) {
        return Err(unknown());
    }
    let token = token.to_owned();
    control.read(move |reader| reader.account_by_token(&token)).await?.ok_or_else(unknown)
}

/// Layer of the customer's routes: the account whose token it is, whatever its plan.
pub(super) async fn customer(
    State(control): State<Arc<Control>>,
    mut request: Request,
    next: Next,
) -> Response {
    match account_of(&control, request.headers()).await {
        Ok(account) => {
            request.extensions_mut().insert(Caller::Account(account));
            next.run(request).await
        }
        Err(error) => error.into_response(),
    }
}

/// Layer of the customer's routes that only a plan with webhooks has; behind [`customer`].
pub(super) async fn with_webhooks(
    State(control): State<Arc<Control>>,
    request: Request,
    next: Next,
) -> Response {
    let refused = match request.extensions().get() {
        Some(Caller::Account(account)) => control.require_plan(account).err(),
        _ => None,
    };
    match refused {
        Some(error) => error.into_response(),
        None => next.run(request).await,
    }
}

/// Layer of the administrator's routes for one account.
pub(super) async fn on_behalf(
    State(control): State<Arc<Control>>,
    Path(path): Path<AccountPath>,
    mut request: Request,
    next: Next,
) -> Response {
    let account = match path.id() {
        Ok(id) => control.read(move |reader| reader.account(id)).await,
        Err(error) => Err(error),
    };
    match account {
        Ok(account) => {
            request.extensions_mut().insert(Caller::Account(account));
            next.run(request).await
        }
        Err(error) => error.into_response(),
    }
}

/// Layer of the administrator's routes over all accounts.
pub(super) async fn administrator(mut request: Request, next: Next) -> Response {
    request.extensions_mut().insert(Caller::Admin);
    next.run(request).await
}

impl Control {
    /// Refuses what an account's plan does not have.
    pub(super) fn require_plan(&self, account: &AccountRecord) -> Result<(), ApiError> {
        let plans = &self.webhooks.plans;
        if plans.contains(&account.plan) {
            return Ok(());
        }
        let detail = format!("plan {:?} has no webhooks; there is {}", account.plan, plans.join(", "));
        Err(ApiError::new(StatusCode::FORBIDDEN, "plan_has_no_webhooks", detail))
    }

    /// The endpoint of a path, if it is one of the caller's, and its account.
    pub(super) async fn find(
        &self,
        caller: &Caller,
        path: &EndpointPath,
    ) -> Result<(AccountRecord, EndpointRecord), ApiError> {
        let id = path.id()?;
        let owner = match caller {
            Caller::Account(account) => Some(account.id),
            Caller::Admin => None,
        };
        let found = move |reader: &Reader| {
            let endpoint = reader.endpoint(id)?;
            if owner.is_some_and(|owner| owner != endpoint.account) {
                return Ok(None);
            }
            Ok(Some((reader.account(endpoint.account)?, endpoint)))
        };
        self.read(found).await?.ok_or_else(|| ApiError::no_such_endpoint(id.0))
    }

    /// As [`Control::find`], for what only a plan with webhooks may do.
    pub(super) async fn find_entitled(
        &self,
        caller: &Caller,
        path: &EndpointPath,
    ) -> Result<(AccountRecord, EndpointRecord), ApiError> {
        let (account, endpoint) = self.find(caller, path).await?;
        self.require_plan(&account)?;
        Ok((account, endpoint))
    }
}
