//! Habits that matter, checked instead of remembered: import direction, who may name what, file
//! length, module heads, unfinished work.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// Stages of the core in their order. A stage may import itself and those before it.
const CORE_STAGES: [&[&str]; 9] = [
    &["limits", "time", "model"],
    &["http1"],
    &["ws"],
    &["source"],
    &["detect", "classify"],
    &["score"],
    &["wire"],
    &["market"],
    &["feed", "webhook", "access"],
];

/// Longest file, in lines.
const FILE_LINES: usize = 900;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// Every file below `folder` with one of `endings`, with its text, sorted.
fn files(folder: &str, endings: &[&str]) -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, endings: &[&str], found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !["target", "node_modules", "corpus", "artifacts", "__pycache__"].contains(&name.as_str())
                    && !name.starts_with('.')
                {
                    walk(&path, endings, found);
                }
            } else if endings.iter().any(|e| name.ends_with(e)) {
                found.push((path.clone(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), endings, &mut found);
    found.sort();
    assert!(!found.is_empty(), "no files below {folder}");
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

/// Lines of code: without comments, and up to the tests at the end of the file.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(i, line)| (i + 1, line))
}

fn rank(stage: &str) -> Option<usize> {
    CORE_STAGES.iter().position(|stages| stages.contains(&stage))
}

#[test]
fn core_stages_import_only_earlier_stages() {
    let mut wrong = Vec::new();
    for (path, text) in files("engine/core/src", &[".rs"]) {
        let inside = path.strip_prefix(root().join("engine/core/src")).unwrap();
        let own = inside.iter().next().unwrap().to_string_lossy().replace(".rs", "");
        if own == "lib" {
            continue;
        }
        let own_rank = rank(&own).unwrap_or_else(|| panic!("{own} is in no stage: add it to CORE_STAGES"));
        for (number, line) in code(&text) {
            for part in line.split("crate::").skip(1) {
                let named: String =
                    part.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                let later =
                    rank(&named).is_some_and(|r| r > own_rank || (r == own_rank && r > 0 && named != own));
                if later {
                    wrong.push(format!("{}:{number}: `{own}` imports `{named}`", shown(&path)));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "a stage imports a later or a sibling one:\n{}", wrong.join("\n"));
}

#[test]
fn packages_depend_in_one_direction() {
    let manifest = |package: &str| fs::read_to_string(root().join("engine").join(package).join("Cargo.toml"));
    let dependencies = |package: &str| -> String {
        let text = manifest(package).unwrap();
        text.split("[dev-dependencies]").next().unwrap().split("[dependencies]").nth(1).unwrap().to_owned()
    };
    assert!(!dependencies("core").contains("tocsin"), "core depends on nothing of ours");
    assert!(!dependencies("sim").contains("tocsin."), "sim depends on core alone");
    assert!(!dependencies("tocsin").contains("tocsin-sim"), "tocsin uses sim in tests only");
    for io in ["mio", "tokio", "rustls", "rusqlite", "axum", "crossbeam", "parking_lot"] {
        assert!(!dependencies("core").contains(io), "core names {io}");
    }
}

/// Uses of `unsafe` in code, tests included: blocks, functions, implementations.
fn unsafe_uses(text: &str) -> usize {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let kinds = ["unsafe {", "unsafe fn", "unsafe impl"];
    lines.flat_map(|line| kinds.map(|kind| line.matches(kind).count())).sum()
}

/// docs/security.md lists each file with `unsafe`, how often, and why.
#[test]
fn every_use_of_unsafe_is_in_the_inventory() {
    let page = fs::read_to_string(root().join("docs/security.md")).unwrap();
    let inventory = page.split("## `unsafe`").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = inventory.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split('|');
        let file = cells.next()?.trim().trim_end_matches('`');
        Some((file.to_owned(), cells.next()?.trim().parse::<usize>().ok()?))
    });
    let listed: std::collections::BTreeMap<String, usize> = rows.collect();
    let all = ["engine", "bench", "score"].into_iter().flat_map(|folder| files(folder, &[".rs"]));
    let found: std::collections::BTreeMap<String, usize> = all
        .map(|(path, text)| (shown(&path), unsafe_uses(&text)))
        .filter(|(name, uses)| *uses > 0 && !name.ends_with("tests/tidy.rs"))
        .collect();
    assert_eq!(found, listed, "found, and listed in docs/security.md");
}

/// (where, what nobody there may name, why)
type Ban = (&'static [&'static str], &'static [&'static str], &'static str);

const BANS: &[Ban] = &[
    (
        &["engine/tocsin/src/threads/source", "engine/tocsin/src/threads/feed"],
        &["tracing::", "println!", "eprintln!", "Mutex", "RwLock", "std::fs", "rusqlite", "ToSocketAddrs"],
        "hot threads neither log text, lock, resolve names nor touch disk",
    ),
    (&["engine/tocsin/src/store"], &["rtrb", "mio"], "the store knows no ring and no socket"),
    (&["engine/core/src"], &["println!", "std::env", "SystemTime", "Instant::"], "the core does no I/O"),
];

/// (word, the only places that may name it, why)
const HOMES: &[(&str, &[&str], &str)] = &[
    ("rustls::", &["engine/tocsin/src/net/tls"], "TLS has one home"),
    ("rusqlite::", &["engine/tocsin/src/store"], "SQLite has one home"),
    (
        "rtrb::Producer",
        &[
            "engine/tocsin/src/threads",
            "engine/tocsin/src/topology",
            "engine/tocsin/src/control/bridge",
            "engine/tocsin/src/net/dns",
            "engine/tocsin/src/net/egress",
        ],
        "rings end in threads, in the topology that wires them, in the bridge and in the resolvers",
    ),
];

#[test]
fn nobody_names_what_is_not_theirs() {
    let mut wrong = Vec::new();
    for (path, text) in files("engine", &[".rs"]) {
        let name = shown(&path);
        let is_test = ["/tests/", "/tests.rs", "_tests.rs", "/testing.rs"].iter().any(|t| name.contains(t));
        if !name.contains("/src/") || name.starts_with("engine/sim") || is_test {
            continue;
        }
        for (number, line) in code(&text) {
            for (places, words, why) in BANS {
                if places.iter().any(|p| name.starts_with(p)) {
                    for word in words.iter().filter(|w| line.contains(**w)) {
                        wrong.push(format!("{name}:{number}: names `{word}`: {why}"));
                    }
                }
            }
            for (word, places, why) in HOMES {
                if line.contains(word) && !places.iter().any(|p| name.starts_with(p)) {
                    wrong.push(format!("{name}:{number}: names `{word}`: {why}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_are_short_have_a_head_and_hold_nothing_unfinished() {
    let mut wrong = Vec::new();
    for (path, text) in files("engine", &[".rs"]) {
        let name = shown(&path);
        let lines = text.lines().count();
        if lines > FILE_LINES {
            wrong.push(format!("{name}: {lines} lines, at most {FILE_LINES}"));
        }
        let head = text.lines().find(|l| !l.starts_with("#!")).unwrap_or("");
        if name.contains("/src/") && (!head.starts_with("//! ") || head.contains("(module head)")) {
            wrong.push(format!("{name}: has no module head"));
        }
        if name.ends_with("tests/tidy.rs") {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            for word in ["todo!(", "unimplemented!(", "#[ignore", "TODO", "FIXME"] {
                if line.contains(word) {
                    wrong.push(format!("{name}:{}: {word}", number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_fuzz_target_is_declared_and_every_declared_one_exists() {
    let manifest = fs::read_to_string(root().join("engine/fuzz/Cargo.toml")).unwrap();
    let folder = root().join("engine/fuzz/fuzz_targets");
    let mut found = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        assert!(
            manifest.contains(&format!("fuzz_targets/{name}")),
            "{name} is not in engine/fuzz/Cargo.toml"
        );
        found += 1;
    }
    assert_eq!(found, manifest.matches("fuzz_targets/").count(), "a declared target has no file");
}
