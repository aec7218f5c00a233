//! `tocsin-sim receiver`, driven as a user drives it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use serde_json::Value;

use crate::client::{Client, tls_config};
use crate::post;
use crate::records::{SECRET, signed};

/// A running receiver, killed when dropped.
struct Program {
    child: Child,
    out: BufReader<ChildStdout>,
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tocsin-sim"));
    command.arg("receiver").args(args);
    command
}

impl Program {
    fn start(args: &[&str]) -> Program {
        let mut child = command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Program { child, out }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn dial(base_url: &str, ca_file: &str) -> Client {
    let addr: SocketAddr = base_url.trim().strip_prefix("https://").unwrap().parse().unwrap();
    Client::tls(addr, &tls_config(&fs::read_to_string(ca_file).unwrap())).unwrap()
}

#[test]
fn it_prints_each_delivery_as_json() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (ca, announce, secret) = (file("ca.pem"), file("where.json"), file("secret"));
    let mut program = Program::start(&[
        "--ca-out",
        &ca,
        "--announce-to",
        &announce,
        "--secret-file",
        &secret,
        "--behave",
        "/a=status/500,ok",
        "--json",
        "--until-stdin-ends",
    ]);
    let located: Value = serde_json::from_str(&program.line()).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&fs::read(&announce).unwrap()).unwrap(), located);
    assert_eq!(located["receiver"]["ca_file"], ca);
    let mut client = dial(located["receiver"]["base_url"].as_str().unwrap(), &ca);
    let mut ask = |body: &str| {
        client.write(&post("/a", &signed(SECRET, "cxp_1", body), body)).unwrap();
        client.reply().unwrap().status
    };
    assert_eq!(ask("{}"), 500);
    let first: Value = serde_json::from_str(&program.line()).unwrap();
    assert_eq!((&first["signature"], &first["behaviour"]), (&"unchecked".into(), &"status/500".into()));
    // The secret may come later than the receiver.
    fs::write(&secret, format!("{SECRET}\n")).unwrap();
    assert_eq!(ask("{}"), 200);
    let second: Value = serde_json::from_str(&program.line()).unwrap();
    assert_eq!((&second["signature"], &second["attempt"]), (&"valid".into(), &2.into()));
    assert!(second["latency_us"].is_i64() && second["request_of_connection"] == 2);
    drop(program.child.stdin.take());
    assert!(program.child.wait().unwrap().success(), "it ends with its standard input");
}

#[test]
fn it_prints_each_delivery_as_text() {
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem").to_str().unwrap().to_owned();
    let mut program = Program::start(&["--ca-out", &ca]);
    let first = program.line();
    let (url, rest) = first.strip_prefix("listening at ").unwrap().split_once(", ").unwrap();
    assert_eq!(rest, format!("certificate signed by {ca}\n"));
    let mut client = dial(url, &ca);
    let body = r#"{"event_id":"cxp_1","exchange":"Bin\u001bance","symbol":"PEPE2USDT"}"#;
    client.write(&post("/hooks", &signed(SECRET, "cxp_1", body), body)).unwrap();
    client.reply().unwrap();
    let line = program.line();
    assert!(line.contains(" new_listing Bin\u{fffd}ance PEPE2USDT "), "{line}");
    assert!(line.ends_with(" µs, signature unchecked, attempt 2, /hooks\n"), "{line}");
    client.write(&post("/hooks", "", "not JSON")).unwrap();
    client.reply().unwrap();
    let line = program.line();
    assert!(line.ends_with(" - - - - µs, signature unchecked, attempt -, /hooks\n"), "{line}");
}

#[test]
fn usage_is_told() {
    let run = |args: &[&str]| -> Output { command(args).output().unwrap() };
    let listed = String::from_utf8(run(&["--list"]).stdout).unwrap();
    for name in ["status/CODE[/RETRY_AFTER]", "gzip-bomb", "no-cipher", "never-read"] {
        assert!(listed.contains(name), "{name}");
    }
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem").to_str().unwrap().to_owned();
    for (args, code, said) in [
        (&[][..], 2, "--ca-out"),
        (&["--ca-out", &ca, "--behave", "ok"], 2, "is not /PATH=BEHAVIOUR"),
        (&["--ca-out", &ca, "--behave", "/a=explode"], 1, "no behaviour is called \"explode\""),
        (&["--ca-out", &ca, "--greet", "tls99"], 2, "no greeting is called \"tls99\""),
        (&["--ca-out", &ca, "--strict"], 2, "--secret-file"),
        (&["--ca-out", "/nonexistent/ca.pem"], 1, "/nonexistent/ca.pem"),
    ] {
        let output = run(args);
        let err = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(code) && err.contains(said), "{args:?}: {err}");
    }
    assert!(run(&["--ca-out", &ca, "--for", "1ms"]).status.success());
    assert!(run(&["--ca-out", &ca, "--until-stdin-ends"]).status.success());
}
