//! The commands of docs/operating.md that back the service up and restore it, run as they stand there.

use std::process::Command;

use crate::harness::{Engine, Mode};

/// The block of commands that begins with a comment.
fn block(name: &str) -> String {
    let page = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operating.md"));
    let begin = format!("```bash\n# {name}\n");
    let (_, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("no block `# {name}`"));
    rest.split("```").next().unwrap().to_owned()
}

#[test]
fn what_the_page_says_backs_up_and_restores() {
    let mut engine = Engine::start(Mode::Plain, "");
    let backups = tempfile::tempdir().unwrap();
    // Other places and no user of its own; systemctl is the test's part.
    let run = |commands: &str, engine: &Engine| {
        let script = commands
            .replace("/var/lib/tocsin", engine.data_dir().to_str().unwrap())
            .replace("/var/backups/tocsin", backups.path().join("tocsin").to_str().unwrap())
            .replace("-o tocsin -g tocsin ", "");
        let script: String =
            script.lines().filter(|line| !line.starts_with("systemctl ")).map(|l| format!("{l}\n")).collect();
        let output = Command::new("bash").args(["-eu", "-c", &script]).output().unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let key = engine.key();
    engine.inject("binance", "Binance Will List Token Example (TKNX)");
    let account = engine.cli_json(&["accounts", "create", "--name", "a", "--plan", "phantom"]);
    let before = crate::harness::exchange::history(&engine, 1);
    assert_eq!(run(&block("backup"), &engine), "ok\n", "integrity_check");

    // What comes after the backup is what a restore loses, and all that it loses.
    engine.inject("binance", "Binance Will List Another Example (TKNY)");
    assert_eq!(engine.stop(), Some(0));
    run(&block("restore"), &engine);
    engine.start_again();
    assert_eq!(crate::harness::exchange::history(&engine, 1), before);
    let mut client = engine.connect(&key, "");
    engine.inject("binance", "Binance Will List Token Example (TKNZ)");
    assert_eq!(client.json()["type"], "announcement");
    let accounts = engine.cli_json(&["accounts", "list"]);
    assert_eq!(accounts["accounts"][0]["id"], account["id"], "{accounts}");
    assert_eq!(engine.stop(), Some(0));
}
