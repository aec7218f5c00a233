//! What happens by itself at a simulated exchange: instruments appear before they open, open with their listing
//! notice, are traded far more than usual, and end with their delisting notice.
//!
//! Contract: a [`Story`] works one [`SimExchange`] and one [`SimMarket`] of the same exchange. Its time is
//! market time, which runs `speed` times as fast as the wall clock; a [`ROUND`] of it has each act of [`ACTS`]
//! once, with new names, and so on for ever. [`Story::advance`] does what has come due, in order, and says
//! what it did; volumes of every open instrument move in between. Names and amounts follow from the seeds.
//! What a reader sees of an act depends on the exchange: some show nothing before an opening, or no end
//! before it has come. Bounded: a round removes what an earlier one added.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tocsin_core::market::InstrumentKind;
use tocsin_core::model::ListingType;
use tocsin_core::time::WallUs;

use super::tape::{TICKS, TICKS_A_SLOT, Tape};
use super::{InstrumentId, Listing, SimMarket};
use crate::error::SimError;
use crate::exchange::SimExchange;
use crate::invent::{Asset, Rng};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
/// Market time of a day.
const DAY: Duration = Duration::from_secs(24 * HOUR);
/// Market time between two ticks of volumes.
const TICK: Duration = Duration::from_secs(DAY.as_secs() / TICKS as u64);

/// Market time of one round.
pub const ROUND: Duration = Duration::from_secs(10 * HOUR);

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// An instrument appears before its opening.
    Preview,
    /// Its listing notice is published.
    Notice,
    /// It opens.
    Opening,
    /// Another one is traded [`BURST`] times as much as usual for [`BURST_SLOTS`].
    Spike,
    /// The end of a third is set.
    End,
    /// Its delisting notice is published.
    EndNotice,
    /// It is over.
    Over,
}

impl Act {
    /// As lines of the program have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Act::Preview => "preview",
            Act::Notice => "listing_notice",
            Act::Opening => "opening",
            Act::Spike => "spike",
            Act::End => "end_set",
            Act::EndNotice => "delisting_notice",
            Act::Over => "over",
        }
    }
}

/// When in a round what happens.
pub const ACTS: [(Duration, Act); 7] = [
    (Duration::from_secs(10 * MINUTE), Act::Preview),
    (Duration::from_secs(HOUR), Act::Notice),
    (Duration::from_secs(HOUR + 30 * MINUTE), Act::Opening),
    // Late enough that in the second round everything has been watched for half a day.
    (Duration::from_secs(3 * HOUR), Act::Spike),
    (Duration::from_secs(6 * HOUR), Act::End),
    (Duration::from_secs(6 * HOUR + 30 * MINUTE), Act::EndNotice),
    (Duration::from_secs(8 * HOUR), Act::Over),
];

/// How many times the usual a spike is,
pub const BURST: f64 = 20.0;
/// and for how many of the slots in which spikes are counted.
pub const BURST_SLOTS: usize = 8;

/// Instruments of the story that are open from the start: what is new grows old enough to spike and to end.
const CAST: usize = 3;
/// What is traded of one of them in a day, in dollars, and at most so much more.
const CAST_DOLLARS: (u64, u64) = (2_000_000, 4_000_000);
/// Won for a dollar.
const WON: f64 = 1_400.0;

/// How a story is told.
#[derive(Clone, Copy, Debug)]
pub struct StoryOptions {
    /// Market time runs so many times as fast as the wall clock; from 0.001 to 1,000,000.
    pub speed: f64,
    /// The wall clock's time at its beginning.
    pub began: WallUs,
    /// Market time by which its rounds are later: several exchanges then take turns.
    pub offset: Duration,
    /// Decides amounts.
    pub seed: u64,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scene {
    /// What.
    pub act: Act,
    /// To which instrument, by the exchange's own name.
    pub symbol: String,
    /// The title of the notice, where it is one.
    pub title: Option<String>,
}

/// An instrument of the story.
#[derive(Clone, Debug)]
struct Role {
    id: InstrumentId,
    asset: Asset,
}

/// See the module.
#[derive(Debug)]
pub struct Story {
    exchange: Arc<SimExchange>,
    market: Arc<SimMarket>,
    options: StoryOptions,
    kind: InstrumentKind,
    quote: String,
    tapes: BTreeMap<InstrumentId, Tape>,
    rng: Rng,
    ticks: u32,
    acts: u32,
    /// Announced by a preview, not open yet.
    coming: Option<Role>,
    /// Open, the oldest first.
    open: VecDeque<Role>,
    /// With an end.
    leaving: Option<Role>,
    /// Over, and still on the list where the exchange leaves it there.
    over: Option<InstrumentId>,
}

impl Story {
    /// Puts the first instruments on the list and sums under what is there; nothing happens yet.
    ///
    /// # Errors
    /// [`SimError::Script`] when the two are not of one exchange or the speed is out of bounds,
    /// [`SimError::TooManyInstruments`].
    pub fn new(
        exchange: Arc<SimExchange>,
        market: Arc<SimMarket>,
        options: StoryOptions,
    ) -> Result<Story, SimError> {
        if exchange.kind().exchange() != market.exchange() {
            return Err(SimError::Script("a story has one exchange".to_owned()));
        }
        if !(0.001..=1_000_000.0).contains(&options.speed) {
            return Err(SimError::Script(format!("speed {} is not 0.001 to 1000000", options.speed)));
        }
        let (kind, quote) = market.foretold();
        let mut story = Story {
            exchange,
            market,
            options,
            kind,
            quote,
            tapes: BTreeMap::new(),
            rng: Rng::new(options.seed),
            ticks: 0,
            acts: 0,
            coming: None,
            open: VecDeque::new(),
            leaving: None,
            over: None,
        };
        if story.quote == "KRW" {
            // What turns won into dollars.
            let mut dollar = Listing::open(InstrumentKind::Spot, "USDT", "KRW");
            (dollar.last, dollar.quote_24h) = (Some(WON), Some(WON * CAST_DOLLARS.1 as f64));
            story.market.add(dollar)?;
        }
        for (id, listing) in story.market.instruments() {
            if let Some(a_day) = listing.quote_24h {
                story.tapes.insert(id, Tape::traded(a_day, story.rng.next()));
            }
        }
        for _ in 0..CAST {
            let asset = story.exchange.invent_asset();
            let id = story.market.add(Listing::open(story.kind, &asset.ticker, &story.quote))?;
            let tape = Tape::traded(story.a_day(), story.rng.next());
            story.tapes.insert(id, tape);
            story.open.push_back(Role { id, asset });
        }
        story.tell_volumes()?;
        Ok(story)
    }

    /// How long after its beginning, by the wall clock, there is something to do again.
    #[must_use]
    pub fn due(&self) -> Duration {
        let tick = TICK.saturating_mul(self.ticks.saturating_add(1));
        tick.min(self.next_act().0).div_f64(self.options.speed)
    }

    /// Does everything that is due `elapsed` after its beginning, by the wall clock.
    ///
    /// # Errors
    /// [`SimError`], when what it works with was removed by somebody else.
    pub fn advance(&mut self, elapsed: Duration) -> Result<Vec<Scene>, SimError> {
        let market_time = Duration::try_from_secs_f64(elapsed.as_secs_f64() * self.options.speed)
            .map_err(|e| SimError::Script(format!("too far ahead: {e}")))?;
        let mut scenes = Vec::new();
        loop {
            let (at, act) = self.next_act();
            self.tick_until(market_time.min(at));
            if at > market_time {
                break;
            }
            self.acts += 1;
            scenes.extend(self.play(act, at)?);
        }
        self.tell_volumes()?;
        Ok(scenes)
    }

    /// When, in market time, what happens next.
    fn next_act(&self) -> (Duration, Act) {
        let (round, place) = (self.acts / ACTS.len() as u32, self.acts as usize % ACTS.len());
        let (at, act) = ACTS.get(place).copied().unwrap_or((Duration::ZERO, Act::Over));
        (self.options.offset + ROUND.saturating_mul(round) + at, act)
    }

    fn tick_until(&mut self, market_time: Duration) {
        while TICK.saturating_mul(self.ticks.saturating_add(1)) <= market_time && self.ticks < u32::MAX {
            self.ticks += 1;
            self.tapes.values_mut().for_each(Tape::tick);
        }
    }

    fn tell_volumes(&self) -> Result<(), SimError> {
        for (id, tape) in &self.tapes {
            self.market.change(*id, |listing| listing.quote_24h = Some(tape.sum()))?;
        }
        Ok(())
    }

    /// The wall clock's time at a market time.
    fn wall(&self, market_time: Duration) -> WallUs {
        let after = market_time.div_f64(self.options.speed);
        WallUs(self.options.began.0.saturating_add(i64::try_from(after.as_micros()).unwrap_or(i64::MAX)))
    }

    /// What will be traded of a new instrument in a day, in its quote.
    fn a_day(&mut self) -> f64 {
        let (least, more) = CAST_DOLLARS;
        let dollars = (least + self.rng.below(more)) as f64;
        if self.quote == "KRW" { dollars * WON } else { dollars }
    }

    /// One act; nothing when the one it follows from did not happen.
    fn play(&mut self, act: Act, at: Duration) -> Result<Option<Scene>, SimError> {
        let done = match act {
            Act::Preview => Some(self.preview(at)?),
            Act::Notice => self.coming.clone().map(|role| (role, true)),
            Act::Opening => self.opening()?,
            Act::Spike => self.spike(),
            Act::End => self.set_end(at)?,
            Act::EndNotice => self.leaving.clone().map(|role| (role, true)),
            Act::Over => self.end()?,
        };
        let Some((role, noticed)) = done else { return Ok(None) };
        let title = noticed.then(|| {
            let listing_type = match (act, self.kind) {
                (Act::Notice, InstrumentKind::Spot) => ListingType::SpotListing,
                (Act::Notice, _) => ListingType::FuturesListing,
                (_, InstrumentKind::Spot) => ListingType::SpotDelisting,
                (_, _) => ListingType::FuturesDelisting,
            };
            self.exchange.publish_about(listing_type, &[role.asset]).0.title
        });
        let symbol = self.market.symbol(role.id).unwrap_or_default();
        Ok(Some(Scene { act, symbol, title }))
    }

    fn preview(&mut self, at: Duration) -> Result<(Role, bool), SimError> {
        if let Some(id) = self.over.take() {
            self.market.remove(id)?;
        }
        let asset = self.exchange.invent_asset();
        let opens_at = self.wall(at + between(Act::Preview, Act::Opening));
        let ahead = Listing::ahead(self.kind, &asset.ticker, &self.quote, Some(opens_at));
        let role = Role { id: self.market.add(ahead)?, asset };
        self.coming = Some(role.clone());
        Ok((role, false))
    }

    fn opening(&mut self) -> Result<Option<(Role, bool)>, SimError> {
        let Some(role) = self.coming.take() else { return Ok(None) };
        self.market.open(role.id)?;
        self.market.set_volume(role.id, 0.0, 2.5)?;
        let tape = Tape::fresh(self.a_day(), self.rng.next());
        self.tapes.insert(role.id, tape);
        self.open.push_back(role.clone());
        Ok(Some((role, false)))
    }

    /// Of the second oldest, which is watched long enough; the oldest is the next to end.
    fn spike(&mut self) -> Option<(Role, bool)> {
        let role = self.open.get(1).cloned()?;
        self.tapes.get_mut(&role.id)?.burst(BURST, BURST_SLOTS * TICKS_A_SLOT);
        Some((role, false))
    }

    fn set_end(&mut self, at: Duration) -> Result<Option<(Role, bool)>, SimError> {
        let Some(role) = self.open.pop_front() else { return Ok(None) };
        self.market.set_end(role.id, Some(self.wall(at + between(Act::End, Act::Over))))?;
        self.leaving = Some(role.clone());
        Ok(Some((role, false)))
    }

    fn end(&mut self) -> Result<Option<(Role, bool)>, SimError> {
        let Some(role) = self.leaving.take() else { return Ok(None) };
        self.tapes.remove(&role.id);
        self.market.delist(role.id)?;
        self.over = Some(role.id);
        Ok(Some((role, false)))
    }
}

/// Market time from one act to a later one.
fn between(earlier: Act, later: Act) -> Duration {
    let at = |act: Act| ACTS.iter().find(|(_, a)| *a == act).map_or(Duration::ZERO, |(at, _)| *at);
    at(later).saturating_sub(at(earlier))
}
