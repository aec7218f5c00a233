//! The instruments of one simulated exchange of a world, what its list shows of them and has shown.
//!
//! Contract: [`Market::act`] changes one instrument as exchanges do; what a reader could have learned since the
//! baseline is kept in [`Past`], in the terms of `docs/markets.md`, for the checkers. [`Market::answer`] is the list
//! as it is, or what a fault makes of it. The same calls in the same order give the same. Owner: the world.

use core::time::Duration;
use std::collections::BTreeMap;

use tocsin_core::market::{MarketRequest, Trading};
use tocsin_core::model::Exchange;
use tocsin_core::source::backoff::Failure;
use tocsin_core::time::WallUs;

use super::dice::Dice;
use crate::market::{Listing, list};

/// What could be learned of an instrument since the baseline.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Past {
    /// Times it was shown ahead, or ahead with another time.
    pub(super) ahead: u32,
    /// It was shown open.
    pub(super) open: bool,
    /// Times an end was set or moved, or it was over or left the list.
    pub(super) ends: u32,
    /// An end that had been set was taken back.
    pub(super) freed: bool,
    /// The end that is set was set when the disk had it as open and without one.
    pub(super) end_is_news: bool,
    /// It was over with its end still to come, as one that winds down.
    pub(super) winds_down: bool,
    /// It was in a list that was believed in silence.
    pub(super) silent: bool,
}

/// One instrument.
#[derive(Clone, Debug)]
pub(super) struct Instrument {
    pub(super) listing: Listing,
    pub(super) symbol: String,
    /// It was there and open before anybody asked.
    pub(super) old: bool,
    pub(super) past: Past,
}

/// What comes of a request.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    Body(Vec<u8>),
    Failed(Failure, Option<Duration>),
}

/// See the module head.
pub(super) struct Market {
    pub(super) exchange: Exchange,
    pub(super) instruments: Vec<Instrument>,
    /// Part of the list is left out until then, in per cent, chosen by this number.
    shrunk: Option<(WallUs, u64, u64)>,
    named: u64,
    /// Answers to requests, for as long as nothing changes.
    listed: BTreeMap<Asked, (u16, Vec<u8>)>,
}

/// Target and body of a request.
type Asked = (&'static str, Option<&'static str>);

/// Instruments of each kind that are there from the start.
const OLD: u64 = 30;
/// At least so much of a shrunken list is absent, in per cent: far more than what the guard lets through.
const SHRUNK: u64 = 65;

/// Whether a row says that an instrument is known before it is traded.
pub(super) fn is_ahead(row: &Listing, opened: bool, now: WallUs) -> bool {
    match row.trading {
        Trading::Ahead => true,
        Trading::Open | Trading::Halted => !opened && row.opens_at.is_some_and(|at| at > now),
        Trading::Over => false,
    }
}

impl Market {
    pub(super) fn new(exchange: Exchange) -> Market {
        let mut market =
            Market { exchange, instruments: Vec::new(), shrunk: None, named: 0, listed: BTreeMap::new() };
        let (kinds, quote) = list::lists(exchange);
        for kind in kinds {
            for _ in 0..OLD {
                let listing = Listing::open(kind, &market.name(), quote);
                let symbol = list::symbol(exchange, &listing);
                let past = Past { open: true, ..Past::default() };
                market.instruments.push(Instrument { listing, symbol, old: true, past });
            }
        }
        market
    }

    /// A name no other instrument has.
    fn name(&mut self) -> String {
        self.named += 1;
        let letter = |n: u64| char::from(b'A' + u8::try_from(n % 26).unwrap_or(0));
        ['Q', letter(self.named / 26), letter(self.named), 'Z'].into_iter().collect()
    }

    /// What its list shows of an instrument.
    pub(super) fn shown(&self, instrument: &Instrument) -> Option<Listing> {
        list::shown(self.exchange, &instrument.listing).map(|shown| shown.listing)
    }

    /// Something happens to one instrument; what, in words. `known`: whether the disk has it open, without an end.
    pub(super) fn act(&mut self, dice: &mut Dice, now: WallUs, known: &dyn Fn(&str) -> bool) -> String {
        self.listed.clear();
        let second = WallUs::from_secs(now.secs());
        let later = |dice: &mut Dice, hours: u64| {
            WallUs::from_secs(
                second.secs() + i64::try_from(dice.between(3 * 3_600, hours * 3_600)).unwrap_or(0),
            )
        };
        if dice.per_mille(400) {
            let (kinds, quote) = list::lists(self.exchange);
            let Some(kind) = kinds.get(dice.index(kinds.len())).copied() else { return String::new() };
            let mut listing = Listing::ahead(kind, &self.name(), quote, None);
            if dice.per_mille(300) {
                (listing.trading, listing.opens_at) = (Trading::Open, Some(second));
            } else if dice.per_mille(800) {
                listing.opens_at = Some(later(dice, 60));
            }
            let symbol = list::symbol(self.exchange, &listing);
            let said = format!("{symbol} is new: {:?}", listing.trading);
            self.instruments.push(Instrument { listing, symbol, old: false, past: Past::default() });
            self.note(self.instruments.len() - 1, None, now);
            return said;
        }
        let at = if dice.coin() {
            // Most of what happens happens to what is new.
            self.instruments.len().saturating_sub(1 + dice.index(8))
        } else {
            dice.index(self.instruments.len())
        };
        let Some(instrument) = self.instruments.get(at) else { return String::new() };
        let before = self.shown(instrument);
        let Some(instrument) = self.instruments.get_mut(at) else { return String::new() };
        let listing = &mut instrument.listing;
        match listing.trading {
            Trading::Ahead => match dice.below(5) {
                0 => listing.opens_at = Some(later(dice, 60)),
                1 => (listing.trading, listing.closes_at) = (Trading::Over, Some(second)),
                _ => (listing.trading, listing.opens_at) = (Trading::Open, Some(second)),
            },
            Trading::Open => match dice.below(6) {
                0 | 1 => listing.trading = Trading::Halted,
                2 if listing.closes_at.is_some() => listing.closes_at = None,
                2 | 3 => listing.closes_at = Some(later(dice, 400)),
                _ => (listing.trading, listing.closes_at) = (Trading::Over, Some(second)),
            },
            Trading::Halted => listing.trading = Trading::Open,
            Trading::Over => {}
        }
        let said = format!("{} is {:?}, {:?}", instrument.symbol, listing.trading, listing.closes_at);
        let known = known(&instrument.symbol);
        self.note(at, before.as_ref(), now);
        self.note_end(at, known);
        said
    }

    /// Keeps what the list showed before and shows now.
    fn note(&mut self, at: usize, before: Option<&Listing>, at_time: WallUs) {
        let Some(now) = self.instruments.get(at).map(|instrument| self.shown(instrument)) else { return };
        let Some(instrument) = self.instruments.get_mut(at) else { return };
        let past = &mut instrument.past;
        let listed = |shown: Option<&Listing>| shown.filter(|l| l.trading != Trading::Over).cloned();
        past.freed |= listed(before).is_none() && before.is_some() && listed(now.as_ref()).is_some();
        match (listed(before), listed(now.as_ref())) {
            (Some(_), None) => {
                past.ends += 1;
                past.winds_down = now.and_then(|over| over.closes_at).is_some_and(|at| at > at_time);
            }
            // What winds down may end at another time than it said.
            (None, None) => {
                let end = |shown: Option<&Listing>| shown.and_then(|listing| listing.closes_at);
                past.ends += u32::from(end(before) != end(now.as_ref()));
            }
            (was, Some(is)) => {
                // Some have no word for it, only a time that is still to come.
                let opens = |l: &Listing| (is_ahead(l, past.open, at_time), l.opens_at);
                let ahead = is_ahead(&is, past.open, at_time);
                past.ahead += u32::from(ahead && was.as_ref().map(opens) != Some(opens(&is)));
                past.open |= is.trading == Trading::Open;
                let had = was.and_then(|was| was.closes_at);
                past.ends += u32::from(is.closes_at.is_some() && is.closes_at != had);
                past.freed |= had.is_some() && is.closes_at.is_none();
            }
        }
    }

    /// Keeps whether the end that is shown must be told.
    fn note_end(&mut self, at: usize, known: bool) {
        let Some(ends) = self.instruments.get(at).map(|i| self.shown(i).and_then(|shown| shown.closes_at))
        else {
            return;
        };
        if let Some(past) = self.instruments.get_mut(at).map(|instrument| &mut instrument.past) {
            past.end_is_news = ends.is_some() && (past.end_is_news || known);
        }
    }

    /// A part of the list will be left out for a while.
    pub(super) fn shrink(&mut self, dice: &mut Dice, now: WallUs) {
        let micros = i64::try_from(dice.between(20, 400)).unwrap_or(0) * 1_000_000;
        self.listed.clear();
        self.shrunk = Some((WallUs(now.0 + micros), dice.between(SHRUNK, 95), dice.next()));
    }

    /// Its list was believed after it had stood: of what it holds nothing need be told.
    pub(super) fn believed(&mut self) {
        self.instruments.iter_mut().for_each(|instrument| instrument.past.silent = true);
    }

    pub(super) fn recover(&mut self) {
        self.listed.clear();
        self.shrunk = None;
    }

    /// What comes of a request, and how long it takes.
    pub(super) fn answer(
        &mut self,
        request: &MarketRequest,
        now: WallUs,
        (exchange, network): (bool, bool),
        dice: &mut Dice,
    ) -> (Duration, Reply) {
        if network && dice.per_mille(40) {
            let failure = dice.pick(&[Failure::Timeout, Failure::Closed, Failure::Connect], Failure::Closed);
            return (dice.millis(1, 30_000), Reply::Failed(failure, None));
        }
        let latency = dice.millis(20, if network { 4_000 } else { 400 });
        if exchange && dice.per_mille(60) {
            let refusals =
                [Failure::TooManyRequests, Failure::Forbidden, Failure::ServerError, Failure::Banned];
            let after = dice.coin().then(|| Duration::from_secs(dice.between(1, 20)));
            return (latency, Reply::Failed(dice.pick(&refusals, Failure::ServerError), after));
        }
        if self.shrunk.is_some_and(|(until, ..)| until <= now) {
            self.recover();
        }
        let asked = (request.target, request.body);
        if !self.listed.contains_key(&asked) {
            let answer = self.list(request);
            self.listed.insert(asked, answer);
        }
        let (status, mut body) = self.listed.get(&asked).cloned().unwrap_or_default();
        if let Some(failure) = Failure::of_status(status) {
            return (latency, Reply::Failed(failure, None));
        }
        if exchange && dice.per_mille(40) {
            match dice.below(3) {
                0 => body.truncate(dice.index(body.len())),
                1 => body = b"<html>wait</html>".to_vec(),
                _ => body.iter_mut().step_by(7).for_each(|byte| *byte = b'{'),
            }
        }
        (latency, Reply::Body(body))
    }

    /// What it answers when nothing is wrong but that a part may be left out: status and body.
    pub(super) fn list(&self, request: &MarketRequest) -> (u16, Vec<u8>) {
        let left_out = |nth: usize| {
            self.shrunk.is_some_and(|(_, percent, salt)| Dice::new(salt, nth as u64).below(100) < percent)
        };
        let all = self.instruments.iter().enumerate().filter(|(nth, _)| !left_out(*nth));
        let listings = all.map(|(_, instrument)| &instrument.listing);
        list::answer(self.exchange, listings, request.target, request.body)
    }
}
