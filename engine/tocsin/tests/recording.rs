//! What is recorded of a running service, and served again: the real binary against a simulated exchange,
//! with clients that connect to both.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod harness;

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use harness::exchange::{Exchange, history};
use harness::{Client, Engine, Handshake, Mode, wait_for};
use serde_json::Value;
use tocsin::record::{Body, Line, Outcome, Visit, read};
use tocsin_core::model::ListingType;
use tocsin_core::time::WallUs;
use tocsin_sim::{Fault, Kind, Options};

/// A running `tocsin replay`; killed when dropped.
struct Replay {
    child: Child,
    out: BufReader<ChildStdout>,
    ready: Value,
    address: SocketAddr,
}

impl Replay {
    fn start(engine: &Engine, arguments: &[&str]) -> Replay {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tocsin"))
            .args(["replay", "--json", "--listen", "127.0.0.1:0", "--config"])
            .arg(engine.config())
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
        let address = ready["feed"].as_str().unwrap().parse().unwrap();
        Replay { child, out, ready, address }
    }

    fn connect(&self, key: &str, query: &str, mode: Mode) -> Client {
        let asked = Handshake::new(query).header("X-API-Key", key).attempt(self.address, mode).unwrap();
        let mut client = asked.unwrap_or_else(|h| panic!("refused: {h:?}"));
        assert_eq!(client.json()["type"], "welcome");
        client
    }

    /// What it said at the end, once it has ended properly.
    fn end(mut self) -> Value {
        let mut text = String::new();
        self.out.read_to_string(&mut text).unwrap();
        assert!(self.child.wait().unwrap().success(), "{text}");
        serde_json::from_str(&text).unwrap()
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(dir: &Path) -> Vec<Line> {
    let mut lines = Vec::new();
    read(dir, &mut |_, visit| {
        if let Visit::Line(line) = visit {
            lines.push(line);
        }
        Ok(())
    })
    .unwrap();
    lines
}

/// Announcements as a client of the feed sees them: what is compared of two runs.
fn shown(message: &Value) -> [String; 6] {
    ["id", "title", "ticker", "publisher", "listingType", "detectedTimestampUs"]
        .map(|field| message[field].to_string())
}

fn key_file(engine: &Engine, key: &str) -> String {
    let path = engine.data_dir().join("key.txt");
    std::fs::write(&path, key).unwrap();
    path.to_str().unwrap().to_owned()
}

/// What was announced while it was recorded, as clients saw it; the last one by hand.
fn record(engine: &mut Engine, exchange: &Exchange, key: &str) -> Vec<Value> {
    let mut client = engine.connect(key, "fields=full");
    let mut live = Vec::new();
    for listing_type in [ListingType::SpotListing, ListingType::SpotDelisting, ListingType::SpotListing] {
        exchange.sim.publish_invented(listing_type);
        live.push(client.json_of("announcement"));
    }
    live.push(engine.inject("binance", "Binance Will List Example (EXMPL)"));
    client.json_of("announcement");
    exchange.sim.fault_next(1, Fault::Status { code: 403, retry_after_secs: None });
    wait_for("a refusal", || !exchange.status(engine)["failures"].as_object().unwrap().is_empty());
    wait_for("the recorder", || engine.cli_json(&["status"])["recorder"]["announcements"] == 4);
    let recorder = engine.cli_json(&["status"])["recorder"].clone();
    assert_eq!((&recorder["dropped"], &recorder["failures"]), (&0.into(), &0.into()), "{recorder}");
    let count = |name: &str| recorder[name].as_u64().unwrap();
    assert!(count("unchanged") > 0 && count("bodies") >= 4, "{recorder}");
    assert_eq!(engine.stop(), Some(0));
    live
}

/// Every answer has its line and its time, every body that differs is there.
fn check_recording(out: &Path, live: &[Value]) {
    let recorded = lines(out);
    assert!(matches!(recorded[0], Line::Head { epoch: 1, .. }));
    let Some(Line::End { polls, bodies, announcements: 4, .. }) = recorded.last() else {
        panic!("{:?}", recorded.last())
    };
    let answers: Vec<_> =
        recorded.iter().filter_map(|l| if let Line::Poll(poll) = l { Some(poll) } else { None }).collect();
    assert_eq!(answers.len() as u64, *polls);
    assert!(answers.windows(2).all(|pair| pair[0].at_us <= pair[1].at_us && pair[1].elapsed_us > 0));
    assert!(answers.iter().any(|poll| poll.outcome == Outcome::Refused && poll.status == 403));
    let text = |body: &Body| String::from_utf8(body.bytes().unwrap()).unwrap();
    let texts: Vec<String> = answers.iter().filter_map(|poll| poll.body.as_ref()).map(text).collect();
    assert_eq!(texts.len() as u64, *bodies);
    assert!(texts.windows(2).all(|pair| pair[0] != pair[1]), "a body is kept when it differs");
    for announced in &live[..3] {
        let notice = announced["noticeId"].as_str().unwrap();
        assert!(texts.iter().any(|text| text.contains(notice)), "{notice}");
    }
}

/// The same to clients of the replay, marked where that is asked for, by the one key alone.
fn check_replay(engine: &Engine, dir: &str, key: &str, live: &[Value]) {
    let file = key_file(engine, key);
    let from = ["--from", dir, "--speed", "5", "--plain", "--clients", "2", "--key-file", &file];
    let replay = Replay::start(engine, &from);
    assert_eq!(replay.ready["announcements"], 4);
    let stranger = format!("dsk_{}", "0".repeat(64));
    let stranger = Handshake::new("").header("X-API-Key", &stranger).attempt(replay.address, Mode::Plain);
    assert!(stranger.unwrap().is_err(), "a stranger's key");
    let mut client = replay.connect(key, "fields=full", Mode::Plain);
    let mut basic = replay.connect(key, "", Mode::Plain);
    let dispatched = |a: &Value| a["dispatchTimestampUs"].as_i64().unwrap();
    let mut before: Option<(i64, i64)> = None;
    for (seq, announced) in (1..).zip(live) {
        let message = client.json_of("announcement");
        assert_eq!(shown(&message), shown(announced));
        assert_eq!(message["replayed"], true);
        assert_eq!((&message["epoch"], &message["seq"]), (&0.into(), &Value::from(seq)));
        // Not before its time: a fifth of what was between them.
        let (now, was) = (dispatched(&message), dispatched(announced));
        if let Some((earlier, then)) = before.replace((now, was)) {
            assert!(
                now - earlier >= (was - then) / 5 - 20_000,
                "{seq}: {} for {}",
                now - earlier,
                was - then
            );
        }
        let plain = basic.json_of("announcement");
        assert!(plain["title"] == announced["title"] && plain.get("replayed").is_none(), "{plain}");
    }
    assert_eq!(client.closed().0, Some(1012));
    assert_eq!(basic.closed().0, Some(1012));
    assert_eq!(replay.end()["sent"], 4);
}

/// Detection finds the same three again; the one by hand came from nobody's page.
fn check_detection(engine: &Engine, dir: &str, live: &[Value]) {
    let again = engine.cli(&["replay", "--detect", dir]);
    let text = String::from_utf8(again.stdout).unwrap();
    let found: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (counts, found) = found.split_last().unwrap();
    let ids = |all: &[Value]| all.iter().map(|a| a["id"].to_string()).collect::<Vec<_>>();
    assert_eq!(ids(found), ids(&live[..3]), "{text}");
    assert!(found.iter().all(|line| line["recorded"] == true));
    let counts = &counts["counts"];
    assert_eq!(
        (&counts["recorded_but_not_announced"], &counts["unusable"]),
        (&0.into(), &0.into()),
        "{counts}"
    );
}

#[test]
fn a_recording_holds_every_body_and_event_and_is_served_again_in_its_spacing() {
    let exchange = Exchange::start(Kind::Upbit, Options::plain());
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("recording");
    let dir = out.to_str().unwrap();
    let section = format!("[record]\ndir = {out:?}\nmax_size = \"16MiB\"\n{}", exchange.section());
    let mut engine = Engine::start(Mode::Plain, &section);
    exchange.baselined(&engine);
    let key = engine.key();
    let live = record(&mut engine, &exchange, &key);
    check_recording(&out, &live);
    check_replay(&engine, dir, &key, &live);
    check_detection(&engine, dir, &live);

    // A damaged file is named with its place by everyone who reads it.
    let path = out.join("tocsin-00000001.jsonl.zst");
    let text = String::from_utf8(zstd::decode_all(std::fs::File::open(&path).unwrap()).unwrap()).unwrap();
    let lines: Vec<&str> = text.lines().take(2).chain(["nonsense"]).chain(text.lines().skip(2)).collect();
    std::fs::write(&path, zstd::encode_all((lines.join("\n") + "\n").as_bytes(), 1).unwrap()).unwrap();
    for verb in [["replay", "--detect", dir], ["replay", "--from", dir]] {
        let output = engine.cli(&verb);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let place = "tocsin-00000001.jsonl.zst line 3: no line";
        assert!(output.status.code() == Some(1) && said.contains(place), "{verb:?}: {said}");
    }
}

#[test]
fn history_is_served_again_to_the_keys_of_the_store_and_exported() {
    let mut engine = Engine::start(Mode::Tls, "");
    let key = engine.key();
    let titles =
        ["Binance Will List A, B and \"C\" (ABC)", "Binance Will Delist XYZ", "Binance Will List New (NEWX)"];
    let sent: Vec<Value> = titles.iter().map(|title| engine.inject("binance", title)).collect();
    engine.inject("upbit", "엑스(XUP) 신규 거래지원 안내");
    // The dispatch may come to the disk after the rest.
    wait_for("the dispatch of all", || history(&engine, 4).iter().all(|a| a["dispatchTimestampUs"].is_i64()));
    let kept = history(&engine, 4);
    let second = kept[1]["detectedTimestampUs"].as_i64().unwrap();
    let instant = |us: i64| tocsin::control::reply::rfc3339(WallUs(us));

    for running in [true, false] {
        if !running {
            assert_eq!(engine.stop(), Some(0));
        }
        let text = |arguments: &[&str]| {
            let output = engine.cli(&[&["history"], arguments].concat());
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        let all: Vec<Value> =
            text(&["--format", "jsonl"]).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(all, kept);
        let csv = text(&["--format", "csv", "--cex", "binance"]);
        let mut rows = csv::Reader::from_reader(csv.as_bytes());
        let title = rows.headers().unwrap().iter().position(|name| name == "title").unwrap();
        let read: Vec<String> = rows.records().map(|row| row.unwrap()[title].to_owned()).collect();
        assert_eq!(read, titles);
        let since = text(&["--format", "jsonl", "--since", &instant(second), "--limit", "2"]);
        let since: Vec<Value> = since.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(since, kept[1..3]);
        let until = text(&["--until", &instant(second)]);
        assert!(until.lines().count() == 1 && until.contains("ABC"), "{until}");
        assert_eq!(
            text(&["--format", "csv", "--until", "2020-01-01T00:00:00Z"]).lines().count(),
            1,
            "the head"
        );
        let listings = text(&["--format", "jsonl", "--type", "spot_delisting"]);
        assert!(listings.lines().count() == 1 && listings.contains("XYZ"), "{listings}");
    }

    let from = instant(kept[0]["detectedTimestampUs"].as_i64().unwrap());
    let replay = Replay::start(&engine, &["--from", &from, "--speed", "1000", "--longest-pause", "10ms"]);
    assert!(replay.ready["url"].as_str().unwrap().starts_with("wss://"));
    let mut client = replay.connect(&key, "fields=full&cex=binance", Mode::Tls);
    for announced in &sent {
        assert_eq!(shown(&client.json_of("announcement")), shown(announced));
    }
    assert_eq!(client.closed().0, Some(1012));
    assert_eq!(replay.end()["sent"], 4);
    let nothing = engine.cli(&["replay", "--from", "2100-01-01T00:00:00Z"]);
    let said = String::from_utf8_lossy(&nothing.stderr).into_owned();
    assert!(nothing.status.code() == Some(1) && said.contains("no announcement to replay"), "{said}");
    let rows = [
        (&["replay"][..], "--from"),
        (&["replay", "--from", "yesterday"], "an instant like"),
        (&["replay", "--from", "1h", "--speed", "0"], "0.01 to 1000000"),
        (&["replay", "--from", "1h", "--plain", "--listen", "0.0.0.0:0"], "loopback"),
        (&["history", "--limit", "501"], "at most 500"),
    ];
    for (arguments, part) in rows {
        let output = engine.cli(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(part), "{arguments:?}: {said}");
    }
}

#[test]
fn recording_alone_serves_nobody_and_refuses_beside_a_service() {
    let exchange = Exchange::start(Kind::Bithumb, Options::plain());
    let mut engine = Engine::start(Mode::Plain, &exchange.section());
    exchange.baselined(&engine);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("alone");
    let record = ["record", "--out", out.to_str().unwrap(), "--for", "1s", "--json"];
    let beside = engine.cli(&record);
    let said = String::from_utf8_lossy(&beside.stderr).into_owned();
    assert!(beside.status.code() == Some(1) && said.contains("record.dir"), "{said}");
    assert!(!out.exists());
    assert_eq!(engine.stop(), Some(0));

    for life in 1..=2_u64 {
        let output = engine.cli(&record);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let counts: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(counts["polls"].as_u64().unwrap() > 0 && counts["bodies"].as_u64().unwrap() > 0, "{counts}");
        assert_eq!(counts["dropped"], 0);
        let heads: Vec<u64> = lines(&out)
            .iter()
            .filter_map(|l| if let Line::Head { epoch, .. } = l { Some(*epoch) } else { None })
            .collect();
        assert_eq!(heads, (1..=life).collect::<Vec<_>>());
        // What is published while nobody records is found by the next life.
        exchange.sim.publish_invented(ListingType::SpotListing);
    }
    let announced = lines(&out).iter().filter(|line| matches!(line, Line::Announcement(_))).count();
    assert_eq!(announced, 1);
    let none = engine.cli(&["record", "--out", out.to_str().unwrap(), "--max-size", "3"]);
    assert!(String::from_utf8_lossy(&none.stderr).contains("16MiB to 1TiB"));
}
