//! What a customer has, and how much of it is used: keys, test events, registrations, deliveries.
//!
//! Contract: an account sees its own. Budgets and deliveries are the store's, connections the accept
//! thread's; when that is busy they are null. Deliveries are counted in the delivery log, which keeps
//! [`limits::WEBHOOK_LOG_LINES`] lines an endpoint.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, RawQuery, State};
use axum::response::IntoResponse as _;
use tocsin_core::limits;
use tocsin_core::time::WallUs;

use super::Control;
use super::caller::Caller;
use super::fields::{Query, next_of};
use super::reply::{Answer, key_shown};
use super::shapes::{Budget, DeliveryCounts, OwnKeyShown, OwnKeys, Refusal, Usage};
use crate::os::clock;
use crate::store::Page;

const DAY_US: i64 = 86_400_000_000;

impl Control {
    async fn own_keys(
        &self,
        caller: &Caller,
        page: Page,
        now: WallUs,
    ) -> Result<OwnKeys, super::reply::ApiError> {
        let Caller::Account(account) = caller else { return Ok(OwnKeys { keys: Vec::new(), next: None }) };
        let id = account.id;
        let keys = self.read(move |reader| reader.keys_page(Some(id), page)).await?;
        let counts = self.bridge.connections_of(keys.iter().map(|key| key.id).collect()).await;
        let count = |n: usize| counts.as_ref().and_then(|counts| counts.get(n).copied());
        let shown = keys.iter().enumerate();
        let shown = shown.map(|(n, key)| OwnKeyShown { shown: key_shown(key, now), connections: count(n) });
        Ok(OwnKeys { keys: shown.collect(), next: next_of(&keys, page, |key| key.id.0) })
    }
}

/// Your keys of the feed, and how many connections each has now.
#[utoipa::path(get, path = "/v1/keys", tag = "account", security(("account_token" = [])),
    params(("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "1,000 when not given"),
        ("after" = Option<i64>, Query, minimum = 0, description = "Only those behind this number")),
    responses((status = 200, body = OwnKeys), (status = 400, body = Refusal)))]
pub(super) async fn list_own_keys(
    State(control): State<Arc<Control>>,
    Extension(caller): Extension<Caller>,
    RawQuery(query): RawQuery,
) -> Answer {
    let page = Query::read(query.as_deref(), &["limit", "after"])?.page()?;
    Ok(Json(control.own_keys(&caller, page, clock::wall()).await?).into_response())
}

/// What of your plan is used.
#[utoipa::path(get, path = "/v1/usage", tag = "account", security(("account_token" = [])),
    responses((status = 200, body = Usage)))]
pub(super) async fn show_usage(
    State(control): State<Arc<Control>>,
    Extension(caller): Extension<Caller>,
) -> Answer {
    let now = clock::wall();
    let Caller::Account(account) = &caller else { return Ok(Json(()).into_response()) };
    let id = account.id;
    let since = WallUs(now.0.saturating_sub(DAY_US));
    let (endpoints, registrations_left, outcomes) = control
        .read(move |reader| {
            let endpoints = reader.endpoints(Some(id))?.len();
            Ok((endpoints, reader.registrations_left(id, now)?, reader.outcomes_since(id, since)?))
        })
        .await?;
    let today = now.secs().div_euclid(86_400);
    let tests = usize::from(if account.test_day == today { account.tests_taken } else { 0 });
    let registrations = limits::WEBHOOK_REGISTRATIONS_PER_HOUR;
    let page = Page { after: 0, limit: limits::ADMIN_ROWS };
    let count = |class: Option<&str>| {
        outcomes.iter().filter(|(of, _)| of.as_deref() == class).map(|(_, count)| count).sum::<u64>()
    };
    let delivered = count(None);
    let failed = outcomes.iter().map(|(_, count)| count).sum::<u64>() - delivered;
    let by_class = outcomes.into_iter().filter_map(|(class, count)| Some((class?, count))).collect();
    let usage = Usage {
        plan: account.plan.clone(),
        webhooks: control.require_plan(account).is_ok(),
        tests_today: Budget::of(tests, usize::from(limits::WEBHOOK_TESTS_PER_DAY)),
        endpoints: Budget::of(endpoints, limits::WEBHOOK_ENDPOINTS_PER_ACCOUNT),
        registrations_this_hour: Budget::of(
            registrations - registrations_left.min(registrations),
            registrations,
        ),
        deliveries_24h: DeliveryCounts { delivered, failed, by_class },
        keys: control.own_keys(&caller, page, now).await?.keys,
    };
    Ok(Json(usage).into_response())
}
