//! `tocsin-sim world`: plays seeded worlds and stops at the first that breaks a rule.
//!
//! Prints what was drawn for a seed, then the rule; with `--trace` every event before it. Exit code 1 when a
//! rule was broken.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use clap::Args;
use parking_lot::Mutex;
use tocsin_sim::SimError;
use tocsin_sim::world::{self, Plant, Seen, Size, Violation, WorldOptions};

use super::say;

/// Arguments of `tocsin-sim world`.
#[derive(Args)]
pub(crate) struct WorldArgs {
    /// How many worlds to play.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seeds: u64,
    /// The first seed; the others follow it.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    from: u64,
    /// Print every event.
    #[arg(long)]
    trace: bool,
    /// Worlds played at a time.
    #[arg(long, value_name = "N", default_value_t = 1)]
    jobs: usize,
    /// Small worlds, as the tests play them.
    #[arg(long)]
    small: bool,
    /// Plant a bug, to see that it is found: a name, or `list`.
    #[arg(long, value_name = "NAME")]
    plant: Option<String>,
    /// Go on after a world that breaks a rule, and list all of them.
    #[arg(long)]
    keep_going: bool,
}

/// Runs it.
///
/// # Errors
/// A rule was broken, or there is no such plant.
pub(crate) fn run(args: &WorldArgs) -> Result<(), SimError> {
    let plant = match args.plant.as_deref() {
        None => None,
        Some("list") => {
            let names: Vec<&str> = Plant::ALL.into_iter().map(Plant::name).collect();
            // A reader that has seen enough may close the pipe.
            let _ = say(&names.join("\n"));
            return Ok(());
        }
        Some(name) => {
            let found = Plant::parse(name)
                .ok_or_else(|| SimError::World(format!("no plant {name:?}; `list` shows them")))?;
            Some(found)
        }
    };
    let size = if args.small { Size::Small } else { Size::Full };
    let options = WorldOptions { size, plant, trace: args.trace };
    let began = Instant::now();
    let (seen, mut found) = play(args, &options)?;
    found.sort_by_key(|violation| violation.seed);
    let rate = began.elapsed().as_secs_f64() * 1_000.0 / args.seeds.max(1) as f64;
    let Seen { events, announcements, received, attempts, deaths, market_events } = seen;
    let line = format!(
        "{events} events, {announcements} announcements, {received} received, {attempts} attempts at webhooks, \
         {deaths} lives ended, {market_events} events of markets; {rate:.2} ms a world"
    );
    // Nobody may read any more.
    let _ = say(&line);
    match found.as_slice() {
        [] => Ok(()),
        some => {
            let all: Vec<String> = some.iter().map(ToString::to_string).collect();
            Err(SimError::World(format!("{} worlds broke a rule\n{}", some.len(), all.join("\n"))))
        }
    }
}

/// Plays all of them, several at a time.
fn play(args: &WorldArgs, options: &WorldOptions) -> Result<(Seen, Vec<Violation>), SimError> {
    let next = AtomicU64::new(args.from);
    let end = args.from.saturating_add(args.seeds);
    let stop = AtomicBool::new(false);
    let all = Mutex::new((Seen::default(), Vec::new()));
    let work = || {
        let mut mine = Seen::default();
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                break;
            }
            match world::run(seed, options) {
                Ok(seen) => mine.add(seen),
                Err(violation) => {
                    all.lock().1.push(violation);
                    stop.fetch_or(!args.keep_going, Ordering::Relaxed);
                }
            }
        }
        all.lock().0.add(mine);
    };
    thread::scope(|scope| {
        let spawn = |nth: usize| {
            thread::Builder::new()
                .name(format!("world-{nth}"))
                .spawn_scoped(scope, work)
                .map_err(SimError::Thread)
        };
        let spawned = (1..args.jobs.max(1)).map(spawn).collect::<Result<Vec<_>, _>>();
        work();
        spawned.map(drop)
    })?;
    Ok(all.into_inner())
}
