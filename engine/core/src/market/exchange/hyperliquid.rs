//! Hyperliquid: perpetuals (official). No preview: a contract appears in the universe when it is made.
//!
//! One POST answers with two lists that belong together by position: what there is, and how it stands. An
//! ended contract stays, marked `isDelisted`. Notional volume and margin are in USDC.

use core::time::Duration;

use super::{amount, flag, give_volume, list, name, read_rows, refused};
use crate::market::{Instrument, InstrumentKind, MarketRequest, MarketRow, MarketSpec, Tells, Trading};
use crate::model::Exchange;
use crate::source::json::Json;
use crate::source::{Evidence, ParseError, Parsed, Scratch};

/// `hyperliquid.perpetuals`. Weight 1,200 a minute; this takes 120.
pub static PERPETUALS: MarketSpec = MarketSpec {
    name: "hyperliquid.perpetuals",
    exchange: Exchange::Hyperliquid,
    evidence: Evidence::Official,
    base_url: "https://api.hyperliquid.xyz",
    ahead_by_time: false,
    headers: &[
        ("user-agent", concat!("tocsin/", env!("CARGO_PKG_VERSION"))),
        ("accept", "application/json"),
        ("content-type", "application/json"),
    ],
    requests: &[MarketRequest {
        name: "universe",
        target: "/info",
        body: Some("{\"type\":\"metaAndAssetCtxs\"}"),
        every: Duration::from_secs(10),
        complete: true,
        tells: Tells::Both,
        parse: parse_universe,
    }],
};

fn parse_universe(
    scratch: &mut Scratch,
    body: &mut [u8],
    found: &mut dyn FnMut(MarketRow<'_>),
) -> Result<Parsed, ParseError> {
    scratch.document(body, |root| {
        if root.get("error").is_some() {
            return Err(refused(root, &["error"]));
        }
        // The answer to `meta` alone is the first of the two.
        let mut both = root.elements();
        let (meta, contexts) = if root.is_object() { (Some(root), None) } else { (both.next(), both.next()) };
        let universe = list(meta.ok_or(ParseError::Missing("[]"))?, "universe")?;
        // Two lists of different length cannot be told to belong together: then there are no volumes.
        let contexts = contexts.filter(|contexts| contexts.elements().count() == universe.elements().count());
        let mut contexts = contexts.into_iter().flat_map(Json::elements);
        let rows = universe.elements().map(|contract| (contract, contexts.next()));
        Ok(read_rows(rows, found, |(contract, context), give| {
            let contract = read_contract(contract)?;
            give(MarketRow::Instrument(contract));
            give_volume(contract.symbol, amount(context.and_then(|c| c.get("dayNtlVlm")))?, None, give);
            Some(())
        }))
    })
}

fn read_contract<'a>(row: Json<'_, 'a>) -> Option<Instrument<'a>> {
    let symbol = name(row, "name")?;
    let over = flag(row, "isDelisted");
    Some(Instrument {
        symbol,
        base: symbol,
        quote: "USDC",
        kind: InstrumentKind::Perpetual,
        trading: if over { Trading::Over } else { Trading::Open },
        state: if over { "isDelisted" } else { "" },
        opens_at: None,
        closes_at: None,
    })
}
