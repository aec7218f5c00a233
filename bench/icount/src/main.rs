//! `tocsin-icount`: counts the instructions of every stage and compares them with `baseline.json`.
//!
//! Contract: runs `cargo bench` of this package, reads callgrind's counts from the harness, prints one table on
//! standard output and says on standard error what is wrong. It blocks until the benchmarks have run, about
//! half a minute after they are built. Exit codes: 0 no stage grew by more than 3 % and the stages are those
//! of the baseline; 1 otherwise, or if nothing could be counted; 2 wrong usage. Needs `valgrind` and the
//! harness's `gungraun-runner` on the path: `scripts/icount` sees to both.

mod baseline;
mod counting;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use baseline::{Baseline, Change};
use counting::Toolchain;

const USAGE: &str = "usage: scripts/icount [--write-baseline]";
/// What to type once a change of counts is meant.
const WRITE: &str = "./scripts/icount --write-baseline";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let write = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--write-baseline"] => true,
        ["--help" | "-h"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            say(USAGE);
            return ExitCode::from(2);
        }
    };
    match run(write) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            say(&format!("icount: {why}"));
            ExitCode::FAILURE
        }
    }
}

/// A line on standard error. Nowhere is left to say that this failed.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Whether the counts stand.
fn run(write: bool) -> Result<bool, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("baseline.json");
    let here = Toolchain::read()?;
    if write {
        let new = Baseline { toolchain: here, instructions: counting::count()? };
        let old = Baseline::read(&path).map(|old| old.instructions).unwrap_or_default();
        print!("{}", baseline::table(&baseline::changes(&old, &new.instructions)));
        new.write(&path)?;
        return Ok(true);
    }
    let known = Baseline::read(&path)?;
    if let Some(difference) = known.toolchain.makes_other_code(&here) {
        return Err(format!("{difference}: the counts cannot be compared; write a new baseline: {WRITE}"));
    }
    let changes = baseline::changes(&known.instructions, &counting::count()?);
    print!("{}", baseline::table(&changes));
    let stands = changes.iter().all(Change::stands);
    if !stands {
        say(&format!(
            "icount: a stage grew by more than {} %, or the stages are not those of the baseline; if it is meant, \
             commit the new baseline along: {WRITE}",
            baseline::ALLOWED_PER_CENT
        ));
        if let Some(difference) = known.toolchain.runs_other_code(&here) {
            say(&format!("icount: part of it may be this machine: {difference}"));
        }
    } else if changes.iter().any(Change::is_better) {
        say(&format!("icount: a stage got better; commit what holds it there: {WRITE}"));
    }
    Ok(stands)
}
