//! Market events and contexts as the feed's messages.
//!
//! Contract: each is serialized once, by the market thread, which allocates it. A context is cut so that it
//! stays below [`limits::EXTRA_BYTES`]: each asset gets an equal share of it, and markets beyond that are
//! left out. Numbers that are not known are `null`. Nothing fails.

use std::io::Write as _;

use super::MarketEvent;
use super::context::{AssetContext, AssetMarket, Context};
use super::register::bare;
use crate::limits;
use crate::model::{Announcement, Ticker};
use crate::wire::Payload;
use crate::wire::extra::{Extra, ExtraKind};
use crate::wire::json;

/// A `market` message. It is for those who filter for the base or, of a multiplied one (`1000SATS`), for
/// the asset it is of; a filter of types does not count.
#[must_use]
pub fn encode_event(event: &MarketEvent) -> Extra {
    let mut out = Vec::with_capacity(768);
    out.extend_from_slice(b"{\"type\":\"market\",\"event\":\"");
    out.extend_from_slice(event.kind.name().as_bytes());
    out.extend_from_slice(b"\",\"id\":");
    json::string(&mut out, &event.source_item());
    text(&mut out, "publisher", event.exchange.name());
    text(&mut out, "symbol", &event.symbol);
    text(&mut out, "base", &event.base);
    text(&mut out, "quote", &event.quote);
    text(&mut out, "instrument", event.instrument.name());
    text(&mut out, "state", &event.state);
    text(&mut out, "source", event.source);
    key(&mut out, "newAsset");
    boolean(&mut out, Some(event.new_asset));
    key(&mut out, "noticed");
    boolean(&mut out, Some(event.noticed));
    key(&mut out, "effectiveAtUs");
    json::instant_or_null(&mut out, event.effective_at);
    amount(&mut out, "volume24hUsd", event.volume_24h);
    amount(&mut out, "ratio", event.ratio);
    key(&mut out, "score");
    match event.score {
        Some(score) => json::unsigned(&mut out, u64::from(score.min(100))),
        None => out.extend_from_slice(b"null"),
    }
    key(&mut out, "sinceUs");
    json::instant_or_null(&mut out, event.since);
    key(&mut out, "receivedTimestampUs");
    json::signed(&mut out, event.received.0);
    let asset = bare(&event.base);
    let names = [Some(event.base.as_str()), Some(asset).filter(|asset| *asset != event.base)];
    Extra {
        kind: ExtraKind::Market,
        exchange: event.exchange,
        listing_type: None,
        tickers: names.into_iter().flatten().filter_map(Ticker::new).collect(),
        is_news: true,
        payload: Payload::ending(out, event.detected),
    }
}

/// A `context` message of an announcement that was sent (not a late one), for those it was for.
#[must_use]
pub fn encode_context(announcement: &Announcement, context: &Context) -> Extra {
    let mut out = Vec::with_capacity(2_048);
    out.extend_from_slice(b"{\"type\":\"context\",\"id\":");
    json::string(&mut out, &announcement.id);
    key(&mut out, "seq");
    json::unsigned(&mut out, announcement.position.seq);
    key(&mut out, "epoch");
    json::unsigned(&mut out, announcement.position.epoch);
    text(&mut out, "publisher", announcement.exchange.name());
    key(&mut out, "assets");
    out.push(b'[');
    let assets = context.assets.iter().take(limits::TICKERS_PER_ANNOUNCEMENT);
    let share = limits::EXTRA_BYTES / assets.len().max(1);
    for (i, asset) in assets.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_asset(&mut out, asset, share);
    }
    out.push(b']');
    Extra {
        kind: ExtraKind::Context,
        exchange: announcement.exchange,
        listing_type: Some(announcement.classification.listing_type),
        tickers: announcement.classification.tickers.as_slice().into(),
        is_news: announcement.action.is_news(),
        payload: Payload::ending(out, announcement.detected),
    }
}

/// An asset with as many of its markets as fit into `share` bytes.
fn write_asset(out: &mut Vec<u8>, asset: &AssetContext, share: usize) {
    let from = out.len();
    out.extend_from_slice(b"{\"ticker\":");
    json::string(out, asset.ticker.as_str());
    key(out, "firstKorean");
    boolean(out, asset.first_korean);
    amount(out, "volume24hUsd", asset.volume_24h_usd);
    key(out, "markets");
    out.push(b'[');
    for (i, market) in asset.markets.iter().enumerate() {
        let before = out.len();
        if i > 0 {
            out.push(b',');
        }
        write_market(out, market);
        // The two brackets that are to come, and a comma behind the asset.
        if out.len() + 3 - from > share {
            out.truncate(before);
            break;
        }
    }
    out.extend_from_slice(b"]}");
}

fn write_market(out: &mut Vec<u8>, market: &AssetMarket) {
    out.extend_from_slice(b"{\"exchange\":");
    json::string(out, market.exchange.name());
    text(out, "symbol", &market.symbol);
    text(out, "instrument", market.instrument.name());
    text(out, "quote", &market.quote);
    text(out, "status", market.trading.name());
    amount(out, "volume24hUsd", market.volume_24h_usd);
    out.push(b'}');
}

fn key(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn text(out: &mut Vec<u8>, name: &str, value: &str) {
    key(out, name);
    json::string(out, value);
}

fn boolean(out: &mut Vec<u8>, value: Option<bool>) {
    let word: &[u8] = match value {
        Some(true) => b"true",
        Some(false) => b"false",
        None => b"null",
    };
    out.extend_from_slice(word);
}

/// No market trades so much, and a number an exchange may send has up to 309 digits.
const MOST: f64 = 1e15;

/// To the cent.
fn amount(out: &mut Vec<u8>, name: &str, value: Option<f64>) {
    key(out, name);
    match value.filter(|amount| (0.0..MOST).contains(amount)) {
        // Writing to a vector cannot fail. The absolute value, because -0.0 is not negative.
        Some(amount) => drop(write!(out, "{:.2}", amount.abs())),
        None => out.extend_from_slice(b"null"),
    }
}

#[cfg(test)]
mod tests;
