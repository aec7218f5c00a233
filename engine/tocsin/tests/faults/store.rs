//! A damaged store, and the way back that docs/operating.md describes.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::harness::exchange::{assert_nothing_twice, history};
use crate::harness::{Engine, Mode};

/// Announcements: a few pages of them.
const COUNT: usize = 150;

/// The block of commands of the page that begins with this comment.
fn block(name: &str) -> String {
    let page = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operating.md"));
    let begin = format!("```bash\n# {name}\n");
    let (_, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("no block `# {name}`"));
    rest.split("```").next().unwrap().to_owned()
}

/// The start refuses and names file and remedy; the page's commands bring back what can be read, and the
/// service serves it: keys, and history without repeats.
#[test]
fn a_damaged_store_is_refused_and_rebuilt_as_the_page_says() {
    let mut engine = Engine::start(Mode::Plain, "");
    let key = engine.key();
    for number in 0..COUNT {
        let title = format!("Binance Will List Sample {number} (SMP{number})");
        let body = json!({"exchange": "binance", "title": title});
        engine.admin("POST", "/admin/v1/announcements", Some(&body));
    }
    history(&engine, COUNT);
    assert_eq!(engine.stop(), Some(0));
    let database = engine.data_dir().join("tocsin.db");
    let mut bytes = fs::read(&database).unwrap();
    let page = leaf_of_announcements(&database);
    bytes[page].fill(0xA5);
    fs::write(&database, &bytes).unwrap();

    let refused = Command::new(env!("CARGO_BIN_EXE_tocsin"))
        .args(["serve", "--config"])
        .arg(engine.config())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{words}");
    assert!(words.contains(&format!("{} is damaged", database.display())), "{words}");
    assert!(words.contains("A damaged store") && words.contains("restore a backup"), "{words}");

    let script: String = block("rebuild")
        .replace("/var/lib/tocsin", engine.data_dir().to_str().unwrap())
        .replace("chown tocsin:tocsin", "true")
        .lines()
        .filter(|line| !line.starts_with("systemctl "))
        .map(|line| format!("{line}\n"))
        .collect();
    let output = Command::new("bash").args(["-eu", "-c", &script]).output().unwrap();
    assert!(output.status.success(), "{script}: {output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ok\n", "integrity_check");

    engine.start_again();
    assert_eq!(engine.epoch, 2);
    let mut client = engine.connect(&key, "fields=full");
    let page = engine.cli_json(&["history", "--after", "0:0", "--limit", "500"]);
    let kept = page["announcements"].as_array().unwrap();
    assert!(kept.len() >= COUNT / 2 && kept.len() < COUNT, "one page of it is lost: {}", kept.len());
    assert_nothing_twice(kept);
    engine.inject("binance", "Binance Will List Another (ANTH)");
    assert_eq!(client.json_of("announcement")["ticker"], "ANTH");
    history(&engine, kept.len() + 1);
}

/// Where in the file the middle page with rows of history lies.
fn leaf_of_announcements(database: &std::path::Path) -> std::ops::Range<usize> {
    let connection = rusqlite::Connection::open(database).unwrap();
    let sql = "SELECT pgoffset, pgsize FROM dbstat WHERE name = 'announcements' AND pagetype = 'leaf'";
    let mut statement = connection.prepare(sql).unwrap();
    let pages = statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))).unwrap();
    let pages: Vec<_> = pages.map(Result::unwrap).collect();
    let (offset, size) = pages[pages.len() / 2];
    let from = usize::try_from(offset).unwrap();
    from..from + usize::try_from(size).unwrap()
}
