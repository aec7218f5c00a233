//! What is known of an announcement's assets beside the announcement.
//!
//! Contract: plain data, made by the market thread after the announcement went out and written once by
//! [`super::message::encode_context`]. It owns everything. Never fails.

use super::{InstrumentKind, Trading};
use crate::model::{Exchange, Ticker};

/// What is known of the assets of one announcement, in its order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Context {
    /// One for each ticker, at most [`crate::limits::TICKERS_PER_ANNOUNCEMENT`].
    pub assets: Vec<AssetContext>,
}

/// What is known of one asset.
#[derive(Clone, Debug, PartialEq)]
pub struct AssetContext {
    /// As announced, multiplier and all.
    pub ticker: Ticker,
    /// Where it is traded or about to be, the most traded first. None of those that are over.
    pub markets: Vec<AssetMarket>,
    /// Whether this is its first listing on a Korean exchange; `None` where that is no question (no
    /// listing, not Korean) or the Korean lists are not known.
    pub first_korean: Option<bool>,
    /// What was traded of it within 24 hours on all exchanges watched, in US dollars.
    pub volume_24h_usd: Option<f64>,
}

/// One market of an asset.
#[derive(Clone, Debug, PartialEq)]
pub struct AssetMarket {
    /// Where.
    pub exchange: Exchange,
    /// The exchange's own name of the instrument.
    pub symbol: Box<str>,
    /// What kind of market.
    pub instrument: InstrumentKind,
    /// What it is priced in.
    pub quote: Box<str>,
    /// Whether it is traded.
    pub trading: Trading,
    /// What was traded there within 24 hours, in US dollars, where known.
    pub volume_24h_usd: Option<f64>,
}
