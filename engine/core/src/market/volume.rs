//! What a volume is worth in US dollars, by the exchange's own prices.
//!
//! Contract: one [`Rates`] an exchange. A quote of dollars, or of a coin that stands for one, counts 1, whatever
//! the coin's own price. Any other asset that something is quoted in (BTC, ETH, KRW) has the last price
//! of its own pair with one of these on the same exchange, either way round; where the exchange has
//! no such pair, or none of its last [`FRESH_FOR`], its volumes have no value in dollars. Bounded by
//! [`limits::MARKET_QUOTES`]. Owner: the market thread. Never fails.

use core::time::Duration;
use std::collections::BTreeMap;

use super::rules::micros;
use crate::limits;
use crate::time::WallUs;

/// A price older than this is none.
pub const FRESH_FOR: Duration = Duration::from_secs(15 * 60);

/// Quotes that count as one dollar, the most traded first: where several price an asset the first does.
pub const DOLLARS: [&str; 14] = [
    "USDT", "USDC", "USD", "FDUSD", "TUSD", "USDE", "USD1", "RLUSD", "PYUSD", "USDG", "USDD", "DAI", "BUSD",
    "USDP",
];

fn dollar(asset: &str) -> Option<usize> {
    DOLLARS.iter().position(|name| *name == asset)
}

#[derive(Clone, Copy, Debug)]
struct Rate {
    dollars: f64,
    at: WallUs,
    by: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Rates {
    /// Assets that something is quoted in.
    known: BTreeMap<Box<str>, Option<Rate>>,
}

impl Rates {
    /// Takes the last price of a pair. Prices that are no positive number are ignored.
    pub fn learn(&mut self, base: &str, quote: &str, last: f64, at: WallUs) {
        let priced = last.is_finite() && last > 0.0;
        match (dollar(base), dollar(quote)) {
            (None, Some(by)) if priced => self.set(base, last, at, by),
            (by, None) => {
                if !self.known.contains_key(quote) && self.known.len() < limits::MARKET_QUOTES {
                    self.known.insert(quote.into(), None);
                }
                if let Some(by) = by.filter(|_| priced) {
                    self.set(quote, last.recip(), at, by);
                }
            }
            _ => {}
        }
    }

    /// Dollars for one unit of `quote`.
    #[must_use]
    pub fn of(&self, quote: &str, now: WallUs) -> Option<f64> {
        if dollar(quote).is_some() {
            return Some(1.0);
        }
        let rate = self.known.get(quote).copied().flatten()?;
        fresh(&rate, now).then_some(rate.dollars)
    }

    fn set(&mut self, asset: &str, dollars: f64, at: WallUs, by: usize) {
        let Some(known) = self.known.get_mut(asset) else { return };
        if known.is_none_or(|rate| by <= rate.by || !fresh(&rate, at)) {
            *known = Some(Rate { dollars, at, by });
        }
    }
}

fn fresh(rate: &Rate, now: WallUs) -> bool {
    now.micros_since(rate.at) <= micros(FRESH_FOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: WallUs = WallUs::from_secs(1_000_000);

    #[test]
    fn dollars_are_one_and_others_by_their_own_pairs() {
        let mut rates = Rates::default();
        assert_eq!(rates.of("USDT", AT), Some(1.0));
        assert_eq!(rates.of("BTC", AT), None);
        rates.learn("ETH", "BTC", 0.05, AT);
        rates.learn("BTC", "USDC", 60_000.0, AT);
        rates.learn("BTC", "USDT", 60_100.0, AT);
        rates.learn("BTC", "USDC", 59_000.0, AT);
        assert_eq!(rates.of("BTC", AT), Some(60_100.0), "the first of the dollars decides");
        assert_eq!(rates.of("ETH", AT), None, "nothing is quoted in it");
        rates.learn("USDT", "KRW", 1_250.0, AT);
        assert_eq!(rates.of("KRW", AT), Some(0.0008));
        rates.learn("BTC", "KRW", 75_000_000.0, AT);
        assert_eq!(rates.of("KRW", AT), Some(0.0008), "only a pair with a dollar prices");
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            rates.learn("BTC", "USDT", bad, AT);
        }
        assert_eq!(rates.of("BTC", AT), Some(60_100.0));
    }

    #[test]
    fn an_old_price_is_none_and_gives_way() {
        let mut rates = Rates::default();
        rates.learn("ETH", "BTC", 0.05, AT);
        rates.learn("BTC", "USDT", 60_000.0, AT);
        let later = WallUs(AT.0 + micros(FRESH_FOR) + 1);
        assert_eq!(rates.of("BTC", later), None);
        rates.learn("BTC", "USDC", 61_000.0, later);
        assert_eq!(rates.of("BTC", later), Some(61_000.0));
    }

    #[test]
    fn it_remembers_so_many_quotes() {
        let mut rates = Rates::default();
        for i in 0..=limits::MARKET_QUOTES {
            rates.learn("USDT", &format!("Q{i}"), 2.0, AT);
        }
        assert_eq!(rates.known.len(), limits::MARKET_QUOTES);
        assert_eq!(rates.of("Q0", AT), Some(0.5));
        assert_eq!(rates.of(&format!("Q{}", limits::MARKET_QUOTES), AT), None);
    }
}
