//! What is traded of every asset within 24 hours, for whoever must know it without asking.
//!
//! Contract: an immutable table, made by the market thread every so often and handed on behind an `Arc`; a
//! look-up is a binary search and allocates nothing. Bounded by [`limits::MARKET_ASSETS`]: beyond it the
//! least traded are left out. Never fails.

use super::register::bare;
use crate::limits;

/// Volumes in US dollars by asset, over all exchanges that are watched.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VolumeTable {
    /// Sorted by asset, each once, without the multiplier of a contract.
    rows: Box<[(Box<str>, f64)]>,
}

impl VolumeTable {
    /// Sums the volumes of each asset over the markets it is traded on: `(base, US dollars in 24 h)`, in any
    /// order. Multiplied bases (`1000SATS`) count for the asset they are of. What is no finite volume is
    /// left out.
    #[must_use]
    pub fn sum<'a>(markets: impl IntoIterator<Item = (&'a str, f64)>) -> VolumeTable {
        let usable = markets.into_iter().filter(|(_, usd)| usd.is_finite() && *usd >= 0.0);
        let mut markets: Vec<(&str, f64)> = usable.map(|(base, usd)| (bare(base), usd)).collect();
        markets.sort_unstable_by_key(|(base, _)| *base);
        let mut assets: Vec<(&str, f64)> = Vec::new();
        for (base, usd) in markets {
            match assets.last_mut() {
                Some((last, sum)) if *last == base => *sum += usd,
                _ => assets.push((base, usd)),
            }
        }
        if assets.len() > limits::MARKET_ASSETS {
            assets.sort_unstable_by(|(_, a), (_, b)| b.total_cmp(a));
            assets.truncate(limits::MARKET_ASSETS);
            assets.sort_unstable_by_key(|(base, _)| *base);
        }
        VolumeTable { rows: assets.into_iter().map(|(base, usd)| (base.into(), usd)).collect() }
    }

    /// What was traded of `base` within 24 hours, in US dollars; `None` for what no exchange tells of.
    #[must_use]
    pub fn of(&self, base: &str) -> Option<f64> {
        let base = bare(base);
        let at = self.rows.binary_search_by(|(known, _)| (**known).cmp(base)).ok()?;
        self.rows.get(at).map(|(_, usd)| *usd)
    }

    /// Assets in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn markets_of_one_asset_count_together_whatever_its_contracts_multiply() {
        let table = VolumeTable::sum([
            ("SATS", 1.5),
            ("BTC", 10.0),
            ("1000SATS", 2.0),
            ("1INCH", 7.0),
            ("BTC", f64::NAN),
            ("ETH", -1.0),
            ("XRP", f64::INFINITY),
            ("QUIET", 0.0),
        ]);
        assert_eq!(
            (table.of("SATS"), table.of("1000SATS"), table.of("1MSATS")),
            (Some(3.5), Some(3.5), Some(3.5))
        );
        assert_eq!(
            (table.of("BTC"), table.of("1INCH"), table.of("QUIET")),
            (Some(10.0), Some(7.0), Some(0.0))
        );
        assert_eq!(
            (table.of("ETH"), table.of("XRP"), table.of("INCH"), table.of("")),
            (None, None, None, None)
        );
        assert_eq!((table.len(), table.is_empty()), (4, false));
        assert!(VolumeTable::default().is_empty() && VolumeTable::default().of("BTC").is_none());
    }

    #[test]
    fn at_the_bound_the_least_traded_are_left_out() {
        let names: Vec<String> = (0..limits::MARKET_ASSETS + 2).map(|i| format!("A{i}")).collect();
        let table = VolumeTable::sum(names.iter().enumerate().map(|(i, name)| (name.as_str(), i as f64)));
        assert_eq!(table.len(), limits::MARKET_ASSETS);
        assert_eq!((table.of("A0"), table.of("A1"), table.of("A2")), (None, None, Some(2.0)));
    }

    proptest! {
        #[test]
        fn every_asset_is_found_with_its_sum(markets in prop::collection::vec(("[A-Z]{1,3}", 0_u32..1_000), 0..200)) {
            let table = VolumeTable::sum(markets.iter().map(|(base, usd)| (base.as_str(), f64::from(*usd))));
            let mut sums = BTreeMap::<&str, f64>::new();
            for (base, usd) in &markets {
                *sums.entry(base).or_default() += f64::from(*usd);
            }
            prop_assert_eq!(table.len(), sums.len());
            for (base, sum) in sums {
                prop_assert_eq!(table.of(base), Some(sum));
            }
        }
    }
}
