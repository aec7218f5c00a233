//! Tells the harness what it was built from and how: commit, compiler, profile. What cannot be found
//! is `unknown`.

use std::process::Command;

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().ok().filter(|o| o.status.success());
    let text = output.and_then(|o| String::from_utf8(o.stdout).ok()).unwrap_or_default();
    let text = text.trim();
    if text.is_empty() { "unknown".to_owned() } else { text.to_owned() }
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| "unknown".to_owned())
}

fn main() {
    let commit = said("git", &["rev-parse", "--short=12", "HEAD"]);
    println!("cargo::rustc-env=TOCSIN_COMMIT={commit}");
    println!("cargo::rustc-env=TOCSIN_RUSTC={}", said(&variable("RUSTC"), &["-V"]));
    let (profile, level) = (variable("PROFILE"), variable("OPT_LEVEL"));
    println!("cargo::rustc-env=TOCSIN_PROFILE={profile}, optimisation level {level}");
    println!("cargo::rerun-if-changed=build.rs");
    // A path that is not there would make every build start here again.
    let head = said("git", &["rev-parse", "--path-format=absolute", "--git-path", "logs/HEAD"]);
    if std::path::Path::new(&head).exists() {
        println!("cargo::rerun-if-changed={head}");
    }
}
