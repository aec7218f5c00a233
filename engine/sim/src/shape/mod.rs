//! What each exchange answers to which request: one file per exchange, request in, response out.
//!
//! Contract: pure functions of the catalogue; the wall clock only sets badges.

pub(crate) mod binance;
mod bingx;
mod bitget;
pub(crate) mod bithumb;
mod bybit;
mod coinone;
mod cryptocom;
mod htx;
mod kucoin;
mod mexc;
mod okx;
pub(crate) mod refusal;
pub(crate) mod upbit;

use tocsin_core::time::WallUs;

use crate::catalogue::{Catalogue, Category, Notice};
use crate::http::{Request, Response};
use crate::options::{Kind, Options};

/// What an exchange's answer is made from.
pub(crate) struct View<'a> {
    pub(crate) catalogue: &'a Catalogue,
    pub(crate) options: &'a Options,
    pub(crate) now: WallUs,
}

/// An answer, and the name of the edge's cache entry that may hold it.
pub(crate) struct Page {
    pub(crate) response: Response,
    pub(crate) cache_key: Option<String>,
}

impl From<Response> for Page {
    fn from(response: Response) -> Page {
        Page { response, cache_key: None }
    }
}

/// Answers `request` as the exchange does.
pub(crate) fn answer(kind: Kind, view: &View<'_>, request: &Request) -> Page {
    if request.method != "GET" && request.method != "HEAD" {
        return Response::json(405, *b"{}").into();
    }
    match kind {
        Kind::Binance => binance::answer(view, request),
        Kind::Upbit => upbit::answer(view, request).into(),
        Kind::Bithumb => bithumb::answer(view, request).into(),
        Kind::Okx => okx::answer(view, request),
        Kind::Bybit => bybit::answer(view, request),
        Kind::Bitget => bitget::answer(view, request).into(),
        Kind::Kucoin => kucoin::answer(view, request).into(),
        Kind::Cryptocom => cryptocom::answer(view, request).into(),
        Kind::Htx => htx::answer(view, request).into(),
        Kind::Bingx => bingx::answer(view, request).into(),
        Kind::Mexc => mexc::answer(view, request).into(),
        Kind::Coinone => coinone::answer(view, request).into(),
    }
}

/// The notices of a page, by number from 1.
fn page<'a>(
    view: &View<'a>,
    (page, size): (usize, usize),
    wanted: impl Fn(&Notice) -> bool,
) -> Vec<&'a Notice> {
    let skipped = page.saturating_sub(1).saturating_mul(size);
    view.catalogue.listed().filter(|n| wanted(n)).skip(skipped).take(size).collect()
}

/// Whether a title is about contracts: shelves of some exchanges go by that.
fn is_of_contracts(notice: &Notice) -> bool {
    ["Perpetual", "Futures", "futures"].iter().any(|word| notice.title.contains(word))
}

/// Neither a listing nor a delisting.
const fn is_other(category: Category) -> bool {
    !matches!(category, Category::Listing | Category::Delisting)
}

fn ms(at: WallUs) -> i64 {
    at.0.div_euclid(1_000)
}

/// The minute an author types for a time.
fn minute_ms(at: WallUs) -> i64 {
    at.0.div_euclid(60_000_000).saturating_mul(60_000)
}

/// `value` as compact JSON. These types cannot fail to serialize; if one did, the body is empty and
/// the reader's parser says so.
fn json(status: u16, value: &impl serde::Serialize) -> Response {
    Response::json(status, serde_json::to_vec(value).unwrap_or_default())
}
