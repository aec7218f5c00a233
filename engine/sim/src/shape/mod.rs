//! What each exchange answers to which request: one file per exchange, request in, response out.
//!
//! Contract: pure functions of the catalogue; the wall clock only sets badges.

pub(crate) mod binance;
pub(crate) mod bithumb;
pub(crate) mod upbit;

use tocsin_core::time::WallUs;

use crate::catalogue::Catalogue;
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
    }
}

/// `value` as compact JSON. These types cannot fail to serialize; if one did, the body is empty and
/// the reader's parser says so.
fn json(status: u16, value: &impl serde::Serialize) -> Response {
    Response::json(status, serde_json::to_vec(value).unwrap_or_default())
}
