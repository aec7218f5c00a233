//! Contenders taking turns: connected all the time, one broadcast each a round, in an order drawn anew.
//!
//! Contract: [`Contest::enter`] starts and connects one, [`Contest::settle`] reads the memory of all once
//! they are idle, [`Contest::rounds`] measures. Between two broadcasts there is a pause. The engine's
//! idle threads wake a thousand times a second and more, on the core that everybody shares, so its
//! process is stopped while others have their turn and goes on a pause before its own. A contender that
//! fails leaves the contest with a sentence; the others go on. Blocks; stops at the next step once `stop`
//! is set.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::process::Process;
use super::{Contender, Ground, Running, Shape, start};
use crate::load::{Command, Load, Reply, Round, Target};

/// Longer than the load generator's own patience.
const PATIENCE: Duration = Duration::from_secs(180);
/// Broadcasts before those that count: buffers grow, code is compiled.
const WARM_UP: usize = 3;
/// From the last receive to reading CPU time: what runs is counted when it stops, and what a broadcast
/// leaves to do (garbage, an engine's last spin) belongs to it.
const AFTERWARDS: Duration = Duration::from_millis(5);
/// Part of the subscribers that connect before memory is read the first time: what a program takes once
/// (code, tables, thread stacks) is not a connection's.
const FIRST_PART: usize = 10;

/// What is set for all.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Of each contender.
    pub subscribers: usize,
    /// That count.
    pub rounds: usize,
    /// Before each broadcast.
    pub pause: Duration,
    /// From the last greeting to reading the memory: allocators give back late.
    pub settle: Duration,
    /// Whether the load generator polls without sleeping during a broadcast: it has a core of its own.
    pub spin: bool,
}

/// One broadcast of a contender.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// As the subscribers saw it.
    pub round: Round,
    /// CPU nanoseconds the contender's processes spent from the request until all had it, and a little on.
    pub cpu_ns: u64,
}

/// A contender in the contest.
pub struct Entrant {
    /// Who.
    pub contender: Contender,
    /// How many listen to it.
    pub subscribers: usize,
    /// Resident bytes a connection added; none before [`Contest::settle`].
    pub bytes_per_connection: Option<f64>,
    /// Share of a core it took while idle with all connected.
    pub idle_cpu: Option<f64>,
    /// In the order of rounds.
    pub turns: Vec<Turn>,
    id: usize,
    before_bytes: u64,
    process: Process,
}

/// See the module head.
pub struct Contest<'a> {
    ground: &'a Ground,
    load: Load,
    pace: Pace,
    random: Random,
    stop: Arc<AtomicBool>,
    number: u32,
    entered: usize,
}

impl<'a> Contest<'a> {
    /// Takes a load generator's process.
    ///
    /// # Errors
    /// It has no pipes.
    pub fn new(
        ground: &'a Ground,
        load: Process,
        pace: Pace,
        seed: u64,
        stop: &Arc<AtomicBool>,
    ) -> Result<Contest<'a>, String> {
        let (load, stop) = (Load::new(load)?, Arc::clone(stop));
        Ok(Contest { ground, load, pace, random: Random(seed), stop, number: 0, entered: 0 })
    }

    /// Starts a contender and connects its subscribers; `unique` is a number no other of this run has.
    ///
    /// # Errors
    /// It is not installed, does not start or does not take them.
    pub fn enter(&mut self, contender: Contender, shape: &Shape, unique: usize) -> Result<Entrant, String> {
        let Running { contender, target, mut process } = start(self.ground, contender, shape, unique)?;
        let id = self.entered;
        self.entered += 1;
        let before_bytes = match self.connect(id, &target, &mut process) {
            Ok(before_bytes) => before_bytes,
            Err(why) => {
                self.ask(&Command::Drop { id })?;
                return Err(format!("{why} (it said: {})", process.last_words()));
            }
        };
        Ok(Entrant {
            contender,
            subscribers: self.pace.subscribers,
            bytes_per_connection: None,
            idle_cpu: None,
            turns: Vec::with_capacity(self.pace.rounds),
            id,
            before_bytes,
            process,
        })
    }

    /// Connects in two parts; returns the resident bytes between them.
    fn connect(&mut self, id: usize, target: &Target, process: &mut Process) -> Result<u64, String> {
        let (target, all) = (target.clone(), self.pace.subscribers);
        let first = (all / FIRST_PART).max(1);
        self.ask(&Command::Connect { id, target: target.clone(), count: first })?;
        std::thread::sleep(self.pace.settle / 10);
        // Not before: who serves may have been forked after the ports were there.
        process.find_tree();
        let before_bytes = process.resident_bytes();
        self.ask(&Command::Connect { id, target, count: all })?;
        Ok(before_bytes)
    }

    /// Leaves all alone for a while, then reads memory and idle time of those not read before.
    pub fn settle(&mut self, entrants: &mut [Entrant]) {
        let before: Vec<u64> = entrants.iter().map(|entrant| entrant.process.cpu_ns()).collect();
        std::thread::sleep(self.pace.settle);
        let later = self.pace.subscribers - (self.pace.subscribers / FIRST_PART).max(1);
        for (entrant, before_ns) in entrants.iter_mut().zip(before) {
            if entrant.bytes_per_connection.is_none() && later > 0 {
                let grown = entrant.process.resident_bytes().saturating_sub(entrant.before_bytes);
                entrant.bytes_per_connection = Some(grown as f64 / later as f64);
                let spent_ns = entrant.process.cpu_ns().saturating_sub(before_ns);
                entrant.idle_cpu = Some(spent_ns as f64 / self.pace.settle.as_nanos().max(1) as f64);
            }
        }
    }

    /// Rounds over all of them. Returns who failed and how; those have left `entrants`.
    ///
    /// # Errors
    /// The run was stopped.
    pub fn rounds(&mut self, entrants: &mut Vec<Entrant>) -> Result<Vec<(Contender, String)>, String> {
        let mut failed = Vec::new();
        entrants.iter().for_each(|entrant| entrant.rest(true));
        for round in 0..WARM_UP + self.pace.rounds {
            let mut order: Vec<usize> = (0..entrants.len()).collect();
            self.random.shuffle(&mut order);
            let mut gone = Vec::new();
            for at in order {
                let Some(entrant) = entrants.get_mut(at) else { continue };
                match self.turn(entrant) {
                    Ok(turn) if round >= WARM_UP => entrant.turns.push(turn),
                    Ok(_) => {}
                    Err(why) => {
                        failed.push((entrant.contender, format!("round {round}: {why}")));
                        gone.push(entrant.id);
                    }
                }
                if self.stop.load(Ordering::Relaxed) {
                    return Err("interrupted".to_owned());
                }
            }
            entrants.retain(|entrant| !gone.contains(&entrant.id));
            for id in gone {
                self.ask(&Command::Drop { id })?;
            }
        }
        entrants.iter().for_each(|entrant| entrant.rest(false));
        Ok(failed)
    }

    /// Closes a contender's connections and ends it.
    ///
    /// # Errors
    /// The load generator is gone.
    pub fn leave(&mut self, entrant: Entrant) -> Result<(), String> {
        let id = entrant.id;
        drop(entrant);
        self.ask(&Command::Drop { id }).map(drop)
    }

    fn turn(&mut self, entrant: &Entrant) -> Result<Turn, String> {
        entrant.rest(false);
        std::thread::sleep(self.pace.pause);
        self.number += 1;
        let before_ns = entrant.process.cpu_ns();
        let asked = self.ask(&Command::Round { id: entrant.id, number: self.number, spin: self.pace.spin });
        std::thread::sleep(AFTERWARDS);
        let cpu_ns = entrant.process.cpu_ns().saturating_sub(before_ns);
        entrant.rest(true);
        match asked? {
            Reply::Round(round) => Ok(Turn { round, cpu_ns }),
            other => Err(format!("load generator said {other:?}")),
        }
    }

    fn ask(&mut self, command: &Command) -> Result<Reply, String> {
        let stop = Arc::clone(&self.stop);
        self.load.ask(command, PATIENCE, &|| stop.load(Ordering::Relaxed))
    }
}

impl Entrant {
    /// See the module head.
    fn rest(&self, rest: bool) {
        if self.contender == Contender::Engine {
            self.process.pause(rest);
        }
    }
}

/// SplitMix64: small, seeded, good enough for an order.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn shuffle(&mut self, items: &mut [usize]) {
        for left in (2..=items.len()).rev() {
            let other = usize::try_from(self.next() % left as u64).unwrap_or(0);
            items.swap(left - 1, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_order_and_every_order_comes() {
        let order = |seed| {
            let mut items = [0, 1, 2];
            Random(seed).shuffle(&mut items);
            items
        };
        assert_eq!(order(5), order(5));
        let all: std::collections::BTreeSet<_> = (0..200).map(order).collect();
        assert_eq!(all.len(), 6);
    }
}
