//! Signing in and out: sessions for browsers, and links that open one.
//!
//! Contract: a session's id is drawn anew at each sign-in, whatever the browser brought, and is in
//! no body, list or log: only in the cookie. Whoever signs in over an old session ends that. A request
//! that changes something needs the session's CSRF token and has to come from this server's page.
//! Wrong credentials are counted by address and in all; see [`super::access`].

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, SET_COOKIE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::IntoResponse as _;
use tocsin_core::access::Owner;
use tocsin_core::access::ticket::Ticket;
use tocsin_core::limits;

use super::Control;
use super::caller::Who;
use super::client::{COOKIE, Client, Given};
use super::fields::{Body, read_body, read_request};
use super::reply::{Answer, ApiError, shown_once};
use super::shapes::{AccountShown, Refusal, SessionShown, SignIn, SignInLink, SignInLinkCreate};
use crate::os::clock;
use crate::store::webhook::accounts::AccountId;

/// `Set-Cookie` of a session's id, or of none.
fn set_cookie(id: Option<&Ticket>, client: Client) -> HeaderValue {
    let value = id.map_or_else(|| "; Max-Age=0".to_owned(), Ticket::reveal);
    let secure = if client.secure { "; Secure" } else { "" };
    let text = format!("{COOKIE}={value}; HttpOnly; SameSite=Strict; Path=/{secure}");
    let mut header = HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""));
    header.set_sensitive(true);
    header
}

impl Control {
    fn session_shown(&self, who: &Who, csrf: String, expires_in: std::time::Duration) -> SessionShown {
        let now = clock::wall();
        let account = match who {
            Who::Administrator => None,
            Who::Account(account) => Some(AccountShown::of(account, &self.webhooks.plans, now)),
        };
        SessionShown { role: who.role(), account, csrf, expires_in_secs: expires_in.as_secs() }
    }

    /// Whose credential it is; a code is used up by asking.
    async fn signing_in(&self, asked: &SignIn) -> Result<Option<Who>, ApiError> {
        let owner = match (&asked.token, &asked.code) {
            (Some(token), None) => return self.who_has(token.trim()).await,
            (None, Some(code)) => Ticket::parse(code.trim()).and_then(|code| self.access.redeem(&code)),
            _ => return Err(ApiError::field("token", "give it or code, one of the two")),
        };
        match owner {
            Some(owner) => self.who_is(owner).await,
            None => Ok(None),
        }
    }
}

/// Sign in: a session for a browser.
///
/// With the administrator's token, an account's, or the code of a sign-in link. The cookie it sets
/// stands for the token from now on; anything but reading needs `csrf` in `X-CSRF-Token`.
#[utoipa::path(post, path = "/v1/session", tag = "session", request_body = SignIn,
    responses((status = 200, body = SessionShown,
            headers(("Set-Cookie" = String, description = "The session's id, for this host alone"))),
        (status = 400, body = Refusal), (status = 401, body = Refusal), (status = 403, body = Refusal),
        (status = 429, body = Refusal, headers(("Retry-After" = u64, description = "Seconds")))))]
pub(super) async fn sign_in(State(control): State<Arc<Control>>, request: Request) -> Answer {
    let given = Given::of(&request);
    if !given.own_page {
        return Err(ApiError::csrf("signing in is for this server's own page"));
    }
    control.access.may_sign_in(given.client.address)?;
    let asked: SignIn = read_request(request).await?;
    let Some(who) = control.signing_in(&asked).await? else {
        control.access.failed_sign_in(given.client.address);
        return Err(ApiError::unauthorized("the token or code is not known, or no longer good"));
    };
    if let Some(old) = &given.session {
        control.access.end(&old.hash());
    }
    let begun = control.access.begin(who.owner())?;
    // A token drawn anew meanwhile has ended the account's sessions: perhaps before this one was there.
    if let (Some(token), Who::Account(_)) = (&asked.token, &who)
        && control.who_has(token.trim()).await?.is_none()
    {
        control.access.end(&begun.session.key);
        return Err(ApiError::unauthorized("the token is no longer good"));
    }
    tracing::info!(role = who.role(), account = who.account_id(), "signed in");
    let shown = control.session_shown(&who, begun.csrf, begun.session.expires_in);
    let mut response = shown_once(StatusCode::OK, shown);
    response.headers_mut().insert(SET_COOKIE, set_cookie(Some(&begun.id), given.client));
    Ok(response)
}

/// The session of the cookie.
#[utoipa::path(get, path = "/v1/session", tag = "session", security(("session" = [])),
    responses((status = 200, body = SessionShown), (status = 401, body = Refusal)))]
pub(super) async fn show_session(State(control): State<Arc<Control>>, request: Request) -> Answer {
    let given = Given { bearer: None, ..Given::of(&request) };
    let (id, session, who) = control.session_of(&given).await?;
    Ok(shown_once(StatusCode::OK, control.session_shown(&who, control.access.csrf(&id), session.expires_in)))
}

/// Sign out.
#[utoipa::path(delete, path = "/v1/session", tag = "session", security(("session" = [])),
    params(("X-CSRF-Token" = String, Header, description = "The session's `csrf`")),
    responses((status = 204, headers(("Set-Cookie" = String, description = "Takes the cookie away"))),
        (status = 401, body = Refusal), (status = 403, body = Refusal)))]
pub(super) async fn sign_out(State(control): State<Arc<Control>>, request: Request) -> Answer {
    let given = Given { bearer: None, ..Given::of(&request) };
    let (_, session, _) = control.session_of(&given).await?;
    control.access.end(&session.key);
    let headers =
        [(SET_COOKIE, set_cookie(None, given.client)), (CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((StatusCode::NO_CONTENT, headers).into_response())
}

/// A link that signs in once, for the administrator or for an account.
///
/// `path` goes behind this server's address. Who opens it first is signed in.
#[utoipa::path(post, path = "/admin/v1/sign-in-links", tag = "accounts", security(("admin_token" = [])),
    request_body = SignInLinkCreate,
    responses((status = 201, body = SignInLink), (status = 404, body = Refusal)))]
pub(super) async fn create_link(State(control): State<Arc<Control>>, body: Body) -> Answer {
    let SignInLinkCreate { account } = read_body(body)?;
    let owner = match account {
        None => Owner::Administrator,
        Some(id) => {
            let account = control.read(move |reader| reader.account(AccountId(id))).await?;
            Owner::Account(account.id.0)
        }
    };
    let code = control.access.issue(owner)?;
    let (expires_in_secs, base_url) = (limits::SIGN_IN_CODE_LIFE.as_secs(), control.base_url.clone());
    Ok(shown_once(
        StatusCode::CREATED,
        SignInLink { path: format!("/#code={}", code.reveal()), base_url, expires_in_secs },
    ))
}
