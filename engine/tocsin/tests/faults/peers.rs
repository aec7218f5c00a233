//! Peers of the feed that behave badly among many that behave well.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::harness::crowd::{Crowd, number_of};
use crate::harness::{Engine, Handshake, Mode};

/// Far beyond what it takes, for a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(120);
const READERS: usize = 999;

/// One that reads nothing among a thousand is closed, and the others get everything, once and in order.
#[test]
fn one_slow_reader_among_a_thousand_costs_nobody_anything() {
    tocsin::os::memory::raise_descriptor_limit().unwrap();
    let config = "[feed]\nsend_buffer = \"4KiB\"\n[feed.limits]\nexempt = [\"127.0.0.0/8\"]";
    let engine = Engine::start(Mode::Plain, config);
    let key = engine.key();
    let mut crowd = Crowd::new(engine.feed, &key, false).unwrap();
    crowd.connect(READERS, "fields=full", PATIENCE).unwrap();
    let mut slow = Handshake::new("fields=full").header("X-API-Key", &key);
    slow.receive_buffer = Some(2_048);
    let _slow = slow.connect(&engine).unwrap_or_else(|refused| panic!("{refused:?}"));

    let title = format!("A long announcement {}", "about nothing in particular ".repeat(34));
    let too_slow = || engine.cli_json(&["status"])["feed"]["closed"]["too_slow"].as_u64().unwrap();
    let (mut last, mut sent) = (vec![0; READERS], 0);
    let until = Instant::now() + PATIENCE;
    while too_slow() == 0 {
        assert!(Instant::now() < until, "it was never closed");
        for _ in 0..10 {
            engine.inject("binance", &title);
        }
        sent += 10;
        let done = Cell::new(0);
        let heard = crowd.listen(
            until,
            |message| {
                if message.json.starts_with(b"{\"type\":\"announcement\"") {
                    let seq = number_of(message.json, "seq").unwrap();
                    assert_eq!(seq, last[message.subscriber] + 1, "{}", message.subscriber);
                    last[message.subscriber] = seq;
                    done.set(done.get() + usize::from(seq == sent));
                }
            },
            || done.get() == READERS,
        );
        assert!(heard.unwrap(), "{} of {READERS} have all {sent}", done.get());
    }
    let status = engine.cli_json(&["status"]);
    assert_eq!(status["feed"]["closed"]["too_slow"], 1, "{status}");
    assert_eq!(status["feed"]["connections"], READERS, "{status}");
}
