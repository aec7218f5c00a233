//! The program `tocsin-sim`, driven as a user drives it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
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

/// The acts of two rounds of one exchange, as its lines name them.
fn acts(program: &mut Program, many: usize) -> Vec<(String, String)> {
    let text = |line: &Value, field: &str| line["result"][field].as_str().unwrap().to_owned();
    let lines = (0..many).map(|_| program.line());
    lines.map(|line| (text(&line, "act"), text(&line, "symbol"))).collect()
}

#[test]
fn its_markets_live_their_story_beside_their_notices() {
    let mut program =
        Program::start(&["--plain", "--kind", "okx", "--market-speed", "100000", "--for", "20s"]);
    let located = program.line();
    let market = located["markets"]["okx"]["base_url"].as_str().unwrap().to_owned();
    let exchange = located["exchanges"]["okx"]["base_url"].as_str().unwrap().to_owned();
    assert_ne!(market, exchange);
    assert_eq!(located["market_speed"], 100_000.0);
    let acts = acts(&mut program, 7);
    let (names, symbols): (Vec<&str>, Vec<&str>) =
        acts.iter().map(|(act, symbol)| (act.as_str(), symbol.as_str())).unzip();
    assert_eq!(
        names,
        ["preview", "listing_notice", "opening", "spike", "end_set", "delisting_notice", "over"]
    );
    let [new, noticed, opened, burst, ending, told, over] = symbols.try_into().unwrap();
    assert_eq!((new, ending, ending), (noticed, told, over));
    assert_eq!(new, opened);
    assert!(new != burst && burst != ending && new != ending, "{acts:?}");
    // What opened is on the list of the market, and its notice on that of the exchange.
    let listed = get(&market, "/api/v5/public/instruments?instType=SPOT");
    assert!(listed.contains(&format!("\"{new}\"")), "{listed}");
    let ticker = new.strip_suffix("-USDT").unwrap();
    let notices = get(&exchange, "/api/v5/support/announcements?annType=announcements-new-listings");
    assert!(notices.contains(&format!("({ticker}) for spot trading")), "{notices}");
}

#[test]
fn markets_stand_still_unless_told_to_live() {
    let mut program = Program::start(&["--plain", "--kind", "all"]);
    let located = program.line();
    let markets: Vec<&str> = located["markets"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(markets, ["binance", "bitget", "bithumb", "bybit", "htx", "kucoin", "okx", "upbit"]);
    let htx = located["markets"]["htx"]["base_url"].as_str().unwrap();
    let answer = || get(htx, "/market/tickers");
    assert_eq!(answer(), answer());
    assert!(located.get("streams").is_none() && located.get("market_speed").is_none());
}

#[test]
fn streams_are_served_with_a_file_of_credentials_of_ones_own() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, key) = (dir.path().join("ca.pem"), dir.path().join("key.txt"));
    // It was readable by others before.
    fs::write(&key, "old").unwrap();
    fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).unwrap();
    let mut program = Program::start(&[
        "--stream",
        "all",
        "--every",
        "10ms",
        "--ca-out",
        ca.to_str().unwrap(),
        "--credentials-out",
        key.to_str().unwrap(),
    ]);
    let located = program.line();
    for name in ["binance", "upbit", "gate"] {
        let stream = &located["streams"][name];
        assert!(stream["base_url"].as_str().unwrap().starts_with("wss://127.0.0.1:"), "{stream}");
        assert_eq!(stream["ca_file"], ca.to_str().unwrap());
        assert_eq!(stream["credentials_file"].is_null(), name == "gate");
    }
    assert_eq!(located["streams"]["upbit"]["credentials_file"], key.to_str().unwrap());
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_to_string(&key).unwrap().lines().count(), 2);
    // Gate is simulated by its stream alone, and has its turn.
    let told = (0..8).map(|_| program.line()).filter(|line| line["exchange"] == "gate");
    let titles: Vec<String> = told.map(|line| line["result"]["title"].to_string()).collect();
    assert!(titles.len() == 2 && titles.iter().all(|title| title.contains("Gate Will ")), "{titles:?}");
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
    let (code, said) = run(&["--plain", "--market-speed", "0"]);
    assert!(code == Some(2) && said.contains("takes 0.001 to 1000000"), "{said}");
    let (code, said) = run(&["--plain", "--kind", "okx", "--stream", "upbit"]);
    assert!(code == Some(1) && said.contains("--stream upbit pushes what --kind upbit publishes"), "{said}");
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
