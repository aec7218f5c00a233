//! The programs of `docs/webhooks.md` that verify a signature, taken out of the page and run: each is
//! put beside a driver of its language and asked about many requests.

pub mod verify;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{installed, repository};

/// The languages that need a program of their own; Rust is compiled into the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    Python,
    Node,
    Php,
    Go,
    Java,
}

/// Something to verify.
#[derive(Clone, Debug)]
pub enum Question {
    /// The specification's header.
    Specified { body: Vec<u8>, header: String, secret: String },
    /// That of Standard Webhooks.
    Standard {
        body: Vec<u8>,
        id: String,
        timestamp: String,
        header: String,
        secret: String,
        /// The verifier's clock, in seconds.
        now: i64,
    },
}

impl Question {
    /// As the drivers read it.
    fn line(&self) -> String {
        let (kind, body, texts) = match self {
            Question::Specified { body, header, secret } => {
                ("specified", body, vec![header.clone(), secret.clone()])
            }
            Question::Standard { body, id, timestamp, header, secret, now } => {
                let texts = [id, timestamp, header, secret].map(Clone::clone);
                ("standard", body, texts.into_iter().chain([now.to_string()]).collect())
            }
        };
        let mut line = format!("{kind} {}", STANDARD.encode(body));
        for text in texts {
            write!(line, " {}", STANDARD.encode(text)).unwrap();
        }
        line
    }

    /// What the Rust of the page says.
    pub fn ask_rust(&self) -> bool {
        match self {
            Question::Specified { body, header, secret } => verify::verify(body, header, secret),
            Question::Standard { body, id, timestamp, header, secret, now } => {
                verify::verify_standard(body, id, timestamp, header, secret, *now)
            }
        }
    }
}

pub fn page() -> String {
    std::fs::read_to_string(repository().join("docs/webhooks.md")).unwrap()
}

/// The text of the only fenced block of this language.
pub fn block(language: &str) -> String {
    let page = page();
    let blocks: Vec<&str> = page
        .split(&format!("\n```{language}\n"))
        .skip(1)
        .map(|rest| rest.split("\n```\n").next().unwrap())
        .collect();
    let [block] = blocks[..] else { panic!("docs/webhooks.md has {} blocks of {language}", blocks.len()) };
    format!("{block}\n")
}

/// What the page's program in a language says of each question.
pub fn ask(language: Language, questions: &[Question]) -> Vec<bool> {
    let dir = tempfile::tempdir().unwrap();
    let mut command = prepare(language, dir.path());
    command.current_dir(&dir).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let mut stdin = child.stdin.take().unwrap();
    let lines: String = questions.iter().map(|question| question.line() + "\n").collect();
    // Beside the wait: both pipes may fill up.
    let writer = std::thread::spawn(move || drop(stdin.write_all(lines.as_bytes())));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{language:?}: {errors}");
    let answers = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<bool> =
        answers.lines().map(|line| line.parse().unwrap_or_else(|_| panic!("{language:?}: {line}"))).collect();
    assert_eq!(answers.len(), questions.len(), "{language:?}: {errors}");
    answers
}

/// Puts the page's program and its driver into `dir`; how to run them there.
fn prepare(language: Language, dir: &Path) -> Command {
    let put = |block_of: &str, name: &str, driver: &str| {
        let file = dir.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, block(block_of)).unwrap();
        let drivers = repository().join("engine/tocsin/tests/receivers/snippets");
        std::fs::copy(drivers.join(driver), dir.join(driver)).unwrap();
    };
    match language {
        Language::Python => {
            put("python", "verify.py", "driver.py");
            let mut python = Command::new(installed("python/bin/python"));
            python.args(["-B", "-W", "error", "driver.py"]);
            python
        }
        Language::Node => {
            put("js", "verify.mjs", "driver.mjs");
            let mut node = Command::new("node");
            node.arg("driver.mjs");
            node
        }
        Language::Php => {
            put("php", "verify.php", "driver.php");
            let mut php = Command::new("php");
            php.arg("driver.php");
            php
        }
        Language::Go => {
            put("go", "webhook/verify.go", "driver.go");
            std::fs::write(dir.join("go.mod"), "module example\n\ngo 1.19\n").unwrap();
            let mut go = Command::new("go");
            // Nothing of it is fetched, and what is built of the standard library is kept.
            go.envs([("GOFLAGS", "-mod=mod"), ("GOPROXY", "off"), ("GOTOOLCHAIN", "local")]);
            go.env("GOCACHE", installed("node").with_file_name("go-build")).env("GOPATH", dir.join("path"));
            go.args(["run", "."]);
            go
        }
        Language::Java => {
            put("java", "Webhook.java", "Driver.java");
            let mut javac = Command::new("javac");
            javac.current_dir(dir).args(["-Werror", "-Xlint:all", "Driver.java", "Webhook.java"]);
            let compiled = javac.output().unwrap_or_else(|e| panic!("{javac:?}: {e}"));
            assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
            let mut java = Command::new("java");
            java.args(["-Xmx64m", "-XX:TieredStopAtLevel=1", "-cp", ".", "Driver"]);
            java
        }
    }
}
