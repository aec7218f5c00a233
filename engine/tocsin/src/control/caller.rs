//! Who asks: the administrator, or a customer by the token of his account; either by a session.
//!
//! Contract: the routes of webhooks are mounted three times, for a customer (`/v1/webhooks`), for the
//! administrator on behalf of an account (`/admin/v1/accounts/{account}/webhooks`), and for the
//! administrator over all accounts (`/admin/v1/webhooks`). A layer puts a [`Caller`] into the request;
//! handlers ask it and never look at the path or the token themselves. An endpoint of another account
//! is one that is not there. Tokens are compared by their hashes, in the store.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use tocsin_core::access::Owner;
use tocsin_core::access::sessions::Session;
use tocsin_core::access::ticket::{Ticket, TicketHash};
use tocsin_core::webhook::board::EndpointId;

use super::Control;
use super::access::Credential;
use super::client::Given;
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
        // The store counts in signed numbers: none is above theirs.
        let number = self.id.parse().ok().filter(|number| (1..=i64::MAX as u64).contains(number));
        number.map(EndpointId).ok_or_else(|| {
            ApiError::new(StatusCode::NOT_FOUND, "no_such_endpoint", "an endpoint has a number")
        })
    }
}

/// Who asks, by what he brought.
#[derive(Clone, Debug)]
pub(super) enum Who {
    /// The administrator.
    Administrator,
    /// An account's owner.
    Account(AccountRecord),
}

impl Who {
    pub(super) fn owner(&self) -> Owner {
        self.account_id().map_or(Owner::Administrator, Owner::Account)
    }

    pub(super) fn account_id(&self) -> Option<i64> {
        match self {
            Who::Administrator => None,
            Who::Account(account) => Some(account.id.0),
        }
    }

    pub(super) const fn role(&self) -> &'static str {
        match self {
            Who::Administrator => "administrator",
            Who::Account(_) => "customer",
        }
    }
}

impl Control {
    /// Whose token this is.
    pub(super) async fn who_has(&self, token: &str) -> Result<Option<Who>, ApiError> {
        if self.is_admin_token(token) {
            return Ok(Some(Who::Administrator));
        }
        if token.len() != TOKEN_BYTES || !token.starts_with(TOKEN_PREFIX) {
            return Ok(None);
        }
        let token = token.to_owned();
        Ok(self.read(move |reader| reader.account_by_token(&token)).await?.map(Who::Account))
    }

    /// Who an owner is now; an account that is gone is nobody, and its sessions end.
    pub(super) async fn who_is(&self, owner: Owner) -> Result<Option<Who>, ApiError> {
        let Owner::Account(id) = owner else { return Ok(Some(Who::Administrator)) };
        match self.read(move |reader| reader.account(AccountId(id))).await {
            Ok(account) => Ok(Some(Who::Account(account))),
            Err(error) if error.code == "no_such_account" => {
                self.access.end_all_of(owner);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The session of a request: its id, what is known of it, and whose it is.
    ///
    /// # Errors
    /// There is none or it has ended (401); the request comes from another page or lacks the CSRF
    /// token where it changes something (403).
    pub(super) async fn session_of(&self, given: &Given) -> Result<(Ticket, Session, Who), ApiError> {
        let ended = || ApiError::unauthorized("there is no session, or it has ended: sign in");
        let id = given.session.as_ref().ok_or_else(ended)?;
        if given.cross_site {
            return Err(ApiError::csrf("another site's page sent this"));
        }
        let session = self.access.use_now(id).ok_or_else(ended)?;
        if given.changes {
            if !given.own_page {
                return Err(ApiError::csrf("changes are for this server's own page"));
            }
            if !given.csrf.as_deref().is_some_and(|csrf| self.access.csrf_matches(id, csrf)) {
                return Err(ApiError::csrf("send the session's `csrf` in X-CSRF-Token"));
            }
        }
        let who = self.who_is(session.owner).await?.ok_or_else(ended)?;
        Ok((id.clone(), session, who))
    }

    /// Who asks; `None` when the request says nothing of that.
    ///
    /// # Errors
    /// What it says is not true (401), is not enough (403), or comes too often (429).
    pub(super) async fn who_asks(
        &self,
        given: &Given,
    ) -> Result<Option<(Who, Option<TicketHash>)>, ApiError> {
        let (who, session) = if let Some(token) = &given.bearer {
            self.access.may_try(given.client.address)?;
            match self.who_has(token).await? {
                Some(who) => (who, None),
                None => {
                    self.access.failed(given.client.address);
                    return Err(ApiError::unauthorized("the token is not known"));
                }
            }
        } else if given.session.is_some() {
            let (_, session, who) = self.session_of(given).await?;
            (who, Some(session.key))
        } else {
            return Ok(None);
        };
        if given.client.address.is_some() {
            self.access.take_of(Credential::Owner(who.owner()))?;
        }
        Ok(Some((who, session)))
    }
}

/// The session a request came with, for what goes on after it was answered: put into a request by
/// [`administrators_only`] and [`customer`].
#[derive(Clone, Copy, Debug)]
pub(super) struct WithSession(pub(super) Option<TicketHash>);

/// Layer of the administrator's routes over TCP.
pub(super) async fn administrators_only(
    State(control): State<Arc<Control>>,
    mut request: Request,
    next: Next,
) -> Response {
    let given = Given::of(&request);
    match control.who_asks(&given).await {
        Ok(Some((Who::Administrator, session))) => {
            request.extensions_mut().insert(WithSession(session));
            next.run(request).await
        }
        Ok(_) => ApiError::unauthorized("send `Authorization: Bearer <admin token>`").into_response(),
        Err(error) => error.into_response(),
    }
}

/// Layer of the customer's routes: the account whose token or session it is, whatever its plan.
pub(super) async fn customer(
    State(control): State<Arc<Control>>,
    mut request: Request,
    next: Next,
) -> Response {
    let given = Given::of(&request);
    match control.who_asks(&given).await {
        Ok(Some((Who::Account(account), session))) => {
            request.extensions_mut().insert(WithSession(session));
            request.extensions_mut().insert(Caller::Account(account));
            next.run(request).await
        }
        Ok(_) => ApiError::unauthorized("send `Authorization: Bearer <account token>`").into_response(),
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
