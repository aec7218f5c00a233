//! The volumes of one request: as they stand, and those of the answer that is being read.
//!
//! Contract: [`Staged`] keeps the rows until the whole answer is known to be usable; [`Traded`] remembers
//! the last sum of each symbol for [`FRESH_FOR`]. Bounded by [`limits::MARKET_ROWS`] and
//! [`limits::MARKET_VOLUMES`]: a further symbol is not remembered. Owner: the market thread. Never fails.

use std::collections::BTreeMap;

use crate::limits;
use crate::market::Volume;
use crate::market::rules::micros;
use crate::market::volume::FRESH_FOR;
use crate::time::WallUs;

/// Rows of one answer. Reused from one to the next.
#[derive(Debug, Default)]
pub(super) struct Staged {
    text: String,
    /// Where the symbol ends in `text`, the sum, the last price.
    rows: Vec<(usize, f64, Option<f64>)>,
}

impl Staged {
    pub(super) fn push(&mut self, row: &Volume<'_>) {
        if self.rows.len() < limits::MARKET_ROWS && row.symbol.len() <= limits::SYMBOL_BYTES {
            self.text.push_str(row.symbol);
            self.rows.push((self.text.len(), row.quote_24h, row.last));
        }
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = Volume<'_>> {
        let mut begin = 0;
        self.rows.iter().map(move |(end, quote_24h, last)| {
            let symbol = self.text.get(begin..*end).unwrap_or("");
            begin = *end;
            Volume { symbol, quote_24h: *quote_24h, last: *last }
        })
    }

    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.rows.clear();
    }
}

/// What was traded within 24 hours, in quote units, by symbol.
#[derive(Debug, Default)]
pub(super) struct Traded {
    sums: BTreeMap<Box<str>, (f64, WallUs)>,
}

impl Traded {
    pub(super) fn set(&mut self, symbol: &str, quote_24h: f64, at: WallUs) {
        if !quote_24h.is_finite() || quote_24h < 0.0 {
            return;
        }
        if let Some(known) = self.sums.get_mut(symbol) {
            *known = (quote_24h, at);
        } else if self.sums.len() < limits::MARKET_VOLUMES {
            self.sums.insert(symbol.into(), (quote_24h, at));
        }
    }

    /// Forgets what is too old to be told.
    pub(super) fn forget_old(&mut self, now: WallUs) {
        self.sums.retain(|_, (_, at)| fresh(*at, now));
    }

    pub(super) fn of(&self, symbol: &str, now: WallUs) -> Option<f64> {
        self.sums.get(symbol).filter(|(_, at)| fresh(*at, now)).map(|(sum, _)| *sum)
    }

    pub(super) fn len(&self) -> usize {
        self.sums.len()
    }
}

fn fresh(at: WallUs, now: WallUs) -> bool {
    now.micros_since(at) <= micros(FRESH_FOR)
}
