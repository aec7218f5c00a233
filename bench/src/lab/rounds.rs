//! Sides take turns: one shot each a round, in an order drawn anew each round.
//!
//! Contract: [`play`] owns the order and the pauses; a [`Stand`] owns the sockets and fires. Before a
//! shot the clients say that they are ready and the sockets get time to settle ([`SETTLE`]: delayed
//! acknowledgements of the shot before come within 40 ms, and would otherwise fall into this one);
//! after it every client must have every frame. The writer's core spins throughout, as in service.
//! The first [`WARM_UP`] rounds are played and not counted. Owner: the thread that measures. Fails
//! with the first shot that fails.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::clients::Clients;

/// Frames of a burst.
pub const BURST: u64 = 8;
/// Rounds that are not counted.
pub const WARM_UP: usize = 3;
/// Between two shots at least; a little more is drawn.
pub const SETTLE: Duration = Duration::from_millis(50);
/// At most so much more, in nanoseconds: shots keep no step with any timer.
const DRAWN_NS: u64 = 4_000_000;

/// What is shot, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One announcement through the engine.
    Engine,
    /// The same bytes by the floor.
    Floor,
    /// [`BURST`] announcements, all in the engine's ring before it looks.
    EngineAtOnce,
    /// [`BURST`] announcements, each in the ring when the engine is done with the one before.
    EngineOneByOne,
    /// [`BURST`] frames by the floor, all in one write a socket.
    FloorOneWrite,
    /// One announcement through two writers of the engine, half of the subscribers each.
    EngineTwo,
    /// The same by two threads of the floor.
    FloorTwo,
}

impl Mode {
    /// As series call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Engine => "engine",
            Mode::Floor => "floor",
            Mode::EngineAtOnce => "engine-at-once",
            Mode::EngineOneByOne => "engine-one-by-one",
            Mode::FloorOneWrite => "floor-one-write",
            Mode::EngineTwo => "engine-two-writers",
            Mode::FloorTwo => "floor-two-writers",
        }
    }

    /// Frames that every subscriber gets from one shot.
    #[must_use]
    pub const fn frames(self) -> u64 {
        match self {
            Mode::EngineAtOnce | Mode::EngineOneByOne | Mode::FloorOneWrite => BURST,
            _ => 1,
        }
    }
}

/// Instants of one shot, in monotonic nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Shot {
    /// The engine: just before the frame goes into its ring. The floor: bytes in hand.
    pub start: u64,
    /// The first subscriber's write returned.
    pub first: u64,
    /// The last one's did.
    pub last: u64,
    /// CPU time of the writing thread from start to end, in nanoseconds; 0 where it was not taken.
    pub cpu: u64,
}

/// Sockets and what writes to them.
pub trait Stand {
    /// The clients' groups that a mode writes to.
    fn groups(&self, mode: Mode) -> &'static [usize];

    /// Sends [`Mode::frames`] frames, the first of which has `number`.
    ///
    /// # Errors
    /// What was shot is not what was to be shot.
    fn shoot(&mut self, mode: Mode, number: u64) -> Result<Shot, String>;

    /// What is to be done all the time between shots.
    fn idle(&mut self);

    /// Everybody is still there.
    ///
    /// # Errors
    /// Somebody is not.
    fn check(&mut self) -> Result<(), String>;
}

/// What one shot took, in nanoseconds from its start.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// Until the first write returned.
    pub first: u64,
    /// Until the middle client had everything.
    pub median: u64,
    /// Until the last write returned.
    pub last: u64,
    /// Until the last client had everything.
    pub arrived: u64,
    /// CPU time of the writing thread.
    pub cpu: u64,
}

/// Plays `rounds` rounds of `modes`; the turns of each mode, in its order.
///
/// # Errors
/// The stand's or the clients'.
pub fn play(
    clients: &mut Clients,
    stand: &mut dyn Stand,
    modes: &[Mode],
    rounds: usize,
    dice: &mut Dice,
) -> Result<Vec<Vec<Turn>>, String> {
    let mut turns = vec![Vec::with_capacity(rounds); modes.len()];
    let mut order: Vec<usize> = (0..modes.len()).collect();
    for round in 0..rounds + WARM_UP {
        dice.shuffle(&mut order);
        for &which in &order {
            let (Some(&mode), Some(turns)) = (modes.get(which), turns.get_mut(which)) else { continue };
            let turn = one(clients, stand, mode, dice).map_err(|e| format!("{}: {e}", mode.name()))?;
            if round >= WARM_UP {
                turns.push(turn);
            }
        }
        stand.check()?;
    }
    Ok(turns)
}

fn one(clients: &mut Clients, stand: &mut dyn Stand, mode: Mode, dice: &mut Dice) -> Result<Turn, String> {
    let groups = stand.groups(mode);
    let number = groups.first().map_or(1, |group| clients.next_number(*group));
    for group in groups {
        clients.expect(*group, mode.frames(), &mut || stand.idle())?;
    }
    let settled = Instant::now() + SETTLE + Duration::from_nanos(dice.below(DRAWN_NS));
    while Instant::now() < settled {
        stand.idle();
    }
    let shot = stand.shoot(mode, number)?;
    let (mut median, mut arrived) = (0, 0);
    for group in groups {
        let arrivals = clients.arrivals(*group, &mut || stand.idle())?;
        // Of two halves that run side by side, the later middle: the lesser claim.
        median = median.max(arrivals.median);
        arrived = arrived.max(arrivals.last);
    }
    let since = |at: u64| at.saturating_sub(shot.start);
    Ok(Turn {
        first: since(shot.first),
        median: since(median),
        last: since(shot.last),
        arrived: since(arrived),
        cpu: shot.cpu,
    })
}

/// CPU time of the calling thread, in nanoseconds. A system call.
#[must_use]
pub fn thread_cpu() -> u64 {
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    part(spent.tv_sec) * 1_000_000_000 + part(spent.tv_nsec)
}

/// Numbers that look drawn and come from a seed: the same ones each time.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// From any number.
    #[must_use]
    pub const fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// The next number: a counter in steps of the golden ratio, its bits mixed (SplitMix64).
    pub const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 when that is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.roll().checked_rem(end).unwrap_or(0)
    }

    /// Puts the items into an order, each order equally likely.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for left in (1..items.len()).rev() {
            items.swap(left, self.below(left as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dice_are_the_same_each_time_and_every_order_comes() {
        let roll = |seed| Dice::new(seed).roll();
        assert_eq!(roll(7), roll(7));
        assert_ne!(roll(7), roll(8));
        assert_eq!(Dice::new(1).below(0), 0);
        let mut dice = Dice::new(1);
        let mut firsts = [0; 3];
        for _ in 0..3_000 {
            let mut items = [0, 1, 2];
            dice.shuffle(&mut items);
            firsts[items[0]] += 1;
            items.sort_unstable();
            assert_eq!(items, [0, 1, 2]);
        }
        assert!(firsts.iter().all(|count| (850..1_150).contains(count)), "{firsts:?}");
    }

    #[test]
    fn a_threads_cpu_time_passes_while_it_works() {
        let before = thread_cpu();
        let started = Instant::now();
        while started.elapsed() < Duration::from_millis(5) {}
        assert!(thread_cpu() > before);
    }
}
