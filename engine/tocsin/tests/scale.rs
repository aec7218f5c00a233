//! Many subscribers at once, plain and TLS: everyone gets every announcement, once, in order.
//!
//! `TOCSIN_SCALE` sets how many connect in plain (1,000 when unset; a third of it over TLS).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod harness;

use std::time::{Duration, Instant};

use harness::crowd::{Crowd, memory_of, number_of};
use harness::{Engine, Mode};

const ANNOUNCEMENTS: usize = 20;
/// Far beyond what it takes, for a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(240);
/// Most resident memory of the engine for one idle subscriber, in bytes. Measured with 5,000: 420 in
/// plain, 8,100 over TLS; with fewer, what is there once weighs more.
const PLAIN_BYTES: u64 = 2 * 1_024;
const TLS_BYTES: u64 = 16 * 1_024;

fn title(number: usize) -> String {
    format!("Binance Will List Many Tokens {number:03} (TK{number:03})")
}

fn subscribers() -> usize {
    std::env::var("TOCSIN_SCALE").map_or(1_000, |text| text.parse().expect("TOCSIN_SCALE is a number"))
}

/// What one subscriber has got.
#[derive(Clone, Default)]
struct Got {
    announcements: usize,
    last_seq: i64,
}

fn everyone_gets_everything_once_in_order(mode: Mode, count: usize, bytes_each: u64) {
    tocsin::os::memory::raise_descriptor_limit().unwrap();
    let engine = Engine::start(mode, "[feed.limits]\nexempt = [\"127.0.0.0/8\"]");
    let flags = ["--tier", "enterprise", "--max-connections", "60000", "--allowed-cex", "*"];
    let (_, key) = engine.key_with(&flags);
    let before = memory_of(engine.pid(), "VmRSS").unwrap();
    let mut crowd = Crowd::new(engine.feed, &key, mode == Mode::Tls).unwrap();
    let (third, rest) = (count / 3, count - 2 * (count / 3));
    crowd.connect(third, "fields=full", PATIENCE).unwrap();
    crowd.connect(third, "fields=full&frames=text", PATIENCE).unwrap();
    crowd.connect(rest, "", PATIENCE).unwrap();
    let idle = memory_of(engine.pid(), "VmRSS").unwrap();
    let each = idle.saturating_sub(before) / count as u64;
    println!("{mode:?}: {each} bytes an idle subscriber, of {count}");

    let mut got = vec![Got::default(); count];
    let outstanding = std::cell::Cell::new(count * ANNOUNCEMENTS);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..ANNOUNCEMENTS {
                engine.inject("binance", &title(number));
            }
        });
        let all = crowd.listen(
            Instant::now() + PATIENCE,
            |message| {
                let text = std::str::from_utf8(message.json).unwrap();
                if !text.starts_with("{\"type\":\"announcement\"") {
                    assert!(text.starts_with("{\"type\":\"heartbeat\""), "{text}");
                    return;
                }
                let one = &mut got[message.subscriber];
                let expected = title(one.announcements);
                assert!(text.contains(&expected), "{}: wanted {expected}: {text}", message.subscriber);
                assert_eq!(
                    message.opcode,
                    if (third..2 * third).contains(&message.subscriber) { 1 } else { 2 }
                );
                if message.subscriber < 2 * third {
                    let seq = number_of(message.json, "seq").unwrap();
                    assert!(seq > one.last_seq, "{seq} after {}", one.last_seq);
                    one.last_seq = seq;
                }
                one.announcements += 1;
                outstanding.set(outstanding.get() - 1);
            },
            || outstanding.get() == 0,
        );
        assert!(all.unwrap(), "{} messages never came", outstanding.get());
    });
    // A second copy would still be under way.
    let quiet = |message: harness::crowd::Received<'_>| {
        assert!(!message.json.starts_with(b"{\"type\":\"announcement\""), "twice");
    };
    crowd.listen(Instant::now() + Duration::from_secs(1), quiet, || false).unwrap();
    let status = engine.cli_json(&["status"]);
    assert_eq!(status["feed"]["connections"], count, "{status}");
    assert_eq!(status["feed"]["messages"], count * ANNOUNCEMENTS, "{status}");
    assert_eq!(status["feed"]["announcements"], ANNOUNCEMENTS, "{status}");
    assert!(each <= bytes_each, "{each} bytes an idle subscriber");
}

#[test]
fn everyone_gets_everything_once_in_order_plain() {
    everyone_gets_everything_once_in_order(Mode::Plain, subscribers(), PLAIN_BYTES);
}

#[test]
fn everyone_gets_everything_once_in_order_tls() {
    everyone_gets_everything_once_in_order(Mode::Tls, subscribers().div_ceil(3), TLS_BYTES);
}
