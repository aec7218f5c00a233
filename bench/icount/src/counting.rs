//! Runs the benchmarks and reads what callgrind counted, and with which tools.
//!
//! Contract: starts `cargo`, `rustc`, `valgrind` and `getconf` and waits for them. Fails with one sentence that names
//! the program that failed and shows what it said.

use std::collections::BTreeMap;
use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

/// Instructions of every benchmark, by `function.case`.
pub(crate) type Counts = BTreeMap<String, u64>;

/// What counts depend on besides the code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Toolchain {
    /// `rustc --version`.
    pub(crate) rustc: String,
    /// Instruction set of the machine (`x86_64`).
    pub(crate) arch: String,
    /// `valgrind --version`: its emulated processor is what code that asks for features sees.
    pub(crate) valgrind: String,
    /// The C library, whose `memcpy` and `malloc` are counted too.
    pub(crate) libc: String,
    /// Whether the machine has AVX2: only then does the emulated processor have it.
    pub(crate) avx2: bool,
}

impl Toolchain {
    /// That of this machine.
    ///
    /// # Errors
    /// A program is missing.
    pub(crate) fn read() -> Result<Toolchain, String> {
        Ok(Toolchain {
            rustc: said(
                Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())).arg("--version"),
            )?,
            arch: env::consts::ARCH.to_owned(),
            valgrind: said(Command::new("valgrind").arg("--version"))?,
            libc: said(Command::new("getconf").arg("GNU_LIBC_VERSION"))?,
            avx2: has_avx2(),
        })
    }

    /// Why code compiled `there` is another program, if it is.
    pub(crate) fn makes_other_code(&self, there: &Toolchain) -> Option<String> {
        let fields = [(&self.rustc, &there.rustc), (&self.arch, &there.arch)];
        let (ours, theirs) = fields.into_iter().find(|(ours, theirs)| ours != theirs)?;
        Some(format!("the baseline was counted with {ours}, this is {theirs}"))
    }

    /// Why the same program may run other code `there`, if it may.
    pub(crate) fn runs_other_code(&self, there: &Toolchain) -> Option<String> {
        if self.avx2 != there.avx2 {
            let has = |avx2| if avx2 { "with" } else { "without" };
            return Some(format!(
                "the baseline was counted {} AVX2, this is {}",
                has(self.avx2),
                has(there.avx2)
            ));
        }
        let fields = [(&self.valgrind, &there.valgrind), (&self.libc, &there.libc)];
        let (ours, theirs) = fields.into_iter().find(|(ours, theirs)| ours != theirs)?;
        Some(format!("the baseline was counted with {ours}, this is {theirs}"))
    }
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    std::arch::is_x86_feature_detected!("avx2")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx2() -> bool {
    false
}

/// What a program wrote on standard output.
fn said(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|e| format!("{name}: {e}"))?;
    if !output.status.success() {
        return Err(format!(
            "{name}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        ));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Builds and runs the benchmarks.
///
/// # Errors
/// They could not be built or run, or what came of it is not a count.
pub(crate) fn count() -> Result<Counts, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut bench = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    bench.current_dir(root);
    // Options of the harness in the environment would change what is counted, and the path of its runner would
    // become part of the program.
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("GUNGRAUN_") {
            bench.env_remove(name);
        }
    }
    // The harness clears the environment but for this one, which cargo makes longer in a longer directory: where
    // the stack begins, and so how buffers on it are aligned, would depend on that.
    let target = format!("CARGO_TARGET_{}_UNKNOWN_LINUX_GNU_RUNNER", env::consts::ARCH.to_uppercase());
    bench.env(target, "env --unset=LD_LIBRARY_PATH");
    // The profile is this program's own: what is compiled for one serves the other.
    bench.args(["bench", "--quiet", "--locked", "--profile", "icount", "--bench", "stages", "--"]);
    bench.args(["--output-format=json", "--callgrind-args=--cache-sim=no"]);
    counts(&said(bench.stdin(Stdio::null()))?)
}

/// One line of the harness: a benchmark that has run.
#[derive(Deserialize)]
struct Summary {
    function_name: String,
    id: Option<String>,
    profiles: Vec<Profile>,
}

#[derive(Deserialize)]
struct Profile {
    tool: String,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    total: Total,
}

#[derive(Deserialize)]
struct Total {
    metrics: Metrics,
}

#[derive(Deserialize)]
struct Metrics {
    /// Instructions read.
    #[serde(rename = "Ir")]
    instructions: Metric,
}

#[derive(Deserialize)]
struct Metric {
    values: Values,
}

#[derive(Deserialize)]
struct Values {
    new: u64,
}

fn counts(lines: &str) -> Result<Counts, String> {
    let mut counts = Counts::new();
    for line in lines.lines() {
        let read = serde_json::from_str::<Summary>(line);
        let Summary { function_name, id, profiles } =
            read.map_err(|e| format!("not a summary: {e}: {line}"))?;
        let name = format!("{function_name}.{}", id.unwrap_or_default());
        let callgrind = profiles.into_iter().find(|profile| profile.tool == "Callgrind");
        let callgrind = callgrind.ok_or_else(|| format!("{name}: callgrind did not run"))?;
        counts.insert(name, callgrind.data.total.metrics.instructions.values.new);
    }
    if counts.is_empty() { Err("no benchmark has run".to_owned()) } else { Ok(counts) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = concat!(
        r#"{"function_name":"sign","id":"one","other":[],"profiles":[{"tool":"Callgrind","data":{"parts":[],"#,
        r#""total":{"metrics":{"Ir":{"values":{"new":42,"old":41}},"L1hits":{"values":{"old":1}}}}}}]}"#
    );

    #[test]
    fn counts_are_read_by_name() {
        let read =
            counts(&format!("{LINE}\n{}", LINE.replace("\"one\"", "\"two\"").replace("42", "7"))).unwrap();
        assert_eq!(read, Counts::from([("sign.one".to_owned(), 42), ("sign.two".to_owned(), 7)]));
        for not_read in ["", "{}", &LINE.replace("Callgrind", "DHAT"), &LINE.replace("\"Ir\"", "\"Dr\"")] {
            assert!(counts(not_read).is_err(), "{not_read}");
        }
    }

    #[test]
    fn another_compiler_makes_other_code_and_another_library_runs_it() {
        let here = Toolchain {
            rustc: "rustc 1".to_owned(),
            arch: "x86_64".to_owned(),
            valgrind: "valgrind-3".to_owned(),
            libc: "glibc 2".to_owned(),
            avx2: true,
        };
        assert_eq!((here.makes_other_code(&here), here.runs_other_code(&here)), (None, None));
        let newer = Toolchain { rustc: "rustc 2".to_owned(), ..here.clone() };
        let why = here.makes_other_code(&newer).unwrap();
        assert!(why.contains("rustc 1") && why.contains("rustc 2"), "{why}");
        for other in [
            Toolchain { libc: "glibc 3".to_owned(), ..here.clone() },
            Toolchain { valgrind: "valgrind-4".to_owned(), ..here.clone() },
            Toolchain { avx2: false, ..here.clone() },
        ] {
            assert!(here.makes_other_code(&other).is_none() && here.runs_other_code(&other).is_some());
        }
    }
}
