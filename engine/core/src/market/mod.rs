//! Instruments and volumes of exchanges: what they tell ahead of, beside and without a notice.
//!
//! Contract: a [`MarketSpec`] is a constant: what to ask for, how often, how to read the answers into
//! [`Instrument`]s and [`Volume`]s. What they mean is decided elsewhere in this module, from one answer to
//! the next, and comes out as [`MarketEvent`]s. Owner: the market thread, which is not a hot one: it
//! allocates for each instrument it learns. Every number of an exchange is optional; a bad row is skipped
//! and counted, an unusable answer is a [`ParseError`] that says where.

pub mod book;
pub mod context;
mod event;
pub mod exchange;
mod guard;
mod judge;
pub mod message;
pub mod record;
pub mod register;
pub mod rules;
pub mod scorecard;
pub mod spike;
pub mod table;
pub mod volume;
pub mod watcher;

pub use context::{AssetContext, AssetMarket, Context};
pub use event::{MarketEvent, MarketEventKind};
pub use table::VolumeTable;

use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::Exchange;
use crate::source::{Evidence, ParseError, Parsed, Scratch};
use crate::time::WallUs;

/// A source of instruments and volumes of one exchange.
#[derive(Clone, Copy, Debug)]
pub struct MarketSpec {
    /// Name in messages, store and metrics: `<exchange>.<what>` (`okx.instruments`).
    pub name: &'static str,
    /// Whose markets.
    pub exchange: Exchange,
    /// How far the exchange stands behind it.
    pub evidence: Evidence,
    /// Scheme and authority, without a path.
    pub base_url: &'static str,
    /// Its word for an instrument that is not traded yet stands for others that are stopped too: what is
    /// ahead of a time that is past is one of those.
    pub ahead_by_time: bool,
    /// Header fields beside `Host`, in the order they are sent.
    pub headers: &'static [(&'static str, &'static str)],
    /// What it asks for.
    pub requests: &'static [MarketRequest],
}

/// One question a [`MarketSpec`] asks again and again.
#[derive(Clone, Copy, Debug)]
pub struct MarketRequest {
    /// Stable name within the source; the store keeps the baseline under it. An instrument that is missing
    /// from a complete answer is gone from the request of that name only.
    pub name: &'static str,
    /// Path and query, percent-encoded, from `/`.
    pub target: &'static str,
    /// A JSON body: asked with POST instead of GET.
    pub body: Option<&'static str>,
    /// Default time between two answers, well inside the documented limit of one address.
    pub every: Duration,
    /// Whether an answer names all there is, so that what is absent is gone.
    pub complete: bool,
    /// What its rows are.
    pub tells: Tells,
    /// Reads one answer.
    pub parse: MarketParse,
}

/// What the rows of a request's answers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tells {
    /// Instruments alone.
    Instruments,
    /// Volumes alone.
    Volumes,
    /// An instrument and its volume.
    Both,
}

impl Tells {
    /// Whether instruments are among them.
    #[must_use]
    pub const fn instruments(self) -> bool {
        matches!(self, Tells::Instruments | Tells::Both)
    }

    /// Whether volumes are among them.
    #[must_use]
    pub const fn volumes(self) -> bool {
        matches!(self, Tells::Volumes | Tells::Both)
    }
}

/// Reads the rows of one answer, giving each to the callback. Works in place: the body is scrambled
/// afterwards. The callback is never called after an error.
pub type MarketParse =
    fn(&mut Scratch, &mut [u8], &mut dyn FnMut(MarketRow<'_>)) -> Result<Parsed, ParseError>;

/// One row of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MarketRow<'a> {
    /// An instrument as it stands.
    Instrument(Instrument<'a>),
    /// What was traded of one.
    Volume(Volume<'a>),
}

/// What kind of market an instrument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum InstrumentKind {
    /// The asset itself.
    Spot,
    /// A perpetual contract.
    Perpetual,
    /// A contract with an end.
    Dated,
}

impl InstrumentKind {
    /// Every kind.
    pub const ALL: [InstrumentKind; 3] =
        [InstrumentKind::Spot, InstrumentKind::Perpetual, InstrumentKind::Dated];

    /// Spelling in identities, records and messages; never changes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            InstrumentKind::Spot => "spot",
            InstrumentKind::Perpetual => "perpetual",
            InstrumentKind::Dated => "dated",
        }
    }

    /// The inverse of [`InstrumentKind::name`].
    #[must_use]
    pub fn parse(name: &str) -> Option<InstrumentKind> {
        InstrumentKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Whether it is traded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Trading {
    /// Known, not open yet (OKX `preopen`, Binance `PENDING_TRADING`, HTX `pre-online`, Bybit `PreLaunch`).
    Ahead,
    /// Open, in full or in part (post only, limit only, call auction, buyable).
    Open,
    /// Stopped for a while; says nothing about the future.
    Halted,
    /// Over (delisted, settling, offline).
    Over,
}

impl Trading {
    /// Every state.
    pub const ALL: [Trading; 4] = [Trading::Ahead, Trading::Open, Trading::Halted, Trading::Over];

    /// Spelling in records; never changes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Trading::Ahead => "ahead",
            Trading::Open => "open",
            Trading::Halted => "halted",
            Trading::Over => "over",
        }
    }

    /// The inverse of [`Trading::name`].
    #[must_use]
    pub fn parse(name: &str) -> Option<Trading> {
        Trading::ALL.into_iter().find(|trading| trading.name() == name)
    }
}

/// One instrument of an answer, borrowed from it. Times that an exchange fills with a far future or zero
/// where it knows none are `None`: the parser knows its exchange.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Instrument<'a> {
    /// The exchange's own name, at most [`crate::limits::SYMBOL_BYTES`] bytes (`JP225-USDT-SWAP`).
    pub symbol: &'a str,
    /// What is traded, upper case as the exchange writes it.
    pub base: &'a str,
    /// What it is priced in.
    pub quote: &'a str,
    /// What kind of market.
    pub kind: InstrumentKind,
    /// Whether it is traded.
    pub trading: Trading,
    /// The exchange's word for that (`preopen`), for people.
    pub state: &'a str,
    /// When trading begins or began.
    pub opens_at: Option<WallUs>,
    /// When trading ends or ended.
    pub closes_at: Option<WallUs>,
}

/// What was traded of one instrument within 24 hours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Volume<'a> {
    /// As in [`Instrument::symbol`].
    pub symbol: &'a str,
    /// In units of the quote asset; finite and not negative.
    pub quote_24h: f64,
    /// The last price in units of the quote asset, where the same answer tells it: what turns other
    /// quotes into dollars (see [`volume`]).
    pub last: Option<f64>,
}
