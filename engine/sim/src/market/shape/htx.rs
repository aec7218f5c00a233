//! HTX: `/v2/settings/common/symbols` and `/market/tickers`. Numbers are bare.

use serde_json::{Value, json};
use tocsin_core::market::{InstrumentKind, Trading};

use super::{Row, SPOT, Shape, View};
use crate::http::Request;
use crate::market::Listing;

pub(super) static SHAPE: Shape = Shape { kinds: SPOT, quotes: &["USDT", "HTX"], symbol, shown, answer };

fn symbol(listing: &Listing) -> String {
    format!("{}{}", listing.base, listing.quote).to_lowercase()
}

/// No end is told.
fn shown(listing: &Listing) -> Option<Listing> {
    Some(Listing { closes_at: None, ..listing.clone() })
}

fn answer(view: &View<'_>, request: &Request) -> (u16, Value) {
    let data = match request.path() {
        "/v2/settings/common/symbols" => view.list(InstrumentKind::Spot, |row| pair(view, row)),
        "/market/tickers" => view.list(InstrumentKind::Spot, |row| ticker(view, row)),
        _ => {
            return (
                404,
                json!({ "status": "error", "err-code": "not-found", "err-msg": "simulated refusal" }),
            );
        }
    };
    (200, json!({ "status": "ok", "ts": "1", "full": 1, "data": data }))
}

fn pair(view: &View<'_>, row: &Row<'_>) -> Value {
    let listing = row.listing;
    let state = match listing.trading {
        Trading::Ahead => "pre-online",
        Trading::Open => "online",
        Trading::Halted => "suspend",
        Trading::Over => "offline",
    };
    json!({
        "sc": row.symbol, "dn": format!("{}/{}", listing.base, listing.quote), "bc": listing.base.to_lowercase(),
        "bcdn": listing.base, "qc": listing.quote.to_lowercase(), "qcdn": listing.quote, "state": state,
        "te": listing.trading == Trading::Open, "toa": listing.opens_at.map_or(0, |at| at.0 / 1_000),
        "tpp": view.bare(Some(2.0)), "sp": "main", "tags": "",
    })
}

/// `amount` is in the base, `vol` in the quote.
fn ticker(view: &View<'_>, row: &Row<'_>) -> Value {
    let base = row.listing.quote_24h.zip(row.listing.last).map(|(quote, last)| quote / last);
    json!({
        "symbol": row.symbol, "close": view.bare(row.listing.last), "amount": view.bare(base),
        "vol": view.bare(row.listing.quote_24h),
    })
}
