//! Coinbase: products (official), of the Advanced Trade interface or of the Exchange one.
//!
//! No state says "not yet": a product is shown with its flags before it opens, and `new_at` past the latest
//! beginning of any product that is open tells that it is ahead. There is no time of an end. Volume stands
//! in the same row, an approximation of the exchange's own.

use core::time::Duration;

use super::{
    HEADERS, amount, begun, flag, give_volume, list, name, not_traded, price, read_rows, refused, time, word,
};
use crate::market::{Instrument, InstrumentKind, MarketRequest, MarketRow, MarketSpec, Tells, Trading};
use crate::model::Exchange;
use crate::source::json::Json;
use crate::source::{Evidence, ParseError, Parsed, Scratch};
use crate::time::WallUs;

/// `coinbase.products`. An address has ten requests a second.
pub static PRODUCTS: MarketSpec = MarketSpec {
    name: "coinbase.products",
    exchange: Exchange::Coinbase,
    evidence: Evidence::Official,
    base_url: "https://api.coinbase.com",
    ahead_by_time: true,
    headers: HEADERS,
    requests: &[products("/api/v3/brokerage/market/products?product_type=SPOT", Tells::Both)],
};

/// `coinbase.exchange`: the same products on the older interface, without times and volumes. Off by default:
/// it would tell of each a second time.
pub static EXCHANGE: MarketSpec = MarketSpec {
    name: "coinbase.exchange",
    exchange: Exchange::Coinbase,
    evidence: Evidence::Official,
    base_url: "https://api.exchange.coinbase.com",
    ahead_by_time: true,
    headers: HEADERS,
    requests: &[products("/products", Tells::Instruments)],
};

const fn products(target: &'static str, tells: Tells) -> MarketRequest {
    let every = Duration::from_secs(10);
    MarketRequest {
        name: "products",
        target,
        body: None,
        every,
        complete: true,
        tells,
        parse: parse_products,
    }
}

fn parse_products(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(MarketRow<'_>),
) -> Result<Parsed, ParseError> {
    scratch.document(body, |root| {
        let rows = match root.is_array() {
            true => root,
            false if root.get("products").is_none() && root.get("message").is_some() => {
                return Err(refused(root, &["error", "message"]));
            }
            false => list(root, "products")?,
        };
        let begun = begun(rows, "new_at", |row| trading(row, None, None) == Trading::Open);
        Ok(read_rows(rows.elements(), found, |row, give| {
            let product = read_product(row, begun)?;
            give(MarketRow::Instrument(product));
            let quote_24h = amount(row.get("approximate_quote_24h_volume"))?;
            give_volume(product.symbol, quote_24h, price(row.get("price")), give);
            Some(())
        }))
    })
}

fn read_product<'a>(row: Json<'_, 'a>, begun: Option<WallUs>) -> Option<Instrument<'a>> {
    let either = |one, other| name(row, one).or_else(|| name(row, other));
    let opens_at = time(row, "new_at");
    Some(Instrument {
        symbol: either("product_id", "id")?,
        base: either("base_currency_id", "base_currency")?,
        quote: either("quote_currency_id", "quote_currency")?,
        kind: InstrumentKind::Spot,
        trading: trading(row, opens_at, begun),
        state: state(row),
        opens_at,
        closes_at: None,
    })
}

/// Flags that stop trading.
const STOPPED: [&str; 4] = ["trading_disabled", "is_disabled", "view_only", "cancel_only"];
/// Flags that narrow it, as after an opening.
const NARROWED: [&str; 3] = ["auction_mode", "post_only", "limit_only"];

fn trading(row: Json<'_, '_>, opens_at: Option<WallUs>, begun: Option<WallUs>) -> Trading {
    match word(row, "status") {
        "delisted" => Trading::Over,
        "online" if STOPPED.iter().any(|key| flag(row, key)) => not_traded(opens_at, begun),
        "online" => Trading::Open,
        // offline, internal.
        _ => Trading::Halted,
    }
}

/// The flag that says most, else the status.
fn state<'a>(row: Json<'_, 'a>) -> &'a str {
    let set = STOPPED.into_iter().chain(NARROWED).find(|key| flag(row, key));
    match (word(row, "status"), set) {
        ("online", Some(flag)) => flag,
        (status, _) => status,
    }
}
