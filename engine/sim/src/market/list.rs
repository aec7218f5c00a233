//! An exchange's list of instruments without a server: what it answers, and what it shows of one.
//!
//! Contract: pure; the same shapes the servers of this module answer with. Allocates; fails never, what is no
//! simulated exchange has no list.

use tocsin_core::market::InstrumentKind;
use tocsin_core::model::Exchange;
use tocsin_core::time::WallUs;

use super::shape::{self, Row, View};
use super::world::{Listing, Shown};
use crate::http::Request;

/// Kinds of market the exchange lists here that have no end of their own, and what they are priced in.
pub(crate) fn lists(exchange: Exchange) -> (Vec<InstrumentKind>, &'static str) {
    let Some(shape) = shape::of(exchange) else { return (Vec::new(), "USDT") };
    let kinds = shape.kinds.iter().copied().filter(|kind| *kind != InstrumentKind::Dated).collect();
    (kinds, shape.quotes.first().copied().unwrap_or("USDT"))
}

/// The exchange's name for an instrument.
pub(crate) fn symbol(exchange: Exchange, listing: &Listing) -> String {
    shape::of(exchange).map(|shape| (shape.symbol)(listing)).unwrap_or_default()
}

/// What a reader of the list can learn of an instrument; `None` while it is not on it.
pub(crate) fn shown(exchange: Exchange, listing: &Listing) -> Option<Shown> {
    let shape = shape::of(exchange)?;
    Some(Shown { symbol: (shape.symbol)(listing), listing: (shape.shown)(listing)? })
}

/// The answer to a request for these instruments: status and body.
pub(crate) fn answer<'a>(
    exchange: Exchange,
    listings: impl Iterator<Item = &'a Listing>,
    target: &str,
    body: Option<&str>,
) -> (u16, Vec<u8>) {
    let Some(shape) = shape::of(exchange) else { return (404, Vec::new()) };
    let rows = listings.filter(|listing| (shape.shown)(listing).is_some());
    let rows = rows.map(|listing| Row { symbol: (shape.symbol)(listing), listing }).collect();
    let request = Request {
        method: if body.is_some() { "POST" } else { "GET" }.to_owned(),
        target: target.to_owned(),
        headers: Vec::new(),
        began: WallUs(0),
        head: Vec::new(),
        body: body.unwrap_or_default().as_bytes().to_vec(),
        keep_alive: true,
    };
    let (status, body) = (shape.answer)(&View { rows, empty: false }, &request);
    (status, body.to_string().into_bytes())
}
