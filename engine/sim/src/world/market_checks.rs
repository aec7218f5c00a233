//! What must be true of what market watchers tell: `docs/markets.md` as rules.
//!
//! Contract: [`Watch::told`] judges each telling against what the exchange's list has shown, [`Watch::check_calm`]
//! judges at the end, after a long time without faults, that what stayed was told. Owner: the world. It fails with
//! a broken rule.

use std::collections::{BTreeMap, BTreeSet};

use tocsin_core::limits;
use tocsin_core::market::{MarketEvent, MarketEventKind as Kind, Trading};
use tocsin_core::model::Exchange;
use tocsin_core::wire::extra::Extra;

use super::market::Watch;
use super::market_list::{Instrument, Market, is_ahead};
use super::{Flow, broken};

/// A time that moves by less is not told again.
const MOVED_US: i64 = 600_000_000;

/// What is told of an instrument is two stories, and a death may cut off either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Story {
    Beginning,
    End,
}

impl Story {
    fn of(kind: Kind) -> Story {
        match kind {
            Kind::Delisting | Kind::DelistingWithdrawn => Story::End,
            _ => Story::Beginning,
        }
    }
}

/// What was told, and how much of it the disk has.
#[derive(Debug, Default)]
pub(super) struct Tellings {
    /// In the order of telling, repeated ones once.
    events: Vec<MarketEvent>,
    ids: BTreeSet<String>,
    /// What the disk does not have whole: rows to come, events.
    open: BTreeMap<u64, (usize, Vec<MarketEvent>)>,
    next: u64,
    /// A death cut these off between telling and storing: each may be repeated.
    cut: BTreeSet<String>,
    /// Instruments of these, until something is told of them again: that they were told of is not known.
    lost: BTreeSet<(Exchange, String, Story)>,
    repeated: u64,
}

impl Tellings {
    pub(super) fn begins(&mut self, events: Vec<MarketEvent>, rows: usize) -> u64 {
        self.next += 1;
        self.open.insert(self.next, (rows, events));
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

    /// `stored`: the events that the disk has, which the next life does not repeat.
    pub(super) fn life_ends(&mut self, stored: &[MarketEvent]) {
        let open = core::mem::take(&mut self.open);
        for event in open.into_values().flat_map(|(_, events)| events) {
            let id = event.source_item();
            if !stored.iter().any(|stored| stored.source_item() == id) {
                self.cut.insert(id);
            }
            self.lost.insert((event.exchange, event.symbol, Story::of(event.kind)));
        }
    }

    /// Events, repeated ones too.
    pub(super) fn count(&self) -> u64 {
        self.events.len() as u64 + self.repeated
    }

    fn of<'a>(&'a self, market: &'a Market, symbol: &'a str) -> impl Iterator<Item = &'a MarketEvent> {
        self.events.iter().filter(move |event| event.exchange == market.exchange && event.symbol == symbol)
    }

    /// Whether what was told last of an instrument was cut off from its storing.
    fn is_lost(&self, market: &Market, symbol: &str, story: Story) -> bool {
        self.lost
            .iter()
            .any(|(exchange, lost, of)| *exchange == market.exchange && lost == symbol && *of == story)
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
            // Its time may have moved within the day.
            let before = self.tellings.events.iter_mut().find(|before| before.source_item() == id);
            before.into_iter().for_each(|before| before.clone_from(event));
        } else {
            self.judge(event)?;
            self.tellings.events.push(event.clone());
        }
        self.tellings.lost.remove(&(event.exchange, event.symbol.clone(), Story::of(event.kind)));
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
        // A death between telling and storing leaves a watcher that never told of it.
        let lost = self.tellings.is_lost(market, symbol, Story::of(event.kind));
        // It is open, and by a clock that was set back its time is still to come: no reader can tell the two apart.
        let set_back = past.open
            && event.effective_at == instrument.listing.opens_at
            && event.effective_at.is_some_and(|at| at > event.received);
        let happened = match event.kind {
            Kind::ListingPreview => {
                let opened = told(&[Kind::PreviewConfirmed, Kind::StealthListing]);
                set_back || (past.ahead > 0 && (!opened || lost))
            }
            Kind::PreviewConfirmed => past.open && told(&[Kind::ListingPreview]),
            Kind::PreviewWithdrawn => past.ends > 0 && told(&[Kind::ListingPreview]),
            Kind::StealthListing => past.open && !instrument.old && (!told(&[Kind::ListingPreview]) || lost),
            Kind::Delisting => past.ends > 0,
            Kind::DelistingWithdrawn => past.freed && told(&[Kind::Delisting]),
            Kind::VolumeSpike => false,
        };
        if !happened {
            return broken("market truth", format!("{id} is told; the list has shown {past:?}"));
        }
        let before = self.tellings.of(market, symbol).filter(|other| other.kind == event.kind).count();
        let most = match event.kind {
            Kind::ListingPreview => past.ahead + u32::from(set_back),
            Kind::Delisting | Kind::DelistingWithdrawn => past.ends,
            // Once a preview, and that may have been told anew by a clock that was set back.
            Kind::PreviewConfirmed => {
                let previews = self.tellings.of(market, symbol).filter(|of| of.kind == Kind::ListingPreview);
                u32::try_from(previews.count()).unwrap_or(u32::MAX)
            }
            _ => 1,
        };
        // Its time may have moved before it is repeated, and then it has another identity.
        if before >= usize::try_from(most + u32::from(lost)).unwrap_or(usize::MAX) {
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
        for market in self.markets.iter().filter(|market| !self.is_held(market)) {
            for instrument in market.instruments.iter().filter(|instrument| !instrument.past.silent) {
                self.check_told(market, instrument)?;
            }
        }
        for event in &self.tellings.events {
            let Some(identity) = self.webhook_of(event) else { continue };
            // Cut off before anything of it was on disk, and never seen again.
            let item = event.source_item();
            let gone = self.tellings.cut.contains(&item)
                && !self.stored.events.iter().any(|stored| stored.source_item() == item);
            if !gone && !self.stored.webhooks.contains(&identity) {
                return broken("market webhook", format!("{item} has made no event"));
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
            Some((Trading::Open, shown)) if shown.closes_at.is_none() => {
                // What was over before it was judged is told by its end, and that by its withdrawal.
                let by_its_end = instrument.past.freed && told(&[Kind::Delisting]);
                (!listed && !by_its_end).then_some("listing")
            }
            Some((Trading::Open, shown)) => {
                let close = |event: &MarketEvent| {
                    let apart = shown.closes_at.zip(event.effective_at).map(|(a, b)| a.micros_since(b).abs());
                    event.kind == Kind::Delisting && apart.is_some_and(|apart| apart < MOVED_US)
                };
                let near = shown.closes_at.is_some_and(|at| at > self.now().wall);
                let said = self.tellings.of(market, symbol).any(close);
                // What is on disk is not told again with a time that moved within the day.
                let lost = self.tellings.is_lost(market, symbol, Story::End);
                // An end that was there at the first sight of an instrument is not told.
                (instrument.past.end_is_news && near && !said && !lost).then_some("end")
            }
            None | Some((Trading::Over, _)) => {
                let over = told(&[Kind::Delisting, Kind::PreviewWithdrawn]);
                let was = listed || told(&[Kind::ListingPreview]);
                // First seen when it is over, by a watcher that knows of nothing told.
                let lost = [Story::Beginning, Story::End];
                let lost = lost.iter().any(|story| self.tellings.is_lost(market, symbol, *story));
                // As planned, by an end that was there at the first sight.
                let planned = instrument.past.winds_down && !instrument.past.end_is_news;
                (was && !over && !lost && !planned).then_some("delisting")
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
