//! `tocsin-bench`: runs suites and writes what they found.
//!
//! Contract: exit code 0 when every suite measured something, 1 when one failed, 2 for bad arguments.
//! Progress goes to standard error, the summary to standard output, result files to `--out`; nothing
//! else is left behind.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};
use tocsin_bench::environment::{self, CpuTimes};
use tocsin_bench::result::{ResultFile, SCHEMA};
use tocsin_bench::suites::{self, Context, Suite};
use tocsin_bench::{compare, jitter, lab, report};

/// Measures the engine on this machine, beside the floor and its peers.
#[derive(Parser)]
#[command(name = "tocsin-bench", version, args_conflicts_with_subcommands = true, after_help = suites_help())]
struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Suites to run, or `all`.
    #[arg(value_name = "SUITE")]
    suites: Vec<String>,
    /// Small counts and few rounds.
    #[arg(long)]
    quick: bool,
    /// How long `soak` lasts: 30 when unset, 1 with `--quick`.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    minutes: Option<u32>,
    /// Seed of everything random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where result files go.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// Where peers are installed.
    #[arg(long, env = "TOCSIN_CACHE", default_value = ".cache")]
    cache: PathBuf,
    /// Compare two result files (or folders that hold one) instead.
    #[arg(long, num_args = 2, value_names = ["A", "B"], conflicts_with = "suites")]
    compare: Vec<PathBuf>,
}

#[derive(Subcommand)]
enum Verb {
    /// Compare two result files, or folders that hold one.
    Compare {
        /// The run before.
        a: PathBuf,
        /// The run after.
        b: PathBuf,
    },
    /// Holds client ends for a suite; told what to do on standard input.
    #[command(name = lab::drainer::VERB, hide = true)]
    Drain {
        /// The core to stay on.
        #[arg(long)]
        core: Option<usize>,
    },
}

fn suites_help() -> String {
    let lines = |of: &[Suite]| -> String {
        of.iter().map(|suite| format!("  {:12} {}\n", suite.name, suite.about)).collect()
    };
    let (all, apart) = (lines(suites::ALL), lines(suites::APART));
    format!("Suites, in the order of `all`:\n{all}\nOnly by name:\n{apart}")
}

fn main() -> ExitCode {
    let hidden = tocsin_bench::peers::hidden_verb().or_else(tocsin_bench::engine::hidden);
    if let Some(code) = hidden {
        return code;
    }
    let args = Args::parse();
    match (&args.verb, args.compare.as_slice()) {
        (Some(Verb::Compare { a, b }), _) => compare_files(a, b),
        (Some(Verb::Drain { core }), _) => lab::drainer::run(*core),
        (None, [a, b]) => compare_files(a, b),
        (None, _) => match chosen(&args.suites) {
            Ok(chosen) => run(&args, &chosen),
            Err(error) => {
                eprintln!("{error}");
                ExitCode::from(2)
            }
        },
    }
}

fn compare_files(a: &Path, b: &Path) -> ExitCode {
    let read = |path: &Path| {
        let inside = path.join("result.json");
        ResultFile::read(if path.is_dir() { &inside } else { path })
    };
    match read(a).and_then(|a| read(b).map(|b| compare::compare(&a, &b))) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The suites named, in the order of the list.
fn chosen(names: &[String]) -> Result<Vec<&'static Suite>, String> {
    let every = || suites::ALL.iter().chain(suites::APART);
    let known = || every().map(|suite| suite.name).chain(["all"]);
    let all: Vec<&str> = known().collect();
    if names.is_empty() {
        return Err(format!("no suite named; there are {}", all.join(", ")));
    }
    for name in names {
        if !known().any(|k| k == name) {
            let near = known().max_by(|a, b| strsim::jaro(a, name).total_cmp(&strsim::jaro(b, name)));
            let near = near.filter(|near| strsim::jaro(near, name) > 0.7);
            let hint = near.map_or_else(String::new, |near| format!(", did you mean `{near}`?"));
            return Err(format!("no suite is called `{name}`{hint} There are {}.", all.join(", ")));
        }
    }
    let named = |suite: &Suite| names.iter().any(|name| name == suite.name);
    let all = names.iter().any(|name| name == "all");
    let in_all = |suite: &Suite| suites::ALL.iter().any(|one| one.name == suite.name);
    Ok(every().filter(|suite| named(suite) || all && in_all(suite)).collect())
}

fn run(args: &Args, chosen: &[&Suite]) -> ExitCode {
    let context = Context {
        quick: args.quick,
        minutes: args.minutes,
        seed: args.seed,
        cache: args.cache.clone(),
        out: args.out.clone(),
    };
    let root = Path::new("/");
    let mut environment = environment::block(root, args.seed, args.quick);
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build: it shows that all works, its figures mean nothing");
    }
    let before = CpuTimes::read(root);
    let mut file = ResultFile { schema: SCHEMA, environment: environment.clone(), suites: Vec::new() };
    let mut failed = false;
    let mut one = |name: &str, measure: &dyn Fn() -> Result<_, String>| {
        let started = Instant::now();
        eprintln!("{name} ...");
        match measure() {
            Ok(result) => {
                eprintln!("{name}: {:.1} s", started.elapsed().as_secs_f64());
                file.suites.push(result);
            }
            Err(error) => {
                eprintln!("{name}: {error}");
                failed = true;
            }
        }
    };
    one("jitter", &|| jitter::probe(args.quick));
    for suite in chosen {
        one(suite.name, &|| (suite.run)(&context));
    }
    environment::finish(&mut environment, before, CpuTimes::read(root));
    file.environment = environment;
    print!("{}", report::text::summary(&file));
    match report::write(&file, &context.out) {
        Ok(()) => eprintln!("written: {}", context.out.join("report.html").display()),
        Err(error) => {
            eprintln!("{error}");
            failed = true;
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
        let parse = |line: &str| Args::try_parse_from(line.split(' '));
        let args = parse("tocsin-bench all --quick --seed 7").unwrap();
        assert!(args.quick && args.seed == 7 && args.suites == ["all"]);
        assert_eq!(parse("tocsin-bench --compare a b").unwrap().compare.len(), 2);
        assert!(matches!(parse("tocsin-bench compare a b").unwrap().verb, Some(Verb::Compare { .. })));
        assert!(parse("tocsin-bench --compare a").is_err());
    }

    #[test]
    fn an_unknown_suite_is_an_error_that_names_the_nearest() {
        let of = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            chosen(&names).map(|chosen| chosen.len())
        };
        assert_eq!(of(&["all"]), Ok(suites::ALL.len()));
        assert_eq!(of(&["fanout"]), Ok(1));
        assert_eq!(of(&["soak"]), Ok(1));
        assert_eq!(of(&["soak", "all"]), Ok(suites::ALL.len() + 1));
        assert!(of(&["fanuot"]).unwrap_err().contains("did you mean `fanout`?"));
        let error = of(&["fanout", "zzz"]).unwrap_err();
        assert!(
            error.contains("`zzz`") && !error.contains("did you mean") && error.contains("fanout, "),
            "{error}"
        );
        assert!(of(&[]).is_err());
    }
}
