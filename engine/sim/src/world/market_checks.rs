//! What must be true of what market watchers tell: `docs/markets.md` as rules.
//!
//! Contract: [`Watch::told`] judges each telling against what the exchange's list has shown, [`Watch::check_calm`]
//! judges at the end, after a long time without faults, that what stayed was told. Owner: the world. It fails with
//! a broken rule.

use std::collections::{BTreeMap, BTreeSet};

use tocsin_core::limits;
use tocsin_core::market::{MarketEvent, MarketEventKind as Kind, Trading};
use tocsin_core::wire::extra::Extra;

use super::market::Watch;
use super::market_list::{Instrument, Market, is_ahead};
use super::{Flow, broken};

/// What was told, and how much of it the disk has.
#[derive(Debug, Default)]
pub(super) struct Tellings {
    /// In the order of telling, repeated ones once.
    events: Vec<MarketEvent>,
    ids: BTreeSet<String>,
    /// What the disk does not have whole: rows to come, identities.
    open: BTreeMap<u64, (usize, Vec<String>)>,
    next: u64,
    /// A death cut these off between telling and storing: each may be repeated.
    cut: BTreeSet<String>,
    repeated: u64,
}

impl Tellings {
    pub(super) fn begins(&mut self, ids: Vec<String>, rows: usize) -> u64 {
        self.next += 1;
        self.open.insert(self.next, (rows, ids));
        self.next
    }

    /// A row of a telling is on disk.
    pub(super) fn stored(&mut self, telling: u64) {
        if let Some((rows, _)) = self.open.get_mut(&telling) {
            *rows = rows.saturating_sub(1);
            if *rows == 0 {
                self.open.remove(&telling);
            }
        }
    }

    pub(super) fn life_begins(&mut self) {
        self.open.clear();
    }

    pub(super) fn life_ends(&mut self) {
        let open = core::mem::take(&mut self.open);
        self.cut.extend(open.into_values().flat_map(|(_, ids)| ids));
    }

    /// Events, repeated ones too.
    pub(super) fn count(&self) -> u64 {
        self.events.len() as u64 + self.repeated
    }

    fn of<'a>(&'a self, market: &'a Market, symbol: &'a str) -> impl Iterator<Item = &'a MarketEvent> {
        self.events.iter().filter(move |event| event.exchange == market.exchange && event.symbol == symbol)
    }

    fn has(&self, market: &Market, symbol: &str, kinds: &[Kind]) -> bool {
        self.of(market, symbol).any(|event| kinds.contains(&event.kind))
    }
}

impl Watch {
    /// An event goes to the feed.
    pub(super) fn told(&mut self, event: &MarketEvent, message: &Extra) -> Flow {
        let id = event.source_item();
        if !message.exchange.eq(&event.exchange) || !message.is_news {
            return broken("market message", format!("{id} is for others"));
        }
        let again = !self.tellings.ids.insert(id.clone());
        if again && !self.tellings.cut.remove(&id) {
            return broken("market told once", format!("{id} is told again, and nothing had cut it off"));
        }
        if again {
            self.tellings.repeated += 1;
        } else {
            self.judge(event)?;
            self.tellings.events.push(event.clone());
        }
        Ok(())
    }

    /// Nothing is told that the list has not shown, and of one instrument in its order.
    fn judge(&self, event: &MarketEvent) -> Flow {
        let id = event.source_item();
        let Some((market, instrument)) = self.find(event) else {
            return broken("market truth", format!("{id}: there is no such instrument"));
        };
        let (past, symbol) = (instrument.past, instrument.symbol.as_str());
        let told = |kinds: &[Kind]| self.tellings.has(market, symbol, kinds);
        let happened = match event.kind {
            Kind::ListingPreview => past.ahead > 0 && !told(&[Kind::PreviewConfirmed, Kind::StealthListing]),
            Kind::PreviewConfirmed => past.open && told(&[Kind::ListingPreview]),
            Kind::PreviewWithdrawn => past.ends > 0 && told(&[Kind::ListingPreview]),
            Kind::StealthListing => past.open && !instrument.old && !told(&[Kind::ListingPreview]),
            Kind::Delisting => past.ends > 0,
            Kind::DelistingWithdrawn => past.freed && told(&[Kind::Delisting]),
            Kind::VolumeSpike => false,
        };
        if !happened {
            return broken("market truth", format!("{id} is told; the list has shown {past:?}"));
        }
        let before = self.tellings.of(market, symbol).filter(|other| other.kind == event.kind).count();
        let most = match event.kind {
            Kind::ListingPreview => past.ahead,
            Kind::Delisting | Kind::DelistingWithdrawn => past.ends,
            _ => 1,
        };
        if before >= usize::try_from(most).unwrap_or(usize::MAX) {
            return broken("market told once", format!("{id} is a second one; the list has shown {past:?}"));
        }
        Ok(())
    }

    fn find(&self, event: &MarketEvent) -> Option<(&Market, &Instrument)> {
        let market = self.markets.iter().find(|market| market.exchange == event.exchange)?;
        let mut of = market.instruments.iter();
        let found = of.find(|i| i.symbol == event.symbol && i.listing.kind == event.instrument)?;
        Some((market, found))
    }

    /// After a long time without faults.
    pub(super) fn check_calm(&self) -> Flow {
        let (undecided, known) = self.bounds();
        if known > limits::MARKET_INSTRUMENTS {
            return broken("market bounds", format!("{known} instruments are known"));
        }
        if undecided > 0 {
            return broken(
                "market told",
                format!("{undecided} pairs were dropped, while notices were heard"),
            );
        }
        for market in &self.markets {
            for instrument in &market.instruments {
                self.check_told(market, instrument)?;
            }
        }
        for event in &self.tellings.events {
            let Some(identity) = self.webhook_of(event) else { continue };
            if !self.stored.webhooks.contains(&identity) {
                return broken("market webhook", format!("{} has made no event", event.source_item()));
            }
        }
        Ok(())
    }

    /// What stays of an instrument was told.
    fn check_told(&self, market: &Market, instrument: &Instrument) -> Flow {
        let symbol = instrument.symbol.as_str();
        let told = |kinds: &[Kind]| self.tellings.has(market, symbol, kinds);
        let listed = instrument.old || told(&[Kind::PreviewConfirmed, Kind::StealthListing]);
        let shown = market.shown(instrument);
        let missing = match shown.as_ref().map(|shown| (shown.trading, shown)) {
            Some((_, shown)) if is_ahead(shown, instrument.past.open, self.now().wall) => {
                let to_come = shown.opens_at.is_none_or(|at| at > self.now().wall);
                (to_come && !told(&[Kind::ListingPreview])).then_some("preview")
            }
            Some((Trading::Open, shown)) if shown.closes_at.is_none() => (!listed).then_some("listing"),
            Some((Trading::Open, shown)) => {
                let close = |event: &MarketEvent| {
                    event.kind == Kind::Delisting && event.effective_at == shown.closes_at
                };
                let near = shown.closes_at.is_some_and(|at| at > self.now().wall);
                let said = self.tellings.of(market, symbol).any(close);
                // An end that was there at the first sight of an instrument is not told.
                (instrument.old && near && !said).then_some("end")
            }
            None | Some((Trading::Over, _)) => {
                let over = told(&[Kind::Delisting, Kind::PreviewWithdrawn]);
                let was = listed || told(&[Kind::ListingPreview]);
                (was && !over).then_some("delisting")
            }
            Some((Trading::Halted | Trading::Ahead, _)) => None,
        };
        match missing {
            None => Ok(()),
            Some(what) => {
                broken("market told", format!("the {what} of {symbol} was never told: {instrument:?}"))
            }
        }
    }
}
