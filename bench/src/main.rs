//! `tocsin-bench`: runs suites and writes what they found.
//!
//! Contract: exit code 0 when every suite measured something, 1 when one failed, 2 for bad arguments.
//! Result files go to `--out`; nothing else is left behind.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tocsin_bench::result::{ResultFile, SCHEMA};
use tocsin_bench::suites::{self, Context};

/// Measures the engine on this machine, beside the floor and its peers.
#[derive(Parser)]
#[command(name = "tocsin-bench", version)]
struct Args {
    /// Suites to run, or `all`.
    #[arg(required = true)]
    suites: Vec<String>,
    /// Small counts and few rounds.
    #[arg(long)]
    quick: bool,
    /// Seed of everything random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where result files go.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// Where peers are installed.
    #[arg(long, env = "TOCSIN_CACHE", default_value = ".cache")]
    cache: PathBuf,
}

fn main() -> ExitCode {
    if let Some(code) = tocsin_bench::engine::hidden() {
        return code;
    }
    let args = Args::parse();
    let context = Context { quick: args.quick, seed: args.seed, cache: args.cache, out: args.out };
    let all = args.suites.iter().any(|name| name == "all");
    let mut file = ResultFile { schema: SCHEMA, environment: BTreeMap::new(), suites: Vec::new() };
    let mut failed = false;
    for suite in suites::ALL.iter().filter(|suite| all || args.suites.iter().any(|name| name == suite.name)) {
        match (suite.run)(&context) {
            Ok(result) => file.suites.push(result),
            Err(error) => {
                eprintln!("{}: {error}", suite.name);
                failed = true;
            }
        }
    }
    let written = std::fs::create_dir_all(&context.out)
        .map_err(|e| format!("{}: {e}", context.out.display()))
        .and_then(|()| file.write(&context.out.join("result.json")));
    if let Err(error) = written {
        eprintln!("{error}");
        failed = true;
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
