//! What is drawn for a seed before its world begins: who takes part, and which faults it has.
//!
//! Contract: [`Drawn::of`] is a pure function of the seed and the size. Not every world has every fault
//! (swarm testing): a fault that is always there hides what shows only without it. Plain data.

use core::fmt;
use core::time::Duration;

use super::dice::Dice;
use super::market::MarketPlan;
use crate::options::Kind;

/// How large worlds may become.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Size {
    /// For a test that runs unoptimised.
    Small,
    /// The usual one.
    #[default]
    Full,
}

/// Which kinds of fault a world has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Faults {
    /// Delay, stalls, resets, partial reads and writes.
    pub(super) network: bool,
    /// Refusals, garbage, slow answers, pages of an old cache, shrunken and doubled lists.
    pub(super) exchanges: bool,
    /// Slow readers, vanished ones, floods, broken frames.
    pub(super) subscribers: bool,
    /// Receivers that hang, refuse, reset, redirect.
    pub(super) receivers: bool,
    /// The wall clock is set and drifts.
    pub(super) clock: bool,
    /// `kill -9` at any point.
    pub(super) kills: bool,
    /// Power cuts at any point.
    pub(super) power: bool,
    /// Commits that fail or stall.
    pub(super) disk: bool,
    /// Threads that lose their core for a while.
    pub(super) stalls: bool,
}

impl Faults {
    pub(super) const NONE: Faults = Faults {
        network: false,
        exchanges: false,
        subscribers: false,
        receivers: false,
        clock: false,
        kills: false,
        power: false,
        disk: false,
        stalls: false,
    };
}

/// One exchange of a world.
#[derive(Clone, Copy, Debug)]
pub(super) struct ExchangePlan {
    pub(super) kind: Kind,
    /// It pushes as well: two paths race.
    pub(super) stream: bool,
    /// Requests a second.
    pub(super) rate: f64,
    pub(super) connections: usize,
    pub(super) old_notices: usize,
    /// On which source thread.
    pub(super) thread: usize,
}

/// See the module head.
#[derive(Clone, Debug)]
pub(super) struct Drawn {
    pub(super) seed: u64,
    pub(super) faults: Faults,
    /// How long faults last.
    pub(super) safety: Duration,
    pub(super) exchanges: Vec<ExchangePlan>,
    pub(super) source_threads: usize,
    pub(super) writers: usize,
    pub(super) fresh_for: Duration,
    /// Announcements a writer remembers.
    pub(super) history: usize,
    pub(super) notices: u64,
    pub(super) subscribers: u64,
    pub(super) endpoints: u64,
    /// Deliveries one endpoint may have waiting.
    pub(super) pending_per_endpoint: usize,
    pub(super) pending: usize,
    pub(super) in_flight: usize,
    pub(super) self_healing: bool,
    pub(super) crashes: u64,
    pub(super) drift_ppb: i64,
    /// Of dice of its own.
    pub(super) markets: MarketPlan,
}

impl Drawn {
    pub(super) fn of(seed: u64, size: Size) -> Drawn {
        let mut dice = Dice::new(seed, 1);
        let faults = draw_faults(&mut dice);
        let (minutes, notices, subscribers) = match size {
            Size::Small => (1, 8, 4),
            Size::Full => (5, 24, 10),
        };
        let source_threads = usize::from(dice.per_mille(300)) + 1;
        let count = dice.between(1, 2) + u64::from(dice.per_mille(300));
        let exchanges = (0..count).map(|nth| draw_exchange(&mut dice, nth, source_threads));
        Drawn {
            seed,
            faults,
            markets: MarketPlan::of(seed, size, &faults),
            exchanges: exchanges.collect(),
            safety: Duration::from_secs(dice.between(20, 60 * minutes)),
            source_threads,
            writers: usize::from(dice.per_mille(300)) + 1,
            fresh_for: Duration::from_secs(dice.pick(&[30, 60, 300], 300)),
            history: dice.pick(&[3, 8, 32, 4_096, 4_096], 4_096),
            notices: dice.between(2, notices),
            subscribers: dice.between(1, subscribers),
            endpoints: dice.below(5),
            pending_per_endpoint: dice.pick(&[3, 1_000, 1_000], 1_000),
            pending: dice.pick(&[5, 1_000, 1_000], 1_000),
            in_flight: dice.pick(&[16, 64, 4_096], 4_096),
            self_healing: dice.per_mille(800),
            crashes: if faults.kills || faults.power { dice.between(1, 4) } else { 0 },
            drift_ppb: if faults.clock {
                i64::try_from(dice.below(200_000)).unwrap_or(0) - 100_000
            } else {
                0
            },
        }
    }
}

fn draw_faults(dice: &mut Dice) -> Faults {
    if dice.per_mille(50) {
        return Faults::NONE;
    }
    Faults {
        network: dice.coin(),
        exchanges: dice.coin(),
        subscribers: dice.coin(),
        receivers: dice.coin(),
        clock: dice.per_mille(250),
        kills: dice.per_mille(400),
        power: dice.per_mille(200),
        disk: dice.per_mille(300),
        stalls: dice.coin(),
    }
}

fn draw_exchange(dice: &mut Dice, nth: u64, threads: usize) -> ExchangePlan {
    // Different ones: the engine has one source of a name.
    let first = usize::try_from(nth).unwrap_or(0) * 4;
    let kind = Kind::ALL.get(first + dice.index(4)).copied().unwrap_or(Kind::Upbit);
    let kind = if nth == 0 && dice.coin() { Kind::Upbit } else { kind };
    ExchangePlan {
        kind,
        stream: kind == Kind::Upbit && dice.per_mille(600),
        rate: dice.pick(&[0.5, 1.0, 4.0], 1.0),
        connections: dice.index(3) + 1,
        old_notices: dice.index(30) + 1,
        thread: usize::try_from(nth).unwrap_or(0) % threads,
    }
}

impl fmt::Display for Drawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Faults { network, exchanges, subscribers, receivers, clock, kills, power, disk, stalls } =
            self.faults;
        let rows = [
            (network, "network"),
            (exchanges, "exchanges"),
            (subscribers, "subscribers"),
            (receivers, "receivers"),
            (clock, "clock"),
            (kills, "kills"),
            (power, "power"),
            (disk, "disk"),
            (stalls, "stalls"),
        ];
        let on: Vec<&str> = rows.into_iter().filter(|(on, _)| *on).map(|(_, name)| name).collect();
        write!(f, "seed {}: {:?} with faults of [{}]", self.seed, self.safety, on.join(" "))?;
        for plan in &self.exchanges {
            let stream = if plan.stream { "+stream" } else { "" };
            write!(f, "; {}{stream} {}/s", plan.kind.name(), plan.rate)?;
        }
        write!(
            f,
            "; {} source threads, {} writers, fresh for {:?}, history {}, {} notices, {} subscribers, {} endpoints \
             (pending {}/{}, in flight {}), {} crashes",
            self.source_threads,
            self.writers,
            self.fresh_for,
            self.history,
            self.notices,
            self.subscribers,
            self.endpoints,
            self.pending_per_endpoint,
            self.pending,
            self.in_flight,
            self.crashes,
        )?;
        let MarketPlan { exchanges, safety, heard, crashes } = &self.markets;
        if exchanges.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = exchanges.iter().map(|exchange| exchange.name()).collect();
        let notices = if *heard { "heard" } else { "none" };
        write!(f, "; markets of {} for {safety:?}, notices {notices}, {crashes} crashes", names.join(" and "))
    }
}
