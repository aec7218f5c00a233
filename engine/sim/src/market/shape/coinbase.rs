//! Coinbase: `/api/v3/brokerage/market/products`. State is a set of flags.

use serde_json::{Value, json};
use tocsin_core::market::{InstrumentKind, Trading};
use tocsin_core::time::WallUs;

use super::{Row, SPOT, Shape, View, as_trading};
use crate::clock;
use crate::http::Request;
use crate::market::Listing;

pub(super) static SHAPE: Shape =
    Shape { kinds: SPOT, quotes: &["USD", "USDC", "EUR"], symbol, shown, answer };

fn symbol(listing: &Listing) -> String {
    format!("{}-{}", listing.base, listing.quote)
}

/// No end is told; a product without a time of its opening is just for viewing.
fn shown(listing: &Listing) -> Option<Listing> {
    let listing = Listing { closes_at: None, ..listing.clone() };
    Some(match listing.trading {
        Trading::Ahead if listing.opens_at.is_none() => as_trading(listing, Trading::Halted),
        _ => listing,
    })
}

fn answer(view: &View<'_>, request: &Request) -> (u16, Value) {
    if request.path() != "/api/v3/brokerage/market/products" {
        return (404, json!({ "error": "NOT_FOUND", "message": "simulated refusal" }));
    }
    let products = view.list(InstrumentKind::Spot, |row| product(view, row));
    let pagination = json!({ "prev_cursor": "", "next_cursor": "", "has_next": false, "has_prev": false });
    (200, json!({ "products": products, "num_products": view.rows.len(), "pagination": pagination }))
}

fn product(view: &View<'_>, row: &Row<'_>) -> Value {
    let listing = row.listing;
    let (ahead, stopped) = (listing.trading == Trading::Ahead, listing.trading == Trading::Halted);
    json!({
        "product_id": row.symbol, "product_type": "SPOT", "base_currency_id": listing.base,
        "quote_currency_id": listing.quote, "price": view.text(listing.last), "volume_24h": "",
        "approximate_quote_24h_volume": view.text(listing.quote_24h), "new": ahead,
        "new_at": listing.opens_at.map(instant), "view_only": ahead, "trading_disabled": stopped,
        "status": if listing.trading == Trading::Over { "delisted" } else { "online" },
        "is_disabled": false, "cancel_only": false, "limit_only": false, "post_only": false,
        "auction_mode": false,
    })
}

fn instant(at: WallUs) -> String {
    clock::utc_iso(at)
}
