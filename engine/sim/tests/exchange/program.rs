//! The program `tocsin-sim`, driven as a user drives it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;
use tocsin_sim::{Event, Script};

/// A running `tocsin-sim`, killed when dropped.
struct Program {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Program {
    fn start(args: &[&str]) -> Program {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tocsin-sim"))
            .arg("exchange")
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Program { child, out }
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ask(base_url: &str, request: &str) -> String {
    let mut socket = TcpStream::connect(base_url.strip_prefix("http://").unwrap()).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

fn get(base_url: &str, target: &str) -> String {
    ask(base_url, &format!("GET {target} HTTP/1.1\r\nConnection: close\r\n\r\n"))
}

fn post_event(base_url: &str, event: &str) -> String {
    let length = event.len();
    let head = format!("POST /events HTTP/1.1\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    ask(base_url, &format!("{head}{event}"))
}

#[test]
fn it_says_where_it_is_and_plays_its_script() {
    let dir = tempfile::tempdir().unwrap();
    let (script, announce) = (dir.path().join("script.json"), dir.path().join("where.json"));
    fs::write(
        &script,
        r#"{"events":[
            {"at_ms":2,"exchange":"upbit","action":"edit","notice":"last","title":"둘째"},
            {"at_ms":1,"exchange":"upbit","action":"publish","title":"첫째","category":"news"},
            {"at_ms":3,"exchange":"bithumb","action":"pin","notice":"last"}]}"#,
    )
    .unwrap();
    let mut program = Program::start(&[
        "--plain",
        "--announce-to",
        announce.to_str().unwrap(),
        "--admin",
        "127.0.0.1:0",
        "--script",
        script.to_str().unwrap(),
    ]);
    let located = program.line();
    assert_eq!(serde_json::from_slice::<Value>(&fs::read(&announce).unwrap()).unwrap(), located);
    let base = |name: &str| located["exchanges"][name]["base_url"].as_str().unwrap().to_owned();
    assert_eq!(located["exchanges"].as_object().unwrap().len(), 3);
    assert_eq!(program.line()["result"]["title"], "첫째");
    assert_eq!(program.line()["result"]["done"], true);
    assert_eq!(program.line()["error"], "no notice \"last\"");
    let list = get(&base("upbit"), "/api/v1/announcements?os=web");
    assert!(list.contains("둘째") && !list.contains("첫째"));

    let admin = located["admin"].as_str().unwrap();
    let done = post_event(
        admin,
        r#"{"exchange":"bithumb","action":"publish","title":"바로미(VAROMI) 원화 마켓 추가"}"#,
    );
    assert!(done.starts_with("HTTP/1.1 200") && done.contains("notice_id"));
    assert!(get(&base("bithumb"), "/v1/notices").contains("VAROMI"));
    assert!(post_event(admin, "{}").starts_with("HTTP/1.1 400"));
    assert!(get(admin, "/requests?exchange=bithumb").contains("/v1/notices"));
    assert!(get(admin, "/counters").contains("\"upbit\""));
}

#[test]
fn it_publishes_on_its_own_and_writes_its_authority() {
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    let mut program =
        Program::start(&["--kind", "binance", "--ca-out", ca.to_str().unwrap(), "--every", "1ms"]);
    let located = program.line();
    assert!(located["exchanges"]["binance"]["base_url"].as_str().unwrap().starts_with("https://127.0.0.1:"));
    assert_eq!(located["exchanges"]["binance"]["ca_file"], ca.to_str().unwrap());
    assert!(fs::read_to_string(&ca).unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
    let edits = (0..14).map(|_| program.line()).filter(|line| line["result"]["done"] == true).count();
    assert_eq!(edits, 2);
}

#[test]
fn wrong_usage_is_told() {
    let run = |args: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_tocsin-sim")).arg("exchange").args(args).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = run(&[]);
    assert!(code == Some(2) && said.contains("--ca-out"));
    let (code, said) = run(&["--plain", "--every", "0s"]);
    assert!(code == Some(2) && said.contains("more than nothing"));
    let (code, said) = run(&["--plain", "--script", "/nonexistent/script.json"]);
    assert!(code == Some(1) && said.contains("/nonexistent/script.json"));
    assert_eq!(run(&["--plain", "--for", "1ms"]).0, Some(0));
    // `output` gives it an empty standard input.
    assert_eq!(run(&["--plain", "--until-stdin-ends"]).0, Some(0));
}

#[test]
fn events_parse_strictly() {
    for good in [
        r#"{"exchange":"binance","action":"fault","fault":{"kind":"status","code":429,"retry_after_secs":5},"requests":2}"#,
        r#"{"exchange":"binance","action":"fault","fault":{"kind":"huge_body","bytes":1073741824}}"#,
        r#"{"exchange":"upbit","action":"framing","framing":["content_length",{"chunked":512},"close_delimited"]}"#,
        r#"{"exchange":"upbit","action":"certificate","change":"other_ca"}"#,
        r#"{"exchange":"bithumb","action":"burst","count":3}"#,
        r#"{"exchange":"bithumb","action":"clear_fault"}"#,
    ] {
        Event::parse(good).unwrap();
    }
    for bad in [
        "",
        "[]",
        r#"{"exchange":"gate","action":"clear_fault"}"#,
        r#"{"exchange":"upbit","action":"explode"}"#,
        r#"{"exchange":"upbit","action":"publish"}"#,
        r#"{"exchange":"upbit","action":"publish","title":"t","titel_en":"t"}"#,
        r#"{"exchange":"upbit","action":"clear_fault","at":5}"#,
        r#"{"exchange":"upbit","action":"fault","fault":{"kind":"status"}}"#,
    ] {
        assert!(Event::parse(bad).is_err(), "{bad}");
    }
    assert!(Script::parse(r#"{"events":[],"more":1}"#).is_err());
}
