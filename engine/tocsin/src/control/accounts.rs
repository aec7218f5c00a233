//! Accounts: made, listed and changed by the administrator; shown to their owners.
//!
//! Contract: a token is in the answer that draws it and nowhere else; the account's sessions end with
//! the one before. A plan without webhooks ends them too, and switches the account's endpoints off
//! before the change is answered.

use std::sync::Arc;

use axum::extract::{Extension, Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use axum::routing::get;
use axum::{Json, Router};
use tocsin_core::access::Owner;
use tocsin_core::limits;
use tocsin_core::time::WallUs;

use super::Control;
use super::bridge::BridgeError;
use super::caller::{AccountPath, Caller};
use super::fields::{Body, Query, next_of, read_body};
use super::reply::{Answer, ApiError, shown_once};
use super::shapes::{
    AccountChange, AccountChanged, AccountCreate, AccountShown, AccountWithToken, Accounts, Refusal,
};
use crate::os::clock;
use crate::store::Page;
use crate::store::webhook::accounts::{AccountRecord, AccountUpdate, NewAccount};

/// The administrator's routes.
pub(super) fn routes() -> Router<Arc<Control>> {
    Router::new()
        .route("/admin/v1/accounts", get(list_accounts).post(create_account))
        .route("/admin/v1/accounts/{account}", get(show_account).patch(change_account).delete(remove_account))
        .route("/admin/v1/accounts/{account}/token", axum::routing::post(rotate_account_token))
}

impl Control {
    fn account_shown(&self, account: &AccountRecord, now: WallUs) -> AccountShown {
        AccountShown::of(account, &self.webhooks.plans, now)
    }
}

/// Your account.
#[utoipa::path(get, path = "/v1/account", tag = "account", security(("account_token" = [])),
    responses((status = 200, body = AccountShown)))]
pub(super) async fn own_account(
    State(control): State<Arc<Control>>,
    Extension(caller): Extension<Caller>,
) -> Answer {
    match caller {
        Caller::Account(account) => Ok(Json(control.account_shown(&account, clock::wall())).into_response()),
        Caller::Admin => Err(ApiError::new(StatusCode::NOT_FOUND, "no_such_account", "name an account")),
    }
}

/// Accounts, by number.
#[utoipa::path(get, path = "/admin/v1/accounts", tag = "accounts", security(("admin_token" = [])),
    params(("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "1,000 when not given"),
        ("after" = Option<i64>, Query, minimum = 0, description = "Only those behind this number"),
        ("plan" = Option<String>, Query, description = "Only those of this plan")),
    responses((status = 200, body = Accounts), (status = 400, body = Refusal)))]
pub(super) async fn list_accounts(State(control): State<Arc<Control>>, RawQuery(query): RawQuery) -> Answer {
    let now = clock::wall();
    let query = Query::read(query.as_deref(), &["limit", "after", "plan"])?;
    let (page, plan) = (query.page()?, query.text("plan").map(str::to_owned));
    let accounts = control.read(move |reader| reader.accounts_page(plan.as_deref(), page)).await?;
    let next = next_of(&accounts, page, |account| account.id.0);
    let accounts = accounts.iter().map(|account| control.account_shown(account, now)).collect();
    Ok(Json(Accounts { accounts, next }).into_response())
}

/// Make an account.
///
/// The answer alone has its token.
#[utoipa::path(post, path = "/admin/v1/accounts", tag = "accounts", security(("admin_token" = [])),
    request_body = AccountCreate,
    responses((status = 201, body = AccountWithToken), (status = 507, body = Refusal)))]
pub(super) async fn create_account(State(control): State<Arc<Control>>, body: Body) -> Answer {
    let AccountCreate { name, email, plan } = read_body(body)?;
    let new = NewAccount { name, email: email.unwrap_or_default(), plan };
    let (account, token) = control.bridge.create_account(new).await?;
    let shown = control.account_shown(&account, clock::wall());
    let token = token.reveal().to_owned();
    Ok(shown_once(StatusCode::CREATED, AccountWithToken { shown, token }))
}

/// One account.
#[utoipa::path(get, path = "/admin/v1/accounts/{account}", tag = "accounts", security(("admin_token" = [])),
    params(("account" = i64, Path, description = "Number of the account")),
    responses((status = 200, body = AccountShown), (status = 404, body = Refusal)))]
pub(super) async fn show_account(
    State(control): State<Arc<Control>>,
    Path(path): Path<AccountPath>,
) -> Answer {
    let id = path.id()?;
    let account = control.read(move |reader| reader.account(id)).await?;
    Ok(Json(control.account_shown(&account, clock::wall())).into_response())
}

/// Change an account's plan.
///
/// One without webhooks switches its endpoints off.
#[utoipa::path(patch, path = "/admin/v1/accounts/{account}", tag = "accounts",
    security(("admin_token" = [])), request_body = AccountChange,
    params(("account" = i64, Path, description = "Number of the account")),
    responses((status = 200, body = AccountChanged), (status = 404, body = Refusal)))]
pub(super) async fn change_account(
    State(control): State<Arc<Control>>,
    Path(path): Path<AccountPath>,
    body: Body,
) -> Answer {
    let id = path.id()?;
    let AccountChange { name, email, plan } = read_body(body)?;
    if name.is_none() && email.is_none() && plan.is_none() {
        return Err(ApiError::field("plan", "give it, name or email"));
    }
    let account = control.bridge.change_account(id, AccountUpdate { name, email, plan }).await?;
    let shown = control.account_shown(&account, clock::wall());
    let mut endpoints_disabled = 0;
    if !shown.webhooks {
        let id = account.id;
        control.access.end_all_of(Owner::Account(id.0));
        for endpoint in control.read(move |reader| reader.endpoints(Some(id))).await? {
            if endpoint.health.state.takes_events() {
                match control.bridge.disable(endpoint.id).await {
                    // Nothing is sent to one that the webhook thread does not know.
                    Ok(_) | Err(BridgeError::Refused(_)) => endpoints_disabled += 1,
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
    Ok(Json(AccountChanged { shown, endpoints_disabled }).into_response())
}

/// Remove an account: its endpoints are deleted, its keys revoked, its sessions ended.
///
/// A removal that was interrupted is finished by another.
#[utoipa::path(delete, path = "/admin/v1/accounts/{account}", tag = "accounts",
    security(("admin_token" = [])),
    params(("account" = i64, Path, description = "Number of the account")),
    responses((status = 204), (status = 404, body = Refusal), (status = 409, body = Refusal)))]
pub(super) async fn remove_account(
    State(control): State<Arc<Control>>,
    Path(path): Path<AccountPath>,
) -> Answer {
    let id = path.id()?;
    // Nobody comes in by the old token while the rest goes.
    control.bridge.rotate_account_token(id).await?;
    control.access.end_all_of(Owner::Account(id.0));
    for endpoint in control.read(move |reader| reader.endpoints(Some(id))).await? {
        control.bridge.delete_endpoint(endpoint.id).await?;
    }
    let mut page = Page { after: 0, limit: limits::ADMIN_ROWS };
    loop {
        let keys = control.read(move |reader| reader.keys_page(Some(id), page)).await?;
        for key in keys.iter().filter(|key| key.revoked_at.is_none()) {
            control.bridge.revoke_key(key.id).await?;
        }
        match next_of(&keys, page, |key| key.id.0) {
            Some(after) => page.after = after,
            None => break,
        }
    }
    control.bridge.delete_account(id).await?;
    control.access.end_all_of(Owner::Account(id.0));
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Draw an account a new token; the old one is refused from now on.
#[utoipa::path(post, path = "/admin/v1/accounts/{account}/token", tag = "accounts",
    security(("admin_token" = [])),
    params(("account" = i64, Path, description = "Number of the account")),
    responses((status = 200, body = AccountWithToken), (status = 404, body = Refusal)))]
pub(super) async fn rotate_account_token(
    State(control): State<Arc<Control>>,
    Path(path): Path<AccountPath>,
) -> Answer {
    let (account, token) = control.bridge.rotate_account_token(path.id()?).await?;
    control.access.end_all_of(Owner::Account(account.id.0));
    let shown = control.account_shown(&account, clock::wall());
    let token = token.reveal().to_owned();
    Ok(shown_once(StatusCode::OK, AccountWithToken { shown, token }))
}
