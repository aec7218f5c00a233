//! Who is connected to the feed.
//!
//! Contract: the feed writers copy rows, see [`super::bridge`]; label and tier come from the store. A
//! page is as of the moment its rows were copied. Never shows a key's text.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::IntoResponse as _;
use tocsin_core::feed::admission::address::EXEMPT;
use tocsin_core::feed::key::KeyRecord;
use tocsin_core::limits;
use tocsin_core::time::{Now, WallUs};

use super::Control;
use super::fields::Query;
use super::reply::{Answer, ApiError, rfc3339};
use super::shapes::{Refusal, SubscriberFilter, SubscriberShown, Subscribers};
use crate::os::clock;
use crate::rings::SubscriberRow;

/// Subscribers of a page when the request names no limit.
const ROWS: usize = 100;

/// Subscribers of the feed: who, from where, how far behind, how far away.
#[utoipa::path(get, path = "/admin/v1/subscribers", tag = "service", security(("admin_token" = [])),
    params(("limit" = Option<u32>, Query, minimum = 1, maximum = 500, description = "100 when not given"),
        ("after" = Option<u64>, Query, description = "Only those behind this number: `next`")),
    responses((status = 200, body = Subscribers), (status = 400, body = Refusal),
        (status = 503, body = Refusal)))]
pub(super) async fn list_subscribers(
    State(control): State<Arc<Control>>,
    RawQuery(query): RawQuery,
) -> Answer {
    let query = Query::read(query.as_deref(), &["limit", "after"])?;
    let limit = query.limit(ROWS, limits::SUBSCRIBERS_LISTED)?;
    let after = match query.text("after") {
        None => 0,
        Some(text) => {
            text.parse().map_err(|_| ApiError::field("after", "takes the `next` of the page before"))?
        }
    };
    let found = control.bridge.subscribers(after, limit).await?;
    let mut ids: Vec<_> = found.rows.iter().map(|(_, row)| row.row.key).collect();
    ids.sort_unstable();
    ids.dedup();
    let keys = move |reader: &crate::store::Reader| ids.into_iter().map(|id| reader.key(id)).collect();
    let keys: Vec<KeyRecord> = control.read(keys).await?;
    let keys: BTreeMap<_, _> = keys.iter().map(|key| (key.id, key)).collect();
    let now = clock::now();
    let shown = |(id, row): &(u64, SubscriberRow)| shown(*id, row, keys.get(&row.row.key).copied(), now);
    let subscribers = found.rows.iter().map(shown).collect();
    let total = control.view.connections();
    Ok(Json(Subscribers { subscribers, total, next: found.next }).into_response())
}

fn shown(id: u64, row: &SubscriberRow, key: Option<&KeyRecord>, now: Now) -> SubscriberShown {
    let SubscriberRow { row, address } = row;
    let ago = i64::try_from(now.mono.since(row.joined).as_micros()).unwrap_or(i64::MAX);
    let exchanges = row.exchanges.iter().map(tocsin_core::model::Exchange::name).collect();
    let types = row.types.iter().map(tocsin_core::model::ListingType::name).collect();
    SubscriberShown {
        id,
        key_id: row.key.0,
        label: key.map(|key| key.label.clone()),
        tier: key.map(|key| key.tier.name()),
        account: key.and_then(|key| key.account),
        address: (*address != EXEMPT).then(|| address.to_string()),
        connected_at: rfc3339(WallUs(now.wall.0.saturating_sub(ago))),
        filter: SubscriberFilter { exchanges, types, tickers: row.tickers },
        state: row.standing.name(),
        lag_messages: row.lag,
        waiting_bytes: row.waiting_bytes,
        rtt_us: row.rtt_us,
        delay_ms: row.delay_ns / 1_000_000,
    }
}
