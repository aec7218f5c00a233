//! `tocsin-sim`: simulated exchanges and webhook receivers as a program, for the demo and for trying
//! things by hand, and seeded worlds in virtual time. Exit codes: 0 done, 1 failed, 2 wrong usage.

mod command;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use command::{exchange, receiver, world};

/// Simulated crypto exchanges and webhook receivers for Tocsin's demo and tests, and seeded worlds.
#[derive(Parser)]
#[command(version, about, args_conflicts_with_subcommands = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Without a command: as `world`.
    #[command(flatten)]
    world: world::WorldArgs,
}

#[derive(Subcommand)]
enum Verb {
    /// Serve exchanges' announcement lists, markets and push streams on loopback until killed.
    Exchange(exchange::ExchangeArgs),
    /// Take webhooks over TLS, verify and print them, and answer as badly as asked, until killed.
    Receiver(receiver::ReceiverArgs),
    /// Play seeded worlds in virtual time: the engine's core with faults all around it, and checkers.
    World(world::WorldArgs),
}

fn main() -> ExitCode {
    let Cli { verb, world } = Cli::parse();
    let done = match verb {
        Some(Verb::Exchange(args)) => exchange::run(&args),
        Some(Verb::Receiver(args)) => receiver::run(&args),
        Some(Verb::World(args)) => world::run(&args),
        None => world::run(&world),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // Nowhere is left to say that this failed.
            let _ = writeln!(io::stderr(), "tocsin-sim: {e}");
            ExitCode::FAILURE
        }
    }
}
