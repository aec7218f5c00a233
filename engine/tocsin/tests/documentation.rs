//! `docs/testing.md` against the tests it names in its tables: every one of them exists, and no test of the feed's
//! specification or of webhooks is missing there. The pages' commands are ones that there are.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser as _;

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
    let (_, tables) = page.split_once("## What is proven of the hot path").unwrap();
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

/// Files and folders of tests that the tables on webhooks must be complete in.
const WEBHOOK_TESTS: [&str; 15] = [
    "cli_webhooks.rs",
    "mail/main.rs",
    "mail/secrets.rs",
    "ssrf/main.rs",
    "webhook_api.rs",
    "webhook_clients.rs",
    "webhook_clients_engine.rs",
    "webhook_crash/main.rs",
    "webhook_engine.rs",
    "webhook_receivers/answers.rs",
    "webhook_receivers/connections.rs",
    "webhook_receivers/every_case.rs",
    "webhook_receivers/names.rs",
    "webhook_secrets.rs",
    "webhook_thread.rs",
];

#[test]
fn every_test_of_webhooks_is_in_the_tables() {
    let named = named();
    let mut unnamed = Vec::new();
    for file in WEBHOOK_TESTS {
        let module = file.trim_end_matches(".rs").trim_end_matches("/main");
        let module = module.rsplit('/').next().unwrap();
        let text = fs::read_to_string(root().join("engine/tocsin/tests").join(file)).unwrap();
        let tests = tests_of(&text);
        assert!(!tests.is_empty(), "{file} is read wrongly");
        let names = tests.into_iter().map(|test| format!("{module}::{test}"));
        unnamed.extend(names.filter(|name| !named.contains(name)));
    }
    assert!(unnamed.is_empty(), "not in docs/testing.md: {unnamed:#?}");
}

/// What the pages would have a reader type is what the program takes.
#[test]
fn every_command_of_the_pages_is_one_that_there_is() {
    let mut pages = vec![root().join("README.md")];
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        pages.extend(Some(entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "md")));
    }
    let mut count = 0;
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for block in text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()) {
            for line in block.lines().map(|line| line.trim_start_matches("./target/release/")) {
                if !line.starts_with("tocsin ") {
                    continue;
                }
                count += 1;
                let words = shell_words(line);
                let read = tocsin::cli::Cli::try_parse_from(&words);
                assert!(read.is_ok(), "{}: {line}: {}", page.display(), read.unwrap_err());
            }
        }
    }
    assert!(count > 20, "the pages are read wrongly: {count}");
}

/// Words of a command up to a comment or redirection; single and double quotes hold together.
fn shell_words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in line.chars().chain([' ']) {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, ' ') if word.is_empty() => {}
            (None, ' ') => words.push(std::mem::take(&mut word)),
            (None, '#' | '>') if word.is_empty() => break,
            (_, c) => word.push(c),
        }
    }
    words
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
