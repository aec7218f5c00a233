//! `docs/testing.md` against the tests it names: every one of them exists, and no test of the feed's
//! specification or of webhook receivers is missing there.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("target") {
                rust_files(&path, found);
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// The test names in the last cell of every row, as `module::name`.
fn named() -> BTreeSet<String> {
    let page = fs::read_to_string(root().join("docs/testing.md")).unwrap();
    let (_, tables) = page.split_once("## The feed's specification").unwrap();
    let rows = tables.lines().filter(|line| line.starts_with('|'));
    let cells = rows.filter_map(|row| row.trim_end_matches('|').rsplit('|').next());
    let names: BTreeSet<String> = cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .filter(|code| code.contains("::"))
        .map(str::to_owned)
        .collect();
    assert!(names.len() > 80, "the tables are read wrongly: {names:?}");
    names
}

/// Names that a module's lists of tests (`both_modes!`, `at_once!`) and `#[test]` make tests.
fn tests_of(text: &str) -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    for list in ["both_modes!(\n", "at_once!(\n"] {
        let lists = text.split(list).skip(1).filter_map(|rest| rest.split(");").next());
        tests.extend(
            lists.flat_map(|l| l.split(',').map(str::trim)).filter(|n| !n.is_empty()).map(str::to_owned),
        );
    }
    for after in text.split("#[test]\nfn ").skip(1) {
        tests.insert(after.split('(').next().unwrap().to_owned());
    }
    tests
}

#[test]
fn every_test_named_in_the_tables_exists() {
    let mut files = Vec::new();
    rust_files(&root().join("engine"), &mut files);
    let texts: Vec<(PathBuf, String)> =
        files.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect();
    let missing: Vec<String> = named()
        .into_iter()
        .filter(|name| {
            let (module, test) = name.split_once("::").unwrap();
            // Tests beside the code stand in its file or in one of these two.
            let places =
                ["{}.rs", "{}/main.rs", "{}/tests.rs", "{}_tests.rs"].map(|p| p.replace("{}", module));
            let holds = |text: &str| text.contains(&format!("fn {test}("));
            !texts.iter().any(|(path, text)| places.iter().any(|p| path.ends_with(p)) && holds(text))
        })
        .collect();
    assert!(missing.is_empty(), "docs/testing.md names tests that do not exist: {missing:#?}");
}

#[test]
fn every_test_of_the_feed_s_specification_is_in_the_tables() {
    let named = named();
    let mut files = Vec::new();
    rust_files(&root().join("engine/tocsin/tests/feed_spec"), &mut files);
    let mut unnamed = Vec::new();
    let mut count = 0;
    for path in files.iter().filter(|path| !path.ends_with("main.rs")) {
        let module = path.file_stem().unwrap().to_string_lossy();
        for test in tests_of(&fs::read_to_string(path).unwrap()) {
            count += 1;
            let name = format!("{module}::{test}");
            // The one that runs the waiting ones at once.
            if test != "everything_that_waits" && !named.contains(&name) {
                unnamed.push(name);
            }
        }
    }
    assert!(count > 70, "the lists are read wrongly: {count}");
    assert!(unnamed.is_empty(), "not in docs/testing.md: {unnamed:#?}");
}

#[test]
fn every_test_of_webhook_receivers_is_in_the_tables() {
    let named = named();
    let text = fs::read_to_string(root().join("engine/tocsin/tests/webhook_clients.rs")).unwrap();
    let names = tests_of(&text).into_iter().map(|test| format!("webhook_clients::{test}"));
    let unnamed: Vec<String> = names.filter(|name| !named.contains(name)).collect();
    assert!(unnamed.is_empty(), "not in docs/testing.md: {unnamed:#?}");
}

#[test]
fn every_list_of_tests_names_functions_of_its_file() {
    let mut files = Vec::new();
    rust_files(&root().join("engine/tocsin/tests/feed_spec"), &mut files);
    for path in files.iter().filter(|path| !path.ends_with("main.rs")) {
        let text = fs::read_to_string(path).unwrap();
        let tests = tests_of(&text);
        for line in text.lines().filter(|line| line.starts_with("fn ") && line.contains("(mode: Mode) {")) {
            let name = line["fn ".len()..].split('(').next().unwrap();
            assert!(tests.contains(name), "{}: {name} is in no list, so it never runs", path.display());
        }
    }
}
