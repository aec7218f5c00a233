//! The instruments of one simulated market, whatever its exchange makes of them.
//!
//! Contract: plain state. At most [`MAX_INSTRUMENTS`]; one more is refused.

use std::collections::{BTreeMap, BTreeSet};

use tocsin_core::market::{InstrumentKind, Trading};
use tocsin_core::time::WallUs;

use crate::error::SimError;
use crate::invent::Rng;

/// Most instruments of one market: more than any exchange has.
const MAX_INSTRUMENTS: usize = 20_000;

/// Numbers the instruments of one market in the order they were added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstrumentId(u64);

/// An instrument as it is, or as an exchange shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Listing {
    /// What kind of market.
    pub kind: InstrumentKind,
    /// What is traded.
    pub base: String,
    /// What it is priced in.
    pub quote: String,
    /// Whether it is traded.
    pub trading: Trading,
    /// When trading begins or began.
    pub opens_at: Option<WallUs>,
    /// When trading ends or ended; a dated contract must have one, it is part of its name.
    pub closes_at: Option<WallUs>,
    /// What was traded within 24 hours, in the quote.
    pub quote_24h: Option<f64>,
    /// The last price.
    pub last: Option<f64>,
}

impl Listing {
    /// One that is traded, since some time.
    #[must_use]
    pub fn open(kind: InstrumentKind, base: &str, quote: &str) -> Listing {
        Listing {
            kind,
            base: base.to_owned(),
            quote: quote.to_owned(),
            trading: Trading::Open,
            opens_at: Some(WallUs::from_secs(1_700_000_000)),
            closes_at: None,
            quote_24h: Some(1_000_000.0),
            last: Some(2.5),
        }
    }

    /// One that opens at `opens_at`. Nothing was traded of it yet.
    #[must_use]
    pub fn ahead(kind: InstrumentKind, base: &str, quote: &str, opens_at: Option<WallUs>) -> Listing {
        Listing {
            trading: Trading::Ahead,
            opens_at,
            quote_24h: None,
            last: None,
            ..Listing::open(kind, base, quote)
        }
    }

    /// With every time in whole seconds.
    fn rounded(mut self) -> Listing {
        for time in [&mut self.opens_at, &mut self.closes_at] {
            *time = time.map(|at| WallUs::from_secs(at.secs()));
        }
        self
    }
}

/// What an exchange shows of an instrument.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// The exchange's own name.
    pub symbol: String,
    /// The rest, as far as it can be learned.
    pub listing: Listing,
}

/// All instruments.
#[derive(Debug, Default)]
pub(super) struct World {
    instruments: BTreeMap<InstrumentId, Listing>,
    lost: BTreeSet<InstrumentId>,
    next: u64,
}

impl World {
    pub(super) fn add(&mut self, listing: Listing) -> Result<InstrumentId, SimError> {
        if self.instruments.len() >= MAX_INSTRUMENTS {
            return Err(SimError::TooManyInstruments);
        }
        let id = InstrumentId(self.next);
        self.next += 1;
        self.instruments.insert(id, listing.rounded());
        Ok(id)
    }

    pub(super) fn get(&self, id: InstrumentId) -> Option<&Listing> {
        self.instruments.get(&id)
    }

    pub(super) fn change(
        &mut self,
        id: InstrumentId,
        change: impl FnOnce(&mut Listing),
    ) -> Result<(), SimError> {
        let listing = self.instruments.get_mut(&id).ok_or_else(|| unknown(id))?;
        change(listing);
        *listing = listing.clone().rounded();
        Ok(())
    }

    pub(super) fn remove(&mut self, id: InstrumentId) -> Result<(), SimError> {
        self.instruments.remove(&id).map(drop).ok_or_else(|| unknown(id))
    }

    /// Leaves out a share of what there is now.
    pub(super) fn lose(&mut self, share: f64, seed: u64) -> usize {
        let mut ids: Vec<InstrumentId> = self.instruments.keys().copied().collect();
        let mut rng = Rng::new(seed);
        // The first of a shuffled list, so that the share is exact.
        for at in (1..ids.len()).rev() {
            ids.swap(at, usize::try_from(rng.below(at as u64 + 1)).unwrap_or(0));
        }
        let count = (share.clamp(0.0, 1.0) * ids.len() as f64).round() as usize;
        self.lost = ids.into_iter().take(count).collect();
        self.lost.len()
    }

    pub(super) fn restore(&mut self) {
        self.lost.clear();
    }

    /// What is not lost.
    pub(super) fn listed(&self) -> impl Iterator<Item = (InstrumentId, &Listing)> {
        self.instruments.iter().map(|(id, listing)| (*id, listing)).filter(|(id, _)| !self.lost.contains(id))
    }
}

fn unknown(id: InstrumentId) -> SimError {
    SimError::NoSuchInstrument(id.0.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lost_share_is_exact_and_comes_back() {
        let mut world = World::default();
        for n in 0..250 {
            world.add(Listing::open(InstrumentKind::Spot, &format!("T{n}"), "USDT")).unwrap();
        }
        assert_eq!(world.lose(0.4, 7), 100);
        let left: Vec<_> = world.listed().map(|(id, _)| id).collect();
        assert_eq!(left.len(), 150);
        assert_eq!(world.lose(0.4, 7), 100);
        assert_eq!(world.listed().map(|(id, _)| id).collect::<Vec<_>>(), left, "the same ones");
        world.restore();
        assert_eq!(world.listed().count(), 250);
    }
}
