//! Messages of push sources as the exchanges document them, read from the folder that `TOCSIN_SAMPLES` names;
//! nothing of their text is kept here.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "a test reads its captures")]

use std::path::Path;

use serde_json::Value;
use tocsin_core::source::Scratch;
use tocsin_core::source::stream::{Incoming, StreamSpec, binance, gate, upbit};
use tocsin_core::time::WallUs;

fn sample(folder: &Path, name: &str) -> Value {
    let text = std::fs::read_to_string(folder.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// What a message is, and identifier, title and publish time (seconds) of its items.
fn read(spec: &StreamSpec, message: &Value) -> (Incoming, Vec<(String, String, i64)>) {
    let mut rows = Vec::new();
    let mut bytes = message.to_string().into_bytes();
    let incoming = (spec.read)(&mut Scratch::default(), &mut bytes, &mut |_, item| {
        let published = item.published.map_or(0, WallUs::secs);
        rows.push((item.notice_id.to_string(), item.title.to_owned(), published));
    });
    (incoming.unwrap_or_else(|e| panic!("{e}: {message}")), rows)
}

#[test]
fn documented_messages_are_read() {
    let Some(folder) = std::env::var_os("TOCSIN_SAMPLES") else {
        println!("TOCSIN_SAMPLES names no folder of captures: nothing to read");
        return;
    };
    let folder = Path::new(&folder);
    let documented = sample(folder, "binance_ws_com_announcement_en.json");
    let frames = documented["frames"].as_array().unwrap();
    let of_type = |kind: &str| frames.iter().find(|f| f["type"] == kind).unwrap();
    assert_eq!(read(&binance::STREAM, of_type("COMMAND")), (Incoming::Accepted(0), vec![]));
    let (_, rows) = read(&binance::STREAM, of_type("DATA"));
    let inner: Value = serde_json::from_str(of_type("DATA")["data"].as_str().unwrap()).unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].1, inner["title"].as_str().unwrap());
    assert_eq!(rows[0].2, inner["publishDate"].as_i64().unwrap() / 1_000);

    let message = &sample(folder, "upbit_ws_announcement_docs.json")["message_DEFAULT"];
    let (_, rows) = read(&upbit::STREAM, message);
    assert_eq!(rows[0].0, message["uuid"].as_str().unwrap());
    assert!(message["title"].as_str().unwrap().ends_with(&rows[0].1) && !rows[0].1.starts_with('['));

    let documented = sample(folder, "gate_ws_announcement_docs.json");
    assert_eq!(read(&gate::STREAM, &documented["ack_shape"]), (Incoming::Accepted(0), vec![]));
    let (_, rows) = read(&gate::STREAM, &documented["update"]);
    let result = &documented["update"]["result"];
    assert!(result["origin_url"].as_str().unwrap().ends_with(&rows[0].0));
    assert_eq!(rows[0].2, result["published_at"].as_i64().unwrap());
}
