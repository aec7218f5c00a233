//! `tocsin-sim`: simulated exchanges and webhook receivers as a program, for the demo and for trying
//! things by hand. Exit codes: 0 done, 1 failed, 2 wrong usage.

mod command;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use command::{exchange, receiver};

/// Simulated crypto exchanges and webhook receivers for Tocsin's demo and tests.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Serve exchanges' announcement lists, markets and push streams on loopback until killed.
    Exchange(exchange::ExchangeArgs),
    /// Take webhooks over TLS, verify and print them, and answer as badly as asked, until killed.
    Receiver(receiver::ReceiverArgs),
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Exchange(args) => exchange::run(&args),
        Verb::Receiver(args) => receiver::run(&args),
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
