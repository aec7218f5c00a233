//! Gate: `/api/v4/spot` and `/api/v4/futures/usdt`. Times are seconds, 0 is none.

use serde_json::{Value, json};
use tocsin_core::market::{InstrumentKind, Trading};
use tocsin_core::time::WallUs;

use super::{Row, Shape, View, as_trading};
use crate::http::Request;
use crate::market::Listing;

pub(super) static SHAPE: Shape = Shape {
    kinds: &[InstrumentKind::Spot, InstrumentKind::Perpetual],
    quotes: &["USDT"],
    symbol,
    shown,
    answer,
};

fn symbol(listing: &Listing) -> String {
    format!("{}_{}", listing.base, listing.quote)
}

/// A spot pair without a time of its opening is just not tradable, and one that is not tradable and has an
/// end looks ended; a contract whose end is set is on its way out.
fn shown(listing: &Listing) -> Option<Listing> {
    let listing = listing.clone();
    Some(match (listing.kind, listing.trading) {
        (InstrumentKind::Spot, Trading::Ahead) if listing.opens_at.is_none() => {
            as_trading(listing, Trading::Halted)
        }
        (InstrumentKind::Spot, Trading::Halted) if listing.closes_at.is_some() => {
            as_trading(listing, Trading::Over)
        }
        (InstrumentKind::Perpetual, Trading::Open) if listing.closes_at.is_some() => {
            as_trading(listing, Trading::Over)
        }
        _ => listing,
    })
}

fn answer(view: &View<'_>, request: &Request) -> (u16, Value) {
    let (spot, futures) = (InstrumentKind::Spot, InstrumentKind::Perpetual);
    match request.path() {
        "/api/v4/spot/currency_pairs" => (200, view.list(spot, |row| pair(view, row))),
        "/api/v4/spot/tickers" => {
            let ticker = |row: &Row<'_>| {
                json!({
                    "currency_pair": row.symbol, "last": view.text(row.listing.last),
                    "quote_volume": view.text(row.listing.quote_24h),
                })
            };
            (200, view.list(spot, ticker))
        }
        "/api/v4/futures/usdt/contracts" => (200, view.list(futures, |row| contract(view, row))),
        "/api/v4/futures/usdt/tickers" => {
            let ticker = |row: &Row<'_>| {
                json!({
                    "contract": row.symbol, "last": view.text(row.listing.last), "volume_24h": "",
                    "volume_24h_quote": view.text(row.listing.quote_24h),
                })
            };
            (200, view.list(futures, ticker))
        }
        _ => (404, json!({ "label": "NOT_FOUND", "message": "simulated refusal" })),
    }
}

fn seconds(at: Option<WallUs>) -> i64 {
    at.map_or(0, WallUs::secs)
}

fn pair(view: &View<'_>, row: &Row<'_>) -> Value {
    let listing = row.listing;
    let status = if listing.trading == Trading::Open { "tradable" } else { "untradable" };
    json!({
        "id": row.symbol, "base": listing.base, "quote": listing.quote, "trade_status": status,
        "buy_start": seconds(listing.opens_at), "sell_start": seconds(listing.opens_at),
        "delisting_time": seconds(listing.closes_at), "min_quote_amount": view.text(Some(3.0)), "st_tag": false,
    })
}

fn contract(view: &View<'_>, row: &Row<'_>) -> Value {
    let listing = row.listing;
    let status = match listing.trading {
        Trading::Ahead => "prelaunch",
        Trading::Open => "trading",
        Trading::Halted => "circuit_breaker",
        Trading::Over => "delisted",
    };
    json!({
        "name": row.symbol, "type": "direct", "status": status,
        "in_delisting": listing.closes_at.is_some() && listing.trading == Trading::Open,
        "launch_time": seconds(listing.opens_at), "delisting_time": seconds(listing.closes_at),
        "last_price": view.text(listing.last),
    })
}
