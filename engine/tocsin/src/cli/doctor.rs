//! `tocsin doctor`: looks at the machine and says what to change.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::CliError;
use crate::config::Config;
use crate::doctor::{CHECKS, Check, Found, Host, Level, Measured, Wants};

/// Arguments of `tocsin doctor`.
#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// As one JSON object.
    #[arg(long)]
    json: bool,
    /// Read /proc, /sys and /etc below this directory: a copy of another host's files. What no file
    /// says is then unknown.
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

/// Runs it: exit code 1 when something is bad.
///
/// # Errors
/// The root is not there, or standard output takes nothing.
pub fn run(args: &DoctorArgs, config: &Config) -> Result<ExitCode, CliError> {
    if !args.root.is_dir() {
        return Err(CliError::usage(format!("--root {}: no such directory", args.root.display())));
    }
    let mut wants = Wants::new(config);
    let measured = match args.root == Path::new("/") {
        true => Measured::take(&wants),
        false => Measured::default(),
    };
    if args.root != Path::new("/") {
        wants.service = None;
    }
    let host = Host::new(&args.root, wants, measured);
    let found: Vec<(&Check, Found)> = CHECKS.iter().map(|check| (check, check.run(&host))).collect();
    let bad = found.iter().any(|(_, found)| found.level == Level::Bad);
    super::print(&if args.json { format!("{}\n", as_json(&found)) } else { for_people(&found) })?;
    Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn count(found: &[(&Check, Found)], level: Level) -> usize {
    found.iter().filter(|(_, f)| f.level == level).count()
}

fn as_json(found: &[(&Check, Found)]) -> Value {
    let check = |(check, found): &(&Check, Found)| {
        json!({
            "id": check.id,
            "title": check.title,
            "level": found.level.name(),
            "saw": found.saw,
            "fix": found.fix,
        })
    };
    let levels = [Level::Ok, Level::Unknown, Level::Warn, Level::Bad];
    let counts: serde_json::Map<String, Value> =
        levels.iter().map(|level| (level.name().to_owned(), count(found, *level).into())).collect();
    json!({"checks": found.iter().map(check).collect::<Value>(), "counts": counts})
}

fn for_people(found: &[(&Check, Found)]) -> String {
    let mut text = String::new();
    for (check, found) in found {
        // Files of another host may hold control characters; a terminal must not see them.
        let clean = |text: &str| text.chars().filter(|c| !c.is_control()).collect::<String>();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:<7} {:<19} {}", found.level.name(), check.id, clean(&found.saw));
        if let Some(fix) = &found.fix {
            let verb = if found.level == Level::Unknown { "see" } else { "fix" };
            let _ = writeln!(text, "        {verb}: {}", clean(fix));
        }
    }
    let _ = writeln!(
        text,
        "{} ok, {} warnings, {} bad, {} unknown",
        count(found, Level::Ok),
        count(found, Level::Warn),
        count(found, Level::Bad),
        count(found, Level::Unknown),
    );
    text
}
