//! What the three exchanges write on their streams.

use serde_json::{Value, json};
use tocsin_core::time::WallUs;

use super::{Article, StreamKind};
use crate::catalogue::Category;
use crate::clock;

/// The channels of Gate an announcement comes on.
pub(super) const fn channels(category: Category) -> &'static [&'static str] {
    match category {
        Category::Listing => &["summary_listing", "summary_all"],
        Category::Delisting => &["summary_delisting", "summary_all"],
        _ => &["summary_all"],
    }
}

/// The channels of Gate there are.
pub(super) const CHANNELS: [&str; 10] = [
    "summary_listing",
    "summary_delisting",
    "summary_fee",
    "summary_etf",
    "summary_deposit_withdrawal",
    "summary_rename",
    "summary_precision",
    "summary_engine_upgrade",
    "summary_all",
    "summary_ipos",
];

/// An instant as precisely as the exchange shows it.
pub(super) const fn shown(kind: StreamKind, at: WallUs) -> WallUs {
    let unit = match kind {
        StreamKind::Binance => 1_000,
        StreamKind::Upbit | StreamKind::Gate => 1_000_000,
    };
    WallUs(at.0.div_euclid(unit) * unit)
}

/// Binance: the announcement is a string that holds JSON.
pub(super) fn binance(article: &Article) -> String {
    let catalog = match article.category {
        Category::Listing => 48,
        Category::Delisting => 161,
        Category::Activity => 93,
        Category::Airdrop => 128,
        Category::Api => 51,
        Category::Fiat => 50,
        Category::Wallet | Category::Maintenance => 157,
        Category::Caution | Category::News | Category::Disclosure => 49,
    };
    let inner = json!({
        "catalogId": catalog, "catalogName": "Simulated", "publishDate": article.published.0 / 1_000,
        "title": article.title, "body": "A simulated article.", "disclaimer": "Simulated.",
    });
    json!({"type": "DATA", "topic": "com_announcement_en", "data": inner.to_string()}).to_string()
}

/// Upbit, format DEFAULT. Only the category of listings, delistings and cautions is asked for.
pub(super) fn upbit(article: &Article, now: WallUs) -> Option<String> {
    if !matches!(article.category, Category::Listing | Category::Delisting | Category::Caution) {
        return None;
    }
    let uuid = article.id.to_string();
    let message = json!({
        "type": "announcement", "event_type": if article.edited { "UPDATED" } else { "CREATED" },
        "uuid": uuid, "title": format!("[거래] {}", article.title), "category": "trade",
        "url": format!("https://www.upbit.com/service_center/notice?id={uuid}&view=share"),
        "first_listed_at": clock::kst_iso(article.published), "listed_at": clock::kst_iso(article.listed),
        "timestamp": now.0 / 1_000, "stream_type": "REALTIME",
    });
    Some(message.to_string())
}

/// Gate, on one channel. Its articles stand under either host.
pub(super) fn gate(article: &Article, channel: &str) -> String {
    let host = if article.id.is_multiple_of(2) { "www.gate.com" } else { "www.gate.io" };
    gate_frame(
        channel,
        "update",
        &json!({
            "lang": "en", "origin_url": format!("https://{host}/article/{}", article.id),
            "title": article.title, "brief": "A simulated article.", "published_at": article.published.secs(),
        }),
    )
}

pub(super) fn gate_frame(channel: &str, event: &str, result: &Value) -> String {
    let now = clock::wall_now();
    json!({
        "time": now.secs(), "time_ms": now.0 / 1_000, "channel": format!("announcement.{channel}"),
        "event": event, "result": result,
    })
    .to_string()
}

pub(super) fn gate_error(channel: &str, message: &str) -> String {
    let now = clock::wall_now();
    json!({
        "time": now.secs(), "channel": format!("announcement.{channel}"), "event": "subscribe",
        "error": {"code": 2, "message": message}, "result": null,
    })
    .to_string()
}

/// How Upbit refuses, in an answer or on a session.
pub(super) fn upbit_error(name: &str) -> String {
    json!({"error": {"name": name, "message": "simulated refusal"}}).to_string()
}
