//! How a simulated exchange behaves from the start. Plain data.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tocsin_core::model::Exchange;

use crate::certificate::TestCa;
use crate::http::Framing;

/// Which exchange is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The article lists of the website: `/bapi/…/cms/article/list/query`.
    Binance,
    /// The announcement list of the website: `/api/v1/announcements`.
    Upbit,
    /// The official notice list: `/v1/notices`.
    Bithumb,
    /// The public API: `/api/v5/support/announcements`.
    Okx,
    /// The public API: `/v5/announcements/index`.
    Bybit,
    /// The public API: `/api/v2/public/annoucements`.
    Bitget,
    /// The public API: `/api/v3/announcements`.
    Kucoin,
    /// The public API: `/v1/public/get-announcements`.
    Cryptocom,
    /// The lists of the website: `/-/x/support/public/getList/v2`.
    Htx,
    /// The content endpoint: `/openApi/content/v1/announcement`.
    Bingx,
    /// The sections of the website: `/help/announce/api/…/articles`.
    Mexc,
    /// The notice list of the website: `/api/talk/notice/`.
    Coinone,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 12] = [
        Kind::Binance,
        Kind::Upbit,
        Kind::Bithumb,
        Kind::Okx,
        Kind::Bybit,
        Kind::Bitget,
        Kind::Kucoin,
        Kind::Cryptocom,
        Kind::Htx,
        Kind::Bingx,
        Kind::Mexc,
        Kind::Coinone,
    ];
    /// Those whose sources are enabled by default.
    pub const DEFAULT: [Kind; 3] = [Kind::Binance, Kind::Upbit, Kind::Bithumb];

    /// The name used in configuration (`sources.NAME`): the feed's `publisher` without its dot.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Cryptocom => "cryptocom",
            _ => self.exchange().name(),
        }
    }

    /// The exchange meant.
    #[must_use]
    pub const fn exchange(self) -> Exchange {
        match self {
            Kind::Binance => Exchange::Binance,
            Kind::Upbit => Exchange::Upbit,
            Kind::Bithumb => Exchange::Bithumb,
            Kind::Okx => Exchange::Okx,
            Kind::Bybit => Exchange::Bybit,
            Kind::Bitget => Exchange::Bitget,
            Kind::Kucoin => Exchange::Kucoin,
            Kind::Cryptocom => Exchange::CryptoCom,
            Kind::Htx => Exchange::Htx,
            Kind::Bingx => Exchange::Bingx,
            Kind::Mexc => Exchange::Mexc,
            Kind::Coinone => Exchange::Coinone,
        }
    }

    /// Whether it announces in Korean.
    #[must_use]
    pub const fn is_korean(self) -> bool {
        matches!(self, Kind::Upbit | Kind::Bithumb | Kind::Coinone)
    }
}

/// What an edge (of Binance, OKX, Bybit) does with entries it has cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachePolicy {
    /// How long an entry of one (path, catalogue, page, size) is served as it is.
    pub ttl: Duration,
    /// After that, serve the old body once more (`X-Cache: RefreshHit`) and be fresh from the next
    /// request on. Without it the first request after the time-to-live is fresh (`Miss`).
    pub refresh_hit: bool,
}

/// What Binance answers to a page size it does not accept (1, 2, 3, 5, 10, 15, 20 and 50 are).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OddPageSize {
    /// 400.
    Reject,
    /// A page of twenty.
    Twenty,
}

/// How requests beyond the rate limit are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateAnswer {
    /// 302 to the same address, as Bithumb does.
    RedirectLoop,
    /// 429, with `Retry-After` when given (seconds).
    TooMany(Option<u32>),
}

/// An enforced request rate per peer address (sliding window).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests allowed in each window.
    pub requests: u32,
    /// Length of the window.
    pub per: Duration,
    /// What the others get.
    pub answer: RateAnswer,
}

/// How a simulated exchange behaves from the start. [`Options::default`] is a well-behaved exchange
/// on a free loopback port over TLS, with an old catalogue, no cache and no enforced rate.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Plain HTTP instead of TLS.
    pub plain: bool,
    /// The authority that signs the certificate; `None` makes one. Share one between exchanges so
    /// that one CA file serves all of them.
    pub ca: Option<Arc<TestCa>>,
    /// Decides identifiers and invented titles.
    pub seed: u64,
    /// How many old notices the catalogue holds at the start.
    pub old_notices: usize,
    /// How bodies are delimited; responses take the entries in turn. Empty means `Content-Length`.
    pub framing: Vec<Framing>,
    /// Send weak `ETag`s and answer `If-None-Match` with 304. Upbit does.
    pub etag: bool,
    /// Cache of the edge before the exchange (Binance, OKX, Bybit).
    pub cache: Option<CachePolicy>,
    /// What an unaccepted page size gets (Binance only).
    pub odd_page_size: OddPageSize,
    /// Largest `per_page` taken (Upbit only); above it 400.
    pub max_per_page: usize,
    /// Give at most five notices whatever `count` says, as several users saw (Bithumb only).
    pub latest_five_only: bool,
    /// Begin addresses with this region, as OKX does for some readers (`en-us`).
    pub region: Option<&'static str>,
    /// Answer in the other of the two forms that have been seen (BingX, MEXC, Coinone, KuCoin).
    pub other_form: bool,
    /// Enforced request rate; `None` enforces nothing.
    pub rate_limit: Option<RateLimit>,
    /// Close each connection after this many answers.
    pub close_after: Option<u32>,
}

impl Options {
    /// Bithumb's documented limit, enforced as it is seen to be: one request a second, 302 beyond.
    pub const BITHUMB_RATE: RateLimit =
        RateLimit { requests: 1, per: Duration::from_secs(1), answer: RateAnswer::RedirectLoop };

    /// The default options with plain HTTP.
    #[must_use]
    pub fn plain() -> Options {
        Options { plain: true, ..Options::default() }
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            plain: false,
            ca: None,
            seed: 1,
            old_notices: 40,
            framing: Vec::new(),
            etag: true,
            cache: None,
            odd_page_size: OddPageSize::Reject,
            max_per_page: 30,
            latest_five_only: false,
            region: None,
            other_form: false,
            rate_limit: None,
            close_after: None,
        }
    }
}
